//! From an accepted socket to an authenticated HTTP/1.1 connection, each step with a bound.
//!
//! A connection has a place among `connections_max`, a time for its handshake, a time for the head
//! of each request, and a longest life, after which it is closed between two requests: so neither
//! silence nor trickling nor an answer that is never read holds a place for good, and whoever calls
//! for long shows its certificate anew.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Settings;
use crate::config::{Revoked, Transport};
use crate::drain::Drain;
use crate::identity::Peer;
use crate::metrics::{ConnectionEnd, EdgeMetrics};

/// How long a connection may live before it is closed in order.
const LIFE: Duration = Duration::from_mins(10);

/// What a last answer may take to be read, beyond the time in which it is made.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long the accept loop rests after an error such as "too many open files".
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// What every connection's task needs.
struct Shared {
    tls: Option<TlsAcceptor>,
    transport: Transport,
    trust_domain: String,
    revoked: Vec<Revoked>,
    handshake_timeout: Duration,
    request_timeout: Duration,
    header_bytes_max: usize,
    router: Router,
    metrics: EdgeMetrics,
    drain: Drain,
}

/// Accepts until `drain` starts, and returns when the last connection has ended.
pub(super) async fn serve(
    listener: TcpListener,
    settings: &Settings,
    router: Router,
    metrics: EdgeMetrics,
    mut drain: Drain,
) {
    let limits = &settings.limits;
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let shared = Arc::new(Shared {
        tls: acceptor(&settings.transport),
        transport: settings.transport.clone(),
        trust_domain: settings.trust_domain.clone(),
        revoked: settings.revoked.clone(),
        handshake_timeout: limits.handshake_timeout(),
        request_timeout: Duration::from_millis(limits.request_timeout_ms),
        header_bytes_max: usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX),
        router,
        metrics,
        drain: drain.clone(),
    });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Ended ones are taken out as they end, so that the set holds what is open.
            Some(_) = connections.join_next() => continue,
            () = drain.started() => break,
        };
        let (socket, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting an AuthZEN connection failed");
                sleep(ACCEPT_ERROR_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.metrics.connection(ConnectionEnd::Full);
            tracing::warn!(%addr, "closed a connection: as many are open as limits.connections_max");
            continue;
        };
        connections.spawn(connection(Arc::clone(&shared), socket, addr, place));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The gRPC port's TLS with the one other protocol of this port.
fn acceptor(transport: &Transport) -> Option<TlsAcceptor> {
    match transport {
        Transport::Tls(config) => {
            let mut config = rustls::ServerConfig::clone(config);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(TlsAcceptor::from(Arc::new(config)))
        }
        Transport::InsecureLoopback(_) => None,
    }
}

async fn connection(
    shared: Arc<Shared>,
    socket: TcpStream,
    addr: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    match timeout(shared.handshake_timeout, handshake(&shared, socket, addr)).await {
        Ok(Ok((io, peer))) => {
            shared.metrics.connection(ConnectionEnd::Accepted);
            let _open = shared.metrics.open_connection();
            converse(&shared, io, peer).await;
        }
        Ok(Err(error)) => {
            shared.metrics.connection(ConnectionEnd::HandshakeFailed);
            tracing::debug!(%addr, %error, "closed a connection: the handshake failed");
        }
        Err(_elapsed) => {
            shared.metrics.connection(ConnectionEnd::HandshakeTimeout);
            tracing::debug!(%addr, "closed a connection: the handshake took too long");
        }
    }
    drop(place);
}

/// A connection's two directions, whatever carries them.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn handshake(
    shared: &Shared,
    socket: TcpStream,
    addr: SocketAddr,
) -> io::Result<(Box<dyn Stream>, Peer)> {
    socket.set_nodelay(true)?;
    let Some(tls) = &shared.tls else {
        return match &shared.transport {
            Transport::InsecureLoopback(identity) => {
                Ok((Box::new(socket), Peer::insecure_dev(addr, identity.clone())))
            }
            Transport::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        };
    };
    let stream = tls.accept(socket).await?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let peer = Peer::from_chain(addr, chain, &shared.trust_domain, &shared.revoked);
    Ok((Box::new(stream), peer))
}

/// Serves one request after the other, until the peer closes, errs, or its time is over.
async fn converse(shared: &Shared, io: Box<dyn Stream>, peer: Peer) {
    let addr = peer.addr;
    // HTTP/2 over a connection without ALPN would come without its limits.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        // From the end of the last request on: it ends silent connections as well.
        .header_read_timeout(shared.request_timeout)
        // hyper takes nothing below 8 KiB.
        .max_buf_size(shared.header_bytes_max.max(8 * 1024));
    let service = TowerToHyperService::new(shared.router.clone().layer(Extension(peer)));
    let mut conversation = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut drain = shared.drain.clone();
    let ended = tokio::select! {
        ended = conversation.as_mut() => Some(ended),
        () = drain.started() => None,
        () = sleep(LIFE) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        conversation.as_mut().graceful_shutdown();
        timeout(shared.request_timeout + FAREWELL, conversation).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!(%addr, %error, "a connection ended in an error");
    }
}

//! The gRPC port: from an accepted socket to an authenticated connection that tonic serves.
//!
//! Each step has a bound. A connection beyond `connections_max` is closed at once; a handshake that
//! takes longer than its timeout, or is none (plain TCP, another TLS version, no certificate), ends
//! that connection and no other; so does an HTTP/2 preface that does not come. Connections whose
//! handshake is under way hold up nobody: each has a task of its own.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::config::{Checked, Revoked, Transport};
use crate::identity::Peer;
use crate::metrics::{ConnectionEnd, EdgeMetrics, OpenConnection};
use crate::tls::ALPN;

/// Bytes of the HTTP/2 client preface (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// How long the accept loop rests after an error such as "too many open files", which the next
/// attempt would only meet again.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Handshaken connections that may wait for tonic to take them.
const READY_MAX: usize = 64;

/// What every connection's task needs.
struct Shared {
    transport: Transport,
    trust_domain: String,
    revoked: Vec<Revoked>,
    handshake_timeout: Duration,
    metrics: EdgeMetrics,
}

/// Starts accepting, and gives the connections that are ready to be served. Accepting ends, and
/// the socket closes, when the stream is dropped.
pub fn incoming(
    listener: TcpListener,
    checked: &Checked,
    metrics: EdgeMetrics,
) -> ReceiverStream<io::Result<Connection>> {
    let config = checked.config();
    let places = Arc::new(Semaphore::new(config.limits.connections_max));
    let shared = Arc::new(Shared {
        transport: checked.transport().clone(),
        trust_domain: config.gates.trust_domain.clone(),
        revoked: checked.revoked().to_vec(),
        handshake_timeout: config.limits.handshake_timeout(),
        metrics,
    });
    let (ready, stream) = mpsc::channel(READY_MAX);
    tokio::spawn(accept_loop(listener, places, shared, ready));
    ReceiverStream::new(stream)
}

async fn accept_loop(
    listener: TcpListener,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (socket, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_ERROR_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.metrics.connection(ConnectionEnd::Full);
            tracing::warn!(%addr, "closed a connection: as many are open as limits.connections_max");
            continue;
        };
        let (shared, ready) = (Arc::clone(&shared), ready.clone());
        tokio::spawn(async move {
            match timeout(shared.handshake_timeout, handshake(&shared, socket, addr)).await {
                Ok(Ok((io, peer))) => {
                    shared.metrics.connection(ConnectionEnd::Accepted);
                    let connection = Connection {
                        io,
                        peer,
                        preface: Some(Preface {
                            missing: PREFACE_BYTES,
                            deadline: Box::pin(sleep(shared.handshake_timeout)),
                        }),
                        _place: place,
                        _open: shared.metrics.open_connection(),
                    };
                    // Fails only when the server has stopped serving.
                    let _ = ready.send(Ok(connection)).await;
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
        });
    }
}

async fn handshake(shared: &Shared, socket: TcpStream, addr: SocketAddr) -> io::Result<(Io, Peer)> {
    // Answers are small and wanted now: Nagle's algorithm would hold each back for the last one's
    // acknowledgement.
    socket.set_nodelay(true)?;
    let config = match &shared.transport {
        Transport::Tls(config) => Arc::clone(config),
        Transport::InsecureLoopback(identity) => {
            return Ok((Io::Plain(socket), Peer::insecure_dev(addr, identity.clone())));
        }
    };
    let stream = TlsAcceptor::from(config).accept(socket).await?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client did not offer h2"));
    }
    let chain = session.peer_certificates().unwrap_or_default();
    let peer = Peer::from_chain(addr, chain, &shared.trust_domain, &shared.revoked);
    Ok((Io::Tls(Box::new(stream)), peer))
}

/// An authenticated connection. It holds its place among `connections_max` until it is dropped.
pub struct Connection {
    io: Io,
    peer: Peer,
    preface: Option<Preface>,
    _place: OwnedSemaphorePermit,
    _open: OpenConnection,
}

enum Io {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// What is still to come before HTTP/2's own keep-alive watches the connection.
struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = match &mut this.io {
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if let Some(preface) = &mut this.preface {
            let came = buf.filled().len().saturating_sub(before);
            preface.missing = preface.missing.saturating_sub(came);
            if preface.missing == 0 {
                this.preface = None;
            } else if polled.is_pending() && preface.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tls(stream) => stream.is_write_vectored(),
            Io::Plain(stream) => stream.is_write_vectored(),
        }
    }
}

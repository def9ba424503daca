//! The HTTP port: is the process alive, may it be sent traffic, what does it count; and a ledger's
//! static read path ([`crate::tiles`]).
//!
//! It is plain HTTP without authentication, meant for the machine's own network: nothing that it
//! shows is a tenant's. It is bound when the log has been recovered and closed when the drain
//! starts (spec/operations.md).

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use prometheus_client::encoding::text::encode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::drain::Drain;
use crate::metrics::SharedRegistry;

/// How long a connection may be without a whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether the ledger takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It has not begun to serve. While the log is recovered the port is not even bound.
    Starting,
    /// It serves.
    Ready,
    /// It serves, and what it serves is refusals: why, for a gate. It stays in service, since a
    /// refusal on record is worth more than a connection that nobody takes.
    Refusing(&'static str),
    /// A write failed: it takes nothing until it is started again, and still answers who reads.
    Poisoned,
    /// It drains.
    Stopping,
}

impl Readiness {
    fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting\n",
            Self::Ready => "ready\n",
            Self::Refusing(why) => why,
            Self::Poisoned => "poisoned: a write failed, restart after mending the disk\n",
            Self::Stopping => "stopping\n",
        }
    }
}

#[derive(Clone)]
struct Probes {
    readiness: watch::Receiver<Readiness>,
    registry: SharedRegistry,
    drain: Drain,
}

/// The routes of the port, to which others may be added.
pub fn router(
    readiness: watch::Receiver<Readiness>,
    registry: SharedRegistry,
    drain: Drain,
) -> axum::Router {
    axum::Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Probes { readiness, registry, drain })
}

/// Serves the port until the drain starts, and then what is in flight.
pub async fn serve(
    listener: TcpListener,
    connections_max: usize,
    router: axum::Router,
    mut drain: Drain,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(connections_max));
    axum::serve(Bounded { listener, places }, router)
        .with_graceful_shutdown(async move { drain.started().await })
        .await
}

async fn readyz(State(probes): State<Probes>) -> Response {
    let readiness =
        if probes.drain.has_started() { Readiness::Stopping } else { *probes.readiness.borrow() };
    let status = if matches!(readiness, Readiness::Ready | Readiness::Refusing(_)) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, readiness.text()).into_response()
}

async fn metrics(State(probes): State<Probes>) -> Response {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &probes.registry) {
        tracing::error!(%error, "encoding the metrics failed");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// A listener that has at most so many connections open and leaves the others in the backlog.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        // The semaphore is never closed; were it, nothing more would be accepted.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return std::future::pending().await;
        };
        let (stream, addr) = Listener::accept(&mut self.listener).await;
        let deadline = Box::pin(sleep_until(Instant::now() + REQUEST_TIMEOUT));
        (Placed { stream, deadline, _place: place }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection and its place. It is closed when no whole request came for [`REQUEST_TIMEOUT`]
/// since the last byte of an answer: trickling bytes does not keep it open.
struct Placed {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_pending() && self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.deadline.as_mut().reset(Instant::now() + REQUEST_TIMEOUT);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

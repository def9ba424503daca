//! The gate in the shape of OpenID AuthZEN 1.0, for enforcement points that speak it already
//! (spec/authzen.md).
//!
//! A translation and no second way to a verdict: a request becomes an intent (`request`), the
//! gate judges it as it judges every other ([`Judge`]), and what it says becomes a decision
//! (`answer`). `true` stands for an enforced approve with its permit and its verified evidence,
//! and for nothing else that an enforcing gate can say (AZN-7).
//!
//! The port speaks HTTP/1.1 over the TLS of the gRPC port: a client certificate from every caller,
//! and plain TCP on loopback only where the configuration was checked with `--insecure-dev`.
//! Absent on purpose: the search endpoints (a gate can't say what it would permit without being
//! asked for it), bearer tokens, cookies.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use countersign_core::cert::SpiffeId;
use countersign_proto::errors::Refusal;
use countersign_proto::v1::EvaluateResponse;
use tokio::net::TcpListener;

use super::GateCore;
use crate::config::{Revoked, Transport};
use crate::drain::Drain;
use crate::limits::Limits;
use crate::metrics::EdgeMetrics;
use crate::serve::ServeError;

mod answer;
mod edge;
mod http;
mod request;

/// Bytes that the body of a request may have (AZN-3).
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Evaluations that one request may hold (AZN-10).
pub const EVALUATIONS_MAX: usize = 32;

/// Who judges. The port asks nothing else of a gate.
pub trait Judge: Send + Sync + 'static {
    /// Judges the intent, a JSON text (INT-1), of an enforcement point that may ask this gate. The
    /// permit is for `audience`, or for the caller where that is empty. Errors are for what could
    /// not be judged at all; they are never an approve.
    fn judge(
        &self,
        caller: &SpiffeId,
        intent: &str,
        audience: &str,
    ) -> impl Future<Output = Result<EvaluateResponse, Refusal>> + Send;
}

impl Judge for GateCore {
    async fn judge(
        &self,
        caller: &SpiffeId,
        intent: &str,
        audience: &str,
    ) -> Result<EvaluateResponse, Refusal> {
        self.evaluate(caller.name(), intent, audience).await
    }
}

/// What the port is told. Nothing of it is read from a file here: the gate's configuration was
/// checked before.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gate's tenant: enforcement points of others are turned away.
    pub tenant: String,
    /// The trust domain of every identity that the gate knows.
    pub trust_domain: String,
    /// How callers are known.
    pub transport: Transport,
    /// Keys whose certificates count no more.
    pub revoked: Vec<Revoked>,
    /// Connections, handshakes, calls in flight, the time for one request, bytes of headers.
    pub limits: Limits,
    /// The URL that callers reach the port under, without a path or a slash at its end, as the
    /// metadata name it. Without one they name the address that was bound.
    pub base_url: Option<String>,
}

/// The port, bound and not yet accepting.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Port {
    /// Binds it. Plain TCP on an address that others than this machine reach is refused (AZN-1).
    pub async fn bind(addr: SocketAddr, transport: &Transport) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { addr, source };
        if matches!(transport, Transport::InsecureLoopback(_)) && !addr.ip().is_loopback() {
            let why = "--insecure-dev speaks plain TCP and so takes a loopback address only";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, addr })
    }

    /// Its address, with the port that the system chose where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `drain` starts and what is in flight has been answered: at most the time for
    /// one request and some seconds. Whoever waits for less abandons what is still open.
    pub async fn serve<J: Judge>(
        self,
        settings: Settings,
        judge: Arc<J>,
        metrics: EdgeMetrics,
        drain: Drain,
    ) {
        let base_url = settings.base_url.clone().unwrap_or_else(|| {
            let plain = matches!(settings.transport, Transport::InsecureLoopback(_));
            format!("{}://{}", if plain { "http" } else { "https" }, self.addr)
        });
        let app = http::App::new(&settings, base_url, judge, metrics.clone());
        edge::serve(self.listener, &settings, http::router(app), metrics, drain).await;
    }
}

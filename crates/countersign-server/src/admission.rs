//! The layer before every call: who calls, may that role call this at all, is there room.
//!
//! It decides what can be decided before a byte of the message is read. Whether the records that a
//! message names are the caller's own is the handler's to ask, with [`crate::authz::authorize`]:
//! the layer leaves the [`Caller`] in the request's extensions for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use countersign_core::cert::SpiffeId;
use countersign_core::codes::Code;
use countersign_proto::errors::{self, Refusal};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Extensions, Status};
use tower::{Layer, Service};

use crate::authz::{self, GatePermit, GateRpc, Method, Reach, Rpc, Target};
use crate::drain::Drain;
use crate::identity::{self, Peer};
use crate::metrics::EdgeMetrics;

/// The authenticated caller of a call, in the extensions of its request.
#[derive(Debug, Clone)]
pub struct Caller(Peer);

impl Caller {
    /// The caller that the admission layer left in a request.
    pub fn of(extensions: &Extensions) -> Result<Self, Refusal> {
        extensions.get::<Self>().cloned().ok_or_else(|| Refusal::from(Code::Unauthenticated))
    }

    /// The identity, if its certificate still counts: a long stream of calls asks for each.
    pub fn identity(&self) -> Result<&SpiffeId, Refusal> {
        self.0.identity(identity::now())
    }

    /// Asks the authorisation table.
    pub fn authorize(&self, rpc: Rpc, target: Target<'_>) -> Result<authz::Permit, Refusal> {
        authz::authorize(self.identity()?, rpc, target)
    }

    /// Asks the table of the gate that serves `tenant`.
    pub fn authorize_gate(&self, rpc: GateRpc, tenant: &str) -> Result<GatePermit, Refusal> {
        authz::authorize_gate(self.identity()?, rpc, tenant)
    }

    /// Asks the authorisation table for the caller's own tenant.
    pub fn authorize_own(&self, rpc: Rpc) -> Result<authz::Permit, Refusal> {
        let identity = self.identity()?;
        authz::authorize(identity, rpc, Target::Tenant(identity.tenant()))
    }
}

/// Puts [`Admission`] before the services.
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    room: Arc<Semaphore>,
    metrics: EdgeMetrics,
    drain: Drain,
}

impl AdmissionLayer {
    /// Admits at most `calls_in_flight_max` calls at once, and none once `drain` has started.
    pub fn new(calls_in_flight_max: usize, metrics: EdgeMetrics, drain: Drain) -> Self {
        Self { room: Arc::new(Semaphore::new(calls_in_flight_max)), metrics, drain }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission { inner, shared: self.clone() }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    shared: AdmissionLayer,
}

type BoxFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send,
    S: 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> BoxFuture {
        let arrived = Instant::now();
        let rpc = Method::from_path(request.uri().path());
        // Strangers share a name, lest a caller fill the metrics with names of its own.
        let name = rpc.map_or("other", Method::name);
        let metrics = self.shared.metrics.clone();
        let place = match self.admit(&mut request, rpc) {
            Ok(place) => place,
            Err(refusal) => {
                metrics.call(name, refusal.code.as_str(), arrived.elapsed());
                return Box::pin(std::future::ready(Ok(errors::status(&refusal).into_http())));
            }
        };
        // The clone that was polled ready must be the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let response = inner.call(request).await;
            // What streams on after this is bounded by the streams of a connection, not by `place`.
            drop(place);
            if let Ok(response) = &response {
                metrics.call(name, &code_of(response), arrived.elapsed());
            }
            response
        })
    }
}

impl<S> Admission<S> {
    fn admit(
        &self,
        request: &mut Request<Body>,
        rpc: Option<Method>,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, Refusal> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Refusal::from(Code::Unauthenticated))?;
        let role = peer.identity(identity::now())?.role();
        // Health and reflection are open to whoever is authenticated; so is the answer that a
        // method does not exist.
        if rpc.is_some_and(|rpc| rpc.reach(role) == Reach::Never) {
            return Err(Refusal::from(Code::PermissionDenied));
        }
        if let Some(method) = rpc.filter(|_| self.shared.drain.has_started()) {
            let code = match method {
                Method::Ledger(_) => Code::LedgerStopping,
                Method::Gate(_) => Code::GateStopping,
            };
            return Err(Refusal::from(code));
        }
        let place = Arc::clone(&self.shared.room).try_acquire_owned();
        let place = place.map_err(|_| Refusal::from(Code::Overloaded))?;
        request.extensions_mut().insert(Caller(peer));
        Ok(place)
    }
}

/// The code that an answer begins with: the registry's where it is one of ours.
fn code_of(response: &Response<Body>) -> String {
    match Status::from_header_map(response.headers()) {
        None => "OK".to_owned(),
        Some(status) => match Refusal::from_status(&status) {
            Some(refusal) => refusal.code.as_str().to_owned(),
            None if status.code() == tonic::Code::Ok => "OK".to_owned(),
            None => format!("grpc {:?}", status.code()),
        },
    }
}

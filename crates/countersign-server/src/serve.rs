//! Serving: both ports, their layers, health, reflection, and the end of it all.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use countersign_proto::FILE_DESCRIPTOR_SET;
use countersign_proto::v1::gate_service_server::{GateService, GateServiceServer};
use countersign_proto::v1::ledger_service_server::{LedgerService, LedgerServiceServer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::Server;

use crate::admission::AdmissionLayer;
use crate::config::Checked;
use crate::drain::Drain;
use crate::http::{self, Readiness};
use crate::limits::Limits;
use crate::listener;
use crate::metrics::{EdgeMetrics, SharedRegistry};

/// How long the HTTP port may still answer what it has begun once the drain has started.
const HTTP_DRAIN: Duration = Duration::from_secs(2);

/// Why serving failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An address cannot be bound.
    #[error("cannot listen on {addr}: {source}; is another process there?")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Signal handlers cannot be installed.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// The gRPC server ended by itself.
    #[error("the gRPC server failed: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The HTTP server ended by itself.
    #[error("the HTTP server failed: {0}")]
    Http(io::Error),
    /// The reflection service cannot read the descriptors that were built in.
    #[error("gRPC reflection cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Both ports, bound and not yet accepting.
#[derive(Debug)]
pub struct Ports {
    grpc: TcpListener,
    http: TcpListener,
}

impl Ports {
    /// Binds both of the ledger's, or none.
    pub async fn bind(checked: &Checked) -> Result<Self, ServeError> {
        let config = checked.config();
        Self::bind_at(config.grpc, config.http).await
    }

    /// Binds both addresses, or none.
    pub async fn bind_at(grpc: SocketAddr, http: SocketAddr) -> Result<Self, ServeError> {
        let bind = async |addr: SocketAddr| {
            TcpListener::bind(addr).await.map_err(|source| ServeError::Bind { addr, source })
        };
        Ok(Self { grpc: bind(grpc).await?, http: bind(http).await? })
    }

    /// Address of the gRPC port, with the port that the system chose where the configuration says
    /// 0.
    pub fn grpc_addr(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// The same of the HTTP port.
    pub fn http_addr(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }
}

/// What the ports serve and what they report.
#[derive(Debug)]
pub struct Serving<S> {
    /// The service: [`ledger`] or [`gate`].
    pub service: S,
    /// Whether it takes calls; followed by `/readyz` and by gRPC health.
    pub readiness: watch::Receiver<Readiness>,
    /// Counters of the edge, registered in `registry`.
    pub metrics: EdgeMetrics,
    /// What `/metrics` shows.
    pub registry: SharedRegistry,
    /// Routes of the HTTP port besides the probes.
    pub http_routes: axum::Router,
}

/// A service that the edge can serve.
pub trait Served:
    tower::Service<
        Request<Body>,
        Response = Response<Body>,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Served for S where
    S: tower::Service<
            Request<Body>,
            Response = Response<Body>,
            Error = std::convert::Infallible,
            Future: Send + 'static,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A ledger, within these limits.
pub fn ledger<S: LedgerService>(service: S, limits: &Limits) -> LedgerServiceServer<S> {
    LedgerServiceServer::new(service)
        .max_decoding_message_size(limits.message_bytes_max())
        .max_encoding_message_size(limits.answer_bytes_max())
}

/// A gate, within these limits.
pub fn gate<S: GateService>(service: S, limits: &Limits) -> GateServiceServer<S> {
    GateServiceServer::new(service)
        .max_decoding_message_size(limits.message_bytes_max())
        .max_encoding_message_size(limits.answer_bytes_max())
}

/// Serves until `drain` starts and what is in flight has ended, or `drain_timeout_s` is over.
///
/// After the timeout, connections that are still open are abandoned: they end with the runtime.
/// Whatever was acknowledged is durable by then, and what was not can be submitted again.
pub async fn serve<S: Served>(
    checked: &Checked,
    ports: Ports,
    serving: Serving<S>,
    drain: Drain,
) -> Result<(), ServeError> {
    let limits = &checked.config().limits;
    let Serving { service, readiness, metrics, registry, http_routes } = serving;

    let (health, health_service) = tonic_health::server::health_reporter();
    let follow_readiness = tokio::spawn(follow::<S>(health, readiness.clone(), drain.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let admission = AdmissionLayer::new(limits.calls_in_flight_max, metrics.clone(), drain.clone());
    let mut stop = drain.clone();
    let grpc = limits
        .apply(Server::builder().layer(admission))
        .add_service(service)
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(
            listener::incoming(ports.grpc, checked, metrics),
            async move { stop.started().await },
        );
    let router = http::router(readiness, registry, drain.clone()).merge(http_routes);
    let http = http::serve(ports.http, limits.http_connections_max, router, drain.clone());

    let mut started = drain.clone();
    let drain_timeout = checked.drain_timeout();
    let patience = async move {
        started.started().await;
        tokio::time::sleep(drain_timeout).await;
    };
    // A scraper that keeps its connection open cannot hold up the end.
    let http = async move {
        let mut stop = drain;
        tokio::select! {
            ended = http => ended.map_err(ServeError::Http),
            () = async { stop.started().await; tokio::time::sleep(HTTP_DRAIN).await } => Ok(()),
        }
    };
    let both = async { tokio::try_join!(async { grpc.await.map_err(ServeError::Grpc) }, http) };
    let ended = tokio::select! {
        ended = both => ended.map(|((), ())| ()),
        () = patience => {
            tracing::warn!("stopping with calls in flight: drain_timeout_s is over");
            Ok(())
        }
    };
    follow_readiness.abort();
    ended
}

/// Shows the readiness in gRPC health.
async fn follow<S: NamedService>(
    health: tonic_health::server::HealthReporter,
    mut readiness: watch::Receiver<Readiness>,
    mut drain: Drain,
) {
    loop {
        let now = *readiness.borrow_and_update();
        let serves = matches!(now, Readiness::Ready | Readiness::Refusing(_));
        if serves && !drain.has_started() {
            health.set_serving::<S>().await;
        } else {
            health.set_not_serving::<S>().await;
        }
        if drain.has_started() {
            return;
        }
        tokio::select! {
            changed = readiness.changed() => if changed.is_err() { return },
            () = drain.started() => {}
        }
    }
}

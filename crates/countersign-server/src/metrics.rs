//! What the edge counts, in OpenMetrics.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the buckets of a call's duration, in seconds: fine around the 5 ms and 25 ms
/// that a receipt may take, coarse above.
const CALL_SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What became of an incoming connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ConnectionEnd {
    /// Served.
    Accepted,
    /// Closed: as many as allowed were open.
    Full,
    /// Closed: no sound TLS handshake, or no certificate of a known root.
    HandshakeFailed,
    /// Closed: the handshake took too long.
    HandshakeTimeout,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    end: ConnectionEnd,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    rpc: &'static str,
}

/// Counters of the edge; clones count together.
#[derive(Debug, Clone)]
pub struct EdgeMetrics {
    connections: Family<ConnectionLabels, Counter>,
    open: Gauge<i64, AtomicI64>,
    calls: Family<CallLabels, Counter>,
    seconds: Family<RpcLabels, Histogram, fn() -> Histogram>,
}

/// One open connection, until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge<i64, AtomicI64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl EdgeMetrics {
    /// Registers the edge's metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Family::default(),
            open: Gauge::default(),
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
        };
        registry.register(
            "countersign_connections",
            "Incoming gRPC connections, by what became of them",
            metrics.connections.clone(),
        );
        registry.register(
            "countersign_connections_open",
            "gRPC connections that are open",
            metrics.open.clone(),
        );
        registry.register(
            "countersign_calls",
            "gRPC calls, by method and the code they were answered with at first",
            metrics.calls.clone(),
        );
        registry.register_with_unit(
            "countersign_call",
            "Time until a gRPC call was answered, or began to be",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }

    /// Counts a connection.
    pub fn connection(&self, end: ConnectionEnd) {
        self.connections.get_or_create(&ConnectionLabels { end }).inc();
    }

    /// Counts a connection as open until the value is dropped.
    pub fn open_connection(&self) -> OpenConnection {
        self.open.inc();
        OpenConnection(self.open.clone())
    }

    /// Counts a call. `code` is a code of the registry, a gRPC status, or `OK`.
    pub fn call(&self, rpc: &'static str, code: &str, took: Duration) {
        self.calls.get_or_create(&CallLabels { rpc, code: code.to_owned() }).inc();
        self.seconds.get_or_create(&RpcLabels { rpc }).observe(took.as_secs_f64());
    }
}

/// A registry that can be read while it counts.
pub type SharedRegistry = Arc<Registry>;

//! A ledger in this process, on RocksDB and behind its real edge.

use std::net::SocketAddr;
use std::sync::Arc;

use countersign_core::encoding::Micros;
use countersign_log::api::LogConfig;
use countersign_log::host::Host;
use countersign_log::ledger::Ledger;
use countersign_rocksdb::{Options, RocksStore};
use countersign_server::config::Checked;
use countersign_server::drain::{DrainTrigger, drain};
use countersign_server::http::Readiness;
use countersign_server::metrics::EdgeMetrics;
use countersign_server::serve::{self, Ports, Serving, serve};
use countersign_server::service::LedgerRpc;
use countersign_server::{identity, keys};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Machine;

impl Host for Machine {
    fn now(&self) -> Micros {
        identity::now()
    }

    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        bytes
    }
}

pub(crate) struct RunningLedger {
    pub(crate) addr: SocketAddr,
    drain: DrainTrigger,
    serving: JoinHandle<()>,
    ledger: Ledger<RocksStore>,
}

impl RunningLedger {
    pub(crate) async fn start(checked: Checked) -> Self {
        let config = checked.config();
        let store = RocksStore::open(&config.data_dir, &Options::default()).unwrap();
        let keys = keys::load(&config.origin, &config.keys).unwrap();
        let log = LogConfig {
            trust_domain: config.gates.trust_domain.clone(),
            gate_roots: checked.gate_roots().to_vec(),
            people_roots: checked.people_roots().to_vec(),
            revoked: Vec::new(),
            skew_us: 300_000_000,
            group_max: 1_024,
            group_wait_us: 1_000,
            head_interval_ms: config.head_interval_ms,
            witnessed: false,
            head_republish_ms: 60_000,
            queue_bytes_max: config.limits.queued_bytes_max,
        };
        let ledger = Ledger::open(Arc::new(store), Arc::new(Machine), keys, log).await.unwrap();
        let ports = Ports::bind(&checked).await.unwrap();
        let addr = ports.grpc_addr().unwrap();
        let (trigger, drain) = drain();
        let mut registry = Registry::default();
        let metrics = EdgeMetrics::register(&mut registry);
        let rpc = LedgerRpc::new(ledger.clone(), &config.origin, &config.limits, drain.clone());
        let service = serve::ledger(rpc, &config.limits);
        let serving = tokio::spawn(async move {
            let (_readiness, watched) = watch::channel(Readiness::Ready);
            let serving = Serving {
                service,
                readiness: watched,
                metrics,
                registry: Arc::new(registry),
                http_routes: axum::Router::new(),
            };
            serve(&checked, ports, serving, drain).await.unwrap();
        });
        Self { addr, drain: trigger, serving, ledger }
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.drain.start();
        self.serving.await.unwrap();
        self.ledger.stop().await;
    }
}

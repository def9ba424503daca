//! The life of a ledger's process: from a checked configuration to the last answer.
//!
//! In this order, so that nothing is promised too early: the configuration was checked → keys are
//! read → the store is opened → the log is recovered → ports are bound → ready. And back: no new
//! calls → those in flight are answered → the log finishes what waits → the end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_log::api::{LogConfig, LogState};
use countersign_log::host::Host;
use countersign_log::ledger::{Ledger, OpenError};
use countersign_log::store::{Store, StoreError};
use countersign_rocksdb::{Options, RocksStore};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::config::{Checked, Revoked};
use crate::drain::{Drain, drain};
use crate::http::Readiness;
use crate::keys::{self, KeyError, PublicKeys};
use crate::metrics::EdgeMetrics;
use crate::serve::{self, Ports, ServeError, Serving, serve};
use crate::service::LedgerRpc;
use crate::witnesses::{Council, WitnessError};
use crate::{identity, log_metrics, tiles};

/// Microseconds that a `recorded_at` may lie ahead of the ledger's clock (STR-11).
const SKEW_US: u64 = 300 * 1_000_000;
/// Records that one commit takes at most: beyond that a larger group gains nothing.
const GROUP_MAX: usize = 1_024;
/// Microseconds that a group waits for company while another one commits: about what a synced write
/// takes by itself.
const GROUP_WAIT_US: u64 = 1_000;

/// The file of the data folder that lets a log begin there.
const BEGIN: &str = "begin";

/// Where a ledger that is ready can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The gRPC port.
    pub grpc: SocketAddr,
    /// The HTTP port.
    pub http: SocketAddr,
    /// The log's origin.
    pub origin: String,
}

/// Why a ledger did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The data folder holds no log, and none is to begin there.
    #[error(
        "{} holds no log, and no file `begin` says that one is to begin there; check data_dir, \
         or run countersign init for a new log",
        path.display()
    )]
    Absent {
        /// The data folder.
        path: PathBuf,
    },
    /// The data folder can't be looked at.
    #[error("the data folder {} can't be used: {source}", path.display())]
    Data {
        /// The data folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The store cannot be opened, or refuses what it found.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] countersign_rocksdb::OpenError),
    /// Opening the store ended without a result: a defect.
    #[error("opening the store ended without a result ({0}); report this as a defect")]
    Aborted(#[from] tokio::task::JoinError),
    /// The log cannot be recovered from the store.
    #[error("the log cannot be opened: {0}")]
    Log(#[from] OpenError),
    /// The machine gives no random bytes.
    #[error("the machine's random source fails ({0}); a ledger can't make salts without it")]
    Random(getrandom::Error),
    /// The witnesses contradict what is here, or too few answer.
    #[error(transparent)]
    Witnesses(#[from] WitnessError),
    /// A port cannot be bound or served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl RunError {
    /// The code of the registry, where it has one for this; `countersign explain` tells more of it.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Keys(_) => Some(Code::ConfigInvalid),
            Self::Store(error) => Some(error.code()),
            Self::Log(OpenError::Log(fault) | OpenError::Store(StoreError::Corrupt(fault))) => {
                Some(fault.code)
            }
            Self::Witnesses(error) => Some(error.code()),
            Self::Log(_) | Self::Data { .. } => Some(Code::StoreFailed),
            Self::Absent { .. } => Some(Code::LogAbsent),
            Self::Aborted(_) | Self::Random(_) => Some(Code::Internal),
            Self::Serve(_) => None,
        }
    }
}

/// The machine's clock and random source.
struct System;

impl Host for System {
    fn now(&self) -> Micros {
        identity::now()
    }

    fn random(&self) -> [u8; 32] {
        // It was tried at the start, and Linux's source does not fail once it has answered. If one
        // does, a guessable salt would be worse than no process.
        random().unwrap_or_else(|error| panic!("the machine's random source failed: {error}"))
    }
}

fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Runs a ledger on RocksDB in `data_dir`, until SIGTERM or SIGINT and then until what was in
/// flight has been answered. `on_ready` is called once, when both ports accept connections.
///
/// A second process on one data directory is refused by the store.
pub async fn run_ledger(
    checked: Checked,
    on_ready: impl FnOnce(&Ready) + Send,
) -> Result<(), RunError> {
    let config = checked.config();
    let (trigger, drain) = drain();
    // Before recovery, so that a signal during it ends the process in order and not at once.
    trigger.on_signals().map_err(ServeError::Signals)?;
    random().map_err(RunError::Random)?;
    let keys = keys::load(&config.origin, &config.keys)?;
    let public = PublicKeys::of(&keys).map_err(OpenError::Log)?;
    may_begin(&config.data_dir)?;
    let store = Arc::new(open_store(&config.data_dir).await?);
    let ledger = Ledger::open(store, Arc::new(System), keys, log_config(&checked)).await?;
    has_begun(&config.data_dir)?;
    let council = match council(&checked, &public, &ledger, drain.clone()).await {
        Ok(council) => council,
        Err(error) => {
            ledger.stop().await;
            return Err(error.into());
        }
    };
    let served = serve_log(&checked, &ledger, council, drain, on_ready).await;
    ledger.stop().await;
    tracing::info!(size = ledger.head().size.0, "stopped");
    Ok(served?)
}

/// Those who cosign, when the newest head was held against what they know: nothing is signed
/// before.
async fn council<S: Store>(
    checked: &Checked,
    keys: &PublicKeys,
    ledger: &Ledger<S>,
    mut drain: Drain,
) -> Result<Option<Council<S>>, WitnessError> {
    let Some(witnesses) = checked.witnesses() else { return Ok(None) };
    let mut council = Council::new(checked, witnesses, keys, ledger.clone()).await?;
    let begun = tokio::select! {
        begun = council.begin(checked.without_witnesses()) => begun,
        // Nothing is served then.
        () = drain.started() => Ok(()),
    };
    begun.map(|()| Some(council))
}

/// A log begins only where `countersign init` left word that one is to: a folder that was moved
/// away, or a mistyped `data_dir`, would otherwise begin a second history under the same keys.
fn may_begin(dir: &Path) -> Result<(), RunError> {
    let exists = |name: &str| dir.join(name).try_exists();
    let absent = |source| RunError::Data { path: dir.to_owned(), source };
    for name in ["db/CURRENT", "anchor", BEGIN] {
        if exists(name).map_err(absent)? {
            return Ok(());
        }
    }
    Err(RunError::Absent { path: dir.to_owned() })
}

/// A log is there, durable: that word is spent.
fn has_begun(dir: &Path) -> Result<(), RunError> {
    match std::fs::remove_file(dir.join(BEGIN)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RunError::Data { path: dir.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The one place that knows which store a ledger is kept in.
async fn open_store(dir: &Path) -> Result<RocksStore, RunError> {
    let dir = dir.to_owned();
    // Opening replays the write-ahead log, which takes as long as it takes.
    let opened = tokio::task::spawn_blocking(move || RocksStore::open(&dir, &Options::default()));
    Ok(opened.await??)
}

async fn serve_log<S: Store>(
    checked: &Checked,
    ledger: &Ledger<S>,
    council: Option<Council<S>>,
    drain: Drain,
    on_ready: impl FnOnce(&Ready) + Send,
) -> Result<(), ServeError> {
    let config = checked.config();
    if drain.has_started() {
        return Ok(());
    }
    let ports = Ports::bind(checked).await?;
    let bound = |addr, result: io::Result<SocketAddr>| {
        result.map_err(|source| ServeError::Bind { addr, source })
    };
    let ready = Ready {
        grpc: bound(config.grpc, ports.grpc_addr())?,
        http: bound(config.http, ports.http_addr())?,
        origin: config.origin.clone(),
    };
    let mut registry = Registry::default();
    let metrics = EdgeMetrics::register(&mut registry);
    log_metrics::register(&mut registry, ledger);
    if let Some(council) = &council {
        council.seen().register(&mut registry);
    }
    let tile_routes = tiles::router(ledger.clone(), &mut registry);
    let (readiness, watched) = watch::channel(Readiness::Starting);
    let state = ledger.state();
    readiness.send_replace(readiness_of(*state.borrow()));
    let follower = tokio::spawn(follow(state, readiness));
    let heads = council.map(|council| {
        let interval = Duration::from_millis(config.head_interval_ms);
        tokio::spawn(council.run(interval, Duration::from_secs(config.head_republish_s)))
    });
    let service = LedgerRpc::new(ledger.clone(), &config.origin, &config.limits, drain.clone())
        .with_retention(config.erasure.retention_days_min);
    let serving = Serving {
        service: serve::ledger(service, &config.limits),
        readiness: watched,
        metrics,
        registry: Arc::new(registry),
        http_routes: tile_routes,
    };
    tracing::info!(
        grpc = %ready.grpc,
        http = %ready.http,
        origin = ready.origin,
        size = ledger.head().size.0,
        "ready"
    );
    on_ready(&ready);
    let served = serve(checked, ports, serving, drain).await;
    follower.abort();
    if let Some(heads) = heads {
        heads.abort();
    }
    served
}

/// Shows what the log says of itself to the probes.
async fn follow(mut state: watch::Receiver<LogState>, readiness: watch::Sender<Readiness>) {
    loop {
        let now = *state.borrow_and_update();
        if now == LogState::Poisoned {
            tracing::error!("a write failed: the ledger takes nothing until it is started again");
        }
        readiness.send_replace(readiness_of(now));
        if state.changed().await.is_err() {
            return;
        }
    }
}

fn readiness_of(state: LogState) -> Readiness {
    match state {
        LogState::Ready => Readiness::Ready,
        LogState::Stopping => Readiness::Stopping,
        LogState::Poisoned => Readiness::Poisoned,
    }
}

fn log_config(checked: &Checked) -> LogConfig {
    let config = checked.config();
    let revoked = |entry: &Revoked| (entry.key.clone(), entry.from);
    LogConfig {
        trust_domain: config.gates.trust_domain.clone(),
        gate_roots: checked.gate_roots().to_vec(),
        people_roots: checked.people_roots().to_vec(),
        revoked: checked.revoked().iter().map(revoked).collect(),
        skew_us: SKEW_US,
        group_max: GROUP_MAX,
        group_wait_us: GROUP_WAIT_US,
        head_interval_ms: config.head_interval_ms,
        witnessed: config.witnesses.is_some(),
        head_republish_ms: config.head_republish_s.saturating_mul(1_000),
        queue_bytes_max: config.limits.queued_bytes_max,
    }
}

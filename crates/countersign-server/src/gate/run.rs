//! The life of a gate's process: from a checked configuration to the last record.
//!
//! The state is opened → what an earlier process left is taken up → ports are bound → ready. And
//! back: no new calls → those in flight are answered → what waits is logged, if the ledger answers
//! → the end. A gate starts without its ledger, and refuses until that is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use countersign_client::{ClientConfig, GateIdentity};
use countersign_core::cert::Certificate;
use countersign_core::codes::Code;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::core::GateCore;
use super::host::{GateHost, Machine};
use super::live::Live;
use super::metrics::GateMetrics;
use super::rpc::GateGrpc;
use super::shared::{Shared, Trusted};
use super::state::{State, StateError};
use super::ticket::Tickets;
use super::webhook::{GateSignals, Webhook, WebhookError, WebhookMetrics, WebhookSection};
use super::{authzen, recorder, tables, ticker, webhook};
use crate::config::Checked;
use crate::drain::{Drain, DrainTrigger, drain};
use crate::http::Readiness;
use crate::metrics::EdgeMetrics;
use crate::serve::{self, Ports, ServeError, Serving, serve};

/// How often the gate looks how it stands.
const HEALTH_EVERY: Duration = Duration::from_millis(200);

/// A gate's own keys and its way to the ledger.
#[derive(Debug, Clone)]
pub struct GateParts {
    /// Who seals; its key is the gate's TLS key as well.
    pub identity: GateIdentity,
    /// How the ledger is reached, and whose signatures it is known by.
    pub ledger: ClientConfig,
}

/// Where a gate that is ready can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateReady {
    /// The gRPC port.
    pub grpc: SocketAddr,
    /// The HTTP port.
    pub http: SocketAddr,
    /// The AuthZEN port.
    pub authzen: SocketAddr,
    /// The tenant.
    pub tenant: String,
    /// The gate's name.
    pub gate: String,
}

/// Why a gate did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateRunError {
    /// The state can't be opened or read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A port cannot be bound or served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The section `[gate.webhook]` can't be used.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The machine gives no random bytes.
    #[error("the machine's random source fails ({0}); a gate can't make nonces without it")]
    Random(getrandom::Error),
}

impl GateRunError {
    /// The code of the registry, where it has one for this.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::State(_) => Some(Code::StoreFailed),
            Self::Random(_) => Some(Code::Internal),
            Self::Webhook(_) => Some(Code::ConfigInvalid),
            Self::Serve(_) => None,
        }
    }
}

/// A gate without its ports: the core, and the tasks that work for it.
#[derive(Debug)]
pub struct Gate {
    core: GateCore,
    recorder: JoinHandle<()>,
    ticker: JoinHandle<()>,
    stop: DrainTrigger,
}

impl Gate {
    /// Opens the state and begins to work. `checked` gives `[gate]`, the people's roots and what is
    /// revoked.
    pub async fn open(
        checked: &Checked,
        parts: GateParts,
        host: Arc<dyn GateHost>,
    ) -> Result<Self, StateError> {
        let config = checked.config();
        let settings = config.gate.clone();
        let state = State::open(&settings.state_dir)?;
        let live = Live::open(&state, settings.directory.clone())?;
        let newest = state.read(|tx| tables::signals_after(tx, None, usize::MAX))?;
        let newest = newest.last().map(|signal| signal.index);
        let (pokes, to_look_at) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            settings,
            chain_pem: parts.identity.chain.iter().map(Certificate::pem).collect(),
            identity: parts.identity,
            ledger: parts.ledger,
            trusted: Trusted {
                trust_domain: config.gates.trust_domain.clone(),
                people_roots: checked.people_roots().to_vec(),
                revoked: checked.revoked().to_vec(),
            },
            host,
            state,
            live,
            tickets: Tickets::default(),
            work: Notify::new(),
            pokes,
            signals: watch::Sender::new(newest),
            metrics: GateMetrics::default(),
            client: watch::Sender::new(None),
            reachable: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
        });
        let core = GateCore::new(Arc::clone(&shared));
        ticker::say_restart(&shared).await?;
        ticker::look_at_all(&core)?;
        let (stop, drain) = drain();
        let recorder = tokio::spawn(recorder::run(shared, drain.clone()));
        let ticker = tokio::spawn(ticker::run(core.clone(), to_look_at, drain));
        Ok(Self { core, recorder, ticker, stop })
    }

    /// What answers.
    pub fn core(&self) -> &GateCore {
        &self.core
    }

    /// Logs what waits, as far as the ledger answers, and ends.
    pub async fn stop(self) {
        self.core.shared.set_stopping();
        self.stop.start();
        // What a task met that panicked was printed; the outbox has what it had.
        let _ = tokio::join!(self.recorder, self.ticker);
    }
}

/// Runs a gate until SIGTERM or SIGINT, and then until what was in flight has been answered.
/// `on_ready` is called once, when both ports accept connections. The ports, the state and the
/// directory are those of `[gate]`; TLS, roots and limits are shared with a ledger's edge.
///
/// A second process on one state is refused.
pub async fn run_gate(
    checked: Checked,
    parts: GateParts,
    on_ready: impl FnOnce(&GateReady) + Send,
) -> Result<(), GateRunError> {
    let (trigger, drain) = drain();
    trigger.on_signals().map_err(ServeError::Signals)?;
    let mut tried = [0; 16];
    getrandom::fill(&mut tried).map_err(GateRunError::Random)?;
    run_gate_until(&checked, parts, Arc::new(Machine), drain, on_ready).await
}

/// The same on another machine, until the drain starts: how a test runs one.
pub async fn run_gate_until(
    checked: &Checked,
    own: GateParts,
    host: Arc<dyn GateHost>,
    drain: Drain,
    on_ready: impl FnOnce(&GateReady) + Send,
) -> Result<(), GateRunError> {
    let settings = &checked.config().gate;
    let webhook = settings.webhook.as_ref().map(WebhookSection::check).transpose()?;
    let ports = Ports::bind_at(settings.grpc, settings.http).await?;
    let authzen = authzen::Port::bind(settings.authzen, checked.transport()).await?;
    let bound = |addr, result: std::io::Result<SocketAddr>| {
        result.map_err(|source| ServeError::Bind { addr, source })
    };
    let ready = GateReady {
        grpc: bound(settings.grpc, ports.grpc_addr())?,
        http: bound(settings.http, ports.http_addr())?,
        authzen: authzen.addr(),
        tenant: own.identity.tenant.clone(),
        gate: own.identity.gate.clone(),
    };
    let gate = Gate::open(checked, own, host).await?;
    let sides = Sides { ports, authzen, webhook };
    let served = serve_gate(checked, &gate, sides, &ready, drain, on_ready).await;
    gate.stop().await;
    Ok(served?)
}

/// Where a gate meets others.
struct Sides {
    ports: Ports,
    authzen: authzen::Port,
    webhook: Option<Webhook>,
}

async fn serve_gate(
    checked: &Checked,
    gate: &Gate,
    sides: Sides,
    ready: &GateReady,
    drain: Drain,
    on_ready: impl FnOnce(&GateReady) + Send,
) -> Result<(), ServeError> {
    let mut registry = Registry::default();
    let metrics = EdgeMetrics::register(&mut registry);
    gate.core.shared.metrics.register(&mut registry);
    let Sides { ports, authzen, webhook } = sides;
    let told = webhook.map(|webhook| {
        let signals = Arc::new(GateSignals::of(gate.core.clone()));
        let metrics = WebhookMetrics::register(&mut registry);
        tokio::spawn(webhook::run(webhook, signals, metrics, drain.clone()))
    });
    let asked = authzen.serve(
        authzen_settings(checked, gate),
        Arc::new(gate.core.clone()),
        metrics.clone(),
        drain.clone(),
    );
    let mut asked = tokio::spawn(asked);
    // It answers as soon as it is bound, if only to refuse: that is what it is there for.
    let (readiness, watched) = watch::channel(Readiness::Ready);
    let watching =
        tokio::spawn(watch_over(Arc::clone(&gate.core.shared), readiness, drain.clone()));
    let service = GateGrpc::new(gate.core.clone());
    let serving = Serving {
        service: serve::gate(service, &checked.config().limits),
        readiness: watched,
        metrics,
        registry: Arc::new(registry),
        http_routes: axum::Router::new(),
    };
    tracing::info!(grpc = %ready.grpc, http = %ready.http, gate = ready.gate, "ready");
    on_ready(ready);
    let served = serve(checked, ports, serving, drain).await;
    watching.abort();
    // What is asked over AuthZEN had the same drain; what it leaves open has had its time.
    if served.is_err() || timeout(checked.drain_timeout(), &mut asked).await.is_err() {
        asked.abort();
    }
    if let Some(told) = told {
        told.abort();
    }
    served
}

/// Says to whoever asks whether the gate can still keep anything, and takes no new calls once the
/// drain has started.
async fn watch_over(shared: Arc<Shared>, readiness: watch::Sender<Readiness>, mut drain: Drain) {
    let mut ticks = interval(HEALTH_EVERY);
    loop {
        tokio::select! {
            () = drain.started() => return shared.set_stopping(),
            _ = ticks.tick() => {
                let now = standing(&shared);
                readiness.send_if_modified(|was| std::mem::replace(was, now) != now);
            }
        }
    }
}

/// What a probe is told.
fn standing(shared: &Shared) -> Readiness {
    if shared.state.is_poisoned() || shared.is_stuck() {
        Readiness::Poisoned
    } else if shared.live.policy().is_err() {
        Readiness::Refusing("refusing: no policy is active\n")
    } else if !shared.is_reachable() {
        Readiness::Refusing("refusing: the ledger does not answer\n")
    } else {
        Readiness::Ready
    }
}

fn authzen_settings(checked: &Checked, gate: &Gate) -> authzen::Settings {
    let config = checked.config();
    authzen::Settings {
        tenant: gate.core.tenant().to_owned(),
        trust_domain: config.gates.trust_domain.clone(),
        transport: checked.transport().clone(),
        revoked: checked.revoked().to_vec(),
        limits: config.limits.clone(),
        base_url: config.gate.authzen_url.clone(),
    }
}

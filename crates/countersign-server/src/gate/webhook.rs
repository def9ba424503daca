//! The live signal: word of each refuse and supervise, to whoever watches (spec/webhook.md).
//!
//! Beside the way of a verdict, never on it: the gate keeps its signals durably ([`Signals`]) and
//! one task posts them, in index order, each until it was taken. The cursor moves after a 2xx and
//! not before, so a signal can come twice and can't be left out (HOOK-3). A receiver that is dead
//! or slow costs the gate one task and [`BATCH`] signals of memory (HOOK-8).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::encoding::Micros;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::{GateCore, Signal, StateError};
use crate::drain::Drain;

mod metrics;
mod post;
mod settings;
mod signature;

pub use self::metrics::WebhookMetrics;
pub use self::settings::{Webhook, WebhookError, WebhookSection};
pub use self::signature::{SIGNATURE, sign};

/// Signals that are read, and held, at once.
pub const BATCH: usize = 32;

/// How often the store is looked at although nobody said that there is something new: the bound
/// within which a signal leaves even if its notification was lost.
const LOOK: Duration = Duration::from_secs(1);

/// The first wait after a failure, and the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The one JSON object that says it (HOOK-2).
pub fn body(signal: &Signal) -> String {
    let said = serde_json::json!({
        "type": "countersign.signal.v1",
        "index": signal.index,
        "tenant": signal.tenant,
        "gate": signal.gate,
        "action_id": signal.action_id,
        "outcome": signal.outcome,
        "mode": signal.mode,
        "codes": signal.codes,
        "logged_at": Micros(signal.logged_at).format(),
    });
    said.to_string()
}

/// The store of signals failed; the sentence is for the gate's own log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store of signals failed: {0}")]
pub struct SignalsError(pub String);

/// Where a gate keeps its signals, and how far they were delivered.
///
/// Signals become visible in index order: once one has been seen, none with a smaller index ever
/// comes. The cursor is durable when [`Signals::delivered`] returns; what is at or before it is
/// not asked for again and may be forgotten.
pub trait Signals: Send + Sync + 'static {
    /// The first signals after the cursor, in index order, at most `max`.
    fn waiting(&self, max: usize)
    -> impl Future<Output = Result<Vec<Signal>, SignalsError>> + Send;

    /// Moves the cursor to this index.
    fn delivered(&self, index: u64) -> impl Future<Output = Result<(), SignalsError>> + Send;

    /// Ends when there may be signals that the last [`Signals::waiting`] did not give. A
    /// notification that comes while nobody waits for it must not be lost.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// A gate's own.
#[derive(Debug)]
pub struct GateSignals {
    core: GateCore,
    // Kept, so that what came between a look and the wait after it ends that wait.
    newest: Mutex<watch::Receiver<Option<u64>>>,
}

impl GateSignals {
    /// The signals of this gate.
    pub fn of(core: GateCore) -> Self {
        let newest = Mutex::new(core.signals_newest());
        Self { core, newest }
    }
}

impl From<StateError> for SignalsError {
    fn from(error: StateError) -> Self {
        Self(error.to_string())
    }
}

impl Signals for GateSignals {
    async fn waiting(&self, max: usize) -> Result<Vec<Signal>, SignalsError> {
        Ok(self.core.signals_after(self.core.signals_delivered()?, max)?)
    }

    async fn delivered(&self, index: u64) -> Result<(), SignalsError> {
        Ok(self.core.set_signals_delivered(index).await?)
    }

    async fn changed(&self) {
        // Fails only when the gate is at its end, and then nothing comes any more.
        if self.newest.lock().await.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Why a signal was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] SignalsError),
    #[error(transparent)]
    Post(#[from] post::PostError),
}

impl Trouble {
    fn why(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Post(error) => error.why(),
        }
    }
}

/// Delivers until `drain` starts. What was not delivered by then waits for the next start.
pub async fn run<S: Signals>(
    webhook: Webhook,
    signals: Arc<S>,
    metrics: WebhookMetrics,
    mut drain: Drain,
) {
    tokio::select! {
        // A post that is under way is given up: it is made again after the next start.
        () = drain.started() => {}
        () = deliver(&webhook, &*signals, &metrics) => {}
    }
}

async fn deliver<S: Signals>(webhook: &Webhook, signals: &S, metrics: &WebhookMetrics) {
    let mut failures = 0_u32;
    loop {
        match deliver_waiting(webhook, signals, metrics, &mut failures).await {
            Ok(0) => {
                metrics.idle();
                tokio::select! {
                    () = signals.changed() => {}
                    () = sleep(LOOK) => {}
                }
            }
            Ok(_) => {}
            Err(trouble) => {
                metrics.failed(trouble.why());
                if failures == 0 {
                    tracing::warn!(%trouble, "a signal was not delivered; trying until it is");
                }
                sleep(backoff(failures)).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Delivers what waits, up to [`BATCH`], in order, and stops at the first that is not taken. Gives
/// how many there were.
async fn deliver_waiting<S: Signals>(
    webhook: &Webhook,
    signals: &S,
    metrics: &WebhookMetrics,
    failures: &mut u32,
) -> Result<usize, Trouble> {
    let waiting = signals.waiting(BATCH).await?;
    for signal in &waiting {
        metrics.waits(Micros(signal.logged_at));
        webhook.post(signal).await?;
        // HOOK-3: after the receiver's 2xx, and before the next signal leaves.
        signals.delivered(signal.index).await?;
        metrics.delivered();
        if *failures > 0 {
            tracing::info!(index = signal.index, "signals are delivered again");
            *failures = 0;
        }
    }
    Ok(waiting.len())
}

/// How long to wait after so many failures: twice as long each time, up to a bound, of which a
/// random half is left off, so that the gates of a receiver that comes back do not all call at
/// once (HOOK-5).
fn backoff(failures: u32) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    let mut random = [0; 2];
    // Without randomness gates call together, which is no reason not to call.
    let random = if getrandom::fill(&mut random).is_ok() { u16::from_be_bytes(random) } else { 0 };
    full.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u16::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use countersign_core::json;

    use super::*;

    #[test]
    fn hook_2_a_signal_is_one_object_with_these_members() {
        let signal = Signal {
            index: 42,
            tenant: "acme".to_owned(),
            gate: "prod-1".to_owned(),
            action_id: "0193ad5e-7c00-7000-8000-000000000001".to_owned(),
            outcome: "refuse".to_owned(),
            mode: "enforce".to_owned(),
            codes: vec!["R_A".to_owned(), "R_\"B".to_owned()],
            logged_at: 1_795_435_201_500_000,
        };
        let value = json::parse(&body(&signal)).unwrap();
        let mut members: Vec<&str> =
            value.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        let expected = [
            "action_id",
            "codes",
            "gate",
            "index",
            "logged_at",
            "mode",
            "outcome",
            "tenant",
            "type",
        ];
        assert_eq!(members, expected);
        assert_eq!(value["codes"][1], "R_\"B");
        assert_eq!(value["logged_at"], "2026-11-23T12:00:01.500000Z");
    }

    #[test]
    fn hook_5_waits_grow_to_a_bound_and_differ() {
        let mut bound = BACKOFF_MIN;
        for failures in 0..40 {
            let wait = backoff(failures);
            assert!(wait <= bound && wait >= bound / 2, "{failures}: {wait:?}");
            bound = (bound * 2).min(BACKOFF_MAX);
        }
        let some: std::collections::BTreeSet<Duration> = (0..50).map(|_| backoff(20)).collect();
        assert!(some.len() > 1);
    }
}

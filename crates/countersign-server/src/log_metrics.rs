//! What `/metrics` shows of the log: its size, its heads, whether it takes records.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use countersign_log::api::{Head, LogState};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

/// The states in the order in which they are shown.
const STATES: [(LogState, &str); 3] = [
    (LogState::Ready, "ready"),
    (LogState::Stopping, "stopping"),
    (LogState::Poisoned, "poisoned"),
];

/// Reads the log when it is scraped, so that nothing has to be kept up to date.
struct LogCollector<S> {
    ledger: Ledger<S>,
    heads: Arc<HeadsSeen>,
}

struct HeadsSeen {
    published: AtomicU64,
    last: Mutex<Instant>,
}

impl<S> fmt::Debug for LogCollector<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogCollector")
    }
}

/// Registers the log's metrics and starts to count its heads, as long as the log lives.
pub(crate) fn register<S: Store>(registry: &mut Registry, ledger: &Ledger<S>) {
    let heads =
        Arc::new(HeadsSeen { published: AtomicU64::new(0), last: Mutex::new(Instant::now()) });
    tokio::spawn(count(ledger.heads(), Arc::clone(&heads)));
    registry.register_collector(Box::new(LogCollector { ledger: ledger.clone(), heads }));
}

async fn count(mut heads: watch::Receiver<Arc<Head>>, seen: Arc<HeadsSeen>) {
    while heads.changed().await.is_ok() {
        heads.mark_unchanged();
        seen.published.fetch_add(1, Ordering::Relaxed);
        *seen.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl<S: Store> Collector for LogCollector<S> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let size = ConstGauge::new(self.ledger.head().size.0);
        size.encode(encoder.encode_descriptor(
            "countersign_log_size",
            "Entries that the newest head covers",
            None,
            MetricType::Gauge,
        )?)?;
        let last = *self.heads.last.lock().unwrap_or_else(PoisonError::into_inner);
        let age = ConstGauge::new(last.elapsed().as_secs_f64());
        age.encode(encoder.encode_descriptor(
            "countersign_head_age",
            "Time since the newest periodic head was published, or since the start",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?)?;
        let published = ConstCounter::new(self.heads.published.load(Ordering::Relaxed));
        published.encode(encoder.encode_descriptor(
            "countersign_heads_published",
            "Periodic heads published since the start",
            None,
            MetricType::Counter,
        )?)?;
        let state = *self.ledger.state().borrow();
        let states = Family::<[(&str, &str); 1], Gauge>::default();
        for (each, name) in STATES {
            states.get_or_create(&[("state", name)]).set(i64::from(each == state));
        }
        states.encode(encoder.encode_descriptor(
            "countersign_log_state",
            "1 for the state that the log is in",
            None,
            <Gauge as TypedMetric>::TYPE,
        )?)
    }
}

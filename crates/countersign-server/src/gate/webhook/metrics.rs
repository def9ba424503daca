//! What the webhook counts, in OpenMetrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_core::encoding::Micros;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::identity;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    why: &'static str,
}

/// Counters of the webhook; clones count together.
#[derive(Debug, Clone, Default)]
pub struct WebhookMetrics {
    delivered: Counter,
    failures: Family<FailureLabels, Counter>,
    failing: Gauge,
    /// `logged_at` of the signal in hand; 0 while none waits.
    oldest: Arc<AtomicU64>,
}

impl WebhookMetrics {
    /// Registers the webhook's metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "countersign_webhook_delivered",
            "Signals that the receiver took",
            metrics.delivered.clone(),
        );
        registry.register(
            "countersign_webhook_failures",
            "Attempts to deliver a signal that failed, by why",
            metrics.failures.clone(),
        );
        registry.register(
            "countersign_webhook_failing",
            "1 while the last attempt to deliver a signal failed",
            metrics.failing.clone(),
        );
        registry.register_collector(Box::new(Lag(Arc::clone(&metrics.oldest))));
        metrics
    }

    /// A signal is in hand.
    pub(super) fn waits(&self, logged_at: Micros) {
        self.oldest.store(logged_at.0, Ordering::Relaxed);
    }

    /// None is.
    pub(super) fn idle(&self) {
        self.oldest.store(0, Ordering::Relaxed);
        self.failing.set(0);
    }

    pub(super) fn delivered(&self) {
        self.delivered.inc();
        self.failing.set(0);
    }

    pub(super) fn failed(&self, why: &'static str) {
        self.failures.get_or_create(&FailureLabels { why }).inc();
        self.failing.set(1);
    }
}

/// The age of the signal in hand, at the time of the scrape.
#[derive(Debug)]
struct Lag(Arc<AtomicU64>);

impl Collector for Lag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let lag = match self.0.load(Ordering::Relaxed) {
            0 => 0,
            logged_at => identity::now().0.saturating_sub(logged_at) / 1_000_000,
        };
        ConstGauge::new(lag).encode(encoder.encode_descriptor(
            "countersign_webhook_lag",
            "Age of the oldest signal that waits to be delivered",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?)
    }
}

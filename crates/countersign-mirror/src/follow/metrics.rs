//! What a mirror tells about itself: how far it is, and how old its newest head.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How one log's following stands.
#[derive(Debug, Default)]
pub struct Status {
    /// Entries of the head that is held.
    pub held: AtomicU64,
    /// Entries of the newest head that the log showed.
    pub seen: AtomicU64,
    /// Entries that were proved and kept on the way to it.
    pub copied: AtomicU64,
    /// The time of the held head by the log's clock, seconds since the epoch; 0 where there is none.
    pub head_seconds: AtomicU64,
    /// Bytes of tiles and bundles fetched.
    pub bytes: AtomicU64,
    /// Rounds that ended well.
    pub rounds: AtomicU64,
    /// Rounds that failed and are tried again.
    pub failures: AtomicU64,
    /// Findings.
    pub alarms: AtomicU64,
    /// Evidence files kept by this process.
    pub evidence: AtomicU64,
    /// Entries of a version or kind that this program does not know.
    pub unread: AtomicU64,
    /// Whether the log is followed no more.
    pub stopped: AtomicBool,
}

/// The mirror's metrics, read when they are scraped.
struct Mirrors {
    logs: Vec<(String, Arc<Status>)>,
    now: fn() -> u64,
}

/// Registers the metrics of these logs. `now` gives seconds since the epoch.
pub fn register(logs: Vec<(String, Arc<Status>)>, now: fn() -> u64, registry: &mut Registry) {
    registry.register_collector(Box::new(Mirrors { logs, now }));
}

impl fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mirrors")
    }
}

type Row = (&'static str, &'static str, fn(&Status, u64) -> u64);

fn read(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

const GAUGES: [Row; 5] = [
    ("countersign_mirror_size", "Entries that the held head covers", |s, _| read(&s.held)),
    ("countersign_mirror_lag", "Entries of the log's newest head that are not held yet", |s, _| {
        read(&s.seen).saturating_sub(read(&s.held))
    }),
    (
        "countersign_mirror_head_age_seconds",
        "Seconds since the log's clock cosigned the held head",
        |s, now| match read(&s.head_seconds) {
            0 => 0,
            then => now.saturating_sub(then),
        },
    ),
    ("countersign_mirror_stopped", "1 where the log is followed no more", |s, _| {
        u64::from(s.stopped.load(Ordering::Relaxed))
    }),
    (
        "countersign_mirror_unread",
        "Entries of a version or kind that this program does not know",
        |s, _| read(&s.unread),
    ),
];

const COUNTERS: [Row; 5] = [
    ("countersign_mirror_rounds", "Rounds that ended well", |s, _| read(&s.rounds)),
    ("countersign_mirror_failures", "Rounds that failed and are tried again", |s, _| {
        read(&s.failures)
    }),
    ("countersign_mirror_alarms", "Findings that a log is guilty of", |s, _| read(&s.alarms)),
    ("countersign_mirror_fetched_bytes", "Bytes of tiles and bundles fetched", |s, _| {
        read(&s.bytes)
    }),
    ("countersign_mirror_evidence", "Evidence files kept", |s, _| read(&s.evidence)),
];

impl Collector for Mirrors {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = (self.now)();
        for (name, help, value) in GAUGES {
            let family = Family::<[(&str, String); 1], Gauge>::default();
            for (origin, status) in &self.logs {
                let value = i64::try_from(value(status, now)).unwrap_or(i64::MAX);
                family.get_or_create(&[("origin", origin.clone())]).set(value);
            }
            family.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                <Gauge as TypedMetric>::TYPE,
            )?)?;
        }
        for (name, help, value) in COUNTERS {
            let metric = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            for (origin, status) in &self.logs {
                let labels = [("origin", origin.as_str())];
                let value = ConstCounter::new(value(status, now));
                value.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

//! What `/metrics` shows of the witnesses: who cosigns, who rests, and whether the quorum stands.

use std::sync::atomic::AtomicU64;

use countersign_core::hash::TreeSize;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::member::Member;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Who {
    witness: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    witness: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Published {
    quorum: &'static str,
}

/// The metrics, kept up to date by the council; clones show the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    requests: Family<Answered, Counter>,
    sizes: Family<Who, Gauge>,
    rests: Family<Who, Gauge<f64, AtomicU64>>,
    heads: Family<Published, Counter>,
    quorum: Gauge,
    witnessed: Gauge,
}

impl Seen {
    /// Of these witnesses, of whom nothing was heard yet.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let seen = Self::default();
        for name in names {
            let who = Who { witness: name.to_owned() };
            seen.sizes.get_or_create(&who).set(0);
            seen.rests.get_or_create(&who).set(0.0);
        }
        seen
    }

    /// Shows them in a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "countersign_cosign_requests",
            "Heads that a witness was asked to cosign, by how that ended",
            self.requests.clone(),
        );
        registry.register(
            "countersign_cosign_size",
            "Entries that the head covers which a witness cosigned last for this process",
            self.sizes.clone(),
        );
        registry.register_with_unit(
            "countersign_cosign_rest",
            "How long a witness is not asked after its last failure; 0 where it did not fail",
            Unit::Seconds,
            self.rests.clone(),
        );
        registry.register(
            "countersign_cosign_heads",
            "Periodic heads published, by whether a quorum cosigned them",
            self.heads.clone(),
        );
        registry.register(
            "countersign_cosign_quorum",
            "1 where a quorum cosigned the newest periodic head",
            self.quorum.clone(),
        );
        registry.register(
            "countersign_cosign_witnessed_size",
            "Entries that the newest head covers which a quorum cosigned and which is kept",
            self.witnessed.clone(),
        );
    }

    /// How the last request to this witness ended.
    pub(super) fn heard_of(&self, member: &Member) {
        let Some(last) = member.last else { return };
        let witness = member.name().to_owned();
        let result = last.map_or_else(|why| why, |_| "cosigned");
        self.requests.get_or_create(&Answered { witness: witness.clone(), result }).inc();
        let who = Who { witness };
        if let Ok(size) = last {
            self.sizes.get_or_create(&who).set(gauge(size));
        }
        self.rests.get_or_create(&who).set(member.rest().as_secs_f64());
    }

    /// A head was published; `kept` where records are proven at it.
    pub(super) fn published(&self, size: TreeSize, quorum: bool, kept: bool) {
        let labels = Published { quorum: if quorum { "yes" } else { "no" } };
        self.heads.get_or_create(&labels).inc();
        self.quorum.set(i64::from(quorum));
        if kept {
            self.witnessed(size);
        }
    }

    /// The newest witnessed head.
    pub(super) fn witnessed(&self, size: TreeSize) {
        self.witnessed.set(gauge(size));
    }
}

fn gauge(size: TreeSize) -> i64 {
    i64::try_from(size.0).unwrap_or(i64::MAX)
}

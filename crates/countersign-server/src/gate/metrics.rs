//! What a gate counts. Reason codes are a policy's own words and no labels: only the codes of the
//! gate itself are told apart.

use std::sync::atomic::AtomicI64;

use countersign_gate::GateCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::rows::ReasonRow;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    outcome: &'static str,
    /// A code of the gate's own, or `policy`.
    by: &'static str,
}

/// Counters and gauges of a gate; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct GateMetrics {
    answers: Family<VerdictLabels, Counter>,
    unrecorded: Counter,
    rejected: Counter,
    outbox: Gauge<i64, AtomicI64>,
    waiting: Gauge<i64, AtomicI64>,
    reachable: Gauge<i64, AtomicI64>,
}

impl GateMetrics {
    /// Registers them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "countersign_gate_answers",
            "Answers to intents, by outcome and by who decided: policy, or the gate's own code",
            self.answers.clone(),
        );
        registry.register(
            "countersign_gate_unrecorded",
            "Answers that left before their verdict was in the log",
            self.unrecorded.clone(),
        );
        registry.register(
            "countersign_gate_rejected",
            "Records that the ledger refused for good",
            self.rejected.clone(),
        );
        registry.register(
            "countersign_gate_outbox",
            "Records that wait to be logged",
            self.outbox.clone(),
        );
        registry.register(
            "countersign_gate_waiting",
            "Supervised actions that wait for people",
            self.waiting.clone(),
        );
        registry.register(
            "countersign_gate_ledger_reachable",
            "1 while the ledger answers",
            self.reachable.clone(),
        );
    }

    pub(crate) fn answer(&self, outcome: &str, reasons: &[ReasonRow], recorded: bool) {
        let outcome = match outcome {
            "approve" => "approve",
            "supervise" => "supervise",
            _ => "refuse",
        };
        let own = reasons.first().filter(|reason| reason.policy.is_none());
        let by = own.and_then(|reason| GateCode::from_text(&reason.code));
        let by = by.map_or("policy", GateCode::as_str);
        self.answers.get_or_create(&VerdictLabels { outcome, by }).inc();
        if !recorded {
            self.unrecorded.inc();
        }
    }

    pub(crate) fn rejected(&self) {
        self.rejected.inc();
    }

    pub(crate) fn set_depths(&self, outbox: u64, waiting: u64) {
        self.outbox.set(i64::try_from(outbox).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_reachable(&self, is: bool) {
        self.reachable.set(i64::from(is));
    }
}

//! Reconciliation: which approvals, permits and effects of a set of records don't fit each other.
//!
//! A pure function of records and a time. It believes the records, so whoever calls has verified
//! them; what was not given it can't know of, so whoever calls gives whole streams. What is absent:
//! effects that nobody reported. Those are found where they happened, and reported as outcomes.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::record::View;
use countersign_core::verify::Facts;
use serde_json::Value;

countersign_core::registry! {
    /// What does not fit, the gravest first. The texts are stable: scripts may match them.
    pub enum Matter;

    Diverged "DIVERGED" "An approval was voided, and its action was done all the same." "Undo or accept the effect, and find out why the executor acted without the gate's answer.";
    OutcomeWithoutApproval "OUTCOME_WITHOUT_APPROVAL" "An effect was reported under a verdict that is no approval, or under a permit that no approval carries." "Find out who acted, undo or accept the effect, and take the path that bypassed the gate away.";
    SecondEffect "SECOND_EFFECT" "A permit was used again: an effect was reported after the one that it covers." "Find out who acted twice, undo or accept the effect, and have the executor use each permit once.";
    OrphanEffect "ORPHAN_EFFECT" "An effect was reported that no verdict covers." "Find out who acted, undo or accept the effect, and put the gate before that path.";
    DigestMismatch "DIGEST_MISMATCH" "What was done is not what was approved." "Compare the effect with the verdict's parameters, and undo what goes beyond them.";
    Late "LATE" "An effect was observed after the end of its permit." "Find out why the executor acted so late, and whether what it relied on was still true.";
    OtherReporter "OTHER_REPORTER" "An executor reported an effect under a permit that is another one's." "Find out how the permit came to it, and name the executor as audience when its permit is asked for.";
    ApprovalWithoutOutcome "APPROVAL_WITHOUT_OUTCOME" "A permit has expired, and nobody reported what became of it." "Ask the executor, look at the system that it acts on, and report the outcome.";
    SupervisionOpen "SUPERVISION_OPEN" "A supervised action has expired, and no verdict answers it." "Look whether the gate runs: it refuses what expires.";
    GateSilent "GATE_SILENT" "A gate has recorded nothing, not even a heartbeat, for longer than allowed." "Look whether the gate and its ledger run, and whether the callers still ask it.";
}

/// One record, verified by whoever calls.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its values.
    pub view: View,
    /// Its root.
    pub root: RecordRoot,
    /// Its entry.
    pub entry: Entry,
    /// Its place in the log.
    pub index: u64,
}

impl Known {
    /// Of what verification read; `None` where something of it could not be read.
    pub fn of(facts: &Facts) -> Option<Self> {
        let view = facts.view.clone()?;
        Some(Self { view, root: facts.root?, entry: facts.entry?, index: facts.index })
    }

    fn is_verdict(&self, outcome: &str) -> bool {
        self.view.kind() == Kind::Verdict && self.view.str("outcome") == Some(outcome)
    }

    fn is_enforced(&self) -> bool {
        self.view.str("mode") == Some("enforce")
    }

    fn member(&self, field: &str, name: &str) -> Option<&str> {
        self.view.get(field)?.get(name)?.as_str()
    }

    fn time(&self, field: &str, name: &str) -> Option<Micros> {
        Micros::parse(self.member(field, name)?)
    }

    /// What the gate found wrong with an outcome.
    fn codes(&self) -> impl Iterator<Item = &str> {
        let codes = self.view.get("detail").and_then(|detail| detail.get("codes")?.as_array());
        codes.into_iter().flatten().filter_map(Value::as_str)
    }

    /// An outcome that tells of something done, or perhaps done.
    fn is_effect(&self) -> bool {
        self.view.kind() == Kind::Outcome && self.view.str("result") != Some("not_executed")
    }
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What.
    pub matter: Matter,
    /// Where it stands in the log: the record that shows it, a silent gate's last one.
    pub index: u64,
    /// The gate.
    pub gate: String,
    /// The action, where there is one.
    pub action_id: Option<String>,
    /// The permit, where there is one.
    pub permit: Option<String>,
    /// Since when, where that is what matters: expiry, or the last sign of life.
    pub since: Option<Micros>,
}

impl Finding {
    fn new(matter: Matter, record: &Known, since: Option<Micros>) -> Self {
        let permit = match record.view.kind() {
            Kind::Outcome => record.view.str("permit"),
            _ => record.member("permit", "id"),
        };
        Self {
            matter,
            index: record.index,
            gate: record.view.str("gate").unwrap_or_default().to_owned(),
            action_id: record.view.str("action_id").map(str::to_owned),
            permit: permit.map(str::to_owned),
            since,
        }
    }
}

/// All that does not fit at the time `now`, the gravest first, then by place in the log. A gate is
/// silent when its newest record was logged more than `silent_after_us` microseconds before.
pub fn findings(records: &[Known], now: Micros, silent_after_us: u64) -> Vec<Finding> {
    let known = Index::new(records);
    let mut found = Vec::new();
    for record in records {
        match record.view.kind() {
            Kind::Verdict => known.verdict(record, now, &mut found),
            Kind::Outcome => known.outcome(record, &mut found),
            _ => {}
        }
    }
    found.extend(silent(records, now, silent_after_us));
    found.sort();
    // The same record may have been given twice.
    found.dedup();
    found
}

/// The records by what others name them by.
struct Index<'r> {
    verdicts: BTreeMap<String, &'r Known>,
    /// Children by their parent's root.
    children: BTreeMap<&'r str, Vec<&'r Known>>,
    outcomes: Vec<&'r Known>,
    superseded: BTreeSet<&'r str>,
}

impl<'r> Index<'r> {
    fn new(records: &'r [Known]) -> Self {
        let verdicts = records.iter().filter(|record| record.view.kind() == Kind::Verdict);
        let mut children: BTreeMap<&str, Vec<&Known>> = BTreeMap::new();
        for verdict in verdicts.clone() {
            if let Some(parent) = verdict.view.str("parent") {
                children.entry(parent).or_default().push(verdict);
            }
        }
        let outcomes: Vec<&Known> =
            records.iter().filter(|record| record.view.kind() == Kind::Outcome).collect();
        Self {
            verdicts: verdicts.map(|verdict| (verdict.root.hex(), verdict)).collect(),
            children,
            superseded: outcomes.iter().filter_map(|known| known.view.str("supersedes")).collect(),
            outcomes,
        }
    }

    fn children(&self, root: RecordRoot) -> &[&'r Known] {
        self.children.get(root.hex().as_str()).map_or(&[], Vec::as_slice)
    }

    /// Whether a refuse took this approve back (LIFE-2).
    fn is_voided(&self, approve: &Known) -> bool {
        self.children(approve.root).iter().any(|child| child.is_verdict("refuse"))
    }

    fn verdict(&self, verdict: &Known, now: Micros, found: &mut Vec<Finding>) {
        if !verdict.is_enforced() {
            return;
        }
        if verdict.is_verdict("supervise") {
            let expires = verdict.time("requires", "expires_at");
            if expires.is_some_and(|at| at < now) && self.children(verdict.root).is_empty() {
                found.push(Finding::new(Matter::SupervisionOpen, verdict, expires));
            }
        }
        if verdict.is_verdict("approve") && !self.is_voided(verdict) {
            let expired = verdict.time("permit", "not_after").filter(|at| *at < now);
            let root = verdict.root.hex();
            let is_of = |outcome: &&Known| outcome.view.str("verdict") == Some(&root);
            if expired.is_some() && !self.outcomes.iter().copied().any(|each| is_of(&each)) {
                found.push(Finding::new(Matter::ApprovalWithoutOutcome, verdict, expired));
            }
        }
    }

    fn outcome(&self, outcome: &Known, found: &mut Vec<Finding>) {
        if !outcome.is_effect() {
            return;
        }
        let mut matters = Vec::new();
        if outcome.view.str("match") == Some("orphan") {
            let second = outcome.codes().any(|code| code == Matter::SecondEffect.as_str());
            matters.push(if second { Matter::SecondEffect } else { Matter::OrphanEffect });
        } else {
            let named = outcome.view.str("verdict").and_then(|root| self.verdicts.get(root));
            matters.extend(named.map_or(Some(Matter::OutcomeWithoutApproval), |verdict| {
                self.unreleased(outcome, verdict)
            }));
            let digest = |known: &Known, name| known.view.str(name).map(str::to_owned);
            let done = digest(outcome, "effect_digest");
            let approved = named.and_then(|verdict| digest(verdict, "action_digest"));
            let differs = done.is_some() && approved.is_some() && done != approved;
            // A corrected report is judged by its correction.
            let corrected = self.superseded.contains(outcome.root.hex().as_str());
            if !corrected && (differs || outcome.view.str("match") == Some("mismatch")) {
                matters.push(Matter::DigestMismatch);
            }
            matters.extend(named.and_then(|verdict| late(outcome, verdict)));
            matters.extend(named.and_then(|verdict| other_reporter(outcome, verdict)));
        }
        found.extend(matters.into_iter().map(|matter| Finding::new(matter, outcome, None)));
    }

    /// Why a verdict releases no such effect; `None` where it does.
    fn unreleased(&self, outcome: &Known, verdict: &Known) -> Option<Matter> {
        if !verdict.is_enforced() {
            // In shadow mode the gate only watches, and every action goes ahead.
            return None;
        }
        let permit = outcome.view.get("permit").and_then(Value::as_str);
        if !verdict.is_verdict("approve") || permit != verdict.member("permit", "id") {
            return Some(Matter::OutcomeWithoutApproval);
        }
        // Done before it was voided (LIFE-8 forbids such a void) or after: both are on record.
        self.is_voided(verdict).then_some(Matter::Diverged)
    }
}

/// Whether something was done after the end of its permit. That it was undone may be seen later.
fn late(outcome: &Known, verdict: &Known) -> Option<Matter> {
    let ended = verdict.time("permit", "not_after")?;
    let observed = outcome.view.str("observed_at").and_then(Micros::parse)?;
    (observed > ended && outcome.view.str("result") != Some("reverted")).then_some(Matter::Late)
}

/// Whether the executor that reported is not the one that the permit is for, by the gate's word on
/// who it was; other makers of records may not say.
fn other_reporter(outcome: &Known, verdict: &Known) -> Option<Matter> {
    let audience = verdict.member("permit", "audience")?;
    let reporter = outcome.member("detail", "reporter")?;
    let is_executor = outcome.view.str("attested_by") == Some("executor");
    (is_executor && reporter != audience).then_some(Matter::OtherReporter)
}

/// Gates whose newest record is too old, whatever the number of their streams.
fn silent(records: &[Known], now: Micros, after_us: u64) -> Vec<Finding> {
    let mut newest: BTreeMap<(&str, &str), &Known> = BTreeMap::new();
    for record in records {
        let name = (record.view.str("tenant"), record.view.str("gate"));
        // The ledger's own records are no gate's.
        let (Some(tenant), Some(gate)) = name else { continue };
        if gate.is_empty() {
            continue;
        }
        let last = newest.entry((tenant, gate)).or_insert(record);
        if record.index > last.index {
            *last = record;
        }
    }
    let is_silent = |record: &&Known| now.0.saturating_sub(record.entry.logged_at.0) > after_us;
    let last = newest.into_values().filter(is_silent);
    last.map(|record| Finding {
        action_id: None,
        permit: None,
        ..Finding::new(Matter::GateSilent, record, Some(record.entry.logged_at))
    })
    .collect()
}

#[cfg(test)]
mod tests;

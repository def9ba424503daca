//! What a pack's records say of each other (PACK-26, PACK-27, PACK-29).

use std::collections::{BTreeMap, BTreeSet};

use super::erasures::Erasures;
use super::openings::Opened;
use super::report::{Counts, Findings, PackFinding, Place, Weight};
use super::shelf::{self, Shelf, Subject};
use super::{Asked, GateKey, PackFile};
use crate::codes::{Code, Culprit, Fault};
use crate::encoding::{Micros, from_hex_array};
use crate::entry::Entry;
use crate::hash::RecordRoot;
use crate::kinds::Kind;
use crate::lifecycle::{
    ACTION_RECORDS_MAX, History, Turn, action_of, check, check_without_action, turn,
};
use crate::query::Answer;
use crate::record::View;
use crate::stream::StreamId;
use crate::verify::{Facts, Finding, Report, Verdict};

/// A doubt about a record that is none if these records were erased: their indexes, and when they
/// were logged.
struct Deferred {
    index: u64,
    doubt: Finding,
    because: Box<[(u64, Micros)]>,
}

impl Deferred {
    fn finding(&self) -> PackFinding {
        PackFinding {
            weight: Weight::Doubt,
            fault: self.doubt.fault,
            step: Some(self.doubt.step),
            place: Place::file(PackFile::Evidence(self.index)),
        }
    }
}

/// A record of which nobody here can tell whether it was asked for.
struct Untold {
    index: u64,
    logged_at: Micros,
    stream: StreamId,
    seq: u64,
}

/// The records that were read so far.
pub(super) struct Records {
    asked: Asked,
    /// Whether only some records were asked for.
    some: bool,
    shelf: Shelf,
    deferred: Vec<Deferred>,
    /// Records that withhold something, and when they were logged.
    withheld: Vec<(u64, Micros)>,
    erasures: Erasures,
    untold: Vec<Untold>,
    policies: BTreeSet<[u8; 32]>,
    pub(super) all: Counts,
    pub(super) claimed: Counts,
    pub(super) refusals: Vec<u64>,
    pub(super) voids: Vec<u64>,
    pub(super) diverged: Vec<u64>,
    pub(super) matching: Vec<u64>,
    /// Gates of the tenant, and the keys that they opened streams with.
    pub(super) opened: BTreeSet<(String, [u8; 32])>,
    /// The openings of streams that the pack shows.
    pub(super) openings: Opened,
    pub(super) not_checked: BTreeMap<String, u64>,
}

/// Where a record stands to what the pack claims.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The pack claims nothing: it holds what was asked for.
    Asked,
    /// It is one of those that the pack claims to hold all of.
    Claimed,
    /// It is there because others rest on it.
    Beside,
}

impl Records {
    pub(super) fn new(asked: Asked) -> Self {
        let query = &asked.query;
        let some = !query.filters().is_empty() || query.from().is_some() || query.to().is_some();
        Self {
            asked,
            some,
            shelf: Shelf::default(),
            deferred: Vec::new(),
            withheld: Vec::new(),
            erasures: Erasures::default(),
            untold: Vec::new(),
            policies: BTreeSet::new(),
            all: Counts::default(),
            claimed: Counts::default(),
            refusals: Vec::new(),
            voids: Vec::new(),
            diverged: Vec::new(),
            matching: Vec::new(),
            opened: BTreeSet::new(),
            openings: Opened::default(),
            not_checked: BTreeMap::new(),
        }
    }

    /// Whether only some records were asked for.
    pub(super) fn asked_for_some(&self) -> bool {
        self.some
    }

    /// Digests of the policies that verdicts name.
    pub(super) fn policies(&self) -> &BTreeSet<[u8; 32]> {
        &self.policies
    }

    /// Whether a stream was opened with this key, by what the pack shows.
    pub(super) fn opened(&self, key: &GateKey) -> bool {
        self.opened.contains(&(key.gate.clone(), key.key))
    }

    fn unchecked(&mut self, what: impl Into<String>) {
        *self.not_checked.entry(what.into()).or_default() += 1;
    }

    /// Takes the doubts of one file: those that withholding leaves are no doubts where an erasure
    /// explains them, which stands further on in the log.
    pub(super) fn doubts(&mut self, index: u64, report: &Report, findings: &mut Findings) {
        let withholds = |facts: &Facts| {
            facts.view.as_ref().is_some_and(|view| view.withheld().next().is_some())
        };
        let all = std::iter::once(report).chain(&report.supporting);
        // A record without a time was not read to its end, and nothing explains it.
        let logged = |facts: &Facts| facts.entry.map_or(Micros(u64::MAX), |entry| entry.logged_at);
        let because: Vec<(u64, Micros)> = all
            .filter(|report| withholds(&report.facts))
            .map(|report| (report.facts.index, logged(&report.facts)))
            .collect();
        for doubt in &report.doubts {
            let by_withholding =
                matches!(doubt.fault.code, Code::PersonUnchecked | Code::ApprovalsWithheld);
            let because = because.as_slice().into();
            let deferred = Deferred { index, doubt: *doubt, because };
            if by_withholding && !deferred.because.is_empty() {
                self.deferred.push(deferred);
            } else {
                findings.note(deferred.finding());
            }
        }
        for what in &report.not_checked {
            // The pack asks of its heads and of all records together what one file can't answer.
            let by_pack = ["clock", "witnesses", "voided later", "the verdict it answers"];
            if let Some(name) = what.strip_prefix("field:") {
                let kind = report.facts.view.as_ref().map_or("record", |view| view.kind().as_str());
                self.unchecked(format!("field:{kind}.{name}"));
            } else if !by_pack.contains(&what.as_str()) {
                self.unchecked(what.as_str());
            }
        }
    }

    /// Takes one record that is not INVALID, in ascending order of indexes.
    pub(super) fn take(
        &mut self,
        index: u64,
        standing: Standing,
        report: &Report,
        findings: &mut Findings,
    ) {
        let facts = &report.facts;
        let (Some(view), Some(root), Some(entry)) = (&facts.view, facts.root, facts.entry) else {
            return;
        };
        let place = Place::entry(index, entry.stream, entry.seq);
        if !self.belongs(report) || !report.supporting.iter().all(|other| self.belongs(other)) {
            findings.fault(Code::PackForeign.at_index(index), place);
            return;
        }
        if view.withheld().next().is_some() {
            self.withheld.push((index, entry.logged_at));
        }
        self.count(index, standing, report, view);
        self.asked(index, standing, report, findings);
        if entry.stream == StreamId::LEDGER {
            self.own(index, report, view);
        } else if let Err(fault) = self.lifecycle(index, standing, report, view, root) {
            findings.fault(fault, place);
        }
    }

    /// PACK-26: the tenant's own records, and the ledger's about it.
    fn belongs(&self, report: &Report) -> bool {
        let (Some(view), Some(entry)) = (&report.facts.view, report.facts.entry) else {
            return true;
        };
        let tenant = |said: Option<&str>| said.is_none_or(|said| said == self.asked.tenant);
        match (entry.stream == StreamId::LEDGER, view.kind()) {
            (true, Kind::Stream) => tenant(view.str("subject_tenant")),
            (true, Kind::Erasure) => tenant(report.facts.person_tenant.as_deref()),
            (true, _) => true,
            (false, _) => tenant(view.str("tenant")),
        }
    }

    /// PACK-27: what was asked holds of each record that is there for it.
    fn asked(&mut self, index: u64, standing: Standing, report: &Report, findings: &mut Findings) {
        let (Some(view), Some(entry)) = (&report.facts.view, &report.facts.entry) else { return };
        if !self.some {
            return;
        }
        // Verdicts rest on these, and the ledger's own explain the others.
        let companion = entry.stream == StreamId::LEDGER
            || matches!(view.kind(), Kind::Policy | Kind::Grant | Kind::Notice);
        match (self.asked.query.ask(entry, view), standing) {
            (Answer::Yes, Standing::Claimed | Standing::Asked) => self.matching.push(index),
            (Answer::No, Standing::Asked) if !companion => {
                let place = Place::entry(index, entry.stream, entry.seq);
                findings.fault(Code::PackNotAsked.at_index(index), place);
            }
            (Answer::Withheld, Standing::Claimed | Standing::Asked) => {
                self.unchecked("asked: what would tell is withheld");
                if standing == Standing::Claimed {
                    let Entry { logged_at, stream, seq, .. } = *entry;
                    self.untold.push(Untold { index, logged_at, stream, seq });
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, index: u64, standing: Standing, report: &Report, view: &View) {
        let claimed = standing == Standing::Claimed;
        let mut counted = vec![&mut self.all];
        if claimed {
            counted.push(&mut self.claimed);
        }
        let shadow = view.str("mode") == Some("shadow");
        for counts in counted {
            counts.records += 1;
            counts.late += u64::from(report.facts.late);
            let of_kind = match (view.kind(), shadow) {
                (Kind::Intent, _) => &mut counts.intents,
                (Kind::Verdict, true) => &mut counts.shadow,
                (Kind::Verdict, false) => &mut counts.verdicts,
                (Kind::Approval, _) => &mut counts.approvals,
                (Kind::Outcome, _) => &mut counts.outcomes,
                (Kind::Policy, _) => &mut counts.policies,
                (Kind::Grant, _) => &mut counts.grants,
                (Kind::Notice, _) => &mut counts.notices,
                _ => continue,
            };
            *of_kind += 1;
            match view.str("outcome") {
                Some("approve") if !shadow => counts.approve += 1,
                Some("refuse") if !shadow => counts.refuse += 1,
                Some("supervise") if !shadow => counts.supervise += 1,
                _ => {}
            }
        }
        if view.kind() != Kind::Verdict {
            return;
        }
        if claimed && !shadow && view.str("outcome") == Some("refuse") {
            self.refusals.push(index);
        }
        let digest = view.get("policy").and_then(|policy| policy.get("digest"));
        self.policies.extend(digest.and_then(|d| d.as_str()).and_then(from_hex_array::<32>));
    }

    /// The ledger's own records: who opened a stream, and what was erased.
    fn own(&mut self, index: u64, report: &Report, view: &View) {
        match view.kind() {
            Kind::Stream => {
                let key = view.str("gate_key").and_then(from_hex_array::<32>);
                let gate = view.str("subject_gate").map(str::to_owned);
                self.opened.extend(gate.zip(key));
                self.openings.take(index, view);
            }
            // PACK-29: only a person of the tenant's own, whose signature verified, erases.
            Kind::Erasure
                if report.result == Verdict::Valid
                    && report.facts.person_tenant.as_ref() == Some(&self.asked.tenant) =>
            {
                self.erasures.take(index, view);
            }
            _ => {}
        }
    }

    /// LIFE-1 to LIFE-13 over all records of the action that the pack shows, those that others rest
    /// on among them.
    fn lifecycle(
        &mut self,
        index: u64,
        standing: Standing,
        report: &Report,
        view: &View,
        root: RecordRoot,
    ) -> Result<(), Fault> {
        let Some(id) = action_of(view) else {
            return check_without_action(view).map_err(|fault| fault.code.at_index(index));
        };
        let Some(record) = Subject::of(&report.facts) else { return Ok(()) };
        let kept = &mut self.shelf;
        for other in &report.supporting {
            let same = other.facts.view.as_ref().and_then(action_of) == Some(id);
            let other = Subject::of(&other.facts).filter(|_| same);
            if let Some(other) = other.filter(|other| !kept.has(&id, other.root)) {
                kept.put(&id, shelf::Standing::Seen, &other);
            }
        }
        // One record at two places of the log: its numbers or its evidence say so.
        if kept.has_judged(&id, root) {
            return Ok(());
        }
        // What another file showed of this record says nothing for it, and what came later had no
        // part in it, whoever put it there (PACK-27).
        kept.forget(&id, root);
        let records = kept.count(&id);
        // To an action that is full nothing is added, whatever it was (LIFE-12).
        let full = records >= ACTION_RECORDS_MAX;
        let before = if full { Vec::new() } else { kept.before(&id, index) };
        let new = record.fact();
        let history = History { facts: &before, records, whole: false };
        let doubts = check(&new, &history).map_err(|fault| fault.code.at_index(index))?;
        if standing == Standing::Claimed {
            match turn(&new, &before) {
                Some(Turn::Voids) => self.voids.push(index),
                Some(Turn::Diverges) => self.diverged.push(index),
                None => {}
            }
        }
        if new.binds() {
            kept.put(&id, shelf::Standing::Judged, &record);
        }
        for doubt in doubts {
            self.unchecked(unasked(doubt));
        }
        Ok(())
    }

    /// What was erased, and of which records nobody can tell whether they were asked for; the doubts
    /// that erasures don't explain.
    pub(super) fn end(&mut self, findings: &mut Findings) -> Ended {
        let is_erased =
            |&(index, logged_at): &(u64, Micros)| self.erasures.explain(index, logged_at);
        let mut explained = 0;
        for deferred in &self.deferred {
            if deferred.because.iter().all(is_erased) {
                explained += 1;
            } else {
                findings.note(deferred.finding());
            }
        }
        let erased = self.withheld.iter().filter(|record| is_erased(record));
        let erased = erased.map(|(index, _)| *index).collect();
        // PACK-27: what the tenant erased, nobody can tell any more. What is only withheld, the
        // pack's maker keeps from whoever asked.
        for &Untold { index, logged_at, stream, seq } in &self.untold {
            let place = Place::entry(index, stream, seq);
            let fault = Code::PackMatchWithheld.at_index(index);
            if is_erased(&(index, logged_at)) {
                findings.warn(fault, place);
            } else {
                findings.doubt(fault, place);
            }
        }
        let untold = self.untold.iter().map(|untold| untold.index).collect();
        if explained > 0 {
            self.not_checked.insert("a person's signature, erased".to_owned(), explained);
        }
        Ended { erased, untold }
    }
}

/// Records of which less is known than of others, ascending.
pub(super) struct Ended {
    /// Those that were erased.
    pub(super) erased: Vec<u64>,
    /// Those that may have been asked for.
    pub(super) untold: Vec<u64>,
}

/// A doubt of the lifecycle as the report words it.
fn unasked(doubt: Fault) -> String {
    let name = match doubt.culprit {
        Culprit::Field(name) => name,
        _ => "a value",
    };
    if doubt.code == Code::LifecycleOutside {
        format!("lifecycle: what {name} names is not in the pack")
    } else {
        format!("lifecycle: {name} is withheld")
    }
}

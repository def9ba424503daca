//! The one verification procedure: eleven steps over an evidence file (spec/evidence.md, VER-1 to
//! VER-11).
//!
//! A doubt never stops; the first fault does, and wins. What is withheld or absent is reported as
//! not checked, never as passed. Without trust nothing is ever valid.

mod head;
mod memo;
mod release;
mod sealer;
mod sense;

use crate::codes::{Code, Fault};
use crate::encoding::{Micros, from_hex_array};
use crate::entry::Entry;
use crate::evidence::Evidence;
use crate::hash::RecordRoot;
use crate::kinds::{self, Kind};
use crate::record::View;
use crate::stream::StreamId;
use crate::trust::{Trust, TrustedLog};

pub use head::TrustedHead;
use memo::Memo;
pub use memo::Verifier;
pub use sense::signed_bytes as person_signed_bytes;

/// What verification comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every step that applies was passed.
    Valid,
    /// Nothing is proved wrong, but something needed is missing, withheld or unknown.
    Indeterminate,
    /// Proved wrong.
    Invalid,
}

impl Verdict {
    /// `VALID`, `INVALID` or `INDETERMINATE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Indeterminate => "INDETERMINATE",
            Self::Invalid => "INVALID",
        }
    }
}

/// One thing found at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The step, 1 to 11.
    pub step: u8,
    /// What was found.
    pub fault: Fault,
}

/// What could be read of a record on the way; worth as much as the report's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The record's values, where its kind is known.
    pub view: Option<View>,
    /// Its root.
    pub root: Option<RecordRoot>,
    /// Its entry.
    pub entry: Option<Entry>,
    /// The log's identity as the receipt has it.
    pub origin: String,
    /// Its place in the log.
    pub index: u64,
    /// The size of the tree that it was proven in.
    pub size: u64,
    /// The key whose seal has verified.
    pub sealed_by: Option<[u8; 32]>,
    /// Names of the witnesses that were counted.
    pub witnesses: Vec<String>,
    /// The id and key of the person who signed, once the signature has verified.
    pub person: Option<(String, [u8; 32])>,
    /// The tenant that this person's certificate names, once the signature has verified.
    pub person_tenant: Option<String>,
    /// Whether it was logged later than the skew after it was recorded.
    pub late: bool,
}

/// The outcome of verifying one file, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it comes to.
    pub result: Verdict,
    /// The fault that ended it, where there is one.
    pub fault: Option<Finding>,
    /// The doubts, in the order of their steps.
    pub doubts: Vec<Finding>,
    /// The steps that were gone through without a fault.
    pub steps: Vec<u8>,
    /// What was not checked, in words; names of withheld fields as `field:<name>`.
    pub not_checked: Vec<String>,
    /// What was read.
    pub facts: Facts,
    /// Reports of the supporting evidence, in the file's order.
    pub supporting: Vec<Report>,
}

impl Report {
    /// The finding that decides the result: the fault, or else the first doubt.
    pub fn decisive(&self) -> Option<Finding> {
        self.fault.or_else(|| self.doubts.first().copied())
    }
}

/// Verifies an evidence file. `trust` is all that is believed; without it nothing is VALID.
pub fn verify_file(bytes: &[u8], trust: Option<&Trust>) -> Report {
    Verifier::new(trust).verify_file(bytes)
}

/// Verifies parsed evidence with what it rests on.
pub fn verify(evidence: &Evidence, trust: Option<&Trust>) -> Report {
    Verifier::new(trust).verify(evidence)
}

struct Run<'a, 'm> {
    trust: Option<&'a Trust>,
    memo: &'m mut Memo<'a>,
    doubts: Vec<Finding>,
    steps: Vec<u8>,
    not_checked: Vec<String>,
    facts: Facts,
    supporting: Vec<Report>,
    keys: Vec<Vec<u8>>,
    log: Option<&'a TrustedLog>,
    clock_seconds: Option<u64>,
}

/// Why a step ended verification.
#[derive(Clone, Copy)]
enum Stop {
    /// Proved wrong.
    Fault(Fault),
    /// Unknown version or kind: nothing more can be said.
    End(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Code> for Stop {
    fn from(code: Code) -> Self {
        Self::Fault(code.into())
    }
}

type Step = Result<(), Stop>;

impl<'a, 'm> Run<'a, 'm> {
    fn new(trust: Option<&'a Trust>, memo: &'m mut Memo<'a>) -> Self {
        Self {
            trust,
            memo,
            doubts: Vec::new(),
            steps: Vec::new(),
            not_checked: Vec::new(),
            facts: Facts::default(),
            supporting: Vec::new(),
            keys: Vec::new(),
            log: None,
            clock_seconds: None,
        }
    }

    fn doubt(&mut self, step: u8, fault: impl Into<Fault>) {
        self.doubts.push(Finding { step, fault: fault.into() });
    }

    fn finish(self, outcome: Result<(), Finding>) -> Report {
        let fault = outcome.err();
        let result = if fault.is_some() {
            Verdict::Invalid
        } else if self.doubts.is_empty() {
            Verdict::Valid
        } else {
            Verdict::Indeterminate
        };
        Report {
            result,
            fault,
            doubts: self.doubts,
            steps: self.steps,
            not_checked: self.not_checked,
            facts: self.facts,
            supporting: self.supporting,
        }
    }

    fn steps(&mut self, evidence: &Evidence, top: bool) -> Result<(), Finding> {
        self.facts.origin.clone_from(&evidence.receipt.checkpoint.origin);
        self.facts.index = evidence.receipt.index.0;
        self.facts.size = evidence.receipt.checkpoint.size.0;
        // Step 1, parsing, was passed when there is an Evidence.
        self.steps.push(1);
        let steps: [fn(&mut Self, &Evidence) -> Step; 9] = [
            Self::names_and_root,
            Self::seal,
            Self::entry,
            Self::inclusion,
            Self::log,
            Self::witnesses,
            Self::sealer,
            Self::revocation,
            Self::times,
        ];
        let numbered = (2_u8..).zip(steps);
        for (number, step) in numbered {
            // Step 9 looks at every key, a person's too, so it comes after the person's is known.
            if number == 9 {
                let person = sense::person(self, evidence);
                if !self.settle(11, person)? {
                    return Ok(());
                }
            }
            let outcome = step(self, evidence);
            if !self.settle(number, outcome)? {
                return Ok(());
            }
            self.steps.push(number);
        }
        let outcome = sense::values(self, evidence);
        if !self.settle(11, outcome)? {
            return Ok(());
        }
        let outcome = release::supporting(self, evidence, top);
        if self.settle(11, outcome)? {
            self.steps.push(11);
        }
        Ok(())
    }

    /// Whether to go on after a step.
    fn settle(&mut self, step: u8, outcome: Step) -> Result<bool, Finding> {
        match outcome {
            Ok(()) => Ok(true),
            Err(Stop::Fault(fault)) => Err(Finding { step, fault }),
            Err(Stop::End(fault)) => {
                self.doubt(step, fault);
                Ok(false)
            }
        }
    }

    fn view(&self) -> Result<&View, Stop> {
        self.facts.view.as_ref().ok_or(Stop::Fault(Code::KindUnknown.into()))
    }

    fn read_entry(&self) -> Result<Entry, Stop> {
        self.facts.entry.ok_or(Stop::Fault(Code::EntryLength.into()))
    }

    /// VER-2.
    fn names_and_root(&mut self, evidence: &Evidence) -> Step {
        let kind = match evidence.record.type_shown() {
            Some(name) => Kind::from_type(&name).ok_or(Stop::End(Code::KindUnknown.into()))?,
            // Withheld: the entry's kind byte stands in, and step 2 says INDETERMINATE below.
            None => {
                Entry::from_bytes(&evidence.entry)
                    .map_err(|fault| match fault.code {
                        Code::EntryVersion | Code::EntryKind => Stop::End(fault),
                        _ => Stop::Fault(fault),
                    })?
                    .kind
            }
        };
        let view = evidence.record.view(kind)?;
        kinds::check(&view)?;
        // CONV-17: a log of a later format is not judged by the rules of this one.
        match view.get("format").and_then(serde_json::Value::as_u64) {
            Some(0) => return Err(Code::ValueShape.at_field("format").into()),
            Some(2..) => return Err(Stop::End(Code::VersionUnknown.at_field("format"))),
            Some(1) | None => {}
        }
        let withheld: Vec<&'static str> = view.withheld().collect();
        for name in withheld {
            self.not_checked.push(format!("field:{name}"));
            if kind.never_withheld(name) {
                self.doubt(2, Code::NeverWithheld.at_field(name));
            }
        }
        self.facts.root = Some(evidence.record.root()?);
        self.facts.view = Some(view);
        Ok(())
    }

    fn root(&self) -> Result<RecordRoot, Stop> {
        self.facts.root.ok_or(Stop::Fault(Code::FieldCount.into()))
    }

    /// VER-3.
    fn seal(&mut self, evidence: &Evidence) -> Step {
        self.memo.seal(&evidence.seal, &self.root()?)?;
        self.keys.push(evidence.seal.key.to_vec());
        self.facts.sealed_by = Some(evidence.seal.key);
        Ok(())
    }

    /// VER-4.
    fn entry(&mut self, evidence: &Evidence) -> Step {
        let entry = Entry::from_bytes(&evidence.entry).map_err(|fault| match fault.code {
            Code::EntryVersion | Code::EntryKind => Stop::End(fault),
            _ => Stop::Fault(fault),
        })?;
        let view = self.view()?;
        if entry.kind != view.kind() {
            return Err(Code::TypeMismatch.into());
        }
        if view.str("stream").is_some_and(|s| StreamId::from_hex(s) != Some(entry.stream)) {
            return Err(Code::EntryStream.into());
        }
        let seq = view.get("seq").and_then(serde_json::Value::as_u64);
        if seq.is_some_and(|seq| seq != entry.seq) {
            return Err(Code::EntrySeq.into());
        }
        // The first record of a stream has no record before it.
        let prev = view.str("prev").and_then(from_hex_array::<32>);
        if prev.is_some_and(|prev| (prev == [0; 32]) != (entry.seq == 0)) {
            return Err(Code::PrevMismatch.into());
        }
        if evidence.seal.sealed(&self.root()?) != entry.sealed {
            return Err(Code::EntrySealed.into());
        }
        let own = entry.stream == StreamId::LEDGER;
        let allowed = if own { entry.kind.in_ledger_stream() } else { entry.kind.in_gate_stream() };
        if !allowed {
            return Err(Code::StreamKind.into());
        }
        // ENT-6: a genesis record if and only if index 0.
        let first = evidence.receipt.index.0 == 0;
        if first != (entry.kind == Kind::Genesis) || (first && entry.seq != 0) {
            return Err(Code::GenesisPlace.into());
        }
        self.facts.entry = Some(entry);
        Ok(())
    }

    /// VER-5.
    fn inclusion(&mut self, evidence: &Evidence) -> Step {
        Ok(evidence.receipt.verify(&self.read_entry()?.leaf())?)
    }

    /// VER-6.
    fn log(&mut self, evidence: &Evidence) -> Step {
        let Some(trust) = self.trust else {
            self.doubt(6, Code::NoTrust);
            return Ok(());
        };
        let head = self.memo.head(&evidence.receipt.checkpoint, trust).log.clone()?;
        self.log = Some(head.log);
        self.clock_seconds = head.clock_seconds;
        match (head.clocks_known, head.clock_seconds) {
            (false, _) => self.not_checked.push("clock".into()),
            (true, None) => self.doubt(6, Code::ClockAbsent),
            (true, Some(_)) => {}
        }
        self.keys.extend(head.keys);
        Ok(())
    }

    /// VER-7.
    fn witnesses(&mut self, evidence: &Evidence) -> Step {
        let Some(trust) = self.trust else {
            self.not_checked.push("witnesses".into());
            return Ok(());
        };
        let Some(policy) = &trust.witnesses else {
            self.not_checked.push("witnesses".into());
            return Ok(());
        };
        if self.log.is_some_and(|log| !policy.accepts_log(&log.vkey)) {
            return Err(Code::LogNotInPolicy.into());
        }
        if policy.is_none() {
            self.not_checked.push("witnesses".into());
        }
        match self.memo.head(&evidence.receipt.checkpoint, trust).witnesses.clone()? {
            Some(witnesses) => self.facts.witnesses = witnesses,
            None => self.doubt(7, Code::WitnessQuorum),
        }
        Ok(())
    }

    /// VER-10.
    fn times(&mut self, _: &Evidence) -> Step {
        let entry = self.read_entry()?;
        // The trust file's skew, or the format's own where there is none.
        let skew = self.trust.map_or(300_000_000, |trust| trust.skew_us);
        if let Some(recorded) = self.view()?.str("recorded_at").and_then(Micros::parse) {
            if recorded.0 > entry.logged_at.0.saturating_add(skew) {
                return Err(Code::RecordedAhead.into());
            }
            self.facts.late = entry.logged_at.0 > recorded.0.saturating_add(skew);
        }
        if self.clock_seconds.is_some_and(|clock| clock < entry.logged_at.seconds()) {
            return Err(Code::ClockBeforeEntry.into());
        }
        Ok(())
    }
}

//! What verification of a pack comes to, in words (PACK-30 to PACK-34).

use std::collections::BTreeMap;

use super::words::{filters, indexes, kinds, some, time_text};
use super::{Asked, Claims, GateKey, PackFile, Span};
use crate::codes::{Code, Fault};
use crate::encoding::{Micros, hex};
use crate::hash::TreeSize;
use crate::stream::StreamId;
use crate::verify::Verdict;

/// Findings of one weight that a report holds; those beyond are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// What a finding does to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Proved wrong: the pack is INVALID.
    Fault,
    /// Something needed is missing: INDETERMINATE at best.
    Doubt,
    /// Nothing is wrong with the pack, and yet somebody should look.
    Warning,
}

impl Weight {
    /// `fault`, `doubt` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Doubt => "doubt",
            Self::Warning => "warning",
        }
    }
}

/// Where something was found; what does not apply is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The path within the pack. It may be anybody's text: print it escaped.
    pub file: Option<String>,
    /// The index in the log.
    pub index: Option<u64>,
    /// The stream.
    pub stream: Option<StreamId>,
    /// The sequence number in the stream.
    pub seq: Option<u64>,
}

impl Place {
    pub(super) fn file(file: PackFile) -> Self {
        let index = match file {
            PackFile::Evidence(index) => Some(index),
            _ => None,
        };
        Self { file: Some(file.to_string()), index, ..Self::default() }
    }

    pub(super) fn path(path: &str) -> Self {
        Self { file: Some(path.to_owned()), ..Self::default() }
    }

    pub(super) fn entry(index: u64, stream: StreamId, seq: u64) -> Self {
        Self { file: None, index: Some(index), stream: Some(stream), seq: Some(seq) }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFinding {
    /// What it does to the result.
    pub weight: Weight,
    /// What was found.
    pub fault: Fault,
    /// The step of the evidence procedure, where it was found there.
    pub step: Option<u8>,
    /// Where.
    pub place: Place,
}

/// Findings as they come.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: BTreeMap<Weight, Vec<PackFinding>>,
    counts: BTreeMap<(Weight, Code), u64>,
}

impl Findings {
    pub(super) fn fault(&mut self, fault: impl Into<Fault>, place: Place) {
        self.note(PackFinding { weight: Weight::Fault, fault: fault.into(), step: None, place });
    }

    pub(super) fn doubt(&mut self, fault: impl Into<Fault>, place: Place) {
        self.note(PackFinding { weight: Weight::Doubt, fault: fault.into(), step: None, place });
    }

    pub(super) fn warn(&mut self, fault: impl Into<Fault>, place: Place) {
        self.note(PackFinding { weight: Weight::Warning, fault: fault.into(), step: None, place });
    }

    pub(super) fn note(&mut self, finding: PackFinding) {
        *self.counts.entry((finding.weight, finding.fault.code)).or_default() += 1;
        let kept = self.kept.entry(finding.weight).or_default();
        if kept.len() < FINDINGS_MAX {
            kept.push(finding);
        }
    }

    /// Takes what was found elsewhere, behind what is here.
    pub(super) fn append(&mut self, other: Self) {
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
        for (weight, more) in other.kept {
            let kept = self.kept.entry(weight).or_default();
            kept.extend(more.into_iter().take(FINDINGS_MAX.saturating_sub(kept.len())));
        }
    }

    fn count(&self, weight: Weight) -> u64 {
        self.counts.iter().filter(|((of, _), _)| *of == weight).map(|(_, count)| count).sum()
    }
}

/// Records by what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Evidence files that were verified and are not INVALID.
    pub records: u64,
    /// Intents.
    pub intents: u64,
    /// Verdicts, those in shadow mode not counted.
    pub verdicts: u64,
    /// Verdicts that approve.
    pub approve: u64,
    /// Verdicts that refuse.
    pub refuse: u64,
    /// Verdicts that ask people.
    pub supervise: u64,
    /// Verdicts in shadow mode, which release and refuse nothing.
    pub shadow: u64,
    /// Approvals by people, their denials too.
    pub approvals: u64,
    /// Outcomes.
    pub outcomes: u64,
    /// Policies.
    pub policies: u64,
    /// Grants.
    pub grants: u64,
    /// Notices.
    pub notices: u64,
    /// Records that were logged long after they were recorded, which is no fault.
    pub late: u64,
}

/// A time in a stream in which more was promised than came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The stream.
    pub stream: StreamId,
    /// Index of the record before the silence.
    pub after: u64,
    /// From when.
    pub from: Micros,
    /// To when.
    pub to: Micros,
    /// Seconds between two records that the stream's last heartbeat promised.
    pub interval_s: u64,
}

/// What a complete pack's range comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// What is claimed.
    pub claims: Claims,
    /// When head B was signed, by the log's clock, in seconds since the epoch; `None` where no
    /// trusted clock says it.
    pub head_seconds: Option<u64>,
    /// Records of the claimed keys in the range.
    pub records: Counts,
    /// Indexes of the verdicts that refuse, shadow ones not among them.
    pub refusals: Vec<u64>,
    /// Of these, the ones that void an approve.
    pub voids: Vec<u64>,
    /// Outcomes of approves that were voided before.
    pub diverged: Vec<u64>,
    /// Where only some records were asked for: the indexes of those that match.
    pub matching: Option<Vec<u64>>,
    /// Where only some records were asked for: the indexes of those of which this can't be told,
    /// since what would tell is withheld or erased. They may match or not.
    pub untold: Vec<u64>,
    /// Records whose payloads were erased, by an erasure in this pack.
    pub erased: Vec<u64>,
    /// Streams of the claimed keys that have records in the range.
    pub streams: u64,
    /// Of these, the ones whose tail no heartbeat bounds: none promised an interval.
    pub unbounded: u64,
    /// The same streams, where each begins and ends in the range.
    pub spans: Vec<Span>,
    /// Silences between two records, longer than promised.
    pub gaps: Vec<Gap>,
    /// Gates of the tenant whose keys are not claimed, as the stream records in the pack name them.
    pub unclaimed: Vec<(String, [u8; 32])>,
    /// Claimed keys without a record in the range, of which the pack shows no opened stream: of
    /// these the claim says nothing.
    pub unseen: Vec<GateKey>,
    /// The ledger's records about streams in the range that the pack doesn't show: any tenant's.
    pub openings_unshown: u64,
    /// Streams with records in the range that are not claimed, and of which the pack shows no
    /// opening: nobody here can tell whose they are.
    pub streams_unshown: u64,
}

/// The outcome of verifying a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackReport {
    /// What it comes to.
    pub result: Verdict,
    /// Faults first, then doubts, then warnings, each in the order they were found; at most
    /// [`FINDINGS_MAX`] of each.
    pub findings: Vec<PackFinding>,
    /// How many faults, doubts and warnings there were.
    pub counts: [u64; 3],
    /// How often each code was found with each weight, beyond [`FINDINGS_MAX`] too.
    pub by_code: BTreeMap<(Weight, Code), u64>,
    /// The log's identity.
    pub origin: String,
    /// What was asked.
    pub asked: Option<Asked>,
    /// The pack's newest head.
    pub head: TreeSize,
    /// All evidence files, companions too.
    pub records: Counts,
    /// What the range comes to, in a complete pack.
    pub complete: Option<Complete>,
    /// What was not checked, and for how many records.
    pub not_checked: BTreeMap<String, u64>,
    /// Witnesses that were counted on the pack's head.
    pub witnesses: Vec<String>,
    /// Digests of policies that verdicts name and the pack does not hold.
    pub policies_absent: Vec<[u8; 32]>,
    /// Files for people. Their bytes are those that are listed; nobody checked what they say.
    pub for_people: Vec<PackFile>,
}

impl PackReport {
    /// The report of a folder whose manifest is none.
    pub fn refused(fault: Fault) -> Self {
        let unknown = fault.code == Code::VersionUnknown;
        let mut findings = Findings::default();
        let place = Place::path("manifest.json");
        if unknown {
            findings.doubt(fault, place);
        } else {
            findings.fault(fault, place);
        }
        Self::of(findings)
    }

    /// The report of a folder that could not be read: nothing was verified.
    pub fn unread() -> Self {
        Self { result: Verdict::Indeterminate, ..Self::of(Findings::default()) }
    }

    pub(super) fn of(mut findings: Findings) -> Self {
        let counts =
            [Weight::Fault, Weight::Doubt, Weight::Warning].map(|weight| findings.count(weight));
        let result = match counts {
            [0, 0, _] => Verdict::Valid,
            [0, _, _] => Verdict::Indeterminate,
            _ => Verdict::Invalid,
        };
        let kept = std::mem::take(&mut findings.kept);
        Self {
            result,
            findings: kept.into_values().flatten().collect(),
            counts,
            by_code: std::mem::take(&mut findings.counts),
            origin: String::new(),
            asked: None,
            head: TreeSize(0),
            records: Counts::default(),
            complete: None,
            not_checked: BTreeMap::new(),
            witnesses: Vec::new(),
            policies_absent: Vec::new(),
            for_people: Vec::new(),
        }
    }

    /// The finding that decides the result: the first fault, or else the first doubt.
    pub fn decisive(&self) -> Option<&PackFinding> {
        self.findings.first().filter(|finding| finding.weight != Weight::Warning)
    }

    /// What was asked for, in a sentence: by the manifest's word, which verification holds the records
    /// against. It may be anybody's text: print it escaped.
    pub fn question(&self) -> Option<String> {
        let asked = self.asked.as_ref()?;
        Some(format!("What was asked for: {}.", filters(asked)))
    }

    /// What the pack claims and verification found, a sentence each; nothing where it is INVALID:
    /// what is wrong is not repeated as if it had been said. Lists of indexes are cut after `most`.
    pub fn statement(&self, most: usize) -> Vec<String> {
        let Some(asked) = self.asked.as_ref().filter(|_| self.result != Verdict::Invalid) else {
            return Vec::new();
        };
        let valid = self.result == Verdict::Valid;
        let tenant = &asked.tenant;
        let Some(complete) = &self.complete else {
            return vec![
                format!(
                    "{} of the {} records here is in log {} as of head {}: {}.",
                    if valid { "Each" } else { "As far as it was checked: each" },
                    self.records.records,
                    self.origin,
                    self.head.0,
                    kinds(&self.records)
                ),
                format!("Whether {tenant} has other records is not claimed."),
            ];
        };
        let these = if valid { "These" } else { "As far as it was checked: these" };
        complete.statement(these, tenant, &self.origin, most)
    }

    /// What even a VALID result does not say.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if self.asked.is_none() {
            return limits;
        }
        match &self.complete {
            Some(complete) => complete.limits(&mut limits),
            None => limits.push(
                "Completeness was not asked for: records that were left out would not show."
                    .to_owned(),
            ),
        }
        if !self.policies_absent.is_empty() {
            limits.push(format!(
                "Policies that verdicts name and the pack does not hold, so not checked: {}.",
                self.policies_absent.len()
            ));
        }
        if !self.for_people.is_empty() {
            let names: Vec<String> = self.for_people.iter().map(PackFile::to_string).collect();
            limits.push(format!(
                "{}: for people. The bytes are those that the manifest lists, and what they say \
                 was not checked: where they differ, only this result counts.",
                names.join(" and ")
            ));
        }
        limits.push(
            "What a gate saw is its own word: a gate that lied before it sealed, or that was never \
             called, does not show."
                .to_owned(),
        );
        limits
    }
}

impl Complete {
    fn statement(&self, these: &str, tenant: &str, origin: &str, most: usize) -> Vec<String> {
        let keys = self.claims.keys.iter().map(|key| format!("{} {}", key.gate, hex(&key.key)));
        let (from, to) = (self.claims.from.0, self.claims.to.0);
        let at = self.head_seconds.map_or_else(String::new, |seconds| {
            let at = Micros(seconds.saturating_mul(1_000_000));
            format!(", which its clock signed at {}", time_text(at))
        });
        let mut said = vec![
            format!(
                "{these} are exactly {tenant}'s records from gate keys {} between heads \
                 {from} and {to} of log {origin}, as logged by head {to}{at}: {}: {}.",
                keys.collect::<Vec<_>>().join(", "),
                some(self.records.records, "record", "records"),
                kinds(&self.records)
            ),
            format!("The refusals are exactly: {}.", indexes(&self.refusals, most)),
        ];
        let mut list = |what: &str, found: &[u64]| {
            if !found.is_empty() {
                said.push(format!("{what}: {}.", indexes(found, most)));
            }
        };
        list("Approved, then voided, by the refusals", &self.voids);
        list("DIVERGED, outcomes of approves that were voided", &self.diverged);
        list("Erased, by the tenant's own word, with proofs and place kept", &self.erased);
        if let Some(matching) = &self.matching {
            let matching = indexes(matching, most);
            said.push(match &self.untold[..] {
                [] => format!("What was asked for matches: {matching}."),
                untold => format!(
                    "What was asked for matches at least: {matching}. Of {} more this can't be \
                     told, since what would tell is withheld or erased: {}.",
                    some(untold.len() as u64, "record", "records"),
                    indexes(untold, most)
                ),
            });
        }
        said.extend(self.unseen.iter().map(|key| {
            format!(
                "Of gate key {} {} nothing was ever seen here, neither a record nor the opening \
                 of a stream: it says nothing that there are no refusals of it.",
                key.gate,
                hex(&key.key)
            )
        }));
        said
    }

    fn limits(&self, limits: &mut Vec<String>) {
        limits.push(format!(
            "Gate keys that are not listed, and records that were not yet logged at head {}, are \
             outside of this claim.",
            self.claims.to.0
        ));
        for (gate, key) in &self.unclaimed {
            limits.push(format!(
                "Gate {gate} of the same tenant opened a stream with key {}, which is not claimed.",
                hex(key)
            ));
        }
        if self.openings_unshown + self.streams_unshown > 0 {
            limits.push(format!(
                "Streams in the range that are not shown, and may be other tenants' or hide a key of \
                 this one: {} with records; {} of the ledger about streams.",
                self.streams_unshown,
                some(self.openings_unshown, "record", "records")
            ));
        }
        if self.claims.from.0 > 0 {
            limits.push(format!(
                "What refers to records before index {} was not checked against them, unless they \
                 are here. That no record was left out before it, the pack before this one shows: \
                 its last records are those that the streams here go on from.",
                self.claims.from.0
            ));
        }
        if self.unbounded > 0 {
            limits.push(format!(
                "{} of {} streams have no heartbeat here that promises an interval of at most a day: \
                 how long they were silent at the end says nothing.",
                self.unbounded, self.streams
            ));
        }
        if !self.gaps.is_empty() {
            limits.push(format!(
                "Silences longer than heartbeats promise, after which the stream went on without a \
                 gap in its numbers: {}.",
                self.gaps.len()
            ));
        }
    }
}

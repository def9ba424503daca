//! What verification of a mirror comes to, in words and numbers (MIRR-12 to MIRR-14).

use super::{MirrorFile, Place, Weight};
use crate::codes::{Code, Fault};
use crate::encoding::Micros;
use crate::hash::TreeSize;
use crate::verify::Verdict;

/// Findings of one weight that a report holds; those beyond are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorFinding {
    /// What it does to the result.
    pub weight: Weight,
    /// What was found.
    pub fault: Fault,
    /// Where.
    pub place: Place,
}

/// A fault of one file.
pub(super) fn fault_at(fault: impl Into<Fault>, file: &MirrorFile) -> MirrorFinding {
    let place = Place { file: Some(file.to_string()), ..Place::default() };
    MirrorFinding { weight: Weight::Fault, fault: fault.into(), place }
}

/// A doubt about one file.
pub(super) fn doubt_at(fault: impl Into<Fault>, file: &MirrorFile) -> MirrorFinding {
    MirrorFinding { weight: Weight::Doubt, ..fault_at(fault, file) }
}

/// Findings as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    kept: [Vec<MirrorFinding>; 3],
    counts: [u64; 3],
}

impl Findings {
    pub(super) fn note(&mut self, finding: MirrorFinding) {
        let at = finding.weight as usize;
        if let (Some(kept), Some(count)) = (self.kept.get_mut(at), self.counts.get_mut(at)) {
            *count += 1;
            if kept.len() < FINDINGS_MAX {
                kept.push(finding);
            }
        }
    }

    /// Faults and doubts so far.
    pub(super) fn grave(&self) -> u64 {
        let [faults, doubts, _] = self.counts;
        faults + doubts
    }
}

/// What was verified, by number; an earlier run's part included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorCounts {
    /// Entries that were read.
    pub entries: u64,
    /// Entries that could not be read, or are missing.
    pub unread: u64,
    /// Bundles of entries.
    pub bundles: u64,
    /// Tiles of hashes, of every level.
    pub tiles: u64,
    /// Partial tiles and bundles of earlier heads.
    pub partials: u64,
    /// Heads that are the tree of the entries at their size.
    pub heads: u64,
    /// Streams.
    pub streams: u64,
    /// Alarms that lie beside the mirror.
    pub alarms: u64,
    /// Evidence files that lie in the mirror, and are not looked into.
    pub evidence: u64,
}

/// What verification of one log's mirror comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorReport {
    /// The result.
    pub result: Verdict,
    /// The log. It may be anybody's text: print it escaped.
    pub origin: Option<String>,
    /// The head that was verified up to.
    pub head: TreeSize,
    /// Entries that an earlier run verified, and this one did not read.
    pub resumed: u64,
    /// What was verified.
    pub counts: MirrorCounts,
    /// When the first and the last entry were logged, by the log's own word.
    pub times: Option<(Micros, Micros)>,
    /// Names of the witnesses on the head.
    pub witnesses: Vec<String>,
    /// What the trust file asks for nothing of.
    pub not_checked: Vec<&'static str>,
    /// Faults first, then doubts, then warnings; at most [`FINDINGS_MAX`] of each.
    pub findings: Vec<MirrorFinding>,
    /// Faults, doubts and warnings, those not listed too; of entries between two heads, the first
    /// thousand faults.
    pub found: [u64; 3],
}

impl MirrorReport {
    /// A report of these findings. Where nothing was found, the result is VALID.
    pub(super) fn of(findings: Findings) -> Self {
        let found = findings.counts;
        let result = match found {
            [0, 0, _] => Verdict::Valid,
            [0, ..] => Verdict::Indeterminate,
            _ => Verdict::Invalid,
        };
        Self {
            result,
            origin: None,
            head: TreeSize(0),
            resumed: 0,
            counts: MirrorCounts::default(),
            times: None,
            witnesses: Vec::new(),
            not_checked: Vec::new(),
            findings: findings.kept.into_iter().flatten().collect(),
            found,
        }
    }

    /// The report of a folder in which nothing could be verified.
    pub fn empty() -> Self {
        let mut findings = Findings::default();
        let (fault, place) = (Code::MirrorEmpty.into(), Place::default());
        findings.note(MirrorFinding { weight: Weight::Doubt, fault, place });
        Self::of(findings)
    }

    /// The report of something that bears a log's name and is no folder.
    pub fn not_a_folder(name: &str) -> Self {
        let mut findings = Findings::default();
        let place = Place { file: Some(name.to_owned()), ..Place::default() };
        let fault = Code::MirrorFileKind.into();
        findings.note(MirrorFinding { weight: Weight::Fault, fault, place });
        Self::of(findings)
    }

    /// What decides the result, where it is not VALID: the first fault, or else the first doubt.
    pub fn decisive(&self) -> Option<&MirrorFinding> {
        self.findings.first().filter(|finding| finding.weight != Weight::Warning)
    }

    /// What the log and its entries were found to be, in sentences; nothing where the mirror is
    /// INVALID (MIRR-13). They hold no text from outside but the origin: print them escaped.
    pub fn statement(&self) -> Vec<String> {
        let (Some(origin), true) = (&self.origin, self.result != Verdict::Invalid) else {
            return Vec::new();
        };
        let counts = &self.counts;
        let mut said = vec![format!(
            "Log {origin}: {} entries under the head of {}; {} heads, {} tiles and {} bundles \
             recomputed from the entries; {} streams without gap or repeat.",
            counts.entries, self.head.0, counts.heads, counts.tiles, counts.bundles, counts.streams
        )];
        if let Some((first, last)) = self.times {
            said.push(format!("Logged from {} to {}.", first.format(), last.format()));
        }
        if counts.unread > 0 {
            said.push(format!(
                "{} entries are missing or can't be read: their streams and times are not checked.",
                counts.unread
            ));
        }
        if self.resumed > 0 {
            said.push(format!(
                "The first {} entries were verified by an earlier run and not read again.",
                self.resumed
            ));
        }
        said
    }

    /// What this result does not say.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = vec![
            "An entry commits to a record and does not show it: what was decided is in evidence."
                .to_owned(),
            "That the log shows everybody this same history is what witnesses and other mirrors \
             prove, not this one alone."
                .to_owned(),
        ];
        if self.counts.evidence > 0 {
            limits.push(format!(
                "{} evidence files lie here and were not looked into: countersign-verify evidence \
                 verifies them.",
                self.counts.evidence
            ));
        }
        limits
    }
}

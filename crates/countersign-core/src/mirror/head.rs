//! Heads: which one a mirror is verified up to, and whether the log signed each (MIRR-3, MIRR-4).

use std::collections::BTreeSet;

use super::report::{Findings, MirrorFinding, doubt_at, fault_at};
use super::{Given, MirrorFile, MirrorReport, MirrorState, Place, Weight, log_folder};
use crate::codes::{Code, Fault};
use crate::hash::{RootHash, TreeSize};
use crate::merkle::empty_root;
use crate::note::SignedCheckpoint;
use crate::tiles::TILE_WIDTH;
use crate::trust::Trust;
use crate::verify::TrustedHead;

/// A head that was read, or why it could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadFacts {
    pub(super) size: TreeSize,
    pub(super) file: MirrorFile,
    /// The root; `None` where the head is none of this log.
    pub(super) root: Option<RootHash>,
    /// The latest second at which a trusted clock cosigned it.
    pub(super) clock_seconds: Option<u64>,
    pub(super) finding: Option<MirrorFinding>,
}

/// Finds the head that a mirror is verified up to: give it the checkpoint, then heads from the
/// largest down while [`Start::wants_head`].
pub struct Start<'t> {
    trust: Option<&'t Trust>,
    folder: String,
    checkpoint: Option<SignedCheckpoint>,
    head: Option<SignedCheckpoint>,
    findings: Findings,
    failed: BTreeSet<u64>,
}

impl<'t> Start<'t> {
    /// Begins with the name of the log's folder. `trust` is all that is believed; without it nothing
    /// is VALID.
    pub fn new(folder: &str, trust: Option<&'t Trust>) -> Self {
        Self {
            trust,
            folder: folder.to_owned(),
            checkpoint: None,
            head: None,
            findings: Findings::default(),
            failed: BTreeSet::new(),
        }
    }

    /// Takes the checkpoint.
    pub fn checkpoint(&mut self, given: Given<'_>) {
        let file = MirrorFile::Checkpoint;
        match given {
            Given::Absent => self.findings.note(doubt_at(Code::MirrorCheckpoint, &file)),
            _ => match self.read(given) {
                Ok(checkpoint) => self.checkpoint = Some(checkpoint),
                Err(fault) => self.findings.note(fault_at(fault, &file)),
            },
        }
    }

    /// Whether another head is wanted, the next smaller one.
    pub fn wants_head(&self) -> bool {
        self.head.is_none()
    }

    /// Takes the head of this size.
    pub fn head(&mut self, size: u64, given: Given<'_>) {
        let named = |head: SignedCheckpoint| {
            if head.size.0 == size { Ok(head) } else { Err(Code::MirrorHeadName.into()) }
        };
        match self.read(given).and_then(named) {
            Ok(head) => self.head = Some(head),
            Err(fault) => {
                self.failed.insert(size);
                self.findings.note(fault_at(fault, &MirrorFile::Head(size)));
            }
        }
    }

    fn read(&self, given: Given<'_>) -> Result<SignedCheckpoint, Fault> {
        let checkpoint = parse(given)?;
        if log_folder(&checkpoint.origin) != self.folder {
            return Err(Code::MirrorOrigin.into());
        }
        if let Some(trust) = self.trust.filter(|trust| knows(trust, &checkpoint.origin)) {
            TrustedHead::check(&checkpoint, trust)?;
        }
        // An empty tree has one root, and no bundle to hold it against.
        if checkpoint.size.0 == 0 && checkpoint.root != empty_root() {
            return Err(Code::MirrorHeadRoot.at_index(0));
        }
        Ok(checkpoint)
    }

    /// The plan of the verification, or the report where there is nothing to verify. `sizes` are
    /// those of the files in `heads/`; `state` is what an earlier run left.
    pub fn plan(
        mut self,
        sizes: &BTreeSet<u64>,
        state: Option<MirrorState>,
    ) -> Result<Plan<'t>, Box<MirrorReport>> {
        let checkpoint = self.checkpoint.take();
        let head = self.head.take();
        let target = match (&checkpoint, &head) {
            (Some(checkpoint), Some(head)) if head.size >= checkpoint.size => {
                if head.size > checkpoint.size {
                    self.findings.note(doubt_at(Code::MirrorCheckpoint, &MirrorFile::Checkpoint));
                }
                head
            }
            (Some(checkpoint), _) => {
                let file = MirrorFile::Head(checkpoint.size.0);
                if !self.failed.contains(&checkpoint.size.0) {
                    self.findings.note(doubt_at(Code::MirrorHeadMissing, &file));
                }
                checkpoint
            }
            (None, Some(head)) => head,
            (None, None) => {
                let (fault, place) = (Code::MirrorEmpty.into(), Place::default());
                self.findings.note(MirrorFinding { weight: Weight::Doubt, fault, place });
                return Err(Box::new(MirrorReport::of(self.findings)));
            }
        };
        let mut plan = Plan {
            trust: self.trust.filter(|trust| knows(trust, &target.origin)),
            origin: target.origin.clone(),
            size: target.size,
            root: target.root,
            lone: checkpoint
                .as_ref()
                .map(|head| head.size.0)
                .filter(|size| !sizes.contains(size) || self.failed.contains(size)),
            sizes: Vec::new(),
            checkpoint: checkpoint.as_ref().map(|checkpoint| (checkpoint.size, checkpoint.root)),
            state: None,
            witnesses: Vec::new(),
            not_checked: Vec::new(),
            findings: self.findings,
        };
        let file = plan.file_of(target.size.0);
        // Heads are read with their bundles; the checkpoint is, where it is the only one of its size.
        if let (Some(head), Some(trust)) = (&checkpoint, plan.trust)
            && plan.lone.is_none_or(|lone| lone == 0)
            && lacks_clock(head, trust)
        {
            plan.findings.note(doubt_at(Code::ClockAbsent, &MirrorFile::Checkpoint));
        }
        if let Err(fault) = plan.decisive(target, self.trust, &file) {
            plan.findings.note(fault_at(fault, &file));
        }
        plan.heads(sizes, &self.failed, state);
        Ok(plan)
    }
}

/// What a mirror is verified up to, and how: it is shared by all threads.
#[derive(Clone, Debug)]
pub struct Plan<'t> {
    pub(super) trust: Option<&'t Trust>,
    pub(super) origin: String,
    size: TreeSize,
    root: RootHash,
    /// The checkpoint's size, where no file in `heads/` has it.
    lone: Option<u64>,
    /// The sizes whose heads are to be held against the entries, ascending.
    sizes: Vec<u64>,
    checkpoint: Option<(TreeSize, RootHash)>,
    pub(super) state: Option<MirrorState>,
    pub(super) witnesses: Vec<String>,
    pub(super) not_checked: Vec<&'static str>,
    pub(super) findings: Findings,
}

impl Plan<'_> {
    /// The log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The size of the head that is verified up to.
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The first bundle to verify: those before it were verified by an earlier run.
    pub fn first_bundle(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.bundles)
    }

    /// The sizes of the heads that end in a bundle, ascending.
    pub fn heads_in(&self, bundle: u64) -> &[u64] {
        let start = bundle.saturating_mul(u64::from(TILE_WIDTH));
        let end = start.saturating_add(u64::from(TILE_WIDTH));
        // The empty tree's head lies in the first bundle.
        let from = self.sizes.partition_point(|size| *size <= start && start > 0);
        let to = self.sizes.partition_point(|size| *size <= end);
        self.sizes.get(from..to).unwrap_or_default()
    }

    /// The file that has the head of this size.
    pub fn file_of(&self, size: u64) -> MirrorFile {
        if self.lone == Some(size) { MirrorFile::Checkpoint } else { MirrorFile::Head(size) }
    }

    /// Files in `heads/` of at most this size.
    pub(super) fn head_files(&self, size: u64) -> u64 {
        let here = self.sizes.partition_point(|known| *known <= size) as u64;
        let lone =
            u64::from(self.lone.is_some_and(|lone| lone <= size && self.sizes.contains(&lone)));
        self.state.as_ref().map_or(0, |state| state.heads) + here - lone
    }

    /// Reads one head: of this log, of the size that its name says, and signed (MIRR-3).
    pub fn head(&self, size: u64, given: Given<'_>) -> HeadFacts {
        let file = self.file_of(size);
        let mut facts = HeadFacts {
            size: TreeSize(size),
            root: None,
            clock_seconds: None,
            finding: None,
            file,
        };
        let outcome = parse(given).and_then(|checkpoint| {
            if checkpoint.size.0 != size || checkpoint.origin != self.origin {
                return Err(Code::MirrorHeadName.into());
            }
            if let Some(trust) = self.trust {
                let head = TrustedHead::check(&checkpoint, trust)?;
                facts.clock_seconds = head.clock_seconds;
                if head.clocks_known && head.clock_seconds.is_none() {
                    facts.finding = Some(doubt_at(Code::ClockAbsent, &facts.file));
                }
            }
            Ok(checkpoint.root)
        });
        match outcome {
            Ok(root) => {
                facts.root = Some(root);
                // The checkpoint is held against the head of its size.
                if self.checkpoint.is_some_and(|(at, other)| at.0 == size && other != root) {
                    let file = MirrorFile::Checkpoint;
                    facts.finding = Some(fault_at(Code::MirrorHeadRoot.at_index(size), &file));
                }
            }
            Err(fault) => facts.finding = Some(fault_at(fault, &facts.file)),
        }
        facts
    }

    /// What is asked of the head that everything rests on: clock, witnesses, keys that are not
    /// revoked (VER-6, VER-7, VER-9).
    fn decisive(
        &mut self,
        head: &SignedCheckpoint,
        given: Option<&Trust>,
        file: &MirrorFile,
    ) -> Result<(), Fault> {
        let Some(trust) = self.trust else {
            let code = if given.is_some() { Code::OriginUnknown } else { Code::NoTrust };
            self.findings.note(doubt_at(code, file));
            return Ok(());
        };
        let trusted = TrustedHead::check(head, trust)?;
        if !trusted.clocks_known {
            self.not_checked.push("clock");
        }
        match &trust.witnesses {
            Some(policy) => {
                if !policy.accepts_log(&trusted.log.vkey) {
                    return Err(Code::LogNotInPolicy.into());
                }
                if policy.is_none() {
                    self.not_checked.push("witnesses");
                }
                match policy.evaluate(head, &trust.own_keys(), None)? {
                    Some(met) => self.witnesses = met.witnesses,
                    None => self.findings.note(doubt_at(Code::WitnessQuorum, file)),
                }
            }
            None => self.not_checked.push("witnesses"),
        }
        if let Some(doubt) = trusted.doubt(head, trust)? {
            self.findings.note(doubt_at(doubt, file));
        }
        Ok(())
    }

    /// Which heads are held against the entries, those of an earlier run left out.
    fn heads(&mut self, sizes: &BTreeSet<u64>, failed: &BTreeSet<u64>, state: Option<MirrorState>) {
        let wanted = sizes.range(..=self.size.0).filter(|size| !failed.contains(size));
        let mut wanted: BTreeSet<u64> = wanted.copied().collect();
        wanted.extend(self.checkpoint.map(|(size, _)| size.0).filter(|size| *size <= self.size.0));
        if let Some(state) = state {
            let covered = state.size().0;
            let earlier = sizes.range(..=covered).count() as u64;
            let fits = covered <= self.size.0 && earlier == state.heads && state.is_of(self);
            if fits {
                wanted = wanted.split_off(&(covered + 1));
                self.state = Some(state);
            } else {
                let (fault, place) = (Code::MirrorResume.into(), Place::default());
                self.findings.note(MirrorFinding { weight: Weight::Warning, fault, place });
            }
        }
        self.sizes = wanted.into_iter().collect();
    }

    /// The root of the head that is verified up to.
    pub fn root(&self) -> RootHash {
        self.root
    }
}

/// Whether the trust file names clocks of a head's log, and none of them cosigned it (VER-6).
fn lacks_clock(head: &SignedCheckpoint, trust: &Trust) -> bool {
    let trusted = TrustedHead::check(head, trust);
    trusted.is_ok_and(|head| head.clocks_known && head.clock_seconds.is_none())
}

fn knows(trust: &Trust, origin: &str) -> bool {
    trust.logs_of(origin).next().is_some()
}

fn parse(given: Given<'_>) -> Result<SignedCheckpoint, Fault> {
    match given {
        Given::Bytes(bytes) => {
            SignedCheckpoint::parse(std::str::from_utf8(bytes).map_err(|_| Code::NoteMalformed)?)
        }
        Given::Absent => Err(Code::MirrorHeadMissing.into()),
        Given::NotAFile => Err(Code::MirrorFileKind.into()),
    }
}

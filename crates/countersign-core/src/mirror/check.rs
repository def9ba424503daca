//! The whole of a mirror: bundles joined in their order into one tree, with its streams and heads
//! (MIRR-4 to MIRR-9).

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::bundle::{BundleFacts, Run, Stop};
use super::head::Plan;
use super::report::{Findings, MirrorCounts, MirrorFinding, MirrorReport, doubt_at, fault_at};
use super::state::{MirrorState, keys_digest};
use super::{FINDINGS_MAX, Given, MirrorFile, Place, Weight};
use crate::alarm::verify_alarm;
use crate::codes::Code;
use crate::encoding::Micros;
use crate::hash::{Hash, LeafHash, RootHash, TreeSize};
use crate::merkle::{CompactRange, LogTree, root_of};
use crate::stream::StreamId;
use crate::tiles::{
    TILE_HEIGHT, TILE_WIDTH, TileKind, TilePath, parse_bundle, parse_hashes, tile_width,
};
use crate::verify::Verdict;

/// Streams that are followed, each some 50 bytes; a log has a few for every gate.
pub const STREAMS_MAX: usize = 1 << 20;

/// The end of a stream so far.
#[derive(Clone, Copy)]
struct Last {
    seq: u64,
    /// Entries of the log that could not be read in front of it.
    unread: u64,
}

/// Joins the bundles of a mirror: [`MirrorCheck::take`] each in its order, hand over the tiles that
/// are [`MirrorCheck::due`], then [`MirrorCheck::end`], what else lies in the folder, and
/// [`MirrorCheck::finish`].
pub struct MirrorCheck<'p> {
    plan: &'p Plan<'p>,
    bundles: u64,
    /// The tree of whole bundles; `None` from where it can't be known.
    tree: Option<CompactRange>,
    /// The hashes of the tiles that are not full yet, from level 1 up.
    levels: Vec<Vec<Hash>>,
    due: VecDeque<(TilePath, Vec<Hash>)>,
    times: Option<(Micros, Micros)>,
    streams: HashMap<StreamId, Last>,
    unread: u64,
    absent: usize,
    counts: MirrorCounts,
    findings: Findings,
    /// What is wrong with entries that no head was found to cover yet: only where one does, they are
    /// the log's own (MIRR-7).
    accused: Vec<MirrorFinding>,
    /// Faults and doubts that were there before the first bundle.
    before: u64,
    /// The state in front of the last bundle, where that one is partial.
    kept: Option<MirrorState>,
}

impl<'p> MirrorCheck<'p> {
    /// Begins where the plan does.
    pub fn new(plan: &'p Plan<'p>) -> Self {
        let findings = plan.findings.clone();
        let mut check = Self {
            plan,
            bundles: 0,
            tree: Some(CompactRange::new()),
            levels: Vec::new(),
            due: VecDeque::new(),
            times: None,
            streams: HashMap::new(),
            unread: 0,
            absent: 0,
            // The empty tree's head was held against the one root that it can have.
            counts: MirrorCounts {
                heads: u64::from(plan.size().0 == 0),
                ..MirrorCounts::default()
            },
            before: findings.grave(),
            findings,
            accused: Vec::new(),
            kept: None,
        };
        if let Some(state) = &plan.state {
            check.bundles = state.bundles;
            check.tree = tree_of(state.bundles, &state.levels);
            check.levels.clone_from(&state.levels);
            check.times = state.times;
            let last = |(stream, seq): (&StreamId, &u64)| (*stream, Last { seq: *seq, unread: 0 });
            check.streams = state.streams.iter().map(last).collect();
            check.counts = state.counts;
        }
        check
    }

    /// Whether so much is missing that the rest is not worth looking at: the mirror is not there
    /// (MIRR-11).
    pub fn hopeless(&self) -> bool {
        self.absent >= FINDINGS_MAX
    }

    /// Takes what the next bundle came to.
    pub fn take(&mut self, mut facts: BundleFacts) {
        if let Some(otherwise) = facts.otherwise.take() {
            let root =
                |facts: &BundleFacts| self.root_at(self.plan.size(), facts.peaks.as_deref()?);
            // The head says which of the two is the log's.
            let signed = Some(self.plan.root());
            if root(&facts) != signed && root(&otherwise) == signed {
                facts = *otherwise;
            }
        }
        if facts.index != self.bundles {
            unreachable!("bad math in mirror: bundles out of their order")
        }
        if facts.width < TILE_WIDTH {
            self.kept = self.state();
        }
        self.bundles += 1;
        self.absent += usize::from(facts.absent());
        self.counts.bundles += facts.bundles;
        self.counts.tiles += facts.tiles;
        self.counts.unread += facts.unread;
        self.counts.entries += u64::from(facts.width).saturating_sub(facts.unread);
        for finding in facts.findings {
            self.findings.note(finding);
        }
        let before = self.times.map(|(_, before)| before);
        self.accuse(facts.accused);
        if let Some((first, latest)) = facts.times {
            if before.is_some_and(|before| first < before) {
                let fault = Code::MirrorTimeOrder.at_index(facts.first_read);
                let place = Place { index: Some(facts.first_read), ..Place::default() };
                self.accuse([MirrorFinding { weight: Weight::Fault, fault, place }]);
            }
            let begin = self.times.map_or(first, |(begin, _)| begin);
            self.times = Some((begin, before.map_or(latest, |before| before.max(latest))));
        }
        for run in facts.runs {
            self.run(&run);
        }
        self.accused.sort_by_key(|finding| finding.place.index);
        for stop in facts.stops {
            self.stop(stop, before);
        }
        self.unread += facts.unread;
        self.grow(facts.width, facts.peaks);
    }

    fn accuse(&mut self, findings: impl IntoIterator<Item = MirrorFinding>) {
        let room = FINDINGS_MAX.saturating_sub(self.accused.len());
        self.accused.extend(findings.into_iter().take(room));
    }

    /// The root of the tree up to a size that ends in the next bundle, of which these are the
    /// subtrees.
    fn root_at(&self, size: TreeSize, peaks: &[Hash]) -> Option<RootHash> {
        let mut tree = self.tree.clone()?;
        // A bundle that is full is one subtree of the tree above.
        if size.0.is_multiple_of(u64::from(TILE_WIDTH)) && size.0 > 0 {
            tree.append(&LeafHash(*peaks.first()?));
            return Some(tree.root());
        }
        let peaks = tree.peaks().iter().chain(peaks).copied().collect();
        Some(CompactRange::from_peaks(size, peaks).ok()?.root())
    }

    /// A head that ends in this bundle: its root is the tree's at its size, and its clock is not
    /// behind the entries (MIRR-4, VER-10).
    fn stop(&mut self, stop: Stop, before: Option<Micros>) {
        let Stop { head, peaks, latest } = stop;
        let size = head.size;
        let grave = head.finding.as_ref().is_some_and(|finding| finding.weight == Weight::Fault);
        if let Some(finding) = head.finding {
            self.findings.note(finding);
        }
        let Some(root) = head.root else { return };
        let tree = peaks.and_then(|peaks| self.root_at(size, &peaks));
        if tree == Some(root) {
            // What it covers is the log's, and so is what is wrong with it.
            let covered = self.accused.partition_point(|f| f.place.index < Some(size.0));
            for finding in self.accused.drain(..covered) {
                self.findings.note(finding);
            }
        }
        let clock = head.clock_seconds;
        let before = before.max(latest);
        match tree {
            None => {
                self.findings.note(doubt_at(Code::MirrorHeadUnproven.at_index(size.0), &head.file));
            }
            Some(found) if found != root => {
                self.findings.note(fault_at(Code::MirrorHeadRoot.at_index(size.0), &head.file));
            }
            Some(_) if clock.zip(before).is_some_and(|(clock, time)| clock < time.seconds()) => {
                self.findings.note(fault_at(Code::ClockBeforeEntry.at_index(size.0), &head.file));
            }
            Some(_) => self.counts.heads += u64::from(!grave),
        }
    }

    /// In every stream one number follows the other, from 0 (MIRR-7). What could not be read may
    /// be what is missing.
    fn run(&mut self, run: &Run) {
        let (unread_first, unread_last) = (self.unread + run.unread.0, self.unread + run.unread.1);
        let full = self.streams.len() >= STREAMS_MAX;
        let known = self.streams.get_mut(&run.stream);
        let (next, room) = match &known {
            Some(last) => (last.seq.checked_add(1), unread_first - last.unread),
            None => (Some(0), unread_first),
        };
        let code = match next.map(|next| run.first.checked_sub(next)) {
            Some(Some(missing)) if missing <= room => None,
            Some(Some(_)) => Some(Code::MirrorSeqGap),
            _ => Some(Code::MirrorSeqRepeated),
        };
        let last = Last { seq: run.last, unread: unread_last };
        match known {
            Some(known) => *known = last,
            None if !full => {
                self.streams.insert(run.stream, last);
            }
            None => {
                let (fault, place) = (Code::MirrorStreams.at_index(run.index), Place::default());
                self.findings.note(MirrorFinding { weight: Weight::Doubt, fault, place });
                return;
            }
        }
        if let Some(code) = code {
            let place = Place {
                file: None,
                index: Some(run.index),
                stream: Some(run.stream),
                seq: Some(run.first),
            };
            let fault = code.at_index(run.index);
            self.accuse([MirrorFinding { weight: Weight::Fault, fault, place }]);
        }
    }

    /// Appends a bundle's subtree to the tree and to the tiles above.
    fn grow(&mut self, width: u16, peaks: Option<Vec<Hash>>) {
        if width < TILE_WIDTH {
            return;
        }
        let root = peaks.and_then(|peaks| peaks.first().copied());
        let (Some(tree), Some(mut node)) = (&mut self.tree, root) else {
            self.tree = None;
            return;
        };
        tree.append(&LeafHash(node));
        for level in 1.. {
            if self.levels.len() < level {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(level - 1) else { return };
            hashes.push(node);
            if hashes.len() < usize::from(TILE_WIDTH) {
                return;
            }
            let hashes = std::mem::take(hashes);
            let Some(above) = root_of::<LogTree>(&hashes) else { return };
            let index = self.bundles >> (usize::from(TILE_HEIGHT) * level);
            self.queue(level, index.saturating_sub(1), hashes);
            node = above;
        }
    }

    fn queue(&mut self, level: usize, index: u64, hashes: Vec<Hash>) {
        let width = u16::try_from(hashes.len()).unwrap_or(0);
        let kind = u8::try_from(level).ok().map(TileKind::Hashes);
        let path = kind.and_then(|kind| TilePath::new(kind, index, width));
        self.due.extend(path.map(|path| (path, hashes)));
    }

    /// The tile above the leaves that is to be held against the entries next (MIRR-6).
    pub fn due(&self) -> Option<TilePath> {
        self.due.front().map(|(path, _)| *path)
    }

    /// Takes the tile that is due.
    pub fn tile(&mut self, given: Given<'_>) {
        let Some((path, hashes)) = self.due.pop_front() else { return };
        let file = MirrorFile::Tile(path);
        match given {
            Given::Bytes(bytes) => {
                self.counts.tiles += 1;
                if parse_hashes(bytes, path.width()).as_deref() != Ok(&hashes) {
                    self.findings.note(fault_at(Code::MirrorTile, &file));
                }
            }
            Given::Absent => self.findings.note(doubt_at(Code::MirrorFileMissing, &file)),
            Given::NotAFile => self.findings.note(fault_at(Code::MirrorFileKind, &file)),
        }
    }

    /// Says that no bundle follows: the tiles that are not full become due.
    pub fn end(&mut self) {
        if self.tree.is_none() || self.bundles < self.plan.bundles() {
            return;
        }
        let levels = std::mem::take(&mut self.levels);
        for (at, hashes) in levels.into_iter().enumerate() {
            // Whole bundles only: the last one may be partial.
            let whole = self.plan.size().0 >> TILE_HEIGHT;
            self.queue(at + 1, whole >> (usize::from(TILE_HEIGHT) * (at + 1)), hashes);
        }
    }

    /// What an earlier head left: a partial tile or bundle, held against the widest one of its place
    /// that was verified, [`Plan::widest`] (MIRR-8).
    pub fn partial(&mut self, path: TilePath, given: Given<'_>, widest: Given<'_>) {
        let file = MirrorFile::Tile(path);
        let bytes = match given {
            Given::Bytes(bytes) => bytes,
            Given::Absent => return,
            Given::NotAFile => return self.findings.note(fault_at(Code::MirrorFileKind, &file)),
        };
        // Where the widest is missing, that was said.
        let Given::Bytes(widest) = widest else { return };
        self.counts.partials += 1;
        let width = path.width();
        let (code, begins) = match path.kind() {
            TileKind::Hashes(_) => {
                let begins = widest.get(..usize::from(width) * 32) == Some(bytes);
                (Code::MirrorTile, begins)
            }
            TileKind::Entries => {
                let whole = parse_bundle(bytes, width).is_ok();
                (Code::MirrorBundle, whole && widest.starts_with(bytes))
            }
        };
        if !begins {
            self.findings.note(fault_at(code, &file));
        }
    }

    /// An alarm that lies beside the mirror. One that is true of this log is a fault: the mirror is
    /// not the only history that the log showed (MIRR-10).
    pub fn alarm(&mut self, file: &MirrorFile, bytes: &[u8]) {
        self.counts.alarms += 1;
        let report = verify_alarm(bytes, self.plan.trust);
        let ours = report.origin.as_deref() == Some(self.plan.origin());
        if report.result == Verdict::Valid && ours {
            self.findings.note(fault_at(Code::MirrorAlarm, file));
            return;
        }
        let fault = report.fault.unwrap_or(Code::MirrorForeign.into());
        self.findings.note(MirrorFinding { weight: Weight::Warning, ..fault_at(fault, file) });
    }

    /// Another file or folder below the log's. What has no place there is a warning; what has one,
    /// and is not `right`, no plain file or folder as its place asks for, a fault (MIRR-9). `path` may
    /// be anybody's text.
    pub fn other(&mut self, path: &str, right: bool) {
        let (weight, code) = match (right, MirrorFile::parse(path)) {
            (false, _) => (Weight::Fault, Code::MirrorFileKind),
            (true, Some(MirrorFile::Evidence(_))) => {
                self.counts.evidence += 1;
                return;
            }
            (true, Some(MirrorFile::State(_) | MirrorFile::EvidenceState)) => return,
            (true, Some(MirrorFile::Stopped)) => (Weight::Warning, Code::MirrorStopped),
            (true, _) => (Weight::Warning, Code::MirrorForeign),
        };
        let place = Place { file: Some(path.to_owned()), ..Place::default() };
        self.findings.note(MirrorFinding { weight, fault: code.into(), place });
    }

    /// What a later run can begin with, before [`MirrorCheck::end`]; nothing where anything was amiss,
    /// which that run has to find again (MIRR-15).
    pub fn state(&self) -> Option<MirrorState> {
        // A bundle that will grow is read again.
        if self.bundles > self.plan.size().0 / u64::from(TILE_WIDTH) {
            return self.kept.clone();
        }
        // What an entry did may be noted only under a later head.
        let clean = self.findings.grave() == self.before && self.accused.is_empty();
        let trust =
            self.plan.trust.filter(|_| clean && self.due.is_empty() && self.tree.is_some())?;
        let streams: BTreeMap<_, _> =
            self.streams.iter().map(|(id, last)| (*id, last.seq)).collect();
        Some(MirrorState {
            origin: self.plan.origin.clone(),
            keys: keys_digest(trust, &self.plan.origin),
            bundles: self.bundles,
            heads: self.plan.head_files(self.bundles * u64::from(TILE_WIDTH)),
            levels: self.levels.clone(),
            times: self.times,
            streams,
            counts: self.counts,
        })
    }

    /// The report.
    pub fn finish(mut self) -> MirrorReport {
        self.counts.streams = self.streams.len() as u64;
        MirrorReport {
            origin: Some(self.plan.origin.clone()),
            head: self.plan.size(),
            resumed: self.plan.state.as_ref().map_or(0, |state| state.size().0),
            counts: self.counts,
            times: self.times,
            witnesses: self.plan.witnesses.clone(),
            not_checked: self.plan.not_checked.clone(),
            ..MirrorReport::of(self.findings)
        }
    }
}

impl Plan<'_> {
    /// The widest tile or bundle of the same place as this partial one; `None` where it lies beyond
    /// the head, or is the widest itself.
    pub fn widest(&self, path: &TilePath) -> Option<TilePath> {
        let width = tile_width(path.kind(), path.index(), self.size());
        TilePath::new(path.kind(), path.index(), width).filter(|_| path.width() < width)
    }
}

/// The tree of so many whole bundles, from the hashes of the tiles above that are not full.
fn tree_of(bundles: u64, levels: &[Vec<Hash>]) -> Option<CompactRange> {
    let mut peaks = Vec::new();
    for level in levels.iter().rev() {
        let mut rest = level.as_slice();
        // The binary digits of their number, largest first, are complete subtrees.
        while !rest.is_empty() {
            let (part, after) = rest.split_at_checked(1 << rest.len().ilog2())?;
            peaks.push(root_of::<LogTree>(part)?);
            rest = after;
        }
    }
    CompactRange::from_peaks(TreeSize(bundles), peaks).ok()
}

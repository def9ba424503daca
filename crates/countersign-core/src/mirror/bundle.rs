//! One bundle of up to 256 entries with its tile of leaf hashes: what any thread can verify alone.

use std::collections::HashMap;

use super::head::{HeadFacts, Plan};
use super::report::{MirrorFinding, fault_at};
use super::{Given, MirrorFile, Place, Weight};
use crate::codes::Code;
use crate::encoding::Micros;
use crate::entry::Entry;
use crate::hash::{Hash, LeafHash, TreeSize};
use crate::kinds::Kind;
use crate::merkle::{CompactRange, LogTree, leaf_hash, root_of};
use crate::stream::StreamId;
use crate::tiles::{TILE_WIDTH, TileKind, TilePath, parse_bundle, parse_hashes, tile_width};

/// Runs that are looked at one by one, from the last, before a stream is looked up: a bundle has few.
const NEAR: usize = 16;

/// The files of one bundle, as they were found.
#[derive(Clone, Copy, Debug)]
pub struct BundleFiles<'a> {
    /// The bundle: [`Plan::entries_path`].
    pub entries: Given<'a>,
    /// Its leaf hashes: [`Plan::hashes_path`].
    pub hashes: Given<'a>,
}

/// Entries of one stream whose numbers follow each other, in one bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) stream: StreamId,
    /// The index of the first.
    pub(super) index: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    /// Unread entries of this bundle in front of the first and the last of them.
    pub(super) unread: (u64, u64),
}

/// A place in the bundle where a head ends.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) head: HeadFacts,
    /// The subtrees of the bundle that lie in the head's tree; `None` where they can't be known.
    pub(super) peaks: Option<Vec<Hash>>,
    /// The latest time of an entry of this bundle that the head covers.
    pub(super) latest: Option<Micros>,
}

/// What a bundle came to.
#[derive(Clone, Debug)]
pub struct BundleFacts {
    pub(super) index: u64,
    pub(super) width: u16,
    /// The subtrees of the whole bundle: one where it is full.
    pub(super) peaks: Option<Vec<Hash>>,
    pub(super) stops: Vec<Stop>,
    /// The first time in it, and the latest.
    pub(super) times: Option<(Micros, Micros)>,
    /// Where the first time was found.
    pub(super) first_read: u64,
    pub(super) runs: Vec<Run>,
    /// Entries that can't be read, or are missing.
    pub(super) unread: u64,
    pub(super) tiles: u64,
    pub(super) bundles: u64,
    /// What is wrong with its files.
    pub(super) findings: Vec<MirrorFinding>,
    /// What is wrong with its entries, if they are the log's.
    pub(super) accused: Vec<MirrorFinding>,
    /// What it comes to where the tile is the log's and the entries are not: no tile above says so of
    /// the last bundle.
    pub(super) otherwise: Option<Box<BundleFacts>>,
}

impl BundleFacts {
    /// The bundle's index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Whether both of its files were missing.
    pub(super) fn absent(&self) -> bool {
        self.tiles == 0 && self.bundles == 0
    }
}

impl Plan<'_> {
    /// Bundles up to the head that is verified.
    pub fn bundles(&self) -> u64 {
        self.size().0.div_ceil(u64::from(TILE_WIDTH))
    }

    /// The entries of the bundle with this index; `None` beyond the last.
    pub fn entries_path(&self, index: u64) -> Option<TilePath> {
        TilePath::new(TileKind::Entries, index, tile_width(TileKind::Entries, index, self.size()))
    }

    /// The tile of their leaf hashes.
    pub fn hashes_path(&self, index: u64) -> Option<TilePath> {
        let kind = TileKind::Hashes(0);
        TilePath::new(kind, index, tile_width(kind, index, self.size()))
    }

    /// Verifies a bundle (MIRR-5 to MIRR-7). `heads` are those of [`Plan::heads_in`], read.
    ///
    /// `above` reads the tile that it is asked for: where bundle and tile disagree, the tile above
    /// says which of them is the log's.
    pub fn bundle(
        &self,
        index: u64,
        files: BundleFiles<'_>,
        heads: Vec<HeadFacts>,
        above: impl Fn(TilePath) -> Option<Vec<u8>>,
    ) -> BundleFacts {
        let width = tile_width(TileKind::Entries, index, self.size());
        let mut facts = BundleFacts::new(index, width);
        let parsed = self.entries_path(index).and_then(|path| {
            let bytes = facts.found(path, files.entries)?;
            let entries = parse_bundle(bytes, width).ok();
            if entries.is_none() {
                facts.fault(Code::MirrorBundle, path);
            }
            entries
        });
        let tile = self.hashes_path(index).and_then(|path| {
            let bytes = facts.found(path, files.hashes)?;
            let hashes = parse_hashes(bytes, width).ok();
            if hashes.is_none() {
                facts.fault(Code::MirrorTile, path);
            }
            hashes
        });
        let leaves: Option<Vec<Hash>> =
            parsed.as_ref().map(|entries| entries.iter().map(|entry| leaf_hash(entry).0).collect());
        let parent = || self.parent_hash(index, &above);
        let (Some(entries), Some(leaves), Some(tile)) = (&parsed, &leaves, &tile) else {
            let mut facts = facts.told(parsed.as_deref(), leaves.or(tile).as_deref(), heads);
            if facts.peaks.is_none() && width == TILE_WIDTH {
                // Its inside is lost; its root may still stand in the tile above.
                facts.peaks = parent().map(|hash| vec![hash]);
            }
            return facts;
        };
        if leaves == tile {
            return facts.told(Some(entries), Some(leaves), heads);
        }
        // The two disagree, and one of them is the log's.
        let mut by_tile = facts.clone();
        by_tile.findings.extend(self.entries_path(index).map(altered(Code::MirrorBundle)));
        facts.findings.extend(self.hashes_path(index).map(altered(Code::MirrorTile)));
        if width < TILE_WIDTH {
            let otherwise = by_tile.told(None, Some(tile), heads.clone());
            let facts = facts.told(Some(entries), Some(leaves), heads);
            return BundleFacts { otherwise: Some(Box::new(otherwise)), ..facts };
        }
        if parent().is_some_and(|hash| Some(hash) == root_of::<LogTree>(tile)) {
            by_tile.told(None, Some(tile), heads)
        } else {
            facts.told(Some(entries), Some(leaves), heads)
        }
    }

    /// The hash of a full bundle's tile, as the tile above has it.
    fn parent_hash(
        &self,
        index: u64,
        above: &impl Fn(TilePath) -> Option<Vec<u8>>,
    ) -> Option<Hash> {
        let (kind, width) = (TileKind::Hashes(1), u64::from(TILE_WIDTH));
        let (parent, place) = (index / width, usize::try_from(index % width).ok()?);
        let path = TilePath::new(kind, parent, tile_width(kind, parent, self.size()))?;
        let hashes = parse_hashes(&above(path)?, path.width()).ok()?;
        hashes.get(place).copied()
    }
}

/// A file that is not the log's.
fn altered(code: Code) -> impl Fn(TilePath) -> MirrorFinding {
    move |path| fault_at(code, &MirrorFile::Tile(path))
}

impl BundleFacts {
    fn new(index: u64, width: u16) -> Self {
        Self {
            index,
            width,
            peaks: None,
            stops: Vec::new(),
            times: None,
            first_read: 0,
            runs: Vec::new(),
            unread: 0,
            tiles: 0,
            bundles: 0,
            findings: Vec::new(),
            accused: Vec::new(),
            otherwise: None,
        }
    }

    fn fault(&mut self, code: Code, path: TilePath) {
        self.findings.push(fault_at(code, &MirrorFile::Tile(path)));
    }

    /// The bytes of a file; where there are none, a finding.
    fn found<'b>(&mut self, path: TilePath, given: Given<'b>) -> Option<&'b [u8]> {
        match given {
            Given::Bytes(bytes) => {
                match path.kind() {
                    TileKind::Entries => self.bundles += 1,
                    TileKind::Hashes(_) => self.tiles += 1,
                }
                return Some(bytes);
            }
            Given::NotAFile => self.fault(Code::MirrorFileKind, path),
            Given::Absent => self.findings.push(MirrorFinding {
                weight: Weight::Doubt,
                ..fault_at(Code::MirrorFileMissing, &MirrorFile::Tile(path))
            }),
        }
        None
    }

    /// What these entries and leaf hashes come to.
    fn told(
        mut self,
        entries: Option<&[&[u8]]>,
        leaves: Option<&[Hash]>,
        heads: Vec<HeadFacts>,
    ) -> Self {
        let latest = self.read_entries(entries);
        self.stops(heads, leaves, &latest);
        self
    }

    /// Times, streams and places of the entries (MIRR-7). Gives the latest time up to each.
    fn read_entries(&mut self, entries: Option<&[&[u8]]>) -> Vec<Option<Micros>> {
        let Some(entries) = entries else {
            self.unread = u64::from(self.width);
            return Vec::new();
        };
        let start = self.index.saturating_mul(u64::from(TILE_WIDTH));
        let mut open: HashMap<StreamId, usize> = HashMap::new();
        let mut latest = Vec::with_capacity(entries.len());
        for (index, bytes) in (start..).zip(entries) {
            match Entry::from_bytes(bytes) {
                Ok(entry) => self.entry(index, &entry, &mut open),
                Err(fault) => {
                    self.unread += 1;
                    // Of a log with other entries than ours each is unread: one says it all.
                    if self.unread == 1 {
                        let place = Place { index: Some(index), ..Place::default() };
                        let fault = Code::MirrorEntryUnread.at_field(fault.code.as_str());
                        self.findings.push(MirrorFinding { weight: Weight::Doubt, fault, place });
                    }
                }
            }
            latest.push(self.times.map(|(_, latest)| latest));
        }
        latest
    }

    fn entry(&mut self, index: u64, entry: &Entry, open: &mut HashMap<StreamId, usize>) {
        let place = || Place {
            file: None,
            index: Some(index),
            stream: Some(entry.stream),
            seq: Some(entry.seq),
        };
        let mut fault = |code: Code| {
            let fault = code.at_index(index);
            self.accused.push(MirrorFinding { weight: Weight::Fault, fault, place: place() });
        };
        if (index == 0) != (entry.kind == Kind::Genesis) {
            fault(Code::GenesisPlace);
        }
        if self.times.is_some_and(|(_, latest)| entry.logged_at < latest) {
            fault(Code::MirrorTimeOrder);
        }
        let time = entry.logged_at;
        if self.times.is_none() {
            self.first_read = index;
        }
        let (first, latest) = self.times.unwrap_or((time, time));
        self.times = Some((first, latest.max(time)));
        let far = self.runs.len().saturating_sub(NEAR);
        let near = self.runs.iter().skip(far).rposition(|run| run.stream == entry.stream);
        let at = near.map(|at| far + at).or_else(|| open.get(&entry.stream).copied());
        let run = at.and_then(|at| self.runs.get_mut(at));
        if let Some(run) = run
            && run.last.checked_add(1) == Some(entry.seq)
        {
            run.last = entry.seq;
            run.unread.1 = self.unread;
            return;
        }
        open.insert(entry.stream, self.runs.len());
        self.runs.push(Run {
            stream: entry.stream,
            index,
            first: entry.seq,
            last: entry.seq,
            unread: (self.unread, self.unread),
        });
    }

    /// The subtrees at each head's size, and at the bundle's end.
    fn stops(&mut self, heads: Vec<HeadFacts>, leaves: Option<&[Hash]>, latest: &[Option<Micros>]) {
        let start = self.index.saturating_mul(u64::from(TILE_WIDTH));
        let mut tree = CompactRange::new();
        let mut rest = leaves.unwrap_or_default().iter();
        for head in heads {
            let count = head.size.0.saturating_sub(start);
            while tree.size() < TreeSize(count)
                && let Some(leaf) = rest.next()
            {
                tree.append(&LeafHash(*leaf));
            }
            let whole = tree.size() == TreeSize(count);
            let peaks = whole.then(|| tree.peaks().to_vec());
            let at = usize::try_from(count).ok().and_then(|count| count.checked_sub(1));
            let latest = at.and_then(|at| latest.get(at)).copied().flatten();
            self.stops.push(Stop { head, peaks, latest });
        }
        for leaf in rest {
            tree.append(&LeafHash(*leaf));
        }
        self.peaks = leaves.map(|_| tree.peaks().to_vec());
    }
}

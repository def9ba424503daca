//! Every entry between two heads (PACK-20 to PACK-24): they lead from one root to the other, their
//! times never decrease, no stream skips or repeats a number, and each that is of a claimed key has
//! its evidence.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap, VecDeque};

use sha2::{Digest as _, Sha256};

use super::openings::{Beginnings, Opened, Seen};
use super::report::{Findings, Place};
use super::{Claims, GateKey};
use crate::codes::Code;
use crate::encoding::Micros;
use crate::entry::{ENTRY_BYTES, Entry};
use crate::evidence::Evidence;
use crate::hash::{Hash, RootHash, TreeSize};
use crate::kinds::Kind;
use crate::merkle::{CompactRange, leaf_hash};
use crate::stream::StreamId;

/// Bytes of entries that are asked for at once: their evidence is not far behind.
pub(super) const CHUNK_BYTES: usize = 2_048 * ENTRY_BYTES;

/// The entry that the log has where an evidence file says that it belongs.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) index: u64,
    pub(super) bytes: [u8; ENTRY_BYTES],
}

/// The range, as far as it was read.
pub(super) struct Range {
    from: u64,
    to: u64,
    prefixes: BTreeSet<[u8; 12]>,
    /// Those of them that have an entry here.
    seen: BTreeSet<[u8; 12]>,
    tree: Option<CompactRange>,
    at: u64,
    last_time: Micros,
    /// Every stream that has an entry here, whoever writes it.
    streams: HashMap<StreamId, Seen>,
    hasher: Sha256,
    expected: VecDeque<Expected>,
    ended: bool,
    /// There is not a whole number of entries, or more of them than the range has.
    odd: bool,
    /// What follows from the entries. It counts once they are known to be the log's.
    pub(super) findings: Findings,
    /// Where the ledger's records about streams stand that the pack has no evidence of.
    openings_unshown: Vec<u64>,
    /// Streams with entries here of which nothing shows whose they are.
    pub(super) streams_unshown: u64,
}

impl Range {
    pub(super) fn new(claims: &Claims, origin: &str) -> Self {
        Self {
            from: claims.from.0,
            to: claims.to.0,
            prefixes: claims.keys.iter().filter_map(|key| prefix(origin, key)).collect(),
            tree: None,
            at: claims.from.0,
            last_time: Micros(0),
            streams: HashMap::new(),
            hasher: Sha256::new(),
            expected: VecDeque::new(),
            ended: false,
            odd: false,
            findings: Findings::default(),
            seen: BTreeSet::new(),
            openings_unshown: Vec::new(),
            streams_unshown: 0,
        }
    }

    /// Whether an index lies in the range.
    pub(super) fn holds(&self, index: u64) -> bool {
        (self.from..self.to).contains(&index)
    }

    /// Whether the range begins behind an index.
    pub(super) fn is_after(&self, index: u64) -> bool {
        index < self.from
    }

    /// Whether a stream is one of the claimed keys', whatever its instance.
    pub(super) fn claims(&self, stream: StreamId) -> bool {
        stream.0.first_chunk::<12>().is_some_and(|prefix| self.prefixes.contains(prefix))
    }

    /// Whether any stream of this key has an entry here.
    pub(super) fn has_seen(&self, origin: &str, key: &GateKey) -> bool {
        prefix(origin, key).is_some_and(|prefix| self.seen.contains(&prefix))
    }

    /// Whether the entries can be held against head A.
    pub(super) fn begun(&self) -> bool {
        self.tree.is_some()
    }

    /// How far the entries were read: no entry from here on is known.
    pub(super) fn at(&self) -> u64 {
        if self.ended { self.to } else { self.at }
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// When the last entry was logged.
    pub(super) fn last_time(&self) -> Micros {
        self.last_time
    }

    /// PACK-20: the peaks lead to head A's root.
    pub(super) fn begin(&mut self, peaks: &[u8], root: Option<RootHash>) -> Result<(), Code> {
        let hashes: Vec<Hash> = peaks.chunks(32).map_while(|hash| hash.try_into().ok()).collect();
        let whole = hashes.len() * 32 == peaks.len();
        let tree = CompactRange::from_peaks(TreeSize(self.from), hashes);
        let tree = tree.ok().filter(|_| whole).ok_or(Code::PackPeaksRoot)?;
        // The empty tree has no head.
        if self.from > 0 && Some(tree.root()) != root {
            return Err(Code::PackPeaksRoot);
        }
        self.tree = Some(tree);
        Ok(())
    }

    /// PACK-21: a file of this length has one entry for each index. One that has not is not read.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        bytes == self.to.saturating_sub(self.from).saturating_mul(ENTRY_BYTES as u64)
    }

    /// Reads the entries that follow; `shown` says whether there is evidence for an index. Bytes
    /// come in whole entries until the file ends. Gives whether more of them are wanted.
    pub(super) fn feed(&mut self, bytes: &[u8], shown: impl Fn(u64) -> bool) -> bool {
        self.hasher.update(bytes);
        for entry in bytes.chunks(ENTRY_BYTES) {
            let whole = <&[u8; ENTRY_BYTES]>::try_from(entry);
            let (Ok(entry), true) = (whole, self.at < self.to) else {
                self.odd = true;
                break;
            };
            self.entry(entry, shown(self.at));
            self.at += 1;
        }
        !self.odd && bytes.len() == CHUNK_BYTES
    }

    /// PACK-8 and PACK-21: whether the file, whose last bytes were these many, is the one that is
    /// listed, has an entry for each index, and leads with the peaks to head B's root.
    pub(super) fn end(
        &mut self,
        last: usize,
        listed: Option<&Hash>,
        root: Option<RootHash>,
    ) -> Result<(), Code> {
        self.ended = true;
        let digest: Hash = self.hasher.finalize_reset().into();
        // Of a file that is too long the rest was not read.
        if last < CHUNK_BYTES && Some(&digest) != listed {
            Err(Code::PackFileHash)
        } else if self.odd || self.at < self.to {
            Err(Code::PackEntriesLength)
        } else if self.tree.as_ref().is_none_or(|tree| Some(tree.root()) != root) {
            Err(Code::PackEntriesRoot)
        } else {
            Ok(())
        }
    }

    /// The entries are not the log's: what they seemed to show is not shown.
    pub(super) fn discard(&mut self) {
        self.ended = true;
        self.findings = Findings::default();
        self.expected.clear();
        self.streams.clear();
        self.openings_unshown.clear();
        self.last_time = Micros(0);
    }

    /// PACK-23 and PACK-31: every stream begins where it was opened. Called once, when all evidence
    /// was read, with the openings that it shows.
    pub(super) fn beginnings(&mut self, opened: &Opened) {
        // Nothing follows from entries that were not read.
        if self.streams.is_empty() {
            return;
        }
        let untold = opened.untold.iter().filter(|at| (self.from..self.to).contains(*at));
        self.openings_unshown.extend(untold);
        self.openings_unshown.sort_unstable();
        let beginnings = Beginnings {
            from: self.from,
            seen: &self.streams,
            unshown: &self.openings_unshown,
            shown: &opened.streams,
            prefixes: &self.prefixes,
        };
        self.streams_unshown = beginnings.judge(&mut self.findings);
    }

    /// The ledger's records about streams in the range that the pack doesn't show.
    pub(super) fn openings_unshown(&self) -> u64 {
        self.openings_unshown.len() as u64
    }

    fn entry(&mut self, bytes: &[u8; ENTRY_BYTES], shown: bool) {
        if let Some(tree) = &mut self.tree {
            tree.append(&leaf_hash(bytes));
        }
        let index = self.at;
        if shown {
            self.expected.push_back(Expected { index, bytes: *bytes });
        }
        let Ok(entry) = Entry::from_bytes(bytes) else {
            let place = Place { index: Some(index), ..Place::default() };
            self.findings.doubt(Code::PackEntryUnread.at_index(index), place);
            return;
        };
        let place = Place::entry(index, entry.stream, entry.seq);
        // PACK-22.
        if entry.logged_at < self.last_time {
            self.findings.fault(Code::PackTimeOrder.at_index(index), place.clone());
        }
        self.last_time = self.last_time.max(entry.logged_at);
        if (index == 0) != (entry.kind == Kind::Genesis) {
            self.findings.fault(Code::GenesisPlace.at_index(index), place.clone());
        }
        self.number(&entry, index, &place);
        // PACK-24: none is held back.
        if self.claims(entry.stream) {
            self.seen.extend(entry.stream.0.first_chunk::<12>());
            if !shown {
                self.findings.fault(Code::PackRecordWithheld.at_index(index), place);
            }
        } else if entry.kind == Kind::Stream && entry.stream == StreamId::LEDGER && !shown {
            self.openings_unshown.push(index);
        }
    }

    /// PACK-23: in every stream of the log, claimed or not, one number follows the other. Whether
    /// the first one fits is known when all evidence was read.
    fn number(&mut self, entry: &Entry, index: u64, place: &Place) {
        let new = Seen { first: index, first_seq: entry.seq, last_seq: entry.seq };
        let next = match self.streams.entry(entry.stream) {
            Slot::Occupied(mut seen) => {
                let before = std::mem::replace(&mut seen.get_mut().last_seq, entry.seq);
                before.saturating_add(1)
            }
            Slot::Vacant(slot) => {
                slot.insert(new);
                if self.from > 0 {
                    return;
                }
                0
            }
        };
        let code = match entry.seq.cmp(&next) {
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => Code::PackSeqGap,
            std::cmp::Ordering::Less => Code::PackSeqRepeated,
        };
        self.findings.fault(code.at_index(index), place.clone());
    }

    /// PACK-18: whether the log has another entry at this index than the evidence says.
    pub(super) fn differs(&mut self, index: u64, evidence: &Evidence) -> bool {
        self.holds(index)
            && self.expected(index).is_some_and(|entry| entry.as_slice() != evidence.entry)
    }

    /// The entry at this index, which was read before its evidence; each is asked for once,
    /// ascending.
    fn expected(&mut self, index: u64) -> Option<[u8; ENTRY_BYTES]> {
        while let Some(first) = self.expected.front().copied() {
            if first.index > index {
                return None;
            }
            self.expected.pop_front();
            if first.index == index {
                return Some(first.bytes);
            }
        }
        None
    }
}

/// The bytes that the streams of this key begin with, whatever the instance behind them.
fn prefix(origin: &str, key: &GateKey) -> Option<[u8; 12]> {
    let stream = StreamId::derive(origin, &key.tenant, &key.gate, &key.key, 0).ok()?;
    stream.0.first_chunk::<12>().copied()
}

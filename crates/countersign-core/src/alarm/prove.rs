//! The mathematics of an alarm: that what it shows can't be an honest log's, whoever signed it
//! (ALRM-5 to ALRM-9).

use super::{Alarm, Claim, ProvenEntry, ProvenRun, malformed};
use crate::codes::{Code, Fault};
use crate::encoding::Micros;
use crate::entry::Entry;
use crate::hash::{LeafIndex, RootHash, TreeSize};
use crate::merkle::{
    CompactRange, leaf_hash, roots_from_consistency, verify_consistency, verify_inclusion,
};
use crate::note::SignedCheckpoint;
use crate::stream::StreamId;

/// What an alarm shows, where its mathematics hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// One size, two roots.
    Fork {
        /// The size.
        size: TreeSize,
        /// The roots.
        roots: [RootHash; 2],
    },
    /// The larger tree has another beginning than the smaller one.
    Rewrite {
        /// The sizes of the two heads.
        sizes: [TreeSize; 2],
        /// The root that the smaller head has.
        said: RootHash,
        /// The root that the larger head's tree has at that size.
        found: RootHash,
    },
    /// Times decrease.
    Order {
        /// Where the two entries stand.
        indexes: [LeafIndex; 2],
        /// When they were logged, by the log's own word.
        times: [Micros; 2],
    },
    /// The numbers of two entries of one stream can't both be right.
    Stream {
        /// The stream.
        stream: StreamId,
        /// Where the two entries stand.
        indexes: [LeafIndex; 2],
        /// Their numbers.
        seqs: [u64; 2],
    },
    /// An entry has another number than the next of its stream.
    Gap {
        /// The stream.
        stream: StreamId,
        /// Where the entry stands.
        index: LeafIndex,
        /// The number of the entry of this stream before it; `None` where it is the first.
        before: Option<u64>,
        /// Its number.
        seq: u64,
    },
}

impl Shown {
    /// One sentence that says what the log did. It holds no text from outside.
    pub fn sentence(&self) -> String {
        match self {
            Self::Fork { size, roots: [one, other] } => format!(
                "It signed two different trees of {} entries: roots {} and {}.",
                size.0,
                one.hex(),
                other.hex()
            ),
            Self::Rewrite { sizes: [smaller, larger], said, found } => format!(
                "It rewrote history: it signed {} entries with root {}, and later {} entries whose \
                 first {} have root {}.",
                smaller.0,
                said.hex(),
                larger.0,
                smaller.0,
                found.hex()
            ),
            Self::Order { indexes: [one, other], times: [first, second] } => format!(
                "It dated entry {} {}, and entry {} behind it {}, which is earlier.",
                one.0,
                first.format(),
                other.0,
                second.format()
            ),
            Self::Stream { stream, indexes: [one, other], seqs: [first, second] } => format!(
                "In stream {} it gave entry {} the number {first} and entry {} behind it the number \
                 {second}: numbers ascend by one, and no more entries lie between.",
                stream.hex(),
                one.0,
                other.0
            ),
            Self::Gap { stream, index, before, seq } => {
                let before = match before {
                    Some(before) => format!("follows number {before} of its stream"),
                    None => "is the first of its stream".to_owned(),
                };
                format!(
                    "In stream {} entry {} {before} and has the number {seq}: a number was left \
                     out or given twice.",
                    stream.hex(),
                    index.0
                )
            }
        }
    }
}

impl Alarm {
    /// What the alarm shows of whoever signed its heads. Checks no signature.
    pub fn shown(&self) -> Result<Shown, Fault> {
        match &self.claim {
            Claim::Fork { heads } => fork(heads),
            Claim::Rewrite { heads, seed, hashes } => {
                let [smaller, larger] = heads.as_ref();
                one_origin(heads)?;
                if smaller.size.0 == 0 || smaller.size >= larger.size {
                    return Err(Code::ConsistencySizes.into());
                }
                let (found, root) =
                    roots_from_consistency(smaller.size, larger.size, seed, hashes)?;
                // ALRM-6: the hashes are those of the larger head's tree, since they lead to its root.
                if root != larger.root {
                    return Err(Code::AlarmHashes.into());
                }
                if found == smaller.root {
                    return Err(Code::AlarmJoined.into());
                }
                let sizes = [smaller.size, larger.size];
                Ok(Shown::Rewrite { sizes, said: smaller.root, found })
            }
            Claim::Order { head, entries } => order(head, entries),
            Claim::Stream { head, entries } => stream(head, entries),
            Claim::Gap { head, run } => gap(head, run),
        }
    }
}

fn one_origin([one, other]: &[SignedCheckpoint; 2]) -> Result<(), Fault> {
    if one.origin == other.origin { Ok(()) } else { Err(Code::ConsistencyOrigins.into()) }
}

/// ALRM-5.
fn fork(heads: &[SignedCheckpoint; 2]) -> Result<Shown, Fault> {
    one_origin(heads)?;
    let [one, other] = heads;
    if one.size != other.size || one.root == other.root {
        return Err(Code::AlarmNoFork.into());
    }
    // One alarm, one spelling.
    if one.root > other.root {
        return Err(malformed("heads"));
    }
    Ok(Shown::Fork { size: one.size, roots: [one.root, other.root] })
}

/// Both entries are in the head's tree, in this order; read (ENT-1, ENT-2).
fn proven(head: &SignedCheckpoint, entries: &[ProvenEntry; 2]) -> Result<[Entry; 2], Fault> {
    let [one, other] = entries;
    if one.index >= other.index {
        return Err(malformed("entries"));
    }
    for entry in entries {
        let leaf = leaf_hash(&entry.bytes);
        verify_inclusion(entry.index, head.size, &leaf, &entry.path, &head.root)?;
    }
    Ok([Entry::from_bytes(&one.bytes)?, Entry::from_bytes(&other.bytes)?])
}

/// ALRM-7.
fn order(head: &SignedCheckpoint, entries: &[ProvenEntry; 2]) -> Result<Shown, Fault> {
    let [first, second] = proven(head, entries)?;
    if second.logged_at >= first.logged_at {
        return Err(Code::AlarmTimes.into());
    }
    let indexes = entries.each_ref().map(|entry| entry.index);
    Ok(Shown::Order { indexes, times: [first.logged_at, second.logged_at] })
}

/// ALRM-8.
fn stream(head: &SignedCheckpoint, entries: &[ProvenEntry; 2]) -> Result<Shown, Fault> {
    let [first, second] = proven(head, entries)?;
    let [i, j] = entries.each_ref().map(|entry| entry.index);
    let steps = second.seq.checked_sub(first.seq);
    // Between i and j there is room for so many numbers of one stream.
    let possible = steps.is_some_and(|steps| (1..=j.0 - i.0).contains(&steps));
    if first.stream != second.stream || possible {
        return Err(Code::AlarmNumbers.into());
    }
    let (stream, seqs) = (first.stream, [first.seq, second.seq]);
    Ok(Shown::Stream { stream, indexes: [i, j], seqs })
}

/// ALRM-9: with every entry between them, two that follow each other in a stream.
fn gap(head: &SignedCheckpoint, run: &ProvenRun) -> Result<Shown, Fault> {
    let count = u64::try_from(run.entries.len()).map_err(|_| malformed("run"))?;
    let end = run.from.0.checked_add(count).ok_or(malformed("from"))?;
    let mut tree = CompactRange::from_peaks(TreeSize(run.from.0), run.peaks.clone())?;
    for entry in &run.entries {
        tree.append(&leaf_hash(entry));
    }
    // The tree that ends with the run is the head's, as far as it reaches.
    let joined = (TreeSize(end), &tree.root());
    verify_consistency(joined.0, head.size, joined.1, &head.root, &run.hashes).map_err(
        |fault| if fault.code == Code::ConsistencyMismatch { run_differs() } else { fault },
    )?;
    let entries = run.entries.iter().map(|entry| Entry::from_bytes(entry));
    let entries = entries.collect::<Result<Vec<_>, Fault>>()?;
    let (last, earlier) = entries.split_last().ok_or(malformed("run"))?;
    let before = earlier.iter().rfind(|entry| entry.stream == last.stream);
    let before = before.map(|entry| entry.seq);
    let right = match before {
        Some(before) => before.checked_add(1) == Some(last.seq),
        // In front of the run there may be more of this stream, unless it is the log's beginning.
        None => run.from.0 > 0 || last.seq == 0,
    };
    if right {
        return Err(Code::AlarmNumbers.into());
    }
    Ok(Shown::Gap { stream: last.stream, index: LeafIndex(end - 1), before, seq: last.seq })
}

fn run_differs() -> Fault {
    Code::AlarmHashes.at_field("run")
}

//! Alarms: proofs that a log misbehaved, which need no trust in whoever made them (spec/alarm.md).
//!
//! An [`Alarm`] is built from what a mirror saw, and only where it proves something; or it is read
//! from a file, and then it is worth what [`verify_alarm`] makes of it. What it rests on is the
//! log's own signature, and nothing else: no clock, no witness, no word of its maker.

mod form;
mod judge;
mod prove;

use crate::codes::{Code, Fault};
use crate::encoding::hex;
use crate::entry::ENTRY_BYTES;
use crate::hash::{Hash, LeafIndex, TreeSize, sha256};
use crate::merkle::{NodeId, ProofPlan};
use crate::note::SignedCheckpoint;

pub use judge::{AlarmReport, verify_alarm};
pub use prove::Shown;

/// Bytes that an alarm may have: room for the longest run of entries, in base64, and two notes.
pub const ALARM_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Entries that the run of a gap may have, from the one before the gap to the one behind it.
pub const RUN_ENTRIES_MAX: usize = 65_536;

/// What kind of misbehaviour an alarm proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proves {
    /// Two heads of one size with two roots.
    Fork,
    /// A larger head whose tree does not begin with the tree of a smaller one.
    Rewrite,
    /// An entry that is dated before one that stands in front of it.
    Order,
    /// Two entries of one stream whose numbers can't both be right.
    Stream,
    /// A number that a stream skips, or has twice, with every entry of the log between.
    Gap,
}

impl Proves {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Fork, Self::Rewrite, Self::Order, Self::Stream, Self::Gap];

    /// `fork`, `rewrite`, `order`, `stream` or `gap`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rewrite => "rewrite",
            Self::Order => "order",
            Self::Stream => "stream",
            Self::Gap => "gap",
        }
    }
}

/// An entry with the proof that it is in a head's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenEntry {
    /// Its place in the log.
    pub index: LeafIndex,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// From the leaf's sibling to the root's child.
    pub path: Vec<Hash>,
}

/// All entries of the log from one index on, with what joins them to a head's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenRun {
    /// The index of the first.
    pub from: LeafIndex,
    /// The peaks of the tree in front of them, largest first: the nodes of [`ProofPlan::root`] of
    /// that size.
    pub peaks: Vec<Hash>,
    /// The entries.
    pub entries: Vec<[u8; ENTRY_BYTES]>,
    /// The consistency proof from the tree that ends with them to the head's.
    pub hashes: Vec<Hash>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    Fork { heads: Box<[SignedCheckpoint; 2]> },
    Rewrite { heads: Box<[SignedCheckpoint; 2]>, seed: Hash, hashes: Vec<Hash> },
    Order { head: Box<SignedCheckpoint>, entries: [ProvenEntry; 2] },
    Stream { head: Box<SignedCheckpoint>, entries: [ProvenEntry; 2] },
    Gap { head: Box<SignedCheckpoint>, run: ProvenRun },
}

/// An alarm: well formed, and not yet verified where it was read from a file.
///
/// The builders check everything but signatures, and refuse what proves nothing; who builds one has
/// verified the heads, and keeps of their lines at least the log's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    claim: Claim,
}

impl Alarm {
    /// Two heads of one size with different roots, in any order (ALRM-5).
    pub fn fork(one: SignedCheckpoint, other: SignedCheckpoint) -> Result<Self, Fault> {
        let heads = if one.root <= other.root { [one, other] } else { [other, one] };
        Self::proven(Claim::Fork { heads: Box::new(heads) })
    }

    /// A larger head that does not continue a smaller one (ALRM-6). [`RewritePlan`] says which hashes of
    /// the *larger* head's tree prove it.
    pub fn rewrite(
        smaller: SignedCheckpoint,
        larger: SignedCheckpoint,
        seed: Hash,
        hashes: Vec<Hash>,
    ) -> Result<Self, Fault> {
        Self::proven(Claim::Rewrite { heads: Box::new([smaller, larger]), seed, hashes })
    }

    /// Two entries whose times decrease, the one with the smaller index first (ALRM-7).
    pub fn order(
        head: SignedCheckpoint,
        first: ProvenEntry,
        second: ProvenEntry,
    ) -> Result<Self, Fault> {
        Self::proven(Claim::Order { head: Box::new(head), entries: [first, second] })
    }

    /// Two entries of one stream whose numbers can't both be right, the one with the smaller index
    /// first (ALRM-8).
    pub fn stream(
        head: SignedCheckpoint,
        first: ProvenEntry,
        second: ProvenEntry,
    ) -> Result<Self, Fault> {
        Self::proven(Claim::Stream { head: Box::new(head), entries: [first, second] })
    }

    /// A run of entries whose last one does not have the next number of its stream (ALRM-9). The run
    /// begins with the entry of that stream before it, or with the log's first entry.
    pub fn gap(head: SignedCheckpoint, run: ProvenRun) -> Result<Self, Fault> {
        Self::proven(Claim::Gap { head: Box::new(head), run })
    }

    fn proven(claim: Claim) -> Result<Self, Fault> {
        let alarm = Self { claim };
        alarm.shown()?;
        // What can't be read back is no alarm: an index that JSON can't write, a note too long.
        Self::parse(&alarm.to_bytes())?;
        Ok(alarm)
    }

    /// What kind of misbehaviour it is about.
    pub fn proves(&self) -> Proves {
        match self.claim {
            Claim::Fork { .. } => Proves::Fork,
            Claim::Rewrite { .. } => Proves::Rewrite,
            Claim::Order { .. } => Proves::Order,
            Claim::Stream { .. } => Proves::Stream,
            Claim::Gap { .. } => Proves::Gap,
        }
    }

    /// The heads that it rests on: two of a fork or a rewrite, one of the others.
    pub fn heads(&self) -> &[SignedCheckpoint] {
        match &self.claim {
            Claim::Fork { heads } | Claim::Rewrite { heads, .. } => heads.as_slice(),
            Claim::Order { head, .. } | Claim::Stream { head, .. } | Claim::Gap { head, .. } => {
                std::slice::from_ref(head)
            }
        }
    }

    /// The log that it is about.
    pub fn origin(&self) -> &str {
        self.heads().first().map_or("", |head| head.origin.as_str())
    }

    /// What to name its file: the same alarm has the same name (ALRM-10).
    pub fn file_name(&self) -> String {
        let digest = hex(&sha256(&self.to_bytes()));
        format!("{}-{}.alarm", self.proves().as_str(), digest.get(..16).unwrap_or_default())
    }
}

/// Which hashes of the larger head's tree show that it does not continue a smaller one: ask its
/// tiles for [`RewritePlan::nodes`], hand their hashes to [`RewritePlan::finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewritePlan {
    seed: Option<NodeId>,
    plan: ProofPlan,
}

impl RewritePlan {
    /// The plan; `None` unless 1 ≤ `smaller` < `larger`.
    pub fn new(smaller: TreeSize, larger: TreeSize) -> Option<Self> {
        let plan = ProofPlan::consistency(smaller, larger).filter(|_| smaller < larger)?;
        // A consistency proof leaves out a tree that is one subtree: the verifier knows its root.
        // Here it is the other root that has to be shown.
        let whole = smaller.0.is_power_of_two();
        let level = u8::try_from(smaller.0.trailing_zeros()).ok()?;
        Some(Self { seed: whole.then_some(NodeId { level, index: 0 }), plan })
    }

    /// The complete subtrees whose hashes are needed.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.seed.iter().chain(self.plan.nodes()).copied().collect()
    }

    /// Seed and hashes, from the hashes of [`RewritePlan::nodes`] in their order; `None` where they
    /// are too few.
    pub fn finish(&self, hashes: &[Hash]) -> Option<(Hash, Vec<Hash>)> {
        if hashes.len() != self.nodes().len() {
            return None;
        }
        if self.seed.is_some() {
            let (seed, rest) = hashes.split_first()?;
            return Some((*seed, self.plan.finish(rest)));
        }
        let proof = self.plan.finish(hashes);
        let (seed, rest) = proof.split_first()?;
        Some((*seed, rest.to_vec()))
    }
}

fn malformed(member: &'static str) -> Fault {
    Code::AlarmMalformed.at_field(member)
}

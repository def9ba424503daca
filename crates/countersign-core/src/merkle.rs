//! Merkle trees of the RFC 9162 shape: roots, compact ranges, proofs and their strict verification.
//!
//! One shape serves three trees: the log (SHA-256), a record's fields and a gate's batch (BLAKE3).
//! Verification evaluates a root from a proof and then compares; a proof has exactly the length
//! that index and size demand, or it is refused (MERKLE vectors "trailing", "removed-component").
//!
//! What is absent: recursion, input or output. A prover names the nodes it needs ([`NodeId`]) and is
//! handed their hashes by a [`HashReader`].

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

use crate::codes::{Code, Fault};
use crate::entry::ENTRY_BYTES;
use crate::hash::{Context, Hash, LeafHash, LeafIndex, RootHash, TreeSize};

/// How one tree joins two nodes.
pub trait NodeHasher {
    /// The hash of an inner node.
    fn node(left: &Hash, right: &Hash) -> Hash;
}

/// The log tree of RFC 9162: SHA-256(0x01 || left || right).
#[derive(Clone, Copy, Debug)]
pub struct LogTree;

/// A record's fields.
#[derive(Clone, Copy, Debug)]
pub struct FieldTree;

/// A gate's batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchTree;

impl NodeHasher for LogTree {
    fn node(left: &Hash, right: &Hash) -> Hash {
        let mut message = [1; NODE_BYTES];
        message[1..33].copy_from_slice(left);
        message[33..].copy_from_slice(right);
        sha256_two_blocks(&message)
    }
}

/// Bytes that are hashed for a node: 0x01 and two hashes.
const NODE_BYTES: usize = 65;
/// Bytes that are hashed for a leaf of this log: 0x00 and an entry.
const LEAF_BYTES: usize = 1 + ENTRY_BYTES;

/// SHA-256's state before the first block (FIPS 180-4, section 5.3.3).
const SHA256_BEGIN: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// SHA-256 of a message that ends in its second block. A log hashes little else, each time anew: no
/// buffer is filled, and both blocks are one call.
fn sha256_two_blocks<const N: usize>(message: &[u8; N]) -> Hash {
    const { assert!(N >= 56 && N < 120) };
    let mut blocks = [0; 128];
    // FIPS 180-4, section 5.1.1: a one, zeros, the length in bits.
    if let Some((front, [one, ..])) = blocks.split_first_chunk_mut::<N>() {
        *front = *message;
        *one = 0x80;
    }
    blocks[120..].copy_from_slice(&(N as u64 * 8).to_be_bytes());
    let mut state = SHA256_BEGIN;
    compress256(&mut state, blocks.as_chunks().0);
    let mut hash = [0; 32];
    for (to, from) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *to = from.to_be_bytes();
    }
    hash
}

impl NodeHasher for FieldTree {
    fn node(left: &Hash, right: &Hash) -> Hash {
        Context::FieldNode.hash(&[left, right])
    }
}

impl NodeHasher for BatchTree {
    fn node(left: &Hash, right: &Hash) -> Hash {
        Context::BatchNode.hash(&[left, right])
    }
}

/// SHA-256(0x00 || entry): the leaf hash of the log tree (RFC 9162 section 2.1.1).
pub fn leaf_hash(entry: &[u8]) -> LeafHash {
    if let Ok(entry) = <&[u8; ENTRY_BYTES]>::try_from(entry) {
        let mut message = [0; LEAF_BYTES];
        message[1..].copy_from_slice(entry);
        return LeafHash(sha256_two_blocks(&message));
    }
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    LeafHash(hasher.finalize().into())
}

/// The root of the empty log: SHA-256 of nothing.
pub fn empty_root() -> RootHash {
    RootHash(crate::hash::sha256(b""))
}

/// The root over some leaves, level by level; `None` over none.
pub fn root_of<H: NodeHasher>(leaves: &[Hash]) -> Option<Hash> {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        // Each level is written over the front of the one below.
        let nodes = level.len().div_ceil(2);
        for at in 0..nodes {
            let node = match level.get(2 * at..).unwrap_or_default() {
                [left, right, ..] => H::node(left, right),
                // A lone left node moves up unchanged, which is the RFC 6962 shape.
                [lone] => *lone,
                [] => unreachable!("bad math in merkle: half of a level"),
            };
            if let Some(slot) = level.get_mut(at) {
                *slot = node;
            }
        }
        level.truncate(nodes);
    }
    level.first().copied()
}

/// Evaluates the root that an inclusion proof leads to (RFC 9162 section 2.1.3.2).
///
/// `path` runs from the leaf's sibling to the root's child. Its length must be exactly what `index`
/// and `size` demand; the empty tree has no proofs.
pub fn root_from_inclusion<H: NodeHasher>(
    index: u64,
    size: u64,
    leaf: &Hash,
    path: &[Hash],
) -> Result<Hash, Fault> {
    // 1. index must be smaller than size.
    if index >= size {
        return Err(Code::IndexOutOfRange.at_index(index));
    }
    // 2. fn is index, sn is size - 1. 3. r is the leaf.
    let (mut fn_, mut sn) = (index, size - 1);
    let mut r = *leaf;
    // 4. For each value p in the path:
    for p in path {
        if sn == 0 {
            return Err(Code::ProofLength.into());
        }
        if fn_ & 1 == 1 || fn_ == sn {
            r = H::node(p, &r);
            // Where fn's last bit is not set, shift until it is, or fn is 0.
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            r = H::node(&r, p);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    // 5. sn must have come to 0; the caller compares r with the root.
    if sn != 0 {
        return Err(Code::ProofLength.into());
    }
    Ok(r)
}

/// Checks that a leaf is in the log tree of `size` leaves with this root.
pub fn verify_inclusion(
    index: LeafIndex,
    size: TreeSize,
    leaf: &LeafHash,
    path: &[Hash],
    root: &RootHash,
) -> Result<(), Fault> {
    let found = root_from_inclusion::<LogTree>(index.0, size.0, &leaf.0, path)?;
    if found == root.0 { Ok(()) } else { Err(Code::InclusionRootMismatch.into()) }
}

/// Checks that the tree of `old_size` leaves is a prefix of the one of `new_size`
/// (RFC 9162 section 2.1.4.2).
///
/// Size 0 proves nothing and is refused here: whoever starts from an empty tree says so elsewhere.
pub fn verify_consistency(
    old_size: TreeSize,
    new_size: TreeSize,
    old_root: &RootHash,
    new_root: &RootHash,
    proof: &[Hash],
) -> Result<(), Fault> {
    let (first, second) = (old_size.0, new_size.0);
    if first == 0 || first > second {
        return Err(Code::ConsistencySizes.into());
    }
    if first == second {
        if !proof.is_empty() {
            return Err(Code::ProofLength.into());
        }
        return if old_root == new_root { Ok(()) } else { Err(Code::ConsistencyMismatch.into()) };
    }
    // 2. Where first is a power of two its root leads the path.
    let (seed, rest) = if first.is_power_of_two() {
        (old_root.0, proof)
    } else {
        let (seed, rest) = proof.split_first().ok_or(Code::ProofLength)?;
        (*seed, rest)
    };
    let (old, new) = roots_from_consistency(old_size, new_size, &seed, rest)?;
    // 7. Both roots as they were given.
    if old == *old_root && new == *new_root {
        Ok(())
    } else {
        Err(Code::ConsistencyMismatch.into())
    }
}

/// Evaluates the two roots that a consistency proof leads to, the smaller tree's first
/// (RFC 9162 section 2.1.4.2, steps 3 to 7).
///
/// `seed` is the proof's first value: the root of the smaller tree where its size is a power of two,
/// which RFC 9162 leaves out of the proof. The length of `rest` must be exactly what the sizes
/// demand; `1 ≤ old_size < new_size`.
pub fn roots_from_consistency(
    old_size: TreeSize,
    new_size: TreeSize,
    seed: &Hash,
    rest: &[Hash],
) -> Result<(RootHash, RootHash), Fault> {
    let (first, second) = (old_size.0, new_size.0);
    if first == 0 || first >= second {
        return Err(Code::ConsistencySizes.into());
    }
    // 3. fn = first - 1, sn = second - 1, shifted while fn's last bit is set.
    let (mut fn_, mut sn) = (first - 1, second - 1);
    while fn_ & 1 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    // 5. fr and sr are the first value.
    let (mut fr, mut sr) = (*seed, *seed);
    // 6. For each further value c:
    for c in rest {
        if sn == 0 {
            return Err(Code::ProofLength.into());
        }
        if fn_ & 1 == 1 || fn_ == sn {
            fr = LogTree::node(c, &fr);
            sr = LogTree::node(c, &sr);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            sr = LogTree::node(&sr, c);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    // 7. Exact length; the caller compares the roots.
    if sn != 0 {
        return Err(Code::ProofLength.into());
    }
    Ok((RootHash(fr), RootHash(sr)))
}

/// A complete subtree of the log: `2^level` leaves from `index * 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// 0 for leaves.
    pub level: u8,
    /// The node's place in its level.
    pub index: u64,
}

/// Whoever can hand out the hashes of complete subtrees.
pub trait HashReader {
    /// Why a hash can't be had.
    type Error;
    /// The hashes of `nodes`, in their order.
    fn read(&self, nodes: &[NodeId]) -> Result<Vec<Hash>, Self::Error>;
}

/// The complete subtrees that make up `[from, to)`, largest first, where `from` is a multiple of
/// the largest power of two that fits: the shape of every right-hand subtree.
fn complete_subtrees(from: u64, to: u64) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    let mut at = from;
    while at < to {
        let level = (to - at).ilog2();
        // Levels are below 64, so they fit.
        nodes.push(NodeId { level: u8::try_from(level).unwrap_or(u8::MAX), index: at >> level });
        at += 1 << level;
    }
    nodes
}

/// What a proof needs, before any hash is known: ask for [`ProofPlan::nodes`], hand their hashes to
/// [`ProofPlan::finish`]. So a reader may take its time, and this crate waits for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPlan {
    nodes: Vec<NodeId>,
    // How many of the nodes make up each hash of the proof.
    counts: Vec<usize>,
}

impl ProofPlan {
    fn of(parts: &[(u64, u64)]) -> Self {
        let mut plan = Self { nodes: Vec::new(), counts: Vec::new() };
        for &(from, to) in parts {
            let nodes = complete_subtrees(from, to);
            plan.counts.push(nodes.len());
            plan.nodes.extend(nodes);
        }
        plan
    }

    /// The plan of an inclusion proof (RFC 9162 section 2.1.3.1); `None` where the index lies
    /// outside the tree.
    pub fn inclusion(index: LeafIndex, size: TreeSize) -> Option<Self> {
        if index.0 >= size.0 {
            return None;
        }
        let (mut from, mut to) = (0, size.0);
        let mut parts = Vec::new();
        while to - from > 1 {
            let k = split(to - from);
            if index.0 - from < k {
                parts.push((from + k, to));
                to = from + k;
            } else {
                parts.push((from, from + k));
                from += k;
            }
        }
        parts.reverse();
        Some(Self::of(&parts))
    }

    /// The plan of a consistency proof (RFC 9162 section 2.1.4.1); `None` unless
    /// 1 ≤ `old_size` ≤ `new_size`.
    pub fn consistency(old_size: TreeSize, new_size: TreeSize) -> Option<Self> {
        if old_size.0 == 0 || old_size.0 > new_size.0 {
            return None;
        }
        let m = old_size.0;
        let (mut from, mut to) = (0, new_size.0);
        let mut parts = Vec::new();
        while m != to {
            let k = split(to - from);
            if m - from <= k {
                parts.push((from + k, to));
                to = from + k;
            } else {
                parts.push((from, from + k));
                from += k;
            }
        }
        // The old tree itself is known to the verifier; one of its parts is not.
        if from != 0 {
            parts.push((from, to));
        }
        parts.reverse();
        Some(Self::of(&parts))
    }

    /// The plan of a tree's root: its peaks make the one hash. The empty tree needs no node.
    pub fn root(size: TreeSize) -> Self {
        Self::of(&[(0, size.0)])
    }

    /// The complete subtrees whose hashes are needed.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The proof, from the hashes of [`ProofPlan::nodes`] in their order.
    pub fn finish(&self, hashes: &[Hash]) -> Vec<Hash> {
        let mut rest = hashes;
        let fold = |count: &usize| {
            let (part, after) = rest.split_at_checked(*count).unwrap_or((rest, &[]));
            rest = after;
            fold_right(part)
        };
        self.counts.iter().map(fold).collect()
    }
}

/// Joins complete subtrees, largest first, into the hash of their range.
fn fold_right(part: &[Hash]) -> Hash {
    let mut rest = part.iter().rev();
    let Some(last) = rest.next() else { return empty_root().0 };
    rest.fold(*last, |right, left| LogTree::node(left, &right))
}

/// The largest power of two below `n`, for n ≥ 2.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The inclusion proof of a leaf in the tree of `size` leaves.
pub fn prove_inclusion<R: HashReader>(
    index: LeafIndex,
    size: TreeSize,
    reader: &R,
) -> Result<Vec<Hash>, ProveError<R::Error>> {
    prove(ProofPlan::inclusion(index, size), reader)
}

/// The consistency proof between two sizes; `old_size` ≥ 1.
pub fn prove_consistency<R: HashReader>(
    old_size: TreeSize,
    new_size: TreeSize,
    reader: &R,
) -> Result<Vec<Hash>, ProveError<R::Error>> {
    prove(ProofPlan::consistency(old_size, new_size), reader)
}

fn prove<R: HashReader>(
    plan: Option<ProofPlan>,
    reader: &R,
) -> Result<Vec<Hash>, ProveError<R::Error>> {
    let plan = plan.ok_or(ProveError::Range)?;
    Ok(plan.finish(&reader.read(plan.nodes()).map_err(ProveError::Reader)?))
}

/// The root of the tree of `size` leaves.
pub fn root_at<R: HashReader>(size: TreeSize, reader: &R) -> Result<RootHash, R::Error> {
    let nodes = complete_subtrees(0, size.0);
    Ok(RootHash(fold_right(&reader.read(&nodes)?)))
}

/// Why a proof can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProveError<E> {
    /// The index or size asked for lies outside the tree: the caller's fault.
    Range,
    /// The reader had no hash to give.
    Reader(E),
}

/// The peaks of a tree: its complete subtrees, largest first. Enough to append and to find the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree of `size` leaves from its peaks, whose number `size` dictates.
    pub fn from_peaks(size: TreeSize, peaks: Vec<Hash>) -> Result<Self, Fault> {
        if peaks.len() != size.0.count_ones() as usize {
            return Err(Code::ProofLength.into());
        }
        Ok(Self { size: size.0, peaks })
    }

    /// Appends one leaf.
    pub fn append(&mut self, leaf: &LeafHash) {
        let mut node = leaf.0;
        // Each trailing one of the size is a peak that is now complete with its right sibling.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = LogTree::node(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The number of leaves.
    pub fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// The peaks, largest subtree first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The root over all leaves appended so far.
    pub fn root(&self) -> RootHash {
        RootHash(fold_right(&self.peaks))
    }
}

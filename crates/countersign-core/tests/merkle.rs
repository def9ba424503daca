//! Merkle proofs against the foreign vectors, and against ct-merkle and rs_merkle for small trees.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "sizes here are at most 256, and a test that indexes wrongly fails as it should"
)]

use std::fs;
use std::path::{Path, PathBuf};

use countersign_core::encoding::from_b64;
use countersign_core::hash::{Hash, LeafHash, LeafIndex, RootHash, TreeSize};
use countersign_core::merkle::{
    CompactRange, HashReader, LogTree, NodeHasher as _, NodeId, leaf_hash, prove_consistency,
    prove_inclusion, root_at, verify_consistency, verify_inclusion,
};
use serde_json::Value;

/// All nodes of a tree in memory, by level.
struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    fn new(leaves: &[LeafHash]) -> Self {
        let mut levels = vec![leaves.iter().map(|leaf| leaf.0).collect::<Vec<Hash>>()];
        while levels.last().expect("level").len() > 1 {
            let below = levels.last().expect("level");
            levels.push(below.chunks_exact(2).map(|p| LogTree::node(&p[0], &p[1])).collect());
        }
        Self { levels }
    }
}

impl HashReader for Tree {
    type Error = ();
    fn read(&self, nodes: &[NodeId]) -> Result<Vec<Hash>, ()> {
        nodes
            .iter()
            .map(|node| {
                let level = self.levels.get(usize::from(node.level)).ok_or(())?;
                level.get(usize::try_from(node.index).map_err(|_| ())?).copied().ok_or(())
            })
            .collect()
    }
}

fn leaves(n: u64) -> Vec<LeafHash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

#[test]
fn every_proof_up_to_256_leaves_agrees_with_ct_merkle_and_rs_merkle() {
    let leaves = leaves(256);
    let tree = Tree::new(&leaves);
    let mut range = CompactRange::new();
    let mut oracle = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, [u8; 8]>::new();
    let mut roots = vec![RootHash([0; 32])];
    for n in 1..=256_u64 {
        range.append(&leaves[(n - 1) as usize]);
        oracle.push((n - 1).to_be_bytes());
        let root = range.root();
        roots.push(root);
        assert_eq!(root_at(TreeSize(n), &tree), Ok(root));
        assert_eq!(oracle.root().as_bytes().as_slice(), root.0.as_slice());
        let raw: Vec<Hash> = leaves[..n as usize].iter().map(|leaf| leaf.0).collect();
        let second = rs_merkle::MerkleTree::<RsLog>::from_leaves(&raw);
        assert_eq!(second.root(), Some(root.0));
        for i in 0..n {
            let path = prove_inclusion(LeafIndex(i), TreeSize(n), &tree).expect("proof");
            let theirs = oracle.prove_inclusion(i as usize);
            assert_eq!(theirs.as_bytes(), path.concat().as_slice());
            assert_eq!(second.proof(&[i as usize]).proof_hashes(), path.as_slice());
            let leaf = &leaves[i as usize];
            verify_inclusion(LeafIndex(i), TreeSize(n), leaf, &path, &root).expect("included");
            let mut longer = path.clone();
            longer.push([0; 32]);
            assert!(verify_inclusion(LeafIndex(i), TreeSize(n), leaf, &longer, &root).is_err());
            if let Some((_, shorter)) = path.split_last() {
                assert!(verify_inclusion(LeafIndex(i), TreeSize(n), leaf, shorter, &root).is_err());
            }
        }
        for m in 1..n {
            let proof = prove_consistency(TreeSize(m), TreeSize(n), &tree).expect("proof");
            let theirs = oracle.prove_consistency((n - m) as usize);
            assert_eq!(theirs.as_bytes(), proof.concat().as_slice());
            let old = &roots[m as usize];
            verify_consistency(TreeSize(m), TreeSize(n), old, &root, &proof).expect("consistent");
            let mut longer = proof.clone();
            longer.push([0; 32]);
            assert!(verify_consistency(TreeSize(m), TreeSize(n), old, &root, &longer).is_err());
            assert!(verify_consistency(TreeSize(m), TreeSize(n), &root, old, &proof).is_err());
        }
    }
}

#[derive(Clone)]
struct RsLog;

impl rs_merkle::Hasher for RsLog {
    type Hash = Hash;
    fn hash(data: &[u8]) -> Hash {
        leaf_hash(data).0
    }
    fn concat_and_hash(left: &Hash, right: Option<&Hash>) -> Hash {
        right.map_or(*left, |right| LogTree::node(left, right))
    }
}

/// rs_merkle's verifier accepts a forged leaf when indices repeat; ours has no way to say that.
#[test]
fn the_place_outside_the_tree_has_no_proof() {
    let tree = Tree::new(&leaves(8));
    assert!(prove_inclusion(LeafIndex(8), TreeSize(8), &tree).is_err());
    assert!(prove_consistency(TreeSize(0), TreeSize(8), &tree).is_err());
    let leaf = leaf_hash(b"x");
    let root = RootHash(leaf.0);
    assert!(verify_inclusion(LeafIndex(0), TreeSize(0), &leaf, &[], &root).is_err());
    assert!(verify_inclusion(LeafIndex(1), TreeSize(1), &leaf, &[], &root).is_err());
    assert!(verify_inclusion(LeafIndex(0), TreeSize(u64::MAX), &leaf, &[], &root).is_err());
}

fn foreign(folder: &str) -> Vec<(PathBuf, Value)> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/merkle");
    let mut cases = Vec::new();
    let mut open = vec![base.join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let case = serde_json::from_slice(&fs::read(&path).expect("case")).expect("json");
                cases.push((path, case));
            }
        }
    }
    if cases.is_empty() {
        println!("../shared/vectors/merkle is absent: 98 {folder} cases were not run");
    } else {
        assert_eq!(cases.len(), 98, "{folder}");
    }
    cases
}

fn hash(value: &Value) -> Option<Hash> {
    from_b64(value.as_str()?)?.try_into().ok()
}

fn hashes(value: &Value) -> Option<Vec<Hash>> {
    value.as_array().map_or(Some(Vec::new()), |items| items.iter().map(hash).collect())
}

#[test]
fn foreign_inclusion_cases_behave_as_they_say() {
    for (path, case) in foreign("inclusion") {
        let parts = (hash(&case["root"]), hash(&case["leafHash"]), hashes(&case["proof"]));
        // A hash that is no hash can't even be written in our types.
        let accepted = matches!(parts, (Some(root), Some(leaf), Some(proof))
            if verify_inclusion(
                LeafIndex(case["leafIdx"].as_u64().expect("index")),
                TreeSize(case["treeSize"].as_u64().expect("size")),
                &LeafHash(leaf), &proof, &RootHash(root)).is_ok());
        let expected = !case["wantErr"].as_bool().expect("wantErr");
        assert_eq!(accepted, expected, "{}", path.display());
    }
}

#[test]
fn foreign_consistency_cases_behave_as_they_say() {
    for (path, case) in foreign("consistency") {
        let (size1, size2) =
            (case["size1"].as_u64().expect("1"), case["size2"].as_u64().expect("2"));
        let expected = !case["wantErr"].as_bool().expect("wantErr");
        if size1 == 0 {
            // Size 0 is outside the verifier: it refuses whatever it is given.
            let proof = hashes(&case["proof"]).unwrap_or_default();
            let root = RootHash([0; 32]);
            assert!(
                verify_consistency(TreeSize(0), TreeSize(size2), &root, &root, &proof).is_err()
            );
            continue;
        }
        let parts = (hash(&case["root1"]), hash(&case["root2"]), hashes(&case["proof"]));
        let accepted = matches!(&parts, (Some(one), Some(two), Some(proof))
            if verify_consistency(TreeSize(size1), TreeSize(size2),
                &RootHash(*one), &RootHash(*two), proof).is_ok());
        if parts.0.is_none() || parts.1.is_none() {
            assert!(!accepted, "{}", path.display());
            continue;
        }
        assert_eq!(accepted, expected, "{}", path.display());
    }
}

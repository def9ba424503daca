//! Tiles against trees that others build: rs_merkle and ct-merkle, and our own Merkle code. A client
//! that has nothing but tiles and a root makes every proof from them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

use countersign_core::hash::{Hash, LeafHash, LeafIndex, RootHash, TreeSize};
use countersign_core::merkle::{
    CompactRange, LogTree, NodeHasher as _, NodeId, ProofPlan, leaf_hash, root_of,
    verify_consistency, verify_inclusion,
};
use countersign_core::tiles::{
    TILE_HEIGHT, TileError, TileKind, TilePath, VerifiedEdge, encode_bundle, node_of_tile,
    parse_bundle, parse_hashes, partial_tiles, tile_width, verify_bundle, verify_full_tile,
};
use rs_merkle::{Hasher, MerkleTree};

/// The log's hashing, for rs_merkle.
#[derive(Clone)]
struct Rfc9162;

impl Hasher for Rfc9162 {
    type Hash = Hash;

    fn hash(data: &[u8]) -> Hash {
        leaf_hash(data).0
    }

    fn concat_and_hash(left: &Hash, right: Option<&Hash>) -> Hash {
        right.map_or(*left, |right| LogTree::node(left, right))
    }
}

fn entry(index: u64) -> Vec<u8> {
    let mut entry = index.to_be_bytes().to_vec();
    entry.resize(66, 7);
    entry
}

/// A tree cut into tiles, with nothing of what is tested.
struct Cut {
    leaves: Vec<Hash>,
}

impl Cut {
    fn of(size: u64) -> Self {
        Self { leaves: (0..size).map(|index| leaf_hash(&entry(index)).0).collect() }
    }

    fn size(&self) -> TreeSize {
        TreeSize(self.leaves.len() as u64)
    }

    /// What a log serves under this path; rs_merkle hashes the subtrees.
    fn served(&self, path: &TilePath) -> Vec<u8> {
        let first = usize::try_from(path.index()).unwrap() * 256;
        let places = first..first + usize::from(path.width());
        let TileKind::Hashes(level) = path.kind() else {
            let entries: Vec<Vec<u8>> = places.map(|place| entry(place as u64)).collect();
            return encode_bundle(entries.iter().map(Vec::as_slice)).unwrap();
        };
        let span = 256_usize.pow(u32::from(level));
        let hash = |place: usize| {
            let part = &self.leaves[place * span..(place + 1) * span];
            MerkleTree::<Rfc9162>::from_leaves(part).root().unwrap()
        };
        places.map(hash).collect::<Vec<Hash>>().concat()
    }

    fn tile(&self, path: &TilePath) -> Vec<Hash> {
        parse_hashes(&self.served(path), path.width()).unwrap()
    }

    fn root(&self) -> RootHash {
        let mut range = CompactRange::new();
        self.leaves.iter().for_each(|leaf| range.append(&LeafHash(*leaf)));
        range.root()
    }

    fn edge(&self) -> Result<VerifiedEdge, TileError> {
        let tiles = partial_tiles(self.size()).iter().map(|path| self.tile(path)).collect();
        VerifiedEdge::verify(self.size(), &self.root(), tiles)
    }
}

/// Knows a head, and fetches tiles.
struct TileClient<'a> {
    log: &'a Cut,
    edge: VerifiedEdge,
}

impl TileClient<'_> {
    /// A node from the tile that holds it, which is proved first, upwards to the edge.
    fn node(&self, node: NodeId) -> Hash {
        let path = TilePath::holding(node, self.edge.size()).unwrap();
        if let Some(hash) = self.edge.node(node) {
            return hash;
        }
        let TileKind::Hashes(level) = path.kind() else { panic!("a node is no entry") };
        let hashes = self.log.tile(&path);
        let above = NodeId { level: (level + 1) * TILE_HEIGHT, index: path.index() };
        verify_full_tile(&hashes, &self.node(above)).unwrap();
        node_of_tile(node, &hashes).unwrap()
    }

    fn finish(&self, plan: Option<ProofPlan>) -> Vec<Hash> {
        let plan = plan.unwrap();
        let hashes: Vec<Hash> = plan.nodes().iter().map(|node| self.node(*node)).collect();
        plan.finish(&hashes)
    }
}

/// TILE-1: each tile's hashes are those that rs_merkle has for the subtrees, at every size, and what
/// is partial gives the root of rs_merkle and ct-merkle.
#[test]
fn tiles_and_roots_are_those_of_the_oracles_at_every_size() {
    let mut oracle = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    for size in 0..=600_u64 {
        let cut = Cut::of(size);
        let edge = cut.edge().unwrap();
        assert_eq!(edge.size(), TreeSize(size));
        assert_eq!(cut.root().0.as_slice(), oracle.root().as_bytes().as_slice());
        if size > 0 {
            let tree = MerkleTree::<Rfc9162>::from_leaves(&cut.leaves);
            assert_eq!(tree.root(), Some(cut.root().0));
        }
        oracle.push(entry(size));
    }
}

#[test]
fn inclusion_proofs_from_tiles_alone_are_those_of_the_oracle() {
    let mut oracle = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    for size in 1..=600_u64 {
        oracle.push(entry(size - 1));
        if size % 37 != 0 && !matches!(size, 1..=3 | 255..=257 | 511..=513 | 600) {
            continue;
        }
        let cut = Cut::of(size);
        let client = TileClient { log: &cut, edge: cut.edge().unwrap() };
        for index in 0..size {
            let plan = ProofPlan::inclusion(LeafIndex(index), TreeSize(size));
            let path = client.finish(plan);
            let theirs = oracle.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(path.as_flattened(), theirs.as_bytes(), "{index} of {size}");
            let leaf = LeafHash(cut.leaves[usize::try_from(index).unwrap()]);
            verify_inclusion(LeafIndex(index), TreeSize(size), &leaf, &path, &cut.root()).unwrap();
        }
    }
}

#[test]
fn consistency_proofs_come_from_tiles_alone() {
    for size in [1, 2, 255, 256, 257, 511, 512, 513, 600] {
        let cut = Cut::of(size);
        let client = TileClient { log: &cut, edge: cut.edge().unwrap() };
        for old in 1..=size {
            let proof = client.finish(ProofPlan::consistency(TreeSize(old), TreeSize(size)));
            let (from, to) = (Cut::of(old).root(), cut.root());
            verify_consistency(TreeSize(old), TreeSize(size), &from, &to, &proof).unwrap();
            // What a mirror asks: is the head that I hold the root of a prefix of these tiles?
            assert_eq!(client.finish(Some(ProofPlan::root(TreeSize(old)))), [from.0]);
        }
    }
}

/// A tree of three tile levels, where a full tile is proved by another full one.
#[test]
fn proofs_climb_through_full_tiles() {
    let cut = Cut::of(2 * 65_536 + 300);
    let client = TileClient { log: &cut, edge: cut.edge().unwrap() };
    let (size, root) = (cut.size(), cut.root());
    for index in [0, 255, 65_535, 65_536, 100_000, 131_071, 131_072, 131_371] {
        let path = client.finish(ProofPlan::inclusion(LeafIndex(index), size));
        let leaf = LeafHash(cut.leaves[usize::try_from(index).unwrap()]);
        verify_inclusion(LeafIndex(index), size, &leaf, &path, &root).unwrap();
    }
}

#[test]
fn altered_and_cut_tiles_do_not_give_the_root() {
    for size in [1, 255, 256, 257, 300, 600] {
        let cut = Cut::of(size);
        let tiles: Vec<Vec<Hash>> =
            partial_tiles(TreeSize(size)).iter().map(|path| cut.tile(path)).collect();
        let verify = |tiles| VerifiedEdge::verify(TreeSize(size), &cut.root(), tiles);
        for at in 0..tiles.len() {
            // The last hash is always part of the root; the whole of the tile is, see below.
            for place in 0..tiles[at].len() {
                let mut altered = tiles.clone();
                altered[at][place][0] ^= 1;
                assert_eq!(verify(altered), Err(TileError::Root), "{size}: {place} of {at}");
            }
            let mut shorter = tiles.clone();
            shorter[at].pop();
            assert_eq!(verify(shorter), Err(TileError::Shape));
        }
        let mut more = tiles.clone();
        more.push(vec![[0; 32]]);
        assert_eq!(verify(more), Err(TileError::Shape));
        assert_eq!(
            VerifiedEdge::verify(TreeSize(size), &RootHash([0; 32]), tiles),
            Err(TileError::Root)
        );
    }
}

#[test]
fn altered_full_tiles_and_entries_are_found() {
    let cut = Cut::of(300);
    let mut tile = cut.tile(&TilePath::new(TileKind::Hashes(0), 0, 256).unwrap());
    let above = root_of::<LogTree>(&tile).unwrap();
    assert_eq!(verify_full_tile(&tile, &above), Ok(()));
    assert_eq!(verify_full_tile(&tile[..255], &above), Err(TileError::Width));
    let bundle = cut.served(&TilePath::new(TileKind::Entries, 0, 256).unwrap());
    let entries = parse_bundle(&bundle, 256).unwrap();
    assert_eq!(verify_bundle(&entries, &tile), Ok(()));
    assert_eq!(verify_bundle(&entries[1..], &tile), Err(TileError::Entry));
    let mut altered = bundle.clone();
    altered[40] ^= 1;
    let entries = parse_bundle(&altered, 256).unwrap();
    assert_eq!(verify_bundle(&entries, &tile), Err(TileError::Entry));
    tile.swap(3, 4);
    assert_eq!(verify_full_tile(&tile, &above), Err(TileError::Root));
    assert_eq!(parse_hashes(&[0; 64], 2).map(|hashes| hashes.len()), Ok(2));
    assert_eq!(parse_hashes(&[0; 65], 2), Err(TileError::Width));
    assert_eq!(parse_hashes(&[0; 32], 2), Err(TileError::Width));
    assert_eq!(tile_width(TileKind::Hashes(0), 1, cut.size()), 44);
}

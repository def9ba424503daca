//! The right edge of the tree: every node of the tiles that are not full yet.
//!
//! Full tiles are stored once (C2SP tlog-tiles); everything to the right of them lives here, and is
//! derived from the entries when a log is opened. A new leaf's whole inclusion path lies in the
//! tiles that were not full before it came, so a commit proves its own records without reading.

use countersign_core::hash::{Hash, LeafHash, RootHash, TreeSize};
use countersign_core::merkle::{LogTree, NodeHasher as _, NodeId, ProofPlan, empty_root};

use crate::store::Tile;

/// Levels of the tree that one tile spans.
pub(crate) const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile.
pub(crate) const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// Nodes of one level of the tree, from the start of that level's first tile that is not full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Level {
    first: u64,
    nodes: Vec<Hash>,
}

impl Level {
    fn get(&self, index: u64) -> Option<Hash> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.nodes.get(at).copied()
    }

    fn drop_before(&mut self, first: u64) {
        let count = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.nodes.drain(..count.min(self.nodes.len()));
        self.first = self.first.max(first);
    }
}

/// The right edge of a tree of some size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    size: u64,
    // One a level of the tree, leaves first.
    levels: Vec<Level>,
}

/// The hashes that an edge is rebuilt from: of each tile level, those of its one tile that is not
/// full, lowest level first. At level 0 they are leaf hashes, above the roots of full tiles.
pub(crate) type PartialTiles = Vec<Vec<Hash>>;

/// How many hashes the partial tile of this tile level holds in a tree of `size` leaves, and the
/// index of its first hash; `None` where the tree does not reach that level.
pub(crate) fn partial_tile(size: TreeSize, tile_level: u8) -> Option<(u64, u64)> {
    let count = size.0.checked_shr(u32::from(tile_level) * u32::from(TILE_HEIGHT)).unwrap_or(0);
    (count > 0).then_some((count & !(TILE_WIDTH - 1), count & (TILE_WIDTH - 1)))
}

impl Edge {
    /// Rebuilds the edge of a tree; `None` where the partial tiles are not those of this size.
    pub(crate) fn restore(size: TreeSize, tiles: PartialTiles) -> Option<Self> {
        let mut levels = Vec::new();
        let mut tile_level = 0_u8;
        let mut tiles = tiles.into_iter();
        while let Some((first, count)) = partial_tile(size, tile_level) {
            let nodes = tiles.next()?;
            if nodes.len() as u64 != count {
                return None;
            }
            let mut level = Level { first, nodes };
            for _ in 0..TILE_HEIGHT {
                let pairs = level.nodes.chunks_exact(2);
                let parents = pairs.filter_map(|pair| match pair {
                    [left, right] => Some(LogTree::node(left, right)),
                    _ => None,
                });
                let above = Level { first: level.first >> 1, nodes: parents.collect() };
                levels.push(std::mem::replace(&mut level, above));
            }
            tile_level += 1;
        }
        tiles.next().is_none().then_some(Self { size: size.0, levels })
    }

    /// Leaves in the tree.
    pub(crate) fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// Appends a leaf.
    pub(crate) fn append(&mut self, leaf: &LeafHash) {
        let (mut node, mut index) = (leaf.0, self.size);
        for level in 0_usize.. {
            if self.levels.len() <= level {
                // The tree reaches a new tile level with that level's very first node.
                let levels = self.levels.len() + usize::from(TILE_HEIGHT);
                self.levels.resize_with(levels, Level::default);
            }
            let Some(row) = self.levels.get_mut(level) else { break };
            row.nodes.push(node);
            if index & 1 == 0 {
                break;
            }
            // An odd index has its left sibling in the same tile, so it is still here.
            let Some(left) = row.get(index - 1) else {
                unreachable!("bad math in edge: the sibling of an odd node was dropped")
            };
            node = LogTree::node(&left, &node);
            index >>= 1;
        }
        self.size += 1;
    }

    /// A node, if it lies in a tile that is not full.
    pub(crate) fn node(&self, id: NodeId) -> Option<Hash> {
        self.levels.get(usize::from(id.level))?.get(id.index)
    }

    /// The root over all leaves.
    pub(crate) fn root(&self) -> RootHash {
        if self.size == 0 {
            return empty_root();
        }
        let plan = ProofPlan::root(self.size());
        let peaks: Option<Vec<Hash>> = plan.nodes().iter().map(|id| self.node(*id)).collect();
        // Every peak lies right of the last full tile of its level.
        let root = peaks.and_then(|peaks| plan.finish(&peaks).first().copied());
        RootHash(root.unwrap_or_else(|| unreachable!("bad math in edge: a peak was dropped")))
    }

    /// Takes out the tiles that are full, and forgets their nodes.
    pub(crate) fn take_full_tiles(&mut self) -> Vec<Tile> {
        let mut full = Vec::new();
        for tile_level in 0_u8.. {
            let Some((boundary, _)) = partial_tile(self.size(), tile_level) else { break };
            let base = usize::from(tile_level) * usize::from(TILE_HEIGHT);
            if let Some(row) = self.levels.get(base) {
                let count = usize::try_from((boundary - row.first) >> TILE_HEIGHT).unwrap_or(0);
                let first = row.first >> TILE_HEIGHT;
                let tiles = row.nodes.chunks_exact(1 << TILE_HEIGHT).take(count);
                full.extend(tiles.zip(first..).map(|(hashes, index)| Tile {
                    level: tile_level,
                    index,
                    hashes: hashes.as_flattened().to_vec(),
                }));
            }
            for (row, shift) in self.levels.iter_mut().skip(base).take(8).zip(0_u32..) {
                row.drop_before(boundary >> shift);
            }
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::merkle::{CompactRange, leaf_hash};

    fn leaf(i: u64) -> LeafHash {
        leaf_hash(&i.to_be_bytes())
    }

    /// Whatever was taken out as tiles, and whatever is still here, restores the same edge.
    #[test]
    fn an_edge_restores_from_its_tiles_at_every_size() {
        let mut edge = Edge::default();
        let mut range = CompactRange::new();
        let mut tiles: Vec<Tile> = Vec::new();
        for size in 1..=70_000_u64 {
            edge.append(&leaf(size - 1));
            range.append(&leaf(size - 1));
            if size % 7 == 0 || size % 256 < 2 {
                tiles.extend(edge.take_full_tiles());
            }
            if size % 997 != 0 && !matches!(size, 255..=257 | 511..=513 | 65_535..=65_537) {
                continue;
            }
            tiles.extend(edge.take_full_tiles());
            assert_eq!(edge.root(), range.root(), "{size}");
            let size = TreeSize(size);
            let partial = (0..).map_while(|level| Some((level, partial_tile(size, level)?))).map(
                |(level, (first, count))| {
                    (first..first + count).map(|i| hash_at(&tiles, level, i)).collect()
                },
            );
            let restored = Edge::restore(size, partial.collect()).unwrap();
            assert_eq!(restored.root(), range.root());
            assert_eq!(restored, edge);
        }
        assert_eq!(tiles.iter().filter(|tile| tile.level == 0).count(), 70_000 / 256);
        assert_eq!(tiles.iter().filter(|tile| tile.level == 1).count(), 1);
    }

    fn hash_at(tiles: &[Tile], level: u8, index: u64) -> Hash {
        if level == 0 {
            return leaf(index).0;
        }
        let tile = tiles.iter().find(|t| t.level == level - 1 && t.index == index).unwrap();
        let hashes: Vec<Hash> = tile.hashes.as_chunks::<32>().0.to_vec();
        countersign_core::merkle::root_of::<LogTree>(&hashes).unwrap()
    }

    #[test]
    fn partial_tiles_of_another_size_are_refused() {
        assert_eq!(Edge::restore(TreeSize(3), vec![vec![[0; 32]; 2]]), None);
        assert_eq!(Edge::restore(TreeSize(1), vec![vec![[0; 32]], vec![]]), None);
        assert!(Edge::restore(TreeSize(0), vec![]).is_some());
    }
}

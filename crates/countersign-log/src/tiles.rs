//! The static read path: tiles and entry bundles of the published tree (spec/tiles.md).
//!
//! What the store gives is input (TILE-4): a full tile is followed upwards, each hashed into its place in
//! the one above, until the right edge, which is known to give the published root; a bundle's
//! entries are hashed into their tile. What does not fit is `STORE_CORRUPT`, and no byte of it
//! leaves.

use std::sync::Arc;

use countersign_core::codes::Fault;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex};
use countersign_core::merkle::{LogTree, NodeHasher as _, NodeId};
use countersign_core::tiles::{TileKind, TilePath, encode_bundle, verify_bundle};

use crate::edge::{Edge, TILE_HEIGHT, TILE_WIDTH};
use crate::shared::{CORRUPT, Published, Shared, TileNodes, store_fault};
use crate::store::Store;

impl<S: Store> Shared<S> {
    /// The bytes of a tile or bundle; none where the published tree has none so wide (TILE-3).
    pub(crate) async fn resource(&self, path: TilePath) -> Result<Option<Vec<u8>>, Fault> {
        let Published { head, edge } = self.published();
        if !path.exists_at(head.size) {
            return Ok(None);
        }
        let bytes = match path.kind() {
            TileKind::Hashes(level) => {
                let hashes = self.tile_hashes(&edge, level, path.index(), path.width()).await?;
                hashes.as_flattened().to_vec()
            }
            TileKind::Entries => self.bundle(&edge, path.index(), path.width()).await?,
        };
        Ok(Some(bytes))
    }

    /// The first `width` hashes of a tile that the tree of this edge has.
    async fn tile_hashes(
        &self,
        edge: &Edge,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Fault> {
        // The tree has the tile, so its level is at most 7 and its first hash's index a u64.
        let (bits, first) = (level * TILE_HEIGHT, index * TILE_WIDTH);
        let node = |place: u16| NodeId { level: bits, index: first + u64::from(place) };
        if edge.node(node(0)).is_some() {
            let hashes = (0..width).map(|place| edge.node(node(place)));
            return hashes.collect::<Option<_>>().ok_or(CORRUPT.at_field("tile"));
        }
        let tile = self.checked_tile(edge, level, index).await?;
        let hashes = tile.first().and_then(|hashes| hashes.get(..usize::from(width)));
        Ok(hashes.ok_or(CORRUPT.at_field("tile"))?.to_vec())
    }

    /// A full tile, proved upwards to the edge.
    async fn checked_tile(
        &self,
        edge: &Edge,
        level: u8,
        index: u64,
    ) -> Result<Arc<TileNodes>, Fault> {
        let tile = self.tile(level, index).await?;
        let (mut level, mut index, mut below) = (level, index, Arc::clone(&tile));
        // Each round is one level up, and there are eight.
        for _ in 0..TILE_HEIGHT {
            let root = root_of_tile(&below).ok_or(CORRUPT.at_field("tile"))?;
            level += 1;
            let known = edge.node(NodeId { level: level * TILE_HEIGHT, index });
            if let Some(known) = known {
                return if known == root { Ok(tile) } else { Err(CORRUPT.at_field("tile")) };
            }
            let above = self.tile(level, index / TILE_WIDTH).await?;
            let place = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
            let held = above.first().and_then(|hashes| hashes.get(place));
            if held != Some(&root) {
                return Err(CORRUPT.at_field("tile"));
            }
            index /= TILE_WIDTH;
            below = above;
        }
        Err(CORRUPT.at_field("tile"))
    }

    /// The first `width` entries of a bundle, each after its length.
    async fn bundle(&self, edge: &Edge, index: u64, width: u16) -> Result<Vec<u8>, Fault> {
        let first = LeafIndex(index * TILE_WIDTH);
        let leaves = self.tile_hashes(edge, 0, index, width).await?;
        let read = self.store.entries(first, u64::from(width)).await.map_err(store_fault)?;
        let entries: Vec<&[u8]> = read.iter().map(<[u8; ENTRY_BYTES]>::as_slice).collect();
        verify_bundle(&entries, &leaves).map_err(|_| CORRUPT.at_index(first.0))?;
        encode_bundle(entries).ok_or(CORRUPT.at_index(first.0))
    }
}

/// The one hash over a tile's two uppermost nodes.
fn root_of_tile(tile: &TileNodes) -> Option<Hash> {
    match tile.last()?.as_slice() {
        [left, right] => Some(LogTree::node(left, right)),
        _ => None,
    }
}

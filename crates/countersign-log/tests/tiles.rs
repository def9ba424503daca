//! The static read path: every tile of a log is what its entries give, and what a damaged store
//! holds is an error, never a tile.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::hash::{Hash, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{LogTree, leaf_hash, root_of};
use countersign_core::note::SignedCheckpoint;
use countersign_core::tiles::{TileKind, TilePath, encode_bundle, tile_width};
use countersign_log::ledger::Ledger;
use countersign_testkit::faults::Faults;
use countersign_testkit::memory::MemoryStore;
use serde_json::json;

use support::{Gate, World, verdict};

/// Submits so many verdicts more.
async fn grow(ledger: &Ledger<MemoryStore>, gate: &mut Gate, from: u64, count: u64) {
    let says: Vec<_> =
        (from..from + count).map(|n| (Kind::Verdict, verdict(n, "refuse", &json!({})))).collect();
    let answer = ledger.submit(gate.batch(&says)).await.unwrap();
    assert!(answer.records.iter().all(|(_, outcome)| outcome.is_ok()));
}

/// What the path must lead to, from the entries alone; none beyond them.
fn expected(entries: &[[u8; 66]], path: &TilePath) -> Option<Vec<u8>> {
    let first = usize::try_from(path.index()).unwrap() * 256;
    let places = first..first + usize::from(path.width());
    let TileKind::Hashes(level) = path.kind() else {
        return encode_bundle(entries.get(places)?.iter().map(<[u8; 66]>::as_slice));
    };
    let span = 256_usize.pow(u32::from(level));
    let hash = |place: usize| -> Option<Hash> {
        let part = entries.get(place * span..(place + 1) * span)?;
        let leaves: Vec<Hash> = part.iter().map(|entry| leaf_hash(entry).0).collect();
        root_of::<LogTree>(&leaves)
    };
    Some(places.map(hash).collect::<Option<Vec<Hash>>>()?.concat())
}

/// TILE-3: every path up to the head leads to what it should, and none beyond it to anything.
#[tokio::test]
async fn every_tile_of_every_width_is_what_the_entries_give() {
    let world = World::new();
    let store = Arc::new(MemoryStore::new(Faults::none()));
    let ledger = world.open(&store).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    // Two entries are the log's own; each step crosses or meets the end of a tile.
    let mut asked = 0_u32;
    for (from, count) in [(0, 1), (1, 252), (253, 1), (254, 1), (255, 300), (555, 45)] {
        grow(&ledger, &mut gate, from, count).await;
        let entries = store.with_disk(|disk| disk.entries.clone());
        assert_eq!(ledger.head().size, TreeSize(entries.len() as u64));
        for kind in [TileKind::Entries, TileKind::Hashes(0), TileKind::Hashes(1)] {
            for index in 0..4 {
                for width in [1, 2, 43, 90, 91, 92, 93, 253, 254, 255, 256] {
                    let path = TilePath::new(kind, index, width).unwrap();
                    let tile = ledger.tile(path).await.unwrap();
                    assert_eq!(tile, expected(&entries, &path), "{path} of {}", entries.len());
                    assert_eq!(
                        tile.is_some(),
                        width <= tile_width(kind, index, ledger.head().size)
                    );
                    asked += u32::from(tile.is_some());
                }
            }
        }
        for level in [2, 7, 8, 31, 32, 63] {
            let path = TilePath::new(TileKind::Hashes(level), 0, 1).unwrap();
            assert_eq!(ledger.tile(path).await.unwrap(), None);
        }
        let far = TilePath::new(TileKind::Entries, u64::MAX, 1).unwrap();
        assert_eq!(ledger.tile(far).await.unwrap(), None);
    }
    assert!(asked > 100, "{asked}");
}

#[tokio::test]
async fn the_checkpoint_is_a_signed_head_that_the_tiles_cover() {
    let world = World::new();
    let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
    let head = ledger.checkpoint();
    let note = SignedCheckpoint::parse(&head.note).unwrap();
    assert_eq!((note.size, note.root), (head.size, head.root));
    assert!(note.size.0 >= 1 && note.size <= ledger.head().size);
}

/// TILE-4: a flipped bit anywhere in what a tile or bundle is made of.
#[tokio::test]
async fn a_damaged_store_gives_an_error_and_no_tile() {
    let world = World::new();
    let store = Arc::new(MemoryStore::new(Faults::none()));
    let mut gate = world.gate("acme", "prod-1");
    {
        let ledger = world.open(&store).await;
        gate.open(&ledger).await;
        grow(&ledger, &mut gate, 0, 310).await;
        ledger.stop().await;
    }
    let path = |text: &str| TilePath::parse(text).unwrap();
    let (tile, bundle) = (path("tile/0/000"), path("tile/entries/000"));
    let whole = Arc::new(store.reopen());
    let ledger = world.open(&whole).await;
    assert!(ledger.tile(tile).await.unwrap().is_some());
    assert!(ledger.tile(bundle).await.unwrap().is_some());
    let refused = |answer: Result<Option<Vec<u8>>, countersign_log::api::Refused>| {
        answer.unwrap_err().fault.code
    };
    // An entry: its bundle is refused, a narrower one that leaves it out is not.
    whole.with_disk(|disk| disk.entries[100][40] ^= 1);
    assert_eq!(refused(ledger.tile(bundle).await), Code::StoreCorrupt);
    assert_eq!(refused(ledger.tile(path("tile/entries/000.p/101")).await), Code::StoreCorrupt);
    assert!(ledger.tile(path("tile/entries/000.p/100")).await.unwrap().is_some());
    whole.with_disk(|disk| disk.entries[100][40] ^= 1);
    // A tile, after a process has opened the log and before it has read the tile for anybody.
    for place in [0, 4_000, 8_191] {
        let whole = Arc::new(whole.reopen());
        let ledger = world.open(&whole).await;
        whole.with_disk(|disk| disk.tiles.get_mut(&(0, 0)).unwrap()[place] ^= 1);
        for path in [tile, bundle, path("tile/0/000.p/1"), path("tile/entries/000.p/1")] {
            assert_eq!(refused(ledger.tile(path).await), Code::StoreCorrupt, "{path}");
        }
        // What does not rest on it is served.
        assert!(ledger.tile(path("tile/0/001.p/56")).await.unwrap().is_some());
        whole.with_disk(|disk| disk.tiles.get_mut(&(0, 0)).unwrap()[place] ^= 1);
    }
}

/// More than 65,536 entries: a full tile is proved by a full one above it, and damage there shows.
#[tokio::test]
async fn a_full_tile_is_proved_through_the_one_above() {
    let world = World::new();
    let store = Arc::new(MemoryStore::new(Faults::none()));
    let ledger = world.open(&store).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    for from in (0..66_000).step_by(3_000) {
        grow(&ledger, &mut gate, from, 3_000).await;
    }
    ledger.stop().await;
    let entries = store.with_disk(|disk| disk.entries.clone());
    for text in ["tile/0/200", "tile/1/000", "tile/1/000.p/9", "tile/2/000.p/1", "tile/entries/255"]
    {
        let path = TilePath::parse(text).unwrap();
        assert_eq!(ledger.tile(path).await.unwrap(), expected(&entries, &path), "{text}");
    }
    let store = Arc::new(store.reopen());
    let ledger = world.open(&store).await;
    store.with_disk(|disk| disk.tiles.get_mut(&(1, 0)).unwrap()[31] ^= 1);
    for text in ["tile/0/000", "tile/0/200", "tile/1/000", "tile/entries/007"] {
        let refused = ledger.tile(TilePath::parse(text).unwrap()).await.unwrap_err();
        assert_eq!(refused.fault.code, Code::StoreCorrupt, "{text}");
    }
}

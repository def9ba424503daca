//! The anchor: what it refuses, what it forgives, and how it is drawn.

// Tests may be blunt: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use countersign_core::codes::Code;
use countersign_core::hash::{TreeSize, sha256};
use countersign_log::store::{Store as _, StoreError, StoredHead};
use countersign_rocksdb::{NOTE_BYTES_MAX, OpenError, RocksStore};
use countersign_testkit::scribe::Scribe;
use support::{Data, ORIGIN, copy, flip};

const SLOT: usize = 8_192;

#[tokio::test]
async fn a_missing_anchor_is_refused() {
    let data = Data::with_commits(&[1, 2], 2).await;
    let anchor = std::fs::read(data.anchor()).unwrap();
    std::fs::remove_file(data.anchor()).unwrap();
    assert_eq!(data.refusal(), Code::AnchorMissing);
    assert!(!data.anchor().exists(), "none is made in its place");
    std::fs::write(data.anchor(), anchor).unwrap();
    assert_eq!(data.whole().await, TreeSize(3));
}

#[tokio::test]
async fn a_missing_anchor_is_refused_even_before_the_first_publish() {
    let data = Data::with_commits(&[1], 0).await;
    std::fs::remove_file(data.anchor()).unwrap();
    assert_eq!(data.refusal(), Code::AnchorMissing);
    let data = Data::with_commits(&[], 0).await;
    std::fs::remove_file(data.anchor()).unwrap();
    assert_eq!(data.refusal(), Code::AnchorMissing);
}

#[tokio::test]
async fn a_crash_between_commit_and_publish_is_forgiven() {
    for published in 0..3 {
        let data = Data::with_commits(&[1, 2, 3], published).await;
        let store = data.open().unwrap();
        let (mut lease, head) = store.acquire().await.unwrap();
        let head = head.unwrap();
        assert_eq!(head.size, TreeSize(6), "the newest committed head, and not the anchor's");
        store.publish(&mut lease, &head).await.unwrap();
        assert_eq!(data.whole_of(&store).await, TreeSize(6));
    }
}

#[tokio::test]
async fn an_unreadable_anchor_is_refused() {
    let data = Data::with_commits(&[1, 2, 3], 3).await;
    let good = std::fs::read(data.anchor()).unwrap();
    assert_eq!(good.len(), 2 * SLOT);
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    flipped[SLOT + 40] ^= 1;
    let mut swapped = good[SLOT..].to_vec();
    swapped.extend(&good[..SLOT]);
    let bad = [
        Vec::new(),
        vec![0; 2 * SLOT],
        good[..SLOT - 1].to_vec(),
        [&good[..], &[0]].concat(),
        flipped,
        swapped,
    ];
    for bytes in bad {
        std::fs::write(data.anchor(), bytes).unwrap();
        assert_eq!(data.refusal(), Code::AnchorCorrupt);
    }
    std::fs::write(data.anchor(), good).unwrap();
    assert_eq!(data.whole().await, TreeSize(6));
}

#[tokio::test]
async fn one_torn_slot_is_forgiven_whichever_it_is() {
    // Two and three publishes leave the newest head in slot 0 and in slot 1.
    for published in [2, 3] {
        for slot in 0..2 {
            for torn_at in [0, 31, 40, 4_000, SLOT - 1] {
                let mut data = Data::with_commits(&vec![1; published], published).await;
                let mut bytes = std::fs::read(data.anchor()).unwrap();
                bytes[slot * SLOT + torn_at..(slot + 1) * SLOT].fill(0xaa);
                std::fs::write(data.anchor(), bytes).unwrap();
                data.write(&[1, 1], 2).await;
                let anchor = std::fs::read(data.anchor()).unwrap();
                for slot in [&anchor[..SLOT], &anchor[SLOT..]] {
                    assert_eq!(sha256(&slot[..SLOT - 32]), slot[SLOT - 32..], "both mended");
                }
                assert_eq!(data.whole().await.0, published as u64 + 2);
            }
        }
    }
}

#[tokio::test]
async fn slots_that_contradict_each_other_are_refused() {
    let (older, newer) = (Data::with_commits(&[1], 1).await, Data::with_commits(&[1; 5], 5).await);
    let (mut bytes, other) =
        (std::fs::read(newer.anchor()).unwrap(), std::fs::read(older.anchor()).unwrap());
    // Generation 5 is in slot 1; generation 0 can't be the one before it.
    bytes[..SLOT].copy_from_slice(&other[..SLOT]);
    std::fs::write(newer.anchor(), bytes).unwrap();
    assert_eq!(newer.refusal(), Code::AnchorCorrupt);
}

#[tokio::test]
async fn a_database_behind_its_anchor_is_refused() {
    let mut data = Data::with_commits(&[2, 3], 2).await;
    let old = data.keep();
    data.write(&[4], 1).await;
    let (new, new_anchor) = (data.keep(), std::fs::read(data.anchor()).unwrap());
    data.restore(&old);
    assert_eq!(data.whole().await, TreeSize(5), "an old anchor and its database belong together");
    std::fs::write(data.anchor(), &new_anchor).unwrap();
    assert_eq!(data.refusal(), Code::AnchorAhead);
    // Nothing was touched: with its own anchor the old database opens.
    std::fs::copy(old.path().join("anchor"), data.anchor()).unwrap();
    assert_eq!(data.whole().await, TreeSize(5));

    std::fs::write(data.anchor(), &new_anchor).unwrap();
    std::fs::remove_dir_all(data.db()).unwrap();
    assert_eq!(data.refusal(), Code::AnchorAhead);
    assert!(!data.db().exists(), "no new database is made beside an anchor");
    let empty = Data::with_commits(&[], 0).await;
    copy(&empty.db(), &data.db());
    assert_eq!(data.refusal(), Code::AnchorAhead);

    data.restore(&new);
    std::fs::copy(old.path().join("anchor"), data.anchor()).unwrap();
    assert_eq!(data.whole().await, TreeSize(9), "a database may be ahead of its anchor");
}

#[tokio::test]
async fn a_database_with_another_history_is_refused() {
    let data = Data::with_commits(&[2, 3, 4], 3).await;
    let good = std::fs::read(data.anchor()).unwrap();
    for (origin, commits, published) in [
        // The same sizes over other entries.
        (ORIGIN, vec![2, 3, 4], 3),
        (ORIGIN, vec![2, 3], 2),
        // A size of which no head was committed.
        (ORIGIN, vec![2, 2], 2),
        // The same entries of another log.
        ("other.example/log", vec![2, 3, 4], 3),
    ] {
        let mut other = Data::new();
        other.scribe = Scribe::new(origin, if origin == ORIGIN { 77 } else { 1 });
        other.write(&commits, published).await;
        std::fs::copy(other.anchor(), data.anchor()).unwrap();
        assert_eq!(data.refusal(), Code::AnchorDiffers, "{origin} {commits:?}");
    }
    std::fs::write(data.anchor(), good).unwrap();
    assert_eq!(data.whole().await, TreeSize(9));
}

#[tokio::test]
async fn the_anchor_is_drawn_as_the_format_has_it() {
    let data = Data::with_commits(&[], 0).await;
    let bytes = std::fs::read(data.anchor()).unwrap();
    let mut empty = b"csanchor\x00\x00\x00\x03".to_vec();
    empty.resize(SLOT - 32, 0);
    assert_eq!(bytes[..SLOT - 32], empty);
    assert_eq!(bytes[SLOT - 32..SLOT], sha256(&empty));
    assert_eq!(bytes[SLOT..], [0; SLOT]);

    let mut data = data;
    let heads = data.write(&[5, 1], 2).await;
    let bytes = std::fs::read(data.anchor()).unwrap();
    for (slot, generation, head) in [(1, 1, &heads[0]), (0, 2, &heads[1])] {
        let mut drawn = b"csanchor\x00\x00\x00\x03".to_vec();
        drawn.extend(u64::to_be_bytes(generation));
        drawn.extend(head.size.0.to_be_bytes());
        drawn.extend(u32::try_from(head.note.len()).unwrap().to_be_bytes());
        drawn.extend(head.note.as_bytes());
        drawn.resize(SLOT - 32, 0);
        let checksum = sha256(&drawn);
        drawn.extend(checksum);
        assert!(bytes[slot * SLOT..(slot + 1) * SLOT] == drawn, "slot {slot}");
    }
}

#[tokio::test]
async fn another_version_is_refused() {
    let data = Data::with_commits(&[1], 1).await;
    let good = std::fs::read(data.anchor()).unwrap();
    let mut bytes = good.clone();
    bytes[SLOT + 11] = 1;
    let checksum = sha256(&bytes[SLOT..2 * SLOT - 32]);
    bytes[2 * SLOT - 32..].copy_from_slice(&checksum);
    std::fs::write(data.anchor(), bytes).unwrap();
    assert!(matches!(data.open(), Err(OpenError::Version { found: 1, .. })));
    std::fs::write(data.anchor(), good).unwrap();
    assert_eq!(data.whole().await, TreeSize(1));

    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), data.db()).unwrap();
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), data.db(), families).unwrap();
    db.put_cf(db.cf_handle("meta").unwrap(), "version", 1_u32.to_be_bytes()).unwrap();
    drop(db);
    assert!(matches!(data.open(), Err(OpenError::Version { found: 1, .. })));
    assert_eq!(data.refusal(), Code::StoreFailed);
}

#[tokio::test]
async fn making_a_directory_goes_on_wherever_it_was_interrupted() {
    let made = Data::with_commits(&[], 0).await;
    let parts: [&dyn Fn(&Data); 5] = [
        &|data| std::fs::create_dir_all(data.dir()).unwrap(),
        &|data| std::fs::create_dir_all(data.db()).unwrap(),
        // A database without families, and half an anchor under the name it is made under.
        &|data| {
            std::fs::create_dir_all(data.dir()).unwrap();
            drop(rocksdb::DB::open_default(data.db()).unwrap());
            std::fs::write(data.dir().join("anchor.new"), b"csanc").unwrap();
        },
        // The anchor and no database.
        &|data| {
            std::fs::create_dir_all(data.dir()).unwrap();
            std::fs::copy(made.anchor(), data.anchor()).unwrap();
        },
        // Everything but the version.
        &|data| {
            copy(&made.dir(), &data.dir());
            let options = rocksdb::Options::default();
            let families = rocksdb::DB::list_cf(&options, data.db()).unwrap();
            let db = rocksdb::DB::open_cf(&options, data.db(), families).unwrap();
            db.delete_cf(db.cf_handle("meta").unwrap(), "version").unwrap();
        },
    ];
    for part in parts {
        let mut data = Data::new();
        part(&data);
        data.write(&[2], 1).await;
        assert_eq!(data.whole().await, TreeSize(2));
    }
}

#[tokio::test]
async fn a_note_that_no_slot_holds_is_rejected_before_it_is_written() {
    let mut data = Data::with_commits(&[1], 1).await;
    let store = data.open().unwrap();
    let (mut lease, _) = store.acquire().await.unwrap();
    let (expected, mut commit) = (data.scribe.size(), data.scribe.commit(1));
    let good = commit.clone();
    while commit.head.note.len() <= NOTE_BYTES_MAX {
        commit.head = data.scribe.cosigned(&commit.head, 1);
    }
    let (long, answer) = (commit.head.clone(), store.commit(&mut lease, expected, commit).await);
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    store.commit(&mut lease, expected, good.clone()).await.unwrap();
    let answer = store.publish(&mut lease, &long).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    store.publish(&mut lease, &good.head).await.unwrap();
    let none = StoredHead { size: TreeSize(0), note: String::new() };
    let answer = store.publish(&mut lease, &none).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
}

#[tokio::test]
async fn a_directory_is_open_once() {
    let data = Data::with_commits(&[1], 1).await;
    let store = data.open().unwrap();
    assert_eq!(data.refusal(), Code::StoreLocked);
    let corrupt = data.open().map(drop).map_err(StoreError::from);
    assert_eq!(corrupt, Err(StoreError::Corrupt(Code::StoreLocked.into())));
    drop(store);

    // Somebody who knows RocksDB and not us.
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, data.db()).unwrap();
    let db = rocksdb::DB::open_cf(&options, data.db(), families).unwrap();
    assert_eq!(data.refusal(), Code::StoreLocked);
    drop(db);
    assert_eq!(data.whole().await, TreeSize(1));
}

#[tokio::test]
async fn a_place_that_is_no_directory_is_named() {
    let data = Data::new();
    std::fs::write(data.dir(), b"a file").unwrap();
    let error = RocksStore::open(&data.dir(), &data.options).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert_eq!(error.code(), Code::StoreFailed);
}

#[tokio::test]
async fn any_flipped_bit_of_an_anchor_is_refused_or_forgiven() {
    let data = Data::with_commits(&[1, 2, 3], 3).await;
    let good = std::fs::read(data.anchor()).unwrap();
    // One bit touches one slot, and the other one still stands.
    for bit in (0..2 * SLOT as u64 * 8).step_by(9_001) {
        flip(&data.anchor(), bit);
        assert_eq!(data.whole().await, TreeSize(6));
        std::fs::write(data.anchor(), &good).unwrap();
    }
}

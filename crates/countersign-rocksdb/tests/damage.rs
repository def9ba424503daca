//! A damaged database is refused, or whole: never silently smaller. What a repair would need stays.

// Tests may be blunt: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;

use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_testkit::rng::SplitMix64;
use support::{Data, flip};

const BLOCK: usize = 32 * 1024;

/// Where a write-ahead log or list of files may be cut so that it ends with a whole record: offsets
/// after each.
fn record_ends(wal: &Path) -> Vec<u64> {
    let bytes = std::fs::read(wal).unwrap();
    let (mut at, mut ends) = (0, Vec::new());
    while at + 7 <= bytes.len() {
        let left = BLOCK - at % BLOCK;
        if left < 7 {
            at += left;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        let kind = bytes[at + 6];
        at += 7 + length;
        // 1 is a whole record, 4 the last part of one.
        if kind == 1 || kind == 4 {
            ends.push(at as u64);
        }
    }
    assert_eq!(at, bytes.len(), "the walk ends where the file ends");
    ends
}

fn cut(path: &Path, length: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[tokio::test]
async fn a_wal_that_was_cut_or_deleted_is_refused() {
    let data = Data::with_commits(&[3; 6], 6).await;
    let kept = data.keep();
    let wal = data.files_of_kind("log").pop().unwrap();
    let ends = record_ends(&wal);
    assert!(ends.len() >= 6, "{ends:?}");
    let (last, earlier) = ends.split_last().unwrap();
    for end in earlier {
        for length in [*end, end + 1, end + 9] {
            cut(&wal, length);
            let code = data.refusal();
            assert!(matches!(code, Code::AnchorAhead | Code::StoreCorrupt), "{code:?}");
            data.restore(&kept);
        }
        // On the boundary no recovery mode sees anything: it is the anchor that does.
        cut(&wal, *end);
        assert_eq!(data.refusal(), Code::AnchorAhead);
        data.restore(&kept);
    }
    std::fs::remove_file(&wal).unwrap();
    assert_eq!(data.refusal(), Code::AnchorAhead);
    data.restore(&kept);
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), *last);
    assert_eq!(data.whole().await, TreeSize(18));
}

#[tokio::test]
async fn a_torn_end_that_was_never_published_is_forgiven() {
    let mut data = Data::with_commits(&[3; 4], 4).await;
    data.write(&[3], 0).await;
    let wal = data.files_of_kind("log").pop().unwrap();
    let length = std::fs::metadata(&wal).unwrap().len();
    cut(&wal, length - 5);
    assert_eq!(data.whole().await, TreeSize(12), "everything that was acknowledged is there");
}

/// A commit is durable before it is published, and the anchor can't watch over it yet. In RocksDB's
/// usual recovery mode this log would open without its last two.
#[tokio::test]
async fn a_flipped_bit_amid_unpublished_commits_is_refused() {
    let data = Data::with_commits(&[3; 6], 0).await;
    let wal = data.files_of_kind("log").pop().unwrap();
    let ends = record_ends(&wal);
    let [.., third_last, second_last, _] = ends.as_slice() else { panic!("{ends:?}") };
    let kept = data.keep();
    for at in [third_last + 40, third_last.midpoint(*second_last)] {
        flip(&wal, at * 8);
        assert_eq!(data.refusal(), Code::StoreCorrupt);
        data.restore(&kept);
    }
    assert_eq!(data.whole().await, TreeSize(18));
}

/// Flips bits of one file at places that a seed gives. Each time the directory is refused, or it
/// is whole; and once the bit is flipped back, it is whole again.
async fn flips(data: &Data, file: &Path, times: u64, seed: u64) {
    let kept = data.keep();
    let bits = std::fs::metadata(file).unwrap().len() * 8;
    let whole = data.scribe.size();
    let mut rng = SplitMix64::new(seed);
    for n in 0..times {
        let bit = rng.below(bits);
        flip(file, bit);
        let refused = match data.open() {
            Ok(store) => {
                assert_eq!(data.whole_of(&store).await, whole, "bit {bit} of {}", file.display());
                false
            }
            Err(_) => true,
        };
        if refused && n % 8 == 0 {
            flip(file, bit);
            assert_eq!(data.whole().await, whole, "a refusal destroyed something: bit {bit}");
        }
        data.restore(&kept);
    }
}

#[tokio::test]
async fn flipped_bits_of_a_wal_are_refused_or_lose_nothing() {
    let data = Data::with_commits(&[3; 6], 6).await;
    let wal = data.files_of_kind("log").pop().unwrap();
    flips(&data, &wal, 64, 1).await;
}

#[tokio::test]
async fn flipped_bits_of_the_list_of_files_are_refused_or_lose_nothing() {
    let data = flushed().await;
    let manifest = data.manifests().pop().unwrap();
    flips(&data, &manifest, 96, 2).await;
}

/// A log of which a part was flushed into tables and compacted.
async fn flushed() -> Data {
    let mut data = Data::new();
    data.options.write_buffer_bytes = 64 * 1024;
    data.scribe.payload_bytes = 4_000;
    data.write(&[40; 12], 12).await;
    assert!(data.files_of_kind("sst").len() > 10);
    data
}

#[tokio::test]
async fn a_lost_or_cut_list_of_files_is_refused_and_costs_nothing() {
    let data = flushed().await;
    let kept = data.keep();
    let manifest = data.manifests().pop().unwrap();
    let current = data.db().join("CURRENT");
    let length = std::fs::metadata(&manifest).unwrap().len();
    let damages: [&dyn Fn(); 6] = [
        &|| std::fs::remove_file(&current).unwrap(),
        &|| std::fs::write(&current, b"").unwrap(),
        &|| std::fs::write(&current, b"MANIFEST-999999\n").unwrap(),
        &|| std::fs::remove_file(&manifest).unwrap(),
        &|| cut(&manifest, 0),
        &|| cut(&manifest, length / 2),
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        damage();
        if let Ok(store) = data.open() {
            assert_eq!(data.whole_of(&store).await, data.scribe.size(), "damage {n}");
        }
        // With the two files back, everything is there: nothing was deleted on the way.
        for file in [&current, &manifest] {
            std::fs::copy(kept.path().join("db").join(file.file_name().unwrap()), file).unwrap();
        }
        assert_eq!(data.whole().await, data.scribe.size(), "damage {n}");
        data.restore(&kept);
    }
}

/// Cut after a whole record, the list is an older one and a good one. RocksDB opens it, and deletes
/// the tables that it doesn't name: that is why a database is looked at before it is opened.
#[tokio::test]
async fn an_older_list_of_files_is_refused_and_costs_nothing() {
    let data = flushed().await;
    let kept = data.keep();
    let manifest = data.manifests().pop().unwrap();
    let ends = record_ends(&manifest);
    let tables = data.files_of_kind("sst");
    let (_, earlier) = ends.split_last().unwrap();
    let mut refused = 0;
    for end in earlier.iter().step_by(ends.len().div_ceil(12)) {
        cut(&manifest, *end);
        // The last records may only say which logs are closed: the list is the same without.
        if let Ok(store) = data.open() {
            assert_eq!(data.whole_of(&store).await, data.scribe.size());
        } else {
            refused += 1;
            assert_eq!(data.files_of_kind("sst"), tables, "nothing is deleted");
            let name = manifest.file_name().unwrap();
            std::fs::copy(kept.path().join("db").join(name), &manifest).unwrap();
            assert_eq!(data.whole().await, data.scribe.size());
        }
        data.restore(&kept);
    }
    assert!(refused > 2, "{refused} refused");
}

#[tokio::test]
async fn tables_without_a_current_are_not_written_over() {
    let data = flushed().await;
    // Even where the anchor is gone as well.
    std::fs::remove_file(data.db().join("CURRENT")).unwrap();
    std::fs::remove_file(data.anchor()).unwrap();
    assert_eq!(data.refusal(), Code::StoreCorrupt);
}

#[tokio::test]
async fn a_lost_or_cut_table_is_refused() {
    let data = flushed().await;
    let kept = data.keep();
    let tables = data.files_of_kind("sst");
    let mut refused = 0;
    for table in &tables {
        // RocksDB itself would notice only when it comes to read from there.
        if refused % 2 == 0 {
            std::fs::remove_file(table).unwrap();
        } else {
            cut(table, std::fs::metadata(table).unwrap().len() - 1);
        }
        match data.open() {
            // A table that a compaction had replaced, and that was still to be deleted.
            Ok(store) => assert_eq!(data.whole_of(&store).await, data.scribe.size()),
            Err(_) => refused += 1,
        }
        data.restore(&kept);
    }
    assert!(refused >= 10, "{refused} of {}", tables.len());
}

//! A list of files with one flipped bit once kept RocksDB reading for ever, and a ledger starting
//! for ever with it. The damaged list is kept here as it was found: it must be refused.
//!
//! Alone in its file, because the thread that reads it ends only with the process.
#![allow(clippy::unwrap_used)] // A test stops where it fails.

use countersign_core::codes::Code;
use countersign_rocksdb::{Options, RocksStore};

#[test]
fn a_list_of_files_without_an_end_is_refused() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/endless-manifest");
    let dir = tempfile::tempdir().unwrap();
    // An empty store makes the anchor and the folders.
    drop(RocksStore::open(dir.path(), &Options::default()).unwrap());
    let db = dir.path().join("db");
    std::fs::remove_dir_all(&db).unwrap();
    std::fs::create_dir(&db).unwrap();
    std::fs::write(db.join("CURRENT"), "MANIFEST-000005\n").unwrap();
    std::fs::copy(fixture, db.join("MANIFEST-000005")).unwrap();
    let refused = RocksStore::open(dir.path(), &Options::default()).unwrap_err();
    assert_eq!(refused.code(), Code::StoreCorrupt);
    assert!(refused.to_string().contains("MANIFEST"), "{refused}");
}

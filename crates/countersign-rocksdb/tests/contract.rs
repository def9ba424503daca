//! RocksDB keeps the port's contract.

// Tests may be blunt: a panic is how they fail.
#![allow(clippy::unwrap_used)]

use countersign_rocksdb::{Options, RocksStore};
use countersign_testkit::contract::{self, Place};
use tempfile::TempDir;

struct Directory(TempDir, Options);

impl Place for Directory {
    type Store = RocksStore;

    fn open(&self) -> RocksStore {
        RocksStore::open(self.0.path(), &self.1).unwrap()
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    contract::run(|| Directory(TempDir::new().unwrap(), Options::default())).await;
}

/// With next to no memory everything is flushed and compacted all the time, so that reads come from
/// files, through filters and compression.
#[tokio::test]
async fn it_keeps_the_contract_with_next_to_no_memory() {
    let options = Options {
        block_cache_bytes: 64 * 1024,
        write_buffer_bytes: 64 * 1024,
        open_files_max: 64,
        ..Options::default()
    };
    contract::run(|| Directory(TempDir::new().unwrap(), options.clone())).await;
}

//! A disk that takes no more: the process that met it writes nothing ever after, and a new one finds
//! everything that was acknowledged.
//!
//! The disk is a limit on the size of files, under which this test runs itself again as a child.

// Tests may be blunt: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::PathBuf;
use std::process::Command;

use countersign_core::hash::TreeSize;
use countersign_log::store::{Store as _, StoreError};
use countersign_rocksdb::{Options, RocksStore};
use countersign_testkit::scribe::Scribe;
use support::{Data, ORIGIN};

const CHILD: &str = "COUNTERSIGN_TEST_FULL_DISK";

fn is_poisoned<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    match answer {
        Err(StoreError::Unknown(why)) => assert!(why.contains("poisoned"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Writes until the disk is full, and prints how much was acknowledged.
async fn fill(dir: PathBuf) {
    let store = RocksStore::open(&dir, &Options::default()).unwrap();
    let mut scribe = Scribe::new(ORIGIN, 1);
    scribe.payload_bytes = 4_000;
    let (mut lease, _) = store.acquire().await.unwrap();
    let mut acknowledged = scribe.head();
    for _ in 0..1_000 {
        let (expected, commit) = (scribe.size(), scribe.commit(20));
        let head = commit.head.clone();
        match store.commit(&mut lease, expected, commit.clone()).await {
            Ok(()) => {
                store.publish(&mut lease, &head).await.unwrap();
                acknowledged = head;
            }
            Err(StoreError::Unknown(_)) => {
                is_poisoned(store.commit(&mut lease, expected, commit).await);
                is_poisoned(store.publish(&mut lease, &acknowledged).await);
                is_poisoned(store.put_blob([1; 32], vec![1]).await);
                is_poisoned(store.acquire().await.map(drop));
                let read = store.entries(countersign_core::hash::LeafIndex(0), 1).await;
                assert_eq!(read.unwrap().len(), 1, "reads go on");
                println!("\nACKNOWLEDGED {}", acknowledged.size.0);
                return;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the disk never filled");
}

#[tokio::test]
async fn a_full_disk_poisons_the_process_and_loses_nothing() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return fill(dir.into()).await;
    }
    let mut data = Data::new();
    // Blocks of 512 or 1,024 bytes, as the shell has it. With the signal ignored, a write beyond
    // the limit fails as it does on a full disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_poisons_the_process_and_loses_nothing", "--nocapture"])
        .env(CHILD, data.dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let acknowledged = said.lines().find_map(|line| line.strip_prefix("ACKNOWLEDGED "));
    let acknowledged: u64 = acknowledged.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    assert!(acknowledged > 0);

    let TreeSize(found) = data.whole().await;
    assert!(found == acknowledged || found == acknowledged + 20, "{found} of {acknowledged}");
    // And the log goes on from there.
    data.scribe.payload_bytes = 4_000;
    while data.scribe.size().0 < found {
        data.scribe.commit(20);
    }
    data.write(&[20], 1).await;
    assert_eq!(data.whole().await.0, found + 20);
}

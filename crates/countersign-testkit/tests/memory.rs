//! The store in memory: it keeps the contract, and fails as it is told.

// Tests may be blunt: a panic is how they fail.
#![allow(clippy::unwrap_used)]

use countersign_core::codes::Code;
use countersign_log::store::{Store, StoreError};
use countersign_testkit::checker::check_whole_log;
use countersign_testkit::contract::{self, MemoryPlace};
use countersign_testkit::faults::{Faults, Injected, Write};
use countersign_testkit::memory::{Disk, MemoryStore};
use countersign_testkit::scribe::Scribe;

const ORIGIN: &str = "memory.example/log";

type Damage<'a> = &'a dyn Fn(&mut Disk);

#[tokio::test]
async fn it_keeps_the_contract() {
    contract::run(MemoryPlace::default).await;
}

#[tokio::test]
async fn a_failed_commit_is_there_or_not_as_the_fault_says() {
    for fault in Injected::ALL {
        let store = MemoryStore::new(Faults::none().and_on(Write::Commit, 1, fault));
        let mut scribe = Scribe::new(ORIGIN, 1);
        let (mut lease, _) = store.acquire().await.unwrap();
        let first = scribe.commit(2);
        let old = first.head.clone();
        store.commit(&mut lease, first.head.size.minus(2), first).await.unwrap();
        let (expected, second) = (scribe.size(), scribe.commit(3));
        let new = second.head.clone();
        let answer = store.commit(&mut lease, expected, second.clone()).await;
        match fault {
            Injected::Persisted | Injected::Lost => {
                assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
            }
            Injected::Rejected => {
                assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
            }
            Injected::Fenced => assert_eq!(answer, Err(StoreError::Fenced)),
        }
        let again = store.commit(&mut lease, expected, second).await;
        if fault == Injected::Rejected {
            again.unwrap();
        } else {
            assert_eq!(again, Err(StoreError::Fenced), "the lease is lost after {fault:?}");
        }
        let there = matches!(fault, Injected::Persisted | Injected::Rejected);
        let (_, head) = store.acquire().await.unwrap();
        assert_eq!(head, Some(if there { new } else { old }), "{fault:?}");
        check_whole_log(&store, ORIGIN, scribe.vkey()).await.unwrap();
        assert_eq!(store.writes_and_fired().1, 1);
    }
}

#[tokio::test]
async fn every_writing_call_can_fail() {
    let mut scribe = Scribe::new(ORIGIN, 2);
    let commit = scribe.commit(2);
    let head = commit.head.clone();
    for (write, persists) in
        [Write::Acquire, Write::Publish, Write::PutBlob].map(|w| [(w, true), (w, false)]).concat()
    {
        let store = MemoryStore::default();
        let (mut lease, _) = store.acquire().await.unwrap();
        store.commit(&mut lease, head.size.minus(2), commit.clone()).await.unwrap();
        let fault = if persists { Injected::Persisted } else { Injected::Lost };
        store.set_faults(Faults::none().and_on(write, 0, fault));
        let answer = match write {
            Write::Acquire => store.acquire().await.map(drop),
            Write::Publish => store.publish(&mut lease, &head).await,
            _ => store.put_blob([1; 32], vec![1]).await.map(drop),
        };
        assert!(matches!(answer, Err(StoreError::Unknown(_))), "{write:?} {answer:?}");
        let published = store.with_disk(|disk| disk.published.is_some());
        assert_eq!(published, write == Write::Publish && persists);
        let blob = store.blob([1; 32]).await.unwrap().is_some();
        assert_eq!(blob, write == Write::PutBlob && persists);
    }
}

#[tokio::test]
async fn a_poisoning_store_writes_again_only_when_reopened() {
    let store = MemoryStore::new(Faults::nth(1, Injected::Persisted)).poisoning();
    let mut scribe = Scribe::new(ORIGIN, 3);
    let (mut lease, _) = store.acquire().await.unwrap();
    let (expected, commit) = (scribe.size(), scribe.commit(2));
    let head = commit.head.clone();
    let answer = store.commit(&mut lease, expected, commit).await;
    assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    assert!(matches!(store.acquire().await, Err(StoreError::Unknown(_))));
    assert!(matches!(store.put_blob([1; 32], vec![]).await, Err(StoreError::Unknown(_))));
    assert_eq!(store.reopen().acquire().await.unwrap().1, Some(head));
}

#[tokio::test]
async fn it_refuses_a_disk_that_contradicts_what_was_published() {
    let mut scribe = Scribe::new(ORIGIN, 4);
    let store = MemoryStore::default();
    let (mut lease, _) = store.acquire().await.unwrap();
    for _ in 0..2 {
        let (expected, commit) = (scribe.size(), scribe.commit(2));
        let head = commit.head.clone();
        store.commit(&mut lease, expected, commit).await.unwrap();
        store.publish(&mut lease, &head).await.unwrap();
    }
    let good = store.with_disk(|disk| disk.clone());
    let mut fork = Scribe::new(ORIGIN, 5);
    fork.commit(4);
    let damages: [(Code, Damage<'_>); 3] = [
        (Code::StoreCorrupt, &|disk| disk.entries.truncate(3)),
        (Code::AnchorAhead, &|disk| {
            disk.entries.truncate(2);
            disk.heads.remove(&4);
        }),
        (Code::AnchorDiffers, &|disk| drop(disk.heads.insert(4, fork.head().note))),
    ];
    for (code, damage) in damages {
        store.with_disk(damage);
        let refused = store.acquire().await.map(drop);
        assert_eq!(refused, Err(StoreError::Corrupt(code.into())));
        store.with_disk(|disk| *disk = good.clone());
    }
}

/// Sizes before a commit.
trait Minus {
    fn minus(self, n: u64) -> Self;
}

impl Minus for countersign_core::hash::TreeSize {
    fn minus(self, n: u64) -> Self {
        Self(self.0 - n)
    }
}

//! The checker finds a good log good, and names each kind of damage.

// Tests may be blunt: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use countersign_core::codes::Code;
use countersign_core::entry::Entry;
use countersign_core::hash::TreeSize;
use countersign_log::store::{Store, Term};
use countersign_testkit::checker::{Wrong, check_tenants, check_whole_log};
use countersign_testkit::memory::{Disk, MemoryStore};
use countersign_testkit::scribe::{Scribe, TENANTS};

const ORIGIN: &str = "checker.example/log";

type Damage = Box<dyn Fn(&mut Disk)>;

/// A log of 700 entries in seven commits: two full tiles and heads every hundred.
async fn whole() -> (MemoryStore, Scribe) {
    let store = MemoryStore::default();
    let mut scribe = Scribe::new(ORIGIN, 1);
    let (mut lease, _) = store.acquire().await.unwrap();
    for _ in 0..7 {
        let (expected, commit) = (scribe.size(), scribe.commit(100));
        store.commit(&mut lease, expected, commit).await.unwrap();
    }
    (store, scribe)
}

#[tokio::test]
async fn a_good_log_is_whole() {
    let (store, scribe) = whole().await;
    let found = check_whole_log(&store, ORIGIN, scribe.vkey()).await.unwrap();
    assert_eq!((found.size, found.heads, found.tiles), (TreeSize(700), 7, 2));
    assert_eq!(found.head, Some(scribe.head()));
    assert_eq!(check_tenants(&store, &TENANTS).await, Ok(700));
    let empty = check_whole_log(&MemoryStore::default(), ORIGIN, scribe.vkey()).await.unwrap();
    assert_eq!((empty.size, empty.heads, empty.tiles), (TreeSize(0), 0, 0));
}

fn change(disk: &mut Disk, index: usize, change: impl FnOnce(&mut Entry)) {
    let mut entry = Entry::from_bytes(&disk.entries[index]).unwrap();
    change(&mut entry);
    disk.entries[index] = entry.to_bytes();
}

#[tokio::test]
async fn each_damage_is_named() {
    let (store, scribe) = whole().await;
    let good = store.with_disk(|disk| disk.clone());
    let entry = Entry::from_bytes(&good.entries[500]).unwrap();
    let mut fork = Scribe::new(ORIGIN, 2);
    fork.commit(300);
    let fork = fork.head().note;
    let mut other = Scribe::new("other.example/log", 1);
    other.commit(300);
    let other = other.head().note;
    let unsigned = good.heads[&300].replace("\u{2014} checker", "\u{2014} chocker");
    let key = (entry.stream, entry.seq);
    let stream = Scribe::stream(1);
    let next = good.by_stream.range((stream, 0)..=(stream, u64::MAX)).next_back().unwrap().0.1 + 1;
    let (one, broken) = (entry.stream, entry.seq);
    let cases: Vec<(Damage, Wrong)> = vec![
        (
            Box::new(|disk| disk.entries.truncate(650)),
            Wrong::EntriesMissing { head: 700, entries: 650 },
        ),
        (Box::new(|disk| drop(disk.heads.remove(&700))), Wrong::EntryBeyond(600)),
        (
            Box::new(|disk| disk.entries[500][0] = 9),
            Wrong::Entry { index: 500, fault: Code::EntryVersion.into() },
        ),
        (Box::new(|disk| change(disk, 500, |e| e.logged_at.0 -= 1_000)), Wrong::TimeWentBack(500)),
        (
            Box::new(|disk| change(disk, 500, |e| e.seq += 1)),
            Wrong::StreamBroken { index: 500, expected: broken, found: broken + 1 },
        ),
        (Box::new(move |disk| drop(disk.payloads.remove(&500))), Wrong::PayloadMissing(500)),
        (
            Box::new(move |disk| assert!(disk.by_stream.remove(&key).is_some())),
            Wrong::StreamRow { stream: one, seq: broken, expected: Some(500), found: None },
        ),
        (
            Box::new(move |disk| assert!(disk.by_stream.insert(key, 3).is_some())),
            Wrong::StreamRow { stream: one, seq: broken, expected: Some(500), found: Some(3) },
        ),
        (
            Box::new(move |disk| assert!(disk.by_stream.insert((stream, next), 3).is_none())),
            Wrong::StreamRow { stream, seq: next, expected: None, found: Some(3) },
        ),
        (
            Box::new(move |disk| drop(disk.streams.remove(&stream))),
            Wrong::StreamStateMissing(stream),
        ),
        (Box::new(|disk| drop(disk.tiles.remove(&(0, 1)))), Wrong::Tile { level: 0, index: 1 }),
        (
            Box::new(|disk| disk.tiles.get_mut(&(0, 0)).unwrap()[77] ^= 1),
            Wrong::Tile { level: 0, index: 0 },
        ),
        // Nothing but the tile and the roots depend on what an entry seals.
        (Box::new(|disk| change(disk, 5, |e| e.sealed.0[0] ^= 1)), Wrong::HeadRoot(100)),
        (
            Box::new(|disk| drop(disk.tiles.insert((0, 2), vec![0; 8_192]))),
            Wrong::TileEarly { level: 0, index: 2 },
        ),
        (Box::new(move |disk| drop(disk.heads.insert(300, fork.clone()))), Wrong::HeadRoot(300)),
        (
            Box::new(move |disk| drop(disk.heads.insert(300, other.clone()))),
            Wrong::Head { size: 300, fault: Code::OriginMalformed.into() },
        ),
        (
            Box::new(move |disk| drop(disk.heads.insert(300, unsigned.clone()))),
            Wrong::Head { size: 300, fault: Code::LogSignatureMissing.into() },
        ),
        (
            Box::new(|disk| drop(disk.heads.insert(350, disk.heads[&300].clone()))),
            Wrong::Head { size: 350, fault: Code::SizeUnknown.into() },
        ),
    ];
    for (damage, expected) in cases {
        store.with_disk(damage);
        let found = check_whole_log(&store, ORIGIN, scribe.vkey()).await;
        assert_eq!(found, Err(expected));
        store.with_disk(|disk| *disk = good.clone());
    }

    // One that isn't there, and one of another tenant.
    for index in [700, 3] {
        store.with_disk(|disk| {
            for tenant in TENANTS {
                disk.lists.insert((tenant.to_owned(), Term::ALL, index));
            }
        });
        let wrong = check_tenants(&store, &TENANTS).await.unwrap_err();
        assert!(
            matches!(wrong, Wrong::TenantRow { index: found, .. } if found == index),
            "{wrong}"
        );
        store.with_disk(|disk| *disk = good.clone());
    }
}

//! Derived rows made again: the same answers as before, and the right ones after damage.

use std::path::Path;
use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::kinds::Kind;
use countersign_core::query::{Field, Row};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_rocksdb::{Options, RocksStore, reindex};
use serde_json::json;
use tempfile::TempDir;

use crate::damaged::{Damage, Damaged};
use crate::erasing::request;
use crate::support::{World, action, verdict};
use crate::{rows, store};

/// Records a batch, and batches.
const BATCH: u64 = 200;
const BATCHES: u64 = 15;

/// Fills a log and erases a part of it.
async fn fill<S: Store>(world: &World, ledger: &Ledger<S>) {
    let mut gate = world.gate("acme", "prod-1");
    gate.open(ledger).await;
    gate.register(world, ledger).await;
    for batch in 0..BATCHES {
        let says: Vec<_> = (0..BATCH)
            .map(|n| {
                let n = batch * BATCH + n;
                let say = json!({
                    "actor": {
                        "kind": "agent", "id": format!("agent-{}", n % 7), "class": null,
                        "session": format!("s-{}", n / 90), "model": null, "on_behalf_of": null,
                    },
                });
                (
                    Kind::Verdict,
                    verdict(n, ["refuse", "approve"][usize::from(n.is_multiple_of(3))], &say),
                )
            })
            .collect();
        let answer = ledger.submit(gate.batch(&says)).await.unwrap();
        assert!(answer.records.iter().all(|(_, outcome)| outcome.is_ok()));
    }
    world.host.advance_us(1_000_000);
    ledger.erase(request(world, "5-9,1500,2900")).await.unwrap();
}

type Answers = Vec<(Vec<Row>, u64)>;

async fn answers<S: Store>(ledger: &Ledger<S>) -> Answers {
    let one = action(77);
    let mut answers = Vec::new();
    for filters in [
        &[(Field::Actor, "agent-3"), (Field::Session, "s-5")][..],
        &[(Field::Session, "s-0")],
        &[(Field::ActionId, one.as_str())],
        &[(Field::Kind, "policy")],
        &[(Field::Kind, "erasure")],
        &[(Field::Outcome, "approve"), (Field::Actor, "agent-6")],
    ] {
        answers.push(rows(ledger, filters).await);
    }
    answers
}

async fn open(world: &World, dir: &Path) -> Ledger<RocksStore> {
    world.open(&store(dir)).await
}

/// Waits until nobody has the folder open.
async fn close<S: Store>(ledger: Ledger<S>, dir: &Path) {
    ledger.stop().await;
    drop(ledger);
    for _ in 0..1_000 {
        match RocksStore::open(dir, &Options::default()) {
            Err(error) if error.code() == Code::StoreLocked => tokio::task::yield_now().await,
            _ => return,
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the folder stays open");
}

#[tokio::test]
async fn answers_are_the_same_after_a_rebuild() {
    let (world, dir) = (World::new(), TempDir::new().unwrap());
    let ledger = open(&world, dir.path()).await;
    fill(&world, &ledger).await;
    let before = answers(&ledger).await;
    assert!(before.iter().all(|(rows, _)| !rows.is_empty()));
    assert_eq!(before[1].1, 7, "what is erased can't say which session it was of");
    let size = ledger.head().size.0;
    close(ledger, dir.path()).await;

    let mut seen = Vec::new();
    let done = reindex(dir.path(), &Options::default(), |done, of| seen.push((done, of))).unwrap();
    assert_eq!(done, size);
    assert_eq!((seen.first(), seen.last()), (Some(&(0, size)), Some(&(size, size))));
    let ledger = open(&world, dir.path()).await;
    assert_eq!(answers(&ledger).await, before);
    close(ledger, dir.path()).await;
}

#[tokio::test]
async fn damaged_rows_are_mended_by_a_rebuild() {
    let (world, sound, broken) = (World::new(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let ledger = open(&world, sound.path()).await;
    fill(&world, &ledger).await;
    let expected = shape(&answers(&ledger).await);
    close(ledger, sound.path()).await;

    let damage = Damage { lose: 3, invent: 5, scrubs: None };
    let spoiled = Arc::new(Damaged::new(store(broken.path()), damage));
    let ledger = world.open(&spoiled).await;
    drop(spoiled);
    fill(&world, &ledger).await;
    assert_ne!(shape(&answers(&ledger).await), expected, "the damage shows");
    close(ledger, broken.path()).await;
    reindex(broken.path(), &Options::default(), |_, _| {}).unwrap();
    let ledger = open(&world, broken.path()).await;
    assert_eq!(shape(&answers(&ledger).await), expected);
    close(ledger, broken.path()).await;
}

/// Index, whether erased, actor, action.
type Line = (u64, bool, String, String);

/// What two logs of the same records have in common: their gates have keys of their own.
fn shape(answers: &Answers) -> Vec<(Vec<Line>, u64)> {
    let line = |row: &Row| (row.index.0, row.erased, row.actor.clone(), row.action_id.clone());
    answers.iter().map(|(rows, n)| (rows.iter().map(line).collect(), *n)).collect()
}

#[tokio::test]
async fn an_interrupted_rebuild_is_begun_again() {
    let (world, dir) = (World::new(), TempDir::new().unwrap());
    let ledger = open(&world, dir.path()).await;
    fill(&world, &ledger).await;
    let before = answers(&ledger).await;
    close(ledger, dir.path()).await;

    for stop_at in [0, 2_048] {
        let killed = std::panic::catch_unwind(|| {
            reindex(dir.path(), &Options::default(), |done, _| assert!(done < stop_at))
        });
        assert!(killed.is_err());
        let refused = RocksStore::open(dir.path(), &Options::default()).unwrap_err();
        assert_eq!(refused.code(), Code::ReindexNeeded);
        assert!(refused.to_string().contains("countersign reindex --dir"), "{refused}");
    }
    reindex(dir.path(), &Options::default(), |_, _| {}).unwrap();
    let ledger = open(&world, dir.path()).await;
    assert_eq!(answers(&ledger).await, before);
    close(ledger, dir.path()).await;
    let nothing = TempDir::new().unwrap();
    let refused = reindex(nothing.path(), &Options::default(), |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("LOG_ABSENT"), "{refused}");
}

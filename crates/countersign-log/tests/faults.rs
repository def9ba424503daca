//! Every write of the store fails, each in every way: what was acknowledged stays provable, what
//! was not can be sent again without a duplicate, and the log read from its first byte is whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::entry::Entry;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{verify_consistency, verify_inclusion};
use countersign_core::note::{KeyType, SignedCheckpoint, VerifierKey};
use countersign_log::api::{Batch, LogState, Logged};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store as _;
use countersign_testkit::checker::{check_policies, check_whole_log};
use countersign_testkit::faults::{Faults, Injected, Write};
use countersign_testkit::memory::MemoryStore;
use countersign_testkit::rng::SplitMix64;
use serde_json::json;

use support::{Gate, ORIGIN, World, policy, under, verdict};

/// Restarts after which a run that gets nowhere is a failure.
const RESTARTS_MAX: u32 = 200;

/// A receipt that a submitter holds.
struct Acknowledged {
    index: LeafIndex,
    entry: Entry,
    checkpoint: SignedCheckpoint,
}

/// Submits some batches of two gates, several at once, until all are acknowledged, through
/// whatever the store does. Gives how many writes were asked and how many failed.
async fn run(world: &World, faults: Faults, seed: u64) -> (u64, u64) {
    let mut rng = SplitMix64::new(seed);
    let mut store = Arc::new(MemoryStore::new(faults));
    let mut gates = [world.gate("acme", "prod-1"), world.gate("acme", "prod-2")];
    let mut batches: Vec<Batch> = Vec::new();
    let owner = world.person("policy-admin", "pia");
    for n in 0..12_u64 {
        let gate = &mut gates[usize::from(rng.below(2) == 1)];
        // Verdicts under a policy that is logged right before them, often in the same group: what
        // becomes of the one decides the others (LIFE-14).
        if n % 4 == 0 {
            let digest = [u8::try_from(n).unwrap(); 32];
            batches.push(gate.signed(Kind::Policy, &policy(&owner, digest), &owner));
            let say = json!({ "policy": under(digest) });
            batches.push(gate.batch(&[(Kind::Verdict, verdict(n * 10 + 9, "approve", &say))]));
        }
        let says: Vec<_> = (0..=rng.below(4))
            .map(|k| (Kind::Verdict, verdict(n * 10 + k, "refuse", &json!({}))))
            .collect();
        batches.push(gate.batch(&says));
    }
    let records: u64 = batches.iter().map(|batch| batch.records.len() as u64).sum();
    let mut held: BTreeMap<(usize, u64), Acknowledged> = BTreeMap::new();
    let mut counts = (0, 0);
    for restart in 0.. {
        assert!(restart < RESTARTS_MAX, "seed {seed}: no progress");
        let waiting = |held: &BTreeMap<_, _>| held.len() as u64 != records;
        if !waiting(&held) {
            break;
        }
        attempt(world, &store, &gates, &batches, &mut held).await;
        let (writes, fired) = store.writes_and_fired();
        counts = (counts.0 + writes, counts.1 + fired);
        if waiting(&held) {
            // A new process: the faults go on where they were, unless they came to their end.
            let next = Arc::new(store.reopen());
            if restart < 20 {
                next.set_faults(Faults::seeded(seed ^ u64::from(restart), 20));
            }
            store = next;
        }
    }
    check(world, &Arc::new(store.reopen()), records, &held).await;
    counts
}

/// One process's life: opens the log and the streams and submits everything, the acknowledged too.
async fn attempt(
    world: &World,
    store: &Arc<MemoryStore>,
    gates: &[Gate],
    batches: &[Batch],
    held: &mut BTreeMap<(usize, u64), Acknowledged>,
) {
    let host = Arc::clone(&world.host);
    let opened = Ledger::open(Arc::clone(store), host, world.keys.clone(), world.config()).await;
    let Ok(ledger) = opened else { return };
    for gate in gates {
        if ledger.open_stream(gate.opening()).await.is_err() {
            return;
        }
    }
    let mut pending = Vec::new();
    for (n, batch) in batches.iter().enumerate() {
        match ledger.enqueue(batch.clone()).await {
            Ok(answer) => pending.push((n, answer)),
            Err(_) => break,
        }
    }
    for (n, answer) in pending {
        let Ok(answer) = answer.answer().await else { continue };
        for (seq, outcome) in answer.records {
            let logged = match outcome {
                Ok(logged) => logged,
                // A batch before it was lost: it comes again.
                Err(r) if matches!(r.fault.code, Code::SeqGap | Code::StreamHalted) => continue,
                Err(r) if r.fault.code == Code::EvidenceUnavailable => continue,
                Err(refused) => panic!("{refused:?}"),
            };
            let note = answer.head.as_ref().map(|head| head.note.as_str());
            acknowledge(held, (n, seq), &logged, note);
        }
    }
}

/// Takes a receipt as a client does: proven, and the same as before where there was one.
fn acknowledge(
    held: &mut BTreeMap<(usize, u64), Acknowledged>,
    which: (usize, u64),
    logged: &Logged,
    newest: Option<&str>,
) {
    let note = logged.first.as_ref().map_or(newest, |first| Some(first.note.as_str()));
    let checkpoint = SignedCheckpoint::parse(note.unwrap()).unwrap();
    let (size, root) = (checkpoint.size, checkpoint.root);
    verify_inclusion(logged.index, size, &logged.entry.leaf(), &logged.path, &root).unwrap();
    let index = logged.index;
    let now = Acknowledged { index, entry: logged.entry, checkpoint };
    if let Some(before) = held.insert(which, now) {
        assert_eq!((before.index, before.entry), (index, logged.entry), "acknowledged twice");
        assert_eq!(before.checkpoint, held[&which].checkpoint, "the first receipt, always");
    }
}

async fn check(
    world: &World,
    store: &Arc<MemoryStore>,
    records: u64,
    held: &BTreeMap<(usize, u64), Acknowledged>,
) {
    let key = world.keys.log.verifying_key().to_bytes();
    let vkey = VerifierKey::new(ORIGIN, KeyType::Note, key).unwrap();
    let whole = check_whole_log(&**store, ORIGIN, &vkey).await.unwrap();
    assert_eq!(check_policies(&**store).await, Ok((3, records - 3)));
    // Genesis, two streams, and each record once.
    assert_eq!(whole.size, TreeSize(3 + records), "a duplicate or a loss");
    let ledger = world.open(store).await;
    let newest = ledger.head();
    for acknowledged in held.values() {
        let entries = store.entries(acknowledged.index, 1).await.unwrap();
        assert_eq!(entries[0], acknowledged.entry.to_bytes());
        let old = &acknowledged.checkpoint;
        let (size, proof) = ledger.consistency(old.size, None).await.unwrap();
        verify_consistency(old.size, size, &old.root, &newest.root, &proof).unwrap();
    }
}

#[tokio::test]
async fn every_write_fails_in_every_way() {
    let world = World::new();
    let (writes, _) = run(&world, Faults::none(), 7).await;
    assert!(writes > 6, "{writes}");
    let mut fired = 0;
    for n in 0..writes {
        for fault in Injected::ALL {
            fired += run(&world, Faults::nth(n, fault), 7).await.1;
        }
    }
    assert!(fired >= 3 * writes, "{fired} faults at {writes} writes");
}

#[tokio::test]
async fn two_faults_in_a_row_are_survived() {
    let world = World::new();
    for n in 2..12 {
        for first in Injected::ALL {
            for second in [Injected::Persisted, Injected::Lost] {
                let mut script = vec![None; n];
                script.extend([Some(first), Some(second)]);
                run(&world, Faults::script(script), 11).await;
            }
        }
    }
}

#[tokio::test]
async fn soak_random_faults_lose_nothing() {
    let soak = std::env::var_os("COUNTERSIGN_SOAK").is_some();
    let seeds = if soak { 10_000 } else { 150 };
    let world = World::new();
    let mut fired = 0;
    for seed in 0..seeds {
        fired += run(&world, Faults::seeded(seed, 150), seed).await.1;
    }
    assert!(fired > seeds / 2, "{fired} faults in {seeds} runs");
}

/// One commit in doubt costs nobody an answer: the log reads itself again and goes on, in order.
#[tokio::test]
async fn a_commit_in_doubt_is_settled_without_a_restart() {
    let world = World::new();
    for fault in [Injected::Persisted, Injected::Lost, Injected::Rejected] {
        let store = Arc::new(MemoryStore::new(Faults::none()));
        // Groups of one record: several commits, of which the second is decided on the first.
        let mut config = world.config();
        config.group_max = 1;
        let ledger = world.open_with(&store, config).await;
        let mut gate = world.gate("acme", "prod-1");
        gate.open(&ledger).await;
        store.set_faults(Faults::none().and_on(Write::Commit, 0, fault));
        let mut pending = Vec::new();
        for n in 0..5 {
            let batch = gate.batch(&[(Kind::Verdict, verdict(n, "refuse", &json!({})))]);
            pending.push(ledger.enqueue(batch).await.unwrap());
        }
        for (seq, answer) in (0..).zip(pending) {
            let logged = support::only(answer.answer().await.unwrap()).unwrap();
            assert_eq!((logged.entry.seq, logged.index.0), (seq, seq + 2), "{fault:?}");
        }
        assert_eq!(store.writes_and_fired().1, 1);
        assert_eq!(ledger.head().size, TreeSize(7));
    }
}

/// A store that is poisoned by a failed sync: what waited is of unknown fate, nothing more is taken,
/// and a new process settles it.
#[tokio::test]
async fn a_poisoned_store_takes_nothing_more_until_a_new_process_opens_it() {
    let world = World::new();
    let store = Arc::new(MemoryStore::new(Faults::none()).poisoning());
    let ledger = world.open(&store).await;
    let mut gate = world.gate("acme", "prod-1");
    gate.open(&ledger).await;
    store.set_faults(Faults::nth(0, Injected::Persisted));
    let batch = gate.batch(&[(Kind::Verdict, verdict(1, "refuse", &json!({})))]);
    let unknown = ledger.submit(batch.clone()).await.unwrap_err();
    assert_eq!(unknown.fault.code, Code::EvidenceUnavailable);
    let poisoned = ledger.submit(batch.clone()).await.unwrap_err();
    assert_eq!(poisoned.fault.code, Code::LedgerPoisoned);
    // What was published can still be read.
    assert_eq!(ledger.head().size, TreeSize(2));
    let ledger = world.open(&Arc::new(store.reopen())).await;
    let answer = ledger.submit(batch).await.unwrap();
    let logged = support::only(answer).unwrap();
    assert!(logged.first.is_some(), "it was logged, and says so");
}

/// A blob that can't be written may be the end of all writing: the log looks, and says so.
#[tokio::test]
async fn a_failed_blob_poisons_a_store_that_writes_no_more() {
    let world = World::new();
    for poisons in [true, false] {
        let store = MemoryStore::new(Faults::none());
        let store = Arc::new(if poisons { store.poisoning() } else { store });
        let ledger = world.open(&store).await;
        store.set_faults(Faults::none().and_on(Write::PutBlob, 0, Injected::Lost));
        let mut gate = world.gate("acme", "prod-1");
        let failed = ledger.open_stream(gate.opening()).await.unwrap_err();
        assert_eq!(failed.fault.code, Code::StoreFailed);
        let mut state = ledger.state();
        if poisons {
            state.wait_for(|state| *state == LogState::Poisoned).await.unwrap();
        } else {
            gate.open(&ledger).await;
            assert_eq!(*state.borrow(), LogState::Ready);
        }
    }
}

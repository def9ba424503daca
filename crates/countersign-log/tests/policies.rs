//! A verdict is under a policy that the log holds (spec/kinds.md, LIFE-14).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::hash::LeafIndex;
use countersign_core::kinds::Kind;
use countersign_log::api::Batch;
use countersign_log::ledger::Ledger;
use countersign_log::store::Store as _;
use countersign_testkit::checker::{Wrong, check_policies};
use countersign_testkit::faults::{Faults, Injected, Write};
use countersign_testkit::memory::{Disk, MemoryStore};
use serde_json::{Value, json};

use support::{Gate, Holder, World, policy, under, verdict};

const ONE: [u8; 32] = [1; 32];
const TWO: [u8; 32] = [2; 32];

struct Stage {
    world: World,
    store: Arc<MemoryStore>,
    ledger: Ledger<MemoryStore>,
    gate: Gate,
    owner: Holder,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new();
        let store = Arc::new(MemoryStore::new(Faults::none()));
        let ledger = world.open(&store).await;
        let mut gate = world.gate("acme", "prod-1");
        gate.open(&ledger).await;
        let owner = world.person("policy-admin", "pia");
        Self { world, store, ledger, gate, owner }
    }

    async fn register(&mut self, digest: [u8; 32]) {
        let record = policy(&self.owner, digest);
        let chain = self.owner.chain.clone();
        self.gate.say(&self.ledger, Kind::Policy, &record, chain).await.unwrap();
    }

    async fn verdict(&mut self, n: u64, outcome: &str, policy: Value) -> Result<u64, Code> {
        let value = verdict(n, outcome, &json!({ "policy": policy }));
        let said = self.gate.say(&self.ledger, Kind::Verdict, &value, Vec::new()).await;
        said.map(|(_, logged)| logged.index.0).map_err(|refused| refused.fault.code)
    }

    /// A process of its own on the same disk, after this one.
    async fn restarted(self) -> Self {
        self.ledger.stop().await;
        let store = Arc::new(self.store.reopen());
        let ledger = self.world.open(&store).await;
        Self { store, ledger, ..self }
    }
}

#[tokio::test]
async fn a_verdict_before_its_policy_is_refused_and_nothing_is_logged() {
    let mut stage = Stage::new().await;
    let before = stage.ledger.head().size;
    for outcome in ["approve", "refuse", "supervise"] {
        let refused = stage.verdict(1, outcome, under(ONE)).await;
        assert_eq!(refused, Err(Code::PolicyUnknown), "{outcome}");
    }
    assert_eq!(stage.ledger.head().size, before);
    stage.register(TWO).await;
    assert_eq!(stage.verdict(1, "approve", under(ONE)).await, Err(Code::PolicyUnknown));
    stage.register(ONE).await;
    for (n, outcome) in (1..).zip(["approve", "refuse", "supervise"]) {
        stage.verdict(n, outcome, under(ONE)).await.unwrap();
    }
    stage.verdict(9, "refuse", under(TWO)).await.unwrap();
    assert_eq!(check_policies(&*stage.store).await, Ok((2, 4)));
}

#[tokio::test]
async fn only_a_refuse_may_name_no_policy() {
    let mut stage = Stage::new().await;
    stage.register(ONE).await;
    for outcome in ["approve", "supervise"] {
        let refused = stage.verdict(1, outcome, Value::Null).await;
        assert_eq!(refused, Err(Code::PolicyUnknown), "{outcome}");
    }
    stage.verdict(1, "refuse", Value::Null).await.unwrap();
    assert_eq!(check_policies(&*stage.store).await, Ok((1, 1)));
}

#[tokio::test]
async fn another_tenants_policy_does_not_count_and_another_gates_does() {
    let mut stage = Stage::new().await;
    stage.register(ONE).await;
    let mut other = stage.world.gate("globex", "prod-1");
    other.open(&stage.ledger).await;
    let mut value = verdict(1, "approve", &json!({ "policy": under(ONE) }));
    let said = other.say(&stage.ledger, Kind::Verdict, &value, Vec::new()).await;
    assert_eq!(said.unwrap_err().fault.code, Code::PolicyUnknown);
    let mut second = stage.world.gate("acme", "prod-2");
    second.open(&stage.ledger).await;
    value["action_id"] = support::action(2).into();
    second.say(&stage.ledger, Kind::Verdict, &value, Vec::new()).await.unwrap();
    // Told apart after a restart as well, when nothing is in memory.
    let stage = stage.restarted().await;
    value["action_id"] = support::action(3).into();
    let said = other.say(&stage.ledger, Kind::Verdict, &value, Vec::new()).await;
    assert_eq!(said.unwrap_err().fault.code, Code::PolicyUnknown);
    second.say(&stage.ledger, Kind::Verdict, &value, Vec::new()).await.unwrap();
}

/// One batch with a policy and a verdict under it, in this order or the other.
fn together(stage: &mut Stage, n: u64, digest: [u8; 32], policy_first: bool) -> Batch {
    let (first, mut prev) = (stage.gate.next_seq, stage.gate.prev);
    let one = (Kind::Policy, policy(&stage.owner, digest), stage.owner.chain.clone());
    let say = verdict(n, "approve", &json!({ "policy": under(digest) }));
    let mut says = vec![one, (Kind::Verdict, say, Vec::new())];
    if !policy_first {
        says.reverse();
    }
    let mut records = Vec::new();
    for (seq, (kind, values, people)) in (first..).zip(says) {
        let record = stage.gate.record(seq, prev, kind, &values);
        prev = record.root();
        records.push((record, people));
    }
    stage.gate.seal(first, records)
}

#[tokio::test]
async fn a_policy_and_its_verdict_may_come_in_one_batch_in_this_order() {
    let mut stage = Stage::new().await;
    let wrong = together(&mut stage, 1, ONE, false);
    let answer = stage.ledger.submit(wrong).await.unwrap();
    let refused: Vec<Code> =
        answer.records.iter().map(|(_, found)| found.as_ref().unwrap_err().fault.code).collect();
    assert_eq!(refused, [Code::PolicyUnknown, Code::StreamHalted]);
    stage.gate.call += 1;
    let right = together(&mut stage, 1, ONE, true);
    let answer = stage.ledger.submit(right).await.unwrap();
    assert!(answer.records.iter().all(|(_, found)| found.is_ok()), "{answer:?}");
    assert_eq!(check_policies(&*stage.store).await, Ok((1, 1)));
}

#[tokio::test]
async fn what_was_registered_is_known_after_a_restart() {
    let mut stage = Stage::new().await;
    stage.register(ONE).await;
    stage.verdict(1, "approve", under(ONE)).await.unwrap();
    let mut stage = stage.restarted().await;
    stage.verdict(2, "approve", under(ONE)).await.unwrap();
    assert_eq!(stage.verdict(3, "approve", under(TWO)).await, Err(Code::PolicyUnknown));
    // The same version once more, as when a gate goes back to it: the first one still counts.
    stage.register(ONE).await;
    let first = stage.store.by_policy("acme", ONE).await.unwrap();
    assert_eq!(first, Some(LeafIndex(2)));
    assert_eq!(check_policies(&*stage.store).await, Ok((1, 2)));
}

/// The write that holds the policy fails: a verdict under it is logged when the policy is, and
/// never without it.
#[tokio::test]
async fn a_policy_whose_write_failed_counts_only_if_it_is_there() {
    for (nth, fault) in (0..3).flat_map(|nth| Injected::ALL.map(|fault| (nth, fault))) {
        for write in [Write::Commit, Write::Publish] {
            let mut stage = Stage::new().await;
            // Groups of one record: the verdict's is decided while the policy's is written.
            stage.ledger.stop().await;
            let mut config = stage.world.config();
            config.group_max = 1;
            stage.store = Arc::new(stage.store.reopen());
            stage.ledger = stage.world.open_with(&stage.store, config).await;
            stage.store.set_faults(Faults::none().and_on(write, nth, fault));
            let register = policy(&stage.owner, ONE);
            let first = stage.gate.signed(Kind::Policy, &register, &stage.owner);
            let say = verdict(1, "approve", &json!({ "policy": under(ONE) }));
            let second = stage.gate.batch(&[(Kind::Verdict, say)]);
            let mut pending = Vec::new();
            for batch in [&first, &second] {
                pending.push(stage.ledger.enqueue(batch.clone()).await);
            }
            for answer in pending.into_iter().flatten() {
                // What it says is of no interest here; it must come.
                drop(answer.answer().await);
            }
            let context = format!("{write:?} {nth} {fault:?}");
            // Whatever is there is in order.
            let store = Arc::new(stage.store.reopen());
            let (policies, verdicts) = check_policies(&*store).await.expect(&context);
            assert!(verdicts <= policies, "{context}");
            // And a new process takes the same two again.
            let ledger = stage.world.open(&store).await;
            for batch in [first, second] {
                support::only(ledger.submit(batch).await.unwrap()).expect(&context);
            }
            assert_eq!(check_policies(&*store).await, Ok((1, 1)), "{context}");
        }
    }
}

type Damage = Box<dyn Fn(&mut Disk)>;

#[tokio::test]
async fn the_checker_names_what_breaks_the_rule() {
    let mut stage = Stage::new().await;
    stage.register(ONE).await;
    let at = stage.verdict(1, "approve", under(ONE)).await.unwrap();
    assert_eq!(at, 3, "behind genesis, stream and policy");
    let good = stage.store.with_disk(|disk| disk.clone());
    let acme = || "acme".to_owned();
    let cases: Vec<(Damage, Wrong)> = vec![
        // The policy's entry and payload stand behind the verdict's.
        (
            Box::new(|disk| {
                disk.entries.swap(2, 3);
                let (policy, verdict) = (disk.payloads[&2].clone(), disk.payloads[&3].clone());
                disk.payloads.extend([(2, verdict), (3, policy)]);
            }),
            Wrong::PolicyUnknown(2),
        ),
        (
            Box::new(move |disk| assert!(disk.by_policy.remove(&(acme(), ONE, 2)))),
            Wrong::PolicyRow { index: 2, found: None },
        ),
        (
            Box::new(move |disk| assert!(disk.by_policy.insert((acme(), ONE, 1)))),
            Wrong::PolicyRow { index: 2, found: Some(1) },
        ),
        (Box::new(|disk| disk.payloads.get_mut(&3).unwrap().truncate(9)), Wrong::Payload(3)),
        (Box::new(|disk| drop(disk.payloads.remove(&3))), Wrong::PayloadMissing(3)),
    ];
    for (damage, expected) in cases {
        stage.store.with_disk(damage);
        assert_eq!(check_policies(&*stage.store).await, Err(expected));
        stage.store.with_disk(|disk| *disk = good.clone());
    }
}

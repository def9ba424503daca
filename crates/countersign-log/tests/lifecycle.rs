//! The lifecycle of an action, through the log (spec/kinds.md, LIFE-1 to LIFE-10).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, hex};
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::verify::Verdict;
use countersign_log::ledger::Ledger;
use countersign_testkit::faults::Faults;
use countersign_testkit::memory::MemoryStore;
use serde_json::{Value, json};

use support::{Gate, Holder, NOON, World, action, verdict};

const MINUTE_US: u64 = 60_000_000;

struct Stage {
    world: World,
    ledger: Ledger<MemoryStore>,
    gate: Gate,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new();
        let ledger = world.open(&Arc::new(MemoryStore::new(Faults::none()))).await;
        let mut gate = world.gate("acme", "prod-1");
        gate.open(&ledger).await;
        gate.register(&world, &ledger).await;
        Self { world, ledger, gate }
    }

    async fn verdict(&mut self, n: u64, outcome: &str, say: Value) -> Result<RecordRoot, Code> {
        self.say(Kind::Verdict, &verdict(n, outcome, &say), Vec::new()).await
    }

    async fn say(
        &mut self,
        kind: Kind,
        value: &Value,
        people: Vec<countersign_core::cert::Certificate>,
    ) -> Result<RecordRoot, Code> {
        let said = self.gate.say(&self.ledger, kind, value, people).await;
        let (root, logged) = said.map_err(|refused| refused.fault.code)?;
        // Whatever the ledger takes, the offline verifier takes.
        let report = self.world.verify(&self.ledger, logged.index.0).await;
        assert_eq!(report.result, Verdict::Valid, "{report:?}");
        Ok(root)
    }

    /// A supervised action that asks for two approvals.
    async fn supervised(&mut self, n: u64) -> RecordRoot {
        let expires = Micros(NOON.0 + 5 * MINUTE_US).format();
        let requires = json!({ "approvals": 2, "roles": ["on-call"], "expires_at": expires });
        self.verdict(n, "supervise", json!({ "requires": requires })).await.unwrap()
    }

    async fn approve(
        &mut self,
        n: u64,
        verdict_root: RecordRoot,
        person: &Holder,
        id: &str,
        mut say: Value,
    ) -> Result<RecordRoot, Code> {
        let draft =
            self.gate.record(0, verdict_root, Kind::Verdict, &verdict(n, "refuse", &json!({})));
        for (name, value) in [
            ("action_id", action(n)),
            ("action_digest", draft.view().str("action_digest").unwrap().to_owned()),
        ] {
            if say.get(name).is_none() {
                say[name] = value.into();
            }
        }
        let value = Gate::approval(person, id, verdict_root, &say);
        self.say(Kind::Approval, &value, person.chain.clone()).await
    }

    fn outcome(n: u64, of: RecordRoot, say: &Value) -> Value {
        let mut value = json!({
            "action_id": action(n), "attested_by": "executor", "match": "match",
            "observed_at": NOON.format(), "result": "executed", "verdict": of.hex(),
        });
        for (name, new) in say.as_object().unwrap() {
            value[name] = new.clone();
        }
        value
    }
}

fn permit(id: &str) -> Value {
    let not_after = Micros(NOON.0 + MINUTE_US).format();
    json!({ "permit": { "id": id, "audience": null, "not_after": not_after } })
}

#[tokio::test]
async fn one_first_verdict_an_action_and_mode() {
    let mut stage = Stage::new().await;
    stage.verdict(1, "refuse", json!({})).await.unwrap();
    assert_eq!(stage.verdict(1, "approve", json!({})).await, Err(Code::DuplicateVerdict));
    stage.verdict(1, "approve", json!({ "mode": "shadow" })).await.unwrap();
    let twice = [
        (Kind::Verdict, verdict(2, "refuse", &json!({}))),
        (Kind::Verdict, verdict(2, "refuse", &json!({}))),
    ];
    let answer = stage.ledger.submit(stage.gate.batch(&twice)).await.unwrap();
    assert!(answer.records[0].1.is_ok());
    let second = answer.records[1].1.clone().unwrap_err();
    assert_eq!(second.fault.code, Code::DuplicateVerdict, "within one group too");
}

#[tokio::test]
async fn a_supervised_action_is_released_by_the_people_that_it_asks_for() {
    let mut stage = Stage::new().await;
    let (ada, bob) = (stage.world.person("approver", "ada"), stage.world.person("approver", "bob"));
    let parent = stage.supervised(1).await;
    let one = stage.approve(1, parent, &ada, "ada", json!({})).await.unwrap();
    let release = |approvals: &[RecordRoot]| {
        let approvals: Vec<String> = approvals.iter().map(RecordRoot::hex).collect();
        json!({ "parent": parent.hex(), "approvals": approvals })
    };
    assert_eq!(stage.verdict(1, "approve", release(&[one])).await, Err(Code::ApprovalsTooFew));
    let again = stage.approve(1, parent, &ada, "ada", json!({})).await.unwrap();
    let same = stage.verdict(1, "approve", release(&[one, again])).await;
    assert_eq!(same, Err(Code::ApprovalSamePerson));
    let unlogged = stage.verdict(1, "approve", release(&[one, parent])).await;
    assert_eq!(unlogged, Err(Code::ApprovalUnknown));
    let two = stage.approve(1, parent, &bob, "bob", json!({})).await.unwrap();
    let other = stage.verdict(1, "approve", {
        let mut say = release(&[one, two]);
        say["nonce"] = hex(&[1; 16]).into();
        say
    });
    assert_eq!(other.await, Err(Code::ParentMismatch), "another action's digest");
    let done = stage.verdict(1, "approve", release(&[one, two])).await.unwrap();
    let answered = stage.verdict(1, "refuse", json!({ "parent": parent.hex() })).await;
    assert_eq!(answered, Err(Code::ParentAnswered));
    let wrong = stage.verdict(1, "approve", json!({ "parent": done.hex() })).await;
    assert_eq!(wrong, Err(Code::ParentOutcome));
}

/// What no verifier could call released, the ledger doesn't take as released.
#[tokio::test]
async fn a_supervise_that_requires_nothing_is_released_by_nobody() {
    let mut stage = Stage::new().await;
    let ada = stage.world.person("approver", "ada");
    let parent = stage.verdict(1, "supervise", json!({})).await.unwrap();
    let one = stage.approve(1, parent, &ada, "ada", json!({})).await.unwrap();
    let say = json!({ "parent": parent.hex(), "approvals": [one.hex()] });
    assert_eq!(stage.verdict(1, "approve", say).await, Err(Code::ApprovalsTooFew));
    stage.verdict(1, "refuse", json!({ "parent": parent.hex() })).await.unwrap();
}

#[tokio::test]
async fn a_denied_or_late_action_is_not_released() {
    let mut stage = Stage::new().await;
    let (ada, bob) = (stage.world.person("approver", "ada"), stage.world.person("approver", "bob"));
    let eve = stage.world.person("approver", "eve");
    let parent = stage.supervised(1).await;
    let one = stage.approve(1, parent, &ada, "ada", json!({})).await.unwrap();
    let two = stage.approve(1, parent, &bob, "bob", json!({})).await.unwrap();
    stage.approve(1, parent, &eve, "eve", json!({ "decision": "deny" })).await.unwrap();
    let say = json!({ "parent": parent.hex(), "approvals": [one.hex(), two.hex()] });
    assert_eq!(stage.verdict(1, "approve", say).await, Err(Code::ActionDenied));
    stage.verdict(1, "refuse", json!({ "parent": parent.hex() })).await.unwrap();

    let parent = stage.supervised(2).await;
    let one = stage.approve(2, parent, &ada, "ada", json!({})).await.unwrap();
    let two = stage.approve(2, parent, &bob, "bob", json!({})).await.unwrap();
    stage.world.host.set(Micros(NOON.0 + 5 * MINUTE_US + 1));
    let say = json!({ "parent": parent.hex(), "approvals": [one.hex(), two.hex()] });
    assert_eq!(stage.verdict(2, "approve", say).await, Err(Code::ApprovalExpired));
    let late = stage.approve(2, parent, &eve, "eve", json!({})).await;
    assert_eq!(late, Err(Code::ApprovalExpired));
}

#[tokio::test]
async fn an_approval_answers_a_supervised_verdict_and_is_signed() {
    let mut stage = Stage::new().await;
    let ada = stage.world.person("approver", "ada");
    let refused = stage.verdict(1, "refuse", json!({})).await.unwrap();
    let outcome = stage.approve(1, refused, &ada, "ada", json!({})).await;
    assert_eq!(outcome, Err(Code::ApprovalOtherVerdict));
    let outcome = stage.approve(1, RecordRoot([1; 32]), &ada, "ada", json!({})).await;
    assert_eq!(outcome, Err(Code::VerdictUnknown));
    let parent = stage.supervised(2).await;
    let say = json!({ "action_digest": hex(&[1; 32]) });
    assert_eq!(stage.approve(2, parent, &ada, "ada", say).await, Err(Code::ParentMismatch));
    assert_eq!(
        stage.approve(2, parent, &ada, "bob", json!({})).await,
        Err(Code::PersonCertificate)
    );
    let gate = stage.world.people.issue("spiffe://acme.example/tenant/globex/approver/ada", 2030);
    let outcome = stage.approve(2, parent, &gate, "ada", json!({})).await;
    assert_eq!(outcome, Err(Code::PersonCertificate), "another tenant's approver");
    let mut value = Gate::approval(
        &ada,
        "ada",
        parent,
        &json!({
            "action_id": action(2), "action_digest": hex(&[1; 32]),
        }),
    );
    value["justification"] = "something else".into();
    let outcome = stage.say(Kind::Approval, &value, ada.chain.clone()).await;
    assert_eq!(outcome, Err(Code::PersonSignature));
    assert_eq!(stage.say(Kind::Approval, &value, vec![]).await, Err(Code::CertChain));
}

#[tokio::test]
async fn an_approve_is_voided_before_its_permit_is_used_or_over() {
    let mut stage = Stage::new().await;
    let void = |of: RecordRoot| json!({ "parent": of.hex() });
    let approve = stage.verdict(1, "approve", permit("p-1")).await.unwrap();
    stage.verdict(1, "refuse", void(approve)).await.unwrap();
    // An outcome that comes all the same is logged.
    let say = Stage::outcome(1, approve, &json!({ "permit": "p-1" }));
    stage.say(Kind::Outcome, &say, vec![]).await.unwrap();

    let approve = stage.verdict(2, "approve", permit("p-2")).await.unwrap();
    let say = Stage::outcome(2, approve, &json!({ "permit": "p-2" }));
    stage.say(Kind::Outcome, &say, vec![]).await.unwrap();
    assert_eq!(stage.verdict(2, "refuse", void(approve)).await, Err(Code::VoidTooLate));

    let approve = stage.verdict(3, "approve", permit("p-3")).await.unwrap();
    stage.world.host.set(Micros(NOON.0 + MINUTE_US + 1));
    assert_eq!(stage.verdict(3, "refuse", void(approve)).await, Err(Code::VoidTooLate));
}

#[tokio::test]
async fn one_outcome_a_permit_unless_it_supersedes_the_newest() {
    let mut stage = Stage::new().await;
    let approve = stage.verdict(1, "approve", permit("p-1")).await.unwrap();
    let say = Stage::outcome(1, approve, &json!({ "permit": "p-2" }));
    assert_eq!(stage.say(Kind::Outcome, &say, vec![]).await, Err(Code::PermitUnknown));
    let say = Stage::outcome(1, RecordRoot([1; 32]), &json!({ "permit": "p-1" }));
    assert_eq!(stage.say(Kind::Outcome, &say, vec![]).await, Err(Code::VerdictUnknown));
    let say = Stage::outcome(1, approve, &json!({ "permit": "p-1", "result": "unknown" }));
    let first = stage.say(Kind::Outcome, &say, vec![]).await.unwrap();
    let say = Stage::outcome(1, approve, &json!({ "permit": "p-1" }));
    assert_eq!(stage.say(Kind::Outcome, &say, vec![]).await, Err(Code::PermitUsed));
    let say = Stage::outcome(1, approve, &json!({ "permit": "p-1", "supersedes": first.hex() }));
    let second = stage.say(Kind::Outcome, &say, vec![]).await.unwrap();
    assert_eq!(stage.say(Kind::Outcome, &say, vec![]).await, Err(Code::SupersedesUnknown));
    let reverted = json!({ "permit": "p-1", "supersedes": second.hex(), "result": "reverted" });
    let say = Stage::outcome(1, approve, &reverted);
    stage.say(Kind::Outcome, &say, vec![]).await.unwrap();
    // An outcome without the permit, or without the action, would be a second one.
    let say = Stage::outcome(1, approve, &json!({}));
    assert_eq!(stage.say(Kind::Outcome, &say, vec![]).await, Err(Code::PermitUnknown));
    let nowhere = [
        (json!({ "action_id": null }), Code::VerdictUnknown),
        (
            json!({ "action_id": null, "verdict": null, "match": "orphan", "permit": "p-1" }),
            Code::PermitUnknown,
        ),
        (json!({ "verdict": null, "match": "orphan", "permit": "p-1" }), Code::PermitUnknown),
        (
            json!({ "action_id": null, "verdict": null, "match": "orphan",
                "supersedes": second.hex() }),
            Code::SupersedesUnknown,
        ),
    ];
    for (say, code) in nowhere {
        let say = Stage::outcome(1, approve, &say);
        assert_eq!(stage.say(Kind::Outcome, &say, vec![]).await, Err(code), "{say}");
    }
    // An effect that no verdict covers.
    let orphan = json!({ "match": "orphan", "verdict": null, "action_id": null });
    let say = Stage::outcome(1, approve, &orphan);
    stage.say(Kind::Outcome, &say, vec![]).await.unwrap();
}

/// What bounds the cost of an action must cost nothing itself, and holds for attempts as well.
#[tokio::test]
async fn an_action_has_an_end() {
    let mut stage = Stage::new().await;
    let intent = |nonce: u64| {
        let mut value = verdict(1, "refuse", &json!({ "nonce": format!("{nonce:032x}") }));
        let members = value.as_object_mut().unwrap();
        members.remove("mode");
        members.remove("outcome");
        value
    };
    let says: Vec<_> = (0..256).map(|n| (Kind::Intent, intent(n))).collect();
    let answer = stage.ledger.submit(stage.gate.batch(&says)).await.unwrap();
    assert!(answer.records.iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(stage.verdict(1, "refuse", json!({})).await, Err(Code::ActionFull));
    stage.verdict(2, "refuse", json!({})).await.unwrap();
}

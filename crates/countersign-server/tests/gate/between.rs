//! What comes between a decision and its answer: a kill switch, another policy, another key.

use std::sync::Arc;

use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_proto::v1;
use countersign_proto::v1::{scope, switch_request};
use countersign_server::gate::Gate;
use countersign_server::gate::host::Step;
use serde_json::Value;

use crate::policy::POLICIES;
use crate::stage::{Stage, action_id, activation, ask, heard, intent, until};
use crate::supervise::{approve, signed};
use crate::wire::Wire;

fn tenant() -> v1::Scope {
    v1::Scope { of: Some(scope::Of::Tenant(true)) }
}

/// Pulls the kill switch, and comes back as soon as it holds.
async fn halt(stage: &Stage, gate: &Arc<Gate>) -> tokio::task::JoinHandle<v1::SwitchResponse> {
    let responder = stage.client_ca.holder("acme", Role::Responder, "responder-1").identity();
    let change = Some(switch_request::Change::Halt(tenant()));
    let request = v1::SwitchRequest { change, reason: "a test".to_owned() };
    let switched = {
        let gate = Arc::clone(gate);
        tokio::spawn(async move { gate.core().switch(&responder, request).await.unwrap() })
    };
    until("the halt to hold", || !gate.core().status().unwrap().halts.is_empty()).await;
    switched
}

async fn resume(stage: &Stage, gate: &Gate) {
    let admin = stage.people_ca.holder("acme", Role::TenantAdmin, "admin-2").identity();
    let change = Some(switch_request::Change::Resume(tenant()));
    let request = v1::SwitchRequest { change, reason: String::new() };
    gate.core().switch(&admin, request).await.unwrap();
}

fn asking(gate: &Arc<Gate>, asked: &Value) -> tokio::task::JoinHandle<v1::EvaluateResponse> {
    let (gate, asked) = (Arc::clone(gate), asked.clone());
    tokio::spawn(async move { ask(&gate, &asked).await })
}

async fn stop(gate: Arc<Gate>) {
    Arc::into_inner(gate).unwrap().stop().await;
}

fn told(all: &[(String, String)]) -> Vec<(&str, &str)> {
    all.iter().map(|(outcome, code)| (outcome.as_str(), code.as_str())).collect()
}

// An approve that was halted between its receipt and its answer once kept its permit, for whoever
// asked again after the resume.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_approve_that_is_halted_on_its_way_is_void_at_every_step() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = 10_000).await;
    let gate = Arc::new(stage.ready().await);
    for step in Step::ALL {
        until("a quiet outbox", || gate.core().status().unwrap().outbox == 0).await;
        let asked = intent(&action_id(), "modify", "shop-dev");
        let mut held = stage.host.hold(step, 0);
        let answer = asking(&gate, &asked);
        held.reached().await;
        let halted = halt(&stage, &gate).await;
        held.release();
        let answer = answer.await.unwrap();
        assert_eq!(heard(&answer), ("refuse", "HALTED"), "{step:?}");
        halted.await.unwrap();
        resume(&stage, &gate).await;
        stage.settle(&gate).await;
        let verdicts = stage.verdicts(&answer.action_id).await;
        assert_eq!(told(&verdicts), [("approve", "A_AGENT"), ("refuse", "HALTED")], "{step:?}");
        let again = ask(&gate, &asked).await;
        assert_eq!(heard(&again), ("refuse", "HALTED"), "{step:?}");
        assert!(again.permit.is_none());
    }
    stop(gate).await;
    stage.end().await;
}

// What people released was once not looked at again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_release_that_is_halted_on_its_way_is_void() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = 10_000).await;
    let gate = Arc::new(stage.ready().await);
    let asked = intent(&action_id(), "delete", "shop");
    let answer = ask(&gate, &asked).await;
    assert_eq!(heard(&answer), ("supervise", "S_PROD"));
    let (oncall, owner) = (stage.approver("oncall-1"), stage.approver("owner-1"));
    let first = signed(&stage, &oncall, &answer.evidence, true, |_| {});
    approve(&gate, &oncall, &first).await.unwrap();
    let second = signed(&stage, &owner, &answer.evidence, true, |_| {});
    // The second approval passes, and the final verdict stands still.
    let mut held = stage.host.hold(Step::Answered, 1);
    let released = {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move { approve(&gate, &owner, &second).await.unwrap() })
    };
    held.reached().await;
    let halted = halt(&stage, &gate).await;
    held.release();
    let released = released.await.unwrap();
    assert_eq!(released.state, "refused");
    assert_eq!(released.verdict.unwrap().outcome, "refuse");
    halted.await.unwrap();
    resume(&stage, &gate).await;
    stage.settle(&gate).await;
    let verdicts = stage.verdicts(&answer.action_id).await;
    let expected = [("supervise", "S_PROD"), ("approve", "A_AGENT"), ("refuse", "HALTED")];
    assert_eq!(told(&verdicts), expected);
    let again = ask(&gate, &asked).await;
    assert_eq!(heard(&again), ("refuse", "HALTED"));
    assert!(again.permit.is_none());
    stop(gate).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_approve_that_another_policy_overtakes_is_void() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = 10_000).await;
    let gate = Arc::new(stage.ready().await);
    // While one record stands still, the policy and then an approve under the old one line up.
    let mut held = stage.host.hold(Step::Answered, 0);
    let first = asking(&gate, &intent(&action_id(), "delete", "cost-explorer"));
    held.reached().await;
    let admin = stage.people_ca.holder("acme", Role::PolicyAdmin, "admin-1");
    let policies = format!("{POLICIES}\n// another version\n");
    let request = activation(&admin, "2", &policies);
    let activated = {
        let gate = Arc::clone(&gate);
        let admin = admin.identity();
        tokio::spawn(async move { gate.core().activate_policy(&admin, request).await })
    };
    until("the policy to wait", || gate.core().status().unwrap().outbox == 2).await;
    let answer = asking(&gate, &intent(&action_id(), "modify", "shop-dev"));
    until("the approve to wait", || gate.core().status().unwrap().outbox == 3).await;
    held.release();
    first.await.unwrap();
    activated.await.unwrap().unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(heard(&answer), ("refuse", "POLICY_CHANGED"));
    assert!(answer.permit.is_none());
    stage.settle(&gate).await;
    let verdicts = stage.verdicts(&answer.action_id).await;
    assert_eq!(told(&verdicts), [("approve", "A_AGENT"), ("refuse", "POLICY_CHANGED")]);
    assert_eq!(ask(&gate, &intent(&action_id(), "modify", "shop-dev")).await.outcome, "approve");
    stop(gate).await;
    stage.end().await;
}

// What was placed under a former key was once sealed anew whatever had become of it: the ledger
// refused it as a repeat, and an approve that nobody heard stood in the log for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_under_a_former_key_is_voided_under_the_new_one() {
    let mut stage = Stage::with(|gate| gate.answer_timeout_ms = 400).await;
    for (wire, expected) in [
        // The ledger has it, and the gate can't know.
        (Wire::Deaf, vec![("approve", "A_AGENT"), ("refuse", "EVIDENCE_UNAVAILABLE")]),
        // The ledger never saw it.
        (Wire::Cut, vec![("refuse", "EVIDENCE_UNAVAILABLE")]),
    ] {
        let gate = stage.ready().await;
        stage.settle(&gate).await;
        stage.proxy.set(wire);
        let asked = intent(&action_id(), "modify", "shop-dev");
        let answer = ask(&gate, &asked).await;
        assert_eq!(heard(&answer), ("refuse", "EVIDENCE_UNAVAILABLE"), "{wire:?}");
        gate.stop().await;
        stage.rekey();
        stage.proxy.set(Wire::Whole);
        let gate = stage.gate().await;
        stage.settle(&gate).await;
        let verdicts = stage.verdicts(&answer.action_id).await;
        assert_eq!(told(&verdicts), expected, "{wire:?}");
        let again = ask(&gate, &asked).await;
        assert_eq!((again.outcome.as_str(), again.recorded), ("refuse", true), "{wire:?}");
        gate.stop().await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_stops_says_so() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let core = gate.core().clone();
    gate.stop().await;
    let asked = intent(&action_id(), "modify", "shop-dev").to_string();
    assert_eq!(core.evaluate("pep-1", &asked, "").await.unwrap_err().code, Code::GateStopping);
    let report = v1::ReportOutcomeRequest::default();
    let refusal = core.report_outcome("pep-1", report).await.unwrap_err();
    assert_eq!(refusal.code, Code::GateStopping);
    stage.end().await;
}

// One version of a policy once stood for two texts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_version_is_one_text_for_good() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let held = gate.core().status().unwrap().policy_digest;
    let other = format!("{POLICIES}\n// another text\n");
    stage.activate(&gate, "2", &other).await.unwrap();
    let gate = {
        gate.stop().await;
        stage.gate().await
    };
    let refusal = stage.activate(&gate, "1", &other).await.unwrap_err();
    assert_eq!(refusal.code, Code::PolicyVersionTaken);
    assert!(refusal.message.contains(&held), "{}", refusal.message);
    assert_eq!(gate.core().status().unwrap().policy_version, "2");
    // The text that it is may decide again.
    stage.activate(&gate, "1", POLICIES).await.unwrap();
    assert_eq!(gate.core().status().unwrap().policy_digest, held);
    gate.stop().await;
    stage.end().await;
}

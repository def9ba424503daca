//! Supervised actions: approved by people, denied, expired, judged by another policy in the end.

use std::sync::atomic::Ordering;

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, b64, from_hex_array, hex};
use countersign_core::hash::{Context, RecordRoot};
use countersign_core::verify::Verdict;
use countersign_gate::display;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_server::gate::Gate;
use ed25519_dalek::Signer as _;
use serde_json::json;

use crate::pki::Holder;
use crate::policy::stricter;
use crate::stage::{Stage, action_id, ask, heard, intent, until};

/// A person's answer to the supervise that this evidence holds, as JSON.
pub(crate) fn signed(
    stage: &Stage,
    person: &Holder,
    evidence: &str,
    grants: bool,
    change: impl FnOnce(&mut [u8; 32]),
) -> String {
    let facts = stage.verify(evidence).facts;
    let (view, root): (_, RecordRoot) = (facts.view.unwrap(), facts.root.unwrap());
    let digest: [u8; 32] = from_hex_array(view.str("action_digest").unwrap()).unwrap();
    let not_after = Micros(countersign_server::identity::now().0 + 600_000_000);
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let mut displayed = Context::Displayed.hash(&[display(&view, root).as_bytes()]);
    change(&mut displayed);
    let certificate = person.chain[0].digest();
    let mut message = b"countersign/v1 approval\n".to_vec();
    message.extend_from_slice(&root.0);
    message.extend_from_slice(&digest);
    message.push(u8::from(grants));
    message.extend_from_slice(&not_after.0.to_be_bytes());
    message.extend_from_slice(&nonce);
    message.extend_from_slice(&displayed);
    message.extend_from_slice(&certificate);
    message.extend_from_slice(&Context::Justification.hash(&[b"looked at it"]));
    json!({
        "action_id": view.str("action_id").unwrap(),
        "action_digest": hex(&digest),
        "verdict": root.hex(),
        "decision": if grants { "grant" } else { "deny" },
        "displayed_digest": hex(&displayed),
        "justification": "looked at it",
        "nonce": hex(&nonce),
        "not_after": not_after.format(),
        "signature": b64(&person.key.sign(&message).to_bytes()),
        "approver": { "id": person.identity().name(), "certificate": hex(&certificate) },
    })
    .to_string()
}

pub(crate) async fn approve(
    gate: &Gate,
    person: &Holder,
    approval: &str,
) -> Result<v1::ApproveResponse, Refusal> {
    gate.core().approve(&person.identity(), approval, &person.der()).await
}

async fn supervised(gate: &Gate) -> (serde_json::Value, v1::EvaluateResponse) {
    let asked = intent(&action_id(), "delete", "shop");
    let answer = ask(gate, &asked).await;
    assert_eq!(heard(&answer), ("supervise", "S_PROD"));
    assert_eq!(answer.requires.as_ref().unwrap().approvals, 2);
    assert!(answer.recorded && answer.permit.is_none());
    (asked, answer)
}

// APR-1 to APR-3, LIFE-7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_release_an_action_and_its_evidence_verifies_in_one_file() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let (asked, answer) = supervised(&gate).await;
    let (oncall, owner) = (stage.approver("oncall-1"), stage.approver("owner-1"));
    let first = signed(&stage, &oncall, &answer.evidence, true, |_| {});
    let response = approve(&gate, &oncall, &first).await.unwrap();
    assert_eq!((response.state.as_str(), response.approvals, response.needed), ("waiting", 1, 2));
    // The same answer again is the same answer, and the same person again none.
    let response = approve(&gate, &oncall, &first).await.unwrap();
    assert_eq!(response.approvals, 1);
    let again = signed(&stage, &oncall, &answer.evidence, true, |_| {});
    let refusal = approve(&gate, &oncall, &again).await.unwrap_err();
    assert_eq!(refusal.code, Code::ApprovalSamePerson);
    // With another key of theirs neither.
    let second_key = stage.approver("oncall-1");
    let again = signed(&stage, &second_key, &answer.evidence, true, |_| {});
    let refusal = approve(&gate, &second_key, &again).await.unwrap_err();
    assert_eq!(refusal.code, Code::ApprovalSamePerson);
    assert!(ask(&gate, &asked).await.permit.is_none());

    let second = signed(&stage, &owner, &answer.evidence, true, |_| {});
    let response = approve(&gate, &owner, &second).await.unwrap();
    assert_eq!(response.state, "approved");
    assert!(response.verdict.unwrap().permit.is_none(), "the permit is the enforcement point's");
    let released = ask(&gate, &asked).await;
    assert_eq!(released.outcome, "approve");
    assert!(released.permit.is_some());
    let report = stage.verify(&released.evidence);
    assert_eq!(report.result, Verdict::Valid, "{report:?}");
    assert_eq!(report.supporting.len(), 3, "the supervise and two approvals");
    let action = gate.core().get_action(&released.action_id).await.unwrap();
    assert_eq!((action.state.as_str(), action.files.len()), ("approved", 4));
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_do_not_count_are_refused_each_by_its_code() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let (_, answer) = supervised(&gate).await;
    let oncall = stage.approver("oncall-1");
    // Of another text than the person was to see (APR-1).
    let other = signed(&stage, &oncall, &answer.evidence, true, |digest| digest[0] ^= 1);
    assert_eq!(approve(&gate, &oncall, &other).await.unwrap_err().code, Code::ApprovalDisplay);
    // By the one whose agent asked (APR-2).
    let alice = stage.approver("alice");
    let own = signed(&stage, &alice, &answer.evidence, true, |_| {});
    assert_eq!(approve(&gate, &alice, &own).await.unwrap_err().code, Code::ApprovalNotEligible);
    // Forged: another signature over it.
    let sound = signed(&stage, &oncall, &answer.evidence, true, |_| {});
    let forged = sound.replace("\"grant\"", "\"deny\"");
    assert_eq!(approve(&gate, &oncall, &forged).await.unwrap_err().code, Code::PersonSignature);
    // Carried by somebody else.
    let owner = stage.approver("owner-1");
    let taken = gate.core().approve(&owner.identity(), &sound, &oncall.der()).await.unwrap_err();
    assert_eq!(taken.code, Code::PersonCertificate);
    // Nor is that different once it was taken, under whatever chain.
    approve(&gate, &oncall, &sound).await.unwrap();
    for chain in [oncall.der(), owner.der()] {
        let taken = gate.core().approve(&owner.identity(), &sound, &chain).await.unwrap_err();
        assert_eq!(taken.code, Code::PersonCertificate);
    }
    // For an action that waits for nobody.
    let done = ask(&gate, &intent(&action_id(), "modify", "shop-dev")).await;
    let late = sound.replace(&answer.action_id, &done.action_id);
    assert_eq!(approve(&gate, &oncall, &late).await.unwrap_err().code, Code::NotSupervised);
    assert_eq!(gate.core().status().unwrap().waiting, 1);
    assert_eq!(stage.life(&answer.action_id).await.len(), 2, "none but the sound one is on record");
    gate.stop().await;
    stage.end().await;
}

// APR-4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deny_and_the_end_of_the_time_refuse_by_their_own_codes() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let (asked, answer) = supervised(&gate).await;
    let owner = stage.approver("owner-1");
    let deny = signed(&stage, &owner, &answer.evidence, false, |_| {});
    assert_eq!(approve(&gate, &owner, &deny).await.unwrap().state, "denied");
    assert_eq!(heard(&ask(&gate, &asked).await), ("refuse", "SUPERVISION_DENIED"));

    let (asked, answer) = supervised(&gate).await;
    stage.host.ahead.store(125_000_000, Ordering::SeqCst);
    until("the supervision to expire", || gate.core().status().unwrap().waiting == 0).await;
    let expired = ask(&gate, &asked).await;
    assert_eq!(heard(&expired), ("refuse", "SUPERVISION_EXPIRED"));
    assert!(expired.recorded);
    let verdicts = stage.verdicts(&answer.action_id).await;
    assert_eq!(verdicts.len(), 2);
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_supervised_is_decided_by_the_policy_of_then() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let (asked, answer) = supervised(&gate).await;
    let (oncall, owner) = (stage.approver("oncall-1"), stage.approver("owner-1"));
    let first = signed(&stage, &oncall, &answer.evidence, true, |_| {});
    approve(&gate, &oncall, &first).await.unwrap();
    stage.activate(&gate, "2", &stricter()).await.unwrap();
    let second = signed(&stage, &owner, &answer.evidence, true, |_| {});
    assert_eq!(approve(&gate, &owner, &second).await.unwrap().state, "refused");
    let refused = ask(&gate, &asked).await;
    assert_eq!(heard(&refused), ("refuse", "R_PROD"));
    assert_eq!(stage.verify(&refused.evidence).result, Verdict::Valid);
    gate.stop().await;
    stage.end().await;
}

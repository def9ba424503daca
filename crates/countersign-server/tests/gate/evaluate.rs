//! Intents and their answers.

use std::sync::atomic::Ordering;

use countersign_core::codes::Code;
use countersign_core::kinds::Kind;
use countersign_core::verify::Verdict;
use serde_json::json;

use crate::stage::{Stage, action_id, ask, heard, intent};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approve_carries_verified_evidence_and_a_permit() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let id = action_id();
    let answer = ask(&gate, &intent(&id, "delete", "shop-dev")).await;
    assert_eq!(heard(&answer), ("approve", "A_AGENT"));
    assert!(answer.recorded);
    let report = stage.verify(&answer.evidence);
    assert_eq!(report.result, Verdict::Valid, "{report:?}");
    let view = report.facts.view.unwrap();
    let permit = answer.permit.unwrap();
    assert_eq!(permit.audience, "pep-1");
    assert_eq!(view.get("permit").unwrap()["id"], json!(permit.id));
    // The executor recomputes the digest with this nonce (DIG-1).
    assert_eq!(view.str("nonce"), Some(permit.nonce.as_str()));
    let digest = countersign_core::action::digest(&view).unwrap().unwrap();
    assert_eq!(answer.action_digest.as_ref(), digest);
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_own_reason_and_is_on_record() {
    let stage = Stage::new().await;
    let gate = stage.gate().await;
    let id = action_id();
    let answer = ask(&gate, &intent(&id, "read", "shop-dev")).await;
    assert_eq!(heard(&answer), ("refuse", "POLICY_MISSING"));
    assert!(answer.recorded && answer.permit.is_none());
    assert_eq!(stage.verify(&answer.evidence).result, Verdict::Valid);
    stage.activate(&gate, "1", crate::policy::POLICIES).await.unwrap();

    let mut stranger = intent(&action_id(), "read", "shop-dev");
    stranger["actor"]["id"] = json!("agent-8");
    let mut large = intent(&action_id(), "read", "shop-dev");
    large["parameters"]["text"] = json!("x".repeat(20_000));
    let mut odd = intent(&action_id(), "read", "shop-dev");
    odd["surplus"] = json!(1);
    let mut ungranted = intent(&action_id(), "read", "shop-dev");
    ungranted["task"]["grant"] = json!("nobodys");
    let billing = intent(&action_id(), "delete", "cost-explorer");
    for (asked, code) in [
        (stranger, "ENTITY_MISSING"),
        (intent(&action_id(), "read", "nowhere"), "ENTITY_MISSING"),
        (large, "INPUT_INVALID"),
        (odd, "INPUT_INVALID"),
        (ungranted, "GRANT_UNKNOWN"),
        (billing, "R_BILLING"),
    ] {
        let answer = ask(&gate, &asked).await;
        assert_eq!(heard(&answer), ("refuse", code), "{asked}");
        assert!(answer.recorded, "{code}");
        assert_eq!(stage.verify(&answer.evidence).result, Verdict::Valid, "{code}");
    }
    for text in ["", "[]", "{", "{\"a\":1,\"a\":2}"] {
        let refusal = gate.core().evaluate("pep-1", text, "").await.unwrap_err();
        assert_eq!(refusal.code, Code::RequestMalformed, "{text}");
    }
    // A directory that can't be read leaves none, and is taken again once it can.
    let path = &stage.config.gate.directory;
    std::fs::write(path, "{").unwrap();
    let answer = ask(&gate, &intent(&action_id(), "read", "shop-dev")).await;
    assert_eq!(heard(&answer), ("refuse", "DIRECTORY_MISSING"));
    std::fs::write(path, crate::policy::DIRECTORY).unwrap();
    let answer = ask(&gate, &intent(&action_id(), "read", "shop-dev")).await;
    assert_eq!(answer.outcome, "approve");
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_answered_with_the_one_verdict() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let id = action_id();
    let asked = intent(&id, "modify", "shop-dev");
    let (a, b, c) = tokio::join!(ask(&gate, &asked), ask(&gate, &asked), ask(&gate, &asked));
    for answer in [&b, &c, &ask(&gate, &asked).await] {
        assert_eq!(answer, &a);
    }
    assert_eq!(a.outcome, "approve");
    assert_eq!(stage.verdicts(&id).await.len(), 1);
    // Another intent, or another caller, is another's action.
    let other = ask(&gate, &intent(&id, "modify", "shop")).await;
    assert_eq!(heard(&other), ("refuse", "ACTION_REPEATED"));
    let other = gate.core().evaluate("pep-2", &asked.to_string(), "").await.unwrap();
    assert_eq!(heard(&other), ("refuse", "ACTION_REPEATED"));
    assert!(other.permit.is_none());
    // What is malformed is no repeat of what was not.
    let first = intent(&action_id(), "modify", "shop-dev");
    assert_eq!(ask(&gate, &first).await.outcome, "approve");
    for (name, value) in [("parameters", json!({ "name": 1.5 })), ("more", json!("x"))] {
        let mut other = first.clone();
        other[name] = value;
        let answer = ask(&gate, &other).await;
        assert_eq!(heard(&answer), ("refuse", "ACTION_REPEATED"), "{name}");
        assert!(answer.permit.is_none(), "{name}");
    }
    // After a restart the answer is the same, permit and all.
    gate.stop().await;
    let gate = stage.gate().await;
    assert_eq!(ask(&gate, &asked).await, a);
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stepped_back_refuses_until_it_has_caught_up() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    stage.host.ahead.store(60_000_000, Ordering::SeqCst);
    assert_eq!(ask(&gate, &intent(&action_id(), "read", "shop-dev")).await.outcome, "approve");
    stage.host.ahead.store(0, Ordering::SeqCst);
    let answer = ask(&gate, &intent(&action_id(), "read", "shop-dev")).await;
    assert_eq!(heard(&answer), ("refuse", "CLOCK_STEPPED_BACK"));
    assert!(answer.recorded);
    // A restart forgets nothing of it.
    gate.stop().await;
    let gate = stage.gate().await;
    let answer = ask(&gate, &intent(&action_id(), "read", "shop-dev")).await;
    assert_eq!(heard(&answer), ("refuse", "CLOCK_STEPPED_BACK"));
    stage.host.ahead.store(61_000_000, Ordering::SeqCst);
    assert_eq!(ask(&gate, &intent(&action_id(), "read", "shop-dev")).await.outcome, "approve");
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_on_record_before_it_is_judged_where_that_is_asked_for() {
    let stage = Stage::with(|gate| gate.intent_first = true).await;
    let gate = stage.ready().await;
    let id = action_id();
    assert_eq!(ask(&gate, &intent(&id, "read", "shop-dev")).await.outcome, "approve");
    let life = stage.life(&id).await;
    let kinds: Vec<Kind> =
        life.iter().map(|item| item.report.facts.view.as_ref().unwrap().kind()).collect();
    assert_eq!(kinds, [Kind::Intent, Kind::Verdict]);
    gate.stop().await;
    stage.end().await;
}

// INT-5. An approved id with another resource under it is how an approve would be swapped. The
// refusal was once on no record, and nobody was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_under_anothers_id_is_refused_on_record() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let id = action_id();
    let asked = intent(&id, "modify", "shop-dev");
    let approved = ask(&gate, &asked).await;
    assert_eq!(approved.outcome, "approve");
    let mut malformed = asked.clone();
    malformed["parameters"] = json!({ "name": 1.5 });
    let swapped = intent(&id, "delete", "cost-explorer");
    for (caller, attempt) in [("pep-1", &swapped), ("pep-2", &asked), ("pep-1", &malformed)] {
        let answer = gate.core().evaluate(caller, &attempt.to_string(), "").await.unwrap();
        assert_eq!(heard(&answer), ("refuse", "ACTION_REPEATED"));
        assert!(answer.recorded && answer.permit.is_none());
        // It is no record of the action that was approved, and names it.
        assert_ne!(answer.action_id, id);
        let report = stage.verify(&answer.evidence);
        assert_eq!(report.result, Verdict::Valid, "{report:?}");
        let view = report.facts.view.unwrap();
        assert_eq!(view.str("action_id"), Some(answer.action_id.as_str()));
        let said = view.get("reasons").unwrap()[0].clone();
        assert_eq!(said["code"], "ACTION_REPEATED");
        assert!(said["text"].as_str().unwrap().contains(&id), "{said}");
        // What was attempted, by whom, on what: as far as it could be read.
        assert_eq!(view.get("resource").unwrap()["id"], attempt["resource"]["id"]);
        assert_eq!(view.get("actor").unwrap()["id"], "agent-7");
        assert_eq!(view.str("action"), attempt["verb"].as_str());
        let digest = countersign_core::action::digest(&view).unwrap().unwrap();
        assert_eq!(answer.action_digest.as_ref(), digest);
        // Whoever watches hears of it, and whoever asks finds it.
        let signals = gate.core().signals_after(None, 100).unwrap();
        let signal = signals.iter().find(|signal| signal.action_id == answer.action_id).unwrap();
        assert_eq!(signal.codes, ["ACTION_REPEATED"]);
        let found = stage.verdicts(&answer.action_id).await;
        assert_eq!(found, [("refuse".to_owned(), "ACTION_REPEATED".to_owned())]);
    }
    assert_eq!(stage.verdicts(&id).await.len(), 1);
    assert_eq!(ask(&gate, &asked).await, approved);
    // Without the ledger it waits for it in the outbox, as every other refusal.
    stage.proxy.set(crate::wire::Wire::Cut);
    let attempt = intent(&id, "read", "shop");
    let answer = ask(&gate, &attempt).await;
    assert_eq!((heard(&answer), answer.recorded), (("refuse", "ACTION_REPEATED"), false));
    stage.settle(&gate).await;
    let found = stage.verdicts(&answer.action_id).await;
    assert_eq!(found, [("refuse".to_owned(), "ACTION_REPEATED".to_owned())]);
    gate.stop().await;
    stage.end().await;
}

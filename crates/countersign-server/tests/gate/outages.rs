//! The ledger away, deaf, or back again: fail closed, lose nothing.

use std::time::{Duration, Instant};

use countersign_core::kinds::Kind;
use serde_json::json;

use crate::stage::{Stage, action_id, ask, heard, intent, until};
use crate::wire::Wire;

const TIMEOUT_MS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ledger_nothing_is_approved_and_refusals_are_logged_later_in_order() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = TIMEOUT_MS).await;
    let gate = stage.ready().await;
    stage.proxy.set(Wire::Cut);
    let mut ids = Vec::new();
    for (class, resource, code) in [
        ("delete", "cost-explorer", "R_BILLING"),
        ("delete", "shop-dev", "EVIDENCE_UNAVAILABLE"),
        ("delete", "shop", "EVIDENCE_UNAVAILABLE"),
        ("read", "nowhere", "ENTITY_MISSING"),
    ] {
        let began = Instant::now();
        ids.push(action_id());
        let answer = ask(&gate, &intent(&ids[ids.len() - 1], class, resource)).await;
        assert_eq!(heard(&answer), ("refuse", code));
        assert!(!answer.recorded && answer.permit.is_none() && answer.evidence.is_empty());
        assert!(began.elapsed() < Duration::from_millis(TIMEOUT_MS * 5), "{:?}", began.elapsed());
    }
    // They outlive the process.
    gate.stop().await;
    let gate = stage.gate().await;
    ids.push(action_id());
    ask(&gate, &intent(&ids[4], "delete", "cost-explorer")).await;
    assert!(gate.core().status().unwrap().outbox >= 5);
    stage.settle(&gate).await;
    let records = stage.records().await;
    let verdicts = records.values().filter(|view| view.kind() == Kind::Verdict);
    let firsts: Vec<_> = verdicts
        .filter(|view| view.get("parent").unwrap().is_null())
        .map(|view| view.str("action_id").unwrap().to_owned())
        .collect();
    assert_eq!(firsts, ids, "each once, in order");
    for id in &ids {
        let verdicts = stage.verdicts(id).await;
        assert_eq!(verdicts.last().unwrap().0, "refuse", "{verdicts:?}");
    }
    gate.stop().await;
    stage.end().await;
}

// LIFE-8: what was approved and not heard is void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approve_whose_answer_was_lost_is_voided_in_the_log() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = TIMEOUT_MS).await;
    let gate = stage.ready().await;
    for (class, resource, first) in
        [("modify", "shop-dev", "approve"), ("delete", "shop", "supervise")]
    {
        stage.proxy.set(Wire::Deaf);
        let id = action_id();
        let asked = intent(&id, class, resource);
        let answer = ask(&gate, &asked).await;
        assert_eq!(heard(&answer), ("refuse", "EVIDENCE_UNAVAILABLE"));
        assert!(answer.permit.is_none());
        // It is in the log, and this gate can't know.
        let again = ask(&gate, &asked).await;
        assert_eq!(heard(&again), ("refuse", "EVIDENCE_UNAVAILABLE"));
        stage.settle(&gate).await;
        let verdicts = stage.verdicts(&id).await;
        let outcomes: Vec<&str> = verdicts.iter().map(|(outcome, _)| outcome.as_str()).collect();
        assert_eq!(outcomes, [first, "refuse"]);
        assert_eq!(verdicts[1].1, "EVIDENCE_UNAVAILABLE");
        let again = ask(&gate, &asked).await;
        assert_eq!(heard(&again), ("refuse", "EVIDENCE_UNAVAILABLE"));
        assert!(again.recorded && again.permit.is_none());
        let report = stage.verify(&again.evidence);
        assert_eq!(report.result, countersign_core::verify::Verdict::Valid, "{report:?}");
    }
    assert_eq!(gate.core().status().unwrap().waiting, 0);
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_refuses_and_says_so_when_there_is_room() {
    let stage = Stage::with(|gate| {
        gate.answer_timeout_ms = TIMEOUT_MS;
        gate.outbox_max = 3;
    })
    .await;
    let gate = stage.ready().await;
    stage.proxy.set(Wire::Cut);
    let mut codes = Vec::new();
    for _ in 0..5 {
        let answer = ask(&gate, &intent(&action_id(), "delete", "cost-explorer")).await;
        assert!(!answer.recorded);
        codes.push(heard(&answer).1.to_owned());
    }
    assert_eq!(codes[..3], ["R_BILLING", "R_BILLING", "R_BILLING"]);
    assert_eq!(codes[3..], ["OUTBOX_FULL", "OUTBOX_FULL"]);
    // A kill loses no count.
    gate.stop().await;
    stage.proxy.set(Wire::Whole);
    let gate = stage.gate().await;
    stage.settle(&gate).await;
    let mut told = None;
    for _ in 0..500 {
        let records = stage.records().await;
        let notice = records.values().find(|view| view.str("about") == Some("silence"));
        told = notice.map(|view| view.get("detail").unwrap().clone());
        if told.is_some() {
            break;
        }
    }
    assert_eq!(told.unwrap()["refused"], json!(2));
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_starts_without_its_ledger_and_signals_what_it_logs() {
    let stage = Stage::with(|gate| {
        gate.answer_timeout_ms = 100;
        gate.heartbeat_s = 1;
    })
    .await;
    stage.proxy.set(Wire::Cut);
    let gate = stage.gate().await;
    let mut newest = gate.core().signals_newest();
    let id = action_id();
    let answer = ask(&gate, &intent(&id, "read", "shop-dev")).await;
    assert_eq!(heard(&answer), ("refuse", "POLICY_MISSING"));
    stage.settle(&gate).await;
    newest.wait_for(Option::is_some).await.unwrap();
    let signals = gate.core().signals_after(None, 10).unwrap();
    assert_eq!(signals.len(), 1);
    assert_eq!(
        (signals[0].action_id.as_str(), signals[0].outcome.as_str()),
        (id.as_str(), "refuse")
    );
    assert_eq!(signals[0].codes, ["POLICY_MISSING"]);
    // Delivered is delivered, after a restart as well.
    gate.core().set_signals_delivered(signals[0].index).await.unwrap();
    gate.stop().await;
    let gate = stage.gate().await;
    assert!(gate.core().signals_after(None, 10).unwrap().is_empty());
    assert_eq!(gate.core().signals_delivered().unwrap(), Some(signals[0].index));
    // A quiet gate says that it lives.
    until("the outbox to be empty", || gate.core().status().unwrap().outbox == 0).await;
    let mut beats = false;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !beats && Instant::now() < deadline {
        let records = stage.records().await;
        beats = records.values().any(|view| view.str("about") == Some("heartbeat"));
    }
    assert!(beats);
    gate.stop().await;
    stage.end().await;
}

// A record that the ledger does not take at this moment is not lost: it waits for the clocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_from_a_clock_that_is_far_ahead_is_logged_when_the_clocks_agree() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = TIMEOUT_MS).await;
    let gate = stage.ready().await;
    stage.host.ahead.store(302_000_000, std::sync::atomic::Ordering::SeqCst);
    let id = action_id();
    let asked = intent(&id, "delete", "cost-explorer");
    let answer = ask(&gate, &asked).await;
    assert_eq!((heard(&answer), answer.recorded), (("refuse", "R_BILLING"), false));
    stage.settle(&gate).await;
    assert_eq!(stage.verdicts(&id).await, [("refuse".to_owned(), "R_BILLING".to_owned())]);
    gate.stop().await;
    stage.end().await;
}

/// A gate that had just begun answered that the ledger gives no evidence, before it had asked it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_the_ledger_waits_until_it_is_connected() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = 30_000).await;
    let gate = stage.ready().await;
    let id = action_id();
    ask(&gate, &intent(&id, "delete", "cost-explorer")).await;
    gate.stop().await;
    stage.proxy.set(Wire::Cut);
    let gate = stage.gate().await;
    let (core, asked) = (gate.core().clone(), id.clone());
    let life = tokio::spawn(async move { core.get_action(&asked).await });
    tokio::task::yield_now().await;
    stage.proxy.set(Wire::Whole);
    let life = life.await.unwrap().unwrap();
    assert_eq!(life.files.len(), 1, "its verdict");
    gate.stop().await;
    stage.end().await;
}

// A ledger that is stopped takes every record and answers none. The gate said for half a minute, as
// long as its call went on, that the ledger answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_hangs_is_told_of_when_the_first_answer_is_overdue() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = TIMEOUT_MS).await;
    let gate = stage.ready().await;
    assert!(gate.core().status().unwrap().ledger_reachable);
    stage.proxy.set(Wire::Deaf);
    let began = Instant::now();
    let answer = ask(&gate, &intent(&action_id(), "read", "shop-dev")).await;
    assert_eq!(heard(&answer), ("refuse", "EVIDENCE_UNAVAILABLE"));
    until("the gate to say so", || !gate.core().status().unwrap().ledger_reachable).await;
    assert!(began.elapsed() < Duration::from_millis(TIMEOUT_MS * 10), "{:?}", began.elapsed());
    stage.settle(&gate).await;
    until("it to answer", || gate.core().status().unwrap().ledger_reachable).await;
    gate.stop().await;
    stage.end().await;
}

//! Emergencies: opened by people, ended by the clock, by people, or by the next one.

use std::sync::atomic::Ordering;

use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_proto::v1;
use countersign_proto::v1::switch_request;
use countersign_server::gate::Gate;
use serde_json::{Value, json};

use crate::stage::{Stage, action_id, ask, heard, intent, until};
use crate::supervise::{approve, signed};

/// Opens one with two approvals, and gives the action's id.
async fn open(stage: &Stage, gate: &Gate) -> String {
    let mut asked = intent(&action_id(), "permissions", "shop");
    asked["verb"] = json!("gate:emergency");
    asked["parameters"] = json!({ "minutes": 3 });
    asked["destructive"] = json!(true);
    let answer = ask(gate, &asked).await;
    assert_eq!(heard(&answer), ("supervise", "S_PROD"));
    for name in ["oncall-1", "owner-1"] {
        let person = stage.approver(name);
        let answered = signed(stage, &person, &answer.evidence, true, |_| {});
        approve(gate, &person, &answered).await.unwrap();
    }
    answer.action_id
}

/// The notices of emergencies in the log, once there are so many: event and verdict.
async fn events(stage: &Stage, count: usize) -> Vec<(Value, Value)> {
    let mut events = Vec::new();
    for _ in 0..500 {
        let records = stage.records().await;
        let notices = records.values().filter(|v| v.str("about") == Some("break_glass"));
        let detail = notices.map(|v| v.get("detail").unwrap());
        events = detail.map(|d| (d["event"].clone(), d["verdict"].clone())).collect();
        if events.len() >= count {
            break;
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_is_opened_by_people_and_ends_by_the_clock() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    // What a policy lets one party have alone opens none.
    let mut asked = intent(&action_id(), "permissions", "shop-dev");
    asked["verb"] = json!("gate:emergency");
    asked["parameters"] = json!({ "minutes": 3 });
    assert_eq!(ask(&gate, &asked).await.outcome, "approve");
    assert!(gate.core().status().unwrap().emergency_until.is_empty());
    open(&stage, &gate).await;
    assert!(!gate.core().status().unwrap().emergency_until.is_empty());
    stage.host.ahead.store(185_000_000, Ordering::SeqCst);
    until("the emergency to end", || gate.core().status().unwrap().emergency_until.is_empty())
        .await;
    let events = events(&stage, 2).await;
    let events: Vec<_> = events.iter().map(|(event, _)| event).collect();
    assert_eq!(events, [&json!("opened"), &json!("closed")]);
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_can_be_ended_early_and_the_next_one_closes_the_last() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let responder = stage.client_ca.holder("acme", Role::Responder, "responder-1").identity();
    let end = || v1::SwitchRequest {
        change: Some(switch_request::Change::EndEmergency(true)),
        reason: "it is over".to_owned(),
    };
    let refusal = gate.core().switch(&responder, end()).await.unwrap_err();
    assert_eq!(refusal.code, Code::NotFound);
    open(&stage, &gate).await;
    open(&stage, &gate).await;
    let response = gate.core().switch(&responder, end()).await.unwrap();
    let view = stage.verify(&response.evidence).facts.view.unwrap();
    let detail = view.get("detail").unwrap();
    assert_eq!((&detail["event"], &detail["by"]["id"]), (&json!("closed"), &json!("responder-1")));
    assert!(gate.core().status().unwrap().emergency_until.is_empty());
    stage.settle(&gate).await;
    let events = events(&stage, 4).await;
    let [first, second] = [&events[0].1, &events[3].1];
    let expected = [
        (json!("opened"), first.clone()),
        (json!("closed"), first.clone()),
        (json!("opened"), second.clone()),
        (json!("closed"), second.clone()),
    ];
    assert_eq!(events, expected);
    assert_ne!(first, second);
    // It does not come back with a restart.
    gate.stop().await;
    let gate = stage.gate().await;
    assert!(gate.core().status().unwrap().emergency_until.is_empty());
    gate.stop().await;
    stage.end().await;
}

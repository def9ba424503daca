//! Grants and their limits, halts, shadow mode.

use std::sync::Arc;

use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_proto::v1;
use countersign_proto::v1::{scope, switch_request};
use serde_json::{Value, json};

use crate::stage::{Stage, action_id, ask, grant, heard, intent};

fn terms(session: &str, actions: u64, seconds: u64) -> Value {
    let now = countersign_server::identity::now().0;
    let scope =
        |all: &[&str]| json!({ "actions": all, "resources": all, "targets": [], "amounts": [] });
    json!({
        "grantee": "agent-7", "allowed": scope(&["*"]), "forbidden": scope(&[]),
        "ticket": null, "session": session,
        "not_before": Micros(now - 1_000_000).format(),
        "expires_at": Micros(now + seconds * 1_000_000).format(),
        "limits": { "actions": actions, "count": null, "amount": null },
    })
}

fn under(grant: &str, session: &str) -> Value {
    let mut intent = intent(&action_id(), "modify", "shop-dev");
    intent["task"]["grant"] = json!(grant);
    intent["actor"]["session"] = json!(session);
    intent
}

// GRT-4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_actions_at_once_under_a_limit_of_one_one_is_approved() {
    let stage = Stage::new().await;
    let gate = Arc::new(stage.ready().await);
    let admin = stage.people_ca.holder("acme", Role::TenantAdmin, "admin-2");
    let request = grant(&admin, "g-1", &terms("s-g1", 1, 3_600));
    gate.core().issue_grant(&admin.identity(), request.clone()).await.unwrap();
    let asked = (0..16).map(|_| {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move { ask(&gate, &under("g-1", "s-g1")).await })
    });
    let mut approved = 0;
    for answer in asked.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        match heard(&answer) {
            ("approve", _) => approved += 1,
            other => assert_eq!(other, ("refuse", "GRANT_LIMIT")),
        }
    }
    assert_eq!(approved, 1);
    // The same grant again is harmless; another of its name, or one that comes late, is not taken.
    gate.core().issue_grant(&admin.identity(), request).await.unwrap();
    let other = grant(&admin, "g-1", &terms("s-new", 9, 3_600));
    let refusal = gate.core().issue_grant(&admin.identity(), other).await.unwrap_err();
    assert_eq!(refusal.code, Code::GrantExists);
    let late = grant(&admin, "g-2", &terms("s-g1", 9, 3_600));
    let refusal = gate.core().issue_grant(&admin.identity(), late).await.unwrap_err();
    assert_eq!(refusal.code, Code::GrantLate);
    // What was used is remembered.
    Arc::into_inner(gate).unwrap().stop().await;
    let gate = stage.gate().await;
    assert_eq!(heard(&ask(&gate, &under("g-1", "s-g1")).await), ("refuse", "GRANT_LIMIT"));
    gate.stop().await;
    stage.end().await;
}

// GRT-3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_grant_is_refused_by_its_own_code() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let admin = stage.people_ca.holder("acme", Role::PolicyAdmin, "admin-1");
    let request = grant(&admin, "g-1", &terms("s-g1", 9, 60));
    gate.core().issue_grant(&admin.identity(), request).await.unwrap();
    assert_eq!(ask(&gate, &under("g-1", "s-g1")).await.outcome, "approve");
    assert_eq!(heard(&ask(&gate, &under("g-1", "s-g2")).await), ("refuse", "GRANT_OTHER_SESSION"));
    stage.host.ahead.store(61_000_000, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(heard(&ask(&gate, &under("g-1", "s-g1")).await), ("refuse", "GRANT_EXPIRED"));
    gate.stop().await;
    stage.end().await;
}

// A halt of a name that nobody bears was once answered as if it had met somebody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_of_somebody_unknown_holds_and_says_so() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let responder = stage.client_ca.holder("acme", Role::Responder, "responder-1").identity();
    for known in ["agent-7", "alice"] {
        let request = halt(scope::Of::Actor(known.to_owned()));
        assert_eq!(gate.core().switch(&responder, request).await.unwrap().note, "", "{known}");
    }
    let request = halt(scope::Of::Actor("agent-77".to_owned()));
    let response = gate.core().switch(&responder, request).await.unwrap();
    let note = "no such actor is known to the directory; the halt holds all the same";
    assert_eq!((response.note.as_str(), response.evidence.is_empty()), (note, false));
    let mut stranger = intent(&action_id(), "read", "shop-dev");
    stranger["actor"]["id"] = json!("agent-77");
    assert_eq!(heard(&ask(&gate, &stranger).await), ("refuse", "HALTED"));
    std::fs::write(&stage.config.gate.directory, "{").unwrap();
    let request = halt(scope::Of::Actor("agent-7".to_owned()));
    let response = gate.core().switch(&responder, request).await.unwrap();
    assert!(response.note.starts_with("the directory can't be read"), "{}", response.note);
    gate.stop().await;
    stage.end().await;
}

fn halt(of: scope::Of) -> v1::SwitchRequest {
    let change = Some(switch_request::Change::Halt(v1::Scope { of: Some(of) }));
    v1::SwitchRequest { change, reason: "a test".to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_turns_every_answer_into_refuse_at_once_and_outlives_a_restart() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let approved = intent(&action_id(), "modify", "shop-dev");
    assert!(ask(&gate, &approved).await.permit.is_some());
    let responder = stage.client_ca.holder("acme", Role::Responder, "responder-1").identity();
    // With the ledger away it holds all the same.
    stage.proxy.set(crate::wire::Wire::Cut);
    let of = scope::Of::Actor("agent-7".to_owned());
    let response = gate.core().switch(&responder, halt(of.clone())).await.unwrap();
    assert!(response.evidence.is_empty());
    let asked = intent(&action_id(), "read", "shop-dev");
    assert_eq!(heard(&ask(&gate, &asked).await), ("refuse", "HALTED"));
    // A permit that is out is not given again.
    let again = ask(&gate, &approved).await;
    assert_eq!(heard(&again), ("refuse", "HALTED"));
    assert!(again.permit.is_none() && !again.recorded);
    gate.stop().await;
    stage.proxy.set(crate::wire::Wire::Whole);
    let gate = stage.gate().await;
    // That it was asked for again, and refused, is on record beside what it is (INT-5).
    stage.settle(&gate).await;
    let refused = ("refuse".to_owned(), "HALTED".to_owned());
    assert_eq!(stage.verdicts(&again.action_id).await, [refused]);
    let id = approved["action_id"].as_str().unwrap();
    assert_eq!(stage.verdicts(id).await.len(), 1);
    let status = gate.core().status().unwrap();
    assert_eq!(status.halts, [v1::Scope { of: Some(of.clone()) }]);
    let asked = intent(&action_id(), "read", "shop-dev");
    assert_eq!(heard(&ask(&gate, &asked).await), ("refuse", "HALTED"));
    let admin = stage.people_ca.holder("acme", Role::TenantAdmin, "admin-2").identity();
    let change = Some(switch_request::Change::Resume(v1::Scope { of: Some(of) }));
    let resume = v1::SwitchRequest { change, reason: String::new() };
    assert!(!gate.core().switch(&admin, resume).await.unwrap().evidence.is_empty());
    assert_eq!(ask(&gate, &intent(&action_id(), "read", "shop-dev")).await.outcome, "approve");
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_mode_seals_the_same_verdicts_without_permits() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let admin = stage.people_ca.holder("acme", Role::TenantAdmin, "admin-2").identity();
    let change = Some(switch_request::Change::Mode("shadow".to_owned()));
    let request = v1::SwitchRequest { change, reason: String::new() };
    assert!(!gate.core().switch(&admin, request).await.unwrap().evidence.is_empty());
    for (class, resource, outcome) in
        [("delete", "shop-dev", "approve"), ("delete", "shop", "supervise")]
    {
        let answer = ask(&gate, &intent(&action_id(), class, resource)).await;
        assert_eq!((answer.outcome.as_str(), answer.mode.as_str()), (outcome, "shadow"));
        assert!(answer.recorded && answer.permit.is_none());
    }
    // Nobody is asked for anything.
    assert_eq!(gate.core().status().unwrap().waiting, 0);
    // What was let pass for a look is no answer of a gate that enforces.
    let looked_at = intent(&action_id(), "delete", "shop");
    assert_eq!(ask(&gate, &looked_at).await.mode, "shadow");
    let to = |mode: &str| v1::SwitchRequest {
        change: Some(switch_request::Change::Mode(mode.to_owned())),
        reason: String::new(),
    };
    gate.core().switch(&admin, to("enforce")).await.unwrap();
    let again = ask(&gate, &looked_at).await;
    assert_eq!((heard(&again), again.mode.as_str()), (("refuse", "ACTION_REPEATED"), "enforce"));
    gate.core().switch(&admin, to("shadow")).await.unwrap();
    // A kill switch holds in shadow mode as well, whatever is asked, and however badly.
    gate.core().switch(&admin, halt(scope::Of::Tenant(true))).await.unwrap();
    let mut malformed = intent(&action_id(), "delete", "shop");
    malformed["parameters"] = json!({ "weight": 1.5 });
    for asked in [&looked_at, &malformed] {
        assert_eq!(heard(&ask(&gate, asked).await), ("refuse", "HALTED"));
    }
    gate.stop().await;
    let gate = stage.gate().await;
    assert_eq!(gate.core().status().unwrap().mode, "shadow");
    gate.stop().await;
    stage.end().await;
}

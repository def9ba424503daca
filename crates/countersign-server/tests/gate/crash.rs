//! The gate ends at every step of a record's way to the log: exactly one final verdict is there
//! afterwards, and no permit of an approve that nobody heard (LIFE-1, LIFE-8, LIFE-11).

use countersign_server::gate::host::Step;

use crate::stage::{Stage, action_id, ask, heard, intent, until};
use crate::supervise::{approve, signed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_ends_at_any_step_leaves_one_verdict_that_stands() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = 1_000).await;
    let mut gate = stage.ready().await;
    for step in Step::ALL {
        for (class, resource) in
            [("modify", "shop-dev"), ("delete", "cost-explorer"), ("delete", "shop")]
        {
            until("a quiet outbox", || gate.core().status().unwrap().outbox == 0).await;
            let asked = intent(&action_id(), class, resource);
            *stage.host.kill_at.lock().unwrap() = Some((step, 0));
            let answer = ask(&gate, &asked).await;
            assert_eq!(answer.outcome, "refuse", "{step:?} {class}");
            assert!(answer.permit.is_none());
            gate.stop().await;
            *stage.host.kill_at.lock().unwrap() = None;
            gate = stage.gate().await;
            stage.settle(&gate).await;
            let verdicts = stage.verdicts(&answer.action_id).await;
            let outcomes: Vec<&str> = verdicts.iter().map(|(each, _)| each.as_str()).collect();
            let first = match (class, resource) {
                ("modify", _) => "approve",
                (_, "shop") => "supervise",
                _ => "refuse",
            };
            // What was never sent is refused in its place; what was sent is void; what was kept
            // stands, for its caller to ask for again.
            let expected = match (step, first) {
                (Step::Enqueued, _) | (_, "refuse") => vec!["refuse"],
                (Step::Placed | Step::Answered, first) => vec![first, "refuse"],
                (Step::Closed, first) => vec![first],
            };
            assert_eq!(outcomes, expected, "{step:?} {class} {resource}");
            let again = ask(&gate, &asked).await;
            assert_eq!(again.outcome, *expected.last().unwrap(), "{step:?} {class}");
            assert!(again.recorded);
            assert_eq!(again.permit.is_some(), again.outcome == "approve");
        }
    }
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_ends_at_any_step_of_a_release_leaves_one_final_verdict() {
    let stage = Stage::with(|gate| gate.answer_timeout_ms = 1_000).await;
    let mut gate = stage.ready().await;
    let (oncall, owner) = (stage.approver("oncall-1"), stage.approver("owner-1"));
    for step in Step::ALL {
        // Round 0 gets the second approval into the log, round 1 the final verdict.
        for more in 0..2 {
            until("a quiet outbox", || gate.core().status().unwrap().outbox == 0).await;
            let wanted = intent(&action_id(), "delete", "shop");
            let answer = ask(&gate, &wanted).await;
            assert_eq!(heard(&answer), ("supervise", "S_PROD"));
            let first = signed(&stage, &oncall, &answer.evidence, true, |_| {});
            approve(&gate, &oncall, &first).await.unwrap();
            let second = signed(&stage, &owner, &answer.evidence, true, |_| {});
            *stage.host.kill_at.lock().unwrap() = Some((step, more));
            let _ = approve(&gate, &owner, &second).await;
            gate.stop().await;
            *stage.host.kill_at.lock().unwrap() = None;
            gate = stage.gate().await;
            stage.settle(&gate).await;
            // Whoever was not heard says it again; whoever was, is told what came of it.
            let reached = approve(&gate, &owner, &second).await.unwrap().state;
            assert!(reached == "approved" || reached == "waiting", "{step:?} {more} {reached}");
            until("the release", || gate.core().status().unwrap().waiting == 0).await;
            let released = ask(&gate, &wanted).await;
            assert_eq!(released.outcome, "approve", "{step:?} {more}");
            assert!(released.permit.is_some());
            let verdicts = stage.verdicts(&answer.action_id).await;
            let outcomes: Vec<&str> = verdicts.iter().map(|(each, _)| each.as_str()).collect();
            assert_eq!(outcomes, ["supervise", "approve"], "{step:?} {more}");
        }
    }
    gate.stop().await;
    stage.end().await;
}

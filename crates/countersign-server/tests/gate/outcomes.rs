//! What became of actions.

use countersign_core::codes::Code;
use countersign_core::encoding::hex;
use countersign_core::kinds::Kind;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_server::gate::Gate;

use crate::stage::{Stage, action_id, ask, intent};

fn report(answer: &v1::EvaluateResponse, effect: &str) -> v1::ReportOutcomeRequest {
    v1::ReportOutcomeRequest {
        action_id: answer.action_id.clone(),
        permit: answer.permit.as_ref().map(|permit| permit.id.clone()).unwrap_or_default(),
        result: "executed".to_owned(),
        effect_digest: effect.to_owned(),
        attested_by: "executor".to_owned(),
        observed_at: countersign_server::identity::now().format(),
        detail: String::new(),
    }
}

async fn tell(
    gate: &Gate,
    request: v1::ReportOutcomeRequest,
) -> Result<v1::ReportOutcomeResponse, Refusal> {
    gate.core().report_outcome(request).await
}

// LIFE-9, LIFE-13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_is_used_once_and_a_second_effect_is_an_orphan() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let asked = intent(&action_id(), "modify", "shop-dev");
    let answer = ask(&gate, &asked).await;
    let done = report(&answer, &hex(&answer.action_digest));
    let first = tell(&gate, done.clone()).await.unwrap();
    assert_eq!(first.r#match, "match");
    // A repeat is harmless.
    assert_eq!(tell(&gate, done).await.unwrap(), first);
    assert_eq!(gate.core().get_action(&answer.action_id).await.unwrap().state, "executed");
    assert!(ask(&gate, &asked).await.permit.is_none(), "a used permit is not given again");
    let other = report(&answer, &hex(&[7; 32]));
    for _ in 0..2 {
        assert_eq!(tell(&gate, other.clone()).await.unwrap_err().code, Code::PermitReplayed);
    }
    let life = stage.life(&answer.action_id).await;
    let views = life.iter().filter_map(|item| item.report.facts.view.as_ref());
    let outcomes: Vec<_> =
        views.filter(|v| v.kind() == Kind::Outcome).map(|v| v.str("match").unwrap()).collect();
    assert_eq!(outcomes, ["match", "orphan"], "the replay is on record, once");
    assert_eq!(gate.core().get_action(&answer.action_id).await.unwrap().state, "diverged");
    gate.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_matched_by_what_was_done() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    // Not what was approved.
    let answer = ask(&gate, &intent(&action_id(), "modify", "shop-dev")).await;
    let told = tell(&gate, report(&answer, &hex(&[7; 32]))).await.unwrap();
    assert_eq!(told.r#match, "mismatch");
    assert_eq!(gate.core().get_action(&answer.action_id).await.unwrap().state, "diverged");
    // Not known at first, and then known.
    let answer = ask(&gate, &intent(&action_id(), "modify", "shop-dev")).await;
    let mut unknown = report(&answer, "");
    unknown.result = "unknown".to_owned();
    assert_eq!(tell(&gate, unknown).await.unwrap().r#match, "indeterminate");
    let known = report(&answer, &hex(&answer.action_digest));
    assert_eq!(tell(&gate, known).await.unwrap().r#match, "match");
    assert_eq!(gate.core().get_action(&answer.action_id).await.unwrap().state, "executed");
    // Of a permit that is not this action's, of an action that is nobody's, of none at all.
    let mut foreign = report(&answer, "");
    foreign.permit = "another".to_owned();
    assert_eq!(tell(&gate, foreign).await.unwrap_err().code, Code::PermitUnknown);
    let mut nobodys = report(&answer, "");
    nobodys.action_id = action_id();
    assert_eq!(tell(&gate, nobodys).await.unwrap_err().code, Code::NotFound);
    let refused = ask(&gate, &intent(&action_id(), "delete", "cost-explorer")).await;
    assert_eq!(tell(&gate, report(&refused, "")).await.unwrap().r#match, "orphan");
    let mut none = report(&refused, "");
    none.action_id = String::new();
    assert_eq!(tell(&gate, none).await.unwrap().r#match, "orphan");
    gate.stop().await;
    stage.end().await;
}

//! What became of actions.

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, hex};
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
    gate.core().report_outcome("pep-1", request).await
}

/// The outcomes of an action in the log: match, codes, reporter.
async fn logged(stage: &Stage, id: &str) -> Vec<(String, Vec<String>, String)> {
    let life = stage.life(id).await;
    let views = life.iter().filter_map(|item| item.report.facts.view.as_ref());
    let outcomes = views.filter(|view| view.kind() == Kind::Outcome);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let told = outcomes.map(|view| {
        let detail = view.get("detail").unwrap();
        let codes = detail["codes"].as_array().unwrap().iter().map(text).collect();
        (view.str("match").unwrap().to_owned(), codes, text(&detail["reporter"]))
    });
    told.collect()
}

fn at(seconds: u64) -> String {
    Micros(countersign_server::identity::now().0 + seconds * 1_000_000).format()
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

// A second effect of the same digest was once answered as if it were the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_effect_done_twice_is_no_repeat() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let answer = ask(&gate, &intent(&action_id(), "delete", "shop-dev")).await;
    let mut done = report(&answer, &hex(&answer.action_digest));
    done.detail = "{\"run\":1}".to_owned();
    let first = tell(&gate, done.clone()).await.unwrap();
    assert_eq!((first.r#match.as_str(), first.codes.len()), ("match", 0));
    // A caller that tries again reads the clock anew.
    done.observed_at = at(1);
    assert_eq!(tell(&gate, done.clone()).await.unwrap(), first);
    done.detail = "{\"run\":2}".to_owned();
    for _ in 0..2 {
        assert_eq!(tell(&gate, done.clone()).await.unwrap_err().code, Code::PermitReplayed);
    }
    // That nothing was done can't be said any more.
    done.result = "not_executed".to_owned();
    assert_eq!(tell(&gate, done).await.unwrap_err().code, Code::PermitUsed);
    let second = ("orphan".to_owned(), vec!["SECOND_EFFECT".to_owned()], "pep-1".to_owned());
    let first = ("match".to_owned(), Vec::new(), "pep-1".to_owned());
    assert_eq!(logged(&stage, &answer.action_id).await, [first, second]);
    assert_eq!(gate.core().get_action(&answer.action_id).await.unwrap().state, "diverged");
    gate.stop().await;
    stage.end().await;
}

// LIFE-9: what tells more of the one effect supersedes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_of_the_same_effect_supersedes() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let answer = ask(&gate, &intent(&action_id(), "delete", "shop-dev")).await;
    for (result, side) in [
        ("failed", "executor"),
        ("executed", "executor"),
        ("executed", "system_of_record"),
        ("reverted", "executor"),
    ] {
        let mut told = report(&answer, &hex(&answer.action_digest));
        (told.result, told.attested_by) = (result.to_owned(), side.to_owned());
        assert_eq!(tell(&gate, told).await.unwrap().r#match, "match", "{result} {side}");
    }
    let life = stage.life(&answer.action_id).await;
    let views = life.iter().filter_map(|item| item.report.facts.view.as_ref());
    let superseding = views.filter(|view| view.str("supersedes").is_some()).count();
    assert_eq!((life.len(), superseding), (5, 3));
    gate.stop().await;
    stage.end().await;
}

// An effect after the permit's end was once answered "match" and nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_late_or_by_another_is_said() {
    let stage = Stage::new().await;
    let gate = stage.ready().await;
    let answer = ask(&gate, &intent(&action_id(), "delete", "shop-dev")).await;
    let mut late = report(&answer, &hex(&answer.action_digest));
    late.observed_at = at(301);
    let told = tell(&gate, late.clone()).await.unwrap();
    assert_eq!((told.r#match.as_str(), told.codes.as_slice()), ("match", &["LATE".to_owned()][..]));
    assert_eq!(tell(&gate, late).await.unwrap(), told);
    assert_eq!(gate.core().get_action(&answer.action_id).await.unwrap().state, "diverged");

    let answer = ask(&gate, &intent(&action_id(), "delete", "shop-dev")).await;
    let done = report(&answer, &hex(&answer.action_digest));
    let told = gate.core().report_outcome("pep-2", done).await.unwrap();
    assert_eq!(told.codes, ["OTHER_REPORTER"]);
    let other = ("match".to_owned(), vec!["OTHER_REPORTER".to_owned()], "pep-2".to_owned());
    assert_eq!(logged(&stage, &answer.action_id).await, [other]);
    gate.stop().await;
    stage.end().await;
}

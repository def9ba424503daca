//! How many permits may be out.

use countersign_core::encoding::hex;
use countersign_proto::v1;

use crate::stage::{Stage, action_id, ask, heard, intent};
use crate::supervise::{approve, signed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_permit_is_given_that_could_not_be_remembered() {
    let stage = Stage::with(|gate| gate.permits_max = 2).await;
    let gate = stage.ready().await;
    let first = ask(&gate, &intent(&action_id(), "modify", "shop-dev")).await;
    assert_eq!(ask(&gate, &intent(&action_id(), "modify", "shop-dev")).await.outcome, "approve");
    let one_more = intent(&action_id(), "modify", "shop-dev");
    let refused = ask(&gate, &one_more).await;
    assert_eq!(heard(&refused), ("refuse", "PERMITS_FULL"));
    assert!(refused.recorded && refused.permit.is_none());
    let verdicts = stage.verdicts(&refused.action_id).await;
    assert_eq!(verdicts, [("refuse".to_owned(), "PERMITS_FULL".to_owned())]);
    // What needs no permit goes on, and people release nothing that can't be remembered either.
    assert_eq!(
        heard(&ask(&gate, &intent(&action_id(), "delete", "cost-explorer")).await).0,
        "refuse"
    );
    let wanted = intent(&action_id(), "delete", "shop");
    let asked = ask(&gate, &wanted).await;
    assert_eq!(heard(&asked), ("supervise", "S_PROD"));
    let mut answers = Vec::new();
    for name in ["oncall-1", "owner-1"] {
        let person = stage.approver(name);
        let answer = signed(&stage, &person, &asked.evidence, true, |_| {});
        assert_eq!(approve(&gate, &person, &answer).await.unwrap().state, "waiting");
        answers.push((person, answer));
    }
    // An outcome makes room.
    let done = v1::ReportOutcomeRequest {
        action_id: first.action_id.clone(),
        permit: first.permit.unwrap().id,
        result: "executed".to_owned(),
        effect_digest: hex(&first.action_digest),
        attested_by: "executor".to_owned(),
        observed_at: countersign_server::identity::now().format(),
        detail: String::new(),
    };
    gate.core().report_outcome("pep-1", done).await.unwrap();
    let (person, answer) = &answers[1];
    assert_eq!(approve(&gate, person, answer).await.unwrap().state, "approved");
    assert!(ask(&gate, &wanted).await.permit.is_some());
    gate.stop().await;
    stage.end().await;
}

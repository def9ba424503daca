//! A gate gets its records into the log exactly once, whatever happens on the way.

use crate::ledger::Ledger;
use crate::stage::{batch, code, drafts, gate, identity, retry};
use countersign_client::{ClientError, Gate, LoggedRecord};
use countersign_core::codes::Code;
use countersign_core::kinds::Kind;
use countersign_proto::errors::Refusal;
use tonic::Status;

#[tokio::test]
async fn a_lost_answer_is_found_out_by_resubmission_and_nothing_doubles() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    ledger.with(|state| {
        state.fail_after = vec![Status::unavailable("reset"), Status::unavailable("reset")];
    });
    let results = gate.log(&drafts(&gate, 0..4)).await.unwrap();
    assert!(results.iter().all(|result| result.as_ref().unwrap().is_repeat()));
    assert_eq!(ledger.with(|state| (state.size(), state.submit_calls)), (6, 3));
}

#[tokio::test]
async fn an_overloaded_or_stopping_ledger_is_tried_again() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    ledger.with(|state| {
        state.fail_before = [Code::LedgerStopping, Code::Overloaded, Code::LedgerPoisoned]
            .map(|code| Refusal::from(code).with_retry_after(std::time::Duration::ZERO).into())
            .into();
    });
    let results = gate.log(&drafts(&gate, 0..2)).await.unwrap();
    assert!(results.iter().all(|result| !result.as_ref().unwrap().is_repeat()));
}

#[tokio::test]
async fn a_fate_that_stays_unknown_is_said_to_be_and_can_be_found_out_later() {
    let ledger = Ledger::start().await;
    let client = gate(&ledger).await.client().clone();
    let retry = countersign_client::Retry { deadline: std::time::Duration::ZERO, ..retry() };
    let mut gate = Gate::open(client, identity(), retry).await.unwrap();
    let batch = batch(&gate, 0..2);
    ledger.with(|state| state.fail_after = vec![Status::unavailable("reset")]);
    let error = gate.submit(&batch).await.unwrap_err();
    assert_eq!(error.code().as_str(), "EVIDENCE_UNAVAILABLE");
    assert!(matches!(error, ClientError::FateUnknown { first_seq: 0, count: 2, .. }), "{error}");
    let outcomes = gate.submit(&batch).await.unwrap();
    assert!(outcomes.iter().all(|each| each.result.as_ref().unwrap().is_repeat()));
    assert_eq!((gate.next_seq(), ledger.with(|state| state.size())), (2, 4));
}

#[tokio::test]
async fn a_refused_record_is_refused_alone() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    ledger.with(|state| state.refuse = Some(("Act2".to_owned(), Code::DuplicateVerdict)));
    let results = gate.log(&drafts(&gate, 0..6)).await.unwrap();
    let told: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().map(LoggedRecord::seq).map_err(|refusal| refusal.code))
        .collect();
    let duplicate = Err(Code::DuplicateVerdict);
    assert_eq!(told, [Ok(0), Ok(1), duplicate, Ok(2), Ok(3), Ok(4)]);
}

#[tokio::test]
async fn a_gate_that_is_wrong_about_its_stream_asks_and_seals_anew() {
    let ledger = Ledger::start().await;
    let mut behind = gate(&ledger).await;
    let mut ahead = gate(&ledger).await;
    ahead.log(&drafts(&ahead, 0..3)).await.unwrap();
    // It still believes in seq 0: the first record is refused as an equivocation, the others are
    // sealed anew behind what the other process wrote.
    let results = behind.log(&drafts(&behind, 10..13)).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().code, Code::Equivocation);
    assert_eq!(results[1].as_ref().unwrap().seq(), 3);
    assert_eq!(results[2].as_ref().unwrap().seq(), 4);
    // A ledger that lost the stream's end: the gap is found, and closed from where it says.
    ledger.with(|state| {
        state.streams.insert(behind.stream(), (4, state.rows[&(behind.stream(), 3)].root));
        state.rows.remove(&(behind.stream(), 4));
    });
    let results = behind.log(&drafts(&behind, 20..21)).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().seq(), 4);
}

#[tokio::test]
async fn a_stream_that_never_stands_still_is_given_up() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    let drafts = drafts(&gate, 0..1);
    ledger.with(|state| state.refuse = Some(("Act0".to_owned(), Code::SeqGap)));
    assert_eq!(code(gate.log(&drafts).await), "SEQ_GAP");
}

#[tokio::test]
async fn large_records_go_in_several_batches() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    let big = "x".repeat(15_000);
    let draft = |number| {
        let json = crate::stage::verdict(number).replacen(
            '{',
            &format!(r#"{{"context":"{big}","entities":"{big}","consent":"{big}","#),
            1,
        );
        gate.draft(Kind::Verdict, &json).unwrap()
    };
    let drafts: Vec<_> = (0..100).map(draft).collect();
    assert!((1..100).contains(&Gate::fitting(&drafts)));
    assert_eq!(Gate::fitting(&[]), 0);
    let results = gate.log(&drafts).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert!(ledger.with(|state| state.submit_calls) > 1);
}

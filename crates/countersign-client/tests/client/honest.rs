//! An honest ledger: everything that a client asks for is proven, and remembered.

use std::time::Duration;

use crate::ledger::Ledger;
use crate::stage::{config, drafts, gate, identity, retry, verdict};
use countersign_client::{Client, Draft, PreparedBatch};
use countersign_core::encoding::from_hex_array;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Sealed, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use countersign_core::verify::verify;
use countersign_proto::convert::{EvidenceQuery, RecordRef};

#[tokio::test]
async fn what_is_logged_is_proven_down_to_its_evidence_file() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    let drafts = drafts(&gate, 0..5);
    let results = gate.log(&drafts).await.unwrap();
    assert_eq!(results.len(), 5);
    for (seq, result) in results.iter().enumerate() {
        let logged = result.as_ref().unwrap();
        assert_eq!((logged.seq(), logged.index().0), (seq as u64, seq as u64 + 2));
        assert!(!logged.is_repeat());
        let bytes = logged.evidence(&[]).unwrap().to_bytes();
        let parsed = Evidence::parse(&bytes).unwrap();
        parsed.seal.verify(&parsed.record.root().unwrap()).unwrap();
        // Without trust nothing is ever valid, and a whole file is not invalid but for the chain
        // that this stage has none of.
        let report = verify(&parsed, None);
        assert_eq!(report.fault.map(|found| found.step), Some(8), "{report:?}");
    }
    let head = gate.client().head().await.unwrap();
    assert_eq!(head.size().0, 7);
    assert_eq!(gate.next_seq(), 5);
}

#[tokio::test]
async fn records_are_chained_and_carry_what_the_gate_fills_in() {
    let ledger = Ledger::start().await;
    let gate = gate(&ledger).await;
    let drafts: Vec<Draft> = drafts(&gate, 0..3);
    let batch = gate.prepare(&drafts).unwrap();
    let mut prev = [0; 32];
    for (seq, (record, root)) in batch.records().iter().zip(batch.roots()).enumerate() {
        let view = record.record.view();
        assert_eq!(view.str("prev").and_then(from_hex_array::<32>), Some(prev));
        assert_eq!(view.get("seq").and_then(serde_json::Value::as_u64), Some(seq as u64));
        assert_eq!(view.str("stream"), Some(gate.stream().hex().as_str()));
        assert_eq!(view.str("software"), Some("test 1"));
        let digest = countersign_core::action::digest(view).unwrap().unwrap();
        assert_eq!(view.str("action_digest").and_then(from_hex_array::<32>), Some(digest));
        prev = root.0;
    }
    let nonces: Vec<_> = drafts.iter().map(|draft| draft.value("nonce").unwrap()).collect();
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2]);
    let seeds: Vec<_> = batch.records().iter().map(|each| *each.record.seed()).collect();
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2]);
}

#[tokio::test]
async fn a_stream_of_calls_keeps_batches_in_flight_and_answers_in_order() {
    let ledger = Ledger::start().await;
    let gate = gate(&ledger).await;
    let calls_before = ledger.with(|state| state.consistency_calls);
    let (sender, mut receiver) = gate.client().submit_stream(4);
    let mut last_sent: Option<std::sync::Arc<PreparedBatch>> = None;
    for round in 0..20_u32 {
        let drafts = drafts(&gate, round * 10..round * 10 + 10);
        // Sealed ahead of the answers, as a gate at speed does it.
        let batch = match &last_sent {
            None => gate.prepare(&drafts).unwrap(),
            Some(last) => gate.prepare_after(last, &drafts).unwrap(),
        };
        if !sender.has_room() {
            let outcome = receiver.next().await.unwrap().unwrap();
            assert!(outcome.records.iter().all(|each| each.result.is_ok()));
        }
        sender.send(std::sync::Arc::clone(&batch)).await.unwrap();
        last_sent = Some(batch);
    }
    drop(sender);
    let mut last = None;
    while let Some(outcome) = receiver.next().await.unwrap() {
        for record in outcome.records {
            let seq = record.result.unwrap().seq();
            assert!(last.is_none_or(|last| last < seq));
            last = Some(seq);
        }
    }
    assert_eq!(last, Some(199));
    let calls = ledger.with(|state| state.consistency_calls) - calls_before;
    assert!((1..10).contains(&calls), "{calls} proofs for 20 batches");
    assert_eq!(gate.client().joined_head().unwrap().size().0, 202);
}

#[tokio::test]
async fn heads_receipts_and_evidence_come_verified() {
    let ledger = Ledger::start().await;
    let mut gate = gate(&ledger).await;
    let old = gate.client().head().await.unwrap();
    let logged = gate.log(&drafts(&gate, 0..3)).await.unwrap().remove(1).unwrap();
    let client = gate.client().clone();
    let new = client.head().await.unwrap();
    let proof = client.consistency(&old, &new).await.unwrap();
    assert_eq!((proof.old_size.0, proof.new_size.0), (2, 5));

    let by_index = RecordRef::Index(logged.index());
    let receipt = client.receipt(by_index, logged.entry(), new.size()).await.unwrap();
    assert_eq!(receipt.index, logged.index());
    let by_seq = RecordRef::StreamSeq(gate.stream(), 1);
    assert!(client.receipt(by_seq, logged.entry(), TreeSize(0)).await.is_ok());

    let id = logged.record().unwrap().view().str("action_id").unwrap().to_owned();
    for query in
        [EvidenceQuery::Action(id), EvidenceQuery::Record(by_index), EvidenceQuery::Record(by_seq)]
    {
        // This stage's gate has no certificate, which verification calls a fault of step 8.
        let refused = client.evidence(query, TreeSize(0), None).await.unwrap_err();
        assert_eq!(refused.code().as_str(), "CERT_CHAIN");
    }
    let mut watch = client.watch_heads(TreeSize(0)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().size().0, 5);
    assert_eq!(watch.next().await.unwrap().unwrap().size().0, 5);
    assert!(watch.next().await.unwrap().is_none());
    let (_, stored) = client.put_blob(b"\0\0\0\0\0\0\0\0".to_vec()).await.unwrap();
    assert!(stored);
}

#[tokio::test]
async fn the_last_head_is_remembered_across_clients() {
    let ledger = Ledger::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&ledger);
    config.head_memory = Some(dir.path().join("head.note"));
    let client = Client::connect(config.clone()).await.unwrap();
    let mut gate = countersign_client::Gate::open(client, identity(), retry()).await.unwrap();
    gate.log(&drafts(&gate, 0..4)).await.unwrap();
    gate.client().settle().await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("head.note")).unwrap();
    assert_eq!(text.lines().nth(1), Some("6"));
    // A second client starts from there and proves its own first head at once.
    let calls = ledger.with(|state| state.consistency_calls);
    ledger.with(|state| state.append(Kind::Notice, StreamId::LEDGER, 9, Sealed([1; 32])));
    let client = Client::connect(config).await.unwrap();
    assert_eq!(ledger.with(|state| state.consistency_calls), calls + 1);
    assert_eq!(client.joined_head().unwrap().size().0, 7);
}

#[tokio::test]
async fn at_a_high_rate_heads_are_joined_once_an_interval() {
    let ledger = Ledger::start().await;
    let mut config = config(&ledger);
    config.head_check_interval = Duration::from_hours(1);
    let client = Client::connect(config).await.unwrap();
    let mut gate = countersign_client::Gate::open(client, identity(), retry()).await.unwrap();
    let before = ledger.with(|state| state.consistency_calls);
    for number in 0..10 {
        gate.log(&drafts(&gate, number..number + 1)).await.unwrap();
    }
    assert_eq!(ledger.with(|state| state.consistency_calls), before);
    gate.client().settle().await.unwrap();
    // The remembered head, and eight of the ten in between.
    assert_eq!(ledger.with(|state| state.consistency_calls), before + 9);
}

#[tokio::test]
async fn a_draft_refuses_what_the_gate_fills_in_or_nobody_knows() {
    let ledger = Ledger::start().await;
    let gate = gate(&ledger).await;
    for (member, expected) in [
        (r#""seq":1"#, "member seq"),
        (r#""nonce":null"#, "member nonce"),
        (r#""colour":"red""#, "member colour"),
        (r#""outcome":"perhaps""#, "JSON_DUPLICATE_KEY"),
        (r#""context":{"a":1,"a":2}"#, "JSON_DUPLICATE_KEY"),
        (r#""reasons":[{"code":"x"}]"#, "VALUE_SHAPE"),
    ] {
        let json = verdict(1).replacen('{', &format!("{{{member},"), 1);
        let error = gate.draft(Kind::Verdict, &json).unwrap_err();
        assert!(error.to_string().contains(expected), "{member}: {error}");
    }
    let json = verdict(1).replace(r#""outcome":"refuse","#, "");
    let error = gate.draft(Kind::Verdict, &json).unwrap_err();
    assert!(error.to_string().contains("MEMBER_MISSING (outcome)"), "{error}");
}

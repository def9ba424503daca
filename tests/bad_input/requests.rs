//! Requests that are too large, malformed, or about what is not there.

use countersign_core::codes::Code;
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use countersign_proto::v1;
use countersign_proto::v1::{get_evidence_request, get_receipt_request};
use countersign_tests::{gate, refusal};
use serde_json::json;

use crate::Scene;

#[tokio::test]
async fn batches_and_messages_beyond_the_limits_are_refused() {
    let mut scene = Scene::new().await;
    let many = scene.lane.clone().batch(1_025, &mut scene.random);
    assert_eq!(scene.fate(&many).await, Err(Code::BatchOversized));
    // More bytes than a batch may have, though a message may: 4 MiB and a little.
    let mut large = scene.lane.clone();
    let mut records = Vec::new();
    for _ in 0..74 {
        let mut fields = large.verdict(&mut scene.random);
        for name in ["context", "consent", "entities", "urgency"] {
            fields.insert(name.to_owned(), json!("x".repeat(14_000)));
        }
        records.push(large.take(Kind::Verdict, &fields, &mut scene.random));
    }
    let large = large.seal(records);
    assert_eq!(scene.fate(&large).await, Err(Code::BatchOversized));
    // More than a message may have: tonic's own answer, before anything is parsed.
    let mut wire = gate::wire(&scene.lane.clone().batch(1, &mut scene.random));
    wire.records[0].values[0] = "x".repeat(5 * 1024 * 1024);
    let request = v1::SubmitRequest { batch: Some(wire), call_id: 1 };
    let status = scene.client.submit(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    // The texts of a policy.
    let content = vec![0; 4 * 1024 * 1024 + 9];
    let request = v1::PutBlobRequest { digest: vec![0; 32].into(), content: content.into() };
    let status = scene.client.put_blob(request).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::BlobOversized);
    let request = v1::PutBlobRequest { digest: vec![0; 32].into(), content: vec![0; 8].into() };
    let status = scene.client.put_blob(request).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::BlobDigest);
    let request = v1::PutBlobRequest { digest: vec![0; 31].into(), content: vec![0; 8].into() };
    let status = scene.client.put_blob(request).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::RequestMalformed);
    scene.assert_size("after all of these").await;
    scene.goes_on().await;
}

#[tokio::test]
async fn fields_of_the_wrong_length_are_named() {
    type Change = fn(&mut v1::Batch);
    let cases: [Change; 5] = [
        |batch| batch.stream = vec![0; 15].into(),
        |batch| batch.seal_key = vec![0; 33].into(),
        |batch| batch.signature = vec![0; 63].into(),
        |batch| batch.first_seq = u64::MAX,
        |batch| batch.records[0].seed = Vec::new().into(),
    ];
    let mut scene = Scene::new().await;
    for change in cases {
        let mut batch = gate::wire(&scene.lane.clone().batch(1, &mut scene.random));
        change(&mut batch);
        assert_eq!(scene.wire_fate(batch).await, Code::RequestMalformed);
    }
    let status = scene.client.submit(v1::SubmitRequest::default()).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::RequestMalformed);
    let mut opening = gate::opening(&scene.gate, 0);
    opening.seal_key = vec![0; 31].into();
    let status = scene.client.open_stream(opening).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::RequestMalformed);
    for request in [
        v1::GetEvidenceRequest::default(),
        evidence(get_evidence_request::Which::ActionId("not-a-uuid".to_owned())),
    ] {
        let status = scene.client.get_evidence(request).await.unwrap_err();
        assert_eq!(refusal(&status).code, Code::RequestMalformed);
    }
    scene.goes_on().await;
}

fn evidence(which: get_evidence_request::Which) -> v1::GetEvidenceRequest {
    v1::GetEvidenceRequest { which: Some(which), ..v1::GetEvidenceRequest::default() }
}

/// What is not there and what is another tenant's have one answer.
#[tokio::test]
async fn records_that_are_not_there_or_not_ones_own_are_not_found() {
    let mut scene = Scene::new().await;
    let fields = scene.lane.verdict(&mut scene.random);
    let record = scene.lane.take(Kind::Verdict, &fields, &mut scene.random);
    let batch = scene.lane.seal(vec![record]);
    let held = scene.fate(&batch).await.unwrap();
    scene.size += 1;
    let action = fields["action_id"].as_str().unwrap().to_owned();
    let index = held.receipt.index.0;
    let globex = scene.stage.gate("globex", "prod-1");
    let mut theirs = scene.stage.connect(&scene.server, &globex).await;
    for which in [
        get_evidence_request::Which::Index(index),
        get_evidence_request::Which::ActionId(action.clone()),
        get_evidence_request::Which::StreamSeq(place(held.entry.stream, held.entry.seq)),
    ] {
        let files = scene.client.get_evidence(evidence(which.clone())).await.unwrap().into_inner();
        assert_eq!(files.files[0].index, index);
        let status = theirs.get_evidence(evidence(which)).await.unwrap_err();
        assert_eq!(refusal(&status).code, Code::NotFound);
    }
    let named = v1::GetEvidenceRequest {
        tenant: "acme".to_owned(),
        ..evidence(get_evidence_request::Which::Index(index))
    };
    let status = theirs.get_evidence(named).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::OtherTenant);
    for which in [
        get_evidence_request::Which::Index(index + 1),
        get_evidence_request::Which::Index(u64::MAX),
        get_evidence_request::Which::ActionId(scene.random.uuid_v7()),
        get_evidence_request::Which::StreamSeq(place(held.entry.stream, held.entry.seq + 1)),
        get_evidence_request::Which::StreamSeq(place(StreamId([5; 16]), 0)),
    ] {
        let status = scene.client.get_evidence(evidence(which)).await.unwrap_err();
        assert_eq!(refusal(&status).code, Code::NotFound);
    }
    let which = Some(get_receipt_request::Which::Index(index));
    let request = v1::GetReceiptRequest { which, ..Default::default() };
    scene.client.get_receipt(request.clone()).await.unwrap();
    let status = theirs.get_receipt(request).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::NotFound);
    scene.goes_on().await;
}

fn place(stream: StreamId, seq: u64) -> v1::StreamSeq {
    v1::StreamSeq { stream: stream.0.to_vec().into(), seq }
}

/// CONS-2.
#[tokio::test]
async fn sizes_that_the_log_never_had_are_unknown() {
    let mut scene = Scene::new().await;
    let held = scene.goes_on().await;
    let size = scene.size;
    for (old_size, new_size) in [(1, size + 1), (size + 1, 0), (3, 2), (u64::MAX, u64::MAX)] {
        let request = v1::GetConsistencyRequest { old_size, new_size };
        let status = scene.client.get_consistency(request).await.unwrap_err();
        assert_eq!(refusal(&status).code, Code::SizeUnknown, "{old_size} to {new_size}");
    }
    let which = get_evidence_request::Which::Index(held.receipt.index.0);
    let request = v1::GetEvidenceRequest { min_size: size + 1, ..evidence(which) };
    let status = scene.client.get_evidence(request).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::SizeUnknown);
    let min_size = countersign_core::hash::TreeSize(size + 1);
    let status = scene.stage.receipt(&mut scene.client, &held.entry, min_size).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::SizeUnknown);
    // RCPT-5: the size that there is gives a receipt made anew.
    let min_size = countersign_core::hash::TreeSize(size);
    scene.stage.receipt(&mut scene.client, &held.entry, min_size).await.unwrap();
    scene.goes_on().await;
}

//! Round trips through the wire types, and what hostile bytes are refused with.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::hash::{LeafIndex, RecordRoot, Sealed, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::query::{Field, Filter, Query, Row};
use countersign_core::receipt::ConsistencyProof;
use countersign_core::record::FullRecord;
use countersign_core::seal::{Seal, SealedBatch};
use countersign_core::stream::StreamId;
use countersign_proto::convert::{
    AcceptedRecord, BatchAnswer, EvidenceQuery, PageQuery, ROWS_MAX, RecordAnswer, RecordRef,
    StreamOpened, StreamOpening, Submission, SubmittedRecord, batch_to_wire, entries_from,
    entries_to_wire,
};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;

/// A notice: the shortest kind that a gate may submit.
fn notice(seq: u64) -> SubmittedRecord {
    let value = |name: &str| match name {
        "type" => r#""notice""#.to_owned(),
        "tenant" => r#""acme""#.to_owned(),
        "gate" => r#""prod-1""#.to_owned(),
        "stream" => format!("{:?}", "0".repeat(32)),
        "seq" => seq.to_string(),
        "prev" => format!("{:?}", "0".repeat(64)),
        "recorded_at" => r#""2026-11-23T10:00:00.000000Z""#.to_owned(),
        "software" => r#""test 1""#.to_owned(),
        "about" => r#""heartbeat""#.to_owned(),
        _ => "null".to_owned(),
    };
    let values = Kind::Notice.fields().iter().map(|field| value(field.name)).collect();
    let record = FullRecord::parse(Kind::Notice, [7; 32], values).unwrap();
    SubmittedRecord { record, people: Vec::new() }
}

fn batch() -> v1::Batch {
    let records: Vec<_> = (0..3).map(notice).collect();
    let roots = records.iter().map(|record| record.record.root()).collect();
    let sealed = SealedBatch { key: [1; 32], signature: [2; 64], roots };
    batch_to_wire(StreamId([3; 16]), 5, &sealed, &records)
}

#[test]
fn a_batch_comes_back_with_its_roots() {
    let submission = Submission::from_wire(batch(), 3).unwrap();
    assert_eq!((submission.stream, submission.first_seq), (StreamId([3; 16]), 5));
    let roots: Vec<RecordRoot> = (0..3).map(|seq| notice(seq).record.root()).collect();
    assert_eq!(submission.sealed.roots, roots);
    let Submission { stream, first_seq, sealed, records } = submission;
    assert_eq!(batch_to_wire(stream, first_seq, &sealed, &records), batch());
}

#[test]
fn a_batch_at_fault_is_refused_by_what_is_wrong() {
    type Change = fn(&mut v1::Batch);
    let cases: [(Code, &str, Change); 13] = [
        (Code::RequestMalformed, "stream", |b| b.stream = vec![0; 15].into()),
        (Code::RequestMalformed, "seal_key", |b| b.seal_key = vec![0; 33].into()),
        (Code::RequestMalformed, "signature", |b| b.signature = vec![].into()),
        (Code::RequestMalformed, "first_seq", |b| b.first_seq = u64::MAX - 1),
        (Code::RequestMalformed, "Record 1", |b| b.records[1].seed = vec![0; 31].into()),
        (Code::SealSize, "", |b| b.records.clear()),
        (Code::BatchOversized, "", |b| b.records.push(b.records[0].clone())),
        (Code::KindUnknown, "Record 2", |b| b.records[2].kind = 11),
        (Code::KindUnknown, "Record 2", |b| b.records[2].kind = 266),
        (Code::PeopleChains, "Record 0", |b| b.records[0].kind = 6),
        (Code::PeopleChains, "Record 0", |b| {
            b.records[0].people_chain = vec![vec![0x30].into()];
        }),
        (Code::FieldCount, "Record 1", |b| drop(b.records[1].values.pop())),
        (Code::JsonMalformed, "Record 1", |b| b.records[1].values[0] = "{".to_owned()),
    ];
    for (code, part, change) in cases {
        let mut wrong = batch();
        change(&mut wrong);
        let refusal = Submission::from_wire(wrong, 3).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.message.contains(part), "{refusal} should name {part}");
    }
}

fn accepted() -> AcceptedRecord {
    let entry = Entry {
        kind: Kind::Notice,
        logged_at: Micros(9),
        stream: StreamId([3; 16]),
        seq: 5,
        sealed: Sealed([4; 32]),
    };
    AcceptedRecord {
        index: LeafIndex(42),
        entry,
        path: vec![[5; 32], [6; 32]],
        first_seal: None,
        checkpoint: None,
        repeat: false,
    }
}

#[test]
fn answers_come_back() {
    let seal = Seal { key: [1; 32], size: 3, index: 1, path: vec![[8; 32]; 2], signature: [2; 64] };
    let repeat = AcceptedRecord {
        first_seal: Some(seal),
        checkpoint: Some("origin\n7\n".to_owned()),
        repeat: true,
        ..accepted()
    };
    let gap = Refusal::from(Code::SeqGap).with_expected_seq(0);
    let answers = vec![
        RecordAnswer { seq: 5, outcome: Ok(accepted()) },
        RecordAnswer { seq: 6, outcome: Ok(repeat) },
        RecordAnswer { seq: 7, outcome: Err(gap.clone()) },
    ];
    for outcome in [Ok(answers), Err(gap)] {
        let answer = BatchAnswer { call_id: 1, checkpoint: "origin\n8\n".to_owned(), outcome };
        let wire = v1::SubmitResponse::from(answer.clone());
        assert_eq!(BatchAnswer::try_from(wire), Ok(answer));
    }
}

#[test]
fn an_answer_at_fault_is_refused_by_what_is_wrong() {
    type Change = fn(&mut v1::Accepted);
    let cases: [(Code, Change); 5] = [
        (Code::EntryLength, |a| a.entry = vec![1; 65].into()),
        (Code::EntryVersion, |a| a.entry = vec![2; 66].into()),
        (Code::ProofLength, |a| a.inclusion = vec![0; 33].into()),
        (Code::ProofLength, |a| a.inclusion = vec![0; 32 * 65].into()),
        (Code::SealPath, |a| {
            let path = vec![vec![0; 32].into(); 17];
            a.seal = Some(v1::Seal { path, ..v1::Seal::default() });
        }),
    ];
    for (code, change) in cases {
        let mut wire = v1::Accepted::from(accepted());
        change(&mut wire);
        let fault = AcceptedRecord::try_from(wire).unwrap_err();
        assert_eq!(fault.code, code);
    }
    let empty = RecordAnswer::try_from(v1::Answer::default());
    assert_eq!(empty, Err(Code::AnswerMismatch.at_field("outcome")));
    let both = v1::SubmitResponse {
        answers: vec![v1::Answer::default()],
        refused: Some(v1::Rejected::default()),
        ..v1::SubmitResponse::default()
    };
    assert_eq!(BatchAnswer::try_from(both), Err(Code::AnswerMismatch.at_field("refused")));
}

#[test]
fn streams_and_references_come_back() {
    let opening = StreamOpening { seal_key: [1; 32], instance: 2, chain: Vec::new() };
    let wire = v1::OpenStreamRequest::from(opening.clone());
    assert_eq!(StreamOpening::try_from(wire), Ok(opening));
    let opened = StreamOpened {
        stream: StreamId([3; 16]),
        next_seq: 5,
        prev: RecordRoot([4; 32]),
        origin: "ledger.example".to_owned(),
        checkpoint: String::new(),
    };
    let wire = v1::OpenStreamResponse::from(opened.clone());
    assert_eq!(StreamOpened::try_from(wire), Ok(opened));
    for record in [RecordRef::Index(LeafIndex(1)), RecordRef::StreamSeq(StreamId([3; 16]), 5)] {
        assert_eq!(RecordRef::try_from(Some(record.into())), Ok(record));
        let query = EvidenceQuery::Record(record);
        assert_eq!(EvidenceQuery::try_from(Some(query.clone().into())), Ok(query));
    }
    let action = EvidenceQuery::Action("0193536a-1b2c-7d3e-8f40-516273849506".to_owned());
    assert_eq!(EvidenceQuery::try_from(Some(action.clone().into())), Ok(action));
}

#[test]
fn references_at_fault_are_refused() {
    use v1::get_evidence_request::Which;
    let nothing: Result<EvidenceQuery, Fault> = None.try_into();
    assert_eq!(nothing, Err(Code::RequestMalformed.at_field("which")));
    let action = EvidenceQuery::try_from(Some(Which::ActionId("../x".to_owned())));
    assert_eq!(action, Err(Code::RequestMalformed.at_field("action_id")));
    let place = v1::StreamSeq { stream: vec![0; 17].into(), seq: 0 };
    assert_eq!(RecordRef::try_from(place), Err(Code::RequestMalformed.at_field("stream")));
    let chain = v1::OpenStreamRequest {
        seal_key: vec![0; 32].into(),
        certificate_chain: vec![vec![0].into(); 9],
        ..v1::OpenStreamRequest::default()
    };
    let fault = StreamOpening::try_from(chain).unwrap_err();
    assert_eq!(fault, Code::CertChain.at_field("certificate_chain"));
}

#[test]
fn consistency_proofs_come_back_and_long_ones_do_not() {
    let proof = ConsistencyProof {
        old_size: TreeSize(3),
        new_size: TreeSize(7),
        hashes: vec![[1; 32], [2; 32]],
    };
    let wire = v1::GetConsistencyResponse::from(proof.clone());
    assert_eq!(ConsistencyProof::try_from(wire.clone()), Ok(proof));
    let long = v1::GetConsistencyResponse { hashes: vec![vec![0; 32].into(); 65], ..wire };
    assert_eq!(ConsistencyProof::try_from(long), Err(Code::ProofLength.at_field("hashes")));
}

#[test]
fn pages_and_rows_come_back_and_impossible_ones_do_not() {
    let filters = vec![
        Filter::new(Field::Actor, "agent-1").unwrap(),
        Filter::new(Field::Outcome, "refuse").unwrap(),
    ];
    let page = PageQuery {
        query: Query::new(filters, Some(Micros(1)), Some(Micros(9))).unwrap(),
        cursor: Some(LeafIndex(4)),
        size: Some(TreeSize(7)),
        limit: 50,
        newest_first: true,
    };
    let wire = v1::QueryRequest::from(page.clone());
    assert_eq!(PageQuery::try_from(wire.clone()), Ok(page));
    let refused = |change: &dyn Fn(&mut v1::QueryRequest)| {
        let mut bad = wire.clone();
        change(&mut bad);
        PageQuery::try_from(bad).unwrap_err()
    };
    let at = |field| Code::QueryMalformed.at_field(field);
    assert_eq!(refused(&|bad| bad.limit = ROWS_MAX + 1), at("limit"));
    assert_eq!(refused(&|bad| bad.to_us = Some(1)), at("to"));
    assert_eq!(refused(&|bad| bad.filters[0].field = "Actor".into()), at("field"));
    assert_eq!(refused(&|bad| bad.filters[1].value = "allow".into()), at("outcome"));
    assert_eq!(refused(&|bad| bad.filters = vec![bad.filters[0].clone(); 33]), at("filters"));

    let row = v1::Row {
        index: 3,
        kind: 5,
        logged_at_us: 8,
        stream: vec![1; 16].into(),
        seq: 2,
        root: vec![2; 32].into(),
        erased: true,
        reasons: vec!["R-1".into(), "R-2".into()],
        actor: "agent-1".into(),
        about: "x".into(),
        ..v1::Row::default()
    };
    assert_eq!(v1::Row::from(Row::try_from(row.clone()).unwrap()), row);
    for bad in [
        v1::Row { kind: 11, ..row.clone() },
        v1::Row { kind: 256 + 5, ..row.clone() },
        v1::Row { stream: vec![1; 15].into(), ..row.clone() },
        v1::Row { root: vec![1; 33].into(), ..row.clone() },
    ] {
        assert!(Row::try_from(bad).is_err());
    }
    let cut = v1::GetEntriesResponse { entries: vec![1; 67].into() };
    assert_eq!(entries_from(&cut), Err(Code::AnswerMismatch.at_field("entries")));
    assert_eq!(entries_from(&entries_to_wire(&[[7; 66]; 2])), Ok(vec![[7; 66]; 2]));
}

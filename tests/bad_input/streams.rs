//! Order, repetition, contradiction: what a stream refuses.

use countersign_core::codes::Code;
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use countersign_proto::convert::{BatchAnswer, Submission};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::get_evidence_request::Which;
use countersign_tests::{Held, Lane, gate, refusal, submit};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{Fate, Scene, first};

/// STR-3, STR-7.
#[tokio::test]
async fn a_gap_is_refused_with_the_seq_that_is_expected() {
    let mut scene = Scene::new().await;
    scene.goes_on().await;
    let mut ahead = scene.lane.clone();
    ahead.batch(1, &mut scene.random);
    let gap = ahead.batch(2, &mut scene.random);
    let answers = submit(&scene.stage, &mut scene.client, &gap).await.unwrap();
    let refusals: Vec<Refusal> = answers.into_iter().map(Result::unwrap_err).collect();
    assert_eq!((refusals[0].code, refusals[0].expected_seq), (Code::SeqGap, Some(1)));
    assert_eq!((refusals[1].code, refusals[1].expected_seq), (Code::StreamHalted, Some(1)));
    scene.assert_size("after a gap").await;
    scene.goes_on().await;
}

/// STR-8: the first receipt and the first seal, whatever seal came with the repeat.
#[tokio::test]
async fn a_replay_is_answered_with_the_first_receipt_and_seal() {
    let mut scene = Scene::new().await;
    let batch = scene.lane.batch(3, &mut scene.random);
    let once = submit(&scene.stage, &mut scene.client, &batch).await.unwrap();
    scene.size += 3;
    // The log grows in between, so that a new receipt would be another one.
    scene.goes_on().await;
    let again = submit(&scene.stage, &mut scene.client, &batch).await.unwrap();
    // SEAL-6: the same records, each sealed by itself this time.
    let mut alone = Vec::new();
    for (place, record) in batch.records.iter().enumerate() {
        let mut lane = scene.lane.clone();
        lane.next_seq = batch.first_seq + place as u64 + 1;
        let sealed = lane.seal(vec![record.clone()]);
        alone.extend(submit(&scene.stage, &mut scene.client, &sealed).await.unwrap());
    }
    for (place, first) in once.into_iter().enumerate() {
        let first = first.unwrap();
        assert!(!first.repeat);
        let repeat = Held { repeat: true, ..first };
        assert_eq!(again[place], Ok(repeat.clone()), "the same batch again");
        assert_eq!(alone[place], Ok(repeat), "the record alone");
    }
    scene.assert_size("after two replays").await;
    scene.goes_on().await;
}

/// STR-8: refused, and noted in the log where the tenant can see it.
#[tokio::test]
async fn an_equivocation_is_refused_and_noted() {
    let mut scene = Scene::new().await;
    let mut other = scene.lane.clone();
    scene.goes_on().await;
    let contradiction = other.batch(1, &mut scene.random);
    assert_eq!(scene.fate(&contradiction).await, Err(Code::Equivocation));
    let notice = scene.size;
    scene.size += 1;
    scene.assert_size("with the notice").await;
    let which = Some(Which::Index(notice));
    let request = v1::GetEvidenceRequest { which, ..v1::GetEvidenceRequest::default() };
    let files = scene.client.get_evidence(request).await.unwrap().into_inner().files;
    assert_eq!((files.len(), files[0].index), (1, notice));
    let evidence = Evidence::parse(files[0].json.as_bytes()).unwrap();
    let entry = Entry::from_bytes(&evidence.entry).unwrap();
    assert_eq!((entry.kind, entry.stream), (Kind::Notice, StreamId::LEDGER));
    evidence.receipt.verify(&entry.leaf()).unwrap();
    let view = evidence.record.view(Kind::Notice).unwrap();
    assert_eq!(view.str("about"), Some("equivocation"));
    let detail = view.get("detail").unwrap();
    assert_eq!(detail["stream"], Value::from(scene.lane.stream.hex()));
    assert_eq!(detail["seq"], json!(0));
    assert_eq!(detail["refused"], Value::from(contradiction.sealed.roots[0].hex()));
    // Once is enough: who says it again fills no log.
    assert_eq!(scene.fate(&contradiction).await, Err(Code::Equivocation));
    scene.assert_size("the same again").await;
    scene.goes_on().await;
}

#[tokio::test]
async fn streams_of_others_and_of_nobody_are_refused() {
    let mut scene = Scene::new().await;
    let globex = scene.stage.gate("globex", "prod-1");
    let mut their_client = scene.stage.connect(&scene.server, &globex).await;
    let mut theirs = Lane::open(&mut their_client, &globex, 0).await.unwrap();
    scene.size += 1;
    // Another tenant's stream: with their seal, and so with their record.
    let stolen = theirs.clone().batch(1, &mut scene.random);
    assert_eq!(scene.fate(&stolen).await, Err(Code::StreamForeign));
    // Another gate of the same tenant.
    let second = scene.stage.gate("acme", "prod-2");
    let mut second_client = scene.stage.connect(&scene.server, &second).await;
    let mine = scene.lane.clone().batch(1, &mut scene.random);
    let answer = submit(&scene.stage, &mut second_client, &mine).await;
    assert_eq!(first(answer), Err(Code::StreamForeign));
    // Streams that were never opened, the ledger's own among them.
    for stream in [StreamId([9; 16]), StreamId([0; 16])] {
        let mut batch = scene.lane.clone().batch(1, &mut scene.random);
        batch.stream = stream;
        let code = scene.fate(&batch).await.unwrap_err();
        assert!([Code::StreamUnknown, Code::StreamForeign].contains(&code), "{code:?}");
    }
    let mut unopened = scene.lane.clone().batch(1, &mut scene.random);
    unopened.stream = StreamId::derive(
        countersign_tests::ORIGIN,
        "acme",
        "prod-1",
        &scene.gate.key.verifying_key().to_bytes(),
        1,
    )
    .unwrap();
    assert_eq!(scene.fate(&unopened).await, Err(Code::StreamUnknown));
    // Opening with the certificate of another tenant's, or another's, gate.
    for holder in [&globex, &second] {
        let status = scene.client.open_stream(gate::opening(holder, 0)).await.unwrap_err();
        assert_eq!(refusal(&status).code, Code::StreamForeign);
    }
    scene.assert_size("after all of these").await;
    let theirs = theirs.batch(1, &mut scene.random);
    let answer = submit(&scene.stage, &mut their_client, &theirs).await;
    first(answer).unwrap();
    scene.size += 1;
    scene.goes_on().await;
}

/// One `SubmitStream` call.
struct Pipe {
    requests: mpsc::Sender<v1::SubmitRequest>,
    answers: Streaming<v1::SubmitResponse>,
}

impl Pipe {
    async fn open(scene: &mut Scene) -> Self {
        let (requests, stream) = mpsc::channel(64);
        let call = scene.client.submit_stream(ReceiverStream::new(stream));
        Self { requests, answers: call.await.unwrap().into_inner() }
    }

    async fn send(&self, submission: &Submission, call_id: u64) {
        self.requests.send(gate::request(submission, call_id)).await.unwrap();
    }

    async fn answer(&mut self, scene: &Scene, submission: &Submission, call_id: u64) -> Fate {
        let answer = self.answers.message().await.unwrap().unwrap();
        let answer = BatchAnswer::try_from(answer).unwrap();
        assert_eq!(answer.call_id, call_id, "in the order of the requests");
        first(scene.stage.check(submission, answer))
    }
}

/// STR-9: behind a refusal the stream halts, until it goes on at the seq that is expected.
#[tokio::test]
async fn a_refusal_halts_the_stream_and_sealing_again_lifts_it() {
    let mut scene = Scene::new().await;
    let mut pipe = Pipe::open(&mut scene).await;
    let good = scene.lane.batch(2, &mut scene.random);
    let restart = scene.lane.clone();
    // Refused as a whole, in the log, and before it: the batches behind it are halted all the same.
    let mut forged = scene.lane.batch(2, &mut scene.random);
    forged.sealed.signature[0] ^= 1;
    let behind = scene.lane.batch(2, &mut scene.random);
    let further = scene.lane.batch(1, &mut scene.random);
    for (call_id, submission) in [&good, &forged, &behind, &further].into_iter().enumerate() {
        pipe.send(submission, call_id as u64).await;
    }
    pipe.answer(&scene, &good, 0).await.unwrap();
    scene.size += 2;
    assert_eq!(pipe.answer(&scene, &forged, 1).await, Err(Code::SealSignature));
    assert_eq!(pipe.answer(&scene, &behind, 2).await, Err(Code::StreamHalted));
    assert_eq!(pipe.answer(&scene, &further, 3).await, Err(Code::StreamHalted));
    scene.assert_size("halted").await;

    // A single record of a batch: what stands before it is logged, the rest is halted.
    scene.lane = restart;
    let mut records = Vec::new();
    let mut restart = scene.lane.clone();
    for place in 0..3 {
        let mut fields = scene.lane.verdict(&mut scene.random);
        if place == 1 {
            fields.insert("tenant".to_owned(), json!("globex"));
            gate::sign_action(Kind::Verdict, &mut fields);
        }
        records.push(scene.lane.take(Kind::Verdict, &fields, &mut scene.random));
        if place == 0 {
            restart = scene.lane.clone();
        }
    }
    let partly = scene.lane.seal(records);
    let behind = scene.lane.batch(1, &mut scene.random);
    pipe.send(&partly, 4).await;
    pipe.send(&behind, 5).await;
    let answer = pipe.answers.message().await.unwrap().unwrap();
    let answer = scene.stage.check(&partly, BatchAnswer::try_from(answer).unwrap()).unwrap();
    let codes: Vec<_> =
        answer.into_iter().map(|a| a.map_err(|r| (r.code, r.expected_seq))).collect();
    assert!(codes[0].is_ok());
    let expected = restart.next_seq;
    assert_eq!(codes[1].as_ref().unwrap_err().0, Code::RecordForeign);
    assert_eq!(codes[2].clone().unwrap_err(), (Code::StreamHalted, Some(expected)));
    scene.size += 1;
    assert_eq!(pipe.answer(&scene, &behind, 5).await, Err(Code::StreamHalted));

    // Sealed again from there, the same call takes it, and what follows.
    scene.lane = restart;
    let again = scene.lane.batch(2, &mut scene.random);
    let more = scene.lane.batch(2, &mut scene.random);
    pipe.send(&again, 6).await;
    pipe.send(&more, 7).await;
    pipe.answer(&scene, &again, 6).await.unwrap();
    pipe.answer(&scene, &more, 7).await.unwrap();
    scene.size += 4;
    // A gap of the gate's own making is a gap again.
    let mut ahead = scene.lane.clone();
    ahead.batch(1, &mut scene.random);
    let gap = ahead.batch(1, &mut scene.random);
    pipe.send(&gap, 8).await;
    assert_eq!(pipe.answer(&scene, &gap, 8).await, Err(Code::SeqGap));
    drop(pipe.requests);
    assert!(pipe.answers.message().await.unwrap().is_none(), "the call ends well");
    scene.goes_on().await;
}

/// A whole batch that is refused does not end the call; what can't be read is named.
#[tokio::test]
async fn a_call_outlives_the_batches_that_it_refuses() {
    let mut scene = Scene::new().await;
    let mut pipe = Pipe::open(&mut scene).await;
    let empty = v1::SubmitRequest { batch: None, call_id: 70 };
    pipe.requests.send(empty).await.unwrap();
    let answer = pipe.answers.message().await.unwrap().unwrap();
    assert_eq!((answer.call_id, answer.answers.len()), (70, 0));
    assert_eq!(answer.refused.unwrap().code, "REQUEST_MALFORMED");
    let mut unknown = scene.lane.clone().batch(1, &mut scene.random);
    unknown.stream = StreamId([3; 16]);
    pipe.send(&unknown, 71).await;
    assert_eq!(pipe.answer(&scene, &unknown, 71).await, Err(Code::StreamUnknown));
    let good = scene.lane.batch(1, &mut scene.random);
    pipe.send(&good, 72).await;
    pipe.answer(&scene, &good, 72).await.unwrap();
    scene.size += 1;
    scene.goes_on().await;
}

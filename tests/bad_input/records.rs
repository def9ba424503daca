//! Records and seals that are at fault by themselves.

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, hex};
use countersign_core::kinds::Kind;
use countersign_core::seal::SealedBatch;
use countersign_proto::v1;
use countersign_server::identity;
use countersign_tests::{Random, gate};
use serde_json::{Value, json};

use crate::Scene;

/// The place of a value in a verdict.
fn place(name: &str) -> usize {
    Kind::Verdict.fields().iter().position(|field| field.name == name).unwrap()
}

fn text_of(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length))
}

/// REC-3, REC-4, CONV-6, CONV-9, KIND-1: what the wire can carry and no record can be.
#[tokio::test]
async fn records_out_of_shape_are_refused_each_by_its_code() {
    type Change = fn(&mut v1::Record);
    let cases: &[(Code, Change)] = &[
        (Code::FieldOversized, |r| r.values[place("context")] = text_of(17_000)),
        (Code::RecordOversized, |r| {
            for name in ["context", "entities", "consent", "parameters"] {
                r.values[place(name)] = text_of(16_000);
            }
        }),
        (Code::FieldCount, |r| r.values.push("null".to_owned())),
        (Code::FieldCount, |r| drop(r.values.pop())),
        (Code::FieldCount, |r| r.values.clear()),
        // Values carry no names on the wire: out of place is of another shape.
        (Code::ValueShape, |r| r.values.swap(place("mode"), place("outcome"))),
        (Code::ValueShape, |r| r.values[place("type")] = "\"outcome\"".to_owned()),
        (Code::ValueShape, |r| r.values[place("seq")] = "-1".to_owned()),
        (Code::ValueShape, |r| r.values[place("outcome")] = "\"allow\"".to_owned()),
        (Code::JsonDuplicateKey, |r| r.values[place("context")] = r#"{"a":1,"a":2}"#.to_owned()),
        (Code::JsonDuplicateKey, |r| {
            r.values[place("context")] = r#"{"a":1,"\u0061":2}"#.to_owned();
        }),
        (Code::JsonMalformed, |r| r.values[place("context")] = "{\"a\":1".to_owned()),
        (Code::JsonMalformed, |r| r.values[place("context")] = "1],[2".to_owned()),
        (Code::JsonMalformed, |r| r.values[place("context")] = r#""\ud800""#.to_owned()),
        (Code::JsonTooDeep, |r| r.values[place("context")] = "[".repeat(16) + &"]".repeat(16)),
        (Code::RequestMalformed, |r| r.seed = vec![0; 31].into()),
        (Code::KindUnknown, |r| r.kind = 11),
        (Code::KindUnknown, |r| r.kind = u32::MAX),
        // The values of a verdict as those of an intent.
        (Code::FieldCount, |r| r.kind = 4),
        // A verdict is signed by nobody, an approval by somebody.
        (Code::PeopleChains, |r| r.people_chain = vec![vec![0x30].into()]),
        (Code::PeopleChains, |r| r.kind = 6),
    ];
    let mut scene = Scene::new().await;
    for (place, (code, change)) in cases.iter().enumerate() {
        let mut batch = gate::wire(&scene.lane.clone().batch(1, &mut scene.random));
        change(&mut batch.records[0]);
        assert_eq!(scene.wire_fate(batch).await, *code, "case {place}");
        scene.assert_size(code.as_str()).await;
    }
    scene.goes_on().await;
}

/// SEAL-1, SEAL-3, STR-2: a seal that is none, or of another key.
#[tokio::test]
async fn seals_that_do_not_hold_are_refused() {
    let mut scene = Scene::new().await;
    let good = scene.lane.clone().batch(3, &mut scene.random);
    let mut flipped = good.clone();
    flipped.sealed.signature[40] ^= 1;
    assert_eq!(scene.fate(&flipped).await, Err(Code::SealSignature));
    // The signature of two records over three.
    let mut shorter = good.clone();
    shorter.records.pop();
    shorter.sealed.roots.pop();
    assert_eq!(scene.fate(&shorter).await, Err(Code::SealSignature));
    // A record changed after it was sealed.
    let mut changed = gate::wire(&good);
    changed.records[1].seed = vec![9; 32].into();
    assert_eq!(scene.wire_fate(changed).await, Code::SealSignature);
    // A key that never opened this stream.
    let stranger = scene.stage.gate("acme", "prod-1");
    let mut other = good.clone();
    other.sealed = SealedBatch::seal(&stranger.key, good.sealed.roots.clone()).unwrap();
    assert_eq!(scene.fate(&other).await, Err(Code::StreamForeign));
    let mut none = gate::wire(&good);
    none.records.clear();
    assert_eq!(scene.wire_fate(none).await, Code::SealSize);
    scene.assert_size("after the last").await;
    scene.goes_on().await;
}

/// STR-6: what belongs to the ledger's own stream, sent by a gate.
#[tokio::test]
async fn the_ledgers_own_kinds_are_not_a_gates_to_say() {
    let mut scene = Scene::new().await;
    let key = hex(&[1; 32]);
    let own: [(Kind, Value); 3] = [
        (
            Kind::Genesis,
            json!({
                "clock_key": key, "created_at": identity::now().format(), "format": 1,
                "ledger_key": key, "log_key": key, "origin": countersign_tests::ORIGIN,
            }),
        ),
        (
            Kind::Stream,
            json!({
                "certificate": key, "event": "open", "gate_key": key, "subject_gate": "prod-1",
                "subject_stream": scene.lane.stream.hex(), "subject_tenant": "acme",
            }),
        ),
        (Kind::Key, json!({ "event": "revoke", "key": key })),
    ];
    for (kind, more) in own {
        let mut fields = scene.lane.common(kind);
        fields.extend(more.as_object().unwrap().clone());
        let submission = scene.lane.single(kind, &fields, &mut Random::new(3));
        assert_eq!(scene.fate(&submission).await, Err(Code::StreamKind), "{kind:?}");
        scene.assert_size(kind.as_str()).await;
    }
    scene.goes_on().await;
}

/// What a record says of itself and the ledger can see to be wrong.
#[tokio::test]
async fn records_that_contradict_their_call_are_refused() {
    let mut scene = Scene::new().await;
    let set = |name: &'static str, value: Value| {
        move |fields: &mut gate::Fields| {
            fields.insert(name.to_owned(), value);
            gate::sign_action(Kind::Verdict, fields);
        }
    };
    let ahead = Micros(identity::now().0 + 310 * 1_000_000).format();
    scene.refuses(Code::RecordForeign, set("tenant", json!("globex"))).await;
    scene.refuses(Code::RecordForeign, set("gate", json!("prod-2"))).await;
    scene.refuses(Code::RecordForeign, set("stream", json!(hex(&[0; 16])))).await;
    scene.refuses(Code::RecordForeign, set("seq", json!(1))).await;
    // STR-4.
    scene.refuses(Code::PrevMismatch, set("prev", json!(hex(&[1; 32])))).await;
    // STR-11: 300 s is the most that a gate's clock may be ahead.
    scene.refuses(Code::RecordedAhead, set("recorded_at", json!(ahead))).await;
    // DIG-1, and DIG-2 for a number that has no one spelling.
    let digest = json!(hex(&[2; 32]));
    scene.refuses(Code::ActionDigest, |f| drop(f.insert("action_digest".into(), digest))).await;
    scene
        .refuses(Code::NumberNotCanonical, |f| drop(f.insert("parameters".into(), json!(1.5))))
        .await;
    let late = Micros(identity::now().0 + 200 * 1_000_000).format();
    let mut fields = scene.lane.verdict(&mut scene.random);
    fields.insert("recorded_at".to_owned(), json!(late));
    let record = scene.lane.take(Kind::Verdict, &fields, &mut scene.random);
    let within = scene.lane.seal(vec![record]);
    scene.fate(&within).await.unwrap();
    scene.size += 1;
    scene.goes_on().await;
}

/// LIFE-1, LIFE-2, LIFE-10: what the records of one action must not be to each other.
#[tokio::test]
async fn actions_are_judged_once() {
    let mut scene = Scene::new().await;
    let fields = scene.lane.verdict(&mut scene.random);
    let action_id = fields["action_id"].clone();
    let record = scene.lane.take(Kind::Verdict, &fields, &mut scene.random);
    let first = scene.lane.seal(vec![record]);
    scene.fate(&first).await.unwrap();
    scene.size += 1;
    scene.refuses(Code::DuplicateVerdict, |f| drop(f.insert("action_id".into(), action_id))).await;
    scene
        .refuses(Code::ParentUnknown, |f| drop(f.insert("parent".into(), json!(hex(&[5; 32])))))
        .await;
    // LIFE-14: nobody has logged a policy here.
    let policy = json!({ "id": "p", "version": "1", "digest": hex(&[7; 32]), "engine": "e 1" });
    scene
        .refuses(Code::PolicyUnknown, |f| drop(f.insert("outcome".into(), json!("approve"))))
        .await;
    scene.refuses(Code::PolicyUnknown, |f| drop(f.insert("policy".into(), policy))).await;
    let mut outcome = scene.lane.common(Kind::Outcome);
    let more = json!({
        "action_id": fields["action_id"], "attested_by": "executor", "match": "match",
        "observed_at": identity::now().format(), "result": "executed",
        "verdict": hex(&[6; 32]),
    });
    outcome.extend(more.as_object().unwrap().clone());
    let submission = scene.lane.single(Kind::Outcome, &outcome, &mut scene.random);
    assert_eq!(scene.fate(&submission).await, Err(Code::VerdictUnknown));
    scene.goes_on().await;
}

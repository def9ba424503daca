//! What is found in tables of records.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should stop there"
)]

use countersign_core::hash::{Context, Sealed};
use countersign_core::record::FullRecord;
use countersign_core::stream::StreamId;
use serde_json::{Map, json};

use super::*;

/// Half past twelve, after everything in the tables has expired.
const NOW: &str = "2026-11-23T12:30:00.000000Z";
const LOGGED: &str = "2026-11-23T12:29:00.000000Z";
/// Before the end of every permit in the tables.
const IN_TIME: &str = "2026-11-23T12:04:00.000000Z";
const QUIET_US: u64 = 300_000_000;
const ID: &str = "019ab000-0000-7000-8000-000000000001";

/// A record at an index, of the values that matter; the seed makes its root.
fn record(index: u64, kind: Kind, said: &Value) -> Known {
    let mut values: Map<String, Value> = json!({
        "type": kind.as_str(), "tenant": "acme", "gate": "prod-1", "stream": "0".repeat(32),
        "seq": index, "prev": "1".repeat(64), "recorded_at": LOGGED, "software": "test",
        "action": "x:Do", "action_id": ID, "action_digest": "a".repeat(64), "mode": "enforce",
        "attested_by": "executor", "observed_at": IN_TIME, "about": "heartbeat",
    })
    .as_object()
    .unwrap()
    .clone();
    values.extend(said.as_object().unwrap().clone());
    let value = |name: &str| values.get(name).unwrap_or(&Value::Null).to_string();
    let fields = kind.fields().iter().map(|field| value(field.name)).collect();
    let seed = Context::Salt.hash(&[&index.to_be_bytes()]);
    let record = FullRecord::parse(kind, seed, fields).unwrap();
    let entry = Entry {
        kind,
        logged_at: Micros::parse(LOGGED).unwrap(),
        stream: StreamId([0; 16]),
        seq: index,
        sealed: Sealed([0; 32]),
    };
    Known { view: record.view().clone(), root: record.root(), entry, index }
}

fn approve(index: u64) -> Known {
    let permit =
        json!({"id": "p-1", "audience": "pep", "not_after": "2026-11-23T12:05:00.000000Z"});
    record(index, Kind::Verdict, &json!({"outcome": "approve", "permit": permit}))
}

fn refuse(index: u64, parent: Option<&Known>) -> Known {
    let parent = parent.map(|parent| parent.root.hex());
    record(index, Kind::Verdict, &json!({"outcome": "refuse", "parent": parent}))
}

fn supervise(index: u64, expires: &str) -> Known {
    let requires = json!({"approvals": 1, "roles": [], "expires_at": expires});
    record(index, Kind::Verdict, &json!({"outcome": "supervise", "requires": requires}))
}

fn outcome(index: u64, verdict: &Known, more: &Value) -> Known {
    let mut said = json!({
        "result": "executed", "match": "match", "permit": "p-1", "verdict": verdict.root.hex(),
        "effect_digest": "a".repeat(64),
    });
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record(index, Kind::Outcome, &said)
}

fn found(records: &[Known]) -> Vec<(Matter, u64)> {
    let now = Micros::parse(NOW).unwrap();
    let found = findings(records, now, QUIET_US);
    found.into_iter().map(|finding| (finding.matter, finding.index)).collect()
}

#[test]
fn what_fits_is_not_found() {
    let approved = approve(1);
    let done = outcome(2, &approved, &json!({}));
    assert_eq!(found(&[approved.clone(), done]), []);
    // Voided and never used; refused; answered; in shadow mode all go ahead.
    let voided = refuse(2, Some(&approved));
    assert_eq!(found(&[approved.clone(), voided]), []);
    assert_eq!(found(&[refuse(1, None)]), []);
    let asked = supervise(1, "2026-11-23T12:10:00.000000Z");
    let answer = refuse(2, Some(&asked));
    assert_eq!(found(&[asked, answer]), []);
    let shadow = record(1, Kind::Verdict, &json!({"outcome": "refuse", "mode": "shadow"}));
    let went_ahead = outcome(2, &shadow, &json!({"permit": null}));
    assert_eq!(found(&[shadow, went_ahead]), []);
    // Still in time.
    assert_eq!(found(&[supervise(1, "2026-11-23T12:45:00.000000Z")]), []);
    // Somebody says that it was not done.
    let refused = refuse(1, None);
    let not_done = outcome(2, &refused, &json!({"permit": null, "result": "not_executed"}));
    assert_eq!(found(&[refused, not_done]), []);
}

#[test]
fn each_matter_is_found() {
    let approved = approve(1);
    assert_eq!(found(std::slice::from_ref(&approved)), [(Matter::ApprovalWithoutOutcome, 1)]);

    let expired = supervise(1, "2026-11-23T12:10:00.000000Z");
    assert_eq!(found(&[expired]), [(Matter::SupervisionOpen, 1)]);

    let refused = refuse(1, None);
    let done = outcome(2, &refused, &json!({"permit": null}));
    assert_eq!(found(&[refused, done]), [(Matter::OutcomeWithoutApproval, 2)]);
    let unknown = outcome(2, &approved, &json!({}));
    assert_eq!(found(&[unknown]), [(Matter::OutcomeWithoutApproval, 2)]);
    let other_permit = outcome(2, &approved, &json!({"permit": "p-2"}));
    let both = [approved.clone(), other_permit];
    assert_eq!(found(&both), [(Matter::OutcomeWithoutApproval, 2)]);

    let orphan = json!({"match": "orphan", "verdict": null, "permit": null, "action_id": null});
    assert_eq!(found(&[outcome(2, &approved, &orphan)]), [(Matter::OrphanEffect, 2)]);

    let voided = refuse(2, Some(&approved));
    let all_the_same = outcome(3, &approved, &json!({}));
    assert_eq!(found(&[approved, voided, all_the_same]), [(Matter::Diverged, 3)]);
}

#[test]
fn a_mismatch_is_found_whatever_the_record_calls_it() {
    let approved = approve(1);
    for (digest, called) in [("b", "match"), ("b", "mismatch"), ("a", "mismatch")] {
        let more = json!({"effect_digest": digest.repeat(64), "match": called});
        let done = outcome(2, &approved, &more);
        assert_eq!(found(&[approved.clone(), done.clone()]), [(Matter::DigestMismatch, 2)]);
        // A correction takes its place.
        let corrected = outcome(3, &approved, &json!({"supersedes": done.root.hex()}));
        assert_eq!(found(&[approved.clone(), done, corrected]), []);
    }
    let unknown = json!({"effect_digest": null, "match": "indeterminate"});
    assert_eq!(found(&[approved.clone(), outcome(2, &approved, &unknown)]), []);
}

// An outcome after the permit's end was once answered "match", and nothing else showed it.
#[test]
fn what_was_done_after_the_permit_s_end_is_found() {
    let approved = approve(1);
    let at = |observed: &str, result: &str| {
        let more = json!({"observed_at": observed, "result": result});
        found(&[approved.clone(), outcome(2, &approved, &more)])
    };
    assert_eq!(at("2026-11-23T12:05:00.000000Z", "executed"), []);
    for result in ["executed", "failed", "unknown"] {
        assert_eq!(at("2026-11-23T12:05:00.000001Z", result), [(Matter::Late, 2)], "{result}");
    }
    // That it was undone, or never done, may be seen later.
    for result in ["reverted", "not_executed"] {
        assert_eq!(at("2026-11-23T12:09:00.000000Z", result), [], "{result}");
    }
}

#[test]
fn a_permit_in_another_s_hands_is_found() {
    let approved = approve(1);
    let by = |reporter: &str, side: &str| {
        let detail = json!({"reporter": reporter, "codes": [], "reported": null});
        let more = json!({"detail": detail, "attested_by": side});
        found(&[approved.clone(), outcome(2, &approved, &more)])
    };
    assert_eq!(by("pep", "executor"), []);
    assert_eq!(by("pep-2", "executor"), [(Matter::OtherReporter, 2)]);
    // A system of record is nobody's audience.
    assert_eq!(by("ticketing", "system_of_record"), []);
}

#[test]
fn a_second_effect_is_told_from_one_of_nobody_s() {
    let approved = approve(1);
    let done = outcome(2, &approved, &json!({}));
    let orphan = |codes: Value| {
        let more = json!({
            "match": "orphan", "verdict": null, "permit": null,
            "detail": {"codes": codes, "reporter": "pep"},
        });
        found(&[approved.clone(), done.clone(), outcome(3, &approved, &more)])
    };
    assert_eq!(orphan(json!(["SECOND_EFFECT"])), [(Matter::SecondEffect, 3)]);
    assert_eq!(orphan(json!(["LATE"])), [(Matter::OrphanEffect, 3)]);
    assert_eq!(orphan(json!("SECOND_EFFECT")), [(Matter::OrphanEffect, 3)]);
}

#[test]
fn a_gate_is_silent_when_its_newest_record_is_old() {
    let mut old = record(1, Kind::Notice, &json!({}));
    old.entry.logged_at = Micros::parse("2026-11-23T12:20:00.000000Z").unwrap();
    assert_eq!(found(std::slice::from_ref(&old)), [(Matter::GateSilent, 1)]);
    let heartbeat = record(2, Kind::Notice, &json!({}));
    assert_eq!(found(&[heartbeat.clone(), old.clone()]), []);
    // Another gate's sign of life is not this one's, and the ledger's own is nobody's.
    let other = record(2, Kind::Notice, &json!({"gate": "prod-2"}));
    let own = record(3, Kind::Notice, &json!({"gate": "", "tenant": ""}));
    assert_eq!(found(&[old, other, own]), [(Matter::GateSilent, 1)]);
}

#[test]
fn the_gravest_comes_first_and_each_once() {
    let (approved, waiting) = (approve(5), supervise(1, "2026-11-23T12:10:00.000000Z"));
    let refused = refuse(2, None);
    let done = outcome(3, &refused, &json!({"permit": null}));
    let records = [approved.clone(), waiting, refused, done, approved];
    assert_eq!(
        found(&records),
        [
            (Matter::OutcomeWithoutApproval, 3),
            (Matter::ApprovalWithoutOutcome, 5),
            (Matter::SupervisionOpen, 1)
        ]
    );
    let finding = &findings(&records, Micros::parse(NOW).unwrap(), QUIET_US)[1];
    assert_eq!((finding.permit.as_deref(), finding.action_id.as_deref()), (Some("p-1"), Some(ID)));
    assert!(finding.since.is_some());
}

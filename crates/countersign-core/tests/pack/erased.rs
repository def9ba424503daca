//! Erased records: they keep their place and proofs, read as erased, and never as missing
//! (PACK-29).

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, hex};
use countersign_core::kinds::Kind;
use countersign_core::record::Field;
use countersign_core::verify::Verdict;
use serde_json::json;

use super::scene::Scene;
use super::stage::{Holder, NOON, SECOND, signed, verdict};

/// Destroys what erasure destroys: all but the fields that are never withheld.
pub(super) fn wipe(scene: &mut Scene, index: usize) {
    let row = &mut scene.log.rows[index];
    let kind = row.record.kind();
    for (field, spec) in row.disclosed.fields.iter_mut().zip(kind.fields()) {
        if !kind.never_withheld(spec.name) {
            *field = Field::Withheld(match field.withheld() {
                Field::Withheld(leaf) => leaf,
                Field::Shown(_) => unreachable!("a withheld field is a leaf"),
            });
        }
    }
}

/// Logs an erasure that this person signed, of records from before the next day.
pub(super) fn erase(scene: &mut Scene, entries: &str, person: &Holder, id: &str) {
    let next_day = Micros(NOON.0 + 43_200 * SECOND);
    let reason = format!("privacy request 7\nretention floor: {}", next_day.format());
    erase_because(scene, entries, &reason, person, id);
}

/// Logs an erasure for this reason, whatever the ledger would have to say to it.
fn erase_because(scene: &mut Scene, entries: &str, reason: &str, person: &Holder, id: &str) {
    let say = json!({
        "entries": entries,
        "reason": reason,
        "requested_by": { "id": id, "certificate": hex(&person.digest()) },
    });
    let say = signed(Kind::Erasure, say, person);
    scene.log.own(&scene.world, Kind::Erasure, &say, vec![person.chain.clone()]);
    scene.log.settle();
}

#[test]
fn the_erased_shows_as_erased_and_everything_else_stays() {
    let mut scene = Scene::new();
    let carol = scene.world.person("tenant-admin", "carol");
    let (refusal, granted, approve) = (scene.refusal, scene.grants[0], scene.approve);
    let before = scene.pack(0).check(&scene.world.trust()).complete.unwrap();
    for index in [refusal, granted, approve] {
        wipe(&mut scene, index);
    }
    erase(&mut scene, &format!("{refusal},{approve},{granted}"), &carol, "carol");
    let report = scene.pack(0).check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    let complete = report.complete.as_ref().unwrap();
    assert_eq!(complete.erased, [refusal, approve, granted].map(|index| index as u64));
    assert_eq!(complete.refusals, before.refusals);
    assert_eq!(complete.records, before.records);
    assert!(report.not_checked.contains_key("a person's signature, erased"));
    assert!(report.statement(9).iter().any(|said| said.starts_with("Erased")));
}

#[test]
fn what_is_withheld_without_an_erasure_is_withheld() {
    let mut scene = Scene::new();
    let (refusal, granted) = (scene.refusal, scene.grants[0]);
    wipe(&mut scene, refusal);
    let report = scene.pack(0).check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Valid);
    assert!(report.complete.unwrap().erased.is_empty());
    assert_eq!(report.not_checked["field:verdict.actor"], 1);
    // A person's signature that nobody can check any more is a doubt, unless it was erased.
    wipe(&mut scene, granted);
    let report = scene.pack(0).check(&scene.world.trust());
    assert_eq!(report.decisive().unwrap().fault.code, Code::PersonUnchecked);
    assert_eq!(report.result, Verdict::Indeterminate);
}

#[test]
fn only_the_tenants_own_person_erases() {
    // The person of another tenant.
    let mut scene = Scene::new();
    let mallory = scene.world.people.issue("globex/tenant-admin/mallory", [2026, 2030]);
    let (granted, list) = (scene.grants[0], scene.grants[0].to_string());
    wipe(&mut scene, granted);
    erase(&mut scene, &list, &mallory, "mallory");
    let report = scene.pack(0).check(&scene.world.trust());
    assert_eq!(report.decisive().unwrap().fault.code, Code::PackForeign);
    // An approver is no tenant-admin.
    let mut scene = Scene::new();
    let alice = scene.alice.clone();
    wipe(&mut scene, granted);
    erase(&mut scene, &list, &alice, "alice");
    let report = scene.pack(0).check(&scene.world.trust());
    assert_eq!(report.decisive().unwrap().fault.code, Code::PersonCertificate);
    // An erasure that names another record explains nothing.
    let mut scene = Scene::new();
    let carol = scene.world.person("tenant-admin", "carol");
    wipe(&mut scene, granted);
    let other = scene.refusal.to_string();
    erase(&mut scene, &other, &carol, "carol");
    let report = scene.pack(0).check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Indeterminate);
    assert!(report.complete.unwrap().erased.is_empty());
}

/// PACK-29: an erasure explains what was logged before it, and before the floor that was signed. A
/// ledger can't keep one at hand to hide what comes.
#[test]
fn an_erasure_explains_nothing_that_came_after_it_or_lies_beyond_its_floor() {
    let early = format!("early\nretention floor: {}", Micros(NOON.0 + SECOND).format());
    let no_floor = "because";
    for reason in [&early, no_floor] {
        let mut scene = Scene::new();
        let carol = scene.world.person("tenant-admin", "carol");
        let granted = scene.grants[0];
        wipe(&mut scene, granted);
        erase_because(&mut scene, &granted.to_string(), reason, &carol, "carol");
        let report = scene.pack(0).check(&scene.world.trust());
        assert_eq!(report.decisive().unwrap().fault.code, Code::PersonUnchecked, "{reason}");
        assert!(report.complete.unwrap().erased.is_empty(), "{reason}");
    }
    let mut scene = Scene::new();
    let carol = scene.world.person("tenant-admin", "carol");
    // The erasure stands right before the record that it names.
    let next = scene.log.rows.len() + 1;
    erase(&mut scene, &next.to_string(), &carol, "carol");
    let later = scene.log.say(&mut scene.gate, Kind::Verdict, &verdict(60, "refuse", &json!({})));
    assert_eq!(later, next);
    wipe(&mut scene, later);
    scene.log.settle();
    let report = scene.pack(0).check(&scene.world.trust());
    let complete = report.complete.unwrap();
    assert!(complete.refusals.contains(&(later as u64)) && complete.erased.is_empty());
}

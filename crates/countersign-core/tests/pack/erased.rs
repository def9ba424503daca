//! Erased records: they keep their place and proofs, read as erased, and never as missing
//! (PACK-29).

use countersign_core::codes::Code;
use countersign_core::encoding::hex;
use countersign_core::kinds::Kind;
use countersign_core::record::Field;
use countersign_core::verify::Verdict;
use serde_json::json;

use super::scene::Scene;
use super::stage::{Holder, signed};

/// Destroys what erasure destroys: all but the fields that are never withheld.
fn wipe(scene: &mut Scene, index: usize) {
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

/// Logs an erasure that this person signed.
fn erase(scene: &mut Scene, entries: &str, person: &Holder, id: &str) {
    let say = json!({
        "entries": entries,
        "reason": "privacy request 7\nretention floor: 2026-11-23T00:00:00.000000Z",
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

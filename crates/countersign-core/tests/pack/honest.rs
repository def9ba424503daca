//! What an honest ledger's packs come to, in the words of the result.

use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::kinds::Kind;
use countersign_core::pack::{Manifest, PackFile, Weight};
use countersign_core::query::{Field, Filter, Query};
use countersign_core::verify::Verdict;
use serde_json::json;

use super::scene::{Scene, heartbeat};
use super::stage::{SECOND, verdict};

#[test]
fn a_complete_pack_says_what_it_holds() {
    let scene = Scene::new();
    let report = scene.pack(0).check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    // Globex's stream, of which acme can't be shown whose it is.
    assert_eq!(report.counts, [0, 0, 1]);
    assert_eq!(report.by_code[&(Weight::Warning, Code::PackStreamUnshown)], 1);
    let complete = report.complete.as_ref().unwrap();
    assert_eq!((complete.streams_unshown, complete.openings_unshown), (1, 1));
    let at = |index: usize| index as u64;
    assert_eq!(complete.refusals, [at(scene.refusal), at(scene.void)]);
    assert_eq!(complete.voids, [at(scene.void)]);
    assert_eq!(complete.records.verdicts, 6);
    assert_eq!((complete.records.approve, complete.records.supervise), (3, 1));
    assert_eq!((complete.streams, complete.unbounded), (1, 0));
    // The other gate's stream stands in the log, and its key is not claimed: that is said.
    assert_eq!(complete.unclaimed.len(), 1);
    let said = report.statement(9).join(" ");
    for part in
        ["These are exactly acme's records", "as logged by head", "The refusals are exactly: 6, 16"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(report.limits().iter().any(|limit| limit.contains("prod-2")));
    assert!(report.policies_absent.is_empty());
}

#[test]
fn a_range_that_begins_later_is_proven_from_its_peaks() {
    let scene = Scene::new();
    for from in 1..scene.log.size() {
        let report = scene.pack(from).check(&scene.world.trust());
        assert_eq!(report.result, Verdict::Valid, "from {from}: {:#?}", report.findings);
    }
    // What the approve of before the range is, nobody here can say.
    let mut pack = scene.pack(scene.approve as u64 + 1);
    pack.remove(PackFile::Evidence(scene.approve as u64));
    let report = pack.check(&scene.world.trust());
    let unasked = report.not_checked.keys().any(|what| what.starts_with("lifecycle: what verdict"));
    assert!(unasked, "{:?}", report.not_checked);
}

#[test]
fn a_range_may_end_before_the_packs_head() {
    let scene = Scene::new();
    let to = scene.supervise as u64;
    let pack = scene.log.complete(&scene.world, &[&scene.gate], [0, to]);
    let report = pack.check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    let complete = report.complete.unwrap();
    assert_eq!(complete.refusals, [scene.refusal as u64]);
    assert_eq!(complete.claims.to.0, to);
}

#[test]
fn several_keys_and_every_instance_of_each_are_claimed() {
    let mut scene = Scene::new();
    let mut second = super::stage::Gate::new("acme", "prod-1", scene.gate.holder.clone(), 1);
    scene.log.open(&scene.world, &second);
    scene.log.say(&mut second, Kind::Verdict, &verdict(9, "refuse", &json!({})));
    scene.log.settle();
    let gates = [&scene.gate, &scene.other];
    let pack = scene.log.complete(&scene.world, &gates, [0, scene.log.size()]);
    let report = pack.check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    let complete = report.complete.unwrap();
    assert_eq!((complete.streams, complete.refusals.len()), (3, 4));
    assert!(complete.unclaimed.is_empty());
}

#[test]
fn what_was_asked_holds_of_each_record_of_a_pack_without_a_claim() {
    let scene = Scene::new();
    let trust = scene.world.trust();
    let refused = Filter::new(Field::Outcome, "refuse").unwrap();
    let query = Query::new(vec![refused], None, None).unwrap();
    let pack = scene.log.some(&scene.world, query.clone(), &[scene.refusal, scene.void]);
    let report = pack.check(&trust);
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    assert!(report.complete.is_none());
    assert!(report.limits().iter().any(|limit| limit.contains("Completeness was not asked")));
    let more = scene.log.some(&scene.world, query.clone(), &[scene.refusal, scene.approve]);
    let report = more.check(&trust);
    assert_eq!(report.decisive().unwrap().fault.code, Code::PackNotAsked);
    // In a complete pack every record is there, and those that match are counted.
    let mut whole = scene.pack(0);
    whole.manifest.asked.query = query;
    let report = whole.check(&trust);
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    let matching = report.complete.unwrap().matching.unwrap();
    assert_eq!(matching, [scene.refusal as u64, scene.void as u64]);
}

#[test]
fn nothing_is_valid_without_trust_and_nothing_verified_is_no_success() {
    let scene = Scene::new();
    let pack = scene.pack(0);
    let stranger = super::stage::World::new();
    let report = pack.check(&stranger.trust());
    assert_eq!(report.result, Verdict::Invalid, "another's gates and people");
    let empty = scene.log.some(&scene.world, Query::default(), &[]);
    let report = empty.check(&scene.world.trust());
    assert_eq!(report.decisive().unwrap().fault.code, Code::PackEmpty);
    assert_eq!(report.result, Verdict::Indeterminate);
    let manifest = Manifest::parse(&pack.manifest.to_bytes()).unwrap();
    let mut check = countersign_core::pack::PackCheck::new(manifest, None);
    while let Some(want) = check.want() {
        let file = match want {
            countersign_core::pack::Want::File(file) => file,
            countersign_core::pack::Want::Entries(_) => PackFile::Entries,
        };
        check.give(countersign_core::pack::Given::Bytes(&pack.files[&file]));
    }
    let report = check.finish();
    assert_eq!(report.result, Verdict::Indeterminate);
    assert_eq!(report.decisive().unwrap().fault.code, Code::NoTrust);
}

#[test]
fn a_gate_that_falls_silent_shows_and_so_does_a_gap() {
    let mut scene = Scene::new();
    let trust = scene.world.trust();
    let after = |scene: &mut Scene, seconds: u64| {
        scene.log.now = Micros(scene.log.now.0 + seconds * SECOND);
        scene.log.say(
            &mut scene.other,
            Kind::Verdict,
            &verdict(20 + seconds, "refuse", &json!({})),
        );
        scene.log.settle();
        scene.pack(0).check(&trust)
    };
    // A tenth of the interval, and five seconds at least, is no silence.
    let report = after(&mut scene, 60);
    assert_eq!(report.counts, [0, 0, 1], "{:#?}", report.findings);
    let report = after(&mut scene, 10);
    assert_eq!(report.result, Verdict::Valid);
    let [_, finding] = &report.findings[..] else { panic!("{:#?}", report.findings) };
    assert_eq!((finding.weight, finding.fault.code), (Weight::Warning, Code::GateSilent));
    assert_eq!(finding.place.index, Some(scene.heartbeat as u64));
    // It is heard again: the tail is bounded, and the silence before is listed.
    scene.log.say(&mut scene.gate, Kind::Notice, &heartbeat(600));
    let report = after(&mut scene, 300);
    assert_eq!(report.counts, [0, 0, 1]);
    let [gap] = &report.complete.as_ref().unwrap().gaps[..] else { panic!("one gap") };
    assert_eq!((gap.after, gap.interval_s), (scene.heartbeat as u64, 60));
    assert!(report.limits().iter().any(|limit| limit.starts_with("Silences longer")));
}

#[test]
fn a_policy_that_the_pack_does_not_hold_is_named() {
    let scene = Scene::new();
    let mut pack = scene.pack(0);
    pack.remove(PackFile::Policy(super::stage::policy_digest()));
    let report = pack.check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Valid);
    assert_eq!(report.policies_absent, [super::stage::policy_digest()]);
    assert!(report.limits().iter().any(|limit| limit.starts_with("Policies that verdicts name")));
}

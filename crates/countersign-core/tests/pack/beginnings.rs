//! What a range can't hide where it begins: records in front of it, streams that nobody opened, and
//! streams that nobody shows (PACK-23, PACK-25, PACK-31). A ledger that dropped the first eight
//! records of a stream and claimed from head 1 was VALID once.

use countersign_core::codes::Code;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::pack::{PackFile, PackReport, Weight};
use countersign_core::query::{Field, Filter, Query};
use countersign_core::verify::Verdict;
use serde_json::json;

use super::overlooked::withhold;
use super::scene::{Scene, heartbeat};
use super::stage::{Gate, NOON, verdict};

fn check(scene: &mut Scene, from: u64) -> PackReport {
    scene.log.settle();
    scene.pack(from).check(&scene.world.trust())
}

fn codes(report: &PackReport) -> Vec<Code> {
    report.findings.iter().map(|found| found.fault.code).collect()
}

/// A refusal of a gate, honest or not; gives its index.
fn refuse(scene: &mut Scene, gate: &mut Gate) -> u64 {
    let n = 70 + scene.log.size();
    scene.log.say(gate, Kind::Verdict, &verdict(n, "refuse", &json!({}))) as u64
}

fn forget(scene: &mut Scene, indexes: &[usize]) {
    for index in indexes.iter().rev() {
        scene.log.forget(*index);
    }
}

/// What ledger and gate do together; the size from which they then claim.
type Lie = fn(&mut Scene) -> u64;

const LIES: &[(&str, Lie, Code)] = &[
    (
        "a stream that is opened in the range has lost its first records",
        |s| {
            forget(s, &[4, 5, 6, 8]);
            1
        },
        Code::PackSeqGap,
    ),
    (
        "a stream has used numbers for which there was no room after its opening",
        |s| {
            forget(s, &[4, 5, 6, 8]);
            2
        },
        Code::PackSeqGap,
    ),
    (
        "another tenant's stream has used more numbers than the log has entries before",
        |s| {
            let from = s.log.size();
            let mut foreign = s.foreign.clone();
            foreign.seq = 40;
            refuse(s, &mut foreign);
            from
        },
        Code::PackSeqGap,
    ),
    (
        "streams have used more numbers together than the log has entries before",
        |s| {
            let from = s.log.size();
            for name in ["prod-4", "prod-5"] {
                let mut hidden = s.world.gate("globex", name);
                hidden.seq = 7;
                refuse(s, &mut hidden);
            }
            from
        },
        Code::PackSeqGap,
    ),
    (
        "more streams began before the range than the ledger opened",
        |s| {
            let from = s.log.size();
            for name in ["prod-4", "prod-5", "prod-6"] {
                let mut hidden = s.world.gate("globex", name);
                hidden.seq = 1;
                refuse(s, &mut hidden);
            }
            let last = s.world.gate("globex", "prod-7");
            s.log.open(&s.world, &last);
            from
        },
        Code::PackStreamUnopened,
    ),
    (
        "the ledger's own stream has used more numbers than there are entries",
        |s| {
            forget(s, &[1]);
            1
        },
        Code::PackSeqGap,
    ),
    (
        "the first record does not name the one before the range",
        |s| {
            let mut gate = s.gate.clone();
            gate.prev = RecordRoot([7; 32]);
            refuse(s, &mut gate)
        },
        Code::PackPrev,
    ),
    (
        "the first record has the number of the one before the range",
        |s| {
            let mut gate = s.gate.clone();
            gate.seq -= 1;
            refuse(s, &mut gate)
        },
        Code::PackSeqRepeated,
    ),
    (
        "a number was left out for which there was no place before the range",
        |s| {
            let mut gate = s.gate.clone();
            gate.seq += 1;
            refuse(s, &mut gate)
        },
        Code::PackSeqGap,
    ),
    (
        "a stream begins with another number than 0 after its opening in the range",
        |s| {
            let from = s.log.size();
            let mut third = s.world.gate("acme", "prod-3");
            s.log.open(&s.world, &third);
            third.seq = 3;
            refuse(s, &mut third);
            from
        },
        Code::PackSeqGap,
    ),
    (
        "a stream that nobody opened",
        |s| {
            let mut hidden = s.world.gate("acme", "prod-9");
            for _ in 0..3 {
                refuse(s, &mut hidden);
            }
            0
        },
        Code::PackStreamUnopened,
    ),
    (
        "a stream that is opened after its first record",
        |s| {
            let mut third = s.world.gate("acme", "prod-3");
            refuse(s, &mut third);
            s.log.open(&s.world, &third);
            0
        },
        Code::PackStreamUnopened,
    ),
];

#[test]
fn whatever_is_hidden_at_a_beginning_shows() {
    for (name, lie, code) in LIES {
        let mut scene = Scene::new();
        let from = lie(&mut scene);
        let report = check(&mut scene, from);
        assert_eq!(report.result, Verdict::Invalid, "{name}: {:#?}", report.findings);
        let faults = report.findings.iter().filter(|found| found.weight == Weight::Fault);
        let mut faults: Vec<_> = faults.map(|found| (found.fault.code, &found.place)).collect();
        // Entries and evidence may both name it.
        faults.dedup();
        assert_eq!(faults.len(), 1, "{name}: {faults:?}");
        assert_eq!(faults[0].0, *code, "{name}");
        assert!(report.findings[0].place.stream.is_some(), "{name}: a culprit is named");
    }
}

/// Two packs that touch: what the first ends with is what the second goes on from.
#[test]
fn a_record_that_is_lost_between_two_packs_shows() {
    let scene = Scene::new();
    let at = scene.approve as u64;
    let both = |scene: &Scene| {
        let trust = scene.world.trust();
        let early = scene.log.complete(&scene.world, &[&scene.gate], [0, at]).check(&trust);
        (early, scene.pack(at).check(&trust))
    };
    let (early, late) = both(&scene);
    assert_eq!((early.result, late.result), (Verdict::Valid, Verdict::Valid));
    let span = |report: PackReport| report.complete.unwrap().spans.remove(0);
    let (early, late) = (span(early), span(late));
    assert_eq!((early.stream, early.first_seq, early.records), (late.stream, 0, 3));
    assert_eq!((early.last_seq + 1, early.last_root), (late.first_seq, late.prev));
    assert_eq!((late.interval_s, early.interval_s), (Some(60), None));
    assert!(late.sentence().contains(&early.last_root.hex()), "{}", late.sentence());

    // The approve is dropped where one pack ends and the other begins.
    let mut scene = Scene::new();
    scene.log.forget(scene.approve);
    scene.log.settle();
    let (early, late) = both(&scene);
    assert_eq!(early.result, Verdict::Valid);
    assert_eq!(late.result, Verdict::Indeterminate, "{:#?}", late.findings);
    let found = late.decisive().unwrap();
    assert_eq!(found.fault.code, Code::PackBeginningUnshown);
    assert_eq!(found.place.stream, Some(scene.gate.stream));
    assert!(late.statement(9)[0].starts_with("As far as it was checked: these are exactly"));
}

#[test]
fn what_a_stream_goes_on_from_must_be_shown() {
    let scene = Scene::new();
    let mut pack = scene.pack(scene.approve as u64);
    pack.remove(PackFile::Evidence(scene.refusal as u64));
    let report = pack.check(&scene.world.trust());
    assert_eq!(report.result, Verdict::Indeterminate);
    assert!(codes(&report).contains(&Code::PackBeginningUnshown));
    // A record of a gate that is not claimed is not, wherever it stands.
    let mut pack = scene.pack(scene.outcome as u64);
    pack.evidence(&scene.log, &scene.world, 9);
    assert!(codes(&pack.check(&scene.world.trust())).contains(&Code::PackForeign));
}

/// Streams of which the pack shows no opening are counted, wherever they began.
#[test]
fn a_stream_that_nobody_shows_is_a_warning() {
    // Globex's stream was opened and used before the range, and goes on in it.
    let mut scene = Scene::new();
    let from = scene.log.size();
    let mut foreign = scene.foreign.clone();
    let at = refuse(&mut scene, &mut foreign);
    let report = check(&mut scene, from);
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    assert_eq!(codes(&report), [Code::PackStreamUnshown]);
    let place = &report.findings[0].place;
    assert_eq!((place.index, place.stream), (Some(at), Some(foreign.stream)));
    // An opening that withholds whose stream it is shows nothing.
    let mut scene = Scene::new();
    withhold(&mut scene, 2, "gate_key");
    let report = check(&mut scene, 0);
    let complete = report.complete.as_ref().unwrap();
    assert_eq!((complete.streams_unshown, complete.openings_unshown), (2, 2));
    assert_eq!(report.by_code[&(Weight::Warning, Code::PackStreamUnshown)], 2);
    let said = report.limits().join(" ");
    assert!(said.contains("2 with records; 2 records of the ledger about streams."), "{said}");
}

/// PACK-28: a promise to be heard once in a hundred years bounds no silence.
#[test]
fn a_promise_of_a_hundred_years_is_none() {
    for (interval_s, bounds) in [(86_400, true), (86_401, false), (100 * 366 * 86_400, false)] {
        let mut scene = Scene::new();
        let mut gate = scene.gate.clone();
        scene.log.say(&mut gate, Kind::Notice, &heartbeat(interval_s));
        let complete = check(&mut scene, 0).complete.unwrap();
        assert_eq!(complete.unbounded == 0, bounds, "{interval_s}");
        assert_eq!(complete.spans[0].interval_s, bounds.then_some(interval_s));
        let said = complete.spans[0].sentence();
        assert_eq!(said.contains("for longer than 86400 seconds"), bounds, "{said}");
    }
}

/// The question is the pack's own word, and nobody's text can be taken for another part of it.
#[test]
fn what_was_asked_for_is_said() {
    let scene = Scene::new();
    let mut pack = scene.pack(0);
    let question = |pack: &super::stage::Pack| pack.check(&scene.world.trust()).question().unwrap();
    assert_eq!(question(&pack), "What was asked for: all records of acme.");
    let filter = |field, value| Filter::new(field, value).unwrap();
    let filters = vec![
        filter(Field::Outcome, "refuse"),
        filter(Field::Session, "s-11"),
        filter(Field::Actor, "x; outcome approve"),
    ];
    pack.manifest.asked.query = Query::new(filters, Some(NOON), None).unwrap();
    let said = question(&pack);
    let rest = "session s-11; outcome refuse; logged from 2026-11-23T12:00:00.000000Z on.";
    assert_eq!(
        said,
        format!("What was asked for: records of acme: actor \"x; outcome approve\"; {rest}")
    );
}

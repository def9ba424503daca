//! What a result must not pass over: records that nobody can tell of, keys that nobody used, entries
//! that are damaged, promises that are withheld.

use countersign_core::codes::Code;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::kinds::Kind;
use countersign_core::pack::{Given, Manifest, PackCheck, PackFile, PackReport, Want, Weight};
use countersign_core::query::{Field, Filter, Query};
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use serde_json::json;

use super::erased::{erase, wipe};
use super::scene::Scene;
use super::stage::{Pack, sign_head, verdict};

/// Shows everything of a record but this field.
pub(super) fn withhold(scene: &mut Scene, index: usize, name: &str) {
    let row = &mut scene.log.rows[index];
    let at = row.record.kind().fields().iter().position(|field| field.name == name).unwrap();
    row.disclosed.fields[at] = row.disclosed.fields[at].withheld();
}

/// What was found, but for the warning that globex's stream is not shown, which all of them have.
fn found(report: &PackReport) -> Vec<(Weight, Code)> {
    let all = report.findings.iter().map(|finding| (finding.weight, finding.fault.code));
    all.filter(|(_, code)| *code != Code::PackStreamUnshown).collect()
}

/// Everything of the first gate's key, asked for by agent.
fn by_actor(scene: &Scene) -> PackReport {
    let mut pack = scene.pack(0);
    let filter = |field, value| Filter::new(field, value).unwrap();
    let filters = vec![filter(Field::Actor, "infra-agent-7"), filter(Field::Outcome, "refuse")];
    pack.manifest.asked.query = Query::new(filters, None, None).unwrap();
    pack.check(&scene.world.trust())
}

/// PACK-27: "exactly these" is not said while a record that may be one of them shows nothing.
#[test]
fn a_record_that_may_have_been_asked_for_is_counted_and_not_passed_over() {
    let mut scene = Scene::new();
    let (refusal, void) = (scene.refusal, scene.void);
    let whole = by_actor(&scene);
    assert_eq!((whole.result, found(&whole)), (Verdict::Valid, Vec::new()));
    let said = whole.statement(9).join(" ");
    assert!(said.contains(&format!("What was asked for matches: {refusal}, {void}.")), "{said}");

    withhold(&mut scene, refusal, "actor");
    // An approve is no refusal, whoever asked for it: it can be told.
    let approve = scene.approve;
    withhold(&mut scene, approve, "actor");
    scene.log.settle();
    let report = by_actor(&scene);
    assert_eq!(report.result, Verdict::Indeterminate);
    assert_eq!(found(&report), [(Weight::Doubt, Code::PackMatchWithheld)]);
    assert_eq!(report.findings[0].place.index, Some(refusal as u64));
    let said = report.statement(9).join(" ");
    for part in [
        format!("matches at least: {void}."),
        format!(
            "Of 1 record more this can't be told, since what would tell is withheld or \
                 erased: {refusal}."
        ),
    ] {
        assert!(said.contains(&part), "{said}");
    }
    let complete = report.complete.unwrap();
    assert_eq!(
        (complete.matching.unwrap(), complete.untold),
        (vec![void as u64], vec![refusal as u64])
    );
}

/// What the tenant erased nobody holds back: the statement stays, and says what it can't tell.
#[test]
fn an_erased_record_that_may_have_been_asked_for_is_a_warning() {
    let mut scene = Scene::new();
    let carol = scene.world.person("tenant-admin", "carol");
    let refusal = scene.refusal;
    wipe(&mut scene, refusal);
    erase(&mut scene, &refusal.to_string(), &carol, "carol");
    let report = by_actor(&scene);
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    assert_eq!(found(&report), [(Weight::Warning, Code::PackMatchWithheld)]);
    assert_eq!(report.by_code[&(Weight::Warning, Code::PackMatchWithheld)], 1);
    assert!(report.statement(9).join(" ").contains("at least"));
    assert_eq!(report.complete.unwrap().untold, [refusal as u64]);
}

/// A misspelt key, or one of another gate, has no refusals either.
#[test]
fn a_key_that_nobody_used_is_no_key_without_refusals() {
    let mut scene = Scene::new();
    let stranger = scene.world.gate("acme", "prod-9");
    let pack = |scene: &Scene| {
        let gates = [&scene.gate, &stranger];
        let pack = scene.log.complete(&scene.world, &gates, [0, scene.log.size()]);
        pack.check(&scene.world.trust())
    };
    let report = pack(&scene);
    assert_eq!(report.result, Verdict::Indeterminate);
    assert_eq!(found(&report), [(Weight::Doubt, Code::PackKeyUnseen)]);
    assert_eq!(report.complete.as_ref().unwrap().unseen, [stranger.claim()]);
    assert!(report.statement(9).join(" ").contains("Of gate key prod-9"));
    // Opened, it may well have said nothing.
    scene.log.open(&scene.world, &stranger);
    scene.log.settle();
    let report = pack(&scene);
    assert_eq!(report.result, Verdict::Valid, "{:#?}", report.findings);
    assert!(report.complete.unwrap().unseen.is_empty());
    // Before the range it has records, and none in it: its opening is enough.
    let late = scene.log.size() - 1;
    let other = &scene.other;
    let report = scene.log.complete(&scene.world, &[other], [late, scene.log.size()]);
    assert_eq!(report.check(&scene.world.trust()).result, Verdict::Valid);
}

/// PACK-8 and PACK-21: a damaged file is no ledger that lies.
#[test]
fn entries_that_are_not_the_logs_are_called_so_and_nothing_is_read_from_them() {
    let scene = Scene::new();
    let trust = scene.world.trust();
    let at = scene.approve * ENTRY_BYTES;
    // Version, kind, time, stream, number, seal.
    for byte in [0, 1, 9, 12, 33, 65] {
        let mut pack = scene.pack(0);
        pack.files.get_mut(&PackFile::Entries).unwrap()[at + byte] ^= 1;
        let report = pack.check(&trust);
        assert_eq!(found(&report), [(Weight::Fault, Code::PackFileHash)], "byte {byte}");
        let bytes = pack.files[&PackFile::Entries].clone();
        pack.put(PackFile::Entries, bytes);
        let report = pack.check(&trust);
        assert_eq!(found(&report), [(Weight::Fault, Code::PackEntriesRoot)], "byte {byte}");
    }
}

/// Hands over a pack and counts the bytes of entries that were asked for.
fn asked_for_entries(pack: &Pack, trust: &Trust, length: Option<u64>) -> (usize, PackReport) {
    let manifest = Manifest::parse(&pack.manifest.to_bytes()).unwrap();
    let mut check = PackCheck::new(manifest, Some(trust));
    let mut read = 0;
    while let Some(want) = check.want() {
        match want {
            Want::File(file) => {
                check.give(pack.files.get(&file).map_or(Given::Absent, |b| Given::Bytes(b)));
            }
            Want::Entries(_) if read == 0 && length.is_some() => {
                check.entries_length(length.unwrap());
                read = 1;
            }
            Want::Entries(count) => {
                read += count;
                check.give(Given::Bytes(&vec![0; count]));
                assert!(read < 1 << 24, "it is read without end");
            }
        }
    }
    (read, check.finish())
}

/// Zeros without end, which take no room on a disk, were read for hours.
#[test]
fn entries_that_nothing_can_be_held_against_are_not_read() {
    let scene = Scene::new();
    let trust = scene.world.trust();
    let size = scene.log.size();
    let mut pack = scene.pack(0);
    // The manifest may claim any size, as long as no head of it has to verify.
    let far = 1 << 52;
    let note = pack.files[&PackFile::Head(size)].clone();
    pack.put(PackFile::Head(far), note);
    pack.manifest.head.0 = far;
    pack.manifest.claims.as_mut().unwrap().to.0 = far;
    let (read, report) = asked_for_entries(&pack, &trust, None);
    assert_eq!(read, 0);
    assert!(found(&report).contains(&(Weight::Fault, Code::PackHeadName)));
    // A file of another length than the range asks for is not begun.
    let pack = scene.pack(0);
    let right = size * ENTRY_BYTES as u64;
    for length in [0, right - 1, right + 66, u64::MAX] {
        let (read, report) = asked_for_entries(&pack, &trust, Some(length));
        assert_eq!(read, 1, "{length}");
        assert_eq!(found(&report), [(Weight::Fault, Code::PackEntriesLength)], "{length}");
    }
    assert!(asked_for_entries(&pack, &trust, Some(right)).0 > 1);
}

/// PACK-28: a gate that fell silent can't be covered by withholding what it promised.
#[test]
fn a_promise_that_is_withheld_is_no_promise_kept() {
    for name in ["detail", "about"] {
        let mut scene = Scene::new();
        let heartbeat = scene.heartbeat;
        withhold(&mut scene, heartbeat, name);
        scene.log.now.0 += 3_600_000_000;
        scene.log.say(&mut scene.other, Kind::Verdict, &verdict(20, "refuse", &json!({})));
        scene.log.settle();
        let report = scene.pack(0).check(&scene.world.trust());
        assert_eq!(report.result, Verdict::Valid);
        assert_eq!(found(&report), [(Weight::Warning, Code::GatePromiseWithheld)], "{name}");
        assert_eq!(report.findings.last().unwrap().place.index, Some(heartbeat as u64));
        assert_eq!(report.complete.unwrap().unbounded, 1);
    }
}

#[test]
fn a_clock_past_the_last_year_that_has_a_text_is_not_said_to_be_in_it() {
    let scene = Scene::new();
    let size = scene.log.size();
    let mut pack = scene.pack(0);
    let root = scene.log.head(&scene.world, size).root;
    let head = sign_head(&scene.world, size, &root, 253_402_300_800);
    pack.put(PackFile::Head(size), head.as_str().as_bytes().to_vec());
    for index in pack.files.keys().copied().collect::<Vec<_>>() {
        if let PackFile::Evidence(index) = index {
            pack.evidence(&scene.log, &scene.world, usize::try_from(index).unwrap());
        }
    }
    let said = pack.check(&scene.world.trust()).statement(9).join(" ");
    assert!(said.contains("signed at a time after the year 9999:"), "{said}");
    assert!(!said.contains("9999-12-31"), "{said}");
}

/// What people read in a pack is hashed, and nobody checked a word of it.
#[test]
fn what_is_there_for_people_is_said_to_be_unread() {
    let scene = Scene::new();
    let mut pack = scene.pack(0);
    let limits = |pack: &Pack| pack.check(&scene.world.trust()).limits().join("\n");
    assert!(limits(&pack).contains("README.txt: for people."));
    pack.put(PackFile::Report, b"<p>no refusals</p>".to_vec());
    assert!(limits(&pack).contains("README.txt and report.html: for people."));
}

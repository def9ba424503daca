//! Single defects, generated and named by their attack: each is called by its code, none is VALID.
//! What the dishonest sign again is in `lying.rs`.

mod evidence;
mod files;

use std::collections::BTreeSet;

use countersign_core::codes::Code;
use countersign_core::pack::PackFile;
use countersign_core::verify::{Verdict, verify_file};

use super::scene::Scene;

/// What an attack must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// Proved wrong, by this code.
    Invalid(Code),
    /// By the format nothing is proved wrong: what would tell is unknown, absent or withheld.
    Indeterminate(Code),
}

/// The name of an attack, the file that it makes, and what this must come to.
pub(super) type Attack = (String, Vec<u8>, Expect);

#[test]
fn every_defect_of_an_evidence_file_is_called_by_its_code() {
    let scene = Scene::new();
    let trust = scene.world.trust();
    let good = scene.log.evidence(&scene.world, scene.release, scene.log.size()).to_bytes();
    assert_eq!(verify_file(&good, Some(&trust)).result, Verdict::Valid);
    let attacks = evidence::attacks(&scene, &good);
    let names: BTreeSet<&str> = attacks.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names.len(), attacks.len(), "each has a name of its own");
    let mut wrong = Vec::new();
    for (name, bytes, expect) in &attacks {
        assert_ne!(*bytes, good, "{name} changes something");
        let report = verify_file(bytes, Some(&trust));
        let code = report.decisive().map(|finding| finding.fault.code);
        let found = match (report.result, code) {
            (Verdict::Invalid, Some(code)) => Some(Expect::Invalid(code)),
            (Verdict::Indeterminate, Some(code)) => Some(Expect::Indeterminate(code)),
            _ => None,
        };
        if found != Some(*expect) {
            wrong.push(format!("{name}: {found:?}, expected {expect:?}"));
        }
        // Nor is it ever VALID in a pack whose maker lists it.
        let mut pack = scene.pack(0);
        pack.put(PackFile::Evidence(scene.release as u64), bytes.clone());
        assert_ne!(pack.check(&trust).result, Verdict::Valid, "{name} in a pack");
        assert_ne!(verify_file(bytes, None).result, Verdict::Valid, "{name} without trust");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
    assert!(attacks.len() >= 400, "{} attacks", attacks.len());
}

#[test]
fn every_defect_of_a_pack_is_called_by_its_code() {
    let scene = Scene::new();
    let trust = scene.world.trust();
    let attacks = files::attacks(&scene);
    let names: BTreeSet<&str> = attacks.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names.len(), attacks.len(), "each has a name of its own");
    let mut wrong = Vec::new();
    for (name, pack, code) in &attacks {
        let report = pack.check(&trust);
        let codes: BTreeSet<Code> = report.findings.iter().map(|found| found.fault.code).collect();
        if report.result != Verdict::Invalid || !codes.contains(code) {
            wrong.push(format!("{name}: {:?} {codes:?}, expected {code:?}", report.result));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
    assert!(attacks.len() >= 150, "{} attacks", attacks.len());
}

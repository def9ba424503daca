//! The binding vectors of the formats: every file as it must come out, and every intermediate hash
//! of `values.json` made again by our own builders.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that indexes wrongly fails as it should"
)]

use std::fs;
use std::path::{Path, PathBuf};

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{from_hex_array, hex};
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::kinds::Kind;
use countersign_core::merkle::CompactRange;
use countersign_core::note::SignedCheckpoint;
use countersign_core::receipt::ConsistencyProof;
use countersign_core::record::{Field, FullRecord};
use countersign_core::seal::SealedBatch;
use countersign_core::trust::Trust;
use countersign_core::verify::{Report, Verdict, verify_file};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).expect(name)
}

fn text(name: &str) -> String {
    String::from_utf8(read(name)).expect(name)
}

fn trust() -> Trust {
    Trust::parse(&text("trust.toml"), |name| {
        fs::read_to_string(folder().join(name)).map_err(|_| Fault::from(Code::TrustMalformed))
    })
    .expect("trust")
}

fn report(name: &str) -> Report {
    verify_file(&read(name), Some(&trust()))
}

#[test]
fn every_vector_comes_out_as_its_name_says() {
    for name in [
        "refusal",
        "approval",
        "supervise-three-withheld",
        "genesis",
        "stream-opened",
        "human-approval",
        "approve-after-supervise",
    ] {
        let report = report(&format!("{name}.evidence"));
        assert_eq!(report.result, Verdict::Valid, "{name}: {:?}", report.decisive());
        assert_eq!(report.steps, (1..=11).collect::<Vec<u8>>(), "{name}");
        assert!(report.not_checked.contains(&"witnesses".to_owned()), "{name}");
    }
    for (name, code) in [
        ("indeterminate-no-supporting", Code::SupportingAbsent),
        ("indeterminate-outcome-withheld", Code::NeverWithheld),
    ] {
        let report = report(&format!("{name}.evidence"));
        assert_eq!(report.result, Verdict::Indeterminate, "{name}");
        assert_eq!(report.decisive().expect(name).fault.code, code, "{name}");
    }
    let withheld = report("supervise-three-withheld.evidence").not_checked;
    assert_eq!(withheld.iter().filter(|n| n.starts_with("field:")).count(), 3);
    let tampered = report("tampered-refusal.evidence");
    let finding = tampered.decisive().expect("finding");
    assert_eq!((tampered.result, finding.step), (Verdict::Invalid, 3));
    assert_eq!(finding.fault.code, Code::SealSignature);
}

#[test]
fn nothing_is_valid_without_trust() {
    let report = verify_file(&read("refusal.evidence"), None);
    assert_eq!(report.result, Verdict::Indeterminate);
    assert_eq!(report.decisive().expect("finding").fault.code, Code::NoTrust);
    let report = verify_file(&read("tampered-refusal.evidence"), None);
    assert_eq!(report.result, Verdict::Invalid);
}

/// Any changed byte of what is bound makes a file invalid, and none makes it valid anew. Bytes of
/// JSON's own spacing, and of signature lines that become unknown, are not bound.
#[test]
fn no_flipped_bit_of_record_seal_or_entry_stays_valid() {
    let evidence = Evidence::parse(&read("refusal.evidence")).expect("evidence");
    let trust = trust();
    let verdict =
        |evidence: &Evidence| countersign_core::verify::verify(evidence, Some(&trust)).result;
    assert_eq!(verdict(&evidence), Verdict::Valid);
    for at in 0..evidence.record.fields.len() {
        let mut changed = evidence.clone();
        let Field::Shown(bytes) = &mut changed.record.fields[at] else { panic!("shown") };
        let end = bytes.len() - 2;
        let last = bytes.as_bytes()[end];
        bytes.replace_range(end..=end, if last == b'0' { "1" } else { "0" });
        assert_eq!(verdict(&changed), Verdict::Invalid, "field {at}");
    }
    for bit in 0..evidence.entry.len() * 8 {
        let mut changed = evidence.clone();
        changed.entry[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(verdict(&changed), Verdict::Valid, "entry bit {bit}");
    }
    for bit in 0..512 {
        let mut changed = evidence.clone();
        changed.seal.signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verdict(&changed), Verdict::Invalid, "signature bit {bit}");
    }
    for hash in 0..evidence.receipt.path.len() {
        let mut changed = evidence.clone();
        changed.receipt.path[hash][0] ^= 1;
        assert_eq!(verdict(&changed), Verdict::Invalid, "path {hash}");
        let mut changed = evidence.clone();
        changed.receipt.path.remove(hash);
        assert_eq!(verdict(&changed), Verdict::Invalid, "path without {hash}");
        let mut changed = evidence.clone();
        changed.receipt.path.insert(hash, [0; 32]);
        assert_eq!(verdict(&changed), Verdict::Invalid, "path with more at {hash}");
    }
}

#[test]
fn an_approve_needs_each_of_its_supporting_records() {
    let evidence = Evidence::parse(&read("approve-after-supervise.evidence")).expect("evidence");
    let trust = trust();
    for at in 0..evidence.supporting.len() {
        let mut changed = evidence.clone();
        changed.supporting.remove(at);
        let report = countersign_core::verify::verify(&changed, Some(&trust));
        assert_eq!(report.result, Verdict::Indeterminate, "without {at}");
    }
    let mut twice = evidence.clone();
    twice.supporting.push(evidence.supporting[0].clone());
    let report = countersign_core::verify::verify(&twice, Some(&trust));
    assert_eq!(report.decisive().expect("finding").fault.code, Code::SupportingDuplicate);
}

#[test]
fn files_round_trip() {
    for entry in fs::read_dir(folder()).expect("vectors") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|e| e == "evidence") {
            let evidence = Evidence::parse(&fs::read(&path).expect("file")).expect("evidence");
            assert_eq!(Evidence::parse(&evidence.to_bytes()).as_ref(), Ok(&evidence), "{path:?}");
        }
    }
    let proof = text("3-8.proof");
    assert_eq!(ConsistencyProof::parse(&proof).expect("proof").to_string(), proof);
}

#[test]
fn the_two_heads_are_consistent() {
    let note = |name: &str| SignedCheckpoint::parse(&text(name)).expect(name);
    let (old, new) = (note("00000000000000000003.note"), note("00000000000000000008.note"));
    let proof = ConsistencyProof::parse(&text("3-8.proof")).expect("proof");
    proof.verify(&old, &new).expect("consistent");
    assert!(proof.verify(&new, &old).is_err());
    for note in [&old, &new] {
        note.verify_log(&trust().logs[0].vkey).expect("log");
        let clock = &trust().logs[0].clocks[0];
        assert!(note.cosigned_at(clock, Code::ClockSignature).expect("clock").is_some());
    }
}

#[test]
fn our_builders_make_the_same_hashes() {
    let values: Value = serde_json::from_slice(&read("values.json")).expect("values");
    for kind in Kind::ALL {
        let names: Vec<&str> = kind.fields().iter().map(|f| f.name).collect();
        let listed = values["names"][kind.as_str()].as_array().expect("a list of names");
        assert_eq!(listed, &names, "{kind:?}");
    }
    // The refusal, from its seed and values.
    let refusal = &values["refusal"];
    let seed: [u8; 32] = Sha256::digest(b"countersign vector salt seed verdict 0").into();
    assert_eq!(hex(&seed), refusal["salt_seed"]);
    let evidence = Evidence::parse(&read("refusal.evidence")).expect("evidence");
    let texts: Vec<String> = evidence
        .record
        .fields
        .iter()
        .zip(Kind::Verdict.fields())
        .map(|(field, spec)| {
            let Field::Shown(bytes) = field else { panic!("shown") };
            bytes[1 + 24 + 1 + spec.name.len() + 2 + 1..bytes.len() - 1].to_owned()
        })
        .collect();
    let record = FullRecord::parse(Kind::Verdict, seed, texts).expect("record");
    assert_eq!(record.disclose(), evidence.record);
    assert_eq!(record.root().hex(), refusal["record_root"]);
    assert_eq!(record.build_root().expect("built").hex(), refusal["record_root"]);
    let digest = countersign_core::action::digest(record.view()).expect("digest").expect("shown");
    assert_eq!(hex(&digest), refusal["action_digest"]);
    // Its seal: a batch of one to three, made again with the gate's key.
    let gate: [u8; 32] = Sha256::digest(b"countersign vector key gate").into();
    let key = ed25519_dalek::SigningKey::from_bytes(&gate);
    let batch: Vec<_> = values["record_roots"]
        .as_array()
        .expect("roots")
        .iter()
        .skip(2)
        .take(evidence.seal.size as usize)
        .map(|root| {
            let root = from_hex_array(root.as_str().expect("hex")).expect("root");
            countersign_core::hash::RecordRoot(root)
        })
        .collect();
    let batch = SealedBatch::seal(&key, batch).expect("seal");
    batch.verify().expect("verifies");
    assert_eq!(batch.seal_of(evidence.seal.index).expect("seal"), evidence.seal);
    assert_eq!(batch.sealed(&record.root()).hex(), refusal["sealed"]);
    // Entries, leaves and root.
    let mut range = CompactRange::new();
    let entries = values["entries"].as_array().expect("entries");
    for (entry, leaf) in entries.iter().zip(values["leaf_hashes"].as_array().expect("leaves")) {
        let bytes: [u8; 66] = from_hex_array(entry.as_str().expect("hex")).expect("entry");
        let entry = Entry::from_bytes(&bytes).expect("entry");
        assert_eq!(entry.to_bytes(), bytes);
        assert_eq!(entry.leaf().hex(), *leaf);
        range.append(&entry.leaf());
    }
    assert_eq!(range.root().hex(), values["log_root"]);
}

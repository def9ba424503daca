//! `replay` as a person or a script runs it. The vectors of spec/ were made by an engine of their
//! own, under no policy that exists, so that nothing of them comes out the same.
#![cfg(feature = "replay")]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn policies() -> String {
    let pack = root().join("crates/countersign-gate/packs/infrastructure");
    pack.to_str().unwrap().to_owned()
}

fn replay(files: &[&str], more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign-verify"))
        .current_dir(root().join("spec/vectors"))
        .arg("replay")
        .args(files)
        .args(more)
        .output()
        .unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_last_line_is_the_result_of_evidence_and_replay() {
    let policies = policies();
    let with = ["--policies", policies.as_str(), "--trust", "trust.toml"];
    for (files, code, line) in [
        (&["refusal.evidence"][..], 3, "RESULT INDETERMINATE REPLAY_OTHER_POLICY"),
        (&["tampered-refusal.evidence"], 1, "RESULT INVALID step 3 SEAL_SIGNATURE"),
        (
            &["refusal.evidence", "tampered-refusal.evidence"],
            1,
            "RESULT INVALID step 3 SEAL_SIGNATURE",
        ),
        (&["stream-opened.evidence"], 3, "RESULT INDETERMINATE REPLAY_NOT_A_VERDICT"),
        (&["absent.evidence"], 4, "RESULT INDETERMINATE"),
        (&[], 3, "RESULT INDETERMINATE"),
    ] {
        let output = replay(files, &with);
        let out = said(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{files:?}: {out}");
        assert_eq!(out.lines().last(), Some(line), "{files:?}: {out}");
    }
    // Without trust nothing is ever VALID, whatever the replay says.
    let output = replay(&["refusal.evidence"], &["--policies", &policies]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_program_gets_one_object_with_the_replay_in_it() {
    let policies = policies();
    let with = ["--policies", &policies, "--trust", "trust.toml", "--output", "json"];
    let output = replay(&["refusal.evidence"], &with);
    let report: serde_json::Value = serde_json::from_str(&said(&output.stdout)).unwrap();
    assert_eq!(report["result"], "INDETERMINATE");
    let file = report["files"].get(0).unwrap();
    assert_eq!(file["result"], "VALID", "the evidence itself is proved");
    assert_eq!(file["replay"]["result"], "OTHER_POLICY");
}

#[test]
fn policies_that_are_none_are_wrong_usage() {
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().to_str().unwrap();
    let output = replay(&["refusal.evidence"], &["--policies", folder, "--trust", "trust.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output.stderr).contains("holds no policy version"), "{}", said(&output.stderr));
    let output = replay(&["refusal.evidence"], &["--policies", "absent", "--trust", "trust.toml"]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(replay(&["refusal.evidence"], &[]).status.code(), Some(2), "--policies is needed");
}

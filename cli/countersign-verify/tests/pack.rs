//! `countersign-verify pack`: a pack as an auditor verifies it, and folders that somebody hostile
//! made.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that indexes wrongly fails as it should"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use countersign_core::disclose::Selection;
use countersign_core::evidence::Evidence;
use countersign_core::hash::sha256;
use countersign_core::pack::{Manifest, PackFile};
use countersign_core::query::{Field, Filter, Query};
use serde_json::Value;
use tempfile::TempDir;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn run(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign-verify"))
        .current_dir(vectors())
        .env_remove("COUNTERSIGN_TRUST")
        .arg("pack")
        .arg(dir)
        .args(more)
        .output()
        .expect("the verifier runs")
}

const TRUST: &[&str] = &["--trust", "pack-trust.toml"];

fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), last)
}

/// A copy of the pack, to be changed.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = vectors().join("pack");
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        std::fs::create_dir_all(dir.path().join(&folder)).unwrap();
        for entry in std::fs::read_dir(from.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                std::fs::copy(from.join(&path), dir.path().join(&path)).unwrap();
            }
        }
    }
    dir
}

/// What somebody does to the folder.
type Change = fn(&Path);

const REFUSAL: &str = "evidence/00000000000000000006.evidence";

#[test]
fn a_whole_pack_is_valid_and_says_what_it_proves() {
    let output = run(&vectors().join("pack"), TRUST);
    let last = "RESULT VALID with warning PACK_STREAM_UNSHOWN (1)".to_owned();
    assert_eq!(said(&output), (0, last));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "What was asked for: all records of acme.",
        "These are exactly acme's records from gate keys prod-1 ",
        ": 11 records. The first is seq 1 at index 5: the one before it has root ",
        "; it promises not to be silent for longer than 60 seconds.",
        "Warning, index 7, stream ",
        "as logged by head 19",
        "The refusals are exactly: 6, 16.",
        "Erased, by the tenant's own word, with proofs and place kept: 6.",
        "actor of a verdict is withheld, so that the action digest is the action's",
        "Limit: Gate prod-2 of the same tenant opened a stream",
        "Limit: What refers to records before index 5",
        "Limit: README.txt: for people.",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(output.stderr.is_empty(), "nobody watches, so nothing moves");
    assert_eq!(
        said(&run(&vectors().join("pack"), &[])),
        (
            3,
            "RESULT INDETERMINATE NO_TRUST heads/00000000000000000019.note with warning \
             PACK_STREAM_UNSHOWN (1)"
                .to_owned()
        )
    );
}

#[test]
fn the_json_report_is_one_object_with_the_members_of_its_schema() {
    let schema = std::fs::read_to_string(vectors().join("../pack-report.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let required = |schema: &Value| -> Vec<String> {
        let names = schema["required"].as_array().unwrap().iter();
        let mut names: Vec<String> = names.map(|n| n.as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    let members = |value: &Value| -> Vec<String> {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        names
    };
    let dir = copy();
    std::fs::remove_file(dir.path().join(REFUSAL)).unwrap();
    let json = [TRUST, &["--output", "json"]].concat();
    for (path, result) in [(vectors().join("pack"), "VALID"), (dir.path().to_owned(), "INVALID")] {
        let output = run(&path, &json);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["result"], result);
        assert_eq!(members(&report), required(&schema));
        let properties = &schema["properties"];
        assert_eq!(members(&report["records"]), required(&properties["records"]));
        // PACK-32: what an invalid pack claims is not repeated.
        let claimed = &report["complete"];
        assert_eq!(claimed.is_null(), result == "INVALID");
        if !claimed.is_null() {
            assert_eq!(members(claimed), required(&properties["complete"]));
        }
        for finding in report["findings"].as_array().unwrap() {
            assert_eq!(members(finding), required(&properties["findings"]["items"]));
        }
    }
}

#[test]
fn a_changed_folder_is_refused_by_name() {
    let changes: &[(&str, Change, i32, &str)] = &[
        ("removed", |dir| std::fs::remove_file(dir.join(REFUSAL)).unwrap(), 1, "PACK_FILE_MISSING"),
        ("changed", |dir| std::fs::write(dir.join(REFUSAL), "{}").unwrap(), 1, "PACK_FILE_HASH"),
        ("added", |dir| std::fs::write(dir.join("notes.txt"), "x").unwrap(), 1, "PACK_UNLISTED"),
        ("in a folder", |d| std::fs::write(d.join("evidence/x"), "").unwrap(), 1, "PACK_UNLISTED"),
        ("a folder", |dir| std::fs::create_dir(dir.join("more")).unwrap(), 1, "PACK_FILE_KIND"),
        (
            "a folder inside",
            |dir| {
                std::fs::create_dir(dir.join("heads/more")).unwrap();
            },
            1,
            "PACK_FILE_KIND",
        ),
        (
            "manifest changed",
            |dir| {
                std::fs::write(dir.join("manifest.json"), "{}").unwrap();
            },
            1,
            "PACK_MANIFEST manifest.json",
        ),
        (
            "a later version",
            |dir| {
                let text = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
                std::fs::write(dir.join("manifest.json"), text.replace("pack/v1", "pack/v2"))
                    .unwrap();
            },
            3,
            "VERSION_UNKNOWN manifest.json",
        ),
        (
            "no manifest",
            |dir| {
                std::fs::remove_file(dir.join("manifest.json")).unwrap();
            },
            4,
            "nothing was verified",
        ),
        (
            "manifest is a folder",
            |dir| {
                std::fs::remove_file(dir.join("manifest.json")).unwrap();
                std::fs::create_dir(dir.join("manifest.json")).unwrap();
            },
            4,
            "nothing was verified",
        ),
    ];
    for (name, change, code, last) in changes {
        let dir = copy();
        change(dir.path());
        let (exit, line) = said(&run(dir.path(), TRUST));
        assert_eq!(exit, *code, "{name}: {line}");
        assert!(line.contains(last), "{name}: {line}");
    }
    assert_eq!(said(&run(Path::new("absent"), TRUST)).0, 4);
}

#[cfg(unix)]
#[test]
fn nothing_hostile_is_followed_waited_for_or_printed_as_it_is() {
    let cases: &[(&str, Change)] = &[
        ("a link out of the folder", |dir| {
            std::fs::remove_file(dir.join(REFUSAL)).unwrap();
            std::os::unix::fs::symlink(vectors().join("pack").join(REFUSAL), dir.join(REFUSAL))
                .unwrap();
        }),
        ("a linked folder", |dir| {
            std::fs::remove_dir_all(dir.join("heads")).unwrap();
            std::os::unix::fs::symlink(vectors().join("pack/heads"), dir.join("heads")).unwrap();
        }),
        ("a pipe", |dir| {
            std::fs::remove_file(dir.join(REFUSAL)).unwrap();
            let made = Command::new("mkfifo").arg(dir.join(REFUSAL)).status().unwrap();
            assert!(made.success());
        }),
    ];
    for (name, change) in cases {
        let dir = copy();
        change(dir.path());
        let (exit, line) = said(&run(dir.path(), TRUST));
        assert_eq!(exit, 1, "{name}");
        assert!(line.contains("PACK_FILE_KIND"), "{name}: {line}");
    }
    // Terabytes that take no room on the disk are not read.
    let dir = copy();
    let file = std::fs::File::create(dir.path().join(REFUSAL)).unwrap();
    file.set_len(1 << 40).unwrap();
    let (exit, line) = said(&run(dir.path(), TRUST));
    assert_eq!((exit, line.contains("PACK_OVERSIZED")), (1, true), "{line}");
    let dir = copy();
    std::fs::write(dir.path().join("a\u{202e}\u{1b}[2Jb"), "").unwrap();
    let output = run(dir.path(), TRUST);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("a\\u{202e}\\u{1b}[2Jb"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn a_folder_of_many_strangers_ends_soon() {
    let dir = copy();
    for at in 0..3_000 {
        std::fs::write(dir.path().join(format!("heads/{at}")), "").unwrap();
    }
    // A flood of one kind is counted, and hides nothing else.
    std::fs::remove_file(dir.path().join(REFUSAL)).unwrap();
    let text = String::from_utf8(run(dir.path(), TRUST).stdout).unwrap();
    assert_eq!(text.matches("PACK_UNLISTED").count(), 5, "three, the rest, the last line: {text}");
    assert!(text.contains("Fault: PACK_UNLISTED 997 times more, 1000 in all;"), "{text}");
    assert!(text.contains("Fault: PACK_FILE_MISSING 1 times, which no list has."), "{text}");
    let output = run(dir.path(), &[TRUST, &["--output", "json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["code"]), (Some(1), &"PACK_UNLISTED".into()));
    assert_eq!(report["counts"]["faults"], 1_001, "enough of them is enough");
    let codes = report["codes"].as_array().unwrap();
    let missing = codes.iter().find(|code| code["code"] == "PACK_FILE_MISSING").unwrap();
    assert_eq!((&missing["weight"], &missing["count"]), (&"fault".into(), &1.into()));
}

#[test]
fn what_is_no_pack_is_said_to_be_none() {
    let said = |dir: &Path| String::from_utf8(run(dir, TRUST).stderr).unwrap();
    let dir = copy();
    assert!(said(&dir.path().join("absent")).contains("absent does not exist."));
    assert!(said(&dir.path().join("manifest.json")).contains("manifest.json is no folder."));
    std::fs::remove_file(dir.path().join("manifest.json")).unwrap();
    let text = said(dir.path());
    assert!(text.contains("holds no manifest.json, and so is no pack."), "{text}");
}

/// Terabytes of entries that take no room on the disk are not read: their length tells.
#[test]
fn entries_of_another_length_are_not_read() {
    let dir = copy();
    let path = dir.path().join("entries.bin");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(1 << 42).unwrap();
    let expected = "RESULT INVALID PACK_ENTRIES_LENGTH entries.bin".to_owned();
    assert_eq!(said(&run(dir.path(), TRUST)), (1, expected.clone()));
    // Nor is one that is too short: its length is asked for before a byte is read.
    file.set_len(66).unwrap();
    assert_eq!(said(&run(dir.path(), TRUST)), (1, expected));
}

/// What a VALID pack can't tell stands in the last line: a record that may have been asked for, and
/// a promise that is withheld.
#[test]
fn warnings_are_printed_and_counted_in_the_last_line() {
    let dir = copy();
    let path = |name: &str| dir.path().join(name);
    let heartbeat = PackFile::Evidence(17);
    let bytes = std::fs::read(path(&heartbeat.to_string())).unwrap();
    let evidence = Evidence::parse(&bytes).unwrap();
    let less = evidence.withhold(&Selection::Withhold(&["detail"])).unwrap().to_bytes();
    std::fs::write(path(&heartbeat.to_string()), &less).unwrap();
    let mut manifest = Manifest::parse(&std::fs::read(path("manifest.json")).unwrap()).unwrap();
    manifest.files.insert(heartbeat, sha256(&less));
    let filter = |field, value| Filter::new(field, value).unwrap();
    let filters = vec![filter(Field::Actor, "infra-agent-7"), filter(Field::Outcome, "refuse")];
    manifest.asked.query = Query::new(filters, None, None).unwrap();
    std::fs::write(path("manifest.json"), manifest.to_bytes()).unwrap();
    let output = run(dir.path(), TRUST);
    let last = "RESULT VALID with warning PACK_STREAM_UNSHOWN (1), PACK_MATCH_WITHHELD (1), \
                GATE_PROMISE_WITHHELD (1)";
    assert_eq!(said(&output), (0, last.to_owned()));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "What was asked for: records of acme: actor infra-agent-7; outcome refuse.",
        "What was asked for matches at least: 16. Of 1 record more this can't be told",
        "Warning, index 6, stream ",
        "Warning, index 17, stream ",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

//! `countersign-verify mirror` and `alarm`: as an auditor runs them, and on folders that somebody
//! hostile made.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that indexes wrongly fails as it should"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const LOG: &str = "ff1469ae3b160bc7cd63c166ad88f3ede6b1a07be043e151ff2d49baf2e236e3";
const TRUST: &[&str] = &["--trust", "mirror-trust.toml"];

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn run(command: &str, path: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign-verify"))
        .current_dir(vectors())
        .env_remove("COUNTERSIGN_TRUST")
        .arg(command)
        .arg(path)
        .args(more)
        .output()
        .expect("the verifier runs")
}

fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), last)
}

/// A copy of the mirror, to be changed; and the log's folder in it.
fn copy() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let from = vectors().join("mirror");
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
    let log = dir.path().join(LOG);
    (dir, log)
}

#[test]
fn exit_code_and_last_line_say_the_result() {
    let whole = vectors().join("mirror");
    let valid = run("mirror", &whole, TRUST);
    assert_eq!(said(&valid), (0, "RESULT VALID".to_owned()));
    let text = String::from_utf8(valid.stdout).unwrap();
    assert!(text.contains("600 entries under the head of 600; 4 heads"), "{text}");
    let head = "heads/00000000000000000600.note";
    assert_eq!(
        said(&run("mirror", &whole, &[])),
        (3, format!("RESULT INDETERMINATE NO_TRUST {head}"))
    );
    // No folder of a log, no folder at all, and a file.
    let empty = tempfile::tempdir().unwrap();
    let nothing = "RESULT INDETERMINATE nothing was verified".to_owned();
    assert_eq!(said(&run("mirror", empty.path(), TRUST)), (3, nothing.clone()));
    assert_eq!(said(&run("mirror", Path::new("absent"), TRUST)), (4, nothing.clone()));
    assert_eq!(said(&run("mirror", Path::new("trust.toml"), TRUST)), (4, nothing));
    std::fs::create_dir(empty.path().join("0".repeat(64))).unwrap();
    let (code, line) = said(&run("mirror", empty.path(), TRUST));
    assert_eq!((code, line.as_str()), (3, "RESULT INDETERMINATE MIRROR_CHECKPOINT checkpoint"));
}

/// What somebody does to the log's folder.
type Change = fn(&Path);

#[test]
fn a_changed_folder_is_refused_by_name() {
    let changes: &[(&str, Change, i32, &str)] = &[
        (
            "entries",
            |log| flip(log, "tile/entries/001"),
            1,
            "INVALID MIRROR_BUNDLE tile/entries/001",
        ),
        ("tile", |log| flip(log, "tile/0/000"), 1, "INVALID MIRROR_TILE tile/0/000"),
        ("tile above", |log| flip(log, "tile/1/000.p/2"), 1, "INVALID MIRROR_TILE tile/1/000.p/2"),
        (
            "last entries",
            |log| flip(log, "tile/entries/002.p/88"),
            1,
            "INVALID MIRROR_BUNDLE tile/",
        ),
        (
            "removed",
            |log| remove(log, "tile/entries/000"),
            3,
            "INDETERMINATE MIRROR_FILE_MISSING tile/",
        ),
        ("no checkpoint", |log| remove(log, "checkpoint"), 3, "INDETERMINATE MIRROR_CHECKPOINT"),
        ("stray", |log| write(log, "tile/0/999", b"x"), 0, "VALID with warning MIRROR_FOREIGN (1)"),
        (
            "strays",
            |log| {
                write(log, "a.txt", b"");
                write(log, "tile/x/000", b"");
                write(log, "heads/8.note", b"");
                std::fs::create_dir(log.join("more")).unwrap();
            },
            0,
            "VALID with warning MIRROR_FOREIGN (4)",
        ),
        ("stopped", |log| write(log, "stopped", b"{}"), 0, "VALID with warning MIRROR_STOPPED (1)"),
        (
            "ours",
            |log| {
                std::fs::create_dir(log.join("state")).unwrap();
                write(log, "state/00000000000000000600.json", b"{}");
            },
            0,
            "RESULT VALID",
        ),
        (
            "alarm",
            |log| {
                std::fs::create_dir(log.join("alarms")).unwrap();
                std::fs::copy(vectors().join("alarm/fork.alarm"), log.join("alarms/fork.alarm"))
                    .unwrap();
            },
            1,
            "INVALID MIRROR_ALARM alarms/fork.alarm",
        ),
        (
            "a file for a folder",
            |log| {
                std::fs::remove_dir_all(log.join("tile/1")).unwrap();
                write(log, "tile/1", b"");
            },
            1,
            "INVALID MIRROR_FILE_KIND tile/1",
        ),
        (
            "a folder for a file",
            |log| {
                remove(log, "tile/0/000");
                std::fs::create_dir(log.join("tile/0/000")).unwrap();
            },
            1,
            "INVALID MIRROR_FILE_KIND tile/0/000",
        ),
    ];
    for (name, change, code, line) in changes {
        let (dir, log) = copy();
        change(&log);
        let (exit, last) = said(&run("mirror", dir.path(), TRUST));
        assert_eq!(exit, *code, "{name}: {last}");
        assert!(last.contains(line), "{name}: {last}");
    }
    // Under another log's name.
    let (dir, log) = copy();
    std::fs::rename(&log, dir.path().join("0".repeat(64))).unwrap();
    let (exit, last) = said(&run("mirror", dir.path(), TRUST));
    assert_eq!((exit, last.contains("INVALID MIRROR_ORIGIN checkpoint")), (1, true), "{last}");
}

fn flip(log: &Path, path: &str) {
    let mut bytes = std::fs::read(log.join(path)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(log.join(path), bytes).unwrap();
}

fn remove(log: &Path, path: &str) {
    std::fs::remove_file(log.join(path)).unwrap();
}

fn write(log: &Path, path: &str, bytes: &[u8]) {
    std::fs::create_dir_all(log.join(path).parent().unwrap()).unwrap();
    std::fs::write(log.join(path), bytes).unwrap();
}

#[cfg(unix)]
#[test]
fn nothing_hostile_is_followed_waited_for_or_printed_as_it_is() {
    let outside = |path: &str| vectors().join("mirror").join(LOG).join(path);
    for path in [
        "tile/entries/000",
        "tile/0/001",
        "tile/1/000.p/2",
        "tile/1",
        "heads",
        "tile",
        "checkpoint",
    ] {
        let (dir, log) = copy();
        let whole = log.join(path);
        if whole.is_dir() { std::fs::remove_dir_all(&whole) } else { std::fs::remove_file(&whole) }
            .unwrap();
        std::os::unix::fs::symlink(outside(path), &whole).unwrap();
        let (exit, last) = said(&run("mirror", dir.path(), TRUST));
        assert_eq!((exit, last.contains("MIRROR_FILE_KIND")), (1, true), "{path}: {last}");
    }
    for path in ["tile/entries/000", "heads/00000000000000000300.note", "checkpoint"] {
        let (dir, log) = copy();
        remove(&log, path);
        assert!(Command::new("mkfifo").arg(log.join(path)).status().unwrap().success());
        let (exit, last) = said(&run("mirror", dir.path(), TRUST));
        assert_eq!((exit, last.contains("MIRROR_FILE_KIND")), (1, true), "{path}: {last}");
    }
    // Terabytes that take no room on the disk are not read.
    let (dir, log) = copy();
    for path in ["tile/entries/000", "tile/0/000", "heads/00000000000000000300.note"] {
        std::fs::File::create(log.join(path)).unwrap().set_len(1 << 40).unwrap();
    }
    write(&log, "a\u{202e}\u{1b}[2Jb", b"");
    let output = run("mirror", dir.path(), TRUST);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("a\\u{202e}\\u{1b}[2Jb") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_later_run_goes_on_where_the_first_one_stopped() {
    let (dir, log) = copy();
    let state = dir.path().join("state.line");
    let resume = [TRUST, &["--resume", state.to_str().unwrap(), "--output", "json"]].concat();
    let resumed = |output: &Output| {
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (report["result"].as_str().unwrap().to_owned(), report["logs"][0]["resumed"].clone())
    };
    assert_eq!(resumed(&run("mirror", dir.path(), &resume)), ("VALID".to_owned(), 0.into()));
    assert!(state.exists());
    // What was verified is not read again: a change there is not seen, behind it one is.
    flip(&log, "tile/entries/000");
    assert_eq!(resumed(&run("mirror", dir.path(), &resume)), ("VALID".to_owned(), 512.into()));
    flip(&log, "tile/0/002.p/88");
    assert_eq!(resumed(&run("mirror", dir.path(), &resume)), ("INVALID".to_owned(), 512.into()));
    let before = std::fs::read(&state).unwrap();
    assert_eq!(run("mirror", dir.path(), TRUST).status.code(), Some(1));
    assert_eq!(std::fs::read(&state).unwrap(), before);
    // A damaged state is refused, and is not taken for a fault of the mirror.
    std::fs::write(&state, b"nonsense").unwrap();
    let output = run("mirror", dir.path(), &resume);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8(output.stderr).unwrap().contains("MIRROR_STATE"));
}

#[test]
fn the_json_report_has_the_members_of_its_schema() {
    let schema = std::fs::read(vectors().join("../mirror-report.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let required = |schema: &Value| {
        let names = schema["required"].as_array().unwrap().iter();
        sorted(names.map(|name| name.as_str().unwrap().to_owned()).collect())
    };
    let members = |value: &Value| sorted(value.as_object().unwrap().keys().cloned().collect());
    let (dir, log) = copy();
    flip(&log, "tile/0/000");
    let json = [TRUST, &["--output", "json"]].concat();
    for (path, result) in [(vectors().join("mirror"), "VALID"), (dir.path().to_owned(), "INVALID")]
    {
        let output = run("mirror", &path, &json);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["result"], members(&report)), (&result.into(), required(&schema)));
        let of_log = &schema["properties"]["logs"]["items"];
        let one = &report["logs"][0];
        assert_eq!(members(one), required(of_log));
        assert_eq!(members(&one["verified"]), required(&of_log["properties"]["verified"]));
        let finding = &of_log["properties"]["findings"]["items"];
        for found in one["findings"].as_array().unwrap() {
            assert_eq!(members(found), required(finding));
        }
        // MIRR-13: what an invalid mirror seems to hold is not said.
        assert_eq!(one["statement"].as_array().unwrap().is_empty(), result == "INVALID");
    }
    let absent = run("mirror", Path::new("absent"), &json);
    let report: Value = serde_json::from_slice(&absent.stdout).unwrap();
    assert_eq!((&report["code"], members(&report)), (&"UNREADABLE".into(), required(&schema)));
}

/// Nobody can misread which way an alarm points.
#[test]
fn an_alarm_says_what_it_proves_or_that_it_proves_nothing() {
    let alarm = |name: &str| vectors().join("alarm").join(name);
    let log = "ledger.example/mirrored";
    for kind in ["fork", "rewrite", "order", "stream", "gap"] {
        let output = run("alarm", &alarm(&format!("{kind}.alarm")), TRUST);
        assert_eq!(said(&output), (0, format!("RESULT VALID proves: {kind} by {log}")));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("This alarm is true: the log {log} misbehaved")), "{text}");
    }
    let output = run("alarm", &alarm("false-rewrite-that-joins.alarm"), TRUST);
    assert_eq!(said(&output), (1, "RESULT INVALID ALARM_JOINED: proves nothing".to_owned()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("This alarm proves nothing: it is no evidence against"), "{text}");
    let output = run("alarm", &alarm("fork.alarm"), &[]);
    assert_eq!(said(&output), (3, "RESULT INDETERMINATE NO_TRUST".to_owned()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("This alarm is not proved") && text.contains("if the log signed it"),
        "{text}"
    );
    let (exit, line) = said(&run("alarm", Path::new("absent.alarm"), TRUST));
    assert_eq!((exit, line.as_str()), (4, "RESULT INDETERMINATE nothing was verified"));
    // Many: the worst wins; true ones are all named.
    let (one, other, wrong) =
        (alarm("fork.alarm"), alarm("gap.alarm"), alarm("false-fork-unsigned.alarm"));
    let more = [TRUST, &[one.to_str().unwrap(), other.to_str().unwrap()]].concat();
    let line = format!("RESULT VALID proves: fork by {log}, gap by {log}");
    assert_eq!(said(&run("alarm", &one, &more)), (0, line));
    let line = "RESULT INVALID LOG_SIGNATURE_MISSING: proves nothing".to_owned();
    assert_eq!(said(&run("alarm", &wrong, &more)), (1, line));
    let json = [TRUST, &["--output", "json"]].concat();
    let report = |path: &Path| -> Value {
        let report: Value = serde_json::from_slice(&run("alarm", path, &json).stdout).unwrap();
        report["files"][0].clone()
    };
    assert_eq!((&report(&one)["proves"], &report(&one)["code"]), (&"fork".into(), &Value::Null));
    assert_eq!((&report(&wrong)["proves"], &report(&wrong)["shown"]), (&Value::Null, &Value::Null));
}

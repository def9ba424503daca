//! The verifier as a person or a script runs it.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that indexes wrongly fails as it should"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign-verify"))
        .current_dir(vectors())
        .env_remove("COUNTERSIGN_TRUST")
        .args(arguments)
        .output()
        .expect("the verifier runs")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn exit_code_and_last_line_say_the_result() {
    for (arguments, code, line) in [
        (&["evidence", "refusal.evidence", "--trust", "trust.toml"][..], 0, "RESULT VALID"),
        (
            &["evidence", "tampered-refusal.evidence", "--trust", "trust.toml"],
            1,
            "RESULT INVALID step 3 SEAL_SIGNATURE",
        ),
        (&["evidence", "refusal.evidence"], 3, "RESULT INDETERMINATE step 6 NO_TRUST"),
        (&["evidence", "--trust", "trust.toml"], 3, "RESULT INDETERMINATE"),
        (&["evidence", "absent.evidence", "--trust", "trust.toml"], 4, "RESULT INDETERMINATE"),
        (
            &[
                "evidence",
                "refusal.evidence",
                "tampered-refusal.evidence",
                "absent",
                "--trust",
                "trust.toml",
            ],
            1,
            "RESULT INVALID step 3 SEAL_SIGNATURE",
        ),
        (
            &[
                "consistency",
                "00000000000000000003.note",
                "00000000000000000008.note",
                "3-8.proof",
                "--trust",
                "trust.toml",
            ],
            0,
            "RESULT VALID",
        ),
        (
            &[
                "consistency",
                "00000000000000000008.note",
                "00000000000000000003.note",
                "3-8.proof",
                "--trust",
                "trust.toml",
            ],
            1,
            "RESULT INVALID CONSISTENCY_SIZES",
        ),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_eq!(last_line(&output), line, "{arguments:?}");
    }
    assert_eq!(run(&["evidence", "x", "--trust", "values.json"]).status.code(), Some(2));
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn a_trust_file_that_does_not_parse_is_named_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let good = std::fs::read_to_string(vectors().join("trust.toml")).unwrap();
    // The roots stand elsewhere, and are not read before the shape is right.
    let verify = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let output = run(&["evidence", "refusal.evidence", "--trust", path.to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (text, place) in [
        (format!("x = [\n{good}"), "line "),
        (format!("colour = \"red\"\n{good}"), "line 1, column 1: unknown field `colour`"),
        (format!("\n\n  colour = \"red\"\n{good}"), "line 3, column 3: "),
        (good.replace("vkey =", "key ="), "unknown field `key`"),
        (good.replace("roots = [", "roots = [7, "), "invalid type: integer `7`"),
        (good.replace("vkey = \"", "vkey = \"x"), "VKEY_"),
    ] {
        assert_ne!(text, good, "{place}");
        let (code, said) = verify(&text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("mine.toml: ") && said.contains(place), "{place}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    // A root that is none is named itself.
    for name in good.split('"').filter(|part| part.contains(".pem")) {
        std::fs::write(folder.path().join(name), "no certificate").unwrap();
    }
    let (code, said) = verify(&good);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(".pem: CERT_PEM") && !said.contains("mine.toml"), "{said}");
}

#[test]
fn the_help_says_the_exit_codes() {
    for arguments in [&["--help"][..], &["evidence", "--help"], &["consistency", "--help"]] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Exit codes") && text.contains("3  INDETERMINATE"), "{text}");
    }
}

/// CONV-17: of a later version nothing is proved, neither right nor wrong.
#[test]
fn a_later_version_is_indeterminate_and_a_garbled_one_invalid() {
    let folder = std::env::temp_dir().join(format!("countersign-version-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let text = std::fs::read_to_string(vectors().join("3-8.proof")).expect("the proof");
    for (header, code) in [("countersign/v2 consistency", 3), ("countersign/v02 consistency", 1)] {
        let path = folder.join("x.proof");
        std::fs::write(&path, text.replacen("countersign/v1 consistency", header, 1))
            .expect("a file");
        let path = path.to_str().expect("a path");
        let output = run(&[
            "consistency",
            "00000000000000000003.note",
            "00000000000000000008.note",
            path,
            "--trust",
            "trust.toml",
        ]);
        assert_eq!(output.status.code(), Some(code), "{header}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

/// An output that can't be written is an I/O error and no panic.
#[test]
fn a_full_output_is_an_error_of_its_own() {
    let trust = ["--trust", "trust.toml"];
    let json = ["--output", "json"];
    let file = "refusal.evidence";
    let commands: [&[&str]; 3] =
        [&["evidence", file], &["evidence", file, json[0], json[1]], &["inspect", file]];
    for command in commands {
        let full = std::fs::File::create("/dev/full").expect("Linux has it");
        let mut program = Command::new(env!("CARGO_BIN_EXE_countersign-verify"));
        program.current_dir(vectors()).args(command).stdout(full);
        if command[0] == "evidence" {
            program.args(trust);
        }
        assert_eq!(program.status().expect("runs").code(), Some(4), "{command:?}");
    }
}

#[test]
fn json_is_one_object_of_the_published_members() {
    let output =
        run(&["evidence", "refusal.evidence", "--trust", "trust.toml", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let file = &report["files"][0];
    assert_eq!(report["result"], "VALID");
    assert_eq!((&file["kind"], &file["outcome"]), (&"verdict".into(), &"refuse".into()));
    assert_eq!((&file["index"], &file["size"]), (&2.into(), &8.into()));
    let schema = std::fs::read(vectors().join("../report.schema.json")).expect("schema");
    let schema: serde_json::Value = serde_json::from_slice(&schema).expect("schema");
    let required = schema["properties"]["files"]["items"]["required"].as_array().expect("list");
    let members = file.as_object().expect("object");
    assert_eq!(members.len(), required.len());
    assert!(required.iter().all(|name| members.contains_key(name.as_str().expect("name"))));
}

#[test]
fn inspect_marks_every_line() {
    let output = run(&["inspect", "approve-after-supervise.evidence"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().count() > 50);
    assert!(text.lines().all(|line| line.starts_with("UNVERIFIED ")));
    assert_eq!(output.status.code(), Some(3));
}

/// The verifier's own tree has no network, no database and no async runtime.
#[test]
fn no_network_and_no_database_in_the_tree() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "countersign-verify", "-e", "normal,build", "--prefix", "none"])
        .args(["--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("countersign-core"), "{}", String::from_utf8_lossy(&output.stderr));
    for banned in [
        "tokio",
        "tonic",
        "rocksdb",
        "librocksdb-sys",
        "hyper",
        "rustls",
        "prost",
        "mio",
        "socket2",
    ] {
        let named = tree.lines().any(|line| line.split(' ').next() == Some(banned));
        assert!(!named, "countersign-verify depends on {banned}");
    }
}

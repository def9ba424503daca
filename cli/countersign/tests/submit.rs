//! `submit`, `head` and `evidence` against a ledger in memory that speaks the real protocol.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::unused_self,
    reason = "a test that cannot set up its stage should stop there"
)]

#[path = "../../../crates/countersign-client/tests/client/ledger.rs"]
mod ledger;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use countersign_core::codes::Code;
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};
use ledger::{Ledger, ORIGIN};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tonic::Status;

/// A ledger, and a gate's folder that knows its keys.
struct Stage {
    dir: TempDir,
    ledger: Ledger,
}

fn verdict(number: u32) -> String {
    format!(
        r#"{{"action":"ec2:Act{number}","action_id":"01a1f6af-1068-7351-869a-{number:012x}","actor":{{"kind":"agent","id":"a","class":null,"session":null,"model":null,"on_behalf_of":null}},"mode":"enforce","outcome":"refuse","context": {{"n" : 1.50}}}}"#
    )
}

impl Stage {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::start().await;
        let stage = Self { dir, ledger };
        let root = stage.root();
        let root = root.to_str().unwrap();
        let made = stage
            .run(&[
                "init", "--dir", root, "--origin", ORIGIN, "--tenant", "acme", "--gate", "prod-1",
            ])
            .await;
        assert!(made.status.success());
        // The stage's ledger has keys of its own.
        let trust = fs::read_to_string(stage.root().join("trust.toml")).unwrap();
        let trust = trust.replace(&stage.vkey("log"), &stage.ledger.log_vkey().to_string());
        let trust = trust.replace(&stage.vkey("clock"), &stage.ledger.clock_vkey().to_string());
        fs::write(stage.root().join("trust.toml"), trust).unwrap();
        let gate = stage.gate();
        fs::write(gate.join("log.vkey"), stage.ledger.log_vkey().to_string()).unwrap();
        fs::write(gate.join("clock.vkey"), stage.ledger.clock_vkey().to_string()).unwrap();
        stage
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn gate(&self) -> PathBuf {
        self.root().join("identities/gate")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn vkey(&self, name: &str) -> String {
        let text = fs::read_to_string(self.gate().join(format!("{name}.vkey"))).unwrap();
        text.trim_end().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
            command.env_remove(name);
        }
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    fn input(&self, lines: &[String]) -> PathBuf {
        let path = self.dir.path().join("verdicts.jsonl");
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    }

    fn submission(&self, file: &Path) -> Command {
        let mut command = self.command(&["submit"]);
        command.arg(file).args(["--server", &self.ledger.endpoint(), "--output", "jsonl"]);
        command.arg("--identity").arg(self.gate()).arg("--out").arg(self.out());
        command.args(["--batch", "4"]);
        command
    }

    /// Submits a file: exit code, answers, what was said.
    async fn submit(&self, file: &Path) -> (i32, Vec<Value>, String) {
        let output = self.submission(file).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let answers = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), answers, said)
    }

    fn trust(&self) -> Trust {
        let read = |name: &str| fs::read_to_string(self.root().join(name)).unwrap();
        Trust::parse(&read("trust.toml"), |name| Ok(read(name))).unwrap()
    }

    fn size(&self) -> u64 {
        self.ledger.with(|state| state.size())
    }
}

fn statuses(answers: &[Value]) -> Vec<&str> {
    answers.iter().map(|answer| answer["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_line_is_answered_in_order_with_evidence_that_verifies() {
    let stage = Stage::new().await;
    let file = stage.input(&(0..10).map(verdict).collect::<Vec<_>>());
    let (code, answers, said) = stage.submit(&file).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(answers.len(), 10);
    let trust = stage.trust();
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["line"], number as u64 + 1);
        assert_eq!(answer["seq"], number as u64);
        assert_eq!(answer["index"], number as u64 + 2);
        assert_eq!(answer["status"], "logged");
        assert_eq!(answer["code"], Value::Null);
        assert_eq!(answer["action_id"], format!("01a1f6af-1068-7351-869a-{number:012x}"));
        let path = Path::new(answer["evidence"].as_str().unwrap());
        assert_eq!(path, stage.out().join(format!("{:020}.evidence", number + 2)));
        let report = verify_file(&fs::read(path).unwrap(), Some(&trust));
        assert_eq!(report.result, Verdict::Valid, "{report:?}");
        // A value is kept as it was written.
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(r#"{\"n\" : 1.50}"#), "{text}");
    }
}

#[tokio::test]
async fn a_bad_line_is_rejected_alone_and_named() {
    let stage = Stage::new().await;
    let bad = [
        "{".to_owned(),
        String::new(),
        "[]".to_owned(),
        verdict(1).replacen('{', r#"{"colour":"red","#, 1),
        verdict(1).replacen('{', r#"{"seq":7,"#, 1),
        verdict(1).replacen('{', r#"{"nonce":null,"#, 1),
        verdict(1).replacen('{', r#"{"mode":"enforce","#, 1),
        verdict(1).replace(r#""mode":"enforce","#, ""),
        verdict(1).replace(r#""mode":"enforce""#, r#""mode":null"#),
        verdict(1).replace("refuse", "perhaps"),
        verdict(1).replace("7351", "4351"),
        verdict(1).replacen('{', &format!(r#"{{"entities":"{}","#, "x".repeat(20_000)), 1),
        verdict(1).replacen('{', &format!(r#"{{"entities":"{}","#, "x".repeat(200_000)), 1),
        verdict(1).replacen('{', r#"{"parameters":{"n":1.5},"#, 1),
    ];
    for (at, line) in (0_u32..).zip(&bad) {
        let file = stage.input(&[verdict(100 + at * 2), line.clone(), verdict(101 + at * 2)]);
        fs::remove_dir_all(stage.out()).ok();
        let (code, answers, said) = stage.submit(&file).await;
        assert_eq!(code, 1, "{line}");
        assert_eq!(statuses(&answers), ["logged", "rejected", "logged"], "{line}");
        assert_eq!(answers[1]["code"], "LINE_MALFORMED");
        assert_eq!(answers[1]["line"], 2);
        assert_eq!(answers[1]["index"], Value::Null);
        assert!(said.contains("line 2: rejected, LINE_MALFORMED"), "{said}");
    }
    for (line, reason) in [
        (&bad[3], "colour"),
        (&bad[0], "line 1: rejected, LINE_MALFORMED: the line is not one JSON object: EOF"),
        (&r#"{"a" 1}"#.to_owned(), "at column 6"),
        (&bad[1], "the line is empty"),
        (&bad[2], "not one JSON object"),
        (&bad[6], "JSON_DUPLICATE_KEY"),
    ] {
        fs::remove_dir_all(stage.out()).unwrap();
        let (_, _, said) = stage.submit(&stage.input(std::slice::from_ref(line))).await;
        assert!(said.contains(reason) && !said.contains("its maker"), "{said}");
    }
}

#[tokio::test]
async fn a_refused_line_does_not_keep_the_others_out() {
    let stage = Stage::new().await;
    stage.ledger.with(|state| state.refuse = Some(("Act5".to_owned(), Code::DuplicateVerdict)));
    let file = stage.input(&(0..10).map(verdict).collect::<Vec<_>>());
    let (code, answers, _) = stage.submit(&file).await;
    assert_eq!(code, 1);
    assert_eq!(answers[5]["status"], "rejected");
    assert_eq!(answers[5]["code"], "DUPLICATE_VERDICT");
    let seqs: Vec<_> = answers.iter().filter_map(|answer| answer["seq"].as_u64()).collect();
    assert_eq!(seqs, (0..9).collect::<Vec<_>>());
    // A second run finds all of it done, and asks nothing anew about the refused line.
    let size = stage.size();
    let (code, again, _) = stage.submit(&file).await;
    assert_eq!((code, stage.size()), (1, size));
    assert_eq!(again[5], answers[5]);
    for (first, second) in answers.iter().zip(&again).filter(|(first, _)| first["code"].is_null()) {
        assert_eq!(second["status"], "repeated");
        assert_eq!((&first["index"], &first["seq"]), (&second["index"], &second["seq"]));
    }
}

#[tokio::test]
async fn a_refusal_that_was_cured_is_not_replayed() {
    let stage = Stage::new().await;
    stage.ledger.with(|state| state.refuse = Some(("Act1".to_owned(), Code::CertExpired)));
    let file = stage.input(&(0..3).map(verdict).collect::<Vec<_>>());
    let (code, answers, _) = stage.submit(&file).await;
    assert_eq!((code, statuses(&answers)), (1, vec!["logged", "rejected", "logged"]));
    assert_eq!(answers[1]["code"], "CERT_EXPIRED");
    // Not cured yet: it is asked again, and refused again.
    let (code, answers, _) = stage.submit(&file).await;
    assert_eq!((code, statuses(&answers)), (1, vec!["repeated", "rejected", "repeated"]));
    stage.ledger.with(|state| state.refuse = None);
    let (code, answers, said) = stage.submit(&file).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(statuses(&answers), ["repeated", "logged", "repeated"]);
    assert_eq!(answers[1]["seq"], 2);
    let (code, answers, _) = stage.submit(&file).await;
    assert_eq!((code, statuses(&answers)), (0, vec!["repeated"; 3]));
}

#[tokio::test]
async fn a_run_that_was_killed_is_finished_by_running_it_again() {
    let stage = Stage::new().await;
    let file = stage.input(&(0..10).map(verdict).collect::<Vec<_>>());
    // The first batch is logged, and no answer ever comes back.
    stage.ledger.with(|state| {
        state.fail_after =
            std::iter::repeat_with(|| Status::unavailable("lost")).take(100_000).collect();
    });
    let mut child =
        stage.submission(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while stage.ledger.with(|state| state.submit_calls) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap();
    child.kill().await.unwrap();
    stage.ledger.with(|state| state.fail_after.clear());
    assert_eq!(stage.size(), 6);
    // As if the machine had stopped in the middle of a write as well.
    let journal = stage.out().join("submit.journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend(b"{\"batch\":[{\"line\":");
    fs::write(&journal, bytes).unwrap();

    let (code, answers, said) = stage.submit(&file).await;
    assert_eq!(code, 0, "{said}");
    let mut expected = vec!["repeated"; 4];
    expected.extend(["logged"; 6]);
    assert_eq!(statuses(&answers), expected);
    assert_eq!(stage.size(), 12);
    let trust = stage.trust();
    for answer in &answers {
        let bytes = fs::read(answer["evidence"].as_str().unwrap()).unwrap();
        assert_eq!(verify_file(&bytes, Some(&trust)).result, Verdict::Valid);
    }
}

#[tokio::test]
async fn a_place_that_another_run_took_meanwhile_is_no_equivocation() {
    let stage = Stage::new().await;
    let file = stage.input(&(0..3).map(verdict).collect::<Vec<_>>());
    // Sealed and journalled, and never received.
    stage.ledger.with(|state| {
        state.fail_before =
            std::iter::repeat_with(|| Status::unavailable("down")).take(100_000).collect();
    });
    let mut child =
        stage.submission(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while stage.ledger.with(|state| state.submit_calls) < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap();
    child.kill().await.unwrap();
    stage.ledger.with(|state| state.fail_before.clear());
    // Another file goes first, with a journal of its own.
    let other = stage.dir.path().join("other.jsonl");
    fs::write(&other, verdict(50) + "\n" + &verdict(51)).unwrap();
    let output = stage
        .submission(&other)
        .arg("--journal")
        .arg(stage.dir.path().join("other.journal"))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, answers, said) = stage.submit(&file).await;
    assert_eq!(code, 0, "{said}");
    let seqs: Vec<_> = answers.iter().map(|answer| answer["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [2, 3, 4]);
}

#[tokio::test]
async fn a_changed_file_and_a_foreign_journal_are_refused() {
    let stage = Stage::new().await;
    let file = stage.input(&[verdict(0), verdict(1)]);
    assert_eq!(stage.submit(&file).await.0, 0);
    let file = stage.input(&[verdict(0), verdict(2)]);
    let (code, _, said) = stage.submit(&file).await;
    assert_eq!(code, 2);
    assert!(said.contains("line 2") && said.contains("another --out"), "{said}");
    // Lines that were added are submitted.
    let file = stage.input(&[verdict(0), verdict(1), verdict(2)]);
    let (code, answers, _) = stage.submit(&file).await;
    assert_eq!((code, statuses(&answers)), (0, vec!["repeated", "repeated", "logged"]));
    let journal = stage.out().join("submit.journal");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replacen("prod-1", "prod-2", 1)).unwrap();
    let (code, _, said) = stage.submit(&file).await;
    assert_eq!(code, 2);
    assert!(said.contains("another stream"), "{said}");
    fs::write(&journal, format!("{{}}\n{text}")).unwrap();
    assert_eq!(stage.submit(&file).await.0, 2);
}

#[tokio::test]
async fn head_and_evidence_are_shown_verified() {
    let stage = Stage::new().await;
    let file = stage.input(&[verdict(0), verdict(1)]);
    assert_eq!(stage.submit(&file).await.0, 0);
    let (server, gate) = (stage.ledger.endpoint(), stage.gate());
    let gate = gate.to_str().unwrap();
    let call = ["--server", &server, "--identity", gate];
    let head = stage.run(&[&["head"], &call[..]].concat()).await;
    assert_eq!(head.status.code(), Some(0));
    let note = String::from_utf8(head.stdout).unwrap();
    assert!(note.starts_with(&format!("{ORIGIN}\n4\n")), "{note}");
    let head = stage.run(&[&["head", "--output", "jsonl"], &call[..]].concat()).await;
    let head: Value = serde_json::from_slice(&head.stdout).unwrap();
    assert_eq!((&head["size"], &head["origin"]), (&Value::from(4), &Value::from(ORIGIN)));

    let fetched = stage.dir.path().join("fetched");
    let trust = stage.root().join("trust.toml");
    let id = "01a1f6af-1068-7351-869a-000000000001";
    let arguments = ["evidence", id, "--out", fetched.to_str().unwrap()];
    let trusted = ["--trust", trust.to_str().unwrap(), "--output", "jsonl"];
    let output = stage.run(&[&arguments, &call[..], &trusted].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["index"], &answer["result"]), (&Value::from(3), &Value::from("VALID")));
    let bytes = fs::read(answer["evidence"].as_str().unwrap()).unwrap();
    assert_eq!(verify_file(&bytes, Some(&stage.trust())).result, Verdict::Valid);

    // Without one that is named, the installation's is taken.
    let output = stage.run(&[&arguments, &call[..]].concat()).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().ends_with(": VALID\n"));
    // Where there is none it is said what was checked, and that is what was asked for.
    let hidden = stage.root().join("hidden.toml");
    fs::rename(&trust, &hidden).unwrap();
    let output = stage.run(&[&arguments, &call[..]].concat()).await;
    fs::rename(&hidden, &trust).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("against the log's key, not against a trust file"), "{text}");
    assert!(!text.contains("INDETERMINATE"), "{text}");
    // With one that names no gates, nothing can be said of the gate.
    let all = fs::read_to_string(&trust).unwrap();
    let part = all.split("[gates]").next().unwrap();
    let other = stage.root().join("other.toml");
    fs::write(&other, part).unwrap();
    let trusted = ["--trust", other.to_str().unwrap()];
    let output = stage.run(&[&arguments, &call[..], &trusted].concat()).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("INDETERMINATE"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("GATES_ABSENT"));
    // Another log's file, and this log's name with another key: the ledger is not to blame.
    let elsewhere = stage.dir.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    for (origin, said) in [("other.example", "does not name this log"), (ORIGIN, "another key")] {
        fs::remove_dir_all(elsewhere).ok();
        let place = ["init", "--dir", elsewhere, "--origin", origin];
        let names = ["--tenant", "acme", "--gate", "prod-1"];
        assert!(stage.run(&[&place[..], &names].concat()).await.status.success());
        let theirs = format!("{elsewhere}/trust.toml");
        let output = stage.run(&[&arguments, &call[..], &["--trust", &theirs]].concat()).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(said));
    }

    let arguments = ["evidence", "01a1f6af-1068-7351-869a-0000000000ff", "--out", "x"];
    let output = stage.run(&[&arguments, &call[..]].concat()).await;
    assert_eq!(output.status.code(), Some(3), "nothing was verified");
    assert!(String::from_utf8_lossy(&output.stderr).contains("NOT_FOUND"));
    // A ledger that lost what it showed.
    stage.ledger.with(|state| state.cut(3));
    let output = stage.run(&[&["head"], &call[..]].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("HEAD_ROLLBACK"));
    assert!(stage.gate().join("head.note.shown").is_file());
}

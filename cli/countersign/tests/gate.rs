//! The commands around a gate, as far as they need none.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its stage should stop there"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use countersign_client::reconcile::Matter;
use countersign_gate::{GateCode, Policy, assemble, packs};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";
const ACTION: &str = "019ab000-0000-7000-8000-000000000002";

fn countersign(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

struct House(TempDir);

impl House {
    fn new() -> Self {
        let house = Self(tempfile::tempdir().unwrap());
        let dir = house.path("ledger");
        let made = countersign(&[
            "init",
            "--dir",
            &dir,
            "--origin",
            "ledger.acme.example/prod",
            "--tenant",
            "acme",
            "--gate",
            "prod-1",
            "--approver",
            "alice",
        ]);
        assert!(made.status.success(), "{}", err(&made));
        house
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn identity(&self, name: &str) -> String {
        self.path(&format!("ledger/identities/{name}"))
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).unwrap();
        self.path(name)
    }
}

#[test]
fn every_code_of_a_gate_and_of_reconciliation_is_explained() {
    let gate = GateCode::ALL.iter().map(|code| (code.as_str(), code.what(), code.remedy()));
    let matters = Matter::ALL.iter().map(|code| (code.as_str(), code.what(), code.remedy()));
    let all = out(&countersign(&["explain"]));
    for (code, what, remedy) in gate.chain(matters) {
        let said = out(&countersign(&["explain", code]));
        assert!(said.contains(what) && said.contains(remedy), "{code}: {said}");
        assert!(all.contains(code), "{code}");
    }
    // Nothing pads a line for a terminal that is not there.
    let padded = all.lines().find(|line| line.ends_with(' '));
    assert_eq!(padded, None);
}

#[test]
fn packs_are_listed_written_and_pass_the_lint() {
    let folder = tempfile::tempdir().unwrap();
    let listed = out(&countersign(&["policy", "pack"]));
    let names: Vec<&str> = packs::ALL.iter().map(|pack| pack.name).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    for pack in packs::ALL {
        let dir = folder.path().join(pack.name);
        let dir = dir.to_str().unwrap();
        let written = countersign(&["policy", "pack", pack.name, "--out", dir]);
        assert!(written.status.success(), "{}", err(&written));
        let again = countersign(&["policy", "pack", pack.name, "--out", dir]);
        assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
        let lint = countersign(&["policy", "lint", dir]);
        assert_eq!(lint.status.code(), Some(0), "{}{}", out(&lint), err(&lint));
        let (policy, schema) = assemble(&[
            ("policy.cedar".to_owned(), pack.policy.to_owned()),
            ("schema.cedarschema".to_owned(), pack.schema.to_owned()),
        ])
        .unwrap();
        let digest = Policy::load(&policy, &schema).unwrap().digest();
        let digest = countersign_core::encoding::hex(&digest);
        assert_eq!(out(&lint), format!("digest {digest}\n"));
    }
    assert_eq!(countersign(&["policy", "pack", "absent", "--out", "x"]).status.code(), Some(2));
    assert_eq!(countersign(&["policy", "pack", names[0]]).status.code(), Some(2));
}

#[test]
fn the_lint_names_every_fault_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pack = packs::ALL.first().unwrap();
    let twice = "permit (principal, action, resource);\n".repeat(2);
    fs::write(folder.path().join("a.cedar"), twice).unwrap();
    fs::write(folder.path().join("a.cedarschema"), pack.schema).unwrap();
    let lint = countersign(&["policy", "lint", folder.path().to_str().unwrap()]);
    assert_eq!(lint.status.code(), Some(1), "{}", err(&lint));
    assert!(out(&lint).matches("POL-1").count() >= 2, "{}", out(&lint));
    let missing = folder.path().join("absent");
    let lint = countersign(&["policy", "lint", missing.to_str().unwrap()]);
    assert_eq!(lint.status.code(), Some(4));
}

#[test]
fn nobody_signs_blindly_or_in_another_role() {
    let house = House::new();
    let answer = |verb: &str, key: &str, more: &[&str]| {
        let key = house.identity(key);
        let mut arguments = vec![verb, ACTION, "--gate", NOWHERE, "--key", &key];
        arguments.extend(more);
        countersign(&arguments)
    };
    for verb in ["approve", "deny"] {
        let auditor = answer(verb, "auditor", &["--yes"]);
        assert_eq!(auditor.status.code(), Some(2));
        assert!(err(&auditor).contains("role auditor"), "{}", err(&auditor));
        let alice = answer(verb, "approver-alice", &["--yes"]);
        assert_eq!(alice.status.code(), Some(4), "{}", err(&alice));
        let said = err(&alice);
        assert!(said.contains("the gate gave no answer"), "{said}");
        assert!(said.contains("countersign gate") && !said.contains("ledger"), "{said}");
    }
    // What is no action's id is told of before anybody is called.
    let key = house.identity("approver-alice");
    let garbage = countersign(&["approve", "garbage", "--gate", NOWHERE, "--key", &key, "--yes"]);
    assert_eq!(garbage.status.code(), Some(2), "{}", err(&garbage));
    let said = err(&garbage);
    assert!(said.contains("garbage is no action's id") && !said.contains("CONFIG"), "{said}");
    // Away from the installation there is no trust file, and none is made up.
    let moved = house.path("elsewhere");
    fs::rename(house.identity("approver-alice"), &moved).unwrap();
    let alone = countersign(&["approve", ACTION, "--gate", NOWHERE, "--key", &moved, "--yes"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(err(&alone).contains("--trust"), "{}", err(&alone));
}

#[test]
fn what_a_gate_would_refuse_is_not_signed() {
    let house = House::new();
    let terms = house.write("terms.json", "{\"grantee\": \"a\"}");
    let issue = |identity: &str, terms: &str| {
        let identity = house.identity(identity);
        let arguments =
            ["grant", "issue", "g-1", "--terms", terms, "--gate", NOWHERE, "--identity", &identity];
        countersign(&arguments)
    };
    let malformed = issue("policy-admin", &terms);
    assert_eq!(malformed.status.code(), Some(2));
    assert!(err(&malformed).contains("GRT-1"), "{}", err(&malformed));
    let scope = r#"{"actions":["*"],"resources":["*"],"targets":[],"amounts":[]}"#;
    let whole = format!(
        r#"{{"grantee":"a","allowed":{scope},"forbidden":{scope},"ticket":null,"session":null,
        "not_before":"2026-11-01T00:00:00.000000Z","expires_at":"2026-12-01T00:00:00.000000Z",
        "limits":{{"actions":null,"amount":null,"count":null}}}}"#
    );
    let whole = house.write("whole.json", &whole);
    assert_eq!(issue("pep", &whole).status.code(), Some(2), "not its role");
    let sent = issue("tenant-admin", &whole);
    assert_eq!(sent.status.code(), Some(4), "{}", err(&sent));

    let folder = house.path("policy");
    fs::create_dir(&folder).unwrap();
    fs::write(Path::new(&folder).join("a.cedar"), "permit (principal, action, resource);").unwrap();
    let admin = house.identity("policy-admin");
    let activate = countersign(&[
        "policy",
        "activate",
        &folder,
        "--policy-id",
        "p",
        "--version",
        "1",
        "--gate",
        NOWHERE,
        "--identity",
        &admin,
    ]);
    assert_eq!(activate.status.code(), Some(2), "{}", err(&activate));
    assert!(err(&activate).contains("no policy version that a gate takes"), "{}", err(&activate));
}

#[test]
fn calls_say_that_the_gate_does_not_answer() {
    let house = House::new();
    let pep = house.identity("pep");
    let intents = house.write("intents.jsonl", "{}\n");
    let out_dir = house.path("out");
    let reason = ["--reason", "because"];
    for command in [
        &["evaluate", &intents, "--out", &out_dir][..],
        &["outcome", "--action", ACTION, "--permit", "p", "--result", "executed"],
        &["halt", "--actor", "a", reason[0], reason[1]],
        &["resume", "--tenant", reason[0], reason[1]],
        &["mode", "shadow", reason[0], reason[1]],
        &["status"],
        &["emergency", "end", reason[0], reason[1]],
        &[
            "emergency",
            "declare",
            "--minutes",
            "5",
            "--actor",
            "alice",
            "--resource",
            "System:production",
            reason[0],
            reason[1],
        ],
    ] {
        let arguments = [command, &["--gate", NOWHERE, "--identity", &pep]].concat();
        let output = countersign(&arguments);
        assert_eq!(output.status.code(), Some(4), "{command:?}: {}", err(&output));
        assert!(err(&output).contains("the gate gave no answer"), "{}", err(&output));
    }
}

#[test]
fn wrong_usage_is_said_before_anything_is_called() {
    let house = House::new();
    let pep = house.identity("pep");
    let effect = house.write("effect.json", "{\"action\": \"x\"}");
    let digest = "a".repeat(63);
    let reason = ["--reason", "because"];
    for command in [
        &["outcome", "--result", "executed", "--effect", &effect][..],
        &["outcome", "--result", "executed", "--effect-digest", &digest],
        &["outcome", "--result", "done"],
        &["outcome", "--result", "executed", "--detail", "{"],
        &["halt", reason[0], reason[1]],
        &["halt", "--actor", "a", "--tenant", reason[0], reason[1]],
        &["halt", "--actor", "a"],
        &["halt", "--actor", "a", "--reason", " "],
        &["mode", "off", reason[0], reason[1]],
        &["emergency", "declare", "--minutes", "0", "--actor", "a", "--resource", "a:b"],
        &["emergency", "end"],
    ] {
        let arguments = [command, &["--gate", NOWHERE, "--identity", &pep]].concat();
        let output = countersign(&arguments);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", err(&output));
    }
}

/// The vectors hold two approvals with permits, nobody's outcome, and then silence.
#[test]
fn reconcile_lists_what_does_not_fit_and_says_so_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("evidence");
    fs::create_dir(&dir).unwrap();
    for name in ["refusal", "approval", "approve-after-supervise", "human-approval"] {
        let file = format!("{name}.evidence");
        fs::copy(vectors().join(&file), dir.join(&file)).unwrap();
    }
    let (dir, trust) = (dir.to_str().unwrap(), vectors().join("trust.toml"));
    let trust = trust.to_str().unwrap();
    let reconcile = |more: &[&str]| {
        countersign(&[&["reconcile", "--evidence", dir, "--output", "jsonl"], more].concat())
    };
    let found = |output: &Output| -> Vec<(String, u64)> {
        let lines = out(output);
        let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| {
            (row["finding"].as_str().unwrap().to_owned(), row["index"].as_u64().unwrap())
        })
        .collect()
    };
    let early = reconcile(&["--trust", trust, "--now", "2026-11-23T12:04:00Z"]);
    assert_eq!((early.status.code(), found(&early)), (Some(0), vec![]), "{}", err(&early));
    let late = reconcile(&["--trust", trust, "--now", "2026-11-23T12:20:00Z"]);
    assert_eq!(late.status.code(), Some(1));
    let matters: Vec<String> = found(&late).into_iter().map(|(matter, _)| matter).collect();
    let unreported = "APPROVAL_WITHOUT_OUTCOME";
    assert_eq!(matters, [unreported, unreported, "GATE_SILENT"], "{}", err(&late));
    // Without trust nothing is verified, and nothing verified is never success.
    let untrusted = reconcile(&["--now", "2026-11-23T12:04:00Z"]);
    assert_eq!(untrusted.status.code(), Some(3), "{}", err(&untrusted));
    // A record that is proved wrong is no record, and no success either.
    let tampered = Path::new(dir).join("tampered.evidence");
    fs::copy(vectors().join("tampered-refusal.evidence"), &tampered).unwrap();
    let wrong = reconcile(&["--trust", trust, "--now", "2026-11-23T12:04:00Z"]);
    assert_eq!((wrong.status.code(), found(&wrong)), (Some(1), vec![]));
    assert!(err(&wrong).contains("INVALID"), "{}", err(&wrong));
    assert_eq!(countersign(&["reconcile"]).status.code(), Some(2));
    assert_eq!(reconcile(&["--now", "yesterday"]).status.code(), Some(2));
}

#[test]
fn a_diff_of_nothing_that_can_be_replayed_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let candidate = folder.path().join("candidate");
    let candidate = candidate.to_str().unwrap();
    let name = packs::ALL.first().unwrap().name;
    assert!(countersign(&["policy", "pack", name, "--out", candidate]).status.success());
    let (dir, trust) = (vectors(), vectors().join("trust.toml"));
    let diff = |more: &[&str]| {
        let given = ["policy", "diff", "--candidate", candidate, "--output", "jsonl"];
        countersign(&[&given, more].concat())
    };
    // Another engine judged them.
    let evidence = folder.path().join("evidence");
    fs::create_dir(&evidence).unwrap();
    fs::copy(dir.join("refusal.evidence"), evidence.join("refusal.evidence")).unwrap();
    let with = ["--evidence", evidence.to_str().unwrap(), "--trust", trust.to_str().unwrap()];
    let output = diff(&with);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    let counts: Value = serde_json::from_str(out(&output).lines().last().unwrap()).unwrap();
    assert_eq!((&counts["replayed"], &counts["not_by_policy"]), (&0.into(), &1.into()));
    let period = diff(&[&with[..], &["--from", "2027-01-01T00:00:00Z"]].concat());
    let counts: Value = serde_json::from_str(out(&period).lines().last().unwrap()).unwrap();
    assert_eq!(counts["not_by_policy"], 0);
    let faulty = ["policy", "diff", "--candidate", evidence.to_str().unwrap()];
    assert_eq!(countersign(&[&faulty, &with[..]].concat()).status.code(), Some(2));
}

//! Evidence at work, by the command against a real ledger: found, packed, proven whole, shown in
//! part, erased, passed on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its stage should stop there"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use countersign_core::codes::Code;
use countersign_core::encoding::from_b64;
use countersign_core::evidence::Evidence;
use countersign_core::hash::sha256;
use countersign_core::pack::{Given, Manifest, PackCheck, PackFile, PackReport, Want};
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify, verify_file};
use serde_json::Value;
use tempfile::TempDir;

#[path = "evidence_work/finding.rs"]
mod finding;
#[path = "evidence_work/memory.rs"]
mod memory;
#[path = "evidence_work/whole.rs"]
mod whole;

const EXAMPLE: &str = include_str!("../examples/infrastructure-agent.jsonl");
/// The policy version that its verdicts are under.
const DIGEST: &str = "83b4c82b5090b23142ef2b3ec516f0d70ca9633969e0d283bc62ec69d5219e9d";
/// Verdicts of the example that are submitted: approves, refuses and supervises are among them.
const VERDICTS: usize = 60;
/// For anything that a slow disk may hold up.
const PATIENCE: Duration = Duration::from_mins(2);

fn countersign() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Polls until something is there.
#[allow(clippy::disallowed_methods, reason = "a deadline needs the machine's clock")]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An installation in a folder of its own, and its ledger, which is killed when this is dropped.
struct House {
    folder: TempDir,
    ledger: Option<Child>,
    grpc: String,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
    }
}

impl House {
    /// A ledger with the example's first verdicts in it.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = countersign()
            .args(["init", "--origin", "ledger.acme.example/prod", "--tenant", "acme"])
            .args(["--gate", "prod-1", "--dir"])
            .arg(folder.path().join("ledger"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", said(&made));
        let mut house = Self { folder, ledger: None, grpc: String::new() };
        house.serve();
        house.submit("first", 0, VERDICTS);
        house
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&mut self) {
        let ready_file = self.beside("ready.json");
        let _ = fs::remove_file(&ready_file);
        let mut command = countersign();
        command.arg("serve").arg("--dir").arg(self.root());
        command.args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-file"]);
        let log = fs::File::create(self.beside("serve.log")).unwrap();
        let mut child = command.arg(&ready_file).stderr(log).spawn().unwrap();
        let ready: Value = wait_for("the ready file", || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(self.beside("serve.log")).unwrap();
                panic!("the ledger ended with {status}: {log}");
            }
            serde_json::from_str(&fs::read_to_string(&ready_file).ok()?).ok()
        });
        ready["grpc"].as_str().unwrap().clone_into(&mut self.grpc);
        self.ledger = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.ledger.take() {
            let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
            let _ = child.wait();
        }
    }

    /// Submits some lines of the example, under a policy that is registered first.
    fn submit(&self, name: &str, from: usize, count: usize) {
        let mut register = countersign();
        register.args(["policy", "register", "--server", &self.grpc, "--policy-id", "infra"]);
        register.args(["--version", "3", "--engine", "example-gate 1", "--digest", DIGEST]);
        register.arg("--identity").arg(self.identity("gate"));
        let registered =
            register.arg("--owner").arg(self.identity("policy-admin")).output().unwrap();
        assert!(registered.status.success(), "{}", said(&registered));
        let text: Vec<&str> = EXAMPLE.lines().skip(from).take(count).collect();
        self.submit_lines(name, &text.join("\n"));
    }

    fn submit_lines(&self, name: &str, text: &str) {
        let file = self.beside(&format!("{name}.jsonl"));
        fs::write(&file, text).unwrap();
        let mut submit = countersign();
        submit.arg("submit").arg(file).args(["--server", &self.grpc, "--output", "jsonl"]);
        submit.arg("--identity").arg(self.identity("gate")).arg("--out").arg(self.beside(name));
        let output = submit.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    fn identity(&self, name: &str) -> PathBuf {
        self.root().join("identities").join(name)
    }

    /// A command as one of the identities.
    fn call(&self, what: &[&str], identity: &str) -> Output {
        let mut command = countersign();
        command.args(what).args(["--server", &self.grpc, "--identity"]);
        command.arg(self.identity(identity)).output().unwrap()
    }

    /// The same, which must end with this code.
    fn expect(&self, code: i32, what: &[&str], identity: &str) -> Output {
        let output = self.call(what, identity);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{what:?}: {text}{}", said(&output));
        output
    }

    /// The rows of a query.
    fn query(&self, what: &[&str]) -> Vec<Value> {
        let all = [&["query", "--output", "jsonl", "--limit", "1000"], what].concat();
        lines(&self.expect(0, &all, "responder"))
    }

    fn trust(&self) -> Trust {
        let read = |name: &str| fs::read_to_string(self.root().join(name)).unwrap();
        Trust::parse(&read("trust.toml"), |name| Ok(read(name))).unwrap()
    }

    fn pack(&self, name: &str, what: &[&str]) -> PathBuf {
        let out = self.beside(name);
        self.expect(0, &[&["pack", "--out", out.to_str().unwrap()], what].concat(), "auditor");
        out
    }

    fn check(&self, folder: &Path) -> PackReport {
        let trust = self.trust();
        let manifest = match Manifest::parse(&fs::read(folder.join("manifest.json")).unwrap()) {
            Ok(manifest) => manifest,
            Err(fault) => return PackReport::refused(fault),
        };
        let mut check = PackCheck::new(manifest, Some(&trust));
        for path in files(folder).into_keys().filter(|path| path != "manifest.json") {
            if !check.manifest().lists(&path) {
                check.stray(&path, true);
            }
        }
        let entries = fs::read(folder.join("entries.bin")).unwrap_or_default();
        let mut at = 0;
        while let Some(want) = check.want() {
            match want {
                Want::File(file) => match fs::read(folder.join(file.to_string())) {
                    Ok(bytes) => check.give(Given::Bytes(&bytes)),
                    Err(_) => check.give(Given::Absent),
                },
                Want::Entries(most) => {
                    let to = entries.len().min(at + most);
                    check.give(Given::Bytes(&entries[at..to]));
                    at = to;
                }
            }
        }
        check.finish()
    }
}

/// Every file of a folder with its bytes, by its path within.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn index(row: &Value) -> u64 {
    row["index"].as_u64().unwrap()
}

fn codes(report: &PackReport) -> Vec<Code> {
    report.findings.iter().map(|finding| finding.fault.code).collect()
}

#[test]
fn a_query_finds_pages_and_leads_to_the_proof() {
    let house = House::new();
    let all = house.query(&["--kind", "verdict"]);
    assert_eq!(all.len(), VERDICTS);
    assert!(all.is_sorted_by_key(index));
    let refused = house.query(&["--outcome", "refuse"]);
    let others = house.query(&["--outcome", "approve", "--outcome", "supervise"]);
    assert!(!refused.is_empty() && refused.len() + others.len() == VERDICTS);
    let newest = house.query(&["--kind", "verdict", "--newest-first"]);
    assert!(newest.iter().rev().eq(all.iter()));

    // Different options narrow, and a window of time does.
    let actor = all[0]["actor"].as_str().unwrap();
    let both = house.query(&["--actor", actor, "--outcome", "refuse"]);
    assert!(both.iter().all(|row| row["actor"] == actor && row["outcome"] == "refuse"));

    // Pages stay as of one head, though the log grows between them.
    let first = house.expect(
        0,
        &["query", "--kind", "verdict", "--limit", "25", "--output", "json"],
        "auditor",
    );
    let first: Value = serde_json::from_slice(&first.stdout).unwrap();
    house.submit("second", VERDICTS, 5);
    let (size, cursor) = (first["size"].to_string(), first["next_cursor"].to_string());
    let rest = house.query(&["--kind", "verdict", "--size", &size, "--cursor", &cursor]);
    let paged: Vec<u64> =
        first["rows"].as_array().unwrap().iter().chain(&rest).map(index).collect();
    assert_eq!(paged, all.iter().map(index).collect::<Vec<_>>());

    let newest = house.query(&["--kind", "verdict", "--newest-first"]).remove(0);
    let time = newest["logged_at"].as_str().unwrap();
    let before = house.query(&["--kind", "verdict", "--to", time]);
    let after = house.query(&["--kind", "verdict", "--from", time]);
    assert!(before.iter().all(|row| row["logged_at"].as_str().unwrap() < time));
    assert!(after.contains(&newest) && before.len() + after.len() == VERDICTS + 5);

    // A row's proof is one command away.
    let at = refused[0]["index"].to_string();
    let out = house.beside("proof");
    house.expect(0, &["evidence", &at, "--out", out.to_str().unwrap()], "responder");
    let file = out.join(format!("{:020}.evidence", index(&refused[0])));
    let report = verify_file(&fs::read(file).unwrap(), Some(&house.trust()));
    assert_eq!(report.result, Verdict::Valid);
    assert_eq!(report.facts.root.unwrap().hex(), refused[0]["root"].as_str().unwrap());

    let table = house.expect(0, &["query", "--outcome", "refuse"], "responder");
    let text = String::from_utf8(table.stdout.clone()).unwrap();
    assert!(text.starts_with("INDEX") || text.trim_start().starts_with("INDEX"), "{text}");
    assert!(
        text.lines()
            .skip(1)
            .all(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))
    );
    assert!(said(&table).contains("countersign evidence"), "{}", said(&table));

    let count = house.expect(0, &["query", "--kind", "verdict", "--count"], "auditor");
    assert_eq!(String::from_utf8(count.stdout).unwrap().trim(), (VERDICTS + 5).to_string());
    // Nothing found is no success, and no answer is an error.
    let none = house.expect(3, &["query", "--actor", "nobody"], "auditor");
    assert!(none.stdout.is_empty() && said(&none).contains("nothing found"), "{}", said(&none));
}

#[test]
fn records_are_watched_as_they_come_and_gone_on_with_by_index() {
    let house = House::new();
    let all = house.query(&[]);
    let count = all.len().to_string();
    let watched = house.expect(0, &["watch", "--count", &count], "auditor");
    assert_eq!(lines(&watched), all);
    let next = index(all.last().unwrap()) + 1;
    assert!(said(&watched).contains(&format!("--from-index {next}")), "{}", said(&watched));

    let out = house.beside("watched");
    let mut command = countersign();
    command.args(["watch", "--kind", "verdict", "--from-index", &next.to_string(), "--count", "4"]);
    command.args(["--server", &house.grpc, "--out"]).arg(&out).arg("--identity");
    command.arg(house.identity("responder")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let watching = command.spawn().unwrap();
    house.submit("second", VERDICTS, 4);
    let watched = watching.wait_with_output().unwrap();
    assert!(watched.status.success(), "{}", said(&watched));
    let rows = lines(&watched);
    assert!(rows.len() == 4 && rows.iter().all(|row| index(row) >= next), "{rows:?}");
    for row in rows {
        let file = out.join(format!("{:020}.evidence", index(&row)));
        let report = verify_file(&fs::read(file).unwrap(), Some(&house.trust()));
        assert_eq!(report.result, Verdict::Valid);
    }
}

#[test]
fn a_pack_is_valid_whole_and_the_same_bytes_when_made_again() {
    let house = House::new();
    let pack = house.pack("pack", &["--complete", "--outcome", "refuse"]);
    let report = house.check(&pack);
    assert_eq!(report.result, Verdict::Valid, "{:?}", report.findings);
    let refused: Vec<u64> = house.query(&["--outcome", "refuse"]).iter().map(index).collect();
    let complete = report.complete.as_ref().unwrap();
    assert_eq!((&complete.refusals, complete.matching.as_ref()), (&refused, Some(&refused)));
    assert_eq!(complete.records.verdicts, VERDICTS as u64);

    // What was asked for is there in full, and of the rest only what is never withheld.
    for row in house.query(&["--kind", "verdict"]) {
        let name = format!("evidence/{:020}.evidence", index(&row));
        let evidence = Evidence::parse(&fs::read(pack.join(name)).unwrap()).unwrap();
        let view = verify(&evidence, None).facts.view.unwrap();
        let asked = row["outcome"] == "refuse";
        assert_eq!(view.get("actor").is_some(), asked, "{row}");
        assert!(view.get("outcome").is_some() && view.get("recorded_at").is_some());
    }

    let all = files(&pack);
    for needed in ["README.txt", "report.html", "entries.bin", "peaks.bin", "manifest.json"] {
        assert!(all.contains_key(needed), "{needed}");
    }
    let readme = String::from_utf8(all["README.txt"].clone()).unwrap();
    assert!(readme.lines().all(|line| line.len() <= 100), "{readme}");
    assert_eq!(
        readme
            .lines()
            .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
            .count(),
        3,
        "{readme}"
    );
    let page = String::from_utf8(all["report.html"].clone()).unwrap();
    assert!(page.contains("are exactly") && !page.contains("<script"), "{page}");

    // The log grows; the same question at the same head has the same answer, to the last byte.
    let size = report.head.0.to_string();
    house.submit("second", VERDICTS, 20);
    let what = ["--complete", "--outcome", "refuse", "--to-head", &size];
    let again = house.pack("again", &what);
    assert!(files(&again) == all, "another pack came of the same question");
    // A head that was kept as a note serves as well, and so does another begin.
    let note = pack.join(format!("heads/{:020}.note", report.head.0));
    let rest = house.pack("rest", &["--complete", "--from-head", note.to_str().unwrap()]);
    let report = house.check(&rest);
    assert_eq!(report.result, Verdict::Valid, "{:?}", report.findings);
    assert_eq!(report.complete.unwrap().records.verdicts, 20);

    // What is there is not overwritten.
    let out = pack.to_str().unwrap();
    house.expect(2, &["pack", "--out", out], "auditor");
    assert!(files(&pack) == all);
}

#[test]
fn a_pack_without_a_claim_holds_what_was_asked_and_says_that_it_claims_nothing() {
    let house = House::new();
    let pack = house.pack("pack", &["--outcome", "approve"]);
    let report = house.check(&pack);
    assert_eq!(report.result, Verdict::Valid, "{:?}", report.findings);
    let approved = house.query(&["--outcome", "approve"]).len() as u64;
    assert_eq!((report.records.approve, report.records.refuse), (approved, 0));
    assert!(report.complete.is_none());
    let page = fs::read_to_string(pack.join("report.html")).unwrap();
    assert!(page.contains("Completeness was not asked for"), "{page}");
    // A question that nothing answers makes no pack that says VALID.
    let out = house.beside("empty");
    house.expect(3, &["pack", "--actor", "nobody", "--out", out.to_str().unwrap()], "auditor");
}

/// A maker of packs who leaves a record out is found, whether they forget the manifest or not.
#[test]
fn a_record_that_was_left_out_of_a_complete_pack_is_named() {
    let house = House::new();
    let pack = house.pack("pack", &["--complete"]);
    let victim = index(&house.query(&["--outcome", "refuse"])[0]);
    fs::remove_file(pack.join(PackFile::Evidence(victim).to_string())).unwrap();
    let report = house.check(&pack);
    assert_eq!(report.result, Verdict::Invalid);
    assert_eq!(codes(&report), [Code::PackFileMissing]);

    let mut manifest = Manifest::parse(&fs::read(pack.join("manifest.json")).unwrap()).unwrap();
    manifest.files.remove(&PackFile::Evidence(victim));
    fs::write(pack.join("manifest.json"), manifest.to_bytes()).unwrap();
    let report = house.check(&pack);
    assert_eq!(report.result, Verdict::Invalid);
    let found = &report.findings[0];
    assert_eq!((found.fault.code, found.place.index), (Code::PackRecordWithheld, Some(victim)));

    // Nor can another record stand in its place.
    let other = index(&house.query(&["--outcome", "approve"])[0]);
    let bytes = fs::read(pack.join(PackFile::Evidence(other).to_string())).unwrap();
    manifest.files.insert(PackFile::Evidence(victim), sha256(&bytes));
    fs::write(pack.join(PackFile::Evidence(victim).to_string()), bytes).unwrap();
    fs::write(pack.join("manifest.json"), manifest.to_bytes()).unwrap();
    assert_eq!(house.check(&pack).result, Verdict::Invalid);
}

#[test]
fn a_file_shows_less_under_the_same_proof() {
    let house = House::new();
    let row = house.query(&["--outcome", "refuse"]).remove(0);
    let out = house.beside("proof");
    let at = row["index"].to_string();
    house.expect(0, &["evidence", &at, "--out", out.to_str().unwrap()], "responder");
    let file = out.join(format!("{:020}.evidence", index(&row)));
    let disclose =
        |what: &[&str]| countersign().arg("disclose").arg(&file).args(what).output().unwrap();
    // EVID-15: the parameters' name is the resource's, which would still be shown.
    let refused = disclose(&["--withhold", "parameters"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("parameters of the verdict stands in resource"));
    assert!(refused.stdout.is_empty());
    let shown = disclose(&["--withhold", "context,parameters", "--although-shown"]);
    assert!(shown.status.success(), "{}", said(&shown));
    for told in [
        "withheld: context, nonce, parameters",
        "nobody can check",
        "nonce of the verdict is withheld too",
        "parameters of the verdict stands in resource",
    ] {
        assert!(said(&shown).contains(told), "{told}: {}", said(&shown));
    }
    let report = verify_file(&shown.stdout, Some(&house.trust()));
    assert_eq!(report.result, Verdict::Valid, "{:?}", report.decisive());
    assert_eq!(report.facts.root.unwrap().hex(), row["root"].as_str().unwrap());
    assert!(report.not_checked.contains(&"field:context".to_owned()), "{:?}", report.not_checked);
    // With all that repeats it withheld nothing tells it.
    let shown = disclose(&["--withhold", "parameters,resource,task"]);
    assert!(shown.status.success(), "{}", said(&shown));

    let less = house.beside("less.evidence");
    let kept = disclose(&["--keep", "action,resource", "--out", less.to_str().unwrap()]);
    assert!(kept.status.success(), "{}", said(&kept));
    let report = verify_file(&fs::read(&less).unwrap(), Some(&house.trust()));
    let view = report.facts.view.unwrap();
    assert!(view.get("resource").is_some() && view.get("actor").is_none());
    // What is there is kept, what never is withheld stays, and what is no field is said to be none.
    for (what, code) in [
        (["--withhold", "outcome", "--out", "x"], 2),
        (["--withhold", "nothing-such", "--out", "x"], 2),
        (["--withhold", "actor", "--out", less.to_str().unwrap()], 4),
    ] {
        let output = disclose(&what);
        assert_eq!(output.status.code(), Some(code), "{what:?}: {}", said(&output));
    }
    assert!(!Path::new("x").exists());
}

/// What is erased is gone from answers and files, and shows as erased: counted, proven, in its place.
#[test]
fn the_erased_shows_as_erased_and_never_as_missing() {
    let mut house = House::new();
    let row = house.query(&["--outcome", "refuse"]).remove(0);
    let at = row["index"].to_string();
    let session = row["session"].as_str().unwrap();
    // The same action, judged in shadow mode too: another record of the same contents.
    let action = row["action_id"].as_str().unwrap();
    let line = EXAMPLE.lines().find(|line| line.contains(action)).unwrap();
    house.submit_lines("shadow", &line.replace(r#""mode":"enforce""#, r#""mode":"shadow""#));
    let shadow = house.query(&["--action-id", action]).remove(1);
    let floor = "2099-01-01T00:00:00Z";
    let soon = wait_for("a time after the record", || {
        let logged = row["logged_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let now = jiff::Timestamp::now();
        (now.as_second() > logged.as_second() + 1).then(|| now.to_string())
    });
    let erase = |floor: &str, more: &[&str], who: &str| {
        let what = ["erase", "--entries", &at, "--reason", "asked for by the person", "--floor"];
        house.call(&[&what[..], &[floor], more].concat(), who)
    };
    // Nobody is asked where nobody can answer; a floor to come, and another role, are refused.
    assert_eq!(erase(&soon, &[], "tenant-admin").status.code(), Some(2));
    let early = erase(floor, &["--yes"], "tenant-admin");
    assert_eq!(early.status.code(), Some(1), "{}", said(&early));
    assert_eq!(erase(&soon, &["--yes"], "auditor").status.code(), Some(2));
    assert_eq!(house.query(&["--session", session, "--outcome", "refuse"])[0], row);

    let out = house.beside("erasure");
    let done = erase(&soon, &["--yes", "--out", out.to_str().unwrap()], "tenant-admin");
    assert!(done.status.success(), "{}", said(&done));
    assert!(
        said(&done).contains(row["actor"].as_str().unwrap()),
        "it is shown before: {}",
        said(&done)
    );
    // EVID-16: what still tells it is named.
    let left = format!("a guess at them can be confirmed: {}.", index(&shadow));
    assert!(said(&done).contains(&left), "{left}: {}", said(&done));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.starts_with("1 records erased, recorded at index"), "{text}");

    let erased =
        house.query(&["--kind", "verdict"]).into_iter().find(|r| r["index"] == row["index"]);
    let erased = erased.unwrap();
    assert_eq!((&erased["erased"], &erased["root"]), (&true.into(), &row["root"]));
    assert_eq!((erased["actor"].as_str(), &erased["outcome"]), (Some(""), &"refuse".into()));
    let counted = house.call(&["query", "--session", session, "--count"], "auditor");
    assert!(said(&counted).contains("erased records can't be asked"), "{}", said(&counted));

    house.stop();
    let reindexed = countersign().arg("reindex").arg("--dir").arg(house.root()).output().unwrap();
    assert!(reindexed.status.success(), "{}", said(&reindexed));
    house.serve();
    let pack = house.pack("pack", &["--complete"]);
    let report = house.check(&pack);
    assert_eq!(report.result, Verdict::Valid, "{:?}", report.findings);
    let complete = report.complete.unwrap();
    assert_eq!(complete.erased, [index(&row)]);
    assert!(complete.refusals.contains(&index(&row)));
    let page = fs::read_to_string(pack.join("report.html")).unwrap();
    assert!(page.contains("(erased)") && page.contains("were erased by the tenant"), "{page}");
}

#[test]
fn an_export_loses_nothing_and_goes_on_where_it_ended() {
    let house = House::new();
    let trust = house.trust();
    let out = house.beside("events.jsonl");
    let path = out.to_str().unwrap();
    let export = ["export", "--ocsf", "--kind", "verdict", "--out", path];
    house.expect(0, &export, "auditor");
    house.submit("second", VERDICTS, 7);
    // Half a line, as an export leaves it that was killed.
    let whole = fs::read_to_string(&out).unwrap();
    fs::write(&out, format!("{whole}{{\"activity_id\":")).unwrap();
    house.expect(0, &export, "auditor");
    house.expect(3, &export, "auditor");
    let text = fs::read_to_string(&out).unwrap();
    assert!(text.starts_with(&whole));
    let rows = house.query(&["--kind", "verdict"]);
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), rows.len());
    for (event, row) in events.iter().zip(&rows) {
        assert_eq!(&event["unmapped"]["countersign"], row);
        let report = verify_file(event["raw_data"].as_str().unwrap().as_bytes(), Some(&trust));
        assert_eq!((report.result, report.facts.index), (Verdict::Valid, index(row)));
    }

    let cef = house.expect(0, &["export", "--cef", "--outcome", "refuse", "--out", "-"], "auditor");
    let text = String::from_utf8(cef.stdout.clone()).unwrap();
    let refused = house.query(&["--outcome", "refuse"]);
    assert_eq!(text.lines().count(), refused.len());
    for (line, row) in text.lines().zip(&refused) {
        let evidence = line.split("countersignEvidence=").nth(1).unwrap().replace("\\=", "=");
        let report = verify_file(&from_b64(&evidence).unwrap(), Some(&trust));
        assert_eq!((report.result, report.facts.index), (Verdict::Valid, index(row)));
    }
    // From an index on.
    let from = index(&refused[2]).to_string();
    let what = ["export", "--cef", "--outcome", "refuse", "--out", "-", "--from-index", &from];
    let rest = house.expect(0, &what, "auditor");
    assert_eq!(String::from_utf8(rest.stdout).unwrap().lines().count(), refused.len() - 2);
}

#[test]
fn a_diagnosis_answers_from_what_runs_and_says_what_it_can_not_know() {
    let house = House::new();
    let mut command = countersign();
    command.arg("diagnose").arg("--dir").arg(house.root()).args(["--server", &house.grpc]);
    // No gate runs here, which makes its answers unknown and not wrong.
    let output = command.args(["--gate", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for needed in [
        "1. Where is the gate?",
        "2. What happens to a request that the policy does not allow?",
        "3. Who owns the rules?",
        "4. What is the evidence?",
        "5. What is the worst failure?",
        "gates of acme on record: prod-1",
        "infra version 3, signed by",
        "unknown  whether the gate runs",
        "unknown  whether every way to act goes through it",
        "RISK     no independent witness is asked for",
        "refused",
    ] {
        assert!(text.contains(needed), "{needed}\n{text}");
    }
    assert!(!text.contains("\\u{a}"), "{text}");
    let counted =
        |mark: &str| text.lines().filter(|line| line.trim_start().starts_with(mark)).count();
    let (risks, unknown) = (counted("RISK"), counted("unknown"));
    assert!(risks > 1 && unknown > 1, "{text}");
    let last = format!("{risks} risks, and {unknown} things that can't be known from here");
    assert!(said(&output).contains(&last), "{last}: {}", said(&output));
}

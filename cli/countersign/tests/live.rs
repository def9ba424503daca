//! The command against a real ledger: its own `serve`, on RocksDB, over mutual TLS on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its stage should stop there"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use countersign_core::encoding::hex;
use countersign_core::hash::Context;
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};
use serde_json::Value;
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../examples/infrastructure-agent.jsonl");
/// The policy version that its verdicts are under.
const DIGEST: &str = "83b4c82b5090b23142ef2b3ec516f0d70ca9633969e0d283bc62ec69d5219e9d";
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

/// An installation in a folder of its own.
struct House(TempDir);

/// A ledger that runs; killed when it is dropped.
struct Serving {
    child: Child,
    grpc: String,
    http: String,
    ready_file: PathBuf,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Ends it as an init system does; gives the exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        let status = wait_for("the ledger's end", || self.child.try_wait().unwrap());
        assert!(!self.ready_file.exists(), "a ledger that is gone is not ready");
        status.code()
    }
}

impl House {
    fn new() -> Self {
        let house = Self(tempfile::tempdir().unwrap());
        let made = countersign()
            .args(["init", "--origin", "ledger.acme.example/prod", "--tenant", "acme"])
            .args(["--gate", "prod-1", "--dir"])
            .arg(house.root())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", said(&made));
        house
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("ledger")
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn identity(&self, name: &str) -> PathBuf {
        self.root().join("identities").join(name)
    }

    fn serve(&self, grpc: &str, extra: &[&str]) -> Serving {
        let ready_file = self.0.path().join("ready.json");
        fs::write(&ready_file, "stale").unwrap();
        let mut command = countersign();
        command.arg("serve").arg("--dir").arg(self.root());
        command.args(["--grpc", grpc, "--http", "127.0.0.1:0", "--ready-file"]).arg(&ready_file);
        let log = fs::File::create(self.0.path().join("serve.log")).unwrap();
        let mut child = command.args(extra).stderr(log).spawn().unwrap();
        let ready: Value = wait_for("the ready file", || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(self.0.path().join("serve.log")).unwrap();
                panic!("the ledger ended with {status}: {log}");
            }
            serde_json::from_str(&fs::read_to_string(&ready_file).ok()?).ok()
        });
        assert_eq!(ready["pid"], child.id());
        assert_eq!(ready["origin"], "ledger.acme.example/prod");
        assert!(ready["http"].is_string());
        let address = |name: &str| ready[name].as_str().unwrap().to_owned();
        Serving { child, grpc: address("grpc"), http: address("http"), ready_file }
    }

    fn submission(&self, lines: usize, server: &str) -> Command {
        let file = self.0.path().join("verdicts.jsonl");
        fs::write(&file, EXAMPLE.lines().take(lines).collect::<Vec<_>>().join("\n")).unwrap();
        let mut command = countersign();
        command.arg("submit").arg(file).args(["--server", server, "--output", "jsonl"]);
        command.arg("--identity").arg(self.identity("gate")).arg("--out").arg(self.out());
        command
    }

    /// The policy version that the example's verdicts are under, signed by this identity.
    fn register(&self, server: &str, owner: &str) -> Output {
        let mut command = countersign();
        command.args(["policy", "register", "--server", server, "--policy-id", "infra"]);
        command.args(["--version", "3", "--engine", "example-gate 1", "--digest", DIGEST]);
        command.arg("--identity").arg(self.identity("gate"));
        command.arg("--owner").arg(self.identity(owner)).output().unwrap()
    }

    /// Registers the policy, which is harmless when it is registered, and submits.
    fn submit(&self, lines: usize, server: &str) -> Vec<Value> {
        let registered = self.register(server, "policy-admin");
        assert_eq!(registered.status.code(), Some(0), "{}", said(&registered));
        let output = self.submission(lines, server).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        answers(&output)
    }

    fn call(&self, what: &[&str], identity: &str, server: &str) -> Output {
        let mut command = countersign();
        command.args(what).args(["--server", server, "--identity"]).arg(self.identity(identity));
        command.output().unwrap()
    }

    fn assert_valid(&self, path: &Path) {
        let read = |name: &str| fs::read_to_string(self.root().join(name)).unwrap();
        let trust = Trust::parse(&read("trust.toml"), |name| Ok(read(name))).unwrap();
        let report = verify_file(&fs::read(path).unwrap(), Some(&trust));
        assert_eq!(report.result, Verdict::Valid, "{}: {report:?}", path.display());
    }
}

fn answers(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn evidence(answer: &Value) -> &Path {
    Path::new(answer["evidence"].as_str().unwrap())
}

#[test]
fn submitted_verdicts_are_proven_by_everyone_who_may_ask_and_survive_a_restart() {
    let house = House::new();
    let ledger = house.serve("127.0.0.1:0", &[]);
    let first = house.submit(250, &ledger.grpc);
    assert_eq!(first.len(), 250);
    for answer in &first {
        assert_eq!(answer["status"], "logged");
        house.assert_valid(evidence(answer));
    }

    let trust = house.root().join("trust.toml");
    let id = first[120]["action_id"].as_str().unwrap();
    let fetched = house.0.path().join("fetched");
    let what = ["evidence", id, "--out", fetched.to_str().unwrap()];
    let trusted = ["--output", "jsonl", "--trust", trust.to_str().unwrap()];
    let output = house.call(&[&what[..], &trusted].concat(), "responder", &ledger.grpc);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found = answers(&output).remove(0);
    assert_eq!((&found["index"], &found["result"]), (&first[120]["index"], &"VALID".into()));
    house.assert_valid(evidence(&found));

    let doctor = countersign()
        .args(["doctor", "--server", &ledger.grpc, "--dir"])
        .arg(house.root())
        .output()
        .unwrap();
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stdout));
    assert_eq!(house.call(&["head"], "auditor", &ledger.grpc).status.code(), Some(0));
    assert_eq!(ledger.stop(), Some(0));

    let ledger = house.serve("127.0.0.1:0", &[]);
    let again = house.submit(300, &ledger.grpc);
    for (before, after) in first.iter().zip(&again) {
        assert_eq!(after["status"], "repeated");
        assert_eq!((&before["index"], &before["seq"]), (&after["index"], &after["seq"]));
        house.assert_valid(evidence(after));
    }
    assert!(again[250..].iter().all(|answer| answer["status"] == "logged"));
    // The auditor's last head is remembered, and the new one continues it.
    let output = house.call(&["head", "--output", "jsonl"], "auditor", &ledger.grpc);
    assert_eq!(answers(&output)[0]["size"], 303);
}

#[test]
fn verdicts_are_taken_under_a_policy_that_its_owner_registered() {
    let house = House::new();
    let ledger = house.serve("127.0.0.1:0", &[]);
    let submitted = || house.submission(3, &ledger.grpc).output().unwrap();
    let output = submitted();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for answer in answers(&output) {
        assert_eq!(answer["code"], "POLICY_UNKNOWN", "{answer}");
    }
    assert!(said(&output).contains("countersign policy register"), "{}", said(&output));
    for owner in ["approver-owner-1", "tenant-admin", "pep", "gate"] {
        let output = house.register(&ledger.grpc, owner);
        assert_eq!(output.status.code(), Some(2), "{owner}: {}", said(&output));
        assert!(said(&output).contains("only a policy-admin signs"), "{}", said(&output));
    }
    for already in [false, true, true] {
        let output = house.register(&ledger.grpc, "policy-admin");
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(said(&output).contains("is registered already"), already, "{}", said(&output));
        assert!(said(&output).contains("at index 2"), "{}", said(&output));
        house.assert_valid(Path::new(std::str::from_utf8(&output.stdout).unwrap().trim_end()));
    }
    // What was refused before is taken when the same command is run again.
    let output = submitted();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(answers(&output).iter().all(|answer| answer["status"] == "logged"));
    let output = house.call(&["head", "--output", "jsonl"], "gate", &ledger.grpc);
    assert_eq!(answers(&output)[0]["size"], 6, "each once: genesis, stream, policy, verdicts");
}

#[test]
fn a_policy_with_its_texts_is_registered_under_their_digest() {
    let house = House::new();
    let ledger = house.serve("127.0.0.1:0", &[]);
    let file = |name: &str, text: &str| {
        let path = house.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = file("policy.cedar", "permit(principal, action, resource);");
    let schema = file("schema.cedarschema", "");
    let owner = house.identity("policy-admin").to_str().unwrap().to_owned();
    let register = |texts: &[&str]| {
        let version = ["--policy-id", "prod", "--version", "1", "--engine", "cedar 4"];
        let what = ["policy", "register", "--owner", &owner];
        house.call(&[&what[..], &version, texts].concat(), "gate", &ledger.grpc)
    };
    let wrong: [&[&str]; 5] = [
        &[],
        &["--policy", &policy],
        &["--schema", &schema],
        &["--policy", &policy, "--schema", &schema, "--digest", DIGEST],
        &["--digest", "83B4"],
    ];
    for texts in wrong {
        let output = register(texts);
        assert_eq!(output.status.code(), Some(2), "{texts:?}: {}", said(&output));
    }
    let output = register(&["--policy", &policy, "--schema", &schema]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // H("policy", both texts with their lengths), from the outside.
    let mut blob = 36_u32.to_be_bytes().to_vec();
    blob.extend_from_slice(b"permit(principal, action, resource);\0\0\0\0");
    let digest = hex(&Context::Policy.hash(&[&blob]));
    assert!(said(&output).contains(&digest), "{}", said(&output));
    let path = std::str::from_utf8(&output.stdout).unwrap().trim_end();
    house.assert_valid(Path::new(path));
}

/// `--identity` takes the folder that `init` made as well: the gate's identity is meant.
#[test]
fn the_folder_of_init_stands_for_its_gate() {
    let house = House::new();
    let ledger = house.serve("127.0.0.1:0", &[]);
    let head = countersign()
        .args(["head", "--server", &ledger.grpc, "--identity"])
        .arg(house.root())
        .output()
        .unwrap();
    assert_eq!(head.status.code(), Some(0), "{}", said(&head));
}

#[test]
fn a_ledger_that_is_killed_under_a_submission_loses_and_doubles_nothing() {
    let house = House::new();
    let ledger = house.serve("127.0.0.1:0", &[]);
    let grpc = ledger.grpc.clone();
    assert!(house.register(&grpc, "policy-admin").status.success());
    let mut submission = house.submission(600, &grpc);
    // One verdict a batch, so that there is a middle to be killed in.
    submission.args(["--batch", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let submission = submission.spawn().unwrap();
    let files = || fs::read_dir(house.out()).map_or(0, Iterator::count);
    wait_for("the first evidence files", || (files() > 20).then_some(()));
    ledger.signal("KILL");
    drop(ledger);
    let ledger = house.serve(&grpc, &[]);
    let output = submission.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answers = answers(&output);
    let seqs: Vec<_> = answers.iter().map(|answer| answer["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..601).collect::<Vec<_>>());
    for answer in &answers {
        house.assert_valid(evidence(answer));
    }
    let output = house.call(&["head", "--output", "jsonl"], "gate", &grpc);
    assert_eq!(self::answers(&output)[0]["size"], 603);
    assert_eq!(ledger.stop(), Some(0));
}

#[test]
fn a_second_ledger_leaves_the_first_ones_ready_file() {
    let house = House::new();
    let first = house.serve("127.0.0.1:0", &[]);
    let before = fs::read(&first.ready_file).unwrap();
    let mut second = countersign();
    second.arg("serve").arg("--dir").arg(house.root()).arg("--ready-file").arg(&first.ready_file);
    let output = second.args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("STORE_LOCKED"), "{}", said(&output));
    assert_eq!(fs::read(&first.ready_file).unwrap(), before);
    let ready_file = first.ready_file.clone();
    assert_eq!(first.stop(), Some(0));
    // What a ledger that is gone has left is removed, even by a start that fails.
    fs::write(&ready_file, before).unwrap();
    fs::remove_file(house.root().join("keys/log.pem")).unwrap();
    assert_eq!(second.output().unwrap().status.code(), Some(2));
    assert!(!ready_file.exists());
}

#[test]
fn who_may_not_is_refused_with_a_sentence() {
    let house = House::new();
    let stranger = House::new();
    let ledger = house.serve("127.0.0.1:0", &[]);
    // Only a gate seals.
    let file = house.0.path().join("one.jsonl");
    fs::write(&file, "{}\n").unwrap();
    let what = ["submit", file.to_str().unwrap(), "--out", "never-made"];
    let output = house.call(&what, "auditor", &ledger.grpc);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("is the identity of an auditor"), "{}", said(&output));
    // Another installation's authority is nobody here, and its server roots do not know this one.
    let output = stranger.call(&["head"], "gate", &ledger.grpc);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("explain UNREACHABLE"));
    assert!(said(&output).contains("not of a trusted root"), "{}", said(&output));
    unreachable(&house, &stranger, &ledger);
    // A second ledger on the same data.
    let second = countersign()
        .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir"])
        .arg(house.root())
        .output()
        .unwrap();
    assert_ne!(second.status.code(), Some(0));
    assert!(said(&second).contains("STORE_LOCKED"), "{}", said(&second));
    assert_eq!(house.submit(3, &ledger.grpc).len(), 3, "the first one goes on");
}

/// Each way of not reaching a ledger has a sentence and a remedy of its own.
fn unreachable(house: &House, stranger: &House, ledger: &Serving) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (plain, http) = (format!("http://{}", ledger.grpc), format!("http://{}", ledger.http));
    let head = |server: &str, sentence: &str| {
        let output = house.call(&["head"], "gate", server);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(4), "{server}: {said}");
        assert!(said.contains(sentence) && said.contains("UNREACHABLE"), "{server}: {said}");
        for debug in ["Error", "transport", "kind:", "Some(", "countersign doctor"] {
            assert!(!said.contains(debug), "{server}: {said}");
        }
    };
    head(&nobody.to_string(), "the connection was refused");
    // Plain TCP to a TLS port, TLS to a plain one, and the HTTP port. Whether what answers is read
    // before the connection is reset is a race, so both are said to be about the port.
    for server in [&plain, &ledger.http, &http] {
        head(server, "gRPC port");
    }
    // A name that the certificate does not bear.
    let identity = house.identity("gate").join("identity.toml");
    let text = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, format!("{text}server_name = \"other.example\"\n")).unwrap();
    head(&ledger.grpc, "does not bear the name");
    fs::write(&identity, text).unwrap();
    // An identity of another authority, called with the right roots.
    let theirs = stranger.identity("gate").join("ca.pem");
    fs::copy(house.identity("gate").join("ca.pem"), theirs).unwrap();
    let output = stranger.call(&["head"], "gate", &ledger.grpc);
    // Whether the ledger's alert comes through, or the connection's end before it, is a race.
    assert!(said(&output).contains("client_roots"), "{}", said(&output));
}

#[test]
fn plain_tcp_only_on_loopback_and_only_by_name() {
    let house = House::new();
    let ledger = house.serve("127.0.0.1:0", &["--insecure-dev"]);
    let answers = house.submit(5, &format!("http://{}", ledger.grpc));
    assert!(answers.iter().all(|answer| answer["status"] == "logged"));
    assert_eq!(ledger.stop(), Some(0));
    let refused = countersign()
        .args(["serve", "--insecure-dev", "--grpc", "0.0.0.0:0", "--http", "127.0.0.1:0", "--dir"])
        .arg(house.root())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
}

#[test]
fn a_rolled_back_database_is_caught_by_whoever_saw_more() {
    let house = House::new();
    let ledger = house.serve("127.0.0.1:0", &[]);
    house.submit(100, &ledger.grpc);
    assert_eq!(ledger.stop(), Some(0));
    // Database and anchor together, so that the ledger itself can't notice.
    let (data, kept) = (house.root().join("data"), house.0.path().join("kept"));
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    copy(&data, &kept);
    let ledger = house.serve("127.0.0.1:0", &[]);
    house.submit(200, &ledger.grpc);
    assert_eq!(ledger.stop(), Some(0));
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    let ledger = house.serve("127.0.0.1:0", &[]);
    let output = house.call(&["head"], "gate", &ledger.grpc);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("HEAD_ROLLBACK"), "{}", said(&output));
    let output = house.submission(250, &ledger.grpc).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("HEAD_ROLLBACK"), "{}", said(&output));
}

#[test]
fn the_demonstration_goes_through_and_leaves_its_files() {
    let house = House::new();
    let dir = house.0.path().join("demo");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_countersign"));
    let verifier = program.with_file_name("countersign-verify");
    assert!(verifier.is_file(), "build with --workspace, which makes the verifier as well");
    let output = countersign()
        .arg("demo")
        .arg("--verifier")
        .arg(verifier)
        .arg("--dir")
        .arg(&dir)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // What to try next can be pasted wherever the programs are.
    let next = format!("  {} serve --dir {}", program.display(), dir.display());
    assert!(said(&output).contains(&next), "{}", said(&output));
    let data = String::from_utf8(output.stdout).unwrap();
    assert!(data.contains("refused elasticbeanstalk:TerminateEnvironment on cost-explorer (prod)"));
    assert!(data.contains("RESULT INVALID step 3 SEAL_SIGNATURE"));
    let summary = fs::read_to_string(dir.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["verdicts"], 605);
    // What production may be asked for depends on the hour; how much is asked does not.
    let parts = ["approve", "refuse", "supervise"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(parts.iter().sum::<u64>(), 605);
    assert!(parts.iter().all(|part| *part > 0), "{parts:?}");
    house_has(&dir, summary["refusal_file"].as_str().unwrap());
    // The gate's own notices are in the log as well, as many as the time that it took.
    let size = summary["head_size"].as_u64().unwrap();
    assert!(size > 605, "{size}");
    house_has(&dir, &format!("heads/{size:020}.note"));
    let proofs: Vec<_> = fs::read_dir(dir.join("consistency")).unwrap().flatten().collect();
    assert_eq!(proofs.len(), 1);
    for said in ["Who authorised it?   oncall-1 and owner-1", "executed, match.", "replay SAME"] {
        assert!(data.contains(said), "{said}: {data}");
    }
    assert_eq!(fs::read_dir(dir.join("evidence")).unwrap().count(), 605);
}

fn house_has(dir: &Path, name: &str) {
    assert!(dir.join(name).is_file(), "{name}");
}

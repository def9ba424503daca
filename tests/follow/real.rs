//! Behind a real ledger: heads, tiles, the tenant's own evidence; alarms as a person meets them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use countersign_core::alarm::verify_alarm;
use countersign_core::codes::Code;
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};
use countersign_testkit::malicious::{History, Ledger};
use countersign_tests::http::get;
use countersign_tests::{Installation, await_until};
use serde_json::Value;

use crate::process::{Stage, files, folder, text};

fn read_trust(dir: &Path) -> Trust {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    Trust::parse(&read("trust.toml"), |name| Ok(read(name))).unwrap()
}

struct Tenant {
    installation: Installation,
}

impl Tenant {
    fn arguments(&self) -> Vec<String> {
        let trust = self.installation.dir().join("trust.toml");
        let dir = self.installation.beside("mirror");
        [
            "mirror",
            "--dir",
            dir.to_str().unwrap(),
            "--from",
            &format!("http://{}", self.installation.ledger_http()),
            "--trust",
            trust.to_str().unwrap(),
            "--server",
            &self.installation.ledger_address(),
            "--identity",
            &self.installation.identity("auditor"),
            "--interval-s",
            "1",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// FOL-8: the tenant's evidence lies in its own mirror, each file verified, readable by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_follows_a_real_ledger_and_pulls_the_tenants_evidence() {
    let mut installation = Installation::new();
    installation.start_ledger().await;
    let tenant = Tenant { installation };
    tenant.installation.submit(30, 0);
    let log = tenant.installation.beside("mirror").join(folder());
    let ready = tenant.installation.beside("mirror.ready");
    let mut arguments = tenant.arguments();
    let more = ["--http", "127.0.0.1:0", "--ready-file", ready.to_str().unwrap()];
    arguments.extend(more.map(str::to_owned));
    let mut command = tenant.installation.command(&arguments);
    let mut mirror = crate::process::Killed(command.spawn().unwrap());
    let evidence = log.join("evidence");
    let count = || std::fs::read_dir(&evidence).map_or(0, Iterator::count);
    let is_evidence = |at_least: usize| (count() >= at_least).then_some(());
    await_until("the evidence of 30 verdicts", || is_evidence(30)).await;
    let first = files(&evidence);
    tenant.installation.submit(20, 100);
    await_until("the evidence of 20 more", || is_evidence(first.len() + 20)).await;
    // Head and tiles come by the other way, and get there too.
    let size =
        || std::fs::read_to_string(log.join("checkpoint")).ok()?.lines().nth(1)?.parse().ok();
    await_until("the head of all", || size().filter(|size: &u64| *size >= 52)).await;
    let said: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let metrics = get(said["http"].as_str().unwrap().parse().unwrap(), "/metrics");
    for name in ["size", "lag", "head_age_seconds", "stopped"] {
        assert!(metrics.contains(&format!("countersign_mirror_{name}{{origin=")), "{metrics}");
    }
    assert!(metrics.contains("countersign_mirror_evidence_total{"), "{metrics}");
    // It ends when it is told to, well.
    let pid = mirror.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = await_until("the mirror to end", || mirror.0.try_wait().unwrap()).await;
    assert!(ended.success());

    let trust = read_trust(&tenant.installation.dir());
    let all = files(&evidence);
    assert!(all.len() >= 50, "{}", all.len());
    for (name, bytes) in &all {
        let report = verify_file(bytes, Some(&trust));
        assert_eq!(report.result, Verdict::Valid, "{}", name.display());
        assert_eq!(name.to_str().unwrap(), format!("{:020}.evidence", report.facts.index));
    }
    assert!(first.iter().all(|(name, bytes)| all[name] == *bytes), "what was kept stays");
    let rights = std::fs::metadata(&evidence).unwrap().permissions().mode();
    assert_eq!(rights & 0o777, 0o700);
    // Again, once: nothing is new, and the receipts that the gate was given are of this log.
    let out = tenant.installation.beside("out-100").to_str().unwrap().to_owned();
    let mut arguments = tenant.arguments();
    arguments.extend(["--once", "--receipts", &out, "--output", "jsonl"].map(str::to_owned));
    let said = tenant.installation.command(&arguments).output().unwrap();
    assert!(said.status.success(), "{}", text(&said.stderr));
    let line: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((line["evidence"].as_u64(), line["waiting"].as_u64()), (Some(0), Some(0)));
}

/// FOL-6: exit code 1, words, the proof, and the same again; other logs are followed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_ends_the_following_with_a_proof_and_only_that_log() {
    let stage = Stage::new();
    let mut history = History::default();
    history.grow(300);
    stage.ledger.show(&history, 1);
    let other = Ledger::new("other.example/log");
    let mut honest = History::new(5);
    honest.grow(40);
    other.show(&honest, 1);
    let config = format!(
        "dir = \"m\"\ntrust = \"trust.toml\"\ninterval_s = 1\n[[log]]\nfrom = \"{}\"\n[[log]]\n\
         from = \"http://{}\"\ntrust = \"other.toml\"\n",
        stage.url,
        other.serve().unwrap()
    );
    std::fs::write(stage.path("mirror.toml"), config).unwrap();
    std::fs::write(stage.path("other.toml"), other.keys().trust()).unwrap();
    let arguments = ["mirror", "--config", &stage.path("mirror.toml"), "--once"];
    let said = stage.installation.run(&arguments);
    assert!(said.status.success(), "{}", said.stderr);
    assert!(said.stdout.contains("300 entries") && said.stdout.contains("40 entries"));

    let mut fork = history.forked(200, 1);
    fork.grow(300);
    stage.ledger.show(&fork, 2);
    honest.grow(5);
    other.show(&honest, 2);
    for round in 0..2 {
        let said = stage.installation.run(&arguments);
        assert_eq!(said.status.code(), Some(1), "{}", said.stderr);
        assert!(said.stderr.contains("HEAD_FORK: "), "{}", said.stderr);
        assert!(said.stderr.contains("It rewrote history: it signed 300 entries"));
        assert!(said.stdout.contains("45 entries"), "{round}: {}", said.stdout);
    }
    let alarms = files(&stage.installation.beside("m").join(folder()).join("alarms"));
    let bytes = alarms.values().next().unwrap();
    let trust = Trust::parse(&stage.ledger.keys().trust(), |_| Err(Code::TrustMalformed.into()));
    assert_eq!(verify_alarm(bytes, Some(&trust.unwrap())).result, Verdict::Valid);
    assert_eq!(alarms.len(), 1);

    // Who saw only the fork, and compares.
    let said = stage.once(&["--dir", &stage.path("fork")]);
    assert!(said.status.success());
    let (one, two, out) = (stage.path("m"), stage.path("fork"), stage.path("alarms"));
    let trust = stage.path("trust.toml");
    let compare = ["mirror", "compare", &one, &two, "--trust", &trust, "--out", &out];
    let said = stage.installation.run(&compare);
    assert_eq!(said.status.code(), Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("SPLIT_VIEW"), "{}", said.stderr);
    assert!(said.stdout.contains("two histories"), "{}", said.stdout);
    assert_eq!(files(out.as_ref()).values().collect::<Vec<_>>(), [bytes], "the same alarm");
    // And against the log's own tiles.
    let compare = ["mirror", "compare", &two, &stage.url, "--trust", &trust];
    assert!(stage.installation.run(&compare).status.success());
    let nobody = ["mirror", "compare", &two, &two, "--trust", &stage.path("other.toml")];
    assert_eq!(stage.installation.run(&nobody).status.code(), Some(3));
}

/// FOL-9: the folder of receipts that somebody was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_branch_is_found_by_a_folder_of_receipts() {
    let stage = Stage::new();
    let mut history = History::default();
    history.grow(300);
    stage.ledger.show(&history, 1);
    let folder = stage.path("receipts");
    std::fs::create_dir(&folder).unwrap();
    let keys = stage.ledger.keys();
    let honest = keys.receipt(&history, 7, Ledger::second(1)).unwrap();
    std::fs::write(format!("{folder}/7.receipt"), honest.to_string()).unwrap();
    std::fs::write(format!("{folder}/8.receipt"), "no receipt").unwrap();
    let arguments = ["--dir", &stage.path("m"), "--receipts", &folder];
    let said = stage.once(&arguments);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(text(&said.stderr).contains("8.receipt shows no head of this log"));
    let mut branch = history.forked(299, 1);
    branch.grow(1);
    let given = keys.receipt(&branch, 299, Ledger::second(1)).unwrap();
    std::fs::write(format!("{folder}/299.receipt"), given.to_string()).unwrap();
    let said = stage.once(&arguments);
    assert_eq!(said.status.code(), Some(1));
    assert!(text(&said.stderr).contains("PRIVATE_BRANCH"), "{}", text(&said.stderr));
}

/// What is missing or doubled on the command line is said with what to give.
#[test]
fn what_a_mirror_can_not_do_is_said() {
    let stage = Stage::new();
    for (arguments, why) in [
        (vec!["mirror"], "--dir or --to"),
        (vec!["mirror", "--dir", "x"], "--from"),
        (vec!["mirror", "--dir", "x", "--from", "http://127.0.0.1:1"], "--trust"),
        (
            vec!["mirror", "--dir", "x", "--from", "http://127.0.0.1:1", "--server", "s"],
            "--identity",
        ),
        (vec!["mirror", "--config", "c", "--dir", "x"], "leave --dir"),
    ] {
        let said = stage.installation.run(&arguments);
        assert_eq!(said.status.code(), Some(2), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(why), "{arguments:?}: {}", said.stderr);
    }
    let said = stage.once(&["--to", "ftp://x/y"]);
    assert_eq!(said.status.code(), Some(2), "{}", text(&said.stderr));
}

//! A supervised action through the real programs, gate or ledger killed (-9) while it is asked for,
//! approved and released: in the end the log holds exactly one final verdict of it. And a gate that
//! lives on while its ledger is killed under it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop where it stands; kills are timed"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use countersign_tests::{Installation, Random, Said, await_until};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Rounds in a test run, and in the long form.
const ROUNDS: (u64, u64) = (6, 200);
/// A kill comes at a random instant of this many microseconds after a command was started: about
/// what the command takes.
const SPREAD_US: u64 = 120_000;

/// The UUIDv7 of a round's action.
fn action_id(round: u64) -> String {
    format!("01a20980-{:04x}-7000-8000-{round:012x}", round & 0xffff)
}

fn intent(id: &str) -> Value {
    json!({
        "action_id": id,
        "verb": "elasticbeanstalk:TerminateEnvironment",
        "class": "delete",
        "destructive": true,
        "actor": {"kind": "human", "id": "alice", "session": "s-1"},
        "resource": {"type": "System", "id": "storefront"},
        "parameters": {"environment-name": "storefront"},
        "task": {"ticket": "OPS-1", "justification": "stuck"},
    })
}

/// The commands of a supervised action, in their order.
fn commands(all: &Installation, file: &str, id: &str, out: &str) -> [Vec<String>; 3] {
    let gate = all.gate_address();
    let own = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let approve = |who: &str| {
        let key = all.identity(who);
        own(&["approve", id, "--gate", &gate, "--key", &key, "--yes", "--justification", "agreed"])
    };
    let pep = all.identity("pep");
    [
        own(&["evaluate", file, "--gate", &gate, "--identity", &pep, "--out", out]),
        approve("approver-oncall-1"),
        approve("approver-owner-1"),
    ]
}

/// Verdicts of an action in the log, as `outcome` and whether they have a parent.
fn verdicts(all: &Installation, id: &str) -> Vec<(String, bool)> {
    let (out, server) = (all.beside(&format!("evidence-{id}")), all.ledger_address());
    let auditor = all.identity("auditor");
    let out_text = out.to_str().unwrap();
    let said =
        all.run(&["evidence", id, "--server", &server, "--identity", &auditor, "--out", out_text]);
    assert!(said.status.success(), "{}", said.stderr);
    let mut files: Vec<_> = std::fs::read_dir(&out).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let record = |file: &std::path::PathBuf| -> Option<(String, bool)> {
        let report = countersign_core::verify::verify_file(&std::fs::read(file).unwrap(), None);
        let view = report.facts.view?;
        let outcome = view.str("outcome")?.to_owned();
        Some((outcome, view.str("parent").is_some()))
    };
    files.iter().filter_map(record).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_a_supervised_action_has_one_final_verdict_whatever_is_killed() {
    let long = std::env::var_os("COUNTERSIGN_SOAK").is_some_and(|set| set == "1");
    let rounds = if long { ROUNDS.1 } else { ROUNDS.0 };
    let pack = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/countersign-gate/packs/infrastructure");
    let mut all = Installation::new();
    all.start_ledger().await;
    all.use_pack(&pack).await;
    let mut random = Random::new(7);
    for round in 0..rounds {
        let id = action_id(round);
        let file = all.beside("intent.jsonl");
        std::fs::write(&file, format!("{}\n", intent(&id))).unwrap();
        let out = all.beside("out");
        let names = (file.to_str().unwrap().to_owned(), out.to_str().unwrap().to_owned());
        // One of the three commands is struck, each in its turn; gate and ledger alternate.
        let struck = usize::try_from(round % 3).unwrap();
        for step in 0..3 {
            let command = &commands(&all, &names.0, &id, &names.1)[step];
            if step == struck {
                let mut child = all
                    .command(command)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let [a, b] = random.bytes::<2>();
                let part = u64::from(u16::from_be_bytes([a, b]));
                tokio::time::sleep(Duration::from_micros(SPREAD_US * part / 65_536)).await;
                if round % 2 == 0 {
                    all.kill_gate();
                } else {
                    all.kill_ledger();
                }
                await_until("the struck command", || child.try_wait().unwrap()).await;
                if round % 2 == 1 {
                    all.kill_gate();
                    all.start_ledger().await;
                }
                all.start_gate().await;
            }
            // Whoever was not heard says it again, until it is heard; what is answered already is
            // answered the same, or refused for that.
            let mut left = 100;
            loop {
                let said = all.run(
                    &commands(&all, &names.0, &id, &names.1)[step]
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>(),
                );
                let told = format!("{}{}", said.stdout, said.stderr);
                if said.status.success() || told.contains("APPROVAL_SAME_PERSON") {
                    break;
                }
                let over = verdicts(&all, &id).iter().any(|(_, child)| *child);
                if over {
                    break;
                }
                left -= 1;
                assert!(left > 0, "round {round} step {step}: {told}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let found = verdicts(&all, &id);
        let finals = found.iter().filter(|(_, child)| *child).count();
        assert_eq!(found.len(), 2, "round {round}: {found:?}");
        assert_eq!(finals, 1, "round {round}: {found:?}");
        assert_eq!(found[0].0, "supervise", "round {round}: {found:?}");
    }
}

/// An address of the ledger that stays while ledgers come and go.
struct Way {
    addr: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
}

impl Way {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, to) = (listener.local_addr().unwrap(), watch::Sender::new(None));
        let target = to.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let target = *target.borrow();
                let Some(target) = target else { continue };
                tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        // Ends with the connection of either side.
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { addr, to }
    }
}

/// A gate that only the test's end kills.
struct Gate {
    child: Child,
    address: String,
}

impl Gate {
    async fn start(all: &Installation, ledger: SocketAddr) -> Self {
        let (dir, ready) = (all.dir(), all.beside("lasting.ready"));
        let mut own = vec!["gate".to_owned()];
        for (name, value) in [
            ("--dir", dir.to_str().unwrap()),
            ("--ready-file", ready.to_str().unwrap()),
            ("--grpc", "127.0.0.1:0"),
            ("--http", "127.0.0.1:0"),
            ("--authzen", "127.0.0.1:0"),
            ("--ledger", &ledger.to_string()),
        ] {
            own.extend([name.to_owned(), value.to_owned()]);
        }
        let child = all.command(&own).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut gate = Self { child, address: String::new() };
        let said: Value = await_until("the gate", || {
            serde_json::from_str(&std::fs::read_to_string(&ready).ok()?).ok()
        })
        .await;
        said["grpc"].as_str().unwrap().clone_into(&mut gate.address);
        gate
    }

    /// The gate's word of itself.
    fn status(&self, all: &Installation) -> Value {
        let pep = all.identity("pep");
        let said =
            all.run(&["status", "--gate", &self.address, "--identity", &pep, "--output", "jsonl"]);
        assert!(said.status.success(), "{}", said.stderr);
        said.lines().remove(0)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an agent asks: to look at production, which is approved, or to end it, which is refused.
fn by_agent(id: &str, ends: bool) -> Value {
    let mut asked = intent(id);
    asked["actor"] = json!({"kind": "agent", "id": "infra-assistant-7", "session": "s-1"});
    if !ends {
        asked["verb"] = json!("ec2:DescribeInstances");
        asked["class"] = json!("read");
        asked["destructive"] = json!(false);
        asked["parameters"] = json!({});
    }
    asked
}

/// The command that asks the lasting gate.
fn asks(all: &Installation, gate: &Gate, asked: &Value) -> Vec<String> {
    let (file, out) = (all.beside("lasting.jsonl"), all.beside("lasting-out"));
    std::fs::write(&file, format!("{asked}\n")).unwrap();
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    let pep = all.identity("pep");
    let own = ["evaluate", file, "--gate", &gate.address, "--identity", &pep, "--out", out];
    own.iter().chain(&["--output", "jsonl"]).map(|part| (*part).to_owned()).collect()
}

/// Its answer, and whether that is on record.
fn told(said: &Said) -> (String, bool) {
    let line = said.lines().remove(0);
    (line["outcome"].as_str().unwrap().to_owned(), !line["index"].is_null())
}

// No restart of the gate helps it over a ledger that died: what it answered, and what it could not,
// is in the log once there is a ledger again.
#[tokio::test(flavor = "multi_thread")]
async fn soak_a_gate_outlives_its_ledger() {
    let long = std::env::var_os("COUNTERSIGN_SOAK").is_some_and(|set| set == "1");
    let rounds = if long { ROUNDS.1 } else { ROUNDS.0 / 2 };
    let pack = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/countersign-gate/packs/infrastructure");
    let mut all = Installation::new();
    all.start_ledger().await;
    all.use_pack(&pack).await;
    all.kill_gate();
    let way = Way::start().await;
    way.to.send_replace(Some(all.ledger_address().parse().unwrap()));
    let mut gate = Gate::start(&all, way.addr).await;
    let mut random = Random::new(11);
    let run = |all: &Installation, command: &[String]| {
        all.run(&command.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for round in 0..rounds {
        let [struck, refused, after] = [0, 1, 2].map(|each| action_id(3 * round + each));
        let command = asks(&all, &gate, &by_agent(&struck, false));
        let child = all.command(&command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let [a, b] = random.bytes::<2>();
        let part = u64::from(u16::from_be_bytes([a, b]));
        tokio::time::sleep(Duration::from_micros(SPREAD_US * part / 65_536)).await;
        all.kill_ledger();
        let output = child.unwrap().wait_with_output().unwrap();
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        let was_approved = line["outcome"] == "approve";
        assert!(was_approved || line["codes"] == json!(["EVIDENCE_UNAVAILABLE"]), "{line}");
        // Refused, and not recorded: nothing is approved without a ledger, and nothing lost.
        let said = run(&all, &asks(&all, &gate, &by_agent(&refused, true)));
        assert_eq!(told(&said), ("refuse".to_owned(), false), "round {round}: {}", said.stdout);
        let away = |gate: &Gate| gate.status(&all)["ledger_reachable"] == false;
        await_until("the gate to say so", || away(&gate).then_some(())).await;

        way.to.send_replace(None);
        all.start_ledger().await;
        way.to.send_replace(Some(all.ledger_address().parse().unwrap()));
        await_until("all to be recorded", || {
            let status = gate.status(&all);
            (status["ledger_reachable"] == true && status["outbox"] == 0).then_some(())
        })
        .await;
        let refuse = [("refuse".to_owned(), false)];
        assert_eq!(verdicts(&all, &refused), refuse, "round {round}");
        let found = verdicts(&all, &struck);
        let approve = ("approve".to_owned(), false);
        let void = [approve.clone(), ("refuse".to_owned(), true)];
        let fits = if was_approved { found == [approve] } else { found == refuse || found == void };
        assert!(fits, "round {round}: {line}: {found:?}");
        let said = run(&all, &asks(&all, &gate, &by_agent(&after, false)));
        assert_eq!(told(&said), ("approve".to_owned(), true), "round {round}: {}", said.stderr);
        assert!(gate.child.try_wait().unwrap().is_none(), "the gate ended");
    }
}

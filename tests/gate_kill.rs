//! A supervised action through the real programs, gate or ledger killed (-9) while it is asked for,
//! approved and released: in the end the log holds exactly one final verdict of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop where it stands; kills are timed"
)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use countersign_tests::{Installation, Random, await_until};
use serde_json::{Value, json};

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

//! What an auditor and an enforcement point do around a gate, with the real programs: a candidate
//! policy over what was decided, approvals set against outcomes, and an approval asked for over
//! `AuthZEN` with a certificate.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_tests::{Installation, Said};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const ACTION: &str = "01a20980-0000-7000-8000-00000000aaaa";

fn pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/countersign-gate/packs/infrastructure")
}

async fn installation() -> Installation {
    let mut all = Installation::new();
    all.start_ledger().await;
    all.use_pack(&pack()).await;
    all
}

fn intent(action_id: Option<&str>, system: &str) -> Value {
    json!({
        "action_id": action_id,
        "verb": "elasticbeanstalk:TerminateEnvironment",
        "class": "delete",
        "actor": {"kind": "agent", "id": "infra-assistant-7", "session": "s-1"},
        "resource": {"type": "System", "id": system},
        "parameters": {"environment-name": system},
        "task": {"ticket": "OPS-1", "justification": "delete and recreate"},
    })
}

/// Asks for each, and gives the answers.
fn evaluate(all: &Installation, intents: &[Value]) -> Vec<Value> {
    let file = all.beside("intents.jsonl");
    let lines: Vec<String> = intents.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let out = all.beside("evidence");
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    all.gate(&["evaluate", file, "--out", out, "--output", "jsonl"], "pep").lines()
}

fn as_auditor(all: &Installation, command: &[&str]) -> Said {
    let (server, auditor) = (all.ledger_address(), all.identity("auditor"));
    let evidence = all.beside("evidence");
    let with = ["--server", &server, "--identity", &auditor, "--output", "jsonl"];
    let from = ["--evidence", evidence.to_str().unwrap()];
    all.run(&[command, &with, &from].concat())
}

/// The pack with what refuses or supervises taken out: broad authority is all that is left.
fn candidate(all: &Installation) -> PathBuf {
    let folder = all.beside("candidate");
    std::fs::create_dir(&folder).unwrap();
    for name in ["policy.cedar", "schema.cedarschema"] {
        let text = std::fs::read_to_string(pack().join(name)).unwrap();
        // Without a supervise for gate:emergency it would be no policy that a gate takes (POL-13).
        let held = |part: &&str| part.contains("forbid (") && !part.contains("gate:emergency");
        let kept = text.split("\n\n").filter(|part| !held(part));
        std::fs::write(folder.join(name), kept.collect::<Vec<_>>().join("\n\n")).unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_shows_which_verdicts_would_flip_and_reconciliation_what_is_missing() {
    let all = installation().await;
    let answers =
        evaluate(&all, &[intent(None, "cost-explorer"), intent(Some(ACTION), "cost-explorer-dev")]);
    assert_eq!([&answers[0]["outcome"], &answers[1]["outcome"]], ["refuse", "approve"]);

    let folder = candidate(&all);
    let diff = as_auditor(&all, &["policy", "diff", "--candidate", folder.to_str().unwrap()]);
    let lines = diff.lines();
    let flips: Vec<&Value> = lines.iter().filter(|line| line.get("change").is_some()).collect();
    assert_eq!(flips.len(), 1, "{}{}", diff.stdout, diff.stderr);
    assert_eq!(flips[0]["index"], answers[0]["index"]);
    assert_eq!([&flips[0]["recorded"], &flips[0]["change"]], ["refuse", "NEW_APPROVAL"]);
    assert_eq!(diff.status.code(), Some(1), "a new approval is to be looked at");
    let same = as_auditor(&all, &["policy", "diff", "--candidate", pack().to_str().unwrap()]);
    assert_eq!(same.status.code(), Some(0), "{}{}", same.stdout, same.stderr);

    // While the permit lasts nothing is missing; a day later the outcome is.
    let found = |said: &Said| -> Vec<String> {
        said.lines().iter().map(|line| line["finding"].as_str().unwrap().to_owned()).collect()
    };
    let now = as_auditor(&all, &["reconcile"]);
    assert_eq!((now.status.code(), found(&now)), (Some(0), vec![]), "{}", now.stderr);
    let later = ["reconcile", "--now", "2099-01-01T00:00:00Z"];
    let missing = as_auditor(&all, &later);
    assert_eq!(missing.status.code(), Some(1));
    assert!(found(&missing).contains(&"APPROVAL_WITHOUT_OUTCOME".to_owned()), "{}", missing.stdout);

    // What was done is not what was approved.
    let permit = answers[1]["permit"]["id"].as_str().unwrap();
    let digest = "ab".repeat(32);
    let outcome = ["outcome", "--action", ACTION, "--permit", permit, "--result", "executed"];
    let (gate, pep) = (all.gate_address(), all.identity("pep"));
    let with = ["--effect-digest", &digest, "--gate", &gate, "--identity", &pep];
    let told = all.run(&[&outcome[..], &with].concat());
    assert!(told.stdout.contains("mismatch"), "{}{}", told.stdout, told.stderr);
    let wrong = as_auditor(&all, &["reconcile"]);
    assert_eq!((wrong.status.code(), found(&wrong)), (Some(1), vec!["DIGEST_MISMATCH".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_over_authzen_carries_its_permit_and_its_place_in_the_log() {
    let all = installation().await;
    let ask = |system: &str| {
        json!({
            "subject": {
                "type": "agent", "id": "infra-assistant-7", "properties": {"session": "s-1"},
            },
            "action": {
                "name": "elasticbeanstalk:TerminateEnvironment",
                "properties": {"class": "delete", "environment-name": system},
            },
            "resource": {"type": "System", "id": system},
            "context": {"task": {"ticket": "OPS-1"}, "justification": "delete and recreate"},
        })
    };
    let said = authzen(&all, "pep", &ask("cost-explorer-dev")).await.unwrap();
    assert_eq!(said["decision"], true, "{said}");
    let context = &said["context"];
    assert_eq!(context["outcome"], "approve");
    assert_eq!(context["evidence"]["recorded"], true);
    let use_permit = &context["obligations"][0];
    assert_eq!([&use_permit["id"], &use_permit["audience"]], ["use_permit", "pep"]);
    // The index that it names is the verdict's: its evidence is in the log.
    let id = context["id"].as_str().unwrap();
    let (server, auditor) = (all.ledger_address(), all.identity("auditor"));
    let out = all.beside("authzen");
    let trust = all.dir().join("trust.toml");
    let (out, trust) = (out.to_str().unwrap(), trust.to_str().unwrap());
    let evidence = all.run(&[
        "evidence",
        id,
        "--server",
        &server,
        "--identity",
        &auditor,
        "--trust",
        trust,
        "--out",
        out,
        "--output",
        "jsonl",
    ]);
    let rows = evidence.lines();
    assert_eq!(rows[0]["index"], context["evidence"]["index"], "{}", evidence.stdout);
    assert_eq!([&rows[0]["outcome"], &rows[0]["result"]], ["approve", "VALID"]);

    let refused = authzen(&all, "pep", &ask("cost-explorer")).await.unwrap();
    assert_eq!(
        [&refused["decision"], &refused["context"]["outcome"]],
        [&json!(false), &"refuse".into()]
    );
    // Somebody else's certificate asks for nothing.
    let other = authzen(&all, "auditor", &ask("cost-explorer-dev")).await;
    assert!(other.is_none_or(|said| said.get("decision").is_none()));
}

/// One request over TLS as this identity; none where the answer is no 200.
async fn authzen(all: &Installation, identity: &str, body: &Value) -> Option<Value> {
    let folder = PathBuf::from(all.identity(identity));
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(folder.join("ca.pem")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(folder.join("cert.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let stream = TcpStream::connect(all.authzen_address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST /access/v1/evaluation HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| serde_json::from_str(body).unwrap())
}

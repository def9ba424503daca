//! A whole gate, without its ledger: both sides are wired to it, and what can't be proved is
//! refused on each of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign_client::{ClientConfig, GateIdentity};
use countersign_core::note::{KeyType, VerifierKey};
use countersign_server::drain::drain;
use countersign_server::gate::host::Machine;
use countersign_server::gate::webhook::WebhookSection;
use countersign_server::gate::{GateParts, run_gate_until};
use ed25519_dalek::SigningKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::port::{PEP, exchange, post, request};
use crate::receiver::{Receiver, secret};
use crate::support::{self, Authority};

#[tokio::test]
async fn a_gate_without_its_ledger_refuses_over_authzen_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (server_ca, client_ca) = (Authority::new(), Authority::new());
    let receiver = Receiver::start(None).await;
    let mut config = support::config(&dir, &server_ca, &client_ca);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.gate.grpc, config.gate.http, config.gate.authzen) = (any, any, any);
    config.gate.state_dir = dir.path().join("gate");
    config.gate.directory = dir.path().join("directory.json");
    config.gate.answer_timeout_ms = 100;
    config.gate.webhook = Some(WebhookSection {
        url: receiver.url(),
        secret_file: secret(&dir, &[b'k'; 32]),
        ca_file: None,
        timeout_ms: 1_000,
    });
    config.tls = None;
    config.insecure_dev_identity = Some(PEP.to_owned());
    let checked = config.check(true).unwrap();

    let key = SigningKey::from_bytes(&[7; 32]);
    let log =
        VerifierKey::new("ledger.acme.example/prod", KeyType::Note, key.verifying_key().to_bytes());
    let nobody = std::net::TcpListener::bind(any).unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let parts = GateParts {
        identity: GateIdentity {
            tenant: "acme".to_owned(),
            gate: "prod-1".to_owned(),
            seal_key: key,
            chain: Vec::new(),
            instance: 0,
            software: "test".to_owned(),
        },
        ledger: ClientConfig::new(endpoint, log.unwrap()),
    };
    let (trigger, drain) = drain();
    let (tell, ready) = oneshot::channel();
    let gate = tokio::spawn(async move {
        let on_ready = move |ready: &_| drop(tell.send(Clone::clone(ready)));
        run_gate_until(&checked, parts, Arc::new(Machine), drain, on_ready).await
    });
    let ready: countersign_server::gate::GateReady = ready.await.unwrap();

    let stream = TcpStream::connect(ready.authzen).await.unwrap();
    let asked = post("/access/v1/evaluation", &request("infra:Scale").to_string());
    let answer = exchange(stream, &asked).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = answer.json();
    assert_eq!(said["decision"], false);
    assert_eq!(said["context"]["outcome"], "refuse");
    assert_eq!(said["context"]["evidence"]["recorded"], false);
    assert_eq!(said["context"]["reasons"].as_array().unwrap().len(), 1, "{said}");

    let mut metrics = TcpStream::connect(ready.http).await.unwrap();
    let get = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    metrics.write_all(get).await.unwrap();
    let mut text = String::new();
    metrics.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("countersign_webhook_failing 0\n"), "{text}");
    assert!(text.contains("rpc=\"authzen evaluation\",code=\"OK\"} 1\n"), "{text}");
    assert!(receiver.came().is_empty(), "HOOK-2: what is not in the log is no signal");

    trigger.start();
    let ended = tokio::time::timeout(Duration::from_secs(30), gate).await.unwrap().unwrap();
    ended.unwrap();
    assert!(TcpStream::connect(ready.authzen).await.is_err());
}

//! An AuthZEN port in front of a gate that says what its verbs ask for, and callers of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_core::cert::SpiffeId;
use countersign_core::codes::Code;
use countersign_proto::errors::Refusal;
use countersign_proto::v1::{EvaluateResponse, Permit, Reason, Requires};
use countersign_server::config::{RevokedSection, ServerConfig};
use countersign_server::drain::{DrainTrigger, drain};
use countersign_server::gate::authzen::{Judge, Port, Settings};
use countersign_server::metrics::EdgeMetrics;
use prometheus_client::registry::Registry;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::support::{self, Authority, Holder};

/// The identity that most callers have.
pub(crate) const PEP: &str = "spiffe://acme.example/tenant/acme/pep/gateway-1";

/// Evidence that is in the repository.
pub(crate) const EVIDENCE: &str = include_str!("../../../../spec/vectors/refusal.evidence");

/// A gate whose verbs say what they get: `t:approve`, `t:refuse`, `t:supervise`, and what else is
/// in [`Judge::judge`] below.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Caller, intent and audience of everything that was asked.
    pub(crate) asked: Mutex<Vec<(String, Value, String)>>,
    /// The mode that it answers in.
    pub(crate) shadow: bool,
    /// One permit is added for each `t:wait` that has begun, and one taken for each that ends.
    pub(crate) begun: Option<Semaphore>,
    pub(crate) release: Option<Semaphore>,
}

impl Judge for Oracle {
    async fn judge(
        &self,
        caller: &SpiffeId,
        intent: &str,
        audience: &str,
    ) -> Result<EvaluateResponse, Refusal> {
        let intent: Value = serde_json::from_str(intent).unwrap();
        let verb = intent["verb"].as_str().unwrap().to_owned();
        let action_id = intent["action_id"].as_str().unwrap_or("0193ad5e-made").to_owned();
        self.asked.lock().unwrap().push((caller.to_string(), intent, audience.to_owned()));
        let outcome = match verb.as_str() {
            "t:internal" => return Err(Refusal::new(Code::Internal, "the secret inner fault")),
            "t:stopping" => return Err(Refusal::from(Code::LedgerStopping)),
            "t:malformed" => return Err(Refusal::from(Code::RequestMalformed)),
            "t:hang" => std::future::pending().await,
            "t:wait" => {
                self.begun.as_ref().unwrap().add_permits(1);
                self.release.as_ref().unwrap().acquire().await.unwrap().forget();
                "approve"
            }
            other => other.strip_prefix("t:").unwrap_or("refuse"),
        };
        let permit = Permit {
            id: "permit-1".to_owned(),
            audience: "gateway-1".to_owned(),
            not_after: "2026-11-23T12:05:00.000000Z".to_owned(),
            nonce: "00".repeat(16),
        };
        let requires = Requires {
            approvals: 2,
            roles: vec!["sre-oncall".to_owned()],
            expires_at: "2026-11-23T13:00:00.000000Z".to_owned(),
        };
        let reason = Reason {
            code: format!("R_{}", outcome.to_uppercase()),
            policy: format!("{outcome}.it"),
            text: "As it was asked.".to_owned(),
        };
        Ok(EvaluateResponse {
            action_id,
            outcome: outcome.to_owned(),
            mode: if self.shadow { "shadow" } else { "enforce" }.to_owned(),
            reasons: vec![reason],
            permit: (outcome == "approve" && !self.shadow).then_some(permit),
            requires: (outcome == "supervise").then_some(requires),
            action_digest: vec![7; 32].into(),
            recorded: true,
            evidence: EVIDENCE.to_owned(),
        })
    }
}

/// A running port.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) server_ca: Authority,
    pub(crate) client_ca: Authority,
    pub(crate) drain: DrainTrigger,
    pub(crate) ended: JoinHandle<()>,
    _dir: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(Oracle::default(), |_, _| {}).await
    }

    pub(crate) async fn start_with(
        oracle: Oracle,
        change: impl FnOnce(&mut ServerConfig, &Authority),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server_ca, client_ca) = (Authority::new(), Authority::new());
        let mut config = support::config(&dir, &server_ca, &client_ca);
        change(&mut config, &client_ca);
        let insecure_dev = config.insecure_dev_identity.is_some();
        let checked = config.check(insecure_dev).unwrap();
        let settings = Settings {
            tenant: "acme".to_owned(),
            trust_domain: checked.config().gates.trust_domain.clone(),
            transport: checked.transport().clone(),
            revoked: checked.revoked().to_vec(),
            limits: checked.config().limits.clone(),
            base_url: Some("https://gate.acme.example".to_owned()),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let port = Port::bind(any, checked.transport()).await.unwrap();
        let addr = port.addr();
        let (trigger, drain) = drain();
        let oracle = Arc::new(oracle);
        let metrics = EdgeMetrics::register(&mut Registry::default());
        let ended = tokio::spawn(port.serve(settings, Arc::clone(&oracle), metrics, drain));
        Self { addr, oracle, server_ca, client_ca, drain: trigger, ended, _dir: dir }
    }

    /// A connection with this certificate. With TLS 1.3 a client that is refused learns of it with
    /// its first read.
    pub(crate) async fn connect(
        &self,
        holder: Option<&Holder>,
        alpn: &[&[u8]],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.server_ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match holder {
            None => builder.with_no_client_auth(),
            Some(holder) => {
                let chain = vec![CertificateDer::from_pem_slice(holder.cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(holder.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let socket = TcpStream::connect(self.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    /// Sends bytes over a connection with this certificate; `None` when it is closed without an
    /// answer.
    pub(crate) async fn raw(&self, holder: Option<&Holder>, request: &[u8]) -> Option<Answer> {
        let stream = self.connect(holder, &[b"http/1.1"]).await.ok()?;
        exchange(stream, request).await
    }

    /// Posts a body as [`PEP`].
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_as(PEP, path, body).await
    }

    pub(crate) async fn post_as(&self, uri: &str, path: &str, body: &str) -> Answer {
        let holder = self.client_ca.client(uri);
        self.raw(Some(&holder), &post(path, body)).await.expect("an answer")
    }

    /// The decision on this verb, asked alone.
    pub(crate) async fn evaluate(&self, verb: &str) -> Answer {
        self.post("/access/v1/evaluation", &request(verb).to_string()).await
    }

    pub(crate) fn asked(&self) -> usize {
        self.oracle.asked.lock().unwrap().len()
    }
}

/// Revokes the keys of a certificate from the beginning.
pub(crate) fn revoke(config: &mut ServerConfig, holder: &Holder) {
    let leaf = countersign_core::cert::split_pem_bundle(&holder.cert).unwrap().remove(0);
    let key = countersign_core::encoding::b64(leaf.public_key_bytes());
    let from = "2026-01-01T00:00:00.000000Z".to_owned();
    config.revoked = vec![RevokedSection { key, from }];
}

/// A request with nothing but what is needed.
pub(crate) fn request(verb: &str) -> Value {
    json!({
        "subject": {"type": "agent", "id": "infra-assistant-7"},
        "action": {"name": verb},
        "resource": {"type": "System", "id": "web"},
    })
}

/// A POST as bytes.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\nx-request-id: req-7\r\n\
         content-type: application/json; charset=utf-8\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Writes, and reads until the other side closes.
pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Option<Answer> {
    // The server may answer, and close, before it has read all.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let read = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it closes");
    if read.is_err() && bytes.is_empty() {
        return None;
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

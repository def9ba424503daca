//! A gate and its ledger, and everyone who calls them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_client::{Client, ClientConfig, EvidenceItem, GateIdentity, TlsIdentity};
use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::hash::{Context, LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::note::{KeyType, VerifierKey};
use countersign_core::record::View;
use countersign_core::trust::Trust;
use countersign_core::verify::{Report, verify_file};
use countersign_gate::Policy;
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_server::config::{
    Checked, GateSection, KeyFiles, PeopleSection, ServerConfig, TlsFiles,
};
use countersign_server::gate::config::GateSettings;
use countersign_server::gate::host::{GateHost, Killed, Step};
use countersign_server::gate::{Gate, GateParts, StateError};
use countersign_server::identity;
use countersign_server::limits::Limits;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer as _, SigningKey};
use rcgen::SanType;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::ledger::RunningLedger;
use crate::pki::{Authority, Holder};
use crate::policy::{DIRECTORY, POLICIES, schema};
use crate::wire::{Proxy, Wire};

pub(crate) const ORIGIN: &str = "ledger.acme.example/test";
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine whose clock and life a test has in its hand.
#[derive(Default)]
pub(crate) struct TestHost {
    /// Microseconds that its clock is ahead.
    pub(crate) ahead: AtomicI64,
    /// Ends the gate at this step, after it was let go on so often.
    pub(crate) kill_at: Mutex<Option<(Step, u32)>>,
    /// Holds the recorder up at this step, after it was let go on so often.
    pub(crate) hold_at: Mutex<Option<(Step, u32, Hold)>>,
}

/// The recorder's side of a hold.
pub(crate) struct Hold {
    here: std::sync::mpsc::Sender<()>,
    go_on: std::sync::mpsc::Receiver<()>,
}

/// A test's side of it; dropped, it lets the recorder go on.
pub(crate) struct Held {
    here: std::sync::mpsc::Receiver<()>,
    go_on: Option<std::sync::mpsc::Sender<()>>,
}

impl TestHost {
    /// Will hold the recorder up at `step` once it was passed `more` times.
    pub(crate) fn hold(&self, step: Step, more: u32) -> Held {
        let ((tell_here, here), (tell_on, go_on)) =
            (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        *self.hold_at.lock().unwrap() = Some((step, more, Hold { here: tell_here, go_on }));
        Held { here, go_on: Some(tell_on) }
    }
}

impl Held {
    /// Waits until the recorder stands there.
    pub(crate) async fn reached(&self) {
        until("the recorder to stand still", || self.here.try_recv().is_ok()).await;
    }

    pub(crate) fn release(&mut self) {
        self.go_on = None;
    }
}

impl GateHost for TestHost {
    fn now(&self) -> Micros {
        Micros(identity::now().0.saturating_add_signed(self.ahead.load(Ordering::SeqCst)))
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).unwrap();
        bytes
    }

    fn reached(&self, step: Step) -> Result<(), Killed> {
        let mut hold_at = self.hold_at.lock().unwrap();
        match &mut *hold_at {
            Some((at, more, _)) if *at == step && *more > 0 => *more -= 1,
            Some((at, _, _)) if *at == step => {
                let (_, _, hold) = hold_at.take().unwrap();
                drop(hold_at);
                let _ = hold.here.send(());
                // Ends when the test lets go; others go on on their own threads meanwhile.
                let _ = tokio::task::block_in_place(|| hold.go_on.recv_timeout(PATIENCE));
            }
            _ => {}
        }
        let mut kill_at = self.kill_at.lock().unwrap();
        match &mut *kill_at {
            Some((at, 0)) if *at == step => Err(Killed),
            Some((at, more)) if *at == step => {
                *more -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

pub(crate) struct Stage {
    _dir: TempDir,
    pub(crate) server_ca: Authority,
    pub(crate) client_ca: Authority,
    pub(crate) people_ca: Authority,
    pub(crate) config: ServerConfig,
    pub(crate) proxy: Proxy,
    pub(crate) host: Arc<TestHost>,
    trust: Trust,
    ledger: Option<RunningLedger>,
    seal: Holder,
    vkeys: [VerifierKey; 2],
}

impl Stage {
    /// A ledger that runs, and a gate's folder.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut GateSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [server_ca, client_ca, people_ca] =
            ["server CA", "client CA", "people CA"].map(Authority::new);
        let [log, clock, own] = [1, 2, 3].map(|byte| SigningKey::from_bytes(&[byte; 32]));
        let vkey = |name: &str, kind, key: &SigningKey| {
            VerifierKey::new(name, kind, key.verifying_key().to_bytes()).unwrap()
        };
        let vkeys = [
            vkey(ORIGIN, KeyType::Note, &log),
            vkey(&format!("{ORIGIN}/clock"), KeyType::Cosignature, &clock),
        ];
        let mut config = config(dir.path(), &server_ca);
        for (path, key) in
            [(&config.keys.log, log), (&config.keys.clock, clock), (&config.keys.ledger, own)]
        {
            write(path, &key.to_pkcs8_pem(LineEnding::LF).unwrap());
        }
        write(&dir.path().join("client-ca.pem"), &client_ca.pem);
        write(&dir.path().join("people-ca.pem"), &people_ca.pem);
        write(&config.gate.directory, DIRECTORY);
        change(&mut config.gate);
        let ledger = RunningLedger::start(config.clone().check(false).unwrap()).await;
        let proxy = Proxy::start(ledger.addr).await;
        Self {
            trust: trust(&vkeys, &client_ca, &people_ca),
            seal: client_ca.holder("acme", Role::Gate, "gate-1"),
            host: Arc::default(),
            ledger: Some(ledger),
            _dir: dir,
            server_ca,
            client_ca,
            people_ca,
            config,
            proxy,
            vkeys,
        }
    }

    pub(crate) fn checked(&self) -> Checked {
        self.config.clone().check(false).unwrap()
    }

    fn client_config(&self, addr: SocketAddr, holder: &Holder) -> ClientConfig {
        let mut config = ClientConfig::new(format!("https://{addr}"), self.vkeys[0].clone());
        config.clocks = vec![self.vkeys[1].clone()];
        config.server_name = Some("localhost".to_owned());
        config.server_roots = Some(self.server_ca.pem.clone());
        let (cert_pem, key_pem) = (holder.cert_pem.clone(), holder.key_pem.clone());
        config.identity = Some(TlsIdentity { cert_pem, key_pem });
        config.call_timeout = Duration::from_millis(500);
        config.connect_timeout = Duration::from_millis(500);
        config
    }

    pub(crate) fn parts(&self) -> GateParts {
        GateParts {
            identity: GateIdentity {
                tenant: "acme".to_owned(),
                gate: "gate-1".to_owned(),
                seal_key: self.seal.key.clone(),
                chain: self.seal.chain.clone(),
                instance: 0,
                software: "countersign-tests".to_owned(),
            },
            ledger: self.client_config(self.proxy.addr, &self.seal),
        }
    }

    /// The gate gets another seal key, as one whose certificate ran out.
    pub(crate) fn rekey(&mut self) {
        self.seal = self.client_ca.holder("acme", Role::Gate, "gate-1");
    }

    /// A gate; waits for the one before to let go of its state.
    pub(crate) async fn gate(&self) -> Gate {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Gate::open(&self.checked(), self.parts(), self.host.clone()).await {
                Ok(gate) => return gate,
                Err(error @ StateError::Open { .. }) => {
                    assert!(Instant::now() < deadline, "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A gate that decides by the small policy.
    pub(crate) async fn ready(&self) -> Gate {
        let gate = self.gate().await;
        self.activate(&gate, "1", POLICIES).await.unwrap();
        gate
    }

    /// Makes a policy version decide.
    pub(crate) async fn activate(
        &self,
        gate: &Gate,
        version: &str,
        policies: &str,
    ) -> Result<v1::Recorded, Refusal> {
        let admin = self.people_ca.holder("acme", Role::PolicyAdmin, "admin-1");
        let request = activation(&admin, version, policies);
        // The ledger's texts go over a connection that the gate may not have yet.
        let deadline = Instant::now() + PATIENCE;
        while !gate.core().status().unwrap().ledger_reachable {
            assert!(Instant::now() < deadline, "the ledger is not reached");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // On a busy machine the ledger's answer may come too late; then one asks again.
        loop {
            match gate.core().activate_policy(&admin.identity(), request.clone()).await {
                Err(refusal)
                    if refusal.code == Code::EvidenceUnavailable && Instant::now() < deadline => {}
                other => return other,
            }
        }
    }

    /// Restarts the ledger's wire and waits until what waits is logged.
    pub(crate) async fn settle(&self, gate: &Gate) {
        self.proxy.set(Wire::Whole);
        until("the outbox to be empty", || gate.core().status().unwrap().outbox == 0).await;
    }

    /// An auditor's view of the ledger, past the gate's wire.
    async fn auditor(&self) -> Client {
        let auditor = self.client_ca.holder("acme", Role::Auditor, "auditor-1");
        let addr = self.ledger.as_ref().unwrap().addr;
        let mut config = self.client_config(addr, &auditor);
        config.call_timeout = PATIENCE;
        Client::connect(config).await.unwrap()
    }

    /// All of the tenant's records in the log, in its order.
    pub(crate) async fn records(&self) -> BTreeMap<u64, View> {
        let client = self.auditor().await;
        let size = client.head().await.unwrap().size().0;
        let mut found = BTreeMap::new();
        for index in 0..size {
            let query = EvidenceQuery::Record(RecordRef::Index(LeafIndex(index)));
            // The ledger's own records are nobody's.
            if let Ok(items) = client.evidence(query, TreeSize(0), None).await {
                found.insert(index, items[0].report.facts.view.clone().unwrap());
            }
        }
        found
    }

    /// The records of one action in the log.
    pub(crate) async fn life(&self, action_id: &str) -> Vec<EvidenceItem> {
        let query = EvidenceQuery::Action(action_id.to_owned());
        self.auditor().await.evidence(query, TreeSize(0), None).await.unwrap_or_default()
    }

    /// The verdicts of one action in the log: outcome and first code.
    pub(crate) async fn verdicts(&self, action_id: &str) -> Vec<(String, String)> {
        let views = self.life(action_id).await;
        let views = views.iter().filter_map(|item| item.report.facts.view.as_ref());
        views.filter(|view| view.kind() == Kind::Verdict).map(said).collect()
    }

    /// Verifies a file by what an auditor trusts.
    pub(crate) fn verify(&self, evidence: &str) -> Report {
        verify_file(evidence.as_bytes(), Some(&self.trust))
    }

    pub(crate) fn approver(&self, name: &str) -> Holder {
        self.people_ca.holder("acme", Role::Approver, name)
    }

    pub(crate) async fn end(mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.stop().await;
        }
    }
}

/// Outcome and first code of a verdict.
pub(crate) fn said(view: &View) -> (String, String) {
    let code = view.get("reasons").and_then(|all| all[0]["code"].as_str()).unwrap_or_default();
    (view.str("outcome").unwrap().to_owned(), code.to_owned())
}

/// Outcome and first code of an answer.
pub(crate) fn heard(answer: &v1::EvaluateResponse) -> (&str, &str) {
    (&answer.outcome, answer.reasons.first().map_or("", |reason| reason.code.as_str()))
}

/// Waits until something holds, for half a minute at most.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A new UUIDv7 of no particular time.
pub(crate) fn action_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    let builder = uuid::Builder::from_bytes(bytes).with_version(uuid::Version::SortRand);
    builder.with_variant(uuid::Variant::RFC4122).into_uuid().to_string()
}

/// The agent wants to do something of a class to a resource.
pub(crate) fn intent(action_id: &str, class: &str, resource: &str) -> Value {
    json!({
        "action_id": action_id,
        "verb": format!("test:{class}"),
        "class": class,
        "actor": { "kind": "agent", "id": "agent-7", "session": "s-1" },
        "resource": { "type": "System", "id": resource },
        "parameters": { "name": resource },
        "task": { "ticket": "OPS-1", "justification": "a test" },
    })
}

/// Asks as the enforcement point `pep-1`.
pub(crate) async fn ask(gate: &Gate, intent: &Value) -> v1::EvaluateResponse {
    gate.core().evaluate("pep-1", &intent.to_string(), "").await.unwrap()
}

/// A policy version that its owner has signed (KIND-15).
pub(crate) fn activation(
    admin: &Holder,
    version: &str,
    policies: &str,
) -> v1::ActivatePolicyRequest {
    let schema = schema();
    let policy = Policy::load(policies, &schema).unwrap();
    let mut message = b"countersign/v1 policy\n".to_vec();
    message.extend_from_slice(&policy.digest());
    for text in ["acme-policy", version] {
        message.extend_from_slice(&countersign_core::encoding::lp(text).unwrap());
    }
    v1::ActivatePolicyRequest {
        policy_id: "acme-policy".to_owned(),
        version: version.to_owned(),
        policy_text: policies.to_owned(),
        schema_text: schema,
        signature: admin.key.sign(&message).to_bytes().to_vec().into(),
        chain: admin.der().into_iter().map(Into::into).collect(),
    }
}

/// A grant that its owner has signed (KIND-15).
pub(crate) fn grant(owner: &Holder, id: &str, terms: &Value) -> v1::IssueGrantRequest {
    let terms = terms.to_string();
    let mut message = b"countersign/v1 grant\n".to_vec();
    message.extend_from_slice(&Context::Grant.hash(&[terms.as_bytes()]));
    v1::IssueGrantRequest {
        grant_id: id.to_owned(),
        terms,
        signature: owner.key.sign(&message).to_bytes().to_vec().into(),
        chain: owner.der().into_iter().map(Into::into).collect(),
    }
}

fn trust(vkeys: &[VerifierKey; 2], client_ca: &Authority, people_ca: &Authority) -> Trust {
    let text = format!(
        "[[log]]\nvkey = \"{}\"\nclock = [\"{}\"]\n[gates]\ntrust_domain = \"acme.example\"\n\
         roots = [\"gates\"]\ntenants = [\"acme\"]\n[people]\nroots = [\"people\"]\n",
        vkeys[0], vkeys[1]
    );
    let (gates, people) = (client_ca.pem.clone(), people_ca.pem.clone());
    Trust::parse(&text, |name| Ok(if name == "gates" { gates.clone() } else { people.clone() }))
        .unwrap()
}

fn config(dir: &Path, server_ca: &Authority) -> ServerConfig {
    let server = server_ca.issue(SanType::DnsName("localhost".try_into().unwrap()));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    for folder in ["data", "gate"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
    }
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        write(&path, text);
        path
    };
    ServerConfig {
        origin: ORIGIN.to_owned(),
        data_dir: dir.join("data"),
        grpc: any,
        http: any,
        head_interval_ms: 100,
        head_republish_s: 60,
        drain_timeout_s: 15,
        insecure_dev_identity: None,
        keys: KeyFiles {
            log: dir.join("log.pem"),
            clock: dir.join("clock.pem"),
            ledger: dir.join("ledger.pem"),
        },
        tls: Some(TlsFiles {
            cert: file("server.pem", &server.cert_pem),
            key: file("server.key", &server.key_pem),
            client_roots: vec![dir.join("client-ca.pem")],
        }),
        gates: GateSection {
            trust_domain: "acme.example".to_owned(),
            roots: vec![dir.join("client-ca.pem")],
        },
        people: PeopleSection { roots: vec![dir.join("people-ca.pem")] },
        witnesses: None,
        limits: Limits::default(),
        erasure: countersign_server::config::ErasureSection::default(),
        gate: GateSettings {
            grpc: any,
            http: any,
            authzen: any,
            state_dir: dir.join("gate"),
            directory: dir.join("gate/directory.json"),
            ..GateSettings::default()
        },
        revoked: Vec::new(),
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

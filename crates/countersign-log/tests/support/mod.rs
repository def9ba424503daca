//! A tenant's gate and its people, with throw-away keys, and an open log for them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test's stage: it stops where it fails.
#![allow(dead_code)] // Each test uses a part of it.

use std::sync::Arc;

use countersign_core::cert::{Certificate, TrustAnchor};
use countersign_core::encoding::{Micros, b64, hex};
use countersign_core::hash::{Context, RecordRoot, TreeSize};
use countersign_core::json::quoted;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_core::seal::SealedBatch;
use countersign_core::stream::StreamId;
use countersign_core::trust::Trust;
use countersign_core::verify::{Report, person_signed_bytes, verify_file};
use countersign_log::api::{
    Batch, BatchAnswer, BatchRecord, LogConfig, LogKeys, Logged, RecordAt, Refused, StreamRequest,
    StreamStatus,
};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_testkit::host::ManualHost;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde_json::{Value, json};

pub(crate) const ORIGIN: &str = "ledger.acme.example/prod";
/// 2026-11-23T12:00:00Z.
pub(crate) const NOON: Micros = Micros(1_795_435_200_000_000);

/// A key with the certificate that names its holder.
pub(crate) struct Holder {
    pub(crate) key: SigningKey,
    pub(crate) chain: Vec<Certificate>,
}

/// An authority of gates or people.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn anchor(&self) -> TrustAnchor {
        TrustAnchor::new(Certificate::from_pem(&self.pem).unwrap()).unwrap()
    }

    /// A holder whose certificate is valid from 2026 to the year given.
    pub(crate) fn issue(&self, uri: &str, until: i32) -> Holder {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        self.certify(&key, uri, until)
    }

    /// Two certificates of one key.
    pub(crate) fn issue_twice(&self, uri: &str, until: [i32; 2]) -> [Holder; 2] {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        until.map(|until| self.certify(&key, uri, until))
    }

    fn certify(&self, key: &KeyPair, uri: &str, until: i32) -> Holder {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let der = params.signed_by(key, &self.issuer).unwrap();
        Holder {
            key: SigningKey::from_pkcs8_der(&key.serialize_der()).unwrap(),
            chain: vec![Certificate::from_der(der.der()).unwrap()],
        }
    }
}

/// Authorities, the log's keys, and what a verifier trusts.
pub(crate) struct World {
    pub(crate) gates: Authority,
    pub(crate) people: Authority,
    pub(crate) keys: LogKeys,
    pub(crate) host: Arc<ManualHost>,
}

impl World {
    pub(crate) fn new() -> Self {
        let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
        Self {
            gates: Authority::new(),
            people: Authority::new(),
            keys: LogKeys { origin: ORIGIN.to_owned(), log: key(1), clock: key(2), ledger: key(3) },
            host: Arc::new(ManualHost::new(NOON, 1)),
        }
    }

    pub(crate) fn config(&self) -> LogConfig {
        LogConfig {
            trust_domain: "acme.example".to_owned(),
            gate_roots: vec![self.gates.anchor()],
            people_roots: vec![self.people.anchor()],
            revoked: Vec::new(),
            skew_us: 300_000_000,
            group_max: 1_024,
            group_wait_us: 100,
            head_interval_ms: 1_000,
            witnessed: false,
            head_republish_ms: 60_000,
            queue_bytes_max: 64 << 20,
        }
    }

    pub(crate) async fn open<S: Store>(&self, store: &Arc<S>) -> Ledger<S> {
        self.open_with(store, self.config()).await
    }

    pub(crate) async fn open_with<S: Store>(&self, store: &Arc<S>, config: LogConfig) -> Ledger<S> {
        let (store, host) = (Arc::clone(store), Arc::clone(&self.host));
        Ledger::open(store, host, self.keys.clone(), config).await.unwrap()
    }

    /// A gate of a tenant.
    pub(crate) fn gate(&self, tenant: &str, gate: &str) -> Gate {
        let uri = format!("spiffe://acme.example/tenant/{tenant}/gate/{gate}");
        Gate::new(tenant, gate, self.gates.issue(&uri, 2030))
    }

    pub(crate) fn person(&self, role: &str, id: &str) -> Holder {
        self.people.issue(&format!("spiffe://acme.example/tenant/acme/{role}/{id}"), 2030)
    }

    /// What an auditor of acme trusts.
    pub(crate) fn trust(&self) -> Trust {
        let vkey = |name: &str, number: u8, key: &SigningKey| {
            let mut tagged = vec![number];
            tagged.extend_from_slice(key.verifying_key().as_bytes());
            let mut input = format!("{name}\n").into_bytes();
            input.extend_from_slice(&tagged);
            let id = countersign_core::hash::sha256(&input);
            format!("{name}+{}+{}", hex(&id[..4]), b64(&tagged))
        };
        let text = format!(
            "[[log]]\nvkey = \"{}\"\nclock = [\"{}\"]\nledger = [\"{}\"]\n\
             [gates]\ntrust_domain = \"acme.example\"\nroots = [\"gates\"]\ntenants = [\"acme\"]\n\
             [people]\nroots = [\"people\"]\n",
            vkey(ORIGIN, 1, &self.keys.log),
            vkey(&format!("{ORIGIN}/clock"), 4, &self.keys.clock),
            vkey(&format!("{ORIGIN}/ledger"), 1, &self.keys.ledger),
        );
        let read = |name: &str| match name {
            "gates" => Ok(self.gates.pem.clone()),
            _ => Ok(self.people.pem.clone()),
        };
        Trust::parse(&text, read).unwrap()
    }

    /// The offline verifier's word on a record's evidence, as the ledger gives it.
    pub(crate) async fn verify<S: Store>(&self, ledger: &Ledger<S>, index: u64) -> Report {
        let at = RecordAt::Index(countersign_core::hash::LeafIndex(index));
        let (_, evidence) = ledger.evidence(None, at, TreeSize(0)).await.unwrap();
        verify_file(&evidence.to_bytes(), Some(&self.trust()))
    }
}

/// A gate: it seals records into its stream.
pub(crate) struct Gate {
    pub(crate) tenant: String,
    pub(crate) name: String,
    pub(crate) holder: Holder,
    pub(crate) stream: StreamId,
    pub(crate) next_seq: u64,
    pub(crate) prev: RecordRoot,
    pub(crate) call: u64,
    seeds: u8,
}

impl Gate {
    pub(crate) fn new(tenant: &str, gate: &str, holder: Holder) -> Self {
        let key = holder.key.verifying_key().to_bytes();
        let stream = StreamId::derive(ORIGIN, tenant, gate, &key, 0).unwrap();
        Self {
            tenant: tenant.to_owned(),
            name: gate.to_owned(),
            holder,
            stream,
            next_seq: 0,
            prev: RecordRoot([0; 32]),
            call: 1,
            seeds: 0,
        }
    }

    pub(crate) fn opening(&self) -> StreamRequest {
        StreamRequest {
            tenant: self.tenant.clone(),
            gate: self.name.clone(),
            seal_key: self.holder.key.verifying_key().to_bytes(),
            instance: 0,
            chain: self.holder.chain.clone(),
        }
    }

    pub(crate) async fn open<S: Store>(&mut self, ledger: &Ledger<S>) -> StreamStatus {
        let status = ledger.open_stream(self.opening()).await.unwrap();
        assert_eq!(status.stream, self.stream);
        (self.next_seq, self.prev) = (status.next_seq, status.prev);
        status
    }

    /// A record at a place of the stream: `values` by name, null for what is not there.
    pub(crate) fn record(
        &mut self,
        seq: u64,
        prev: RecordRoot,
        kind: Kind,
        values: &Value,
    ) -> FullRecord {
        let value = |name: &str| match (name, values.get(name)) {
            (_, Some(value)) => value.to_string(),
            ("tenant", _) => quoted(&self.tenant),
            ("gate", _) => quoted(&self.name),
            ("stream", _) => quoted(&self.stream.hex()),
            ("seq", _) => seq.to_string(),
            ("prev", _) => quoted(&prev.hex()),
            ("recorded_at", _) => quoted(&NOON.format()),
            ("software", _) => quoted("gate/1"),
            ("type", _) => quoted(kind.as_str()),
            _ => "null".to_owned(),
        };
        let mut texts: Vec<String> = kind.fields().iter().map(|field| value(field.name)).collect();
        self.seeds = self.seeds.wrapping_add(1);
        let mut seed = [self.seeds; 32];
        seed[..8].copy_from_slice(&seq.to_be_bytes());
        if matches!(kind, Kind::Verdict | Kind::Intent) && values.get("action_digest").is_none() {
            let at = kind.fields().iter().position(|f| f.name == "action_digest").unwrap();
            texts[at] = quoted(&hex(&[0; 32]));
            let draft = FullRecord::parse(kind, seed, texts.clone()).unwrap();
            let digest = countersign_core::action::digest(draft.view()).unwrap().unwrap();
            texts[at] = quoted(&hex(&digest));
        }
        FullRecord::parse(kind, seed, texts).unwrap()
    }

    /// Seals records that follow each other; they may carry people's chains.
    pub(crate) fn seal(
        &self,
        first_seq: u64,
        records: Vec<(FullRecord, Vec<Certificate>)>,
    ) -> Batch {
        let roots = records.iter().map(|(record, _)| record.root()).collect();
        Batch {
            tenant: self.tenant.clone(),
            gate: self.name.clone(),
            stream: self.stream,
            first_seq,
            sealed: SealedBatch::seal(&self.holder.key, roots).unwrap(),
            records: records
                .into_iter()
                .map(|(record, people)| BatchRecord { record, people })
                .collect(),
            call: self.call,
        }
    }

    /// A batch of new records at the stream's end. The gate moves on as if it were accepted.
    pub(crate) fn batch(&mut self, says: &[(Kind, Value)]) -> Batch {
        let first = self.next_seq;
        let mut records = Vec::new();
        for (kind, values) in says {
            let record = self.record(self.next_seq, self.prev, *kind, values);
            self.prev = record.root();
            self.next_seq += 1;
            records.push((record, Vec::new()));
        }
        self.seal(first, records)
    }

    /// A batch of one record that a person signed, at the stream's end. The gate moves on.
    pub(crate) fn signed(&mut self, kind: Kind, values: &Value, person: &Holder) -> Batch {
        let (first, record) = (self.next_seq, self.record(self.next_seq, self.prev, kind, values));
        (self.next_seq, self.prev) = (first + 1, record.root());
        self.seal(first, vec![(record, person.chain.clone())])
    }

    /// Logs the policy version that [`verdict`] names.
    pub(crate) async fn register<S: Store>(&mut self, world: &World, ledger: &Ledger<S>) {
        let owner = world.person("policy-admin", "pia");
        let record = policy(&owner, POLICY);
        self.say(ledger, Kind::Policy, &record, owner.chain).await.unwrap();
    }

    /// Submits one record; where it is refused, the gate stays where it is.
    pub(crate) async fn say<S: Store>(
        &mut self,
        ledger: &Ledger<S>,
        kind: Kind,
        values: &Value,
        people: Vec<Certificate>,
    ) -> Result<(RecordRoot, Logged), Refused> {
        let record = self.record(self.next_seq, self.prev, kind, values);
        let root = record.root();
        let answer = ledger.submit(self.seal(self.next_seq, vec![(record, people)])).await?;
        let logged = only(answer)?;
        (self.next_seq, self.prev) = (self.next_seq + 1, root);
        Ok((root, logged))
    }

    /// An approval as its approver signs it.
    pub(crate) fn approval(person: &Holder, id: &str, verdict: RecordRoot, say: &Value) -> Value {
        let certificate = person.chain[0].digest();
        let mut value = json!({
            "approver": {
                "id": id,
                "roles": ["on-call"],
                "certificate": hex(&certificate),
            },
            "decision": "grant",
            "displayed_digest": hex(&Context::Displayed.hash(&[b"shown"])),
            "justification": "seen",
            "nonce": hex(&[7; 16]),
            "not_after": Micros(NOON.0 + 600_000_000).format(),
            "verdict": verdict.hex(),
        });
        for (name, new) in say.as_object().unwrap() {
            value[name] = new.clone();
        }
        signed(Kind::Approval, value, person)
    }
}

/// A version of acme's policy, which its owner signed, without texts.
pub(crate) fn policy(owner: &Holder, digest: [u8; 32]) -> Value {
    let value = json!({
        "activated_at": NOON.format(),
        "digest": hex(&digest),
        "engine": "cedar 4",
        "length": 0,
        "owner": { "id": "pia", "certificate": hex(&owner.chain[0].digest()) },
        "policy_id": "prod",
        "version": "1",
    });
    signed(Kind::Policy, value, owner)
}

/// How a verdict names a policy version.
pub(crate) fn under(digest: [u8; 32]) -> Value {
    json!({ "id": "prod", "version": "1", "digest": hex(&digest), "engine": "cedar 4" })
}

/// The record's values with the person's signature over them.
pub(crate) fn signed(kind: Kind, mut value: Value, person: &Holder) -> Value {
    let common = json!({
        "tenant": "acme", "gate": "prod-1", "stream": hex(&[0; 16]), "seq": 0,
        "prev": hex(&[0; 32]), "recorded_at": NOON.format(), "software": "gate/1",
        "type": kind.as_str(), "signature": b64(&[0; 64]),
    });
    let text = |name: &str| value.get(name).or_else(|| common.get(name)).unwrap().to_string();
    let values = kind.fields().iter().map(|field| text(field.name)).collect();
    let draft = FullRecord::parse(kind, [0; 32], values).unwrap();
    let bytes = person_signed_bytes(draft.view(), ORIGIN, person.chain[0].digest()).unwrap();
    value["signature"] = b64(&person.key.sign(&bytes).to_bytes()).into();
    value
}

/// The one answer of a batch of one.
pub(crate) fn only(answer: BatchAnswer) -> Result<Logged, Refused> {
    let [(_, outcome)] = <[_; 1]>::try_from(answer.records).unwrap();
    outcome
}

/// An action's id.
pub(crate) fn action(n: u64) -> String {
    format!("019ab000-0000-7000-8000-{n:012x}")
}

/// The policy version that verdicts other than refuses are under.
pub(crate) const POLICY: [u8; 32] = [0xd1; 32];

/// A verdict with what is usual, and `say` besides.
pub(crate) fn verdict(n: u64, outcome: &str, say: &Value) -> Value {
    let mut value = json!({
        "action": "elasticbeanstalk:TerminateEnvironment",
        "action_id": action(n),
        "mode": "enforce",
        "outcome": outcome,
        "nonce": hex(&[9; 16]),
        "actor": {
            "kind": "agent", "id": "infra-agent-7", "class": null, "session": "s-1",
            "model": null, "on_behalf_of": null,
        },
        "resource": {
            "type": "environment", "id": "cost-explorer", "environment": "prod",
            "domain": "billing",
        },
    });
    if outcome != "refuse" {
        value["policy"] = under(POLICY);
    }
    for (name, new) in say.as_object().unwrap() {
        value[name] = new.clone();
    }
    value
}

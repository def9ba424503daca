//! The log without gRPC, beside the bare database it stands on: same bytes, same disk, same run,
//! fsync on in both.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use countersign_core::cert::{Certificate, TrustAnchor};
use countersign_core::encoding::{Micros, b64, hex};
use countersign_core::hash::{Context, RecordRoot, TreeSize};
use countersign_core::json::quoted;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_core::seal::SealedBatch;
use countersign_core::stream::StreamId;
use countersign_core::verify::person_signed_bytes;
use countersign_log::api::{Batch, BatchRecord, LogConfig, LogKeys, RecordAt, StreamRequest};
use countersign_log::host::Host;
use countersign_log::ledger::Ledger;
use countersign_rocksdb::{Options, RocksStore};
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rocksdb::{WriteBatch, WriteOptions};
use serde_json::{Value, json};

use crate::figure::{Figure, number};
use crate::sample::{Actions, POLICY};

const ORIGIN: &str = "bench.example/core";
/// 2026-11-23T12:00:00Z: the host's time stands still, so that no certificate ends.
const NOW: Micros = Micros(1_795_435_200_000_000);
/// Records of one batch, and so of one commit.
pub(crate) const BATCH: usize = 1_000;
/// Bytes that a record adds besides its values: entry, tile hash, seed, root, rows.
const OVERHEAD: usize = 66 + 32 + 32 + 32 + 32 + 40 + 24;

struct StillHost;

impl Host for StillHost {
    fn now(&self) -> Micros {
        NOW
    }

    fn random(&self) -> [u8; 32] {
        [7; 32]
    }
}

/// A gate with its key, its certificate's authority, and where its stream stands.
pub(crate) struct LoadGate {
    key: SigningKey,
    chain: Vec<Certificate>,
    /// The policy's owner, of the same authority.
    owner: (SigningKey, Certificate),
    root: TrustAnchor,
    stream: StreamId,
    seq: u64,
    prev: RecordRoot,
}

pub(crate) fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

impl LoadGate {
    pub(crate) fn new() -> Result<Self, String> {
        let ca_key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(text)?;
        let mut ca = CertificateParams::new(Vec::new()).map_err(text)?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_der = ca.self_signed(&ca_key).map_err(text)?;
        let root = Certificate::from_der(ca_der.der()).map_err(text)?;
        let issuer = Issuer::new(ca, ca_key);
        let holder = |who: &str| -> Result<(SigningKey, Certificate), String> {
            let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(text)?;
            let mut params = CertificateParams::new(Vec::new()).map_err(text)?;
            params.not_before = rcgen::date_time_ymd(2026, 1, 1);
            params.not_after = rcgen::date_time_ymd(2030, 1, 1);
            let uri = format!("spiffe://bench.example/tenant/bench/{who}");
            params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(text)?)];
            let leaf = params.signed_by(&pair, &issuer).map_err(text)?;
            let key = SigningKey::from_pkcs8_der(&pair.serialize_der()).map_err(text)?;
            Ok((key, Certificate::from_der(leaf.der()).map_err(text)?))
        };
        let (key, leaf) = holder("gate/load-1")?;
        let public = key.verifying_key().to_bytes();
        Ok(Self {
            chain: vec![leaf],
            owner: holder("policy-admin/owner-1")?,
            root: TrustAnchor::new(root).map_err(text)?,
            stream: StreamId::derive(ORIGIN, "bench", "load-1", &public, 0).map_err(text)?,
            key,
            seq: 0,
            prev: RecordRoot([0; 32]),
        })
    }

    fn record(&mut self, kind: Kind, said: &Value) -> Result<FullRecord, String> {
        let value = |name: &str| match name {
            "tenant" => quoted("bench"),
            "gate" => quoted("load-1"),
            "stream" => quoted(&self.stream.hex()),
            "seq" => self.seq.to_string(),
            "prev" => quoted(&self.prev.hex()),
            "recorded_at" => quoted(&NOW.format()),
            "software" => quoted("bench/1"),
            "type" => quoted(kind.as_str()),
            "nonce" => quoted(&hex(&[9; 16])),
            "action_digest" => quoted(&hex(&[0; 32])),
            name => said.get(name).map_or_else(|| "null".to_owned(), ToString::to_string),
        };
        let fields = kind.fields();
        let mut values: Vec<String> = fields.iter().map(|field| value(field.name)).collect();
        let seed = Context::Salt.hash(&[&self.seq.to_be_bytes()]);
        let draft = FullRecord::parse(kind, seed, values.clone()).map_err(text)?;
        let digest = countersign_core::action::digest(draft.view()).map_err(text)?;
        let (key, leaf) = &self.owner;
        let signed = person_signed_bytes(draft.view(), ORIGIN, leaf.digest());
        for (slot, field) in values.iter_mut().zip(fields) {
            match (field.name, &signed) {
                ("action_digest", _) => *slot = quoted(&hex(&digest.unwrap_or_default())),
                ("signature", Some(signed)) => *slot = quoted(&b64(&key.sign(signed).to_bytes())),
                _ => {}
            }
        }
        let record = FullRecord::parse(kind, seed, values).map_err(text)?;
        self.prev = record.root();
        self.seq += 1;
        Ok(record)
    }

    pub(crate) fn batch(&mut self, actions: &Actions, from: u64) -> Result<Batch, String> {
        let first_seq = self.seq;
        let mut records = Vec::with_capacity(BATCH);
        for n in from..from + BATCH as u64 {
            let said = serde_json::from_str(&actions.verdict(n)).map_err(text)?;
            let record = self.record(Kind::Verdict, &said)?;
            records.push(BatchRecord { record, people: Vec::new() });
        }
        self.seal(first_seq, records)
    }

    /// The policy that the verdicts are under, signed by its owner.
    pub(crate) fn policy(&mut self) -> Result<Batch, String> {
        let (first_seq, leaf) = (self.seq, self.owner.1.clone());
        let said = json!({
            "activated_at": NOW.format(),
            "digest": hex(&POLICY),
            "engine": "cedar 4",
            "length": 0,
            "owner": { "id": "owner-1", "certificate": hex(&leaf.digest()) },
            "policy_id": "prod",
            "signature": b64(&[0; 64]),
            "version": "41",
        });
        let record = self.record(Kind::Policy, &said)?;
        self.seal(first_seq, vec![BatchRecord { record, people: vec![leaf] }])
    }

    fn seal(&self, first_seq: u64, records: Vec<BatchRecord>) -> Result<Batch, String> {
        let roots = records.iter().map(|record| record.record.root()).collect();
        Ok(Batch {
            tenant: "bench".to_owned(),
            gate: "load-1".to_owned(),
            stream: self.stream,
            first_seq,
            sealed: SealedBatch::seal(&self.key, roots).map_err(text)?,
            records,
            call: 1,
        })
    }
}

/// A record as its gate would send it.
pub(crate) fn one_record(actions: &Actions) -> Result<FullRecord, String> {
    let said = serde_json::from_str(&actions.verdict(1)).map_err(text)?;
    LoadGate::new()?.record(Kind::Verdict, &said)
}

fn config(root: TrustAnchor) -> LogConfig {
    LogConfig {
        trust_domain: "bench.example".to_owned(),
        gate_roots: vec![root.clone()],
        people_roots: vec![root],
        revoked: Vec::new(),
        skew_us: 300_000_000,
        group_max: 1_024,
        group_wait_us: 1_000,
        head_interval_ms: 1_000,
        witnessed: false,
        head_republish_ms: 60_000,
        queue_bytes_max: 128 << 20,
    }
}

fn keys() -> LogKeys {
    let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
    LogKeys { origin: ORIGIN.to_owned(), log: key(1), clock: key(2), ledger: key(3) }
}

#[allow(clippy::disallowed_methods)] // Measuring time is what a benchmark is for.
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// A log in this folder with the gate's stream and policy.
pub(crate) async fn open(
    dir: &Path,
    gate: &LoadGate,
    policy: Batch,
) -> Result<Ledger<RocksStore>, String> {
    let store = RocksStore::open(dir, &Options::default()).map_err(text)?;
    let config = config(gate.root.clone());
    let ledger =
        Ledger::open(Arc::new(store), Arc::new(StillHost), keys(), config).await.map_err(text)?;
    let request = StreamRequest {
        tenant: "bench".to_owned(),
        gate: "load-1".to_owned(),
        seal_key: gate.key.verifying_key().to_bytes(),
        instance: 0,
        chain: gate.chain.clone(),
    };
    ledger.open_stream(request).await.map_err(|refused| text(refused.fault))?;
    let registered = ledger.submit(policy).await.map_err(|refused| text(refused.fault))?;
    if let Some(refused) = registered.records.into_iter().find_map(|(_, outcome)| outcome.err()) {
        return Err(text(refused.fault));
    }
    Ok(ledger)
}

/// Logs `batches` of 1,000, with up to four waiting, and the bare database after it; then inclusion
/// proofs from the log that came of it.
pub(crate) async fn log_core(
    dir: &Path,
    actions: &Actions,
    batches: u64,
) -> Result<Vec<Figure>, String> {
    let mut gate = LoadGate::new()?;
    let policy = gate.policy()?;
    let mut made = Vec::new();
    let mut bytes = Vec::new();
    for n in 0..batches {
        let batch = gate.batch(actions, n * BATCH as u64)?;
        let values = batch.records.iter().map(|r| r.record.values().join(",").into_bytes());
        bytes.push(values.collect::<Vec<_>>());
        made.push(batch);
    }
    let ledger = open(&dir.join("log"), &gate, policy).await?;
    let records = number(batches) * 1_000.0;
    let begun = start();
    let mut waiting = std::collections::VecDeque::new();
    let settle = async |pending: countersign_log::ledger::Pending| {
        let answer = pending.answer().await.map_err(|refused| text(refused.fault))?;
        match answer.records.into_iter().find_map(|(_, outcome)| outcome.err()) {
            Some(refused) => Err(text(refused.fault)),
            None => Ok(()),
        }
    };
    for batch in made {
        waiting.push_back(ledger.enqueue(batch).await.map_err(|refused| text(refused.fault))?);
        if waiting.len() == 4
            && let Some(pending) = waiting.pop_front()
        {
            settle(pending).await?;
        }
    }
    for pending in waiting {
        settle(pending).await?;
    }
    let ours = records / begun.elapsed().as_secs_f64();
    let mut figures = proofs(&ledger, batches * BATCH as u64).await?;
    ledger.stop().await;
    let bare = bare_rocksdb(&dir.join("bare"), &bytes)?;
    figures.push(Figure::plain("bare_rocksdb_batches_of_1000", bare, "records/s"));
    figures
        .push(Figure::plain("log_core_batches_of_1000", ours, "records/s").beside(bare, 0.6, true));
    Ok(figures)
}

/// The same bytes in as many synced batches, straight into RocksDB as the adapter sets it.
fn bare_rocksdb(dir: &Path, batches: &[Vec<Vec<u8>>]) -> Result<f64, String> {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Zstd);
    let db = rocksdb::DB::open(&options, dir).map_err(text)?;
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    // What is not text does not compress.
    let noise: Vec<u8> = (0..OVERHEAD as u64)
        .flat_map(|n| Context::Salt.hash(&[&n.to_be_bytes()]))
        .take(OVERHEAD)
        .collect();
    let begun = start();
    let mut key = 0_u64;
    let mut records = 0_u64;
    for values in batches {
        let mut batch = WriteBatch::default();
        for value in values {
            let mut row = value.clone();
            row.extend_from_slice(&noise);
            batch.put(key.to_be_bytes(), row);
            key += 1;
            records += 1;
        }
        db.write_opt(batch, &synced).map_err(text)?;
    }
    Ok(number(records) / begun.elapsed().as_secs_f64())
}

/// Inclusion proofs of entries all over the log, each read twice so that its tiles are warm.
async fn proofs(ledger: &Ledger<RocksStore>, size: u64) -> Result<Vec<Figure>, String> {
    let rounds = 500_u64;
    let mut took = 0.0;
    for warm in [false, true] {
        let begun = start();
        for n in 0..rounds {
            let index = n.wrapping_mul(0x9e37_79b9) % size;
            let at = RecordAt::Index(countersign_core::hash::LeafIndex(index));
            let receipt = ledger.receipt(None, at, TreeSize(0)).await;
            std::hint::black_box(receipt.map_err(|refused| text(refused.fault))?);
        }
        if warm {
            took = begun.elapsed().as_secs_f64() * 1e6 / number(rounds);
        }
    }
    Ok(vec![
        Figure::plain("log_size_for_proofs", number(size), "entries"),
        Figure::at_most("receipt_from_the_log_warm", took, "us", 50.0),
    ])
}

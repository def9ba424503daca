//! A ledger on the stage: it logs what it is told, honest or not, and packs what it has. Whoever
//! holds its keys can sign anything, so that every lie is tried with all signatures in place.

mod keys;

use std::collections::BTreeMap;

use countersign_core::encoding::{Micros, b64, hex};
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Context, Hash, LeafIndex, RecordRoot, RootHash, TreeSize, sha256};
use countersign_core::json::quoted;
use countersign_core::kinds::Kind;
use countersign_core::merkle::{
    CompactRange, HashReader, LogTree, NodeHasher as _, NodeId, leaf_hash, prove_consistency,
    prove_inclusion, root_at,
};
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body, sign_body,
};
use countersign_core::pack::{
    Asked, Claims, GateKey, Given, Manifest, PackCheck, PackFile, PackReport, Want,
};
use countersign_core::query::Query;
use countersign_core::receipt::{ConsistencyProof, Receipt};
use countersign_core::record::{DisclosedRecord, FullRecord};
use countersign_core::seal::{Seal, SealedBatch};
use countersign_core::stream::StreamId;
use countersign_core::trust::Trust;
use countersign_core::verify::person_signed_bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

pub(crate) use keys::{Authority, Holder, World};

pub(crate) const ORIGIN: &str = "ledger.acme.example/prod";
/// 2026-11-23T12:00:00Z.
pub(crate) const NOON: Micros = Micros(1_795_435_200_000_000);
pub(crate) const SECOND: u64 = 1_000_000;
/// The policy version of every verdict on the stage.
pub(crate) const POLICY_TEXTS: &[u8] = b"\0\0\0\x06permit\0\0\0\x06schema";

pub(crate) fn policy_digest() -> Hash {
    Context::Policy.hash(&[POLICY_TEXTS])
}

/// Who writes a stream, and where it stands.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) tenant: String,
    pub(crate) name: String,
    pub(crate) holder: Holder,
    pub(crate) stream: StreamId,
    pub(crate) seq: u64,
    pub(crate) prev: RecordRoot,
}

impl Gate {
    pub(crate) fn new(tenant: &str, name: &str, holder: Holder, instance: u32) -> Self {
        let stream = StreamId::derive(ORIGIN, tenant, name, &holder.public(), instance).unwrap();
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        Self { tenant, name, holder, stream, seq: 0, prev: RecordRoot([0; 32]) }
    }

    pub(crate) fn claim(&self) -> GateKey {
        GateKey { tenant: self.tenant.clone(), gate: self.name.clone(), key: self.holder.public() }
    }
}

/// A record as the ledger holds it.
#[derive(Clone)]
pub(crate) struct Logged {
    pub(crate) record: FullRecord,
    pub(crate) disclosed: DisclosedRecord,
    pub(crate) seal: Seal,
    pub(crate) entry: Entry,
    pub(crate) gate_chain: Vec<String>,
    pub(crate) people: Vec<Vec<String>>,
    pub(crate) supporting: Vec<usize>,
}

/// The log: what it holds, and what time it says it is.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) rows: Vec<Logged>,
    pub(crate) now: Micros,
    own: (u64, RecordRoot),
    levels: Vec<Vec<Hash>>,
}

impl HashReader for Log {
    type Error = ();
    fn read(&self, nodes: &[NodeId]) -> Result<Vec<Hash>, ()> {
        Ok(nodes
            .iter()
            .map(|node| self.levels[usize::from(node.level)][usize::try_from(node.index).unwrap()])
            .collect())
    }
}

impl Log {
    /// A log with its genesis record.
    pub(crate) fn new(world: &World) -> Self {
        let own = (0, RecordRoot([0; 32]));
        let mut log = Self { rows: Vec::new(), now: NOON, own, levels: Vec::new() };
        let key = |key: &SigningKey| hex(&key.verifying_key().to_bytes());
        let genesis = json!({
            "origin": ORIGIN, "format": 1, "created_at": NOON.format(),
            "log_key": key(&world.log_key), "clock_key": key(&world.clock_key),
            "ledger_key": key(&world.ledger_key),
        });
        log.own(world, Kind::Genesis, &genesis, Vec::new());
        log
    }

    pub(crate) fn size(&self) -> u64 {
        self.rows.len() as u64
    }

    /// A record of the ledger's own.
    pub(crate) fn own(
        &mut self,
        world: &World,
        kind: Kind,
        say: &Value,
        people: Vec<Vec<String>>,
    ) -> usize {
        let (seq, prev) = self.own;
        let place = Place { tenant: "", gate: "", stream: StreamId::LEDGER, seq, prev };
        let record = draft(&place, kind, say, self.now);
        self.own = (seq + 1, record.root());
        self.put(record, &place, &world.ledger_key, (Vec::new(), people), Vec::new())
    }

    /// Says that a gate's stream was opened.
    pub(crate) fn open(&mut self, world: &World, gate: &Gate) -> usize {
        let say = json!({
            "event": "open", "subject_tenant": gate.tenant, "subject_gate": gate.name,
            "gate_key": hex(&gate.holder.public()), "subject_stream": gate.stream.hex(),
            "certificate": hex(&gate.holder.digest()),
        });
        self.own(world, Kind::Stream, &say, Vec::new())
    }

    /// A record of a gate, a second later. The gate moves on.
    pub(crate) fn say(&mut self, gate: &mut Gate, kind: Kind, say: &Value) -> usize {
        self.say_with(gate, kind, say, Vec::new(), Vec::new())
    }

    pub(crate) fn say_with(
        &mut self,
        gate: &mut Gate,
        kind: Kind,
        say: &Value,
        people: Vec<Vec<String>>,
        supporting: Vec<usize>,
    ) -> usize {
        self.now = Micros(self.now.0 + SECOND);
        let (seq, prev) = (gate.seq, gate.prev);
        let place =
            Place { tenant: &gate.tenant, gate: &gate.name, stream: gate.stream, seq, prev };
        let record = draft(&place, kind, say, self.now);
        let root = record.root();
        let chains = (gate.holder.chain.clone(), people);
        let index = self.put(record, &place, &gate.holder.key, chains, supporting);
        (gate.seq, gate.prev) = (seq + 1, root);
        index
    }

    /// A record that a person signed.
    pub(crate) fn signed(
        &mut self,
        gate: &mut Gate,
        kind: Kind,
        say: Value,
        person: &Holder,
    ) -> usize {
        let say = signed(kind, say, person);
        self.say_with(gate, kind, &say, vec![person.chain.clone()], Vec::new())
    }

    fn put(
        &mut self,
        record: FullRecord,
        place: &Place<'_>,
        key: &SigningKey,
        (gate_chain, people): (Vec<String>, Vec<Vec<String>>),
        supporting: Vec<usize>,
    ) -> usize {
        let root = record.root();
        let batch = SealedBatch::seal(key, vec![root]).unwrap();
        let entry = Entry {
            kind: record.kind(),
            logged_at: self.now,
            stream: place.stream,
            seq: place.seq,
            sealed: batch.sealed(&root),
        };
        let seal = batch.seal_of(0).unwrap();
        let disclosed = record.disclose();
        let row = Logged { record, disclosed, seal, entry, gate_chain, people, supporting };
        self.rows.push(row);
        self.rows.len() - 1
    }

    /// Takes a record out, as if it had never been logged.
    pub(crate) fn forget(&mut self, index: usize) {
        self.rows.remove(index);
        for row in &mut self.rows {
            row.supporting.retain(|at| *at != index);
            row.supporting.iter_mut().filter(|at| **at > index).for_each(|at| *at -= 1);
        }
    }

    pub(crate) fn root_of(&self, index: usize) -> RecordRoot {
        self.rows[index].record.root()
    }

    /// Hashes what the rows hold now. Whatever is changed in them is part of the tree from then on.
    pub(crate) fn settle(&mut self) {
        let mut level: Vec<Hash> = self.rows.iter().map(|row| row.entry.leaf().0).collect();
        self.levels.clear();
        while !level.is_empty() {
            let above =
                level.chunks_exact(2).map(|pair| LogTree::node(&pair[0], &pair[1])).collect();
            self.levels.push(level);
            level = above;
        }
    }

    /// The signed head of the first `size` entries.
    pub(crate) fn head(&self, world: &World, size: u64) -> SignedCheckpoint {
        let root = root_at(TreeSize(size), self).unwrap();
        let rows = self.rows[..usize::try_from(size).unwrap()].iter();
        let last = rows.map(|row| row.entry.logged_at).max().unwrap();
        sign_head(world, size, &root, last.seconds())
    }

    pub(crate) fn evidence(&self, world: &World, index: usize, size: u64) -> Evidence {
        let row = &self.rows[index];
        let supporting = row.supporting.iter().map(|at| self.evidence(world, *at, size));
        Evidence {
            record: row.disclosed.clone(),
            seal: row.seal.clone(),
            entry: row.entry.to_bytes().to_vec(),
            receipt: Receipt {
                index: LeafIndex(index as u64),
                path: prove_inclusion(LeafIndex(index as u64), TreeSize(size), self).unwrap(),
                checkpoint: self.head(world, size),
            },
            gate_chain: row.gate_chain.clone(),
            people_chains: row.people.clone(),
            supporting: supporting.collect(),
        }
    }

    /// A complete pack of these gates, from one size to another under a head.
    pub(crate) fn complete(&self, world: &World, gates: &[&Gate], range: [u64; 2]) -> Pack {
        let [from, to] = range;
        let head = self.size();
        let mut keys: Vec<GateKey> = gates.iter().map(|gate| gate.claim()).collect();
        keys.sort();
        let claims = Claims { keys, from: TreeSize(from), to: TreeSize(to) };
        let mut pack = Pack::new(self, world, Query::default(), Some(claims));
        for size in [from, to].into_iter().filter(|size| *size > 0 && *size < head) {
            pack.join(self, world, size, head);
        }
        let mut edge = CompactRange::new();
        let mut entries = Vec::new();
        for (index, row) in (0..).zip(&self.rows) {
            let bytes = row.entry.to_bytes();
            if index < from {
                edge.append(&leaf_hash(&bytes));
            } else if index < to {
                entries.extend_from_slice(&bytes);
            }
        }
        pack.put(PackFile::Peaks, edge.peaks().concat());
        pack.put(PackFile::Entries, entries);
        let claimed =
            |row: &Logged| gates.iter().any(|gate| gate.stream.0[..12] == row.entry.stream.0[..12]);
        let before = &self.rows[..usize::try_from(from).unwrap()];
        for (index, row) in self.rows.iter().enumerate() {
            let within = (from..to).contains(&(index as u64));
            // PACK-25: what each stream goes on from.
            let last = before.iter().rposition(|other| other.entry.stream == row.entry.stream);
            if last == Some(index) && claimed(row) {
                pack.evidence(self, world, index);
            }
            let about = row.record.view().str("subject_tenant");
            let own = row.entry.stream == StreamId::LEDGER && about.is_none_or(|t| t == "acme");
            if own || (within && claimed(row)) {
                pack.evidence(self, world, index);
            }
        }
        pack
    }

    /// A pack of some records, without a claim.
    pub(crate) fn some(&self, world: &World, query: Query, indexes: &[usize]) -> Pack {
        let mut pack = Pack::new(self, world, query, None);
        for index in indexes {
            pack.evidence(self, world, *index);
        }
        pack
    }
}

pub(crate) fn sign_head(
    world: &World,
    size: u64,
    root: &RootHash,
    seconds: u64,
) -> SignedCheckpoint {
    let body = checkpoint_body(ORIGIN, TreeSize(size), root);
    let public = |key: &SigningKey| key.verifying_key().to_bytes();
    let log = VerifierKey::new(ORIGIN, KeyType::Note, public(&world.log_key)).unwrap();
    let clock = format!("{ORIGIN}/clock");
    let clock = VerifierKey::new(&clock, KeyType::Cosignature, public(&world.clock_key)).unwrap();
    let line = sign_body(&log, &world.log_key, &body);
    let cosigned = cosign_body(&clock, &world.clock_key, seconds, &body);
    SignedCheckpoint::parse(&format!("{body}\n{line}{cosigned}")).unwrap()
}

struct Place<'a> {
    tenant: &'a str,
    gate: &'a str,
    stream: StreamId,
    seq: u64,
    prev: RecordRoot,
}

fn draft(place: &Place<'_>, kind: Kind, say: &Value, now: Micros) -> FullRecord {
    let value = |name: &str| match (name, say.get(name)) {
        (_, Some(value)) => value.to_string(),
        ("tenant", _) => quoted(place.tenant),
        ("gate", _) => quoted(place.gate),
        ("stream", _) => quoted(&place.stream.hex()),
        ("seq", _) => place.seq.to_string(),
        ("prev", _) => quoted(&place.prev.hex()),
        ("recorded_at", _) => quoted(&now.format()),
        ("software", _) => quoted("gate/1"),
        ("type", _) => quoted(kind.as_str()),
        _ => "null".to_owned(),
    };
    let mut texts: Vec<String> = kind.fields().iter().map(|field| value(field.name)).collect();
    let seed = sha256(format!("{}{}", place.stream.hex(), place.seq).as_bytes());
    if matches!(kind, Kind::Verdict | Kind::Intent) && say.get("action_digest").is_none() {
        let at = kind.fields().iter().position(|f| f.name == "action_digest").unwrap();
        texts[at] = quoted(&hex(&[0; 32]));
        let first = FullRecord::parse(kind, seed, texts.clone()).unwrap();
        texts[at] = quoted(&hex(&countersign_core::action::digest(first.view()).unwrap().unwrap()));
    }
    FullRecord::parse(kind, seed, texts).unwrap()
}

/// The record's values with the person's signature over them.
pub(crate) fn signed(kind: Kind, mut say: Value, person: &Holder) -> Value {
    if say.get("signature").is_some() {
        return say;
    }
    let place = Place {
        tenant: "acme",
        gate: "prod-1",
        stream: StreamId::LEDGER,
        seq: 0,
        prev: RecordRoot([0; 32]),
    };
    say["signature"] = b64(&[0; 64]).into();
    let first = draft(&place, kind, &say, NOON);
    let bytes = person_signed_bytes(first.view(), ORIGIN, person.digest()).unwrap();
    say["signature"] = b64(&person.key.sign(&bytes).to_bytes()).into();
    say
}

/// An action's id.
pub(crate) fn action(n: u64) -> String {
    format!("019ab000-0000-7000-8000-{n:012x}")
}

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
        "parameters": { "environment-name": "cost-explorer" },
        "policy": {
            "id": "prod", "version": "1", "digest": hex(&policy_digest()), "engine": "cedar 4",
        },
        "reasons": [{ "code": "POLICY", "policy": "p-1", "text": null }],
    });
    for (name, new) in say.as_object().unwrap() {
        value[name] = new.clone();
    }
    value
}

/// A pack as its files.
#[derive(Clone)]
pub(crate) struct Pack {
    pub(crate) manifest: Manifest,
    pub(crate) files: BTreeMap<PackFile, Vec<u8>>,
}

impl Pack {
    fn new(log: &Log, world: &World, query: Query, claims: Option<Claims>) -> Self {
        let manifest = Manifest {
            origin: ORIGIN.to_owned(),
            asked: Asked { tenant: "acme".to_owned(), query },
            head: TreeSize(log.size()),
            claims,
            files: BTreeMap::new(),
        };
        let mut pack = Self { manifest, files: BTreeMap::new() };
        pack.put(PackFile::Readme, b"countersign-verify pack . --trust trust.toml\n".to_vec());
        pack.put(PackFile::Head(log.size()), note(&log.head(world, log.size())));
        pack.put(PackFile::Policy(policy_digest()), POLICY_TEXTS.to_vec());
        pack
    }

    /// Puts a file and lists it.
    pub(crate) fn put(&mut self, file: PackFile, bytes: Vec<u8>) {
        self.manifest.files.insert(file, sha256(&bytes));
        self.files.insert(file, bytes);
    }

    pub(crate) fn evidence(&mut self, log: &Log, world: &World, index: usize) {
        let bytes = log.evidence(world, index, log.size()).to_bytes();
        self.put(PackFile::Evidence(index as u64), bytes);
    }

    /// Puts the head of a size and joins it to a larger one.
    pub(crate) fn join(&mut self, log: &Log, world: &World, old: u64, new: u64) {
        self.put(PackFile::Head(old), note(&log.head(world, old)));
        let proof = ConsistencyProof {
            old_size: TreeSize(old),
            new_size: TreeSize(new),
            hashes: prove_consistency(TreeSize(old), TreeSize(new), log).unwrap(),
        };
        self.put(PackFile::Consistency(old, new), proof.to_string().into_bytes());
    }

    /// Takes a file out, and off the list.
    pub(crate) fn remove(&mut self, file: PackFile) {
        self.manifest.files.remove(&file);
        self.files.remove(&file);
    }

    pub(crate) fn check(&self, trust: &Trust) -> PackReport {
        self.check_manifest(&self.manifest.to_bytes(), trust)
    }

    /// Checks the files under these bytes of a manifest.
    pub(crate) fn check_manifest(&self, manifest: &[u8], trust: &Trust) -> PackReport {
        let manifest = match Manifest::parse(manifest) {
            Ok(manifest) => manifest,
            Err(fault) => return PackReport::refused(fault),
        };
        let mut check = PackCheck::new(manifest, Some(trust));
        for file in self.files.keys() {
            let path = file.to_string();
            if !check.manifest().lists(&path) {
                check.stray(&path, true);
            }
        }
        let mut read = 0;
        while let Some(want) = check.want() {
            let given = match want {
                Want::File(file) => self.files.get(&file).map(Vec::as_slice),
                Want::Entries(count) => self.files.get(&PackFile::Entries).map(|bytes| {
                    let rest = &bytes[read..];
                    let part = &rest[..count.min(rest.len())];
                    read += part.len();
                    part
                }),
            };
            check.give(given.map_or(Given::Absent, Given::Bytes));
        }
        check.finish()
    }
}

fn note(head: &SignedCheckpoint) -> Vec<u8> {
    head.as_str().as_bytes().to_vec()
}

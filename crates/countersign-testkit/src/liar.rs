//! A ledger that lies with all its keys at hand.
//!
//! [`Liar`] takes over what an honest log holds, changes it, and hashes and signs everything again:
//! heads, clock, receipts, proofs. Gates' seals and people's signatures it can't make; what a gate
//! seals for it, [`Liar::accept`] logs without a question. [`Folder`] is the pack that it hands out.
//!
//! What is absent: any check. Whatever shows a lie is in the core.

use std::collections::BTreeMap;

use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Hash, LeafIndex, RecordRoot, TreeSize, sha256};
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
use countersign_core::stream::StreamId;
use countersign_core::trust::Trust;
use countersign_log::api::{Batch, LogKeys, RecordAt, Refused};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;

/// What the log has at one index.
#[derive(Clone, Debug)]
struct Row {
    /// Its receipt and what it rests on are made anew.
    evidence: Evidence,
    entry: Entry,
    rests_on: Vec<RecordRoot>,
}

impl Row {
    fn of(mut evidence: Evidence) -> Self {
        let entry = Entry::from_bytes(&evidence.entry).expect("an honest ledger's entry");
        let rests_on = std::mem::take(&mut evidence.supporting).iter().map(root).collect();
        Self { evidence, entry, rests_on }
    }
}

fn root(evidence: &Evidence) -> RecordRoot {
    evidence.record.root().expect("a record has a root")
}

/// A log in the hands of somebody dishonest. A clone is another history of it.
#[derive(Clone, Debug)]
pub struct Liar {
    keys: LogKeys,
    rows: Vec<Row>,
}

impl Liar {
    /// Takes over all that this ledger holds.
    ///
    /// # Errors
    ///
    /// Those of [`Ledger::evidence`].
    pub async fn of<S: Store>(ledger: &Ledger<S>, keys: &LogKeys) -> Result<Self, Refused> {
        let mut rows = Vec::new();
        for index in 0..ledger.head().size.0 {
            let at = RecordAt::Index(LeafIndex(index));
            rows.push(Row::of(ledger.evidence(None, at, TreeSize(0)).await?.1));
        }
        Ok(Self { keys: keys.clone(), rows })
    }

    /// Entries that it says there are.
    pub fn size(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Forgets a record, as if it had never been logged.
    pub fn omit(&mut self, index: usize) {
        self.rows.remove(index);
    }

    /// Lets two records change places; each place keeps its time.
    pub fn reorder(&mut self, one: usize, other: usize) {
        let times = [one, other].map(|at| self.rows.get(at).map(|row| row.entry.logged_at));
        self.rows.swap(one, other);
        for (at, time) in [one, other].into_iter().zip(times) {
            if let (Some(row), Some(time)) = (self.rows.get_mut(at), time) {
                row.entry.logged_at = time;
            }
        }
    }

    /// Says that these records were logged so many microseconds earlier.
    pub fn backdate(&mut self, indexes: impl IntoIterator<Item = usize>, by_us: u64) {
        for index in indexes {
            if let Some(row) = self.rows.get_mut(index) {
                row.entry.logged_at.0 -= by_us;
            }
        }
    }

    /// Logs a record once more, now.
    pub fn repeat(&mut self, index: usize) {
        let again = self.rows.get(index).cloned();
        self.rows.extend(again.map(|mut row| {
            row.entry.logged_at = self.now();
            row
        }));
    }

    /// Logs what a gate sealed without asking whether it may stand there.
    pub fn accept(&mut self, batch: &Batch, gate_chain: &[String]) {
        let now = self.now();
        for (seq, (at, given)) in (batch.first_seq..).zip((0..).zip(&batch.records)) {
            let seal = batch.sealed.seal_of(at).expect("a seal for each record");
            let entry = Entry {
                kind: given.record.kind(),
                logged_at: now,
                stream: batch.stream,
                seq,
                sealed: seal.sealed(&given.record.root()),
            };
            let people = given.people.iter().map(countersign_core::cert::Certificate::pem);
            let people: Vec<String> = people.collect();
            let receipt = self.receipt(0, self.size());
            let evidence = Evidence {
                record: given.record.disclose(),
                seal,
                entry: Vec::new(),
                receipt,
                gate_chain: gate_chain.to_vec(),
                people_chains: if people.is_empty() { Vec::new() } else { vec![people] },
                supporting: Vec::new(),
            };
            self.rows.push(Row { evidence, entry, rests_on: Vec::new() });
        }
    }

    /// The newest time that it admits to.
    fn now(&self) -> Micros {
        self.rows.iter().map(|row| row.entry.logged_at).max().unwrap_or_default()
    }

    /// A head of the first `size` entries, signed by the log and its clock.
    pub fn head(&self, size: u64) -> SignedCheckpoint {
        let keys = &self.keys;
        let root = root_at(TreeSize(size), &self.tree()).expect("a size that there is");
        let body = checkpoint_body(&keys.origin, TreeSize(size), &root);
        let vkey = |name: &str, key_type, key: &ed25519_dalek::SigningKey| {
            VerifierKey::new(name, key_type, key.verifying_key().to_bytes()).expect("a key's name")
        };
        let log = vkey(&keys.origin, KeyType::Note, &keys.log);
        let clock = vkey(&format!("{}/clock", keys.origin), KeyType::Cosignature, &keys.clock);
        let line = sign_body(&log, &keys.log, &body);
        let covered = self.rows.iter().zip(0..size).map(|(row, _)| row.entry.logged_at.seconds());
        let cosigned = cosign_body(&clock, &keys.clock, covered.max().unwrap_or(0), &body);
        SignedCheckpoint::parse(&format!("{body}\n{line}{cosigned}"))
            .expect("a note as we write it")
    }

    fn receipt(&self, index: u64, size: u64) -> Receipt {
        let path = prove_inclusion(LeafIndex(index), TreeSize(size), &self.tree());
        Receipt {
            index: LeafIndex(index),
            path: path.expect("an index that there is"),
            checkpoint: self.head(size),
        }
    }

    /// The evidence of one record, with what it rests on, under the head of this size.
    pub fn evidence(&self, index: u64, size: u64) -> Evidence {
        let row = usize::try_from(index).ok().and_then(|at| self.rows.get(at));
        let row = row.expect("an index that there is");
        let places = row.rests_on.iter().filter_map(|rested| {
            (0..).zip(&self.rows).find(|(_, row)| root(&row.evidence) == *rested)
        });
        Evidence {
            entry: row.entry.to_bytes().to_vec(),
            receipt: self.receipt(index, size),
            supporting: places.map(|(at, _)| self.evidence(at, size)).collect(),
            ..row.evidence.clone()
        }
    }

    /// A complete pack of these keys of a tenant, from size `from` on, as it says it.
    pub fn pack(&self, tenant: &str, mut keys: Vec<GateKey>, from: u64) -> Folder {
        let size = self.size();
        keys.sort();
        let prefix = |key: &GateKey| {
            StreamId::derive(&self.keys.origin, &key.tenant, &key.gate, &key.key, 0)
                .ok()
                .and_then(|stream| stream.0.first_chunk::<12>().copied())
        };
        let claimed: Vec<[u8; 12]> = keys.iter().filter_map(prefix).collect();
        let asked = Asked { tenant: tenant.to_owned(), query: Query::default() };
        let claims = Claims { keys, from: TreeSize(from), to: TreeSize(size) };
        let manifest = Manifest {
            origin: self.keys.origin.clone(),
            asked,
            head: TreeSize(size),
            claims: Some(claims),
            files: BTreeMap::new(),
        };
        let mut folder = Folder { manifest, files: BTreeMap::new() };
        folder.put(PackFile::Readme, b"countersign-verify pack .\n".to_vec());
        folder.put(PackFile::Head(size), self.head(size).as_str().as_bytes().to_vec());
        if (1..size).contains(&from) {
            self.join(&mut folder, from);
        }
        let (mut edge, mut entries) = (CompactRange::new(), Vec::new());
        for (index, row) in (0..).zip(&self.rows) {
            let bytes = row.entry.to_bytes();
            if index < from {
                edge.append(&leaf_hash(&bytes));
            } else {
                entries.extend_from_slice(&bytes);
            }
            let stream = row.entry.stream;
            let own = stream == StreamId::LEDGER && is_about(&row.evidence, tenant);
            let is_claimed = claimed.iter().any(|prefix| stream.0.starts_with(prefix));
            // What the stream goes on from, as far as there is any.
            let is_last = || {
                let before = (0..from).zip(&self.rows);
                let last = before.filter(|(_, row)| row.entry.stream == stream).last();
                last.is_some_and(|(last, _)| last == index)
            };
            if own || (is_claimed && (index >= from || is_last())) {
                let bytes = self.evidence(index, size).to_bytes();
                folder.put(PackFile::Evidence(index), bytes);
            }
        }
        folder.put(PackFile::Peaks, edge.peaks().concat());
        folder.put(PackFile::Entries, entries);
        folder
    }

    /// Puts the head of an earlier size into a pack, and joins it to the newest.
    pub fn join(&self, folder: &mut Folder, old: u64) {
        let new = self.size();
        let hashes = prove_consistency(TreeSize(old), TreeSize(new), &self.tree());
        let proof = ConsistencyProof {
            old_size: TreeSize(old),
            new_size: TreeSize(new),
            hashes: hashes.expect("sizes that there are"),
        };
        folder.put(PackFile::Head(old), self.head(old).as_str().as_bytes().to_vec());
        folder.put(PackFile::Consistency(old, new), proof.to_string().into_bytes());
    }

    fn tree(&self) -> Levels {
        let mut level: Vec<Hash> = self.rows.iter().map(|row| row.entry.leaf().0).collect();
        let mut levels = Vec::new();
        while !level.is_empty() {
            let pairs = level.chunks_exact(2);
            let above = pairs.filter_map(|pair| match pair {
                [left, right] => Some(LogTree::node(left, right)),
                _ => None,
            });
            let above = above.collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        Levels(levels)
    }
}

/// Whether one of the ledger's own records is about this tenant, or about nobody's.
fn is_about(evidence: &Evidence, tenant: &str) -> bool {
    let kind = Entry::from_bytes(&evidence.entry).map(|entry| entry.kind);
    let view = kind.ok().and_then(|kind| evidence.record.view(kind).ok());
    let subject = view.as_ref().and_then(|view| view.str("subject_tenant"));
    subject.is_none_or(|subject| subject == tenant)
}

/// The log's tree, level by level.
struct Levels(Vec<Vec<Hash>>);

impl HashReader for Levels {
    type Error = NodeId;

    fn read(&self, nodes: &[NodeId]) -> Result<Vec<Hash>, NodeId> {
        let read = |node: &NodeId| {
            let level = self.0.get(usize::from(node.level))?;
            level.get(usize::try_from(node.index).ok()?).copied()
        };
        nodes.iter().map(|node| read(node).ok_or(*node)).collect()
    }
}

/// A pack as its files.
#[derive(Clone, Debug)]
pub struct Folder {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Every other file.
    pub files: BTreeMap<PackFile, Vec<u8>>,
}

impl Folder {
    /// Puts a file and lists it.
    pub fn put(&mut self, file: PackFile, bytes: Vec<u8>) {
        self.manifest.files.insert(file, sha256(&bytes));
        self.files.insert(file, bytes);
    }

    /// Takes a file out, and off the list.
    pub fn hide(&mut self, file: PackFile) {
        self.manifest.files.remove(&file);
        self.files.remove(&file);
    }

    /// What whoever receives it, and trusts this, makes of it.
    pub fn check(&self, trust: &Trust) -> PackReport {
        let manifest = match Manifest::parse(&self.manifest.to_bytes()) {
            Ok(manifest) => manifest,
            Err(fault) => return PackReport::refused(fault),
        };
        let mut check = PackCheck::new(manifest, Some(trust));
        let mut entries = self.files.get(&PackFile::Entries).map_or(&[][..], Vec::as_slice);
        while let Some(want) = check.want() {
            match want {
                Want::File(file) => {
                    let bytes = self.files.get(&file);
                    check.give(bytes.map_or(Given::Absent, |bytes| Given::Bytes(bytes)));
                }
                Want::Entries(count) => {
                    let (part, rest) = entries.split_at(count.min(entries.len()));
                    check.give(Given::Bytes(part));
                    entries = rest;
                }
            }
        }
        check.finish()
    }
}

//! A log whose history a test writes, and a place for heads whose faults are arguments.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test's stage: it stops where it fails.
#![allow(dead_code)] // Each test uses a part of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use countersign_core::encoding::b64;
use countersign_core::hash::{Hash, RootHash, TreeSize};
use countersign_core::merkle::{
    HashReader, LogTree, NodeId, leaf_hash, prove_consistency, root_at, root_of,
};
use countersign_core::note::{KeyType, VerifierKey, checkpoint_body, sign_body};
use countersign_mirror::witness::config::WitnessedLog;
use countersign_mirror::witness::{Heads, OpenError, Witness};
use ed25519_dalek::SigningKey;

pub(crate) const ORIGIN: &str = "ledger.acme.example/prod";
pub(crate) const WITNESS: &str = "witness.example/w1";
/// 2026-11-23T12:00:00Z.
pub(crate) const NOON: u64 = 1_795_435_200;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn vkey(name: &str, key_type: KeyType, seed: u8) -> VerifierKey {
    VerifierKey::new(name, key_type, key(seed).verifying_key().to_bytes()).unwrap()
}

/// The log's key, of seed 1.
pub(crate) fn log_vkey() -> VerifierKey {
    vkey(ORIGIN, KeyType::Note, 1)
}

/// One history of the log; a clone that goes on otherwise is a fork.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History(pub(crate) Vec<Hash>);

impl HashReader for History {
    type Error = Infallible;

    fn read(&self, nodes: &[NodeId]) -> Result<Vec<Hash>, Infallible> {
        let node = |id: &NodeId| {
            let width = 1_usize << id.level;
            let first = usize::try_from(id.index).unwrap() * width;
            root_of::<LogTree>(&self.0[first..first + width]).unwrap()
        };
        Ok(nodes.iter().map(node).collect())
    }
}

impl History {
    /// Goes on with so many leaves of this flavour.
    pub(crate) fn grow(&mut self, count: u64, flavour: u64) {
        for _ in 0..count {
            let leaf = [flavour.to_be_bytes(), (self.0.len() as u64).to_be_bytes()].concat();
            self.0.push(leaf_hash(&leaf).0);
        }
    }

    pub(crate) fn of(count: u64, flavour: u64) -> Self {
        let mut history = Self::default();
        history.grow(count, flavour);
        history
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn root(&self, size: u64) -> RootHash {
        let Ok(root) = root_at(TreeSize(size), self);
        root
    }

    pub(crate) fn proof(&self, old: u64, new: u64) -> Vec<Hash> {
        if old == 0 || old > new {
            return Vec::new();
        }
        prove_consistency(TreeSize(old), TreeSize(new), self).unwrap()
    }

    /// The body of the log's head at this size.
    pub(crate) fn body(&self, size: u64) -> String {
        checkpoint_body(ORIGIN, TreeSize(size), &self.root(size))
    }

    /// The log's signed head at this size.
    pub(crate) fn note(&self, size: u64) -> String {
        let body = self.body(size);
        format!("{body}\n{}", sign_body(&log_vkey(), &key(1), &body))
    }

    /// An honest request.
    pub(crate) fn request(&self, old: u64, new: u64) -> String {
        request(old, &self.proof(old, new), &self.note(new))
    }
}

pub(crate) fn request(old: u64, proof: &[Hash], note: &str) -> String {
    let lines = proof.iter().fold(String::new(), |lines, hash| lines + &b64(hash) + "\n");
    format!("old {old}\n{lines}\n{note}")
}

/// What becomes of the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It fails, and nothing was written.
    Lost,
    /// It fails, and all was written.
    Persisted,
}

/// Heads in memory; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryHeads {
    notes: Arc<Mutex<BTreeMap<String, String>>>,
    next: Arc<Mutex<Option<Fate>>>,
}

impl MemoryHeads {
    /// The next write fails so.
    pub(crate) fn fail(&self, fate: Fate) {
        *self.next.lock().unwrap() = Some(fate);
    }

    pub(crate) fn note(&self, origin: &str) -> Option<String> {
        self.notes.lock().unwrap().get(origin).cloned()
    }

    pub(crate) fn set(&self, origin: &str, note: &str) {
        self.notes.lock().unwrap().insert(origin.to_owned(), note.to_owned());
    }
}

impl Heads for MemoryHeads {
    fn read(&self, origin: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.note(origin).map(String::into_bytes))
    }

    fn replace(&self, origin: &str, note: &str) -> io::Result<()> {
        let fate = self.next.lock().unwrap().take();
        if fate != Some(Fate::Lost) {
            self.set(origin, note);
        }
        if fate.is_some() { Err(io::Error::other("as the test asked")) } else { Ok(()) }
    }
}

/// The witness, key of seed 2, of the one log.
pub(crate) fn open<H: Heads>(heads: H) -> Result<Witness<H>, OpenError> {
    let log = WitnessedLog { origin: ORIGIN.to_owned(), keys: vec![log_vkey()] };
    Witness::open(WITNESS, key(2), vec![log], heads)
}

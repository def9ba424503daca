//! Makes valid commits: what a log would write, without a log.

use std::collections::BTreeMap;

use countersign_core::encoding::Micros;
use countersign_core::entry::{ENTRY_BYTES, Entry};
use countersign_core::hash::{Hash, LeafIndex, Sealed, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{CompactRange, LogTree, leaf_hash, root_of};
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body, sign_body,
};
use countersign_core::stream::StreamId;
use countersign_log::store::{Commit, Erased, IndexRow, StoredHead, Term, Tile};
use ed25519_dalek::SigningKey;

use crate::rng::SplitMix64;

/// A tenant whose name begins another one's, so that a careless index shows.
pub const TENANTS: [&str; 3] = ["ac", "acme", "globex"];
/// Actions that records are made of; few, so that each has several records.
pub const ACTIONS: u8 = 5;
/// Digests of policy versions that records are made of.
pub const POLICIES: u8 = 4;
/// Lists of each tenant that records are made of, besides those that all records stand in.
pub const LISTS: u8 = 6;
/// Streams that records are made of: the ledger's own and three more.
pub const STREAMS: u8 = 4;

/// Writes a log of its own, commit by commit. A clone writes another end of the same log.
#[derive(Clone, Debug)]
pub struct Scribe {
    origin: String,
    key: SigningKey,
    vkey: VerifierKey,
    rng: SplitMix64,
    tree: CompactRange,
    // Hashes of each level's unfinished tile, and how many tiles are full.
    levels: Vec<(Vec<Hash>, u64)>,
    now_us: u64,
    seqs: BTreeMap<StreamId, u64>,
    // The rows of each entry.
    written: Vec<Vec<IndexRow>>,
    /// Bytes of a payload.
    pub payload_bytes: usize,
}

impl Scribe {
    /// A scribe of this origin. The key comes from the origin, everything else from the seed.
    pub fn new(origin: &str, seed: u64) -> Self {
        let key = SigningKey::from_bytes(&countersign_core::hash::sha256(origin.as_bytes()));
        let vkey = VerifierKey::new(origin, KeyType::Note, key.verifying_key().to_bytes())
            .expect("an origin is a key name");
        Self {
            origin: origin.to_owned(),
            key,
            vkey,
            rng: SplitMix64::new(seed),
            tree: CompactRange::new(),
            levels: Vec::new(),
            now_us: 1_795_435_200_000_000,
            seqs: BTreeMap::new(),
            written: Vec::new(),
            payload_bytes: 40,
        }
    }

    /// The key that verifies its heads.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// Lets what follows differ from what a clone writes.
    pub fn diverge(&mut self, seed: u64) {
        self.rng = SplitMix64::new(seed);
    }

    /// Entries written so far.
    pub fn size(&self) -> TreeSize {
        self.tree.size()
    }

    /// The action id with this number.
    pub fn action(number: u8) -> [u8; 16] {
        [number; 16]
    }

    /// The digest of the policy version with this number.
    pub fn policy(number: u8) -> Hash {
        [number; 32]
    }

    /// The list with this number, of three fields with a few values each.
    pub fn list(number: u8) -> Term {
        Term { field: 1 + number % 3, hash: [number / 3; 8] }
    }

    /// The stream with this number; 0 is the ledger's.
    pub fn stream(number: u8) -> StreamId {
        StreamId([number; 16])
    }

    /// The next commit, of `count` entries; the size expected before it is [`Scribe::size`].
    pub fn commit(&mut self, count: usize) -> Commit {
        let mut commit = Commit {
            entries: Vec::new(),
            payloads: Vec::new(),
            batches: Vec::new(),
            tiles: Vec::new(),
            rows: Vec::new(),
            streams: Vec::new(),
            erased: Vec::new(),
            head: StoredHead { size: TreeSize(0), note: String::new() },
        };
        let first = LeafIndex(self.size().0);
        let mut touched = BTreeMap::new();
        for _ in 0..count {
            let index = LeafIndex(self.size().0);
            let entry = self.entry(&mut touched);
            let rows = self.rows(&entry, index);
            self.written.push(rows.clone());
            commit.rows.extend(rows);
            let bytes = entry.to_bytes();
            self.append(&bytes, &mut commit.tiles);
            commit.entries.push(bytes);
            let payload = (0..self.payload_bytes).map(|_| self.rng.next_u64().to_be_bytes()[0]);
            commit.payloads.push(payload.collect());
        }
        if count > 0 {
            commit.batches.push((first, self.rng.bytes::<64>().to_vec()));
        }
        commit.streams = touched.into_iter().collect();
        commit.head = self.head();
        commit
    }

    /// The next commit, of one entry, which erases those at `indexes`: each leaves every list of the
    /// second field, and those divisible by three their action.
    pub fn erasing(&mut self, indexes: &[u64]) -> Commit {
        let mut commit = self.commit(1);
        for at in indexes {
            let index = LeafIndex(*at);
            let rows = usize::try_from(*at).ok().and_then(|at| self.written.get(at));
            let rows = rows.cloned().unwrap_or_default();
            let mut erased = Erased {
                index,
                payload: self.rng.bytes::<16>().to_vec(),
                tenant: String::new(),
                leaves: Vec::new(),
                leaves_action: None,
            };
            for row in rows {
                match row {
                    IndexRow::Lists { tenant, terms, .. } => {
                        erased.leaves = terms.into_iter().filter(|term| term.field == 2).collect();
                        erased.tenant = tenant;
                    }
                    IndexRow::Action { action_id, .. } if at % 3 == 0 => {
                        erased.leaves_action = Some(action_id);
                    }
                    _ => {}
                }
            }
            let (tenant, terms) = (erased.tenant.clone(), vec![Term::ERASED]);
            commit.rows.push(IndexRow::Lists { tenant, terms, index });
            commit.erased.push(erased);
        }
        commit
    }

    /// The signed head over everything written so far.
    pub fn head(&self) -> StoredHead {
        let size = self.size();
        let body = checkpoint_body(&self.origin, size, &self.tree.root());
        let line = sign_body(&self.vkey, &self.key, &body);
        StoredHead { size, note: format!("{body}\n{line}") }
    }

    /// The same head with a cosignature more, as an idle log publishes it again.
    pub fn cosigned(&self, head: &StoredHead, seconds: u64) -> StoredHead {
        let clock = format!("{}/clock", self.origin);
        let clock =
            VerifierKey::new(&clock, KeyType::Cosignature, self.key.verifying_key().to_bytes())
                .expect("a good key");
        let note = SignedCheckpoint::parse(&head.note).expect("a scribe's head");
        let line = cosign_body(&clock, &self.key, seconds, note.body());
        let note = note.with_line(&line).expect("room for a line").as_str().to_owned();
        StoredHead { size: head.size, note }
    }

    fn entry(&mut self, touched: &mut BTreeMap<StreamId, Vec<u8>>) -> Entry {
        // Time stands still now and then, as it does within a group.
        self.now_us += self.rng.below(3);
        let number = self.rng.below(u64::from(STREAMS)).to_be_bytes()[7];
        let stream = Self::stream(number);
        let next = self.seqs.entry(stream).or_default();
        let seq = *next;
        *next += 1;
        touched.insert(stream, next.to_be_bytes().to_vec());
        let kind = if number == 0 { Kind::Notice } else { Kind::Verdict };
        let sealed = Sealed(self.rng.bytes());
        Entry { kind, logged_at: Micros(self.now_us), stream, seq, sealed }
    }

    fn rows(&mut self, entry: &Entry, index: LeafIndex) -> Vec<IndexRow> {
        let tenant = self.rng.below(TENANTS.len() as u64);
        let tenant = TENANTS.into_iter().cycle().nth(usize::from(tenant.to_be_bytes()[7]));
        let tenant = tenant.unwrap_or_default().to_owned();
        let action_id = Self::action(self.rng.below(u64::from(ACTIONS)).to_be_bytes()[7]);
        let mut rows = vec![
            IndexRow::Stream { stream: entry.stream, seq: entry.seq, index },
            IndexRow::Action { tenant: tenant.clone(), action_id, index },
            IndexRow::Lists { tenant: tenant.clone(), terms: self.terms(), index },
        ];
        // Now and then a policy, the same one again after a while.
        if index.0 % 7 == 3 {
            let digest = Self::policy(index.0.to_be_bytes()[7] % POLICIES);
            rows.push(IndexRow::Policy { tenant, digest, index });
        }
        rows
    }

    /// All records' list, and one of each of three fields.
    fn terms(&mut self) -> Vec<Term> {
        let mut terms = vec![Term::ALL];
        for field in 0..3 {
            let value = self.rng.below(2).to_be_bytes()[7];
            terms.push(Self::list(field + 3 * value));
        }
        terms
    }

    fn append(&mut self, entry: &[u8; ENTRY_BYTES], tiles: &mut Vec<Tile>) {
        let leaf = leaf_hash(entry);
        self.tree.append(&leaf);
        let mut hash = leaf.0;
        for level in 0..=u8::MAX {
            if self.levels.len() <= usize::from(level) {
                self.levels.push((Vec::new(), 0));
            }
            let Some((hashes, full)) = self.levels.get_mut(usize::from(level)) else { return };
            hashes.push(hash);
            if hashes.len() < 256 {
                return;
            }
            hash = root_of::<LogTree>(hashes).expect("256 hashes have a root");
            tiles.push(Tile { level, index: *full, hashes: hashes.concat() });
            hashes.clear();
            *full += 1;
        }
    }
}

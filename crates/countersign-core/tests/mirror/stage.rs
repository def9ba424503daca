//! A log in memory, its mirror as files, and a verification of it without threads. Roots come from
//! ct-merkle, so that tree and tiles are held against somebody else's arithmetic.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::alarm::ProvenEntry;
use countersign_core::encoding::{Micros, hex};
use countersign_core::entry::Entry;
use countersign_core::hash::{Hash, LeafIndex, RootHash, Sealed, TreeSize, sha256};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{
    HashReader, LogTree, NodeId, ProofPlan, leaf_hash, prove_consistency, prove_inclusion, root_of,
};
use countersign_core::mirror::{
    BundleFiles, Given, MirrorCheck, MirrorFile, MirrorReport, MirrorState, Start, log_folder,
};
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body, sign_body,
};
use countersign_core::stream::StreamId;
use countersign_core::tiles::{TilePath, encode_bundle};
use countersign_core::trust::Trust;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ed25519_dalek::SigningKey;

pub(crate) const ORIGIN: &str = "ledger.example/mirrored";
/// When the first entry was logged.
pub(crate) const BEGIN: u64 = 1_795_435_200_000_000;

/// Files by their paths below the log's folder.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A log that signs whatever it is told to.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) origin: String,
    pub(crate) entries: Vec<Vec<u8>>,
    key: SigningKey,
    clock: SigningKey,
    /// Seconds that the clock's word is off by.
    pub(crate) clock_off: i64,
}

/// An entry like those of a real log: a microsecond after the other.
pub(crate) fn entry(index: u64, stream: u8, seq: u64) -> Entry {
    let kind = if index == 0 { Kind::Genesis } else { Kind::Verdict };
    Entry {
        kind,
        logged_at: Micros(BEGIN + index),
        stream: StreamId([stream; 16]),
        seq,
        sealed: Sealed(sha256(&index.to_be_bytes())),
    }
}

/// So many entries of the ledger's stream and three others, in no simple order.
pub(crate) fn entries(count: u64) -> Vec<Vec<u8>> {
    let mut next = [0_u64; 4];
    let one = |index: u64| {
        let stream = if index == 0 { 0 } else { (index * index % 7 % 4) as u8 };
        let seq = next[usize::from(stream)];
        next[usize::from(stream)] += 1;
        entry(index, stream, seq).to_bytes().to_vec()
    };
    (0..count).map(one).collect()
}

impl Log {
    pub(crate) fn new(count: u64) -> Self {
        let (key, clock) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        Self { origin: ORIGIN.to_owned(), entries: entries(count), key, clock, clock_off: 0 }
    }

    /// The same log when it had so many entries.
    pub(crate) fn prefix(&self, size: usize) -> Self {
        Self { entries: self.entries[..size].to_vec(), ..self.clone() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn vkey(&self) -> VerifierKey {
        let key = self.key.verifying_key().to_bytes();
        VerifierKey::new(&self.origin, KeyType::Note, key).unwrap()
    }

    fn clock_vkey(&self) -> VerifierKey {
        let name = format!("{}/clock", self.origin);
        let key = self.clock.verifying_key().to_bytes();
        VerifierKey::new(&name, KeyType::Cosignature, key).unwrap()
    }

    /// A trust file that names this log and its clock, with more lines behind.
    pub(crate) fn trust_with(&self, more: &str) -> Trust {
        let text = format!(
            "[[log]]\nvkey = \"{}\"\nclock = [\"{}\"]\n{more}",
            self.vkey(),
            self.clock_vkey()
        );
        Trust::parse(&text, |_| panic!("it names no roots")).unwrap()
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust_with("")
    }

    /// The key as a trust file's `[[revoked]]` names it.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The roots of all sizes, by ct-merkle.
    pub(crate) fn roots(&self) -> Vec<RootHash> {
        let mut tree = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
        let mut roots = vec![RootHash(sha256(b""))];
        for entry in &self.entries {
            tree.push(entry.clone());
            roots.push(RootHash(tree.root().as_bytes().as_slice().try_into().unwrap()));
        }
        roots
    }

    pub(crate) fn root(&self, size: u64) -> RootHash {
        let leaves: Vec<Hash> = self.leaves()[..usize::try_from(size).unwrap()].to_vec();
        RootHash(root_of::<LogTree>(&leaves).unwrap_or(sha256(b"")))
    }

    fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(|entry| leaf_hash(entry).0).collect()
    }

    /// A head as the log signs it: its own line, and its clock's.
    pub(crate) fn sign(&self, size: u64, root: &RootHash) -> SignedCheckpoint {
        let body = checkpoint_body(&self.origin, TreeSize(size), root);
        let log = sign_body(&self.vkey(), &self.key, &body);
        let last = (BEGIN + size.saturating_sub(1)) / 1_000_000;
        let seconds = last.checked_add_signed(self.clock_off).unwrap();
        let clock = cosign_body(&self.clock_vkey(), &self.clock, seconds, &body);
        SignedCheckpoint::parse(&format!("{body}\n{log}{clock}")).unwrap()
    }

    /// The head that the log owes at this size.
    pub(crate) fn head(&self, size: u64) -> SignedCheckpoint {
        self.sign(size, &self.root(size))
    }

    /// The nodes of its tree.
    pub(crate) fn nodes(&self, nodes: &[NodeId]) -> Vec<Hash> {
        Tree(self.leaves()).read(nodes).unwrap()
    }

    pub(crate) fn proven(&self, index: u64, size: u64) -> ProvenEntry {
        let tree = Tree(self.leaves());
        let path = prove_inclusion(LeafIndex(index), TreeSize(size), &tree).unwrap();
        let bytes = self.entries[usize::try_from(index).unwrap()].clone();
        ProvenEntry { index: LeafIndex(index), bytes, path }
    }

    pub(crate) fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        prove_consistency(TreeSize(old), TreeSize(new), &Tree(self.leaves())).unwrap()
    }

    pub(crate) fn peaks(&self, size: u64) -> Vec<Hash> {
        self.nodes(ProofPlan::root(TreeSize(size)).nodes())
    }

    /// Its mirror, with a head of each of these sizes and of the whole log.
    pub(crate) fn mirror(&self, sizes: &[u64]) -> Files {
        let roots = self.roots();
        let mut files = self.tiles();
        for size in sizes.iter().chain([&self.size()]) {
            let head = self.sign(*size, &roots[usize::try_from(*size).unwrap()]);
            files.insert(MirrorFile::Head(*size).to_string(), head.as_str().into());
            files.insert("checkpoint".to_owned(), head.as_str().into());
        }
        files
    }

    /// Its tiles and bundles, cut by hand.
    fn tiles(&self) -> Files {
        let mut files = Files::new();
        let path = |kind: &str, index: usize, width: usize| {
            let (thousands, rest) = (index / 1_000, index % 1_000);
            let group = if thousands > 0 { format!("x{thousands:03}/") } else { String::new() };
            let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
            format!("tile/{kind}/{group}{rest:03}{partial}")
        };
        for (index, part) in self.entries.chunks(256).enumerate() {
            let bytes = encode_bundle(part.iter().map(Vec::as_slice)).unwrap();
            files.insert(path("entries", index, part.len()), bytes);
        }
        let mut hashes = self.leaves();
        for level in 0.. {
            for (index, part) in hashes.chunks(256).enumerate() {
                files.insert(path(&level.to_string(), index, part.len()), part.concat());
            }
            let full = hashes.chunks_exact(256).map(|part| root_of::<LogTree>(part).unwrap());
            hashes = full.collect();
            if hashes.is_empty() {
                break;
            }
        }
        files
    }
}

struct Tree(Vec<Hash>);

impl HashReader for Tree {
    type Error = ();

    fn read(&self, nodes: &[NodeId]) -> Result<Vec<Hash>, ()> {
        let node = |id: &NodeId| {
            let width = 1_usize << id.level;
            let first = usize::try_from(id.index).unwrap() * width;
            root_of::<LogTree>(self.0.get(first..first + width)?)
        };
        nodes.iter().map(|id| node(id).ok_or(())).collect()
    }
}

/// Verifies a mirror's files.
pub(crate) fn verify(files: &Files, trust: Option<&Trust>) -> MirrorReport {
    verify_from(files, trust, None).0
}

/// The same from an earlier state on; gives the next state too.
pub(crate) fn verify_from(
    files: &Files,
    trust: Option<&Trust>,
    state: Option<MirrorState>,
) -> (MirrorReport, Option<MirrorState>) {
    let given = |path: &str| files.get(path).map_or(Given::Absent, |bytes| Given::Bytes(bytes));
    let sizes: BTreeSet<u64> = files
        .keys()
        .filter_map(|path| match MirrorFile::parse(path) {
            Some(MirrorFile::Head(size)) => Some(size),
            _ => None,
        })
        .collect();
    let mut start = Start::new(&log_folder(ORIGIN), trust);
    start.checkpoint(given("checkpoint"));
    for size in sizes.iter().rev() {
        if start.wants_head() {
            start.head(*size, given(&MirrorFile::Head(*size).to_string()));
        }
    }
    let plan = match start.plan(&sizes, state) {
        Ok(plan) => plan,
        Err(report) => return (*report, None),
    };
    let mut check = MirrorCheck::new(&plan);
    let tile = |path: Option<TilePath>| path.map_or(Given::Absent, |p| given(&p.to_string()));
    let due = |check: &mut MirrorCheck<'_>| {
        while let Some(path) = check.due() {
            check.tile(given(&path.to_string()));
        }
    };
    for index in plan.first_bundle()..plan.bundles() {
        if check.hopeless() {
            break;
        }
        let entries = tile(plan.entries_path(index));
        let bundle = BundleFiles { entries, hashes: tile(plan.hashes_path(index)) };
        let head = |size: &u64| plan.head(*size, given(&plan.file_of(*size).to_string()));
        let heads = plan.heads_in(index).iter().map(head).collect();
        let above = |path: TilePath| files.get(&path.to_string()).cloned();
        check.take(plan.bundle(index, bundle, heads, above));
        due(&mut check);
    }
    let next = check.state();
    check.end();
    due(&mut check);
    for (path, bytes) in files {
        match MirrorFile::parse(path) {
            Some(MirrorFile::Tile(place)) if place.exists_at(plan.size()) => {
                if let Some(widest) = plan.widest(&place) {
                    check.partial(place, Given::Bytes(bytes), given(&widest.to_string()));
                }
            }
            Some(MirrorFile::Checkpoint | MirrorFile::Head(_)) => {}
            Some(file @ MirrorFile::Alarm(_)) => check.alarm(&file, bytes),
            _ => check.other(path, true),
        }
    }
    (check.finish(), next)
}

/// The code that decides, with the file, index, stream and number that it names.
pub(crate) fn said(report: &MirrorReport) -> String {
    let Some(finding) = report.decisive() else { return report.result.as_str().to_owned() };
    let place = &finding.place;
    let parts = [
        Some(finding.fault.code.as_str().to_owned()),
        place.file.clone(),
        place.index.map(|index| format!("@{index}")),
        place.stream.map(|stream| hex(&stream.0[..1])),
        place.seq.map(|seq| format!("#{seq}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

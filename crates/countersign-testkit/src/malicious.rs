//! A ledger that serves its tiles over real HTTP and lies when it is told to: it rewrites, forks,
//! goes back, skips and repeats numbers, turns its clock. Everything that it shows is signed with its
//! own keys, so that only who remembers what it said before can find it out.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_core::encoding::Micros;
use countersign_core::entry::{ENTRY_BYTES, Entry};
use countersign_core::hash::{Hash, LeafHash, LeafIndex, RootHash, Sealed, TreeSize, sha256};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{CompactRange, LogTree, NodeId, ProofPlan, leaf_hash, root_of};
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body, sign_body,
};
use countersign_core::receipt::Receipt;
use countersign_core::stream::StreamId;
use countersign_core::tiles::{TILE_WIDTH, TileKind, TilePath, encode_bundle};
use ed25519_dalek::SigningKey;

/// 2026-11-23T12:00:00Z.
const NOON: u64 = 1_795_435_200;
/// How long a caller may take to send a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// One history of the log. A clone that goes on otherwise is a fork.
#[derive(Clone, Debug)]
pub struct History {
    entries: Vec<[u8; ENTRY_BYTES]>,
    // Level 0 holds the leaves; each above, the roots of full tiles.
    levels: Vec<Vec<Hash>>,
    streams: BTreeMap<StreamId, u64>,
    time: Micros,
    flavour: u8,
}

impl Default for History {
    fn default() -> Self {
        Self::new(0)
    }
}

impl History {
    /// An empty one. Of two flavours no two entries are equal.
    pub fn new(flavour: u8) -> Self {
        Self {
            entries: Vec::new(),
            levels: Vec::new(),
            streams: BTreeMap::new(),
            time: Micros(NOON * 1_000_000),
            flavour,
        }
    }

    /// The same beginning, and from here on other entries.
    #[must_use]
    pub fn forked(&self, at: u64, flavour: u8) -> Self {
        let mut fork = Self::new(flavour);
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        for entry in self.entries.iter().take(at) {
            fork.push(*entry);
        }
        fork
    }

    /// How many entries there are.
    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Honest entries: streams that count, times that ascend.
    pub fn grow(&mut self, count: u64) {
        for _ in 0..count {
            let lane = u8::try_from(self.entries.len() % 5).unwrap_or_default();
            let stream = StreamId([1 + lane; 16]);
            let seq = self.next_seq(stream);
            let time = Micros(self.time.0 + 10);
            self.add(stream, seq, time);
        }
    }

    /// The number that a stream's next entry should have.
    pub fn next_seq(&self, stream: StreamId) -> u64 {
        self.streams.get(&stream).map_or(0, |seq| seq + 1)
    }

    /// The time of the last entry.
    pub fn time(&self) -> Micros {
        self.time
    }

    /// Any entry, honest or not.
    pub fn add(&mut self, stream: StreamId, seq: u64, logged_at: Micros) {
        let kind = if self.entries.is_empty() { Kind::Genesis } else { Kind::Verdict };
        self.add_kind(kind, stream, seq, logged_at);
    }

    /// The same of any kind.
    pub fn add_kind(&mut self, kind: Kind, stream: StreamId, seq: u64, logged_at: Micros) {
        let mut sealed = [self.flavour; 32];
        let index = (self.entries.len() as u64).to_be_bytes();
        sealed.iter_mut().zip(index).for_each(|(to, from)| *to = from);
        let sealed = Sealed(sealed);
        self.push(Entry { kind, logged_at, stream, seq, sealed }.to_bytes());
    }

    /// Any bytes as an entry.
    pub fn push(&mut self, entry: [u8; ENTRY_BYTES]) {
        if let Ok(read) = Entry::from_bytes(&entry) {
            self.streams.insert(read.stream, read.seq);
            self.time = read.logged_at;
        }
        self.entries.push(entry);
        let (mut level, mut hash) = (0, leaf_hash(&entry).0);
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(level) else { return };
            hashes.push(hash);
            let width = usize::from(TILE_WIDTH);
            if hashes.len() % width != 0 {
                return;
            }
            let tile = hashes.get(hashes.len() - width..).unwrap_or_default();
            let Some(root) = root_of::<LogTree>(tile) else { return };
            (level, hash) = (level + 1, root);
        }
    }

    /// Changes what stands at an index: history itself.
    pub fn rewrite(&mut self, index: u64) {
        let entries = std::mem::take(&mut self.entries);
        let (flavour, time) = (self.flavour, self.time);
        *self = Self::new(flavour);
        for (at, mut entry) in (0..).zip(entries) {
            if at == index {
                // The last byte of `sealed`: the record is another.
                entry[ENTRY_BYTES - 1] ^= 1;
            }
            self.push(entry);
        }
        self.time = time;
    }

    fn leaves(&self) -> &[Hash] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    /// The root of the first `size` entries.
    pub fn root(&self, size: u64) -> RootHash {
        let mut tree = CompactRange::new();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        for leaf in self.leaves().iter().take(size) {
            tree.append(&LeafHash(*leaf));
        }
        tree.root()
    }

    /// The file at a path of the read path; none where this history has no such file.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        let path = TilePath::parse(path)?;
        let width = usize::from(path.width());
        let from = usize::try_from(path.index()).ok()?.checked_mul(usize::from(TILE_WIDTH))?;
        let range = from..from.checked_add(width)?;
        match path.kind() {
            TileKind::Hashes(level) => {
                let hashes = self.levels.get(usize::from(level))?.get(range)?;
                Some(hashes.as_flattened().to_vec())
            }
            TileKind::Entries => {
                encode_bundle(self.entries.get(range)?.iter().map(<[u8; ENTRY_BYTES]>::as_slice))
            }
        }
    }

    fn proof(&self, plan: &ProofPlan) -> Option<Vec<Hash>> {
        let node = |node: &NodeId| {
            let width = 1_usize.checked_shl(u32::from(node.level))?;
            let first = usize::try_from(node.index).ok()?.checked_mul(width)?;
            root_of::<LogTree>(self.leaves().get(first..first.checked_add(width)?)?)
        };
        let hashes: Option<Vec<Hash>> = plan.nodes().iter().map(node).collect();
        Some(plan.finish(&hashes?))
    }

    /// The inclusion proof of an entry in the tree of `size` entries.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        self.proof(&ProofPlan::inclusion(LeafIndex(index), TreeSize(size))?)
    }

    /// The consistency proof between two sizes; empty where there is none.
    pub fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        let plan = ProofPlan::consistency(TreeSize(old), TreeSize(new));
        plan.and_then(|plan| self.proof(&plan)).unwrap_or_default()
    }
}

/// The log's keys: whoever has them can sign anything.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The log's name.
    pub origin: String,
    log: SigningKey,
    clock: SigningKey,
}

impl Keys {
    /// The keys of a log of this name.
    pub fn of(origin: &str) -> Self {
        let key = |what: &str| {
            let seed = sha256(format!("{origin} {what}").as_bytes());
            SigningKey::from_bytes(&seed)
        };
        Self { origin: origin.to_owned(), log: key("log"), clock: key("clock") }
    }

    /// The vkey of the log's signature.
    pub fn vkey(&self) -> VerifierKey {
        let key = self.log.verifying_key().to_bytes();
        VerifierKey::new(&self.origin, KeyType::Note, key).expect("an origin is a key name")
    }

    /// The vkey of its clock.
    pub fn clock_vkey(&self) -> VerifierKey {
        let (key, name) = (self.clock.verifying_key().to_bytes(), format!("{}/clock", self.origin));
        VerifierKey::new(&name, KeyType::Cosignature, key).expect("an origin is a key name")
    }

    /// A trust file that names both.
    pub fn trust(&self) -> String {
        format!("[[log]]\nvkey = \"{}\"\nclock = [\"{}\"]\n", self.vkey(), self.clock_vkey())
    }

    /// A head over anything, at any second.
    pub fn sign(&self, size: u64, root: &RootHash, seconds: u64) -> SignedCheckpoint {
        let body = checkpoint_body(&self.origin, TreeSize(size), root);
        let log = sign_body(&self.vkey(), &self.log, &body);
        let clock = cosign_body(&self.clock_vkey(), &self.clock, seconds, &body);
        SignedCheckpoint::parse(&format!("{body}\n{log}{clock}")).expect("a note of our own")
    }

    /// The head of a history's first `size` entries.
    pub fn head(&self, history: &History, size: u64, seconds: u64) -> SignedCheckpoint {
        self.sign(size, &history.root(size), seconds)
    }

    /// A receipt of an entry, as somebody was given it.
    pub fn receipt(&self, history: &History, index: u64, seconds: u64) -> Option<Receipt> {
        let path = history.inclusion(index, history.size())?;
        let checkpoint = self.head(history, history.size(), seconds);
        Some(Receipt { index: LeafIndex(index), path, checkpoint })
    }
}

/// What is served.
#[derive(Debug, Default)]
struct Shown {
    history: History,
    checkpoint: String,
    instead: BTreeMap<String, Vec<u8>>,
    requests: u64,
    out_of_order: bool,
}

/// A ledger that shows what it is told to show, and no more; clones are the same one.
#[derive(Clone, Debug)]
pub struct Ledger {
    keys: Keys,
    shown: Arc<Mutex<Shown>>,
}

impl Ledger {
    /// Of this name, with nothing to show.
    pub fn new(origin: &str) -> Self {
        Self { keys: Keys::of(origin), shown: Arc::default() }
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it shows this history, under an honest head of all of it at a second after noon.
    pub fn show(&self, history: &History, second: u64) -> SignedCheckpoint {
        let head = self.keys.head(history, history.size(), NOON + second);
        let mut shown = self.shown();
        shown.history.clone_from(history);
        head.as_str().clone_into(&mut shown.checkpoint);
        head
    }

    /// From now on it shows this head, whatever it serves under it.
    pub fn show_head(&self, head: &SignedCheckpoint) {
        head.as_str().clone_into(&mut self.shown().checkpoint);
    }

    /// A second after noon, as its clock says it.
    pub fn second(second: u64) -> u64 {
        NOON + second
    }

    /// From now on this file has these bytes.
    pub fn alter(&self, name: &str, bytes: Vec<u8>) {
        self.shown().instead.insert(name.to_owned(), bytes);
    }

    /// Shows what is there again.
    pub fn mend(&self) {
        self.shown().instead.clear();
    }

    /// Whether it answers with 500 from now on.
    pub fn break_down(&self, broken: bool) {
        self.shown().out_of_order = broken;
    }

    /// Requests that it had.
    pub fn requests(&self) -> u64 {
        self.shown().requests
    }

    /// The file of a name; none where there is none.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        let mut shown = self.shown();
        shown.requests += 1;
        if let Some(instead) = shown.instead.get(name) {
            return Some(instead.clone());
        }
        if name == "checkpoint" {
            return Some(shown.checkpoint.clone().into_bytes()).filter(|note| !note.is_empty());
        }
        shown.history.file(name)
    }

    /// Serves its files over HTTP on a free port, until the process ends.
    pub fn serve(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let ledger = self.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let ledger = ledger.clone();
                // A caller that hangs up has what it asked for.
                std::thread::spawn(move || drop(ledger.answer(socket)));
            }
        });
        Ok(addr)
    }

    /// Requests of one connection, one after the other.
    fn answer(&self, mut socket: TcpStream) -> io::Result<()> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let mut waiting = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            while let Some(end) = waiting.windows(4).position(|four| four == b"\r\n\r\n") {
                let request = String::from_utf8_lossy(waiting.get(..end).unwrap_or_default());
                let path = request.split(' ').nth(1).unwrap_or_default();
                let file = self.file(path.trim_start_matches('/'));
                let (status, body) = match file {
                    _ if self.shown().out_of_order => ("500 Internal Server Error", Vec::new()),
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", Vec::new()),
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                socket.write_all(&[head.as_bytes(), &body].concat())?;
                waiting.drain(..end + 4);
            }
            let read = socket.read(&mut buffer)?;
            if read == 0 || waiting.len() > REQUEST_BYTES_MAX {
                return Ok(());
            }
            waiting.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
    }
}

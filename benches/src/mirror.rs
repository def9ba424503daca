//! `countersign-verify mirror` over whole mirrors, beside SHA-256 of the very same files on as many
//! threads, and beside the leaf and node hashes that no verification can leave out.
//!
//! An entry and its leaf hash are 100 bytes of files, which is 1.6 blocks of SHA-256; its leaf and one
//! node are four, since both are a little longer than a block. Reading the files costs both alike.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign_core::encoding::Micros;
use countersign_core::entry::{ENTRY_BYTES, Entry};
use countersign_core::hash::{Hash, RootHash, Sealed, TreeSize, sha256};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{CompactRange, LogTree, NodeHasher as _, leaf_hash, root_of};
use countersign_core::mirror::log_folder;
use countersign_core::note::{KeyType, VerifierKey, checkpoint_body, sign_body};
use countersign_core::stream::StreamId;
use countersign_core::tiles::{TILE_WIDTH, TileKind, TilePath, encode_bundle};
use ed25519_dalek::SigningKey;

use crate::core::text;
use crate::figure::{Figure, number};

const ORIGIN: &str = "ledger.example/bench-mirror";
/// Sizes that are measured, and what their figures are called.
const SIZES: [(u64, [&str; 3]); 3] = [
    (10_000, ["raw_sha256_of_mirror_10k", "verify_mirror_10k", "verify_mirror_memory_10k"]),
    (100_000, ["raw_sha256_of_mirror_100k", "verify_mirror_100k", "verify_mirror_memory_100k"]),
    (1_000_000, ["raw_sha256_of_mirror_1m", "verify_mirror_1m", "verify_mirror_memory_1m"]),
];
/// One more size, where this variable names it: 10000000 takes a minute to write, and 1 GB.
const MORE_VARIABLE: &str = "COUNTERSIGN_MIRROR_ENTRIES";
const MORE: [&str; 3] =
    ["raw_sha256_of_mirror_more", "verify_mirror_more", "verify_mirror_memory_more"];
/// Each is measured so often, and the best counts: for both alike.
const ROUNDS: u32 = 3;
const MIB: f64 = 1_048_576.0;

/// Budget: at least half of raw SHA-256 of the same files.
pub(crate) fn mirrors(dir: &Path) -> Result<Vec<Figure>, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let more = std::env::var(MORE_VARIABLE).ok().and_then(|count| count.parse().ok());
    let sizes = SIZES.into_iter().chain(more.map(|count: u64| (count, MORE)));
    let mut figures = Vec::new();
    let mut smallest = None;
    for (entries, [raw_name, verify_name, memory_name]) in sizes {
        eprintln!("a mirror of {entries} entries");
        let dir = dir.join(format!("mirror-{entries}"));
        let (files, bytes) = write(&dir, entries)?;
        let rate = |time: Duration| number(bytes) / time.as_secs_f64() / MIB;
        let mut raw = Duration::MAX;
        let mut verified = (Duration::MAX, 0.0_f64);
        for _ in 0..ROUNDS {
            raw = raw.min(on_all(threads, files.len(), |at| hash_file(files.get(at)))?);
            let (time, memory) = verify(&dir)?;
            verified = (verified.0.min(time), verified.1.max(memory));
        }
        let (raw, (time, memory)) = (rate(raw), verified);
        figures.push(Figure::plain(raw_name, raw, "MiB/s"));
        figures.push(Figure::plain(verify_name, rate(time), "MiB/s").beside(raw, 0.5, true));
        let smallest = *smallest.get_or_insert(memory);
        figures.push(Figure::plain(memory_name, memory, "MiB").with_reference(smallest));
        if entries == 1_000_000 {
            let count = usize::try_from(entries).map_err(text)?;
            let time = on_all(threads, count / 1_000, |_| {
                hash_entries(1_000);
                Ok(())
            })?;
            figures.push(Figure::plain("leaf_and_node_hashes_1m", rate(time), "MiB/s"));
        }
        std::fs::remove_dir_all(&dir).map_err(text)?;
    }
    Ok(figures)
}

/// Does `count` pieces of work on all threads, and says how long that took.
fn on_all(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<(), String> + Sync,
) -> Result<Duration, String> {
    let at = AtomicUsize::new(0);
    #[allow(clippy::disallowed_methods)] // Measuring time is what a benchmark is for.
    let start = Instant::now();
    std::thread::scope(|scope| {
        let worker = || {
            loop {
                let piece = at.fetch_add(1, Ordering::Relaxed);
                if piece >= count {
                    return Ok::<(), String>(());
                }
                work(piece)?;
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(start.elapsed())
}

fn hash_file(path: Option<&PathBuf>) -> Result<(), String> {
    let bytes = std::fs::read(path.ok_or("no such piece")?).map_err(text)?;
    std::hint::black_box(sha256(&bytes));
    Ok(())
}

fn hash_entries(count: u64) {
    let mut node = [0; 32];
    for n in 0..count {
        let mut entry = [7; ENTRY_BYTES];
        entry[..8].copy_from_slice(&n.to_be_bytes());
        node = LogTree::node(&node, &leaf_hash(&entry).0);
    }
    std::hint::black_box(node);
}

/// Runs the verifier beside this program; its time, and the most memory that it was seen to have.
fn verify(dir: &Path) -> Result<(Duration, f64), String> {
    let program = std::env::current_exe().map_err(text)?.with_file_name("countersign-verify");
    #[allow(clippy::disallowed_methods)] // Measuring time is what a benchmark is for.
    let start = Instant::now();
    let mut child = Command::new(&program)
        .arg("mirror")
        .arg(dir)
        .arg("--trust")
        .arg(dir.join("trust.toml"))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let mut peak = 0_u64;
    let status = loop {
        let found = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = found.unwrap_or_default();
        let line = line.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        match child.try_wait().map_err(text)? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if status.success() {
        Ok((start.elapsed(), number(peak) / 1_024.0))
    } else {
        Err("the mirror that was written is not valid".to_owned())
    }
}

/// Writes a mirror of so many entries, whose last head is signed; its files, and their bytes.
fn write(dir: &Path, entries: u64) -> Result<(Vec<PathBuf>, u64), String> {
    let mut mirror = Mirror {
        log: dir.join(log_folder(ORIGIN)),
        files: Vec::new(),
        bytes: 0,
        levels: Vec::new(),
        tree: CompactRange::new(),
    };
    let width = u64::from(TILE_WIDTH);
    for index in 0..entries.div_ceil(width) {
        let bundle: Vec<_> = (index * width..entries.min((index + 1) * width)).map(entry).collect();
        let encoded = encode_bundle(bundle.iter().map(<[u8; ENTRY_BYTES]>::as_slice));
        mirror.put(TileKind::Entries, index, bundle.len(), &encoded.ok_or("too long")?)?;
        let leaves: Vec<_> = bundle.iter().map(|entry| leaf_hash(entry)).collect();
        for leaf in &leaves {
            mirror.tree.append(leaf);
        }
        mirror.tile(0, index, leaves.iter().map(|leaf| leaf.0).collect())?;
    }
    for level in 0..mirror.levels.len() {
        let (index, hashes) = mirror.levels.get(level).cloned().unwrap_or_default();
        if !hashes.is_empty() {
            mirror.put_hashes(level + 1, index, &hashes)?;
        }
    }
    let key = SigningKey::from_bytes(&[1; 32]);
    let vkey = VerifierKey::new(ORIGIN, KeyType::Note, key.verifying_key().to_bytes());
    let vkey = vkey.map_err(text)?;
    let root: RootHash = mirror.tree.root();
    let body = checkpoint_body(ORIGIN, TreeSize(entries), &root);
    let note = format!("{body}\n{}", sign_body(&vkey, &key, &body));
    mirror.file("checkpoint", note.as_bytes())?;
    mirror.file(&format!("heads/{entries:020}.note"), note.as_bytes())?;
    std::fs::write(dir.join("trust.toml"), format!("[[log]]\nvkey = \"{vkey}\"\n"))
        .map_err(text)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(text)?;
    Ok((mirror.files, mirror.bytes))
}

struct Mirror {
    log: PathBuf,
    files: Vec<PathBuf>,
    bytes: u64,
    /// The tile of each level above the leaves that is not full: its index and hashes.
    levels: Vec<(u64, Vec<Hash>)>,
    tree: CompactRange,
}

impl Mirror {
    /// Writes a tile, and where it is full adds its root to the one above.
    fn tile(&mut self, level: usize, index: u64, hashes: Vec<Hash>) -> Result<(), String> {
        let mut next = (level, index, hashes);
        loop {
            let (level, index, hashes) = next;
            self.put_hashes(level, index, &hashes)?;
            if hashes.len() < usize::from(TILE_WIDTH) {
                return Ok(());
            }
            let root = root_of::<LogTree>(&hashes).ok_or("a tile is empty")?;
            if self.levels.len() <= level {
                self.levels.push((0, Vec::new()));
            }
            let above = self.levels.get_mut(level).ok_or("a level is missing")?;
            above.1.push(root);
            if above.1.len() < usize::from(TILE_WIDTH) {
                return Ok(());
            }
            next = (level + 1, above.0, std::mem::take(&mut above.1));
            above.0 += 1;
        }
    }

    fn put_hashes(&mut self, level: usize, index: u64, hashes: &[Hash]) -> Result<(), String> {
        let kind = TileKind::Hashes(u8::try_from(level).map_err(text)?);
        self.put(kind, index, hashes.len(), hashes.as_flattened())
    }

    fn put(
        &mut self,
        kind: TileKind,
        index: u64,
        width: usize,
        bytes: &[u8],
    ) -> Result<(), String> {
        let width = u16::try_from(width).map_err(text)?;
        let path = TilePath::new(kind, index, width).ok_or("no such tile")?;
        self.file(&path.to_string(), bytes)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.log.join(name);
        std::fs::create_dir_all(path.parent().ok_or("a path without folder")?).map_err(text)?;
        std::fs::write(&path, bytes).map_err(text)?;
        self.bytes += bytes.len() as u64;
        self.files.push(path);
        Ok(())
    }
}

/// The nth entry: of eight streams in turn, behind the genesis record.
fn entry(index: u64) -> [u8; ENTRY_BYTES] {
    let (kind, stream, seq) = match index.checked_sub(1) {
        None => (Kind::Genesis, 0, 0),
        Some(n) => (Kind::Verdict, 1 + n % 8, n / 8),
    };
    let entry = Entry {
        kind,
        logged_at: Micros(1_795_435_200_000_000 + index),
        stream: StreamId([u8::try_from(stream).unwrap_or(0); 16]),
        seq,
        sealed: Sealed(sha256(&index.to_be_bytes())),
    };
    entry.to_bytes()
}

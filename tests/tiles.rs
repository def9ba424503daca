//! The static read path of a real ledger over real HTTP, and its export as plain files: a client
//! that has nothing but these and the log's key proves every entry, and a source that lies, forks
//! or goes back is refused.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use countersign_core::encoding::hex;
use countersign_core::hash::{Hash, LeafHash, LeafIndex, TreeSize, sha256};
use countersign_core::merkle::{
    CompactRange, NodeId, ProofPlan, leaf_hash, verify_consistency, verify_inclusion,
};
use countersign_core::note::{SignedCheckpoint, checkpoint_body, sign_body};
use countersign_core::tiles::{
    TILE_HEIGHT, TileKind, TilePath, VerifiedEdge, encode_bundle, node_of_tile, parse_bundle,
    parse_hashes, partial_tiles, verify_bundle, verify_full_tile,
};
use countersign_testkit::folder::files_below;
use countersign_tests::{Installation, Lane, Random, Said, Server, Stage, await_until, submit};
use ed25519_dalek::SigningKey;

/// An answer: its status, its header by lower-case name, its body.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn ask(addr: SocketAddr, method: &str, path: &str, more: &str) -> Answer {
    let mut socket = TcpStream::connect(addr).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..at]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Answer { status, headers: headers.collect(), body: bytes[at + 4..].to_vec() }
}

fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "GET", path, "")
}

/// Lets the log have so many entries, at least, and a periodic head over them.
async fn grow(stage: &Stage, server: &Server, to: u64) {
    // A new key each time, and so a new stream.
    let holder = stage.gate("acme", "prod-1");
    let mut client = stage.connect(server, &holder).await;
    let mut lane = Lane::open(&mut client, &holder, 0).await.unwrap();
    let mut random = Random::new(to);
    let mut size = stage.newest(&mut client).await.size.0;
    while size < to {
        let count = usize::try_from((to - size).min(200)).unwrap();
        submit(stage, &mut client, &lane.batch(count, &mut random)).await.unwrap();
        size = stage.newest(&mut client).await.size.0;
    }
    await_until("the periodic head", || {
        let note = String::from_utf8(get(server.http, "/checkpoint").body).unwrap();
        (stage.head(&note).size.0 >= to).then_some(())
    })
    .await;
}

/// Knows the log's key, and fetches.
struct Reader {
    addr: SocketAddr,
    head: SignedCheckpoint,
    edge: VerifiedEdge,
}

impl Reader {
    fn of(stage: &Stage, addr: SocketAddr) -> Self {
        let head = String::from_utf8(get(addr, "/checkpoint").body).unwrap();
        let head = SignedCheckpoint::parse(&head).unwrap();
        head.verify_log(&stage.log_vkey).unwrap();
        let tiles = partial_tiles(head.size).iter().map(|path| tile(addr, path)).collect();
        let edge = VerifiedEdge::verify(head.size, &head.root, tiles).unwrap();
        Self { addr, head, edge }
    }

    /// The hashes of a tile of leaves, checked by the tile above, which is of the edge here.
    fn leaves(&self, path: &TilePath) -> Vec<Hash> {
        if let Some(hashes) = self.edge.tile(path) {
            return hashes.to_vec();
        }
        let hashes = tile(self.addr, path);
        let above = NodeId { level: TILE_HEIGHT, index: path.index() };
        verify_full_tile(&hashes, &self.edge.node(above).unwrap()).unwrap();
        hashes
    }

    /// Every entry, each proved by a path that is made of tiles alone.
    fn prove_all(&self) {
        let size = self.head.size;
        let mut tiles = BTreeMap::new();
        let mut range = CompactRange::new();
        for index in 0..size.0 {
            let plan = ProofPlan::inclusion(LeafIndex(index), size).unwrap();
            let hashes = plan.nodes().iter().map(|node| {
                let path = TilePath::holding(*node, size).unwrap();
                let tile = tiles.entry(path).or_insert_with(|| {
                    self.edge.tile(&path).map_or_else(|| self.leaves(&path), <[Hash]>::to_vec)
                });
                node_of_tile(*node, tile).unwrap()
            });
            let path = plan.finish(&hashes.collect::<Vec<Hash>>());
            let leaf = LeafHash(self.leaf(index, &mut tiles));
            range.append(&leaf);
            verify_inclusion(LeafIndex(index), size, &leaf, &path, &self.head.root).unwrap();
        }
        assert_eq!(range.root(), self.head.root, "the root from the leaves alone");
    }

    fn leaf(&self, index: u64, tiles: &mut BTreeMap<TilePath, Vec<Hash>>) -> Hash {
        let node = NodeId { level: 0, index };
        let path = TilePath::holding(node, self.head.size).unwrap();
        let leaves = tiles.entry(path).or_insert_with(|| self.leaves(&path));
        if index.is_multiple_of(256) {
            // The bundle beside it holds the entries that hash to it.
            let bundle = TilePath::new(TileKind::Entries, path.index(), path.width()).unwrap();
            let bytes = get(self.addr, &format!("/{bundle}")).body;
            let entries = parse_bundle(&bytes, bundle.width()).unwrap();
            assert!(entries.iter().all(|entry| entry.len() == 66));
            verify_bundle(&entries, leaves).unwrap();
            assert_eq!(leaf_hash(entries[0]).0, leaves[0]);
        }
        leaves[usize::try_from(index % 256).unwrap()]
    }
}

fn tile(addr: SocketAddr, path: &TilePath) -> Vec<Hash> {
    let answer = get(addr, &format!("/{path}"));
    assert_eq!(answer.status, 200, "{path}");
    parse_hashes(&answer.body, path.width()).unwrap()
}

/// TILE-2, TILE-3, TILE-6, TILE-7 over the wire, and TILE-8 by a client of tiles alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_is_read_and_proved_from_its_tiles_alone() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let http = server.http;
    grow(&stage, &server, 300).await;
    let first = Reader::of(&stage, http);
    first.prove_all();
    grow(&stage, &server, 600).await;
    let reader = Reader::of(&stage, http);
    reader.prove_all();
    assert!(reader.head.size.0 >= 600);
    // The older head is one of the same log, by tiles alone.
    let (old, new) = (first.head.size, reader.head.size);
    let plan = ProofPlan::consistency(old, new).unwrap();
    let node = |node: &NodeId| {
        let path = TilePath::holding(*node, new).unwrap();
        node_of_tile(*node, &reader.leaves(&path)).unwrap()
    };
    let proof = plan.finish(&plan.nodes().iter().map(node).collect::<Vec<_>>());
    verify_consistency(old, new, &first.head.root, &reader.head.root, &proof).unwrap();

    let full = get(http, "/tile/0/000");
    assert_eq!((full.status, full.body.len()), (200, 8_192));
    assert_eq!(full.headers["content-type"], "application/octet-stream");
    assert_eq!(full.headers["cache-control"], "public, max-age=31536000, immutable");
    let etag = full.headers["etag"].clone();
    assert_eq!(etag, format!("\"{}\"", &hex(&sha256(&full.body))[..32]));
    let head = ask(http, "HEAD", "/tile/0/000", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], "8192");
    let again = ask(http, "GET", "/tile/0/000", &format!("if-none-match: {etag}\r\n"));
    assert_eq!((again.status, again.body.len()), (304, 0));
    let checkpoint = get(http, "/checkpoint");
    assert_eq!(checkpoint.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(checkpoint.headers["cache-control"], "public, max-age=1, must-revalidate");
    // A narrower partial tile is what it was, although the full one is there by now.
    let narrow = get(http, "/tile/0/000.p/7");
    assert_eq!(narrow.body, full.body[..7 * 32]);
    for (path, status) in [
        ("/tile/0/999", 404),
        ("/tile/0/002.p/255", 404),
        ("/tile/1/000", 404),
        ("/tile/1/000.p/3", 404),
        ("/tile/2/000.p/1", 404),
        ("/tile/63/000", 404),
        ("/tile/entries/x999/999", 404),
        ("/tile/0/0", 400),
        ("/tile/0/000.p/0", 400),
        ("/tile/0/000.p/256", 400),
        ("/tile/0/x000/000", 400),
        ("/tile/00/000", 400),
        ("/tile/64/000", 400),
        ("/tile/0/%30%30%30", 400),
        ("/tile/0/000?", 400),
        ("/tile/0/000?x=1", 400),
        ("/tile/0//000", 400),
        ("/tile/data/000", 400),
    ] {
        let answer = get(http, path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
    }
    assert_eq!(ask(http, "POST", "/tile/0/000", "content-length: 0\r\n").status, 405);
    let metrics = String::from_utf8(get(http, "/metrics").body).unwrap();
    for line in [
        "countersign_tile_requests_total{what=\"tile\",status=\"304\"} 1\n",
        "countersign_tile_requests_total{what=\"malformed\",status=\"400\"} 11\n",
        "countersign_tile_requests_total{what=\"entries\",status=\"404\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(metrics.contains("countersign_tile_sent_bytes_total "), "{metrics}");
    server.stop().await;
}

/// Any web server: it knows files and nothing else, and can be told to alter one.
struct FileServer {
    addr: SocketAddr,
    altered: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl FileServer {
    fn of(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let altered = Arc::<Mutex<BTreeMap<String, Vec<u8>>>>::default();
        let (dir, instead) = (dir.to_owned(), Arc::clone(&altered));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                serve_one(socket.unwrap(), &dir, &instead);
            }
        });
        Self { addr, altered }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on this file has these bytes.
    fn alter(&self, name: &str, bytes: Vec<u8>) {
        self.altered.lock().unwrap().insert(name.to_owned(), bytes);
    }

    fn mend(&self) {
        self.altered.lock().unwrap().clear();
    }
}

fn serve_one(mut socket: TcpStream, dir: &Path, altered: &Mutex<BTreeMap<String, Vec<u8>>>) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if socket.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let text = String::from_utf8(request).unwrap();
    let name = text.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let instead = altered.lock().unwrap().get(&name).cloned();
    let body = instead.map_or_else(|| std::fs::read(dir.join(&name)), Ok);
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = socket.write_all(&[head.as_bytes(), &body].concat());
}

/// Every file below a folder.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_below(dir).unwrap()
}

struct Exporter {
    installation: Installation,
    trust: PathBuf,
}

impl Exporter {
    fn new(stage: &Stage) -> Self {
        let trust = stage.dir.path().join("trust-tiles.toml");
        std::fs::write(&trust, format!("[[log]]\nvkey = \"{}\"\n", stage.log_vkey)).unwrap();
        Self { installation: Installation::new(), trust }
    }

    fn export(&self, from: &str, to: &Path) -> Said {
        let (to, trust) = (to.to_str().unwrap(), self.trust.to_str().unwrap());
        let command = ["export-tiles", to, "--from", from, "--trust", trust, "--output", "jsonl"];
        self.installation.run(&command)
    }

    /// Succeeds, and gives the size, the files written and those kept.
    fn exports(&self, from: &str, to: &Path) -> (u64, u64, u64) {
        let said = self.export(from, to);
        assert!(said.status.success(), "{}", said.stderr);
        let line = &said.lines()[0];
        let number = |name: &str| line[name].as_u64().unwrap();
        (number("size"), number("written"), number("kept"))
    }

    /// Is refused as a proven fault, and says this.
    fn refused(&self, from: &str, to: &Path, why: &str) {
        let said = self.export(from, to);
        assert_eq!(said.status.code(), Some(1), "{}", said.stderr);
        assert!(said.stderr.contains(why), "{why:?} in {}", said.stderr);
    }
}

/// TILE-9: exported, grown, continued, damaged, mended, exported from the export.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_plain_files_that_prove_themselves() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let exporter = Exporter::new(&stage);
    let url = format!("http://{}", server.http);
    let out = stage.dir.path().join("export");
    grow(&stage, &server, 290).await;
    let (size, written, kept) = exporter.exports(&url, &out);
    // Full tile and bundle, partial tile and bundle, the tile above.
    assert_eq!((size >= 290, written, kept), (true, 5, 0));
    for (name, bytes) in files(&out).iter().filter(|(name, _)| name.as_os_str() != "checkpoint") {
        assert_eq!(&get(server.http, &format!("/{}", name.display())).body, bytes, "{name:?}");
    }
    Reader::of(&stage, FileServer::of(&out).addr).prove_all();
    // Again: nothing is new but, it may be, the head's time.
    let (_, written, kept) = exporter.exports(&url, &out);
    assert_eq!((written, kept), (0, 5));
    grow(&stage, &server, 600).await;
    let (size, written, kept) = exporter.exports(&url, &out);
    assert_eq!((size >= 600, written, kept), (true, 5, 2), "the full ones are kept");
    let whole = files(&out);

    // What was cut off, or altered, is mended; the rest is kept.
    std::fs::remove_file(out.join("checkpoint")).unwrap();
    std::fs::remove_file(out.join("tile/entries/001")).unwrap();
    std::fs::write(out.join("tile/0/000"), [0; 8_192]).unwrap();
    std::fs::write(out.join("tile/entries/000.new"), "half").unwrap();
    let (_, written, kept) = exporter.exports(&url, &out);
    assert_eq!((written, kept), (2, 5));
    std::fs::remove_file(out.join("tile/entries/000.new")).unwrap();
    let mended = files(&out);
    let tiles = |all: &BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        all.clone().into_iter().filter(|(name, _)| name.as_os_str() != "checkpoint").collect()
    };
    assert_eq!(tiles(&mended), tiles(&whole));

    // Any web server can serve it, and what it serves can be exported again.
    let second = FileServer::of(&out);
    let copy = stage.dir.path().join("copy");
    exporter.exports(&second.url(), &copy);
    for (name, bytes) in files(&copy) {
        assert_eq!(mended[&name], bytes, "{name:?}");
    }
    // One that lies is refused, and leaves no checkpoint.
    for name in ["tile/0/001", "tile/entries/000", "tile/1/000.p/2"] {
        let mut bytes = mended[Path::new(name)].clone();
        // Within an entry, not in the length before it.
        let middle = bytes.len() / 2 + 10;
        bytes[middle] ^= 1;
        second.alter(name, bytes);
        let lied = stage.dir.path().join(format!("lied-{}", name.replace('/', "-")));
        exporter.refused(&second.url(), &lied, "was altered");
        assert!(!lied.join("checkpoint").exists());
        assert!(!lied.join(name).exists(), "no byte of it reached the disk");
        second.mend();
        exporter.exports(&second.url(), &lied);
        assert_eq!(tiles(&files(&lied)), tiles(&files(&copy)));
    }
    let other_key = mended[Path::new("checkpoint")].clone();
    let other_key = String::from_utf8(other_key).unwrap().replacen("\n60", "\n70", 1);
    second.alter("checkpoint", other_key.into_bytes());
    exporter.refused(&second.url(), &stage.dir.path().join("forged"), "is not signed by the log");
    server.stop().await;
}

/// The log's own key signs two histories: whoever exported the one gets nothing of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_does_not_follow_a_log_back_or_aside() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let exporter = Exporter::new(&stage);
    let url = format!("http://{}", server.http);
    let out = stage.dir.path().join("export");
    grow(&stage, &server, 300).await;

    // A fork of five entries, signed by the same key.
    let fork = stage.dir.path().join("fork");
    let entries: Vec<[u8; 66]> = (0..5).map(|n| [n; 66]).collect();
    let mut range = CompactRange::new();
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry).0).collect();
    for entry in &entries {
        range.append(&leaf_hash(entry));
    }
    let key = SigningKey::from_bytes(&Random::new(1).bytes::<32>());
    let body = checkpoint_body(&stage.log_vkey.name, TreeSize(5), &range.root());
    let note = format!("{body}\n{}", sign_body(&stage.log_vkey, &key, &body));
    std::fs::create_dir_all(fork.join("tile/0/000.p")).unwrap();
    std::fs::create_dir_all(fork.join("tile/entries/000.p")).unwrap();
    std::fs::write(fork.join("checkpoint"), &note).unwrap();
    std::fs::write(fork.join("tile/0/000.p/5"), leaves.concat()).unwrap();
    let bundle = encode_bundle(entries.iter().map(<[u8; 66]>::as_slice)).unwrap();
    std::fs::write(fork.join("tile/entries/000.p/5"), bundle).unwrap();
    let forked = FileServer::of(&fork);

    // Who has the fork does not get the ledger's own history, and sees both.
    exporter.exports(&forked.url(), &out);
    let before = files(&out);
    exporter.refused(&url, &out, "does not continue");
    assert_eq!(files(&out), before, "nothing was touched");
    // Who has the ledger's does not go back to five entries.
    let honest = stage.dir.path().join("honest");
    exporter.exports(&url, &honest);
    let before = files(&honest);
    exporter.refused(&forked.url(), &honest, "it went back");
    assert_eq!(files(&honest), before);
    // A trust file that names another key believes neither.
    std::fs::write(&exporter.trust, format!("[[log]]\nvkey = \"{EXAMPLE}\"\n")).unwrap();
    exporter.refused(&url, &stage.dir.path().join("none"), "which the trust file does not name");
    server.stop().await;
}

/// The C2SP page's example of a vkey.
const EXAMPLE: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

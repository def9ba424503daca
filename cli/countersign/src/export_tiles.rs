//! `export-tiles`: a log's static read path as plain files, for any web server or object storage.
//!
//! From the top down, so that no byte reaches the disk that was not proved: the head is signed by
//! the log's key; the tiles that are not full give its root; each full tile hashes into the one
//! above, each bundle into its tile. What an earlier run left is checked in the same way and kept,
//! or fetched again. An earlier head must be one that this log continues. The checkpoint comes last.

mod folder;
mod source;

use std::collections::{BTreeMap, VecDeque};

use countersign_core::encoding::escaped;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::Hash;
use countersign_core::merkle::{NodeId, ProofPlan};
use countersign_core::note::{NOTE_BYTES_MAX, SignedCheckpoint};
use countersign_core::tiles::{
    TILE_HEIGHT, TILE_WIDTH, TileError, TileKind, TilePath, VerifiedEdge, node_of_tile,
    parse_bundle, parse_hashes, partial_tiles, verify_bundle, verify_full_tile,
};
use countersign_core::trust::Trust;
use serde_json::json;
use tokio::task::JoinHandle;

use self::folder::{CHECKPOINT, Folder};
use self::source::Source;
use crate::args::{ExportTilesArgs, Output};
use crate::exit::{Exit, Failure};
use crate::files::{read_trust, shown};
use crate::progress::drawn;

/// Bundles that are read or fetched ahead, each with its tile.
const AHEAD: usize = 16;
/// Bytes of the largest file that this log's read path has.
const FILE_BYTES_MAX: usize = (ENTRY_BYTES + 2) * TILE_WIDTH as usize;

pub(crate) async fn run(args: ExportTilesArgs) -> Result<Exit, Failure> {
    let trust = read_trust(&args.trust)?;
    let source = Source::new(&args.from)?;
    let head = believed(&source.checkpoint().await?, &trust)
        .map_err(|why| Failure::invalid(format!("{}/checkpoint {why}", escaped(&args.from))))?;
    let folder = Folder::open(&args.dir)?;
    let earlier = earlier_head(&folder, &trust, &head)?;
    let edge = verified_edge(&source, &head).await?;
    let mut export = Export { source, folder, edge, full: BTreeMap::new(), writes: false, kept: 0 };
    if let Some(earlier) = earlier.filter(|earlier| earlier.size.0 > 0) {
        export.continues(&earlier).await?;
    }
    // What was read so far was not written, and is read again in its turn.
    export.full.clear();
    export.writes = true;
    export.bundles().await?;
    export.partial_tiles()?;
    let (written, kept) = (export.folder.written(), export.kept);
    export.folder.finish(head.as_str())?;
    match args.output {
        Output::Human => println!(
            "{} entries of {} are in {}: {written} files written, {kept} kept.",
            head.size.0,
            escaped(&head.origin),
            shown(&args.dir)
        ),
        Output::Jsonl => {
            let (origin, size) = (&head.origin, head.size.0);
            println!(
                "{}",
                json!({ "origin": origin, "size": size, "written": written, "kept": kept })
            );
        }
    }
    Ok(Exit::Success)
}

/// A head that a log of the trust file signed; otherwise what is wrong, as the end of a sentence.
fn believed(note: &str, trust: &Trust) -> Result<SignedCheckpoint, String> {
    let head = SignedCheckpoint::parse(note).map_err(|fault| format!("is no head: {fault}"))?;
    let logs: Vec<_> = trust.logs_of(&head.origin).collect();
    if logs.is_empty() {
        let origin = escaped(&head.origin);
        return Err(format!("is of {origin}, which the trust file does not name."));
    }
    let mut fault = None;
    for log in logs {
        match head.verify_log(&log.vkey) {
            Ok(()) => return Ok(head),
            Err(error) => fault = Some(error),
        }
    }
    let fault = fault.map(|fault| fault.to_string()).unwrap_or_default();
    Err(format!("is not signed by the log that it names: {fault}"))
}

/// The head of an export that is there already, which must be of the same log and not larger.
fn earlier_head(
    folder: &Folder,
    trust: &Trust,
    head: &SignedCheckpoint,
) -> Result<Option<SignedCheckpoint>, Failure> {
    let path = folder.path(CHECKPOINT);
    let Some(bytes) = folder::read(&path, NOTE_BYTES_MAX)? else { return Ok(None) };
    let earlier = String::from_utf8(bytes)
        .map_err(|_| "is no text.".to_owned())
        .and_then(|note| believed(&note, trust));
    let earlier = earlier.map_err(|why| {
        let path = shown(&path);
        Failure::invalid(format!("{path} {why} Name a new folder, or look into who changed it."))
    })?;
    if earlier.origin != head.origin {
        let (there, asked) = (escaped(&earlier.origin), escaped(&head.origin));
        return Err(Failure::usage(format!(
            "{} holds {there} and not {asked}. Name a folder of its own.",
            shown(&path)
        )));
    }
    if earlier.size > head.size {
        return Err(Failure::invalid(format!(
            "the log shows {} entries, and {} already covers {}: it went back, or an old copy \
             answers. Nothing was changed; keep that file, it is the log's signed word.",
            head.size.0,
            shown(&path),
            earlier.size.0
        )));
    }
    Ok(Some(earlier))
}

/// The tiles that are not full, found to give the head's root.
async fn verified_edge(source: &Source, head: &SignedCheckpoint) -> Result<VerifiedEdge, Failure> {
    let mut tiles = Vec::new();
    for path in partial_tiles(head.size) {
        let bytes = source.tile(&path).await?;
        tiles.push(parse_hashes(&bytes, path.width()).map_err(|error| altered(&path, error))?);
    }
    VerifiedEdge::verify(head.size, &head.root, tiles)
        .map_err(|error| Failure::invalid(format!("the newest tiles: {error}.")))
}

fn altered(path: &TilePath, error: TileError) -> Failure {
    Failure::invalid(format!("{path}: {error}."))
}

/// A file's bytes, and whether they are an earlier run's.
struct Loaded {
    bytes: Vec<u8>,
    local: bool,
}

type Loading = JoinHandle<Result<Loaded, Failure>>;

struct Export {
    source: Source,
    folder: Folder,
    edge: VerifiedEdge,
    // Of each level the full tile that was used last.
    full: BTreeMap<u8, (u64, Vec<Hash>)>,
    // Not before the earlier head was found to be one that this log continues.
    writes: bool,
    kept: usize,
}

impl Export {
    /// The head of an earlier export is the root of a prefix of these tiles, or nothing is touched.
    async fn continues(&mut self, earlier: &SignedCheckpoint) -> Result<(), Failure> {
        let plan = ProofPlan::root(earlier.size);
        let mut hashes = Vec::new();
        for node in plan.nodes() {
            hashes.push(self.node(*node).await?);
        }
        if plan.finish(&hashes) == [earlier.root.0] {
            return Ok(());
        }
        Err(Failure::invalid(format!(
            "the log does not continue the head of {} entries that {} holds, though its key signed \
             both: one history was rewritten. Keep both heads, they prove it.",
            earlier.size.0,
            shown(&self.folder.path(CHECKPOINT))
        )))
    }

    async fn node(&mut self, node: NodeId) -> Result<Hash, Failure> {
        if let Some(hash) = self.edge.node(node) {
            return Ok(hash);
        }
        let outside = || Failure::internal("a node outside the tree was asked for");
        let path = TilePath::holding(node, self.edge.size()).ok_or_else(outside)?;
        let TileKind::Hashes(level) = path.kind() else { return Err(outside()) };
        let tile = self.full_tile(level, path.index(), None).await?;
        node_of_tile(node, &tile).ok_or_else(outside)
    }

    /// A full tile, proved by those above it, which are fetched where need be.
    async fn full_tile(
        &mut self,
        level: u8,
        index: u64,
        mut loaded: Option<Loaded>,
    ) -> Result<Vec<Hash>, Failure> {
        // Upwards, to the first tile that has its hash in one that is known.
        let (mut missing, mut at) = (Vec::new(), (level, index));
        while !self.is_kept(at) {
            missing.push(at);
            if self.edge.node(above(at)).is_some() {
                break;
            }
            at = (at.0 + 1, at.1 / u64::from(TILE_WIDTH));
        }
        // And down again.
        while let Some((level, index)) = missing.pop() {
            let expected = match self.edge.node(above((level, index))) {
                Some(hash) => hash,
                None => self.kept_node(above((level, index)))?,
            };
            let path = path(TileKind::Hashes(level), index, TILE_WIDTH)?;
            let check = |bytes: &[u8]| {
                let hashes = parse_hashes(bytes, TILE_WIDTH)?;
                verify_full_tile(&hashes, &expected)?;
                Ok(hashes)
            };
            let given = if missing.is_empty() { loaded.take() } else { None };
            let hashes = self.checked(&path, given, check).await?;
            self.full.insert(level, (index, hashes));
        }
        let tile = self.full.get(&level).map(|(_, hashes)| hashes.clone());
        tile.ok_or_else(|| Failure::internal("a tile that was read is gone"))
    }

    fn is_kept(&self, (level, index): (u8, u64)) -> bool {
        self.full.get(&level).is_some_and(|(kept, _)| *kept == index)
    }

    /// A node of a full tile that is kept.
    fn kept_node(&self, node: NodeId) -> Result<Hash, Failure> {
        let tile = self.full.get(&(node.level / TILE_HEIGHT));
        let hash = tile.and_then(|(_, hashes)| node_of_tile(node, hashes));
        hash.ok_or_else(|| Failure::internal("the tile above was not read"))
    }

    /// What passes the check: the earlier run's file, or the source's, which is then written.
    async fn checked<T>(
        &mut self,
        path: &TilePath,
        given: Option<Loaded>,
        check: impl Fn(&[u8]) -> Result<T, TileError>,
    ) -> Result<T, Failure> {
        let name = path.to_string();
        let mut loaded = match given {
            Some(loaded) => loaded,
            None => load(&self.source, &self.folder.path(&name), path).await?,
        };
        if loaded.local {
            if let Ok(value) = check(&loaded.bytes) {
                self.kept += usize::from(self.writes);
                return Ok(value);
            }
            loaded.bytes = self.source.tile(path).await?;
        }
        let value = check(&loaded.bytes).map_err(|error| altered(path, error))?;
        if self.writes {
            self.folder.put(&name, &loaded.bytes)?;
        }
        Ok(value)
    }

    /// Every bundle with its tile, and with these all full tiles above.
    async fn bundles(&mut self) -> Result<(), Failure> {
        let (size, width) = (self.edge.size().0, u64::from(TILE_WIDTH));
        let bar = drawn(Some(size), "{wide_bar} {human_pos}/{human_len} entries {eta}");
        let mut ahead: VecDeque<(Loading, Loading)> = VecDeque::new();
        let mut next = 0;
        for index in 0..size / width {
            while next < size / width && ahead.len() < AHEAD {
                let pair = [TileKind::Hashes(0), TileKind::Entries]
                    .map(|kind| path(kind, next, TILE_WIDTH).map(|path| self.spawn(path)));
                let [tile, bundle] = pair;
                ahead.push_back((tile?, bundle?));
                next += 1;
            }
            let Some((tile, bundle)) = ahead.pop_front() else { break };
            let leaves = self.full_tile(0, index, Some(joined(tile).await?)).await?;
            let path = path(TileKind::Entries, index, TILE_WIDTH)?;
            self.bundle(&path, Some(joined(bundle).await?), &leaves).await?;
            bar.set_position((index + 1) * width);
        }
        let rest = u16::try_from(size % width).unwrap_or(0);
        if rest > 0 {
            let leaves = path(TileKind::Hashes(0), size / width, rest)?;
            let leaves = self.edge.tile(&leaves).unwrap_or_default().to_vec();
            let path = path(TileKind::Entries, size / width, rest)?;
            self.bundle(&path, None, &leaves).await?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn bundle(
        &mut self,
        path: &TilePath,
        loaded: Option<Loaded>,
        leaves: &[Hash],
    ) -> Result<(), Failure> {
        let check = |bytes: &[u8]| verify_bundle(&parse_bundle(bytes, path.width())?, leaves);
        self.checked(path, loaded, check).await
    }

    fn spawn(&self, path: TilePath) -> Loading {
        let (source, file) = (self.source.clone(), self.folder.path(&path.to_string()));
        tokio::spawn(async move { load(&source, &file, &path).await })
    }

    /// The tiles that are not full are known already.
    fn partial_tiles(&mut self) -> Result<(), Failure> {
        for path in partial_tiles(self.edge.size()) {
            let bytes = self.edge.tile(&path).unwrap_or_default().as_flattened().to_vec();
            let name = path.to_string();
            if folder::read(&self.folder.path(&name), FILE_BYTES_MAX)?.as_ref() == Some(&bytes) {
                self.kept += 1;
            } else {
                self.folder.put(&name, &bytes)?;
            }
        }
        Ok(())
    }
}

/// The node that a full tile is one hash of.
fn above((level, index): (u8, u64)) -> NodeId {
    NodeId { level: (level + 1) * TILE_HEIGHT, index }
}

fn path(kind: TileKind, index: u64, width: u16) -> Result<TilePath, Failure> {
    let path = TilePath::new(kind, index, width);
    path.ok_or_else(|| Failure::internal("a path without a tile was asked for"))
}

/// An earlier run's file, or else the source's.
async fn load(source: &Source, file: &std::path::Path, path: &TilePath) -> Result<Loaded, Failure> {
    // A file that is longer than any can be is no earlier run's.
    if let Ok(Some(bytes)) = folder::read(file, FILE_BYTES_MAX) {
        return Ok(Loaded { bytes, local: true });
    }
    Ok(Loaded { bytes: source.tile(path).await?, local: false })
}

async fn joined(loading: Loading) -> Result<Loaded, Failure> {
    loading.await.map_err(|error| Failure::internal(format!("reading ahead ended: {error}")))?
}

//! A log's tree and entries, read from its files and proved from the top down: the tiles that are
//! not full give the signed root, each full tile hashes into the one above, each bundle into its
//! tile (TILE-8). What passes is kept where a place is given; what does not, never gets there.

use std::collections::{BTreeMap, VecDeque};

use countersign_core::codes::Code;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex, RootHash, TreeSize};
use countersign_core::merkle::{NodeId, ProofPlan, empty_root};
use countersign_core::tiles::{
    TILE_HEIGHT, TILE_WIDTH, TileError, TileKind, TilePath, VerifiedEdge, node_of_tile,
    parse_bundle, parse_hashes, partial_tiles, verify_bundle, verify_full_tile,
};
use tokio::task::{JoinHandle, JoinSet};

use crate::source::{Fetch, FetchError};
use crate::storage::{Place, StorageError};

/// Bundles that are read or fetched ahead, each with its tile.
const AHEAD: usize = 16;
/// Files that are being written at once.
const WRITES: usize = 32;
/// Bytes of the largest file that this log's read path has.
pub const FILE_BYTES_MAX: usize = (ENTRY_BYTES + 2) * TILE_WIDTH as usize;

/// Why the tree can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A file can't be had.
    #[error(
        "{0}. Check the URL and that the log is served; called again, this goes on where it \
             stopped."
    )]
    Fetch(#[from] FetchError),
    /// A file is not what the signed head says.
    #[error("{path}: {fault}.")]
    Altered {
        /// The tile or bundle.
        path: String,
        /// What is wrong with it.
        fault: TileError,
    },
    /// A file can't be kept.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Our own arithmetic is wrong.
    #[error("{0}; report this as a defect")]
    Broken(&'static str),
}

/// Where files come from, and where those that pass are kept.
#[derive(Debug)]
pub struct Files<F> {
    source: F,
    place: Option<Place>,
    /// Up to this size the place is expected to have everything; beyond it, only after an
    /// interruption.
    held: TreeSize,
    look: bool,
    keep: bool,
    writing: JoinSet<Result<(), StorageError>>,
    /// What was fetched, written and found there.
    pub tally: Tally,
}

/// What reading a tree came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes that the source gave.
    pub fetched: u64,
    /// Files that were written.
    pub written: u64,
    /// Files that an earlier run had left, and that passed.
    pub kept: u64,
}

/// A file's bytes, and whether they are an earlier run's.
struct Loaded {
    bytes: Vec<u8>,
    local: bool,
}

type Loading = JoinHandle<Result<Loaded, TreeError>>;

impl<F: Fetch> Files<F> {
    /// From a source alone; nothing is kept.
    pub fn read_only(source: F) -> Self {
        Self {
            source,
            place: None,
            held: TreeSize(0),
            look: false,
            keep: false,
            writing: JoinSet::new(),
            tally: Tally::default(),
        }
    }

    /// From a source into a place that already holds a tree of this size, and with `look` parts
    /// of more. Nothing is written before [`Tree::keep_from_now_on`].
    pub fn into_place(source: F, place: Place, held: TreeSize, look: bool) -> Self {
        Self { place: Some(place), held, look, ..Self::read_only(source) }
    }

    /// The place's file, where it may have it, or else the source's.
    fn load(&self, path: &TilePath) -> impl Future<Output = Result<Loaded, TreeError>> + use<F> {
        let expected = self.look || path.exists_at(self.held);
        let place = self.place.clone().filter(|_| expected);
        let (source, path) = (self.source.clone(), *path);
        async move {
            if let Some(place) = place {
                // A file that can't be read or is longer than any can be is no earlier run's.
                let found = place.read(&path.to_string(), FILE_BYTES_MAX).await;
                if let Ok(Some(bytes)) = found {
                    return Ok(Loaded { bytes, local: true });
                }
            }
            fetch(&source, &path).await
        }
    }

    /// What passes the check: the place's file, or the source's, which is then written.
    async fn checked<T>(
        &mut self,
        path: &TilePath,
        given: Option<Loaded>,
        check: impl Fn(&[u8]) -> Result<T, TileError>,
    ) -> Result<T, TreeError> {
        let mut loaded = match given {
            Some(loaded) => loaded,
            None => self.load(path).await?,
        };
        if loaded.local {
            if let Ok(value) = check(&loaded.bytes) {
                self.tally.kept += u64::from(self.keep);
                return Ok(value);
            }
            loaded = fetch(&self.source, path).await?;
        }
        self.tally.fetched += loaded.bytes.len() as u64;
        let value = check(&loaded.bytes).map_err(|fault| altered(path, fault))?;
        self.write(path, loaded.bytes).await?;
        Ok(value)
    }

    async fn write(&mut self, path: &TilePath, bytes: Vec<u8>) -> Result<(), TreeError> {
        let Some(place) = self.place.clone().filter(|_| self.keep) else { return Ok(()) };
        while self.writing.len() >= WRITES {
            self.written().await?;
        }
        let name = path.to_string();
        self.writing.spawn(async move { place.put(&name, &bytes).await });
        self.tally.written += 1;
        Ok(())
    }

    /// Waits for one of the writes.
    async fn written(&mut self) -> Result<(), TreeError> {
        match self.writing.join_next().await {
            None => Ok(()),
            Some(Ok(written)) => written.map_err(TreeError::Storage),
            Some(Err(_)) => Err(TreeError::Broken("a write ended without an answer")),
        }
    }
}

/// A tree of one head, whose tiles that are not full were found to give its root.
#[derive(Debug)]
pub struct Tree<F> {
    files: Files<F>,
    edge: VerifiedEdge,
    // Of each level the full tile that was used last.
    full: BTreeMap<u8, (u64, Vec<Hash>)>,
}

impl<F: Fetch> Tree<F> {
    /// Reads and checks the tiles that are not full. The head's signature is the caller's matter.
    pub async fn open(files: Files<F>, size: TreeSize, root: &RootHash) -> Result<Self, TreeError> {
        let mut files = files;
        let mut tiles = Vec::new();
        for path in partial_tiles(size) {
            let loaded = fetch(&files.source, &path).await?;
            files.tally.fetched += loaded.bytes.len() as u64;
            let hashes = parse_hashes(&loaded.bytes, path.width());
            tiles.push(hashes.map_err(|fault| altered(&path, fault))?);
        }
        let edge = VerifiedEdge::verify(size, root, tiles)
            .map_err(|fault| TreeError::Altered { path: "the newest tiles".to_owned(), fault })?;
        Ok(Self { files, edge, full: BTreeMap::new() })
    }

    /// The tree's size.
    pub fn size(&self) -> TreeSize {
        self.edge.size()
    }

    /// What reading it came to so far.
    pub fn tally(&self) -> Tally {
        self.files.tally
    }

    /// From here on, what passes is written. Before, a place is only read: a tree that does not
    /// continue what it holds must not touch it.
    pub fn keep_from_now_on(&mut self) {
        // What was read so far was not written, and is read again in its turn.
        self.full.clear();
        self.files.keep = true;
    }

    /// The hash of a complete subtree.
    pub async fn node(&mut self, node: NodeId) -> Result<Hash, TreeError> {
        if let Some(hash) = self.edge.node(node) {
            return Ok(hash);
        }
        let outside = || TreeError::Broken("a node outside the tree was asked for");
        let path = TilePath::holding(node, self.edge.size()).ok_or_else(outside)?;
        let TileKind::Hashes(level) = path.kind() else { return Err(outside()) };
        let tile = self.full_tile(level, path.index(), None).await?;
        node_of_tile(node, &tile).ok_or_else(outside)
    }

    /// The hashes of complete subtrees, in their order.
    pub async fn nodes(&mut self, nodes: &[NodeId]) -> Result<Vec<Hash>, TreeError> {
        let mut hashes = Vec::with_capacity(nodes.len());
        for node in nodes {
            hashes.push(self.node(*node).await?);
        }
        Ok(hashes)
    }

    async fn proof(&mut self, plan: &ProofPlan) -> Result<Vec<Hash>, TreeError> {
        Ok(plan.finish(&self.nodes(plan.nodes()).await?))
    }

    /// The root of the first `size` leaves.
    pub async fn root_at(&mut self, size: TreeSize) -> Result<RootHash, TreeError> {
        if size.0 == 0 {
            return Ok(empty_root());
        }
        let proof = self.proof(&ProofPlan::root(size)).await?;
        let [root] = proof[..] else { return Err(TreeError::Broken("a root is one hash")) };
        Ok(RootHash(root))
    }

    /// The consistency proof from a smaller size.
    pub async fn consistency(&mut self, old: TreeSize) -> Result<Vec<Hash>, TreeError> {
        let outside = TreeError::Broken("a proof between sizes that don't follow was asked for");
        let plan = ProofPlan::consistency(old, self.size()).ok_or(outside)?;
        self.proof(&plan).await
    }

    /// The inclusion proof of a leaf.
    pub async fn inclusion(&mut self, index: LeafIndex) -> Result<Vec<Hash>, TreeError> {
        let outside = TreeError::Broken("a leaf outside the tree was asked for");
        let plan = ProofPlan::inclusion(index, self.size()).ok_or(outside)?;
        self.proof(&plan).await
    }

    /// The bytes of an entry.
    pub async fn entry(&mut self, index: LeafIndex) -> Result<Vec<u8>, TreeError> {
        let outside = TreeError::Broken("an entry outside the tree was asked for");
        let end = TreeSize(index.0.saturating_add(1));
        self.entries(index, end).await?.pop().ok_or(outside)
    }

    /// The bytes of the entries from an index on, up to a size.
    pub async fn entries(
        &mut self,
        from: LeafIndex,
        to: TreeSize,
    ) -> Result<Vec<Vec<u8>>, TreeError> {
        let (width, to) = (u64::from(TILE_WIDTH), to.0.min(self.size().0));
        let mut entries = Vec::new();
        for bundle in from.0 / width..to.div_ceil(width) {
            let first = bundle * width;
            let found = (first..to).zip(self.bundle(bundle, None).await?);
            entries.extend(found.filter(|(at, _)| *at >= from.0).map(|(_, entry)| entry));
        }
        Ok(entries)
    }

    /// Every bundle from the one that holds `from` on, with its tile and all full tiles above; each
    /// bundle's entries are shown with the index of its first, in order. Ends when all is written.
    pub async fn copy(
        &mut self,
        from: TreeSize,
        mut shown: impl FnMut(u64, &[Vec<u8>]),
    ) -> Result<(), TreeError> {
        let (size, width) = (self.edge.size().0, u64::from(TILE_WIDTH));
        let mut ahead: VecDeque<(Loading, Loading)> = VecDeque::new();
        let mut next = from.0 / width;
        for index in from.0 / width..size / width {
            while next < size / width && ahead.len() < AHEAD {
                let tile = self.files.load(&path(TileKind::Hashes(0), next, TILE_WIDTH)?);
                let bundle = self.files.load(&path(TileKind::Entries, next, TILE_WIDTH)?);
                ahead.push_back((tokio::spawn(tile), tokio::spawn(bundle)));
                next += 1;
            }
            let Some((tile, bundle)) = ahead.pop_front() else { break };
            self.full_tile(0, index, Some(joined(tile).await?)).await?;
            let entries = self.bundle(index, Some(joined(bundle).await?)).await?;
            shown(index * width, &entries);
        }
        if size % width > 0 {
            let entries = self.bundle(size / width, None).await?;
            shown(size / width * width, &entries);
        }
        self.edge_tiles().await?;
        while !self.files.writing.is_empty() {
            self.files.written().await?;
        }
        if self.files.keep {
            self.files.held = self.edge.size();
        }
        Ok(())
    }

    /// The entries of a bundle, as wide as it is in this tree.
    async fn bundle(
        &mut self,
        index: u64,
        loaded: Option<Loaded>,
    ) -> Result<Vec<Vec<u8>>, TreeError> {
        let width = u64::from(TILE_WIDTH);
        let rest = self.edge.size().0.saturating_sub(index.saturating_mul(width)).min(width);
        let rest = u16::try_from(rest).unwrap_or(0);
        let leaves = if rest == TILE_WIDTH {
            self.full_tile(0, index, None).await?
        } else {
            let leaves = path(TileKind::Hashes(0), index, rest)?;
            self.edge.tile(&leaves).unwrap_or_default().to_vec()
        };
        let path = path(TileKind::Entries, index, rest)?;
        let check = |bytes: &[u8]| {
            let entries = parse_bundle(bytes, path.width())?;
            verify_bundle(&entries, &leaves)?;
            Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
        };
        self.files.checked(&path, loaded, check).await
    }

    /// The tiles that are not full are known already.
    async fn edge_tiles(&mut self) -> Result<(), TreeError> {
        let Some(place) = self.files.place.clone().filter(|_| self.files.keep) else {
            return Ok(());
        };
        for path in partial_tiles(self.edge.size()) {
            let bytes = self.edge.tile(&path).unwrap_or_default().as_flattened().to_vec();
            let expected = self.files.look || path.exists_at(self.files.held);
            let there = expected
                && matches!(place.read(&path.to_string(), FILE_BYTES_MAX).await,
                    Ok(Some(found)) if found == bytes);
            if there {
                self.files.tally.kept += 1;
            } else {
                self.files.write(&path, bytes).await?;
            }
        }
        Ok(())
    }

    /// A full tile, proved by those above it, which are fetched where need be.
    async fn full_tile(
        &mut self,
        level: u8,
        index: u64,
        mut loaded: Option<Loaded>,
    ) -> Result<Vec<Hash>, TreeError> {
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
            let hashes = self.files.checked(&path, given, check).await?;
            self.full.insert(level, (index, hashes));
        }
        let tile = self.full.get(&level).map(|(_, hashes)| hashes.clone());
        tile.ok_or(TreeError::Broken("a tile that was read is gone"))
    }

    fn is_kept(&self, (level, index): (u8, u64)) -> bool {
        self.full.get(&level).is_some_and(|(kept, _)| *kept == index)
    }

    /// A node of a full tile that is kept.
    fn kept_node(&self, node: NodeId) -> Result<Hash, TreeError> {
        let tile = self.full.get(&(node.level / TILE_HEIGHT));
        let hash = tile.and_then(|(_, hashes)| node_of_tile(node, hashes));
        hash.ok_or(TreeError::Broken("the tile above was not read"))
    }
}

impl TreeError {
    /// Whether the same files may be had later: nothing says that the log is at fault.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Fetch(_) | Self::Storage(_))
    }

    /// The code that it goes by.
    pub fn code(&self) -> Code {
        match self {
            Self::Fetch(_) => Code::Unreachable,
            Self::Altered { .. } => Code::InclusionRootMismatch,
            Self::Storage(_) => Code::StoreFailed,
            Self::Broken(_) => Code::Internal,
        }
    }
}

async fn fetch<F: Fetch>(source: &F, path: &TilePath) -> Result<Loaded, TreeError> {
    let one = match path.kind() {
        TileKind::Hashes(_) => 32,
        // This log's entries, and the length before each.
        TileKind::Entries => ENTRY_BYTES + 2,
    };
    let max = one * usize::from(path.width());
    let bytes = source.fetch(&path.to_string(), max).await?;
    Ok(Loaded { bytes, local: false })
}

/// The node that a full tile is one hash of.
fn above((level, index): (u8, u64)) -> NodeId {
    NodeId { level: (level + 1) * TILE_HEIGHT, index }
}

fn path(kind: TileKind, index: u64, width: u16) -> Result<TilePath, TreeError> {
    TilePath::new(kind, index, width)
        .ok_or(TreeError::Broken("a path without a tile was asked for"))
}

fn altered(path: &TilePath, fault: TileError) -> TreeError {
    TreeError::Altered { path: path.to_string(), fault }
}

async fn joined(loading: Loading) -> Result<Loaded, TreeError> {
    loading.await.unwrap_or(Err(TreeError::Broken("reading ahead ended")))
}

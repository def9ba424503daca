//! What the sequencer and its callers share, and reading: proofs, receipts, evidence.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use countersign_core::codes::{Code, Fault};
use countersign_core::entry::Entry;
use countersign_core::hash::{Hash, LeafIndex, RootHash, TreeSize};
use countersign_core::merkle::{
    LogTree, NodeHasher as _, NodeId, ProofPlan, verify_consistency, verify_inclusion,
};
use countersign_core::note::SignedCheckpoint;
use countersign_core::receipt::Receipt;
use countersign_core::stream::StreamId;
use tokio::sync::watch;

use crate::api::{Head, LogConfig, LogState};
use crate::edge::{Edge, TILE_HEIGHT};
use crate::host::Host;
use crate::signer::Signer;
use crate::store::{Store, StoreError};

/// Full tiles that are kept in memory with their inner nodes: 512 of 16 KiB, twice.
const TILES_KEPT: usize = 512;

/// How far the clock may be behind the log's last time before it is worth a word.
const CLOCK_BEHIND_US: u64 = 60 * 1_000_000;

/// Whose a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) tenant: String,
    pub(crate) gate: String,
    pub(crate) seal_key: [u8; 32],
}

/// The newest published head with the right edge of its tree.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) head: Arc<Head>,
    pub(crate) edge: Arc<Edge>,
}

/// A full tile's nodes: its hashes, then each level above them up to two.
pub(crate) type TileNodes = Vec<Vec<Hash>>;

/// Two generations of tiles: when the younger is full it becomes the older.
#[derive(Debug, Default)]
struct Tiles {
    young: HashMap<(u8, u64), Arc<TileNodes>>,
    old: HashMap<(u8, u64), Arc<TileNodes>>,
}

/// Shared by the sequencer and all callers.
pub(crate) struct Shared<S> {
    pub(crate) store: Arc<S>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) signer: Signer,
    pub(crate) config: LogConfig,
    pub(crate) heads: watch::Sender<Arc<Head>>,
    pub(crate) witnessed: watch::Sender<Option<Arc<Head>>>,
    pub(crate) state: watch::Sender<LogState>,
    published: RwLock<Published>,
    owners: RwLock<HashMap<StreamId, Owner>>,
    tiles: Mutex<Tiles>,
}

/// A fault of the store, as a caller is told of it. Detail goes to the log.
#[allow(clippy::needless_pass_by_value)] // It stands in `map_err`.
pub(crate) fn store_fault(error: StoreError) -> Fault {
    tracing::error!(%error, "the store failed");
    match error {
        StoreError::Corrupt(fault) => fault,
        _ => Code::StoreFailed.into(),
    }
}

pub(crate) const CORRUPT: Code = Code::StoreCorrupt;

impl<S: Store> Shared<S> {
    pub(crate) fn new(
        store: Arc<S>,
        host: Arc<dyn Host>,
        signer: Signer,
        config: LogConfig,
        published: Published,
        owners: HashMap<StreamId, Owner>,
    ) -> Self {
        Self {
            store,
            host,
            signer,
            config,
            heads: watch::Sender::new(Arc::clone(&published.head)),
            witnessed: watch::Sender::new(None),
            state: watch::Sender::new(LogState::Ready),
            published: RwLock::new(published),
            owners: RwLock::new(owners),
            tiles: Mutex::default(),
        }
    }

    pub(crate) fn published(&self) -> Published {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a head; one that is smaller than the published one is not.
    pub(crate) fn publish(&self, next: Published) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if next.head.size >= published.head.size {
            *published = next;
        }
    }

    /// Signs the newest head anew, cosigned with the time that it is now.
    pub(crate) fn sign_periodic(&self) -> Head {
        let head = self.published().head;
        // The clock's floor is the first cosignature's time, which no entry is later than.
        let floor = SignedCheckpoint::parse(&head.note)
            .ok()
            .and_then(|note| self.signer.cosigned(&note))
            .unwrap_or_default();
        let now = self.host.now();
        if floor.0 > now.0.saturating_add(CLOCK_BEHIND_US) {
            // Times never go back, so certificates and permits are judged by the log's own time
            // until the clock has caught up.
            tracing::warn!(
                now = now.format(),
                log = floor.format(),
                "the clock is behind the log: was it set wrong before, or is it now?"
            );
        }
        self.signer.sign(head.size, &head.root, now, floor)
    }

    /// Publishes the newest head with a fresh time to who watches.
    pub(crate) fn publish_periodic(&self) {
        self.show(Arc::new(self.sign_periodic()));
    }

    /// Publishes a cosigned head to who watches, and holds it ready for those who ask for one with
    /// a quorum.
    pub(crate) async fn publish_cosigned(
        &self,
        size: TreeSize,
        note: &str,
        quorum: bool,
    ) -> Result<(), Fault> {
        let head = Arc::new(self.signer.read(size, note)?);
        let Published { head: newest, edge } = self.published();
        if size > newest.size {
            return Err(Code::SizeUnknown.into());
        }
        if self.root_at(&edge, size).await? != head.root {
            return Err(CORRUPT.at_field("head"));
        }
        if quorum {
            self.witnessed.send_if_modified(|last| {
                let newer = last.as_ref().is_none_or(|last| last.size <= size);
                if newer {
                    *last = Some(Arc::clone(&head));
                }
                newer
            });
        }
        self.show(head);
        Ok(())
    }

    /// Shows a periodic head to who watches. It is the newest published one too, as long as the log
    /// has not grown beyond it.
    fn show(&self, head: Arc<Head>) {
        {
            let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
            if published.head.size == head.size {
                published.head = Arc::clone(&head);
            }
        }
        self.heads.send_if_modified(|last| {
            let forward = last.size <= head.size;
            if forward {
                *last = head;
            }
            forward
        });
    }

    pub(crate) fn owner(&self, stream: StreamId) -> Option<Owner> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned()
    }

    pub(crate) fn add_owner(&self, stream: StreamId, owner: Owner) {
        self.owners.write().unwrap_or_else(PoisonError::into_inner).insert(stream, owner);
    }

    /// The entry at this index.
    pub(crate) async fn entry(&self, index: LeafIndex) -> Result<Entry, Fault> {
        entry_at(&*self.store, index).await?.ok_or(CORRUPT.at_index(index.0))
    }

    /// A full tile, from memory or from the store.
    pub(crate) async fn tile(&self, level: u8, index: u64) -> Result<Arc<TileNodes>, Fault> {
        let key = (level, index);
        let kept = {
            let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
            let found = tiles.young.get(&key).or_else(|| tiles.old.get(&key)).cloned();
            if let Some(tile) = &found {
                keep(&mut tiles, key, Arc::clone(tile));
            }
            found
        };
        if let Some(tile) = kept {
            return Ok(tile);
        }
        let bytes = self.store.tile(level, index).await.map_err(store_fault)?;
        let hashes = read_tile(bytes.as_deref()).ok_or(CORRUPT.at_field("tile"))?;
        let tile = Arc::new(inner_nodes(hashes));
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        keep(&mut tiles, key, Arc::clone(&tile));
        Ok(tile)
    }

    /// Hashes of nodes of the tree, from the right edge or from full tiles.
    async fn nodes(&self, edge: &Edge, nodes: &[NodeId]) -> Result<Vec<Hash>, Fault> {
        let mut hashes = Vec::with_capacity(nodes.len());
        for id in nodes {
            let hash = match edge.node(*id) {
                Some(hash) => hash,
                None => self.stored_node(*id).await?,
            };
            hashes.push(hash);
        }
        Ok(hashes)
    }

    async fn stored_node(&self, id: NodeId) -> Result<Hash, Fault> {
        let (tile_level, inner) = (id.level / TILE_HEIGHT, id.level % TILE_HEIGHT);
        let width = u64::from(TILE_HEIGHT - inner);
        let tile = self.tile(tile_level, id.index >> width).await?;
        let place = usize::try_from(id.index & ((1 << width) - 1)).unwrap_or(usize::MAX);
        let node = tile.get(usize::from(inner)).and_then(|level| level.get(place)).copied();
        node.ok_or(CORRUPT.at_field("tile"))
    }

    /// The receipt of an entry at a head. What was read is believed only if it proves.
    pub(crate) async fn receipt_at(
        &self,
        edge: &Edge,
        index: LeafIndex,
        entry: &Entry,
        note: &str,
    ) -> Result<Receipt, Fault> {
        let checkpoint = SignedCheckpoint::parse(note)?;
        let size = checkpoint.size;
        let plan = ProofPlan::inclusion(index, size).ok_or(Code::SizeUnknown)?;
        let path = plan.finish(&self.nodes(edge, plan.nodes()).await?);
        verify_inclusion(index, size, &entry.leaf(), &path, &checkpoint.root)
            .map_err(|_| CORRUPT.at_index(index.0))?;
        Ok(Receipt { index, path, checkpoint })
    }

    /// The consistency proof between two sizes, and the root at the older one.
    pub(crate) async fn consistency(
        &self,
        old: TreeSize,
        new: Option<TreeSize>,
    ) -> Result<(TreeSize, Vec<Hash>), Fault> {
        let Published { head, edge } = self.published();
        let new = new.unwrap_or(head.size);
        if new > head.size {
            return Err(Code::SizeUnknown.into());
        }
        let plan = ProofPlan::consistency(old, new).ok_or(Code::SizeUnknown)?;
        let proof = plan.finish(&self.nodes(&edge, plan.nodes()).await?);
        let (old_root, new_root) =
            (self.root_at(&edge, old).await?, self.root_at(&edge, new).await?);
        verify_consistency(old, new, &old_root, &new_root, &proof)
            .map_err(|_| CORRUPT.at_field("tile"))?;
        Ok((new, proof))
    }

    /// The peaks of the tree of `size` leaves, largest subtree first.
    pub(crate) async fn peaks(&self, size: TreeSize) -> Result<Vec<Hash>, Fault> {
        let Published { head, edge } = self.published();
        if size > head.size {
            return Err(Code::SizeUnknown.into());
        }
        self.nodes(&edge, ProofPlan::root(size).nodes()).await
    }

    async fn root_at(&self, edge: &Edge, size: TreeSize) -> Result<RootHash, Fault> {
        let plan = ProofPlan::root(size);
        let peaks = self.nodes(edge, plan.nodes()).await?;
        plan.finish(&peaks).first().copied().map(RootHash).ok_or(CORRUPT.into())
    }
}

fn keep(tiles: &mut Tiles, key: (u8, u64), tile: Arc<TileNodes>) {
    if tiles.young.len() >= TILES_KEPT && !tiles.young.contains_key(&key) {
        tiles.old = std::mem::take(&mut tiles.young);
    }
    tiles.young.insert(key, tile);
}

/// A tile's hashes and the levels above them.
fn inner_nodes(hashes: Vec<Hash>) -> TileNodes {
    let mut levels = vec![hashes];
    while levels.len() < usize::from(TILE_HEIGHT) {
        let pairs = levels.last().map(|below| below.as_chunks::<2>().0).unwrap_or_default();
        levels.push(pairs.iter().map(|[left, right]| LogTree::node(left, right)).collect());
    }
    levels
}

/// The entry at this index; `None` beyond the log's end.
pub(crate) async fn entry_at<S: Store>(
    store: &S,
    index: LeafIndex,
) -> Result<Option<Entry>, Fault> {
    let entries = store.entries(index, 1).await.map_err(store_fault)?;
    let read = |bytes| Entry::from_bytes(bytes).map_err(|_| CORRUPT.at_index(index.0));
    entries.first().map(|bytes| read(bytes)).transpose()
}

/// The hashes of a full tile.
pub(crate) fn read_tile(bytes: Option<&[u8]>) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes?.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == 1 << TILE_HEIGHT).then(|| hashes.to_vec())
}

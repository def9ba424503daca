//! The sequencer's view of the log: the right edge, the streams, and what is prepared and not yet
//! known to be durable. It runs ahead of the store by at most two commits; when the store's word is
//! in doubt it is thrown away and read again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use countersign_core::cert::verify_chain;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::hash::{Hash, LeafIndex, RecordRoot, TreeSize};
use countersign_core::merkle::{LogTree, leaf_hash, root_of};
use countersign_core::stream::StreamId;

use crate::api::LogConfig;
use crate::edge::{Edge, TILE_HEIGHT, partial_tile};
use crate::evidence::Stored;
use crate::lifecycle::Fact;
use crate::policies::{Policies, PolicyKey};
use crate::rows::{StreamRow, decode_chain};
use crate::shared::{CORRUPT, Owner, Published, read_tile, store_fault};
use crate::signer::Signer;
use crate::store::{Store, StoreError, StoredHead};

/// A stream, and from when its certificate counts no more by this configuration, if it does not.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) row: StreamRow,
    pub(crate) distrusted: Option<(Micros, Fault)>,
}

/// What one group added and the store has not confirmed.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    pub(crate) roots: HashMap<(StreamId, u64), RecordRoot>,
    pub(crate) facts: HashMap<(String, [u8; 16]), Vec<Fact>>,
    pub(crate) policies: HashSet<PolicyKey>,
    /// Actions of which a record is erased.
    pub(crate) erased: HashSet<(String, [u8; 16])>,
    /// Where the records stand that are erased.
    pub(crate) erased_at: HashSet<LeafIndex>,
}

/// Equivocations that were noted of late, so that one that is repeated fills no log.
#[derive(Debug, Default)]
pub(crate) struct Noted(VecDeque<(StreamId, u64, RecordRoot)>);

impl Noted {
    const MAX: usize = 1_024;

    /// Remembers one; false where it is remembered already.
    pub(crate) fn insert(&mut self, stream: StreamId, seq: u64, root: RecordRoot) -> bool {
        let one = (stream, seq, root);
        if self.0.contains(&one) {
            return false;
        }
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(one);
        true
    }
}

/// Everything that the next record depends on.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) edge: Edge,
    pub(crate) last_logged_at: Micros,
    pub(crate) streams: HashMap<StreamId, Stream>,
    /// Streams that a call halted by a record that was refused.
    pub(crate) halted: HashMap<StreamId, u64>,
    /// Equivocations that the log holds a notice of.
    pub(crate) noted: Noted,
    /// Policy versions that the store was seen to hold.
    pub(crate) policies: Policies,
    /// Of the group that is being committed.
    pub(crate) committing: Unsettled,
    /// Of the group that is being prepared.
    pub(crate) preparing: Unsettled,
}

impl State {
    /// The root of a record that was prepared and is not yet confirmed.
    pub(crate) fn unsettled_root(&self, stream: StreamId, seq: u64) -> Option<RecordRoot> {
        let key = (stream, seq);
        self.preparing.roots.get(&key).or_else(|| self.committing.roots.get(&key)).copied()
    }

    /// Whose each stream is, for those who read.
    pub(crate) fn owners(&self) -> HashMap<StreamId, Owner> {
        let owners = self.streams.iter().filter(|(id, _)| **id != StreamId::LEDGER);
        owners.map(|(id, stream)| (*id, owner_of(&stream.row))).collect()
    }
}

pub(crate) fn owner_of(row: &StreamRow) -> Owner {
    Owner { tenant: row.tenant.clone(), gate: row.gate.clone(), seal_key: row.seal_key }
}

/// Why what the store holds can't be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store failed, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds is damaged, or is another log's than these keys'.
    #[error("{0}")]
    Log(#[from] Fault),
}

/// Reads the state that a committed head stands for, checks it against that head, and gives what
/// readers may see under it.
pub(crate) async fn recover<S: Store>(
    store: &S,
    signer: &Signer,
    config: &LogConfig,
    head: &StoredHead,
) -> Result<(State, Published), OpenError> {
    let head = signer.read(head.size, &head.note)?;
    let edge = read_edge(store, head.size).await?;
    if edge.root() != head.root {
        return Err(CORRUPT.at_field("root").into());
    }
    let last = LeafIndex(head.size.0.saturating_sub(1));
    let entries = store.entries(last, 1).await?;
    let entry = entries.first().and_then(|bytes| Entry::from_bytes(bytes).ok());
    let entry = entry.ok_or(CORRUPT.at_index(last.0))?;
    let mut streams = HashMap::new();
    for (id, bytes) in store.streams().await? {
        let row = StreamRow::decode(&bytes).ok_or(CORRUPT.at_field("stream"))?;
        let own = id == StreamId::LEDGER;
        let distrusted = if own { None } else { distrusted(store, config, &row).await? };
        streams.insert(id, Stream { row, distrusted });
    }
    if !streams.contains_key(&StreamId::LEDGER) {
        return Err(CORRUPT.at_field("stream").into());
    }
    let state = State { edge, last_logged_at: entry.logged_at, streams, ..State::default() };
    let published = Published { head: Arc::new(head), edge: Arc::new(state.edge.clone()) };
    Ok((state, published))
}

/// From when a stream's chain counts no more: one of its keys is revoked, or its root is not
/// trusted now.
pub(crate) async fn distrusted<S: Store>(
    store: &S,
    config: &LogConfig,
    row: &StreamRow,
) -> Result<Option<(Micros, Fault)>, OpenError> {
    let chain = store.blob(row.chain).await?;
    let chain = chain.as_deref().and_then(decode_chain).ok_or(CORRUPT.at_field("chain"))?;
    let chain = match verify_chain(&chain, &config.gate_roots, row.not_after.0) {
        Ok(chain) => chain,
        Err(error) => return Ok(Some((Micros(0), error.into()))),
    };
    let revoked = config.revoked.iter().filter(|(key, _)| chain.keys().contains(key));
    Ok(revoked.map(|(_, from)| *from).min().map(|from| (from, Code::KeyRevoked.into())))
}

/// Derives the right edge: leaf hashes from entries, each level above from the full tiles below.
async fn read_edge<S: Store>(store: &S, size: TreeSize) -> Result<Edge, OpenError> {
    let mut tiles = Vec::new();
    for level in 0_u8.. {
        let Some((first, count)) = partial_tile(size, level) else { break };
        let hashes: Vec<Hash> = if level == 0 {
            let entries = store.entries(LeafIndex(first), count).await?;
            entries.iter().map(|entry| leaf_hash(entry).0).collect()
        } else {
            let mut roots = Vec::new();
            for index in first..first + count {
                let tile = store.tile(level - 1, index).await?;
                let hashes = read_tile(tile.as_deref()).ok_or(CORRUPT.at_field("tile"))?;
                roots.extend(root_of::<LogTree>(&hashes));
            }
            roots
        };
        tiles.push(hashes);
    }
    debug_assert!(usize::from(TILE_HEIGHT) * tiles.len() <= 64);
    Ok(Edge::restore(size, tiles).ok_or(CORRUPT.at_field("tile"))?)
}

/// The stored root of a record that is in the log, from its batch.
pub(crate) async fn stored_root<S: Store>(
    store: &S,
    stream: StreamId,
    seq: u64,
) -> Result<RecordRoot, Fault> {
    let index = store.by_stream(stream, seq).await.map_err(store_fault)?;
    let index = index.ok_or(CORRUPT.at_field("by_stream"))?;
    let stored = Stored::read(store, index).await?;
    if (stored.entry.stream, stored.entry.seq) == (stream, seq) {
        Ok(stored.root)
    } else {
        Err(CORRUPT.at_index(index.0))
    }
}

//! The log's face to the rest of the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::from_hex_array;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Context, Hash, LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::receipt::Receipt;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::api::{
    Batch, BatchAnswer, BatchRecord, Head, LogConfig, LogKeys, LogState, RecordAt, Refused,
    StreamRequest, StreamStatus,
};
use crate::edge::Edge;
use crate::host::Host;
use crate::lifecycle::{ACTION_RECORDS_MAX, uuid_bytes};
use crate::sequencer::{Sequencer, begin, publish_heads};
use crate::shared::{Published, Shared, store_fault};
use crate::signer::Signer;
use crate::state::{State, recover};
use crate::store::Store;
use crate::work::{BatchWork, OpenWork, Opened, Work, check_opening, check_record};

pub use crate::state::OpenError;

/// Bytes of a policy's two texts and their lengths.
pub const BLOB_BYTES_MAX: usize = 4 * 1024 * 1024 + 8;

/// How long a batch waits for room in the queue before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Bytes that one permit of the queue's room stands for.
const ROOM_UNIT: usize = 1_024;

/// An open log. Clones share it; it runs until [`Ledger::stop`], or until the last clone is gone.
pub struct Ledger<S> {
    shared: Arc<Shared<S>>,
    queue: mpsc::UnboundedSender<Work>,
    room: Arc<Semaphore>,
    heads: Arc<Task>,
}

/// A task that ends with its last owner.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<S> Clone for Ledger<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            queue: self.queue.clone(),
            room: Arc::clone(&self.room),
            heads: Arc::clone(&self.heads),
        }
    }
}

impl<S> std::fmt::Debug for Ledger<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// A batch in the queue.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<BatchAnswer, Refused>>);

impl Pending {
    /// What became of the batch, once it is durable and its head published. Should the log end
    /// without an answer, the batch's fate is unknown: `EVIDENCE_UNAVAILABLE`.
    pub async fn answer(self) -> Result<BatchAnswer, Refused> {
        self.0.await.unwrap_or_else(|_| Err(Code::EvidenceUnavailable.into()))
    }
}

impl<S: Store> Ledger<S> {
    /// Opens the log, or begins it where the store is empty.
    ///
    /// What is found must be this log's: heads signed by its key, a right edge that gives the
    /// newest head's root. Work that was durable and not yet published is published.
    pub async fn open<H: Host>(
        store: Arc<S>,
        host: Arc<H>,
        keys: LogKeys,
        config: LogConfig,
    ) -> Result<Self, OpenError> {
        let signer = Signer::new(keys)?;
        let (mut lease, head) = store.acquire().await?;
        let (shared, state, lease) = if let Some(head) = head {
            let (state, _) = recover(&*store, &signer, &config, &head).await?;
            store.publish(&mut lease, &head).await?;
            let published = state.published(&signer, &head)?;
            let owners = state.owners();
            let shared = Shared::new(store, host, signer, config, published, owners);
            (Arc::new(shared), state, lease)
        } else {
            let edge = Edge::default();
            // Replaced by the genesis head before anybody can ask.
            let head = Head { size: TreeSize(0), root: edge.root(), note: String::new() };
            let published = Published { head: Arc::new(head), edge: Arc::new(edge) };
            let shared = Shared::new(store, host, signer, config, published, HashMap::new());
            let shared = Arc::new(shared);
            let (state, lease) = begin(&shared, lease).await?;
            (shared, state, lease)
        };
        Ok(Self::start(shared, state, lease))
    }

    fn start(shared: Arc<Shared<S>>, state: State, lease: S::Lease) -> Self {
        let (queue, work) = mpsc::unbounded_channel();
        let sequencer = Sequencer::new(Arc::clone(&shared), work, state, lease);
        tokio::spawn(sequencer.run());
        let heads = Arc::new(Task(tokio::spawn(publish_heads(Arc::clone(&shared)))));
        let permits = (shared.config.queue_bytes_max / ROOM_UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self { shared, queue, room: Arc::new(Semaphore::new(permits)), heads }
    }

    fn ready(&self) -> Result<(), Refused> {
        match *self.shared.state.borrow() {
            LogState::Ready => Ok(()),
            LogState::Stopping => Err(Code::LedgerStopping.into()),
            LogState::Poisoned => Err(Code::LedgerPoisoned.into()),
        }
    }

    /// Opens a stream, or finds it again (STR-1, STR-2). The answer covers all that was queued
    /// before.
    pub async fn open_stream(&self, request: StreamRequest) -> Result<StreamStatus, Refused> {
        self.ready()?;
        let shared = &self.shared;
        let origin = &shared.signer.keys().origin;
        let now = shared.host.now();
        let (opening, chain) = check_opening(&request, origin, &shared.config, now)?;
        shared.store.put_blob(opening.chain, chain).await.map_err(store_fault)?;
        let (answer, opened) = oneshot::channel();
        let work = Work::Open(OpenWork { opening, answer });
        self.queue.send(work).map_err(|_| Code::LedgerStopping)?;
        let opened = opened.await.unwrap_or_else(|_| Err(Code::EvidenceUnavailable.into()));
        let Opened { stream, next_seq, prev } = opened?;
        Ok(StreamStatus { stream, next_seq, prev, head: self.head() })
    }

    /// Checks what needs no order, the seal above all, and puts the batch into the queue in the
    /// order of these calls. The answer comes from the pending value.
    pub async fn enqueue(&self, batch: Batch) -> Result<Pending, Refused> {
        self.ready()?;
        let owner = self.shared.owner(batch.stream).ok_or(Code::StreamUnknown)?;
        if owner.tenant != batch.tenant
            || owner.gate != batch.gate
            || owner.seal_key != batch.sealed.key
        {
            return Err(Code::StreamForeign.into());
        }
        if batch.records.len() != batch.sealed.roots.len() {
            return Err(Code::SealSize.into());
        }
        batch.sealed.verify()?;
        let shared = &self.shared;
        let origin = &shared.signer.keys().origin;
        let now = shared.host.now();
        let mut checked = Vec::with_capacity(batch.records.len());
        let mut bytes = 0;
        for (position, record) in batch.records.iter().enumerate() {
            let mut found = check_record(&batch, position, record, origin, &shared.config, now);
            if found.is_ok() && record.record.kind() == Kind::Policy {
                found = self.policy_held(record).await.and(found);
            }
            checked.push(found);
            bytes += record.record.values().iter().map(String::len).sum::<usize>();
        }
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, u32::try_from(self.capacity()).unwrap_or(u32::MAX));
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        let room = tokio::time::timeout(ROOM_WAIT, room).await.map_err(|_| Code::Overloaded)?;
        let room = room.map_err(|_| Code::LedgerStopping)?;
        let (answer, answered) = oneshot::channel();
        let work = Work::Batch(BatchWork { batch, checked, answer, _room: room });
        self.queue.send(work).map_err(|_| Code::LedgerStopping)?;
        Ok(Pending(answered))
    }

    fn capacity(&self) -> usize {
        (self.shared.config.queue_bytes_max / ROOM_UNIT).max(1)
    }

    /// A policy record names texts that the ledger holds, of the length it says, or none (KIND-8).
    async fn policy_held(&self, record: &BatchRecord) -> Result<(), Fault> {
        let view = record.record.view();
        let length = view.get("length").and_then(Value::as_u64).unwrap_or(0);
        if length == 0 {
            return Ok(());
        }
        let digest = view.str("digest").and_then(from_hex_array).ok_or(Code::BlobUnknown)?;
        let blob = self.shared.store.blob(digest).await.map_err(store_fault)?;
        let held = blob.ok_or(Code::BlobUnknown.at_field("digest"))?;
        // Two lengths of four bytes stand before the texts.
        if held.len() as u64 == length.saturating_add(8) {
            Ok(())
        } else {
            Err(Code::BlobDigest.at_field("length"))
        }
    }

    /// Enqueues and waits.
    pub async fn submit(&self, batch: Batch) -> Result<BatchAnswer, Refused> {
        self.enqueue(batch).await?.answer().await
    }

    /// The newest published head.
    pub fn head(&self) -> Arc<Head> {
        self.shared.published().head
    }

    /// Heads as they are published: periodic ones, with a fresh clock cosignature.
    pub fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.shared.heads.subscribe()
    }

    /// Whether it takes records.
    pub fn state(&self) -> watch::Receiver<LogState> {
        self.shared.state.subscribe()
    }

    /// The consistency proof between two sizes; `new` is the newest head's where it is none.
    pub async fn consistency(
        &self,
        old: TreeSize,
        new: Option<TreeSize>,
    ) -> Result<(TreeSize, Vec<Hash>), Refused> {
        Ok(self.shared.consistency(old, new).await?)
    }

    /// A record's receipt at the newest head, which must have at least `min_size` leaves. With a
    /// tenant, only what that tenant may see is found.
    pub async fn receipt(
        &self,
        tenant: Option<&str>,
        at: RecordAt,
        min_size: TreeSize,
    ) -> Result<Receipt, Refused> {
        let index = self.shared.find(tenant, at).await?;
        Ok(self.shared.receipt(index, min_size).await?)
    }

    /// A record's evidence at the newest head, with what it rests on.
    pub async fn evidence(
        &self,
        tenant: Option<&str>,
        at: RecordAt,
        min_size: TreeSize,
    ) -> Result<(LeafIndex, Evidence), Refused> {
        let index = self.shared.find(tenant, at).await?;
        Ok((index, self.shared.evidence(index, min_size).await?))
    }

    /// Where an action's records stand, ascending; `NOT_FOUND` where there are none.
    pub async fn action(&self, tenant: &str, action_id: &str) -> Result<Vec<LeafIndex>, Refused> {
        let action = uuid_bytes(action_id).ok_or(Code::NotFound)?;
        let found = self.shared.store.by_action(tenant, action, ACTION_RECORDS_MAX).await;
        let mut found = found.map_err(store_fault)?;
        let size = self.head().size;
        found.retain(|index| index.0 < size.0);
        if found.is_empty() { Err(Code::NotFound.into()) } else { Ok(found) }
    }

    /// Keeps the texts of a policy under their digest; false where they were there already.
    pub async fn put_blob(&self, digest: Hash, bytes: Vec<u8>) -> Result<bool, Refused> {
        self.ready()?;
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(Code::BlobOversized.into());
        }
        if Context::Policy.hash(&[&bytes]) != digest || !is_policy(&bytes) {
            return Err(Code::BlobDigest.into());
        }
        Ok(self.shared.store.put_blob(digest, bytes).await.map_err(store_fault)?)
    }

    /// Takes nothing more, and returns when all that was queued is durable and answered.
    pub async fn stop(&self) {
        self.shared.state.send_if_modified(|state| {
            let ready = *state == LogState::Ready;
            if ready {
                *state = LogState::Stopping;
            }
            ready
        });
        let (done, stopped) = oneshot::channel();
        if self.queue.send(Work::Stop(done)).is_ok() {
            // An error means that it has ended already.
            let _ = stopped.await;
        }
    }
}

/// u32 length, policy text, u32 length, schema text, and nothing after it (KIND-8).
fn is_policy(bytes: &[u8]) -> bool {
    let part = |bytes: &'_ [u8]| -> Option<usize> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let text = rest.get(..length)?;
        std::str::from_utf8(text).ok()?;
        Some(length + 4)
    };
    let Some(first) = part(bytes) else { return false };
    let second = bytes.get(first..).and_then(part);
    second.is_some_and(|second| first + second == bytes.len())
}

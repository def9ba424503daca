//! The log's face to the rest of the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::Code;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::receipt::Receipt;
use countersign_core::tiles::TilePath;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::api::{
    Batch, BatchAnswer, Erasure, ErasureRequest, Head, LogConfig, LogKeys, LogState, Page,
    PageRequest, ProveAt, RecordAt, Refused, StreamRequest, StreamStatus,
};
use crate::derive;
use crate::edge::Edge;
use crate::erase::Erasing;
use crate::host::Host;
use crate::lifecycle::{ACTION_RECORDS_MAX, uuid_bytes};
use crate::sequencer::{Sequencer, begin, publish_heads};
use crate::shared::{Published, Shared, store_fault};
use crate::signer::Signer;
use crate::state::{State, recover};
use crate::store::Store;
use crate::work::{BatchWork, EraseWork, OpenWork, Opened, Work, check_opening, check_record};

pub use crate::state::OpenError;
pub use crate::texts::BLOB_BYTES_MAX;

/// How long a batch waits for room in the queue before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Bytes that a record's answer may take: proof, entry, seal, and a head of its own.
const ANSWER_BYTES: usize = 2_048;

/// Bytes that one permit of the queue's room stands for.
const ROOM_UNIT: usize = 1_024;

/// An open log. Clones share it; it runs until [`Ledger::stop`], or until the last clone is gone.
pub struct Ledger<S> {
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) queue: mpsc::UnboundedSender<Work>,
    room: Arc<Semaphore>,
    // None where witnesses are asked: whoever does that publishes.
    heads: Option<Arc<Task>>,
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
            heads: self.heads.clone(),
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
pub struct Pending {
    answered: oneshot::Receiver<Result<BatchAnswer, Refused>>,
    room: Room,
}

/// The room that a batch takes in the queue. Whoever delivers the answer holds it until that is
/// done: answers that nobody reads must not add up.
#[derive(Debug)]
#[must_use = "dropping it makes room for others"]
pub struct Room {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Pending {
    /// What became of the batch, once it is durable and its head published. Should the log end
    /// without an answer, the batch's fate is unknown: `EVIDENCE_UNAVAILABLE`.
    pub async fn answer(self) -> Result<BatchAnswer, Refused> {
        self.answer_and_room().await.0
    }

    /// The same with the batch's room, for who has yet to deliver the answer.
    pub async fn answer_and_room(self) -> (Result<BatchAnswer, Refused>, Room) {
        let unknown = |_| Err(Code::EvidenceUnavailable.into());
        (self.answered.await.unwrap_or_else(unknown), self.room)
    }
}

impl<S: Store> Ledger<S> {
    /// Opens the log, or begins it where the store is empty.
    ///
    /// What is found must be this log's: heads signed by its key, a right edge that gives the
    /// newest head's root. Work that was durable and not yet published is published.
    ///
    /// # Errors
    ///
    /// [`OpenError::Store`] where the store fails or refuses what it holds (`ANCHOR_*`,
    /// `STORE_CORRUPT`); [`OpenError::Log`] where the origin makes no key's name
    /// (`VKEY_MALFORMED`), where the newest head does not parse (`NOTE_*`, `CHECKPOINT_LINES`) or
    /// is not signed by this key (`LOG_SIGNATURE`, `LOG_SIGNATURE_MISSING`), and where it is of
    /// another origin or does not fit the entries (`STORE_CORRUPT`).
    pub async fn open<H: Host>(
        store: Arc<S>,
        host: Arc<H>,
        keys: LogKeys,
        config: LogConfig,
    ) -> Result<Self, OpenError> {
        let signer = Signer::new(keys)?;
        let (mut lease, head) = store.acquire().await?;
        // What an earlier process erased and had no time to make unreadable.
        store.scrub().await?;
        let (shared, state, lease) = if let Some(head) = head {
            let (state, published) = recover(&*store, &signer, &config, &head).await?;
            store.publish(&mut lease, &head).await?;
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
        let publish = || Arc::new(Task(tokio::spawn(publish_heads(Arc::clone(&shared)))));
        let heads = (!shared.config.witnessed).then(publish);
        let room = Arc::new(Semaphore::new(room_units(&shared.config)));
        Self { shared, queue, room, heads }
    }

    pub(crate) fn ready(&self) -> Result<(), Refused> {
        match *self.shared.state.borrow() {
            LogState::Ready => Ok(()),
            LogState::Stopping => Err(Code::LedgerStopping.into()),
            LogState::Poisoned => Err(Code::LedgerPoisoned.into()),
        }
    }

    /// Opens a stream, or finds it again (STR-1, STR-2). The answer covers all that was queued
    /// before.
    ///
    /// # Errors
    ///
    /// `REQUEST_MALFORMED` (an instance of 1,024 or more, STR-13), `CERT_*`, `KEY_REVOKED`,
    /// `STREAM_FOREIGN` (the certificate is not that of this tenant's gate), `SEALER_UNTRUSTED` (it
    /// is of another key), `LEDGER_STOPPING`, `LEDGER_POISONED`, `STORE_FAILED`, `STORE_CORRUPT`;
    /// `EVIDENCE_UNAVAILABLE` where it is unknown whether the stream was recorded.
    pub async fn open_stream(&self, request: StreamRequest) -> Result<StreamStatus, Refused> {
        self.ready()?;
        let shared = &self.shared;
        let origin = &shared.signer.keys().origin;
        let now = shared.host.now();
        let (opening, chain) = check_opening(&request, origin, &shared.config, now)?;
        self.keep(opening.chain, chain).await?;
        let (answer, opened) = oneshot::channel();
        let work = Work::Open(OpenWork { opening, answer });
        self.queue.send(work).map_err(|_| Code::LedgerStopping)?;
        let opened = opened.await.unwrap_or_else(|_| Err(Code::EvidenceUnavailable.into()));
        let Opened { stream, next_seq, prev } = opened?;
        Ok(StreamStatus { stream, next_seq, prev, head: self.head() })
    }

    /// Checks what needs no order, the seal above all, and puts the batch into the queue in the
    /// order of these calls. The answer comes from the pending value.
    ///
    /// # Errors
    ///
    /// An error refuses the batch as a whole, and nothing of it is logged: `STREAM_UNKNOWN`,
    /// `STREAM_FOREIGN` (of another tenant, gate or key), `SEAL_SIZE`, `SEAL_SIGNATURE`,
    /// `OVERLOADED` (no room within a second), `LEDGER_STOPPING`, `LEDGER_POISONED`. What is wrong
    /// with one record alone is told in its answer.
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
        let terms = batch.records.iter().map(|r| derive::terms(r.record.view())).collect();
        let mut bytes = 0;
        for (position, record) in batch.records.iter().enumerate() {
            let mut found = check_record(&batch, position, record, origin, &shared.config, now);
            if found.is_ok() && record.record.kind() == Kind::Policy {
                found = self.policy_held(record).await.and(found);
            }
            checked.push(found);
            bytes += record.record.values().iter().map(String::len).sum::<usize>();
        }
        // The answer takes room as well, whatever the record's size.
        let bytes = bytes.max(batch.records.len().saturating_mul(ANSWER_BYTES));
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, u32::try_from(room_units(&shared.config)).unwrap_or(u32::MAX));
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        let room = tokio::time::timeout(ROOM_WAIT, room).await.map_err(|_| Code::Overloaded)?;
        let room = room.map_err(|_| Code::LedgerStopping)?;
        let (answer, answered) = oneshot::channel();
        let room = Arc::new(room);
        let queued = BatchWork { batch, checked, terms, answer, _room: Arc::clone(&room) };
        let work = Work::Batch(queued);
        self.queue.send(work).map_err(|_| Code::LedgerStopping)?;
        Ok(Pending { answered, room: Room { _permit: room } })
    }

    /// Enqueues and waits.
    ///
    /// # Errors
    ///
    /// Those of [`Ledger::enqueue`] and [`Pending::answer`]. After the latter's the batch may be in
    /// the log: the same batch again brings the first answer.
    pub async fn submit(&self, batch: Batch) -> Result<BatchAnswer, Refused> {
        self.enqueue(batch).await?.answer().await
    }

    /// The newest published head. It covers every record that was answered.
    pub fn head(&self) -> Arc<Head> {
        self.shared.published().head
    }

    /// Heads as they are published: periodic ones, with a fresh clock cosignature. They lag behind
    /// [`Ledger::head`], which every commit moves, by up to `head_interval_ms`.
    pub fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.shared.heads.subscribe()
    }

    /// The newest periodic head, which is what mirrors and witnesses follow: it lags behind
    /// [`Ledger::head`] as [`Ledger::heads`] does.
    pub fn checkpoint(&self) -> Arc<Head> {
        let head = Arc::clone(&self.shared.heads.borrow());
        // A log that has only just begun has published none yet.
        if head.size.0 == 0 { self.head() } else { head }
    }

    /// Signs the newest head with the time that it is now, and publishes nothing: witnesses are to
    /// be asked first.
    pub fn periodic(&self) -> Arc<Head> {
        Arc::new(self.shared.sign_periodic())
    }

    /// Publishes a periodic head with the cosignatures that it got. With `quorum` they are enough
    /// for the witness policy: records are proven at it from now on when a witnessed head is asked
    /// for. That the cosignatures verify, and that the head outlives this process where it must, is
    /// the caller's to see to.
    ///
    /// # Errors
    ///
    /// What no head of this log could cause: `NOTE_*`, `CHECKPOINT_LINES`, `LOG_SIGNATURE`,
    /// `LOG_SIGNATURE_MISSING`, `SIZE_UNKNOWN` (larger than the newest head), `STORE_FAILED`, and
    /// `STORE_CORRUPT` where it is of another tree. Nothing is published then.
    pub async fn publish_cosigned(
        &self,
        size: TreeSize,
        note: &str,
        quorum: bool,
    ) -> Result<(), Refused> {
        Ok(self.shared.publish_cosigned(size, note, quorum).await?)
    }

    /// The newest head that a quorum of witnesses cosigned; none where there is none yet.
    pub fn witnessed(&self) -> Option<Arc<Head>> {
        self.shared.witnessed.borrow().clone()
    }

    /// A tile or an entry bundle (spec/tiles.md) of the newest published head's tree, checked
    /// against that head; none where its tree has no such tile, or not so wide a one.
    ///
    /// # Errors
    ///
    /// `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn tile(&self, path: TilePath) -> Result<Option<Vec<u8>>, Refused> {
        Ok(self.shared.resource(path).await?)
    }

    /// Whether it takes records.
    pub fn state(&self) -> watch::Receiver<LogState> {
        self.shared.state.subscribe()
    }

    /// The consistency proof between two sizes; `new` is the newest head's where it is none. Gives
    /// the size that it leads to, which is `new` or the newest head's, and the proof's hashes.
    ///
    /// # Errors
    ///
    /// `SIZE_UNKNOWN` where `old` is 0 or larger than `new`, or `new` larger than the newest head;
    /// `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn consistency(
        &self,
        old: TreeSize,
        new: Option<TreeSize>,
    ) -> Result<(TreeSize, Vec<Hash>), Refused> {
        Ok(self.shared.consistency(old, new).await?)
    }

    /// A record's receipt. With a tenant, only what that tenant may see is found; none stands for
    /// any tenant.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` (also for what the tenant may not see), `SIZE_UNKNOWN` where there is no such
    /// head, or the record is not under it, `NOT_WITNESSED` likewise of a witnessed one,
    /// `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn receipt(
        &self,
        tenant: Option<&str>,
        at: RecordAt,
        head: impl Into<ProveAt>,
    ) -> Result<Receipt, Refused> {
        let index = self.shared.find(tenant, at).await?;
        Ok(self.shared.receipt(index, head.into()).await?)
    }

    /// A record's evidence, with what it rests on. Tenant and head are as for [`Ledger::receipt`].
    /// What was erased of a record, it withholds.
    ///
    /// # Errors
    ///
    /// Those of [`Ledger::receipt`].
    pub async fn evidence(
        &self,
        tenant: Option<&str>,
        at: RecordAt,
        head: impl Into<ProveAt>,
    ) -> Result<(LeafIndex, Evidence), Refused> {
        let index = self.shared.find(tenant, at).await?;
        Ok((index, self.shared.evidence(index, head.into()).await?))
    }

    /// The head that was committed at exactly this size.
    ///
    /// # Errors
    ///
    /// `SIZE_UNKNOWN` where there is none, or it is not published; `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn head_at(&self, size: TreeSize) -> Result<Arc<Head>, Refused> {
        Ok(self.shared.committed(size).await?)
    }

    /// Entries `[from, from + count)`; fewer where the newest published head ends.
    ///
    /// # Errors
    ///
    /// `SIZE_UNKNOWN` where `from` is beyond that head; `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn entries(
        &self,
        from: LeafIndex,
        count: u64,
    ) -> Result<Vec<[u8; ENTRY_BYTES]>, Refused> {
        let left = self.head().size.0.checked_sub(from.0).ok_or(Code::SizeUnknown)?;
        let count = count.min(left);
        let entries = self.shared.store.entries(from, count).await.map_err(store_fault)?;
        if entries.len() as u64 != count {
            return Err(Code::StoreCorrupt.at_index(from.0).into());
        }
        Ok(entries)
    }

    /// The peaks of the log's first `size` entries, largest subtree first.
    ///
    /// # Errors
    ///
    /// `SIZE_UNKNOWN` beyond the newest published head; `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn peaks(&self, size: TreeSize) -> Result<Vec<Hash>, Refused> {
        Ok(self.shared.peaks(size).await?)
    }

    /// A page of the records of a tenant that a query asks for: its own, and those of the ledger
    /// that are about it. Derived indexes find them; what is answered was read from the records.
    ///
    /// # Errors
    ///
    /// `CURSOR_MALFORMED` (a cursor without a size, or beyond it), `SIZE_UNKNOWN` (no head of that
    /// size was committed), `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn query(&self, request: &PageRequest) -> Result<Page, Refused> {
        Ok(self.shared.page(request).await?)
    }

    /// Erases payloads and logs that this was done, why and by whom; returns when what was erased
    /// can't be read from the store any more. The same request again is answered with the first
    /// erasure.
    ///
    /// # Errors
    ///
    /// `REQUEST_MALFORMED`, `ERASURE_OVERSIZED`, `ERASURE_FLOOR`, `PEOPLE_ABSENT`, `CERT_*`,
    /// `KEY_REVOKED`, `PERSON_CERTIFICATE`, `PERSON_SIGNATURE`; with the index at fault
    /// `NOT_FOUND`, `ERASURE_KIND`, `ERASURE_FLOOR`, `ERASURE_OPEN`, `ERASED`; `LEDGER_STOPPING`,
    /// `LEDGER_POISONED`, `STORE_FAILED`, `STORE_CORRUPT`. `EVIDENCE_UNAVAILABLE` where it is not
    /// known to be done: the same again finishes it.
    pub async fn erase(&self, request: ErasureRequest) -> Result<Erasure, Refused> {
        self.ready()?;
        let shared = &self.shared;
        let keys = shared.signer.keys();
        let erasing = Erasing::check(request, keys, &shared.config, shared.host.now())?;
        let (answer, erased) = oneshot::channel();
        let work = Work::Erase(EraseWork { erasing, answer });
        self.queue.send(work).map_err(|_| Code::LedgerStopping)?;
        let erasure = erased.await.unwrap_or_else(|_| Err(Code::EvidenceUnavailable.into()))?;
        shared.store.scrub().await.map_err(|error| {
            tracing::error!(%error, "what was erased is still in the store's files");
            Code::EvidenceUnavailable
        })?;
        Ok(erasure)
    }

    /// Where a tenant's records of an action stand, ascending.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where there are none, or the id is not a UUIDv7 as records spell it;
    /// `STORE_FAILED`, `STORE_CORRUPT`.
    pub async fn action(&self, tenant: &str, action_id: &str) -> Result<Vec<LeafIndex>, Refused> {
        let action = uuid_bytes(action_id).ok_or(Code::NotFound)?;
        let found = self.shared.store.by_action(tenant, action, ACTION_RECORDS_MAX).await;
        let mut found = found.map_err(store_fault)?;
        let size = self.head().size;
        found.retain(|index| index.0 < size.0);
        if found.is_empty() { Err(Code::NotFound.into()) } else { Ok(found) }
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

/// The queue's room in units: what no single batch may ask for more than.
fn room_units(config: &LogConfig) -> usize {
    (config.queue_bytes_max / ROOM_UNIT).clamp(1, Semaphore::MAX_PERMITS)
}

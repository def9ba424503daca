//! What goes into the log and what comes back.

use std::sync::Arc;

use countersign_core::cert::{Certificate, TrustAnchor};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::hash::{Hash, LeafIndex, RecordRoot, RootHash, TreeSize};
use countersign_core::query::{Query, Row};
use countersign_core::record::FullRecord;
use countersign_core::seal::{Seal, SealedBatch};
use countersign_core::stream::StreamId;
use ed25519_dalek::SigningKey;

/// The log's name and its three keys.
#[derive(Clone, Debug)]
pub struct LogKeys {
    /// The origin line of its checkpoints.
    pub origin: String,
    /// Signs heads, as `<origin>`.
    pub log: SigningKey,
    /// Cosigns heads with the time, as `<origin>/clock`.
    pub clock: SigningKey,
    /// Seals the ledger's own records, as `<origin>/ledger`.
    pub ledger: SigningKey,
}

/// What the log holds its submitters to, and how it groups and publishes.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The trust domain of gates and people.
    pub trust_domain: String,
    /// Roots of the certificates of seal keys.
    pub gate_roots: Vec<TrustAnchor>,
    /// Roots of people's certificates. Without any, records signed by people are refused.
    pub people_roots: Vec<TrustAnchor>,
    /// Public keys (as in a certificate) that count no more, and from when.
    pub revoked: Vec<(Vec<u8>, Micros)>,
    /// Microseconds that a `recorded_at` may lie ahead of the log's clock.
    pub skew_us: u64,
    /// Records that one commit takes at most, unless one batch alone has more.
    pub group_max: usize,
    /// Microseconds that a group waits for company at most, while another one commits.
    pub group_wait_us: u64,
    /// Milliseconds between periodic heads while the log grows.
    pub head_interval_ms: u64,
    /// Milliseconds after which an idle log's head is cosigned and published again.
    pub head_republish_ms: u64,
    /// Whether witnesses are asked: then periodic heads are published by who asks them
    /// ([`Ledger::periodic`](crate::ledger::Ledger::periodic),
    /// [`Ledger::publish_cosigned`](crate::ledger::Ledger::publish_cosigned)), and none before.
    pub witnessed: bool,
    /// Bytes of records that may wait to be answered; a batch that finds no room for a second is
    /// refused as `OVERLOADED`.
    pub queue_bytes_max: usize,
}

/// A stream that its gate asks to have opened. Who calls has been authenticated as this tenant's
/// gate; that the certificate says the same is checked here.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// The caller's tenant.
    pub tenant: String,
    /// The caller's name as a gate.
    pub gate: String,
    /// The key that will seal the stream.
    pub seal_key: [u8; 32],
    /// The instance of this gate and key, below 1,024 (STR-13).
    pub instance: u32,
    /// The seal key's certificate chain, leaf first.
    pub chain: Vec<Certificate>,
}

/// Where a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// Its name.
    pub stream: StreamId,
    /// The seq expected next.
    pub next_seq: u64,
    /// The root of the record before that; zeros at 0.
    pub prev: RecordRoot,
    /// The newest published head, which covers the stream's own record.
    pub head: Arc<Head>,
}

/// One record of a batch.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// The record.
    pub record: FullRecord,
    /// The chain of the person who signed it; empty for kinds that nobody signs.
    pub people: Vec<Certificate>,
}

/// A sealed batch from an authenticated caller.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The caller's tenant.
    pub tenant: String,
    /// The caller's name as a gate.
    pub gate: String,
    /// The stream.
    pub stream: StreamId,
    /// The seq of its first record.
    pub first_seq: u64,
    /// Key, signature, and the roots of `records` in order.
    pub sealed: SealedBatch,
    /// The records.
    pub records: Vec<BatchRecord>,
    /// The call that the batch came in: a record that is refused halts its stream for the batches
    /// behind it in the same call (STR-9). Numbers of calls are never used twice in a process.
    pub call: u64,
}

/// A record that is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its place.
    pub index: LeafIndex,
    /// Its entry.
    pub entry: Entry,
    /// The inclusion proof, to `first.note` of a repeat, else to the batch's head.
    pub path: Vec<Hash>,
    /// For a record that was in the log before: the head and seal it was first answered with.
    pub first: Option<First>,
}

/// What a record was first answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// The signed note that its proof leads to.
    pub note: String,
    /// The seal it was logged under.
    pub seal: Seal,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchAnswer {
    /// The head that covers every newly logged record; none where there is none.
    pub head: Option<Arc<Head>>,
    /// One answer a record: its seq and what became of it.
    pub records: Vec<(u64, Result<Logged, Refused>)>,
}

/// Why something was not done: a code of the registry, and the seq expected where that helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code and its culprit.
    pub fault: Fault,
    /// The seq that the stream expects next.
    pub expected_seq: Option<u64>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, expected_seq: None }
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Fault::from(code).into()
    }
}

/// A published head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Leaves in the tree.
    pub size: TreeSize,
    /// The tree's root.
    pub root: RootHash,
    /// The signed note.
    pub note: String,
}

/// Which record is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordAt {
    /// The one at this index.
    Index(LeafIndex),
    /// The one at this seq of this stream.
    Seq(StreamId, u64),
}

/// The head that a record is proven at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProveAt {
    /// The newest published one, which must have at least so many leaves; 0 takes any.
    AtLeast(TreeSize),
    /// The one that was committed at exactly this size, so that the proof is the same for ever.
    Exactly(TreeSize),
    /// The newest one that a quorum of witnesses cosigned.
    Witnessed,
}

impl From<TreeSize> for ProveAt {
    /// The newest head of at least this size.
    fn from(size: TreeSize) -> Self {
        Self::AtLeast(size)
    }
}

/// A page of the records that a query asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Whose records: nobody else's are looked at.
    pub tenant: String,
    /// What is asked for.
    pub query: Query,
    /// The size of a committed head, as of which the log is seen; none for the newest.
    pub size: Option<TreeSize>,
    /// The index to go on at; none for the first page.
    pub cursor: Option<LeafIndex>,
    /// Rows at most.
    pub limit: usize,
    /// Descending by index.
    pub newest_first: bool,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// The cursor of the next page; none where there is no more.
    pub next: Option<LeafIndex>,
    /// The head that the page is as of.
    pub head: Arc<Head>,
    /// Erased records that were passed over and may or may not be among those asked for.
    pub erased_unmatched: u64,
}

/// A request that payloads be erased, by a person.
#[derive(Clone, Debug)]
pub struct ErasureRequest {
    /// Whose records: the caller's tenant.
    pub tenant: String,
    /// The indexes, as KIND-12 spells them.
    pub entries: String,
    /// Why, with the retention floor in its last line.
    pub reason: String,
    /// The person's chain, leaf first.
    pub chain: Vec<Certificate>,
    /// Their signature (KIND-15).
    pub signature: [u8; 64],
    /// Microseconds before now that the retention floor must lie at the latest.
    pub retention_us: u64,
}

/// An erasure that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The place of its record.
    pub index: LeafIndex,
    /// How many records it erased.
    pub erased: u64,
}

/// Whether the log takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    Ready,
    /// It finishes what it has and takes nothing more.
    Stopping,
    /// A write failed: it takes nothing more until a new process opens the store.
    Poisoned,
}

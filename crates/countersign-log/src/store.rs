//! The port to durable storage, and what it demands of an implementer.
//!
//! The contract, which the testkit's suite enforces on every implementer:
//!
//! 1. [`Store::acquire`] fences every older lease and gives the newest committed head, published or
//!    not: the log publishes it.
//! 2. [`Store::commit`] is all or nothing, and durable when it returns `Ok`: what it wrote is there
//!    after the process, and the machine, were killed at any later moment.
//! 3. [`Store::publish`] makes a committed head the one that answers may rest on, outside the
//!    reach of whatever could lose the database. It never goes backwards.
//! 4. After [`StoreError::Rejected`] nothing changed and the lease may be used again. After
//!    [`StoreError::Unknown`] the commit may or may not be there; one acquires again, and what the
//!    fresh lease finds settles it. A store that can't say so in this process any more (a failed
//!    sync) fails every later acquire. After [`StoreError::Fenced`] another writer has the log.
//! 5. What a commit erases is gone for every later read, with the commit, and gone from the store's
//!    files after [`Store::scrub`].
//! 6. Reads see every commit that returned `Ok`, published or not: it is the reader who keeps to
//!    the published head. They fail with [`StoreError::Read`] or [`StoreError::Corrupt`] and with
//!    nothing else. What they return is checked by who reads it.

use std::future::Future;
use std::ops::Range;

use countersign_core::codes::Fault;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::stream::StreamId;

pub use crate::derive::Deriver;
pub use crate::rows::read_payload;

/// A signed head as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Leaves in the tree.
    pub size: TreeSize,
    /// The signed note, verbatim.
    pub note: String,
}

/// A full tile: 256 hashes of level `8 × level`, 8,192 bytes (C2SP tlog-tiles).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The tile's level, from 0.
    pub level: u8,
    /// Its place in that level.
    pub index: u64,
    /// Its hashes, joined.
    pub hashes: Vec<u8>,
}

/// A row of an index that is derived from the log, and could be made again from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexRow {
    /// Where a stream's record stands: the idempotency key.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The record's place in it.
        seq: u64,
        /// Its place in the log.
        index: LeafIndex,
    },
    /// A record of an action.
    Action {
        /// The tenant's name.
        tenant: String,
        /// The action's id, a UUID.
        action_id: [u8; 16],
        /// The record's place in the log.
        index: LeafIndex,
    },
    /// The lists of a tenant that a record stands in: what queries ask.
    Lists {
        /// The tenant's name.
        tenant: String,
        /// The lists.
        terms: Vec<Term>,
        /// The record's place in the log.
        index: LeafIndex,
    },
    /// A tenant's policy record, by the digest of its texts: what LIFE-14 asks for.
    Policy {
        /// The tenant's name.
        tenant: String,
        /// The digest of the policy version.
        digest: Hash,
        /// The record's place in the log.
        index: LeafIndex,
    },
}

/// One of a tenant's lists of records: those that have one value in one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term {
    /// The field's number ([`Field::number`](countersign_core::query::Field::number)), or
    /// [`Term::ALL`]'s or [`Term::ERASED`]'s.
    pub field: u8,
    /// A hash of the value. Two values of one hash share a list: whoever reads it compares the
    /// record itself.
    pub hash: [u8; 8],
}

impl Term {
    /// Every record that the tenant may see.
    pub const ALL: Self = Self { field: 0, hash: [0; 8] };
    /// Every record of the tenant's that was erased.
    pub const ERASED: Self = Self { field: u8::MAX, hash: [0; 8] };
}

/// What takes a record's place when its payload is erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The record's place in the log.
    pub index: LeafIndex,
    /// Its payload from now on.
    pub payload: Vec<u8>,
    /// The tenant whose it is.
    pub tenant: String,
    /// The lists that it leaves, since the values that put it there are erased.
    pub leaves: Vec<Term>,
    /// The action among whose records it stands no more, where its id is erased too.
    pub leaves_action: Option<[u8; 16]>,
}

/// One atomic step of the log: everything in it becomes durable, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The entries, the first of which stands at the expected size.
    pub entries: Vec<[u8; ENTRY_BYTES]>,
    /// One payload an entry, opaque to the store and erasable apart from the log.
    pub payloads: Vec<Vec<u8>>,
    /// Sealed batches, opaque, under the index of the first entry that names them.
    pub batches: Vec<(LeafIndex, Vec<u8>)>,
    /// Tiles that became full.
    pub tiles: Vec<Tile>,
    /// Rows of the derived indexes.
    pub rows: Vec<IndexRow>,
    /// The state of streams that changed, opaque.
    pub streams: Vec<(StreamId, Vec<u8>)>,
    /// Records of earlier commits that are erased.
    pub erased: Vec<Erased>,
    /// The head over all entries up to and including these. Every committed head is kept, so that a
    /// record's first receipt can be given again.
    pub head: StoredHead,
}

/// Why the store did not do as it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another writer took the log over. This process must stop writing.
    #[error("another writer has taken this log over; stop this process")]
    Fenced,
    /// The commit may or may not have happened. Acquire again to find out.
    #[error("the store can't say whether the write happened ({0}); acquire again to find out")]
    Unknown(String),
    /// Nothing was written, and the lease may be used again.
    #[error("the store refused the write and changed nothing: {0}")]
    Rejected(String),
    /// A read failed.
    #[error("the store failed to read: {0}")]
    Read(String),
    /// What is stored contradicts itself or the anchor; the code says how.
    #[error("{0}")]
    Corrupt(Fault),
}

/// Durable storage of one log.
pub trait Store: Send + Sync + 'static {
    /// The right to write, until another lease fences it.
    type Lease: Send + 'static;

    /// Takes the log over and gives its newest committed head, or none where it is empty.
    fn acquire(
        &self,
    ) -> impl Future<Output = Result<(Self::Lease, Option<StoredHead>), StoreError>> + Send;

    /// Writes one step. `expected` is the size before it; another size is `Rejected`.
    fn commit(
        &self,
        lease: &mut Self::Lease,
        expected: TreeSize,
        commit: Commit,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Advances what answers may rest on to this committed head.
    fn publish(
        &self,
        lease: &mut Self::Lease,
        head: &StoredHead,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes what commits have erased unreadable in whatever the store keeps: when this returns
    /// `Ok`, no erased payload and no row that an erased value made is left in any of its files.
    /// It covers every erasure of a commit that returned `Ok` before the call, those of earlier
    /// processes among them, and costs little where none is pending. Commits go on meanwhile.
    fn scrub(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Entries `[from, from + count)`; fewer where the log ends, none where it ends before `from`.
    fn entries(
        &self,
        from: LeafIndex,
        count: u64,
    ) -> impl Future<Output = Result<Vec<[u8; ENTRY_BYTES]>, StoreError>> + Send;

    /// A record's payload, or what an erasure left of it; none where none ever was.
    fn payload(
        &self,
        index: LeafIndex,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// The sealed batch stored under this index; none where none ever was.
    fn batch(
        &self,
        first: LeafIndex,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// A full tile; none where it was never stored, as it is while the tile is not full.
    fn tile(
        &self,
        level: u8,
        index: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// The smallest stored head of at least this size; none where the log has not grown so far.
    fn head_at_least(
        &self,
        size: TreeSize,
    ) -> impl Future<Output = Result<Option<StoredHead>, StoreError>> + Send;

    /// Where a stream's record stands; none where there is none of this seq.
    fn by_stream(
        &self,
        stream: StreamId,
        seq: u64,
    ) -> impl Future<Output = Result<Option<LeafIndex>, StoreError>> + Send;

    /// Where an action's records stand, ascending, the first `limit` of them: with 0, nothing.
    fn by_action(
        &self,
        tenant: &str,
        action_id: [u8; 16],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<LeafIndex>, StoreError>> + Send;

    /// Where the records of one of a tenant's lists stand that lie in `range`, the first `limit` of
    /// them (with 0, nothing): ascending, or descending with `newest_first`.
    fn listed(
        &self,
        tenant: &str,
        term: Term,
        range: Range<u64>,
        limit: usize,
        newest_first: bool,
    ) -> impl Future<Output = Result<Vec<LeafIndex>, StoreError>> + Send;

    /// Where the first policy record of a tenant with this digest stands; none where there is none.
    fn by_policy(
        &self,
        tenant: &str,
        digest: Hash,
    ) -> impl Future<Output = Result<Option<LeafIndex>, StoreError>> + Send;

    /// The states of all streams.
    fn streams(&self) -> impl Future<Output = Result<Vec<(StreamId, Vec<u8>)>, StoreError>> + Send;

    /// Stores a blob under its digest, durably. Says whether it was new; what is there already is
    /// left as it is. That the digest is the blob's is the caller's to check: a store takes it as a
    /// name.
    fn put_blob(
        &self,
        digest: Hash,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// A blob by its digest; none where it was never stored.
    fn blob(
        &self,
        digest: Hash,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;
}

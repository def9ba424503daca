//! A store between the log and its database that loses and invents derived rows, and one step of an
//! erasure.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::stream::StreamId;
use countersign_log::store::{Commit, IndexRow, Store, StoreError, StoredHead, Term};
use countersign_rocksdb::{Lease, RocksStore};

/// What it does to what passes through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Damage {
    /// One of so many rows of lists and actions is lost; 0 for none.
    pub(crate) lose: u64,
    /// One of so many records stands in lists where it doesn't belong; 0 for none.
    pub(crate) invent: u64,
    /// After so many scrubs none is done any more, as in a process that is killed before it.
    pub(crate) scrubs: Option<u64>,
}

/// See the module.
pub(crate) struct Damaged {
    inner: Arc<RocksStore>,
    damage: Damage,
    rows: AtomicU64,
    scrubbed: AtomicU64,
}

impl Damaged {
    pub(crate) fn new(inner: Arc<RocksStore>, damage: Damage) -> Self {
        Self { inner, damage, rows: AtomicU64::new(0), scrubbed: AtomicU64::new(0) }
    }

    fn spoil(&self, commit: &mut Commit) {
        let every = |n: u64, number: u64| n > 0 && number.is_multiple_of(n);
        commit.rows.retain_mut(|row| {
            let number = self.rows.fetch_add(1, Ordering::SeqCst);
            let index = match row {
                IndexRow::Lists { index, .. } | IndexRow::Action { index, .. } => index.0,
                _ => return true,
            };
            if let IndexRow::Lists { terms, .. } = row
                && every(self.damage.invent, index)
            {
                terms.extend((0..3).map(|field| Term { field, hash: [9; 8] }));
            }
            !every(self.damage.lose, number)
        });
    }
}

impl Store for Damaged {
    type Lease = Lease;

    async fn acquire(&self) -> Result<(Lease, Option<StoredHead>), StoreError> {
        self.inner.acquire().await
    }

    async fn commit(
        &self,
        lease: &mut Lease,
        expected: TreeSize,
        mut commit: Commit,
    ) -> Result<(), StoreError> {
        self.spoil(&mut commit);
        self.inner.commit(lease, expected, commit).await
    }

    async fn publish(&self, lease: &mut Lease, head: &StoredHead) -> Result<(), StoreError> {
        self.inner.publish(lease, head).await
    }

    async fn scrub(&self) -> Result<(), StoreError> {
        let scrubbed = self.scrubbed.fetch_add(1, Ordering::SeqCst);
        if self.damage.scrubs.is_some_and(|scrubs| scrubbed >= scrubs) {
            return Err(StoreError::Read("killed".to_owned()));
        }
        self.inner.scrub().await
    }

    async fn entries(
        &self,
        from: LeafIndex,
        count: u64,
    ) -> Result<Vec<[u8; ENTRY_BYTES]>, StoreError> {
        self.inner.entries(from, count).await
    }

    async fn payload(&self, index: LeafIndex) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.payload(index).await
    }

    async fn batch(&self, first: LeafIndex) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.batch(first).await
    }

    async fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.tile(level, index).await
    }

    async fn head_at_least(&self, size: TreeSize) -> Result<Option<StoredHead>, StoreError> {
        self.inner.head_at_least(size).await
    }

    async fn by_stream(&self, stream: StreamId, seq: u64) -> Result<Option<LeafIndex>, StoreError> {
        self.inner.by_stream(stream, seq).await
    }

    async fn by_action(
        &self,
        tenant: &str,
        action_id: [u8; 16],
        limit: usize,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        self.inner.by_action(tenant, action_id, limit).await
    }

    async fn listed(
        &self,
        tenant: &str,
        term: Term,
        range: Range<u64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        self.inner.listed(tenant, term, range, limit, newest_first).await
    }

    async fn by_policy(&self, tenant: &str, digest: Hash) -> Result<Option<LeafIndex>, StoreError> {
        self.inner.by_policy(tenant, digest).await
    }

    async fn streams(&self) -> Result<Vec<(StreamId, Vec<u8>)>, StoreError> {
        self.inner.streams().await
    }

    async fn put_blob(&self, digest: Hash, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.inner.put_blob(digest, bytes).await
    }

    async fn blob(&self, digest: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blob(digest).await
    }
}

//! [`RocksStore`]: the port's calls, each on the thread where it belongs.
//!
//! Point reads take microseconds and run where they are called. Whatever syncs, or may read much,
//! runs on tokio's threads for blocking work.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::stream::StreamId;
use countersign_log::store::{Commit, Store, StoreError, StoredHead, Term};

use crate::database::Database;
use crate::keys::{self, Family};
use crate::lists;
use crate::open::{self, OpenError, Opened};
use crate::scrub;
use crate::settings::Options;
use crate::writer::{Lease, Writer};

/// Entries or rows that are read where the call is made; more are read on another thread.
const INLINE_ROWS_MAX: u64 = 1_024;

/// A data directory that this process has open. Its calls need a tokio runtime around them.
pub struct RocksStore(Arc<Inner>);

struct Inner {
    // Fields drop in this order: the database is closed before the lock is given back.
    db: Database,
    writer: Writer,
    _lock: File,
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore").field("db", &self.0.db.raw().path()).finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens a data directory, or makes it where it doesn't exist. Blocks while the write-ahead log
    /// is read again, seconds at most.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let Opened { db, anchor, lock } = open::open(dir, options)?;
        Ok(Self(Arc::new(Inner { db, writer: Writer::new(anchor), _lock: lock })))
    }

    #[cfg(test)]
    pub(crate) fn writer(&self) -> &Writer {
        &self.0.writer
    }

    /// Runs a read on a thread for blocking work.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking(read, StoreError::Read).await
    }

    /// Runs a write on a thread for blocking work. It goes on when the caller stops waiting.
    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking(write, StoreError::Unknown).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
        lost: fn(String) -> StoreError,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let result = tokio::task::spawn_blocking(move || work(&inner)).await;
        result.unwrap_or_else(|_| Err(lost("its thread ended early".to_owned())))
    }
}

impl Store for RocksStore {
    type Lease = Lease;

    async fn acquire(&self) -> Result<(Lease, Option<StoredHead>), StoreError> {
        self.write(|inner| inner.writer.acquire(&inner.db)).await
    }

    async fn commit(
        &self,
        lease: &mut Lease,
        expected: TreeSize,
        commit: Commit,
    ) -> Result<(), StoreError> {
        let epoch = lease.epoch();
        self.write(move |inner| inner.writer.commit(&inner.db, epoch, expected, &commit)).await
    }

    async fn publish(&self, lease: &mut Lease, head: &StoredHead) -> Result<(), StoreError> {
        let (epoch, head) = (lease.epoch(), head.clone());
        self.write(move |inner| inner.writer.publish(&inner.db, epoch, &head)).await
    }

    async fn scrub(&self) -> Result<(), StoreError> {
        self.write(|inner| scrub::run(&inner.db)).await
    }

    async fn entries(
        &self,
        from: LeafIndex,
        count: u64,
    ) -> Result<Vec<[u8; ENTRY_BYTES]>, StoreError> {
        if count <= INLINE_ROWS_MAX {
            return self.0.db.entries(from.0, count, false);
        }
        self.read(move |inner| inner.db.entries(from.0, count, true)).await
    }

    async fn payload(&self, index: LeafIndex) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.db.get(Family::Payloads, &keys::number(index.0))
    }

    async fn batch(&self, first: LeafIndex) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.db.get(Family::Batches, &keys::number(first.0))
    }

    async fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.db.get(Family::Tiles, &keys::tile(level, index))
    }

    async fn head_at_least(&self, size: TreeSize) -> Result<Option<StoredHead>, StoreError> {
        self.0.db.head_at_least(size.0)
    }

    async fn by_stream(&self, stream: StreamId, seq: u64) -> Result<Option<LeafIndex>, StoreError> {
        self.0.db.by_stream(stream, seq)
    }

    async fn by_action(
        &self,
        tenant: &str,
        action_id: [u8; 16],
        limit: usize,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        if limit as u64 <= INLINE_ROWS_MAX {
            return self.0.db.by_action(tenant, &action_id, limit);
        }
        let tenant = tenant.to_owned();
        self.read(move |inner| inner.db.by_action(&tenant, &action_id, limit)).await
    }

    async fn listed(
        &self,
        tenant: &str,
        term: Term,
        range: Range<u64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        if limit as u64 <= INLINE_ROWS_MAX {
            return lists::read(&self.0.db, tenant, term, range, limit, newest_first);
        }
        let tenant = tenant.to_owned();
        self.read(move |inner| lists::read(&inner.db, &tenant, term, range, limit, newest_first))
            .await
    }

    async fn by_policy(&self, tenant: &str, digest: Hash) -> Result<Option<LeafIndex>, StoreError> {
        self.0.db.by_policy(tenant, &digest)
    }

    async fn streams(&self) -> Result<Vec<(StreamId, Vec<u8>)>, StoreError> {
        self.read(|inner| inner.db.streams()).await
    }

    async fn put_blob(&self, digest: Hash, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.write(move |inner| inner.writer.put_blob(&inner.db, &digest, &bytes)).await
    }

    async fn blob(&self, digest: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.db.get(Family::Blobs, &digest)
    }
}

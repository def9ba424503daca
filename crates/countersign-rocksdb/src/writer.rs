//! The write side: leases, commits, publishing.
//!
//! Writing a commit, with what is durable after each step:
//!
//! 1. Lease, size and shape are checked. Nothing is written: a fault here is `Rejected` or `Fenced`.
//! 2. One batch with everything in it goes into the write-ahead log, which is synced. A crash before
//!    its end leaves a torn record, which the next open drops: the commit was never acknowledged. A
//!    crash after it leaves the commit, whole.
//! 3. `Ok`. The anchor still names an older head; the database is ahead of it, as it may be.
//! 4. The log reads back, and publishes: the anchor names the head. From here on no database
//!    without that head is opened.
//!
//! After a write or sync that failed, nobody knows what the disk holds, and a second attempt may
//! succeed without the first one's bytes. So this process writes nothing more.

use std::sync::{Mutex, MutexGuard};

use countersign_core::encoding::escaped;
use countersign_core::hash::{Hash, TreeSize};
use countersign_log::store::{Commit, IndexRow, StoreError, StoredHead};
use rocksdb::{WriteBatch, WriteOptions};

use crate::anchor::{Anchor, Anchored, NOTE_BYTES_MAX};
use crate::database::Database;
use crate::keys::{self, Family, TILE_BYTES};
use crate::lists::{Additions, Removals};
use crate::open::{check_history, parse_own};
use crate::scrub;

/// Bytes that one commit may have in payloads, batches and streams together.
pub const COMMIT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The right to write, until a later lease fences it.
#[derive(Debug)]
pub struct Lease(u64);

impl Lease {
    pub(crate) fn epoch(&self) -> u64 {
        self.0
    }
}

/// Everything that writes, in one place; one call at a time.
pub(crate) struct Writer(Mutex<State>);

pub(crate) struct State {
    epoch: u64,
    size: TreeSize,
    origin: Option<String>,
    pub(crate) anchor: Anchor,
    poisoned: Option<String>,
}

impl Writer {
    pub(crate) fn new(anchor: Anchor) -> Self {
        let (epoch, size) = (0, TreeSize(0));
        Self(Mutex::new(State { epoch, size, origin: None, anchor, poisoned: None }))
    }

    /// The state, unless a write has failed.
    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.0.lock().map_err(|_| poisoned("a write panicked"))?;
        match &state.poisoned {
            Some(cause) => Err(poisoned(cause)),
            None => Ok(state),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    pub(crate) fn acquire(&self, db: &Database) -> Result<(Lease, Option<StoredHead>), StoreError> {
        let mut state = self.state()?;
        let head = check_history(db, Some(&state.anchor))?;
        let newest = head.as_ref().map(parse_own).transpose()?;
        state.epoch += 1;
        state.size = head.as_ref().map_or(TreeSize(0), |head| head.size);
        state.origin = newest.map(|head| head.origin);
        Ok((Lease(state.epoch), head))
    }

    pub(crate) fn commit(
        &self,
        db: &Database,
        epoch: u64,
        expected: TreeSize,
        commit: &Commit,
    ) -> Result<(), StoreError> {
        let mut state = self.state()?;
        state.fence(epoch)?;
        let head = state.accepts(expected, commit).map_err(StoreError::Rejected)?;
        let batch = batch_of(db, expected, commit).map_err(StoreError::Rejected)?;
        write(db, batch).map_err(|error| state.poison("commit", error.as_ref()))?;
        state.size = commit.head.size;
        state.origin = Some(head.checkpoint().origin.clone());
        Ok(())
    }

    pub(crate) fn publish(
        &self,
        db: &Database,
        epoch: u64,
        head: &StoredHead,
    ) -> Result<(), StoreError> {
        let mut state = self.state()?;
        state.fence(epoch)?;
        let new = anchored(head)?;
        if head.size.0 < state.anchor.size() {
            return Err(StoreError::Rejected(format!(
                "a head of size {} is published already",
                state.anchor.size()
            )));
        }
        let committed = db.head(head.size.0)?.map(|stored| parse_own(&stored)).transpose()?;
        let body = new.checkpoint().body();
        if committed.is_none_or(|committed| committed.body() != body) {
            let size = head.size.0;
            return Err(StoreError::Rejected(format!("no such head of size {size} is committed")));
        }
        if state.anchor.head().is_some_and(|old| old.as_str() == head.note) {
            return Ok(());
        }
        match state.anchor.advance(new) {
            Ok(()) => Ok(()),
            Err(error) => Err(state.poison("anchor", &error.to_string())),
        }
    }

    pub(crate) fn put_blob(
        &self,
        db: &Database,
        digest: &Hash,
        bytes: &[u8],
    ) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        if bytes.len() > COMMIT_BYTES_MAX {
            return Err(StoreError::Rejected(format!("a blob of {} bytes", bytes.len())));
        }
        if db.has(Family::Blobs, digest)? {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(db.family(Family::Blobs), digest, bytes);
        write(db, batch).map_err(|error| state.poison("blob", error.as_ref()))?;
        Ok(true)
    }
}

impl State {
    fn fence(&self, epoch: u64) -> Result<(), StoreError> {
        if epoch == self.epoch { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Lets every later write fail, and says why this one did.
    fn poison(&mut self, what: &str, detail: &str) -> StoreError {
        let cause = format!("writing the {what} failed: {}", escaped(detail));
        tracing::error!(cause, "the store takes nothing more until a new process opens it");
        self.poisoned = Some(cause.clone());
        StoreError::Unknown(cause)
    }

    /// Checks a commit against the log's size and itself, and parses its head.
    fn accepts(&self, expected: TreeSize, commit: &Commit) -> Result<Anchored, String> {
        let (size, count) = (self.size.0, commit.entries.len());
        if expected.0 != size {
            return Err(format!("the log has {size} entries and not {}", expected.0));
        }
        if count == 0 || commit.payloads.len() != count {
            return Err(format!("{count} entries with {} payloads", commit.payloads.len()));
        }
        let after = u64::try_from(count).ok().and_then(|count| size.checked_add(count));
        if after != Some(commit.head.size.0) {
            let head = commit.head.size.0;
            return Err(format!("a head of size {head} over {size} and {count} entries"));
        }
        if let Some(erased) = commit.erased.iter().find(|erased| erased.index.0 >= size) {
            return Err(format!("an erasure of entry {}, which is not there yet", erased.index.0));
        }
        if let Some(tile) = commit.tiles.iter().find(|tile| tile.hashes.len() != TILE_BYTES) {
            return Err(format!("a tile of {} bytes", tile.hashes.len()));
        }
        let opaque = commit.payloads.iter().map(Vec::len);
        let opaque = opaque.chain(commit.batches.iter().map(|(_, bytes)| bytes.len()));
        let opaque = opaque.chain(commit.streams.iter().map(|(_, bytes)| bytes.len()));
        let opaque = opaque.chain(commit.erased.iter().map(|erased| erased.payload.len()));
        if opaque.fold(0, usize::saturating_add) > COMMIT_BYTES_MAX {
            return Err(format!("more than {COMMIT_BYTES_MAX} bytes in one commit"));
        }
        let head = Anchored::of(&commit.head).ok_or_else(|| not_a_head(&commit.head))?;
        if self.origin.as_ref().is_some_and(|origin| *origin != head.checkpoint().origin) {
            return Err("a head of another origin".to_owned());
        }
        Ok(head)
    }
}

fn poisoned(cause: &str) -> StoreError {
    StoreError::Unknown(format!(
        "the store is poisoned since {cause}; only a new process may open it again"
    ))
}

fn not_a_head(head: &StoredHead) -> String {
    format!(
        "a head's note must be a checkpoint of its size {} in at most {NOTE_BYTES_MAX} bytes",
        head.size.0
    )
}

fn anchored(head: &StoredHead) -> Result<Anchored, StoreError> {
    Anchored::of(head).ok_or_else(|| StoreError::Rejected(not_a_head(head)))
}

/// Everything of a commit in one batch, family by family, so that neighbours are written together.
fn batch_of(db: &Database, expected: TreeSize, commit: &Commit) -> Result<WriteBatch, String> {
    let mut batch = WriteBatch::default();
    let entries = db.family(Family::Entries);
    for (index, entry) in (expected.0..).zip(&commit.entries) {
        batch.put_cf(entries, keys::number(index), entry);
    }
    let payloads = db.family(Family::Payloads);
    for (index, payload) in (expected.0..).zip(&commit.payloads) {
        batch.put_cf(payloads, keys::number(index), payload);
    }
    for (first, sealed) in &commit.batches {
        batch.put_cf(db.family(Family::Batches), keys::number(first.0), sealed);
    }
    for tile in &commit.tiles {
        batch.put_cf(db.family(Family::Tiles), keys::tile(tile.level, tile.index), &tile.hashes);
    }
    for (stream, state) in &commit.streams {
        batch.put_cf(db.family(Family::Streams), stream.0, state);
    }
    put_rows(db, &mut batch, &commit.rows, expected.0)?;
    erase(db, &mut batch, commit)?;
    let note = commit.head.note.as_bytes();
    batch.put_cf(db.family(Family::Heads), keys::number(commit.head.size.0), note);
    Ok(batch)
}

/// Rows of the derived indexes. Lists are joined for all records from `first` on.
pub(crate) fn put_rows(
    db: &Database,
    batch: &mut WriteBatch,
    rows: &[IndexRow],
    first: u64,
) -> Result<(), String> {
    let by_stream = db.family(Family::ByStream);
    let by_action = db.family(Family::ByAction);
    let by_policy = db.family(Family::ByPolicy);
    let mut lists = Additions::new(first);
    for row in rows {
        match row {
            IndexRow::Stream { stream, seq, index } => {
                batch.put_cf(by_stream, keys::by_stream(*stream, *seq), keys::number(index.0));
            }
            IndexRow::Action { tenant, action_id, index } => {
                let prefix = keys::action_prefix(tenant, action_id).ok_or_else(too_long)?;
                batch.put_cf(by_action, keys::join(prefix, index.0), []);
            }
            IndexRow::Lists { tenant, terms, index } => lists.add(tenant, terms, *index),
            IndexRow::Policy { tenant, digest, index } => {
                let prefix = keys::policy_prefix(tenant, digest).ok_or_else(too_long)?;
                batch.put_cf(by_policy, keys::join(prefix, index.0), []);
            }
        }
    }
    lists.write(db, batch)
}

fn too_long() -> String {
    "a tenant's name of more than 65,535 bytes".to_owned()
}

/// What a commit erases: payloads are replaced, and records leave the lists of erased values.
fn erase(db: &Database, batch: &mut WriteBatch, commit: &Commit) -> Result<(), String> {
    let mut lists = Removals::default();
    for erased in &commit.erased {
        let index = erased.index.0;
        batch.put_cf(db.family(Family::Payloads), keys::number(index), &erased.payload);
        for term in &erased.leaves {
            lists.remove(db, &erased.tenant, *term, index)?;
        }
        if let Some(action) = &erased.leaves_action {
            let prefix = keys::action_prefix(&erased.tenant, action).ok_or_else(too_long)?;
            batch.delete_cf(db.family(Family::ByAction), keys::join(prefix, index));
        }
    }
    lists.write(db, batch);
    scrub::mark(db, batch, commit)
}

/// Writes a batch into the write-ahead log and syncs it.
pub(crate) fn write(db: &Database, batch: WriteBatch) -> Result<(), rocksdb::Error> {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.raw().write_opt(batch, &options)
}

#[cfg(test)]
mod tests {
    use countersign_log::store::Store as _;
    use countersign_testkit::scribe::Scribe;

    use super::*;
    use crate::{Options, RocksStore};

    /// An anchor that can't be written: what was acknowledged stays, and nothing more is taken.
    #[tokio::test]
    async fn a_failed_anchor_poisons() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut scribe = Scribe::new("writer.example/log", 1);
        let store = RocksStore::open(dir.path(), &Options::default()).unwrap();
        let (mut lease, _) = store.acquire().await.unwrap();
        let (expected, commit) = (scribe.size(), scribe.commit(2));
        let head = commit.head.clone();
        store.commit(&mut lease, expected, commit).await.unwrap();
        let anchor = dir.path().join("anchor");
        store.writer().with_state(|state| state.anchor.break_file(&anchor));
        let answer = store.publish(&mut lease, &head).await;
        assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");

        let (expected, commit) = (scribe.size(), scribe.commit(1));
        for answer in [
            store.commit(&mut lease, expected, commit).await,
            store.publish(&mut lease, &head).await,
            store.acquire().await.map(drop),
            store.put_blob([1; 32], Vec::new()).await.map(drop),
        ] {
            assert!(
                matches!(&answer, Err(StoreError::Unknown(why)) if why.contains("poisoned")),
                "{answer:?}"
            );
        }
        drop(store);
        let store = RocksStore::open(dir.path(), &Options::default()).unwrap();
        let (mut lease, found) = store.acquire().await.unwrap();
        assert_eq!(found.as_ref(), Some(&head));
        store.publish(&mut lease, &head).await.unwrap();
    }
}

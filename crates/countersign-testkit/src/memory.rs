//! The `Store` port in memory, with faults as arguments.
//!
//! Every writing call checks its arguments, then asks [`Faults`] what becomes of it. Once a call
//! has answered `Unknown` its lease is lost: whoever goes on with it is told `Fenced`, so that a log
//! that doesn't acquire again shows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use countersign_core::codes::{Code, Fault};
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::note::SignedCheckpoint;
use countersign_core::stream::StreamId;
use countersign_log::store::{Commit, IndexRow, Store, StoreError, StoredHead, Term};

use crate::faults::{Faults, Injected, Write};

/// What outlives a process. Its members are open, so that a test may damage them.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Entries by index.
    pub entries: Vec<[u8; ENTRY_BYTES]>,
    /// Payloads by index.
    pub payloads: BTreeMap<u64, Vec<u8>>,
    /// Sealed batches by the index of their first entry.
    pub batches: BTreeMap<u64, Vec<u8>>,
    /// Full tiles by level and index.
    pub tiles: BTreeMap<(u8, u64), Vec<u8>>,
    /// Notes of heads by size.
    pub heads: BTreeMap<u64, String>,
    /// States of streams.
    pub streams: BTreeMap<StreamId, Vec<u8>>,
    /// Indexes by stream and seq.
    pub by_stream: BTreeMap<(StreamId, u64), u64>,
    /// Tenant, action and index.
    pub by_action: BTreeSet<(String, [u8; 16], u64)>,
    /// Tenant, list and index.
    pub lists: BTreeSet<(String, Term, u64)>,
    /// Tenant, digest of a policy version and index.
    pub by_policy: BTreeSet<(String, Hash, u64)>,
    /// Blobs by digest.
    pub blobs: BTreeMap<Hash, Vec<u8>>,
    /// The published head.
    pub published: Option<StoredHead>,
    /// What was erased and not scrubbed: the payloads as they were.
    pub remains: Vec<Vec<u8>>,
    // The lease that may write.
    epoch: u64,
}

/// A store in memory. [`MemoryStore::reopen`] is what a new process would see.
#[derive(Debug)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
    faults: Mutex<Faults>,
    poisons: bool,
    poisoned: AtomicBool,
}

/// The right to write to a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryLease(u64);

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Faults::none())
    }
}

impl MemoryStore {
    /// An empty store whose writes fail as `faults` says.
    pub fn new(faults: Faults) -> Self {
        Self::on(Arc::default(), faults)
    }

    fn on(disk: Arc<Mutex<Disk>>, faults: Faults) -> Self {
        Self { disk, faults: Mutex::new(faults), poisons: false, poisoned: AtomicBool::new(false) }
    }

    /// After an `Unknown`, nothing can be written until the store is reopened, as with RocksDB.
    #[must_use]
    pub fn poisoning(self) -> Self {
        Self { poisons: true, ..self }
    }

    /// The store as a new process finds it, without faults. Older leases are fenced.
    #[must_use]
    pub fn reopen(&self) -> Self {
        self.disk().epoch += 1;
        Self::on(Arc::clone(&self.disk), Faults::none())
    }

    /// From here on, writes fail as `faults` says.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults() = faults;
    }

    /// Writes that came as far as asking whether they fail, and how many did.
    pub fn writes_and_fired(&self) -> (u64, u64) {
        let faults = self.faults();
        (faults.writes(), faults.fired())
    }

    /// Looks at what is stored, or damages it.
    pub fn with_disk<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        act(&mut self.disk())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no thread panics while it holds the disk")
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("no thread panics while it holds the faults")
    }

    /// Checks, then writes, unless a fault stands in between.
    fn write<T>(
        &self,
        write: Write,
        check: impl FnOnce(&Disk) -> Result<(), StoreError>,
        apply: impl FnOnce(&mut Disk) -> T,
    ) -> Result<T, StoreError> {
        let mut disk = self.disk();
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(StoreError::Unknown("the store is poisoned; reopen it".to_owned()));
        }
        check(&disk)?;
        let unknown = |disk: &mut Disk| {
            disk.epoch += 1;
            self.poisoned.store(self.poisons, Ordering::SeqCst);
            Err(StoreError::Unknown("as the test asked".to_owned()))
        };
        match self.faults().next(write) {
            None => Ok(apply(&mut disk)),
            Some(Injected::Persisted) => {
                apply(&mut disk);
                unknown(&mut disk)
            }
            Some(Injected::Lost) => unknown(&mut disk),
            Some(Injected::Rejected) => Err(StoreError::Rejected("as the test asked".to_owned())),
            Some(Injected::Fenced) => {
                disk.epoch += 1;
                Err(StoreError::Fenced)
            }
        }
    }
}

impl Disk {
    /// The size of the log.
    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    fn fence(&self, lease: &MemoryLease) -> Result<(), StoreError> {
        if lease.0 == self.epoch { Ok(()) } else { Err(StoreError::Fenced) }
    }

    fn newest(&self) -> Option<StoredHead> {
        self.heads
            .last_key_value()
            .map(|(size, note)| StoredHead { size: TreeSize(*size), note: note.clone() })
    }

    /// Holds what is stored against the published head.
    fn check(&self) -> Result<(), StoreError> {
        let corrupt = |code: Code| Err(StoreError::Corrupt(Fault::from(code)));
        if self.newest().map_or(0, |head| head.size.0) != self.size() {
            return corrupt(Code::StoreCorrupt);
        }
        let Some(published) = &self.published else { return Ok(()) };
        if self.size() < published.size.0 {
            return corrupt(Code::AnchorAhead);
        }
        let stored = self.heads.get(&published.size.0);
        if stored.is_some_and(|note| body_of(note).is_some() && body_of(note) == published.body()) {
            Ok(())
        } else {
            corrupt(Code::AnchorDiffers)
        }
    }

    fn accepts(&self, expected: TreeSize, commit: &Commit) -> Result<(), StoreError> {
        let count = commit.entries.len() as u64;
        let fault = if expected.0 != self.size() {
            "another size"
        } else if count == 0 {
            "no entries"
        } else if commit.payloads.len() as u64 != count {
            "not one payload an entry"
        } else if commit.head.size.0 != expected.0 + count {
            "a head of another size"
        } else if commit.erased.iter().any(|erased| erased.index.0 >= expected.0) {
            "an erasure of what is not there"
        } else if commit.tiles.iter().any(|tile| tile.hashes.len() != 8_192) {
            "a tile that is not full"
        } else if commit.head.body().is_none() {
            "a head that is no checkpoint of its size"
        } else if self.newest().is_some_and(|head| head.origin() != commit.head.origin()) {
            "a head of another origin"
        } else {
            return Ok(());
        };
        Err(StoreError::Rejected(fault.to_owned()))
    }

    fn apply(&mut self, commit: &Commit) {
        let first = self.size();
        self.payloads.extend((first..).zip(commit.payloads.iter().cloned()));
        self.entries.extend(&commit.entries);
        self.batches.extend(commit.batches.iter().map(|(index, bytes)| (index.0, bytes.clone())));
        let tiles = commit.tiles.iter();
        self.tiles.extend(tiles.map(|tile| ((tile.level, tile.index), tile.hashes.clone())));
        self.streams.extend(commit.streams.iter().cloned());
        for row in commit.rows.iter().cloned() {
            match row {
                IndexRow::Stream { stream, seq, index } => {
                    self.by_stream.insert((stream, seq), index.0);
                }
                IndexRow::Action { tenant, action_id, index } => {
                    self.by_action.insert((tenant, action_id, index.0));
                }
                IndexRow::Lists { tenant, terms, index } => {
                    let rows = terms.into_iter().map(|term| (tenant.clone(), term, index.0));
                    self.lists.extend(rows);
                }
                IndexRow::Policy { tenant, digest, index } => {
                    self.by_policy.insert((tenant, digest, index.0));
                }
            }
        }
        for erased in &commit.erased {
            let index = erased.index.0;
            self.remains.extend(self.payloads.insert(index, erased.payload.clone()));
            for term in &erased.leaves {
                self.lists.remove(&(erased.tenant.clone(), *term, index));
            }
            if let Some(action) = erased.leaves_action {
                self.by_action.remove(&(erased.tenant.clone(), action, index));
            }
        }
        self.heads.insert(commit.head.size.0, commit.head.note.clone());
    }

    fn may_publish(&self, head: &StoredHead) -> Result<(), StoreError> {
        let published = self.published.as_ref().map_or(0, |published| published.size.0);
        let stored = self.heads.get(&head.size.0).and_then(|note| body_of(note));
        if head.size.0 < published {
            Err(StoreError::Rejected("a larger head is published".to_owned()))
        } else if stored.is_none() || stored != head.body() {
            Err(StoreError::Rejected("no such head is committed".to_owned()))
        } else {
            Ok(())
        }
    }
}

fn body_of(note: &str) -> Option<String> {
    SignedCheckpoint::parse(note).ok().map(|checkpoint| checkpoint.body().to_owned())
}

/// What a head's note says.
trait Says {
    /// The signed text, where the note is a checkpoint of the head's size.
    fn body(&self) -> Option<String>;
    fn origin(&self) -> Option<String>;
}

impl Says for StoredHead {
    fn body(&self) -> Option<String> {
        let checkpoint = SignedCheckpoint::parse(&self.note).ok()?;
        (checkpoint.size == self.size).then(|| checkpoint.body().to_owned())
    }

    fn origin(&self) -> Option<String> {
        SignedCheckpoint::parse(&self.note).ok().map(|checkpoint| checkpoint.origin)
    }
}

impl Store for MemoryStore {
    type Lease = MemoryLease;

    async fn acquire(&self) -> Result<(MemoryLease, Option<StoredHead>), StoreError> {
        self.write(Write::Acquire, Disk::check, |disk| {
            disk.epoch += 1;
            (MemoryLease(disk.epoch), disk.newest())
        })
    }

    async fn commit(
        &self,
        lease: &mut MemoryLease,
        expected: TreeSize,
        commit: Commit,
    ) -> Result<(), StoreError> {
        let check = |disk: &Disk| {
            disk.fence(lease)?;
            disk.accepts(expected, &commit)
        };
        self.write(Write::Commit, check, |disk| disk.apply(&commit))
    }

    async fn publish(&self, lease: &mut MemoryLease, head: &StoredHead) -> Result<(), StoreError> {
        let check = |disk: &Disk| {
            disk.fence(lease)?;
            disk.may_publish(head)
        };
        self.write(Write::Publish, check, |disk| disk.published = Some(head.clone()))
    }

    async fn scrub(&self) -> Result<(), StoreError> {
        // What has nothing to do writes nothing.
        if self.disk().remains.is_empty() {
            return Ok(());
        }
        self.write(Write::Scrub, |_| Ok(()), |disk| disk.remains.clear())
    }

    async fn entries(
        &self,
        from: LeafIndex,
        count: u64,
    ) -> Result<Vec<[u8; ENTRY_BYTES]>, StoreError> {
        let skip = usize::try_from(from.0).unwrap_or(usize::MAX);
        let take = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(self.disk().entries.iter().skip(skip).take(take).copied().collect())
    }

    async fn payload(&self, index: LeafIndex) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk().payloads.get(&index.0).cloned())
    }

    async fn batch(&self, first: LeafIndex) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk().batches.get(&first.0).cloned())
    }

    async fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk().tiles.get(&(level, index)).cloned())
    }

    async fn head_at_least(&self, size: TreeSize) -> Result<Option<StoredHead>, StoreError> {
        let disk = self.disk();
        let found = disk.heads.range(size.0..).next();
        Ok(found.map(|(size, note)| StoredHead { size: TreeSize(*size), note: note.clone() }))
    }

    async fn by_stream(&self, stream: StreamId, seq: u64) -> Result<Option<LeafIndex>, StoreError> {
        Ok(self.disk().by_stream.get(&(stream, seq)).copied().map(LeafIndex))
    }

    async fn by_action(
        &self,
        tenant: &str,
        action_id: [u8; 16],
        limit: usize,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        let (first, last) =
            ((tenant.to_owned(), action_id, 0), (tenant.to_owned(), action_id, u64::MAX));
        let disk = self.disk();
        let rows = disk.by_action.range(first..=last).take(limit);
        Ok(rows.map(|(_, _, index)| LeafIndex(*index)).collect())
    }

    async fn listed(
        &self,
        tenant: &str,
        term: Term,
        range: Range<u64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let row = |index: u64| (tenant.to_owned(), term, index);
        let disk = self.disk();
        let rows = disk.lists.range(row(range.start)..row(range.end));
        let rows = rows.map(|(_, _, index)| LeafIndex(*index));
        Ok(if newest_first { rows.rev().take(limit).collect() } else { rows.take(limit).collect() })
    }

    async fn by_policy(&self, tenant: &str, digest: Hash) -> Result<Option<LeafIndex>, StoreError> {
        let first = (tenant.to_owned(), digest, 0);
        let last = (tenant.to_owned(), digest, u64::MAX);
        let disk = self.disk();
        let found = disk.by_policy.range(first..=last).next();
        Ok(found.map(|(_, _, index)| LeafIndex(*index)))
    }

    async fn streams(&self) -> Result<Vec<(StreamId, Vec<u8>)>, StoreError> {
        let disk = self.disk();
        Ok(disk.streams.iter().map(|(stream, state)| (*stream, state.clone())).collect())
    }

    async fn put_blob(&self, digest: Hash, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.write(
            Write::PutBlob,
            |_| Ok(()),
            |disk| {
                let new = !disk.blobs.contains_key(&digest);
                disk.blobs.entry(digest).or_insert(bytes);
                new
            },
        )
    }

    async fn blob(&self, digest: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk().blobs.get(&digest).cloned())
    }
}

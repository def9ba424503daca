//! Typed reads of the database. What comes back has the shape that `keys.rs` draws, or is a fault.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::stream::StreamId;
use countersign_log::store::{StoreError, StoredHead};
use rocksdb::{ColumnFamily, DB, DBRawIterator, ErrorKind, ReadOptions};

use crate::keys::{self, Family};
use crate::settings::{self, Options};

/// An open database.
pub(crate) struct Database(DB);

/// How long reading the list of files may take: it has at most 16 MiB.
const LIST_SECONDS_MAX: u64 = 20;

/// The families that the list of files names.
///
/// Some damage to that list (one flipped bit was enough) makes RocksDB read it for ever. So it is
/// read in a thread of its own, which is left to itself where it does not come back: whoever is
/// refused ends soon.
fn list_families(path: &Path, options: &Options) -> Result<Option<Vec<String>>, rocksdb::Error> {
    let (done, listed) = mpsc::channel();
    let (path, db) = (path.to_owned(), settings::database(options, false));
    // Nobody waits for what comes too late.
    std::thread::spawn(move || drop(done.send(DB::list_cf(&db, path))));
    listed.recv_timeout(Duration::from_secs(LIST_SECONDS_MAX)).ok().transpose()
}

/// What a look at a database finds.
pub(crate) enum Look {
    /// A database with all its families, open so that nothing in it is changed.
    Whole(Database),
    /// It lacks nothing but families that are derived, as after a rebuild that was interrupted. Those
    /// that are there are open, so that nothing in it is changed.
    LackingDerived(Database),
    /// It lacks a family, as a database does whose making was interrupted, or whose list of files
    /// was lost.
    Lacking,
    /// Its list of files can't be read to its end.
    Endless,
}

impl Database {
    /// Opens it for writing; `create` makes it where it doesn't exist.
    pub(crate) fn open(
        path: &Path,
        options: &Options,
        create: bool,
    ) -> Result<Self, rocksdb::Error> {
        let db = settings::database(options, create);
        DB::open_cf_descriptors(&db, path, settings::families(options)).map(Self)
    }

    /// Looks at it without changing anything.
    pub(crate) fn look(path: &Path, options: &Options) -> Result<Look, rocksdb::Error> {
        let Some(present) = list_families(path, options)? else { return Ok(Look::Endless) };
        let is_there = |family: &Family| present.iter().any(|name| name == family.name());
        let lacking: Vec<Family> = Family::ALL.into_iter().filter(|f| !is_there(f)).collect();
        if !lacking.iter().all(|family| Family::DERIVED.contains(family)) {
            return Ok(Look::Lacking);
        }
        let db = settings::database(options, false);
        let families = settings::families(options).into_iter();
        let families = families.filter(|family| present.iter().any(|name| name == family.name()));
        let view = Self(DB::open_cf_descriptors_read_only(&db, path, families, false)?);
        Ok(if lacking.is_empty() { Look::Whole(view) } else { Look::LackingDerived(view) })
    }

    /// Opens a database that may lack derived families for writing, and makes those.
    pub(crate) fn open_lacking(path: &Path, options: &Options) -> Result<Self, rocksdb::Error> {
        let mut db = settings::database(options, false);
        db.create_missing_column_families(true);
        DB::open_cf_descriptors(&db, path, settings::families(options)).map(Self)
    }

    /// Drops everything in a family.
    pub(crate) fn make_anew(
        &mut self,
        family: Family,
        options: &rocksdb::Options,
    ) -> Result<(), rocksdb::Error> {
        self.0.drop_cf(family.name())?;
        self.0.create_cf(family.name(), options)
    }

    /// Whether the derived rows are being made again.
    pub(crate) fn is_reindexing(&self) -> Result<bool, StoreError> {
        self.has(Family::Meta, keys::REINDEX_KEY)
    }

    pub(crate) fn raw(&self) -> &DB {
        &self.0
    }

    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        self.0
            .cf_handle(family.name())
            .unwrap_or_else(|| unreachable!("bad math in database: all families were opened"))
    }

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get_cf(self.family(family), key).map_err(read_error)
    }

    pub(crate) fn has(&self, family: Family, key: &[u8]) -> Result<bool, StoreError> {
        let value = self.0.get_pinned_cf(self.family(family), key).map_err(read_error)?;
        Ok(value.is_some())
    }

    /// A table that is missing from `path`, or has another length than the list of files says.
    /// RocksDB itself would notice only when it comes to read from it.
    pub(crate) fn damaged_table(&self, path: &Path) -> Result<Option<String>, rocksdb::Error> {
        let is_whole = |name: &str, size: usize| {
            let found = std::fs::metadata(path.join(name.trim_start_matches('/')));
            found.is_ok_and(|found| found.len() == size as u64)
        };
        let tables = self.0.live_files()?;
        let damaged = tables.into_iter().find(|table| !is_whole(&table.name, table.size));
        Ok(damaged.map(|table| table.name))
    }

    /// The format version it was made with; none where its making never came to an end.
    pub(crate) fn version(&self) -> Result<Option<u32>, StoreError> {
        let Some(bytes) = self.get(Family::Meta, keys::VERSION_KEY)? else { return Ok(None) };
        let bytes: [u8; 4] = bytes.try_into().map_err(|_| corrupt(Code::StoreCorrupt))?;
        Ok(Some(u32::from_be_bytes(bytes)))
    }

    /// The index of the last entry.
    pub(crate) fn last_entry(&self) -> Result<Option<u64>, StoreError> {
        let mut rows = self.0.raw_iterator_cf(self.family(Family::Entries));
        rows.seek_to_last();
        let Some((key, _)) = row(&rows)? else { return Ok(None) };
        keys::whole_number(key).map(Some).ok_or_else(|| corrupt(Code::StoreCorrupt))
    }

    /// The newest committed head.
    pub(crate) fn newest_head(&self) -> Result<Option<StoredHead>, StoreError> {
        let mut rows = self.0.raw_iterator_cf(self.family(Family::Heads));
        rows.seek_to_last();
        row(&rows)?.map(|(key, note)| head(key, note)).transpose()
    }

    /// The head of exactly this size.
    pub(crate) fn head(&self, size: u64) -> Result<Option<StoredHead>, StoreError> {
        let key = keys::number(size);
        let note = self.0.get_pinned_cf(self.family(Family::Heads), key).map_err(read_error)?;
        note.map(|note| head(&key, &note)).transpose()
    }

    /// The smallest head of at least this size.
    pub(crate) fn head_at_least(&self, size: u64) -> Result<Option<StoredHead>, StoreError> {
        let mut rows = self.0.raw_iterator_cf(self.family(Family::Heads));
        rows.seek(keys::number(size));
        row(&rows)?.map(|(key, note)| head(key, note)).transpose()
    }

    /// Entries `[from, from + count)`, fewer where the log ends. `once` says that they are read
    /// only once, so that they don't push out of the cache what is read often.
    pub(crate) fn entries(
        &self,
        from: u64,
        count: u64,
        once: bool,
    ) -> Result<Vec<[u8; ENTRY_BYTES]>, StoreError> {
        let mut entries = Vec::new();
        if count == 0 {
            return Ok(entries);
        }
        let end = from.saturating_add(count);
        let mut options = ReadOptions::default();
        options.fill_cache(!once);
        options.set_iterate_upper_bound(keys::number(end).to_vec());
        let mut rows = self.0.raw_iterator_cf_opt(self.family(Family::Entries), options);
        rows.seek(keys::number(from));
        let mut index = from;
        while let Some((key, value)) = row(&rows)? {
            let missing = || StoreError::Corrupt(Code::StoreCorrupt.at_index(index));
            if keys::whole_number(key) != Some(index) {
                return Err(missing());
            }
            entries.push(value.try_into().map_err(|_| missing())?);
            index += 1;
            rows.next();
        }
        Ok(entries)
    }

    /// Where a stream's record stands.
    pub(crate) fn by_stream(
        &self,
        stream: StreamId,
        seq: u64,
    ) -> Result<Option<LeafIndex>, StoreError> {
        let value = self
            .0
            .get_pinned_cf(self.family(Family::ByStream), keys::by_stream(stream, seq))
            .map_err(read_error)?;
        let index = value.map(|value| {
            keys::whole_number(&value).ok_or_else(|| corrupt(Code::StoreCorrupt)).map(LeafIndex)
        });
        index.transpose()
    }

    /// Where an action's records stand, ascending.
    pub(crate) fn by_action(
        &self,
        tenant: &str,
        action_id: &[u8; 16],
        limit: usize,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        let Some(prefix) = keys::action_prefix(tenant, action_id) else { return Ok(Vec::new()) };
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let rows = self.0.raw_iterator_cf_opt(self.family(Family::ByAction), options);
        indexes(rows, &prefix, &keys::join(prefix.clone(), 0), prefix.len() + 8, limit)
    }

    /// Where the first policy record of a tenant with this digest stands.
    pub(crate) fn by_policy(
        &self,
        tenant: &str,
        digest: &Hash,
    ) -> Result<Option<LeafIndex>, StoreError> {
        let Some(prefix) = keys::policy_prefix(tenant, digest) else { return Ok(None) };
        let rows = self.0.raw_iterator_cf(self.family(Family::ByPolicy));
        let found = indexes(rows, &prefix, &keys::join(prefix.clone(), 0), prefix.len() + 8, 1)?;
        Ok(found.first().copied())
    }

    /// The states of all streams.
    pub(crate) fn streams(&self) -> Result<Vec<(StreamId, Vec<u8>)>, StoreError> {
        let mut rows = self.0.raw_iterator_cf(self.family(Family::Streams));
        rows.seek_to_first();
        let mut streams = Vec::new();
        while let Some((key, value)) = row(&rows)? {
            let stream = keys::whole_stream(key).ok_or_else(|| corrupt(Code::StoreCorrupt))?;
            streams.push((stream, value.to_vec()));
            rows.next();
        }
        Ok(streams)
    }

    /// The newest head, after checking that it covers exactly the entries there are.
    pub(crate) fn whole_head(&self) -> Result<Option<StoredHead>, StoreError> {
        let head = self.newest_head()?;
        let entries = self.last_entry()?.map_or(0, |last| last.saturating_add(1));
        let covered = head.as_ref().map_or(0, |head| head.size.0);
        if entries == covered {
            Ok(head)
        } else {
            Err(StoreError::Corrupt(Code::StoreCorrupt.at_index(entries.min(covered))))
        }
    }
}

/// The indexes at the end of the keys of an index, from `start` on, while they have this prefix.
fn indexes(
    mut rows: DBRawIterator<'_>,
    prefix: &[u8],
    start: &[u8],
    key_bytes: usize,
    limit: usize,
) -> Result<Vec<LeafIndex>, StoreError> {
    let mut found = Vec::new();
    rows.seek(start);
    while found.len() < limit {
        let Some((key, _)) = row(&rows)? else { break };
        if !key.starts_with(prefix) {
            break;
        }
        let index = keys::last_number(key).filter(|_| key.len() == key_bytes);
        found.push(LeafIndex(index.ok_or_else(|| corrupt(Code::StoreCorrupt))?));
        rows.next();
    }
    Ok(found)
}

/// A key and its value.
pub(crate) type Row<'a> = (&'a [u8], &'a [u8]);

/// The row that an iterator stands on. Its end and a failure look alike until it is asked.
pub(crate) fn row<'a>(rows: &'a DBRawIterator<'_>) -> Result<Option<Row<'a>>, StoreError> {
    let row = rows.item();
    if row.is_none() {
        rows.status().map_err(read_error)?;
    }
    Ok(row)
}

fn head(key: &[u8], note: &[u8]) -> Result<StoredHead, StoreError> {
    let size = keys::whole_number(key).ok_or_else(|| corrupt(Code::StoreCorrupt))?;
    let note = String::from_utf8(note.to_vec())
        .map_err(|_| StoreError::Corrupt(Code::StoreCorrupt.at_field("head")))?;
    Ok(StoredHead { size: TreeSize(size), note })
}

pub(crate) fn corrupt(code: Code) -> StoreError {
    StoreError::Corrupt(Fault::from(code))
}

/// A failed read. What RocksDB calls corruption becomes a code, and its detail goes to the log.
// By value, so that `map_err` takes its name.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn read_error(error: rocksdb::Error) -> StoreError {
    let detail = escaped(error.as_ref());
    if error.kind() == ErrorKind::Corruption {
        tracing::error!(detail, "the database is damaged");
        return corrupt(Code::StoreCorrupt);
    }
    StoreError::Read(detail)
}

//! Making the derived rows again, from entries and payloads, with the ledger stopped.
//!
//! What is on disk after each step, and so after a crash at any point:
//!
//! 1. The mark `reindex` in `meta`, synced. From here on the database is not opened but by this.
//! 2. The families `by_…` are dropped and made anew, empty. One may be missing in between, and the
//!    next attempt makes it.
//! 3. Rows, written without a sync, and then flushed. A crash leaves some of them.
//! 4. The mark is taken away, synced. All rows are there.
//!
//! Whoever runs it again begins at step 1.

use std::path::Path;

use countersign_core::codes::Fault;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::LeafIndex;
use countersign_log::store::{Deriver, StoreError};
use rocksdb::{WriteBatch, WriteOptions};

use crate::database::Database;
use crate::keys::{self, Family, REINDEX_KEY};
use crate::open::{OpenError, Opened, open_to_reindex};
use crate::scrub::flush;
use crate::settings::{self, Options};
use crate::writer::{put_rows, write};

/// Records whose rows are written at once.
const CHUNK: u64 = 1_024;

/// Why the rows can't be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReindexError {
    /// The data directory can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed, or what the rows derive from is damaged.
    #[error("{0}; mend that and begin again")]
    Store(#[from] StoreError),
}

impl From<Fault> for ReindexError {
    fn from(fault: Fault) -> Self {
        Self::Store(StoreError::Corrupt(fault))
    }
}

/// Drops every derived row and makes it again from the log. The directory must hold a log, and no
/// process may have it open. `progress` is told how many records are done, and of how many. Gives
/// their number.
///
/// # Errors
///
/// [`ReindexError::Open`] as [`RocksStore::open`](crate::RocksStore::open), but for
/// `REINDEX_NEEDED`, which this mends; [`ReindexError::Store`] where the database fails, or an entry
/// or payload can't be read (`STORE_CORRUPT` with its index).
pub fn reindex(
    dir: &Path,
    options: &Options,
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, ReindexError> {
    let Opened { mut db, .. } = open_to_reindex(dir, options)?;
    let size = db.newest_head()?.map_or(0, |head| head.size.0);
    let deriver = Deriver::new(&db.streams()?)?;
    let mut mark = WriteBatch::default();
    mark.put_cf(db.family(Family::Meta), REINDEX_KEY, []);
    write(&db, mark).map_err(|error| failed(&error))?;
    for family in Family::DERIVED {
        db.make_anew(family, &settings::one(family, options)).map_err(|error| failed(&error))?;
    }
    let mut done = 0;
    while done < size {
        progress(done, size);
        let count = CHUNK.min(size - done);
        chunk(&db, &deriver, done, count)?;
        done += count;
    }
    flush(&db).map_err(|error| failed(&error))?;
    let mut mark = WriteBatch::default();
    mark.delete_cf(db.family(Family::Meta), REINDEX_KEY);
    write(&db, mark).map_err(|error| failed(&error))?;
    progress(size, size);
    Ok(size)
}

/// Makes the rows of `count` records.
fn chunk(db: &Database, deriver: &Deriver, from: u64, count: u64) -> Result<(), ReindexError> {
    let entry_at = |index: LeafIndex| -> Result<Option<[u8; ENTRY_BYTES]>, ReindexError> {
        Ok(db.entries(index.0, 1, true)?.first().copied())
    };
    let mut rows = Vec::new();
    for (index, entry) in (from..).zip(db.entries(from, count, true)?) {
        let corrupt = countersign_core::codes::Code::StoreCorrupt.at_index(index);
        let payload = db.get(Family::Payloads, &keys::number(index))?.ok_or(corrupt)?;
        rows.extend(deriver.rows(LeafIndex(index), &entry, &payload, entry_at)?);
    }
    let mut batch = WriteBatch::default();
    put_rows(db, &mut batch, &rows, from).map_err(StoreError::Rejected)?;
    // Not durable one by one: without the mark's end, all of them are made again.
    let unsynced = WriteOptions::default();
    db.raw().write_opt(batch, &unsynced).map_err(|error| failed(&error))?;
    Ok(())
}

fn failed(error: &rocksdb::Error) -> StoreError {
    crate::database::read_error(error.clone())
}

//! Making unreadable what was erased.
//!
//! An erased payload is overwritten by the commit that says so, and RocksDB keeps the older value in
//! memory, in its write-ahead log and in its tables until it has reason to drop it. What this does,
//! with what a crash after each step leaves:
//!
//! 1. The commit leaves a mark, in the same batch. Whoever opens the database next finds it.
//! 2. All families are flushed: tables hold the newest values only, and the write-ahead logs that
//!    held the older ones are deleted. The mark stands.
//! 3. Every table that may hold an older value is written anew without it. The mark stands.
//! 4. The mark is taken away, synced.
//!
//! What is out of reach: blocks that the file system has freed and not overwritten, snapshots and
//! backups of the disk, and other copies.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::codes::Code;
use countersign_core::encoding::{escaped, lp};
use countersign_log::store::{Commit, StoreError};
use rocksdb::{BottommostLevelCompaction, CompactOptions, FlushOptions, WriteBatch};

use crate::database::{Database, corrupt, read_error, row};
use crate::keys::{self, Family};
use crate::writer::write;

/// How often, and how far apart, one looks whether replaced files are deleted: 30 seconds in all.
const GONE_TRIES: u32 = 3_000;
const GONE_WAIT: Duration = Duration::from_millis(10);

/// Erased records further apart than this are in stretches of their own.
const STRETCH_GAP: u64 = 1_024;

/// What one commit erased.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    tenant: Vec<u8>,
    stretches: Vec<(u64, u64)>,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.tenant.clone();
        for (first, last) in &self.stretches {
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&last.to_be_bytes());
        }
        out
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let length = usize::from(u16::from_be_bytes(*value.first_chunk()?));
        let (tenant, rest) = value.split_at_checked(2 + length)?;
        let (pairs, rest) = rest.as_chunks::<16>();
        let stretches = pairs.iter().filter_map(|pair| {
            Some((keys::whole_number(pair.get(..8)?)?, keys::whole_number(pair.get(8..)?)?))
        });
        let stretches = stretches.collect();
        rest.is_empty().then_some(Self { tenant: tenant.to_vec(), stretches })
    }
}

/// Adds a commit's mark to its batch, where it erases something.
pub(crate) fn mark(db: &Database, batch: &mut WriteBatch, commit: &Commit) -> Result<(), String> {
    let mut indexes: Vec<(&str, u64)> =
        commit.erased.iter().map(|erased| (erased.tenant.as_str(), erased.index.0)).collect();
    indexes.sort_unstable();
    for (number, of_tenant) in (0_u16..).zip(indexes.chunk_by(|a, b| a.0 == b.0)) {
        let Some((tenant, _)) = of_tenant.first() else { continue };
        let tenant = lp(tenant).ok_or("a tenant's name of more than 65,535 bytes")?;
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for (_, index) in of_tenant {
            match stretches.last_mut() {
                Some((_, last)) if index - *last <= STRETCH_GAP => *last = *index,
                _ => stretches.push((*index, *index)),
            }
        }
        let mut key = keys::join(keys::SCRUB_PREFIX.to_vec(), commit.head.size.0);
        key.extend_from_slice(&number.to_be_bytes());
        batch.put_cf(db.family(Family::Meta), key, Mark { tenant, stretches }.encode());
    }
    Ok(())
}

/// Scrubs what every mark names, and takes the marks away.
pub(crate) fn run(db: &Database) -> Result<(), StoreError> {
    let marks = marks(db)?;
    let Some((key, first)) = marks.first() else { return Ok(()) };
    let folder = db.raw().path().to_owned();
    let mut old = files(&folder, "log")?;
    // A flush of nothing would go on with the same write-ahead log.
    let mut again = WriteBatch::default();
    again.put_cf(db.family(Family::Meta), key, first.encode());
    write(db, again).map_err(|error| failed(&error))?;
    flush(db).map_err(|error| failed(&error))?;
    let ranges = ranges(&marks);
    let tables = tables(db, &ranges)?;
    for (family, range) in &ranges {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        let (first, end) = (Some(&range.start), Some(&range.end));
        db.raw().compact_range_cf_opt(db.family(*family), first, end, &options);
    }
    old.extend(tables.iter().map(|name| folder.join(name.trim_start_matches('/'))));
    gone(&old)?;
    let mut batch = WriteBatch::default();
    for (key, _) in &marks {
        batch.delete_cf(db.family(Family::Meta), key);
    }
    write(db, batch).map_err(|error| failed(&error))?;
    tracing::info!(erasures = marks.len(), "what was erased is gone from the database's files");
    Ok(())
}

/// The keys, family by family, whose older values must go.
fn ranges(marks: &[(Vec<u8>, Mark)]) -> Vec<(Family, Range<Vec<u8>>)> {
    let mut ranges = Vec::new();
    for (_, mark) in marks {
        for (first, last) in &mark.stretches {
            let (first, end) = (keys::number(*first), keys::number(last.saturating_add(1)));
            ranges.push((Family::Payloads, first.to_vec()..end.to_vec()));
        }
        let end = keys::after_prefix(&mark.tenant).unwrap_or_default();
        for family in [Family::ByField, Family::ByAction] {
            ranges.push((family, mark.tenant.clone()..end.clone()));
        }
    }
    ranges
}

/// The tables that may hold one of these keys.
fn tables(db: &Database, ranges: &[(Family, Range<Vec<u8>>)]) -> Result<Vec<String>, StoreError> {
    let files = db.raw().live_files().map_err(|error| failed(&error))?;
    let touched = |file: &rocksdb::LiveFile| {
        ranges.iter().any(|(family, range)| {
            file.column_family_name == family.name()
                && file.start_key.as_ref().is_none_or(|first| *first < range.end)
                && file.end_key.as_ref().is_none_or(|last| *last >= range.start)
        })
    };
    Ok(files.into_iter().filter(touched).map(|file| file.name).collect())
}

/// The files in a folder that end so.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, StoreError> {
    let io = |error: std::io::Error| StoreError::Read(escaped(&error.to_string()));
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).map_err(io)? {
        let path = file.map_err(io)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Waits until none of these files is there: RocksDB deletes what it has replaced in the background,
/// and a little later where somebody reads from it. RocksDB's call says nothing of a rewriting that
/// failed, and so a file that stays is what tells.
fn gone(old: &[PathBuf]) -> Result<(), StoreError> {
    for _ in 0..GONE_TRIES {
        let left = old.iter().find(|path| path.exists());
        let Some(left) = left else { return Ok(()) };
        tracing::debug!(file = %left.display(), "waiting until a replaced file is deleted");
        std::thread::sleep(GONE_WAIT);
    }
    Err(StoreError::Read("files that hold erased values are still there".to_owned()))
}

fn marks(db: &Database) -> Result<Vec<(Vec<u8>, Mark)>, StoreError> {
    let mut rows = db.raw().raw_iterator_cf(db.family(Family::Meta));
    rows.seek(keys::SCRUB_PREFIX);
    let mut marks = Vec::new();
    while let Some((key, value)) = row(&rows)? {
        if !key.starts_with(keys::SCRUB_PREFIX) {
            break;
        }
        let mark = Mark::decode(value).ok_or_else(|| corrupt(Code::StoreCorrupt))?;
        marks.push((key.to_vec(), mark));
        rows.next();
    }
    Ok(marks)
}

/// Flushes every family at once, which ends the write-ahead logs so far.
pub(crate) fn flush(db: &Database) -> Result<(), rocksdb::Error> {
    let mut options = FlushOptions::default();
    options.set_wait(true);
    let families: Vec<_> = Family::ALL.into_iter().map(|family| db.family(family)).collect();
    db.raw().flush_cfs_opt(&families, &options)
}

fn failed(error: &rocksdb::Error) -> StoreError {
    tracing::error!(%error, "erasing from the database's files failed");
    read_error(error.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_and_cut_ones_do_not() {
        let mark = Mark { tenant: lp("acme").unwrap(), stretches: vec![(1, 2), (5_000, 5_000)] };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Some(mark));
        assert_eq!(Mark::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Mark::decode(&[0]), None);
    }
}

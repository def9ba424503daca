//! The rows of `by_field`: lists of indexes, a stretch a row (drawn in `keys.rs`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use countersign_core::codes::{Code, Fault};
use countersign_core::hash::LeafIndex;
use countersign_log::store::{StoreError, Term};
use rocksdb::{ReadOptions, WriteBatch};

use crate::database::{Database, corrupt, row};
use crate::keys::{self, Family};

/// Indexes that one row holds.
const ROW_MAX: usize = 1_024;

/// Writes the indexes that follow the first.
fn encode(first: u64, rest: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rest.len());
    let mut before = first;
    for index in rest {
        let mut left = index.saturating_sub(before);
        while left >= 0x80 {
            let [low, ..] = left.to_le_bytes();
            out.push(low | 0x80);
            left >>= 7;
        }
        let [low, ..] = left.to_le_bytes();
        out.push(low);
        before = *index;
    }
    out
}

/// The indexes of a row, ascending; none where it is not as `encode` writes it.
fn decode(key: &[u8], value: &[u8]) -> Option<Vec<u64>> {
    let mut last = keys::last_number(key)?;
    let mut indexes = vec![last];
    let (mut distance, mut shift) = (0_u64, 0_u32);
    for byte in value {
        let low = u64::from(byte & 0x7f);
        distance |= low.checked_shl(shift).filter(|part| part >> shift == low)?;
        shift += 7;
        if byte & 0x80 == 0 {
            last = last.checked_add(distance).filter(|_| distance > 0)?;
            indexes.push(last);
            if indexes.len() > ROW_MAX {
                return None;
            }
            (distance, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(indexes)
}

/// The indexes of a list that lie in `range`, at most `limit` of them.
pub(crate) fn read(
    db: &Database,
    tenant: &str,
    term: Term,
    range: Range<u64>,
    limit: usize,
    newest_first: bool,
) -> Result<Vec<LeafIndex>, StoreError> {
    let mut found = Vec::new();
    let prefix = keys::list_prefix(tenant, term);
    let (Some(prefix), false) = (prefix, limit == 0 || range.is_empty()) else {
        return Ok(found);
    };
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(prefix.clone());
    if let Some(after) = keys::after_prefix(&prefix) {
        options.set_iterate_upper_bound(after);
    }
    let mut rows = db.raw().raw_iterator_cf_opt(db.family(Family::ByField), options);
    if newest_first {
        rows.seek_for_prev(keys::join(prefix.clone(), range.end - 1));
    } else {
        // The row that begins before the range may reach into it.
        rows.seek_for_prev(keys::join(prefix.clone(), range.start));
        if row(&rows)?.is_none() {
            rows.seek(&prefix);
        }
    }
    while let Some((key, value)) = row(&rows)? {
        let whole = key.len() == prefix.len() + 8;
        let indexes = decode(key, value).filter(|_| whole);
        let indexes = indexes.ok_or_else(|| corrupt(Code::StoreCorrupt))?;
        let (first, last) = (indexes.first().copied(), indexes.last().copied());
        let room = limit - found.len();
        let inside = |index: &u64| range.contains(index);
        if newest_first {
            found.extend(indexes.into_iter().rev().filter(inside).take(room).map(LeafIndex));
        } else {
            found.extend(indexes.into_iter().filter(inside).take(room).map(LeafIndex));
        }
        let past = if newest_first {
            first.is_none_or(|first| first <= range.start)
        } else {
            last.is_none_or(|last| last >= range.end - 1)
        };
        if past || found.len() == limit {
            break;
        }
        if newest_first {
            rows.prev();
        } else {
            rows.next();
        }
    }
    Ok(found)
}

/// What a commit adds to lists.
#[derive(Debug)]
pub(crate) struct Additions<'a> {
    /// The first index whose record is new: rows of older ones stand by themselves.
    first: u64,
    lists: HashMap<(&'a str, Term), Vec<u64>>,
}

impl<'a> Additions<'a> {
    pub(crate) fn new(first: u64) -> Self {
        Self { first, lists: HashMap::new() }
    }

    pub(crate) fn add(&mut self, tenant: &'a str, terms: &[Term], index: LeafIndex) {
        for term in terms {
            self.lists.entry((tenant, *term)).or_default().push(index.0);
        }
    }

    /// Writes every list's rows.
    pub(crate) fn write(self, db: &Database, batch: &mut WriteBatch) -> Result<(), String> {
        let family = db.family(Family::ByField);
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(self.lists.len());
        for ((tenant, term), mut indexes) in self.lists {
            let prefix = keys::list_prefix(tenant, term)
                .ok_or_else(|| "a tenant's name of more than 65,535 bytes".to_owned())?;
            indexes.sort_unstable();
            indexes.dedup();
            let new = indexes.partition_point(|index| *index < self.first);
            let (old, new) = indexes.split_at(new);
            // Rows of a list of erased records come in no order, so that each has one index.
            let length = if term == Term::ERASED { 1 } else { ROW_MAX };
            for stretch in old.chunks(1).chain(new.chunks(length)) {
                if let Some((first, rest)) = stretch.split_first() {
                    rows.push((keys::join(prefix.clone(), *first), encode(*first, rest)));
                }
            }
        }
        // In the order of the keys, so that neighbours are written together.
        rows.sort_unstable();
        for (key, value) in rows {
            batch.put_cf(family, key, value);
        }
        Ok(())
    }
}

/// What a commit takes out of lists: rows as they were read, with what is left of them.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    rows: HashMap<Vec<u8>, Vec<u64>>,
}

impl Removals {
    /// Takes an index out of the row that holds it, if one does.
    pub(crate) fn remove(
        &mut self,
        db: &Database,
        tenant: &str,
        term: Term,
        index: u64,
    ) -> Result<(), String> {
        let Some(prefix) = keys::list_prefix(tenant, term) else { return Ok(()) };
        let mut rows = db.raw().raw_iterator_cf(db.family(Family::ByField));
        rows.seek_for_prev(keys::join(prefix.clone(), index));
        let fault = |fault: StoreError| fault.to_string();
        let Some((key, value)) = row(&rows).map_err(fault)? else { return Ok(()) };
        if !key.starts_with(&prefix) {
            return Ok(());
        }
        let left = match self.rows.entry(key.to_vec()) {
            Entry::Occupied(left) => left.into_mut(),
            Entry::Vacant(vacant) => {
                let indexes = decode(key, value);
                vacant.insert(indexes.ok_or_else(|| Fault::from(Code::StoreCorrupt).to_string())?)
            }
        };
        left.retain(|known| *known != index);
        Ok(())
    }

    /// Writes what is left. A row whose first index went has another key.
    pub(crate) fn write(self, db: &Database, batch: &mut WriteBatch) {
        let family = db.family(Family::ByField);
        for (key, left) in self.rows {
            match left.split_first() {
                None => batch.delete_cf(family, &key),
                Some((first, rest)) => {
                    let prefix = key.len().checked_sub(8).and_then(|end| key.get(..end));
                    let moved = keys::join(prefix.unwrap_or_default().to_vec(), *first);
                    if moved != key {
                        batch.delete_cf(family, &key);
                    }
                    batch.put_cf(family, moved, encode(*first, rest));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_other_bytes_are_none() {
        let key = |first: u64| keys::join(vec![1, 2], first);
        for rest in [vec![], vec![8], vec![8, 9, 136, 20_000, u64::MAX]] {
            let value = encode(7, &rest);
            let expected: Vec<u64> = [7].into_iter().chain(rest).collect();
            assert_eq!(decode(&key(7), &value), Some(expected));
        }
        assert_eq!(encode(7, &[8, 136]), [1, 0x80, 1]);
        for value in [&[0][..], &[0x80], &[1, 0x80], &[0xff; 11], &[1, 0]] {
            assert_eq!(decode(&key(7), value), None, "{value:?}");
        }
        assert_eq!(decode(&key(u64::MAX), &[1]), None, "an index beyond the last number");
        assert_eq!(decode(&key(7), &[1; ROW_MAX]), None);
    }
}

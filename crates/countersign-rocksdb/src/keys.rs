//! How keys are drawn. Numbers are big-endian, so that keys sort as their numbers do.
//!
//! ```text
//! family     key                                                     value
//! entries    u64 index                                               the entry, 66 bytes
//! payloads   u64 index                                               opaque, zstd
//! batches    u64 index of the first entry that names it              opaque, zstd
//! tiles      u8 level || u64 index                                   256 hashes, 8,192 bytes
//! heads      u64 size                                                the signed note
//! streams    16 stream                                               the stream's state, opaque
//! by_stream  16 stream || u64 seq                                    u64 index
//! by_action  u16 length || tenant || 16 action id || u64 index       empty
//! by_policy  u16 length || tenant || 32 digest || u64 index          empty
//! by_field   u16 length || tenant || u8 field || 8 hash || u64 index the indexes that follow
//! blobs      32 digest                                               opaque, zstd
//! meta       "version"                                               u32 format version
//! meta       "reindex"                                               empty
//! meta       "scrub" || u64 size                                     see below
//! ```
//!
//! A row of `by_field` holds what one commit adds to one list, up to 1,024 indexes: the first stands
//! in the key, and each that follows as its distance from the one before, in 7-bit groups, low ones
//! first. An index that a commit adds for an older record, one that is erased, has a row to itself.
//! So the rows of a list never reach into one another, but for lists of erased records, whose rows
//! have one index each.
//!
//! `reindex` is there while the rows of `by_…` are being made again: a database that has it is not
//! opened. `scrub` is there while something that the commit up to that size erased may still be in a
//! file; its value is the tenant's name, with its length before it, and pairs of u64: the first and
//! the last index of each stretch of erased records.
//!
//! The version is written when a database is made, after its anchor; a database of another version
//! is refused.

use countersign_core::encoding::lp;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::Hash;
use countersign_core::stream::StreamId;
use countersign_log::store::Term;

/// The one version of keys and anchor that this build reads and writes. Version 1 had no
/// `by_policy`, version 2 a `by_tenant` and no `by_field`.
pub const FORMAT_VERSION: u32 = 3;

/// The key of the version in `meta`.
pub(crate) const VERSION_KEY: &[u8] = b"version";
/// The key in `meta` that says that the derived rows are being made again.
pub(crate) const REINDEX_KEY: &[u8] = b"reindex";
/// What the keys in `meta` begin with that say what is to be scrubbed.
pub(crate) const SCRUB_PREFIX: &[u8] = b"scrub";

/// Bytes of a full tile.
pub(crate) const TILE_BYTES: usize = 8_192;

const INDEX_BYTES: usize = size_of::<u64>();
const TILE_KEY_BYTES: usize = 1 + INDEX_BYTES;
const STREAM_KEY_BYTES: usize = size_of::<StreamId>() + INDEX_BYTES;

// The sizes that the format fixes. Whoever changes one of them makes a new version.
const _: () = assert!(ENTRY_BYTES == 66);
const _: () = assert!(INDEX_BYTES == 8);
const _: () = assert!(TILE_KEY_BYTES == 9);
const _: () = assert!(STREAM_KEY_BYTES == 24);
const _: () = assert!(TILE_BYTES == 256 * 32);

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Entries,
    Payloads,
    Batches,
    Tiles,
    Heads,
    Streams,
    ByStream,
    ByAction,
    ByPolicy,
    ByField,
    Blobs,
    Meta,
}

impl Family {
    pub(crate) const ALL: [Self; 12] = [
        Self::Entries,
        Self::Payloads,
        Self::Batches,
        Self::Tiles,
        Self::Heads,
        Self::Streams,
        Self::ByStream,
        Self::ByAction,
        Self::ByPolicy,
        Self::ByField,
        Self::Blobs,
        Self::Meta,
    ];

    /// What `reindex` makes again from entries and payloads.
    pub(crate) const DERIVED: [Self; 4] =
        [Self::ByStream, Self::ByAction, Self::ByPolicy, Self::ByField];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Payloads => "payloads",
            Self::Batches => "batches",
            Self::Tiles => "tiles",
            Self::Heads => "heads",
            Self::Streams => "streams",
            Self::ByStream => "by_stream",
            Self::ByAction => "by_action",
            Self::ByPolicy => "by_policy",
            Self::ByField => "by_field",
            Self::Blobs => "blobs",
            Self::Meta => "meta",
        }
    }
}

/// The key of an entry, payload, batch or head.
pub(crate) fn number(n: u64) -> [u8; INDEX_BYTES] {
    n.to_be_bytes()
}

/// The key of a tile.
pub(crate) fn tile(level: u8, index: u64) -> [u8; TILE_KEY_BYTES] {
    let mut key = [level; TILE_KEY_BYTES];
    for (to, from) in key.iter_mut().skip(1).zip(index.to_be_bytes()) {
        *to = from;
    }
    key
}

/// The key of a stream's record.
pub(crate) fn by_stream(stream: StreamId, seq: u64) -> [u8; STREAM_KEY_BYTES] {
    let mut key = [0; STREAM_KEY_BYTES];
    for (to, from) in key.iter_mut().zip(stream.0.into_iter().chain(seq.to_be_bytes())) {
        *to = from;
    }
    key
}

/// What the keys of an action's records begin with; none where the tenant's name can't be written.
pub(crate) fn action_prefix(tenant: &str, action_id: &[u8; 16]) -> Option<Vec<u8>> {
    let mut key = lp(tenant)?;
    key.extend_from_slice(action_id);
    Some(key)
}

/// What the keys of one of a tenant's lists begin with; none where the tenant's name can't be
/// written.
pub(crate) fn list_prefix(tenant: &str, term: Term) -> Option<Vec<u8>> {
    let mut key = lp(tenant)?;
    key.push(term.field);
    key.extend_from_slice(&term.hash);
    Some(key)
}

/// The least key that is greater than every key with this prefix; none where there is no such key.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut after = prefix.to_vec();
    while let Some(last) = after.pop() {
        if let Some(next) = last.checked_add(1) {
            after.push(next);
            return Some(after);
        }
    }
    None
}

/// What the keys of a policy version's records begin with; none where the tenant's name can't be
/// written.
pub(crate) fn policy_prefix(tenant: &str, digest: &Hash) -> Option<Vec<u8>> {
    let mut key = lp(tenant)?;
    key.extend_from_slice(digest);
    Some(key)
}

/// A prefix and the number that follows it.
pub(crate) fn join(mut prefix: Vec<u8>, n: u64) -> Vec<u8> {
    prefix.extend_from_slice(&n.to_be_bytes());
    prefix
}

/// The number that a whole key or value is; none where it has another length.
pub(crate) fn whole_number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// The number that a key ends with.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().copied().map(u64::from_be_bytes)
}

/// An action's key without the index: what its bloom filter is made of.
pub(crate) fn action_of(key: &[u8]) -> &[u8] {
    key.len().checked_sub(INDEX_BYTES).and_then(|end| key.get(..end)).unwrap_or(key)
}

/// The stream that a whole key is.
pub(crate) fn whole_stream(key: &[u8]) -> Option<StreamId> {
    key.try_into().ok().map(StreamId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_the_format_draws_them() {
        assert_eq!(number(0x0102), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(tile(3, 0x0405), [3, 0, 0, 0, 0, 0, 0, 4, 5]);
        let stream = by_stream(StreamId([7; 16]), 9);
        assert_eq!(stream[..16], [7; 16]);
        assert_eq!(stream[16..], [0, 0, 0, 0, 0, 0, 0, 9]);
        let action = join(action_prefix("ab", &[5; 16]).unwrap(), 6);
        let mut drawn = vec![0, 2, b'a', b'b'];
        drawn.extend([5; 16]);
        assert_eq!(action_of(&action), drawn);
        drawn.extend([0, 0, 0, 0, 0, 0, 0, 6]);
        assert_eq!(action, drawn);
        let term = Term { field: 3, hash: [4; 8] };
        let list = join(list_prefix("ab", term).unwrap(), 2);
        assert_eq!(list, [0, 2, 97, 98, 3, 4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(last_number(&list), Some(2));
        assert_eq!(after_prefix(&[1, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(&[0xff, 0xff]), None);
        let policy = join(policy_prefix("ab", &[5; 32]).unwrap(), 6);
        let mut drawn = vec![0, 2, b'a', b'b'];
        drawn.extend([5; 32]);
        drawn.extend([0, 0, 0, 0, 0, 0, 0, 6]);
        assert_eq!(policy, drawn);
    }

    #[test]
    fn keys_of_another_length_are_no_numbers() {
        assert_eq!(whole_number(&[0; 7]), None);
        assert_eq!(whole_number(&[0; 9]), None);
        assert_eq!(last_number(&[0; 7]), None);
        assert_eq!(whole_stream(&[0; 15]), None);
        assert_eq!(action_of(&[1; 3]), [1; 3]);
        let term = Term { field: 0, hash: [0; 8] };
        assert_eq!(list_prefix(&"t".repeat(65_536), term), None);
    }
}

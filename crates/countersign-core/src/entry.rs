//! The 66 bytes that the log's leaf holds (spec/entry.md).

use crate::codes::{Code, Fault};
use crate::encoding::Micros;
use crate::hash::{LeafHash, Sealed};
use crate::kinds::Kind;
use crate::merkle::leaf_hash;
use crate::stream::StreamId;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 66;
/// The one version there is.
pub const ENTRY_VERSION: u8 = 1;

/// An entry of the log:
/// `u8 version || u8 kind || u64 logged_at_us || 16 stream || u64 seq || 32 sealed`, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the record is about.
    pub kind: Kind,
    /// The ledger's clock when it was sequenced; never decreasing along the log.
    pub logged_at: Micros,
    /// The stream that the record belongs to.
    pub stream: StreamId,
    /// Its place in the stream.
    pub seq: u64,
    /// The commitment to record and seal.
    pub sealed: Sealed,
}

impl Entry {
    /// The entry's bytes (ENT-1).
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let parts = [ENTRY_VERSION, self.kind.number()]
            .into_iter()
            .chain(self.logged_at.0.to_be_bytes())
            .chain(self.stream.0)
            .chain(self.seq.to_be_bytes())
            .chain(self.sealed.0);
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    /// Reads an entry; an unknown version or kind is named as such, so that a verifier can say
    /// "indeterminate" and not "invalid" (ENT-2).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().map_err(|_| Code::EntryLength)?;
        let [version, kind, rest @ ..] = bytes;
        if *version != ENTRY_VERSION {
            return Err(Code::EntryVersion.into());
        }
        let kind = Kind::from_number(*kind).ok_or(Code::EntryKind)?;
        let (logged_at, rest) = take::<8>(rest);
        let (stream, rest) = take::<16>(rest);
        let (seq, rest) = take::<8>(rest);
        let (sealed, _) = take::<32>(rest);
        Ok(Self {
            kind,
            logged_at: Micros(u64::from_be_bytes(logged_at)),
            stream: StreamId(stream),
            seq: u64::from_be_bytes(seq),
            sealed: Sealed(sealed),
        })
    }

    /// The entry's leaf in the log tree.
    pub fn leaf(&self) -> LeafHash {
        leaf_hash(&self.to_bytes())
    }
}

/// The first `N` bytes and the rest; the caller's array is long enough by its type.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes
        .split_first_chunk::<N>()
        .map_or_else(|| unreachable!("bad math in entry"), |(head, rest)| (*head, rest))
}

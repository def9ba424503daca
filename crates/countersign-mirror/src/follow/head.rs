//! Heads that a follower believes: signed by the log, cosigned by its clock (FOL-1).

use countersign_core::codes::{Code, Fault};
use countersign_core::hash::{RootHash, TreeSize};
use countersign_core::merkle::empty_root;
use countersign_core::note::SignedCheckpoint;
use countersign_core::trust::Trust;
use countersign_core::verify::TrustedHead;

/// A head of the log that is followed, under the trust file. Only [`Head::believe`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    checkpoint: SignedCheckpoint,
    clock_seconds: Option<u64>,
}

impl Head {
    /// Reads and verifies a note: of this origin, signed by a key of it that is not revoked, with a
    /// clock's cosignature where the trust file names clocks. A known key's line that fails is a
    /// fault, a witness's included.
    pub fn believe(note: &str, origin: &str, trust: &Trust) -> Result<Self, Fault> {
        let checkpoint = SignedCheckpoint::parse(note)?;
        if checkpoint.origin != origin {
            return Err(Code::OriginUnknown.into());
        }
        // The empty tree has one root.
        if checkpoint.size.0 == 0 && checkpoint.root != empty_root() {
            return Err(Code::ConsistencyMismatch.into());
        }
        let trusted = TrustedHead::check(&checkpoint, trust)?;
        if let Some(code) = trusted.doubt(&checkpoint, trust)? {
            return Err(code.into());
        }
        let clock_seconds = trusted.clock_seconds;
        if trusted.clocks_known && clock_seconds.is_none() {
            return Err(Code::ClockAbsent.into());
        }
        Ok(Self { checkpoint, clock_seconds })
    }

    /// The signed note.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Entries that it covers.
    pub fn size(&self) -> TreeSize {
        self.checkpoint.size
    }

    /// The tree's root.
    pub fn root(&self) -> &RootHash {
        &self.checkpoint.root
    }

    /// The latest time of a clock's cosignature, in seconds since the epoch; none where the trust
    /// file names no clock.
    pub fn seconds(&self) -> Option<u64> {
        self.clock_seconds
    }

    /// Whether both have times, and this one's is later.
    pub(crate) fn is_later_than(&self, other: &Self) -> bool {
        matches!((self.clock_seconds, other.clock_seconds), (Some(this), Some(that)) if this > that)
    }
}

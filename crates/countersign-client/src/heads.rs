//! Heads whose signatures were verified.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::hash::{RootHash, TreeSize};
use countersign_core::note::{SignedCheckpoint, VerifierKey};

/// Notes that are remembered as verified. Answers of one moment share their head, repeats of one
/// batch theirs, and a few of those may be in flight together.
const CACHE_MAX: usize = 8;

/// A head of the configured origin, signed by the log, and by its clock where one is configured.
/// Only the client makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHead {
    checkpoint: SignedCheckpoint,
    clock_seconds: Option<u64>,
}

impl VerifiedHead {
    /// The signed note.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Entries that it covers.
    pub fn size(&self) -> TreeSize {
        self.checkpoint.size
    }

    /// The tree's root.
    pub fn root(&self) -> RootHash {
        self.checkpoint.root
    }

    /// The latest time, in seconds since the epoch, of a configured clock's cosignature; `None`
    /// where no clock is configured.
    pub fn clock_seconds(&self) -> Option<u64> {
        self.clock_seconds
    }

    /// Whether the clock's word is not before the time of an entry that the head covers (VER-10).
    pub(crate) fn check_time(&self, logged_at: Micros) -> Result<(), Fault> {
        match self.clock_seconds {
            Some(seconds) if seconds < logged_at.seconds() => Err(Code::ClockBeforeEntry.into()),
            _ => Ok(()),
        }
    }
}

/// The keys that heads are verified under, and the heads that were.
#[derive(Debug)]
pub(crate) struct Keyring {
    log: VerifierKey,
    clocks: Vec<VerifierKey>,
    cache: Mutex<VecDeque<Arc<VerifiedHead>>>,
}

impl Keyring {
    pub(crate) fn new(log: VerifierKey, clocks: Vec<VerifierKey>) -> Self {
        Self { log, clocks, cache: Mutex::default() }
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &str {
        &self.log.name
    }

    pub(crate) fn log(&self) -> &VerifierKey {
        &self.log
    }

    pub(crate) fn clocks(&self) -> &[VerifierKey] {
        &self.clocks
    }

    /// Verifies a note; the same text again costs a comparison.
    pub(crate) fn verify(&self, note: &str) -> Result<Arc<VerifiedHead>, Fault> {
        // Nothing in here panics half-way, so a poisoned lock still guards whole values.
        let known = {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.iter().find(|head| head.checkpoint.as_str() == note).cloned()
        };
        if let Some(head) = known {
            return Ok(head);
        }
        let head = Arc::new(self.verify_anew(note)?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() == CACHE_MAX {
            cache.pop_front();
        }
        cache.push_back(Arc::clone(&head));
        Ok(head)
    }

    fn verify_anew(&self, note: &str) -> Result<VerifiedHead, Fault> {
        let checkpoint = SignedCheckpoint::parse(note)?;
        if checkpoint.origin != self.log.name {
            return Err(Code::OriginUnknown.into());
        }
        checkpoint.verify_log(&self.log)?;
        let mut clock_seconds = None;
        for clock in &self.clocks {
            if let Some((_, latest)) = checkpoint.cosigned_at(clock, Code::ClockSignature)? {
                clock_seconds = clock_seconds.max(Some(latest));
            }
        }
        if clock_seconds.is_none() && !self.clocks.is_empty() {
            return Err(Code::ClockAbsent.into());
        }
        Ok(VerifiedHead { checkpoint, clock_seconds })
    }
}

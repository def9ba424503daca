//! Heads, signed by the log and cosigned by its clock, and read back again.

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::hash::{RootHash, TreeSize};
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body, sign_body,
};

use crate::api::{Head, LogKeys};

/// The log's keys with their names.
#[derive(Debug)]
pub(crate) struct Signer {
    keys: LogKeys,
    log: VerifierKey,
    clock: VerifierKey,
}

impl Signer {
    pub(crate) fn new(keys: LogKeys) -> Result<Self, Fault> {
        let origin = keys.origin.as_str();
        let log = VerifierKey::new(origin, KeyType::Note, keys.log.verifying_key().to_bytes())?;
        let clock = VerifierKey::new(
            &format!("{origin}/clock"),
            KeyType::Cosignature,
            keys.clock.verifying_key().to_bytes(),
        )?;
        Ok(Self { keys, log, clock })
    }

    pub(crate) fn keys(&self) -> &LogKeys {
        &self.keys
    }

    /// Signs a head. Its clock cosignature says `max(now, floor of the last logged_at)`, so that no
    /// entry under a head is later than the head.
    pub(crate) fn sign(
        &self,
        size: TreeSize,
        root: &RootHash,
        now: Micros,
        last_logged_at: Micros,
    ) -> Head {
        let body = checkpoint_body(&self.keys.origin, size, root);
        let seconds = now.seconds().max(last_logged_at.seconds());
        let log = sign_body(&self.log, &self.keys.log, &body);
        let clock = cosign_body(&self.clock, &self.keys.clock, seconds, &body);
        Head { size, root: *root, note: format!("{body}\n{log}{clock}") }
    }

    /// The time at which the clock cosigned this head; `None` where it didn't.
    pub(crate) fn cosigned(&self, note: &SignedCheckpoint) -> Option<Micros> {
        let (_, latest) = note.cosigned_at(&self.clock, Code::StoreCorrupt).ok()??;
        latest.checked_mul(1_000_000).map(Micros)
    }

    /// Reads a head that the store kept: it must be this log's, signed by this key.
    pub(crate) fn read(&self, size: TreeSize, note: &str) -> Result<Head, Fault> {
        let checkpoint = SignedCheckpoint::parse(note)?;
        if checkpoint.origin != self.keys.origin || checkpoint.size != size {
            return Err(Code::StoreCorrupt.at_field("head"));
        }
        checkpoint.verify_log(&self.log)?;
        Ok(Head { size, root: checkpoint.root, note: note.to_owned() })
    }
}

//! Step 6 and what step 9 asks of a head: whose signatures it carries (VER-6, VER-9, NOTE-7).

use crate::codes::{Code, Fault};
use crate::note::SignedCheckpoint;
use crate::trust::{Trust, TrustedLog};

/// A head that a trusted key of its origin signed. No known key's line on it fails.
#[derive(Clone, Debug)]
pub struct TrustedHead<'t> {
    /// The log whose key is relied on: one that is not revoked, where there is one.
    pub log: &'t TrustedLog,
    /// Whether the trust file names clocks of this origin.
    pub clocks_known: bool,
    /// The latest second at which a clock that is relied on cosigned.
    pub clock_seconds: Option<u64>,
    /// The keys that are relied on: the log's and the clocks'.
    pub keys: Vec<Vec<u8>>,
}

impl<'t> TrustedHead<'t> {
    /// Checks every line of a key that the trust file knows for this origin, whatever the order of
    /// its sections; at least one must be a log's.
    pub fn check(checkpoint: &SignedCheckpoint, trust: &'t Trust) -> Result<Self, Fault> {
        let mut signers = Vec::new();
        let mut missing = Code::OriginUnknown;
        let mut clocks = Vec::new();
        let mut clocks_known = false;
        for log in trust.logs_of(&checkpoint.origin) {
            match checkpoint.verify_log(&log.vkey) {
                Ok(()) => signers.push(log),
                // No line of this key: another one's may be there.
                Err(fault) if fault.code == Code::LogSignatureMissing => missing = fault.code,
                // A line of a known key that fails makes the note unacceptable.
                Err(fault) => return Err(fault),
            }
            for clock in &log.clocks {
                clocks_known = true;
                if let Some((_, latest)) = checkpoint.cosigned_at(clock, Code::ClockSignature)? {
                    clocks.push((clock.key, latest));
                }
            }
        }
        // Any member serves, so one that is revoked is relied on only where there is no other.
        let counts = |key: &[u8; 32]| trust.revoked_from(key).is_none();
        let unrevoked = signers.iter().find(|log| counts(&log.vkey.key));
        let log = *unrevoked.or(signers.first()).ok_or(missing)?;
        if clocks.iter().any(|(key, _)| counts(key)) {
            clocks.retain(|(key, _)| counts(key));
        }
        let keys = std::iter::once(log.vkey.key).chain(clocks.iter().map(|(key, _)| *key));
        Ok(Self {
            log,
            clocks_known,
            clock_seconds: clocks.iter().map(|(_, latest)| *latest).max(),
            keys: keys.map(|key| key.to_vec()).collect(),
        })
    }

    /// The doubt that a revoked key leaves, unless a witness quorum cosigned this head before.
    /// Witness lines are looked at here too: a known one that fails is a fault.
    pub fn doubt(
        &self,
        checkpoint: &SignedCheckpoint,
        trust: &Trust,
    ) -> Result<Option<Code>, Fault> {
        trust.quorum(checkpoint, None)?;
        trust.revocation_doubt(&self.keys, checkpoint)
    }
}

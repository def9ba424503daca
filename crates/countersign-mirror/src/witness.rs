//! A witness: C2SP tlog-witness `add-checkpoint` for any log of its configuration.
//!
//! [`Witness::add_checkpoint`] is the whole of it: bytes and a time in, a cosignature or a refusal
//! out. In between, in this order: the request is parsed ([`request`]), the log found, its
//! signature verified ([`checkpoint`]), the head held against the last one cosigned (`judge`), the
//! cosigned head made durable ([`Heads`]) and only then given out. One lock a log spans the last
//! three, so that of two requests at once the second is judged by what the first left.
//!
//! Invariants: of one log no two roots are cosigned for one size, and no size after a larger one,
//! through any crash; a head that may or may not be on the disk is the end of that log's cosigning
//! until a restart has looked.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use countersign_core::encoding::{escaped, hex};
use countersign_core::hash::{RootHash, TreeSize, sha256};
use countersign_core::note::{KeyType, VerifierKey, cosign_body};
use ed25519_dalek::SigningKey;

pub mod ask;
pub mod checkpoint;
pub mod config;
pub mod heads;
pub mod http;
mod judge;
pub mod request;

pub use self::heads::{HeadFolder, Heads};
pub use self::judge::Refusal;

use self::checkpoint::Checkpoint;
use self::config::WitnessedLog;
use self::judge::judge;
use self::request::AddCheckpoint;

/// Bytes of a stored head: what [`request`] lets in, and one cosignature.
pub const HEAD_BYTES_MAX: usize = request::REQUEST_BYTES_MAX + 1_024;

/// Why a witness can't begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name or key serves for no witness.
    #[error("the witness's name or key can't be used: {0}")]
    Key(countersign_core::codes::Fault),
    /// The witness's key is also a log's: who holds it could witness itself.
    #[error("the witness's key is also that of the log {0}; give the witness a key of its own")]
    KeyReused(String),
    /// A head can't be read.
    #[error("the last head of {origin} can't be read: {source}; check the folder and the disk")]
    Unreadable {
        /// The log.
        origin: String,
        /// Why not.
        source: io::Error,
    },
    /// A stored head is not one that this witness cosigned.
    #[error(
        "the stored head of {origin} is not one that this key cosigned ({why}); put back the file \
         or the key: without the last head the witness might cosign two histories"
    )]
    Foreign {
        /// The log.
        origin: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The last head of a log that was cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Leaves in its tree.
    pub size: TreeSize,
    /// The tree's root.
    pub root: RootHash,
    /// When, in seconds since the epoch.
    pub seconds: u64,
    /// The note: the log's signatures that were verified, and this witness's cosignature.
    pub note: String,
}

/// What is known of the last head.
#[derive(Debug)]
enum Held {
    /// It, or that there is none yet.
    Known(Option<Cosigned>),
    /// A write failed: the disk may or may not have a newer one.
    Doubtful,
}

#[derive(Debug)]
struct Slot {
    log: WitnessedLog,
    held: Mutex<Held>,
}

/// A witness of some logs.
pub struct Witness<H> {
    vkey: VerifierKey,
    key: SigningKey,
    slots: BTreeMap<String, Slot>,
    // SHA-256 of each origin in hex, as the monitoring path has it.
    by_hash: BTreeMap<String, String>,
    heads: H,
}

impl<H> std::fmt::Debug for Witness<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Witness").field("name", &self.vkey.name).finish_non_exhaustive()
    }
}

impl<H: Heads> Witness<H> {
    /// A witness under this name and key, with the last heads that `heads` holds.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]: nothing is served on top of a head that can't be believed (WITN-7).
    pub fn open(
        name: &str,
        key: SigningKey,
        logs: Vec<WitnessedLog>,
        heads: H,
    ) -> Result<Self, OpenError> {
        let public = key.verifying_key().to_bytes();
        let vkey = VerifierKey::new(name, KeyType::Cosignature, public).map_err(OpenError::Key)?;
        let (mut slots, mut by_hash) = (BTreeMap::new(), BTreeMap::new());
        for log in logs {
            let origin = log.origin.clone();
            if log.keys.iter().any(|log| log.key == public) {
                return Err(OpenError::KeyReused(escaped(&origin)));
            }
            let held = read_held(&heads, &vkey, &origin)?;
            by_hash.insert(hex(&sha256(origin.as_bytes())), origin.clone());
            slots.insert(origin, Slot { log, held: Mutex::new(Held::Known(held)) });
        }
        Ok(Self { vkey, key, slots, by_hash, heads })
    }

    /// The key that verifies its cosignatures.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// Judges a request of `add-checkpoint`, and gives the cosignature's line once the head that it
    /// is of is durable. `now` is in seconds since the epoch. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`Refusal`], which has the status codes of the protocol.
    pub fn add_checkpoint(&self, body: &[u8], now: u64) -> Result<String, Refusal> {
        let request = AddCheckpoint::parse(body).map_err(Refusal::Malformed)?;
        let checkpoint = &request.checkpoint;
        // WITN-3: an origin of the configuration, then a signature of one of its keys.
        let slot = self.slots.get(checkpoint.origin()).ok_or(Refusal::UnknownLog)?;
        let lines = checkpoint.signed_by(&slot.log.keys).map_err(|_| Refusal::Unsigned)?;
        // Whoever panicked with the lock in hand may have written: that is doubt as well.
        let mut held = slot.held.lock().map_err(|_| Refusal::Unavailable)?;
        let Held::Known(last) = &*held else { return Err(Refusal::Unavailable) };
        if let Err(refusal) = judge(last.as_ref(), &request) {
            if matches!(refusal, Refusal::Unproven(_) | Refusal::Differs(_)) {
                // Signed by the log and no continuation: it may prove that the log misbehaves.
                let last = last.as_ref().map_or(TreeSize(0), |last| last.size);
                tracing::error!(
                    origin = escaped(checkpoint.origin()),
                    size = checkpoint.size().0,
                    root = hex(&checkpoint.root().0),
                    cosigned = last.0,
                    "a signed head was not proved to continue the last one: {refusal}"
                );
            }
            return Err(refusal);
        }
        // WITN-6: a head cosigned later says a later time, or the same, whatever the clock does.
        let seconds = now.max(last.as_ref().map_or(0, |last| last.seconds));
        if seconds == 0 || i64::try_from(seconds).is_err() {
            return Err(Refusal::Unavailable);
        }
        let line = cosign_body(&self.vkey, &self.key, seconds, checkpoint.body());
        let note = format!("{}\n{lines}{line}", checkpoint.body());
        // WITN-5: until this returns well, the cosignature has never existed.
        if let Err(error) = self.heads.replace(checkpoint.origin(), &note) {
            tracing::error!(%error, "a head can't be stored: its log gets no cosignature any more");
            *held = Held::Doubtful;
            return Err(Refusal::Unavailable);
        }
        let (size, root) = (checkpoint.size(), *checkpoint.root());
        *held = Held::Known(Some(Cosigned { size, root, seconds, note }));
        Ok(line)
    }

    /// The last head cosigned of the log whose origin has this SHA-256, in lower-case hex; none where
    /// the log is not known, nothing was cosigned, or it is in doubt (WITN-8).
    pub fn checkpoint(&self, origin_hash: &str) -> Option<Cosigned> {
        self.cosigned(self.by_hash.get(origin_hash)?)
    }

    /// The last head cosigned of the log of this origin; none as above.
    pub fn cosigned(&self, origin: &str) -> Option<Cosigned> {
        let held = self.slots.get(origin)?.held.lock().ok()?;
        match &*held {
            Held::Known(last) => last.clone(),
            Held::Doubtful => None,
        }
    }

    /// The logs that it witnesses, in the order of their origins.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().map(String::as_str)
    }
}

/// The stored head of a log; disk bytes are input, and believed by the witness's own cosignature.
fn read_held<H: Heads>(
    heads: &H,
    vkey: &VerifierKey,
    origin: &str,
) -> Result<Option<Cosigned>, OpenError> {
    let shown = || escaped(origin);
    let bytes =
        heads.read(origin).map_err(|source| OpenError::Unreadable { origin: shown(), source })?;
    let Some(bytes) = bytes else { return Ok(None) };
    let foreign = |why| OpenError::Foreign { origin: shown(), why };
    let note = String::from_utf8(bytes).map_err(|_| foreign("it is no text"))?;
    let checkpoint = Checkpoint::parse(&note).map_err(foreign)?;
    if checkpoint.origin() != origin {
        return Err(foreign("it is of another log"));
    }
    let seconds = checkpoint.cosigned_by(vkey).ok_or(foreign("no cosignature of this key"))?;
    let (size, root) = (checkpoint.size(), *checkpoint.root());
    Ok(Some(Cosigned { size, root, seconds, note }))
}

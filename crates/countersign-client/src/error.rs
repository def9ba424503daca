//! What can go wrong, each with a code of the registry.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;
use countersign_core::note::SignedCheckpoint;
use countersign_core::stream::StreamId;
use countersign_proto::errors::Refusal;

/// Two heads, both signed by the log, that can't both be true: the proof of misbehaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadConflict {
    /// `HEAD_ROLLBACK` or `HEAD_FORK`.
    pub code: Code,
    /// The head that was seen before.
    pub kept: SignedCheckpoint,
    /// The head that was shown now.
    pub shown: SignedCheckpoint,
}

impl std::fmt::Display for HeadConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} {} Seen before: size {}; shown now: size {}.",
            self.code.as_str(),
            self.code.what(),
            self.code.remedy(),
            self.kept.size.0,
            self.shown.size.0
        )
    }
}

/// Why the file of the remembered head can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryFault {
    /// It can't be read or written.
    #[error("{0}; check the path and its permissions")]
    Io(#[from] std::io::Error),
    /// It holds no head of this log. Removing it forgets what this client saw, so ask first who
    /// changed it.
    #[error("it holds no head that this log signed ({0})")]
    Content(#[from] Fault),
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No answer came: a broken connection, a timeout, a proxy. Whether the call was carried out
    /// is unknown; who submitted records submits the same ones again.
    #[error("the ledger gave no answer: {detail}.")]
    Unreachable {
        /// What was met on the way, and what to do about it.
        detail: String,
    },
    /// The ledger refused the call.
    #[error("the ledger refused: {}", escaped(&.0.to_string()))]
    Refused(Refusal),
    /// The ledger answered, and the answer does not prove what it says.
    #[error("the ledger's answer can't be believed: {0}")]
    Answer(Fault),
    /// The ledger contradicts a head that it signed before. Every later call of this client gives
    /// the same error.
    #[error("{0}")]
    Head(Arc<HeadConflict>),
    /// The remembered head can't be read or written.
    #[error("the remembered head in {}: {source}", .path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: MemoryFault,
    },
    /// The client can't be set up as it was told.
    #[error("the client's configuration is wrong: {0}")]
    Config(String),
    /// A record can't be built or sealed from what was given.
    #[error("the record can't be built: {0}")]
    Record(Fault),
    /// The machine gave no random bytes, and without them no record is salted.
    #[error("the machine gives no random bytes: {0}; mend that first, nothing was sent")]
    Random(String),
    /// The time to find out was over. The records may be in the log or not.
    #[error(
        "it is not known whether {count} records from seq {first_seq} of stream {} are in the \
         log. Treat them as refused, and submit the same records again later. Last met: {last}",
        .stream.hex()
    )]
    FateUnknown {
        /// The stream.
        stream: StreamId,
        /// The first record's seq.
        first_seq: u64,
        /// How many.
        count: usize,
        /// What was met last.
        last: Box<ClientError>,
    },
    /// The stream's end moved again and again while this gate tried to write there.
    #[error(
        "stream {} moved under this gate {attempts} times: another process writes with the same \
         key and instance. Stop it, or give it another instance", .stream.hex()
    )]
    Contended {
        /// The stream.
        stream: StreamId,
        /// How often the gate sealed anew without getting a record in.
        attempts: u32,
    },
}

impl ClientError {
    /// The code of the registry.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => Code::Unreachable,
            Self::Refused(refusal) => refusal.code,
            Self::Answer(fault)
            | Self::Record(fault)
            | Self::Memory { source: MemoryFault::Content(fault), .. } => fault.code,
            Self::Head(conflict) => conflict.code,
            Self::Memory { source: MemoryFault::Io(_), .. } => Code::StoreFailed,
            Self::Config(_) => Code::ConfigInvalid,
            Self::Random(_) => Code::Internal,
            Self::FateUnknown { .. } => Code::EvidenceUnavailable,
            Self::Contended { .. } => Code::SeqGap,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => transient(refusal.code),
            _ => false,
        }
    }

    /// How long the ledger asks to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

/// Whether a refusal with this code is about the moment and not about the bytes. A poisoned ledger
/// is mended by a restart.
pub(crate) fn transient(code: Code) -> bool {
    matches!(
        code,
        Code::Overloaded
            | Code::LedgerStopping
            | Code::GateStopping
            | Code::LedgerPoisoned
            | Code::EvidenceUnavailable
    )
}

//! Whether a head continues the last one: the heart of a witness, without keys and without a disk.

use countersign_core::hash::TreeSize;
use countersign_core::merkle::{empty_root, verify_consistency};

use super::Cosigned;
use super::request::AddCheckpoint;

/// Why there is no cosignature. Each has a status code of C2SP tlog-witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: the request is not of the protocol's form; the client mends it.
    #[error("{0}")]
    Malformed(&'static str),
    /// 404: the origin is of no log of the configuration.
    #[error("this witness does not know the log")]
    UnknownLog,
    /// 403: no signature of a trusted key, or one that fails.
    #[error("no good signature of a trusted key of the log")]
    Unsigned,
    /// 409: another head was cosigned last; this is its size. The client proves from there.
    #[error("the last cosigned size is {}", .0.0)]
    Conflict(TreeSize),
    /// 409: another tree of the very size that was cosigned last, which this is. No proof mends it.
    #[error("another root was cosigned for the size {}", .0.0)]
    Differs(TreeSize),
    /// 422: it is not shown to continue the last head.
    #[error("{0}")]
    Unproven(&'static str),
    /// 500: the disk failed, or the clock shows no time; the operator looks into it.
    #[error("the witness can't cosign at present")]
    Unavailable,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Unsigned => 403,
            Self::UnknownLog => 404,
            Self::Conflict(_) | Self::Differs(_) => 409,
            Self::Unproven(_) => 422,
            Self::Unavailable => 500,
        }
    }
}

/// Holds a request against the last head cosigned, in the order of the protocol's page (WITN-4). The
/// log's signature was verified before.
pub(super) fn judge(last: Option<&Cosigned>, request: &AddCheckpoint) -> Result<(), Refusal> {
    let (old, new) = (request.old, request.checkpoint.size());
    let root = request.checkpoint.root();
    // The old size is at most the checkpoint's.
    if old > new {
        return Err(Refusal::Malformed("the old size is larger than the checkpoint's"));
    }
    // The old size is that of the head cosigned last, zero where there is none.
    let held = last.map_or(TreeSize(0), |last| last.size);
    if old != held {
        return Err(Refusal::Conflict(held));
    }
    // The empty tree has the root that RFC 6962 gives it.
    if new.0 == 0 && *root != empty_root() {
        return Err(Refusal::Unproven("the root is not that of the empty tree"));
    }
    // Any tree continues the empty one, without proof.
    let Some(last) = last.filter(|_| old.0 > 0) else {
        let bare = request.proof.is_empty();
        return if bare { Ok(()) } else { Err(Refusal::Unproven("a proof from nothing")) };
    };
    if old == new && last.root != *root {
        return Err(Refusal::Differs(held));
    }
    // The same size has the same root by now, and its proof is empty.
    verify_consistency(old, new, &last.root, root, &request.proof)
        .map_err(|_| Refusal::Unproven("the consistency proof does not hold"))
}

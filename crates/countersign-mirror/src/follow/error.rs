//! Why a log can't be followed, now or at all.

use countersign_core::codes::{Code, Fault};

use super::finding::Stopped;
use crate::source::FetchError;
use crate::storage::StorageError;
use crate::tree::TreeError;

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The head can't be had.
    #[error("{0}. Check the URL and that the log is served.")]
    Fetch(#[from] FetchError),
    /// Tiles or entries can't be had, or aren't those of the head.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The tenant's storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The head that was shown is not one to believe.
    #[error("the head that is served can't be believed: {0}")]
    Head(Fault),
    /// What is held is not a head to believe.
    #[error("{place}: {fault}")]
    Held {
        /// The file.
        place: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The log is followed no more.
    #[error("the log is followed no more. {0}")]
    Stopped(Stopped),
}

impl FollowError {
    /// Whether another try may fare better.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::Head(_) => true,
            Self::Storage(error) => !matches!(error, StorageError::Unknown(_)),
            Self::Tree(error) => !matches!(error, TreeError::Broken(_)),
            Self::Held { .. } | Self::Stopped(_) => false,
        }
    }

    /// The code of the registry.
    pub fn code(&self) -> Code {
        match self {
            Self::Fetch(_) => Code::Unreachable,
            Self::Tree(error) => error.code(),
            Self::Storage(_) => Code::StoreFailed,
            Self::Head(fault) | Self::Held { fault, .. } => fault.code,
            Self::Stopped(stopped) => stopped.code,
        }
    }
}

//! Why a call of a gate service gave nothing.

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;
use countersign_proto::errors::Refusal;

use crate::error::ClientError;

/// Why a call of a gate service gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateCallError {
    /// No answer came. Whether the call was carried out is unknown; every call of a gate may be
    /// repeated, an evaluation with the same `action_id`.
    #[error("the gate gave no answer: {detail}.")]
    Unreachable {
        /// What was met on the way, and what to do about it.
        detail: String,
    },
    /// The gate refused the call. That is not a refused action, which is an answer.
    #[error("the gate refused the call: {}", escaped(&.0.to_string()))]
    Refused(Refusal),
    /// The gate answered, and the answer's evidence does not prove what it says.
    #[error("the gate's answer can't be believed, and nothing may rest on it: {0}")]
    Answer(Fault),
    /// The client can't be set up as it was told.
    #[error("the client's configuration is wrong: {0}")]
    Config(String),
}

impl GateCallError {
    /// The code of the registry.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => Code::Unreachable,
            Self::Refused(refusal) => refusal.code,
            Self::Answer(fault) => fault.code,
            Self::Config(_) => Code::ConfigInvalid,
        }
    }
}

impl From<Fault> for GateCallError {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault)
    }
}

impl From<Code> for GateCallError {
    fn from(code: Code) -> Self {
        Self::Answer(code.into())
    }
}

impl From<ClientError> for GateCallError {
    /// Of errors on the way, which are told of a ledger, whose connection code this is.
    fn from(error: ClientError) -> Self {
        let of_gate = |text: String| {
            text.replace("countersign serve", "countersign gate").replace("ledger", "gate")
        };
        match error {
            ClientError::Unreachable { detail } => Self::Unreachable { detail: of_gate(detail) },
            ClientError::Refused(refusal) => Self::Refused(refusal),
            ClientError::Answer(fault) => Self::Answer(fault),
            other => Self::Config(of_gate(other.to_string())),
        }
    }
}

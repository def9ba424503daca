//! Codes of the registry on the wire: one function turns a [`Refusal`] into a gRPC status, one
//! reads it back.
//!
//! The code is the contract: programs branch on it, `countersign explain CODE` explains it. The
//! gRPC status code beside it is a hint to generic middleware (retry, alert, blame the caller), and
//! is chosen in [`grpc_code`] alone.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use countersign_core::codes::{Code, Culprit, Fault};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::v1;

/// Domain of every `google.rpc.ErrorInfo` that a ledger sends.
pub const DOMAIN: &str = "countersign";

/// Key of the `ErrorInfo` metadata that holds the seq a stream expects next, in decimal.
const EXPECTED_SEQ: &str = "expected_seq";

/// How long a caller waits after what [`Refusal::new`] gives a time to, when nobody said otherwise.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_millis(250);

/// A fault as the wire carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Code of the registry.
    pub code: Code,
    /// What was at fault and what to do, in a sentence for people.
    pub message: String,
    /// The seq that the stream expects next, where the code has one to tell.
    pub expected_seq: Option<u64>,
    /// How long to wait before trying again, where trying again can help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with nothing but its code and sentence; `OVERLOADED`, `LEDGER_STOPPING` and
    /// `GATE_STOPPING` also get a time to wait.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let sheds = matches!(code, Code::Overloaded | Code::LedgerStopping | Code::GateStopping);
        Self {
            code,
            message: message.into(),
            expected_seq: None,
            retry_after: sheds.then_some(DEFAULT_RETRY_AFTER),
        }
    }

    /// The same refusal, telling the seq that the stream expects next.
    #[must_use]
    pub fn with_expected_seq(mut self, seq: u64) -> Self {
        self.expected_seq = Some(seq);
        self
    }

    /// The same refusal, telling how long to wait before trying again.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Reads a refusal back from the details of a status; `None` when the status is not a ledger's
    /// (a broken connection, a proxy, a limit of the transport).
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = status.check_error_details().ok()?;
        let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
        let (code, message) = known(&info.reason, status.message());
        Some(Self {
            code,
            message,
            expected_seq: info.metadata.get(EXPECTED_SEQ).and_then(|seq| seq.parse().ok()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        })
    }
}

/// The code with this text. A ledger newer than its client may name one that the client does not
/// know: that is `INTERNAL` here, and the message keeps the text.
fn known(text: &str, message: &str) -> (Code, String) {
    match Code::from_text(text) {
        Some(code) => (code, message.to_owned()),
        None => (Code::Internal, format!("{text}: {message}")),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::from(Fault::from(code))
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let (what, remedy) = (fault.code.what(), fault.code.remedy());
        let message = match fault.culprit {
            Culprit::Whole => format!("{what} {remedy}"),
            Culprit::Field(name) => format!("{what} {remedy} (field {name})"),
            Culprit::Index(index) => format!("{what} {remedy} (at {index})"),
        };
        Self::new(fault.code, message)
    }
}

/// The gRPC status code that carries a code of the registry. What is not named here is a fault of
/// the bytes that were sent, which no repetition mends: `InvalidArgument`.
pub fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied
        | Code::OtherTenant
        | Code::StreamForeign
        | Code::RecordForeign
        | Code::SealerUntrusted
        | Code::TenantUntrusted
        | Code::ApprovalNotEligible => tonic::Code::PermissionDenied,
        Code::NotFound => tonic::Code::NotFound,
        Code::SizeUnknown | Code::CursorMalformed | Code::IndexOutOfRange => {
            tonic::Code::OutOfRange
        }
        Code::Equivocation
        | Code::DuplicateVerdict
        | Code::ActionRepeated
        | Code::ApprovalReplayed
        | Code::PermitReplayed
        | Code::PolicyVersionTaken
        | Code::GrantExists => tonic::Code::AlreadyExists,
        Code::StreamHalted => tonic::Code::Aborted,
        // The same bytes may be right at another time, or after another record.
        Code::StreamUnknown
        | Code::NotWitnessed
        | Code::SeqGap
        | Code::PrevMismatch
        | Code::RecordedAhead
        | Code::CertExpired
        | Code::CertNotYetValid
        | Code::KeyRevoked
        | Code::ParentUnknown
        | Code::ParentAnswered
        | Code::ApprovalUnknown
        | Code::VerdictUnknown
        | Code::ActionDenied
        | Code::VoidTooLate
        | Code::PermitUsed
        | Code::PermitUnknown
        | Code::SupersedesUnknown
        | Code::PolicyUnknown
        | Code::NotSupervised
        | Code::GrantLate
        | Code::ErasureOpen
        | Code::ErasureFloor
        | Code::Erased => tonic::Code::FailedPrecondition,
        Code::Overloaded => tonic::Code::ResourceExhausted,
        // Retried by middleware, and harmlessly so: resubmission is idempotent, and a restart mends
        // a poisoned ledger.
        Code::LedgerPoisoned
        | Code::LedgerStopping
        | Code::GateStopping
        | Code::EvidenceUnavailable => tonic::Code::Unavailable,
        Code::StoreCorrupt => tonic::Code::DataLoss,
        Code::Internal | Code::StoreFailed => tonic::Code::Internal,
        _ => tonic::Code::InvalidArgument,
    }
}

/// The one way from a refusal to a gRPC status with rich details.
pub fn status(refusal: &Refusal) -> Status {
    let mut metadata = HashMap::new();
    if let Some(seq) = refusal.expected_seq {
        metadata.insert(EXPECTED_SEQ.to_owned(), seq.to_string());
    }
    let mut details = ErrorDetails::with_error_info(refusal.code.as_str(), DOMAIN, metadata);
    if let Some(wait) = refusal.retry_after {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(grpc_code(refusal.code), refusal.message.as_str(), details)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        status(&refusal)
    }
}

impl From<Refusal> for v1::Rejected {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code.as_str().to_owned(),
            message: refusal.message,
            expected_seq: refusal.expected_seq.unwrap_or(0),
        }
    }
}

impl From<v1::Rejected> for Refusal {
    fn from(rejected: v1::Rejected) -> Self {
        let (code, message) = known(&rejected.code, &rejected.message);
        // On the wire 0 stands for "none"; only these two codes have a seq to tell, and 0 is one.
        let tells_seq = matches!(code, Code::SeqGap | Code::StreamHalted);
        Self {
            expected_seq: tells_seq.then_some(rejected.expected_seq),
            ..Self::new(code, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_status_and_its_rejection() {
        for code in Code::ALL {
            let mut sent = Refusal::from(*code);
            assert_eq!(Refusal::from_status(&status(&sent)), Some(sent.clone()));
            if matches!(code, Code::SeqGap | Code::StreamHalted) {
                sent = sent.with_expected_seq(0);
                assert_eq!(Refusal::from_status(&status(&sent)), Some(sent.clone()));
            }
            assert_eq!(Refusal::from(v1::Rejected::from(sent.clone())), sent);
        }
    }

    #[test]
    fn what_is_shed_says_when_to_come_back() {
        let shed = Refusal::from(Code::Overloaded);
        assert_eq!(shed.retry_after, Some(DEFAULT_RETRY_AFTER));
        assert_eq!(status(&shed).code(), tonic::Code::ResourceExhausted);
        let longer = shed.with_retry_after(Duration::from_secs(3));
        let read = Refusal::from_status(&status(&longer)).map(|refusal| refusal.retry_after);
        assert_eq!(read, Some(Some(Duration::from_secs(3))));
    }

    #[test]
    fn a_fault_keeps_its_culprit_in_the_sentence() {
        let refusal = Refusal::from(Code::FieldOversized.at_field("context"));
        assert!(refusal.message.ends_with("(field context)"), "{refusal}");
        let refusal = Refusal::from(Code::CertExpired.at_index(1));
        assert!(refusal.message.ends_with("(at 1)"), "{refusal}");
    }

    #[test]
    fn a_status_that_is_not_ours_is_not_read_as_ours() {
        assert_eq!(Refusal::from_status(&Status::unavailable("connection reset")), None);
        let foreign = ErrorDetails::with_error_info("SEQ_GAP", "googleapis.com", HashMap::new());
        let status = Status::with_error_details(tonic::Code::Aborted, "x", foreign);
        assert_eq!(Refusal::from_status(&status), None);
        let garbage = Status::with_details(tonic::Code::Aborted, "x", vec![0xff; 9].into());
        assert_eq!(Refusal::from_status(&garbage), None);
    }

    #[test]
    fn a_code_from_the_future_is_internal_and_keeps_its_name() {
        let details = ErrorDetails::with_error_info("NOT_YET_THOUGHT_OF", DOMAIN, HashMap::new());
        let status = Status::with_error_details(tonic::Code::Aborted, "No.", details);
        let read = Refusal::from_status(&status);
        assert_eq!(read, Some(Refusal::new(Code::Internal, "NOT_YET_THOUGHT_OF: No.")));
    }
}

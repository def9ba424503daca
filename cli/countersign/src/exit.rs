//! How a command ends.

use std::io::Write as _;
use std::process::ExitCode;

use countersign_client::ClientError;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;

/// Exit codes, frozen (EVID-7): the same as `countersign-verify`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done as asked.
    Success = 0,
    /// Refused, or proved wrong.
    Invalid = 1,
    /// The command was called in the wrong way, or its configuration is wrong.
    Usage = 2,
    /// The outcome is not known.
    Indeterminate = 3,
    /// A file, a port or the ledger could not be reached.
    Io = 4,
    /// A fault of the program itself.
    Internal = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Writes data to standard output. Where nobody takes it (a pipe that was closed, a disk that is full)
/// the process ends: whoever asked must not take half an answer for a whole one. What a command did
/// on the record before that is done.
pub(crate) fn put(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        eprintln!("countersign: standard output can't be written: {error}.");
        std::process::exit(Exit::Io as i32);
    }
}

/// Why a command stopped: what, why and what to do, in sentences for standard error.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// The sentences, safe to print.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self { exit: Exit::Io, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { exit: Exit::Invalid, message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { exit: Exit::Internal, message: message.into() }
    }

    /// A file that can't be read or written.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let name = escaped(&path.display().to_string());
        Self::io(format!("{name}: {error}. Check the path, its permissions and the disk."))
    }

    /// A file whose content is not what it should be.
    pub(crate) fn content(path: &std::path::Path, fault: Fault) -> Self {
        Self::usage(format!("{}: {fault}", escaped(&path.display().to_string())))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = error.code();
        let exit = match &error {
            ClientError::Unreachable { .. } | ClientError::Memory { .. } => Exit::Io,
            ClientError::FateUnknown { .. } => Exit::Indeterminate,
            ClientError::Config(_) | ClientError::Record(_) => Exit::Usage,
            ClientError::Random(_) => Exit::Internal,
            ClientError::Refused(_) if code == Code::Internal => Exit::Internal,
            _ => Exit::Invalid,
        };
        let code = code.as_str();
        Self { exit, message: format!("{error}\n(countersign explain {code})") }
    }
}

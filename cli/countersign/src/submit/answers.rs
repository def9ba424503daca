//! Each line's answer, and how it is told.

use std::io::Write as _;
use std::path::PathBuf;

use countersign_client::{Draft, LoggedRecord};
use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use indicatif::ProgressBar;
use serde_json::json;

use super::journal::Refused;
use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::progress::drawn;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// In the log since this run.
    Logged,
    /// In the log since an earlier run.
    Repeated,
    /// Not in the log.
    Rejected,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Logged => "logged",
            Self::Repeated => "repeated",
            Self::Rejected => "rejected",
        }
    }
}

/// The answer to one line.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    line: u64,
    action_id: Option<String>,
    seq: Option<u64>,
    index: Option<u64>,
    status: Status,
    code: Option<String>,
    evidence: Option<PathBuf>,
    /// For people: what was decided, or why the line was rejected.
    said: String,
}

/// A string value of a draft.
fn text_of(draft: &Draft, name: &str) -> Option<String> {
    serde_json::from_str(draft.value(name)?).ok()
}

pub(super) fn action_id(draft: &Draft) -> Option<String> {
    text_of(draft, "action_id")
}

impl Answer {
    pub(super) fn logged(
        line: u64,
        draft: &Draft,
        logged: &LoggedRecord,
        status: Status,
        evidence: PathBuf,
    ) -> Self {
        let said = |name| text_of(draft, name).unwrap_or_default();
        Self {
            line,
            action_id: action_id(draft),
            seq: Some(logged.seq()),
            index: Some(logged.index().0),
            status,
            code: None,
            evidence: Some(evidence),
            said: format!("{} {}", said("outcome"), said("action")),
        }
    }

    pub(super) fn malformed(line: u64, action_id: Option<String>, reason: String) -> Self {
        let code = Some(Code::LineMalformed.as_str().to_owned());
        Self::rejected(line, action_id, code, reason)
    }

    pub(super) fn refused(refused: &Refused) -> Self {
        let code = Some(refused.code.clone());
        Self::rejected(refused.line, refused.action_id.clone(), code, refused.message.clone())
    }

    fn rejected(line: u64, action_id: Option<String>, code: Option<String>, said: String) -> Self {
        let status = Status::Rejected;
        Self { line, action_id, seq: None, index: None, status, code, evidence: None, said }
    }

    fn human(&self) -> String {
        let (line, said) = (self.line, escaped(&self.said));
        match (&self.index, &self.evidence, &self.code) {
            (Some(index), Some(evidence), _) => {
                let path = escaped(&evidence.display().to_string());
                format!("line {line}: {said}: {} at index {index}, {path}", self.status.as_str())
            }
            (_, _, code) => {
                let code = escaped(code.as_deref().unwrap_or_default());
                format!("line {line}: rejected, {code}: {said}")
            }
        }
    }

    fn jsonl(&self) -> String {
        json!({
            "line": self.line,
            "action_id": self.action_id,
            "seq": self.seq,
            "index": self.index,
            "status": self.status.as_str(),
            "code": self.code,
            "evidence": self.evidence.as_ref().map(|path| path.display().to_string()),
        })
        .to_string()
    }
}

/// Prints answers, and a progress bar where somebody watches.
pub(super) struct Printer {
    output: Output,
    bar: ProgressBar,
    logged: u64,
    repeated: u64,
    rejected: u64,
}

impl Printer {
    /// For a file of so many bytes.
    pub(super) fn new(output: Output, bytes: u64) -> Self {
        let bar = drawn(Some(bytes), "{wide_bar} {percent}% {msg} {eta}");
        Self { output, bar, logged: 0, repeated: 0, rejected: 0 }
    }

    pub(super) fn print(&mut self, answer: &Answer) -> Result<(), Failure> {
        match answer.status {
            Status::Logged => self.logged += 1,
            Status::Repeated => self.repeated += 1,
            Status::Rejected => self.rejected += 1,
        }
        let text = match self.output {
            Output::Human => answer.human(),
            Output::Jsonl => answer.jsonl(),
        };
        self.bar
            .suspend(|| {
                if self.output == Output::Jsonl && answer.status == Status::Rejected {
                    eprintln!("countersign: {}", answer.human());
                }
                writeln!(std::io::stdout(), "{text}")
            })
            .map_err(|error| Failure::io(format!("standard output: {error}")))
    }

    /// How far the file was read.
    pub(super) fn read(&self, bytes: u64) {
        self.bar.set_message(format!("{} verdicts", self.logged + self.repeated));
        self.bar.set_position(bytes);
    }

    pub(super) fn finish(self) -> Result<Exit, Failure> {
        self.bar.finish_and_clear();
        std::io::stdout()
            .flush()
            .map_err(|error| Failure::io(format!("standard output: {error}")))?;
        let Self { logged, repeated, rejected, .. } = self;
        eprintln!("countersign: {logged} logged, {repeated} repeated, {rejected} rejected.");
        Ok(if rejected == 0 { Exit::Success } else { Exit::Invalid })
    }
}

//! `countersign-verify`: proves evidence offline, to somebody who trusts nobody in between.
//!
//! No network and no database are in this program; a test holds it. Data goes to standard output,
//! speech to standard error, and the exit code is one of [`Exit`].

/// Prints a line of data. An output that can't be written ends the program: a result that nobody
/// got must not look like one.
macro_rules! say {
    ($($text:tt)*) => { $crate::print_line(&format!($($text)*)) };
}

mod alarm;
mod files;
mod folder;
mod inspect;
mod mirror;
mod pack;
mod pack_report;
mod progress;
#[cfg(feature = "replay")]
mod replay;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use countersign_core::codes::{Code, Fault};
use countersign_core::note::SignedCheckpoint;
use countersign_core::receipt::{CONSISTENCY_BYTES_MAX, ConsistencyProof};
use countersign_core::trust::Trust;
use countersign_core::verify::{TrustedHead, Verdict, verify_file};

use crate::files::{read_capped, read_trust};
use crate::report::FileReport;

/// Said under the help of the program and of its commands.
const EXIT_CODES: &str = "\
Exit codes, the worst of many files winning (1, then 5, 4, 3, 0):
  0  VALID
  1  INVALID: proved wrong
  2  wrong usage, or a trust file that does not parse
  3  INDETERMINATE: something needed is missing or withheld, or nothing was verified
  4  a file could not be read
  5  a fault of the program itself";

/// Verifies Countersign evidence offline.
#[derive(Parser)]
#[command(name = "countersign-verify", version, about, max_term_width = 100)]
#[command(after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify evidence files.
    #[command(after_help = EXIT_CODES)]
    Evidence {
        /// The files.
        files: Vec<PathBuf>,
        /// The trust file: the only thing that is believed. Without it nothing is ever VALID.
        #[arg(long)]
        trust: Option<PathBuf>,
        /// How to report.
        #[arg(long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// Verify a pack: its evidence, and where it claims so, that nothing of it is missing.
    #[command(after_help = EXIT_CODES)]
    Pack {
        /// The pack's folder.
        dir: PathBuf,
        /// The trust file: the only thing that is believed. Without it nothing is ever VALID.
        #[arg(long)]
        trust: Option<PathBuf>,
        /// How to report.
        #[arg(long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// Verify a whole mirror: every tile, entry and head, and that no stream has a gap.
    #[command(after_help = EXIT_CODES)]
    Mirror {
        /// The mirror: a folder with one for each log, named by the hex SHA-256 of its origin.
        dir: PathBuf,
        /// The trust file: the only thing that is believed. Without it nothing is ever VALID.
        #[arg(long)]
        trust: Option<PathBuf>,
        /// Keeps in this file how far it came, and goes on from there the next time: entries that
        /// were verified are not read again. Keep it where you keep the trust file.
        #[arg(long, value_name = "FILE")]
        resume: Option<PathBuf>,
        /// How to report.
        #[arg(long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// Verify alarms. VALID means that an alarm is true: the log misbehaved.
    #[command(after_help = EXIT_CODES)]
    Alarm {
        /// The files.
        files: Vec<PathBuf>,
        /// The trust file, of which only the logs' keys count. Without it nothing is ever VALID.
        #[arg(long)]
        trust: Option<PathBuf>,
        /// How to report.
        #[arg(long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// Verify verdicts' evidence, and make the verdicts again by the policy that they name.
    #[command(after_help = EXIT_CODES)]
    Replay {
        /// The evidence files.
        files: Vec<PathBuf>,
        /// Folder of a policy version (*.cedar and one *.cedarschema), of folders of versions, or
        /// a pack's folder policies.
        #[arg(long)]
        policies: PathBuf,
        /// The trust file: the only thing that is believed. Without it nothing is ever VALID.
        #[arg(long)]
        trust: Option<PathBuf>,
        /// How to report.
        #[arg(long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// Prove that a newer head continues an older one.
    #[command(after_help = EXIT_CODES)]
    Consistency {
        /// The older head, a signed note.
        old: PathBuf,
        /// The newer head, a signed note.
        new: PathBuf,
        /// The consistency file.
        proof: PathBuf,
        /// The trust file.
        #[arg(long)]
        trust: Option<PathBuf>,
    },
    /// Print what a file says, every line marked UNVERIFIED.
    Inspect {
        /// An evidence file.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Plain sentences; the last line is the result.
    Human,
    /// One JSON object (spec/report.schema.json, spec/pack-report.schema.json,
    /// spec/mirror-report.schema.json) and nothing after it.
    Json,
}

/// Exit codes, frozen (EVID-7). When there are many files the worst wins: 1 > 5 > 4 > 3 > 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Valid = 0,
    Invalid = 1,
    Usage = 2,
    Indeterminate = 3,
    Io = 4,
}

impl Exit {
    fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Valid => Self::Valid,
            Verdict::Invalid => Self::Invalid,
            Verdict::Indeterminate => Self::Indeterminate,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Invalid => 4,
            Self::Usage => 3,
            Self::Io => 2,
            Self::Indeterminate => 1,
            Self::Valid => 0,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Evidence { files, trust, output } => {
            with_trust(trust, |trust| evidence(&files, trust, output))
        }
        Command::Pack { dir, trust, output } => {
            with_trust(trust, |trust| pack::run(&dir, trust, output))
        }
        Command::Mirror { dir, trust, resume, output } => {
            with_trust(trust, |trust| mirror::run(&dir, trust, resume.as_deref(), output))
        }
        Command::Alarm { files, trust, output } => {
            with_trust(trust, |trust| alarm::run(&files, trust, output))
        }
        #[cfg(feature = "replay")]
        Command::Replay { files, policies, trust, output } => {
            with_trust(trust, |trust| replay::run(&files, &policies, trust, output))
        }
        #[cfg(not(feature = "replay"))]
        Command::Replay { .. } => {
            eprintln!(
                "countersign-verify: this program was built without the policy engine. Build it \
                 with its default features: cargo build -p countersign-verify"
            );
            Exit::Usage.into()
        }
        Command::Consistency { old, new, proof, trust } => {
            with_trust(trust, |trust| consistency(&old, &new, &proof, trust))
        }
        Command::Inspect { file } => inspect::inspect(&file).into(),
    }
}

/// See `say!`.
fn print_line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        eprintln!("countersign-verify: standard output can't be written");
        std::process::exit(Exit::Io as i32);
    }
}

/// A trust file that can't be read or parsed is a usage error: nothing is verified under half of it.
fn with_trust(path: Option<PathBuf>, run: impl FnOnce(Option<&Trust>) -> Exit) -> ExitCode {
    let Some(path) = path else {
        return run(None).into();
    };
    match read_trust(&path) {
        Ok(trust) => run(Some(&trust)).into(),
        Err(problem) => {
            eprintln!("countersign-verify: {problem}");
            if problem.is_io() { Exit::Io.into() } else { Exit::Usage.into() }
        }
    }
}

fn evidence(files: &[PathBuf], trust: Option<&Trust>, output: Output) -> Exit {
    let (reports, worst) = verify_all(files, trust);
    match output {
        Output::Human => report::print_human(&reports, worst),
        Output::Json => report::print_json(&reports, worst),
    }
    worst
}

/// Verifies every file, and says what the worst of them comes to.
fn verify_all(files: &[PathBuf], trust: Option<&Trust>) -> (Vec<FileReport>, Exit) {
    let mut worst = if files.is_empty() { Exit::Indeterminate } else { Exit::Valid };
    let mut reports = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let (report, exit) = match read_capped(path, countersign_core::evidence::EVIDENCE_BYTES_MAX)
        {
            Ok(bytes) => {
                let report = verify_file(&bytes, trust);
                let exit = Exit::of(report.result);
                (FileReport::verified(name, report), exit)
            }
            Err(problem) => (FileReport::unread(name, problem.to_string()), Exit::Io),
        };
        if exit.rank() > worst.rank() {
            worst = exit;
        }
        reports.push(report);
    }
    (reports, worst)
}

fn consistency(
    old: &std::path::Path,
    new: &std::path::Path,
    proof: &std::path::Path,
    trust: Option<&Trust>,
) -> Exit {
    let outcome = (|| {
        let note = |path| -> Result<SignedCheckpoint, files::Problem> {
            let bytes = read_capped(path, countersign_core::note::NOTE_BYTES_MAX)?;
            let text = String::from_utf8(bytes).map_err(|_| Fault::from(Code::NoteMalformed))?;
            Ok(SignedCheckpoint::parse(&text)?)
        };
        let (old, new) = (note(old)?, note(new)?);
        let bytes = read_capped(proof, CONSISTENCY_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| Fault::from(Code::ConsistencyMalformed))?;
        let proof = ConsistencyProof::parse(&text)?;
        proof.verify(&old, &new)?;
        let Some(trust) = trust else {
            return Ok((old, new, Some(Code::NoTrust)));
        };
        let mut doubt = None;
        for head in [&old, &new] {
            let found = TrustedHead::check(head, trust)?.doubt(head, trust)?;
            doubt = doubt.or(found);
        }
        Ok((old, new, doubt))
    })();
    match outcome {
        Ok((old, new, doubt)) => {
            say!(
                "The log {} grew from {} to {} entries and kept every one of the first {}.",
                countersign_core::encoding::escaped(&old.origin),
                old.size.0,
                new.size.0,
                old.size.0
            );
            let Some(doubt) = doubt else {
                say!("RESULT VALID");
                return Exit::Valid;
            };
            let step = if doubt == Code::NoTrust { 6 } else { 9 };
            say!("Not certain: {} {}", doubt.what(), doubt.remedy());
            say!("RESULT INDETERMINATE step {step} {}", doubt.as_str());
            Exit::Indeterminate
        }
        Err(files::Problem::Fault(fault)) if fault.code == Code::VersionUnknown => {
            say!("{fault}");
            say!("RESULT INDETERMINATE {}", fault.code.as_str());
            Exit::Indeterminate
        }
        Err(files::Problem::Fault(fault)) => {
            say!("{fault}");
            say!("RESULT INVALID {}", fault.code.as_str());
            Exit::Invalid
        }
        Err(problem) => {
            eprintln!("countersign-verify: {problem}");
            say!("RESULT INDETERMINATE nothing was verified");
            Exit::Io
        }
    }
}

//! `countersign-verify`: proves evidence offline, to somebody who trusts nobody in between.
//!
//! No network and no database are in this program; a test holds it. Data goes to standard output,
//! speech to standard error, and the exit code is one of [`Exit`].

mod files;
mod inspect;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use countersign_core::codes::{Code, Fault};
use countersign_core::note::SignedCheckpoint;
use countersign_core::receipt::{CONSISTENCY_BYTES_MAX, ConsistencyProof};
use countersign_core::trust::Trust;
use countersign_core::verify::{Verdict, verify_file};

use crate::files::{read_capped, read_trust};
use crate::report::FileReport;

/// Verifies Countersign evidence offline.
#[derive(Parser)]
#[command(name = "countersign-verify", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify evidence files.
    Evidence {
        /// The files.
        files: Vec<PathBuf>,
        /// The trust file: the only thing that is believed. Without it nothing is ever VALID.
        #[arg(long, env = "COUNTERSIGN_TRUST")]
        trust: Option<PathBuf>,
        /// How to report.
        #[arg(long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// Prove that a newer head continues an older one.
    Consistency {
        /// The older head, a signed note.
        old: PathBuf,
        /// The newer head, a signed note.
        new: PathBuf,
        /// The consistency file.
        proof: PathBuf,
        /// The trust file.
        #[arg(long, env = "COUNTERSIGN_TRUST")]
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
    /// One JSON object (spec/report.schema.json) and nothing after it.
    Json,
}

/// Exit codes, frozen (EVID-7). When there are many files the worst wins: 1 > 5 > 4 > 3 > 0.
#[derive(Clone, Copy, PartialEq, Eq)]
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
        Command::Consistency { old, new, proof, trust } => {
            with_trust(trust, |trust| consistency(&old, &new, &proof, trust))
        }
        Command::Inspect { file } => inspect::inspect(&file).into(),
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
    match output {
        Output::Human => report::print_human(&reports, worst),
        Output::Json => report::print_json(&reports, worst),
    }
    worst
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
            return Ok((old, new, false));
        };
        for head in [&old, &new] {
            let mut found = Err(Fault::from(Code::OriginUnknown));
            for log in trust.logs_of(&head.origin) {
                // A clock's line need not be there; one that is there and fails is a forgery.
                let clocks = || {
                    log.clocks.iter().try_for_each(|clock| {
                        head.cosigned_at(clock, Code::ClockSignature).map(|_| ())
                    })
                };
                found = head.verify_log(&log.vkey).and_then(|()| clocks());
                if found.is_ok() {
                    break;
                }
            }
            found?;
        }
        Ok((old, new, true))
    })();
    match outcome {
        Ok((old, new, trusted)) => {
            println!(
                "The log {} grew from {} to {} entries and kept every one of the first {}.",
                countersign_core::encoding::escaped(&old.origin),
                old.size.0,
                new.size.0,
                old.size.0
            );
            if trusted {
                println!("RESULT VALID");
                Exit::Valid
            } else {
                println!("Nobody's signature was checked: {}", Code::NoTrust.remedy());
                println!("RESULT INDETERMINATE step 6 {}", Code::NoTrust.as_str());
                Exit::Indeterminate
            }
        }
        Err(files::Problem::Fault(fault)) if fault.code == Code::VersionUnknown => {
            println!("{fault}");
            println!("RESULT INDETERMINATE {}", fault.code.as_str());
            Exit::Indeterminate
        }
        Err(files::Problem::Fault(fault)) => {
            println!("{fault}");
            println!("RESULT INVALID {}", fault.code.as_str());
            Exit::Invalid
        }
        Err(problem) => {
            eprintln!("countersign-verify: {problem}");
            println!("RESULT INDETERMINATE nothing was verified");
            Exit::Io
        }
    }
}

//! What can be asked on the command line. Precedence: flag, then `COUNTERSIGN_*`, then the file,
//! then the default.

mod gate;
mod policy;
mod tiles;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::gate::*;
pub(crate) use self::policy::*;
pub(crate) use self::tiles::*;
pub(crate) use self::work::*;

/// Said under the help of the program and of what calls a ledger.
const EXIT_CODES: &str = "\
Exit codes:
  0  done as asked
  1  refused, or proved wrong
  2  wrong usage, or a configuration or trust file that can't be used
  3  the outcome is not known, or nothing was submitted or verified
  4  a file, a port or the ledger could not be reached
  5  a fault of the program itself";

const QUERY_EXIT_CODES: &str = "\
Exit codes:
  0  there are records
  1  refused, or proved wrong
  2  wrong usage
  3  nothing was found
  4  a file or the ledger could not be reached";

const RECONCILE_EXIT_CODES: &str = "\
Exit codes:
  0  everything fits
  1  something does not, or a record is proved wrong
  2  wrong usage
  3  nothing was verified, or not all of it
  4  a file or the ledger could not be reached";

const MIRROR_EXIT_CODES: &str = "\
Exit codes:
  0  done as asked, or stopped by a signal
  1  a log contradicted itself, and is followed no more; or two copies are of two histories
  2  wrong usage, or a configuration or trust file that can't be used
  4  the storage, a port or the log could not be reached
  5  a fault of the program itself";

/// An append-only ledger of verdicts that proves what it holds.
#[derive(Parser)]
#[command(name = "countersign", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make keys, a development PKI, a configuration and a trust file.
    Init(InitArgs),
    /// Run the ledger.
    Serve(ServeArgs),
    /// Submit verdicts of an external gate, one JSON object a line.
    #[command(after_help = EXIT_CODES)]
    Submit(SubmitArgs),
    /// Run a gate: intents in, verdicts out, every one of them in the log.
    Gate(GateArgs),
    /// Have intents judged, one JSON object a line.
    #[command(after_help = EXIT_CODES)]
    Evaluate(EvaluateArgs),
    /// Show a supervised action that waits for people, and sign that it may be done.
    #[command(after_help = EXIT_CODES)]
    Approve(AnswerArgs),
    /// Show a supervised action that waits for people, and sign that it may not be done.
    #[command(after_help = EXIT_CODES)]
    Deny(AnswerArgs),
    /// Report what became of an action.
    #[command(after_help = EXIT_CODES)]
    Outcome(OutcomeArgs),
    /// Say which approvals and effects on record don't fit each other, and which gates are silent.
    #[command(after_help = RECONCILE_EXIT_CODES)]
    Reconcile(ReconcileArgs),
    /// Refuse everything of an actor, a session or the tenant, at once.
    Halt(HaltArgs),
    /// Lift a halt of exactly this scope.
    Resume(HaltArgs),
    /// Let verdicts bind, or only be recorded.
    Mode(ModeArgs),
    /// Show how the gate stands, by its word.
    Status(StatusArgs),
    /// Ask for a time-boxed emergency.
    Emergency(EmergencyArgs),
    /// Task-scoped authority.
    Grant(GrantArgs),
    /// Check, activate, compare and start policies.
    Policy(PolicyArgs),
    /// Show the ledger's newest head, proven to continue the last one seen.
    Head(HeadArgs),
    /// Fetch the evidence of an action, or of the record at an index.
    #[command(after_help = EXIT_CODES)]
    Evidence(EvidenceArgs),
    /// Find records by who, what, where, when and how it came out.
    #[command(after_help = QUERY_EXIT_CODES)]
    Query(QueryArgs),
    /// Follow the tenant's records as they are logged, one a line.
    #[command(after_help = EXIT_CODES)]
    Watch(WatchArgs),
    /// Put evidence into a folder that is verified offline, complete where asked.
    #[command(after_help = EXIT_CODES)]
    Pack(EvidencePackArgs),
    /// Make a copy of an evidence file that shows less, under the same proof.
    Disclose(DiscloseArgs),
    /// Have the contents of records destroyed, by a tenant-admin's signature and on record.
    #[command(after_help = EXIT_CODES)]
    Erase(EraseArgs),
    /// Write records as events for other systems, each with its evidence inside.
    #[command(after_help = QUERY_EXIT_CODES)]
    Export(ExportArgs),
    /// Answer five questions about exposure, and say what can't be known.
    Diagnose(DiagnoseArgs),
    /// Make the ledger's derived indexes again, with the ledger stopped.
    Reindex(ReindexArgs),
    /// Write a log's tiles, entries and checkpoint as plain files that any web server can serve.
    #[command(after_help = EXIT_CODES)]
    ExportTiles(ExportTilesArgs),
    /// Keep a proven copy of logs in storage of one's own, and raise the alarm when one contradicts
    /// itself.
    #[command(after_help = MIRROR_EXIT_CODES)]
    Mirror(MirrorArgs),
    /// Cosign the heads of logs, none of which then shows two histories unnoticed.
    Witness(WitnessArgs),
    /// Show the configuration that is in force.
    Config(ConfigArgs),
    /// Look for what is wrong with an installation, and say what mends it.
    Doctor(DoctorArgs),
    /// Say what a code means and what to do about it.
    Explain(ExplainArgs),
    /// Write completions for a shell to standard output.
    Completions(CompletionsArgs),
    /// Write manual pages.
    Man(ManArgs),
    /// Run the whole way of a verdict on loopback, and leave the files to look at.
    Demo(DemoArgs),
}

/// How to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Plain sentences.
    Human,
    /// One JSON object a line.
    Jsonl,
}

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Folder to make; it must not exist, or be empty.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// The log's name, a URL without scheme such as ledger.acme.example/prod.
    #[arg(long)]
    pub(crate) origin: String,
    /// The tenant whose gate gets an identity.
    #[arg(long)]
    pub(crate) tenant: String,
    /// The gate's name.
    #[arg(long)]
    pub(crate) gate: String,
    /// Name of a person who may approve supervised actions, as the tenant's directory has it; may be
    /// repeated.
    #[arg(long, default_values = ["oncall-1", "owner-1"])]
    pub(crate) approver: Vec<String>,
}

/// What can be set without changing countersign.toml.
#[derive(Args, Default)]
pub(crate) struct Overrides {
    /// Address of the gRPC port; port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_GRPC")]
    pub(crate) grpc: Option<SocketAddr>,
    /// Address of the HTTP port.
    #[arg(long, env = "COUNTERSIGN_HTTP")]
    pub(crate) http: Option<SocketAddr>,
    /// Folder of the database and its anchor.
    #[arg(long, env = "COUNTERSIGN_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Milliseconds between published heads while the log grows.
    #[arg(long, env = "COUNTERSIGN_HEAD_INTERVAL_MS")]
    pub(crate) head_interval_ms: Option<u64>,
    /// Seconds after which an idle log's head is published again.
    #[arg(long, env = "COUNTERSIGN_HEAD_REPUBLISH_S")]
    pub(crate) head_republish_s: Option<u64>,
    /// Seconds that calls in flight may take to end.
    #[arg(long, env = "COUNTERSIGN_DRAIN_TIMEOUT_S")]
    pub(crate) drain_timeout_s: Option<u64>,
}

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Folder that `countersign init` made.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// File to write {"grpc","http","pid","origin"} to once the ledger can be called.
    #[arg(long, env = "COUNTERSIGN_READY_FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Start although too few witnesses answer to tell whether these are the newest data. Only where
    /// you know that the data folder was not put back from a copy.
    #[arg(long)]
    pub(crate) without_witnesses: bool,
    /// Speak plain TCP on loopback, every caller being the gate that init made; clients then call
    /// --server http://host:port. Never in production.
    #[arg(long)]
    pub(crate) insecure_dev: bool,
}

/// Which ledger, as whom.
#[derive(Args, Clone)]
pub(crate) struct Connection {
    /// The ledger's gRPC address: host:port or https://host:port; http://host:port only for a
    /// ledger on loopback that serves with --insecure-dev, where no identity is shown.
    #[arg(long, env = "COUNTERSIGN_SERVER", value_parser = address)]
    pub(crate) server: String,
    /// Folder of the identity to call with, such as DIR/identities/gate. In a folder that init made,
    /// the gate's is meant.
    #[arg(long, env = "COUNTERSIGN_IDENTITY")]
    pub(crate) identity: PathBuf,
}

/// An address with all that a connection needs: a port, unless a scheme implies one.
///
/// # Errors
///
/// A sentence with the forms that are taken.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let bare = !text.starts_with('[') && text.matches(':').count() > 1;
    let port = text.rsplit_once(':').filter(|(host, port)| {
        !host.is_empty() && !bare && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if text.contains("://") || port.is_some() {
        return Ok(text.to_owned());
    }
    Err("it names no port: give host:port, such as localhost:7443 or [::1]:7443; or \
         http://host:port for one that serves with --insecure-dev."
        .to_owned())
}

#[derive(Args)]
pub(crate) struct SubmitArgs {
    /// The verdicts, one JSON object a line: a file, since it is read again after an interruption
    /// (standard input is not taken).
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Folder for the evidence files, and for the journal that makes it safe to run this again.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// File of that journal; OUT/submit.journal where it is left out. It holds the records' seeds.
    #[arg(long)]
    pub(crate) journal: Option<PathBuf>,
    /// How to report each line's answer.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
    /// Verdicts under one seal.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: u16,
}

#[derive(Args)]
pub(crate) struct HeadArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// human prints the signed note, jsonl {"origin","size","root","time","note"}.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct EvidenceArgs {
    /// The action, a UUIDv7 as its records spell it; or the index of one record.
    #[arg(value_name = "ACTION_ID|INDEX")]
    pub(crate) which: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Folder for the files.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Trust file to verify under before anything is written; without it that of the identity's
    /// folder or of the installation which that is in. Where there is none only the log's own keys
    /// are used, and who gave the gate its certificate is not checked.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
    /// Prove at the newest head that a quorum of the ledger's witnesses cosigned, and wait for one
    /// that covers the records.
    #[arg(long)]
    pub(crate) witnessed: bool,
    /// Seconds to wait for such a head.
    #[arg(long, default_value_t = 30, requires = "witnessed")]
    pub(crate) wait: u64,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration in force, as TOML.
    Show(ConfigShowArgs),
}

#[derive(Args)]
pub(crate) struct ConfigShowArgs {
    /// Folder that `countersign init` made.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Folder that `countersign init` made.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// Address of a running ledger to call, as host:port, or http://host:port if it serves with
    /// --insecure-dev; without it none is called.
    #[arg(long, env = "COUNTERSIGN_SERVER")]
    pub(crate) server: Option<String>,
}

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as SEQ_GAP; without it all codes are listed.
    pub(crate) code: Option<String>,
}

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// The countersign-verify program.
    #[arg(long)]
    pub(crate) verifier: PathBuf,
    /// Folder to leave the files in; a new one in the temporary folder where it is left out.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

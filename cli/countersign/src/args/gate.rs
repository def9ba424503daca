//! What can be asked of a gate, and of the records that it leaves.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::Output;

/// Which gate, as whom.
#[derive(Args, Clone)]
pub(crate) struct GateConnection {
    /// The gate's gRPC address: host:port or https://host:port; http://host:port only for a gate on
    /// loopback that runs with --insecure-dev, where no identity is shown.
    #[arg(long, env = "COUNTERSIGN_GATE")]
    pub(crate) gate: String,
    /// Folder of the identity to call with, such as DIR/identities/pep.
    #[arg(long, env = "COUNTERSIGN_IDENTITY")]
    pub(crate) identity: PathBuf,
    /// Trust file to verify the gate's evidence under; without it that of the identity's folder or
    /// of the installation which that is in, and without these the log's own keys.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct GateArgs {
    /// Folder that `countersign init` made, or one with the gate's part of it.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// The ledger's gRPC address.
    #[arg(long, env = "COUNTERSIGN_LEDGER")]
    pub(crate) ledger: String,
    /// Address of the gate's gRPC port; port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_GATE_GRPC")]
    pub(crate) grpc: Option<SocketAddr>,
    /// Address of the gate's HTTP port.
    #[arg(long, env = "COUNTERSIGN_GATE_HTTP")]
    pub(crate) http: Option<SocketAddr>,
    /// Address of the gate's AuthZEN port.
    #[arg(long, env = "COUNTERSIGN_GATE_AUTHZEN")]
    pub(crate) authzen: Option<SocketAddr>,
    /// File to write {"grpc","http","authzen","pid","origin"} to once the gate can be called.
    #[arg(long, env = "COUNTERSIGN_READY_FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Speak plain TCP on loopback, every caller being the enforcement point that init made. Never
    /// in production.
    #[arg(long)]
    pub(crate) insecure_dev: bool,
}

#[derive(Args)]
pub(crate) struct EvaluateArgs {
    /// The intents, one JSON object a line; - for standard input.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) connection: GateConnection,
    /// Folder for the evidence files.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Who may use the permits, where that is not the caller.
    #[arg(long, default_value = "")]
    pub(crate) audience: String,
    /// Intents that are asked at once. Only with 1 are they judged in their order, which matters
    /// where they share a session or a grant.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) in_flight: u16,
    /// How to report each answer.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct AnswerArgs {
    /// The action, a UUIDv7 as the verdict has it.
    pub(crate) action_id: String,
    /// The gate's gRPC address.
    #[arg(long, env = "COUNTERSIGN_GATE")]
    pub(crate) gate: String,
    /// Folder of your own identity, whose key signs.
    #[arg(long, env = "COUNTERSIGN_KEY")]
    pub(crate) key: PathBuf,
    /// Trust file to verify what you sign under; without it that of the identity's folder or of the
    /// installation which that is in.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
    /// Sign without asking: needed where standard input is no terminal.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Why, for the record.
    #[arg(long)]
    pub(crate) justification: Option<String>,
    /// Minutes for which your answer counts; as long as the action waits where it is left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    pub(crate) not_after_minutes: Option<u64>,
    /// Folder for the evidence of your answer, and of the final verdict once there is one.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EffectResult {
    /// It was done.
    Executed,
    /// It was begun, and failed.
    Failed,
    /// It was not done.
    #[value(name = "not_executed")]
    NotExecuted,
    /// Nobody knows.
    Unknown,
    /// It was done, and undone.
    Reverted,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttestedBy {
    /// Whoever did it.
    Executor,
    /// The system that it was done to.
    #[value(name = "system_of_record")]
    SystemOfRecord,
}

#[derive(Args)]
#[command(group = ArgGroup::new("done").args(["effect", "effect_digest"]))]
pub(crate) struct OutcomeArgs {
    #[command(flatten)]
    pub(crate) connection: GateConnection,
    /// The action; left out for an effect that no verdict covers.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// The permit's id.
    #[arg(long)]
    pub(crate) permit: Option<String>,
    /// What became of it.
    #[arg(long, value_enum)]
    pub(crate) result: EffectResult,
    /// What was done, as JSON with exactly the members action, actor (its id), nonce (the permit's),
    /// on_behalf_of, parameters, resource {domain, environment, id, type} and tenant. Its digest is
    /// computed here, and must be the approved one.
    #[arg(long)]
    pub(crate) effect: Option<PathBuf>,
    /// That digest, where somebody else computed it: 64 hex digits.
    #[arg(long)]
    pub(crate) effect_digest: Option<String>,
    /// Who says so.
    #[arg(long, value_enum, default_value_t = AttestedBy::Executor)]
    pub(crate) attested_by: AttestedBy,
    /// When it was seen; now where it is left out.
    #[arg(long)]
    pub(crate) observed_at: Option<String>,
    /// JSON of whatever else there is to say.
    #[arg(long)]
    pub(crate) detail: Option<String>,
    /// Folder for the evidence file.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

/// What every change of how the gate answers is told.
#[derive(Args)]
pub(crate) struct ChangeArgs {
    /// Why, for the record.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) connection: GateConnection,
    /// Folder for the evidence file.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Whom a halt covers.
#[derive(Args)]
#[command(group = ArgGroup::new("scope").args(["actor", "session", "tenant"]).required(true))]
pub(crate) struct ScopeArgs {
    /// One actor, by its id.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// One session.
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// Everyone.
    #[arg(long)]
    pub(crate) tenant: bool,
}

#[derive(Args)]
pub(crate) struct HaltArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Whether verdicts bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Verdicts release permits, and refusals hold.
    Enforce,
    /// Verdicts are recorded, and bind nobody.
    Shadow,
}

#[derive(Args)]
pub(crate) struct ModeArgs {
    /// Which.
    #[arg(value_enum)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) connection: GateConnection,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct EmergencyArgs {
    #[command(subcommand)]
    pub(crate) command: EmergencyCommand,
}

#[derive(Subcommand)]
pub(crate) enum EmergencyCommand {
    /// Ask for an emergency: people must approve it, it ends by itself, and all of it is recorded.
    Declare(DeclareArgs),
    /// End the emergency that is open, before it ends by itself.
    End(ChangeArgs),
}

#[derive(Args)]
pub(crate) struct DeclareArgs {
    /// How long; the gate cuts it at its own maximum.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    pub(crate) minutes: u32,
    /// Why, for the record and for those who approve.
    #[arg(long)]
    pub(crate) reason: String,
    /// Who asks: an actor of the tenant's directory.
    #[arg(long)]
    pub(crate) actor: String,
    /// The actor's kind.
    #[arg(long, default_value = "human", value_parser = ["human", "agent", "service"])]
    pub(crate) actor_kind: String,
    /// What the emergency is about, as TYPE:ID of the directory, such as System:production.
    #[arg(long)]
    pub(crate) resource: String,
    /// The ticket, where there is one.
    #[arg(long)]
    pub(crate) ticket: Option<String>,
    #[command(flatten)]
    pub(crate) connection: GateConnection,
    /// Folder for the evidence file.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct GrantArgs {
    #[command(subcommand)]
    pub(crate) command: GrantCommand,
}

#[derive(Subcommand)]
pub(crate) enum GrantCommand {
    /// Sign a task-scoped grant and have the gate take it, before its session starts.
    Issue(IssueArgs),
}

#[derive(Args)]
pub(crate) struct IssueArgs {
    /// The grant's name: 1 to 128 of A-Z a-z 0-9 . _ -.
    pub(crate) grant_id: String,
    /// The terms, JSON as spec/policy.md GRT-1 has them; signed byte by byte.
    #[arg(long)]
    pub(crate) terms: PathBuf,
    #[command(flatten)]
    pub(crate) connection: GateConnection,
    /// Folder for the evidence file.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Which records: files, or a ledger's streams.
#[derive(Args, Clone)]
#[command(group = ArgGroup::new("records").args(["evidence", "stream"]).required(true).multiple(true))]
pub(crate) struct RecordsArgs {
    /// Folder of evidence files (*.evidence). Without --server they are all that is looked at; with
    /// it they only name the streams.
    #[arg(long)]
    pub(crate) evidence: Option<PathBuf>,
    /// A ledger to read whole streams from.
    #[arg(long, env = "COUNTERSIGN_SERVER", requires = "identity")]
    pub(crate) server: Option<String>,
    /// Folder of the identity to read them as, such as DIR/identities/auditor.
    #[arg(long, env = "COUNTERSIGN_IDENTITY")]
    pub(crate) identity: Option<PathBuf>,
    /// A stream to read, 32 hex digits; more than one may be named.
    #[arg(long, requires = "server")]
    pub(crate) stream: Vec<String>,
    /// Trust file to verify the records under. Without it and without --server nothing is verified.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
    /// Reads in flight.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) in_flight: u16,
}

#[derive(Args)]
pub(crate) struct ReconcileArgs {
    #[command(flatten)]
    pub(crate) records: RecordsArgs,
    /// The time to judge expiry by, such as 2026-11-23T12:00:00Z; now where it is left out.
    #[arg(long)]
    pub(crate) now: Option<String>,
    /// Seconds without a record, heartbeats included, after which a gate counts as silent.
    #[arg(long, default_value_t = 300)]
    pub(crate) silent_after: u64,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

//! What can be asked about policies.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::gate::{GateConnection, RecordsArgs};
use super::{Connection, EXIT_CODES, Output};

#[derive(Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Name every fault of a policy set and its schema, without a gate.
    Lint(LintArgs),
    /// Sign a policy version and make it the one that decides.
    Activate(ActivateArgs),
    /// Log a policy version that an external gate judges under, signed by its owner. The ledger
    /// takes no verdict under another. Registering the same version again is harmless.
    #[command(after_help = EXIT_CODES)]
    Register(RegisterArgs),
    /// Say which recorded verdicts a candidate version would give otherwise.
    #[command(after_help = DIFF_EXIT_CODES)]
    Diff(DiffArgs),
    /// Write one of the policy packs that come with this program; without a name list them.
    Pack(PackArgs),
}

const DIFF_EXIT_CODES: &str = "\
Exit codes:
  0  no action would be approved that was not
  1  one would be
  2  wrong usage, or a candidate with faults
  3  nothing was replayed
  4  a file or the ledger could not be reached";

#[derive(Args)]
pub(crate) struct LintArgs {
    /// Folder with the policies (*.cedar) and one schema (*.cedarschema).
    pub(crate) dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct ActivateArgs {
    /// Folder with the policies (*.cedar) and one schema (*.cedarschema).
    pub(crate) dir: PathBuf,
    /// The policy's name, the same for all its versions.
    #[arg(long)]
    pub(crate) policy_id: String,
    /// This version's name.
    #[arg(long)]
    pub(crate) version: String,
    #[command(flatten)]
    pub(crate) connection: GateConnection,
    /// Folder for the evidence file.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// Folder of the candidate version.
    #[arg(long)]
    pub(crate) candidate: PathBuf,
    #[command(flatten)]
    pub(crate) records: RecordsArgs,
    /// Verdicts recorded from this time on, such as 2026-11-01T00:00:00Z.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Verdicts recorded before this time.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct PackArgs {
    /// The pack.
    pub(crate) name: Option<String>,
    /// Folder to write it to; it must not exist, or be empty.
    #[arg(long, requires = "name")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
#[command(group(ArgGroup::new("texts").required(true).args(["digest", "policy"])))]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The policy's name, as verdicts have it in policy.id.
    #[arg(long)]
    pub(crate) policy_id: String,
    /// The version's name, as verdicts have it in policy.version.
    #[arg(long = "version")]
    pub(crate) policy_version: String,
    /// The engine that decides by it, as verdicts have it in policy.engine.
    #[arg(long)]
    pub(crate) engine: String,
    /// The version's digest, 64 hex digits, as verdicts have it in policy.digest; the ledger then
    /// keeps no texts.
    #[arg(long)]
    pub(crate) digest: Option<String>,
    /// The policy's text, which the ledger keeps; the digest is made of it and the schema.
    #[arg(long, requires = "schema")]
    pub(crate) policy: Option<PathBuf>,
    /// The schema's text.
    #[arg(long, requires = "policy")]
    pub(crate) schema: Option<PathBuf>,
    /// Folder of the identity of the policy's owner, who signs, such as DIR/identities/policy-admin.
    #[arg(long)]
    pub(crate) owner: PathBuf,
}

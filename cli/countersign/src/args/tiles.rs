//! What can be asked of a log's static files, of a mirror and of a witness.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

#[derive(Args)]
pub(crate) struct ExportTilesArgs {
    /// Folder for the files; one that holds an earlier export of the same log is continued.
    pub(crate) dir: PathBuf,
    /// URL under which the log serves /checkpoint and /tile/…, such as http://127.0.0.1:7480: the
    /// HTTP port of a ledger, or whatever stands before it.
    #[arg(long, env = "COUNTERSIGN_TILES")]
    pub(crate) from: String,
    /// Trust file with the log's key: nothing is believed that does not hash to a head it signed.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: PathBuf,
    /// How to report; jsonl prints {"origin","size","written","kept"}.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct WitnessArgs {
    /// Folder with witness.toml, the witness's key, and the heads that it cosigned.
    #[arg(long, env = "COUNTERSIGN_WITNESS_DIR")]
    pub(crate) dir: PathBuf,
    /// Address to serve add-checkpoint on; port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_WITNESS_HTTP", default_value = "127.0.0.1:7495")]
    pub(crate) http: SocketAddr,
    /// File to write {"http","pid","vkey"} to once the witness can be called.
    #[arg(long, env = "COUNTERSIGN_READY_FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Make the folder with a new key under this name, print its vkey, and end. The name is a URL
    /// without scheme such as witness.acme.example/w1.
    #[arg(long, value_name = "NAME")]
    pub(crate) init: Option<String>,
    /// vkey of a log to witness, for the configuration that --init writes; may be repeated.
    #[arg(long, value_name = "VKEY", requires = "init")]
    pub(crate) log: Vec<String>,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MirrorArgs {
    #[command(subcommand)]
    pub(crate) command: Option<MirrorCommand>,
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

#[derive(Subcommand)]
pub(crate) enum MirrorCommand {
    /// Hold two copies of one log against each other: two histories are an alarm.
    Compare(CompareArgs),
}

#[derive(Args)]
pub(crate) struct FollowArgs {
    /// File that names many logs and where they are kept; instead of the options below it.
    #[arg(long, env = "COUNTERSIGN_MIRROR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to keep the log in; one that holds an earlier mirror is gone on with.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Bucket to keep it in, such as s3://bucket/mirror; key, region and endpoint come from AWS_*.
    #[arg(long, conflicts_with = "dir")]
    pub(crate) to: Option<String>,
    /// URL under which the log serves /checkpoint and /tile/…, such as http://127.0.0.1:7480.
    #[arg(long, env = "COUNTERSIGN_TILES")]
    pub(crate) from: Option<String>,
    /// Trust file with the log's keys.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
    /// The log's name, where the trust file names several.
    #[arg(long)]
    pub(crate) origin: Option<String>,
    /// The ledger's gRPC address, to hear of heads at once and to pull the tenant's own evidence.
    #[arg(long, env = "COUNTERSIGN_SERVER", requires = "identity")]
    pub(crate) server: Option<String>,
    /// Folder of the identity to call it with, such as DIR/identities/auditor.
    #[arg(long, env = "COUNTERSIGN_IDENTITY")]
    pub(crate) identity: Option<PathBuf>,
    /// Folder of evidence, receipts or heads that were given out: each must be of the log that is
    /// followed.
    #[arg(long)]
    pub(crate) receipts: Option<PathBuf>,
    /// Seconds between two looks at the log's newest head; 10 where nothing is said.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval_s: Option<u64>,
    /// End once the newest head is held.
    #[arg(long)]
    pub(crate) once: bool,
    /// Address to serve /livez, /readyz and /metrics on; port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_MIRROR_HTTP")]
    pub(crate) http: Option<SocketAddr>,
    /// File to write {"http","pid"} to once the logs are followed.
    #[arg(long, env = "COUNTERSIGN_READY_FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How to report; jsonl prints {"origin","size","root","evidence","waiting"} of each log.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// A mirror: its folder or bucket, or the URL of a log's tiles.
    pub(crate) one: String,
    /// Another one.
    pub(crate) other: String,
    /// Trust file with the keys of the logs to compare.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: PathBuf,
    /// Folder to write alarms to.
    #[arg(long, default_value = ".")]
    pub(crate) out: PathBuf,
    /// How to report; jsonl prints {"origin","sizes","heads","alarm"} of each log.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

//! What can be asked of a log's static files, and of a witness.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

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

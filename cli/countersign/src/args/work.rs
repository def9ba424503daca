//! What can be asked of evidence: find it, pack it, show part of it, erase it, pass it on.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use countersign_core::query::{Field, Filter, Query};

use super::Connection;
use crate::clock::given;
use crate::exit::Failure;

/// How to report records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowOutput {
    /// A table.
    Human,
    /// One JSON object.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// Which records. Each option may be repeated, which asks for any of its values; different options
/// ask for all of them.
#[derive(Args, Clone, Default)]
pub(crate) struct FilterArgs {
    /// Kind of record, such as verdict, approval or outcome.
    #[arg(long)]
    kind: Vec<String>,
    /// Action, a UUIDv7.
    #[arg(long)]
    action_id: Vec<String>,
    /// The action's verb, such as s3:DeleteBucket.
    #[arg(long)]
    action: Vec<String>,
    /// Who asked: the actor's id.
    #[arg(long)]
    actor: Vec<String>,
    /// The actor's session.
    #[arg(long)]
    session: Vec<String>,
    /// Ticket that the action was for.
    #[arg(long)]
    ticket: Vec<String>,
    /// Grant that it was under.
    #[arg(long)]
    grant: Vec<String>,
    /// The resource's id.
    #[arg(long)]
    resource: Vec<String>,
    /// The resource's environment, such as prod.
    #[arg(long)]
    environment: Vec<String>,
    /// The verdict's outcome: approve, refuse or supervise.
    #[arg(long)]
    outcome: Vec<String>,
    /// Code of one of the verdict's reasons.
    #[arg(long)]
    reason: Vec<String>,
    /// Policy version.
    #[arg(long)]
    policy: Vec<String>,
    /// Digest of the policy, in hex.
    #[arg(long)]
    policy_digest: Vec<String>,
    /// The gate's name.
    #[arg(long)]
    gate: Vec<String>,
    /// Person who signed.
    #[arg(long)]
    approver: Vec<String>,
    /// The verdict's mode: enforce or shadow.
    #[arg(long)]
    mode: Vec<String>,
}

impl FilterArgs {
    /// The filters, each checked.
    pub(crate) fn filters(&self) -> Result<Vec<Filter>, Failure> {
        let named = [
            (Field::Kind, &self.kind),
            (Field::ActionId, &self.action_id),
            (Field::Action, &self.action),
            (Field::Actor, &self.actor),
            (Field::Session, &self.session),
            (Field::Ticket, &self.ticket),
            (Field::Grant, &self.grant),
            (Field::Resource, &self.resource),
            (Field::Environment, &self.environment),
            (Field::Outcome, &self.outcome),
            (Field::Reason, &self.reason),
            (Field::Policy, &self.policy),
            (Field::PolicyDigest, &self.policy_digest),
            (Field::Gate, &self.gate),
            (Field::Approver, &self.approver),
            (Field::Mode, &self.mode),
        ];
        let pairs = named
            .into_iter()
            .flat_map(|(field, values)| values.iter().map(move |value| Filter::new(field, value)));
        pairs.collect::<Result<_, _>>().map_err(|fault| Failure::usage(fault.to_string()))
    }
}

/// Which records, and logged when.
#[derive(Args, Clone, Default)]
pub(crate) struct QueryFilterArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    /// Only what was logged at this time or later, such as 2026-11-23T02:00:00Z.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Only what was logged before this time.
    #[arg(long)]
    pub(crate) to: Option<String>,
}

impl QueryFilterArgs {
    /// The query.
    pub(crate) fn query(&self) -> Result<Query, Failure> {
        let time = |text: &Option<String>| {
            let parse = |text: &String| given(Some(text), countersign_core::encoding::Micros(0));
            text.as_ref().map(parse).transpose()
        };
        let (from, to) = (time(&self.from)?, time(&self.to)?);
        Query::new(self.filters.filters()?, from, to)
            .map_err(|fault| Failure::usage(fault.to_string()))
    }
}

#[derive(Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) asked: QueryFilterArgs,
    /// Rows to show at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) limit: u64,
    /// The newest first.
    #[arg(long)]
    pub(crate) newest_first: bool,
    /// Only say how many there are.
    #[arg(long, conflicts_with_all = ["limit", "newest_first", "cursor"])]
    pub(crate) count: bool,
    /// See the log as it was with this many records, a size that a head was signed for: with
    /// --cursor, where the answer before ended.
    #[arg(long)]
    pub(crate) size: Option<u64>,
    /// Go on at this index, as the answer before said.
    #[arg(long, requires = "size")]
    pub(crate) cursor: Option<u64>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = RowOutput::Human)]
    pub(crate) output: RowOutput,
}

#[derive(Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    /// The first index that counts: where an earlier watch ended.
    #[arg(long, default_value_t = 0)]
    pub(crate) from_index: u64,
    /// End after so many records; without it, go on until interrupted.
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Folder to leave each record's evidence file in.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct EvidencePackArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) asked: QueryFilterArgs,
    /// Folder to make; it must not exist. It is written as OUT.partial, where an interrupted pack is
    /// gone on with.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Prove besides that nothing is missing: the folder gets every entry of the log between two
    /// heads, and every record of the tenant's gates there. Those that were not asked for are
    /// reduced to what is never withheld and what the order of an action's records rests on; what
    /// people signed stays whole.
    #[arg(long)]
    pub(crate) complete: bool,
    /// Where a complete pack begins: a kept head (file of a signed note), or the size of one. From
    /// the log's beginning where it is left out.
    #[arg(long, requires = "complete")]
    pub(crate) from_head: Option<String>,
    /// The head that everything is proven under: a kept head, or the size of one. The newest where
    /// it is left out.
    #[arg(long)]
    pub(crate) to_head: Option<String>,
    /// Leave out policies and single certificates, which evidence files carry or name anyway.
    #[arg(long)]
    pub(crate) minimal: bool,
    /// Trust file to verify under; without it that of the identity's folder or of the installation
    /// which that is in.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
    /// Records that are fetched at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) in_flight: u16,
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(false).args(["keep", "withhold"]))]
pub(crate) struct DiscloseArgs {
    /// The evidence file.
    pub(crate) file: PathBuf,
    /// Show these fields, and besides them only what is never withheld; names with commas between
    /// them.
    #[arg(long, value_delimiter = ',')]
    pub(crate) keep: Option<Vec<String>>,
    /// Withhold these fields and show all others; names with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub(crate) withhold: Option<Vec<String>>,
    /// File to write, which must not exist; standard output where it is left out.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Folder of the identity whose key signs: a tenant-admin's. The identity that calls where it is
    /// left out.
    #[arg(long, env = "COUNTERSIGN_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// Indexes of the records, ascending: 7,9-12.
    #[arg(long)]
    pub(crate) entries: String,
    /// Why, for the record, which stays.
    #[arg(long)]
    pub(crate) reason: String,
    /// The retention floor: records logged before this time are free to be erased.
    #[arg(long)]
    pub(crate) floor: String,
    /// Erase without asking: needed where standard input is no terminal.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Trust file to verify under; without it that of the identity's folder or of the installation
    /// which that is in.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
    /// Folder for the evidence of the erasure.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
#[command(group = ArgGroup::new("format").required(true).multiple(false).args(["ocsf", "cef"]))]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) asked: QueryFilterArgs,
    /// OCSF events, one JSON object a line, each with its evidence as raw_data.
    #[arg(long)]
    pub(crate) ocsf: bool,
    /// CEF lines, each with its evidence in base64.
    #[arg(long)]
    pub(crate) cef: bool,
    /// The first index that counts: where an earlier export ended.
    #[arg(long, default_value_t = 0)]
    pub(crate) from_index: u64,
    /// File to add the events to, - for standard output. A line that an interrupted export left
    /// unfinished at its end is taken away.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Trust file to verify under; without it that of the identity's folder or of the installation
    /// which that is in.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    pub(crate) trust: Option<PathBuf>,
    /// Records that are fetched at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) in_flight: u16,
}

#[derive(Args)]
pub(crate) struct DiagnoseArgs {
    /// Folder that `countersign init` made.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// Address of the running ledger; that of the configuration where it is left out.
    #[arg(long, env = "COUNTERSIGN_SERVER")]
    pub(crate) server: Option<String>,
    /// Address of the running gate; that of the configuration where it is left out.
    #[arg(long, env = "COUNTERSIGN_GATE")]
    pub(crate) gate: Option<String>,
}

#[derive(Args)]
pub(crate) struct ReindexArgs {
    /// Folder that `countersign init` made.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
}

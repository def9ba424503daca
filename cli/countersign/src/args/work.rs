//! What can be asked of evidence: find it, pack it, show part of it, erase it, pass it on.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, ValueEnum};
use countersign_core::encoding::{Micros, from_hex_array};
use countersign_core::kinds::{Kind, is_uuid_v7};
use countersign_core::query::{Field, Filter, Query};

use super::{Connection, Output};
use crate::clock::moment;
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
    /// Kind of record.
    #[arg(long, value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)))]
    kind: Vec<String>,
    /// Action, a UUIDv7 as its records spell it.
    #[arg(long, value_parser = action_id)]
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
    /// The verdict's outcome.
    #[arg(long, value_parser = ["approve", "refuse", "supervise"])]
    outcome: Vec<String>,
    /// Code of one of the verdict's reasons.
    #[arg(long)]
    reason: Vec<String>,
    /// Policy version.
    #[arg(long)]
    policy: Vec<String>,
    /// Digest of the policy, 64 digits of hex.
    #[arg(long, value_parser = policy_digest)]
    policy_digest: Vec<String>,
    /// The gate's name.
    #[arg(long)]
    gate: Vec<String>,
    /// Person who signed.
    #[arg(long)]
    approver: Vec<String>,
    /// The verdict's mode.
    #[arg(long, value_parser = ["enforce", "shadow"])]
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
    /// Only what was logged at this time or later: a time such as 2026-11-23T02:00:00Z, or how long
    /// before this call, such as 30m, 1h or 2d.
    #[arg(long, visible_alias = "since", value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<Micros>,
    /// Only what was logged before this time, given in the same way.
    #[arg(long, visible_alias = "until", value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<Micros>,
}

/// An action's id in its one spelling.
fn action_id(text: &str) -> Result<String, String> {
    let forms = "give the action's id as its records spell it, a UUID of version 7 in lower case \
                 such as 0193ad5e-7c00-7000-8000-000000000001.";
    if is_uuid_v7(text) { Ok(text.to_owned()) } else { Err(forms.to_owned()) }
}

/// A policy's digest in its one spelling.
fn policy_digest(text: &str) -> Result<String, String> {
    let forms = "give the whole digest, 64 digits of hex in lower case, as verdicts name it.";
    from_hex_array::<32>(text).map(|_| text.to_owned()).ok_or_else(|| forms.to_owned())
}

impl QueryFilterArgs {
    /// The query.
    pub(crate) fn query(&self) -> Result<Query, Failure> {
        if self.from.zip(self.to).is_some_and(|(from, to)| from >= to) {
            return Err(Failure::usage(
                "--from (or --since) must lie before --to (or --until): nothing is logged in such a \
                 window.",
            ));
        }
        Query::new(self.filters.filters()?, self.from, self.to)
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
    /// Show with each action that is found all that decided it: its verdicts, people's answers, and
    /// what was reported of it, whether they were asked for or not.
    #[arg(long)]
    pub(crate) with_answers: bool,
    /// Only say how many there are.
    #[arg(long, conflicts_with_all = ["limit", "newest_first", "cursor", "with_answers"])]
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
    /// How to report each record.
    #[arg(long, value_enum, default_value_t = Output::Jsonl)]
    pub(crate) output: Output,
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
    /// The head up to which the log is asked: a kept head, or the size of one. The newest where it is
    /// left out. Everything is proven under it, or under that of a later erasure.
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
    /// Write the file although it still tells, in other places, what is withheld; they are named.
    #[arg(long)]
    pub(crate) although_shown: bool,
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
    #[arg(long, env = "COUNTERSIGN_SERVER", value_parser = super::address)]
    pub(crate) server: Option<String>,
    /// Address of the running gate; that of the configuration where it is left out.
    #[arg(long, env = "COUNTERSIGN_GATE", value_parser = super::address)]
    pub(crate) gate: Option<String>,
}

#[derive(Args)]
pub(crate) struct ReindexArgs {
    /// Folder that `countersign init` made.
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
}

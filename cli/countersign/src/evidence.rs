//! `evidence`: the files that prove what became of an action.

use std::path::Path;
use std::time::Duration;

use countersign_client::{Client, ClientError, EvidenceItem};
use countersign_core::codes::Code;
use countersign_core::encoding::{escaped, from_decimal};
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::json::spelt_out;
use countersign_core::kinds::is_uuid_v7;
use countersign_core::quorum::WitnessPolicy;
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::args::{EvidenceArgs, Output};
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, replace, shown, sync_folder};
use crate::gate_link::trust_of;
use crate::identity::Identity;

pub(crate) async fn run(args: EvidenceArgs) -> Result<Exit, Failure> {
    let query = match from_decimal(&args.which) {
        Some(index) => EvidenceQuery::Record(RecordRef::Index(LeafIndex(index))),
        None if is_uuid_v7(&args.which) => EvidenceQuery::Action(args.which.clone()),
        None => {
            return Err(Failure::usage(
                "give an action_id, a UUID of version 7 in lower case as the verdict's record has \
                 it, or the index of a record, as countersign query shows it.",
            ));
        }
    };
    let identity = Identity::read(&args.connection.identity)?;
    let trust = trust_of(&identity, args.trust.as_ref())?;
    let client = Client::connect(identity.client_config(&args.connection.server)).await?;
    let items = if args.witnessed {
        warn_of_policy(trust.as_ref());
        witnessed(&client, query, trust.as_ref(), Duration::from_secs(args.wait)).await
    } else {
        client.evidence(query, TreeSize(0), trust.as_ref()).await
    };
    let items = items.map_err(not_found)?;
    client.settle().await?;
    make_folder(&args.out)?;
    let mut exit = Exit::Success;
    for item in &items {
        let path = args.out.join(format!("{:020}.evidence", item.index.0));
        replace(&path, item.json.as_bytes())?;
        let checked = Checked::of(item, trust.is_some());
        print(item, &path, checked, args.output);
        if checked == Checked::Doubtful {
            exit = Exit::Indeterminate;
            if let Some(doubt) = item.report.decisive() {
                eprintln!("countersign: {}: step {}: {}", shown(&path), doubt.step, doubt.fault);
            }
        }
    }
    sync_folder(&args.out)?;
    if trust.is_none() {
        eprintln!(
            "countersign: entry, receipt, signatures of log and clock, and seal were checked with \
             the log's keys of the identity's folder, and not against a trust file. Who gave the \
             gate its certificate is checked with --trust, or by countersign-verify."
        );
    }
    Ok(exit)
}

/// How often a witnessed head is asked for that is not there yet.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Evidence at a witnessed head, as soon as there is one that covers it.
async fn witnessed(
    client: &Client,
    query: EvidenceQuery,
    trust: Option<&Trust>,
    wait: Duration,
) -> Result<Vec<EvidenceItem>, ClientError> {
    let deadline = Instant::now() + wait;
    loop {
        match client.witnessed_evidence(query.clone(), trust).await {
            Err(error) if error.code() == Code::NotWitnessed && Instant::now() < deadline => {
                sleep(ASK_AGAIN).await;
            }
            answer => return answer,
        }
    }
}

/// Whose cosignatures are enough is the trust file's to say, and not the ledger's.
fn warn_of_policy(trust: Option<&Trust>) {
    if trust.is_none_or(|trust| trust.witnesses.as_ref().is_none_or(WitnessPolicy::is_none)) {
        eprintln!(
            "countersign: no trust file with a witness policy was given ([witnesses]), so that the \
             cosignatures in these files are the ledger's word: they are not checked."
        );
    }
}

/// What is not there is neither proved nor proved wrong: nothing was verified (EVID-7).
fn not_found(error: ClientError) -> Failure {
    let unknown = matches!(error.code(), Code::NotFound | Code::NotWitnessed);
    let failure = Failure::from(error);
    if unknown { Failure { exit: Exit::Indeterminate, ..failure } } else { failure }
}

/// What a file was checked with, and what that came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// VALID under a trust file.
    Valid,
    /// Nothing wrong as far as the log's own keys go, which is all that was asked for.
    UnderLogKey,
    /// Something that is needed is missing or withheld.
    Doubtful,
}

impl Checked {
    /// The client has refused what is proved wrong, and has verified entry, receipt and the log's
    /// signature. Without a trust file the seal is what is left.
    fn of(item: &EvidenceItem, trusted: bool) -> Self {
        let report = &item.report;
        match report.result {
            Verdict::Valid => Self::Valid,
            Verdict::Indeterminate if !trusted && report.facts.sealed_by.is_some() => {
                Self::UnderLogKey
            }
            _ => Self::Doubtful,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Valid => Verdict::Valid.as_str(),
            Self::UnderLogKey => "checked against the log's key, not against a trust file",
            Self::Doubtful => Verdict::Indeterminate.as_str(),
        }
    }
}

fn print(item: &EvidenceItem, path: &Path, checked: Checked, output: Output) {
    let view = item.report.facts.view.as_ref();
    let kind = view.map(|view| view.kind().as_str());
    let outcome = view.and_then(|view| view.str("outcome"));
    match output {
        Output::Human => tell!(
            "{}  {} {} at index {}: {}",
            shown(path),
            kind.unwrap_or("record"),
            escaped(outcome.unwrap_or_default()),
            item.index.0,
            checked.words()
        ),
        Output::Jsonl => tell!(
            "{}",
            spelt_out(
                &json!({
                    "index": item.index.0,
                    "kind": kind,
                    "outcome": outcome,
                    // A result is that of a trust file; without one there is none.
                    "result": (checked != Checked::UnderLogKey).then(|| checked.words()),
                    "evidence": path.display().to_string(),
                })
                .to_string()
            )
        ),
    }
}

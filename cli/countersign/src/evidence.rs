//! `evidence`: the files that prove what became of an action.

use std::path::Path;

use countersign_client::EvidenceItem;
use countersign_core::encoding::{escaped, from_decimal};
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::kinds::is_uuid_v7;
use countersign_core::trust::Trust;
use countersign_core::verify::Verdict;
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use serde_json::json;

use crate::args::{EvidenceArgs, Output};
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, read_trust, replace, shown, sync_folder};
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
    let trust = args.trust.as_deref().map(read_trust).transpose()?;
    if let (Some(trust), Some(path)) = (&trust, &args.trust) {
        names_log(trust, path, &Identity::read(&args.connection.identity)?)?;
    }
    let (_, client) = connect(&args.connection).await?;
    let items = client.evidence(query, TreeSize(0), trust.as_ref()).await?;
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
        Output::Human => println!(
            "{}  {} {} at index {}: {}",
            shown(path),
            kind.unwrap_or("record"),
            escaped(outcome.unwrap_or_default()),
            item.index.0,
            checked.words()
        ),
        Output::Jsonl => println!(
            "{}",
            json!({
                "index": item.index.0,
                "kind": kind,
                "outcome": outcome,
                // A result is that of a trust file; without one there is none.
                "result": (checked != Checked::UnderLogKey).then(|| checked.words()),
                "evidence": path.display().to_string(),
            })
        ),
    }
}

/// A trust file that was made for another log would blame the ledger for being itself.
fn names_log(trust: &Trust, path: &Path, identity: &Identity) -> Result<(), Failure> {
    let named: Vec<String> = trust.logs.iter().map(|log| escaped(&log.vkey.name)).collect();
    let origin = escaped(&identity.file.origin);
    if trust.logs_of(&identity.file.origin).next().is_none() {
        return Err(Failure::usage(format!(
            "{} does not name this log, {origin}: it names {}. Give the trust file of this log, or \
             add the log's vkey to it if you trust it.",
            shown(path),
            named.join(", ")
        )));
    }
    if !trust.logs.iter().any(|log| log.vkey == identity.log) {
        return Err(Failure::usage(format!(
            "{} names the log {origin} with another key than {} has. Ask the operator which one is \
             the log's, by a way that you trust.",
            shown(path),
            shown(&identity.path("log.vkey"))
        )));
    }
    Ok(())
}

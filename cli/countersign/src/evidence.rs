//! `evidence`: the files that prove what became of an action.

use countersign_core::encoding::escaped;
use countersign_core::hash::TreeSize;
use countersign_core::kinds::is_uuid_v7;
use countersign_proto::convert::EvidenceQuery;
use serde_json::json;

use crate::args::{EvidenceArgs, Output};
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, read_trust, replace, shown, sync_folder};

pub(crate) async fn run(args: EvidenceArgs) -> Result<Exit, Failure> {
    if !is_uuid_v7(&args.action_id) {
        return Err(Failure::usage(
            "an action_id is a UUID of version 7 in lower case, as the verdict's record has it.",
        ));
    }
    let trust = args.trust.as_deref().map(read_trust).transpose()?;
    let (_, client) = connect(&args.connection).await?;
    let query = EvidenceQuery::Action(args.action_id.clone());
    let items = client.evidence(query, TreeSize(0), trust.as_ref()).await?;
    client.settle().await?;
    make_folder(&args.out)?;
    for item in &items {
        let path = args.out.join(format!("{:020}.evidence", item.index.0));
        replace(&path, item.json.as_bytes())?;
        let view = item.report.facts.view.as_ref();
        let kind = view.map(|view| view.kind().as_str());
        let outcome = view.and_then(|view| view.str("outcome"));
        match args.output {
            Output::Human => println!(
                "{}  {} {} at index {}: {}",
                shown(&path),
                kind.unwrap_or("record"),
                escaped(outcome.unwrap_or_default()),
                item.index.0,
                item.report.result.as_str()
            ),
            Output::Jsonl => println!(
                "{}",
                json!({
                    "index": item.index.0,
                    "kind": kind,
                    "outcome": outcome,
                    "result": item.report.result.as_str(),
                    "evidence": path.display().to_string(),
                })
            ),
        }
    }
    sync_folder(&args.out)?;
    if trust.is_none() {
        eprintln!(
            "Checked under the log's and its clock's keys alone. Who gave the gate its certificate \
             is checked with --trust, or by countersign-verify."
        );
    }
    Ok(Exit::Success)
}

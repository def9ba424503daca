//! `reconcile`: which approvals and effects on record don't fit each other.

use countersign_client::reconcile::{Finding, findings};
use countersign_core::encoding::escaped;
use serde_json::json;

use crate::args::{Output, ReconcileArgs};
use crate::clock::{given, now};
use crate::exit::{Exit, Failure};
use crate::records::load;

pub(crate) async fn run(args: ReconcileArgs) -> Result<Exit, Failure> {
    let at = given(args.now.as_ref(), now())?;
    let loaded = load(&args.records).await?;
    let found = findings(&loaded.records, at, args.silent_after.saturating_mul(1_000_000));
    for finding in &found {
        tell!("{}", told(finding, args.output));
    }
    let (found, records) = (found.len(), loaded.records.len());
    eprintln!("countersign: {found} findings in {records} verified records.");
    Ok(loaded.exit(if found == 0 { Exit::Success } else { Exit::Invalid }))
}

fn told(finding: &Finding, output: Output) -> String {
    let Finding { matter, index, gate, action_id, permit, since } = finding;
    let since = since.map(countersign_core::encoding::Micros::format);
    match output {
        Output::Human => {
            let named = [
                action_id.as_ref().map(|id| format!("action {}", escaped(id))),
                permit.as_ref().map(|id| format!("permit {}", escaped(id))),
                since.map(|since| format!("since {since}")),
            ];
            let named: Vec<String> = named.into_iter().flatten().collect();
            format!(
                "{}  index {index}, gate {}{}{}: {} {}",
                matter.as_str(),
                escaped(gate),
                if named.is_empty() { "" } else { ", " },
                named.join(", "),
                matter.what(),
                matter.remedy()
            )
        }
        Output::Jsonl => json!({
            "finding": matter.as_str(),
            "index": index,
            "gate": gate,
            "action_id": action_id,
            "permit": permit,
            "since": since,
        })
        .to_string(),
    }
}

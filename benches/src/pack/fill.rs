//! A log of many verdicts, streamed to a real ledger; those that will be asked for stand all over it.

use std::sync::Arc;

use countersign_client::{Gate, PreparedBatch};
use countersign_core::kinds::Kind;

use crate::core::text;
use crate::house::House;
use crate::sample::Actions;

/// The session of the records that will be asked for.
pub(super) const SESSION: &str = "s-asked";
/// Records of one batch.
const BATCH: u64 = 512;
/// Batches that wait for their answers on one call.
const IN_FLIGHT: usize = 8;
/// Streams that fill the log at once: instances of one gate.
const STREAMS: u64 = 2;

/// Logs `log` verdicts, of which `asked` are of the session.
pub(super) async fn log(
    house: &House,
    ledger: &str,
    actions: &Arc<Actions>,
    (asked, log): (u64, u64),
) -> Result<(), String> {
    let mut tasks = Vec::new();
    for (instance, at) in (0_u32..).zip(0..STREAMS) {
        let gate = house.gate(ledger, instance).await?;
        let part = log * at / STREAMS..log * (at + 1) / STREAMS;
        tasks.push(tokio::spawn(stream(gate, Arc::clone(actions), part, (asked, log))));
    }
    for task in tasks {
        task.await.map_err(text)??;
    }
    Ok(())
}

async fn stream(
    gate: Gate,
    actions: Arc<Actions>,
    part: std::ops::Range<u64>,
    (asked, log): (u64, u64),
) -> Result<(), String> {
    let (sender, mut receiver) = gate.client().submit_stream(IN_FLIGHT);
    let count = part.end - part.start;
    let sending = tokio::spawn(async move {
        let mut last: Option<Arc<PreparedBatch>> = None;
        let mut at = part.start;
        while at < part.end {
            let end = (at + BATCH).min(part.end);
            let drafts = (at..end)
                .map(|n| {
                    let verdict = verdict(&actions, n, (asked, log));
                    gate.draft(Kind::Verdict, &verdict).map_err(text)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let batch = match &last {
                None => gate.prepare(&drafts),
                Some(last) => gate.prepare_after(last, &drafts),
            };
            let batch = batch.map_err(text)?;
            sender.send(Arc::clone(&batch)).await.map_err(text)?;
            last = Some(batch);
            at = end;
        }
        Ok::<(), String>(())
    });
    let mut logged = 0;
    while let Some(outcome) = receiver.next().await.map_err(text)? {
        for record in outcome.records {
            record.result.map_err(text)?;
            logged += 1;
        }
    }
    sending.await.map_err(text)??;
    if logged == count { Ok(()) } else { Err(format!("{logged} of {count} were answered")) }
}

/// The nth verdict; every so many of them, as often as will be asked for, it is of the session.
fn verdict(actions: &Actions, n: u64, (asked, log): (u64, u64)) -> String {
    let verdict = actions.verdict(n);
    // How many of them there are up to and with this one, and before it.
    let is_asked = (n + 1) * asked / log > n * asked / log;
    if is_asked {
        let own = format!("\"session\":\"s-{}\"", n / 100);
        verdict.replacen(&own, &format!("\"session\":\"{SESSION}\""), 1)
    } else {
        verdict
    }
}

//! `watch`: the tenant's own records as they come, one a line.

use std::io::Write as _;

use countersign_client::{Client, WatchedRecord};
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Output, WatchArgs};
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::files::make_folder;
use crate::gate_link::{keep, trust_of};
use crate::query::row::{jsonl, line};
use crate::query::words::{notice_in_full, says_more};

pub(crate) async fn run(args: WatchArgs) -> Result<Exit, Failure> {
    let filters = args.filters.filters()?;
    let (identity, client) = connect(&args.connection).await?;
    let trust = if args.out.is_some() { trust_of(&identity, None)? } else { None };
    if let Some(out) = &args.out {
        make_folder(out)?;
    }
    let from = LeafIndex(args.from_index);
    let mut watch = client.watch_records(from, &filters, args.out.is_some(), trust).await?;
    let no_signal = |error: std::io::Error| Failure::io(format!("signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut seen = 0;
    let ended = loop {
        if args.count.is_some_and(|count| seen >= count) {
            break Ok(Exit::Success);
        }
        let next = tokio::select! {
            next = watch.next() => next,
            _ = interrupt.recv() => break Ok(Exit::Success),
            _ = terminate.recv() => break Ok(Exit::Success),
        };
        match next {
            Ok(Some(record)) => {
                seen += 1;
                if let (Some(out), Some(item)) = (&args.out, &record.evidence) {
                    keep(item, out)?;
                }
                let line = match args.output {
                    Output::Jsonl => jsonl(&record.row),
                    Output::Human => told(&client, &record).await?,
                } + "\n";
                // Whoever reads it wants it now, and may go away.
                let mut stdout = std::io::stdout().lock();
                let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
                written.map_err(|error| Failure::io(format!("standard output: {error}")))?;
            }
            Ok(None) => break Ok(Exit::Io),
            Err(error) => break Err(Failure::from(error)),
        }
    };
    eprintln!(
        "countersign: {seen} records. The same command goes on with --from-index {}.",
        watch.next_index().0
    );
    ended
}

/// A record for people: its row, and of a notice what its record says.
async fn told(client: &Client, record: &WatchedRecord) -> Result<String, Failure> {
    let row = &record.row;
    let more = match &record.evidence {
        Some(item) => item.report.facts.view.as_ref().and_then(notice_in_full),
        None if says_more(row) => {
            let query = EvidenceQuery::Record(RecordRef::Index(row.index));
            let items = client.evidence(query, TreeSize(0), None).await?;
            let view = items.first().and_then(|item| item.report.facts.view.as_ref());
            view.and_then(notice_in_full)
        }
        None => None,
    };
    Ok(line(row, more.as_deref()))
}

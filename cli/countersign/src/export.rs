//! `export`: records for other systems, one event a line, each with its whole evidence inside, so
//! that nothing is lost and everything can be verified where it arrives (XCH-1,
//! spec/interchange.md).

mod cef;
mod ocsf;
mod target;

use std::sync::Arc;

use countersign_core::encoding::escaped;
use countersign_core::query::Row;
use countersign_core::verify::Verdict;

use self::target::Target;
use crate::args::ExportArgs;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::fetch::{Fetch, Fetched};
use crate::files::shown;
use crate::gate_link::trust_of;
use crate::query::{PAGE, Pages};

/// One record on its way out.
struct Event<'a> {
    origin: &'a str,
    row: &'a Row,
    /// The evidence file's text.
    evidence: &'a str,
    /// What verifying it here came to; the receiver should not rely on that.
    result: Verdict,
}

pub(crate) async fn run(args: ExportArgs) -> Result<Exit, Failure> {
    let query = args.asked.query()?;
    let (identity, client) = connect(&args.connection).await?;
    let trust = trust_of(&identity, args.trust.as_ref())?;
    if trust.is_none() {
        eprintln!(
            "countersign: events are checked with the log's own keys, and not against a trust file. \
             Name one with --trust."
        );
    }
    let format = if args.ocsf { ocsf::line } else { cef::line };
    let index_of = if args.ocsf { ocsf::index_of } else { cef::index_of };
    let mut target = Target::open(&args.out, index_of)?;
    let from = target.next_index().map_or(args.from_index, |next| next.max(args.from_index));
    let head = client.head().await?;
    let trust = Arc::new(trust);
    let mut fetch = Fetch::new(&client, &trust, head.size(), args.in_flight);
    let mut out = Out { target: &mut target, origin: client.origin().to_owned(), format, count: 0 };
    let mut pages = Pages::of(&client, &query, None).starting_at(from, head.size());
    while from < head.size().0
        && let Some(rows) = pages.next(PAGE).await?
    {
        for row in rows {
            if fetch.is_full()
                && let Some(fetched) = fetch.next().await?
            {
                out.write(&fetched)?;
            }
            fetch.ask(row.index.0, None);
        }
    }
    while let Some(fetched) = fetch.next().await? {
        out.write(&fetched)?;
    }
    let count = out.count;
    target.finish()?;
    client.settle().await?;
    eprintln!(
        "countersign: {count} events of log {} as of {} records. The next export goes on with \
         --from-index {}{}.",
        escaped(client.origin()),
        head.size().0,
        head.size().0.max(from),
        if target.is_file() {
            format!(", or by itself after the last event of {}", shown(&args.out))
        } else {
            String::new()
        }
    );
    Ok(if count == 0 { Exit::Indeterminate } else { Exit::Success })
}

struct Out<'t> {
    target: &'t mut Target,
    origin: String,
    format: fn(&Event<'_>) -> String,
    count: u64,
}

impl Out<'_> {
    fn write(&mut self, fetched: &Fetched) -> Result<(), Failure> {
        let facts = &fetched.report.facts;
        let (Some(view), Some(root), Some(entry)) = (&facts.view, facts.root, &facts.entry) else {
            return Err(Failure::invalid(format!(
                "the record at index {} can't be read. Ask for its evidence by itself: countersign \
                 evidence {0}.",
                fetched.index
            )));
        };
        let index = countersign_core::hash::LeafIndex(fetched.index);
        // Whether it was erased, its evidence does not say: that is the erasure's own record.
        let row = Row::of(entry, index, root, view, false);
        let text = String::from_utf8(fetched.evidence.to_bytes())
            .map_err(|_| Failure::internal("evidence is no text"))?;
        let result = fetched.report.result;
        let event = Event { origin: &self.origin, row: &row, evidence: &text, result };
        self.count += 1;
        self.target.line(&(self.format)(&event))
    }
}

#[cfg(test)]
mod tests;

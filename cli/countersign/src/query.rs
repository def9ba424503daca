//! `query`: which records there are. Every line is the ledger's word and names the index that its
//! proof is fetched by.

mod answers;
pub(crate) mod row;
pub(crate) mod words;

use countersign_client::{Client, Cursor, Paging};
use countersign_core::encoding::Micros;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::json::spelt_out;
use countersign_core::query::{Query, Row};
use serde_json::json;

use self::answers::{Answers, in_full};
use self::row::{jsonl, row_json, table};
use crate::args::{QueryArgs, RowOutput};
use crate::connect::connect;
use crate::exit::{Exit, Failure};

/// Rows that one call asks for.
pub(crate) const PAGE: u32 = 1_000;

pub(crate) async fn run(args: QueryArgs) -> Result<Exit, Failure> {
    let query = args.asked.query()?;
    let (_, client) = connect(&args.connection).await?;
    let mut pages = Pages::new(&client, &query, &args);
    if args.count {
        return count(&mut pages, &args).await;
    }
    let mut answers = args.with_answers.then(|| Answers::new(&client, args.newest_first));
    let mut shown = 0;
    let mut kept = Vec::new();
    while shown < args.limit {
        let most = u32::try_from(args.limit - shown).unwrap_or(PAGE).min(PAGE);
        let Some(mut rows) = pages.next(most).await? else { break };
        shown += rows.len() as u64;
        if let Some(answers) = &mut answers {
            rows = answers.beside(rows, pages.size).await?;
        }
        match args.output {
            RowOutput::Jsonl => rows.iter().for_each(|row| tell!("{}", jsonl(row))),
            RowOutput::Human | RowOutput::Json => kept.extend(rows),
        }
    }
    match args.output {
        RowOutput::Human if !kept.is_empty() => {
            let more = in_full(&client, &kept, pages.size).await?;
            tell!("{}", table(&kept, &more));
        }
        RowOutput::Json => {
            let rows: Vec<_> = kept.iter().map(row_json).collect();
            tell!("{}", spelt_out(&format!("{:#}", pages.summary(&rows))));
        }
        _ => {}
    }
    let first = kept.first().map(|row| row.index.0);
    pages.say(&args, shown, first);
    Ok(if shown == 0 { Exit::Indeterminate } else { Exit::Success })
}

async fn count(pages: &mut Pages<'_>, args: &QueryArgs) -> Result<Exit, Failure> {
    let mut count = 0;
    while let Some(rows) = pages.next(PAGE).await? {
        count += rows.len() as u64;
    }
    match args.output {
        RowOutput::Human => tell!("{count}"),
        RowOutput::Json | RowOutput::Jsonl => tell!(
            "{}",
            json!({
                "count": count,
                "size": pages.size.0,
                "erased_unmatched": pages.erased_unmatched,
            })
        ),
    }
    pages.say_size();
    Ok(if count == 0 { Exit::Indeterminate } else { Exit::Success })
}

/// An answer, page by page, all of it as of one size of the log.
pub(crate) struct Pages<'c> {
    client: &'c Client,
    query: &'c Query,
    newest_first: bool,
    /// Where to go on; the first page has no cursor, and neither has what follows the last.
    next: Option<Cursor>,
    ended: bool,
    asked_size: Option<TreeSize>,
    /// The size that the answer is as of.
    pub(crate) size: TreeSize,
    time: Option<u64>,
    /// Erased records of which it can't be said whether they are among those asked for.
    pub(crate) erased_unmatched: u64,
}

impl<'c> Pages<'c> {
    fn new(client: &'c Client, query: &'c Query, args: &QueryArgs) -> Self {
        let size = args.size.map(TreeSize);
        let cursor = args.cursor.zip(size).map(|(at, size)| Cursor { at: LeafIndex(at), size });
        Self { newest_first: args.newest_first, next: cursor, ..Self::of(client, query, size) }
    }

    /// Everything that answers, ascending, as of a size or of the newest head.
    pub(crate) fn of(client: &'c Client, query: &'c Query, size: Option<TreeSize>) -> Self {
        Self {
            client,
            query,
            newest_first: false,
            next: None,
            ended: false,
            asked_size: size,
            size: TreeSize(0),
            time: None,
            erased_unmatched: 0,
        }
    }

    /// Begins at an index instead of the first.
    pub(crate) fn starting_at(mut self, index: u64, size: TreeSize) -> Self {
        self.next = Some(Cursor { at: LeafIndex(index), size });
        self
    }

    /// The next page of at most so many rows, which may be empty; `None` after the last.
    pub(crate) async fn next(&mut self, limit: u32) -> Result<Option<Vec<Row>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let cursor = self.next;
        let paging = Paging {
            cursor,
            size: if cursor.is_some() { None } else { self.asked_size },
            limit,
            newest_first: self.newest_first,
        };
        let page = self.client.query(self.query, &paging).await?;
        self.size = page.head.size();
        self.time = page.head.clock_seconds();
        self.erased_unmatched += page.erased_unmatched;
        self.next = page.next;
        self.ended = page.next.is_none();
        Ok(Some(page.rows))
    }

    fn summary(&self, rows: &[serde_json::Value]) -> serde_json::Value {
        json!({
            "size": self.size.0,
            "next_cursor": self.next.map(|cursor| cursor.at.0),
            "erased_unmatched": self.erased_unmatched,
            "rows": rows,
        })
    }

    /// What one should know of an answer, and the commands that come next.
    fn say(&self, args: &QueryArgs, shown: u64, first: Option<u64>) {
        if shown == 0 {
            eprintln!(
                "countersign: nothing found. Whether a record is missing, only a complete pack \
                 proves: countersign pack --complete."
            );
        }
        self.say_size();
        if let Some(cursor) = self.next {
            eprintln!(
                "countersign: there are more; the same command goes on with --size {} --cursor {}.",
                cursor.size.0, cursor.at.0
            );
        }
        if shown > 0 {
            let index = first.map_or_else(|| "INDEX".to_owned(), |index| index.to_string());
            eprintln!(
                "countersign: rows are the ledger's word. Their proof: countersign evidence {index} \
                 --out DIR --server {} --identity {}",
                countersign_core::encoding::escaped(&args.connection.server),
                crate::files::shown(&args.connection.identity)
            );
        }
    }

    fn say_size(&self) {
        let time = self.time.map(|seconds| Micros(seconds.saturating_mul(1_000_000)).format());
        eprintln!(
            "countersign: as of the log's first {} records{}.",
            self.size.0,
            time.map(|time| format!(", whose head was signed at {time}")).unwrap_or_default()
        );
        if self.erased_unmatched > 0 {
            eprintln!(
                "countersign: {} erased records can't be asked for this any more; they may or may \
                 not be among those meant.",
                self.erased_unmatched
            );
        }
    }
}

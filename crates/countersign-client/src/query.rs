//! Lists of records: pages, and records as they come.
//!
//! A row is never more than the ledger's word. What is checked of a page is that it is in order, as
//! of a head that the log signed and that continues what this client saw; that a row is true is
//! proven by the evidence of its index, and that none is missing by a complete pack.

use std::sync::Arc;

use countersign_core::codes::{Code, Fault};
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::query::{Filter, Query, Row};
use countersign_core::trust::Trust;
use countersign_proto::convert::{EvidenceQuery, PageQuery, QueryPage, RecordRef, watch_to_wire};
use countersign_proto::v1;
use tonic::{Request, Streaming};

use crate::client::{Client, EvidenceItem, HeadWanted, own_trust};
use crate::error::ClientError;
use crate::heads::VerifiedHead;
use crate::reach::from_status;

/// Where the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The index to go on at.
    pub at: LeafIndex,
    /// The size of the head that all pages are as of.
    pub size: TreeSize,
}

/// Which page, and how large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// From the page before; none for the first.
    pub cursor: Option<Cursor>,
    /// For a first page: the size of the committed head to see the log as of; none for the newest.
    pub size: Option<TreeSize>,
    /// Rows at most, up to 1,000; 0 stands for the ledger's own default.
    pub limit: u32,
    /// Descending by index.
    pub newest_first: bool,
}

/// A page of rows: the ledger's word, as of a head that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rows, by index in the order asked for. There may be none, and a next page all the same.
    pub rows: Vec<Row>,
    /// Where the next page begins; none where this is the last.
    pub next: Option<Cursor>,
    /// The head that the page is as of.
    pub head: Arc<VerifiedHead>,
    /// Erased records that the page passed over, and that can't be asked any more what was asked.
    pub erased_unmatched: u64,
}

/// A record of a watch.
#[derive(Clone, Debug)]
pub struct WatchedRecord {
    /// Its row: the ledger's word.
    pub row: Row,
    /// Its evidence, verified, where it was asked for.
    pub evidence: Option<EvidenceItem>,
}

/// Records as they come.
#[derive(Debug)]
pub struct RecordWatch {
    client: Client,
    records: Streaming<v1::WatchRecordsResponse>,
    /// What evidence is verified under; none where none was asked for.
    trust: Option<Trust>,
    next_index: LeafIndex,
}

fn mismatch(field: &'static str) -> ClientError {
    ClientError::Answer(Code::AnswerMismatch.at_field(field))
}

impl Client {
    /// A page of the caller's tenant's records that a query asks for.
    ///
    /// # Errors
    ///
    /// The ledger's refusal (`CURSOR_MALFORMED`, `SIZE_UNKNOWN`, `QUERY_MALFORMED` for the limit);
    /// an answer that is out of order, or as of another head than was asked for.
    pub async fn query(&self, query: &Query, paging: &Paging) -> Result<Page, ClientError> {
        let floor = self.inner.tracker.floor()?;
        let size = paging.cursor.map_or(paging.size, |cursor| Some(cursor.size));
        let asked = PageQuery {
            query: query.clone(),
            cursor: paging.cursor.map(|cursor| cursor.at),
            size,
            limit: paging.limit,
            newest_first: paging.newest_first,
        };
        let mut grpc = self.grpc();
        let request = self.request(v1::QueryRequest::from(asked));
        let response = self.call(grpc.query(request)).await?;
        let page = QueryPage::try_from(response).map_err(ClientError::Answer)?;
        check(&page, paging).map_err(ClientError::Answer)?;
        if size.is_some_and(|size| size != page.size) {
            return Err(mismatch("size"));
        }
        let head = if size.is_some() {
            let head = self.inner.keys.verify(&page.checkpoint).map_err(ClientError::Answer)?;
            self.take_old_head(&head).await?;
            head
        } else {
            self.newest_head(&page.checkpoint, &floor, false).await?
        };
        if head.size() != page.size {
            return Err(mismatch("size"));
        }
        let next = page.next_cursor.map(|at| Cursor { at, size: page.size });
        Ok(Page { rows: page.rows, next, head, erased_unmatched: page.erased_unmatched })
    }

    /// The caller's tenant's records that match, from an index on and then as they are published.
    /// `with_evidence` has each record's evidence sent and verified, under `trust` or as
    /// [`Client::evidence`] does without one. When the watch ends, [`RecordWatch::next_index`] is
    /// where another goes on.
    pub async fn watch_records(
        &self,
        from: LeafIndex,
        filters: &[Filter],
        with_evidence: bool,
        trust: Option<Trust>,
    ) -> Result<RecordWatch, ClientError> {
        self.inner.tracker.floor()?;
        let mut grpc = self.grpc();
        // No deadline: the call lasts as long as the watch.
        let request = Request::new(watch_to_wire(from, filters, with_evidence));
        let records = self.call(grpc.watch_records(request)).await?;
        let trust = with_evidence.then(|| trust.unwrap_or_else(|| own_trust(&self.inner.keys)));
        Ok(RecordWatch { client: self.clone(), records, trust, next_index: from })
    }
}

/// Whether a page is in the order that was asked for, inside the log, with a cursor that goes on.
fn check(page: &QueryPage, paging: &Paging) -> Result<(), Fault> {
    let fault = |field| Err(Code::AnswerMismatch.at_field(field));
    let follows = |a: LeafIndex, b: LeafIndex| if paging.newest_first { a > b } else { a < b };
    let in_order = page.rows.is_sorted_by(|a, b| follows(a.index, b.index));
    let inside = page.rows.iter().all(|row| row.index.0 < page.size.0);
    let (first, last) = (page.rows.first(), page.rows.last());
    let from_cursor =
        paging.cursor.zip(first).is_none_or(|(cursor, first)| !follows(first.index, cursor.at));
    if !in_order || !inside || !from_cursor {
        return fault("rows");
    }
    let on = page.next_cursor.is_none_or(|next| {
        let after_rows = last.is_none_or(|last| follows(last.index, next));
        let after_cursor = paging.cursor.is_none_or(|cursor| follows(cursor.at, next));
        after_rows && after_cursor && next.0 < page.size.0
    });
    if on { Ok(()) } else { fault("next_cursor") }
}

impl RecordWatch {
    /// The next record; `None` when the ledger ended the watch.
    pub async fn next(&mut self) -> Result<Option<WatchedRecord>, ClientError> {
        let message = self.records.message().await.map_err(|status| from_status(&status))?;
        let Some(message) = message else { return Ok(None) };
        let row = message.row.ok_or_else(|| mismatch("row"))?;
        let row = Row::try_from(row).map_err(ClientError::Answer)?;
        let next = row.index.0.checked_add(1);
        if row.index < self.next_index || next != Some(message.next_index) {
            return Err(mismatch("next_index"));
        }
        let evidence = match &self.trust {
            None => None,
            Some(trust) => {
                let asked = EvidenceQuery::Record(RecordRef::Index(row.index));
                let file = v1::EvidenceFile { index: row.index.0, json: message.evidence_json };
                let wanted = HeadWanted::AtLeast(TreeSize(0));
                let (item, head) = self.client.evidence_item(file, &asked, wanted, trust)?;
                self.client.take_old_head(&head).await?;
                Some(item)
            }
        };
        self.next_index = LeafIndex(message.next_index);
        Ok(Some(WatchedRecord { row, evidence }))
    }

    /// Where to go on after the last record that was given out.
    pub fn next_index(&self) -> LeafIndex {
        self.next_index
    }
}

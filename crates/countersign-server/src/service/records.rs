//! Pages of records, entries, erasures.

use countersign_core::codes::Code;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_log::api::{ErasureRequest, PageRequest, RecordAt};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_proto::convert::{
    ENTRIES_MAX, ErasureAsked, PageQuery, QueryPage, entries_to_wire,
};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;

use super::evidence::file;
use super::{faulty, refusal};

/// One page of a tenant's records.
pub(super) async fn page<S: Store>(
    ledger: &Ledger<S>,
    tenant: String,
    request: v1::QueryRequest,
) -> Result<v1::QueryResponse, Refusal> {
    let asked = PageQuery::try_from(request).map_err(faulty)?;
    let request = PageRequest {
        tenant,
        query: asked.query,
        size: asked.size,
        cursor: asked.cursor,
        limit: asked.limit as usize,
        newest_first: asked.newest_first,
    };
    let page = ledger.query(&request).await.map_err(refusal)?;
    let answer = QueryPage {
        rows: page.rows,
        next_cursor: page.next,
        size: page.head.size,
        checkpoint: page.head.note.clone(),
        erased_unmatched: page.erased_unmatched,
    };
    Ok(answer.into())
}

/// Entries of the log.
pub(super) async fn entries<S: Store>(
    ledger: &Ledger<S>,
    request: v1::GetEntriesRequest,
) -> Result<v1::GetEntriesResponse, Refusal> {
    let v1::GetEntriesRequest { from, count } = request;
    if count == 0 || count > ENTRIES_MAX {
        return Err(faulty(Code::QueryMalformed.at_field("count")));
    }
    let entries = ledger.entries(LeafIndex(from), u64::from(count)).await.map_err(refusal)?;
    Ok(entries_to_wire(&entries))
}

/// Erases payloads. The answer carries the evidence of the erasure.
pub(super) async fn erase<S: Store>(
    ledger: &Ledger<S>,
    tenant: String,
    request: v1::EraseRequest,
    retention_us: u64,
) -> Result<v1::EraseResponse, Refusal> {
    let asked = ErasureAsked::try_from(request).map_err(faulty)?;
    let ErasureAsked { entries, reason, chain, signature } = asked;
    let asked_by = tenant.clone();
    let request = ErasureRequest { tenant, entries, reason, chain, signature, retention_us };
    let done = ledger.erase(request).await.map_err(refusal)?;
    let covering = TreeSize(done.index.0.saturating_add(1));
    let at = RecordAt::Index(done.index);
    let (index, evidence) =
        ledger.evidence(Some(&asked_by), at, covering).await.map_err(refusal)?;
    let evidence_json = file(index, evidence.to_bytes())?.json;
    Ok(v1::EraseResponse { index: index.0, evidence_json, erased: done.erased })
}

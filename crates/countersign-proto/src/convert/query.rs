//! Queries, rows, entries, erasures.

use bytes::Bytes;
use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::entry::ENTRY_BYTES;
use countersign_core::hash::{Hash, LeafIndex, RecordRoot, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::query::{FILTERS_MAX, Field, Filter, Query, Row};
use prost::bytes;

use super::{array, chain, chain_to_wire, hashes, stream_id};
use crate::v1;

/// Rows of one page.
pub const ROWS_MAX: u32 = 1_000;
/// Rows of a page that says no number.
const ROWS_DEFAULT: u32 = 100;
/// Entries of one answer.
pub const ENTRIES_MAX: u32 = 16_384;

/// A page that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// What is asked.
    pub query: Query,
    /// The index to go on at; none for the first page.
    pub cursor: Option<LeafIndex>,
    /// The size of the head to see the log as of; none for the newest.
    pub size: Option<TreeSize>,
    /// Rows at most.
    pub limit: u32,
    /// Descending by index.
    pub newest_first: bool,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryPage {
    /// The rows.
    pub rows: Vec<Row>,
    /// The next page's cursor.
    pub next_cursor: Option<LeafIndex>,
    /// The size that the page is as of.
    pub size: TreeSize,
    /// Signed note of the head of that size.
    pub checkpoint: String,
    /// Erased records that were passed over.
    pub erased_unmatched: u64,
}

/// A request that payloads be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureAsked {
    /// The indexes, not yet read.
    pub entries: String,
    /// Why.
    pub reason: String,
    /// The person's chain, not yet verified.
    pub chain: Vec<Certificate>,
    /// Their signature, not yet verified.
    pub signature: [u8; 64],
}

fn filters_from(filters: &[v1::Filter]) -> Result<Vec<Filter>, Fault> {
    if filters.len() > FILTERS_MAX {
        return Err(Code::QueryMalformed.at_field("filters"));
    }
    let read = |filter: &v1::Filter| {
        let field = Field::parse(&filter.field).ok_or(Code::QueryMalformed.at_field("field"))?;
        Filter::new(field, &filter.value)
    };
    filters.iter().map(read).collect()
}

fn filters_to_wire(filters: &[Filter]) -> Vec<v1::Filter> {
    let write = |filter: &Filter| v1::Filter {
        field: filter.field().as_str().to_owned(),
        value: filter.value().to_owned(),
    };
    filters.iter().map(write).collect()
}

impl TryFrom<v1::QueryRequest> for PageQuery {
    type Error = Fault;

    fn try_from(request: v1::QueryRequest) -> Result<Self, Fault> {
        let filters = filters_from(&request.filters)?;
        let query = Query::new(filters, request.from_us.map(Micros), request.to_us.map(Micros))?;
        if request.limit > ROWS_MAX {
            return Err(Code::QueryMalformed.at_field("limit"));
        }
        Ok(Self {
            query,
            cursor: request.cursor.map(LeafIndex),
            size: (request.size > 0).then_some(TreeSize(request.size)),
            limit: if request.limit == 0 { ROWS_DEFAULT } else { request.limit },
            newest_first: request.newest_first,
        })
    }
}

impl From<PageQuery> for v1::QueryRequest {
    fn from(page: PageQuery) -> Self {
        Self {
            tenant: String::new(),
            filters: filters_to_wire(page.query.filters()),
            from_us: page.query.from().map(|from| from.0),
            to_us: page.query.to().map(|to| to.0),
            cursor: page.cursor.map(|cursor| cursor.0),
            size: page.size.map_or(0, |size| size.0),
            limit: page.limit,
            newest_first: page.newest_first,
        }
    }
}

impl TryFrom<v1::WatchRecordsRequest> for Query {
    type Error = Fault;

    fn try_from(request: v1::WatchRecordsRequest) -> Result<Self, Fault> {
        Self::new(filters_from(&request.filters)?, None, None)
    }
}

/// A request for the records that match, from an index on.
pub fn watch_to_wire(
    from: LeafIndex,
    filters: &[Filter],
    with_evidence: bool,
) -> v1::WatchRecordsRequest {
    v1::WatchRecordsRequest {
        tenant: String::new(),
        from_index: from.0,
        filters: filters_to_wire(filters),
        with_evidence,
    }
}

impl From<QueryPage> for v1::QueryResponse {
    fn from(page: QueryPage) -> Self {
        Self {
            rows: page.rows.into_iter().map(v1::Row::from).collect(),
            next_cursor: page.next_cursor.map(|cursor| cursor.0),
            size: page.size.0,
            checkpoint: page.checkpoint,
            erased_unmatched: page.erased_unmatched,
        }
    }
}

impl TryFrom<v1::QueryResponse> for QueryPage {
    type Error = Fault;

    fn try_from(response: v1::QueryResponse) -> Result<Self, Fault> {
        if response.rows.len() > ROWS_MAX as usize {
            return Err(Code::AnswerMismatch.at_field("rows"));
        }
        Ok(Self {
            rows: response.rows.into_iter().map(Row::try_from).collect::<Result<_, _>>()?,
            next_cursor: response.next_cursor.map(LeafIndex),
            size: TreeSize(response.size),
            checkpoint: response.checkpoint,
            erased_unmatched: response.erased_unmatched,
        })
    }
}

impl From<Row> for v1::Row {
    fn from(row: Row) -> Self {
        Self {
            index: row.index.0,
            kind: u32::from(row.kind.number()),
            logged_at_us: row.logged_at.0,
            stream: Bytes::copy_from_slice(&row.stream.0),
            seq: row.seq,
            root: Bytes::copy_from_slice(&row.root.0),
            erased: row.erased,
            gate: row.gate,
            recorded_at: row.recorded_at,
            action_id: row.action_id,
            action: row.action,
            action_class: row.action_class,
            actor: row.actor,
            actor_kind: row.actor_kind,
            on_behalf_of: row.on_behalf_of,
            session: row.session,
            ticket: row.ticket,
            grant: row.grant,
            justification: row.justification,
            resource_type: row.resource_type,
            resource: row.resource,
            environment: row.environment,
            outcome: row.outcome,
            mode: row.mode,
            reasons: row.reasons,
            policy_id: row.policy_id,
            policy_version: row.policy_version,
            policy_digest: row.policy_digest,
            parent: row.parent,
            verdict: row.verdict,
            approver: row.approver,
            decision: row.decision,
            result: row.result,
            about: row.about,
        }
    }
}

impl TryFrom<v1::Row> for Row {
    type Error = Fault;

    fn try_from(row: v1::Row) -> Result<Self, Fault> {
        let kind = u8::try_from(row.kind).ok().and_then(Kind::from_number);
        Ok(Self {
            index: LeafIndex(row.index),
            kind: kind.ok_or(Code::KindUnknown.at_field("kind"))?,
            logged_at: Micros(row.logged_at_us),
            stream: stream_id(&row.stream)?,
            seq: row.seq,
            root: RecordRoot(array(&row.root, "root")?),
            erased: row.erased,
            gate: row.gate,
            recorded_at: row.recorded_at,
            action_id: row.action_id,
            action: row.action,
            action_class: row.action_class,
            actor: row.actor,
            actor_kind: row.actor_kind,
            on_behalf_of: row.on_behalf_of,
            session: row.session,
            ticket: row.ticket,
            grant: row.grant,
            justification: row.justification,
            resource_type: row.resource_type,
            resource: row.resource,
            environment: row.environment,
            outcome: row.outcome,
            mode: row.mode,
            reasons: row.reasons,
            policy_id: row.policy_id,
            policy_version: row.policy_version,
            policy_digest: row.policy_digest,
            parent: row.parent,
            verdict: row.verdict,
            approver: row.approver,
            decision: row.decision,
            result: row.result,
            about: row.about,
        })
    }
}

impl TryFrom<v1::EraseRequest> for ErasureAsked {
    type Error = Fault;

    fn try_from(request: v1::EraseRequest) -> Result<Self, Fault> {
        Ok(Self {
            entries: request.entries,
            reason: request.reason,
            chain: chain(&request.certificate_chain, "certificate_chain")?,
            signature: array(&request.signature, "signature")?,
        })
    }
}

impl From<ErasureAsked> for v1::EraseRequest {
    fn from(asked: ErasureAsked) -> Self {
        Self {
            tenant: String::new(),
            entries: asked.entries,
            reason: asked.reason,
            certificate_chain: chain_to_wire(&asked.chain),
            signature: Bytes::copy_from_slice(&asked.signature),
        }
    }
}

/// The entries of an answer: whole ones, and no more than may be asked for.
pub fn entries_from(response: &v1::GetEntriesResponse) -> Result<Vec<[u8; ENTRY_BYTES]>, Fault> {
    let (entries, rest) = response.entries.as_chunks::<ENTRY_BYTES>();
    if rest.is_empty() && entries.len() <= ENTRIES_MAX as usize {
        Ok(entries.to_vec())
    } else {
        Err(Code::AnswerMismatch.at_field("entries"))
    }
}

/// Entries as an answer carries them.
pub fn entries_to_wire(entries: &[[u8; ENTRY_BYTES]]) -> v1::GetEntriesResponse {
    v1::GetEntriesResponse { entries: Bytes::copy_from_slice(entries.as_flattened()) }
}

/// The peaks of an answer.
pub fn peaks_from(response: &v1::GetPeaksResponse) -> Result<Vec<Hash>, Fault> {
    hashes(&response.hashes, "hashes")
}

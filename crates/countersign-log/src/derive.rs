//! The rows that are derived from a record: made when it is logged, made again when the indexes are
//! rebuilt, and taken back when it is erased. One function says them for all three.

use std::collections::HashMap;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::from_hex_array;
use countersign_core::entry::{ENTRY_BYTES, Entry};
use countersign_core::hash::{LeafIndex, sha256};
use countersign_core::kinds::{Kind, parse_ranges};
use countersign_core::query::{Field, values_of};
use countersign_core::record::View;
use countersign_core::stream::StreamId;
use serde_json::Value;

use crate::lifecycle::action_of;
use crate::policies;
use crate::rows::{Payload, StreamRow};
use crate::store::{IndexRow, Term};

/// The list of a value.
pub(crate) fn term(field: Field, value: &str) -> Term {
    let digest = sha256(value.as_bytes());
    Term { field: field.number(), hash: digest.first_chunk().copied().unwrap_or_default() }
}

/// Whether a field has lists of its own. An action's records are few, and have an index already.
pub(crate) fn is_listed(field: Field) -> bool {
    field != Field::ActionId
}

/// The lists that a record stands in for what it shows, [`Term::ALL`] among them.
pub(crate) fn terms(view: &View) -> Vec<Term> {
    let mut terms = vec![Term::ALL];
    for field in Field::ALL.into_iter().filter(|field| is_listed(*field)) {
        terms.extend(values_of(field, view).iter().map(|value| term(field, value)));
    }
    terms
}

/// The lists that a record leaves when it is erased.
pub(crate) fn terms_left(view: &View) -> Vec<Term> {
    let mut terms = Vec::new();
    for field in Field::ALL.into_iter().filter(|field| is_listed(*field)) {
        if !field.survives_erasure(view.kind()) {
            terms.extend(values_of(field, view).iter().map(|value| term(field, value)));
        }
    }
    terms
}

/// Every row of a record but that of its stream. `tenant` is whose it is or whom it is about, and
/// `terms` are its lists.
pub(crate) fn rows(tenant: &str, view: &View, terms: Vec<Term>, index: LeafIndex) -> Vec<IndexRow> {
    let mut rows = Vec::with_capacity(3);
    if tenant.is_empty() {
        return rows;
    }
    if let Some(action_id) = action_of(view) {
        rows.push(IndexRow::Action { tenant: tenant.to_owned(), action_id, index });
    }
    if view.kind() == Kind::Policy
        && let Some(digest) = policies::digest_of(view)
    {
        rows.push(IndexRow::Policy { tenant: tenant.to_owned(), digest, index });
    }
    rows.push(IndexRow::Lists { tenant: tenant.to_owned(), terms, index });
    rows
}

/// Whom a record is about, as far as it says so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    /// Everybody.
    Log,
    /// This tenant.
    Tenant(&'a str),
    /// The tenant whose stream this is.
    Stream(StreamId),
    /// The tenant whose record stands there.
    Record(LeafIndex),
}

/// Whom a record is about. The ledger's own records are about the tenant whose stream was opened,
/// whose gate equivocated, whose records were erased.
pub(crate) fn subject(view: &View) -> Subject<'_> {
    let tenant = view.str("tenant").unwrap_or_default();
    if !tenant.is_empty() {
        return Subject::Tenant(tenant);
    }
    match view.kind() {
        Kind::Stream => view.str("subject_tenant").map_or(Subject::Log, Subject::Tenant),
        Kind::Notice => {
            let stream = view.get("detail").and_then(|detail| detail.get("stream"));
            let stream = stream.and_then(Value::as_str).and_then(StreamId::from_hex);
            stream.map_or(Subject::Log, Subject::Stream)
        }
        Kind::Erasure => {
            let entries = view.str("entries").and_then(parse_ranges).unwrap_or_default();
            entries.first().map_or(Subject::Log, |(first, _)| Subject::Record(LeafIndex(*first)))
        }
        _ => Subject::Log,
    }
}

/// Derives every row again, from entries and payloads: for a store whose indexes are rebuilt.
#[derive(Debug)]
pub struct Deriver {
    tenants: HashMap<StreamId, String>,
}

impl Deriver {
    /// From the states of all streams, as [`Store::streams`](crate::store::Store::streams) gives
    /// them.
    ///
    /// # Errors
    ///
    /// `STORE_CORRUPT` where one of them can't be read.
    pub fn new(streams: &[(StreamId, Vec<u8>)]) -> Result<Self, Fault> {
        let read = |(stream, state): &(StreamId, Vec<u8>)| {
            let row = StreamRow::decode(state).ok_or(Code::StoreCorrupt.at_field("stream"))?;
            Ok((*stream, row.tenant))
        };
        Ok(Self { tenants: streams.iter().map(read).collect::<Result<_, Fault>>()? })
    }

    /// The rows of the record at `index`. `entry_at` reads another entry of the same log.
    ///
    /// # Errors
    ///
    /// `STORE_CORRUPT` with the index where entry or payload can't be read, or belong to different
    /// records, or the record is about a stream or an entry that isn't there; and what `entry_at`
    /// fails with.
    pub fn rows<E: From<Fault>>(
        &self,
        index: LeafIndex,
        entry: &[u8; ENTRY_BYTES],
        payload: &[u8],
        entry_at: impl Fn(LeafIndex) -> Result<Option<[u8; ENTRY_BYTES]>, E>,
    ) -> Result<Vec<IndexRow>, E> {
        let corrupt = Code::StoreCorrupt.at_index(index.0);
        let entry = Entry::from_bytes(entry).map_err(|_| corrupt)?;
        let payload = Payload::decode(entry.kind, payload).ok_or(corrupt)?;
        let view = payload.record.view();
        let stream = view.str("stream").and_then(from_hex_array).map(StreamId);
        if stream != Some(entry.stream)
            || view.get("seq").and_then(Value::as_u64) != Some(entry.seq)
        {
            return Err(corrupt.into());
        }
        let tenant = match subject(view) {
            Subject::Log => "",
            Subject::Tenant(tenant) => tenant,
            Subject::Stream(stream) => self.tenants.get(&stream).ok_or(corrupt)?,
            Subject::Record(erased) => {
                let erased = entry_at(erased)?.ok_or(corrupt)?;
                let erased = Entry::from_bytes(&erased).map_err(|_| corrupt)?;
                self.tenants.get(&erased.stream).ok_or(corrupt)?
            }
        };
        let mut terms = terms(view);
        if payload.record.is_erased() {
            terms.push(Term::ERASED);
        }
        let mut rows = rows(tenant, view, terms, index);
        rows.push(IndexRow::Stream { stream: entry.stream, seq: entry.seq, index });
        Ok(rows)
    }
}

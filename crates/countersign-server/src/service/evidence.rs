//! Evidence files, as many as one message holds.

use countersign_core::codes::Code;
use countersign_core::hash::LeafIndex;
use countersign_log::api::{ProveAt, RecordAt};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_proto::convert::EvidenceQuery;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use prost::Message as _;

use super::{record_at, refusal};

/// Bytes of files that one answer carries: what every gRPC implementation takes as one message
/// unless told otherwise, less the framing.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024 - 64 * 1024;

/// Bytes that protobuf puts before each file.
const FILE_FRAMING_BYTES: usize = 8;

/// The files that were asked for, in index order. More of them than one message holds are
/// `BATCH_OVERSIZED`, never a part of them: evidence that is silently incomplete would be worse
/// than none.
pub(super) async fn files<S: Store>(
    ledger: &Ledger<S>,
    tenant: &str,
    query: EvidenceQuery,
    head: ProveAt,
) -> Result<Vec<v1::EvidenceFile>, Refusal> {
    let places: Vec<RecordAt> = match query {
        EvidenceQuery::Record(record) => vec![record_at(record)],
        EvidenceQuery::Action(id) => {
            let indices = ledger.action(tenant, &id).await.map_err(refusal)?;
            indices.into_iter().map(RecordAt::Index).collect()
        }
    };
    let mut files = Vec::with_capacity(places.len());
    let mut room = ANSWER_BYTES_MAX;
    for at in places {
        let (index, evidence) = ledger.evidence(Some(tenant), at, head).await.map_err(refusal)?;
        let file = file(index, evidence.to_bytes())?;
        let bytes = file.encoded_len().saturating_add(FILE_FRAMING_BYTES);
        room = room.checked_sub(bytes).ok_or_else(|| Refusal::from(Code::BatchOversized))?;
        files.push(file);
    }
    Ok(files)
}

pub(super) fn file(index: LeafIndex, bytes: Vec<u8>) -> Result<v1::EvidenceFile, Refusal> {
    let json = String::from_utf8(bytes).map_err(|error| {
        tracing::error!(%error, index = index.0, "an evidence file is not text");
        Refusal::from(Code::Internal)
    })?;
    Ok(v1::EvidenceFile { index: index.0, json })
}

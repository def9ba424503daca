//! Streams, references to records, consistency proofs.

use bytes::Bytes;
use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::hash::{LeafIndex, RecordRoot, TreeSize};
use countersign_core::kinds::is_uuid_v7;
use countersign_core::receipt::ConsistencyProof;
use countersign_core::stream::StreamId;
use prost::bytes;

use super::{array, chain, chain_to_wire, hashes, stream_id};
use crate::v1;

/// What a gate asks when it opens a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOpening {
    /// The key that will seal every record of the stream.
    pub seal_key: [u8; 32],
    /// Number of the parallel instance.
    pub instance: u32,
    /// The seal key's certificate chain, leaf first, not yet verified.
    pub chain: Vec<Certificate>,
}

/// Where a stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOpened {
    /// Its name.
    pub stream: StreamId,
    /// The seq expected next.
    pub next_seq: u64,
    /// The root of the record before it; zeros at 0.
    pub prev: RecordRoot,
    /// The log's origin.
    pub origin: String,
    /// Signed note of the newest head.
    pub checkpoint: String,
}

/// One record, by its place in the log or in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRef {
    /// In the log.
    Index(LeafIndex),
    /// In its stream.
    StreamSeq(StreamId, u64),
}

/// Whose evidence is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceQuery {
    /// One record's.
    Record(RecordRef),
    /// All records' of an action.
    Action(String),
}

impl TryFrom<v1::OpenStreamRequest> for StreamOpening {
    type Error = Fault;

    fn try_from(request: v1::OpenStreamRequest) -> Result<Self, Fault> {
        Ok(Self {
            seal_key: array(&request.seal_key, "seal_key")?,
            instance: request.instance,
            chain: chain(&request.certificate_chain, "certificate_chain")?,
        })
    }
}

impl From<StreamOpening> for v1::OpenStreamRequest {
    fn from(opening: StreamOpening) -> Self {
        Self {
            seal_key: Bytes::copy_from_slice(&opening.seal_key),
            instance: opening.instance,
            certificate_chain: chain_to_wire(&opening.chain),
        }
    }
}

impl TryFrom<v1::OpenStreamResponse> for StreamOpened {
    type Error = Fault;

    fn try_from(response: v1::OpenStreamResponse) -> Result<Self, Fault> {
        Ok(Self {
            stream: stream_id(&response.stream)?,
            next_seq: response.next_seq,
            prev: RecordRoot(array(&response.prev, "prev")?),
            origin: response.origin,
            checkpoint: response.checkpoint,
        })
    }
}

impl From<StreamOpened> for v1::OpenStreamResponse {
    fn from(opened: StreamOpened) -> Self {
        Self {
            stream: Bytes::copy_from_slice(&opened.stream.0),
            next_seq: opened.next_seq,
            prev: Bytes::copy_from_slice(&opened.prev.0),
            origin: opened.origin,
            checkpoint: opened.checkpoint,
        }
    }
}

impl TryFrom<v1::StreamSeq> for RecordRef {
    type Error = Fault;

    fn try_from(place: v1::StreamSeq) -> Result<Self, Fault> {
        Ok(Self::StreamSeq(stream_id(&place.stream)?, place.seq))
    }
}

impl TryFrom<Option<v1::get_receipt_request::Which>> for RecordRef {
    type Error = Fault;

    fn try_from(which: Option<v1::get_receipt_request::Which>) -> Result<Self, Fault> {
        use v1::get_receipt_request::Which;
        match which.ok_or(Code::RequestMalformed.at_field("which"))? {
            Which::Index(index) => Ok(Self::Index(LeafIndex(index))),
            Which::StreamSeq(place) => place.try_into(),
        }
    }
}

impl From<RecordRef> for v1::get_receipt_request::Which {
    fn from(record: RecordRef) -> Self {
        match record {
            RecordRef::Index(index) => Self::Index(index.0),
            RecordRef::StreamSeq(stream, seq) => Self::StreamSeq(stream_seq(stream, seq)),
        }
    }
}

impl TryFrom<Option<v1::get_evidence_request::Which>> for EvidenceQuery {
    type Error = Fault;

    fn try_from(which: Option<v1::get_evidence_request::Which>) -> Result<Self, Fault> {
        use v1::get_evidence_request::Which;
        match which.ok_or(Code::RequestMalformed.at_field("which"))? {
            Which::Index(index) => Ok(Self::Record(RecordRef::Index(LeafIndex(index)))),
            Which::StreamSeq(place) => Ok(Self::Record(place.try_into()?)),
            Which::ActionId(id) if is_uuid_v7(&id) => Ok(Self::Action(id)),
            Which::ActionId(_) => Err(Code::RequestMalformed.at_field("action_id")),
        }
    }
}

impl From<EvidenceQuery> for v1::get_evidence_request::Which {
    fn from(query: EvidenceQuery) -> Self {
        match query {
            EvidenceQuery::Record(RecordRef::Index(index)) => Self::Index(index.0),
            EvidenceQuery::Record(RecordRef::StreamSeq(stream, seq)) => {
                Self::StreamSeq(stream_seq(stream, seq))
            }
            EvidenceQuery::Action(id) => Self::ActionId(id),
        }
    }
}

fn stream_seq(stream: StreamId, seq: u64) -> v1::StreamSeq {
    v1::StreamSeq { stream: Bytes::copy_from_slice(&stream.0), seq }
}

impl From<ConsistencyProof> for v1::GetConsistencyResponse {
    fn from(proof: ConsistencyProof) -> Self {
        Self {
            old_size: proof.old_size.0,
            new_size: proof.new_size.0,
            hashes: proof.hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
        }
    }
}

impl TryFrom<v1::GetConsistencyResponse> for ConsistencyProof {
    type Error = Fault;

    fn try_from(response: v1::GetConsistencyResponse) -> Result<Self, Fault> {
        Ok(Self {
            old_size: TreeSize(response.old_size),
            new_size: TreeSize(response.new_size),
            hashes: hashes(&response.hashes, "hashes")?,
        })
    }
}

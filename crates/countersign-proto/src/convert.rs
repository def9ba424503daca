//! Wire messages to domain types and back.
//!
//! From the wire everything is `TryFrom` and may be refused: lengths, counts and spellings are
//! checked here, once for server and client. To the wire nothing can fail. Nothing is verified
//! here: a signature or proof that comes out of this module is well-formed, not right.

mod proofs;
mod query;
mod submit;

use bytes::Bytes;
use countersign_core::cert::{Certificate, MAX_CHAIN};
use countersign_core::codes::{Code, Fault};
use countersign_core::hash::Hash;
use countersign_core::receipt::PROOF_HASHES_MAX;
use countersign_core::stream::StreamId;
use prost::bytes;

pub use self::proofs::{EvidenceQuery, RecordRef, StreamOpened, StreamOpening};
pub use self::query::{
    ENTRIES_MAX, ErasureAsked, PageQuery, QueryPage, ROWS_MAX, entries_from, entries_to_wire,
    peaks_from, watch_to_wire,
};
pub use self::submit::{
    AcceptedRecord, BatchAnswer, RecordAnswer, Submission, SubmittedRecord, batch_to_wire,
};

/// Bytes of exactly this length; `name` is the field to blame otherwise.
fn array<const N: usize>(bytes: &[u8], name: &'static str) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Code::RequestMalformed.at_field(name))
}

fn stream_id(bytes: &[u8]) -> Result<StreamId, Fault> {
    array(bytes, "stream").map(StreamId)
}

/// Hashes of a proof, one a field.
fn hashes(list: &[Bytes], name: &'static str) -> Result<Vec<Hash>, Fault> {
    if list.len() > PROOF_HASHES_MAX {
        return Err(Code::ProofLength.at_field(name));
    }
    list.iter().map(|bytes| array(bytes, name)).collect()
}

/// Hashes of a proof, joined.
fn joined_hashes(bytes: &[u8], name: &'static str) -> Result<Vec<Hash>, Fault> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() > PROOF_HASHES_MAX {
        return Err(Code::ProofLength.at_field(name));
    }
    Ok(hashes.to_vec())
}

/// A chain of certificates, DER, leaf first.
fn chain(list: &[Bytes], name: &'static str) -> Result<Vec<Certificate>, Fault> {
    if list.len() > MAX_CHAIN {
        return Err(Code::CertChain.at_field(name));
    }
    list.iter().map(|der| Certificate::from_der(der).map_err(Fault::from)).collect()
}

fn chain_to_wire(chain: &[Certificate]) -> Vec<Bytes> {
    chain.iter().map(|certificate| Bytes::copy_from_slice(certificate.der())).collect()
}

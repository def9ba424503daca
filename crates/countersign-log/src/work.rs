//! What waits for the sequencer, and what has been checked of it before it waits.

use std::sync::Arc;

use countersign_core::action;
use countersign_core::cert::{Role, verify_chain};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::{Micros, from_hex_array};
use countersign_core::hash::{Hash, RecordRoot};
use countersign_core::kinds::Kind;
use countersign_core::record::View;
use countersign_core::stream::StreamId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::api::{Batch, BatchAnswer, BatchRecord, Erasure, LogConfig, Refused, StreamRequest};
use crate::erase::Erasing;
use crate::people::{check_person, check_revoked};
use crate::rows::encode_chain;
use crate::store::{StoreError, Term};

/// Parallel instances of one gate and key (STR-13): each costs the log a record and memory for ever.
const INSTANCES_MAX: u32 = 1_024;

/// One thing for the sequencer to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Log a batch.
    Batch(BatchWork),
    /// Open a stream.
    Open(OpenWork),
    /// Erase payloads.
    Erase(EraseWork),
    /// A write outside of the commit path failed: find out whether the store still writes.
    Doubt(StoreError),
    /// Finish what came before and end.
    Stop(oneshot::Sender<()>),
}

impl Work {
    /// Records that it may add to the log.
    pub(crate) fn records(&self) -> usize {
        match self {
            Self::Batch(work) => work.batch.records.len(),
            Self::Open(_) | Self::Erase(_) => 1,
            Self::Doubt(_) | Self::Stop(_) => 0,
        }
    }

    /// Answers with a refusal. A dropped receiver is a caller that went away.
    pub(crate) fn refuse(self, code: Code) {
        match self {
            Self::Batch(work) => drop(work.answer.send(Err(code.into()))),
            Self::Open(work) => drop(work.answer.send(Err(code.into()))),
            Self::Erase(work) => drop(work.answer.send(Err(code.into()))),
            Self::Doubt(_) => {}
            Self::Stop(done) => drop(done.send(())),
        }
    }
}

/// A batch whose seal is verified, with what its records alone told.
#[derive(Debug)]
pub(crate) struct BatchWork {
    pub(crate) batch: Batch,
    /// For each record: until when its person's certificate counts, or what is wrong with it.
    pub(crate) checked: Vec<Result<Micros, Fault>>,
    /// For each record: the lists that it will stand in.
    pub(crate) terms: Vec<Vec<Term>>,
    pub(crate) answer: oneshot::Sender<Result<BatchAnswer, Refused>>,
    /// Room in the queue, given back when the batch is answered and the answer has been delivered.
    pub(crate) _room: Arc<OwnedSemaphorePermit>,
}

/// An erasure whose signature is verified.
#[derive(Debug)]
pub(crate) struct EraseWork {
    pub(crate) erasing: Erasing,
    pub(crate) answer: oneshot::Sender<Result<Erasure, Refused>>,
}

/// A stream whose certificate is verified.
#[derive(Debug)]
pub(crate) struct OpenWork {
    pub(crate) opening: Opening,
    pub(crate) answer: oneshot::Sender<Result<Opened, Refused>>,
}

/// Where an opened stream stands, counting all that came before in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) stream: StreamId,
    pub(crate) next_seq: u64,
    pub(crate) prev: RecordRoot,
}

/// What a stream's certificate said.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) stream: StreamId,
    pub(crate) tenant: String,
    pub(crate) gate: String,
    pub(crate) seal_key: [u8; 32],
    pub(crate) not_after: Micros,
    /// SHA-256 of the leaf certificate.
    pub(crate) certificate: [u8; 32],
    /// Digest under which the chain is kept.
    pub(crate) chain: Hash,
}

/// Verifies a stream's certificate against who calls (STR-1, STR-2). Gives the chain's bytes too,
/// which are to be kept under `Opening::chain` before the stream is recorded.
pub(crate) fn check_opening(
    request: &StreamRequest,
    origin: &str,
    config: &LogConfig,
    now: Micros,
) -> Result<(Opening, Vec<u8>), Fault> {
    if request.instance >= INSTANCES_MAX {
        return Err(Code::RequestMalformed.at_field("instance"));
    }
    let chain = verify_chain(&request.chain, &config.gate_roots, now.0)?;
    check_revoked(&chain, config, now)?;
    let identity = chain.identity();
    if identity.role() != Role::Gate
        || identity.trust_domain() != config.trust_domain
        || identity.tenant() != request.tenant
        || identity.name() != request.gate
    {
        return Err(Code::StreamForeign.into());
    }
    if chain.leaf_key() != request.seal_key {
        return Err(Code::SealerUntrusted.at_field("seal_key"));
    }
    let bytes = encode_chain(&request.chain);
    let stream = StreamId::derive(
        origin,
        &request.tenant,
        &request.gate,
        &request.seal_key,
        request.instance,
    )?;
    let opening = Opening {
        stream,
        tenant: request.tenant.clone(),
        gate: request.gate.clone(),
        seal_key: request.seal_key,
        not_after: Micros(chain.not_after_us()),
        certificate: chain.leaf_digest(),
        chain: countersign_core::hash::sha256(&bytes),
    };
    Ok((opening, bytes))
}

/// What one record of a batch tells by itself. The result is the time until which the person who
/// signed it may be relied on.
pub(crate) fn check_record(
    batch: &Batch,
    position: usize,
    record: &BatchRecord,
    origin: &str,
    config: &LogConfig,
    now: Micros,
) -> Result<Micros, Fault> {
    let view = record.record.view();
    let kind = view.kind();
    if !kind.in_gate_stream() {
        return Err(Code::StreamKind.into());
    }
    names_its_place(view, batch, position)?;
    if matches!(kind, Kind::Intent | Kind::Verdict) {
        let said = view.str("action_digest").and_then(from_hex_array);
        if action::digest(view)? != said {
            return Err(Code::ActionDigest.into());
        }
    }
    if kind.signed_by_person() {
        check_person(&record.record, &record.people, &batch.tenant, origin, config, now)
    } else if record.people.is_empty() {
        Ok(Micros(u64::MAX))
    } else {
        Err(Code::PeopleChains.into())
    }
}

fn names_its_place(view: &View, batch: &Batch, position: usize) -> Result<(), Fault> {
    let seq = batch.first_seq.checked_add(position as u64);
    let stream = batch.stream.hex();
    let texts =
        [("tenant", batch.tenant.as_str()), ("gate", &batch.gate), ("stream", stream.as_str())];
    for (name, expected) in texts {
        if view.str(name) != Some(expected) {
            return Err(Code::RecordForeign.at_field(name));
        }
    }
    if view.get("seq").and_then(serde_json::Value::as_u64) != seq {
        return Err(Code::RecordForeign.at_field("seq"));
    }
    Ok(())
}

//! One batch: from the wire to the log, and the log's answer back.

use countersign_core::cert::SpiffeId;
use countersign_core::codes::Code;
use countersign_core::seal::Seal;
use countersign_log::api;
use countersign_proto::convert::{
    AcceptedRecord, BatchAnswer, RecordAnswer, Submission, SubmittedRecord,
};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use prost::Message as _;

use super::refusal;
use crate::limits::Limits;

/// Records that are parsed where the call is read. A larger batch goes to a thread for such work,
/// since hashing it would keep the thread from every other connection that it serves.
const INLINE_RECORDS_MAX: usize = 16;

/// The most that a batch may have, before anything of it is parsed.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Bytes of the batch as a message.
    pub(super) bytes: usize,
    /// Records of the batch.
    pub(super) records: usize,
    /// Batches of one call that wait for their answers.
    pub(super) in_flight: usize,
}

impl BatchLimits {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            bytes: limits.batch_bytes_max,
            records: limits.batch_records_max,
            in_flight: limits.batches_in_flight_max,
        }
    }
}

/// Takes a batch from the wire: caps, lengths, the shape of every record, the records' roots.
pub(super) async fn parse(
    batch: Option<v1::Batch>,
    limits: BatchLimits,
) -> Result<Submission, Refusal> {
    let batch = batch.ok_or_else(|| Refusal::from(Code::RequestMalformed.at_field("batch")))?;
    let (count, max) = (batch.records.len(), limits.records);
    if count > max || batch.encoded_len() > limits.bytes {
        return Err(Refusal::from(Code::BatchOversized));
    }
    if count <= INLINE_RECORDS_MAX {
        return Submission::from_wire(batch, max);
    }
    let parsed = tokio::task::spawn_blocking(move || Submission::from_wire(batch, max)).await;
    parsed.unwrap_or_else(|error| {
        tracing::error!(%error, "parsing a batch ended without a result");
        Err(Refusal::from(Code::Internal))
    })
}

/// The seal that a batch came with, kept to tell whether an answer rests on another one.
#[derive(Debug, Clone)]
pub(super) struct SubmittedSeal {
    key: [u8; 32],
    signature: [u8; 64],
    size: usize,
}

impl SubmittedSeal {
    pub(super) fn of(submission: &Submission) -> Self {
        let sealed = &submission.sealed;
        Self { key: sealed.key, signature: sealed.signature, size: sealed.roots.len() }
    }

    /// Whether this is the seal of the batch's record at `place`. The path need not be compared:
    /// one signature over one size covers one list of roots.
    fn is(&self, seal: &Seal, place: usize) -> bool {
        seal.key == self.key
            && seal.signature == self.signature
            && seal.size as usize == self.size
            && seal.index as usize == place
    }
}

/// The batch as the log takes it, from a caller who was found to be this gate, in this call.
pub(super) fn for_log(submission: Submission, gate: &SpiffeId, call: u64) -> api::Batch {
    let Submission { stream, first_seq, sealed, records } = submission;
    let record = |SubmittedRecord { record, people }| api::BatchRecord { record, people };
    api::Batch {
        tenant: gate.tenant().to_owned(),
        gate: gate.name().to_owned(),
        stream,
        first_seq,
        sealed,
        records: records.into_iter().map(record).collect(),
        call,
    }
}

/// The log's answer, as the wire has it: what the caller holds already is left out.
pub(super) fn answered(
    call_id: u64,
    seal: &SubmittedSeal,
    answer: api::BatchAnswer,
) -> BatchAnswer {
    let checkpoint = answer.head.map(|head| head.note.clone()).unwrap_or_default();
    let records = answer.records.into_iter().enumerate().map(|(place, (seq, fate))| {
        let accepted = |logged: api::Logged| {
            let repeat = logged.first.is_some();
            let (note, first_seal) =
                logged.first.map_or((None, None), |first| (Some(first.note), Some(first.seal)));
            AcceptedRecord {
                index: logged.index,
                entry: logged.entry,
                path: logged.path,
                first_seal: first_seal.filter(|first| !seal.is(first, place)),
                checkpoint: note.filter(|note| *note != checkpoint),
                repeat,
            }
        };
        RecordAnswer { seq, outcome: fate.map(accepted).map_err(refusal) }
    });
    let outcome = Ok(records.collect());
    BatchAnswer { call_id, checkpoint, outcome }
}

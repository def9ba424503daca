//! Batches on their way in, answers on their way out.

use bytes::Bytes;
use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::entry::Entry;
use countersign_core::hash::{Hash, LeafIndex};
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use countersign_core::seal::{BATCH_MAX, PATH_MAX, Seal, SealedBatch};
use countersign_core::stream::StreamId;
use prost::bytes;

use super::{array, chain, chain_to_wire, hashes, joined_hashes, stream_id};
use crate::errors::Refusal;
use crate::v1;

/// One record of a batch, well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmittedRecord {
    /// The record.
    pub record: FullRecord,
    /// The chain of the person who signed it, leaf first; empty for kinds that nobody signs.
    pub people: Vec<Certificate>,
}

/// A batch of well-formed records with their roots. Its signature has not been verified, nor that
/// the caller may write to the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The stream.
    pub stream: StreamId,
    /// The seq of the first record.
    pub first_seq: u64,
    /// Key, signature and the records' roots in order.
    pub sealed: SealedBatch,
    /// The records, one for each root.
    pub records: Vec<SubmittedRecord>,
}

impl Submission {
    /// Takes a batch of at most `records_max` records from the wire, and computes their roots.
    ///
    /// A record at fault refuses the batch, since without its root the seal of none can be
    /// verified; the refusal says which record it was.
    pub fn from_wire(batch: v1::Batch, records_max: usize) -> Result<Self, Refusal> {
        let count = batch.records.len();
        if count > records_max.min(BATCH_MAX as usize) {
            return Err(Refusal::from(Code::BatchOversized));
        }
        if count == 0 {
            return Err(Refusal::from(Code::SealSize));
        }
        // No seq may lie beyond what a u64 counts.
        if batch.first_seq.checked_add(count as u64).is_none() {
            return Err(Refusal::from(Code::RequestMalformed.at_field("first_seq")));
        }
        let stream = stream_id(&batch.stream)?;
        let key = array(&batch.seal_key, "seal_key")?;
        let signature = array(&batch.signature, "signature")?;
        let mut records = Vec::with_capacity(count);
        let mut roots = Vec::with_capacity(count);
        for (place, record) in batch.records.into_iter().enumerate() {
            let record = SubmittedRecord::try_from(record).map_err(|fault| {
                let refusal = Refusal::from(fault);
                let message = format!("Record {place} of the batch: {}", refusal.message);
                Refusal { message, ..refusal }
            })?;
            roots.push(record.record.root());
            records.push(record);
        }
        let sealed = SealedBatch { key, signature, roots };
        Ok(Self { stream, first_seq: batch.first_seq, sealed, records })
    }
}

impl TryFrom<v1::Record> for SubmittedRecord {
    type Error = Fault;

    fn try_from(record: v1::Record) -> Result<Self, Fault> {
        let number = u8::try_from(record.kind).ok();
        let kind = number.and_then(Kind::from_number).ok_or(Code::KindUnknown)?;
        if kind.signed_by_person() == record.people_chain.is_empty() {
            return Err(Code::PeopleChains.into());
        }
        let people = chain(&record.people_chain, "people_chain")?;
        let seed = array(&record.seed, "seed")?;
        Ok(Self { record: FullRecord::parse(kind, seed, record.values)?, people })
    }
}

/// A sealed batch for the wire. `records` are those whose roots `sealed` holds, in order.
pub fn batch_to_wire(
    stream: StreamId,
    first_seq: u64,
    sealed: &SealedBatch,
    records: &[SubmittedRecord],
) -> v1::Batch {
    let records = records.iter().map(|SubmittedRecord { record, people }| v1::Record {
        kind: u32::from(record.kind().number()),
        seed: Bytes::copy_from_slice(record.seed()),
        values: record.values().to_vec(),
        people_chain: chain_to_wire(people),
    });
    v1::Batch {
        stream: Bytes::copy_from_slice(&stream.0),
        first_seq,
        seal_key: Bytes::copy_from_slice(&sealed.key),
        signature: Bytes::copy_from_slice(&sealed.signature),
        records: records.collect(),
    }
}

/// A record that is in the log, with what its receipt is made of. From the wire: as the ledger
/// says, and yet to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedRecord {
    /// Index of its entry.
    pub index: LeafIndex,
    /// Its entry.
    pub entry: Entry,
    /// The inclusion proof.
    pub path: Vec<Hash>,
    /// The seal under which it was first logged, where that is not the submitted one.
    pub first_seal: Option<Seal>,
    /// The signed note that the proof leads to, where that is not the response's.
    pub checkpoint: Option<String>,
    /// Whether it was in the log before.
    pub repeat: bool,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordAnswer {
    /// Its seq.
    pub seq: u64,
    /// In the log, or not and why.
    pub outcome: Result<AcceptedRecord, Refusal>,
}

/// What became of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchAnswer {
    /// The request's `call_id`.
    pub call_id: u64,
    /// Signed note of the head that covers what was newly accepted; empty for nothing.
    pub checkpoint: String,
    /// One answer a record in order, or why the batch was refused as a whole.
    pub outcome: Result<Vec<RecordAnswer>, Refusal>,
}

impl From<AcceptedRecord> for v1::Accepted {
    fn from(accepted: AcceptedRecord) -> Self {
        Self {
            index: accepted.index.0,
            entry: Bytes::copy_from_slice(&accepted.entry.to_bytes()),
            inclusion: Bytes::from(accepted.path.as_flattened().to_vec()),
            seal: accepted.first_seal.map(v1::Seal::from),
            checkpoint: accepted.checkpoint.unwrap_or_default(),
            repeat: accepted.repeat,
        }
    }
}

impl TryFrom<v1::Accepted> for AcceptedRecord {
    type Error = Fault;

    fn try_from(accepted: v1::Accepted) -> Result<Self, Fault> {
        Ok(Self {
            index: LeafIndex(accepted.index),
            entry: Entry::from_bytes(&accepted.entry)?,
            path: joined_hashes(&accepted.inclusion, "inclusion")?,
            first_seal: accepted.seal.map(Seal::try_from).transpose()?,
            checkpoint: Some(accepted.checkpoint).filter(|text| !text.is_empty()),
            repeat: accepted.repeat,
        })
    }
}

impl From<Seal> for v1::Seal {
    fn from(seal: Seal) -> Self {
        Self {
            key: Bytes::copy_from_slice(&seal.key),
            size: seal.size,
            index: seal.index,
            path: seal.path.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
            signature: Bytes::copy_from_slice(&seal.signature),
        }
    }
}

impl TryFrom<v1::Seal> for Seal {
    type Error = Fault;

    fn try_from(seal: v1::Seal) -> Result<Self, Fault> {
        if seal.path.len() > PATH_MAX {
            return Err(Code::SealPath.into());
        }
        Ok(Self {
            key: array(&seal.key, "key")?,
            size: seal.size,
            index: seal.index,
            path: hashes(&seal.path, "path")?,
            signature: array(&seal.signature, "signature")?,
        })
    }
}

impl From<RecordAnswer> for v1::Answer {
    fn from(answer: RecordAnswer) -> Self {
        let outcome = match answer.outcome {
            Ok(accepted) => v1::answer::Outcome::Accepted(accepted.into()),
            Err(refusal) => v1::answer::Outcome::Rejected(refusal.into()),
        };
        Self { seq: answer.seq, outcome: Some(outcome) }
    }
}

impl TryFrom<v1::Answer> for RecordAnswer {
    type Error = Fault;

    fn try_from(answer: v1::Answer) -> Result<Self, Fault> {
        let outcome = match answer.outcome.ok_or(Code::AnswerMismatch.at_field("outcome"))? {
            v1::answer::Outcome::Accepted(accepted) => Ok(accepted.try_into()?),
            v1::answer::Outcome::Rejected(rejected) => Err(rejected.into()),
        };
        Ok(Self { seq: answer.seq, outcome })
    }
}

impl From<BatchAnswer> for v1::SubmitResponse {
    fn from(answer: BatchAnswer) -> Self {
        let BatchAnswer { call_id, checkpoint, outcome } = answer;
        let (answers, refused) = match outcome {
            Ok(answers) => (answers.into_iter().map(v1::Answer::from).collect(), None),
            Err(refusal) => (Vec::new(), Some(refusal.into())),
        };
        Self { call_id, checkpoint, answers, refused }
    }
}

impl TryFrom<v1::SubmitResponse> for BatchAnswer {
    type Error = Fault;

    fn try_from(response: v1::SubmitResponse) -> Result<Self, Fault> {
        let v1::SubmitResponse { call_id, checkpoint, answers, refused } = response;
        let outcome = match refused {
            Some(rejected) if answers.is_empty() => Err(rejected.into()),
            Some(_) => return Err(Code::AnswerMismatch.at_field("refused")),
            None => {
                Ok(answers.into_iter().map(RecordAnswer::try_from).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { call_id, checkpoint, outcome })
    }
}

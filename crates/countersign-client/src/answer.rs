//! Sealed batches on their way out, and what the ledger's answer to one proves.

use std::sync::{Arc, OnceLock};

use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{LeafIndex, RecordRoot};
use countersign_core::merkle::verify_inclusion;
use countersign_core::receipt::Receipt;
use countersign_core::record::FullRecord;
use countersign_core::seal::{Seal, SealedBatch};
use countersign_core::stream::StreamId;
use countersign_proto::convert::{
    AcceptedRecord, BatchAnswer, RecordAnswer, SubmittedRecord, batch_to_wire,
};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use ed25519_dalek::SigningKey;

use crate::heads::{Keyring, VerifiedHead};

/// Records of consecutive seqs of one stream under one seal, ready to be sent as often as it takes.
#[derive(Debug)]
pub struct PreparedBatch {
    stream: StreamId,
    first_seq: u64,
    sealed: SealedBatch,
    records: Vec<SubmittedRecord>,
    // Paths are only needed once something was logged, and then for the whole batch.
    seals: OnceLock<Vec<Seal>>,
}

impl PreparedBatch {
    /// Seals records with a gate's key; 1 to 65,536 of them. Each must name its own place in the
    /// stream, which the ledger checks.
    pub fn seal(
        stream: StreamId,
        first_seq: u64,
        key: &SigningKey,
        records: Vec<SubmittedRecord>,
    ) -> Result<Arc<Self>, Fault> {
        let roots =
            records.iter().map(|each| each.record.build_root()).collect::<Result<_, _>>()?;
        Self::seal_built(stream, first_seq, key, records, roots)
    }

    /// The same with the records' roots as they were built to chain them: to build a root hashes
    /// every field of a record twice, and once is enough.
    pub(crate) fn seal_built(
        stream: StreamId,
        first_seq: u64,
        key: &SigningKey,
        records: Vec<SubmittedRecord>,
        roots: Vec<RecordRoot>,
    ) -> Result<Arc<Self>, Fault> {
        let sealed = SealedBatch::seal(key, roots)?;
        Ok(Arc::new(Self { stream, first_seq, sealed, records, seals: OnceLock::new() }))
    }

    /// The stream's name.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The seq of the first record.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The records, in the order of their seqs.
    pub fn records(&self) -> &[SubmittedRecord] {
        &self.records
    }

    /// The records' roots, in their order.
    pub fn roots(&self) -> &[RecordRoot] {
        &self.sealed.roots
    }

    pub(crate) fn to_wire(&self) -> v1::Batch {
        batch_to_wire(self.stream, self.first_seq, &self.sealed, &self.records)
    }

    fn seal_of(&self, place: usize) -> Result<Seal, Fault> {
        if let Some(seals) = self.seals.get() {
            return seals.get(place).cloned().ok_or(Code::SealIndex.into());
        }
        let seals = self.sealed.seals()?;
        self.seals.get_or_init(|| seals).get(place).cloned().ok_or(Code::SealIndex.into())
    }
}

/// A record that is proven to be in the log. Only the client makes one.
#[derive(Clone, Debug)]
pub struct LoggedRecord {
    batch: Arc<PreparedBatch>,
    place: usize,
    accepted: AcceptedRecord,
    head: Arc<VerifiedHead>,
}

impl LoggedRecord {
    /// Its place in the log.
    pub fn index(&self) -> LeafIndex {
        self.accepted.index
    }

    /// Its place in the stream.
    pub fn seq(&self) -> u64 {
        self.accepted.entry.seq
    }

    /// Its entry.
    pub fn entry(&self) -> &Entry {
        &self.accepted.entry
    }

    /// Whether it was in the log before this call.
    pub fn is_repeat(&self) -> bool {
        self.accepted.repeat
    }

    /// The head that it is proven in.
    pub fn head(&self) -> &Arc<VerifiedHead> {
        &self.head
    }

    /// The record itself.
    pub fn record(&self) -> Option<&FullRecord> {
        self.batch.records.get(self.place).map(|each| &each.record)
    }

    /// The proof that it is in the log.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            index: self.accepted.index,
            path: self.accepted.path.clone(),
            checkpoint: self.head.checkpoint().clone(),
        }
    }

    /// The seal under which it was first logged.
    pub fn seal(&self) -> Result<Seal, Fault> {
        match &self.accepted.first_seal {
            Some(seal) => Ok(seal.clone()),
            None => self.batch.seal_of(self.place),
        }
    }

    /// Its evidence file, every field shown and nothing in `supporting`. `gate_chain` is the seal
    /// key's certificate chain, strict PEM, leaf first.
    pub fn evidence(&self, gate_chain: &[String]) -> Result<Evidence, Fault> {
        let submitted = self.batch.records.get(self.place).ok_or(Code::FieldCount)?;
        let people: Vec<String> = submitted.people.iter().map(Certificate::pem).collect();
        Ok(Evidence {
            record: submitted.record.disclose(),
            seal: self.seal()?,
            entry: self.accepted.entry.to_bytes().to_vec(),
            receipt: self.receipt(),
            gate_chain: gate_chain.to_vec(),
            people_chains: if people.is_empty() { Vec::new() } else { vec![people] },
            supporting: Vec::new(),
        })
    }
}

/// What became of one record of a batch.
#[derive(Clone, Debug)]
pub struct RecordOutcome {
    /// Its seq.
    pub seq: u64,
    /// Proven to be in the log, or refused by the ledger's word.
    pub result: Result<LoggedRecord, Refusal>,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct BatchOutcome {
    /// One outcome a record, in their order.
    pub records: Vec<RecordOutcome>,
    /// The head over all newly logged records.
    pub head: Option<Arc<VerifiedHead>>,
    /// Heads of repeats, each once.
    pub(crate) old_heads: Vec<Arc<VerifiedHead>>,
}

/// Checks an answer against the batch that it answers, down to the log's signature. A batch that
/// was refused as a whole is the inner error.
pub(crate) fn check(
    batch: &Arc<PreparedBatch>,
    call_id: u64,
    answer: BatchAnswer,
    keys: &Keyring,
) -> Result<Result<BatchOutcome, Refusal>, Fault> {
    if answer.call_id != call_id {
        return Err(Code::AnswerMismatch.at_field("call_id"));
    }
    let answers = match answer.outcome {
        Ok(answers) => answers,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if answers.len() != batch.records.len() {
        return Err(Code::AnswerMismatch.at_field("answers"));
    }
    let head = match answer.checkpoint.as_str() {
        "" => None,
        note => Some(keys.verify(note)?),
    };
    let mut checked = Checked { batch, keys, head, old_heads: Vec::new(), last: None };
    let seqs = batch.first_seq..;
    let records = answers
        .into_iter()
        .zip(seqs)
        .enumerate()
        .map(|(place, (answer, seq))| checked.record(place, seq, answer))
        .collect::<Result<_, Fault>>()?;
    Ok(Ok(BatchOutcome { records, head: checked.head, old_heads: checked.old_heads }))
}

struct Checked<'a> {
    batch: &'a Arc<PreparedBatch>,
    keys: &'a Keyring,
    head: Option<Arc<VerifiedHead>>,
    old_heads: Vec<Arc<VerifiedHead>>,
    // Where the record before stands: a stream's order is the log's.
    last: Option<(LeafIndex, Entry)>,
}

impl Checked<'_> {
    fn record(
        &mut self,
        place: usize,
        seq: u64,
        answer: RecordAnswer,
    ) -> Result<RecordOutcome, Fault> {
        if answer.seq != seq {
            return Err(Code::AnswerMismatch.at_field("seq"));
        }
        let result = match answer.outcome {
            Ok(accepted) => Ok(self.accepted(place, seq, accepted)?),
            Err(refusal) => Err(refusal),
        };
        Ok(RecordOutcome { seq, result })
    }

    fn accepted(
        &mut self,
        place: usize,
        seq: u64,
        accepted: AcceptedRecord,
    ) -> Result<LoggedRecord, Fault> {
        let batch = self.batch;
        let record = batch.records.get(place).ok_or(Code::AnswerMismatch)?;
        let root = batch.sealed.roots.get(place).ok_or(Code::AnswerMismatch)?;
        let entry = accepted.entry;
        if entry.kind != record.record.kind() {
            return Err(Code::TypeMismatch.into());
        }
        if entry.stream != batch.stream {
            return Err(Code::EntryStream.into());
        }
        if entry.seq != seq {
            return Err(Code::EntrySeq.into());
        }
        let sealed = match &accepted.first_seal {
            // Only a repeat has an earlier seal, and one stream has one key.
            Some(seal) if !accepted.repeat || seal.key != batch.sealed.key => {
                return Err(Code::AnswerMismatch.at_field("seal"));
            }
            Some(seal) => {
                seal.verify(root)?;
                seal.sealed(root)
            }
            None => batch.sealed.sealed(root),
        };
        if sealed != entry.sealed {
            return Err(Code::EntrySealed.into());
        }
        if let Some((index, last)) = self.last {
            if accepted.index <= index {
                return Err(Code::AnswerMismatch.at_field("index"));
            }
            if entry.logged_at < last.logged_at {
                return Err(Code::AnswerMismatch.at_field("logged_at"));
            }
        }
        self.last = Some((accepted.index, entry));
        let head = self.head_of(&accepted)?;
        let path = &accepted.path;
        verify_inclusion(accepted.index, head.size(), &entry.leaf(), path, &head.root())?;
        head.check_time(entry.logged_at)?;
        Ok(LoggedRecord { batch: Arc::clone(batch), place, accepted, head })
    }

    /// The head that a record's proof leads to: the answer's, or a repeat's own.
    fn head_of(&mut self, accepted: &AcceptedRecord) -> Result<Arc<VerifiedHead>, Fault> {
        let Some(note) = &accepted.checkpoint else {
            return self.head.clone().ok_or(Code::AnswerMismatch.at_field("checkpoint"));
        };
        if !accepted.repeat {
            return Err(Code::AnswerMismatch.at_field("checkpoint"));
        }
        let head = self.keys.verify(note)?;
        if !self.old_heads.contains(&head) {
            self.old_heads.push(Arc::clone(&head));
        }
        Ok(head)
    }
}

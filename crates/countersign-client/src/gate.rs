//! A gate's side of its stream: records built, chained, sealed, and submitted until their fate is
//! known.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::cert::Certificate;
use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_core::stream::StreamId;
use countersign_proto::convert::SubmittedRecord;
use countersign_proto::errors::Refusal;
use ed25519_dalek::SigningKey;
use tokio::time::Instant;

use crate::answer::{LoggedRecord, PreparedBatch, RecordOutcome};
use crate::client::Client;
use crate::draft::{Draft, DraftError, Place, Stamp};
use crate::error::{ClientError, transient};

/// Records that one batch takes at most: the server's own default.
const BATCH_RECORDS_MAX: usize = 1_024;
/// Bytes that one batch takes at most, below the 4 MiB that the server takes by default.
const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Times that a gate seals anew without getting a single record in, before it gives up.
const RESEALS_MAX: u32 = 8;

/// Who seals.
#[derive(Clone, Debug)]
pub struct GateIdentity {
    /// The tenant whose actions it judges.
    pub tenant: String,
    /// Its name.
    pub gate: String,
    /// The key that seals; it zeroes itself when dropped.
    pub seal_key: SigningKey,
    /// The key's certificate, leaf first, up to but without the root.
    pub chain: Vec<Certificate>,
    /// Number of this instance among those that share the key. Two processes must not share one.
    pub instance: u32,
    /// What the records' `software` says.
    pub software: String,
}

impl GateIdentity {
    /// A draft with this stamp, for who keeps drafts before there is a stream to place them in.
    /// See [`Gate::draft`] for what `json` holds; `people` is the chain of who signed it, empty
    /// where nobody does.
    pub fn draft(
        &self,
        kind: Kind,
        json: &str,
        people: Vec<Certificate>,
        stamp: &Stamp,
    ) -> Result<Draft, DraftError> {
        let Self { tenant, gate, software, .. } = self;
        let recorded_at = &stamp.recorded_at.format();
        let place = Place { tenant, gate, software, recorded_at, nonce: &stamp.nonce };
        Draft::parse(kind, json, people, &place)
    }
}

/// How long and how often a gate tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// For one batch, all attempts together.
    pub deadline: Duration,
    /// Before the second attempt; doubled after each, and stretched by up to a quarter at random.
    pub first_wait: Duration,
    /// At most between two attempts, unless the ledger asks for longer.
    pub longest_wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(1),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(2),
        }
    }
}

/// The writer of one stream.
#[derive(Debug)]
pub struct Gate {
    client: Client,
    identity: GateIdentity,
    retry: Retry,
    stream: StreamId,
    next_seq: u64,
    prev: RecordRoot,
}

impl Gate {
    /// Opens the gate's stream, or finds it again.
    pub async fn open(
        client: Client,
        identity: GateIdentity,
        retry: Retry,
    ) -> Result<Self, ClientError> {
        let key = identity.seal_key.verifying_key().to_bytes();
        let GateIdentity { tenant, gate, instance, .. } = &identity;
        let stream = StreamId::derive(client.origin(), tenant, gate, &key, *instance)
            .map_err(ClientError::Record)?;
        let prev = RecordRoot([0; 32]);
        let mut gate = Self { client, identity, retry, stream, next_seq: 0, prev };
        gate.resync().await?;
        Ok(gate)
    }

    /// Asks the ledger where the stream stands, and continues there.
    pub async fn resync(&mut self) -> Result<(), ClientError> {
        let mut attempts = Attempts::new(self.retry);
        let key = self.identity.seal_key.verifying_key().to_bytes();
        let GateIdentity { tenant, gate, chain, instance, .. } = &self.identity;
        let opened = loop {
            match self.client.open_stream(tenant, gate, key, *instance, chain).await {
                Err(error) if error.is_transient() => attempts.wait(error).await?,
                other => break other?,
            }
        };
        (self.next_seq, self.prev) = (opened.next_seq, opened.prev);
        Ok(())
    }

    /// The client that it writes with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The stream's name.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The seq of the next record.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// A record of a kind that nobody signs, from the JSON object of what this gate's caller says
    /// of it. `tenant`, `gate`, `recorded_at` and `software` are filled in here, and in a verdict or
    /// an intent a fresh `nonce` and the `action_digest`.
    pub fn draft(&self, kind: Kind, json: &str) -> Result<Draft, DraftError> {
        self.signed_draft(kind, json, Vec::new())
    }

    /// A record that a person signed, with their certificate chain.
    pub fn signed_draft(
        &self,
        kind: Kind,
        json: &str,
        people: Vec<Certificate>,
    ) -> Result<Draft, DraftError> {
        // A nonce that is not random would let actions be confused; without randomness there is
        // no draft.
        let nonce: [u8; 16] = random().map_err(|_| DraftError::Fault(Code::Internal.into()))?;
        self.identity.draft(kind, json, people, &Stamp { recorded_at: now(), nonce })
    }

    /// How many of the first drafts fit into one batch: at least one where there is one.
    pub fn fitting(drafts: &[Draft]) -> usize {
        let mut bytes = 0_usize;
        let mut fits = |draft: &Draft| {
            bytes = bytes.saturating_add(draft.bytes());
            bytes <= BATCH_BYTES_MAX
        };
        let fitting = drafts.iter().take(BATCH_RECORDS_MAX).take_while(|draft| fits(draft)).count();
        fitting.max(1).min(drafts.len())
    }

    /// Places drafts at the stream's end and seals them, each with a new seed. Nothing is sent, and
    /// what is prepared next has the same place, until [`Gate::submit`] has got this into the log.
    pub fn prepare(&self, drafts: &[Draft]) -> Result<Arc<PreparedBatch>, ClientError> {
        self.prepare_at(self.next_seq, self.prev, drafts)
    }

    /// The same, placed behind a batch that is still under way: for a stream of calls.
    pub fn prepare_after(
        &self,
        batch: &PreparedBatch,
        drafts: &[Draft],
    ) -> Result<Arc<PreparedBatch>, ClientError> {
        let first_seq = batch.first_seq().saturating_add(batch.records().len() as u64);
        self.prepare_at(first_seq, batch.roots().last().copied().unwrap_or(self.prev), drafts)
    }

    fn prepare_at(
        &self,
        first_seq: u64,
        mut prev: RecordRoot,
        drafts: &[Draft],
    ) -> Result<Arc<PreparedBatch>, ClientError> {
        let mut seq = first_seq;
        let stream = self.stream.hex();
        let mut records = Vec::with_capacity(drafts.len());
        let mut roots = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let seed = random().map_err(|error| ClientError::Random(error.to_string()))?;
            let record =
                draft.placed(&stream, seq, &prev.hex(), seed).map_err(ClientError::Record)?;
            prev = record.build_root().map_err(ClientError::Record)?;
            roots.push(prev);
            seq = seq.checked_add(1).ok_or(ClientError::Record(Code::ValueShape.into()))?;
            records.push(SubmittedRecord { record, people: draft.people().to_vec() });
        }
        let key = &self.identity.seal_key;
        PreparedBatch::seal_built(self.stream, first_seq, key, records, roots)
            .map_err(ClientError::Record)
    }

    /// Seals records that have their place already: what an outbox kept.
    pub fn seal(
        &self,
        first_seq: u64,
        records: Vec<SubmittedRecord>,
    ) -> Result<Arc<PreparedBatch>, ClientError> {
        PreparedBatch::seal(self.stream, first_seq, &self.identity.seal_key, records)
            .map_err(ClientError::Record)
    }

    /// Submits a batch until its fate is known: the same bytes again while the ledger does not
    /// answer, is overloaded or is stopping. Resubmission is harmless, since the ledger answers
    /// what it has with the first receipt and seal.
    ///
    /// A record that is refused is in the log under no circumstances; those behind it are refused
    /// with `STREAM_HALTED` and can be prepared anew. When the deadline passes, the error is
    /// [`ClientError::FateUnknown`]: call this again with the same batch.
    pub async fn submit(
        &mut self,
        batch: &Arc<PreparedBatch>,
    ) -> Result<Vec<RecordOutcome>, ClientError> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            let error = match self.client.submit(batch).await {
                Ok(outcome) => match first_transient(&outcome.records) {
                    None => {
                        self.advance(batch, &outcome.records).await;
                        return Ok(outcome.records);
                    }
                    Some(refusal) => ClientError::Refused(refusal),
                },
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            attempts.wait(error).await.map_err(|last| ClientError::FateUnknown {
                stream: batch.stream(),
                first_seq: batch.first_seq(),
                count: batch.records().len(),
                last: Box::new(last),
            })?;
        }
    }

    /// Moves this side's end of the stream to where the outcomes say it is. Where the ledger doesn't
    /// tell, this side stays where it is, and the next refusal asks again: what is known of the
    /// records must not be lost over it.
    async fn advance(&mut self, batch: &PreparedBatch, outcomes: &[RecordOutcome]) {
        let logged = outcomes.iter().zip(batch.roots()).take_while(|(each, _)| each.result.is_ok());
        for (outcome, root) in logged {
            if outcome.seq >= self.next_seq {
                self.next_seq = outcome.seq.saturating_add(1);
                self.prev = *root;
            }
        }
        let refused = outcomes.iter().find_map(|each| each.result.as_ref().err());
        if refused.is_some_and(|refusal| is_of_place(refusal.code))
            && let Err(error) = self.resync().await
        {
            tracing::warn!(%error, "the ledger does not say where the stream stands");
        }
    }

    /// Gets drafts into the log, in order, in as many batches as it takes, sealing anew what an
    /// earlier refusal halted. One result a draft: logged, or refused for good.
    ///
    /// Without an outbox: when this fails, what was under way is lost to the caller. Those who
    /// must not lose it keep what [`Gate::prepare`] gives before they [`Gate::submit`] it.
    pub async fn log(
        &mut self,
        drafts: &[Draft],
    ) -> Result<Vec<Result<LoggedRecord, Refusal>>, ClientError> {
        let mut results: Vec<Result<LoggedRecord, Refusal>> = Vec::with_capacity(drafts.len());
        let mut rounds_without = 0;
        while let Some(rest) = drafts.get(results.len()..).filter(|rest| !rest.is_empty()) {
            let rest = rest.get(..Self::fitting(rest)).unwrap_or(rest);
            let batch = self.prepare(rest)?;
            let before = results.len();
            for outcome in self.submit(&batch).await? {
                match outcome.result {
                    Err(refusal) if Self::reseals(refusal.code) => break,
                    settled => results.push(settled),
                }
            }
            rounds_without = if results.len() == before { rounds_without + 1 } else { 0 };
            if rounds_without == RESEALS_MAX {
                let stream = self.stream;
                return Err(ClientError::Contended { stream, attempts: RESEALS_MAX });
            }
        }
        Ok(results)
    }

    /// Whether a record refused with this code was not looked at, or only stood at the wrong
    /// place: prepared anew, it may be logged.
    pub fn reseals(code: Code) -> bool {
        matches!(code, Code::StreamHalted | Code::SeqGap | Code::PrevMismatch)
    }
}

/// Whether this side is wrong about the stream's end.
fn is_of_place(code: Code) -> bool {
    matches!(code, Code::SeqGap | Code::PrevMismatch | Code::Equivocation)
}

fn first_transient(outcomes: &[RecordOutcome]) -> Option<Refusal> {
    let mut refusals = outcomes.iter().filter_map(|each| each.result.as_ref().err());
    refusals.find(|refusal| transient(refusal.code)).cloned()
}

/// The attempts at one thing.
struct Attempts {
    retry: Retry,
    until: Instant,
    wait: Duration,
}

impl Attempts {
    fn new(retry: Retry) -> Self {
        Self { retry, until: Instant::now() + retry.deadline, wait: retry.first_wait }
    }

    /// Waits before the next attempt; gives the error back when there is no time for one.
    async fn wait(&mut self, error: ClientError) -> Result<(), ClientError> {
        let own = stretched(self.wait);
        let wait = error.retry_after().map_or(own, |asked| own.max(asked));
        if Instant::now() + wait >= self.until {
            return Err(error);
        }
        tracing::debug!(%error, wait_ms = wait.as_millis(), "trying again");
        tokio::time::sleep(wait).await;
        self.wait = self.wait.saturating_mul(2).min(self.retry.longest_wait);
        Ok(())
    }
}

/// A little longer at random, so that gates which were refused together come back apart.
fn stretched(wait: Duration) -> Duration {
    let [byte] = random::<1>().unwrap_or([0]);
    wait + wait.mul_f64(f64::from(byte) / 1024.0)
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The machine's time, to the microsecond.
fn now() -> Micros {
    Micros(u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0))
}

//! `SubmitStream`: many batches of one call under way at once, answered in the order they came.
//!
//! Two tasks. The *reader* takes a message, parses it and puts it into the log's queue; the
//! *answerer* waits for the fates in the same order and sends them. So batch n + 1 is parsed and
//! checked while batch n is written. Each batch that was read holds a place until its answer was
//! taken by the transport; while no place is free nothing is read, and HTTP/2's flow control
//! carries that back to the client.
//!
//! Whatever was read is answered, also at the drain, unless the log itself can't tell what became
//! of it: then the call ends with that code, since an answer would have to be a guess.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::codes::Code;
use countersign_core::stream::StreamId;
use countersign_log::ledger::{Ledger, Pending, Room};
use countersign_log::store::Store;
use countersign_proto::convert::{BatchAnswer, RecordAnswer};
use countersign_proto::errors::Refusal;
use countersign_proto::v1::{self, SubmitRequest, SubmitResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::batch::{self, BatchLimits, SubmittedSeal};
use super::refusal;
use crate::admission::Caller;
use crate::authz::{Permit, Rpc};
use crate::drain::Drain;

/// Streams of one call that are remembered as halted. Forgetting one costs only the name of the
/// refusal: the log itself takes no record out of order.
const HALTED_STREAMS_MAX: usize = 1_024;

/// How long an answer may wait to be taken. A caller that doesn't read holds room in the log's
/// queue, which is everybody's.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// The log, for one call.
pub(super) struct CallTo<S> {
    pub(super) ledger: Ledger<S>,
    pub(super) caller: Caller,
    /// The call's number in this process.
    pub(super) number: u64,
}

/// What the reader hands to the answerer, in the order of the requests.
enum Step {
    Batch(Submitted),
    End(Status),
}

struct Submitted {
    call_id: u64,
    /// The stream that it names, where it names one.
    stream: Option<StreamId>,
    fate: Result<(SubmittedSeal, Pending), Refusal>,
    /// Given back when the answer has been taken.
    _place: OwnedSemaphorePermit,
}

/// Starts both tasks; the answers come from what it returns.
pub(super) fn start<S: Store>(
    call: CallTo<S>,
    limits: BatchLimits,
    drain: Drain,
    requests: Streaming<SubmitRequest>,
) -> ReceiverStream<Result<SubmitResponse, Status>> {
    // One step more than there are places, for the end.
    let (steps, taken) = mpsc::channel(limits.in_flight.saturating_add(1));
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(read(call, limits, requests, steps, drain));
    tokio::spawn(answer(taken, answers));
    ReceiverStream::new(stream)
}

/// Reads while there are places, until the client, the drain or a fault ends the call.
async fn read<S: Store>(
    call: CallTo<S>,
    limits: BatchLimits,
    mut requests: Streaming<SubmitRequest>,
    steps: mpsc::Sender<Step>,
    mut drain: Drain,
) {
    let places = Arc::new(Semaphore::new(limits.in_flight));
    let end = loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, requests.message().await)
        };
        let (place, request) = tokio::select! {
            biased;
            () = drain.started() => break Refusal::from(Code::LedgerStopping).into(),
            () = steps.closed() => return,
            next = next => next,
        };
        let request = match request {
            Ok(Some(request)) => request,
            // The client has said all that it has to say.
            Ok(None) => return,
            Err(status) => break status,
        };
        // Nobody closes the semaphore.
        let Ok(place) = place else { return };
        // A call may outlive its caller's certificate.
        let permit = match call.caller.authorize_own(Rpc::SubmitStream) {
            Ok(permit) => permit,
            Err(refusal) => break refusal.into(),
        };
        let SubmitRequest { batch, call_id } = request;
        let stream = batch.as_ref().and_then(|batch| batch.stream.as_ref().try_into().ok());
        let fate = enqueue(&call, limits, &permit, batch).await;
        let stream = stream.map(StreamId);
        let submitted = Submitted { call_id, stream, fate, _place: place };
        if steps.send(Step::Batch(submitted)).await.is_err() {
            return;
        }
    };
    // Fails only when the caller is gone.
    let _ = steps.send(Step::End(end)).await;
}

async fn enqueue<S: Store>(
    call: &CallTo<S>,
    limits: BatchLimits,
    permit: &Permit,
    batch: Option<v1::Batch>,
) -> Result<(SubmittedSeal, Pending), Refusal> {
    let submission = batch::parse(batch, limits).await?;
    let seal = SubmittedSeal::of(&submission);
    let batch = batch::for_log(submission, permit.caller(), call.number);
    let pending = call.ledger.enqueue(batch).await.map_err(refusal)?;
    Ok((seal, pending))
}

/// Sends the answers in order, until the reader has ended or the caller is gone.
async fn answer(
    mut taken: mpsc::Receiver<Step>,
    answers: mpsc::Sender<Result<SubmitResponse, Status>>,
) {
    let mut halts = Halts::default();
    while let Some(step) = taken.recv().await {
        let end = match step {
            Step::End(status) => status,
            Step::Batch(Submitted { call_id, stream, fate, _place }) => {
                match settle(call_id, stream, fate, &mut halts).await {
                    Ok((answer, _room)) => {
                        let sent = timeout(ANSWER_WAIT, answers.send(Ok(answer.into()))).await;
                        if !matches!(sent, Ok(Ok(()))) {
                            // The caller is gone, or doesn't read: what waits is given up, and
                            // submitted again it is answered as a repeat.
                            return;
                        }
                        continue;
                    }
                    Err(unknown) => unknown.into(),
                }
            }
        };
        // Fails only when the caller is gone.
        let _ = answers.send(Err(end)).await;
        return;
    }
}

/// The answer to one batch, or what ends the call.
async fn settle(
    call_id: u64,
    stream: Option<StreamId>,
    fate: Result<(SubmittedSeal, Pending), Refusal>,
    halts: &mut Halts,
) -> Result<(BatchAnswer, Option<Room>), Refusal> {
    let refused =
        |refusal| BatchAnswer { call_id, checkpoint: String::new(), outcome: Err(refusal) };
    let (mut answer, room) = match fate {
        Err(refusal) => (refused(refusal), None),
        Ok((seal, pending)) => match pending.answer_and_room().await {
            (Ok(answer), room) => (batch::answered(call_id, &seal, answer), Some(room)),
            (Err(unknown), _) if leaves_fate_open(unknown.fault.code) => {
                return Err(refusal(unknown));
            }
            (Err(known), room) => (refused(refusal(known)), Some(room)),
        },
    };
    if let Some(stream) = stream {
        halts.settle(stream, &mut answer);
    }
    Ok((answer, room))
}

/// Whether a queued batch may be in the log although the log answers with this code. Its caller has
/// to ask again, by sending the same records.
fn leaves_fate_open(code: Code) -> bool {
    matches!(
        code,
        Code::EvidenceUnavailable
            | Code::Internal
            | Code::LedgerPoisoned
            | Code::LedgerStopping
            | Code::StoreFailed
            | Code::StoreCorrupt
    )
}

/// The streams of a call in which something was refused and not yet sent anew (STR-9).
///
/// The log halts a stream for the records that reach it. A batch that is refused before that, for
/// its seal or its shape, leaves a gap; those behind it are told what the gap comes from.
#[derive(Debug, Default)]
struct Halts(HashSet<StreamId>);

impl Halts {
    /// Takes in the next answer of the call.
    fn settle(&mut self, stream: StreamId, answer: &mut BatchAnswer) {
        if self.0.contains(&stream) {
            match &mut answer.outcome {
                Err(refusal) => name_halt(refusal),
                Ok(records) => records
                    .iter_mut()
                    .filter_map(|record| record.outcome.as_mut().err())
                    .for_each(name_halt),
            }
        }
        let all_logged = |records: &Vec<RecordAnswer>| records.iter().all(|r| r.outcome.is_ok());
        if answer.outcome.as_ref().is_ok_and(all_logged) {
            self.0.remove(&stream);
        } else if self.0.len() < HALTED_STREAMS_MAX {
            self.0.insert(stream);
        }
    }
}

fn name_halt(refusal: &mut Refusal) {
    if refusal.code == Code::SeqGap {
        let expected_seq = refusal.expected_seq;
        *refusal = Refusal { expected_seq, ..Refusal::from(Code::StreamHalted) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId([7; 16]);

    fn whole(code: Code) -> BatchAnswer {
        let refusal = Refusal::from(code).with_expected_seq(3);
        BatchAnswer { call_id: 1, checkpoint: String::new(), outcome: Err(refusal) }
    }

    fn one(code: Code) -> BatchAnswer {
        let outcome = Err(Refusal::from(code).with_expected_seq(3));
        BatchAnswer { outcome: Ok(vec![RecordAnswer { seq: 5, outcome }]), ..whole(code) }
    }

    fn code_of(answer: &BatchAnswer) -> Option<Code> {
        match &answer.outcome {
            Err(refusal) => Some(refusal.code),
            Ok(records) => records.first()?.outcome.as_ref().err().map(|refusal| refusal.code),
        }
    }

    #[test]
    fn a_gap_behind_a_refused_batch_is_a_halt_until_something_is_logged_again() {
        let mut halts = Halts::default();
        let mut settle = |mut answer: BatchAnswer, stream| {
            halts.settle(stream, &mut answer);
            answer
        };
        assert_eq!(code_of(&settle(one(Code::SeqGap), StreamId([8; 16]))), Some(Code::SeqGap));
        assert_eq!(code_of(&settle(whole(Code::SealSignature), STREAM)), Some(Code::SealSignature));
        let halted = settle(one(Code::SeqGap), STREAM);
        assert_eq!(code_of(&halted), Some(Code::StreamHalted));
        let expected = halted.outcome.map(|records| {
            records.into_iter().filter_map(|r| r.outcome.err()).map(|r| r.expected_seq).collect()
        });
        assert_eq!(expected, Ok(vec![Some(3)]));
        // Other refusals keep their names, and other streams their gaps.
        assert_eq!(code_of(&settle(one(Code::PrevMismatch), STREAM)), Some(Code::PrevMismatch));
        assert_eq!(code_of(&settle(one(Code::SeqGap), StreamId([9; 16]))), Some(Code::SeqGap));
        settle(BatchAnswer { outcome: Ok(Vec::new()), ..whole(Code::SeqGap) }, STREAM);
        assert_eq!(code_of(&settle(one(Code::SeqGap), STREAM)), Some(Code::SeqGap));
    }

    #[test]
    fn a_call_remembers_only_so_many_streams() {
        let mut halts = Halts::default();
        for number in 0..2 * HALTED_STREAMS_MAX as u128 {
            halts.settle(StreamId(number.to_be_bytes()), &mut whole(Code::SealSignature));
        }
        assert_eq!(halts.0.len(), HALTED_STREAMS_MAX);
    }
}

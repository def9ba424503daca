//! Many batches in flight on one call: sent without waiting, answered in their order.

use std::sync::Arc;

use countersign_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::answer::{BatchOutcome, PreparedBatch};
use crate::client::Client;
use crate::error::ClientError;
use crate::reach::{from_status, timed_out};
use crate::tracker::Floor;

/// A batch that was sent and is not yet answered.
#[derive(Debug)]
struct Waiting {
    batch: Arc<PreparedBatch>,
    call_id: u64,
    floor: Floor,
    // Its place among those in flight, free again when the answer was verified.
    _place: OwnedSemaphorePermit,
}

/// The sending half. Dropping it tells the ledger that nothing more comes.
#[derive(Debug)]
pub struct SubmitSender {
    client: Client,
    requests: mpsc::Sender<v1::SubmitRequest>,
    waiting: mpsc::Sender<Waiting>,
    places: Arc<Semaphore>,
}

/// The receiving half.
#[derive(Debug)]
pub struct SubmitReceiver {
    client: Client,
    responses: mpsc::Receiver<Result<v1::SubmitResponse, Status>>,
    waiting: mpsc::Receiver<Waiting>,
    over: bool,
}

impl Client {
    /// Opens a stream of calls with at most `in_flight_max` batches (at least 1) unanswered; the
    /// server's own limit is 16 by default.
    ///
    /// One task may hold both halves if it asks [`SubmitSender::has_room`] before it sends. After
    /// an error the call is over: what was not answered has an unknown fate, and is submitted again
    /// as it is.
    pub fn submit_stream(&self, in_flight_max: usize) -> (SubmitSender, SubmitReceiver) {
        let capacity = in_flight_max.clamp(1, Semaphore::MAX_PERMITS);
        let (requests, to_send) = mpsc::channel(capacity);
        let (answered, responses) = mpsc::channel(capacity);
        let (waiting, to_match) = mpsc::channel(capacity);
        let mut grpc = self.grpc();
        // The call is driven by a task of its own: a server may wait for the first batch before it
        // answers the call at all.
        tokio::spawn(async move {
            let call = grpc.submit_stream(Request::new(ReceiverStream::new(to_send)));
            let mut stream = match call.await {
                Ok(response) => response.into_inner(),
                Err(status) => {
                    // Nobody reads it any more only when the receiver is gone.
                    let _ = answered.send(Err(status)).await;
                    return;
                }
            };
            while let Some(response) = stream.message().await.transpose() {
                let failed = response.is_err();
                if answered.send(response).await.is_err() || failed {
                    return;
                }
            }
        });
        let places = Arc::new(Semaphore::new(capacity));
        let sender = SubmitSender { client: self.clone(), requests, waiting, places };
        (sender, SubmitReceiver { client: self.clone(), responses, waiting: to_match, over: false })
    }
}

impl SubmitSender {
    /// Whether a batch can be sent without waiting for an answer first.
    pub fn has_room(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Sends a batch as soon as there is room. An error says that the call is over; the receiver
    /// says why.
    pub async fn send(&self, batch: Arc<PreparedBatch>) -> Result<(), ClientError> {
        let over = || ClientError::Unreachable { detail: "the stream of calls is over".to_owned() };
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| over())?;
        let floor = self.client.inner.tracker.floor()?;
        let call_id = self.client.next_call_id();
        let message = v1::SubmitRequest { batch: Some(batch.to_wire()), call_id };
        // First on the list of those that wait, so that an answer always finds its batch.
        let waiting = Waiting { batch, call_id, floor, _place: place };
        self.waiting.send(waiting).await.map_err(|_| over())?;
        self.requests.send(message).await.map_err(|_| over())
    }
}

impl SubmitReceiver {
    /// The verified outcome of the next batch, in the order of sending; `None` once the sender is
    /// gone and everything is answered, after the newest head was proven.
    ///
    /// A batch that was refused as a whole is [`ClientError::Refused`], and the stream goes on. Any
    /// other error ends it, as does a refusal of the call itself: [`SubmitReceiver::is_over`].
    pub async fn next(&mut self) -> Result<Option<BatchOutcome>, ClientError> {
        if self.over {
            let detail = "the stream of calls is over".to_owned();
            return Err(ClientError::Unreachable { detail });
        }
        let Some(waiting) = self.waiting.recv().await else {
            self.client.settle().await?;
            return Ok(None);
        };
        let timeout = self.client.inner.call_timeout;
        let response = match tokio::time::timeout(timeout, self.responses.recv()).await {
            Ok(Some(Ok(response))) => response,
            Ok(Some(Err(status))) => return Err(self.end(from_status(&status))),
            Ok(None) => {
                let detail = "the ledger ended the stream before every answer".to_owned();
                return Err(self.end(ClientError::Unreachable { detail }));
            }
            Err(_elapsed) => return Err(self.end(timed_out(timeout))),
        };
        let Waiting { batch, call_id, floor, _place } = waiting;
        // A refusal of the whole batch is told apart from one of the call by having come inside.
        match self.client.accept(&batch, call_id, &floor, response).await {
            Err(error) if !matches!(error, ClientError::Refused(_)) => Err(self.end(error)),
            outcome => outcome.map(Some),
        }
    }

    /// Whether an error has ended the stream.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// After an error nothing more is matched: answers might be told of the wrong batch.
    fn end(&mut self, error: ClientError) -> ClientError {
        self.over = true;
        self.waiting.close();
        self.responses.close();
        while self.waiting.try_recv().is_ok() {}
        error
    }
}

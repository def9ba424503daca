//! Heads as they are published, to one caller.

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_log::api::Head;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::head_to_wire;
use crate::admission::Caller;
use crate::drain::Drain;

/// Starts with `newest` where it is larger than `after`, and goes on with the heads that `heads`
/// comes to show, never a smaller one after a larger one. Ends when the caller goes or its
/// certificate stops counting, and at the drain.
pub(super) fn start(
    caller: Caller,
    after: TreeSize,
    newest: Arc<Head>,
    mut heads: watch::Receiver<Arc<Head>>,
    mut drain: Drain,
) -> ReceiverStream<Result<v1::Head, Status>> {
    // One head waits at most: a slow reader misses those in between and gets the newest.
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut next = (newest.size > after).then(|| Arc::clone(&newest));
        let mut sent = newest.size;
        let end = loop {
            if let Some(head) = next.take() {
                if let Err(refusal) = caller.identity() {
                    break refusal;
                }
                sent = head.size;
                tokio::select! {
                    delivered = answers.send(Ok(head_to_wire(&head))) => {
                        if delivered.is_err() {
                            return;
                        }
                    }
                    () = drain.started() => break Refusal::from(Code::LedgerStopping),
                }
            }
            tokio::select! {
                changed = heads.changed() => {
                    if changed.is_err() {
                        break Refusal::from(Code::LedgerStopping);
                    }
                    let head = Arc::clone(&heads.borrow_and_update());
                    // A periodic head may be older than the one that this call began with.
                    next = (head.size >= sent).then_some(head);
                }
                () = drain.started() => break Refusal::from(Code::LedgerStopping),
                () = answers.closed() => return,
            }
        };
        // Fails only when the caller is gone.
        let _ = answers.send(Err(end.into())).await;
    });
    ReceiverStream::new(stream)
}

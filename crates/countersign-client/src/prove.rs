//! Proving that heads continue each other: the calls that [`crate::tracker`] asks for.

use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use countersign_core::receipt::ConsistencyProof;
use countersign_proto::v1;

use crate::client::Client;
use crate::error::ClientError;
use crate::heads::VerifiedHead;
use crate::tracker::{Floor, Standing};

impl Client {
    /// Takes in the head of an answer to a call that was made at `floor`.
    pub(crate) fn take_head(
        &self,
        head: &Arc<VerifiedHead>,
        floor: &Floor,
    ) -> Result<(), ClientError> {
        let standing = self.alarmed(self.inner.tracker.observe(head, floor))?;
        if let Standing::Behind { .. } = standing {
            // Another call has overtaken this one.
            self.inner.tracker.hold(head);
        }
        Ok(())
    }

    /// Takes in a head that may be older than the newest one, and then proves that it is a prefix.
    pub(crate) async fn take_old_head(&self, head: &Arc<VerifiedHead>) -> Result<(), ClientError> {
        let standing = self.alarmed(self.inner.tracker.observe_any(head))?;
        if let Standing::Behind { newer } = standing {
            self.prove(head, &newer, head).await?;
            self.inner.tracker.note_prefix(head);
        }
        Ok(())
    }

    /// [`Client::join_newest`] when the interval is over. A ledger that is too busy to prove is
    /// given a while: what was logged is told to the caller, and the proof is asked for again.
    pub(crate) async fn join_if_due(&self) -> Result<(), ClientError> {
        match self.join_newest(false).await {
            Err(error) if error.is_transient() && !self.inner.tracker.overdue() => {
                tracing::warn!(%error, "the newest head is not yet proven; asking again");
                Ok(())
            }
            other => other,
        }
    }

    /// Proves that the newest head seen continues the remembered one, and remembers it, when the
    /// interval is over or `at_once`.
    pub(crate) async fn join_newest(&self, at_once: bool) -> Result<(), ClientError> {
        if self.inner.tracker.due(at_once).is_none() {
            return Ok(());
        }
        // One at a time, so that a slower proof does not undo a newer one.
        let _joining = self.inner.joining.lock().await;
        let Some(due) = self.inner.tracker.due(at_once) else {
            return Ok(());
        };
        for old in &due.older {
            self.prove(old, &due.newest, &due.newest).await?;
        }
        self.inner.tracker.join(&due);
        self.remember(due.newest).await
    }

    async fn remember(&self, head: Arc<VerifiedHead>) -> Result<(), ClientError> {
        let Some(memory) = self.inner.memory.clone() else {
            return Ok(());
        };
        let inner = Arc::clone(&self.inner);
        let kept = tokio::task::spawn_blocking(move || memory.keep(&head, &inner.keys));
        // The task is not cancelled; it could only fail by a panic, which goes on from here.
        kept.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Asks for the proof from `old` to `new` and verifies it. `shown` is the one of the two that
    /// is new to this client.
    ///
    /// A ledger that signed both and has no proof for them has forked, whatever it answers in its
    /// place.
    async fn prove(
        &self,
        old: &VerifiedHead,
        new: &VerifiedHead,
        shown: &VerifiedHead,
    ) -> Result<(), ClientError> {
        // The empty tree is a prefix of every other (there is nothing to prove).
        if old.size().0 == 0 || old == new {
            return Ok(());
        }
        let kept = if shown == new { old } else { new };
        let fork = || {
            let conflict = self.inner.tracker.conflict(Code::HeadFork, kept, shown);
            self.alarmed::<()>(Err(conflict))
        };
        let request = v1::GetConsistencyRequest { old_size: old.size().0, new_size: new.size().0 };
        let mut grpc = self.grpc();
        let response = match self.call(grpc.get_consistency(self.request(request))).await {
            Err(ClientError::Refused(refusal)) if refusal.code == Code::SizeUnknown => {
                return fork();
            }
            // Told apart from a refusal of what the caller asked for.
            Err(ClientError::Refused(refusal)) => {
                let detail =
                    format!("no consistency proof was given: {}", escaped(&refusal.message));
                return Err(ClientError::Unreachable { detail });
            }
            other => other?,
        };
        let proof = ConsistencyProof::try_from(response).map_err(ClientError::Answer)?;
        if (proof.old_size, proof.new_size) != (old.size(), new.size()) {
            return Err(ClientError::Answer(Code::ConsistencySizes.into()));
        }
        match proof.verify(old.checkpoint(), new.checkpoint()) {
            Ok(()) => Ok(()),
            Err(_) => fork(),
        }
    }

    /// Writes both heads of a conflict beside the remembered one, as the remedy asks for.
    pub(crate) fn alarmed<T>(&self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        if let (Err(ClientError::Head(conflict)), Some(memory)) = (&result, &self.inner.memory)
            && let Err(error) = memory.keep_conflict(conflict)
        {
            tracing::error!(%error, "the two heads of a conflict could not be kept in files");
        }
        result
    }
}

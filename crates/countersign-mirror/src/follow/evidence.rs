//! The tenant's own evidence, pulled over gRPC as it appears (FOL-8), and what that shows of the
//! log: each head that comes this way must be one that the followed heads continue (FOL-9).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_client::{
    Client, ClientError, Cursor, EvidenceItem, EvidenceQuery, Paging, RecordRef,
};
use countersign_core::codes::Code;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::query::Query;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::head::Head;
use super::run::Pace;
use super::{Claims, Followed, Status};
use crate::storage::{Place, StorageError};

/// The folder of the tenant's own evidence.
pub const EVIDENCE: &str = "evidence";
/// Where to go on.
const NEXT: &str = "state/evidence.json";
const NEXT_BYTES_MAX: usize = 1024;
/// Files that are asked for at once.
const IN_FLIGHT: usize = 8;
/// Rows of a page.
const PAGE: u32 = 256;
/// The first wait after a failure, and the longest.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// Why no evidence came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The ledger, or what it answered.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The tenant's storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    next: u64,
}

/// Pulls one tenant's evidence of one log.
#[derive(Debug)]
pub struct EvidencePuller {
    client: Client,
    log: Followed,
    place: Place,
    claims: Claims,
    status: Arc<Status>,
    // The note that was claimed last: files of one page share it.
    claimed: Mutex<String>,
}

impl EvidencePuller {
    /// Into the folder of a log, beside what its follower keeps.
    pub fn new(
        client: Client,
        log: Followed,
        place: Place,
        claims: Claims,
        status: Arc<Status>,
    ) -> Self {
        Self { client, log, place, claims, status, claimed: Mutex::default() }
    }

    /// Pulls what there is, and then what comes: for ever, or once.
    ///
    /// # Errors
    ///
    /// Asked to pull once, the first failure; otherwise only a ledger that contradicts itself, whose
    /// heads are then among the claims, for the follower to judge.
    pub async fn run(&self, pace: &Pace) -> Result<(), EvidenceError> {
        let mut wait = BACKOFF;
        loop {
            let error = match self.pull_and_wait(pace.once).await {
                Ok(()) if pace.once => return Ok(()),
                Ok(()) => {
                    wait = BACKOFF;
                    // There may be more in the log than is published.
                    pace.wake.notify_one();
                    continue;
                }
                Err(error) => error,
            };
            if let EvidenceError::Client(ClientError::Head(conflict)) = &error {
                self.claim(conflict.kept.as_str());
                self.claim(conflict.shown.as_str());
                pace.wake.notify_one();
                return Err(error);
            }
            if pace.once {
                return Err(error);
            }
            let (origin, seconds) = (&self.log.origin, wait.as_secs());
            tracing::warn!(origin, seconds, "evidence is asked for again: {error}");
            sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// A head that the log signed and showed here.
    fn claim(&self, note: &str) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if *claimed == note {
            return;
        }
        note.clone_into(&mut claimed);
        match Head::believe(note, &self.log.origin, &self.log.trust) {
            Ok(head) => self.claims.add(head),
            Err(fault) => tracing::warn!(%fault, "a head that came over gRPC is not believed"),
        }
    }

    /// Everything up to the newest head; then, unless it is for once, waits for a newer one.
    async fn pull_and_wait(&self, once: bool) -> Result<(), EvidenceError> {
        let head = self.client.head().await?;
        self.claim(head.checkpoint().as_str());
        self.pull(head.size()).await?;
        if once {
            return Ok(());
        }
        let mut watch = self.client.watch_heads(head.size()).await?;
        while let Some(newer) = watch.next().await? {
            self.claim(newer.checkpoint().as_str());
            if newer.size() > head.size() {
                break;
            }
        }
        Ok(())
    }

    /// The tenant's records below a size, from where it stopped.
    async fn pull(&self, size: TreeSize) -> Result<(), EvidenceError> {
        let mut at = self.next().await?;
        while at < size.0 {
            let cursor = Some(Cursor { at: LeafIndex(at), size });
            let paging = Paging { cursor, limit: PAGE, ..Paging::default() };
            let page = self.client.query(&Query::default(), &paging).await?;
            self.fetch(page.rows.iter().map(|row| row.index), size).await?;
            at = page.next.map_or(size.0, |next| next.at.0);
            self.place.barrier().await?;
            let next = serde_json::to_vec(&Next { next: at }).unwrap_or_default();
            self.place.put(NEXT, &next).await?;
        }
        self.place.barrier().await?;
        Ok(())
    }

    async fn next(&self) -> Result<u64, StorageError> {
        let stored = self.place.read(NEXT, NEXT_BYTES_MAX).await?;
        let next = stored.and_then(|bytes| serde_json::from_slice::<Next>(&bytes).ok());
        Ok(next.map_or(0, |stored| stored.next))
    }

    async fn fetch(
        &self,
        indexes: impl Iterator<Item = LeafIndex>,
        size: TreeSize,
    ) -> Result<(), EvidenceError> {
        let mut asked = JoinSet::new();
        for index in indexes {
            if asked.len() >= IN_FLIGHT {
                self.keep(&mut asked).await?;
            }
            let (client, trust) = (self.client.clone(), Arc::clone(&self.log.trust));
            asked.spawn(async move {
                let query = EvidenceQuery::Record(RecordRef::Index(index));
                client.evidence_at(query, size, Some(&trust)).await
            });
        }
        while !asked.is_empty() {
            self.keep(&mut asked).await?;
        }
        Ok(())
    }

    /// Keeps what the next answer proves. What is there already stays: it was verified then.
    async fn keep(
        &self,
        asked: &mut JoinSet<Result<Vec<EvidenceItem>, ClientError>>,
    ) -> Result<(), EvidenceError> {
        let Some(items) = asked.join_next().await else { return Ok(()) };
        let lost = || ClientError::Answer(Code::Internal.into());
        for item in items.map_err(|_| lost())?? {
            let evidence = Evidence::parse(item.json.as_bytes()).map_err(ClientError::Answer)?;
            self.claim(evidence.receipt.checkpoint.as_str());
            let name = format!("{EVIDENCE}/{:020}.evidence", item.index.0);
            self.place.private(EVIDENCE)?;
            if self.place.create(&name, item.json.as_bytes()).await? {
                self.status.evidence.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

//! A tenant's records as they are published, to one caller.

use countersign_core::codes::Code;
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::query::{Query, Row};
use countersign_log::api::{PageRequest, RecordAt};
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::evidence::file;
use super::{faulty, refusal};
use crate::admission::Caller;
use crate::drain::Drain;

/// Records that are looked up at once.
const PAGE_ROWS: usize = 100;
/// Answers that wait for a slow reader, each of at most 1 MiB.
const ANSWERS_WAITING: usize = 4;

/// One watch.
pub(super) struct Watch<S> {
    ledger: Ledger<S>,
    caller: Caller,
    with_evidence: bool,
    /// What is looked up next: everything from its cursor on.
    request: PageRequest,
    at: u64,
}

/// Why a watch ends before anything is wrong.
enum End {
    /// The caller went.
    Gone,
    /// The caller is told why.
    Told(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Told(refusal)
    }
}

type Answers = mpsc::Sender<Result<v1::WatchRecordsResponse, Status>>;

impl<S: Store> Watch<S> {
    pub(super) fn new(
        ledger: Ledger<S>,
        caller: Caller,
        tenant: String,
        request: v1::WatchRecordsRequest,
    ) -> Result<Self, Refusal> {
        let (at, with_evidence) = (request.from_index, request.with_evidence);
        let query = Query::try_from(request).map_err(faulty)?;
        let limit = PAGE_ROWS;
        let request =
            PageRequest { tenant, query, size: None, cursor: None, limit, newest_first: false };
        Ok(Self { ledger, caller, with_evidence, request, at })
    }

    /// Sends what there is and what comes, until the caller goes, its certificate stops counting, or
    /// the ledger drains.
    pub(super) fn start(
        self,
        mut drain: Drain,
    ) -> ReceiverStream<Result<v1::WatchRecordsResponse, Status>> {
        let (answers, stream) = mpsc::channel(ANSWERS_WAITING);
        tokio::spawn(async move {
            let end = tokio::select! {
                end = self.run(&answers) => end,
                () = drain.started() => End::Told(Refusal::from(Code::LedgerStopping)),
            };
            if let End::Told(refusal) = end {
                // Fails only when the caller is gone.
                let _ = answers.send(Err(refusal.into())).await;
            }
        });
        ReceiverStream::new(stream)
    }

    async fn run(mut self, answers: &Answers) -> End {
        let mut heads = self.ledger.heads();
        loop {
            heads.mark_unchanged();
            if let Err(end) = self.catch_up(answers).await {
                return end;
            }
            tokio::select! {
                changed = heads.changed() => {
                    if changed.is_err() {
                        return End::Told(Refusal::from(Code::LedgerStopping));
                    }
                }
                () = answers.closed() => return End::Gone,
            }
            if let Err(refusal) = self.caller.identity() {
                return End::Told(refusal);
            }
        }
    }

    /// Sends everything that is published and was not sent.
    async fn catch_up(&mut self, answers: &Answers) -> Result<(), End> {
        let size = self.ledger.head().size;
        while self.at < size.0 {
            self.request.size = Some(size);
            self.request.cursor = Some(LeafIndex(self.at));
            let page = self.ledger.query(&self.request).await.map_err(refusal)?;
            for row in page.rows {
                self.caller.identity()?;
                let next_index = row.index.0.saturating_add(1);
                let answer = self.answer(row, next_index).await?;
                answers.send(Ok(answer)).await.map_err(|_| End::Gone)?;
            }
            self.at = page.next.map_or(size.0, |next| next.0);
        }
        Ok(())
    }

    async fn answer(&self, row: Row, next_index: u64) -> Result<v1::WatchRecordsResponse, Refusal> {
        let evidence_json = if self.with_evidence {
            let at = RecordAt::Index(row.index);
            let evidence = self.ledger.evidence(Some(&self.request.tenant), at, TreeSize(0)).await;
            let (index, evidence) = evidence.map_err(refusal)?;
            file(index, evidence.to_bytes())?.json
        } else {
            String::new()
        };
        Ok(v1::WatchRecordsResponse { row: Some(row.into()), evidence_json, next_index })
    }
}

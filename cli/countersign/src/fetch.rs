//! Evidence of many records under one head: asked for side by side, given in the order asked.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_client::{Client, ClientError, EvidenceItem};
use countersign_core::codes::Code;
use countersign_core::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use countersign_core::hash::{LeafIndex, TreeSize};
use countersign_core::trust::Trust;
use countersign_core::verify::{Report, Verdict, verify};
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use tokio::task::JoinHandle;

use crate::exit::Failure;
use crate::files::read_capped;

/// A record's evidence, verified.
pub(crate) struct Fetched {
    pub(crate) index: u64,
    pub(crate) evidence: Evidence,
    pub(crate) report: Report,
}

type Reading = JoinHandle<Result<Fetched, Failure>>;

/// Records that are on their way. Memory is bounded by how many may be.
pub(crate) struct Fetch {
    client: Client,
    trust: Arc<Option<Trust>>,
    size: TreeSize,
    in_flight: usize,
    reading: VecDeque<Reading>,
}

impl Fetch {
    /// Everything is proven under the head of this size.
    pub(crate) fn new(
        client: &Client,
        trust: &Arc<Option<Trust>>,
        size: TreeSize,
        in_flight: u16,
    ) -> Self {
        let (client, trust) = (client.clone(), Arc::clone(trust));
        Self { client, trust, size, in_flight: in_flight.into(), reading: VecDeque::new() }
    }

    /// Asks for a record; the caller takes one first where as many are on their way as may be. A
    /// file that is left of an earlier try is used where it proves the same.
    pub(crate) fn ask(&mut self, index: u64, left: Option<PathBuf>) {
        let (client, trust, size) = (self.client.clone(), Arc::clone(&self.trust), self.size);
        self.reading.push_back(tokio::spawn(async move {
            let found = left.and_then(|path| leftover(&path, index, size, trust.as_ref().as_ref()));
            if let Some(fetched) = found {
                return Ok(fetched);
            }
            let record = RecordRef::Index(LeafIndex(index));
            fetch(&client, record, size, trust.as_ref().as_ref()).await
        }));
    }

    /// Whether one must be taken before another is asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.reading.len() >= self.in_flight
    }

    /// The next record in the order asked; `None` when none is on its way.
    pub(crate) async fn next(&mut self) -> Result<Option<Fetched>, Failure> {
        let Some(reading) = self.reading.pop_front() else { return Ok(None) };
        let read = reading.await.map_err(|error| Failure::internal(error.to_string()))?;
        read.map(Some)
    }
}

/// One record's evidence under the head of this size, verified.
pub(crate) async fn fetch(
    client: &Client,
    record: RecordRef,
    size: TreeSize,
    trust: Option<&Trust>,
) -> Result<Fetched, Failure> {
    let query = EvidenceQuery::Record(record);
    let items: Vec<EvidenceItem> = client.evidence_at(query, size, trust).await?;
    let mismatch = || Failure::from(ClientError::Answer(Code::AnswerMismatch.at_field("files")));
    let item = items.into_iter().next().ok_or_else(mismatch)?;
    let evidence =
        Evidence::parse(item.json.as_bytes()).map_err(|fault| ClientError::Answer(fault).into());
    evidence.map(|evidence| {
        let index = evidence.receipt.index.0;
        Fetched { index, evidence, report: item.report }
    })
}

/// A file of an earlier try, where it is of this record, under this head and not wrong.
fn leftover(
    path: &std::path::Path,
    index: u64,
    size: TreeSize,
    trust: Option<&Trust>,
) -> Option<Fetched> {
    let evidence = Evidence::parse(&read_capped(path, EVIDENCE_BYTES_MAX).ok()?).ok()?;
    if evidence.receipt.index.0 != index || evidence.receipt.checkpoint.size != size {
        return None;
    }
    let report = verify(&evidence, Some(trust?));
    (report.result == Verdict::Valid).then_some(Fetched { index, evidence, report })
}

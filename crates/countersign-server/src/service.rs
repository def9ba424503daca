//! `countersign.v1.LedgerService`: every handler is decode → authorise → call the log → encode.
//!
//! What a caller is told of a failure is its code and the code's two fixed sentences; the rest goes
//! to the log file. Batches have modules of their own: `batch` (one batch in, one answer out) and
//! `pipeline` (many at once).

mod batch;
mod evidence;
mod pipeline;
mod records;
mod watch_heads;
mod watch_records;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_core::codes::{Code, Fault};
use countersign_core::hash::TreeSize;
use countersign_core::receipt::ConsistencyProof;
use countersign_log::api::{self, ProveAt, RecordAt, Refused, StreamRequest};
use countersign_log::ledger::{BLOB_BYTES_MAX, Ledger};
use countersign_log::store::Store;
use countersign_proto::convert::{EvidenceQuery, RecordRef, StreamOpened, StreamOpening};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::ledger_service_server::LedgerService;
use prost::bytes::Bytes;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::batch::BatchLimits;
use crate::admission::Caller;
use crate::authz::{Rpc, Target};
use crate::drain::Drain;
use crate::limits::Limits;

/// The service over one log.
pub struct LedgerRpc<S> {
    ledger: Ledger<S>,
    origin: Arc<str>,
    batches: BatchLimits,
    /// Microseconds that the retention floor of an erasure lies back at least.
    retention_us: u64,
    /// How many calls have brought batches: each has a number of its own.
    calls: Arc<AtomicU64>,
    drain: Drain,
}

impl<S> Clone for LedgerRpc<S> {
    fn clone(&self) -> Self {
        Self {
            ledger: self.ledger.clone(),
            origin: Arc::clone(&self.origin),
            batches: self.batches,
            retention_us: self.retention_us,
            calls: Arc::clone(&self.calls),
            drain: self.drain.clone(),
        }
    }
}

impl<S> std::fmt::Debug for LedgerRpc<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerRpc").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<S: Store> LedgerRpc<S> {
    /// Serves `ledger`, the log named `origin`, until `drain` starts.
    pub fn new(ledger: Ledger<S>, origin: &str, limits: &Limits, drain: Drain) -> Self {
        let (batches, calls) = (BatchLimits::of(limits), Arc::default());
        Self { ledger, origin: origin.into(), batches, retention_us: 0, calls, drain }
    }

    /// Holds erasures to a retention of so many days.
    #[must_use]
    pub fn with_retention(mut self, days: u32) -> Self {
        self.retention_us = u64::from(days).saturating_mul(DAY_US);
        self
    }

    fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

/// The caller's tenant, if that is the one that is named; empty names it too.
fn own_tenant(caller: &Caller, rpc: Rpc, named: &str) -> Result<String, Refusal> {
    let permit = match named {
        "" => caller.authorize_own(rpc)?,
        named => caller.authorize(rpc, Target::Tenant(named))?,
    };
    Ok(permit.caller().tenant().to_owned())
}

/// The head that a record is to be proven at.
fn prove_at(min_size: u64, at_size: u64, witnessed: bool) -> Result<ProveAt, Refusal> {
    match (min_size, at_size, witnessed) {
        (min_size, 0, false) => Ok(ProveAt::AtLeast(TreeSize(min_size))),
        (0, at_size, false) => Ok(ProveAt::Exactly(TreeSize(at_size))),
        (0, 0, true) => Ok(ProveAt::Witnessed),
        (_, _, true) => Err(faulty(Code::RequestMalformed.at_field("witnessed"))),
        _ => Err(faulty(Code::RequestMalformed.at_field("at_size"))),
    }
}

/// The one way from what the log refuses to what a caller is told.
fn refusal(refused: Refused) -> Refusal {
    let Refused { fault, expected_seq } = refused;
    if matches!(fault.code, Code::Internal | Code::StoreFailed | Code::StoreCorrupt) {
        tracing::error!(%fault, "the log failed to answer a call");
    }
    let refusal = Refusal::from(fault);
    match expected_seq {
        Some(seq) => refusal.with_expected_seq(seq),
        None => refusal,
    }
}

fn faulty(fault: Fault) -> Refusal {
    Refusal::from(fault)
}

fn record_at(record: RecordRef) -> RecordAt {
    match record {
        RecordRef::Index(index) => RecordAt::Index(index),
        RecordRef::StreamSeq(stream, seq) => RecordAt::Seq(stream, seq),
    }
}

fn head_to_wire(head: &api::Head) -> v1::Head {
    v1::Head { checkpoint: head.note.clone(), size: head.size.0 }
}

#[tonic::async_trait]
impl<S: Store> LedgerService for LedgerRpc<S> {
    async fn open_stream(
        &self,
        request: Request<v1::OpenStreamRequest>,
    ) -> Result<Response<v1::OpenStreamResponse>, Status> {
        let permit = Caller::of(request.extensions())?.authorize_own(Rpc::OpenStream)?;
        let opening = StreamOpening::try_from(request.into_inner()).map_err(faulty)?;
        let request = StreamRequest {
            tenant: permit.caller().tenant().to_owned(),
            gate: permit.caller().name().to_owned(),
            seal_key: opening.seal_key,
            instance: opening.instance,
            chain: opening.chain,
        };
        let status = self.ledger.open_stream(request).await.map_err(refusal)?;
        let opened = StreamOpened {
            stream: status.stream,
            next_seq: status.next_seq,
            prev: status.prev,
            origin: self.origin.to_string(),
            checkpoint: status.head.note.clone(),
        };
        Ok(Response::new(opened.into()))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let permit = Caller::of(request.extensions())?.authorize_own(Rpc::Submit)?;
        let v1::SubmitRequest { batch, call_id } = request.into_inner();
        let submission = batch::parse(batch, self.batches).await?;
        let seal = batch::SubmittedSeal::of(&submission);
        let batch = batch::for_log(submission, permit.caller(), self.next_call());
        let answer = self.ledger.submit(batch).await.map_err(refusal)?;
        Ok(Response::new(batch::answered(call_id, &seal, answer).into()))
    }

    type SubmitStreamStream = ReceiverStream<Result<v1::SubmitResponse, Status>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let caller = Caller::of(request.extensions())?;
        caller.authorize_own(Rpc::SubmitStream)?;
        let number = self.next_call();
        let call = pipeline::CallTo { ledger: self.ledger.clone(), caller, number };
        let requests = request.into_inner();
        let answers = pipeline::start(call, self.batches, self.drain.clone(), requests);
        Ok(Response::new(answers))
    }

    async fn get_head(
        &self,
        request: Request<v1::GetHeadRequest>,
    ) -> Result<Response<v1::Head>, Status> {
        Caller::of(request.extensions())?.authorize(Rpc::GetHead, Target::Log)?;
        let head = match request.into_inner() {
            v1::GetHeadRequest { at_size: 0, witnessed: false } => self.ledger.head(),
            v1::GetHeadRequest { at_size: 0, witnessed: true } => {
                let witnessed = self.ledger.witnessed();
                witnessed.ok_or_else(|| Refusal::from(Code::NotWitnessed))?
            }
            v1::GetHeadRequest { at_size, witnessed: false } => {
                self.ledger.head_at(TreeSize(at_size)).await.map_err(refusal)?
            }
            _ => return Err(faulty(Code::RequestMalformed.at_field("witnessed")).into()),
        };
        Ok(Response::new(head_to_wire(&head)))
    }

    type WatchHeadsStream = ReceiverStream<Result<v1::Head, Status>>;

    async fn watch_heads(
        &self,
        request: Request<v1::WatchHeadsRequest>,
    ) -> Result<Response<Self::WatchHeadsStream>, Status> {
        let caller = Caller::of(request.extensions())?;
        caller.authorize(Rpc::WatchHeads, Target::Log)?;
        let after = TreeSize(request.into_inner().after_size);
        // First the subscription and then the newest head, so that none falls between the two.
        let mut heads = self.ledger.heads();
        heads.mark_unchanged();
        let newest = self.ledger.head();
        let answers = watch_heads::start(caller, after, newest, heads, self.drain.clone());
        Ok(Response::new(answers))
    }

    async fn get_consistency(
        &self,
        request: Request<v1::GetConsistencyRequest>,
    ) -> Result<Response<v1::GetConsistencyResponse>, Status> {
        Caller::of(request.extensions())?.authorize(Rpc::GetConsistency, Target::Log)?;
        let v1::GetConsistencyRequest { old_size, new_size } = request.into_inner();
        let old_size = TreeSize(old_size);
        // On the wire 0 stands for the newest head.
        let new = (new_size != 0).then_some(TreeSize(new_size));
        let (new_size, hashes) = self.ledger.consistency(old_size, new).await.map_err(refusal)?;
        Ok(Response::new(ConsistencyProof { old_size, new_size, hashes }.into()))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let permit = Caller::of(request.extensions())?.authorize_own(Rpc::GetReceipt)?;
        let v1::GetReceiptRequest { which, min_size, at_size, witnessed } = request.into_inner();
        let at = record_at(RecordRef::try_from(which).map_err(faulty)?);
        let (tenant, head) = (permit.caller().tenant(), prove_at(min_size, at_size, witnessed)?);
        let receipt = self.ledger.receipt(Some(tenant), at, head).await;
        let receipt = receipt.map_err(refusal)?.to_string();
        Ok(Response::new(v1::GetReceiptResponse { receipt }))
    }

    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        let caller = Caller::of(request.extensions())?;
        let v1::GetEvidenceRequest { which, min_size, tenant, at_size, witnessed } =
            request.into_inner();
        let tenant = own_tenant(&caller, Rpc::GetEvidence, &tenant)?;
        let query = EvidenceQuery::try_from(which).map_err(faulty)?;
        let head = prove_at(min_size, at_size, witnessed)?;
        let files = evidence::files(&self.ledger, &tenant, query, head).await?;
        Ok(Response::new(v1::GetEvidenceResponse { files }))
    }

    async fn put_blob(
        &self,
        request: Request<v1::PutBlobRequest>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let permit = Caller::of(request.extensions())?.authorize_own(Rpc::PutBlob)?;
        let v1::PutBlobRequest { digest, content } = request.into_inner();
        if content.len() > BLOB_BYTES_MAX {
            return Err(Refusal::from(Code::BlobOversized).into());
        }
        let digest = <[u8; 32]>::try_from(digest.as_ref())
            .map_err(|_| faulty(Code::RequestMalformed.at_field("digest")))?;
        let tenant = permit.caller().tenant();
        // New to this tenant: whether another one keeps it is not told.
        let stored = self.ledger.put_blob(tenant, digest, content.into()).await.map_err(refusal)?;
        Ok(Response::new(v1::PutBlobResponse { stored }))
    }

    async fn query(
        &self,
        request: Request<v1::QueryRequest>,
    ) -> Result<Response<v1::QueryResponse>, Status> {
        let caller = Caller::of(request.extensions())?;
        let request = request.into_inner();
        let tenant = own_tenant(&caller, Rpc::Query, &request.tenant)?;
        Ok(Response::new(records::page(&self.ledger, tenant, request).await?))
    }

    type WatchRecordsStream = ReceiverStream<Result<v1::WatchRecordsResponse, Status>>;

    async fn watch_records(
        &self,
        request: Request<v1::WatchRecordsRequest>,
    ) -> Result<Response<Self::WatchRecordsStream>, Status> {
        let caller = Caller::of(request.extensions())?;
        let request = request.into_inner();
        let tenant = own_tenant(&caller, Rpc::WatchRecords, &request.tenant)?;
        let watch = watch_records::Watch::new(self.ledger.clone(), caller, tenant, request)?;
        Ok(Response::new(watch.start(self.drain.clone())))
    }

    async fn get_entries(
        &self,
        request: Request<v1::GetEntriesRequest>,
    ) -> Result<Response<v1::GetEntriesResponse>, Status> {
        Caller::of(request.extensions())?.authorize(Rpc::GetEntries, Target::Log)?;
        Ok(Response::new(records::entries(&self.ledger, request.into_inner()).await?))
    }

    async fn get_peaks(
        &self,
        request: Request<v1::GetPeaksRequest>,
    ) -> Result<Response<v1::GetPeaksResponse>, Status> {
        Caller::of(request.extensions())?.authorize(Rpc::GetPeaks, Target::Log)?;
        let size = TreeSize(request.into_inner().size);
        let peaks = self.ledger.peaks(size).await.map_err(refusal)?;
        let hashes = peaks.iter().map(|peak| Bytes::copy_from_slice(peak)).collect();
        Ok(Response::new(v1::GetPeaksResponse { hashes }))
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let permit = Caller::of(request.extensions())?.authorize_own(Rpc::GetPolicy)?;
        let digest = <[u8; 32]>::try_from(request.into_inner().digest.as_ref())
            .map_err(|_| faulty(Code::RequestMalformed.at_field("digest")))?;
        let content = self.ledger.policy(permit.caller().tenant(), digest).await;
        let content = content.map_err(refusal)?.into();
        Ok(Response::new(v1::GetPolicyResponse { content }))
    }

    async fn erase(
        &self,
        request: Request<v1::EraseRequest>,
    ) -> Result<Response<v1::EraseResponse>, Status> {
        let caller = Caller::of(request.extensions())?;
        let request = request.into_inner();
        let tenant = own_tenant(&caller, Rpc::Erase, &request.tenant)?;
        let answer = records::erase(&self.ledger, tenant, request, self.retention_us).await?;
        Ok(Response::new(answer))
    }
}

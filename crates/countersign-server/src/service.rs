//! `countersign.v1.LedgerService`: every handler is decode → authorise → call the log → encode.
//!
//! What a caller is told of a failure is its code and the code's two fixed sentences; the rest goes
//! to the log file. Batches have modules of their own: `batch` (one batch in, one answer out) and
//! `pipeline` (many at once).

mod batch;
mod evidence;
mod pipeline;
mod watch_heads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_core::codes::{Code, Fault};
use countersign_core::hash::TreeSize;
use countersign_core::receipt::ConsistencyProof;
use countersign_log::api::{self, RecordAt, Refused, StreamRequest};
use countersign_log::ledger::{BLOB_BYTES_MAX, Ledger};
use countersign_log::store::Store;
use countersign_proto::convert::{EvidenceQuery, RecordRef, StreamOpened, StreamOpening};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::ledger_service_server::LedgerService;
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
        Self { ledger, origin: origin.into(), batches, calls, drain }
    }

    fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
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
        Ok(Response::new(head_to_wire(&self.ledger.head())))
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
        let v1::GetReceiptRequest { which, min_size } = request.into_inner();
        let at = record_at(RecordRef::try_from(which).map_err(faulty)?);
        let tenant = permit.caller().tenant();
        let receipt = self.ledger.receipt(Some(tenant), at, TreeSize(min_size)).await;
        let receipt = receipt.map_err(refusal)?.to_string();
        Ok(Response::new(v1::GetReceiptResponse { receipt }))
    }

    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        let caller = Caller::of(request.extensions())?;
        let v1::GetEvidenceRequest { which, min_size, tenant } = request.into_inner();
        // The caller's own tenant where none is named.
        let permit = match tenant.as_str() {
            "" => caller.authorize_own(Rpc::GetEvidence)?,
            named => caller.authorize(Rpc::GetEvidence, Target::Tenant(named))?,
        };
        let tenant = match tenant.as_str() {
            "" => permit.caller().tenant(),
            named => named,
        };
        let query = EvidenceQuery::try_from(which).map_err(faulty)?;
        let files = evidence::files(&self.ledger, tenant, query, TreeSize(min_size)).await?;
        Ok(Response::new(v1::GetEvidenceResponse { files }))
    }

    async fn put_blob(
        &self,
        request: Request<v1::PutBlobRequest>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        Caller::of(request.extensions())?.authorize_own(Rpc::PutBlob)?;
        let v1::PutBlobRequest { digest, content } = request.into_inner();
        if content.len() > BLOB_BYTES_MAX {
            return Err(Refusal::from(Code::BlobOversized).into());
        }
        let digest = <[u8; 32]>::try_from(digest.as_ref())
            .map_err(|_| faulty(Code::RequestMalformed.at_field("digest")))?;
        // Whether it was there would tell one tenant what another one keeps.
        self.ledger.put_blob(digest, content.into()).await.map_err(refusal)?;
        Ok(Response::new(v1::PutBlobResponse { stored: true }))
    }
}

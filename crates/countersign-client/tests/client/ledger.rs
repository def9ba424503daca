//! A ledger in memory that speaks the real protocol over loopback, and lies on request.
//!
//! It keeps no promise that needs a disk, and checks only what a client can be made to trip over:
//! seqs, repeats, equivocation. Every answer goes through a hook before it is sent, and its history
//! can be cut or rewritten, which is how the tests lie.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    clippy::unused_async,
    clippy::unused_self,
    reason = "each test uses a part of the stage; one that cannot set it up should stop there"
)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use countersign_core::cert::Certificate;
use countersign_core::codes::Code;
use countersign_core::encoding::Micros;
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Hash, LeafHash, LeafIndex, RecordRoot, RootHash, Sealed, TreeSize};
use countersign_core::kinds::Kind;
use countersign_core::merkle::{LogTree, NodeId, ProofPlan, empty_root, root_of};
use countersign_core::note::{
    KeyType, SignedCheckpoint, VerifierKey, checkpoint_body, cosign_body, sign_body,
};
use countersign_core::receipt::{ConsistencyProof, Receipt};
use countersign_core::record::FullRecord;
use countersign_core::seal::Seal;
use countersign_core::stream::StreamId;
use countersign_proto::convert::{
    AcceptedRecord, BatchAnswer, EvidenceQuery, RecordAnswer, RecordRef, StreamOpened,
    StreamOpening, Submission,
};
use countersign_proto::errors::Refusal;
use countersign_proto::v1::ledger_service_server::{LedgerService, LedgerServiceServer};
use countersign_proto::v1::{
    EraseRequest, EraseResponse, EvidenceFile, GetConsistencyRequest, GetConsistencyResponse,
    GetEntriesRequest, GetEntriesResponse, GetEvidenceRequest, GetEvidenceResponse, GetHeadRequest,
    GetPeaksRequest, GetPeaksResponse, GetPolicyRequest, GetPolicyResponse, GetReceiptRequest,
    GetReceiptResponse, Head, OpenStreamRequest, OpenStreamResponse, PutBlobRequest,
    PutBlobResponse, QueryRequest, QueryResponse, SubmitRequest, SubmitResponse, WatchHeadsRequest,
    WatchRecordsRequest, WatchRecordsResponse,
};
use ed25519_dalek::SigningKey;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

pub const ORIGIN: &str = "ledger.acme.example/prod";

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn vkey(name: &str, key_type: KeyType, key: &SigningKey) -> VerifierKey {
    VerifierKey::new(name, key_type, key.verifying_key().to_bytes()).unwrap()
}

/// A record that was logged.
#[derive(Clone)]
pub struct Row {
    pub index: u64,
    pub root: RecordRoot,
    pub record: FullRecord,
    pub seal: Seal,
    pub path: Vec<Hash>,
    pub note: String,
}

type Hook<T> = Box<dyn FnMut(&mut T, &mut State) + Send>;

/// What the ledger holds, and how it lies.
pub struct State {
    pub log_key: SigningKey,
    pub clock_key: SigningKey,
    /// Seconds that the clock's cosignature lies away from the machine's time; `None`: no clock.
    pub clock_offset_s: Option<i64>,
    pub entries: Vec<Entry>,
    pub rows: HashMap<(StreamId, u64), Row>,
    /// Next seq and last root.
    pub streams: HashMap<StreamId, (u64, RecordRoot)>,
    pub chain: Vec<Certificate>,
    pub on_open: Option<Hook<OpenStreamResponse>>,
    pub on_submit: Option<Hook<SubmitResponse>>,
    pub on_consistency: Option<Hook<GetConsistencyResponse>>,
    pub on_receipt: Option<Hook<GetReceiptResponse>>,
    pub on_evidence: Option<Hook<GetEvidenceResponse>>,
    /// Statuses that the next submits end with: before the batch is looked at, or after it was
    /// logged.
    pub fail_before: Vec<Status>,
    pub fail_after: Vec<Status>,
    /// Records whose action ends so are refused with this code.
    pub refuse: Option<(String, Code)>,
    pub consistency_calls: usize,
    pub submit_calls: usize,
}

fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Micros(since.as_micros() as u64)
}

impl State {
    fn new() -> Self {
        let mut state = Self {
            log_key: key(1),
            clock_key: key(2),
            clock_offset_s: Some(0),
            entries: Vec::new(),
            rows: HashMap::new(),
            streams: HashMap::new(),
            chain: Vec::new(),
            on_open: None,
            on_submit: None,
            on_consistency: None,
            on_receipt: None,
            on_evidence: None,
            fail_before: Vec::new(),
            fail_after: Vec::new(),
            refuse: None,
            consistency_calls: 0,
            submit_calls: 0,
        };
        state.append(Kind::Genesis, StreamId::LEDGER, 0, Sealed([7; 32]));
        state
    }

    pub fn append(&mut self, kind: Kind, stream: StreamId, seq: u64, sealed: Sealed) -> u64 {
        self.entries.push(Entry { kind, logged_at: now(), stream, seq, sealed });
        self.entries.len() as u64 - 1
    }

    fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(|entry| entry.leaf().0).collect()
    }

    pub fn root(&self, size: u64) -> RootHash {
        root_of::<LogTree>(&self.leaves()[..size as usize]).map_or_else(empty_root, RootHash)
    }

    pub fn hashes(&self, plan: &ProofPlan) -> Vec<Hash> {
        let leaves = self.leaves();
        let node = |node: &NodeId| {
            let from = (node.index << node.level) as usize;
            root_of::<LogTree>(&leaves[from..from + (1 << node.level)]).unwrap()
        };
        plan.finish(&plan.nodes().iter().map(node).collect::<Vec<_>>())
    }

    pub fn path(&self, index: u64, size: u64) -> Vec<Hash> {
        self.hashes(&ProofPlan::inclusion(LeafIndex(index), TreeSize(size)).unwrap())
    }

    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The note of the newest head.
    pub fn note(&self) -> String {
        self.note_of(ORIGIN, self.size(), &self.root(self.size()))
    }

    pub fn note_of(&self, origin: &str, size: u64, root: &RootHash) -> String {
        let body = checkpoint_body(origin, TreeSize(size), root);
        let log = vkey(origin, KeyType::Note, &self.log_key);
        let mut note = format!("{body}\n{}", sign_body(&log, &self.log_key, &body));
        if let Some(offset) = self.clock_offset_s {
            let clock = vkey(&format!("{origin}/clock"), KeyType::Cosignature, &self.clock_key);
            let seconds = now().seconds().saturating_add_signed(offset);
            note.push_str(&cosign_body(&clock, &self.clock_key, seconds, &body));
        }
        note
    }

    /// Forgets all but the first entries.
    pub fn cut(&mut self, size: u64) {
        self.entries.truncate(size as usize);
        self.rows.retain(|_, row| row.index < size);
        let rows: Vec<_> = self.rows.iter().map(|(at, row)| (*at, row.root)).collect();
        for (stream, end) in &mut self.streams {
            *end = (0, RecordRoot([0; 32]));
            for ((of, seq), root) in &rows {
                if of == stream && *seq >= end.0 {
                    *end = (seq + 1, *root);
                }
            }
        }
    }

    /// Puts another entry in the place of one that was shown.
    pub fn rewrite(&mut self, index: u64) {
        self.entries[index as usize].sealed = Sealed([0xee; 32]);
    }

    fn open(&mut self, opening: &StreamOpening) -> OpenStreamResponse {
        // The chain is what the gate said; its names are the fixture's.
        self.chain.clone_from(&opening.chain);
        let stream =
            StreamId::derive(ORIGIN, "acme", "prod-1", &opening.seal_key, opening.instance)
                .unwrap();
        if !self.streams.contains_key(&stream) {
            self.append(Kind::Stream, StreamId::LEDGER, self.size(), Sealed(opening.seal_key));
            self.streams.insert(stream, (0, RecordRoot([0; 32])));
        }
        let (next_seq, prev) = self.streams[&stream];
        let opened = StreamOpened {
            stream,
            next_seq,
            prev,
            origin: ORIGIN.to_owned(),
            checkpoint: self.note(),
        };
        opened.into()
    }

    fn submit(&mut self, request: SubmitRequest) -> Result<SubmitResponse, Refusal> {
        let batch = Submission::from_wire(request.batch.unwrap_or_default(), 1_024)?;
        batch.sealed.verify()?;
        let seals = batch.sealed.seals()?;
        let mut answers: Vec<RecordAnswer> = Vec::new();
        let mut fresh: Vec<usize> = Vec::new();
        let mut halted = false;
        for (place, submitted) in batch.records.iter().enumerate() {
            let seq = batch.first_seq + place as u64;
            let root = batch.sealed.roots[place];
            let (expected, prev) = *self
                .streams
                .get(&batch.stream)
                .ok_or_else(|| Refusal::from(Code::StreamUnknown))?;
            let record = &submitted.record;
            let refused = |code| {
                let refusal = Refusal::from(code);
                if matches!(code, Code::SeqGap | Code::StreamHalted) {
                    refusal.with_expected_seq(expected)
                } else {
                    refusal
                }
            };
            let action = record.view().str("action").unwrap_or_default().to_owned();
            let outcome = if let Some(row) = self.rows.get(&(batch.stream, seq)) {
                if row.root == root {
                    Ok(AcceptedRecord {
                        index: LeafIndex(row.index),
                        entry: self.entries[row.index as usize],
                        path: row.path.clone(),
                        first_seal: Some(row.seal.clone()),
                        checkpoint: Some(row.note.clone()),
                        repeat: true,
                    })
                } else if halted {
                    Err(refused(Code::StreamHalted))
                } else {
                    halted = true;
                    Err(refused(Code::Equivocation))
                }
            } else if halted {
                Err(refused(Code::StreamHalted))
            } else if seq != expected {
                halted = true;
                Err(refused(Code::SeqGap))
            } else if record.view().str("prev") != Some(prev.hex().as_str()) {
                halted = true;
                Err(refused(Code::PrevMismatch))
            } else if let Some((_, code)) =
                self.refuse.as_ref().filter(|(text, _)| action.ends_with(text.as_str()))
            {
                halted = true;
                Err(refused(*code))
            } else {
                let sealed = batch.sealed.sealed(&root);
                let index = self.append(record.kind(), batch.stream, seq, sealed);
                self.streams.insert(batch.stream, (seq + 1, root));
                fresh.push(place);
                Ok(AcceptedRecord {
                    index: LeafIndex(index),
                    entry: self.entries[index as usize],
                    path: Vec::new(),
                    first_seal: None,
                    checkpoint: None,
                    repeat: false,
                })
            };
            answers.push(RecordAnswer { seq, outcome });
        }
        let checkpoint = if fresh.is_empty() { String::new() } else { self.note() };
        for place in fresh {
            let Ok(accepted) = &mut answers[place].outcome else { continue };
            accepted.path = self.path(accepted.index.0, self.size());
            let row = Row {
                index: accepted.index.0,
                root: batch.sealed.roots[place],
                record: batch.records[place].record.clone(),
                seal: seals[place].clone(),
                path: accepted.path.clone(),
                note: checkpoint.clone(),
            };
            self.rows.insert((batch.stream, answers[place].seq), row);
        }
        let answer = BatchAnswer { call_id: request.call_id, checkpoint, outcome: Ok(answers) };
        Ok(answer.into())
    }

    fn submitted(&mut self, request: SubmitRequest) -> Result<SubmitResponse, Status> {
        self.submit_calls += 1;
        if let Some(status) = self.fail_before.pop() {
            return Err(status);
        }
        let call_id = request.call_id;
        let mut response = self.submit(request).unwrap_or_else(|refusal| {
            BatchAnswer { call_id, checkpoint: String::new(), outcome: Err(refusal) }.into()
        });
        if let Some(status) = self.fail_after.pop() {
            return Err(status);
        }
        if let Some(mut hook) = self.on_submit.take() {
            hook(&mut response, self);
            self.on_submit = Some(hook);
        }
        Ok(response)
    }

    fn receipt(&self, index: u64) -> Receipt {
        Receipt {
            index: LeafIndex(index),
            path: self.path(index, self.size()),
            checkpoint: SignedCheckpoint::parse(&self.note()).unwrap(),
        }
    }

    fn rows_of(&self, query: &EvidenceQuery) -> Vec<Row> {
        let fits = |at: &(StreamId, u64), row: &Row| match query {
            EvidenceQuery::Record(RecordRef::Index(index)) => row.index == index.0,
            EvidenceQuery::Record(RecordRef::StreamSeq(stream, seq)) => *at == (*stream, *seq),
            EvidenceQuery::Action(id) => row.record.view().str("action_id") == Some(id),
        };
        let mut rows: Vec<Row> = self
            .rows
            .iter()
            .filter(|(at, row)| fits(at, row))
            .map(|(_, row)| row.clone())
            .collect();
        rows.sort_by_key(|row| row.index);
        rows
    }

    fn evidence(&self, row: &Row) -> String {
        let evidence = Evidence {
            record: row.record.disclose(),
            seal: row.seal.clone(),
            entry: self.entries[row.index as usize].to_bytes().to_vec(),
            receipt: self.receipt(row.index),
            gate_chain: self.chain.iter().map(Certificate::pem).collect(),
            people_chains: Vec::new(),
            supporting: Vec::new(),
        };
        String::from_utf8(evidence.to_bytes()).unwrap()
    }
}

/// A running ledger; clones are the same one.
#[derive(Clone)]
pub struct Ledger {
    pub state: Arc<Mutex<State>>,
    pub addr: SocketAddr,
}

impl Ledger {
    /// Starts on a port of the system's choice, plain TCP.
    pub async fn start() -> Self {
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .unwrap()
            .with_nodelay(Some(true));
        let addr = incoming.local_addr().unwrap();
        let ledger = Self { state: Arc::new(Mutex::new(State::new())), addr };
        let service = LedgerServiceServer::new(Service(Arc::clone(&ledger.state)));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        ledger
    }

    pub fn log_vkey(&self) -> VerifierKey {
        vkey(ORIGIN, KeyType::Note, &key(1))
    }

    pub fn clock_vkey(&self) -> VerifierKey {
        vkey(&format!("{ORIGIN}/clock"), KeyType::Cosignature, &key(2))
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// From now on every answer to a submit goes through this.
    pub fn on_submit(&self, hook: impl FnMut(&mut SubmitResponse, &mut State) + Send + 'static) {
        self.with(|state| state.on_submit = Some(Box::new(hook)));
    }
}

struct Service(Arc<Mutex<State>>);

impl Service {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[tonic::async_trait]
impl LedgerService for Service {
    async fn open_stream(
        &self,
        request: Request<OpenStreamRequest>,
    ) -> Result<Response<OpenStreamResponse>, Status> {
        let opening = StreamOpening::try_from(request.into_inner()).map_err(Refusal::from)?;
        let mut state = self.state();
        let mut response = state.open(&opening);
        if let Some(mut hook) = state.on_open.take() {
            hook(&mut response, &mut state);
        }
        Ok(Response::new(response))
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let mut response = self.state().submitted(request.into_inner())?;
        match response.refused.take() {
            Some(refused) => Err(Refusal::from(refused).into()),
            None => Ok(Response::new(response)),
        }
    }

    type SubmitStreamStream = ReceiverStream<Result<SubmitResponse, Status>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(16);
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let answer = state.lock().unwrap().submitted(request);
                let failed = answer.is_err();
                if answers.send(answer).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_head(&self, _: Request<GetHeadRequest>) -> Result<Response<Head>, Status> {
        let state = self.state();
        Ok(Response::new(Head { checkpoint: state.note(), size: state.size() }))
    }

    type WatchHeadsStream = ReceiverStream<Result<Head, Status>>;

    async fn watch_heads(
        &self,
        request: Request<WatchHeadsRequest>,
    ) -> Result<Response<Self::WatchHeadsStream>, Status> {
        let (heads, stream) = mpsc::channel(16);
        let after = request.get_ref().after_size;
        {
            // The newest one, and the same again as if the log were idle.
            let state = self.state();
            if state.size() > after {
                for _ in 0..2 {
                    let head = Head { checkpoint: state.note(), size: state.size() };
                    heads.try_send(Ok(head)).unwrap();
                }
            }
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_consistency(
        &self,
        request: Request<GetConsistencyRequest>,
    ) -> Result<Response<GetConsistencyResponse>, Status> {
        let mut state = self.state();
        state.consistency_calls += 1;
        let GetConsistencyRequest { old_size, new_size } = request.into_inner();
        let new_size = if new_size == 0 { state.size() } else { new_size };
        let plan = ProofPlan::consistency(TreeSize(old_size), TreeSize(new_size))
            .filter(|_| new_size <= state.size())
            .ok_or_else(|| Status::from(Refusal::from(Code::SizeUnknown)))?;
        let proof = ConsistencyProof {
            old_size: TreeSize(old_size),
            new_size: TreeSize(new_size),
            hashes: state.hashes(&plan),
        };
        let mut response = GetConsistencyResponse::from(proof);
        if let Some(mut hook) = state.on_consistency.take() {
            hook(&mut response, &mut state);
        }
        Ok(Response::new(response))
    }

    async fn get_receipt(
        &self,
        request: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        let record = RecordRef::try_from(request.into_inner().which).map_err(Refusal::from)?;
        let mut state = self.state();
        let rows = state.rows_of(&EvidenceQuery::Record(record));
        let row = rows.first().ok_or_else(|| Status::from(Refusal::from(Code::NotFound)))?;
        let mut response = GetReceiptResponse { receipt: state.receipt(row.index).to_string() };
        if let Some(mut hook) = state.on_receipt.take() {
            hook(&mut response, &mut state);
        }
        Ok(Response::new(response))
    }

    async fn get_evidence(
        &self,
        request: Request<GetEvidenceRequest>,
    ) -> Result<Response<GetEvidenceResponse>, Status> {
        let query = EvidenceQuery::try_from(request.into_inner().which).map_err(Refusal::from)?;
        let mut state = self.state();
        let rows = state.rows_of(&query);
        if rows.is_empty() {
            return Err(Refusal::from(Code::NotFound).into());
        }
        let files =
            rows.iter().map(|row| EvidenceFile { index: row.index, json: state.evidence(row) });
        let mut response = GetEvidenceResponse { files: files.collect() };
        if let Some(mut hook) = state.on_evidence.take() {
            hook(&mut response, &mut state);
        }
        Ok(Response::new(response))
    }

    async fn put_blob(
        &self,
        request: Request<PutBlobRequest>,
    ) -> Result<Response<PutBlobResponse>, Status> {
        let digest = countersign_core::hash::Context::Policy.hash(&[&request.get_ref().content]);
        if digest.as_slice() == request.get_ref().digest {
            Ok(Response::new(PutBlobResponse { stored: true }))
        } else {
            Err(Refusal::from(Code::BlobDigest).into())
        }
    }

    async fn query(&self, _: Request<QueryRequest>) -> Result<Response<QueryResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    type WatchRecordsStream = ReceiverStream<Result<WatchRecordsResponse, Status>>;

    async fn watch_records(
        &self,
        _: Request<WatchRecordsRequest>,
    ) -> Result<Response<Self::WatchRecordsStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_entries(
        &self,
        _: Request<GetEntriesRequest>,
    ) -> Result<Response<GetEntriesResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_peaks(
        &self,
        _: Request<GetPeaksRequest>,
    ) -> Result<Response<GetPeaksResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_policy(
        &self,
        _: Request<GetPolicyRequest>,
    ) -> Result<Response<GetPolicyResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn erase(&self, _: Request<EraseRequest>) -> Result<Response<EraseResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// A leaf that nobody logged.
pub fn other_leaf() -> LeafHash {
    LeafHash([9; 32])
}

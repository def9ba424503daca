//! The calls, one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_core::cert::Certificate;
use countersign_core::codes::{Code, Fault};
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Context, Hash, LeafIndex, RecordRoot, TreeSize};
use countersign_core::receipt::{ConsistencyProof, Receipt};
use countersign_core::stream::StreamId;
use countersign_core::trust::{Trust, TrustedLog};
use countersign_core::verify::{Report, Verdict, verify_file};
use countersign_proto::convert::{
    BatchAnswer, EvidenceQuery, RecordRef, StreamOpened, StreamOpening,
};
use countersign_proto::v1;
use countersign_proto::v1::ledger_service_client::LedgerServiceClient;
use prost::bytes::Bytes;
use tonic::transport::{
    Certificate as TlsCertificate, Channel, ClientTlsConfig, Endpoint, Identity,
};
use tonic::{Request, Response, Status, Streaming};

use crate::answer::{self, BatchOutcome, PreparedBatch};
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::heads::{Keyring, VerifiedHead};
use crate::memory::HeadMemory;
use crate::reach::{from_status, not_connected, timed_out};
use crate::tracker::{Floor, Tracker};

/// Bytes of one answer: evidence files of an action come in one message, up to the 4 MiB that the
/// server sends by default, with room for a server that was told to send more.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that a stream of answers, and a connection, may have sent before they are read.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// A connection whose peer vanished is found by pings at this interval.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A connection to a ledger that returns only what it has verified. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    grpc: LedgerServiceClient<Channel>,
    pub(crate) keys: Keyring,
    pub(crate) tracker: Tracker,
    pub(crate) memory: Option<HeadMemory>,
    pub(crate) joining: tokio::sync::Mutex<()>,
    pub(crate) call_timeout: Duration,
    call_id: AtomicU64,
}

/// Where a stream stands. Its name was derived here; the rest is the ledger's word, and a wrong
/// word only leads to a refusal of what is sealed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedStream {
    /// The stream's name.
    pub stream: StreamId,
    /// The seq that the ledger expects next.
    pub next_seq: u64,
    /// The root of the record before it; zeros at 0.
    pub prev: RecordRoot,
}

/// An evidence file that verified as far as the trust given allows.
#[derive(Clone, Debug)]
pub struct EvidenceItem {
    /// Index of the record in the log.
    pub index: LeafIndex,
    /// The file's text as the ledger gave it.
    pub json: String,
    /// What verification came to: never `Invalid`.
    pub report: Report,
}

impl Client {
    /// Connects, and checks that the ledger's newest head continues the remembered one.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let endpoint = endpoint(&config)?;
        let keys = Keyring::new(config.log, config.clocks);
        let memory = config.head_memory.map(HeadMemory::new);
        let remembered = memory.as_ref().map(|memory| memory.read(&keys)).transpose()?.flatten();
        let channel = endpoint.connect().await.map_err(|error| not_connected(&error))?;
        let grpc = LedgerServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let client = Self {
            inner: Arc::new(Inner {
                grpc,
                keys,
                tracker: Tracker::new(remembered, config.head_check_interval),
                memory,
                joining: tokio::sync::Mutex::default(),
                call_timeout: config.call_timeout,
                call_id: AtomicU64::new(1),
            }),
        };
        client.head().await?;
        Ok(client)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.inner.keys.origin()
    }

    /// The newest head that is proven to continue every one that this client saw before.
    pub fn joined_head(&self) -> Option<Arc<VerifiedHead>> {
        self.inner.tracker.joined()
    }

    /// Proves that the newest head seen continues the remembered one, whatever the interval says,
    /// and remembers it. To be called before a process ends.
    pub async fn settle(&self) -> Result<(), ClientError> {
        self.inner.tracker.floor()?;
        self.join_newest(true).await
    }

    /// Opens a stream, or finds it again, and refuses any name but the one that origin, tenant,
    /// gate and key give. `chain` certifies the key, leaf first, without the root.
    pub async fn open_stream(
        &self,
        tenant: &str,
        gate: &str,
        seal_key: [u8; 32],
        instance: u32,
        chain: &[Certificate],
    ) -> Result<OpenedStream, ClientError> {
        let expected = StreamId::derive(self.origin(), tenant, gate, &seal_key, instance)
            .map_err(ClientError::Record)?;
        let floor = self.inner.tracker.floor()?;
        let opening = StreamOpening { seal_key, instance, chain: chain.to_vec() };
        let mut grpc = self.grpc();
        let request = self.request(v1::OpenStreamRequest::from(opening));
        let response = self.call(grpc.open_stream(request)).await?;
        let opened = StreamOpened::try_from(response).map_err(ClientError::Answer)?;
        if opened.stream != expected {
            return Err(ClientError::Answer(Code::StreamDerivation.into()));
        }
        if opened.origin != self.origin() {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("origin")));
        }
        if (opened.next_seq == 0) != (opened.prev.0 == [0; 32]) {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("prev")));
        }
        self.newest_head(&opened.checkpoint, &floor, false).await?;
        Ok(OpenedStream { stream: opened.stream, next_seq: opened.next_seq, prev: opened.prev })
    }

    /// Submits one batch and waits for its proofs. A batch that is refused as a whole is an error.
    ///
    /// When this fails with [`ClientError::Unreachable`], or the future is dropped, the fate of the
    /// records is unknown: submit the same batch again.
    pub async fn submit(&self, batch: &Arc<PreparedBatch>) -> Result<BatchOutcome, ClientError> {
        let floor = self.inner.tracker.floor()?;
        let call_id = self.next_call_id();
        let message = v1::SubmitRequest { batch: Some(batch.to_wire()), call_id };
        let mut grpc = self.grpc();
        let response = self.call(grpc.submit(self.request(message))).await?;
        self.accept(batch, call_id, &floor, response).await
    }

    /// Verifies a response to a batch that was sent at `floor`, and takes in its heads.
    pub(crate) async fn accept(
        &self,
        batch: &Arc<PreparedBatch>,
        call_id: u64,
        floor: &Floor,
        response: v1::SubmitResponse,
    ) -> Result<BatchOutcome, ClientError> {
        let answer = BatchAnswer::try_from(response).map_err(ClientError::Answer)?;
        let outcome = answer::check(batch, call_id, answer, &self.inner.keys)
            .map_err(ClientError::Answer)?
            .map_err(ClientError::Refused)?;
        if let Some(head) = &outcome.head {
            self.take_head(head, floor)?;
        }
        for head in &outcome.old_heads {
            self.take_old_head(head).await?;
        }
        self.join_if_due().await?;
        Ok(outcome)
    }

    /// The ledger's newest head, proven to continue the remembered one.
    pub async fn head(&self) -> Result<Arc<VerifiedHead>, ClientError> {
        let floor = self.inner.tracker.floor()?;
        let mut grpc = self.grpc();
        let response =
            self.call(grpc.get_head(self.request(v1::GetHeadRequest::default()))).await?;
        self.wire_head(&response, &floor).await
    }

    async fn wire_head(
        &self,
        head: &v1::Head,
        floor: &Floor,
    ) -> Result<Arc<VerifiedHead>, ClientError> {
        let verified = self.newest_head(&head.checkpoint, floor, true).await?;
        if verified.size().0 != head.size {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("size")));
        }
        Ok(verified)
    }

    pub(crate) async fn newest_head(
        &self,
        note: &str,
        floor: &Floor,
        at_once: bool,
    ) -> Result<Arc<VerifiedHead>, ClientError> {
        let head = self.inner.keys.verify(note).map_err(ClientError::Answer)?;
        self.take_head(&head, floor)?;
        if at_once {
            self.join_newest(true).await?;
        } else {
            self.join_if_due().await?;
        }
        Ok(head)
    }

    /// Heads as they are published, each proven to continue the one before.
    pub async fn watch_heads(&self, after: TreeSize) -> Result<HeadWatch, ClientError> {
        self.inner.tracker.floor()?;
        let mut grpc = self.grpc();
        // No deadline: the call lasts as long as the watch.
        let request = Request::new(v1::WatchHeadsRequest { after_size: after.0 });
        let heads = self.call(grpc.watch_heads(request)).await?;
        // The first head may be older than what comes meanwhile by another call, so that only the
        // heads of this watch are held against each other.
        Ok(HeadWatch { client: self.clone(), heads, floor: None })
    }

    /// The proof that `old` is a prefix of `new`, verified against both.
    pub async fn consistency(
        &self,
        old: &VerifiedHead,
        new: &VerifiedHead,
    ) -> Result<ConsistencyProof, ClientError> {
        self.inner.tracker.floor()?;
        let (old_size, new_size) = (old.size().0, new.size().0);
        let mut grpc = self.grpc();
        let request = self.request(v1::GetConsistencyRequest { old_size, new_size });
        let response = self.call(grpc.get_consistency(request)).await?;
        let proof = ConsistencyProof::try_from(response).map_err(ClientError::Answer)?;
        proof.verify(old.checkpoint(), new.checkpoint()).map_err(ClientError::Answer)?;
        Ok(proof)
    }

    /// A head that was kept as a signed note, verified under this log's keys. It is not compared
    /// with what the ledger shows; [`Client::consistency`] does that.
    pub fn read_head(&self, note: &str) -> Result<Arc<VerifiedHead>, Fault> {
        self.inner.keys.verify(note)
    }

    /// A receipt of an entry that the caller has, at a head of `min_size` entries or more.
    pub async fn receipt(
        &self,
        record: RecordRef,
        entry: &Entry,
        min_size: TreeSize,
    ) -> Result<Receipt, ClientError> {
        self.receipt_with(record, entry, HeadWanted::AtLeast(min_size)).await
    }

    pub(crate) async fn receipt_with(
        &self,
        record: RecordRef,
        entry: &Entry,
        wanted: HeadWanted,
    ) -> Result<Receipt, ClientError> {
        self.inner.tracker.floor()?;
        let (min_size, at_size, witnessed) = wanted.to_wire();
        let which = Some(record.into());
        let message = v1::GetReceiptRequest { which, min_size, at_size, witnessed };
        let mut grpc = self.grpc();
        let response = self.call(grpc.get_receipt(self.request(message))).await?;
        let receipt = Receipt::parse(&response.receipt).map_err(ClientError::Answer)?;
        let head =
            self.inner.keys.verify(receipt.checkpoint.as_str()).map_err(ClientError::Answer)?;
        if !wanted.fits(head.size()) {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("size")));
        }
        let fits = match record {
            RecordRef::Index(index) => receipt.index == index,
            RecordRef::StreamSeq(stream, seq) => (entry.stream, entry.seq) == (stream, seq),
        };
        if !fits {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("index")));
        }
        receipt.verify(&entry.leaf()).map_err(ClientError::Answer)?;
        head.check_time(entry.logged_at).map_err(ClientError::Answer)?;
        self.take_old_head(&head).await?;
        self.join_if_due().await?;
        Ok(receipt)
    }

    /// Evidence files of the caller's tenant, verified: under `trust` where it is given, and
    /// otherwise as far as the log's own keys go (seal, entry, inclusion, signatures of log and
    /// clock). A file that is proved wrong is an error.
    pub async fn evidence(
        &self,
        query: EvidenceQuery,
        min_size: TreeSize,
        trust: Option<&Trust>,
    ) -> Result<Vec<EvidenceItem>, ClientError> {
        self.evidence_with(query, HeadWanted::AtLeast(min_size), trust).await
    }

    /// The same at the newest head that a quorum of the ledger's witnesses cosigned. That it is a
    /// quorum for whoever trusts is found out with a trust file that names a witness policy: short
    /// of it, the report is INDETERMINATE (`WITNESS_QUORUM`).
    ///
    /// # Errors
    ///
    /// `NOT_WITNESSED` where that head does not cover the records yet: ask again.
    pub async fn witnessed_evidence(
        &self,
        query: EvidenceQuery,
        trust: Option<&Trust>,
    ) -> Result<Vec<EvidenceItem>, ClientError> {
        self.evidence_with(query, HeadWanted::Witnessed, trust).await
    }

    pub(crate) async fn evidence_with(
        &self,
        query: EvidenceQuery,
        wanted: HeadWanted,
        trust: Option<&Trust>,
    ) -> Result<Vec<EvidenceItem>, ClientError> {
        self.inner.tracker.floor()?;
        let ((min_size, at_size, witnessed), tenant) = (wanted.to_wire(), String::new());
        let which = Some(query.clone().into());
        let message = v1::GetEvidenceRequest { which, min_size, tenant, at_size, witnessed };
        let mut grpc = self.grpc();
        let response = self.call(grpc.get_evidence(self.request(message))).await?;
        if response.files.is_empty() {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("files")));
        }
        let own = own_trust(&self.inner.keys);
        let mut items: Vec<EvidenceItem> = Vec::with_capacity(response.files.len());
        for file in response.files {
            let (item, head) = self.evidence_item(file, &query, wanted, trust.unwrap_or(&own))?;
            if items.last().is_some_and(|last| last.index >= item.index) {
                return Err(ClientError::Answer(Code::AnswerMismatch.at_field("index")));
            }
            self.take_old_head(&head).await?;
            items.push(item);
        }
        self.join_if_due().await?;
        Ok(items)
    }

    /// Verifies one file, and that it is about what was asked for, at a head that was wanted.
    pub(crate) fn evidence_item(
        &self,
        file: v1::EvidenceFile,
        query: &EvidenceQuery,
        wanted: HeadWanted,
        trust: &Trust,
    ) -> Result<(EvidenceItem, Arc<VerifiedHead>), ClientError> {
        let report = verify_file(file.json.as_bytes(), Some(trust));
        if report.result == Verdict::Invalid {
            let fault = report.fault.map_or(Code::EvidenceMalformed.into(), |found| found.fault);
            return Err(ClientError::Answer(fault));
        }
        let evidence = Evidence::parse(file.json.as_bytes()).map_err(ClientError::Answer)?;
        // The keys that this client was told, whatever else the trust file names.
        let note = evidence.receipt.checkpoint.as_str();
        let head = self.inner.keys.verify(note).map_err(ClientError::Answer)?;
        let facts = &report.facts;
        let entry = facts.entry.ok_or(ClientError::Answer(Code::EntryVersion.into()))?;
        let asked = match query {
            EvidenceQuery::Record(RecordRef::Index(index)) => index.0 == facts.index,
            EvidenceQuery::Record(RecordRef::StreamSeq(stream, seq)) => {
                (entry.stream, entry.seq) == (*stream, *seq)
            }
            EvidenceQuery::Action(id) => {
                facts.view.as_ref().and_then(|view| view.str("action_id")) == Some(id.as_str())
            }
        };
        if !asked || file.index != facts.index || !wanted.fits(head.size()) {
            return Err(ClientError::Answer(Code::AnswerMismatch.at_field("files")));
        }
        let index = LeafIndex(file.index);
        Ok((EvidenceItem { index, json: file.json, report }, head))
    }

    /// Stores a policy's texts under their digest, which is returned, and says whether they were
    /// new to the ledger. `content` is `u32 length || policy || u32 length || schema`.
    pub async fn put_blob(&self, content: Vec<u8>) -> Result<(Hash, bool), ClientError> {
        self.inner.tracker.floor()?;
        let digest = Context::Policy.hash(&[&content]);
        let message =
            v1::PutBlobRequest { digest: Bytes::copy_from_slice(&digest), content: content.into() };
        let mut grpc = self.grpc();
        let response = self.call(grpc.put_blob(self.request(message))).await?;
        Ok((digest, response.stored))
    }

    pub(crate) fn grpc(&self) -> LedgerServiceClient<Channel> {
        self.inner.grpc.clone()
    }

    pub(crate) fn next_call_id(&self) -> u64 {
        self.inner.call_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A request that tells the server how long its answer is waited for.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.inner.call_timeout);
        request
    }

    pub(crate) async fn call<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(self.inner.call_timeout, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(from_status(&status)),
            Err(_elapsed) => Err(timed_out(self.inner.call_timeout)),
        }
    }
}

/// The head that a proof is wanted at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadWanted {
    /// Any of so many entries or more.
    AtLeast(TreeSize),
    /// The one of exactly this size.
    Exactly(TreeSize),
    /// The newest one that the ledger says a quorum of witnesses cosigned.
    Witnessed,
}

impl HeadWanted {
    /// `min_size`, `at_size` and `witnessed` of a request.
    fn to_wire(self) -> (u64, u64, bool) {
        match self {
            Self::AtLeast(size) => (size.0, 0, false),
            Self::Exactly(size) => (0, size.0, false),
            Self::Witnessed => (0, 0, true),
        }
    }

    fn fits(self, size: TreeSize) -> bool {
        match self {
            Self::AtLeast(least) => size >= least,
            Self::Exactly(exact) => size == exact,
            // Whether it is enough is for the trust file to say.
            Self::Witnessed => true,
        }
    }
}

/// What a client believes without a trust file: the log and its clock.
pub(crate) fn own_trust(keys: &Keyring) -> Trust {
    let log = TrustedLog {
        vkey: keys.log().clone(),
        clocks: keys.clocks().to_vec(),
        ledgers: Vec::new(),
    };
    Trust {
        logs: vec![log],
        witnesses: None,
        gates: None,
        people: None,
        skew_us: 300_000_000,
        revoked: Vec::new(),
    }
}

/// Published heads, as they come.
#[derive(Debug)]
pub struct HeadWatch {
    client: Client,
    heads: Streaming<v1::Head>,
    floor: Floor,
}

impl HeadWatch {
    /// The next head; `None` when the ledger ended the watch.
    pub async fn next(&mut self) -> Result<Option<Arc<VerifiedHead>>, ClientError> {
        let Some(head) = self.heads.message().await.map_err(|status| from_status(&status))? else {
            return Ok(None);
        };
        let verified = self.client.wire_head(&head, &self.floor).await?;
        self.floor = Some(Arc::clone(&verified));
        Ok(Some(verified))
    }
}

/// What an endpoint may look like.
const FORMS: &str = "give https://host:port, or http://host:port for a ledger that serves with \
     --insecure-dev";

pub(crate) fn endpoint(config: &ClientConfig) -> Result<Endpoint, ClientError> {
    let wrong = |what: &str| ClientError::Config(format!("endpoint: {what}"));
    let endpoint = Endpoint::from_shared(config.endpoint.clone())
        .map_err(|_| wrong(FORMS))?
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    match endpoint.uri().scheme_str() {
        Some("https") => {}
        // Plain TCP was asked for by name, and is refused where an identity would be sent along
        // unprotected.
        Some("http") if config.identity.is_none() => return Ok(endpoint),
        Some("http") => return Err(wrong("an identity is only shown over https")),
        _ => return Err(wrong(FORMS)),
    }
    let roots = config.server_roots.as_ref().ok_or_else(|| {
        ClientError::Config("server_roots: give the roots of the server's certificate".to_owned())
    })?;
    let host = endpoint.uri().host().unwrap_or_default();
    let name = config.server_name.as_deref().unwrap_or(host.trim_matches(['[', ']']));
    let mut tls =
        ClientTlsConfig::new().domain_name(name).ca_certificate(TlsCertificate::from_pem(roots));
    if let Some(identity) = &config.identity {
        tls = tls.identity(Identity::from_pem(&identity.cert_pem, &identity.key_pem));
    }
    endpoint.tls_config(tls).map_err(|error| ClientError::Config(chain_of(&error)))
}

/// An error with its causes: the outermost one says only "transport error".
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

//! A PKI of throw-away keys, an edge in front of a ledger that holds nothing, and clients for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage should stop there")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_proto::errors::Refusal;
use countersign_proto::v1::ledger_service_client::LedgerServiceClient;
use countersign_proto::v1::ledger_service_server::LedgerService;
use countersign_proto::v1::{
    EraseRequest, EraseResponse, GetConsistencyRequest, GetConsistencyResponse, GetEntriesRequest,
    GetEntriesResponse, GetEvidenceRequest, GetEvidenceResponse, GetHeadRequest, GetPeaksRequest,
    GetPeaksResponse, GetPolicyRequest, GetPolicyResponse, GetReceiptRequest, GetReceiptResponse,
    Head, OpenStreamRequest, OpenStreamResponse, PutBlobRequest, PutBlobResponse, QueryRequest,
    QueryResponse, SubmitRequest, SubmitResponse, WatchHeadsRequest, WatchRecordsRequest,
    WatchRecordsResponse,
};
use countersign_server::admission::Caller;
use countersign_server::authz::{Rpc, Target};
use countersign_server::config::{
    Checked, GateSection, KeyFiles, PeopleSection, ServerConfig, TlsFiles,
};
use countersign_server::drain::{DrainTrigger, drain};
use countersign_server::gate::config::GateSettings;
use countersign_server::http::Readiness;
use countersign_server::limits::Limits;
use countersign_server::metrics::EdgeMetrics;
use countersign_server::serve::{self, Ports, ServeError, Serving, serve};
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status, Streaming};

/// The identity that most clients have.
pub const GATE: &str = "spiffe://acme.example/tenant/acme/gate/prod-1";

/// A certificate authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Holder {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Holder {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Holder { cert, key: key.serialize_pem() }
    }

    pub fn client(&self, uri: &str) -> Holder {
        self.issue(|params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        })
    }
}

/// A ledger without a log: it answers heads, and holds a `Submit` until the test lets it go.
#[derive(Clone)]
pub struct Empty {
    /// One permit is added for each `Submit` that has begun.
    pub begun: Arc<Semaphore>,
    /// One permit is taken for each `Submit` that ends.
    pub release: Arc<Semaphore>,
}

#[tonic::async_trait]
impl LedgerService for Empty {
    async fn open_stream(
        &self,
        _: Request<OpenStreamRequest>,
    ) -> Result<Response<OpenStreamResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        Caller::of(request.extensions())?.authorize_own(Rpc::Submit)?;
        self.begun.add_permits(1);
        self.release.acquire().await.unwrap().forget();
        let call_id = request.into_inner().call_id;
        Ok(Response::new(SubmitResponse { call_id, ..SubmitResponse::default() }))
    }

    type SubmitStreamStream = ReceiverStream<Result<SubmitResponse, Status>>;

    async fn submit_stream(
        &self,
        _: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_head(&self, request: Request<GetHeadRequest>) -> Result<Response<Head>, Status> {
        let caller = Caller::of(request.extensions())?;
        let permit = caller.authorize(Rpc::GetHead, Target::Log)?;
        Ok(Response::new(Head { checkpoint: permit.caller().to_string(), size: 7 }))
    }

    type WatchHeadsStream = ReceiverStream<Result<Head, Status>>;

    async fn watch_heads(
        &self,
        _: Request<WatchHeadsRequest>,
    ) -> Result<Response<Self::WatchHeadsStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_consistency(
        &self,
        _: Request<GetConsistencyRequest>,
    ) -> Result<Response<GetConsistencyResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_receipt(
        &self,
        _: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_evidence(
        &self,
        request: Request<GetEvidenceRequest>,
    ) -> Result<Response<GetEvidenceResponse>, Status> {
        let caller = Caller::of(request.extensions())?;
        let tenant = &request.get_ref().tenant;
        caller.authorize(Rpc::GetEvidence, Target::Tenant(tenant))?;
        Ok(Response::new(GetEvidenceResponse::default()))
    }

    async fn put_blob(
        &self,
        _: Request<PutBlobRequest>,
    ) -> Result<Response<PutBlobResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
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

/// A running edge.
pub struct Edge {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub server_ca: Authority,
    pub client_ca: Authority,
    pub service: Empty,
    pub readiness: watch::Sender<Readiness>,
    pub drain: DrainTrigger,
    pub ended: JoinHandle<Result<(), ServeError>>,
    _dir: TempDir,
}

impl Edge {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server_ca, client_ca) = (Authority::new(), Authority::new());
        let mut config = config(&dir, &server_ca, &client_ca);
        change(&mut config);
        let insecure_dev = config.insecure_dev_identity.is_some();
        Self::run(config.check(insecure_dev).unwrap(), server_ca, client_ca, dir).await
    }

    async fn run(
        checked: Checked,
        server_ca: Authority,
        client_ca: Authority,
        dir: TempDir,
    ) -> Self {
        let ports = Ports::bind(&checked).await.unwrap();
        let (grpc, http) = (ports.grpc_addr().unwrap(), ports.http_addr().unwrap());
        let mut registry = Registry::default();
        let metrics = EdgeMetrics::register(&mut registry);
        let (readiness, watched) = watch::channel(Readiness::Ready);
        let (trigger, drain) = drain();
        let none = || Arc::new(Semaphore::new(0));
        let service = Empty { begun: none(), release: none() };
        let serving = Serving {
            service: serve::ledger(service.clone(), &checked.config().limits),
            readiness: watched,
            metrics,
            registry: Arc::new(registry),
            http_routes: axum::Router::new(),
        };
        let ended = tokio::spawn(async move { serve(&checked, ports, serving, drain).await });
        Self {
            grpc,
            http,
            server_ca,
            client_ca,
            service,
            readiness,
            drain: trigger,
            ended,
            _dir: dir,
        }
    }

    /// A channel with this identity, connected.
    pub async fn channel(
        &self,
        holder: Option<&Holder>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(&self.server_ca.pem));
        if let Some(holder) = holder {
            tls = tls.identity(Identity::from_pem(&holder.cert, &holder.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.grpc)).unwrap();
        endpoint.tls_config(tls)?.connect().await
    }

    /// A client with this identity of the known authority.
    pub async fn client(&self, uri: &str) -> LedgerServiceClient<Channel> {
        let holder = self.client_ca.client(uri);
        LedgerServiceClient::new(self.channel(Some(&holder)).await.unwrap())
    }

    /// Whether this client gets no answer at all. With TLS 1.3 a client learns of its refusal with
    /// the first answer, not in the handshake.
    pub async fn turns_away(&self, holder: Option<&Holder>) -> bool {
        match self.channel(holder).await {
            Err(_) => true,
            Ok(channel) => {
                match LedgerServiceClient::new(channel).get_head(GetHeadRequest::default()).await {
                    Ok(_) => false,
                    Err(status) => Refusal::from_status(&status).is_none(),
                }
            }
        }
    }

    /// Panics unless an ordinary client is served.
    pub async fn assert_serves(&self) {
        let head = self.client(GATE).await.get_head(GetHeadRequest::default()).await.unwrap();
        assert_eq!(head.into_inner().size, 7);
    }
}

/// A configuration for loopback and ports of the system's choice.
pub fn config(dir: &TempDir, server_ca: &Authority, client_ca: &Authority) -> ServerConfig {
    let server = server_ca.issue(|params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    });
    let write = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    ServerConfig {
        origin: "ledger.acme.example/prod".to_owned(),
        data_dir: dir.path().join("data"),
        grpc: SocketAddr::from(([127, 0, 0, 1], 0)),
        http: SocketAddr::from(([127, 0, 0, 1], 0)),
        head_interval_ms: 1_000,
        head_republish_s: 60,
        drain_timeout_s: 15,
        insecure_dev_identity: None,
        keys: KeyFiles {
            log: dir.path().join("log.pem"),
            clock: dir.path().join("clock.pem"),
            ledger: dir.path().join("ledger.pem"),
        },
        tls: Some(TlsFiles {
            cert: write("server.pem", &server.cert),
            key: write("server.key", &server.key),
            client_roots: vec![write("client-ca.pem", &client_ca.pem)],
        }),
        gates: GateSection {
            trust_domain: "acme.example".to_owned(),
            roots: vec![write("gate-ca.pem", &client_ca.pem)],
        },
        people: PeopleSection::default(),
        limits: Limits::default(),
        erasure: countersign_server::config::ErasureSection::default(),
        witnesses: None,
        gate: GateSettings::default(),
        revoked: Vec::new(),
    }
}

//! The edge from outside: who gets in, who does not, and that whoever does not harms nobody else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "each test uses its part of the stage")]
mod support;

use std::time::Duration;

use countersign_core::codes::Code;
use countersign_core::encoding::b64;
use countersign_proto::errors::Refusal;
use countersign_proto::v1::ledger_service_client::LedgerServiceClient;
use countersign_proto::v1::{GetEvidenceRequest, GetHeadRequest, PutBlobRequest, SubmitRequest};
use countersign_server::config::{RevokedSection, ServerConfig};
use countersign_server::http::Readiness;
use countersign_server::serve::ServeError;
use rcgen::SanType;
use support::{Authority, Edge, GATE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn code(status: &Status) -> Code {
    Refusal::from_status(status).unwrap_or_else(|| panic!("not a ledger's: {status:?}")).code
}

/// Reads until the other side closes; a reset is a close too.
async fn closes(mut socket: TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = socket.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(20), read).await.is_ok()
}

/// Panics unless the server ends well, and soon.
async fn ends(server: JoinHandle<Result<(), ServeError>>) {
    tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap().unwrap();
}

async fn http_get(edge: &Edge, path: &str) -> String {
    let mut socket = TcpStream::connect(edge.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_caller_is_whom_its_certificate_names() {
    let edge = Edge::start().await;
    for uri in [GATE, "spiffe://acme.example/tenant/other/auditor/eve"] {
        let head = edge.client(uri).await.get_head(GetHeadRequest::default()).await.unwrap();
        assert_eq!(head.into_inner().checkpoint, uri);
    }
}

#[tokio::test]
async fn strangers_are_turned_away_and_the_server_goes_on() {
    let edge = Edge::start().await;
    assert!(edge.turns_away(None).await, "no certificate");
    let stranger = Authority::new().client(GATE);
    assert!(edge.turns_away(Some(&stranger)).await, "another authority");
    let expired = edge.client_ca.issue(|params| {
        params.subject_alt_names = vec![SanType::URI(GATE.try_into().unwrap())];
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    assert!(edge.turns_away(Some(&expired)).await, "expired");
    let future = edge.client_ca.issue(|params| {
        params.subject_alt_names = vec![SanType::URI(GATE.try_into().unwrap())];
        params.not_before = rcgen::date_time_ymd(2101, 1, 1);
    });
    assert!(edge.turns_away(Some(&future)).await, "not yet valid");
    edge.assert_serves().await;
    assert!(http_get(&edge, "/metrics").await.contains("end=\"HandshakeFailed\"} 4\n"));
}

#[tokio::test]
async fn plain_tcp_and_noise_are_closed_and_the_server_goes_on() {
    let edge = Edge::start().await;
    for noise in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        &[0xff; 4096],
        // A TLS record header that promises more than TLS allows.
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut socket = TcpStream::connect(edge.grpc).await.unwrap();
        socket.write_all(noise).await.unwrap();
        assert!(closes(socket).await);
    }
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", edge.grpc)).unwrap();
    if let Ok(channel) = plain.connect().await {
        let answer = LedgerServiceClient::new(channel).get_head(GetHeadRequest::default()).await;
        assert_eq!(Refusal::from_status(&answer.unwrap_err()), None);
    }
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_socket_that_says_nothing_holds_its_place_only_so_long() {
    let edge = Edge::start_with(|config| config.limits.handshake_timeout_ms = 50).await;
    let socket = TcpStream::connect(edge.grpc).await.unwrap();
    assert!(closes(socket).await);
    assert!(http_get(&edge, "/metrics").await.contains("end=\"HandshakeTimeout\"} 1\n"));
}

#[tokio::test]
async fn a_connection_without_a_preface_is_closed() {
    let edge = Edge::start_with(|config| {
        config.limits.handshake_timeout_ms = 50;
        config.tls = None;
        config.insecure_dev_identity = Some(GATE.to_owned());
    })
    .await;
    // Part of the preface only: trickling does not buy time either.
    let mut socket = TcpStream::connect(edge.grpc).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0").await.unwrap();
    assert!(closes(socket).await);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_until_there_is_room() {
    let edge = Edge::start_with(|config| config.limits.connections_max = 1).await;
    let mut first = edge.client(GATE).await;
    first.get_head(GetHeadRequest::default()).await.unwrap();
    assert!(closes(TcpStream::connect(edge.grpc).await.unwrap()).await);
    assert!(http_get(&edge, "/metrics").await.contains("end=\"Full\"} 1\n"));
    drop(first);
    // The place is free as soon as the server has seen the end of the first connection.
    while !http_get(&edge, "/metrics").await.contains("connections_open 0\n") {
        tokio::task::yield_now().await;
    }
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_certificate_that_names_nobody_here_is_told_so() {
    let edge = Edge::start().await;
    let dns = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("gate.acme.example".try_into().unwrap())];
    };
    let nobody = [
        edge.client_ca.issue(|_| {}),
        edge.client_ca.issue(dns),
        edge.client_ca.client("spiffe://evil.example/tenant/acme/gate/prod-1"),
        edge.client_ca.client("spiffe://acme.example/tenant/acme/root/prod-1"),
        edge.client_ca.client("https://acme.example/tenant/acme/gate/prod-1"),
    ];
    for holder in nobody {
        let channel = edge.channel(Some(&holder)).await.unwrap();
        let answer = LedgerServiceClient::new(channel).get_head(GetHeadRequest::default()).await;
        assert_eq!(code(&answer.unwrap_err()), Code::Unauthenticated);
    }
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_a_certificate_that_is_otherwise_good() {
    let mut key = None;
    let client_ca = Authority::new();
    let holder = client_ca.client(GATE);
    let edge = Edge::start_with(|config: &mut ServerConfig| {
        let leaf = countersign_core::cert::split_pem_bundle(&holder.cert).unwrap().remove(0);
        let leaf_key = b64(leaf.public_key_bytes());
        config.revoked = vec![RevokedSection {
            key: leaf_key.clone(),
            from: "2026-01-01T00:00:00.000000Z".to_owned(),
        }];
        let roots = &config.tls.as_ref().unwrap().client_roots[0];
        std::fs::write(roots, &client_ca.pem).unwrap();
        key = Some(leaf_key);
    })
    .await;
    assert!(key.is_some());
    let channel = edge.channel(Some(&holder)).await.unwrap();
    let answer =
        LedgerServiceClient::new(channel).get_head(GetHeadRequest::default()).await.unwrap_err();
    assert_eq!(code(&answer), Code::Unauthenticated);
    assert!(answer.message().contains("revoked"), "{answer}");
    let other = edge.channel(Some(&client_ca.client(GATE))).await.unwrap();
    LedgerServiceClient::new(other).get_head(GetHeadRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_role_may_do_what_the_table_says() {
    let edge = Edge::start().await;
    let mut operator = edge.client("spiffe://acme.example/tenant/acme/operator/ops").await;
    operator.get_head(GetHeadRequest::default()).await.unwrap();
    let refused = operator.submit(SubmitRequest::default()).await.unwrap_err();
    assert_eq!(code(&refused), Code::PermissionDenied);
    let mut auditor = edge.client("spiffe://acme.example/tenant/acme/auditor/ann").await;
    let own = GetEvidenceRequest { tenant: "acme".to_owned(), ..GetEvidenceRequest::default() };
    auditor.get_evidence(own).await.unwrap();
    let other = GetEvidenceRequest { tenant: "other".to_owned(), ..GetEvidenceRequest::default() };
    assert_eq!(code(&auditor.get_evidence(other).await.unwrap_err()), Code::OtherTenant);
}

#[tokio::test]
async fn what_does_not_fit_is_told_when_to_come_back() {
    let edge = Edge::start_with(|config| config.limits.calls_in_flight_max = 1).await;
    let mut client = edge.client(GATE).await;
    let mut waiting = client.clone();
    let held = tokio::spawn(async move { waiting.submit(SubmitRequest::default()).await });
    edge.service.begun.acquire().await.unwrap().forget();
    let shed = client.get_head(GetHeadRequest::default()).await.unwrap_err();
    let refusal = Refusal::from_status(&shed).unwrap();
    assert_eq!(refusal.code, Code::Overloaded);
    assert!(refusal.retry_after.is_some());
    edge.service.release.add_permits(1);
    held.await.unwrap().unwrap();
    client.get_head(GetHeadRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_its_call_and_no_other() {
    let edge = Edge::start().await;
    let mut client = edge.client(GATE).await;
    let content = vec![0_u8; 6 * 1024 * 1024].into();
    let request = PutBlobRequest { content, ..PutBlobRequest::default() };
    let answer = client.put_blob(request).await.unwrap_err();
    assert_eq!(answer.code(), tonic::Code::OutOfRange, "{answer}");
    client.get_head(GetHeadRequest::default()).await.unwrap();
}

#[tokio::test]
async fn calls_in_flight_end_well_when_the_server_stops() {
    let edge = Edge::start().await;
    let mut client = edge.client(GATE).await;
    let mut waiting = client.clone();
    let held = tokio::spawn(async move {
        waiting.submit(SubmitRequest { call_id: 9, ..SubmitRequest::default() }).await
    });
    edge.service.begun.acquire().await.unwrap().forget();
    edge.drain.start();
    // What comes now is refused by name, or finds the connection going away.
    let late = client.get_head(GetHeadRequest::default()).await.unwrap_err();
    if let Some(refusal) = Refusal::from_status(&late) {
        assert_eq!(refusal.code, Code::LedgerStopping);
    }
    edge.service.release.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap().into_inner().call_id, 9);
    ends(edge.ended).await;
    assert!(TcpStream::connect(edge.grpc).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_call_that_never_ends_does_not_hold_up_the_end() {
    let edge = Edge::start_with(|config| config.drain_timeout_s = 1).await;
    let mut client = edge.client(GATE).await;
    let _held = tokio::spawn(async move { client.submit(SubmitRequest::default()).await });
    edge.service.begun.acquire().await.unwrap().forget();
    edge.drain.start();
    ends(edge.ended).await;
}

#[tokio::test]
async fn probes_and_health_say_how_it_stands() {
    let edge = Edge::start().await;
    assert!(http_get(&edge, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(http_get(&edge, "/readyz").await.starts_with("HTTP/1.1 200 "));
    assert!(http_get(&edge, "/nothing").await.starts_with("HTTP/1.1 404 "));
    let channel = edge.channel(Some(&edge.client_ca.client(GATE))).await.unwrap();
    let mut health = HealthClient::new(channel);
    let service = "countersign.v1.LedgerService".to_owned();
    let mut watch = health.watch(HealthCheckRequest { service }).await.unwrap().into_inner();
    let mut saw = async |wanted: ServingStatus| {
        while watch.message().await.unwrap().unwrap().status() != wanted {}
    };
    saw(ServingStatus::Serving).await;
    edge.readiness.send_replace(Readiness::Poisoned);
    saw(ServingStatus::NotServing).await;
    let poisoned = http_get(&edge, "/readyz").await;
    assert!(poisoned.starts_with("HTTP/1.1 503 ") && poisoned.contains("poisoned"), "{poisoned}");
    assert!(http_get(&edge, "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn under_insecure_dev_everyone_on_loopback_is_the_named_identity() {
    let edge = Edge::start_with(|config| {
        config.tls = None;
        config.insecure_dev_identity = Some(GATE.to_owned());
    })
    .await;
    let mut client = LedgerServiceClient::connect(format!("http://{}", edge.grpc)).await.unwrap();
    let head = client.get_head(GetHeadRequest::default()).await.unwrap().into_inner();
    assert_eq!(head.checkpoint, GATE);
}

//! Callers and certificates that are not what they should be.

use std::time::Duration;

use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_core::kinds::Kind;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::ledger_service_client::LedgerServiceClient;
use countersign_server::identity;
use countersign_tests::{Authority, DOMAIN, Holder, Lane, gate, refusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::Scene;

/// Whether a caller gets no answer of the ledger at all. With TLS 1.3 a client learns of its
/// refusal with the first answer, not in the handshake.
async fn is_turned_away(scene: &Scene, holder: Option<&Holder>) -> bool {
    match scene.stage.connect_as(&scene.server, holder).await {
        Err(_) => true,
        Ok(mut client) => match client.get_head(v1::GetHeadRequest::default()).await {
            Ok(_) => false,
            Err(status) => Refusal::from_status(&status).is_none(),
        },
    }
}

#[tokio::test]
async fn strangers_are_turned_away_at_the_door() {
    let mut scene = Scene::new().await;
    assert!(is_turned_away(&scene, None).await, "no certificate");
    let stranger = Authority::new("client CA").holder(DOMAIN, "acme", Role::Gate, "prod-1");
    assert!(is_turned_away(&scene, Some(&stranger)).await, "an unknown authority");
    let ca = &scene.stage.client_ca;
    let expired = ca.holder_with(DOMAIN, "acme", Role::Gate, "prod-1", |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    assert!(is_turned_away(&scene, Some(&expired)).await, "expired");
    // Known to the authority, and named to be somebody elsewhere.
    let elsewhere = ca.holder("evil.example", "acme", Role::Gate, "prod-1");
    let mut client = scene.stage.connect(&scene.server, &elsewhere).await;
    let status = client.get_head(v1::GetHeadRequest::default()).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::Unauthenticated);
    scene.goes_on().await;
}

#[tokio::test]
async fn plain_tcp_is_closed() {
    let mut scene = Scene::new().await;
    let noises = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]];
    for noise in noises {
        let mut socket = TcpStream::connect(scene.server.grpc).await.unwrap();
        socket.write_all(noise).await.unwrap();
        let mut rest = Vec::new();
        // A reset is a close too.
        let closed =
            tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "left open");
    }
    let plain = Endpoint::from_shared(format!("http://{}", scene.server.grpc)).unwrap();
    if let Ok(channel) = plain.connect().await {
        let answer =
            LedgerServiceClient::new(channel).get_head(v1::GetHeadRequest::default()).await;
        assert_eq!(Refusal::from_status(&answer.unwrap_err()), None);
    }
    scene.goes_on().await;
}

/// The certificate of a seal key is checked as a verifier will check it (CERT-2, CERT-7).
#[tokio::test]
async fn seal_certificates_that_do_not_count_open_no_stream() {
    let mut scene = Scene::new().await;
    let ca = &scene.stage.client_ca;
    let dated = |from: i32, to: i32| {
        ca.holder_with(DOMAIN, "acme", Role::Gate, "prod-1", |params| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
        })
    };
    let stranger = Authority::new("another CA").holder(DOMAIN, "acme", Role::Gate, "prod-1");
    let mut other_key = gate::opening(&scene.gate, 0);
    other_key.seal_key = stranger.key.verifying_key().to_bytes().to_vec().into();
    let mut no_chain = gate::opening(&scene.gate, 0);
    no_chain.certificate_chain.clear();
    let mut noise = gate::opening(&scene.gate, 0);
    noise.certificate_chain = vec![vec![0xff; 100].into()];
    let auditor = scene.stage.holder("acme", Role::Auditor, "prod-1");
    let cases = [
        (gate::opening(&dated(2001, 2002), 0), Code::CertExpired),
        (gate::opening(&dated(2101, 2102), 0), Code::CertNotYetValid),
        (gate::opening(&stranger, 0), Code::CertUntrustedRoot),
        (other_key, Code::SealerUntrusted),
        (no_chain, Code::CertChain),
        (noise, Code::CertMalformed),
        (gate::opening(&auditor, 0), Code::StreamForeign),
    ];
    for (opening, code) in cases {
        let status = scene.client.open_stream(opening).await.unwrap_err();
        assert_eq!(refusal(&status).code, code, "{status}");
        scene.assert_size(code.as_str()).await;
    }
    scene.goes_on().await;
}

/// A certificate that is good for a few seconds more.
fn fleeting(scene: &Scene) -> Holder {
    let end = Duration::from_secs(identity::now().seconds() + 3);
    scene.stage.client_ca.holder_with(DOMAIN, "acme", Role::Gate, "prod-9", |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
    })
}

/// STR-11: a stream's certificate counts when a record is logged, not only when it is opened.
/// Repeats are answered all the same.
#[tokio::test]
async fn a_seal_certificate_that_expires_ends_its_stream_and_no_more() {
    let mut scene = Scene::new().await;
    let fleeting = fleeting(&scene);
    let tls = scene.stage.gate("acme", "prod-9");
    let mut client = scene.stage.connect(&scene.server, &tls).await;
    let mut lane = Lane::open(&mut client, &fleeting, 0).await.unwrap();
    scene.size += 1;
    let first = lane.batch(1, &mut scene.random);
    let logged = countersign_tests::submit(&scene.stage, &mut client, &first).await.unwrap();
    assert!(logged[0].is_ok());
    scene.size += 1;
    let deadline = identity::now().0 + 30_000_000;
    let code = loop {
        assert!(identity::now().0 < deadline, "it never expired");
        let next = lane.clone().batch(1, &mut scene.random);
        let answer = countersign_tests::submit(&scene.stage, &mut client, &next).await.unwrap();
        match answer.into_iter().next().unwrap() {
            Ok(_) => {
                // The same lane would repeat this seq with another record.
                lane.next_seq += 1;
                lane.prev = next.sealed.roots[0];
                scene.size += 1;
            }
            Err(refusal) => break refusal.code,
        }
    };
    assert_eq!(code, Code::CertExpired);
    let again = countersign_tests::submit(&scene.stage, &mut client, &first).await.unwrap();
    assert!(again[0].as_ref().unwrap().repeat);
    scene.goes_on().await;
}

/// A call outlives its caller's certificate by one batch at most.
#[tokio::test]
async fn a_call_ends_when_its_callers_certificate_does() {
    let mut scene = Scene::new().await;
    let fleeting = fleeting(&scene);
    let mut client = scene.stage.connect(&scene.server, &fleeting).await;
    let mut lane = Lane::open(&mut client, &fleeting, 0).await.unwrap();
    scene.size += 1;
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let call = client.submit_stream(ReceiverStream::new(stream)).await.unwrap();
    let mut answers = call.into_inner();
    let deadline = identity::now().0 + 30_000_000;
    let status = loop {
        assert!(identity::now().0 < deadline, "it never ended");
        let next = lane.batch(1, &mut scene.random);
        requests.send(gate::request(&next, 1)).await.unwrap();
        match answers.message().await {
            Ok(answer) => {
                let answer = answer.unwrap();
                // The seal is by the same certificate, and its end may be seen first.
                if answer.answers[0].outcome.is_none() || answer.checkpoint.is_empty() {
                    continue;
                }
                scene.size += 1;
            }
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&status).code, Code::Unauthenticated);
    scene.goes_on().await;
}

/// Whoever may not submit is told so, whatever it sends.
#[tokio::test]
async fn another_role_submits_nothing() {
    let mut scene = Scene::new().await;
    let auditor = scene.stage.holder("acme", Role::Auditor, "ann");
    let mut client = scene.stage.connect(&scene.server, &auditor).await;
    let fields = scene.lane.verdict(&mut scene.random);
    let batch = scene.lane.single(Kind::Verdict, &fields, &mut scene.random);
    let status = client.submit(gate::request(&batch, 1)).await.unwrap_err();
    assert_eq!(refusal(&status).code, Code::PermissionDenied);
    scene.assert_size("after an auditor's batch").await;
    scene.goes_on().await;
    scene.server.stop().await;
}

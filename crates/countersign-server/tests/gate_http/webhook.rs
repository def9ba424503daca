//! The webhook: in order, at least once, signed, and at nobody's expense.

use std::sync::Arc;
use std::time::Duration;

use countersign_server::drain::{DrainTrigger, drain};
use countersign_server::gate::webhook::{BATCH, SIGNATURE, WebhookMetrics, WebhookSection, run};
use hmac::{Hmac, KeyInit as _, Mac as _};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rcgen::SanType;
use serde_json::Value;
use sha2::Sha256;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::receiver::{Came, Kept, Receiver, Reply, secret};
use crate::support::Authority;
use crate::until;

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// A sender at work.
struct Sender {
    drain: DrainTrigger,
    task: JoinHandle<()>,
    registry: Registry,
}

impl Sender {
    fn start(section: &WebhookSection, kept: &Arc<Kept>) -> Self {
        let webhook = section.check().unwrap();
        let mut registry = Registry::default();
        let metrics = WebhookMetrics::register(&mut registry);
        let (trigger, drain) = drain();
        let task = tokio::spawn(run(webhook, Arc::clone(kept), metrics, drain));
        Self { drain: trigger, task, registry }
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    async fn stop(self) {
        self.drain.start();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
    }
}

/// A receiver, a store, and the section that leads from one to the other.
async fn stage() -> (Receiver, Arc<Kept>, WebhookSection, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(None).await;
    let section = WebhookSection {
        url: receiver.url(),
        secret_file: secret(&dir, SECRET),
        ca_file: None,
        timeout_ms: 200,
    };
    (receiver, Arc::new(Kept::default()), section, dir)
}

/// What spec/webhook.md tells a receiver to do, at `now`. `verify_slice` compares in constant time.
fn verify(secret: &[u8], header: &str, body: &[u8], now: u64) -> bool {
    let Some((time, given)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1="))
    else {
        return false;
    };
    let Ok(at) = time.parse::<u64>() else { return false };
    let Some(given) = countersign_core::encoding::from_hex_array::<32>(given) else { return false };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    now.abs_diff(at) <= 300 && mac.verify_slice(&given).is_ok()
}

fn now() -> u64 {
    countersign_server::identity::now().seconds()
}

#[tokio::test]
async fn hook_3_signals_come_within_a_second_and_in_order() {
    let (receiver, kept, section, _dir) = stage().await;
    kept.add(3);
    let sender = Sender::start(&section, &kept);
    until("what waited at the start", || receiver.indices() == [3]).await;
    let begun = Instant::now();
    for index in [5, 8, 9] {
        kept.add(index);
    }
    until("what came later", || kept.cursor() == Some(9)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(receiver.indices(), [3, 5, 8, 9]);
    assert_eq!(kept.steps(), [3, 5, 8, 9]);
    until("none waits", || sender.metrics().contains("countersign_webhook_lag_seconds 0\n")).await;
    let metrics = sender.metrics();
    assert!(metrics.contains("countersign_webhook_delivered_total 4\n"), "{metrics}");
    assert!(metrics.contains("countersign_webhook_failing 0\n"), "{metrics}");
    sender.stop().await;
}

#[tokio::test]
async fn hook_2_the_body_and_the_headers_are_as_the_page_says() {
    let (receiver, kept, section, _dir) = stage().await;
    let sender = Sender::start(&section, &kept);
    kept.add(42);
    until("it came", || receiver.came().len() == 1).await;
    let came = receiver.came().remove(0);
    assert!(came.head.starts_with("POST /signals HTTP/1.1\r\n"), "{}", came.head);
    assert_eq!(came.header("content-type"), "application/json");
    assert_eq!(came.index(), 42);
    let body: Value = serde_json::from_str(&came.body).unwrap();
    assert_eq!(body["type"], "countersign.signal.v1");
    assert_eq!(body["index"], 42);
    assert_eq!(body["codes"][0], "R_42");
    sender.stop().await;
}

#[tokio::test]
async fn hook_4_the_signature_is_over_this_body_at_this_time_with_this_secret() {
    let (receiver, kept, section, _dir) = stage().await;
    let sender = Sender::start(&section, &kept);
    kept.add(1);
    until("it came", || receiver.came().len() == 1).await;
    let Came { head, body } = receiver.came().remove(0);
    let signature = Came { head, body: body.clone() }.header(SIGNATURE).to_owned();
    assert!(verify(SECRET, &signature, body.as_bytes(), now()));
    let tampered = body.replace("refuse", "approve");
    assert_ne!(tampered, body);
    assert!(!verify(SECRET, &signature, tampered.as_bytes(), now()), "another body");
    assert!(!verify(&[b'x'; 32], &signature, body.as_bytes(), now()), "another secret");
    assert!(!verify(SECRET, &signature, body.as_bytes(), now() + 301), "an old one");
    let (time, rest) = signature.split_once(',').unwrap();
    let later: u64 = time.strip_prefix("t=").unwrap().parse::<u64>().unwrap() + 100;
    let moved = format!("t={later},{rest}");
    assert!(!verify(SECRET, &moved, body.as_bytes(), later), "another time");
    sender.stop().await;
}

#[tokio::test]
async fn hook_3_the_cursor_waits_for_a_2xx_whatever_else_is_answered() {
    let (receiver, kept, section, _dir) = stage().await;
    receiver.next([
        Reply::status(500),
        Reply::status(404),
        Reply::Hangs,
        Reply::Closes,
        Reply::Says("no HTTP at all\r\n\r\n".to_owned()),
    ]);
    for index in [1, 2] {
        kept.add(index);
    }
    let sender = Sender::start(&section, &kept);
    until("the first failure", || !receiver.came().is_empty()).await;
    until("it is known to fail", || sender.metrics().contains("countersign_webhook_failing 1\n"))
        .await;
    assert!(!sender.metrics().contains("countersign_webhook_lag_seconds 0\n"));
    assert_eq!(kept.cursor(), None);
    until("both were taken", || kept.cursor() == Some(2)).await;
    assert_eq!(receiver.indices(), [1, 1, 1, 1, 1, 1, 2]);
    let metrics = sender.metrics();
    for line in [
        "countersign_webhook_failures_total{why=\"status\"} 2\n",
        "countersign_webhook_failures_total{why=\"timeout\"} 1\n",
        "countersign_webhook_failures_total{why=\"unreachable\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line} {metrics}");
    }
    sender.stop().await;
}

#[tokio::test]
async fn hook_3_a_sender_that_is_stopped_anywhere_leaves_no_gap() {
    let (receiver, kept, section, _dir) = stage().await;
    receiver.always(Some(Reply::Hangs));
    for index in 1..=4 {
        kept.add(index);
    }
    // Stopped while the receiver had it and had not answered.
    let sender = Sender::start(&section, &kept);
    until("it came", || receiver.indices() == [1]).await;
    sender.stop().await;
    assert_eq!(kept.cursor(), None);
    // Killed, and with a cursor that could not be moved: then it comes again.
    receiver.always(None);
    kept.fail(1);
    let sender = Sender::start(&section, &kept);
    until("some were taken", || kept.cursor() >= Some(2)).await;
    sender.task.abort();
    let _ = sender.task.await;
    let sender = Sender::start(&section, &kept);
    kept.add(5);
    until("all were taken", || kept.cursor() == Some(5)).await;
    sender.stop().await;
    let came = receiver.indices();
    assert!(came.is_sorted(), "{came:?}");
    assert!(came.starts_with(&[1, 1, 1]), "once given up, once not noted, once for good: {came:?}");
    let mut each = came.clone();
    each.dedup();
    assert_eq!(each, [1, 2, 3, 4, 5]);
    assert_eq!(kept.steps(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn hook_6_a_redirect_is_not_followed() {
    let (receiver, kept, section, _dir) = stage().await;
    let elsewhere = Receiver::start(None).await;
    let to = elsewhere.url();
    for status in [301, 302, 307, 308] {
        receiver.next([Reply::Says(format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
        ))]);
    }
    kept.add(7);
    let sender = Sender::start(&section, &kept);
    until("it was taken", || kept.cursor() == Some(7)).await;
    assert_eq!(receiver.indices(), [7; 5]);
    assert!(elsewhere.came().is_empty());
    assert!(sender.metrics().contains("{why=\"redirect\"} 4\n"));
    sender.stop().await;
}

#[tokio::test]
async fn hook_7_an_answer_that_is_long_or_never_ends_holds_up_nothing() {
    let (receiver, kept, section, _dir) = stage().await;
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx".to_owned();
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    receiver.next([Reply::Says(long), Reply::Says(endless), Reply::Says(head)]);
    for index in [1, 2, 3, 4] {
        kept.add(index);
    }
    let sender = Sender::start(&section, &kept);
    until("all were taken", || kept.cursor() == Some(4)).await;
    // The word of the first two was their status; a head that large is no answer.
    assert_eq!(receiver.indices(), [1, 2, 3, 3, 4]);
    sender.stop().await;
}

#[tokio::test]
async fn hook_8_a_dead_receiver_costs_a_bounded_batch_and_no_verdict() {
    let (_receiver, kept, mut section, _dir) = stage().await;
    // A port where nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    section.url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let sender = Sender::start(&section, &kept);
    until("it fails", || {
        kept.add(1);
        sender.metrics().contains("countersign_webhook_failing 1\n")
    })
    .await;
    // What a gate does at a verdict, and all that it does: put the signal down.
    let begun = Instant::now();
    for index in 2..5_000 {
        kept.add(index);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(kept.asked_max() <= BATCH);
    assert_eq!(kept.cursor(), None);
    // Stopping waits for no back-off.
    let begun = Instant::now();
    sender.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn hook_1_over_tls_the_receiver_is_the_one_that_the_roots_vouch_for() {
    let (_receiver, kept, mut section, dir) = stage().await;
    let authority = Authority::new();
    let holder = authority.issue(|params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    });
    let receiver = Receiver::start(Some(&holder)).await;
    section.url = format!("https://localhost:{}/signals", receiver.addr.port());
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, Authority::new().pem).unwrap();
    section.ca_file = Some(path.clone());
    kept.add(1);
    let sender = Sender::start(&section, &kept);
    until("a stranger is not told", || {
        sender.metrics().contains("countersign_webhook_failing 1\n")
    })
    .await;
    sender.stop().await;
    assert!(receiver.came().is_empty());

    std::fs::write(&path, &authority.pem).unwrap();
    let sender = Sender::start(&section, &kept);
    until("it was taken", || kept.cursor() == Some(1)).await;
    assert_eq!(receiver.indices(), [1]);
    sender.stop().await;
}

//! Stopping and starting: what was answered stays, what was not can be sent again, and a ledger
//! whose data contradicts its anchor does not start.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::os::unix::fs::PermissionsExt as _;

use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_proto::convert::BatchAnswer;
use countersign_proto::v1;
use countersign_tests::{Held, Lane, Random, Server, Stage, gate, refusal, submit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

async fn http_get(server: &Server, path: &str) -> String {
    let mut socket = TcpStream::connect(server.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

/// SIGTERM while batches are in flight: what was read is answered, in order; what was answered is
/// all that was logged; the calls end by name.
#[tokio::test]
async fn a_drain_answers_what_it_read_and_ends_by_name() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let mut random = Random::new(5);
    let holder = stage.gate("acme", "prod-1");
    let mut client = stage.connect(&server, &holder).await;
    let mut lane = Lane::open(&mut client, &holder, 0).await.unwrap();
    let watch = client.watch_heads(v1::WatchHeadsRequest { after_size: 0 }).await.unwrap();
    let mut watch = watch.into_inner();
    let batches: Vec<_> = (0..200).map(|_| lane.batch(20, &mut random)).collect();
    let (requests, stream) = mpsc::channel(4);
    let call = client.submit_stream(ReceiverStream::new(stream)).await.unwrap();
    let mut answers = call.into_inner();
    let sent: Vec<_> = batches.iter().map(|batch| gate::request(batch, batch.first_seq)).collect();
    let sender = tokio::spawn(async move {
        for request in sent {
            if requests.send(request).await.is_err() {
                return;
            }
        }
        // The client says nothing of an end: the server's side ends by itself.
        requests.closed().await;
    });
    let mut held: Vec<Held> = Vec::new();
    let mut answered = 0;
    let status = loop {
        match answers.message().await {
            Ok(answer) => {
                let answer = answer.expect("the server ends its side with a code");
                let answer = BatchAnswer::try_from(answer).unwrap();
                let batch = &batches[answered];
                assert_eq!(answer.call_id, batch.first_seq, "in order");
                held.extend(stage.check(batch, answer).unwrap().into_iter().map(Result::unwrap));
                answered += 1;
                if answered == 3 {
                    server.ask_to_end();
                }
            }
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&status).code, Code::LedgerStopping);
    assert!(answered < batches.len(), "the drain came too late to show anything");
    let end = loop {
        match watch.message().await {
            Ok(published) => drop(stage.head(&published.unwrap().checkpoint)),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&end).code, Code::LedgerStopping);
    drop(answers);
    let (status, said) = server.ended().await;
    assert!(status.success(), "{status}: {said}");
    sender.abort();

    // Exactly what was answered is there.
    let server = Server::start(&stage).await;
    let mut client = stage.connect(&server, &holder).await;
    let lane = Lane::open(&mut client, &holder, 0).await.unwrap();
    assert_eq!(lane.next_seq, held.len() as u64);
    let newest = stage.newest(&mut client).await;
    assert_eq!(newest.size, TreeSize(2 + held.len() as u64));
    for record in held.iter().step_by(7) {
        stage.assert_continues(&mut client, &record.receipt.checkpoint, &newest).await;
        stage.receipt(&mut client, &record.entry, newest.size).await.unwrap();
    }
    // And what was not answered is taken now.
    let answer = submit(&stage, &mut client, &batches[answered]).await.unwrap();
    assert!(answer.into_iter().all(|record| !record.unwrap().repeat));
    server.stop().await;
}

#[tokio::test]
async fn a_restart_changes_neither_head_nor_streams() {
    let stage = Stage::new();
    let mut random = Random::new(6);
    let holder = stage.gate("acme", "prod-1");
    let mut heads = Vec::new();
    let mut sent = Vec::new();
    for round in 0..4 {
        let server = Server::start(&stage).await;
        let mut client = stage.connect(&server, &holder).await;
        let mut lane = Lane::open(&mut client, &holder, 0).await.unwrap();
        assert_eq!(lane.next_seq, 300 * round);
        let newest = stage.newest(&mut client).await;
        if let Some(before) = heads.last() {
            let before: &countersign_core::note::SignedCheckpoint = before;
            assert_eq!((before.size, before.root), (newest.size, newest.root));
        }
        for old in &heads {
            stage.assert_continues(&mut client, old, &newest).await;
        }
        for batch in &sent {
            let again = submit(&stage, &mut client, batch).await.unwrap();
            assert!(again.into_iter().all(|record| record.unwrap().repeat));
        }
        let batch = lane.batch(300, &mut random);
        submit(&stage, &mut client, &batch)
            .await
            .unwrap()
            .into_iter()
            .for_each(|r| drop(r.unwrap()));
        sent.push(batch);
        heads.push(stage.newest(&mut client).await);
        server.stop().await;
    }
}

/// NOTE-10: an idle log's head is cosigned anew, so that whoever asks sees that the clock runs.
#[tokio::test]
async fn heads_are_published_while_the_log_grows_and_while_it_is_idle() {
    let stage = Stage::with(|config| (config.head_interval_ms, config.head_republish_s) = (50, 1));
    let server = Server::start(&stage).await;
    let mut random = Random::new(7);
    let holder = stage.gate("acme", "prod-1");
    let mut client = stage.connect(&server, &holder).await;
    let mut lane = Lane::open(&mut client, &holder, 0).await.unwrap();
    let request = v1::WatchHeadsRequest { after_size: 2 };
    let mut watch = client.watch_heads(request).await.unwrap().into_inner();
    let batch = lane.batch(5, &mut random);
    submit(&stage, &mut client, &batch).await.unwrap();
    let mut seen = Vec::new();
    // The head of size 2 may come once more before that of the batch; then one of the same size
    // with a later time.
    while seen.len() < 2 {
        let head = watch.message().await.unwrap().unwrap();
        let checkpoint = stage.head(&head.checkpoint);
        assert_eq!(checkpoint.size, TreeSize(head.size));
        let seconds = stage.clock_seconds(&checkpoint);
        if head.size < 7 || seen.last().is_some_and(|(_, before)| *before == seconds) {
            continue;
        }
        seen.push((checkpoint, seconds));
    }
    let [(first, earlier), (second, later)] = &seen[..] else { panic!("two heads") };
    assert_eq!((first.size, first.root), (second.size, second.root));
    assert!(earlier < later, "{earlier} {later}");
    // A caller who holds that size already hears of nothing smaller.
    let request = v1::WatchHeadsRequest { after_size: 7 };
    let mut watch = client.watch_heads(request).await.unwrap().into_inner();
    let head = watch.message().await.unwrap().unwrap();
    assert_eq!(head.size, 7, "republished, not the one that was there");
    let metrics = http_get(&server, "/metrics").await;
    for line in ["countersign_log_size 7\n", "countersign_log_state{state=\"ready\"} 1\n"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    for name in ["countersign_head_age_seconds ", "countersign_heads_published_total "] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert!(http_get(&server, "/readyz").await.starts_with("HTTP/1.1 200 "));
    server.stop().await;
}

/// ADR 003: a database that is smaller than its anchor is not served from.
#[tokio::test]
async fn a_ledger_whose_database_is_gone_refuses_to_start() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let holder = stage.gate("acme", "prod-1");
    let mut client = stage.connect(&server, &holder).await;
    Lane::open(&mut client, &holder, 0).await.unwrap();
    server.stop().await;
    let db = stage.data_dir().join("db");
    assert!(db.join("CURRENT").exists());
    let aside = stage.data_dir().join("aside");
    std::fs::rename(&db, &aside).unwrap();
    let (status, said) = Server::refuses_to_start(&stage).await;
    assert!(!status.success());
    assert!(said.contains("ANCHOR_AHEAD"), "{said}");
    // Nothing was made in its place; put back, it serves.
    let _ = std::fs::remove_dir_all(&db);
    std::fs::rename(&aside, &db).unwrap();
    let server = Server::start(&stage).await;
    // One writer a log.
    let (status, said) = Server::refuses_to_start(&stage).await;
    assert!(!status.success() && said.contains("STORE_LOCKED"), "{said}");
    server.stop().await;
    let anchor = stage.data_dir().join("anchor");
    std::fs::rename(&anchor, stage.data_dir().join("anchor-aside")).unwrap();
    let (status, said) = Server::refuses_to_start(&stage).await;
    assert!(!status.success() && said.contains("ANCHOR_MISSING"), "{said}");
}

/// A data folder that was moved away, or another one than was meant, must not begin a second
/// history under the same keys.
#[tokio::test]
async fn a_log_does_not_begin_again_where_it_is_missing() {
    let stage = Stage::new();
    Server::start(&stage).await.stop().await;
    assert!(!stage.data_dir().join("begin").exists(), "that word is spent");
    let aside = stage.dir.path().join("aside");
    std::fs::rename(stage.data_dir(), &aside).unwrap();
    let (status, said) = Server::refuses_to_start(&stage).await;
    assert!(!status.success() && said.contains("LOG_ABSENT"), "{said}");
    assert!(!stage.data_dir().join("db").exists(), "nothing was made in its place");
    let _ = std::fs::remove_dir_all(stage.data_dir());
    std::fs::rename(&aside, stage.data_dir()).unwrap();
    Server::start(&stage).await.stop().await;
}

#[tokio::test]
async fn a_ledger_with_unfit_keys_refuses_to_start() {
    let stage = Stage::new();
    let path = stage.dir.path().join("clock.pem");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (status, said) = Server::refuses_to_start(&stage).await;
    assert!(!status.success());
    assert!(said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Server::start(&stage).await.stop().await;
    // Another log's key on this log's data.
    let other = std::fs::read(stage.dir.path().join("server.key")).unwrap();
    std::fs::write(stage.dir.path().join("log.pem"), other).unwrap();
    let (status, said) = Server::refuses_to_start(&stage).await;
    assert!(!status.success());
    assert!(said.contains("LOG_SIGNATURE"), "{said}");
}

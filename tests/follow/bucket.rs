//! Into a bucket: the S3 API as moto has it. Says so and passes where `moto_server` is not installed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use countersign_testkit::malicious::History;
use countersign_tests::await_until;

use crate::process::{Killed, Stage, text};

fn call(addr: SocketAddr, request: &str) -> Option<String> {
    let mut socket = TcpStream::connect(addr).ok()?;
    let head = "HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    socket.write_all(format!("{request} {head}").as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A server with one empty bucket, `tenant`; none where there is no such program.
async fn bucket() -> Option<(Killed, SocketAddr)> {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = addr.port().to_string();
    let mut server = Command::new("moto_server");
    server.args(["-H", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = Killed(server.spawn().ok()?);
    let created = await_until("moto", || {
        if server.0.try_wait().unwrap().is_some() {
            return Some(false);
        }
        call(addr, "PUT /tenant").map(|answer| answer.starts_with("HTTP/1.1 200"))
    })
    .await;
    created.then_some((server, addr))
}

fn with_bucket(stage: &Stage, addr: SocketAddr, more: &[&str]) -> Output {
    let mut command = stage.command(more);
    command.env("AWS_ENDPOINT", format!("http://{addr}")).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env("AWS_REGION", "us-east-1").output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_a_mirror_as_a_folder_is() {
    let Some((_server, addr)) = bucket().await else {
        println!("not run: moto_server does not start here (PyPI: moto[server])");
        return;
    };
    let stage = Stage::new();
    let mut history = History::default();
    let dir = stage.path("mirror");
    for (second, size) in [300, 301, 900].into_iter().enumerate() {
        history.grow(size - history.size());
        stage.ledger.show(&history, second as u64);
        let said = with_bucket(&stage, addr, &["--to", "s3://tenant/mirrors/a", "--once"]);
        assert!(said.status.success(), "{}", text(&said.stderr));
        assert!(stage.once(&["--dir", &dir]).status.success());
    }
    // Each head of both is of one history; the bucket holds what the folder does.
    let trust = stage.path("trust.toml");
    let compare = |other: &str| {
        let all = ["mirror", "compare", &dir, other, "--trust", &trust, "--output", "jsonl"];
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let mut command = stage.installation.command(&all);
        command.env("AWS_ENDPOINT", format!("http://{addr}")).env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("AWS_REGION", "us-east-1").output().unwrap()
    };
    let said = compare("s3://tenant/mirrors/a");
    assert!(said.status.success(), "{}", text(&said.stderr));
    let line: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(line["sizes"], serde_json::json!([900, 900]));
    assert_eq!(line["heads"], 7, "three of each, and the newest");
    // A bucket that is not there is no mirror.
    let said = with_bucket(&stage, addr, &["--to", "s3://nobody/x", "--once"]);
    assert_eq!(said.status.code(), Some(4), "{}", text(&said.stderr));
}

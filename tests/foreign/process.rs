//! Servers that run while a test does, and calling them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use countersign_core::note::VerifierKey;
use countersign_tests::{Installation, await_until};
use serde_json::Value;

use crate::tools::Tool;

/// A process that does not outlive the test, at an address on loopback.
pub(crate) struct Served {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Python's web server on a folder. It says its port in its first line.
    pub(crate) fn files(server: &Tool, dir: &Path) -> Self {
        let arguments = ["0", "--bind", "127.0.0.1", "--directory", dir.to_str().unwrap()];
        let mut command = server.command(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next());
        let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        Self { child, addr: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// `countersign witness` of logs with these keys, and its own key.
    pub(crate) async fn witness(
        installation: &Installation,
        logs: &[String],
    ) -> (Self, VerifierKey) {
        let dir = installation.beside("witness");
        let ready = installation.beside("witness.ready");
        let (dir, file) = (dir.to_str().unwrap(), ready.to_str().unwrap());
        let mut init = vec!["witness", "--dir", dir, "--init", "witness.example/w1"];
        init.extend(logs.iter().flat_map(|vkey| ["--log", vkey]));
        let said = installation.run(&init);
        assert!(said.status.success(), "{}", said.stderr);
        let vkey = VerifierKey::parse(said.stdout.trim_end()).unwrap();
        let serve = ["witness", "--dir", dir, "--http", "127.0.0.1:0", "--ready-file", file];
        let mut command = installation.command(&serve.map(str::to_owned));
        let child = silent(&mut command);
        let text = || std::fs::read_to_string(&ready).ok();
        let said: Value = await_until("the witness", || serde_json::from_str(&text()?).ok()).await;
        (Self { child, addr: said["http"].as_str().unwrap().parse().unwrap() }, vkey)
    }

    /// aics-witness of a log, and its key. It says its address on stderr.
    pub(crate) fn python_witness(
        tool: &Tool,
        dir: &Path,
        origin: &str,
        vkey: &VerifierKey,
    ) -> (Self, VerifierKey) {
        let (config, log) = (dir.join("witness.json"), vkey.to_string());
        let config = config.to_str().unwrap();
        let own = tool.says(&["init", "--config", config, "--name", "witness.example/others"]);
        tool.says(&["add-log", "--config", config, "--origin", origin, "--vkey", &log]);
        let mut command = tool.command(&["serve", "--config", config, "--listen", "127.0.0.1:0"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, address) = line.split_once("listening on http://")?;
            address.split(' ').next().unwrap().parse().ok()
        });
        // Read to its end, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let served = Self { child, addr: listening.unwrap() };
        (served, VerifierKey::parse(own.trim_end()).unwrap())
    }
}

fn silent(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Status, head and body of an answer.
pub(crate) fn call(
    addr: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String, String) {
    let mut socket = TcpStream::connect(addr).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// Asks a witness to cosign.
pub(crate) fn add_checkpoint(addr: SocketAddr, request: &str) -> (u16, String) {
    let (status, _, body) = call(addr, "POST", "/add-checkpoint", request);
    (status, body)
}

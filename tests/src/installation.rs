//! A whole installation as its users have it: made by `countersign init`, its ledger and its gate
//! running as processes of their own, everything else said on the command line.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, await_until, binary};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its data.
    pub stdout: String,
    /// Its speech.
    pub stderr: String,
}

impl Said {
    /// Each line of the data, which is JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A folder made by `init`, and what runs on it. Dropped, the processes are killed and the folder
/// goes.
pub struct Installation {
    folder: TempDir,
    ledger: Option<(Process, Value)>,
    gate: Option<(Process, Value)>,
}

impl Installation {
    /// A new one, for tenant acme and gate prod-1; nothing runs yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { folder, ledger: None, gate: None };
        let said = made.run(&[
            "init",
            "--dir",
            made.dir().to_str().unwrap(),
            "--origin",
            crate::ORIGIN,
            "--tenant",
            "acme",
            "--gate",
            "prod-1",
        ]);
        assert!(said.status.success(), "{}", said.stderr);
        made
    }

    /// The folder that `init` made.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("countersign")
    }

    /// A folder beside it, for what a test writes and what commands leave.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of an identity, such as `pep`.
    pub fn identity(&self, name: &str) -> String {
        self.dir().join("identities").join(name).to_str().unwrap().to_owned()
    }

    /// The ledger's gRPC address.
    pub fn ledger_address(&self) -> String {
        self.ledger.as_ref().unwrap().1["grpc"].as_str().unwrap().to_owned()
    }

    /// The gate's gRPC address.
    pub fn gate_address(&self) -> String {
        self.gate.as_ref().unwrap().1["grpc"].as_str().unwrap().to_owned()
    }

    /// The gate's `AuthZEN` address.
    pub fn authzen_address(&self) -> String {
        self.gate.as_ref().unwrap().1["authzen"].as_str().unwrap().to_owned()
    }

    /// The ledger's HTTP address.
    pub fn ledger_http(&self) -> SocketAddr {
        self.ledger.as_ref().unwrap().1["http"].as_str().unwrap().parse().unwrap()
    }

    /// Starts the ledger and waits until it can be called.
    pub async fn start_ledger(&mut self) {
        self.start_ledger_with(&[]).await;
    }

    /// The same with more arguments.
    pub async fn start_ledger_with(&mut self, more: &[&str]) {
        self.ledger = Some(self.start("serve", more).await);
    }

    /// Starts a ledger that must not begin to serve, and gives what it said.
    pub fn ledger_refuses(&self, more: &[&str]) -> Said {
        let dir = self.dir();
        let mut all = vec!["serve", "--dir", dir.to_str().unwrap()];
        all.extend(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        all.extend(more);
        let said = self.run(&all);
        assert!(!said.status.success(), "it ended well: {}", said.stderr);
        said
    }

    /// Refusals of an external gate, with action ids from `first` on, submitted and proved.
    pub fn submit(&self, count: u32, first: u32) {
        let file = self.beside("verdicts.jsonl");
        std::fs::write(&file, verdicts(count, first)).unwrap();
        let out = self.beside(&format!("out-{first}"));
        let (server, gate) = (self.ledger_address(), self.identity("gate"));
        let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
        let call = ["submit", file, "--server", &server, "--identity", &gate, "--out", out];
        let said = self.run(&call);
        assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    }

    /// Asks the ledger to end, and waits until it has.
    pub async fn stop_ledger(&mut self) {
        let (mut process, _) = self.ledger.take().unwrap();
        process.terminate();
        let status = await_until("the ledger to end", || process.ended()).await;
        assert!(status.success(), "{status}");
    }

    /// Starts the gate and waits until it can be called.
    pub async fn start_gate(&mut self) {
        let ledger = self.ledger_address();
        let own = ["--ledger", &ledger, "--authzen", "127.0.0.1:0"];
        self.gate = Some(self.start("gate", &own).await);
    }

    /// Kills the ledger: no drain, no goodbye.
    pub fn kill_ledger(&mut self) {
        self.ledger = None;
    }

    /// Kills the gate: no drain, no goodbye.
    pub fn kill_gate(&mut self) {
        self.gate = None;
    }

    async fn start(&self, what: &str, more: &[&str]) -> (Process, Value) {
        let ready = self.beside(&format!("{what}.ready"));
        let _ = std::fs::remove_file(&ready);
        let log = self.beside(&format!("{what}.log"));
        let mut command = clean(what);
        command.arg("--dir").arg(self.dir()).arg("--ready-file").arg(&ready);
        command.args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(more);
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let mut process = Process::of(command.spawn().unwrap());
        let said = await_until(what, || {
            if let Some(status) = process.ended() {
                let why = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("{what} ended with {status} before it was ready:\n{why}");
            }
            let text = std::fs::read_to_string(&ready).ok()?;
            serde_json::from_str(&text).ok()
        })
        .await;
        (process, said)
    }

    /// A command that is about to run.
    pub fn command(&self, arguments: &[String]) -> Command {
        let (what, rest) = arguments.split_first().unwrap();
        let mut command = clean(what);
        command.args(rest).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let (what, rest) = arguments.split_first().unwrap();
        let output = clean(what).args(rest).stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The same towards the gate, as this identity; it must succeed.
    pub fn gate(&self, arguments: &[&str], identity: &str) -> Said {
        let (address, folder) = (self.gate_address(), self.identity(identity));
        let mut all = arguments.to_vec();
        all.extend(["--gate", &address, "--identity", &folder]);
        let said = self.run(&all);
        assert!(said.status.success(), "{all:?}: {}{}", said.stdout, said.stderr);
        said
    }

    /// Puts a pack of the repository in force: its directory and its policy.
    pub async fn use_pack(&mut self, pack: &Path) {
        let directory = self.dir().join("gate/directory.json");
        std::fs::create_dir_all(directory.parent().unwrap()).unwrap();
        std::fs::copy(pack.join("directory.json"), directory).unwrap();
        if self.gate.is_none() {
            self.start_gate().await;
        }
        let folder = pack.to_str().unwrap();
        let id = pack.file_name().unwrap().to_str().unwrap();
        let command = ["policy", "activate", folder, "--policy-id", id, "--version", "1"];
        self.gate(&command, "policy-admin");
    }
}

impl Default for Installation {
    fn default() -> Self {
        Self::new()
    }
}

fn verdicts(count: u32, first: u32) -> String {
    let line = |number: u32| {
        format!(
            "{{\"action\":\"ec2:Act\",\"action_id\":\"01a1f6af-1068-7351-869a-{number:012x}\",\
             \"actor\":{{\"kind\":\"agent\",\"id\":\"a\",\"class\":null,\"session\":null,\
             \"model\":null,\"on_behalf_of\":null}},\"mode\":\"enforce\",\"outcome\":\"refuse\"}}\n"
        )
    };
    (first..first + count).map(line).collect()
}

/// A command without the caller's own settings.
fn clean(what: &str) -> Command {
    let mut command = Command::new(binary());
    command.arg(what);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COUNTERSIGN_") {
            command.env_remove(name);
        }
    }
    command
}

//! A whole installation as its users have it: made by `countersign init`, its ledger and its gate
//! running as processes of their own, everything else said on the command line.

use std::fs::File;
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

    /// Starts the ledger and waits until it can be called.
    pub async fn start_ledger(&mut self) {
        self.ledger = Some(self.start("serve", &[]).await);
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

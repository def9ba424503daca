//! The programs of the demonstration: the ledger as a child, the commands, the verifier.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use countersign_client::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Identity;
use crate::exit::Failure;
use crate::files::{SMALL_FILE_BYTES_MAX, read_text, shown};

/// For the ledger to be ready, and to stop: generous, since a slow disk is no fault.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at the ready file.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A free port of this machine, for nobody else.
pub(super) const ANY_PORT: &str = "127.0.0.1:0";

/// Where everything is.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) verifier: PathBuf,
    pub(super) program: PathBuf,
}

/// A ledger or a gate as a child process. It is killed if it is dropped before it was stopped.
pub(super) struct Service {
    child: Child,
    pub(super) grpc: String,
    http: String,
}

/// The ready file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadyFile {
    grpc: String,
    http: String,
    /// A gate's.
    #[serde(rename = "authzen", default)]
    _authzen: Option<String>,
    pid: u32,
    #[serde(rename = "origin")]
    _origin: String,
}

impl Stage {
    pub(super) fn new(dir: PathBuf, verifier: PathBuf) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::io(format!("this program can't find itself: {error}")))?;
        if !verifier.is_file() {
            return Err(Failure::usage(format!(
                "{} is not there. Give --verifier the countersign-verify program; cargo build \
                 --workspace makes it.",
                shown(&verifier)
            )));
        }
        Ok(Self { dir, verifier, program })
    }

    /// This program as a child, free of the caller's `COUNTERSIGN_*`, which would change the steps.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        clean(&mut command);
        command
    }

    /// Starts the ledger, on the port that it had before where it had one.
    pub(super) async fn ledger(&self, grpc: &str) -> Result<Service, Failure> {
        self.start("serve", &["--grpc", grpc]).await
    }

    /// Starts the gate in front of a ledger.
    pub(super) async fn gate(&self, ledger: &Service) -> Result<Service, Failure> {
        self.start("gate", &["--grpc", ANY_PORT, "--authzen", ANY_PORT, "--ledger", &ledger.grpc])
            .await
    }

    /// Starts a service and waits until it can be called.
    async fn start(&self, what: &str, arguments: &[&str]) -> Result<Service, Failure> {
        let ready_file = self.dir.join(format!("{what}.ready.json"));
        let mut command = self.command();
        command.arg(what).arg("--dir").arg(&self.dir).args(["--http", ANY_PORT]);
        command.args(arguments).arg("--ready-file").arg(&ready_file);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| Failure::file(&self.program, &error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // It is put in place whole, so that what can be read can be parsed.
            if ready_file.exists() {
                let text = read_text(&ready_file, SMALL_FILE_BYTES_MAX)?;
                let ready: ReadyFile = serde_json::from_str(&text)
                    .map_err(|error| Failure::internal(format!("the ready file: {error}")))?;
                if child.id() == Some(ready.pid) {
                    return Ok(Service { child, grpc: ready.grpc, http: ready.http });
                }
            }
            let ended = child.try_wait().map_err(|error| Failure::io(error.to_string()))?;
            if let Some(status) = ended {
                return Err(Failure::io(format!(
                    "countersign {what} ended with {status}; it said why above."
                )));
            }
            if Instant::now() >= deadline {
                return Err(Failure::io(format!(
                    "countersign {what} was not ready within two minutes."
                )));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs a command of this program to its end; gives its data. It must succeed.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = self.command();
        command.args(arguments);
        let (status, text) = self.output(command).await?;
        expect_code(status, 0, &format!("countersign {}", arguments.first().unwrap_or(&"")))?;
        Ok(text)
    }

    /// Has a file of intents judged as the enforcement point; gives the answers, one a line.
    pub(super) async fn evaluate(
        &self,
        gate: &Service,
        file: &Path,
        out: &str,
    ) -> Result<Vec<Value>, Failure> {
        let (file, identity) = (path(file)?, path(&self.identity("pep"))?);
        let out = path(&self.dir.join(out))?;
        let text = self
            .run(&[
                "evaluate",
                &file,
                "--gate",
                &gate.grpc,
                "--identity",
                &identity,
                "--out",
                &out,
                "--output",
                "jsonl",
                "--in-flight",
                "32",
            ])
            .await?;
        let line = |line| {
            serde_json::from_str(line)
                .map_err(|error| Failure::internal(format!("an answer is no JSON: {error}")))
        };
        text.lines().map(line).collect()
    }

    /// Has an auditor pack everything that the tenant has, complete up to the newest head.
    pub(super) async fn pack(&self, ledger: &Service) -> Result<PathBuf, Failure> {
        let (auditor, out) = (path(&self.identity("auditor"))?, self.dir.join("pack"));
        let folder = path(&out)?;
        let connection = ["--server", &ledger.grpc, "--identity", &auditor];
        let arguments = ["pack", "--complete", "--out", &folder];
        tell_raw!("{}", self.run(&[&arguments[..], &connection].concat()).await?);
        Ok(out)
    }

    /// Has an auditor keep a copy of the log, with the tenant's evidence beside it.
    pub(super) async fn mirror(&self, ledger: &Service) -> Result<PathBuf, Failure> {
        let (auditor, out) = (path(&self.identity("auditor"))?, self.dir.join("mirror"));
        let folder = path(&out)?;
        let trust = path(&self.dir.join("trust.toml"))?;
        let from = format!("http://{}", ledger.http);
        let place = ["mirror", "--once", "--dir", &folder, "--from", &from, "--trust", &trust];
        let connection = ["--server", &ledger.grpc, "--identity", &auditor];
        tell_raw!("{}", self.run(&[&place[..], &connection].concat()).await?);
        Ok(out)
    }

    /// The folder of an identity.
    pub(super) fn identity(&self, name: &str) -> PathBuf {
        self.dir.join("identities").join(name)
    }

    /// Runs the verifier on some files; what it says goes where this program's own data goes.
    pub(super) async fn verify(
        &self,
        what: &str,
        files: &[&Path],
        expected: i32,
    ) -> Result<(), Failure> {
        let mut command = Command::new(&self.verifier);
        clean(&mut command);
        command.args(what.split(' ')).args(files).arg("--trust").arg(self.dir.join("trust.toml"));
        let status = command.stdin(Stdio::null()).status().await;
        let status = status.map_err(|error| Failure::file(&self.verifier, &error))?;
        expect_code(status, expected, "countersign-verify")
    }

    /// Runs the verifier on every evidence file; gives their outcomes, all files being VALID.
    pub(super) async fn verify_all(&self) -> Result<Vec<String>, Failure> {
        let folder = self.dir.join("evidence");
        let entries = std::fs::read_dir(&folder).map_err(|error| Failure::file(&folder, &error))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension() == Some(OsStr::new("evidence")));
        files.sort();
        let mut command = Command::new(&self.verifier);
        clean(&mut command);
        command.arg("evidence").args(&files).args(["--output", "json", "--trust"]);
        command.arg(self.dir.join("trust.toml"));
        let (status, text) = self.output(command).await?;
        expect_code(status, 0, "countersign-verify")?;
        let report: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::internal(format!("the verifier's report: {error}")))?;
        let reports = report.get("files").and_then(Value::as_array).cloned().unwrap_or_default();
        let outcome = |report: &Value| {
            let said = |name| report.get(name).and_then(Value::as_str);
            let valid = said("result") == Some("VALID");
            said("outcome").filter(|_| valid).map(str::to_owned)
        };
        let outcomes: Option<Vec<String>> = reports.iter().map(outcome).collect();
        outcomes.ok_or_else(|| Failure::invalid("an evidence file is not a VALID verdict."))
    }

    /// A connection as one of the identities that init made.
    pub(super) async fn client(&self, ledger: &Service, identity: &str) -> Result<Client, Failure> {
        let identity = Identity::read(&self.dir.join("identities").join(identity))?;
        Ok(Client::connect(identity.client_config(&ledger.grpc)).await?)
    }

    /// Runs a program for what it prints; what it says goes to standard error as it comes.
    async fn output(&self, mut command: Command) -> Result<(ExitStatus, String), Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.kill_on_drop(true).spawn();
        let child = child.map_err(|error| Failure::file(&self.program, &error))?;
        let output = child.wait_with_output().await;
        let output = output.map_err(|error| Failure::io(error.to_string()))?;
        let text = String::from_utf8(output.stdout)
            .map_err(|_| Failure::internal("a program printed what is no text"))?;
        Ok((output.status, text))
    }
}

impl Service {
    /// Tells it to stop, as an init system does, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let pid = self.child.id().ok_or_else(|| Failure::io("a service has ended by itself."))?;
        // The shell's own kill is there where a program of that name is not.
        let asked = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await;
        let asked = asked.map_err(|error| Failure::io(format!("sh: {error}")))?;
        expect_code(asked, 0, "kill")?;
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .map_err(|_| Failure::io("a service did not stop within two minutes of SIGTERM."))?
            .map_err(|error| Failure::io(error.to_string()))?;
        expect_code(status, 0, "the service")
    }
}

/// A path as an argument.
pub(super) fn path(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("{} is no UTF-8 text.", shown(path))))
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("COUNTERSIGN_"));
        // How much the ledger logs is for who calls to say.
        if ours && name != "COUNTERSIGN_LOG" {
            command.env_remove(name);
        }
    }
}

fn expect_code(status: ExitStatus, expected: i32, what: &str) -> Result<(), Failure> {
    if status.code() == Some(expected) {
        return Ok(());
    }
    Err(Failure::invalid(format!("{what} ended with {status}; exit code {expected} was expected.")))
}

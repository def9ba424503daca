//! The real `countersign serve`, as a process that can be stopped and killed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stage::{ORIGIN, Stage};

/// How long a process may take to begin or to end, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// Looks until `found` says something; panics with `what` after a minute. Whatever else runs in the
/// test goes on meanwhile: a client must answer a server that ends.
pub async fn await_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// A process that does not outlive the test, however that ends.
pub(crate) struct Process(Child);

impl Process {
    /// Of a child.
    pub(crate) fn of(child: Child) -> Self {
        Self(child)
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running ledger; it is killed when this is dropped.
pub struct Server {
    process: Process,
    stderr: PathBuf,
    /// The gRPC port.
    pub grpc: SocketAddr,
    /// The HTTP port.
    pub http: SocketAddr,
}

/// `countersign`, beside the folder that holds this test's own program.
pub(crate) fn binary() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let this = std::env::current_exe().unwrap();
        let mut folders = this.ancestors().skip(1).take(3);
        let found = folders.find_map(|dir| {
            let path = dir.join("countersign");
            path.is_file().then_some(path)
        });
        let Some(path) = found else {
            panic!(
                "the program `countersign` was not built beside {}: run `cargo test --workspace`, \
                 which builds it, or `cargo build --workspace` first",
                this.display()
            )
        };
        assert_fresh(&path);
        path
    })
}

/// Panics where the program is older than what it is made of: `cargo test --test NAME` builds the
/// test and not the program, and would test what was there before.
fn assert_fresh(program: &Path) {
    // Cargo's list of a program's sources; a space in a name is escaped.
    let Ok(list) = std::fs::read_to_string(program.with_extension("d")) else { return };
    let Some((_, sources)) = list.split_once(": ") else { return };
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let built = modified(program).unwrap();
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources = sources.trim_end().replace("\\ ", "\0");
    let sources = sources.split(' ').map(|source| PathBuf::from(source.replace('\0', " ")));
    // What a build script wrote is as new as the last build, whatever that built.
    // A target folder that two checkouts share may list the other's, of which nothing follows.
    for source in sources.filter(|source| source.starts_with(tree)) {
        assert!(
            modified(&source).is_none_or(|changed| changed <= built),
            "{} was changed after {} was built: run `cargo build --workspace` first",
            source.display(),
            program.display()
        );
    }
}

fn spawn(stage: &Stage, ready: &Path, stderr: &Path) -> Process {
    let mut command = Command::new(binary());
    command.arg("serve").arg("--dir").arg(stage.dir.path());
    command.args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-file"]).arg(ready);
    for (name, _) in std::env::vars_os() {
        // The caller's own settings are not this ledger's.
        if name.to_string_lossy().starts_with("COUNTERSIGN_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(stderr).unwrap());
    Process(command.spawn().unwrap())
}

async fn exits(process: &mut Process) -> ExitStatus {
    await_until("the ledger to end", || process.0.try_wait().unwrap()).await
}

impl Server {
    /// Starts a ledger and waits until it is ready.
    pub async fn start(stage: &Stage) -> Self {
        let ready = stage.dir.path().join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let stderr = stage.dir.path().join("stderr.log");
        let mut process = spawn(stage, &ready, &stderr);
        let said = await_until("the ledger to be ready", || {
            if let Some(status) = process.0.try_wait().unwrap() {
                let said = std::fs::read_to_string(&stderr).unwrap_or_default();
                panic!("the ledger ended before it was ready ({status}): {said}");
            }
            // Half a file does not parse, and is looked at again.
            let text = std::fs::read_to_string(&ready).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        })
        .await;
        assert_eq!(said["pid"].as_u64(), Some(u64::from(process.0.id())), "{said}");
        assert_eq!(said["origin"].as_str(), Some(ORIGIN), "{said}");
        let port = |name: &str| said[name].as_str().unwrap().parse().unwrap();
        Self { grpc: port("grpc"), http: port("http"), process, stderr }
    }

    /// Starts a ledger that must refuse to, and gives how it ended and what it said.
    pub async fn refuses_to_start(stage: &Stage) -> (ExitStatus, String) {
        let ready = stage.dir.path().join("refused-ready.json");
        let stderr = stage.dir.path().join("refused-stderr.log");
        let mut process = spawn(stage, &ready, &stderr);
        let status = exits(&mut process).await;
        assert!(!ready.exists(), "it said that it was ready");
        (status, std::fs::read_to_string(&stderr).unwrap())
    }

    /// Kills it: no handler runs, nothing is flushed.
    pub fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Asks it to end.
    pub fn ask_to_end(&self) {
        self.process.terminate();
    }

    /// Waits until it has ended, and gives how and what it said.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = exits(&mut self.process).await;
        (status, std::fs::read_to_string(&self.stderr).unwrap())
    }

    /// Asks it to end and waits until it has, well.
    pub async fn stop(self) {
        self.ask_to_end();
        let (status, said) = self.ended().await;
        assert!(status.success(), "{status}: {said}");
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.0.try_wait().unwrap().is_none()
    }
}

//! `serve`: the ledger, until SIGTERM or SIGINT.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use countersign_core::codes::Code;
use countersign_core::encoding::escaped;
use countersign_server::run::{Ready, run_ledger};
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::args::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::files::{SMALL_FILE_BYTES_MAX, read_text, replace, shown};
use crate::identity::Identity;
use crate::settings;

pub(crate) async fn run(args: ServeArgs) -> Result<Exit, Failure> {
    log_to_stderr();
    let mut config = settings::read(&args.dir, &args.overrides)?;
    if args.insecure_dev && config.insecure_dev_identity.is_none() {
        let gate = Identity::read(&args.dir.join("identities/gate"))?;
        config.insecure_dev_identity = Some(gate.spiffe.to_string());
    }
    let checked = config.check(args.insecure_dev).map_err(|error| settings::failure(&error))?;
    let checked = checked.beginning_without_witnesses(args.without_witnesses);
    if args.insecure_dev {
        eprintln!(
            "countersign: INSECURE: plain TCP, and whoever connects is the gate. Loopback only."
        );
    }
    let ready_file = ReadyFile::new(args.ready_file)?;
    let mut unwritten = None;
    let on_ready = |ready: &Ready| {
        eprintln!(
            "countersign: {} serves gRPC on {} and HTTP on {}.",
            escaped(&ready.origin),
            ready.grpc,
            ready.http
        );
        unwritten = ready_file.write(ready.grpc, ready.http, None, &ready.origin).err();
    };
    let ended = run_ledger(checked, on_ready).await;
    ready_file.remove();
    ended.map_err(|error| {
        let message = explained(&error, error.code());
        // Which keys there are and who may read them is configuration.
        let wrong = error.code() == Some(Code::ConfigInvalid);
        if wrong { Failure::usage(message) } else { Failure::io(message) }
    })?;
    unwritten.map_or(Ok(Exit::Success), Err)
}

/// Why a process ended, and where more is said of it.
pub(crate) fn explained(error: &dyn std::fmt::Display, code: Option<Code>) -> String {
    let code = code.map(|code| format!(" (countersign explain {})", code.as_str()));
    format!("{}{}", escaped(&error.to_string()), code.unwrap_or_default())
}

/// The file that says where a process serves, as long as it does; none where none was asked for.
pub(crate) struct ReadyFile(Option<PathBuf>);

impl ReadyFile {
    /// A ready file of an earlier run would be believed, and is removed. That of a process which
    /// runs is true, and this one is about to find the port or the store taken.
    pub(crate) fn new(path: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self(None)) };
        // In a container an earlier run had the same id as this one, which has written nothing yet.
        let other = pid_in(&path).filter(|pid| *pid != std::process::id());
        if other.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
            return Ok(Self(Some(path)));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::file(&path, &error))
            }
            _ => Ok(Self(Some(path))),
        }
    }

    /// Says where this process serves; a gate names its `AuthZEN` port as well.
    pub(crate) fn write(
        &self,
        grpc: SocketAddr,
        http: SocketAddr,
        authzen: Option<SocketAddr>,
        origin: &str,
    ) -> Result<(), Failure> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut text = json!({
            "grpc": grpc.to_string(),
            "http": http.to_string(),
            "pid": std::process::id(),
            "origin": origin,
        });
        if let (Some(authzen), Some(members)) = (authzen, text.as_object_mut()) {
            members.insert("authzen".to_owned(), authzen.to_string().into());
        }
        replace(path, format!("{text}\n").as_bytes()).inspect_err(|_| {
            eprintln!("countersign: the ready file {} can't be written.", shown(path));
        })
    }

    /// Gone is the promise that somebody serves there; an error here changes nothing any more.
    /// Where this process never served, the file is of the one that does.
    pub(crate) fn remove(&self) {
        if let Some(path) = &self.0
            && pid_in(path) == Some(std::process::id())
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The process that a ready file names.
fn pid_in(path: &Path) -> Option<u32> {
    let text = read_text(path, SMALL_FILE_BYTES_MAX).ok()?;
    let ready: serde_json::Value = serde_json::from_str(&text).ok()?;
    ready.get("pid")?.as_u64()?.try_into().ok()
}

/// The log of a ledger or a gate, to standard error: `COUNTERSIGN_LOG` filters it, by default from `info`.
pub(crate) fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("COUNTERSIGN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = !no_colour && std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi);
    // Fails only when there is a subscriber already, which then does the same.
    let _ = subscriber.try_init();
}

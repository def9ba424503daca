//! `serve`: the ledger, until SIGTERM or SIGINT.

use std::io::IsTerminal as _;
use std::path::Path;

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
    if args.insecure_dev {
        eprintln!(
            "countersign: INSECURE: plain TCP, and whoever connects is the gate. Loopback only."
        );
    }
    if let Some(path) = &args.ready_file {
        remove_stale(path)?;
    }
    let ready_file = args.ready_file.clone();
    let mut unwritten = None;
    let on_ready = |ready: &Ready| {
        eprintln!(
            "countersign: {} serves gRPC on {} and HTTP on {}.",
            escaped(&ready.origin),
            ready.grpc,
            ready.http
        );
        if let Some(path) = &ready_file {
            unwritten = write_ready(path, ready).err();
        }
    };
    let ended = run_ledger(checked, on_ready).await;
    if let Some(path) = &args.ready_file {
        // Gone is the promise that somebody serves there; an error here changes nothing any more.
        // Where this one never served, the file is of the ledger that does.
        if pid_in(path) == Some(std::process::id()) {
            let _ = std::fs::remove_file(path);
        }
    }
    match (ended, unwritten) {
        (Ok(()), None) => Ok(Exit::Success),
        (Ok(()), Some(failure)) => Err(failure),
        (Err(error), _) => {
            let code = error.code().map(|code| format!(" (countersign explain {})", code.as_str()));
            let message = format!("{}{}", escaped(&error.to_string()), code.unwrap_or_default());
            // Which keys there are and who may read them is configuration.
            let wrong = error.code() == Some(Code::ConfigInvalid);
            Err(if wrong { Failure::usage(message) } else { Failure::io(message) })
        }
    }
}

/// The process that a ready file names.
fn pid_in(path: &Path) -> Option<u32> {
    let text = read_text(path, SMALL_FILE_BYTES_MAX).ok()?;
    let ready: serde_json::Value = serde_json::from_str(&text).ok()?;
    ready.get("pid")?.as_u64()?.try_into().ok()
}

/// A ready file of an earlier run would be believed. That of a ledger which runs is true, and this
/// one is about to find the store locked.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    // In a container an earlier run had the same id as this one, which has written nothing yet.
    let other = pid_in(path).filter(|pid| *pid != std::process::id());
    if other.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
        return Ok(());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::file(path, &error))
        }
        _ => Ok(()),
    }
}

fn write_ready(path: &Path, ready: &Ready) -> Result<(), Failure> {
    let text = json!({
        "grpc": ready.grpc.to_string(),
        "http": ready.http.to_string(),
        "pid": std::process::id(),
        "origin": ready.origin,
    });
    replace(path, format!("{text}\n").as_bytes()).inspect_err(|_| {
        eprintln!("countersign: the ready file {} can't be written.", shown(path));
    })
}

/// The ledger's own log, to standard error: `COUNTERSIGN_LOG` filters it, by default from `info`.
fn log_to_stderr() {
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

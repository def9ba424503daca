//! `witness`: cosigns the heads of logs until SIGTERM or SIGINT.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::encoding::escaped;
use countersign_core::note::{KeyType, VerifierKey};
use countersign_mirror::witness::config::{CONFIG_BYTES_MAX, WitnessConfig};
use countersign_mirror::witness::{HeadFolder, Witness, http::router};
use countersign_server::drain::drain;
use countersign_server::http::{self, Readiness};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::args::WitnessArgs;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::files::{
    SMALL_FILE_BYTES_MAX, make_folder, read_text, replace, shown, sync_folder, write_new,
};
use crate::pki::Key;
use crate::serve::{ReadyFile, log_to_stderr};

/// The configuration's file in the witness's folder.
const CONFIG: &str = "witness.toml";
/// The file of the key that `--init` makes.
const KEY: &str = "witness.pem";
/// The folder of the heads that were cosigned.
const HEADS: &str = "heads";
/// Connections that may be open at once.
const CONNECTIONS_MAX: usize = 256;
/// How long what is in flight may take to end.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn run(args: WitnessArgs) -> Result<Exit, Failure> {
    if let Some(name) = &args.init {
        return init(&args.dir, name, &args.log);
    }
    crate::in_runtime(serve(args))
}

#[derive(Serialize)]
struct ConfigFile<'a> {
    name: &'a str,
    key: &'a str,
    log: Vec<LogSection<'a>>,
}

#[derive(Serialize)]
struct LogSection<'a> {
    vkeys: [&'a str; 1],
}

/// Makes the folder; what is there already is left alone and refused.
fn init(dir: &Path, name: &str, logs: &[String]) -> Result<Exit, Failure> {
    let key = Key::generate()?;
    let public = key.key.verifying_key().to_bytes();
    let vkey = VerifierKey::new(name, KeyType::Cosignature, public).map_err(|fault| {
        let name = escaped(name);
        Failure::usage(format!("{name} serves for no key: {fault}"))
    })?;
    let log = logs.iter().map(|vkey| LogSection { vkeys: [vkey.as_str()] }).collect();
    let text = toml::to_string(&ConfigFile { name, key: KEY, log })
        .map_err(|error| Failure::internal(format!("a file can't be written as TOML: {error}")))?;
    WitnessConfig::parse(&text).map_err(|error| Failure::usage(error.to_string()))?;
    make_folder(dir)?;
    write_new(&dir.join(KEY), key.pem.as_bytes())?;
    write_new(&dir.join(CONFIG), text.as_bytes())?;
    sync_folder(dir)?;
    tell!("{vkey}");
    Ok(Exit::Success)
}

/// The key, in a file that nobody else may touch.
fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| Failure::file(path, &error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = shown(path);
        return Err(Failure::usage(format!(
            "the key {path} is open to others than its owner (mode {mode:04o}). Run: chmod 600 {path}"
        )));
    }
    let pem = Zeroizing::new(read_text(path, SMALL_FILE_BYTES_MAX)?);
    // What the parser says is left out: it may show parts of what it read.
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| {
        Failure::usage(format!("{} is not an Ed25519 key as PKCS#8 PEM.", shown(path)))
    })
}

fn open(dir: &Path) -> Result<Witness<HeadFolder>, Failure> {
    let path = dir.join(CONFIG);
    let config = WitnessConfig::parse(&read_text(&path, CONFIG_BYTES_MAX)?)
        .map_err(|error| Failure::usage(format!("{}: {error}", shown(&path))))?;
    let key = read_key(&dir.join(&config.key))?;
    let heads = dir.join(HEADS);
    let heads = HeadFolder::open(&heads).map_err(|error| Failure::file(&heads, &error))?;
    Witness::open(&config.name, key, config.logs, heads)
        .map_err(|error| Failure::usage(format!("{}: {error}.", shown(dir))))
}

async fn serve(args: WitnessArgs) -> Result<Exit, Failure> {
    log_to_stderr();
    let ready_file = ReadyFile::new(args.ready_file.clone())?;
    let (trigger, drain) = drain();
    let signals = trigger.on_signals();
    signals.map_err(|error| Failure::internal(format!("signals can't be handled: {error}")))?;
    let witness = Arc::new(open(&args.dir)?);
    let failed = |error: std::io::Error| {
        Failure::io(format!("cannot listen on {}: {error}. Is another process there?", args.http))
    };
    let listener = TcpListener::bind(args.http).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let mut registry = Registry::default();
    let routes = router(Arc::clone(&witness), || clock::now().seconds(), &mut registry);
    let (_readiness, watched) = watch::channel(Readiness::Ready);
    let routes = http::router(watched, Arc::new(registry), drain.clone()).merge(routes);
    let (vkey, logs) = (witness.vkey().to_string(), witness.origins().count());
    eprintln!("countersign: witness {} of {logs} logs serves HTTP on {addr}.", escaped(&vkey));
    let ready = json!({ "http": addr.to_string(), "pid": std::process::id(), "vkey": vkey });
    if let Some(path) = &args.ready_file {
        replace(path, format!("{ready}\n").as_bytes())?;
    }
    let mut stop = drain.clone();
    let ended = tokio::select! {
        ended = http::serve(listener, CONNECTIONS_MAX, routes, drain) => ended,
        () = async { stop.started().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    };
    ready_file.remove();
    ended.map(|()| Exit::Success).map_err(|error| Failure::io(format!("HTTP failed: {error}.")))
}

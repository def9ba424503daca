//! `doctor`: looks at an installation part by part, and names for each fault what mends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use countersign_client::Client;
use countersign_core::cert::{CertError, TrustAnchor, split_pem_bundle, verify_chain};
use countersign_core::codes::Code;
use countersign_core::note::{KeyType, VerifierKey};
use countersign_core::trust::Trust;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use zeroize::Zeroizing;

use crate::args::{DoctorArgs, Overrides};
use crate::exit::{Exit, Failure};
use crate::files::{SMALL_FILE_BYTES_MAX, read_text, read_trust, shown};
use crate::identity::Identity;
use crate::init::BEGIN_FILE;
use crate::settings;

/// A certificate that ends within this time is worth a warning: a month to have it renewed.
const RENEWAL_US: u64 = 30 * 86_400 * 1_000_000;

/// What was found, printed as it is found.
#[derive(Default)]
struct Findings {
    faults: usize,
    warnings: usize,
}

impl Findings {
    fn good(what: &str) {
        tell!("ok       {what}");
    }

    fn warn(&mut self, what: &str) {
        self.warnings += 1;
        tell!("warning  {what}");
    }

    fn fault(&mut self, what: &str) {
        self.faults += 1;
        tell!("FAULT    {what}");
    }

    /// Notes a part that is there, or the fault in its place.
    fn take<T>(&mut self, what: &str, part: Result<T, Failure>) -> Option<T> {
        match part {
            Ok(part) => {
                Self::good(what);
                Some(part)
            }
            Err(failure) => {
                self.fault(&format!("{what}: {}", failure.message));
                None
            }
        }
    }
}

pub(crate) async fn run(args: DoctorArgs) -> Result<Exit, Failure> {
    let mut found = Findings::default();
    let dir = args.dir.as_path();
    let config = match settings::read(dir, &Overrides::default()) {
        // Where nothing is there is nothing to look at.
        Err(failure) if failure.exit == Exit::Io => return Err(failure),
        config => config,
    };
    if let Some(config) = found.take("countersign.toml", config) {
        let checked = config.clone().check(false).map_err(|error| settings::failure(&error));
        let checked = found.take("configuration, roots and TLS files", checked);
        permissions(&mut found, dir, &config.data_dir);
        data(&mut found, &config.data_dir);
        let trust = found.take("trust.toml", read_trust(&dir.join("trust.toml")));
        if let Some(trust) = &trust {
            keys(&mut found, &config.origin, &config.keys, trust);
        }
        if let Some(tls) = &config.tls {
            server_certificate(&mut found, &tls.cert);
        }
        let (gates, people) = checked
            .as_ref()
            .map_or((&[][..], &[][..]), |checked| (checked.gate_roots(), checked.people_roots()));
        identities(&mut found, dir, &[gates, people].concat(), trust.as_ref());
    }
    if let Some(server) = &args.server {
        reach(&mut found, dir, server).await;
    }
    let Findings { faults, warnings } = found;
    let (faults_said, warnings_said) = (counted(faults, "fault"), counted(warnings, "warning"));
    eprintln!("countersign: {faults_said}, {warnings_said}.");
    Ok(if faults == 0 { Exit::Success } else { Exit::Invalid })
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The data folder holds a log with its anchor beside it, or may begin one.
fn data(found: &mut Findings, folder: &Path) {
    let name = shown(folder);
    if !folder.is_dir() {
        return found.fault(&format!(
            "the data folder {name} is not there. If the log was moved, name its folder as \
             data_dir; a ledger whose log was lost must not begin anew."
        ));
    }
    let there = |path: &str| folder.join(path).exists();
    let said = |code: Code| format!("{}: {} {}", code.as_str(), code.what(), code.remedy());
    match (there("db/CURRENT"), there("anchor")) {
        (true, true) => Findings::good(&format!("{name}, a database with its anchor")),
        (true, false) => found.fault(&format!("{name}: {}", said(Code::AnchorMissing))),
        (false, true) => found.fault(&format!(
            "{name} has an anchor and no database: acknowledged entries are gone. Restore both \
             together, from one backup."
        )),
        (false, false) if there(BEGIN_FILE) => {
            Findings::good(&format!("{name}, where a log is to begin"));
        }
        (false, false) => found.fault(&format!("{name}: {}", said(Code::LogAbsent))),
    }
}

/// Private keys must be their owner's alone, and so must the folders that hold them.
fn permissions(found: &mut Findings, dir: &Path, data_dir: &Path) {
    let mut paths = vec![dir.to_owned(), data_dir.to_owned()];
    for folder in ["keys", "tls", "pki", "identities"] {
        collect(&dir.join(folder), &mut paths);
    }
    let mut open = 0;
    for path in paths {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        let in_keys = path.parent().is_some_and(|folder| folder.ends_with("keys"));
        let is_key = in_keys || path.to_string_lossy().ends_with("key.pem");
        if mode & 0o077 != 0 && (is_key || metadata.is_dir()) {
            open += 1;
            let (name, wanted) = (shown(&path), if metadata.is_dir() { "700" } else { "600" });
            found.fault(&format!(
                "{name} is open to others (mode {mode:03o}). Run: chmod {wanted} {name}"
            ));
        }
    }
    if open == 0 {
        Findings::good("permissions of keys and folders");
    }
}

/// A folder and what is below it; two levels are all that init makes.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    paths.push(folder.to_owned());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let below = fs::read_dir(&path).into_iter().flatten().flatten();
            paths.extend(below.map(|entry| entry.path()));
        }
        paths.push(path);
    }
}

/// The ledger's private keys are those that the trust file names.
fn keys(
    found: &mut Findings,
    origin: &str,
    files: &countersign_server::config::KeyFiles,
    trust: &Trust,
) {
    let Some(log) = trust.logs_of(origin).next() else {
        found.fault(&format!(
            "trust.toml names no log {origin}. Take trust.toml and countersign.toml from one init."
        ));
        return;
    };
    let parts = [
        (&files.log, "", KeyType::Note, std::slice::from_ref(&log.vkey)),
        (&files.clock, "/clock", KeyType::Cosignature, log.clocks.as_slice()),
        (&files.ledger, "/ledger", KeyType::Note, log.ledgers.as_slice()),
    ];
    for (path, suffix, key_type, trusted) in parts {
        let name = format!("{origin}{suffix}");
        let key = read_key(path).and_then(|key| {
            VerifierKey::new(&name, key_type, key.verifying_key().to_bytes())
                .map_err(|fault| Failure::content(path, fault))
        });
        let Some(vkey) = found.take(&shown(path), key) else { continue };
        if !trusted.contains(&vkey) {
            found.fault(&format!(
                "{} is not a key that trust.toml names for {name}. Its vkey is {vkey}: put it there, \
                 or put the right key back.",
                shown(path)
            ));
        }
    }
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let pem = Zeroizing::new(read_text(path, SMALL_FILE_BYTES_MAX)?);
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| {
        Failure::usage(format!(
            "{} is not an Ed25519 key as PKCS#8 PEM. Restore it from a backup.",
            shown(path)
        ))
    })
}

fn now_us() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0)
}

/// The server's certificate names hosts and nobody's identity, so that of our own path validation
/// only the dates apply, which it looks at before it asks for an identity.
fn server_certificate(found: &mut Findings, path: &Path) {
    let name = shown(path);
    let text = match read_text(path, SMALL_FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(failure) => return found.fault(&failure.message),
    };
    let Ok(chain) = split_pem_bundle(&text) else {
        return found.warn(&format!(
            "{name} is no strict PEM of Ed25519 or ECDSA P-256; its dates were not looked at."
        ));
    };
    for (at, ended) in [(now_us(), true), (now_us().saturating_add(RENEWAL_US), false)] {
        let result = verify_chain(&chain, &[], at);
        match result {
            Err(CertError::Expired { .. }) if ended => {
                return found.fault(&format!("{name} has expired. Renew it."));
            }
            Err(CertError::Expired { .. }) => {
                return found.warn(&format!("{name} expires within 30 days. Renew it."));
            }
            Err(CertError::NotYetValid { .. }) => {
                return found
                    .fault(&format!("{name} is not yet valid. Look at this machine's clock."));
            }
            _ => {}
        }
    }
    Findings::good(&format!("{name}, its dates"));
}

fn identities(found: &mut Findings, dir: &Path, roots: &[TrustAnchor], trust: Option<&Trust>) {
    let Ok(folders) = fs::read_dir(dir.join("identities")) else {
        return found.warn("there is no folder identities; nobody can call from here.");
    };
    let mut folders: Vec<PathBuf> = folders.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        let name = shown(&folder);
        let Some(identity) = found.take(&name, Identity::read(&folder)) else { continue };
        if let Some(trust) = trust
            && !trust.logs.iter().any(|log| log.vkey == identity.log)
        {
            found.fault(&format!(
                "{name}/log.vkey is not a key that trust.toml names. Copy it from the ledger's \
                 operator."
            ));
        }
        match verify_chain(&identity.chain, roots, now_us()) {
            Err(error) => {
                found.fault(&format!("{name}/cert.pem: {error}. Have it issued anew."));
            }
            Ok(chain) if chain.not_after_us() < now_us().saturating_add(RENEWAL_US) => {
                found.warn(&format!("{name}/cert.pem expires within 30 days. Have it renewed."));
            }
            Ok(_) => Findings::good(&format!("{name}/cert.pem, chain and dates")),
        }
    }
}

async fn reach(found: &mut Findings, dir: &Path, server: &str) {
    let what = format!("ledger at {}", countersign_core::encoding::escaped(server));
    let identity = Identity::read(&dir.join("identities/gate"));
    let Some(identity) = found.take("identity to call with", identity) else { return };
    let client = Client::connect(identity.client_config(server)).await.map_err(Failure::from);
    if let Some(client) = found.take(&what, client)
        && let Some(head) = client.joined_head()
    {
        Findings::good(&format!("its head, {} entries, signed by log and clock", head.size().0));
    }
}

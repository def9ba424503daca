//! `init`: keys, a development PKI, `countersign.toml`, `trust.toml`, identities.
//!
//! Everything is made in a folder beside the one that was asked for and moved there at the end, so
//! that there is a whole installation or none. In an empty folder that is there already (the working
//! folder, a mounted one, one behind a link) it is made in place, and taken away if that fails.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::cert::{Role, SpiffeId};
use countersign_core::encoding::{is_name, is_origin};
use countersign_core::note::{KeyType, VerifierKey};
use countersign_server::config::{GateSection, KeyFiles, PeopleSection, ServerConfig, TlsFiles};
use countersign_server::limits::Limits;
use serde::Serialize;

use crate::args::InitArgs;
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, shown, sync_folder, write_new};
use crate::identity::IdentityFile;
use crate::pki::{self, Algorithm, Authority, Holder, Key};

/// Folder of the database and its anchor.
const DATA_FOLDER: &str = "data";
/// Folder of the gate's directory and state, empty until somebody runs one here.
const GATE_FOLDER: &str = "gate";
/// The empty file in the data folder that lets a log begin there.
pub(crate) const BEGIN_FILE: &str = "begin";

pub(crate) fn run(args: &InitArgs) -> Result<Exit, Failure> {
    make(args)?;
    let dir = shown(&args.dir);
    eprintln!("{dir} now holds keys, a development PKI, countersign.toml and trust.toml.");
    eprintln!("Start the ledger:   countersign serve --dir {dir}");
    eprintln!("Start the gate:     countersign gate --dir {dir} --ledger 127.0.0.1:7443");
    eprintln!(
        "A gate of your own: countersign policy register --server 127.0.0.1:7443 \
         --identity {dir}/identities/gate --owner {dir}/identities/policy-admin \
         --policy-id ID --version VERSION --engine NAME --digest HEX"
    );
    eprintln!(
        "                    countersign submit FILE.jsonl --server 127.0.0.1:7443 \
         --identity {dir}/identities/gate --out evidence"
    );
    eprintln!(
        "Its certificates are for development. In production have your own authority issue them."
    );
    Ok(Exit::Success)
}

/// Makes an installation in a folder that is absent or empty.
pub(crate) fn make(args: &InitArgs) -> Result<(), Failure> {
    if !is_origin(&args.origin) {
        return Err(Failure::usage(
            "the origin is 1 to 255 printable ASCII characters without space and plus: give a URL \
             without scheme, such as ledger.acme.example/prod.",
        ));
    }
    if args.origin.contains("://") || host_of(&args.origin).is_empty() {
        return Err(Failure::usage(
            "the origin begins with a host, without scheme: give ledger.acme.example/prod, not \
             https://ledger.acme.example/prod.",
        ));
    }
    if !is_name(&args.tenant) || !is_name(&args.gate) {
        return Err(Failure::usage(
            "tenant and gate are names of 1 to 128 characters of A-Z a-z 0-9 . _ -",
        ));
    }
    check_approvers(&args.approver)?;
    if is_there_and_empty(&args.dir)? { make_inside(args) } else { make_beside(args) }
}

/// Each has a folder of their own, and two people are never one.
fn check_approvers(names: &[String]) -> Result<(), Failure> {
    if !names.iter().all(|name| is_name(name)) {
        return Err(Failure::usage(
            "an approver's name is 1 to 128 characters of A-Z a-z 0-9 . _ -",
        ));
    }
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => {
            Err(Failure::usage(format!("--approver {name} is given twice. Name each once.")))
        }
        None => Ok(()),
    }
}

/// What `build` puts into the folder, `keys` aside.
const PARTS: [&str; 9] = [
    "countersign.toml",
    "trust.toml",
    "gate-ca.pem",
    "people-ca.pem",
    "identities",
    "pki",
    "tls",
    GATE_FOLDER,
    DATA_FOLDER,
];
const KEYS_FOLDER: &str = "keys";

/// Makes the installation in an empty folder, which stays the folder it is.
fn make_inside(args: &InitArgs) -> Result<(), Failure> {
    // The name may be one of a link, or `.`.
    let dir = fs::canonicalize(&args.dir).map_err(|error| Failure::file(&args.dir, &error))?;
    let keys = dir.join(KEYS_FOLDER);
    // Of two that begin here at once only one makes this folder; the other must take nothing away.
    let claimed = fs::DirBuilder::new().mode(0o700).create(&keys);
    claimed.map_err(|error| Failure::file(&args.dir.join(KEYS_FOLDER), &error))?;
    let made = build(args, &dir).and_then(|()| sync_folder(&dir));
    if made.is_err() {
        for path in PARTS.iter().map(|name| dir.join(name)).chain([keys]) {
            // What is left of an attempt holds keys; there is nothing to say if it can't be removed.
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    } else {
        // All in it is its owner's alone anyway. A mounted folder may be another's, and can't be
        // closed; doctor says so.
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
    }
    named_as_asked(made, &dir, &args.dir)
}

/// Makes the installation beside its place, and moves it there.
fn make_beside(args: &InitArgs) -> Result<(), Failure> {
    // Without a slash at the end, which would put the temporary folder into the one to be made.
    let dir: PathBuf = args.dir.components().collect();
    let Some(name) = dir.file_name() else {
        let name = shown(&args.dir);
        return Err(Failure::usage(format!("{name:?} names no folder to make. Name a new one.")));
    };
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_folder(parent)?;
    let mut name = name.to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let building = dir.with_file_name(name);
    let made = build(args, &building).and_then(|()| {
        sync_folder(&building)?;
        fs::rename(&building, &dir).map_err(|error| Failure::file(&dir, &error))?;
        sync_folder(parent)
    });
    if made.is_err() {
        // What is left of an attempt holds keys; there is nothing to say if it can't be removed.
        let _ = fs::remove_dir_all(&building);
    }
    named_as_asked(made, &building, &dir)
}

/// It is asked for one folder, and names no other.
fn named_as_asked(made: Result<(), Failure>, dir: &Path, asked: &Path) -> Result<(), Failure> {
    let (other, asked) = (shown(dir), shown(asked));
    made.map_err(|failure| Failure { message: failure.message.replace(&other, &asked), ..failure })
}

/// The host part of an origin, without a port: gates of this ledger are named under it.
fn host_of(origin: &str) -> String {
    origin.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase()
}

/// Whether the folder is there; one that is not empty is refused.
fn is_there_and_empty(dir: &Path) -> Result<bool, Failure> {
    let taken = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Failure::file(dir, &error)),
        Ok(mut entries) => entries.next().is_some(),
    };
    if taken {
        return Err(Failure::usage(format!(
            "{} is not empty, and keys are never overwritten. Name another folder, or move this one \
             away.",
            shown(dir)
        )));
    }
    Ok(true)
}

struct Made<'a> {
    args: &'a InitArgs,
    trust_domain: String,
    log: VerifierKey,
    clock: VerifierKey,
    ledger: VerifierKey,
    server_ca_pem: String,
}

fn build(args: &InitArgs, dir: &Path) -> Result<(), Failure> {
    let host = host_of(&args.origin);
    let gate_id = pki::identity(&host, &args.tenant, Role::Gate, &args.gate)?;
    let now = Duration::from_secs(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0));

    for folder in [KEYS_FOLDER, "tls", "pki", "identities", GATE_FOLDER, DATA_FOLDER] {
        make_folder(&dir.join(folder))?;
    }
    // Only where this file is does a log begin: a ledger that finds its data folder empty because
    // it was moved, or mistyped, must not begin a second history.
    write_new(&dir.join(DATA_FOLDER).join(BEGIN_FILE), b"")?;
    let keys = [Key::generate()?, Key::generate()?, Key::generate()?];
    for (key, name) in keys.iter().zip(["log", "clock", "ledger"]) {
        write_new(&dir.join(format!("keys/{name}.pem")), key.pem.as_bytes())?;
    }
    let [log, clock, ledger] = &keys;
    let vkey = |suffix: &str, key_type, key: &Key| {
        let name = format!("{}{suffix}", args.origin);
        VerifierKey::new(&name, key_type, key.key.verifying_key().to_bytes())
            .map_err(|fault| Failure::usage(format!("the origin serves for no key: {fault}")))
    };

    let authority =
        |of: &str, algorithm| Authority::new(&format!("{host} {of} (development)"), algorithm, now);
    let gate_ca = authority("gates", Algorithm::Ed25519)?;
    let people_ca = authority("people", Algorithm::Ed25519)?;
    let server_ca = authority("servers", Algorithm::P256)?;
    for (authority, name) in
        [(&gate_ca, "gate-ca"), (&people_ca, "people-ca"), (&server_ca, "server-ca")]
    {
        write_new(&dir.join(format!("pki/{name}.key.pem")), authority.key_pem.as_bytes())?;
    }
    write_new(&dir.join("gate-ca.pem"), gate_ca.cert_pem.as_bytes())?;
    write_new(&dir.join("people-ca.pem"), people_ca.cert_pem.as_bytes())?;
    write_new(&dir.join("tls/ca.pem"), server_ca.cert_pem.as_bytes())?;
    let mut names = vec!["localhost".to_owned()];
    if host != "localhost" && host.parse::<std::net::IpAddr>().is_err() {
        names.push(host.clone());
    }
    let server = server_ca.server(&names)?;
    write_new(&dir.join("tls/cert.pem"), server.cert_pem.as_bytes())?;
    write_new(&dir.join("tls/key.pem"), server.key_pem.as_bytes())?;

    let made = Made {
        args,
        trust_domain: host,
        log: vkey("", KeyType::Note, log)?,
        clock: vkey("/clock", KeyType::Cosignature, clock)?,
        ledger: vkey("/ledger", KeyType::Note, ledger)?,
        server_ca_pem: server_ca.cert_pem.clone(),
    };
    made.identities(dir, &gate_id, &gate_ca, &people_ca)?;
    write_new(&dir.join("countersign.toml"), made.config()?.as_bytes())?;
    write_new(&dir.join("trust.toml"), made.trust()?.as_bytes())
}

impl Made<'_> {
    /// Everybody who calls or signs for the tenant. Machines have their certificates of the gates'
    /// authority, people of the people's. An enforcement point's certificate opens connections and
    /// nothing else: its role can neither seal nor sign (CERT-10).
    fn identities(
        &self,
        dir: &Path,
        gate_id: &SpiffeId,
        gate_ca: &Authority,
        people_ca: &Authority,
    ) -> Result<(), Failure> {
        self.identity(dir, "gate", gate_id, &gate_ca.client(gate_id)?)?;
        let named =
            |role, name: &str| pki::identity(&self.trust_domain, &self.args.tenant, role, name);
        let pep = named(Role::Pep, "pep")?;
        self.identity(dir, "pep", &pep, &gate_ca.client(&pep)?)?;
        let operator = named(Role::Operator, "operator")?;
        self.identity(dir, "operator", &operator, &gate_ca.client(&operator)?)?;
        for role in [Role::Auditor, Role::Responder, Role::PolicyAdmin, Role::TenantAdmin] {
            let id = named(role, role.as_str())?;
            self.identity(dir, role.as_str(), &id, &people_ca.client(&id)?)?;
        }
        for name in &self.args.approver {
            let id = named(Role::Approver, name)?;
            self.identity(dir, &format!("approver-{name}"), &id, &people_ca.client(&id)?)?;
        }
        Ok(())
    }

    fn identity(
        &self,
        dir: &Path,
        folder: &str,
        id: &SpiffeId,
        holder: &Holder,
    ) -> Result<(), Failure> {
        let folder = dir.join("identities").join(folder);
        make_folder(&folder)?;
        let file = IdentityFile {
            origin: self.args.origin.clone(),
            trust_domain: id.trust_domain().to_owned(),
            tenant: id.tenant().to_owned(),
            role: id.role().to_string(),
            name: id.name().to_owned(),
            server_name: None,
        };
        let files = [
            ("identity.toml", to_toml(&file)?),
            ("cert.pem", holder.cert_pem.clone()),
            ("ca.pem", self.server_ca_pem.clone()),
            ("log.vkey", format!("{}\n", self.log)),
            ("clock.vkey", format!("{}\n", self.clock)),
            ("ledger.vkey", format!("{}\n", self.ledger)),
        ];
        for (name, text) in files {
            write_new(&folder.join(name), text.as_bytes())?;
        }
        write_new(&folder.join("key.pem"), holder.key_pem.as_bytes())
    }

    fn config(&self) -> Result<String, Failure> {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let config = ServerConfig {
            origin: self.args.origin.clone(),
            data_dir: PathBuf::from(DATA_FOLDER),
            grpc: loopback(7443),
            http: loopback(7480),
            head_interval_ms: 1_000,
            head_republish_s: 60,
            drain_timeout_s: 15,
            insecure_dev_identity: None,
            keys: KeyFiles {
                log: "keys/log.pem".into(),
                clock: "keys/clock.pem".into(),
                ledger: "keys/ledger.pem".into(),
            },
            tls: Some(TlsFiles {
                cert: "tls/cert.pem".into(),
                key: "tls/key.pem".into(),
                client_roots: vec!["gate-ca.pem".into(), "people-ca.pem".into()],
            }),
            gates: GateSection {
                trust_domain: self.trust_domain.clone(),
                roots: vec!["gate-ca.pem".into()],
            },
            people: PeopleSection { roots: vec!["people-ca.pem".into()] },
            witnesses: None,
            gate: countersign_server::gate::config::GateSettings::default(),
            limits: Limits::default(),
            erasure: countersign_server::config::ErasureSection::default(),
            revoked: Vec::new(),
        };
        Ok(format!(
            "# The ledger's configuration. Paths are relative to this file. `countersign config show`\n\
             # prints what is in force, flags and COUNTERSIGN_* included.\n{}",
            to_toml(&config)?
        ))
    }

    fn trust(&self) -> Result<String, Failure> {
        let file = TrustFile {
            log: [TrustLog {
                vkey: self.log.to_string(),
                clock: [self.clock.to_string()],
                ledger: [self.ledger.to_string()],
            }],
            gates: TrustGates {
                trust_domain: &self.trust_domain,
                roots: ["gate-ca.pem"],
                tenants: [&self.args.tenant],
            },
            people: TrustPeople { roots: ["people-ca.pem"] },
        };
        Ok(format!(
            "# All that countersign-verify believes. Give it, with gate-ca.pem and people-ca.pem, to\n\
             # whoever verifies, by a way that the ledger's operator does not control.\n{}",
            to_toml(&file)?
        ))
    }
}

#[derive(Serialize)]
struct TrustFile<'a> {
    log: [TrustLog; 1],
    gates: TrustGates<'a>,
    people: TrustPeople,
}

#[derive(Serialize)]
struct TrustLog {
    vkey: String,
    clock: [String; 1],
    ledger: [String; 1],
}

#[derive(Serialize)]
struct TrustGates<'a> {
    trust_domain: &'a str,
    roots: [&'static str; 1],
    tenants: [&'a String; 1],
}

#[derive(Serialize)]
struct TrustPeople {
    roots: [&'static str; 1],
}

fn to_toml(value: &impl Serialize) -> Result<String, Failure> {
    toml::to_string(value)
        .map_err(|error| Failure::internal(format!("a file can't be written as TOML: {error}")))
}

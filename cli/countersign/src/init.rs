//! `init`: keys, a development PKI, `countersign.toml`, `trust.toml`, identities.
//!
//! Everything is made in a folder beside the one that was asked for and moved there at the end, so
//! that there is a whole installation or none.

use std::fs;
use std::net::SocketAddr;
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
use crate::pki::{self, Authority, Holder, Key};

pub(crate) fn run(args: &InitArgs) -> Result<Exit, Failure> {
    make(args)?;
    let dir = shown(&args.dir);
    eprintln!("{dir} now holds keys, a development PKI, countersign.toml and trust.toml.");
    eprintln!("Start the ledger:   countersign serve --dir {dir}");
    eprintln!(
        "Submit verdicts:    countersign submit FILE.jsonl --server 127.0.0.1:7443 \
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
    if !is_name(&args.tenant) || !is_name(&args.gate) {
        return Err(Failure::usage(
            "tenant and gate are names of 1 to 128 characters of A-Z a-z 0-9 . _ -",
        ));
    }
    refuse_to_overwrite(&args.dir)?;
    let parent = args.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_folder(parent)?;
    let mut name = args.dir.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let building = PathBuf::from(name);
    let made = build(args, &building).and_then(|()| {
        sync_folder(&building)?;
        fs::rename(&building, &args.dir).map_err(|error| Failure::file(&args.dir, &error))?;
        sync_folder(parent)
    });
    if made.is_err() {
        // What is left of an attempt holds keys; there is nothing to say if it can't be removed.
        let _ = fs::remove_dir_all(&building);
    }
    made
}

fn refuse_to_overwrite(dir: &Path) -> Result<(), Failure> {
    let taken = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
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
    Ok(())
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
    // The host part of the origin, without a port: gates of this ledger are named under it.
    let host = args.origin.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    let gate_id = pki::identity(&host, &args.tenant, Role::Gate, &args.gate)?;
    let now = Duration::from_secs(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0));

    for folder in ["keys", "tls", "pki", "identities"] {
        make_folder(&dir.join(folder))?;
    }
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

    let gate_ca = Authority::new(&format!("{host} gates (development)"), now)?;
    let people_ca = Authority::new(&format!("{host} people (development)"), now)?;
    let server_ca = Authority::new(&format!("{host} servers (development)"), now)?;
    for (authority, name) in
        [(&gate_ca, "gate-ca"), (&people_ca, "people-ca"), (&server_ca, "server-ca")]
    {
        write_new(&dir.join(format!("pki/{name}.key.pem")), authority.key.pem.as_bytes())?;
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
    write_new(&dir.join("tls/key.pem"), server.key.pem.as_bytes())?;

    let made = Made {
        args,
        trust_domain: host,
        log: vkey("", KeyType::Note, log)?,
        clock: vkey("/clock", KeyType::Cosignature, clock)?,
        ledger: vkey("/ledger", KeyType::Note, ledger)?,
        server_ca_pem: server_ca.cert_pem.clone(),
    };
    made.identity(dir, "gate", &gate_id, &gate_ca.client(&gate_id)?)?;
    for (folder, role) in [("auditor", Role::Auditor), ("responder", Role::Responder)] {
        let id = pki::identity(&made.trust_domain, &args.tenant, role, folder)?;
        made.identity(dir, folder, &id, &people_ca.client(&id)?)?;
    }
    write_new(&dir.join("countersign.toml"), made.config()?.as_bytes())?;
    write_new(&dir.join("trust.toml"), made.trust()?.as_bytes())
}

impl Made<'_> {
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
        write_new(&folder.join("key.pem"), holder.key.pem.as_bytes())
    }

    fn config(&self) -> Result<String, Failure> {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let config = ServerConfig {
            origin: self.args.origin.clone(),
            data_dir: PathBuf::from("data"),
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
            limits: Limits::default(),
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

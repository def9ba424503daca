//! One ledger's folder: configuration, keys, certificates; and who may call it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use countersign_core::cert::Role;
use countersign_core::note::{KeyType, VerifierKey};
use countersign_server::config::{GateSection, KeyFiles, PeopleSection, ServerConfig, TlsFiles};
use countersign_server::gate::config::GateSettings;
use countersign_server::limits::Limits;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use rcgen::SanType;
use tempfile::TempDir;

use crate::pki::{Authority, Holder};
use crate::random::Random;

/// The log's name.
pub const ORIGIN: &str = "ledger.acme.example/test";
/// The trust domain of everyone here.
pub const DOMAIN: &str = "acme.example";

/// A ledger's folder and the authorities around it. The folder goes when this is dropped.
pub struct Stage {
    /// Holds everything.
    pub dir: TempDir,
    /// Issues the server's certificate.
    pub server_ca: Authority,
    /// Issues the certificates of clients and of seal keys.
    pub client_ca: Authority,
    /// Issues people's certificates.
    pub people_ca: Authority,
    /// The key of the log's signature.
    pub log_vkey: VerifierKey,
    /// The key of the clock's cosignature.
    pub clock_vkey: VerifierKey,
}

impl Stage {
    /// A new ledger that has not been started.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with another configuration.
    pub fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server_ca = Authority::new("server CA");
        let client_ca = Authority::new("client CA");
        let people_ca = Authority::new("people CA");
        let mut random = Random::new(1);
        let [log, clock, ledger] = [(); 3].map(|()| SigningKey::from_bytes(&random.bytes::<32>()));
        let vkey = |name: &str, kind, key: &SigningKey| {
            VerifierKey::new(name, kind, key.verifying_key().to_bytes()).unwrap()
        };
        let mut config = config(dir.path(), &server_ca);
        for (path, key) in
            [(&config.keys.log, &log), (&config.keys.clock, &clock), (&config.keys.ledger, &ledger)]
        {
            write_key(path, key);
        }
        write(dir.path(), "client-ca.pem", &client_ca.pem);
        write(dir.path(), "people-ca.pem", &people_ca.pem);
        change(&mut config);
        write(dir.path(), "countersign.toml", &toml::to_string(&config).unwrap());
        Self {
            log_vkey: vkey(ORIGIN, KeyType::Note, &log),
            clock_vkey: vkey(&format!("{ORIGIN}/clock"), KeyType::Cosignature, &clock),
            dir,
            server_ca,
            client_ca,
            people_ca,
        }
    }

    /// Someone with a good certificate.
    pub fn holder(&self, tenant: &str, role: Role, name: &str) -> Holder {
        self.client_ca.holder(DOMAIN, tenant, role, name)
    }

    /// A gate with a good certificate; its TLS key is also its seal key.
    pub fn gate(&self, tenant: &str, name: &str) -> Holder {
        self.holder(tenant, Role::Gate, name)
    }

    /// The folder of the database and its anchor.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

fn config(dir: &Path, server_ca: &Authority) -> ServerConfig {
    let server = server_ca.issue(|params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    });
    // What `countersign init` leaves where a log is to begin.
    std::fs::create_dir(dir.join("data")).unwrap();
    std::fs::write(dir.join("data/begin"), "").unwrap();
    ServerConfig {
        origin: ORIGIN.to_owned(),
        data_dir: dir.join("data"),
        grpc: SocketAddr::from(([127, 0, 0, 1], 0)),
        http: SocketAddr::from(([127, 0, 0, 1], 0)),
        head_interval_ms: 100,
        head_republish_s: 60,
        drain_timeout_s: 15,
        insecure_dev_identity: None,
        keys: KeyFiles {
            log: dir.join("log.pem"),
            clock: dir.join("clock.pem"),
            ledger: dir.join("ledger.pem"),
        },
        tls: Some(TlsFiles {
            cert: write(dir, "server.pem", &server.cert_pem),
            key: write(dir, "server.key", &server.key_pem),
            client_roots: vec![dir.join("client-ca.pem")],
        }),
        gates: GateSection {
            trust_domain: DOMAIN.to_owned(),
            roots: vec![dir.join("client-ca.pem")],
        },
        people: PeopleSection { roots: vec![dir.join("people-ca.pem")] },
        limits: Limits::default(),
        erasure: countersign_server::config::ErasureSection::default(),
        witnesses: None,
        gate: GateSettings::default(),
        revoked: Vec::new(),
    }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn write_key(path: &Path, key: &SigningKey) {
    let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
    std::fs::write(path, pem.as_bytes()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

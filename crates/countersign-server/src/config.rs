//! `countersign.toml`: what a ledger is told before it starts.
//!
//! Precedence (flag, then `COUNTERSIGN_*`, then this file, then the default) is the command line's
//! business: it changes the fields of a [`ServerConfig`] and then calls [`ServerConfig::check`],
//! which reads every file that is named and leaves a [`Checked`] behind. No port is bound and no
//! database opened without one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_core::cert::{CertError, SpiffeId, TrustAnchor, split_pem_bundle};
use countersign_core::encoding::{Micros, from_b64, is_origin};
use serde::{Deserialize, Serialize};

use crate::gate::config::GateSettings;
use crate::limits::{LimitError, Limits};
use crate::tls::{self, TlsError};
use crate::witnesses::settings::{CheckedWitnesses, PolicyError, WitnessSection};

/// Bytes that the configuration file may have.
pub const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// Bytes that a file named by the configuration may have.
pub const NAMED_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The configuration as the file has it. Paths are relative to the folder of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The log's name: the origin line of its checkpoints, `ledger.acme.example/prod`.
    pub origin: String,
    /// Folder of the database and its anchor.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Address of the gRPC port.
    #[serde(default = "default_grpc")]
    pub grpc: SocketAddr,
    /// Address of the HTTP port (`/livez`, `/readyz`, `/metrics`).
    #[serde(default = "default_http")]
    pub http: SocketAddr,
    /// Milliseconds between published heads while the log grows.
    #[serde(default = "default_head_interval_ms")]
    pub head_interval_ms: u64,
    /// Seconds after which the head is signed and published again when nothing came.
    #[serde(default = "default_head_republish_s")]
    pub head_republish_s: u64,
    /// Seconds that calls in flight may take to end once the server was told to stop.
    #[serde(default = "default_drain_timeout_s")]
    pub drain_timeout_s: u64,
    /// Identity of every caller under `--insecure-dev`, which speaks plain TCP on a loopback
    /// address: `spiffe://…`. Without that flag it is an error to set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_dev_identity: Option<String>,
    /// Files of the ledger's three keys.
    pub keys: KeyFiles,
    /// Files of the gRPC port's TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Whose gates may seal.
    pub gates: GateSection,
    /// Who signs approvals, policies, grants and erasures.
    #[serde(default)]
    pub people: PeopleSection,
    /// Bounds on what clients may take.
    #[serde(default)]
    pub limits: Limits,
    /// What erasures are held to.
    #[serde(default)]
    pub erasure: ErasureSection,
    /// Who is asked to cosign the ledger's heads, if anybody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<WitnessSection>,
    /// The gate service that is run from this folder, if one is.
    #[serde(default)]
    pub gate: GateSettings,
    /// Keys whose certificates count no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<RevokedSection>,
}

/// The section `[keys]`: PKCS#8 PEM files, readable by their owner alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFiles {
    /// Signs heads, as `<origin>`.
    pub log: PathBuf,
    /// Cosigns heads with the time, as `<origin>/clock`.
    pub clock: PathBuf,
    /// Seals the ledger's own records, as `<origin>/ledger`.
    pub ledger: PathBuf,
}

/// The section `[tls]`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate chain, leaf first.
    pub cert: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
    /// Roots that issue the certificates of clients.
    pub client_roots: Vec<PathBuf>,
}

/// The section `[gates]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSection {
    /// The trust domain of every identity that this ledger knows.
    pub trust_domain: String,
    /// Roots that issue the certificates of seal keys.
    pub roots: Vec<PathBuf>,
}

/// The section `[people]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleSection {
    /// Roots that issue people's certificates; without any, records signed by people are refused.
    #[serde(default)]
    pub roots: Vec<PathBuf>,
}

/// What erasures are held to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureSection {
    /// Days for which nothing is erased: the retention floor of an erasure must lie so far back. 0,
    /// the default, leaves the floor to the tenant alone.
    #[serde(default)]
    pub retention_days_min: u32,
}

/// A section `[[revoked]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedSection {
    /// The public key's bytes in base64, as in a certificate.
    pub key: String,
    /// From when: RFC 3339 UTC with six decimals.
    pub from: String,
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("data")
}

fn default_grpc() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7443))
}

fn default_http() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7480))
}

const fn default_head_interval_ms() -> u64 {
    1_000
}

const fn default_head_republish_s() -> u64 {
    60
}

const fn default_drain_timeout_s() -> u64 {
    15
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is larger than such a file can be.
    #[error("{path} is larger than {max} bytes: name the right file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        max: u64,
    },
    /// The file is not TOML of this shape: a key unknown, missing, or of another type.
    #[error("{path} is not a configuration of this version: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value outside what it may be.
    #[error("{key} is wrong: {remedy}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it must be.
        remedy: &'static str,
    },
    /// A limit outside its range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A file of roots holds something else.
    #[error("{key}: {path} holds no usable roots: {source}")]
    Roots {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: CertError,
    },
    /// The identity of `--insecure-dev` does not parse.
    #[error("insecure_dev_identity is wrong: {source}")]
    DevIdentity {
        /// Why not.
        source: CertError,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The witness policy can't be used.
    #[error(transparent)]
    Witnesses(#[from] PolicyError),
}

/// How the gRPC port knows its callers.
#[derive(Debug, Clone)]
pub enum Transport {
    /// TLS 1.3 with client certificates.
    Tls(Arc<rustls::ServerConfig>),
    /// Plain TCP on a loopback address; everyone who reaches it is this one. Development only.
    InsecureLoopback(SpiffeId),
}

/// A revoked public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The public key's bytes.
    pub key: Vec<u8>,
    /// From when.
    pub from: Micros,
}

/// A configuration whose every value was checked and whose roots and TLS files were read. Only
/// [`ServerConfig::check`] makes one.
#[derive(Debug)]
pub struct Checked {
    config: ServerConfig,
    transport: Transport,
    gate_roots: Vec<TrustAnchor>,
    people_roots: Vec<TrustAnchor>,
    revoked: Vec<Revoked>,
    witnesses: Option<CheckedWitnesses>,
    without_witnesses: bool,
}

impl ServerConfig {
    /// Reads a configuration file, and makes the paths in it relative to where it stands.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path, CONFIG_BYTES_MAX)?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Malformed {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Makes every relative path relative to `dir`.
    pub fn resolve(&mut self, dir: &Path) {
        let mut paths = vec![
            &mut self.data_dir,
            &mut self.keys.log,
            &mut self.keys.clock,
            &mut self.keys.ledger,
        ];
        if let Some(tls) = &mut self.tls {
            paths.extend([&mut tls.cert, &mut tls.key]);
            paths.extend(&mut tls.client_roots);
        }
        paths.extend(&mut self.gates.roots);
        paths.extend(&mut self.people.roots);
        for path in paths {
            *path = dir.join(&*path);
        }
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.resolve(dir);
        }
        self.gate.resolve(dir);
    }

    /// Checks every value and reads the roots and TLS files. `insecure_dev` is the flag of that
    /// name, which no file can set.
    pub fn check(self, insecure_dev: bool) -> Result<Checked, ConfigError> {
        self.check_values()?;
        self.limits.check()?;
        self.gate.check()?;
        let transport = self.transport(insecure_dev)?;
        let gate_roots = read_roots("gates.roots", &self.gates.roots)?;
        let people_roots = read_roots("people.roots", &self.people.roots)?;
        let revoked = self.revoked.iter().map(|section| {
            let key = from_b64(&section.key).filter(|key| !key.is_empty());
            let from = Micros::parse(&section.from);
            let (Some(key), Some(from)) = (key, from) else {
                return Err(ConfigError::Value {
                    key: "revoked",
                    remedy: "give key in base64 and from as 2026-11-20T00:00:00.000000Z",
                });
            };
            Ok(Revoked { key, from })
        });
        let revoked = revoked.collect::<Result<_, _>>()?;
        let witnesses = self.witnesses.as_ref().map(WitnessSection::check).transpose()?;
        Ok(Checked {
            config: self,
            transport,
            gate_roots,
            people_roots,
            revoked,
            witnesses,
            without_witnesses: false,
        })
    }

    fn check_values(&self) -> Result<(), ConfigError> {
        let domain = &self.gates.trust_domain;
        let probe = countersign_core::cert::Role::Gate;
        let checks = [
            (
                is_origin(&self.origin),
                "origin",
                "give a schema-less URL of printable ASCII without space and plus, \
                 such as ledger.acme.example/prod",
            ),
            (
                (10..=60_000).contains(&self.head_interval_ms),
                "head_interval_ms",
                "choose 10 to 60000 milliseconds",
            ),
            (
                (1..=3_600).contains(&self.head_republish_s),
                "head_republish_s",
                "choose 1 to 3600 seconds",
            ),
            (
                self.head_interval_ms <= self.head_republish_s.saturating_mul(1_000),
                "head_republish_s",
                "it must not be shorter than head_interval_ms",
            ),
            (
                (1..=3_600).contains(&self.drain_timeout_s),
                "drain_timeout_s",
                "choose 1 to 3600 seconds",
            ),
            (
                SpiffeId::new(domain, "t", probe, "n").is_ok(),
                "gates.trust_domain",
                "give 1 to 128 characters of a-z 0-9 . _ -",
            ),
            (!self.gates.roots.is_empty(), "gates.roots", "name at least one PEM file"),
        ];
        for (holds, key, remedy) in checks {
            if !holds {
                return Err(ConfigError::Value { key, remedy });
            }
        }
        Ok(())
    }

    fn transport(&self, insecure_dev: bool) -> Result<Transport, ConfigError> {
        if !insecure_dev {
            if self.insecure_dev_identity.is_some() {
                return Err(ConfigError::Value {
                    key: "insecure_dev_identity",
                    remedy: "remove it, or start with --insecure-dev on a loopback address",
                });
            }
            let files = self.tls.as_ref().ok_or(ConfigError::Value {
                key: "tls",
                remedy: "add a [tls] section with cert, key and client_roots",
            })?;
            return Ok(Transport::Tls(tls::server_config(files)?));
        }
        let ports = [
            ("grpc", self.grpc),
            ("gate.grpc", self.gate.grpc),
            ("gate.authzen", self.gate.authzen),
        ];
        if let Some((key, _)) = ports.into_iter().find(|(_, addr)| !addr.ip().is_loopback()) {
            return Err(ConfigError::Value {
                key,
                remedy: "--insecure-dev speaks plain TCP and so takes a loopback address only",
            });
        }
        let text = self.insecure_dev_identity.as_deref().ok_or(ConfigError::Value {
            key: "insecure_dev_identity",
            remedy: "name the identity that every caller has under --insecure-dev",
        })?;
        let identity: SpiffeId =
            text.parse().map_err(|source| ConfigError::DevIdentity { source })?;
        if identity.trust_domain() != self.gates.trust_domain {
            return Err(ConfigError::Value {
                key: "insecure_dev_identity",
                remedy: "it must be of gates.trust_domain",
            });
        }
        Ok(Transport::InsecureLoopback(identity))
    }
}

impl Checked {
    /// The values.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// How callers are known.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Roots of gates' certificates.
    pub fn gate_roots(&self) -> &[TrustAnchor] {
        &self.gate_roots
    }

    /// Roots of people's certificates.
    pub fn people_roots(&self) -> &[TrustAnchor] {
        &self.people_roots
    }

    /// Revoked keys.
    pub fn revoked(&self) -> &[Revoked] {
        &self.revoked
    }

    /// Who is asked to cosign heads.
    pub fn witnesses(&self) -> Option<&CheckedWitnesses> {
        self.witnesses.as_ref()
    }

    /// The same for a start that does not wait for a quorum of witnesses: somebody knows that the
    /// data were not put back from a copy. A witness that contradicts is heard all the same.
    #[must_use]
    pub fn beginning_without_witnesses(mut self, without: bool) -> Self {
        self.without_witnesses = without;
        self
    }

    pub(crate) fn without_witnesses(&self) -> bool {
        self.without_witnesses
    }

    /// How long calls in flight may take to end.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.config.drain_timeout_s)
    }
}

/// Whether one of these public keys is revoked at `at`.
pub fn is_revoked<'a>(
    revoked: &[Revoked],
    keys: impl IntoIterator<Item = &'a [u8]>,
    at: Micros,
) -> bool {
    keys.into_iter().any(|key| revoked.iter().any(|entry| entry.key == key && entry.from <= at))
}

/// Reads a text file of at most `max` bytes.
pub(crate) fn read_text(path: &Path, max: u64) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    file.take(max.saturating_add(1)).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > max {
        return Err(ConfigError::TooLarge { path: path.to_owned(), max });
    }
    Ok(text)
}

fn read_roots(key: &'static str, paths: &[PathBuf]) -> Result<Vec<TrustAnchor>, ConfigError> {
    let mut anchors = Vec::new();
    for path in paths {
        let text = read_text(path, NAMED_FILE_BYTES_MAX)?;
        let unusable = |source| ConfigError::Roots { key, path: path.clone(), source };
        for certificate in split_pem_bundle(&text).map_err(unusable)? {
            anchors.push(TrustAnchor::new(certificate).map_err(unusable)?);
        }
    }
    Ok(anchors)
}

//! Identity folders: who calls, and by which keys the ledger is known.
//!
//! | file | what |
//! |---|---|
//! | `cert.pem`, `key.pem` | client certificate and key; a gate's key seals as well |
//! | `ca.pem` | roots of the server's certificate |
//! | `log.vkey`, `clock.vkey`, `ledger.vkey` | the log's, its clock's and its own records' keys |
//! | `identity.toml` | origin, trust domain, tenant, role, name |
//! | `head.note` | the last head that was seen, once there is one |

use std::path::{Path, PathBuf};

use countersign_client::{ClientConfig, GateIdentity, TlsIdentity};
use countersign_core::cert::{Certificate, Role, SpiffeId, split_pem_bundle};
use countersign_core::note::VerifierKey;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::files::{SMALL_FILE_BYTES_MAX, read_text, shown};

/// The file `identity.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityFile {
    /// The log's name.
    pub(crate) origin: String,
    /// The trust domain of the identity.
    pub(crate) trust_domain: String,
    /// The tenant.
    pub(crate) tenant: String,
    /// The role, as identities spell it.
    pub(crate) role: String,
    /// The gate's name, or the person's id.
    pub(crate) name: String,
    /// Name that the server's certificate bears, where it is not the host that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
}

/// An identity, read from its folder.
pub(crate) struct Identity {
    pub(crate) file: IdentityFile,
    pub(crate) spiffe: SpiffeId,
    pub(crate) chain: Vec<Certificate>,
    pub(crate) log: VerifierKey,
    pub(crate) clock: VerifierKey,
    folder: PathBuf,
    cert_pem: String,
    key_pem: Zeroizing<String>,
    server_roots: String,
}

impl Identity {
    /// Reads a folder. Its parts must agree with each other: certificate, key and names. In a folder
    /// that `init` made, the gate's identity is meant.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let gate = folder.join("identities/gate");
        let made_by_init = !folder.join("identity.toml").exists() && gate.is_dir();
        let folder = if made_by_init { gate.as_path() } else { folder };
        let text = |name: &str| read_text(&folder.join(name), SMALL_FILE_BYTES_MAX);
        let wrong = |name: &str, what: &dyn std::fmt::Display| {
            Failure::usage(format!("{}: {what}", shown(&folder.join(name))))
        };
        let file: IdentityFile =
            toml::from_str(&text("identity.toml")?).map_err(|e| wrong("identity.toml", &e))?;
        let vkey = |name: &str, key_name: &str| {
            let vkey = VerifierKey::parse(text(name)?.trim_end()).map_err(|e| wrong(name, &e))?;
            if vkey.name == key_name {
                Ok(vkey)
            } else {
                Err(wrong(name, &format!("it must be named {key_name}")))
            }
        };
        let log = vkey("log.vkey", &file.origin)?;
        let clock = vkey("clock.vkey", &format!("{}/clock", file.origin))?;
        let cert_pem = text("cert.pem")?;
        let chain = split_pem_bundle(&cert_pem).map_err(|e| wrong("cert.pem", &e))?;
        let leaf = chain.first().ok_or_else(|| wrong("cert.pem", &"it is empty"))?;
        let spiffe = leaf.identity().map_err(|e| wrong("cert.pem", &e))?;
        let role: Role = file.role.parse().map_err(|e| wrong("identity.toml", &e))?;
        let named = SpiffeId::new(&file.trust_domain, &file.tenant, role, &file.name);
        if named.map_err(|e| wrong("identity.toml", &e))? != spiffe {
            let what = format!("it says another identity than cert.pem, which is {spiffe}");
            return Err(wrong("identity.toml", &what));
        }
        let key_pem = Zeroizing::new(text("key.pem")?);
        let identity = Self {
            spiffe,
            log,
            clock,
            folder: folder.to_owned(),
            cert_pem,
            key_pem,
            server_roots: text("ca.pem")?,
            chain,
            file,
        };
        let key = identity.key()?.verifying_key().to_bytes();
        let certified = identity.chain.first().map(Certificate::public_key_bytes);
        if certified != Some(key.as_slice()) {
            return Err(wrong("key.pem", &"it is not the key that cert.pem certifies"));
        }
        Ok(identity)
    }

    /// The key that `cert.pem` certifies.
    pub(crate) fn key(&self) -> Result<SigningKey, Failure> {
        SigningKey::from_pkcs8_pem(&self.key_pem).map_err(|_| {
            // What the parser says might repeat parts of the key.
            Failure::usage(format!(
                "{} is not an Ed25519 key as PKCS#8 PEM.",
                shown(&self.folder.join("key.pem"))
            ))
        })
    }

    /// How to reach a ledger as this identity. `http://` is spoken without it, to a ledger under
    /// `--insecure-dev`.
    pub(crate) fn client_config(&self, server: &str) -> ClientConfig {
        let endpoint =
            if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
        let mut config = ClientConfig::new(endpoint, self.log.clone());
        config.clocks = vec![self.clock.clone()];
        config.head_memory = Some(self.folder.join("head.note"));
        config.server_name.clone_from(&self.file.server_name);
        if config.endpoint.starts_with("https://") {
            config.server_roots = Some(self.server_roots.clone());
            config.identity = Some(TlsIdentity {
                cert_pem: self.cert_pem.clone(),
                key_pem: self.key_pem.to_string(),
            });
        }
        config
    }

    /// The gate that this is.
    pub(crate) fn gate(&self) -> Result<GateIdentity, Failure> {
        if self.spiffe.role() != Role::Gate {
            let (folder, role) = (shown(&self.folder), self.spiffe.role().to_string());
            let article = if role.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            return Err(Failure::usage(format!(
                "{folder} is the identity of {article} {role}, and only a gate seals. Give a gate's \
                 folder, such as DIR/identities/gate."
            )));
        }
        Ok(GateIdentity {
            tenant: self.spiffe.tenant().to_owned(),
            gate: self.spiffe.name().to_owned(),
            seal_key: self.key()?,
            chain: self.chain.clone(),
            instance: 0,
            software: concat!("countersign ", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    /// The chain as evidence files carry it.
    pub(crate) fn chain_pem(&self) -> Vec<String> {
        self.chain.iter().map(Certificate::pem).collect()
    }

    /// A file of the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

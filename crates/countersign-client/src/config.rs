//! What a client is told before it connects.

use std::path::PathBuf;
use std::time::Duration;

use countersign_core::note::VerifierKey;

/// A client certificate and its key, both PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The chain, leaf first, up to but without the root.
    pub cert_pem: String,
    /// The leaf's private key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must not reach a log by way of a debug print.
        f.write_str("TlsIdentity(..)")
    }
}

/// How to reach a ledger, and whose signatures to believe.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `https://host:port`, or `http://host:port` for a ledger on loopback under `--insecure-dev`.
    pub endpoint: String,
    /// The name that the server's certificate must bear; the endpoint's host where it is absent.
    pub server_name: Option<String>,
    /// Who calls.
    pub identity: Option<TlsIdentity>,
    /// Roots of the server's certificate, PEM. Required with `https`.
    pub server_roots: Option<String>,
    /// The log's key; its name is the origin, and no other origin is accepted.
    pub log: VerifierKey,
    /// Keys of the operator's clock, any of which serves. Where there is one, a head without its
    /// cosignature is refused.
    pub clocks: Vec<VerifierKey>,
    /// File that remembers the last head across processes; without it memory ends with the client.
    pub head_memory: Option<PathBuf>,
    /// The least time between two checks that the newest head continues the remembered one.
    pub head_check_interval: Duration,
    /// For reaching the server.
    pub connect_timeout: Duration,
    /// For the answer to one call, and for each answer of a stream of calls.
    pub call_timeout: Duration,
}

impl ClientConfig {
    /// A configuration with the default times: 1 s between head checks, 10 s to connect, 30 s for
    /// an answer (as long as the server itself waits).
    pub fn new(endpoint: impl Into<String>, log: VerifierKey) -> Self {
        Self {
            endpoint: endpoint.into(),
            server_name: None,
            identity: None,
            server_roots: None,
            log,
            clocks: Vec::new(),
            head_memory: None,
            head_check_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
        }
    }
}

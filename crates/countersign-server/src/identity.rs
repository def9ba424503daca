//! Who is at the other end of a connection, from the certificate that its TLS handshake proved.

use std::net::SocketAddr;
use std::sync::Arc;

use countersign_core::cert::{Certificate, SpiffeId};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_proto::errors::Refusal;
use rustls::pki_types::CertificateDer;
use x509_cert::der::Decode as _;

use crate::config::{Revoked, is_revoked};

/// What is known of a connection's peer, in the extensions of every request that comes over it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it calls from.
    pub addr: SocketAddr,
    standing: Arc<Standing>,
}

#[derive(Debug)]
enum Standing {
    Known { identity: SpiffeId, not_after: Micros, keys: Vec<Vec<u8>>, revoked: Vec<Revoked> },
    Unknown(Refusal),
}

impl Peer {
    /// The peer of a TLS connection, from the chain (leaf first) that the handshake verified. A
    /// chain that names nobody of `trust_domain` makes a peer whose every call is refused: the
    /// refusal can say why, which closing the connection could not.
    pub fn from_chain(
        addr: SocketAddr,
        chain: &[CertificateDer<'_>],
        trust_domain: &str,
        revoked: &[Revoked],
    ) -> Self {
        let standing = Standing::of(chain, trust_domain, revoked).unwrap_or_else(|fault| {
            let unknown = Code::Unauthenticated;
            Standing::Unknown(Refusal::new(unknown, format!("{} {fault}", unknown.what())))
        });
        Self { addr, standing: Arc::new(standing) }
    }

    /// The peer of a plain connection under `--insecure-dev`.
    pub fn insecure_dev(addr: SocketAddr, identity: SpiffeId) -> Self {
        let standing = Standing::Known {
            identity,
            not_after: Micros(u64::MAX),
            keys: Vec::new(),
            revoked: Vec::new(),
        };
        Self { addr, standing: Arc::new(standing) }
    }

    /// The identity, if it still counts at `now`: a connection may outlive its certificate.
    pub fn identity(&self, now: Micros) -> Result<&SpiffeId, Refusal> {
        match &*self.standing {
            Standing::Unknown(refusal) => Err(refusal.clone()),
            Standing::Known { not_after, .. } if now > *not_after => {
                Err(unauthenticated("The connection's client certificate has expired."))
            }
            Standing::Known { keys, revoked, .. }
                if is_revoked(revoked, keys.iter().map(Vec::as_slice), now) =>
            {
                Err(unauthenticated("The key of the client certificate is revoked."))
            }
            Standing::Known { identity, .. } => Ok(identity),
        }
    }
}

fn unauthenticated(what: &str) -> Refusal {
    let code = Code::Unauthenticated;
    Refusal::new(code, format!("{what} {}", code.remedy()))
}

impl Standing {
    fn of(
        chain: &[CertificateDer<'_>],
        trust_domain: &str,
        revoked: &[Revoked],
    ) -> Result<Self, Fault> {
        let leaf = chain.first().ok_or(Code::CertIdentity)?;
        let leaf = Certificate::from_der(leaf)?;
        let identity = leaf.identity()?;
        if identity.trust_domain() != trust_domain {
            return Err(Code::CertIdentity.at_field("trust domain"));
        }
        // The handshake checked the dates of the whole chain, once; the earliest end is when that
        // check stops being true.
        let mut not_after = u64::MAX;
        let mut keys = Vec::new();
        for der in chain {
            let parsed = x509_cert::Certificate::from_der(der).map_err(|_| Code::CertMalformed)?;
            let tbs = parsed.tbs_certificate();
            let end = tbs.validity().not_after.to_unix_duration().as_secs();
            // Valid to the end of the second that notAfter names.
            not_after = not_after.min(end.saturating_mul(1_000_000).saturating_add(999_999));
            keys.push(tbs.subject_public_key_info().subject_public_key.raw_bytes().to_vec());
        }
        Ok(Self::Known { identity, not_after: Micros(not_after), keys, revoked: revoked.to_vec() })
    }
}

/// The wall clock, as the edge reads it.
pub fn now() -> Micros {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(std::time::Duration::ZERO);
    Micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

//! Keys and a development PKI: three authorities, a server, a gate, an enforcement point, and the
//! tenant's people.
//!
//! One key serves a gate for mutual TLS and for its seals, under one certificate, so that who
//! connects and who seals can't drift apart, so authorities and leaves of gates and people are
//! Ed25519. The server's are ECDSA P-256: TLS clients on BoringSSL (gRPC for Python and C++, Java)
//! take no Ed25519 certificate of a server.

use std::time::Duration;

use countersign_core::cert::{Certificate, Role, SpiffeId};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use zeroize::Zeroizing;

use crate::exit::Failure;

/// Certificates begin this long ago, so that a clock a little behind takes them.
const BACKDATED: Duration = Duration::from_hours(1);
/// A leaf's life: long enough for a year of development, and doctor warns before it ends.
const LEAF_LIFE: Duration = Duration::from_hours(397 * 24);
/// An authority's life.
const AUTHORITY_LIFE: Duration = Duration::from_hours(3_650 * 24);

/// A key and its PKCS#8 PEM.
pub(crate) struct Key {
    pub(crate) key: SigningKey,
    pub(crate) pem: Zeroizing<String>,
}

impl Key {
    /// A new one from the machine's random source.
    pub(crate) fn generate() -> Result<Self, Failure> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|error| {
            Failure::internal(format!(
                "the machine gives no random bytes: {error}. Mend that first."
            ))
        })?;
        let key = SigningKey::from_bytes(&seed);
        // Without the public key (PKCS#8 version 1): OpenSSL, and with it curl, reads no other.
        let bytes = KeypairBytes { secret_key: *seed, public_key: None };
        let pem = bytes
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| Failure::internal(format!("a key can't be encoded: {error}")))?;
        Ok(Self { key, pem })
    }

    fn pair(&self) -> Result<KeyPair, Failure> {
        KeyPair::from_pem(&self.pem).map_err(|error| failed(&error))
    }
}

/// The algorithm of an authority and of all that it issues to.
#[derive(Clone, Copy)]
pub(crate) enum Algorithm {
    /// For gates and people: their keys also seal.
    Ed25519,
    /// For servers, which every TLS client takes.
    P256,
}

impl Algorithm {
    /// A new key, and its PKCS#8 PEM.
    fn generate(self) -> Result<(KeyPair, Zeroizing<String>), Failure> {
        match self {
            Self::Ed25519 => {
                let key = Key::generate()?;
                Ok((key.pair()?, key.pem))
            }
            Self::P256 => {
                let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
                let pair = pair.map_err(|error| failed(&error))?;
                let pem = Zeroizing::new(pair.serialize_pem());
                Ok((pair, pem))
            }
        }
    }
}

/// A certificate and its key, PEM.
pub(crate) struct Holder {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: Zeroizing<String>,
}

/// Who issues.
pub(crate) struct Authority {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: Zeroizing<String>,
    algorithm: Algorithm,
    issuer: Issuer<'static, KeyPair>,
    now: Duration,
}

impl Authority {
    /// A new authority of this name; `now` since the epoch.
    pub(crate) fn new(name: &str, algorithm: Algorithm, now: Duration) -> Result<Self, Failure> {
        let (pair, key_pem) = algorithm.generate()?;
        let mut params = dated(name, now, AUTHORITY_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&pair).map_err(|error| failed(&error))?;
        let cert_pem = strict_pem(certificate.der())?;
        Ok(Self { cert_pem, key_pem, algorithm, issuer: Issuer::new(params, pair), now })
    }

    /// A server's certificate for these DNS names, and for loopback.
    pub(crate) fn server(&self, names: &[String]) -> Result<Holder, Failure> {
        let mut params = dated("Countersign ledger", self.now, LEAF_LIFE)?;
        for name in names {
            let name = name.as_str().try_into().map_err(|error| failed(&error))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        for address in ["127.0.0.1", "::1"] {
            let address = address.parse().map_err(|_| Failure::internal("an address is wrong"))?;
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// The certificate of an identity.
    pub(crate) fn client(&self, identity: &SpiffeId) -> Result<Holder, Failure> {
        let name = format!("{} {} of {}", identity.role(), identity.name(), identity.tenant());
        let mut params = dated(&name, self.now, LEAF_LIFE)?;
        let uri = identity.to_string();
        let uri = uri.as_str().try_into().map_err(|error| failed(&error))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Holder, Failure> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let (pair, key_pem) = self.algorithm.generate()?;
        let issued = params.signed_by(&pair, &self.issuer).map_err(|error| failed(&error))?;
        Ok(Holder { cert_pem: strict_pem(issued.der())?, key_pem })
    }
}

/// Identity of a role in a tenant.
pub(crate) fn identity(
    trust_domain: &str,
    tenant: &str,
    role: Role,
    name: &str,
) -> Result<SpiffeId, Failure> {
    SpiffeId::new(trust_domain, tenant, role, name).map_err(|_| {
        Failure::usage(
            "tenant and gate are 1 to 128 characters of A-Z a-z 0-9 . _ - each, and the origin \
             begins with a host name of a-z 0-9 . - such as ledger.acme.example/prod.",
        )
    })
}

fn dated(name: &str, now: Duration, life: Duration) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new()).map_err(|error| failed(&error))?;
    let mut subject = DistinguishedName::new();
    // RFC 5280 allows a common name 64 characters.
    subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    params.distinguished_name = subject;
    let begin = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATED);
    params.not_before = begin;
    params.not_after = begin + life;
    Ok(params)
}

/// The one spelling that our own parser accepts, and the proof that it does.
fn strict_pem(der: &[u8]) -> Result<String, Failure> {
    let certificate = Certificate::from_der(der)
        .map_err(|error| Failure::internal(format!("a certificate made here is wrong: {error}")))?;
    Ok(certificate.pem())
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("a certificate can't be made: {error}"))
}

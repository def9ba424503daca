//! X.509 certificates: who holds a key, by whose word, and at what time that word counted.
//!
//! A gate's seal and a person's signature are believed only through a certificate chain that leads
//! to a root which the verifier named beforehand (evidence verification, step 8). This module
//! parses such chains strictly and validates them at one given instant:
//!
//! - [`Certificate`] accepts one spelling: strict PEM, and DER that re-encodes to itself;
//! - [`SpiffeId`] is the identity, `spiffe://<trust domain>/tenant/<tenant>/<role>/<name>`;
//! - [`TrustAnchor`] is a root that someone decided to trust;
//! - [`verify_chain`] leaves a [`VerifiedChain`] behind, the only way to obtain one.
//!
//! Absent on purpose: clocks, files and networks; revocation lists, OCSP and name constraints
//! (revocation is the trust file's, by key: see [`VerifiedChain::keys`]); path building (a chain is
//! given in order, leaf first); extended key usage, which neither admits nor refuses anything here.

mod chain;
mod error;
mod key;
mod pem;
mod spiffe;

use std::fmt;

use sha2::{Digest as _, Sha256};
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::name::Name;
use x509_cert::time::Time;

pub use self::chain::{MAX_CHAIN, TrustAnchor, VerifiedChain, verify_chain};
pub use self::error::CertError;
use self::key::{KeyKind, SignatureKind};
pub use self::pem::{MAX_BUNDLE, MAX_PEM, split_pem_bundle};
pub use self::spiffe::{MAX_SEGMENT, Role, SpiffeId};

/// The longest certificate in DER, in bytes: what fits into [`MAX_PEM`], so that every certificate
/// that parses has a PEM text that parses too.
pub const MAX_DER: usize = 12_000;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// One X.509 v3 certificate, parsed once: its bytes and the facts that path validation asks for.
///
/// Parsing alone proves nothing: no signature, date or issuer has been looked at. Two certificates
/// are equal when their DER is.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// First and last second of validity since the Unix epoch, both inclusive.
    not_before_s: u64,
    not_after_s: u64,
    key_kind: KeyKind,
    key: Vec<u8>,
    signature_kind: SignatureKind,
    signature: Vec<u8>,
    extensions: ExtensionFacts,
}

/// What the extensions say.
#[derive(Clone, Default)]
struct ExtensionFacts {
    basic: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    alt_names: Option<SubjectAltName>,
    /// The first critical extension that path validation does not know.
    unknown_critical: Option<ObjectIdentifier>,
}

/// basicConstraints, RFC 5280 section 4.2.1.9.
#[derive(Clone, Copy)]
struct BasicConstraints {
    ca: bool,
    /// How many intermediates may follow; a number too large for `u64` limits nothing.
    path_len: Option<u64>,
}

impl Certificate {
    /// Parses DER of at most [`MAX_DER`] bytes.
    ///
    /// Refused besides what is not a certificate: bytes that do not re-encode to themselves,
    /// versions other than v3, an inner signature algorithm that differs from the outer one, an
    /// extension that appears twice, and malformed basicConstraints, keyUsage, extKeyUsage or
    /// subjectAltName.
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        if der.len() > MAX_DER {
            return Err(CertError::TooLarge);
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertError::DerMalformed)?;
        let canonical = parsed.to_der().map_err(|_| CertError::DerMalformed)?;
        if canonical != der {
            return Err(CertError::DerMalformed);
        }
        let tbs = parsed.tbs_certificate();
        if tbs.version() != x509_cert::Version::V3 {
            return Err(CertError::VersionNotV3);
        }
        if tbs.signature() != parsed.signature_algorithm() {
            return Err(CertError::SignatureAlgorithmsDiffer);
        }
        let spki = tbs.subject_public_key_info();
        let key = spki.subject_public_key.as_bytes().ok_or(CertError::DerMalformed)?;
        let signature = parsed.signature().as_bytes().ok_or(CertError::DerMalformed)?;
        Ok(Self {
            der: canonical,
            tbs: tbs.to_der().map_err(|_| CertError::DerMalformed)?,
            issuer: name_der(tbs.issuer())?,
            subject: name_der(tbs.subject())?,
            not_before_s: unix_seconds(tbs.validity().not_before),
            not_after_s: unix_seconds(tbs.validity().not_after),
            key_kind: KeyKind::of(&spki.algorithm),
            key: key.to_vec(),
            signature_kind: SignatureKind::of(parsed.signature_algorithm()),
            signature: signature.to_vec(),
            extensions: ExtensionFacts::parse(tbs.extensions())?,
        })
    }

    /// The exact bytes that were parsed.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER: how records name a certificate.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The contents of the subjectPublicKey BIT STRING: 32 bytes for Ed25519, an uncompressed
    /// point for P-256 and P-384.
    pub fn public_key_bytes(&self) -> &[u8] {
        &self.key
    }

    /// The identity in the subjectAltName: exactly one URI, a [`SpiffeId`]. DNS names may stand
    /// beside it; any other kind of name is refused.
    pub fn identity(&self) -> Result<SpiffeId, CertError> {
        let names = self.extensions.alt_names.as_ref().ok_or(CertError::NoUriSan)?;
        let mut uri = None;
        for name in &names.0 {
            match name {
                GeneralName::UniformResourceIdentifier(text) => {
                    if uri.replace(text.as_str()).is_some() {
                        return Err(CertError::ManyUriSans);
                    }
                }
                GeneralName::DnsName(_) => {}
                _ => return Err(CertError::OtherSan),
            }
        }
        uri.ok_or(CertError::NoUriSan)?.parse()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digest is how everything else names a certificate; the bytes would only flood logs.
        f.write_str("Certificate(")?;
        for byte in self.digest() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl ExtensionFacts {
    fn parse(extensions: Option<&Extensions>) -> Result<Self, CertError> {
        let mut facts = Self::default();
        let Some(extensions) = extensions else {
            return Ok(facts);
        };
        // RFC 5280 section 4.1: Extensions ::= SEQUENCE SIZE (1..MAX).
        if extensions.is_empty() {
            return Err(CertError::DerMalformed);
        }
        for (position, extension) in extensions.iter().enumerate() {
            let mut earlier = extensions.iter().take(position);
            if earlier.any(|other| other.extn_id == extension.extn_id) {
                return Err(CertError::DuplicateExtension { oid: extension.extn_id.to_string() });
            }
            facts.note(extension).ok_or_else(|| CertError::ExtensionMalformed {
                oid: extension.extn_id.to_string(),
            })?;
        }
        Ok(facts)
    }

    /// Takes in one extension; `None` when its value is malformed.
    fn note(&mut self, extension: &Extension) -> Option<()> {
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            BASIC_CONSTRAINTS => self.basic = Some(BasicConstraints::parse(value)?),
            KEY_USAGE => self.key_usage = Some(canonical::<KeyUsage>(value)?),
            SUBJECT_ALT_NAME => self.alt_names = Some(canonical::<SubjectAltName>(value)?),
            EXTENDED_KEY_USAGE => {
                // Recognised, so that it may be critical, but it restricts nothing: gates present
                // the same certificate to TLS libraries, which want one EKU or another.
                canonical::<ExtendedKeyUsage>(value)?;
            }
            unknown if extension.critical => {
                self.unknown_critical.get_or_insert(unknown);
            }
            _ => {}
        }
        Some(())
    }

    fn is_ca(&self) -> bool {
        self.basic.is_some_and(|basic| basic.ca)
    }

    fn signs_certificates(&self) -> bool {
        self.key_usage.is_some_and(|usage| usage.key_cert_sign())
    }

    /// Whether pathLen leaves room for so many intermediates below this certificate.
    fn allows_below(&self, intermediates: usize) -> bool {
        let limit = self.basic.and_then(|basic| basic.path_len);
        limit.is_none_or(|limit| u64::try_from(intermediates).is_ok_and(|count| count <= limit))
    }
}

impl BasicConstraints {
    /// Reads the two members by hand: x509-cert keeps pathLen in a `u8` and would call a larger,
    /// lawful one malformed.
    fn parse(value: &[u8]) -> Option<Self> {
        let mut reader = SliceReader::new(value).ok()?;
        let (ca, path_len) = reader
            .sequence(|inner| {
                let ca = Option::<bool>::decode(inner)?;
                let path_len = Option::<UintRef<'_>>::decode(inner)?;
                Ok::<_, x509_cert::der::Error>((ca, path_len))
            })
            .ok()?;
        reader.finish().ok()?;
        // DER leaves a DEFAULT out, so FALSE is spelled by absence; and a path length without
        // CA:TRUE has no meaning (RFC 5280 section 4.2.1.9).
        match (ca, path_len) {
            (Some(false), _) | (None, Some(_)) => None,
            (None, None) => Some(Self { ca: false, path_len: None }),
            (Some(true), path_len) => Some(Self {
                ca: true,
                path_len: path_len.map(|length| saturating_u64(length.as_bytes())),
            }),
        }
    }
}

/// Decodes an extension's value and demands that it re-encodes to the same bytes.
fn canonical<T>(value: &[u8]) -> Option<T>
where
    T: for<'a> x509_cert::der::Decode<'a> + x509_cert::der::Encode,
{
    let decoded = T::from_der(value).ok()?;
    (decoded.to_der().ok()? == value).then_some(decoded)
}

/// A big-endian number, or `u64::MAX` where it does not fit.
fn saturating_u64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0_u64, |value, byte| value.saturating_mul(256).saturating_add(u64::from(*byte)))
}

fn name_der(name: &Name) -> Result<Vec<u8>, CertError> {
    name.to_der().map_err(|_| CertError::DerMalformed)
}

fn unix_seconds(time: Time) -> u64 {
    time.to_unix_duration().as_secs()
}

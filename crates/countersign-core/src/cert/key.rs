//! The three kinds of key and of signature that a chain may hold.

use ed25519_dalek::VerifyingKey;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest as _, Sha256, Sha384};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::Certificate;

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");

/// What the subjectPublicKeyInfo says its key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Ed25519,
    P256,
    P384,
    Other,
}

impl KeyKind {
    pub(super) fn of(algorithm: &AlgorithmIdentifierOwned) -> Self {
        match (algorithm.oid, &algorithm.parameters) {
            (ED25519, None) => Self::Ed25519,
            (EC_PUBLIC_KEY, Some(parameters)) => match parameters.decode_as() {
                Ok(P256) => Self::P256,
                Ok(P384) => Self::P384,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// How a certificate is signed; the parameters are absent in all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureKind {
    Ed25519,
    EcdsaSha256,
    EcdsaSha384,
    Other,
}

impl SignatureKind {
    pub(super) fn of(algorithm: &AlgorithmIdentifierOwned) -> Self {
        match (algorithm.oid, &algorithm.parameters) {
            (ED25519, None) => Self::Ed25519,
            (ECDSA_SHA256, None) => Self::EcdsaSha256,
            (ECDSA_SHA384, None) => Self::EcdsaSha384,
            _ => Self::Other,
        }
    }
}

/// A key that may sign certificates.
#[derive(Debug, Clone)]
pub(super) enum IssuerKey {
    Ed25519(VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureFault {
    /// The algorithm is not known here, or not one of this kind of key.
    Algorithm,
    /// The signature does not verify.
    Invalid,
}

impl IssuerKey {
    /// The certificate's key, when it is of a known kind and sound.
    pub(super) fn of(certificate: &Certificate) -> Option<Self> {
        let bytes = certificate.key.as_slice();
        match certificate.key_kind {
            KeyKind::Ed25519 => ed25519_key(bytes).map(Self::Ed25519),
            // Points come uncompressed, the one spelling: a key revoked by its bytes must not
            // come back in the other.
            KeyKind::P256 if bytes.first() == Some(&0x04) => {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok().map(Self::P256)
            }
            KeyKind::P384 if bytes.first() == Some(&0x04) => {
                p384::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok().map(Self::P384)
            }
            _ => None,
        }
    }

    /// Checks that this key signed `certificate`.
    pub(super) fn verify(&self, certificate: &Certificate) -> Result<(), SignatureFault> {
        let (tbs, signature) = (certificate.tbs.as_slice(), certificate.signature.as_slice());
        let valid = match (self, certificate.signature_kind) {
            (Self::Ed25519(key), SignatureKind::Ed25519) => {
                ed25519_dalek::Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify_strict(tbs, &signature).is_ok())
            }
            (Self::P256(key), kind) => {
                let prehash = ecdsa_prehash(kind, tbs)?;
                p256::ecdsa::Signature::from_der(signature)
                    .is_ok_and(|signature| key.verify_prehash(&prehash, &signature).is_ok())
            }
            (Self::P384(key), kind) => {
                let prehash = ecdsa_prehash(kind, tbs)?;
                p384::ecdsa::Signature::from_der(signature)
                    .is_ok_and(|signature| key.verify_prehash(&prehash, &signature).is_ok())
            }
            (Self::Ed25519(_), _) => return Err(SignatureFault::Algorithm),
        };
        if valid { Ok(()) } else { Err(SignatureFault::Invalid) }
    }
}

/// An Ed25519 key that strict verification accepts: a point on the curve, in its canonical
/// encoding and not of small order.
pub(super) fn ed25519_key(bytes: &[u8]) -> Option<VerifyingKey> {
    let bytes: &[u8; 32] = bytes.try_into().ok()?;
    let key = VerifyingKey::from_bytes(bytes).ok()?;
    (is_canonical(bytes) && !key.is_weak()).then_some(key)
}

/// Whether the encoded y is below the field's prime 2^255 - 19: the library also takes the 19
/// numbers from there on, as second spellings of small ones. (The other doubtful spelling, a sign
/// on x = 0, belongs to points of small order.)
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// The hash that ECDSA signs. On either curve the verifier fits it to the field's width itself
/// (SEC 1 section 4.1.4).
fn ecdsa_prehash(kind: SignatureKind, message: &[u8]) -> Result<Vec<u8>, SignatureFault> {
    match kind {
        SignatureKind::EcdsaSha256 => Ok(Sha256::digest(message).to_vec()),
        SignatureKind::EcdsaSha384 => Ok(Sha384::digest(message).to_vec()),
        SignatureKind::Ed25519 | SignatureKind::Other => Err(SignatureFault::Algorithm),
    }
}

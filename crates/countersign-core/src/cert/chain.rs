//! Path validation: from a leaf to a root that someone decided to trust, at one instant.

use super::key::{IssuerKey, SignatureFault, ed25519_key};
use super::{CertError, Certificate, KeyKind, SpiffeId};

/// The most certificates in a chain, an included root counted.
pub const MAX_CHAIN: usize = 8;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// A root that someone decided to trust: a certificate that may sign others.
///
/// Trust is in the key and the name. The certificate's own dates and its own signature say nothing
/// that the decision to trust it did not, and are ignored.
#[derive(Debug, Clone)]
pub struct TrustAnchor {
    certificate: Certificate,
    key: IssuerKey,
}

impl TrustAnchor {
    /// Takes a certificate as a root: CA:TRUE, keyCertSign in a keyUsage that is present, an
    /// Ed25519, P-256 or P-384 key, and no critical extension that is unknown here.
    pub fn new(certificate: Certificate) -> Result<Self, CertError> {
        let facts = &certificate.extensions;
        if let Some(oid) = facts.unknown_critical {
            return Err(CertError::AnchorCriticalExtension { oid: oid.to_string() });
        }
        if !facts.is_ca() {
            return Err(CertError::AnchorNotCa);
        }
        if !facts.signs_certificates() {
            return Err(CertError::AnchorNoKeyCertSign);
        }
        let key = IssuerKey::of(&certificate).ok_or(CertError::AnchorKey)?;
        Ok(Self { certificate, key })
    }

    /// The root's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// A chain that was valid at the time asked for; only [`verify_chain`] makes one.
///
/// It says that the leaf's key was this identity's by the word of a trusted root. Whether that
/// identity may do what it did, and whether one of [`VerifiedChain::keys`] has been revoked, is
/// for the caller to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain {
    leaf_key: [u8; 32],
    identity: SpiffeId,
    leaf_digest: [u8; 32],
    keys: Vec<Vec<u8>>,
    not_after_us: u64,
}

impl VerifiedChain {
    /// The leaf's Ed25519 public key.
    pub fn leaf_key(&self) -> [u8; 32] {
        self.leaf_key
    }

    /// Whom the leaf names.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// SHA-256 of the leaf's DER.
    pub fn leaf_digest(&self) -> [u8; 32] {
        self.leaf_digest
    }

    /// The public keys relied on, as [`Certificate::public_key_bytes`]: the leaf's, the
    /// intermediates' upwards, and last the anchor's. If one of them is revoked, so is the word.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// The last microsecond since the Unix epoch at which the leaf is valid: the end of the second
    /// that its notAfter names.
    pub fn not_after_us(&self) -> u64 {
        self.not_after_us
    }
}

/// Validates a chain, leaf first, at `at_us` microseconds since the Unix epoch.
///
/// Each certificate must be issued by the one after it, and the last by one of the anchors; the
/// last may also be an anchor itself. All of the chain is checked, nothing in it is skipped, and
/// the first fault found from the leaf upwards is returned. Certificates are valid for whole
/// seconds, from notBefore to notAfter, both included.
pub fn verify_chain(
    chain: &[Certificate],
    anchors: &[TrustAnchor],
    at_us: u64,
) -> Result<VerifiedChain, CertError> {
    let (leaf, above) = chain.split_first().ok_or(CertError::ChainEmpty)?;
    if chain.len() > MAX_CHAIN {
        return Err(CertError::ChainTooLong);
    }
    let known = |certificate: &Certificate| {
        anchors.iter().find(|anchor| anchor.certificate == *certificate)
    };
    if known(leaf).is_some() {
        return Err(CertError::LeafIsAnchor);
    }
    let second = at_us / MICROS_PER_SECOND;
    let leaf_key = check_leaf(leaf)?;
    check_time(leaf, 0, second)?;
    let identity = leaf.identity()?;

    // A root that the sender included is judged as the anchor that it is, not as an intermediate.
    let included = above.last().and_then(known);
    let intermediates = match (included, above.split_last()) {
        (Some(_), Some((_, below))) => below,
        _ => above,
    };

    let mut keys = vec![leaf.key.clone()];
    let mut top = leaf;
    let mut top_index = 0;
    for issuer in intermediates {
        let index = top_index + 1;
        if top.issuer != issuer.subject {
            return Err(CertError::IssuerMismatch { index: top_index });
        }
        let key = check_issuer(issuer, index)?;
        check_time(issuer, index, second)?;
        check_signature(top, top_index, &key)?;
        keys.push(issuer.key.clone());
        (top, top_index) = (issuer, index);
    }

    let anchor = match included {
        Some(anchor) if top.issuer != anchor.certificate.subject => {
            return Err(CertError::IssuerMismatch { index: top_index });
        }
        Some(anchor) => check_anchor(top, top_index, anchor).map(|()| anchor)?,
        None => find_anchor(top, top_index, anchors)?,
    };
    keys.push(anchor.certificate.key.clone());

    let last_second_us = leaf.not_after_s.saturating_mul(MICROS_PER_SECOND);
    Ok(VerifiedChain {
        leaf_key,
        identity,
        leaf_digest: leaf.digest(),
        keys,
        not_after_us: last_second_us.saturating_add(MICROS_PER_SECOND - 1),
    })
}

/// What is asked of the leaf alone; gives its key.
fn check_leaf(leaf: &Certificate) -> Result<[u8; 32], CertError> {
    let facts = &leaf.extensions;
    check_critical(leaf, 0)?;
    if facts.is_ca() {
        return Err(CertError::LeafIsCa);
    }
    let usage_ok =
        facts.key_usage.is_none_or(|usage| usage.digital_signature() && !usage.key_cert_sign());
    if !usage_ok {
        return Err(CertError::LeafKeyUsage);
    }
    if leaf.key_kind != KeyKind::Ed25519 {
        return Err(CertError::LeafKey);
    }
    let key = ed25519_key(&leaf.key).ok_or(CertError::LeafKey)?;
    Ok(key.to_bytes())
}

/// What is asked of an intermediate alone; gives its key.
fn check_issuer(issuer: &Certificate, index: usize) -> Result<IssuerKey, CertError> {
    let facts = &issuer.extensions;
    check_critical(issuer, index)?;
    if !facts.is_ca() {
        return Err(CertError::NotCa { index });
    }
    if !facts.signs_certificates() {
        return Err(CertError::NoKeyCertSign { index });
    }
    check_path_len(issuer, index)?;
    IssuerKey::of(issuer).ok_or(CertError::KeyAlgorithm { index })
}

fn check_critical(certificate: &Certificate, index: usize) -> Result<(), CertError> {
    match certificate.extensions.unknown_critical {
        Some(oid) => Err(CertError::CriticalExtension { index, oid: oid.to_string() }),
        None => Ok(()),
    }
}

/// Below the issuer at `index` stand the leaf and `index - 1` intermediates. Self-issued ones
/// count like any other, which is stricter than RFC 5280 section 6.1.4 (l).
fn check_path_len(issuer: &Certificate, index: usize) -> Result<(), CertError> {
    if issuer.extensions.allows_below(index.saturating_sub(1)) {
        Ok(())
    } else {
        Err(CertError::PathLen { index })
    }
}

fn check_time(certificate: &Certificate, index: usize, second: u64) -> Result<(), CertError> {
    if second < certificate.not_before_s {
        return Err(CertError::NotYetValid { index });
    }
    if second > certificate.not_after_s {
        return Err(CertError::Expired { index });
    }
    Ok(())
}

fn check_signature(
    certificate: &Certificate,
    index: usize,
    key: &IssuerKey,
) -> Result<(), CertError> {
    key.verify(certificate).map_err(|fault| match fault {
        SignatureFault::Algorithm => CertError::SignatureAlgorithm { index },
        SignatureFault::Invalid => CertError::SignatureInvalid { index },
    })
}

/// Checks that `anchor` issued the chain's top, and allows as many intermediates as there are.
fn check_anchor(
    top: &Certificate,
    top_index: usize,
    anchor: &TrustAnchor,
) -> Result<(), CertError> {
    check_signature(top, top_index, &anchor.key)?;
    check_path_len(&anchor.certificate, top_index + 1)
}

/// The anchor that issued the chain's top. Several may bear the same name, as after a change of
/// the root's key: each is tried, and the fault reported is that of the one that came furthest.
fn find_anchor<'a>(
    top: &Certificate,
    top_index: usize,
    anchors: &'a [TrustAnchor],
) -> Result<&'a TrustAnchor, CertError> {
    let mut fault = CertError::UntrustedRoot;
    for anchor in anchors.iter().filter(|anchor| anchor.certificate.subject == top.issuer) {
        match check_anchor(top, top_index, anchor) {
            Ok(()) => return Ok(anchor),
            Err(path_len @ CertError::PathLen { .. }) => fault = path_len,
            Err(other) if fault == CertError::UntrustedRoot => fault = other,
            Err(_) => {}
        }
    }
    Err(fault)
}

//! Certificates and chains: one test for each attack, named by it. Here is the CA that makes them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

mod accepted;
mod chain;
mod forms;
mod holders;

use countersign_core::cert::{CertError, Certificate, TrustAnchor, VerifiedChain, verify_chain};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SignatureAlgorithm,
};

/// 2026-11-23T12:00:00Z.
pub(crate) const NOW_S: u64 = 1_795_435_200;
pub(crate) const NOW_US: u64 = NOW_S * 1_000_000;
pub(crate) const DAY_S: u64 = 86_400;
pub(crate) const GATE: &str = "spiffe://acme.example/tenant/acme/gate/prod-1";

/// A CA: its certificate and what it signs with.
pub(crate) struct Ca {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) certificate: Certificate,
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, &PKCS_ED25519, |_| ())
    }

    pub(crate) fn root_with(
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = ours(&params.self_signed(&key).unwrap());
        Self { params, key, certificate }
    }

    pub(crate) fn ca(&self, name: &str) -> Self {
        self.ca_with(name, &PKCS_ED25519, |_| ())
    }

    pub(crate) fn ca_with(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = self.issue(&params, &key);
        Self { params, key, certificate }
    }

    pub(crate) fn issue(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Certificate {
        let issuer = Issuer::from_params(&self.params, &self.key);
        ours(&params.signed_by(key, &issuer).unwrap())
    }

    pub(crate) fn leaf(&self) -> Certificate {
        self.leaf_with(|_| ())
    }

    pub(crate) fn leaf_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = leaf_params();
        change(&mut params);
        self.issue(&params, &KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    pub(crate) fn anchor(&self) -> TrustAnchor {
        TrustAnchor::new(self.certificate.clone()).unwrap()
    }
}

/// A public key that nobody needs to hold, of any bytes.
pub(crate) struct RawKey(pub(crate) Vec<u8>, pub(crate) &'static SignatureAlgorithm);

impl PublicKeyData for RawKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

pub(crate) fn ours(made: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(made.der()).unwrap()
}

pub(crate) fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn leaf_params() -> CertificateParams {
    let mut params = named("prod-1");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![uri(GATE)];
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub(crate) fn critical(oid: &[u64], content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(true);
    extension
}

pub(crate) fn position_of(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

pub(crate) fn verify(chain: &[&Certificate], anchors: &[&Ca]) -> Result<VerifiedChain, CertError> {
    verify_at(chain, anchors, NOW_US)
}

pub(crate) fn verify_at(
    chain: &[&Certificate],
    anchors: &[&Ca],
    at_us: u64,
) -> Result<VerifiedChain, CertError> {
    let chain: Vec<_> = chain.iter().map(|certificate| (*certificate).clone()).collect();
    let anchors: Vec<_> = anchors.iter().map(|ca| ca.anchor()).collect();
    verify_chain(&chain, &anchors, at_us)
}

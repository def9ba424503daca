//! Authorities and holders of certificates, made for one test.

use countersign_core::cert::{Certificate, Role, SpiffeId};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// A certificate authority.
pub struct Authority {
    /// Its certificate, PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Holder {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The key, PKCS#8 PEM.
    pub key_pem: String,
    /// The same key, to sign with.
    pub key: SigningKey,
    /// The same certificate, as a chain without its root.
    pub chain: Vec<Certificate>,
}

impl Authority {
    /// A root of its own.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate that `change` has had its way with.
    pub fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Holder {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key_pem = key.serialize_pem();
        Holder {
            cert_pem: certificate.pem(),
            key: SigningKey::from_pkcs8_pem(&key_pem).unwrap(),
            key_pem,
            chain: vec![Certificate::from_der(certificate.der()).unwrap()],
        }
    }

    /// A certificate of this identity.
    pub fn holder(&self, domain: &str, tenant: &str, role: Role, name: &str) -> Holder {
        self.holder_with(domain, tenant, role, name, |_| {})
    }

    /// A certificate of this identity that `change` has had its way with.
    pub fn holder_with(
        &self,
        domain: &str,
        tenant: &str,
        role: Role,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Holder {
        let uri = SpiffeId::new(domain, tenant, role, name).unwrap().to_string();
        self.issue(|params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
            change(params);
        })
    }
}

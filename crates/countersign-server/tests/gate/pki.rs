//! Authorities and holders of certificates, made for one test.

use countersign_core::cert::{Certificate, Role, SpiffeId};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) struct Holder {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) key: SigningKey,
    pub(crate) chain: Vec<Certificate>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, name: SanType) -> Holder {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![name];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key_pem = key.serialize_pem();
        Holder {
            cert_pem: certificate.pem(),
            key: SigningKey::from_pkcs8_pem(&key_pem).unwrap(),
            key_pem,
            chain: vec![Certificate::from_der(certificate.der()).unwrap()],
        }
    }

    pub(crate) fn holder(&self, tenant: &str, role: Role, name: &str) -> Holder {
        let uri = SpiffeId::new("acme.example", tenant, role, name).unwrap().to_string();
        self.issue(SanType::URI(uri.try_into().unwrap()))
    }
}

impl Holder {
    /// Whom the certificate names.
    pub(crate) fn identity(&self) -> SpiffeId {
        self.chain[0].identity().unwrap()
    }

    /// The chain as the wire carries it.
    pub(crate) fn der(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.der().to_vec()).collect()
    }
}

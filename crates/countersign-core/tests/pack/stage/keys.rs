//! Authorities, holders of keys, and what a verifier trusts of them.

use countersign_core::cert::Certificate;
use countersign_core::hash::Hash;
use countersign_core::note::{KeyType, VerifierKey};
use countersign_core::trust::Trust;
use ed25519_dalek::SigningKey;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

use super::{Gate, ORIGIN};

/// A key with the certificate that names its holder.
#[derive(Clone)]
pub(crate) struct Holder {
    pub(crate) key: SigningKey,
    pub(crate) chain: Vec<String>,
}

impl Holder {
    pub(crate) fn digest(&self) -> Hash {
        Certificate::from_pem(&self.chain[0]).unwrap().digest()
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }
}

pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, path: &str, years: [i32; 2]) -> Holder {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = rcgen::date_time_ymd(years[0], 1, 1);
        params.not_after = rcgen::date_time_ymd(years[1], 1, 1);
        let uri = format!("spiffe://acme.example/tenant/{path}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let der = params.signed_by(&key, &self.issuer).unwrap();
        let pem = Certificate::from_der(der.der()).unwrap().pem();
        // PKCS #8 of an Ed25519 key: its seed stands after sixteen bytes of framing.
        let seed: [u8; 32] = key.serialize_der()[16..48].try_into().unwrap();
        Holder { key: SigningKey::from_bytes(&seed), chain: vec![pem] }
    }
}

/// Authorities and the ledger's keys.
pub(crate) struct World {
    pub(crate) gates: Authority,
    pub(crate) people: Authority,
    pub(crate) log_key: SigningKey,
    pub(crate) clock_key: SigningKey,
    pub(crate) ledger_key: SigningKey,
}

impl World {
    pub(crate) fn new() -> Self {
        let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
        Self {
            gates: Authority::new(),
            people: Authority::new(),
            log_key: key(1),
            clock_key: key(2),
            ledger_key: key(3),
        }
    }

    pub(crate) fn gate(&self, tenant: &str, name: &str) -> Gate {
        let path = format!("{tenant}/gate/{name}");
        Gate::new(tenant, name, self.gates.issue(&path, [2026, 2030]), 0)
    }

    pub(crate) fn person(&self, role: &str, id: &str) -> Holder {
        self.people.issue(&format!("acme/{role}/{id}"), [2026, 2030])
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust_with("")
    }

    fn trust_text(&self) -> String {
        let vkey = |name: &str, key_type, key: &SigningKey| {
            VerifierKey::new(name, key_type, key.verifying_key().to_bytes()).unwrap().to_string()
        };
        format!(
            "[[log]]\nvkey = \"{}\"\nclock = [\"{}\"]\nledger = [\"{}\"]\n\
             [gates]\ntrust_domain = \"acme.example\"\nroots = [\"gates\"]\n\
             tenants = [\"acme\", \"globex\"]\n[people]\nroots = [\"people\"]\n",
            vkey(ORIGIN, KeyType::Note, &self.log_key),
            vkey(&format!("{ORIGIN}/clock"), KeyType::Cosignature, &self.clock_key),
            vkey(&format!("{ORIGIN}/ledger"), KeyType::Note, &self.ledger_key),
        )
    }

    /// What an auditor of acme trusts, and `more` besides.
    pub(crate) fn trust_with(&self, more: &str) -> Trust {
        let read = |name: &str| match name {
            "gates" => Ok(self.gates.pem.clone()),
            _ => Ok(self.people.pem.clone()),
        };
        Trust::parse(&format!("{}{more}", self.trust_text()), read).unwrap()
    }
}

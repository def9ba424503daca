//! What must be accepted, the published vectors among it.

use std::path::PathBuf;

use base64::Engine as _;
use countersign_core::cert::{
    CertError, Certificate, Role, TrustAnchor, split_pem_bundle, verify_chain,
};
use rcgen::{
    ExtendedKeyUsagePurpose, IsCa, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    date_time_ymd,
};

use super::{Ca, DAY_S, GATE, NOW_S, NOW_US, critical, verify};

#[test]
fn a_sound_chain_says_who_with_which_keys_until_when() {
    let root = Ca::root("root");
    let middle = root.ca("middle");
    let leaf = middle.leaf_with(|p| p.not_after = date_time_ymd(2026, 11, 24));
    let chain = verify(&[&leaf, &middle.certificate], &[&root]).unwrap();
    assert_eq!(chain.identity().to_string(), GATE);
    assert_eq!(chain.identity().role(), Role::Gate);
    assert_eq!(chain.leaf_key().as_slice(), leaf.public_key_bytes());
    assert_eq!(chain.leaf_digest(), leaf.digest());
    let expected =
        [&leaf, &middle.certificate, &root.certificate].map(|c| c.public_key_bytes().to_vec());
    assert_eq!(chain.keys(), expected);
    let midnight_s = NOW_S + DAY_S / 2;
    assert_eq!(chain.not_after_us(), midnight_s * 1_000_000 + 999_999);
}

#[test]
fn an_included_root_changes_nothing() {
    let root = Ca::root("root");
    let middle = root.ca("middle");
    let leaf = middle.leaf();
    let without = verify(&[&leaf, &middle.certificate], &[&root]);
    let with = verify(&[&leaf, &middle.certificate, &root.certificate], &[&root]);
    assert!(with.is_ok());
    assert_eq!(with, without);
}

#[test]
fn p256_and_p384_issuers_are_accepted() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let root = Ca::root_with("root", algorithm, |_| ());
        let middle = root.ca_with("middle", algorithm, |_| ());
        let leaf = middle.leaf();
        assert!(verify(&[&leaf, &middle.certificate], &[&root]).is_ok());
    }
}

#[test]
fn either_hash_is_accepted_on_either_curve() {
    for (root, leaf) in [(P384_ROOT, P384_SHA256_LEAF), (P256_ROOT, P256_SHA384_LEAF)] {
        let anchor = TrustAnchor::new(Certificate::from_pem(root).unwrap()).unwrap();
        let leaf = Certificate::from_pem(leaf).unwrap();
        verify_chain(&[leaf], &[anchor], NOW_US).unwrap();
    }
}

#[test]
fn an_anchor_may_have_expired() {
    let root = Ca::root_with("root", &PKCS_ED25519, |p| {
        p.not_after = date_time_ymd(2020, 1, 1);
    });
    let leaf = root.leaf();
    assert!(verify(&[&leaf], &[&root]).is_ok());
    assert!(verify(&[&leaf, &root.certificate], &[&root]).is_ok());
}

#[test]
fn an_anchors_own_signature_is_not_looked_at() {
    let root = Ca::root("root");
    let mut der = root.certificate.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let anchor = TrustAnchor::new(Certificate::from_der(&der).unwrap()).unwrap();
    assert!(verify_chain(&[root.leaf()], &[anchor], NOW_US).is_ok());
}

#[test]
fn an_intermediate_may_be_the_anchor() {
    let middle = Ca::root("root").ca("middle");
    let leaf = middle.leaf();
    assert!(verify(&[&leaf, &middle.certificate], &[&middle]).is_ok());
    assert!(verify(&[&leaf], &[&middle]).is_ok());
}

#[test]
fn anchors_of_one_name_are_each_tried() {
    let (first, second) = (Ca::root("root"), Ca::root("root"));
    let leaf = second.leaf();
    let chain = verify(&[&leaf], &[&first, &second]).unwrap();
    assert_eq!(chain.keys().last().unwrap(), second.certificate.public_key_bytes());
    assert!(verify(&[&leaf], &[&second, &first]).is_ok());
}

#[test]
fn extended_key_usage_restricts_nothing_even_when_critical() {
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    });
    assert!(verify(&[&leaf], &[&root]).is_ok());
    let email = [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 4];
    let leaf = root.leaf_with(|p| p.custom_extensions = vec![critical(&[2, 5, 29, 37], &email)]);
    assert!(verify(&[&leaf], &[&root]).is_ok());
}

#[test]
fn a_leaf_needs_neither_basic_constraints_nor_key_usage() {
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| {
        p.is_ca = IsCa::NoCa;
        p.key_usages = Vec::new();
    });
    assert!(verify(&[&leaf], &[&root]).is_ok());
}

#[test]
fn a_critical_alternative_name_is_known() {
    // An empty subject makes the extension critical (RFC 5280 section 4.1.2.6).
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| p.distinguished_name = rcgen::DistinguishedName::new());
    assert!(verify(&[&leaf], &[&root]).is_ok());
}

#[test]
fn published_vectors() {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/countersign");
    if !folder.is_dir() {
        println!("not run: the certificates of ../shared/vectors, which is absent");
        return;
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let roots = |name: &str| -> Vec<_> {
        let certificates = split_pem_bundle(&read(name)).unwrap();
        certificates.into_iter().map(|root| TrustAnchor::new(root).unwrap()).collect()
    };
    let chain = |value: &serde_json::Value| -> Vec<_> {
        let blocks = value.as_array().unwrap().iter();
        blocks.map(|pem| Certificate::from_pem(pem.as_str().unwrap()).unwrap()).collect()
    };
    let (gate_roots, people_roots) = (roots("gate-ca.pem"), roots("people-ca.pem"));

    let evidence: serde_json::Value = serde_json::from_str(&read("refusal.evidence")).unwrap();
    let gate = chain(&evidence["certificates"]["gate"]);
    let verified = verify_chain(&gate, &gate_roots, NOW_US).unwrap();
    assert_eq!(verified.identity().to_string(), "spiffe://example/tenant/acme/gate/prod-1");
    let leaf_key = base64::engine::general_purpose::STANDARD.encode(verified.leaf_key());
    assert_eq!(evidence["seal"]["key"], leaf_key);
    assert_eq!(verify_chain(&gate, &people_roots, NOW_US).unwrap_err(), CertError::UntrustedRoot);
    assert_eq!(
        verify_chain(&gate, &gate_roots, NOW_US + 365 * DAY_S * 1_000_000).unwrap_err(),
        CertError::Expired { index: 0 }
    );

    let evidence: serde_json::Value =
        serde_json::from_str(&read("human-approval.evidence")).unwrap();
    let person = chain(&evidence["certificates"]["people"][0]);
    let verified = verify_chain(&person, &people_roots, NOW_US).unwrap();
    assert_eq!(verified.identity().to_string(), "spiffe://example/tenant/acme/approver/alice");
    let digest = hex::encode(verified.leaf_digest());
    let named = evidence["record"]["fields"].to_string();
    assert!(named.contains(&digest), "the record names another certificate");
}

// Made by OpenSSL 3.0 (`openssl x509 -req -sha256` and `-sha384`), which signs with the hash that
// is not the curve's usual one: rcgen does not.

const P384_ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBzDCCAVKgAwIBAgIUbVmcbXPmsyz/smmU/scRRstdvFgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJcDM4NCByb290MCAXDTI2MTEyMzA5NDE0NVoYDzIxMjYxMDMw
MDk0MTQ1WjAUMRIwEAYDVQQDDAlwMzg0IHJvb3QwdjAQBgcqhkjOPQIBBgUrgQQA
IgNiAASkXIDENB7P6VGoehq09WdA2eOp5aZY3pNDYczMPZ/3LZHRTmnqx/cm8kmg
a/nqeyOXHsqrL8tARm1M4u1nE8kUjob/bFLHiNHmcgJGks0YrzNzqosh0elWIK+O
MbughLKjYzBhMB0GA1UdDgQWBBQS94jZQD2qjM1XV/zO1vwymc+O3jAfBgNVHSME
GDAWgBQS94jZQD2qjM1XV/zO1vwymc+O3jAPBgNVHRMBAf8EBTADAQH/MA4GA1Ud
DwEB/wQEAwICBDAKBggqhkjOPQQDAgNoADBlAjByfVvUD9y06pG++nbzvSFaD+cX
CAp8kevhs13pAYS23zzibvQv5swlU308sNJDX1YCMQCRFWcnaGoV636DC/cwuRnj
lvP+TRJ4+NtJC6PTfpotAyH5GDmHjt+PyQWO/27vXOo=
-----END CERTIFICATE-----
";

const P384_SHA256_LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIIBtjCCATygAwIBAgIUWDHA4glGP6hyE/coi8lKDwmLNXQwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJcDM4NCByb290MCAXDTI2MTEyMzA5NDE0NVoYDzIxMjYxMDMw
MDk0MTQ1WjARMQ8wDQYDVQQDDAZwcm9kLTEwKjAFBgMrZXADIQAlQfP/173ELXNq
hQX6rr0tNFrvOR/h486vkGhrdUdHxaOBmzCBmDAMBgNVHRMBAf8EAjAAMA4GA1Ud
DwEB/wQEAwIHgDA4BgNVHREEMTAvhi1zcGlmZmU6Ly9hY21lLmV4YW1wbGUvdGVu
YW50L2FjbWUvZ2F0ZS9wcm9kLTEwHQYDVR0OBBYEFB705qphvZ6rSuxSDBiHOx25
Xp+AMB8GA1UdIwQYMBaAFBL3iNlAPaqMzVdX/M7W/DKZz47eMAoGCCqGSM49BAMC
A2gAMGUCMQDKDLwACayXLrOvckrTM/hsQNEivSpchzjeYqQWewrde5k4ml+eu6A7
Povjm6U7V8ACMHhS1f+S9cP+3TWAtJqUo9rRtZxDgBIWhPAef07UZeB/hdsrmy9T
ge1y92PvHClxOA==
-----END CERTIFICATE-----
";

const P256_ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBkDCCATWgAwIBAgIUfcnl07K/f5t8NwqDDtPhhu5xRycwCgYIKoZIzj0EAwMw
FDESMBAGA1UEAwwJcDI1NiByb290MCAXDTI2MTEyMzA5NDE0NVoYDzIxMjYxMDMw
MDk0MTQ1WjAUMRIwEAYDVQQDDAlwMjU2IHJvb3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATVJdG5tGrdor6+e2ClditKcnpN59ghdH87qMkRGsoAZmbAEDqH69Gz
mVNePC82/7nZ7VD/EZLNXcJz15KSHmVpo2MwYTAdBgNVHQ4EFgQUW//Cc+CuoZ4b
pZlmafi4wZ+nbs0wHwYDVR0jBBgwFoAUW//Cc+CuoZ4bpZlmafi4wZ+nbs0wDwYD
VR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAgQwCgYIKoZIzj0EAwMDSQAwRgIh
APJG4q/8WGBAyDTwisju/6ipiIwE+56SHVnwTi1FcdTkAiEAxvBbA9/t+kWb0LgV
HEXQvnnzaxn72xOc2YkTaSH1Kzg=
-----END CERTIFICATE-----
";

const P256_SHA384_LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIIBljCCATygAwIBAgIUXSG3Y7THqDCW97/L6bRVKL1/GfYwCgYIKoZIzj0EAwMw
FDESMBAGA1UEAwwJcDI1NiByb290MCAXDTI2MTEyMzA5NDE0NVoYDzIxMjYxMDMw
MDk0MTQ1WjARMQ8wDQYDVQQDDAZwcm9kLTEwKjAFBgMrZXADIQAlQfP/173ELXNq
hQX6rr0tNFrvOR/h486vkGhrdUdHxaOBmzCBmDAMBgNVHRMBAf8EAjAAMA4GA1Ud
DwEB/wQEAwIHgDA4BgNVHREEMTAvhi1zcGlmZmU6Ly9hY21lLmV4YW1wbGUvdGVu
YW50L2FjbWUvZ2F0ZS9wcm9kLTEwHQYDVR0OBBYEFB705qphvZ6rSuxSDBiHOx25
Xp+AMB8GA1UdIwQYMBaAFFv/wnPgrqGeG6WZZmn4uMGfp27NMAoGCCqGSM49BAMD
A0gAMEUCIQCOvnNV+JIWL9jVATAKbpPc5rQ+1aPIknGtokqiN0S0cwIgHZFf6CQZ
HcOcWegRpmu8AbhJ0OJFibi6CTbwa9VSeoY=
-----END CERTIFICATE-----
";

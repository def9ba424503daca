//! Attacks by those who hold a certificate that does not entitle them: as issuer, as leaf.

use countersign_core::cert::{CertError, TrustAnchor};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PublicKeyData,
};

use super::{Ca, RawKey, ca_params, critical, leaf_params, verify};

#[test]
fn an_issuer_that_is_not_a_ca() {
    let root = Ca::root("root");
    for is_ca in [IsCa::ExplicitNoCa, IsCa::NoCa] {
        let middle = root.ca_with("middle", &PKCS_ED25519, |p| p.is_ca = is_ca);
        let refused = verify(&[&middle.leaf(), &middle.certificate], &[&root]).unwrap_err();
        assert_eq!(refused, CertError::NotCa { index: 1 });
        assert_eq!(TrustAnchor::new(middle.certificate).unwrap_err(), CertError::AnchorNotCa);
    }
}

#[test]
fn a_gate_that_issues_certificates() {
    let root = Ca::root("root");
    let gate = root.ca_with("prod-1", &PKCS_ED25519, |p| *p = leaf_params());
    let refused = verify(&[&gate.leaf(), &gate.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::NotCa { index: 1 });
}

#[test]
fn an_issuer_without_key_cert_sign() {
    let root = Ca::root("root");
    for usages in [vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature], vec![]] {
        // rcgen will not sign with a CA that may not, so the certificate is made afterwards.
        let mut middle = root.ca("middle");
        let leaf = middle.leaf();
        middle.params.key_usages = usages;
        let without = root.issue(&middle.params, &middle.key);
        let refused = verify(&[&leaf, &without], &[&root]).unwrap_err();
        assert_eq!(refused, CertError::NoKeyCertSign { index: 1 });
        assert_eq!(TrustAnchor::new(without).unwrap_err(), CertError::AnchorNoKeyCertSign);
    }
}

#[test]
fn path_length_exceeded() {
    let limit = |n: u8| {
        move |p: &mut CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(n))
    };
    // root -> one (room for nobody) -> two -> leaf
    let root = Ca::root("root");
    let one = root.ca_with("one", &PKCS_ED25519, limit(0));
    assert!(verify(&[&one.leaf(), &one.certificate], &[&root]).is_ok());
    let two = one.ca("two");
    let chain = [&two.leaf(), &two.certificate, &one.certificate];
    assert_eq!(verify(&chain, &[&root]).unwrap_err(), CertError::PathLen { index: 2 });

    // The anchor's own limit counts too, whether the chain includes it or not.
    let root = Ca::root_with("root", &PKCS_ED25519, limit(0));
    assert!(verify(&[&root.leaf()], &[&root]).is_ok());
    assert!(verify(&[&root.leaf(), &root.certificate], &[&root]).is_ok());
    let one = root.ca("one");
    let leaf = one.leaf();
    let refused = verify(&[&leaf, &one.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::PathLen { index: 2 });
    let chain = [&leaf, &one.certificate, &root.certificate];
    assert_eq!(verify(&chain, &[&root]).unwrap_err(), CertError::PathLen { index: 2 });

    let root = Ca::root_with("root", &PKCS_ED25519, limit(1));
    let one = root.ca("one");
    assert!(verify(&[&one.leaf(), &one.certificate], &[&root]).is_ok());
}

#[test]
fn self_issued_intermediates_count_towards_the_path_length() {
    let root = Ca::root_with("root", &PKCS_ED25519, |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let renewed = root.ca("root");
    let refused = verify(&[&renewed.leaf(), &renewed.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::PathLen { index: 2 });
}

#[test]
fn a_path_length_beyond_all_numbers_limits_nothing() {
    for length in [&[2_u8, 2, 1, 0][..], &[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut content = vec![0x30, u8::try_from(3 + length.len()).unwrap(), 1, 1, 0xff];
        content.extend_from_slice(length);
        let root = Ca::root_with("root", &PKCS_ED25519, |p| {
            p.is_ca = IsCa::NoCa;
            p.custom_extensions = vec![critical(&[2, 5, 29, 19], &content)];
        });
        let one = root.ca("one");
        assert!(verify(&[&one.leaf(), &one.certificate], &[&root]).is_ok());
    }
}

#[test]
fn an_issuer_with_an_unsupported_key() {
    let root = Ca::root("root");
    let middle = root.ca_with("middle", &PKCS_ECDSA_P521_SHA512, |_| ());
    let refused = verify(&[&middle.leaf(), &middle.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::KeyAlgorithm { index: 1 });
    assert_eq!(TrustAnchor::new(middle.certificate).unwrap_err(), CertError::AnchorKey);
}

#[test]
fn a_compressed_point_as_a_second_spelling_of_a_key() {
    let root = Ca::root("root");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let point = key.der_bytes().to_vec();
    let mut compressed = vec![2 + (point[64] & 1)];
    compressed.extend_from_slice(&point[1..33]);
    let whole = root.issue(&ca_params("ca"), &RawKey(point, &PKCS_ECDSA_P256_SHA256));
    assert!(TrustAnchor::new(whole).is_ok());
    let short = root.issue(&ca_params("ca"), &RawKey(compressed, &PKCS_ECDSA_P256_SHA256));
    assert_eq!(TrustAnchor::new(short).unwrap_err(), CertError::AnchorKey);
}

#[test]
fn unknown_critical_extension() {
    let constraints = critical(&[2, 5, 29, 30], &[0x30, 0]);
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| p.custom_extensions = vec![constraints.clone()]);
    let oid = "2.5.29.30".to_owned();
    let refused = verify(&[&leaf], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::CriticalExtension { index: 0, oid: oid.clone() });

    let middle = root.ca_with("middle", &PKCS_ED25519, |p| {
        p.custom_extensions = vec![constraints];
    });
    let refused = verify(&[&middle.leaf(), &middle.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::CriticalExtension { index: 1, oid: oid.clone() });
    let refused = TrustAnchor::new(middle.certificate).unwrap_err();
    assert_eq!(refused, CertError::AnchorCriticalExtension { oid });

    // The same one, not critical, is passed over.
    let plain = CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![0x30, 0]);
    let leaf = root.leaf_with(|p| p.custom_extensions = vec![plain]);
    assert!(verify(&[&leaf], &[&root]).is_ok());
}

#[test]
fn a_ca_as_leaf() {
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(verify(&[&leaf], &[&root]).unwrap_err(), CertError::LeafIsCa);
}

#[test]
fn the_anchor_as_leaf() {
    let root = Ca::root("root");
    let refused = verify(&[&root.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::LeafIsAnchor);
    let chain = [&root.certificate, &root.certificate];
    assert_eq!(verify(&chain, &[&root]).unwrap_err(), CertError::LeafIsAnchor);
}

#[test]
fn a_leaf_whose_key_is_for_something_else() {
    let root = Ca::root("root");
    for usages in [
        vec![KeyUsagePurpose::KeyAgreement],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
        vec![KeyUsagePurpose::DecipherOnly],
    ] {
        let leaf = root.leaf_with(|p| p.key_usages = usages);
        assert_eq!(verify(&[&leaf], &[&root]).unwrap_err(), CertError::LeafKeyUsage);
    }
}

#[test]
fn a_p256_leaf() {
    let root = Ca::root("root");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let leaf = root.issue(&leaf_params(), &key);
    assert_eq!(verify(&[&leaf], &[&root]).unwrap_err(), CertError::LeafKey);
}

#[test]
fn a_leaf_key_for_which_anyone_can_sign() {
    // Points of small order, second spellings of a point, no point at all, a wrong length.
    let mut identity = vec![0; 32];
    identity[0] = 1;
    let mut above_the_prime = vec![0xff; 32];
    above_the_prime[31] = 0x7f;
    let mut found_non_canonical = false;
    for low in 0xed..=0xff {
        above_the_prime[0] = low;
        let bytes: [u8; 32] = above_the_prime.clone().try_into().unwrap();
        let point = ed25519_dalek::VerifyingKey::from_bytes(&bytes);
        if point.is_ok_and(|point| !point.is_weak()) {
            found_non_canonical = true;
            break;
        }
    }
    assert!(found_non_canonical, "the library takes no second spelling any more");
    let mut off_curve = vec![0; 32];
    off_curve[0] = 2;
    let root = Ca::root("root");
    for key in [identity, vec![0; 32], above_the_prime, off_curve, vec![9; 31], vec![9; 33]] {
        let leaf = root.issue(&leaf_params(), &RawKey(key.clone(), &PKCS_ED25519));
        assert_eq!(verify(&[&leaf], &[&root]).unwrap_err(), CertError::LeafKey, "{key:?}");
        let ca = root.issue(&ca_params("ca"), &RawKey(key.clone(), &PKCS_ED25519));
        assert_eq!(TrustAnchor::new(ca).unwrap_err(), CertError::AnchorKey, "{key:?}");
    }
}

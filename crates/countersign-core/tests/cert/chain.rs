//! Attacks on dates and on the links from one certificate to the next.

use countersign_core::cert::{CertError, Certificate, MAX_CHAIN, verify_chain};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd};

use super::{Ca, DAY_S, NOW_S, NOW_US, verify, verify_at};

#[test]
fn expired() {
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| p.not_after = date_time_ymd(2026, 11, 24));
    let last_us = (NOW_S + DAY_S / 2) * 1_000_000 + 999_999;
    assert!(verify_at(&[&leaf], &[&root], last_us).is_ok());
    let late = verify_at(&[&leaf], &[&root], last_us + 1).unwrap_err();
    assert_eq!(late, CertError::Expired { index: 0 });
    assert_eq!((late.code(), late.place()), ("CERT_EXPIRED", Some(0)));
    assert_eq!(
        verify_at(&[&leaf], &[&root], u64::MAX).unwrap_err(),
        CertError::Expired { index: 0 }
    );
}

#[test]
fn not_yet_valid() {
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| p.not_before = date_time_ymd(2026, 11, 24));
    let first_us = (NOW_S + DAY_S / 2) * 1_000_000;
    assert!(verify_at(&[&leaf], &[&root], first_us).is_ok());
    let early = verify_at(&[&leaf], &[&root], first_us - 1).unwrap_err();
    assert_eq!(early, CertError::NotYetValid { index: 0 });
    assert_eq!(verify_at(&[&leaf], &[&root], 0).unwrap_err(), CertError::NotYetValid { index: 0 });
}

#[test]
fn an_intermediate_that_expired_or_is_not_yet_valid() {
    let root = Ca::root("root");
    let old = root.ca_with("middle", &PKCS_ED25519, |p| {
        p.not_after = date_time_ymd(2026, 11, 23);
    });
    let refused = verify(&[&old.leaf(), &old.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::Expired { index: 1 });
    let young = root.ca_with("middle", &PKCS_ED25519, |p| {
        p.not_before = date_time_ymd(2026, 11, 24);
    });
    let refused = verify(&[&young.leaf(), &young.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::NotYetValid { index: 1 });
}

#[test]
fn faults_name_their_code_and_their_place() {
    let root = Ca::root("root");
    let told = |error: CertError| (error.code(), error.place());
    let refused = verify(&[&root.ca("a").leaf(), &root.ca("b").certificate], &[&root]);
    assert_eq!(told(refused.unwrap_err()), ("CERT_CHAIN", Some(0)));
    let forged = Ca::root("root").ca("middle");
    let refused = verify(&[&forged.leaf(), &forged.certificate], &[&root]);
    assert_eq!(told(refused.unwrap_err()), ("CERT_SIGNATURE", Some(1)));
    assert_eq!(told(verify(&[], &[]).unwrap_err()), ("CERT_CHAIN", None));
    assert_eq!(told(Certificate::from_pem("").unwrap_err()), ("CERT_PEM", None));
}

#[test]
fn an_empty_chain() {
    assert_eq!(verify(&[], &[&Ca::root("root")]).unwrap_err(), CertError::ChainEmpty);
}

#[test]
fn a_chain_one_too_long() {
    let root = Ca::root("root");
    let mut cas = vec![root.ca("ca")];
    for _ in 0..MAX_CHAIN - 1 {
        cas.push(cas.last().unwrap().ca("ca"));
    }
    for (count, fine) in [(MAX_CHAIN - 1, true), (MAX_CHAIN, false)] {
        let leaf = cas[count - 1].leaf();
        let mut chain = vec![&leaf];
        chain.extend(cas[..count].iter().rev().map(|ca| &ca.certificate));
        let verified = verify(&chain, &[&root]);
        assert_eq!(verified.err(), (!fine).then_some(CertError::ChainTooLong));
    }
}

#[test]
fn no_anchors_at_all() {
    let root = Ca::root("root");
    let chain = [&root.leaf(), &root.certificate];
    assert_eq!(verify(&chain, &[]).unwrap_err(), CertError::UntrustedRoot);
}

#[test]
fn a_root_that_nobody_trusts() {
    let (root, other) = (Ca::root("root"), Ca::root("other"));
    let leaf = other.leaf();
    assert_eq!(verify(&[&leaf], &[&root]).unwrap_err(), CertError::UntrustedRoot);
    let chain = [&leaf, &other.certificate];
    assert_eq!(verify(&chain, &[&root]).unwrap_err(), CertError::UntrustedRoot);
}

#[test]
fn a_root_that_bears_a_trusted_name() {
    let (root, forged) = (Ca::root("root"), Ca::root("root"));
    let leaf = forged.leaf();
    assert_eq!(verify(&[&leaf], &[&root]).unwrap_err(), CertError::SignatureInvalid { index: 0 });
    let chain = [&leaf, &forged.certificate];
    assert_eq!(verify(&chain, &[&root]).unwrap_err(), CertError::SignatureInvalid { index: 1 });
}

#[test]
fn wrong_issuer() {
    let root = Ca::root("root");
    let (one, two) = (root.ca("one"), root.ca("two"));
    let refused = verify(&[&one.leaf(), &two.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::IssuerMismatch { index: 0 });
    let chain = [&one.leaf(), &one.certificate, &two.certificate];
    assert_eq!(verify(&chain, &[&root]).unwrap_err(), CertError::IssuerMismatch { index: 1 });
}

#[test]
fn an_included_root_that_did_not_issue_the_chain() {
    let (root, other) = (Ca::root("root"), Ca::root("other"));
    let chain = [&root.leaf(), &other.certificate];
    let refused = verify(&chain, &[&root, &other]).unwrap_err();
    assert_eq!(refused, CertError::IssuerMismatch { index: 0 });
}

#[test]
fn swapped_order() {
    let root = Ca::root("root");
    let middle = root.ca("middle");
    let leaf = middle.leaf();
    let refused = verify(&[&middle.certificate, &leaf], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::LeafIsCa);
    let refused = verify(&[&leaf, &root.certificate, &middle.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::IssuerMismatch { index: 0 });
}

#[test]
fn an_intermediate_of_the_same_name_with_another_key() {
    let root = Ca::root("root");
    let (signed, swapped) = (root.ca("middle"), root.ca("middle"));
    let refused = verify(&[&signed.leaf(), &swapped.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::SignatureInvalid { index: 0 });
}

#[test]
fn a_leaf_under_an_intermediate_that_the_root_never_signed() {
    let (root, forged) = (Ca::root("root"), Ca::root("root"));
    let middle = forged.ca("middle");
    let refused = verify(&[&middle.leaf(), &middle.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::SignatureInvalid { index: 1 });
}

#[test]
fn names_that_only_look_alike() {
    // The issuer's name must be the subject's to the byte: case and string type count.
    let root = Ca::root("root");
    let middle = root.ca("Middle");
    let mut alike = root.ca("middle");
    let leaf = {
        alike.key = KeyPair::try_from(middle.key.serialized_der()).unwrap();
        alike.leaf()
    };
    let refused = verify(&[&leaf, &middle.certificate], &[&root]).unwrap_err();
    assert_eq!(refused, CertError::IssuerMismatch { index: 0 });
}

#[test]
fn a_signature_algorithm_that_the_issuers_key_cannot_make() {
    let signer = Ca::root_with("root", &PKCS_ECDSA_P256_SHA256, |_| ());
    let leaf = signer.leaf();
    let refused = verify(&[&leaf], &[&Ca::root("root")]).unwrap_err();
    assert_eq!(refused, CertError::SignatureAlgorithm { index: 0 });
    let refused = verify(&[&Ca::root("root").leaf()], &[&signer]).unwrap_err();
    assert_eq!(refused, CertError::SignatureAlgorithm { index: 0 });
    // The right key among others of the name is found whatever their kinds.
    assert!(verify(&[&leaf], &[&Ca::root("root"), &signer]).is_ok());
}

#[test]
fn a_flipped_bit_anywhere_in_the_leaf() {
    let root = Ca::root("root");
    let anchors = [root.anchor()];
    let leaf = root.leaf();
    for position in 0..leaf.der().len() {
        for bit in [0x01, 0x80] {
            let mut der = leaf.der().to_vec();
            der[position] ^= bit;
            let verified = Certificate::from_der(&der)
                .and_then(|cert| verify_chain(&[cert], &anchors, NOW_US));
            assert!(verified.is_err(), "byte {position} does not matter");
        }
        assert_eq!(
            Certificate::from_der(&leaf.der()[..position]).unwrap_err(),
            CertError::DerMalformed
        );
    }
}

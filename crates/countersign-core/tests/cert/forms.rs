//! Attacks by spelling: identities, DER and PEM in any but their one form.

use countersign_core::cert::{
    CertError, Certificate, MAX_BUNDLE, MAX_DER, Role, SpiffeId, split_pem_bundle,
};
use rcgen::{CustomExtension, Issuer, KeyPair, PKCS_ED25519, SanType, SerialNumber};
use x509_cert::der::{Decode as _, Encode as _};

use super::{Ca, GATE, critical, dns, leaf_params, named, ours, position_of, uri, verify};

fn identity_of(names: Vec<SanType>) -> Result<SpiffeId, CertError> {
    let root = Ca::root("root");
    let leaf = root.leaf_with(|p| p.subject_alt_names = names);
    let identity = leaf.identity();
    // Path validation asks for the same.
    assert_eq!(verify(&[&leaf], &[&root]).map(|chain| chain.identity().clone()), identity);
    identity
}

#[test]
fn no_uri() {
    assert_eq!(identity_of(vec![]).unwrap_err(), CertError::NoUriSan);
    assert_eq!(identity_of(vec![dns("gate.acme.example")]).unwrap_err(), CertError::NoUriSan);
}

#[test]
fn two_uris() {
    let other = GATE.replace("prod-1", "prod-2");
    assert_eq!(identity_of(vec![uri(GATE), uri(&other)]).unwrap_err(), CertError::ManyUriSans);
    assert_eq!(identity_of(vec![uri(GATE), uri(GATE)]).unwrap_err(), CertError::ManyUriSans);
    let foreign = vec![uri("https://acme.example/"), uri(GATE)];
    assert_eq!(identity_of(foreign).unwrap_err(), CertError::ManyUriSans);
}

#[test]
fn an_email_or_address_beside_the_uri() {
    let email = SanType::Rfc822Name("a@acme.example".try_into().unwrap());
    assert_eq!(identity_of(vec![uri(GATE), email]).unwrap_err(), CertError::OtherSan);
    let address = SanType::IpAddress("127.0.0.1".parse().unwrap());
    assert_eq!(identity_of(vec![address, uri(GATE)]).unwrap_err(), CertError::OtherSan);
}

#[test]
fn dns_names_may_stand_beside_the_uri() {
    let names = vec![dns("gate.acme.example"), uri(GATE), dns("localhost")];
    assert_eq!(identity_of(names).unwrap().to_string(), GATE);
}

#[test]
fn spiffe_ids_in_any_other_spelling() {
    let long = "a".repeat(129);
    for text in [
        "",
        "spiffe://",
        "SPIFFE://acme.example/tenant/acme/gate/prod-1",
        "https://acme.example/tenant/acme/gate/prod-1",
        "spiffe:/acme.example/tenant/acme/gate/prod-1",
        "spiffe:///tenant/acme/gate/prod-1",
        "spiffe://Acme.example/tenant/acme/gate/prod-1",
        "spiffe://acme.example:443/tenant/acme/gate/prod-1",
        "spiffe://user@acme.example/tenant/acme/gate/prod-1",
        "spiffe://../tenant/acme/gate/prod-1",
        "spiffe://acme.example/Tenant/acme/gate/prod-1",
        "spiffe://acme.example/tenant/acme/gate",
        "spiffe://acme.example/tenant/acme/gate/",
        "spiffe://acme.example/tenant/acme/gate/prod-1/",
        "spiffe://acme.example/tenant/acme/gate/prod-1/more",
        "spiffe://acme.example//tenant/acme/gate/prod-1",
        "spiffe://acme.example/tenant//gate/prod-1",
        "spiffe://acme.example/tenant/./gate/prod-1",
        "spiffe://acme.example/tenant/../gate/prod-1",
        "spiffe://acme.example/tenant/acme/gate/..",
        "spiffe://acme.example/tenant/acme/../prod-1",
        "spiffe://acme.example/tenant/acme/gate/prod%2D1",
        "spiffe://acme.example/tenant/ac%6De/gate/prod-1",
        "spiffe://acme.example/tenant/acme/gate/prod-1?x=1",
        "spiffe://acme.example/tenant/acme/gate/prod-1#x",
        "spiffe://acme.example/tenant/acme/gate/prod 1",
        "spiffe://acme.example/tenant/acme/gate/prod-1\n",
        "spiffe://acme.example/tenant/acme/gate/pröd-1",
        &format!("spiffe://{long}/tenant/acme/gate/prod-1"),
        &format!("spiffe://acme.example/tenant/{long}/gate/prod-1"),
        &format!("spiffe://acme.example/tenant/acme/gate/{long}"),
    ] {
        assert_eq!(text.parse::<SpiffeId>().unwrap_err(), CertError::SpiffeMalformed, "{text}");
    }
    for role in ["Gate", "admin", "gates", "GATE"] {
        let text = format!("spiffe://acme.example/tenant/acme/{role}/x");
        assert_eq!(text.parse::<SpiffeId>().unwrap_err(), CertError::RoleUnknown, "{text}");
    }
}

#[test]
fn a_percent_encoded_identity_in_a_certificate() {
    let escaped = "spiffe://acme.example/tenant/acme/gate/prod%2D1";
    assert_eq!(identity_of(vec![uri(escaped)]).unwrap_err(), CertError::SpiffeMalformed);
}

#[test]
fn every_role_reads_back_as_it_was_written() {
    let most = "Aa0._-".repeat(21) + "zz";
    assert_eq!(most.len(), 128);
    for role in Role::ALL {
        let id = SpiffeId::new("acme_1.example-2", &most, role, "a").unwrap();
        assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
        assert_eq!(role.as_str().parse::<Role>().unwrap(), role);
        let parts = (id.trust_domain(), id.tenant(), id.role(), id.name());
        assert_eq!(parts, ("acme_1.example-2", most.as_str(), role, "a"));
    }
    let escape = SpiffeId::new("acme", "a/gate", Role::Gate, "x").unwrap_err();
    assert_eq!(escape, CertError::SpiffeMalformed);
}

#[test]
fn der_that_is_cut_off_or_goes_on() {
    let der = Ca::root("root").leaf().der().to_vec();
    assert_eq!(Certificate::from_der(&[]).unwrap_err(), CertError::DerMalformed);
    let longer = [&der[..], &[0]].concat();
    assert_eq!(Certificate::from_der(&longer).unwrap_err(), CertError::DerMalformed);
}

#[test]
fn der_with_a_length_in_more_bytes_than_needed() {
    let der = Ca::root("root").leaf().der().to_vec();
    assert_eq!(der[..2], [0x30, 0x82]);
    let longer = [&[0x30, 0x83, 0][..], &der[2..]].concat();
    assert_eq!(Certificate::from_der(&longer).unwrap_err(), CertError::DerMalformed);
}

/// One DER element.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let header = match length.to_be_bytes() {
        [0, short @ ..0x80] => vec![tag, short],
        [0, byte] => vec![tag, 0x81, byte],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&header[..], content].concat()
}

/// A certificate's DER put together anew, with another validity or other extensions.
fn reassembled(
    certificate: &Certificate,
    validity: Option<Vec<u8>>,
    extensions: Option<Vec<u8>>,
) -> Vec<u8> {
    let parsed = x509_cert::Certificate::from_der(certificate.der()).unwrap();
    let tbs = parsed.tbs_certificate();
    let body = [
        tlv(0xa0, &[2, 1, 2]),
        tbs.serial_number().to_der().unwrap(),
        tbs.signature().to_der().unwrap(),
        tbs.issuer().to_der().unwrap(),
        validity.unwrap_or_else(|| tbs.validity().to_der().unwrap()),
        tbs.subject().to_der().unwrap(),
        tbs.subject_public_key_info().to_der().unwrap(),
        tlv(0xa3, &extensions.unwrap_or_else(|| tbs.extensions().unwrap().to_der().unwrap())),
    ];
    let whole = [
        tlv(0x30, &body.concat()),
        parsed.signature_algorithm().to_der().unwrap(),
        parsed.signature().to_der().unwrap(),
    ];
    tlv(0x30, &whole.concat())
}

#[test]
fn der_that_reads_but_would_be_written_otherwise() {
    let leaf = Ca::root("root").leaf();
    assert_eq!(reassembled(&leaf, None, None), leaf.der());

    // A year before 2050 as GeneralizedTime (RFC 5280 section 4.1.2.5).
    let times = [tlv(0x18, b"20260101000000Z"), tlv(0x18, b"20280101000000Z")].concat();
    let der = reassembled(&leaf, Some(tlv(0x30, &times)), None);
    assert_eq!(Certificate::from_der(&der).unwrap_err(), CertError::DerMalformed);
    let times = [tlv(0x17, b"260101000000Z"), tlv(0x17, b"280101000000Z")].concat();
    let der = reassembled(&leaf, Some(tlv(0x30, &times)), None);
    assert!(Certificate::from_der(&der).is_ok());

    // "Not critical" is the default, and so is spelled by absence.
    let id = [6, 3, 0x55, 0x1d, 0x13];
    let value = tlv(4, &[0x30, 0]);
    let extension = |critical: &[u8]| {
        let extension = tlv(0x30, &[&id[..], critical, &value].concat());
        reassembled(&leaf, None, Some(tlv(0x30, &extension)))
    };
    assert!(Certificate::from_der(&extension(&[])).is_ok());
    assert!(Certificate::from_der(&extension(&[1, 1, 0xff])).is_ok());
    let refused = Certificate::from_der(&extension(&[1, 1, 0])).unwrap_err();
    assert_eq!(refused, CertError::DerMalformed);

    // A list of extensions, when present, is not empty (RFC 5280 section 4.1).
    let der = reassembled(&leaf, None, Some(tlv(0x30, &[])));
    assert_eq!(Certificate::from_der(&der).unwrap_err(), CertError::DerMalformed);
}

#[test]
fn a_certificate_too_large() {
    let padded = |bytes: usize| {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = leaf_params();
        // A serial number drawn at random takes a byte more or less: the size must not vary.
        params.serial_number = Some(SerialNumber::from(1));
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![0; bytes])];
        params.self_signed(&key).unwrap()
    };
    // Make one of the greatest size exactly, which must also survive as PEM, then one byte more.
    let overhead = padded(10_000).der().len() - 10_000;
    let largest = ours(&padded(MAX_DER - overhead));
    assert_eq!(largest.der().len(), MAX_DER);
    assert_eq!(Certificate::from_pem(&largest.pem()).unwrap(), largest);
    let refused = Certificate::from_der(padded(MAX_DER - overhead + 1).der()).unwrap_err();
    assert_eq!(refused, CertError::TooLarge);
    let endless = format!("-----BEGIN CERTIFICATE-----\n{}", "A".repeat(1 << 20));
    assert_eq!(Certificate::from_pem(&endless).unwrap_err(), CertError::PemMalformed);
    let endless = endless + "-----END CERTIFICATE-----\n";
    assert_eq!(Certificate::from_pem(&endless).unwrap_err(), CertError::TooLarge);
}

#[test]
fn an_old_version() {
    let mut der = Ca::root("root").leaf().der().to_vec();
    let version = position_of(&der, &[0xa0, 3, 2, 1, 2]);
    der[version + 4] = 1;
    assert_eq!(Certificate::from_der(&der).unwrap_err(), CertError::VersionNotV3);
}

#[test]
fn an_outer_signature_algorithm_that_differs() {
    let mut der = Ca::root("root").leaf().der().to_vec();
    let outer = der.len() - 2 - 65 - 1;
    assert_eq!(der[outer - 4..=outer], [6, 3, 0x2b, 0x65, 0x70]);
    der[outer] = 0x71;
    assert_eq!(Certificate::from_der(&der).unwrap_err(), CertError::SignatureAlgorithmsDiffer);
}

#[test]
fn an_extension_that_appears_twice() {
    let root = Ca::root("root");
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    for (oid, content) in [
        (&[2, 5, 29, 19][..], &[0x30, 3, 1, 1, 0xff][..]),
        (&[2, 5, 29, 17], &[0x30, 0]),
        (&[2, 5, 29, 15], &[3, 2, 7, 0x80]),
    ] {
        let mut params = leaf_params();
        params.custom_extensions = vec![critical(oid, content)];
        let issuer = Issuer::from_params(&root.params, &root.key);
        let twice = params.signed_by(&key, &issuer).unwrap();
        let oid = oid.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        let refused = Certificate::from_der(twice.der()).unwrap_err();
        assert_eq!(refused, CertError::DuplicateExtension { oid });
    }
}

#[test]
fn extensions_in_any_other_spelling() {
    for (oid, content) in [
        // CA:FALSE written out, though it is the default; TRUE as 1; a path length without
        // CA:TRUE; a negative one; one with a needless zero; trailing bytes.
        (&[2, 5, 29, 19][..], &[0x30, 3, 1, 1, 0][..]),
        (&[2, 5, 29, 19], &[0x30, 3, 1, 1, 1]),
        (&[2, 5, 29, 19], &[0x30, 3, 2, 1, 0]),
        (&[2, 5, 29, 19], &[0x30, 6, 1, 1, 0xff, 2, 1, 0x80]),
        (&[2, 5, 29, 19], &[0x30, 7, 1, 1, 0xff, 2, 2, 0, 1]),
        (&[2, 5, 29, 19], &[0x30, 0, 0]),
        (&[2, 5, 29, 19], &[0x30, 5, 1, 1, 0xff, 5, 0]),
        (&[2, 5, 29, 19], &[]),
        // Key usage: a named bit list has no trailing zeros; unused bits are zero.
        (&[2, 5, 29, 15], &[3, 2, 0, 0x80]),
        (&[2, 5, 29, 15], &[3, 2, 7, 0xff]),
        (&[2, 5, 29, 15], &[5, 0]),
        // Alternative names: not a sequence, cut off, a URI beyond ASCII.
        (&[2, 5, 29, 17], &[0x86, 1, b'x']),
        (&[2, 5, 29, 17], &[0x30, 3, 0x86, 9, b'x']),
        (&[2, 5, 29, 17], &[0x30, 3, 0x86, 1, 0xe9]),
        (&[2, 5, 29, 37], &[0x31, 0]),
    ] {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = named("x");
        params.custom_extensions = vec![CustomExtension::from_oid_content(oid, content.to_vec())];
        let made = params.self_signed(&key).unwrap();
        let oid = oid.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        let refused = Certificate::from_der(made.der()).unwrap_err();
        assert_eq!(refused, CertError::ExtensionMalformed { oid }, "{content:02x?}");
    }
}

#[test]
fn pem_reads_back_as_it_was_written() {
    // Bodies of every length modulo 3, and one that fills its last line.
    for length in 1..=50 {
        let certificate = Ca::root(&"n".repeat(length)).certificate;
        assert_eq!(Certificate::from_pem(&certificate.pem()).unwrap(), certificate);
    }
}

#[test]
fn pem_in_any_other_spelling() {
    let certificate = Ca::root("root").leaf();
    let pem = certificate.pem();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let columns = |width: usize| {
        let lines: Vec<_> = body.as_bytes().chunks(width).collect();
        let lines = String::from_utf8(lines.join(&b'\n')).unwrap();
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    };
    assert_eq!(columns(64), pem);
    for text in [
        String::new(),
        pem.replace('\n', "\r\n"),
        columns(76),
        columns(63),
        columns(10_000),
        pem.trim_end().to_owned(),
        format!("\n{pem}"),
        format!(" {pem}"),
        format!("\u{feff}{pem}"),
        format!("subject=prod-1\n{pem}"),
        pem.replace("-----\nM", "-----\n\nM"),
        pem.replace("\n-----END", "\n\n-----END"),
        pem.replace("\n-----END", " \n-----END"),
        pem.replace("\n-----END", "-----END"),
        pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        pem.replace("CERTIFICATE", "X509 CERTIFICATE"),
        pem.replace("BEGIN CERTIFICATE", "BEGIN PUBLIC KEY"),
        pem.replacen("MII", "M-I", 1),
    ] {
        assert_eq!(Certificate::from_pem(&text).unwrap_err(), CertError::PemMalformed, "{text}");
    }
    for after in ["\n", " ", "x", "\0", pem.as_str()] {
        let refused = Certificate::from_pem(&format!("{pem}{after}")).unwrap_err();
        assert_eq!(refused, CertError::PemTrailing);
    }
}

#[test]
fn base64_with_stray_bits_or_without_padding() {
    let pem = (1..=12)
        .map(|length| Ca::root(&"n".repeat(length)).certificate)
        .find(|certificate| certificate.der().len() % 3 == 2)
        .unwrap()
        .pem();
    // Each name is one byte longer in subject and issuer, so one of three has this length (or one
    // of a few more: serial numbers are drawn at random, and now and then one is shorter).
    let end = pem.find("=\n-----END").unwrap();
    let mut stray = pem.clone().into_bytes();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = alphabet.iter().position(|letter| *letter == stray[end - 1]).unwrap();
    stray[end - 1] = alphabet[value | 1];
    let stray = String::from_utf8(stray).unwrap();
    assert_eq!(Certificate::from_pem(&stray).unwrap_err(), CertError::PemMalformed);
    let unpadded = pem.replace("=\n-----END", "\n-----END");
    assert_eq!(Certificate::from_pem(&unpadded).unwrap_err(), CertError::PemMalformed);
}

#[test]
fn bundles_hold_strict_blocks_and_nothing_else() {
    let (one, two) = (Ca::root("one").certificate, Ca::root("two").certificate);
    let (first, second) = (one.pem(), two.pem());
    assert_eq!(split_pem_bundle(&format!("{first}{second}")).unwrap(), [one, two]);
    assert_eq!(split_pem_bundle("").unwrap_err(), CertError::BundleEmpty);
    for text in [
        format!("{first}\n{second}"),
        format!("{first}{second}\n"),
        format!("# roots\n{first}"),
        format!("{first}{}", second.trim_end()),
    ] {
        assert_eq!(split_pem_bundle(&text).unwrap_err(), CertError::PemMalformed);
    }
    assert_eq!(split_pem_bundle(&first.repeat(MAX_BUNDLE)).unwrap().len(), MAX_BUNDLE);
    let refused = split_pem_bundle(&first.repeat(MAX_BUNDLE + 1)).unwrap_err();
    assert_eq!(refused, CertError::BundleTooLong);
}

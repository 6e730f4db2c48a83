//! Chains made by hand, each with one fault.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use time::Duration;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// Root, intermediate, leaf: each certificate in PEM.
struct Made {
    root: String,
    middle: String,
    leaf: String,
}

fn params(name: &str, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (NOW - Duration::days(10), NOW + Duration::days(355));
    params.serial_number = Some(SerialNumber::from(name.len() as u64));
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> Made {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (root_key, middle_key, leaf_key) = (key(), key(), key());
    let root = params("Root", true).self_signed(&root_key).unwrap();
    let middle = params("Middle", true).signed_by(&middle_key, &Issuer::new(params("Root", true), &root_key)).unwrap();
    let mut wish = params("shop.example.com", false);
    wish.subject_alt_names =
        CertificateParams::new(vec!["shop.example.com".into(), "*.shop.example.com".into(), "192.0.2.1".into()])
            .unwrap()
            .subject_alt_names;
    wish.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut wish);
    let leaf = wish.signed_by(&leaf_key, &Issuer::new(params("Middle", true), &middle_key)).unwrap();
    Made { root: root.pem(), middle: middle.pem(), leaf: leaf.pem() }
}

fn faults(text: &str, names: &[&str], ca: Option<&str>) -> Vec<String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let ca = ca.map(|ca| Chain::read(ca).unwrap());
    Chain::read(text).unwrap().faults(&names, ca.as_ref(), NOW).into_iter().map(|(what, _)| what).collect()
}

const SHOP: [&str; 1] = ["shop.example.com"];

#[test]
fn a_whole_chain_has_no_fault() {
    let made = made(|_| ());
    let chain = format!("{}\n\n# theirs\r\n{}", made.leaf, made.middle);
    let names = ["shop.example.com", "WWW.shop.example.com", "*.shop.example.com", "192.0.2.1"];
    assert_eq!(faults(&chain, &names, None), [""; 0]);
    assert_eq!(faults(&format!("{chain}{}", made.root), &names, Some(&made.root)), [""; 0]);
    assert_eq!(faults(&chain, &names, Some(&made.root)), [""; 0]);
    assert_eq!(faults(&made.leaf, &names, Some(&made.middle)), [""; 0]);
    let read = Chain::read(&chain).unwrap();
    assert_eq!((read.issuer.as_str(), read.ders().len(), read.sha256.len()), ("`Middle`", 2, 64));
    assert_eq!(read.top().lines().collect::<String>(), made.middle.lines().collect::<String>());
    assert_eq!(read.due(), read.not_after - 30 * 86_400);
    assert_eq!(due(0, 9 * 86_400), 6 * 86_400);
}

#[test]
fn each_fault_is_told() {
    let made = made(|_| ());
    let whole = format!("{}{}", made.leaf, made.middle);
    for (text, names, ca, words) in [
        (made.leaf.clone(), &SHOP[..], None, "comes without that of its authority, `Middle`"),
        (format!("{}{}", made.middle, made.leaf), &SHOP, None, "begins with that of the authority `Middle`"),
        (made.root.clone(), &SHOP, None, "is that of an authority, `Root`"),
        (format!("{}{}{}", made.leaf, made.root, made.middle), &SHOP, None, "has its chain in the wrong order"),
        (format!("{}{}", made.leaf, made.root), &SHOP, None, "has a broken chain: `Root` did not sign"),
        (format!("{0}{0}{1}", made.leaf, made.middle), &SHOP, None, "holds that of `shop.example.com` twice"),
        (made.leaf.clone(), &SHOP, Some(made.root.as_str()), "does not lead to an authority of `ca`"),
        (whole.clone(), &["shop.example.com", "a.b.shop.example.com"], None, "is not for `a.b.shop.example.com`"),
        (whole.clone(), &["192.0.2.2"], None, "is not for `192.0.2.2`"),
        (whole, &["*.example.com"], None, "is not for `*.example.com`"),
    ] {
        let found = faults(&text, names, ca);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    }
}

#[test]
fn a_leaf_that_no_client_would_take_is_told() {
    let one = |words: &str, change: fn(&mut CertificateParams)| {
        let made = made(change);
        let found = faults(&format!("{}{}", made.leaf, made.middle), &SHOP, None);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    };
    one("ended on 2026-11-20", |p| p.not_after = NOW - Duration::days(3));
    one("is valid from 2026-11-26 on", |p| p.not_before = NOW + Duration::days(3));
    one("is not for servers", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    one("is not for signatures", |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    one("it is for no name at all", |p| p.subject_alt_names.clear());
    // All of them at once.
    let made = made(|p| {
        p.not_after = NOW - Duration::days(3);
        p.subject_alt_names.clear();
    });
    assert_eq!(faults(&made.leaf, &SHOP, None).len(), 3);
}

#[test]
fn must_staple_is_seen() {
    let asked = made(|p| {
        let feature = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
        p.custom_extensions.push(feature);
    });
    assert!(Chain::read(&asked.leaf).unwrap().must_staple);
    assert!(!Chain::read(&made(|_| ()).leaf).unwrap().must_staple);
}

#[test]
fn what_is_no_file_of_certificates_is_told_and_nothing_of_it_shown() {
    let made = made(|_| ());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    for (text, words) in [
        (String::new(), "holds no certificate in PEM"),
        ("hunter2".to_owned(), "holds no certificate in PEM"),
        (format!("{}{key}", made.leaf), "holds a private key"),
        (made.leaf.replace("CERTIFICATE", "CERTIFICATE REQUEST"), "holds a request"),
        (made.leaf.replace("CERTIFICATE", "DH PARAMETERS"), "holds something else"),
        (made.leaf.chars().take(200).collect(), "is damaged"),
        (
            "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n".to_owned(),
            "no certificate of X.509",
        ),
    ] {
        let (what, help) = Chain::read(&text).unwrap_err();
        assert!(what.contains(words), "{words}: {what}");
        assert!(!help.is_empty() && !what.contains("hunter2") && !what.contains("aHVu"), "{what}");
    }
}

//! Certificates as a CA gives them, for tests.

use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use time::OffsetDateTime;

use crate::pki::internal_ca::Key;
use crate::pki::public::{Expected, Public};

pub(crate) fn names() -> Vec<String> {
    vec!["a.example.com".into(), "b.example.com".into()]
}

pub(crate) fn expected(names: &[String]) -> Expected<'_> {
    Expected { names, directory: "d", profile: None }
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A chain of a leaf for `names` and its issuer, signed for `key`.
pub(crate) fn chain(names: &[String], key: &KeyPair, days: i64, issuer: &str, now: OffsetDateTime) -> String {
    let ca_key = self::key();
    let mut ca = CertificateParams::default();
    ca.distinguished_name = DistinguishedName::new();
    ca.distinguished_name.push(DnType::CommonName, issuer);
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let signer = rcgen::Issuer::from_params(&ca, &ca_key);
    let mut leaf = CertificateParams::new(names.to_vec()).unwrap();
    (leaf.not_before, leaf.not_after) = (now - time::Duration::HOUR, now + time::Duration::days(days));
    leaf.signed_by(key, &signer).unwrap().pem() + &ca_pem
}

/// As a CA gives it.
pub(crate) fn from_ca(expected: Expected<'_>, days: i64, now: OffsetDateTime) -> Public {
    let key = key();
    let pem = chain(expected.names, &key, days, "real", now).replace('\n', "\r\n\r\n");
    Public::from_ca(expected, &pem, &Key::of(&key), now).unwrap()
}

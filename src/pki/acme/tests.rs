//! Whose turn it is, by what a CA can say.

use instant_acme::Problem;
use time::macros::datetime;

use super::failure::{NONCES, classify, patiently};
use super::*;
use crate::pki::guard::Last;

fn problem(kind: &str) -> Error {
    Error::Api(Problem {
        r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
        detail: Some("in its\nown \u{1b}[31mwords".to_owned()),
        status: None,
        subproblems: Vec::new(),
    })
}

fn json() -> Error {
    Error::Json(serde_json::from_str::<u8>("<html>").unwrap_err())
}

#[test]
fn every_answer_has_its_kind() {
    let later = Some(datetime!(2026-11-25 10:00 UTC));
    let last = |status| Last { status, retry_after: later, skew: None };
    for (error, status, kind) in [
        (problem("rateLimited"), 429, Kind::Limited),
        (problem("rateLimited"), 503, Kind::Limited),
        (problem("malformed"), 429, Kind::Limited),
        (problem("serverInternal"), 500, Kind::Outage),
        (problem("malformed"), 503, Kind::Outage),
        (problem("rejectedIdentifier"), 403, Kind::Refused),
        (problem("caa"), 403, Kind::Refused),
        (json(), 503, Kind::Outage),
        (json(), 500, Kind::Outage),
        (json(), 429, Kind::Limited),
        (json(), 404, Kind::Outage),
        (json(), 200, Kind::Refused),
        (Error::Timeout(None), 200, Kind::Outage),
        (Error::Other("no answer within 30 s".into()), 0, Kind::Outage),
        (Error::Str("no nonce"), 503, Kind::Outage),
        (Error::Str("no nonce"), 200, Kind::Refused),
    ] {
        let failure = classify(&error, &last(status));
        assert_eq!(failure.kind, kind, "{error:?} with {status}");
        assert_eq!(failure.retry_after.is_some(), kind != Kind::Refused, "{error:?} with {status}");
        assert!(!failure.why.contains(['\n', '\u{1b}']), "{}", failure.why);
    }
}

#[test]
fn a_storm_of_bad_nonces_is_sat_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut tries = 0;
    let step = async || {
        tries += 1;
        if tries < NONCES { Err(problem("badNonce")) } else { Ok(tries) }
    };
    assert_eq!(runtime.block_on(patiently(step)).unwrap(), NONCES);
    let mut tries = 0;
    let refused = runtime.block_on(patiently(async || {
        tries += 1;
        Err::<(), _>(problem("caa"))
    }));
    assert!(refused.is_err() && tries == 1);
    let mut tries = 0;
    let endless = runtime.block_on(patiently(async || {
        tries += 1;
        Err::<(), _>(problem("badNonce"))
    }));
    assert!(endless.is_err() && tries == NONCES);
}

#[test]
fn the_thumbprint_is_the_librarys() {
    let dir = tempfile::tempdir().unwrap();
    let key = PublicStore::open(dir.path()).unwrap().account_key().unwrap();
    // RFC 7638 §3 over the same key by other means: OpenSSL is not asked, the point's halves are.
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(key.der());
    assert!(instant_acme::Key::from_pkcs8_der(der).is_ok());
    assert_eq!(key.thumbprint().len(), 43);
}

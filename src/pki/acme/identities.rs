//! Under which domains a CA is named in CAA records: takes a directory, gives them. An unsigned GET, or nothing asked at all.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Value;

use super::blocking;
use super::failure::{Failure, Kind, classify};
use crate::base::visible;
use crate::pki::guard::{Guard, Seen};
use crate::service::certificates::wanted::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING};

/// A look before an order must not hold it up.
const WHOLE: Duration = Duration::from_secs(20);

/// The CA's domains (`meta.caaIdentities`, RFC 8555 §9.7.6), in lower case; empty where it names none.
///
/// # Errors
/// [`Failure`].
pub fn identities(directory: &str, stop: &AtomicBool) -> Result<Vec<String>, Failure> {
    if [LETS_ENCRYPT, LETS_ENCRYPT_STAGING].contains(&directory) {
        return Ok(vec!["letsencrypt.org".to_owned()]);
    }
    let seen = Seen::default();
    blocking(ask(directory, &seen), WHOLE, &seen, stop)
}

async fn ask(directory: &str, seen: &Seen) -> Result<Vec<String>, Failure> {
    let guard = Guard::new(seen.clone()).map_err(Failure::ours)?;
    let (status, body) = guard.get(directory).await.map_err(|e| classify(&e, &seen.last()))?;
    if status != 200 {
        return Err(Failure::of(Kind::Outage, format!("the CA answered {status} when it was asked for its directory")));
    }
    let document: Value = serde_json::from_slice(&body)
        .map_err(|_| Failure::of(Kind::Outage, "the server that answers is not an ACME server"))?;
    Ok(named(&document))
}

fn named(directory: &Value) -> Vec<String> {
    let list = directory.pointer("/meta/caaIdentities").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|name| visible::sentence(name).to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_where_there_are_any() {
        let read = |text: &str| named(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"meta":{"caaIdentities":["CA.example","two.example",3]}}"#), ["ca.example", "two.example"]);
        assert!(read(r#"{"meta":{}}"#).is_empty() && read("{}").is_empty() && read("[]").is_empty());
        assert_eq!(identities(LETS_ENCRYPT, &AtomicBool::new(false)).unwrap(), ["letsencrypt.org"]);
    }
}

//! When a CA advises to renew a certificate (RFC 9773): takes the directory and the leaf, gives the CA's window. An unsigned GET.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use instant_acme::{CertificateIdentifier, RenewalInfo};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use time::OffsetDateTime;

use super::blocking;
use super::failure::{Failure, Kind, classify};
use crate::base::visible;
use crate::pki::guard::{Guard, Seen};
use crate::service::certificates::schedule::Window;

/// Advice must not hold up what it is for.
const WHOLE: Duration = Duration::from_secs(20);
/// Of an explanation's URL, this much is kept.
const LONGEST_URL: usize = 300;

/// What a CA suggests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The window; not yet looked at for sense.
    pub window: Window,
    /// A page that explains it.
    pub explanation: Option<String>,
    /// When it wants to be asked again.
    pub retry_after: Option<time::Duration>,
}

/// Asks. `None` where the directory gives no such advice.
///
/// # Errors
/// [`Failure`]; its `retry_after` is the CA's.
pub fn advise(directory: &str, leaf: &[u8], stop: &AtomicBool) -> Result<Option<Suggestion>, Failure> {
    let seen = Seen::default();
    blocking(ask(directory, leaf, &seen), WHOLE, &seen, stop)
}

async fn ask(directory: &str, leaf: &[u8], seen: &Seen) -> Result<Option<Suggestion>, Failure> {
    let guard = Guard::new(seen.clone()).map_err(Failure::ours)?;
    let get = async |url: &str| {
        let (status, body) = guard.get(url).await.map_err(|e| classify(&e, &seen.last()))?;
        if status == 200 {
            return Ok(body);
        }
        let failure = Failure::of(Kind::Outage, format!("the CA answered {status} when it was asked for advice"));
        Err(Failure { retry_after: seen.last().retry_after, ..failure })
    };
    let urls: Value = serde_json::from_slice(&get(directory).await?)
        .map_err(|_| Failure::of(Kind::Outage, "the server that answers is not an ACME server"))?;
    let Some(url) = urls.get("renewalInfo").and_then(Value::as_str) else { return Ok(None) };
    let leaf = CertificateDer::from(leaf);
    // A leaf without the identifier of its authority's key has no name here.
    let Ok(id) = CertificateIdentifier::try_from(&leaf) else { return Ok(None) };
    let body = get(&format!("{}/{id}", url.trim_end_matches('/'))).await?;
    let info: RenewalInfo = serde_json::from_slice(&body)
        .map_err(|_| Failure::of(Kind::Outage, "the CA's advice about the renewal cannot be read"))?;
    let (start, end) = (info.suggested_window.start.unix_timestamp(), info.suggested_window.end.unix_timestamp());
    let explanation = info.explanation_url.map(|url| visible::sentence(&url)).filter(|url| url.len() <= LONGEST_URL);
    let retry_after = seen.last().retry_after.map(|at| at - OffsetDateTime::now_utc());
    Ok(Some(Suggestion { window: Window { start, end }, explanation, retry_after }))
}

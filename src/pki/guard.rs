//! The HTTP client under the ACME client: takes a request, gives the answer within a time, and keeps what the library above
//! throws away: the last status, `Retry-After`, and the CA's clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Limited;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the head of an answer may take.
pub const ANSWER: Duration = Duration::from_secs(30);

/// Most bytes of an answer's body: a directory, an order, a chain with its roots.
const BODY: usize = 1 << 20;

/// What the last answer's head said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Last {
    /// HTTP status; 0 before the first answer.
    pub status: u16,
    /// `Retry-After` (RFC 9110 §10.2.3) as an instant.
    pub retry_after: Option<OffsetDateTime>,
    /// How many seconds the CA's clock is ahead of ours.
    pub skew: Option<i64>,
}

/// The last answer, shared with the one who asks.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Last>>);

impl Seen {
    /// A copy of it.
    pub fn last(&self) -> Last {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, last: Last) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

/// See the module.
pub struct Guard {
    http: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    seen: Seen,
}

/// A provider of our own: rustls would panic where two are compiled in and none is chosen.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What this machine trusts, read once.
fn roots() -> Result<&'static RootCertStore, String> {
    static ROOTS: OnceLock<Result<RootCertStore, String>> = OnceLock::new();
    ROOTS.get_or_init(read_roots).as_ref().map_err(Clone::clone)
}

fn read_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
        return Err(format!("this machine trusts no authority at all (install `ca-certificates`){why}"));
    }
    Ok(roots)
}

/// Whether an authority that this machine trusts vouches for a chain (DER, the leaf first), as it would have to for a client.
///
/// # Errors
/// A sentence that says what is missing.
pub fn vouched(chain: &[Vec<u8>], now: OffsetDateTime) -> Result<(), String> {
    let [leaf, above @ ..] = chain else { return Err("the chain is empty".to_owned()) };
    let above: Vec<CertificateDer<'_>> = above.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let leaf = CertificateDer::from(leaf.as_slice());
    let leaf = webpki::EndEntityCert::try_from(&leaf).map_err(|e| format!("the certificate cannot be read: {e}"))?;
    let roots = roots()?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let usage = webpki::KeyUsage::server_auth();
    let algorithms = provider().signature_verification_algorithms.all;
    leaf.verify_for_usage(algorithms, &roots.roots, &above, at, usage, None, None)
        .map(|_| ())
        .map_err(|e| format!("no authority that this machine trusts vouches for it: {e}"))
}

impl Guard {
    /// A client that trusts what this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name other roots).
    ///
    /// # Errors
    /// A sentence, where there are no roots or TLS cannot be set up.
    pub fn new(seen: Seen) -> Result<Self, String> {
        let tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be set up: {e}"))?
            .with_root_certificates(roots()?.clone())
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().enable_http2();
        Ok(Self { http: Client::builder(TokioExecutor::new()).build(https.wrap_connector(tcp)), seen })
    }
}

impl Guard {
    /// A plain GET: the status and the body. For what a directory says without being asked by name.
    ///
    /// # Errors
    /// [`Error::Other`] where no answer came.
    pub async fn get(&self, url: &str) -> Result<(u16, Bytes), Error> {
        let mut answer = self.request(http::Request::get(url).body(BodyWrapper::default())?).await?;
        let status = answer.parts.status.as_u16();
        let body = tokio::time::timeout(ANSWER, answer.body.into_bytes()).await;
        let body = body.map_err(|_| Error::Other("the answer does not end".into()))?.map_err(Error::Other)?;
        Ok((status, body))
    }
}

impl HttpClient for Guard {
    fn request(
        &self,
        mut request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        // RFC 8555 §6.1 wants a name; the library's requests have its own.
        let name = http::HeaderValue::from_static(concat!("infra/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(http::header::USER_AGENT).or_insert(name);
        let host = request.uri().host().unwrap_or_default().to_owned();
        let (answer, seen) = (self.http.request(request), self.seen.clone());
        // What an earlier answer said must not be taken for what this one says.
        seen.set(Last { skew: seen.last().skew, ..Last::default() });
        Box::pin(async move {
            let answer = tokio::time::timeout(ANSWER, answer)
                .await
                .map_err(|_| Error::Other(format!("no answer within {} s", ANSWER.as_secs()).into()))?
                .map_err(|e| {
                    Error::Other(match untrusted(&host, &e) {
                        Some(words) => words.into(),
                        None => Box::new(e),
                    })
                })?;
            let header = |name: http::HeaderName| answer.headers().get(name).and_then(|v| v.to_str().ok());
            let now = OffsetDateTime::now_utc();
            let date = header(http::header::DATE).and_then(http_date);
            seen.set(Last {
                status: answer.status().as_u16(),
                retry_after: header(http::header::RETRY_AFTER).and_then(|text| retry_after(text, now)),
                skew: date.map(|date| (date - now).whole_seconds()).or(seen.last().skew),
            });
            Ok(BytesResponse::from(answer.map(|body| Limited::new(body, BODY))))
        })
    }
}

/// Whose certificate was not taken, and why, where that is what is behind an error: rustls' own words name nobody.
fn untrusted(host: &str, error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error.downcast_ref::<rustls::Error>().or_else(|| inner?.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(why)) = tls {
            let words = match why {
                CertificateError::UnknownIssuer => "is signed by an authority that this machine does not trust",
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "is for another name"
                }
                _ => "cannot be trusted",
            };
            return Some(format!(
                "the certificate that {host} shows {words} ({why}); if that authority is meant, name its root in SSL_CERT_FILE"
            ));
        }
        next = error.source();
    }
    None
}

/// `Mon, 23 Nov 2026 12:00:00 GMT` (RFC 9110 §5.6.7).
fn http_date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()
}

/// Seconds or a date; never more than 30 days, whatever a broken server says.
fn retry_after(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let longest = now + time::Duration::days(30);
    let at = match text.trim().parse::<u32>() {
        Ok(seconds) => now + time::Duration::seconds(i64::from(seconds)),
        Err(_) => http_date(text.trim())?,
    };
    Some(at.clamp(now, longest))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn whose_certificate_is_not_trusted_is_named() {
        let tls = |why| std::io::Error::other(rustls::Error::InvalidCertificate(why));
        let told = untrusted("ca.example", &tls(CertificateError::UnknownIssuer)).unwrap();
        assert!(
            told.starts_with("the certificate that ca.example shows is signed by an authority that this machine"),
            "{told}"
        );
        assert!(told.contains("UnknownIssuer"), "{told}");
        assert!(untrusted("ca.example", &tls(CertificateError::Expired)).unwrap().contains("has expired"));
        assert_eq!(untrusted("ca.example", &std::io::Error::other("refused")), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = datetime!(2026-11-23 12:00 UTC);
        assert_eq!(retry_after("120", now), Some(datetime!(2026-11-23 12:02 UTC)));
        assert_eq!(retry_after("Mon, 23 Nov 2026 13:00:00 GMT", now), Some(datetime!(2026-11-23 13:00 UTC)));
        assert_eq!(retry_after("Sun, 22 Nov 2026 13:00:00 GMT", now), Some(now));
        assert_eq!(retry_after("4294967295", now), Some(datetime!(2026-12-23 12:00 UTC)));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-5", now), None);
    }
}

//! Why there is no certificate: takes an error of the ACME client and what the last answer's head said, gives whose turn it is.

use std::error::Error as _;

use instant_acme::{Error, Problem};
use time::OffsetDateTime;

use crate::base::visible;
use crate::pki::guard::Last;
use crate::pki::internal_store;

/// How often a step is tried whose nonce the CA does not take. The library's own three are not enough in a storm.
pub(super) const NONCES: usize = 12;

/// Whose turn it is after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The CA allows no more for now.
    Limited,
    /// The CA does not answer as it should.
    Outage,
    /// The CA refuses what was asked for.
    Refused,
    /// Something here does not fit: the clock, the disk, what came back.
    Ours,
    /// A person stopped it; nobody failed.
    Stopped,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose turn it is.
    pub kind: Kind,
    /// A sentence.
    pub why: String,
    /// Not before then, says the CA.
    pub retry_after: Option<OffsetDateTime>,
}

impl Failure {
    /// Something on our side.
    pub fn ours(why: impl Into<String>) -> Self {
        Self { kind: Kind::Ours, why: why.into(), retry_after: None }
    }

    pub(super) fn of(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), retry_after: None }
    }
}

impl From<internal_store::Error> for Failure {
    fn from(error: internal_store::Error) -> Self {
        Self::ours(error.to_string())
    }
}

/// Tries a step again whose nonce was not taken.
pub(super) async fn patiently<T>(mut step: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..NONCES {
        match step().await {
            Err(Error::Api(problem)) if is(&problem, "badNonce") => {}
            other => return other,
        }
    }
    step().await
}

/// Whether a problem is of this type (RFC 8555 §6.7).
pub(super) fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|t| t.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// Whose turn it is, by what was said and by the status and header that the library does not keep.
pub(super) fn classify(error: &Error, last: &Last) -> Failure {
    let retry_after = last.retry_after;
    let (kind, why) = match error {
        Error::Api(problem) if is(problem, "rateLimited") || last.status == 429 => (Kind::Limited, problem.to_string()),
        Error::Api(problem) if is(problem, "serverInternal") || last.status >= 500 => {
            (Kind::Outage, problem.to_string())
        }
        Error::Api(problem) if is(problem, "externalAccountRequired") => {
            (Kind::Refused, "the CA asks for an external account: write `eab: { kid: …, key: … }`".to_owned())
        }
        Error::Api(problem) => (Kind::Refused, problem.to_string()),
        Error::Json(_) if last.status == 429 => (Kind::Limited, "the CA answered 429 (too many requests)".to_owned()),
        Error::Json(_) if !(200..300).contains(&last.status) => {
            (Kind::Outage, format!("the CA answered {}, but not by ACME", last.status))
        }
        Error::Json(_) => (Kind::Refused, "the server that answers is not an ACME server".to_owned()),
        Error::Timeout(_) => (Kind::Outage, "the CA is still at work on the order".to_owned()),
        Error::Other(_) | Error::Hyper(_) | Error::Http(_) => (Kind::Outage, causes(error)),
        _ if last.status >= 500 => (Kind::Outage, format!("the CA answered {}, but not by ACME", last.status)),
        other => (Kind::Refused, causes(other)),
    };
    let retry_after = retry_after.filter(|_| matches!(kind, Kind::Limited | Kind::Outage));
    Failure { kind, why: visible::sentence(&why), retry_after }
}

/// An error with what is behind it, each once.
fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

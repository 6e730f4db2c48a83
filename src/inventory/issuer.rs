//! Who signs the public certificates and how it is convinced, as the inventory asks for it; a part of [`Site`](super::site::Site).

use serde::Serialize;

use super::origin::{Place, SecretRef};

/// Where public certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// The internal CA.
    Internal,
    /// Let's Encrypt.
    LetsEncrypt,
    /// Let's Encrypt's staging.
    LetsEncryptStaging,
    /// Another ACME directory.
    Directory {
        /// Its URL.
        url: String,
        /// External account binding: key id and MAC key.
        eab: Option<(String, SecretRef)>,
    },
}

/// How the CA is convinced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Challenge {
    /// By a file over HTTP, answered by every load balancer.
    Http01,
    /// By a TXT record, set by a command.
    Dns01 {
        /// The hook's argv.
        hook: Vec<String>,
    },
}

/// Whom to ask when the issuer has failed for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// Never the internal CA.
    pub issuer: Issuer,
    /// After how many days of failures.
    pub after: u32,
}

/// Public certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// Who signs.
    pub issuer: Issuer,
    /// Mail address of the account.
    pub contact: Option<String>,
    /// http-01 or dns-01.
    pub challenge: Challenge,
    /// The kind of certificate, where the issuer offers several (`classic`, `tlsserver`, `shortlived`).
    pub profile: Option<String>,
    /// A second issuer.
    pub fallback: Option<Fallback>,
    /// Whether new certificates go into the running load balancer, without a reload, where its version is sound.
    pub hot_swap: bool,
    /// Whether the public addresses of all names must be our load balancers' before a certificate is ordered.
    pub check_dns: bool,
    /// The section's line, if there is one.
    pub place: Option<Place>,
}

impl Certificates {
    /// Where the inventory says nothing: the internal CA signs.
    pub fn internal() -> Self {
        Self {
            issuer: Issuer::Internal,
            contact: None,
            challenge: Challenge::Http01,
            profile: None,
            fallback: None,
            hot_swap: false,
            check_dns: true,
            place: None,
        }
    }
}

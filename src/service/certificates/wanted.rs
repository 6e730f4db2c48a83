//! What is asked of public CAs for a site: takes the site as the inventory has it, gives names, issuers and the way of proof.

use std::path::PathBuf;

use serde::Serialize;
use time::Duration;

use crate::inventory::site::{Certificates, Challenge, Issuer, KeyKind, SecretRef, Site, WebSite};

/// Let's Encrypt's directory.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// That of its staging.
pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(duration.whole_seconds())
}

/// A directory that may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The URL of the CA's directory.
    pub directory: String,
    /// How long the one before it must have failed.
    #[serde(serialize_with = "seconds")]
    pub after: Duration,
    /// External account binding (RFC 8555 §7.3.4): key id and where the MAC key is kept.
    pub binding: Option<(String, SecretRef)>,
}

impl Source {
    /// A directory that needs no external account, asked first.
    pub fn new(directory: &str) -> Self {
        Self { directory: directory.to_owned(), after: Duration::ZERO, binding: None }
    }

    /// The directory of an issuer; `None` where our own authority signs.
    pub fn of(issuer: &Issuer) -> Option<Self> {
        match issuer {
            Issuer::Internal => None,
            Issuer::LetsEncrypt => Some(Self::new(LETS_ENCRYPT)),
            Issuer::LetsEncryptStaging => Some(Self::new(LETS_ENCRYPT_STAGING)),
            Issuer::Directory { url, eab } => Some(Self { binding: eab.clone(), ..Self::new(url) }),
        }
    }

    /// All that may be asked, in their order; empty where our own authority signs.
    pub fn all(certificates: &Certificates) -> Vec<Self> {
        let second = certificates.fallback.as_ref().and_then(|fallback| {
            Some(Self { after: Duration::days(i64::from(fallback.after)), ..Self::of(&fallback.issuer)? })
        });
        Self::of(&certificates.issuer).into_iter().chain(second).collect()
    }

    /// The CA as a person knows it: the host of its directory.
    pub fn host(&self) -> &str {
        host(&self.directory)
    }
}

/// The host of a directory's URL.
pub fn host(directory: &str) -> &str {
    directory.trim_start_matches("https://").split('/').next().unwrap_or(directory)
}

/// The certificate of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Under what it is kept: the site's name.
    pub site: String,
    /// The names, the main one first, then addresses.
    pub names: Vec<String>,
    /// Where a CA may write to.
    pub contact: Option<String>,
    /// The kind of certificate, where the first issuer offers several.
    pub profile: Option<String>,
    /// The kind of its key.
    pub key: KeyKind,
    /// How a CA is convinced.
    pub challenge: Challenge,
    /// Whom to ask, in this order.
    pub sources: Vec<Source>,
    /// The inventory's folder: relative paths start there.
    pub folder: PathBuf,
}

/// What a public CA is asked to sign for: the names of a site, the main one first, then its addresses.
pub fn identifiers(site: &WebSite) -> Vec<String> {
    site.names().map(ToString::to_string).chain(site.addresses.iter().map(ToString::to_string)).collect()
}

impl Wanted {
    /// The certificate of each site; nothing where our own authority signs, or where it was bought.
    pub fn all(site: &Site) -> Vec<Self> {
        site.sites.values().filter(|web| site.orders(web)).map(|web| Self::of(site, web)).collect()
    }

    /// What a site needs.
    pub fn of(site: &Site, web: &WebSite) -> Self {
        let certificates = &site.certificates;
        Self {
            site: web.name.to_string(),
            names: identifiers(web),
            contact: certificates.contact.clone(),
            profile: certificates.profile.clone(),
            key: web.manner.key,
            challenge: certificates.challenge.clone(),
            sources: Source::all(certificates),
            folder: site.folder.clone(),
        }
    }

    /// The profile to ask `source` for: another CA knows other profiles.
    pub fn profile_at(&self, source: &Source) -> Option<&str> {
        self.sources.first().filter(|first| *first == source).and(self.profile.as_deref())
    }

    /// Whether it is proved by TXT records.
    pub fn by_dns(&self) -> bool {
        matches!(self.challenge, Challenge::Dns01 { .. })
    }
}

//! The ACME directories that the twin's world must have: takes the inventory's certificates, gives each directory that an order
//! may ask, and the parts of its URL.

use std::path::Path;

use http::Uri;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::inventory::site::{Certificates, Issuer, SecretRef};
use crate::service::certificates::wanted::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING};

/// An ACME directory (RFC 8555 section 7.1.1). It becomes a Pebble of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Its URL.
    pub url: String,
    /// The external account that it asks for, where it does: the key's id, and where the key is kept.
    #[serde(skip)]
    pub eab: Option<(String, SecretRef)>,
    /// A profile that it offers besides the usual one.
    #[serde(default)]
    pub profile: Option<String>,
}

/// What a server must know of a directory's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// A DNS name.
    pub(super) host: String,
    pub(super) port: u16,
    /// Without the slash that it begins with.
    pub(super) path: String,
}

impl Directory {
    /// All that the inventory may ask, its own issuer first, each once. Where Let's Encrypt is asked, its staging is too: a site's
    /// first order is rehearsed there. Files of secrets are relative to `folder`.
    pub(super) fn of(certificates: &Certificates, folder: &Path) -> Vec<Self> {
        let issuers = std::iter::once(&certificates.issuer).chain(certificates.fallback.as_ref().map(|f| &f.issuer));
        let mut all: Vec<Self> = Vec::new();
        for issuer in issuers {
            let found = match issuer {
                Issuer::Internal => vec![],
                Issuer::LetsEncrypt => vec![Self::open(LETS_ENCRYPT), Self::open(LETS_ENCRYPT_STAGING)],
                Issuer::LetsEncryptStaging => vec![Self::open(LETS_ENCRYPT_STAGING)],
                Issuer::Directory { url, eab } => {
                    let eab = eab.clone().map(|(kid, key)| (kid, at(folder, key)));
                    vec![Self { eab, ..Self::open(url) }]
                }
            };
            for mut directory in found {
                directory.profile.clone_from(&certificates.profile);
                if !all.iter().any(|known| known.url == directory.url) {
                    all.push(directory);
                }
            }
        }
        all
    }

    fn open(url: &str) -> Self {
        Self { url: url.to_owned(), eab: None, profile: None }
    }

    /// The parts of its URL.
    ///
    /// # Errors
    /// [`Error::Spec`] where the lab cannot serve it.
    pub(super) fn place(&self) -> Result<Place, Error> {
        let unfit = |why: &str| Error::Spec(format!("the lab cannot serve the ACME directory {}: {why}", self.url));
        let uri: Uri = self.url.parse().map_err(|_| unfit("it is not a URL"))?;
        let host = uri.host().unwrap_or_default();
        dns_name(host).map_err(|_| unfit("it stands under no DNS name"))?;
        if host.parse::<std::net::IpAddr>().is_ok() {
            return Err(unfit("it stands under no DNS name"));
        }
        let path = uri.path().trim_start_matches('/');
        // Its document is a file of that path.
        if path.is_empty() || path.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(unfit("its path must name a document, such as `/directory`"));
        }
        Ok(Place { host: host.to_ascii_lowercase(), port: uri.port_u16().unwrap_or(443), path: path.to_owned() })
    }
}

fn at(folder: &Path, key: SecretRef) -> SecretRef {
    match key {
        SecretRef::File(path) => SecretRef::File(folder.join(path)),
        other => other,
    }
}

/// Only what is safe in a hosts file and in dnsmasq's configuration.
pub(super) fn dns_name(name: &str) -> Result<(), Error> {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let fits = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if bare.split('.').all(fits) {
        return Ok(());
    }
    Err(Error::Spec(format!("the name `{}` is not a DNS name", name.escape_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::site::Fallback;

    #[test]
    fn every_directory_that_an_order_may_ask_is_there_once() {
        let ask = |issuer: Issuer, fallback: Option<Issuer>| {
            let fallback = fallback.map(|issuer| Fallback { issuer, after: 3 });
            let certificates = Certificates { issuer, fallback, ..Certificates::internal() };
            let all = Directory::of(&certificates, Path::new("/i"));
            all.into_iter().map(|d| d.url).collect::<Vec<_>>()
        };
        let own = || Issuer::Directory { url: "https://ca.example.com/acme/directory".to_owned(), eab: None };
        assert!(ask(Issuer::Internal, None).is_empty());
        assert_eq!(ask(Issuer::LetsEncryptStaging, None), [LETS_ENCRYPT_STAGING]);
        assert_eq!(ask(Issuer::LetsEncryptStaging, Some(Issuer::LetsEncrypt)), [LETS_ENCRYPT_STAGING, LETS_ENCRYPT]);
        assert_eq!(
            ask(own(), Some(Issuer::LetsEncrypt)),
            ["https://ca.example.com/acme/directory", LETS_ENCRYPT, LETS_ENCRYPT_STAGING]
        );
    }

    #[test]
    fn the_parts_of_a_url_are_what_a_server_needs() {
        let place = |url: &str| Directory::open(url).place();
        let found = place("https://CA.example.com:9000/acme/acme/directory").unwrap();
        assert_eq!(
            (found.host.as_str(), found.port, found.path.as_str()),
            ("ca.example.com", 9000, "acme/acme/directory")
        );
        assert_eq!(place(LETS_ENCRYPT).unwrap().port, 443);
        for url in ["https://192.0.2.1/dir", "https://[2001:db8::1]/dir", "https://ca.example.com/", "https://ca/../x"]
        {
            assert!(place(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_file_of_a_key_is_found_from_anywhere_and_no_record_holds_its_place() {
        let eab = Some(("kid-1".to_owned(), SecretRef::File("eab.key".into())));
        let issuer = Issuer::Directory { url: "https://ca.example.com/dir".to_owned(), eab };
        let all = Directory::of(&Certificates { issuer, ..Certificates::internal() }, Path::new("/i"));
        assert_eq!(all[0].eab, Some(("kid-1".to_owned(), SecretRef::File("/i/eab.key".into()))));
        assert!(!serde_json::to_string(&all).unwrap().contains("eab"));
    }
}

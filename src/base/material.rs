//! What a material is: takes its parts, gives the one spelling (`pki/web1/server.key`) that templates ask by, sentinels hold and
//! people read; takes that spelling, gives the parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::net::{DnsName, HostName, Invalid};

/// What a certificate between hosts is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// `clientAuth`.
    Client,
    /// `serverAuth`.
    Server,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// A certificate with its key: `pki/web1/server`, `site/shop.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CertificateId {
    /// What a host shows to other hosts.
    Hop {
        /// The host.
        host: HostName,
        /// As which end of a connection.
        purpose: Purpose,
    },
    /// What the load balancers show for a site.
    Site(DnsName),
}

impl CertificateId {
    /// The site, where it is a site's.
    pub fn site(&self) -> Option<&DnsName> {
        match self {
            Self::Site(name) => Some(name),
            Self::Hop { .. } => None,
        }
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hop { host, purpose } => write!(f, "pki/{host}/{purpose}"),
            Self::Site(name) => write!(f, "site/{name}"),
        }
    }
}

impl FromStr for CertificateId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split('/').collect::<Vec<_>>()[..] {
            ["pki", host, "client"] => Ok(Self::Hop { host: host.parse()?, purpose: Purpose::Client }),
            ["pki", host, "server"] => Ok(Self::Hop { host: host.parse()?, purpose: Purpose::Server }),
            ["site", name] => Ok(Self::Site(name.parse()?)),
            _ => Err(Invalid::new("is not the name of a certificate")),
        }
    }
}

impl TryFrom<String> for CertificateId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<CertificateId> for String {
    fn from(id: CertificateId) -> Self {
        id.to_string()
    }
}

/// A secret that a service declares: `db/app`. Which services there are is not known here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId {
    service: String,
    name: String,
}

impl SecretId {
    /// What stands before the `/` in the names of other materials.
    const TAKEN: [&str; 3] = ["pki", "site", "acme"];
    /// Characters of either part.
    const LONGEST: usize = 64;

    /// Takes the service's name, and what the service calls the secret: each of `a-z`, `0-9`, `_` and `-`, at most 64.
    ///
    /// # Errors
    /// A fragment that follows the part that is wrong.
    pub fn new(service: &str, name: &str) -> Result<Self, Invalid> {
        for part in [service, name] {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
            if part.is_empty() || part.len() > Self::LONGEST || !part.chars().all(fits) {
                let help = format!("use 1 to {} characters of a-z, 0-9, `_` and `-`", Self::LONGEST);
                return Err(Invalid::new("is not a name for a secret or its service").help(help));
            }
        }
        if Self::TAKEN.contains(&service) {
            return Err(Invalid::new("is taken by the certificates"));
        }
        Ok(Self { service: service.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.name)
    }
}

impl FromStr for SecretId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (service, name) =
            text.split_once('/').ok_or_else(|| Invalid::new("does not name a service and a secret"))?;
        Self::new(service, name)
    }
}

impl TryFrom<String> for SecretId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<SecretId> for String {
    fn from(id: SecretId) -> Self {
        id.to_string()
    }
}

/// Something that stands behind a sentinel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Material {
    /// The authorities that sign what hosts show each other: `pki/ca.crt`.
    HopAuthorities,
    /// The internal authorities that sign for sites: `pki/sites-ca.crt`.
    SiteAuthorities,
    /// The thumbprint of the ACME account's key: `acme/thumbprint`.
    AccountThumbprint,
    /// A certificate with its chain: `pki/web1/server.crt`.
    Certificate(CertificateId),
    /// Its private key: `pki/web1/server.key`.
    Key(CertificateId),
    /// The names and addresses of a site that the certificate which it shows is for, one a line; without it, all are there:
    /// `site/shop.example.com.names`.
    SiteNames(DnsName),
    /// There while a site shows what the roots of a host need not vouch for: a placeholder, or a certificate of another
    /// directory than Let's Encrypt's, whatever the inventory asks for by now. `site/shop.example.com.unrooted`.
    SiteUnrooted(DnsName),
    /// A secret of a service: `db/app`.
    Secret(SecretId),
    /// What the secret was before its last rotation, until that is over: `db/app.previous`.
    PreviousSecret(SecretId),
}

impl Material {
    /// The certificate that it is a part of.
    pub fn certificate(&self) -> Option<&CertificateId> {
        match self {
            Self::Certificate(id) | Self::Key(id) => Some(id),
            _ => None,
        }
    }

    /// Whether it comes from an authority, ours or a public one: certificates, their keys, and whom to trust.
    pub fn is_issued(&self) -> bool {
        !matches!(self, Self::AccountThumbprint | Self::Secret(_) | Self::PreviousSecret(_))
    }

    /// The site that it is about.
    pub fn site(&self) -> Option<&DnsName> {
        match self {
            Self::SiteNames(name) | Self::SiteUnrooted(name) => Some(name),
            other => other.certificate().and_then(CertificateId::site),
        }
    }
}

impl fmt::Display for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HopAuthorities => f.write_str("pki/ca.crt"),
            Self::SiteAuthorities => f.write_str("pki/sites-ca.crt"),
            Self::AccountThumbprint => f.write_str("acme/thumbprint"),
            Self::Certificate(id) => write!(f, "{id}.crt"),
            Self::Key(id) => write!(f, "{id}.key"),
            Self::SiteNames(name) => write!(f, "site/{name}.names"),
            Self::SiteUnrooted(name) => write!(f, "site/{name}.unrooted"),
            Self::Secret(id) => id.fmt(f),
            Self::PreviousSecret(id) => write!(f, "{id}.previous"),
        }
    }
}

impl FromStr for Material {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let site = |name: &str| name.strip_prefix("site/").unwrap_or_default().parse();
        match (text, text.rsplit_once('.')) {
            ("pki/ca.crt", _) => Ok(Self::HopAuthorities),
            ("pki/sites-ca.crt", _) => Ok(Self::SiteAuthorities),
            ("acme/thumbprint", _) => Ok(Self::AccountThumbprint),
            (_, Some((id, "crt"))) => Ok(Self::Certificate(id.parse()?)),
            (_, Some((id, "key"))) => Ok(Self::Key(id.parse()?)),
            (_, Some((name, "names"))) => Ok(Self::SiteNames(site(name)?)),
            (_, Some((name, "unrooted"))) => Ok(Self::SiteUnrooted(site(name)?)),
            (_, Some((id, "previous"))) => Ok(Self::PreviousSecret(id.parse()?)),
            (id, _) => Ok(Self::Secret(id.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_one_spelling() {
        let server = CertificateId::Hop { host: "web1".parse().unwrap(), purpose: Purpose::Server };
        let shop: DnsName = "shop.example.com".parse().unwrap();
        let site = CertificateId::Site(shop.clone());
        let secret = SecretId::new("db", "app_2").unwrap();
        for (material, text) in [
            (Material::HopAuthorities, "pki/ca.crt"),
            (Material::SiteAuthorities, "pki/sites-ca.crt"),
            (Material::AccountThumbprint, "acme/thumbprint"),
            (Material::Certificate(server.clone()), "pki/web1/server.crt"),
            (Material::Key(server), "pki/web1/server.key"),
            (Material::Certificate(site.clone()), "site/shop.example.com.crt"),
            (Material::Key(site), "site/shop.example.com.key"),
            (Material::Key(CertificateId::Site("*.names.key".parse().unwrap())), "site/*.names.key.key"),
            (Material::SiteNames(shop.clone()), "site/shop.example.com.names"),
            (Material::SiteUnrooted(shop), "site/shop.example.com.unrooted"),
            (Material::Secret(secret.clone()), "db/app_2"),
            (Material::PreviousSecret(secret), "db/app_2.previous"),
        ] {
            assert_eq!(material.to_string(), text);
            assert_eq!(text.parse::<Material>().unwrap(), material);
        }
    }

    #[test]
    fn what_is_no_material_is_none() {
        for text in [
            "",
            "/",
            "pki",
            "pki/",
            "pki/web1",
            "pki/web1/server",
            "pki/web1/a.key",
            "pki/web1/a/b.key",
            "pki/ca",
            "pki/A/server.key",
            "site/a/b.crt",
            "site/shop.example.com",
            "acme/account",
            "source",
            "db/",
            "db/a/b",
            "db/a b",
            "db/A",
            "db/app.later",
            "DB/app",
            "db/a\u{E001}",
            "x.names",
        ] {
            assert!(text.parse::<Material>().is_err(), "{text}");
        }
    }
}

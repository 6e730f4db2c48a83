//! A public certificate with its chain and key: takes what a CA or a load balancer gave, gives it in our shape and checked, or the
//! reason why it cannot be used.

use std::collections::BTreeSet;

use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::base::chain::{self, Chain, pem_block};
use crate::base::words::count;
use crate::pki::internal_ca::{self, Key, Problem};
use crate::pki::{given, guard, key};
use crate::service::certificates::schedule::{Held, Life};
use crate::service::certificates::wanted::LETS_ENCRYPT;

/// How long a placeholder says that it lives; it is replaced by the first order.
const PLACEHOLDER_LIFE: time::Duration = time::Duration::days(365);

/// The directory of what no directory has given.
const NONE: &str = "";

/// A certificate with its chain and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// What was asked for, the main name first; addresses as text.
    pub names: Vec<String>,
    /// The directory that it came from; empty for what is kept of before, `None` for a self-signed placeholder.
    pub directory: Option<String>,
    /// The profile that was asked for.
    #[serde(default)]
    pub profile: Option<String>,
    /// Leaf and intermediates, PEM, one after the other.
    pub chain: String,
    /// Its key.
    pub(crate) key: Key,
    /// Its dates.
    pub life: Life,
    /// Of the leaf's DER, lower-case hex.
    pub sha256: String,
    /// Whether its CA was told to take it back.
    #[serde(default)]
    pub revoked: bool,
    /// The order that it came from: an order that is done is never taken for one under way.
    pub(crate) order: Option<String>,
}

/// What a certificate must be to be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// Exactly these names and addresses.
    pub(crate) names: &'a [String],
    /// Where it comes from.
    pub(crate) directory: &'a str,
    /// The profile that was asked for.
    pub(crate) profile: Option<&'a str>,
}

impl Public {
    /// `shop.example.com and 1 more, 90 days, until 2027-02-21`.
    pub fn about(&self) -> String {
        let name = self.names.first().map_or("?", String::as_str);
        let more = match self.names.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        if self.directory.is_none() {
            return format!("{name}{more}, self-signed placeholder");
        }
        let seconds = self.life.not_after - self.life.not_before + 1;
        let life = match seconds / 86_400 {
            days if days < 10 => count(seconds / 3600, "hour"),
            days => count(days, "day"),
        };
        format!("{name}{more}, {life}, until {}", internal_ca::date(self.life.not_after))
    }

    /// Whether clients take it for a name or an address: a wildcard is for one label (RFC 9525 section 6.3).
    pub(crate) fn is_for(&self, name: &str) -> bool {
        are_for(&self.names, name)
    }

    /// What decides about its renewal.
    pub fn held(&self) -> Option<Held> {
        Some(Held {
            names: self.names.clone(),
            directory: self.directory.clone()?,
            profile: self.profile.clone(),
            key: key::kind(self.key.reveal()),
            life: self.life,
            leaf: self.sha256.clone(),
            revoked: self.revoked,
            untrusted: false,
        })
    }

    /// Who signed it, by the common name that it has.
    pub(crate) fn issuer(&self) -> Option<String> {
        let leaf = self.leaf()?;
        let (_, leaf) = X509Certificate::from_der(&leaf).ok()?;
        leaf.issuer().iter_common_name().next()?.as_str().ok().map(ToOwned::to_owned)
    }

    /// The leaf, DER.
    pub(crate) fn leaf(&self) -> Option<Vec<u8>> {
        self.ders().into_iter().next()
    }

    /// The chain, DER, the leaf first.
    pub(crate) fn ders(&self) -> Vec<Vec<u8>> {
        let blocks = Pem::iter_from_buffer(self.chain.as_bytes());
        blocks.filter_map(|block| block.ok().map(|block| block.contents)).collect()
    }

    /// As clients will judge it: what is Let's Encrypt's must be trusted by this machine. Of other directories it is not known
    /// whether their roots are meant for it.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub(crate) fn vouched(self, now: OffsetDateTime) -> Result<Self, String> {
        if self.directory.as_deref() == Some(LETS_ENCRYPT) {
            guard::vouched(&self.ders(), now)?;
        }
        Ok(self)
    }

    /// A certificate as a CA gave it, brought into shape and checked: the key is its own, the names are those asked for, it is
    /// valid now, each certificate is signed by the next, and it is not a staging CA's where none was asked for.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub(crate) fn from_ca(expected: Expected<'_>, pem: &str, key: &Key, now: OffsetDateTime) -> Result<Self, String> {
        let ders = blocks(pem)?
            .into_iter()
            .map(|(label, der)| match label.as_str() {
                "CERTIFICATE" => Ok(der),
                _ => Err(format!("the chain holds a `{label}`")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let leaf_der = ders.first().ok_or("the chain is empty")?;
        if ders.len() < 2 {
            return Err("the chain has no intermediate certificate".to_owned());
        }
        let certificates: Vec<X509Certificate<'_>> = ders
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
            .collect::<Result<_, _>>()
            .map_err(|_| "the certificate cannot be read")?;
        let leaf = certificates.first().ok_or("the chain is empty")?;
        let own = KeyPair::from_pem(key.reveal()).map_err(|_| "the key on disk cannot be read")?;
        if leaf.public_key().raw != own.subject_public_key_info() {
            return Err("the certificate is for another key".to_owned());
        }
        for (below, above) in certificates.iter().zip(certificates.iter().skip(1)) {
            let signed = below.verify_signature(Some(above.public_key()));
            // An algorithm that we do not know is for the clients to judge.
            if below.issuer() != above.subject() || signed == Err(X509Error::SignatureVerificationError) {
                return Err(format!("the chain is broken: {} did not sign {}", above.subject(), below.subject()));
            }
        }
        let (said, wanted) = (names(leaf)?, expected.names.iter().cloned().collect::<BTreeSet<_>>());
        if said != wanted {
            let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!("the certificate is for {}, not for {}", list(&said), list(&wanted)));
        }
        let validity = leaf.validity();
        let life = Life { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() };
        let now = now.unix_timestamp();
        if now < life.not_before || now >= life.not_after {
            return Err("the certificate is not valid now, by this machine's clock".to_owned());
        }
        if expected.directory == LETS_ENCRYPT && leaf.issuer().to_string().contains("(STAGING)") {
            return Err("the certificate is from a staging authority".to_owned());
        }
        Ok(Self {
            names: expected.names.to_vec(),
            directory: Some(expected.directory.to_owned()),
            profile: expected.profile.map(ToOwned::to_owned),
            chain: ders.iter().map(|der| pem_block("CERTIFICATE", der)).collect(),
            key: key.clone(),
            life,
            sha256: hex(&Sha256::digest(leaf_der)),
            revoked: false,
            order: None,
        })
    }

    /// A certificate with its key as a load balancer keeps it (leaf, intermediates, key), checked as one from a CA is.
    ///
    /// # Errors
    /// A sentence that says what does not fit; nothing of the key is in it.
    pub(crate) fn from_file(expected: Expected<'_>, pem: &str, now: OffsetDateTime) -> Result<Self, String> {
        let (keys, chain): (Vec<_>, Vec<_>) =
            blocks(pem)?.into_iter().partition(|(label, _)| label.ends_with("PRIVATE KEY"));
        let [(label, der)] = keys.as_slice() else { return Err("the file does not hold one key".to_owned()) };
        let pair = KeyPair::from_pem(&pem_block(label, der)).map_err(|_| "its key cannot be read")?;
        let chain: String = chain.iter().map(|(label, der)| pem_block(label, der)).collect();
        Self::from_ca(expected, &chain, &Key::of(&pair), now)
    }

    /// What a load balancer shows for a site and no CA of ours has given: it was bought, or an internal authority signed it. `None` of
    /// a file that no client is served by: its key is not its own, it has ended, or it is a placeholder.
    pub(crate) fn kept(site: &str, pem: &str, now: OffsetDateTime) -> Option<Self> {
        let (keys, chain): (Vec<_>, Vec<_>) =
            blocks(pem).ok()?.into_iter().partition(|(label, _)| label.ends_with("PRIVATE KEY"));
        let chain: String = chain.iter().map(|(label, der)| pem_block(label, der)).collect();
        let keys: String = keys.iter().map(|(label, der)| pem_block(label, der)).collect();
        let chain = Chain::read(&chain).ok()?;
        let key = given::of(&keys, &chain.public_key).ok()?;
        let (_, leaf) = X509Certificate::from_der(chain.ders().first()?).ok()?;
        let life = Life { not_before: chain.not_before, not_after: chain.not_after };
        let made = life.not_after - life.not_before == (PLACEHOLDER_LIFE + time::Duration::HOUR).whole_seconds();
        let lives = (life.not_before..life.not_after).contains(&now.unix_timestamp());
        if !lives || (made && leaf.issuer() == leaf.subject()) {
            return None;
        }
        let mut names: Vec<String> = chain.names.into_iter().collect();
        names.sort_by_key(|name| name != site);
        Some(Self {
            names,
            directory: Some(NONE.to_owned()),
            profile: None,
            chain: chain.pem,
            key: Key::of_pem(key),
            life,
            sha256: chain.sha256,
            revoked: false,
            order: None,
        })
    }

    /// What stands in until the first order.
    pub(crate) fn placeholder(names: &[String], now: OffsetDateTime) -> Result<Self, Problem> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.is_ca = IsCa::ExplicitNoCa;
        let now = now.replace_nanosecond(0).unwrap_or(now);
        (params.not_before, params.not_after) = (now - time::Duration::HOUR, now + PLACEHOLDER_LIFE);
        params.serial_number = Some(internal_ca::serial()?);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            names: names.to_vec(),
            directory: None,
            profile: None,
            chain: certificate.pem(),
            key: Key::of(&key),
            life: Life { not_before: params.not_before.unix_timestamp(), not_after: params.not_after.unix_timestamp() },
            sha256: hex(&Sha256::digest(certificate.der())),
            revoked: false,
            order: None,
        })
    }
}

/// As a load balancer keeps it: leaf, intermediates, key. It holds the key, and goes nowhere but into a digest.
pub(crate) fn file(certificate: &Public) -> String {
    format!("{}{}", certificate.chain, certificate.key.reveal())
}

/// Whether a certificate for `names` is one for `name`.
pub(crate) fn are_for(names: &[String], name: &str) -> bool {
    let above = name.split_once('.').map(|(_, above)| above);
    names.iter().any(|own| own == name || own.strip_prefix("*.").is_some_and(|rest| Some(rest) == above))
}

/// The PEM blocks of a text.
fn blocks(pem: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    chain::blocks(pem).ok_or_else(|| "the chain is not PEM".to_owned())
}

/// What a leaf is for.
fn names(leaf: &X509Certificate<'_>) -> Result<BTreeSet<String>, String> {
    chain::names(leaf).ok_or_else(|| "the certificate names nothing".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::pki::sample::{chain, expected, from_ca, key, names};

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    #[test]
    fn what_fits_is_brought_into_shape() {
        let real = from_ca(expected(&names()), 90, NOW);
        assert!(!real.chain.contains("\n\n") && !real.chain.contains('\r'), "{}", real.chain);
        assert_eq!(real.about(), "a.example.com and 1 more, 90 days, until 2027-02-21");
        let with_address: Vec<String> = vec!["a.example.com".into(), "192.0.2.1".into(), "2001:db8::1".into()];
        let short = from_ca(expected(&with_address), 6, NOW);
        assert_eq!(short.about(), "a.example.com and 2 more, 145 hours, until 2026-11-29");
        // As a load balancer keeps it.
        let file = format!("{}{}", real.chain, real.key.reveal());
        assert_eq!(Public::from_file(expected(&names()), &file, NOW), Ok(real.clone()));
        let none = Public::from_file(expected(&names()), &real.chain, NOW).unwrap_err();
        assert_eq!(none, "the file does not hold one key");
        let wrong = format!("{}{}", real.chain, short.key.reveal());
        assert!(Public::from_file(expected(&names()), &wrong, NOW).unwrap_err().contains("another key"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (key, other) = (key(), key());
        let good = chain(&names(), &key, 90, "real", NOW);
        let mut parts = good.split_inclusive("-----END CERTIFICATE-----\n");
        let (leaf, authority) = (parts.next().unwrap(), parts.next().unwrap());
        let take = |pem: &str, key: &KeyPair, directory: &str, now| {
            let names = names();
            let expected = Expected { directory, ..expected(&names) };
            Public::from_ca(expected, pem, &Key::of(key), now).unwrap_err()
        };
        assert!(take(&good, &other, "d", NOW).contains("another key"));
        assert!(take(leaf, &key, "d", NOW).contains("no intermediate"));
        let stranger = chain(&names(), &key, 90, "stranger", NOW);
        let stranger = stranger.split_inclusive("-----END CERTIFICATE-----\n").nth(1).unwrap();
        assert!(take(&format!("{leaf}{stranger}"), &key, "d", NOW).contains("the chain is broken"));
        // Of the same name, but with another key.
        let namesake = chain(&names(), &key, 90, "real", NOW);
        let namesake = namesake.split_inclusive("-----END CERTIFICATE-----\n").nth(1).unwrap();
        assert!(take(&format!("{leaf}{namesake}"), &key, "d", NOW).contains("the chain is broken"));
        assert!(take(&format!("{authority}{leaf}"), &key, "d", NOW).contains("another key"));
        assert!(
            take(&chain(&names()[..1], &key, 90, "real", NOW), &key, "d", NOW).contains("not for a.example.com, b.")
        );
        assert!(take(&good, &key, "d", NOW + time::Duration::days(91)).contains("not valid now"));
        let staging = chain(&names(), &key, 90, "(STAGING) Wannabe", NOW);
        assert!(take(&staging, &key, LETS_ENCRYPT, NOW).contains("staging"));
        assert!(take("", &key, "d", NOW).contains("empty"));
        assert!(take(&(good.clone() + &key.serialize_pem()), &key, "d", NOW).contains("PRIVATE KEY"));
    }
}

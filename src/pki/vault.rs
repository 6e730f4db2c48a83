//! What is kept of public certificates: takes the state folder, gives the account key, each site's certificate, the order
//! under way and what went wrong before, under a lock; writes each back atomically.
//!
//! `STATE/acme/account.key` must be backed up: the load balancers answer challenges with its thumbprint. The rest may be
//! lost at the price of new orders, of which a CA allows few (five a week for the same names, at Let's Encrypt).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::base::fsx::{private_dir, write_atomic};
use crate::pki::internal_ca::{self, Key, Problem};
use crate::pki::renew::{Held, Life, Record};
use crate::pki::store::{self, Error};

/// How long a placeholder says that it lives; it is replaced by the first order.
const PLACEHOLDER_LIFE: time::Duration = time::Duration::days(365);

/// A certificate with its chain and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// What was asked for, the main name first.
    pub names: Vec<String>,
    /// The directory that it came from; `None` for a self-signed placeholder.
    pub directory: Option<String>,
    /// Leaf and intermediates, PEM, one after the other.
    pub chain: String,
    /// Its key.
    pub(crate) key: Key,
    /// Its dates.
    pub life: Life,
    /// Of the leaf's DER, lower-case hex.
    pub sha256: String,
    /// The order that it came from: an order that is done is never taken for one under way.
    pub(crate) order: Option<String>,
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
        let days = (self.life.not_after - self.life.not_before + 1) / 86_400;
        format!("{name}{more}, {days} days, until {}", internal_ca::date(self.life.not_after))
    }

    /// What decides about its renewal.
    pub fn held(&self) -> Option<Held<'_>> {
        Some(Held { names: &self.names, directory: self.directory.as_deref()?, life: self.life })
    }

    /// A certificate as a CA gave it, brought into shape and checked: the key is its own, the names are those asked for, it is
    /// valid now, an intermediate is there, and it is not a staging CA's where none was asked for.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub(crate) fn from_ca(
        names: &[String],
        directory: &str,
        pem: &str,
        key: &Key,
        now: OffsetDateTime,
    ) -> Result<Self, String> {
        let ders: Vec<Vec<u8>> = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes())
            .map(|block| match block {
                Ok(block) if block.label == "CERTIFICATE" => Ok(block.contents),
                Ok(block) => Err(format!("the chain holds a `{}`", block.label)),
                Err(_) => Err("the chain is no PEM".to_owned()),
            })
            .collect::<Result<_, _>>()?;
        let leaf_der = ders.first().ok_or("the chain is empty")?;
        if ders.len() < 2 {
            return Err("the chain has no intermediate certificate".to_owned());
        }
        let (_, leaf) = X509Certificate::from_der(leaf_der).map_err(|_| "the certificate cannot be read")?;
        let own = KeyPair::from_pem(key.reveal()).map_err(|_| "the key on disk cannot be read")?;
        if leaf.public_key().raw != own.subject_public_key_info() {
            return Err("the certificate is for another key".to_owned());
        }
        let alternative = leaf.subject_alternative_name().ok().flatten().ok_or("the certificate names nothing")?;
        let said: BTreeSet<&str> = alternative
            .value
            .general_names
            .iter()
            .filter_map(|n| if let GeneralName::DNSName(name) = n { Some(*name) } else { None })
            .collect();
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        if said != wanted {
            let list = |set: &BTreeSet<&str>| set.iter().copied().collect::<Vec<_>>().join(", ");
            return Err(format!("the certificate is for {}, not for {}", list(&said), list(&wanted)));
        }
        let life = Life {
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
        };
        let now = now.unix_timestamp();
        if now < life.not_before || now >= life.not_after {
            return Err("the certificate is not valid now, by this machine's clock".to_owned());
        }
        if directory == super::acme::LETS_ENCRYPT && leaf.issuer().to_string().contains("(STAGING)") {
            return Err("the certificate is from a staging authority".to_owned());
        }
        let encode = |der: &Vec<u8>| pem_block("CERTIFICATE", der);
        Ok(Self {
            names: names.to_vec(),
            directory: Some(directory.to_owned()),
            chain: ders.iter().map(encode).collect(),
            key: key.clone(),
            life,
            sha256: hex(&Sha256::digest(leaf_der)),
            order: None,
        })
    }

    fn placeholder(names: &[String], now: OffsetDateTime) -> Result<Self, Problem> {
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
            chain: certificate.pem(),
            key: Key::of(&key),
            life: Life { not_before: params.not_before.unix_timestamp(), not_after: params.not_after.unix_timestamp() },
            sha256: hex(&Sha256::digest(certificate.der())),
            order: None,
        })
    }
}

/// An order under way. It is on disk before the request that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Whom it was sent to.
    pub(crate) directory: String,
    /// What for.
    pub(crate) names: Vec<String>,
    /// Where it is, from when the CA has told.
    pub(crate) url: Option<String>,
    /// The key that the certificate will have.
    pub(crate) key: Key,
}

/// `STATE/acme`, locked until it is dropped.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    _lock: File,
}

impl Vault {
    /// Opens the folder, making it where it is missing, and waits for its lock.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Busy`] after 20 seconds.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let folder = state.join("acme");
        let lock = store::lock(&folder)?;
        Ok(Self { folder, _lock: lock })
    }

    /// The account key, made where there is none. One key for every directory, so that all have one thumbprint.
    ///
    /// # Errors
    /// [`Error::Damaged`]: a key is never replaced by another one.
    pub(crate) fn account_key(&self) -> Result<AccountKey, Error> {
        let path = self.folder.join("account.key");
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Problem::from)?;
                write_atomic(&path, key.serialize_pem().as_bytes(), 0o600)?;
                return Ok(AccountKey { pair: key });
            }
            Err(error) => return Err(error.into()),
        };
        let damaged = |why: &str| Error::Damaged { path: path.clone(), why: why.to_owned() };
        let pair = KeyPair::from_pem(&text).map_err(|_| damaged("it is no private key"))?;
        if pair.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(damaged("it is no P-256 key"));
        }
        Ok(AccountKey { pair })
    }

    fn path(&self, site: &str, what: &str) -> PathBuf {
        self.folder.join("sites").join(site.replace('*', "_")).join(what)
    }

    fn put<T: Serialize>(&self, site: &str, what: &str, value: &T) -> Result<(), Error> {
        let path = self.path(site, what);
        if let Some(folder) = path.parent() {
            private_dir(folder)?;
        }
        let mut bytes = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
        bytes.push(b'\n');
        Ok(write_atomic(&path, &bytes, 0o600)?)
    }

    fn take(&self, site: &str, what: &str) -> Result<(), Error> {
        match fs_err::remove_file(self.path(site, what)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The certificate in use, a CA's.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn current(&self, site: &str) -> Result<Option<Public>, Error> {
        load(&self.path(site, "current.json"))
    }

    /// Puts a certificate into use. It never replaces one for the same names from the same directory that lasts longer.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn put_current(&self, site: &str, new: &Public) -> Result<(), Error> {
        if let Some(old) = self.current(site)?
            && old.names == new.names
            && old.directory == new.directory
            && old.life.not_after > new.life.not_after
        {
            return Err(Problem::Damaged(format!(
                "the new certificate of {site} ends on {}, before the one in use",
                internal_ca::date(new.life.not_after)
            ))
            .into());
        }
        self.put(site, "current.json", new)
    }

    /// What a load balancer shows: the certificate in use, or a placeholder that is made here so that `HAProxy` starts.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Problem`].
    pub fn shown(&self, site: &str, names: &[String], now: OffsetDateTime) -> Result<Public, Error> {
        if let Some(current) = self.current(site)? {
            return Ok(current);
        }
        match load::<Public>(&self.path(site, "placeholder.json"))? {
            Some(old) if old.names == names && old.life.not_after > now.unix_timestamp() => Ok(old),
            _ => {
                let new = Public::placeholder(names, now)?;
                self.put(site, "placeholder.json", &new)?;
                Ok(new)
            }
        }
    }

    /// The order under way, if it is for the same.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn journal(&self, site: &str) -> Result<Option<Journal>, Error> {
        load(&self.path(site, "order.json"))
    }

    pub(crate) fn put_journal(&self, site: &str, journal: &Journal) -> Result<(), Error> {
        self.put(site, "order.json", journal)
    }

    pub(crate) fn clear_journal(&self, site: &str) -> Result<(), Error> {
        self.take(site, "order.json")
    }

    /// The mail address that a directory was told.
    pub(crate) fn contact(&self, directory: &str) -> Result<Option<String>, Error> {
        Ok(self.contacts()?.remove(directory))
    }

    pub(crate) fn put_contact(&self, directory: &str, contact: &str) -> Result<(), Error> {
        let mut contacts = self.contacts()?;
        contacts.insert(directory.to_owned(), contact.to_owned());
        let bytes = serde_json::to_vec_pretty(&contacts).map_err(io::Error::from)?;
        Ok(write_atomic(&self.folder.join("contacts.json"), &bytes, 0o600)?)
    }

    fn contacts(&self) -> Result<BTreeMap<String, String>, Error> {
        Ok(load(&self.folder.join("contacts.json"))?.unwrap_or_default())
    }

    /// What went wrong before.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn record(&self, site: &str) -> Result<Record, Error> {
        Ok(load(&self.path(site, "record.json"))?.unwrap_or_default())
    }

    pub(crate) fn put_record(&self, site: &str, record: &Record) -> Result<(), Error> {
        if *record == Record::default() {
            self.take(site, "record.json")
        } else {
            self.put(site, "record.json", record)
        }
    }
}

/// The account's private key. Shown as nothing.
pub(crate) struct AccountKey {
    pair: KeyPair,
}

impl AccountKey {
    /// PKCS #8, DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.pair.serialize_der()
    }

    /// RFC 7638 §3: SHA-256 of the key's required members in their order; what every answer to http-01 ends with
    /// (RFC 8555 §8.1).
    pub(crate) fn thumbprint(&self) -> String {
        let point = self.pair.public_key_raw();
        // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..65).unwrap_or_default());
        let [x, y] = [x, y].map(|part| BASE64URL_NOPAD.encode(part));
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        BASE64URL_NOPAD.encode(&Sha256::digest(jwk))
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // serde's own words may quote what it read, and that may be a key: the place is enough.
    let why = |e: serde_json::Error| format!("cannot be read at line {} column {}", e.line(), e.column());
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Damaged { path: path.to_owned(), why: why(e) })
}

/// RFC 7468, without the blank lines that end a payload on `HAProxy`'s socket.
fn pem_block(label: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn names() -> Vec<String> {
        vec!["a.example.com".into(), "b.example.com".into()]
    }

    /// A chain of a leaf for `names` and its issuer, signed for `key`.
    fn chain(names: &[String], key: &KeyPair, days: i64, issuer: &str) -> String {
        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name = DistinguishedName::new();
        ca.distinguished_name.push(DnType::CommonName, issuer);
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let signer = rcgen::Issuer::from_params(&ca, &ca_key);
        let mut leaf = CertificateParams::new(names.to_vec()).unwrap();
        (leaf.not_before, leaf.not_after) = (NOW - time::Duration::HOUR, NOW + time::Duration::days(days));
        leaf.signed_by(key, &signer).unwrap().pem() + &ca_pem
    }

    #[test]
    fn the_account_key_stays_and_its_thumbprint_is_the_librarys() {
        let dir = tempfile::tempdir().unwrap();
        let first = Vault::open(dir.path()).unwrap().account_key().unwrap().thumbprint();
        assert_eq!(Vault::open(dir.path()).unwrap().account_key().unwrap().thumbprint(), first);
        assert_eq!(first.len(), 43);
        fs_err::write(dir.path().join("acme/account.key"), "broken").unwrap();
        assert!(matches!(Vault::open(dir.path()).unwrap().account_key(), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_placeholder_is_made_once_and_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        let placeholder = vault.shown("a.example.com", &names(), NOW).unwrap();
        assert_eq!(placeholder.held(), None);
        assert_eq!(vault.shown("a.example.com", &names(), NOW).unwrap(), placeholder);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = chain(&names(), &key, 90, "real").replace('\n', "\r\n\r\n");
        let real = Public::from_ca(&names(), "d", &pem, &Key::of(&key), NOW).unwrap();
        assert!(!real.chain.contains("\n\n") && !real.chain.contains('\r'), "{}", real.chain);
        assert_eq!(real.about(), "a.example.com and 1 more, 90 days, until 2027-02-21");
        vault.put_current("a.example.com", &real).unwrap();
        assert_eq!(vault.shown("a.example.com", &names(), NOW).unwrap(), real);
        let older = Public { life: Life { not_after: real.life.not_after - 1, ..real.life }, ..real.clone() };
        assert!(vault.put_current("a.example.com", &older).unwrap_err().to_string().contains("before the one in use"));
        assert_eq!(vault.current("a.example.com").unwrap(), Some(real));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let good = chain(&names(), &key, 90, "real");
        let alone = good.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        let take = |pem: &str, key: &KeyPair, directory: &str, now| {
            Public::from_ca(&names(), directory, pem, &Key::of(key), now).unwrap_err()
        };
        assert!(take(&good, &other, "d", NOW).contains("another key"));
        assert!(take(alone, &key, "d", NOW).contains("no intermediate"));
        assert!(take(&chain(&names()[..1], &key, 90, "real"), &key, "d", NOW).contains("not for a.example.com, b."));
        assert!(take(&good, &key, "d", NOW + time::Duration::days(91)).contains("not valid now"));
        let staging = chain(&names(), &key, 90, "(STAGING) Wannabe");
        assert!(take(&staging, &key, crate::pki::acme::LETS_ENCRYPT, NOW).contains("staging"));
        assert!(take("", &key, "d", NOW).contains("empty"));
        assert!(take(&(good.clone() + &key.serialize_pem()), &key, "d", NOW).contains("PRIVATE KEY"));
    }

    #[test]
    fn all_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        vault.account_key().unwrap();
        vault.shown("*.example.com", &["*.example.com".into()], NOW).unwrap();
        let mode = |path: &str| fs_err::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("acme"), mode("acme/account.key")), (0o700, 0o600));
        assert_eq!(mode("acme/sites/_.example.com/placeholder.json"), 0o600);
        assert_eq!(mode("acme/sites/_.example.com"), 0o700);
    }
}

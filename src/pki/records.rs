//! What belongs into the zone about the sites' certificates: takes the site and the state folder, gives CAA and TLSA records of
//! each site, with what has to be known before they are published. Nothing is asked and nothing is made.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::base::material::CertificateId;
use crate::inventory::site::{Challenge, Site, WebSite};
use crate::pki::internal_store::{Error, InternalStore};
use crate::pki::public_store::PublicStore;
use crate::service::certificates::wanted::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Source};

/// How long resolvers keep a record, seconds.
const TTL: u32 = 3600;

/// Which CA may sign for a name (RFC 8659), from which account and by which proof (RFC 8657).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Caa {
    /// Without the dot at its end.
    pub owner: String,
    /// `issue`, or `issuewild` for a wildcard's certificate.
    pub tag: &'static str,
    /// `letsencrypt.org; validationmethods=http-01`.
    pub value: String,
}

impl fmt::Display for Caa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "{}. {TTL} IN CAA 0 {} \"{value}\"", self.owner, self.tag)
    }
}

/// By which public key a server of 443/tcp is known (RFC 6698): selector 1 (`SubjectPublicKeyInfo`), matching type 1 (SHA-256).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Tlsa {
    /// Without the dot at its end.
    pub owner: String,
    /// 2: the key of an authority in the chain; 3: the server's own.
    pub usage: u8,
    /// Lower-case hex.
    pub digest: String,
}

impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {TTL} IN TLSA {} 1 1 {}", self.owner, self.usage, self.digest)
    }
}

/// What belongs into the zone about one site.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Records {
    /// The site.
    pub site: String,
    /// Whom to let sign.
    pub caa: Vec<Caa>,
    /// Whether these are all that may sign: publishing them else would shut out an issuer of the inventory.
    pub caa_complete: bool,
    /// By the authority's key.
    pub tlsa: Vec<Tlsa>,
    /// By the server's own key, which each renewal changes.
    pub tlsa_of_leaf: Vec<Tlsa>,
    /// What to know before any of it is published.
    pub notes: Vec<String>,
}

/// The records of every site.
///
/// # Errors
/// [`Error`] of the stores.
pub fn records(site: &Site, state: &Path) -> Result<Vec<Records>, Error> {
    let public = PublicStore::existing(state)?;
    let internal = InternalStore::existing(state)?;
    let leaves = internal.as_ref().map(InternalStore::leaves).transpose()?.unwrap_or_default();
    let each = site.sites.values().map(|web| {
        let mut records = Records { site: web.name.to_string(), caa_complete: true, ..Records::default() };
        let chain = if let Some(bought) = &web.certificate {
            records.caa_complete = false;
            records.notes.push(format!(
                "its certificate was bought, by {}: that CA's manual tells its name in CAA records",
                bought.chain.issuer
            ));
            Some(bought.chain.pem.clone())
        } else if site.signs(web) {
            leaves.get(&CertificateId::Site(web.name.clone())).map(|leaf| leaf.certificate.clone())
        } else {
            authorize(site, web, public.as_ref(), &mut records)?;
            public.as_ref().map(|public| public.current(web.name.as_str())).transpose()?.flatten().map(|c| c.chain)
        };
        match chain {
            Some(chain) => pin(web, &chain, &mut records),
            None => records.notes.push("there is no certificate yet, so no TLSA record".to_owned()),
        }
        Ok(records)
    });
    each.collect()
}

/// The name by which a CA finds itself in a CAA record, where it is known without asking.
fn identity(directory: &str) -> Option<&'static str> {
    matches!(directory, LETS_ENCRYPT | LETS_ENCRYPT_STAGING).then_some("letsencrypt.org")
}

/// CAA for every issuer that the inventory names.
fn authorize(site: &Site, web: &WebSite, public: Option<&PublicStore>, records: &mut Records) -> Result<(), Error> {
    for source in Source::all(&site.certificates) {
        let account = public.map(|public| public.account(&source.directory)).transpose()?.flatten();
        let url = account.map(|account| account.url).filter(|url| is_parameter(url));
        let mut parameters = String::new();
        match &url {
            Some(url) => parameters.push_str(&format!("; accounturi={url}")),
            None => records.notes.push(format!(
                "no account at {} is known: after the first order these records can name it",
                source.host()
            )),
        }
        let method = match site.certificates.challenge {
            Challenge::Http01 => "http-01",
            Challenge::Dns01 { .. } => "dns-01",
        };
        parameters.push_str(&format!("; validationmethods={method}"));
        let Some(identity) = identity(&source.directory) else {
            records.caa_complete = false;
            records.notes.push(format!(
                "the name of {} in CAA records is not known here (its manual tells it, and `caaIdentities` of its \
                 directory); with it as NAME its value is \"NAME{parameters}\". Publish no CAA record without one for it",
                source.host()
            ));
            continue;
        };
        for name in web.names().map(crate::base::net::DnsName::as_str) {
            let (owner, tag) = name.strip_prefix("*.").map_or((name, "issue"), |below| (below, "issuewild"));
            records.caa.push(Caa { owner: owner.to_owned(), tag, value: format!("{identity}{parameters}") });
        }
    }
    records.caa.sort();
    records.caa.dedup();
    Ok(())
}

/// Whether a text can be a parameter's value (RFC 8659 §4.2): visible ASCII without a semicolon.
fn is_parameter(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() && c != ';')
}

/// TLSA for the keys of a chain.
fn pin(web: &WebSite, chain: &str, records: &mut Records) {
    let keys: Vec<String> =
        Pem::iter_from_buffer(chain.as_bytes()).filter_map(|block| spki_digest(&block.ok()?.contents)).collect();
    let owners: Vec<String> =
        web.names().filter(|name| !name.as_str().starts_with("*.")).map(|name| format!("_443._tcp.{name}")).collect();
    if web.names().any(|name| name.as_str().starts_with("*.")) {
        records.notes.push("a wildcard has no TLSA record of its own: add a record for each name in use".to_owned());
    }
    let of = |usage: u8, digest: Option<&String>| {
        let each = owners.iter().zip(digest.into_iter().cycle());
        each.map(|(owner, digest)| Tlsa { owner: owner.clone(), usage, digest: digest.clone() }).collect()
    };
    records.tlsa = of(2, keys.get(1));
    records.tlsa_of_leaf = of(3, keys.first());
    if keys.len() == 1 {
        // RFC 7671 section 5.2: an authority that is pinned must be in the chain that the server sends.
        records
            .notes
            .push("its authority is not in the chain that is sent, so it cannot be pinned by its key".to_owned());
    }
}

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`, lower-case hex.
fn spki_digest(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(data_encoding::HEXLOWER.encode(&Sha256::digest(certificate.public_key().raw)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use time::macros::datetime;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::pki::public::Expected;
    use crate::pki::public_store::KnownAccount;
    use crate::pki::sample::from_ca;

    const NOW: time::OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn site(certificates: &str, names: &str) -> Site {
        let text = format!(
            "name: shop\n\
             hosts:\n\
             \x20 lb1: {{ address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }}\n\
             \x20 web1: {{ address: 10.0.2.11, roles: [web] }}\n\
             firewall: {{ manage_from: [10.0.0.0/24] }}\n\
             sites:\n\
             \x20 a.example.com: {{ aliases: [{names}], static: {{ root: /srv, prefix: / }} }}\n\
             certificates: {{ {certificates} }}\n"
        );
        load_text(&text, Path::new("inventory.yml")).unwrap().0
    }

    /// What openssl(1) makes of the first certificate of a PEM text.
    fn by_openssl(pem: &str) -> String {
        let script = "openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r";
        let mut sh =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        sh.stdin.take().unwrap().write_all(pem.as_bytes()).unwrap();
        let said = sh.wait_with_output().unwrap();
        String::from_utf8(said.stdout).unwrap().split(' ').next().unwrap().to_owned()
    }

    #[test]
    fn a_site_of_a_public_ca_is_bound_to_it_its_account_and_its_key() {
        let (site, state) =
            (site("issuer: letsencrypt, contact: ops@example.com", "b.example.com"), tempfile::tempdir().unwrap());
        let public = PublicStore::open(state.path()).unwrap();
        let names = vec!["a.example.com".to_owned(), "b.example.com".to_owned()];
        let current = from_ca(Expected { names: &names, directory: LETS_ENCRYPT, profile: None }, 90, NOW);
        public.put_current("a.example.com", &current).unwrap();
        let url = "https://acme-v02.api.letsencrypt.org/acme/acct/7".to_owned();
        public.put_account(LETS_ENCRYPT, Some(KnownAccount { url, contact: None })).unwrap();
        drop(public);
        let found = records(&site, state.path()).unwrap().remove(0);
        assert_eq!(
            found.caa.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a", "b"].map(|name| format!(
                "{name}.example.com. 3600 IN CAA 0 issue \"letsencrypt.org; \
                 accounturi=https://acme-v02.api.letsencrypt.org/acme/acct/7; validationmethods=http-01\""
            ))
        );
        let (leaf, authority) = current.chain.split_once("-----END CERTIFICATE-----\n").unwrap();
        let leaf = by_openssl(&format!("{leaf}-----END CERTIFICATE-----\n"));
        assert_eq!(
            found.tlsa[0].to_string(),
            format!("_443._tcp.a.example.com. 3600 IN TLSA 2 1 1 {}", by_openssl(authority))
        );
        assert_eq!(found.tlsa_of_leaf[1].to_string(), format!("_443._tcp.b.example.com. 3600 IN TLSA 3 1 1 {leaf}"));
        assert!(found.caa_complete && found.notes.is_empty(), "{:?}", found.notes);
    }

    #[test]
    fn nothing_is_made_and_nothing_is_guessed() {
        let state = tempfile::tempdir().unwrap();
        let other =
            "issuer: \"https://ca.example/directory\", contact: ops@example.com, fallback: { issuer: letsencrypt }";
        let found = records(&site(other, "b.example.com"), state.path()).unwrap().remove(0);
        assert!(!found.caa_complete);
        assert_eq!(found.caa[0].value, "letsencrypt.org; validationmethods=http-01");
        assert!(found.notes.iter().any(|note| note.contains("the name of ca.example")), "{:?}", found.notes);
        assert!(found.tlsa.is_empty());
        assert_eq!(fs_err::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_wildcard_has_records_of_its_own() {
        let state = tempfile::tempdir().unwrap();
        let wild = "issuer: letsencrypt, contact: ops@example.com, challenge: dns-01, hook: [/bin/true]";
        let found = records(&site(wild, "\"*.example.com\""), state.path()).unwrap().remove(0);
        let lines: Vec<(&str, &str, &str)> =
            found.caa.iter().map(|caa| (caa.owner.as_str(), caa.tag, caa.value.as_str())).collect();
        let value = "letsencrypt.org; validationmethods=dns-01";
        assert_eq!(lines, [("a.example.com", "issue", value), ("example.com", "issuewild", value)]);
    }

    #[test]
    fn an_internal_leaf_can_be_pinned_by_its_own_key_alone() {
        let (site, state) = (site("issuer: internal", "b.example.com"), tempfile::tempdir().unwrap());
        let issued = crate::pki::ensure(&site, state.path(), NOW).unwrap();
        let found = records(&site, state.path()).unwrap().remove(0);
        assert!(found.caa.is_empty() && found.tlsa.is_empty());
        let pem = issued.materials.public(&"site/a.example.com.crt".parse().unwrap()).unwrap();
        assert_eq!(found.tlsa_of_leaf[0].digest, by_openssl(pem));
    }

    #[test]
    fn what_a_ca_calls_an_account_breaks_no_zone() {
        assert!(is_parameter("https://ca.example/acct/1?a=b"));
        for bad in ["https://ca/1;x", "https://ca/\n", "https://ca/ 1", "https://cä/1"] {
            assert!(!is_parameter(bad), "{bad}");
        }
        let caa = Caa { owner: "a".into(), tag: "issue", value: "x; accounturi=\"\\".into() };
        assert_eq!(caa.to_string(), "a. 3600 IN CAA 0 issue \"x; accounturi=\\\"\\\\\"");
    }
}

//! The internal certificate authorities: takes names and a clock, gives authorities and leaves as PEM with their dates.
//!
//! There are two kinds. The *hop* authority signs what our own daemons show each other; it is confined to the site's internal
//! domain. A *site* authority signs public names where `issuer: internal` is asked for; it is confined to those names'
//! domains. So the key of neither is worth anything for another name (RFC 5280 §4.2.1.10).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384,
    PublicKeyData as _, SanType, SerialNumber,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use x509_parser::parse_x509_certificate;

use crate::base::words::count;
use crate::inventory::site::KeyKind;
use crate::pki::key;
use crate::plan::state::Digest;

pub use crate::base::material::Purpose;

/// How long an authority lives.
pub const AUTHORITY_LIFE: Duration = Duration::days(3650);
/// How long a leaf lives.
pub const LEAF_LIFE: Duration = Duration::days(60);
/// Validity begins this long ago, for hosts whose clocks are late.
const BACKDATED: Duration = Duration::hours(1);

/// Why a certificate cannot be made or believed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The library refuses.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The system has no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// What is stored cannot be trusted.
    #[error("{0}")]
    Damaged(String),
}

/// A private key in PEM. Shown as nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// Of a key pair.
    pub(crate) fn of(pair: &KeyPair) -> Self {
        Self(pair.serialize_pem())
    }

    /// Of a PEM text that was held against its certificate.
    pub(crate) fn of_pem(pem: String) -> Self {
        Self(pem)
    }

    /// The PEM text. Called where the key signs or becomes a material.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The names that an authority may sign for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permitted {
    /// Domains; each holds for itself and everything below.
    pub domains: Vec<String>,
    /// Networks; with none of them no address may be signed.
    pub networks: Vec<IpNet>,
}

impl Permitted {
    /// Whether a DNS name (`*.` may lead) lies in one of the domains.
    pub fn name(&self, name: &str) -> bool {
        let name = name.strip_prefix("*.").unwrap_or(name);
        self.domains
            .iter()
            .any(|d| name.strip_suffix(d.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }

    /// Whether an address lies in one of the networks.
    pub fn address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
    }

    fn constraints(&self) -> NameConstraints {
        let domains = self.domains.iter().cloned().map(GeneralSubtree::DnsName);
        let subnet =
            |net: &IpNet| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(net.network(), net.prefix_len()));
        let mut permitted_subtrees: Vec<_> = domains.chain(self.networks.iter().map(subnet)).collect();
        let mut excluded_subtrees = Vec::new();
        if self.networks.is_empty() {
            // Without any address among the permitted ones, addresses would be free.
            excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
            excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
        }
        permitted_subtrees.shrink_to_fit();
        NameConstraints { permitted_subtrees, excluded_subtrees }
    }
}

/// An authority with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// SHA-256 of the certificate's PEM text; leaves name their signer by it.
    pub id: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key.
    pub(crate) key: Key,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// What it may sign.
    pub permitted: Permitted,
}

impl Authority {
    /// A new one: P-384, ten years, confined to `permitted`.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn new(title: &str, permitted: Permitted, now: OffsetDateTime) -> Result<Self, Problem> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, title);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(permitted.constraints());
        let now = whole_seconds(now);
        (params.not_before, params.not_after) = (now - BACKDATED, now - BACKDATED + AUTHORITY_LIFE);
        params.serial_number = Some(serial()?);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            id: Digest::of(certificate.as_bytes()).0,
            certificate,
            key: Key(key.serialize_pem()),
            not_before: params.not_before.unix_timestamp(),
            not_after: params.not_after.unix_timestamp(),
            permitted,
        })
    }

    /// Ready to sign. rcgen believes whatever it is given, so the certificate is checked here: it is the one of `id`, it
    /// is an authority, its dates are those stored, and the key is its own.
    ///
    /// # Errors
    /// [`Problem::Damaged`] says what does not fit.
    pub fn signer(&self) -> Result<Signer<'_>, Problem> {
        let damaged = |why: &str| Problem::Damaged(why.to_owned());
        if Digest::of(self.certificate.as_bytes()).0 != self.id {
            return Err(damaged("the certificate is not the one that was stored"));
        }
        let key = KeyPair::from_pem(self.key.reveal()).map_err(|_| damaged("the private key cannot be read"))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.certificate.as_bytes())
            .map_err(|_| damaged("the certificate is not PEM"))?;
        let (_, parsed) =
            parse_x509_certificate(&pem.contents).map_err(|_| damaged("the certificate cannot be read"))?;
        if !parsed.is_ca() {
            return Err(damaged("the certificate is not that of an authority"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(damaged("the private key does not belong to the certificate"));
        }
        let validity = parsed.validity();
        if (validity.not_before.timestamp(), validity.not_after.timestamp()) != (self.not_before, self.not_after) {
            return Err(damaged("the dates are not those of the certificate"));
        }
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, key)?;
        Ok(Signer { authority: self, issuer })
    }

    /// Whether less than a third of its life is left.
    pub fn is_due(&self, now: OffsetDateTime) -> bool {
        is_due(self.not_before, self.not_after, now)
    }
}

/// What a leaf should say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Never empty; the first one is the common name too.
    pub names: Vec<String>,
    /// IP SANs.
    pub addresses: Vec<IpAddr>,
    /// Server or client.
    pub purpose: Purpose,
    /// The kind of its key.
    #[serde(default)]
    pub key: KeyKind,
}

/// A leaf with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// What was asked for.
    pub wish: Wish,
    /// The id of the authority that signed it.
    pub issuer: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key.
    pub(crate) key: Key,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Of everything above: a store of thousands is checked without parsing.
    digest: String,
}

impl Leaf {
    /// Whether it is as it was made. The key was made with the certificate, so this also says that they belong together.
    pub fn is_intact(&self) -> bool {
        self.digest == self.fingerprint()
    }

    /// Whether it must be made anew: other names, another signer, less than a third of its life left, or from the future
    /// (a clock was put right).
    pub fn is_stale(&self, wish: &Wish, issuer: &str, now: OffsetDateTime) -> bool {
        self.wish != *wish || self.issuer != issuer || is_due(self.not_before, self.not_after, now)
    }

    /// `web1.shop.infra.internal, 60 days, until 2027-01-22`.
    pub fn about(&self) -> String {
        let days = Duration::seconds(self.not_after - self.not_before).whole_days();
        let name = self.wish.names.first().map_or("?", String::as_str);
        format!("{name}, {}, until {}", count(days, "day"), date(self.not_after))
    }

    fn fingerprint(&self) -> String {
        let names = self.wish.names.join(" ");
        let dates = format!("{} {} {:?} {:?}", self.not_before, self.not_after, self.wish.addresses, self.wish.purpose);
        let all = [&names, &dates, &self.issuer, &self.certificate, self.key.reveal()].map(str::as_bytes).join(&b'\0');
        Digest::of(&all).0
    }
}

/// An authority whose key was checked.
pub struct Signer<'a> {
    authority: &'a Authority,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer<'_> {
    /// Signs a new leaf with a new key: 60 days, but never longer than the authority.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn issue(&self, wish: &Wish, now: OffsetDateTime) -> Result<Leaf, Problem> {
        let key = key::generate(wish.key)?;
        let mut params = CertificateParams::new(wish.names.clone())?;
        params.subject_alt_names.extend(wish.addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = DistinguishedName::new();
        // HAProxy falls back to the common name even where SANs exist, so it must be one of them.
        if let Some(name) = wish.names.first() {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match wish.purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let now = whole_seconds(now);
        let (from, until) = (instant(self.authority.not_before), instant(self.authority.not_after));
        params.not_before = (now - BACKDATED).max(from);
        params.not_after = (params.not_before + LEAF_LIFE).min(until);
        params.serial_number = Some(serial()?);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let mut leaf = Leaf {
            wish: wish.clone(),
            issuer: self.authority.id.clone(),
            certificate,
            key: Key(key.serialize_pem()),
            not_before: params.not_before.unix_timestamp(),
            not_after: params.not_after.unix_timestamp(),
            digest: String::new(),
        };
        leaf.digest = leaf.fingerprint();
        Ok(leaf)
    }
}

/// A day, for people.
pub fn date(seconds: i64) -> String {
    let day = instant(seconds).date();
    format!("{:04}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day())
}

/// Less than a third of the life is left, or it has not begun.
fn is_due(not_before: i64, not_after: i64, now: OffsetDateTime) -> bool {
    let now = now.unix_timestamp();
    now < not_before || now >= due(not_before, not_after)
}

/// From when on it is replaced: a third of the life is left.
pub(super) fn due(not_before: i64, not_after: i64) -> i64 {
    not_after - (not_after - not_before) / 3
}

/// Sixteen random bytes, positive and of full length (rcgen's own would be the same again for the same key).
pub(super) fn serial() -> Result<SerialNumber, Problem> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| Problem::Random(e.to_string()))?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Certificates hold whole seconds (RFC 5280 §4.1.2.5); what we store must be what they say.
fn whole_seconds(now: OffsetDateTime) -> OffsetDateTime {
    instant(now.unix_timestamp())
}

fn instant(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00:00.5 UTC);

    fn authority() -> Authority {
        let networks = vec!["10.0.0.0/8".parse().unwrap(), "fc00::/7".parse().unwrap()];
        Authority::new("t", Permitted { domains: vec!["shop.infra.internal".into()], networks }, NOW).unwrap()
    }

    fn wish(purpose: Purpose) -> Wish {
        let names = vec!["web1.shop.infra.internal".into(), "web.role.shop.infra.internal".into()];
        Wish { names, addresses: vec!["10.0.2.11".parse().unwrap()], purpose, key: KeyKind::default() }
    }

    #[test]
    fn a_leaf_says_what_was_asked_for_and_nothing_more() {
        let ca = authority();
        let signer = ca.signer().unwrap();
        let leaf = signer.issue(&wish(Purpose::Server), NOW).unwrap();
        let again = signer.issue(&wish(Purpose::Server), NOW).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
        let (_, cert) = parse_x509_certificate(&pem.contents).unwrap();
        assert_eq!(cert.subject().to_string(), "CN=web1.shop.infra.internal");
        assert!(!cert.is_ca());
        let usage = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any);
        assert_eq!(cert.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 3);
        assert_eq!(cert.validity().not_after.timestamp(), leaf.not_after);
        assert_eq!(cert.raw_serial().len(), 16);
        let (_, pem) = x509_parser::pem::parse_x509_pem(again.certificate.as_bytes()).unwrap();
        assert_ne!(cert.raw_serial(), parse_x509_certificate(&pem.contents).unwrap().1.raw_serial());
        assert_eq!(leaf.about(), "web1.shop.infra.internal, 60 days, until 2027-01-22");
        assert!(leaf.is_intact());
        assert!(!format!("{leaf:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_leaf_is_due_at_a_third_of_its_life_and_never_outlives_its_authority() {
        let ca = authority();
        let leaf = ca.signer().unwrap().issue(&wish(Purpose::Client), NOW).unwrap();
        let stale = |leaf: &Leaf, days| leaf.is_stale(&wish(Purpose::Client), &ca.id, NOW + Duration::days(days));
        assert!(!stale(&leaf, 39));
        assert!(stale(&leaf, 40));
        assert!(stale(&leaf, -1), "not valid yet");
        let late = ca.signer().unwrap().issue(&wish(Purpose::Client), NOW + Duration::days(3640)).unwrap();
        assert_eq!(late.not_after, ca.not_after);
    }

    #[test]
    fn a_foreign_key_is_found_before_it_signs() {
        let (mut ca, other) = (authority(), authority());
        ca.key = other.key.clone();
        assert_eq!(ca.signer().err().unwrap().to_string(), "the private key does not belong to the certificate");
        let mut ca = authority();
        ca.not_after += 1;
        assert!(ca.signer().is_err());
    }

    #[test]
    fn permitted_names_end_at_a_dot() {
        let permitted = Permitted { domains: vec!["example.com".into()], networks: vec![] };
        assert!(permitted.name("example.com") && permitted.name("*.example.com") && permitted.name("a.b.example.com"));
        assert!(!permitted.name("notexample.com") && !permitted.name("example.com.evil.net"));
        assert!(!permitted.address("10.0.0.1".parse().unwrap()));
    }
}

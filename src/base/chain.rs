//! A file with certificates: takes its text, gives the chain in our shape, and what keeps it from being shown for names. Pure but for
//! the clock that it is given. No key is ever in it, and nothing of what the file holds is in a message but names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::base::words::count;

/// `id-pe-tlsfeature` (RFC 7633 section 6).
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// Fewer bits of RSA no browser takes (CA/Browser Forum, Baseline Requirements 6.1.5); more, our library does not read.
const RSA: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Certificates in the order in which a server shows them: its own first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// All of them, PEM, one after the other and nothing else.
    pub pem: String,
    /// What the first one is for: names, and addresses as text.
    pub names: BTreeSet<String>,
    /// `notBefore`, seconds since 1970.
    pub not_before: i64,
    /// `notAfter`, seconds since 1970.
    pub not_after: i64,
    /// Of the first one's DER, lower-case hex.
    pub sha256: String,
    /// Who signed the first one, as a person knows it.
    pub issuer: String,
    /// The first one's public key, DER (`SubjectPublicKeyInfo`).
    pub public_key: Vec<u8>,
    /// Whether it asks clients to insist on a stapled answer of OCSP (RFC 7633).
    pub must_staple: bool,
    ders: Vec<Vec<u8>>,
}

/// What is wrong with a chain: a half sentence after «the certificate», and what to do.
pub type Fault = (String, String);

impl Chain {
    /// Reads a file of certificates.
    ///
    /// # Errors
    /// What is wrong with the file: a half sentence after its name, and what to do.
    pub fn read(text: &str) -> Result<Self, Fault> {
        let fault = |what: &str, help: &str| Err((what.to_owned(), help.to_owned()));
        let Some(blocks) = blocks(text) else {
            return fault("is damaged: its text ends or breaks off in a certificate", "fetch it once more from its CA");
        };
        if blocks.iter().any(|(label, _)| label.ends_with("PRIVATE KEY")) {
            return fault(
                "holds a private key, which must not lie beside certificates",
                "keep the key in a place of its own, name that in `key`, and leave the certificates alone in `cert`",
            );
        }
        if let Some((label, _)) = blocks.iter().find(|(label, _)| label != "CERTIFICATE") {
            let what = if label == "CERTIFICATE REQUEST" { "a request for a certificate" } else { "something else" };
            return fault(
                &format!("holds {what}, not certificates alone"),
                "write the site's certificate and those of its intermediate authorities into it, one after the other, as PEM",
            );
        }
        let ders: Vec<Vec<u8>> = blocks.into_iter().map(|(_, der)| der).collect();
        let Some(first) = ders.first() else {
            return fault(
                "holds no certificate in PEM",
                "of a file in DER make one: `openssl x509 -inform der -in FILE -out FILE.pem`; of a PKCS #12 one: `openssl pkcs12 -in FILE -nokeys`",
            );
        };
        let all = parsed(&ders);
        let Some(leaf) = all.as_ref().and_then(|all| all.first()) else {
            return fault("holds what is no certificate of X.509", "fetch it once more from its CA");
        };
        let must_staple = leaf.extensions().iter().any(|one| one.oid.to_id_string() == TLS_FEATURE);
        let names = names(leaf).unwrap_or_default();
        let validity = leaf.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self {
            pem: ders.iter().map(|der| pem_block("CERTIFICATE", der)).collect(),
            names,
            not_before,
            not_after,
            sha256: HEXLOWER.encode(&Sha256::digest(first)),
            issuer: called(leaf.issuer()),
            public_key: leaf.public_key().raw.to_vec(),
            must_staple,
            ders: ders.clone(),
        })
    }

    /// The certificates, DER.
    pub fn ders(&self) -> &[Vec<u8>] {
        &self.ders
    }

    /// The last one, PEM: whom a client must trust, or who signed that one.
    pub fn top(&self) -> String {
        self.ders.last().map(|der| pem_block("CERTIFICATE", der)).unwrap_or_default()
    }

    /// All that keeps it from being shown for `wanted` at `now`, with the authorities of `ca` where these are named. Whether others
    /// trust its top is not known here.
    pub fn faults(&self, wanted: &[String], ca: Option<&Self>, now: OffsetDateTime) -> Vec<Fault> {
        let Some(all) = parsed(&self.ders) else { return Vec::new() };
        let Some(leaf) = all.first() else { return Vec::new() };
        let mut faults = Vec::new();
        let mut fault = |what: String, help: &str| faults.push((what, help.to_owned()));
        if leaf.is_ca() {
            let other = all.iter().find(|one| !one.is_ca()).map(|one| called(one.subject()));
            match other {
                Some(name) => fault(
                    format!("begins with that of the authority {}", called(leaf.subject())),
                    &format!("put that of {name} first, then each authority behind the one that it has signed"),
                ),
                None => fault(
                    format!("is that of an authority, {}, which no server may show as its own", called(leaf.subject())),
                    "put the certificate that was issued for the site into the file, first, and those of authorities behind it",
                ),
            }
            return faults;
        }
        order(&all, &mut fault);
        complete(&all, ca, &mut fault);
        key(leaf, &mut fault);
        used(leaf, &mut fault);
        if leaf.signature_algorithm.algorithm.to_id_string() == "1.2.840.113549.1.1.5" {
            fault("is signed with SHA-1, which no client believes".to_owned(), "have it issued anew with SHA-256");
        }
        let missing: Vec<&str> = wanted.iter().map(String::as_str).filter(|name| !covered(name, &self.names)).collect();
        if !missing.is_empty() {
            let has: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let has = if has.is_empty() { "no name at all".to_owned() } else { shortened(&has) };
            fault(
                format!("is not for {}: it is for {has}", shortened(&missing)),
                "have it issued for all names of the site, or take the others out of `aliases`",
            );
        }
        let seconds = now.unix_timestamp();
        let day = |at: i64| {
            OffsetDateTime::from_unix_timestamp(at).map_or_else(|_| "?".to_owned(), |at| at.date().to_string())
        };
        if seconds >= self.not_after {
            fault(format!("ended on {}", day(self.not_after)), "put its successor into the file");
        } else if seconds < self.not_before {
            fault(
                format!("is valid from {} on, and not before", day(self.not_before)),
                "keep the one of before until then, or look at this machine's clock",
            );
        }
        let late = all.iter().skip(1).find(|one| seconds >= one.validity().not_after.timestamp());
        if let Some(late) = late {
            fault(
                format!("comes with that of the authority {}, which has ended", called(late.subject())),
                "fetch the authority's present certificate from the CA, and put it in that one's place",
            );
        }
        faults
    }

    /// From when on it should be replaced, seconds since 1970: thirty days before its end, or when a third of its life is left
    /// where that is later.
    pub fn due(&self) -> i64 {
        due(self.not_before, self.not_after)
    }
}

/// [`Chain::due`] of a certificate with these dates.
pub fn due(not_before: i64, not_after: i64) -> i64 {
    const MONTH: i64 = 30 * 86_400;
    not_after - ((not_after - not_before) / 3).min(MONTH)
}

/// Each is signed by the one behind it.
fn order(all: &[X509Certificate<'_>], fault: &mut impl FnMut(String, &str)) {
    for (below, above) in all.iter().zip(all.iter().skip(1)) {
        if signed(below, above) {
            continue;
        }
        let (below_name, above_name) = (called(below.subject()), called(above.subject()));
        if below.raw_serial() == above.raw_serial() && below.subject() == above.subject() {
            fault(format!("holds that of {below_name} twice"), "leave one of the two out");
        } else if all.iter().any(|other| !std::ptr::eq(other, below) && signed(below, other)) {
            fault(
                format!("has its chain in the wrong order: behind {below_name} stands {above_name}"),
                "put each authority behind the one that it has signed, the site's own certificate first",
            );
        } else {
            fault(
                format!("has a broken chain: {above_name} did not sign {below_name}"),
                &format!("put the certificate of {} there, which signed {below_name}", called(below.issuer())),
            );
        }
        return;
    }
}

/// That the chain reaches an authority, as far as that can be told.
fn complete(all: &[X509Certificate<'_>], ca: Option<&Chain>, fault: &mut impl FnMut(String, &str)) {
    let Some(top) = all.last() else { return };
    if let Some(ca) = ca {
        let authorities = parsed(&ca.ders).unwrap_or_default();
        let known =
            |one: &X509Certificate<'_>| authorities.iter().any(|ca| ca.public_key().raw == one.public_key().raw);
        if !known(top) && !authorities.iter().any(|authority| signed(top, authority)) {
            fault(
                format!(
                    "does not lead to an authority of `ca`: its chain ends with {}, which {} signed",
                    called(top.subject()),
                    called(top.issuer())
                ),
                &format!("append the certificate of {} to the file, or name the right `ca`", called(top.issuer())),
            );
        }
    } else if all.len() == 1 && !signed(top, top) {
        fault(
            format!("comes without that of its authority, {}", called(top.issuer())),
            "append the intermediate certificates that its CA gives with it; clients do not fetch them",
        );
    }
}

fn signed(below: &X509Certificate<'_>, above: &X509Certificate<'_>) -> bool {
    // An algorithm that the library does not know is for the clients to judge.
    below.issuer() == above.subject()
        && below.verify_signature(Some(above.public_key())) != Err(X509Error::SignatureVerificationError)
}

/// A key that clients take and that we can hold against its private one.
fn key(leaf: &X509Certificate<'_>, fault: &mut impl FnMut(String, &str)) {
    let help = "have it issued anew for a key of ECDSA P-256 or RSA 2048";
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) if !RSA.contains(&rsa.key_size()) => {
            fault(
                format!(
                    "has a key of RSA with {} bits; from {} to {} are taken",
                    rsa.key_size(),
                    RSA.start(),
                    RSA.end()
                ),
                help,
            );
        }
        Ok(PublicKey::EC(point)) if !matches!(point.key_size(), 256 | 384) => {
            fault(format!("has a key of ECDSA with {} bits; P-256 and P-384 are taken", point.key_size()), help);
        }
        Ok(PublicKey::RSA(_) | PublicKey::EC(_)) => {}
        _ => fault("has a key of a kind that browsers do not take".to_owned(), help),
    }
}

/// For a server, with signatures: TLS 1.3 has nothing else.
fn used(leaf: &X509Certificate<'_>, fault: &mut impl FnMut(String, &str)) {
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !(usage.value.server_auth || usage.value.any)
    {
        fault("is not for servers (`serverAuth` is not among its uses)".to_owned(), "have it issued for a web server");
    }
    if let Ok(Some(usage)) = leaf.key_usage()
        && !usage.value.digital_signature()
    {
        fault(
            "is not for signatures (`digitalSignature` is not among its uses), and TLS 1.3 has nothing else".to_owned(),
            "have it issued for a web server",
        );
    }
}

/// Whether a certificate for `names` is for `wanted`: a `*` stands for one whole label, the first (RFC 6125 section 6.4.3).
fn covered(wanted: &str, names: &BTreeSet<String>) -> bool {
    let wildcard = || wanted.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    let has = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    has(wanted) || (wanted.parse::<IpAddr>().is_err() && wildcard().is_some_and(|name| has(&name)))
}

fn parsed(ders: &[Vec<u8>]) -> Option<Vec<X509Certificate<'_>>> {
    ders.iter().map(|der| X509Certificate::from_der(der).ok().map(|(_, one)| one)).collect()
}

/// A name as a person knows it: the common name, else the organisation, else all of it; in backticks.
fn called(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().chain(name.iter_organization()).find_map(|part| part.as_str().ok());
    let text = common.map_or_else(|| name.to_string(), ToOwned::to_owned);
    let text: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    format!("`{text}`")
}

fn shortened(names: &[&str]) -> String {
    let first: Vec<String> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {}", first.join(", "), count(more, "more name")),
    }
}

/// The certificates of a text, DER; none where it is damaged.
pub fn ders(pem: &str) -> Vec<Vec<u8>> {
    let blocks = blocks(pem).unwrap_or_default();
    blocks.into_iter().filter(|(label, _)| label == "CERTIFICATE").map(|(_, der)| der).collect()
}

/// The PEM blocks of a text: label and content. Whatever stands between them is no part of them. `None` where a block does not end,
/// or is not base64.
pub fn blocks(pem: &str) -> Option<Vec<(String, Vec<u8>)>> {
    Pem::iter_from_buffer(pem.as_bytes()).map(|block| block.map(|b| (b.label, b.contents)).ok()).collect()
}

/// What a leaf is for: names, and addresses as text (RFC 5280 section 4.2.1.6). `None` where it has no such extension.
pub fn names(leaf: &X509Certificate<'_>) -> Option<BTreeSet<String>> {
    let alternative = leaf.subject_alternative_name().ok().flatten()?;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => Some(IpAddr::from(v4).to_string()),
            (_, Ok(v6)) => Some(IpAddr::from(v6).to_string()),
            _ => None,
        },
        _ => None,
    };
    Some(alternative.value.general_names.iter().filter_map(text).collect())
}

/// RFC 7468, without the blank lines that end a payload on `HAProxy`'s socket.
pub fn pem_block(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests;

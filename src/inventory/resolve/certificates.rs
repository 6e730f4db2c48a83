//! `certificates:`: takes the section, gives who signs the public certificates and how it is convinced.

use super::sites::Sites;
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::DnsName;
use crate::base::warning::Warning;
use crate::base::words::count;
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Certificates, Challenge, Fallback, Issuer, SecretRef};

const KEYS: [&str; 9] =
    ["issuer", "contact", "challenge", "hook", "eab", "profile", "fallback", "hot_swap", "check_dns"];
const WORDS: [&str; 3] = ["letsencrypt", "letsencrypt-staging", "internal"];

/// Reads the section.
pub(super) fn certificates(root: Fields<'_>, sites: &Sites<'_>, problems: &mut Problems) -> Option<Certificates> {
    let Some(entry) = root.get("certificates") else {
        // Where all were bought, nobody signs.
        let signed = sites.whole.values().any(|site| site.certificate.is_none()) || !sites.complete;
        if root.lacks("certificates")
            && signed
            && let Some(sites) = root.get("sites")
        {
            problems.push(
                Diagnostic::warning(Warning::NoCertificates, "there is no `certificates` section: the internal CA signs for the sites")
                    .at(&sites.key.mark.span())
                    .label("browsers will not trust it")
                    .help("write `certificates: { issuer: letsencrypt, contact: ops@example.com }`, or `issuer: internal` if the internal CA is meant"),
            );
        }
        return Some(Certificates::internal());
    };
    let what = "`certificates`";
    let fields = problems.fields(entry, what, &KEYS)?;
    let help = "write `issuer: letsencrypt` and `contact: ops@example.com`; or `issuer: internal`; or the URL of an ACME directory";
    let issuer_entry = problems.require(fields, what, "issuer", help);
    let eab = fields.get("eab").map(|entry| eab(entry, problems));
    let issuer = issuer_entry.and_then(|entry| issuer(&entry.value, problems));
    let contact = fields.value("contact").map(|node| mail(node, problems));
    let challenge = challenge(fields, entry, problems);
    let public = issuer.as_ref().is_some_and(|issuer| *issuer != Issuer::Internal);
    if public && fields.lacks("contact") {
        problems.push(
            Diagnostic::error("`certificates` has no `contact`")
                .at(&entry.key.mark.span())
                .help("write `contact: ops@example.com`: a CA tells its account's mail address what goes wrong"),
        );
    }
    bound(fields, issuer.as_ref(), problems);
    let profile = fields.value("profile").map(|node| profile(node, problems));
    let fallback = fields.get("fallback").map(|entry| fallback(entry, issuer.as_ref(), problems));
    let mut yes_or_no = |key, default| {
        fields.value(key).map_or(Some(default), |node| problems.word(node, key, &[("true", true), ("false", false)]))
    };
    let (hot_swap, check_dns) = (yes_or_no("hot_swap", false), yes_or_no("check_dns", true));
    if issuer == Some(Issuer::Internal) {
        for entry in ["profile", "fallback"].into_iter().filter_map(|key| fields.get(key)) {
            problems.push(
                Diagnostic::error(format!("`{}` is not for `issuer: internal`", entry.key.text))
                    .at(&entry.key.mark.span())
                    .help("remove the key, or name a public issuer"),
            );
        }
    }
    if let Some(most) =
        issuer.as_ref().and_then(|issuer| most_names(issuer, profile.as_ref().and_then(Option::as_deref)))
    {
        for site in sites.whole.values().filter(|site| site.certificate.is_none()) {
            let number = site.names().count() + site.addresses.len();
            if number > most
                && let Some(entry) = sites.entries.get(site.name.as_str())
            {
                problems.push(
                    Diagnostic::error(format!("site `{}` has {number} names, and a certificate of Let's Encrypt holds {most}", site.name))
                        .at(&entry.key.mark.span())
                        .help("make two sites of it, with a part of the names each, or take a wildcard with `challenge: dns-01`"),
                );
            }
        }
    }
    if public && matches!(challenge, Some(Challenge::Http01)) {
        let bought = |name: &DnsName| {
            sites.whole.values().any(|site| site.certificate.is_some() && site.names().any(|own| own == name))
        };
        for (name, mark) in sites.names.iter().filter(|(name, _)| name.is_wildcard() && !bought(name)) {
            problems.push(
                Diagnostic::error(format!("the wildcard `{name}` needs `challenge: dns-01`"))
                    .at(&mark.span())
                    .help("write `challenge: dns-01` and `hook: [program, argument]`, which sets the TXT record (RFC 8555 section 8.4)"),
            );
        }
    }
    Some(Certificates {
        issuer: with_account(issuer?, given(eab)?),
        contact: given(contact)?,
        challenge: challenge?,
        profile: given(profile)?,
        fallback: given(fallback)?,
        hot_swap: hot_swap?,
        check_dns: check_dns?,
        place: Some(entry.key.mark.place()),
    })
}

/// How many names an issuer puts into one certificate, where it says so (letsencrypt.org, «Profiles», «Max Names»).
fn most_names(issuer: &Issuer, profile: Option<&str>) -> Option<usize> {
    match (issuer, profile) {
        (Issuer::LetsEncrypt | Issuer::LetsEncryptStaging, Some("tlsserver" | "shortlived")) => Some(25),
        (Issuer::LetsEncrypt | Issuer::LetsEncryptStaging, _) => Some(100),
        (Issuer::Internal | Issuer::Directory { .. }, _) => None,
    }
}

/// What was read where the key stands: `None` is a mistake, told already.
#[expect(clippy::option_option, reason = "outside: whether the key stands there; inside: whether it could be read")]
fn given<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |value| value.map(Some))
}

/// An external account is for a directory that is named by its URL.
fn bound(fields: Fields<'_>, issuer: Option<&Issuer>, problems: &mut Problems) {
    if let (Some(entry), Some(found)) = (fields.get("eab"), issuer)
        && !matches!(found, Issuer::Directory { .. })
    {
        problems.push(
            Diagnostic::error("`eab` needs a directory URL as `issuer`")
                .at(&entry.key.mark.span())
                .help("remove `eab`: neither Let's Encrypt nor the internal CA asks for an external account"),
        );
    }
}

fn with_account(issuer: Issuer, eab: Option<(String, SecretRef)>) -> Issuer {
    match issuer {
        Issuer::Directory { url, .. } => Issuer::Directory { url, eab },
        issuer => issuer,
    }
}

fn profile(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "profile")?;
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.');
    if !fits {
        problems.push(
            Diagnostic::error(format!("`{text}` is not a profile of an issuer"))
                .at(&node.span())
                .help("write its name as the issuer lists it, such as `tlsserver` or `shortlived`"),
        );
    }
    fits.then(|| text.to_owned())
}

/// The longest that waiting for the first issuer makes sense: certificates live for 90 days at most.
const LONGEST_WAIT: u64 = 30;

fn fallback(entry: &Entry, first: Option<&Issuer>, problems: &mut Problems) -> Option<Fallback> {
    let what = "`fallback`";
    let fields = problems.fields(entry, what, &["issuer", "after", "eab"])?;
    let eab = fields.get("eab").map(|entry| eab(entry, problems));
    let help = "write `fallback: { issuer: https://acme.example.com/directory, after: 3 }`";
    let named = problems.require(fields, what, "issuer", help)?;
    let found = issuer(&named.value, problems);
    bound(fields, found.as_ref(), problems);
    if found.as_ref().is_some_and(|found| *found == Issuer::Internal || Some(found) == first) {
        problems.push(
            Diagnostic::error("`fallback` needs another public issuer")
                .at(&named.value.span())
                .help("write the directory URL of a second CA, which is asked when the first has failed for days"),
        );
        return None;
    }
    let after = match fields.get("after") {
        None => 3,
        Some(entry) => {
            let days = problems.number(&entry.value, "after")?;
            if days == 0 || days > LONGEST_WAIT {
                problems.push(
                    Diagnostic::error(format!("`after` cannot be {}", count(days, "day")))
                        .at(&entry.value.span())
                        .help(format!("write after how many days of failures, from 1 to {LONGEST_WAIT}")),
                );
                return None;
            }
            u32::try_from(days).ok()?
        }
    };
    Some(Fallback { issuer: with_account(found?, given(eab)?), after })
}

fn issuer(node: &Node, problems: &mut Problems) -> Option<Issuer> {
    let text = problems.text(node, "issuer")?;
    match text {
        "letsencrypt" => return Some(Issuer::LetsEncrypt),
        "letsencrypt-staging" => return Some(Issuer::LetsEncryptStaging),
        "internal" => return Some(Issuer::Internal),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix("http://") {
        problems.push(Diagnostic::error("the ACME directory must be asked over HTTPS").at(&node.span()).help(
            if is_url(rest) {
                format!("write `https://{rest}` (RFC 8555 section 6.1)")
            } else {
                "write it as the CA gives it, such as `https://acme.example.com/directory`".to_owned()
            },
        ));
        return None;
    }
    if let Some(rest) = text.strip_prefix("https://") {
        let fits = is_url(rest);
        if !fits {
            problems.push(
                Diagnostic::error("`issuer` is not a URL of an ACME directory")
                    .at(&node.span())
                    .help("write it as the CA gives it, such as `https://acme.example.com/directory`"),
            );
        }
        return fits.then(|| Issuer::Directory { url: text.to_owned(), eab: None });
    }
    let hint = did_you_mean(&text.to_lowercase(), WORDS);
    problems.push(Diagnostic::error(format!("`issuer` cannot be `{text}`")).at(&node.span()).help(
        hint.unwrap_or_else(|| "write `letsencrypt`, `letsencrypt-staging`, `internal`, or a directory URL".into()),
    ));
    None
}

/// Whether what follows `https://` can be the place of a directory.
fn is_url(rest: &str) -> bool {
    let host = rest.split(['/', ':']).next().unwrap_or("");
    !host.is_empty() && !rest.contains(|c: char| c.is_whitespace() || "@#\"'<>\\".contains(c))
}

fn eab(entry: &Entry, problems: &mut Problems) -> Option<(String, SecretRef)> {
    let fields = problems.fields(entry, "`eab`", &["kid", "key"])?;
    let help = "write `eab: { kid: …, key: { env: EAB_KEY } }`, as the CA gave them";
    let kid = problems.require(fields, "`eab`", "kid", help).and_then(|e| problems.text(&e.value, "kid"));
    let key = problems.require(fields, "`eab`", "key", help).and_then(|e| problems.secret(&e.value, "key"));
    Some((kid?.to_owned(), key?))
}

fn mail(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "contact")?;
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let fits = address.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && local.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+/=^_`{|}~.-".contains(c))
            && domain.contains('.')
            && domain.split('.').all(|l| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
    });
    if !fits {
        problems.push(
            Diagnostic::error(format!("`{text}` is not a mail address"))
                .at(&node.span())
                .help("write one address, such as `ops@example.com`"),
        );
    }
    fits.then(|| address.to_owned())
}

fn challenge(fields: Fields<'_>, section: &Entry, problems: &mut Problems) -> Option<Challenge> {
    let dns = match fields.value("challenge") {
        Some(node) => problems.word(node, "challenge", &[("http-01", false), ("dns-01", true)])?,
        None => false,
    };
    let hook = fields.value("hook").map(|node| problems.argv(node, "hook", "[/usr/local/bin/dns-hook]"));
    if dns {
        if fields.lacks("hook") {
            let place = fields.get("challenge").map_or(&section.key.mark, |entry| &entry.key.mark);
            problems.push(
                Diagnostic::error("`challenge: dns-01` has no `hook`")
                    .at(&place.span())
                    .help("write `hook: [program, argument]`, which sets and removes the TXT record"),
            );
        }
        return Some(Challenge::Dns01 { hook: hook?? });
    }
    if let Some(entry) = fields.get("hook") {
        problems.push(
            Diagnostic::error("`hook` is for `challenge: dns-01`")
                .at(&entry.key.mark.span())
                .help("write `challenge: dns-01`, or remove `hook`"),
        );
    }
    Some(Challenge::Http01)
}

//! `certificates:`: takes the section, gives who signs the public certificates and how it is convinced.

use super::sites::Sites;
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Certificates, Challenge, Issuer, SecretRef};

const WORDS: [&str; 3] = ["letsencrypt", "letsencrypt-staging", "internal"];

/// Reads the section.
pub(super) fn certificates(root: Fields<'_>, sites: &Sites<'_>, problems: &mut Problems) -> Option<Certificates> {
    let Some(entry) = root.get("certificates") else {
        if root.lacks("certificates")
            && let Some(sites) = root.get("sites")
        {
            problems.push(
                Diagnostic::warning("there is no `certificates`: the internal CA signs for the sites")
                    .at(&sites.key.mark.span())
                    .label("browsers will not trust it")
                    .help("write `certificates: { issuer: letsencrypt, contact: ops@example.com }`, or `issuer: internal` if it is meant"),
            );
        }
        return Some(Certificates {
            issuer: Issuer::Internal,
            contact: None,
            challenge: Challenge::Http01,
            place: None,
        });
    };
    let what = "`certificates`";
    let fields = problems.fields(entry, what, &["issuer", "contact", "challenge", "hook", "eab"])?;
    let help = "write `issuer: letsencrypt`, `letsencrypt-staging`, `internal`, or the URL of an ACME directory";
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
    if let (Some(entry), Some(found)) = (fields.get("eab"), &issuer)
        && !matches!(found, Issuer::Directory { .. })
    {
        problems.push(
            Diagnostic::error("`eab` needs a directory URL as `issuer`")
                .at(&entry.key.mark.span())
                .help("remove it: neither Let's Encrypt nor the internal CA asks for an external account"),
        );
    }
    if public && matches!(challenge, Some(Challenge::Http01)) {
        for (name, mark) in sites.names.iter().filter(|(name, _)| name.is_wildcard()) {
            problems.push(
                Diagnostic::error(format!("the wildcard `{name}` needs `challenge: dns-01`"))
                    .at(&mark.span())
                    .help("write `challenge: dns-01` and `hook: [program, argument]`, which sets the TXT record (RFC 8555 section 8.4)"),
            );
        }
    }
    let issuer = match (issuer?, eab) {
        (Issuer::Directory { url, .. }, Some(eab)) => Issuer::Directory { url, eab: Some(eab?) },
        (issuer, _) => issuer,
    };
    Some(Certificates {
        issuer,
        contact: contact.map_or(Some(None), |mail| mail.map(Some))?,
        challenge: challenge?,
        place: Some(entry.key.mark.place()),
    })
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
        problems.push(
            Diagnostic::error("the ACME directory must be asked over HTTPS")
                .at(&node.span())
                .help(format!("write `https://{rest}` (RFC 8555 section 6.1)")),
        );
        return None;
    }
    if let Some(rest) = text.strip_prefix("https://") {
        let host = rest.split(['/', ':']).next().unwrap_or("");
        let fits = !host.is_empty() && !rest.contains(|c: char| c.is_whitespace() || "@#\"'<>\\".contains(c));
        if !fits {
            problems.push(
                Diagnostic::error("`issuer` is no URL of an ACME directory")
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
            Diagnostic::error(format!("`{text}` is no mail address"))
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

//! `headers:` of a site, lines for the heads of its answers: takes the map, gives values by name, reports what is no header and what the
//! tiers themselves answer for.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::raw::{Entry, Value};
use crate::inventory::read::Problems;

/// All of them together, in bytes; the load balancer keeps so much room for them in each answer.
pub(crate) const ROOM: usize = 8 * 1024;

/// What the tiers or the program answer for, and what to do instead.
const TAKEN: [(&[&str], &str); 7] = [
    (
        &["strict-transport-security"],
        "write `hsts` of the site: `hsts: { max_age: 31536000, include_subdomains: true }`",
    ),
    (&["set-cookie", "set-cookie2"], "cookies are the program's: let it set them"),
    (&["location", "refresh"], "write `redirect` of the site, or let the program answer with it"),
    (&["retry-after"], "write `maintenance: { retry_after: 10m }` of the site, or let the program say it"),
    (
        &[
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "content-length",
            "via",
        ],
        "remove it: each tier says it for its own connection (RFC 9110 section 7.6.1)",
    ),
    (
        &[
            "content-type",
            "content-encoding",
            "content-range",
            "content-location",
            "accept-ranges",
            "etag",
            "last-modified",
            "date",
            "age",
            "vary",
        ],
        "remove it: it is about one answer, and is said by whoever makes that answer",
    ),
    (
        &["www-authenticate", "proxy-authenticate", "authentication-info", "proxy-authentication-info"],
        "remove it: who asks for a password says this itself",
    ),
];

/// Reads the map.
pub(super) fn headers(entry: &Entry, problems: &mut Problems) -> Option<BTreeMap<String, Option<String>>> {
    let help = "write names and values: `headers: { Content-Security-Policy: \"default-src 'self'\" }`; `null` takes a header out";
    let entries = problems.named(entry, help)?;
    let before = problems.0.len();
    let (mut out, mut seen, mut room) = (BTreeMap::new(), BTreeMap::new(), 0);
    for Entry { key, value } in entries {
        let name = key.text.to_ascii_lowercase();
        if let Some(first) = seen.insert(name.clone(), &key.mark) {
            problems.push(
                Diagnostic::error(format!("the header `{}` is given twice", key.text))
                    .at(&key.mark.span())
                    .related(&first.span(), "first given here")
                    .help("names of headers are the same in upper and lower case: remove one of the two"),
            );
            continue;
        }
        if let Some((message, help)) = refused(&key.text, &name) {
            problems.push(Diagnostic::error(message).at(&key.mark.span()).help(help));
            continue;
        }
        let text = match &value.value {
            Value::Null if value.is_nothing() => None,
            Value::Null => {
                problems.push(
                    Diagnostic::error(format!("the header `{}` has no value", key.text))
                        .at(&key.mark.span())
                        .help("write its value behind the colon, or `null` to take out what the program says"),
                );
                continue;
            }
            _ => match problems.text(value, &key.text) {
                // Spaces around a value are no part of it (RFC 9110 section 5.5).
                Some(text) => Some(text.trim().to_owned()),
                None => continue,
            },
        };
        if let Some(bad) = text.iter().flat_map(|text| text.chars()).find(|c| !c.is_ascii()) {
            problems.push(
                Diagnostic::error(format!("the header `{}` has the character `{bad}`", key.text))
                    .at(&value.span())
                    .help("write ASCII: a value in another encoding means something else to each client (RFC 9110 section 5.5)"),
            );
            continue;
        }
        room += key.text.len() + text.as_ref().map_or(0, String::len) + 4;
        out.insert(key.text.clone(), text);
    }
    if room > ROOM {
        problems.push(
            Diagnostic::error(format!("`headers` are longer than {} KB together", ROOM / 1024))
                .at(&entry.key.mark.span())
                .help("clients and proxies refuse long heads: let the program send what only some of its answers need"),
        );
    }
    let failed = problems.0.iter().skip(before).any(Diagnostic::is_error);
    (!failed).then_some(out)
}

/// Why a name cannot stand here, and what to do.
fn refused(name: &str, lower: &str) -> Option<(String, &'static str)> {
    // A token (RFC 9110 section 5.6.2).
    if name.is_empty()
        || name.len() > 128
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
    {
        let help = "write the header's name without colon and spaces, such as `Permissions-Policy`";
        return Some((format!("`{}` is no name of a header", name.escape_default()), help));
    }
    if lower.starts_with("x-infra-") || lower.starts_with("x_infra_") {
        return Some((
            format!("the header `{name}` is infra's own"),
            "choose a name that does not begin with `X-Infra-`",
        ));
    }
    let (_, help) = TAKEN.iter().find(|(names, _)| names.contains(&lower))?;
    Some((format!("the header `{name}` cannot be set for all answers of a site"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_that_nobody_else_answers_for() {
        for name in ["Content-Security-Policy", "X-Frame-Options", "Server", "a", "x!#$%&'*+.^_`|~9", "Cache-Control"] {
            assert_eq!(refused(name, &name.to_ascii_lowercase()), None, "{name}");
        }
        for name in [
            "",
            "a b",
            "a:",
            "ä",
            "a\"b",
            "a(b)",
            "a\n",
            "a{b}",
            "STRICT-transport-security",
            "Connection",
            "Set-Cookie",
            "Content-Length",
            "transfer-Encoding",
            "X-Infra-Probe",
            "Location",
            "Content-Type",
            "Upgrade",
        ] {
            assert!(refused(name, &name.to_ascii_lowercase()).is_some(), "{name}");
        }
        assert!(refused("strict-Transport-Security", "strict-transport-security").unwrap().1.contains("`hsts`"));
    }
}

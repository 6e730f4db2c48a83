//! How a site answers: takes the site's keys, gives its [`Manner`], reports what no daemon could do and what would do harm.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{headers, pages};
use crate::base::diagnostic::{Diagnostic, Span};
use crate::base::net::DnsName;
use crate::inventory::raw::{Entry, Node, Value};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{BodyLimit, Compression, Hsts, KeyKind, Manner, Timeouts};

/// Two years, the longest that the preload list asks for (hstspreload.org).
const MAX_HSTS: u64 = 63_072_000;
/// What the preload list asks for at least.
const PRELOAD_HSTS: u64 = 31_536_000;
/// The longest that a program may think, and that a stream may be silent.
const LONGEST: [Duration; 2] = [Duration::from_hours(1), Duration::from_hours(24)];
/// A larger body is as good as an unlimited one.
const LARGEST: u64 = 1 << 40;
const SIZES: &str =
    "write a number and `k`, `m` or `g` (of 1,024 each), such as `100m`, from `1k` to `1024g`; or `unlimited`";

/// Reads what is said of one site; `names` are its own.
pub(super) fn manner(fields: Fields<'_>, names: &[&DnsName], folder: &Path, problems: &mut Problems) -> Option<Manner> {
    let usual = Manner::default();
    // Each is read, so that all mistakes are told.
    let timeouts = fields.get("timeouts").map_or(Some(usual.timeouts), |entry| timeouts(entry, problems));
    let body = fields.value("body").map_or(Some(usual.body), |node| body(node, problems));
    let hsts = fields.get("hsts").map_or(Some(usual.hsts), |entry| hsts(entry, problems));
    let redirects = match fields.value("redirect") {
        Some(node) => redirects(node, names, problems),
        None => Some(usual.redirects),
    };
    let headers = fields.get("headers").map_or(Some(usual.headers), |entry| headers::headers(entry, problems));
    let pages = fields.get("pages").map_or(Some(usual.pages), |entry| pages::pages(entry, folder, problems));
    let maintenance = fields.get("maintenance").and_then(|entry| pages::maintenance(entry, folder, problems));
    let key = fields.value("key").map_or(Some(usual.key), |node| key(node, problems));
    let compression = fields.value("compress").map_or(Some(usual.compression), |node| compression(node, problems));
    Some(Manner {
        timeouts: timeouts?,
        body: body?,
        hsts: hsts?,
        redirects: redirects?,
        headers: headers?,
        pages: pages?,
        maintenance,
        key: key?,
        compression: compression?,
    })
}

fn compression(node: &Node, problems: &mut Problems) -> Option<Compression> {
    if matches!(node.text(), Some("true" | "false")) {
        problems.push(Diagnostic::error("`compress` of a site is `gzip` or `brotli`").at(&node.span()).help(
            "whether a program's answers are compressed is said of the program: `app: { port: 8080, compress: true }`",
        ));
        return None;
    }
    problems.word(node, "compress", &[("gzip", Compression::Gzip), ("brotli", Compression::Brotli)])
}

fn timeouts(entry: &Entry, problems: &mut Problems) -> Option<Timeouts> {
    let fields = problems.fields(entry, "`timeouts`", &["response", "idle"])?;
    let usual = Timeouts::default();
    let mut read = |key: &str, usual: Duration, most: Duration, why: &str| {
        fields.value(key).map_or(Some(usual), |node| problems.duration(node, key, Duration::from_secs(1)..=most, why))
    };
    let [response, idle] = LONGEST;
    let why = ": let a program that thinks for longer answer at once, and tell its result later";
    let response = read("response", usual.response, response, why);
    let idle = read("idle", usual.idle, idle, ": let both ends of a stream say something at times");
    Some(Timeouts { response: response?, idle: idle? })
}

fn body(node: &Node, problems: &mut Problems) -> Option<BodyLimit> {
    let text = problems.text(node, "body")?;
    if text == "unlimited" {
        return Some(BodyLimit::Unlimited);
    }
    let help = match bytes(text) {
        Some(bytes) if (1024..=LARGEST).contains(&bytes) => return Some(BodyLimit::Bytes(bytes)),
        // To nginx it is no limit, to a person it may be no body.
        Some(0) => "write the largest body, such as `100m`, or `unlimited`".to_owned(),
        None if bytes(&format!("{text}m")).is_some() => format!("write `{text}m` for MiB, or another unit; {SIZES}"),
        _ => SIZES.to_owned(),
    };
    problems.push(Diagnostic::error(format!("`body` cannot be `{text}`")).at(&node.span()).help(help));
    None
}

/// `DIGITS UNIT`; nothing else, and no number that begins with a zero.
fn bytes(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let unit =
        [("k", 10), ("m", 20), ("g", 30)].into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (digits, shift) = unit?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || (digits.starts_with('0') && digits != "0") {
        return None;
    }
    // What does not fit is larger than any limit.
    Some(digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).unwrap_or(u64::MAX))
}

/// Seconds, or a map.
fn hsts(entry: &Entry, problems: &mut Problems) -> Option<Hsts> {
    if !matches!(entry.value.value, Value::Map(_)) {
        return Some(Hsts { max_age: max_age(&entry.value, "hsts", problems)?, ..Hsts::default() });
    }
    let fields = problems.fields(entry, "`hsts`", &["max_age", "include_subdomains", "preload"])?;
    let usual = Hsts::default();
    let max_age = fields.value("max_age").map_or(Some(usual.max_age), |node| max_age(node, "max_age", problems));
    let mut yes_or_no = |key: &str| {
        fields.value(key).map_or(Some(false), |node| problems.word(node, key, &[("true", true), ("false", false)]))
    };
    let (include_subdomains, preload) = (yes_or_no("include_subdomains"), yes_or_no("preload"));
    let hsts = Hsts { max_age: max_age?, include_subdomains: include_subdomains?, preload: preload? };
    if hsts.preload && !(hsts.include_subdomains && hsts.max_age >= PRELOAD_HSTS) {
        problems.push(
            Diagnostic::error("`preload` needs `include_subdomains: true` and a `max_age` of a year (hstspreload.org)")
                .at(&fields.get("preload").map_or_else(|| entry.key.mark.span(), |entry| entry.key.mark.span()))
                .help(format!(
                    "write `hsts: {{ max_age: {MAX_HSTS}, include_subdomains: true, preload: true }}` when every name below the site's \
                     has HTTPS; until then leave `preload` out, as it takes months to undo"
                )),
        );
        return None;
    }
    Some(hsts)
}

fn max_age(node: &Node, key: &str, problems: &mut Problems) -> Option<u64> {
    let seconds = problems.number(node, key)?;
    if seconds > MAX_HSTS {
        problems.push(
            Diagnostic::error(format!("`{key}` is longer than two years ({MAX_HSTS} s)"))
                .at(&node.span())
                .help("write seconds: 300 to begin with, 31536000 (a year) when HTTPS has stood the test"),
        );
        return None;
    }
    Some(seconds)
}

/// The names that lead to another one, each to a name that the site has.
fn redirects(node: &Node, names: &[&DnsName], problems: &mut Problems) -> Option<BTreeMap<DnsName, DnsName>> {
    let to_apex = problems.word(node, "redirect", &[("www-to-apex", true), ("apex-to-www", false)])?;
    let exact = || names.iter().copied().filter(|name| !name.is_wildcard());
    let own = |name: &str| exact().find(|own| own.as_str() == name);
    let mut found = BTreeMap::new();
    for www in exact().filter(|name| name.as_str().starts_with("www.")) {
        let apex = www.as_str().trim_start_matches("www.");
        match own(apex) {
            Some(apex) if to_apex => drop(found.insert(www.clone(), apex.clone())),
            Some(apex) => drop(found.insert(apex.clone(), www.clone())),
            None if to_apex => problems.push(absent(&node.span(), www.as_str(), apex)),
            None => {}
        }
    }
    if to_apex && found.is_empty() && own_www(names).is_none() {
        problems.push(
            Diagnostic::error("`redirect: www-to-apex` finds no name of this site that begins with `www.`")
                .at(&node.span())
                .help("add the name to the site's `aliases`, or remove `redirect`"),
        );
    }
    if !to_apex && found.is_empty() {
        let apex = exact().next().map_or("example.com", |name| name.as_str().trim_start_matches("www."));
        let www = format!("www.{apex}");
        let (there, absent_one) = if own(&www).is_some() { (www.as_str(), apex) } else { (apex, www.as_str()) };
        problems.push(absent(&node.span(), there, absent_one));
    }
    (!found.is_empty()).then_some(found)
}

fn own_www<'a>(names: &[&'a DnsName]) -> Option<&'a DnsName> {
    names.iter().copied().find(|name| name.as_str().starts_with("www."))
}

fn absent(span: &Span, there: &str, absent: &str) -> Diagnostic {
    Diagnostic::error(format!("`redirect` joins `{there}` and `{absent}`, and `{absent}` is no name of this site"))
        .at(span)
        .help(format!("add `{absent}` to the site's `aliases`, or remove `redirect`"))
}

/// What stands here by mistake may be a secret: it is not repeated.
fn key(node: &Node, problems: &mut Problems) -> Option<KeyKind> {
    let kinds = [KeyKind::EcdsaP256, KeyKind::Rsa2048];
    let found = kinds.into_iter().find(|kind| node.text() == Some(kind.as_str()));
    if found.is_none() && !node.is_broken() {
        problems.push(
            Diagnostic::error("`key` is the kind of the certificate's key")
                .at(&node.span())
                .help("write `ecdsa-p256`, or `rsa-2048` for old clients"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_spelling() {
        for (text, size) in
            [("0", 0), ("0k", 0), ("1k", 1024), ("100m", 100 << 20), ("2g", 2 << 30), ("99999999999999g", u64::MAX)]
        {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "m", "1", "100", "1M", "1 m", "1.5m", "-1m", "+1m", "01m", "1mb", "1t", "k1", "1e3k", "０m"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}

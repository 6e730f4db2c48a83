//! `sites:`: takes the map of public names, gives the sites.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{host_path, missing};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::{DnsName, Port};
use crate::base::warning::Warning;
use crate::inventory::raw::{Entry, Mark, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{AppProgram, StaticFiles, WebSite};

/// HSTS starts short: a mistake is over after five minutes.
const HSTS: u64 = 300;
/// Two years, the longest that the preload list asks for (hstspreload.org).
const MAX_HSTS: u64 = 63_072_000;
/// Folders that hold more than a site; none of these nor what is below them is served.
const SYSTEM: [&str; 13] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/var/lib/infra",
];
/// Folders that are not served whole; what is below them may be.
const SHARED: [&str; 9] = ["/", "/home", "/media", "/mnt", "/tmp", "/usr", "/var", "/var/lib", "/var/log"];

/// All that is known of the sites.
#[derive(Default)]
pub(super) struct Sites<'a> {
    /// Those without a mistake.
    pub(super) whole: BTreeMap<DnsName, WebSite>,
    /// All of them.
    pub(super) entries: BTreeMap<&'a str, &'a Entry>,
    /// The programs by port: the site's name and the port's place.
    pub(super) programs: BTreeMap<Port, (&'a str, &'a Node)>,
    /// Every name, with its place.
    pub(super) names: BTreeMap<DnsName, &'a Mark>,
    /// Every address among the aliases, with its site and its place.
    pub(super) addresses: Vec<(IpAddr, &'a str, &'a Mark)>,
    /// Whether all sites are without a mistake.
    pub(super) complete: bool,
}

/// Reads all sites.
pub(super) fn sites<'a>(root: Fields<'a>, problems: &mut Problems) -> Sites<'a> {
    let mut out = Sites { complete: true, ..Sites::default() };
    let help = "write a DNS name and below it `static` or `app`";
    let Some(section) = root.get("sites") else { return out };
    let Some(entries) = problems.named(section, help) else { return Sites::default() };
    let mut mains = BTreeMap::new();
    // Main names first, so that an alias that is one is told at the alias, whatever their order.
    for entry in entries {
        out.entries.insert(&entry.key.text, entry);
        match entry.key.text.parse::<DnsName>() {
            Ok(name) => {
                out.names.insert(name.clone(), &entry.key.mark);
                mains.insert(entry.key.text.as_str(), name);
            }
            Err(invalid) => problems.invalid(&invalid, &entry.key.text, &entry.key.mark),
        }
    }
    for entry in entries {
        let name = mains.get(entry.key.text.as_str());
        match site(entry, name, &mut out, problems) {
            Some(site) => {
                out.whole.insert(site.name.clone(), site);
            }
            None => out.complete = false,
        }
    }
    out
}

fn site<'a>(entry: &'a Entry, name: Option<&DnsName>, out: &mut Sites<'a>, problems: &mut Problems) -> Option<WebSite> {
    let what = format!("site `{}`", entry.key.text);
    let fields = problems.fields(entry, &what, &["aliases", "static", "app", "hsts"])?;
    let before = problems.0.len();
    let (mut aliases, mut addresses) = (Vec::new(), Vec::new());
    if let Some(node) = fields.value("aliases") {
        for item in problems.some(node, "aliases", "[www.example.com]").unwrap_or_default() {
            match problems.text(item, "aliases").map(str::parse::<IpAddr>) {
                Some(Ok(address)) => {
                    out.addresses.push((address, &entry.key.text, &item.mark));
                    addresses.push(address);
                }
                Some(Err(_)) => aliases.extend(alias(item, out, problems)),
                None => {}
            }
        }
    }
    let app = fields.get("app").map(|app| program(app, &what, &entry.key.text, out, problems));
    let has_app = fields.get("app").is_some();
    let files = fields.get("static").map(|files| static_files(files, &what, has_app, problems));
    if fields.lacks("static") && fields.lacks("app") {
        problems.push(missing(
            &entry.key.mark,
            format!("{what} has neither `static` nor `app`"),
            "write `static: { root: /srv/shop/public }` or `app: { port: 8080, health: /healthz }`; where both stand, `static` has a `prefix`",
        ));
    }
    let hsts = fields.value("hsts").map_or(Some(HSTS), |node| hsts(node, problems));
    let failed = problems.0.iter().skip(before).any(Diagnostic::is_error);
    if failed {
        return None;
    }
    Some(WebSite {
        name: name?.clone(),
        aliases,
        addresses,
        r#static: files.flatten(),
        app: app.flatten(),
        hsts: hsts?,
        place: entry.key.mark.place(),
    })
}

fn alias<'a>(item: &'a Node, out: &mut Sites<'a>, problems: &mut Problems) -> Option<DnsName> {
    let alias: DnsName = problems.parse(item, "aliases")?;
    if let Some(first) = out.names.get(&alias) {
        problems.push(
            Diagnostic::error(format!("the name `{alias}` is given twice"))
                .at(&item.span())
                .related(&first.span(), "first given here")
                .help("a name leads to one site: remove one of the two"),
        );
        return None;
    }
    out.names.insert(alias.clone(), &item.mark);
    Some(alias)
}

fn program<'a>(
    entry: &'a Entry,
    what: &str,
    site: &'a str,
    out: &mut Sites<'a>,
    problems: &mut Problems,
) -> Option<AppProgram> {
    let what = format!("`app` of {what}");
    let fields = problems.fields(entry, &what, &["port", "health"])?;
    let help = "write `port: 8080`, the port on which the program listens on the loopback address of every app host";
    let node = &problems.require(fields, &what, "port", help)?.value;
    let port = problems.port(node, "port");
    if let Some(port) = port {
        if [Port::HTTP, Port::HTTPS].contains(&port) {
            problems.push(
                Diagnostic::error(format!("a program cannot have port {port}"))
                    .at(&node.span())
                    .help("80 and 443 are the load balancers': write a port above 1023, such as 8080"),
            );
        } else if let Some((other, first)) = out.programs.get(&port) {
            problems.push(
                Diagnostic::error(format!("the programs of `{other}` and `{site}` have the same port"))
                    .at(&node.span())
                    .related(&first.span(), "first given here")
                    .help("all programs run on every app host: give each site a port of its own"),
            );
        }
        out.programs.entry(port).or_insert((site, node));
    }
    let health = if let Some(node) = fields.value("health") {
        url_path(node, "health", "?=&", problems)
    } else {
        if fields.lacks("health") {
            problems.push(
                Diagnostic::warning(Warning::NoHealth, format!("{what} has no `health`"))
                    .at(&entry.key.mark.span())
                    .label("`/` is asked instead, which may be slow, or answer while the program is ill")
                    .help("write `health: /healthz`, a path that answers 200 when the program is well"),
            );
        }
        Some("/".into())
    };
    Some(AppProgram { port: port?, health: health? })
}

fn static_files(entry: &Entry, what: &str, has_app: bool, problems: &mut Problems) -> Option<StaticFiles> {
    let what = format!("`static` of {what}");
    let fields = problems.fields(entry, &what, &["root", "prefix"])?;
    let help = "write `root: /srv/shop/public`, the folder on the web hosts";
    let root = problems.require(fields, &what, "root", help).and_then(|e| static_root(&e.value, problems));
    let prefix = match fields.value("prefix") {
        Some(node) => prefix(node, has_app, problems),
        None if has_app => {
            problems.require(fields, &what, "prefix", "write `prefix: /static/`; all other paths are the program's");
            None
        }
        None => Some("/".to_owned()),
    };
    Some(StaticFiles { root: root?, prefix: prefix? })
}

fn static_root(node: &Node, problems: &mut Problems) -> Option<String> {
    let path = host_path(node, "root", "", problems)?;
    let bare = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
    let within = |dir: &str| bare == dir || bare.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    if SYSTEM.iter().any(|dir| within(dir)) || SHARED.contains(&bare) {
        problems.push(
            Diagnostic::error(format!("`{path}` must not be served to the internet"))
                .at(&node.span())
                .help("name a folder that holds the site's files and nothing else, such as `/srv/shop/public`"),
        );
        return None;
    }
    Some(bare.to_owned())
}

fn prefix(node: &Node, has_app: bool, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "prefix")?;
    if !text.starts_with('/') || !text.ends_with('/') {
        let bare = text.trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._~-".contains(c);
        let bare = if !bare.is_empty() && bare.chars().all(plain) && !bare.contains("//") { bare } else { "static" };
        problems.push(
            Diagnostic::error(format!("the prefix `{text}` must begin and end with `/`"))
                .at(&node.span())
                .help(format!("write `/{bare}/`")),
        );
        return None;
    }
    if text == "/" && has_app {
        problems.push(
            Diagnostic::error("the prefix `/` leaves no path to the program")
                .at(&node.span())
                .help("write `prefix: /static/`, or remove `app`"),
        );
        return None;
    }
    url_path(node, "prefix", "", problems)
}

/// A path of a URL (RFC 3986 section 3.3) without anything that a configuration file reads as its own.
fn url_path(node: &Node, key: &str, more: &str, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, key)?;
    let mut fail = |message: String, help: &str| {
        problems.push(Diagnostic::error(message).at(&node.span()).help(help));
        None
    };
    if !text.starts_with('/') {
        return fail(format!("`{key}` is not a path: `{text}`"), "begin it with `/`, without scheme and host");
    }
    if let Some(c) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "/._~-%+".contains(*c) || more.contains(*c)))
    {
        return fail(
            format!("`{key}` has the character `{}`", c.escape_default()),
            "use letters, digits, `/`, `.`, `-`, `_` and `~`",
        );
    }
    if text.contains("//") || text.split('/').any(|part| part == ".." || part == ".") {
        return fail(
            format!("`{key}` has a part that is empty, `.` or `..`: `{text}`"),
            "write the path without `.`, `..` and double `/`",
        );
    }
    Some(text.to_owned())
}

fn hsts(node: &Node, problems: &mut Problems) -> Option<u64> {
    let seconds = problems.number(node, "hsts")?;
    if seconds > MAX_HSTS {
        problems.push(
            Diagnostic::error(format!("`hsts` is longer than two years ({MAX_HSTS} s)"))
                .at(&node.span())
                .help("write seconds: 300 to begin with, 31536000 (a year) when HTTPS has stood the test"),
        );
        return None;
    }
    Some(seconds)
}

//! `sites:`: takes the map of public names, gives the sites.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use super::auth::auth;
use super::bought;
use super::files::files;
use super::hosts::Hosts;
use super::paths::{BOOL, Paths};
use super::programs::{Said, programs};
use super::{manner, missing};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::{DnsName, Port};
use crate::inventory::raw::{Entry, Mark, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::WebSite;

/// What a site can say.
const KEYS: [&str; 15] = [
    "aliases",
    "static",
    "app",
    "auth",
    "sticky",
    "compress",
    "timeouts",
    "body",
    "hsts",
    "redirect",
    "headers",
    "pages",
    "maintenance",
    "key",
    "certificate",
];

/// All that is known of the sites.
#[derive(Default)]
pub(super) struct Sites<'a> {
    /// Those without a mistake.
    pub(super) whole: BTreeMap<DnsName, WebSite>,
    /// All of them.
    pub(super) entries: BTreeMap<&'a str, &'a Entry>,
    /// The programs by port, each as it was first said for its hosts.
    pub(super) programs: BTreeMap<Port, Vec<Said<'a>>>,
    /// Every name, with its place.
    pub(super) names: BTreeMap<DnsName, &'a Mark>,
    /// Every address among the aliases, with its site and its place.
    pub(super) addresses: Vec<(IpAddr, &'a str, &'a Mark)>,
    /// Whether all sites are without a mistake.
    pub(super) complete: bool,
}

/// Reads all sites.
pub(super) fn sites<'a>(root: Fields<'a>, around: (&Hosts<'a>, &Path), problems: &mut Problems) -> Sites<'a> {
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
        match site(entry, name, around, &mut out, problems) {
            Some(site) => {
                out.whole.insert(site.name.clone(), site);
            }
            None => out.complete = false,
        }
    }
    out
}

fn site<'a>(
    entry: &'a Entry,
    name: Option<&DnsName>,
    (machines, folder): (&Hosts<'a>, &Path),
    out: &mut Sites<'a>,
    problems: &mut Problems,
) -> Option<WebSite> {
    let what = format!("site `{}`", entry.key.text);
    let fields = problems.fields(entry, &what, &KEYS)?;
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
    let mut paths = Paths::default();
    let app = fields.get("app");
    let programs =
        app.map(|app| programs(app, (&what, &entry.key.text), machines, (&mut out.programs, &mut paths), problems));
    let folders = fields.get("static").map(|folders| files(folders, &what, &mut paths, problems));
    if fields.lacks("static") && fields.lacks("app") {
        problems.push(missing(
            &entry.key.mark,
            format!("{what} has neither `static` nor `app`"),
            "write `static: { root: /srv/shop/public }` or `app: { port: 8080, health: /healthz }`; where both stand, `static` has a `prefix`",
        ));
    }
    let auth = fields.get("auth").map(|entry| auth(entry, &what, name.map_or("", DnsName::as_str), problems));
    let sticky = fields.value("sticky").map_or(Some(false), |node| sticky(node, fields.lacks("app"), &what, problems));
    let names: Vec<&DnsName> = name.into_iter().chain(&aliases).collect();
    let manner = manner::manner(fields, &names, folder, problems);
    let all: Vec<String> = names.iter().map(ToString::to_string).collect();
    let all = [all, addresses.iter().map(ToString::to_string).collect()].concat();
    let about = (entry.key.text.as_str(), all.as_slice());
    let certificate = fields.get("certificate").map(|entry| bought::bought(entry, about, folder, problems));
    let failed = problems.0.iter().skip(before).any(Diagnostic::is_error);
    if failed {
        return None;
    }
    Some(WebSite {
        name: name?.clone(),
        aliases,
        addresses,
        files: folders.unwrap_or_default(),
        programs: programs.unwrap_or_default(),
        auth: auth.unwrap_or_default(),
        sticky: sticky?,
        manner: manner?,
        certificate: certificate.flatten(),
        place: entry.key.mark.place(),
    })
}

/// Whether visitors stay with an app host, which needs a program.
fn sticky(node: &Node, lacks_app: bool, what: &str, problems: &mut Problems) -> Option<bool> {
    let sticky = problems.word(node, "sticky", &BOOL)?;
    if sticky && lacks_app {
        problems.push(
            Diagnostic::error(format!("{what} is `sticky`, and has no program with which a visitor could stay"))
                .at(&node.span())
                .help("remove `sticky`, or write `app: { port: 8080, health: /healthz }`"),
        );
        return None;
    }
    Some(sticky)
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

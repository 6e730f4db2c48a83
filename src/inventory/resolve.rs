//! From the tree to a [`Site`]: each section has a file below, what concerns several sections is checked here at the end.
//! Nothing stops at a mistake; only a tree without errors becomes a site.

mod addresses;
mod alerts;
mod auth;
mod bought;
mod certificates;
mod database;
mod drain;
mod edge;
mod files;
mod firewall;
mod headers;
mod hosts;
mod jumps;
mod manner;
mod monitoring;
mod names;
mod pages;
mod paths;
mod ports;
mod programs;
mod roles;
mod settings;
mod silence;
mod sites;
mod ssh;

pub(super) use hosts::{RESERVED, unfit};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::diagnostic::Diagnostic;
use crate::base::fsx;
use crate::base::net::HostName;
use crate::inventory::raw::{Mark, Node};
use crate::inventory::read::{Fields, Problems, expand};
use crate::inventory::site::{MonitoringService, Site};

/// The keys of an inventory, in the order of the manual. `include` is gone by now, but a misspelling of it is told.
const KEYS: [&str; 14] = [
    "name",
    "include",
    "state",
    "ssh",
    "hosts",
    "ports",
    "drain",
    "firewall",
    "sites",
    "edge",
    "certificates",
    "database",
    "monitoring",
    "silence",
];

/// A name longer than this makes `ROLE.role.NAME.infra.internal` longer than a common name may be.
const MAX_NAME: usize = 40;

/// Resolves a whole inventory; `None` when there is an error, which then is among the problems.
pub(crate) fn resolve(root: &Node, path: &Path, problems: &mut Problems) -> Option<Site> {
    // What a missing section is missed at: the first key, for there is nothing else to point to.
    let head = root.entries().first().map_or(&root.mark, |entry| &entry.key.mark);
    let fields = problems.fields_of(root, head, "the inventory", &KEYS)?;
    let name = name(fields, problems);
    let ssh = fields.get("ssh").map(|entry| ssh::ssh(entry, "`ssh`", problems)).unwrap_or_default();
    let hosts = hosts::hosts(fields, &ssh, name.as_ref(), problems);
    let ports = ports::ports(fields, problems);
    let drain = drain::drain(fields, problems);
    let folder = fsx::folder(path).to_owned();
    let sites = sites::sites(fields, (&hosts, &folder), problems);
    let edge = edge::edge(fields, problems);
    let firewall = firewall::firewall(fields, &hosts, problems);
    let certificates = certificates::certificates(fields, &sites, problems);
    let database = database::database(fields, &hosts, problems);
    let monitoring = monitoring::monitoring(fields, &hosts, &folder, problems);
    let state = state(fields, &folder, problems);
    addresses::check(&sites, &hosts, certificates.as_ref(), problems);
    roles::check(fields, &hosts, &sites, problems);
    jumps::circles(fields, &hosts, problems);
    let watched = monitoring.as_ref().map_or(MonitoringService::None, |one| one.service);
    if watched != MonitoringService::Prometheus {
        monitoring::idle(&hosts, problems);
    }
    ports::check(&ports, &hosts, &sites, (database.is_some(), watched), problems);
    settings::unknown(fields, problems);
    let silence = silence::silence(fields, problems);
    problems.0.retain(|diagnostic| diagnostic.kind().is_none_or(|kind| !silence.contains_key(&kind)));
    Some(Site {
        name: name?,
        hosts: hosts.whole,
        ports: ports.ports,
        drain: drain?,
        firewall: firewall?,
        sites: sites.whole,
        edge,
        certificates: certificates?,
        database,
        monitoring,
        file: path.to_owned(),
        folder,
        state: state?,
        silence,
        through: BTreeMap::new(),
    })
}

fn name(fields: Fields<'_>, problems: &mut Problems) -> Option<HostName> {
    let help = "write `name: shop` at the top; it names the state, the internal CA and the lock";
    let node = &problems.require(fields, "the inventory", "name", help)?.value;
    let name: HostName = problems.parse(node, "name")?;
    if name.as_str().len() > MAX_NAME {
        problems.push(
            Diagnostic::error(format!("`name` is longer than {MAX_NAME} characters"))
                .at(&node.span())
                .help("a certificate's common name, which holds it, has room for 64 (RFC 5280 appendix A.1)"),
        );
        return None;
    }
    Some(name)
}

fn state(fields: Fields<'_>, folder: &Path, problems: &mut Problems) -> Option<PathBuf> {
    let Some(node) = fields.value("state") else { return Some(folder.join("state")) };
    let text = problems.text(node, "state")?;
    let state = folder.join(expand(text));
    // The folder is made 0700, and swept: it must be one of its own.
    let own = Path::new(text).components().any(|part| matches!(part, std::path::Component::Normal(_)));
    if !own || text == "~" || text == "~/" {
        problems.push(
            Diagnostic::error(format!("`{text}` cannot hold the state"))
                .at(&node.span())
                .help("name a folder of its own, such as `state`"),
        );
        return None;
    }
    Some(state)
}

/// An absolute path of a host, fit to stand in any configuration file without quoting; reports what it is not.
fn host_path(node: &Node, key: &str, more: &str, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, key)?;
    let mut fail = |message: String, help: &str| {
        problems.push(Diagnostic::error(message).at(&node.span()).help(help));
        None
    };
    if !text.starts_with('/') {
        return fail(format!("`{text}` is not an absolute path"), "begin it with `/`");
    }
    if let Some(c) =
        text.chars().find(|c| !(c.is_ascii_alphanumeric() || "/._-+@%~=:".contains(*c) || more.contains(*c)))
    {
        return fail(
            format!("the path has the character `{}`", c.escape_default()),
            "use letters, digits, `/`, `.`, `-` and `_`: it stands in the configuration of several daemons",
        );
    }
    if text.split('/').any(|part| part == ".." || part == ".") || text.contains("//") {
        return fail(
            format!("`{text}` has a part that is empty, `.` or `..`"),
            "write the path without `.`, `..` and double `/`",
        );
    }
    Some(text.to_owned())
}

/// Shows where a part of a section is missed.
fn missing(head: &Mark, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
    Diagnostic::error(message).at(&head.span()).help(help)
}

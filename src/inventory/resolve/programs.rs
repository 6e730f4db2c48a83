//! `app:` of a site: takes one program or a list of them, gives the programs with their paths. A port of an app host is one program,
//! which may serve several sites.

use std::collections::{BTreeMap, BTreeSet};

use super::hosts::Hosts;
use super::names;
use super::paths::{BOOL, Paths, prefix, url_path};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::{HostName, Port};
use crate::base::warning::Warning;
use crate::inventory::raw::{Entry, Mark, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{AppProgram, Role};

/// A program as a site says it.
pub(super) struct Said<'a> {
    /// The site's name.
    pub(super) site: &'a str,
    /// The port's place.
    pub(super) port: &'a Node,
    /// Where it runs; empty: on all app hosts.
    pub(super) hosts: BTreeSet<HostName>,
    health: String,
    /// The place of the health, or else of the program.
    mark: &'a Mark,
}

impl Said<'_> {
    /// Whether there may be a host on which both run.
    fn meets(&self, hosts: &BTreeSet<HostName>) -> bool {
        self.hosts.is_empty() || hosts.is_empty() || !self.hosts.is_disjoint(hosts)
    }
}

/// Reads the programs of a site; those that are wrong are left out. `what` is the site in words, and its name.
pub(super) fn programs<'a>(
    entry: &'a Entry,
    (what, site): (&str, &'a str),
    hosts: &Hosts<'a>,
    (known, paths): (&mut BTreeMap<Port, Vec<Said<'a>>>, &mut Paths<'a>),
    problems: &mut Problems,
) -> Vec<AppProgram> {
    let what = format!("`app` of {what}");
    let mut out = Vec::new();
    for (node, head) in entry.each() {
        out.extend(program((node, head), (&what, site), hosts, (&mut *known, &mut *paths), problems));
    }
    out
}

fn program<'a>(
    (node, head): (&'a Node, &'a Mark),
    (what, site): (&str, &'a str),
    hosts: &Hosts<'a>,
    (known, paths): (&mut BTreeMap<Port, Vec<Said<'a>>>, &mut Paths<'a>),
    problems: &mut Problems,
) -> Option<AppProgram> {
    let fields = problems.fields_of(node, head, what, &["path", "port", "health", "hosts", "compress"])?;
    // The path first: who of two has it is the first one, whatever else is wrong with either.
    let path = match fields.value("path") {
        Some(node) => {
            let path = prefix(node, "path", "api", problems);
            path.filter(|path| paths.take(path, &node.mark, true, problems))
        }
        None if fields.lacks("path") => paths.take("/", head, true, problems).then(|| "/".to_owned()),
        None => None,
    };
    let some = fields.value("hosts").map(|node| on(node, hosts, problems));
    let help = "write `port: 8080`, the port on which the program listens on the loopback address of every app host";
    let node = &problems.require(fields, what, "port", help)?.value;
    let port = problems.port(node, "port");
    let health = health(fields, what, head, problems);
    let said = port.filter(|port| ![Port::HTTP, Port::HTTPS].contains(port));
    if let Some(port) = port.filter(|_| said.is_none()) {
        problems.push(
            Diagnostic::error(format!("a program cannot have port {port}"))
                .at(&node.span())
                .help("80 and 443 are the load balancers': write a port above 1023, such as 8080"),
        );
    }
    let runs_on = some.unwrap_or(Some(BTreeSet::new()));
    if let (Some(port), Some(health), Some(runs_on)) = (port, &health, &runs_on) {
        let mark = fields.value("health").map_or(head, |node| &node.mark);
        let one = Said { site, port: node, hosts: runs_on.clone(), health: health.clone(), mark };
        agree(port, one, known.entry(port).or_default(), problems);
    }
    let compress = fields.value("compress").map_or(Some(false), |node| problems.word(node, "compress", &BOOL));
    let (hosts, place) = (runs_on?, head.place());
    Some(AppProgram { path: path?, port: port?, health: health?, hosts, compress: compress?, place })
}

/// One port on one host is one program, and is well or not: it has one path that tells.
fn agree<'a>(port: Port, one: Said<'a>, known: &mut Vec<Said<'a>>, problems: &mut Problems) {
    if let Some(first) = known.iter().find(|known| known.meets(&one.hosts) && known.health != one.health) {
        problems.push(
            Diagnostic::error(format!(
                "port {port} is one program, and is to be well at `{}` and at `{}`",
                first.health, one.health
            ))
            .at(&one.mark.span())
            .related(&first.mark.span(), format!("first said here, for `{}`", first.site))
            .help("write the same `health` wherever one program is meant, or give each program a port of its own"),
        );
    } else if !known.iter().any(|known| known.hosts == one.hosts) {
        known.push(one);
    }
}

fn health(fields: Fields<'_>, what: &str, head: &Mark, problems: &mut Problems) -> Option<String> {
    if let Some(node) = fields.value("health") {
        return url_path(node, "health", "?=&", problems);
    }
    if fields.lacks("health") {
        problems.push(
            Diagnostic::warning(Warning::NoHealth, format!("{what} has no `health`"))
                .at(&head.span())
                .label("`/` is asked instead, which may be slow, or answer while the program is ill")
                .help("write `health: /healthz`, a path that answers 200 when the program is well"),
        );
    }
    Some("/".into())
}

/// The app hosts on which a program runs.
fn on(node: &Node, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<BTreeSet<HostName>> {
    let before = problems.0.len();
    let mut out = BTreeSet::new();
    for item in problems.some(node, "hosts", "[app1]")? {
        let Some(name) = names::host(item, "hosts", hosts, problems) else { continue };
        if hosts.whole.get(&name).is_some_and(|host| !host.has(Role::App)) {
            problems.push(
                Diagnostic::error(format!("`{name}` does not have the role `app`, and no program runs there"))
                    .at(&item.span())
                    .help("name hosts with `roles: [app]`, or leave out `hosts`: the program then runs on all of them"),
            );
        } else if !out.insert(name.clone()) {
            problems.push(
                Diagnostic::error(format!("`{name}` is named twice")).at(&item.span()).help("name each host once"),
            );
        }
    }
    (problems.0.len() == before).then_some(out)
}

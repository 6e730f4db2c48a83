//! What the roles ask of each other, and warnings of design: takes hosts and sites, reports.

use super::hosts::Hosts;
use super::sites::Sites;
use crate::base::diagnostic::Diagnostic;
use crate::base::warning::Warning;
use crate::base::words::count;
use crate::inventory::raw::Entry;
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::Role;

/// Reports roles that lack the ones they need.
pub(super) fn check(root: Fields<'_>, hosts: &Hosts<'_>, sites: &Sites<'_>, problems: &mut Problems) {
    // Who needs a role, once a role: the first site, else the first host.
    for (role, what) in [(Role::Lb, "a load balancer"), (Role::Web, "a web host"), (Role::App, "an app host")] {
        if !hosts.lacks(role) {
            continue;
        }
        let site = sites.whole.values().find(|site| role != Role::App || !site.programs.is_empty());
        let needer = match role {
            Role::Lb => Some(Role::Web),
            Role::Web => Some(Role::Lb).filter(|role| hosts.roles.contains_key(role)).or(Some(Role::App)),
            _ => None,
        };
        let host = needer.and_then(|needer| Some((needer, *hosts.roles.get(&needer)?.first()?)));
        let (message, mark) = if let Some(entry) = site.and_then(|site| sites.entries.get(site.name.as_str())) {
            (format!("the site `{}` needs {what}, and no host has the role `{role}`", entry.key.text), &entry.key.mark)
        } else if let Some((needer, entry)) = host {
            (format!("the role `{needer}` needs {what}, and no host has the role `{role}`"), &entry.key.mark)
        } else {
            continue;
        };
        problems.push(
            Diagnostic::error(message)
                .at(&mark.span())
                .help(format!("give a host `roles: [{role}]`; requests go lb, web, app")),
        );
    }
    if let Some(entry) = hosts.roles.get(&Role::App).and_then(|entries| entries.first())
        && sites.complete
        && !sites.whole.values().any(|site| !site.programs.is_empty())
    {
        problems.push(
            Diagnostic::warning(Warning::NoProgram, "there are app hosts, but no site has a program for them")
                .at(&entry.key.mark.span())
                .help("write `app: { port: 8080, health: /healthz }` under a site"),
        );
    }
    if root.lacks("sites")
        && let Some(entry) = hosts.roles.get(&Role::Lb).and_then(|entries| entries.first())
    {
        problems.push(
            Diagnostic::warning(Warning::NoSite, "there are load balancers, but no site")
                .at(&entry.key.mark.span())
                .help("write `sites:` and below it a DNS name with `static` or `app`"),
        );
    }
    if hosts.complete {
        single(hosts, problems);
    }
    families(hosts, problems);
}

/// Tiers that talk to each other, and hosts in them that have no address family in common.
fn families(hosts: &Hosts<'_>, problems: &mut Problems) {
    let only = |role: Role, ipv4: bool| {
        hosts.whole.values().find(|host| host.has(role) && host.addresses.iter().all(|a| a.is_ipv4() == ipv4))
    };
    let watched = [Role::Lb, Role::Web, Role::App, Role::Db].map(|role| (Role::Monitor, role));
    let tiers = [(Role::Lb, Role::Web), (Role::Web, Role::App), (Role::App, Role::Db), (Role::Db, Role::Db)];
    for (from, to) in tiers.into_iter().chain(watched) {
        for ipv4 in [true, false] {
            let (Some(a), Some(b)) = (only(from, ipv4), only(to, !ipv4)) else { continue };
            let places = [a, b].map(|host| hosts.entries.get(host.name.as_str()).map(|entry| entry.key.mark.span()));
            let [Some(first), Some(second)] = places else { continue };
            let (v4, v6) = if ipv4 { (a, b) } else { (b, a) };
            problems.push(
                Diagnostic::error(format!(
                    "`{}` has only IPv4 and `{}` only IPv6, but they must reach each other",
                    v4.name, v6.name
                ))
                .at(&second)
                .related(&first, "the other host")
                .help("give both an address of the same family"),
            );
            break;
        }
    }
}

/// One host in a role where another role has more: everything waits for that one.
fn single(hosts: &Hosts<'_>, problems: &mut Problems) {
    // Who watches is missed by nobody's visitors.
    let serving = || hosts.roles.iter().filter(|(role, _)| **role != Role::Monitor);
    let Some((most, many)) = serving().max_by_key(|(_, entries)| entries.len()) else { return };
    if many.len() < 2 {
        // Of several machines one alone holds the data, and nothing can take its place.
        let of_one =
            |entry: &&&Entry| hosts.whole.values().any(|h| h.name.as_str() == entry.key.text && h.roles.len() == 1);
        let db = hosts.roles.get(&Role::Db).and_then(|entries| entries.first()).filter(of_one);
        if let Some(only) = db.filter(|_| hosts.whole.len() > 1) {
            problems.push(
                Diagnostic::warning(Warning::SingleHost, format!("`{}` is the only database host", only.key.text))
                    .at(&only.key.mark.span())
                    .label("all sites stop when this host stops, and its data stand nowhere else")
                    .help("give a second host `roles: [db]`: it becomes a replica, to which the writer can move"),
            );
        }
        return;
    }
    for (role, entries) in serving() {
        if let [only] = entries[..] {
            problems.push(
                Diagnostic::warning(
                    Warning::SingleHost,
                    format!("`{}` is the only host of the role `{role}`", only.key.text),
                )
                .at(&only.key.mark.span())
                .label("all sites stop when this host stops")
                .help(format!("`{most}` has {}: give `{role}` a second one", count(many.len(), "host"))),
            );
        }
    }
}

//! Our own way in: takes planned rules and the address that hosts see us by, gives the hosts that would lock us out. Law 4.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{Cidr, HostName, Port};
use crate::fleet::survey::Prepared;
use crate::host::reach;
use crate::inventory::site::{Host, Site};
use crate::plan::ruleset::{Direction, Rule, Ruleset};
use crate::service::firewall::admit;

/// The port of sshd on a host.
fn ssh_port(host: &Host) -> Port {
    host.ssh.port.or_else(|| Port::try_from(22).ok()).unwrap_or(Port::HTTPS)
}

/// Whether a host's new rules admit the address that we come from.
pub fn admitted(host: &Host, rules: &Ruleset, ours: IpAddr) -> bool {
    admit::controller_is_admitted(rules, ours, ssh_port(host))
}

/// The first half of law 4: no plan in which a host's new rules do not admit the address that we come from. Takes the
/// hosts that would be cut off, by that address.
pub fn errors(site: &Site, cut: &BTreeMap<IpAddr, BTreeSet<HostName>>) -> Vec<Diagnostic> {
    let lines: Vec<String> = site.firewall.manage_from.iter().map(|(net, place)| format!("{net} ({place})")).collect();
    let errors = cut.iter().map(|(address, hosts)| {
        let names: Vec<&str> = hosts.iter().take(6).map(HostName::as_str).collect();
        let more = hosts.len() - names.len();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = names.join(", ");
        Diagnostic::error(format!(
            "the new firewall would lock this controller out: {names}{rest} see it as {address}, which `firewall.manage_from` does not let in, or `firewall.block` drops"
        ))
        .help(format!("`manage_from` is {}; add a network that holds {address}", lines.join(", ")))
    });
    errors.collect()
}

/// Through which host of the inventory each other one is reached: the one whose address it sees us come from.
pub fn through(site: &Site, seen: &BTreeMap<HostName, IpAddr>) -> BTreeMap<HostName, HostName> {
    let mut owners: HashMap<IpAddr, Vec<&HostName>> = HashMap::new();
    for host in site.hosts.values() {
        host.addresses.iter().chain(&host.public).for_each(|own| owners.entry(*own).or_default().push(&host.name));
    }
    let known = seen.iter().filter(|(host, _)| site.hosts.contains_key(*host));
    let ways = known.filter_map(|(host, source)| {
        let jump = owners.get(source)?.iter().find(|other| **other != host)?;
        Some((host.clone(), (*jump).clone()))
    });
    ways.collect()
}

/// What hosts have seen of our way that the rules were not made for: which of them are reached through which host, or no longer are.
/// With what they saw kept, the next plan is made for it.
pub fn learned(site: &Site, seen: &BTreeMap<HostName, IpAddr>) -> Vec<String> {
    let now = through(site, seen);
    let changed =
        seen.keys().filter(|host| site.hosts.contains_key(*host) && now.get(*host) != site.through.get(*host));
    let mut ways: BTreeMap<Option<&HostName>, Vec<&str>> = BTreeMap::new();
    for host in changed {
        ways.entry(now.get(host)).or_default().push(host.as_str());
    }
    let words = ways.into_iter().map(|(jump, hosts)| {
        let (are, hosts) = (if hosts.len() == 1 { "is" } else { "are" }, hosts.join(", "));
        match jump {
            Some(jump) => {
                format!("{hosts} {are} reached through {jump}: the rules of both ends let management through")
            }
            None => format!("{hosts} {are} reached directly now: no rule is kept for another way"),
        }
    });
    words.collect()
}

/// Hosts that are reached through another one, whose new rules would not let us out to them.
fn shut_in(site: &Site, prepared: &Prepared) -> Vec<Diagnostic> {
    let planned = |host: &HostName| prepared.plan.hosts.get(host).is_some_and(|plan| !plan.is_empty());
    let shut = site.through.iter().filter(|(_, jump)| planned(jump)).filter_map(|(host, jump)| {
        let rules = prepared.desired.get(jump)?.firewall.as_ref()?;
        let host = site.hosts.get(host)?;
        let target = host.ssh.address.as_ref().map_or_else(|| host.addresses.first().copied(), |a| a.parse().ok())?;
        let opens = |rule: &Rule| {
            let peer = rule.peers.is_empty() || rule.peers.hold(&Cidr::from(target));
            rule.direction == Direction::Out && rule.port == Some(ssh_port(host)) && rule.uids.is_empty() && peer
        };
        (!rules.rules.iter().any(opens)).then(|| {
            Diagnostic::error(format!(
                "the new firewall of {jump} would lock this controller out of {}, which is reached through {jump} at {target}",
                host.name
            ))
            .help(format!("allow it: `firewall: {{ allow: [{{ to: {}, port: {}, from: [{jump}], why: management }}] }}`", host.name, ssh_port(host)))
        })
    });
    shut.collect()
}

/// The hosts whose planned rules would cut off the controller, by the address at which they see it.
pub fn cut_off(site: &Site, prepared: &Prepared) -> BTreeMap<IpAddr, BTreeSet<HostName>> {
    let mut cut: BTreeMap<IpAddr, BTreeSet<HostName>> = BTreeMap::new();
    for (name, _) in prepared.plan.hosts.iter().filter(|(_, plan)| !plan.is_empty()) {
        let rules = prepared.desired.get(name).and_then(|d| d.firewall.as_ref());
        let ours = prepared.survey.observed.get(name).and_then(|seen| seen.controller);
        if let (Some(host), Some(rules), Some(ours)) = (site.hosts.get(name), rules, ours)
            && !admitted(host, rules, ours)
        {
            cut.entry(ours).or_default().insert(name.clone());
        }
    }
    cut
}

/// All that speaks against the planned rules: they lock us out by our address, on the way to other hosts, or by the port at which the hosts are entered.
pub fn refusals(site: &Site, prepared: &Prepared) -> Vec<Diagnostic> {
    let mut refusals = errors(site, &cut_off(site, prepared));
    refusals.extend(shut_in(site, prepared));
    // By the port that was seen and the one of the inventory.
    let mut astray: BTreeMap<(Port, Option<Port>), BTreeSet<&HostName>> = BTreeMap::new();
    for (name, _) in prepared.plan.hosts.iter().filter(|(_, plan)| !plan.is_empty()) {
        let rules = prepared.desired.get(name).and_then(|d| d.firewall.as_ref());
        let (Some(host), Some(rules), Some(seen)) = (site.hosts.get(name), rules, prepared.survey.observed.get(name))
        else {
            continue;
        };
        if let (Some(ours), Some(port)) = (seen.controller, seen.entrance)
            && admitted(host, rules, ours)
            && !admit::controller_is_admitted(rules, ours, port)
        {
            astray.entry((port, host.ssh.port)).or_default().insert(name);
        }
    }
    refusals.extend(astray.into_iter().map(|((seen, named), hosts)| wrong_door(seen, named, &hosts)));
    refusals
}

/// sshd is entered at another port than the rules open.
fn wrong_door(seen: Port, named: Option<Port>, hosts: &BTreeSet<&HostName>) -> Diagnostic {
    let those = hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(", ");
    let open = named.map_or_else(|| "22".to_owned(), |port| port.to_string());
    let (is, its) = if hosts.len() == 1 { ("is", "its") } else { ("are", "their") };
    let error = Diagnostic::error(format!(
        "the new firewall would lock this controller out: {those} {is} entered by SSH at port {seen}, and {its} rules open SSH at {open}"
    ));
    error.help(if named.is_none() {
        format!(
            "the port stands in your ssh configuration alone: write `ssh: {{ port: {seen} }}` into the inventory too"
        )
    } else {
        let first = hosts.iter().next().map_or("HOST", |host| host.as_str());
        format!(
            "something translates the port on the way: open what sshd sees, with an entry of `firewall.allow`: \
             `{{ to: {first}, port: {seen}, from: [NETWORK], why: SSH behind the translation }}`"
        )
    })
}

/// The addresses that this machine would use towards the hosts; no packet is sent. Wrong behind NAT or a jump host, so
/// only good for a warning.
pub fn local_addresses(site: &Site) -> BTreeMap<HostName, IpAddr> {
    let direct = site.hosts.values().filter(|h| h.ssh.jump.is_none() && h.ssh.address.is_none());
    direct.filter_map(|host| Some((host.name.clone(), reach::local_address(*host.addresses.first()?)?))).collect()
}

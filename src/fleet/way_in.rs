//! Our own way in: takes planned rules and the address that hosts see us by, gives the hosts that would lock us out. Law 4.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{HostName, Port};
use crate::fleet::measure;
use crate::fleet::survey::Prepared;
use crate::inventory::site::{Host, Site};
use crate::plan::ruleset::Ruleset;
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

/// All that speaks against the planned rules: they lock us out by our address, or by the port at which the hosts are entered.
pub fn refusals(site: &Site, prepared: &Prepared) -> Vec<Diagnostic> {
    let mut refusals = errors(site, &cut_off(site, prepared));
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
    let names = hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(", ");
    let open = named.map_or_else(|| "22".to_owned(), |port| port.to_string());
    let (is, its) = if hosts.len() == 1 { ("is", "its") } else { ("are", "their") };
    let error = Diagnostic::error(format!(
        "the new firewall would lock this controller out: {names} {is} entered by SSH at port {seen}, and {its} rules open SSH at {open}"
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
    direct.filter_map(|host| Some((host.name.clone(), measure::local_address(*host.addresses.first()?)?))).collect()
}

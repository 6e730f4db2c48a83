//! `firewall:`: takes the section, gives the policy, and refuses rules that nothing can match or that cut us off.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::hosts::Hosts;
use super::{missing, names};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::Cidr;
use crate::base::proto::Proto;
use crate::base::warning::Warning;
use crate::inventory::raw::{Mark, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Allow, Backend, FirewallPolicy, Host, Party, Role};

/// A network and where it stands.
type Placed<'a> = (Cidr, &'a Node);

const MANAGE: &str =
    "write `manage_from: [10.0.0.0/24]`: the networks that you manage the hosts from; nobody else can open SSH";

/// Reads the section.
pub(super) fn firewall(root: Fields<'_>, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<FirewallPolicy> {
    let help = "write `firewall: { manage_from: [10.0.0.0/24] }`, with the networks that you manage the hosts from; nobody else can open SSH";
    let entry = problems.require(root, "the inventory", "firewall", help)?;
    let fields =
        problems.fields(entry, "`firewall`", &["backend", "manage_from", "allow", "forward", "block", "resolvers"])?;
    let backend = fields.value("backend").map_or(Some(Backend::Nftables), |node| {
        problems.word(node, "backend", &[("nftables", Backend::Nftables), ("iptables", Backend::Iptables)])
    });
    let manage = manage_from(fields, &entry.key.mark, problems);
    let block = fields.value("block").map(|node| networks(node, "block", problems)).unwrap_or_default();
    let allow = fields.value("allow").map(|node| allow(node, hosts, &block, problems)).unwrap_or_default();
    // An empty list says that nothing is meant to be forwarded; without the key nobody has spoken of it.
    let forward = fields.written("forward").map(|entry| forward(&entry.value, hosts, problems));
    let resolvers = fields.value("resolvers").map(|node| resolvers(node, problems)).unwrap_or_default();
    way_in(&manage, &block, hosts, problems);
    let placed = |list: Vec<Placed<'_>>| list.into_iter().map(|(net, node)| (net, node.mark.place())).collect();
    Some(FirewallPolicy {
        backend: backend?,
        manage_from: placed(manage),
        allow,
        forward,
        block: placed(block),
        resolvers,
    })
}

/// Networks of a list, or one.
pub(super) fn networks<'a>(node: &'a Node, key: &str, problems: &mut Problems) -> Vec<Placed<'a>> {
    let items = problems.some(node, key, "[198.51.100.0/24]").unwrap_or_default();
    let mut out: Vec<Placed<'_>> = Vec::new();
    let mut seen: BTreeMap<Cidr, &Node> = BTreeMap::new();
    for item in items {
        let Some(net) = problems.parse::<Cidr>(item, key) else { continue };
        if let Some(first) = seen.insert(net, item) {
            problems.push(
                Diagnostic::warning(Warning::NetworkTwice, format!("`{net}` is given twice"))
                    .at(&item.span())
                    .related(&first.span(), "first given here")
                    .help("remove one"),
            );
            continue;
        }
        out.push((net, item));
    }
    out
}

fn manage_from<'a>(fields: Fields<'a>, head: &Mark, problems: &mut Problems) -> Vec<Placed<'a>> {
    let Some(entry) = fields.written("manage_from") else {
        if fields.lacks("manage_from") {
            problems.push(missing(head, "`firewall` has no `manage_from`", MANAGE));
        }
        return Vec::new();
    };
    let node = &entry.value;
    if node.is_nothing() {
        problems.push(Diagnostic::error("`manage_from` is empty: nobody could open SSH").at(&node.span()).help(MANAGE));
        return Vec::new();
    }
    let nets = networks(node, "manage_from", problems);
    for (net, node) in &nets {
        if net.net().prefix_len() == 0 {
            problems.push(
                Diagnostic::warning(Warning::OpenSsh, format!("`{net}` lets the whole internet try to log in"))
                    .at(&node.span())
                    .help("name the networks that you manage the hosts from"),
            );
        }
    }
    nets
}

fn resolvers(node: &Node, problems: &mut Problems) -> Vec<IpAddr> {
    let mut out = Vec::new();
    for item in problems.some(node, "resolvers", "[10.0.0.53]").unwrap_or_default() {
        let Some(text) = problems.text(item, "resolvers") else { continue };
        match text.parse::<IpAddr>() {
            Ok(address) => out.push(address),
            Err(_) => problems.push(
                Diagnostic::error(format!("`{text}` is not an address"))
                    .at(&item.span())
                    .help("write the addresses of the name servers that the hosts ask"),
            ),
        }
    }
    out
}

/// What would cut the controller's, or the tiers', way in.
fn way_in(manage: &[Placed<'_>], block: &[Placed<'_>], hosts: &Hosts<'_>, problems: &mut Problems) {
    for (blocked, node) in block {
        let covers = |net: &Cidr| blocked.net().contains(&net.net());
        if let Some((net, first)) = manage.iter().find(|(net, _)| covers(net)) {
            problems.push(
                Diagnostic::error(format!("`{blocked}` blocks `{net}` of `manage_from`: you would be locked out"))
                    .at(&node.span())
                    .related(&first.span(), "the networks that may open SSH")
                    .help("`block` is applied before all rules: take this network out of one of the two lists"),
            );
        } else if let Some((net, first)) = manage.iter().find(|(net, _)| net.net().contains(&blocked.net())) {
            problems.push(
                Diagnostic::warning(
                    Warning::BlockedPart,
                    format!("`{blocked}` blocks a part of `{net}` of `manage_from`"),
                )
                .at(&node.span())
                .related(&first.span(), "the networks that may open SSH")
                .help("make sure that you do not manage the hosts from the blocked part"),
            );
        }
        if problems.0.last().is_some_and(|d| d.is_error() && d.span.as_ref() == Some(&node.span())) {
            continue; // told already
        }
        let hit = hosts.whole.values().find_map(|host| {
            host.addresses.iter().chain(&host.public).find(|a| blocked.contains(**a)).map(|a| (host, a))
        });
        if let Some((host, address)) = hit {
            problems.push(
                Diagnostic::error(format!("`{blocked}` blocks `{address}` of the host `{}`", host.name))
                    .at(&node.span())
                    .help("the hosts must reach each other: block smaller networks"),
            );
        }
    }
    if manage.is_empty() {
        return;
    }
    // One diagnostic a family: the first host that could not be reached.
    for ipv4 in [true, false] {
        if manage.iter().any(|(net, _)| net.is_ipv4() == ipv4) {
            continue;
        }
        let cut = |host: &&Host| {
            host.ssh.address.is_none()
                && host.ssh.jump.is_none()
                && host.addresses.first().is_some_and(|a| a.is_ipv4() == ipv4)
        };
        if let (Some(host), Some((_, node))) = (hosts.whole.values().find(cut), manage.first()) {
            let (family, address) = (if ipv4 { "IPv4" } else { "IPv6" }, host.addresses.first());
            let address = address.map(ToString::to_string).unwrap_or_default();
            problems.push(
                Diagnostic::error(format!(
                    "`manage_from` has no {family} network, and SSH connects to `{address}` of `{}`: you would be locked out",
                    host.name
                ))
                .at(&node.span())
                .help(format!("add the {family} network that you manage the hosts from")),
            );
        }
    }
}

fn allow(node: &Node, hosts: &Hosts<'_>, block: &[Placed<'_>], problems: &mut Problems) -> Vec<Allow> {
    let example = "[{ to: web, port: 9000, from: [198.51.100.7], why: status checks of the CDN }]";
    let items = problems.list(node, "allow", example).unwrap_or_default();
    items.iter().filter_map(|item| rule(item, hosts, block, problems)).collect()
}

fn rule(item: &Node, hosts: &Hosts<'_>, block: &[Placed<'_>], problems: &mut Problems) -> Option<Allow> {
    let what = "the rule";
    let fields = problems.fields_of(item, &item.mark, "a rule", &["to", "from", "port", "proto", "why"])?;
    let there = hosts.some_role(&[Role::Web, Role::App, Role::Lb, Role::Db, Role::Monitor]);
    let help = format!("write `to: {there}`: the role or host that may be reached");
    let to_entry = problems.require(fields, what, "to", &help);
    let to = to_entry.and_then(|e| names::party(&e.value, "to", hosts, problems));
    let from_entry =
        problems.require(fields, what, "from", "write `from: [198.51.100.7]`: the addresses that may reach it");
    let from = from_entry.and_then(|e| problems.some(&e.value, "from", "[198.51.100.7]")).map(|items| {
        let parties = items.into_iter().map(|item| Some((names::party(item, "from", hosts, problems)?, item)));
        parties.collect::<Vec<_>>()
    });
    let proto = proto(fields, Proto::Tcp, problems);
    let port = if proto.is_none_or(Proto::has_ports) {
        let help = "write `port: 9000`: the destination port";
        problems.require(fields, what, "port", help).and_then(|e| problems.port(&e.value, "port")).map(Some)
    } else {
        no_port(fields, proto, problems);
        Some(None)
    };
    let help = "write `why: the reason`: it shows in the matrix, for a colleague who asks in a year";
    let why = problems.require(fields, what, "why", help).and_then(|e| problems.text(&e.value, "why"));
    if let (Some(to), Some(from), Some(to_entry)) = (&to, &from, to_entry) {
        for (party, node) in from.iter().flatten() {
            if let Some((message, help)) = futile(to, party, hosts, block) {
                let diagnostic = Diagnostic::error(message).at(&node.span()).related(&to_entry.value.span(), "to here");
                problems.push(diagnostic.help(help));
            } else if port.flatten().is_some_and(|port| port.get() == 22) && is_everyone(party) {
                problems.push(
                    Diagnostic::warning(Warning::OpenSsh, "this lets the whole internet try to log in")
                        .at(&node.span())
                        .help("name the networks that need SSH, best in `manage_from`"),
                );
            } else if *to == Party::Role(Role::Db) && is_everyone(party) {
                problems.push(
                    Diagnostic::warning(Warning::OpenDatabase, "this opens the databases to the internet")
                        .at(&node.span())
                        .help("name the addresses that need it"),
                );
            }
        }
    }
    let from = from?.into_iter().map(|party| party.map(|(party, _)| party)).collect::<Option<Vec<Party>>>()?;
    let (port, why, place) = (port?, why?.to_owned(), item.mark.place());
    Some(Allow { to: to?, from, port, proto: proto?, through: None, why, place })
}

/// `proto:` by name or number.
fn proto(fields: Fields<'_>, unsaid: Proto, problems: &mut Problems) -> Option<Proto> {
    fields.value("proto").map_or(Some(unsaid), |node| {
        let found = problems.parse::<Proto>(node, "proto")?;
        if found == Proto::Any && unsaid != Proto::Any {
            let error = Diagnostic::error("`any` is a protocol of `firewall.forward` alone").at(&node.span());
            problems.push(error.help("write a rule for each protocol that is to be open"));
            return None;
        }
        Some(found)
    })
}

fn no_port(fields: Fields<'_>, proto: Option<Proto>, problems: &mut Problems) {
    if let (Some(node), Some(proto)) = (fields.value("port"), proto) {
        let error = Diagnostic::error(format!("a port is for `proto: tcp` and `proto: udp`, and this is `{proto}`"));
        problems.push(error.at(&node.span()).help("remove `port`, or write the protocol that has it"));
    }
}

/// What hosts forward for others: `{ through: gw1, from: [10.8.0.0/24], to: internet, why: … }`.
fn forward(node: &Node, hosts: &Hosts<'_>, problems: &mut Problems) -> Vec<Allow> {
    if matches!(&node.value, crate::inventory::raw::Value::List(items) if items.is_empty()) {
        return Vec::new();
    }
    let example = "[{ through: gw1, from: [10.8.0.0/24], to: internet, why: the people of the VPN }]";
    let items = problems.list(node, "forward", example).unwrap_or_default();
    items.iter().filter_map(|item| forwarded(item, hosts, problems)).collect()
}

fn forwarded(item: &Node, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<Allow> {
    let what = "the entry";
    let known = &["through", "from", "to", "port", "proto", "why"];
    let fields = problems.fields_of(item, &item.mark, "an entry", known)?;
    let help = "write `through: gw1`: the host or role that forwards";
    let through = problems.require(fields, what, "through", help).and_then(|entry| {
        let party = names::party(&entry.value, "through", hosts, problems)?;
        if matches!(party, Party::Net(_) | Party::Internet) {
            let error = Diagnostic::error(format!("`{party}` is no host of the inventory"));
            problems.push(error.at(&entry.value.span()).help("name the host or role that forwards"));
            return None;
        }
        Some(party)
    });
    let help = "write `from: [10.8.0.0/24]`: the networks whose connections are forwarded";
    let from = problems.require(fields, what, "from", help);
    let from = from
        .and_then(|entry| problems.some(&entry.value, "from", "[10.8.0.0/24]"))
        .map(|items| items.into_iter().map(|item| names::party(item, "from", hosts, problems)).collect::<Vec<_>>());
    let help = "write `to: internet`, or a network, a role or a host: where they go";
    let to = problems.require(fields, what, "to", help).and_then(|e| names::party(&e.value, "to", hosts, problems));
    let port = fields.value("port").map(|node| problems.port(node, "port"));
    let proto = proto(fields, if port.is_some() { Proto::Tcp } else { Proto::Any }, problems);
    if !proto.is_none_or(Proto::has_ports) {
        no_port(fields, proto, problems);
    }
    let help = "write `why:` and the reason: it shows in the matrix, for a colleague who asks in a year";
    let why = problems.require(fields, what, "why", help).and_then(|e| problems.text(&e.value, "why"));
    let port = match port {
        Some(port) => Some(port?),
        None => None,
    };
    let (from, place) = (from?.into_iter().collect::<Option<Vec<Party>>>()?, item.mark.place());
    Some(Allow { to: to?, from, port, proto: proto?, through: Some(through?), why: why?.to_owned(), place })
}

fn is_everyone(party: &Party) -> bool {
    matches!(party, Party::Internet) || matches!(party, Party::Net(net) if net.net().prefix_len() == 0)
}

/// Why a rule would match nothing, and what to do.
fn futile(to: &Party, from: &Party, hosts: &Hosts<'_>, block: &[Placed<'_>]) -> Option<(String, &'static str)> {
    let outside = |party: &Party| matches!(party, Party::Net(_) | Party::Internet);
    if outside(to) && outside(from) {
        return Some((
            format!("nothing can match: neither `{from}` nor `{to}` is a host of the inventory"),
            "name a role or a host on one of the two sides",
        ));
    }
    if let (Party::Host(a), Party::Host(b)) = (to, from)
        && a == b
    {
        return Some((format!("nothing can match: `{a}` reaches itself without a rule"), "remove the rule"));
    }
    if let Party::Net(net) = from
        && let Some((blocked, _)) = block.iter().find(|(blocked, _)| blocked.net().contains(&net.net()))
    {
        return Some((
            format!("nothing can match: `{blocked}` of `block` is applied before"),
            "take the network out of one of the two lists",
        ));
    }
    let families = |party: &Party| -> Option<(bool, bool)> {
        match party {
            Party::Net(net) => Some((net.is_ipv4(), !net.is_ipv4())),
            Party::Internet => Some((true, true)),
            Party::Role(role) => family(hosts, |host| host.has(*role)),
            Party::Host(name) => family(hosts, |host| host.name == *name),
            Party::All => family(hosts, |_| true),
        }
    };
    let (to_families, from_families) = (families(to)?, families(from)?);
    let common = (to_families.0 && from_families.0) || (to_families.1 && from_families.1);
    if !common {
        return Some((
            format!("nothing can match: `{from}` and `{to}` have no address family in common"),
            "IPv4 does not reach IPv6: name addresses of the family that both have",
        ));
    }
    None
}

/// Which families the addresses of some hosts have; `None` when that is not certain.
fn family(hosts: &Hosts<'_>, wanted: impl Fn(&Host) -> bool) -> Option<(bool, bool)> {
    if hosts.whole.len() < hosts.entries.len() {
        return None;
    }
    let mut found = None;
    for host in hosts.whole.values().filter(|host| wanted(host)) {
        let (v4, v6) = found.unwrap_or((false, false));
        let mut all = host.addresses.iter().chain(&host.public);
        found = Some((v4 || all.clone().any(IpAddr::is_ipv4), v6 || all.any(IpAddr::is_ipv6)));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::inventory::load::load_text;

    #[test]
    fn to_forward_nothing_on_purpose_is_not_to_say_nothing() {
        let forward = |key: &str| {
            let text = format!(
                "name: shop\nhosts: {{ mon1: {{ address: 10.0.9.11, roles: [monitor] }} }}\n\
                 firewall: {{ manage_from: [10.0.0.0/24]{key} }}\n"
            );
            load_text(&text, Path::new("inventory.yml"))
                .unwrap_or_else(|errors| panic!("{errors:?}"))
                .0
                .firewall
                .forward
        };
        assert_eq!(forward("").map(|all| all.len()), None);
        assert_eq!(forward(", forward: []").map(|all| all.len()), Some(0));
    }
}

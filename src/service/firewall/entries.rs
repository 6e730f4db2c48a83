//! The connections that a host's rules let in, as somebody outside of it may try them: takes rulesets and addresses, gives where to
//! connect to and by which flow. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::base::net::{HostName, Port};
use crate::base::nets::Nets;
use crate::base::proto::Proto;
use crate::plan::ruleset::{Direction, MANAGE, Rule, Ruleset};

use super::admit::{Decision, admits, decide};
use super::listening;

/// How many hosts try the same port of one host: one that is refused by what is beside infra's rules refuses all of them.
const SOURCES: usize = 2;

/// Where a connection is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// At this address of the host.
    pub address: IpAddr,
    /// At this TCP port.
    pub port: Port,
    /// By this flow, `internet -> lb`.
    pub flow: String,
    /// Whether anybody is let in, not only some networks.
    pub open: bool,
}

impl Entry {
    /// Its flow and port, for a person: `internet -> lb 443/tcp`.
    pub fn words(&self) -> String {
        format!("{} {}", self.flow, Proto::Tcp.at(Some(self.port)))
    }
}

/// SSH is proved by the run's own connections, and what is open only while a run lasts is no flow that anybody declared.
fn is_tried(rule: &Rule) -> bool {
    !rule.flow.starts_with(MANAGE) && !rule.is_passage()
}

/// The TCP ports at which `set` lets anybody in.
pub fn ports(set: &Ruleset) -> BTreeSet<Port> {
    listening(set)
}

/// What `set` lets in over TCP at `addresses`. `source` is the address from which each of them would be met, none where it cannot be.
pub fn entries(set: &Ruleset, addresses: &[IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) -> BTreeSet<Entry> {
    let mut found = BTreeSet::new();
    for address in addresses {
        let Some(from) = source(*address) else { continue };
        for port in listening(set) {
            let decision = decide(set, Direction::In, Proto::Tcp, Some(port), from.into(), None);
            if let Decision::Accepted(rule) = decision
                && is_tried(rule)
            {
                let open = rule.peers.is_empty();
                found.insert(Entry { address: *address, port, flow: rule.flow.clone(), open });
            }
        }
    }
    found
}

/// What hosts are to try at other hosts, by who tries and at whom: what the rules of both ends let through for any user. Of all who
/// may, a few try it.
pub fn between(
    fleet: &BTreeMap<HostName, (&Ruleset, &[IpAddr])>,
) -> BTreeMap<HostName, BTreeMap<HostName, BTreeSet<Entry>>> {
    let owners: BTreeMap<IpAddr, &HostName> =
        fleet.iter().flat_map(|(host, (_, addresses))| addresses.iter().map(move |address| (*address, host))).collect();
    // Who may come is the same for all hosts that have the same peers: it is found once, by family.
    let mut behind: BTreeMap<(&Nets, bool), Vec<(IpAddr, &HostName)>> = BTreeMap::new();
    let mut found: BTreeMap<HostName, BTreeMap<HostName, BTreeSet<Entry>>> = BTreeMap::new();
    for (at, (to, (set, addresses))) in fleet.iter().enumerate() {
        let inward = set.rules.iter().filter(|rule| rule.direction == Direction::In && rule.proto == Proto::Tcp);
        for rule in inward.filter(|rule| is_tried(rule)) {
            let Some(port) = rule.port else { continue };
            for address in *addresses {
                let sources = behind.entry((&rule.peers, address.is_ipv4())).or_insert_with(|| {
                    let alone = rule.peers.iter().filter(|net| net.is_one() && net.is_ipv4() == address.is_ipv4());
                    let peers = alone.map(|net| net.net().addr());
                    peers.filter_map(|peer| Some((peer, *owners.get(&peer)?))).collect()
                });
                // Not the same ones everywhere, or those would have all the work.
                let turn = if sources.is_empty() { 0 } else { at % sources.len() };
                let reaches = |(from, host): &&(IpAddr, &HostName)| {
                    let out = fleet
                        .get(*host)
                        .is_some_and(|(theirs, _)| admits(theirs, Direction::Out, Proto::Tcp, port, *address));
                    *host != to && out && admits(set, Direction::In, Proto::Tcp, port, *from)
                };
                let (before, after) = sources.split_at(turn);
                let sources = after.iter().chain(before).filter(reaches);
                for (_, from) in sources.take(SOURCES) {
                    let entry = Entry { address: *address, port, flow: rule.flow.clone(), open: false };
                    found.entry((*from).clone()).or_default().entry(to.clone()).or_default().insert(entry);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::service::firewall::{flows, rules};
    use crate::service::platform;

    const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: [10.0.1.11, \"fd00::11\"], roles: [lb], public: 203.0.113.11 }
  web1: { address: [10.0.2.11, \"fd00::21\"], roles: [web] }
  web2: { address: 10.0.2.12, roles: [web] }
firewall:
  manage_from: [10.0.0.0/24]
  block: [10.0.0.66]
  allow:
    - { to: web, port: 9000, from: [10.0.0.0/24], why: checks }
sites:
  a.example.com: { static: { root: /srv, prefix: / } }
certificates: { issuer: internal }
";

    #[test]
    fn what_is_tried_is_what_the_rules_let_in_and_no_ssh() {
        let site = load_text(INVENTORY, Path::new("inventory.yml")).unwrap().0;
        let flows = flows::derive(&site);
        let sets: BTreeMap<HostName, Ruleset> = site
            .hosts
            .values()
            .map(|host| (host.name.clone(), rules::host_ruleset(&site, host, &platform::oldest(), &flows)))
            .collect();
        let tried = |host: &str, from: &str| -> Vec<String> {
            let host = &site.hosts[&host.parse().unwrap()];
            let from: IpAddr = from.parse().unwrap();
            let all: Vec<IpAddr> = host.public.iter().chain(&host.addresses).copied().collect();
            let found = entries(&sets[&host.name], &all, |to| Some(from).filter(|from| from.is_ipv4() == to.is_ipv4()));
            found.iter().map(|entry| format!("{} {}", entry.address, entry.words())).collect()
        };
        let lb = ["10.0.1.11 internet -> lb 80/tcp", "10.0.1.11 internet -> lb 443/tcp"];
        let public = ["203.0.113.11 internet -> lb 80/tcp", "203.0.113.11 internet -> lb 443/tcp"];
        assert_eq!(tried("lb1", "192.0.2.1"), [lb, public].concat());
        assert_eq!(tried("lb1", "10.0.0.66"), [""; 0], "whom the inventory blocks");
        assert_eq!(tried("web1", "192.0.2.1"), [""; 0]);
        assert_eq!(tried("web1", "10.0.0.9"), ["10.0.2.11 10.0.0.0/24 -> web 9000/tcp"]);
        let fleet = site.hosts.values().map(|host| (host.name.clone(), (&sets[&host.name], host.addresses.as_slice())));
        let between = between(&fleet.collect());
        let told: Vec<String> = between
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |(to, entries)| (from, to, entries)))
            .flat_map(|(from, to, entries)| {
                entries.iter().map(move |entry| format!("{from} {to} {} {}", entry.address, entry.port))
            })
            .collect();
        assert_eq!(told, ["lb1 web1 10.0.2.11 8443", "lb1 web1 fd00::21 8443", "lb1 web2 10.0.2.12 8443"]);
    }
}

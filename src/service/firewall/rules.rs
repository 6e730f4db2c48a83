//! What one host's firewall accepts: takes the flows of a fleet once, gives each host's [`Ruleset`]. Who stands behind a party is
//! found once for all hosts that meet it in the same families.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::base::net::{Cidr, HostName, Port};
use crate::base::nets::Nets;
use crate::base::proto::Proto;
use crate::inventory::site::{Families, Host, Party, Site};
use crate::plan::decision::Passage;
use crate::plan::ruleset::{Direction, PASSAGE, Rule, Ruleset};
use crate::plan::state::Facts;
use crate::service::firewall::{GUEST_FORWARDING, apt_uid};

use super::flows::{APT_UID, Flow, is_host, way};

/// The flows of a fleet, as each host finds those that concern it.
#[derive(Debug)]
pub struct Rules<'a> {
    site: &'a Site,
    flows: &'a [Flow],
    /// Those with a role or all hosts on a side.
    of_many: Vec<&'a Flow>,
    /// Those with this host on a side, and no role.
    of_one: HashMap<&'a HostName, Vec<&'a Flow>>,
    /// Who stands behind a role or all hosts, as far as they are met in these families; and whether at their public addresses too.
    members: Mutex<HashMap<(Party, Families, bool), Nets>>,
}

impl<'a> Rules<'a> {
    /// Those of `flows`.
    pub fn of(site: &'a Site, flows: &'a [Flow]) -> Self {
        let mut owners: HashMap<IpAddr, Vec<&'a HostName>> = HashMap::new();
        let mut rules = Self { site, flows, of_many: Vec::new(), of_one: HashMap::new(), members: Mutex::default() };
        if flows.iter().flat_map(sides).any(|side| matches!(side, Party::Net(_))) {
            for host in site.hosts.values() {
                host.addresses.iter().chain(&host.public).for_each(|a| owners.entry(*a).or_default().push(&host.name));
            }
        }
        for flow in flows {
            if sides(flow).any(|side| matches!(side, Party::Role(_) | Party::All)) {
                rules.of_many.push(flow);
                continue;
            }
            let hosts: BTreeSet<&HostName> = sides(flow)
                .flat_map(|side| match side {
                    Party::Host(name) => vec![name],
                    // A network of one address is the host that has it.
                    Party::Net(net) if net.is_one() => owners.get(&net.net().addr()).cloned().unwrap_or_default(),
                    _ => Vec::new(),
                })
                .collect();
            for host in hosts {
                rules.of_one.entry(host).or_default().push(flow);
            }
        }
        rules
    }

    /// All flows of the fleet.
    pub fn flows(&self) -> &'a [Flow] {
        self.flows
    }

    /// What one host's firewall accepts.
    pub fn host(&self, host: &Host, facts: &Facts) -> Ruleset {
        Ruleset {
            backend: self.site.firewall.backend,
            rules: self.rules(host, apt_uid(facts)),
            block: self.site.firewall.block.iter().map(|(net, _)| *net).collect(),
            guest_forwarding: GUEST_FORWARDING.of(facts),
        }
    }

    /// The rules of flows on one host, where `apt` fetches packages. Flows of the same name, port, protocol and users become one rule.
    fn rules(&self, host: &Host, apt: u32) -> BTreeSet<Rule> {
        type Key = (Direction, Proto, Option<Port>, BTreeSet<u32>, Nets, String);
        let mut merged: BTreeMap<Key, Option<Nets>> = BTreeMap::new();
        let mut add = |key: Key, found: Option<Nets>| {
            // An empty set here is «nobody» (all peers are the host itself or of a family that it lacks), not «anyone».
            if found.as_ref().is_some_and(|nets| nets.is_empty()) {
                return;
            }
            match merged.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(found);
                }
                Entry::Occupied(mut entry) => {
                    let both = entry.get_mut().take().zip(found).map(|(before, more)| before.union(more));
                    entry.insert(both);
                }
            }
        };
        for flow in self.of_many.iter().chain(self.of_one.get(&host.name).into_iter().flatten()) {
            let (proto, port, nobody) = (flow.proto, flow.port, Nets::default);
            if let Some(through) = &flow.through {
                if is_host(through, host) {
                    let beyond = self.peers(&flow.to, host, true);
                    // Nobody on either side is not anyone.
                    if beyond.as_ref().is_none_or(|nets| !nets.is_empty()) {
                        let beyond = beyond.unwrap_or_default();
                        let key = (Direction::Through, proto, port, BTreeSet::new(), beyond, flow.name());
                        add(key, self.peers(&flow.from, host, false));
                    }
                }
                continue;
            }
            // Those who speak to all of their neighbours at once, and in IPv6 from the link's own address.
            let with_groups = |found: Option<Nets>, more: &[&str]| {
                if proto.groups().is_empty() {
                    return found;
                }
                found.map(|found| {
                    let fits = |net: &Cidr| found.iter().any(|peer| peer.is_ipv4() == net.is_ipv4());
                    let more: Nets = more.iter().filter_map(|net| net.parse().ok()).filter(fits).collect();
                    found.union(more)
                })
            };
            if is_host(&flow.to, host) {
                let key = (Direction::In, proto, port, BTreeSet::new(), nobody(), flow.name());
                add(key, with_groups(self.peers(&flow.from, host, false), &["fe80::/10"]));
            }
            if is_host(&flow.from, host) {
                let uids = flow.uids.iter().map(|uid| if *uid == APT_UID { apt } else { *uid }).collect();
                let key = (Direction::Out, proto, port, uids, nobody(), flow.name());
                add(key, with_groups(self.peers(&flow.to, host, true), proto.groups()));
            }
        }
        let rules = merged.into_iter().map(|((direction, proto, port, uids, beyond, flow), peers)| Rule {
            direction,
            proto,
            port,
            peers: peers.unwrap_or_default(),
            beyond,
            uids,
            flow,
        });
        rules.collect()
    }

    /// The addresses behind `party` as `host` meets them; `None` means anyone. Hosts connect *from* their inside addresses
    /// only, and are reached at the public ones too (`reached`). A host without an address of one family meets no host there.
    fn peers(&self, party: &Party, host: &Host, reached: bool) -> Option<Nets> {
        let families = host.families();
        match party {
            Party::Internet => None,
            Party::Net(net) => Some(Nets::from_iter([*net])),
            Party::Host(name) => {
                let other = self.site.hosts.get(name).filter(|other| other.name != host.name);
                Some(other.into_iter().flat_map(|other| met(other, families, reached)).collect())
            }
            Party::Role(_) | Party::All => {
                let of = |without: Option<&HostName>| {
                    let others = self.site.hosts.values().filter(|h| is_host(party, h) && Some(&h.name) != without);
                    others.flat_map(|other| met(other, families, reached)).collect()
                };
                // No host is a peer of itself.
                if is_host(party, host) {
                    return Some(of(Some(&host.name)));
                }
                let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
                Some(members.entry((party.clone(), families, reached)).or_insert_with(|| of(None)).clone())
            }
        }
    }
}

/// The parties on which it depends whether a flow concerns a host: who forwards it, or its two ends.
fn sides(flow: &Flow) -> impl Iterator<Item = &Party> {
    let ends = if flow.through.is_some() { [None, None] } else { [Some(&flow.from), Some(&flow.to)] };
    flow.through.iter().chain(ends.into_iter().flatten())
}

/// The addresses of `other` for who speaks `families`.
fn met(other: &Host, families: Families, reached: bool) -> impl Iterator<Item = Cidr> {
    let public = if reached { other.public.as_slice() } else { &[] };
    let all = other.addresses.iter().chain(public);
    all.filter(move |address| families.has(address.is_ipv4())).map(|address| Cidr::from(*address))
}

/// What one host's firewall accepts, where no other host's is asked for.
pub fn host_ruleset(site: &Site, host: &Host, facts: &Facts, flows: &[Flow]) -> Ruleset {
    Rules::of(site, flows).host(host, facts)
}

/// What is open on each host only while a run lasts, for these ways between hosts.
pub fn passages(site: &Site, ways: &[Passage]) -> BTreeMap<HostName, BTreeSet<Rule>> {
    let mut open: BTreeMap<HostName, BTreeSet<Rule>> = BTreeMap::new();
    for passage in ways {
        let one = way(passage);
        // A rule's words are one line of a file.
        let why = passage.why.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = format!("{}{PASSAGE}{why}", one.name());
        let of_way = Rules::of(site, std::slice::from_ref(&one));
        for host in [&passage.from, &passage.to].into_iter().filter_map(|name| site.hosts.get(name)) {
            let rules = of_way.rules(host, APT_UID).into_iter().map(|rule| Rule { flow: words.clone(), ..rule });
            open.entry(host.name.clone()).or_default().extend(rules);
        }
    }
    open
}

//! The ways to the hosts as a whole: takes all hosts with their jumps, reports each that would be reached through itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::hosts::Hosts;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::Host;

/// Reports each host that is to be reached through itself, at once or on a longer way: it is reached by nobody.
pub(super) fn circles(root: Fields<'_>, hosts: &Hosts<'_>, problems: &mut Problems) {
    let called = Called::of(hosts);
    let ways: BTreeMap<&HostName, Vec<&HostName>> =
        hosts.whole.values().map(|host| (&host.name, hops(host, &called))).collect();
    let mut told = BTreeSet::new();
    for name in hosts.whole.keys() {
        let Some(circle) = circle(name, &ways).filter(|circle| told.insert(circle.iter().copied().min())) else {
            continue;
        };
        let own = hosts.entries.get(name.as_str()).and_then(|entry| entry.value.get("ssh")?.value.get("jump"));
        let common = root.value("ssh").and_then(|ssh| ssh.get("jump"));
        let Some(place) = own.or(common) else { continue };
        let message = match circle.as_slice() {
            [_] => format!("`{name}` would be reached through itself"),
            more => {
                let others: Vec<&str> = more.iter().skip(1).map(|host| host.as_str()).collect();
                format!("`{name}` would be reached through itself, by way of {}", others.join(", "))
            }
        };
        problems.push(
            Diagnostic::error(message).at(&place.value.span()).help(if own.is_none() {
                format!("the host that all others are reached through is reached without: write `{name}: {{ ssh: {{ jump: none }} }}`")
            } else {
                "write `jump: none`, or a way that does not come back here".to_owned()
            }),
        );
    }
}

/// The hosts by what a jump may call them: looked up once, as all hosts of a fleet mostly jump through the same one.
struct Called<'h> {
    by_word: BTreeMap<&'h str, &'h HostName>,
    by_address: BTreeMap<IpAddr, &'h HostName>,
}

impl<'h> Called<'h> {
    fn of(hosts: &'h Hosts<'_>) -> Self {
        let (mut by_word, mut by_address) = (BTreeMap::new(), BTreeMap::new());
        for host in hosts.whole.values() {
            let words = [Some(host.name.as_str()), host.ssh.address.as_deref()];
            for word in words.into_iter().flatten() {
                by_word.entry(word).or_insert(&host.name);
            }
            for address in host.addresses.iter().chain(&host.public) {
                by_address.entry(*address).or_insert(&host.name);
            }
        }
        Self { by_word, by_address }
    }

    fn named(&self, hop: &str) -> Option<&'h HostName> {
        let by_word = self.by_word.get(hop).copied();
        by_word.or_else(|| self.by_address.get(&hop.parse::<IpAddr>().ok()?).copied())
    }
}

/// The hosts of the inventory through which one is reached.
fn hops<'h>(host: &Host, called: &Called<'h>) -> Vec<&'h HostName> {
    let Some(jump) = host.ssh.jump.as_deref().filter(|jump| *jump != "none") else { return Vec::new() };
    let hops = jump.split(',').map(|hop| {
        let hop = hop.strip_prefix("ssh://").unwrap_or(hop);
        let hop = hop.rsplit_once('@').map_or(hop, |(_, hop)| hop);
        match hop.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => hop.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(hop, |(hop, _)| hop),
        }
    });
    hops.filter_map(|hop| called.named(hop)).collect()
}

/// The way from a host back to itself, if there is one: the host first.
fn circle<'h>(from: &'h HostName, ways: &BTreeMap<&'h HostName, Vec<&'h HostName>>) -> Option<Vec<&'h HostName>> {
    let (mut seen, mut queue) = (BTreeSet::new(), VecDeque::from([vec![from]]));
    while let Some(way) = queue.pop_front() {
        for hop in way.last().and_then(|last| ways.get(last)).into_iter().flatten() {
            if *hop == from {
                return Some(way);
            }
            if seen.insert(*hop) {
                queue.push_back(way.iter().copied().chain([*hop]).collect());
            }
        }
    }
    None
}

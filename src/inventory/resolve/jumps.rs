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
    let ways: BTreeMap<&HostName, Vec<&HostName>> =
        hosts.whole.values().map(|host| (&host.name, hops(host, hosts))).collect();
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

/// The hosts of the inventory through which one is reached.
fn hops<'h>(host: &Host, hosts: &'h Hosts<'_>) -> Vec<&'h HostName> {
    let jump = host.ssh.jump.as_deref().filter(|jump| *jump != "none").unwrap_or_default();
    let named = jump.split(',').map(|hop| {
        let hop = hop.strip_prefix("ssh://").unwrap_or(hop);
        let hop = hop.rsplit_once('@').map_or(hop, |(_, hop)| hop);
        match hop.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => hop.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(hop, |(hop, _)| hop),
        }
    });
    let is = |other: &Host, hop: &str| {
        other.name.as_str() == hop
            || other.ssh.address.as_deref() == Some(hop)
            || hop.parse::<IpAddr>().is_ok_and(|hop| other.addresses.iter().chain(&other.public).any(|a| *a == hop))
    };
    named.filter_map(|hop| hosts.whole.values().find(|other| is(other, hop)).map(|other| &other.name)).collect()
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

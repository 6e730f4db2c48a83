//! A change of which only one half can be made: takes a plan, the addresses of the fleet, and the hosts that have no part in the
//! plan, gives the flows that open on one end alone. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::net::{Cidr, HostName};
use crate::base::nets::Nets;
use crate::plan::behind::{Behind, Half};
use crate::plan::narrow::Addresses;
use crate::plan::plan::{Action, Plan};
use crate::plan::ruleset::Rule;

/// By what keeps the other end from its part. A flow that a host opens beside one of before with the same words and port has new
/// partners, and opens for these.
pub fn of(plan: &Plan, fleet: &Addresses, behind: &BTreeMap<HostName, Behind>) -> BTreeMap<Behind, Half> {
    let mut halves: BTreeMap<Behind, Half> = BTreeMap::new();
    if behind.is_empty() {
        return halves;
    }
    let mut owners: BTreeMap<Cidr, Vec<(&HostName, Behind)>> = BTreeMap::new();
    for (other, why) in behind {
        for address in fleet.get(other).into_iter().flatten() {
            owners.entry(Cidr::from(*address)).or_default().push((other, *why));
        }
    }
    // Hosts of one role open the same: that is looked at once.
    let mut looked: BTreeSet<(&Rule, Vec<&Nets>)> = BTreeSet::new();
    for host in plan.hosts.values() {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for action in host.phases.values().flatten() {
            if let Action::Firewall { added: opens, removed: closes, .. } = action {
                added.extend(opens.iter().filter(|rule| rule.is_between_hosts() && !rule.is_passage()));
                removed.extend(closes);
            }
        }
        for rule in added {
            let same = |old: &&&Rule| {
                (old.direction, old.proto, old.port, &old.flow) == (rule.direction, rule.proto, rule.port, &rule.flow)
            };
            let known: Vec<&Nets> = removed.iter().filter(same).map(|old| &old.peers).collect();
            if !looked.insert((rule, known.clone())) {
                continue;
            }
            let new = rule.peers.iter().filter(|peer| !known.iter().any(|old| old.contains(*peer)));
            for (other, why) in new.filter_map(|peer| owners.get(peer)).flatten() {
                let half = halves.entry(*why).or_default();
                half.flows.insert(format!("{} {}", rule.flow, rule.proto.at(rule.port)));
                half.others.insert((*other).clone());
            }
        }
    }
    halves
}

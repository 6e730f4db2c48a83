//! What may be closed: takes what the hosts of a run are to close and what is known of the other hosts, says which of them may still
//! use it. Pure.
//!
//! One rule for all flows, listeners and trust: what a host closes in `Narrow` is closed only when every host of the fleet that
//! uses it has been seen at the new end. Who was not seen there is behind: it is not a part of the run, does not answer, has
//! failed on its way, or has workers of before a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::base::net::{Cidr, HostName};
use crate::base::nets::Nets;
use crate::plan::behind::Behind;
use crate::plan::plan::{Action, HostPlan, Plan};
use crate::plan::ruleset::{Direction, Rule, Ruleset};
use crate::plan::state::{Desired, DesiredHost, Phase};

/// Of each host of the fleet, the addresses from which it comes and at which it is reached.
pub type Addresses = BTreeMap<HostName, Vec<IpAddr>>;

/// What one host is to close.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// The host.
    pub host: &'a HostName,
    /// Its actions of `Narrow`.
    pub actions: &'a [Action],
    /// What it should be.
    pub desired: &'a DesiredHost,
}

/// Whom each host has to wait for before it closes anything; a host that is not named may close all. `behind` are the hosts that
/// were not seen at the new end. A host that keeps a listener of before open for one of them keeps that listener's own ways on
/// open by that, on other hosts too.
pub fn kept<'a>(
    closing: &[Closing<'a>],
    fleet: &Addresses,
    behind: &BTreeSet<&'a HostName>,
) -> BTreeMap<&'a HostName, BTreeSet<&'a HostName>> {
    let mut kept: BTreeMap<&HostName, BTreeSet<&HostName>> = BTreeMap::new();
    if behind.is_empty() {
        return kept;
    }
    let ends: Vec<(Closing<'_>, Ends)> =
        closing.iter().map(|one| (*one, Ends::of(one, fleet))).filter(|(_, ends)| !ends.is_empty()).collect();
    // On whose account a host serves as before.
    let mut as_before: BTreeMap<&HostName, BTreeSet<&HostName>> =
        behind.iter().map(|host| (*host, BTreeSet::from([*host]))).collect();
    loop {
        let mut grown = false;
        for (one, ends) in &ends {
            let may_use = |(user, _): &(&&HostName, &BTreeSet<&HostName>)| {
                // What it keeps itself is no reason to keep it.
                let itself = **user == one.host && !behind.contains(one.host);
                !itself && ends.are_used_by(one.host, user, fleet.get(**user).map_or(&[], Vec::as_slice))
            };
            let users: BTreeSet<&HostName> =
                as_before.iter().filter(may_use).flat_map(|(_, causes)| causes.iter().copied()).collect();
            if users.is_empty() || kept.get(one.host) == Some(&users) {
                continue;
            }
            grown = true;
            if ends.listeners && !behind.contains(one.host) {
                as_before.insert(one.host, users.clone());
            }
            kept.insert(one.host, users);
        }
        if !grown {
            return kept;
        }
    }
}

/// Whether a host is at the new end of all that moves, as its own plan tells: nothing is left to do there but what closes. It may have
/// an old listener still, which serves those who come to it as before: that is what [`kept`] follows.
pub fn has_moved(plan: &HostPlan) -> bool {
    plan.waits.is_empty() && plan.phases.iter().all(|(phase, actions)| actions.is_empty() || *phase == Phase::Narrow)
}

/// What hosts that have moved and have no part in a plan are to close themselves, by what they should be.
pub type Unclosed = BTreeMap<HostName, (DesiredHost, Vec<Action>)>;

/// What those are to close. A host keeps open what they lead on to, for whoever still comes to them.
pub fn unclosed(unclosed: &Unclosed) -> impl Iterator<Item = Closing<'_>> {
    unclosed.iter().map(|(host, (desired, actions))| Closing { host, actions, desired })
}

/// Enters into a plan which hosts keep open what they would close, and for whom.
pub fn keep(
    plan: &mut Plan,
    desired: &Desired,
    moved: &Unclosed,
    fleet: &Addresses,
    behind: &BTreeMap<HostName, Behind>,
) {
    let own = plan.hosts.iter().filter_map(|(host, plan)| {
        let (actions, desired) = (plan.phases.get(&Phase::Narrow)?, desired.get(host)?);
        Some(Closing { host, actions, desired })
    });
    let closing: Vec<Closing<'_>> = own.chain(unclosed(moved)).collect();
    let kept: BTreeMap<HostName, BTreeMap<HostName, Behind>> = kept(&closing, fleet, &behind.keys().collect())
        .into_iter()
        .map(|(host, users)| {
            let users = users.into_iter().filter_map(|user| Some((user.clone(), *behind.get(user)?)));
            (host.clone(), users.collect())
        })
        .collect();
    for (host, plan) in &mut plan.hosts {
        plan.kept_for = kept.get(host).cloned().unwrap_or_default();
    }
}

/// The old ends of one host.
struct Ends {
    /// Flows that close.
    closed: Vec<Rule>,
    /// Whether anything goes that others may be served by: a listener, an authority, an account.
    listeners: bool,
    /// All that is let in until then; `None` where everyone is.
    open: Option<Vec<Rule>>,
    /// Whether a host that is no part of the fleet any more is let in by what closes: whoever is behind may still lead there.
    of_one_that_left: bool,
}

impl Ends {
    fn of(one: &Closing<'_>, fleet: &Addresses) -> Self {
        let mut closed = Vec::new();
        for action in one.actions {
            if let Action::Firewall { to, removed, .. } = action {
                closed.extend(removed.iter().filter_map(|rule| closes(rule, to)));
            }
        }
        let open = one.desired.firewall.as_ref().map(|set| set.rules.iter().chain(&closed).cloned().collect());
        let known: BTreeSet<Cidr> = fleet.values().flatten().map(|address| Cidr::from(*address)).collect();
        let left = |net: &Cidr| net.net().prefix_len() == net.net().max_prefix_len() && !known.contains(net);
        let of_one_that_left = closed
            .iter()
            .any(|rule| rule.direction == Direction::In && rule.is_between_hosts() && rule.peers.iter().any(left));
        let listeners = one.actions.iter().any(|action| !matches!(action, Action::Firewall { .. }));
        Self { closed, listeners, open, of_one_that_left }
    }

    fn is_empty(&self) -> bool {
        self.closed.is_empty() && !self.listeners
    }

    /// Whether `user` may use what goes from `host`: a flow that closes on either end of it, or whatever a file that goes stands for
    /// where it reaches that host at all.
    fn are_used_by(&self, host: &HostName, user: &HostName, addresses: &[IpAddr]) -> bool {
        let own = user == host;
        let comes_in = |rule: &Rule| {
            let from = |address: &IpAddr| {
                rule.peers.contains(&Cidr::from(*address)) || rule.peers.iter().any(|net| net.contains(*address))
            };
            rule.direction == Direction::In && (rule.peers.is_empty() || addresses.iter().any(from))
        };
        let by_flow = |rule: &Rule| if own { rule.direction == Direction::Out } else { comes_in(rule) };
        let reaches = || own || self.open.as_ref().is_none_or(|open| open.iter().any(comes_in));
        self.closed.iter().any(by_flow) || self.listeners && reaches() || self.of_one_that_left
    }
}

/// What the loss of a rule closes where `to` is what stays: those of its peers that no other rule lets through. Nothing where all
/// of them are, nor for what was open only while a run lasts.
fn closes(rule: &Rule, to: &Ruleset) -> Option<Rule> {
    let stays: Vec<&Rule> = to.rules.iter().filter(|other| covers(other, rule)).collect();
    if rule.is_passage() || stays.iter().any(|other| other.peers.is_empty()) {
        return None;
    }
    // Most of what stays is what was there: that is found at once, and only whole networks have to be gone through.
    let wide: Vec<&Cidr> = stays.iter().flat_map(|other| other.peers.iter()).filter(|net| !net.is_one()).collect();
    let through = |net: &Cidr| {
        stays.iter().any(|other| other.peers.contains(net)) || wide.iter().any(|wide| wide.net().contains(&net.net()))
    };
    let peers: Nets = rule.peers.iter().filter(|net| !through(net)).copied().collect();
    (rule.peers.is_empty() || !peers.is_empty()).then(|| Rule { peers, ..rule.clone() })
}

/// Whether `other` lets through what `rule` does, as far as its peers go.
fn covers(other: &Rule, rule: &Rule) -> bool {
    let users = other.uids.is_empty() || !rule.uids.is_empty() && rule.uids.is_subset(&other.uids);
    // Of what is forwarded, where it leads.
    let within = |net: &Cidr| other.beyond.iter().any(|wide| wide.net().contains(&net.net()));
    let beyond = other.beyond.is_empty() || !rule.beyond.is_empty() && rule.beyond.iter().all(within);
    (other.direction, other.proto, other.port) == (rule.direction, rule.proto, rule.port) && users && beyond
}

/// What an action of `Narrow` closes, for a person; nothing for one that only follows.
pub fn told(action: &Action) -> Vec<String> {
    match action {
        Action::Firewall { to, removed, .. } => {
            let closed = removed.iter().filter_map(|rule| closes(rule, to));
            closed.map(|rule| format!("{} {}", rule.flow, rule.proto.at(rule.port))).collect()
        }
        Action::Remove { path, .. } => vec![path.clone()],
        Action::Perform { task, .. } => vec![task.title.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;

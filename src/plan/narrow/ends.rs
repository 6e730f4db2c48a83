//! The old ends of hosts: takes what they are to close and what they should be, gives what of it may still be used, once for all hosts
//! that have it alike. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::base::net::{Cidr, HostName};
use crate::base::nets::Nets;
use crate::plan::plan::Action;
use crate::plan::ruleset::{Direction, Rule, Ruleset};

use super::{Addresses, Closing};

/// The old ends of one host, and of those that have the same.
pub(super) struct Ends {
    /// Flows that close.
    closed: Vec<Rule>,
    /// Whether anything goes that others may be served by: a listener, an authority, an account.
    pub(super) listeners: bool,
    /// All that is let in until then; `None` where everyone is.
    open: Option<Vec<Rule>>,
    /// Whether a host that is no part of the fleet any more is let in by what closes: whoever is behind may still lead there.
    of_one_that_left: bool,
}

/// The old ends of `closing`, each with the hosts that have them.
pub(super) fn of<'a>(closing: &[Closing<'a>], fleet: &Addresses) -> Vec<(Ends, Vec<&'a HostName>)> {
    let known: BTreeSet<Cidr> = fleet.values().flatten().map(|address| Cidr::from(*address)).collect();
    let mut alike: BTreeMap<_, Vec<&Closing<'a>>> = BTreeMap::new();
    for one in closing {
        let firewall = one.actions.iter().filter_map(|action| match action {
            Action::Firewall { to, removed, .. } => Some((&to.rules, removed)),
            _ => None,
        });
        let listeners = one.actions.iter().any(|action| !matches!(action, Action::Firewall { .. }));
        let open = one.desired.firewall.as_ref().map(|set| &set.rules);
        alike.entry((firewall.collect::<Vec<_>>(), open, listeners)).or_default().push(one);
    }
    let each = alike.into_iter().filter_map(|((_, _, listeners), hosts)| {
        let ends = Ends::of(hosts.first()?, listeners, &known);
        (!ends.is_empty()).then(|| (ends, hosts.into_iter().map(|one| one.host).collect()))
    });
    each.collect()
}

impl Ends {
    fn of(one: &Closing<'_>, listeners: bool, known: &BTreeSet<Cidr>) -> Self {
        let mut closed = Vec::new();
        for action in one.actions {
            if let Action::Firewall { to, removed, .. } = action {
                closed.extend(removed.iter().filter_map(|rule| closes(rule, to)));
            }
        }
        let open = one.desired.firewall.as_ref().map(|set| set.rules.iter().chain(&closed).cloned().collect());
        let left = |net: &Cidr| net.is_one() && !known.contains(net);
        let of_one_that_left = closed
            .iter()
            .any(|rule| rule.direction == Direction::In && rule.is_between_hosts() && rule.peers.iter().any(left));
        Self { closed, listeners, open, of_one_that_left }
    }

    fn is_empty(&self) -> bool {
        self.closed.is_empty() && !self.listeners
    }

    /// Whether another host, of these addresses, may use what goes: a flow that closes, or whatever a file that goes stands for where
    /// it comes in at all.
    pub(super) fn are_used_from(&self, addresses: &[IpAddr]) -> bool {
        let comes_in = |rule: &Rule| {
            let from = |address: &IpAddr| rule.peers.hold(&Cidr::from(*address));
            rule.direction == Direction::In && (rule.peers.is_empty() || addresses.iter().any(from))
        };
        let reaches = || self.open.as_ref().is_none_or(|open| open.iter().any(comes_in));
        self.closed.iter().any(comes_in) || self.listeners && reaches() || self.of_one_that_left
    }

    /// Whether the host itself may: a flow from there, or whatever a file that goes stands for.
    pub(super) fn are_used_by_their_host(&self) -> bool {
        let goes_out = |rule: &Rule| rule.direction == Direction::Out;
        self.closed.iter().any(goes_out) || self.listeners || self.of_one_that_left
    }
}

/// What the loss of a rule closes where `to` is what stays: those of its peers that no other rule lets through. Nothing where all
/// of them are, nor for what was open only while a run lasts.
pub(super) fn closes(rule: &Rule, to: &Ruleset) -> Option<Rule> {
    let stays: Vec<&Rule> = to.rules.iter().filter(|other| covers(other, rule)).collect();
    if rule.is_passage() || stays.iter().any(|other| other.peers.is_empty()) {
        return None;
    }
    let through = |net: &Cidr| stays.iter().any(|other| other.peers.hold(net));
    let peers: Nets = match stays[..] {
        [] => rule.peers.clone(),
        _ => rule.peers.iter().filter(|net| !through(net)).copied().collect(),
    };
    (rule.peers.is_empty() || !peers.is_empty()).then(|| Rule { peers, ..rule.clone() })
}

/// Whether `other` lets through what `rule` does, as far as its peers go.
fn covers(other: &Rule, rule: &Rule) -> bool {
    let users = other.uids.is_empty() || !rule.uids.is_empty() && rule.uids.is_subset(&other.uids);
    // Of what is forwarded, where it leads.
    let beyond =
        other.beyond.is_empty() || !rule.beyond.is_empty() && rule.beyond.iter().all(|net| other.beyond.hold(net));
    (other.direction, other.proto, other.port) == (rule.direction, rule.proto, rule.port) && users && beyond
}

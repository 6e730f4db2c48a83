//! What may be closed: takes what a host is to close and the hosts on which workers of before still serve, says whether one of
//! them may still use it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::base::net::HostName;
use crate::plan::plan::Action;
use crate::plan::ruleset::{Direction, Rule};
use crate::plan::state::DesiredHost;

/// Hosts on which workers of before a reload still serve, with the addresses from which they come.
pub type Former = BTreeMap<HostName, Vec<IpAddr>>;

/// Those of `former` who may use what the actions of `Narrow` take from `host`: a flow that closes on either end of it, or
/// whatever a file that goes stands for (a listener, an authority) where they reach that host at all.
pub fn users<'f>(
    host: &HostName,
    actions: &[Action],
    desired: &DesiredHost,
    former: &'f Former,
) -> BTreeSet<&'f HostName> {
    let mut closed: BTreeSet<&Rule> = BTreeSet::new();
    let mut open: Option<BTreeSet<&Rule>> = desired.firewall.as_ref().map(|rules| rules.rules.iter().collect());
    for action in actions {
        if let Action::Firewall { removed, .. } = action {
            closed.extend(removed);
        }
    }
    if let Some(open) = &mut open {
        open.extend(&closed);
    }
    let files = actions.iter().any(|action| !matches!(action, Action::Firewall { .. }));
    let uses = |(name, addresses): &(&'f HostName, &Vec<IpAddr>)| {
        let own = *name == host;
        let comes_in = |rule: &&Rule| {
            let from = |address: &IpAddr| rule.peers.iter().any(|net| net.contains(*address));
            rule.direction == Direction::In && (rule.peers.is_empty() || addresses.iter().any(from))
        };
        let reaches = || own || open.as_ref().is_none_or(|open| open.iter().any(comes_in));
        let by_flow = closed.iter().any(|rule| if own { rule.direction == Direction::Out } else { comes_in(rule) });
        by_flow || (files && reaches())
    };
    former.iter().filter(uses).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ruleset::Ruleset;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn rule(direction: Direction, port: u64, peers: &[&str]) -> Rule {
        let peers = peers.iter().map(|p| p.parse().unwrap()).collect();
        let (proto, uids) = (crate::base::net::Proto::Tcp, BTreeSet::new());
        Rule { direction, proto, port: port.try_into().unwrap(), peers, uids, flow: "f".into() }
    }

    fn narrow(removed: Rule) -> Action {
        let why = crate::plan::plan::Reload::Flows;
        Action::Firewall {
            to: Box::default(),
            added: Vec::new(),
            removed: vec![removed],
            around: crate::plan::plan::Around::default(),
            why,
        }
    }

    type Case<'a> = (&'a str, Vec<Rule>, Vec<Action>, &'a [&'a str]);

    #[test]
    fn what_closes_is_used_by_those_who_reach_it() {
        let from_lbs = ["10.0.1.11", "10.0.1.12", "fd00::1:11"];
        let remove = || Action::Remove { path: "/etc/x".into(), drift: false };
        let reload = || Action::Follow {
            unit: "x.service".into(),
            follow: crate::plan::state::Follow::Reload,
            because: crate::plan::plan::Because::Changed,
        };
        let inward = |port| rule(Direction::In, port, &from_lbs);
        let outward = |port| rule(Direction::Out, port, &["10.0.9.9"]);
        // What is open for good, the actions of `Narrow` on web1, and who of lb1, web1 and app1 may use what goes.
        let cases: [Case<'_>; 9] = [
            ("a port of the load balancers", vec![], vec![narrow(inward(8443))], &["lb1"]),
            ("a port for anyone", vec![], vec![narrow(rule(Direction::In, 80, &[]))], &["app1", "lb1"]),
            ("a port for a network", vec![], vec![narrow(rule(Direction::In, 80, &["10.0.0.0/16"]))], &["app1", "lb1"]),
            ("a port for somebody else", vec![], vec![narrow(rule(Direction::In, 22, &["192.0.2.0/24"]))], &[]),
            ("a way out", vec![], vec![narrow(outward(9443))], &["web1"]),
            ("a listener that moves", vec![], vec![remove(), reload(), narrow(inward(8443))], &["lb1", "web1"]),
            ("a file, its port stays", vec![inward(8443)], vec![remove(), reload()], &["lb1", "web1"]),
            ("a file that nobody reaches", vec![outward(9443)], vec![remove()], &["web1"]),
            ("nothing", vec![inward(8443)], vec![], &[]),
        ];
        let former: Former = [("lb1", "10.0.1.11"), ("web1", "10.0.2.11"), ("app1", "10.0.3.11")]
            .map(|(host, address)| (name(host), vec![address.parse().unwrap()]))
            .into();
        for (what, open, actions, expected) in cases {
            let firewall = Some(Ruleset { rules: open.into_iter().collect(), ..Ruleset::default() });
            let desired = DesiredHost { firewall, ..DesiredHost::default() };
            let users: Vec<&str> =
                users(&name("web1"), &actions, &desired, &former).into_iter().map(HostName::as_str).collect();
            assert_eq!(users, expected, "{what}");
        }
        // Where no firewall of ours stands, everyone reaches everything.
        let all = users(&name("web1"), &[remove()], &DesiredHost::default(), &former);
        assert_eq!(all.len(), 3);
        // By its other family too.
        let six = Former::from([(name("lb1"), vec!["fd00::1:11".parse().unwrap()])]);
        assert_eq!(users(&name("web1"), &[narrow(inward(8443))], &DesiredHost::default(), &six).len(), 1);
    }
}

//! What a ruleset decides, without a kernel: takes a connection, gives the rule that lets it through, or none.

use std::net::IpAddr;

use crate::base::net::{Cidr, Port};
use crate::base::nets::Nets;
use crate::base::proto::Proto;
use crate::plan::ruleset::{Direction, Rule, Ruleset};

/// What decides about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// All of the peer is in this entry of the block list.
    Blocked(Cidr),
    /// This rule accepts.
    Accepted(&'a Rule),
    /// No rule does; the default deny ends it.
    Denied,
}

/// Whether `outer` holds all of `inner`.
fn holds(outer: Cidr, inner: Cidr) -> bool {
    outer.net().contains(&inner.net())
}

/// What decides about a new connection with all of `peer`, opened by the user `uid` (`None`: by any user). A rule that
/// holds only a part of `peer` does not accept it.
pub fn decide(
    set: &Ruleset,
    way: Direction,
    proto: Proto,
    port: Option<Port>,
    peer: Cidr,
    uid: Option<u32>,
) -> Decision<'_> {
    // A blocked part of a larger network does not stop the rest of it.
    if let Some(net) = set.block.iter().find(|net| holds(**net, peer)) {
        return Decision::Blocked(*net);
    }
    set.rules
        .iter()
        .find(|rule| {
            rule.direction == way
                && rule.proto == proto
                && (rule.port.is_none() || rule.port == port)
                && (rule.peers.is_empty() || rule.peers.hold(&peer))
                && (rule.uids.is_empty() || uid.is_some_and(|uid| rule.uids.contains(&uid)))
        })
        .map_or(Decision::Denied, Decision::Accepted)
}

/// What decides about a new connection of others that the host forwards, from all of `from` to all of `to`.
pub fn decide_through(set: &Ruleset, proto: Proto, port: Option<Port>, from: Cidr, to: Cidr) -> Decision<'_> {
    if let Some(net) = set.block.iter().find(|net| holds(**net, from) || holds(**net, to)) {
        return Decision::Blocked(*net);
    }
    let within = |nets: &Nets, one: Cidr| nets.is_empty() || nets.hold(&one);
    set.rules
        .iter()
        .find(|rule| {
            rule.direction == Direction::Through
                && (rule.proto == Proto::Any || rule.proto == proto)
                && (rule.port.is_none() || rule.port == port)
                && within(&rule.peers, from)
                && within(&rule.beyond, to)
        })
        .map_or(Decision::Denied, Decision::Accepted)
}

/// Whether a new connection with `peer` gets through, whoever opens it. Replies of a blocked peer are dropped, so a
/// connection out to it does not.
pub fn admits(set: &Ruleset, way: Direction, proto: Proto, port: Port, peer: IpAddr) -> bool {
    matches!(decide(set, way, proto, Some(port), peer.into(), None), Decision::Accepted(_))
}

/// Whether the controller's own way in stays open: law 4 begins here.
pub fn controller_is_admitted(set: &Ruleset, controller: IpAddr, ssh_port: Port) -> bool {
    // sshd of a dual-stack socket tells IPv4 clients as ::ffff:a.b.c.d.
    admits(set, Direction::In, Proto::Tcp, ssh_port, controller.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(peers: &[&str], block: &[&str], uids: &[u32]) -> Ruleset {
        Ruleset {
            rules: BTreeSet::from([Rule {
                direction: Direction::In,
                proto: Proto::Tcp,
                port: Port::try_from(22).ok(),
                beyond: BTreeSet::new().into(),
                peers: peers.iter().map(|p| p.parse().unwrap()).collect(),
                uids: uids.iter().copied().collect(),
                flow: "manage_from -> all".into(),
            }]),
            block: block.iter().map(|p| p.parse().unwrap()).collect(),
            ..Ruleset::default()
        }
    }

    #[test]
    fn the_controller_must_be_let_in() {
        let ssh = Port::try_from(22).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(controller_is_admitted(&set(&["10.0.0.0/24"], &[], &[]), ip("10.0.0.9"), ssh));
        assert!(controller_is_admitted(&set(&["10.0.0.0/24"], &[], &[]), ip("::ffff:10.0.0.9"), ssh));
        assert!(controller_is_admitted(&set(&[], &[], &[]), ip("fd00::1"), ssh));
        assert!(!controller_is_admitted(&set(&["10.0.0.0/24"], &[], &[]), ip("10.0.1.9"), ssh));
        assert!(!controller_is_admitted(&set(&["10.0.0.0/24"], &["10.0.0.8/29"], &[]), ip("10.0.0.9"), ssh));
        assert!(!controller_is_admitted(&set(&["10.0.0.0/24"], &[], &[]), ip("10.0.0.9"), Port::HTTPS));
        assert!(!controller_is_admitted(&set(&[], &[], &[0]), ip("10.0.0.9"), ssh));
    }

    #[test]
    fn a_rule_for_a_part_of_a_network_does_not_accept_the_whole() {
        let rules = set(&["10.0.0.0/25"], &[], &[]);
        let whole = "10.0.0.0/24".parse().unwrap();
        let ssh = Port::try_from(22).unwrap();
        assert_eq!(decide(&rules, Direction::In, Proto::Tcp, Some(ssh), whole, None), Decision::Denied);
    }
}

//! What a host forwards for others, as a run proves it: takes the hosts of the run and the gateway among them, connects from one end to
//! the other where both are known and the way leads over the gateway, and gives what nobody could see, and why.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Member, ORDINARY, Seen};
use crate::base::net::{Cidr, Port};
use crate::base::proto::Proto;
use crate::host::reach::PATIENCE;
use crate::host::report;
use crate::host::transport::{Transport, TransportError};
use crate::host::wire;
use crate::inventory::site::Site;
use crate::plan::ruleset::{Direction, Rule};
use crate::service::firewall::admit::admits;
use crate::service::firewall::attempts::{Reach, attempt_script_as, parse_reaches};
use crate::service::firewall::entries;

/// A connection that goes over the gateway where the routes say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// Which member tries it.
    source: usize,
    to: IpAddr,
    port: Port,
}

/// Sees that what `members[gateway]` is to forward gets through. `forwards`: its kernel forwards at all.
pub(super) fn prove(site: &Site, members: &mut [Member<'_>], gateway: usize, forwards: bool, seen: &mut Seen) {
    let Some(host) = members.get(gateway).map(|member| member.host) else { return };
    let rules: Vec<Rule> = members
        .get(gateway)
        .and_then(|member| member.desired.firewall.as_ref())
        .into_iter()
        .flat_map(|set| &set.rules)
        .filter(|rule| rule.direction == Direction::Through)
        .cloned()
        .collect();
    let own: BTreeSet<IpAddr> =
        site.hosts.get(host).into_iter().flat_map(|host| host.addresses.iter().chain(&host.public)).copied().collect();
    for rule in rules {
        let all = rule.proto == Proto::Any;
        let flow = if all { rule.flow.clone() } else { format!("{} {}", rule.flow, rule.proto.at(rule.port)) };
        let way = if forwards {
            way(site, members, gateway, &rule)
        } else {
            Err("the host forwards nothing at all (`net.ipv4.ip_forward` is 0, and so it is in IPv6)")
        };
        let why = match way {
            Ok(way) => members.get_mut(way.source).and_then(|source| {
                let name = source.name();
                let told = tried(source.executor.transport.as_mut(), way);
                told.map_or_else(
                    |error| Some(format!("{name} could not try it: {error}")),
                    |told| judge(name.as_str(), way, &own, &told),
                )
            }),
            Err(why) => Some(why.to_owned()),
        };
        if let Some(why) = why {
            seen.miss(host, flow, why);
        }
    }
}

/// Who of the run may try a rule, and where.
fn way(site: &Site, members: &[Member<'_>], gateway: usize, rule: &Rule) -> Result<Way, &'static str> {
    if !matches!(rule.proto, Proto::Tcp | Proto::Any) {
        return Err("only TCP answers, so nobody can see whether it gets through");
    }
    let within = |nets: &BTreeSet<Cidr>, one: IpAddr| nets.is_empty() || nets.iter().any(|net| net.contains(one));
    let ends = || {
        let those = members.iter().enumerate().filter(|(at, member)| *at != gateway && member.outcome.is_none());
        those.filter_map(|(at, member)| Some((at, member.desired.firewall.as_ref()?, site.hosts.get(member.host)?)))
    };
    let sources: Vec<_> = ends()
        .flat_map(|(at, set, host)| host.addresses.iter().map(move |from| (at, set, *from)))
        .filter(|(_, _, from)| within(&rule.peers, *from))
        .collect();
    if sources.is_empty() {
        return Err("it comes from no host of this run, so nobody could try it");
    }
    // Beyond the gateway, another host of the inventory, or an address that the inventory names alone.
    let mut targets: Vec<(Option<usize>, IpAddr)> = ends()
        .flat_map(|(at, _, host)| host.addresses.iter().map(move |to| (Some(at), *to)))
        .filter(|(_, to)| within(&rule.beyond, *to))
        .collect();
    let known =
        |to: &IpAddr| site.hosts.values().any(|host| host.addresses.iter().chain(&host.public).any(|own| own == to));
    let alone = |net: &&Cidr| net.net().prefix_len() == net.net().max_prefix_len();
    targets.extend(
        rule.beyond.iter().filter(alone).map(|net| net.net().addr()).filter(|to| !known(to)).map(|to| (None, to)),
    );
    if targets.is_empty() {
        return Err("it leads to no host of this run and to no single address, so nobody knows whom to ask");
    }
    for (source, set, from) in &sources {
        for (target, to) in
            targets.iter().filter(|(target, to)| *target != Some(*source) && to.is_ipv4() == from.is_ipv4())
        {
            let theirs = target.and_then(|at| members.get(at)?.desired.firewall.as_ref());
            let ports =
                rule.port.map_or_else(|| theirs.map(entries::ports).unwrap_or_default(), |port| BTreeSet::from([port]));
            let passes = |port: &&Port| {
                admits(set, Direction::Out, Proto::Tcp, **port, *to)
                    && theirs.is_none_or(|theirs| admits(theirs, Direction::In, Proto::Tcp, **port, *from))
            };
            if let Some(port) = ports.iter().find(passes) {
                return Ok(Way { source: *source, to: *to, port: *port });
            }
        }
    }
    Err("the rules of the hosts at its ends let no such connection out and in: that is for `firewall.allow`")
}

/// What one end said: the way of its packets, and what came of a connection.
struct Told {
    route: String,
    answer: Option<Reach>,
}

fn tried(transport: &mut dyn Transport, way: Way) -> Result<Told, TransportError> {
    let Way { to, port, .. } = way;
    let attempt = attempt_script_as(ORDINARY, &[(to, port)], PATIENCE);
    let text = format!("emit route \"$(ip -o route get {to} 2>&1)\"\nemit reached \"$(\n{attempt})\"");
    let output = transport.run(&wire::question("connect over the host that forwards", &text), b"")?;
    let told = wire::pairs(&output.stdout);
    let reached = parse_reaches(told.last("reached").unwrap_or_default());
    Ok(Told {
        route: report::phrase(told.last("route").unwrap_or_default()),
        answer: reached.get(&(to, port)).copied(),
    })
}

/// The router of `ip route get` (ip-route(8)): `10.0.4.11 via 10.0.3.11 dev eth0 src 10.0.2.11`; `via inet6 fe80::1` where the families
/// differ.
fn via(route: &str) -> Option<IpAddr> {
    let mut words = route.split_whitespace().skip_while(|word| *word != "via").skip(1);
    words.find_map(|word| word.parse().ok())
}

/// Why it is not proven, if so.
fn judge(source: &str, way: Way, own: &BTreeSet<IpAddr>, told: &Told) -> Option<String> {
    let Way { to, port, .. } = way;
    match via(&told.route) {
        None if !told.route.contains(" dev ") => Some(format!("{source} knows no way to {to}: {}", told.route)),
        None => Some(format!("{source} reaches {to} without a router, so its packets do not come by here")),
        Some(first) if !own.contains(&first) => {
            Some(format!("{source} sends to {to} by way of {first}, which is no address of this host"))
        }
        Some(_) if told.answer == Some(Reach::Open) => None,
        Some(first) if told.answer == Some(Reach::Refused) => Some(format!(
            "a connection from {source} to {to} at port {port}, by way of {first}, is refused: nobody listens there, or somebody on the way refuses it"
        )),
        Some(first) => {
            Some(format!("a connection from {source} to {to} at port {port}, by way of {first}, is not answered"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_by_way_of_the_gateway_proves_it() {
        let own = BTreeSet::from(["10.0.3.11".parse().unwrap(), "fd00::3".parse().unwrap()]);
        for (route, answer, expected) in [
            ("10.0.4.11 via 10.0.3.11 dev eth0 src 10.0.2.11 uid 0", Some(Reach::Open), None),
            ("10.0.4.11 via 10.0.3.11 dev eth0 src 10.0.2.11 uid 0", Some(Reach::Refused), Some("is refused")),
            ("10.0.4.11 via inet6 fd00::3 dev eth0 src 10.0.2.11 uid 0", Some(Reach::Open), None),
            ("10.0.4.11 via 10.0.3.11 dev eth0 src 10.0.2.11 uid 0", Some(Reach::Drop), Some("is not answered")),
            ("10.0.4.11 via 10.0.3.11 dev eth0 src 10.0.2.11 uid 0", None, Some("is not answered")),
            ("10.0.4.11 via 10.0.0.1 dev eth0 src 10.0.2.11 uid 0", Some(Reach::Open), Some("no address of this host")),
            ("10.0.4.11 dev eth0 src 10.0.2.11 uid 0", Some(Reach::Open), Some("without a router")),
            ("RTNETLINK answers: Network is unreachable", Some(Reach::Unreachable), Some("knows no way")),
        ] {
            let way = Way { source: 0, to: "10.0.4.11".parse().unwrap(), port: Port::HTTPS };
            let why = judge("web1", way, &own, &Told { route: route.to_owned(), answer });
            assert_eq!(why.is_some(), expected.is_some(), "{route}: {why:?}");
            assert!(why.unwrap_or_default().contains(expected.unwrap_or_default()), "{route}");
        }
    }
}

//! Why a connection is let through or not: takes two names and a port, gives the verdict, the flow, its inventory line and
//! the rule that decides, on both hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::{Cidr, HostName, Port};
use crate::base::proto::Proto;
use crate::inventory::site::{Backend, Host, Party, Place, Role, Site};
use crate::plan::ruleset::{Direction, Rule, Ruleset};
use crate::plan::state::Facts;

use super::admit::{Decision, decide, decide_through};
use super::flows::{Flow, is_host};
use super::rules::Rules;
use super::{iptables, nft};

/// What comes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It gets through, between all hosts and in all families asked for.
    Allowed,
    /// Only some of the hosts, families or users get through.
    Partly,
    /// It does not.
    Denied,
}

/// What one host says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Side {
    /// The host.
    pub host: HostName,
    /// In or out.
    pub way: Direction,
    /// Who is on the other side.
    pub peer: String,
    /// Whether it lets the connection through.
    pub accepted: bool,
    /// If only for these users.
    pub uids: BTreeSet<u32>,
    /// The flow behind it.
    pub flow: Option<String>,
    /// The inventory line that asks for the flow.
    pub place: Option<Place>,
    /// The rule that decides, as it stands in the host's ruleset.
    pub rule: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explanation {
    /// As asked.
    pub from: String,
    /// As asked.
    pub to: String,
    /// As asked.
    pub port: Option<Port>,
    /// As asked.
    pub proto: Proto,
    /// What comes of it.
    pub verdict: Verdict,
    /// Host by host, without repetitions.
    pub sides: Vec<Side>,
}

impl fmt::Display for Explanation {
    /// Plain text, several lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Partly => "allowed in part",
            Verdict::Denied => "denied",
        };
        writeln!(f, "{} -> {} {}: {verdict}", self.from, self.to, self.proto.at(self.port))?;
        // Where the same rule decides for several, it is told once.
        let mut groups: Vec<(&Side, BTreeSet<&str>, Vec<&str>)> = Vec::new();
        for side in &self.sides {
            let same =
                |other: &Side| Side { host: side.host.clone(), peer: side.peer.clone(), ..other.clone() } == *side;
            let at = groups.iter().position(|(first, _, _)| same(first)).unwrap_or_else(|| {
                groups.push((side, BTreeSet::new(), Vec::new()));
                groups.len() - 1
            });
            if let Some((_, hosts, peers)) = groups.get_mut(at) {
                hosts.insert(side.host.as_str());
                if !peers.contains(&side.peer.as_str()) {
                    peers.push(&side.peer);
                }
            }
        }
        for (side, hosts, peers) in groups {
            let (way, peer) = match side.way {
                Direction::In => ("in on", "from"),
                Direction::Out => ("out on", "to"),
                Direction::Through => ("through", "from"),
            };
            let hosts: Vec<&str> = hosts.into_iter().collect();
            let verdict = if side.accepted { "yes" } else { "no" };
            write!(f, "  {way} {} {peer} {}: {verdict}", hosts.join(", "), peers.join(", "))?;
            if !side.uids.is_empty() {
                let users: Vec<String> = side.uids.iter().map(ToString::to_string).collect();
                write!(f, ", for the users {} only", users.join(", "))?;
            }
            match (&side.flow, &side.place) {
                (Some(flow), Some(place)) => write!(f, ", by `{flow}` ({place})")?,
                (Some(flow), None) => write!(f, ", by `{flow}` (from the roles)")?,
                (None, _) if !side.accepted => write!(f, ", no flow allows it")?,
                (None, _) => {}
            }
            writeln!(f, "\n    {}", side.rule)?;
        }
        Ok(())
    }
}

/// One end of the question.
enum End<'a> {
    Hosts(Vec<&'a Host>),
    Nets(Vec<Cidr>),
}

fn end<'a>(site: &'a Site, word: &str) -> Result<End<'a>, Diagnostic> {
    if let Some(host) = site.hosts.values().find(|h| h.name.as_str() == word) {
        return Ok(End::Hosts(vec![host]));
    }
    if let Some(role) = Role::ALL.into_iter().find(|r| r.as_str() == word) {
        let hosts: Vec<&Host> = site.with_role(role).collect();
        if hosts.is_empty() {
            let roles: Vec<&str> =
                Role::ALL.into_iter().filter(|r| site.with_role(*r).next().is_some()).map(Role::as_str).collect();
            return Err(Diagnostic::error(format!("no host has the role `{role}`"))
                .help(format!("the roles of this inventory are {}", roles.join(", "))));
        }
        return Ok(End::Hosts(hosts));
    }
    match word {
        "all" => return Ok(End::Hosts(site.hosts.values().collect())),
        "internet" => {
            let any = ["0.0.0.0/0", "::/0"];
            return Ok(End::Nets(any.iter().filter_map(|net| net.parse().ok()).collect()));
        }
        "manage" | "controller" | "manage_from" => {
            return Ok(End::Nets(site.firewall.manage_from.iter().map(|(net, _)| *net).collect()));
        }
        _ => {}
    }
    match word.parse::<Cidr>() {
        Ok(net) => {
            Ok(match site.hosts.values().find(|h| h.addresses.iter().chain(&h.public).any(|a| Cidr::from(*a) == net)) {
                Some(host) => End::Hosts(vec![host]),
                None => End::Nets(vec![net]),
            })
        }
        Err(invalid) if word.contains('/') => {
            let error = Diagnostic::error(format!("`{word}` {invalid}"));
            Err(match invalid.help {
                Some(help) => error.help(help),
                None => error,
            })
        }
        Err(_) => {
            let mut known: Vec<&str> = site.hosts.keys().map(HostName::as_str).collect();
            for word in ["lb", "web", "app", "db", "all", "internet", "manage", "controller"] {
                known.push(word);
            }
            let error = Diagnostic::error(format!("`{word}` is not a host, role, address or network"));
            Err(match did_you_mean(word, known) {
                Some(help) => error.help(help),
                None => error.help("write a host, a role, an address, a network, `internet`, `manage` or `all`"),
            })
        }
    }
}

/// Who decides about a connection from `from` to `to`, and how. The ends are a host, a role, `all`, an address, a network,
/// `internet`, or `manage` (also `controller`). Where neither is a host, those hosts decide that forward for others.
///
/// # Errors
/// A diagnostic for a name that is none of these, or where neither end is a host of the inventory and none forwards.
pub fn explain(
    site: &Site,
    facts: &Facts,
    flows: &[Flow],
    (from, to): (&str, &str),
    port: Option<Port>,
    proto: Proto,
) -> Result<Explanation, Diagnostic> {
    let rules = Rules::of(site, flows);
    let mut asked =
        Asked { site, facts, flows, rules, port, proto, sets: BTreeMap::new(), sides: Vec::new(), yes: 0, no: 0 };
    match (end(site, from)?, end(site, to)?) {
        (End::Hosts(sources), End::Hosts(targets)) => {
            for source in &sources {
                for target in &targets {
                    asked.between(source, target);
                }
            }
        }
        (End::Hosts(sources), End::Nets(nets)) => {
            asked.with_nets(&sources, &nets, Direction::Out);
        }
        (End::Nets(nets), End::Hosts(targets)) => {
            asked.with_nets(&targets, &nets, Direction::In);
        }
        (End::Nets(sources), End::Nets(targets)) => {
            asked.forwarded(&sources, &targets);
            if asked.sides.is_empty() {
                return Err(Diagnostic::error(format!("neither `{from}` nor `{to}` is a host of this inventory"))
                    .help("name a host or a role on one side; no host forwards between others (`firewall.forward`)"));
            }
        }
    }
    let verdict = match (asked.yes, asked.no) {
        (0, _) => Verdict::Denied,
        (_, 0) => Verdict::Allowed,
        _ => Verdict::Partly,
    };
    Ok(Explanation { from: from.into(), to: to.into(), port, proto, verdict, sides: asked.sides })
}

struct Asked<'a> {
    site: &'a Site,
    facts: &'a Facts,
    flows: &'a [Flow],
    rules: Rules<'a>,
    port: Option<Port>,
    proto: Proto,
    sets: BTreeMap<HostName, Ruleset>,
    sides: Vec<Side>,
    yes: usize,
    no: usize,
}

impl Asked<'_> {
    fn count(&mut self, sides: Vec<Side>) {
        let whole = sides.iter().all(|side| side.accepted && side.uids.is_empty());
        let partly = sides.iter().all(|side| side.accepted);
        self.yes += usize::from(partly);
        self.no += usize::from(!whole);
        for side in sides {
            if !self.sides.contains(&side) {
                self.sides.push(side);
            }
        }
    }

    fn between(&mut self, source: &Host, target: &Host) {
        if source.name == target.name {
            let side = Side {
                host: source.name.clone(),
                way: Direction::In,
                peer: "itself".into(),
                accepted: true,
                uids: BTreeSet::new(),
                flow: Some("loopback".into()),
                place: None,
                rule: match self.site.firewall.backend {
                    Backend::Nftables => "iif lo accept".into(),
                    Backend::Iptables => "-A INFRA-IN -i lo -j RETURN".into(),
                },
            };
            self.count(vec![side]);
            return;
        }
        for ipv4 in [true, false] {
            let (Some(a), Some(b)) = (source.address(ipv4), target.address(ipv4)) else { continue };
            let out = self.side(source, Direction::Out, b.into(), &format!("{} ({b})", target.name));
            let into = self.side(target, Direction::In, a.into(), &format!("{} ({a})", source.name));
            self.count(vec![out, into]);
        }
    }

    fn with_nets(&mut self, hosts: &[&Host], nets: &[Cidr], way: Direction) {
        for host in hosts {
            for net in nets {
                let side = self.side(host, way, *net, &net.to_string());
                self.count(vec![side]);
            }
        }
    }

    /// What the hosts that forward for others say to connections between these.
    fn forwarded(&mut self, sources: &[Cidr], targets: &[Cidr]) {
        for host in self.site.hosts.values() {
            let through = |flow: &&Flow| flow.through.as_ref().is_some_and(|party| is_host(party, host));
            if !self.flows.iter().any(|flow| through(&flow)) {
                continue;
            }
            for from in sources {
                for to in targets.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
                    let (site, facts, flows) = (self.site, self.facts, self.flows);
                    let set = self.sets.entry(host.name.clone()).or_insert_with(|| self.rules.host(host, facts));
                    let decision = decide_through(set, self.proto, self.port, *from, *to);
                    let label = format!("{from} to {to}");
                    let answer = told(site, flows, set.backend, decision, (host, Direction::Through, *from, &label));
                    self.count(vec![answer]);
                }
            }
        }
    }

    fn side(&mut self, host: &Host, way: Direction, peer: Cidr, label: &str) -> Side {
        let (site, facts, flows) = (self.site, self.facts, self.flows);
        let set = self.sets.entry(host.name.clone()).or_insert_with(|| self.rules.host(host, facts));
        let users: BTreeSet<u32> = set.rules.iter().flat_map(|rule| rule.uids.iter().copied()).collect();
        let mut decision = decide(set, way, self.proto, self.port, peer, None);
        if decision == Decision::Denied {
            let some = users.iter().map(|uid| decide(set, way, self.proto, self.port, peer, Some(*uid)));
            decision = some.into_iter().find(|d| *d != Decision::Denied).unwrap_or(Decision::Denied);
        }
        told(site, flows, set.backend, decision, (host, way, peer, label))
    }
}

/// A decision of a host about connections with `peer`, for a person.
fn told(
    site: &Site,
    flows: &[Flow],
    backend: Backend,
    decision: Decision<'_>,
    (host, way, peer, label): (&Host, Direction, Cidr, &str),
) -> Side {
    let mut answer = Side {
        host: host.name.clone(),
        way,
        peer: label.into(),
        accepted: false,
        uids: BTreeSet::new(),
        flow: None,
        place: None,
        rule: denial(backend, way).into(),
    };
    match decision {
        Decision::Denied => {}
        Decision::Blocked(net) => {
            answer.flow = Some("firewall.block".into());
            answer.place = site.firewall.block.iter().find(|(n, _)| *n == net).map(|(_, place)| place.clone());
            answer.rule = match backend {
                Backend::Nftables => nft::block_line(&[net], net.is_ipv4()),
                Backend::Iptables => format!("-A INFRA-BLOCK -s {net} -m comment --comment \"block\" -j DROP"),
            };
        }
        Decision::Accepted(rule) => {
            answer.accepted = true;
            answer.uids.clone_from(&rule.uids);
            answer.flow = Some(rule.flow.clone());
            answer.place = place(flows, rule, way, peer);
            answer.rule = line(backend, rule, peer);
        }
    }
    answer
}

fn denial(backend: Backend, way: Direction) -> &'static str {
    match (backend, way) {
        (Backend::Nftables, Direction::In) => nft::DENY_IN,
        (Backend::Nftables, Direction::Out) => nft::DENY_OUT,
        (Backend::Nftables, Direction::Through) => nft::FORWARD,
        (Backend::Iptables, Direction::In) => "-A INFRA-DENY-IN -j DROP",
        (Backend::Iptables, Direction::Through) => "-A INFRA-FWD -j DROP",
        (Backend::Iptables, Direction::Out) => "-A INFRA-DENY-OUT -p tcp -j REJECT --reject-with tcp-reset",
    }
}

/// The rendered line of a rule that is about `peer`.
fn line(backend: Backend, rule: &Rule, peer: Cidr) -> String {
    let lines = match backend {
        Backend::Nftables => nft::rule_lines(rule),
        Backend::Iptables if peer.is_ipv4() => iptables::rule_lines(rule, iptables::Family::V4),
        Backend::Iptables => iptables::rule_lines(rule, iptables::Family::V6),
    };
    let word = if peer.is_ipv4() { "ip " } else { "ip6 " };
    let address: IpAddr = peer.net().network();
    let fits = |line: &&String| match backend {
        Backend::Nftables => rule.peers.is_empty() || line.starts_with(word),
        Backend::Iptables => {
            let named = line.split(' ').skip_while(|w| *w != "-s" && *w != "-d").nth(1);
            named.is_none_or(|net| net.parse::<Cidr>().is_ok_and(|net| net.contains(address)))
        }
    };
    lines.iter().find(fits).or(lines.first()).cloned().unwrap_or_default()
}

/// The inventory line of the flow behind a rule; of several under one name (`manage_from`) the one that holds the peer.
fn place(flows: &[Flow], rule: &Rule, way: Direction, peer: Cidr) -> Option<Place> {
    let same = |flow: &&Flow| flow.name() == rule.flow && flow.port == rule.port && flow.proto == rule.proto;
    let holds = |flow: &&Flow| match (way, &flow.from, &flow.to) {
        (Direction::In, Party::Net(net), _) | (Direction::Out, _, Party::Net(net)) => net.net().contains(&peer.net()),
        _ => true,
    };
    flows.iter().filter(same).find(holds).and_then(|flow| flow.place.clone())
}

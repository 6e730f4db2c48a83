//! The firewall of one host as a value: takes rules, gives their union, their difference, and a text that reads back.
//!
//! The text form stands on the host beside the loaded rules, so that the next run knows which flows are open now and
//! can open new ones before it closes old ones.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::net::{Cidr, Invalid, Port};
use crate::base::nets::Nets;
use crate::base::proto::Proto;
use crate::inventory::site::Backend;

/// Which way a connection is opened, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the host.
    In,
    /// From the host.
    Out,
    /// Between others, through the host.
    Through,
}

/// One accepted kind of connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// In or out.
    pub direction: Direction,
    /// TCP, UDP, or another protocol.
    pub proto: Proto,
    /// Destination port; none where the protocol has none, and where all of them are meant.
    pub port: Option<Port>,
    /// The other side: sources of `In` and `Through`, destinations of `Out`. Empty means anyone, of both families.
    #[schemars(with = "BTreeSet<Cidr>")]
    pub peers: Nets,
    /// Destinations of `Through`. Empty means anyone, and so it is for the others.
    #[serde(default, skip_serializing_if = "is_empty")]
    #[schemars(with = "BTreeSet<Cidr>")]
    pub beyond: Nets,
    /// For `Out`: only processes of these numeric users; empty means any.
    pub uids: BTreeSet<u32>,
    /// The flow that it comes from, for a person: `lb -> web`, `manage_from`. One line.
    pub flow: String,
}

fn is_empty(nets: &Nets) -> bool {
    nets.is_empty()
}

/// Stands in the words of a rule that is open only while a run lasts, before what that is for; in those of no other rule.
pub const PASSAGE: &str = ", only while ";

/// How a rule for people's own SSH is called, before ` -> ` and where it leads.
pub const MANAGE: &str = "manage_from";

impl Rule {
    /// Whether it is open only while a run lasts.
    pub fn is_passage(&self) -> bool {
        self.flow.contains(PASSAGE)
    }

    /// Whether it is for hosts of the inventory, and not for a network that a person has named.
    pub fn is_between_hosts(&self) -> bool {
        let from = self.flow.split(" -> ").next().unwrap_or_default();
        from != MANAGE && from.parse::<Cidr>().is_err()
    }
}

impl fmt::Display for Rule {
    /// `in tcp 8443 peers 10.0.1.11,10.0.1.12 uids - # lb -> web`; `-` for an empty set and where there is no port. What is forwarded
    /// has `beyond` and its destinations more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(items: &BTreeSet<T>) -> String {
            if items.is_empty() {
                return "-".into();
            }
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Through => "through",
        };
        let (peers, uids) = (list(&self.peers), list(&self.uids));
        let port = self.port.map_or_else(|| "-".to_owned(), |port| port.to_string());
        write!(f, "{direction} {} {port} peers {peers} ", self.proto)?;
        if self.direction == Direction::Through {
            write!(f, "beyond {} ", list(&self.beyond))?;
        }
        write!(f, "uids {uids} # {}", self.flow)
    }
}

impl FromStr for Rule {
    type Err = Invalid;
    fn from_str(line: &str) -> Result<Self, Invalid> {
        fn list<T: FromStr + Ord>(text: &str) -> Result<BTreeSet<T>, Invalid> {
            if text == "-" {
                return Ok(BTreeSet::new());
            }
            text.split(',')
                .map(|item| item.parse().map_err(|_| Invalid::new("has a list that does not read")))
                .collect()
        }
        let (head, flow) = line.split_once(" # ").ok_or_else(|| Invalid::new("has no ` # `"))?;
        let words: Vec<&str> = head.split(' ').collect();
        let (direction, proto, port, peers, beyond, uids) = match words[..] {
            [direction, proto, port, "peers", peers, "uids", uids] => (direction, proto, port, peers, "-", uids),
            [direction, proto, port, "peers", peers, "beyond", beyond, "uids", uids] => {
                (direction, proto, port, peers, beyond, uids)
            }
            _ => return Err(Invalid::new("is not a rule")),
        };
        Ok(Self {
            direction: match direction {
                "in" => Direction::In,
                "out" => Direction::Out,
                "through" => Direction::Through,
                _ => return Err(Invalid::new("has no direction")),
            },
            proto: proto.parse()?,
            port: if port == "-" { None } else { Some(port.parse()?) },
            peers: list(peers)?.into(),
            beyond: list(beyond)?.into(),
            uids: list(uids)?,
            flow: flow.to_owned(),
        })
    }
}

/// Everything that a host's firewall accepts, and what it drops before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ruleset {
    /// Which tool holds it.
    pub backend: Backend,
    /// Accepted; all else is dropped (in) or rejected (out).
    pub rules: BTreeSet<Rule>,
    /// Sources dropped first.
    pub block: BTreeSet<Cidr>,
    /// Another owner forwards packets on this host (Docker): forwarding stays open but for translated ports that no rule accepts.
    pub guest_forwarding: bool,
}

impl Ruleset {
    /// What either of the two accepts; the block list, the backend and the forwarding are of `self`, the newer one.
    #[must_use]
    pub fn widened(&self, old: &Self) -> Self {
        Self { rules: self.rules.union(&old.rules).cloned().collect(), ..self.clone() }
    }

    /// It without what is open only while a run lasts: where that run has died, nobody needs it any more.
    #[must_use]
    pub fn lasting(&self) -> Self {
        Self { rules: self.rules.iter().filter(|rule| !rule.is_passage()).cloned().collect(), ..self.clone() }
    }

    /// It with the peers of `other` wherever they are the same: what each host of a fleet tells by itself is held once then.
    pub fn share(&mut self, other: &Self) {
        let known = |peers: &Nets| other.rules.iter().map(|rule| &rule.peers).find(|own| *own == peers).cloned();
        let shared = |rule: Rule| Rule { peers: known(&rule.peers).unwrap_or(rule.peers), ..rule };
        self.rules = std::mem::take(&mut self.rules).into_iter().map(shared).collect();
    }

    /// The text form: `backend`, `forwarding` and `block` lines, then a line a rule, sorted.
    pub fn to_text(&self) -> String {
        let backend = match self.backend {
            Backend::Nftables => "nftables",
            Backend::Iptables => "iptables",
        };
        let mut text = format!("backend {backend}\n");
        if self.guest_forwarding {
            text.push_str("forwarding guest\n");
        }
        for net in &self.block {
            text.push_str(&format!("block {net}\n"));
        }
        for rule in &self.rules {
            text.push_str(&format!("{rule}\n"));
        }
        text
    }

    /// Reads [`Ruleset::to_text`] back.
    ///
    /// # Errors
    /// The first line that does not read.
    pub fn from_text(text: &str) -> Result<Self, Invalid> {
        let mut set = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.split_once(' ') {
                Some(("backend", "nftables")) => set.backend = Backend::Nftables,
                Some(("backend", "iptables")) => set.backend = Backend::Iptables,
                Some(("forwarding", "guest")) => set.guest_forwarding = true,
                Some(("block", net)) => {
                    set.block.insert(net.parse()?);
                }
                _ => {
                    set.rules.insert(line.parse()?);
                }
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(port: u64, flow: &str) -> Rule {
        Rule {
            direction: Direction::In,
            proto: Proto::Tcp,
            port: Some(port.try_into().unwrap()),
            beyond: BTreeSet::new().into(),
            peers: ["10.0.1.11", "fd00::/64"].iter().map(|p| p.parse().unwrap()).collect(),
            uids: BTreeSet::from([0, 42]),
            flow: flow.into(),
        }
    }

    #[test]
    fn the_text_reads_back() {
        let set = Ruleset {
            backend: Backend::Iptables,
            rules: BTreeSet::from([
                rule(8443, "lb -> web"),
                rule(22, "a # b"),
                Rule { proto: Proto::Other(112), port: None, ..rule(1, "lb -> lb") },
                Rule {
                    direction: Direction::Through,
                    beyond: BTreeSet::from(["192.0.2.0/24".parse().unwrap()]).into(),
                    ..rule(443, "a -> b through c")
                },
            ]),
            block: BTreeSet::from(["203.0.113.0/24".parse().unwrap()]),
            guest_forwarding: true,
        };
        assert_eq!(Ruleset::from_text(&set.to_text()).unwrap(), set);
        assert!(Ruleset::from_text("in tcp x").is_err());
    }

    #[test]
    fn peers_that_are_the_same_are_held_once() {
        let wanted = Ruleset { rules: BTreeSet::from([rule(8444, "lb -> web")]), ..Ruleset::default() };
        let told = Ruleset { rules: BTreeSet::from([rule(8443, "lb -> web")]), ..Ruleset::default() };
        let mut shared = told.clone();
        shared.share(&wanted);
        assert_eq!(shared, told);
        let peers = |set: &Ruleset| set.rules.first().unwrap().peers.clone();
        assert!(peers(&shared).is_same(&peers(&wanted)) && !peers(&told).is_same(&peers(&wanted)));
    }

    #[test]
    fn widened_holds_both() {
        let old = Ruleset { rules: BTreeSet::from([rule(1, "a")]), ..Ruleset::default() };
        let new = Ruleset { rules: BTreeSet::from([rule(2, "b")]), ..Ruleset::default() };
        assert_eq!(new.widened(&old).rules.len(), 2);
    }
}

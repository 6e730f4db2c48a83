//! What a flow is made of above the address: takes names and numbers of protocols, gives the protocol, and what a person calls it with
//! a port.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::diagnostic::did_you_mean;
use super::net::{Invalid, Port};

/// The protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Default)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Proto {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// One that has no ports here, by its number (IANA, «Assigned Internet Protocol Numbers»).
    Other(u8),
    /// Whatever there is: of forwarding alone.
    Any,
}

/// Names of IANA's list that people write, with the numbers.
const NAMES: [(&str, u8); 14] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
];

impl Proto {
    /// Whether a flow of it names a port.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// Its numbers in one family or both: what is meant by `icmp` has another in IPv6. None for [`Proto::Any`].
    pub fn numbers(self, ipv4: bool, ipv6: bool) -> Vec<u8> {
        match self {
            Self::Tcp => vec![6],
            Self::Udp => vec![17],
            Self::Other(1) => [ipv4.then_some(1), ipv6.then_some(58)].into_iter().flatten().collect(),
            Self::Other(number) => vec![number],
            Self::Any => Vec::new(),
        }
    }

    /// Where its neighbours speak to all of them at once, beside the addresses that a flow names (RFC 9568 section 1.2 for VRRP, RFC 2328
    /// appendix A.1 and RFC 5340 appendix A.1 for OSPF).
    pub fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Other(112) => &["224.0.0.18", "ff02::12"],
            Self::Other(89) => &["224.0.0.5", "224.0.0.6", "ff02::5", "ff02::6"],
            _ => &[],
        }
    }

    /// What a person calls it with its port: `443/tcp`, `vrrp`.
    pub fn at(self, port: Option<Port>) -> String {
        port.map_or_else(|| self.to_string(), |port| format!("{port}/{self}"))
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.pad("tcp"),
            Self::Udp => f.pad("udp"),
            Self::Any => f.pad("any"),
            Self::Other(number) => match NAMES.iter().find(|(_, of)| of == number) {
                Some((name, _)) => f.pad(name),
                None => f.pad(&number.to_string()),
            },
        }
    }
}

impl FromStr for Proto {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Other(*number));
        }
        match (text, text.parse::<u8>()) {
            ("tcp", _) | (_, Ok(6)) => Ok(Self::Tcp),
            ("udp", _) | (_, Ok(17)) => Ok(Self::Udp),
            ("any", _) => Ok(Self::Any),
            (_, Ok(number)) if number > 0 => Ok(Self::Other(number)),
            _ => {
                let names: Vec<&str> = ["tcp", "udp"].into_iter().chain(NAMES.map(|(name, _)| name)).collect();
                let all = || format!("write {}, or the number of a protocol from 1 to 255", names.join(", "));
                let near = did_you_mean(&text.to_lowercase(), names.iter().copied());
                Err(Invalid::new("is no protocol").help(near.unwrap_or_else(all)))
            }
        }
    }
}

impl TryFrom<String> for Proto {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Proto> for String {
    fn from(proto: Proto) -> Self {
        proto.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_number_reads_back() {
        for text in ["tcp", "udp", "any"].into_iter().chain(NAMES.map(|(name, _)| name)) {
            assert_eq!(text.parse::<Proto>().unwrap().to_string(), text);
        }
        for number in 1..=255u8 {
            let proto: Proto = number.to_string().parse().unwrap();
            assert_eq!(proto.to_string().parse::<Proto>().unwrap(), proto);
            assert_eq!(proto.has_ports(), number == 6 || number == 17);
        }
        for bad in ["", "0", "256", "VRRP", "tcp ", "-1"] {
            assert!(bad.parse::<Proto>().is_err(), "{bad}");
        }
        assert_eq!(Proto::Other(1).numbers(true, true), [1, 58]);
        assert_eq!(Proto::Other(112).numbers(true, true), [112]);
    }
}

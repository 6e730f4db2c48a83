//! Newtypes of the network's words: takes text from an inventory, gives values that can no longer be wrong.
//! Each `FromStr` error is a fragment fit to follow `` `TEXT` ``, e.g. «has host bits set, write 10.0.0.0/24».

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is not the value it should be: a fragment that follows the text, and a help line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Invalid {
    /// What is wrong, lower case, no full stop.
    pub reason: String,
    /// What to write instead, imperative.
    pub help: Option<String>,
}

impl Invalid {
    /// Takes the fragment of the message alone.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), help: None }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The nearest text of a-z, 0-9 and `-` that can be a label; `None` where a person must choose one.
fn tidy(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase().replace(['_', ' '], "-");
    let kept: String = lower.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-').collect();
    let bare = kept.trim_matches('-');
    (text.is_ascii() && label(bare).is_ok()).then(|| bare.to_owned())
}

/// The verdict of a label of `text`, with the whole text as it should be written, where that is known.
fn spelled<T: FromStr<Err = Invalid>>(verdict: Invalid, text: Option<String>) -> Invalid {
    match text.filter(|text| text.parse::<T>().is_ok()) {
        Some(text) => verdict.help(format!("write `{text}`")),
        None => verdict,
    }
}

fn label(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("has an empty label"));
    }
    if text.len() > 63 {
        return Err(Invalid::new("has a label longer than 63 characters"));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(Invalid::new("has a label that begins or ends with `-`"));
    }
    match text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        None => Ok(()),
        Some(c) if c.is_ascii_uppercase() => {
            Err(Invalid::new(format!("has the upper-case letter `{c}`")).help("use a-z, 0-9 and `-` only"))
        }
        Some(c) if !c.is_ascii() => Err(Invalid::new(format!("has the character `{c}`"))
            .help("write international names in their xn-- form (`idn2 NAME` prints it)")),
        Some(c) => {
            Err(Invalid::new(format!("has the character `{}`", c.escape_default())).help("use a-z, 0-9 and `-` only"))
        }
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The text as it was checked.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}
pub(crate) use text_newtype;

/// The inventory's name of a host: one DNS label (RFC 1123 §2.1), because it becomes a part of its internal name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);
text_newtype!(HostName);

impl FromStr for HostName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some((first, _)) = text.split_once('.') {
            let why =
                Invalid::new("has a dot, and a name here is a single label").help("write one label, such as `web1`");
            return Err(spelled::<Self>(why, tidy(first)));
        }
        match label(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(why) => Err(spelled::<Self>(why, tidy(text))),
        }
    }
}

/// A DNS name of two labels or more, lower case, at most 253 characters (RFC 1123 §2.1); `*.` may lead it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);
text_newtype!(DnsName);

impl DnsName {
    /// Whether the name begins with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name as a part of a file's path or of another program's word: the star of a wildcard is an underscore, which no name has.
    pub fn to_word(&self) -> String {
        self.0.replace('*', "_")
    }

    /// A name to ask for: a wildcard's own stands for any.
    pub fn example(&self) -> String {
        self.0.replace('*', "infra-probe")
    }
}

impl FromStr for DnsName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() > 253 {
            return Err(Invalid::new("is longer than 253 characters"));
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(Invalid::new("is an address, not a name"));
        }
        let (star, rest) = text.strip_prefix("*.").map_or(("", text), |rest| ("*.", rest));
        let tidied = || {
            let labels: Option<Vec<String>> = rest.trim_end_matches('.').split('.').map(tidy).collect();
            let labels = labels?;
            let end = if labels.len() < 2 { ".example.com" } else { "" };
            Some(format!("{star}{}{end}", labels.join(".")))
        };
        if text.ends_with('.') {
            let why = Invalid::new("ends with a dot").help("write the name without its last dot");
            return Err(spelled::<Self>(why, tidied()));
        }
        if !rest.contains('.') {
            let why = Invalid::new("has one label only").help("write the full name, such as `shop.example.com`");
            return Err(spelled::<Self>(why, tidied()));
        }
        for part in rest.split('.') {
            label(part).map_err(|why| spelled::<Self>(why, tidied()))?;
        }
        if rest.rsplit('.').next().is_some_and(|top| top.chars().all(|c| c.is_ascii_digit())) {
            return Err(Invalid::new("ends with a label of digits"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A network in CIDR form with no host bits (`10.0.0.1/24` is a typo, not a network); a bare address is its /32 or /128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// The network itself.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Whether it is IPv4.
    pub fn is_ipv4(self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// Whether it is one address.
    pub fn is_one(self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// Whether it holds `address`.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }
}

impl fmt::Display for Cidr {
    /// A whole address without its `/32` or `/128`, as nft and iptables print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() { f.pad(&self.0.addr().to_string()) } else { f.pad(&self.0.to_string()) }
    }
}

impl From<Cidr> for String {
    fn from(value: Cidr) -> String {
        value.to_string()
    }
}

impl TryFrom<String> for Cidr {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl FromStr for Cidr {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let net: IpNet = text.parse().map_err(|_| {
            Invalid::new("is not a network in CIDR form").help("write `10.0.0.0/24`, `2001:db8::/48` or one address")
        })?;
        if net != net.trunc() {
            return Err(Invalid::new("has host bits set").help(format!(
                "write `{}` for the network, or `{}` for the one host",
                net.trunc(),
                net.addr()
            )));
        }
        Ok(Self(net))
    }
}

/// A TCP or UDP port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u64", into = "u16")]
pub struct Port(u16);

impl Port {
    /// HTTP, for redirects and for the http-01 challenge.
    pub const HTTP: Self = Self(80);
    /// HTTPS.
    pub const HTTPS: Self = Self(443);
    /// That of a program in a first inventory.
    pub const PROGRAM: Self = Self(8080);

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Port> for u16 {
    fn from(value: Port) -> u16 {
        value.0
    }
}

impl TryFrom<u64> for Port {
    type Error = Invalid;
    fn try_from(number: u64) -> Result<Self, Invalid> {
        match u16::try_from(number) {
            Ok(n) if n > 0 => Ok(Self(n)),
            _ => Err(Invalid::new("is out of range").help("a port is 1 to 65535")),
        }
    }
}

impl FromStr for Port {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse::<u64>().map_err(|_| Invalid::new("is not a number").help("a port is 1 to 65535"))?.try_into()
    }
}

/// As URLs and `Host` write it (RFC 3986 section 3.2.2).
pub fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_with_host_bits_is_a_typo() {
        let error = "10.0.0.1/24".parse::<Cidr>().unwrap_err();
        assert_eq!(error.help.as_deref(), Some("write `10.0.0.0/24` for the network, or `10.0.0.1` for the one host"));
        assert_eq!("10.0.0.0/24".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/24");
        assert_eq!("fd00::1".parse::<Cidr>().unwrap().to_string(), "fd00::1");
    }

    #[test]
    fn names() {
        assert!("web-1".parse::<HostName>().is_ok());
        for bad in ["", "Web", "a.b", "-a", "a-", "w\u{00fc}", "a_b"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert!("shop.example.com".parse::<DnsName>().is_ok());
        assert!("*.example.com".parse::<DnsName>().unwrap().is_wildcard());
        for bad in ["shop", "shop.example.com.", "10.0.0.1", "a..b", "x.*.com", "a.1"] {
            assert!(bad.parse::<DnsName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports() {
        assert!(Port::try_from(0).is_err());
        assert!(Port::try_from(65536).is_err());
        assert_eq!(Port::try_from(443).unwrap(), Port::HTTPS);
    }
}

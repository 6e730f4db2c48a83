//! What a lab is to be: plain values taken from wherever, checked here once; gives every address and name that the lab uses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Error;
use super::directory::{Directory, dns_name};

/// The name under which the twin's DNS answers for the package repository.
pub const REPOSITORY_NAME: &str = "deb.lab.internal";

/// A release of Debian or Ubuntu that a lab's hosts can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 12.
    #[default]
    Bookworm,
    /// Ubuntu 22.04.
    Jammy,
    /// Ubuntu 24.04.
    Noble,
    /// Debian 13.
    Trixie,
    /// Ubuntu 26.04.
    Resolute,
    /// Debian's next release as it grows, the only one with `MySQL` in it.
    Sid,
}

impl Release {
    /// Every release, in the order of those that are supported.
    pub const ALL: [Self; 6] = [Self::Bookworm, Self::Jammy, Self::Noble, Self::Trixie, Self::Resolute, Self::Sid];

    /// Whether it is Ubuntu's, whose packages come from archives of its own.
    pub fn is_ubuntu(self) -> bool {
        matches!(self, Self::Jammy | Self::Noble | Self::Resolute)
    }

    /// The suite in the archive.
    pub fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Jammy => "jammy",
            Self::Noble => "noble",
            Self::Trixie => "trixie",
            Self::Resolute => "resolute",
            Self::Sid => "sid",
        }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.suite())
    }
}

impl std::str::FromStr for Release {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|release| release.suite() == text).ok_or_else(|| {
            Error::Spec(format!(
                "`{text}` is not a release that the lab knows; write `bookworm`, `jammy`, `noble`, `trixie`, `resolute` or `sid`"
            ))
        })
    }
}

/// One host of the twin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpecHost {
    /// Its name: one DNS label, not `outside` or `controller`.
    pub name: String,
    /// What it is reached by; at least one.
    pub addresses: Vec<IpAddr>,
    /// Further addresses that it holds.
    pub public: Vec<IpAddr>,
    /// The user that logs in here, if not the lab's.
    pub user: Option<String>,
    /// The port of sshd, if not 22.
    pub ssh_port: Option<u16>,
    /// Files that are there before the first boot: absolute path → text (root, 0644).
    pub files: BTreeMap<String, String>,
}

/// What monitoring agents speak with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Endpoint {
    /// The host of the HTTP source.
    pub source: String,
    /// The host and the path of the package repository of the agent's maker.
    pub packages: Option<(String, String)>,
}

/// A lab.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spec {
    /// Its name: one DNS label. Labs of different names stand side by side.
    pub name: String,
    /// What the hosts run.
    pub release: Release,
    /// The hosts.
    pub hosts: Vec<SpecHost>,
    /// Names that the twin's DNS answers besides the hosts' own; `*.NAME` answers everything below NAME.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Addresses that the controller holds.
    pub controller: Vec<IpAddr>,
    /// Addresses that `outside` holds besides its own (a CDN's, say, that a rule names).
    pub outside: Vec<IpAddr>,
    /// Networks in which `outside` must not choose its own addresses, because a rule names them.
    pub avoid: Vec<IpNet>,
    /// The user that logs in by SSH with the lab's key; with sudo, unless it is root.
    pub user: String,
    /// Small HTTP programs on loopback: host → ports.
    pub apps: BTreeMap<String, Vec<u16>>,
    /// The ACME directories of the world, each of which becomes a public certificate authority in `outside`.
    #[serde(default)]
    pub authorities: Vec<Directory>,
    /// The zones that name servers in `outside` answer for, which take the TXT records of challenges by dynamic update.
    #[serde(default)]
    pub zones: BTreeSet<String>,
    /// The monitoring service that agents post to.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// The addresses that the lab chose for `outside`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Where the DNS and the package repository listen: IPv4, then IPv6.
    pub services: Vec<IpAddr>,
    /// Where clients come from; nothing of the lab listens there. IPv4, then IPv6.
    pub clients: Vec<IpAddr>,
    /// Where each of [`Spec::authorities`] listens.
    #[serde(default)]
    pub authorities: Vec<IpAddr>,
    /// Where the primary and the secondary name server of [`Spec::zones`] listen, and who asks them for everybody: of each,
    /// IPv4, then IPv6. None without zones.
    #[serde(default)]
    pub nameservers: Vec<Vec<IpAddr>>,
    /// Where [`Spec::endpoint`] listens: IPv4, then IPv6. None without it.
    #[serde(default)]
    pub endpoint: Vec<IpAddr>,
}

fn label(what: &str, text: &str, longest: usize) -> Result<(), Error> {
    let fits = !text.is_empty()
        && text.len() <= longest
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        return Ok(());
    }
    Err(Error::Spec(format!(
        "the {what} `{}` cannot be used; it needs 1 to {longest} of a-z, 0-9 and `-`, not `-` at its ends",
        text.escape_default()
    )))
}

/// Whether a lab can have that name; it becomes a part of paths and of namespaces.
///
/// # Errors
/// [`Error::Spec`] says what a name may be.
pub fn lab_name(name: &str) -> Result<(), Error> {
    label("name of the lab", name, 40)
}

impl Spec {
    /// Checks what would break a lab only half-way up.
    ///
    /// # Errors
    /// [`Error::Spec`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        lab_name(&self.name)?;
        if self.hosts.is_empty() {
            return Err(Error::Spec("a lab needs at least one host".to_owned()));
        }
        let mut names = BTreeSet::from(["outside", "controller"]);
        let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
        let controller = self.controller.iter().map(|a| (*a, "controller"));
        let outside = self.outside.iter().map(|a| (*a, "outside"));
        let of_hosts = self.hosts.iter().flat_map(|h| h.all_addresses().map(|a| (a, h.name.as_str())));
        for (address, holder) in of_hosts.chain(controller).chain(outside) {
            if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
                return Err(Error::Spec(format!("`{holder}` cannot hold the address {address}")));
            }
            if let Some(other) = seen.insert(address, holder) {
                return Err(Error::Spec(format!("the address {address} is held by both `{other}` and `{holder}`")));
            }
        }
        for host in &self.hosts {
            label("host name", &host.name, 60)?;
            if !names.insert(&host.name) {
                return Err(Error::Spec(format!("the host name `{}` is taken", host.name)));
            }
            if host.addresses.is_empty() {
                return Err(Error::Spec(format!("the host `{}` has no address", host.name)));
            }
            user(self.user_of(host))?;
            if let Some(path) = host.files.keys().find(|p| !p.starts_with('/') || p.split('/').any(|part| part == ".."))
            {
                return Err(Error::Spec(format!("`{path}` on `{}` is not an absolute path", host.name)));
            }
        }
        match self.apps.keys().find(|name| !self.hosts.iter().any(|h| h.name == **name)) {
            Some(name) => Err(Error::Spec(format!("a program is wanted on `{name}`, which is not a host of the lab"))),
            None => self.names.keys().chain(&self.zones).try_for_each(|name| dns_name(name)),
        }?;
        let mut servers = BTreeSet::new();
        for directory in &self.authorities {
            let host = directory.place()?.host;
            if self.names.contains_key(&host) || !servers.insert(host.clone()) {
                return Err(Error::Spec(format!(
                    "the lab cannot serve the ACME directory {}: `{host}` is another's name too",
                    directory.url
                )));
            }
        }
        Ok(())
    }

    /// Who logs in on `host`.
    pub fn user_of<'a>(&'a self, host: &'a SpecHost) -> &'a str {
        host.user.as_deref().unwrap_or(&self.user)
    }

    /// Which of the zones a name is in.
    pub fn zone(&self, name: &str) -> Option<&str> {
        let within = |zone: &&str| name.strip_suffix(*zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.zones.iter().map(String::as_str).filter(within).max_by_key(|zone| zone.len())
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&SpecHost> {
        self.hosts.iter().find(|h| h.name == name)
    }

    /// Chooses addresses for `outside` from the ranges for documentation and benchmarks (RFC 5737, RFC 2544, RFC 3849)
    /// that neither a host, a name nor a rule of the spec has; `before` when that still holds.
    ///
    /// # Errors
    /// [`Error::Spec`] when the rules leave no room.
    pub fn choose_outside(&self, before: Option<&Outside>) -> Result<Outside, Error> {
        let mut used: BTreeSet<IpAddr> = self.hosts.iter().flat_map(SpecHost::all_addresses).collect();
        used.extend(self.controller.iter().chain(&self.outside).chain(self.names.values().flatten()));
        let free = |address: &IpAddr| !used.contains(address) && !self.avoid.iter().any(|net| net.contains(address));
        if let Some(before) = before.filter(|b| b.all().all(|a| free(&a)) && b.fits(self)) {
            return Ok(before.clone());
        }
        let v4 = [[192, 0, 2], [198, 51, 100], [203, 0, 113], [198, 18, 0], [198, 19, 255]];
        let v4 =
            v4.into_iter().flat_map(|[a, b, c]| (1..=254).rev().map(move |d| IpAddr::from(Ipv4Addr::new(a, b, c, d))));
        let v6 = [0x0f00, 0x0e00, 0x0001].into_iter().flat_map(|net| {
            (1..=0xfe).rev().map(move |n| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, n)))
        });
        let (mut v4, mut v6) = (v4.filter(free), v6.filter(free));
        let mut both = || Some(vec![v4.next()?, v6.next()?]);
        // The order matters: with more authorities, what was chosen before them stays the same.
        let (services, clients) = (both(), both());
        // The controller must reach them.
        let ipv4 = self.controller.is_empty() || self.controller.iter().any(IpAddr::is_ipv4);
        let mut one = || if ipv4 { v4.next() } else { v6.next() };
        let authorities = self.authorities.iter().map(|_| one()).collect();
        let mut both = || Some(vec![v4.next()?, v6.next()?]);
        let servers = if self.zones.is_empty() { 0 } else { 3 };
        let nameservers = (0..servers).map(|_| both()).collect();
        let endpoint = if self.endpoint.is_some() { both() } else { Some(Vec::new()) };
        match (services, clients, authorities, nameservers, endpoint) {
            (Some(services), Some(clients), Some(authorities), Some(nameservers), Some(endpoint)) => {
                Ok(Outside { services, clients, authorities, nameservers, endpoint })
            }
            _ => Err(Error::Spec(
                "no address is left for `outside`: rules name all of 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, \
                 198.18.0.0/15 or 2001:db8::/32"
                    .to_owned(),
            )),
        }
    }
}

impl Outside {
    /// Every address of it.
    fn all(&self) -> impl Iterator<Item = IpAddr> {
        let fixed = self.services.iter().chain(&self.clients).chain(&self.authorities);
        fixed.chain(self.nameservers.iter().flatten()).chain(&self.endpoint).copied()
    }

    /// Whether it has as many as `spec` wants.
    fn fits(&self, spec: &Spec) -> bool {
        self.authorities.len() == spec.authorities.len()
            && self.nameservers.is_empty() == spec.zones.is_empty()
            && self.endpoint.is_empty() == spec.endpoint.is_none()
    }
}

impl SpecHost {
    /// Everything that it holds on its interface.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().chain(&self.public).copied()
    }

    /// Whether it holds an address of `like`'s family.
    pub fn speaks(&self, like: IpAddr) -> bool {
        self.all_addresses().any(|a| a.is_ipv4() == like.is_ipv4())
    }

    /// Where its sshd listens.
    pub fn port(&self) -> u16 {
        self.ssh_port.unwrap_or(22)
    }
}

/// useradd(8): what Debian takes for a name.
fn user(name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    if first
        && name.len() <= 32
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    {
        return Ok(());
    }
    Err(Error::Spec(format!("the user name `{}` cannot be used on a host", name.escape_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        let host = |name: &str, address: &str| SpecHost {
            name: name.to_owned(),
            addresses: vec![address.parse().unwrap()],
            ..SpecHost::default()
        };
        Spec {
            name: "t".to_owned(),
            hosts: vec![host("a", "10.0.0.1"), host("b", "fd00::2")],
            user: "ops".to_owned(),
            ..Spec::default()
        }
    }

    fn refused(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        spec.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_spec_that_would_break_half_way_is_refused() {
        spec().validate().unwrap();
        assert!(refused(|s| s.name = "../x".to_owned()).contains("name of the lab"));
        assert!(refused(|s| s.hosts.clear()).contains("at least one host"));
        assert!(refused(|s| s.hosts[1].name = "outside".to_owned()).contains("is taken"));
        assert!(refused(|s| s.hosts[1].name = "a".to_owned()).contains("is taken"));
        assert!(refused(|s| s.hosts[1].addresses.clear()).contains("has no address"));
        assert!(refused(|s| s.hosts[1].public.push("10.0.0.1".parse().unwrap())).contains("both `a` and `b`"));
        assert!(refused(|s| s.controller.push("10.0.0.1".parse().unwrap())).contains("`controller`"));
        assert!(refused(|s| s.hosts[0].addresses.push("127.0.0.1".parse().unwrap())).contains("cannot hold"));
        assert!(refused(|s| s.user = "a:b".to_owned()).contains("user name"));
        assert!(refused(|s| drop(s.apps.insert("z".to_owned(), vec![80]))).contains("not a host of the lab"));
        assert!(refused(|s| drop(s.names.insert("a b".to_owned(), vec![]))).contains("not a DNS name"));
        assert!(refused(|s| drop(s.hosts[0].files.insert("/a/../b".to_owned(), String::new()))).contains("absolute"));
    }

    #[test]
    fn outside_keeps_out_of_what_the_spec_names() {
        let mut spec = spec();
        spec.avoid = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:f00::/48".parse().unwrap()];
        spec.outside = vec!["198.51.100.254".parse().unwrap()];
        let outside = spec.choose_outside(None).unwrap();
        let text = |list: &[IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&outside.services), ["198.51.100.253", "2001:db8:e00::fe"]);
        assert_eq!(text(&outside.clients), ["198.51.100.252", "2001:db8:e00::fd"]);
        spec.avoid.push("0.0.0.0/0".parse().unwrap());
        assert!(spec.choose_outside(Some(&outside)).is_err());
        spec.avoid.pop();
        spec.avoid.push("198.51.100.254/32".parse().unwrap());
        assert_eq!(spec.choose_outside(Some(&outside)).unwrap(), outside);
    }
}

//! The twin of an inventory: takes a resolved [`Site`], gives the lab's [`Spec`] with the inventory's own addresses and names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::directory::Directory;
use super::endpoint;
use super::nameserver::zone_of;
use super::spec::{Release, Spec, SpecHost};
use crate::base::net::{Cidr, Port};
use crate::inventory::site::{Challenge, Party, Role, Site};

/// Who logs in where the inventory names nobody.
const USER: &str = "root";

impl Spec {
    /// The lab that the inventory describes: its hosts, its sites' names on the load balancers' public addresses, a
    /// controller inside `manage_from`, and the programs behind the app hosts.
    pub fn of_site(site: &Site, name: &str, release: Release) -> Self {
        let held: Vec<IpAddr> =
            site.hosts.values().flat_map(|h| h.addresses.iter().chain(&h.public).copied()).collect();
        let hosts = site.hosts.values().map(|host| SpecHost {
            name: host.name.to_string(),
            addresses: host.addresses.clone(),
            public: host.public.iter().filter(|a| !host.addresses.contains(a)).copied().collect(),
            user: host.ssh.user.clone(),
            ssh_port: host.ssh.port.map(Port::get),
            files: BTreeMap::new(),
        });
        let front: Vec<IpAddr> = site
            .with_role(Role::Lb)
            .flat_map(|lb| if lb.public.is_empty() { &lb.addresses } else { &lb.public })
            .copied()
            .collect();
        let public: Vec<String> = site.sites.values().flat_map(|s| s.names().map(ToString::to_string)).collect();
        let authorities = Directory::of(&site.certificates, &site.folder);
        let by_dns = !authorities.is_empty() && matches!(site.certificates.challenge, Challenge::Dns01 { .. });
        let zones = public.iter().filter(|_| by_dns).map(|name| zone_of(name).to_owned()).collect();
        let names = public.into_iter().map(|name| (name, front.clone())).collect();
        let ports = |host| site.programs_on(host).into_keys().map(Port::get).collect();
        let networks = site.firewall.allow.iter().flat_map(|allow| &allow.from).filter_map(|party| match party {
            Party::Net(net) => Some(*net),
            _ => None,
        });
        let scraping = site.monitoring.iter().flat_map(|monitoring| &monitoring.from).copied();
        let networks: Vec<Cidr> = networks.chain(scraping).collect();
        let manage = site.firewall.manage_from.iter().map(|(net, _)| *net);
        let block = site.firewall.block.iter().map(|(net, _)| *net);
        // Each address is held once, though networks may lie within others.
        let mut held = held;
        let mut choose = |net: Cidr| {
            let address = free(net.net(), &held)?;
            held.push(address);
            Some(address)
        };
        let controller = manage.clone().filter_map(&mut choose).collect();
        // One address of each network that a rule lets in from afar, so that the rule can be tried from `outside`.
        let outside = networks.iter().copied().filter_map(&mut choose).collect();
        Self {
            name: name.to_owned(),
            release,
            hosts: hosts.collect(),
            names,
            controller,
            outside,
            avoid: networks
                .iter()
                .copied()
                .chain(manage)
                .chain(block)
                .map(Cidr::net)
                .filter(|net| net.prefix_len() > 0)
                .collect(),
            user: site.hosts.values().find_map(|h| h.ssh.user.clone()).unwrap_or_else(|| USER.to_owned()),
            authorities,
            zones,
            endpoint: endpoint::of_site(site),
            apps: site.with_role(Role::App).map(|h| (h.name.to_string(), ports(h))).collect(),
        }
    }
}

/// The first address of a network that no host holds; what is wider than a host looks at its first few only.
fn free(net: IpNet, held: &[IpAddr]) -> Option<IpAddr> {
    // Of everything, one from the ranges for benchmarks and documentation (RFC 2544, RFC 3849).
    let net = match net {
        IpNet::V4(v4) if v4.prefix_len() == 0 => IpNet::new(Ipv4Addr::new(198, 18, 0, 0).into(), 24).unwrap_or(net),
        IpNet::V6(v6) if v6.prefix_len() == 0 => {
            IpNet::new(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0).into(), 64).unwrap_or(net)
        }
        other => other,
    };
    // The lowest of an IPv6 network belongs to its routers (RFC 4291 §2.6.1); of IPv4 `hosts` leaves it out.
    let routers = |address: &IpAddr| address.is_ipv6() && net.prefix_len() < 127 && *address == net.network();
    net.hosts()
        .take(held.len() + 3)
        .find(|address| !held.contains(address) && !address.is_unspecified() && !routers(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_address_is_one_that_a_host_could_hold() {
        let first = |net: &str, held: &[&str]| {
            let held: Vec<IpAddr> = held.iter().map(|a| a.parse().unwrap()).collect();
            free(net.parse().unwrap(), &held).map(|a| a.to_string())
        };
        assert_eq!(first("10.0.0.0/24", &["10.0.0.1"]).as_deref(), Some("10.0.0.2"));
        assert_eq!(first("fd00::/64", &[]).as_deref(), Some("fd00::1"));
        assert_eq!(first("198.51.100.7/32", &[]).as_deref(), Some("198.51.100.7"));
        assert_eq!(first("198.51.100.7/32", &["198.51.100.7"]), None);
        assert_eq!(first("0.0.0.0/0", &[]).as_deref(), Some("198.18.0.1"));
        assert_eq!(first("::/0", &[]).as_deref(), Some("2001:db8:c::1"));
    }
}

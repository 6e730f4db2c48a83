//! Where the measures of each host are scraped: takes the site and who watches (a host of it, or a Prometheus outside), gives a target
//! for each source of each host that is reached from there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

use crate::inventory::site::{Host, Site};
use crate::service::firewall::flows::METRICS;
use crate::service::nginx;
use crate::service::prometheus::{Exporter, exporters};

/// A source of measures, as a job of Prometheus has it.
#[derive(Debug, Serialize)]
pub(super) struct Target<'a> {
    job: &'static str,
    host: &'a str,
    roles: String,
    socket: SocketAddr,
    path: String,
    /// The name in its certificate; none on loopback, where there is no TLS.
    server_name: Option<String>,
}

/// Those of a host that watches; its own sources are on loopback.
pub(super) fn of_watcher<'a>(site: &'a Site, watcher: &Host) -> Vec<Target<'a>> {
    let of = |host: &'a Host| {
        let own = host.name == watcher.name;
        let address = if own { Some(Ipv4Addr::LOCALHOST.into()) } else { nginx::reach(watcher, host) };
        of_host(site, host, address, own)
    };
    site.hosts.values().flat_map(of).collect()
}

/// Those of a Prometheus in one of the networks `from`: at addresses of a family that these have, IPv4 before IPv6.
pub(super) fn from_outside(site: &Site) -> Vec<Target<'_>> {
    let from = site.monitoring.as_ref().map(|monitoring| monitoring.from.as_slice()).unwrap_or_default();
    let families = [true, false].into_iter().filter(|v4| from.iter().any(|net| net.net().addr().is_ipv4() == *v4));
    let families: Vec<bool> = families.collect();
    let of = |host| of_host(site, host, families.iter().find_map(|v4| host.address(*v4)), false);
    site.hosts.values().flat_map(of).collect()
}

fn of_host<'a>(site: &'a Site, host: &'a Host, address: Option<IpAddr>, own: bool) -> Vec<Target<'a>> {
    let Some(address) = address else { return Vec::new() };
    let one = |exporter: Exporter| Target {
        job: exporter.name,
        host: host.name.as_str(),
        roles: host.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(","),
        socket: SocketAddr::new(address, if own { exporter.port } else { METRICS }),
        path: if own { "/metrics".to_owned() } else { format!("/{}", exporter.name) },
        server_name: (!own).then(|| site.internal_name(&host.name)),
    };
    exporters(site, host).into_iter().map(one).collect()
}

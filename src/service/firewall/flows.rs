//! Who may talk to whom: takes a [`Site`], gives its flows for the whole fleet.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::{Cidr, HostName, Port};
use crate::base::proto::Proto;
use crate::inventory::site::{Agent, Host, MonitoringService, Party, Place, Role, Site};
use crate::plan::decision::Passage;
use crate::plan::ruleset::MANAGE;

/// SSH where the inventory names no port (RFC 4253 §4.1).
pub const SSH: u16 = 22;
/// The port of both database engines.
pub const DATABASE: u16 = 3306;
/// Where a db host says which role it has.
pub const DATABASE_ROLE: u16 = 9306;
/// Where a host is scraped: `HAProxy`'s own measures on loopback, and the TLS front for who watches.
pub const METRICS: u16 = 8405;
/// The numeric users that fetch packages: root and Debian's `_apt`. Numbers, because a rule with the name of a user who does not exist yet
/// fails to load.
pub const PACKAGE_UIDS: [u32; 2] = [0, APT_UID];
/// `_apt`, as base-passwd assigns it statically since Debian 12 and Ubuntu 24.04. On a host that was installed before that, the user keeps
/// the number that it got there: [`super::apt_uid`].
pub const APT_UID: u32 = 42;
/// The numeric user of the monitoring agent, made by infra with this very number, for the same reason: neither Debian (policy 9.2.2)
/// nor systemd (its «Users, Groups, UIDs and GIDs») gives 60578 to 61183 to anybody.
pub const AGENT_UID: u32 = 60780;
/// That of Sumo Logic's collector, which does both.
pub const COLLECTOR_UID: u32 = 60781;

/// Why a flow exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The internet to the load balancers.
    Edge,
    /// SSH, from `manage_from` or a jump host.
    Manage,
    /// From one tier to the next.
    Tier,
    /// To and between databases.
    Database,
    /// Scraping of metrics.
    Monitoring,
    /// `firewall.allow`.
    Allow,
    /// `firewall.forward`.
    Forward,
    /// What every host needs from outside: names, time, packages.
    Egress,
}

/// One accepted kind of connection, fleet-wide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Who opens it.
    pub from: Party,
    /// Who answers.
    pub to: Party,
    /// TCP, UDP, or another protocol.
    pub proto: Proto,
    /// Destination port; none where the protocol has none, and where all of them are meant.
    pub port: Option<Port>,
    /// Whose host forwards it. It opens that host's forwarding alone, and neither of its ends.
    pub through: Option<Party>,
    /// Only processes of these numeric users may open it; empty means any.
    pub uids: BTreeSet<u32>,
    /// Why it exists, by kind.
    pub kind: Kind,
    /// Why it exists, in words.
    pub why: String,
    /// The inventory line that asks for it, where there is one.
    pub place: Option<Place>,
}

impl Flow {
    /// What the rules made from it are called: `lb -> web`, `manage_from -> all`, `all -> internet: dns`.
    pub fn name(&self) -> String {
        match (self.kind, &self.from) {
            (Kind::Manage, Party::Net(_)) => format!("{MANAGE} -> {}", self.to),
            (Kind::Egress, from) => format!("{from} -> {}: {}", self.to, self.why),
            (Kind::Forward, from) => format!("{from} -> {} forwarded", self.to),
            (_, from) => format!("{from} -> {}", self.to),
        }
    }
}

impl fmt::Display for Flow {
    /// `lb -> web 8443/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.from, self.to, self.proto.at(self.port))
    }
}

fn port(number: u16) -> Port {
    // The constants of this file are never 0; should one be, HTTPS is the least harmful.
    Port::try_from(u64::from(number)).unwrap_or(Port::HTTPS)
}

fn flow(kind: Kind, from: Party, to: Party, port: Port, why: &str) -> Flow {
    let why = why.into();
    Flow { from, to, proto: Proto::Tcp, port: Some(port), through: None, uids: BTreeSet::new(), kind, why, place: None }
}

impl Flow {
    fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }
    fn udp(mut self) -> Self {
        self.proto = Proto::Udp;
        self
    }
    fn only(mut self, uids: &[u32]) -> Self {
        self.uids = uids.iter().copied().collect();
        self
    }
}

/// The flow of a way between two hosts that is open only while a run lasts.
pub(super) fn way(way: &Passage) -> Flow {
    flow(Kind::Tier, Party::Host(way.from.clone()), Party::Host(way.to.clone()), way.port, &way.why)
}

/// All flows of the fleet: those that the roles imply, then SSH, `firewall.allow`, and what every host needs from outside.
pub fn derive(site: &Site) -> Vec<Flow> {
    let has = |role| site.with_role(role).next().is_some();
    let role = Party::Role;
    let mut flows = Vec::new();
    if has(Role::Lb) {
        let public = "redirect to HTTPS, and certificate challenges";
        flows.push(flow(Kind::Edge, Party::Internet, role(Role::Lb), Port::HTTP, public));
        flows.push(flow(Kind::Edge, Party::Internet, role(Role::Lb), Port::HTTPS, "the sites"));
    }
    if has(Role::Lb) && has(Role::Web) {
        flows.push(flow(Kind::Tier, role(Role::Lb), role(Role::Web), site.ports.web, "requests and health checks"));
    }
    if has(Role::Web) && has(Role::App) {
        flows.push(flow(Kind::Tier, role(Role::Web), role(Role::App), site.ports.app, "requests to the program"));
    }
    if let Some(database) = site.database.as_ref().filter(|_| has(Role::Db)) {
        let mut from = BTreeSet::from([Role::App]);
        from.extend(database.users.values().map(|user| user.from));
        from.remove(&Role::Db);
        for client in from.into_iter().filter(|r| has(*r)) {
            for (number, why) in [(DATABASE, "queries"), (DATABASE_ROLE, "which database host may write")] {
                let one = flow(Kind::Database, role(client), role(Role::Db), port(number), why);
                flows.push(one.at(&database.place));
            }
        }
        // Both ways: after a failover replication runs the other way round.
        for (number, why) in [(DATABASE, "replication, either way"), (DATABASE_ROLE, "who is the writer, either way")] {
            let one = flow(Kind::Database, role(Role::Db), role(Role::Db), port(number), why);
            flows.push(one.at(&database.place));
        }
    }
    if let Some(monitoring) = site.monitoring.as_ref().filter(|_| site.outside_watcher().is_some()) {
        for net in &monitoring.from {
            let one = flow(Kind::Monitoring, Party::Net(*net), Party::All, port(METRICS), "scraping of measures");
            flows.push(one.at(&monitoring.place));
        }
    }
    if has(Role::Monitor) && site.monitoring.as_ref().is_some_and(|m| m.service == MonitoringService::Prometheus) {
        let place = site.monitoring.as_ref().map(|monitoring| monitoring.place.clone()).unwrap_or_default();
        let scrape = flow(Kind::Monitoring, role(Role::Monitor), Party::All, port(METRICS), "scraping of measures");
        flows.push(scrape.at(&place));
        if has(Role::Lb) {
            let visit = "the sites, as their visitors get them";
            flows.push(flow(Kind::Monitoring, role(Role::Monitor), role(Role::Lb), Port::HTTPS, visit).at(&place));
        }
    }
    flows.extend(manage(site));
    for allow in site.firewall.allow.iter().chain(site.firewall.forward.iter().flatten()) {
        for from in &allow.from {
            flows.push(Flow {
                from: from.clone(),
                to: allow.to.clone(),
                proto: allow.proto,
                port: allow.port,
                through: allow.through.clone(),
                uids: BTreeSet::new(),
                kind: if allow.through.is_some() { Kind::Forward } else { Kind::Allow },
                why: allow.why.clone(),
                place: Some(allow.place.clone()),
            });
        }
    }
    flows.extend(egress(site));
    flows
}

/// The ports at which a host's sshd may be reached. Behind `ssh.address` a NAT may translate the port, so 22 counts too.
fn ssh_ports(host: &Host) -> BTreeSet<Port> {
    let mut ports = BTreeSet::from([host.ssh.port.unwrap_or(port(SSH))]);
    if host.ssh.address.is_some() {
        ports.insert(port(SSH));
    }
    ports
}

/// SSH from `manage_from`, and from jump hosts that are part of the inventory, whether that says so or the hosts have seen it:
/// without their flow the default deny would cut the way that the controller itself takes.
fn manage(site: &Site) -> Vec<Flow> {
    let mut flows = Vec::new();
    let sets: BTreeSet<BTreeSet<Port>> = site.hosts.values().map(ssh_ports).collect();
    let uniform = sets.len() == 1;
    for (net, place) in &site.firewall.manage_from {
        let from = || Party::Net(*net);
        if let Some(ports) = sets.first().filter(|_| uniform) {
            let one = |p: &Port| flow(Kind::Manage, from(), Party::All, *p, "ssh").at(place);
            flows.extend(ports.iter().map(one));
        } else {
            for host in site.hosts.values() {
                let one = |p: Port| flow(Kind::Manage, from(), Party::Host(host.name.clone()), p, "ssh").at(place);
                flows.extend(ssh_ports(host).into_iter().map(one));
            }
        }
    }
    let mut seen = BTreeSet::new();
    // Many hosts are behind few.
    let mut hops: HashMap<&str, Option<&Host>> = HashMap::new();
    for host in site.hosts.values() {
        let Some(jump) = &host.ssh.jump else { continue };
        let mut previous: Option<HostName> = None;
        for hop in
            jump.split(',').map(|hop| *hops.entry(hop).or_insert_with(|| hop_host(site, hop))).chain([Some(host)])
        {
            let name = hop.map(|h| h.name.clone());
            if let (Some(from), Some(to)) = (&previous, hop)
                && *from != to.name
                && seen.insert((from.clone(), to.name.clone()))
            {
                let one = |p| {
                    flow(
                        Kind::Manage,
                        Party::Host(from.clone()),
                        Party::Host(to.name.clone()),
                        p,
                        &format!("management through {from}"),
                    )
                };
                flows.extend(ssh_ports(to).into_iter().map(|p| one(p).at(&host.place)));
            }
            previous = name;
        }
    }
    for (to, from) in &site.through {
        let Some(to) = site.hosts.get(to).filter(|to| seen.insert((from.clone(), to.name.clone()))) else { continue };
        let why = format!("management through {from}");
        let ends = || (Party::Host(from.clone()), Party::Host(to.name.clone()));
        flows.extend(ssh_ports(to).into_iter().map(|port| flow(Kind::Manage, ends().0, ends().1, port, &why)));
    }
    flows
}

/// The inventory's host that a hop of `ssh -J` (`[user@]host[:port]`) names, if it is one.
fn hop_host<'a>(site: &'a Site, hop: &str) -> Option<&'a Host> {
    let hop = hop.trim().trim_start_matches("ssh://");
    let target = hop.rsplit_once('@').map_or(hop, |(_, rest)| rest);
    let target = match target.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None if target.matches(':').count() == 1 => target.split(':').next().unwrap_or(target),
        None => target,
    };
    let address = target.parse::<IpAddr>().ok();
    site.hosts.values().find(|host| {
        host.name.as_str() == target
            || host.ssh.address.as_deref() == Some(target)
            || address.is_some_and(|a| host.addresses.contains(&a) || host.public.contains(&a))
    })
}

fn egress(site: &Site) -> Vec<Flow> {
    let mut flows = Vec::new();
    let resolvers = &site.firewall.resolvers;
    let targets: Vec<Party> = if resolvers.is_empty() {
        vec![Party::Internet]
    } else {
        // A resolver on loopback needs no rule: loopback is always open.
        resolvers.iter().filter(|r| !r.is_loopback()).map(|r| Party::Net(Cidr::from(*r))).collect()
    };
    let egress = |to: &Party, number, why| flow(Kind::Egress, Party::All, to.clone(), port(number), why);
    for to in &targets {
        flows.push(egress(to, 53, "dns").udp());
        flows.push(egress(to, 53, "dns"));
    }
    flows.push(egress(&Party::Internet, 123, "ntp").udp());
    for number in [80, 443] {
        flows.push(egress(&Party::Internet, number, "packages").only(&PACKAGE_UIDS));
    }
    // The shipper of logs is root's, the agent has a user of its own.
    if let Some((monitoring, agent)) = site.monitoring.as_ref().and_then(|m| Some((m, m.sends_by()?))) {
        let users: &[u32] = match agent {
            Agent::Telegraf => &[0, AGENT_UID],
            Agent::OtelcolSumo => &[COLLECTOR_UID],
        };
        flows.push(egress(&Party::Internet, Port::HTTPS.get(), "monitoring").only(users).at(&monitoring.place));
    }
    flows
}

/// Whether `party` means `host`. A network does when it is one address and that is the host's: a bastion of the
/// inventory that stands in `manage_from` must be let out as well as in.
pub fn is_host(party: &Party, host: &Host) -> bool {
    match party {
        Party::All => true,
        Party::Role(role) => host.has(*role),
        Party::Host(name) => host.name == *name,
        Party::Net(net) => host.addresses.iter().chain(&host.public).any(|a| Cidr::from(*a) == *net),
        Party::Internet => false,
    }
}

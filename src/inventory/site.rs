//! The infrastructure as it was asked for, valid by construction: `resolve` is the only maker, every stage after it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::diagnostic::{Diagnostic, Span};
use crate::base::net::{Cidr, DnsName, HostName, Port, bracketed};
use crate::base::openpgp::Fingerprint;
use crate::base::proto::Proto;
use crate::base::sh::UnitName;
use crate::base::warning::Warning;

pub use super::bought::Bought;
pub use super::content::{AppProgram, Auth, KEPT, StaticFiles, leads};
pub use super::issuer::{Certificates, Challenge, Fallback, Issuer};
pub use super::manner::{BodyLimit, Compression, Hsts, KeyKind, Maintenance, Manner, Media, Page, Timeouts};
pub use super::origin::{Place, SecretRef};

/// What a host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Load balancer: `HAProxy` at the edge.
    Lb,
    /// nginx: static files, proxy to the app hosts.
    Web,
    /// The user's program behind a TLS front.
    App,
    /// Database.
    Db,
    /// Watches all others: Prometheus.
    Monitor,
}

impl Role {
    /// All roles, from the internet inwards.
    pub const ALL: [Self; 5] = [Self::Lb, Self::Web, Self::App, Self::Db, Self::Monitor];

    /// As the inventory spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lb => "lb",
            Self::Web => "web",
            Self::App => "app",
            Self::Db => "db",
            Self::Monitor => "monitor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How root is reached after the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Become {
    /// By sudo.
    Sudo,
    /// Not at all: the user is root.
    None,
}

/// How a host is reached by SSH. What is `None` here is decided by `~/.ssh/config` and the agent, as for ssh itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ssh {
    /// Login name.
    pub user: Option<String>,
    /// sudo or nothing; `None` means sudo unless the user is root.
    pub r#become: Option<Become>,
    /// TCP port.
    pub port: Option<Port>,
    /// Private key file, `~` expanded.
    pub identity: Option<PathBuf>,
    /// Jump host, as `ssh -J` takes it.
    pub jump: Option<String>,
    /// Another configuration file than `~/.ssh/config`.
    pub config: Option<PathBuf>,
    /// Address or name to connect to where it is not the host's first address.
    pub address: Option<String>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in the inventory.
    pub name: HostName,
    /// Addresses inside the infrastructure, at most one of each family; the first is the one that SSH connects to. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Addresses that the internet sees (load balancers); may be held by the host itself or by a NAT before it.
    pub public: Vec<IpAddr>,
    /// Never empty.
    pub roles: BTreeSet<Role>,
    /// The reason why roles that belong apart stand on one host.
    pub allow_mixed_roles: Option<String>,
    /// Merged from the file's `ssh:` and the host's own.
    pub ssh: Ssh,
    /// Where the host stands in the inventory.
    pub place: Place,
}

impl Host {
    /// Whether the host has `role`.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether `program` runs on it.
    pub fn runs(&self, program: &AppProgram) -> bool {
        self.has(Role::App) && (program.hosts.is_empty() || program.hosts.contains(&self.name))
    }

    /// The address of one family, if the host has it.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == ipv4)
    }

    /// The families of its addresses.
    pub fn families(&self) -> Families {
        let [ipv4, ipv6] = [true, false].map(|ipv4| self.address(ipv4).is_some());
        Families { ipv4, ipv6 }
    }
}

/// The families of addresses that a host speaks to others in: all that decides how it meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Families {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Families {
    /// Whether the one or the other is among them.
    pub fn has(self, ipv4: bool) -> bool {
        if ipv4 { self.ipv4 } else { self.ipv6 }
    }
}

/// The internal TLS ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// nginx of the web hosts (8443).
    pub web: Port,
    /// TLS front of the app hosts (9443).
    pub app: Port,
}

/// Which tool holds the rules on the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// An own table of nftables.
    #[default]
    Nftables,
    /// Own chains of iptables and ip6tables.
    Iptables,
}

/// Who a rule of `firewall.allow` is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// All hosts of a role.
    Role(Role),
    /// One host.
    Host(HostName),
    /// A network or one address.
    Net(Cidr),
    /// Everyone (`internet`).
    Internet,
    /// All hosts of the inventory (`all`).
    All,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => role.fmt(f),
            Self::Host(name) => name.fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Internet => f.pad("internet"),
            Self::All => f.pad("all"),
        }
    }
}

/// One `firewall.allow` entry: `{ to: web, port: 9000, from: [198.51.100.7], why: … }`. `to` may be a network too, for
/// egress (then `from` is roles or hosts).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// Who may be reached.
    pub to: Party,
    /// Who may reach it. Never empty.
    pub from: Vec<Party>,
    /// Destination port; none where the protocol has none. Of what is forwarded, none is all.
    pub port: Option<Port>,
    /// TCP where nothing is said; of what is forwarded, any.
    pub proto: Proto,
    /// The host or role that forwards it: only in `firewall.forward`.
    pub through: Option<Party>,
    /// Shown in the matrix.
    pub why: String,
    /// Its line.
    pub place: Place,
}

/// What the roles do not imply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallPolicy {
    /// nftables or iptables.
    pub backend: Backend,
    /// Networks that may open SSH. Never empty.
    pub manage_from: Vec<(Cidr, Place)>,
    /// Extra flows.
    pub allow: Vec<Allow>,
    /// What hosts forward for others. `None`: the inventory does not say, and a host that forwards is left alone. Empty: nothing, on
    /// purpose.
    pub forward: Option<Vec<Allow>>,
    /// Sources dropped before anything else.
    pub block: Vec<(Cidr, Place)>,
    /// Name servers that the hosts may ask; empty means any (53/tcp and 53/udp to anywhere).
    pub resolvers: Vec<IpAddr>,
}

/// One public site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSite {
    /// Its main name.
    pub name: DnsName,
    /// Other names of it, in order.
    pub aliases: Vec<DnsName>,
    /// Addresses of load balancers that it is asked for by, in order (RFC 8738); of one site at most.
    pub addresses: Vec<IpAddr>,
    /// Folders of static files, in order.
    pub files: Vec<StaticFiles>,
    /// The programs, in order. A site has at least one of the two.
    pub programs: Vec<AppProgram>,
    /// Where name and password are asked for; of several that fit a path, the longest counts.
    pub auth: Vec<Auth>,
    /// Whether a visitor stays with an app host while the program is well there.
    pub sticky: bool,
    /// How it answers.
    pub manner: Manner,
    /// Its certificate, where that is neither ordered nor made.
    pub certificate: Option<Bought>,
    /// Its line.
    pub place: Place,
}

impl WebSite {
    /// The main name and the aliases.
    pub fn names(&self) -> impl Iterator<Item = &DnsName> {
        std::iter::once(&self.name).chain(&self.aliases)
    }

    /// What `Host` says when it is asked for, without a port (RFC 9110 section 7.2): its names and its addresses.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.names().map(ToString::to_string).chain(self.addresses.iter().copied().map(bracketed))
    }

    /// Whether a request for `path` is asked for name and password.
    pub fn is_guarded(&self, path: &str) -> bool {
        let path = path.to_ascii_lowercase();
        self.auth.iter().any(|auth| leads(&auth.path.to_ascii_lowercase(), &path))
    }

    /// The program that a request for `path` reaches, if one does: that of the longest path, unless files have a longer prefix.
    pub fn program_at(&self, path: &str) -> Option<&AppProgram> {
        let program = self.programs.iter().filter(|one| leads(&one.path, path)).max_by_key(|one| one.path.len())?;
        let files = self.files.iter().map(|files| files.prefix.as_str());
        let nearer = files.filter(|prefix| path.starts_with(prefix)).any(|prefix| prefix.len() > program.path.len());
        (!nearer).then_some(program)
    }
}

/// A program on a host, and who is led to it.
#[derive(Debug, Clone)]
pub struct Listening<'a> {
    /// As the first of the sites has it; all agree on its port and health.
    pub program: &'a AppProgram,
    /// Never empty.
    pub sites: Vec<&'a WebSite>,
}

/// Who stands before the load balancers, and what one client may take of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edge {
    /// Networks of a CDN or a load balancer in front: whoever comes from there is believed about the client's address.
    pub trusted_proxies: Vec<Cidr>,
    /// Where they tell it; `None` exactly where there are none.
    pub client_address: Option<ClientAddress>,
    /// For each source.
    pub limits: EdgeLimits,
}

/// Where a proxy in front tells the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAddress {
    /// In this header; of a list the last one, which the proxy itself has put there.
    Header(String),
    /// Ahead of all, as haproxy.org's `proxy-protocol.txt` has it, version 1 or 2.
    ProxyProtocol,
}

/// What one client may take: an IPv4 address, or an IPv6 /64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Connections at one time.
    pub connections: u32,
    /// Requests in ten seconds.
    pub requests: u32,
    /// Networks that have no limit.
    pub exempt: Vec<Cidr>,
}

impl Default for EdgeLimits {
    /// What an office of 2,000 people behind one address does not meet.
    fn default() -> Self {
        Self { connections: 4000, requests: 20_000, exempt: Vec::new() }
    }
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `MariaDB`.
    Mariadb,
    /// `MySQL`.
    Mysql,
}

/// How long a commit waits until a replica has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SemiSync {
    /// So long, then the writer goes on without, and says so.
    Wait(Duration),
    /// For ever: no commit without a replica.
    Strict,
}

/// A setting of the database server that the inventory gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As it stands behind the `=` of an option file.
    pub value: String,
    /// Where it was given.
    pub span: Span,
}

/// A database user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUser {
    /// The schema that it may use.
    pub schema: String,
    /// The role that it connects from.
    pub from: Role,
    /// `None`: made and kept by infra.
    pub password: Option<SecretRef>,
    /// What it may do in the schema: of [`PRIVILEGES`], in their spelling. Never empty.
    pub grants: BTreeSet<&'static str>,
    /// The group that may read the user's files on the hosts of `from` (`root`).
    pub group: String,
    /// The unit on those hosts that is reloaded, or restarted, when these files change.
    pub reload: Option<UnitName>,
}

/// What a user may be granted on a schema, the same words in both engines (`MySQL` 9.7 reference manual, 8.2.2; `MariaDB`'s
/// «GRANT», database privileges). `GRANT OPTION` is not among them: grants come from the inventory alone.
pub const PRIVILEGES: [&str; 18] = [
    "ALTER",
    "ALTER ROUTINE",
    "CREATE",
    "CREATE ROUTINE",
    "CREATE TEMPORARY TABLES",
    "CREATE VIEW",
    "DELETE",
    "DROP",
    "EVENT",
    "EXECUTE",
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "REFERENCES",
    "SELECT",
    "SHOW VIEW",
    "TRIGGER",
    "UPDATE",
];

/// Those of a user for whom the inventory names none: what a program with migrations of its own needs. Stored code (routines, events,
/// triggers) is not among them.
pub const USUAL_PRIVILEGES: [&str; 13] = [
    "ALTER",
    "CREATE",
    "CREATE TEMPORARY TABLES",
    "CREATE VIEW",
    "DELETE",
    "DROP",
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "REFERENCES",
    "SELECT",
    "SHOW VIEW",
    "UPDATE",
];

/// The database section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `MariaDB` or `MySQL`.
    pub engine: Engine,
    /// The first writer.
    pub primary: HostName,
    /// Schemas to make.
    pub schemas: Vec<String>,
    /// Users by name.
    pub users: BTreeMap<String, DatabaseUser>,
    /// Users of before whose accounts are to be dropped.
    pub former_users: BTreeSet<String>,
    /// Reads leave a replica that is further behind than this (10 s).
    pub max_lag: Duration,
    /// How long a commit waits for a replica (10 s).
    pub semi_sync: SemiSync,
    /// Settings of the server by name, in the spelling of option files with `_`.
    pub settings: BTreeMap<String, Setting>,
    /// The section's line.
    pub place: Place,
}

/// What a Prometheus outside of the inventory is called; no host may have that name.
const OUTSIDE_WATCHER: &str = "outside";

/// Where monitoring data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitoringService {
    /// Sumo Logic.
    Sumologic,
    /// Prometheus scrapes the hosts.
    Prometheus,
    /// Nobody watches.
    None,
}

/// Who collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Telegraf and syslog-ng through an HTTP source.
    Telegraf,
    /// The OpenTelemetry collector of Sumo Logic.
    OtelcolSumo,
}

/// A log file that is shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Path or glob, absolute.
    pub path: String,
    /// On the hosts of this role or this host.
    pub on: Party,
    /// Source category.
    pub category: String,
    /// How the first line of a record begins (PCRE), where a record has several lines.
    pub multiline: Option<String>,
}

/// Where the agent's packages come from, where that is not what the hosts' own package sources are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRepository {
    /// `https://repos.influxdata.com/debian`, or a mirror of it.
    pub url: String,
    /// The fingerprints of the keys that may sign it.
    pub fingerprints: BTreeSet<Fingerprint>,
    /// The file with these keys, as it was read.
    pub key: Vec<u8>,
}

/// What an inventory wants to be different of an alert.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tuning {
    /// How long it must hold.
    pub holds: Option<Duration>,
    /// Limits by name, those that the alert's query has.
    pub limits: BTreeMap<String, f64>,
}

/// No limit is NaN: each was read from digits.
impl Eq for Tuning {}

/// The monitoring section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitoring {
    /// Sumo Logic, Prometheus or none.
    pub service: MonitoringService,
    /// Telegraf or otelcol.
    pub agent: Agent,
    /// URL of the HTTP source, a secret itself.
    pub source: Option<SecretRef>,
    /// Installation token of the collector.
    pub token: Option<SecretRef>,
    /// Logs to ship.
    pub logs: Vec<LogFile>,
    /// Where the agent comes from (the hosts' own package sources).
    pub repository: Option<AgentRepository>,
    /// What is different of alerts, by name.
    pub alerts: BTreeMap<String, Tuning>,
    /// Networks of the monitoring host (Prometheus).
    pub from: Vec<Cidr>,
    /// The section's line.
    pub place: Place,
}

impl Monitoring {
    /// Whether hosts measure by Telegraf, for Sumo Logic.
    pub fn is_by_telegraf(&self) -> bool {
        self.sends_by() == Some(Agent::Telegraf)
    }

    /// Who sends to Sumo Logic, where that is where the data goes.
    pub fn sends_by(&self) -> Option<Agent> {
        (self.service == MonitoringService::Sumologic).then_some(self.agent)
    }
}

/// One inventory, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Names the state, the internal CA, the lock. One DNS label.
    pub name: HostName,
    /// By name.
    pub hosts: BTreeMap<HostName, Host>,
    /// The internal TLS ports.
    pub ports: Ports,
    /// How long a run waits, before it closes what is replaced, for those who still use it; 5 minutes at most.
    pub drain: Duration,
    /// Who stands before the load balancers.
    pub edge: Edge,
    /// The firewall.
    pub firewall: FirewallPolicy,
    /// By main name.
    pub sites: BTreeMap<DnsName, WebSite>,
    /// Public certificates.
    pub certificates: Certificates,
    /// The database, if any.
    pub database: Option<Database>,
    /// Monitoring, if any.
    pub monitoring: Option<Monitoring>,
    /// The inventory file, as the person named it.
    pub file: PathBuf,
    /// The folder beside the inventory in which `templates/` may stand.
    pub folder: PathBuf,
    /// The state folder of the controller.
    pub state: PathBuf,
    /// The warnings that are not told, each with its reason.
    pub silence: BTreeMap<Warning, String>,
    /// Through which host of the inventory another one is reached, as that has seen it when it was last asked. It is learned, not
    /// written: the ssh configuration may lead there without the inventory.
    pub through: BTreeMap<HostName, HostName>,
}

impl Site {
    /// Whether a warning is told: the inventory does not silence it.
    pub fn tells(&self, warning: Warning) -> bool {
        !self.silence.contains_key(&warning)
    }

    /// Without the warnings that the inventory silences.
    pub fn told(&self, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        diagnostics.retain(|diagnostic| diagnostic.kind().is_none_or(|kind| self.tells(kind)));
        diagnostics
    }

    /// Whether somebody watches the hosts.
    pub fn is_watched(&self) -> bool {
        self.monitoring.as_ref().is_some_and(|monitoring| monitoring.service != MonitoringService::None)
    }

    /// What listens on loopback of `host` for sites: each program once, by its port, with all the sites that it serves, in order.
    pub fn programs_on(&self, host: &Host) -> BTreeMap<Port, Listening<'_>> {
        let mut out: BTreeMap<Port, Listening<'_>> = BTreeMap::new();
        for (site, program) in self.programs().filter(|(_, program)| host.runs(program)) {
            let listening = out.entry(program.port).or_insert_with(|| Listening { program, sites: Vec::new() });
            if !listening.sites.iter().any(|known| known.name == site.name) {
                listening.sites.push(site);
            }
        }
        out
    }

    /// All programs of all sites.
    pub fn programs(&self) -> impl Iterator<Item = (&WebSite, &AppProgram)> {
        self.sites.values().flat_map(|site| site.programs.iter().map(move |program| (site, program)))
    }

    /// Whether a public CA is asked for the certificate of `web`.
    pub fn orders(&self, web: &WebSite) -> bool {
        web.certificate.is_none() && self.certificates.issuer != Issuer::Internal
    }

    /// Whether our own authority signs the certificate of `web`.
    pub fn signs(&self, web: &WebSite) -> bool {
        web.certificate.is_none() && self.certificates.issuer == Issuer::Internal
    }

    /// The hosts of a role, by name.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.hosts.values().filter(move |h| h.has(role))
    }

    /// The domain of the internal names: `NAME.infra.internal`.
    pub fn internal_domain(&self) -> String {
        format!("{}.infra.internal", self.name)
    }

    /// The Prometheus outside of the inventory that scrapes the hosts, where there is one. It has a name among theirs, which no host
    /// has, and a certificate with that name.
    pub fn outside_watcher(&self) -> Option<HostName> {
        let monitoring = self.monitoring.as_ref()?;
        let watched = monitoring.service == MonitoringService::Prometheus && !monitoring.from.is_empty();
        watched.then(|| OUTSIDE_WATCHER.parse().ok()).flatten()
    }

    /// A host's internal name, the CN and SAN of its certificates: `web1.NAME.infra.internal`.
    pub fn internal_name(&self, host: &HostName) -> String {
        format!("{host}.{}", self.internal_domain())
    }

    /// The name that all hosts of a role share as a SAN, for clients that know one name for all servers of a group (nginx).
    pub fn role_name(&self, role: Role) -> String {
        format!("{role}.role.{}", self.internal_domain())
    }
}

//! The edge: takes a context, adds `HAProxy` on the load balancers, with the public certificates and verified TLS to the web hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::net::{DnsName, bracketed};
use crate::inventory::site::{Challenge, ClientAddress, Host, Role, WebSite};
use crate::plan::said::Said;
use crate::plan::state::{Access, Body, Check, File, Follow, Phase, Probe, UnitWanted, Version};
use crate::service::base_system::SITES_CA_FILE;
use crate::service::certificates::{CHALLENGE_PROBE, CIPHERS, CIPHERSUITES, Holder, curves, site_pem, site_trust};
use crate::service::claims::Claims;
use crate::service::product::{Floor, Product};
use crate::service::render::{Template, template};
use crate::service::status::{Gauge, Seen};
use crate::service::{Context, Service, agent, drain, nginx, ports, probe_path, prometheus, room};
use manner::{Backend, SiteModel, Usual};

mod manner;
mod status;

/// See the module.
pub struct Haproxy;

const NAME: &str = "haproxy";
const TEMPLATES: &[Template] = &[
    template!("haproxy/clients.cfg"),
    template!("haproxy/crt.list"),
    template!("haproxy/haproxy.cfg"),
    template!("haproxy/names.map"),
    template!("haproxy/sources.cfg"),
];
/// What [`idle`] renders.
pub(crate) const IDLE: Template = template!("haproxy/idle.conf");
/// `HAProxy`.
pub(crate) const HAPROXY: Product = Product {
    name: "haproxy",
    packages: &["haproxy"],
    shipped: [
        Version(2, 6, 12),
        Version(2, 4, 30),
        Version(2, 8, 5),
        Version(3, 0, 11),
        Version(3, 2, 25),
        Version(3, 2, 26),
    ],
};
pub(crate) const UNIT: &str = "haproxy.service";
const CONFIG: &str = "/etc/haproxy/haproxy.cfg";
/// The master alone knows which of its workers is the newest.
pub(crate) const FORMER: &str = r#"systemctl -q is-active haproxy.service || exit 0
said=$(echo 'show proc' | socat -t 5 - UNIX-CONNECT:/run/haproxy-master.sock 2>&1) && [ -n "$said" ] ||
	{ echo "the master of haproxy does not tell of its former workers: $said"; exit 1; }
former=$(printf '%s\n' "$said" | awk '/^#/ { part = $2 " " $3 } part == "old workers" && $2 == "worker" { print $1 }')"#;
/// What a head of a request or of an answer may have, on all tiers.
const HEAD: Head = Head { bytes: 32 * 1024, kib: 32 };

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    host: &'a str,
    ipv4: bool,
    ipv6: bool,
    maxconn: u64,
    /// From so many on the log says that it is near.
    nearly: u64,
    head: Head,
    curves: &'a str,
    server_curves: bool,
    ciphers: &'a str,
    ciphersuites: &'a str,
    limits: Limits,
    /// Who is believed about a client's address, if anybody.
    proxies: Option<Proxies>,
    /// Room of the table of requests by site.
    counted_sites: usize,
    role_name: String,
    /// Of all sites, for the map of names.
    names: Vec<Named<'a>>,
    /// The one that is asked for by address comes first: a client that gives no name is shown the first certificate.
    sites: Vec<SiteModel<'a>>,
    /// What holds where a site says nothing.
    usual: Usual,
    /// What is kept free of a buffer for the sites' own headers, where they have any.
    more_head: Option<usize>,
    backends: Vec<Backend>,
    /// How the name of the group ends that has what may not be repeated.
    once: &'static str,
    /// The one that is asked for by address, if any.
    addressed: Option<&'a DnsName>,
    servers: Vec<Server<'a>>,
    /// Of the key whose account orders certificates, where http-01 is answered here.
    thumbprint: Option<&'a str>,
    /// What who watches scrapes.
    scrape: Option<prometheus::Front>,
    /// How an agent asks for its statistics.
    statistics: Option<agent::Statistics>,
}

/// For each source address.
#[derive(Serialize)]
struct Limits {
    /// At one time.
    connections: u64,
    /// In ten seconds.
    requests: u32,
    /// Networks without any.
    exempt: Vec<String>,
}

/// Whoever stands before this host, and where it tells the client's address.
#[derive(Serialize)]
struct Proxies {
    networks: Vec<String>,
    /// `None`: by the PROXY protocol.
    header: Option<String>,
}

/// Room for the lines of a head, without its first one.
#[derive(Serialize)]
struct Head {
    bytes: u32,
    kib: u32,
}

/// A name as a client may write it, in `Host` or in its handshake.
#[derive(Serialize)]
struct Named<'a> {
    name: String,
    site: &'a DnsName,
}

#[derive(Serialize)]
struct Server<'a> {
    host: &'a str,
    name: String,
    socket: SocketAddr,
}

impl Service for Haproxy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn floors(&self) -> &'static [Floor] {
        // Numbered counters of a table (`gpc`) came with 2.5, `rtrim` too; 2.6 is the long-term version of them.
        &[Floor {
            role: Role::Lb,
            product: HAPROXY,
            least: Version(2, 6, 0),
            lacks: "it does not count the answers of a site by their class",
        }]
    }

    fn products(&self) -> &'static [Product] {
        &[HAPROXY]
    }

    fn about(&self) -> Option<(Phase, &'static str)> {
        Some((Phase::Edge, "haproxy, one at a time"))
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(status::GAUGE)
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        status::tell(seen)
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let (site, host) = (context.site, context.host);
        if !host.has(Role::Lb) {
            return Ok(());
        }
        out.package("haproxy")?;
        out.swap(UNIT, include_str!("../../templates/haproxy/swap.sh"))?;
        out.unit(UNIT, UnitWanted { phase: Phase::Edge })?;
        let holder = Holder { service: NAME, phase: Phase::Edge, unit: UNIT, follow: Follow::Reload };
        holder.folder(out, "/etc/haproxy/tls")?;
        holder.file(context, out, "/etc/haproxy/tls/ca.crt", &[Material::HopAuthorities])?;
        let client = CertificateId::Hop { host: host.name.clone(), purpose: Purpose::Client };
        let client = [Material::Certificate(client.clone()), Material::Key(client)];
        holder.file(context, out, "/etc/haproxy/tls/client.pem", &client)?;
        let model = model(context);
        if model.scrape.is_some() {
            let server = CertificateId::Hop { host: host.name.clone(), purpose: Purpose::Server };
            let server = [Material::Certificate(server.clone()), Material::Key(server)];
            holder.file(context, out, "/etc/haproxy/tls/server.pem", &server)?;
        }
        manner::files(context, out)?;
        config("/etc/haproxy/crt.list", context.render("haproxy/crt.list", &model)?, out)?;
        config("/etc/haproxy/names.map", context.render("haproxy/names.map", &model)?, out)?;
        let body = context.render("haproxy/haproxy.cfg", &model)?;
        ports::check(UNIT, "bind", &body.text, out);
        config(CONFIG, body, out)?;
        let command = format!("haproxy -c -q -f {CONFIG}");
        out.check(Check { title: "haproxy -c".into(), command });
        probes(context, &model, out);
        drain::add(NAME, NAME, FORMER, out);
        for s in site.sites.values() {
            through_all_tiers(context, s, out);
        }
        Ok(())
    }
}

/// Adds what keeps the package's own unit from a port where it has nothing to serve: on hosts with a `HAProxy` of another unit, that are
/// no load balancers. A further call changes nothing.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(crate) fn idle(
    context: &Context<'_>,
    service: &'static str,
    phase: Phase,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    let path = "/etc/systemd/system/haproxy.service.d/infra.conf";
    if context.host.has(Role::Lb) || out.has_file(path) {
        return Ok(());
    }
    let body = context.render("haproxy/idle.conf", &BTreeMap::<&str, &str>::new())?;
    out.file(path, File { service, phase, access: Access::root(0o644), body, then: BTreeMap::new(), about: None })
}

fn model<'a>(context: &Context<'a>) -> Model<'a> {
    let (site, host) = (context.site, context.host);
    let servers = site.with_role(Role::Web).filter_map(|web| {
        let socket = SocketAddr::new(nginx::reach(host, web)?, site.ports.web.get());
        Some(Server { host: web.name.as_str(), name: site.internal_name(&web.name), socket })
    });
    let mut sites: Vec<_> = site.sites.values().map(SiteModel::new).collect();
    let addressed = site.sites.values().find(|s| !s.addresses.is_empty()).map(|s| &s.name);
    sites.sort_by_key(|s| Some(s.name) != addressed);
    let maxconn = room::clients(context.facts, site.with_role(Role::Web).count());
    Model {
        name: site.name.as_str(),
        host: host.name.as_str(),
        ipv4: has_family(host, true),
        ipv6: has_family(host, false),
        maxconn,
        nearly: maxconn * room::NEARLY / 100,
        head: HEAD,
        curves: curves(context),
        server_curves: HAPROXY.of(context.facts).minor() >= (2, 9),
        ciphers: CIPHERS,
        ciphersuites: CIPHERSUITES,
        limits: Limits {
            // One source never has all of it.
            connections: u64::from(site.edge.limits.connections).min(maxconn / 2),
            requests: site.edge.limits.requests,
            exempt: site.edge.limits.exempt.iter().map(ToString::to_string).collect(),
        },
        proxies: site.edge.client_address.as_ref().map(|client| Proxies {
            networks: site.edge.trusted_proxies.iter().map(ToString::to_string).collect(),
            header: match client {
                ClientAddress::Header(name) => Some(name.clone()),
                ClientAddress::ProxyProtocol => None,
            },
        }),
        counted_sites: site.sites.len().next_multiple_of(100),
        role_name: site.role_name(Role::Web),
        names: site.sites.values().flat_map(names).collect(),
        usual: Usual::new(),
        more_head: manner::room(&sites),
        backends: manner::backends(&sites),
        once: manner::ONCE,
        sites,
        addressed,
        servers: servers.collect(),
        thumbprint: thumbprint(context),
        scrape: prometheus::front(context),
        statistics: agent::statistics(site),
    }
}

/// What answers to http-01 end with; `None` where nobody asks.
fn thumbprint<'a>(context: &Context<'a>) -> Option<&'a str> {
    let asked = is_any_ordered(context) && context.site.certificates.challenge == Challenge::Http01;
    context.materials.public(&Material::AccountThumbprint).filter(|_| asked)
}

fn is_any_ordered(context: &Context<'_>) -> bool {
    context.site.sites.values().any(|web| context.site.orders(web))
}

fn has_family(host: &Host, ipv4: bool) -> bool {
    host.addresses.iter().chain(&host.public).any(|a| a.is_ipv4() == ipv4)
}

/// Every name of a site. Of an address both forms: in `Host` one of IPv6 has brackets (RFC 3986 section 3.2.2), and some clients do
/// give an address as a name in the handshake.
fn names(site: &WebSite) -> impl Iterator<Item = Named<'_>> {
    let addresses =
        site.addresses.iter().flat_map(|&address| BTreeSet::from([bracketed(address), address.to_string()]));
    site.names().map(ToString::to_string).chain(addresses).map(|name| Named { name, site: &site.name })
}

fn config(path: &str, body: Body, out: &mut Claims) -> Result<(), Diagnostic> {
    let then = BTreeMap::from([(UNIT.to_owned(), Follow::Reload)]);
    let (phase, access) = (Phase::Edge, Access::root(0o644));
    out.file(path, File { service: NAME, phase, access, body, then, about: None })
}

fn probe(title: String, command: String) -> Probe {
    let within = Duration::from_secs(20);
    Probe { phase: Phase::Edge, title, command: command.into(), within, advisory: false }
}

/// sh text that succeeds where the newest worker of the master behind `socket` serves. From behind, its line ends with reloads, uptime and
/// version; in 2.4 there is one more number before them (management guide, `show proc`).
pub(crate) fn newest_worker(socket: &str) -> String {
    format!(
        "echo 'show proc' | socat -t 5 - UNIX-CONNECT:{socket} | awk '\
         /failed: [1-9]/ {{ bad = 1 }} /^#/ {{ part = $2 }} part == \"workers\" && $2 == \"worker\" && $(NF - 2) == 0 {{ good = 1 }} \
         END {{ if (bad || !good) {{ print \"the master reports a failed reload\"; exit 1 }} }}'"
    )
}

fn probes(context: &Context<'_>, model: &Model<'_>, out: &mut Claims) {
    out.probe(probe("haproxy is running".into(), format!("systemctl is-active {UNIT}")));
    // `systemctl reload` succeeds even if the new worker dies: only the master knows.
    out.probe(probe("the newest haproxy worker serves".into(), newest_worker("/run/haproxy-master.sock")));
    let loopback = loopback(model);
    let socket = format!("{loopback}:443");
    for site in context.site.sites.values() {
        // A public authority may have left a name out.
        let names = site.names().take(if context.site.signs(site) { 1 } else { usize::MAX });
        for name in names.filter(|name| is_shown(context, site, name.as_str())).map(DnsName::example) {
            out.probe(probe(
                format!("https for {name} with the right certificate"),
                nginx::handshake(&socket, &nginx::by_name(&name), &trust(context, site), &site_pem(&site.name)),
            ));
        }
        for address in shown_addresses(context, site) {
            out.probe(probe(
                format!("https for {address} with the right certificate"),
                nginx::handshake(&socket, &nginx::by_address(address), &trust(context, site), &site_pem(&site.name)),
            ));
        }
    }
    if let Some(thumbprint) = model.thumbprint {
        for name in context.site.sites.values().filter(|web| context.site.orders(web)).flat_map(WebSite::hosts) {
            out.probe(probe(
                format!("{CHALLENGE_PROBE} {name}"),
                format!(
                    "said=$(curl -q -s -m 5 --noproxy '*' -H 'Host: {name}' \
                     'http://{loopback}/.well-known/acme-challenge/infra-probe')\n\
                     [ \"$said\" = 'infra-probe.{thumbprint}' ] || {{ echo \"answered: $said\" | head -c 200; exit 1; }}"
                ),
            ));
        }
    }
    if !model.servers.is_empty() {
        // A server counts as up before its first check: only one that was checked has been seen.
        out.probe(probe(
            "a web host is up behind it".into(),
            "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock | awk -F, '\
             $1 == \"web\" && $2 != \"BACKEND\" && $18 ~ /^UP/ && $37 ~ /L7OK/ { up = 1 } \
             $1 == \"web\" && $18 != \"UP\" { print $2 \": \" $18 \" \" $37 \" \" $38 } END { exit !up }'"
                .into(),
        ));
    }
}

/// A page of each site, asked for on the load balancer itself. That the tiers answer is ours; that the program is well is its owner's.
fn through_all_tiers(context: &Context<'_>, site: &WebSite, out: &mut Claims) {
    // What stands in for its certificate may be for an alias alone.
    let name = site.names().find(|name| is_shown(context, site, name.as_str())).unwrap_or(&site.name).example();
    let loopback = if has_family(context.host, true) { "127.0.0.1" } else { "[::1]" };
    let ask = |host: &str, path: &str| {
        let trust = trusted(context, site).map_or(String::new(), |file| format!("--cacert '{file}' "));
        format!(
            "code=$(curl -q -s -m 10 --noproxy '*' -o /dev/null -w '%{{http_code}}' {trust}\
             --connect-to '{host}:443:{loopback}:443' 'https://{host}{path}')\n\
             [ \"$code\" = 200 ] || {{ echo \"answered $code, not 200\"; exit 1; }}"
        )
    };
    let mut add = |title: String, command: String, advisory: bool| {
        let (phase, within) = (Phase::Verify, Duration::from_secs(if advisory { 5 } else { 20 }));
        out.probe(Probe { phase, title, command: command.into(), within, advisory });
    };
    for host in std::iter::once(name.clone()).chain(shown_addresses(context, site).map(bracketed)) {
        add(format!("https://{host} answers through all tiers"), ask(&host, probe_path::PROBE), false);
    }
    for program in &site.programs {
        if program.path != "/" {
            let title = format!("https://{name}{} answers through all tiers", program.path);
            add(title, ask(&name, &probe_path::of(program)), false);
        }
        // Where the health lies in no path of the program, only its own hosts can ask for it.
        if site.program_at(&program.health) == Some(program) && !site.is_guarded(&program.health) {
            add(format!("the program of {name} is well at {}", program.health), ask(&name, &program.health), true);
        }
    }
}

fn loopback(model: &Model<'_>) -> &'static str {
    if model.ipv4 { "127.0.0.1" } else { "[::1]" }
}

/// The file of those who vouch for the certificate that a site shows: where no root of its issuer is at hand, the leaf itself.
/// `None`: the host's own roots do.
fn trusted(context: &Context<'_>, site: &WebSite) -> Option<String> {
    match &site.certificate {
        Some(_) => Some(site_trust(&site.name)),
        None if context.site.signs(site) => Some(SITES_CA_FILE.to_owned()),
        None if is_rooted(context, site) => None,
        None => Some(site_pem(&site.name)),
    }
}

/// The same for `s_client`, which takes what is no root for an anchor only where it is told to.
fn trust(context: &Context<'_>, site: &WebSite) -> String {
    match trusted(context, site) {
        Some(file) => format!("-partial_chain -CAfile '{file}'"),
        None => "-CApath /etc/ssl/certs".to_owned(),
    }
}

/// Whether the certificate that the site shows is for `name`, a DNS name or an address. What has come into the inventory since
/// is in the one that is ordered at the end of the run.
fn is_shown(context: &Context<'_>, site: &WebSite, name: &str) -> bool {
    let names = context.materials.public(&Material::SiteNames(site.name.clone()));
    names.is_none_or(|names| names.lines().any(|shown| shown == name))
}

fn shown_addresses(context: &Context<'_>, site: &WebSite) -> impl Iterator<Item = IpAddr> {
    site.addresses.iter().copied().filter(move |address| is_shown(context, site, &address.to_string()))
}

/// Whether the host's own roots vouch for the certificate that the site shows.
fn is_rooted(context: &Context<'_>, site: &WebSite) -> bool {
    context.materials.public(&Material::SiteUnrooted(site.name.clone())).is_none()
}

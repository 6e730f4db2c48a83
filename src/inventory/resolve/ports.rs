//! `ports:`, and whether two programs want the same port on one host: takes hosts and sites, reports.

use std::collections::BTreeSet;

use super::hosts::Hosts;
use super::programs::Said;
use super::sites::Sites;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::Port;
use crate::inventory::raw::{Mark, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{MonitoringService, Ports, Role};

const WEB: u64 = 8443;
const APP: u64 = 9443;
const SSH: u16 = 22;
const DATABASE: u16 = 3306;
/// Where a db host says which role it has.
const DATABASE_ROLE: u16 = 9306;
/// The proxy of an app host that leads to the writer, and the one that leads to replicas; `MySQL` Router's usual ports.
const DATABASE_PROXY: [u16; 2] = [6446, 6447];
/// `HAProxy`'s metrics, as the firewall's flows and the template have it.
const METRICS: u16 = 8405;

/// Where the exporters of every host listen on loopback for Prometheus, and that of a database server.
const EXPORTERS: [u16; 1] = [9100];
const DATABASE_EXPORTER: u16 = 9104;
/// The same of a web host; and where nginx itself tells what it counts, whoever asks.
const NGINX_EXPORTER: u16 = 9113;
const NGINX_STATUS: u16 = 8406;
/// Where Prometheus and what stands beside it listen on loopback: itself, Alertmanager, and what asks for pages.
const WATCHER: [u16; 3] = [9090, 9093, 9115];

/// The ports, and where they were said.
pub(super) struct RawPorts<'a> {
    pub(super) ports: Ports,
    web: Option<&'a Node>,
    app: Option<&'a Node>,
}

/// Reads `ports:`; what is wrong or not said is the default.
pub(super) fn ports<'a>(root: Fields<'a>, problems: &mut Problems) -> RawPorts<'a> {
    let fields = root.get("ports").and_then(|entry| problems.fields(entry, "`ports`", &["web", "app"]));
    let (web, app) = (fields.and_then(|f| f.value("web")), fields.and_then(|f| f.value("app")));
    let mut read = |node: Option<&Node>, key: &str, default: u64| {
        let said = node.and_then(|node| problems.port(node, key));
        said.or_else(|| Port::try_from(default).ok()).unwrap_or(Port::HTTPS)
    };
    RawPorts { ports: Ports { web: read(web, "web", WEB), app: read(app, "app", APP) }, web, app }
}

/// Someone who listens.
struct Use<'a> {
    port: u16,
    what: String,
    mark: Option<&'a Mark>,
}

/// Reports each pair that collides, once.
pub(super) fn check(
    ports: &RawPorts<'_>,
    hosts: &Hosts<'_>,
    sites: &Sites<'_>,
    (database, monitoring): (bool, MonitoringService),
    problems: &mut Problems,
) {
    let watched = monitoring == MonitoringService::Prometheus;
    // Programs that run on some hosts only make these a kind of their own.
    let each = sites.programs.iter().flat_map(|(port, said)| said.iter().map(|one| (*port, one)));
    let chosen: Vec<(Port, &Said<'_>)> = each.filter(|(_, said)| !said.hosts.is_empty()).collect();
    let mut kinds = BTreeSet::new();
    let mut told = BTreeSet::new();
    for host in hosts.whole.values() {
        let ssh = host.ssh.port.map_or(SSH, Port::get);
        let own: Vec<Port> =
            chosen.iter().filter(|(_, said)| said.hosts.contains(&host.name)).map(|one| one.0).collect();
        if !kinds.insert((&host.roles, ssh, own)) {
            continue; // such a host was looked at
        }
        let mut uses = vec![Use { port: ssh, what: "SSH".into(), mark: None }];
        if host.has(Role::Lb) {
            uses.push(Use { port: 80, what: "HTTP of the load balancer".into(), mark: None });
            uses.push(Use { port: 443, what: "HTTPS of the load balancer".into(), mark: None });
            uses.push(Use { port: METRICS, what: "the load balancer's metrics".into(), mark: None });
        } else if watched {
            uses.push(Use { port: METRICS, what: "the front of its measures".into(), mark: None });
        }
        if watched {
            let of_database = host.has(Role::Db).then_some(DATABASE_EXPORTER).filter(|_| database);
            let of_nginx = host.has(Role::Web).then_some(NGINX_EXPORTER);
            for port in EXPORTERS.into_iter().chain(of_database).chain(of_nginx) {
                uses.push(Use { port, what: "an exporter for Prometheus".into(), mark: None });
            }
            for port in WATCHER.into_iter().filter(|_| host.has(Role::Monitor)) {
                uses.push(Use { port, what: "Prometheus".into(), mark: None });
            }
        }
        if host.has(Role::Db) {
            uses.push(Use { port: DATABASE, what: "the database".into(), mark: None });
            if database {
                uses.push(Use { port: DATABASE_ROLE, what: "the database's role".into(), mark: None });
            }
        }
        if host.has(Role::Web) {
            let mark = ports.web.map(|node| &node.mark);
            uses.push(Use { port: ports.ports.web.get(), what: "nginx (`ports.web`)".into(), mark });
            if monitoring != MonitoringService::None {
                uses.push(Use { port: NGINX_STATUS, what: "nginx's own counts".into(), mark: None });
            }
        }
        if host.has(Role::App) {
            for port in DATABASE_PROXY.into_iter().filter(|_| database) {
                uses.push(Use { port, what: "the proxy of the database".into(), mark: None });
            }
            let mark = ports.app.map(|node| &node.mark);
            uses.push(Use { port: ports.ports.app.get(), what: "the TLS front (`ports.app`)".into(), mark });
            for (port, said) in &sites.programs {
                let here = |one: &&Said<'_>| one.hosts.is_empty() || one.hosts.contains(&host.name);
                let Some(one) = said.iter().find(here) else { continue };
                let what = format!("the program of `{}`", one.site);
                uses.push(Use { port: port.get(), what, mark: Some(&one.port.mark) });
            }
        }
        for (index, second) in uses.iter().enumerate() {
            for first in uses.iter().take(index).filter(|first| first.port == second.port) {
                if !told.insert((first.what.clone(), second.what.clone())) {
                    continue;
                }
                let key = hosts.entries.get(host.name.as_str()).map(|entry| &entry.key.mark);
                let Some(mark) = second.mark.or(first.mark).or(key) else { continue };
                let diagnostic = Diagnostic::error(format!(
                    "port {} is wanted twice on `{}`: by {} and by {}",
                    second.port, host.name, first.what, second.what
                ));
                let diagnostic = diagnostic.at(&mark.span()).help("choose another port");
                problems.push(match (second.mark, first.mark) {
                    (Some(_), Some(other)) => diagnostic.related(&other.span(), "the same port"),
                    _ => diagnostic,
                });
            }
        }
    }
}

//! `service: prometheus`: takes a context, adds exporters on every host behind a TLS front that lets in only who watches, and
//! Prometheus on the hosts of the role `monitor`, which scrapes them and knows the alerts.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{HostName, Port, bracketed};
use crate::inventory::site::{Host, MonitoringService, Role, Site};
use crate::plan::said::Said;
use crate::plan::state::{Probe, Version};
use crate::service::agent::{self, PHASE, Reader};
use crate::service::claims::Claims;
use crate::service::firewall::flows::METRICS;
use crate::service::product::{Floor, Product};
use crate::service::render::{Template, template};
use crate::service::status::{Gauge, Seen};
use crate::service::{Context, Service, nginx};

mod beside;
mod database;
mod exporter;
pub mod outside;
mod status;
mod targets;
mod watcher;
mod web;

/// See the module.
#[derive(Debug)]
pub struct Prometheus;

const NAME: &str = "prometheus";
const TEMPLATES: &[Template] = &[
    nginx::TEMPLATE,
    nginx::TYPES,
    template!("prometheus/node.conf"),
    template!("prometheus/scrape.conf"),
    agent::TEMPLATES[0],
    agent::TEMPLATES[1],
    agent::TEMPLATES[2],
    template!("prometheus/mysqld.cnf"),
    template!("prometheus/mysqld.conf"),
    template!("prometheus/nginx.conf"),
    template!("prometheus/blackbox.yml"),
    template!("prometheus/blackbox.conf"),
    template!("prometheus/alertmanager.yml"),
    template!("prometheus/alertmanager.conf"),
    template!("prometheus/jobs.yml"),
    template!("prometheus/prometheus.yml"),
    template!("prometheus/scrape.yml"),
    template!("prometheus/prometheus.conf"),
];

/// Where the node exporter listens, on loopback.
const NODE_PORT: u16 = 9100;

/// A source of measures on a host, and its name in paths and as the label `job`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Exporter {
    /// `node`, `haproxy`.
    pub(crate) name: &'static str,
    /// Where it listens, on loopback.
    pub(crate) port: u16,
}

/// The measures of a host itself.
const NODE: Exporter = Exporter { name: "node", port: NODE_PORT };
/// Those of a load balancer, which `HAProxy` gives itself.
const EDGE: Exporter = Exporter { name: "haproxy", port: METRICS };

/// Whether the inventory wants it.
pub(crate) fn is_wanted(site: &Site) -> bool {
    site.monitoring.as_ref().is_some_and(|m| m.service == MonitoringService::Prometheus)
}

/// The sources of a host.
fn exporters(site: &Site, host: &Host) -> Vec<Exporter> {
    let edge = host.has(Role::Lb).then_some(EDGE);
    let web = web::is_on(host).then_some(web::EXPORTER);
    let database = database::is_on(site, host).then_some(database::EXPORTER);
    [Some(NODE), edge, web, database].into_iter().flatten().collect()
}

/// The front of a host, through which it is scraped.
#[derive(Debug, Serialize)]
pub(crate) struct Front {
    sockets: Vec<SocketAddr>,
    /// The common names of those who watch.
    clients: Vec<String>,
    /// Whom a request is passed on to; `HAProxy` gives its own measures itself.
    exporters: Vec<Exporter>,
}

/// That of the context's host: on all of its addresses, for all that watch. None where nobody does, and where it is the one that does.
pub(crate) fn front(context: &Context<'_>) -> Option<Front> {
    let (site, host) = (context.site, context.host);
    if !is_wanted(site) {
        return None;
    }
    let inside: Vec<HostName> = context.with_role(Role::Monitor).map(|watcher| watcher.name.clone()).collect();
    if inside.iter().all(|watcher| *watcher == host.name) && site.outside_watcher().is_none() {
        return None;
    }
    let watchers = inside.into_iter().chain(site.outside_watcher());
    Some(Front {
        sockets: host.addresses.iter().map(|address| SocketAddr::new(*address, METRICS)).collect(),
        clients: watchers.map(|watcher| site.internal_name(&watcher)).collect(),
        exporters: exporters(site, host).into_iter().filter(|exporter| *exporter != EDGE).collect(),
    })
}

/// The program on the host that watches.
const PROMETHEUS: Product = Product {
    name: "prometheus",
    packages: &["prometheus"],
    shipped: [
        Version(2, 42, 0),
        Version(2, 31, 2),
        Version(2, 45, 3),
        Version(2, 53, 3),
        Version(2, 53, 5),
        Version(3, 5, 3),
    ],
};

impl Service for Prometheus {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn products(&self) -> &'static [Product] {
        &[nginx::NGINX, PROMETHEUS]
    }

    fn floors(&self) -> &'static [Floor] {
        &[Floor {
            role: Role::Monitor,
            product: PROMETHEUS,
            least: Version(2, 42, 0),
            lacks: "an older one may not know the oldest version of TLS that it is to speak (`min_version`)",
        }]
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if !is_wanted(context.site) {
            return Ok(());
        }
        node(context, out)?;
        measured(context, out)?;
        web::want(context, out)?;
        database::want(context, out)?;
        if let Some(front) = front(context) {
            // The load balancer's own program is the front there.
            if context.host.has(Role::Lb) {
                for socket in &front.sockets {
                    out.probe(refuses(context, *socket));
                }
            } else {
                behind_nginx(context, &front, out)?;
            }
        }
        if context.host.has(Role::Monitor) {
            watcher::want(context, out)?;
        }
        Ok(())
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(status::GAUGE)
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        status::tell(seen)
    }
}

#[derive(Serialize)]
struct Node {
    port: u16,
    /// Measures of others, which it passes on.
    folder: &'static str,
}

/// The exporter of the host itself.
fn node(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let model = Node { port: NODE_PORT, folder: Reader::NodeExporter.folder() };
    let look = format!(
        "curl -q -s -m 10 --noproxy '*' 'http://127.0.0.1:{NODE_PORT}/metrics' | grep -q '^node_memory_MemTotal_bytes ' || \
         {{ echo 'it gives no measures'; exit 1; }}"
    );
    let node = exporter::Program {
        package: "prometheus-node-exporter",
        start: "prometheus/node.conf",
        works: "the node exporter measures this host".into(),
        look,
        within: 20,
    };
    exporter::exporter(context, node, &model, out)
}

fn behind_nginx(context: &Context<'_>, front: &Front, out: &mut Claims) -> Result<(), Diagnostic> {
    nginx::want(context, NAME, out)?;
    let body = context.render("prometheus/scrape.conf", front)?;
    nginx::config(NAME, PHASE, &format!("/etc/nginx/conf.d/{}-scrape-{METRICS}.conf", context.site.name), body, out)?;
    if let Ok(port) = Port::try_from(u64::from(METRICS)) {
        nginx::listener_probes(context, PHASE, port, out);
    }
    Ok(())
}

/// That a load balancer knows its own certificate at this socket, and gives nothing to who is no watcher: itself, say.
fn refuses(context: &Context<'_>, socket: SocketAddr) -> Probe {
    let name = context.site.internal_name(&context.host.name);
    let (address, port) = (bracketed(socket.ip()), socket.port());
    let command = format!(
        "code=$(curl -q -s -m 5 --noproxy '*' -o /dev/null -w '%{{http_code}}' --cacert /etc/haproxy/tls/ca.crt \
         --cert /etc/haproxy/tls/client.pem --resolve '{name}:{port}:{address}' 'https://{name}:{port}/node')\n\
         [ \"$code\" = 403 ] || {{ echo \"answered $code, not 403\"; exit 1; }}"
    );
    let title = format!("{socket} gives measures to nobody but who watches");
    Probe { phase: PHASE, title, command: command.into(), within: Duration::from_secs(15), advisory: false }
}

/// What only root sees, for the exporter of the host.
fn measured(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    agent::measures(context, Reader::NodeExporter, out)?;
    let file = format!("{}/infra.prom", Reader::NodeExporter.folder());
    out.probe(Probe {
        phase: PHASE,
        title: "firewall, certificates and what is owed are measured".into(),
        // What is older than the firewall is measured anew at once.
        command: format!(
            "grep -q '^infra_firewall_loaded 1$' {file} 2>/dev/null && exit 0\n\
             find {file} -not -newermt '5 seconds ago' 2>/dev/null | grep -q . && systemctl restart {MEASURES}\n\
             echo '{file} does not say that the firewall is loaded'; exit 1",
            MEASURES = agent::UNIT
        )
        .into(),
        within: Duration::from_secs(30),
        advisory: false,
    });
    Ok(())
}

//! What both ways of monitoring share: takes a context, adds the loop that writes down what only root sees of a host (its firewall,
//! the life of its certificates, what infra still owes it) where the agent, which is not root, reads it; and files of their phase.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Agent, Backend, MonitoringService, Role, Site};
use crate::plan::state::{Access, Body, File, Follow, Phase, UnitWanted};
use crate::service::claims::Claims;
use crate::service::render::{Template, template};
use crate::service::{Context, nginx};

/// When agents are changed: after everything that they watch.
pub(crate) const PHASE: Phase = Phase::Monitor;
pub(crate) const TEMPLATES: [Template; 3] =
    [template!("agent/measures.sh"), template!("agent/measures.service"), template!("agent/stub_status.conf")];

/// The unit of the loop.
pub(crate) const UNIT: &str = "infra-measures.service";
/// Not at a port of nginx's own: `ports` of the inventory knows it.
const NGINX_STATUS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8406);
const SCRIPT: &str = "/var/lib/infra/measures";

/// Who reads what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reader {
    /// Prometheus' node exporter.
    NodeExporter,
    /// Telegraf; it is told of failed units and of the shipper of logs, too, which it cannot look at itself.
    Telegraf,
    /// Nobody on the host: Sumo Logic's collector reads no file of measures. What it counts itself is kept for `infra status`.
    Collector,
}

impl Reader {
    /// The folder in which it reads every file that ends with `.prom`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::NodeExporter => "/var/lib/prometheus/node-exporter",
            Self::Telegraf | Self::Collector => "/run/infra-measures",
        }
    }
}

#[derive(Serialize)]
struct Model {
    backend: &'static str,
    folder: &'static str,
    reader: Reader,
}

/// The account by which the databases are measured.
pub(crate) const MONITOR: &str = "infra_monitor";
/// Telegraf's unit.
pub(crate) const TELEGRAF: &str = "telegraf.service";
/// That of Sumo Logic's collector.
pub(crate) const COLLECTOR: &str = "otelcol-sumo.service";
/// That of Prometheus' exporter of databases.
pub(crate) const MYSQLD_EXPORTER: &str = "prometheus-mysqld-exporter.service";

/// The unit that logs in to the databases to measure them, where somebody watches.
pub(crate) fn database_reader(site: &Site) -> Option<&'static str> {
    let monitoring = site.monitoring.as_ref()?;
    match (monitoring.service, monitoring.agent) {
        (MonitoringService::None, _) => None,
        (MonitoringService::Prometheus, _) => Some(MYSQLD_EXPORTER),
        (MonitoringService::Sumologic, Agent::Telegraf) => Some(TELEGRAF),
        (MonitoringService::Sumologic, Agent::OtelcolSumo) => Some(COLLECTOR),
    }
}

/// How an agent asks a load balancer for its statistics.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Statistics {
    /// Who asks.
    by: &'static str,
    /// For what: it is the agent that puts the wish for CSV behind the address that it is given.
    path: &'static str,
}

/// That of the agent that the inventory wants, if any.
pub(crate) fn statistics(site: &Site) -> Option<Statistics> {
    Some(match site.monitoring.as_ref()?.sends_by()? {
        Agent::Telegraf => Statistics { by: "Telegraf", path: "/stats/;csv" },
        Agent::OtelcolSumo => Statistics { by: "the collector", path: "/stats;csv" },
    })
}

/// Adds the loop.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(crate) fn measures(context: &Context<'_>, reader: Reader, out: &mut Claims) -> Result<(), Diagnostic> {
    let backend = match context.site.firewall.backend {
        Backend::Nftables => "nftables",
        Backend::Iptables => "iptables",
    };
    let model = Model { backend, folder: reader.folder(), reader };
    out.unit(UNIT, UnitWanted { phase: PHASE })?;
    let mut add = |path: &str, template: &str, mode| {
        let body = context.render(template, &model)?;
        file(out, path, body, Access::root(mode), &[(UNIT, Follow::Restart)])
    };
    add(SCRIPT, "agent/measures.sh", 0o700)?;
    add(&format!("/etc/systemd/system/{UNIT}"), "agent/measures.service", 0o644)
}

/// Where nginx of a web host tells this very host what it counts; adds the server that does. None where no client's request passes nginx.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(crate) fn nginx_status(context: &Context<'_>, out: &mut Claims) -> Result<Option<SocketAddr>, Diagnostic> {
    if !context.host.has(Role::Web) {
        return Ok(None);
    }
    let body = context.render("agent/stub_status.conf", &BTreeMap::from([("nginx", NGINX_STATUS)]))?;
    nginx::config(out.service(), Phase::Web, "/etc/nginx/conf.d/infra-status.conf", body, out)?;
    Ok(Some(NGINX_STATUS))
}

/// Adds a file of the service whose turn it is, and what follows when it changes.
///
/// # Errors
/// A path that is claimed by another.
pub(crate) fn file(
    out: &mut Claims,
    path: &str,
    body: Body,
    access: Access,
    then: &[(&str, Follow)],
) -> Result<(), Diagnostic> {
    let then = then.iter().map(|(unit, follow)| ((*unit).to_owned(), *follow)).collect();
    let service = out.service();
    out.file(path, File { service, phase: PHASE, access, body, then, about: None })
}

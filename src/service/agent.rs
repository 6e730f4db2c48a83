//! What both ways of monitoring share: takes a context, adds the loop that writes down what only root sees of a host (its firewall,
//! the life of its certificates, what infra still owes it) where the agent, which is not root, reads it; and files of their phase.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Backend, Role};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Prometheus' node exporter.
    NodeExporter,
    /// Telegraf; it is told of failed units and of the shipper of logs, too, which it cannot look at itself.
    Telegraf,
}

impl Reader {
    /// The folder in which it reads every file that ends with `.prom`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::NodeExporter => "/var/lib/prometheus/node-exporter",
            Self::Telegraf => "/run/infra-measures",
        }
    }
}

#[derive(Serialize)]
struct Model {
    backend: &'static str,
    folder: &'static str,
    telegraf: bool,
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
    let model = Model { backend, folder: reader.folder(), telegraf: reader == Reader::Telegraf };
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

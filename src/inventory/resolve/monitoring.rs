//! `monitoring:`: takes the section, gives where the data goes, who collects it, and which logs are shipped.

use super::hosts::Hosts;
use super::{host_path, names};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::Cidr;
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Agent, LogFile, Monitoring, MonitoringService, Party, Role};

const SERVICES: [(&str, MonitoringService); 3] = [
    ("sumologic", MonitoringService::Sumologic),
    ("prometheus", MonitoringService::Prometheus),
    ("none", MonitoringService::None),
];
const AGENTS: [(&str, Agent); 2] = [("telegraf", Agent::Telegraf), ("otelcol-sumo", Agent::OtelcolSumo)];

/// Reads the section.
pub(super) fn monitoring(root: Fields<'_>, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<Monitoring> {
    let entry = root.get("monitoring")?;
    let what = "`monitoring`";
    let fields = problems.fields(entry, what, &["service", "agent", "source", "token", "logs", "from"])?;
    let help = "write `service: sumologic`, `prometheus` or `none`";
    let service =
        problems.require(fields, what, "service", help).and_then(|e| problems.word(&e.value, "service", &SERVICES));
    let agent = fields.value("agent").map(|node| problems.word(node, "agent", &AGENTS));
    let source = fields.value("source").and_then(|node| problems.secret(node, "source"));
    let token = fields.value("token").and_then(|node| problems.secret(node, "token"));
    let logs = fields.value("logs").map(|node| logs(node, hosts, problems)).unwrap_or_default();
    let from = fields.value("from").map(|node| networks(node, problems)).unwrap_or_default();
    let (service, agent) = (service?, agent.unwrap_or(Some(Agent::Telegraf))?);
    fits(fields, entry, hosts, (service, agent), problems);
    Some(Monitoring { service, agent, source, token, logs, from, place: entry.key.mark.place() })
}

/// Warns of a host that is there to watch, where nothing is to be watched by it.
pub(super) fn idle(hosts: &Hosts<'_>, problems: &mut Problems) {
    if let Some(entry) = hosts.roles.get(&Role::Monitor).and_then(|entries| entries.first()) {
        problems.push(
            Diagnostic::warning(format!("`{}` has the role `monitor`, and watches nobody", entry.key.text))
                .at(&entry.key.mark.span())
                .help("write `monitoring: { service: prometheus }`, or take the role out"),
        );
    }
}

/// Which keys go with which service and agent.
fn fits(
    fields: Fields<'_>,
    section: &Entry,
    hosts: &Hosts<'_>,
    (service, agent): (MonitoringService, Agent),
    problems: &mut Problems,
) {
    use MonitoringService::{None, Prometheus, Sumologic};
    let (needed, help, refused): (&str, &str, &[&str]) = match (service, agent) {
        (None, _) => return,
        (Sumologic, Agent::Telegraf) => {
            ("source", "write `source: { env: SUMO_HTTP_SOURCE }`: the URL of the HTTP source", &["token", "from"])
        }
        (Sumologic, Agent::OtelcolSumo) => {
            ("token", "write `token: { env: SUMO_INSTALLATION_TOKEN }`: the installation token", &["source", "from"])
        }
        (Prometheus, Agent::Telegraf) => {
            // Who watches is a host of the inventory, or stands elsewhere.
            if hosts.lacks(Role::Monitor) && fields.lacks("from") {
                problems.push(
                    Diagnostic::error(
                        "`service: prometheus` needs a host that watches, and no host has the role `monitor`",
                    )
                    .at(&section.key.mark.span())
                    .help("give a host `roles: [monitor]`"),
                );
            }
            ("service", "", &["source", "token", "logs"])
        }
        (Prometheus, Agent::OtelcolSumo) => {
            if let Some(node) = fields.value("agent") {
                problems.push(
                    Diagnostic::error("`otelcol-sumo` sends to Sumo Logic only")
                        .at(&node.span())
                        .help("write `agent: telegraf`, or `service: sumologic`"),
                );
            }
            return;
        }
    };
    let combination = match (service, agent) {
        (Prometheus, _) => "`service: prometheus`",
        (_, Agent::Telegraf) => "`agent: telegraf`",
        (_, Agent::OtelcolSumo) => "`agent: otelcol-sumo`",
    };
    if fields.lacks(needed) {
        problems
            .push(Diagnostic::error(format!("{combination} needs `{needed}`")).at(&section.key.mark.span()).help(help));
    }
    for key in refused {
        if let Some(entry) = fields.get(key) {
            problems.push(
                Diagnostic::error(format!("{combination} does not use `{key}`"))
                    .at(&entry.key.mark.span())
                    .help("remove it"),
            );
        }
    }
}

fn logs(node: &Node, hosts: &Hosts<'_>, problems: &mut Problems) -> Vec<LogFile> {
    let mut out = Vec::new();
    let example = "[{ path: /var/log/shop/*.log, on: app, category: prod/shop/app }]";
    for item in problems.list(node, "logs", example).unwrap_or_default() {
        let Some(fields) = problems.fields_of(item, &item.mark, "a log", &["path", "on", "category"]) else { continue };
        let path = problems
            .require(fields, "the log", "path", "write `path: /var/log/shop/*.log`")
            .and_then(|e| host_path(&e.value, "path", "*?[]", problems));
        let on = problems
            .require(fields, "the log", "on", "write `on: app`: a role, a host, or `all`")
            .and_then(|e| place(&e.value, hosts, problems));
        let category = problems
            .require(fields, "the log", "category", "write `category: prod/shop/app`")
            .and_then(|e| category(&e.value, problems));
        if let (Some(path), Some(on), Some(category)) = (path, on, category) {
            out.push(LogFile { path, on, category });
        }
    }
    out
}

fn place(node: &Node, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<Party> {
    let party = names::party(node, "on", hosts, problems)?;
    if matches!(party, Party::Net(_) | Party::Internet) {
        problems.push(
            Diagnostic::error(format!("a log lies on a host, not on `{party}`"))
                .at(&node.span())
                .help("write a role, a host, or `all`"),
        );
        return None;
    }
    Some(party)
}

fn category(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "category")?;
    if let Some(c) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "/._-".contains(*c))) {
        problems.push(
            Diagnostic::error(format!("`category` has the character `{}`", c.escape_default()))
                .at(&node.span())
                .help("use letters, digits, `/`, `.`, `-` and `_`"),
        );
        return None;
    }
    Some(text.to_owned())
}

fn networks(node: &Node, problems: &mut Problems) -> Vec<Cidr> {
    let items = problems.some(node, "from", "[10.0.9.9]").unwrap_or_default();
    items.into_iter().filter_map(|item| problems.parse(item, "from")).collect()
}

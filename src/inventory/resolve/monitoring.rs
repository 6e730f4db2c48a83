//! `monitoring:`: takes the section, gives where the data goes, who collects it, and which logs are shipped.

use std::collections::BTreeSet;
use std::path::Path;

use super::hosts::Hosts;
use super::{alerts, host_path, names};
use crate::base::diagnostic::Diagnostic;
use crate::base::fsx;
use crate::base::net::Cidr;
use crate::base::openpgp::{self, Fingerprint};
use crate::base::warning::Warning;
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Fields, Problems, expand};
use crate::inventory::site::{Agent, AgentRepository, LogFile, Monitoring, MonitoringService, Party, Role};

const SERVICES: [(&str, MonitoringService); 3] = [
    ("sumologic", MonitoringService::Sumologic),
    ("prometheus", MonitoringService::Prometheus),
    ("none", MonitoringService::None),
];
const AGENTS: [(&str, Agent); 2] = [("telegraf", Agent::Telegraf), ("otelcol-sumo", Agent::OtelcolSumo)];

const KEYS: [&str; 8] = ["service", "agent", "source", "token", "repository", "logs", "alerts", "from"];
/// Telegraf's maker, and the fingerprint of the key that signs its packages (Telegraf's installation guide).
const MAKER: (&str, &str) = ("https://repos.influxdata.com/debian", "24C975CBA61A024EE1B631787C3D57159FC2F927");
/// The packages of Sumo Logic's collector, as its maker's install script has them.
const COLLECTOR: &str = "https://packagecloud.io/sumologic/stable/any";
/// No network of one's own is wider: 10.0.0.0/8 is the largest of RFC 1918, and a provider of many customers has a /29 or less.
const NETWORK_V4: u8 = 8;
const NETWORK_V6: u8 = 29;
/// More than this no key file has, bytes.
const LARGEST_KEY: u64 = 256 * 1024;

/// Reads the section, and the key file that it names, beside the inventory in `folder`.
pub(super) fn monitoring(
    root: Fields<'_>,
    hosts: &Hosts<'_>,
    folder: &Path,
    problems: &mut Problems,
) -> Option<Monitoring> {
    let entry = root.get("monitoring")?;
    let what = "`monitoring`";
    let fields = problems.fields(entry, what, &KEYS)?;
    let help = "write `service: none`, `service: sumologic` and where its `source` is kept, or `service: prometheus` and a host with the \
                role `monitor`";
    let service =
        problems.require(fields, what, "service", help).and_then(|e| problems.word(&e.value, "service", &SERVICES));
    let agent = fields.value("agent").map(|node| problems.word(node, "agent", &AGENTS));
    let source = fields.value("source").and_then(|node| problems.secret(node, "source"));
    let token = fields.value("token").and_then(|node| problems.secret(node, "token"));
    let logs = fields.value("logs").map(|node| logs(node, hosts, problems)).unwrap_or_default();
    let from = fields.value("from").map(|node| networks(node, problems)).unwrap_or_default();
    let alerts = fields.get("alerts").map(|entry| alerts::alerts(entry, problems)).unwrap_or_default();
    let kind = agent.flatten().unwrap_or(Agent::Telegraf);
    let repository = match fields.get("repository") {
        Some(entry) => repository(entry, kind, folder, problems).map(Some),
        None => Some(None),
    };
    let (service, agent) = (service?, agent.unwrap_or(Some(Agent::Telegraf))?);
    fits(fields, entry, hosts, (service, agent), problems);
    let repository = repository?;
    untried(fields, (service, agent), token.is_some(), problems);
    Some(Monitoring { service, agent, source, token, logs, repository, alerts, from, place: entry.key.mark.place() })
}

/// Warns of the agent that no test could run, where the section is right.
fn untried(fields: Fields<'_>, (service, agent): (MonitoringService, Agent), has_token: bool, problems: &mut Problems) {
    let Some(node) = fields.value("agent").filter(|_| has_token && fields.lacks("source") && fields.lacks("from"))
    else {
        return;
    };
    if (service, agent) == (MonitoringService::Sumologic, Agent::OtelcolSumo) {
        problems.push(
            Diagnostic::warning(
                Warning::UntriedAgent,
                "`agent: otelcol-sumo` was never run with the maker's collector: what infra writes for it was tried with a stand-in",
            )
            .at(&node.span())
            .help("try it on one host first (`infra apply --limit HOST`), and look in Sumo Logic for what arrives; `agent: telegraf` was run"),
        );
    }
}

/// Warns of a host that is there to watch, where nothing is to be watched by it.
pub(super) fn idle(hosts: &Hosts<'_>, problems: &mut Problems) {
    if let Some(entry) = hosts.roles.get(&Role::Monitor).and_then(|entries| entries.first()) {
        problems.push(
            Diagnostic::warning(
                Warning::IdleMonitor,
                format!("`{}` has the role `monitor`, and watches nobody", entry.key.text),
            )
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
                    .help("give a host `roles: [monitor]`, or write `from: [198.51.100.9]`: where your own Prometheus stands"),
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

/// Where the agent comes from. Of Telegraf's maker the address and the key are known; of the collector's both have to be said.
fn repository(entry: &Entry, agent: Agent, folder: &Path, problems: &mut Problems) -> Option<AgentRepository> {
    let what = "`repository`";
    let fields = problems.fields(entry, what, &["url", "signed_by", "fingerprint"])?;
    let (maker, fingerprint) = MAKER;
    let said = |key, help: &str, problems: &mut Problems| {
        agent != Agent::OtelcolSumo || problems.require(fields, what, key, help).is_some()
    };
    let known = [
        said("url", &format!("write `url: {COLLECTOR}`, or that of a mirror"), problems),
        said("fingerprint", "write all of it, as `gpg --show-keys` tells it for the key file", problems),
    ];
    let url = match fields.value("url") {
        Some(node) => url(node, agent, problems),
        None => Some(maker.to_owned()),
    };
    let fingerprints = match fields.value("fingerprint") {
        Some(node) => fingerprint_of(node, problems).map(|one| BTreeSet::from([one])),
        None => Some(fingerprint.parse().into_iter().collect()),
    };
    let (example, fetch) = match agent {
        Agent::Telegraf => (
            "influxdata-archive.key",
            "fetch it from its maker: `curl -O https://repos.influxdata.com/influxdata-archive.key`, say",
        ),
        Agent::OtelcolSumo => (
            "sumologic.key",
            "fetch it from its maker: `curl -o sumologic.key https://packagecloud.io/sumologic/stable/gpgkey`, say",
        ),
    };
    let help =
        &format!("write `signed_by: {example}`, the file with the key that signs the packages, beside the inventory");
    let node = &problems.require(fields, what, "signed_by", help)?.value;
    if known.contains(&false) {
        return None;
    }
    let path = folder.join(expand(problems.text(node, "signed_by")?));
    let mut refuse = |why: String, help: String| {
        problems.push(Diagnostic::error(why).at(&node.span()).help(help));
        None
    };
    let key = match fsx::read_named(&path, LARGEST_KEY) {
        Ok(key) => key,
        Err(e) => {
            let why = format!("the key file `{}` cannot be read: {e}", path.display());
            return refuse(why, fetch.to_owned());
        }
    };
    let fingerprints = fingerprints?;
    let list = |all: &BTreeSet<Fingerprint>| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match openpgp::read(&key) {
        Err(e) => refuse(format!("the key file `{}` {e}", path.display()), "fetch it once more".to_owned()),
        Ok(keys) if keys.fingerprints != fingerprints => refuse(
            format!("the key file `{}` holds {}, not {}", path.display(), list(&keys.fingerprints), list(&fingerprints)),
            "compare them with what the maker says in another place than the one that the key came from, then write the \
             right one as `fingerprint`"
                .to_owned(),
        ),
        Ok(_) => Some(AgentRepository { url: url?, fingerprints, key }),
    }
}

fn fingerprint_of(node: &Node, problems: &mut Problems) -> Option<Fingerprint> {
    let text = problems.text(node, "fingerprint")?;
    match text.parse() {
        Ok(fingerprint) => Some(fingerprint),
        Err(invalid) => {
            let help = "write all of it, as `gpg --show-keys` tells it for the key file";
            problems.push(Diagnostic::error(format!("`{text}` {}", invalid.reason)).at(&node.span()).help(help));
            None
        }
    }
}

fn url(node: &Node, agent: Agent, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "url")?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:-_~[]".contains(c);
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain)) {
        return Some(text.trim_end_matches('/').to_owned());
    }
    problems.push(
        Diagnostic::error(format!("`{text}` is not the address of a package repository")).at(&node.span()).help(
            format!(
                "write `url: {}`, or that of a mirror",
                if agent == Agent::OtelcolSumo { COLLECTOR } else { MAKER.0 }
            ),
        ),
    );
    None
}

fn logs(node: &Node, hosts: &Hosts<'_>, problems: &mut Problems) -> Vec<LogFile> {
    let mut out = Vec::new();
    let example = "[{ path: /var/log/shop/*.log, on: app, category: prod/shop/app }]";
    for item in problems.list(node, "logs", example).unwrap_or_default() {
        let Some(fields) = problems.fields_of(item, &item.mark, "a log", &["path", "on", "category", "multiline"])
        else {
            continue;
        };
        let path = problems
            .require(fields, "the log", "path", "write `path: /var/log/shop/*.log`")
            .and_then(|e| log_path(&e.value, problems));
        let on = problems
            .require(fields, "the log", "on", "write `on: all`, or a role or host")
            .and_then(|e| place(&e.value, hosts, problems));
        let category = problems
            .require(fields, "the log", "category", "write `category: prod/shop/app`")
            .and_then(|e| category(&e.value, problems));
        let multiline = match fields.value("multiline") {
            Some(node) => pattern(node, problems).map(Some),
            None => Some(None),
        };
        if let (Some(path), Some(on), Some(category), Some(multiline)) = (path, on, category, multiline) {
            out.push(LogFile { path, on, category, multiline });
        }
    }
    out
}

/// A file, or files of one folder.
fn log_path(node: &Node, problems: &mut Problems) -> Option<String> {
    let path = host_path(node, "path", "*?", problems)?;
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    let (message, help) = if name.is_empty() {
        (format!("`{path}` is a folder"), format!("write the files of it that are logs: `{path}*.log`"))
    } else if folder.contains(['*', '?']) {
        (
            format!("`{path}` has `*` or `?` in the name of a folder"),
            "write an entry for each folder; the name of the file alone may be a pattern".to_owned(),
        )
    } else if folder.is_empty() {
        (format!("`{path}` stands in the root folder"), "write a path such as `/var/log/shop/*.log`".to_owned())
    } else {
        return Some(path);
    };
    problems.push(Diagnostic::error(message).at(&node.span()).help(help));
    None
}

/// How the first line of a record begins. What PCRE says of it, the host tells before anything is changed; here is refused what no
/// pattern is.
fn pattern(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "multiline")?;
    let example = r"write how the first line of a record begins: `multiline: '^\d{4}-\d\d-\d\d '`";
    let why = if text.is_empty() {
        Some("is empty".to_owned())
    } else if let Some(c) = text.chars().find(|c| c.is_control() || matches!(c, '\'' | '`')) {
        Some(format!(
            "has the character `{}`, which cannot stand there",
            if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
        ))
    } else {
        unbalanced(text).map(|what| format!("is no pattern: {what}"))
    };
    let Some(why) = why else { return Some(text.to_owned()) };
    problems.push(Diagnostic::error(format!("`multiline` {why}")).at(&node.span()).help(example));
    None
}

/// What is not closed, or was never opened, in a regular expression.
fn unbalanced(pattern: &str) -> Option<&'static str> {
    let (mut groups, mut class, mut first) = (0_usize, false, true);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none() => return Some("it ends with `\\`"),
            '\\' => {}
            ']' if class => class = false,
            _ if class => {}
            '[' => {
                class = true;
                // A bracket that comes first in a class, or first after `^`, is a member of it.
                let rest = chars.as_str();
                let member = rest.strip_prefix('^').unwrap_or(rest).starts_with(']');
                if member {
                    let skipped = if rest.starts_with('^') { 2 } else { 1 };
                    chars.by_ref().take(skipped).for_each(drop);
                }
            }
            '(' => groups += 1,
            ')' if groups == 0 => return Some("a `)` has no `(`"),
            ')' => groups -= 1,
            '*' | '+' | '?' if first => return Some("it begins with a repetition of nothing"),
            _ => {}
        }
        first = false;
    }
    match (class, groups) {
        (true, _) => Some("a `[` is not closed"),
        (false, 0) => None,
        (false, _) => Some("a `(` is not closed"),
    }
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

/// The networks of a Prometheus outside: each is somebody's own, not the world's.
fn networks(node: &Node, problems: &mut Problems) -> Vec<Cidr> {
    let mut out = Vec::new();
    for item in problems.some(node, "from", "[198.51.100.9]").unwrap_or_default() {
        let Some(net) = problems.parse::<Cidr>(item, "from") else { continue };
        let narrowest = if net.net().addr().is_ipv4() { NETWORK_V4 } else { NETWORK_V6 };
        if net.net().prefix_len() < narrowest {
            problems.push(
                Diagnostic::error(format!(
                    "`{net}` is no network of one's own: it would let the internet scrape the hosts"
                ))
                .at(&item.span())
                .help("write the address of the Prometheus that scrapes them, such as `198.51.100.9`"),
            );
        } else {
            out.push(net);
        }
    }
    out
}

//! Sumo Logic's collector: takes a context and the section, adds its package, the fragments of configuration that belong to the roles of
//! the host, its token, and the checks of all that: the structure here, the rest by the collector itself on the host before it restarts.

use std::net::SocketAddr;

use serde::Serialize;

use super::metrics::{Program, loopback, programs};
use super::{NAME, SOCKET, is_on, lint, logs, roles, user};
use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Monitoring, Role};
use crate::plan::state::{Access, Check, Follow, Look, UnitWanted};
use crate::service::Context;
use crate::service::agent::{self, PHASE, Reader};
use crate::service::claims::Claims;
use crate::service::firewall::flows::{COLLECTOR_UID, METRICS};

/// The package.
pub(super) const PACKAGE: &str = "otelcol-sumo";
/// Its unit.
pub(super) const UNIT: &str = agent::COLLECTOR;
/// The file by which the unit is infra's own.
pub(super) const DROP_IN: &str = "/etc/systemd/system/otelcol-sumo.service.d/infra.conf";
/// The task that gives its user a number of infra's, and the fact that it has it.
pub(super) const COLLECTOR_USER: &str = "monitoring/collector";
const FOLDER: &str = "/etc/otelcol-sumo";
/// Where it stands the package's start script ignores every file of the host's own.
const REMOTE: &str = "/etc/otelcol-sumo/sumologic-remote.yaml";

#[derive(Serialize)]
struct Model<'a> {
    site: &'a str,
    host: &'a str,
    roles: String,
    /// The first part of source categories: `shop/web`.
    category: String,
    haproxy: SocketAddr,
    nginx: Option<SocketAddr>,
    programs: Vec<Program<'a>>,
    files: Vec<LogFiles>,
    user: &'static str,
    socket: &'static str,
}

/// Files of logs of one category. The texts are quoted as JSON quotes them, which YAML reads.
#[derive(Serialize)]
struct LogFiles {
    id: String,
    path: String,
    category: String,
    multiline: Option<String>,
    /// By which Sumo Logic's apps know them.
    datasource: &'static str,
}

/// As YAML and then the collector read it, for whom `$` begins a variable.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace('$', "$$")).to_string()
}

fn files(context: &Context<'_>, section: &Monitoring) -> Vec<LogFiles> {
    let streams = logs::streams(context, section).into_iter();
    let file = |stream: logs::Stream<'_>| {
        let path = stream.path.as_deref()?;
        let datasource = match stream.id.split('_').next() {
            Some("nginx") => "nginx",
            Some("database") => "mysql",
            _ => "linux",
        };
        let multiline = stream.multiline.map(quoted);
        Some(LogFiles { id: stream.id.clone(), path: quoted(path), category: stream.category, multiline, datasource })
    };
    streams.filter_map(file).collect()
}

/// Adds it.
///
/// # Errors
/// What cannot be rendered, is claimed by another, or is no configuration of the collector.
pub(super) fn want(context: &Context<'_>, section: &Monitoring, out: &mut Claims) -> Result<(), Diagnostic> {
    let (site, host) = (context.site, context.host);
    let model = Model {
        site: site.name.as_str(),
        host: host.name.as_str(),
        roles: roles(context),
        category: format!("{}/{}", site.name, roles(context)),
        haproxy: loopback(METRICS),
        nginx: agent::nginx_status(context, out)?,
        programs: programs(context),
        files: files(context, section),
        user: agent::MONITOR,
        socket: SOCKET,
    };
    let title = "give the user of the collector a number that the firewall knows";
    let made = (COLLECTOR_USER, COLLECTOR_UID);
    out.task(COLLECTOR_USER, user(context, title, made, include_str!("collector.sh"))?)?;
    out.unit(UNIT, UnitWanted { phase: PHASE })?;
    let mut add = |path: &str, template: &str, access: Access| -> Result<String, Diagnostic> {
        let body = context.render(template, &model)?;
        let text = body.text.to_string();
        agent::file(out, path, body, access, &[(UNIT, Follow::Restart)])?;
        Ok(text)
    };
    add(DROP_IN, "monitoring/otelcol.service", Access::root(0o644))?;
    // systemd reads them, as root. The group of the package gets its number later than a first run uploads them.
    let secret = || Access::root(0o640);
    add(&format!("{FOLDER}/env/token.env"), "monitoring/token.env", secret())?;
    let mut variables = vec!["SUMOLOGIC_INSTALLATION_TOKEN"];
    if is_on(context) {
        add(&format!("{FOLDER}/env/infra.env"), "monitoring/database.env", secret())?;
        variables.push("INFRA_DATABASE_PASSWORD");
    }
    let fragments = [
        ("20-infra-base", "base", true),
        ("30-infra-lb", "lb", host.has(Role::Lb)),
        ("30-infra-web", "web", model.nginx.is_some()),
        ("30-infra-app", "app", !model.programs.is_empty()),
        ("30-infra-db", "db", is_on(context)),
        ("40-infra-logs", "logs", !model.files.is_empty()),
    ];
    let mut written = Vec::new();
    for (name, template, _) in fragments.into_iter().filter(|(_, _, wanted)| *wanted) {
        let template = format!("monitoring/otelcol-{template}.yaml");
        written.push((
            format!("{name}.yaml"),
            add(&format!("{FOLDER}/conf.d/{name}.yaml"), &template, Access::root(0o644))?,
        ));
    }
    let problems = lint::problems(&written, &variables);
    if let Some(problem) = problems.first() {
        let more = problems.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        return Err(Diagnostic::error(format!("the collector's configuration of {}: {problem}{more}", host.name))
            .help("mend the template beside the inventory, or take it away: infra's own then holds"));
    }
    agent::measures(context, Reader::Collector, out)?;
    checked(out, &variables);
    super::delivery::of_collector(out);
    Ok(())
}

/// What the host itself says before anything is changed there.
fn checked(out: &mut Claims, variables: &[&str]) {
    let local = format!(
        "[ ! -e {REMOTE} ] || {{ echo 'the collector of this host is managed from Sumo Logic ({REMOTE}), and would read none of the \
         files that infra writes: take that file away, or take `{NAME}` out'; exit 1; }}"
    );
    out.look(Look { command: local.clone(), binding: true });
    // The values of its variables are of no account here.
    let set = variables.iter().map(|variable| format!("{variable}=none ")).collect::<Vec<_>>().concat();
    out.check(Check {
        title: "otelcol-sumo validate".into(),
        command: format!(
            "{local}\n{set}otelcol-sumo validate --config {FOLDER}/sumologic.yaml --config 'glob:{FOLDER}/conf.d/*.yaml'"
        ),
    });
}

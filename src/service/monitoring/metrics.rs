//! Measures: takes a context, adds Telegraf with what the roles of the host are to be watched for.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::{SOCKET, category, config, is_on, roles, unit};
use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Engine, Role};
use crate::plan::state::{Access, Check, Follow, Probe};
use crate::service::Context;
use crate::service::agent::{self, PHASE};
use crate::service::claims::Claims;
use crate::service::database::{is_client, traffic};
use crate::service::firewall::flows::METRICS;

/// The package, which no release of Debian has.
pub(super) const PACKAGE: &str = "telegraf";
/// Its unit.
pub(super) const UNIT: &str = agent::TELEGRAF;
/// The file by which the unit is infra's own.
pub(super) const DROP_IN: &str = "/etc/systemd/system/telegraf.service.d/infra.conf";

#[derive(Serialize)]
struct Model<'a> {
    site: &'a str,
    host: &'a str,
    roles: String,
    category: String,
    haproxy: Option<SocketAddr>,
    nginx: Option<SocketAddr>,
    programs: Vec<Program<'a>>,
    listeners: Vec<Listener>,
    /// Who logs in to the database of this host, and where.
    database: Option<Login>,
}

/// How the database of this very host is asked.
#[derive(Serialize)]
struct Login {
    user: &'static str,
    socket: &'static str,
    /// Whether it is `MySQL`, not `MariaDB`.
    mysql: bool,
}

/// What is read of the database's measures by the probe that looks whether there are any.
const MEASURED: &str = "/run/infra-telegraf/database";
/// The file with the password of the account that measures; systemd alone reads it, as root.
const PASSWORD: &str = "database.env";

/// The user's program of a site.
#[derive(Serialize)]
pub(super) struct Program<'a> {
    site: String,
    port: u16,
    health: &'a str,
}

/// Those of a host, once for each site that it serves.
pub(super) fn programs<'a>(context: &Context<'a>) -> Vec<Program<'a>> {
    let here = context.site.programs_on(context.host);
    let programs = here.values().flat_map(|one| one.sites.iter().map(|site| (*site, one.program)));
    let programs = programs.map(|(site, program)| Program {
        site: site.name.example(),
        port: program.port.get(),
        health: &program.health,
    });
    programs.collect()
}

/// What must take connections.
#[derive(Serialize)]
struct Listener {
    what: &'static str,
    socket: SocketAddr,
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

fn login(context: &Context<'_>) -> Option<Login> {
    let database = context.site.database.as_ref().filter(|_| is_on(context))?;
    Some(Login { user: agent::MONITOR, socket: SOCKET, mysql: database.engine == Engine::Mysql })
}

/// Adds it.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(super) fn want(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let (site, host) = (context.site, context.host);
    let uses = site.database.as_ref().is_some_and(|database| is_client(database, host));
    let listeners = [("database, writes", traffic::WRITE), ("database, reads", traffic::READ)];
    let listeners =
        listeners.into_iter().filter(|_| uses).map(|(what, port)| Listener { what, socket: loopback(port) });
    let model = Model {
        site: site.name.as_str(),
        host: host.name.as_str(),
        roles: roles(context),
        category: category(context, "metrics"),
        haproxy: host.has(Role::Lb).then(|| loopback(METRICS)),
        nginx: agent::nginx_status(context, out)?,
        programs: programs(context),
        listeners: listeners.collect(),
        database: login(context),
    };
    if model.database.is_some() {
        config(out, PASSWORD, context.render("monitoring/database.env", &model)?, 0o600, &[UNIT])?;
        out.probe(Probe {
            phase: PHASE,
            title: "the database is measured".into(),
            // It is written anew with each measure, and goes when the agent does.
            command: format!(
                "find {MEASURED} -newermt '-60 seconds' 2>/dev/null | grep -q . && exit 0\n\
                 why=$(journalctl -u {UNIT} -n 20 -o cat --no-pager 2>/dev/null | grep 'E!.*mysql' | tail -n 1)\n\
                 echo \"the agent has no measures of the database yet${{why:+: }}$why\"; exit 1"
            )
            .into(),
            within: Duration::from_secs(60),
            advisory: false,
        });
    }
    unit(out, UNIT)?;
    agent::file(
        out,
        DROP_IN,
        context.render("monitoring/telegraf.service", &model)?,
        Access::root(0o644),
        &[(UNIT, Follow::Restart)],
    )?;
    config(out, "telegraf.conf", context.render("monitoring/telegraf.conf", &model)?, 0o644, &[UNIT])?;
    out.check(Check {
        title: "telegraf config check".into(),
        // It takes an empty variable for a mistake.
        command: format!(
            "SUMO_HTTP_SOURCE=https://localhost/ {}telegraf config check --config /etc/infra/monitoring/telegraf.conf",
            if model.database.is_some() { "INFRA_DATABASE_PASSWORD=none " } else { "" }
        ),
    });
    Ok(())
}

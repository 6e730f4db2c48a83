//! Measures: takes a context, adds Telegraf with what the roles of the host are to be watched for.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Serialize;

use super::{category, config, roles, unit};
use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::Role;
use crate::plan::state::{Access, Check, Follow};
use crate::service::Context;
use crate::service::agent;
use crate::service::claims::Claims;
use crate::service::database::{is_client, traffic};
use crate::service::firewall::flows::METRICS;

/// The package, which no release of Debian has.
pub(super) const PACKAGE: &str = "telegraf";
/// Its unit.
pub(super) const UNIT: &str = "telegraf.service";
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
}

/// The user's program of a site.
#[derive(Serialize)]
struct Program<'a> {
    site: String,
    port: u16,
    health: &'a str,
}

/// What must take connections.
#[derive(Serialize)]
struct Listener {
    what: &'static str,
    socket: SocketAddr,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// Adds it.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(super) fn want(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let (site, host) = (context.site, context.host);
    let here = site.programs_on(host);
    let programs = here.values().flat_map(|one| one.sites.iter().map(|s| (s, one.program))).map(|(s, program)| {
        Program { site: s.name.as_str().replace('*', "infra-probe"), port: program.port.get(), health: &program.health }
    });
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
        programs: programs.collect(),
        listeners: listeners.collect(),
    };
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
        command:
            "SUMO_HTTP_SOURCE=https://localhost/ telegraf config check --config /etc/infra/monitoring/telegraf.conf"
                .into(),
    });
    Ok(())
}

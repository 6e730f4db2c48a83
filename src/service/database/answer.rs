//! What a db host tells of its role: takes a context, adds the agent that finds the role out and keeps it in files under `/run`, and
//! nginx, which shows these files to the app and db hosts of the group, and to nobody else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::NAME;
use super::engine::Flavor;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::Port;
use crate::inventory::site::{Database, Engine, Role, SemiSync};
use crate::plan::state::{Access, File, Follow, Phase, Probe, UnitWanted};
use crate::service::Context;
use crate::service::claims::Claims;
use crate::service::nginx::{self, Admission, Front};
use crate::service::render::{Template, template};

/// The port at which a db host tells its role.
pub const PORT: u16 = 9306;
/// The unit of the agent.
pub const UNIT: &str = "infra-db-role.service";

const SCRIPT: &str = "/var/lib/infra/db-role";
const PHASE: Phase = Phase::Primary;

/// What this module renders.
pub(super) const TEMPLATES: [Template; 3] =
    [template!("database/role.sh"), template!("database/role.service"), template!("database/answer.conf")];

#[derive(Serialize)]
struct Model<'a> {
    dialect: String,
    host: &'a str,
    unit: &'a str,
    own: &'a [IpAddr],
    peers: Vec<Peer<'a>>,
    /// Milliseconds.
    max_lag: u128,
    strict: bool,
}

#[derive(Serialize)]
struct Peer<'a> {
    name: &'a str,
    address: IpAddr,
    others: Vec<IpAddr>,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    front: Front<'a>,
    /// The common names of the clients' certificates.
    clients: Vec<String>,
}

/// The port, as the rest of the program has ports.
pub fn port() -> Port {
    Port::try_from(u64::from(PORT)).unwrap_or(Port::HTTPS)
}

/// What the agent needs of an engine beside its dialect.
fn dialect(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => include_str!("scripts/role-mariadb.sh"),
        Engine::Mysql => include_str!("scripts/role-mysql.sh"),
    }
}

/// Adds agent and answer.
pub(super) fn want(
    context: &Context<'_>,
    database: &Database,
    flavor: Flavor,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    let (site, host) = (context.site, context.host);
    let others = site.with_role(Role::Db).filter(|other| other.name != host.name);
    let peers = others.filter_map(|other| {
        let address = nginx::reach(host, other)?;
        let others = other.addresses.iter().copied().filter(|other| *other != address).collect();
        Some(Peer { name: other.name.as_str(), address, others })
    });
    let model = Model {
        dialect: format!("{}\n{}", flavor.dialect(), dialect(flavor.engine)),
        host: host.name.as_str(),
        unit: flavor.unit(),
        own: &host.addresses,
        peers: peers.collect(),
        max_lag: database.max_lag.as_millis(),
        strict: database.semi_sync == SemiSync::Strict,
    };
    for (path, template, mode) in [
        (SCRIPT, "database/role.sh", 0o700),
        ("/etc/systemd/system/infra-db-role.service", "database/role.service", 0o644),
    ] {
        let body = context.render(template, &model)?;
        let then = BTreeMap::from([(UNIT.to_owned(), Follow::Restart)]);
        out.file(path, File { service: NAME, phase: PHASE, access: Access::root(mode), body, then, about: None })?;
    }
    out.unit(UNIT, UnitWanted { phase: PHASE })?;
    out.probe(Probe {
        phase: PHASE,
        title: "the agent that tells the database's role is running".into(),
        command: format!("systemctl is-active {UNIT}").into(),
        within: Duration::from_secs(15),
        advisory: false,
    });
    nginx::want(context, NAME, out)?;
    let clients = [Role::App, Role::Db].into_iter().chain(database.users.values().map(|user| user.from));
    let clients: Vec<Role> = clients.collect();
    let (front, clients) = (Front::new(context, Role::Db, port()), Admission::of(site, Role::Db, &clients, port()));
    let body = context.render("database/answer.conf", &Answer { front, clients: clients.names() })?;
    nginx::config(NAME, PHASE, &format!("/etc/nginx/conf.d/{}-db-{PORT}.conf", site.name), body, out)?;
    nginx::listener_probes(context, PHASE, port(), out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_wrote_under_another_number_it_does_not_lack() {
        // The server's own position, its log, that of another host, and whether something of that is lacking here.
        for (position, log, theirs, lacking) in [
            ("1-101-9", "1-101-9", "1-101-9", false),
            ("1-101-9", "1-101-9", "1-102-10", true),
            ("1-101-9", "1-101-9", "0-1-3,1-101-9", true),
            ("", "0-1-8", "0-1-8", false),
            ("1-101-2", "0-1-8,1-101-2", "0-1-8,1-101-2", false),
            ("1-102-12", "1-101-9", "1-102-12", false),
            ("", "", "", false),
        ] {
            let asks = format!("sql() {{ echo '{position},{log}'; }}\nlacks '{theirs}'");
            let script = format!("{}\n{asks}", dialect(Engine::Mariadb));
            let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(output.status.success(), lacking, "{position} {log} {theirs}: {output:?}");
        }
    }
}

//! How the programs of an app host come to the database: takes a context, adds a `HAProxy` of its own on loopback, which asks every
//! db host for its role and leads writes to the writer, and reads to replicas that are fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::{NAME, answer};
use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::net::HostName;
use crate::inventory::site::Role;
use crate::plan::plan::Action;
use crate::plan::state::{Access, Check, File, Folder, Follow, Phase, Probe, UnitWanted};
use crate::service::certificates::{CIPHERS, CIPHERSUITES, Holder, curves};
use crate::service::claims::Claims;
use crate::service::haproxy::{self, HAPROXY};
use crate::service::render::{Template, template};
use crate::service::{Context, drain, nginx, ports};

/// On loopback of every app host: what may write.
pub const WRITE: u16 = 6446;
/// On loopback of every app host: what only reads.
pub const READ: u16 = 6447;
/// On loopback of every app host: where the proxy asks its own questions.
const ASK: u16 = 6448;
/// The unit of the proxy.
pub const UNIT: &str = "infra-db-proxy.service";
/// Its folder, with the authorities of the database's certificates in `ca.crt`; credentials of programs stand there too.
pub const FOLDER: &str = "/etc/infra/db";
/// Where it takes commands.
pub const SOCKET: &str = "/run/infra/db-proxy/admin.sock";

const PHASE: Phase = Phase::App;
/// The files of [`FOLDER`] that say to whom nothing may be sent.
const PLACES: [&str; 2] = ["/proxy.cfg", "/proxy.state"];
/// The port of the server.
const SERVER: u16 = 3306;
/// Connections of programs at one time; each needs one to a server too.
const MAXCONN: u32 = 8000;

/// The master alone knows which of its workers is the newest.
const FORMER: &str = r#"systemctl -q is-active infra-db-proxy.service || exit 0
said=$(echo 'show proc' | socat -t 5 - UNIX-CONNECT:/run/infra/db-proxy/master.sock 2>&1) && [ -n "$said" ] ||
	{ echo "the master of the database proxy does not tell of its former workers: $said"; exit 1; }
former=$(printf '%s\n' "$said" | awk '/^#/ { part = $2 " " $3 } part == "old workers" && $2 == "worker" { print $1 }')"#;

/// What this module renders.
pub(super) const TEMPLATES: [Template; 5] = [
    template!("database/proxy.cfg"),
    template!("database/proxy.lua"),
    template!("database/proxy.state"),
    template!("database/proxy.service"),
    haproxy::IDLE,
];

#[derive(Serialize)]
struct Model<'a> {
    maxconn: u32,
    curves: &'a str,
    server_curves: bool,
    ciphers: &'a str,
    ciphersuites: &'a str,
    write_port: u16,
    read_port: u16,
    ask_port: u16,
    server_port: u16,
    role_name: String,
    servers: Vec<Server<'a>>,
}

#[derive(Serialize)]
struct Server<'a> {
    host: &'a str,
    name: String,
    address: String,
    socket: SocketAddr,
    /// Where it tells its role.
    answer: SocketAddr,
    /// Whether nothing is sent there, whatever it says of itself.
    closed: bool,
}

/// Adds the proxy; nothing is sent to a host of `closed`.
pub(super) fn want(context: &Context<'_>, closed: &BTreeSet<HostName>, out: &mut Claims) -> Result<(), Diagnostic> {
    let (site, host) = (context.site, context.host);
    out.package("haproxy")?;
    out.unit(UNIT, UnitWanted { phase: PHASE })?;
    out.folder(FOLDER, Folder { phase: PHASE, access: Access::root(0o755) })?;
    let holder = Holder { service: NAME, phase: PHASE, unit: UNIT, follow: Follow::Reload };
    holder.file(context, out, &format!("{FOLDER}/ca.crt"), &[Material::HopAuthorities])?;
    let client = CertificateId::Hop { host: host.name.clone(), purpose: Purpose::Client };
    let client = [Material::Certificate(client.clone()), Material::Key(client)];
    // A reload would leave the connections of before to a worker that asks no server any more.
    out.swap(UNIT, &include_str!("../../../templates/haproxy/swap.sh").replace("/run/haproxy/admin.sock", SOCKET))?;
    let holder = Holder { follow: Follow::Swap, ..holder };
    holder.file(context, out, &format!("{FOLDER}/proxy.pem"), &client)?;
    let servers = site.with_role(Role::Db).filter_map(|db| {
        let address = nginx::reach(host, db)?;
        let name = site.internal_name(&db.name);
        let [socket, answer] = [SERVER, answer::PORT].map(|port| SocketAddr::new(address, port));
        let closed = closed.contains(&db.name);
        Some(Server { host: db.name.as_str(), name, address: address.to_string(), socket, answer, closed })
    });
    let model = Model {
        maxconn: MAXCONN,
        curves: curves(context),
        server_curves: HAPROXY.of(context.facts).minor() >= (2, 9),
        ciphers: CIPHERS,
        ciphersuites: CIPHERSUITES,
        write_port: WRITE,
        read_port: READ,
        ask_port: ASK,
        server_port: SERVER,
        role_name: site.role_name(Role::Db),
        servers: servers.collect(),
    };
    let mut file = |path: &str, template: &str, follow: Follow| {
        let body = context.render(template, &model)?;
        ports::check(UNIT, "bind", &body.text, out);
        let then = BTreeMap::from([(UNIT.to_owned(), follow)]);
        let access = Access::root(0o644);
        out.file(path, File { service: NAME, phase: PHASE, access, body, then, about: None })
    };
    for name in ["proxy.cfg", "proxy.lua", "proxy.state"] {
        file(&format!("{FOLDER}/{name}"), &format!("database/{name}"), Follow::Reload)?;
    }
    file(&format!("/etc/systemd/system/{UNIT}"), "database/proxy.service", Follow::Restart)?;
    haproxy::idle(context, NAME, PHASE, out)?;
    out.check(Check { title: "haproxy -c".into(), command: format!("haproxy -c -q -f {FOLDER}/proxy.cfg") });
    drain::add(NAME, "the database proxy", FORMER, out);
    probes(out);
    Ok(())
}

/// Whether an action brings to a proxy to whom nothing may be sent, or lets it take that.
pub fn brings_places(action: &Action) -> bool {
    match action {
        Action::Write { path, .. } => PLACES.iter().any(|name| path.strip_prefix(FOLDER) == Some(*name)),
        Action::Follow { unit, follow, .. } => unit == UNIT && *follow == Follow::Reload,
        _ => false,
    }
}

fn probes(out: &mut Claims) {
    let mut add = |title: &str, command: String, advisory: bool| {
        let (title, within) = (title.to_owned(), Duration::from_secs(if advisory { 5 } else { 30 }));
        out.probe(Probe { phase: PHASE, title, command: command.into(), within, advisory });
    };
    // `systemctl reload` succeeds even if the new worker dies: only the master knows.
    add(
        "the newest worker of the database proxy serves",
        haproxy::newest_worker("/run/infra/db-proxy/master.sock"),
        false,
    );
    add(
        "one database host takes writes, as the proxy sees it",
        format!(
            "echo 'show stat' | socat -t 5 - UNIX-CONNECT:{SOCKET} | awk -F, '\
             $1 == \"writer\" && $2 != \"BACKEND\" && $18 ~ /^UP/ {{ up++ }} \
             $1 == \"writer\" && $2 != \"BACKEND\" && $18 !~ /^UP/ {{ print $2 \": \" $18 \" \" $37 \" \" $38 }} END {{ exit up != 1 }}'"
        ),
        true,
    );
}

//! Which of the user's programs are well, and the way of a web host to them: takes a context, adds a `HAProxy` of its own on the web
//! hosts, which asks every program on every app host for its health.
//!
//! nginx as Debian has it asks nobody, and learns that a program is gone from the requests that it loses. So it reaches an app host by
//! a socket of this `HAProxy`, one for each program there. While the program is unwell the connection is refused before its handshake:
//! nothing of a request was sent, whatever its method and however large its body, and nginx takes it to the next host. TLS stays
//! between nginx and the app host, which is verified there as before; the health, too, is asked through the app host's front over
//! verified TLS, as a request would go. The app hosts' own addresses stand behind the sockets, in case that this `HAProxy` is gone.
//!
//! What a program refuses before that is noticed, the app host's front tells the web host by a status of its own (see
//! `templates/app/app.conf`), and it is asked of the next host by what nginx of the web host has of it: all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::net::{HostName, Port, bracketed};
use crate::base::text::Text;
use crate::inventory::site::{Families, Host, Role, Site, WebSite};
use crate::plan::said::Said;
use crate::plan::state::{Access, Check, File, Follow, Phase, Probe, UnitWanted};
use crate::service::certificates::{CIPHERS, CIPHERSUITES, Holder, curves};
use crate::service::claims::Claims;
use crate::service::haproxy::{self, HAPROXY};
use crate::service::product::Product;
use crate::service::render::{Template, template};
use crate::service::status::{Gauge, Seen};
use crate::service::{Context, Service, drain, nginx, room};

mod status;

/// See the module.
#[derive(Debug)]
pub struct Programs;

const NAME: &str = "programs";
const TEMPLATES: &[Template] =
    &[template!("programs/programs.cfg"), template!("programs/programs.service"), haproxy::IDLE];
/// Its unit.
pub(crate) const UNIT: &str = "infra-programs.service";
/// Where its configuration and its certificates are.
const FOLDER: &str = "/etc/infra/programs";
const CONFIG: &str = "/etc/infra/programs/programs.cfg";
/// Where its sockets are.
const SOCKETS: &str = "/run/infra/programs";
/// Where it tells how it sees the programs.
pub(crate) const ADMIN: &str = "/run/infra/programs/admin.sock";
const PHASE: Phase = Phase::Web;
/// Questions a second that a web host asks at most: each is a handshake of its own.
const QUESTIONS: usize = 500;
/// How many others a host's share is taken to where its program has refused it or is just back.
const NEXT: usize = 2;

/// The master alone knows which of its workers is the newest.
const FORMER: &str = r#"systemctl -q is-active infra-programs.service || exit 0
said=$(echo 'show proc' | socat -t 5 - UNIX-CONNECT:/run/infra/programs/master.sock 2>&1) && [ -n "$said" ] ||
	{ echo "the master of what leads to the programs does not tell of its former workers: $said"; exit 1; }
former=$(printf '%s\n' "$said" | awk '/^#/ { part = $2 " " $3 } part == "old workers" && $2 == "worker" { print $1 }')"#;

/// A program, and the app hosts on which it runs, as a web host reaches them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Program {
    /// `8080`, or `8080_2` where another program has that port on hosts of its own.
    pub(crate) key: String,
    /// `program-8080`.
    name: String,
    /// On loopback of its hosts.
    port: u16,
    /// The same.
    #[serde(skip)]
    pub(crate) at: Port,
    /// As the inventory names its hosts.
    #[serde(skip)]
    pub(crate) hosts: BTreeSet<HostName>,
    /// Those that it serves.
    sites: Vec<String>,
    /// The host that is asked for it, as some programs know only the names of their sites.
    asked: String,
    /// One for each host.
    pub(crate) servers: Vec<Server>,
}

/// A program on a host.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Server {
    /// The app host.
    pub(crate) host: String,
    /// The name in its certificate.
    name: String,
    /// Its front.
    socket: SocketAddr,
    /// The socket by which nginx is led there while the program is well.
    pub(crate) door: String,
    /// The hosts that come after it.
    next: Vec<String>,
    /// Who is asked after it: those, or it itself where there is no other.
    after: Vec<Way>,
}

/// A way to a host: by its socket here, or by its address.
#[derive(Debug, Clone, Serialize)]
struct Way {
    door: String,
    socket: SocketAddr,
}

/// What leads a web host of these families to the programs: each once, with the hosts that are reached from there.
pub(crate) fn reached(site: &Site, from: Families) -> Vec<Program> {
    let mut sites: BTreeMap<(Port, &BTreeSet<HostName>), Vec<&WebSite>> = BTreeMap::new();
    for (web, program) in site.programs() {
        let of_program = sites.entry((program.port, &program.hosts)).or_default();
        if !of_program.iter().any(|known| known.name == web.name) {
            of_program.push(web);
        }
    }
    let mut programs: Vec<Program> = Vec::new();
    for ((at, hosts), sites) in sites {
        // Two programs may have one port, on hosts of their own, or one program be meant on more hosts by one site than by another.
        let before = programs.iter().filter(|known| known.at == at).count();
        let key = if before == 0 { at.to_string() } else { format!("{at}_{}", before + 1) };
        let servers = servers(site, from, &key, hosts);
        let Some(first) = sites.first().filter(|_| !servers.is_empty()) else { continue };
        programs.push(Program {
            name: format!("program-{key}"),
            key,
            port: at.get(),
            at,
            hosts: hosts.clone(),
            asked: first.name.example(),
            sites: sites.iter().map(|web| web.name.to_string()).collect(),
            servers,
        });
    }
    programs
}

fn servers(site: &Site, from: Families, key: &str, on: &BTreeSet<HostName>) -> Vec<Server> {
    let apps = site.with_role(Role::App).filter(|app| on.is_empty() || on.contains(&app.name));
    let hosts: Vec<(&Host, SocketAddr)> = apps
        .filter_map(|app| Some((app, SocketAddr::new(nginx::reach_by(from, app)?, site.ports.app.get()))))
        .collect();
    let door = |host: &Host| format!("{SOCKETS}/{key}-{}.sock", host.name);
    let others = |at: usize, most: usize| hosts.iter().cycle().skip(at + 1).take(most);
    let server = |(at, (host, socket)): (usize, &(&Host, SocketAddr))| Server {
        host: host.name.to_string(),
        name: site.internal_name(&host.name),
        socket: *socket,
        door: door(host),
        next: others(at, (hosts.len() - 1).min(NEXT)).map(|(host, _)| host.name.to_string()).collect(),
        after: others(at, (hosts.len() - 1).clamp(1, NEXT))
            .map(|(host, socket)| Way { door: door(host), socket: *socket })
            .collect(),
    };
    hosts.iter().enumerate().map(server).collect()
}

/// By a program's port and a host, as its front tells it: the end of the name of the upstream that is asked next. Where sites mean
/// different hosts by it, those that all of them mean.
pub(crate) fn nexts(programs: &[Program]) -> Vec<(String, String)> {
    let mut programs: Vec<&Program> = programs.iter().collect();
    programs.sort_by_key(|program| std::cmp::Reverse(program.servers.len()));
    let each = programs.into_iter().flat_map(|program| {
        let of =
            |server: &Server| (format!("{}-{}", program.port, server.host), format!("{}_{}", program.key, server.host));
        program.servers.iter().map(of)
    });
    // In order: a template goes through a map as it likes.
    each.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// What its configuration depends on beside the infrastructure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    families: Families,
    /// Connections of nginx at one time; each needs one to an app host too.
    maxconn: u64,
    curves: &'static str,
    server_curves: bool,
}

#[derive(Serialize)]
struct Model {
    name: String,
    folder: &'static str,
    tls: &'static str,
    maxconn: u64,
    curves: &'static str,
    server_curves: bool,
    ciphers: &'static str,
    ciphersuites: &'static str,
    /// Between two questions.
    interval: String,
    programs: Vec<Program>,
    hosts: Vec<Hop>,
}

/// The front of an app host.
#[derive(Serialize)]
struct Hop {
    name: String,
    socket: SocketAddr,
}

impl Service for Programs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn products(&self) -> &'static [Product] {
        &[HAPROXY]
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(status::GAUGE)
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        status::tell(seen)
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let host = context.host;
        if !host.has(Role::Web) {
            return Ok(());
        }
        let families = host.families();
        let ways = context.shared(&families, ways);
        if ways.programs.is_empty() {
            return Ok(());
        }
        out.package("haproxy")?;
        out.unit(UNIT, UnitWanted { phase: PHASE })?;
        let holder = Holder { service: NAME, phase: PHASE, unit: UNIT, follow: Follow::Reload };
        holder.folder(out, FOLDER)?;
        holder.file(context, out, &format!("{FOLDER}/ca.crt"), &[Material::HopAuthorities])?;
        let client = CertificateId::Hop { host: host.name.clone(), purpose: Purpose::Client };
        let client = [Material::Certificate(client.clone()), Material::Key(client)];
        holder.file(context, out, &format!("{FOLDER}/client.pem"), &client)?;
        let server_curves = HAPROXY.of(context.facts).minor() >= (2, 9);
        let maxconn = room::led(context.facts, ways.hosts);
        let kind = Kind { families, maxconn, curves: curves(context), server_curves };
        let mut file = |path: &str, template: &'static str, follow: Follow| {
            let body = context.render_shared(template, &kind, model)?;
            let then = BTreeMap::from([(UNIT.to_owned(), follow)]);
            out.file(path, File { service: NAME, phase: PHASE, access: Access::root(0o644), body, then, about: None })
        };
        file(CONFIG, "programs/programs.cfg", Follow::Reload)?;
        // What it says of a reload holds from the next one on; a restart would end what is under way.
        file(&format!("/etc/systemd/system/{UNIT}"), "programs/programs.service", Follow::Reload)?;
        haproxy::idle(context, NAME, PHASE, out)?;
        out.check(Check { title: "haproxy -c".into(), command: format!("haproxy -c -q -f {CONFIG}") });
        drain::add(NAME, "what leads to the programs", FORMER, out);
        probes(&ways, out);
        Ok(())
    }
}

fn model(site: &Site, kind: Kind) -> Model {
    let programs = reached(site, kind.families);
    let servers = || programs.iter().flat_map(|program| &program.servers);
    let hops: BTreeMap<String, SocketAddr> = servers().map(|server| (server.host.clone(), server.socket)).collect();
    Model {
        name: site.name.to_string(),
        folder: SOCKETS,
        tls: FOLDER,
        maxconn: kind.maxconn,
        curves: kind.curves,
        server_curves: kind.server_curves,
        ciphers: CIPHERS,
        ciphersuites: CIPHERSUITES,
        interval: format!("{}s", servers().count().div_ceil(QUESTIONS).max(1)),
        hosts: hops.into_iter().map(|(name, socket)| Hop { name, socket }).collect(),
        programs,
    }
}

/// The ways to all programs.
struct Ways {
    /// Of each its port, and the command that asks whether a way to it is open.
    programs: Vec<(u16, Text)>,
    /// How many app hosts they lead to.
    hosts: usize,
}

fn ways(site: &Site, from: Families) -> Ways {
    let port = site.ports.app;
    let way = |program: &Program| {
        let doors: Vec<String> = program
            .servers
            .iter()
            .map(|server| format!("'{} {} {}'", server.name, bracketed(server.socket.ip()), server.door))
            .collect();
        let command = format!(
            "for server in {}; do\n\
             set -- $server\n\
             code=$(curl -q -s -m 5 --noproxy '*' -o /dev/null -w '%{{http_code}}' --cacert {FOLDER}/ca.crt \
             --cert {FOLDER}/client.pem --unix-socket \"$3\" \"https://$1:{port}/infra-health\")\n\
             [ \"$code\" != 200 ] || exit 0\n\
             echo \"$1 at $2 answered $code\"\n\
             done\n\
             exit 1",
            doors.join(" ")
        );
        (program.port, command.into())
    };
    let programs = reached(site, from);
    let hosts: BTreeSet<&str> =
        programs.iter().flat_map(|program| &program.servers).map(|server| server.host.as_str()).collect();
    Ways { hosts: hosts.len(), programs: programs.iter().map(way).collect() }
}

fn probes(ways: &Ways, out: &mut Claims) {
    let mut add = |title: &str, command: Text, within: u64| {
        let (title, within) = (title.to_owned(), Duration::from_secs(within));
        out.probe(Probe { phase: PHASE, title, command, within, advisory: false });
    };
    // `systemctl reload` succeeds even if the new worker dies: only the master knows.
    add(
        "the newest worker of what leads to the programs serves",
        haproxy::newest_worker(&format!("{SOCKETS}/master.sock")).into(),
        20,
    );
    for (port, command) in &ways.programs {
        add(&format!("a way to the program on port {port} is open"), command.clone(), 20);
    }
}

//! nginx as the web, app and db hosts share it: takes a context and a phase, adds the package, `nginx.conf`, certificates, the
//! unit, the check and the probes that every TLS listener has.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::net::{Port, bracketed};
use crate::inventory::site::{Compression, Families, Host, Role, Site};
use crate::plan::state::{Access, Body, Check, File, Follow, Phase, Probe, UnitWanted, Version};
use crate::service::certificates::{CIPHERS, Holder, curves};
use crate::service::claims::Claims;
use crate::service::product::Product;
use crate::service::render::{Template, template};
use crate::service::{Context, drain, ports, room};

pub(super) mod status;

pub(crate) const NGINX: Product = Product {
    name: "nginx",
    packages: &["nginx-light", "nginx-core", "nginx"],
    shipped: [
        Version(1, 22, 1),
        Version(1, 18, 0),
        Version(1, 24, 0),
        Version(1, 26, 3),
        Version(1, 28, 3),
        Version(1, 30, 6),
    ],
};
pub(crate) const UNIT: &str = "nginx.service";
pub(crate) const TEMPLATE: Template = template!("nginx/nginx.conf");
pub(crate) const TYPES: Template = template!("nginx/types.conf");
pub(crate) const CLIENTS: Template = template!("nginx/clients.conf");

/// `systemctl reload` succeeds even if nginx keeps the old configuration, because a port is taken, say: then its workers are
/// older than the files. The kernel's own words are the last in the error log. The master starts new workers before it tells
/// those of before to end: all of them know it when this holds. Times are in hundredths of a second.
const NEW_WORKERS: &str = r#"main=$(systemctl show -p MainPID --value nginx.service)
written=$(find /etc/nginx/nginx.conf /etc/nginx/conf.d /etc/nginx/tls -type f -exec stat -c %.2Z {} + | tr -d . | sort -n | tail -n 1)
now=$(date +%s%N) new='' old=''
now=${now%???????}
read -r up rest </proc/uptime
for pid in $(cat "/proc/$main/task/$main/children"); do
	case $(tr '\0' ' ' <"/proc/$pid/cmdline") in *'shutting down'*) continue ;; *'worker process'*) ;; *) continue ;; esac
	read -r stat <"/proc/$pid/stat" || continue
	# proc_pid_stat(5): the 22nd field is the start, since boot
	set -- ${stat##*) }
	if [ $((now - ${up%.*}${up#*.} + ${20} + 5)) -lt "$written" ]; then old=$pid; else new=$pid; fi
done
[ -z "$new" ] || [ -n "$old" ] || exit 0
[ -z "$new" ] || { echo "the worker $old of before does not end yet"; exit 1; }
echo 'nginx did not take the new configuration'
grep -F '[emerg]' /var/log/nginx/error.log | tail -n 3
exit 1"#;

/// Its workers say so themselves.
const FORMER: &str = r#"main=$(systemctl show -p MainPID --value nginx.service) && [ -n "$main" ] ||
	{ echo 'systemd does not tell which process is nginx'; exit 1; }
former=''
for pid in $(cat "/proc/$main/task/$main/children" 2>/dev/null); do
	case $(tr '\0' ' ' <"/proc/$pid/cmdline") in *'is shutting down'*) former="$former $pid" ;; esac
done 2>/dev/null"#;

#[derive(Serialize)]
struct Model {
    ciphers: &'static str,
    curves: &'static str,
    /// Of each worker: files, and connections.
    files: u64,
    connections: u64,
    brotli: bool,
    /// Who compresses, by what each calls the types that it does it with.
    compressed: Vec<&'static str>,
}

impl Model {
    fn of(_: &Site, (curves, (files, connections), brotli): (&'static str, (u64, u64), bool)) -> Self {
        let compressed = ["gzip_types"].into_iter().chain(brotli.then_some("brotli_types")).collect();
        Self { ciphers: CIPHERS, curves, files, connections, brotli, compressed }
    }
}

/// nginx's own packages have no Brotli; these are built for the nginx of the same release.
const BROTLI: [&str; 2] = ["libnginx-mod-http-brotli-filter", "libnginx-mod-http-brotli-static"];

/// Everything that the roles need. A host that has several gets it in the earliest phase; a further call changes nothing.
pub(crate) fn want(context: &Context<'_>, service: &'static str, out: &mut Claims) -> Result<(), Diagnostic> {
    let db = context.site.database.is_some() && context.host.has(Role::Db);
    let phase = match context.host.has(Role::App) {
        _ if db => Phase::Primary,
        true => Phase::App,
        false => Phase::Web,
    };
    if out.has_unit(UNIT) {
        return Ok(());
    }
    out.unit(UNIT, UnitWanted { phase })?;
    out.package("nginx")?;
    let brotli = context.host.has(Role::Web)
        && context.site.sites.values().any(|site| site.manner.compression == Compression::Brotli);
    for package in BROTLI.into_iter().filter(|_| brotli) {
        out.package(package)?;
    }
    let holder = Holder { service, phase, unit: UNIT, follow: Follow::Reload };
    holder.folder(out, "/etc/nginx/tls")?;
    holder.file(context, out, "/etc/nginx/tls/ca.crt", &[Material::HopAuthorities])?;
    for purpose in [Purpose::Server, Purpose::Client] {
        let id = CertificateId::Hop { host: context.host.name.clone(), purpose };
        for (ending, material) in [("crt", Material::Certificate(id.clone())), ("key", Material::Key(id))] {
            holder.file(context, out, &format!("/etc/nginx/tls/{purpose}.{ending}"), &[material])?;
        }
    }
    // Hosts of a kind have the same.
    let on = (curves(context), room::worker(context.facts), brotli);
    let body = context.render_shared("nginx/nginx.conf", &on, Model::of)?;
    config(service, phase, "/etc/nginx/nginx.conf", body, out)?;
    let body = context.render_shared("nginx/types.conf", &on, Model::of)?;
    config(service, phase, "/etc/nginx/infra-types.conf", body, out)?;
    out.check(Check { title: "nginx -t".into(), command: "nginx -t -q".into() });
    out.probe(Probe {
        phase,
        title: "nginx is running".into(),
        command: format!("systemctl is-active {UNIT}").into(),
        within: Duration::from_secs(15),
        advisory: false,
    });
    drain::add(service, "nginx", FORMER, out);
    Ok(())
}

/// Adds a configuration file that nginx reloads for, with the check that its sockets are free.
pub(crate) fn config(
    service: &'static str,
    phase: Phase,
    path: &str,
    body: Body,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    ports::check(UNIT, "listen", &body.text, out);
    part(service, phase, path, body, out)
}

/// Adds a part of the configuration in which nothing listens.
pub(crate) fn part(
    service: &'static str,
    phase: Phase,
    path: &str,
    body: Body,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    let then = BTreeMap::from([(UNIT.to_owned(), Follow::Reload)]);
    out.file(path, File { service, phase, access: Access::root(0o644), body, then, about: None })
}

/// Where hosts of a role are reached from `host`: by a family that both have, IPv4 before IPv6.
pub(crate) fn reach(from: &Host, to: &Host) -> Option<IpAddr> {
    reach_by(from.families(), to)
}

/// The same, from any host of these families.
pub(crate) fn reach_by(from: Families, to: &Host) -> Option<IpAddr> {
    [true, false].into_iter().filter(|v4| from.has(*v4)).find_map(|v4| to.address(v4))
}

/// A TLS front on all addresses of its host, as the templates know it.
#[derive(Serialize)]
pub(crate) struct Front<'a> {
    host: &'a str,
    port: u16,
    sockets: Vec<SocketAddr>,
    /// What a client may ask for by SNI: the host's own name, and the role's.
    own_names: Vec<String>,
}

impl<'a> Front<'a> {
    /// That of `role` on the context's host.
    pub(crate) fn new(context: &Context<'a>, role: Role, port: Port) -> Self {
        let (site, host) = (context.site, context.host);
        Self {
            host: host.name.as_str(),
            port: port.get(),
            sockets: sockets(host, port),
            own_names: vec![site.internal_name(&host.name), site.role_name(role)],
        }
    }
}

/// Whom the fronts of a role let in.
#[derive(Serialize)]
pub(crate) struct Admission {
    role: Role,
    port: u16,
    /// The common names of their certificates.
    clients: Vec<String>,
    /// Whose word on the client's address is taken.
    proxies: Vec<IpAddr>,
}

impl Admission {
    /// The hosts of the roles `from`.
    pub(crate) fn of(site: &Site, role: Role, from: &[Role], port: Port) -> Self {
        let clients = || site.hosts.values().filter(|h| from.iter().any(|role| h.has(*role)));
        Self {
            role,
            port: port.get(),
            clients: clients().map(|h| site.internal_name(&h.name)).collect(),
            proxies: clients().flat_map(|h| h.addresses.iter().copied()).collect(),
        }
    }

    /// The common names alone.
    pub(crate) fn names(self) -> Vec<String> {
        self.clients
    }
}

/// Adds the file with whom the front of `role` lets in: the hosts of the role `from`. It is the same on all hosts of the role.
pub(crate) fn clients(
    context: &Context<'_>,
    (service, phase): (&'static str, Phase),
    (role, from): (Role, Role),
    port: Port,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    let on = (role, from, port);
    let model = |site: &Site, (role, from, port): (Role, Role, Port)| Admission::of(site, role, &[from], port);
    let body = context.render_shared("nginx/clients.conf", &on, model)?;
    part(service, phase, &format!("/etc/nginx/conf.d/{}-{role}-{port}-clients.conf", context.site.name), body, out)
}

fn sockets(host: &Host, port: Port) -> Vec<SocketAddr> {
    host.addresses.iter().map(|a| SocketAddr::new(*a, port.get())).collect()
}

/// That all of nginx has the new configuration, and what each TLS listener must show: its deployed leaf, with a name and an authority that hold; and nothing to a client that
/// has no certificate.
pub(crate) fn listener_probes(context: &Context<'_>, phase: Phase, port: Port, out: &mut Claims) {
    let name = context.site.internal_name(&context.host.name);
    let mut add = |title: String, command: String| {
        let within = Duration::from_secs(15);
        out.probe(Probe { phase, title, command: command.into(), within, advisory: false });
    };
    add("nginx serves with the new configuration".into(), NEW_WORKERS.into());
    for socket in sockets(context.host, port) {
        let address = bracketed(socket.ip());
        add(
            format!("tls on {socket} with the right certificate"),
            handshake(
                &socket.to_string(),
                &by_name(&name),
                "-CAfile /etc/nginx/tls/ca.crt",
                "/etc/nginx/tls/server.crt",
            ),
        );
        add(
            format!("{socket} refuses a client without certificate"),
            format!(
                "code=$(curl -q -s -m 5 --noproxy '*' -o /dev/null -w '%{{http_code}}' --cacert /etc/nginx/tls/ca.crt \
                 --resolve '{name}:{port}:{address}' 'https://{name}:{port}/infra-health')\n\
                 [ \"$code\" = 400 ] || {{ echo \"answered $code, not 400\"; exit 1; }}"
            ),
        );
    }
}

/// What `s_client` asks for and expects: a name, by SNI.
pub(crate) fn by_name(name: &str) -> String {
    format!("-servername '{name}' -verify_hostname '{name}'")
}

/// An address, for which there is no SNI (RFC 6066 section 3).
pub(crate) fn by_address(address: IpAddr) -> String {
    format!("-noservername -verify_ip '{address}'")
}

/// sh text: a handshake with `socket` as `asked` shows the first certificate of the PEM file `leaf`, and it verifies.
pub(crate) fn handshake(socket: &str, asked: &str, trust: &str, leaf: &str) -> String {
    format!(
        "want=$(openssl x509 -in '{leaf}' -noout -fingerprint -sha256) || exit 1\n\
         seen=$(timeout 5 openssl s_client -connect '{socket}' {asked} \
         -verify_return_error {trust} </dev/null 2>&1) || {{ printf '%s\\n' \"$seen\" | grep -i error | head -n 3; exit 1; }}\n\
         got=$(printf '%s\\n' \"$seen\" | openssl x509 -noout -fingerprint -sha256) || exit 1\n\
         [ \"$want\" = \"$got\" ] || {{ echo 'another certificate is served than the one deployed'; exit 1; }}"
    )
}

//! The web hosts: takes a context, adds nginx, which lets load balancers in, serves static files and passes the rest on to
//! the app hosts over verified TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{DnsName, HostName, Port, bracketed};
use crate::base::sh::quote;
use crate::inventory::site::{AppProgram, BodyLimit, Role, StaticFiles};
use crate::plan::state::{Look, Phase, Probe};
use crate::service::claims::Claims;
use crate::service::nginx::{self, Front};
use crate::service::product::Product;
use crate::service::programs;
use crate::service::render::{Template, template};
use crate::service::{Context, Service};

/// See the module.
pub struct Web;

const NAME: &str = "web";
/// Where a load balancer asks whether a request comes through all tiers.
pub(crate) const PROBE: &str = "/.well-known/infra/health";
const TEMPLATES: &[Template] = &[nginx::TEMPLATE, nginx::TYPES, template!("web/web.conf")];

#[derive(Serialize)]
struct Model<'a> {
    #[serde(flatten)]
    front: Front<'a>,
    app_name: String,
    /// Each has upstreams of its own, so that one that fails on a host takes no other from it.
    programs: Vec<programs::Program>,
    /// Whose upstream is asked after a program on a host.
    nexts: Vec<(String, String)>,
    sites: Vec<SiteModel>,
}

#[derive(Serialize)]
struct SiteModel {
    names: Vec<String>,
    programs: Vec<Program>,
    files: Vec<Files>,
    /// Whether the paths that are nobody else's are a program's, or files.
    has_root: bool,
    /// Whether nothing behind this host answers for the site as a whole.
    is_probed_here: bool,
    /// Seconds that a program may think, with what a web host waits for longer than an app host.
    response: u64,
    /// Seconds that a stream may be silent, the same.
    idle: u64,
    /// The largest body in bytes, where it is not the usual one; 0 is no limit.
    body: Option<String>,
    /// Whether bodies flow through this host as they come.
    flows: bool,
}

#[derive(Serialize)]
struct Program {
    /// Among those of the site, from 1.
    number: usize,
    /// The path, as nginx reads where a location is: with its last slash and without.
    ways: Vec<String>,
    /// Where the load balancers ask whether requests come through to its app hosts.
    probe: String,
    /// The name among the upstreams.
    upstream: String,
}

#[derive(Serialize)]
struct Files {
    /// Quoted; ends with a slash, as the prefix does, so that `alias` cannot be left by `..`.
    root: String,
    prefix: String,
    /// Whether the prefix is all of the site.
    is_root: bool,
}

impl Service for Web {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn products(&self) -> &'static [Product] {
        &[nginx::NGINX]
    }

    fn about(&self) -> Option<(Phase, &'static str)> {
        Some((Phase::Web, "nginx"))
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let (site, host) = (context.site, context.host);
        if !host.has(Role::Web) {
            return Ok(());
        }
        nginx::want(context, NAME, out)?;
        let port = site.ports.web;
        let apps = targets(context);
        let programs = Programs::of(context);
        let mut sites = Vec::new();
        for s in site.sites.values() {
            let files = s.files.iter().map(|f| files(f, &s.name)).collect::<Result<Vec<_>, _>>()?;
            let programs: Vec<Program> = (1..).zip(&s.programs).filter_map(|(n, one)| programs.model(n, one)).collect();
            let is_probed_here = !programs.iter().any(|one| one.probe == PROBE);
            let has_root = !is_probed_here || files.iter().any(|one| one.is_root);
            let timeouts = s.manner.timeouts.outside(1);
            sites.push(SiteModel {
                names: s.hosts().collect(),
                programs,
                files,
                has_root,
                is_probed_here,
                response: timeouts.response.as_secs(),
                idle: timeouts.idle.as_secs(),
                body: (s.manner.body != BodyLimit::default()).then(|| match s.manner.body {
                    BodyLimit::Bytes(bytes) => bytes.to_string(),
                    BodyLimit::Unlimited => "0".to_owned(),
                }),
                flows: s.manner.body.flows(),
            });
        }
        for (s, f) in site.sites.values().flat_map(|s| s.files.iter().map(move |f| (s, f))) {
            out.look(Look { command: root_look(f, &s.name), binding: false });
        }
        reach_probe(context, &apps, out);
        let model = Model {
            front: Front::new(context, Role::Web, &[Role::Lb], port),
            app_name: site.role_name(Role::App),
            nexts: programs::nexts(&programs.all),
            programs: programs.all,
            sites,
        };
        let body = context.render("web/web.conf", &model)?;
        nginx::config(NAME, Phase::Web, &format!("/etc/nginx/conf.d/{}-web-{port}.conf", site.name), body, out)?;
        nginx::listener_probes(context, Phase::Web, port, out);
        Ok(())
    }
}

/// Where the app hosts are reached from the context's host.
fn targets(context: &Context<'_>) -> Vec<SocketAddr> {
    let (site, host) = (context.site, context.host);
    let reached = site.with_role(Role::App).filter_map(|app| nginx::reach(host, app));
    reached.map(|address| SocketAddr::new(address, site.ports.app.get())).collect()
}

/// All programs that this web host leads to, and the names of their upstreams by port and the hosts on which they run.
struct Programs {
    by_port: BTreeMap<(Port, BTreeSet<HostName>), String>,
    all: Vec<programs::Program>,
}

impl Programs {
    fn of(context: &Context<'_>) -> Self {
        let all = programs::reached(context);
        let name = |one: &programs::Program| format!("infra_web_{}_app_{}", context.site.ports.web, one.key);
        Self { by_port: all.iter().map(|one| ((one.at, one.hosts.clone()), name(one))).collect(), all }
    }

    fn model(&self, number: usize, program: &AppProgram) -> Option<Program> {
        let upstream = self.by_port.get(&(program.port, program.hosts.clone()))?.clone();
        Some(Program { number, ways: ways(&program.path), probe: probe_path(program), upstream })
    }
}

/// Where requests to a program are, as nginx writes it: `^~` keeps expressions of other locations away from what is the program's.
pub(crate) fn ways(path: &str) -> Vec<String> {
    match path.strip_suffix('/') {
        Some(bare) if !bare.is_empty() => vec![format!("= {bare}"), format!("^~ {path}")],
        _ => vec![path.to_owned()],
    }
}

/// Where a load balancer asks whether a request comes through all tiers to an app host of `program`.
pub(crate) fn probe_path(program: &AppProgram) -> String {
    format!("{PROBE}{}", program.path.trim_end_matches('/'))
}

/// The folder of a site's files is there; who puts them there may come after us.
fn root_look(files: &StaticFiles, site: &DnsName) -> String {
    let (root, why) = (
        quote(&files.root),
        quote(&format!(
            "the static files of {site} are to come from {}, which is no folder there: until it is one, requests for them are answered by 404",
            files.root
        )),
    );
    format!("[ -d {root} ] || {{ printf '%s\\n' {why}; exit 1; }}")
}

/// At least one app host answers this web host's client certificate.
fn reach_probe(context: &Context<'_>, apps: &[SocketAddr], out: &mut Claims) {
    if apps.is_empty() {
        return;
    }
    let (name, port) = (context.site.role_name(Role::App), context.site.ports.app);
    let addresses: Vec<String> = apps.iter().map(|a| format!("'{}'", bracketed(a.ip()))).collect();
    let command = format!(
        "for address in {}; do\n\
         code=$(curl -q -s -m 5 --noproxy '*' -o /dev/null -w '%{{http_code}}' --cacert /etc/nginx/tls/ca.crt \
         --cert /etc/nginx/tls/client.crt --key /etc/nginx/tls/client.key \
         --resolve \"{name}:{port}:$address\" 'https://{name}:{port}/infra-health')\n\
         [ \"$code\" != 200 ] || exit 0\n\
         echo \"$address answered $code\"\n\
         done\n\
         exit 1",
        addresses.join(" ")
    );
    out.probe(Probe {
        phase: Phase::Web,
        title: "an app host answers over verified tls".into(),
        command,
        within: Duration::from_secs(15),
        advisory: false,
    });
}

fn files(files: &StaticFiles, site: &DnsName) -> Result<Files, Diagnostic> {
    let with_slash = |text: &str| format!("{}/", text.trim_end_matches('/'));
    let (root, prefix) = (with_slash(&files.root), with_slash(&files.prefix));
    for text in [&root, &prefix] {
        // nginx sees a variable in `$`, and has no way to write one literally.
        if let Some(bad) = text.chars().find(|c| c.is_control() || "$\"\\".contains(*c)) {
            return Err(Diagnostic::error(format!(
                "static files of `{site}`: `{}` holds {bad:?}",
                text.escape_debug()
            ))
            .help("nginx cannot name such a path; choose another one"));
        }
    }
    let is_root = prefix == "/";
    Ok(Files { root: format!("\"{root}\""), prefix: if is_root { prefix } else { format!("\"{prefix}\"") }, is_root })
}

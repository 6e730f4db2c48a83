//! The web hosts: takes a context, adds nginx, which lets load balancers in, serves static files and passes the rest on to
//! the app hosts over verified TLS.

mod files;
mod stuck;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{Material, SecretId};
use crate::base::materials::Owner;
use crate::base::net::{HostName, Port, bracketed};
use crate::base::secret::sentinel;
use crate::base::text::Text;
use crate::inventory::site::{AppProgram, Auth, BodyLimit, Compression, Families, Page, Role, Site, WebSite};
use crate::plan::said::Said;
use crate::plan::state::{Access, File, Follow, Look, Phase, Probe, Version};
use crate::service::claims::Claims;
use crate::service::nginx::{self, Front, NGINX};
use crate::service::probe_path;
use crate::service::product::{Floor, Product};
use crate::service::programs;
use crate::service::render::{Template, template};
use crate::service::status::{Gauge, Seen};
use crate::service::{Context, SecretWanted, Service};
use files::{Files, Kept, root_look};
use stuck::Stuck;

/// See the module.
pub struct Web;

const NAME: &str = "web";
const TEMPLATES: &[Template] =
    &[nginx::TEMPLATE, nginx::TYPES, nginx::CLIENTS, template!("web/web.conf"), template!("web/programs.conf")];

#[derive(Serialize)]
struct Model<'a> {
    #[serde(flatten)]
    front: Front<'a>,
    app_name: String,
    #[serde(flatten)]
    content: &'a Content,
}

/// What the sites need on a web host.
#[derive(Serialize)]
struct Content {
    kept: BTreeSet<Kept>,
    sites: Vec<SiteModel>,
    /// Whether they lead to any program.
    #[serde(skip)]
    lead: bool,
    /// What asks for an app host that answers, where there is any.
    #[serde(skip)]
    reach: Option<Text>,
}

/// The ways to the programs.
#[derive(Serialize)]
struct Ways {
    port: Port,
    /// Each has upstreams of its own, so that one that fails on a host takes no other from it.
    programs: Vec<programs::Program>,
    /// Whose upstream is asked after a program on a host.
    nexts: Vec<(String, String)>,
    /// Programs to which visitors of a site come back.
    stuck: Vec<Stuck>,
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
    /// The site's page for a body that is too large.
    refusal: Option<Refusal>,
    /// By what texts are compressed for who takes it.
    compression: Compression,
    /// Whether bodies flow through this host as they come.
    flows: bool,
    auth: Vec<AuthModel>,
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
    /// Where visitors are led: the same, or what their cookie says.
    leads: String,
    /// What is said to a visitor who comes to another app host than before; none where nobody has to stay.
    stay: Option<String>,
    compress: bool,
}

/// A page for what is refused.
#[derive(Serialize)]
struct Refusal {
    file: String,
    media: &'static str,
}

/// Where name and password are asked for.
#[derive(Serialize)]
struct AuthModel {
    /// What `$uri` is there.
    expression: String,
    realm: String,
    /// The file of its users.
    users: String,
}

impl Service for Web {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn floors(&self) -> &'static [Floor] {
        // `keepalive_time` (ngx_http_upstream_module).
        &[Floor {
            role: Role::Web,
            product: NGINX,
            least: Version(1, 19, 10),
            lacks: "its busy connections would go on to a program that has become unwell",
        }]
    }

    fn products(&self) -> &'static [Product] {
        &[NGINX]
    }

    fn secrets(&self, site: &Site) -> Vec<SecretWanted> {
        let owner = Owner::Hosts(site.with_role(Role::Web).map(|host| host.name.clone()).collect());
        let each = site.sites.values().flat_map(|s| s.auth.iter().map(move |auth| (s, auth)));
        let wanted = |(s, auth): (&WebSite, &Auth)| SecretWanted {
            name: users::name(s, auth),
            owner: owner.clone(),
            given: Some(auth.users.clone()),
        };
        each.map(wanted).collect()
    }

    fn admit_secret(&self, _name: &str, value: &str) -> Result<(), String> {
        users::admit(value)
    }

    fn about(&self) -> Option<(Phase, &'static str)> {
        Some((Phase::Web, "nginx"))
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(nginx::status::GAUGE)
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        nginx::status::tell(seen)
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let (site, host) = (context.site, context.host);
        if !host.has(Role::Web) {
            return Ok(());
        }
        nginx::want(context, NAME, out)?;
        let port = site.ports.web;
        want_users(context, out)?;
        want_refusals(context, out)?;
        let families = host.families();
        let led = context.shared(&families, content);
        let led = led.as_ref().as_ref().map_err(Clone::clone)?;
        for (s, f) in site.sites.values().flat_map(|s| s.files.iter().map(move |f| (s, f))) {
            out.look(Look { command: root_look(f, &s.name), binding: false });
        }
        if let Some(command) = led.reach.clone() {
            let title = "an app host answers over verified tls".to_owned();
            let within = Duration::from_secs(15);
            out.probe(Probe { phase: Phase::Web, title, command, within, advisory: false });
        }
        nginx::clients(context, (NAME, Phase::Web), (Role::Web, Role::Lb), port, out)?;
        let path = |part: &str| format!("/etc/nginx/conf.d/{}-web-{port}{part}.conf", site.name);
        if led.lead {
            let body = context.render_shared("web/programs.conf", &families, ways)?;
            nginx::part(NAME, Phase::Web, &path("-programs"), body, out)?;
        }
        let model =
            Model { front: Front::new(context, Role::Web, port), app_name: site.role_name(Role::App), content: led };
        nginx::config(NAME, Phase::Web, &path(""), context.render("web/web.conf", &model)?, out)?;
        nginx::listener_probes(context, Phase::Web, port, out);
        Ok(())
    }
}

/// What the sites need on a web host of these families.
fn content(site: &Site, from: Families) -> Result<Content, Diagnostic> {
    let programs = Programs::of(site, from);
    let (mut sites, mut kept) = (Vec::new(), BTreeSet::new());
    for s in site.sites.values() {
        let shared = s.auth.is_empty();
        let files = (1..).zip(&s.files).map(|one| Files::of(one, &s.name, shared)).collect::<Result<Vec<_>, _>>()?;
        kept.extend(s.files.iter().filter_map(|one| Kept::of(one, shared)));
        let led: Vec<Program> =
            (1..).zip(&s.programs).filter_map(|one| programs.model(one.0, one.1, s.sticky)).collect();
        let is_probed_here = !led.iter().any(|one| one.probe == probe_path::PROBE);
        let has_root = !is_probed_here || files.iter().any(|one| one.is_root);
        let timeouts = s.manner.timeouts.outside(1);
        sites.push(SiteModel {
            names: s.hosts().collect(),
            programs: led,
            files,
            has_root,
            is_probed_here,
            response: timeouts.response.as_secs(),
            idle: timeouts.idle.as_secs(),
            body: (s.manner.body != BodyLimit::default()).then(|| match s.manner.body {
                BodyLimit::Bytes(bytes) => bytes.to_string(),
                BodyLimit::Unlimited => "0".to_owned(),
            }),
            refusal: refusal(s).map(|(file, page)| Refusal { file, media: page.media.name() }),
            compression: s.manner.compression,
            flows: s.manner.body.flows(),
            auth: auth(s),
        });
    }
    Ok(Content { kept, sites, lead: !programs.0.is_empty(), reach: reach(site, from) })
}

/// The ways from a web host of these families to the programs.
fn ways(site: &Site, from: Families) -> Ways {
    let programs = programs::reached(site, from);
    Ways { port: site.ports.web, nexts: programs::nexts(&programs), stuck: stuck::stuck(site, &programs), programs }
}

/// The names of the upstreams of all programs that a web host leads to, by port and the hosts on which they run.
struct Programs(BTreeMap<(Port, BTreeSet<HostName>), String>);

impl Programs {
    fn of(site: &Site, from: Families) -> Self {
        let name = |one: &programs::Program| format!("infra_web_{}_app_{}", site.ports.web, one.key);
        let all = programs::reached(site, from);
        Self(all.into_iter().map(|one| ((one.at, one.hosts.clone()), name(&one))).collect())
    }

    fn model(&self, number: usize, program: &AppProgram, sticky: bool) -> Option<Program> {
        let upstream = self.0.get(&(program.port, program.hosts.clone()))?.clone();
        let of = |word: &str| upstream.replacen("_app_", word, 1);
        Some(Program {
            leads: if sticky { format!("${}", of("_to_")) } else { upstream.clone() },
            stay: sticky.then(|| format!("${}", of("_stay_"))),
            number,
            ways: locations(&program.path),
            probe: probe_path::of(program),
            upstream,
            compress: program.compress,
        })
    }
}

/// Where requests to a program are, as nginx writes it: `^~` keeps expressions of other locations away from what is the program's.
pub(crate) fn locations(path: &str) -> Vec<String> {
    match path.strip_suffix('/') {
        Some(bare) if !bare.is_empty() => vec![format!("= {bare}"), format!("^~ {path}")],
        _ => vec![path.to_owned()],
    }
}

/// The paths that are asked for, the longest first, as the first that fits counts.
fn auth(site: &WebSite) -> Vec<AuthModel> {
    let mut all: Vec<&Auth> = site.auth.iter().collect();
    all.sort_by_key(|auth| std::cmp::Reverse(auth.path.len()));
    let model = |auth: &Auth| AuthModel {
        expression: users::expression(&auth.path),
        realm: auth.realm.clone(),
        users: users_file(site, auth),
    };
    all.into_iter().map(model).collect()
}

fn users_file(site: &WebSite, auth: &Auth) -> String {
    format!("/etc/nginx/infra-{}", users::name(site, auth))
}

/// The files of users, which nginx's workers read at each request.
fn want_users(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    for (site, auth) in context.site.sites.values().flat_map(|s| s.auth.iter().map(move |auth| (s, auth))) {
        let id = SecretId::new(NAME, &users::name(site, auth)).map_err(|e| Diagnostic::error(e.to_string()))?;
        let body = context.body(format!("{}\n", sentinel(Material::Secret(id))))?;
        let access = Access { owner: "root".into(), group: "www-data".into(), mode: 0o640 };
        let then = BTreeMap::from([(nginx::UNIT.to_owned(), Follow::Reload)]);
        let about = Some(format!("the users of {}{}", site.name, auth.path));
        out.file(&users_file(site, auth), File { service: NAME, phase: Phase::Web, access, body, then, about })?;
    }
    Ok(())
}

/// The page of a site for a body that is too large, and its file, which nginx's workers read.
fn refusal(site: &WebSite) -> Option<(String, &Page)> {
    let page = site.manner.pages.get(&413)?;
    Some((format!("/etc/nginx/infra-{}-413.{}", site.name.to_word(), page.media.ending()), page))
}

fn want_refusals(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    for (path, page) in context.site.sites.values().filter_map(refusal) {
        let (body, access) = (context.body(page.text.clone())?, Access::root(0o644));
        out.file(&path, File { service: NAME, phase: Phase::Web, access, body, then: BTreeMap::new(), about: None })?;
    }
    Ok(())
}

/// sh text: at least one app host answers the web host's client certificate. None where there is no app host.
fn reach(site: &Site, from: Families) -> Option<Text> {
    let apps = site.with_role(Role::App).filter_map(|app| nginx::reach_by(from, app));
    let addresses: Vec<String> = apps.map(|address| format!("'{}'", bracketed(address))).collect();
    if addresses.is_empty() {
        return None;
    }
    let (name, port) = (site.role_name(Role::App), site.ports.app);
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
    Some(command.into())
}

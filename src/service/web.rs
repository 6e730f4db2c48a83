//! The web hosts: takes a context, adds nginx, which lets load balancers in, serves static files and passes the rest on to
//! the app hosts over verified TLS.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{DnsName, bracketed};
use crate::base::sh::quote;
use crate::inventory::site::{Role, StaticFiles};
use crate::plan::state::{Look, Phase, Probe};
use crate::service::claims::Claims;
use crate::service::nginx::{self, Front};
use crate::service::product::Product;
use crate::service::render::{Template, template};
use crate::service::{Context, Service};

/// See the module.
pub struct Web;

const NAME: &str = "web";
const TEMPLATES: &[Template] = &[nginx::TEMPLATE, nginx::TYPES, template!("web/web.conf")];

#[derive(Serialize)]
struct Model<'a> {
    #[serde(flatten)]
    front: Front<'a>,
    app_name: String,
    apps: Vec<Target<'a>>,
    sites: Vec<SiteModel>,
}

#[derive(Serialize)]
struct Target<'a> {
    host: &'a str,
    socket: SocketAddr,
}

#[derive(Serialize)]
struct SiteModel {
    names: Vec<String>,
    app: bool,
    files: Option<Files>,
}

#[derive(Serialize)]
struct Files {
    /// Quoted; ends with a slash, as the prefix does, so that `alias` cannot be left by `..`.
    root: String,
    prefix: String,
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
        let apps: Vec<Target<'_>> = site
            .with_role(Role::App)
            .filter_map(|h| Some((h, nginx::reach(host, h)?)))
            .map(|(h, address)| Target {
                host: h.name.as_str(),
                socket: SocketAddr::new(address, site.ports.app.get()),
            })
            .collect();
        let mut sites = Vec::new();
        for s in site.sites.values() {
            let files = s.r#static.as_ref().map(|f| files(f, &s.name)).transpose()?;
            sites.push(SiteModel { names: s.hosts().collect(), app: s.app.is_some() && !apps.is_empty(), files });
        }
        for (s, f) in site.sites.values().filter_map(|s| Some((s, s.r#static.as_ref()?))) {
            out.look(Look { command: root_look(f, &s.name), binding: false });
        }
        reach_probe(context, &apps, out);
        let model = Model {
            front: Front::new(context, Role::Web, &[Role::Lb], port),
            app_name: site.role_name(Role::App),
            apps,
            sites,
        };
        let body = context.render("web/web.conf", &model)?;
        nginx::config(NAME, Phase::Web, &format!("/etc/nginx/conf.d/{}-web-{port}.conf", site.name), body, out)?;
        nginx::listener_probes(context, Phase::Web, port, out);
        Ok(())
    }
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
fn reach_probe(context: &Context<'_>, apps: &[Target<'_>], out: &mut Claims) {
    if apps.is_empty() {
        return;
    }
    let (name, port) = (context.site.role_name(Role::App), context.site.ports.app);
    let addresses: Vec<String> = apps.iter().map(|a| format!("'{}'", bracketed(a.socket.ip()))).collect();
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
    Ok(Files { root: format!("\"{root}\""), prefix: if prefix == "/" { prefix } else { format!("\"{prefix}\"") } })
}

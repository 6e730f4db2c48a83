//! The TLS front of the user's programs: takes a context, adds nginx on the app hosts, which lets web hosts in and passes
//! their requests to loopback.

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::Role;
use crate::plan::state::Phase;
use crate::service::claims::Claims;
use crate::service::nginx::{self, Front};
use crate::service::product::Product;
use crate::service::render::{Template, template};
use crate::service::{Context, Service};

/// See the module.
pub struct App;

const NAME: &str = "app";
const TEMPLATES: &[Template] = &[nginx::TEMPLATE, nginx::TYPES, template!("app/app.conf")];

#[derive(Serialize)]
struct Model<'a> {
    #[serde(flatten)]
    front: Front<'a>,
    sites: Vec<SiteModel>,
}

#[derive(Serialize)]
struct SiteModel {
    names: Vec<String>,
    port: u16,
}

impl Service for App {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn products(&self) -> &'static [Product] {
        &[nginx::NGINX]
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let (site, host) = (context.site, context.host);
        if !host.has(Role::App) {
            return Ok(());
        }
        nginx::want(context, NAME, out)?;
        let port = site.ports.app;
        let programs = site.sites.values().filter_map(|s| s.app.as_ref().map(|app| (s, app)));
        let model = Model {
            front: Front::new(context, Role::App, &[Role::Web], port),
            sites: programs.map(|(s, app)| SiteModel { names: s.hosts().collect(), port: app.port.get() }).collect(),
        };
        let body = context.render("app/app.conf", &model)?;
        nginx::config(NAME, Phase::App, &format!("/etc/nginx/conf.d/{}-app-{port}.conf", site.name), body, out)?;
        nginx::listener_probes(context, Phase::App, port, out);
        Ok(())
    }
}

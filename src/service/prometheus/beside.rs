//! What stands beside Prometheus on a host that watches, each a daemon of one file: takes a context, adds the exporter that asks
//! for a page of each site as a visitor does, and Alertmanager; gives the pages that Prometheus has it ask for.

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{DnsName, bracketed};
use crate::inventory::site::{Role, WebSite};
use crate::plan::state::{Access, Check, Follow};
use crate::service::Context;
use crate::service::agent;
use crate::service::base_system::SITES_CA_FILE;
use crate::service::claims::Claims;
use crate::service::nginx;
use crate::service::prometheus::exporter;

const PAGES: Daemon = Daemon {
    package: "prometheus-blackbox-exporter",
    config: "/etc/prometheus/infra-blackbox.yml",
    templates: ["prometheus/blackbox.yml", "prometheus/blackbox.conf"],
    port: 9115,
    check: "prometheus-blackbox-exporter --config.check --config.file=",
    ready: "-/healthy",
};
const ALERTMANAGER: Daemon = Daemon {
    package: "prometheus-alertmanager",
    config: "/etc/prometheus/infra-alertmanager.yml",
    templates: ["prometheus/alertmanager.yml", "prometheus/alertmanager.conf"],
    port: 9093,
    check: "amtool check-config ",
    ready: "-/ready",
};

/// A daemon of Debian's, whose unit is named like its package.
struct Daemon {
    package: &'static str,
    config: &'static str,
    /// Of its configuration, and of what its unit starts.
    templates: [&'static str; 2],
    /// On loopback.
    port: u16,
    /// What accepts its configuration; the file's path comes last.
    check: &'static str,
    /// Where it says that it is well.
    ready: &'static str,
}

/// A page that is asked for at each load balancer.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    /// The site.
    name: &'a DnsName,
    /// What counts as well.
    codes: &'static str,
    path: &'a str,
    /// The file of authorities, where it is not the system's own.
    authorities: Option<String>,
}

/// One page at one load balancer, for Prometheus.
#[derive(Debug, Serialize)]
pub(super) struct Ask<'a> {
    site: &'a DnsName,
    host: &'a str,
    /// With the load balancer's address in it.
    url: String,
}

#[derive(Serialize)]
struct Model<'a> {
    host: &'a str,
    config: &'static str,
    port: u16,
    pages: Vec<Page<'a>>,
}

/// Adds both, and gives what Prometheus asks the first one for.
pub(super) fn want<'a>(context: &Context<'a>, out: &mut Claims) -> Result<Vec<Ask<'a>>, Diagnostic> {
    daemon(context, &PAGES, out)?;
    daemon(context, &ALERTMANAGER, out)?;
    for site in context.site.sites.values() {
        if let Some(bought) = &site.certificate {
            let unit = format!("{}.service", PAGES.package);
            let body = context.body(bought.trust.clone())?;
            agent::file(out, &trust(site), body, Access::root(0o644), &[(unit.as_str(), Follow::Restart)])?;
        }
    }
    let edges = context.site.with_role(Role::Lb).filter_map(|lb| Some((lb, nginx::reach(context.host, lb)?)));
    let asks = edges.flat_map(|(lb, address)| {
        let ask = move |page: Page<'a>| {
            let url = format!("https://{}{}", bracketed(address), page.path);
            Ask { site: page.name, host: lb.name.as_str(), url }
        };
        pages(context).map(ask)
    });
    Ok(asks.collect())
}

/// Whom to trust for a certificate that was bought.
fn trust(site: &WebSite) -> String {
    format!("/etc/prometheus/infra-{}.ca", site.name.to_word())
}

/// A page of each site; a program says itself where it is well, files may be missing and be served for all that.
fn pages<'a>(context: &Context<'a>) -> impl Iterator<Item = Page<'a>> {
    let page = move |site: &'a WebSite| {
        let name = site.names().find(|name| !name.is_wildcard())?;
        let health = site.programs.iter().find(|one| site.program_at(&one.health) == Some(one));
        let path = site.programs.first().map(|one| one.path.as_str());
        let path = path.or(site.files.first().map(|files| files.prefix.as_str())).unwrap_or("/");
        let (path, codes) = match health {
            // A password is asked for: what stands behind that is seen on the app hosts.
            Some(program) if site.is_guarded(&program.health) => (program.health.as_str(), "401"),
            Some(program) => (program.health.as_str(), "200"),
            None => (path, "200, 301, 302, 304, 307, 308, 401, 403, 404"),
        };
        let authorities = match &site.certificate {
            Some(_) => Some(trust(site)),
            None => context.site.signs(site).then(|| SITES_CA_FILE.to_owned()),
        };
        Some(Page { name, codes, path, authorities })
    };
    context.site.sites.values().filter_map(page)
}

fn daemon(context: &Context<'_>, daemon: &Daemon, out: &mut Claims) -> Result<(), Diagnostic> {
    let Daemon { package, config, templates: [settings, start], port, check, ready } = *daemon;
    let unit = format!("{package}.service");
    let model = Model { host: context.host.name.as_str(), config, port, pages: pages(context).collect() };
    let body = context.render(settings, &model)?;
    agent::file(out, config, body, Access::root(0o644), &[(unit.as_str(), Follow::Restart)])?;
    let title = check.split(" --config.file").next().unwrap_or(check).trim().to_owned();
    out.check(Check { title, command: format!("{check}{config}") });
    let look = format!(
        "curl -q -s -m 5 --noproxy '*' -f -o /dev/null http://127.0.0.1:{port}/{ready} || {{ echo 'it is not'; exit 1; }}"
    );
    let works = format!("{package} is well");
    exporter::exporter(context, exporter::Program { package, start, works, look, within: 30 }, &model, out)
}

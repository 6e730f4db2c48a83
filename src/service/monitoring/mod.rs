//! Monitoring by Sumo Logic: takes a context, adds on every host the agent that measures (Telegraf) and the one that ships logs
//! (syslog-ng), both to an HTTP source whose URL is a secret, or Sumo Logic's own collector, which does both with an installation token;
//! and the probes that show that what they send is accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::diagnostic::Diagnostic;
use crate::base::materials::Owner;
use crate::inventory::site::{Agent, Monitoring as Section, Role, Site};
use crate::plan::decision::{Decided, Memory};
use crate::plan::said::Said;
use crate::plan::state::{Access, Body, Folder, Follow, ObservedFleet, Phase, UnitWanted};
use crate::plan::task::Task;
use crate::service::agent::{self, PHASE, Reader};
use crate::service::claims::Claims;
use crate::service::firewall::flows::AGENT_UID;
use crate::service::inquiry::Inquiry;
use crate::service::product::Product;
use crate::service::render::{Template, template};
use crate::service::repository::Repository;
use crate::service::status::{Gauge, Seen};
use crate::service::{Context, SecretWanted, Service};

mod collector;
mod delivery;
mod lint;
mod logs;
mod metrics;
mod rivals;
mod source;
mod status;
mod token;

/// See the module.
pub struct Monitoring;

/// The service's name, also that of its secrets: `monitoring/source`, `monitoring/token`.
pub const NAME: &str = "monitoring";
/// What the secret of the collector is called.
const TOKEN: &str = "token";
/// The folder of the agents' configurations.
const FOLDER: &str = "/etc/infra/monitoring";
/// The task that makes the agent's user, and the fact that there is one.
const USER: &str = "monitoring/user";
/// Where the database of a host is asked.
const SOCKET: &str = "/run/mysqld/mysqld.sock";

const TEMPLATES: &[Template] = &[
    template!("monitoring/source.env"),
    template!("monitoring/telegraf.conf"),
    template!("monitoring/telegraf.service"),
    template!("monitoring/syslog-ng.conf"),
    template!("monitoring/syslog-ng.service"),
    template!("monitoring/database.env"),
    template!("monitoring/token.env"),
    template!("monitoring/otelcol.service"),
    template!("monitoring/otelcol-base.yaml"),
    template!("monitoring/otelcol-lb.yaml"),
    template!("monitoring/otelcol-web.yaml"),
    template!("monitoring/otelcol-app.yaml"),
    template!("monitoring/otelcol-db.yaml"),
    template!("monitoring/otelcol-logs.yaml"),
    agent::TEMPLATES[0],
    agent::TEMPLATES[1],
    agent::TEMPLATES[2],
];

/// The section, where the data goes to Sumo Logic, and who sends it.
fn section(site: &Site) -> Option<(&Section, Agent)> {
    site.monitoring.as_ref().and_then(|section| Some((section, section.sends_by()?)))
}

/// Whether a host has a database server.
fn is_on(context: &Context<'_>) -> bool {
    context.site.database.is_some() && context.host.has(Role::Db)
}

/// A source category: `shop/web/journal`.
fn category(context: &Context<'_>, what: &str) -> String {
    format!("{}/{}/{what}", context.site.name, roles(context))
}

/// The roles of the host as one word: `web`, `app-web`.
fn roles(context: &Context<'_>) -> String {
    context.host.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join("-")
}

impl Service for Monitoring {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn products(&self) -> &'static [Product] {
        &[logs::SYSLOG_NG]
    }

    fn about(&self) -> Option<(Phase, &'static str)> {
        Some((PHASE, "monitoring agents"))
    }

    fn inquiry(&self) -> Option<Inquiry> {
        Some(rivals::INQUIRY)
    }

    fn secrets(&self, site: &Site) -> Vec<SecretWanted> {
        let secret = section(site).map(|(section, agent)| match agent {
            Agent::Telegraf => ("source", section.source.clone()),
            Agent::OtelcolSumo => (TOKEN, section.token.clone()),
        });
        secret.map(|(name, given)| SecretWanted { name: name.into(), owner: Owner::All, given }).into_iter().collect()
    }

    fn admit_secret(&self, name: &str, value: &str) -> Result<(), String> {
        if name == TOKEN { token::admit(value) } else { source::admit(value) }
    }

    fn decide(&self, site: &Site, observed: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
        section(site).map_or(Ok(()), |(_, agent)| rivals::admit(observed, agent))?;
        Ok(Decided::default())
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let Some((section, agent)) = section(context.site) else { return Ok(()) };
        if agent == Agent::OtelcolSumo {
            package(context, section, collector::PACKAGE, "any", out)?;
            return collector::want(context, section, out);
        }
        package(context, section, metrics::PACKAGE, "stable", out)?;
        let title = "make the user of the monitoring agent";
        out.task(USER, user(context, title, (USER, AGENT_UID), include_str!("user.sh"))?)?;
        out.folder(FOLDER, Folder { phase: PHASE, access: Access::root(0o755) })?;
        let body = context.render("monitoring/source.env", &BTreeMap::<&str, &str>::new())?;
        // systemd alone reads it, as root.
        config(out, "source.env", body, 0o600, &[metrics::UNIT, logs::UNIT])?;
        agent::measures(context, Reader::Telegraf, out)?;
        metrics::want(context, out)?;
        logs::want(context, section, out)?;
        delivery::probes(out);
        Ok(())
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(status::GAUGE)
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        status::tell(seen)
    }
}

/// A file of the folder, for whose change `units` restart.
fn config(out: &mut Claims, name: &str, body: Body, mode: u32, units: &[&str]) -> Result<(), Diagnostic> {
    let then: Vec<_> = units.iter().map(|unit| (*unit, Follow::Restart)).collect();
    agent::file(out, &format!("{FOLDER}/{name}"), body, Access::root(mode), &then)
}

/// A unit that is started in this service's phase.
fn unit(out: &mut Claims, name: &str) -> Result<(), Diagnostic> {
    out.unit(name, UnitWanted { phase: PHASE })
}

/// The package of an agent, which no distribution has, from where the inventory says.
fn package(
    context: &Context<'_>,
    section: &Section,
    name: &str,
    suite: &str,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    let Some(from) = &section.repository else { return out.package(name) };
    let repository = Repository {
        service: NAME,
        uri: from.url.clone(),
        suite: suite.into(),
        components: vec!["main".into()],
        key: from.key.clone(),
        fingerprints: from.fingerprints.clone(),
        packages: vec![name.into()],
        origin: None,
    };
    repository.want(context, out)
}

/// Makes an agent's user, whose number the firewall's rules name; `made` is the fact that it is there, and the number.
fn user(context: &Context<'_>, title: &str, (made, number): (&str, u32), script: &str) -> Result<Task, Diagnostic> {
    Ok(Task {
        service: NAME,
        phase: Phase::Widen,
        title: title.into(),
        script: format!("uid={number}\n{script}"),
        input: context.body(String::new())?,
        limit: Duration::from_secs(60),
        undo: None,
        makes: BTreeMap::from([(made.to_owned(), number.to_string())]),
    })
}

//! Monitoring: takes a context, adds on every host the agent that measures (Telegraf) and the one that ships logs (syslog-ng), both to an
//! HTTP source of Sumo Logic whose URL is a secret, and the probes that show that what they send is accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::diagnostic::Diagnostic;
use crate::base::materials::Owner;
use crate::inventory::site::{Monitoring as Section, Site};
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

mod delivery;
mod logs;
mod metrics;
mod rivals;
mod source;
mod status;

/// See the module.
pub struct Monitoring;

/// The service's name, also that of its secret: `monitoring/source`.
pub const NAME: &str = "monitoring";
/// The folder of the agents' configurations.
const FOLDER: &str = "/etc/infra/monitoring";
/// The task that makes the agent's user, and the fact that there is one.
const USER: &str = "monitoring/user";

const TEMPLATES: &[Template] = &[
    template!("monitoring/source.env"),
    template!("monitoring/telegraf.conf"),
    template!("monitoring/telegraf.service"),
    template!("monitoring/syslog-ng.conf"),
    template!("monitoring/syslog-ng.service"),
    agent::TEMPLATES[0],
    agent::TEMPLATES[1],
    agent::TEMPLATES[2],
];

/// The section, where it asks for what is built here.
fn section(site: &Site) -> Option<&Section> {
    site.monitoring.as_ref().filter(|monitoring| monitoring.is_by_telegraf())
}

/// The first part of a source category: `shop/web`.
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
        Some((PHASE, "telegraf, syslog-ng"))
    }

    fn inquiry(&self) -> Option<Inquiry> {
        Some(rivals::INQUIRY)
    }

    fn secrets(&self, site: &Site) -> Vec<SecretWanted> {
        let source = section(site).map(|section| SecretWanted {
            name: "source".into(),
            owner: Owner::All,
            given: section.source.clone(),
        });
        source.into_iter().collect()
    }

    fn admit_secret(&self, _name: &str, value: &str) -> Result<(), String> {
        source::admit(value)
    }

    fn decide(&self, site: &Site, observed: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
        section(site).map_or(Ok(()), |_| rivals::admit(observed))?;
        Ok(Decided::default())
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let Some(section) = section(context.site) else { return Ok(()) };
        match &section.repository {
            Some(from) => Repository {
                service: NAME,
                uri: from.url.clone(),
                suite: "stable".into(),
                components: vec!["main".into()],
                key: from.key.clone(),
                fingerprints: from.fingerprints.clone(),
                packages: vec![metrics::PACKAGE.into()],
                origin: None,
            }
            .want(context, out)?,
            None => out.package(metrics::PACKAGE)?,
        }
        out.task(USER, user(context)?)?;
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

/// Makes the agent's user, whose number the firewall's rules name.
fn user(context: &Context<'_>) -> Result<Task, Diagnostic> {
    Ok(Task {
        service: NAME,
        phase: Phase::Widen,
        title: "make the user of the monitoring agent".into(),
        script: format!("uid={AGENT_UID}\n{}", include_str!("user.sh")),
        input: context.body(String::new())?,
        limit: Duration::from_secs(20),
        undo: None,
        makes: BTreeMap::from([(USER.to_owned(), AGENT_UID.to_string())]),
    })
}

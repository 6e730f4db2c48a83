//! `drift`: what differs on the hosts from what the last run made of them, whatever the inventory wants since. Changes nothing.

use std::collections::BTreeMap;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::work::Work;
use super::{exit, stages};
use crate::base::net::HostName;
use crate::fleet::rollback;
use crate::host::kept::NOW;
use crate::report::Reporter;
use crate::report::text::{count, names};
use crate::service::Services;

/// `drift`.
#[derive(Debug, Clone, clap::Args)]
pub struct Drift {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
}

pub(super) fn run(drift: &Drift, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let inventory = drift.inventory.inventory.as_path();
    let (site, _) = stages::loaded(inventory)?;
    stages::without_retired(&site)?;
    let hosts = stages::selected(&site, global)?;
    let work = Work::new(&site, &hosts, format!("infra drift {}", inventory.display()), global, services, reporter)?;
    let asked = work.kept(Some(NOW), &hosts);
    let (last, unknown) = rollback::last(&asked);
    let mut by_reason: BTreeMap<&str, Vec<&HostName>> = BTreeMap::new();
    for (host, why) in &unknown {
        by_reason.entry(why).or_default().push(host);
    }
    for (why, hosts) in by_reason {
        reporter.note(&format!("{}: drift cannot be told, as {why}", names(&hosts)));
    }
    let known = last.hosts();
    let mut away = asked.away;
    // Of what cannot be told nobody knows that it is well.
    let mut refused = !unknown.is_empty();
    let mut differs = false;
    if !known.is_empty() {
        let (_, prepared) = work.restored(&last)?;
        for (host, reason) in &prepared.survey.refused {
            reporter.error(&format!("{host} is left alone: {reason}"), &[], &[])?;
            refused = true;
        }
        away.extend(prepared.survey.unreachable);
        let mut plan = prepared.plan;
        // What the controller would do is the next apply's, and no drift.
        plan.steps.clear();
        plan.waiting.clear();
        differs = plan.changed().next().is_some();
        if reporter.is_json() || differs {
            reporter.note("what would make the hosts again what the last run made of them:");
            reporter.plan(&site, &plan)?;
        }
        let unseen = away.keys().filter(|host| known.contains(*host)).count();
        let seen = count(known.len() - prepared.survey.refused.len() - unseen, "host");
        if differs {
            let changed: Vec<&HostName> = plan.changed().collect();
            reporter.note(&format!("drift on {}, of {seen} that were looked at", names(&changed)));
        } else {
            reporter.note(&format!("no drift on {seen}"));
        }
    }
    if !away.is_empty() {
        let help = "look at these hosts: the cause stands with each of them above";
        stages::unreached(&away, ("drift is not known there", Some(help)), inventory, reporter)?;
        return Err(Stop::Unreachable);
    }
    if refused {
        return Ok(exit::FAILED);
    }
    Ok(if differs { exit::PENDING } else { exit::DONE })
}

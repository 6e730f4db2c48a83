//! A plan in a file: takes what `diff` saw, gives what `apply --plan` compares. It holds digests, no text and no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Stop;
use crate::base::net::HostName;
use crate::fleet::survey::Prepared;
use crate::inventory::site::Site;
use crate::plan::plan;
use crate::plan::state::Digest;
use crate::report::json;

/// Changes when what is compared does.
const VERSION: u32 = 1;

/// The plan as it was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    name: HostName,
    hosts: BTreeMap<HostName, Entry>,
    /// Sites whose certificates are ordered at the end.
    #[serde(default)]
    orders: BTreeSet<String>,
}

/// One host of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Of what the host was.
    observed: Digest,
    /// Of what is to be done.
    planned: Digest,
}

impl Saved {
    /// The digests of a plan.
    pub(super) fn of(site: &Site, prepared: &Prepared) -> Self {
        let hosts = prepared.plan.hosts.iter().filter_map(|(name, host)| {
            let observed = plan::fingerprint(prepared.survey.observed.get(name)?);
            let planned = Digest::of(json::host_plan(host).to_string().as_bytes());
            Some((name.clone(), Entry { observed, planned }))
        });
        Self { version: VERSION, name: site.name.clone(), hosts: hosts.collect(), orders: BTreeSet::new() }
    }

    /// With the orders that were told.
    pub(super) fn with_orders(self, orders: &BTreeSet<String>) -> Self {
        Self { orders: orders.clone(), ..self }
    }

    /// Refuses what was not told when the plan was made.
    pub(super) fn holds_orders(&self, now: &BTreeSet<String>) -> Result<(), Stop> {
        let Some(new) = now.difference(&self.orders).next() else { return Ok(()) };
        Err(Stop::Refused(
            format!("the plan no longer holds, nothing was done: the certificate of {new} has become due"),
            vec!["look at a new one: `infra diff --out FILE`".to_owned()],
        ))
    }

    /// Reads a file of `diff --out`.
    pub(super) fn read(file: &Path) -> Result<Self, Stop> {
        let refused = |why: String| {
            Stop::Refused(
                format!("`{}` is no plan that can be executed: {why}", file.display()),
                vec!["make one with `infra diff --out FILE`".to_owned()],
            )
        };
        let text = fs_err::read(file).map_err(|e| refused(e.to_string()))?;
        let saved: Self = serde_json::from_slice(&text).map_err(|e| refused(e.to_string()))?;
        if saved.version == VERSION { Ok(saved) } else { Err(refused("another version of infra made it".into())) }
    }

    /// The hosts that it is for.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    /// Refuses unless `now` is exactly this plan.
    pub(super) fn same_as(&self, now: &Self) -> Result<(), Stop> {
        let mut moved = Vec::new();
        if self.name != now.name {
            moved.push(format!("it was made for `{}`, not for `{}`", self.name, now.name));
        }
        for (name, then) in &self.hosts {
            match now.hosts.get(name) {
                None => moved.push(format!("{name} does not answer now")),
                Some(entry) if entry.observed != then.observed => moved.push(format!("{name} has changed since")),
                Some(entry) if entry.planned != then.planned => {
                    moved.push(format!("the inventory, a template or a certificate asks something else of {name} now"));
                }
                Some(_) => {}
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        moved.truncate(8);
        Err(Stop::Refused(
            format!("the plan no longer holds, nothing was done: {}", moved.join("; ")),
            vec!["look at a new one: `infra diff --out FILE`".to_owned()],
        ))
    }
}

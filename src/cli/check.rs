//! `check`: everything that can be known without touching a host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::args::{Global, Inventory};
use super::{Done, Stop, exit, stages};
use crate::base::diagnostic::Severity;
use crate::base::net::HostName;
use crate::fleet::history;
use crate::report::Reporter;
use crate::report::text::count;

pub(super) fn run(inventory: &Inventory, _: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let templates = stages::templates(&site, reporter)?;
    let seen = history::controller(&site.state);
    // Never connected yet: this machine's own route is a guess, so it warns only.
    let guess = seen.is_empty();
    let ours = if guess { stages::local_addresses(&site) } else { seen };
    let looked = stages::offline(&site, &templates, |host, desired| {
        let cut = match (&desired.firewall, ours.get(&host.name)) {
            (Some(rules), Some(ours)) if !stages::admitted(host, rules, *ours) => Some(*ours),
            _ => None,
        };
        (desired.files.len(), cut)
    })?;
    let mut cut: BTreeMap<IpAddr, BTreeSet<HostName>> = BTreeMap::new();
    for (name, (_, address)) in &looked {
        if let Some(address) = address {
            cut.entry(*address).or_default().insert(name.clone());
        }
    }
    let mut errors = stages::way_in(&site, &cut);
    if guess {
        for error in &mut errors {
            error.severity = Severity::Warning;
            error.message = error.message.replacen("would lock", "may lock", 1);
        }
        if !errors.is_empty() {
            reporter.diagnostics(&errors)?;
        }
    } else if !errors.is_empty() {
        return Err(Stop::Input(errors));
    }
    let files: usize = looked.values().map(|(files, _)| files).sum();
    let flows = crate::service::firewall::flows::derive(&site).len();
    let (hosts, sites) = (count(site.hosts.len(), "host"), count(site.sites.len(), "site"));
    let summary =
        format!("{}: {hosts}, {sites}, {}, {}: nothing wrong\n", site.name, count(flows, "flow"), count(files, "file"));
    if reporter.is_json() {
        reporter.line(&serde_json::json!({
            "event": "checked", "name": site.name, "hosts": site.hosts.len(), "sites": site.sites.len(), "flows": flows, "files": files,
        }))?;
    } else {
        reporter.data(&summary)?;
    }
    Ok(exit::DONE)
}

//! `check`: everything that can be known without touching a host.

use super::args::{Global, Inventory};
use super::{Done, Stop, exit, stages};
use crate::fleet::history;
use crate::report::Reporter;
use crate::report::text::count;

pub(super) fn run(inventory: &Inventory, _: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let templates = stages::templates(&site)?;
    let desired = stages::offline(&site, &templates)?;
    let rules = || desired.iter().filter_map(|(name, host)| Some((name, host.firewall.as_ref()?)));
    let seen = history::controller(&site.state);
    let cut = stages::way_in(&site, rules(), &seen);
    if !cut.is_empty() {
        return Err(Stop::Input(cut));
    }
    if seen.is_empty() {
        // Never connected yet: this machine's own route is a guess, so it warns only.
        let mut guesses = stages::way_in(&site, rules(), &stages::local_addresses(&site));
        for guess in &mut guesses {
            guess.severity = crate::base::diagnostic::Severity::Warning;
            guess.message = guess.message.replacen("would lock", "may lock", 1);
        }
        if !guesses.is_empty() {
            reporter.diagnostics(&guesses)?;
        }
    }
    let files: usize = desired.values().map(|host| host.files.len()).sum();
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

//! `check`: everything that can be known without touching a host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use super::global::Inventory;
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::diagnostic::{Diagnostic, Severity};
use crate::base::net::HostName;
use crate::fleet::history::LastSeen;
use crate::fleet::way_in;
use crate::inventory::site::{SecretRef, Site};
use crate::report::Reporter;
use crate::report::line::Line;
use crate::report::text::count;
use crate::service::Services;

/// Secrets whose file is not there. Only a warning: who checks an inventory need not have its secrets.
fn absent_secrets(site: &Site, services: Services) -> Vec<Diagnostic> {
    let wanted = services.0.iter().flat_map(|service| service.secrets(site).into_iter().map(|w| (service.name(), w)));
    let absent = wanted.filter_map(|(service, wanted)| match wanted.given? {
        SecretRef::File(path) if !site.folder.join(&path).exists() => Some((service, wanted.name, path)),
        SecretRef::File(_) | SecretRef::Env(_) | SecretRef::Command(_) => None,
    });
    let warning = |(service, name, path): (&str, String, PathBuf)| {
        Diagnostic::warning(format!("`{service}/{name}` is in `{}`, which is not there", path.display()))
            .help("put the file there before you run `diff` or `apply`; its path is relative to the inventory")
    };
    absent.map(warning).collect()
}

pub(super) fn run(inventory: &Inventory, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let templates = stages::templates(services, &site, reporter)?;
    let seen = LastSeen::of(&site.state).controller();
    // Never connected yet: this machine's own route is a guess, so it warns only.
    let guess = seen.is_empty();
    let ours = if guess { way_in::local_addresses(&site) } else { seen };
    let looked = stages::offline(&site, &templates, reporter, |host, desired| {
        let cut = match (&desired.firewall, ours.get(&host.name)) {
            (Some(rules), Some(ours)) if !way_in::admitted(host, rules, *ours) => Some(*ours),
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
    let mut errors = way_in::errors(&site, &cut);
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
    let absent = absent_secrets(&site, services);
    if !absent.is_empty() {
        reporter.diagnostics(&absent)?;
    }
    let files: usize = looked.values().map(|(files, _)| files).sum();
    let flows = crate::service::firewall::flows::derive(&site).len();
    let (hosts, sites) = (count(site.hosts.len(), "host"), count(site.sites.len(), "site"));
    let summary =
        format!("{}: {hosts}, {sites}, {}, {}: nothing wrong\n", site.name, count(flows, "flow"), count(files, "file"));
    if reporter.is_json() {
        let (name, hosts, sites) = (&site.name, site.hosts.len(), site.sites.len());
        reporter.line(&Line::Checked { name, hosts, sites, flows, files })?;
    } else {
        reporter.data(&summary)?;
    }
    Ok(exit::DONE)
}

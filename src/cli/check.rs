//! `check`: everything that can be known without touching a host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::global::Inventory;
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::diagnostic::{Diagnostic, Severity, gathered};
use crate::base::net::HostName;
use crate::base::warning::Warning;
use crate::fleet::history::LastSeen;
use crate::fleet::{trust, way_in};
use crate::inventory::site::{SecretRef, Site};
use crate::material::bought;
use crate::report::Reporter;
use crate::report::line::Line;
use crate::report::text::count;
use crate::service::Services;
use crate::service::firewall::flows::derive;
use crate::service::render::Templates;

/// Secrets whose file is not there. Only a warning: who checks an inventory need not have its secrets.
fn absent_secrets(site: &Site, services: Services) -> Vec<Diagnostic> {
    let wanted = services.0.iter().flat_map(|service| service.secrets(site).into_iter().map(|w| (service.name(), w)));
    let absent = wanted.filter_map(|(service, wanted)| match wanted.given? {
        SecretRef::File(path) if !site.folder.join(&path).exists() => Some((service, wanted.name, path)),
        SecretRef::File(_) | SecretRef::Env(_) | SecretRef::Command(_) => None,
    });
    let warning = |(service, name, path): (&str, String, PathBuf)| {
        Diagnostic::warning(
            Warning::AbsentSecret,
            format!("`{service}/{name}` is in `{}`, which is not there", path.display()),
        )
        .help("put the file there before you run `diff` or `apply`; its path is relative to the inventory")
    };
    absent.map(warning).collect()
}

/// What was looked at, as numbers.
struct Looked {
    site: Site,
    files: usize,
    flows: usize,
}

pub(super) fn run(inventory: &Inventory, services: Services, reporter: &Reporter) -> Done {
    let mut warnings = Vec::new();
    let looked = look(&inventory.inventory, services, reporter, &mut warnings);
    let warnings = gathered(warnings);
    if !warnings.is_empty() {
        reporter.diagnostics(&warnings)?;
    }
    let Looked { site, files, flows } = looked?;
    stages::gone(&site, reporter);
    let (name, hosts, sites, warnings) = (&site.name, site.hosts.len(), site.sites.len(), warnings.len());
    if reporter.is_json() {
        reporter.line(&Line::Checked { name, hosts, sites, flows, files, warnings })?;
        return Ok(exit::DONE);
    }
    let verdict = match warnings {
        0 => "nothing wrong".to_owned(),
        some => format!("no error, {}", count(some, "warning")),
    };
    let [hosts, sites] = [(hosts, "host"), (sites, "site")].map(|(number, noun)| count(number, noun));
    reporter.data(&format!(
        "{name}: {hosts}, {sites}, {}, {}: {verdict}\n",
        count(flows, "flow"),
        count(files, "file")
    ))?;
    Ok(exit::DONE)
}

/// Looks at everything; what only warns is kept in `warnings`, so that it is told together, and with an error too.
fn look(
    inventory: &Path,
    services: Services,
    reporter: &Reporter,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Looked, Stop> {
    let (site, odd) = stages::loaded(inventory)?;
    warnings.extend(odd);
    let templates = Templates::load(services, Some(&site.folder))?;
    warnings.extend(site.told(templates.warnings.clone()));
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
            error.severity = Severity::Warning(Warning::WayIn);
            error.message = error.message.replacen("would lock", "may lock", 1);
        }
        warnings.extend(site.told(errors));
    } else if !errors.is_empty() {
        return Err(Stop::Input(errors));
    }
    warnings.extend(site.told(absent_secrets(&site, services)));
    let (wrong, absent): (Vec<_>, Vec<_>) = bought::look(&site).into_iter().partition(Diagnostic::is_error);
    warnings.extend(site.told(absent));
    warnings.extend(site.told(trust::doubts(&site, OffsetDateTime::now_utc())));
    if !wrong.is_empty() {
        return Err(Stop::Input(wrong));
    }
    let files = looked.values().map(|(files, _)| files).sum();
    let flows = derive(&site).len();
    Ok(Looked { site, files, flows })
}

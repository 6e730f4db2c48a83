//! The stages that verbs share: load, select, render, survey. Each takes the value of the one before and gives the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use time::OffsetDateTime;

use super::Stop;
use super::args::Global;
use super::limit::Limit;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::{HostName, Port};
use crate::base::secret::Secret;
use crate::fleet::connect::SshConnector;
use crate::fleet::event::Event;
use crate::fleet::survey::{self, Prepared, Sources};
use crate::fleet::{adopt, history, verify};
use crate::host::ssh::{Ask, Prompt};
use crate::inventory::load;
use crate::inventory::site::{Host, Site};
use crate::pki::{self, Issued};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::DesiredHost;
use crate::report::interrupt::Interrupt;
use crate::report::{Reporter, prompt};
use crate::service;
use crate::service::firewall::admit;
use crate::service::render::Templates;

/// Names another state folder than the inventory does: a lab's controller must not touch what real hosts are managed with.
const STATE: &str = "INFRA_STATE";

/// Loads and resolves; tells the warnings.
pub(super) fn site(inventory: &Path, reporter: &Reporter) -> Result<Site, Stop> {
    let (mut site, warnings) = load::load(inventory)?;
    if let Some(state) = std::env::var_os(STATE).filter(|state| !state.is_empty()) {
        site.state = state.into();
    }
    if !warnings.is_empty() {
        reporter.diagnostics(&warnings)?;
    }
    Ok(site)
}

/// The embedded templates and those beside the inventory.
pub(super) fn templates(site: &Site, reporter: &Reporter) -> Result<Templates, Stop> {
    let templates = Templates::load(Some(&site.folder))?;
    if !templates.warnings.is_empty() {
        reporter.diagnostics(&templates.warnings)?;
    }
    Ok(templates)
}

/// The hosts that `--limit` means.
pub(super) fn selected(site: &Site, global: &Global) -> Result<BTreeSet<HostName>, Stop> {
    let last = history::last_undone(&site.state).unwrap_or_default();
    Ok(Limit(global.limit.clone()).select(site, &last)?)
}

/// What the inventory may say already, and no release of this tool does yet: told before any host is touched.
pub(super) fn unbuilt(site: &Site) -> Result<(), Stop> {
    let mut errors = Vec::new();
    let mut refuse = |what: &str, help: &str, place: Option<String>| {
        let at = place.map_or(String::new(), |place| format!(" ({place})"));
        errors.push(Diagnostic::error(format!("{what} cannot be applied yet{at}")).help(help));
    };
    if let Some(database) = &site.database {
        refuse("the database", "take `database` and the `db` hosts out", Some(database.place.to_string()));
    }
    if let Some(monitoring) = &site.monitoring {
        refuse("monitoring", "take `monitoring` out", Some(monitoring.place.to_string()));
    }
    if errors.is_empty() { Ok(()) } else { Err(Stop::Input(errors)) }
}

/// Makes the certificates that are missing or due, in the state folder, and gives all of them.
pub(super) fn issue(site: &Site, reporter: &Reporter) -> Result<Issued, Stop> {
    let issued = pki::ensure(site, &site.state, OffsetDateTime::now_utc()).map_err(|error| {
        let help = error.help().into_iter().collect();
        Stop::Refused(error.to_string(), help)
    })?;
    for warning in &issued.warnings {
        reporter.note(&format!("warning: {warning}"));
    }
    Ok(issued)
}

/// What every host should be, without asking any; the oldest release stands for hosts that were never seen. Keeps of each
/// host what `keep` makes of it.
pub(super) fn offline<T: Send>(
    site: &Site,
    templates: &Templates,
    keep: impl Fn(&Host, DesiredHost) -> T + Sync,
) -> Result<BTreeMap<HostName, T>, Stop> {
    Ok(service::desire_each(site, &history::facts(&site.state), &pki::placeholders(site), templates, keep)?)
}

/// The port of sshd on a host.
fn ssh_port(host: &Host) -> Port {
    host.ssh.port.or_else(|| Port::try_from(22).ok()).unwrap_or(Port::HTTPS)
}

/// Whether a host's new rules admit the address that we come from.
pub(super) fn admitted(host: &Host, rules: &Ruleset, ours: IpAddr) -> bool {
    admit::controller_is_admitted(rules, ours, ssh_port(host))
}

/// The first half of law 4: no plan in which a host's new rules do not admit the address that we come from. Takes the
/// hosts that would be cut off, by that address.
pub(super) fn way_in(site: &Site, cut: &BTreeMap<IpAddr, BTreeSet<HostName>>) -> Vec<Diagnostic> {
    let lines: Vec<String> = site.firewall.manage_from.iter().map(|(net, place)| format!("{net} ({place})")).collect();
    let errors = cut.iter().map(|(address, hosts)| {
        let names: Vec<&str> = hosts.iter().take(6).map(HostName::as_str).collect();
        let more = hosts.len() - names.len();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = names.join(", ");
        Diagnostic::error(format!(
            "the new firewall would lock this controller out: {names}{rest} see it as {address}, which `firewall.manage_from` does not let in, or `firewall.block` drops"
        ))
        .help(format!("`manage_from` is {}; add a network that holds {address}", lines.join(", ")))
    });
    errors.collect()
}

/// The hosts whose planned rules would cut off the controller, by the address at which they see it.
pub(super) fn cut_off(site: &Site, prepared: &Prepared) -> BTreeMap<IpAddr, BTreeSet<HostName>> {
    let mut cut: BTreeMap<IpAddr, BTreeSet<HostName>> = BTreeMap::new();
    for (name, _) in prepared.plan.hosts.iter().filter(|(_, plan)| !plan.is_empty()) {
        let rules = prepared.desired.get(name).and_then(|d| d.firewall.as_ref());
        let ours = prepared.survey.observed.get(name).and_then(|seen| seen.controller);
        if let (Some(host), Some(rules), Some(ours)) = (site.hosts.get(name), rules, ours)
            && !admitted(host, rules, ours)
        {
            cut.entry(ours).or_default().insert(name.clone());
        }
    }
    cut
}

/// The addresses that this machine would use towards the hosts; no packet is sent. Wrong behind NAT or a jump host, so
/// only good for a warning.
pub(super) fn local_addresses(site: &Site) -> BTreeMap<HostName, IpAddr> {
    let direct = site.hosts.values().filter(|h| h.ssh.jump.is_none() && h.ssh.address.is_none());
    direct.filter_map(|host| Some((host.name.clone(), verify::local_address(*host.addresses.first()?)?))).collect()
}

/// Asks the selected hosts and plans.
pub(super) fn prepare(
    site: &Site,
    hosts: &BTreeSet<HostName>,
    issued: &Issued,
    templates: &Templates,
    connector: &SshConnector,
    global: &Global,
    events: &Sender<Event>,
) -> Result<Prepared, Stop> {
    let sources = Sources { site, materials: &issued.materials, templates };
    let those = hosts.iter().filter_map(|name| site.hosts.get(name));
    let guess = history::facts(&site.state);
    let prepared = survey::prepare(those, sources, &guess, connector, global.parallel.get(), events)?;
    history::save(&site.state, &prepared.survey.observed)?;
    let mut warnings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, seen) in &prepared.survey.observed {
        for text in &seen.firewall.warnings {
            warnings.entry(text).or_default().push(name.as_str());
        }
    }
    for (text, hosts) in warnings {
        // A reporter that is gone stops nothing.
        let _ = events.send(Event::Note { host: None, text: format!("warning: {}: {text}", hosts.join(", ")) });
    }
    Ok(prepared)
}

/// Makes what is missing, asks the hosts and plans. Where the plan would replace a certificate by an older one, because another
/// controller has renewed it or our state was lost, the newer one is taken into use, and the plan is made again.
pub(super) fn planned(
    site: &Site,
    hosts: &BTreeSet<HostName>,
    templates: &Templates,
    connector: &SshConnector,
    global: &Global,
    reporter: &Reporter,
) -> Result<(Issued, Prepared), Stop> {
    let plan = || -> Result<(Issued, Prepared), Stop> {
        let issued = issue(site, reporter)?;
        let prepared = reporter.during(&Interrupt::default(), |events| {
            prepare(site, hosts, &issued, templates, connector, global, &events)
        })?;
        Ok((issued, prepared))
    };
    let (issued, mut prepared) = plan()?;
    let newer = adopt::before_writing(site, &mut prepared, global.parallel.get()).map_err(adoption_error)?;
    if newer.is_empty() {
        return Ok((issued, prepared));
    }
    // The connections end before the same hosts are asked again.
    drop(prepared);
    for (name, about) in newer {
        reporter.note(&format!("{name}: {about}"));
    }
    plan()
}

/// Why certificates on load balancers could not be taken over.
pub(super) fn adoption_error(error: adopt::Error) -> Stop {
    match error {
        adopt::Error::Store(error) => Stop::Refused(error.to_string(), error.help().into_iter().collect()),
        error @ adopt::Error::Unread { .. } => Stop::Failed(error.into()),
    }
}

/// A connector that asks the person at the terminal, where there is one.
pub(super) fn connector(reporter: &Reporter) -> SshConnector {
    let asks = !reporter.is_json() && prompt::possible();
    SshConnector::new(asks.then(|| Arc::new(AtTerminal::default()) as Arc<dyn Prompt>))
}

/// Asks once for all hosts: a password that one host took is tried on the next before the person is asked again.
#[derive(Default)]
struct AtTerminal {
    given: std::sync::Mutex<BTreeMap<String, Secret>>,
}

impl Prompt for AtTerminal {
    fn answer(&self, ask: &Ask<'_>) -> Option<Secret> {
        let (name, question, again) = match ask {
            Ask::Passphrase { file, again } => {
                (format!("passphrase/{}", file.display()), format!("passphrase of {}: ", file.display()), *again)
            }
            Ask::Sudo { user, host, again } => {
                (format!("sudo/{user}"), format!("sudo password of {user} on {host}: "), *again)
            }
        };
        let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(secret) = given.get(&name).filter(|_| !again) {
            return Some(Secret::new(name, secret.reveal()));
        }
        let answer = prompt::hidden(&question)?;
        given.insert(name.clone(), Secret::new(name.clone(), answer.reveal()));
        Some(answer)
    }
}

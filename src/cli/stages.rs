//! The stages that verbs share: load, select, render, survey. Each takes the value of the one before and gives the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;

use super::global::Global;
use super::limit::{Limit, Term};
use super::limits;
use super::stop::Stop;
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::fsx;
use crate::base::net::HostName;
use crate::fleet::connect::{self, SshConnector};
use crate::fleet::gone::Gone;
use crate::fleet::history::{self, LastSeen};
use crate::fleet::journals;
use crate::fleet::survey::Connector as _;
use crate::fleet::{memory, way_in};
use crate::host::ssh::{Become, Prompt};
use crate::host::transport::TransportError;
use crate::inventory::load;
use crate::inventory::site::{Host, Site};
use crate::material;
use crate::pki;
use crate::plan::state::DesiredHost;
use crate::report::passwords::{Member, Passwords};
use crate::report::text::{count, names, natural};
use crate::report::{Reporter, prompt};
use crate::service::render::Templates;
use crate::service::{self, Services};

/// Names another state folder than the inventory does: a lab's controller must not touch what real hosts are managed with.
const STATE: &str = "INFRA_STATE";

/// Loads and resolves; tells the warnings.
pub(super) fn site(inventory: &Path, reporter: &Reporter) -> Result<Site, Stop> {
    let (site, warnings) = loaded(inventory)?;
    if !warnings.is_empty() {
        reporter.diagnostics(&warnings)?;
    }
    Ok(site)
}

/// Loads and resolves; gives the warnings.
pub(super) fn loaded(inventory: &Path) -> Result<(Site, Vec<Diagnostic>), Stop> {
    let (mut site, warnings) = load::load(inventory)?;
    if let Some(state) = std::env::var_os(STATE).filter(|state| !state.is_empty()) {
        site.state = state.into();
    }
    fsx::check_private(&site.state)
        .and_then(|()| fsx::check_own(&site.state))
        .map_err(|error| Stop::Refused(format!("the state folder cannot be used: {error}"), Vec::new()))?;
    site.through = way_in::through(&site, &LastSeen::of(&site.state).controller());
    Ok((site, warnings))
}

/// The hosts that have left the inventory since they were last asked: nobody else remembers them.
pub(super) fn left(site: &Site) -> Vec<Gone> {
    let seen = LastSeen::of(&site.state);
    let one = |(host, addresses): (&HostName, &[IpAddr])| {
        // A store that does not read is told by what needs it.
        Gone::remembered(host, addresses, pki::hops_until(&site.state, host).unwrap_or_default())
    };
    seen.gone(site).into_iter().map(one).collect()
}

/// Names them, with what the inventory still says of their addresses.
pub(super) fn gone(site: &Site, reporter: &Reporter) {
    let left = left(site);
    let hosts: Vec<&HostName> = left.iter().map(|gone| &gone.host).collect();
    let (names, is, its) = match hosts[..] {
        [] => return,
        [one] => (one.to_string(), "is", "it stays as infra left it"),
        _ => (names(&hosts), "are", "they stay as infra left them"),
    };
    reporter.note(&format!(
        "{names} {is} not in the inventory any more: {its}, with all that runs there, and the other hosts close what was \
         open for it; the next apply that gets through on all hosts forgets them"
    ));
    for gone in &left {
        for flow in gone.flows(site) {
            let place =
                flow.place.as_ref().map(|place| format!(" ({}:{})", place.file, place.line)).unwrap_or_default();
            let (host, name) = (&gone.host, flow.name());
            reporter
                .note(&format!("warning: the inventory still opens `{name}`{place} for the address that {host} had"));
        }
    }
}

/// The templates of `services`, and those beside the inventory.
pub(super) fn templates(services: Services, site: &Site, reporter: &Reporter) -> Result<Templates, Stop> {
    let templates = Templates::load(services, Some(&site.folder))?;
    let warnings = site.told(templates.warnings.clone());
    if !warnings.is_empty() {
        reporter.diagnostics(&warnings)?;
    }
    Ok(templates)
}

/// The hosts that `--limit` means.
pub(super) fn selected(site: &Site, global: &Global) -> Result<BTreeSet<HostName>, Stop> {
    if !global.limit.iter().any(Term::asks_for_last_run) {
        return Ok(Limit(global.limit.clone()).select(site, &BTreeSet::new())?);
    }
    let last = history::last_undone(&site.state).and_then(|last| last.ok_or_else(|| site.state.join("runs")));
    let last = last.map_err(|file| {
        let tells = if file.is_dir() { "tells of none" } else { "does not read" };
        let error =
            Diagnostic::error(format!("`--limit failed` is about the last run, and `{}` {tells}", file.display()));
        error.help("leave `--limit` out to work on all hosts")
    })?;
    Ok(Limit(global.limit.clone()).select(site, &last)?)
}

/// Refuses an inventory with a host in it that was retired: all others would lead to it and let it in again.
pub(super) fn without_retired(site: &Site) -> Result<(), Stop> {
    let refused = history::retired(site).into_iter().map(|(host, file)| {
        let error = Diagnostic::error(format!("{host} was retired, and its lines are still in the inventory"));
        let error =
            error.help(format!("delete the lines of {host}: the other hosts would lead to it and let it in again"));
        error.help(format!("to take it in again, remove {} here and /var/lib/infra/retired on it", file.display()))
    });
    let refused: Vec<Diagnostic> = refused.collect();
    if refused.is_empty() { Ok(()) } else { Err(refused.into()) }
}

/// What a word says that is a run, by its name or how that begins, or else an inventory: the run, and the inventory that is meant.
pub(super) fn run_or_inventory<'w>(
    word: Option<&'w str>,
    inventory: &'w Path,
) -> Result<(Option<&'w str>, &'w Path), Stop> {
    match word {
        None => Ok((None, inventory)),
        Some(word) if journals::is_run(word) || (journals::begins_run(word) && !Path::new(word).exists()) => {
            Ok((Some(word), inventory))
        }
        Some(word) if !word.contains(['.', '/']) && !Path::new(word).exists() => Err(Stop::Refused(
            format!("`{word}` is neither the name of a run nor a file"),
            vec!["`infra history` lists the runs; the beginning of a name is enough, such as 20261128T02".to_owned()],
        )),
        Some(word) => Ok((None, Path::new(word))),
    }
}

/// A host that a person names.
pub(super) fn host<'s>(site: &'s Site, name: &HostName) -> Result<&'s Host, Stop> {
    site.hosts.get(name).ok_or_else(|| {
        let error = Diagnostic::error(format!("`{}` has no host `{name}`", site.name));
        let near = did_you_mean(name.as_str(), site.hosts.keys().map(HostName::as_str));
        near.map_or(error.clone(), |near| error.help(near)).into()
    })
}

/// What every host should be, without asking any; the oldest release stands for hosts that were never seen. Keeps of each
/// host what `keep` makes of it.
pub(super) fn offline<T: Send>(
    site: &Site,
    templates: &Templates,
    reporter: &Reporter,
    keep: impl Fn(&Host, DesiredHost) -> T + Sync,
) -> Result<BTreeMap<HostName, T>, Stop> {
    let seen = LastSeen::of(&site.state);
    if let Some(lost) = &seen.lost {
        reporter.note(&format!("warning: {lost}"));
    }
    let memory = memory::kept(site, templates.services(), OffsetDateTime::now_utc())?;
    let materials = material::placeholders(site, templates.services())?;
    Ok(service::desire_each(site, (&seen.facts(), &memory), &materials, templates, keep)?)
}

/// Tells that hosts were not reached, what follows from that, and what to do: their keys come first, as everybody meets those first.
pub(super) fn unreached(
    away: &BTreeMap<HostName, TransportError>,
    (follows, otherwise): (&str, Option<&str>),
    inventory: &Path,
    reporter: &Reporter,
) -> Result<(), Stop> {
    let mut hosts: Vec<&HostName> = away.keys().collect();
    hosts.sort_by_cached_key(|name| natural(name.as_str()));
    let list = |hosts: &[&HostName]| {
        let more = hosts.len().saturating_sub(8);
        let named: Vec<&str> = hosts.iter().take(8).map(|name| name.as_str()).collect();
        named.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
    };
    let keys: Vec<&HostName> =
        hosts.iter().filter(|host| matches!(away.get(**host), Some(TransportError::HostKey(_)))).copied().collect();
    let mut help = Vec::new();
    match keys.as_slice() {
        [] => {}
        [one] => help.push(format!(
            "compare the fingerprint with the host's own, then: infra trust {one} {}",
            inventory.display()
        )),
        // One table and one question; a key that is another than before is told there, and is looked at by itself.
        [..] => help.push(format!(
            "compare the fingerprints with the hosts' own, then: infra trust --all {}",
            inventory.display()
        )),
    }
    if hosts.iter().all(|host| matches!(away.get(*host), Some(TransportError::Auth { .. }))) {
        help.push(
            "who logs in is `ssh: { user: … }` of the inventory, else what ~/.ssh/config says, else your own name here"
                .to_owned(),
        );
    }
    help.extend(otherwise.filter(|_| keys.len() < hosts.len()).map(ToOwned::to_owned));
    let number = count(hosts.len(), "host");
    Ok(reporter.error(&format!("{number} cannot be reached, so {follows}: {}", list(&hosts)), &[], &help)?)
}

/// Tells what a person should know of how hosts were reached, where no survey has told it.
pub(super) fn told(connector: &SshConnector, reporter: &Reporter) {
    connector.notes().iter().for_each(|text| reporter.note(text));
}

/// A connector that asks the person at the terminal, where there is one, and opens as many connections at the same time as hosts are
/// worked on; `hosts` are those that the verb goes to.
pub(super) fn connector(
    (reporter, global): (&Reporter, &Global),
    site: &Site,
    hosts: &BTreeSet<HostName>,
) -> SshConnector {
    let asks = !reporter.is_json() && prompt::possible();
    let asked = || {
        let member = |host: &Host| {
            let target = connect::target(host);
            Member { host: host.name.clone(), user: target.user, sudo: target.become_root == Become::Sudo }
        };
        let mut those: Vec<_> = hosts.iter().filter_map(|name| site.hosts.get(name)).map(member).collect();
        those.sort_by_cached_key(|member| natural(member.host.as_str()));
        let hidden = reporter.hidden().clone();
        let ask = move |question: &str| {
            let typed = prompt::hidden(question)?;
            // What is typed is never told, whatever a host makes of it.
            hidden.add([&typed], []);
            Some(typed)
        };
        Arc::new(Passwords::new(those, Box::new(ask))) as Arc<dyn Prompt>
    };
    let at_once = global.at_once();
    SshConnector::new(asks.then(asked))
        .opening(at_once)
        .keeping(limits::files().kept(at_once))
        .adapting(global.parallel.is_none().then(|| limits::files().at_once()))
        .telling(reporter.verbose() > 0)
}

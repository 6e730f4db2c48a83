//! Hosts that a person has taken out of traffic: takes a site and one of its hosts, gives the task that takes it out or back, the
//! questions by which that is seen to be so, and what is told of it.
//!
//! A host takes itself out: while a file stands on it, its front answers those who lead to it, when they ask whether it is well, that
//! it is not. So all of them stop within seconds, those that nobody reaches now and those that come later too. What is under way goes
//! on. It lasts over reloads, reboots and runs of other people, and nothing changes on any other host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{HostName, bracketed};
use crate::base::sh::quote;
use crate::base::visible;
use crate::inventory::site::{Host, Role, Site};
use crate::plan::decision::{Decided, Memory};
use crate::plan::plan::Action;
use crate::plan::said::Said;
use crate::plan::state::{Body, Digest, Drain, ObservedFleet, Phase};
use crate::plan::task::Task;
use crate::service::claims::Claims;
pub use crate::service::drained::{Mark, NAME, mark};
use crate::service::inquiry::Inquiry;
use crate::service::status::Seen;
use crate::service::{Context, Service, drained, haproxy, programs};

/// See the module.
#[derive(Debug)]
pub struct Away;

/// The file; the templates of the fronts name it too. Their workers are no root, and may look into this folder.
const MARK: &str = "/etc/nginx/infra-drained";
/// How a load balancer tells where it leads.
const EDGE: &str = "/run/haproxy/admin.sock";

impl Service for Away {
    fn name(&self) -> &'static str {
        NAME
    }

    fn inquiry(&self) -> Option<Inquiry> {
        let script = || {
            let tell = |name: &str, path: &str| {
                format!("[ -e .{path} ] && echo {name} && head -c 1000 .{path} | sed 's/^/ /' && echo\n")
            };
            tell("drained", MARK) + &tell("retired", "/var/lib/infra/retired")
        };
        let records = &["etc/nginx/infra-drained", "var/lib/infra/retired"];
        let when = "[ -e etc/nginx/infra-drained ] || [ -e var/lib/infra/retired ]";
        Some(Inquiry { records, when, script, read: drained::read, ..Inquiry::NOTHING })
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn decide(&self, site: &Site, observed: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
        let mut decided = Decided::default();
        for (name, mark) in observed.iter().filter_map(|(name, seen)| Some((name, mark(seen)?))) {
            match site.hosts.get(name).filter(|_| mark.why == WHILE) {
                // A run that was killed has left it so; a live one holds the host's lock.
                Some(host) => decided.hosts.extend(come_back(host).hosts),
                None => decided
                    .notes
                    .push(format!("{name} is drained {mark}, and stays so: `infra undrain {name}` brings it back")),
            }
        }
        Ok(decided)
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        let mut said = Said::default();
        for (host, mark) in seen.observed.iter().filter_map(|(host, observed)| Some((host, mark(observed)?))) {
            said.word(host, "drained");
            let help = format!("`infra undrain {host}` brings it back");
            said.find(Some(host), true, format!("is drained {mark}: it gets no requests"), help);
        }
        said
    }
}

/// Whether a host can be taken out of traffic at all: it is one to which others of the fleet lead.
///
/// # Errors
/// Why not, and what else there is.
pub fn admit(host: &Host) -> Result<(), Diagnostic> {
    let name = &host.name;
    if host.has(Role::Web) || host.has(Role::App) {
        return Ok(());
    }
    if host.has(Role::Lb) {
        let message = "visitors come to it by the zone of the site, and no host leads them there";
        return Err(Diagnostic::error(format!("{name} is a load balancer: {message}")).help(format!(
            "take the address of {name} out of the zone, and wait until its records are no longer remembered by resolvers (their TTL)"
        )));
    }
    Err(Diagnostic::error(format!("{name} is no web host and no app host: it takes no requests"))
        .help("a database host is left by `infra db switchover HOST`, which makes another one the writer"))
}

/// The hosts that lead to a host.
pub fn leaders<'s>(site: &'s Site, host: &Host) -> BTreeSet<&'s HostName> {
    let leads = |other: &&Host| ways(other, host).next().is_some();
    site.hosts.values().filter(leads).map(|other| &other.name).collect()
}

/// How `from` leads to `to`: where it tells that, and by what names of its backends begin.
fn ways(from: &Host, to: &Host) -> impl Iterator<Item = (String, &'static str)> {
    let edge = from.has(Role::Lb) && to.has(Role::Web);
    let inner = from.has(Role::Web) && to.has(Role::App);
    let edge = edge.then(|| (EDGE.to_owned(), "web$"));
    edge.into_iter().chain(inner.then(|| (programs::ADMIN.to_owned(), "program-")))
}

/// Takes a host out of traffic.
pub fn leave(host: &Host, mark: &Mark) -> Decided {
    let title = format!("take {} out of traffic", host.name);
    one(host, title, leave_script(mark), Some(GONE.to_owned()), format!("drained {mark}"))
}

/// sh text that takes its host out of traffic.
pub fn leave_script(mark: &Mark) -> String {
    let lines = [mark.since.to_string(), visible::line(&mark.by).into_owned(), visible::line(&mark.why).into_owned()];
    format!(
        "grep -qsF {MARK} /etc/nginx/conf.d/*.conf || {{ echo 'its front does not know yet how to be drained: run `infra apply` first'; exit 1; }}\n\
         umask 022\nprintf '%s\\n' {} >{MARK}.new && sync {MARK}.new && mv -f {MARK}.new {MARK} && sync /etc/nginx",
        lines.map(|line| quote(&line)).join(" ")
    )
}

/// sh text that takes the file away.
pub const GONE: &str = "rm -f /etc/nginx/infra-drained && sync /etc/nginx";

/// Why a host is drained by a run that changes it, and brings it back by itself.
pub const WHILE: &str = "while it changes";

/// sh text that holds where no person has put the file there.
pub const NOT_DRAINED_BY_HAND: &str =
    "[ ! -e /etc/nginx/infra-drained ] || [ \"$(sed -n 3p /etc/nginx/infra-drained)\" = 'while it changes' ]";

/// sh text that holds where the front of its host can be drained.
pub const KNOWS: &str = "grep -qsF /etc/nginx/infra-drained /etc/nginx/conf.d/*.conf";

/// Whether what a host serves others may be away for a moment by what is done on it in a phase.
pub fn serves_in(host: &Host, phase: Phase) -> bool {
    (phase == Phase::App && host.has(Role::App)) || (phase == Phase::Web && host.has(Role::Web))
}

/// Brings a host back into traffic.
pub fn come_back(host: &Host) -> Decided {
    one(host, format!("bring {} back into traffic", host.name), GONE.to_owned(), None, "not drained".to_owned())
}

/// A decision that is one task on one host. What it makes true is told by the file itself.
fn one(host: &Host, title: String, script: String, undo: Option<String>, change: String) -> Decided {
    let phase = if host.has(Role::App) { Phase::App } else { Phase::Web };
    let input = Body { text: "".into(), digest: Digest::of(b""), origin: None };
    let makes = BTreeMap::from([(format!("{NAME}/traffic"), change)]);
    let limit = Duration::from_secs(20);
    let task = Task { service: NAME, phase, title, script, input, limit, undo, makes };
    let mut decided = Decided::default();
    decided.act(&host.name, phase, Action::Perform { name: format!("{NAME}/traffic"), task });
    decided
}

/// What is asked of hosts, over and over: each answers with words as long as it is not so.
pub type Questions = BTreeMap<HostName, Vec<Drain>>;

/// Who would have nobody else to lead to than `host`.
pub fn alone(site: &Site, host: &Host) -> Questions {
    of_leaders(site, host, "alone")
}

/// Who still leads to `host`, and for whom something is still under way on it. A load balancer says that itself, as it keeps connections
/// on which nothing is; a web host keeps none, so an app host counts them.
pub fn leaving(site: &Site, host: &Host) -> Questions {
    let mut all = of_leaders(site, host, "leaving");
    if host.has(Role::App) {
        all.entry(host.name.clone()).or_default().push(held(site));
    }
    for edge in site.with_role(Role::Lb).filter(|_| host.has(Role::Web)) {
        all.entry(edge.name.clone()).or_default().push(by_former(site, host));
    }
    all
}

/// Connections to a web host that a load balancer's workers of before a reload hold.
fn by_former(site: &Site, host: &Host) -> Drain {
    let to = host.addresses.iter().map(|at| format!("dst {}:{}", bracketed(*at), site.ports.web));
    let filter = quote(&to.collect::<Vec<_>>().join(" or "));
    let (former, said) = (haproxy::FORMER, include_str!("away/former.sh"));
    Drain { service: NAME, command: format!("{former}\nfilter={filter}\n{said}") }
}

/// Who does not lead to `host` yet.
pub fn returning(site: &Site, host: &Host) -> Questions {
    of_leaders(site, host, "returning")
}

fn of_leaders(site: &Site, to: &Host, mode: &str) -> Questions {
    let mut all = Questions::new();
    for from in site.hosts.values() {
        for (socket, backends) in ways(from, to) {
            let command = format!(
                "socket={} backends={} host={} mode={mode}\n{}",
                quote(&socket),
                quote(backends),
                quote(to.name.as_str()),
                include_str!("away/leads.sh")
            );
            all.entry(from.name.clone()).or_default().push(Drain { service: NAME, command });
        }
    }
    all
}

/// Connections to an app host that are held: those that two looks have seen, as a question whether it is well is shorter than that.
fn held(site: &Site) -> Drain {
    let filter = format!("sport = :{}", site.ports.app);
    let of =
        |host: &Host| host.addresses.iter().map(|at| format!("{}={}", bracketed(*at), host.name)).collect::<Vec<_>>();
    let names: Vec<String> = site.hosts.values().flat_map(of).collect();
    let command =
        format!("filter={} names={}\n{}", quote(&filter), quote(&names.join(" ")), include_str!("away/held.sh"));
    Drain { service: NAME, command }
}

#[cfg(test)]
mod tests;

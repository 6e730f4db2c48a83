//! What the tasks of the verbs share: takes the site and what was decided, gives tasks whose scripts know the hosts by name and address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::NAME;
use super::engine::Flavor;
use super::group::Group;
use super::traffic;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::sh::quote;
use crate::inventory::site::{Database, SemiSync, Site};
use crate::plan::plan::Action;
use crate::plan::state::{Body, Digest, Phase};
use crate::plan::task::Task;
use crate::service::nginx;

/// Where a host that took part in a change keeps what came of it, a line a fact.
pub const BOOK: &str = "/var/lib/infra/db/change";

/// Where the database of `to` is reached from `from`.
pub(super) fn address(site: &Site, from: &HostName, to: &HostName) -> Option<IpAddr> {
    nginx::reach(site.hosts.get(from)?, site.hosts.get(to)?)
}

/// The same, where there has to be one.
pub(super) fn reach(site: &Site, from: &HostName, to: &HostName) -> Result<IpAddr, Diagnostic> {
    address(site, from, to)
        .ok_or_else(|| Diagnostic::error(format!("{from} and {to} have no address of the same family")))
}

/// `NAME='value'` lines of sh.
pub(super) fn assignments<'a>(values: &[(&str, impl AsRef<str> + 'a)]) -> String {
    values.iter().fold(String::new(), |text, (name, value)| text + name + "=" + &quote(value.as_ref()) + "\n")
}

/// A task of a verb. It is due whenever it is decided; what it makes is told by the databases themselves.
pub(super) fn task(name: &str, phase: Phase, title: String, script: String, limit: Duration, change: String) -> Action {
    let input = Body { text: "".into(), digest: Digest::of(b""), origin: None };
    let makes = BTreeMap::from([(format!("{NAME}/change"), change)]);
    let task = Task { service: NAME, phase, title, script, input, limit, undo: None, makes };
    Action::Perform { name: format!("{NAME}/{name}"), task }
}

/// What the scripts of a promotion are told: who `new` is, the epoch that holds, and which of `group` shall follow it besides `old`.
pub(super) fn promotion(
    site: &Site,
    database: &Database,
    group: &Group<'_>,
    new: &HostName,
    old: &HostName,
) -> Result<Vec<(&'static str, String)>, Diagnostic> {
    let epoch = group.written.as_ref().map_or(0, |written| written.epoch);
    let here = reach(site, old, new)?;
    let follows = |host: &&HostName| ![new, old].contains(host);
    let others = group.names(|member| member.server().is_some() && !member.is_fresh());
    let others = others.iter().filter(follows).map(|host| reach(site, new, host).map(|address| address.to_string()));
    let others = others.collect::<Result<Vec<_>, _>>()?.join(" ");
    let strict = if database.semi_sync == SemiSync::Strict { "yes" } else { "" };
    Ok(vec![
        ("me", new.to_string()),
        ("here", here.to_string()),
        ("old", old.to_string()),
        ("old_at", reach(site, new, old)?.to_string()),
        ("others", others),
        ("epoch", epoch.to_string()),
        ("strict", strict.to_owned()),
    ])
}

/// The whole script of a task: the dialect, what it is told, and its parts.
pub(super) fn script(flavor: Flavor, values: &[(&str, String)], parts: &[&str]) -> String {
    format!("{}{}{}", flavor.dialect(), assignments(values), parts.concat())
}

/// On each app host of `hosts`: its proxy leads the writes to `writer`, and to nobody else.
pub(super) fn traffic<'s>(
    site: &'s Site,
    writer: &'s HostName,
    seen: impl Fn(&HostName) -> bool + 's,
) -> impl Iterator<Item = (HostName, Action)> + 's {
    let script = format!(
        "{}{}",
        assignments(&[("writer", writer.as_str()), ("socket", traffic::SOCKET)]),
        include_str!("scripts/traffic.sh")
    );
    super::clients(site).filter(move |host| seen(&host.name)).map(move |host| {
        let title = format!("see that the writes of this host go to {writer}");
        let change = format!("writes to {writer}");
        (host.name.clone(), task("traffic", Phase::App, title, script.clone(), Duration::from_secs(20), change))
    })
}

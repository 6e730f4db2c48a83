//! A failover: takes the group as it is, what each host sees of the writer, and the host that shall write; gives the fence of the old
//! writer where its host can be reached, the closing of its place in the traffic, and the promotion of the replica that has received
//! most. Nothing of it is decided while anybody sees the writer alive.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::commands;
use super::engine::Flavor;
use super::group::{Group, Member};
use super::traffic;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::site::{Role, Site};
use crate::plan::decision::Decided;
use crate::plan::plan::Action;
use crate::plan::state::{ObservedFleet, Phase};

/// For how many seconds what was received may take to be carried out.
const PATIENCE: u64 = 120;

/// What one place sees of the writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Witness {
    /// Where it was looked from; `None` is the controller.
    pub place: Option<HostName>,
    /// What is seen, as a part of a sentence: `its server does not answer`.
    pub sees: String,
    /// Whether that is a sign of life. `None`: nothing was seen, as the place itself does not answer.
    pub alive: Option<bool>,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().map_or("the controller", HostName::as_str);
        write!(f, "{place}: {}", self.sees)
    }
}

/// What a db or app host is asked about the writer.
pub fn script(site: &Site, from: &HostName, old: &HostName) -> Option<String> {
    let at = commands::address(site, from, old)?.to_string();
    let at = if at.contains(':') { format!("[{at}]") } else { at };
    let values = [("old", old.as_str()), ("old_at", at.as_str()), ("socket", traffic::SOCKET)];
    Some(format!("{}{}", commands::assignments(&values), include_str!("scripts/witness.sh")))
}

/// Reads what [`script`] said on `place`.
pub fn witness(place: &HostName, said: &str) -> Witness {
    let has = |words: &str| said.lines().any(|line| line == words);
    let (sees, alive) = match (has("server answers"), has("role answers"), has("server silent")) {
        (true, ..) => ("its server answers", Some(true)),
        (_, true, _) => ("its role is answered", Some(true)),
        (_, _, true) => ("neither its server nor its role answers", Some(false)),
        _ => ("could not be asked", None),
    };
    Witness { place: Some(place.clone()), sees: sees.to_owned(), alive }
}

/// What the controller itself sees.
pub fn own_witness(group: &Group<'_>, old: &HostName) -> Witness {
    let (sees, alive) = match group.members.get(old) {
        None => ("its host does not answer".to_owned(), false),
        Some(Member { seen, now, .. }) if seen.server.is_none() => {
            let why = now.down.as_deref().unwrap_or("there is none");
            (format!("its host answers, and its server does not: {why}"), false)
        }
        Some(_) => ("its host and its server answer".to_owned(), true),
    };
    Witness { place: None, sees, alive: Some(alive) }
}

/// Who is given up: the writer that the highest epoch names, among the hosts of the inventory.
///
/// # Errors
/// When no host that answers knows who writes.
pub fn dead(site: &Site, group: &Group<'_>) -> Result<HostName, Diagnostic> {
    let written = group.written.as_ref().ok_or_else(|| {
        Diagnostic::error("no db host that answers knows who writes")
            .help("`infra db status` shows what each of them says")
    })?;
    site.with_role(Role::Db).map(|host| &host.name).find(|name| name.as_str() == written.writer).cloned().ok_or_else(
        || {
            Diagnostic::error(format!(
                "{} writes by epoch {}, and is no db host of the inventory",
                written.writer, written.epoch
            ))
        },
    )
}

/// Makes `to` the writer in place of one that is dead.
///
/// # Errors
/// While anybody sees the writer alive, while it is not seen dead from two places, and where another replica has received more.
pub fn decide(
    site: &Site,
    observed: &ObservedFleet,
    witnesses: &[Witness],
    to: &HostName,
) -> Result<Decided, Diagnostic> {
    let database = super::of(site)?;
    let group = Group::of(site, observed);
    let old = dead(site, &group)?;
    if old == *to {
        let message = format!("{to} is the writer already, by epoch {}", group.written.as_ref().map_or(0, |w| w.epoch));
        return Err(
            Diagnostic::error(message).help("`infra apply` lifts its fence when all hosts of the group agree on it")
        );
    }
    let own = own_witness(&group, &old);
    let witnesses = || witnesses.iter().chain([&own]);
    let alive: Vec<String> = witnesses().filter(|one| one.alive == Some(true)).map(ToString::to_string).collect();
    if !alive.is_empty() {
        let message = format!("{old} is alive, so nothing is failed over: {}", alive.join("; "));
        return Err(Diagnostic::error(message)
            .help(format!("`infra db switchover {to}` makes {to} the writer without losing anything")));
    }
    if witnesses().filter(|one| one.alive == Some(false)).count() < 2 {
        return Err(Diagnostic::error(format!("only one place sees that {old} is dead, which is not enough"))
            .help("run this where other db or app hosts of the inventory can be reached"));
    }
    let new = candidate(&group, to, &old)?;
    let mut decided = Decided::default();
    let flavor = Flavor::of(database, new.facts);
    let limit = Duration::from_secs(60);
    if observed.contains_key(&old) {
        let values = [("unit", flavor.unit().to_owned()), ("writer", to.to_string())];
        let script = format!("{}{}", commands::assignments(&values), include_str!("scripts/fence.sh"));
        let title = format!("stop the database server of {old}, and keep it fenced when it starts again");
        let change = format!("fenced for {to}");
        decided.act(&old, Phase::Primary, commands::task("fence", Phase::Primary, title, script, limit, change));
    }
    for (host, action) in closing(site, &old, "disable", Phase::Primary, observed) {
        decided.act(&host, Phase::Primary, action);
    }
    let mut values = commands::promotion(site, database, &group, to, &old)?;
    values.push(("patience", PATIENCE.to_string()));
    let parts = [include_str!("scripts/promote.sh"), include_str!("scripts/failover.sh")];
    let script = commands::script(flavor, &values, &parts);
    let epoch = group.written.as_ref().map_or(0, |written| written.epoch) + 1;
    let title = format!("make {to} the writer in place of {old}, which is dead, epoch {epoch}");
    let limit = Duration::from_secs(PATIENCE + 90);
    let change = format!("failover to epoch {epoch}");
    decided.act(to, Phase::Replica, commands::task("failover", Phase::Replica, title, script, limit, change));
    for (host, action) in commands::traffic(site, to, |host| observed.contains_key(host)) {
        decided.act(&host, Phase::App, action);
    }
    Ok(decided)
}

/// The replica that shall write: the one that has received most.
fn candidate<'g, 'a>(group: &'g Group<'a>, to: &HostName, old: &HostName) -> Result<&'g Member<'a>, Diagnostic> {
    let help = || "`infra db status` shows what each host has".to_owned();
    let new = group.members.get(to).filter(|member| member.server().is_some()).ok_or_else(|| {
        Diagnostic::error(format!("{to} cannot become the writer: its database server does not answer")).help(help())
    })?;
    if new.is_fresh() || new.server().is_none_or(|server| server.role.is_none()) {
        return Err(
            Diagnostic::error(format!("{to} cannot become the writer: it holds nothing of the group")).help(help())
        );
    }
    for (name, other) in group.members.iter().filter(|(name, _)| ![to, old].contains(name)) {
        if let (Some(theirs), Some(ours)) = (&other.now.received, &new.now.received)
            && !ours.reaches(theirs)
        {
            let message = format!("{name} has received more of {old} than {to}: {theirs}, and {to} only {ours}");
            return Err(Diagnostic::error(message).help(format!("`infra db failover {name}` loses less")));
        }
    }
    Ok(new)
}

/// On each app host that was seen: its proxy sends nothing to `host` any more, or again.
pub(super) fn closing<'s>(
    site: &'s Site,
    host: &'s HostName,
    verb: &'static str,
    phase: Phase,
    observed: &'s ObservedFleet,
) -> impl Iterator<Item = (HostName, Action)> + 's {
    let values = [("verb", verb), ("host", host.as_str()), ("socket", traffic::SOCKET)];
    let script = format!("{}{}", commands::assignments(&values), include_str!("scripts/close.sh"));
    let (words, change) = match verb {
        "disable" => (format!("send nothing to {host} any more"), format!("closed to {host}")),
        _ => (format!("send to {host} again, as its role says"), format!("open to {host}")),
    };
    super::clients(site).filter(|app| observed.contains_key(&app.name)).map(move |app| {
        let limit = Duration::from_secs(20);
        (app.name.clone(), commands::task("traffic", phase, words.clone(), script.clone(), limit, change.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, edit, fleet, gtid, name, server, site};
    use super::*;

    fn silent(place: &str) -> Witness {
        witness(&name(place), "server silent\nrole silent\n")
    }

    fn dead_writer() -> ObservedFleet {
        let mut fleet = fleet();
        fleet.remove(&name("db1"));
        fleet
    }

    #[test]
    fn the_replica_takes_over_when_several_places_see_the_writer_dead() {
        let (site, observed) = (site(), dead_writer());
        let decided = decide(&site, &observed, &[silent("db2"), silent("app1")], &name("db2")).unwrap();
        let done: Vec<(&str, Phase)> = decided
            .hosts
            .iter()
            .flat_map(|(host, phases)| phases.keys().map(move |phase| (host.as_str(), *phase)))
            .collect();
        // Its place is closed before another one opens.
        assert_eq!(done, [("app1", Phase::Primary), ("app1", Phase::App), ("db2", Phase::Replica)]);
    }

    #[test]
    fn a_host_that_answers_is_fenced_first() {
        let (site, mut observed) = (site(), fleet());
        sample::down(&mut observed, "db1");
        let decided = decide(&site, &observed, &[silent("db2"), silent("app1")], &name("db2")).unwrap();
        assert_eq!(decided.hosts[&name("db1")].keys().collect::<Vec<_>>(), [&Phase::Primary]);
    }

    #[test]
    fn nothing_is_failed_over_while_anybody_sees_it_alive_or_nobody_else_was_asked() {
        let (site, observed) = (site(), dead_writer());
        let alive = |said| decide(&site, &observed, &[silent("db2"), witness(&name("app1"), said)], &name("db2"));
        for said in ["server answers\nrole silent\n", "server silent\nrole answers\n"] {
            assert!(
                alive(said).unwrap_err().message.starts_with("db1 is alive, so nothing is failed over: app1: "),
                "{said}"
            );
        }
        let alone = decide(&site, &observed, &[witness(&name("app1"), "")], &name("db2")).unwrap_err();
        assert_eq!(alone.message, "only one place sees that db1 is dead, which is not enough");
        let answers = decide(&site, &fleet(), &[silent("db2"), silent("app1")], &name("db2")).unwrap_err();
        assert!(answers.message.contains("the controller: its host and its server answer"), "{}", answers.message);
    }

    #[test]
    fn who_has_received_less_is_not_promoted() {
        let (site, mut observed) = (site(), dead_writer());
        let witnesses = [silent("db2"), silent("app1")];
        edit(&mut observed, "db3", |_, now| now.received = gtid("1-101-903"));
        let error = decide(&site, &observed, &witnesses, &name("db2")).unwrap_err();
        assert_eq!(error.message, "db3 has received more of db1 than db2: 1-101-903, and db2 only 1-101-900");
        assert!(decide(&site, &observed, &witnesses, &name("db3")).is_ok());
        server(&mut observed, "db3", |server| server.role = None);
        assert!(decide(&site, &observed, &witnesses, &name("db3")).is_err());
        assert!(decide(&site, &observed, &witnesses, &name("db1")).is_err());
    }
}

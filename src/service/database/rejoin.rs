//! The way back of a former writer: takes the group as it is and the host, gives the tasks by which it follows the one that writes now,
//! where it has nothing that the writer lacks; else, by a person's word, those by which it gets a copy of the writer's data instead.

use std::time::Duration;

use super::commands;
use super::engine::Flavor;
use super::failover;
use super::group::{Group, Member, Standing};
use super::gtid::Gtid;
use super::seed;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::site::Site;
use crate::plan::decision::Decided;
use crate::plan::plan::{Action, Because};
use crate::plan::state::{Follow, ObservedFleet, Phase};

/// How a host stands that shall follow again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Its server does not run, so that nobody knows what it has.
    Start,
    /// It has nothing that the writer lacks.
    Follow,
    /// It has these transactions, which the writer lacks.
    Errant(Gtid),
}

/// Which of them it is for `host`.
///
/// # Errors
/// When it is the writer, when its server or the writer does not tell what it has, and where nobody writes.
pub fn way(site: &Site, observed: &ObservedFleet, host: &HostName) -> Result<Way, Diagnostic> {
    let group = Group::of(site, observed);
    let (writer, member) = both(&group, host)?;
    if member.server().is_none() {
        return Ok(Way::Start);
    }
    match group.errant(member, writer) {
        Some(errant) if errant.is_empty() => Ok(Way::Follow),
        Some(errant) => Ok(Way::Errant(errant)),
        None => Err(Diagnostic::error(format!("{host} or {} does not tell what it has", writer.host.name))
            .help("`infra db status` shows what each host says")),
    }
}

fn both<'g, 'a>(group: &'g Group<'a>, host: &HostName) -> Result<(&'g Member<'a>, &'g Member<'a>), Diagnostic> {
    let writer = group.writer().filter(|writer| writer.server().is_some()).ok_or_else(|| {
        Diagnostic::error("the writer does not answer, so nobody can follow it")
            .help("if it is dead, `infra db failover HOST` makes another host the writer")
    })?;
    let member = group.members.get(host).ok_or_else(|| Diagnostic::error(format!("{host} does not answer")))?;
    if writer.host.name == *host {
        let epoch = group.written.as_ref().map_or(0, |written| written.epoch);
        return Err(Diagnostic::error(format!("{host} is the writer, by epoch {epoch}: it follows nobody"))
            .help("`infra db switchover OTHER` makes another host the writer first"));
    }
    Ok((writer, member))
}

/// Whether `host` follows the writer.
pub fn follows(site: &Site, observed: &ObservedFleet, host: &HostName) -> bool {
    let group = Group::of(site, observed);
    both(&group, host).is_ok_and(|(writer, member)| group.standing(member, writer) == Standing::Follows)
}

/// Starts the server of a host, which stays fenced.
///
/// # Errors
/// As for [`way`].
pub fn start(site: &Site, observed: &ObservedFleet, host: &HostName) -> Result<Decided, Diagnostic> {
    let database = super::of(site)?;
    let group = Group::of(site, observed);
    let (_, member) = both(&group, host)?;
    let unit = Flavor::of(database, member.facts).unit().to_owned();
    let mut decided = Decided::default();
    decided.act(host, Phase::Primary, Action::Follow { unit, follow: Follow::Reload, because: Because::Down });
    Ok(decided)
}

/// Has `host` follow the writer, and the traffic come back to it.
///
/// # Errors
/// As for [`way`], and where it has something that the writer lacks.
pub fn decide(site: &Site, observed: &ObservedFleet, host: &HostName) -> Result<Decided, Diagnostic> {
    let database = super::of(site)?;
    match way(site, observed, host)? {
        Way::Follow => {}
        Way::Start => return Err(Diagnostic::error(format!("the database server of {host} does not run"))),
        Way::Errant(errant) => {
            return Err(Diagnostic::error(format!("{host} has transactions that the writer lacks: {errant}")).help(
                format!(
                    "`infra db rejoin {host} --show` shows them, `infra db rejoin {host}` gives them up by your word"
                ),
            ));
        }
    }
    let group = Group::of(site, observed);
    let (writer, member) = both(&group, host)?;
    let name = &writer.host.name;
    let epoch = group.written.as_ref().map_or(0, |written| written.epoch);
    let values = [
        ("writer", name.to_string()),
        ("writer_at", commands::reach(site, host, name)?.to_string()),
        ("epoch", epoch.to_string()),
    ];
    let script = commands::script(Flavor::of(database, member.facts), &values, &[include_str!("scripts/rejoin.sh")]);
    let mut decided = Decided::default();
    let (title, limit) = (format!("follow {name} as its replica, fenced"), Duration::from_secs(180));
    let change = format!("follows {name} since epoch {epoch}");
    decided.act(host, Phase::Replica, commands::task("rejoin", Phase::Replica, title, script, limit, change));
    open(site, observed, host, &mut decided);
    Ok(decided)
}

/// Replaces what `host` holds by a copy of the data of the group, by a person's word, and has the traffic come back to it.
///
/// # Errors
/// As for [`seed::on_command`].
pub fn replace(site: &Site, observed: &ObservedFleet, host: &HostName) -> Result<Decided, Diagnostic> {
    let mut decided = seed::on_command(site, observed, host, true)?;
    open(site, observed, host, &mut decided);
    Ok(decided)
}

/// The proxies send to `host` again.
fn open(site: &Site, observed: &ObservedFleet, host: &HostName, decided: &mut Decided) {
    for (app, action) in failover::closing(site, host, "enable", Phase::App, observed) {
        decided.act(&app, Phase::App, action);
    }
}

/// Prints the transactions of `host` that the writer lacks, as rows where the binary log has them. It changes nothing.
pub fn show(flavor: Flavor, errant: &Gtid, writer_has: &Gtid) -> String {
    let values = [("errant", errant.to_string()), ("known", writer_has.to_string())];
    let part = match errant {
        Gtid::Mariadb(_) => include_str!("scripts/show-mariadb.sh"),
        Gtid::Mysql(_) => include_str!("scripts/show-mysql.sh"),
    };
    commands::script(flavor, &values, &[part])
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, edit, fleet, gtid, name, server, site, written};
    use super::*;

    /// db2 took over from db1, which is back, fenced.
    fn after_a_failover() -> ObservedFleet {
        let mut fleet = fleet();
        server(&mut fleet, "db1", |server| server.read_only = true);
        server(&mut fleet, "db3", |server| server.role = Some(written(3, "db2")));
        edit(&mut fleet, "db2", |seen, now| {
            if let Some(server) = &mut seen.server {
                (server.read_only, server.role) = (false, Some(written(3, "db2")));
                server.sources.clear();
            }
            now.state = gtid("1-101-900,1-102-950");
        });
        fleet
    }

    #[test]
    fn it_follows_when_it_has_nothing_that_the_writer_lacks() {
        let (site, mut observed) = (site(), after_a_failover());
        assert_eq!(way(&site, &observed, &name("db1")).unwrap(), Way::Follow);
        let decided = decide(&site, &observed, &name("db1")).unwrap();
        assert_eq!(decided.hosts[&name("db1")].keys().collect::<Vec<_>>(), [&Phase::Replica]);
        assert_eq!(decided.hosts[&name("app1")].keys().collect::<Vec<_>>(), [&Phase::App]);
        sample::down(&mut observed, "db1");
        assert_eq!(way(&site, &observed, &name("db1")).unwrap(), Way::Start);
        assert!(start(&site, &observed, &name("db1")).is_ok() && decide(&site, &observed, &name("db1")).is_err());
    }

    #[test]
    fn what_it_has_besides_is_named() {
        let (site, mut observed) = (site(), after_a_failover());
        edit(&mut observed, "db1", |_, now| now.state = gtid("1-101-903"));
        assert_eq!(way(&site, &observed, &name("db1")).unwrap(), Way::Errant(gtid("1-101-903").unwrap()));
        let error = decide(&site, &observed, &name("db1")).unwrap_err();
        assert_eq!(error.message, "db1 has transactions that the writer lacks: 1-101-903");
        // By a person's word it gets a copy, and the traffic comes back after that.
        let decided = replace(&site, &observed, &name("db1")).unwrap();
        let actions = &decided.hosts[&name("db1")][&Phase::Replica];
        let [Action::Perform { task, .. }] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(task.title, "replace the data by a copy of those of db2, and follow db2");
        assert_eq!(decided.hosts[&name("app1")].keys().collect::<Vec<_>>(), [&Phase::App]);
        assert!(replace(&site, &observed, &name("db2")).unwrap_err().message.starts_with("db2 is the writer"));
    }

    #[test]
    fn the_writer_follows_nobody_and_nobody_follows_who_does_not_answer() {
        let (site, mut observed) = (site(), after_a_failover());
        assert!(way(&site, &observed, &name("db2")).unwrap_err().message.starts_with("db2 is the writer, by epoch 3"));
        sample::down(&mut observed, "db2");
        assert!(way(&site, &observed, &name("db1")).unwrap_err().message.starts_with("the writer does not answer"));
    }
}

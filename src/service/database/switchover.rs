//! A switchover: takes the group as it is and the host that shall write, gives one task on that host, which does all of it by itself, and
//! on the app hosts the proof that their writes come there.

use std::time::Duration;

use super::commands;
use super::engine::Flavor;
use super::group::Group;
use super::preflight::{self, Verdict};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::site::Site;
use crate::plan::decision::Decided;
use crate::plan::state::{ObservedFleet, Phase};

/// For how many seconds the old writer is fenced before it is put back to work.
const PATIENCE: u64 = 10;

/// Makes `to` the writer. Nothing where it is that already.
///
/// # Errors
/// What stops it: every finding of the preflight that does.
pub fn decide(site: &Site, observed: &ObservedFleet, to: &HostName) -> Result<Decided, Diagnostic> {
    let database = super::of(site)?;
    let group = Group::of(site, observed);
    if let Some(fault) = group.faults(database.engine).into_iter().next() {
        return Err(fault);
    }
    let Some(writer) = group.writer() else {
        return Err(Diagnostic::error("no host is named as the writer yet").help("`infra apply` makes the first one"));
    };
    let old = &writer.host.name;
    let mut decided = Decided::default();
    if old == to {
        return Ok(decided);
    }
    let findings = preflight::findings(site, &group, to, None);
    if let Some(stop) = findings.into_iter().find(|finding| finding.verdict == Verdict::Stop) {
        let message = format!("{to} cannot become the writer: on {}, {} is {}", stop.host, stop.setting, stop.now);
        return Err(Diagnostic::error(message).help(stop.help.unwrap_or_default()));
    }
    let Some(new) = group.members.get(to) else { return Ok(decided) };
    let mut values = commands::promotion(site, database, &group, to, old)?;
    values.push(("patience", PATIENCE.to_string()));
    let flavor = Flavor::of(database, new.facts);
    let script =
        commands::script(flavor, &values, &[include_str!("scripts/promote.sh"), include_str!("scripts/switchover.sh")]);
    let epoch = group.written.as_ref().map_or(0, |written| written.epoch);
    let title = format!("make {to} the writer in place of {old}, epoch {}", epoch + 1);
    let limit = Duration::from_secs(PATIENCE + 50);
    let change = format!("switchover to epoch {}", epoch + 1);
    decided.act(to, Phase::Primary, commands::task("switchover", Phase::Primary, title, script, limit, change));
    for (host, action) in commands::traffic(site, to, |host| observed.contains_key(host)) {
        decided.act(&host, Phase::App, action);
    }
    Ok(decided)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{edit, fleet, name, server, site};
    use super::*;
    use crate::plan::plan::Action;

    #[test]
    fn one_task_on_the_new_writer_does_it() {
        let decided = decide(&site(), &fleet(), &name("db2")).unwrap();
        let hosts: Vec<&str> = decided.hosts.keys().map(HostName::as_str).collect();
        assert_eq!(hosts, ["app1", "db2"]);
        let actions = &decided.hosts[&name("db2")][&Phase::Primary];
        let [Action::Perform { task, .. }] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(task.title, "make db2 the writer in place of db1, epoch 3");
        for line in [
            "me='db2'",
            "old='db1'",
            "old_at='10.0.4.11'",
            "here='10.0.4.12'",
            "epoch='2'",
            "others='10.0.4.13'",
            "strict=''",
        ] {
            assert!(task.script.lines().any(|one| one == line || one == line.replace('\'', "")), "{line}");
        }
        assert!(task.secrets().is_empty() && task.undo.is_none());
    }

    #[test]
    fn nothing_is_done_for_who_writes_already() {
        assert_eq!(decide(&site(), &fleet(), &name("db1")).unwrap(), Decided::default());
    }

    #[test]
    fn what_stops_it_is_said() {
        let mut fenced = fleet();
        server(&mut fenced, "db1", |server| server.read_only = true);
        let mut behind = fleet();
        edit(&mut behind, "db2", |_, now| now.heartbeat_ms = Some(60_000));
        let mut none = fleet();
        for host in ["db1", "db2", "db3"] {
            server(&mut none, host, |server| server.role = None);
        }
        for (fleet, words) in [
            (fenced, "db2 cannot become the writer: on db1, takes writes is no"),
            (behind, "db2 cannot become the writer: on db2, lag is 60.0 s"),
            (none, "no host is named as the writer yet"),
        ] {
            assert_eq!(decide(&site(), &fleet, &name("db2")).unwrap_err().message, words);
        }
    }
}

//! `db …`: who writes, who follows, and every change of that. Each verb that changes something is a decision over the whole group,
//! shown as a plan, confirmed, and carried out as `apply` does it.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;
use time::OffsetDateTime;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::work::{Consent, Work};
use super::{exit, stages};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::fleet::connect::SshConnector;
use crate::fleet::survey::{self, Survey};
use crate::fleet::{inquire, memory};
use crate::inventory::site::{self, Role, Site};
use crate::plan::decision::{Decided, Memory};
use crate::plan::state::{Desired, ObservedFleet};
use crate::report::interrupt::Interrupt;
use crate::report::{Reporter, prompt};
use crate::service::database::change::Change;
use crate::service::database::group::{Group, Member};
use crate::service::database::kept::Kept;
use crate::service::database::{self, Database, commands};
use crate::service::{Service as _, Services};

mod failover;
mod promotion;
mod rejoin;
mod rotate;
mod seed;
mod status;
mod switchover;

use promotion::Promotion;
use rejoin::Rejoin;
use seed::Seed;

/// `db …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Db {
    /// Show who writes and who follows; exits 0 all is well, 1 something is wrong, 4 a host does not answer
    Status(Inventory),
    /// Have a host copy the data of the writer and follow it; what the host holds is replaced with `--wipe` alone
    Seed(Seed),
    /// Make another host the writer; writes stop for a moment, and nothing that was acknowledged is lost
    Switchover(Promotion),
    /// Make another host the writer when the one of until now is dead, as several places see it
    Failover(Promotion),
    /// Take a former writer in again, as a replica
    Rejoin(Rejoin),
    /// Give a user, or an account of infra's own, another password; the old one holds until all who use it have the new one
    Rotate(rotate::Rotate),
}

pub(super) fn run(db: &Db, global: &Global, services: Services, reporter: &Reporter) -> Done {
    match db {
        Db::Status(inventory) => status::run(inventory, global, services, reporter),
        Db::Seed(args) => seed::run(args, global, services, reporter),
        Db::Switchover(args) => switchover::run(args, global, services, reporter),
        Db::Failover(args) => failover::run(args, global, services, reporter),
        Db::Rejoin(args) => rejoin::run(args, global, services, reporter),
        Db::Rotate(rotate) => rotate::run(rotate, global, services, reporter),
    }
}

/// What is left of a verb that was stopped, where it lasts until somebody goes on with it.
pub(super) fn remind(site: &Site, reporter: &Reporter) -> Result<(), Stop> {
    rotate::remind(site, reporter)
}

/// The inventory's database; refused where it has none.
fn database(site: &Site) -> Result<&site::Database, Stop> {
    database::of(site).map_err(|error| {
        Stop::Refused(
            error.message,
            vec!["name its engine and first writer: `database: { engine: mariadb, primary: HOST }`".to_owned()],
        )
    })
}

/// The names of all hosts of the group.
fn group(site: &Site) -> BTreeSet<HostName> {
    site.with_role(Role::Db).map(|host| host.name.clone()).collect()
}

/// The same with the app hosts, whose proxies lead to them.
fn group_and_apps(site: &Site) -> BTreeSet<HostName> {
    database::clients(site).map(|host| host.name.clone()).chain(group(site)).collect()
}

/// Refuses a host that is not of the group.
fn of_group(site: &Site, host: &HostName) -> Result<(), Stop> {
    let all = group(site);
    if all.contains(host) {
        return Ok(());
    }
    let names: Vec<&str> = all.iter().map(HostName::as_str).collect();
    Err(Stop::Refused(format!("`{host}` is no database host"), vec![format!("database hosts: {}", names.join(", "))]))
}

/// How a person agrees to a verb.
fn consent(dry_run: bool, yes: bool, question: &str) -> Consent<'_> {
    match (dry_run, yes) {
        (true, _) => Consent::DryRun,
        (_, true) => Consent::Given,
        _ => Consent::Asked(question),
    }
}

/// Refuses a name that is not that of the host whose data are given up; `command` is what would do it.
fn names_it(host: &HostName, named: Option<&HostName>, command: &str) -> Result<(), Stop> {
    match named.filter(|name| *name != host) {
        None => Ok(()),
        Some(other) => Err(Stop::Refused(
            format!("`{other}` is not the host whose data are given up, which is `{host}`"),
            vec![format!("write `{command} --yes-wipe {host}`, if that is what you want")],
        )),
    }
}

/// How a person gives up what `host` holds: by its name, which they type where they have not `named` it in the command.
fn giving_up<'c>(host: &'c HostName, named: bool, question: &'c str) -> Result<Consent<'c>, Stop> {
    match named {
        true => Ok(Consent::Given),
        false if prompt::possible() => Ok(Consent::Typed(question, host.as_str())),
        false => Err(Stop::Refused(
            prompt::NoTerminal.to_string(),
            vec![format!("add `--yes-wipe {host}` to give up what it holds without being asked")],
        )),
    }
}

/// Has what `decide` gives over the group and the app hosts shown, agreed to, and carried out. Those that are away have no part in it.
fn carry_out(
    work: &mut Work<'_>,
    consent: Consent<'_>,
    decide: impl Fn(&Site, &ObservedFleet, &Memory) -> Result<Decided, Diagnostic> + Send + Sync + 'static,
) -> Done {
    let looked = work.look(&group_and_apps(work.site), true)?;
    for (host, why) in &looked.away {
        work.reporter.note(&format!("{host} has no part in this: it {why}"));
    }
    work.decided_by(looked, database::NAME, decide, consent)
}

/// A look at hosts for a verb of the databases: nothing is wanted there, and nothing is kept.
struct Look<'a> {
    site: &'a Site,
    services: Services,
    connector: SshConnector,
    parallel: usize,
    reporter: &'a Reporter,
}

impl<'a> Look<'a> {
    fn new(site: &'a Site, global: &Global, services: Services, reporter: &'a Reporter) -> Self {
        let connector = stages::connector((reporter, global), site, &group_and_apps(site));
        Self { site, services, connector, parallel: global.at_once(), reporter }
    }

    fn at(&self, hosts: &BTreeSet<HostName>) -> Survey {
        let asked = hosts.iter().filter_map(|name| self.site.hosts.get(name));
        self.reporter.during(&Interrupt::default(), |events| {
            survey::ask(self.services, asked, (&Desired::new(), None), &self.connector, self.parallel, &events)
        })
    }

    fn ask(
        &self,
        survey: &mut Survey,
        title: &str,
        script: impl Fn(&HostName) -> Option<String>,
    ) -> BTreeMap<HostName, Result<String, String>> {
        inquire::each(&mut survey.sessions, self.parallel, title, script)
    }

    /// What came of a change that made `writer` the writer, as it has written that down; this controller remembers it from then on,
    /// and who was given up by it. Nothing where it is not the writer.
    fn change_of(&self, writer: &HostName, given_up: Option<&HostName>) -> Result<Option<Change>, Stop> {
        let mut survey = self.at(&BTreeSet::from([writer.clone()]));
        let observed = std::mem::take(&mut survey.observed);
        let group = Group::of(self.site, &observed);
        let epoch = group.written.as_ref().map_or(0, |written| written.epoch);
        if group.writer().is_none_or(|member| member.host.name != *writer) {
            return Ok(None);
        }
        let script = |host: &HostName| (host == writer).then(|| format!("cat {}", commands::BOOK));
        let told = self.ask(&mut survey, "read what came of it", script);
        let change = told.into_values().next().and_then(Result::ok).map(|told| Change::read(self.site, &told));
        let change = change.filter(|change| change.epoch == epoch);
        if change.is_some() {
            self.keep(|kept| {
                (kept.epoch, kept.writer) = (epoch, Some(writer.clone()));
                kept.closed.extend(given_up.cloned());
            })?;
        }
        Ok(change)
    }

    /// Whether the host that is named as the writer takes no writes: what a change of the writer leaves that did not come to its end.
    fn has_fenced_writer(&self) -> bool {
        let observed = self.at(&group(self.site)).observed;
        let group = Group::of(self.site, &observed);
        group.writer().and_then(Member::server).is_some_and(|server| server.read_only)
    }

    /// Has the writer that the databases name take writes, and the others follow it, as the next `apply` would.
    fn put_right(&self, work: &mut Work<'_>, consent: Consent<'_>) -> Done {
        self.reporter
            .note("the host that is named as the writer takes no writes, as an earlier change did not come to its end");
        carry_out(work, consent, |site, observed, memory| {
            match site.with_role(Role::Db).find(|host| !observed.contains_key(&host.name)) {
                Some(missed) => {
                    Err(Diagnostic::error(format!("{} was not seen, and may know of another writer", missed.name))
                        .help("run this again when all database hosts answer"))
                }
                None => Database.decide(site, observed, memory),
            }
        })
    }

    /// Brings to the proxies of the app hosts that answer to which hosts nothing is sent, as this controller remembers it by now: it holds
    /// for their next start too, and no `apply` is due for it.
    fn bring_places(&self, work: &Work<'_>) -> Done {
        let apps = database::clients(self.site).map(|host| host.name.clone()).collect();
        let there: BTreeSet<HostName> = self.at(&apps).observed.into_keys().collect();
        let behind: Vec<&str> = apps.difference(&there).map(HostName::as_str).collect();
        if !behind.is_empty() {
            self.reporter.note(&format!("`infra apply` brings that to {} once it answers", behind.join(", ")));
        }
        if there.is_empty() {
            return Ok(exit::DONE);
        }
        let outcome = work.part(&there, "places", database::traffic::brings_places)?;
        work.end(outcome, exit::of)
    }

    /// What this controller remembers of the group.
    fn kept(&self) -> Result<Kept, Stop> {
        Ok(Kept::of(&memory::kept(self.site, self.services, OffsetDateTime::now_utc())?)?)
    }

    /// Has this controller remember what was seen to be done.
    fn keep(&self, change: impl FnOnce(&mut Kept)) -> Result<(), Stop> {
        let mut kept = self.kept()?;
        change(&mut kept);
        Ok(memory::keep(self.site, &BTreeMap::from([(database::NAME, serde_json::to_value(&kept)?)]))?)
    }
}

//! The group of databases as a person asks for it: takes what was seen on the db hosts, what the inventory says and what the controller
//! remembers, gives each host's state, and what is wrong, with the way out. Pure.

use std::collections::BTreeMap;

use super::group::{Group, Member, Standing};
use super::kept::Kept;
use super::own;
use super::preflight::milliseconds;
use super::seen::Now;
use crate::base::net::HostName;
use crate::base::words::count;
use crate::inventory::site::{Database, Engine, Role, Site};
use crate::plan::state::ObservedFleet;
use crate::service::certificates::clock;
use schemars::JsonSchema;
use serde::Serialize;

/// What a host is in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// It writes, as the databases say.
    Writer,
    /// It follows the writer.
    Replica,
    /// It holds something, and follows nobody of the group.
    Apart,
    /// Nothing is there yet.
    Empty,
    /// Its server does not answer.
    Down,
    /// It does not answer.
    Away,
}

impl Part {
    /// As a person says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Replica => "replica",
            Self::Apart => "apart",
            Self::Empty => "empty",
            Self::Down => "down",
            Self::Away => "away",
        }
    }
}

/// A db host as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostView {
    /// Its name.
    pub host: HostName,
    /// What it is.
    pub part: Part,
    /// As the server says.
    pub version: Option<String>,
    /// Whether it is fenced: takes no writes.
    pub fenced: Option<bool>,
    /// The epoch of its copy of `infra.role`.
    pub epoch: Option<u64>,
    /// Who writes, as that copy says.
    pub names: Option<String>,
    /// Whom it follows: a host of the group, or an address.
    pub follows: Option<String>,
    /// The thread that receives: `Yes`, `No`, `Connecting`.
    pub receiving: Option<String>,
    /// The thread that applies: `Yes` or `No`.
    pub applying: Option<String>,
    /// What stopped one of them, or holds it up: number and words of the server.
    pub error: Option<String>,
    /// Milliseconds since the last heartbeat of the writer that has come here.
    pub lag_ms: Option<i64>,
    /// What it has carried out, by GTID.
    pub executed: Option<String>,
    /// What it has received, where that is more.
    pub received: Option<String>,
    /// What it has and the writer lacks, by GTID.
    pub errant: Option<String>,
    /// Whether its commits wait for a replica now.
    pub semi_sync: Option<bool>,
    /// Replicas that acknowledge.
    pub semi_sync_clients: Option<u64>,
    /// Days until its certificate ends.
    pub tls_days: Option<i64>,
    /// Sessions of users.
    pub sessions: Option<u64>,
    /// Bytes of its tables.
    pub size: Option<u64>,
    /// Free bytes in the data folder.
    pub free: Option<u64>,
    /// Binary logs: how many.
    pub binlogs: Option<u64>,
    /// Their bytes.
    pub binlog_bytes: Option<u64>,
    /// When the oldest one ended, seconds since 1970.
    pub binlogs_since: Option<i64>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trouble {
    /// Where; `None`: the group as a whole.
    pub host: Option<HostName>,
    /// A sentence.
    pub what: String,
    /// The way out.
    pub help: String,
    /// Whether the database serves in spite of it, as it should.
    pub minor: bool,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct View {
    /// The engine's name.
    pub engine: String,
    /// The host that the highest epoch names.
    pub writer: Option<String>,
    /// That epoch.
    pub epoch: Option<u64>,
    /// Since when, UTC.
    pub since: Option<String>,
    /// The inventory's first writer.
    pub primary: HostName,
    /// By name.
    pub hosts: Vec<HostView>,
    /// The worst first.
    pub troubles: Vec<Trouble>,
}

impl View {
    /// Of the hosts that were seen; `away` says why others were not.
    pub fn of(
        site: &Site,
        database: &Database,
        observed: &ObservedFleet,
        away: &BTreeMap<HostName, String>,
        kept: &Kept,
        now: i64,
    ) -> Self {
        let group = Group::of(site, observed);
        let hosts = site.with_role(Role::Db).map(|host| {
            group.members.get(&host.name).map_or_else(|| HostView::away(&host.name), |member| view(&group, member, now))
        });
        let hosts: Vec<HostView> = hosts.collect();
        let written = group.written.as_ref();
        let mut troubles = Troubles(Vec::new());
        troubles.group(database, &group, &hosts, kept);
        let writer = written.map(|written| written.writer.as_str());
        let is_silent = |host: &&HostView| matches!(host.part, Part::Away | Part::Down);
        let silent = hosts.iter().filter(is_silent).map(|host| host.host.as_str()).find(|name| Some(*name) == writer);
        let around = Around { database, group: &group, away, alone: hosts.len() == 1, silent };
        for host in &hosts {
            troubles.host(&around, host);
        }
        for member in group.members.values() {
            troubles.settings(site, database, member, kept);
        }
        troubles.0.sort_by_key(|trouble| trouble.minor);
        Self {
            engine: if database.engine == Engine::Mysql { "MySQL" } else { "MariaDB" }.to_owned(),
            writer: written.map(|written| written.writer.clone()),
            epoch: written.map(|written| written.epoch),
            since: written.map(|written| written.since.clone()),
            primary: database.primary.clone(),
            hosts,
            troubles: troubles.0,
        }
    }

    /// Whether all is as it should be.
    pub fn good(&self) -> bool {
        self.troubles.iter().all(|trouble| trouble.minor)
    }
}

impl HostView {
    fn away(host: &HostName) -> Self {
        Self {
            host: host.clone(),
            part: Part::Away,
            version: None,
            fenced: None,
            epoch: None,
            names: None,
            follows: None,
            receiving: None,
            applying: None,
            error: None,
            lag_ms: None,
            executed: None,
            received: None,
            errant: None,
            semi_sync: None,
            semi_sync_clients: None,
            tls_days: None,
            sessions: None,
            size: None,
            free: None,
            binlogs: None,
            binlog_bytes: None,
            binlogs_since: None,
        }
    }
}

fn view(group: &Group<'_>, member: &Member<'_>, now: i64) -> HostView {
    let mut view = HostView { part: Part::Down, ..HostView::away(&member.host.name) };
    view.free = (member.now.free > 0).then_some(member.now.free);
    if let Some((count, bytes, since)) = member.now.binlogs {
        (view.binlogs, view.binlog_bytes, view.binlogs_since) = (Some(count), Some(bytes), Some(since));
    }
    let Some(server) = member.server() else {
        if member.is_fresh() && member.now.down.is_none() {
            view.part = Part::Empty;
        }
        return view;
    };
    let writer = group.writer();
    view.part = match writer {
        Some(writer) if writer.host.name == member.host.name => Part::Writer,
        Some(writer) => match group.standing(member, writer) {
            Standing::Follows | Standing::FollowsOtherwise => Part::Replica,
            Standing::Fresh => Part::Empty,
            _ => Part::Apart,
        },
        None if member.is_fresh() => Part::Empty,
        None if group.follows_unseen(member) => Part::Replica,
        None => Part::Apart,
    };
    view.version = Some(server.version.clone());
    view.fenced = Some(server.read_only);
    (view.epoch, view.names) = server.role.as_ref().map(|role| (role.epoch, role.writer.clone())).unzip();
    view.follows = server
        .sources
        .first()
        .map(|source| group.named(&source.host).map_or_else(|| source.host.clone(), HostName::to_string));
    (view.receiving, view.applying) =
        member.now.threads.first().map(|threads| (threads.io.clone(), threads.sql.clone())).unzip();
    view.error = member.error().map(|(number, words)| format!("{number}: {words}"));
    view.executed = member.now.executed.as_ref().map(ToString::to_string);
    view.received = match (&member.now.received, &member.now.executed) {
        (Some(received), Some(executed)) if !executed.reaches(received) => Some(received.to_string()),
        _ => None,
    };
    if view.part == Part::Writer {
        (view.semi_sync, view.semi_sync_clients) = (Some(member.now.semi_sync), Some(member.now.semi_sync_clients));
    } else {
        view.lag_ms = member.now.heartbeat_ms;
        view.errant = writer
            .and_then(|writer| group.errant(member, writer))
            .filter(|gtid| !gtid.is_empty())
            .map(|gtid| gtid.to_string());
    }
    view.tls_days = member.now.tls_until.as_deref().and_then(clock).map(|end| (end - now).div_euclid(86_400));
    (view.sessions, view.size) = (Some(member.now.sessions), Some(member.now.size));
    view
}

/// Days before the end of a certificate from which on that is told.
const DAYS: i64 = 14;
/// Free bytes below which that is told.
const FREE: u64 = 512 << 20;

/// What the looks at one host need to know of the others.
struct Around<'a> {
    database: &'a Database,
    group: &'a Group<'a>,
    away: &'a BTreeMap<HostName, String>,
    /// Whether there is no other database host.
    alone: bool,
    /// The writer's name, where its host or its server does not answer.
    silent: Option<&'a str>,
}

struct Troubles(Vec<Trouble>);

impl Troubles {
    fn add(&mut self, host: Option<&HostName>, minor: bool, what: impl Into<String>, help: impl Into<String>) {
        self.0.push(Trouble { host: host.cloned(), what: what.into(), help: help.into(), minor });
    }

    fn group(&mut self, database: &Database, group: &Group<'_>, hosts: &[HostView], kept: &Kept) {
        for fault in group.contradictions(database.engine) {
            self.add(None, false, fault.message.clone(), fault.help.join("; "));
        }
        let open: Vec<&str> =
            hosts.iter().filter(|host| host.fenced == Some(false)).map(|host| host.host.as_str()).collect();
        if open.len() > 1 {
            let help = "`infra apply` fences all but the one that the highest epoch names, when all hosts answer";
            self.add(None, false, format!("{} take writes: {}", count(open.len(), "host"), open.join(", ")), help);
        }
        let Some(written) = &group.written else {
            let help = format!("`infra apply` makes {} the first writer", database.primary);
            return self.add(None, false, "nobody is named as the writer", help);
        };
        if !open.contains(&written.writer.as_str()) {
            let others: Vec<&str> =
                hosts.iter().filter(|host| host.part == Part::Replica).map(|host| host.host.as_str()).collect();
            let dead = hosts
                .iter()
                .any(|host| host.host.as_str() == written.writer && matches!(host.part, Part::Away | Part::Down));
            let help = match (dead, others.first()) {
                (true, Some(other)) => {
                    format!("bring {} back, or, if it is dead: `infra db failover {other}`", written.writer)
                }
                (true, None) => format!("bring {} back", written.writer),
                (false, _) => "`infra apply` lifts its fence, when all hosts of the group agree".to_owned(),
            };
            self.add(
                None,
                false,
                format!("nobody takes writes: {} is to, by epoch {}", written.writer, written.epoch),
                help,
            );
        }
        if written.writer != database.primary.as_str() {
            let help = format!(
                "set `database.primary: {}` in the inventory, or `infra db switchover {}`; apply changes nothing about it",
                written.writer, database.primary
            );
            let what =
                format!("the inventory names {} as the first writer, and {} writes", database.primary, written.writer);
            self.add(None, true, what, help);
        }
        let known = kept.writer.as_ref().map(HostName::as_str);
        if kept.epoch > written.epoch {
            let what = format!(
                "this controller remembers that {} wrote in epoch {}, and no host that answers knows of it",
                known.unwrap_or("another host"),
                kept.epoch
            );
            let help = "bring the host back that was the writer then; if its data is gone, `infra apply` goes on with what the databases say";
            self.add(None, true, what, help);
        } else if kept.epoch < written.epoch && kept.epoch > 0 && known != Some(written.writer.as_str()) {
            let what =
                format!("the writer was changed without this controller, which remembers {}", known.unwrap_or("none"));
            self.add(None, true, what, "nothing to do: the databases say who writes, and `infra apply` remembers it");
        }
    }

    fn host(&mut self, around: &Around<'_>, view: &HostView) {
        let Around { group, away, .. } = *around;
        let host = Some(&view.host);
        match view.part {
            Part::Away => {
                let why = away.get(&view.host).map_or("does not answer", String::as_str);
                self.add(host, false, why, format!("see to {}", view.host));
            }
            Part::Down => {
                let why = group.members.get(&view.host).and_then(|member| member.now.down.as_deref());
                let what = format!("its database server does not answer: {}", why.unwrap_or("there is none"));
                self.add(host, false, what, "`infra apply` starts it; its log says why it ended");
            }
            Part::Empty => self.add(host, false, "holds nothing yet", "`infra apply` seeds it"),
            Part::Apart => {
                let what = match &view.follows {
                    Some(source) => format!("follows {source}, which is not the writer"),
                    None => "holds data, and follows nobody".to_owned(),
                };
                let help = format!("`infra db rejoin {}`", view.host);
                self.add(host, false, what, help);
            }
            Part::Replica => self.replica(around, view),
            Part::Writer => {
                // Where no other host is, there is nobody to wait for: `check` has said so.
                if view.semi_sync == Some(false) && !around.alone {
                    let help = "it goes on again by itself when a replica acknowledges; `infra apply` switches it on where it is off";
                    self.add(
                        host,
                        false,
                        "commits wait for no replica: a crash could lose what was acknowledged",
                        help,
                    );
                }
            }
        }
        if let Some(errant) = &view.errant {
            let help =
                format!("`infra db rejoin {} --show` shows them; `infra db seed {0} --wipe` gives them up", view.host);
            self.add(host, false, format!("it has transactions that the writer lacks: {errant}"), help);
        }
        if let Some(days) = view.tls_days.filter(|days| *days < DAYS) {
            self.add(host, days >= 0, format!("its certificate ends in {}", count(days, "day")), "`infra cert renew`");
        }
        if let Some(member) = group.members.get(&view.host) {
            self.past_the_fence(view, &member.now);
        }
        if let Some(free) = view.free.filter(|free| *free < FREE) {
            let what = format!("its data folder has {} left", super::preflight::bytes(free));
            self.add(host, false, what, "make room, or give it a larger disk");
        }
    }

    /// What a server runs with, or would be started with, in place of what infra has written.
    fn settings(&mut self, site: &Site, database: &Database, member: &Member<'_>, kept: &Kept) {
        let host = Some(&member.host.name);
        for one in own::overruled(site, database, member, kept) {
            self.add(host, false, one.what, one.help);
        }
        for one in own::changed(site, database, member, kept) {
            let help = one.stays.clone().unwrap_or_else(|| "`infra apply` sets it back".to_owned());
            self.add(host, false, format!("its server runs with {}, as somebody has told it", one.words()), help);
        }
    }

    /// Who and what could write on a host while it is fenced.
    fn past_the_fence(&mut self, view: &HostView, now: &Now) {
        let host = Some(&view.host);
        if !now.unfenced.is_empty() {
            let what = format!("a fence does not hold {}", now.unfenced.join(", "));
            let help = "a program that logs in so could write on a replica: take SUPER and READ ONLY ADMIN from it (`REVOKE`), on the writer";
            self.add(host, true, what, help);
        }
        // On the writer they are where they belong.
        if view.part != Part::Writer && !now.events.is_empty() {
            let named: Vec<String> =
                now.events.iter().map(|event| format!("{} (as {})", event.name, event.definer)).collect();
            let runs = if now.schedules { "and are carried out" } else { "though none is carried out now" };
            let what = format!("these events are enabled on a host that does not write, {runs}: {}", named.join(", "));
            let help = "`ALTER EVENT … DISABLE ON SLAVE` there, with `SET sql_log_bin = 0` before it: an event whose definer passes the fence writes what nobody else has";
            self.add(host, true, what, help);
        }
    }

    fn replica(&mut self, around: &Around<'_>, view: &HostView) {
        let host = Some(&view.host);
        let applies = view.applying.as_deref() == Some("Yes");
        let runs = view.receiving.as_deref() == Some("Yes") && applies;
        match &view.error {
            // From a writer that does not answer nothing can be received, and that is told once.
            _ if around.silent.is_some() && applies => {}
            Some(error) => {
                let help =
                    format!("`infra apply` starts it again; an error that stays: `infra db seed {} --wipe`", view.host);
                self.add(host, false, format!("replication has error {error}"), help);
            }
            None if !runs => self.add(host, false, "replication does not run", "`infra apply` starts it"),
            None => {}
        }
        if view.fenced == Some(false) {
            self.add(host, false, "takes writes though it is a replica", "`infra apply` fences it");
        }
        let most = i64::try_from(around.database.max_lag.as_millis()).unwrap_or(i64::MAX);
        if let Some(ms) = view.lag_ms.filter(|ms| *ms > most) {
            let what = format!("is {} behind, and reads leave it from {}", milliseconds(ms), milliseconds(most));
            let help = match around.silent {
                Some(writer) => format!("it goes on when {writer} answers, or another host writes"),
                None => "wait; a replica that stays behind needs a faster disk, or fewer writes".to_owned(),
            };
            self.add(host, false, what, help);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::sample::{self, edit, fleet, gtid, name, nothing, server, site, written};
    use super::*;

    /// As `db status` makes it.
    pub(crate) fn of(fleet: &ObservedFleet, kept: &Kept) -> View {
        let site = site();
        let away = site.with_role(Role::Db).filter(|host| !fleet.contains_key(&host.name));
        let away = away.map(|host| (host.name.clone(), "cannot be reached: no route to host".to_owned())).collect();
        let database = site.database.as_ref().unwrap_or_else(|| panic!("no database"));
        View::of(&site, database, fleet, &away, kept, 1_795_000_000)
    }

    #[test]
    fn a_group_that_is_well_has_no_trouble() {
        let view = of(&fleet(), &nothing());
        assert!(view.good() && view.troubles.is_empty(), "{:?}", view.troubles);
        let parts: Vec<Part> = view.hosts.iter().map(|host| host.part).collect();
        assert_eq!(parts, [Part::Writer, Part::Replica, Part::Replica]);
        assert_eq!((view.hosts[1].follows.as_deref(), view.hosts[1].lag_ms), (Some("db1"), Some(400)));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_way_out() {
        type Change = fn(&mut ObservedFleet);
        let cases: [(&str, &str, Change); 11] = [
            ("2 hosts take writes: db1, db2", "infra apply", |fleet| server(fleet, "db2", |s| s.read_only = false)),
            ("nobody takes writes: db1 is to, by epoch 2", "infra db failover db2", |fleet| sample::down(fleet, "db1")),
            ("nobody takes writes: db1 is to, by epoch 2", "infra apply", |fleet| {
                server(fleet, "db1", |s| s.read_only = true);
            }),
            ("db3 cannot be reached", "see to db3", |fleet| drop(fleet.remove(&name("db3")))),
            ("db2 replication has error 1062: Duplicate entry", "infra db seed db2 --wipe", |fleet| {
                edit(fleet, "db2", |_, now| {
                    now.threads.iter_mut().for_each(|one| one.sql_error = Some((1062, "Duplicate entry".into())));
                });
            }),
            ("db2 replication does not run", "infra apply", |fleet| {
                edit(fleet, "db2", |_, now| now.threads.iter_mut().for_each(|one| one.io = "No".into()));
            }),
            ("db2 is 60.0 s behind", "wait", |fleet| edit(fleet, "db2", |_, now| now.heartbeat_ms = Some(60_000))),
            ("db1 commits wait for no replica", "infra apply", |fleet| {
                edit(fleet, "db1", |_, now| now.semi_sync = false);
            }),
            ("db2 it has transactions that the writer lacks: 1-102-901", "--show", |fleet| {
                edit(fleet, "db2", |_, now| now.state = gtid("1-101-900,1-102-901"));
            }),
            ("db2 holds data, and follows nobody", "infra db rejoin db2", |fleet| {
                server(fleet, "db2", |s| s.sources.clear());
            }),
            ("db2 its data folder has 1000 B left", "make room", |fleet| edit(fleet, "db2", |_, now| now.free = 1000)),
        ];
        for (what, help, change) in cases {
            let mut fleet = fleet();
            change(&mut fleet);
            let view = of(&fleet, &nothing());
            let told: Vec<String> = view
                .troubles
                .iter()
                .map(|one| {
                    format!(
                        "{}{} | {}",
                        one.host.as_ref().map_or_else(String::new, |host| format!("{host} ")),
                        one.what,
                        one.help
                    )
                })
                .collect();
            assert!(told.iter().any(|one| one.starts_with(what) && one.contains(help)), "{what}: {told:?}");
            assert!(!view.good(), "{what}");
        }
    }

    #[test]
    fn a_dead_writer_is_told_once_with_the_way_out() {
        type Dies = fn(&mut ObservedFleet);
        let cannot = |now: &mut Now| {
            now.heartbeat_ms = Some(90_000);
            now.threads.iter_mut().for_each(|one| {
                (one.io, one.io_error) = ("Connecting".into(), Some((2003, "Can't connect to server".into())));
            });
        };
        let away = ["db1: cannot be reached: no route to host"];
        let down = ["db1: its database server does not answer: it does not run"];
        let cases: [(&[&str], Dies); 2] =
            [(&away, |fleet| drop(fleet.remove(&name("db1")))), (&down, |fleet| sample::down(fleet, "db1"))];
        for (its, dies) in cases {
            let mut fleet = fleet();
            edit(&mut fleet, "db2", |_, now| cannot(now));
            edit(&mut fleet, "db3", |_, now| cannot(now));
            dies(&mut fleet);
            let view = of(&fleet, &nothing());
            let parts: Vec<Part> = view.hosts.iter().skip(1).map(|host| host.part).collect();
            assert_eq!(parts, [Part::Replica, Part::Replica]);
            assert_eq!(view.hosts[1].follows.as_deref(), Some("db1"));
            let told = view.troubles.iter().map(|one| match &one.host {
                Some(host) => format!("{host}: {}", one.what),
                None => format!("{} | {}", one.what, one.help),
            });
            let dead = "nobody takes writes: db1 is to, by epoch 2 | bring db1 back, or, if it is dead: `infra db failover db2`";
            let behind = ["db2", "db3"].map(|host| format!("{host}: is 90.0 s behind, and reads leave it from 10.0 s"));
            let wanted: Vec<String> = [dead].iter().chain(its).map(ToString::to_string).chain(behind).collect();
            assert_eq!(told.collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn a_database_host_alone_waits_for_nobody() {
        let text = "name: shop\nhosts:\n  db1: { address: 10.0.4.11, roles: [db] }\nfirewall: { manage_from: [10.0.0.0/24] }\n\
                    database: { engine: mariadb, primary: db1, schemas: [shop] }\n";
        let site = crate::inventory::load::load_text(text, "shop.yml".as_ref()).unwrap().0;
        let mut fleet = fleet();
        fleet.retain(|host, _| host.as_str() == "db1");
        edit(&mut fleet, "db1", |_, now| (now.semi_sync, now.semi_sync_clients) = (false, 0));
        let database = site.database.as_ref().unwrap();
        let view = View::of(&site, database, &fleet, &BTreeMap::new(), &nothing(), 1_795_000_000);
        assert!(view.good() && view.troubles.is_empty(), "{:?}", view.troubles);
    }

    #[test]
    fn a_copy_that_writes_does_not_know_who_wrote_before_it() {
        // db2 began as a copy after 500, and db1 has come past what db3 wrote before that.
        for (theirs, reached, errant) in [
            ("1-103-400,1-101-900", "1-101-900", None),
            ("1-103-400,1-104-600,1-101-900", "1-101-900", None),
            ("1-103-950", "1-103-950", Some("1-103-950")),
            ("1-103-400,1-102-901", "1-102-901", Some("1-102-901,1-103-400")),
            ("2-103-400,1-101-900", "1-101-900,2-103-400", Some("2-103-400")),
        ] {
            let mut fleet = fleet();
            edit(&mut fleet, "db2", |_, now| (now.state, now.executed) = (gtid(theirs), gtid(reached)));
            let view = of(&fleet, &nothing());
            assert_eq!(view.hosts[1].errant.as_deref(), errant, "{theirs} {reached}");
        }
    }

    #[test]
    fn what_passes_a_fence_is_told_and_is_no_failure() {
        let mut fleet = fleet();
        let event = || super::super::seen::Scheduled { name: "shop.tidy".into(), definer: "root@localhost".into() };
        edit(&mut fleet, "db1", |_, now| (now.unfenced, now.events) = (vec!["'ann'@'%'".into()], vec![event()]));
        edit(&mut fleet, "db2", |_, now| (now.events, now.schedules) = (vec![event()], true));
        let view = of(&fleet, &nothing());
        let told: Vec<(Option<&str>, &str)> =
            view.troubles.iter().map(|one| (one.host.as_ref().map(HostName::as_str), one.what.as_str())).collect();
        let events = "these events are enabled on a host that does not write, and are carried out: shop.tidy (as root@localhost)";
        assert_eq!(told, [(Some("db1"), "a fence does not hold 'ann'@'%'"), (Some("db2"), events)]);
        assert!(view.good());
    }

    #[test]
    fn who_disagrees_is_told_and_is_no_failure() {
        let mut other = fleet();
        for host in ["db1", "db2", "db3"] {
            server(&mut other, host, |server| server.role = Some(written(3, "db2")));
        }
        server(&mut other, "db1", |server| {
            (server.read_only, server.sources) = (true, vec![sample::source("10.0.4.12")]);
        });
        server(&mut other, "db3", |server| server.sources = vec![sample::source("10.0.4.12")]);
        server(&mut other, "db2", |server| (server.read_only, server.sources) = (false, Vec::new()));
        edit(&mut other, "db2", |_, now| now.semi_sync = true);
        edit(&mut other, "db1", |_, now| {
            now.threads =
                vec![super::super::seen::Threads { io: "Yes".into(), sql: "Yes".into(), ..Default::default() }];
        });
        let kept = Kept { epoch: 2, writer: Some(name("db1")), ..nothing() };
        let view = of(&other, &kept);
        assert!(view.good(), "{:?}", view.troubles);
        let told: Vec<&str> = view.troubles.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(
            told,
            [
                "the inventory names db1 as the first writer, and db2 writes",
                "the writer was changed without this controller, which remembers db1",
            ]
        );
        let ahead = of(&fleet(), &Kept { epoch: 7, writer: Some(name("db3")), ..nothing() });
        assert!(
            ahead
                .troubles
                .iter()
                .any(|one| one.what.starts_with("this controller remembers that db3 wrote in epoch 7"))
        );
    }
}

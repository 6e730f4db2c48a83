//! What is to be done in the group: takes the site, the group as it is and what the controller remembers, gives tasks by host and phase.
//! Who writes is what the highest epoch in the databases says; nothing here changes it. What is somebody's data is never touched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::NAME;
use super::engine::{self, Flavor};
use super::group::{Group, Member, Standing};
use super::gtid::Gtid;
use super::kept::Kept;
use super::preflight::milliseconds;
use super::seed;
use super::seen::Source;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::sh::quote;
use crate::inventory::site::{Database, Site};
use crate::plan::decision::{Decided, Memory};
use crate::plan::plan::Action;
use crate::plan::state::{Body, Digest, ObservedFleet, Phase};
use crate::plan::task::Task;

/// How long the first writer may take: it waits for its server, and makes some tables.
const PRIMARY: Duration = Duration::from_secs(120);
/// How long a replica may take to be pointed, begin, and catch up as far as it is waited for.
const REPLICA: Duration = Duration::from_secs(600);

/// Everything about the group. Where no host of it was looked at, nothing.
///
/// # Errors
/// What is wrong with the group so that nothing may be changed anywhere, with the way out.
pub(super) fn decide(site: &Site, observed: &ObservedFleet, memory: &Memory) -> Result<Decided, Diagnostic> {
    let mut decided = Decided::default();
    let Some(database) = &site.database else { return Ok(decided) };
    let group = Group::of(site, observed);
    if group.members.is_empty() {
        return Ok(decided);
    }
    if let Some(fault) = group.faults(database.engine).into_iter().next() {
        return Err(fault);
    }
    let kept = Kept::of(memory)?;
    let work = Work { site, database, group: &group, kept: &kept };
    if let Some(silent) = work.silent() {
        decided.notes.push(silent);
        return Ok(decided);
    }
    let (writer, is_first) = match group.writer() {
        Some(writer) => (writer, false),
        None => (work.first()?, true),
    };
    work.versions(writer)?;
    if let Some(older) = work.remembers_more() {
        decided.notes.push(older);
        return Ok(decided);
    }
    work.differs(writer, &mut decided);
    let held = observed.get(&writer.host.name).map(|host| &host.held);
    if held.is_some_and(|held| held.contains(engine::unit(database.engine))) {
        decided.notes.push(work.waits(writer));
    }
    if !work.writer(writer, is_first, &mut decided)? {
        return Ok(decided);
    }
    work.replicas(writer, is_first, &mut decided)?;
    work.remember(&mut decided)?;
    Ok(decided)
}

/// What a decision looks at.
struct Work<'a> {
    site: &'a Site,
    database: &'a Database,
    group: &'a Group<'a>,
    kept: &'a Kept,
}

/// A list as a person says it: `a, b and c`.
fn listed<'n>(names: impl IntoIterator<Item = &'n HostName>) -> String {
    let names: Vec<&str> = names.into_iter().map(HostName::as_str).collect();
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.join(""),
    }
}

impl<'a> Work<'a> {
    /// Why nothing can be known of the group: a server that may know a higher epoch does not answer.
    fn silent(&self) -> Option<String> {
        let is_silent = |member: &Member<'_>| member.server().is_none() && !member.is_fresh();
        let hosts = self.group.names(is_silent);
        let why = hosts.iter().filter_map(|name| {
            let why = self.group.members.get(name)?.now.down.as_deref().unwrap_or("no server is installed");
            Some(format!("{name} ({why})"))
        });
        let why = why.collect::<Vec<_>>().join(", ");
        (!hosts.is_empty()).then(|| {
            format!(
                "the database of {why} does not tell who writes, so nothing is decided about the group: start the server there, or see `infra db status`"
            )
        })
    }

    /// The first writer of a group in which nobody was ever written down as such.
    fn first(&self) -> Result<&'a Member<'a>, Diagnostic> {
        let members = &self.group.members;
        let mut sources: BTreeMap<&HostName, &Member<'_>> = BTreeMap::new();
        for (name, member) in members {
            for source in member.server().iter().flat_map(|server| &server.sources) {
                let Some(other) = self.group.at(&source.host) else {
                    let message =
                        format!("{name} replicates from {}, which is no db host of the inventory", source.host);
                    return Err(Diagnostic::error(message).help(
                        "take that host into the inventory with the role db, or end the replication (`STOP SLAVE; RESET SLAVE ALL`) if it is history",
                    ));
                };
                sources.insert(&other.host.name, other);
            }
        }
        sources.retain(|_, member| member.server().is_some_and(|server| server.sources.is_empty()));
        let holding = self.group.names(|member| member.seen.holds_data());
        match (sources.len(), holding.len()) {
            (1, _) => sources.into_values().next().and_then(|member| members.get(&member.host.name)),
            (0, 0) => members.get(&self.database.primary),
            (0, 1) if holding.contains(&self.database.primary) => members.get(&self.database.primary),
            (0, 1) => {
                let name = listed(&holding);
                let message = format!("{name} holds data, and the inventory says that {} writes", self.database.primary);
                return Err(Diagnostic::error(message).help(format!(
                    "set `database.primary: {name}`; or, where its data are of no use, drop its schemas or empty its data folder"
                )));
            }
            _ => {
                let both = if sources.len() > 1 { listed(sources.into_keys()) } else { listed(&holding) };
                let message = format!("{both} hold data, and none of them follows another: nobody can say which of them is right");
                return Err(Diagnostic::error(message).help(
                    "keep a dump of what is needed, then drop the schemas of all but the one that is to write: they are then seeded from it",
                ));
            }
        }
        .ok_or_else(|| Diagnostic::error(format!("the database's primary, {}, was not looked at", self.database.primary)))
    }

    /// A replica has to understand all that the writer logs.
    fn versions(&self, writer: &Member<'_>) -> Result<(), Diagnostic> {
        let theirs = writer.version(self.database);
        for (name, member) in &self.group.members {
            let version = member.version(self.database);
            if version.minor() < theirs.minor() {
                let message = format!(
                    "{name} has version {version}, which is older than the {theirs} of {}, which writes",
                    writer.host.name
                );
                return Err(Diagnostic::error(message).help(format!(
                    "a replica follows a server of its own version or an older one: upgrade {name} first"
                )));
            }
        }
        Ok(())
    }

    /// The databases are older than what was remembered: somebody has put back old data, or the host that knows is gone.
    fn remembers_more(&self) -> Option<String> {
        let epoch = self.group.written.as_ref().map_or(0, |written| written.epoch);
        let writer = self.kept.writer.as_ref().map_or("nobody", HostName::as_str);
        (epoch < self.kept.epoch).then(|| {
            format!(
                "this controller remembers that {writer} writes since epoch {}, but the databases say {}: nothing is decided about them. If old data were put back on purpose, remove `{}` and run this again",
                self.kept.epoch,
                if epoch == 0 { "nothing about it".to_owned() } else { format!("epoch {epoch}") },
                self.site.state.join("services").join(format!("{NAME}.json")).display()
            )
        })
    }

    /// Where inventory, memory and databases do not name the same host.
    fn differs(&self, writer: &Member<'_>, decided: &mut Decided) {
        let (name, primary) = (&writer.host.name, &self.database.primary);
        let Some(written) = &self.group.written else {
            if name != primary {
                decided.notes.push(format!(
                    "{name} writes already, and stays the writer, though the inventory names {primary}: set `database.primary: {name}`, or run `infra db switchover {primary}` afterwards"
                ));
            }
            return;
        };
        if name != primary {
            decided.notes.push(format!(
                "{name} writes (epoch {}), and the inventory names {primary} as the first writer: set `database.primary: {name}`, or run `infra db switchover {primary}`",
                written.epoch
            ));
        }
        if self.kept.epoch > 0 && self.kept.epoch < written.epoch && self.kept.writer.as_ref() != Some(name) {
            let before = self.kept.writer.as_ref().map_or("nobody", HostName::as_str);
            decided.notes.push(format!(
                "{name} writes since epoch {}, of which this controller did not know: it remembered {before} in epoch {}",
                written.epoch, self.kept.epoch
            ));
        }
    }

    /// That settings of the writer wait for its restart, and both ways to it.
    fn waits(&self, writer: &Member<'_>) -> String {
        let name = &writer.host.name;
        let other = self.group.members.keys().find(|other| *other != name);
        let first = other.map(|other| {
            format!("; to have them stop for less than that, run `infra db switchover {other}` first, which makes {name} a replica")
        });
        let long = match self.longest() {
            Some(ms) => format!(
                "about {}, the longest restart of a database server that was seen here, and a moment more, until its fence is lifted",
                milliseconds(i64::try_from(ms).unwrap_or(i64::MAX))
            ),
            None => "a time that nobody has measured yet, as no database server was seen to restart".to_owned(),
        };
        format!(
            "settings of {name} wait for a restart, which is yours to decide: with `infra apply --restart-writer` writes stop for {long}{}",
            first.unwrap_or_default()
        )
    }

    /// The longest restart of a server that was ever seen, or is seen now, in milliseconds. Replicas restart before their writer.
    fn longest(&self) -> Option<u64> {
        let now = self.group.members.values().filter_map(|member| member.now.restart_ms);
        now.chain(self.kept.restart_ms).max()
    }

    /// What is to be done on the host that writes; whether the others can be decided about.
    fn writer(&self, writer: &Member<'a>, is_first: bool, decided: &mut Decided) -> Result<bool, Diagnostic> {
        let (name, seen) = (&writer.host.name, &writer.seen);
        if !seen.unsafe_tables.is_empty() && self.group.members.len() > 1 {
            if is_first {
                return Err(refused(writer));
            }
            decided.notes.push(unsafe_tables(writer));
        }
        if is_first {
            let fresh = writer.is_fresh();
            if fresh {
                self.confirm(name, decided);
            }
            let title = format!(
                "{} the writer, epoch 1{}",
                if fresh { "make it" } else { "adopt its data: it is" },
                with_schemas(self.database.schemas.iter())
            );
            let flag = if fresh { "yes" } else { "no" };
            self.primary(writer, title, &[("fresh", flag), ("semi", "off")], "1", decided);
            return Ok(true);
        }
        let epoch = self.group.written.as_ref().map_or(0, |written| written.epoch);
        let Some(server) = writer.server().filter(|server| server.role == self.group.written) else {
            decided.notes.push(format!(
                "{name} is to write by epoch {epoch}, but has not got so far itself: its data are gone or of another time. Nothing is decided; see `infra db status`, then `infra db failover HOST` with a host that has the data"
            ));
            return Ok(false);
        };
        // A promotion that was cut off after it had named this host: it had carried all out, and stopped its replication, by then.
        let is_left = |source: &Source| !source.started && self.group.at(&source.host).is_some();
        let left = !server.sources.is_empty() && server.sources.iter().all(is_left);
        if !server.sources.is_empty() && !left {
            decided.notes.push(format!(
                "{name} writes by epoch {epoch}, and follows {} at the same time: nothing is decided; `STOP SLAVE; RESET SLAVE ALL` there ends it",
                server.sources.iter().map(|source| source.host.as_str()).collect::<Vec<_>>().join(" and ")
            ));
            return Ok(false);
        }
        let missing: Vec<&String> =
            self.database.schemas.iter().filter(|schema| !seen.schemas.contains(*schema)).collect();
        if server.read_only || left || !missing.is_empty() {
            let schemas = with_schemas(missing.iter().copied());
            let title = if server.read_only || left {
                format!("let it write again, epoch {epoch}{schemas}")
            } else {
                format!("make what is missing{schemas}")
            };
            // With a replica to wait for, nothing is acknowledged that stands on one host alone.
            let follow = |member: &Member<'a>| self.group.standing(member, writer) == Standing::Follows;
            let semi = if server.read_only && !self.group.names(follow).is_empty() { "on" } else { "as it is" };
            self.primary(writer, title, &[("fresh", "no"), ("semi", semi)], &epoch.to_string(), decided);
        }
        Ok(true)
    }

    fn replicas(&self, writer: &Member<'a>, is_first: bool, decided: &mut Decided) -> Result<(), Diagnostic> {
        let begins = is_first && writer.is_fresh();
        let others = self.group.members.values().filter(|member| member.host.name != writer.host.name);
        let (mut attached, mut seeded) = (false, Vec::new());
        for member in others {
            let standing = self.group.standing(member, writer);
            if !(begins || writer.can_be_followed()) {
                if standing != Standing::Foreign {
                    decided.notes.push(format!(
                        "{} follows later: {} has to be restarted first, so that it logs by GTID and shows infra's certificate: `infra apply --restart-writer`, then `infra apply`",
                        member.host.name, writer.host.name
                    ));
                }
                continue;
            }
            if !matches!(standing, Standing::Foreign | Standing::Silent(_)) {
                self.confirm(&member.host.name, decided);
            }
            attached |= standing == Standing::Follows && member.source().is_some_and(|source| source.started);
            match self.due(member, writer, &standing, begins) {
                Due::Nothing => {}
                Due::Follow(from, title) => self.follow(member, writer, from, title, decided),
                Due::Fence(why) => {
                    decided.notes.push(why);
                    if member.server().is_some_and(|server| !server.read_only) {
                        self.fence(member, decided);
                    }
                }
                Due::Seed => {
                    if !writer.seen.unsafe_tables.is_empty() {
                        return Err(refused(writer));
                    }
                    seeded.push(member);
                }
            }
        }
        decided.join(seed::decide(self.site, self.database, self.group, (writer, &seeded), false)?);
        // A replica that was attached in this run has switched it on itself.
        if attached && writer.server().is_some_and(|server| !server.semi_sync) {
            let script = "wait_up 60 && semi_sync_sql on | sql\n";
            let title = "let commits wait for a replica".to_owned();
            self.act(
                writer,
                Phase::Replica,
                ("database/semi-sync", title, script),
                REPLICA,
                &[],
                ("database/writer", "waits"),
                decided,
            );
        }
        Ok(())
    }

    /// What the host of `member` needs.
    fn due(&self, member: &Member<'a>, writer: &Member<'a>, standing: &Standing, begins: bool) -> Due {
        let (name, to) = (&member.host.name, &writer.host.name);
        let wipe = format!("`infra db seed {name} --wipe` replaces what is there by a copy of {to}'s data");
        let errant = self.group.errant(member, writer).filter(|gtid| !gtid.is_empty());
        let error = member.error().map(|(number, words)| format!("error {number}, {words}"));
        match standing {
            Standing::Fresh if begins || self.can_begin(writer) => {
                Due::Follow("nothing", format!("follow {to} from its first transaction on"))
            }
            Standing::Fresh => Due::Seed,
            // Told before.
            Standing::Silent(_) => Due::Nothing,
            Standing::Foreign => {
                Due::Fence(format!("{name} holds data and follows nobody, so they are left alone: {wipe}"))
            }
            _ if self.kept.closed.contains(name) => {
                Due::Fence(format!("{name} was given up by a failover: `infra db rejoin {name}` takes it in again"))
            }
            _ if errant.is_some() => {
                let errant = errant.map(|gtid| gtid.to_string()).unwrap_or_default();
                Due::Fence(format!(
                    "{name} has transactions that {to} lacks ({errant}): `infra db rejoin {name}` shows them and takes it in again"
                ))
            }
            Standing::Elsewhere(address) if self.group.at(address).is_none() => {
                Due::Fence(format!("{name} follows {address}, which is no db host of the inventory: {wipe}"))
            }
            Standing::Follows => {
                let source = member.source().is_some_and(|source| source.started);
                match (member.server(), source, error) {
                    (Some(server), true, _) if server.read_only && !server.semi_sync => Due::Nothing,
                    (_, true, _) => Due::Follow("replica", format!("fence it again; it follows {to}")),
                    (_, false, None) => Due::Follow("replica", format!("follow {to} again")),
                    (_, false, Some(error)) => Due::Fence(format!(
                        "{name} has stopped to follow {to} ({error}): mend it and `START SLAVE`, or {wipe}"
                    )),
                }
            }
            _ if !self.group.can_go_on(member, writer) => {
                Due::Fence(format!("{name} needs transactions that stand in no binary log of {to} any more: {wipe}"))
            }
            Standing::FollowsOtherwise if member.source().is_some_and(|source| !source.by_gtid) => Due::Follow(
                "position",
                format!("follow {to} by GTID over verified TLS, no longer by file and position"),
            ),
            Standing::FollowsOtherwise => Due::Follow("replica", format!("follow {to} over verified TLS")),
            Standing::Elsewhere(address) => Due::Follow("replica", format!("follow {to}, no longer {address}")),
            Standing::Former => Due::Follow("writer", format!("follow {to}, which writes now")),
        }
    }

    /// Whether a replica that has nothing can begin with the writer's first binary log.
    fn can_begin(&self, writer: &Member<'_>) -> bool {
        let known = writer.seen.schemas.iter().all(|schema| self.database.schemas.contains(schema));
        let whole = writer.now.purged.as_ref().is_some_and(Gtid::is_empty);
        known && whole && writer.server().is_some_and(|server| !server.has_tables)
    }

    fn confirm(&self, host: &HostName, decided: &mut Decided) {
        let Some(member) = self.group.members.get(host) else { return };
        let unit = Flavor::of(self.database, member.facts).unit().to_owned();
        decided.confirms.entry(host.clone()).or_default().insert(unit);
    }

    fn primary(&self, writer: &Member<'_>, title: String, more: &[(&str, &str)], epoch: &str, decided: &mut Decided) {
        let (me, schemas) = (writer.host.name.as_str(), self.database.schemas.join(" "));
        let forget = if writer.server().is_some_and(|server| !server.sources.is_empty()) { "yes" } else { "no" };
        let variables = [&[("me", me), ("schemas", schemas.as_str()), ("forget", forget)], more].concat();
        let what = ("database/primary", title, include_str!("scripts/primary.sh"));
        let makes = format!("{me} in epoch {epoch}");
        self.act(writer, Phase::Primary, what, PRIMARY, &variables, ("database/writer", &makes), decided);
    }

    fn follow(&self, member: &Member<'_>, writer: &Member<'_>, from: &str, title: String, decided: &mut Decided) {
        let Some(address) = address(member, writer) else {
            decided
                .notes
                .push(format!("{} and {} have no address of the same family", member.host.name, writer.host.name));
            return;
        };
        let name = writer.host.name.as_str();
        let variables = [("writer", name), ("address", address.as_str()), ("from", from)];
        let what = ("database/replica", title, include_str!("scripts/replica.sh"));
        self.act(member, Phase::Replica, what, REPLICA, &variables, ("database/follows", name), decided);
    }

    /// Nobody may write where nobody should.
    fn fence(&self, member: &Member<'_>, decided: &mut Decided) {
        let what = (
            "database/fence",
            "fence it: it does not write".to_owned(),
            "wait_up 60 && fence_sql | sql && kill_clients\n",
        );
        self.act(member, Phase::Primary, what, PRIMARY, &[], ("database/fenced", "yes"), decided);
    }

    #[expect(clippy::too_many_arguments, reason = "a task has so many parts")]
    fn act(
        &self,
        member: &Member<'_>,
        phase: Phase,
        (name, title, script): (&str, String, &str),
        limit: Duration,
        variables: &[(&str, &str)],
        (fact, value): (&str, &str),
        decided: &mut Decided,
    ) {
        let set: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
        let dialect = Flavor::of(self.database, member.facts).dialect();
        let input = Body { text: String::new(), digest: Digest::of(b""), origin: None };
        let makes = BTreeMap::from([(fact.to_owned(), value.to_owned())]);
        let script = format!("{}\n{dialect}\n{script}", set.join("\n"));
        let task = Task { service: NAME, phase, title, script, input, limit, undo: None, makes };
        decided.act(&member.host.name, phase, Action::Perform { name: name.to_owned(), task });
    }

    /// What was seen, and not what is to come: a run that dies on its way must not leave a memory of what never was.
    fn remember(&self, decided: &mut Decided) -> Result<(), Diagnostic> {
        let mut kept = self.kept.clone();
        kept.restart_ms = self.longest();
        if let (Some(written), Some(writer)) = (&self.group.written, self.group.writer()) {
            (kept.epoch, kept.writer) = (written.epoch, Some(writer.host.name.clone()));
        }
        for (name, member) in &self.group.members {
            if let Some(server) = member.server().filter(|server| server.log_bin) {
                kept.server_ids.entry(name.clone()).or_insert(server.server_id);
            }
        }
        let failed = |e: serde_json::Error| {
            Diagnostic::error(format!("what is to be remembered of the databases cannot be kept: {e}"))
        };
        decided.remember(NAME, &kept).map_err(failed)
    }
}

/// What a host that does not write needs.
enum Due {
    /// It is as it should be.
    Nothing,
    /// It is pointed at the writer: what it has, and the title.
    Follow(&'static str, String),
    /// Nothing but a fence; why is told.
    Fence(String),
    /// It gets a copy of the writer's data.
    Seed,
}

/// The refusal of tables that cannot be replicated safely.
fn refused(writer: &Member<'_>) -> Diagnostic {
    let help = format!("`ALTER TABLE … ENGINE = InnoDB` on {}, then run this again", writer.host.name);
    Diagnostic::error(unsafe_tables(writer)).help(help)
}

/// The schemas that are made, as the end of a title.
fn with_schemas<'s>(schemas: impl Iterator<Item = &'s String>) -> String {
    let names: Vec<&str> = schemas.map(String::as_str).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!(", with the schema {one}"),
        all => format!(", with the schemas {}", all.join(", ")),
    }
}

/// The address at which `member` reaches `writer`: of a family that both have.
fn address(member: &Member<'_>, writer: &Member<'_>) -> Option<String> {
    let mut families = [true, false].into_iter().filter(|v4| member.host.address(*v4).is_some());
    families.find_map(|v4| writer.host.address(v4)).map(|address| address.to_string())
}

fn unsafe_tables(member: &Member<'_>) -> String {
    let tables = &member.seen.unsafe_tables;
    let some: Vec<&str> = tables.iter().take(5).map(String::as_str).collect();
    let more = if tables.len() > some.len() { " and more" } else { "" };
    format!(
        "{} has tables that are not InnoDB, which lose on a crash what was acknowledged, and differ between hosts then: {}{more}",
        member.host.name,
        some.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::inventory::site::Engine;
    use crate::plan::state::Observed;
    use crate::service::database::seen::{NOW, Now, SEEN, Seen, Server, Source, Threads, Written};
    use crate::service::platform;
    use proptest::prelude::*;

    const INVENTORY: &str = "name: shop
hosts:
  db1: { address: 10.0.4.11, roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
  db3: { address: 10.0.4.13, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
database: { engine: mariadb, primary: db1, schemas: [shop] }
";

    fn site() -> Site {
        load_text(INVENTORY, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
    }

    fn gtid(text: &str) -> Option<Gtid> {
        Gtid::parse(Engine::Mariadb, text)
    }

    type Host = Option<(Seen, Now)>;

    /// A server with nothing on it, as its package leaves it.
    fn packaged() -> (Seen, Now) {
        let server = Server { version: "10.11.19-MariaDB".into(), server_id: 1, ..Server::default() };
        let seen = Seen { engine: Some(Engine::Mariadb), server: Some(server), ..Seen::default() };
        (seen, Now { executed: gtid(""), state: gtid(""), ..Now::default() })
    }

    /// One that infra has set up, and that holds the schema.
    fn set_up(id: u32, epoch: u64, writer: &str) -> (Seen, Now) {
        let (mut seen, mut now) = packaged();
        seen.schemas.insert("shop".into());
        seen.has_own = true;
        if let Some(server) = &mut seen.server {
            server.server_id = id;
            (server.log_bin, server.gtid, server.read_only, server.has_tables) = (true, true, true, true);
            server.certificate = Some("/etc/mysql/infra/server.crt".into());
            server.role = Some(Written { epoch, writer: writer.into(), since: String::new() });
        }
        (now.executed, now.state, now.purged) = (gtid("1-101-9"), gtid("1-101-9"), gtid(""));
        (seen, now)
    }

    fn server(host: &mut Host) -> &mut Server {
        host.as_mut().unwrap().0.server.as_mut().unwrap()
    }

    fn writer(id: u32, epoch: u64, name: &str) -> Host {
        let mut host = Some(set_up(id, epoch, name));
        (server(&mut host).read_only, server(&mut host).semi_sync) = (false, true);
        host
    }

    fn replica(id: u32, epoch: u64, name: &str, of: &str) -> Host {
        let mut host = Some(set_up(id, epoch, name));
        let (user, host_name) = ("infra_repl".to_owned(), of.to_owned());
        let source = Source {
            host: host_name,
            user,
            port: 3306,
            by_gtid: true,
            verified: true,
            started: true,
            channel: String::new(),
        };
        server(&mut host).sources.push(source);
        host.as_mut().unwrap().1.threads.push(Threads { io: "Yes".into(), sql: "Yes".into(), ..Threads::default() });
        host
    }

    /// A server of somebody's that infra has never seen.
    #[expect(clippy::unnecessary_wraps, reason = "a host as the others are made")]
    fn theirs() -> Host {
        let (mut seen, now) = packaged();
        seen.schemas.insert("old".into());
        if let Some(server) = &mut seen.server {
            server.has_tables = true;
        }
        Some((seen, now))
    }

    fn fleet(hosts: [Host; 3]) -> ObservedFleet {
        let one = |(at, host): (usize, Host)| {
            let mut observed = Observed::bare(platform::oldest());
            if let Some((seen, now)) = host {
                SEEN.put(&seen, &mut observed);
                NOW.put(&now, &mut observed);
            }
            (format!("db{}", at + 1).parse().unwrap(), observed)
        };
        hosts.into_iter().enumerate().map(one).collect()
    }

    fn kept(epoch: u64, writer: &str, closed: &[&str]) -> Memory {
        let closed = closed.iter().map(|name| name.parse().unwrap()).collect();
        let mut memory = Memory::at(0);
        let kept = Kept { epoch, writer: writer.parse().ok(), closed, ..Kept::default() };
        memory.put(NAME, &kept).unwrap();
        memory
    }

    fn decided(hosts: [Host; 3], memory: &Memory) -> Result<Decided, Diagnostic> {
        decide(&site(), &fleet(hosts), memory)
    }

    /// What is done and told, a line each; an error is one line.
    fn lines(hosts: [Host; 3], memory: &Memory) -> Vec<String> {
        let decided = match decided(hosts, memory) {
            Ok(decided) => decided,
            Err(error) => return vec![format!("error: {}", error.message)],
        };
        let mut lines = Vec::new();
        for (host, phases) in &decided.hosts {
            for (phase, actions) in phases {
                for action in actions {
                    let Action::Perform { task, .. } = action else { panic!("{action:?}") };
                    lines.push(format!("{host} {phase}: {}", task.title));
                }
            }
        }
        lines.extend(decided.notes);
        lines
    }

    fn whole() -> [Host; 3] {
        let of = "10.0.4.11";
        [writer(101, 1, "db1"), replica(102, 1, "db1", of), replica(103, 1, "db1", of)]
    }

    #[test]
    fn bare_hosts_become_a_writer_and_replicas() {
        for hosts in [[None, None, None], [Some(packaged()), Some(packaged()), None]] {
            let decided = decided(hosts.clone(), &Memory::at(0)).unwrap();
            assert_eq!(
                lines(hosts, &Memory::at(0)),
                [
                    "db1 primary: make it the writer, epoch 1, with the schema shop",
                    "db2 replica: follow db1 from its first transaction on",
                    "db3 replica: follow db1 from its first transaction on",
                ]
            );
            assert_eq!(decided.confirms.len(), 3, "nobody uses them yet");
            assert!(decided.remember[NAME]["writer"].is_null(), "nobody has seen yet who writes");
        }
    }

    #[test]
    fn what_is_whole_is_left_as_it_is() {
        assert_eq!(lines(whole(), &Memory::at(0)), [""; 0]);
        let decided = decided(whole(), &kept(1, "db1", &[])).unwrap();
        let confirmed: Vec<&str> = decided.confirms.keys().map(HostName::as_str).collect();
        assert_eq!(confirmed, ["db2", "db3"], "the writer's restart is a person's decision");
        assert_eq!(decided.remember[NAME]["writer"], "db1");
        // Remembered once, it is remembered.
        let mut memory = Memory::at(0);
        memory.put(NAME, &decided.remember[NAME]).unwrap();
        assert!(decide(&site(), &fleet(whole()), &memory).unwrap().news(&memory).is_empty());
    }

    #[test]
    fn a_restart_that_waits_on_the_writer_is_told() {
        let told = |host: &str| {
            let mut fleet = fleet(whole());
            fleet.get_mut(&host.parse::<HostName>().unwrap()).unwrap().held.insert("mariadb.service".into());
            decide(&site(), &fleet, &kept(1, "db1", &[])).unwrap().notes
        };
        assert_eq!(
            told("db1"),
            [
                "settings of db1 wait for a restart, which is yours to decide: with `infra apply --restart-writer` writes stop for a time that nobody has measured yet, as no database server was seen to restart; to have them stop for less than that, run `infra db switchover db2` first, which makes db1 a replica"
            ]
        );
        assert_eq!(told("db2"), [""; 0], "a replica's needs nobody's word");
    }

    #[test]
    fn the_longest_restart_is_told_and_remembered() {
        let mut hosts = whole();
        hosts[1].as_mut().unwrap().1.restart_ms = Some(1_430);
        hosts[2].as_mut().unwrap().1.restart_ms = Some(610);
        let mut fleet = fleet(hosts);
        let writer: HostName = "db1".parse().unwrap();
        fleet.get_mut(&writer).unwrap().held.insert("mariadb.service".into());
        let first = decide(&site(), &fleet, &kept(1, "db1", &[])).unwrap();
        assert!(first.notes[0].contains("writes stop for about 1.4 s, the longest restart"), "{:?}", first.notes);
        // After a boot no host tells it any more.
        let mut memory = Memory::at(0);
        memory.put(NAME, &first.remember[NAME]).unwrap();
        let mut fleet = self::fleet(whole());
        fleet.get_mut(&writer).unwrap().held.insert("mariadb.service".into());
        let later = decide(&site(), &fleet, &memory).unwrap();
        assert_eq!((&later.notes, &later.remember), (&first.notes, &first.remember));
    }

    /// How the whole group is broken, and what is done and told then.
    type Broken = (&'static str, fn(&mut [Host; 3]), &'static [&'static str]);

    const BROKEN: [Broken; 21] = [
        ("a replica was stopped", |h| server(&mut h[1]).sources[0].started = false, &["db2 replica: follow db1 again"]),
        (
            "a replica is not fenced",
            |h| server(&mut h[1]).read_only = false,
            &["db2 replica: fence it again; it follows db1"],
        ),
        (
            "the writer came back fenced",
            |h| server(&mut h[0]).read_only = true,
            &["db1 primary: let it write again, epoch 1"],
        ),
        (
            "the writer came back fenced, and another server is silent",
            |h| {
                server(&mut h[0]).read_only = true;
                let (seen, now) = h[2].as_mut().unwrap();
                (seen.server, now.down) = (None, Some("it does not run".into()));
            },
            &[
                "the database of db3 (it does not run) does not tell who writes, so nothing is decided about the group: start the server there, or see `infra db status`",
            ],
        ),
        (
            "a schema is missing",
            |h| {
                h[0].as_mut().unwrap().0.schemas.remove("shop");
            },
            &["db1 primary: make what is missing, with the schema shop"],
        ),
        (
            "the writer waits for nobody",
            |h| server(&mut h[0]).semi_sync = false,
            &["db1 replica: let commits wait for a replica"],
        ),
        (
            "by file and position",
            |h| server(&mut h[1]).sources[0].by_gtid = false,
            &["db2 replica: follow db1 by GTID over verified TLS, no longer by file and position"],
        ),
        (
            "without TLS",
            |h| server(&mut h[1]).sources[0].verified = false,
            &["db2 replica: follow db1 over verified TLS"],
        ),
        (
            "a replica of a replica",
            |h| server(&mut h[2]).sources[0].host = "10.0.4.12".into(),
            &["db3 replica: follow db1, no longer 10.0.4.12"],
        ),
        (
            "a replica of a stranger",
            |h| server(&mut h[2]).sources[0].host = "192.0.2.9".into(),
            &[
                "db3 follows 192.0.2.9, which is no db host of the inventory: `infra db seed db3 --wipe` replaces what is there by a copy of db1's data",
            ],
        ),
        (
            "a switchover that died after the promotion",
            |h| {
                let promoted = server(&mut h[1]);
                promoted.role.as_mut().unwrap().epoch = 2;
                promoted.role.as_mut().unwrap().writer = "db2".into();
                promoted.sources.clear();
                (promoted.read_only, promoted.semi_sync) = (false, true);
                (server(&mut h[0]).read_only, server(&mut h[0]).semi_sync) = (true, false);
            },
            &[
                "db1 replica: follow db2, which writes now",
                "db3 replica: follow db2, no longer 10.0.4.11",
                "db2 writes (epoch 2), and the inventory names db1 as the first writer: set `database.primary: db2`, or run `infra db switchover db1`",
            ],
        ),
        (
            "a replica has what the writer lacks",
            |h| {
                h[1].as_mut().unwrap().1.state = gtid("1-101-9,1-102-10");
                server(&mut h[1]).read_only = false;
            },
            &[
                "db2 primary: fence it: it does not write",
                "db2 has transactions that db1 lacks (1-102-10): `infra db rejoin db2` shows them and takes it in again",
            ],
        ),
        (
            "a replica has stopped with an error",
            |h| {
                server(&mut h[1]).sources[0].started = false;
                h[1].as_mut().unwrap().1.threads[0].sql_error = Some((1062, "Duplicate entry".into()));
            },
            &[
                "db2 has stopped to follow db1 (error 1062, Duplicate entry): mend it and `START SLAVE`, or `infra db seed db2 --wipe` replaces what is there by a copy of db1's data",
            ],
        ),
        (
            "what it needs is purged",
            |h| {
                h[0].as_mut().unwrap().1.purged = gtid("1-101-50");
                server(&mut h[1]).sources[0].host = "10.0.4.13".into();
            },
            &[
                "db2 needs transactions that stand in no binary log of db1 any more: `infra db seed db2 --wipe` replaces what is there by a copy of db1's data",
            ],
        ),
        (
            "somebody's data",
            |h| h[2] = theirs(),
            &[
                "db3 primary: fence it: it does not write",
                "db3 holds data and follows nobody, so they are left alone: `infra db seed db3 --wipe` replaces what is there by a copy of db1's data",
            ],
        ),
        (
            "the writer's data are gone",
            |h| h[0] = Some(packaged()),
            &[
                "db1 is to write by epoch 1, but has not got so far itself: its data are gone or of another time. Nothing is decided; see `infra db status`, then `infra db failover HOST` with a host that has the data",
            ],
        ),
        (
            "a replica is older than its source",
            |h| server(&mut h[0]).version = "11.8.9-MariaDB".into(),
            &["error: db2 has version 10.11.19, which is older than the 11.8.9 of db1, which writes"],
        ),
        (
            "a copied machine",
            |h| server(&mut h[2]).server_id = 102,
            &["error: db2 and db3 both are the server 102: one is a copy of the other"],
        ),
        (
            "a copied data folder",
            |h| {
                h[1..]
                    .iter_mut()
                    .for_each(|host| server(host).uuid = Some("3e11fa47-71ca-11e1-9e33-c80aa9429562".into()))
            },
            &["error: db2 and db3 have the same server_uuid: one is a copy of the other"],
        ),
        (
            "a disk that is too small for a copy",
            |h| {
                h[0].as_mut().unwrap().1.size = 40_000_000_000;
                h[1].as_mut().unwrap().1.size = 40_000_000_000;
                h[2] = Some(packaged());
                h[2].as_mut().unwrap().1.free = 12_000_000_000;
            },
            &["error: db3 has 12.0 GB free, and a copy of the data of db2 needs 44.3 GB beside what is there"],
        ),
        (
            "two were promoted",
            |h| server(&mut h[2]).role.as_mut().unwrap().writer = "db3".into(),
            &["error: db3 and db1 were both made the writer of epoch 1: db1 says the second"],
        ),
    ];

    #[test]
    fn what_is_broken_is_mended_or_told() {
        for (what, broken, expected) in BROKEN {
            let mut hosts = whole();
            broken(&mut hosts);
            assert_eq!(lines(hosts, &Memory::at(0)), expected, "{what}");
        }
    }

    #[test]
    fn what_is_there_already_is_adopted() {
        let mut source = theirs();
        server(&mut source).log_bin = true;
        let waits = |host: &str| {
            format!(
                "{host} follows later: db1 has to be restarted first, so that it logs by GTID and shows infra's certificate: `infra apply --restart-writer`, then `infra apply`"
            )
        };
        let adopt = "db1 primary: adopt its data: it is the writer, epoch 1, with the schema shop".to_owned();
        let expected = [adopt, waits("db2"), waits("db3")];
        assert_eq!(lines([source.clone(), None, None], &Memory::at(0)), expected);
        assert!(decided([source.clone(), None, None], &Memory::at(0)).unwrap().confirms.is_empty());
        // One that follows by file and position, in the way of its owner.
        let mut follows = theirs();
        server(&mut follows).server_id = 2;
        server(&mut follows).sources.push(Source { host: "10.0.4.11".into(), started: true, ..Source::default() });
        assert_eq!(lines([source.clone(), follows.clone(), None], &Memory::at(0)), expected);
        // Whoever is followed writes, whatever the inventory says.
        let mut reversed = follows;
        server(&mut reversed).sources[0].host = "10.0.4.12".into();
        let said = lines([reversed, source, None], &Memory::at(0));
        assert!(
            said[0].starts_with("db2 primary: adopt") && said[1].contains("`infra db switchover db1` afterwards"),
            "{said:?}"
        );
    }

    #[test]
    fn nobody_guesses_whose_data_are_right() {
        for (hosts, expected) in [
            (
                [theirs(), theirs(), None],
                "error: db1 and db2 hold data, and none of them follows another: nobody can say which of them is right",
            ),
            ([None, theirs(), None], "error: db2 holds data, and the inventory says that db1 writes"),
        ] {
            assert_eq!(lines(hosts, &Memory::at(0)), [expected]);
        }
        let mut crashes = theirs();
        crashes.as_mut().unwrap().0.unsafe_tables.push("old/t.MYI".into());
        let said = lines([crashes, None, None], &Memory::at(0));
        assert!(
            said[0].starts_with("error: db1 has tables that are not InnoDB") && said[0].ends_with("old/t.MYI"),
            "{said:?}"
        );
        let mut outside = theirs();
        server(&mut outside).sources.push(Source { host: "192.0.2.9".into(), ..Source::default() });
        let expected = "error: db1 replicates from 192.0.2.9, which is no db host of the inventory";
        assert_eq!(lines([outside, None, None], &Memory::at(0)), [expected]);
    }

    #[test]
    fn what_is_remembered_is_a_hint() {
        let said = lines(whole(), &kept(7, "db2", &[]));
        assert!(
            said[0]
                .starts_with("this controller remembers that db2 writes since epoch 7, but the databases say epoch 1"),
            "{said:?}"
        );
        let mut hosts = whole();
        for host in &mut hosts {
            server(host).role.as_mut().unwrap().epoch = 4;
        }
        let said = lines(hosts, &kept(3, "db3", &[]));
        assert_eq!(
            said,
            ["db1 writes since epoch 4, of which this controller did not know: it remembered db3 in epoch 3"]
        );
        let mut hosts = whole();
        server(&mut hosts[2]).sources.clear();
        let said = lines(hosts, &kept(1, "db1", &["db3"]));
        assert_eq!(said, ["db3 was given up by a failover: `infra db rejoin db3` takes it in again"]);
    }

    #[test]
    fn a_fresh_host_is_seeded_where_the_log_does_not_reach_back() {
        let mut hosts = whole();
        hosts[2] = None;
        let copied = [
            "db2 primary: give a copy of the data to db3",
            "db3 replica: get a copy of the data of db2, and follow db1",
        ];
        assert_eq!(lines(hosts.clone(), &Memory::at(0)), copied, "there are tables");
        server(&mut hosts[0]).has_tables = false;
        assert_eq!(lines(hosts.clone(), &Memory::at(0)), ["db3 replica: follow db1 from its first transaction on"]);
        hosts[0].as_mut().unwrap().1.purged = gtid("1-101-3");
        assert_eq!(lines(hosts, &Memory::at(0)), copied, "the first log is gone");
    }

    fn any_host(id: u32) -> impl Strategy<Value = Host> {
        let of = prop::sample::select(vec!["10.0.4.11", "10.0.4.12", "10.0.4.13", "192.0.2.9"]);
        let name = prop::sample::select(vec!["db1", "db2", "db3"]);
        (0_u8..6, 0_u64..4, name, of, any::<[bool; 4]>()).prop_map(move |(kind, epoch, name, of, flags)| {
            let mut host = match kind {
                0 => return None,
                1 => Some(packaged()),
                2 => theirs(),
                3 => writer(id, epoch, name),
                _ => replica(id, epoch, name, of),
            };
            let server = server(&mut host);
            (server.read_only, server.semi_sync, server.log_bin) = (flags[0], flags[1], flags[2]);
            if flags[3] {
                host.as_mut().unwrap().0.server = None;
            }
            host
        })
    }

    proptest! {
        #[test]
        fn nobody_is_made_the_writer_beside_the_one_of_the_highest_epoch(a in any_host(101), b in any_host(102), c in any_host(103)) {
            let hosts = [a, b, c];
            let fleet = fleet(hosts.clone());
            let Ok(decided) = decide(&site(), &fleet, &Memory::at(0)) else { return Ok(()) };
            let named = |what: &str| -> Vec<&str> {
                let does = |action: &Action| matches!(action, Action::Perform { name, .. } if name == what);
                decided.hosts.iter().filter(|(_, phases)| phases.values().flatten().any(does)).map(|(host, _)| host.as_str()).collect()
            };
            let group_site = site();
            let group = Group::of(&group_site, &fleet);
            let (writers, replicas) = (named("database/primary"), named("database/replica"));
            prop_assert!(writers.len() <= 1 && writers.iter().all(|host| !replicas.contains(host)));
            if let Some(written) = &group.written {
                prop_assert!(writers.iter().all(|host| *host == written.writer));
                prop_assert!(!replicas.contains(&written.writer.as_str()) && !named("database/fence").contains(&written.writer.as_str()));
                // What is somebody's is neither followed away nor confirmed.
                if let Some(writer) = group.writer() {
                    for member in group.members.values().filter(|member| group.standing(member, writer) == Standing::Foreign) {
                        prop_assert!(!replicas.contains(&member.host.name.as_str()));
                        prop_assert!(member.host.name == writer.host.name || !decided.confirms.contains_key(&member.host.name));
                    }
                }
            }
        }
    }
}

//! What is to be done in the group: takes the site, the group as it is and what the controller remembers, gives tasks by host and phase.
//! Who writes is what the highest epoch in the databases says; nothing here changes it. What is somebody's data is never touched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::NAME;
use super::engine::{self, Flavor};
use super::group::{Group, Member, Standing};
use super::kept::Kept;
use super::own::{self, Changed};
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

mod due;

use due::Due;

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
    if let Some(refusal) = own::refusal(site, database, &group, &kept) {
        return Err(refusal);
    }
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
    work.settings(&mut decided);
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

    /// What somebody has told a running server is set back; what is not taken while it runs is told.
    fn settings(&self, decided: &mut Decided) {
        for (name, member) in &self.group.members {
            let (stay, back): (Vec<Changed>, Vec<Changed>) =
                self.changed(member).into_iter().partition(|one| one.stays.is_some());
            for one in stay {
                let help = one.stays.as_deref().unwrap_or_default();
                decided.notes.push(format!("the server of {name} runs with {}: {help}", one.words()));
            }
            if !back.is_empty() {
                let words: Vec<String> = back.iter().map(Changed::words).collect();
                let title = format!("set back what somebody has told the running server: {}", words.join(", "));
                let statements: String = back.iter().map(Changed::statement).collect();
                let script = format!("wait_up 60 && sql <<'END'\n{statements}END\n");
                let what = ("database/settings", title, script.as_str());
                self.act(member, Phase::Primary, what, PRIMARY, &[], ("database/settings", "as written"), decided);
            }
        }
    }

    fn changed(&self, member: &Member<'_>) -> Vec<Changed> {
        own::changed(self.site, self.database, member, self.kept)
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
        if let Some(from) = &writer.now.fetches {
            decided.notes.push(format!(
                "{name} writes by epoch {epoch}, and fetches from {from} what it has lost in a crash: nothing is decided until it is through; run this again in a moment"
            ));
            return Ok(false);
        }
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
        // What somebody has switched off while it runs needs no restart.
        let gtid =
            self.changed(writer).into_iter().find(|one| ["gtid_strict_mode", "gtid_mode"].contains(&one.name.as_str()));
        let is_set_back = gtid.as_ref().is_some_and(|one| one.stays.is_none());
        let others = self.group.members.values().filter(|member| member.host.name != writer.host.name);
        let (mut attached, mut seeded) = (false, Vec::new());
        for member in others {
            let standing = self.group.standing(member, writer);
            if !(begins || writer.can_be_followed() || is_set_back) {
                let (name, to) = (&member.host.name, &writer.host.name);
                match &gtid {
                    _ if standing == Standing::Foreign => {}
                    Some(gtid) => decided.notes.push(format!("{name} follows later, when {to} has its {} back", gtid.name)),
                    None => decided.notes.push(format!(
                        "{name} follows later: {to} has to be restarted first, so that it logs by GTID and shows infra's certificate: `infra apply --restart-writer`, then `infra apply`"
                    )),
                }
                continue;
            }
            if !matches!(standing, Standing::Foreign | Standing::Silent(_)) {
                self.confirm(&member.host.name, decided);
            }
            attached |= standing == Standing::Follows && member.source().is_some_and(|source| source.started);
            let about = (self.group, self.kept, self.database.schemas.as_slice());
            match Due::of(about, (member, writer), &standing, begins) {
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
        let input = Body { text: "".into(), digest: Digest::of(b""), origin: None };
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
            if let Some(number) = member.seen.number() {
                kept.server_ids.entry(name.clone()).or_insert(number);
            }
        }
        let failed = |e: serde_json::Error| {
            Diagnostic::error(format!("what is to be remembered of the databases cannot be kept: {e}"))
        };
        decided.remember(NAME, &kept).map_err(failed)
    }
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
mod tests;

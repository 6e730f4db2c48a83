//! The group of databases as it is: takes what was seen on each db host, gives who writes by the highest epoch, who follows whom, who has
//! what the writer lacks, and what is wrong with it. Pure; every verb begins with it.

use std::collections::{BTreeMap, BTreeSet};

use super::FOLDER;
use super::engine::Flavor;
use super::gtid::Gtid;
use super::seen::{NOW, Now, SEEN, Seen, Server, Source, Written};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::site::{Database, Engine, Host, Role, Site};
use crate::plan::state::{Facts, ObservedFleet, Version};

/// The account by which replicas read.
const REPLICATION: &str = "infra_repl";

/// A host of the group.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The host.
    pub host: &'a Host,
    /// What is known of its system.
    pub facts: &'a Facts,
    /// What its database is.
    pub seen: Seen,
    /// How it goes.
    pub now: Now,
}

/// What a host that does not write is to the one that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is there that is anybody's.
    Fresh,
    /// Its server does not answer, and why; there may be data.
    Silent(String),
    /// It follows the writer as infra has it.
    Follows,
    /// It follows the writer in another way: by file and position, not verified, or with another account.
    FollowsOtherwise,
    /// It follows another server, at this address.
    Elsewhere(String),
    /// It follows nobody, and was of the group before.
    Former,
    /// It holds data that has nothing to do with the group.
    Foreign,
}

/// All hosts of the group that were seen.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// By name.
    pub members: BTreeMap<HostName, Member<'a>>,
    /// The row of `infra.role` with the highest epoch.
    pub written: Option<Written>,
    /// The hosts of the inventory that belong to it and were not seen.
    pub unseen: Vec<&'a Host>,
}

impl Member<'_> {
    /// Its server, where that answers.
    pub fn server(&self) -> Option<&Server> {
        self.seen.server.as_ref()
    }

    /// The one source that is set; of several `None`.
    pub fn source(&self) -> Option<&Source> {
        match self.server()?.sources.as_slice() {
            [source] if source.channel.is_empty() => Some(source),
            _ => None,
        }
    }

    /// Whether nothing is there that is anybody's: the next start of a server may do with it what it likes.
    pub fn is_fresh(&self) -> bool {
        match self.server() {
            Some(server) => !self.seen.holds_data() && server.role.is_none() && server.sources.is_empty(),
            None => !self.seen.holds_data() && !self.seen.has_own,
        }
    }

    /// Whether others can follow it: it keeps a log with GTIDs, and shows the certificate that infra has given it.
    pub fn can_be_followed(&self) -> bool {
        let is_ready = |server: &Server| {
            let ours = server.certificate.as_deref().is_some_and(|path| path.starts_with(FOLDER));
            server.log_bin && server.gtid && ours
        };
        self.server().is_some_and(is_ready)
    }

    /// The version of its server, or of the one that it would get.
    pub fn version(&self, database: &Database) -> Version {
        let runs = self.server().and_then(|server| Version::of_package(&server.version));
        runs.unwrap_or_else(|| Flavor::of(database, self.facts).version)
    }

    /// What stopped its replication, or holds it up: the words of the server.
    pub fn error(&self) -> Option<&(u32, String)> {
        self.now.threads.iter().find_map(|threads| threads.sql_error.as_ref().or(threads.io_error.as_ref()))
    }

    fn is_at(&self, address: &str) -> bool {
        is_at(self.host, address)
    }
}

fn is_at(host: &Host, address: &str) -> bool {
    address == host.name.as_str()
        || address.parse().is_ok_and(|address| host.addresses.contains(&address))
        || host.public.iter().any(|public| public.to_string() == address)
}

impl<'a> Group<'a> {
    /// Of the db hosts that were seen. A refused or absent host is not among them.
    pub fn of(site: &'a Site, observed: &'a ObservedFleet) -> Self {
        let member = |host: &'a Host| {
            let observed = observed.get(&host.name)?;
            let (seen, now) = (SEEN.of(observed).unwrap_or_default(), NOW.of(observed).unwrap_or_default());
            Some((host.name.clone(), Member { host, facts: &observed.facts, seen, now }))
        };
        let members: BTreeMap<HostName, Member<'a>> = site.with_role(Role::Db).filter_map(member).collect();
        let roles = members.values().filter_map(|member| member.server()?.role.clone());
        let unseen = site.with_role(Role::Db).filter(|host| !members.contains_key(&host.name)).collect();
        Self { written: roles.max_by_key(|role| role.epoch), members, unseen }
    }

    /// The host that the highest epoch names, where it was not seen.
    pub fn unseen_writer(&self) -> Option<&'a Host> {
        let written = self.written.as_ref()?;
        self.unseen.iter().copied().find(|host| host.name.as_str() == written.writer)
    }

    /// Whether `member` follows the writer that was not seen.
    pub fn follows_unseen(&self, member: &Member<'a>) -> bool {
        let source = member.source().map(|source| source.host.as_str());
        self.unseen_writer().zip(source).is_some_and(|(writer, source)| is_at(writer, source))
    }

    /// The host at an address or of a name, whether it was seen or not.
    pub fn named(&self, address: &str) -> Option<&HostName> {
        let unseen = || self.unseen.iter().find(|host| is_at(host, address)).map(|host| &host.name);
        self.at(address).map(|member| &member.host.name).or_else(unseen)
    }

    /// The host that the highest epoch names, where it is of the group.
    pub fn writer(&self) -> Option<&Member<'a>> {
        let written = self.written.as_ref()?;
        self.members.values().find(|member| member.host.name.as_str() == written.writer)
    }

    /// The member at an address or of a name.
    pub fn at(&self, address: &str) -> Option<&Member<'a>> {
        self.members.values().find(|member| member.is_at(address))
    }

    /// What `member` is beside `writer`.
    pub fn standing(&self, member: &Member<'a>, writer: &Member<'a>) -> Standing {
        let Some(server) = member.server() else {
            let why = member.now.down.clone().unwrap_or_else(|| "no server is installed".to_owned());
            return if member.is_fresh() { Standing::Fresh } else { Standing::Silent(why) };
        };
        if member.is_fresh() {
            return Standing::Fresh;
        }
        match (member.source(), server.sources.first(), &server.role) {
            (Some(source), ..) if writer.is_at(&source.host) => {
                let as_ours = source.by_gtid && source.verified && source.user == REPLICATION;
                if as_ours { Standing::Follows } else { Standing::FollowsOtherwise }
            }
            (_, Some(source), _) => Standing::Elsewhere(source.host.clone()),
            (_, None, Some(_)) => Standing::Former,
            (_, None, None) => Standing::Foreign,
        }
    }

    /// What `member` has that `writer` lacks. What the writer itself has written does not count: it may have come between two looks.
    /// `None`: one of them does not tell.
    pub fn errant(&self, member: &Member<'a>, writer: &Member<'a>) -> Option<Gtid> {
        let known = writer.now.state.as_ref()?;
        let beyond = member.now.state.as_ref()?.beyond(known);
        let beyond = match &member.now.executed {
            Some(reached) => beyond.since_known(known, reached),
            None => beyond,
        };
        let server = writer.server()?;
        Some(beyond.without(server.server_id, server.uuid.as_deref()))
    }

    /// Whether `member` can go on with the binary logs that `writer` still has.
    pub fn can_go_on(&self, member: &Member<'a>, writer: &Member<'a>) -> bool {
        match (&member.now.executed, &writer.now.purged) {
            (Some(executed), Some(purged)) => executed.reaches(purged),
            (None, Some(purged)) => purged.is_empty(),
            // Its logs stand elsewhere; the server itself says whether it can.
            (_, None) => true,
        }
    }

    /// What is wrong with the group so that nothing may be decided about it; the first is the worst.
    pub fn faults(&self, engine: Engine) -> Vec<Diagnostic> {
        let mut faults = self.contradictions(engine);
        if let (Some(host), Some(written)) = (self.unseen_writer(), &self.written) {
            let message = format!("{} writes by epoch {}, and was not seen", host.name, written.epoch);
            faults.push(Diagnostic::error(message).help(self.bring_back(host)));
        }
        faults
    }

    /// What to do about a writer that does not answer.
    pub fn bring_back(&self, host: &Host) -> String {
        let others = self.names(|member| self.follows_unseen(member));
        let other = others.first().map_or("HOST", HostName::as_str);
        format!("bring {} back, or, if it is dead: `infra db failover {other}`", host.name)
    }

    /// The same, but that the writer was not seen.
    pub fn contradictions(&self, engine: Engine) -> Vec<Diagnostic> {
        let mut faults = Vec::new();
        self.engines(engine, &mut faults);
        self.cloned(&mut faults);
        self.promoted(&mut faults);
        faults
    }

    fn engines(&self, engine: Engine, faults: &mut Vec<Diagnostic>) {
        for member in self.members.values() {
            if let Some(other) = member.seen.engine.filter(|other| *other != engine) {
                let names = |engine| if engine == Engine::Mariadb { "MariaDB" } else { "MySQL" };
                let message = format!(
                    "{} has the server of {}, and the inventory says that it is {}",
                    member.host.name,
                    names(other),
                    names(engine)
                );
                faults.push(Diagnostic::error(message).help("set `database.engine` to what stands there, or remove that server and its data folder from the host"));
            }
        }
    }

    /// Machines that are copies of one another.
    fn cloned(&self, faults: &mut Vec<Diagnostic>) {
        let mut ids: BTreeMap<u32, &HostName> = BTreeMap::new();
        let mut uuids: BTreeMap<&str, &HostName> = BTreeMap::new();
        for (name, member) in &self.members {
            let Some(server) = member.server() else { continue };
            if let Some(other) = member.seen.number().and_then(|number| ids.insert(number, name)) {
                let message =
                    format!("{other} and {name} both are the server {}: one is a copy of the other", server.server_id);
                faults.push(Diagnostic::error(message).help(format!(
                    "give the copy, say {name}, another number (`SET GLOBAL server_id = {}`), then run `infra apply`: what it holds is left alone until `infra db seed {name} --wipe`",
                    server.server_id.wrapping_add(1).max(1)
                )));
            }
            if let Some(other) = server.uuid.as_deref().and_then(|uuid| uuids.insert(uuid, name)) {
                let message = format!("{other} and {name} have the same server_uuid: one is a copy of the other");
                faults.push(Diagnostic::error(message).help(format!(
                    "on the copy, say {name}: stop the server, remove /var/lib/mysql/auto.cnf, and start it; it makes another"
                )));
            }
        }
    }

    /// Rows of `infra.role` that contradict each other, or the inventory.
    fn promoted(&self, faults: &mut Vec<Diagnostic>) {
        let Some(written) = &self.written else { return };
        let roles = self.members.iter().filter_map(|(name, member)| Some((name, member.server()?.role.as_ref()?)));
        for (name, role) in roles.filter(|(_, role)| role.epoch == written.epoch && role.writer != written.writer) {
            let message = format!(
                "{} and {} were both made the writer of epoch {}: {name} says the second",
                written.writer, role.writer, written.epoch
            );
            faults.push(Diagnostic::error(message).help(format!(
                "`infra db status` shows what each of them has; on the one that is to write, `UPDATE infra.role SET epoch = {}` as root, then `infra apply`",
                written.epoch + 1
            )));
        }
        if self.writer().is_none() && self.unseen_writer().is_none() {
            let message =
                format!("{} writes by epoch {}, and is no db host of the inventory", written.writer, written.epoch);
            faults.push(
                Diagnostic::error(message)
                    .help("take it into the inventory, switch over to another host, and then take it out"),
            );
        }
    }

    /// The names of the members that are `what`.
    pub fn names(&self, what: impl Fn(&Member<'a>) -> bool) -> BTreeSet<HostName> {
        self.members.iter().filter(|(_, member)| what(member)).map(|(name, _)| name.clone()).collect()
    }
}

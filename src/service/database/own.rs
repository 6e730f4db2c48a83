//! What decides in place of infra's option files: takes the settings as infra writes them and what was seen of a server, gives what is
//! read after infra's files and says otherwise, and what the server runs with since somebody has told it. Pure. What infra does not set
//! is a person's own, and is not looked at.

use std::collections::BTreeMap;

use super::FOLDER;
use super::engine::Flavor;
use super::group::{Group, Member};
use super::kept::Kept;
use super::seen::{Later, Origin, Server};
use super::settings::{self, Told, written};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::site::{Database, Engine, Site};
use crate::plan::state::Version;

/// Settings that a host's role, or who it is, decides while its server runs.
const BY_ROLE: [&str; 5] =
    ["read_only", "super_read_only", "server_id", "rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled"];
/// Settings of `MySQL` that a running server takes in steps alone.
const BY_STEPS: [&str; 2] = ["gtid_mode", "enforce_gtid_consistency"];

/// Something that decides in place of infra's files at the next start of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overruled {
    pub host: HostName,
    pub what: String,
    pub help: String,
}

/// A setting with which a server runs, and which infra has written otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub name: String,
    /// What the server runs with.
    pub now: String,
    /// What infra has written.
    pub wanted: String,
    /// Why it cannot be set back while it runs, with the way out.
    pub stays: Option<String>,
}

impl Changed {
    /// As a person is told of it.
    pub(super) fn words(&self) -> String {
        format!("{} = {} (infra: {})", self.name, self.now, self.wanted)
    }

    /// The statement that sets it back.
    pub(super) fn statement(&self) -> String {
        let value = self.wanted.trim_matches('"');
        if value.parse::<f64>().is_ok() {
            format!("SET GLOBAL {} = {value};\n", self.name)
        } else {
            format!("SET GLOBAL {} = '{}';\n", self.name, value.replace('\'', "''"))
        }
    }
}

/// The one error for all of the group, where there is something to be refused: nothing is changed before it is mended.
pub(super) fn refusal(site: &Site, database: &Database, group: &Group<'_>, kept: &Kept) -> Option<Diagnostic> {
    let all: Vec<Overruled> =
        group.members.values().flat_map(|member| overruled(site, database, member, kept)).collect();
    let said: Vec<String> = all.iter().map(|one| format!("{}: {}", one.host, one.what)).collect();
    let mut help: Vec<&String> = all.iter().map(|one| &one.help).collect();
    help.dedup();
    (!all.is_empty()).then(|| help.into_iter().fold(Diagnostic::error(said.join("; ")), Diagnostic::help))
}

/// What decides in place of infra's files at the next start of a member's server.
pub(super) fn overruled(site: &Site, database: &Database, member: &Member<'_>, kept: &Kept) -> Vec<Overruled> {
    let flavor = Flavor::of(database, member.facts);
    let told = told(site, database, member, kept);
    let mut all = Vec::new();
    let mut add = |what: String, help: String| all.push(Overruled { host: member.host.name.clone(), what, help });
    let (first, second) = (flavor.option_file(settings::FIRST), flavor.option_file(settings::SECOND));
    if member.seen.unread {
        let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
        add(
            format!("its server never reads what infra writes, as `/etc/mysql/my.cnf` does not include `{folder}`"),
            format!("add the line `!includedir {folder}/` at the end of that file"),
        );
    }
    for later in &member.seen.later {
        if !is_read(flavor.engine, member.version(database), &later.group) {
            continue;
        }
        let (name, value) = option(flavor.engine, &told, later);
        let Some(ours) = told.get(&name) else { continue };
        if (later.behind_both || !ours.live) && !same(&name, &ours.value, &value) {
            let file = if ours.live { &second } else { &first };
            add(
                format!(
                    "`{}:{}` says `{} = {value}`, and is read after `{file}`, which says `{name} = {}`",
                    later.path, later.line, later.name, ours.value
                ),
                format!(
                    "remove that line, or rename its file so that it is read before `{first}`; where you want another value, `database.settings` of the inventory takes it, if infra leaves it to you"
                ),
            );
        }
    }
    for (name, value) in &member.now.persisted {
        let name = spelled(flavor.engine, name);
        let Some(ours) = told.get(&name).filter(|ours| !same(&name, &ours.value, value)) else { continue };
        add(
            format!(
                "`SET PERSIST` has made it `{name} = {value}` for every start, and infra writes `{name} = {}`",
                ours.value
            ),
            format!(
                "`RESET PERSIST {name}` there, as root; where you want another value, `database.settings` of the inventory takes it, if infra leaves it to you"
            ),
        );
    }
    all
}

/// The settings with which a member's server runs, since somebody has told it, and which infra has written otherwise. Of a server that
/// was not started with infra's files yet, none; and none of those that are about to be written anew, of which it is told then.
pub(super) fn changed(site: &Site, database: &Database, member: &Member<'_>, kept: &Kept) -> Vec<Changed> {
    let is_ours = |server: &Server| server.certificate.as_deref().is_some_and(|path| path.starts_with(FOLDER));
    if !member.server().is_some_and(is_ours) {
        return Vec::new();
    }
    let flavor = Flavor::of(database, member.facts);
    let told = told(site, database, member, kept);
    let written: BTreeMap<String, &String> =
        member.seen.written.iter().map(|(name, value)| (spelled(flavor.engine, name), value)).collect();
    let mut all = BTreeMap::new();
    for running in &member.now.running {
        let name = spelled(flavor.engine, &running.name);
        let is_there = |ours: &&Told| written.get(&name).is_some_and(|there| same(&name, &ours.value, there));
        let Some(ours) = told.get(&name).filter(is_there).filter(|_| !BY_ROLE.contains(&name.as_str())) else {
            continue;
        };
        // A word of the inventory may be another one for the same thing.
        let differs =
            !same(&name, &ours.value, &running.value) && (!ours.given || both_plain(&ours.value, &running.value));
        let stays = match running.origin {
            Origin::Command => {
                Some(format!("take it out of what starts it: `systemctl cat {}`, then restart it", flavor.unit()))
            }
            Origin::Statement if BY_STEPS.contains(&name.as_str()) => Some(
                "set it back in the steps of the MySQL manual («Changing GTID Mode Online»), or restart the server"
                    .to_owned(),
            ),
            Origin::Statement => None,
        };
        if differs {
            let changed = Changed { name: name.clone(), now: running.value.clone(), wanted: ours.value.clone(), stays };
            all.insert(name, changed);
        }
    }
    all.into_values().collect()
}

/// What infra has in both files of a host.
fn told(site: &Site, database: &Database, member: &Member<'_>, kept: &Kept) -> BTreeMap<String, Told> {
    let told = settings::told(site, database, member.host, member.facts, kept);
    told.into_iter().map(|(name, told)| (spelled(database.engine, &name), told)).collect()
}

/// Whether a server of this version reads the lines of an option group (both manuals, «Using Option Files»).
fn is_read(engine: Engine, version: Version, group: &str) -> bool {
    let (name, of) = match group.rsplit_once('-') {
        Some((name, of)) if of.starts_with(|c: char| c.is_ascii_digit()) => (name, Some(of)),
        _ => (group, None),
    };
    let (major, minor) = version.minor();
    let groups: &[&str] = match engine {
        Engine::Mariadb => &["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"],
        Engine::Mysql => &["mysqld", "server"],
    };
    groups.contains(&name) && of.is_none_or(|of| of == format!("{major}.{minor}"))
}

/// The one spelling of a name, without what hides mistakes, and of the two words for the same thing the one of the table.
fn spelled(engine: Engine, name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let name = name.strip_prefix("loose_").unwrap_or(&name);
    match engine {
        Engine::Mariadb => name.replace("replica", "slave").replace("source", "master"),
        Engine::Mysql => name.replace("slave", "replica").replace("master", "source"),
    }
}

/// The setting that a line gives, and its value.
fn option(engine: Engine, told: &BTreeMap<String, Told>, later: &Later) -> (String, String) {
    let name = spelled(engine, &later.name);
    let value = later.value.trim_matches(['"', '\'']).to_owned();
    if told.contains_key(&name) {
        return (name, value);
    }
    let turned = [("skip_", "OFF"), ("disable_", "OFF"), ("enable_", "ON")].into_iter().find_map(|(prefix, value)| {
        let name = name.strip_prefix(prefix)?;
        told.contains_key(name).then(|| (name.to_owned(), value.to_owned()))
    });
    let days = || {
        let days = (name == "expire_logs_days").then(|| value.parse::<u64>().ok()).flatten()?;
        Some(("binlog_expire_logs_seconds".to_owned(), days.saturating_mul(86_400).to_string()))
    };
    turned.or_else(days).unwrap_or((name, value))
}

/// Whether a server takes both values for the same. One that is missing is `ON`.
fn same(name: &str, one: &str, other: &str) -> bool {
    if let (Some(one), Some(other)) = (flag(one), flag(other)) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (number(one), number(other)) {
        return (one - other).abs() < f64::EPSILON;
    }
    // The order of a list counts for nothing, and neither does the folder that is meant anyway.
    let plain = |value: &str| {
        let mut words: Vec<String> = value
            .trim_matches('"')
            .split(',')
            .map(|word| word.trim().trim_start_matches("/var/lib/mysql/").to_ascii_lowercase())
            .collect();
        words.sort();
        words
    };
    // A running server says of its log only that it has one.
    plain(one) == plain(other) || (name == "log_bin" && flag(other) == Some(true) && !other.is_empty())
}

fn both_plain(one: &str, other: &str) -> bool {
    (flag(one).is_some() && flag(other).is_some()) || (number(one).is_some() && number(other).is_some())
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "on" | "true" | "yes" => Some(true),
        "0" | "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

fn number(value: &str) -> Option<f64> {
    written(value).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{edit, fleet, name, server};
    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::state::ObservedFleet;
    use crate::service::database::seen::Running;

    fn of(engine: Engine, change: impl FnOnce(&mut ObservedFleet)) -> (Vec<Overruled>, Vec<Changed>) {
        let engine = if engine == Engine::Mariadb { "mariadb" } else { "mysql" };
        let text = format!(
            "name: shop\nhosts:\n  db1: {{ address: 10.0.4.11, roles: [db] }}\n  db2: {{ address: 10.0.4.12, roles: [db] }}\n\
             firewall: {{ manage_from: [10.0.0.0/24] }}\ncertificates: {{ issuer: internal }}\n\
             database:\n  engine: {engine}\n  primary: db1\n  schemas: [shop]\n  settings: {{ max_connections: 300, sql_mode: ANSI }}\n"
        );
        let site = load_text(&text, "shop.yml".as_ref()).unwrap().0;
        let (database, kept, mut fleet) = (site.database.as_ref().unwrap(), Kept::default(), fleet());
        let facts = fleet[&name("db2")].facts.clone();
        let files = settings::told(&site, database, &site.hosts[&name("db2")], &facts, &kept);
        edit(&mut fleet, "db2", |seen, _| {
            seen.written = files.into_iter().map(|(name, told)| (name, told.value)).collect();
        });
        change(&mut fleet);
        let group = Group::of(&site, &fleet);
        let member = &group.members[&name("db2")];
        (overruled(&site, database, member, &kept), changed(&site, database, member, &kept))
    }

    fn later(group: &str, behind_both: bool, name: &str, value: &str) -> Later {
        let (path, group) = ("/etc/mysql/mariadb.conf.d/zz-own.cnf".to_owned(), group.to_owned());
        Later { path, line: 3, behind_both, group, name: name.into(), value: value.into() }
    }

    #[test]
    fn what_is_read_after_infras_files_and_says_otherwise_is_found() {
        // Group, whether the line is behind both files, name, value; whether it decides in infra's place.
        for (group, both, name, value, decides) in [
            ("mysqld", true, "read-only", "0", true),
            ("mysqld", true, "Read_Only", "1", false),
            ("mariadbd", true, "read_only", "", false),
            ("server", true, "skip-read-only", "", true),
            ("mariadbd-10.11", true, "loose-sync_binlog", "0", true),
            ("mariadb-11.8", true, "sync_binlog", "0", false),
            ("client-server", true, "sync_binlog", "1", false),
            ("galera", false, "binlog_format", "MIXED", true),
            ("mariadbd", false, "sync_binlog", "0", false),
            ("mariadbd", true, "expire_logs_days", "10", true),
            ("mariadbd", true, "expire_logs_days", "7", false),
            ("mariadbd", true, "tls_version", "TLSv1.3, TLSv1.2", false),
            ("mariadbd", true, "disable-log-bin", "", true),
            ("mariadbd", true, "replica_net_timeout", "60", true),
            ("mariadbd", true, "bind-address", "127.0.0.1", true),
            ("mariadbd", true, "max_connections", "300", false),
            ("mariadbd", true, "max_connections", "301", true),
            ("mariadbd", true, "sort_buffer_size", "4M", false),
            ("mariadbd", true, "plugin_load_add", "auth_socket", false),
        ] {
            let line = later(group, both, name, value);
            let (found, _) = of(Engine::Mariadb, |fleet| edit(fleet, "db2", |seen, _| seen.later.push(line)));
            assert_eq!(found.len(), usize::from(decides), "[{group}] {name} = {value}: {found:?}");
            if let Some(one) = found.first() {
                let place = format!("`/etc/mysql/mariadb.conf.d/zz-own.cnf:3` says `{name} = ");
                assert!(one.what.starts_with(&place) && one.help.contains("98-infra.cnf"), "{one:?}");
            }
        }
    }

    #[test]
    fn option_files_that_lead_past_infra_and_what_is_persisted_are_found() {
        let (found, _) = of(Engine::Mariadb, |fleet| edit(fleet, "db2", |seen, _| seen.unread = true));
        assert!(found[0].help.contains("`!includedir /etc/mysql/mariadb.conf.d/`"), "{found:?}");
        let kept = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (name, value, found) in [("sync_binlog", "0", 1), ("sync_binlog", "1", 0), ("sort_buffer_size", "9", 0)] {
            let (all, _) = of(Engine::Mysql, |fleet| edit(fleet, "db2", |_, now| now.persisted = kept(name, value)));
            assert_eq!(all.len(), found, "{name} {value}");
            assert!(all.iter().all(|one| one.help.starts_with("`RESET PERSIST sync_binlog`")), "{all:?}");
        }
    }

    #[test]
    fn what_somebody_has_told_a_running_server_is_found() {
        use Origin::{Command, Statement};
        // Whether it is told, and set back by which statement.
        for (engine, name, value, origin, back) in [
            (Engine::Mariadb, "sync_binlog", "0", Statement, Some("SET GLOBAL sync_binlog = 1;\n")),
            (Engine::Mariadb, "sync_binlog", "1", Statement, None),
            (Engine::Mariadb, "gtid_strict_mode", "OFF", Statement, Some("SET GLOBAL gtid_strict_mode = 'ON';\n")),
            (Engine::Mariadb, "long_query_time", "1.000000", Statement, None),
            (Engine::Mariadb, "read_only", "OFF", Statement, None),
            (Engine::Mariadb, "rpl_semi_sync_master_enabled", "ON", Statement, None),
            (Engine::Mariadb, "sort_buffer_size", "1", Statement, None),
            (Engine::Mariadb, "max_connections", "200", Statement, Some("SET GLOBAL max_connections = 300;\n")),
            (Engine::Mariadb, "sql_mode", "REAL_AS_FLOAT,ANSI", Statement, None),
            (Engine::Mariadb, "sync_binlog", "0", Command, Some("")),
            (Engine::Mysql, "gtid_mode", "OFF_PERMISSIVE", Statement, Some("")),
            (
                Engine::Mysql,
                "rpl_semi_sync_source_wait_point",
                "AFTER_COMMIT",
                Statement,
                Some("SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC';\n"),
            ),
        ] {
            let running = Running { name: name.into(), value: value.into(), origin };
            let (_, found) = of(engine, |fleet| edit(fleet, "db2", |_, now| now.running.push(running)));
            let said = found.first().map(|one| if one.stays.is_some() { String::new() } else { one.statement() });
            assert_eq!(said.as_deref(), back, "{name} {value}");
        }
        // A value that the inventory has got since is told by its file, and one that stands in no file yet is its owner's.
        for written in [None, Some("0")] {
            let running = Running { name: "sync_binlog".into(), value: "0".into(), origin: Statement };
            let (_, found) = of(Engine::Mariadb, |fleet| {
                edit(fleet, "db2", |seen, now| {
                    now.running.push(running);
                    seen.written.remove("sync_binlog");
                    seen.written.extend(written.map(|value| ("sync_binlog".to_owned(), value.to_owned())));
                });
            });
            assert_eq!(found, [], "{written:?}");
        }
        // A server that was there before infra runs as its owner wants until it is restarted.
        let running = Running { name: "sync_binlog".into(), value: "0".into(), origin: Statement };
        let (_, found) = of(Engine::Mariadb, |fleet| {
            edit(fleet, "db2", |_, now| now.running.push(running));
            server(fleet, "db2", |server| server.certificate = None);
        });
        assert_eq!(found, []);
    }
}

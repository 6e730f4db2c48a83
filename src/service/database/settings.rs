//! The settings of the servers as a table: takes the engine and version, the site and a host's memory, gives the lines of two option
//! files, one of what only a start reads and one of what a running server takes, and refuses names that the version does not have.

use std::collections::BTreeMap;

use serde::Serialize;

use super::engine::Flavor;
use super::kept::Kept;
use super::{FOLDER, NAME, seen, server_id};
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::inventory::site::{Database, Engine, Host, SemiSync, Site};
use crate::inventory::variables;
use crate::plan::state::{Access, Check, Facts, File, Folder, Follow, Phase, Version};
use crate::service::Context;
use crate::service::claims::Claims;
use crate::service::render::{Template, template};

/// The template of both files.
pub(super) const TEMPLATE: Template = template!("database/options.cnf");

/// The versions whose names differ. A server of another version takes the newest column that is not newer than itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Documented only; nothing was run on it.
    Mysql80,
    /// Documented only; nothing was run on it.
    Mysql84,
    /// Measured.
    Mysql97,
    /// Measured.
    Mariadb1011,
    /// Measured.
    Mariadb118,
}

impl Column {
    /// That of a server.
    pub fn of(flavor: Flavor) -> Self {
        // MySQL after 9.7 is numbered by year: a greater number is a later one all the same.
        match (flavor.engine, flavor.version.minor()) {
            (Engine::Mysql, version) if version >= (9, 0) => Self::Mysql97,
            (Engine::Mysql, version) if version >= (8, 4) => Self::Mysql84,
            (Engine::Mysql, _) => Self::Mysql80,
            (Engine::Mariadb, version) if version >= (11, 8) => Self::Mariadb118,
            (Engine::Mariadb, _) => Self::Mariadb1011,
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
enum Value {
    Fixed(&'static str),
    /// A file of the folder of certificates.
    Pem(&'static str),
    ServerId,
    Host,
    Pool,
    Redo,
    Connections,
    /// How long a commit waits for a replica, in milliseconds.
    Wait,
}

/// When a server takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// At its start. What a role decides later stands here too: no running server is ever told of it.
    Start,
    /// While it runs.
    Live,
}

/// A setting, by its name in each [`Column`]; `""` where the version does not have it.
#[derive(Debug, Clone, Copy)]
struct Row {
    why: &'static str,
    names: [&'static str; 5],
    value: Value,
    taken: Taken,
}

const fn row(why: &'static str, names: [&'static str; 5], value: Value, taken: Taken) -> Row {
    Row { why, names, value, taken }
}

const fn both(name: &'static str) -> [&'static str; 5] {
    [name; 5]
}

const fn mysql(name: &'static str) -> [&'static str; 5] {
    [name, name, name, "", ""]
}

const fn mariadb(name: &'static str) -> [&'static str; 5] {
    ["", "", "", name, name]
}

const fn each(mysql: &'static str, mariadb: &'static str) -> [&'static str; 5] {
    [mysql, mysql, mysql, mariadb, mariadb]
}

use Taken::{Live, Start};
use Value::{Connections, Fixed, Pem, Pool, Redo, ServerId, Wait};

const IDENTITY: &str = "who it is; addresses are never looked up, so that no name server and no count of failed handshakes locks anyone out";
const FENCE: &str = "it starts fenced and follows nobody: its role decides both, never a file";
const BINLOG: &str = "every transaction has an id, is kept, and is passed on by replicas too";
const RELAY: &str = "what a replica fetches, and how it carries it out";
// MariaDB's `init_rpl_role = SLAVE` stays away: after a crash it takes transactions back that replicas have, and the server may be the
// writer still. What only a former writer has is found by `infra db rejoin`.
const SEMI: &str = "a commit waits for a replica, before others see it; whether it does is decided by the role";
const TLS: &str = "TLS for everyone";
const REST: &str = "nothing else listens; the log of errors is a file that a collector can read";
const DURABLE: &str = "what was acknowledged is on disk";
const SIZES: &str = "sizes, by the memory of this host where the inventory does not say";
const LOGS: &str = "text, and what is slow";

/// Names and defaults by version: MySQL's reference manuals 8.0, 8.4 and 9.7 («Server Option and Variable Reference»), MariaDB's
/// («Server System Variables»), and what servers of 9.7, 10.11 and 11.8 say themselves. `loose_`: `mysqld --initialize` knows no plugin.
const TABLE: &[Row] = &[
    row(IDENTITY, both("server_id"), ServerId, Start),
    row(IDENTITY, both("report_host"), Value::Host, Start),
    row(IDENTITY, both("bind_address"), Fixed("*"), Start),
    row(IDENTITY, both("skip_name_resolve"), Fixed("ON"), Start),
    row(FENCE, both("read_only"), Fixed("ON"), Start),
    row(FENCE, mysql("super_read_only"), Fixed("ON"), Start),
    row(FENCE, each("skip_replica_start", "skip_slave_start"), Fixed("ON"), Start),
    row(BINLOG, mysql("gtid_mode"), Fixed("ON"), Start),
    row(BINLOG, mysql("enforce_gtid_consistency"), Fixed("ON"), Start),
    row(BINLOG, mariadb("gtid_domain_id"), Fixed("1"), Start),
    row(BINLOG, mariadb("gtid_strict_mode"), Fixed("ON"), Start),
    row(BINLOG, each("", "log_bin"), Fixed("mysql-bin"), Start),
    row(BINLOG, mysql("log_bin"), Fixed("binlog"), Start),
    row(BINLOG, both("binlog_format"), Fixed("ROW"), Start),
    row(BINLOG, each("log_replica_updates", "log_slave_updates"), Fixed("ON"), Start),
    // Else a server skips what bears its own number, which it may have lost: in a crash, or because it was made anew. By its id each
    // transaction is carried out once, so none goes round.
    row(BINLOG, mysql("replicate_same_server_id"), Fixed("ON"), Start),
    row(RELAY, both("relay_log"), Fixed("relay-bin"), Start),
    row(RELAY, both("relay_log_recovery"), Fixed("ON"), Start),
    row(RELAY, each("replica_parallel_workers", "slave_parallel_threads"), Fixed("4"), Start),
    row(RELAY, mysql("replica_preserve_commit_order"), Fixed("ON"), Start),
    row(RELAY, mariadb("slave_parallel_mode"), Fixed("optimistic"), Start),
    row(SEMI, mysql("plugin_load_add"), Fixed("semisync_source.so"), Start),
    row(SEMI, mysql("plugin_load_add"), Fixed("semisync_replica.so"), Start),
    row(SEMI, each("loose_rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled"), Fixed("OFF"), Start),
    row(SEMI, each("loose_rpl_semi_sync_replica_enabled", "rpl_semi_sync_slave_enabled"), Fixed("ON"), Start),
    row(SEMI, mysql("loose_rpl_semi_sync_source_wait_for_replica_count"), Fixed("1"), Start),
    row(TLS, both("require_secure_transport"), Fixed("ON"), Start),
    row(TLS, both("ssl_ca"), Pem("ca.crt"), Start),
    row(TLS, both("ssl_cert"), Pem("server.crt"), Start),
    row(TLS, both("ssl_key"), Pem("server.key"), Start),
    row(TLS, both("tls_version"), Fixed("TLSv1.2,TLSv1.3"), Start),
    row(REST, mysql("plugin_load_add"), Fixed("mysql_clone.so"), Start),
    row(REST, mysql("mysqlx"), Fixed("OFF"), Start),
    row(REST, both("log_error"), Fixed("/var/log/mysql/error.log"), Start),
    row(DURABLE, both("sync_binlog"), Fixed("1"), Live),
    row(DURABLE, both("innodb_flush_log_at_trx_commit"), Fixed("1"), Live),
    row(DURABLE, both("binlog_expire_logs_seconds"), Fixed("604800"), Live),
    row(RELAY, each("replica_net_timeout", "slave_net_timeout"), Fixed("30"), Live),
    row(RELAY, each("source_verify_checksum", "master_verify_checksum"), Fixed("ON"), Live),
    row(RELAY, each("replica_sql_verify_checksum", "slave_sql_verify_checksum"), Fixed("ON"), Live),
    row(
        SEMI,
        each("loose_rpl_semi_sync_source_wait_point", "rpl_semi_sync_master_wait_point"),
        Fixed("AFTER_SYNC"),
        Live,
    ),
    row(SEMI, each("loose_rpl_semi_sync_source_timeout", "rpl_semi_sync_master_timeout"), Wait, Live),
    row(SIZES, both("innodb_buffer_pool_size"), Pool, Live),
    row(
        SIZES,
        // 8.0 has the one that is a whole from 8.0.30 on, and is patched by now.
        [
            "innodb_redo_log_capacity",
            "innodb_redo_log_capacity",
            "innodb_redo_log_capacity",
            "innodb_log_file_size",
            "innodb_log_file_size",
        ],
        Redo,
        Live,
    ),
    row(SIZES, both("max_connections"), Connections, Live),
    row(LOGS, both("character_set_server"), Fixed("utf8mb4"), Live),
    row(LOGS, both("slow_query_log_file"), Fixed("/var/log/mysql/slow.log"), Live),
    row(LOGS, both("slow_query_log"), Fixed("ON"), Live),
    row(LOGS, both("long_query_time"), Fixed("1"), Live),
];

/// The file of what a server reads when it starts.
pub(super) const FIRST: &str = "98-infra.cnf";
/// The file of what it takes while it runs.
pub(super) const SECOND: &str = "99-infra-live.cnf";

/// Where the server's own logs are. A server without it has no log of slow statements, and refuses to be told of one.
const LOG_FOLDER: &str = "/var/log/mysql";

/// MiB.
const MIB: u64 = 1 << 20;
/// What the system, the server itself and its connections need beside the pool, MiB.
const BESIDE: u64 = 384;
/// The memory of a host that did not tell it yet, MiB.
const SMALL: u64 = 1024;
/// A pool below this is no use.
const LEAST_POOL: u64 = 64;
/// How long a commit waits that waits for ever: ten years. The engines add it to the time of day, in nanoseconds.
const FOR_EVER: u64 = 10 * 365 * 86_400_000;

/// What follows from a host's memory, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    pool: u64,
    redo: u64,
    connections: u64,
}

impl Sizes {
    /// Of a host with so many MiB, on which the database stands alone or with others.
    fn of(memory: u64, alone: bool) -> Self {
        let left = memory.saturating_sub(BESIDE);
        let share = if alone { (left * 3 / 4).min(memory * 3 / 5) } else { left / 4 };
        // MySQL's pool is made of pieces of 128 MiB.
        let piece = if share >= 256 { 128 } else { 32 };
        let pool = (share / piece * piece).max(LEAST_POOL);
        Self { pool, redo: (pool / 4).clamp(96, 512), connections: (memory / 8).clamp(100, 2000) }
    }
}

/// A line of an option file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    name: String,
    value: String,
}

/// Lines of one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Part {
    why: String,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Model<'a> {
    group: &'a str,
    about: &'a str,
    parts: &'a [Part],
}

/// Both files.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    start: Vec<Part>,
    live: Vec<Part>,
}

fn add(parts: &mut Vec<Part>, why: &str, line: Line) {
    match parts.last_mut() {
        Some(part) if part.why == why => part.lines.push(line),
        _ => parts.push(Part { why: why.to_owned(), lines: vec![line] }),
    }
}

/// The lines of both files; else all names that the version does not have.
fn files(
    flavor: Flavor,
    database: &Database,
    host: &Host,
    server_id: u32,
    memory: u64,
) -> Result<Files, Vec<Diagnostic>> {
    let column = Column::of(flavor);
    let known = variables::of(flavor.engine, flavor.version.minor());
    let sizes = Sizes::of(memory, host.roles.len() == 1);
    let (mut start, mut live) = (Vec::new(), Vec::new());
    let mut given = database.settings.clone();
    for row in TABLE {
        let name = row.names[column as usize];
        if name.is_empty() {
            continue;
        }
        let value = match row.value {
            Fixed(value) => value.to_owned(),
            Pem(file) => format!("{FOLDER}/{file}"),
            ServerId => server_id.to_string(),
            Value::Host => host.name.to_string(),
            Pool => (sizes.pool * MIB).to_string(),
            Redo => (sizes.redo * MIB).to_string(),
            Connections => sizes.connections.to_string(),
            Wait => match database.semi_sync {
                SemiSync::Wait(time) => time.as_millis().to_string(),
                SemiSync::Strict => FOR_EVER.to_string(),
            },
        };
        let value = given.remove(name).map_or(value, |setting| written(&setting.value));
        add(if row.taken == Live { &mut live } else { &mut start }, row.why, Line { name: name.to_owned(), value });
    }
    let why = "`database.settings` of the inventory";
    let mut refused = Vec::new();
    for (name, setting) in given {
        let live_too = known.as_ref().map_or(Some(false), |known| known.get(name.as_str()).copied());
        let Some(live_too) = live_too else {
            let names = known.iter().flat_map(|known| known.keys().copied());
            refused.push(unknown(flavor, &name, names).at(&setting.span));
            continue;
        };
        add(if live_too { &mut live } else { &mut start }, why, Line { name, value: written(&setting.value) });
    }
    if refused.is_empty() { Ok(Files { start, live }) } else { Err(refused) }
}

/// A name that the server would not start with.
fn unknown<'a>(flavor: Flavor, name: &str, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    let Version(major, minor, _) = flavor.version;
    let help =
        did_you_mean(name, known).unwrap_or_else(|| "remove it, or look up how this version calls it".to_owned());
    Diagnostic::error(format!("{} {major}.{minor} has no setting `{name}`", flavor.title())).help(help)
}

/// A buffer pool that the memory of the host, MiB, cannot hold; 0 is a host that did not tell it yet. A running server would take it all, and
/// the host with it.
fn too_large(database: &Database, host: &Host, memory: u64) -> Option<Diagnostic> {
    const NAME: &str = "innodb_buffer_pool_size";
    let setting = database.settings.get(NAME)?;
    let wanted = written(&setting.value).parse::<u64>().ok()? / MIB;
    let message = format!("`{NAME}` is {wanted} MiB, and {} has {memory} MiB of memory", host.name);
    let help = format!(
        "write {} at most, or remove it: infra takes what fits",
        memory.saturating_sub(BESIDE).max(LEAST_POOL) * MIB
    );
    (memory > 0 && wanted >= memory).then(|| Diagnostic::error(message).at(&setting.span).help(help))
}

/// The folder of logs where no package makes it: those of `MariaDB` in Debian do not. All others make it themselves, and where `Ubuntu`
/// has rsyslog, `/var/log` is its group's too, so that nothing of ours may be put there by its path.
fn log_folder(engine: Engine, distribution: &str) -> Option<Folder> {
    // As the packages of `MariaDB` have it that make it.
    let access = Access { owner: "mysql".into(), group: "adm".into(), mode: 0o2750 };
    (engine == Engine::Mariadb && distribution == "debian").then_some(Folder { phase: Phase::Primary, access })
}

/// As it stands in an option file, and as `SET GLOBAL` takes it, which knows no `8G`.
pub(super) fn written(value: &str) -> String {
    let split = value.len().saturating_sub(1);
    let power = match value.get(split..).map(str::to_ascii_uppercase).as_deref() {
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        Some("T") => 40,
        _ => 0,
    };
    let number = value.get(..split).filter(|_| power > 0).and_then(|number| number.parse::<u64>().ok());
    if let Some(bytes) = number.and_then(|number| number.checked_mul(1 << power)) {
        return bytes.to_string();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.,:/+*%=@-".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("\"{value}\"") }
}

/// Adds both files, what tells a running server of the one, and the engine's own word on the two.
pub(super) fn want(
    context: &Context<'_>,
    database: &Database,
    flavor: Flavor,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    let host = context.host;
    let files = match of_host(context.site, database, host, context.facts, &Kept::of(context.memory)?) {
        Ok(files) => files,
        Err(refused) => {
            for one in refused {
                out.refuse(one);
            }
            return Ok(());
        }
    };
    if let Some(refused) = too_large(database, host, context.facts.memory) {
        out.refuse(refused);
        return Ok(());
    }
    if let Some(folder) = log_folder(flavor.engine, &context.facts.distribution) {
        out.folder(LOG_FOLDER, folder)?;
    }
    let group = match flavor.engine {
        Engine::Mariadb => "mariadbd",
        Engine::Mysql => "mysqld",
    };
    for (name, follow, about, parts) in [
        (FIRST, Follow::Confirm, "what the server reads when it starts", &files.start),
        (SECOND, Follow::Set, "what the server takes while it runs", &files.live),
    ] {
        let body = context.render(TEMPLATE.name, &Model { group, about, parts })?;
        let then = BTreeMap::from([(flavor.unit().to_owned(), follow)]);
        let file = File { service: NAME, phase: Phase::Primary, access: Access::root(0o644), body, then, about: None };
        out.file(&flavor.option_file(name), file)?;
    }
    out.setter(flavor.unit(), &format!("{}{}", flavor.dialect(), include_str!("scripts/set.sh")))?;
    out.check(Check {
        title: match flavor.engine {
            Engine::Mariadb => "mariadbd --help --verbose".into(),
            Engine::Mysql => "mysqld --validate-config".into(),
        },
        command: match flavor.engine {
            Engine::Mariadb => include_str!("scripts/check-mariadb.sh").into(),
            Engine::Mysql => include_str!("scripts/check-mysql.sh").into(),
        },
    });
    Ok(())
}

/// The lines of both files of a host.
fn of_host(
    site: &Site,
    database: &Database,
    host: &Host,
    facts: &Facts,
    kept: &Kept,
) -> Result<Files, Vec<Diagnostic>> {
    // A host keeps the number that it had, also one that it had before infra.
    let kept = kept.server_ids.get(&host.name).copied();
    let id = kept.or_else(|| seen::server_id(facts)).unwrap_or_else(|| server_id(site, &host.name));
    let mut files = files(Flavor::of(database, facts), database, host, id, memory(facts))?;
    // A server that was there before infra goes on with the log that it has: its replicas stand at a place in it.
    if let Some(path) = seen::binlog(facts) {
        let lines = files.start.iter_mut().flat_map(|part| &mut part.lines);
        for line in lines.filter(|line| line.name == "log_bin") {
            path.clone_into(&mut line.value);
        }
    }
    Ok(files)
}

/// What one of the files says of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The value.
    pub value: String,
    /// Whether it stands in the second file.
    pub live: bool,
    /// Whether the inventory has given it.
    pub given: bool,
}

/// What both files of a host say, by name. What is loaded beside others is not among it, and where the files are refused there is nothing.
pub(super) fn told(
    site: &Site,
    database: &Database,
    host: &Host,
    facts: &Facts,
    kept: &Kept,
) -> BTreeMap<String, Told> {
    let Ok(files) = of_host(site, database, host, facts, kept) else { return BTreeMap::new() };
    let all = [(false, files.start), (true, files.live)].into_iter();
    let lines =
        all.flat_map(|(live, parts)| parts.into_iter().flat_map(|part| part.lines).map(move |line| (live, line)));
    lines
        .filter(|(_, line)| line.name != "plugin_load_add")
        .map(|(live, Line { name, value })| {
            let given = database.settings.contains_key(&name);
            (name, Told { value, live, given })
        })
        .collect()
}

/// The host's memory, MiB; that of a small machine where it is not known.
fn memory(facts: &Facts) -> u64 {
    match facts.memory {
        0 => SMALL,
        memory => memory,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::inventory::load::load_text;

    const FLAVORS: [(Engine, Version, Column); 5] = [
        (Engine::Mysql, Version(8, 0, 43), Column::Mysql80),
        (Engine::Mysql, Version(8, 4, 6), Column::Mysql84),
        (Engine::Mysql, Version(9, 7, 4), Column::Mysql97),
        (Engine::Mariadb, Version(10, 11, 19), Column::Mariadb1011),
        (Engine::Mariadb, Version(11, 8, 9), Column::Mariadb118),
    ];

    fn site(settings: &str) -> Site {
        let text = format!(
            "name: shop\nhosts:\n  db1: {{ address: 10.0.4.11, roles: [db] }}\n  db2: {{ address: 10.0.4.12, roles: [db] }}\n\
             firewall: {{ manage_from: [10.0.0.0/24] }}\ndatabase:\n  engine: mariadb\n  primary: db1\n  schemas: [shop]\n{settings}"
        );
        load_text(&text, "shop.yml".as_ref()).unwrap().0
    }

    fn of(settings: &str, engine: Engine, version: Version) -> Result<Files, Vec<Diagnostic>> {
        let site = site(settings);
        let host = site.hosts.values().next().unwrap();
        files(Flavor { engine, version }, site.database.as_ref().unwrap(), host, 7, 4096)
    }

    fn lines(parts: &[Part]) -> BTreeMap<String, String> {
        parts.iter().flat_map(|part| &part.lines).map(|line| (line.name.clone(), line.value.clone())).collect()
    }

    #[test]
    fn no_version_is_given_a_name_that_it_lacks() {
        // What was removed, and aborts a start, or was never there.
        let maria = ["super_read_only", "gtid_mode", "mysqlx", "enforce_gtid_consistency", "innodb_redo_log_capacity"]
            .as_slice();
        let never = ["expire_logs_days", "default_authentication_plugin", "master_info_repository", "init_rpl_role"];
        let absent: [&[&str]; 5] = [
            &["gtid_strict_mode", "rpl_semi_sync_master_enabled"],
            &["binlog_transaction_dependency_tracking", "relay_log_info_repository"],
            &["replica_parallel_type", "innodb_log_file_size", "plugin_load", "rpl_semi_sync_slave_enabled"],
            maria,
            maria,
        ];
        for ((engine, version, column), absent) in FLAVORS.into_iter().zip(absent) {
            let flavor = Flavor { engine, version };
            assert_eq!(Column::of(flavor), column);
            let files = of("", engine, version).unwrap();
            let (start, live) = (lines(&files.start), lines(&files.live));
            let all: BTreeSet<&str> = start.keys().chain(live.keys()).map(String::as_str).collect();
            for name in absent.iter().chain(&never) {
                assert!(!all.contains(name), "{name} {version}");
            }
            if let Some(known) = variables::of(engine, version.minor()) {
                for name in &all {
                    let live_too = known.get(name.trim_start_matches("loose_"));
                    assert!(live_too.is_some(), "{version} does not have {name}");
                    assert!(
                        !live.contains_key(*name) || live_too == Some(&true),
                        "{version} is not told {name} while it runs"
                    );
                }
            }
        }
        assert_eq!(
            FLAVORS.iter().filter(|(engine, version, _)| variables::of(*engine, version.minor()).is_some()).count(),
            3
        );
    }

    #[test]
    fn what_a_role_decides_is_never_told_to_a_running_server() {
        for (engine, version, _) in FLAVORS {
            let files = of("", engine, version).unwrap();
            let (start, live) = (lines(&files.start), lines(&files.live));
            assert_eq!(start["read_only"], "ON");
            let role = |name: &&String| {
                name.contains("read_only")
                    || name.ends_with("_enabled")
                    || name.contains("skip_")
                    || name.starts_with("ssl_")
            };
            assert_eq!(live.keys().find(role), None);
            assert_eq!(start.contains_key("super_read_only"), engine == Engine::Mysql);
        }
    }

    #[test]
    fn the_inventory_overrides_and_adds() {
        let settings = "  semi_sync: strict\n  settings:\n    innodb-buffer-pool-size: 8G\n    sql_mode: \"ANSI, TRADITIONAL\"\n    \
                        performance_schema: ON\n    max_allowed_packet: 64m\n";
        let files = of(settings, Engine::Mariadb, Version(10, 11, 19)).unwrap();
        let (start, live) = (lines(&files.start), lines(&files.live));
        assert_eq!(live["innodb_buffer_pool_size"], "8589934592");
        assert_eq!(live["max_allowed_packet"], "67108864");
        assert_eq!(live["sql_mode"], "\"ANSI, TRADITIONAL\"");
        assert_eq!(start["performance_schema"], "ON", "only a start reads it");
        assert_eq!(live["rpl_semi_sync_master_timeout"], FOR_EVER.to_string());
        assert_eq!(
            lines(&of("  semi_sync: 2m\n", Engine::Mysql, Version(9, 7, 4)).unwrap().live)["loose_rpl_semi_sync_source_timeout"],
            "120000"
        );
        // Of a version whose names are not known by heart the engine itself has the word.
        let files = of("  settings: { sql_mode: ANSI }\n", Engine::Mysql, Version(8, 4, 6)).unwrap();
        assert_eq!(lines(&files.start)["sql_mode"], "ANSI");
    }

    #[test]
    fn a_name_that_the_version_lacks_is_refused_with_the_place() {
        for (name, engine, version, message, help) in [
            (
                "innodb_bufer_pool_size",
                Engine::Mariadb,
                Version(11, 8, 9),
                "MariaDB 11.8 has no setting",
                "did you mean `innodb_buffer_pool_size`?",
            ),
            (
                "innodb_log_file_size",
                Engine::Mysql,
                Version(9, 7, 4),
                "MySQL 9.7 has no setting `innodb_log_file_size`",
                "",
            ),
            ("slave_connections_needed_for_purge", Engine::Mariadb, Version(10, 11, 19), "MariaDB 10.11 has no", ""),
            ("zzz", Engine::Mariadb, Version(10, 11, 19), "has no setting `zzz`", "remove it"),
        ] {
            let errors = of(&format!("  settings: {{ {name}: 1, yyy: 2 }}\n"), engine, version).unwrap_err();
            assert_eq!(errors.len(), 2, "{errors:?}");
            let error = errors.into_iter().find(|error| error.message.contains(name)).unwrap();
            assert!(error.message.contains(message), "{}", error.message);
            assert!(error.help[0].contains(help), "{:?}", error.help);
            assert_eq!(error.span.unwrap().line(), 10);
        }
    }

    #[test]
    fn the_folder_of_logs_is_made_where_no_package_does() {
        for (engine, distribution, made) in [
            (Engine::Mariadb, "debian", true),
            (Engine::Mariadb, "ubuntu", false),
            (Engine::Mysql, "debian", false),
            (Engine::Mysql, "ubuntu", false),
        ] {
            assert_eq!(log_folder(engine, distribution).is_some(), made, "{engine:?} {distribution}");
        }
        let access = log_folder(Engine::Mariadb, "debian").unwrap().access;
        assert_eq!((access.owner.as_str(), access.group.as_str(), access.mode), ("mysql", "adm", 0o2750));
    }

    #[test]
    fn a_pool_that_the_host_cannot_hold_is_refused() {
        for (value, memory, refused) in [
            ("4T", 23 * 1024, true),
            ("2G", 2048, true),
            ("2147483648", 2048, true),
            ("1G", 2048, false),
            ("4T", 0, false),
        ] {
            let site = site(&format!("  settings: {{ innodb-buffer-pool-size: {value} }}\n"));
            let host = site.hosts.values().next().unwrap();
            let error = too_large(site.database.as_ref().unwrap(), host, memory);
            assert_eq!(error.is_some(), refused, "{value} {memory}");
            if let Some(error) = error {
                assert!(error.message.contains(&format!("db1 has {memory} MiB")), "{}", error.message);
                assert_eq!(error.span.unwrap().line(), 10);
            }
        }
    }

    #[test]
    fn sizes_follow_memory() {
        for (memory, alone, pool, redo, connections) in [
            (256, true, 64, 96, 100),
            (512, true, 96, 96, 100),
            (1024, true, 384, 96, 128),
            (2048, true, 1152, 288, 256),
            (4096, true, 2432, 512, 512),
            (65536, true, 39296, 512, 2000),
            (1024, false, 160, 96, 128),
            (4096, false, 896, 224, 512),
        ] {
            assert_eq!(Sizes::of(memory, alone), Sizes { pool, redo, connections }, "{memory}");
            assert!(memory <= 256 || pool < memory - 300);
        }
    }

    #[test]
    fn a_wait_is_one_that_the_engines_can_add_up() {
        assert!(Duration::from_millis(FOR_EVER) > Duration::from_secs(9 * 365 * 86_400));
        assert!(FOR_EVER.checked_mul(1_000_000).is_some_and(|nanoseconds| i64::try_from(nanoseconds).is_ok()));
    }
}

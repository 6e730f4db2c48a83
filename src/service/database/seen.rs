//! What is seen of the database on a host: takes the answer of the observing script, gives what the server is (on which plans depend) and
//! how it goes (which passes). One call of a client on the host tells all of it; the parser takes any bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::NAME;
use super::gtid::Gtid;
use crate::base::sh::AbsolutePath;
use crate::inventory::site::Engine;
use crate::plan::state::{Facts, Observed, Part};
use crate::service::inquiry::Inquiry;

/// What a host's database is. A host without the part has no data folder: nothing was ever installed there.
pub const SEEN: Part<Seen> = Part::steady(NAME);
/// How it goes.
pub const NOW: Part<Now> = Part::passing(NAME);

/// The schema that is infra's own.
pub const OWN: &str = "infra";

/// The task that makes the accounts, and the fact that it makes: that they are those of this digest.
pub const ACCOUNTS: &str = "database/accounts";

/// The facts of tasks that are seen anew each time, whatever was remembered of them.
const SEEN_ANEW: [&str; 4] = ["database/writer", "database/follows", "database/fenced", "database/settings"];

/// What begins the feature of a host that says where its binary log is, where that is not the usual place.
const BINLOG: &str = "database/binlog:";
/// Where infra has it.
const USUAL: [&str; 2] = ["/var/lib/mysql/mysql-bin", "/var/lib/mysql/binlog"];

/// What begins the feature of a host that says which number its server has.
const NUMBER: &str = "database/server_id:";

/// The number that a server has; what it wrote bears it.
pub fn server_id(facts: &Facts) -> Option<u32> {
    facts.features.iter().find_map(|feature| feature.strip_prefix(NUMBER)?.parse().ok())
}

/// Where a server that was there before infra has its binary log, where that is not the usual place.
pub fn binlog(facts: &Facts) -> Option<&str> {
    facts.features.iter().find_map(|feature| feature.strip_prefix(BINLOG))
}

/// The questions, which cost nothing on a host without a data folder.
pub(super) const INQUIRY: Inquiry = Inquiry { when: "[ -d var/lib/mysql ]", script, read, ..Inquiry::NOTHING };

fn script() -> String {
    include_str!("scripts/observe.sh")
        .replace("MARIADB_STATEMENTS", &statements(Engine::Mariadb))
        .replace("MYSQL_STATEMENTS", &statements(Engine::Mysql))
}

/// A query that gives each account of a server, as `'NAME'@'HOST'`, with a digest of how it logs in and of all that it may do.
pub(super) fn digests(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => include_str!("scripts/digests-mariadb.sql"),
        Engine::Mysql => include_str!("scripts/digests-mysql.sql"),
    }
}

fn statements(engine: Engine) -> String {
    let all = match engine {
        Engine::Mariadb => include_str!("scripts/observe-mariadb.sql"),
        Engine::Mysql => include_str!("scripts/observe-mysql.sql"),
    };
    all.trim_end().replace("DIGESTS", digests(engine).trim_end())
}

/// What the database of a host is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The engine whose server is installed; a data folder may have outlived it.
    pub engine: Option<Engine>,
    /// Schemas that are neither the engine's nor infra's: somebody's data. Of a server that does not run, the folders.
    pub schemas: BTreeSet<String>,
    /// Whether infra's own schema is there, in which it stands who writes.
    pub has_own: bool,
    /// Files of tables whose engine is not crash-safe, such as `shop/t.MYI`; the first twenty.
    pub unsafe_tables: Vec<String>,
    /// What infra's own option files say, as they stand there.
    #[serde(default)]
    pub written: BTreeMap<String, String>,
    /// Lines for the server that its option files have behind infra's own.
    #[serde(default)]
    pub later: Vec<Later>,
    /// Whether its option files do not lead to infra's own.
    #[serde(default)]
    pub unread: bool,
    /// The server, where it answers.
    pub server: Option<Server>,
}

/// A line of an option file that is read after infra's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Later {
    /// The file.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// Whether it comes after the second file of infra's too.
    pub behind_both: bool,
    /// Whose it is: `mysqld`, `mariadbd-10.11`.
    pub group: String,
    /// The name, as it is spelled there.
    pub name: String,
    /// The value; empty where there is none.
    pub value: String,
}

/// A value that a server runs with for another reason than its option files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The setting.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The reason.
    pub origin: Origin,
}

/// Why a server runs with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Somebody, or infra, has told it so by `SET GLOBAL`.
    Statement,
    /// It was started so.
    Command,
}

/// A server that answers.
#[expect(clippy::struct_excessive_bools, reason = "each is told by the server by itself")]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Server {
    /// As it says: `10.11.19-MariaDB-0+deb12u1-log`.
    pub version: String,
    /// Its number in the group.
    pub server_id: u32,
    /// `server_uuid` of `MySQL`.
    pub uuid: Option<String>,
    /// Whether there is any table or view in [`Seen::schemas`].
    pub has_tables: bool,
    /// Whether it is fenced: `read_only`, of `MySQL` `super_read_only`.
    pub read_only: bool,
    /// Whether it keeps a binary log, and what it replicates in it.
    pub log_bin: bool,
    /// Whether GTIDs are on and checked: `gtid_strict_mode`, of `MySQL` `gtid_mode`.
    pub gtid: bool,
    /// Where its binary log is, without number: `/var/lib/mysql/mysql-bin`.
    pub binlog: Option<String>,
    /// The file of the certificate that it shows, where it speaks TLS.
    pub certificate: Option<String>,
    /// Whether its commits wait for a replica.
    pub semi_sync: bool,
    /// Who writes, as its copy of `infra.role` says.
    pub role: Option<Written>,
    /// From whom it replicates; several where channels have names.
    pub sources: Vec<Source>,
    /// The accounts that infra has made here.
    #[serde(default)]
    pub accounts: Vec<Made>,
    /// Name and place of every account, whoever made it.
    #[serde(default)]
    pub users: BTreeSet<(String, String)>,
}

/// An account that infra has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its name.
    pub user: String,
    /// The place that it logs in from.
    pub host: String,
    /// Whether it is still as infra has made it: how it logs in, and all that it may do.
    pub intact: bool,
}

/// The row of `infra.role`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Written {
    /// How often the writer has changed.
    pub epoch: u64,
    /// The host that writes.
    pub writer: String,
    /// Since when, UTC.
    pub since: String,
}

/// A source that is set on a replica.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Source {
    /// The channel's name; empty for the usual one.
    pub channel: String,
    /// Its address, as it is set.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account.
    pub user: String,
    /// Whether it is followed by GTID, and not by file and position.
    pub by_gtid: bool,
    /// Whether the connection is encrypted and the source's name verified.
    pub verified: bool,
    /// Whether both threads are started; the first one may be connecting.
    pub started: bool,
}

/// How it goes with a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// Why the server does not answer, if so.
    pub down: Option<String>,
    /// What it has carried out.
    pub executed: Option<Gtid>,
    /// What it has, carried out or not.
    pub received: Option<Gtid>,
    /// `MariaDB`: of each server that ever wrote, the last transaction in the binary log. `MySQL`: as [`Now::executed`].
    pub state: Option<Gtid>,
    /// What is in none of its binary logs any more: who lacks it cannot follow from here.
    pub purged: Option<Gtid>,
    /// Of each source of [`Server::sources`], in their order.
    pub threads: Vec<Threads>,
    /// Milliseconds since the writer's last heartbeat that has come here.
    pub heartbeat_ms: Option<i64>,
    /// Whether semi-sync was on at that heartbeat, as the writer said.
    pub heartbeat_semi_sync: Option<String>,
    /// Whether commits really wait for a replica now; off after a time-out too.
    pub semi_sync: bool,
    /// Replicas that acknowledge.
    pub semi_sync_clients: u64,
    /// Addresses of replicas that read the binary log.
    pub replicas: Vec<String>,
    /// Sessions of users.
    pub sessions: u64,
    /// Bytes of its tables.
    pub size: u64,
    /// Free bytes in the data folder.
    pub free: u64,
    /// Binary logs, where they stand in the data folder: how many, their bytes, and when the first one ended, seconds since 1970.
    pub binlogs: Option<(u64, u64, i64)>,
    /// Until when its certificate holds, as it says: `Nov 28 10:15:50 2026 GMT`.
    pub tls_until: Option<String>,
    /// Seconds since it was started.
    pub uptime: u64,
    /// How long it took to restart, the last time in this life of the host, in milliseconds.
    #[serde(default)]
    pub restart_ms: Option<u64>,
    /// Accounts that are not infra's nor the system's and may write past a fence or lift it: `'ann'@'%'`.
    #[serde(default)]
    pub unfenced: Vec<String>,
    /// Events that are enabled here.
    #[serde(default)]
    pub events: Vec<Scheduled>,
    /// Whether the server carries events out.
    #[serde(default)]
    pub schedules: bool,
    /// What it runs with for another reason than its option files.
    #[serde(default)]
    pub running: Vec<Running>,
    /// What `SET PERSIST` has it take at every start, by name.
    #[serde(default)]
    pub persisted: Vec<(String, String)>,
    /// The host from which it fetches, for a moment, what it has lost in a crash.
    #[serde(default)]
    pub fetches: Option<String>,
}

/// An event that is enabled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scheduled {
    /// `shop.cleanup`.
    pub name: String,
    /// As whom it is carried out: `root@localhost`.
    pub definer: String,
}

/// How the two threads of a replica go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Threads {
    /// `Yes`, `No`, `Connecting` or `Preparing`.
    pub io: String,
    /// `Yes` or `No`.
    pub sql: String,
    /// Number and words of what stopped the first one, or holds it up.
    pub io_error: Option<(u32, String)>,
    /// The same of the second one.
    pub sql_error: Option<(u32, String)>,
    /// `Seconds_Behind_Master`, which a stopped thread has not.
    pub behind: Option<u64>,
}

impl Seen {
    /// Whether anything stands there that is somebody's.
    pub fn holds_data(&self) -> bool {
        !self.schemas.is_empty()
    }

    /// Its number in a group. Until it keeps a log, and has to do with anybody's data, that is the engine's default, and means nothing.
    pub fn number(&self) -> Option<u32> {
        let server = self.server.as_ref()?;
        let is_used = self.holds_data() || server.role.is_some() || !server.sources.is_empty();
        (is_used && (server.log_bin || server.binlog.is_some())).then_some(server.server_id)
    }
}

/// A value as the client's batch mode writes it: <https://mariadb.com/docs/server/clients-and-utilities/mariadb-client/mariadb-command-line-client>.
fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            c => text.push(c),
        }
    }
    text
}

/// Reads a line of numbers and flags; what is not there counts as zero.
fn number<T: std::str::FromStr + Default>(field: Option<&String>) -> T {
    field.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

fn read(answer: &str, observed: &mut Observed) {
    for fact in SEEN_ANEW {
        observed.made.remove(fact);
    }
    let (mut seen, mut now) = (None, Now::default());
    // The columns of the last header, for the one statement whose columns differ by version.
    let mut columns: Vec<String> = Vec::new();
    for line in answer.lines() {
        let fields: Vec<String> = line.split('\t').map(unescaped).collect();
        let Some((tag, rest)) = fields.split_first() else { continue };
        let at = |index: usize| rest.get(index);
        if seen.is_none() && tag == "engine" {
            let engine = at(0).and_then(|name| serde_json::from_value(name.as_str().into()).ok());
            seen = Some(Seen { engine, ..Seen::default() });
        }
        let Some(seen) = &mut seen else { continue };
        match tag.as_str() {
            "-" => columns.clear(),
            "Connection_name" | "Replica_IO_State" if columns.is_empty() => columns = fields,
            _ if columns.len() > 1 && fields.len() == columns.len() => {
                let row = columns.iter().map(String::as_str).zip(fields.iter().map(String::as_str)).collect();
                source(&row, seen, &mut now);
            }
            "folder" | "schema" if at(0).is_some_and(|name| name == OWN) => seen.has_own = true,
            "folder" | "schema" => seen.schemas.extend(at(0).cloned()),
            "other" => seen.unsafe_tables.extend(at(0).cloned()),
            "binlogs" => {
                now.binlogs = Some((number(at(1)), number(at(2)), number(at(3))));
            }
            "free" => now.free = number(at(0)),
            "restart" => {
                now.restart_ms = at(0).and_then(|micros| micros.parse::<u64>().ok()).map(|micros| micros / 1000);
            }
            "option" => {
                if let [rank, path, line, group, name, value] = rest {
                    if rank == "0" {
                        seen.written.insert(name.clone(), value.clone());
                        continue;
                    }
                    let (line, behind_both) = (line.parse().unwrap_or_default(), rank == "2");
                    let (path, group) = (path.clone(), group.clone());
                    let (name, value) = (name.clone(), value.clone());
                    seen.later.push(Later { path, line, behind_both, group, name, value });
                }
            }
            "unread" => seen.unread = true,
            "fetches" => now.fetches = at(0).cloned(),
            "down" => now.down = at(0).cloned(),
            "server" if rest.len() > 1 && seen.server.is_none() => {
                let is = |index| at(index).is_some_and(|value| value == "1" || value == "ON");
                // The folders were those of schemas, and of what else may stand there.
                seen.schemas.clear();
                seen.server = Some(Server {
                    version: at(0).cloned().unwrap_or_default(),
                    server_id: number(at(1)),
                    read_only: is(2),
                    log_bin: is(3) && is(4),
                    gtid: is(5),
                    semi_sync: is(6),
                    binlog: at(7).filter(|path| *path != "NULL" && !path.is_empty()).cloned(),
                    certificate: at(9).filter(|path| is(8) && *path != "NULL" && !path.is_empty()).cloned(),
                    ..Server::default()
                });
            }
            _ => {
                if let Some(server) = &mut seen.server {
                    told(tag, rest, seen.engine.unwrap_or(Engine::Mariadb), server, &mut now);
                }
            }
        }
    }
    let Some(seen) = seen else {
        observed.made.remove(ACCOUNTS);
        return;
    };
    // A server that is adopted goes on with the log that it has: under another name it would begin anew, and none could follow it.
    if let Some(path) = seen
        .server
        .as_ref()
        .and_then(|server| server.binlog.as_deref())
        .filter(|path| !USUAL.contains(path) && path.parse::<AbsolutePath>().is_ok())
    {
        observed.facts.features.insert(format!("{BINLOG}{path}"));
    }
    observed.facts.features.extend(seen.number().map(|number| format!("{NUMBER}{number}")));
    if seen.server.is_none() && now.down.is_none() {
        now.down = Some("it refuses root's connection over its socket".to_owned());
    }
    let made = seen
        .server
        .as_ref()
        .is_some_and(|server| !server.accounts.is_empty() && server.accounts.iter().all(|account| account.intact));
    if !made {
        observed.made.remove(ACCOUNTS);
    }
    SEEN.put(&seen, observed);
    NOW.put(&now, observed);
}

/// A line that the server has told.
fn told(tag: &str, rest: &[String], engine: Engine, server: &mut Server, now: &mut Now) {
    let at = |index: usize| rest.get(index);
    match tag {
        "uid" => server.uuid = at(0).cloned(),
        "semi_sync" => server.semi_sync = at(0).is_some_and(|value| value == "1"),
        "tables" => server.has_tables = number::<u64>(at(0)) > 0,
        "role" => {
            if let [epoch, writer, since] = rest {
                let epoch = epoch.parse().ok();
                server.role = epoch.map(|epoch| Written { epoch, writer: writer.clone(), since: since.clone() });
            }
        }
        "heartbeat" => {
            now.heartbeat_ms = at(0).and_then(|micros| micros.parse::<i64>().ok()).map(|micros| micros / 1000);
            now.heartbeat_semi_sync = at(2).cloned();
        }
        "gtid" => {
            let gtid = |index| at(index).and_then(|text| Gtid::parse(engine, text));
            (now.executed, now.state) = (gtid(0), gtid(1));
            // A thread that was never started in this life of the server has received nothing in it.
            if let Some(executed) = &now.executed {
                now.received = Some(now.received.as_ref().map_or_else(|| executed.clone(), |got| executed.and(got)));
            }
        }
        "purged" => now.purged = at(0).and_then(|text| Gtid::parse(engine, text)),
        "status" => match (at(0).map(|name| name.to_ascii_lowercase()).as_deref(), at(1)) {
            (Some("rpl_semi_sync_master_status" | "rpl_semi_sync_source_status"), Some(value)) => {
                now.semi_sync = value == "ON";
            }
            (Some("rpl_semi_sync_master_clients" | "rpl_semi_sync_source_clients"), value) => {
                now.semi_sync_clients = number(value);
            }
            (Some("ssl_server_not_after"), Some(value)) if !value.is_empty() => now.tls_until = Some(value.clone()),
            (Some("uptime"), value) => now.uptime = number(value),
            _ => {}
        },
        "replica" => now.replicas.extend(at(0).cloned()),
        "sessions" => now.sessions = number(at(0)),
        "user" => {
            if let [user, host] = rest {
                server.users.insert((user.clone(), host.clone()));
            }
        }
        "account" => {
            if let [user, host, intact] = rest {
                server.accounts.push(Made { user: user.clone(), host: host.clone(), intact: intact == "1" });
            }
        }
        "size" => now.size = number(at(0)),
        "running" => {
            if let [name, value, origin] = rest {
                let origin = if origin.starts_with("COMMAND") { Origin::Command } else { Origin::Statement };
                now.running.push(Running { name: name.clone(), value: value.clone(), origin });
            }
        }
        "persisted" => {
            if let [name, value] = rest {
                now.persisted.push((name.clone(), value.clone()));
            }
        }
        "unfenced" => now.unfenced.extend(at(0).cloned()),
        "event" => {
            if let [name, definer, scheduler] = rest {
                now.schedules = scheduler == "ON";
                now.events.push(Scheduled { name: name.clone(), definer: definer.clone() });
            }
        }
        _ => {}
    }
}

/// What the server says went wrong, without the statement that did: that is somebody's data.
fn without_statement(words: &str) -> &str {
    ["Query: '", "query: '"]
        .iter()
        .find_map(|mark| words.split_once(mark))
        .map_or(words, |(before, _)| before.trim_end())
}

/// A row of `SHOW ALL SLAVES STATUS`, or `SHOW REPLICA STATUS`.
fn source(row: &BTreeMap<&str, &str>, seen: &mut Seen, now: &mut Now) {
    let Some(server) = &mut seen.server else { return };
    let field = |names: [&str; 2]| names.iter().find_map(|name| row.get(name).copied()).unwrap_or_default();
    let yes = |names| field(names) == "Yes" || field(names) == "1";
    let error = |number, words| {
        let number: u32 = field(number).parse().unwrap_or_default();
        (number != 0).then(|| (number, without_statement(field(words)).to_owned()))
    };
    let by = field(["Using_Gtid", "Auto_Position"]);
    let threads = Threads {
        io: field(["Slave_IO_Running", "Replica_IO_Running"]).to_owned(),
        sql: field(["Slave_SQL_Running", "Replica_SQL_Running"]).to_owned(),
        io_error: error(["Last_IO_Errno", ""], ["Last_IO_Error", ""]),
        sql_error: error(["Last_SQL_Errno", ""], ["Last_SQL_Error", ""]),
        behind: field(["Seconds_Behind_Master", "Seconds_Behind_Source"]).parse().ok(),
    };
    server.sources.push(Source {
        channel: field(["Connection_name", "Channel_Name"]).to_owned(),
        host: field(["Master_Host", "Source_Host"]).to_owned(),
        port: field(["Master_Port", "Source_Port"]).parse().unwrap_or_default(),
        user: field(["Master_User", "Source_User"]).to_owned(),
        by_gtid: matches!(by, "Slave_Pos" | "Current_Pos" | "1"),
        verified: yes(["Master_SSL_Allowed", "Source_SSL_Allowed"])
            && yes(["Master_SSL_Verify_Server_Cert", "Source_SSL_Verify_Server_Cert"]),
        started: threads.io != "No" && threads.sql == "Yes",
    });
    now.threads.push(threads);
    let (engine, got) = (seen.engine.unwrap_or(Engine::Mariadb), field(["Gtid_IO_Pos", "Retrieved_Gtid_Set"]));
    if !got.is_empty() {
        now.received = Gtid::parse(engine, got);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::platform;
    use proptest::prelude::*;

    const REPLICA: &str = include_str!("answers/mariadb-replica.txt");

    fn asked(answer: &str) -> Observed {
        let mut observed = Observed::bare(platform::oldest());
        read(answer, &mut observed);
        observed
    }

    fn ask(answer: &str) -> (Option<Seen>, Option<Now>) {
        let observed = asked(answer);
        (SEEN.of(&observed), NOW.of(&observed))
    }

    #[test]
    fn a_replica_is_read() {
        let (seen, now) = ask(REPLICA);
        let (seen, now) = (seen.unwrap(), now.unwrap());
        let server = seen.server.as_ref().unwrap();
        assert_eq!((seen.engine, seen.schemas.len(), seen.holds_data()), (Some(Engine::Mariadb), 1, true));
        assert_eq!((server.server_id, server.read_only, server.log_bin, server.gtid), (102, true, true, true));
        assert_eq!(server.role.as_ref().map(|role| (role.epoch, role.writer.as_str())), Some((1, "db1")));
        let source = &server.sources[0];
        assert_eq!((source.host.as_str(), source.port, source.user.as_str()), ("127.3.0.1", 3306, "infra_repl"));
        assert!(source.by_gtid && source.verified && source.started && server.has_tables);
        assert_eq!(server.certificate.as_deref(), Some("/etc/mysql/infra/server.crt"));
        assert_eq!((now.binlogs.unwrap().0, now.purged.unwrap().is_empty()), (1, true));
        assert_eq!(now.threads[0].io, "Yes");
        assert_eq!(now.executed.unwrap().to_string(), "1-101-8");
        assert_eq!(now.received.unwrap().to_string(), "1-101-8");
        assert_eq!(now.tls_until.unwrap(), "Nov 28 10:15:50 2026 GMT");
        let facts = asked(REPLICA).facts;
        assert_eq!((binlog(&facts), server_id(&facts)), (None, Some(102)), "its log is where infra has it");
        let elsewhere = asked(&REPLICA.replace("/var/lib/mysql/mysql-bin\t", "/var/log/mysql/own-bin\t"));
        assert_eq!(binlog(&elsewhere.facts), Some("/var/log/mysql/own-bin"));
        assert_eq!((now.down, now.heartbeat_ms, now.semi_sync), (None, None, false));
    }

    #[test]
    fn what_passes_a_fence_and_how_long_a_restart_took_are_read() {
        let more = "restart\t1430000\nserver\t10.11.19-MariaDB\t102\nunfenced\t'ann'@'%'\nunfenced\t'bob'@'10.0.0.1'\nevent\tshop.tidy\troot@localhost\tON\n";
        let (_, now) = ask(&format!("engine\tmariadb\n{more}"));
        let now = now.unwrap();
        assert_eq!((now.restart_ms, now.unfenced.len(), now.schedules), (Some(1430), 2, true));
        assert_eq!(now.events, [Scheduled { name: "shop.tidy".into(), definer: "root@localhost".into() }]);
        let plain = ask(REPLICA).1.unwrap();
        assert_eq!((plain.restart_ms, plain.unfenced.len(), plain.events.len()), (None, 0, 0));
    }

    #[test]
    fn a_server_that_is_down_leaves_its_folders() {
        let (seen, now) = ask("engine\tmariadb\nfolder\tshop\nfree\t7\ndown\tit does not run\n");
        assert_eq!((seen.unwrap().schemas.len(), now.unwrap().down.unwrap().as_str()), (1, "it does not run"));
        assert_eq!(ask("engine\tnone\n").0.unwrap().engine, None);
        assert_eq!(ask(""), (None, None));
    }

    #[test]
    fn a_number_is_kept_where_something_bears_it() {
        let server = |log: &str| format!("engine\tmariadb\nserver\t10.11.19-MariaDB\t7\t0\t1\t0\t0\t0\t{log}\t0\t\n");
        let own = "/var/log/mysql/own-bin";
        for (log, more, expected) in
            [(own, "schema\tshop\n", Some(7)), (own, "", None), ("NULL", "schema\tshop\n", None)]
        {
            assert_eq!(server_id(&asked(&format!("{}{more}", server(log))).facts), expected, "{log} {more}");
        }
        assert_eq!(ask("engine\tmariadb\nfetches\tdb2\n").1.unwrap().fetches.as_deref(), Some("db2"));
    }

    #[test]
    fn option_files_are_read_as_the_server_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let folder = "etc/mysql/mariadb.conf.d";
        let line = "[client]\nport=1\n[mariadbd]\n# own\nsync-binlog = 0 # why\n\nskip-name-resolve\n";
        for (path, text) in [
            ("usr/sbin/mariadbd", ""),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nmysql:x:101:101:MySQL:/srv/home:/bin/false\n"),
            ("etc/my.cnf", line),
            (
                "etc/mysql/my.cnf",
                "!includedir /etc/mysql/conf.d/\n!includedir /etc/mysql/mariadb.conf.d/\n[mysqld]\nread_only=0\n!include /srv/it's/one\n",
            ),
            ("etc/mysql/conf.d/zz.cnf", line),
            (&format!("{folder}/50-server.cnf"), line),
            (&format!("{folder}/98-infra.cnf"), line),
            (&format!("{folder}/98-own.cnf"), "!includedir /srv/it's/more\n[mariadbd]\na=1\n"),
            (&format!("{folder}/99-infra-live.cnf"), line),
            (&format!("{folder}/zz-own.cnf"), &format!("{line}wsrep_sst_auth=a:b\n[mariadbd-11.8]\nb=\"2\"\n")),
            (&format!("{folder}/zz-own.bak"), line),
            ("srv/it's/one", "[server]\nc=3\n"),
            ("srv/it's/more/x.cnf", "[mariadb]\nd=4\n"),
            ("srv/home/.my.cnf", "[client]\npassword=e\n[mysqld]\nf\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(root.path().join("var/lib/mysql")).unwrap();
        let seen = || {
            let output =
                std::process::Command::new("sh").args(["-c", &script()]).current_dir(root.path()).output().unwrap();
            let answer = String::from_utf8(output.stdout).unwrap();
            assert!(!answer.contains("a:b"), "{answer}");
            ask(&answer).0.unwrap()
        };
        let found = seen();
        let lines = found.later.iter().map(|one| {
            let Later { path, line, behind_both, group, name, value } = one;
            format!("{path}:{line} {} [{group}] {name}={value}", if *behind_both { "both" } else { "one" })
        });
        let own = "/etc/mysql/mariadb.conf.d";
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "/srv/it's/more/x.cnf:2 one [mariadb] d=4".to_owned(),
                format!("{own}/98-own.cnf:3 one [mariadbd] a=1"),
                format!("{own}/zz-own.cnf:5 both [mariadbd] sync-binlog=0"),
                format!("{own}/zz-own.cnf:7 both [mariadbd] skip-name-resolve="),
                format!("{own}/zz-own.cnf:10 both [mariadbd-11.8] b=\"2\""),
                "/etc/mysql/my.cnf:4 both [mysqld] read_only=0".to_owned(),
                "/srv/it's/one:2 both [server] c=3".to_owned(),
                "/srv/home/.my.cnf:4 both [mysqld] f=".to_owned(),
            ]
        );
        assert!(!found.unread);
        assert_eq!((found.written.len(), found.written["sync-binlog"].as_str()), (2, "0"));
        std::fs::write(root.path().join("etc/mysql/my.cnf"), "[mysqld]\nread_only=0\n").unwrap();
        let found = seen();
        assert!(found.unread && found.later.is_empty(), "{found:?}");
    }

    #[test]
    fn values_are_what_the_client_wrote() {
        assert_eq!(unescaped("a\\tb\\nc\\\\n\\0\\"), "a\tb\nc\\n\0\\");
    }

    proptest! {
        #[test]
        fn any_answer_is_taken(text in any::<String>(), cut in 0_usize..4000, noise in "[\\t\\n\\\\a-z0-9-]{0,40}") {
            ask(&text);
            let cut = REPLICA.floor_char_boundary(cut);
            let (seen, now) = ask(&format!("{}{noise}{}", &REPLICA[..cut], &REPLICA[cut..]));
            prop_assert_eq!(seen.is_some(), now.is_some());
        }
    }
}

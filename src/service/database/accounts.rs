//! Who may log in to the servers: takes the site, gives the accounts that belong on every db host, and the task that makes them there.
//!
//! Each server is given its accounts by itself and without its binlog, so that neither a password nor a hash is replicated, and a
//! replica has them before it follows anyone. What infra made stands in the table `infra.accounts`, which no binlog has either: an
//! account that is not in it is another's, and stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{Material, SecretId};
use crate::base::net::HostName;
use crate::base::secret::{Form, sentinel_as};
use crate::inventory::site::{Agent, Database, DatabaseUser, Engine, Monitoring, Role, Site};
use crate::plan::decision::Decided;
use crate::plan::plan::Action;
use crate::plan::state::{Body, Digest, ObservedFleet, Phase};
use crate::plan::task::Task;
use crate::service::Context;
use crate::service::agent;
use crate::service::database::NAME;
use crate::service::database::engine::{self, Flavor};
use crate::service::database::seen::{ACCOUNTS, Made, SEEN, digests};

/// The task that drops accounts of before.
const FORMER: &str = "database/former-accounts";
/// Who reads a writer's binlog.
pub const REPLICATION: &str = "infra_repl";
/// Who does on another host what a change of the writer needs there.
pub const ADMIN: &str = "infra_admin";
/// Who writes the heartbeat.
pub const AGENT: &str = "infra_agent";
/// Who measures, where somebody watches.
pub const MONITOR: &str = agent::MONITOR;

/// How a client must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Require {
    /// However it likes.
    Nothing,
    /// By TLS.
    Tls,
    /// By TLS, with a certificate of our own authority.
    Certificate,
}

impl Require {
    fn sql(self) -> &'static str {
        match self {
            Self::Nothing => "NONE",
            Self::Tls => "SSL",
            Self::Certificate => "X509",
        }
    }
}

/// One account: a name, and one place that it may log in from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub user: String,
    /// An address, or `localhost` for the socket.
    pub host: String,
    /// What the service calls its password.
    secret: String,
    require: Require,
    /// What it may do, and where.
    grants: Vec<(Vec<&'static str>, String)>,
}

/// The privileges that are of no schema, by account and engine: no more than its work needs.
fn own(engine: Engine, user: &str) -> Vec<&'static str> {
    match (engine, user) {
        (Engine::Mariadb, REPLICATION) => vec!["REPLICATION SLAVE"],
        // A replica is seeded by this account too (`MySQL` reference manual, «Cloning Remote Data»).
        (Engine::Mysql, REPLICATION) => vec!["REPLICATION SLAVE", "BACKUP_ADMIN"],
        // Each was tried with the statements that need it; SUPER is not among them. (`MariaDB`: «GRANT», global privileges.)
        (Engine::Mariadb, ADMIN) => vec![
            "RELOAD",
            "PROCESS",
            "BINLOG MONITOR",
            "CONNECTION ADMIN",
            "READ_ONLY ADMIN",
            "REPLICATION SLAVE ADMIN",
            "REPLICATION MASTER ADMIN",
            "SLAVE MONITOR",
        ],
        (Engine::Mysql, ADMIN) => vec![
            "RELOAD",
            "PROCESS",
            "REPLICATION CLIENT",
            "CONNECTION_ADMIN",
            "REPLICATION_SLAVE_ADMIN",
            "SYSTEM_VARIABLES_ADMIN",
        ],
        // What the exporter collects without these needs no privilege (`MariaDB`: «SHOW REPLICA STATUS»; `MySQL`: the same).
        (Engine::Mariadb, MONITOR) => vec!["SLAVE MONITOR"],
        (Engine::Mysql, MONITOR) => vec!["REPLICATION CLIENT"],
        _ => Vec::new(),
    }
}

impl Account {
    fn of_user(name: &str, user: &DatabaseUser, host: String) -> Self {
        // In a grant `_` stands for any character (both manuals, «GRANT», database privileges).
        let schema = user.schema.replace('_', r"\_");
        let grants = vec![(user.grants.iter().copied().collect(), format!("`{schema}`.*"))];
        Self { user: name.to_owned(), host, secret: format!("user-{name}"), require: Require::Tls, grants }
    }

    fn own(engine: Engine, user: &str, host: String, collector: bool) -> Self {
        let (secret, require) = match user {
            REPLICATION => ("replication", Require::Tls),
            ADMIN => ("admin", Require::Certificate),
            MONITOR => ("monitor", Require::Nothing),
            _ => ("agent", Require::Nothing),
        };
        let mut grants = vec![(own(engine, user), "*.*".to_owned())];
        match user {
            ADMIN => {
                grants.push((vec!["SELECT"], "`infra`.*".to_owned()));
                // Where a writer asks another host whom it follows, and what it has received.
                if engine == Engine::Mysql {
                    for table in ["replication_connection_configuration", "replication_connection_status"] {
                        grants.push((vec!["SELECT"], format!("`performance_schema`.`{table}`")));
                    }
                }
            }
            // Its tables come later than the account does, on a replica by replication: a grant on them would have to wait.
            AGENT => grants.push((vec!["INSERT", "SELECT", "UPDATE"], "`infra`.*".to_owned())),
            // Sumo Logic's collector asks for measures of InnoDB and of statements, whatever it is told to leave out.
            MONITOR if collector => {
                grants.push((vec!["PROCESS"], "*.*".to_owned()));
                grants.push((vec!["SELECT"], "`performance_schema`.*".to_owned()));
            }
            _ => {}
        }
        grants.retain(|(privileges, _)| !privileges.is_empty());
        Self { user: user.to_owned(), host, secret: secret.to_owned(), require, grants }
    }

    /// As SQL writes it. Neither part has a quote or a backslash.
    fn quoted(&self) -> String {
        format!("'{}'@'{}'", self.user, self.host)
    }

    /// All that is wanted of it but its password.
    fn wanted(&self) -> Digest {
        let mut text = format!("{} {}", self.quoted(), self.require.sql());
        for (privileges, on) in &self.grants {
            let _ = write!(text, " {} {on}", privileges.join(","));
        }
        Digest::of(text.as_bytes())
    }

    /// Statements that make it so, whatever it was. One that is right gets its password alone, by one statement: no login fails
    /// meanwhile. One that is not is made anew, as nothing else takes away all that somebody may have granted it.
    fn sql(&self, engine: Engine, previous: bool) -> String {
        let Self { user, host, .. } = self;
        let (account, wanted) = (self.quoted(), self.wanted());
        let mut out = format!(
            "SET @kept = EXISTS (SELECT 1 FROM infra.accounts WHERE user = '{user}' AND host = '{host}' AND wanted = '{wanted}' AND digest <> '');\n\
             REPLACE INTO infra.accounts SELECT '{user}', '{host}', '{wanted}', '' FROM DUAL WHERE NOT @kept;\n"
        );
        let mut run = |statement: &str| {
            let _ = writeln!(out, "SET @s = {statement}; PREPARE s FROM @s; EXECUTE s;");
        };
        let only_new = |statement: &str| format!("IF(@kept, 'DO 0', {})", literal(statement));
        run(&only_new(&format!("DROP USER IF EXISTS {account}")));
        for (at, by) in passwords(engine, &self.secret, previous).iter().enumerate() {
            let verb = if at == 0 { "IF(@kept, 'ALTER', 'CREATE')" } else { "'ALTER'" };
            run(&format!("CONCAT({verb}, {}, {by})", literal(&format!(" USER {account} "))));
        }
        run(&only_new(&format!("ALTER USER {account} REQUIRE {} PASSWORD EXPIRE NEVER", self.require.sql())));
        for (privileges, on) in &self.grants {
            run(&only_new(&format!("GRANT {} ON {on} TO {account}", privileges.join(", "))));
        }
        out
    }
}

/// A string of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// What follows `ALTER USER NAME` so that the account takes its password, and the one of before while there is a `previous` one: an
/// expression for each statement. Passwords stand in it as hex, so that no character of theirs means anything.
fn passwords(engine: Engine, secret: &str, previous: bool) -> Vec<String> {
    let hex = |material: Material| sentinel_as(material, Form::Hex);
    let Some(id) = secret_id(secret) else { return Vec::new() };
    let (now, before) = (hex(Material::Secret(id.clone())), previous.then(|| hex(Material::PreviousSecret(id))));
    match engine {
        // An account may have several passwords of one kind, each of which opens it.
        Engine::Mariadb => {
            let using = |hex: &str| format!("'mysql_native_password USING ''', PASSWORD(x'{hex}'), ''''");
            let or = before.map(|hex| format!(", ' OR ', {}", using(&hex)));
            vec![format!("'IDENTIFIED VIA ', {}{}", using(&now), or.unwrap_or_default())]
        }
        // The one that was current before may be kept beside the current one.
        Engine::Mysql => {
            let by = |hex: &str| {
                format!("'IDENTIFIED WITH caching_sha2_password BY ', QUOTE(CONVERT(x'{hex}' USING utf8mb4))")
            };
            match before {
                Some(before) => vec![by(&before), format!("{}, ' RETAIN CURRENT PASSWORD'", by(&now))],
                None => vec![by(&now), "'DISCARD OLD PASSWORD'".to_owned()],
            }
        }
    }
}

/// The accounts of every db host, each once: infra's own first.
pub fn wanted(site: &Site, database: &Database) -> Vec<Account> {
    let addresses = |role: Role| -> Vec<String> {
        site.with_role(role).flat_map(|host| &host.addresses).map(ToString::to_string).collect()
    };
    let (engine, dbs) = (database.engine, addresses(Role::Db));
    let collector = site.monitoring.as_ref().and_then(Monitoring::sends_by) == Some(Agent::OtelcolSumo);
    let own = [REPLICATION, ADMIN].into_iter().flat_map(|user| dbs.iter().map(move |db| (user, db.clone())));
    let local = [AGENT].into_iter().chain(site.is_watched().then_some(MONITOR));
    let own = own
        .chain(local.map(|user| (user, "localhost".to_owned())))
        .map(|(user, host)| Account::own(engine, user, host, collector));
    let users = database
        .users
        .iter()
        .flat_map(|(name, user)| addresses(user.from).into_iter().map(move |host| Account::of_user(name, user, host)));
    own.chain(users).collect()
}

/// The id of a secret of this service; the names that it uses are fit for one.
pub(super) fn secret_id(secret: &str) -> Option<SecretId> {
    SecretId::new(NAME, secret).ok()
}

/// Whether a password is being rotated, and the one of before still opens its accounts.
fn has_previous(context: &Context<'_>, secret: &str) -> bool {
    secret_id(secret).is_some_and(|id| context.materials.may(&Material::PreviousSecret(id).to_string()).is_ok())
}

/// Makes the accounts on a db host.
///
/// # Errors
/// A password that is missing.
pub(super) fn task(context: &Context<'_>, database: &Database, flavor: Flavor) -> Result<Task, Diagnostic> {
    let all = wanted(context.site, database);
    let sql = all.iter().map(|account| account.sql(flavor.engine, has_previous(context, &account.secret)));
    let input = context.body(sql.collect())?;
    let users: Vec<&str> = database.users.keys().map(String::as_str).collect();
    let whose = if users.is_empty() { String::new() } else { format!("{}, and ", users.join(", ")) };
    Ok(Task {
        service: NAME,
        phase: Phase::Primary,
        title: format!("make the accounts of {whose}infra's own"),
        script: script(flavor),
        makes: BTreeMap::from([(ACCOUNTS.to_owned(), input.digest.to_string())]),
        input,
        limit: Duration::from_secs(120),
        undo: None,
    })
}

/// What is to be said of accounts, and which of before are dropped: those of an address that is gone, and those of a user that the
/// inventory removes. A user that is only missing there keeps its accounts. Nothing is done to what infra did not make.
pub(super) fn decide(site: &Site, observed: &ObservedFleet, decided: &mut Decided) {
    let Some(database) = &site.database else { return };
    let all = wanted(site, database);
    let is_wanted = |user: &str, host: &str| all.iter().any(|account| account.user == user && account.host == host);
    let is_own = |user: &str| [REPLICATION, ADMIN, AGENT, MONITOR].contains(&user);
    let known = |user: &str| database.users.contains_key(user) || database.former_users.contains(user) || is_own(user);
    let (mut changed, mut taken, mut kept, mut nameless) = (Told::new(), Told::new(), Told::new(), Told::new());
    for name in site.with_role(Role::Db).map(|host| &host.name) {
        let server = observed.get(name).and_then(|seen| SEEN.of(seen)).and_then(|seen| seen.server);
        let Some(server) = server else { continue };
        let tell = |told: &mut Told, what: String| {
            told.entry(what).or_default().insert(name.clone());
        };
        let mut former = Vec::new();
        for made in &server.accounts {
            let account = format!("'{}'@'{}'", made.user, made.host);
            if is_wanted(&made.user, &made.host) {
                if !made.intact {
                    tell(&mut changed, account);
                }
            } else if known(&made.user) {
                former.push(made);
            } else {
                tell(&mut kept, made.user.clone());
            }
        }
        let made = |user: &str, host: &str| server.accounts.iter().any(|made| made.user == user && made.host == host);
        for (user, host) in server.users.iter().filter(|(user, host)| !made(user, host)) {
            if is_wanted(user, host) {
                tell(&mut taken, format!("'{user}'@'{host}'"));
            } else if user.is_empty() {
                tell(&mut nameless, format!("''@'{host}'"));
            }
        }
        if !former.is_empty() {
            let task = drop_task(&former, database.engine);
            decided.act(name, task.phase, Action::Perform { name: FORMER.into(), task });
        }
    }
    let each = |told: Told, say: fn(&str, &str) -> String| {
        told.into_iter().map(move |(what, hosts)| {
            let hosts: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
            say(&what, &hosts.join(", "))
        })
    };
    decided.notes.extend(each(changed, |account, hosts| {
        format!("{hosts}: the account {account} is no longer as infra has made it, and is made so again")
    }));
    decided.notes.extend(each(taken, |account, hosts| {
        format!(
            "{hosts}: the account {account} is not one that infra has made: it becomes what the inventory says, and takes the password that infra knows"
        )
    }));
    decided.notes.extend(each(kept, |user, hosts| {
        format!(
            "{hosts}: the user {user} has accounts that infra has made, and is not in the inventory any more; `database.users: {{ {user}: {{ remove: true }} }}` drops them"
        )
    }));
    decided.notes.extend(each(nameless, |account, hosts| {
        format!("{hosts}: the account {account} has no name, and lets anybody in from there; `DROP USER {account}` ends that")
    }));
}

/// What is said, with the hosts that it is said of.
type Told = BTreeMap<String, BTreeSet<HostName>>;

/// Drops accounts that infra has made, when nobody needs them any more.
fn drop_task(former: &[&Made], engine: Engine) -> Task {
    let mut text = String::new();
    for Made { user, host, .. } in former {
        let (user, host) = (literal(user), literal(host));
        let _ = writeln!(
            text,
            "DROP USER IF EXISTS {user}@{host}; DELETE FROM infra.accounts WHERE user = {user} AND host = {host};"
        );
    }
    let names: Vec<String> = former.iter().map(|made| format!("'{}'@'{}'", made.user, made.host)).collect();
    let digest = Digest::of(text.as_bytes());
    Task {
        service: NAME,
        phase: Phase::Narrow,
        title: format!("drop the account{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", ")),
        script: format!("{}wait_up 60 && sql_here\n", engine::dialect(engine)),
        makes: BTreeMap::from([(FORMER.to_owned(), digest.to_string())]),
        input: Body { text: text.into(), digest, origin: None },
        limit: Duration::from_secs(120),
        undo: None,
    }
}

/// The script of the task; the statements of the accounts are its input.
fn script(flavor: Flavor) -> String {
    let script = include_str!("scripts/accounts.sh").replace("DIGESTS", digests(flavor.engine).trim_end());
    format!("{}{script}", flavor.dialect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::secret::display;
    use crate::inventory::load::load_text;
    use crate::plan::state::Observed;
    use crate::service::database::seen::{Seen, Server};
    use crate::service::platform;

    fn site(engine: &str) -> Site {
        let text = format!(
            "name: shop
hosts:
  lb1: {{ address: 10.0.1.11, roles: [lb] }}
  web1: {{ address: 10.0.2.11, roles: [web] }}
  app1: {{ address: [10.0.3.11, 'fd00:3::11'], roles: [app] }}
  db1: {{ address: 10.0.4.11, roles: [db] }}
  db2: {{ address: 10.0.4.12, roles: [db] }}
firewall: {{ manage_from: [10.0.0.0/24] }}
sites: {{ a.example.com: {{ app: {{ port: 8080, health: /healthz }} }} }}
certificates: {{ issuer: internal }}
database:
  engine: {engine}
  primary: db1
  schemas: [my_shop]
  users: {{ shop: {{ schema: my_shop, from: app, grants: [SELECT, INSERT] }}, old: {{ remove: true }} }}
"
        );
        load_text(&text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
    }

    fn account(site: &Site, user: &str) -> Account {
        wanted(site, site.database.as_ref().unwrap()).into_iter().find(|account| account.user == user).unwrap()
    }

    #[test]
    fn each_address_has_an_account_and_no_more() {
        let site = site("mariadb");
        let all: Vec<String> = wanted(&site, site.database.as_ref().unwrap()).iter().map(Account::quoted).collect();
        let expected = [
            "'infra_repl'@'10.0.4.11'",
            "'infra_repl'@'10.0.4.12'",
            "'infra_admin'@'10.0.4.11'",
            "'infra_admin'@'10.0.4.12'",
            "'infra_agent'@'localhost'",
            "'shop'@'10.0.3.11'",
            "'shop'@'fd00:3::11'",
        ];
        assert_eq!(all, expected);
        // A heartbeat is refused by a fence, and a fence of another host needs no more than this.
        for engine in [Engine::Mariadb, Engine::Mysql] {
            assert!(own(engine, AGENT).is_empty() && !own(engine, ADMIN).contains(&"SUPER"));
        }
    }

    #[test]
    fn both_passwords_hold_while_one_takes_the_others_place() {
        let shop = |engine, previous| {
            let site = site(if engine == Engine::Mysql { "mysql" } else { "mariadb" });
            display(&account(&site, "shop").sql(engine, previous))
        };
        let (mariadb, mysql) = (shop(Engine::Mariadb, true), shop(Engine::Mysql, true));
        for words in [
            "'IDENTIFIED VIA ', 'mysql_native_password USING ''', PASSWORD(x'‹database/user-shop›'), '''', ' OR ', \
             'mysql_native_password USING ''', PASSWORD(x'‹database/user-shop.previous›')",
            "GRANT INSERT, SELECT ON `my\\\\_shop`.* TO ''shop''@''10.0.3.11''",
            "REQUIRE SSL",
        ] {
            assert!(mariadb.contains(words), "{words} is not in {mariadb}");
        }
        let before = "BY ', QUOTE(CONVERT(x'‹database/user-shop.previous›' USING utf8mb4)))";
        let now = "BY ', QUOTE(CONVERT(x'‹database/user-shop›' USING utf8mb4)), ' RETAIN CURRENT PASSWORD')";
        assert!(mysql.find(before).unwrap() < mysql.find(now).unwrap(), "{mysql}");
        assert!(!mysql.contains("PASSWORD(x'") && !mysql.contains("DISCARD"), "{mysql}");
        let settled = shop(Engine::Mysql, false);
        assert!(settled.contains("'DISCARD OLD PASSWORD'") && !settled.contains("RETAIN"), "{settled}");
        assert!(!shop(Engine::Mariadb, false).contains("' OR '"));
    }

    #[test]
    fn accounts_of_before_go_by_the_inventorys_word_alone() {
        let site = site("mariadb");
        let db1: HostName = "db1".parse().unwrap();
        let made = |user: &str, host: &str, intact| Made { user: user.into(), host: host.into(), intact };
        let mut observed = Observed::bare(platform::oldest());
        let all = wanted(&site, site.database.as_ref().unwrap());
        let mut accounts: Vec<Made> = all.iter().map(|account| made(&account.user, &account.host, true)).collect();
        let users = accounts.iter().map(|made| (made.user.clone(), made.host.clone())).collect();
        let mut look = |accounts: &[Made], users: &BTreeSet<(String, String)>| {
            let server = Server { accounts: accounts.to_vec(), users: users.clone(), ..Server::default() };
            SEEN.put(&Seen { server: Some(server), ..Seen::default() }, &mut observed);
            let mut decided = Decided::default();
            decide(&site, &BTreeMap::from([(db1.clone(), observed.clone())]), &mut decided);
            decided
        };
        assert_eq!(look(&accounts, &users), Decided::default(), "all is well");

        let mut more: BTreeSet<(String, String)> = users;
        more.extend([("root".into(), "localhost".into()), ("foreign".into(), "%".into()), (String::new(), "%".into())]);
        accounts.extend([made("old", "10.0.3.11", true), made("shop", "10.0.3.12", false)]);
        accounts.extend([made("gone", "10.0.3.11", true), made("gone", "fd00:3::11", true)]);
        accounts[5].intact = false;
        let taken = accounts.remove(6);
        let decided = look(&accounts, &more);
        let [Action::Perform { task, .. }] = &decided.hosts[&db1][&Phase::Narrow][..] else { panic!("{decided:?}") };
        assert_eq!(task.title, "drop the accounts 'old'@'10.0.3.11', 'shop'@'10.0.3.12'");
        assert!(task.input.text.contains("DROP USER IF EXISTS 'shop'@'10.0.3.12'; DELETE"), "{}", task.input.text);
        let notes = decided.notes.join("\n");
        for words in [
            "db1: the account 'shop'@'10.0.3.11' is no longer as infra has made it",
            &format!("db1: the account '{}'@'{}' is not one that infra has made", taken.user, taken.host),
            "db1: the user gone has accounts that infra has made, and is not in the inventory any more",
            "db1: the account ''@'%' has no name",
        ] {
            assert_eq!(notes.matches(words).count(), 1, "{words}: {notes}");
        }
        assert!(decided.notes.len() == 4 && !notes.contains("foreign") && !notes.contains("root"), "{notes}");
    }
}

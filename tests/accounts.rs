//! The task that makes accounts, against a real server of MariaDB on loopback: any password, exactly the grants that are wanted, what
//! somebody has changed, two passwords at once; and nothing of a password in any log.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use infra::base::material::{Material, SecretId};
use infra::base::materials::{Materials, Owner};
use infra::inventory::load::load_text;
use infra::inventory::site::Site;
use infra::material;
use infra::plan::decision::Memory;
use infra::plan::task::Task;
use infra::service::database::seen::ACCOUNTS;
use infra::service::render::Templates;
use infra::service::{ALL, desire};

const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
  app1: { address: 10.0.3.11, roles: [app] }
  db1: { address: 10.0.4.11, roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { app: { port: 8080, health: /healthz } } }
certificates: { issuer: internal }
database:
  engine: mariadb
  primary: db1
  schemas: [my_shop]
  users: { shop: { schema: my_shop, from: app, grants: [SELECT, INSERT] } }
";
/// What may stand in a password that somebody gives.
const ODD: &str = "it's \\ a \"pass\"; -- `#$word€";
const NEXT: &str = "ANextPasswordThatIsQuiteLong0123";
const OWN: &str = "OnePasswordOfInfraItself01234567";

/// A server in a folder of its own, which ends with the test.
struct Server {
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    /// Fenced, with all logs that there are.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        run(Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &path("key"), "-out", &path("crt")]));
        run(Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--skip-test-db", "--auth-root-authentication-method=socket"])
            .arg(format!("--datadir={}", path("data"))));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--server-id=7", "--read-only=ON"])
            .args([
                "--log-bin=bin",
                "--general-log=1",
                "--slow-query-log=1",
                "--long-query-time=0",
                "--skip-name-resolve",
            ])
            .args(["--performance-schema=ON", "--performance-schema-consumer-events-statements-history-long=ON"])
            .args(["--performance-schema-instrument=statement/%=ON", &format!("--port={port}")])
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--log-error={}", path("error.log")))
            .arg(format!("--general-log-file={}", path("general.log")))
            .arg(format!("--slow-query-log-file={}", path("slow.log")))
            .arg(format!("--ssl-cert={}", path("crt")))
            .arg(format!("--ssl-key={}", path("key")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { dir, child, port };
        let until = Instant::now() + Duration::from_secs(60);
        while !server.client().args(["-e", "SELECT 1"]).output().unwrap().status.success() {
            assert!(Instant::now() < until, "{}", server.read("error.log"));
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs_err::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-uroot", "--batch", "-N"]).arg("--socket").arg(self.path("socket"));
        command
    }

    fn sql(&self, statements: &str) -> String {
        run(self.client().args(["-e", statements]))
    }

    /// Whether the user gets in with this password.
    fn admits(&self, user: &str, password: &str, tls: bool) -> bool {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h127.0.0.1", "--default-character-set=utf8mb4", "-e", "SELECT 1"]);
        command.args([&format!("-P{}", self.port), &format!("-u{user}")]).env("MYSQL_PWD", password);
        if tls {
            command.args(["--ssl-verify-server-cert", "--ssl-ca"]).arg(self.path("crt"));
        } else {
            command.arg("--skip-ssl");
        }
        command.output().unwrap().status.success()
    }

    /// Carries the task out as a host does it, on this server, at whose own address the app host stands.
    fn perform(&self, task: &Task, materials: &Materials) -> Output {
        let host = "db1".parse().unwrap();
        let here = |text: &str| {
            text.replace("/run/mysqld/mysqld.sock", &self.path("socket").display().to_string())
                .replace("10.0.3.11", "127.0.0.1")
        };
        let input = here(&materials.share(&host).materialize(&task.input.text).unwrap());
        let mut child = Command::new("sh")
            .args(["-c", &here(&task.script)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn make(&self, task: &Task, materials: &Materials) {
        let output = self.perform(task, materials);
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Accounts that are no longer what the task made of them, as the observation asks for them.
    fn changed(&self) -> String {
        let query = include_str!("../src/service/database/scripts/digests-mariadb.sql");
        self.sql(&format!(
            "SELECT user FROM infra.accounts LEFT JOIN ({query}) AS live ON live.account = CONCAT('''', user, '''@''', host, '''') \
             WHERE accounts.digest <> COALESCE(live.digest, '')"
        ))
    }

    fn grants(&self) -> String {
        let grants = self.sql("SHOW GRANTS FOR shop@127.0.0.1");
        grants.lines().map(|line| line.split(" IDENTIFIED").next().unwrap()).collect::<Vec<_>>().join("; ")
    }
}

fn site() -> Site {
    load_text(INVENTORY, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
}

fn secret(name: &str) -> SecretId {
    SecretId::new("database", name).unwrap()
}

/// The task of a db host, with these passwords of the user.
fn task(site: &Site, password: &str, previous: Option<&str>) -> (Task, Materials) {
    let mut materials = material::placeholders(site, ALL).unwrap();
    for (name, value) in [("replication", OWN), ("admin", OWN), ("agent", OWN), ("user-shop", password)] {
        materials.add_secret(Material::Secret(secret(name)), value, Owner::All);
    }
    if let Some(previous) = previous {
        materials.add_secret(Material::PreviousSecret(secret("user-shop")), previous, Owner::All);
    }
    let templates = Templates::load(ALL, None).unwrap();
    let mut desired = desire(site, (&BTreeMap::new(), &Memory::default()), &materials, &templates).unwrap();
    let host = desired.remove(&"db1".parse().unwrap()).unwrap();
    (host.tasks[ACCOUNTS].clone(), materials)
}

const EXACTLY: &str =
    "GRANT USAGE ON *.* TO `shop`@`127.0.0.1`; GRANT SELECT, INSERT ON `my\\\\_shop`.* TO `shop`@`127.0.0.1`";

#[test]
fn accounts_are_made_exactly_and_tell_nobody() {
    let (server, site) = (Server::start(), site());
    server
        .sql("SET sql_log_bin = 0; CREATE USER 'foreign'@'%' IDENTIFIED BY 'x'; GRANT SELECT ON *.* TO 'foreign'@'%'");
    let (foreign, position) = (server.sql("SHOW GRANTS FOR 'foreign'@'%'"), server.sql("SELECT @@gtid_binlog_pos"));

    // Made, with a password that has all that could mean something; over TLS alone.
    let (odd, materials) = task(&site, ODD, None);
    server.make(&odd, &materials);
    assert!(
        server.admits("shop", ODD, true) && !server.admits("shop", ODD, false) && !server.admits("shop", NEXT, true)
    );
    assert_eq!((server.grants().as_str(), server.changed().as_str()), (EXACTLY, ""));
    let infra = "SELECT user, host FROM infra.accounts ORDER BY user, host";
    let all = "infra_admin\t10.0.4.11\ninfra_admin\t10.0.4.12\ninfra_agent\tlocalhost\ninfra_repl\t10.0.4.11\n\
               infra_repl\t10.0.4.12\nshop\t127.0.0.1\n";
    assert_eq!(server.sql(infra), all);

    // Twice is nothing.
    let digests = "SELECT digest FROM infra.accounts WHERE user <> 'x' ORDER BY user, host";
    server.make(&odd, &materials);
    assert_eq!(
        (server.sql(infra).as_str(), server.changed().as_str(), server.sql(digests).lines().count()),
        (all, "", 6)
    );

    // What somebody has changed is seen, and is as it was afterwards.
    for change in [
        "REVOKE INSERT ON `my\\_shop`.* FROM shop@127.0.0.1",
        "GRANT DELETE ON *.* TO shop@127.0.0.1",
        "GRANT SELECT ON mysql.user TO shop@127.0.0.1",
        "GRANT SELECT (User) ON mysql.db TO shop@127.0.0.1",
        "CREATE ROLE idle; GRANT idle TO shop@127.0.0.1",
        "ALTER USER shop@127.0.0.1 REQUIRE NONE",
        "ALTER USER shop@127.0.0.1 ACCOUNT LOCK",
        "ALTER USER shop@127.0.0.1 IDENTIFIED BY 'other'",
        "DROP USER shop@127.0.0.1",
    ] {
        server.sql(&format!("SET sql_log_bin = 0; {change}"));
        assert_eq!(server.changed(), "shop\n", "{change}");
        server.make(&odd, &materials);
        assert_eq!((server.grants().as_str(), server.changed().as_str()), (EXACTLY, ""), "{change}");
        assert!(server.admits("shop", ODD, true) && !server.admits("shop", ODD, false), "{change}");
    }

    // Both passwords open it while the one takes the other's place; a session of before goes on.
    let mut session = Command::new("mariadb");
    session.args(["--no-defaults", "-h127.0.0.1", "-ushop", "--batch", "-N", "--ssl", &format!("-P{}", server.port)]);
    session.env("MYSQL_PWD", ODD).arg("--default-character-set=utf8mb4");
    let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (both, materials) = task(&site, NEXT, Some(ODD));
    server.make(&both, &materials);
    assert!(server.admits("shop", ODD, true) && server.admits("shop", NEXT, true) && server.changed().is_empty());
    let (settled, materials) = task(&site, NEXT, None);
    server.make(&settled, &materials);
    assert!(!server.admits("shop", ODD, true) && server.admits("shop", NEXT, true) && server.changed().is_empty());
    session.stdin.take().unwrap().write_all(b"SELECT 'goes on';\n").unwrap();
    assert_eq!(String::from_utf8(session.wait_with_output().unwrap().stdout).unwrap(), "goes on\n");

    // Who is not infra's is as before, the fence stands, and the binlog has nothing.
    assert_eq!(server.sql("SHOW GRANTS FOR 'foreign'@'%'"), foreign);
    assert_eq!(server.sql("SELECT @@read_only"), "1\n");
    assert_eq!(server.sql("SELECT @@gtid_binlog_pos"), position);

    // A statement that fails is told without what stands in it.
    let mut wrong = settled.clone();
    wrong.input.text = format!("{}CREATE USR '{NEXT}';\n", wrong.input.text).into();
    let said = server.perform(&wrong, &materials);
    assert!(
        !said.status.success() && text(&said).contains("ERROR 1064") && !text(&said).contains(NEXT),
        "{}",
        text(&said)
    );

    server.keeps(&[ODD, NEXT, OWN]);
}

impl Server {
    /// Neither a password, nor its hash, nor its hex is in what the server logs or remembers.
    fn keeps(&self, passwords: &[&str]) {
        let mut words = Vec::new();
        for password in passwords {
            let hex = password.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            // This asks for the hash itself, in a session that is not logged.
            let ask = format!("SET sql_log_off = 1, slow_query_log = 0; SELECT PASSWORD(x'{hex}')");
            let hash = self.sql(&ask).trim().trim_start_matches('*').to_owned();
            words.extend([(*password).to_owned(), hex, hash]);
        }
        let remembered = self.sql(
            "SELECT SQL_TEXT FROM performance_schema.events_statements_history_long; \
             SELECT SQL_TEXT FROM performance_schema.events_statements_history; \
             SELECT DIGEST_TEXT FROM performance_schema.events_statements_summary_by_digest",
        );
        assert!(remembered.contains("SHOW GRANTS"), "nothing is remembered at all");
        for word in words {
            // What this test itself asked for.
            let own = |line: &&str| !line.contains("SELECT PASSWORD(x'");
            let found = remembered.lines().filter(own).find(|line| line.contains(&word));
            assert!(found.is_none(), "performance_schema has {found:?}");
            for log in ["general.log", "slow.log", "error.log", "data/bin.000001"] {
                let kept = self.read(log);
                assert!(log == "error.log" || kept.len() > 100, "{log} is empty");
                assert!(!kept.to_lowercase().contains(&word.to_lowercase()), "{log} has `{word}`");
            }
        }
    }
}

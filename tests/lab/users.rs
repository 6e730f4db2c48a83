//! The users of a database in a lab: a stock client logs in by the files that a program gets; what somebody changes is made so again;
//! passwords are replaced while a program logs in all the time, and it is not refused once; users go by the inventory's word alone; and
//! no password stands anywhere but where it belongs.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/databases.rs"]
mod databases;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use databases::{Bench, Check, Release, bench, checks, nothing_to_do, sql, wait};
use infra::material::passwords;

const INVENTORY: &str = "name: shop
ssh: { user: root }
hosts:
  front: { address: 10.0.1.11, public: 203.0.113.11, roles: [lb, web], allow_mixed_roles: this is a test of databases }
  app1: { address: [10.0.3.11, \"fd00:3::11\"], roles: [app] }
  db1: { address: [10.0.4.11, \"fd00:4::11\"], roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
sites: { shop.example.com: { app: { port: 8080, health: /healthz } } }
database:
  engine: mariadb
  primary: db1
  schemas: [shop, my_stock]
  users:
    shop: { schema: shop, from: app, reload: shop.service, group: mail }
    stock: { schema: my_stock, from: app, grants: [SELECT], password: { file: stock.password } }
    old: { schema: shop, from: app }
";
/// What somebody chose, with all that could mean something.
const CHOSEN: &str = "it's \\ a \"pass\"; -- `#$word";

/// A program that logs in anew for each row, and keeps what it was told when it could not. Its password is its environment's.
const PROGRAM: &str = r#"#!/bin/sh
sql() { MYSQL_PWD=$DB_PASSWORD mariadb --no-defaults -h"$DB_HOST" -P"$DB_PORT" -u"$DB_USER" --ssl-ca="$DB_CA" --ssl-verify-server-cert "$DB_NAME" -e "$1"; }
while :; do
	if said=$(sql "INSERT INTO rows_of (at) VALUES (UTC_TIMESTAMP(6))" 2>&1); then echo ok >>/root/done; else echo "$said" >>/root/refused; fi
	sleep 0.05
done
"#;
const UNIT: &str =
    "[Service]\nEnvironmentFile=/etc/infra/db/shop.env\nExecStart=/bin/sh /root/program\nRestart=always\n";

#[test]
fn users_of_a_database() {
    let bench = Bench::up("t-users", INVENTORY, Release::Bookworm);
    bench::write(&bench.dir.path().join("stock.password"), CHOSEN);
    let all: [Check<Bench>; 7] = [
        ("a stock client logs in by the files of a program", stock_client),
        ("what somebody changes is seen and made so again", changed),
        ("a password is replaced, and nobody is refused", rotated),
        ("a controller that is killed while it replaces a password", killed),
        ("what is given is not infra's to replace", given),
        ("a user goes by the inventory's word", removed),
        ("no password stands where it does not belong", nowhere),
    ];
    checks::run(&bench, &all, |bench| drop(bench.apply()));
}

/// What infra keeps, by the secret's name.
fn kept(bench: &Bench) -> BTreeMap<String, (String, bool)> {
    let site = bench.site();
    let all = passwords::read(&site.state, &site.name).unwrap();
    all.iter().map(|(id, p)| (id.to_string(), (p.reveal().to_owned(), p.reveal_previous().is_some()))).collect()
}

fn stock_client(bench: &Bench) {
    bench.apply().expect(0);
    nothing_to_do(bench);
    bench.sh("app1", "DEBIAN_FRONTEND=noninteractive apt-get install -qy mariadb-client").expect(0);
    sql(bench, "db1", "CREATE TABLE shop.rows_of (id INT PRIMARY KEY AUTO_INCREMENT, at DATETIME(6) NOT NULL)");
    let client = |file: &str, options: &str, statement: &str| {
        bench.sh("app1", &format!("mariadb --defaults-file=/etc/infra/db/{file}.cnf {options} -NB -e \"{statement}\""))
    };
    wait("the proxy has seen who writes", Duration::from_secs(30), || {
        (client("shop", "", "SELECT 1").code == 0).then_some(())
    });
    let who = "SELECT CURRENT_USER(), @@hostname, @@read_only, DATABASE()";
    let said = client("shop", "", who).expect(0).out;
    assert!(said.starts_with("shop@") && said.ends_with("\tdb1\t0\tshop\n"), "{said}");
    let said = client("shop", "--defaults-group-suffix=_read", who).expect(0).out;
    assert!(said.contains("\tdb2\t1\t"), "{said}");
    // Its grants, and no more; whatever stands in a password.
    assert!(client("stock", "", "SELECT CURRENT_USER()").expect(0).out.starts_with("stock@"));
    assert!(client("stock", "", "CREATE TABLE t (id INT)").expect(1).err.contains("denied"));
    assert!(client("shop", "", "SELECT * FROM mysql.user").expect(1).err.contains("denied"));
    // A shell and systemd read the same.
    let by_shell = bench.sh("app1", ". /etc/infra/db/stock.env; printf '%s' \"$DB_PASSWORD\"").expect(0).out;
    let by_systemd =
        "systemd-run -q --wait --pipe -p EnvironmentFile=/etc/infra/db/stock.env sh -c 'printf %s \"$DB_PASSWORD\"'";
    assert_eq!((by_shell.as_str(), bench.sh("app1", by_systemd).expect(0).out.as_str()), (CHOSEN, CHOSEN));
    let modes =
        bench.sh("app1", "cd /etc/infra/db; stat -c '%n %a %U:%G' shop.env shop.cnf stock.env ca.crt").expect(0).out;
    assert_eq!(
        modes,
        "shop.env 640 root:mail\nshop.cnf 640 root:mail\nstock.env 640 root:root\nca.crt 644 root:root\n"
    );
    // The heartbeat's account may not write behind a fence.
    let beat = "mariadb --defaults-file=/etc/mysql/infra/agent.cnf -e 'UPDATE infra.heartbeat SET at = at'";
    assert!(bench.sh("db2", beat).expect(1).err.contains("read-only"));
}

fn changed(bench: &Bench) {
    for (host, change) in [
        ("db2", "REVOKE INSERT ON shop.* FROM shop@10.0.3.11"),
        ("db1", "GRANT SELECT ON *.* TO 'shop'@'fd00:3::11'"),
        ("db1", "DROP USER stock@10.0.3.11"),
    ] {
        sql(bench, host, &format!("SET sql_log_bin = 0; {change}"));
        let said = bench.infra(&["diff"]).expect(3);
        assert!(said.out.contains("> make the accounts of old, shop, stock, and infra's own"), "{}", said.out);
        assert!(said.err.contains(&format!("{host}: the account ")), "{}", said.err);
        bench.apply().expect(0);
        nothing_to_do(bench);
    }
    let grants = sql(bench, "db1", "SHOW GRANTS FOR 'shop'@'fd00:3::11'");
    assert!(!grants.contains("SELECT ON *.*") && grants.contains("ON `shop`.*"), "{grants}");
    // Neither of them was told the other: each server has its accounts by itself.
    let logs = "for log in $(mariadb -NB -e 'SHOW BINARY LOGS' | cut -f 1); do mariadb -NB -e \"SHOW BINLOG EVENTS IN '$log'\"; done";
    assert_eq!(
        bench.sh("db1", &format!("{logs} | grep -ciE 'create user|alter user|grant |infra.accounts'")).out,
        "0\n"
    );
}

/// The program runs, and has written.
fn program(bench: &Bench) {
    put(bench, "app1", "/root/program", PROGRAM);
    put(bench, "app1", "/etc/systemd/system/shop.service", UNIT);
    bench.sh("app1", "systemctl daemon-reload; rm -f /root/done /root/refused; systemctl restart shop").expect(0);
    wait("the program writes", Duration::from_secs(30), || writes(bench).then_some(()));
}

fn writes(bench: &Bench) -> bool {
    bench
        .sh(
            "app1",
            "rm -f /root/done; for n in 1 2 3 4 5 6 7 8; do [ ! -s /root/done ] || exit 0; sleep 0.5; done; exit 1",
        )
        .code
        == 0
}

#[track_caller]
fn nobody_was_refused(bench: &Bench) {
    let refused = bench.sh("app1", "cat /root/refused 2>/dev/null").out;
    assert!(refused.is_empty() && writes(bench), "{refused}");
}

fn rotated(bench: &Bench) {
    program(bench);
    let (before, pid) = (kept(bench), "systemctl show -p MainPID --value shop");
    let first = bench.sh("app1", pid).out;
    let said = bench.infra(&["db", "rotate", "shop", "--yes"]).expect(0);
    assert!(said.out.contains("let shop.service take the credentials of shop"), "{}", said.out);
    let after = kept(bench);
    assert!(before["database/user-shop"] != after["database/user-shop"] && !after["database/user-shop"].1);
    assert_eq!(before["database/user-old"], after["database/user-old"]);
    assert_ne!(bench.sh("app1", pid).out, first, "a process keeps its environment");
    nobody_was_refused(bench);
    let old = |host: &str| {
        let password = &before["database/user-shop"].0;
        bench.sh("app1", &format!("MYSQL_PWD={password} mariadb --no-defaults --ssl -h{host} -ushop -e 'SELECT 1'"))
    };
    assert!(["10.0.4.11", "10.0.4.12"].iter().all(|host| old(host).err.contains("Access denied")));
    nothing_to_do(bench);

    // All that infra made, its own among them: replication goes on with the new password, also after a new start.
    bench.infra(&["db", "rotate", "--all", "--yes"]).expect(0);
    let all = kept(bench);
    assert!(after.iter().all(|(name, password)| all[name].0 != password.0 && !all[name].1));
    nobody_was_refused(bench);
    sql(bench, "db2", "STOP SLAVE; START SLAVE");
    wait("the replica follows with the new password", Duration::from_secs(30), || {
        bench.sh("db2", "mariadb -e 'SHOW SLAVE STATUS\\G'").out.contains("Slave_IO_Running: Yes").then_some(())
    });
    let admin = "mariadb --defaults-file=/etc/mysql/infra/admin.cnf -h10.0.4.11 --ssl-verify-server-cert --ssl-ca=/etc/mysql/infra/ca.crt \
                 --ssl-cert=/etc/mysql/infra/client.crt --ssl-key=/etc/mysql/infra/client.key -NB -e 'SELECT @@hostname'";
    assert_eq!(bench.sh("db2", admin).expect(0).out, "db1\n");
    nothing_to_do(bench);
}

/// A moment of the replacement at which it is killed.
enum Moment {
    /// So many milliseconds after it began.
    After(u64),
    /// Both passwords are kept.
    Both,
    /// The new one alone is kept: the databases have not ended the old one yet.
    New,
}

impl Moment {
    fn await_it(&self, bench: &Bench, old: &str) {
        let reached = |password: &str, both: bool| match self {
            Self::After(_) => true,
            Self::Both => both,
            Self::New => !both && password != old,
        };
        if let Self::After(milliseconds) = self {
            std::thread::sleep(Duration::from_millis(*milliseconds));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let now = &kept(bench)["database/user-shop"];
            if reached(&now.0, now.1) {
                return;
            }
            assert!(Instant::now() < deadline, "this moment did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Wherever it is killed, the same command goes on, and meanwhile nobody is refused.
fn killed(bench: &Bench) {
    use Moment::{After, Both, New};
    program(bench);
    for moment in [After(700), Both, After(1500), New, After(2500), After(4000)] {
        let old = kept(bench)["database/user-shop"].0.clone();
        let mut command = bench.infra_command(&["db", "rotate", "shop", "--yes"]);
        let mut run = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        moment.await_it(bench, &old);
        run.kill().unwrap();
        run.wait().unwrap();
        // The host ends the step that it is at by itself.
        wait("the same command goes on", Duration::from_secs(90), || {
            (bench.infra(&["db", "rotate", "shop", "--yes"]).code == 0).then_some(())
        });
        assert!(!kept(bench)["database/user-shop"].1);
        nobody_was_refused(bench);
    }
    bench.apply().expect(0);
    nothing_to_do(bench);
}

fn given(bench: &Bench) {
    let said = bench.infra(&["db", "rotate", "stock", "--yes"]).expect(2);
    assert!(said.err.contains("the inventory says where the password of stock is kept"), "{}", said.err);
    assert!(bench.infra(&["db", "rotate", "shopp", "--yes"]).expect(2).err.contains("has no user `shopp`"));
    // A change at its place is brought.
    bench::write(&bench.dir.path().join("stock.password"), "another word of theirs");
    bench.apply().expect(0);
    bench.sh("app1", "mariadb --defaults-file=/etc/infra/db/stock.cnf -e 'SELECT 1'").expect(0);
    nothing_to_do(bench);
}

fn removed(bench: &Bench) {
    let accounts = |host| sql(bench, host, "SELECT COUNT(*) FROM mysql.user WHERE User = 'old'");
    bench.edit("    old: { schema: shop, from: app }\n", "");
    let said = bench.apply().expect(0);
    assert!(said.err.contains("the user old has accounts that infra has made"), "{}", said.err);
    assert_eq!((accounts("db1"), accounts("db2")), ("2\n".into(), "2\n".into()));
    bench.edit("  users:\n", "  users:\n    old: { remove: true }\n");
    let said = bench.apply().expect(0);
    assert!(said.out.contains("> drop the accounts 'old'@'10.0.3.11', 'old'@'fd00:3::11'"), "{}", said.out);
    assert_eq!((accounts("db1"), accounts("db2")), ("0\n".into(), "0\n".into()));
    assert_eq!(bench.sh("app1", "ls /etc/infra/db | grep -c old").out, "0\n");
    sql(bench, "db1", "SELECT COUNT(*) FROM shop.rows_of");
    nothing_to_do(bench);
}

/// All that is a password here, and its hash, looked for in all logs, on both servers' binlogs, and in what processes were started with.
/// The copies of files by which a run is put back are infra's own, and root's alone.
fn nowhere(bench: &Bench) {
    bench.sh("app1", "systemctl stop shop").expect(0);
    let mut words: Vec<String> = kept(bench).into_values().map(|(password, _)| password).collect();
    words.push("another word of theirs".into());
    let hashes =
        words.iter().fold(String::new(), |all, word| all + &format!("SELECT SUBSTR(PASSWORD('{word}'), 2);\n"));
    let hashes = sql(bench, "db1", &format!("SET sql_log_off = 1, slow_query_log = 0;\n{hashes}"));
    let patterns = format!("{}\n{}", words.join("\n"), hashes.trim_end());
    assert_eq!(patterns.lines().count(), 2 * words.len());
    for host in ["db1", "db2", "app1", "front"] {
        put(bench, host, "/run/patterns", &patterns);
        let places = "/var/log /run/log /var/lib/infra /tmp $(ls -d /var/lib/mysql/*-bin* 2>/dev/null)";
        let script = format!(
            "grep -rlFi --exclude-dir=old -f /run/patterns {places} 2>/dev/null; journalctl -o cat | grep -cFi -f /run/patterns; \
             cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -cFi -f /run/patterns; rm /run/patterns"
        );
        assert_eq!(bench.sh(host, &script).expect(0).out, "0\n0\n", "{host}");
    }
    let said = bench.infra(&["diff", "--json", "-v"]).expect(0);
    assert!(words.iter().all(|word| !said.out.contains(word) && !said.err.contains(word)));
}

fn put(bench: &Bench, host: &str, path: &str, text: &str) {
    bench.sh(host, &format!("cat >{path} <<'END'\n{text}\nEND")).expect(0);
}

//! `MySQL` 9.7, which Debian has before a release only: bare hosts to a pair that replicates over verified TLS, another writer, other
//! passwords, a copy of the data by the clone plugin, a writer that has lost what was acknowledged, and one whose host has died, with
//! and without transactions that nobody else has. Where sid's packages cannot be had, it lists itself as not run.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::time::Duration;

use bench::{Bench, wait};
use checks::Check;
use infra::lab::Release;
use infra::material::passwords;

const INVENTORY: &str = "name: shop
ssh: { user: root }
hosts:
  front: { address: 10.0.1.11, public: 203.0.113.11, roles: [lb, web], allow_mixed_roles: this is a test of databases }
  app1: { address: 10.0.3.11, roles: [app] }
  db1: { address: [10.0.4.11, \"fd00:4::11\"], roles: [db] }
  db2: { address: [10.0.4.12, \"fd00:4::12\"], roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
sites: { shop.example.com: { app: { port: 8080, health: /healthz } } }
database:
  engine: mysql
  primary: db1
  schemas: [shop]
  users:
    shop: { schema: shop, from: app, reload: shop.service }
";
const CLIENT: &str = "mysql --defaults-file=/etc/infra/db/shop.cnf --connect-timeout=3";

/// A program that logs in anew for each row, and keeps what it was told when it could not. Its password is its environment's.
const PROGRAM: &str = r#"#!/bin/sh
while :; do
	if said=$(MYSQL_PWD=$DB_PASSWORD mysql --no-defaults -h"$DB_HOST" -P"$DB_PORT" -u"$DB_USER" --ssl-mode=VERIFY_IDENTITY \
		--ssl-ca="$DB_CA" "$DB_NAME" -e "INSERT INTO rows_of (at) VALUES (UTC_TIMESTAMP(6))" 2>&1); then
		echo ok >>/root/done
	else
		echo "$said" >>/root/refused
	fi
	sleep 0.05
done
"#;
const UNIT: &str =
    "[Service]\nEnvironmentFile=/etc/infra/db/shop.env\nExecStart=/bin/sh /root/program\nRestart=always\n";

#[test]
fn a_pair_on_sid() {
    let Some(bench) = Bench::up_if_had("t-mysql", INVENTORY, Release::Sid) else { return };
    let all: [Check<Bench>; 12] = [
        ("bare hosts to a pair", |bench| {
            bench.apply().expect(0);
            assert!(sql(bench, "db1", "SELECT VERSION()").starts_with("9.7."));
        }),
        ("over TLS whose names are checked", verified),
        ("a row by one port is read by the other", replicated),
        ("twice is nothing", nothing_to_do),
        ("what somebody persists is refused, and what somebody sets is set back", set_otherwise),
        ("another writer", another_writer),
        ("passwords are replaced, and nobody is refused", rotated),
        ("what a writer has lost in a crash comes back", fetched),
        ("a host with nothing gets a copy while others write", seeded),
        ("the writer's host loses its power", power_cut),
        ("transactions that nobody else has are shown, and given up by a person's word alone", errant),
        ("a replica whose server does not start gets a copy", broken),
    ];
    checks::run(&bench, &all, |bench| {
        for db in ["db1", "db2"] {
            let _ = bench.lab().start(db);
        }
        drop(bench.apply());
    });
}

/// What a statement gives on a db host, as root.
#[track_caller]
fn sql(bench: &Bench, host: &str, statement: &str) -> String {
    bench.sh(host, &format!("mysql -NBe \"{statement}\"")).expect(0).out.trim_end().to_owned()
}

#[track_caller]
fn nothing_to_do(bench: &Bench) {
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
}

/// The one host that takes writes, and the other one; panics where it is not one.
#[track_caller]
fn writer(bench: &Bench) -> (&'static str, &'static str) {
    match ["db1", "db2"].map(|db| sql(bench, db, "SELECT @@read_only")).each_ref().map(String::as_str) {
        ["0", "1"] => ("db1", "db2"),
        ["1", "0"] => ("db2", "db1"),
        other => panic!("read_only of db1 and db2: {other:?}"),
    }
}

/// The replica has all that the writer has, and the same rows.
#[track_caller]
fn equal(bench: &Bench) {
    let (writer, replica) = writer(bench);
    let names = "SELECT GROUP_CONCAT('shop.', table_name ORDER BY table_name) FROM information_schema.tables WHERE table_schema = 'shop'";
    let sums = |host| {
        let tables = sql(bench, host, names);
        sql(bench, host, &format!("CHECKSUM TABLE infra.role, {tables}"))
    };
    // A program that was stopped may have left a row that is still on its way.
    wait(&format!("{replica} has the rows of {writer}"), Duration::from_secs(60), || {
        (sums(writer) == sums(replica)).then_some(())
    });
    let has = |host| sql(bench, host, "SELECT REPLACE(@@GLOBAL.gtid_executed, CHAR(10), '')");
    let lacks = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', 60)", has(writer));
    assert_eq!(sql(bench, replica, &lacks), "0");
    assert_eq!(sql(bench, replica, "SELECT @@super_read_only"), "1");
}

/// A row of the program's, written as it does it. What was not acknowledged may have been kept: the key is not.
#[track_caller]
fn write(bench: &Bench, id: u32) {
    wait("a row is written", Duration::from_secs(60), || {
        (bench.sh("app1", &format!("{CLIENT} -e 'REPLACE INTO t VALUES ({id})'")).code == 0).then_some(())
    });
}

fn verified(bench: &Bench) {
    let status = bench.sh("db2", "mysql -E -e 'SHOW REPLICA STATUS'").expect(0).out;
    for (field, value) in [
        ("Replica_IO_Running", "Yes"),
        ("Replica_SQL_Running", "Yes"),
        ("Source_SSL_Allowed", "Yes"),
        ("Source_SSL_Verify_Server_Cert", "Yes"),
        ("Source_SSL_CA_File", "/etc/mysql/infra/ca.crt"),
        ("Auto_Position", "1"),
    ] {
        let line = format!("{field}: {value}");
        assert!(status.lines().any(|l| l.trim() == line), "no `{line}` in\n{status}");
    }
    assert_eq!(sql(bench, "db2", "SELECT @@super_read_only"), "1");
    assert_eq!(sql(bench, "db1", "SELECT @@super_read_only"), "0");
}

/// As a program does it, with the files that infra has made.
fn replicated(bench: &Bench) {
    bench
        .sh("app1", "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install mysql-client-core")
        .expect(0);
    let make = "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (7)";
    bench.sh("app1", &format!("{CLIENT} -e '{make}'")).expect(0);
    let read = "mysql --defaults-file=/etc/infra/db/shop.cnf --defaults-group-suffix=_read -NBe 'SELECT id, @@hostname FROM t'";
    wait("the row is read on the replica", Duration::from_secs(60), || {
        (bench.sh("app1", read).out == "7\tdb2\n").then_some(())
    });
}

fn set_otherwise(bench: &Bench) {
    sql(bench, "db1", "SET PERSIST sync_binlog = 0; SET PERSIST sort_buffer_size = 524288");
    let said = bench.infra(&["diff"]).expect(2);
    let told = "db1: `SET PERSIST` has made it `sync_binlog = 0` for every start, and infra writes `sync_binlog = 1`";
    assert!(said.err.contains(told) && said.err.contains("`RESET PERSIST sync_binlog`"), "{}{}", said.out, said.err);
    sql(bench, "db1", "RESET PERSIST sync_binlog");
    let said = bench.apply().expect(0);
    assert!(said.out.contains("> set back what somebody has told the running server: sync_binlog = 0"), "{}", said.out);
    assert_eq!(sql(bench, "db1", "SELECT @@sync_binlog, @@GLOBAL.sort_buffer_size"), "1\t524288");
    sql(bench, "db1", "RESET PERSIST");
    nothing_to_do(bench);
}

fn another_writer(bench: &Bench) {
    bench.infra(&["db", "switchover", "db2", "--yes"]).expect(0);
    assert_eq!(sql(bench, "db2", "SELECT @@super_read_only, @@read_only"), "0\t0");
    assert_eq!(sql(bench, "db1", "SELECT @@super_read_only, writer FROM infra.role"), "1\tdb2");
    write(bench, 8);
    assert_eq!(bench.sh("app1", &format!("{CLIENT} -NBe 'SELECT @@hostname'")).expect(0).out, "db2\n");
    equal(bench);
    bench.infra(&["db", "status"]).expect(0);
    nothing_to_do(bench);
}

/// The passwords that infra keeps, by the secret's name, and whether one of before still opens the account.
fn kept(bench: &Bench) -> Vec<(String, String, bool)> {
    let site = bench.site();
    let all = passwords::read(&site.state, &site.name).unwrap();
    all.iter().map(|(id, p)| (id.to_string(), p.reveal().to_owned(), p.reveal_previous().is_some())).collect()
}

fn rotated(bench: &Bench) {
    let (writer, replica) = writer(bench);
    let put = |path: &str, text: &str| bench.sh("app1", &format!("cat >{path} <<'END'\n{text}\nEND")).expect(0);
    bench
        .sh("app1", &format!("{CLIENT} -e 'CREATE TABLE rows_of (id INT PRIMARY KEY AUTO_INCREMENT, at DATETIME(6))'"))
        .expect(0);
    put("/root/program", PROGRAM);
    put("/etc/systemd/system/shop.service", UNIT);
    bench.sh("app1", "systemctl daemon-reload; systemctl restart shop").expect(0);
    let goes_on = || {
        bench.sh("app1", "rm -f /root/done").expect(0);
        wait("the program writes", Duration::from_secs(30), || {
            (bench.sh("app1", "test -s /root/done").code == 0).then_some(())
        });
        assert_eq!(bench.sh("app1", "cat /root/refused 2>/dev/null").out, "");
    };
    goes_on();
    let before = kept(bench);
    // All that infra made, its own among them.
    bench.infra(&["db", "rotate", "--all", "--yes"]).expect(0);
    let after = kept(bench);
    assert_eq!(before.len(), after.len());
    for ((name, old, _), (_, new, both)) in before.iter().zip(&after) {
        assert!(old != new && !both, "{name}");
    }
    goes_on();
    let (_, old, _) = before.iter().find(|(name, ..)| name == "database/user-shop").unwrap();
    for host in ["10.0.4.11", "10.0.4.12"] {
        let said = bench.sh("app1", &format!("MYSQL_PWD={old} mysql --no-defaults -h{host} -ushop -e 'SELECT 1'"));
        assert!(said.err.contains("Access denied"), "{}{}", said.out, said.err);
    }
    // Replication goes on with the new password, also after a new start.
    sql(bench, replica, "STOP REPLICA; START REPLICA");
    wait("the replica follows with the new password", Duration::from_secs(30), || {
        bench.sh(replica, "mysql -E -e 'SHOW REPLICA STATUS'").out.contains("Replica_IO_Running: Yes").then_some(())
    });
    let accounts = "SELECT COUNT(*) FROM mysql.user WHERE User_attributes LIKE '%additional_password%'";
    assert_eq!([writer, replica].map(|host| sql(bench, host, accounts)), ["0", "0"]);
    bench.sh("app1", "systemctl stop shop").expect(0);
    equal(bench);
    nothing_to_do(bench);
}

/// The server of the writer has started, and its agent opens it; gives what that has told.
#[track_caller]
fn opens(bench: &Bench, writer: &str) -> String {
    let log = || bench.sh(writer, "journalctl -q -b -o cat -u infra-db-role | tail -n 20").out;
    for _ in 0..300 {
        if bench.sh(writer, "mysql -NBe 'SELECT @@read_only'").out == "0\n" {
            return log();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{writer} does not take writes again: {}", log());
}

/// A disk that has forgotten what it said it had, as a crash may leave it: the writer starts on its data of before.
fn fetched(bench: &Bench) {
    let (writer, replica) = writer(bench);
    let before = "systemctl stop mysql && rm -rf /var/lib/before && cp -a /var/lib/mysql /var/lib/before && systemctl start mysql";
    bench.sh(writer, before).expect(0);
    opens(bench, writer);
    write(bench, 20);
    let kill = "systemctl kill --signal=KILL mysql; systemctl stop mysql; rm -rf /var/lib/mysql && mv /var/lib/before /var/lib/mysql";
    bench.sh(writer, kill).expect(0);
    bench.sh(writer, "systemctl start mysql").expect(0);
    let log = opens(bench, writer);
    write(bench, 21);
    assert!(log.contains(&format!("fetches from {replica} what was lost here in a crash")), "{log}");
    assert_eq!(sql(bench, writer, "SELECT id FROM shop.t WHERE id IN (20, 21)"), "20\n21");
    wait("all is well", Duration::from_secs(60), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    equal(bench);
    nothing_to_do(bench);
}

/// A replica is new, and its writer holds data.
fn seeded(bench: &Bench) {
    let (writer, replica) = writer(bench);
    let fill = "CREATE TABLE shop.big (id INT PRIMARY KEY AUTO_INCREMENT, v VARBINARY(1000)); INSERT INTO shop.big (v) VALUES (RANDOM_BYTES(1000));";
    let twice = "INSERT INTO shop.big (v) SELECT RANDOM_BYTES(1000) FROM shop.big;".repeat(15);
    sql(bench, writer, &format!("{fill} {twice}"));
    // So slow a copy tells how far it is on any machine.
    let empty = "systemctl stop mysql && find /var/lib/mysql -mindepth 1 -delete && mysqld --user=mysql --initialize-insecure && \
        systemctl start mysql && mysql -e 'SET GLOBAL clone_max_data_bandwidth = 10'";
    bench.sh(replica, empty).expect(0);
    let said = bench.infra(&["apply", "--yes", "--json"]).expect(0);
    let far = said.out.lines().filter(|line| line.contains(" %, ") && line.contains("MB/s")).count();
    assert!(far > 1, "nothing tells how far it was:\n{}", said.out);
    equal(bench);
    assert_eq!(bench.sh(replica, "ls -d /var/lib/.infra-seed 2>/dev/null").out, "");
    wait("all is well", Duration::from_secs(60), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    nothing_to_do(bench);
}

/// Both hosts agree, so that the old writer follows as it is: nothing is being written when its power goes.
fn power_cut(bench: &Bench) {
    let (dead, to) = writer(bench);
    write(bench, 30);
    let said = bench.infra(&["db", "failover", to, "--yes"]).expect(2);
    assert!(said.err.contains(&format!("{dead} is alive, so nothing is failed over")), "{}", said.err);
    bench.sh(dead, "systemctl stop infra-db-role").expect(0);
    bench.lab().kill(dead).unwrap();
    let said = bench.infra(&["db", "failover", to, "--yes"]).expect(0);
    assert!(said.out.contains("nothing acknowledged is lost: semi-sync was on"), "{}{}", said.out, said.err);
    write(bench, 31);
    back(bench, dead);
    let said = bench.infra(&["db", "rejoin", dead, "--show"]).expect(0);
    assert!(said.err.contains("has nothing that the writer lacks"), "{}", said.err);
    bench.infra(&["db", "rejoin", dead, "--yes"]).expect(0);
    assert_eq!(writer(bench), (to, dead));
    equal(bench);
    wait("all is well", Duration::from_secs(60), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    nothing_to_do(bench);
}

/// A host that had died is on again, and its server is fenced.
#[track_caller]
fn back(bench: &Bench, host: &str) {
    bench.lab().start(host).unwrap();
    wait("its server is back", Duration::from_secs(90), || {
        (bench.sh(host, "mysql -NBe 'SELECT @@super_read_only'").out == "1\n").then_some(())
    });
}

/// The writer dies with a row that nobody has acknowledged, and that it still has when it comes back.
fn errant(bench: &Bench) {
    let (dead, to) = writer(bench);
    sql(bench, to, "STOP REPLICA IO_THREAD");
    bench.sh(dead, "systemd-run -q --unit=late mysql -e 'INSERT INTO shop.t VALUES (666)'").expect(0);
    wait("the row is in the binary log", Duration::from_secs(30), || {
        let last =
            "log=$(mysql -NBe 'SHOW BINARY LOG STATUS' | cut -f 1); mysqlbinlog --no-defaults -v /var/lib/mysql/$log";
        bench.sh(dead, last).out.contains("###   @1=666").then_some(())
    });
    bench.lab().kill(dead).unwrap();
    bench.infra(&["db", "failover", to, "--yes"]).expect(0);
    write(bench, 40);
    back(bench, dead);
    assert_eq!(sql(bench, dead, "SELECT id FROM shop.t WHERE id = 666"), "666");
    let uuid = sql(bench, dead, "SELECT @@server_uuid");
    let said = bench.infra(&["db", "rejoin", dead, "--yes"]).expect(2);
    assert!(
        said.err
            .contains(&format!("{dead} has transactions that the writer lacks, and cannot follow with them: {uuid}:")),
        "{}",
        said.err
    );
    let said = bench.infra(&["db", "rejoin", dead, "--show"]).expect(2);
    for words in [&format!("-- {uuid}:"), "### INSERT INTO `shop`.`t`\n### SET\n###   @1=666\n"] {
        assert!(said.out.contains(words), "{}", said.out);
    }
    let said = bench.infra(&["db", "seed", dead, "--yes"]).expect(2);
    assert!(said.err.contains(&uuid), "{}", said.err);
    assert_eq!((writer(bench), sql(bench, dead, "SELECT id FROM shop.t WHERE id = 666").as_str()), ((to, dead), "666"));
    let said = bench.infra(&["db", "rejoin", dead, "--yes-wipe", dead]).expect(0);
    assert!(said.err.contains("transactions that"), "what is given up is not told: {}", said.err);
    assert_eq!(sql(bench, dead, "SELECT COUNT(*) FROM shop.t WHERE id = 666"), "0");
    assert_eq!(sql(bench, dead, "SELECT @@server_uuid"), uuid);
    equal(bench);
    wait("all is well", Duration::from_secs(60), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    nothing_to_do(bench);
}

/// Nothing is left of a replica's data that a server could start on.
fn broken(bench: &Bench) {
    let (_, replica) = writer(bench);
    bench.sh(replica, "systemctl stop mysql; rm /var/lib/mysql/ibdata1 /var/lib/mysql/mysql.ibd").expect(0);
    let said = bench.infra(&["db", "seed", replica, "--yes"]).expect(2);
    assert!(said.err.contains("its server does not answer"), "{}", said.err);
    bench.infra(&["db", "seed", replica, "--wipe", "--yes-wipe", replica]).expect(0);
    equal(bench);
    wait("all is well", Duration::from_secs(60), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    nothing_to_do(bench);
}

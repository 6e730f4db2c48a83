//! `MySQL` 9.7, which Debian has before a release only: bare hosts to a pair that replicates over verified TLS, twice is nothing, another
//! writer. Where sid's packages cannot be had, it lists itself as not run.

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::time::Duration;

use bench::{Bench, FULL, wait};
use checks::Check;
use infra::lab::Release;

#[test]
fn a_pair_on_sid() {
    let inventory = FULL.replace("engine: mariadb", "engine: mysql");
    let Some(bench) = Bench::up_if_had("t-mysql", &inventory, Release::Sid) else { return };
    let all: [Check<Bench>; 5] = [
        ("bare hosts to a pair", |bench| {
            bench.apply().expect(0);
            assert!(sql(bench, "db1", "SELECT VERSION()").starts_with("9.7."));
        }),
        ("over TLS whose names are checked", verified),
        ("a row by one port is read by the other", replicated),
        ("twice is nothing", |bench| {
            let said = bench.apply().expect(0);
            assert!(said.out.contains("nothing to do"), "{}", said.out);
        }),
        ("another writer", another_writer),
    ];
    checks::run(&bench, &all, checks::independent);
}

/// What a statement gives on a db host, as root.
#[track_caller]
fn sql(bench: &Bench, host: &str, statement: &str) -> String {
    bench.sh(host, &format!("mysql -NBe \"{statement}\"")).expect(0).out.trim_end().to_owned()
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
    bench.on_each(
        &["app1", "app2"],
        "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install mysql-client-core",
    );
    let client = "mysql --defaults-file=/etc/infra/db/shop.cnf";
    bench.sh("app1", &format!("{client} -e 'CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (7)'")).expect(0);
    let read = format!("{client} --defaults-group-suffix=_read -NBe 'SELECT id, @@hostname FROM t'");
    wait("the row is read on the replica", Duration::from_secs(10), || {
        (bench.sh("app2", &read).out == "7\tdb2\n").then_some(())
    });
}

fn another_writer(bench: &Bench) {
    bench.infra(&["db", "switchover", "db2", "--yes"]).expect(0);
    assert_eq!(sql(bench, "db2", "SELECT @@super_read_only, @@read_only"), "0\t0");
    assert_eq!(sql(bench, "db1", "SELECT @@super_read_only, writer FROM infra.role"), "1\tdb2");
    let insert = "mysql --defaults-file=/etc/infra/db/shop.cnf -NBe 'INSERT INTO t VALUES (8); SELECT @@hostname'";
    let by = wait("writes go to the new writer", Duration::from_secs(10), || {
        let said = bench.sh("app1", insert);
        (said.code == 0).then_some(said.out)
    });
    assert_eq!(by, "db2\n");
    wait("and reach the other one", Duration::from_secs(10), || {
        (sql(bench, "db1", "SELECT COUNT(*) FROM shop.t") == "2").then_some(())
    });
    bench.infra(&["db", "status"]).expect(0);
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
}

//! Databases in a lab: bare hosts become a writer and a replica over verified TLS, whatever becomes of the controller meanwhile; what
//! somebody breaks by hand is mended, or told; a pair that was built by hand is adopted, and a third host is seeded from it.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/databases.rs"]
mod databases;

use std::process::Stdio;
use std::time::Duration;

use databases::{Bench, Check, Release, checks, nothing_to_do, sql, wait};

const PAIR: &str = r#"name: pair
ssh:
  user: ops
  become: sudo
hosts:
  db1: { address: [10.0.4.11, "fd00:0:0:4::11"], roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
firewall:
  manage_from: [10.0.0.0/24, "fd00::/64", 192.0.2.0/24]
certificates: { issuer: internal }
database:
  engine: mariadb
  primary: db1
  schemas: [shop]
"#;

#[test]
fn bare_hosts_become_a_pair() {
    let bench = Bench::up("t-pair", PAIR, Release::Bookworm);
    let all: [Check<Bench>; 14] = [
        ("killed again and again in the very first run", first_run),
        ("a row goes from the writer to the replica", a_row),
        ("a replica that was stopped by hand", stopped),
        ("a replica that is not fenced", unfenced),
        ("a writer that is fenced", fenced),
        ("a schema more", a_schema),
        ("who passes a fence is told", past_the_fence),
        ("no password comes into a general log", general_log),
        ("how long a restart takes is seen on the replica before the writer's", restart),
        ("a folder of settings that is a link", linked),
        ("an option file that is read after infra's", read_later),
        ("what somebody tells a running server is set back", told_otherwise),
        ("a copied machine is refused before anything is changed", copied),
        ("what a replica has alone is told, and left", errant),
    ];
    checks::run(&bench, &all, |bench| drop(bench.apply()));
}

/// The plan has this line, and when it is applied nothing is left.
#[track_caller]
fn mends(bench: &Bench, line: &str) {
    let said = bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains(line), "no `{line}` in\n{}", said.out);
    bench.apply().expect(0);
    nothing_to_do(bench);
}

/// Waits until `replica` has carried out what `writer` has.
#[track_caller]
fn caught_up(bench: &Bench, writer: &str, replica: &str) {
    let goal = sql(bench, writer, "SELECT @@gtid_binlog_pos");
    let came = sql(bench, replica, &format!("SELECT MASTER_GTID_WAIT('{}', 30)", goal.trim()));
    assert_eq!(came, "0\n", "{replica} does not come to {goal}");
}

/// How it follows: both threads, TLS, verified, by GTID, as whom.
fn follows(bench: &Bench, host: &str) -> String {
    let fields =
        "Slave_IO_Running|Slave_SQL_Running|Master_SSL_Allowed|Master_SSL_Verify_Server_Cert|Using_Gtid|Master_User";
    let script = format!("mariadb -E -e 'SHOW SLAVE STATUS' | sed -nE 's/^ *({fields}): //p' | tr '\\n' ' '");
    bench.sh(host, &script).expect(0).out
}

const WELL: &str = "infra_repl Yes Yes Yes Yes Slave_Pos ";

/// The controller is killed when something is seen to have begun on a host; the last run goes to its end.
fn first_run(bench: &Bench) {
    for (host, begun) in [
        ("db1", "pgrep -x apt-get"),
        ("db2", "pgrep -x mariadbd"),
        ("db1", "mariadb -NBe 'SELECT 1 FROM infra.role' | grep -q 1"),
        ("db2", "mariadb -e 'SHOW SLAVE STATUS' | grep -q infra_repl"),
    ] {
        let mut command = bench.infra_command(&["apply", "--yes"]);
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(&format!("`{begun}` on {host}"), Duration::from_secs(180), || {
            (bench.sh(host, begun).code == 0 || run.try_wait().unwrap().is_some()).then_some(())
        });
        run.kill().unwrap();
        run.wait().unwrap();
    }
    // What a host was told to do it does to its end by itself; who comes meanwhile is told so.
    wait("the next run ends well", Duration::from_secs(120), || (bench.apply().code == 0).then_some(()));
    nothing_to_do(bench);
}

fn a_row(bench: &Bench) {
    assert_eq!(follows(bench, "db2"), WELL);
    sql(bench, "db1", "CREATE TABLE shop.goods (id INT PRIMARY KEY); INSERT INTO shop.goods VALUES (1), (2), (3)");
    caught_up(bench, "db1", "db2");
    assert_eq!(sql(bench, "db2", "SELECT COUNT(*) FROM shop.goods"), "3\n");
    let role = "SELECT epoch, writer FROM infra.role; SELECT @@read_only, @@rpl_semi_sync_master_enabled";
    assert_eq!(sql(bench, "db1", role), "1\tdb1\n0\t1\n");
    assert_eq!(sql(bench, "db2", role), "1\tdb1\n1\t0\n");
    // Nobody comes in without TLS, and nobody writes on a replica who is no administrator.
    bench.sh("db2", "! mariadb --skip-ssl --protocol=tcp -h 10.0.4.11 -u infra_repl 2>/dev/null").expect(0);
    nothing_to_do(bench);
}

fn stopped(bench: &Bench) {
    sql(bench, "db2", "STOP SLAVE");
    sql(bench, "db1", "INSERT INTO shop.goods VALUES (4)");
    mends(bench, "> follow db1 again");
    caught_up(bench, "db1", "db2");
    assert_eq!(sql(bench, "db2", "SELECT COUNT(*) FROM shop.goods"), "4\n");
    assert_eq!(follows(bench, "db2"), WELL);
}

fn unfenced(bench: &Bench) {
    sql(bench, "db2", "SET GLOBAL read_only = OFF");
    mends(bench, "> fence it again; it follows db1");
    assert_eq!(sql(bench, "db2", "SELECT @@read_only"), "1\n");
}

fn fenced(bench: &Bench) {
    sql(bench, "db1", "SET GLOBAL read_only = ON; SET GLOBAL rpl_semi_sync_master_enabled = OFF");
    mends(bench, "> let it write again, epoch 1");
    assert_eq!(sql(bench, "db1", "SELECT @@read_only, @@rpl_semi_sync_master_enabled"), "0\t1\n");
}

fn a_schema(bench: &Bench) {
    bench.edit("schemas: [shop]", "schemas: [shop, stock]");
    mends(bench, "> make what is missing, with the schema stock");
    caught_up(bench, "db1", "db2");
    assert_eq!(sql(bench, "db2", "SHOW DATABASES LIKE 'stock'"), "stock\n");
    // A schema that is wanted no more stays: it may hold what nobody has elsewhere.
    bench.edit("schemas: [shop, stock]", "schemas: [shop]");
    nothing_to_do(bench);
}

fn past_the_fence(bench: &Bench) {
    let well = bench.infra(&["db", "status"]).expect(0);
    assert!(!well.out.contains("worth knowing"), "{}", well.out);
    sql(
        bench,
        "db1",
        "CREATE USER ann@'%' IDENTIFIED BY 'secret'; GRANT SUPER ON *.* TO ann@'%';
         CREATE EVENT shop.tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM shop.goods WHERE id > 1000",
    );
    let told = bench.infra(&["db", "status"]).expect(0);
    assert!(told.out.contains("a fence does not hold 'ann'@'%'"), "{}", told.out);
    let said = bench.infra(&["db", "switchover", "db2", "--dry-run"]).expect(3);
    for words in ["events", "shop.tidy", "accounts past the fence", "'ann'@'%'"] {
        assert!(format!("{}{}", said.out, said.err).contains(words), "no {words}: {}{}", said.out, said.err);
    }
    sql(bench, "db1", "DROP USER ann@'%'; DROP EVENT shop.tidy");
    nothing_to_do(bench);
}

fn general_log(bench: &Bench) {
    // The writer would be told by its replica whom to follow, and could not keep that from its log.
    sql(bench, "db1", "SET GLOBAL general_log = ON");
    let said = bench.infra(&["db", "switchover", "db2", "--yes"]).expect(2);
    assert!(format!("{}{}", said.out, said.err).contains("general log of db1"), "{}{}", said.out, said.err);
    sql(bench, "db1", "SET GLOBAL general_log = OFF");
    // What a host is told by its own root stays out of it.
    sql(bench, "db2", "SET GLOBAL general_log = ON; STOP SLAVE; RESET SLAVE ALL");
    mends(bench, "> follow db1");
    sql(bench, "db2", "SET GLOBAL general_log = OFF");
    let logged = bench.sh("db2", "cat $(mariadb -NBe 'SELECT CONCAT(@@datadir, @@general_log_file)')").expect(0).out;
    assert!(logged.contains("SET SESSION sql_log_off = 1") && !logged.contains("MASTER_PASSWORD"), "{logged}");
    assert_eq!(follows(bench, "db2"), WELL);
}

fn restart(bench: &Bench) {
    bench.edit(
        "  schemas: [shop]\n",
        "  schemas: [shop]\n  settings: { performance_schema: ON, max_connections: 123 }\n",
    );
    let said = bench.apply().expect(0);
    assert!(said.out.contains("`--restart-writer`") && !said.out.contains("--restart mariadb"), "{}", said.out);
    assert_eq!(sql(bench, "db2", "SELECT @@performance_schema"), "1\n");
    assert_eq!(sql(bench, "db1", "SELECT @@performance_schema"), "0\n");
    assert_eq!(sql(bench, "db1", "SELECT @@max_connections"), "123\n", "it takes this while it runs");
    bench.sh("db1", "test -s /var/log/mysql/error.log && test -e /var/log/mysql/slow.log").expect(0);
    let said = bench.infra(&["diff"]);
    assert!(
        said.err.contains("writes stop for about ") && said.err.contains(" s, the longest restart"),
        "{}",
        said.err
    );
    bench.infra(&["apply", "--yes", "--restart-writer"]).expect(0);
    assert_eq!(sql(bench, "db1", "SELECT @@performance_schema"), "1\n");
    wait("the writer takes writes again", Duration::from_secs(60), || {
        (sql(bench, "db1", "SELECT @@read_only") == "0\n").then_some(())
    });
    bench.apply().expect(0);
    nothing_to_do(bench);
}

/// What the server reads would not be what infra checked: the host is left alone, and so is the pair.
fn linked(bench: &Bench) {
    for folder in ["/etc/mysql", "/etc/mysql/mariadb.conf.d"] {
        bench.sh("db2", &format!("mv {folder} /srv/moved && ln -s /srv/moved {folder}")).expect(0);
        let before = bench.sh("db2", "find /srv/moved -type f -exec sha256sum {} + | sort").expect(0).out;
        let told = format!("db2 is left alone: `{folder}` is a link to /srv/moved");
        for words in [&["diff"][..], &["apply", "--yes"]] {
            let said = bench.infra(words);
            assert!(said.code != 0 && said.err.contains(&told), "{}{}", said.out, said.err);
        }
        assert_eq!(bench.sh("db2", "find /srv/moved -type f -exec sha256sum {} + | sort").expect(0).out, before);
        assert_eq!(follows(bench, "db2"), WELL);
        bench.sh("db2", &format!("rm {folder} && mv /srv/moved {folder}")).expect(0);
    }
    nothing_to_do(bench);
}

/// Refused before anything is changed; an own file that says nothing else than infra stays free.
fn read_later(bench: &Bench) {
    let own = "/etc/mysql/mariadb.conf.d/zz-own.cnf";
    let write = |text: &str| drop(bench.sh("db2", &format!("printf '[mariadbd]\\n{text}' >{own}")).expect(0));
    write("sort_buffer_size=4M\\nread-only\\n");
    nothing_to_do(bench);
    write("sort_buffer_size=4M\\nread_only=0\\n");
    let told = format!(
        "db2: `{own}:3` says `read_only = 0`, and is read after `/etc/mysql/mariadb.conf.d/98-infra.cnf`, which says `read_only = ON`"
    );
    bench.edit("  schemas: [shop]\n", "  schemas: [shop, never]\n");
    for words in [&["diff"][..], &["apply", "--yes"]] {
        let said = bench.infra(words).expect(2);
        assert!(said.err.contains(&told) && said.err.contains("remove that line"), "{}{}", said.out, said.err);
    }
    assert_eq!(sql(bench, "db1", "SHOW DATABASES LIKE 'never'"), "");
    bench.edit("  schemas: [shop, never]\n", "  schemas: [shop]\n");
    let status = bench.infra(&["db", "status"]).expect(1);
    assert!(format!("{}{}", status.out, status.err).contains("zz-own.cnf:3"), "{}{}", status.out, status.err);
    bench.sh("db2", &format!("rm {own}")).expect(0);
    nothing_to_do(bench);
}

/// By whatever host; also where nobody could follow the writer as it runs then.
fn told_otherwise(bench: &Bench) {
    let settings = "SELECT @@sync_binlog, @@gtid_strict_mode, @@max_connections";
    let before = ["db1", "db2"].map(|host| sql(bench, host, settings));
    sql(bench, "db1", "SET GLOBAL sync_binlog = 0, gtid_strict_mode = OFF");
    sql(bench, "db2", "SET GLOBAL max_connections = 99, sort_buffer_size = 4194304; STOP SLAVE");
    let status = bench.infra(&["db", "status"]).expect(1);
    for words in ["sync_binlog = 0 (infra: 1)", "gtid_strict_mode = OFF (infra: ON)", "max_connections = 99 (infra: "] {
        assert!(format!("{}{}", status.out, status.err).contains(words), "{words}: {}{}", status.out, status.err);
    }
    mends(
        bench,
        "> set back what somebody has told the running server: gtid_strict_mode = OFF (infra: ON), sync_binlog = 0 (infra: 1)",
    );
    assert_eq!(["db1", "db2"].map(|host| sql(bench, host, settings)), before);
    assert_eq!(sql(bench, "db2", "SELECT @@GLOBAL.sort_buffer_size"), "4194304\n", "it is the owner's");
    assert_eq!(follows(bench, "db2"), WELL);
}

fn copied(bench: &Bench) {
    let id = sql(bench, "db2", "SELECT @@server_id");
    let theirs = sql(bench, "db1", "SELECT @@server_id");
    sql(bench, "db2", &format!("SET GLOBAL server_id = {}", theirs.trim()));
    let said = bench.apply().expect(2);
    let expected = format!("db1 and db2 both are the server {}: one is a copy of the other", theirs.trim());
    assert!(said.err.contains(&expected), "{}", said.err);
    sql(bench, "db2", &format!("SET GLOBAL server_id = {}", id.trim()));
    nothing_to_do(bench);
}

fn errant(bench: &Bench) {
    sql(bench, "db2", "CREATE TABLE shop.alone (id INT PRIMARY KEY)");
    let said = bench.infra(&["diff"]).expect(0);
    let told = "db2 has transactions that db1 lacks (";
    assert!(said.err.contains(told) && said.err.contains("`infra db rejoin db2`"), "{}{}", said.out, said.err);
    assert_eq!(sql(bench, "db2", "SHOW TABLES FROM shop LIKE 'alone'"), "alone\n");
}

/// As somebody may have built it: an own log, by file and position, without TLS.
const BY_HAND: &str = "DEBIAN_FRONTEND=noninteractive apt-get -q -y install mariadb-server >/dev/null
install -d -o mysql -g mysql /var/log/mysql
cat >/etc/mysql/mariadb.conf.d/60-own.cnf <<END
[mariadbd]
server_id = $(uname -n | tr -d a-z)
bind_address = 0.0.0.0
log_bin = /var/log/mysql/own-bin
END
systemctl restart mariadb || { journalctl -u mariadb -o cat | tail -20; exit 1; }
";

#[test]
fn a_pair_that_was_built_by_hand_is_adopted() {
    let third = "  db2: { address: 10.0.4.12, roles: [db] }\n  db3: { address: 10.0.4.13, roles: [db] }\n";
    let inventory =
        PAIR.replace("name: pair", "name: adopted").replace("  db2: { address: 10.0.4.12, roles: [db] }\n", third);
    let bench = Bench::up("t-adopted", &inventory, Release::Trixie);
    bench.on_each(&["db1", "db2"], &format!("apt-get -q update >/dev/null\n{BY_HAND}"));
    sql(
        &bench,
        "db1",
        "CREATE USER own@'10.0.4.12' IDENTIFIED BY 'own'; GRANT REPLICATION SLAVE ON *.* TO own@'10.0.4.12'",
    );
    sql(
        &bench,
        "db1",
        "CREATE DATABASE shop; CREATE TABLE shop.goods (id INT PRIMARY KEY); INSERT INTO shop.goods VALUES (1), (2)",
    );
    let at = sql(&bench, "db1", "SHOW MASTER STATUS");
    let mut at = at.split('\t');
    let (file, position) = (at.next().unwrap().to_owned(), at.next().unwrap().to_owned());
    sql(
        &bench,
        "db2",
        "CREATE DATABASE shop; CREATE TABLE shop.goods (id INT PRIMARY KEY); INSERT INTO shop.goods VALUES (1), (2); RESET MASTER",
    );
    sql(
        &bench,
        "db2",
        &format!(
            "CHANGE MASTER TO MASTER_HOST = '10.0.4.11', MASTER_USER = 'own', MASTER_PASSWORD = 'own', MASTER_SSL = 0, MASTER_USE_GTID = no, \
             MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {position}; START SLAVE"
        ),
    );
    sql(&bench, "db1", "INSERT INTO shop.goods VALUES (3)");
    wait("the row is on the replica", Duration::from_secs(20), || {
        (sql(&bench, "db2", "SELECT COUNT(*) FROM shop.goods") == "3\n").then_some(())
    });

    // What a crash of the writer would take from its replicas is refused, and nothing was changed.
    sql(&bench, "db1", "CREATE TABLE shop.old (id INT) ENGINE = MyISAM");
    let said = bench.apply().expect(2);
    assert!(
        said.err.contains("db1 has tables that are not InnoDB") && said.err.contains("shop/old.MYI"),
        "{}",
        said.err
    );
    assert_eq!(sql(&bench, "db1", "SHOW DATABASES LIKE 'infra'"), "");
    sql(&bench, "db1", "ALTER TABLE shop.old ENGINE = InnoDB");

    // Nothing of it is stopped: who writes is written down, and the writer's restart waits for a person.
    let said = bench.apply().expect(0);
    assert!(said.out.contains("> adopt its data: it is the writer, epoch 1"), "{}", said.out);
    assert!(said.err.contains("db1 has to be restarted first"), "{}", said.err);
    assert!(said.out.contains("`--restart-writer`") && !said.out.contains("--restart mariadb"), "{}", said.out);
    assert_eq!(sql(&bench, "db1", "SELECT @@read_only, writer FROM infra.role"), "0\tdb1\n");
    sql(&bench, "db1", "INSERT INTO shop.goods VALUES (4)");

    bench.infra(&["apply", "--yes", "--restart-writer"]).expect(0);
    wait("the writer writes after its restart", Duration::from_secs(60), || {
        (sql(&bench, "db1", "SELECT @@read_only") == "0\n" || bench.apply().code == 0).then_some(())
    });
    let said = bench.apply().expect(0);
    assert_eq!(sql(&bench, "db1", "SELECT @@log_bin_basename"), "/var/log/mysql/own-bin\n", "the log goes on");
    assert_eq!(["db1", "db2"].map(|host| sql(&bench, host, "SELECT @@server_id")), ["1\n", "2\n"], "so do the numbers");
    // Its log has all that it wrote before, so that nothing was lost which it would have to get from its replicas.
    bench.sh("db1", "! journalctl -q -o cat -u infra-db-role | grep 'fetches from'").expect(0);
    for host in ["db2", "db3"] {
        assert_eq!(follows(&bench, host), WELL, "{host}: {}{}", said.out, said.err);
        caught_up(&bench, "db1", host);
        assert_eq!(sql(&bench, host, "SELECT GROUP_CONCAT(id ORDER BY id) FROM shop.goods"), "1,2,3,4\n");
    }
    nothing_to_do(&bench);
}

//! Copies from one database host to another: beside what is done by hand in the same lab, with writes going on; killed on every side;
//! data that are not to be replaced, and a person's word that they are.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/databases.rs"]
mod databases;

use std::process::{Child, Stdio};
use std::time::Duration;

use databases::{Bench, Check, Release, Said, amount, ask, checks, wait};

/// The port 4445 is for what is done by hand.
const INVENTORY: &str = "name: shop
ssh: { user: root }
hosts:
  front: { address: 10.0.1.11, public: 203.0.113.11, roles: [lb, web, app], allow_mixed_roles: this is a test of databases }
  db1: { address: [10.0.4.11, \"fd00:4::11\"], roles: [db] }
  db2: { address: [10.0.4.12, \"fd00:4::12\"], roles: [db] }
firewall:
  manage_from: [10.0.0.0/24, \"fd00::/64\"]
  allow: [{ to: db, port: 4445, from: [db], why: a copy by hand }]
certificates: { issuer: internal }
sites: { shop.example.com: { app: { port: 8080, health: /healthz } } }
database:
  engine: mariadb
  primary: db1
  schemas: [shop]
  users: { shop: { schema: shop, from: app } }
";

#[test]
fn a_copy_from_host_to_host() {
    let bench = Bench::up("t-seeding", INVENTORY, Release::Bookworm);
    bench.apply().expect(0);
    fill(&bench, amount("MEGABYTES", 60));
    let all: [Check<Bench>; 5] = [
        ("as fast as by hand, while others write", speed),
        ("the controller is killed in the middle of a copy", controller_killed),
        ("the recipient reboots in the middle of a copy", recipient_reboots),
        ("the donor reboots in the middle of a copy", donor_reboots),
        ("data are replaced by a person's word alone", wiped),
    ];
    checks::run(&bench, &all, |bench| {
        for host in ["db1", "db2"] {
            let _ = bench.lab().start(host);
        }
        empty(bench);
        bench.apply();
    });
}

/// So many megabytes of rows on the writer, in several tables, and no binary log from which they could be had.
fn fill(bench: &Bench, megabytes: u32) {
    let tables = 4;
    let rows = u64::from(megabytes) * 1_000_000 / 1000 / tables;
    for table in 0..tables {
        let make = format!(
            "CREATE TABLE shop.t{table} (id INT PRIMARY KEY, v VARBINARY(1000)); \
             INSERT INTO shop.t{table} SELECT seq, REPEAT(MD5(RAND()), 30) FROM seq_1_to_{rows};"
        );
        ask(bench, "db1", &format!("USE shop; {make}"));
    }
    ask(
        bench,
        "db1",
        "CREATE TABLE shop.small (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(40)); INSERT INTO shop.small (v) SELECT UUID() FROM mysql.help_topic LIMIT 100",
    );
    wait("the replica has it", Duration::from_secs(300), || replicates(bench).then_some(()));
    ask(bench, "db1", "FLUSH BINARY LOGS");
    // The replica has acknowledged all of it.
    let last = ask(bench, "db1", "SHOW MASTER STATUS");
    ask(bench, "db1", &format!("PURGE BINARY LOGS TO '{}'", last.split_whitespace().next().unwrap()));
}

/// Whether db2 follows db1, and has all that db1 has.
fn replicates(bench: &Bench) -> bool {
    let position = ask(bench, "db1", "SELECT @@gtid_binlog_pos");
    let script = format!(
        "mariadb -E -e 'SHOW SLAVE STATUS' | grep -c '_Running: Yes'; mariadb -NBe \"SELECT MASTER_GTID_WAIT('{position}', 5)\""
    );
    bench.sh("db2", &script).out == "2\n0\n"
}

#[track_caller]
fn equal(bench: &Bench) {
    assert!(replicates(bench), "{}", bench.sh("db2", "mariadb -E -e 'SHOW SLAVE STATUS'").out);
    let sums = |host| ask(bench, host, "CHECKSUM TABLE shop.t0, shop.t1, shop.t2, shop.t3, shop.small");
    assert_eq!(sums("db1"), sums("db2"));
    assert_eq!(ask(bench, "db2", "SELECT @@read_only"), "1");
    let left =
        bench.sh("db2", "ls -d /var/lib/.infra-seed /etc/systemd/system/mariadb.service.d/infra-seed.conf 2>/dev/null");
    assert_eq!(left.out, "", "left on db2");
}

/// db2 has a server on which nothing is, as after its installation.
fn empty(bench: &Bench) {
    bench
        .sh("db2", "systemctl stop mariadb && rm -rf /var/lib/mysql && mariadb-install-db --user=mysql --skip-test-db >/dev/null && systemctl start mariadb")
        .expect(0);
}

/// One run that ends well, and then there is nothing to do: a run that was killed leaves a step that ends by itself, so that the run
/// after it may have to be tried again, as does one that met a server which does not tell who writes yet; what a host that rebooted has
/// still to do it does by itself.
#[track_caller]
fn converges(bench: &Bench) {
    wait("all is applied", Duration::from_secs(240), || {
        let said = bench.apply();
        let decided = !format!("{}{}", said.out, said.err).contains("nothing is decided");
        (said.code == 0 && decided).then_some(())
    });
    wait("there is nothing to do", Duration::from_secs(60), || {
        let said = bench.infra(&["diff"]).out;
        let done = said.contains("nothing to do");
        if !done {
            println!("{said}");
        }
        done.then_some(())
    });
    equal(bench);
}

/// By hand, ours, and by hand again; how long a program had to wait for a commit meanwhile.
fn speed(bench: &Bench) {
    ask(
        bench,
        "db1",
        "CREATE TABLE IF NOT EXISTS shop.beat (id INT AUTO_INCREMENT PRIMARY KEY, at DATETIME(6)); CREATE TABLE IF NOT EXISTS shop.stop (id INT)",
    );
    let mut by_hand = vec![hand(bench)];
    empty(bench);
    // Without a replica nobody waits for one.
    ask(bench, "db1", "SET GLOBAL rpl_semi_sync_master_enabled = OFF");
    let beat = "BEGIN NOT ATOMIC WHILE NOT EXISTS (SELECT 1 FROM shop.stop) DO INSERT INTO shop.beat (at) VALUES (SYSDATE(6)); DO SLEEP(0.005); END WHILE; END";
    bench.sh("db1", &format!("systemd-run -q --unit=beat mariadb --delimiter=// -e '{beat}'")).expect(0);
    let said = bench.infra(&["apply", "--yes", "--json"]).expect(0);
    ask(bench, "db1", "INSERT INTO shop.stop VALUES (1)");
    let far = said.out.lines().filter(|line| line.contains(" %, ") && line.contains("MB/s")).count();
    assert!(far > 0, "nothing tells how far it was:\n{}", said.out);
    equal(bench);
    let gap = ask(
        bench,
        "db1",
        "SELECT ROUND(MAX(gap)) FROM (SELECT TIMESTAMPDIFF(MICROSECOND, LAG(at) OVER (ORDER BY id), at) / 1000 AS gap FROM shop.beat) g",
    );
    ask(bench, "db1", "DROP TABLE shop.stop; DROP TABLE shop.beat");
    let told = bench.sh("db2", "journalctl -q -o cat -t infra-seed | tail -n 1").expect(0).out;
    let ours = rate(&told);
    by_hand.push(hand(bench));
    let (fastest, ratio) = (by_hand.iter().copied().fold(0.0, f64::max), ours / by_hand.iter().sum::<f64>() * 2.0);
    println!(
        "seeding: {} by hand {:.0} and {:.0} MB/s, ours {ours:.0} MB/s, {:.0} % of their mean; the longest commit took {gap} ms",
        told.trim(),
        by_hand[0],
        by_hand[1],
        ratio * 100.0
    );
    // A second of start on each side weighs more than the copy where there is little of it.
    if amount("MEGABYTES", 60) >= 1000 {
        assert!(ratio >= 0.8, "ours is slower than by hand: {ours} of {fastest}");
    }
}

/// `12345678 bytes in 1.23 s`.
fn rate(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let before = |word| words.windows(2).find(|pair| pair[1].trim_end_matches([',', ';']) == word).map(|pair| pair[0]);
    let number =
        |word| before(word).and_then(|text| text.parse::<f64>().ok()).unwrap_or_else(|| panic!("{word}: {text}"));
    number("bytes") / number("s") / 1_000_000.0
}

/// Megabytes per second of what anyone would do: a stream through socat, unpacked at the other end.
fn hand(bench: &Bench) -> f64 {
    let listen = "rm -rf /var/lib/by-hand && mkdir /var/lib/by-hand && \
        systemd-run -q --collect --unit=by-hand sh -c 'socat -u TCP-LISTEN:4445,reuseaddr STDOUT | mbstream -x -C /var/lib/by-hand && echo done >/var/lib/by-hand.done'";
    bench.sh("db2", listen).expect(0);
    wait("it listens", Duration::from_secs(10), || {
        (bench.sh("db2", "ss -Hltn 'sport = :4445' | grep -q .").code == 0).then_some(())
    });
    let give = "read begin _ </proc/uptime; mariadb-backup --backup --stream=xbstream --target-dir=/tmp/by-hand 2>/dev/null | socat -u STDIN TCP:10.0.4.12:4445; read end _ </proc/uptime; echo $begin $end";
    let said = bench.sh("db1", give).expect(0);
    wait("it is unpacked", Duration::from_secs(120), || {
        (bench.sh("db2", "rm /var/lib/by-hand.done").code == 0).then_some(())
    });
    let times: Vec<f64> = said.out.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let size = bench.sh("db2", "du -sb --apparent-size /var/lib/by-hand | cut -f 1; rm -rf /var/lib/by-hand").expect(0);
    size.out.trim().parse::<f64>().unwrap() / (times[1] - times[0]) / 1_000_000.0
}

fn spawn(bench: &Bench) -> Child {
    bench.infra_command(&["apply", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A copy is under way.
fn copies(bench: &Bench) -> Child {
    empty(bench);
    let child = spawn(bench);
    wait("a copy comes", Duration::from_secs(180), || {
        (bench.sh("db2", "ls /var/lib/.infra-seed/new/ibdata1").code == 0).then_some(())
    });
    child
}

fn controller_killed(bench: &Bench) {
    let mut child = copies(bench);
    child.kill().unwrap();
    child.wait().unwrap();
    converges(bench);
}

fn recipient_reboots(bench: &Bench) {
    let mut child = copies(bench);
    bench.reboot("db2");
    assert!(!child.wait().unwrap().success());
    converges(bench);
    wait("the donor's unit ends", Duration::from_secs(20), || {
        (bench.sh("db1", "systemctl -q is-active infra-seed.service").code != 0).then_some(())
    });
}

fn donor_reboots(bench: &Bench) {
    let mut child = copies(bench);
    bench.reboot("db1");
    let _ = child.wait().unwrap();
    converges(bench);
}

/// Somebody's data on a host that is to follow.
fn wiped(bench: &Bench) {
    empty(bench);
    bench
        .sh("db2", "mariadb -e 'SET GLOBAL read_only = OFF; CREATE DATABASE mine; CREATE TABLE mine.t (id INT); INSERT INTO mine.t VALUES (7); SET GLOBAL read_only = ON'")
        .expect(0);
    let mine = |bench: &Bench| ask(bench, "db2", "SELECT id FROM mine.t");
    bench.apply();
    assert_eq!(mine(bench), "7", "apply replaces nobody's data");
    let refused = |said: Said, why: &str| {
        let said = said.expect(2);
        assert!(said.err.contains(why), "{}", said.err);
        assert_eq!(mine(bench), "7");
    };
    refused(bench.infra(&["db", "seed", "db2"]), "db2 holds data, which are not replaced: schemas: mine");
    refused(bench.infra(&["db", "seed", "db1", "--wipe"]), "db1 is the writer");
    refused(bench.infra(&["db", "seed", "db2", "--wipe"]), "--yes-wipe db2");
    refused(
        bench.infra(&["db", "seed", "db2", "--wipe", "--yes-wipe", "db1"]),
        "`db1` is not the host whose data are given up",
    );
    let said = bench.infra(&["db", "seed", "db2", "--wipe", "--yes-wipe", "db2"]).expect(0);
    assert!(said.err.contains("schemas: mine") || said.out.contains("schemas: mine"), "{}{}", said.out, said.err);
    assert_eq!(bench.sh("db2", "mariadb -NBe 'SHOW DATABASES' | grep -c mine").out, "0\n");
    converges(bench);
}

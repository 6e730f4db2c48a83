//! One writer that can fail without losing a row: switchovers under load, power cuts of the writer's whole host with failover and
//! rejoin, a controller that is killed in the middle, two operators, a link that is cut. Two app hosts write all the time, and keep
//! what was acknowledged to them.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/databases.rs"]
mod databases;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use databases::{Bench, Check, Release, Said, amount, ask, checks, wait};
use serde_json::Value;

const INVENTORY: &str = "name: shop
ssh: { user: root }
hosts:
  front: { address: 10.0.1.11, public: 203.0.113.11, roles: [lb, web], allow_mixed_roles: this is a test of databases }
  app1: { address: 10.0.3.11, roles: [app] }
  app2: { address: 10.0.3.12, roles: [app] }
  db1: { address: [10.0.4.11, \"fd00:4::11\"], roles: [db] }
  db2: { address: [10.0.4.12, \"fd00:4::12\"], roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
sites: { shop.example.com: { app: { port: 8080, health: /healthz } } }
database:
  engine: mariadb
  primary: db1
  schemas: [shop]
  users: { shop: { schema: shop, from: app } }
";
const APPS: [&str; 2] = ["app1", "app2"];
const DBS: [&str; 2] = ["db1", "db2"];

/// A table of acknowledged numbers, written as a program writes that tries again after an error: what was not acknowledged may have
/// been kept. It keeps too for how long it was not let to write, in milliseconds.
const WRITER: &str = r#"
me=$1 acked=/root/acked i=0 worst=0
sql() { timeout 15 mariadb --defaults-file=/etc/infra/db/shop.cnf --connect-timeout=2 shop -e "$1" >/dev/null 2>>/root/refused; }
clock() { read -r now _ </proc/uptime; now=${now%.*}${now#*.}0; }
: >$acked
clock; last=$now
while [ ! -e /root/stop ]; do
	i=$((i + 1))
	until sql "INSERT INTO acked (app, i) SELECT '$me', $i FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM acked WHERE app = '$me' AND i = $i)"; do
		[ ! -e /root/stop ] || exit 0
		sleep 0.05
	done
	echo $i >>$acked
	clock
	[ $((now - last)) -le $worst ] || { worst=$((now - last)); echo $worst >/root/worst; }
	last=$now
done
"#;

#[test]
fn one_writer_that_can_fail_without_losing_a_row() {
    let bench = Bench::up("t-switchover", INVENTORY, Release::Bookworm);
    bench.apply().expect(0);
    for app in APPS {
        bench.sh(app, "DEBIAN_FRONTEND=noninteractive apt-get install -qy mariadb-client").expect(0);
    }
    let table = "CREATE TABLE acked (id BIGINT AUTO_INCREMENT PRIMARY KEY, app VARCHAR(20), i INT, KEY (app, i))";
    bench.sh("app1", &format!("mariadb --defaults-file=/etc/infra/db/shop.cnf shop -e '{table}'")).expect(0);
    let all: [Check<Bench>; 9] = [
        ("a dry run changes nothing", dry_run),
        ("switchovers in turn, under load", switchovers),
        ("two operators at once", two_operators),
        ("the controller is killed in the middle", killed),
        ("the link between the databases is cut", link_cut),
        ("a replica goes without a word and is back at once", replica_lost),
        ("the writer's host loses its power", power_cut),
        ("a writer that a network has cut off fences itself when it is back", cut_off),
        ("a former writer has rows of its own", parted),
    ];
    checks::run(&bench, &all, |bench| {
        stop(bench);
        for db in DBS {
            let _ = bench.lab().start(db);
            bench.sh(
                db,
                "ip route del blackhole 10.0.4.11/32; ip route del blackhole 10.0.4.12/32; nft delete table inet cut",
            );
        }
        bench.apply();
    });
}

/// The one host that takes writes; panics where it is not one.
fn writer(bench: &Bench) -> &'static str {
    let open: Vec<&str> = DBS.into_iter().filter(|db| ask(bench, db, "SELECT @@read_only") == "0").collect();
    let [writer] = open.as_slice() else { panic!("these take writes: {open:?}") };
    writer
}

fn other(host: &str) -> &'static str {
    if host == "db1" { "db2" } else { "db1" }
}

fn start(bench: &Bench) {
    for app in APPS {
        bench.sh(app, "rm -f /root/stop /root/worst /root/refused; mariadb --defaults-file=/etc/infra/db/shop.cnf shop -e \"DELETE FROM acked WHERE app = '$(hostname)'\"").expect(0);
        let write = format!(
            "cat >/root/writer.sh <<'END'\n{WRITER}\nEND\nsystemd-run -q --unit=writer sh /root/writer.sh $(hostname)"
        );
        bench.sh(app, &write).expect(0);
    }
    progress(bench);
}

/// Each app host has written something more.
fn progress(bench: &Bench) {
    let counts =
        || APPS.map(|app| bench.sh(app, "wc -l </root/acked 2>/dev/null").out.trim().parse::<u64>().unwrap_or(0));
    let before = counts();
    wait("each app host writes", Duration::from_secs(40), || {
        counts().iter().zip(before).all(|(now, before)| *now > before + 3).then_some(())
    });
}

fn stop(bench: &Bench) {
    for app in APPS {
        bench.sh(app, "touch /root/stop; for i in $(seq 200); do systemctl -q is-active writer || break; sleep 0.1; done; systemctl stop writer");
    }
}

/// Every acknowledged number is on every host, none of them twice, and the hosts are equal.
fn whole(bench: &Bench) {
    stop(bench);
    let writer = writer(bench);
    let position = ask(bench, writer, "SELECT @@gtid_current_pos");
    assert_eq!(ask(bench, other(writer), &format!("SELECT MASTER_GTID_WAIT('{position}', 30)")), "0");
    let mut acknowledged = 0;
    for app in APPS {
        let acked = bench.sh(app, "cat /root/acked").out;
        for db in DBS {
            let all = ask(bench, db, &format!("SELECT i FROM shop.acked WHERE app = '{app}'"));
            let there: BTreeSet<&str> = all.lines().collect();
            assert_eq!(there.len(), all.lines().count(), "a number of {app} stands twice on {db}");
            let lost: Vec<&str> = acked.lines().filter(|one| !there.contains(one)).collect();
            assert!(lost.is_empty(), "acknowledged to {app} and not on {db}: {lost:?}");
        }
        acknowledged += acked.lines().count();
    }
    let sums = DBS.map(|db| ask(bench, db, "CHECKSUM TABLE shop.acked, infra.role"));
    assert_eq!(sums[0], sums[1]);
    println!("{acknowledged} rows acknowledged, each there once, hosts equal");
}

/// The milliseconds for which writes stopped, as the new writer has measured.
fn stopped(said: &Said) -> u64 {
    let mut lines = said.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let changed = lines.rfind(|line| line["event"] == "writer_changed");
    changed.and_then(|line| line["stopped_ms"].as_u64()).unwrap_or_else(|| panic!("{}{}", said.out, said.err))
}

fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[all.len() / 2]
}

fn dry_run(bench: &Bench) {
    let said = bench.infra(&["db", "switchover", "db2", "--dry-run"]).expect(3);
    assert!(
        said.out.contains("long transactions") && said.out.contains("make db2 the writer in place of db1"),
        "{}",
        said.out
    );
    assert_eq!((writer(bench), ask(bench, "db1", "SELECT epoch FROM infra.role").as_str()), ("db1", "1"));
    bench.infra(&["db", "status"]).expect(0);
    let said = bench.infra(&["db", "switchover", "db1"]).expect(0);
    assert!(said.err.contains("db1 is the writer already"), "{}", said.err);
    let said = bench.infra(&["db", "failover", "db2", "--yes"]).expect(2);
    assert!(said.err.contains("db1 is alive, so nothing is failed over"), "{}", said.err);
    assert_eq!(writer(bench), "db1");
}

fn switchovers(bench: &Bench) {
    start(bench);
    let mut pauses = Vec::new();
    for _ in 0..amount("SWITCHOVERS", 3) {
        let to = other(writer(bench));
        let said = bench.infra(&["db", "switchover", to, "--yes", "--json"]).expect(0);
        pauses.push(stopped(&said));
        assert_eq!(writer(bench), to);
        progress(bench);
    }
    whole(bench);
    let worst = APPS.map(|app| bench.sh(app, "cat /root/worst").out.trim().parse::<u64>().unwrap());
    println!("writes stopped for {pauses:?} ms; the longest gap between two acknowledged rows was {worst:?} ms");
    assert!(median(pauses) < 2000);
    assert!(median(worst.to_vec()) < 5000, "{worst:?}");
    bench.infra(&["db", "status"]).expect(0);
}

fn two_operators(bench: &Bench) {
    let to = other(writer(bench));
    let epoch = ask(bench, "db1", "SELECT epoch FROM infra.role");
    start(bench);
    let run = || {
        bench
            .infra_command(&["db", "switchover", to, "--yes"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = [run(), run()].map(|run| Said::of(&run.wait_with_output().unwrap()));
    assert!(both.iter().any(|said| said.code == 0), "{both:?}");
    assert_eq!(writer(bench), to);
    let now: u64 = ask(bench, "db1", "SELECT epoch FROM infra.role").parse().unwrap();
    assert_eq!(now, epoch.parse::<u64>().unwrap() + 1, "{both:?}");
    whole(bench);
}

/// Numbers that look random and are the same in every run (Knuth's MMIX generator).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn killed(bench: &Bench) {
    start(bench);
    let mut random = Seeded(11);
    for _ in 0..amount("KILLS", 4) {
        let to = other(writer(bench));
        let mut run = bench
            .infra_command(&["db", "switchover", to, "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment is the test; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.below(4000)));
        run.kill().unwrap();
        run.wait().unwrap();
        wait("the next command ends in a whole state", Duration::from_secs(120), || {
            (bench.apply().code == 0).then_some(())
        });
        writer(bench);
        progress(bench);
    }
    whole(bench);
    bench.infra(&["db", "status"]).expect(0);
}

fn link_cut(bench: &Bench) {
    let (from, to) = (writer(bench), other(writer(bench)));
    start(bench);
    let at = |host: &str| if host == "db1" { "10.0.4.11" } else { "10.0.4.12" };
    bench.sh(from, &format!("ip route add blackhole {}/32", at(to))).expect(0);
    for verb in ["switchover", "failover"] {
        let said = bench.infra(&["db", verb, to, "--yes"]);
        assert_ne!(said.code, 0, "{}{}", said.out, said.err);
        assert_eq!(writer(bench), from, "{}{}", said.out, said.err);
    }
    progress(bench);
    bench.sh(from, &format!("ip route del blackhole {}/32", at(to))).expect(0);
    wait("replication is back", Duration::from_secs(60), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    whole(bench);
}

/// The power of the replica's host goes: nobody there ends its connections, and after its return nobody there knows of them. MariaDB
/// hangs over such a connection, with every session, if nothing is done about it.
fn replica_lost(bench: &Bench) {
    let (stays, lost) = (writer(bench), other(writer(bench)));
    let ended = || {
        let count = "journalctl -q -o cat -u infra-db-role | grep -c 'ends the connection of '";
        bench.sh(stays, count).out.trim().parse::<u32>().unwrap()
    };
    let before = ended();
    start(bench);
    let silent = "nft add table inet cut && nft add chain inet cut out '{ type filter hook output priority -500; policy drop; }'";
    bench.sh(lost, silent).expect(0);
    // A host whose rules stand before its network does resets nothing when it boots; here its network is there first.
    let deaf = "nft add table inet cut && nft add chain inet cut in '{ type filter hook input priority -500; }' && \
        nft add rule inet cut in 'tcp flags & rst == rst drop'";
    bench.sh(stays, deaf).expect(0);
    bench.lab().kill(lost).unwrap();
    bench.lab().start(lost).unwrap();
    wait("it follows again", Duration::from_secs(90), || {
        let running = "timeout 5 mariadb -NBe \"SHOW STATUS LIKE 'Slave_running'\" | grep -q ON";
        (bench.sh(lost, running).code == 0).then_some(())
    });
    wait("the writer's host ends the old connection", Duration::from_secs(30), || (ended() > before).then_some(()));
    bench.sh(stays, "nft delete table inet cut").expect(0);
    progress(bench);
    assert_eq!(writer(bench), stays);
    whole(bench);
    let worst = APPS.map(|app| bench.sh(app, "cat /root/worst").out.trim().to_owned());
    println!("the longest gap between two acknowledged rows was {worst:?} ms");
    wait("all is well", Duration::from_secs(30), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    nothing_to_do(bench);
}

/// No run is due, also for what a host does by itself after a moment.
#[track_caller]
fn nothing_to_do(bench: &Bench) {
    wait("there is nothing to do", Duration::from_secs(30), || {
        bench.infra(&["diff"]).out.contains("nothing to do").then_some(())
    });
}

/// The writer's host loses its power, another one takes over, and it is back; gives who is dead and who writes.
#[track_caller]
fn failed_over(bench: &Bench) -> (&'static str, &'static str) {
    let (dead, to) = (writer(bench), other(writer(bench)));
    bench.lab().kill(dead).unwrap();
    let said = bench.infra(&["db", "failover", to, "--yes"]).expect(0);
    let lossless = "nothing acknowledged is lost: semi-sync was on";
    assert!(said.out.contains(lossless), "{}{}", said.out, said.err);
    (dead, to)
}

#[track_caller]
fn back(bench: &Bench, dead: &str, to: &str) {
    bench.lab().start(dead).unwrap();
    wait("its server is back", Duration::from_secs(60), || {
        (bench.sh(dead, "mariadb -e 'SELECT 1'").code == 0).then_some(())
    });
    assert_eq!(writer(bench), to, "the old writer stays fenced");
}

/// It comes back by a person's word alone, which is its name.
fn parted(bench: &Bench) {
    let (dead, to) = failed_over(bench);
    back(bench, dead, to);
    ask(
        bench,
        dead,
        "SET GLOBAL read_only = OFF; INSERT INTO shop.acked (app, i) VALUES ('alone', 1); SET GLOBAL read_only = ON",
    );
    let alone = |host| ask(bench, host, "SELECT COUNT(*) FROM shop.acked WHERE app = 'alone'");
    for (words, why) in [
        (vec!["--show"], "has transactions that the writer lacks"),
        (vec!["--yes"], "add `--yes-wipe"),
        (vec!["--yes-wipe", to], "is not the host whose data are given up"),
    ] {
        let said = bench.infra(&[vec!["db", "rejoin", dead], words].concat()).expect(2);
        assert!(said.err.contains(why), "{}{}", said.out, said.err);
        assert_eq!(alone(dead), "1");
    }
    let said = bench.infra(&["db", "rejoin", dead, "--yes-wipe", dead]).expect(0);
    assert!(said.err.contains("does not come back") && said.err.contains("follows the writer again"), "{}", said.err);
    assert_eq!([alone(dead), alone(to)], ["0", "0"]);
    nothing_to_do(bench);
    wait("all is well", Duration::from_secs(30), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
}

/// It takes writes as long as it hears of nobody, and no longer.
fn cut_off(bench: &Bench) {
    let (old, to) = (writer(bench), other(writer(bench)));
    let cut = "nft -f - <<'END'
table inet cut {
	chain in { type filter hook input priority -500; policy drop; iif lo accept; }
	chain out { type filter hook output priority -500; policy drop; oif lo accept; }
}
END";
    bench.sh(old, cut).expect(0);
    bench.infra(&["db", "failover", to, "--yes"]).expect(0);
    // Whoever asks in the moment in which it fences itself is cut.
    let open = || bench.sh(old, "mariadb -NBe 'SELECT NOT @@read_only'").out;
    assert_eq!(open(), "1\n", "nobody has told it");
    bench.sh(old, "nft delete table inet cut").expect(0);
    wait("it takes no more writes", Duration::from_secs(60), || (open() == "0\n").then_some(()));
    let told = bench.sh(old, "journalctl -q -o cat -u infra-db-role | grep 'takes no more writes: '").expect(0).out;
    assert!(told.contains(&format!("{to} names {to} as the writer of epoch ")), "{told}");
    assert_eq!(writer(bench), to);
    bench.infra(&["db", "rejoin", old, "--yes-wipe", old]).expect(0);
    nothing_to_do(bench);
    wait("all is well", Duration::from_secs(30), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
}

fn power_cut(bench: &Bench) {
    for _ in 0..amount("FAILOVERS", 1) {
        start(bench);
        let (dead, to) = failed_over(bench);
        progress(bench);
        back(bench, dead, to);
        // What apply finds it leaves alone: it is for a person to take the host in again.
        bench.infra(&["db", "rejoin", dead, "--show"]).expect(0);
        bench.infra(&["db", "rejoin", dead, "--yes"]).expect(0);
        nothing_to_do(bench);
        progress(bench);
        whole(bench);
        wait("all is well", Duration::from_secs(30), || (bench.infra(&["db", "status"]).code == 0).then_some(()));
    }
}

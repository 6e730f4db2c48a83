//! The way of an app host's programs to the database, in a lab: what is written through one app host is read through another; traffic
//! leaves a server that is fenced, late, hung or gone, at once and with words, and comes back by itself where that is safe.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::time::{Duration, Instant};

use bench::{Bench, Said, wait};
use checks::Check;
use infra::lab::Release;

const INVENTORY: &str = "name: shop
ssh: { user: root }
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
  app1: { address: 10.0.3.11, roles: [app] }
  app2: { address: 10.0.3.12, roles: [app] }
  db1: { address: 10.0.4.11, roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  shop.example.com: { static: { root: /srv/shop/public, prefix: /static/ }, app: { port: 8080, health: /healthz } }
certificates: { issuer: internal }
database:
  engine: mariadb
  primary: db1
  max_lag: 4s
  schemas: [shop]
  users: { shop: { schema: shop, from: app } }
";

#[test]
fn traffic_follows_the_writer() {
    let world = World { bench: Bench::up("t-traffic", INVENTORY, Release::Bookworm) };
    world.bench.apply().expect(0);
    for app in ["app1", "app2"] {
        world.bench.sh(app, "DEBIAN_FRONTEND=noninteractive apt-get install -qy mariadb-client").expect(0);
    }
    let all: [Check<World>; 10] = [
        ("a program stops", program),
        ("a row goes through", row),
        ("nobody asks by plain TCP", asked),
        ("a fence", fence),
        ("a replica that is late", late),
        ("the agent dies", agent_dies),
        ("a server that hangs", hangs),
        ("a reboot of the writer", reboot),
        ("a reboot of the writer without the other", alone),
        ("a power cut under load", power_cut),
    ];
    checks::run(&world, &all, mend);
}

struct World {
    bench: Bench,
}

fn mend(world: &World) {
    for db in ["db1", "db2"] {
        world.sh(db, "pkill -CONT -x mariadbd; systemctl start mariadb; rm -f /var/lib/infra/db/fenced");
    }
    world.sh("db2", "mariadb -e 'START SLAVE'");
    world.sh("db1", "mariadb -e 'SET GLOBAL read_only = OFF'");
    world.writes_again(60);
    world.reads_from("db2", 60);
}

impl World {
    fn sh(&self, host: &str, script: &str) -> Said {
        self.bench.sh(host, script)
    }

    /// As the program of an app host would ask, by infra's own file for it.
    fn ask(&self, app: &str, port: u16, sql: &str) -> Said {
        self.sh(
            app,
            &format!(
                "timeout 20 mariadb --defaults-file=/etc/infra/db/shop.cnf -h 127.0.0.1 -P {port} -NB -e \"{sql}\""
            ),
        )
    }

    fn writes_again(&self, seconds: u64) -> Duration {
        let began = Instant::now();
        wait("app1 can write", Duration::from_secs(seconds), || {
            (self.ask("app1", 6446, "CREATE TABLE IF NOT EXISTS shop.t (id BIGINT PRIMARY KEY, at TIMESTAMP); REPLACE INTO shop.t VALUES (0, NOW())").code == 0)
                .then_some(())
        });
        began.elapsed()
    }

    fn reads_from(&self, host: &str, seconds: u64) {
        let name = format!("{host}\n");
        wait(&format!("reads go to {host}"), Duration::from_secs(seconds), || {
            (self.ask("app2", 6447, "SELECT @@report_host").out == name).then_some(())
        });
    }

    /// A client that is told at once why it cannot write.
    fn is_refused(&self) {
        let began = Instant::now();
        let said = self.ask("app1", 6446, "SELECT 1");
        assert!(
            said.code != 0 && said.err.contains("1040") && said.err.contains("No database host may write now"),
            "{said:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    /// For how long a connection that writes holds, when `then` is done a second after it began.
    fn holds(&self, then: impl FnOnce(&Self)) -> (Said, Duration) {
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let said = self.ask("app1", 6446, "SELECT 1; SELECT SLEEP(12); SELECT 2");
                (said, Instant::now())
            });
            std::thread::sleep(Duration::from_secs(2));
            then(self);
            let done = Instant::now();
            let (said, ended) = client.join().unwrap();
            assert!(said.out.starts_with("1\n"), "{said:?}");
            (said, ended.saturating_duration_since(done))
        })
    }
}

/// The user's own program: web hosts go to the other one at once, and `infra status` names it.
fn program(world: &World) {
    let ca = world.bench.sites_ca();
    let ask = format!(
        "curl -q -s -m 20 --cacert '{}' -o /dev/null -w '%{{http_code}} ' 'https://shop.example.com/[1-40]'",
        ca.display()
    );
    world.sh("app1", "systemctl stop demo-app@8080").expect(0);
    let codes = world.sh("outside", &ask).out;
    assert_eq!(codes.split_whitespace().filter(|code| *code == "200").count(), 40, "{codes}");
    let state = "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/infra/programs/admin.sock | awk -F, '$1 == \"program-8080\" && $2 == \"app1\" { print $18 }'";
    wait("web1 sees it", Duration::from_secs(10), || (world.sh("web1", state).out == "DOWN\n").then_some(()));
    let told = world.bench.infra(&["status"]);
    assert!(
        told.out.contains("the program of shop.example.com on port 8080 is unwell since")
            && told.out.contains("it takes no connection"),
        "{told:?}"
    );
    // A reload forgets nothing.
    world.sh("web1", "systemctl reload infra-programs").expect(0);
    assert_eq!(world.sh("web1", state).out, "DOWN\n");
    world.sh("app1", "systemctl start demo-app@8080").expect(0);
    wait("web1 sees it again", Duration::from_secs(10), || world.sh("web1", state).out.starts_with("UP").then_some(()));
    let codes = world.sh("outside", &ask).out;
    assert_eq!(codes.split_whitespace().filter(|code| *code == "200").count(), 40, "{codes}");
}

fn row(world: &World) {
    world.writes_again(30);
    world.ask("app1", 6446, "REPLACE INTO shop.t VALUES (7, NOW())").expect(0);
    wait("the row is read through the other app host", Duration::from_secs(10), || {
        (world.ask("app2", 6447, "SELECT id, @@report_host FROM shop.t WHERE id = 7").out == "7\tdb2\n").then_some(())
    });
    // TLS is between the program and the server.
    let said = world.ask("app1", 6446, "SHOW SESSION STATUS LIKE 'Ssl_version'").expect(0);
    assert!(said.out.contains("TLSv1."), "{}", said.out);
    // The replica refuses to write, also to who is led there.
    assert_ne!(world.ask("app2", 6447, "REPLACE INTO shop.t VALUES (8, NOW())").code, 0);
}

fn asked(world: &World) {
    let said = world.sh("app1", "echo 'show stat' | socat - UNIX-CONNECT:/run/infra/db-proxy/admin.sock | awk -F, '$1 == \"writer\" || $1 == \"reader\" { print $1, $2, $18, $37 }'");
    for line in ["writer db1 UP L7OK", "writer db2 DOWN L7STS", "reader db1 DOWN L7STS", "reader db2 UP L7OK"] {
        assert!(said.out.contains(line), "{}", said.out);
    }
    // Nobody else is told.
    let foreign = "curl -s -o /dev/null -w '%{http_code}' -m 5 --cacert /etc/infra/ca.crt --cert /etc/nginx/tls/client.crt --key /etc/nginx/tls/client.key \
                   --resolve db1.shop.infra.internal:9306:10.0.4.11 https://db1.shop.infra.internal:9306/epoch";
    assert_eq!(world.sh("db2", foreign).out, "200");
    assert_ne!(world.sh("web1", foreign).out, "200");
}

fn fence(world: &World) {
    let (said, after) = world.holds(|w| drop(w.sh("db1", "mariadb -e 'SET GLOBAL read_only = ON'").expect(0)));
    assert!(said.code != 0 && after < Duration::from_millis(1500), "{after:?}: {said:?}");
    world.is_refused();
    // The agent lifts no fence that was set while the server ran.
    std::thread::sleep(Duration::from_secs(5));
    world.is_refused();
    world.sh("db1", "mariadb -e 'SET GLOBAL read_only = OFF'").expect(0);
    world.writes_again(5);
}

fn late(world: &World) {
    world.reads_from("db2", 30);
    world.sh("db2", "mariadb -e 'STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 30; START SLAVE'").expect(0);
    world.reads_from("db1", 20);
    world.sh("db2", "mariadb -e 'STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 0; START SLAVE'").expect(0);
    world.reads_from("db2", 20);
}

fn agent_dies(world: &World) {
    let (said, _) = world.holds(|w| drop(w.sh("db1", "systemctl kill -s KILL infra-db-role.service").expect(0)));
    assert_eq!(said.code, 0, "{said:?}");
    world.writes_again(2);
}

fn hangs(world: &World) {
    let (said, after) = world.holds(|w| drop(w.sh("db1", "pkill -STOP -x mariadbd").expect(0)));
    assert!(said.code != 0 && after < Duration::from_secs(5), "{after:?}: {said:?}");
    world.is_refused();
    world.sh("db1", "pkill -CONT -x mariadbd").expect(0);
    world.writes_again(10);
}

fn reboot(world: &World) {
    world.bench.reboot("db1");
    world.writes_again(60);
    let said = world.sh("db1", "journalctl -o cat -b -u infra-db-role");
    assert!(said.out.contains("takes writes again: it is the writer of epoch 1"), "{}", said.out);
    world.reads_from("db2", 30);
}

fn alone(world: &World) {
    world.sh("db2", "systemctl stop mariadb").expect(0);
    world.bench.reboot("db1");
    wait("db1 says why it stays fenced", Duration::from_secs(60), || {
        world.sh("db1", "cat /run/infra-db-waits").out.contains("db2 does not answer").then_some(())
    });
    // So fast a reboot may be over before the proxy has asked twice in vain; the fence holds all the while.
    assert_ne!(world.ask("app1", 6446, "REPLACE INTO shop.t VALUES (9, NOW())").code, 0);
    wait("the proxy refuses", Duration::from_secs(5), || (world.ask("app1", 6446, "SELECT 1").code != 0).then_some(()));
    world.is_refused();
    assert_eq!(world.sh("db1", "mariadb -NBe 'SELECT @@read_only'").out, "1\n");
    world.sh("db2", "systemctl start mariadb").expect(0);
    world.writes_again(30);
    world.reads_from("db2", 30);
}

/// What the crash cuts off the log of the writer may stand on the replica already. Each row that was acknowledged is there afterwards,
/// and both hosts have the same.
fn power_cut(world: &World) {
    world
        .ask("app1", 6446, "CREATE TABLE shop.load (id BIGINT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20) UNIQUE)")
        .expect(0);
    let one = "for n in 1 2 3 4; do ( i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); echo \"INSERT INTO shop.load (v) VALUES ('$n-$i'); SELECT '$n-$i';\"; done | \
               mariadb --defaults-file=/etc/infra/db/shop.cnf -NB --unbuffered >/tmp/acknowledged.$n 2>/dev/null ) & done; wait";
    std::thread::scope(|scope| {
        let load = scope.spawn(|| world.sh("app1", one));
        wait("rows are written", Duration::from_secs(30), || {
            (world.sh("app1", "cat /tmp/acknowledged.* | wc -l").out.trim().parse::<u32>().ok()? > 500).then_some(())
        });
        world.bench.lab().kill("db1").unwrap();
        load.join().unwrap();
    });
    world.bench.lab().start("db1").unwrap();
    world.writes_again(90);
    world.reads_from("db2", 60);
    let acknowledged = world.sh("app1", "cat /tmp/acknowledged.* | sort").expect(0).out;
    let all = "mariadb -NBe 'SELECT v FROM shop.load' | LC_ALL=C sort";
    let kept: Vec<std::collections::BTreeSet<String>> = ["db1", "db2"]
        .iter()
        .map(|db| world.sh(db, all).expect(0).out.lines().map(ToOwned::to_owned).collect())
        .collect();
    let lost: Vec<&str> = acknowledged.lines().filter(|v| !kept.iter().all(|kept| kept.contains(*v))).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(kept[0], kept[1]);
}

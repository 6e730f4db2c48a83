//! Monitoring by Sumo Logic's HTTP source, in a lab: a real Telegraf from a signed repository and Debian's syslog-ng on three hosts, what
//! stands for the service in `outside`. What is measured and logged arrives by host, exactly, and the source's URL is nowhere.
#![expect(clippy::unwrap_used, reason = "a test")]

mod agent_kinds;
mod agents;
#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/campaign.rs"]
mod campaign;
#[path = "../common/checks.rs"]
mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use bench::{Bench, Said, wait};
use campaign::amount;
use checks::Check;
use infra::lab::{Post, Release, agent};

const HOSTS: [&str; 5] = ["lb1", "web1", "app1", "db1", "db2"];
/// The code of the source: the secret.
const CODE: &str = "ZaVnC4dhaV2-lab-secret-7Qx";
const INVENTORY: &str = "name: watch
ssh: { user: root }
hosts:
  lb1:  { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }
  web1: { address: 10.0.2.11, roles: [web] }
  app1: { address: 10.0.3.11, roles: [app] }
  db1:  { address: 10.0.4.11, roles: [db] }
  db2:  { address: 10.0.4.12, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  shop.example.com:
    app: { port: 8080, health: /healthz }
certificates: { issuer: internal }
database: { engine: mariadb, primary: db1, schemas: [shop] }
monitoring:
  service: sumologic
  agent: telegraf
  source: { file: SOURCE }
  repository: { url: https://packages.example.com/debian, signed_by: KEY, fingerprint: FINGERPRINT }
  logs:
    - { path: /var/log/shop/*.log, on: app, category: prod/shop/app }
    - { path: /var/log/shop/trace.txt, on: app, category: prod/shop/trace, multiline: '^\\d{4}-\\d\\d-\\d\\d ' }
";

struct World {
    bench: Bench,
    fingerprint: String,
    /// Holds the file with the source's URL.
    own: tempfile::TempDir,
}

#[test]
fn what_is_measured_and_logged_arrives_by_host() {
    let Some(world) = World::up("t-watch") else { return };
    let all: [Check<World>; 19] = [
        ("wrong input changes nothing", wrong_input),
        ("an agent of somebody else is named", rival),
        ("rsyslog that sends lines to somebody else stays", agent_kinds::logger),
        ("it is applied, and seen to be accepted", applied),
        ("twice is nothing", nothing),
        ("measures arrive from each host", measures),
        ("the status tells of each host's last delivery", delivered),
        ("1,000 requests are 1,000", requests),
        ("every line arrives once", lines),
        ("an outage is told to who is strict", outage),
        ("agents at rest", |world| agents::rest(world, seconds() / 10)),
        ("5_000 lines a second", |world| agents::rush(world, seconds() / 10)),
        ("whatever the service does, every line comes once", |world| agents::outage(world, seconds())),
        ("a full buffer is bounded", agents::full),
        ("the URL is nowhere", nowhere),
        ("the account that measures gets another password", agent_kinds::rotated),
        ("the collector takes the agents' place", agent_kinds::collector),
        ("Prometheus takes the collector's place", agent_kinds::prometheus),
        ("nothing of it is left", removed),
    ];
    checks::run(&world, &all, |_| ());
}

/// For how long the service is away, seconds.
fn seconds() -> u32 {
    amount("SECONDS", 30)
}

impl World {
    /// Bare hosts; `None`, listed as not run, where this machine cannot build a Telegraf.
    fn up(name: &str) -> Option<Self> {
        let maker = match agent::ensure(&|_| ()) {
            Ok(Some(maker)) => maker,
            other => {
                let why = other.err().map_or("this machine has no Go".to_owned(), |e| e.to_string().replace('\n', " "));
                let line = format!("{name}: no Telegraf can be built: {why}");
                eprintln!("{line}");
                if let Some(list) = std::env::var_os("INFRA_TESTS_SKIPPED") {
                    let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
                    writeln!(list, "{line}").unwrap();
                }
                return None;
            }
        };
        let own = tempfile::tempdir().unwrap();
        let source = own.path().join("source");
        std::fs::write(&source, format!("https://endpoint1.collection.example.com/receiver/v1/http/{CODE}\n")).unwrap();
        let inventory = INVENTORY
            .replace("SOURCE", &source.display().to_string())
            .replace("KEY", &maker.key.display().to_string())
            .replace("FINGERPRINT", &maker.fingerprint);
        Some(Self { bench: Bench::up(name, &inventory, Release::Bookworm), fingerprint: maker.fingerprint, own })
    }

    fn apply(&self) -> Said {
        Self::keeps(self.bench.apply())
    }

    /// What was said, without the secret.
    fn keeps(said: Said) -> Said {
        assert!(!said.out.contains(CODE) && !said.err.contains(CODE), "the URL is told");
        said
    }

    fn source(&self, url: &str) {
        std::fs::write(self.own.path().join("source"), url).unwrap();
    }

    fn accepted(&self) -> Vec<Post> {
        self.bench.lab().received().unwrap().into_iter().filter(Post::is_accepted).collect()
    }

    /// The names of measures that each host has sent.
    fn names(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for post in self.accepted().iter().filter(|post| post.is_measures()) {
            let names = post.body.lines().filter(|line| !line.starts_with('#'));
            let names = names.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned());
            all.entry(post.host.clone()).or_default().extend(names);
        }
        all
    }

    /// The last value of a measure of a host that has all of these labels.
    fn value(&self, host: &str, name: &str, labels: &[&str]) -> Option<f64> {
        let posts = self.accepted();
        let mut lines =
            posts.iter().filter(|post| post.host == host && post.is_measures()).flat_map(|p| p.body.lines());
        let fits = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        let last = lines.rfind(fits)?;
        last.rsplit_once('}').map_or(last, |(_, rest)| rest).split_whitespace().next()?.parse().ok()
    }

    /// How often each line of a category came.
    fn count(&self, category: &str) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for post in self.accepted().iter().filter(|post| post.category == category) {
            for line in post.body.lines() {
                *all.entry(line.to_owned()).or_default() += 1;
            }
        }
        all
    }
}

fn untouched(world: &World) {
    for host in HOSTS {
        world
            .bench
            .sh(
                host,
                "[ -z \"$(ls -d /etc/infra /etc/apt/*/infra-* 2>/dev/null)\" ] && ! dpkg-query -W telegraf 2>/dev/null",
            )
            .expect(0);
    }
}

fn wrong_input(world: &World) {
    let good = std::fs::read_to_string(world.own.path().join("source")).unwrap();
    world.source(&good.replace("https://", "http://"));
    let said = world.apply().expect(2);
    assert!(said.err.contains("`monitoring/source` is not an https URL"), "{}", said.err);
    world.source("");
    let said = world.apply().expect(2);
    assert!(said.err.contains("`monitoring/source` is empty"), "{}", said.err);
    world.source(&good);
    world.bench.edit(&world.fingerprint, "24C975CBA61A024EE1B631787C3D57159FC2F927");
    let said = world.apply().expect(2);
    assert!(said.err.contains("holds") && said.err.contains(&world.fingerprint), "{}", said.err);
    world.bench.edit("24C975CBA61A024EE1B631787C3D57159FC2F927", &world.fingerprint);
    untouched(world);
}

fn rival(world: &World) {
    let unit = "[Service]\nExecStart=/bin/sleep infinity\n";
    let start = format!("printf '{unit}' >/etc/systemd/system/otelcol-sumo.service && systemctl start otelcol-sumo");
    world.bench.sh("web1", &start).expect(0);
    let said = world.apply().expect(2);
    let what = "on web1 runs the OpenTelemetry collector of Sumo Logic already";
    assert!(
        said.err.contains(what) && said.err.contains("systemctl disable --now otelcol-sumo.service"),
        "{}",
        said.err
    );
    untouched(world);
    world
        .bench
        .sh("web1", "systemctl stop otelcol-sumo; rm /etc/systemd/system/otelcol-sumo.service; systemctl daemon-reload")
        .expect(0);
}

fn applied(world: &World) {
    let said = world.apply().expect(0);
    assert!(
        !said.out.contains("none was accepted") && !said.err.contains("none was accepted"),
        "{}{}",
        said.out,
        said.err
    );
    for host in HOSTS {
        world.bench.sh(host, "systemctl is-active telegraf syslog-ng infra-measures").expect(0);
    }
}

fn nothing(world: &World) {
    let said = world.apply().expect(0);
    assert!(said.out.contains("0 hosts changed, 5 unchanged"), "{}", said.out);
}

fn measures(world: &World) {
    // The clock's offset is none of them: a lab's host may not ask the kernel for it.
    let every = [
        "cpu_usage_idle",
        "mem_used_percent",
        "swap_used_percent",
        "system_load1",
        "disk_used_percent",
        "disk_inodes_used",
        "diskio_read_bytes",
        "net_bytes_recv",
        "infra_firewall_loaded",
        "infra_measured_seconds",
        "kernel_vmstat_oom_kill",
        "x509_cert_expiry",
        "infra_logs_written",
        "internal_write_metrics_written",
    ];
    let roles: [(&str, &[&str]); 5] = [
        ("lb1", &["haproxy_req_tot", "haproxy_active_servers", "haproxy_http_response_2xx", "haproxy_chkdown"]),
        ("web1", &["nginx_requests", "nginx_active"]),
        ("app1", &["http_response_response_time", "http_response_result_code"]),
        // What the alerts about databases are made of.
        ("db1", &["mysql_uptime", "mysql_variables_read_only", "mysql_rpl_semi_sync_master_clients"]),
        (
            "db2",
            &["mysql_slave_Slave_IO_Running", "mysql_slave_Slave_SQL_Running", "mysql_slave_seconds_behind_master"],
        ),
    ];
    for (host, own) in roles {
        wait(&format!("measures of {host}"), Duration::from_secs(180), || {
            let names = world.names();
            let of = names.get(host)?;
            every.iter().chain(own).all(|name| of.contains(*name)).then_some(())
        });
    }
    assert_eq!(world.value("db1", "mysql_variables_read_only", &[]), Some(0.0));
    assert_eq!(world.value("db2", "mysql_variables_read_only", &[]), Some(1.0));
    assert_eq!(world.value("db2", "mysql_slave_Slave_SQL_Running", &[]), Some(1.0));
    let said = world.bench.infra(&["lab", "received", "web1", "--name", world.bench.lab().name()]).expect(0);
    assert!(said.out.contains("watch/web/metrics: "), "{}", said.out);
}

fn delivered(world: &World) {
    let told = |out: &str| -> BTreeSet<String> {
        let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let hosts = lines.filter(|line| line["event"] == "host_status");
        let of = |host: serde_json::Value| {
            let each = host["deliveries"].as_array().cloned().unwrap_or_default();
            let each = each.into_iter().filter(|one| one["at"].is_i64() && one["dropped"] == 0);
            let names = each.map(|one| format!("{} {}", host["host"].as_str().unwrap(), one["what"].as_str().unwrap()));
            names.collect::<Vec<_>>()
        };
        hosts.flat_map(of).collect()
    };
    // A host's login for the status is a line of its log.
    wait("all is accepted of all hosts", Duration::from_secs(180), || {
        let said = World::keeps(world.bench.infra(&["status", "--json"]));
        (said.code == 0 && told(&said.out).len() == 2 * HOSTS.len()).then_some(())
    });
    let said = World::keeps(world.bench.infra(&["status"])).expect(0);
    assert!(said.out.contains("  sent"), "{}", said.out);
    assert!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
}

fn requests(world: &World) {
    // What the load balancer itself has counted: the column of its management guide, section 9.1.
    let live = || -> f64 {
        let ask = "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock | awk -F, '$1 == \"https\" && $2 == \"FRONTEND\" { print $49 }'";
        world.bench.sh("lb1", ask).expect(0).out.trim().parse().unwrap()
    };
    let arrived = |count: f64| {
        wait("the count of the edge", Duration::from_secs(180), || {
            let told = world.value("lb1", "haproxy_req_tot", &["proxy=\"https\"", "type=\"frontend\""])?;
            assert!(told <= count + 0.1, "{told} requests are told, and there were {count}");
            (told > count - 0.1).then_some(())
        });
    };
    let before = live();
    arrived(before);
    let ca = world.bench.sites_ca();
    let script = format!("curl -sS --cacert '{}' -o /dev/null 'https://shop.example.com/?n=[1-1000]'", ca.display());
    world.bench.sh("outside", &script).expect(0);
    arrived(before + 1000.0);
    assert!((live() - before - 1000.0).abs() < 0.1, "{before}, then {}", live());
}

fn lines(world: &World) {
    let lab = world.bench.lab();
    let write = |from: u32, to: u32| {
        let script = format!("mkdir -p /var/log/shop; seq -f 'order %.0f' {from} {to} >>/var/log/shop/app.log");
        world.bench.sh("app1", &script).expect(0);
    };
    write(1, 1000);
    wait("the first lines", Duration::from_secs(180), || (world.count("prod/shop/app").len() == 1000).then_some(()));
    lab.answer(Some("503")).unwrap();
    write(1001, 3000);
    wait("a refusal", Duration::from_secs(180), || {
        let posts = lab.received().unwrap();
        posts.iter().any(|post| post.status == 503 && post.category == "prod/shop/app").then_some(())
    });
    world.bench.sh("app1", "systemctl kill -s KILL syslog-ng").expect(0);
    write(3001, 5000);
    wait("it runs again", Duration::from_secs(120), || {
        (world.bench.sh("app1", "systemctl is-active syslog-ng").code == 0).then_some(())
    });
    lab.answer(None).unwrap();
    let trace = "2026-11-26 first\\n  at one\\n  at two\\n2026-11-26 second\\n";
    world.bench.sh("app1", &format!("printf '{trace}' >>/var/log/shop/trace.txt")).expect(0);
    wait("all lines", Duration::from_secs(180), || (world.count("prod/shop/app").len() >= 5000).then_some(()));
    let count = world.count("prod/shop/app");
    let twice: Vec<_> = count.iter().filter(|(_, times)| **times != 1).collect();
    assert!(count.len() == 5000 && twice.is_empty(), "{} lines, {twice:?}", count.len());
    wait("both records", Duration::from_secs(120), || (world.count("prod/shop/trace").len() == 4).then_some(()));
    for (host, category) in
        [("lb1", "watch/lb/haproxy"), ("web1", "watch/web/nginx/access"), ("app1", "watch/app/journal")]
    {
        wait(&format!("lines of {category}"), Duration::from_secs(180), || {
            world.accepted().iter().any(|post| post.host == host && post.category == category).then_some(())
        });
    }
    let orders: usize = world.count("watch/lb/haproxy").iter().filter(|(line, _)| line.contains("\"status\":")).count();
    assert!(orders >= 1000, "{orders} requests in the log of the edge");
}

/// The one who asks for strictness is told by the code; that a run fails by nothing of it else, `agents::full` sees.
fn outage(world: &World) {
    world.bench.lab().answer(Some("503")).unwrap();
    world.bench.edit("category: prod/shop/trace", "category: prod/shop/traces");
    let said = World::keeps(world.bench.infra(&["apply", "--yes", "--strict"]));
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    assert!(said.err.contains("none was accepted so far"), "{}\n{}", said.out, said.err);
    world.bench.lab().answer(None).unwrap();
    world.bench.edit("category: prod/shop/traces", "category: prod/shop/trace");
}

fn nowhere(world: &World) {
    let look = format!(
        "! journalctl -o cat | grep -qF '{CODE}' && ! ps axww -o args | grep -v grep | grep -qF '{CODE}' &&
         found=$(grep -rlsF '{CODE}' /etc /var /run /tmp /usr/local /home 2>/dev/null | while read -r file; do
             find \"$file\" -perm /0137 -print; done); [ -z \"$found\" ] || {{ echo \"$found\"; exit 1; }}"
    );
    world.bench.on_each(&HOSTS, &look);
    for post in world.bench.lab().received().unwrap() {
        assert!(!post.body.contains(CODE), "{}: {}", post.host, post.category);
    }
}

fn removed(world: &World) {
    world.bench.edit("service: prometheus, from: [198.51.100.99]", "service: none");
    world.apply().expect(0);
    for host in HOSTS {
        let script =
            "[ -z \"$(ls /etc/infra/monitoring/* /etc/otelcol-sumo/env/*.env /etc/nginx/conf.d/infra-status.conf \
                      /etc/systemd/system/telegraf.service.d/infra.conf /etc/systemd/system/syslog-ng.service.d/infra.conf \
                      /etc/systemd/system/otelcol-sumo.service.d/infra.conf /etc/systemd/system/prometheus-*/infra.conf \
                      /etc/apt/*/infra-monitoring* 2>/dev/null)\" ] &&
                      ! systemctl -q is-active telegraf syslog-ng infra-measures &&
                      ! systemctl -q is-enabled telegraf syslog-ng 2>/dev/null && ! nft list ruleset | grep 60780";
        world.bench.sh(host, script).expect(0);
    }
    let said = world.apply().expect(0);
    assert!(said.out.contains("0 hosts changed, 5 unchanged"), "{}", said.out);
}

//! Many at once: idle websockets beside pages, and all kinds of traffic for long. Real daemons on a private bridge, as they are rendered
//! for this machine.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "common/campaign.rs"]
mod campaign;
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use campaign::amount;
use common::tiers::Tiers;
use common::twin::{text, wait};
use infra::inventory::site::{Edge, EdgeLimits};
use infra::plan::decision::Memory;
use infra::plan::state::{Facts, Observed};
use infra::service::status::{Earlier, Seen};
use infra::service::{ALL, platform};
use serde_json::Value;

const CROWD: &str = include_str!("common/crowd.py");
/// The hosts that serve, and what serves there.
const HOSTS: [&str; 6] = ["lb1", "lb2", "web1", "web2", "app1", "app2"];

/// As many files as a process of this machine may have, as a host tells it.
fn files() -> u64 {
    let shell = "ulimit -n \"$(cat /proc/sys/fs/nr_open)\" 2>/dev/null; ulimit -Hn";
    let out = std::process::Command::new("sh").args(["-c", shell]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap_or(1 << 20)
}

/// The tiers with the room of a large host, and whoever comes from outside without a limit: it is one address for all.
fn start() -> (Tiers, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let mut site = common::three_tier(&state.path().join("state"));
    let exempt = vec!["198.51.100.0/24".parse().unwrap()];
    site.edge = Edge { limits: EdgeLimits { exempt, ..EdgeLimits::default() }, ..Edge::default() };
    let facts = |facts: Facts| Facts { memory: 16 << 10, files: files(), ..facts };
    let tiers = Tiers::start_with(site, facts, |twin, app| {
        twin.put(app, "/run/crowd.py", CROWD);
        let out = twin.run(
            app,
            "ulimit -n \"$(ulimit -Hn)\"; setsid -f python3 /run/crowd.py serve 8080 >/run/program.log 2>&1 </dev/null",
        );
        assert!(out.status.success(), "{}", text(&out));
        let asked = wait(Duration::from_secs(30), || {
            twin.run(app, "curl -q -s -m 5 http://127.0.0.1:8080/healthz").status.success().then_some(())
        });
        assert!(asked.is_some(), "{}", text(&twin.run(app, "cat /run/program.log")));
    });
    (tiers, state)
}

/// The clients, in `processes` as one has only so many files; gives what each says, and what it has told meanwhile.
fn visit(tiers: &Tiers, processes: usize, addresses: &str, seconds: u32, kinds: &str) -> Vec<Value> {
    let folder = tiers.twin.shared();
    std::fs::write(folder.join("crowd.py"), CROWD).unwrap();
    tiers.edge("https://shop.example.com/page");
    let command = format!(
        "cd {}\nulimit -n \"$(ulimit -Hn)\"\nfor n in $(seq {processes}); do\n\
         python3 crowd.py visit shop.example.com sites-ca.crt {seconds} {addresses} {kinds} >said$n 2>told$n &\ndone\nwait\n",
        folder.display()
    );
    tiers.twin.outside(&command);
    let read = |number: usize| {
        let [said, told] =
            ["said", "told"].map(|name| std::fs::read_to_string(folder.join(format!("{name}{number}"))).unwrap());
        println!("{told}{said}");
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}{told}"))
    };
    (1..=processes).map(read).collect()
}

/// The sum of a figure over all processes of clients.
fn sum(said: &[Value], figure: &str) -> u64 {
    said.iter().map(|one| one["done"][figure].as_u64().unwrap_or(0)).sum()
}

fn no_wrong(said: &[Value]) {
    assert!(said.iter().all(|one| one["wrong"].as_object().unwrap().is_empty()), "{said:?}");
}

/// `infra` says by this what each load balancer has.
fn connections(tiers: &Tiers, lb: &str) -> (u64, u64) {
    let out = text(&tiers.twin.run(lb, "echo 'show info' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock"));
    let figure = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    (figure("CurrConns:"), figure("Maxconn:"))
}

/// 1,200 through one load balancer, which were more than it let through to a web host once; 10,000 through each is the campaign's.
#[test]
fn idle_websockets_take_no_page_its_turn() {
    let (tiers, _state) = start();
    let wanted = u64::from(amount("WEBSOCKETS", 1_300));
    let addresses = if wanted > 1_300 { "10.0.1.11,10.0.1.12" } else { "10.0.1.11" };
    let (_, most) = connections(&tiers, "lb1");
    // Pages need some too.
    let room = (most - most / 20) * addresses.split(',').count() as u64;
    let number = wanted.min(room);
    println!("{number} websockets of {wanted}: a load balancer takes {most} clients, with {} files a process", files());
    let processes = number.div_ceil(6_000);
    let kinds = format!("websockets={} pages=10", number / processes);
    let said = visit(&tiers, usize::try_from(processes).unwrap(), addresses, 15, &kinds);
    no_wrong(&said);
    assert_eq!(sum(&said, "websockets opened"), number / processes * processes);
    assert_eq!(sum(&said, "websockets kept"), sum(&said, "websockets opened"));
    assert!(sum(&said, "pages") >= 100 * processes, "{said:?}");
    // Half of the pages within half a second, on a machine that does everything at once.
    assert!(said.iter().all(|one| one["page_ms"]["half"].as_u64().unwrap() < 500), "{said:?}");
}

/// That the room is nearly taken stands in the log.
#[test]
fn little_room_is_told() {
    let (tiers, _state) = start();
    let few = "sed -i 's/^    maxconn [0-9]*/    maxconn 60/; s/fe_conn ge [0-9]*/fe_conn ge 54/; s|log /dev/log|log 127.0.0.1:5514|' \
               /etc/haproxy/haproxy.cfg\nsetsid -f socat -u UDP-RECV:5514 CREATE:/run/lines >/dev/null 2>&1 </dev/null\n\
               kill -USR2 $(cat /run/haproxy.pid)";
    let out = tiers.twin.run("lb1", few);
    assert!(out.status.success(), "{}", text(&out));
    let small = wait(Duration::from_secs(20), || (connections(&tiers, "lb1").1 == 60).then_some(()));
    assert!(small.is_some(), "{:?}", connections(&tiers, "lb1"));
    no_wrong(&visit(&tiers, 1, "10.0.1.11", 3, "websockets=40 pages=2"));
    let told = || text(&tiers.twin.run("lb1", "cat /run/lines"));
    assert!(told().contains("/page") && !told().contains("that there is room for"), "{}", told());
    no_wrong(&visit(&tiers, 1, "10.0.1.11", 3, "websockets=55 pages=2"));
    assert!(told().contains("clients that there is room for"), "{}", told());
}

/// What `infra status` would tell of a host by what the gauge of a service reads there.
fn told_by(tiers: &Tiers, service: &str, host: &str) -> Vec<String> {
    let gauge = ALL.gauges().find(|(name, _)| *name == service).unwrap().1;
    let answer = text(&tiers.twin.run(host, &format!("cd /\ntwice=no\n{}", (gauge.script)())));
    let mut observed = Observed::bare(platform::oldest());
    (gauge.read)(&answer, &mut observed);
    let (observed, away) = (BTreeMap::from([(host.parse().unwrap(), observed)]), BTreeMap::new());
    let (earlier, memory) = (Earlier::new(), Memory::default());
    let (site, now) = (&tiers.site, 0);
    let said = ALL.tell(&Seen { site, observed: &observed, away: &away, earlier: &earlier, memory: &memory, now });
    said.findings.into_iter().map(|finding| finding.what).collect()
}

/// `infra status` tells it of nginx and of what leads to the programs as of the load balancers.
#[test]
fn little_room_on_a_web_host_is_told() {
    let (tiers, _state) = start();
    let few = "sed -i 's/worker_connections [0-9]*/worker_connections 64/; s/worker_processes auto/worker_processes 1/' /etc/nginx/nginx.conf\n\
               nginx -s reload\n\
               sed -i 's/^    maxconn [0-9]*/    maxconn 30/' /etc/infra/programs/programs.cfg\nkill -USR2 $(cat /run/infra/programs/pid)";
    let alone = "echo 'set server web/web2 state maint' | socat - UNIX-CONNECT:/run/haproxy/admin.sock";
    for (host, script) in [("web1", few), ("lb1", alone)] {
        let out = tiers.twin.run(host, script);
        assert!(out.status.success(), "{}", text(&out));
    }
    let tells = |service: &str, words: &str| told_by(&tiers, service, "web1").iter().any(|what| what.contains(words));
    assert!(!tells("web", "connections"), "{:?}", told_by(&tiers, "web", "web1"));
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| visit(&tiers, 1, "10.0.1.11", 10, "websockets=28 pages=1"));
        for (service, words) in [("web", "a worker of nginx has "), ("programs", "what leads to the programs has ")] {
            let told = wait(Duration::from_secs(20), || tells(service, words).then_some(()));
            assert!(told.is_some(), "{words}: {:?}", told_by(&tiers, service, "web1"));
        }
        clients.join().unwrap();
    });
    visit(&tiers, 1, "10.0.1.11", 3, "websockets=70 pages=1");
    let told = wait(Duration::from_secs(20), || tells("web", "nginx did not have enough connections").then_some(()));
    assert!(told.is_some(), "{}", text(&tiers.twin.run("web1", "tail -n 5 /var/log/nginx/error.log")));
}

/// Pages, uploads, streams, websockets and clients that send a byte a second: all of them get what they came for, and no daemon grows.
#[test]
fn all_kinds_of_traffic_at_once() {
    let (tiers, _state) = start();
    let seconds = amount("SECONDS", 20);
    let kinds = "websockets=200 pages=20 uploads=4 events=20 slow=20";
    let memory = std::sync::Mutex::new(Vec::new());
    let said = std::thread::scope(|scope| {
        let clients = scope.spawn(|| visit(&tiers, 2, "10.0.1.11,10.0.1.12", seconds, kinds));
        while !clients.is_finished() {
            memory.lock().unwrap().push(used(&tiers));
            std::thread::sleep(Duration::from_secs(2));
        }
        clients.join().unwrap()
    });
    no_wrong(&said);
    for (kind, least) in [("pages", 10 * seconds), ("uploads", seconds), ("events", 10 * seconds), ("slow clients", 40)]
    {
        assert!(sum(&said, kind) >= u64::from(least), "{kind}: {said:?}");
    }
    // The first minute has all that is warmed up.
    let memory = memory.into_inner().unwrap();
    let (first, last) = memory.split_at(memory.len() / 2);
    for host in HOSTS {
        let most = |part: &[BTreeMap<&str, u64>]| part.iter().map(|one| one[host]).max().unwrap_or(0);
        let (before, after) = (most(first), most(last));
        println!("{host}: {} MB, then {} MB", before / 1024, after / 1024);
        assert!(
            seconds < 120 || after <= before + before / 10 + 4096,
            "{host} has grown from {before} KB to {after} KB"
        );
    }
}

/// What the daemons of each host take, KB.
fn used(tiers: &Tiers) -> BTreeMap<&'static str, u64> {
    let ask = "ps -o rss= -C haproxy,nginx | awk '{ sum += $1 } END { print sum + 0 }'";
    HOSTS.into_iter().map(|host| (host, text(&tiers.twin.run(host, ask)).trim().parse().unwrap_or(0))).collect()
}

/// Requests by `ab` (apache2-utils) over kept connections for so long: how many a second, and what each took of a core in all daemons,
/// microseconds.
fn asked(tiers: &Tiers, port: u16, seconds: u32) -> (f64, f64) {
    let before = spent(tiers);
    let url = format!("https://shop.example.com:{port}/page");
    let hosts = tiers.twin.shared().join("hosts");
    std::fs::write(&hosts, "10.0.1.11 shop.example.com\n").unwrap();
    let ask =
        format!("mount --bind {} /etc/hosts && exec ab -q -k -c 32 -t {seconds} -n 10000000 {url}", hosts.display());
    let out = text(&tiers.twin.outside(&format!("unshare --mount sh -c '{ask}'")));
    let figure = |name: &str| -> f64 {
        let line = out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {out}"));
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(figure("Failed requests:") == 0.0 && !out.contains("Non-2xx"), "{out}");
    let complete = figure("Complete requests:");
    (figure("Requests per second:"), (spent(tiers) - before) * 10_000.0 / complete)
}

/// What all daemons of the tiers have had of the processors, in hundredths of a second.
fn spent(tiers: &Tiers) -> f64 {
    let ask =
        "cat /proc/[0-9]*/stat 2>/dev/null | awk '/\\((haproxy|nginx)\\)/ { sum += $14 + $15 } END { print sum + 0 }'";
    HOSTS.into_iter().map(|host| text(&tiers.twin.run(host, ask)).trim().parse::<f64>().unwrap()).sum()
}

/// What it costs that every hop is verified: the tiers as they are rendered, and beside them a pair that a person would write by hand,
/// `HAProxy` with TLS outside and nginx without inside. In turns, on the same machine; `benches/edge` has it for longer.
#[test]
fn verified_hops_cost_so_much() {
    if !std::path::Path::new("/usr/bin/ab").exists() {
        if let Some(list) = std::env::var_os("INFRA_TESTS_SKIPPED") {
            use std::io::Write as _;
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "verified_hops_cost_so_much: ab is not there: apt-get install apache2-utils").unwrap();
        }
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let mut site = common::three_tier(&state.path().join("state"));
    let exempt = vec!["198.51.100.0/24".parse().unwrap()];
    site.edge = Edge { limits: EdgeLimits { exempt, ..EdgeLimits::default() }, ..Edge::default() };
    let program = "error_log /dev/null; pid /run/program.pid; events {}\n\
                   http { access_log off; server { listen 127.0.0.1:8080; location / { return 200 'a page\\n'; } } }\n";
    let own = |twin: &common::twin::Twin, host: &str| {
        twin.put(host, "/run/program.conf", program);
        let out =
            twin.run(host, "nginx -c /run/program.conf >/run/program.log 2>&1 </dev/null || cat /run/program.log");
        assert!(out.status.success() && out.stdout.is_empty(), "{}", text(&out));
    };
    let tiers = Tiers::start(site, own);
    own(&tiers.twin, "web1");
    tiers.twin.put(
        "web1",
        "/run/plain.conf",
        "user www-data; worker_processes auto; pid /run/plain.pid; error_log /dev/null; events { worker_connections 4096; }\n\
         http { access_log /var/log/nginx/plain.log; upstream app { server 127.0.0.1:8080; keepalive 32; }\n\
         server { listen 10.0.2.11:8081; location / { proxy_pass http://app; proxy_http_version 1.1; \
         proxy_set_header Connection ''; proxy_set_header Host $host; } } }\n",
    );
    tiers.twin.put(
        "lb1",
        "/run/plain.cfg",
        "global\n    maxconn 4000\n    log /dev/log local0 info\ndefaults\n    mode http\n    log global\n    option httplog\n    timeout connect 3s\n    timeout client 30s\n    \
         timeout server 30s\nfrontend plain\n    bind 10.0.1.11:8444 ssl crt /etc/haproxy/sites/shop.example.com.pem alpn h2,http/1.1\n    \
         default_backend web\nbackend web\n    server web1 10.0.2.11:8081 check\n",
    );
    for (host, command) in
        [("web1", "nginx -c /run/plain.conf"), ("lb1", "haproxy -D -f /run/plain.cfg -p /run/plain.pid")]
    {
        let out = tiers
            .twin
            .run(host, &format!("{command} >/run/plain.log 2>&1 </dev/null || {{ cat /run/plain.log; exit 1; }}"));
        assert!(out.status.success(), "{}", text(&out));
    }
    let seconds = amount("SECONDS", 2);
    let rounds = if seconds > 5 { 4 } else { 1 };
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    asked(&tiers, 443, 1);
    asked(&tiers, 8444, 1);
    for _ in 0..rounds {
        ours.push(asked(&tiers, 443, seconds));
        plain.push(asked(&tiers, 8444, seconds));
    }
    let mean = |all: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| all.iter().map(of).sum::<f64>() / f64::from(rounds);
    let (ours_rate, plain_rate) = (mean(&ours, |one| one.0), mean(&plain, |one| one.0));
    let (ours_cpu, plain_cpu) = (mean(&ours, |one| one.1), mean(&plain, |one| one.1));
    println!("all hops verified, three tiers:  {ours_rate:6.0} requests/s, {ours_cpu:4.0} µs of a core each");
    println!("a pair by hand, no TLS inside:   {plain_rate:6.0} requests/s, {plain_cpu:4.0} µs of a core each");
    println!("ratio: {:.2} of the requests, {:.2} times the processor", ours_rate / plain_rate, ours_cpu / plain_cpu);
    assert!(ours_rate > plain_rate / 10.0, "{ours:?} {plain:?}");
}

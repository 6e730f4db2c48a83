//! Other releases and other mixtures of roles than the main job's: each is applied to bare hosts, seen to work, and found
//! unchanged by a second apply.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use bench::{Bench, THREE_TIER};
use checks::Check;
use infra::lab::Release;

const SINGLE: &str = include_str!("../../inventories/single.yml");

/// Two sites of two kinds over hosts that share one family each: `web6` has no IPv4, `app4` has no IPv6.
const MIXED: &str = r#"
name: mixed
ssh: { user: root }
hosts:
  lb1:  { address: [10.0.1.11, "fd00:0:0:1::11"], roles: [lb], public: [203.0.113.11, "2001:db8:113::11"] }
  web1: { address: [10.0.2.11, "fd00:0:0:2::11"], roles: [web] }
  web6: { address: "fd00:0:0:2::16", roles: [web] }
  app1: { address: [10.0.3.11, "fd00:0:0:3::11"], roles: [app] }
  app6: { address: "fd00:0:0:3::16", roles: [app] }
ports: { web: 9000, app: 443 }
firewall:
  manage_from: [10.0.0.0/24, "fd00::/64"]
sites:
  docs.example.org:
    aliases: ["*.docs.example.org"]
    static: { root: /srv/docs, prefix: / }
  shop.example.com:
    aliases: [www.shop.example.com, shop.example.net]
    app: { port: 8080, health: /healthz }
certificates: { issuer: internal }
"#;

/// Of an older Ubuntu: what its daemons do, and what they are too old for.
const OLDER: &str = r"
name: older
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
  app1: { address: 10.0.3.11, roles: [app] }
  db1:  { address: 10.0.4.11, roles: [db] }
  db2:  { address: 10.0.4.12, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  shop.example.com: { app: { port: 8080, health: /healthz } }
certificates: { issuer: internal }
database: { engine: mariadb, primary: db1, schemas: [shop] }
";

/// No daemon has anything to complain about in what we gave it.
fn no_warnings(bench: &Bench) {
    for host in bench.site().hosts.keys() {
        let said = bench.sh(
            host.as_str(),
            "for c in 'haproxy -c -V -f /etc/haproxy/haproxy.cfg' 'nginx -t'; do\n\
             ! command -v ${c%% *} >/dev/null || $c 2>&1 || echo failed\n\
             done\n\
             journalctl -q --no-pager -o cat -u haproxy -u nginx | grep -iE 'warn|alert|deprecat' || :",
        );
        let low = said.out.to_lowercase();
        for word in ["warn", "alert", "deprecat", "failed"] {
            assert!(!low.contains(word), "{host}: {}", said.out);
        }
    }
}

/// A second apply asks each host once and changes nothing.
fn twice_is_nothing(bench: &Bench) {
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    bench.infra(&["diff"]).expect(0);
    let said = bench.infra(&["firewall", "verify"]).expect(0);
    assert!(said.out.contains("exactly what is declared"), "{}", said.out);
}

/// What a client at the internet's side gets for requests that try to get past the tiers' rules, and what the program hears.
fn gets_past_nothing(bench: &Bench) {
    let ca = bench.sites_ca();
    let key = "-H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='";
    let upgrade = |words: &str| format!("--http1.1 -H 'Connection: Upgrade' {key} {words}");
    // How it is asked, the path, the status, and what is in the answer; the program tells what it was told.
    let mut table = vec![
        (upgrade("-H 'Upgrade: WebSocket'"), "/p", 200, "upgrade: websocket"),
        (upgrade("-H 'Upgrade: h2c' -H 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA'"), "/p", 200, "path: /p"),
        (upgrade("-H 'Upgrade: websocket, h2c'"), "/p", 200, "path: /p"),
        (upgrade("-H 'Upgrade: websocket, foo'"), "/p", 200, "path: /p"),
        (upgrade("-H 'Upgrade: foo' -H 'Upgrade: websocket'"), "/p", 200, "path: /p"),
        ("--http1.1 -X CONNECT --request-target shop.example.com:443".to_owned(), "/", 405, ""),
        (String::new(), "/api/a%2Fb//c", 200, "path: /api/a%2Fb//c"),
        (String::new(), "/x/../../y", 400, ""),
        (String::new(), "/a%00b", 400, ""),
    ];
    for path in [
        "/.well-known/infra/health",
        "/%2ewell-known/infra/health",
        "//.well-known/infra//health",
        "/x/../.well-known/infra/health",
        "/.well-known%2finfra%2fhealth",
    ] {
        table.push((String::new(), path, 404, ""));
        table.push(("--http1.1 -H 'X-Infra-Probe: yes'".to_owned(), path, 404, ""));
    }
    for (how, path, status, holds) in table {
        let said = bench.sh(
            "outside",
            &format!(
                "curl -q -s --max-time 10 --path-as-is --cacert '{}' -w '\\n%{{http_code}}' {how} 'https://shop.example.com{path}'",
                ca.display()
            ),
        );
        assert!(said.out.ends_with(&format!("\n{status}")) && said.out.contains(holds), "{how} {path}: {}", said.out);
        let told = said.out.to_lowercase();
        // Newer versions of HAProxy take `h2c` out of a list themselves, and what is left may be passed on.
        let may = holds == "upgrade: websocket" || how.contains("websocket, h2c");
        let tunnel = told.contains("upgrade:") && !(may && told.contains("upgrade: websocket\n"));
        assert!(!tunnel && !told.contains("h2c") && !told.contains("infra app"), "{how} {path}: {}", said.out);
    }
}

/// How often each host was asked by one `infra diff`: its sshd counts the sessions' commands as sudo or shells.
fn execs(bench: &Bench, host: &str) -> usize {
    let count = || {
        let said = bench.sh(host, "journalctl -q --no-pager -o cat | grep -c 'COMMAND=' || :");
        said.out.trim().parse::<usize>().unwrap()
    };
    let before = count();
    bench.infra(&["diff"]).expect(0);
    count() - before
}

/// Before HAProxy is installed, its version is known by what apt says, where it has lists to say it from.
fn version_that_comes(bench: &Bench) {
    let known = || {
        bench.infra(&["diff"]).expect(3);
        let seen = std::fs::read_to_string(bench.dir.path().join("state/seen.json")).unwrap();
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        seen["hosts"]["one"]["facts"]["versions"]["haproxy"].clone()
    };
    bench.sh("one", "rm -rf /var/lib/apt/lists/* && ! command -v haproxy").expect(0);
    assert!(known().is_null(), "nobody says it");
    let said = bench.sh("one", "apt-get -q update >/dev/null && apt-cache policy haproxy | grep Candidate").expect(0);
    assert_eq!(known(), serde_json::json!([2, 6, 12]), "{}", said.out);
}

fn up(name: &str, inventory: &str, release: Release) -> Bench {
    let bench = Bench::up(name, inventory, release);
    bench.apply().expect(0);
    bench
}

#[test]
fn one_machine_does_everything() {
    let all: [Check<Bench>; 3] = [
        ("its pages and its files", pages_of_one),
        ("no daemon warns", no_warnings),
        ("twice is nothing", twice_is_nothing),
    ];
    let bench = Bench::up("t-rel-one", SINGLE, Release::Bookworm);
    version_that_comes(&bench);
    bench.apply().expect(0);
    checks::run(&bench, &all, checks::independent);
}

fn pages_of_one(bench: &Bench) {
    bench.sh("one", "mkdir -p /srv/startup/public && echo static >/srv/startup/public/x.txt").expect(0);
    let (status, body) = bench.page("https://startup.example.com/a");
    assert!(status == 200 && body.contains("x-forwarded-proto: https"), "{status} {body}");
    assert_eq!(bench.page("https://startup.example.com/static/x.txt"), (200, "static\n".to_owned()));
}

#[test]
fn three_tiers_on_trixie() {
    let all: [Check<Bench>; 6] = [
        ("its page", |bench| {
            let (status, body) = bench.page("https://shop.example.com/");
            assert_eq!(status, 200, "{body}");
        }),
        ("nothing gets past the rules", gets_past_nothing),
        ("no daemon warns", no_warnings),
        ("twice is nothing", twice_is_nothing),
        ("what a host is was remembered, so it is asked once", |bench| assert_eq!(execs(bench, "web1"), 1)),
        ("the newer key exchange", newer_key_exchange),
    ];
    checks::run(&up("t-rel-trixie", &THREE_TIER, Release::Trixie), &all, checks::independent);
}

fn newer_key_exchange(bench: &Bench) {
    let said = bench
        .sh("lb1", "haproxy -v; dpkg-query -W nginx libssl3t64 2>/dev/null; grep -n curves /etc/haproxy/haproxy.cfg");
    assert!(said.out.contains("version 3.0.") && said.out.contains("X25519MLKEM768"), "{}", said.out);
    // What the edge and the hops really agree on.
    for (from, socket, name, more) in [
        ("lb1", "127.0.0.1:443", "shop.example.com", ""),
        ("lb1", "10.0.2.11:8443", "web1.shop.infra.internal", ""),
        ("web1", "10.0.3.11:9443", "app1.shop.infra.internal", ""),
    ] {
        let said =
            bench.sh(from, &format!("openssl s_client -connect {socket} -servername {name} {more} </dev/null 2>&1"));
        assert!(said.out.contains("X25519MLKEM768"), "{socket}: {}", said.out);
    }
}

/// The newest release of Ubuntu: its tools of every day are no longer those of GNU.
#[test]
fn three_tiers_on_ubuntu() {
    let all: [Check<Bench>; 4] = [
        ("its page", |bench| {
            let (status, body) = bench.page("https://shop.example.com/");
            assert_eq!(status, 200, "{body}");
        }),
        ("no daemon warns", no_warnings),
        ("twice is nothing", twice_is_nothing),
        ("what a host is was remembered, so it is asked once", |bench| assert_eq!(execs(bench, "web1"), 1)),
    ];
    if let Some(bench) = Bench::up_if_had("t-rel-ubuntu", &THREE_TIER, Release::Resolute) {
        bench.apply().expect(0);
        checks::run(&bench, &all, checks::independent);
    }
}

/// An older release of Ubuntu does for the roles whose daemons do; the others' hosts are left alone, with the reason.
#[test]
fn programs_and_databases_on_an_older_ubuntu() {
    let Some(bench) = Bench::up_if_had("t-rel-older", OLDER, Release::Jammy) else { return };
    let said = bench.infra(&["apply", "--yes"]);
    assert_ne!(said.code, 0);
    for (host, words) in
        [("lb1", "`haproxy 2.4."), ("web1", "`nginx 1.18.0` is too old for the role `web`, which needs 1.19.10")]
    {
        let line = said.err.lines().find(|line| line.contains(&format!("{host} is left alone: ")));
        assert!(
            line.is_some_and(|line| line.contains("it runs `ubuntu 22.04`") && line.contains(words)),
            "{}",
            said.err
        );
    }
    for host in ["app1", "db1", "db2"] {
        assert!(!said.err.contains(&format!("{host} is left alone")), "{}", said.err);
    }
    let limited = |words: &[&str]| bench.infra(&[words, &["--limit", "role:app,role:db"]].concat());
    limited(&["apply", "--yes"]).expect(0);
    let said = limited(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{}{}", said.out, said.err);
    // The program answers behind its front, and what is written to one database is read from the other.
    let front = "curl -sk --max-time 5 --resolve app1.older.infra.internal:9443:10.0.3.11 https://app1.older.infra.internal:9443/; nginx -t 2>&1";
    let said = bench.sh("app1", front);
    assert!(said.out.contains("test is successful") && !said.out.contains("warn"), "{}", said.out);
    bench.sh("db1", "mariadb shop -e 'CREATE TABLE t (n INT PRIMARY KEY); INSERT INTO t VALUES (7)'").expect(0);
    bench::wait("the row on the replica", std::time::Duration::from_secs(20), || {
        (bench.sh("db2", "mariadb -NB shop -e 'SELECT n FROM t'").out.trim() == "7").then_some(())
    });
}

#[test]
fn two_kinds_of_sites_over_hosts_of_one_family() {
    let bench = up("t-rel-mixed", MIXED, Release::Bookworm);
    for web in ["web1", "web6"] {
        bench.sh(web, "mkdir -p /srv/docs/.well-known /srv/docs/.git; cd /srv/docs; echo docs >index.html; echo x >.git/x; echo safe >.well-known/security.txt").expect(0);
    }
    let all: [Check<Bench>; 5] = [
        ("each name has its site", names_of_two_sites),
        ("nothing gets past the rules", gets_past_nothing),
        ("web hosts of one family", one_family),
        ("no daemon warns", no_warnings),
        ("twice is nothing", twice_is_nothing),
    ];
    checks::run(&bench, &all, checks::independent);
}

fn names_of_two_sites(bench: &Bench) {
    for name in ["docs.example.org", "v2.docs.example.org"] {
        assert_eq!(bench.page(&format!("https://{name}/")), (200, "docs\n".to_owned()), "{name}");
    }
    assert_eq!(bench.page("https://docs.example.org/.well-known/security.txt"), (200, "safe\n".to_owned()));
    assert_eq!(bench.page("https://docs.example.org/.git/x").0, 404);
    for name in ["shop.example.com", "www.shop.example.com", "shop.example.net"] {
        let (status, body) = bench.page(&format!("https://{name}/p"));
        assert!(status == 200 && body.contains(&format!("host: {name}\n")), "{name}: {status} {body}");
    }
    // A wildcard is for one label, and no site answers under the certificate of another.
    assert_eq!(bench.page("https://a.b.docs.example.org/").0, 0);
    let ca = bench.sites_ca();
    let crossed = format!(
        "curl -q -s -o /dev/null -w '%{{http_code}}' --cacert '{}' -H 'Host: docs.example.org' https://shop.example.com/",
        ca.display()
    );
    assert_eq!(bench.sh("outside", &crossed).out, "421");
}

/// Both web hosts are up for the load balancer, over the family that each has.
fn one_family(bench: &Bench) {
    let said =
        bench.sh("lb1", "echo 'show servers state web' | socat - UNIX-CONNECT:/run/haproxy/admin.sock").expect(0);
    assert!(said.out.contains(" 10.0.2.11 2 ") && said.out.contains(" fd00:0:0:2::16 2 "), "{}", said.out);
}

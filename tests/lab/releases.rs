//! Other releases and other mixtures of roles than the main job's: each is applied to bare hosts, seen to work, and found
//! unchanged by a second apply.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;

use bench::{Bench, THREE_TIER};
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

#[test]
fn one_machine_does_everything() {
    let bench = Bench::up("t-rel-one", SINGLE, Release::Bookworm);
    bench.apply().expect(0);
    bench.sh("one", "mkdir -p /srv/startup/public && echo static >/srv/startup/public/x.txt").expect(0);
    let (status, body) = bench.page("https://startup.example.com/a");
    assert!(status == 200 && body.contains("x-forwarded-proto: https"), "{status} {body}");
    assert_eq!(bench.page("https://startup.example.com/static/x.txt"), (200, "static\n".to_owned()));
    no_warnings(&bench);
    twice_is_nothing(&bench);
}

#[test]
fn three_tiers_on_trixie() {
    let bench = Bench::up("t-rel-trixie", &THREE_TIER, Release::Trixie);
    bench.apply().expect(0);
    let (status, body) = bench.page("https://shop.example.com/");
    assert_eq!(status, 200, "{body}");
    no_warnings(&bench);
    twice_is_nothing(&bench);
    assert_eq!(execs(&bench, "web1"), 1, "what a host is was remembered, so it is asked once");
    let said = bench
        .sh("lb1", "haproxy -v; dpkg-query -W nginx libssl3t64 2>/dev/null; grep -n curves /etc/haproxy/haproxy.cfg");
    assert!(said.out.contains("version 3.0.") && said.out.contains("X25519MLKEM768"), "{}", said.out);
    // The key exchange that the edge and the hops really agree on.
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

#[test]
fn two_kinds_of_sites_over_hosts_of_one_family() {
    let bench = Bench::up("t-rel-mixed", MIXED, Release::Bookworm);
    bench.apply().expect(0);
    for web in ["web1", "web6"] {
        bench.sh(web, "mkdir -p /srv/docs/.well-known /srv/docs/.git; cd /srv/docs; echo docs >index.html; echo x >.git/x; echo safe >.well-known/security.txt").expect(0);
    }
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
    // Both web hosts are up for the load balancer, over the family that each has.
    let said =
        bench.sh("lb1", "echo 'show servers state web' | socat - UNIX-CONNECT:/run/haproxy/admin.sock").expect(0);
    assert!(said.out.contains(" 10.0.2.11 2 ") && said.out.contains(" fd00:0:0:2::16 2 "), "{}", said.out);
    no_warnings(&bench);
    twice_is_nothing(&bench);
}

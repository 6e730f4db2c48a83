//! Certificates by ACME: a real CA (Pebble) under Let's Encrypt's name, two load balancers, one order; and a controller that dies
//! at every step of it.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/campaign.rs"]
mod campaign;
#[path = "../common/checks.rs"]
mod checks;

use std::os::unix::process::ExitStatusExt as _;

use bench::{Bench, Said};
use campaign::amount;
use checks::Check;
use infra::lab::Release;

/// The edge of the three tiers with one host behind it: what an order needs, on half the machines.
const SMALL: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: [10.0.1.11, \"fd00:0:0:1::11\"], roles: [lb], public: [203.0.113.11, \"2001:db8:113::11\"] }
  lb2:  { address: [10.0.1.12, \"fd00:0:0:1::12\"], roles: [lb], public: [203.0.113.12, \"2001:db8:113::12\"] }
  web1: { address: [10.0.2.11, \"fd00:0:0:2::11\"], roles: [web] }
firewall: { manage_from: [10.0.0.0/24, \"fd00::/64\"] }
sites:
  shop.example.com: { aliases: [www.shop.example.com], static: { root: /srv/shop/public, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";

const SITE: &str = "shop.example.com";
const LBS: [(&str, &str); 2] = [("lb1", "203.0.113.11"), ("lb2", "203.0.113.12")];

fn up(name: &str) -> Bench {
    up_with(name, SMALL)
}

fn up_with(name: &str, inventory: &str) -> Bench {
    let bench = Bench::up(name, inventory, Release::Bookworm);
    bench.sh("web1", "mkdir -p /srv/shop/public && echo the shop >/srv/shop/public/index.html").expect(0);
    bench
}

/// How many orders the CA has taken.
fn orders(bench: &Bench) -> usize {
    taken(bench, "authority")
}

/// How many its staging has.
fn rehearsals(bench: &Bench) -> usize {
    taken(bench, "authority-2")
}

fn taken(bench: &Bench, folder: &str) -> usize {
    let log = std::fs::read_to_string(bench.lab().dir().join(format!("outside/{folder}/pebble.log"))).unwrap();
    log.lines().filter(|line| line.contains("Added order")).count()
}

/// The SHA-256 of the leaf that each load balancer shows on the internet's side, verified against the CA.
fn leaves(bench: &Bench, name: &str) -> Vec<String> {
    let one = |address: &str| {
        let script = format!(
            "openssl s_client -connect {address}:443 -servername {name} -verify_hostname {name} -verify_return_error \
             -CAfile \"$SSL_CERT_FILE\" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
        );
        bench.sh("outside", &script).out
    };
    LBS.iter().map(|(_, address)| one(address)).collect()
}

#[track_caller]
fn same_everywhere(bench: &Bench) -> String {
    let (main, alias) = (leaves(bench, SITE), leaves(bench, "www.shop.example.com"));
    assert!(main[0].contains("Fingerprint="), "{main:?}");
    assert!(main.iter().chain(&alias).all(|leaf| *leaf == main[0]), "{main:?} {alias:?}");
    main[0].clone()
}

fn dying_at(bench: &Bench, place: &str, words: &[&str]) -> Said {
    let output = bench.infra_command(words).env("INFRA_CRASH_AT", place).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said { code: output.status.signal().unwrap_or(0), out: text(&output.stdout), err: text(&output.stderr) };
    // SIGKILL: it did come to that place.
    assert_eq!(said.code, 9, "{place}\n--- stdout\n{}\n--- stderr\n{}", said.out, said.err);
    said
}

#[test]
fn one_order_serves_both_and_no_crash_costs_another() {
    let all: [Check<Bench>; 7] = [
        ("killed in the first orders", killed_in_the_first_orders),
        ("browsers trust it", browsers_trust_it),
        ("twice is nothing", twice_is_nothing),
        ("killed anywhere", killed_anywhere),
        ("a load balancer that lost its certificate", lost_on_a_host),
        ("taken back", taken_back),
        ("nothing secret is told", nothing_secret_is_told),
    ];
    checks::run(&up("t-acme"), &all, |bench| drop(bench.apply()));
}

fn killed_in_the_first_orders(bench: &Bench) {
    // A new site's order is rehearsed at the staging; a death there is made good too.
    dying_at(bench, "rehearsal.finalize", &["apply", "--yes"]);
    assert_eq!((orders(bench), rehearsals(bench)), (0, 1));
    // The next run dies just after it has asked for the certificate; the one after it finds it.
    dying_at(bench, "finalize", &["apply", "--yes"]);
    assert_eq!(orders(bench), 1);
    let said = bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains("then: the certificate of shop.example.com is ordered"), "{}", said.out);
    bench.apply().expect(0);
    assert_eq!((orders(bench), rehearsals(bench)), (1, 1));
    same_everywhere(bench);
}

/// Over both families, with nothing but the CA's root.
fn browsers_trust_it(bench: &Bench) {
    let page = bench.sh("outside", "curl -sS --max-time 10 https://shop.example.com/");
    assert_eq!(page.out, "the shop\n", "{page:?}");
}

fn twice_is_nothing(bench: &Bench) {
    let (known, first) = (orders(bench), same_everywhere(bench));
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    bench.infra(&["diff"]).expect(0);
    bench.infra(&["cert", "renew"]).expect(0);
    let said = bench.infra(&["cert", "status"]).expect(0);
    assert!(said.out.contains("shown by lb1, lb2"), "{}", said.out);
    assert_eq!(orders(bench), known);
    // A rehearsal changes nothing.
    bench.infra(&["cert", "renew", "--dry-run"]).expect(0);
    assert_eq!(same_everywhere(bench), first);
}

/// The next run ends with the one order that was made.
fn killed_anywhere(bench: &Bench) {
    let rounds = amount("ROUNDS", 1);
    (0..rounds).for_each(|_| killed_at_each_step(bench));
    println!("{rounds} times killed at each of 7 steps, one order each");
}

fn killed_at_each_step(bench: &Bench) {
    let force = ["cert", "renew", "--force", SITE];
    let (mut known, mut before) = (orders(bench), same_everywhere(bench));
    for (place, again) in [
        ("newAccount", &force[..]),
        ("newOrder", &force[..]),
        ("challenge", &force[..]),
        ("finalize", &force[..]),
        ("store", &force[..]),
        ("install", &force[..2]),
        ("edge", &force[..2]),
    ] {
        dying_at(bench, place, &force);
        if place == "edge" {
            let now = leaves(bench, SITE);
            assert!(now[0] != before && now[1] == before, "{now:?}");
            bench.infra(&["cert", "status"]).expect(1);
        }
        let said = bench.infra(again);
        // What was obtained already is only brought to its place.
        said.expect(if again.len() == 2 { 0 } else { 6 });
        known += 1;
        assert_eq!(orders(bench), known, "{place}");
        let after = same_everywhere(bench);
        assert_ne!(after, before, "{place}");
        before = after;
    }
    bench.infra(&["cert", "status"]).expect(0);
}

/// It gets it from the store.
fn lost_on_a_host(bench: &Bench) {
    let (known, before) = (orders(bench), same_everywhere(bench));
    bench.sh("lb2", "rm -rf /etc/haproxy/sites").expect(0);
    bench.apply().expect(0);
    assert_eq!(orders(bench), known);
    assert_eq!(same_everywhere(bench), before);
}

/// A new one is everywhere before the CA hears of it.
fn taken_back(bench: &Bench) {
    let (known, old) = (orders(bench), same_everywhere(bench));
    bench.infra(&["cert", "revoke", SITE, "--reason", "superseded", "--yes"]).expect(0);
    assert_eq!(orders(bench), known + 1);
    assert_ne!(same_everywhere(bench), old);
    bench.infra(&["cert", "renew"]).expect(0);
}

fn nothing_secret_is_told(bench: &Bench) {
    let key = std::fs::read_to_string(bench.dir.path().join("state/acme/account.key")).unwrap();
    let line = key.lines().nth(1).unwrap();
    let said = bench.infra(&["diff", "--json", "-v"]).expect(0);
    assert!(!said.out.contains(line) && !said.out.contains("PRIVATE KEY"));
}

#[test]
fn a_refusal_waits_and_harms_nothing() {
    // Nothing of ours looks at the names' addresses first.
    let bench = up_with("t-acme-no", &SMALL.replace("contact:", "check_dns: false, contact:"));
    // The CA cannot reach one name: the world's DNS sends it elsewhere.
    let hosts = bench.lab().dir().join("outside/hosts");
    let right = std::fs::read_to_string(&hosts).unwrap();
    std::fs::write(&hosts, right.replace(" www.shop.example.com", " elsewhere.example.com")).unwrap();
    let reread = |bench: &Bench| {
        let script = "for p in /proc/[0-9]*; do
            [ \"$(cat $p/comm 2>/dev/null)\" = dnsmasq ] || continue
            [ \"$(readlink $p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] && kill -HUP ${p#/proc/}
        done; true";
        bench.sh("outside", script).expect(0);
    };
    reread(&bench);
    let said = bench.apply().expect(1);
    assert!(said.err.contains("no certificate for shop.example.com: www.shop.example.com: "), "{}", said.err);
    assert!(said.err.contains("it is tried again from"), "{}", said.err);
    // It was the staging that refused: the CA itself, which allows few failures, was not asked.
    assert_eq!((orders(&bench), rehearsals(&bench)), (0, 1));
    // The site answers all the same, with what stands in for the certificate.
    let page = bench.sh("outside", "curl -sSk --max-time 10 https://shop.example.com/");
    assert_eq!(page.out, "the shop\n", "{page:?}");
    // The CA is left in peace until the time has come.
    let said = bench.infra(&["cert", "renew"]).expect(7);
    assert!(said.err.contains("waits until"), "{}", said.err);
    bench.infra(&["cert", "status"]).expect(1);
    assert_eq!((orders(&bench), rehearsals(&bench)), (0, 1));
    // Mended, and the pause is over.
    std::fs::write(&hosts, right).unwrap();
    reread(&bench);
    let record = bench.dir.path().join(format!("state/acme/sites/{SITE}/record.json"));
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    kept["wait_until"] = 0.into();
    std::fs::write(&record, kept.to_string()).unwrap();
    bench.infra(&["cert", "renew"]).expect(6);
    assert_eq!((orders(&bench), rehearsals(&bench)), (1, 2));
    same_everywhere(&bench);
    assert!(!record.exists());
    bench.infra(&["cert", "status"]).expect(0);
}

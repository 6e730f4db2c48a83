//! Challenges by DNS: the hook of the inventories' folder against a real primary and its secondary, a certificate for a wildcard
//! that a real CA proves by them, and what goes wrong on the way. One lab for all of it.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use bench::{Bench, Said, wait};
use checks::Check;
use infra::lab::{Lab, Release};

/// The edge with one host behind it. The hook finds the primary by the name that the zone gives it.
const INVENTORY: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: [10.0.1.11, \"fd00:0:0:1::11\"], roles: [lb], public: [203.0.113.11, \"2001:db8:113::11\"] }
  lb2:  { address: [10.0.1.12, \"fd00:0:0:1::12\"], roles: [lb], public: [203.0.113.12, \"2001:db8:113::12\"] }
  web1: { address: [10.0.2.11, \"fd00:0:0:2::11\"], roles: [web] }
firewall: { manage_from: [10.0.0.0/24, \"fd00::/64\"] }
sites:
  shop.example.com: { aliases: [\"*.shop.example.com\"], static: { root: /srv/shop/public, prefix: / } }
certificates:
  issuer: letsencrypt
  contact: ops@example.com
  challenge: dns-01
  hook: [hooks/nsupdate, ns1.example.com, tsig.key]
";
const HOOK: &str = include_str!("../../inventories/hooks/nsupdate");

const SITE: &str = "shop.example.com";
/// Where its challenges stand, those of the wildcard too.
const RECORD: &str = "_acme-challenge.shop.example.com";
const SERVERS: [&str; 2] = ["ns1", "ns2"];

#[test]
fn challenges_are_set_by_dns() {
    let bench = Bench::up("t-dns01", INVENTORY, Release::Bookworm);
    put(&bench, "hooks/nsupdate", HOOK);
    let (_, key) = bench.lab().updates().unwrap();
    std::fs::copy(&key, bench.dir.path().join("tsig.key")).unwrap();
    bench.sh("web1", "mkdir -p /srv/shop/public && echo the shop >/srv/shop/public/index.html").expect(0);
    let all: [Check<Bench>; 6] = [
        ("the hook sets and removes", hook),
        ("dead servers come back", dead_servers_come_back),
        ("obtained when all servers have it", obtained_when_all_servers_have_it),
        ("killed with the records set", killed),
        ("broken signatures", broken_signatures),
        ("failing hooks", failing_hooks),
    ];
    checks::run(&bench, &all, checks::independent);
}

/// Puts a program into the inventory's folder.
fn put(bench: &Bench, name: &str, text: &str) {
    let path = bench.dir.path().join(name);
    bench::write(&path, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The values that each server gives, sorted.
fn records(bench: &Bench) -> Vec<Vec<String>> {
    let ask = |server: &str| {
        let said = bench.sh("outside", &format!("dig +short +tries=1 +time=2 @{server}.example.com {RECORD} TXT"));
        let mut values: Vec<String> = said.expect(0).out.lines().map(|line| line.replace('"', "")).collect();
        values.sort();
        values
    };
    SERVERS.iter().map(|server| ask(server)).collect()
}

/// Both servers have exactly that, or will soon: the secondary comes after the primary.
#[track_caller]
fn becomes(bench: &Bench, wanted: &[&str]) {
    wait(&format!("{RECORD} {wanted:?}"), Duration::from_secs(10), || {
        records(bench).iter().all(|values| values == wanted).then_some(())
    });
}

/// Calls the hook as a person would.
fn call(bench: &Bench, words: &str) -> Said {
    bench.sh("controller", &format!("cd '{}' && hooks/nsupdate {words}", bench.dir.path().display()))
}

fn hook(bench: &Bench) {
    let good = "ns1.example.com tsig.key";
    call(bench, &format!("{good} present {RECORD} first_-1")).expect(0);
    call(bench, &format!("{good} present {RECORD} second")).expect(0);
    // Twice is once.
    call(bench, &format!("{good} present {RECORD} second")).expect(0);
    becomes(bench, &["first_-1", "second"]);
    let said = bench.sh("outside", &format!("dig +noall +answer @ns1.example.com {RECORD} TXT")).out;
    assert!(said.lines().all(|line| line.split_whitespace().nth(1) == Some("60")), "{said}");
    call(bench, &format!("{good} cleanup {RECORD} first_-1")).expect(0);
    becomes(bench, &["second"]);
    // Nor is it an error that it is gone.
    call(bench, &format!("{good} cleanup {RECORD} first_-1")).expect(0);

    // Whoever has another key, or asks for more than a challenge, changes nothing.
    let text = std::fs::read_to_string(bench.dir.path().join("tsig.key")).unwrap();
    let secret = text.split('"').nth(3).unwrap();
    // Its first six bits are others: base64 still, whatever the key is.
    let wrong = text.replace(secret, &format!("{}{}", if secret.starts_with('A') { 'B' } else { 'A' }, &secret[1..]));
    std::fs::write(bench.dir.path().join("wrong.key"), wrong).unwrap();
    std::fs::write(bench.dir.path().join("broken.key"), "no key at all\n").unwrap();
    for (words, code, why) in [
        (format!("ns1.example.com wrong.key present {RECORD} third"), 1, "BADSIG"),
        (format!("ns1.example.com wrong.key cleanup {RECORD} second"), 1, "BADSIG"),
        (format!("ns1.example.com broken.key present {RECORD} third"), 1, "could not read key"),
        (format!("ns1.example.com no.key present {RECORD} third"), 3, "the key no.key cannot be read"),
        (format!("{good} present _acme-challenge.www.example.com third"), 1, "REFUSED"),
        (format!("{good} present _acme-challenge.elsewhere.test third"), 1, "REFUSED"),
        (format!("{good} present www.example.com third"), 2, "is not a name of a challenge"),
        (format!("{good} present {RECORD} 'a\" \"b'"), 2, "is not a challenge"),
        (format!("{good} present '{RECORD} 60 TXT x\nsend' a"), 2, "is not a DNS name"),
        (format!("{good} remove {RECORD} second"), 2, "not `remove`"),
        (format!("{good} present {RECORD}"), 2, "not 4 words"),
    ] {
        let said = call(bench, &words).expect(code);
        assert!(said.err.starts_with("nsupdate hook: ") && said.err.contains(why), "{words}: {}", said.err);
        assert!(!said.err.contains(secret) && said.out.is_empty(), "{words}: {}{}", said.out, said.err);
    }
    // The key that is right may do no more either.
    let more = format!(
        "printf 'server ns1.example.com\\nupdate add shop.example.com 60 A 192.0.2.66\\nsend\\n' | nsupdate -k '{}'",
        bench.dir.path().join("tsig.key").display()
    );
    let said = bench.sh("controller", &more);
    assert!(said.code != 0 && said.err.contains("REFUSED"), "{said:?}");
    becomes(bench, &["second"]);
}

/// The process of one name server.
fn pid(bench: &Bench, server: &str) -> Option<String> {
    let config = bench.lab().dir().join(format!("outside/nameserver/{server}/named.conf"));
    let config = config.display();
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/cmdline 2>/dev/null | grep -qxF '{config}' && echo ${{p#/proc/}}; done; true"
    );
    // The shell's own words hold the path too, but not as one of them.
    bench.sh("outside", &script).expect(0).out.lines().next().map(ToOwned::to_owned)
}

fn signal(bench: &Bench, server: &str, signal: &str) {
    let pid = pid(bench, server).unwrap();
    bench.sh("outside", &format!("kill -{signal} {pid}")).expect(0);
}

/// The next `lab up` starts what has died; what was set stays.
fn dead_servers_come_back(bench: &Bench) {
    let before = pid(bench, "ns2");
    signal(bench, "ns1", "KILL");
    wait("ns1 is gone", Duration::from_secs(5), || pid(bench, "ns1").is_none().then_some(()));
    Lab::up(bench.lab().spec(), &|_| ()).unwrap();
    assert_eq!(pid(bench, "ns2"), before);
    becomes(bench, &["second"]);
    call(bench, &format!("ns1.example.com tsig.key cleanup {RECORD} second")).expect(0);
    becomes(bench, &[]);
}

/// How many orders the CA has taken.
fn orders(bench: &Bench) -> usize {
    pebble(bench, "Added order")
}

/// How often the CA or its staging have said so.
fn pebble(bench: &Bench, words: &str) -> usize {
    let count = |folder: &str| {
        let log = bench.lab().dir().join(format!("outside/{folder}/pebble.log"));
        std::fs::read_to_string(log).unwrap().lines().filter(|line| line.contains(words)).count()
    };
    ["authority", "authority-2"].iter().map(|folder| count(folder)).sum()
}

/// The leaf that each load balancer shows for `name`, verified against the CA.
fn leaves(bench: &Bench, name: &str) -> [String; 2] {
    ["203.0.113.11", "203.0.113.12"].map(|address| {
        let script = format!(
            "openssl s_client -connect {address}:443 -servername {name} -verify_hostname {name} -verify_return_error \
             -CAfile \"$SSL_CERT_FILE\" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
        );
        bench.sh("outside", &script).out
    })
}

/// The same on both, for the name itself and for one below the wildcard.
#[track_caller]
fn shown(bench: &Bench) -> String {
    let (own, below) = (leaves(bench, SITE), leaves(bench, "summer.shop.example.com"));
    assert!(own[0].contains("Fingerprint="), "{own:?}");
    assert!(own.iter().chain(&below).all(|leaf| *leaf == own[0]), "{own:?} {below:?}");
    own[0].clone()
}

/// While the secondary is deaf the CA is not told to look, though the primary has all records.
fn obtained_when_all_servers_have_it(bench: &Bench) {
    signal(bench, "ns2", "STOP");
    let mut command = bench.infra_command(&["apply", "--yes"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = bench.lab().dir().join("outside/nameserver/ns1.log");
    wait("infra asks the primary for the record", Duration::from_secs(90), || {
        let log = std::fs::read_to_string(&log).unwrap();
        let asks = |line: &str| line.contains(&format!("{RECORD} IN TXT")) && line.contains(" 10.0.0.");
        log.lines().any(asks).then_some(())
    });
    // Then it asks the other: the question waits in its ear, or it would have been answered and the CA told long ago.
    wait("infra asks the secondary", Duration::from_secs(10), || {
        let queue = |line: &str| line.split_whitespace().nth(1).and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        let ears = bench.sh("outside", "ss -Hlun 'sport = :53'").expect(0).out;
        ears.lines().any(|line| queue(line) > 0).then_some(())
    });
    assert_eq!(pebble(bench, "Pulled a task"), 0);
    signal(bench, "ns2", "CONT");
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(pebble(bench, "Pulled a task"), 4, "two names, rehearsed and for good");
    assert_eq!(orders(bench), 2);
    shown(bench);
    let page = bench.sh("outside", "curl -sS --max-time 10 https://summer.shop.example.com/");
    assert_eq!(page.out, "the shop\n", "{page:?}");
    becomes(bench, &[]);
    // Twice is nothing.
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    bench.infra(&["cert", "renew"]).expect(0);
    assert_eq!(orders(bench), 2);
    let said = bench.infra(&["diff", "--json", "-v"]).expect(0);
    let key = std::fs::read_to_string(bench.dir.path().join("tsig.key")).unwrap();
    assert!(!said.out.contains(key.split('"').nth(3).unwrap()));
}

const FORCE: [&str; 4] = ["cert", "renew", "--force", SITE];

/// With the records set and the CA not told.
fn killed(bench: &Bench) {
    let before = shown(bench);
    let output = bench.infra_command(&FORCE).env("INFRA_CRASH_AT", "present").output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    let left = wait("two records", Duration::from_secs(10), || {
        let found = records(bench);
        (found[0].len() == 2 && found[0] == found[1]).then_some(found)
    });
    assert_eq!(left[0].len(), 2);
    assert_eq!(orders(bench), 3);
    bench.infra(&FORCE).expect(6);
    assert_eq!(orders(bench), 3);
    assert_ne!(shown(bench), before);
    becomes(bench, &[]);
}

/// A zone that is signed by another key than the world was told is believed by nobody: the CA is not told to look, where it
/// would see nothing.
fn broken_signatures(bench: &Bench) {
    let (before, looked) = (shown(bench), pebble(bench, "Pulled a task"));
    let status = |more: &str| bench.sh("outside", &format!("dig +tries=1 {more} {SITE} A")).out;
    assert!(status("").contains("status: NOERROR"));
    let here = bench.lab().dir().join("outside/nameserver");
    let config = here.join("resolver/named.conf");
    let right = std::fs::read_to_string(&config).unwrap();
    let (head, key) = right.split_once(" static-key 257 3 13 \"").unwrap();
    let other = if key.starts_with('A') { 'B' } else { 'A' };
    std::fs::write(&config, format!("{head} static-key 257 3 13 \"{other}{}", &key[1..])).unwrap();
    let stop = || {
        signal(bench, "resolver", "KILL");
        wait("the resolver is gone", Duration::from_secs(5), || pid(bench, "resolver").is_none().then_some(()));
    };
    stop();
    let start =
        format!("setsid -f '{0}/named' -g -n 1 -c '{1}' >>'{0}/resolver.log' 2>&1", here.display(), config.display());
    bench.sh("outside", &start).expect(0);
    wait("the resolver refuses", Duration::from_secs(20), || status("").contains("status: SERVFAIL").then_some(()));
    assert!(status("+cd").contains("status: NOERROR"), "the data is there all the same");
    // The hook does not need the name of its server.
    let (server, _) = bench.lab().updates().unwrap();
    bench.edit("ns1.example.com", &server.to_string());
    let said = bench.infra(&FORCE).expect(1);
    assert!(said.err.contains("SERVFAIL"), "{}", said.err);
    assert_eq!(pebble(bench, "Pulled a task"), looked);
    assert_eq!(shown(bench), before);
    bench.edit(&server.to_string(), "ns1.example.com");
    std::fs::write(&config, right).unwrap();
    stop();
    Lab::up(bench.lab().spec(), &|_| ()).unwrap();
    becomes(bench, &[]);
    // The pause after a failure is not what is tested here.
    std::fs::remove_file(bench.dir.path().join(format!("state/acme/sites/{SITE}/record.json"))).unwrap();
}

fn failing_hooks(bench: &Bench) {
    let before = shown(bench);
    // It sets the first record and cannot set the second.
    let script = |condition: &str, words: &str| {
        format!("#!/bin/sh\n{condition} && {{ echo '{words}' >&2; exit 4; }}\nexec hooks/nsupdate \"$@\"\n")
    };
    let words = "the provider has locked the zone";
    put(bench, "hooks/second", &script("[ \"$3\" = present ] && [ -e once ] || { : >once; false; }", words));
    bench.edit("hook: [hooks/nsupdate,", "hook: [hooks/second,");
    let said = bench.infra(&FORCE).expect(1);
    assert!(said.err.contains(&format!("could not present {RECORD}: exit status: 4: {words}")), "{}", said.err);
    becomes(bench, &[]);
    assert_eq!(shown(bench), before);
    assert_eq!(pebble(bench, "set INVALID"), 0, "the CA was not told to look at what is not there");
}

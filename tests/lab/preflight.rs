//! What is seen before the first run and before an order, and what is known of others': what listens, names that lead elsewhere, CAA records that forbid, a full disk,
//! a second controller, a lost state folder, and a load balancer that gets its certificate later. The CA counts the orders.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::path::PathBuf;
use std::process::Command;

use bench::{Bench, Said};
use checks::Check;
use infra::lab::Release;
use serde_json::{Value, json};

const INVENTORY: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: [10.0.1.11, \"fd00:0:0:1::11\"], roles: [lb], public: [203.0.113.11, \"2001:db8:113::11\"] }
  lb2:  { address: [10.0.1.12, \"fd00:0:0:1::12\"], roles: [lb], public: [203.0.113.12, \"2001:db8:113::12\"] }
  web1: { address: [10.0.2.11, \"fd00:0:0:2::11\"], roles: [web] }
firewall: { manage_from: [10.0.0.0/24, \"fd00::/64\"] }
sites:
  shop.example.com: { aliases: [www.shop.example.com], static: { root: /srv/shop/public, prefix: / } }
  blog.example.com: { static: { root: /srv/shop/public, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";

const SITE: &str = "shop.example.com";
const FORCE: [&str; 4] = ["cert", "renew", "--force", SITE];

struct World {
    bench: Bench,
}

#[test]
fn nothing_is_ordered_in_vain_and_nothing_newer_is_lost() {
    let bench = Bench::up("t-preflight", INVENTORY, Release::Bookworm);
    let world = World { bench };
    let all: [Check<World>; 8] = [
        ("what a first run would close or meet", first_run),
        ("names that lead elsewhere", names_that_lead_elsewhere),
        ("CAA records", authorizations),
        ("a full disk and a wrong clock", wrong_host),
        ("a second controller", second_controller),
        ("one is away and gets it later", pending),
        ("a site gets another name", renamed),
        ("a lost state folder", lost_state),
    ];
    checks::run(&world, &all, checks::independent);
}

impl World {
    /// How many orders the CA and its staging have taken.
    fn orders(&self) -> usize {
        let count = |folder: &str| {
            let log = std::fs::read_to_string(self.outside(&format!("{folder}/pebble.log"))).unwrap();
            log.lines().filter(|line| line.contains("Added order")).count()
        };
        count("authority") + count("authority-2")
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.bench.lab().dir().join("outside").join(path)
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.bench.dir.path().join(format!("state/acme/sites/{SITE}/{name}"))
    }

    /// The SHA-256 of the leaf that each load balancer shows, verified against the CA.
    fn leaves(&self) -> [String; 2] {
        ["203.0.113.11", "203.0.113.12"].map(|address| {
            let script = format!(
                "openssl s_client -connect {address}:443 -servername {SITE} -verify_hostname {SITE} -verify_return_error \
                 -CAfile \"$SSL_CERT_FILE\" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
            );
            self.bench.sh("outside", &script).out
        })
    }

    #[track_caller]
    fn leaf(&self) -> String {
        let [one, two] = self.leaves();
        assert!(one.contains("Fingerprint=") && one == two, "{one} {two}");
        one
    }

    /// Changes the world's names; gives what they were.
    fn names(&self, change: impl Fn(&str) -> String) -> String {
        let hosts = self.outside("hosts");
        let before = std::fs::read_to_string(&hosts).unwrap();
        std::fs::write(&hosts, change(&before)).unwrap();
        self.dnsmasq("kill -HUP");
        before
    }

    /// The CAA records of the site, those before forgotten: flags, tag, value.
    fn caa(&self, records: &[(u8, &str, &str)]) {
        let config = self.outside("dnsmasq.conf");
        let before = std::fs::read_to_string(&config).unwrap();
        let mut text: String = before.split_inclusive('\n').filter(|line| !line.starts_with("dns-rr=")).collect();
        for (flags, tag, value) in records {
            let tag_length = u8::try_from(tag.len()).unwrap();
            let bytes = [&[*flags, tag_length], tag.as_bytes(), value.as_bytes()].concat();
            let hex = data_encoding::HEXUPPER.encode(&bytes);
            text.push_str(&format!("dns-rr={SITE},257,{hex}\n"));
        }
        std::fs::write(&config, text).unwrap();
        self.dnsmasq("kill");
        let again = format!(
            "setsid dnsmasq --conf-file='{}' >/dev/null 2>&1 </dev/null & for i in $(seq 100); do
                nslookup -timeout=1 {SITE} >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1",
            config.display()
        );
        self.bench.sh("outside", &again).expect(0);
    }

    /// Does something to the world's name server; after `kill` it is gone.
    fn dnsmasq(&self, what: &str) {
        let script = format!(
            "for p in /proc/[0-9]*; do
                [ \"$(cat $p/comm 2>/dev/null)\" = dnsmasq ] || continue
                [ \"$(readlink $p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] || continue
                {what} ${{p#/proc/}}
                [ '{what}' != kill ] || while kill -0 ${{p#/proc/}} 2>/dev/null; do sleep 0.1; done
            done; true"
        );
        self.bench.sh("outside", &script).expect(0);
    }

    /// Refused before the CA is asked, with these words, and not counted as its failure.
    #[track_caller]
    fn refused(&self, words: &[&str], code: i32, parts: &[&str]) -> Said {
        let orders = self.orders();
        let said = self.bench.infra(words).expect(code);
        for part in parts {
            assert!(said.err.contains(part), "no `{part}` in\n{}", said.err);
        }
        assert_eq!(self.orders(), orders, "{}", said.err);
        assert!(!self.kept("record.json").exists() && !self.kept("order.json").exists());
        said
    }
}

/// A server of `kind` (`tcp`, `udp`) at an address, that keeps whoever comes, until its file is removed.
const SERVER: &str = r#"serve() { : >"/run/t-$2"; setsid perl -MIO::Socket::IP -e '
    my ($kind, $address, $port, $file) = @ARGV;
    my $socket = IO::Socket::IP->new(LocalHost => $address, LocalPort => $port, Proto => $kind, V6Only => 1, ReuseAddr => 1,
        $kind eq "tcp" ? (Listen => 5) : ()) or die "$port: $@";
    unlink $file;
    $0 = "server";
    my @kept;
    while (1) { if ($kind eq "tcp") { push @kept, $socket->accept } else { sleep 60 } }
' "$1" "$3" "$2" "/run/t-$2" >/dev/null 2>"/run/t-$2.err" </dev/null & 
    for i in $(seq 100); do [ -e "/run/t-$2" ] || return 0; sleep 0.1; done; cat "/run/t-$2.err"; return 1; }
"#;

/// What listens on bare hosts, and to whom they are connected, is told before anything is installed, and asked for by name.
fn first_run(world: &World) {
    let bench = &world.bench;
    let on = |host: &str, script: &str| bench.sh(host, &format!("{SERVER}{script}")).expect(0);
    let installed = || {
        let count = "dpkg-query -W -f '${db:Status-Status}\n' haproxy nginx nftables 2>/dev/null | grep -cx installed";
        ["lb1", "web1"].map(|host| bench.sh(host, count).out)
    };
    on("lb1", "serve tcp 80 0.0.0.0");
    let outside = on("web1", "getent ahostsv4 outside | { read -r address rest; printf %s \"$address\"; }").out;
    on("outside", "serve tcp 2525 0.0.0.0");
    on(
        "web1",
        "serve tcp 5432 0.0.0.0 && serve tcp 9100 :: && serve udp 5140 10.0.2.11 && serve tcp 6379 127.0.0.1 || exit 1
         setsid perl -MIO::Socket::IP -e '$s = IO::Socket::IP->new(PeerHost => \"outside\", PeerPort => 2525) or die $@; sleep 900' \
             >/dev/null 2>&1 </dev/null &
         for i in $(seq 100); do ss -Htn state established | grep -q :2525 && exit 0; sleep 0.1; done; exit 1",
    );
    let said = bench.apply().expect(2);
    for part in [
        "lb1 is left alone: 0.0.0.0:80 is taken: server (pid ",
        "listens on 0.0.0.0:80; stop it, or let it listen elsewhere",
    ] {
        assert!(said.err.contains(part), "no `{part}` in\n{}", said.err);
    }
    assert_eq!(installed(), ["0\n", "0\n"]);
    bench.sh("lb1", "kill $(ss -Hltnp 'sport = 80' | sed 's/.*pid=\\([0-9]*\\).*/\\1/')").expect(0);

    let relay =
        format!("of web1 closes what is in use: perl is connected to 2525/tcp of {outside}, where no flow leads");
    let closes = [
        "the first firewall of web1 closes what is in use: server listens on 5432/tcp, where no flow lets anybody in",
        "server listens on 9100/tcp",
        "server listens on 5140/udp",
        &relay,
        "web1: the static files of blog.example.com are to come from /srv/shop/public, which is no folder there",
    ];
    let said = bench.infra(&["diff"]).expect(3);
    for part in closes {
        assert!(said.err.contains(part), "no `{part}` in\n{}", said.err);
    }
    assert!(!said.err.contains("6379"), "{}", said.err);
    // What is proposed is taken, and then nothing closes.
    let lines: String =
        said.err.lines().filter_map(|line| Some(format!("    {}\n", &line[line.find("- { to:")?..]))).collect();
    assert_eq!(lines.lines().count(), 4, "{}", said.err);
    let (firewall, allowed) = (
        "firewall: { manage_from: [10.0.0.0/24, \"fd00::/64\"] }\n",
        format!("firewall:\n  manage_from: [10.0.0.0/24, \"fd00::/64\"]\n  allow:\n{lines}"),
    );
    bench.edit(firewall, &allowed);
    bench.infra(&["check"]).expect(0);
    let said = bench.infra(&["diff"]).expect(3);
    assert!(!said.err.contains("closes what is in use"), "{}", said.err);
    bench.edit(&allowed, firewall);

    bench.sh("web1", "mkdir -p /srv/shop/public && echo the shop >/srv/shop/public/index.html").expect(0);
    let said = bench.apply().expect(2);
    assert!(said.err.contains("add `--close web1`") && !said.err.contains("/srv/shop/public"), "{}", said.err);
    assert_eq!(installed(), ["0\n", "0\n"]);
    bench.infra(&["apply", "--yes", "--limit", "web1", "--close", "web1"]).expect(0);
    let reach = "perl -MIO::Socket::IP -e 'exit !IO::Socket::IP->new(PeerHost => \"10.0.2.11\", PeerPort => 5432, Timeout => 2)'";
    bench.sh("lb1", reach).expect(1);
    // They have their rules now, and are not asked again.
    let said = bench.infra(&["diff", "--limit", "web1"]).expect(0);
    assert!(!said.err.contains("5432"), "{}", said.err);
}

fn names_that_lead_elsewhere(world: &World) {
    let right = world.names(|hosts| format!("{hosts}2001:db8:dead::1 www.{SITE}\n"));
    let foreign =
        "www.shop.example.com has the AAAA record 2001:db8:dead::1, which is not a load balancer's public address";
    let nothing = "no certificate was ordered for shop.example.com; the CA was not asked";
    let said = world.bench.apply().expect(1);
    for part in [foreign, nothing, "take the record out of the zone", "obtained: blog.example.com"] {
        assert!(said.err.contains(part), "no `{part}` in\n{}", said.err);
    }
    // The other site has its own; it was the first, so there was a rehearsal too.
    assert_eq!(world.orders(), 2, "{}", said.err);
    world.refused(&["apply", "--yes"], 1, &[foreign, nothing]);
    // The site answers, with what stands in for the certificate.
    let page = world.bench.sh("outside", "curl -sSk --max-time 10 https://shop.example.com/");
    assert_eq!(page.out, "the shop\n", "{page:?}");
    world.names(|_| right.replace(&format!(" www.{SITE}"), " elsewhere.example.com"));
    world.refused(&["cert", "renew"], 1, &["www.shop.example.com: there is no such name", nothing]);
    world.names(|_| right.clone());
}

fn authorizations(world: &World) {
    world.caa(&[(0, "issue", "other.example"), (0, "iodef", "mailto:ops@example.com")]);
    let forbids = "the CAA records of shop.example.com do not let letsencrypt.org issue: they name \"other.example\"";
    // Those of the main name hold for what is below it.
    world.refused(&["cert", "renew"], 1, &[&format!("{SITE}: {forbids}"), &format!("www.{SITE}: {forbids}")]);
    world.caa(&[(0, "issue", "letsencrypt.org; validationmethods=dns-01")]);
    world.refused(&["cert", "renew"], 1, &["only by dns-01, and `challenge` is http-01"]);
    world.caa(&[(0, "issue", "letsencrypt.org"), (128, "tbs", "x")]);
    world.refused(&["cert", "renew"], 1, &["`tbs` is critical"]);
    world.caa(&[(0, "issue", "letsencrypt.org; validationmethods=http-01")]);
    let orders = world.orders();
    world.bench.infra(&["cert", "renew"]).expect(6);
    // One rehearsal, as it is the site's first, and one order.
    assert_eq!(world.orders(), orders + 2);
    world.leaf();
    // Another's account: ours is known now.
    world.caa(&[(0, "issue", "letsencrypt.org; accounturi=https://ca.example/acct/7")]);
    world.refused(&FORCE, 1, &["only to the account https://ca.example/acct/7, and ours is https://"]);
    world.caa(&[]);
}

/// A disk that is full and a clock that is wrong, on one load balancer: before the order, and when what was ordered comes.
fn wrong_host(world: &World) {
    let small = "cd /etc/haproxy && cp -a sites /root/kept && mount -t tmpfs -o size=32k,mode=0700 full sites && \
                 cp -a /root/kept/. sites && { head -c 40000 /dev/zero >sites/.filler 2>/dev/null; true; }";
    let large = "cd / && umount /etc/haproxy/sites && rm -r /root/kept";
    let date = "printf '#!/bin/sh\n[ \"$1\" != +%%s ] || set -- -d \"2 hours ago\" +%%s\nexec /usr/bin/date \"$@\"\n' \
                >/usr/local/bin/date && chmod 755 /usr/local/bin/date";
    world.bench.sh("lb2", small).expect(0);
    world.bench.sh("lb2", date).expect(0);
    let full = "lb2: a file of 16 KiB cannot be written to /etc/haproxy/sites";
    let late = "lb2: its clock is 120 minutes behind this machine's";
    let said = world.refused(&FORCE, 1, &[full, "No space left on device", late]);
    assert!(!said.err.contains("lb1"), "{}", said.err);
    world.bench.sh("lb2", &format!("rm /usr/local/bin/date; {large}")).expect(0);
    world.bench.sh("lb2", "ls -A /etc/haproxy/sites | grep -v '\\.pem$'").expect(1);

    // Killed between the order and its installation.
    let (leaf, orders) = (world.leaf(), world.orders());
    let died = world.bench.infra_command(&FORCE).env("INFRA_CRASH_AT", "install").output().unwrap();
    assert_eq!((died.status.code(), world.orders()), (None, orders + 1));
    world.bench.sh("lb2", small).expect(0);
    let said = world.bench.infra(&["cert", "renew"]).expect(1);
    for part in ["pending on lb1, and brought now", "lb2 does not have the certificate of shop.example.com yet"] {
        assert!(said.err.contains(part), "no `{part}` in\n{}", said.err);
    }
    assert_eq!(world.leaves()[1], leaf);
    world.bench.sh("lb2", large).expect(0);
    let said = world.bench.infra(&["cert", "renew"]).expect(0);
    assert!(said.err.contains("pending on lb2, and brought now without an order: shop.example.com"), "{}", said.err);
    assert_ne!(world.leaf(), leaf);
    assert_eq!(world.orders(), orders + 1);
}

/// A clone of the state folder, made before a renewal, orders nothing and puts nothing older in its place.
fn second_controller(world: &World) {
    let clone = tempfile::tempdir().unwrap();
    let from = world.bench.dir.path().join(".");
    assert!(Command::new("cp").arg("-a").arg(from).arg(clone.path()).status().unwrap().success());
    let elsewhere = |words: &[&str], code: i32| -> String {
        let output = world.bench.infra_command(words).current_dir(clone.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(!said.contains("PRIVATE"), "{said}");
        said
    };
    world.bench.infra(&FORCE).expect(6);
    let (leaf, orders) = (world.leaf(), world.orders());
    // What the clone knows of is due, too.
    let current = clone.path().join(format!("state/acme/sites/{SITE}/current.json"));
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&current).unwrap()).unwrap();
    let end = kept["life"]["not_after"].as_i64().unwrap();
    kept["life"] = json!({ "not_before": end - 180 * 86_400, "not_after": end - 80 * 86_400 });
    std::fs::write(&current, kept.to_string()).unwrap();
    let said = elsewhere(&["diff"], 0);
    assert!(said.contains("shop.example.com: lb") && said.contains("holds a newer certificate"), "{said}");
    // Once more from what it knew before, by the verb that orders.
    std::fs::write(&current, kept.to_string()).unwrap();
    let said = elsewhere(&["cert", "renew"], 0);
    assert!(said.contains("holds a newer certificate"), "{said}");
    elsewhere(&["apply", "--yes"], 0);
    assert_eq!((world.leaf(), world.orders()), (leaf, orders));
}

/// A load balancer that is away gets its certificate when it is back, without an order of its own.
fn pending(world: &World) {
    let (leaf, orders) = (world.leaf(), world.orders());
    let cut = "nft 'add table inet cut; add chain inet cut c { type filter hook input priority -300; }; \
               add rule inet cut c tcp dport 22 reject with tcp reset'";
    world.bench.sh("lb2", cut).expect(0);
    // As long as a name leads to it, the CA may ask it.
    world.refused(&FORCE, 4, &["lb2 cannot be reached", "a CA may ask it for shop.example.com"]);
    let past = |hosts: &str| {
        let leads = |line: &&str| {
            line.contains(SITE) && (line.starts_with("203.0.113.12 ") || line.starts_with("2001:db8:113::12 "))
        };
        hosts.split_inclusive('\n').filter(|line| !leads(line)).collect()
    };
    let right = world.names(past);
    let said = world.bench.infra(&FORCE).expect(1);
    for part in ["goes on without it", "lb2 does not have the certificate of shop.example.com yet", "pending:"] {
        assert!(said.err.contains(part), "no `{part}` in\n{}", said.err);
    }
    let [one, two] = world.leaves();
    assert!(one != leaf && two == leaf, "{one} {two}");
    assert_eq!(world.orders(), orders + 1);
    // Still away: told, and nothing else is done.
    let said = world.bench.infra(&["cert", "renew"]).expect(1);
    assert!(said.err.contains("lb2 cannot be reached") && said.err.contains("pending:"), "{}", said.err);
    world.names(|_| right.clone());
    world.bench.sh("lb2", "nft delete table inet cut").expect(0);
    let said = world.bench.infra(&["cert", "renew"]).expect(0);
    assert!(said.err.contains("pending on lb2, and brought now without an order: shop.example.com"), "{}", said.err);
    assert_eq!((world.leaf(), world.orders()), (one, orders + 1));
}

/// A site is renamed to what nobody's DNS has yet, and its name of before becomes an alias: visitors are shown the certificate of before.
fn renamed(world: &World) {
    let (before, after) = ("blog.example.com: {", "news.example.com: { aliases: [blog.example.com],");
    let visited =
        || world.bench.sh("outside", "curl -sS --max-time 10 -o /dev/null https://blog.example.com/").expect(0);
    let orders = world.orders();
    visited();
    world.bench.edit(before, after);
    let said = world.bench.apply().expect(1);
    assert!(said.out.contains("it stands in for the site's own"), "{}", said.out);
    assert!(said.err.contains("news.example.com: there is no such name"), "{}", said.err);
    visited();
    let said = world.bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains("0 to change") && said.out.contains("1 certificate to order"), "{}", said.out);
    world.bench.edit(after, before);
    world.bench.apply().expect(0);
    visited();
    assert_eq!(world.orders(), orders);
}

/// A state folder that is lost costs no order: the load balancers hold the truth.
fn lost_state(world: &World) {
    let (leaf, orders) = (world.leaf(), world.orders());
    std::fs::remove_dir_all(world.bench.dir.path().join("state/acme")).unwrap();
    let said = world.bench.infra(&["diff"]).expect(3);
    assert!(said.err.contains("holds a newer certificate"), "{}", said.err);
    assert!(!said.out.contains("then: the certificate"), "{}", said.out);
    // Another account's key: the answer to challenges is another one.
    assert!(said.out.contains("/etc/haproxy/haproxy.cfg") && !said.out.contains(".pem"), "{}", said.out);
    world.bench.apply().expect(0);
    assert_eq!((world.leaf(), world.orders()), (leaf.clone(), orders));
    world.bench.infra(&["diff"]).expect(0);
    world.bench.infra(&["cert", "status"]).expect(0);
    // It orders as before.
    world.bench.infra(&FORCE).expect(6);
    assert_ne!(world.leaf(), leaf);
    assert_eq!(world.orders(), orders + 1);
    // The internal authority is nowhere else: no run puts another one in its place by itself.
    let (pki, away) = (world.bench.dir.path().join("state/pki"), world.bench.dir.path().join("pki-away"));
    std::fs::rename(&pki, &away).unwrap();
    for words in [&["diff"][..], &["apply", "--yes"], &["cert", "renew"]] {
        let said = world.bench.infra(words).expect(2);
        assert!(said.err.contains("lb1, lb2") && said.err.contains("an internal authority that"), "{}", said.err);
    }
    std::fs::remove_dir_all(&pki).unwrap();
    std::fs::rename(&away, &pki).unwrap();
    world.bench.infra(&["diff"]).expect(0);
}

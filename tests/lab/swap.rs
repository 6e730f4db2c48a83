//! Certificates that the running HAProxy takes over its admin socket, by version, and what comes of a socket that is in use and
//! of a run that dies on the way. One of the two sites is asked for by address too.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::process::Stdio;
use std::time::Duration;

use bench::{Bench, Said, wait};
use checks::Check;
use infra::lab::Release;

const TWO_SITES: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: [10.0.1.11, \"fd00:0:0:1::11\"], roles: [lb], public: [203.0.113.11, \"2001:db8:113::11\"] }
  web1: { address: [10.0.2.11, \"fd00:0:0:2::11\"], roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  docs.example.org: { static: { root: /srv/docs, prefix: / } }
  shop.example.com: { aliases: [203.0.113.11, \"2001:db8:113::11\"], static: { root: /srv/shop, prefix: / } }
certificates: { issuer: internal, hot_swap: true }
";
const DOCS: &str = "docs.example.org";
const SHOP: &str = "shop.example.com";

#[test]
fn on_bookworm() {
    a_new_leaf_needs_no_reload("t-swap-12", Release::Bookworm);
}

#[test]
fn on_trixie() {
    a_new_leaf_needs_no_reload("t-swap-13", Release::Trixie);
}

fn a_new_leaf_needs_no_reload(name: &str, release: Release) {
    let bench = Bench::up(name, TWO_SITES, release);
    bench.apply().expect(0);
    let all: [Check<Bench>; 5] = [
        ("who asks by address", by_address),
        ("both leaves at once", both_at_once),
        ("beside a change of the configuration", beside_a_change),
        ("somebody else has begun", in_use_by_another),
        ("killed on the way", killed_on_the_way),
    ];
    checks::run(&bench, &all, |bench| drop(bench.apply()));
}

fn both_at_once(bench: &Bench) {
    let (worker, first) = (worker(bench), leaves(bench));
    forget(bench, &[DOCS, SHOP]);
    let said = bench.apply().expect(0);
    assert_eq!(said.out.matches("then swap into haproxy").count(), 2, "{}", said.out);
    assert!(!said.err.contains("reload") && !said.out.contains("reload"), "{said:?}");
    let second = leaves(bench);
    assert!(second[0] != first[0] && second[1] != first[1], "{first:?} {second:?}");
    assert_eq!(self::worker(bench), worker, "it was reloaded");
    no_debts(bench);
    // What it shows is what it reads: an apply finds nothing to do, a reload changes nothing.
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    bench.sh("lb1", "systemctl reload haproxy").expect(0);
    another_worker(bench, worker);
    assert_eq!(leaves(bench), second);
}

/// Beside a change of the configuration it is a reload, and told as one.
fn beside_a_change(bench: &Bench) {
    let (worker, second) = (worker(bench), leaves(bench));
    bench.edit("docs.example.org: { static", "docs.example.org: { hsts: 600, static");
    forget(bench, &[SHOP]);
    let said = bench.apply().expect(0);
    assert!(said.out.contains("then reload haproxy") && !said.out.contains("swap"), "{}", said.out);
    another_worker(bench, worker);
    let third = leaves(bench);
    assert!(third[0] == second[0] && third[1] != second[1], "{second:?} {third:?}");
}

/// By a public authority: a name that comes into the inventory later is on no certificate until the end of that run, so nobody
/// waits for it before; the certificate is swapped in.
#[test]
fn a_name_that_comes_later() {
    let public = TWO_SITES
        .replace("aliases: [203.0.113.11, \"2001:db8:113::11\"]", "aliases: [www.shop.example.com]")
        .replace("issuer: internal", "issuer: letsencrypt, contact: ops@example.com");
    let bench = Bench::up("t-swap-name", &public, Release::Bookworm);
    bench.edit("aliases: [www.shop.example.com], ", "");
    bench.edit("letsencrypt,", "letsencrypt-staging,");
    bench.apply().expect(0);
    let asked = |words: &str, name: &str| {
        let ask = format!(
            "curl -sS {words} -o /dev/null --max-time 10 -w '%{{http_code}}' https://{name}/.well-known/infra/health"
        );
        bench.sh("outside", &ask).out
    };
    let shown = |name: &str| asked("", name);
    // Nobody trusts the staging authority, and nothing is shown for a name that is not there yet.
    assert_eq!([asked("-k", SHOP), shown(SHOP), asked("-k", "www.shop.example.com")], ["404", "000", "000"]);
    bench.edit("letsencrypt-staging", "letsencrypt");
    bench.edit("shop.example.com: { static", "shop.example.com: { aliases: [www.shop.example.com], static");
    let said = bench.apply().expect(0);
    let (reload, swap) = (said.out.find("then reload haproxy"), said.out.find("then swap into haproxy"));
    assert!(reload.is_some() && reload < swap, "{}", said.out);
    assert_eq!([shown(SHOP), shown("www.shop.example.com"), shown(DOCS)], ["404"; 3]);
    let worker = worker(&bench);
    bench.infra(&["cert", "renew", "--force", SHOP]).expect(6);
    assert_eq!(self::worker(&bench), worker, "it was reloaded");
}

/// The site whose certificate names the addresses, and no other, is what one gets who asks by address.
fn by_address(bench: &Bench) {
    bench
        .sh("web1", "mkdir -p /srv/docs /srv/shop; echo docs >/srv/docs/index.html; echo shop >/srv/shop/index.html")
        .expect(0);
    for host in ["203.0.113.11", "[2001:db8:113::11]", "[2001:db8:113::11]:443", SHOP] {
        assert_eq!(bench.page(&format!("https://{host}/")), (200, "shop\n".to_owned()), "{host}");
    }
    assert_eq!(bench.page(&format!("https://{DOCS}/")), (200, "docs\n".to_owned()));
    let said =
        bench.sh("outside", "curl -sS -o /dev/null -w '%{redirect_url}' 'http://[2001:db8:113::11]/a?b'").expect(0);
    assert_eq!(said.out, "https://[2001:db8:113::11]/a?b");
    let ca = bench.sites_ca();
    let status = |words: &str| {
        bench
            .sh("outside", &format!("curl -sS -o /dev/null -w '%{{http_code}}' --cacert '{}' {words}", ca.display()))
            .out
    };
    // No site answers under the certificate of another, and nobody is asked for by a name or an address that is not ours.
    assert_eq!(status("-H 'Host: docs.example.org' https://203.0.113.11/"), "421");
    assert_eq!(status("-H 'Host: 203.0.113.11' https://docs.example.org/"), "421");
    assert_eq!(status("-H 'Host: 203.0.113.12' https://203.0.113.11/"), "421");
    assert_eq!(
        status(
            "-k --resolve other.example.com:443:203.0.113.11 -H 'Host: shop.example.com' https://other.example.com/"
        ),
        "421"
    );
}

/// Somebody else has begun to give HAProxy a certificate for the other site.
fn in_use_by_another(bench: &Bench) {
    let (worker, before) = (worker(bench), leaves(bench));
    let begin = "{ echo 'set ssl cert /etc/haproxy/sites/docs.example.org.pem <<'; cat /etc/haproxy/sites/docs.example.org.pem; echo; }";
    let said = bench.sh("lb1", &format!("{begin} | {SOCKET}")).expect(0);
    assert!(said.out.contains("Transaction created"), "{said:?}");
    forget(bench, &[SHOP]);
    let said = bench.apply().expect(0);
    assert!(said.out.contains("then swap into haproxy"), "{}", said.out);
    let note = "haproxy was reloaded, as the certificate could not be given to it while it runs: somebody else has a transaction open";
    assert!(format!("{}{}", said.out, said.err).contains(note), "{said:?}");
    let after = leaves(bench);
    assert!(after[0] == before[0] && after[1] != before[1], "{before:?} {after:?}");
    let said = bench.sh("lb1", &format!("echo 'show ssl cert' | {SOCKET}")).expect(0);
    assert!(!said.out.contains("# transaction"), "{}", said.out);
    no_debts(bench);
    another_worker(bench, worker);
}

/// HAProxy does not answer, so the step on the host stands between the file and the daemon; there it is killed, with its controller.
fn killed_on_the_way(bench: &Bench) {
    let (worker, before) = (worker(bench), leaves(bench));
    forget(bench, &[SHOP]);
    bench.sh("lb1", &format!("kill -STOP {worker}")).expect(0);
    let disk = "openssl x509 -in /etc/haproxy/sites/shop.example.com.pem -noout -fingerprint -sha256";
    let old = bench.sh("lb1", disk).expect(0).out;
    let mut run = bench.infra_command(&["apply", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait("the new certificate on disk, and the debt", Duration::from_secs(30), || {
        let said = bench.sh("lb1", &format!("cat /var/lib/infra/owed/haproxy.service && {disk}"));
        (said.out.starts_with("reload\n") && !said.out.contains(&old)).then_some(())
    });
    run.kill().unwrap();
    run.wait().unwrap();
    // Whoever holds the step's lock is the step.
    let kill = "cd /proc && for fd in [0-9]*/fd/8; do\n\
                [ \"$(readlink \"$fd\")\" = /var/lib/infra/step.lock ] && kill -9 \"${fd%%/*}\"\n\
                done; flock -n /var/lib/infra/step.lock true";
    wait("the end of the step", Duration::from_secs(10), || (bench.sh("lb1", kill).code == 0).then_some(()));
    bench.sh("lb1", &format!("kill -CONT {worker}")).expect(0);
    assert_eq!(leaves(bench), before);
    // The host puts the old file back when it is worked on again; the new one comes with the reload that is owed.
    let said = bench.apply().expect(1);
    assert!(said.err.contains("has changed since the plan was made"), "{}", said.err);
    let said = bench.apply().expect(0);
    assert!(said.out.contains("then reload haproxy") && !said.out.contains("swap"), "{}", said.out);
    another_worker(bench, worker);
    let after = leaves(bench);
    assert!(after[0] == before[0] && after[1] != before[1], "{before:?} {after:?}");
    no_debts(bench);
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
}

const SOCKET: &str = "socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock";

/// The process that serves new connections.
fn worker(bench: &Bench) -> u32 {
    let Said { out, .. } = bench.sh("lb1", &format!("echo 'show info' | {SOCKET}")).expect(0);
    out.lines().find_map(|l| l.strip_prefix("Pid: ")).unwrap().parse().unwrap()
}

/// The worker after `before`, which a reload brings.
fn another_worker(bench: &Bench, before: u32) -> u32 {
    wait("another worker", Duration::from_secs(10), || Some(worker(bench)).filter(|pid| *pid != before))
}

/// Fingerprints of what `outside` is shown for both sites, verified; the second one by its name and by its address.
fn leaves(bench: &Bench) -> [String; 2] {
    let ca = bench.sites_ca();
    let shown = |asked: &str| {
        let script = format!(
            "openssl s_client -connect 203.0.113.11:443 {asked} -verify_return_error -CAfile '{}' </dev/null 2>/dev/null \
             | openssl x509 -noout -fingerprint -sha256",
            ca.display()
        );
        bench.sh("outside", &script).expect(0).out
    };
    let [docs, shop] = [DOCS, SHOP].map(|name| shown(&format!("-servername {name} -verify_hostname {name}")));
    assert_eq!(shown("-noservername -verify_ip 203.0.113.11"), shop);
    [docs, shop]
}

/// Leaves that the next run makes anew.
fn forget(bench: &Bench, sites: &[&str]) {
    let path = bench.dir.path().join("state/pki/leaves.json");
    let mut leaves: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for site in sites {
        assert!(
            leaves["content"].as_object_mut().unwrap().remove(&format!("site/{site}")).is_some(),
            "no leaf of {site}"
        );
    }
    std::fs::write(&path, leaves.to_string()).unwrap();
}

fn no_debts(bench: &Bench) {
    assert_eq!(
        bench.sh("lb1", "ls /var/lib/infra/owed /var/lib/infra/unfinished 2>/dev/null").out,
        "/var/lib/infra/owed:\n"
    );
}

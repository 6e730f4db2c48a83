//! Every certificate is seen where it should be, and what is not is named; internal ones are renewed without an apply and bring
//! nothing else along; then a public CA takes the sites over.
#![expect(clippy::print_stdout, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use bench::Bench;
use checks::Check;
use infra::lab::Release;
use serde_json::Value;

const SITE: &str = "shop.example.com";

/// Two load balancers and one web host behind them. The lab has a public CA where its inventory names one.
const INVENTORY: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }
  lb2:  { address: 10.0.1.12, roles: [lb], public: 203.0.113.12 }
  web1: { address: [10.0.2.11, \"fd00:0:0:2::11\"], roles: [web] }
firewall: { manage_from: [10.0.0.0/24, \"fd00::/64\"] }
sites:
  shop.example.com: { aliases: [www.shop.example.com], static: { root: /srv/shop/public, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";

/// The certificate events of `cert status --json`, which must exit with `code`.
fn status(bench: &Bench, code: i32) -> Vec<Value> {
    let said = bench.infra(&["cert", "status", "--json"]).expect(code);
    assert!(!said.out.contains("PRIVATE") && !said.out.contains("BEGIN"), "{}", said.out);
    let events: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    events.into_iter().filter(|event| event["event"] == "certificate").collect()
}

/// The SHA-256 of each certificate by what it is: `shop.example.com`, `web1 server`.
fn leaves(events: &[Value]) -> std::collections::BTreeMap<String, String> {
    let name = |event: &Value| match event["site"].as_str() {
        Some(site) => site.to_owned(),
        None => format!("{} {}", event["host"].as_str().unwrap(), event["kind"].as_str().unwrap()),
    };
    events.iter().map(|event| (name(event), event["sha256"].as_str().unwrap_or_default().to_owned())).collect()
}

/// When each daemon was last told to reload, and every file that we manage but the sites' certificates.
fn untouched(bench: &Bench) -> Vec<String> {
    let files = "find /etc/nginx /etc/haproxy /etc/nftables.conf /etc/infra -type f ! -path '/etc/haproxy/sites/*' \
                 -exec sha256sum {} + 2>/dev/null | sort";
    ["lb1", "lb2", "web1"].iter().map(|host| bench.sh(host, files).out).collect()
}

/// How often each daemon was reloaded or restarted.
fn reloads(bench: &Bench) -> Vec<String> {
    let units = [("lb1", "haproxy"), ("lb2", "haproxy"), ("web1", "nginx")];
    let script =
        |unit: &str| format!("journalctl -u {unit} -o cat | grep -cE '^(Reloaded|Started|Starting|Reloading)'");
    units.iter().map(|(host, unit)| bench.sh(host, &script(unit)).out).collect()
}

#[test]
fn every_certificate_is_seen_renewed_and_taken_over() {
    let bench = Bench::up("t-certs", INVENTORY, Release::Bookworm);
    bench.edit("issuer: letsencrypt, contact: ops@example.com", "issuer: internal");
    bench.edit("aliases: [www.shop.example.com]", "aliases: [www.shop.example.com, 203.0.113.11]");
    bench.sh("web1", "mkdir -p /srv/shop/public && echo 'the shop' >/srv/shop/public/index.html").expect(0);
    let all: [Check<Bench>; 6] = [
        ("what is there is seen", seen),
        ("what is due is renewed", renewed),
        ("the authority is rotated", rotated),
        ("a public authority takes over", taken_over),
        ("one host is away", one_away),
        ("from issuer to issuer and back", moved),
    ];
    checks::run(&bench, &all, checks::independent);
}

/// Looking makes nothing, tells what is right, and names what is not.
fn seen(bench: &Bench) {
    let said = bench.infra(&["cert", "status"]).expect(1);
    assert!(said.out.contains("this state folder holds no certificate yet"), "{}", said.out);
    assert!(!bench.dir.path().join("state/pki").exists() && !bench.dir.path().join("state/acme").exists());

    bench.apply().expect(0);
    let said = bench.infra(&["cert", "status"]).expect(0);
    println!("{}", said.out);
    let first = leaves(&status(bench, 0));
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(names, ["lb1 client", "lb2 client", SITE, "web1 client", "web1 server"]);
    // By each name, by the address, and in the file, at both.
    let places = status(bench, 0)[0]["places"].as_array().unwrap().clone();
    let places: Vec<&str> = places.iter().map(|place| place["place"].as_str().unwrap()).collect();
    assert_eq!(places.len(), 8, "{places:?}");
    assert_eq!(places.iter().filter(|place| **place == "without a name at 127.0.0.1:443").count(), 2, "{places:?}");

    // Another leaf in a file is found before any daemon has read it, and named.
    bench.sh(
        "web1",
        "cp -p /etc/nginx/tls/server.crt /root/kept && cp /etc/nginx/tls/client.crt /etc/nginx/tls/server.crt",
    );
    let said = bench.infra(&["cert", "status"]).expect(1);
    println!("{}", said.out);
    assert!(said.out.contains("web1: /etc/nginx/tls/server.crt: holds another certificate, until "), "{}", said.out);
    let bad: Vec<Value> = status(bench, 1).into_iter().filter(|event| event["good"] == false).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert_eq!((bad[0]["host"].as_str(), bad[0]["kind"].as_str()), (Some("web1"), Some("server")));
    bench.sh("web1", "cp -p /root/kept /etc/nginx/tls/server.crt").expect(0);
    bench.infra(&["cert", "status"]).expect(0);
    // So is a listener that does not answer.
    bench.sh("lb2", "systemctl stop haproxy").expect(0);
    let said = bench.infra(&["cert", "status"]).expect(1);
    assert!(said.out.contains("lb2: shop.example.com at 127.0.0.1:443, www.shop.example.com at"), "{}", said.out);
    bench.sh("lb2", "systemctl start haproxy").expect(0);
}

/// What is due is made and brought, and nothing else.
fn renewed(bench: &Bench) {
    // Nothing is due: nothing is done, nothing is reloaded.
    let first = leaves(&status(bench, 0));
    let (before, reloaded) = (untouched(bench), reloads(bench));
    bench.infra(&["cert", "renew"]).expect(0);
    let said = bench.infra(&["cert", "renew", "--dry-run"]).expect(0);
    assert!(said.err.contains("nothing to do before"), "{}", said.err);
    assert_eq!(reloads(bench), reloaded);

    // A site's leaf is made anew on demand; nothing else changes, and a second time is nothing.
    let said = bench.infra(&["cert", "renew", "--force", SITE]).expect(6);
    assert!(said.out.contains("/etc/haproxy/sites/shop.example.com.pem"), "{}", said.out);
    let second = leaves(&status(bench, 0));
    let changed: Vec<&String> = first.keys().filter(|name| first[*name] != second[*name]).collect();
    assert_eq!(changed, [SITE]);
    assert_eq!(untouched(bench), before);
    let reloaded = reloads(bench);
    bench.infra(&["cert", "renew"]).expect(0);
    assert_eq!(reloads(bench), reloaded);

    // Leaves that are lost are due: all are made anew and brought to their hosts.
    std::fs::remove_file(bench.dir.path().join("state/pki/leaves.json")).unwrap();
    let said = bench.infra(&["cert", "renew", "--dry-run"]).expect(0);
    assert!(said.err.contains("web1.shop.infra.internal, due: there is no certificate yet"), "{}", said.err);
    let said = bench.infra(&["cert", "status"]).expect(1);
    assert!(said.out.contains("a certificate that our state does not know"), "{}", said.out);
    bench.infra(&["cert", "renew"]).expect(6);
    let third = leaves(&status(bench, 0));
    assert!(second.keys().all(|name| second[name] != third[name]), "{second:?} {third:?}");
    bench.infra(&["cert", "renew"]).expect(0);
    bench.infra(&["diff"]).expect(0);

    // Whatever else is due is `apply`'s.
    bench.edit("www.shop.example.com,", "www.shop.example.com, new.shop.example.com,");
    let said = bench.infra(&["cert", "renew"]).expect(2);
    assert!(said.err.contains("differs from the inventory by more than certificates"), "{}", said.err);
    bench.edit(" new.shop.example.com,", "");
}

/// A rotation of the authority takes its three steps, and each is told.
fn rotated(bench: &Bench) {
    let site = bench.site();
    infra::pki::start_rotation(&site, &site.state, time::OffsetDateTime::now_utc()).unwrap();
    for step in ["step 1 of 3", "step 2 of 3", "step 3 of 3"] {
        bench.infra(&["cert", "renew"]).expect(6);
        let said = bench.infra(&["cert", "status"]).expect(0);
        assert_eq!(said.out.contains("rotation under way"), step != "step 3 of 3", "{}", said.out);
    }
    bench.infra(&["cert", "renew"]).expect(0);
}

/// A public CA takes over; the hosts' own certificates stay.
fn taken_over(bench: &Bench) {
    let third = leaves(&status(bench, 0));
    bench.edit(", 203.0.113.11]", "]");
    bench.edit("issuer: internal", "issuer: letsencrypt, contact: ops@example.com");
    bench.apply().expect(0);
    let said = bench.infra(&["cert", "status"]).expect(0);
    println!("{}", said.out);
    assert!(said.out.contains("by acme-v02.api.letsencrypt.org: "), "{}", said.out);
    let events = status(bench, 0);
    let fourth = leaves(&events);
    let changed: Vec<&String> = third.keys().filter(|name| third[*name] != fourth[*name]).collect();
    assert_eq!(changed, [SITE]);
    // And what belongs into the zone names its account and the key that signed.
    let said = bench.infra(&["cert", "records"]).expect(0);
    println!("{}", said.out);
    let records: Vec<&str> = said.out.lines().filter(|line| !line.starts_with(';')).collect();
    assert_eq!(records.len(), 4, "{records:?}");
    assert!(
        records[0].starts_with("shop.example.com. 3600 IN CAA 0 issue \"letsencrypt.org; accounturi=https://"),
        "{records:?}"
    );
    let seen = bench.sh(
        "outside",
        "openssl s_client -connect 203.0.113.11:443 -servername shop.example.com -showcerts </dev/null 2>/dev/null \
         | awk '/BEGIN/ { n++ } n == 2' | openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER \
         | openssl dgst -sha256 -r | cut -d' ' -f1",
    );
    assert_eq!(records[2], format!("_443._tcp.shop.example.com. 3600 IN TLSA 2 1 1 {}", seen.out.trim()));
}

/// One run renews both kinds. A web host that is away keeps no other certificate from that, is named, and gets its own later.
fn one_away(bench: &Bench) {
    let before = leaves(&status(bench, 0));
    std::fs::remove_file(bench.dir.path().join("state/pki/leaves.json")).unwrap();
    bench.sh("web1", "systemctl stop ssh").expect(0);
    let said = bench.infra(&["cert", "renew", "--force", SITE]).expect(4);
    assert!(said.err.contains("web1 cannot be reached"), "{}", said.err);
    let said = bench.infra(&["cert", "status"]).expect(1);
    assert!(said.out.contains("web1: not asked: ") && said.out.contains("shown by lb1, lb2"), "{}", said.out);
    bench.sh("web1", "systemctl start ssh").expect(0);
    let bad = status(bench, 1).into_iter().filter(|event| event["good"] == false);
    assert!(bad.map(|event| event["host"].as_str().unwrap_or_default().to_owned()).all(|host| host == "web1"));
    bench.infra(&["cert", "renew"]).expect(6);
    let after = leaves(&status(bench, 0));
    assert!(before.keys().all(|name| before[name] != after[name]), "{before:?} {after:?}");
}

/// A chain of a company's own CA for the site, and its key, beside the inventory: `shop.pem`, `shop.key`, `company.pem`.
fn buy(bench: &Bench, serial: u32) {
    let script = format!(
        "cd '{}'
        key() {{ openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }}
        [ -e company.key ] || {{
            key company
            openssl req -x509 -new -key company.key -subj '/CN=Company CA' -days 90 -out company.pem
        }}
        key shop
        printf 'subjectAltName=DNS:{SITE},DNS:www.{SITE}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' >ext
        openssl req -new -key shop.key -subj /CN={SITE} | openssl x509 -req -CA company.pem -CAkey company.key -set_serial {serial} \\
            -days 80 -extfile ext -out shop.pem
        chmod 600 shop.key",
        bench.dir.path().display()
    );
    let out = std::process::Command::new("sh").args(["-ec", &script]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// The SHA-256 of what a visitor is shown.
fn visited(bench: &Bench) -> String {
    let ask = format!(
        "openssl s_client -connect 203.0.113.11:443 -servername {SITE} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
    );
    let said = bench.sh("outside", &ask).expect(0).out;
    said.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
}

/// A site goes from one issuer to another and back, by what a person would type, and nothing is left that must be taken away by hand.
/// What browsers trust is not replaced by what they do not without a word.
fn moved(bench: &Bench) {
    let trusted = |bench: &Bench| bench.sh("outside", &format!("curl -sS --max-time 10 https://{SITE}/")).code == 0;
    let before = visited(bench);
    assert!(trusted(bench));
    // Of a directory that nobody knows a person decides: it is told, and nothing is refused.
    bench.edit("issuer: letsencrypt,", "issuer: https://ca.example.com/directory,");
    let said = bench.infra(&["diff"]);
    assert!(said.code == 3 && said.err.contains("of which it is not known whether browsers trust it"), "{said:?}");
    bench.edit("issuer: https://ca.example.com/directory,", "issuer: letsencrypt-staging,");
    for words in [&["diff"][..], &["apply", "--yes"], &["cert", "renew"]] {
        let said = bench.infra(words).expect(2);
        assert!(
            said.err.contains("shows a certificate that browsers trust") && said.err.contains("trust-lost"),
            "{}",
            said.err
        );
    }
    bench.edit("issuer: letsencrypt-staging, contact: ops@example.com", "issuer: internal");
    let said = bench.apply().expect(2);
    assert!(said.err.contains("is to show one of the internal authority"), "{}", said.err);
    assert_eq!(visited(bench), before);
    let inventory = std::fs::read_to_string(bench.inventory()).unwrap();
    std::fs::write(bench.inventory(), format!("{inventory}silence: {{ trust-lost: a test }}\n")).unwrap();
    bench.apply().expect(0);
    assert!(visited(bench) != before && !trusted(bench));
    bench.infra(&["diff"]).expect(0);
    // And back: what was ordered is still good.
    bench.edit("issuer: internal", "issuer: letsencrypt, contact: ops@example.com");
    bench.apply().expect(0);
    assert_eq!(visited(bench), before);
    bench.infra(&["cert", "status"]).expect(0);

    // One that a company's own CA gave.
    buy(bench, 7);
    bench.edit(
        "shop.example.com: {",
        "shop.example.com: { certificate: { cert: shop.pem, key: { file: shop.key }, ca: company.pem },",
    );
    bench.infra(&["check"]).expect(0);
    let said = bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains("bought, by `Company CA`, until "), "{}", said.out);
    let key = std::fs::read_to_string(bench.dir.path().join("shop.key")).unwrap();
    let part: String = key.lines().nth(1).unwrap().chars().take(30).collect();
    let said = bench.apply().expect(0);
    assert!(!said.out.contains(&part) && !said.err.contains(&part));
    let bought = visited(bench);
    assert_ne!(bought, before);
    let said = bench.infra(&["cert", "status"]).expect(0);
    assert!(said.out.contains("bought: put its successor into shop.pem from "), "{}", said.out);
    let said = bench.infra(&["cert", "renew"]).expect(0);
    assert!(said.err.contains("bought: put its successor into shop.pem from "), "{}", said.err);
    let said = bench.infra(&["cert", "renew", "--force", SITE]).expect(2);
    assert!(said.err.contains("was bought, by `Company CA`: infra does not renew it"), "{}", said.err);
    assert_eq!(visited(bench), bought);
    // The key of another is refused, and nothing is changed by it.
    std::fs::rename(bench.dir.path().join("shop.key"), bench.dir.path().join("right.key")).unwrap();
    std::fs::copy(bench.dir.path().join("company.key"), bench.dir.path().join("shop.key")).unwrap();
    for words in [&["check"][..], &["diff"], &["apply", "--yes"]] {
        let said = bench.infra(words);
        assert!(said.code != 0 && said.err.contains("is not the key of the certificate"), "{words:?} {}", said.err);
    }
    std::fs::rename(bench.dir.path().join("right.key"), bench.dir.path().join("shop.key")).unwrap();
    bench.infra(&["diff"]).expect(0);
    // Its successor is a plan like any other.
    buy(bench, 8);
    bench.infra(&["diff"]).expect(3);
    bench.apply().expect(0);
    assert_ne!(visited(bench), bought);
    bench.infra(&["diff"]).expect(0);

    // Back to the CA, whose authority has gone meanwhile: no root vouches for what our state has, and so another one is ordered.
    let current = bench.dir.path().join(format!("state/acme/sites/{SITE}/current.json"));
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&current).unwrap()).unwrap();
    let read = |name: &str| std::fs::read_to_string(bench.dir.path().join(name)).unwrap();
    kept["chain"] = format!("{}{}", read("shop.pem"), read("company.pem")).into();
    kept["key"] = read("shop.key").into();
    kept["sha256"] = visited(bench).into();
    std::fs::write(&current, kept.to_string()).unwrap();
    bench.edit("certificate: { cert: shop.pem, key: { file: shop.key }, ca: company.pem },", "");
    let said = bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains("no authority that this machine trusts vouches for it any more"), "{}", said.out);
    bench.apply().expect(0);
    assert!(trusted(bench));
    bench.infra(&["diff"]).expect(0);
    bench.infra(&["cert", "status"]).expect(0);
    bench.edit("\nsilence: { trust-lost: a test }", "");
}

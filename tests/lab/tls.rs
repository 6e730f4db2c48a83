//! TLS on real hosts: every hop refuses who is not who it should be, the edge keeps its manners, and certificates are
//! renewed and their authority replaced while somebody watches.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::{Bench, wait};
use checks::Check;
use infra::base::material::Material;
use infra::base::materials::Materials;
use infra::base::secret::sentinel;
use infra::lab::Target;
use infra::pki;
use time::OffsetDateTime;

/// What each load balancer holds towards the internet.
const EDGES: [(&str, &str); 2] = [("lb1", "203.0.113.11"), ("lb2", "203.0.113.12")];
/// Who serves with an internal certificate: the host, its socket, and a host that may ask it.
const INNER: [(&str, &str, &str); 4] = [
    ("web1", "10.0.2.11:8443", "lb1"),
    ("web2", "[fd00:0:0:2::12]:8443", "lb2"),
    ("app1", "10.0.3.11:9443", "web1"),
    ("app2", "[fd00:0:0:3::12]:9443", "web2"),
];

fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86400)
}

/// The leaves of a hundred days ago, which are over.
fn over(bench: &Bench) -> Materials {
    let (site, then) = (bench.site(), tempfile::tempdir().unwrap());
    std::fs::create_dir(then.path().join("pki")).unwrap();
    std::fs::copy(site.state.join("pki/authorities.json"), then.path().join("pki/authorities.json")).unwrap();
    std::fs::copy(bench.dir.path().join("over.json"), then.path().join("pki/leaves.json")).unwrap();
    pki::ensure(&site, then.path(), OffsetDateTime::now_utc() - days(100)).unwrap().materials
}

fn materials(bench: &Bench) -> Materials {
    pki::ensure(&bench.site(), &bench.site().state, OffsetDateTime::now_utc()).unwrap().materials
}

/// The certificate, the key, or both (`crt key`) of a leaf.
fn pem(materials: &Materials, leaf: &str, endings: &str) -> String {
    let names = endings.split(' ').map(|ending| sentinel(format!("{leaf}.{ending}")));
    // Whoever holds it: what is a site's is every load balancer's.
    let owner = leaf.strip_prefix("pki/").and_then(|rest| rest.split('/').next()).unwrap_or("lb1").parse().unwrap();
    materials.share(&owner).materialize(&names.collect::<String>()).unwrap()
}

/// Writes a file on a host, past infra.
fn put(bench: &Bench, host: &str, path: &str, text: &str) {
    let script = format!("umask 077; mkdir -p \"$(dirname '{path}')\"; cat >'{path}'");
    let mut command = bench.lab().command(&Target::from(host), ["sh", "-c", &script]).unwrap();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{host}: {path}");
}

/// curl's answer code from `place`; 000 where TLS or the connection failed, with curl's own code behind it.
fn code(bench: &Bench, place: &str, args: &str) -> String {
    let script = format!(
        "curl -q -s -m 8 --noproxy '*' -o /dev/null -w '%{{http_code}}' {args}; c=$?; [ $c = 0 ] || echo \"/$c\""
    );
    bench.sh(place, &script).out.trim().to_owned()
}

/// What `HAProxy` on `lb` says of a web host: `UP`, `DOWN`, …; and its sessions so far.
fn server(bench: &Bench, lb: &str, web: &str) -> (String, u64) {
    let said = bench.sh(lb, "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock").expect(0);
    let line = said.out.lines().find(|l| l.starts_with(&format!("web,{web},"))).unwrap();
    let fields: Vec<&str> = line.split(',').collect();
    // status and stot of haproxy's management guide, 9.1
    (fields[17].to_owned(), fields[7].parse().unwrap())
}

fn becomes(bench: &Bench, web: &str, state: &str) {
    for (lb, _) in EDGES {
        wait(&format!("{web} {state} on {lb}"), Duration::from_secs(20), || {
            server(bench, lb, web).0.starts_with(state).then_some(())
        });
    }
}

/// The host is down, and not one more check passes: they come every two seconds, so some with what it shows now.
fn refused(bench: &Bench, web: &str) {
    becomes(bench, web, "DOWN");
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for (lb, _) in EDGES {
            // One that passed would be seen as `DOWN 1/2`.
            assert_eq!(server(bench, lb, web).0, "DOWN", "{web} on {lb}");
        }
    }
}

#[test]
fn every_hop_refuses_who_is_not_who_it_should_be() {
    let bench = Bench::applied("t-tls-hops");
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = pki::ensure(&bench.site(), elsewhere.path(), OffsetDateTime::now_utc()).unwrap().materials;
    let hops = Hops { ours: materials(&bench), over: over(&bench), foreign, bench };
    let all: [Check<Hops>; 9] = [
        ("clients inside", clients_inside),
        ("servers inside", servers_inside),
        ("clients of the edge", the_edge),
        ("manners of the edge", |hops| manners(&hops.bench)),
        ("sslyze", |hops| sslyze(&hops.bench)),
        ("logs", |hops| logs(&hops.bench)),
        ("metrics", |hops| metrics(&hops.bench)),
        ("limits", |hops| limits(&hops.bench)),
        ("testssl.sh", |hops| testssl(&hops.bench)),
    ];
    checks::run(&hops, &all, |hops| drop(hops.bench.apply()));
}

/// Leaves of our authority, such that are over, and those of an authority that nobody knows.
struct Hops {
    bench: Bench,
    ours: Materials,
    over: Materials,
    foreign: Materials,
}

/// The listeners of the web and the app hosts, asked from where their clients stand.
fn clients_inside(Hops { bench, ours, over, foreign }: &Hops) {
    for (host, socket, from) in [("web1", "10.0.2.11:8443", "lb1"), ("app1", "10.0.3.11:9443", "web2")] {
        let domain = bench.site().internal_domain();
        let (address, port) = socket.rsplit_once(':').unwrap();
        let ask = |client: Option<(&Materials, &str)>, name: &str| {
            let show = client.map_or("", |(materials, leaf)| {
                put(bench, from, "/run/t/client.pem", &pem(materials, &format!("pki/{leaf}"), "crt key"));
                "--cert /run/t/client.pem"
            });
            let ca = "--cacert /etc/infra/ca.crt";
            let args = format!("{ca} {show} --resolve '{name}:{port}:{address}' https://{name}:{port}/infra-health");
            code(bench, from, &args)
        };
        let name = format!("{host}.{domain}");
        let role = from.trim_end_matches(|c: char| c.is_ascii_digit());
        let good = format!("{from}/client");
        assert_eq!(ask(Some((ours, &good)), &name), "200", "{socket}");
        assert_eq!(ask(None, &name), "400", "{socket}: no certificate");
        let other = if role == "lb" { "app1/client" } else { "lb1/client" };
        assert_eq!(ask(Some((ours, other)), &name), "403", "{socket}: of another role");
        assert_eq!(ask(Some((ours, &format!("{host}/client"))), &name), "403", "{socket}: its own");
        assert_eq!(ask(Some((over, &good)), &name), "400", "{socket}: over");
        assert_eq!(ask(Some((foreign, &good)), &name), "400", "{socket}: of another authority");
        assert_eq!(ask(Some((ours, &format!("{from}/server"))), &name), "400", "{socket}: a server's");
        // The client's side of the same: a name that is not in the certificate, and an authority that is not ours.
        assert_eq!(ask(Some((ours, &good)), &format!("db1.{domain}")), "000/60", "{socket}: another name");
        put(bench, from, "/run/t/ca.crt", foreign.public(&Material::HopAuthorities).unwrap());
        let args = format!("--cacert /run/t/ca.crt --cert /run/t/client.pem --resolve '{name}:{port}:{address}'");
        assert_eq!(code(bench, from, &format!("{args} https://{name}:{port}/infra-health")), "000/60", "{socket}");
    }
}

/// A web or an app host that shows another certificate than its own is left alone, and nobody outside sees it.
fn servers_inside(Hops { bench, ours, over, foreign }: &Hops) {
    let page = |times: usize| {
        let all = format!("https://shop.example.com/p[1-{times}]");
        let ca = bench.sites_ca();
        let said = bench.sh(
            "outside",
            &format!("curl -q -s -m 20 --cacert '{}' -o /dev/null -w '%{{http_code}} ' '{all}'", ca.display()),
        );
        said.out.split_whitespace().map(ToOwned::to_owned).collect::<BTreeSet<_>>()
    };
    let good = BTreeSet::from(["200".to_owned()]);
    let serve = |host: &str, materials: &Materials, leaf: &str| {
        for ending in ["crt", "key"] {
            let text = pem(materials, &format!("pki/{leaf}/server"), ending);
            put(bench, host, &format!("/etc/nginx/tls/server.{ending}"), &text);
        }
        bench.sh(host, "nginx -s reload").expect(0);
    };
    for (what, materials, web, app) in [
        ("another host's", ours, "app1", "web1"),
        ("one that is over", over, "web2", "app2"),
        ("another authority's", foreign, "web2", "app2"),
    ] {
        serve("web2", materials, web);
        refused(bench, "web2");
        let before: Vec<_> = EDGES.iter().map(|(lb, _)| server(bench, lb, "web2").1).collect();
        assert_eq!(page(20), good, "web2 shows {what}");
        let after: Vec<_> = EDGES.iter().map(|(lb, _)| server(bench, lb, "web2").1).collect();
        assert_eq!(before, after, "web2 shows {what} and gets requests");
        // app2 gives nginx no connection: it goes on to the next.
        bench.sh("web1", ": >/var/log/nginx/access.log").expect(0);
        serve("app2", materials, app);
        wait("nginx on web1 refuses app2", Duration::from_secs(10), || {
            assert_eq!(page(8), good, "app2 shows {what}");
            // Two hosts were asked, and the first one gave no connection.
            let refused =
                r#""status":200.*"upstream":"unix:[^"]*-app2.sock, unix:[^"]*-app1.sock","upstream_status":"502, 200""#;
            (bench.sh("web1", &format!("grep -q '{refused}' /var/log/nginx/access.log")).code == 0).then_some(())
        });
        assert!(page(20) == good, "app2 shows {what}");
    }
    // The next apply sees what was done by hand and puts it right.
    let said = bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains("web2") && said.out.contains("app2"), "{}", said.out);
    bench.apply().expect(0);
    becomes(bench, "web2", "UP");
    // Where no right one is left, nobody gets a page over an unverified hop.
    for web in ["web1", "web2"] {
        serve(web, foreign, web);
        becomes(bench, web, "DOWN");
    }
    assert_eq!(page(2), BTreeSet::from(["503".to_owned()]));
    bench.apply().expect(0);
    for app in ["app1", "app2"] {
        serve(app, foreign, app);
    }
    wait("502 from the web hosts", Duration::from_secs(10), || (page(2).iter().eq(["502"])).then_some(()));
    bench.apply().expect(0);
    wait("pages again", Duration::from_secs(15), || (page(4) == good).then_some(()));
}

/// Clients of the edge.
fn the_edge(Hops { bench, foreign, .. }: &Hops) {
    let ca = bench.sites_ca();
    let wrong = bench.dir.path().join("wrong.crt");
    std::fs::write(&wrong, foreign.public(&Material::SiteAuthorities).unwrap()).unwrap();
    let ask = |ca: &Path, args: &str| code(bench, "outside", &format!("--cacert '{}' {args}", ca.display()));
    assert_eq!(ask(&ca, "https://shop.example.com/"), "200");
    assert_eq!(ask(&ca, "https://www.shop.example.com/"), "200");
    assert_eq!(ask(&wrong, "https://shop.example.com/"), "000/60", "another authority");
    // Names that no certificate is for: no handshake, so not even a certificate of another site is seen.
    for (lb, address) in EDGES {
        assert_eq!(
            ask(&ca, &format!("--resolve evil.example:443:{address} -k https://evil.example/")),
            "000/35",
            "{lb}"
        );
        assert_eq!(ask(&ca, &format!("-k https://{address}/")), "000/35", "{lb}");
        let said =
            bench.sh("outside", &format!("openssl s_client -connect {address}:443 -noservername </dev/null 2>&1"));
        assert!(!said.out.contains("BEGIN CERTIFICATE"), "{lb}: {}", said.out);
    }
    for old in ["-tls1", "-tls1_1", "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256"] {
        let said = bench.sh(
            "outside",
            &format!("openssl s_client -connect 203.0.113.11:443 -servername shop.example.com {old} </dev/null 2>&1"),
        );
        assert_ne!(said.code, 0, "{old}: {}", said.out);
    }
}

/// HTTP at the edge.
fn manners(bench: &Bench) {
    let ca = bench.sites_ca();
    let ask = |args: &str| bench.sh("outside", &format!("curl -q -sS -m 8 --cacert '{}' {args}", ca.display())).out;
    let head = ask("-o /dev/null -D - https://shop.example.com/").to_lowercase();
    assert!(head.starts_with("http/2 200"), "{head}");
    assert!(head.contains("\nstrict-transport-security: max-age=300\r"), "{head}");
    assert!(head.contains("\nx-content-type-options: nosniff\r") && !head.contains("\nserver:"), "{head}");
    assert!(ask("--http1.1 -o /dev/null -D - https://shop.example.com/").starts_with("HTTP/1.1 200"));
    let moved = "-o /dev/null -w '%{http_code} %{redirect_url}'";
    assert_eq!(
        ask(&format!("{moved} 'http://www.shop.example.com/a%20b?q=1&r=%22x'")),
        "308 https://www.shop.example.com/a%20b?q=1&r=%22x"
    );
    let page = ask(
        "-4 -H 'X-Forwarded-For: 6.6.6.6' -H 'X-Forwarded-Proto: http' -H 'Forwarded: for=6.6.6.6' https://shop.example.com/",
    );
    assert!(page.contains("x-forwarded-proto: https") && !page.contains("6.6.6.6"), "{page}");
    let own = bench.lab().outside_addresses().clients.iter().find(|a| a.is_ipv4()).unwrap().to_string();
    assert!(page.contains(&format!("x-forwarded-for: {own}\n")), "{page}");
    // A host that is nobody's, or of a site whose certificate was not shown, learns nothing about us.
    for url in ["https://shop.example.com/", "http://shop.example.com/"] {
        let said = ask(&format!("-i -H 'Host: evil.example' {url}"));
        assert!(said.lines().next().unwrap().contains(" 421"), "{said}");
        let low = said.to_lowercase();
        for word in ["haproxy", "nginx", "infra", "internal", "web1", "10.0.", "shop.example"] {
            assert!(!low.contains(word), "`{word}` in {said}");
        }
    }
    assert_eq!(code(bench, "outside", "-k https://shop.example.com/.well-known/infra/health"), "404");
    let raw = |request: &str, after: u32| {
        let script = format!(
            "{{ printf '{request}'; sleep {after}; }} | timeout 12 openssl s_client -quiet -connect 203.0.113.11:443 \
             -servername shop.example.com 2>/dev/null"
        );
        bench.sh("outside", &script).out
    };
    let twice = raw("GET / HTTP/1.1\\r\\nHost: shop.example.com\\r\\nHost: evil.example\\r\\n\\r\\n", 1);
    assert!(twice.starts_with("HTTP/1.1 400"), "{twice}");
    let smuggled = raw(
        "POST / HTTP/1.1\\r\\nHost: shop.example.com\\r\\nContent-Length: 5\\r\\nContent-Length: 6\\r\\n\\r\\nabcdef",
        1,
    );
    assert!(smuggled.starts_with("HTTP/1.1 400"), "{smuggled}");
    let slow = raw("GET / HTTP/1.1\\r\\nHost: shop.example.com\\r\\nX-Half", 8);
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    // For the logs: what would break a line of JSON.
    raw(
        "GET /%%22%%7d\\\"\\\\\\377?a=\\\"b\\\" HTTP/1.1\\r\\nHost: shop.example.com\\r\\nUser-Agent: a\\\"b\\\\c\\377\\r\\nConnection: close\\r\\n\\r\\n",
        1,
    );
    raw("nonsense\\r\\n\\r\\n", 1);
    ask("-A 'a\"b\\c' -e 'x\"y' 'https://shop.example.com/%22%5c%0a?q=%22'");
}

/// sslyze against Mozilla's guideline 6.0 (it ships 5.7, which allows more); it comes from `tests/run`, or stands on the path.
fn sslyze(bench: &Bench) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tests/sslyze/bin");
    let paths: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect();
    let found = std::iter::once(own).chain(paths).map(|folder| folder.join("sslyze")).find(|file| file.is_file());
    let Some(program) = found else {
        return skipped("lab_tls sslyze: it is not installed (python3 -m venv, pip install sslyze==6.3.1)");
    };
    let profile = bench.dir.path().join("intermediate.json");
    std::fs::write(&profile, intermediate().to_string()).unwrap();
    for (lb, address) in EDGES {
        let script = format!(
            "'{}' --custom_tls_config='{}' --certinfo_ca_file='{}' 'shop.example.com:443{{{address}}}' 2>&1",
            program.display(),
            profile.display(),
            bench.sites_ca().display()
        );
        let said = bench.sh("outside", &script);
        // With a bad configuration file of its own it prints an error and exits 0: only the words count.
        assert!(said.out.contains("OK - Compliant"), "{lb}: {}", said.out);
    }
}

/// The level «intermediate» of Mozilla's guideline 6.0 (ssl-config.mozilla.org/guidelines/6.0.json), in the words of sslyze.
fn intermediate() -> serde_json::Value {
    let (mut iana, mut openssl) = (Vec::new(), Vec::new());
    for cipher in ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"] {
        for key in ["ECDSA", "RSA"] {
            iana.push(format!("TLS_ECDHE_{key}_WITH_{cipher}"));
            let short = cipher.replace("AES_", "AES").replace("POLY1305_SHA256", "POLY1305").replace('_', "-");
            openssl.push(format!("ECDHE-{key}-{short}"));
        }
    }
    serde_json::json!({
        "tls_versions": ["TLSv1.2", "TLSv1.3"],
        "ciphersuites": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
        "ciphers": { "iana": iana, "openssl": openssl, "caddy": [], "go": [] },
        "tls_curves": ["X25519MLKEM768", "X25519", "prime256v1", "secp384r1"],
        "certificate_types": ["ecdsa", "rsa"],
        "certificate_curves": ["prime256v1", "secp384r1"],
        "certificate_signatures":
            ["sha256WithRSAEncryption", "ecdsa-with-SHA256", "ecdsa-with-SHA384", "ecdsa-with-SHA512"],
        "rsa_key_size": 2048,
        "ecdh_param_size": 256,
        "dh_param_size": 2048,
        "server_preferred_order": false,
        "hsts_min_age": 63_072_000,
        "recommended_certificate_lifespan": 90,
        "maximum_certificate_lifespan": 366,
        "ocsp_staple": true,
        "oldest_clients": [],
    })
}

/// The grade that testssl.sh gives one load balancer, where the site asks browsers to come by TLS for half a year: A+ needs that.
/// The options are all that a grade asks for. It comes from `tests/run`; what Debian 12 has gives no grades.
fn testssl(bench: &Bench) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tests/testssl");
    let program = own.join("usr/bin/testssl");
    if !program.is_file() {
        return skipped("lab_tls testssl.sh: it is not there (tests/run fetches the package of Debian 13)");
    }
    bench.edit("health: /healthz }", "health: /healthz }\n    hsts: 15552000");
    bench.apply().expect(0);
    let report = bench.dir.path().join("testssl.json");
    let script = format!(
        "cd '{}' && TESTSSL_INSTALL_DIR='{}' timeout 300 '{}' --quiet --color 0 --warnings off --ip 203.0.113.11 --add-ca '{}' \
         -p -s -f -S -h -U --jsonfile '{}' shop.example.com 2>&1",
        bench.dir.path().display(),
        own.join("etc/testssl").display(),
        program.display(),
        bench.sites_ca().display(),
        report.display()
    );
    let said = bench.sh("outside", &script);
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {}", said.out));
    let grade = findings.iter().find(|finding| finding["id"] == "overall_grade").map(|finding| &finding["finding"]);
    assert_eq!(grade.and_then(|grade| grade.as_str()), Some("A+"), "{}", said.out);
}

/// For `tests/run`, which lists it.
fn skipped(line: &str) {
    if let Some(file) = std::env::var_os("INFRA_TESTS_SKIPPED") {
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Whatever was asked so far, each line that was logged is one JSON object.
fn logs(bench: &Bench) {
    let of_haproxy = "journalctl -q -u haproxy -o cat --no-pager | grep '^{'";
    for (host, read) in [
        ("lb1", of_haproxy),
        ("lb2", of_haproxy),
        ("web1", "cat /var/log/nginx/access.log"),
        ("web2", "cat /var/log/nginx/access.log"),
        ("app1", "cat /var/log/nginx/access.log"),
    ] {
        let said = bench.sh(host, read).expect(0);
        let mut statuses = BTreeSet::new();
        for line in said.out.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{host}: {e}: {line}"));
            statuses.insert(value["status"].as_u64().unwrap());
        }
        assert!(statuses.contains(&200), "{host}: {statuses:?}");
    }
    let lb1 = bench.sh("lb1", of_haproxy).out;
    for status in ["\"status\":400", "\"status\":408"] {
        assert!(lb1.contains(status), "{status} on lb1");
    }
}

/// What the monitoring agent will ask is there for it alone.
fn metrics(bench: &Bench) {
    assert_eq!(code(bench, "lb1", "http://127.0.0.1:8405/metrics"), "200");
    assert_eq!(code(bench, "lb1", "http://127.0.0.1:8405/"), "404");
    for (place, address) in [("lb1", "10.0.1.11"), ("web1", "10.0.1.11"), ("outside", "203.0.113.11")] {
        let said = code(bench, place, &format!("--connect-timeout 2 http://{address}:8405/metrics"));
        assert!(said.starts_with("000/"), "{place}: {said}");
    }
}

/// One source that asks too much is told when to come back, and only that one.
fn limits(bench: &Bench) {
    bench.edit("certificates:", "edge: { limits: { requests: 2000 } }\ncertificates:");
    bench.apply().expect(0);
    let clients = &bench.lab().outside_addresses().clients;
    let v4 = clients.iter().find(|a| a.is_ipv4()).unwrap();
    let flood = "seq -f 'url = \"http://shop.example.com/%.0f\"' 1 2600 | \
                 sed 'a output = /dev/null' | curl -q -s -m 9 -w '%{http_code}\\n' --resolve shop.example.com:80:203.0.113.12 -K - | sort | uniq -c";
    let said = bench.sh("outside", flood);
    assert!(said.out.contains(" 308") && said.out.contains(" 429"), "from {v4}: {} {}", said.out, said.err);
    let ca = bench.sites_ca();
    let head = |more: &str| {
        let script =
            format!("curl -q -s -m 5 --cacert '{}' -o /dev/null -D - {more} https://shop.example.com/", ca.display());
        bench.sh("outside", &script).out.to_lowercase()
    };
    let to_lb2 = "--resolve shop.example.com:443:203.0.113.12";
    let refused = head(to_lb2);
    assert!(refused.starts_with("http/2 429") && refused.contains("\nretry-after: 10\r"), "{refused}");
    assert!(refused.contains("\nstrict-transport-security: "), "{refused}");
    // Another source is none of it.
    assert!(head("--resolve 'shop.example.com:443:[2001:db8:113::12]'").starts_with("http/2 200"));
    // And it is over soon after it has ended.
    wait("the limit is over", Duration::from_secs(25), || head(to_lb2).starts_with("http/2 200").then_some(()));
}

/// Asks each load balancer all the time, each time by a new connection and twice over a kept one, until told to stop;
/// gives how often, and what was no 200.
fn poll(bench: &Bench, ca: &Path, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut asked, mut bad) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        for (lb, address) in EDGES {
            let script = format!(
                "curl -q -sS -m 10 --cacert '{}' --resolve shop.example.com:443:{address} -o /dev/null -o /dev/null \
                 -o /dev/null -w '%{{http_code}}\\n' 'https://shop.example.com/poll[1-3]'",
                ca.display()
            );
            let said = bench.sh("outside", &script);
            asked += 3;
            if said.out != "200\n200\n200\n" {
                bad.push(format!("{lb}: {} {}", said.out.replace('\n', " "), said.err));
            }
        }
    }
    (asked, bad)
}

/// The certificate that a listener inside shows: its fingerprint and who signed it (the key identifier).
fn shown(bench: &Bench, host: &str, socket: &str, from: &str) -> (String, String) {
    let name = bench.site().internal_name(&host.parse().unwrap());
    let script = format!(
        "openssl s_client -connect '{socket}' -servername {name} -verify_hostname {name} -verify_return_error \
         -CAfile /etc/infra/ca.crt </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 -ext authorityKeyIdentifier"
    );
    let said = bench.sh(from, &script).expect(0);
    let (fingerprint, authority) = said.out.split_once('\n').unwrap();
    (fingerprint.to_owned(), authority.trim().to_owned())
}

/// Both of the edge, as seen from outside.
fn edges(bench: &Bench) -> Vec<String> {
    let one = |address: &str| {
        let script = format!(
            "openssl s_client -connect {address}:443 -servername shop.example.com -verify_return_error -CAfile '{}' \
             </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256",
            bench.sites_ca().display()
        );
        bench.sh("outside", &script).expect(0).out
    };
    EDGES.iter().map(|(_, address)| one(address)).collect()
}

#[test]
fn certificates_and_their_authority_change_while_somebody_watches() {
    let bench = Bench::applied("t-tls-turn");
    let (site, now) = (bench.site(), OffsetDateTime::now_utc());
    let all = || INNER.map(|(host, socket, from)| shown(&bench, host, socket, from));
    let (first, edge) = (all(), edges(&bench));
    let (stop, ca) = (AtomicBool::new(false), bench.dir.path().join("poll-ca.crt"));
    std::fs::copy(bench.sites_ca(), &ca).unwrap();
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| poll(&bench, &ca, &stop));
        let guard = Stop(&stop);
        // Nothing is left to do before; then the leaves are such that were made 41 of their 60 days ago.
        bench.apply().expect(0);
        let then = tempfile::tempdir().unwrap();
        std::fs::create_dir(then.path().join("pki")).unwrap();
        std::fs::copy(site.state.join("pki/authorities.json"), then.path().join("pki/authorities.json")).unwrap();
        pki::ensure(&site, then.path(), now - days(41)).unwrap();
        std::fs::copy(then.path().join("pki/leaves.json"), site.state.join("pki/leaves.json")).unwrap();
        let said = bench.apply().expect(0);
        assert!(said.out.contains("6 hosts changed"), "{}", said.out);
        let renewed = all();
        for (old, new) in first.iter().zip(&renewed) {
            assert!(old.0 != new.0 && old.1 == new.1, "the same authority, another leaf: {old:?} {new:?}");
        }
        for (old, new) in edge.iter().zip(edges(&bench)) {
            assert_ne!(*old, new);
        }
        let edge = edges(&bench);

        // The authority of the hops: all trust the new one, then all show its leaves, then all forget the old one.
        let bundle = |n: usize| {
            for host in ["lb1", "lb2", "web1", "web2", "app1", "app2"] {
                let count = bench.sh(host, "grep -c BEGIN /etc/infra/ca.crt").expect(0).out;
                assert_eq!(count.trim(), n.to_string(), "{host}");
            }
        };
        bundle(1);
        // A worker that serves on with the old one alone, as it still answers somebody slow, holds the next step up.
        let slow = Slow::start(&bench, &ca);
        bench.edit("\nfirewall:", "\ndrain: 1s\n\nfirewall:");
        pki::start_rotation(&site, &site.state, now).unwrap();
        for changes in [true, false] {
            let said = bench.apply().expect(0);
            assert_eq!(said.out.contains("nothing to do"), !changes, "{}", said.out);
            let waits = "the replacement of the internal authority waits";
            assert!(said.err.contains(waits) && said.err.contains("lb1: 1 former worker of haproxy"), "{}", said.err);
            bundle(2);
            assert_eq!(all(), renewed, "the old authority signs until all trust the new one");
        }
        drop(slow);
        bench.edit("\ndrain: 1s\n", "\ndrain: 1m\n");
        assert!(bench.apply().expect(0).out.contains("nothing to do"));
        bench.apply().expect(0);
        bundle(2);
        let turned = all();
        for (old, new) in renewed.iter().zip(&turned) {
            assert!(old.0 != new.0 && old.1 != new.1, "another authority, another leaf: {old:?} {new:?}");
        }
        bench.apply().expect(0);
        bundle(1);
        assert_eq!(all(), turned);
        assert_eq!(edges(&bench), edge, "the public names have another authority");
        let said = bench.apply().expect(0);
        assert!(said.out.contains("nothing to do"), "{}", said.out);
        drop(guard);
        let (asked, bad) = poller.join().unwrap();
        assert!(bad.is_empty(), "of {asked} requests: {bad:#?}");
        assert!(asked > 100, "only {asked} requests");
    });
}

/// Somebody to whom the first load balancer sends a large file, slowly, until the value is dropped.
struct Slow(std::process::Child);

impl Slow {
    fn start(bench: &Bench, ca: &Path) -> Self {
        for web in ["web1", "web2"] {
            // Far more than the kernels on the way take off a worker's hands.
            bench.sh(web, "mkdir -p /srv/shop/public && truncate -s 400M /srv/shop/public/large").expect(0);
        }
        let got = bench.dir.path().join("large");
        let script = format!(
            "exec curl -q -sS --http1.1 --limit-rate 30k --cacert '{}' --resolve shop.example.com:443:203.0.113.11 \
             -o '{}' https://shop.example.com/static/large",
            ca.display(),
            got.display()
        );
        let mut command = bench.lab().command(&Target::Outside, ["sh", "-c", &script]).unwrap();
        let slow = Self(command.stdin(Stdio::null()).spawn().unwrap());
        wait("the first part of a file", Duration::from_secs(10), || {
            std::fs::metadata(&got).is_ok_and(|file| file.len() > 0).then_some(())
        });
        slow
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the poller also where an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

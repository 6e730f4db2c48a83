//! A site that says everything that a site can say, in front of `program.py`: takes hosts of a release, has every file accepted by its
//! daemons, and asks for each key what it is to do.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use infra::inventory::manual::Manual;
use infra::inventory::site::Site;
use infra::plan::state::Facts;
use serde_json::Value;

use super::tiers::Tiers;
use super::twin::{text, wait};

const INVENTORY: &str = include_str!("../fixtures/every-key.yml");
const PROGRAM: &str = include_str!("program.py");

/// The keys of a site that the schema knows and the inventory does not say, as `auth.realm`.
pub fn unsaid() -> Vec<String> {
    let schema = Manual::read().unwrap().schema();
    let said: Value = serde_yaml::from_str(INVENTORY).unwrap();
    let sites: Vec<&Value> = said["sites"].as_object().unwrap().values().collect();
    let mut unsaid = Vec::new();
    compare("", &schema["properties"]["sites"]["additionalProperties"], &sites, &mut unsaid);
    unsaid
}

/// One value, or a list of such: the schema has the properties of either.
fn compare(path: &str, schema: &Value, said: &[&Value], unsaid: &mut Vec<String>) {
    let said: Vec<&Value> =
        said.iter().flat_map(|one| one.as_array().map_or(vec![*one], |all| all.iter().collect())).collect();
    if schema["items"].is_object() {
        compare(path, &schema["items"], &said, unsaid);
    }
    // The site itself chooses these names.
    if ["headers", "pages"].contains(&path) {
        return;
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let there: Vec<&Value> = said.iter().filter_map(|one| one.get(key)).collect();
        if there.is_empty() && !unsaid.contains(&path) {
            unsaid.push(path);
        } else {
            compare(&path, inner, &there, unsaid);
        }
    }
}

fn sh(folder: &Path, script: &str) {
    let out = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
}

/// The inventory with all files that it names, in `folder`.
pub fn site(folder: &Path) -> Site {
    for (name, words) in [("404.html", "<p>not here</p>\n"), ("closed.html", "<p>closed</p>\n")] {
        std::fs::write(folder.join(name), words).unwrap();
    }
    sh(
        folder,
        "printf 'ops:%s\\n' \"$(openssl passwd -6 'of ops')\" >users.htpasswd
         new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -batch'
         $new -x509 -keyout ca.key -out ca.pem -subj '/CN=A company' -days 300 -addext basicConstraints=critical,CA:true \
             -addext keyUsage=critical,keyCertSign,cRLSign
         $new -keyout shop.key -out shop.csr -subj '/CN=shop.example.com'
         printf '%s\\n' 'subjectAltName=DNS:shop.example.com,DNS:www.shop.example.com' extendedKeyUsage=serverAuth \
             keyUsage=critical,digitalSignature basicConstraints=critical,CA:false >extensions
         openssl x509 -req -in shop.csr -CA ca.pem -CAkey ca.key -set_serial 4711 -days 200 -extfile extensions -out shop.pem",
    );
    let read = infra::inventory::load::load_text(INVENTORY, &folder.join("inventory.yml"));
    let (site, _) = read.unwrap_or_else(|errors| panic!("{}", infra::base::diagnostic::draw(&errors, false)));
    Site { state: folder.join("state"), ..site }
}

/// All of it on hosts of which `facts` are known, with the programs of `tree`, if that is another release's than this machine's.
///
/// # Panics
/// Where a daemon refuses a file, warns of one, or a key does not do what it is to do.
pub fn every_key(tree: Option<&Path>, facts: &Facts) {
    assert_eq!(unsaid(), Vec::<String>::new(), "keys that tests/fixtures/every-key.yml does not say");
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let tiers = Tiers::start_on(
        site,
        tree,
        |_| facts.clone(),
        |twin, app| {
            twin.put(app, "/run/program.py", PROGRAM);
            for port in if app == "app2" { &[8080, 8081][..] } else { &[8080] } {
                let begin =
                    format!("WHO={app} setsid -f python3 /run/program.py {port} >/run/program.log 2>&1 </dev/null");
                assert!(twin.run(app, &begin).status.success());
                let ask = format!("curl -q -s -m 5 http://127.0.0.1:{port}/healthz");
                let asked = wait(Duration::from_secs(30), || twin.run(app, &ask).status.success().then_some(()));
                assert!(asked.is_some(), "{}", text(&twin.run(app, "cat /run/program.log")));
            }
        },
    );
    accepted(&tiers);
    asked(&tiers, &folder.path().join("ca.pem"));
}

/// Every check of every host holds, without a warning: that of today is an error of the next version.
fn accepted(tiers: &Tiers) {
    let mut refused = Vec::new();
    for (host, wanted) in &tiers.desired {
        // Ports are taken: by what is asked next.
        for check in wanted.checks.iter().filter(|check| ["haproxy -c", "nginx -t"].contains(&check.title.as_str())) {
            let out = tiers.twin.run(host.as_str(), &check.command);
            let words = text(&out);
            if !out.status.success() || words.contains("WARNING") || words.contains("[warn]") {
                refused.push(format!("{host}: {}: {words}", check.title));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The daemons as they name themselves.
pub fn daemons(tiers: &Tiers) -> BTreeSet<String> {
    let ask = "haproxy -v 2>&1 | grep -oE '^HAProxy version [0-9.]+'; nginx -v 2>&1";
    ["lb1", "web1", "app1"]
        .iter()
        .flat_map(|host| text(&tiers.twin.run(host, ask)).lines().map(ToOwned::to_owned).collect::<Vec<_>>())
        .collect()
}

fn asked(tiers: &Tiers, ca: &Path) {
    for line in daemons(tiers) {
        eprintln!("  {line}");
    }
    for web in ["web1", "web2"] {
        for (path, body) in [("app/index.html", "<p>the page"), ("app/a.js", "1")] {
            tiers.twin.put(web, &format!("/srv/{path}"), body);
        }
    }
    let body = tiers.twin.shared().join("body");
    std::fs::write(&body, vec![b'b'; (300 << 10) + 1]).unwrap();
    let ask = |args: &str| {
        let said = tiers.edge(&format!("--http1.1 -i -m 20 --cacert {} {args}", ca.display())).replace("\r\n", "\n");
        said.strip_prefix("HTTP/1.1 100 Continue\n\n").map_or(said.clone(), ToOwned::to_owned)
    };
    let shop = |path: &str| format!("https://shop.example.com{path}");
    for (key, args, status, words) in [
        (
            "aliases, redirect",
            "https://www.shop.example.com/a?b".to_owned(),
            308,
            "location: https://shop.example.com/a?b\n",
        ),
        ("static", shop("/static/x.txt"), 200, "\n\nstatic file\n"),
        ("static.spa", shop("/app/users/12"), 200, "\n\n<p>the page"),
        ("static.cache", shop("/app/a.js"), 200, "cache-control: private, max-age=1200\n"),
        ("app.port", shop("/who"), 200, "\n\n8080 app"),
        ("app.path, app.hosts", shop("/api/who"), 200, "\n\n8081 app2 "),
        (
            "app.compress",
            format!("-H 'Accept-Encoding: gzip' -o /dev/null -D - {}", shop("/text?9000")),
            200,
            "content-encoding: gzip\n",
        ),
        (
            "compress",
            format!("-H 'Accept-Encoding: gzip, br' -o /dev/null -D - {}", shop("/text?9000")),
            200,
            "content-encoding: br\n",
        ),
        ("auth.realm", shop("/admin/who"), 401, "www-authenticate: basic realm=\"the shop's own\"\n"),
        ("auth.users", format!("-u 'ops:of ops' {}", shop("/admin/who")), 200, "\n\n8080 app"),
        ("sticky", shop("/who"), 200, "set-cookie: infra_to_8080="),
        ("timeouts.response", shop("/slow?5"), 504, ""),
        ("timeouts.idle", format!("-H 'Accept: text/event-stream' {}", shop("/slow?5")), 200, "at last\n"),
        ("body", format!("-H Expect: --data-binary @{} {}", body.display(), shop("/sink")), 413, ""),
        ("hsts", shop("/"), 200, "strict-transport-security: max-age=63072000; includesubdomains; preload\n"),
        ("headers", shop("/"), 200, "x-shop: a; b\n"),
        ("pages", shop("/static/none"), 404, "\n\n<p>not here</p>\n"),
    ] {
        let said = ask(&args).to_lowercase();
        assert!(said.starts_with(&format!("http/1.1 {status} ")) && said.contains(words), "{key}: {args}: {said}");
        assert!(!said.contains("x-infra") && !said.contains("\nserver:"), "{key}: {said}");
    }
    let gone = ask(&shop("/says?X-Program=secret")).to_lowercase();
    assert!(!gone.contains("x-program"), "headers: null: {gone}");
    // Closed for all but those that are named.
    let from_web = "curl -q -s -m 5 -i --http1.1 --noproxy '*' -k --resolve shop.example.com:443:10.0.1.11 https://shop.example.com/who";
    let closed = text(&tiers.twin.run("web1", from_web)).replace("\r\n", "\n").to_lowercase();
    for words in ["http/1.1 503 ", "\nretry-after: 1800\n", "\n\n<p>closed</p>\n"] {
        assert!(closed.contains(words), "maintenance: {closed}");
    }
    // Which certificate is shown, and the kind of its key.
    let shown = |name: &str| {
        let ask = format!(
            "openssl s_client -connect 10.0.1.11:443 -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -issuer -text | \
             grep -E '^issuer=|Public Key Algorithm'"
        );
        text(&tiers.twin.outside(&ask))
    };
    let (shop, docs) = (shown("shop.example.com"), shown("docs.example.org"));
    assert!(shop.contains("A company") && shop.contains("id-ecPublicKey"), "certificate: {shop}");
    assert!(!docs.contains("A company") && docs.contains("rsaEncryption"), "key: {docs}");
}

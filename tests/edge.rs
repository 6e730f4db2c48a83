//! What real applications send and get comes through all tiers as it is: heads, streams, redirects, types, names. Real daemons on a
//! private bridge, in front of `common/program.py`.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::tiers::Tiers;
use common::twin::{OUTSIDE, text, wait};
use infra::base::net::Port;
use infra::inventory::site::{Auth, ClientAddress, Compression, Edge, EdgeLimits, Manner, SecretRef};

const PROGRAM: &str = include_str!("common/program.py");

/// The tiers, and the folder that their certificates are in.
fn start(change: impl FnOnce(&mut infra::inventory::site::Site)) -> (Tiers, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let mut site = common::three_tier(&state.path().join("state"));
    change(&mut site);
    let of_host = |host: &infra::inventory::site::Host| site.programs_on(host).into_keys().map(Port::get).collect();
    let ports: BTreeMap<String, Vec<u16>> = site.hosts.values().map(|h| (h.name.to_string(), of_host(h))).collect();
    let tiers = Tiers::start(site, |twin, app| {
        twin.put(app, "/run/program.py", PROGRAM);
        for port in &ports[app] {
            let begin = format!("WHO={app} setsid -f python3 /run/program.py {port} >/run/program.log 2>&1 </dev/null");
            let out = twin.run(app, &begin);
            assert!(out.status.success(), "{}", text(&out));
            let ask = format!("curl -q -s -m 5 http://127.0.0.1:{port}/healthz");
            let asked = wait(Duration::from_secs(30), || twin.run(app, &ask).status.success().then_some(()));
            assert!(asked.is_some(), "{}", text(&twin.run(app, "cat /run/program.log")));
        }
    });
    (tiers, state)
}

/// What an inventory says of a site with these lines, whose pages are in `folder`.
fn manner(folder: &std::path::Path, lines: &str) -> Manner {
    let text = format!(
        "name: shop\nhosts:\n  one: {{ address: 10.0.1.11, roles: [lb, web, app], allow_mixed_roles: a test }}\n\
         firewall: {{ manage_from: [10.0.0.0/24] }}\ncertificates: {{ issuer: internal }}\nsites:\n  shop.example.com:\n    \
         aliases: [www.shop.example.com]\n    app: {{ port: 8080, health: /healthz }}\n{lines}"
    );
    let read = infra::inventory::load::load_text(&text, &folder.join("inventory.yml"));
    let (site, _) = read.unwrap_or_else(|errors| panic!("{}", infra::base::diagnostic::draw(&errors, false)));
    site.sites.into_values().next().unwrap().manner
}

/// Tiers of which the shop answers as these lines say.
fn start_with(lines: &str, pages: &[(&str, &str)]) -> (Tiers, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in pages {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let manner = manner(folder.path(), lines);
    start(|site| site.sites.get_mut(&"shop.example.com".parse().unwrap()).unwrap().manner = manner)
}

/// Asks the load balancer; gives the status, the head in lower-case names, and the body.
fn asked(tiers: &Tiers, args: &str) -> (String, String) {
    let answer = tiers.edge(&format!("-i -m 20 {args}"));
    // What is said beforehand is not the answer.
    let whole = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    let (head, body) = whole.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{args}: {answer}"));
    let head = head.lines().enumerate().map(|(at, line)| match line.split_once(':') {
        Some((name, value)) if at > 0 => format!("{}:{value}\n", name.to_ascii_lowercase()),
        _ => format!("{line}\n"),
    });
    (head.collect(), body.to_owned())
}

/// All access and error logs of a tier's daemons.
fn logs(tiers: &Tiers, hosts: &[&str]) -> String {
    let read = "cat /var/log/nginx/access.log /var/log/nginx/error.log";
    hosts.iter().map(|host| text(&tiers.twin.run(host, read))).collect()
}

#[test]
fn heads_have_one_budget_on_all_tiers() {
    let (tiers, _state) = start(|_| ());
    let code = |args: &str| tiers.edge(&format!("-o /dev/null -w '%{{http_code}}' {args}"));
    // Arguments of a program have an end; a file has none.
    let file = tiers.twin.shared().join("head");
    let with_head = |version: &str, line: &str| {
        std::fs::write(&file, line).unwrap();
        code(&format!("{version} -H @{} https://shop.example.com/told", file.display()))
    };
    let with_url = |version: &str, bytes: usize| {
        std::fs::write(&file, format!("url = \"https://shop.example.com/told?{}\"\n", "u".repeat(bytes))).unwrap();
        code(&format!("{version} -K {}", file.display()))
    };
    let cookies = |version: &str, bytes: usize| code(&format!("{version} 'https://shop.example.com/cookies?{bytes}'"));
    for version in ["--http1.1", "--http2"] {
        for bytes in [4_200, 8_300, 17_000, 31_000] {
            assert_eq!(
                with_head(version, &format!("Cookie: c={}\n", "c".repeat(bytes))),
                "200",
                "{version} cookie {bytes}"
            );
            assert_eq!(with_url(version, bytes), "200", "{version} URL {bytes}");
            assert_eq!(cookies(version, bytes), "200", "{version} Set-Cookie {bytes}");
        }
        let many = (0..90).map(|n| format!("X-Many-{n}: {}\n", "m".repeat(320))).collect::<Vec<_>>().concat();
        assert_eq!(with_head(version, &many), "200", "{version} many lines");
        for bytes in [34_000, 50_000] {
            assert_eq!(
                with_head(version, &format!("Cookie: c={}\n", "c".repeat(bytes))),
                "431",
                "{version} cookie {bytes}"
            );
            assert_eq!(with_url(version, bytes), "414", "{version} URL {bytes}");
            assert_eq!(cookies(version, bytes), "502", "{version} Set-Cookie {bytes}");
        }
        assert_eq!(cookies(version, 90_000), "502", "{version} more than any tier takes");
    }
    let why = logs(&tiers, &["web1", "web2", "app1", "app2"]);
    assert!(why.contains(r#""why":"the head of its answer is over 64 KB""#), "{why}");
}

#[test]
fn an_answer_flows_as_the_program_sends_it() {
    let (tiers, _state) = start(|_| ());
    for version in ["--http1.1", "--http2"] {
        for (path, first, last) in [("/events", "data: 0", "data: 1"), ("/chunks", "part 0", "part 1")] {
            for app in ["app1", "app2"] {
                assert!(tiers.twin.run(app, "rm -f /run/go").status.success());
            }
            let seen = tiers.twin.shared().join("seen");
            std::fs::write(&seen, "").unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    tiers.edge(&format!("{version} -N -m 60 -o {} https://shop.example.com{path}", seen.display()))
                });
                let read = || std::fs::read_to_string(&seen).unwrap();
                // The program sends no more before it is told to, which it is only after this has come.
                let came = wait(Duration::from_secs(20), || read().contains(first).then_some(()));
                for app in ["app1", "app2"] {
                    assert!(tiers.twin.run(app, "touch /run/go").status.success());
                }
                assert!(came.is_some(), "{version} {path}: {}", read());
                let ended = wait(Duration::from_secs(20), || read().contains(last).then_some(()));
                assert!(ended.is_some(), "{version} {path}: {}", read());
            });
        }
    }
}

#[test]
fn what_a_visitor_is_told_is_of_the_public_side() {
    let (tiers, _state) = start(|_| ());
    for web in ["web1", "web2"] {
        for (path, body) in [
            ("/srv/shop/public/sub/index.html", "sub"),
            ("/srv/docs/guide/index.html", "guide"),
            ("/srv/docs/guide/a.mjs", "export {}"),
            ("/srv/docs/guide/app.webmanifest", "{}"),
            ("/srv/docs/guide/b.js", ""),
            ("/srv/docs/guide/c.css", ""),
            ("/srv/docs/guide/d.woff2", ""),
            ("/srv/docs/guide/e.avif", ""),
            ("/srv/docs/guide/f.wasm", ""),
            ("/srv/docs/guide/g.json", "{}"),
            ("/srv/docs/empty/other.txt", "-"),
        ] {
            tiers.twin.put(web, path, body);
        }
    }
    let location =
        |url: &str| tiers.edge(&format!("-o /dev/null -D - '{url}' | sed -n '1p; s/^[Ll]ocation: //p' | tr -d '\\r'"));
    for (url, status, to) in [
        ("https://shop.example.com/static/sub?x=1", "301", "/static/sub/?x=1"),
        ("https://docs.example.org/guide", "301", "/guide/"),
        ("https://shop.example.com/says?Location=http%3A%2F%2F127.0.0.1%3A8080%2Fafter", "200", "/after"),
        (
            "https://shop.example.com/says?Location=https%3A%2F%2Fshop.example.com%2Fafter",
            "200",
            "https://shop.example.com/after",
        ),
    ] {
        let said = location(url);
        assert!(said.contains(status) && said.ends_with(&format!("\n{to}\n")), "{url}: {said}");
    }
    let code = |url: &str| tiers.edge(&format!("-o /dev/null -w '%{{http_code}}' '{url}'"));
    assert_eq!(tiers.edge("https://docs.example.org/guide/"), "guide");
    assert_eq!(code("https://docs.example.org/empty/"), "404");
    assert_eq!(code("https://docs.example.org/missing"), "404");
    let media = |url: &str| tiers.edge(&format!("-o /dev/null -w '%{{content_type}}' '{url}'"));
    for (name, kind) in [
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("b.js", "text/javascript; charset=utf-8"),
        ("c.css", "text/css; charset=utf-8"),
        ("", "text/html; charset=utf-8"),
        ("app.webmanifest", "application/manifest+json"),
        ("d.woff2", "font/woff2"),
        ("e.avif", "image/avif"),
        ("f.wasm", "application/wasm"),
        ("g.json", "application/json"),
    ] {
        assert_eq!(media(&format!("https://docs.example.org/guide/{name}")), kind, "{name}");
    }
    // What the program says of its own is left as it is.
    for kind in ["text/html", "text/html; charset=iso-8859-1", "text/plain", "application/javascript"] {
        assert_eq!(media(&format!("https://shop.example.com/type?{}", kind.replace(' ', ""))), kind.replace(' ', ""));
    }
    // The stronger word of both stays.
    let hsts = |value: &str| {
        let ask = format!("-o /dev/null -D - 'https://shop.example.com/says?Strict-Transport-Security={value}'");
        let head = tiers.edge(&format!("{ask} | sed -n 's/^strict-transport-security: //p' | tr -d '\\r'"));
        head.trim_end().to_owned()
    };
    for (theirs, both) in [
        ("", "max-age=300"),
        ("max-age%3D100", "max-age=300"),
        ("max-age%3D63072000", "max-age=63072000"),
        ("max-age%3D%2263072000%22", "max-age=63072000"),
        ("max-age%3D63072000%3B%20includeSubDomains%3B%20preload", "max-age=63072000; includeSubDomains; preload"),
        ("includeSubDomains%3B%20max-age%3D0", "max-age=300; includeSubDomains"),
        ("nonsense", "max-age=300"),
        ("max-age%3D99999999999999999999", "max-age=300"),
    ] {
        assert_eq!(hsts(theirs), both, "{theirs}");
    }
}

#[test]
fn a_name_belongs_to_the_site_that_says_it_best() {
    let (tiers, _state) = start(|site| {
        // Wildcards that hold for exact names of other sites, before them and behind them in order.
        let name = "docs.example.org".parse().unwrap();
        let docs = site.sites.get_mut(&name).unwrap();
        docs.aliases.push("*.example.com".parse().unwrap());
        docs.manner.hsts.max_age = 500;
    });
    let age = |host: &str| {
        let head = tiers.edge(&format!("-o /dev/null -D - --resolve '{host}:443:10.0.1.11' 'https://{host}/'"));
        head.lines()
            .find_map(|line| line.strip_prefix("strict-transport-security: "))
            .map(|line| line.trim().to_owned())
    };
    assert_eq!(age("shop.example.com").as_deref(), Some("max-age=300"));
    assert_eq!(age("www.shop.example.com").as_deref(), Some("max-age=300"));
    assert_eq!(age("other.example.com").as_deref(), Some("max-age=500"));
    assert_eq!(age("a.docs.example.org").as_deref(), Some("max-age=500"));
    let code = |args: &str| tiers.edge(&format!("-o /dev/null -w '%{{http_code}}' {args}"));
    assert_eq!(code("--resolve a.b.example.com:443:10.0.1.11 -k https://a.b.example.com/"), "000", "two labels");
    // A name as other programs write it.
    for host in ["SHOP.example.COM", "shop.example.com.", "shop.example.com:443", "Shop.Example.Com.:443"] {
        for version in ["--http1.1", "--http2"] {
            assert_eq!(
                code(&format!("{version} -H 'Host: {host}' https://shop.example.com/")),
                "200",
                "{version} {host}"
            );
        }
        let plain =
            tiers.edge(&format!("-o /dev/null -w '%{{redirect_url}}' -H 'Host: {host}' http://shop.example.com/a"));
        assert_eq!(plain, "https://shop.example.com/a", "{host}");
    }
}

#[test]
fn a_site_has_as_many_names_as_it_likes() {
    let (tiers, _state) = start(|site| {
        let name = "docs.example.org".parse().unwrap();
        let aliases = (0..300).map(|n| format!("a-name-that-is-rather-long-{n}.example.org").parse().unwrap());
        site.sites.get_mut(&name).unwrap().aliases.extend(aliases);
    });
    for n in [0, 150, 299] {
        let host = format!("a-name-that-is-rather-long-{n}.example.org");
        assert_eq!(tiers.edge(&format!("--resolve {host}:443:10.0.1.11 https://{host}/")), "the docs\n");
    }
}

#[test]
fn what_stands_behind_a_question_mark_is_in_no_log() {
    let (tiers, _state) = start(|_| ());
    let all = ["lb1", "lb2", "web1", "web2", "app1", "app2"];
    let code = |args: &str| {
        tiers.edge(&format!("-o /dev/null -w '%{{http_code}}' -e 'https://shop.example.com/?from=marked' {args}"))
    };
    assert_eq!(code("'https://shop.example.com/told?token=marked'"), "200");
    assert_eq!(code("'https://shop.example.com/close?token=marked'"), "502");
    assert_eq!(code("'https://shop.example.com/cookies?90000&token=marked'"), "502");
    assert_eq!(code("'https://shop.example.com/static/missing?token=marked'"), "404");
    assert_eq!(code("'https://docs.example.org/missing?token=marked'"), "404");
    for app in ["app1", "app2"] {
        assert!(tiers.twin.run(app, "pkill -f /run/program.py").status.success());
    }
    assert_eq!(code("'https://shop.example.com/told?token=marked'"), "502");
    for app in ["app1", "app2"] {
        assert!(tiers.twin.run(app, "nginx -s stop").status.success());
    }
    // The load balancer's own 503 comes where the web host's health asks nobody else.
    let seen =
        wait(Duration::from_secs(20), || (code("'https://shop.example.com/told?token=marked'") == "502").then_some(()));
    assert!(seen.is_some());
    let said = logs(&tiers, &all);
    assert!(!said.contains("marked"), "{said}");
    for why in ["it closed the connection", "no connection over verified TLS"] {
        assert!(said.contains(&format!("\"why\":\"{why}\"")), "{why}: {said}");
    }
}

#[test]
fn headers_with_an_underscore_come_through_but_not_in_our_name() {
    let (tiers, _state) = start(|_| ());
    let told = tiers.edge(
        "-H 'api_key: k1' -H 'X_Forwarded_For: 6.6.6.6' -H 'x_forwarded-proto: http' -H 'X-Forwarded_Host: evil' -H 'X_Real_IP: 6.6.6.6' \
         -H 'x_real-ip: 6.6.6.6' -H 'X_Request_ID: 6' -H 'X_Infra_Probe: yes' https://shop.example.com/told",
    );
    assert!(told.contains("api_key: k1"), "{told}");
    for evil in ["6.6.6.6", "evil", ": http\n", "X_Request", "nfra"] {
        assert!(!told.contains(evil), "{evil}: {told}");
    }
}

/// A request to speak by websocket with what stands at a path.
fn websocket(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[test]
fn a_path_leads_to_its_program_and_no_other() {
    let (tiers, _state) = start(|site| {
        let mut api = common::program("/api/", 8081);
        api.hosts.insert("app2".parse().unwrap());
        let deep = common::program("/api/v2/", 8082);
        let shop = site.sites.get_mut(&"shop.example.com".parse().unwrap()).unwrap();
        shop.programs.extend([api.clone(), deep]);
        shop.files.push(common::folder("/srv/docs", "/api/docs/"));
        // One program serves two sites, on the second beside files that have all other paths.
        site.sites.get_mut(&"docs.example.org".parse().unwrap()).unwrap().programs.push(api);
    });
    let ask = |url: &str| tiers.edge(&format!("--path-as-is 'https://{url}'"));
    for _ in 0..3 {
        for (url, said) in [
            ("shop.example.com/who", "8080 app"),
            ("shop.example.com/a/who", "8080 app"),
            ("shop.example.com/apis/who", "8080 app"),
            ("shop.example.com/API/who", "8080 app"),
            ("shop.example.com/api/who", "8081 app2"),
            ("shop.example.com/api//who", "8081 app2"),
            ("shop.example.com/%61pi/who", "8081 app2"),
            ("shop.example.com/x/../api/who", "8081 app2"),
            ("shop.example.com/api/../who", "8080 app"),
            ("shop.example.com/api/v2/who", "8082 app"),
            ("shop.example.com/api/v2%2Fwho/../who", "8082 app"),
            ("docs.example.org/api/who", "8081 app2"),
            ("a.docs.example.org/api/.x/who", "8081 app2"),
        ] {
            let (answer, path) = (ask(url), url.split_once('/').unwrap().1);
            assert!(answer.starts_with(said) && answer.ends_with(&format!(" /{path}\n")), "{url}: {answer}");
        }
    }
    let code = |url: &str| tiers.edge(&format!("-o /dev/null -w '%{{http_code}}' 'https://{url}'"));
    // The path without its last slash is the program's own too; all of this program's answers are `well`.
    assert_eq!(ask("shop.example.com/api"), "well\n");
    for (url, answer) in [
        ("shop.example.com/static/x.txt", "static file\n"),
        ("shop.example.com/api/docs/", "the docs\n"),
        ("docs.example.org/", "the docs\n"),
    ] {
        assert_eq!(ask(url), answer, "{url}");
    }
    for url in ["docs.example.org/who", "shop.example.com/.well-known/infra/health/api", "shop.example.com/static/.env"]
    {
        assert_eq!(code(url), "404", "{url}");
    }
    for path in ["", "/api", "/api/v2"] {
        let ask = format!(
            "curl -q -s -m 5 -o /dev/null -w '%{{http_code}}' --cacert /etc/infra/sites-ca.crt \
             --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/.well-known/infra/health{path}"
        );
        assert_eq!(text(&tiers.twin.run("lb1", &ask)), "200", "{path}");
    }
    let answer = tiers.raw("http/1.1", &[(websocket("/api/v2/ws").as_bytes(), "101 "), (b"said back", "said back")]);
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("said back"), "{answer}");
    // A program that stands still takes no other with it.
    assert!(tiers.twin.run("app2", "pkill -f 'program.py 8081'").status.success());
    assert_eq!(code("shop.example.com/api/who"), "502");
    assert_eq!(code("shop.example.com/api/v2/who"), "200");
}

#[test]
fn static_files_are_kept_compressed_and_led_to_their_page() {
    let (tiers, _state) = start(|site| {
        let shop = site.sites.get_mut(&"shop.example.com".parse().unwrap()).unwrap();
        shop.programs[0].compress = true;
        let mut app = common::folder("/srv/app", "/app/");
        app.spa = true;
        shop.files.push(app);
        let docs = site.sites.get_mut(&"docs.example.org".parse().unwrap()).unwrap();
        docs.files[0].cache = None;
        docs.files[0].spa = true;
        docs.programs.push(common::program("/api/", 8080));
    });
    let text = "let a = 1;\n".repeat(500);
    for web in ["web1", "web2"] {
        for (path, body) in [
            ("index.html", "<p>the page"),
            ("sub/index.html", "<p>the page of a folder"),
            ("js/plain.js", &text),
            ("js/app.3f9ab2c1.js", &text),
            ("js/index-BxY12abc.js", &text),
            ("js/chunk-QJ2XW7AB.js.map", "{}"),
            ("js/settings.js", "1"),
            ("js/app-settings.js", "1"),
            ("js/report-20240131.js", "1"),
            ("js/jquery-3.7.1.min.js", "1"),
            ("js/photo-1234567890.png", "1"),
            ("js/hero-Version2.css", "1"),
            ("js/page-3f9ab2c1.html", "<p>hashed"),
            ("js/packed.css", &text),
        ] {
            tiers.twin.put(web, &format!("/srv/app/{path}"), body);
        }
        // Both hosts have the same file of the same time, as a release puts it there.
        let same = "cd /srv/app/js && echo beside | gzip >packed.css.gz && touch -d 2026-01-01 *";
        assert!(tiers.twin.run(web, same).status.success());
    }
    let head = |args: &str| tiers.edge(&format!("-o /dev/null -D - {args}")).to_lowercase().replace('\r', "");
    let url = |path: &str| format!("https://shop.example.com/app/{path}");
    // Paths of the program in the browser are its page; a missing file is none, nor is what a program has.
    for path in ["", "users", "users/12", "users/12/", "a.b/c", "js/"] {
        assert_eq!(tiers.edge(&url(path)), "<p>the page", "{path}");
        assert!(head(&url(path)).contains("cache-control: no-cache\n"), "{path}");
    }
    assert_eq!(tiers.edge(&url("sub/")), "<p>the page of a folder");
    assert!(head(&url("sub")).contains("location: /app/sub/\n"));
    let code = |args: &str| tiers.edge(&format!("-o /dev/null -w '%{{http_code}}' {args}"));
    for path in ["missing.js", "js/missing.3f9ab2c1.js", ".env", "sub/.git/config"] {
        assert_eq!(code(&url(path)), "404", "{path}");
    }
    assert_eq!(code("https://docs.example.org/any/path"), "200");
    assert!(tiers.edge("https://docs.example.org/api/who").starts_with("8080 app"));
    assert_eq!(code(&format!("-X POST {}", url("users"))), "405");
    // How long they are kept.
    for (path, kept) in [
        ("js/app.3f9ab2c1.js", "public, max-age=31536000, immutable"),
        ("js/index-BxY12abc.js", "public, max-age=31536000, immutable"),
        ("js/chunk-QJ2XW7AB.js.map", "public, max-age=31536000, immutable"),
        ("js/settings.js", "public, max-age=600"),
        ("js/app-settings.js", "public, max-age=600"),
        ("js/report-20240131.js", "public, max-age=600"),
        ("js/jquery-3.7.1.min.js", "public, max-age=600"),
        ("js/photo-1234567890.png", "public, max-age=600"),
        ("js/hero-Version2.css", "public, max-age=600"),
        ("js/page-3f9ab2c1.html", "no-cache"),
    ] {
        assert!(head(&url(path)).contains(&format!("cache-control: {kept}\n")), "{path}: {}", head(&url(path)));
    }
    assert!(!head("https://docs.example.org/").contains("cache-control"));
    assert!(!head("https://shop.example.com/text?9000").contains("cache-control"));
    let said = head("'https://shop.example.com/says?Cache-Control=no-store'");
    assert!(said.contains("cache-control: no-store\n"), "{said}");
    // Conditional requests and ranges.
    let (plain, gzip) = (url("js/plain.js"), "-H 'Accept-Encoding: gzip'");
    let first = tiers.edge(&format!("-o /dev/null -D - {plain}")).replace('\r', "");
    let value = |name: &str| first.lines().find_map(|l| l.strip_prefix(name)).unwrap().to_owned();
    assert_eq!(code(&format!("-H 'If-None-Match: {}' {plain}", value("etag: "))), "304");
    assert_eq!(code(&format!("-H 'If-Modified-Since: {}' {plain}", value("last-modified: "))), "304");
    assert_eq!(tiers.edge(&format!("-r 4-8 {plain}")), "a = 1");
    // Compression.
    for ask in [format!("{gzip} {plain}"), format!("{gzip} 'https://shop.example.com/text?9000'")] {
        let said = head(&ask);
        assert!(said.contains("content-encoding: gzip\n") && said.contains("vary: accept-encoding\n"), "{said}");
    }
    assert_eq!(tiers.edge(&format!("--compressed {plain}")), text);
    assert_eq!(tiers.edge(&format!("--compressed {}", url("js/packed.css"))), "beside\n");
    assert_eq!(tiers.edge(&url("js/packed.css")), text);
    assert_eq!(tiers.edge("--compressed 'https://shop.example.com/packed?9002'").len(), 9002);
    let small = format!("{gzip} {}", url("js/settings.js"));
    for ask in [plain, small, format!("{gzip} https://docs.example.org/api/text?9000")] {
        assert!(!head(&ask).contains("content-encoding"), "{ask}");
    }
    assert_eq!(head(&format!("{gzip} 'https://shop.example.com/packed?9002'")).matches("content-encoding").count(), 1);
}

#[test]
fn who_takes_brotli_gets_it_and_others_what_they_take() {
    let (tiers, _state) = start(|site| {
        let shop = site.sites.get_mut(&"shop.example.com".parse().unwrap()).unwrap();
        shop.manner.compression = Compression::Brotli;
        shop.programs[0].compress = true;
    });
    let text = "let a = 1;\n".repeat(500);
    for web in ["web1", "web2"] {
        for (name, body) in
            [("plain.js", text.as_str()), ("small.js", "1"), ("packed.css", &text), ("packed.css.br", "beside")]
        {
            tiers.twin.put(web, &format!("/srv/shop/public/{name}"), body);
        }
        tiers.twin.put(web, "/srv/docs/plain.js", &text);
        assert!(tiers.twin.run(web, "touch -d 2026-01-01 /srv/shop/public/* /srv/docs/*").status.success());
    }
    let head = |taken: &str, path: &str| {
        let ask = format!("-o /dev/null -D - -H 'Accept-Encoding: {taken}' 'https://shop.example.com{path}'");
        tiers.edge(&ask).to_lowercase().replace('\r', "")
    };
    for path in ["/static/plain.js", "/text?9000"] {
        for (taken, by) in [("br", "br"), ("gzip, deflate, br, zstd", "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip")]
        {
            let said = head(taken, path);
            assert!(said.contains(&format!("content-encoding: {by}\n")), "{path} {taken}: {said}");
            assert!(said.contains("vary: accept-encoding\n"), "{path} {taken}: {said}");
            assert_eq!(said.matches("content-encoding").count(), 1, "{path} {taken}: {said}");
        }
        assert!(!head("identity", path).contains("content-encoding"), "{path}");
    }
    assert!(!head("br", "/static/small.js").contains("content-encoding"));
    assert!(!head("br", "/type?image/png").contains("content-encoding"));
    assert_eq!(head("br", "/packed?9002").matches("content-encoding: gzip").count(), 1);
    let raw = "-H 'Accept-Encoding: br' https://shop.example.com/static/packed.css";
    assert_eq!(tiers.edge(raw), "beside");
    assert_eq!(tiers.edge("https://shop.example.com/static/packed.css"), text);
    // Another site of the same hosts has none of it.
    let docs =
        tiers.edge("-o /dev/null -D - -H 'Accept-Encoding: br' https://docs.example.org/plain.js").to_lowercase();
    assert!(!docs.contains("content-encoding"), "{docs}");
}

#[test]
fn a_password_is_asked_for_wherever_the_path_is_reached() {
    let (tiers, _state) = start(|site| {
        let users = |name: &str| {
            let password = format!("of {name}");
            let out = std::process::Command::new("openssl").args(["passwd", "-6", &password]).output().unwrap();
            let path = site.state.with_file_name(name);
            std::fs::write(&path, format!("{name}:{}", String::from_utf8(out.stdout).unwrap())).unwrap();
            SecretRef::File(path)
        };
        let auth =
            |path: &str, users: &SecretRef| Auth { path: path.into(), users: users.clone(), realm: "the shop".into() };
        let (ops, root) = (users("ops"), users("root"));
        let shop = site.sites.get_mut(&"shop.example.com".parse().unwrap()).unwrap();
        shop.auth = vec![auth("/admin/", &ops), auth("/admin/root/", &root), auth("/static/own/", &ops)];
    });
    for web in ["web1", "web2"] {
        tiers.twin.put(web, "/srv/shop/public/own/a.3f9ab2c1.js", "own");
    }
    let code = |args: &str, path: &str| {
        tiers.edge(&format!("-o /dev/null -w '%{{http_code}}' --path-as-is {args} 'https://shop.example.com{path}'"))
    };
    for version in ["--http1.1", "--http2"] {
        for path in [
            "/admin/",
            "/admin",
            "/admin?x",
            "/admin/who",
            "/Admin/who",
            "/%61dmin/who",
            "//admin/who",
            "/./admin/who",
            "/x/../admin/who",
            "/x/%2e%2e/admin/who",
            "/x/..%2fadmin/who",
            "/admin%2fwho",
            "/admin;a=b/who",
            "/admin%3ba/who",
            "/admin/root/who",
            "/static/own/a.3f9ab2c1.js",
            "/static//own/x",
            "/static/x/../own/x",
        ] {
            assert_eq!(code(version, path), "401", "{version} {path}");
        }
        for path in ["/x/..;/admin/who", "/x%5c..%5cadmin%5cwho", "/..%3b/admin/who"] {
            assert_eq!(code(version, path), "400", "{version} {path}");
        }
        for path in ["/who", "/administrator/who", "/x/admin/who", "/static/x.txt", "/?/admin/"] {
            assert_eq!(code(version, path), "200", "{version} {path}");
        }
        for (path, right, wrong) in
            [("/admin/who", "ops:of ops", "root:of root"), ("/admin/root/who", "root:of root", "ops:of ops")]
        {
            assert_eq!(code(&format!("{version} -u '{right}'"), path), "200", "{path}");
            for wrong in [wrong, "ops:hunter2", "nobody:of ops", ":", "ops:"] {
                assert_eq!(code(&format!("{version} -u '{wrong}'"), path), "401", "{path} {wrong}");
            }
        }
    }
    let asked = tiers.edge("-o /dev/null -D - https://shop.example.com/admin/").to_lowercase();
    assert!(asked.contains("www-authenticate: basic realm=\"the shop\""), "{asked}");
    let own = tiers.edge("-o /dev/null -D - -u 'ops:of ops' https://shop.example.com/static/own/a.3f9ab2c1.js");
    assert!(own.contains("cache-control: private, max-age=31536000, immutable"), "{own}");
    let answer = tiers.raw("http/1.1", &[(websocket("/admin/ws").as_bytes(), "401 ")]);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // No word of a password or its hash is in a log, and only those read the file who must.
    let said = logs(&tiers, &["lb1", "web1", "web2"]);
    assert!(!said.contains("hunter2") && !said.contains("$6$"), "{said}");
    let modes = text(&tiers.twin.run("web1", "stat -c '%a %U %G' /etc/nginx/infra-users-*"));
    assert_eq!(modes, "640 root www-data\n".repeat(3));
}

#[test]
fn a_websocket_may_be_still() {
    let (tiers, _state) = start(|_| ());
    // The inner tiers' own time-outs are shorter here than the silence; those of a websocket are not.
    for host in ["web1", "web2", "app1", "app2"] {
        let script = "sed -i -E 's/(proxy_(read|send)_timeout) 6[05]s/\\1 1s/' /etc/nginx/nginx.conf /etc/nginx/conf.d/*.conf && nginx -s reload";
        assert!(tiers.twin.run(host, script).status.success());
    }
    tiers.through("200");
    let request = websocket("/ws");
    // The first wait is for what never comes: eight seconds of silence.
    let answer = tiers.raw("http/1.1", &[(request.as_bytes(), "never said"), (b"said back", "said back")]);
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("said back"), "{answer}");
}

#[test]
fn an_upload_over_http_2_is_not_held_by_its_window() {
    let (tiers, _state) = start(|_| ());
    // The connection preface and an empty SETTINGS frame (RFC 9113 section 3.4); the load balancer's own say its window for a stream.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = tiers.raw("h2", &[(preface, "never said")]);
    let window = [0, 4, 0, 16, 0, 0];
    assert!(answer.as_bytes().windows(6).any(|bytes| bytes == window), "{:?}", answer.as_bytes());
    // And what is uploaded comes whole, whichever way.
    let body = tiers.twin.shared().join("body");
    std::fs::write(&body, vec![b'b'; 5_000_000]).unwrap();
    for version in ["--http1.1", "--http2"] {
        for way in ["", "-H 'Transfer-Encoding: chunked'"] {
            let said = tiers.edge(&format!(
                "{version} -m 30 {way} --data-binary @{} https://shop.example.com/sink",
                body.display()
            ));
            assert_eq!(said, "5000000 bytes\n", "{version} {way}");
        }
    }
}

/// Sites whose visitors come through a proxy that has the test's own addresses.
fn behind(client: ClientAddress, limits: EdgeLimits) -> (Tiers, tempfile::TempDir) {
    start(|site| {
        let trusted_proxies = OUTSIDE.map(|address| address.parse().unwrap()).to_vec();
        site.edge = Edge { trusted_proxies, client_address: Some(client), limits };
    })
}

#[test]
fn a_proxy_in_front_is_believed_and_nobody_else() {
    let (tiers, _state) = behind(ClientAddress::Header("X-Forwarded-For".into()), EdgeLimits::default());
    let told = |tiers: &Tiers, args: &str| tiers.edge(&format!("{args} https://shop.example.com/told"));
    for (header, client) in [
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("6.6.6.6,2001:db8:7::9", "2001:db8:7::9"),
        ("127.0.0.1", "127.0.0.1"),
        ("nonsense", OUTSIDE[0]),
    ] {
        for version in ["--http1.1", "--http2"] {
            let said = told(&tiers, &format!("{version} -H 'X-Forwarded-For: {header}'"));
            assert!(said.contains(&format!("X-Forwarded-For: {client}\n")), "{version} {header}: {said}");
            assert!(!said.contains("6.6.6.6"), "{version} {header}: {said}");
        }
    }
    // Each request of a kept connection has its own.
    let two = tiers.edge(
        "-H 'X-Forwarded-For: 192.0.2.8' https://shop.example.com/told --next -s --cacert /dev/null -k \
         --resolve shop.example.com:443:10.0.1.11 -H 'X-Forwarded-For: 192.0.2.9' https://shop.example.com/told",
    );
    assert!(two.contains("X-Forwarded-For: 192.0.2.8\n") && two.contains("X-Forwarded-For: 192.0.2.9\n"), "{two}");
    // An address of this very host gives nobody what only the host itself may ask.
    let health = "-o /dev/null -w '%{http_code}' -H 'X-Forwarded-For: 127.0.0.1' https://shop.example.com/.well-known/infra/health";
    assert_eq!(tiers.edge(health), "404");
    let logs = logs(&tiers, &["web1", "web2", "app1", "app2"]);
    assert!(logs.contains(r#""src":"2001:db8:7::9""#) && !logs.contains("6.6.6.6"), "{logs}");
    // Whoever comes from elsewhere is who it is.
    let from_web = "curl -q -s -m 5 --noproxy '*' -k --resolve shop.example.com:443:10.0.1.11 -H 'X-Forwarded-For: 192.0.2.7' \
                    https://shop.example.com/told";
    let said = text(&tiers.twin.run("web2", from_web));
    assert!(said.contains("X-Forwarded-For: 10.0.2.12\n"), "{said}");
}

#[test]
fn the_proxy_protocol_is_spoken_with_whom_it_is_expected_from() {
    let (tiers, _state) = behind(ClientAddress::ProxyProtocol, EdgeLimits::default());
    // What the program is told: curl itself says its own address by the protocol.
    let said = tiers.edge("--haproxy-protocol https://shop.example.com/told");
    assert!(said.contains(&format!("X-Forwarded-For: {}\n", OUTSIDE[0])), "{said}");
    assert_eq!(tiers.edge("--haproxy-protocol -o /dev/null -w '%{http_code}' http://shop.example.com/"), "308");
    assert_eq!(tiers.edge("-o /dev/null -w '%{http_code}' https://shop.example.com/told"), "000", "without it");
    let request = "PROXY TCP4 192.0.2.7 10.0.1.11 4000 80\r\nGET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let send = |host: Option<&str>| {
        let script = format!(
            "printf '{}' | timeout 5 socat - TCP:10.0.1.11:80",
            request.replace('\r', "\\r").replace('\n', "\\n")
        );
        text(&host.map_or_else(|| tiers.twin.outside(&script), |host| tiers.twin.run(host, &script)))
    };
    assert!(send(None).starts_with("HTTP/1.1 308"), "{}", send(None));
    assert!(send(Some("web2")).starts_with("HTTP/1.1 400"), "{}", send(Some("web2")));
    let health = "--haproxy-protocol -o /dev/null -w '%{http_code}' https://shop.example.com/.well-known/infra/health";
    assert_eq!(tiers.edge(health), "404");
}

#[test]
fn a_client_has_limits_behind_a_proxy_too_and_an_exempt_one_has_none() {
    let limits = EdgeLimits { connections: 4000, requests: 20, exempt: vec!["192.0.2.64/26".parse().unwrap()] };
    let (tiers, _state) = behind(ClientAddress::Header("CF-Connecting-IP".into()), limits);
    let codes = |client: &str| {
        tiers.edge(&format!(
            "-o /dev/null -w '%{{http_code}}\\n' -H 'CF-Connecting-IP: {client}' 'https://shop.example.com/r[1-60]'"
        ))
    };
    let seen = codes("192.0.2.7");
    assert!(seen.contains("200") && seen.contains("429"), "{seen}");
    // The next client of the same proxy is none of it, and an office has no limit.
    assert!(codes("192.0.2.8").starts_with("200"), "{}", codes("192.0.2.8"));
    assert!(!codes("192.0.2.65").contains("429"));
}

#[test]
fn the_inner_tier_gives_up_first_and_events_may_be_silent_for_longer() {
    let (tiers, _state) = start_with("    timeouts: { response: 1s, idle: 9s }\n", &[]);
    let slow =
        |seconds: &str, more: &str| asked(&tiers, &format!("{more} 'https://shop.example.com/slow?{seconds}'")).0;
    assert!(slow("0.2", "").starts_with("HTTP/2 200"), "{}", slow("0.2", ""));
    for version in ["--http1.1", "--http2"] {
        let said = slow("4", version);
        assert!(said.lines().next().unwrap().contains(" 504"), "{version}: {said}");
    }
    let (apps, webs) = (logs(&tiers, &["app1", "app2"]), logs(&tiers, &["web1", "web2"]));
    assert!(apps.contains(r#""why":"no answer in time""#), "{apps}");
    assert!(webs.contains(r#""upstream_status":"504""#), "{webs}");
    // Who asks for events, by any method, waits as long as they may be silent.
    for more in ["-H 'Accept: text/event-stream'", "--http1.1 -H 'Accept: Text/Event-Stream;q=1, */*'"] {
        let said = slow("4", more);
        assert!(said.lines().next().unwrap().contains(" 200"), "{more}: {said}");
    }
    let said = slow("14", "-H 'Accept: text/event-stream'");
    assert!(said.lines().next().unwrap().contains(" 504"), "{said}");
}

#[test]
fn a_body_over_the_limit_is_413_and_says_why() {
    let (tiers, _state) = start_with("    body: 300k\n", &[]);
    let (free, _state) = start_with("    body: unlimited\n", &[]);
    let (paged, _state) = start_with("    body: 300k\n    pages: { 413: 413.txt }\n", &[("413.txt", "too much\n")]);
    let send = |tiers: &Tiers, bytes: usize, more: &str| {
        let body = tiers.twin.shared().join("body");
        std::fs::write(&body, vec![b'b'; bytes]).unwrap();
        let (head, said) =
            asked(tiers, &format!("{more} --data-binary @{} https://shop.example.com/sink", body.display()));
        (head.split(' ').nth(1).unwrap().to_owned(), said)
    };
    let refused = |tiers: &Tiers, bytes: usize, more: &str| {
        let body = tiers.twin.shared().join("body");
        std::fs::write(&body, vec![b'b'; bytes]).unwrap();
        let body = body.display();
        tiers.edge(&format!(
            "-o /dev/null -w '%{{http_code}}' -m 20 {more} --data-binary @{body} https://shop.example.com/sink"
        ))
    };
    for version in ["--http1.1", "--http2", "--http1.1 -H Expect:"] {
        for way in ["", "-H 'Transfer-Encoding: chunked'"] {
            let more = format!("{version} {way}");
            assert_eq!(send(&tiers, 300 << 10, &more).0, "200", "{more}");
            for bytes in [(300 << 10) + 1, 3 << 20] {
                for (tiers, name) in [(&tiers, "its own words"), (&paged, "the site's page")] {
                    let status = refused(tiers, bytes, &more);
                    // A body that does not say its length is known too late for a page of the web host, and that of a load balancer with
                    // HAProxy 2.6 resets the stream, upon which curl may drop the answer.
                    let late = version == "--http2" && !way.is_empty() && name == "the site's page";
                    assert!(status == "413" || late && status == "000", "{bytes} {more}, {name}: {status}");
                }
            }
            // More than the usual limit, and nothing of it is kept on the web host.
            let (status, said) = send(&free, 101 << 20, &more);
            assert_eq!((status.as_str(), said.as_str()), ("200", "105906176 bytes\n"), "{more}");
        }
    }
    let webs = logs(&tiers, &["web1", "web2"]);
    assert!(webs.contains(r#""why":"the body is over the limit""#), "{webs}");
    // A site without a program has its page too.
    let page = tempfile::tempdir().unwrap();
    std::fs::write(page.path().join("413.txt"), "too much\n").unwrap();
    let files = manner(page.path(), "    body: 300k\n    pages: { 413: 413.txt }\n");
    let (files, _state) =
        start(|site| site.sites.get_mut(&"docs.example.org".parse().unwrap()).unwrap().manner = files);
    let body = files.twin.shared().join("body");
    std::fs::write(&body, vec![b'b'; 3 << 20]).unwrap();
    for version in ["--http1.1", "--http2"] {
        let (head, said) =
            asked(&files, &format!("{version} --data-binary @{} https://docs.example.org/", body.display()));
        assert!(head.lines().next().unwrap().contains(" 413") && said == "too much\n", "{version}: {head}{said}");
    }
    // The other site has the usual limit.
    let other = tiers.edge(
        "-o /dev/null -w '%{http_code}' --http1.1 -H 'Content-Length: 104857601' -X POST https://docs.example.org/",
    );
    assert_eq!(other, "413");
}

#[test]
fn what_may_not_be_repeated_has_a_connection_of_its_own() {
    // One client with one connection: what a kept connection to a web host would be kept for.
    for (site, page) in [("", None), ("    pages: { 404: 404.html }\n", Some(("404.html", "<p>not here</p>\n")))] {
        let (tiers, _state) = start_with(site, page.as_slice());
        let counters = |host: &str, socket: &str| -> Vec<BTreeMap<String, String>> {
            let said = text(&tiers.twin.run(host, &format!("echo 'show stat' | socat - UNIX-CONNECT:{socket}")));
            let (head, rows) = said.split_once('\n').unwrap();
            let head: Vec<&str> = head.trim_start_matches("# ").split(',').collect();
            let row = |row: &str| head.iter().zip(row.split(',')).map(|(n, v)| (n.to_string(), v.to_owned())).collect();
            rows.lines().filter(|row| row.contains(',')).map(row).collect()
        };
        let sum = |rows: &[BTreeMap<String, String>], column: &str| -> u64 {
            rows.iter().map(|row| row[column].parse().unwrap_or(0)).sum()
        };
        // How often a load balancer connected to a web host, how often it used a connection again, and how often a web host connected to
        // a program.
        let connections = || {
            let mut webs = counters("lb1", "/run/haproxy/admin.sock");
            webs.retain(|row| row["pxname"].starts_with("web") && row["svname"].starts_with("web"));
            let doors: Vec<_> =
                ["web1", "web2"].iter().flat_map(|web| counters(web, "/run/infra/programs/admin.sock")).collect();
            let fronts: Vec<_> = doors.into_iter().filter(|row| row["svname"] == "FRONTEND").collect();
            [sum(&webs, "connect"), sum(&webs, "reuse"), sum(&fronts, "stot")]
        };
        let mut last = connections();
        for (method, kept) in
            [("GET", true), ("POST", false), ("PUT", false), ("DELETE", false), ("PATCH", false), ("GET", true)]
        {
            let all = "-o /dev/null -w '%{num_connects}' 'https://shop.example.com/sink?[1-10]'";
            assert_eq!(tiers.edge(&format!("-X {method} {all}")), "1000000000", "{method}");
            let now = connections();
            let [new, again, inside] = [0, 1, 2].map(|at| now[at] - last[at]);
            let fits = if kept { again >= 5 } else { (new, again, inside) == (10, 0, 10) };
            assert!(fits, "{method}: {new} new, {again} again, {inside} to a program");
            last = now;
        }
    }
}

#[test]
fn a_site_adds_its_own_words_to_each_answer() {
    let hostile = r#"a  b 100% %[src] %{x} %% "q" 'sq' \ \" $HOME $(id) # ; {y} , ü"#.replace('ü', "~");
    let yaml = hostile.replace('\'', "''");
    let (tiers, _state) = start_with(
        &format!(
            "    redirect: www-to-apex\n    hsts: {{ max_age: 63072000, include_subdomains: true, preload: true }}\n    headers:\n      \
             X-Hostile: '{yaml}'\n      X-100%'#: '%'\n      X-Frame-Options: DENY\n      X-Content-Type-Options: null\n      \
             x-program: null\n      Content-Security-Policy: \"default-src 'self'; report-uri /r?a=1&b=2\"\n      X-Long: {}\n",
            "l".repeat(7000)
        ),
        &[],
    );
    let long = format!("\nx-long: {}\n", "l".repeat(7000));
    for (args, status) in [
        ("'https://shop.example.com/says?X-Program=secret&X-Frame-Options=SAMEORIGIN'", "200"),
        ("--http1.1 https://shop.example.com/static/x.txt", "200"),
        ("https://shop.example.com/static/none", "404"),
        ("'https://shop.example.com/answers?500'", "500"),
        ("'https://shop.example.com/cookies?31000'", "200"),
        ("https://www.shop.example.com/", "308"),
    ] {
        let (head, _) = asked(&tiers, args);
        assert!(head.lines().next().unwrap().contains(&format!(" {status}")), "{args}: {head}");
        for line in [
            format!("\nx-hostile: {hostile}\n").as_str(),
            "\nx-100%'#: %\n",
            "\nx-frame-options: DENY\n",
            "\ncontent-security-policy: default-src 'self'; report-uri /r?a=1&b=2\n",
            "\nstrict-transport-security: max-age=63072000; includeSubDomains; preload\n",
            &long,
        ] {
            assert_eq!(head.matches(line).count(), 1, "{args}: {line}: {head}");
        }
        for absent in ["x-content-type-options", "x-program", "SAMEORIGIN", "x-infra"] {
            assert!(!head.contains(absent), "{args}: {absent}: {head}");
        }
    }
    // Another site has none of it.
    let (head, _) = asked(&tiers, "https://docs.example.org/");
    assert!(!head.contains("x-hostile") && head.contains("\nstrict-transport-security: max-age=300\n"), "{head}");
    // The other name leads to the site's own in one hop, with all that was asked for.
    for (url, to) in [
        ("https://www.shop.example.com/a%20b/?x=1&y=%25", "https://shop.example.com/a%20b/?x=1&y=%25"),
        ("http://www.shop.example.com/a?x=1", "https://shop.example.com/a?x=1"),
        ("http://shop.example.com/a?x=1", "https://shop.example.com/a?x=1"),
    ] {
        assert_eq!(
            tiers.edge(&format!("-o /dev/null -w '%{{http_code}} %{{redirect_url}}' '{url}'")),
            format!("308 {to}")
        );
    }
}

const PAGES: &str =
    "    pages: { 404: 404.html, 413: 413.txt, 429: 429.txt, 502: 502.html, 503: 503.json, 504: 504.htm }\n";

#[test]
fn errors_of_the_tiers_have_the_sites_pages_and_those_of_a_program_are_its_own() {
    let big = format!("<!doctype html>\n<p>bad \"gateway\" 100% %[src] 'ü' \\ </p>\n<!-- {} -->\n", "x".repeat(32_000));
    let (tiers, _state) = start_with(
        PAGES,
        &[
            ("404.html", "<p>not here</p>\n"),
            ("413.txt", "too much\n"),
            ("429.txt", "too often\n"),
            ("502.html", &big),
            ("503.json", "{\"page\": \"closed\"}\n"),
            ("504.htm", "<p>too late</p>\n"),
        ],
    );
    let is = |args: &str, status: u16, media: &str, body: &str| {
        for version in ["--http1.1", "--http2"] {
            let (head, said) = asked(&tiers, &format!("{version} {args}"));
            assert!(head.lines().next().unwrap().contains(&format!(" {status}")), "{args}: {head}");
            assert_eq!(
                (said.as_str(), head.contains(&format!("\ncontent-type: {media}\n"))),
                (body, true),
                "{args}: {head}"
            );
            assert!(head.contains("\nstrict-transport-security: ") && !head.contains("x-infra"), "{args}: {head}");
        }
    };
    for status in [404, 413, 500, 502, 503, 504] {
        let own = format!("'https://shop.example.com/answers?{status}'");
        is(&own, status, "application/json", "{\"program\": \"words of its own\"}\n");
    }
    is("https://shop.example.com/static/none", 404, "text/html; charset=utf-8", "<p>not here</p>\n");
    is("https://shop.example.com/static/.env", 404, "text/html; charset=utf-8", "<p>not here</p>\n");
    is(
        "-H 'Content-Length: 104857601' -X POST https://shop.example.com/sink",
        413,
        "text/plain; charset=utf-8",
        "too much\n",
    );
    is("https://shop.example.com/close", 502, "text/html; charset=utf-8", &big);
    let head = tiers.edge("-I https://shop.example.com/static/none");
    assert!(head.starts_with("HTTP/2 404") && !head.contains("not here"), "{head}");
    // Other sites have none.
    let (head, body) = asked(&tiers, "https://docs.example.org/none");
    assert!(head.starts_with("HTTP/2 404") && !body.contains("not here"), "{head}{body}");
    for app in ["app1", "app2"] {
        assert!(tiers.twin.run(app, "pkill -f /run/program.py").status.success());
    }
    is("https://shop.example.com/told", 502, "text/html; charset=utf-8", &big);
    for web in ["web1", "web2"] {
        assert!(tiers.twin.run(web, "nginx -s stop").status.success());
    }
    // At once, before any check has seen it, and from then on.
    is("https://shop.example.com/told", 503, "application/json", "{\"page\": \"closed\"}\n");
    let gone = "echo 'show stat' | socat - UNIX-CONNECT:/run/haproxy/admin.sock | grep '^web,BACKEND' | cut -d, -f18";
    let seen = wait(Duration::from_secs(20), || (text(&tiers.twin.run("lb1", gone)).trim() == "DOWN").then_some(()));
    assert!(seen.is_some());
    is("https://shop.example.com/told", 503, "application/json", "{\"page\": \"closed\"}\n");
}

#[test]
fn a_closed_site_says_when_to_come_again_and_infra_goes_on() {
    let page = [("closed.html", "<p>closed</p>\n")];
    let (tiers, _state) = start_with(
        "    maintenance: { page: closed.html, retry_after: 30m, allow: [10.0.2.12, 'fd00:9::/64'] }\n",
        &page,
    );
    for args in
        ["https://shop.example.com/", "-d a https://shop.example.com/sink", "https://shop.example.com/static/x.txt"]
    {
        let (head, body) = asked(&tiers, args);
        assert!(head.starts_with("HTTP/2 503"), "{args}: {head}");
        assert!(
            head.contains("\nretry-after: 1800\n") && head.contains("\ncontent-type: text/html; charset=utf-8\n"),
            "{head}"
        );
        assert_eq!(body, "<p>closed</p>\n");
    }
    assert_eq!(tiers.edge("https://docs.example.org/"), "the docs\n");
    let from_web = "curl -q -s -m 5 --noproxy '*' -k --resolve shop.example.com:443:10.0.1.11 https://shop.example.com/static/x.txt";
    assert_eq!(text(&tiers.twin.run("web2", from_web)), "static file\n");
    assert_eq!(text(&tiers.twin.run("web1", from_web)), "<p>closed</p>\n");
    // Every probe of a load balancer holds, and nobody takes its mark from outside.
    assert!(
        asked(&tiers, "-H 'X-Infra-Probe: yes' https://shop.example.com/.well-known/infra/health")
            .0
            .starts_with("HTTP/2 503")
    );
    let probes = &tiers.desired[&"lb1".parse().unwrap()].probes;
    let through: Vec<_> = probes.iter().filter(|probe| probe.command.contains("https://shop.example.com")).collect();
    assert!(through.len() >= 2, "{probes:?}");
    for probe in through {
        let out = tiers.twin.run("lb1", &probe.command);
        assert!(out.status.success(), "{}: {}", probe.title, text(&out));
    }
    assert_eq!(tiers.edge("-o /dev/null -w '%{http_code}' http://shop.example.com/"), "308");
}

#[test]
fn a_client_over_its_limits_is_told_by_the_sites_page_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("429.html"), "<p>too often</p>\n").unwrap();
    let manner = manner(folder.path(), "    pages: { 429: 429.html }\n");
    let (tiers, _state) = start(|site| {
        site.sites.get_mut(&"shop.example.com".parse().unwrap()).unwrap().manner = manner;
        site.edge.limits = EdgeLimits { connections: 6, requests: 20, exempt: vec!["10.0.2.12/32".parse().unwrap()] };
    });
    let codes = |url: &str| tiers.edge(&format!("-o /dev/null -w '%{{http_code}}\\n' '{url}'"));
    let seen = codes("https://shop.example.com/r[1-40]");
    assert!(seen.starts_with("200\n") && seen.ends_with("429\n"), "{seen}");
    for version in ["--http1.1", "--http2"] {
        let (head, body) = asked(&tiers, &format!("{version} https://shop.example.com/"));
        assert!(head.lines().next().unwrap().contains(" 429"), "{head}");
        assert!(head.contains("\nretry-after: 10\n") && head.contains("\nstrict-transport-security: "), "{head}");
        assert!(head.contains("\ncontent-type: text/html; charset=utf-8\n"), "{head}");
        assert_eq!(body, "<p>too often</p>\n");
        // A site without a page of its own, and who comes without TLS.
        let (head, body) = asked(&tiers, &format!("{version} https://docs.example.org/"));
        assert!(head.lines().next().unwrap().contains(" 429") && head.contains("\nretry-after: 10\n"), "{head}");
        assert!(!body.contains("<p>too often</p>"), "{body}");
    }
    let (head, _) = asked(&tiers, "http://shop.example.com/");
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    // Another one is none of it, and one that is exempt has no limit; all of this is of IPv6 too.
    let from = |host: &str, address: &str| {
        let ask = format!(
            "curl -q -s -m 5 --noproxy '*' -k -o /dev/null -w '%{{http_code}}\\n' --resolve 'shop.example.com:443:{address}' 'https://shop.example.com/r[1-40]'"
        );
        text(&tiers.twin.run(host, &ask))
    };
    assert!(from("web1", "10.0.1.11").starts_with("200\n"));
    assert!(!from("web2", "10.0.1.11").contains("429"));
    let six = from("app1", "[fd00:1::11]");
    assert!(six.starts_with("200\n") && six.ends_with("429\n"), "{six}");
    // After its ten seconds it is let in again.
    let again = wait(Duration::from_secs(30), || {
        std::thread::sleep(Duration::from_secs(2));
        (codes("https://shop.example.com/") == "200\n").then_some(())
    });
    assert!(again.is_some());
    // Connections at one time: those over the limit are closed before they say anything, and the others go on.
    let crowded = "python3 -c 'import socket, subprocess\n\
                held = [socket.create_connection((\"10.0.1.11\", 443)) for _ in range(6)]\n\
                print(subprocess.run([\"curl\", \"-q\", \"-s\", \"-m\", \"5\", \"-k\", \"--noproxy\", \"*\", \"-o\", \"/dev/null\", \"-w\", \"%{http_code}\",\n\
                \"--resolve\", \"shop.example.com:443:10.0.1.11\", \"https://shop.example.com/\"], capture_output=True, text=True).stdout)'";
    assert_eq!(text(&tiers.twin.outside(crowded)), "000\n");
    assert!(wait(Duration::from_secs(15), || (codes("https://shop.example.com/") == "200\n").then_some(())).is_some());
}

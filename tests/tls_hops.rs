//! The three tiers run for real on a private bridge: a page goes through, and every hop refuses whom it must.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::twin::{Twin, text, wait};
use infra::base::secret::{Materials, sentinel};
use infra::inventory::site::Site;
use infra::pki;
use infra::plan::state::Desired;
use infra::service::{desire, platform, render::Templates};
use time::OffsetDateTime;

/// The user's program: says what it was told.
const PROGRAM: &str = "pid /run/program.pid; error_log /run/program.log; events {}\n\
    http { access_log off; server { listen 127.0.0.1:8080;\n\
    location = /healthz { return 200 ok; }\n\
    location / { return 200 \"xff=$http_x_forwarded_for proto=$http_x_forwarded_proto host=$http_host \
    real=$http_x_real_ip proxy=$http_proxy up=$http_upgrade/$http_connection uri=$request_uri\\n\"; } } }\n";

struct Running {
    site: Site,
    desired: Desired,
    materials: Materials,
    /// Of the same authority, but over.
    expired: Materials,
    /// Of another authority with the same names.
    foreign: Materials,
    twin: Twin,
    _state: tempfile::TempDir,
}

fn start() -> Running {
    let state = tempfile::tempdir().unwrap();
    let site = common::three_tier(&state.path().join("ours"));
    let now = OffsetDateTime::now_utc();
    let expired = pki::ensure(&site, &site.state, now - Duration::from_secs(100 * 86400)).unwrap().materials;
    let materials = pki::ensure(&site, &site.state, now).unwrap().materials;
    let foreign = pki::ensure(&site, &state.path().join("theirs"), now).unwrap().materials;
    let facts = site.hosts.keys().map(|h| (h.clone(), platform::oldest())).collect();
    let desired = desire(&site, &facts, &materials, &Templates::load(None).unwrap()).unwrap();
    let twin = Twin::new(&site, &desired, &materials);
    for app in ["app1", "app2"] {
        twin.put(app, "/run/program.conf", PROGRAM);
        let out = twin.run(app, "nginx -c /run/program.conf >/run/start.log 2>&1 </dev/null");
        assert!(out.status.success(), "{}", text(&out));
    }
    for web in ["web1", "web2"] {
        twin.put(web, "/srv/shop/public/x.txt", "static file\n");
        twin.put(web, "/srv/shop/public/.env", "PASSWORD\n");
        twin.put(web, "/srv/docs/index.html", "the docs\n");
    }
    for host in ["app1", "app2", "web1", "web2", "lb1", "lb2"] {
        twin.start(host, &desired[&host.parse().unwrap()]);
    }
    let running = Running { site, desired, materials, expired, foreign, twin, _state: state };
    running.through("200");
    running
}

impl Running {
    /// What the load balancer gets from a site through all tiers, once it is `code`.
    fn through(&self, code: &str) {
        let ask = "curl -q -s -m 5 -o /dev/null -w '%{http_code}' --cacert /etc/infra/sites-ca.crt \
                   --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/.well-known/infra/health";
        let mut last = String::new();
        let seen = wait(Duration::from_secs(30), || {
            last = text(&self.twin.run("lb1", ask));
            (last == code).then_some(())
        });
        assert!(seen.is_some(), "answered {last}, not {code}");
    }

    /// curl from outside to the load balancer's address.
    fn edge(&self, args: &str) -> String {
        let ca = self.twin.shared().join("sites-ca.crt");
        std::fs::write(&ca, self.materials.public("pki/sites-ca.crt").unwrap()).unwrap();
        let names = ["shop.example.com", "www.shop.example.com", "docs.example.org", "a.docs.example.org"];
        let resolve = names.map(|n| format!("--resolve {n}:443:10.0.1.11 --resolve {n}:80:10.0.1.11")).join(" ");
        text(&self.twin.outside(&format!("curl -q -s -m 5 --noproxy '*' --cacert {} {resolve} {args}", ca.display())))
    }

    /// The code that a listener inside gives to a client with these materials' certificate.
    fn inside(&self, name: &str, socket: &str, client: Option<(&Materials, &str)>) -> String {
        let folder = self.twin.shared();
        std::fs::write(folder.join("ca.crt"), self.materials.public("pki/ca.crt").unwrap()).unwrap();
        let show = client.map_or(String::new(), |(materials, leaf)| {
            let pem =
                materials.materialize(&[sentinel(&format!("{leaf}.crt")), sentinel(&format!("{leaf}.key"))].concat());
            std::fs::write(folder.join("client.pem"), pem.unwrap()).unwrap();
            format!("--cert {}", folder.join("client.pem").display())
        });
        let (address, port) = socket.rsplit_once(':').unwrap();
        text(&self.twin.outside(&format!(
            "curl -q -s -m 5 --noproxy '*' -o /dev/null -w '%{{http_code}}' --cacert {}/ca.crt {show} \
             --resolve '{name}:{port}:{address}' https://{name}:{port}/infra-health",
            folder.display()
        )))
    }

    /// Gives hosts another server certificate.
    fn serve(&self, hosts: &[&str], materials: &Materials, leaf_of: impl Fn(&str) -> String) {
        for host in hosts {
            for ending in ["crt", "key"] {
                let name = format!("pki/{}/server.{ending}", leaf_of(host));
                let pem = materials.materialize(&sentinel(&name)).unwrap();
                self.twin.put(host, &format!("/etc/nginx/tls/server.{ending}"), &pem);
            }
            let out = self.twin.run(host, "nginx -s reload");
            assert!(out.status.success(), "{}", text(&out));
        }
    }
}

#[test]
fn a_page_goes_through_and_every_probe_sees_it() {
    let running = start();
    for host in ["app1", "app2", "web1", "web2", "lb1", "lb2"] {
        for probe in &running.desired[&host.parse().unwrap()].probes {
            let mut words = String::new();
            let seen = wait(probe.within, || {
                let out = running.twin.run(host, &probe.command);
                words = text(&out);
                out.status.success().then_some(())
            });
            assert!(seen.is_some(), "{host}: {}: {words}", probe.title);
        }
    }
    let page = running.edge(
        "-H 'X-Forwarded-For: 6.6.6.6' -H 'x-forwarded-host: evil' -H 'Proxy: http://evil' -H 'X-Real-IP: 6.6.6.6' \
         -e 'https://shop.example.com/from?token=marked' 'https://shop.example.com/a%20b?q=1&r=marked'",
    );
    assert_eq!(
        page,
        "xff=198.51.100.9 proto=https host=shop.example.com real=198.51.100.9 proxy= up=/ uri=/a%20b?q=1&r=marked\n"
    );
    // What stands behind a `?` is in no log.
    for hosts in [["web1", "web2"], ["app1", "app2"]] {
        let read = "cat /var/log/nginx/access.log";
        let logs: String = hosts.iter().map(|host| text(&running.twin.run(host, read))).collect();
        let line = logs.lines().find(|line| line.contains("/a b")).unwrap_or_else(|| panic!("{logs}"));
        assert!(line.contains(r#""referer":"https://shop.example.com/from","#), "{line}");
        assert!(!logs.contains("marked"), "{logs}");
    }
    let upgrade =
        running.edge("--http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' https://www.shop.example.com/");
    assert!(upgrade.contains("up=websocket/upgrade"), "{upgrade}");
    assert_eq!(running.edge("https://shop.example.com/static/x.txt"), "static file\n");
    assert_eq!(running.edge("https://docs.example.org/"), "the docs\n");
    assert_eq!(running.edge("https://a.docs.example.org/"), "the docs\n");
}

#[test]
fn the_edge_keeps_its_manners() {
    let running = start();
    let code = |args: &str| running.edge(&format!("-o /dev/null -w '%{{http_code}}' {args}"));
    assert_eq!(code("https://shop.example.com/static/.env"), "404");
    assert_eq!(code("--path-as-is https://shop.example.com/static../etc/passwd").as_str(), "200", "the program's own");
    assert_eq!(code("--path-as-is https://shop.example.com/static/../../../etc/passwd"), "400");
    assert_eq!(code("-H 'Host: docs.example.org' https://shop.example.com/"), "421", "another site's host");
    assert_eq!(code("-H 'Host: evil.example' https://shop.example.com/"), "421", "nobody's host");
    assert_eq!(code("https://shop.example.com/.well-known/infra/health"), "404", "from outside");
    assert_eq!(code("-k https://10.0.1.11/"), "000", "no certificate for a client that names no site");
    assert_eq!(code("-H 'Host: evil.example' http://shop.example.com/"), "421");
    assert_eq!(
        running.edge("-o /dev/null -w '%{http_code} %{redirect_url}' 'http://shop.example.com/a?b=c&d'"),
        "308 https://shop.example.com/a?b=c&d"
    );
    let head = running.edge("-o /dev/null -D - https://shop.example.com/").to_lowercase();
    for line in ["http/2 200", "strict-transport-security: max-age=300", "x-content-type-options: nosniff"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(!head.contains("\nserver:"), "{head}");
    assert_eq!(
        running.edge("-6 -o /dev/null -w '%{http_code}' --connect-to '::[fd00:1::11]:443' https://shop.example.com/"),
        "200"
    );
    let twice = running.twin.outside(
        "printf 'GET / HTTP/1.1\r\nHost: shop.example.com\r\nHost: docs.example.org\r\nConnection: close\r\n\r\n' | \
         openssl s_client -quiet -connect 10.0.1.11:443 -servername shop.example.com 2>/dev/null | head -n 1",
    );
    assert!(text(&twice).starts_with("HTTP/1.1 400"), "{}", text(&twice));
    for old in ["-tls1", "-tls1_1"] {
        let out = running.twin.outside(&format!(
            "openssl s_client -connect 10.0.1.11:443 -servername shop.example.com {old} -cipher DEFAULT@SECLEVEL=0 </dev/null"
        ));
        assert!(!out.status.success(), "{old}: {}", text(&out));
    }
}

#[test]
fn a_listener_inside_refuses_a_client_that_is_not_of_its_tier() {
    let running = start();
    let domain = running.site.internal_domain();
    for (name, socket, good, wrong_role) in [
        (format!("web1.{domain}"), "10.0.2.11:8443", "pki/lb1/client", "pki/app1/client"),
        (format!("web1.{domain}"), "[fd00:2::11]:8443", "pki/lb2/client", "pki/web2/client"),
        (format!("app1.{domain}"), "10.0.3.11:9443", "pki/web2/client", "pki/lb1/client"),
    ] {
        let ask = |client| running.inside(&name, socket, client);
        assert_eq!(ask(Some((&running.materials, good))), "200", "{socket}");
        assert_eq!(ask(None), "400", "{socket}: no certificate");
        assert_eq!(ask(Some((&running.materials, wrong_role))), "403", "{socket}: another role's");
        assert_eq!(ask(Some((&running.expired, good))), "400", "{socket}: expired");
        assert_eq!(ask(Some((&running.foreign, good))), "400", "{socket}: another authority's");
        let server = good.replace("client", "server");
        assert_eq!(ask(Some((&running.materials, &server))), "400", "{socket}: a server's");
    }
    // The right client, but under a name that is not this listener's.
    let role = running.site.role_name(infra::inventory::site::Role::Web);
    assert_eq!(running.inside(&role, "10.0.2.11:8443", Some((&running.materials, "pki/lb1/client"))), "200");
    let folder = running.twin.shared().display().to_string();
    // HAProxy 2.6 now and then names nobody after a retry.
    let out = running.twin.outside(&format!(
        "curl -q -s -k -m 5 -o /dev/null -w '%{{http_code}}' --cert {folder}/client.pem https://10.0.2.11:8443/infra-health"
    ));
    assert_eq!(text(&out), "200", "no name");
    let out = running.twin.outside(&format!(
        "curl -q -s -k -m 5 -o /dev/null -w '%{{http_code}}' --cert {folder}/client.pem \
         --resolve other.example:8443:10.0.2.11 https://other.example:8443/infra-health"
    ));
    assert_eq!(text(&out), "421");
}

#[test]
fn a_client_inside_refuses_a_server_that_is_not_who_it_should_be() {
    let running = start();
    for (hosts, other, code) in [(["web1", "web2"], "app1", "503"), (["app1", "app2"], "web1", "502")] {
        let own = |host: &str| host.to_owned();
        running.serve(&hosts, &running.materials, |_| other.to_owned());
        running.through(code);
        running.serve(&hosts, &running.materials, own);
        running.through("200");
        running.serve(&hosts, &running.expired, own);
        running.through(code);
        running.serve(&hosts, &running.materials, own);
        running.through("200");
        running.serve(&hosts, &running.foreign, own);
        running.through(code);
        running.serve(&hosts, &running.materials, own);
        running.through("200");
    }
}

#[test]
fn what_a_reload_did_not_do_is_seen() {
    let running = start();
    let probe = |host: &str, title: &str| {
        let wanted = &running.desired[&host.parse().unwrap()];
        wanted.probes.iter().find(|p| p.title.contains(title)).unwrap().command.clone()
    };
    let holds = |command: &str| running.twin.run("lb1", command).status.success();
    let (newest, leaf) = (probe("lb1", "newest haproxy worker"), probe("lb1", "https for shop.example.com"));
    let reload = || assert!(holds("kill -USR2 \"$(cat /run/haproxy.pid)\""));
    let becomes = |command: &str, good: bool| {
        let seen = wait(Duration::from_secs(20), || (holds(command) == good).then_some(()));
        assert!(seen.is_some(), "{command}\nstays {}", !good);
    };
    assert!(holds(&newest) && holds(&leaf));
    // Accepted by `haproxy -c`, but no worker can start with it.
    assert!(holds(
        "sed -i.good 's/bind :443/bind 192.0.2.99:443/' /etc/haproxy/haproxy.cfg && haproxy -c -q -f /etc/haproxy/haproxy.cfg"
    ));
    reload();
    // Until the master has given up: while it tries, it hears no other signal.
    becomes("echo 'show proc' | socat -t 5 - UNIX-CONNECT:/run/haproxy-master.sock | grep -F '[failed: 1]'", true);
    assert!(!holds(&newest));
    assert!(holds(&leaf), "the old worker serves on");
    assert!(holds("mv /etc/haproxy/haproxy.cfg.good /etc/haproxy/haproxy.cfg"));
    reload();
    becomes(&newest, true);
    // A certificate that was put in place, but is not served yet.
    assert!(holds("cp /etc/haproxy/sites/docs.example.org.pem /etc/haproxy/sites/shop.example.com.pem"));
    assert!(!holds(&leaf));
    // The same on a web host.
    let leaf = probe("web1", "tls on 10.0.2.11:8443");
    let renewed = running.materials.public("pki/web2/server.crt").unwrap();
    assert!(running.twin.run("web1", &leaf).status.success());
    running.twin.put("web1", "/etc/nginx/tls/server.crt", renewed);
    assert!(!running.twin.run("web1", &leaf).status.success());
}

#[test]
fn another_authority_inside_is_not_noticed_outside() {
    let running = start();
    let mut bad = Vec::new();
    let mut ask = |when: &str| {
        for (lb, address) in [("lb1", "10.0.1.11"), ("lb2", "10.0.1.12")] {
            for _ in 0..2 {
                let seen = running.edge(&format!(
                    "-o /dev/null -w '%{{http_code}} ' --connect-to '::{address}:443' 'https://shop.example.com/r[1-5]'"
                ));
                if seen != "200 200 200 200 200 " {
                    bad.push(format!("{when}, {lb}: {seen}"));
                }
            }
        }
    };
    pki::start_rotation(&running.site, &running.site.state, OffsetDateTime::now_utc()).unwrap();
    for step in 0..3 {
        let issued = pki::ensure(&running.site, &running.site.state, OffsetDateTime::now_utc()).unwrap();
        for host in ["app1", "app2", "web1", "web2", "lb1", "lb2"] {
            for (path, file) in &running.desired[&host.parse().unwrap()].files {
                if path.contains("/tls/") {
                    running.twin.put(host, path, &issued.materials.materialize(&file.body.text).unwrap());
                }
            }
            let reload =
                if host.starts_with("lb") { "kill -USR2 \"$(cat /run/haproxy.pid)\"" } else { "nginx -s reload" };
            assert!(running.twin.run(host, reload).status.success(), "{host}");
            ask(&format!("step {step}, {host}"));
        }
        pki::mark_deployed(&running.site.state, issued.step).unwrap();
    }
    let logs = ["web1", "web2", "app1", "app2"].map(|host| {
        let read = "grep -v 'status\":200' /var/log/nginx/access.log; tail -n 5 /var/log/nginx/error.log";
        format!("{host}: {}", text(&running.twin.run(host, read)))
    });
    assert!(bad.is_empty(), "{bad:#?}\n{}", logs.join("\n"));
}

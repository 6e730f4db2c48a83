//! The three tiers run for real on a private bridge: a page goes through, and every hop refuses whom it must.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::ops::Deref;
use std::time::Duration;

use common::tiers::Tiers;
use common::twin::{text, wait};
use infra::base::material::Material;
use infra::base::materials::Materials;
use infra::base::secret::sentinel;
use infra::pki;
use time::OffsetDateTime;

/// The user's program: says what it was told.
const PROGRAM: &str = "pid /run/program.pid; error_log /run/program.log; events {}\n\
    http { access_log off; server { listen 127.0.0.1:8080;\n\
    location = /healthz { return 200 ok; }\n\
    location = /ws { proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
    proxy_set_header Connection $http_connection; proxy_pass http://127.0.0.1:8081; }\n\
    location / { return 200 \"xff=$http_x_forwarded_for proto=$http_x_forwarded_proto host=$http_host \
    real=$http_x_real_ip proxy=$http_proxy up=$http_upgrade/$http_connection uri=$request_uri\\n\"; } } }\n";

/// What behind it speaks `websocket` (RFC 6455 section 4.2.2): takes any protocol that it is asked for, then says all back.
const ECHO: &str = r#"up= key=
while read -r line; do
    line=${line%?}
    case $line in '') break ;; [Uu]pgrade:*) up=${line#*: } ;; [Ss]ec-[Ww]eb[Ss]ocket-[Kk]ey:*) key=${line#*: } ;; esac
done
if [ -z "$up" ]; then printf 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno tunnel'; exit; fi
accept=$(printf %s "${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11" | openssl dgst -sha1 -binary | openssl base64)
printf 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n' "$up"
printf 'Sec-WebSocket-Accept: %s\r\n\r\n' "$accept"
exec cat
"#;

struct Running {
    tiers: Tiers,
    /// Of the same authority, but over.
    expired: Materials,
    /// Of another authority with the same names.
    foreign: Materials,
    _state: tempfile::TempDir,
}

impl Deref for Running {
    type Target = Tiers;

    fn deref(&self) -> &Tiers {
        &self.tiers
    }
}

fn start() -> Running {
    let state = tempfile::tempdir().unwrap();
    let site = common::three_tier(&state.path().join("ours"));
    let now = OffsetDateTime::now_utc();
    let expired = pki::ensure(&site, &site.state, now - Duration::from_secs(100 * 86400)).unwrap().materials;
    let foreign = pki::ensure(&site, &state.path().join("theirs"), now).unwrap().materials;
    let tiers = Tiers::start(site, |twin, app| {
        twin.put(app, "/run/program.conf", PROGRAM);
        let out = twin.run(app, "nginx -c /run/program.conf >/run/start.log 2>&1 </dev/null");
        assert!(out.status.success(), "{}", text(&out));
        twin.put(app, "/run/echo.sh", ECHO);
        let listen = "TCP-LISTEN:8081,bind=127.0.0.1,reuseaddr,fork EXEC:'sh /run/echo.sh'";
        let out = twin.run(app, &format!("setsid -f socat {listen} >/run/echo.log 2>&1 </dev/null"));
        assert!(out.status.success(), "{}", text(&out));
    });
    Running { tiers, expired, foreign, _state: state }
}

impl Running {
    /// The code that a listener inside gives to a client with these materials' certificate.
    fn inside(&self, name: &str, socket: &str, client: Option<(&Materials, &str)>) -> String {
        let folder = self.twin.shared();
        std::fs::write(folder.join("ca.crt"), self.materials.public(&Material::HopAuthorities).unwrap()).unwrap();
        let show = client.map_or(String::new(), |(materials, leaf)| {
            let owner = leaf.split('/').nth(1).unwrap().parse().unwrap();
            let names = [sentinel(format!("{leaf}.crt")), sentinel(format!("{leaf}.key"))].concat();
            let pem = materials.share(&owner).materialize(&names);
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
                let owner = leaf_of(host).parse().unwrap();
                let pem = materials.share(&owner).materialize(&sentinel(&name)).unwrap();
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

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A request of HTTP/2 that makes a stream one of another protocol (RFC 8441). No field is compressed (RFC 7541 section 6.2.2).
fn extended_connect(protocol: &str) -> Vec<u8> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "https"),
        (":path", "/ws"),
        (":authority", "shop.example.com"),
        ("sec-websocket-version", "13"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let fields = fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat());
    let headers = frame(1, 4, 1, &fields.collect::<Vec<u8>>());
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), headers].concat()
}

#[test]
fn websocket_alone_is_a_way_through() {
    let running = start();
    let sec = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for word in ["websocket", "WebSocket"] {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: {word}\r\n{sec}\r\n"
        );
        let answer = running.raw("http/1.1", &[(request.as_bytes(), "Accept:"), (b"said back", "said back")]);
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("said back"), "{word}: {answer}");
    }
    let data = frame(0, 0, 1, b"said back");
    let answer = running.raw("h2", &[(&extended_connect("websocket"), "accept"), (&data, "said back")]);
    assert!(answer.ends_with("said back"), "{answer}");
    // (Of a list with `h2c` newer versions of HAProxy leave the rest: tests/lab/releases.rs has those.)
    // Nothing else is: the request is answered as one without a wish, and the program does not even hear of it.
    for upgrade in [
        "-H 'Upgrade: h2c' -H 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA'",
        "-H 'Upgrade: H2C'",
        "-H 'Upgrade: foo'",
        "-H 'Upgrade: websocket, foo'",
        "-H 'Upgrade: foo, websocket'",
        "-H 'Upgrade: websocket/13'",
        "-H 'Upgrade: websocket' -H 'Upgrade: foo'",
        "-H 'Upgrade: foo' -H 'Upgrade: websocket'",
        "-H 'Upgrade: TLS/1.0'",
    ] {
        for connection in ["Upgrade", "upgrade, HTTP2-Settings"] {
            let ask = |path: &str| {
                // HAProxy answers 400 to a wish for `websocket` that has no key.
                running.edge(&format!(
                    "--http1.1 -H 'Connection: {connection}' {upgrade} -H 'Sec-WebSocket-Version: 13' \
                     -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -w ' %{{http_code}}' https://shop.example.com{path}"
                ))
            };
            assert_eq!(ask("/ws"), "no tunnel 200", "{connection}: {upgrade}");
            let seen = ask("/");
            assert!(seen.contains(" up=/ uri=/\n 200"), "{connection}: {upgrade}: {seen}");
        }
    }
    for protocol in ["h2c", "connect-udp", "websocket, h2c"] {
        let answer = running.raw("h2", &[(&extended_connect(protocol), "501"), (&data, "")]);
        assert!(answer.contains("501") && !answer.contains("said back"), "{protocol}: {answer}");
    }
    let code = |args: &str| running.edge(&format!("-o /dev/null -w '%{{http_code}}' {args}"));
    assert_eq!(code("--http1.1 -X CONNECT --request-target shop.example.com:443 https://shop.example.com/"), "405");
}

#[test]
fn a_path_is_what_it_means_however_it_is_written() {
    let running = start();
    let ask = |args: &str, path: &str| {
        running.edge(&format!("--path-as-is -w ' %{{http_code}}' {args} 'https://shop.example.com{path}'"))
    };
    for version in ["--http1.1", "--http2"] {
        for path in [
            "/.well-known/infra/health",
            "/%2ewell-known/infra/health",
            "/%2E%77ell-known/%69nfra/healt%68",
            "/.well-known%2finfra%2Fhealth",
            "//.well-known/infra/health",
            "/.well-known//infra///health",
            "/./.well-known/./infra/health",
            "/x/../.well-known/infra/health",
            "/x/y/%2e%2e/.%2E/.well-known/infra/health",
            "/.well-known/x/../infra/health",
            "/x%2f..%2f.well-known/infra/health",
            "/static/../.well-known/infra/health",
            "/.well-known/infra/health?x=1",
            "/.well-known/infra/health;x",
            "/.well-known/infra/",
            "/static/.env",
            "/static/%2eenv",
            "/static//.env",
            "/x/../static/%2e%65nv",
        ] {
            for mark in ["", "-H 'X-Infra-Probe: yes'", "-H 'x-INFRA-probe: yes' -H 'Connection: x-infra-probe'"] {
                let answer = ask(&format!("{version} {mark}"), path);
                let gone = answer.ends_with(" 404") && !answer.contains("uri=") && !answer.contains("infra app");
                assert!(gone, "{version} {mark} {path}: {answer}");
            }
        }
        // What is not ours comes to the program as it was written.
        for path in [
            "/api/a%2Fb",
            "/a//b/",
            "/a/../b",
            "/a%5cb",
            "/static%2e./x.txt",
            "/%252ewell-known/infra/health",
            "/.well-known/security.txt",
            "/.well-known/infrastructure",
        ] {
            let answer = ask(version, path);
            assert!(answer.ends_with(&format!(" uri={path}\n 200")), "{version} {path}: {answer}");
        }
        for path in ["/a%00b", "/../x", "/a/%2e%2e/%2e%2e/b", "/static/..%2f..%2fx"] {
            assert!(ask(version, path).ends_with(" 400"), "{version} {path}");
        }
    }
    for target in
        ["https://shop.example.com/.well-known/infra/health", "https://shop.example.com/%2ewell-known/infra/health"]
    {
        let answer = ask(&format!("--http1.1 --request-target {target}"), "/");
        assert!(answer.ends_with(" 404") && !answer.contains("infra app"), "{target}: {answer}");
    }
    // A request line for one site with the host of another is for neither.
    let crossed = ask("--http1.1 --request-target https://docs.example.org/", "/");
    assert!(crossed.ends_with(" 400") || crossed.ends_with(" 421"), "{crossed}");
    // Two lengths make no second request of a body.
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 4\r\nContent-Length: 40\r\n",
    ] {
        let request = format!(
            "POST /first HTTP/1.1\r\nHost: shop.example.com\r\n{lengths}\r\n0\r\n\r\n\
             GET /second HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"
        );
        let answer = running.raw("http/1.1", &[(request.as_bytes(), "HTTP/1.1 ")]);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lengths}: {answer}");
    }
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
    let renewed = running.materials.public(&"pki/web2/server.crt".parse().unwrap()).unwrap();
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
            let name = host.parse().unwrap();
            for (path, file) in &running.desired[&name].files {
                if path.contains("/tls/") {
                    let share = issued.materials.share(&name);
                    running.twin.put(host, path, &share.materialize(&file.body.text).unwrap());
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

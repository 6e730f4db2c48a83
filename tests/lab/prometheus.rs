//! Prometheus in a lab: who watches scrapes every host over TLS and sees it by name, nobody else gets a measure, four alerts fire
//! when what they are about happens, and nothing is left when it is taken out.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bench::Bench;
use checks::Check;
use infra::lab::Release;

const INVENTORY: &str = "name: shop
ssh: { user: root }
hosts:
  lb1: { address: 10.0.1.11, public: 203.0.113.11, roles: [lb] }
  web1: { address: [10.0.2.11, \"fd00:2::11\"], roles: [web] }
  db1: { address: 10.0.4.11, roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
  mon1: { address: 10.0.9.11, roles: [monitor] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
sites: { shop.example.com: { static: { root: /srv/shop } } }
database: { engine: mariadb, primary: db1, schemas: [shop] }
monitoring:
  service: prometheus
  from: [198.51.100.99]
  alerts:
    AgentSilent: { for: 0s }
    CertificateNotRenewed: { for: 0s }
    FirewallMissing: { for: 0s }
    NoServer: { for: 0s }
    ReplicaStopped: { for: 0s }
    SiteDown: { for: 0s }
    UnitFailed: { for: 0s }
";
const HOSTS: [&str; 5] = ["db1", "db2", "lb1", "mon1", "web1"];
/// What is waited for comes by then, or never; more than the life of a certificate that ages.
const DEADLINE: Duration = Duration::from_mins(3);
const LIFETIME: Duration = Duration::from_mins(1);
const ALL_UP: [&str; 5] = ["db1=1", "db2=1", "lb1=1", "mon1=1", "web1=1"];

#[test]
fn prometheus() {
    let bench = Bench::up("t-prometheus", INVENTORY, Release::Bookworm);
    // Looked at more often than on real hosts: nobody waits here for a quarter of a minute at a time.
    let often = include_str!("../../templates/prometheus/prometheus.yml").replace(": 15s", ": 2s");
    bench::write(&bench.dir.path().join("templates/prometheus/prometheus.yml"), &often);
    let all: [Check<Bench>; 9] = [
        ("who watches sees every host by name", scraped),
        ("measures have names", named),
        ("the status tells of each host's last scrape", told),
        ("a request through the edge is counted once", counted),
        ("nobody else gets a measure", refused),
        ("a Prometheus outside is let in, by its address and its certificate", outside),
        ("the account that measures gets another password", rotated),
        ("what happens is alerted about, and what is over is not", alerted),
        ("taken out, nothing of it is left", removed),
    ];
    checks::run(&bench, &all, |bench| drop(bench.apply()));
}

/// What Prometheus says to a query: the samples as `LABEL=VALUE` of the label `host`, sorted.
fn asked(bench: &Bench, query: &str) -> Vec<String> {
    let script = format!("curl -sS -m 10 http://127.0.0.1:9090/api/v1/query --data-urlencode 'query={query}'");
    let said = bench.sh("mon1", &script);
    let Ok(answer) = serde_json::from_str::<serde_json::Value>(&said.out) else { return Vec::new() };
    let samples = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let mut seen: Vec<String> = samples
        .iter()
        .map(|s| format!("{}={}", s["metric"]["host"].as_str().unwrap_or(""), s["value"][1].as_str().unwrap_or("")))
        .collect();
    seen.sort();
    seen
}

/// Waits until Prometheus says just that.
#[track_caller]
fn seen(bench: &Bench, what: &str, query: &str, expected: &[&str]) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let last = asked(bench, query);
        if last == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {query} gives {last:?}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn scraped(bench: &Bench) {
    bench.apply().expect(0);
    let again = bench.apply().expect(0);
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    seen(bench, "every host is up", "up{job=\"node\"}", &ALL_UP);
    seen(bench, "HAProxy is up", "up{job=\"haproxy\"}", &["lb1=1"]);
    seen(bench, "the firewalls are loaded", "infra_firewall_loaded", &ALL_UP);
    // Each measure that an alert needs is really there, under that name.
    for measure in [
        "node_filesystem_avail_bytes",
        "node_filesystem_files_free",
        "node_memory_MemAvailable_bytes",
        "node_systemd_unit_state{state=\"failed\"}",
        "node_nf_conntrack_entries_limit",
        "infra_firewall_refused_packets_total{direction=\"out\"}",
        "infra_certificate_not_after_seconds",
        "infra_measured_seconds",
    ] {
        let query = format!("count by (host) ({measure}) > bool 0");
        seen(bench, measure, &query, &ALL_UP);
    }
    seen(bench, "the databases are measured", "mysql_up", &["db1=1", "db2=1"]);
    seen(bench, "and whole", "mysql_exporter_last_scrape_error", &["db1=0", "db2=0"]);
    seen(bench, "who writes", "mysql_global_variables_read_only", &["db1=0", "db2=1"]);
    seen(bench, "who follows", "mysql_slave_status_slave_sql_running", &["db2=1"]);
    seen(bench, "how far behind", "mysql_slave_status_seconds_behind_master", &["db2=0"]);
    seen(bench, "semi-sync", "mysql_global_status_rpl_semi_sync_master_clients{host=\"db1\"}", &["db1=1"]);
    seen(bench, "nginx is measured", "nginx_up", &["web1=1"]);
    seen(bench, "the site is well", "probe_success{job=\"site\",site=\"shop.example.com\"}", &["lb1=1"]);
    seen(bench, "servers of HAProxy", "haproxy_backend_active_servers{proxy=\"web\"}", &["lb1=1"]);
    seen(bench, "state of a server", "haproxy_server_status{proxy=\"web\",server=\"web1\",state=\"DOWN\"}", &["lb1=0"]);
}

/// The status has of every host when it was last scraped, as who watches says.
fn told(bench: &Bench) {
    bench::wait("every host is seen to be scraped", Duration::from_secs(60), || {
        let said = bench.infra(&["status", "--json"]);
        let seen =
            said.out.lines().filter(|line| line.contains("\"what\":\"measures\"") && !line.contains("\"at\":null"));
        (said.code == 0 && seen.count() == HOSTS.len()).then_some(())
    });
}

/// Keeps the names of all measures where they are asked for (`UPDATE_EXPECTED=1`); `tests/dashboards.rs` holds what uses them to it.
fn named(bench: &Bench) {
    let said = bench.sh("mon1", "curl -sS -m 10 http://127.0.0.1:9090/api/v1/label/__name__/values").expect(0);
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let names: Vec<&str> = answer["data"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert!(names.contains(&"up") && names.len() > 500, "{names:?}");
    if std::env::var_os("UPDATE_EXPECTED").is_none() {
        return;
    }
    let versions = "dpkg-query -W -f '# ${Package} ${Version}\\n' 'prometheus*' haproxy nginx mariadb-server 2>/dev/null | grep ' .'";
    let hosts = HOSTS.map(|host| bench.sh(host, versions).out);
    let versions: BTreeSet<&str> = hosts.iter().flat_map(|text| text.lines()).collect();
    let head = "# The names of all measures that Prometheus of this lab has scraped.";
    let text = [&[head][..], &versions.into_iter().collect::<Vec<_>>(), &names].concat().join("\n");
    std::fs::write("tests/fixtures/measures/bookworm-mariadb.txt", text + "\n").unwrap();
}

fn counted(bench: &Bench) {
    // What asks for pages as a visitor is counted as one.
    bench.sh("mon1", "systemctl stop prometheus-blackbox-exporter").expect(0);
    let own =
        "curl -s http://127.0.0.1:8405/metrics | sed -n 's/^haproxy_frontend_http_requests_total{proxy=\"https\"} //p'";
    let before: u64 = bench.sh("lb1", own).expect(0).out.trim().parse().unwrap();
    let behind = || -> f64 {
        let own = "curl -s http://127.0.0.1:9113/metrics | sed -n 's/^nginx_http_requests_total //p'";
        bench.sh("web1", own).expect(0).out.trim().parse().unwrap()
    };
    let behind_before = behind();
    let ca = bench.sites_ca();
    let once = format!("curl -sS -m 10 -o /dev/null --cacert '{}' https://shop.example.com/", ca.display());
    bench.sh("outside", &format!("for i in $(seq 20); do {once} || exit 1; done")).expect(0);
    let expected = format!("lb1={}", before + 20);
    seen(bench, "20 requests", "haproxy_frontend_http_requests_total{proxy=\"https\"}", &[&expected]);
    // It counts checks, too.
    assert!(behind() >= behind_before + 20.0, "{behind_before} {}", behind());
    bench.sh("mon1", "systemctl start prometheus-blackbox-exporter").expect(0);
    seen(bench, "the site is asked for again", "probe_success{job=\"site\"}", &["lb1=1"]);
}

fn refused(bench: &Bench) {
    // A host that does not watch has a certificate of the same authority, but no way through the firewall; on the host itself it
    // has the way, and the wrong name.
    for (host, address, folder, code) in [
        ("web1", "10.0.2.11", "/etc/nginx/tls/client.crt --key /etc/nginx/tls/client.key", "403"),
        ("lb1", "10.0.1.11", "/etc/haproxy/tls/client.pem", "403"),
    ] {
        let name = format!("{host}.shop.infra.internal");
        let ask = |cert: &str| {
            let script = format!(
                "curl -s -m 5 -o /dev/null -w '%{{http_code}}' --cacert /etc/infra/ca.crt {cert} --resolve {name}:8405:{address} https://{name}:8405/node"
            );
            bench.sh(host, &script).out
        };
        assert_eq!(ask(&format!("--cert {folder}")), code, "{host}");
        assert!(["000", "400"].contains(&ask("").as_str()), "{host}");
    }
    let from_lb = bench.sh("lb1", "timeout 3 sh -c 'exec 3<>/dev/tcp/10.0.2.11/8405' 2>&1; curl -sk -m 3 -o /dev/null -w '%{http_code}' https://10.0.2.11:8405/node");
    assert!(from_lb.out.ends_with("000"), "{}", from_lb.out);
    // The exporters and Prometheus itself speak to their own hosts alone.
    for host in HOSTS {
        let open = bench
            .sh(host, "ss -Hltn | awk '{ print $4 }' | grep -E ':(8406|9090|9093|9100|9104|9113|9115)$'")
            .expect(0)
            .out;
        assert!(open.lines().all(|socket| socket.starts_with("127.0.0.1:")), "{host}: {open}");
    }
    let modes = bench.sh("mon1", "stat -c '%a %U:%G' /etc/prometheus/infra/client.key").expect(0).out;
    assert_eq!(modes, "640 root:prometheus\n");
}

/// Who measures the databases restarts with the new password before the old one ends.
fn rotated(bench: &Bench) {
    let digest = "sha256sum /etc/infra/mysqld-exporter.cnf";
    let before = bench.sh("db1", digest).expect(0).out;
    bench.infra(&["db", "rotate", "infra_monitor", "--yes"]).expect(0);
    assert_ne!(bench.sh("db1", digest).expect(0).out, before);
    let again = bench.apply().expect(0);
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    // A login of now, not one that was kept.
    let now = "curl -s -m 10 http://127.0.0.1:9104/metrics | grep -x 'mysql_up 1'";
    for host in ["db1", "db2"] {
        bench.sh(host, now).expect(0);
        bench.sh(host, "mariadb --defaults-file=/etc/infra/mysqld-exporter.cnf -e 'SELECT 1'").expect(0);
    }
}

fn outside(bench: &Bench) {
    let to = bench.dir.path().join("handed");
    let said = bench.infra(&["alerts", "--to", to.to_str().unwrap()]).expect(0);
    assert!(
        said.err.contains("the certificate of the Prometheus outside: outside.shop.infra.internal"),
        "{}",
        said.err
    );
    let key = to.join("infra-scrape/client.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut promtool = std::process::Command::new("promtool");
    let checked = promtool.args(["check", "config", "infra-scrape.yml"]).current_dir(&to).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let ask = |from: &str, cert: &str, (host, address, job): (&str, &str, &str)| {
        let name = format!("{host}.shop.infra.internal");
        let script = format!(
            "cd '{}' && curl -s -m 3 {from} -o /dev/null -w '%{{http_code}}' --cacert ca.crt {cert} --resolve {name}:8405:{address} https://{name}:8405/{job}",
            to.join("infra-scrape").display()
        );
        bench.sh("outside", &script).out
    };
    let (its, own) = ("--interface 198.51.100.99", "--cert client.crt --key client.key");
    let mut targets = 0;
    let written = std::fs::read_to_string(to.join("infra-scrape.yml")).unwrap();
    for (host, address) in
        [("db1", "10.0.4.11"), ("db2", "10.0.4.12"), ("lb1", "10.0.1.11"), ("mon1", "10.0.9.11"), ("web1", "10.0.2.11")]
    {
        for job in ["node", "haproxy", "mysqld", "nginx"] {
            let is_target = written.contains(&format!("job_name: \"{job} {host}\""));
            let code = ask(its, own, (host, address, job));
            assert_eq!(code, if is_target { "200" } else { "404" }, "{job} of {host}");
            targets += usize::from(is_target);
        }
        assert!(["000", "400", "403"].contains(&ask(its, "", (host, address, "node")).as_str()), "{host}");
    }
    assert_eq!(targets, 9);
    assert_eq!(ask("", own, ("web1", "10.0.2.11", "node")), "000");
}

/// Hosts about which an alert fires.
#[track_caller]
fn alerts(bench: &Bench, name: &str, expected: &[&str]) {
    seen(bench, name, &format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}"), expected);
}

/// Puts a certificate on web1 that ends within a minute, as if it had not been renewed.
fn age(bench: &Bench) {
    let mut leaf = rcgen::CertificateParams::new(vec!["old.example.com".to_owned()]).unwrap();
    leaf.not_before = time::OffsetDateTime::now_utc();
    leaf.not_after = leaf.not_before + LIFETIME;
    let pem = leaf.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    bench.sh("web1", &format!("cat >/etc/nginx/tls/old.crt <<'E'\n{pem}E\nsystemctl restart infra-measures")).expect(0);
    seen(
        bench,
        "the certificate is measured",
        "infra_certificate_not_after_seconds{file=~\".*/old.crt\"} > bool 0",
        &["web1=1"],
    );
}

fn alerted(bench: &Bench) {
    for name in [
        "NoServer",
        "SiteDown",
        "AgentSilent",
        "FirewallMissing",
        "UnitFailed",
        "NothingMeasured",
        "ReplicaStopped",
        "CertificateNotRenewed",
    ] {
        alerts(bench, name, &[]);
    }
    age(bench);
    bench.sh("db2", "mariadb -e 'STOP SLAVE SQL_THREAD'").expect(0);
    alerts(bench, "ReplicaStopped", &["db2=1"]);
    bench.sh("db2", "mariadb -e 'START SLAVE SQL_THREAD'").expect(0);
    alerts(bench, "ReplicaStopped", &[]);
    bench.sh("web1", "systemctl stop nginx").expect(0);
    alerts(bench, "NoServer", &["lb1=1"]);
    alerts(bench, "SiteDown", &["lb1=1"]);
    // Of the host, and of its nginx: the front is nginx, too.
    alerts(bench, "AgentSilent", &["web1=1", "web1=1"]);
    let told =
        "curl -sS -m 10 'http://127.0.0.1:9093/api/v2/alerts?active=true' | grep -q '\"alertname\":\"NoServer\"'";
    bench::wait("Alertmanager is told", DEADLINE, || (bench.sh("mon1", told).code == 0).then_some(()));
    bench.sh("web1", "systemctl start nginx").expect(0);
    alerts(bench, "NoServer", &[]);
    alerts(bench, "SiteDown", &[]);
    alerts(bench, "AgentSilent", &[]);
    let broken = "nft delete table inet infra && systemctl restart infra-measures.service; \
                  printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n' >/etc/systemd/system/bad.service; systemctl start bad.service; true";
    bench.sh("web1", broken).expect(0);
    alerts(bench, "FirewallMissing", &["web1=1"]);
    alerts(bench, "UnitFailed", &["web1=1"]);
    bench.sh("web1", "rm /etc/systemd/system/bad.service; systemctl reset-failed; systemctl daemon-reload").expect(0);
    bench.apply().expect(0);
    alerts(bench, "FirewallMissing", &[]);
    alerts(bench, "UnitFailed", &[]);
    alerts(bench, "CertificateNotRenewed", &["web1=1"]);
    bench.sh("web1", "rm /etc/nginx/tls/old.crt; systemctl restart infra-measures").expect(0);
    alerts(bench, "CertificateNotRenewed", &[]);
}

fn removed(bench: &Bench) {
    bench.edit("service: prometheus", "service: none");
    bench.apply().expect(0);
    let again = bench.apply().expect(0);
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    for host in HOSTS {
        let left = bench.sh(
            host,
            "ss -Hltn | grep -E ':(8405|8406|9090|9093|9100|9104|9113|9115) ' | grep -v 127.0.0.1:8405; systemctl is-enabled infra-measures.service prometheus-node-exporter 2>/dev/null | grep -x enabled; \
             ls /etc/prometheus/infra/*.key /etc/prometheus/infra.yml /var/lib/infra/measures /etc/nginx/conf.d/*scrape* /etc/systemd/system/infra-measures.* /var/lib/prometheus/node-exporter/infra.prom 2>/dev/null; true",
        );
        let unit = || {
            bench
                .sh(
                    host,
                    "systemctl status -n 20 infra-measures.service; journalctl -n 20 -o cat -u infra-measures.service",
                )
                .out
        };
        assert_eq!(left.out, "", "{host}: {}", unit());
    }
    let accounts =
        bench.sh("db1", "mariadb -NBe \"SELECT COUNT(*) FROM mysql.user WHERE user = 'infra_monitor'\"").expect(0).out;
    assert_eq!(accounts, "0\n");
    bench.edit("service: none", "service: prometheus");
    bench.apply().expect(0);
    seen(bench, "every host is up again", "up{job=\"node\"}", &ALL_UP);
}

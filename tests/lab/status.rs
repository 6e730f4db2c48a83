//! `infra status` on real hosts, in the lab of `apply.rs`: a fleet that is well, each thing that is wrong by its name and exit code, and
//! requests counted one by one.

use std::time::Duration;

use serde_json::Value;

use super::bench::{Bench, Said, wait};
use super::has;

/// What a status is, as lines of JSON by their event.
fn events(said: &Said, event: &str) -> Vec<Value> {
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

/// All requests of the site that the load balancers have counted, and those of the last window.
fn counted(said: &Said) -> (u64, u64) {
    let sites = events(said, "site_status");
    let shares = || sites[0]["hosts"].as_array().unwrap().iter();
    let sum = |field: &str| shares().map(|share| share[field].as_u64().unwrap()).sum();
    (sum("total"), sum("requests"))
}

/// `words` with `infra status`, again until the exit code is `code`: a load balancer sees what becomes of a server some seconds later.
fn status(bench: &Bench, words: &[&str], code: i32) -> Said {
    let words = [&["status"], words].concat();
    wait(&format!("`infra {}` ends with {code}", words.join(" ")), Duration::from_secs(60), || {
        Some(bench.infra(&words)).filter(|said| said.code == code)
    })
}

pub(crate) fn a_fleet_that_is_well(bench: &Bench) {
    let said = status(bench, &[], 0);
    has(&said.out, &["shop: 6 hosts, all well", "lb1", "web2", "shop.example.com", "requests/s", " d "]);
    assert!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
    let part = status(bench, &["--limit", "role:web"], 0);
    has(&part.out, &["shop: 2 hosts, all well"]);
    assert!(!part.out.contains("lb1 "), "{}", part.out);
    let (metrics, page) = (bench.dir.path().join("infra.prom"), bench.dir.path().join("status.html"));
    let files = ["--prometheus", metrics.to_str().unwrap(), "--html", page.to_str().unwrap()];
    status(bench, &files, 0);
    let judge = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&metrics).unwrap())
        .output()
        .expect("promtool (Debian: prometheus) did not start");
    let judged = String::from_utf8_lossy(&judge.stderr);
    assert!(judge.status.success() && judged.is_empty(), "{judged}");
    let (metrics, page) = (fs_err::read_to_string(metrics).unwrap(), fs_err::read_to_string(page).unwrap());
    has(
        &metrics,
        &["infra_host_up{host=\"lb1\",role=\"lb\"} 1", "infra_cert_not_after_seconds{", "infra_http_requests_total{"],
    );
    has(&page, &["6 hosts, all well", "app2</strong>", "TLS, for "]);
    let nowhere = bench.infra(&["status", "--html", "/none/x.html"]).expect(2);
    has(&nowhere.err, &["`/none/x.html` cannot be written: there is no folder `/none`", "make that folder"]);
}

/// Each request through the edge is one, by its status.
pub(crate) fn requests_are_counted(bench: &Bench) {
    let ask = |from: u32, to: u32, path: &str| {
        let ca = bench.sites_ca();
        let script = format!(
            "curl -sS --fail-early -o /dev/null --cacert '{}' 'https://shop.example.com{path}?[{from}-{to}]'",
            ca.display()
        );
        bench.sh("outside", &script).expect(0);
    };
    let before = counted(&status(bench, &["--json"], 0));
    ask(1, 1000, "/");
    ask(1, 7, "/static/none");
    let said = status(bench, &["--json"], 0);
    assert_eq!(counted(&said).0 - before.0, 1007);
    let hosts = events(&said, "site_status")[0]["hosts"].clone();
    let class = |at: usize| -> u64 {
        hosts.as_array().unwrap().iter().map(|share| share["total_answers"][at].as_u64().unwrap()).sum()
    };
    assert!(class(1) >= 1000 && class(3) >= 7, "{hosts}");
    for share in hosts.as_array().unwrap() {
        let of = |field: &str| share[field].as_f64().unwrap();
        assert!((of("per_second") * of("seconds") - of("requests")).abs() < 0.01, "{share}");
    }
}

/// What is wrong has its name, its way out, and its exit code.
pub(crate) fn what_is_wrong_is_named(bench: &Bench) {
    bench.sh("web1", "systemctl stop nginx").expect(0);
    let said = status(bench, &[], 1);
    has(&said.out, &["1 with something wrong", "web1: nginx.service is inactive", "`journalctl -u nginx.service`"]);
    wait("the load balancers see it", Duration::from_secs(30), || {
        bench.infra(&["status"]).out.contains("sends nothing to web1, which it sees as DOWN").then_some(())
    });
    let lines = status(bench, &["--json"], 1);
    let host = events(&lines, "host_status").into_iter().find(|host| host["host"] == "web1").unwrap();
    let nginx = host["units"].as_array().unwrap().iter().find(|unit| unit["unit"] == "nginx.service").unwrap();
    assert_eq!((host["good"].as_bool(), nginx["state"].as_str()), (Some(false), Some("inactive")), "{host}");
    assert_eq!(events(&lines, "status")[0]["exit"], 1);
    bench.sh("web1", "systemctl start nginx").expect(0);
    status(bench, &[], 0);

    bench.sh("app1", "cp -a /etc/nginx/nginx.conf /root/kept && echo '# by hand' >>/etc/nginx/nginx.conf").expect(0);
    bench.sh("lb2", "chmod 666 /etc/haproxy/haproxy.cfg; echo reload >/var/lib/infra/owed/haproxy.service").expect(0);
    let said = status(bench, &[], 1);
    has(
        &said.out,
        &[
            "2 with something wrong",
            "app1: /etc/nginx/nginx.conf was changed by someone else since the last run",
            "lb2: /etc/haproxy/haproxy.cfg got another owner or mode since the last run",
            "lb2: a reload of haproxy.service is owed by an earlier run",
        ],
    );
    bench.sh("app1", "mv /root/kept /etc/nginx/nginx.conf").expect(0);
    bench.sh("lb2", "chmod 644 /etc/haproxy/haproxy.cfg; rm /var/lib/infra/owed/haproxy.service").expect(0);
    status(bench, &[], 0);

    bench.lab().kill("app2").unwrap();
    let said = status(bench, &[], 4);
    has(&said.out, &["1 away", "app2: cannot be reached"]);
    let place = |word: &str| said.out.find(&format!("\n  {word} ")).unwrap();
    assert!(place("app2") < place("lb1"), "the worst comes first: {}", said.out);
    bench.lab().start("app2").unwrap();
    status(bench, &[], 0);
}

/// It looks again and again over the connections that it has, and ends by a signal.
pub(crate) fn a_watch_ends_by_ctrl_c(bench: &Bench) {
    use std::io::{BufRead as _, BufReader};
    let mut child =
        bench.infra_command(&["status", "--watch", "1"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut blocks = 0;
    while blocks < 3 {
        let line = lines.next().expect("a watch goes on").unwrap();
        blocks += usize::from(line.starts_with("shop: 6 hosts"));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let rest = std::thread::spawn(move || lines.count());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    rest.join().unwrap();
}

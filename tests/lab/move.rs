//! The fifth law, open before, close after: the ports between the tiers move under a constant load from outside, and every
//! request is answered with 200.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bench::{Bench, THREE_TIER, wait};
use infra::lab::{Release, Target};
use infra::service::firewall::verify::{Answer, parse_answers, probe_script};

/// Clients on the internet's side until the value is stopped: on each load balancer by name, so that no client goes to the
/// other one when the first fails, over kept connections of both versions of HTTP and over new ones; and one that reads
/// a file so slowly that it takes longer than a reload.
struct Load {
    child: Child,
    go: PathBuf,
    out: PathBuf,
}

impl Load {
    fn start(bench: &Bench) -> Self {
        let (go, out) = (bench.dir.path().join("go"), bench.dir.path().join("load"));
        std::fs::write(&go, "").unwrap();
        std::fs::create_dir(&out).unwrap();
        let ca = bench.sites_ca();
        let site = "https://shop.example.com";
        // 25 a second of each kept connection; a new one every 100 ms. All in all less than 150 a second and address.
        let script = format!(
            "cd '{out}'
get() {{ curl -sS --cacert '{ca}' --max-time 60 --resolve shop.example.com:443:$lb -o /dev/null -w '%{{http_code}} %{{exitcode}} %{{errormsg}}\\n' \"$@\"; }}
for lb in 203.0.113.11 203.0.113.12; do
    (while [ -e '{go}' ]; do get --http1.1 --rate 25/s '{site}/?[1-25]'; done >\"http1 $lb\" 2>&1) &
    (while [ -e '{go}' ]; do get --http2 --rate 25/s '{site}/?[1-25]'; done >\"http2 $lb\" 2>&1) &
    (while [ -e '{go}' ]; do get '{site}/static/' && sleep 0.1; done >\"new $lb\" 2>&1) &
    (while [ -e '{go}' ]; do get --limit-rate 300k '{site}/static/large'; done >\"slow $lb\" 2>&1) &
done
wait",
            out = out.display(),
            ca = ca.display(),
            go = go.display(),
        );
        let mut command = bench.lab().command(&Target::Outside, ["sh", "-c", &script]).unwrap();
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        Self { child, go, out }
    }

    /// By kind of client: how many answers were 200, and everything else that was said.
    fn answers(&self) -> Vec<(String, usize, Vec<String>)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.out).unwrap() {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let (good, bad): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.trim() == "200 0");
            let bad = bad.into_iter().map(ToOwned::to_owned).collect();
            all.push((entry.file_name().into_string().unwrap(), good.len(), bad));
        }
        all.sort();
        all
    }

    /// Waits until every client has had `more` answers from now on.
    fn flows(&self, more: usize) {
        let before = self.answers();
        wait("answers to every client", Duration::from_secs(60), || {
            let now = self.answers();
            let grown = |kind: &str| {
                let of = |all: &[(String, usize, Vec<String>)]| {
                    all.iter().find(|(name, _, _)| name == kind).map_or(0, |(_, good, bad)| good + bad.len())
                };
                of(&now) >= of(&before) + if kind.starts_with("slow") { 1 } else { more }
            };
            (now.len() == 8 && now.iter().all(|(kind, _, _)| grown(kind))).then_some(())
        });
    }

    fn stop(&mut self) {
        let _ = std::fs::remove_file(&self.go);
        self.child.wait().unwrap();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

fn probe(bench: &Bench, from: &str, to: &str, port: u64) -> Answer {
    let target: (IpAddr, infra::base::net::Port) = (to.parse().unwrap(), port.try_into().unwrap());
    let said = bench.sh(from, &probe_script(&[target], Duration::from_secs(1))).expect(0);
    parse_answers(&said.out)[&target]
}

#[test]
fn ports_move_under_load_and_no_request_is_lost() {
    let began = Instant::now();
    let bench = Bench::up("t-move", &THREE_TIER, Release::Bookworm);
    for web in ["web1", "web2"] {
        let make = "mkdir -p /srv/shop/public && echo small >/srv/shop/public/index.html && head -c 3000000 /dev/zero >/srv/shop/public/large";
        bench.sh(web, make).expect(0);
    }
    bench.apply().expect(0);
    let mut load = Load::start(&bench);
    load.flows(5);

    bench.edit("\nfirewall:\n", "\nports: { web: 8444, app: 9443 }\n\nfirewall:\n");
    let said = bench.apply().expect(0);
    assert!(said.out.contains("+ lb -> web 8444/tcp"), "{}", said.out);
    load.flows(5);
    for web in ["10.0.2.11", "fd00:0:0:2::12"] {
        assert_eq!(probe(&bench, "lb1", web, 8443), Answer::Drop, "the old port of {web}");
        assert_eq!(probe(&bench, "lb1", web, 8444), Answer::Open, "the new port of {web}");
    }

    bench.edit("app: 9443 }", "app: 9444 }");
    bench.apply().expect(0);
    load.flows(5);
    assert_eq!(probe(&bench, "web1", "10.0.3.11", 9443), Answer::Drop);
    assert_eq!(probe(&bench, "web1", "10.0.3.11", 9444), Answer::Open);

    load.stop();
    let answers = load.answers();
    let good: usize = answers.iter().map(|(_, good, _)| good).sum();
    for (kind, good, bad) in &answers {
        assert!(bad.is_empty(), "{kind}: {good} answers are good, these are not: {bad:#?}");
    }
    // Only the listeners that are declared are left, and the flows are exactly those.
    let listeners = bench.sh("web1", "ss -Hltn | grep -c ':8443 '; ss -Hltn | grep -c ':8444 '").out;
    assert_eq!(listeners.split_whitespace().next(), Some("0"), "{listeners}");
    let said = bench.infra(&["firewall", "verify"]).expect(0);
    assert!(said.out.contains("exactly what is declared"), "{}", said.out);
    assert!(bench.apply().expect(0).out.contains("nothing to do"));
    println!("{good} requests, all answered; {} s", began.elapsed().as_secs());
}

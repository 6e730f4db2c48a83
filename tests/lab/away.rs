//! Hosts that leave, for an hour or for good, under a constant load from outside: drained and brought back, over runs, reloads and
//! reboots; deployed one after the other; retired; and all of them destroyed.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use bench::{Bench, Said, wait};
use checks::Check;
use infra::lab::Target;

const SITE: &str = "https://shop.example.com";
const SOON: Duration = Duration::from_secs(30);
/// What the program is, on each app host.
const PROGRAM: &str = "demo-app@8080";

#[test]
fn hosts_leave_under_load() {
    let all: [Check<Bench>; 8] = [
        ("an app host is drained, and its program stopped", app_host),
        ("a web host is drained", web_host),
        ("it lasts over a reboot and the runs of others", lasts),
        ("the last one is not drained", last_one),
        ("who has a request under way is named", held),
        ("a deploy, one host after the other", deploy),
        ("a host retires under load", retired),
        ("all of it goes", destroyed),
    ];
    checks::run(&Bench::applied("t-away"), &all, mend);
}

fn mend(bench: &Bench) {
    for host in ["web1", "web2", "app1", "app2"] {
        bench.sh(host, &format!("rm -f /etc/nginx/infra-drained; systemctl start '{PROGRAM}' nginx 2>/dev/null"));
    }
    wait("all hosts are well", Duration::from_secs(60), || (bench.infra(&["status"]).code == 0).then_some(()));
}

/// Clients on the internet's side until the value is stopped: over new connections and kept ones, that read and that write.
struct Load {
    child: Child,
    go: PathBuf,
    out: PathBuf,
}

/// In the folder of answers.
const KINDS: usize = 2 * 4;

impl Load {
    fn start(bench: &Bench) -> Self {
        let (go, out) = (bench.dir.path().join("go"), bench.dir.path().join("load"));
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir(&out).unwrap();
        std::fs::write(&go, "").unwrap();
        std::fs::write(bench.dir.path().join("letter"), vec![b'x'; 20_000]).unwrap();
        let script = format!(
            "cd '{out}'
get() {{ curl -sS --cacert '{ca}' --max-time 20 --resolve shop.example.com:443:$lb -o /dev/null -w '%{{http_code}} %{{exitcode}} %{{errormsg}}\\n' \"$@\"; }}
again() {{ while [ -e '{go}' ]; do get \"$@\"; done; }}
for lb in 203.0.113.11 203.0.113.12; do
    again --http1.1 --rate 20/s '{SITE}/?[1-20]' >\"http1 $lb\" 2>&1 &
    again --http2 --rate 20/s '{SITE}/?[1-20]' >\"http2 $lb\" 2>&1 &
    (while [ -e '{go}' ]; do get '{SITE}/' && sleep 0.1; done >\"new $lb\" 2>&1) &
    again --rate 10/s --data-binary @../letter '{SITE}/letters?[1-10]' >\"letters $lb\" 2>&1 &
done
wait",
            out = out.display(),
            ca = bench.sites_ca().display(),
            go = go.display(),
        );
        let mut command = bench.lab().command(&Target::Outside, ["sh", "-c", &script]).unwrap();
        let load = Self { child: command.stdin(Stdio::null()).spawn().unwrap(), go, out };
        load.flows();
        load
    }

    /// How many answers were 200, by kind of client, and everything else that was said.
    fn answers(&self) -> Vec<(String, usize, Vec<String>)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.out).unwrap() {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let (good, bad): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.trim() == "200 0");
            all.push((
                entry.file_name().into_string().unwrap(),
                good.len(),
                bad.into_iter().map(ToOwned::to_owned).collect(),
            ));
        }
        all.sort();
        all
    }

    /// Waits until every client has had answers from now on.
    fn flows(&self) {
        let count = |all: &[(String, usize, Vec<String>)], kind: &str| {
            all.iter().find(|(name, _, _)| name == kind).map_or(0, |(_, good, bad)| good + bad.len())
        };
        let before = self.answers();
        wait("answers to every client", SOON, || {
            let now = self.answers();
            (now.len() == KINDS && now.iter().all(|(kind, _, _)| count(&now, kind) >= count(&before, kind) + 5))
                .then_some(())
        });
    }

    fn stop(&mut self) {
        let _ = std::fs::remove_file(&self.go);
        let _ = self.child.wait();
    }

    /// Every request was answered with 200.
    #[track_caller]
    fn lost_none(mut self) {
        self.stop();
        let bad: Vec<_> = self.answers().into_iter().filter(|(_, good, bad)| *good == 0 || !bad.is_empty()).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

fn drain(bench: &Bench, host: &str) -> Said {
    let said = bench.infra(&["drain", host]).expect(0);
    assert!(said.out.contains(&format!("{host} is out of traffic")), "{said:?}");
    said
}

fn undrain(bench: &Bench, host: &str) {
    let said = bench.infra(&["undrain", host]).expect(0);
    assert!(
        said.out.contains(&format!("{host} is ")) && said.out.contains("in traffic: all who lead to it"),
        "{said:?}"
    );
}

/// How many requests a host's front has had.
fn requests(bench: &Bench, host: &str) -> usize {
    bench.sh(host, "wc -l </var/log/nginx/access.log").expect(0).out.trim().parse().unwrap()
}

/// No request comes to the host while all clients have answers.
#[track_caller]
fn is_quiet(bench: &Bench, load: &Load, host: &str) {
    let before = requests(bench, host);
    load.flows();
    assert_eq!(requests(bench, host), before, "{host} gets requests");
}

fn app_host(bench: &Bench) {
    let load = Load::start(bench);
    drain(bench, "app1");
    is_quiet(bench, &load, "app1");
    bench.sh("app1", &format!("systemctl stop '{PROGRAM}'")).expect(0);
    load.flows();
    // It is not brought back while its program is not well, and that is said.
    let said = bench.infra(&["undrain", "app1", "--timeout", "3"]).expect(1);
    assert!(said.err.contains("sends no requests to app1 yet"), "{said:?}");
    bench.sh("app1", &format!("systemctl start '{PROGRAM}'")).expect(0);
    undrain(bench, "app1");
    let before = requests(bench, "app1");
    wait("requests on app1", SOON, || (requests(bench, "app1") > before + 5).then_some(()));
    load.lost_none();
}

fn web_host(bench: &Bench) {
    let load = Load::start(bench);
    drain(bench, "web2");
    is_quiet(bench, &load, "web2");
    bench.sh("web2", "systemctl stop nginx").expect(0);
    load.flows();
    bench.sh("web2", "systemctl start nginx").expect(0);
    undrain(bench, "web2");
    load.lost_none();
}

fn lasts(bench: &Bench) {
    let load = Load::start(bench);
    bench.infra(&["drain", "app2", "--why", "a new disk"]).expect(0);
    let words = "app2 is drained since ";
    let said = bench.apply().expect(0);
    assert!(said.err.contains(words) && said.err.contains("(a new disk)"), "{said:?}");
    assert!(said.out.contains("nothing to do"), "{said:?}");
    let said = bench.infra(&["status"]).expect(0);
    assert!(said.out.contains("app2: is drained since "), "{said:?}");
    // Another person's change, which reloads all of them.
    bench.edit("  shop.example.com:\n", "  shop.example.com:\n    timeouts: { response: 50s }\n");
    bench.apply().expect(0);
    for (host, unit) in [("web1", "infra-programs"), ("web2", "infra-programs"), ("lb1", "haproxy")] {
        bench.sh(host, &format!("systemctl reload {unit}")).expect(0);
    }
    bench.reboot("app2");
    wait("the program of app2 after its reboot", Duration::from_secs(60), || {
        (bench.sh("app2", "curl -s -o /dev/null http://127.0.0.1:8080/").code == 0).then_some(())
    });
    is_quiet(bench, &load, "app2");
    undrain(bench, "app2");
    load.lost_none();
}

fn last_one(bench: &Bench) {
    drain(bench, "app1");
    let said = bench.infra(&["drain", "app2"]).expect(2);
    assert!(said.err.contains("has no other host than app2 that is well"), "{said:?}");
    undrain(bench, "app1");
    let said = bench.infra(&["drain", "lb1"]).expect(2);
    assert!(said.err.contains("visitors come to it by the zone"), "{said:?}");
}

fn held(bench: &Bench) {
    for host in ["web1", "web2"] {
        bench.sh(host, "mkdir -p /srv/shop/public && truncate -s 200M /srv/shop/public/large").expect(0);
    }
    let go = bench.dir.path().join("go-download");
    std::fs::write(&go, "").unwrap();
    let download = format!(
        "curl -sS --cacert '{ca}' --limit-rate 200k --resolve shop.example.com:443:203.0.113.11 -o /dev/null {SITE}/static/large &
        while [ -e '{go}' ]; do sleep 0.2; done; kill $!",
        ca = bench.sites_ca().display(),
        go = go.display(),
    );
    let mut command = bench.lab().command(&Target::Outside, ["sh", "-c", &download]).unwrap();
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let who = wait("who serves it", SOON, || {
        ["web1", "web2"].into_iter().find(|host| {
            bench.sh(host, "ss -Htn state established '( sport = :8443 )' | awk '$2 > 0' | grep -q .").code == 0
        })
    });
    let said = bench.infra(&["drain", who, "--timeout", "9"]);
    std::fs::remove_file(&go).unwrap();
    child.wait().unwrap();
    let said = said.expect(7);
    assert!(said.err.contains(&format!("lb1 still has 1 request under way on {who}")), "{said:?}");
    let said = bench.infra(&["drain", who, "--json"]).expect(0);
    assert!(said.out.contains(r#""event":"traffic""#) && said.out.contains(r#""seen":true"#), "{said:?}");
    undrain(bench, who);
}

fn deploy(bench: &Bench) {
    let load = Load::start(bench);
    let script = format!(
        "set -e\nfor host in app1 app2; do\n  '{infra}' drain $host\n  '{infra}' exec --limit $host --sudo -- 'systemctl restart {PROGRAM}'\n  '{infra}' undrain $host\ndone",
        infra = env!("CARGO_BIN_EXE_infra"),
    );
    let mut command = bench.lab().command(&Target::Controller, ["sh", "-c", &script]).unwrap();
    command.current_dir(bench.dir.path()).stdin(Stdio::null()).env_remove("INFRA_INVENTORY").env_remove("INFRA_STATE");
    Said::of(&command.output().unwrap()).expect(0);
    // What infra itself changes goes the same way.
    bench.edit("    timeouts: { response: 50s }\n", "");
    let said = bench.infra(&["apply", "--yes", "--drain"]).expect(0);
    assert!(said.err.contains("is drained before its phase") && said.out.contains("6 hosts changed"), "{said:?}");
    for host in ["web1", "web2", "app1", "app2"] {
        bench.sh(host, "test ! -e /etc/nginx/infra-drained").expect(0);
    }
    load.lost_none();
}

fn retired(bench: &Bench) {
    let load = Load::start(bench);
    bench.sh("controller", &format!("cp -a {0}/state {0}/other", bench.dir.path().display())).expect(0);
    let said = bench.infra(&["retire", "app2", "--firewall", "closed", "--yes"]).expect(0);
    assert!(said.out.contains("app2 has left shop") && said.out.contains("now delete `hosts.app2`"), "{said:?}");
    load.flows();
    // Another controller, which has not retired it, is stopped by the host's own word, for whichever hosts it runs.
    for words in
        [&["diff"][..], &["diff", "--limit", "web1"], &["apply", "--yes"], &["apply", "--yes", "--limit", "!app2"]]
    {
        let out = bench.infra_command(words).env("INFRA_STATE", bench.dir.path().join("other")).output().unwrap();
        let said = Said::of(&out).expect(2);
        assert!(said.err.contains("app2 was retired since "), "{words:?}: {said:?}");
    }
    let here = "systemctl is-active nginx infra-recover; nft list ruleset | grep -c 'dport'; ls /etc/nginx/conf.d";
    let said = bench.sh("app2", here);
    assert!(!said.out.contains("shop-app") && !said.out.lines().any(|line| line == "active"), "{said:?}");
    bench.infra(&["exec", "--limit", "app2", "--", "true"]).expect(0);
    let said = bench.sh("web1", "bash -c 'exec 3<>/dev/tcp/10.0.3.12/9443'");
    assert_ne!(said.code, 0, "app2 lets others in");
    bench.sh("web1", "grep -q 10.0.3.12 /etc/infra/programs/programs.cfg").expect(1);
    // Nobody sets it up again by mistake, and twice is nothing.
    for words in [&["apply", "--yes"][..], &["apply", "--yes", "--limit", "web1"], &["diff"], &["drift"]] {
        let said = bench.infra(words).expect(2);
        assert!(said.err.contains("app2 was retired, and its lines are still in the inventory"), "{said:?}");
    }
    let said = bench.infra(&["retire", "app2", "--firewall", "closed", "--yes"]).expect(0);
    assert!(said.err.contains("app2 was retired since ") && said.out.contains("nothing to do"), "{said:?}");
    bench.edit("  app2: { address: [10.0.3.12, \"fd00:0:0:3::12\"], roles: [app] }\n", "");
    let said = bench.infra(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{said:?}");
    // The last one cannot go.
    let said = bench.infra(&["retire", "app1", "--firewall", "open", "--yes"]).expect(2);
    assert!(said.err.contains("the inventory does not hold without app1"), "{said:?}");
    load.lost_none();
}

fn destroyed(bench: &Bench) {
    let said = bench.infra(&["destroy", "--name", "sho"]).expect(2);
    assert!(said.err.contains("which is `shop`"), "{said:?}");
    bench.infra(&["destroy"]).expect(2);
    let said = bench.infra(&["destroy", "--name", "shop"]).expect(0);
    assert!(said.out.contains("infra has left shop. What stays: "), "{said:?}");
    for host in ["lb1", "lb2", "web1", "web2", "app1"] {
        let here = "nft list ruleset; systemctl is-active haproxy nginx infra-programs infra-firewall; cat /var/lib/infra/manifest";
        let said = bench.sh(host, here);
        assert!(!said.out.contains("infra") && !said.out.lines().any(|line| line == "active"), "{host}: {said:?}");
    }
    bench.infra(&["exec", "--", "true"]).expect(0);
    bench.sh("web1", "test -e /srv/shop/public").expect(0);
    let said = bench.infra(&["destroy", "--name", "shop"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{said:?}");
}

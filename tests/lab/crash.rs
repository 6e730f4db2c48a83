//! Stopped anywhere, whole everywhere: `kill -9` of infra and power cuts of hosts at any moment, under a client that asks all
//! the time. One lab for all of it.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/campaign.rs"]
mod campaign;
#[path = "../common/checks.rs"]
mod checks;

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bench::{Bench, Said, THREE_TIER, wait};
use campaign::amount;
use checks::Check;
use infra::lab::{Release, Target};

const ALL: [&str; 6] = ["lb1", "app1", "web1", "lb2", "app2", "web2"];
const URL: &str = "https://shop.example.com/";

#[test]
fn stopped_anywhere_whole_everywhere() {
    let bench = Bench::up("t-crash", &THREE_TIER, Release::Bookworm);
    let all: [Check<Bench>; 6] = [
        ("killed in the very first run", first_run),
        ("killed at random moments, under a client", random_kills),
        ("a plain reboot", reboot),
        ("a step that is killed on its host", killed_step),
        ("a power cut in the middle of a phase", power_cut),
        ("power cuts at random moments, one host after the other", random_cuts),
    ];
    checks::run(&bench, &all, |bench| {
        variant(bench, false);
        for host in ALL {
            let _ = bench.lab().start(host);
        }
        bench.apply();
    });
}

fn converges(bench: &Bench) {
    bench.apply().expect(0);
    let said = bench.infra(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    for host in ALL {
        let left =
            "ls /var/lib/infra/unfinished /var/lib/infra/owed/* /etc/*/.*.infra-new /etc/*/*/.*.infra-new 2>/dev/null";
        assert_eq!(bench.sh(host, left).out, "", "left on {host}");
    }
}

fn spawn(bench: &Bench) -> Child {
    bench.infra_command(&["apply", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Bare hosts: packages half installed, first firewall, first certificates.
fn first_run(bench: &Bench) {
    for place in ["apt-get", "nft -f", "nginx"] {
        let mut run = spawn(bench);
        // Either that program is seen to run somewhere, or the run is over.
        let script = format!("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q '{place}'");
        let deadline = Instant::now() + Duration::from_secs(60);
        while bench.sh("web1", &script).code != 0 && run.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "`{place}` is not seen");
        }
        run.kill().unwrap();
        run.wait().unwrap();
    }
    converges(bench);
    let (status, body) = bench.page(URL);
    assert_eq!(status, 200, "{body}");
}

/// Numbers that look random and are the same in every run (Knuth's MMIX generator).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Two inventories that differ on every tier: a header, and a flow to web hosts.
fn variant(bench: &Bench, other: bool) {
    let text = if other {
        THREE_TIER
            .replace("health: /healthz }", "health: /healthz }\n    hsts: 600")
            .replace("sites:\n", "  allow:\n    - { to: web, port: 9000, from: [198.51.100.7], why: status checks }\n    - { to: app, port: 9001, from: [198.51.100.7], why: status checks }\n\nsites:\n")
    } else {
        THREE_TIER.to_owned()
    };
    std::fs::write(bench.inventory(), text).unwrap();
}

fn random_kills(bench: &Bench) {
    variant(bench, true);
    let began = Instant::now();
    bench.apply().expect(0);
    let whole = u64::try_from(began.elapsed().as_millis()).unwrap();
    let poll = Poll::start(bench);
    let mut random = Seeded(7);
    let kills = amount("ROUNDS", 20);
    for round in 0..kills {
        variant(bench, round % 2 == 1);
        let mut run = spawn(bench);
        // The moment is the test; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.below(whole)));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    variant(bench, false);
    converges(bench);
    println!("{kills} kills, {} requests, all answered", poll.every_answer_good());
}

fn reboot(bench: &Bench) {
    std::thread::scope(|scope| {
        for host in ["lb1", "web1", "app2"] {
            scope.spawn(move || bench.reboot(host));
        }
    });
    for (host, unit) in [("lb1", "haproxy"), ("web1", "nginx"), ("app2", "nginx")] {
        wait(&format!("{unit} on {host}"), Duration::from_secs(30), || {
            let script = format!(
                "systemctl -q is-active {unit} infra-firewall infra-recover && nft list ruleset | grep -q 'policy drop'"
            );
            (bench.sh(host, &script).code == 0).then_some(())
        });
    }
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    let (status, body) = bench.page(URL);
    assert_eq!(status, 200, "{body}");
}

/// What a killed shell leaves: the kept copies, the mark, and half of the new files.
fn killed_step(bench: &Bench) {
    let leave = "cd /var/lib/infra && mkdir -p runs/x/old/web/etc/nginx && cp -a /etc/nginx/nginx.conf runs/x/old/web/etc/nginx/ &&
        echo /etc/nginx/nginx.conf >runs/x/old/web.paths && cp -a manifest runs/x/old/web.manifest && : >runs/x/old/web.absent &&
        echo x web >unfinished && echo '# half' >>/etc/nginx/nginx.conf";
    bench.sh("web1", leave).expect(0);
    let said = bench.apply().expect(1);
    assert!(said.err.contains("has changed since the plan was made"), "{}", said.err);
    bench.sh("web1", "! grep half /etc/nginx/nginx.conf").expect(0);
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
}

/// nginx on web1 cannot take the new configuration, which is in place already; while infra waits for it the power goes.
fn power_cut(bench: &Bench) {
    let text = include_str!("../../templates/web/web.conf");
    let template = bench.dir.path().join("templates/web/web.conf");
    // In a file that is not ours, so that nobody asks beforehand who has its port.
    bench::write(&template, &format!("include /srv/more/*.conf;\n{text}"));
    let more = "server {\n  listen 127.0.0.1:9999;\n  return 204;\n}";
    bench.sh("web1", &format!("mkdir -p /srv/more && echo '{more}' >/srv/more/x.conf")).expect(0);
    bench.sh("web1", "systemd-run -q --unit=thief socat TCP-LISTEN:9999,fork,bind=127.0.0.1 /dev/null").expect(0);
    let mut command = bench.infra_command(&["apply", "--yes"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let config = "/etc/nginx/conf.d/shop-web-8443.conf";
    wait("the new file in place", Duration::from_secs(30), || {
        (bench.sh("web1", &format!("grep -q srv/more {config} && test -e /var/lib/infra/unfinished")).code == 0)
            .then_some(())
    });
    bench.lab().kill("web1").unwrap();
    let (status, body) = bench.page(URL);
    assert_eq!(status, 200, "with one web host: {body}");
    bench.lab().start("web1").unwrap();
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("failed on web1 in web") && said.contains("unknown: the connection broke"), "{said}");
    wait("nginx on web1", Duration::from_secs(30), || {
        (bench.sh("web1", "systemctl is-active nginx").code == 0).then_some(())
    });
    bench.sh("web1", &format!("! grep srv/more {config} && test ! -e /var/lib/infra/unfinished")).expect(0);
    // Nobody has the port now.
    converges(bench);
    bench.sh("web1", &format!("grep srv/more {config}")).expect(0);
}

/// Whatever was under way on the host and elsewhere, the run says what became of it, and the next ones end right.
fn random_cuts(bench: &Bench) {
    let cuts = amount("CUTS", 2);
    variant(bench, true);
    let began = Instant::now();
    bench.apply().expect(0);
    let whole = u64::try_from(began.elapsed().as_millis()).unwrap();
    let mut random = Seeded(11);
    let mut broken = 0;
    for (round, host) in (0..cuts).zip(ALL.iter().cycle()) {
        variant(bench, round % 2 == 1);
        let mut command = bench.infra_command(&["apply", "--yes"]);
        let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The moment is the test; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.below(whole)));
        bench.lab().kill(host).unwrap();
        bench.lab().start(host).unwrap();
        let said = Said::of(&run.wait_with_output().unwrap());
        // Done, failed, out of reach, put back by the host itself, or left open for now.
        assert!(matches!(said.code, 0 | 1 | 4 | 5 | 7), "{host}: {said:?}");
        broken += u32::from(said.code != 0);
        // What was begun is put back at the boot or by the next run; then what was planned no longer holds, and that is said.
        let said = bench.apply();
        assert!(said.code == 0 || said.err.contains("has changed since the plan was made"), "{host}: {said:?}");
        converges(bench);
    }
    variant(bench, false);
    converges(bench);
    println!("{cuts} power cuts, {broken} runs broken by them");
}

/// A client on the internet's side that asks for the page again and again.
struct Poll {
    child: Child,
    answers: PathBuf,
}

impl Poll {
    fn start(bench: &Bench) -> Self {
        let ca = bench.sites_ca();
        let format = "%{http_code} after %{time_total} s %{errormsg}\\n";
        let ask = format!("curl -s -o /dev/null --max-time 10 --cacert '{}' -w '{format}' {URL}", ca.display());
        let script = format!("while :; do {ask}; sleep 0.05; done");
        let mut command = bench.lab().command(&Target::Outside, ["sh", "-c", &script]).unwrap();
        let answers = bench.dir.path().join("answers");
        let child = command.stdin(Stdio::null()).stdout(std::fs::File::create(&answers).unwrap()).spawn().unwrap();
        Self { child, answers }
    }

    /// Gives how many there were.
    #[track_caller]
    fn every_answer_good(self) -> usize {
        let answers = self.answers.clone();
        drop(self);
        let text = std::fs::read_to_string(answers).unwrap();
        let bad: Vec<&str> = text.lines().filter(|l| !l.starts_with("200 ")).collect();
        assert!(bad.is_empty(), "{} of {} answers: {bad:#?}", bad.len(), text.lines().count());
        assert!(text.lines().count() > 50, "too few answers: {text}");
        text.lines().count()
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

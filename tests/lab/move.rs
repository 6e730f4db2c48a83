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
use infra::service::firewall::attempts::{Reach, attempt_script, parse_reaches};

const SITE: &str = "https://shop.example.com";

/// Clients on the internet's side until the value is stopped: on each load balancer by name, so that no client goes to the
/// other one when the first fails. Over kept connections of both versions of HTTP and over new ones, all of them busy;
/// visitors who click every few seconds on a connection that they keep; one that reads a file so slowly, and one that sends
/// a file so slowly, that it takes longer than a reload.
struct Load {
    child: Child,
    go: PathBuf,
    out: PathBuf,
}

/// Visitors who click, of each version of HTTP and on each load balancer.
const VISITORS: usize = 4;
/// Kinds of clients: those that are told apart in the folder.
const KINDS: usize = 2 * (5 + 2 * VISITORS);

impl Load {
    fn start(bench: &Bench) -> Self {
        let (go, out) = (bench.dir.path().join("go"), bench.dir.path().join("load"));
        std::fs::write(&go, "").unwrap();
        std::fs::create_dir(&out).unwrap();
        std::fs::write(bench.dir.path().join("letter"), vec![b'x'; 150_000]).unwrap();
        // 25 a second of each busy connection; a new one every 100 ms. All in all less than 150 a second and address.
        let script = format!(
            "cd '{out}'
get() {{ curl -sS --cacert '{ca}' --max-time 60 --resolve shop.example.com:443:$lb -o /dev/null -w '%{{http_code}} %{{exitcode}} %{{errormsg}}\\n' \"$@\"; }}
again() {{ while [ -e '{go}' ]; do get \"$@\"; done; }}
for lb in 203.0.113.11 203.0.113.12; do
    again --http1.1 --rate 25/s '{SITE}/?[1-25]' >\"http1 $lb\" 2>&1 &
    again --http2 --rate 25/s '{SITE}/?[1-25]' >\"http2 $lb\" 2>&1 &
    (while [ -e '{go}' ]; do get '{SITE}/static/' && sleep 0.1; done >\"new $lb\" 2>&1) &
    again --limit-rate 300k '{SITE}/static/large' >\"slow $lb\" 2>&1 &
    again --limit-rate 20k --data-binary @../letter '{SITE}/letters' >\"slow letter $lb\" 2>&1 &
    for n in $(seq {VISITORS}); do
        again --http1.1 --rate 20/m '{SITE}/?[1-4]' >\"visitor $n http1 $lb\" 2>&1 &
        again --http2 --rate 20/m '{SITE}/?[1-4]' >\"visitor $n http2 $lb\" 2>&1 &
        sleep 0.3
    done
done
wait",
            out = out.display(),
            ca = bench.sites_ca().display(),
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

    /// Waits until every client has had answers from now on: a busy one five, any other one.
    fn flows(&self) {
        let before = self.answers();
        wait("answers to every client", Duration::from_secs(60), || {
            let now = self.answers();
            let grown = |kind: &str| {
                let of = |all: &[(String, usize, Vec<String>)]| {
                    all.iter().find(|(name, _, _)| name == kind).map_or(0, |(_, good, bad)| good + bad.len())
                };
                let busy = kind.starts_with("http") || kind.starts_with("new");
                of(&now) >= of(&before) + if busy { 5 } else { 1 }
            };
            (now.len() == KINDS && now.iter().all(|(kind, _, _)| grown(kind))).then_some(())
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

/// What outlives every drain, over each load balancer, until the value is dropped: a websocket of a program on the app hosts,
/// which says back the line that it is sent every half second; and the download of a file that has no end for the time being.
struct Sockets {
    child: Child,
    go: PathBuf,
    out: PathBuf,
}

impl Sockets {
    fn start(bench: &Bench) -> Self {
        let (go, out) = (bench.dir.path().join("go-sockets"), bench.dir.path().join("sockets"));
        std::fs::write(&go, "").unwrap();
        std::fs::create_dir_all(&out).unwrap();
        let script = format!(
            "cd '{out}'
say() {{
    printf 'GET /live HTTP/1.1\\r\\nHost: live.example.com\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n'
    while [ -e '{go}' ]; do echo tick && sleep 0.5; done
}}
for lb in 203.0.113.11 203.0.113.12; do
    say | openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile '{ca}' -servername live.example.com -connect $lb:443 >$lb 2>$lb.err &
    (
        curl -sS --cacert '{ca}' --limit-rate 500k --resolve shop.example.com:443:$lb -o /dev/null '{SITE}/static/endless' 2>>ended &
        while [ -e '{go}' ] && kill -0 $! 2>/dev/null; do sleep 0.2; done
        kill $! 2>/dev/null || echo \"the download over $lb ended by itself\" >>ended
    ) &
done
wait",
            out = out.display(),
            ca = bench.sites_ca().display(),
            go = go.display(),
        );
        let mut command = bench.lab().command(&Target::Outside, ["sh", "-c", &script]).unwrap();
        let sockets = Self { child: command.stdin(Stdio::null()).spawn().unwrap(), go, out };
        sockets.alive();
        sockets
    }

    /// Each websocket has a line said back that was sent from now on, and no download has ended.
    fn alive(&self) {
        assert_eq!(std::fs::read_to_string(self.out.join("ended")).unwrap_or_default(), "");
        for lb in ["203.0.113.11", "203.0.113.12"] {
            let ticks = || {
                let text = std::fs::read_to_string(self.out.join(lb)).unwrap_or_default();
                text.lines().filter(|line| *line == "tick").count()
            };
            let before = ticks();
            wait(&format!("lines over the websocket of {lb}"), Duration::from_secs(15), || {
                (ticks() > before + 3).then_some(())
            });
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.go);
        let _ = self.child.wait();
    }
}

/// Takes an upgrade and says everything back; anything else is answered with 200. It has no backslash: those do not get
/// through the shells on the way to the host.
const PROGRAM: &str = r#"use strict; use IO::Socket::INET; $SIG{CHLD} = "IGNORE";
my $in = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 8081, Listen => 64, ReuseAddr => 1) or die $!;
my $end = chr(13) . chr(10);
while (1) {
    my $c = $in->accept or next;
    next if fork;
    my $head = "";
    while (index($head, $end . $end) < 0) { sysread($c, $head, 4096, length $head) or exit }
    if ($head !~ /^upgrade: *websocket/mi) { syswrite $c, join($end, "HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close", "", "ok"); exit }
    syswrite $c, join($end, "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "", "");
    while (sysread $c, my $said, 4096) { syswrite $c, $said }
    exit;
}
"#;

fn probe(bench: &Bench, from: &str, to: &str, port: u64) -> Reach {
    let target: (IpAddr, infra::base::net::Port) = (to.parse().unwrap(), port.try_into().unwrap());
    let said = bench.sh(from, &attempt_script(&[target], Duration::from_secs(1))).expect(0);
    parse_reaches(&said.out)[&target]
}

/// The programs are asked at the port that they have moved to, not at that which a reload remembers.
fn programs_are_well_at(bench: &Bench, port: u16) {
    let well = format!(
        "echo show servers state | socat -t 5 - UNIX-CONNECT:/run/infra/programs/admin.sock |
        awk '$2 ~ /^program-/ {{ all++; if ($6 == 2 && $19 == {port}) well++ }} END {{ exit !(all > 1 && all == well) }}'"
    );
    for web in ["web1", "web2"] {
        wait("the programs are well at their new port", Duration::from_secs(30), || {
            (bench.sh(web, &well).code == 0).then_some(())
        });
    }
}

/// One end of a flow moves without the other: what the other end still uses stays open, is told before it is asked for, and is
/// owed until a run has seen all move.
fn one_host_moves_alone(bench: &Bench, load: &Load) {
    let said = bench.infra(&["apply", "--yes", "--limit", "web1"]).expect(7);
    println!("{}{}", said.out, said.err);
    for words in [
        "! half a change: lb -> web 8444/tcp opens on one end alone; the other end is on lb1, lb2, which are not a part of this run",
        "! stays open: ",
        "later",
        "1 kept open",
    ] {
        assert!(said.out.contains(words), "no `{words}` in {}", said.out);
    }
    for words in [
        "kept open on web1: ",
        "lb -> web 8443/tcp",
        "lb1: it is not a part of this run",
        "`infra apply inventory.yml` on all hosts",
    ] {
        assert!(said.err.contains(words), "no `{words}` in {}", said.err);
    }
    load.flows();
    assert_eq!(probe(bench, "lb1", "10.0.2.11", 8443), Reach::Open);
    // What is owed is not nothing, however little is looked at.
    for words in [&["diff"][..], &["diff", "--limit", "web1"]] {
        let said = bench.infra(words).expect(3);
        assert!(said.out.contains("- lb -> web 8443/tcp"), "{}", said.out);
    }
    bench.infra(&["apply", "--yes", "--limit", "web1"]).expect(7);
    assert_eq!(probe(bench, "lb1", "10.0.2.11", 8443), Reach::Open);
}

/// A load balancer that is away while all others move finds its old ends when it comes back.
fn one_host_is_away(bench: &Bench) {
    bench.lab().kill("lb1").unwrap();
    bench.edit("web: 8446", "web: 8447");
    let said = bench.infra(&["apply", "--yes", "--skip-unreachable"]).expect(4);
    println!("{}{}", said.out, said.err);
    for words in [
        "kept open on web1, web2: ",
        "lb1: it does not answer",
        "next: when they answer again: `infra apply inventory.yml`\n",
    ] {
        assert!(said.err.contains(words), "no `{words}` in {}", said.err);
    }
    bench.lab().start("lb1").unwrap();
    let page = format!(
        "curl -sS --cacert '{}' --max-time 20 --resolve shop.example.com:443:203.0.113.11 -o /dev/null -w '%{{http_code}}' '{SITE}/static/'",
        bench.sites_ca().display()
    );
    wait("the page over lb1", Duration::from_secs(40), || (bench.sh("outside", &page).out == "200").then_some(()));
    bench.apply().expect(0);
    assert_eq!(probe(bench, "lb1", "10.0.2.11", 8446), Reach::Drop);
    assert_eq!(bench.sh("outside", &page).out, "200");
}

/// Limited runs, one host after another: each looks at those that it leaves out, and what all of them have left closes without a run on all
/// hosts.
fn one_host_after_another(bench: &Bench) {
    bench.edit("web: 8447", "web: 8448");
    let limited = |host: &str, code: i32| {
        let said = bench.infra(&["apply", "--yes", "--limit", host]).expect(code);
        println!("{}{}", said.out, said.err);
        said
    };
    for web in ["web1", "web2"] {
        let said = limited(web, 7);
        assert!(said.err.contains("lb1: it is not a part of this run"), "{}", said.err);
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains("lb1, lb2 are looked at too, to see whether"), "{all}");
    }
    // The other end is there, so it is no half of a change.
    let said = limited("lb1", 0);
    assert!(!said.out.contains("half a change"), "{}", said.out);
    let kept = limited("web1", 7);
    assert!(kept.err.contains("lb2: it is not a part of this run") && !kept.err.contains("lb1: it is"), "{}", kept.err);
    assert_eq!(probe(bench, "lb2", "10.0.2.11", 8447), Reach::Open);
    limited("lb2", 0);
    for web in ["web1", "web2"] {
        let said = limited(web, 0);
        assert!(said.out.contains("- lb -> web 8447/tcp"), "{}", said.out);
    }
    for (lb, web) in [("lb1", "10.0.2.11"), ("lb2", "10.0.2.12")] {
        assert_eq!(probe(bench, lb, web, 8447), Reach::Drop);
        assert_eq!(probe(bench, lb, web, 8448), Reach::Open);
    }
    bench.infra(&["diff"]).expect(0);
}

/// Files of three sizes, and a program of which answers go on for long.
fn serve(bench: &Bench) {
    for web in ["web1", "web2"] {
        let make = "mkdir -p /srv/shop/public && echo small >/srv/shop/public/index.html && head -c 3000000 /dev/zero >/srv/shop/public/large && truncate -s 400M /srv/shop/public/endless";
        bench.sh(web, make).expect(0);
    }
    for app in ["app1", "app2"] {
        let run = "systemctl stop demo-app@8081 && systemd-run -q --unit live perl /root/live.pl";
        bench.sh(app, &format!("cat >/root/live.pl <<'END'\n{PROGRAM}END\n{run}")).expect(0);
    }
}

#[test]
fn ports_move_under_load_and_no_request_is_lost() {
    let began = Instant::now();
    let live = "\n  live.example.com:\n    app: { port: 8081, health: / }\n\ncertificates:\n";
    let inventory = THREE_TIER.replace("\ncertificates:\n", live);
    let bench = Bench::up("t-move", &inventory, Release::Bookworm);
    serve(&bench);
    bench.apply().expect(0);
    let mut load = Load::start(&bench);
    load.flows();
    let open = |from, to, port| assert_eq!(probe(&bench, from, to, port), Reach::Open, "{from} to {to}:{port}");
    let shut = |from, to, port| assert_eq!(probe(&bench, from, to, port), Reach::Drop, "{from} to {to}:{port}");

    bench.edit("\nfirewall:\n", "\nports: { web: 8444, app: 9443 }\n\nfirewall:\n");
    one_host_moves_alone(&bench, &load);
    let said = bench.apply().expect(0);
    println!("{}{}", said.out, said.err);
    assert!(said.out.contains("+ lb -> web 8444/tcp"), "{}", said.out);
    load.flows();
    for web in ["10.0.2.11", "fd00:0:0:2::12"] {
        shut("lb1", web, 8443);
        open("lb1", web, 8444);
    }
    bench.edit("app: 9443 }", "app: 9444 }");
    let said = bench.apply().expect(0);
    println!("{}{}", said.out, said.err);
    load.flows();
    shut("web1", "10.0.3.11", 9443);
    open("web1", "10.0.3.11", 9444);
    programs_are_well_at(&bench, 9444);

    // What outlives `drain:` keeps the old ends open, is named, and goes on; both tiers move at once now.
    let sockets = Sockets::start(&bench);
    bench.edit("\nports: { web: 8444, app: 9444 }\n", "\ndrain: 2s\nports: { web: 8446, app: 9446 }\n");
    let said = bench.apply().expect(7);
    println!("{}{}", said.out, said.err);
    let kept = [
        "kept open on lb1, lb2: lb -> web 8444/tcp",
        "/etc/nginx/conf.d/shop-web-8444.conf",
        "/etc/nginx/conf.d/shop-app-9444.conf",
        "web -> app 9444/tcp",
        "it is waited for, 2 s at most, before anything closes",
        "when the former workers have ended, `infra apply inventory.yml` closes what is kept open",
    ];
    for words in kept {
        assert!(said.err.contains(words), "no `{words}` in {}", said.err);
    }
    // How many workers of nginx a slow visitor has at that moment is a matter of chance: one or both.
    for (who, words) in [("lb1: ", " of haproxy still hold"), ("web", " of nginx still hold")] {
        let told =
            |line: &&str| line.trim_start().starts_with(who) && line.contains(" former worker") && line.contains(words);
        assert!(said.err.lines().any(|line| told(&line)), "no former worker{words} in {}", said.err);
    }
    let both = || {
        for (from, to, ports) in [("lb1", "10.0.2.11", [8444, 8446]), ("web1", "10.0.3.11", [9444, 9446])] {
            for port in ports {
                open(from, to, port);
            }
        }
    };
    both();
    sockets.alive();
    load.flows();
    let said = bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains("- lb -> web 8444/tcp") && said.out.contains("narrow "), "{}", said.out);
    assert!(!said.out.contains("widen ") && !said.out.contains("edge "), "{}", said.out);
    // The next run finds them still at it, and says so to programs too.
    let said = bench.infra(&["apply", "--yes", "--json"]).expect(7);
    let outcome: serde_json::Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    for host in ["lb1", "lb2", "web1", "web2", "app1", "app2"] {
        assert_eq!(outcome["hosts"][host]["outcome"], "deferred", "{host}: {outcome}");
    }
    both();
    // What is kept open is not declared, and is measured all the same.
    let said = bench.infra(&["firewall", "verify"]).expect(1);
    for port in [8444, 9444] {
        assert!(said.out.contains(&port.to_string()), "no {port} in {}", said.out);
    }
    sockets.alive();
    drop(sockets);
    bench.edit("\ndrain: 2s\n", "\ndrain: 1m\n");
    let said = bench.apply().expect(0);
    println!("{}{}", said.out, said.err);
    for (from, to, ports) in [("lb1", "10.0.2.11", [8444, 8446]), ("web1", "10.0.3.11", [9444, 9446])] {
        shut(from, to, ports[0]);
        open(from, to, ports[1]);
    }
    load.flows();
    load.stop();
    let answers = load.answers();
    let good: usize = answers.iter().map(|(_, good, _)| good).sum();
    let lost: usize = answers.iter().map(|(_, _, bad)| bad.len()).sum();
    let bad: Vec<_> = answers.iter().filter(|(_, _, bad)| !bad.is_empty()).collect();
    assert!(bad.is_empty(), "{good} answers are good, these {lost} are not: {bad:#?}");
    // Only the listeners that are declared are left, and the flows are exactly those.
    let listeners = bench.sh("web1", "ss -Hltn | grep -c ':844[345] '; ss -Hltn | grep -c ':8446 '").out;
    assert_eq!(listeners.split_whitespace().next(), Some("0"), "{listeners}");
    let said = bench.infra(&["firewall", "verify"]).expect(0);
    assert!(said.out.contains("exactly what is declared"), "{}", said.out);
    assert!(bench.apply().expect(0).out.contains("nothing to do"));
    one_host_is_away(&bench);
    one_host_after_another(&bench);
    println!("{good} requests, all answered; {} s", began.elapsed().as_secs());
}

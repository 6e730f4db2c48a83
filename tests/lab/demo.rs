//! The demonstration as a person sees it: `infra lab demo` from bare hosts to a page through four tiers, a row that is written by one
//! database host and read on another, and another writer under load; what it says is held to what the hosts say.

#[path = "../common/checks.rs"]
mod checks;

use std::process::{Command, Stdio};

use checks::Check;
use infra::lab::{self, Lab, Target};

const NAME: &str = "t-demo";

/// What it has said, and the lab that it leaves.
struct Shown {
    said: String,
    lab: Lab,
}

impl Shown {
    /// What a script says at a place of the lab; it must succeed.
    #[track_caller]
    fn sh(&self, place: &str, script: &str) -> String {
        let output = self.lab.output(&Target::from(place), ["sh", "-c", script]).unwrap();
        assert!(output.status.success(), "{place}: {script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts that it has said all of `words`, in that order.
    #[track_caller]
    fn says(&self, words: &[&str]) {
        let mut rest = self.said.as_str();
        for word in words {
            let Some((_, after)) = rest.split_once(word) else { panic!("no `{word}` here in\n{}", self.said) };
            rest = after;
        }
    }
}

#[test]
fn bare_hosts_to_another_writer_under_load() {
    let _ = lab::down(NAME);
    // Both streams in one, in the order in which a person sees them.
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" lab demo --name \"$1\" 2>&1", env!("CARGO_BIN_EXE_infra"), NAME])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lab = Lab::open(NAME).unwrap_or_else(|e| panic!("{e}:\n{said}"));
    let shown = Shown { said, lab };
    let all: [Check<Shown>; 7] = [
        ("it ends well", move |shown| {
            assert!(shown.said.contains("when you are done:"), "{}", shown.said);
        }),
        ("a page, and files", |shown| {
            shown.says(&["outside$ curl", "x-forwarded-proto: https", "a static file of web"]);
        }),
        ("a row is written by one and read on the other", |shown| {
            shown.says(&[", written to db1", "orders: 1, read on db2"]);
        }),
        ("exactly the declared flows", |shown| shown.says(&["infra firewall verify", "exactly what is declared"])),
        ("another writer under load", another_writer),
        ("what happened has arrived at the monitoring service", arrived),
        ("one order of a certificate serves both", one_order),
    ];
    let ended = output.status.success();
    checks::run(&shown, &all, checks::independent);
    shown.lab.down().unwrap();
    assert!(ended);
}

fn another_writer(shown: &Shown) {
    shown.says(&[
        "infra db switchover db2",
        "writes stopped for",
        "; 0 lost;",
        "each has every order",
        "nothing to do",
    ]);
    for (host, read_only) in [("db1", "1"), ("db2", "0")] {
        let now = shown.sh(host, "mariadb -NBe 'SELECT @@read_only, writer FROM infra.role'");
        assert_eq!(now.trim_end(), format!("{read_only}\tdb2"), "{host}");
    }
    let page = shown.sh("outside", "curl -sS --fail --max-time 10 -X POST https://shop.example.com/orders");
    assert!(page.contains(", written to db2"), "{page}");
}

fn arrived(shown: &Shown) {
    if shown.lab.maker().is_none() {
        eprintln!("nothing is monitored: this machine has no Go to build Telegraf with");
        return;
    }
    shown.says(&["infra status", "shop: 8 hosts, all well", "  sent"]);
    let (_, status) = shown.said.rsplit_once("infra status").unwrap_or_default();
    let rate = status.split_once(" requests/s").and_then(|(before, _)| before.rsplit_once(' '));
    let rate: f64 = rate.and_then(|(_, rate)| rate.parse().ok()).unwrap_or_default();
    assert!(rate > 0.0, "{status}");
    for (host, category) in [
        ("lb1", "shop/lb/haproxy: "),
        ("web1", "shop/web/nginx/access: "),
        ("app1", "shop/app/metrics: "),
        ("db1", "shop/db/journal: "),
    ] {
        shown.says(&[&format!("infra lab received --name {NAME} {host}"), category]);
    }
}

fn one_order(shown: &Shown) {
    let log = std::fs::read_to_string(shown.lab.dir().join("outside/authority/pebble.log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("Added order")).count(), 1);
    for lb in ["203.0.113.11", "203.0.113.12", "[2001:db8:113::11]", "[2001:db8:113::12]"] {
        for name in ["shop.example.com", "www.shop.example.com"] {
            let page =
                shown.sh("outside", &format!("curl -sS --max-time 10 --resolve '{name}:443:{lb}' https://{name}/"));
            assert!(page.contains("x-forwarded-proto: https"), "{lb} {name}: {page}");
        }
    }
}

//! What is asked and decided, tried with real shells and recorded answers.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::inventory::load::load_text;
use crate::plan::state::{Facts, Observed};

const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
  web2: { address: [10.0.2.12, \"fd00:2::12\"], roles: [web] }
  app1: { address: 10.0.3.11, roles: [app] }
  app2: { address: 10.0.3.12, roles: [app] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { app: { port: 8080, health: /healthz } } }
certificates: { issuer: internal }
";

fn site() -> Site {
    load_text(INVENTORY, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

/// Runs a script in which `socat` or `ss` answers with a text.
fn answered(script: &str, tool: &str, answer: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("answer"), answer).unwrap();
    let text = format!("{tool}() {{ cat '{}'; }}\nsleep() {{ :; }}\n{script}", dir.path().join("answer").display());
    let output = Command::new("sh").args(["-c", &text]).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
}

/// A line of the page of statistics.
fn line(backend: &str, server: &str, state: &str, check: &str, code: &str) -> String {
    let mut fields = vec![String::new(); 60];
    for (at, text) in [(0, backend), (1, server), (17, state), (36, check), (37, code)] {
        fields[at] = text.to_owned();
    }
    fields.join(",") + "\n"
}

#[test]
fn who_leads_to_a_host_is_asked() {
    let site = site();
    let of = |host: &str| leaders(&site, &site.hosts[&name(host)]).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of("app1"), ["web1", "web2"]);
    assert_eq!(of("web1"), ["lb1"]);
    let asked: Vec<HostName> = leaving(&site, &site.hosts[&name("app1")]).into_keys().collect();
    assert_eq!(asked, ["app1", "web1", "web2"].map(name));
    for (host, words) in [("app1", None), ("web1", None), ("lb1", Some("visitors come to it by the zone"))] {
        let said = admit(&site.hosts[&name(host)]).err().map(|error| error.message);
        assert_eq!(said.is_some(), words.is_some(), "{host}");
        assert!(words.is_none_or(|words| said.unwrap().contains(words)), "{host}");
    }
}

#[test]
fn a_leader_says_what_is_not_so() {
    let site = site();
    let app1 = &site.hosts[&name("app1")];
    let of = |questions: Questions| questions[&name("web1")][0].command.clone();
    let [alone, leaving, returning] = [alone(&site, app1), leaving(&site, app1), returning(&site, app1)].map(of);
    let both = |one: &str, other: &str| {
        format!(
            "{}{}{}",
            line("program-8080", "app1", one, "L7STS", "503"),
            line("program-8080", "app2", other, "L7OK", "200"),
            line("to-app1", "app1", "no check", "", "")
        )
    };
    let cases = [
        (&alone, both("UP", "UP"), ""),
        (&alone, both("UP", "DOWN"), "has no other host than app1 that is well for the program on port 8080"),
        (&leaving, both("UP", "UP"), "still sends requests to app1"),
        (&leaving, both("UP 1/2", "UP"), "still sends requests to app1"),
        (&leaving, both("DOWN", "UP"), ""),
        (
            &leaving,
            both("DOWN", "DOWN"),
            "sends requests to app1 all the same, as the program on port 8080 is well on no other host",
        ),
        (&returning, both("UP", "UP"), ""),
        (
            &returning,
            both("DOWN 1/2", "UP"),
            "sends no requests to app1 yet, for the program on port 8080: it sees it as DOWN 1/2 L7STS 503",
        ),
        (&returning, line("program-8080", "app2", "UP", "", ""), "does not know of app1"),
        (&leaving, String::new(), "it does not tell where it sends requests:"),
    ];
    for (script, answer, words) in cases {
        assert_eq!(answered(script, "socat", &answer), (words.is_empty(), words.to_owned()), "{answer}");
    }
    let edge = of_leaders(&site, &site.hosts[&name("web1")], "leaving")[&name("lb1")][0].command.clone();
    // A backend of a site follows the checks of that of all sites.
    let servers = line("web", "web1", "DOWN", "L7STS", "503") + &line("web.a", "web1", "UP", "", "");
    assert_eq!(answered(&edge, "socat", &servers), (true, String::new()));
    let busy = servers.replace("web.a,web1,,,", "web.a,web1,,,2");
    let words = "still has 2 requests under way on web1";
    assert_eq!(answered(&edge, "socat", &busy), (false, words.to_owned()));
    let questions = super::leaving(&site, &site.hosts[&name("web2")]);
    assert_eq!(questions.keys().collect::<Vec<_>>(), [&name("lb1")], "a web host counts nothing itself");
    assert!(questions[&name("lb1")][1].command.contains("dst 10.0.2.12:8443 or dst [fd00:2::12]:8443"));
}

#[test]
fn connections_that_last_are_told_with_who_has_them() {
    let site = site();
    let script = held(&site).command;
    assert!(script.contains("sport = :9443"), "{script}");
    for (answer, words) in [
        ("", ""),
        ("0 0 10.0.3.11:9443 10.0.2.11:40000\n", "still holds 1 connection, from web1"),
        (
            "0 0 10.0.3.11:9443 10.0.2.11:40000\n0 0 10.0.3.11:9443 10.0.2.11:40001\n",
            "still holds 2 connections, from web1",
        ),
        ("0 0 [fd00:3::11]:9443 [fd00:2::12]:40000\n", "still holds 1 connection, from web2"),
        ("0 0 10.0.3.11:9443 192.0.2.1:1\n", "still holds 1 connection, from 192.0.2.1"),
    ] {
        assert_eq!(answered(&script, "ss", answer), (words.is_empty(), words.to_owned()), "{answer}");
    }
}

#[test]
fn a_run_tells_who_is_out_of_traffic() {
    let mut observed = Observed::bare(Facts::of_release("debian", "12"));
    drained::read("drained\n1795435200\nops@desk\na new disk\n", &mut observed);
    let notes = Away.decide(&site(), &[(name("app1"), observed)].into(), &Memory::at(0)).unwrap().notes;
    let words = "app1 is drained since 2026-11-23 12:00 UTC by ops@desk (a new disk), and stays so: `infra undrain app1` brings it back";
    assert_eq!(notes, [words]);
}

#[test]
fn a_task_takes_a_host_out_and_back() {
    let site = site();
    let seen = Mark { since: 7, by: "o'ps@desk".into(), why: "two\nlines".into() };
    let decided = leave(&site.hosts[&name("web1")], &seen);
    let Some([Action::Perform { task, .. }]) = decided.hosts[&name("web1")].get(&Phase::Web).map(Vec::as_slice) else {
        panic!("{decided:?}")
    };
    assert_eq!(task.title, "take web1 out of traffic");
    assert!(task.script.contains(r"'7' 'o'\''ps@desk' 'two\nlines'"), "{}", task.script);
    let back = come_back(&site.hosts[&name("app1")]);
    assert!(back.hosts[&name("app1")].contains_key(&Phase::App));
}

//! The binary as a shell sees it: exit codes, where its words go, and what it does where nobody listens.

use std::io::Read;
use std::process::{Command, Output, Stdio};

fn infra(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infra"));
    command.args(args).env_remove("INFRA_INVENTORY").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    infra(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_wrong_command_line_exits_2_and_says_what_is_near() {
    let out = output(&["aply"]);
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(text(&out.stdout), "");
    assert!(text(&out.stderr).contains("apply"), "{}", text(&out.stderr));
    assert_eq!(output(&[]).status.code(), Some(2));
}

#[test]
fn help_names_the_exit_codes() {
    let out = output(&["--help"]);
    assert_eq!(out.status.code(), Some(0));
    for line in ["2    the input is wrong", "5    an armed change was not confirmed", "130  interrupted"] {
        assert!(text(&out.stdout).contains(line), "{line}");
    }
}

#[test]
fn every_shell_has_a_completion_and_every_verb_a_page() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let out = output(&["completions", shell]);
        assert!(out.status.success() && text(&out.stdout).contains("skip-unreachable"), "{shell}");
    }
    assert!(text(&output(&["man"]).stdout).contains(".TH infra 1"));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("pages");
    assert!(output(&["man", "--to", pages.to_str().unwrap()]).status.success());
    for page in ["infra.1", "infra-apply.1", "infra-firewall-explain.1", "infra-lab-up.1"] {
        assert!(pages.join(page).exists(), "{page}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = infra(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!((child.wait().unwrap().code(), words.as_str()), (Some(0), ""));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = infra(&["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).starts_with("error: "), "{}", text(&out.stderr));
}

#[test]
fn a_good_inventory_is_checked_rendered_and_explained() {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/three-tier.yml");
    let out = output(&["check", inventory]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).starts_with("shop: 6 hosts"), "{}", text(&out.stdout));

    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    assert_eq!(output(&["render", inventory, "--to", to.to_str().unwrap(), "--limit", "lb1"]).status.code(), Some(0));
    assert!(to.join("lb1/etc/haproxy/haproxy.cfg").exists());
    assert!(!to.join("web1").exists());

    let out = output(&["firewall", "explain", "lb1", "web1", "8443", inventory]);
    assert!(text(&out.stdout).starts_with("lb1 -> web1 8443/tcp: allowed\n"), "{}", text(&out.stdout));
}

#[test]
fn json_is_one_event_a_line() {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/three-tier.yml");
    for args in [["--json", "check", inventory], ["--json", "check", "no-such-file.yml"]] {
        let out = output(&args);
        let events: Vec<serde_json::Value> =
            text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!events.is_empty() && events.iter().all(|e| e["event"].is_string()), "{args:?}: {events:?}");
        assert_eq!(text(&out.stderr), "", "{args:?}");
    }
}

#[test]
fn a_selection_that_matches_nothing_exits_2_and_touches_nothing() {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/three-tier.yml");
    let out = output(&["diff", inventory, "--limit", "wbe1"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("`--limit` names the host `wbe1`"), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout), "");
}

//! A newcomer's first hour, by the lines of the README: `tests/first-hour` types them in an empty folder, for three hosts that are
//! somebody's, and this holds it to the time that it may take.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Stdio};

#[test]
fn three_foreign_hosts_stand_behind_https() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/first-hour");
    let mut said = Command::new(script);
    said.arg("15").env("INFRA", env!("CARGO_BIN_EXE_infra")).stdin(Stdio::null());
    let output = said.output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{out}\n{errors}");
    // What the hosts were before infra came, nobody knows.
    assert!(!out.contains("undo: infra rollback"), "{out}");
    // Every line was typed, and what they lead to was seen.
    for words in [
        "$ infra init ",
        "$ infra check",
        "$ infra trust --all",
        "$ infra apply",
        "$ curl https://",
        "three foreign hosts stand behind HTTPS",
    ] {
        assert!(out.contains(words), "no `{words}` in\n{out}");
    }
}

//! What `--json` prints is what `infra schema events` says, by every verb that needs no host; the labs hold the others to it.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "common/events.rs"]
mod events;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// Nothing listens on port 1.
const INVENTORY: &str = "name: shop
ssh: { user: root, port: 1 }
hosts:
  lb1: { address: 192.0.2.10, ssh: { address: 127.0.0.1 }, roles: [lb, web, app], allow_mixed_roles: a test }
firewall: { manage_from: [198.51.100.0/24] }
sites:
  shop.example.com: { app: { port: 8080, health: /healthz } }
certificates:
";

fn infra(folder: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infra"));
    command
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("INFRA_INVENTORY")
        .env_remove("INFRA_STATE");
    let out = command.output().unwrap();
    (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
}

#[test]
fn the_command_prints_the_schema() {
    let (code, text) = infra(Path::new("."), &["schema", "events"]);
    assert_eq!(code, 0);
    let printed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(printed, infra::report::line::schema());
    assert!(jsonschema::meta::is_valid(&printed));
}

/// Editors are not to find fault with what `check` accepts, and are to see a key that nobody knows.
#[test]
fn the_schema_of_the_inventory_accepts_inventories() {
    let (code, text) = infra(Path::new("."), &["schema", "inventory"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::validator_for(&schema).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let value = |text: &str| serde_yaml::from_str::<serde_json::Value>(text).unwrap();
    for name in ["reference.yml", "full.yml", "single.yml", "three-tier.yml"] {
        let errors: Vec<String> = schema.iter_errors(&value(&read(name))).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    let single = read("single.yml");
    for (from, to) in
        [("sites:", "site:"), ("manage_from:", "manage_form:"), ("issuer:", "isuer:"), ("    roles:", "    rolls:")]
    {
        assert!(!schema.is_valid(&value(&single.replace(from, to))), "{to}");
    }
}

#[test]
fn every_verb_prints_events_of_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("inventory.yml", &format!("{INVENTORY}  issuer: internal\n"));
    write("public.yml", &format!("{INVENTORY}  issuer: letsencrypt\n  contact: ops@example.com\n"));
    write("bad.yml", &INVENTORY.replace("roles", "rules"));
    write("many.yml", &format!("{INVENTORY}  issuer: internal\n{}", "a b\n".repeat(3000)));
    let mut seen = BTreeSet::new();
    for words in [
        "check",
        "check bad.yml",
        "check many.yml",
        "check none.yml",
        "render --to out",
        "diff",
        "diff public.yml",
        "apply --yes",
        "apply --yes --skip-unreachable",
        "apply --plan none",
        "cert status",
        "cert status public.yml",
        "cert renew",
        "cert renew --dry-run",
        "cert records",
        "cert records public.yml",
        "cert revoke shop.example.com --yes",
        "firewall matrix",
        "firewall explain internet lb1 443",
        "firewall explain lb1 nobody 443",
        "firewall verify",
        "explain lb1",
        "explain lb1 haproxy.cfg:1",
        "explain lb1 haproxy.cfg:100000",
        "status",
        "trust lb1",
        "trust --all",
        "history",
        "history --local",
    ] {
        let words: Vec<&str> = words.split(' ').chain(["--json"]).collect();
        let (code, out) = infra(folder.path(), &words);
        assert!(code <= 4, "{words:?}: {code}");
        seen.extend(events::hold(&out));
    }
    let all = "authority certificate checked diagnostic error explained explanation kept matrix measured observed observing outcome plan";
    let all = all.split(' ').chain(["host_status", "records", "site_status", "status", "unasked"]);
    assert_eq!(seen, all.map(ToOwned::to_owned).collect());
}

/// The schema is no bag into which everything fits.
#[test]
fn what_is_no_event_does_not_pass() {
    for line in [
        r#"{"event":"nothing"}"#,
        r#"{"hosts":3}"#,
        r#"{"event":"observing"}"#,
        r#"{"event":"observing","hosts":"3"}"#,
        r#"{"event":"observing","hosts":3,"more":1}"#,
        r#"{"event":"phase_begin","phase":"lunch","hosts":[]}"#,
        r#"{"event":"plan","site":"shop","changed":1,"unchanged":0,"hosts":{"a":{"drift":[],"phases":{"web":[{"action":"x"}]}}}}"#,
        "no JSON",
    ] {
        assert!(std::panic::catch_unwind(|| events::hold(line)).is_err(), "{line}");
    }
    events::hold(r#"{"event":"observing","hosts":3}"#);
}

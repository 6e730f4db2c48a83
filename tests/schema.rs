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

/// What others read without the program is what this program says; `infra schema WHAT > schemas/WHAT.json` writes it anew.
#[test]
fn the_published_schemas_are_those_that_the_command_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for what in ["events", "inventory", "plan"] {
        let (code, text) = infra(root, &["schema", what]);
        assert_eq!(code, 0);
        assert!(jsonschema::meta::is_valid(&serde_json::from_str(&text).unwrap()));
        let published = std::fs::read_to_string(root.join(format!("schemas/{what}.json"))).unwrap();
        assert!(published == text, "schemas/{what}.json is old: `infra schema {what} > schemas/{what}.json`");
    }
}

/// Where an editor is told to look for the schema of a file, as the YAML language server reads it.
fn modeline(inventory: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(inventory).unwrap();
    let first = text.lines().next().unwrap();
    let named = first.strip_prefix("# yaml-language-server: $schema=");
    inventory.with_file_name(named.unwrap_or_else(|| panic!("{}: {first}", inventory.display())))
}

#[test]
fn inventories_name_a_schema_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["reference.yml", "full.yml", "single.yml", "three-tier.yml"] {
        let named = modeline(&root.join("inventories").join(name)).canonicalize().unwrap();
        assert_eq!(named, root.join("schemas/inventory.json").canonicalize().unwrap(), "{name}");
    }
    // That of `init` has it beside itself, and is held to it.
    let folder = tempfile::tempdir().unwrap();
    let words = ["init", "--single", "192.0.2.10", "--domain", "shop.example.com", "--manage-from", "198.51.100.0/24"];
    assert_eq!(infra(folder.path(), &words).0, 0);
    let inventory = folder.path().join("inventory.yml");
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(modeline(&inventory)).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let text = std::fs::read_to_string(&inventory).unwrap();
    assert!(schema.is_valid(&serde_yaml::from_str(&text).unwrap()), "{text}");
    assert!(!schema.is_valid(&serde_yaml::from_str(&text.replace("sites:", "site:")).unwrap()));
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
    let plans = jsonschema::validator_for(&infra::report::line::plan_schema()).unwrap();
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
        "init --single 192.0.2.10 --domain shop.example.com --manage-from 198.51.100.0/24 new.yml",
        "alerts --to alerts",
        "docs",
        "docs hosts.web1.ssh",
    ] {
        let words: Vec<&str> = words.split(' ').chain(["--json"]).collect();
        let (code, out) = infra(folder.path(), &words);
        assert!(code <= 4, "{words:?}: {code}");
        seen.extend(events::hold(&out));
        let is_plan = |line: &&str| line.contains(r#""event":"plan""#);
        for plan in out.lines().filter(is_plan) {
            assert!(plans.is_valid(&serde_json::from_str(plan).unwrap()), "{plan}");
        }
    }
    let all = "authority certificate checked diagnostic error explained explanation kept matrix measured observed observing outcome plan";
    let all = all.split(' ').chain(["host_status", "key", "records", "site_status", "status", "unasked", "written"]);
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

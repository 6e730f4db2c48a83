//! The alerts as their readers take them: the rules and their cases through the real `promtool`.
#![allow(clippy::unwrap_used, clippy::allow_attributes, missing_docs, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};

use infra::inventory::alerts::{Table, table};
use infra::inventory::load;
use infra::service::alerts::prometheus;

fn promtool(folder: &Path, words: &[&str]) -> Output {
    Command::new("promtool")
        .args(words)
        .current_dir(folder)
        .output()
        .expect("promtool (Debian: prometheus) did not start")
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The rules and cases of a table in a folder.
fn written(table: &Table) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(prometheus::RULES), prometheus::rules(table, "shop")).unwrap();
    std::fs::write(folder.path().join(prometheus::CASES), prometheus::cases(table)).unwrap();
    folder
}

#[test]
fn every_case_of_the_table_holds() {
    let folder = written(&table().unwrap());
    for words in [["check", "rules", prometheus::RULES], ["test", "rules", prometheus::CASES]] {
        let out = promtool(folder.path(), &words);
        assert!(out.status.success(), "{}", text(&out));
    }
}

#[test]
fn an_alert_that_never_fires_and_one_that_always_does_are_seen() {
    for expression in ["vector(0) > 1", "vector(1)"] {
        let mut table = table().unwrap();
        table.alerts.truncate(1);
        table.alerts[0].prometheus = expression.to_owned();
        let out = promtool(written(&table).path(), &["test", "rules", prometheus::CASES]);
        assert!(!out.status.success() && text(&out).contains("SiteDown"), "{expression}: {}", text(&out));
    }
}

#[test]
fn an_inventory_gets_what_it_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories");
    let names = |file: &str| {
        let (site, _) = load::load(&root.join(file)).unwrap();
        let of = table().unwrap().of(&site);
        let out = promtool(written(&of).path(), &["test", "rules", prometheus::CASES]);
        assert!(out.status.success(), "{file}: {}", text(&out));
        of.alerts.into_iter().map(|alert| alert.name).collect::<Vec<_>>()
    };
    let has = |names: &[String], name: &str| names.iter().any(|one| one == name);
    let full = names("full.yml");
    assert_eq!(full.len(), table().unwrap().alerts.len());
    let three = names("three-tier.yml");
    assert!(has(&three, "NoServer") && has(&three, "DiskFull") && !has(&three, "NoWriter"), "{three:?}");
}

#[test]
fn an_inventory_has_limits_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories");
    let (site, _) = load::load(&root.join("reference.yml")).unwrap();
    let of = table().unwrap().of(&site);
    let folder = written(&of);
    let rules = std::fs::read_to_string(folder.path().join(prometheus::RULES)).unwrap();
    let (_, lag) = rules.split_once("alert: ReplicaLag").unwrap();
    let lag = lag.split("- alert:").next().unwrap();
    assert!(lag.contains("> 60\"") && lag.contains("for: 5m"), "{lag}");
    let (_, disk) = rules.split_once("alert: DiskFull").unwrap();
    assert!(disk.split("- alert:").next().unwrap().contains("< 5\""), "{disk}");
    // Its cases hold for the table's limits; those of the others still do.
    let cases = std::fs::read_to_string(folder.path().join(prometheus::CASES)).unwrap();
    assert!(!cases.contains("DiskFull") && cases.contains("MemoryLow"), "{cases}");
    let out = promtool(folder.path(), &["test", "rules", prometheus::CASES]);
    assert!(out.status.success(), "{}", text(&out));
}

#[test]
fn the_verb_writes_files_for_both() {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/full.yml");
    for (format, file) in [("prometheus", prometheus::RULES), ("sumologic", "infra-monitors.json")] {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("new");
        let mut infra = Command::new(env!("CARGO_BIN_EXE_infra"));
        infra.env("INFRA_STATE", folder.path().join("state"));
        let out = infra.args(["alerts", inventory, "--format", format, "--to"]).arg(&to).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        assert!(text(&out).contains("alerts written to"), "{}", text(&out));
        let written = std::fs::read_to_string(to.join(file)).unwrap();
        assert!(written.contains("FirewallMissing"), "{written}");
        if format == "sumologic" {
            let value: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert_eq!(value["type"], "MonitorsLibraryFolderExport");
        }
    }
}

//! Every file of every fixture's hosts as it would be pushed, as snapshots.
#![expect(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use infra::base::secret::display;
use infra::inventory::site::Site;
use infra::pki;
use infra::plan::state::{DesiredHost, Facts, File};
use infra::service::{desire, platform, render::Templates};

fn listing(host: &DesiredHost) -> String {
    let mut out = String::new();
    let packages: Vec<&str> = host.packages.iter().map(String::as_str).collect();
    writeln!(out, "packages: {}", packages.join(" ")).unwrap();
    for (unit, wanted) in &host.units {
        writeln!(out, "unit: {unit} ({})", wanted.phase).unwrap();
    }
    for (path, folder) in &host.folders {
        writeln!(out, "folder: {path} {:o} ({})", folder.access.mode, folder.phase).unwrap();
    }
    for (path, file) in &host.files {
        let then: Vec<String> = file.then.iter().map(|(unit, follow)| format!("{follow} {unit}")).collect();
        writeln!(out, "file: {path} {:o} ({}) {}", file.access.mode, file.phase, then.join(", ")).unwrap();
        if is_material(file) {
            writeln!(out, "    {}", display(&file.body.text)).unwrap();
        }
    }
    for check in &host.checks {
        writeln!(out, "check: {}: {}", check.title, check.command).unwrap();
    }
    for probe in &host.probes {
        let kind = if probe.advisory { ", advisory" } else { "" };
        let command = probe.command.replace('\n', "\n    ");
        writeln!(out, "probe: {} ({}{kind})\n    {command}", probe.title, probe.phase).unwrap();
    }
    out
}

/// Nothing but certificates and keys: shown in the listing.
fn is_material(file: &File) -> bool {
    file.body.text.starts_with('\u{E000}')
}

fn snapshot(name: &str, site: &Site, facts: &Facts) {
    let templates = Templates::load(None).unwrap();
    let facts: BTreeMap<_, _> = site.hosts.keys().map(|h| (h.clone(), facts.clone())).collect();
    let desired = desire(site, &facts, &pki::placeholders(site), &templates).unwrap();
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        for (host, wanted) in &desired {
            insta::assert_snapshot!(format!("{name}__{host}"), listing(wanted));
            for (path, file) in wanted.files.iter().filter(|(_, f)| !is_material(f)) {
                let text = display(&file.body.text);
                insta::assert_snapshot!(format!("{name}__{host}__{}", path.trim_start_matches('/').replace('/', "_")), text);
            }
        }
    });
}

#[test]
fn three_tier_on_the_oldest_release() {
    snapshot("three-tier", &common::three_tier(Path::new("state")), &platform::oldest());
}

#[test]
fn single_on_trixie() {
    snapshot("single", &common::single(Path::new("state")), &platform::shipped("debian", "13").unwrap());
}

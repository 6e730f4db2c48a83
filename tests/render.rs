//! Every file of every fixture's hosts as it would be pushed, as snapshots.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
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
    // What several hosts share is shown once.
    let mut shown = BTreeSet::new();
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        for (host, wanted) in &desired {
            insta::assert_snapshot!(format!("{name}__{host}"), listing(wanted));
            for (path, file) in wanted.files.iter().filter(|(_, f)| !is_material(f)) {
                if !shown.insert((path, &file.body.digest)) {
                    continue;
                }
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

#[test]
fn a_port_that_moves_is_served_until_its_clients_have_moved() {
    // The old file stays until `Narrow`, so the two must be able to stand side by side: no name may be in both.
    let names = |web: u64, app: u64| {
        let mut site = common::three_tier(Path::new("state"));
        (site.ports.web, site.ports.app) = (web.try_into().unwrap(), app.try_into().unwrap());
        let templates = Templates::load(None).unwrap();
        let desired = desire(&site, &BTreeMap::new(), &pki::placeholders(&site), &templates).unwrap();
        let files = desired.values().flat_map(|h| &h.files).filter(|(path, _)| path.contains("conf.d"));
        let mut names = BTreeSet::new();
        for (path, file) in files {
            names.insert(path.clone());
            let defined = file.body.text.lines().filter(|l| l.starts_with("map ") || l.starts_with("upstream "));
            names.extend(defined.map(|l| l.rsplit(' ').nth(1).unwrap().to_owned()));
        }
        names
    };
    let (old, new) = (names(8443, 9443), names(8444, 9444));
    assert_eq!((old.len(), old.intersection(&new).count()), (7, 0), "{old:?} {new:?}");
}

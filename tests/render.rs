//! Every file of every fixture's hosts as it would be pushed, as snapshots.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use infra::base::net::HostName;
use infra::base::secret::display;
use infra::inventory::load::load;
use infra::inventory::site::{Agent, Engine, Role, Site};
use infra::pki;
use infra::plan::decision::Memory;
use infra::plan::state::{DesiredHost, Facts, File, Version};
use infra::service::database::engine::Flavor;
use infra::service::{ALL, desire, platform, render::Templates};

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
        writeln!(out, "check: {}: {}", check.title, without_dialect(&check.command)).unwrap();
    }
    for probe in &host.probes {
        let kind = if probe.advisory { ", advisory" } else { "" };
        let command = without_dialect(&probe.command).replace('\n', "\n    ");
        writeln!(out, "probe: {} ({}{kind})\n    {command}", probe.title, probe.phase).unwrap();
    }
    out
}

/// The functions that stand before every script for a database are shown by name.
fn without_dialect(command: &str) -> String {
    [Engine::Mariadb, Engine::Mysql].into_iter().fold(command.to_owned(), |command, engine| {
        let dialect = Flavor { engine, version: Version(0, 0, 0) }.dialect();
        command.replace(dialect, &format!("‹the dialect of {engine:?}›\n"))
    })
}

/// Nothing but certificates and keys: shown in the listing.
fn is_material(file: &File) -> bool {
    file.body.text.starts_with('\u{E000}')
}

/// Of all hosts, or of those that have one of `roles`.
fn snapshot(name: &str, site: &Site, facts: &Facts, roles: &[Role]) {
    let templates = Templates::load(ALL, None).unwrap();
    let facts: BTreeMap<_, _> = site.hosts.keys().map(|h| (h.clone(), facts.clone())).collect();
    let desired =
        desire(site, (&facts, &Memory::default()), &infra::material::placeholders(site, ALL).unwrap(), &templates)
            .unwrap();
    // What several hosts share is shown once.
    let mut shown = BTreeSet::new();
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        let shown_at = |host: &HostName| roles.is_empty() || roles.iter().any(|role| site.hosts[host].has(*role));
        for (host, wanted) in desired.iter().filter(|(host, _)| shown_at(host)) {
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
    snapshot("three-tier", &common::three_tier(Path::new("state")), &platform::oldest(), &[]);
}

#[test]
fn full_on_the_oldest_release() {
    let site = load(Path::new("inventories/full.yml")).unwrap().0;
    snapshot("full", &site, &platform::oldest(), &[Role::Db, Role::App]);
}

#[test]
fn single_on_trixie() {
    snapshot("single", &common::single(Path::new("state")), &platform::shipped("debian", "13").unwrap(), &[]);
}

#[test]
fn what_the_monitoring_agents_are_told() {
    let site = common::shipped(Path::new("state"));
    let templates = Templates::load(ALL, None).unwrap();
    let materials = infra::material::placeholders(&site, ALL).unwrap();
    let desired = desire(&site, (&BTreeMap::new(), &Memory::default()), &materials, &templates).unwrap();
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        for (host, file) in [
            ("app1", "telegraf.conf"),
            ("lb1", "telegraf.conf"),
            ("app1", "syslog-ng.conf"),
            ("lb1", "syslog-ng.conf"),
            ("web1", "source.env"),
        ] {
            let wanted = &desired[&host.parse::<HostName>().unwrap()].files[&format!("/etc/infra/monitoring/{file}")];
            insta::assert_snapshot!(format!("shipped__{host}__{file}"), display(&wanted.body.text));
        }
    });
    let env = &desired[&"web1".parse::<HostName>().unwrap()].files["/etc/infra/monitoring/source.env"];
    assert_eq!(env.access.mode, 0o600);
}

#[test]
fn what_the_collector_is_told() {
    let mut site = common::shipped(Path::new("state"));
    let full = load(Path::new("inventories/full.yml")).unwrap().0;
    site.database = full.database;
    site.hosts.extend(full.hosts.into_iter().filter(|(_, host)| host.has(Role::Db)));
    site.monitoring.as_mut().unwrap().agent = Agent::OtelcolSumo;
    let templates = Templates::load(ALL, None).unwrap();
    let materials = infra::material::placeholders(&site, ALL).unwrap();
    let desired = desire(&site, (&BTreeMap::new(), &Memory::default()), &materials, &templates).unwrap();
    let of = |host: &str| &desired[&host.parse::<HostName>().unwrap()].files;
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        for (host, file) in [
            ("web1", "conf.d/20-infra-base.yaml"),
            ("lb1", "conf.d/30-infra-lb.yaml"),
            ("web1", "conf.d/30-infra-web.yaml"),
            ("app1", "conf.d/30-infra-app.yaml"),
            ("db1", "conf.d/30-infra-db.yaml"),
            ("app1", "conf.d/40-infra-logs.yaml"),
            ("db1", "env/infra.env"),
            ("db1", "env/token.env"),
        ] {
            let wanted = &of(host)[&format!("/etc/otelcol-sumo/{file}")];
            let name = file.rsplit('/').next().unwrap();
            insta::assert_snapshot!(format!("collector__{host}__{name}"), display(&wanted.body.text));
        }
    });
    for (host, files) in [("web1", &["token.env"][..]), ("db1", &["token.env", "infra.env"])] {
        for (path, file) in of(host).iter().filter(|(path, _)| path.starts_with("/etc/otelcol-sumo/env/")) {
            assert!(files.contains(&path.rsplit('/').next().unwrap()), "{path}");
            assert_eq!((file.access.mode, file.access.group.as_str()), (0o640, "root"), "{path}");
        }
        // Nothing else has the token.
        let with = of(host).iter().filter(|(_, file)| display(&file.body.text).contains("monitoring/token"));
        assert_eq!(with.map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["/etc/otelcol-sumo/env/token.env"]);
    }
}

#[test]
fn a_template_of_ones_own_is_held_to_the_collectors_structure() {
    let mut site = common::shipped(Path::new("state"));
    site.monitoring.as_mut().unwrap().agent = Agent::OtelcolSumo;
    let materials = infra::material::placeholders(&site, ALL).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("templates/monitoring/otelcol-web.yaml");
    fs_err::create_dir_all(own.parent().unwrap()).unwrap();
    let text = fs_err::read_to_string("templates/monitoring/otelcol-web.yaml").unwrap();
    for (from, to, says) in [
        ("receivers: [nginx/infra]", "receivers: [nginx/other]", "which no fragment defines"),
        ("endpoint: \"http://", "endpoint: \"", "begins with `http://`"),
        ("  pipelines:", "  extensions: []\n  pipelines:", "would replace what the package says"),
        ("    collection_interval", "\tcollection_interval", "a tab stands"),
    ] {
        fs_err::write(&own, text.replacen(from, to, 1)).unwrap();
        let templates = Templates::load(ALL, Some(folder.path())).unwrap();
        let refused = desire(&site, (&BTreeMap::new(), &Memory::default()), &materials, &templates).unwrap_err();
        let said = format!("{refused:?}");
        assert!(said.contains("the collector's configuration of web1") && said.contains(says), "{said}");
    }
}

#[test]
fn the_settings_of_each_engine() {
    for (name, engine, release) in [
        ("mariadb-10.11", Engine::Mariadb, "12"),
        ("mariadb-11.8", Engine::Mariadb, "13"),
        ("mysql-8.4", Engine::Mysql, "12"),
        ("mysql-9.7", Engine::Mysql, "forky"),
    ] {
        let mut site = common::databases(Path::new("state"));
        site.database.as_mut().unwrap().engine = engine;
        let facts = Facts { memory: 8 << 10, ..platform::shipped("debian", release).unwrap() };
        let facts: BTreeMap<_, _> = site.hosts.keys().map(|h| (h.clone(), facts.clone())).collect();
        let templates = Templates::load(ALL, None).unwrap();
        let materials = infra::material::placeholders(&site, ALL).unwrap();
        let desired = desire(&site, (&facts, &Memory::default()), &materials, &templates).unwrap();
        let files = desired
            .values()
            .flat_map(|host| &host.files)
            .filter(|(path, _)| Path::new(path).extension() == Some("cnf".as_ref()));
        let files = files.filter(|(path, _)| path.contains("98-infra") || path.contains("99-infra"));
        let texts: Vec<_> = files.take(2).map(|(path, file)| format!("{path}\n{}", file.body.text)).collect();
        assert_eq!(texts.len(), 2);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("settings__{name}"), texts.join("\n"));
        });
    }
}

#[test]
fn a_file_knows_the_template_that_it_came_from() {
    let site = common::single(Path::new("state"));
    let folder = tempfile::tempdir().unwrap();
    let origin = |templates: &Templates, path: &str| {
        let desired =
            desire(&site, (&BTreeMap::new(), &Memory::default()), &pki::placeholders(&site), templates).unwrap();
        desired.values().find_map(|host| host.files.get(path)).unwrap().body.origin.clone()
    };
    let built_in = Templates::load(ALL, Some(folder.path())).unwrap();
    let config = "/etc/nginx/nginx.conf";
    assert_eq!(origin(&built_in, config).as_deref(), Some("built-in templates/nginx/nginx.conf"));
    assert_eq!(origin(&built_in, "/etc/infra/ca.crt"), None, "it is no template's");
    let own = folder.path().join("templates/nginx/nginx.conf");
    fs_err::create_dir_all(own.parent().unwrap()).unwrap();
    fs_err::write(&own, "worker_processes auto;\n").unwrap();
    let shadowed = Templates::load(ALL, Some(folder.path())).unwrap();
    assert_eq!(origin(&shadowed, config), Some(own.display().to_string()));
}

#[test]
fn a_port_that_moves_is_served_until_its_clients_have_moved() {
    // The old file stays until `Narrow`, so the two must be able to stand side by side: no name may be in both.
    let names = |web: u64, app: u64| {
        let mut site = common::three_tier(Path::new("state"));
        (site.ports.web, site.ports.app) = (web.try_into().unwrap(), app.try_into().unwrap());
        let templates = Templates::load(ALL, None).unwrap();
        let desired =
            desire(&site, (&BTreeMap::new(), &Memory::default()), &pki::placeholders(&site), &templates).unwrap();
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
    assert_eq!((old.len(), old.intersection(&new).count()), (17, 0), "{old:?} {new:?}");
}

//! What a fleet costs to check and to plan grows as its hosts do: takes generated inventories of several sizes and hosts made up for
//! them, and counts what is allocated for a host. A step that goes through all hosts for each of them, and takes down what it finds, is
//! seen by that on any machine. How long it all takes is for `benches/check/run` to tell.

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use infra::base::net::HostName;
use infra::fleet::survey;
use infra::inventory::load::load;
use infra::inventory::site::{Role, Site};
use infra::material;
use infra::plan::behind::Behind;
use infra::plan::decision::Memory;
use infra::plan::ruleset::Ruleset;
use infra::plan::state::{
    Desired, DesiredHost, Facts, Observed, ObservedFile, ObservedFirewall, ObservedFleet, ObservedUnit, Recorded,
};
use infra::plan::{half, narrow, plan};
use infra::report::plan::{View, draw};
use infra::report::text::Paint;
use infra::service::render::Templates;
use infra::service::{ALL, desire, desire_each};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Two load balancers; of the rest two fifths serve the web and three fifths run the program.
fn inventory(hosts: usize, web_port: u16) -> String {
    let web = (hosts - 2) * 2 / 5;
    let mut text = "name: big\nssh: { user: ops }\nhosts:\n".to_owned();
    for (role, many) in [("lb", 2), ("web", web), ("app", hosts - 2 - web)] {
        let net = ["lb", "web", "app"].iter().position(|one| *one == role).unwrap();
        for n in 0..many {
            let public = if role == "lb" { format!(", public: 203.0.113.{}", n + 1) } else { String::new() };
            let (net, third, last) = (2 * net + n / 62_500, n / 250 % 250, n % 250 + 1);
            text += &format!("  {role}{n}: {{ address: 10.{net}.{third}.{last}, roles: [{role}]{public} }}\n");
        }
    }
    text + &format!(
        "ports: {{ web: {web_port} }}\nfirewall: {{ manage_from: [10.0.0.0/24] }}\nsites:\n  shop.example.com: \
         {{ static: {{ root: /srv/shop, prefix: /static/ }}, app: {{ port: 8080, health: /healthz }} }}\n\
         certificates: {{ issuer: internal }}\n"
    )
}

fn written(folder: &Path, hosts: usize, web_port: u16) -> PathBuf {
    let file = folder.join(format!("{web_port}.yml"));
    std::fs::write(&file, inventory(hosts, web_port)).unwrap();
    file
}

/// No two of them have quite the same memory, as no two kinds of machine do.
fn facts(site: &Site) -> BTreeMap<HostName, Facts> {
    let memory = (0..).map(|n| 8192 + n % 2000);
    let of = |memory| Facts { memory, files: 1 << 20, ..Facts::of_release("debian", "12") };
    site.hosts.keys().cloned().zip(memory.map(of)).collect()
}

fn desired(site: &Site) -> Desired {
    let (materials, templates) = (material::placeholders(site, ALL).unwrap(), Templates::load(ALL, None).unwrap());
    desire(site, (&facts(site), &Memory::default()), &materials, &templates).unwrap()
}

/// A host that is what it should be, with its rules as it tells them itself.
fn settled(desired: &DesiredHost, facts: Facts) -> Observed {
    let file = |file: &infra::plan::state::File| ObservedFile {
        digest: Some(file.body.digest.clone()),
        other: None,
        access: file.access.clone(),
        text: None,
    };
    let unit = ObservedUnit { active: "active".into(), enabled: "enabled".into(), load: "loaded".into() };
    let told = desired.firewall.as_ref().map(|set| {
        let mut told = Ruleset::from_text(&set.to_text()).unwrap();
        told.share(set);
        told
    });
    Observed {
        packages: desired.packages.iter().map(|name| (name.clone(), "1".to_owned())).collect(),
        files: desired.files.iter().map(|(path, one)| (path.clone(), file(one))).collect(),
        manifest: desired.files.iter().map(|(path, one)| (path.clone(), Recorded::of(one))).collect(),
        folders: desired.folders.iter().map(|(path, one)| (path.clone(), one.access.clone())).collect(),
        units: desired.units.keys().map(|name| (name.clone(), unit.clone())).collect(),
        firewall: ObservedFirewall { loaded: told, intact: true, boot_current: true, ..ObservedFirewall::default() },
        ..Observed::bare(facts)
    }
}

/// Plans, and draws as for a terminal; `away` are the hosts that do not answer.
fn planned(site: &Site, desired: &Desired, fleet: &ObservedFleet, away: &BTreeSet<HostName>) -> (usize, usize) {
    let mut all = plan::plan(desired, fleet);
    let behind: BTreeMap<HostName, Behind> = away.iter().map(|host| (host.clone(), Behind::Away)).collect();
    let addresses = survey::addresses(site);
    narrow::keep(&mut all, desired, &narrow::Unclosed::new(), &addresses, &behind);
    all.halves = half::of(&all, &addresses, &behind);
    let view = View { width: 110, verbose: false, paint: Paint::default(), services: ALL };
    black_box(draw(site, &all, view));
    (all.changed().count(), all.hosts.values().filter(|host| !host.kept_for.is_empty()).count())
}

/// What a step took for a host.
#[derive(Debug, Clone, Copy)]
struct Took {
    bytes: usize,
    seconds: f64,
}

/// What each step takes for a host of a fleet of so many, at the least of so many times.
fn steps(hosts: usize, repeats: usize) -> BTreeMap<&'static str, Took> {
    let folder = tempfile::tempdir().unwrap();
    let mut took = BTreeMap::new();
    let (file, moved) = (written(folder.path(), hosts, 8443), written(folder.path(), hosts, 8444));
    let mut step = |name, work: &mut dyn FnMut()| {
        let mut least = Took { bytes: usize::MAX, seconds: f64::MAX };
        for _ in 0..repeats {
            let (region, began) = (Region::new(ALLOCATOR), Instant::now());
            work();
            let (seconds, change) = (began.elapsed().as_secs_f64(), region.change());
            let bytes = change.bytes_allocated + usize::try_from(change.bytes_reallocated.max(0)).unwrap();
            least.bytes = least.bytes.min(bytes / hosts);
            least.seconds = least.seconds.min(seconds / f64::from(u32::try_from(hosts).unwrap()));
        }
        took.insert(name, least);
    };
    step("load", &mut || drop(black_box(load(&file).unwrap())));
    let (site, moved) = (load(&file).unwrap().0, load(&moved).unwrap().0);
    step("check", &mut || {
        let (materials, templates) = (material::placeholders(&site, ALL).unwrap(), Templates::load(ALL, None).unwrap());
        let files = |_: &_, desired: DesiredHost| desired.files.len();
        let counted = desire_each(&site, (&facts(&site), &Memory::default()), &materials, &templates, files).unwrap();
        assert_eq!(counted.len(), hosts);
    });
    let before = desired(&site);
    step("first plan", &mut || {
        let bare = facts(&site).into_iter().map(|(name, facts)| (name, Observed::bare(facts))).collect();
        assert_eq!(planned(&site, &before, &bare, &BTreeSet::new()), (hosts, 0));
    });
    let settled = |(name, facts)| {
        let observed = settled(&before[&name], facts);
        (name, observed)
    };
    let mut fleet: ObservedFleet = facts(&site).into_iter().map(settled).collect();
    step("nothing to do", &mut || assert_eq!(planned(&site, &before, &fleet, &BTreeSet::new()), (0, 0)));
    // Of each role every third host does not answer.
    let away: BTreeSet<HostName> = site.hosts.keys().step_by(3).cloned().collect();
    fleet.retain(|host, _| !away.contains(host));
    let webs = site.with_role(Role::Web).filter(|host| !away.contains(&host.name)).count();
    let after = desired(&moved);
    step("a move with hosts away", &mut || {
        let (changed, kept) = planned(&moved, &after, &fleet, &away);
        assert!(changed > webs && kept >= webs, "{changed} {kept} {webs}");
    });
    took
}

#[test]
fn what_is_allocated_for_a_host_does_not_grow_with_the_fleet() {
    let (small, large) = (steps(100, 1), steps(400, 1));
    let grown: Vec<String> = small
        .iter()
        .map(|(name, few)| (name, few.bytes, large[name].bytes))
        .filter(|(_, few, many)| *many * 10 > *few * 13)
        .map(|(name, few, many)| format!("{name}: {few} bytes a host among 100, {many} among 400"))
        .collect();
    assert!(grown.is_empty(), "{grown:#?}");
}

/// For `benches/check/run`: what each step takes for a host, in fleets of the sizes that `GROWTH` names.
#[test]
#[ignore = "prints what the machine takes, which is no verdict"]
fn what_a_host_takes() {
    let sizes = std::env::var("GROWTH").unwrap_or_else(|_| "250 500 1000 2000".into());
    for hosts in sizes.split_whitespace().map(|size| size.parse().unwrap()) {
        for (name, Took { bytes, seconds }) in steps(hosts, 3) {
            println!("took {hosts} {} {:.1} {bytes}", name.replace(' ', "-"), seconds * 1e6);
        }
    }
}

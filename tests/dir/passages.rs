//! A way between two hosts that is open only while a run lasts, by the real scripts and a stub of nft: it opens before what needs it
//! and is closed again, also where the run fails; where the run died, the next one closes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use infra::base::diagnostic::Diagnostic;
use infra::base::materials::Materials;
use infra::base::net::HostName;
use infra::fleet::event::HostOutcome;
use infra::host::execute::Executor;
use infra::host::lock::{self, Locked};
use infra::host::transport::Hold;
use infra::inventory::site::Site;
use infra::plan::decision::{Decided, Memory, Passage};
use infra::plan::plan::Action;
use infra::plan::ruleset::Rule;
use infra::plan::state::{Body, Digest, ObservedFleet, Phase};
use infra::plan::task::Task;
use infra::service::claims::Claims;
use infra::service::firewall::{Firewall, rules};
use infra::service::{Context, Service, Services};

use super::Machine;
use super::decision::{World, name};

/// nft for a folder: what was loaded last is what is live.
const NFT: &str = r#"#!/bin/sh
case "$*" in
'-c -f '*) ;;
'-f -') cat >/dev/null ;;
'-f '*) cp "$2" "LIVE" ;;
'-s list table inet infra') [ -e "LIVE" ] && sed -n '/^table inet infra {/,/^}/p' "LIVE" ;;
'-s list chain inet infra_block pre') printf 'table inet infra_block {\n\tchain pre {\n\t}\n}\n' ;;
'-s -t list ruleset') "$0" -s list table inet infra && "$0" -s list chain inet infra_block pre ;;
*) exit 1 ;;
esac
"#;

/// systemd-run that starts what closes a way, and no timer.
const SYSTEMD_RUN: &str = r#"#!/bin/sh
case "$*" in
*--unit=infra-firewall-close*) ;;
*) exit 0 ;;
esac
while [ "${1#-}" != "$1" ]; do shift; done
setsid "$@" </dev/null >/dev/null 2>&1 &
"#;

const SEEDED: &str = "seeder/seeded";

/// c is seeded from a, which needs port 4444 there; it may fail.
struct Seeder {
    script: &'static str,
}

fn ways() -> Vec<Passage> {
    let port = 4444_u64.try_into().unwrap();
    vec![Passage { from: name("a"), to: name("c"), port, why: "c is seeded".into() }]
}

impl Service for Seeder {
    fn name(&self) -> &'static str {
        "seeder"
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn needs(&self, _: &Site, _: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        ["a", "c"].map(name).into()
    }

    fn decide(&self, _: &Site, observed: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
        let mut decided = Decided::default();
        if !observed[&name("c")].made.contains_key(SEEDED) {
            decided.passages = ways();
            let task = Task {
                service: "seeder",
                phase: Phase::Replica,
                title: "copy the data of a".into(),
                script: self.script.into(),
                input: Body { text: "".into(), digest: Digest::of(b""), origin: None },
                limit: Duration::from_secs(10),
                undo: None,
                makes: BTreeMap::from([(SEEDED.to_owned(), "yes".to_owned())]),
            };
            decided.act(&name("c"), Phase::Replica, Action::Perform { name: SEEDED.into(), task });
        }
        Ok(decided)
    }
}

const BEFORE: Services = Services(&[&Firewall]);
/// It finds the way open.
const SEEDS: Services = Services(&[&Firewall, &Seeder { script: "nft -s list table inet infra | grep -q 4444" }]);
const FAILS: Services = Services(&[&Firewall, &Seeder { script: "echo the network is down; exit 1" }]);
const ALL: [&str; 3] = ["a", "b", "c"];

pub(super) fn world() -> World {
    let world = World::new();
    for machine in world.machines.values() {
        machine.executable("bin/nft", &NFT.replace("LIVE", &machine.path("units/nft").display().to_string()));
        machine.executable("bin/dpkg-query", "#!/bin/sh\necho installed nftables 1.0.6-2\n");
        // What is tried in a network of its own would be loaded by the stub.
        machine.executable("bin/unshare", "#!/bin/sh\n[ \"$1\" != -n ] && PATH=/usr/bin:/bin && exec unshare \"$@\"\n");
        // Its unit is enabled by words that the stub of systemctl does not know.
        let link = machine.path("root/etc/systemd/system/sysinit.target.wants/infra-firewall.service");
        fs_err::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/etc/systemd/system/infra-firewall.service", link).unwrap();
        for silent in
            ["systemd-run", "iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"]
        {
            machine.executable(&format!("bin/{silent}"), "#!/bin/sh\n");
        }
    }
    let (prepared, _) = world.planned(BEFORE, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    let outcome = world.executed(prepared);
    assert_eq!(outcome.count(|host| *host == HostOutcome::Changed), 3, "{outcome:?}");
    world
}

/// The hosts on which the way is open, by their live rules and by their own record.
fn open(world: &World) -> (Vec<&str>, Vec<&str>) {
    let with = |file: &str| {
        let machines = world.machines.iter();
        let found = machines.filter(|(_, machine): &(_, &Machine)| machine.read(file).unwrap().contains("4444"));
        found.map(|(host, _)| host.as_str()).collect()
    };
    (with("units/nft"), with("root/var/lib/infra/firewall.rules"))
}

#[test]
fn a_way_is_open_while_the_run_lasts_and_closed_after_it() {
    let world = world();
    let (prepared, _) = world.planned(SEEDS, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    let added: BTreeMap<&str, Vec<&str>> = prepared
        .plan
        .hosts
        .iter()
        .filter_map(|(host, plan)| match plan.phases.get(&Phase::Widen)?.as_slice() {
            [Action::Firewall { added, .. }] => Some((host.as_str(), added.iter().map(|r| r.flow.as_str()).collect())),
            other => panic!("{other:?}"),
        })
        .collect();
    let words = vec!["a -> c, only while c is seeded"];
    assert_eq!(added, BTreeMap::from([("a", words.clone()), ("c", words)]));
    let outcome = world.executed(prepared);
    assert_eq!(outcome.count(|host| *host == HostOutcome::Changed), 2, "{outcome:?}");
    assert_eq!(open(&world), (vec![], vec![]));
    let (again, _) = world.planned(SEEDS, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    assert!(again.plan.is_empty(), "{:?}", again.plan);
}

#[test]
fn a_way_is_closed_where_the_run_fails() {
    let world = world();
    let (prepared, _) = world.planned(FAILS, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    let outcome = world.executed(prepared);
    let HostOutcome::Failed(failure) = &outcome.hosts[&name("c")] else { panic!("{outcome:?}") };
    assert_eq!((failure.phase, outcome.notes.len()), (Phase::Replica, 0), "{outcome:?}");
    assert_eq!(open(&world), (vec![], vec![]));
    // Nothing else of the hosts' rules went, and nothing is told to be open that is not.
    assert!(world.machines[&name("a")].read("units/nft").unwrap().contains("dport 22"));
    assert!(outcome.open.values().flatten().all(|flow| !flow.rule.is_passage()), "{:?}", outcome.open);
    let (again, _) = world.planned(BEFORE, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    assert!(again.plan.is_empty(), "{:?}", again.plan);
}

/// The way is opened by a run that dies thereafter; what it held until then.
fn opened(world: &World) -> Vec<Box<dyn Hold>> {
    let mut held = Vec::new();
    for (host, rules) in rules::passages(&world.site, &ways()) {
        let machine = &world.machines[&host];
        let mut wide = machine.observe(&super::DesiredHost::default()).firewall.loaded.unwrap();
        wide.rules.extend(rules);
        let (materials, swaps) = (Materials::default(), BTreeMap::new());
        let mut transport = machine.transport();
        let Ok(Locked::Ours(lock)) = lock::take(transport.as_mut(), "tester@here", "dead") else { panic!("held") };
        held.push(lock);
        let mut executor = Executor {
            host: host.clone(),
            run: "dead".into(),
            who: "tester@here".into(),
            materials: &materials,
            transport: machine.transport(),
            reconnect: Box::new(|| Ok(machine.transport())),
            tell: Box::new(|_| {}),
            here: Vec::new(),
            swaps: &swaps,
            owner: None,
            manifest: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        executor.firewall(Phase::Widen, &wide).unwrap();
    }
    assert_eq!(open(world), (vec!["a", "c"], vec!["a", "c"]));
    held
}

#[test]
fn a_way_that_a_dead_run_has_left_is_closed_by_the_hosts_themselves() {
    let world = world();
    for machine in world.machines.values() {
        machine.executable("bin/systemd-run", SYSTEMD_RUN);
    }
    drop(opened(&world));
    let deadline = Instant::now() + Duration::from_secs(30);
    while open(&world) != (vec![], vec![]) {
        assert!(Instant::now() < deadline, "open still: {:?}", open(&world));
        std::thread::sleep(Duration::from_millis(100));
    }
    // That is written down on the host in its last steps.
    let nothing = || world.planned(BEFORE, &ALL).is_ok_and(|(prepared, _)| prepared.plan.is_empty());
    while !nothing() {
        assert!(Instant::now() < deadline, "something is left to do");
    }
}

#[test]
fn a_way_that_a_dead_run_has_left_is_closed_by_the_next_after_a_reboot() {
    let world = world();
    // What waited for the end of the run went with the boot, as systemd-run starts nothing here.
    drop(opened(&world));
    let (prepared, _) = world.planned(BEFORE, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    let removed: Vec<&Rule> = prepared
        .plan
        .hosts
        .values()
        .flat_map(|plan| plan.phases.values().flatten())
        .flat_map(|action| match action {
            Action::Firewall { removed, .. } => removed.as_slice(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(removed.len() == 2 && removed.iter().all(|rule| rule.is_passage()), "{removed:?}");
    world.executed(prepared);
    assert_eq!(open(&world), (vec![], vec![]));
}

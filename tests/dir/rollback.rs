//! A run is taken back under a folder: what the host keeps gives what it is to be, and the same engine makes it so.

use infra::fleet::rollback::{self, Asked, Back};
use infra::host::kept;

use super::*;

const A: &str = "20261123T000001";
const B: &str = "20261123T000002";
const C: &str = "20261123T000003";
const D: &str = "20261123T000004";

impl Machine {
    /// What was before a run, as the host says.
    fn before(&self, run: &str) -> Result<Back, String> {
        let kept = kept::ask(self.transport().as_mut(), Some(run)).unwrap();
        let asked = Asked { kept: BTreeMap::from([("h1".parse().unwrap(), kept)]), ..Asked::default() };
        let told = |errors: Vec<infra::base::diagnostic::Diagnostic>| {
            errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("\n")
        };
        rollback::before(&asked, run).map_err(told)
    }

    /// What the host is to be before a run.
    fn target(&self, run: &str, materials: &Materials) -> DesiredHost {
        let mut desired = self.before(run).unwrap().desired(ALL, materials);
        desired.remove(&"h1".parse().unwrap()).unwrap()
    }

    /// Takes `run` back by the run `by`.
    fn back(&self, run: &str, by: &str, materials: &Materials) -> HostPlan {
        self.run(by, Some(run), &self.target(run, materials), materials).unwrap()
    }

    fn runs(&self, run: &str, desired: &DesiredHost) {
        assert!(!self.run(run, None, desired, &materials()).unwrap().is_empty());
    }
}

/// A change of what a host should be.
type Change = fn(&mut DesiredHost);

/// Of each kind, what makes B of A.
const CHANGES: [(&str, Change); 10] = [
    ("a text", |host| host.files.get_mut("/etc/demo/main.conf").unwrap().body = body("two\n")),
    ("a mode", |host| host.files.get_mut("/etc/demo/main.conf").unwrap().access.mode = 0o600),
    ("a new file", |host| drop(host.files.insert("/etc/demo/new.conf".into(), file("new\n", 0o644)))),
    ("a file gone", |host| drop(host.files.remove("/etc/demo/main.conf"))),
    ("a secret's file gone", |host| drop(host.files.remove("/etc/demo/private/key"))),
    ("a secret's file changed", |host| {
        let key = format!("other {}\n", sentinel("demo/key"));
        host.files.get_mut("/etc/demo/private/key").unwrap().body = body(&key);
    }),
    ("a unit more", |host| {
        let mut unit = file("[Service]\n", 0o644);
        unit.then = BTreeMap::from([("more.service".into(), Follow::Restart)]);
        host.files.insert("/etc/systemd/system/more.service".into(), unit);
        host.units.insert("more.service".into(), UnitWanted { phase: Phase::App });
    }),
    ("a unit gone", |host| {
        host.files.clear();
        host.units.clear();
        host.files.insert("/etc/demo/other.conf".into(), File { then: BTreeMap::new(), ..file("x\n", 0o644) });
    }),
    ("another phase and service", |host| {
        let main = host.files.get_mut("/etc/demo/main.conf").unwrap();
        (main.phase, main.service, main.body) = (Phase::Edge, "edge", body("three\n"));
    }),
    ("many at once", |host| {
        for at in 0..40 {
            host.files.insert(format!("/etc/demo/many-{at}.conf"), file(&format!("{at}\n"), 0o644));
        }
        host.files.remove("/etc/demo/main.conf");
    }),
];

/// What runs and what is enabled.
fn units(machine: &Machine) -> Vec<String> {
    let names = fs_err::read_dir(machine.path("units")).unwrap().map(|entry| entry.unwrap().file_name());
    let states = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.ends_with("ed") || name.ends_with("active"));
    let mut states: Vec<String> = states.collect();
    states.sort();
    states
}

#[test]
fn each_change_is_taken_back_and_that_is_taken_back() {
    // Each waits for the disk most of the time.
    std::thread::scope(|scope| {
        for (name, change) in CHANGES {
            scope.spawn(move || taken_back(name, change));
        }
    });
}

fn taken_back(name: &str, change: Change) {
    let machine = Machine::new();
    let first = desired("one\n");
    machine.runs(A, &first);
    let (of_a, units_of_a) = (machine.picture(), units(&machine));
    let mut second = first.clone();
    change(&mut second);
    machine.runs(B, &second);
    let (of_b, units_of_b) = (machine.picture(), units(&machine));
    assert_ne!(of_a, of_b, "{name}");
    assert!(!machine.back(B, C, &materials()).is_empty(), "{name}");
    assert_eq!((machine.picture(), units(&machine)), (of_a.clone(), units_of_a), "{name}");
    // What the first inventory wants is there, so its apply has nothing to do.
    assert!(machine.apply(&first, &materials()).unwrap().is_empty(), "{name}");
    assert!(!machine.back(C, D, &materials()).is_empty(), "{name}");
    assert_eq!((machine.picture(), units(&machine)), (of_b, units_of_b), "{name}");
    assert!(machine.apply(&second, &materials()).unwrap().is_empty(), "{name}");
}

#[test]
fn what_nobody_knows_any_more_comes_from_the_hosts_own_copy() {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    let of_a = machine.picture();
    let mut second = desired("one\n");
    second.files.remove("/etc/demo/private/key");
    machine.runs(B, &second);
    let nothing = Materials::default();
    machine.back(B, C, &nothing);
    assert_eq!(machine.picture(), of_a);
    // Once more, and now the copy is gone: nothing is changed.
    machine.runs(D, &second);
    for run in [B, C, D] {
        let _ = fs_err::remove_dir_all(machine.path(&format!("root/var/lib/infra/runs/{run}/old/narrow/etc")));
    }
    let before = machine.picture();
    let target = machine.target(D, &nothing);
    let (phase, error) = machine.run("20261123T000005", Some(D), &target, &nothing).unwrap_err();
    assert_eq!((phase, error.what.as_str(), error.now), (Phase::Stage, "/etc/demo/private/key", Now::AsBefore));
    assert_eq!(error.words, ["the copy of it that this host kept is gone"]);
    assert_eq!(machine.picture(), before);
}

#[test]
fn a_secret_of_today_stays() {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    machine.runs(B, &desired("two\n"));
    let mut newer = Materials::default();
    newer.add_secret("demo/key".parse().unwrap(), "newer-marked", Owner::All);
    machine.back(B, C, &newer);
    assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("one\n"));
    assert_eq!(machine.read("root/etc/demo/private/key").as_deref(), Some("key newer-marked\n"));
}

#[test]
fn what_is_kept_holds_no_secret() {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    machine.runs(B, &desired("two\n"));
    for run in [A, B] {
        let record = machine.read(&format!("root/var/lib/infra/runs/{run}/wanted")).unwrap();
        assert!(record.contains("demo/key") && !record.contains("s3cr3t-marked"), "{record}");
    }
}

/// Packages come by a run of their own, which leaves a list of nothing.
#[test]
fn the_first_run_is_known_for_that_where_packages_came_before_it() {
    let machine = Machine::new();
    let infra = machine.path("root/var/lib/infra");
    fs_err::create_dir_all(&infra).unwrap();
    let nothing = infra::plan::manifest::to_text(Some(&"shop".parse().unwrap()), &BTreeMap::new());
    fs_err::write(infra.join("manifest"), nothing).unwrap();
    machine.runs(A, &desired("one\n"));
    assert!(machine.before(A).unwrap_err().contains("it was the first run there"));
    machine.runs(B, &desired("two\n"));
    assert!(!machine.back(B, C, &materials()).is_empty());
    // Whoever takes a run back is told of a host that was retired meanwhile.
    let retired = || kept::ask(machine.transport().as_mut(), None).unwrap().retired;
    assert_eq!(retired(), None);
    fs_err::write(infra.join("retired"), "1795435200\nops@desk\n\n").unwrap();
    assert_eq!(retired().unwrap().to_string(), "since 2026-11-23 12:00 UTC by ops@desk");
}

#[test]
fn what_cannot_be_exact_is_refused_with_the_reason() {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    assert!(machine.before(A).unwrap_err().contains("it was the first run there"));
    machine.runs(B, &desired("two\n"));
    machine.runs(C, &desired("three\n"));
    assert_eq!(
        machine.before(B).unwrap_err(),
        format!("run {B} cannot be taken back on h1: later runs have changed it: {C}")
    );
    machine.back(C, D, &materials());
    machine.back(B, "20261123T000005", &materials());
    assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("one\n"));
    // A run that failed half-way left neither what was before it nor what it wanted.
    let mut half = desired("four\n");
    half.files.insert("/etc/demo/late.conf".into(), File { phase: Phase::Monitor, ..file("x\n", 0o644) });
    half.probes.push(Probe {
        phase: Phase::Monitor,
        title: "it answers".into(),
        command: "false".into(),
        within: Duration::ZERO,
        advisory: false,
    });
    machine.run("20261123T000006", None, &half, &materials()).unwrap_err();
    half.probes.clear();
    machine.runs("20261123T000007", &half);
    let why = machine.before("20261123T000007").unwrap_err();
    assert!(why.contains("the host was not as a whole run had left it then"), "{why}");
    // A record that another version of infra has made says nothing.
    fs_err::remove_dir_all(machine.path("root/var/lib/infra/runs/20261123T000007/before")).unwrap();
    assert!(machine.before("20261123T000007").unwrap_err().contains("did not keep what was before it"));
}

#[test]
fn a_run_that_failed_half_way_is_taken_back() {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    let of_a = machine.picture();
    let mut half = desired("two\n");
    half.files.insert("/etc/demo/late.conf".into(), File { phase: Phase::Monitor, ..file("x\n", 0o644) });
    half.probes.push(Probe {
        phase: Phase::Monitor,
        title: "it answers".into(),
        command: "false".into(),
        within: Duration::ZERO,
        advisory: false,
    });
    machine.run(B, None, &half, &materials()).unwrap_err();
    assert_ne!(machine.picture(), of_a);
    machine.back(B, C, &materials());
    assert_eq!(machine.picture(), of_a);
}

#[test]
fn what_brings_certificates_alone_is_not_in_the_way() {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    let of_a = machine.picture();
    machine.runs(B, &desired("two\n"));
    let mut newer = Materials::default();
    newer.add_secret("demo/key".parse().unwrap(), "newer-marked", Owner::All);
    let mut brought = desired("two\n");
    let body = &mut brought.files.get_mut("/etc/demo/private/key").unwrap().body;
    body.digest = Digest::of(b"key newer-marked\n");
    let part = format!("{B}-certificates");
    machine.run(&part, None, &brought, &newer).unwrap();
    // As the fleet does for a part of a run.
    fs_err::remove_file(machine.path(&format!("root/var/lib/infra/runs/{part}/wanted"))).unwrap();
    assert!(machine.before(&part).unwrap_err().contains("what never goes back"));
    machine.back(B, C, &newer);
    assert_eq!(machine.read("root/etc/demo/private/key").as_deref(), Some("key newer-marked\n"));
    let main = machine.path("root/etc/demo/main.conf");
    assert_eq!(machine.picture()[&main], of_a[&main]);
}

#[test]
fn a_host_that_a_run_did_not_change_stands_as_it_is() {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    let back = machine.before(B).unwrap();
    assert_eq!((back.hosts().len(), back.standing().len()), (0, 1));
    let host = "h1".parse().unwrap();
    let bodies = |host: &DesiredHost| host.files.values().map(|file| file.body.clone()).collect::<Vec<_>>();
    assert_eq!(bodies(&back.desired(ALL, &materials())[&host]), bodies(&desired("one\n")));
}

/// mv that, the n-th time, kills all shells above it: the host has lost its power there.
const MV: &str = r#"#!/bin/sh
count=$(($(cat "$UNITS/moves" 2>/dev/null || echo 0) + 1))
echo "$count" >"$UNITS/moves"
if [ "$count" = "$(cat "$UNITS/dies-at" 2>/dev/null)" ]; then
	pid=$PPID those=''
	while [ "$(cat "/proc/$pid/comm")" = sh ]; do
		those="$those $pid"
		read -r _ _ _ pid _ <"/proc/$pid/stat"
	done
	kill -9 $those
	exit 1
fi
exec /bin/mv "$@"
"#;

#[test]
fn a_rollback_that_is_killed_anywhere_ends_whole_by_the_next_one() {
    let died: usize = std::thread::scope(|scope| {
        let each: Vec<_> = (1..=10).map(|at| scope.spawn(move || usize::from(dies(at)))).collect();
        each.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert!(died >= 8, "only {died} of ten died");
}

/// Kills a rollback at its n-th rename; gives whether it died of it.
fn dies(at: u32) -> bool {
    let machine = Machine::new();
    machine.runs(A, &desired("one\n"));
    let of_a = machine.picture();
    let mut second = desired("two\n");
    second.files.insert("/etc/demo/new.conf".into(), file("new\n", 0o644));
    second.files.remove("/etc/demo/private/key");
    machine.runs(B, &second);
    let of_b = machine.picture();
    machine.executable("bin/mv", &MV.replace("$UNITS", &machine.path("units").display().to_string()));
    machine.write("units/dies-at", &format!("{at}\n"));
    let died = machine.run(C, Some(B), &machine.target(B, &Materials::default()), &Materials::default()).is_err();
    fs_err::remove_file(machine.path("bin/mv")).unwrap();
    // Each file is the old one or the new one.
    for (path, now) in machine.picture() {
        let temporary = path.file_name().unwrap().to_string_lossy().ends_with(".infra-new");
        assert!(
            temporary || of_a.get(&path) == Some(&now) || of_b.get(&path) == Some(&now),
            "{at}: {}",
            path.display()
        );
    }
    let target = machine.target(B, &Materials::default());
    if died {
        machine.run(D, Some(B), &target, &Materials::default()).unwrap();
    }
    let mut now = machine.picture();
    now.retain(|path, _| !path.file_name().unwrap().to_string_lossy().ends_with(".infra-new"));
    assert_eq!(now, of_a, "{at}");
    died
}

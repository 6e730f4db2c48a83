//! What a change of a file asks of a running daemon, under a folder: it is told, or restarts once a person has confirmed it.

use std::collections::BTreeSet;

use super::tasks::CUT;
use super::*;

/// One file that may be set while the daemon runs, and one that needs a restart that a person confirms.
fn wanted(machine: &Machine, set: &str, fixed: &str) -> DesiredHost {
    let mut wanted = desired("one\n");
    let mut add = |path: &str, text: &str, follow| {
        let mut file = file(text, 0o644);
        file.then = BTreeMap::from([("demo.service".to_owned(), follow)]);
        wanted.files.insert(path.into(), file);
    };
    add("/etc/demo/set.conf", set, Follow::Set);
    add("/etc/demo/fixed.conf", fixed, Follow::Confirm);
    let log = machine.path("log").display().to_string();
    let setter =
        format!("{{ echo \"$1\"; cat; }} >>{log}; [ ! -e {log}.refuse ] || {{ echo no such variable; exit 1; }}");
    wanted.setters.insert("demo.service".into(), setter);
    wanted
}

fn log(machine: &Machine) -> String {
    machine.read("log").unwrap_or_default()
}

fn restarts(machine: &Machine) -> usize {
    machine.read("units/log").unwrap().matches("restart demo.service").count()
}

#[test]
fn a_running_daemon_is_told_and_does_not_reload() {
    let machine = Machine::new();
    machine.apply(&wanted(&machine, "a = 1\n", "f\n"), &materials()).unwrap();
    assert_eq!(log(&machine), "", "who starts reads his files");
    machine.write("units/log", "");
    let plan = machine.apply(&wanted(&machine, "a = 2\n", "f\n"), &materials()).unwrap();
    assert!(matches!(plan.phases[&Phase::Web][..], [Action::Write { .. }, Action::Set { .. }]), "{plan:?}");
    assert_eq!(log(&machine), "/etc/demo/set.conf\na = 2\n");
    let units = machine.read("units/log").unwrap();
    assert!(!units.contains("reload demo") && !units.contains("restart"), "{units}");
    assert!(machine.apply(&wanted(&machine, "a = 2\n", "f\n"), &materials()).unwrap().is_empty());
    // Refused: the old file comes back, and the daemon is told of it.
    machine.write("log", "");
    machine.write("log.refuse", "");
    let third = wanted(&machine, "a = 3\n", "f\n");
    let (_, error) = machine.apply(&third, &materials()).unwrap_err();
    assert_eq!((error.what.as_str(), error.words[0].as_str()), ("demo.service", "no such variable"));
    assert_eq!(machine.read("root/etc/demo/set.conf").as_deref(), Some("a = 2\n"));
    assert_eq!(log(&machine), "/etc/demo/set.conf\na = 3\n/etc/demo/set.conf\na = 2\n");
    // A run that ended between the file and the daemon owes it.
    fs_err::remove_file(machine.path("log.refuse")).unwrap();
    machine.apply(&third, &materials()).unwrap();
    machine.write("log", "");
    fs_err::create_dir_all(machine.path("root/run/infra/untold")).unwrap();
    machine.write("root/run/infra/untold/demo.service", "\n");
    let plan = machine.apply(&third, &materials()).unwrap();
    assert!(matches!(plan.phases[&Phase::Web][..], [Action::Set { .. }]), "{plan:?}");
    assert_eq!(log(&machine), "/etc/demo/set.conf\na = 3\n");
    assert!(machine.apply(&third, &materials()).unwrap().is_empty());
}

/// What a daemon was told of is owed until it is told of what stands there again.
#[test]
fn who_was_told_of_what_does_not_stay_is_told_again() {
    // A file that was not there before: nobody can tell the daemon what it was.
    let machine = Machine::new();
    let mut first = wanted(&machine, "", "f\n");
    first.files.remove("/etc/demo/set.conf");
    machine.apply(&first, &materials()).unwrap();
    let mut new = wanted(&machine, "a = 1\n", "f\n");
    failing_probe(&mut new, "exit 1");
    let (_, error) = machine.apply(&new, &materials()).unwrap_err();
    assert_eq!(error.now, Now::Mixed, "{error:?}");
    assert!(error.put_back.unwrap().contains("demo.service"));
    assert!(machine.observe(&new).untold.contains("demo.service"));
    new.probes.clear();
    machine.apply(&new, &materials()).unwrap();
    assert!(machine.apply(&new, &materials()).unwrap().is_empty());
    // A step that is killed after it has told.
    let mut two = wanted(&machine, "a = 2\n", "f\n");
    failing_probe(&mut two, CUT);
    machine.apply(&two, &materials()).unwrap_err();
    machine.recover();
    assert_eq!(machine.read("root/etc/demo/set.conf").as_deref(), Some("a = 1\n"));
    machine.write("log", "");
    machine.apply(&new, &materials()).unwrap();
    assert_eq!(log(&machine), "/etc/demo/set.conf\na = 1\n");
    assert!(machine.apply(&new, &materials()).unwrap().is_empty());
}

#[test]
fn a_restart_waits_for_a_persons_word() {
    let machine = Machine::new();
    machine.apply(&wanted(&machine, "a\n", "f = 1\n"), &materials()).unwrap();
    machine.write("units/log", "");
    let mut two = wanted(&machine, "a\n", "f = 2\n");
    let plan = machine.apply(&two, &materials()).unwrap();
    assert!(matches!(plan.phases[&Phase::Web][..], [Action::Write { .. }, Action::Hold { .. }]), "{plan:?}");
    assert_eq!(machine.read("root/etc/demo/fixed.conf").as_deref(), Some("f = 2\n"));
    // Each run tells of it, and none does it.
    for _ in 0..2 {
        let plan = machine.apply(&two, &materials()).unwrap();
        assert!(plan.is_empty() && plan.waits == BTreeSet::from(["demo.service".to_owned()]), "{plan:?}");
    }
    assert_eq!(restarts(&machine), 0);
    two.confirmed.insert("demo.service".into());
    machine.apply(&two, &materials()).unwrap();
    assert_eq!(restarts(&machine), 1);
    // The word is for what waits, not for a restart of its own.
    let plan = machine.apply(&two, &materials()).unwrap();
    assert!(plan.is_empty() && plan.waits.is_empty(), "{plan:?}");
    // Given beforehand, it is one run.
    let mut three = wanted(&machine, "a\n", "f = 3\n");
    three.confirmed.insert("demo.service".into());
    machine.apply(&three, &materials()).unwrap();
    assert_eq!(restarts(&machine), 2);
    three.confirmed.clear();
    assert!(machine.apply(&three, &materials()).unwrap().is_empty());
}

/// What fails is put back, and then nothing waits any more; who does not run needs no word to be started.
#[test]
fn nothing_waits_for_what_was_put_back() {
    let machine = Machine::new();
    machine.apply(&wanted(&machine, "a\n", "f = 1\n"), &materials()).unwrap();
    let mut two = wanted(&machine, "a\n", "f = 2\n");
    failing_probe(&mut two, "exit 1");
    machine.apply(&two, &materials()).unwrap_err();
    assert!(machine.observe(&two).held.is_empty());
    two.probes.clear();
    machine.apply(&two, &materials()).unwrap();
    fs_err::remove_file(machine.path("units/demo.service.active")).unwrap();
    machine.apply(&two, &materials()).unwrap();
    let plan = machine.apply(&two, &materials()).unwrap();
    assert!(plan.is_empty() && plan.waits.is_empty(), "{plan:?}");
    assert_eq!(restarts(&machine), 0);
}

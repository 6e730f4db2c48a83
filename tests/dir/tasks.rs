//! Tasks, under a folder: done once, told of while they run, taken back when their phase fails, and known of
//! when they were cut off at any moment.

use std::process::Command;
use std::time::Instant;

use infra::host::execute::Told;
use infra::plan::state::Body;
use infra::plan::task::{CutOff, Task};
use infra::service::WAYS;

use super::*;

const SECRET: &str = "pw-of-the-tasks-7c1e94";

fn materials() -> Materials {
    let mut materials = super::materials();
    materials.add_secret("demo/pw".parse().unwrap(), SECRET, Owner::All);
    materials
}

fn input(text: &str) -> Body {
    let bytes = materials().share(&"h1".parse().unwrap()).materialize(text).unwrap();
    Body { text: text.into(), digest: Digest::of(bytes.as_bytes()), origin: None }
}

/// Ends whatever carries this out, as a power cut would: every shell on the way up to the test.
pub(super) const CUT: &str =
    "pid=$$ all=''; while IFS= read -r comm </proc/$pid/comm && read -r stat </proc/$pid/stat; do
	case $comm in sh | timeout | systemctl) all=\"$pid $all\" ;; *) break ;; esac
	set -- ${stat##*) }; pid=$2
done; kill -9 $all; sleep 5";

/// A task that writes down that it was done, and undone.
fn task(machine: &Machine, name: &str, undo: bool) -> Task {
    let log = machine.path("log").display().to_string();
    Task {
        service: "demo",
        phase: Phase::Web,
        title: format!("make {name}"),
        script: format!("echo 'do {name}' >>{log}"),
        input: input(""),
        limit: Duration::from_secs(20),
        undo: undo.then(|| format!("echo 'undo {name}' >>{log}")),
        makes: BTreeMap::from([(format!("demo/{name}"), "1".to_owned())]),
    }
}

fn with_steps(machine: &Machine, tasks: &[(&str, bool)]) -> DesiredHost {
    let mut wanted = desired("one\n");
    for (name, undo) in tasks {
        wanted.tasks.insert(format!("demo/{name}"), task(machine, name, *undo));
    }
    wanted
}

impl Machine {
    fn log(&self) -> Vec<String> {
        self.read("log").unwrap_or_default().lines().map(ToOwned::to_owned).collect()
    }

    /// What the boot unit, and whoever takes the lock, does with a phase that was cut off.
    pub(super) fn recover(&self) {
        let root = self.path("root").display().to_string();
        let restore = include_str!("../../src/service/restore.sh");
        let script = format!(
            "ROOT={root} infra={root}/var/lib/infra\n{WAYS}\nread -r run phase <$infra/unfinished || exit 0\n\
             old=$infra/runs/$run/old/$phase\n{restore}\nrestore_files\n[ -z \"$bad\" ]\n"
        );
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }
}

#[test]
fn a_step_is_done_once_and_its_secret_comes_on_stdin_alone() {
    let machine = Machine::new();
    let mut wanted = with_steps(&machine, &[("schema", true)]);
    let got = machine.path("got").display().to_string();
    let task = wanted.tasks.get_mut("demo/schema").unwrap();
    task.input = input(&format!("user 'a'\n\npassword {}\n", sentinel("demo/pw")));
    // What every process is called with and what stands in its environment, looked through for what came on stdin.
    task.script += &format!(
        "\ncat >{got}\nsed -n 's/^password //p' {got} >{got}.pw\ncat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | \
         tr '\\0' '\\n' | grep -aF -f {got}.pw && exit 1\nexit 0"
    );
    let plan = machine.apply(&wanted, &materials()).unwrap();
    assert!(matches!(plan.phases[&Phase::Web].last(), Some(Action::Perform { .. })), "{plan:?}");
    assert_eq!(machine.read("got").unwrap(), format!("user 'a'\n\npassword {SECRET}\n"));
    assert_eq!(machine.log(), ["do schema"]);
    let second = machine.apply(&wanted, &materials()).unwrap();
    assert!(second.is_empty(), "{second:?}");
    // Nothing that is kept on the host has it.
    let kept = Command::new("grep").args(["-rl", SECRET]).arg(machine.path("root")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
    // Another value is another thing to make.
    wanted.tasks.get_mut("demo/schema").unwrap().makes.insert("demo/schema".into(), "2, of two\n%".into());
    assert!(!machine.apply(&wanted, &materials()).unwrap().is_empty());
    assert!(machine.apply(&wanted, &materials()).unwrap().is_empty());
    assert_eq!(machine.log(), ["do schema", "do schema"]);
}

/// A secret in a script would stand on the host, and in an argv.
#[test]
fn a_secret_in_a_script_is_refused_before_anything_is_sent() {
    let machine = Machine::new();
    let mut wanted = with_steps(&machine, &[("schema", true)]);
    wanted.tasks.get_mut("demo/schema").unwrap().script += &sentinel("demo/pw");
    let before = machine.picture();
    let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!((phase, error.what.as_str(), error.now), (Phase::Stage, "make schema", Now::AsBefore));
    assert_eq!(machine.picture(), before);
}

#[test]
fn a_failed_phase_takes_its_steps_back_the_last_one_first() {
    // What fails: the task itself, a later one, or a probe.
    for (fault, log) in [
        ("a", &["do a", "undo a"][..]),
        ("b", &["do a", "do b", "undo b", "undo a"]),
        ("probe", &["do a", "do b", "undo b", "undo a"]),
    ] {
        let machine = Machine::new();
        machine.apply(&desired("zero\n"), &materials()).unwrap();
        let before = machine.picture();
        let mut wanted = with_steps(&machine, &[("a", true), ("b", true)]);
        let good = wanted.clone();
        match fault {
            "probe" => failing_probe(&mut wanted, "exit 1"),
            name => {
                let task = wanted.tasks.get_mut(&format!("demo/{name}")).unwrap();
                task.input = input(&sentinel("demo/pw"));
                task.script += "\necho \"denied for $(cat)\"; exit 1";
            }
        }
        let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
        assert_eq!((phase, error.now), (Phase::Web, Now::AsBefore), "{error:?}");
        let put_back = error.put_back.as_deref().unwrap();
        assert!(put_back.contains("«make a» undone"), "{put_back}");
        if fault != "probe" {
            assert_eq!((error.what, error.words), (format!("make {fault}"), vec!["denied for ‹demo/pw›".to_owned()]));
        }
        assert_eq!(machine.log(), log, "{fault}");
        assert_eq!(machine.picture(), before, "{fault}");
        machine.apply(&good, &materials()).unwrap();
        assert!(machine.apply(&good, &materials()).unwrap().is_empty());
        assert_eq!(machine.log()[log.len()..], ["do a", "do b"], "{fault}");
    }
}

#[test]
fn what_cannot_be_undone_stays_and_is_not_done_again() {
    let machine = Machine::new();
    let mut wanted = with_steps(&machine, &[("a", false), ("b", true)]);
    failing_probe(&mut wanted, "exit 1");
    let (_, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!(error.now, Now::Stays, "{error:?}");
    assert!(
        error
            .put_back
            .unwrap()
            .ends_with("«make b» undone, demo.service stopped again as before, «make a» cannot be undone")
    );
    assert_eq!(machine.read("root/etc/demo/main.conf"), None);
    wanted.probes.clear();
    machine.apply(&wanted, &materials()).unwrap();
    assert_eq!(machine.log(), ["do a", "do b", "undo b", "do b"]);
    assert!(machine.apply(&wanted, &materials()).unwrap().is_empty());
}

#[test]
fn an_undo_that_fails_is_told_and_comes_again() {
    let machine = Machine::new();
    let mut wanted = with_steps(&machine, &[("a", true)]);
    // However it is shortened, no piece of a secret is told.
    machine.write("said", &format!("{SECRET} ").repeat(100));
    let (gate, said) = (machine.path("gate"), machine.path("said"));
    let task = wanted.tasks.get_mut("demo/a").unwrap();
    *task.undo.as_mut().unwrap() +=
        &format!("\n[ -e {} ] || {{ echo no way back yet; cat {}; exit 1; }}", gate.display(), said.display());
    failing_probe(&mut wanted, "exit 1");
    let (_, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!(error.now, Now::Mixed, "{error:?}");
    assert!(error.put_back.as_deref().unwrap().contains("undo of «make a»: no way back yet"), "{error:?}");
    assert!(!format!("{error:?}").contains(&SECRET[..8]), "{error:?}");
    assert_eq!(machine.read("root/etc/demo/main.conf"), None);
    wanted.probes.clear();
    // The next run begins with it, and goes no further while it fails.
    let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!((phase, error.what.as_str(), error.now), (Phase::Widen, "undo of «make a»", Now::AsBefore));
    machine.write("gate", "");
    machine.apply(&wanted, &materials()).unwrap();
    assert_eq!(machine.log(), ["do a", "undo a", "undo a", "undo a", "do a"]);
    assert!(machine.apply(&wanted, &materials()).unwrap().is_empty());
}

#[test]
fn a_step_that_takes_too_long_is_ended_and_taken_back() {
    let machine = Machine::new();
    let mut wanted = with_steps(&machine, &[("a", true)]);
    let task = wanted.tasks.get_mut("demo/a").unwrap();
    task.limit = Duration::from_secs(1);
    task.script += "\necho half; sleep 30";
    let (_, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!((error.what.as_str(), error.now), ("make a", Now::AsBefore));
    assert_eq!(error.words, ["half", "it did not end within 1 s"]);
    assert_eq!(machine.log(), ["do a", "undo a"]);
}

/// What a task leaves behind holds its outputs, and is in its group or has left it: neither holds up the step or the next run.
#[test]
fn what_a_step_leaves_behind_holds_nobody_up() {
    for (leaves, limit) in [("sleep 60 & exit 0", 40), ("setsid sleep 60 & sleep 0.2; exit 0", 40)] {
        let machine = Machine::new();
        let mut wanted = with_steps(&machine, &[("a", true)]);
        wanted.tasks.get_mut("demo/a").unwrap().script += &format!("\n{leaves}");
        let began = Instant::now();
        machine.apply(&wanted, &materials()).unwrap();
        assert!(machine.apply(&wanted, &materials()).unwrap().is_empty(), "{leaves}");
        assert!(began.elapsed() < Duration::from_secs(limit), "{leaves}: {:?}", began.elapsed());
    }
}

/// The end of the step's own time comes while a task runs, by a signal to all that is in its group.
#[test]
fn a_step_whose_time_is_over_in_a_task_is_taken_back() {
    let machine = Machine::new();
    machine.apply(&desired("zero\n"), &materials()).unwrap();
    let before = machine.picture();
    let mut wanted = with_steps(&machine, &[("a", true)]);
    wanted.tasks.get_mut("demo/a").unwrap().script +=
        "\necho half; set -- $(cat /proc/$PPID/stat); set -- $(cat /proc/$4/stat); kill -s TERM -- -$5; sleep 15";
    let began = Instant::now();
    let (_, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!((error.what.as_str(), error.now), ("make a", Now::AsBefore), "{error:?}");
    assert_eq!((error.words, machine.log()), (vec!["half".to_owned()], vec!["do a".to_owned(), "undo a".to_owned()]));
    assert_eq!(machine.picture(), before);
    assert_eq!(machine.read("root/var/lib/infra/unfinished"), None);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[test]
fn a_step_that_does_not_say_how_it_ended_is_halved() {
    let machine = Machine::new();
    machine.apply(&swapped("one\n", "first"), &materials()).unwrap();
    let mut wanted = swapped("one\n", "second");
    wanted.swaps.insert("demo.service".into(), "exit 2".into());
    let (_, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!(error.now, Now::Halved, "{error:?}");
}

/// No room for the copies that are kept: nothing is begun, and neither half a copy nor a manifest that was not kept goes back.
#[test]
fn a_phase_whose_old_files_cannot_be_kept_changes_nothing() {
    for kept in ["/etc/demo/main.conf", ".manifest"] {
        let machine = Machine::new();
        machine.apply(&desired("one\n"), &materials()).unwrap();
        let (before, manifest) = (machine.picture(), machine.read("root/var/lib/infra/manifest").unwrap());
        machine.executable(
            "bin/cp",
            &format!(
                "#!/bin/sh\nfor to in \"$@\"; do :; done\ncase $to in */old/web{kept})\n\
                 echo half >\"$to\"; echo 'no space left'; exit 1 ;; esac\nexec /bin/cp \"$@\"\n"
            ),
        );
        let (_, error) = machine.apply(&desired("two\n"), &materials()).unwrap_err();
        assert_eq!(error.now, Now::AsBefore, "{error:?}");
        assert_eq!(
            (machine.picture(), machine.read("root/var/lib/infra/manifest")),
            (before, Some(manifest)),
            "{kept}"
        );
        fs_err::remove_file(machine.path("bin/cp")).unwrap();
        machine.apply(&desired("two\n"), &materials()).unwrap();
        assert!(machine.apply(&desired("two\n"), &materials()).unwrap().is_empty());
    }
}

#[test]
fn the_records_of_what_is_to_be_taken_back_outlive_ten_runs() {
    let machine = Machine::new();
    for year in 2000..2014 {
        fs_err::create_dir_all(machine.path(&format!("root/var/lib/infra/runs/{year}0101T000000/old"))).unwrap();
    }
    let old = "root/var/lib/infra/runs/20000101T000000/old/web";
    machine.write(&format!("{old}.paths"), "");
    machine.write(&format!("{old}.begun"), "");
    machine.write("root/var/lib/infra/undo", "20000101T000000 web\n");
    machine.apply(&desired("one\n"), &materials()).unwrap();
    assert!(machine.apply(&desired("one\n"), &materials()).unwrap().is_empty());
    assert!(!machine.path("root/var/lib/infra/runs/20010101T000000").exists());
}

#[test]
fn how_far_a_step_is_is_told_while_it_runs_and_not_too_often() {
    let machine = Machine::new();
    let mut wanted = with_steps(&machine, &[("a", true)]);
    let task = wanted.tasks.get_mut("demo/a").unwrap();
    task.input = input(&sentinel("demo/pw"));
    task.script += "\nread -r pw; n=0\nwhile [ $n -lt 2000 ]; do n=$((n + 1)); printf '%s\\n' \"$n of 2000 $pw\" >&3; done\n\
                    sleep 1.1; printf 'all\\t\\033[31m\\n' >&3; echo no part of it";
    machine.apply(&wanted, &materials()).unwrap();
    let told = machine.told.lock().unwrap();
    let first = Told::Progress("make a: 1 of 2000 ‹demo/pw›".into());
    assert_eq!(told.first(), Some(&first), "{told:?}");
    assert!(
        matches!(told.last(), Some(Told::Progress(text)) if text.starts_with("make a: all") && !text.contains('\u{1b}'))
    );
    assert!(told.len() < 8, "{told:?}");
}

/// The host goes down at each moment of a phase with tasks; what the boot does, and then the next run, leaves the host whole.
#[test]
fn cut_off_at_any_moment_the_next_run_takes_back_and_goes_on() {
    for (moment, first, undo) in [
        ("unit", &[][..], false),
        ("do", &["do a"], true),
        ("done", &["do a", "do b"], true),
        ("undo", &["do a", "do b", "undo b"], true),
    ] {
        let machine = Machine::new();
        machine.apply(&desired("zero\n"), &materials()).unwrap();
        let before = machine.picture();
        let good = with_steps(&machine, &[("a", true), ("b", true)]);
        let mut wanted = good.clone();
        let gate = machine.path("gate").display().to_string();
        match moment {
            "unit" => {
                let stub = machine.read("bin/systemctl").unwrap();
                let cut = stub.replace(
                    "case $verb in\nis-active",
                    &format!("[ $verb = reload ] && {{ {CUT}; }}\ncase $verb in\nis-active"),
                );
                machine.executable("bin/systemctl", &cut);
            }
            "do" => wanted.tasks.get_mut("demo/a").unwrap().script += &format!("\n{CUT}"),
            "done" => failing_probe(&mut wanted, CUT),
            _ => {
                failing_probe(&mut wanted, "exit 1");
                *wanted.tasks.get_mut("demo/b").unwrap().undo.as_mut().unwrap() +=
                    &format!("\n[ -e {gate} ] || {{ : >{gate}; {CUT}; }}");
            }
        }
        machine.apply(&wanted, &materials()).unwrap_err();
        assert_eq!(machine.log(), first, "{moment}");
        machine.executable(
            "bin/systemctl",
            &machine.read("bin/systemctl").unwrap().replace("[ $verb = reload ]", "false"),
        );
        machine.recover();
        assert_eq!(machine.picture(), before, "{moment}");
        let seen = machine.observe(&good);
        let cut_off = undo.then(|| CutOff {
            run: "20261123T000000".into(),
            phase: "web".into(),
            limit: Duration::from_secs(if moment == "do" { 20 } else { 40 }),
        });
        assert_eq!((seen.cut_off, seen.made), (cut_off, BTreeMap::new()), "{moment}");
        // Even where nothing else is to be done, it is taken back.
        let zero = machine.apply(&desired("zero\n"), &materials()).unwrap();
        let undoes = zero.phases.get(&Phase::Widen).is_some_and(|a| matches!(a[..], [Action::Undo { .. }]));
        assert_eq!(undoes, undo, "{moment}: {zero:?}");
        let log = machine.log();
        let (done, undone) = log.iter().partition::<Vec<_>, _>(|line| line.starts_with("do "));
        assert!(done.iter().all(|line| undone.contains(&&line.replace("do ", "undo "))), "{moment}: {log:?}");
        machine.apply(&good, &materials()).unwrap();
        assert_eq!(machine.log()[log.len()..], ["do a", "do b"], "{moment}");
        assert!(machine.apply(&good, &materials()).unwrap().is_empty(), "{moment}");
    }
}

//! Packages and what stands before them, under a folder: files of apt are in place before it is asked, and go where it fails; who
//! holds its lock is waited for and told; nothing can ask a question.

use infra::host::execute::Told;

use super::*;

/// apt-get and dpkg for a folder: `fail-WORD` makes them refuse with what stands in it, as often as it has lines.
const APT: &str = r#"#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$units/apt"
[ -t 0 ] || cat >>"$units/apt.stdin"
env >"$units/env"
for word in "$@"; do
	fail="$units/fail-$word"
	if [ -s "$fail" ]; then
		head -n 1 "$fail" | tr '|' '\n' >&2
		sed -i 1d "$fail"
		exit 100
	fi
done
ls "$root/etc/apt/sources.list.d" >"$units/sources" 2>/dev/null
case " $* " in *" install "*) echo "installed ${*##* } 1.0" >>"$units/installed" ;; esac
exit 0
"#;

pub(super) fn machine() -> Machine {
    let machine = Machine::new();
    let units = machine.path("units").display().to_string();
    let stub = APT.replace("$units", &units).replace("$root", &machine.path("root").display().to_string());
    machine.executable("bin/apt-get", &stub);
    machine.executable("bin/dpkg", &stub);
    machine.executable("bin/dpkg-query", &format!("#!/bin/sh\ncat {units}/installed 2>/dev/null\nexit 0\n"));
    fs_err::create_dir_all(machine.path("root/usr/sbin")).unwrap();
    machine
}

fn wanted() -> DesiredHost {
    let mut wanted = desired("one\n");
    wanted.packages.insert("demo".into());
    let mut sources = file("URIs: https://packages.example.com\n", 0o644);
    (sources.phase, sources.then) = (Phase::Packages, BTreeMap::new());
    wanted.files.insert("/etc/apt/sources.list.d/demo.sources".into(), sources);
    wanted
}

#[test]
fn files_of_apt_stand_before_it_and_it_asks_nobody() {
    let machine = machine();
    let plan = machine.apply(&wanted(), &materials()).unwrap();
    assert!(matches!(plan.phases[&Phase::Packages][..], [Action::Install { .. }, Action::Write { .. }]), "{plan:?}");
    assert_eq!(machine.read("units/sources").as_deref(), Some("demo.sources\n"));
    let asked = machine.read("units/apt").unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    assert_eq!(asked[0], "dpkg --force-confdef --force-confold --configure -a");
    // Just this repository first, and strictly; then all.
    assert!(
        asked[1].contains("SourceList=") && asked[1].contains("demo.sources") && asked[1].contains("Error-Mode=any")
    );
    assert!(asked[2].ends_with(" update") && asked[3].ends_with(" install demo"), "{asked:?}");
    assert_eq!(machine.read("units/apt.stdin").as_deref(), Some(""));
    let env = machine.read("units/env").unwrap();
    for line in ["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "UCF_FORCE_CONFFOLD=1"] {
        assert!(env.lines().any(|l| l == line), "{env}");
    }
    assert!(!machine.path("root/usr/sbin/policy-rc.d").exists());
    assert!(machine.apply(&wanted(), &materials()).unwrap().is_empty());
    let journal = machine.read("root/var/lib/infra/runs/20261123T000000/journal").unwrap();
    assert!(journal.contains("packages begins") && journal.contains("packages done"), "{journal}");
}

/// Another key or another pin makes another repository of the same source.
#[test]
fn what_decides_about_a_repository_is_asked_of_apt_as_the_repository_is() {
    for path in ["/etc/apt/keyrings/infra-demo.asc", "/etc/apt/preferences.d/infra-demo"] {
        let machine = machine();
        let mut wanted = wanted();
        let mut of_apt = |path: &str, text: &str| {
            let mut file = file(text, 0o644);
            (file.phase, file.then) = (Phase::Packages, BTreeMap::new());
            wanted.files.insert(path.into(), file);
        };
        of_apt("/etc/apt/sources.list.d/infra-demo.sources", "URIs: https://packages.example.com\n");
        of_apt(path, "one\n");
        machine.apply(&wanted, &materials()).unwrap();
        let strict = |line: &&str| line.contains("infra-demo.sources") && line.contains("Error-Mode=any");
        assert_eq!(machine.read("units/apt").unwrap().lines().filter(strict).count(), 1, "{path}");
        machine.write("units/apt", "");
        wanted.files.get_mut(path).unwrap().body = body("two\n");
        machine.apply(&wanted, &materials()).unwrap();
        assert_eq!(machine.read("units/apt").unwrap().lines().filter(strict).count(), 1, "{path}");
    }
}

#[test]
fn what_apt_refuses_is_put_back() {
    for (word, what) in
        [("update", "apt-get update of demo.sources"), ("install", "apt-get install"), ("-a", "dpkg --configure -a")]
    {
        let machine = machine();
        let before = machine.picture();
        machine.write(&format!("units/fail-{word}"), "W: odd|E: The repository is not signed.\n");
        let (phase, error) = machine.apply(&wanted(), &materials()).unwrap_err();
        assert_eq!((phase, error.what.as_str(), error.now), (Phase::Packages, what, Now::AsBefore), "{error:?}");
        assert!(
            error.words.starts_with(&["W: odd".to_owned(), "E: The repository is not signed.".to_owned()]),
            "{error:?}"
        );
        assert_eq!(error.put_back.as_deref(), Some("1 file put back"));
        assert_eq!(machine.picture(), before, "{word}");
        assert!(!machine.path("root/usr/sbin/policy-rc.d").exists());
        machine.apply(&wanted(), &materials()).unwrap();
        assert!(machine.apply(&wanted(), &materials()).unwrap().is_empty(), "{word}");
    }
}

#[test]
fn who_holds_the_lock_is_waited_for_and_told_once() {
    let machine = machine();
    let lists = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)|E: Unable to lock directory\n";
    let dpkg = "dpkg: error: dpkg frontend lock was locked by another process with pid 1\n";
    let debconf = "debconf: DbDriver \"config\": /var/cache/debconf/config.dat is locked by another process: Resource temporarily unavailable\n";
    machine.write("units/fail-update", &[lists, lists].concat());
    machine.write("units/fail-install", debconf);
    machine.write("units/fail--a", dpkg);
    machine.apply(&wanted(), &materials()).unwrap();
    let mut told = machine.told.lock().unwrap().clone();
    told.retain(|told| matches!(told, Told::Note(_)));
    assert_eq!(told.len(), 3, "{told:?}");
    let holder = fs_err::read_to_string("/proc/1/comm").unwrap();
    let by = format!("waits, because {} (pid 1) works with the packages of this host", holder.trim());
    assert_eq!(told[0], Told::Note(format!("dpkg --configure -a {by}")));
    assert_eq!(told[1], Told::Note(format!("apt-get update of demo.sources {by}")));
    let other = "apt-get install waits, because another process works with the packages of this host";
    assert_eq!(told[2], Told::Note(other.into()));
}

/// Whoever was killed while packages came has left behind what keeps daemons from starting: the next run takes it away, also where it
/// has nothing to install itself, and not what is another's.
#[test]
fn what_keeps_daemons_from_starting_outlives_no_run() {
    let machine = machine();
    machine.executable("bin/dpkg", "#!/bin/sh\nset -- $(cat /proc/$$/stat)\nkill -s KILL -- -$5\n");
    let _ = machine.apply(&wanted(), &materials()).unwrap_err();
    let policy = "root/usr/sbin/policy-rc.d";
    assert!(machine.read(policy).unwrap().contains("made by infra"));
    let lock = || infra::host::lock::take(machine.transport().as_mut(), "tester@here", "next").unwrap();
    drop(lock());
    assert_eq!(machine.read(policy), None);
    machine.write(policy, "#!/bin/sh\nexit 101\n");
    drop(lock());
    assert!(machine.path(policy).exists());
}

/// A run that a second Ctrl-C has stopped installs nothing later, when the lock is free.
#[test]
fn nobody_waits_for_a_lock_when_the_run_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let ended = dir.path().join("ended");
    let text = format!(
        "trap '' PIPE\nlate=''\nuptime() {{ read -r up rest </proc/uptime; up=${{up%.*}}; }}\n\
         fail() {{ words=$2; return 1; }}\n{}\n{}\n\
         patiently demo sh -c 'echo Could not get lock; exit 1' || echo \"$words\" >'{}'",
        include_str!("../../src/host/scripts/wire.sh"),
        include_str!("../../src/host/scripts/install.sh"),
        ended.display()
    );
    let mut waits = std::process::Command::new("timeout")
        .args(["60", "sh", "-c", &text])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever listened is gone.
    drop(waits.stdout.take());
    assert!(waits.wait().unwrap().success());
    assert_eq!(fs_err::read_to_string(ended).unwrap(), "nobody waits for it any more\n");
}

//! The engine under a folder: the same scripts as on a host, with `ROOT` set and a stub for systemctl. Applies twice, fails
//! at every step that can fail, and looks at what is left.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use infra::base::materials::{Materials, Owner};
use infra::base::secret::sentinel;
use infra::fleet::survey;
use infra::host::dir::DirTransport;
use infra::host::execute::{Executor, Now, StepError, Told};
use infra::host::transport::Transport;
use infra::plan::plan::{self, Action, HostPlan};
use infra::plan::state::{
    Access, Body, Check, DesiredHost, Digest, File, Folder, Follow, Observed, Phase, Probe, UnitWanted,
};
use infra::plan::wanted::Wanted;
use infra::service::ALL;

#[path = "dir/changeable.rs"]
mod changeable;
#[path = "dir/decision.rs"]
mod decision;
#[path = "dir/execs.rs"]
mod execs;
#[path = "dir/held.rs"]
mod held;
#[path = "dir/links.rs"]
mod links;
#[path = "dir/observation.rs"]
mod observation;
#[path = "dir/packages.rs"]
mod packages;
#[path = "dir/passages.rs"]
mod passages;
#[path = "dir/restarts.rs"]
mod restarts;
#[path = "dir/rollback.rs"]
mod rollback;
#[path = "dir/tasks.rs"]
mod tasks;
#[path = "dir/waves.rs"]
mod waves;

/// systemctl for a folder: what runs is a file under `run/units`; `fail-VERB-UNIT` makes it refuse.
const SYSTEMCTL: &str = r#"#!/bin/sh
units="$UNITS"
quiet=
while :; do case $1 in -q | --quiet | --no-pager) shift ;; -n) shift 2 ;; *) break ;; esac; done
verb=$1; shift
echo "$verb $*" >>"$units/log"
[ -e "$units/fail-$verb-$1" ] && { echo "stub: $verb of $1 failed"; exit 1; }
case $verb in
is-active) [ -e "$units/$1.active" ] ;;
is-enabled) [ -e "$units/$1.enabled" ] && echo enabled ;;
enable) : >"$units/$1.enabled" ;;
start | restart | reload) : >"$units/$1.active"; [ ! -f "$ETC" ] || cp "$ETC" "$units/$1.serves" ;;
disable) shift; rm -f "$units/$1.active" "$units/$1.enabled" ;;
stop) rm -f "$units/$1.active" ;;
daemon-reload | reset-failed | status) : ;;
list-units)
	for unit in "$@"; do case $unit in
	*.service) if [ -e "$units/$unit.active" ]; then echo "$unit loaded active running x"; else echo "$unit loaded inactive dead x"; fi ;;
	esac; done ;;
show)
	for unit in "$@"; do case $unit in
	*.service)
		echo "Id=$unit"; echo LoadState=loaded
		if [ -e "$units/$unit.active" ]; then echo ActiveState=active; else echo ActiveState=inactive; fi
		if [ -e "$units/$unit.enabled" ]; then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi
		echo ;;
	esac; done ;;
esac
"#;

struct Machine {
    dir: tempfile::TempDir,
    /// What was told while it was worked on.
    told: Mutex<Vec<Told>>,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap(), told: Mutex::default() };
        for folder in ["root/etc/demo", "root/var/lib", "root/run/systemd/system", "bin", "units"] {
            fs_err::create_dir_all(machine.dir.path().join(folder)).unwrap();
        }
        machine.write("root/etc/os-release", "ID=debian\nVERSION_ID=12\n");
        let etc = machine.path("root/etc/demo/main.conf");
        let stub = SYSTEMCTL
            .replace("$UNITS", &machine.path("units").display().to_string())
            .replace("$ETC", &etc.display().to_string());
        machine.executable("bin/systemctl", &stub);
        machine.executable("bin/journalctl", "#!/bin/sh\necho 'the unit says why'\n");
        machine.executable("bin/dpkg-query", "#!/bin/sh\nexit 0\n");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs_err::write(self.path(name), text).unwrap();
    }

    fn executable(&self, name: &str, text: &str) {
        self.write(name, text);
        fs_err::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs_err::read_to_string(self.path(name)).ok()
    }

    fn transport(&self) -> Box<dyn Transport> {
        Box::new(DirTransport::new(self.path("root")).path_prefix(self.path("bin")))
    }

    fn observe(&self, desired: &DesiredHost) -> Observed {
        survey::observe(ALL, self.transport().as_mut(), desired).unwrap()
    }

    /// Plans and carries out all phases, as the fleet does for one host.
    fn apply(&self, desired: &DesiredHost, materials: &Materials) -> Result<HostPlan, (Phase, StepError)> {
        self.run("20261123T000000", None, desired, materials)
    }

    /// The same under the name of a run, which may take another back.
    fn run(
        &self,
        run: &str,
        restores: Option<&str>,
        desired: &DesiredHost,
        materials: &Materials,
    ) -> Result<HostPlan, (Phase, StepError)> {
        let records = [
            ("wanted", Some(Wanted::of(desired).to_text().unwrap())),
            ("restores", restores.map(|run| format!("{run}\n"))),
        ];
        let observed = self.observe(desired);
        let plan = plan::host(desired, &observed);
        let mut executor = Executor {
            host: "h1".parse().unwrap(),
            run: run.into(),
            who: "tester@here".into(),
            materials,
            transport: self.transport(),
            reconnect: Box::new(|| Ok(self.transport())),
            tell: Box::new(|said| self.told.lock().unwrap().push(said)),
            here: Vec::new(),
            swaps: &desired.swaps,
            owner: None,
            manifest: observed.manifest.clone(),
            records: records.into_iter().filter_map(|(name, text)| Some((name, text?))).collect(),
        };
        if plan.is_empty() {
            return Ok(plan);
        }
        let commit = |executor: &mut Executor<'_>, phase: Phase| {
            let Some(actions) = plan.phases.get(&phase) else { return Ok(()) };
            let probes: Vec<Probe> = desired.probes.iter().filter(|p| p.phase == phase).cloned().collect();
            executor.commit(phase, actions, &probes).map(|_| ()).map_err(|e| (phase, e))
        };
        commit(&mut executor, Phase::Packages)?;
        executor.stage(&plan, desired).map_err(|e| (Phase::Stage, e))?;
        for phase in Phase::ALL.into_iter().filter(|phase| *phase > Phase::Stage) {
            commit(&mut executor, phase)?;
        }
        Ok(plan)
    }

    /// Everything under the root but our own records, with modes.
    fn picture(&self) -> BTreeMap<PathBuf, (u32, String)> {
        let mut picture = BTreeMap::new();
        walk(&self.path("root/etc"), &mut picture);
        picture
    }
}

fn walk(dir: &Path, picture: &mut BTreeMap<PathBuf, (u32, String)>) {
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, picture);
        } else {
            let mode = fs_err::metadata(&path).unwrap().permissions().mode() & 0o7777;
            picture.insert(path.clone(), (mode, fs_err::read_to_string(&path).unwrap()));
        }
    }
}

fn materials() -> Materials {
    let mut materials = Materials::default();
    materials.add_secret("demo/key".parse().unwrap(), "s3cr3t-marked", Owner::All);
    materials
}

fn body(text: &str) -> Body {
    let bytes = materials().share(&"h1".parse().unwrap()).materialize(text).unwrap();
    Body { text: text.into(), digest: Digest::of(bytes.as_bytes()), origin: None }
}

fn file(text: &str, mode: u32) -> File {
    File {
        service: "demo",
        phase: Phase::Web,
        access: Access::root(mode),
        body: body(text),
        then: BTreeMap::from([("demo.service".to_owned(), Follow::Reload)]),
        about: None,
    }
}

fn desired(text: &str) -> DesiredHost {
    let key = format!("key {}\n", sentinel("demo/key"));
    DesiredHost {
        files: BTreeMap::from([
            ("/etc/demo/main.conf".to_owned(), file(text, 0o644)),
            ("/etc/demo/private/key".to_owned(), file(&key, 0o600)),
        ]),
        folders: BTreeMap::from([(
            "/etc/demo/private".to_owned(),
            Folder { phase: Phase::Web, access: Access::root(0o700) },
        )]),
        units: BTreeMap::from([("demo.service".to_owned(), UnitWanted { phase: Phase::Web })]),
        ..DesiredHost::default()
    }
}

#[test]
fn twice_is_nothing() {
    let machine = Machine::new();
    let (wanted, materials) = (desired("one\n"), materials());
    assert!(!machine.apply(&wanted, &materials).unwrap().is_empty());
    assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("one\n"));
    assert_eq!(machine.read("root/etc/demo/private/key").as_deref(), Some("key s3cr3t-marked\n"));
    assert_eq!(machine.picture()[&machine.path("root/etc/demo/private/key")].0, 0o600);
    let log = machine.read("units/log").unwrap();
    assert!(log.contains("enable demo.service\n") && log.contains("start demo.service\n"), "{log}");
    let before = machine.picture();
    let second = machine.apply(&wanted, &materials).unwrap();
    assert!(second.is_empty(), "{second:?}");
    assert_eq!(machine.picture(), before);
    // Bits that somebody else gave a folder go at the first time, also those that chmod(1) leaves where they are not named.
    for mode in [0o2700, 0o3755] {
        let folder = machine.path("root/etc/demo/private");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(!machine.apply(&wanted, &materials).unwrap().is_empty(), "{mode:o}");
        assert!(machine.apply(&wanted, &materials).unwrap().is_empty(), "{mode:o}");
    }
}

#[test]
fn what_is_no_longer_wanted_goes_and_what_is_not_ours_stays() {
    let machine = Machine::new();
    machine.write("root/etc/demo/foreign", "not ours\n");
    machine.apply(&desired("one\n"), &materials()).unwrap();
    let mut less = desired("two\n");
    less.files.remove("/etc/demo/private/key");
    machine.apply(&less, &materials()).unwrap();
    assert_eq!(machine.read("root/etc/demo/private/key"), None);
    assert_eq!(machine.read("root/etc/demo/foreign").as_deref(), Some("not ours\n"));
    assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("two\n"));
}

#[test]
fn drift_is_named_and_mended() {
    let machine = Machine::new();
    let wanted = desired("one\n");
    machine.apply(&wanted, &materials()).unwrap();
    machine.write("root/etc/demo/main.conf", "by hand\n");
    let plan = machine.apply(&wanted, &materials()).unwrap();
    assert_eq!(plan.drift, ["/etc/demo/main.conf was changed by someone else since the last run"]);
    let shown = plan.phases[&Phase::Web].iter().find_map(|a| match a {
        Action::Write { old, .. } => old.clone(),
        _ => None,
    });
    assert_eq!(shown.as_deref(), Some("by hand\n"));
    assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("one\n"));
}

#[test]
fn a_refused_check_changes_nothing() {
    let machine = Machine::new();
    machine.apply(&desired("one\n"), &materials()).unwrap();
    let before = machine.picture();
    let mut wanted = desired("two\n");
    wanted.checks.push(Check { title: "demo -t".into(), command: "echo line 7 is wrong; exit 1".into() });
    let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!((phase, error.what.as_str(), error.now), (Phase::Stage, "demo -t", Now::AsBefore));
    assert_eq!(error.words, ["line 7 is wrong"]);
    assert_eq!(machine.picture(), before);
}

/// What is laid over `/etc` for the checks, and the copy where the kernel does not let that be: they show the same, what a check writes
/// there goes with it, and the same is refused.
#[test]
fn a_view_over_etc_and_a_copy_of_it_are_one_to_a_check() {
    let judged = |copied: bool, command: &str| {
        let machine = Machine::new();
        machine.apply(&desired("one\n"), &materials()).unwrap();
        machine.write("root/etc/demo/theirs.conf", "theirs\n");
        std::os::unix::fs::symlink("theirs.conf", machine.path("root/etc/demo/link")).unwrap();
        if copied {
            machine.executable("bin/mount", "#!/bin/sh\nexit 1\n");
        }
        let before = machine.picture();
        let mut wanted = desired("two\n");
        wanted.checks.push(Check { title: "demo -t".into(), command: command.into() });
        let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
        assert_eq!((phase, error.what.as_str(), error.now), (Phase::Stage, "demo -t", Now::AsBefore));
        assert_eq!(machine.picture(), before, "{command}");
        let left = machine.path("root/var/lib/infra/runs/20261123T000000");
        assert!(!left.join("view").exists() && !left.join("view.over").exists(), "{command}");
        error.words
    };
    for command in [
        "cat \"$VIEW/demo/main.conf\"; exit 1",
        "cd \"$VIEW\" && find . -printf '%P %y %m %U %G %l\\n' | sort; exit 1",
        "echo mine >\"$VIEW/demo/theirs.conf\" && cat \"$VIEW/demo/theirs.conf\" && rm \"$VIEW/demo/link\"; exit 1",
    ] {
        let words = judged(false, command);
        assert!(!words.is_empty(), "{command}");
        assert_eq!(words, judged(true, command), "{command}");
    }
    let which = "grep -q \" $VIEW \" /proc/self/mountinfo && echo laid over; exit 1";
    assert_eq!(judged(false, which), ["laid over"]);
    assert_eq!(judged(true, which), Vec::<String>::new());
}

/// Each way in which a phase can fail after it has begun: what fails, and what the error must name.
#[test]
fn a_failed_phase_puts_everything_back() {
    for (fault, what) in [("reload", "demo.service"), ("probe", "it answers")] {
        for first in [false, true] {
            let machine = Machine::new();
            if !first {
                machine.apply(&desired("one\n"), &materials()).unwrap();
            }
            let before = machine.picture();
            let mut wanted = desired("two\n");
            let verb = if first { "start" } else { "reload" };
            match fault {
                "reload" => machine.write(&format!("units/fail-{verb}-demo.service"), ""),
                _ => wanted.probes.push(Probe {
                    phase: Phase::Web,
                    title: "it answers".into(),
                    command: "echo no answer with s3cr3t-marked; exit 1".into(),
                    within: Duration::from_secs(0),
                    advisory: false,
                }),
            }
            let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
            let case = format!("{fault}, first: {first}: {error:?}");
            assert_eq!((phase, error.what.as_str(), error.now), (Phase::Web, what, Now::AsBefore), "{case}");
            assert!(!case.contains("s3cr3t-marked"), "{case}");
            assert_eq!(machine.picture(), before, "{case}");
            assert_eq!(machine.read("units/demo.service.active").is_some(), !first, "{case}");
            // The host is as it was: the same apply without the fault goes through.
            let _ = fs_err::remove_file(machine.path(&format!("units/fail-{verb}-demo.service")));
            wanted.probes.clear();
            machine.apply(&wanted, &materials()).unwrap();
            assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("two\n"), "{case}");
            assert!(machine.apply(&wanted, &materials()).unwrap().is_empty(), "{case}");
        }
    }
}

#[test]
fn an_owed_reload_is_paid_by_the_next_run() {
    let machine = Machine::new();
    let wanted = desired("one\n");
    machine.apply(&wanted, &materials()).unwrap();
    // A run died between the renames and the reload: the files match, the daemon has not read them.
    machine.write("root/var/lib/infra/owed/demo.service", "restart\n");
    machine.write("units/log", "");
    let plan = machine.apply(&wanted, &materials()).unwrap();
    assert!(matches!(plan.phases[&Phase::Web][..], [Action::Follow { follow: Follow::Restart, .. }]), "{plan:?}");
    assert!(machine.read("units/log").unwrap().contains("restart demo.service\n"));
    assert!(machine.apply(&wanted, &materials()).unwrap().is_empty());
}

/// socat for a folder: `HAProxy`'s admin socket says what stands in the file `says-VERB`, or what it says when all is well.
const SOCAT: &str = r#"#!/bin/sh
read -r verb rest
echo "$verb $rest" >>"$units/socket"
pem=/etc/demo/private/key
[ -e "$units/says-$verb" ] && { cat "$units/says-$verb"; exit; }
case "$verb $rest" in
'show ssl cert') echo '# filename'; echo "$pem" ;;
'show ssl cert '*) echo "Filename: $pem"; echo 'Status: Used'; echo 'SHA1 FingerPrint: AB01' ;;
'set '*) echo "Transaction created for certificate $pem!"; cat >"$units/payload" ;;
'commit '*) echo "Committing $pem."; echo 'Success!' ;;
esac
echo
"#;

/// A key that is swapped, beside a configuration that is not.
fn swapped(text: &str, key: &str) -> DesiredHost {
    let mut wanted = desired(text);
    let mut pem = file(&format!("{key} {}\n", sentinel("demo/key")), 0o600);
    pem.then.insert("demo.service".into(), Follow::Swap);
    wanted.files.insert("/etc/demo/private/key".into(), pem);
    wanted.swaps.insert("demo.service".into(), include_str!("../templates/haproxy/swap.sh").into());
    wanted
}

/// What systemctl and the admin socket were asked for by an apply of `wanted`.
fn asked(machine: &Machine, wanted: &DesiredHost) -> (String, String) {
    machine.write("units/log", "");
    machine.write("units/socket", "");
    machine.apply(wanted, &materials()).unwrap();
    assert!(machine.apply(wanted, &materials()).unwrap().is_empty());
    assert!(fs_err::read_dir(machine.path("root/var/lib/infra/owed")).unwrap().next().is_none());
    (machine.read("units/log").unwrap(), machine.read("units/socket").unwrap())
}

fn with_socket() -> Machine {
    let machine = Machine::new();
    machine.executable("bin/socat", &SOCAT.replace("$units", &machine.path("units").display().to_string()));
    machine.executable("bin/openssl", "#!/bin/sh\necho 'sha1 Fingerprint=AB:01'\n");
    machine.apply(&swapped("one\n", "first"), &materials()).unwrap();
    machine
}

#[test]
fn a_running_daemon_is_given_its_certificate_and_nothing_reloads() {
    let machine = with_socket();
    let (units, socket) = asked(&machine, &swapped("one\n", "second"));
    assert!(!units.contains("reload") && !units.contains("restart"), "{units}");
    let key = "/etc/demo/private/key";
    let all = "show ssl cert\nshow ssl cert KEY\nset ssl cert KEY <<\ncommit ssl cert KEY\nshow ssl cert KEY\n";
    assert_eq!(socket, all.replace("KEY", key));
    assert_eq!(machine.read("units/payload").unwrap(), "second s3cr3t-marked\n\n");
    // Beside a change of the configuration it is a reload, and the plan says so.
    let (units, socket) = asked(&machine, &swapped("two\n", "third"));
    assert!(units.contains("reload demo.service") && socket.is_empty(), "{units}{socket}");
    // What no longer stands there cannot be given to anybody.
    let mut gone = swapped("two\n", "third");
    gone.files.remove(key);
    let (units, socket) = asked(&machine, &gone);
    assert!(units.contains("reload demo.service") && socket.is_empty(), "{units}{socket}");
    // A daemon that does not run is started.
    let _ = fs_err::remove_file(machine.path("units/demo.service.active"));
    let (units, socket) = asked(&machine, &swapped("two\n", "fourth"));
    assert!(units.contains("start demo.service") && socket.is_empty(), "{units}{socket}");
}

/// Whatever else is answered on the way: nothing of ours stays open, and the daemon reloads.
#[test]
fn a_certificate_that_is_not_taken_is_reloaded_for() {
    let key = "/etc/demo/private/key";
    for (verb, says, last) in [
        ("show", "# transaction\n*/etc/other.pem\n# filename\n/etc/demo/private/key", "show ssl cert"),
        ("show", "Filename: KEY\nStatus: Unused", "show ssl cert KEY"),
        ("show", "2026 socat[1] E connect(): No such file or directory", "show ssl cert KEY"),
        ("set", "Transaction updated for certificate /etc/other.pem!", "abort ssl cert /etc/other.pem"),
        ("set", "Transaction updated for certificate KEY!", "abort ssl cert KEY"),
        ("set", "unable to load certificate from file 'KEY'", "abort ssl cert KEY"),
        ("commit", "inconsistencies between private key and certificate loaded 'KEY'", "abort ssl cert KEY"),
        ("commit", "", "abort ssl cert KEY"),
    ] {
        let machine = with_socket();
        machine.write(&format!("units/says-{verb}"), &format!("{}\n\n", says.replace("KEY", key)));
        let (units, socket) = asked(&machine, &swapped("one\n", "second"));
        assert!(units.contains("reload demo.service"), "{says}: {units}");
        assert_eq!(socket.lines().last(), Some(last.replace("KEY", key).as_str()), "{says}");
    }
    // A PEM that is taken for commands is repeated by HAProxy, and by nobody else.
    let machine = with_socket();
    machine.write("units/says-set", "'set ssl cert' expects a certificate\nUnknown command: 's3cr3t-marked'\n");
    asked(&machine, &swapped("one\n", "second"));
    let journal = machine.read("root/var/lib/infra/runs/20261123T000000/journal").unwrap();
    assert!(journal.contains("expects a certificate") && !journal.contains("s3cr3t-marked"), "{journal}");
    // Taken, and yet another one is shown.
    let machine = with_socket();
    machine.executable("bin/openssl", "#!/bin/sh\necho 'sha1 Fingerprint=AB:02'\n");
    let (units, _) = asked(&machine, &swapped("one\n", "second"));
    assert!(units.contains("reload demo.service"), "{units}");
}

fn failing_probe(wanted: &mut DesiredHost, command: &str) {
    wanted.probes.push(Probe {
        phase: Phase::Web,
        title: "it answers".into(),
        command: command.into(),
        within: Duration::from_secs(0),
        advisory: false,
    });
}

/// What it was given does not work: it reads the old one again.
#[test]
fn a_swap_that_does_not_work_is_put_back_by_a_reload() {
    let machine = with_socket();
    let before = machine.picture();
    let mut wanted = swapped("one\n", "second");
    failing_probe(&mut wanted, "exit 1");
    machine.write("units/log", "");
    let (_, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!((error.what.as_str(), error.now), ("it answers", Now::AsBefore), "{error:?}");
    assert_eq!(machine.picture(), before);
    let log = machine.read("units/log").unwrap();
    assert!(log.contains("reload demo.service") && !log.contains("restart"), "{log}");
}

/// A run died between the file and the daemon: a reload is owed, whatever was meant.
#[test]
fn a_swap_is_owed_as_a_reload() {
    let machine = with_socket();
    let mut wanted = swapped("one\n", "second");
    let owed = machine.path("root/var/lib/infra/owed/demo.service").display().to_string();
    let command = format!("cp {owed} {}", machine.path("units/owed").display());
    wanted.probes.push(Probe {
        phase: Phase::Web,
        title: "it answers".into(),
        command: command.into(),
        within: Duration::from_secs(0),
        advisory: false,
    });
    machine.apply(&wanted, &materials()).unwrap();
    assert_eq!(machine.read("units/owed").as_deref(), Some("reload\n"));
}

#[test]
fn what_goes_stands_beside_the_new_until_narrow() {
    let machine = Machine::new();
    let mut old = desired("one\n");
    old.files.insert("/etc/demo/8443.conf".into(), file("listen 8443\n", 0o644));
    machine.apply(&old, &materials()).unwrap();
    let mut new = desired("one\n");
    new.files.insert("/etc/demo/8444.conf".into(), file("listen 8444\n", 0o644));
    // The daemon is asked about both: old beside new, and new alone.
    let asked = machine.path("asked");
    let command = format!("ls {}/var/lib/infra/runs/*/view/demo >>{}", machine.path("root").display(), asked.display());
    new.checks.push(Check { title: "demo -t".into(), command });
    let plan = machine.apply(&new, &materials()).unwrap();
    assert_eq!(plan.phases.keys().copied().collect::<Vec<_>>(), [Phase::Web, Phase::Narrow]);
    let seen = "8443.conf\n8444.conf\nmain.conf\nprivate\n8444.conf\nmain.conf\nprivate\n";
    assert_eq!(machine.read("asked").as_deref(), Some(seen));
    assert_eq!(machine.read("root/etc/demo/8443.conf"), None);
    new.checks.clear();
    assert!(machine.apply(&new, &materials()).unwrap().is_empty());
}

#[test]
fn a_unit_that_nothing_wants_is_stopped() {
    let machine = Machine::new();
    machine.apply(&desired("one\n"), &materials()).unwrap();
    machine.apply(&DesiredHost::default(), &materials()).unwrap();
    assert_eq!(machine.read("units/demo.service.active"), None);
    assert_eq!(machine.read("root/etc/demo/main.conf"), None);
    assert!(machine.apply(&DesiredHost::default(), &materials()).unwrap().is_empty());
}

#[test]
fn no_secret_is_left_in_the_run_folder_for_others() {
    let machine = Machine::new();
    machine.apply(&desired("one\n"), &materials()).unwrap();
    let infra = machine.path("root/var/lib/infra");
    let mode = fs_err::metadata(&infra).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

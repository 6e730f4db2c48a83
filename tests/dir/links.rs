//! Links, FIFOs and the like where our files, our copies or our own records stand: nothing is written, read or given away
//! through them, whatever a run comes to.

use std::process::Command;

use infra::plan::state::Other;
use infra::plan::way;

use super::*;

/// What somebody has that no run may change: beside `etc`, so that a link from there leads out of it.
const TARGET: &str = "root/srv/theirs";

impl Machine {
    fn sh(&self, script: &str) -> String {
        let output = Command::new("sh").args(["-euc", script]).current_dir(self.path("root")).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// All that stands under `etc` and `srv`: kind, access, where links point to, and what files hold.
    fn standing(&self) -> String {
        self.sh("find etc srv -printf '%p %y %M %u %g %l\\n' | sort; find etc srv -type f -exec sha256sum {} + | sort")
    }

    fn prepared(script: &str) -> Self {
        let machine = Self::new();
        machine.apply(&desired("one\n"), &materials()).unwrap();
        fs_err::create_dir_all(machine.path(TARGET)).unwrap();
        machine.write(&format!("{TARGET}/shadow"), "root:*:\n");
        machine.sh(&format!("chmod 0640 srv/theirs/shadow; S=$PWD/srv/theirs; {script}"));
        machine
    }
}

/// The check sees what will stand there, as a file of its own.
fn checked(text: &str) -> DesiredHost {
    let mut wanted = desired(text);
    wanted.checks.push(Check {
        title: "demo -t".into(),
        command: format!(
            "[ ! -L \"$VIEW/demo/main.conf\" ] && [ \"$(cat \"$VIEW/demo/main.conf\")\" = {} ] && echo seen >&2",
            text.trim()
        ),
    });
    wanted
}

/// What stands at our file's place, and as what the plan tells it.
const INSTEAD: [(&str, &str); 9] = [
    ("ln -sf $S/shadow etc/demo/main.conf", "a link to /"),
    ("ln -sf ../../srv/theirs/shadow etc/demo/main.conf", "a link to ../../srv/theirs/shadow"),
    ("ln -sf nowhere etc/demo/main.conf", "a link to nowhere"),
    ("ln -sf main.conf etc/demo/main.conf", "a link to main.conf"),
    ("ln -sfn $S etc/demo/main.conf", "a link to /"),
    ("ln -sfn \"$(printf 'a\\nb')\" etc/demo/main.conf", "a link to a\\nb"),
    ("rm etc/demo/main.conf; mkfifo etc/demo/main.conf", "a FIFO"),
    ("rm etc/demo/main.conf; mknod etc/demo/main.conf c 1 3", "a device"),
    (
        "rm etc/demo/main.conf; perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0); bind(S,sockaddr_un(\"etc/demo/main.conf\")) or die'",
        "a socket",
    ),
];

#[test]
fn what_stands_at_a_files_place_is_replaced_and_never_written_through() {
    for (script, told) in INSTEAD {
        let machine = Machine::prepared(script);
        let before = machine.standing();
        // A refusal leaves all as it was, and so does a failure after the file was put in place.
        let mut wrong = checked("two\n");
        wrong.checks[0].command = "exit 1".into();
        assert_eq!(machine.apply(&wrong, &materials()).unwrap_err().0, Phase::Stage, "{script}");
        assert_eq!(machine.standing(), before, "{script}");
        machine.write("units/fail-reload-demo.service", "");
        let (phase, error) = machine.apply(&checked("two\n"), &materials()).unwrap_err();
        assert_eq!((phase, error.now), (Phase::Web, Now::AsBefore), "{script}: {error:?}");
        assert_eq!(machine.standing(), before, "{script}");
        let _ = fs_err::remove_file(machine.path("units/fail-reload-demo.service"));
        // The plan names it, and the file takes its place.
        let plan = machine.apply(&checked("two\n"), &materials()).unwrap();
        assert!(plan.drift[0].contains(&format!("it is {told}")), "{script}: {:?}", plan.drift);
        assert!(fs_err::symlink_metadata(machine.path("root/etc/demo/main.conf")).unwrap().is_file(), "{script}");
        assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("two\n"), "{script}");
        assert_eq!(machine.sh("stat -c '%a' srv/theirs/shadow; cat srv/theirs/shadow"), "640\nroot:*:\n", "{script}");
        assert!(machine.apply(&checked("two\n"), &materials()).unwrap().is_empty(), "{script}");
    }
}

#[test]
fn a_link_in_a_files_place_is_no_less_when_the_file_goes() {
    for (script, _) in INSTEAD {
        let machine = Machine::prepared(script);
        let mut less = desired("one\n");
        less.files.remove("/etc/demo/main.conf");
        machine.apply(&less, &materials()).unwrap();
        assert!(fs_err::symlink_metadata(machine.path("root/etc/demo/main.conf")).is_err(), "{script}");
        assert_eq!(machine.read("root/srv/theirs/shadow").as_deref(), Some("root:*:\n"), "{script}");
    }
}

#[test]
fn nothing_is_written_through_the_names_of_our_copies_and_records() {
    for name in [
        "etc/demo/.main.conf.infra-new",
        "etc/demo/private/.key.infra-new",
        "var/lib/infra/.manifest.new",
        "var/lib/infra/.unfinished.new",
        "var/lib/infra/owed/.demo.service.new",
        "var/lib/infra/runs/20261123T000000",
        "var/lib/infra/runs/20200101T000000",
    ] {
        for link in ["$S/shadow", "$S/not-there", "$S"] {
            let machine =
                Machine::prepared(&format!("rm -rf {name}; ln -sfn {link} {name}; mkdir $S/new; : >$S/new/x"));
            let theirs = || machine.sh("find srv -printf '%p %y %M %s %T@\\n' | sort; cat srv/theirs/shadow");
            let before = theirs();
            machine.apply(&checked("two\n"), &materials()).unwrap();
            assert_eq!(theirs(), before, "{name} -> {link}");
            assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("two\n"), "{name} -> {link}");
            assert!(machine.apply(&checked("two\n"), &materials()).unwrap().is_empty(), "{name} -> {link}");
        }
    }
}

/// What makes a host's way a wrong one, and the path that must be named.
const BLOCKED: [(&str, &str); 16] = [
    ("mv etc/demo srv/demo; ln -s $S/../demo etc/demo", "/etc/demo"),
    ("mv etc/demo srv/demo; ln -s ../srv/demo etc/demo", "/etc/demo"),
    ("mv etc/demo/private srv/private; ln -s $S/../private etc/demo/private", "/etc/demo/private"),
    ("rm -r etc/demo/private; ln -s $S/shadow etc/demo/private", "/etc/demo/private"),
    ("rm -r etc/demo/private; ln -s nowhere etc/demo/private", "/etc/demo/private"),
    ("rm -r etc/demo/private; : >etc/demo/private", "/etc/demo/private"),
    ("rm -r etc/demo; mkfifo etc/demo", "/etc/demo"),
    ("chown nobody etc/demo", "/etc/demo"),
    ("chmod 0775 etc/demo", "/etc/demo"),
    ("chmod 1777 etc/demo", "/etc/demo"),
    ("rm etc/demo/main.conf; mkdir etc/demo/main.conf", "/etc/demo/main.conf"),
    ("mv var/lib/infra srv/infra; ln -s $S/../infra var/lib/infra", "/var/lib/infra"),
    ("mv var/lib srv/lib; ln -s $S/../lib var/lib", "/var/lib"),
    ("mv var/lib/infra/runs srv/runs; ln -s $S/../runs var/lib/infra/runs", "/var/lib/infra/runs"),
    ("mv var/lib/infra/owed srv/owed; ln -s $S/../owed var/lib/infra/owed", "/var/lib/infra/owed"),
    ("chmod 0777 var/lib/infra", "/var/lib/infra"),
];

#[test]
fn a_folder_on_the_way_that_is_none_of_roots_own_is_refused_by_name() {
    for (script, named) in BLOCKED {
        let machine = Machine::prepared(script);
        let mut wanted = checked("two\n");
        let key = format!("another key {}\n", sentinel("demo/key"));
        wanted.files.insert("/etc/demo/private/key".to_owned(), file(&key, 0o600));
        let before = machine.standing();
        let words = way::blocked(&wanted, &machine.observe(&wanted));
        assert!(words.iter().any(|w| w.starts_with(&format!("`{named}` "))), "{script}: {words:?}");
        // Where it came to be only after the plan was made, no step goes on either.
        let good = Machine::prepared("");
        let observed = good.observe(&wanted);
        let plan = plan::host(&wanted, &observed);
        let materials = materials();
        let executor = |transport| Executor {
            host: "h1".parse().unwrap(),
            run: "20261123T000001".into(),
            who: "tester@here".into(),
            materials: &materials,
            transport,
            reconnect: Box::new(|| Ok(good.transport())),
            tell: Box::new(|_| ()),
            here: Vec::new(),
            swaps: &wanted.swaps,
            owner: None,
            manifest: observed.manifest.clone(),
            records: BTreeMap::new(),
        };
        let refused = executor(machine.transport()).stage(&plan, &wanted);
        let error = refused.expect_err(script);
        assert_eq!(machine.standing(), before, "{script}: {error:?}");
        let mut late = executor(good.transport());
        late.stage(&plan, &wanted).unwrap();
        good.sh(&format!("S=$PWD/srv/theirs; {script}"));
        let before = good.standing();
        let error = late.commit(Phase::Web, &plan.phases[&Phase::Web], &[]).unwrap_err();
        assert_eq!(good.standing(), before, "{script}: {error:?}");
    }
}

#[test]
fn a_record_that_is_no_file_is_named_and_holds_nobody_up() {
    for record in ["manifest", "step.lock", "lock", "unfinished", "firewall.rules", "owed/demo.service"] {
        for script in ["ln -s $S/shadow $R", "ln -s nowhere $R", "mkfifo $R", "mkdir $R"] {
            let machine = Machine::prepared(&format!("R=var/lib/infra/{record}; rm -f $R; {script}"));
            let wanted = checked("two\n");
            let words = way::blocked(&wanted, &machine.observe(&wanted));
            assert!(words[0].starts_with(&format!("`/var/lib/infra/{record}` is ")), "{record}, {script}: {words:?}");
        }
    }
    // No lock is taken through it either, and nobody waits.
    for (name, script) in [("lock", "mkfifo $R"), ("lock.holder", "ln -s $S/shadow $R"), ("step.lock", "mkfifo $R")] {
        let machine = Machine::prepared(&format!("R=var/lib/infra/{name}; rm -f $R; {script}"));
        let error = infra::host::lock::take(machine.transport().as_mut(), "me", "r").unwrap_err().to_string();
        assert!(error.contains(&format!("/var/lib/infra/{name} is not a regular file")), "{error}");
        assert_eq!(machine.read("root/srv/theirs/shadow").as_deref(), Some("root:*:\n"));
    }
}

#[test]
fn what_others_have_in_etc_is_copied_as_what_it_is() {
    let machine = Machine::prepared(
        "mkfifo etc/demo/fifo; ln -s $S/shadow etc/demo/link; ln -s loop etc/loop; ln etc/demo/main.conf etc/demo/hard; mknod etc/null c 1 3",
    );
    let mut wanted = checked("two\n");
    wanted.checks[0].command.push_str(
        "&& [ -p \"$VIEW/demo/fifo\" ] && [ -L \"$VIEW/demo/link\" ] && [ \"$(cat \"$VIEW/demo/hard\")\" = one ] && [ \"$(stat -c %a \"$VIEW/demo\")\" = 755 ]",
    );
    machine.sh("chmod 755 etc/demo");
    machine.apply(&wanted, &materials()).unwrap();
    assert_eq!(machine.sh("cat etc/demo/hard srv/theirs/shadow"), "one\nroot:*:\n");
    assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("two\n"));
}

#[test]
fn the_plan_says_what_a_file_takes_the_place_of() {
    let machine = Machine::prepared("ln -sf $S/shadow etc/demo/main.conf");
    let plan = plan::host(&desired("two\n"), &machine.observe(&desired("two\n")));
    let stood = plan.phases[&Phase::Web].iter().find_map(|a| match a {
        Action::Write { path, stood, .. } if path == "/etc/demo/main.conf" => stood.clone(),
        _ => None,
    });
    let target = machine.path("root/srv/theirs/shadow").display().to_string();
    assert_eq!(stood, Some(Other::Link(target)));
}

#[test]
fn what_forbids_starts_during_an_installation_is_written_through_nothing() {
    let policy = "usr/sbin/policy-rc.d";
    for (script, forbidden) in [
        ("", true),
        ("ln -s $S/shadow P", false),
        ("ln -s $S/not-there P", false),
        ("mkfifo P", false),
        ("mkdir P", false),
        ("printf '#!/bin/sh\n# made by infra for the time of an installation\n' >P", true),
        ("echo '# somebody else' >P", false),
    ] {
        let machine = Machine::prepared(&format!("mkdir -p usr/sbin; {}", script.replace('P', policy)));
        let seen = "[ -L usr/sbin/policy-rc.d ] || [ ! -f usr/sbin/policy-rc.d ] || cp usr/sbin/policy-rc.d ../seen";
        for tool in ["bin/dpkg", "bin/apt-get"] {
            machine.executable(tool, &format!("#!/bin/sh\ncd '{}'\n{seen}\n", machine.path("root").display()));
        }
        let look = || machine.sh("find usr srv -printf '%p %y %M %l\n' | sort; cat srv/theirs/shadow");
        let before = look();
        let materials = materials();
        let mut executor = Executor {
            host: "h1".parse().unwrap(),
            run: "20261123T000001".into(),
            who: "tester@here".into(),
            materials: &materials,
            transport: machine.transport(),
            reconnect: Box::new(|| Ok(machine.transport())),
            tell: Box::new(|_| ()),
            here: Vec::new(),
            swaps: &BTreeMap::new(),
            owner: None,
            manifest: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        let install = Action::Install { packages: vec!["demo".to_owned()] };
        executor.commit(Phase::Packages, &[install], &[]).unwrap();
        let ours = machine.read("seen").is_some_and(|text| text.contains("exit 101"));
        assert_eq!(ours, forbidden, "{script}");
        // Ours goes again, what others have stays.
        if forbidden {
            assert!(!look().contains("policy-rc.d"), "{script}");
        } else {
            assert_eq!(look(), before, "{script}");
        }
    }
}

#[test]
fn a_lock_changes_nothing_that_a_plan_was_made_from() {
    let machine = Machine::new();
    let wanted = desired("one\n");
    let print = || plan::fingerprint(&machine.observe(&wanted), &wanted);
    let before = print();
    let held = infra::host::lock::take(machine.transport().as_mut(), "me", "r").unwrap();
    assert!(machine.path("root/var/lib/infra").is_dir());
    assert_eq!(print(), before);
    drop(held);
    machine.sh("ln -s /srv/x etc/demo/main.conf");
    let link = print();
    machine.sh("ln -sf /srv/y etc/demo/main.conf");
    assert!(before != link && link != print());
}

#[test]
fn a_check_that_a_fifo_holds_up_ends_and_names_it() {
    let machine = Machine::prepared("mkfifo etc/demo/theirs.conf");
    // The same deadline, sooner.
    machine.executable("bin/timeout", "#!/bin/sh\nshift 3\nexec /usr/bin/timeout 1 \"$@\"\n");
    let mut wanted = checked("two\n");
    wanted.checks[0].command = "echo reading; cat \"$VIEW\"/demo/*.conf".into();
    let before = machine.standing();
    let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
    assert_eq!((phase, error.what.as_str(), error.now), (Phase::Stage, "demo -t", Now::AsBefore));
    let words = error.words.join("\n");
    assert!(words.contains("it did not end within 60 s\na FIFO may hold it up: /etc/demo/theirs.conf"), "{words}");
    assert_eq!(machine.standing(), before);
}

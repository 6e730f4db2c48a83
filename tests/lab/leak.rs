//! No secret leaves its place while hosts are changed: private keys and a sudo password, looked for in all that infra says
//! and writes, in the argv and environment of every process, and on the hosts outside of the files that are for them.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bench::{Bench, THREE_TIER};
use checks::Check;
use infra::lab::{Release, Target};
use infra::pki;
use time::OffsetDateTime;

const PASSWORD: &str = "mark-of-sudo-77ab30";

/// What tells a private key in PEM: the first 18 bytes of its second line, which are the key's own.
fn key_marks(store: &Path) -> Vec<String> {
    let mut marks = Vec::new();
    for file in ["authorities.json", "leaves.json"] {
        let text = std::fs::read_to_string(store.join(file)).unwrap();
        let keys = text.split("-----BEGIN PRIVATE KEY-----\\n").skip(1);
        marks.extend(keys.map(|key| key.split("\\n").nth(1).unwrap().get(..24).unwrap().to_owned()));
    }
    assert!(marks.len() >= 15, "{}", marks.len());
    marks
}

fn clean(place: &str, text: &str, needles: &[String]) {
    for needle in needles {
        assert!(!text.contains(needle.as_str()), "{place} shows `{needle}`:\n{text}");
    }
}

/// Looks at all processes of this machine, those in the lab's hosts among them, until told to stop. Gives what of their
/// argv and environment holds a needle; counts how often it looked.
fn watch(needles: &[String], stop: &AtomicBool, rounds: &AtomicUsize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            for part in ["cmdline", "environ"] {
                let bytes = std::fs::read(entry.path().join(part)).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                if needles.iter().any(|needle| text.contains(needle.as_str())) {
                    found.insert(format!("{part}: {}", text.replace('\0', " ")));
                }
            }
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    found
}

/// `infra WORDS` with a terminal, at which the sudo password is typed when it is asked for. Gives what was on the screen.
fn with_terminal(bench: &Bench, words: &str) -> String {
    let line = format!("{} {words}", env!("CARGO_BIN_EXE_infra"));
    let mut command = bench.lab().command(&Target::Controller, ["script", "-qec", &line, "/dev/null"]).unwrap();
    command.current_dir(bench.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.env_remove("INFRA_INVENTORY").env_remove("INFRA_STATE").spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut typed, mut part) = (Vec::new(), false, [0; 4096]);
    while let Ok(n @ 1..) = screen.read(&mut part) {
        seen.extend_from_slice(part.get(..n).unwrap());
        if !typed && String::from_utf8_lossy(&seen).contains("sudo password") {
            // The terminal still echoes for a moment after the question is on the screen.
            std::thread::sleep(std::time::Duration::from_millis(300));
            writeln!(keys, "{PASSWORD}").unwrap();
            typed = true;
        }
    }
    let text = String::from_utf8_lossy(&seen).into_owned();
    assert!(child.wait().unwrap().success() && typed, "{text}");
    text
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(below(&path));
        }
        all.push(path);
    }
    all
}

#[test]
fn no_secret_leaves_its_place() {
    let all: [Check<Bench>; 4] = [
        ("nothing secret is said or left", nothing_is_said_or_left),
        ("daemons that repeat a key", daemons_repeat_a_key),
        ("templates keep to their host", templates_keep_to_their_host),
        ("a plan is carried out as shown or not at all", a_plan_is_carried_out_as_shown_or_not_at_all),
    ];
    checks::run(&Bench::up("t-leak", &THREE_TIER, Release::Bookworm), &all, checks::independent);
}

/// From bare hosts on: what is said, what the machine shows of processes, and what stays on disks.
fn nothing_is_said_or_left(bench: &Bench) {
    let site = bench.site();
    pki::ensure(&site, &site.state, OffsetDateTime::now_utc()).unwrap();
    let mut needles = key_marks(&site.state.join("pki"));
    let hosts: Vec<String> = site.hosts.keys().map(ToString::to_string).collect();

    // Without a password first: everything that is said about a fleet of bare hosts.
    for words in [
        &["check", "-v"][..],
        &["check", "--json"],
        &["diff", "-v"],
        &["diff", "--json"],
        &["diff", "--out", "plan"],
        &["firewall", "matrix", "-v"],
    ] {
        let said = bench.infra(words);
        assert!([0, 3].contains(&said.code), "{words:?}: {}{}", said.out, said.err);
        clean(&format!("{words:?}"), &(said.out + &said.err), &needles);
    }
    clean("the plan", &std::fs::read_to_string(bench.dir.path().join("plan")).unwrap(), &needles);

    for host in &hosts {
        let script = format!("echo 'ops:{PASSWORD}' | chpasswd && sed -i 's/NOPASSWD://' /etc/sudoers.d/ops");
        bench.sh(host, &script).expect(0);
    }
    needles.push(PASSWORD.to_owned());
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (screen, found) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&needles, &stop, &rounds));
        let screen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| with_terminal(bench, "apply --yes -v")));
        stop.store(true, Ordering::Relaxed);
        (screen, watcher.join().unwrap())
    });
    let screen = screen.unwrap_or_else(|e| std::panic::resume_unwind(e));
    clean("the screen of apply", &screen, &needles);
    assert!(screen.contains("6 hosts changed"), "{screen}");
    assert!(found.is_empty(), "{found:#?}");
    assert!(rounds.load(Ordering::Relaxed) > 20, "looked only {rounds:?} times");
    // An apply with something to change, in the form for programs.
    for host in &hosts {
        bench.sh(host, "echo 'ops ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops").expect(0);
    }
    bench.sh("web1", "echo '# by hand' >>/etc/nginx/nginx.conf; echo by hand >>/etc/nginx/tls/server.key").expect(0);
    for words in [&["diff", "-v"][..], &["diff", "--json", "--out", "plan"], &["apply", "--yes", "--json", "-v"]] {
        let said = bench.infra(words);
        assert!([0, 3].contains(&said.code), "{words:?}: {}{}", said.out, said.err);
        assert!(said.out.contains("server.key"), "{words:?}: {}", said.out);
        clean(&format!("{words:?}"), &(said.out + &said.err), &needles);
    }

    // What stays: on the controller the store alone, all of it the owner's.
    let mut all = below(&site.state);
    all.push(site.state.clone());
    for path in all {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{} is {mode:o}", path.display());
        if path.is_file() && !path.starts_with(site.state.join("pki")) {
            clean(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap(), &needles);
        }
    }
    clean("the plan", &std::fs::read_to_string(bench.dir.path().join("plan")).unwrap(), &needles);
    for host in &hosts {
        on_host(bench, host, &needles);
    }
}

/// nginx that says its key in one form after another, and refuses the configuration.
const TALKATIVE: &str = r#"#!/bin/sh
key=/etc/nginx/tls/server.key
case "$*" in *-t*) ;; *) exec /usr/sbin/nginx.real "$@" ;; esac
echo 'here is what I read:' >&2
case $(cat /run/form) in
crlf) sed 's/$/\r/' $key ;;
indented) sed 's/^/        /' $key ;;
lines) while read -r line; do echo "nginx: line: $line"; done <$key ;;
narrow) grep -v -e ----- $key | tr -d '\n' | fold -w 9 | sed 's/^/nginx: [emerg] 7#7: /' ;;
base64) base64 $key ;;
json) printf '{"error":"%s"}\n' "$(sed 's/$/\\n/' $key | tr -d '\n' | sed 's,/,\\/,g')" ;;
url) grep -v -e ----- $key | sed 's/+/%2B/g; s,/,%2F,g; s/$/%0A/' | tr -d '\n' ;;
hex) openssl pkey -in $key -noout -text ;;
part) grep -v -e ----- $key | tr -d '\n' | cut -c 70-130 ;;
esac >&2
echo >&2
exit 1
"#;

/// All that is said, kept and shown of such a failure has no stretch of the key in it.
fn daemons_repeat_a_key(bench: &Bench) {
    let key = bench.sh("web1", "grep -v -e ----- /etc/nginx/tls/server.key").expect(0).out.replace('\n', "");
    let hex = bench.sh("web1", "openssl pkey -in /etc/nginx/tls/server.key -noout -text").expect(0).out;
    let hex: String = hex.split("priv:").nth(1).unwrap().split("pub:").next().unwrap().split_whitespace().collect();
    let encoded = bench.sh("web1", "base64 -w 0 /etc/nginx/tls/server.key").expect(0).out;
    // What all keys of a kind begin with is in every certificate's description, too.
    let stretches: Vec<String> = [&key[60..], &hex[6..60], &encoded[140..200]]
        .iter()
        .flat_map(|text| {
            text.as_bytes().windows(16).map(|w| String::from_utf8_lossy(w).into_owned()).collect::<Vec<_>>()
        })
        .collect();
    bench.sh("web1", "mv /usr/sbin/nginx /usr/sbin/nginx.real").expect(0);
    let script = format!("cat >/usr/sbin/nginx <<'END'\n{TALKATIVE}END\nchmod 755 /usr/sbin/nginx");
    bench.sh("web1", &script).expect(0);
    bench.edit("health: /healthz", "health: /health");
    bench.edit("prefix: /static/", "prefix: /files/");
    for (at, form) in ["crlf", "indented", "lines", "narrow", "base64", "json", "url", "hex", "part"].iter().enumerate()
    {
        bench.sh("web1", &format!("echo {form} >/run/form")).expect(0);
        let words = [&["apply", "--yes"][..], &["apply", "--yes", "--json", "-v"]][at % 2];
        let said = bench.infra(words).expect(1);
        let all = said.out + &said.err;
        assert!(all.contains("nginx -t") && all.contains("‹pki/web1/server.key›"), "{form}: {all}");
        let bare: String = all.chars().filter(|c| !c.is_whitespace()).collect();
        for stretch in &stretches {
            assert!(
                !all.contains(stretch.as_str()) && !bare.contains(stretch.as_str()),
                "{form} shows {stretch}: {all}"
            );
        }
    }
    let mut runs = 0;
    for path in below(&bench.site().state.join("runs")) {
        runs += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for stretch in &stretches {
            assert!(!text.contains(stretch.as_str()), "{}: {text}", path.display());
        }
    }
    // Each run has a name of its own, however close they were.
    assert!(runs >= 9, "{runs}");
    bench.sh("web1", "mv /usr/sbin/nginx.real /usr/sbin/nginx").expect(0);
    bench.apply().expect(0);
}

/// A template that asks for another host's key is refused before any host is asked; one with its own host's key makes a file
/// that is not for everyone.
fn templates_keep_to_their_host(bench: &Bench) {
    let template = bench.dir.path().join("templates/nginx/nginx.conf");
    let built_in = include_str!("../../templates/nginx/nginx.conf");
    bench::write(&template, &format!("{built_in}# {{{{ material(name=\"pki/lb1/client.key\") }}}}\n"));
    for words in [&["check"][..], &["render", "--to", "out"], &["diff"], &["apply", "--yes"]] {
        let said = bench.infra(words).expect(2);
        for word in
            ["nginx/nginx.conf", "`pki/lb1/client.key` is for lb1 alone, and", "may not have it", "material(name="]
        {
            assert!(said.err.contains(word), "{words:?} {word}: {}", said.err);
        }
    }
    bench::write(
        &template,
        &built_in.replacen("user www-data;", "user www-data;\n# {{ material(name=\"pki/ca.crt\") | length }}", 1),
    );
    assert!(bench.infra(&["check"]).expect(2).err.contains("does not stand in the text as it was asked for"));
    std::fs::remove_file(template).unwrap();
    bench.infra(&["diff"]).expect(0);
}

/// What was shown is carried out, and nothing else: whatever is changed meanwhile is named, and no host is touched.
fn a_plan_is_carried_out_as_shown_or_not_at_all(bench: &Bench) {
    bench.edit("firewall:\n", "firewall:\n  block: [198.51.100.77]\n");
    let shown = bench.infra(&["diff", "--out", "plan"]).expect(3);
    assert!(shown.out.contains("+ block 198.51.100.77"), "{}", shown.out);
    let rules = |host: &str| bench.sh(host, "nft -s list ruleset; cat /var/lib/infra/manifest").expect(0).out;
    let before = rules("web1");
    for (from, to) in [
        ("block: [198.51.100.77]", "block: [198.51.100.77, 64.0.0.0/2]"),
        ("prefix: /files/", "prefix: /other/"),
        ("manage_from: [10.0.0.0/24, ", "manage_from: [10.0.0.0/24, 192.0.2.0/24, "),
    ] {
        bench.edit(from, to);
        let said = bench.infra(&["apply", "--yes", "--plan", "plan"]).expect(2);
        assert!(
            said.err.contains("the plan no longer holds, nothing was done") && said.err.contains(" web1 "),
            "{}",
            said.err
        );
        assert_eq!(rules("web1"), before);
        bench.edit(to, from);
    }
    let limited = bench.infra(&["apply", "--yes", "--plan", "plan", "--limit", "web1"]).expect(2);
    assert!(limited.err.contains("`--limit` cannot be given with `--plan`"), "{}", limited.err);
    bench.infra(&["apply", "--yes", "--plan", "plan"]).expect(0);
    assert!(rules("web1").contains("198.51.100.77"));
}

/// Files with a mark are root's alone, in a folder that is root's alone; the journal and the logs have none.
fn on_host(bench: &Bench, host: &str, needles: &[String]) {
    // Through stdin, as the search itself must not be what is found.
    let script = "cat >/dev/shm/needles\n\
        grep -rlsF -f /dev/shm/needles /etc /var /run /tmp /root /home /srv | while read -r file; do\n\
        [ \"$file\" = /run/shm/needles ] || echo \"$(stat -c '%a %U' \"$file\") $(stat -c '%a %U' \"${file%/*}\") $file\"; done\n\
        echo logs: $(journalctl -q --no-pager | grep -cF -f /dev/shm/needles) $(cat /var/log/nginx/* 2>/dev/null | grep -cF -f /dev/shm/needles)\n\
        rm /dev/shm/needles";
    let mut command = bench.lab().command(&Target::from(host), ["sh", "-c", script]).unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(needles.join("\n").as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let mut keys = 0;
    for line in said.lines() {
        let path = line.rsplit(' ').next().unwrap();
        if line.starts_with("logs:") {
            assert_eq!(line, "logs: 0 0", "{host}");
        } else if path.starts_with("/var/lib/infra/") {
            // Copies for rollback: the folder at the top lets nobody in.
            assert!(line.starts_with("600 root 700 root "), "{host}: {line}");
        } else {
            keys += 1;
            assert!(line.starts_with("600 root 700 root /etc/"), "{host}: {line}");
        }
    }
    let top = bench.sh(host, "stat -c '%a %U' /var/lib/infra").expect(0).out;
    assert_eq!(top, "700 root\n", "{host}");
    assert!(keys >= 1, "{host}: {said}");
}

//! The engine against real hosts, in one lab: broken templates, daemons that refuse, two runs at once, saved plans, drift,
//! hosts that are down, full disks, roles that move, sudo with a password. Every check leaves the fleet as it found it.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;
#[path = "links.rs"]
mod links;
#[path = "rollback.rs"]
mod rollback;
#[path = "status.rs"]
mod status;

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bench::{Bench, Said, THREE_TIER, wait};
use checks::Check;

const ALL: [&str; 6] = ["lb1", "lb2", "web1", "web2", "app1", "app2"];
const URL: &str = "https://shop.example.com/";
const SOON: Duration = Duration::from_secs(20);

const CHECKS: [Check<Bench>; 25] = [
    ("status: a fleet that is well", status::a_fleet_that_is_well),
    ("status: requests are counted one by one", status::requests_are_counted),
    ("status: what is wrong is named", status::what_is_wrong_is_named),
    ("status: a watch ends by Ctrl-C", status::a_watch_ends_by_ctrl_c),
    ("twice is nothing, by one exec a host", one_exec),
    ("a template broken on one host changes nothing anywhere", broken_template),
    ("somebody else has a port", ports_are_taken),
    ("haproxy accepts and does not start", haproxy_cannot_bind),
    ("nginx accepts and does not reload", nginx_cannot_bind),
    ("a second run names the first", two_at_once),
    ("a saved plan is executed as it is, or refused", saved_plan),
    ("drift is named and mended", drift),
    ("a run is taken back, and that too", rollback::to_and_fro),
    ("a site is taken back from the hosts' own copies", rollback::a_site),
    ("what a failed apply did is taken back", rollback::of_a_failed_apply),
    ("links and the like at a file's place", links::at_a_files_place),
    ("links and the like on the way", links::on_the_way),
    ("an owed reload is paid", owed),
    ("hosts that are down", down),
    ("a full disk for our own records", full_records),
    ("a full disk for a configuration", full_etc),
    ("Ctrl-C ends after the step", interrupted),
    ("sudo asks for a password", sudo_password),
    ("an ordinary user on the controller", no_root),
    ("roles that move, hosts that leave", roles),
];

#[test]
fn the_engine_on_real_hosts() {
    checks::run(&Bench::applied("t-apply"), &CHECKS, mend);
}

/// After a check that failed: as at the beginning, so that the next ones mean something.
fn mend(bench: &Bench) {
    fs_err::write(bench.inventory(), THREE_TIER.as_str()).unwrap();
    let _ = fs_err::remove_dir_all(bench.dir.path().join("templates"));
    for host in ALL {
        let _ = bench.lab().start(host);
        bench
            .sh(host, "umount /var/lib/infra /etc/haproxy; echo 'ops ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops");
    }
    bench.apply();
}

/// What must not change: all of /etc, the live rules, and which processes serve.
fn picture(bench: &Bench) -> Vec<String> {
    let script = "cd /etc && find . -type f -exec sha256sum {} + | sort; find . -printf '%M %u %g %p %l\\n' | sort
        nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*//' | grep -v elements
        systemctl show -p MainPID nginx haproxy 2>/dev/null";
    bench.on_each(&ALL, script)
}

fn same_picture(before: &[String], after: &[String]) {
    for ((host, before), after) in ALL.iter().zip(before).zip(after) {
        let gone: Vec<&str> = before.lines().filter(|l| !after.lines().any(|a| a == *l)).collect();
        let new: Vec<&str> = after.lines().filter(|l| !before.lines().any(|b| b == *l)).collect();
        assert!(before == after, "{host} changed:\n- {gone:#?}\n+ {new:#?}");
    }
}

fn served(bench: &Bench) {
    let (status, body) = bench.page(URL);
    assert_eq!(status, 200, "{body}");
}

fn nothing_to_do(bench: &Bench) {
    let said = bench.infra(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

/// Shadows a template: `name` with `from` replaced.
fn shadow(bench: &Bench, name: &str, from: &str, to: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(name);
    let text = fs_err::read_to_string(path).unwrap();
    assert!(text.contains(from));
    bench::write(&bench.dir.path().join("templates").join(name), &text.replace(from, to));
}

fn unshadow(bench: &Bench) {
    fs_err::remove_dir_all(bench.dir.path().join("templates")).unwrap();
}

/// A change on all hosts: another port from the load balancers' networks, and another header.
fn change(bench: &Bench) {
    bench.edit("app: { port: 8080, health: /healthz }", "app: { port: 8080, health: /healthz }\n    hsts: 600");
    for tier in ["web", "app"] {
        shadow_comment(bench, tier);
    }
}

fn shadow_comment(bench: &Bench, tier: &str) {
    let name = format!("{tier}/{tier}.conf");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(&name);
    let text = fs_err::read_to_string(path).unwrap();
    bench::write(&bench.dir.path().join("templates").join(name), &format!("# changed\n{text}"));
}

fn unchange(bench: &Bench) {
    fs_err::write(bench.inventory(), THREE_TIER.as_str()).unwrap();
    unshadow(bench);
}

/// `infra apply --yes`, under way; it ends with the value.
struct Run(Child);

impl Run {
    fn start(bench: &Bench) -> Self {
        let mut command = bench.infra_command(&["apply", "--yes"]);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for its end. Neither pipe holds more than a pipe takes.
    fn ended(mut self) -> Said {
        let status = self.0.wait().unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Said { code: status.code().unwrap_or(-1), out, err }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // One that has ended is no error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `script` holds on `host`, or the run has ended.
fn until(bench: &Bench, what: &str, host: &str, script: &str) {
    wait(what, SOON, || (bench.sh(host, script).code == 0).then_some(()));
}

/// sshd counts what is executed: one thing for a run that finds nothing to do.
fn one_exec(bench: &Bench) {
    for host in ["web1", "lb1"] {
        bench.sh(host, "echo 'LogLevel VERBOSE' >/etc/ssh/sshd_config.d/count.conf && systemctl restart ssh").expect(0);
    }
    let count = |host: &str| -> usize {
        // What sshd has said is in the journal only a moment later.
        let script = "journalctl --sync; journalctl -q -o cat -u ssh | grep -c 'Starting session: command'";
        bench.sh(host, script).out.trim().parse().unwrap()
    };
    let before = count("web1") + count("lb1");
    let said = bench.apply().expect(0);
    has(&said.out, &["nothing to do", "0 hosts changed, 6 unchanged"]);
    assert!(!said.out.contains("in 0.0 s"), "the time is that of the whole run: {}", said.out);
    assert_eq!(count("web1") + count("lb1") - before, 2);
    for host in ["web1", "lb1"] {
        bench.sh(host, "rm /etc/ssh/sshd_config.d/count.conf && systemctl restart ssh").expect(0);
    }
}

fn broken_template(bench: &Bench) {
    let before = picture(bench);
    change(bench);
    let wrong = "{% if host == \"web2\" %}proxy_pas nothing;{% endif %}\n    server_name _;";
    shadow(bench, "web/web.conf", "    server_name _;", wrong);
    let said = bench.apply().expect(1);
    has(&said.err, &["failed on web2 in stage: nginx -t", "unknown directive \"proxy_pas\"", "as before"]);
    has(&said.out, &["0 hosts changed"]);
    same_picture(&before, &picture(bench));
    unchange(bench);
    nothing_to_do(bench);
}

/// haproxy -c and nginx -t take a port that somebody else has: it is seen before anything is touched.
fn ports_are_taken(bench: &Bench) {
    let hosts = ["lb1", "lb2", "web1"];
    for host in hosts {
        bench
            .sh(host, "systemd-run -q --collect --unit=thief socat TCP-LISTEN:8406,fork,bind=127.0.0.1 /dev/null")
            .expect(0);
    }
    let metrics = "    bind 127.0.0.1:8405\n";
    shadow(bench, "haproxy/haproxy.cfg", metrics, "    bind 127.0.0.1:8405\n    bind 127.0.0.1:8406\n");
    let server = "server {\n    listen 127.0.0.1:8406;\n    return 204;\n}\nmap $ssl_server_name";
    shadow(bench, "web/web.conf", "map $ssl_server_name", server);
    let before = picture(bench);
    let poll = Poll::start(bench);
    let said = bench.apply().expect(1);
    has(
        &said.err,
        &[
            "lb1 failed in stage: free ports",
            "lb2 failed in stage: free ports",
            "web1 failed in stage: free ports",
            "127.0.0.1:8406 is taken: socat (pid ",
            "as before",
        ],
    );
    has(&said.out, &["0 hosts changed"]);
    poll.every_answer_good();
    same_picture(&before, &picture(bench));
    for host in hosts {
        bench.sh(host, "systemctl stop thief").expect(0);
    }
    unshadow(bench);
    nothing_to_do(bench);
}

fn haproxy_cannot_bind(bench: &Bench) {
    // haproxy -c does not bind, so that only the start shows that no socket can be made there.
    shadow(
        bench,
        "haproxy/haproxy.cfg",
        "    bind 127.0.0.1:8405\n",
        "    bind 127.0.0.1:8405\n    bind unix@/proc/metrics.sock\n",
    );
    let allow = "\nfirewall:\n  allow:\n    - { to: lb, port: 9000, from: [198.51.100.7], why: status checks }\n";
    bench.edit("\nfirewall:\n", allow);
    let before = bench.sh("lb1", "sha256sum /etc/haproxy/haproxy.cfg").out;
    let poll = Poll::start(bench);
    let said = bench.apply().expect(1);
    has(&said.err, &["failed on lb1 in edge", "put back", "not reached lb2"]);
    // What was opened before is open still, on the host that failed and on the one whose turn did not come; both are named.
    has(&said.err, &["still open on lb1, lb2:", "9000/tcp 198.51.100.7, which this run opened"]);
    for lb in ["lb1", "lb2"] {
        bench.sh(lb, "nft list table inet infra | grep -q 'dport 9000'").expect(0);
    }
    assert!(said.err.contains("metrics.sock") || said.err.contains("failed reload"), "{}", said.err);
    poll.served_on();
    assert_eq!(bench.sh("lb1", "sha256sum /etc/haproxy/haproxy.cfg").out, before);
    bench.sh("lb1", "! ls /etc/haproxy/.*infra-new").expect(0);
    unshadow(bench);
    bench.edit(allow, "\nfirewall:\n");
    // Nobody of before a reload may use what closes now, so nobody is waited for.
    let said = bench.apply().expect(0);
    assert!(said.out.contains("9000/tcp") && !said.err.contains("waited for"), "{}{}", said.out, said.err);
    nothing_to_do(bench);
}

fn nginx_cannot_bind(bench: &Bench) {
    // A file that is not ours, as an administrator may have it: nobody asks who has its port.
    bench
        .sh(
            "web1",
            "systemd-run -q --collect --unit=thief socat TCP-LISTEN:9999,fork,bind=127.0.0.1 /dev/null && mkdir -p /srv/more",
        )
        .expect(0);
    bench.sh("web1", "printf 'server {\\n  listen 127.0.0.1:9999;\\n  return 204;\\n}\\nserver {\\n  listen 127.0.0.1:9998;\\n  return 204;\\n}\\n' >/srv/more/x.conf").expect(0);
    shadow(bench, "web/web.conf", "map $ssl_server_name", "include /srv/more/*.conf;\nmap $ssl_server_name");
    let poll = Poll::start(bench);
    let said = bench.apply().expect(1);
    has(&said.err, &["failed on web1 in web", "Address already in use", "put back", "nginx.service"]);
    poll.every_answer_good();
    unshadow(bench);
    bench.sh("web1", "systemctl stop thief && rm -r /srv/more").expect(0);
    // web2 had nobody in the way.
    bench.apply().expect(0);
    nothing_to_do(bench);
}

fn two_at_once(bench: &Bench) {
    change(bench);
    // Who holds it is written under the lock. To try the lock itself would take it for a moment, just when the run wants it.
    bench.sh("web1", "cp /var/lib/infra/lock.holder /root/holder").expect(0);
    let first = Run::start(bench);
    until(bench, "the lock", "web1", "! cmp -s /var/lib/infra/lock.holder /root/holder");
    first.signal("STOP");
    let before = picture(bench);
    let said = bench.apply().expect(1);
    has(&said.err, &["another run works on this host: ", "since", "UTC, run 20", "nothing was changed"]);
    same_picture(&before, &picture(bench));
    first.signal("KILL");
    first.ended();
    until(bench, "the lock is free", "web1", "flock -n /var/lib/infra/lock true");
    // A step of the first may still be on its way on some host: it is waited for.
    bench.apply().expect(0);
    unchange(bench);
    bench.apply().expect(0);
    nothing_to_do(bench);
}

fn saved_plan(bench: &Bench) {
    change(bench);
    let plan = bench.dir.path().join("plan.json").display().to_string();
    let diff = |code| bench.infra(&["diff", "--out", &plan]).expect(code);
    let apply = |code| bench.infra(&["apply", "--yes", "--plan", &plan]).expect(code);
    diff(3);
    bench.sh("web1", "cp -a /etc/nginx/nginx.conf /root/kept && echo '# by hand' >>/etc/nginx/nginx.conf").expect(0);
    let before = picture(bench);
    has(&apply(2).err, &["the plan no longer holds, nothing was done", "web1 has changed since"]);
    same_picture(&before, &picture(bench));
    bench.sh("web1", "cp -a /root/kept /etc/nginx/nginx.conf").expect(0);
    bench.edit("hsts: 600", "hsts: 601");
    has(&apply(2).err, &["the inventory, a template or a certificate asks for something else on lb1 now"]);
    bench.edit("hsts: 601", "hsts: 600");
    has(&apply(0).out, &["6 hosts changed"]);
    has(&apply(2).err, &["holds no longer, nothing was done: it was begun by run ", "and a plan is for one run"]);
    diff(0);
    has(
        &bench.infra(&["apply", "--yes", "--plan", "inventory.yml"]).expect(2).err,
        &["is not a plan that can be executed"],
    );
    unchange(bench);
    bench.apply().expect(0);
}

fn drift(bench: &Bench) {
    bench.sh("web2", "echo '# by hand' >>/etc/nginx/nginx.conf; systemctl stop nginx").expect(0);
    bench.sh("lb2", "nft flush ruleset && chmod 666 /etc/haproxy/haproxy.cfg").expect(0);
    let said = bench.infra(&["diff"]).expect(3);
    has(&said.out, &["changed", "/etc/nginx/nginx.conf", "-# by hand", "firewall"]);
    let said = bench.apply().expect(0);
    has(&said.out, &["by someone else", "2 hosts changed, 4 unchanged"]);
    nothing_to_do(bench);
    bench.sh("web2", "systemctl is-active nginx").expect(0);
    bench.sh("lb2", "nft list ruleset | grep -q drop && test $(stat -c %a /etc/haproxy/haproxy.cfg) = 644").expect(0);
    served(bench);
}

fn owed(bench: &Bench) {
    let workers = "cat /proc/$(systemctl show -p MainPID --value nginx)/task/*/children";
    let before = bench.sh("web1", workers).expect(0).out;
    bench.sh("web1", "echo reload >/var/lib/infra/owed/nginx.service").expect(0);
    has(&bench.infra(&["diff"]).expect(3).out, &["nginx.service", "reload, owed by an earlier run"]);
    bench.apply().expect(0);
    assert_ne!(bench.sh("web1", workers).expect(0).out, before, "nginx was not reloaded");
    bench.sh("web1", "test ! -e /var/lib/infra/owed/nginx.service").expect(0);
    nothing_to_do(bench);
}

fn down(bench: &Bench) {
    bench.lab().kill("app2").unwrap();
    let others: [&str; 5] = ["lb1", "lb2", "web1", "web2", "app1"];
    let manifest = |host: &str| bench.sh(host, "cat /var/lib/infra/manifest").expect(0).out;
    let before: Vec<String> = others.iter().map(|h| manifest(h)).collect();
    change(bench);
    let said = bench.apply().expect(4);
    has(&said.err, &["app2", "cannot be reached, so nothing was planned", "--skip-unreachable"]);
    assert!(!said.out.contains("plan for"), "{}", said.out);
    assert_eq!(others.iter().map(|h| manifest(h)).collect::<Vec<_>>(), before);
    let said = bench.infra(&["apply", "--yes", "--skip-unreachable"]).expect(4);
    has(&said.out, &["5 hosts changed", "1 unreachable"]);
    has(&said.err, &["unreachable app2", "--limit failed"]);
    served(bench);
    bench.lab().start("app2").unwrap();
    let said = bench.infra(&["apply", "--yes", "--limit", "failed"]).expect(0);
    has(&said.out, &["1 host changed"]);
    has(&bench.infra(&["apply", "--yes", "--limit", "failed"]).expect(2).err, &["left nothing undone"]);
    has(&bench.infra(&["apply", "--yes", "--limit", "web9"]).expect(2).err, &["web9"]);
    unchange(bench);
    bench.apply().expect(0);
}

/// A small file system over a folder, with the folder's files in it and no room left.
fn fill(bench: &Bench, host: &str, folder: &str) {
    let script = format!(
        "cp -a {folder} /root/full && mount -t tmpfs -o size=2m,mode=$(stat -c %a {folder}) none {folder} && cp -a /root/full/. {folder}/ && \
         {{ dd if=/dev/zero of={folder}/fill bs=4k 2>/dev/null; rm -rf /root/full; }}"
    );
    bench.sh(host, &script).expect(0);
}

fn full_records(bench: &Bench) {
    change(bench);
    let before = picture(bench);
    fill(bench, "web2", "/var/lib/infra");
    let said = bench.apply().expect(1);
    bench.sh("web2", "umount /var/lib/infra").expect(0);
    has(&said.err, &["web2", "No space left on device"]);
    same_picture(&before, &picture(bench));
    unchange(bench);
    nothing_to_do(bench);
}

fn full_etc(bench: &Bench) {
    change(bench);
    fill(bench, "lb1", "/etc/haproxy");
    let before =
        bench.sh("lb1", "cd /etc/haproxy; rm -f fill.x; find . -type f ! -name fill -exec sha256sum {} + | sort").out;
    let said = bench.apply().expect(1);
    // Before any host changes.
    let words = ["failed on lb1 in stage: /etc/haproxy", "No space left on device", "web1, web2: nothing was changed"];
    has(&said.err, &words);
    let after = bench.sh("lb1", "cd /etc/haproxy; find . -type f ! -name fill -exec sha256sum {} + | sort").out;
    assert_eq!(before, after);
    served(bench);
    bench.sh("lb1", "umount /etc/haproxy").expect(0);
    bench.apply().expect(0);
    unchange(bench);
    bench.apply().expect(0);
}

fn interrupted(bench: &Bench) {
    change(bench);
    let newest = "ls -d /var/lib/infra/runs/* | tail -n 1";
    let before = bench.sh("lb1", newest).expect(0).out;
    let run = Run::start(bench);
    let begun = format!("run=$({newest}); [ \"$run\" != '{}' ] && grep -q 'edge begins' $run/journal", before.trim());
    until(bench, "lb1 begins", "lb1", &begun);
    run.signal("INT");
    let said = run.ended();
    assert_eq!(said.code, 130, "{}{}", said.out, said.err);
    has(&said.out, &["interrupted: "]);
    has(
        &said.err,
        &["stopping after the step that is under way", "not reached lb2", "still to do: edge", "next: to go on"],
    );
    has(&bench.apply().expect(0).out, &["1 host changed"]);
    nothing_to_do(bench);
    unchange(bench);
    bench.apply().expect(0);
}

/// `infra` on a terminal of its own; what is typed once `question` is on the screen.
fn at_terminal(bench: &Bench, words: &[&str], question: &str, typed: &[&str]) -> Said {
    let infra = bench.infra_command(words);
    let argv: Vec<&str> =
        std::iter::once(infra.get_program()).chain(infra.get_args()).map(|a| a.to_str().unwrap()).collect();
    let line = shlex::try_join(argv.iter().copied()).unwrap();
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(bench.dir.path()).env("TERM", "dumb");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut asked, mut buffer) = (String::new(), 0, [0; 4096]);
    while let Ok(n @ 1..) = output.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        if seen.matches(question).count() > asked {
            let word = typed.get(asked).or(typed.last()).unwrap();
            asked += 1;
            writeln!(input, "{word}").unwrap();
        }
    }
    Said { code: child.wait().unwrap().code().unwrap_or(-1), out: seen, err: String::new() }
}

fn sudo_password(bench: &Bench) {
    let file = "/etc/sudoers.d/ops";
    for host in ["lb1", "web1"] {
        let script = format!(
            "cp -a {file} /root/sudoers && echo 'ops ALL=(ALL:ALL) ALL' >{file} && echo 'ops:se cret' | chpasswd"
        );
        bench.sh(host, &script).expect(0);
    }
    let words = ["diff", "--limit", "lb1,web1"];
    let said = bench.infra(&words).expect(4);
    has(&said.err, &["sudo", "password"]);
    let said = at_terminal(bench, &words, "sudo password of ops on", &["se cret"]).expect(0);
    has(&said.out, &["nothing to do"]);
    assert!(!said.out.contains("se cret"), "{}", said.out);
    let said = at_terminal(bench, &words, "sudo password of ops on", &["wrong"]).expect(4);
    has(&said.out, &["cannot become root", "password"]);
    for host in ["lb1", "web1"] {
        bench.sh(host, &format!("cp -a /root/sudoers {file} && usermod -p '*' ops")).expect(0);
    }
}

fn no_root(bench: &Bench) {
    // Everything that an ordinary user needs: the program, the inventory, a key and the hosts' keys.
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs_err::copy(env!("CARGO_BIN_EXE_infra"), at("infra")).unwrap();
    fs_err::copy(bench.lab().key(), at("key")).unwrap();
    fs_err::copy(bench.lab().known_hosts(), at("known_hosts")).unwrap();
    let config = format!(
        "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n",
        at("key").display(),
        at("known_hosts").display()
    );
    fs_err::write(at("ssh_config"), config).unwrap();
    let site = THREE_TIER.replace("user: ops", &format!("user: ops\n  config: {}", at("ssh_config").display()));
    fs_err::write(at("inventory.yml"), site).unwrap();
    let copy = format!("cp -a {}/state {}/state", bench.dir.path().display(), home.path().display());
    bench
        .sh("controller", &format!("{copy} && chown -R 65534:65534 {0} && chmod 600 {0}/key", home.path().display()))
        .expect(0);
    let script = format!(
        "cd {} && HOME=$PWD setpriv --reuid=65534 --regid=65534 --clear-groups ./infra diff",
        home.path().display()
    );
    let said = bench.sh("controller", &script).expect(0);
    has(&said.out, &["nothing to do"]);
}

fn roles(bench: &Bench) {
    // web2 becomes a load balancer: its nginx ends, its own files go, foreign ones stay.
    bench.sh("web2", "echo '# not ours' >/etc/nginx/conf.d/foreign.conf").expect(0);
    bench.edit("roles: [web] }\n  app1", "roles: [lb] }\n  app1");
    bench.apply().expect(0);
    nothing_to_do(bench);
    let gone = "! systemctl -q is-active nginx && test ! -e /etc/nginx/conf.d/shop-web-8443.conf && test ! -e /etc/nginx/tls/server.key";
    bench
        .sh("web2", &format!("{gone} && test -e /etc/nginx/conf.d/foreign.conf && systemctl is-active haproxy"))
        .expect(0);
    served(bench);
    bench.edit("roles: [lb] }\n  app1", "roles: [web] }\n  app1");
    bench.apply().expect(0);
    bench
        .sh(
            "web2",
            "systemctl is-active nginx && ! systemctl -q is-active haproxy && rm /etc/nginx/conf.d/foreign.conf",
        )
        .expect(0);
    served(bench);
    // A host that leaves the inventory is left alone.
    let before = picture(bench).pop();
    let line = THREE_TIER.lines().find(|l| l.trim_start().starts_with("app2:")).unwrap();
    bench.edit(&format!("{line}\n"), "");
    bench.apply().expect(0);
    assert_eq!(picture(bench).pop(), before);
    served(bench);
    fs_err::write(bench.inventory(), THREE_TIER.as_str()).unwrap();
    bench.apply().expect(0);
    nothing_to_do(bench);
}

/// A client on the internet's side that asks for the page again and again.
struct Poll {
    child: Child,
}

impl Poll {
    fn start(bench: &Bench) -> Self {
        let ca = bench.sites_ca();
        let script = format!(
            "for i in $(seq 1000); do [ -e /dev/stdin ] || exit; curl -s -o /dev/null --max-time 10 --cacert '{}' -w '%{{http_code}} %{{errormsg}}\\n' {URL} || :; sleep 0.05; done",
            ca.display()
        );
        let target = infra::lab::Target::Outside;
        let mut command = bench.lab().command(&target, ["sh", "-c", &script]).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        Self { child }
    }

    fn end(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[track_caller]
    fn every_answer_good(self) {
        let answers = self.end();
        let bad: Vec<&String> = answers.iter().filter(|l| !l.starts_with("200")).collect();
        assert!(bad.is_empty() && answers.len() > 3, "{} of {} answers: {bad:?}", bad.len(), answers.len());
    }

    /// As `every_answer_good`, but for connections that a dying HAProxy took with it: a new process joins the listening
    /// sockets before it learns that it cannot have all of them, and what waits in its queues by then is reset (HAProxy's
    /// management guide, «Stopping and restarting»). Nothing is answered wrongly, and it serves at the end.
    #[track_caller]
    fn served_on(self) {
        let answers = self.end();
        let bad: Vec<&String> = answers.iter().filter(|l| !l.starts_with("200")).collect();
        let resets = bad.iter().all(|l| l.starts_with("000") && l.contains("reset"));
        let last = answers.iter().rev().take(3).all(|l| l.starts_with("200"));
        let few = bad.len() * 10 <= answers.len();
        assert!(resets && last && few && answers.len() > 3, "{} of {} answers: {bad:?}", bad.len(), answers.len());
    }
}

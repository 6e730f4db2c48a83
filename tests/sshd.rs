//! The SSH transport against a private sshd on loopback: keys, host keys, jumps, sudo, big and broken streams.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infra::base::secret::Secret;
use infra::fleet::files::Files;
use infra::host::known_hosts::KnownHosts;
use infra::host::ssh::{Ask, Become, Bounds, Config, Options, Prompt, SshTransport, Target, presented_keys};
use infra::host::transport::{Script, Transport, TransportError};
use infra::host::trust::trust;
use infra::service::firewall::entries::Entry;

const SSHD: &str = "/usr/sbin/sshd";

fn run(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e} (openssh-client?)"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(path));
}

fn user() -> String {
    run(Command::new("id").arg("-un")).trim().to_owned()
}

/// A server of our own, with its folder.
struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    /// A server with an ed25519 host key and one client key, `extra` in its configuration.
    fn start(extra: &str) -> Self {
        Self::with(extra, |_| {})
    }

    fn with(extra: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::inside(extra, &[], prepare)
    }

    /// The same with files of its folder in place of the machine's, for this server alone.
    fn inside(extra: &str, mounts: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is absent: install the package openssh-server");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        keygen(&path.join("host"), "ed25519", "");
        keygen(&path.join("id"), "ed25519", "");
        fs::copy(path.join("id.pub"), path.join("authorized")).unwrap();
        prepare(path);
        fs::create_dir_all("/run/sshd").unwrap();
        // Another test may take the port between our look and sshd's bind: then try the next one.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "{extra}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized\nPidFile none\n\
                 UsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n\
                 KbdInteractiveAuthentication no\nLogLevel VERBOSE\n",
                d = path.display()
            );
            fs::write(path.join("sshd_config"), config).unwrap();
            let log = fs::File::create(path.join("log")).unwrap();
            let mounts =
                mounts.iter().map(|(file, over)| format!("mount --bind {} {over} && ", path.join(file).display()));
            let mounts = mounts.collect::<Vec<_>>().concat();
            let mut command = if mounts.is_empty() { Command::new(SSHD) } else { Command::new("unshare") };
            if !mounts.is_empty() {
                command.args(["--mount", "sh", "-c", &format!("{mounts}exec {SSHD} \"$@\""), "sh"]);
            }
            let mut child = command
                .args(["-D", "-e", "-f"])
                .arg(path.join("sshd_config"))
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let up = until("sshd listens", || {
                if child.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                fs::read_to_string(path.join("log")).unwrap().contains("Server listening").then_some(true)
            });
            if up {
                let server = Self { dir, port, child };
                server.know(&server.host_line());
                return server;
            }
        }
        panic!("sshd does not start: {}", fs::read_to_string(path.join("log")).unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    fn host_line(&self) -> String {
        let key = fs::read_to_string(self.path("host.pub")).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    fn know(&self, text: &str) {
        fs::write(self.path("known_hosts"), text).unwrap();
    }

    fn target(&self) -> Target {
        let mut target = Target::new("127.0.0.1");
        target.port = Some(self.port);
        target.user = Some(user());
        target.identity = Some(self.path("id"));
        target
    }

    fn options(&self) -> Options {
        Options { config: Config::None, known_hosts: Some(vec![self.path("known_hosts")]), ..Options::default() }
    }

    fn connect(&self) -> Result<SshTransport, TransportError> {
        SshTransport::connect(&self.target(), &self.options())
    }

    /// A configuration for `ssh -F`.
    fn config(&self, extra: &str) -> Config {
        let file = self.path("ssh_config");
        fs::write(&file, format!("UserKnownHostsFile {}\n{extra}\n", self.path("known_hosts").display())).unwrap();
        Config::File(file)
    }
}

/// Seconds for TCP, milliseconds for the keys, seconds for an answer to a login.
fn bounds(connect: u64, handshake: u64, login: u64) -> Bounds {
    let [connect, login] = [connect, login].map(Duration::from_secs);
    Bounds { connect, handshake: Duration::from_millis(handshake), login }
}

fn text(host: &mut dyn Transport, script: &str) -> String {
    let out = host.run(&Script::new("t", script), b"").unwrap();
    assert!(out.ok(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// Gives its answers in turn and counts.
struct Answers(Mutex<Vec<&'static str>>, AtomicUsize);

impl Answers {
    fn new(mut answers: Vec<&'static str>) -> Arc<Self> {
        answers.reverse();
        Arc::new(Self(Mutex::new(answers), AtomicUsize::new(0)))
    }
}

impl Prompt for Answers {
    fn answer(&self, ask: &Ask<'_>) -> Option<Secret> {
        let asked = self.1.fetch_add(1, Ordering::SeqCst);
        let again = match ask {
            Ask::Passphrase { again, .. } | Ask::Sudo { again, .. } | Ask::Password { again, .. } => *again,
            Ask::Question { .. } => asked > 0,
        };
        assert_eq!(again, asked > 0);
        self.0.lock().unwrap().pop().map(|a| Secret::new("asked", a))
    }
}

/// An agent with the given keys.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(dir: &Path, keys: &[PathBuf]) -> Self {
        let socket = dir.join("agent");
        let mut child =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        until("the agent listens", || {
            assert!(child.try_wait().unwrap().is_none());
            std::os::unix::net::UnixStream::connect(&socket).ok().map(drop)
        });
        for key in keys {
            run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket));
        }
        Self { child, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn auth_error(result: Result<SshTransport, TransportError>) -> String {
    match result {
        Err(e @ TransportError::Auth { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    }
}

fn key_error(result: Result<SshTransport, TransportError>) -> String {
    match result {
        Err(TransportError::HostKey(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_script_has_its_stdin_its_outputs_and_its_status() {
    let server = Sshd::start("");
    let mut host = server.connect().unwrap();
    let out = host.run(&Script::new("t", "echo a; cat; echo b >&2; exit 3"), b"\0\xff\n").unwrap();
    assert_eq!((out.status, out.stdout, out.stderr), (3, b"a\n\0\xff\n".to_vec(), b"b\n".to_vec()));
    assert_eq!(text(&mut host, "echo \"[$ROOT] $LC_ALL $PATH\"; umask; pwd"), {
        "[] C /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n0022\n/\n"
    });
    // Neither the script nor its input is ever in an argv.
    assert_eq!(
        text(&mut host, "tr '\\0' ' ' </proc/$PPID/cmdline /proc/self/cmdline | grep -c in_no_arg''v || :"),
        "0\n"
    );
    assert_eq!(host.run(&Script::new("t", "kill -9 $$; sleep 1"), b"").unwrap().status, 137);
    assert_eq!(host.run(&Script::new("t", "exit 5"), &vec![7; 5_000_000]).unwrap().status, 5);
    assert_eq!(text(&mut host, "echo still there"), "still there\n");
    assert!(!server.log().contains("error:"), "{}", server.log());
}

#[test]
fn twenty_megabytes_go_both_ways() {
    let server = Sshd::start("");
    let mut host = server.connect().unwrap();
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let started = Instant::now();
    let script = Script::new("t", "cat; head -c 1000000 /dev/zero >&2").up_to(20_000_000);
    let out = host.run(&script, &bytes).unwrap();
    assert!(out.stdout == bytes && out.stderr.len() == 1_000_000 && out.ok());
    println!("20 MB in, 21 MB out: {:?}", started.elapsed());
}

#[test]
fn an_answer_without_end_is_cut_off_and_so_is_its_host() {
    let server = Sshd::start("");
    for (text_of, limit) in [
        ("cat /dev/zero", "more than 1 MiB"),
        ("yes", "more than 1 MiB"),
        ("cat /dev/zero >&2", "more than 1 MiB"),
        ("while :; do cat /dev/zero; done", "more than 1 MiB"),
    ] {
        let mut host = server.connect().unwrap();
        let began = Instant::now();
        let error = host.run(&Script::new("endless", text_of).up_to(1 << 20), b"").unwrap_err();
        assert!(matches!(error, TransportError::TooMuch { .. }), "{text_of}: {error:?}");
        assert!(error.to_string().contains("`endless`") && error.to_string().contains(limit), "{error}");
        // What it still sends is not taken for the next answer.
        assert_eq!(host.run(&Script::new("t", "echo x"), b"").unwrap_err(), error);
        drop(host);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    let mut host = server.connect().unwrap();
    let held = host.hold(&Script::new("held", "tr '\\0' x </dev/zero").up_to(1 << 20)).unwrap_err();
    assert!(matches!(held, TransportError::TooMuch { .. }), "{held:?}");
    assert_eq!(text(&mut server.connect().unwrap(), "echo x"), "x\n");
}

/// The site of hosts that are all this machine, each by a name, an address and its own server.
fn site_of<'s>(hosts: impl IntoIterator<Item = (String, String, &'s Sshd)>) -> infra::inventory::site::Site {
    let lines: Vec<String> = hosts
        .into_iter()
        .map(|(name, address, server)| {
            let Config::File(config) = server.config("") else { panic!() };
            format!(
                "  {name}: {{ address: {address}, roles: [db], ssh: {{ user: {}, address: 127.0.0.1, port: {}, identity: \"{}\", config: \"{}\" }} }}\n",
                user(),
                server.port,
                server.path("id").display(),
                config.display()
            )
        })
        .collect();
    let inventory = format!("name: shop\nfirewall: {{ manage_from: 10.0.0.0/24 }}\nhosts:\n{}", lines.concat());
    let (site, _) = infra::inventory::load::load_text(&inventory, Path::new("x/inventory.yml"))
        .unwrap_or_else(|e| panic!("{}", infra::base::diagnostic::draw(&e, false)));
    site
}

/// Asks all hosts of a site, of which nothing is wanted.
fn asked(
    site: &infra::inventory::site::Site,
    connector: &infra::fleet::connect::SshConnector,
    parallel: usize,
) -> infra::fleet::survey::Survey {
    let (events, _told) = std::sync::mpsc::channel();
    infra::fleet::survey::ask(
        infra::service::ALL,
        site.hosts.values(),
        (&std::collections::BTreeMap::default(), None),
        connector,
        parallel,
        &events,
    )
}

#[test]
fn one_host_without_end_and_the_others_go_on() {
    let good = Sshd::start("");
    // A profile of the shell that prints for ever, before any script of ours is read.
    let bad = Sshd::start("ForceCommand cat /dev/zero");
    let hosts = [("a", "10.0.0.1", &good), ("b", "10.0.0.2", &bad), ("c", "10.0.0.3", &good)];
    let site = site_of(hosts.map(|(name, address, server)| (name.to_owned(), address.to_owned(), server)));
    let known = ["known_hosts"].iter().flat_map(|file| [good.path(file), bad.path(file)]).collect();
    let connector = infra::fleet::connect::SshConnector::new(None).known_hosts(known);
    let survey = asked(&site, &connector, 8);
    let names = |keys: Vec<String>| keys.join(" ");
    assert_eq!(names(survey.observed.keys().map(ToString::to_string).collect()), "a c", "{:?}", survey.unreachable);
    let (host, error) = survey.unreachable.first_key_value().unwrap();
    assert!(host.as_str() == "b" && matches!(error, TransportError::TooMuch { .. }), "{error:?}");
}

#[test]
fn more_hosts_than_descriptors_are_all_asked_and_asked_again() {
    const HOSTS: usize = 14;
    let server = Sshd::start("");
    let site = site_of((0..HOSTS).map(|n| (format!("h{n}"), format!("10.0.0.{}", n + 1), &server)));
    let connect = || infra::fleet::connect::SshConnector::new(None).known_hosts(vec![server.path("known_hosts")]);
    // This process runs this test alone. What is open already stays; beside it there is room for fewer files than hosts.
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = |current| {
        let limit = rustix::process::Rlimit { current, maximum: before.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    };
    limit(Some(open + HOSTS as u64 - 3));
    let all_kept = asked(&site, &connect(), 2).unreachable.len();
    let connector = connect().keeping(3);
    let mut survey = asked(&site, &connector, 2);
    let again = survey.sessions.values_mut().map(|session| text(session.as_mut(), "echo again"));
    let again: Vec<String> = again.collect();
    limit(before.current);
    assert!(all_kept > 0, "this test has enough files for all hosts, and shows nothing");
    assert!(survey.unreachable.is_empty(), "{:?}", survey.unreachable);
    assert_eq!(again, vec!["again\n"; HOSTS]);
}

/// As for a run that changes so many hosts, with as few descriptors as it asks for.
#[test]
fn where_hosts_are_held_a_new_login_to_each_fits_beside() {
    let server = Sshd::start("MaxStartups 200");
    // Without the folder that is read.
    let open = || fs::read_dir("/proc/self/fd").unwrap().count() - 1;
    let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = |files: usize| {
        let limit = rustix::process::Rlimit { current: Some(files as u64), maximum: before.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    };
    let login = |connector: &infra::fleet::connect::SshConnector, host: &infra::inventory::site::Host| {
        infra::fleet::survey::Connector::connect(connector, host)
            .and_then(|mut new| new.run(&Script::new("confirm", "echo new"), b""))
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (most, held, at_once) in [(64, 20, Some(1)), (64, 30, None), (128, 40, Some(8)), (128, 100, None)] {
        let files = Files::of(most);
        let share = files.beside(held, 8);
        assert_eq!(share.map(|share| share.at_once), at_once, "{most} {held}");
        let Some(share) = share else { continue };
        let site = site_of((0..held).map(|n| (format!("h{n}"), format!("10.0.0.{}", n + 1), &server)));
        let connector = infra::fleet::connect::SshConnector::new(None).known_hosts(vec![server.path("known_hosts")]);
        let connector = connector.keeping(files.kept(8));
        // What stands open already is in no sum; what the program needs beside hosts is not needed here.
        let (own, beside) = (open(), Files::enough(0, 0));
        limit(own + most - beside);
        let mut survey = asked(&site, &connector, 4);
        connector.keep(share.kept);
        let hold = |session: &mut Box<dyn Transport>| session.hold(&Script::new("lock", "echo locked; cat >/dev/null"));
        let locks: Vec<_> = survey.sessions.values_mut().map(hold).collect();
        limit(own + Files::enough(held, share.at_once) - beside);
        let entries = (1..=9).map(|n| Entry {
            address: format!("127.0.0.{n}").parse().unwrap(),
            port: server.port.to_string().parse().unwrap(),
            flow: "a -> b".into(),
            open: true,
        });
        let entries = entries.collect();
        let said = infra::fleet::run::each(site.hosts.values().collect(), share.at_once, |host| {
            let reached = infra::host::reach::open(&entries).len();
            (reached, login(&connector, host))
        });
        // The same without room for a login; that it waits for room takes a while.
        limit(own + held);
        let short = (most == 64).then(|| login(&connector, site.hosts.values().next().unwrap()));
        limit(usize::try_from(before.current.unwrap_or(1 << 16)).unwrap());
        assert!(survey.unreachable.is_empty(), "{:?}", survey.unreachable);
        assert!(locks.iter().all(Result::is_ok), "{locks:?}");
        // The server listens at one of the addresses alone.
        assert!(said.iter().all(|(reached, new)| *reached == 1 && *new == Ok("new\n".to_owned())), "{said:?}");
        assert!(short.is_none_or(|new| new.is_err()), "this test has enough files, and shows nothing");
    }
}

#[test]
fn a_greeting_without_end_is_cut_off() {
    let cases = [
        ("lines before the greeting", "", "who are you?\r\n"),
        ("one line before the greeting", "", "xxxxxxxxxxxxxxxx"),
        ("no key exchange", "SSH-2.0-x\r\n", "\0\0\0\x0c\x04\x02\0\0\0\0\0\0\0\0\0\0"),
        ("no packets", "SSH-2.0-x\r\n", "\0"),
    ];
    // Each mostly waits, so they do it at the same time; the scope fails where one of them did.
    std::thread::scope(|scope| {
        for (what, greeting, again) in cases {
            scope.spawn(move || is_cut_off(what, greeting, again));
        }
    });
}

/// A server that says `greeting` and then `again` for as long as somebody listens.
fn is_cut_off(what: &str, greeting: &'static str, again: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        peer.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = peer.write_all(greeting.as_bytes());
        let many = again.repeat(1000);
        // Not for ever: a test that fails should end too.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) && peer.write_all(many.as_bytes()).is_ok() {}
    });
    let mut target = Target::new("127.0.0.1");
    target.port = Some(port);
    let bounds = Some(bounds(10, 1000, 20));
    let options =
        Options { config: Config::None, known_hosts: Some(Vec::new()), bounds, retries: 0, ..Options::default() };
    let began = Instant::now();
    let error = SshTransport::connect(&target, &options).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{what}: {:?} {error}", began.elapsed());
    assert!(matches!(error, TransportError::Unreachable { .. } | TransportError::Setup(_)), "{what}: {error:?}");
    println!("{what}: {error}");
    server.join().unwrap();
}

#[test]
fn keys_are_exchanged_anew_in_the_middle_of_a_stream() {
    let server = Sshd::start("RekeyLimit 1M\nLogLevel DEBUG1");
    let mut host = server.connect().unwrap();
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let out = host.run(&Script::new("t", "cat").up_to(8_000_000), &bytes).unwrap();
    assert!(out.stdout == bytes && out.ok());
    assert!(server.log().matches("SSH2_MSG_NEWKEYS received").count() > 3, "{}", server.log());
    assert_eq!(text(&mut host, "echo x"), "x\n");
}

#[test]
fn a_waiting_connection_costs_no_time() {
    let server = Sshd::start("");
    let mut host = server.connect().unwrap();
    let mine = || -> u64 {
        // Fields 14 and 15 of proc(5) stat of this thread: ticks in user and kernel mode.
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = mine();
    // The window is full all the time, and some output comes.
    let out =
        host.run(&Script::new("t", "for n in 1 2 3 4; do sleep 0.5; echo $n; done"), &vec![0; 5_000_000]).unwrap();
    assert_eq!(out.stdout, b"1\n2\n3\n4\n");
    assert!(mine() - before < 30, "{} ticks", mine() - before);
}

#[test]
fn a_late_script_is_ended_by_the_host_and_the_connection_goes_on() {
    let server = Sshd::start("");
    let mut host = server.connect().unwrap();
    let slow = Script::new("slow", "sleep 30").within(Duration::from_millis(300));
    let started = Instant::now();
    assert!(matches!(host.run(&slow, b""), Err(TransportError::Ended { .. })));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(text(&mut host, "echo x"), "x\n");
    // A script that reads nothing: the time-out comes in the middle of a write.
    let deaf = Script::new("deaf", "sleep 30").within(Duration::from_millis(500));
    assert!(matches!(host.run(&deaf, &vec![0; 50_000_000]), Err(TransportError::Ended { .. })));
    let after = host.run(&Script::new("t", "echo x"), b"");
    assert!(
        matches!(&after, Ok(o) if o.stdout == b"x\n") || matches!(&after, Err(TransportError::Lost(_))),
        "{after:?}"
    );
}

#[test]
fn a_held_script_lives_as_long_as_its_value() {
    let server = Sshd::start("");
    let lock = Script::new(
        "lock",
        format!(
            "exec 9>{}; flock -n 9 || {{ echo taken >&2; exit 1; }}; echo mine; cat >/dev/null",
            server.path("lock").display()
        ),
    );
    let (mut first, mut second) = (server.connect().unwrap(), server.connect().unwrap());
    let (line, hold) = first.hold(&lock).unwrap();
    assert_eq!(line, "mine");
    assert!(second.hold(&lock).unwrap_err().to_string().contains("taken"));
    assert_eq!(text(&mut first, "echo x"), "x\n");
    drop(hold);
    let (_, hold) = second.hold(&lock).unwrap();
    drop(second);
    until("the lock is free after the connection", || first.hold(&lock).ok());
    drop(hold);
    let late = Script::new("silent", "cat").within(Duration::from_millis(300));
    assert!(matches!(first.hold(&late), Err(TransportError::Timeout { .. })));
}

#[test]
fn a_lost_connection_is_told_from_a_late_one() {
    let server = Sshd::start("");
    let mut host = server.connect().unwrap();
    let started = Instant::now();
    // One of the shell's parents is the server's process of this connection.
    let kill = "p=$$; until [ \"$(cat /proc/$p/comm)\" = sshd ]; do p=$(cut -d ' ' -f 4 /proc/$p/stat); done; kill -9 $p; sleep 30";
    let result = host.run(&Script::new("t", kill), b"");
    assert!(matches!(result, Err(TransportError::Lost(_))), "{result:?}");
    assert!(matches!(host.run(&Script::new("t", "true"), b""), Err(TransportError::Lost(_))));
    drop(host);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn encrypted_keys_ask_and_wrong_answers_may_be_corrected() {
    let server = Sshd::with("", |dir| {
        keygen(&dir.join("locked"), "ed25519", "open sesame");
        fs::copy(dir.join("locked.pub"), dir.join("authorized")).unwrap();
    });
    let mut target = server.target();
    target.identity = Some(server.path("locked"));
    let error = auth_error(SshTransport::connect(&target, &server.options()));
    assert!(error.contains("encrypted") && error.contains("ssh-add"), "{error}");
    let prompt = Answers::new(vec!["wrong", "open sesame"]);
    let mut options = server.options();
    options.prompt = Some(prompt.clone());
    let mut host = SshTransport::connect(&target, &options).unwrap();
    assert_eq!(text(&mut host, "id -u"), "0\n");
    assert_eq!(prompt.1.load(Ordering::SeqCst), 2);
    options.prompt = Some(Answers::new(vec!["a", "b", "c"]));
    assert!(auth_error(SshTransport::connect(&target, &options)).contains("passphrase is wrong"));
}

/// By the rule of `ssh`, which is asked too: what is our own and others may read is not used, and the next key is tried.
#[test]
fn a_private_key_that_others_may_read_is_not_used() {
    let server = Sshd::start("");
    fs::copy(server.path("id"), server.path("open")).unwrap();
    let mode = |mode| fs::set_permissions(server.path("open"), fs::Permissions::from_mode(mode)).unwrap();
    let mut target = server.target();
    target.identity = Some(server.path("open"));
    for (bits, used) in [(0o600, true), (0o400, true), (0o700, true), (0o644, false), (0o640, false), (0o604, false)] {
        mode(bits);
        let options = server.options();
        let ours = SshTransport::connect(&target, &options);
        assert_eq!(ours.is_ok(), used, "{bits:o}");
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i"]);
        ssh.arg(server.path("open"))
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", server.path("known_hosts").display()));
        ssh.args(["-p", &server.port.to_string(), "-l", &user(), "127.0.0.1", "true"]).stdin(Stdio::null());
        assert_eq!(ssh.output().unwrap().status.success(), used, "ssh, {bits:o}");
        if !used {
            let error = auth_error(ours);
            let words =
                format!("is not used, as for `ssh`: its mode is {bits:04o}, so others may read it; `chmod 600 ");
            assert!(error.contains(&words), "{error}");
            assert!(options.notes.lock().unwrap().keys().any(|note| note.contains(&words)));
        }
    }
    // The next one is: that the first is left is told all the same.
    let mut options = server.options();
    let keys =
        format!("IdentityFile {}\nIdentityFile {}\n", server.path("open").display(), server.path("id").display());
    options.config = server.config(&keys);
    target.identity = None;
    SshTransport::connect(&target, &options).unwrap();
    assert!(options.notes.lock().unwrap().keys().any(|note| note.contains("its mode is 0604")));
}

#[test]
fn other_types_of_keys_log_in() {
    let kinds = ["rsa", "ecdsa"];
    let server = Sshd::with("", |dir| {
        let mut all = String::new();
        for kind in kinds {
            keygen(&dir.join(kind), kind, "");
            all += &fs::read_to_string(dir.join(format!("{kind}.pub"))).unwrap();
        }
        fs::write(dir.join("authorized"), all).unwrap();
    });
    for kind in kinds {
        let mut target = server.target();
        target.identity = Some(server.path(kind));
        SshTransport::connect(&target, &server.options()).unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    let error = auth_error(server.connect());
    assert!(error.contains("/id: refused"), "{error}");
    let mut target = server.target();
    target.identity = Some(server.path("nothing"));
    let error = auth_error(SshTransport::connect(&target, &server.options()));
    assert!(error.contains("nothing: it does not exist"), "{error}");
}

#[test]
fn of_an_agent_with_many_keys_only_the_configured_one_is_offered() {
    let server = Sshd::with("MaxAuthTries 3", |dir| {
        for n in 0..8 {
            keygen(&dir.join(format!("other{n}")), "ed25519", "");
        }
    });
    let mut keys: Vec<PathBuf> = (0..8).map(|n| server.path(&format!("other{n}"))).collect();
    keys.push(server.path("id"));
    let agent = Agent::start(server.dir.path(), &keys);
    let mut options = server.options();
    // Only the agent has the private key; its public half says which one.
    fs::rename(server.path("id"), server.path("gone")).unwrap();
    options.config = server.config(&format!("IdentityAgent {}\n", agent.socket.display()));
    let mut host = SshTransport::connect(&server.target(), &options).unwrap();
    assert_eq!(text(&mut host, "echo in"), "in\n");
    let mut target = server.target();
    target.identity = Some(server.path("id.pub"));
    SshTransport::connect(&target, &options).unwrap();
    // As the configuration's identity it comes first, before the other keys of the agent.
    target.identity = None;
    options = server.options();
    options.config = server.config(&format!(
        "IdentityAgent {}\nIdentityFile {}\n",
        agent.socket.display(),
        server.path("id").display()
    ));
    SshTransport::connect(&target, &options).unwrap();
    options = server.options();
    options.config = server.config(&format!("IdentityAgent {}\nIdentityFile /nonexistent\n", agent.socket.display()));
    let error = auth_error(SshTransport::connect(&target, &options));
    assert!(error.contains("MaxAuthTries") && error.contains("ssh.identity"), "{error}");
}

#[test]
fn a_silent_agent_is_left_alone() {
    let server = Sshd::start("");
    let socket = server.path("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut options = server.options();
    options.config = server.config(&format!("IdentityAgent {}\n", socket.display()));
    let started = Instant::now();
    SshTransport::connect(&server.target(), &options).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn host_keys_are_checked() {
    let server = Sshd::with("", |dir| {
        keygen(&dir.join("evil"), "ed25519", "");
        keygen(&dir.join("rsa"), "rsa", "");
    });
    let read = |name: &str| fs::read_to_string(server.path(name)).unwrap();
    let name = format!("[127.0.0.1]:{}", server.port);
    let print = run(Command::new("ssh-keygen").arg("-lf").arg(server.path("host.pub")));
    let print = print.split(' ').nth(1).unwrap().to_owned();

    server.know("");
    let error = key_error(server.connect());
    assert!(error.contains("is not known") && error.contains(&print), "{error}");
    assert!(error.contains(&format!("infra trust 127.0.0.1 --fingerprint {print}")), "{error}");

    server.know(&format!("# comment\n{name} {}", read("evil.pub")));
    let error = key_error(server.connect());
    assert!(error.contains("has changed") && error.contains("known_hosts:2") && error.contains(&print), "{error}");

    server.know(&format!("{name} {}@revoked * {}", read("host.pub"), read("host.pub")));
    let error = key_error(server.connect());
    assert!(error.contains("revoked") && error.contains("known_hosts:2"), "{error}");

    server.know(&server.host_line());
    let mut options;
    for name in ["host", "evil"] {
        let (list, key) = (server.path(&format!("{name}.krl")), server.path(&format!("{name}.pub")));
        run(Command::new("ssh-keygen").args(["-q", "-k", "-f"]).arg(list).arg(key));
    }
    for (listed, refused) in [("host.pub", true), ("evil.pub", false), ("host.krl", true), ("evil.krl", false)] {
        options = server.options();
        options.config = server.config(&format!("RevokedHostKeys {}\n", server.path(listed).display()));
        let result = SshTransport::connect(&server.target(), &options);
        assert_eq!(matches!(&result, Err(TransportError::HostKey(t)) if t.contains("revoked")), refused, "{result:?}");
    }

    server.know(&format!("{name} {}", read("rsa.pub")));
    let error = key_error(server.connect());
    assert!(error.contains("is not known") && error.contains("of type ssh-rsa"), "{error}");

    server.know(&server.host_line());
    run(Command::new("ssh-keygen").arg("-q").arg("-H").arg("-f").arg(server.path("known_hosts")));
    assert!(read("known_hosts").starts_with("|1|"));
    server.connect().unwrap();

    // Nobody logs in and nothing runs before the key is accepted.
    assert_eq!(server.log().matches("Accepted publickey").count(), 3);
}

#[test]
fn of_several_host_keys_the_known_one_is_asked_for() {
    let server = Sshd::with("", |dir| keygen(&dir.join("second"), "ecdsa", ""));
    drop(server);
    let dir = tempfile::tempdir().unwrap();
    keygen(&dir.path().join("rsa"), "rsa", "");
    let server = Sshd::start(&format!("HostKey {}", dir.path().join("rsa").display()));
    let rsa = fs::read_to_string(dir.path().join("rsa.pub")).unwrap();
    server.know(&format!("[127.0.0.1]:{} {rsa}", server.port));
    assert_eq!(server.connect().unwrap().host_key().kind(), "ssh-rsa");
    let (_, keys) = presented_keys(&server.target(), &server.options()).unwrap();
    let kinds: Vec<&str> = keys.iter().map(infra::host::known_hosts::HostKey::kind).collect();
    assert_eq!(kinds, ["ssh-ed25519", "ssh-rsa"]);
}

#[test]
fn a_host_with_a_certificate_is_known_by_its_plain_key() {
    let authority = tempfile::tempdir().unwrap();
    let ca = authority.path().join("ca");
    keygen(&ca, "ed25519", "");
    let certificate = authority.path().join("host-cert.pub");
    let server = Sshd::with(&format!("HostCertificate {}", certificate.display()), |dir| {
        run(Command::new("ssh-keygen")
            .args(["-q", "-h", "-I", "h", "-n", "127.0.0.1", "-s"])
            .arg(&ca)
            .arg(dir.join("host.pub")));
        fs::copy(dir.join("host-cert.pub"), &certificate).unwrap();
    });
    server.connect().unwrap();
    let line = fs::read_to_string(authority.path().join("ca.pub")).unwrap();
    server.know(&format!("@cert-authority * {line}"));
    let error = key_error(server.connect());
    assert!(error.contains("@cert-authority") && error.contains("known_hosts:1"), "{error}");
}

#[test]
fn trust_writes_the_line_that_lets_us_in() {
    let server = Sshd::start("");
    server.know("# mine, no newline");
    let file = server.path("known_hosts");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let (to, keys) = presented_keys(&server.target(), &server.options()).unwrap();
    let (name, port) = to.key_name();
    assert!(trust(&file, name, port, &keys[0], "SHA256:AAAA").unwrap_err().to_string().contains("nothing was written"));
    assert!(server.connect().is_err());
    trust(&file, name, port, &keys[0], &keys[0].fingerprint()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::read_to_string(&file).unwrap().starts_with("# mine, no newline\n[127.0.0.1]:"));
    server.connect().unwrap();
}

#[test]
fn a_changed_key_takes_the_place_of_the_old_one_and_a_revoked_one_is_refused() {
    let server = Sshd::with("", |dir| keygen(&dir.join("former"), "ed25519", ""));
    let (to, keys) = presented_keys(&server.target(), &server.options()).unwrap();
    let (name, port) = to.key_name();
    let (key, file) = (&keys[0], server.path("known_hosts"));
    let former = fs::read_to_string(server.path("former.pub")).unwrap();
    let full = format!("[{name}]:{port}");
    let write = |text: &str| fs::write(&file, text).unwrap();
    // By its name, with a neighbour on the line, by a pattern, and hashed as ssh-keygen does it.
    let hashed = {
        let other = server.path("hashed");
        fs::write(&other, format!("{full} {former}")).unwrap();
        run(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&other));
        fs::read_to_string(other).unwrap()
    };
    for (line, stays) in [
        (format!("{full} {former}"), String::new()),
        (format!("{full},db1 {former}"), format!("db1 {former}")),
        (format!("[{name}]:* {former}"), format!("!{full},[{name}]:* {former}")),
        (hashed, String::new()),
    ] {
        write(&format!("# mine\n{line}db2 {former}"));
        let error = key_error(server.connect());
        assert!(
            error.contains("has changed") && error.contains(&format!("--fingerprint {}", key.fingerprint())),
            "{error}"
        );
        trust(&file, name, port, key, &key.fingerprint()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("# mine\n{stays}db2 {former}{full} {key}\n"));
        server.connect().unwrap();
        // The old key is not trusted any more, by ours or by ssh's own reading.
        let old = infra::host::known_hosts::HostKey::new(
            data_encoding::BASE64.decode(former.split(' ').nth(1).unwrap().as_bytes()).unwrap(),
        );
        let known = KnownHosts::read(std::slice::from_ref(&file)).unwrap();
        assert!(matches!(known.lookup(name, port, &old), infra::host::known_hosts::Verdict::Changed { .. }));
        let found = run(Command::new("ssh-keygen").args(["-F", &full, "-f"]).arg(&file));
        assert_eq!(found.matches("ssh-ed25519").count(), 1, "{found}");
    }
    let before = format!("@revoked * {key}\n{full} {former}");
    write(&before);
    let error = trust(&file, name, port, key, &key.fingerprint()).unwrap_err().to_string();
    assert!(error.contains("@revoked") && error.contains(":1"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn the_verb_trust_names_the_old_key_first() {
    let server = Sshd::with("", |dir| keygen(&dir.join("former"), "ed25519", ""));
    let (_, keys) = presented_keys(&server.target(), &server.options()).unwrap();
    let former = fs::read_to_string(server.path("former.pub")).unwrap();
    let global = server.path("global");
    let Config::File(config) = server.config(&format!("GlobalKnownHostsFile {}", global.display())) else { panic!() };
    let inventory = server.path("inventory.yml");
    fs::write(
        &inventory,
        format!(
            "name: shop\nssh: {{ config: \"{}\" }}\nfirewall: {{ manage_from: 10.0.0.0/24 }}\nhosts:\n  db1: {{ address: 10.0.0.1, \
             roles: [db], ssh: {{ user: root, address: 127.0.0.1, port: {} }} }}\n",
            config.display(),
            server.port
        ),
    )
    .unwrap();
    let infra = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infra"));
        let out = command.args(["trust", "db1"]).arg(&inventory).args(more).stdin(Stdio::null()).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let line = format!("[127.0.0.1]:{} {former}", server.port);
    server.know(&format!("# mine\n{line}"));
    fs::write(&global, format!("{line}@cert-authority * {former}")).unwrap();
    let print = keys[0].fingerprint();
    // Nobody confirms: the old key is named, nothing is written.
    let (code, said) = infra(&[]);
    assert!(code == 2 && said.contains(&format!("{}:2", server.path("known_hosts").display())), "{said}");
    assert!(fs::read_to_string(server.path("known_hosts")).unwrap().ends_with(&line));
    let (code, said) = infra(&["--fingerprint", &print]);
    assert!(code == 0 && said.matches("is known by another ssh-ed25519 key, SHA256:").count() == 2, "{said}");
    assert_eq!(fs::read_to_string(&global).unwrap(), format!("@cert-authority * {former}"));
    assert!(fs::read_to_string(server.path("known_hosts")).unwrap().ends_with(&format!("{}\n", keys[0])));
    let (code, said) = infra(&["--fingerprint", &print]);
    assert!(code == 0 && !said.contains("another"), "{said}");
    // Who asks again is asked nothing.
    let (code, said) = infra(&[]);
    assert!(code == 0 && said.contains("db1 is known already by its ssh-ed25519 key"), "{said}");
    server.know(&format!("@revoked * {}\n", keys[0]));
    let (code, said) = infra(&["--fingerprint", &print]);
    assert!(code == 2 && said.contains("is revoked: marked `@revoked` in"), "{said}");
    server.know("");
    fs::write(server.path("revoked"), format!("{}\n", keys[0])).unwrap();
    let revoked = server.config(&format!("RevokedHostKeys {}", server.path("revoked").display()));
    let (code, said) = infra(&["--fingerprint", &print]);
    assert!(code == 2 && said.contains("is revoked: listed in") && matches!(revoked, Config::File(_)), "{said}");
    assert_eq!(fs::read_to_string(server.path("known_hosts")).unwrap(), "");
}

/// Who has told `ssh` to keep no keys is told where one could be kept, before any command that would refuse.
#[test]
fn a_configuration_that_keeps_no_host_keys_is_named_with_the_way_out() {
    let server = Sshd::start("");
    for (keeps, why) in [("/dev/null", "`/dev/null`, keeps none"), ("none", "is `none`")] {
        let file = server.path("ssh_config");
        fs::write(&file, format!("UserKnownHostsFile {keeps}\nGlobalKnownHostsFile none\n")).unwrap();
        let options = Options { config: Config::File(file), ..Options::default() };
        let error = key_error(SshTransport::connect(&server.target(), &options));
        for words in ["is not known", why, "set `UserKnownHostsFile` to a file of yours", "infra trust"] {
            assert!(error.contains(words), "{keeps}: {words}: {error}");
        }
    }
}

#[test]
fn our_known_hosts_agrees_with_ssh_keygen() {
    let dir = tempfile::tempdir().unwrap();
    keygen(&dir.path().join("k"), "ed25519", "");
    let key = fs::read_to_string(dir.path().join("k.pub")).unwrap();
    let blob = infra::host::known_hosts::HostKey::new(
        data_encoding::BASE64.decode(key.split(' ').nth(1).unwrap().as_bytes()).unwrap(),
    );
    let patterns = [
        "web1",
        "web?",
        "*.example.com,!bad.example.com",
        "!bad.example.com,*.example.com",
        "[web1]:2222",
        "[*]:2222",
        "WEB1",
        "10.0.0.*",
        "fd00::1",
        "[fd00::1]:2222",
        "a,b,web1",
        "*",
        "!web1",
        "web1,",
        "we*1*",
        "**",
        "w**1",
        "",
    ];
    let hosts = ["web1", "web2", "good.example.com", "bad.example.com", "example.com", "10.0.0.7", "fd00::1", "b"];
    let file = dir.path().join("known_hosts");
    for hashed in [false, true] {
        for pattern in patterns {
            fs::write(&file, format!("{pattern} {key}")).unwrap();
            if hashed {
                let _ = Command::new("ssh-keygen").arg("-q").arg("-H").arg("-f").arg(&file).output().unwrap();
            }
            let text = fs::read_to_string(&file).unwrap();
            let known = KnownHosts::parse([(file.as_path(), text.as_str())]);
            for host in hosts {
                for port in [22, 2222] {
                    let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
                    let found = Command::new("ssh-keygen").arg("-F").arg(&name).arg("-f").arg(&file).output().unwrap();
                    let theirs = !found.stdout.is_empty();
                    // At an unusual port ours, as ssh itself, also takes the name without it.
                    let plain = Command::new("ssh-keygen").arg("-F").arg(host).arg("-f").arg(&file).output().unwrap();
                    let ours = known.lookup(host, port, &blob) == infra::host::known_hosts::Verdict::Trusted;
                    assert_eq!(
                        ours,
                        theirs || !plain.stdout.is_empty(),
                        "{name} with `{pattern}`, hashed {hashed}: {text}"
                    );
                    assert_eq!(!known.about(host, port).key_types().is_empty(), ours);
                }
            }
        }
    }
}

#[test]
fn a_jump_leads_through_another_server() {
    let (server, jump) = (Sshd::start(""), Sshd::start(""));
    let mut target = server.target();
    target.jump = Some(format!("{}@127.0.0.1:{}", user(), jump.port));
    let mut options = server.options();
    let both = format!("{}{}", server.host_line(), jump.host_line());
    server.know(&both);
    options.config = server.config(&format!("IdentityFile {}\nIdentitiesOnly yes\n", jump.path("id").display()));
    let mut host = SshTransport::connect(&target, &options).unwrap();
    assert_eq!(text(&mut host, "echo through"), "through\n");
    let bytes = vec![b'x'; 3_000_000];
    assert!(host.run(&Script::new("t", "cat"), &bytes).unwrap().stdout == bytes);
    assert!(jump.log().contains("Accepted publickey"));
    drop(host);
    until("the jump's child is gone", || {
        let children = run(Command::new("ps").args(["-o", "args=", "--ppid"]).arg(std::process::id().to_string()));
        (!children.contains(&format!("-W 127.0.0.1:{}", server.port))).then_some(())
    });
    // The jump's own words when it refuses.
    server.know(&server.host_line());
    let error = SshTransport::connect(&target, &Options { retries: 0, ..options }).unwrap_err();
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("Host key verification failed"), "{error}");
}

#[test]
fn a_port_without_a_listener_and_one_that_says_nothing() {
    let server = Sshd::start("");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut target = server.target();
    target.port = Some(free);
    let started = Instant::now();
    let error = SshTransport::connect(&target, &server.options()).unwrap_err();
    assert!(error.to_string().contains("nothing listens there"), "{error}");
    assert!(error.is_unreachable() && started.elapsed() < Duration::from_secs(5));

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    target.port = Some(silent.local_addr().unwrap().port());
    let options = Options { bounds: Some(bounds(1, 500, 20)), ..server.options() };
    let error = SshTransport::connect(&target, &options).unwrap_err();
    assert!(matches!(&error, TransportError::Unreachable { reason, .. } if reason.contains("greeting")), "{error:?}");

    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    target.port = Some(rude.local_addr().unwrap().port());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = rude.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let mut rest = Vec::new();
        let _ = TcpStream::read_to_end(&mut stream, &mut rest);
    });
    let error = SshTransport::connect(&target, &Options { retries: 0, ..options }).unwrap_err();
    assert!(matches!(&error, TransportError::Unreachable { .. }), "{error:?}");
    drop(thread);

    target.address = Some("no-such-host.invalid".into());
    assert!(matches!(SshTransport::connect(&target, &server.options()), Err(TransportError::Resolve { .. })));
}

#[test]
fn real_sudo_without_a_password() {
    let server = Sshd::start("");
    let mut target = server.target();
    target.become_root = Become::Sudo;
    let mut host = SshTransport::connect(&target, &server.options()).unwrap();
    assert_eq!(text(&mut host, "id -u; [ -n \"$SUDO_USER\" ] && echo sudo"), "0\nsudo\n");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    assert!(host.run(&Script::new("t", "cat"), &bytes).unwrap().stdout == bytes);
}

/// A stand-in for sudo in front of the server's `PATH`: asks for `sesame` three times, as the real one does with `-S`.
fn fake_sudo(server_dir: &Path, asks: bool) {
    let ask = r#"
tries=0
while [ $tries -lt 3 ]; do
  printf %s "$prompt" >&2
  read -r word || { echo "sudo: no password was provided" >&2; exit 1; }
  [ "$word" = "se same" ] && break
  tries=$((tries + 1)); echo "Sorry, try again." >&2
done
[ $tries -lt 3 ] || { echo "sudo: 3 incorrect password attempts" >&2; exit 1; }
"#;
    let body = format!(
        "#!/bin/sh\nprompt=; silent=\nwhile :; do case $1 in -n) silent=1; shift;; -S) shift;; -p) prompt=$2; shift 2;; --) shift; break;; *) exit 9;; esac; done\n\
         {}\nexec \"$@\"\n",
        if asks {
            format!("[ -z \"$silent\" ] || {{ echo 'sudo: a password is required' >&2; exit 1; }}\n{ask}")
        } else {
            String::new()
        }
    );
    let bin = server_dir.join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("sudo"), body).unwrap();
    fs::set_permissions(bin.join("sudo"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn sudo_with_a_password() {
    let bin = tempfile::tempdir().unwrap();
    fake_sudo(bin.path(), true);
    let server = Sshd::start(&format!("SetEnv PATH={}:/usr/bin:/bin", bin.path().join("bin").display()));
    let mut target = server.target();
    target.become_root = Become::Sudo;
    let become_error = |options: &Options| {
        let error = SshTransport::connect(&target, options).unwrap().run(&Script::new("t", "true"), b"in").unwrap_err();
        assert!(matches!(error, TransportError::Become { .. }), "{error:?}");
        error.to_string()
    };
    let mut options = server.options();
    assert!(become_error(&options).contains("no terminal"));
    options.prompt = Some(Answers::new(vec![]));
    assert!(become_error(&options).contains("none was given"));
    let started = Instant::now();
    options.prompt = Some(Answers::new(vec!["a", "b", "c"]));
    assert!(become_error(&options).contains("refuses the password"));
    assert!(started.elapsed() < Duration::from_secs(5));

    let prompt = Answers::new(vec!["wrong", "se same"]);
    options.prompt = Some(prompt.clone());
    let mut host = SshTransport::connect(&target, &options).unwrap();
    for _ in 0..3 {
        let out = host.run(&Script::new("t", "cat; echo e >&2; exit 2"), b"se same\n\0").unwrap();
        assert_eq!((out.status, out.stdout, out.stderr), (2, b"se same\n\0".to_vec(), b"e\n".to_vec()));
    }
    assert_eq!(host.hold(&Script::new("h", "echo up; cat >/dev/null")).unwrap().0, "up");
    assert_eq!(prompt.1.load(Ordering::SeqCst), 2);
    // Rights were given meanwhile: the password line that nobody eats is not the script's.
    fs::remove_dir_all(bin.path().join("bin")).unwrap();
    fake_sudo(bin.path(), false);
    assert_eq!(host.run(&Script::new("t", "cat"), b"data").unwrap().stdout, b"data");
}

#[test]
fn sudo_that_refuses_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let server = Sshd::start(&format!("SetEnv PATH={}:/usr/bin:/bin", bin.display()));
    let mut target = server.target();
    target.become_root = Become::Sudo;
    for (body, words) in [
        ("echo 'ops is not in the sudoers file.' >&2; exit 1", "not in the sudoers file"),
        ("echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1", "must have a tty"),
        ("exit 1", "status 1"),
    ] {
        fs::write(bin.join("sudo"), format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(bin.join("sudo"), fs::Permissions::from_mode(0o755)).unwrap();
        let error =
            SshTransport::connect(&target, &server.options()).unwrap().run(&Script::new("t", "true"), b"").unwrap_err();
        assert!(matches!(&error, TransportError::Become { reason, .. } if reason.contains(words)), "{error:?}");
    }
}

#[test]
fn what_a_login_shell_says_is_no_part_of_an_answer() {
    let server = Sshd::with("ForceCommand echo noise; echo noise >&2; eval \"$SSH_ORIGINAL_COMMAND\"", |_| {});
    let out = server.connect().unwrap().run(&Script::new("t", "cat; echo e >&2"), b"i").unwrap();
    assert_eq!((out.stdout, out.stderr), (b"i".to_vec(), b"e\n".to_vec()));
}

/// The words of the error of one connection and one script.
fn refusal(target: &Target, options: &Options) -> String {
    let mut script = Script::new("t", "true").within(Duration::from_secs(1)).up_to(1000);
    script.grace = Duration::ZERO;
    let options = Options { retries: 0, ..options.clone() };
    SshTransport::connect(target, &options).and_then(|mut host| host.run(&script, b"")).unwrap_err().to_string()
}

/// A user that may not log in, but has a key.
fn nobody(server: &Sshd) -> Target {
    fs::set_permissions(server.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Target { user: Some("nobody".into()), ..server.target() }
}

#[test]
fn what_a_host_says_instead_of_a_shell_is_told() {
    let login = "Please login as the user \"ops\" rather than the user \"root\".";
    for (extra, words) in [
        // As images of clouds have it for root.
        (format!("ForceCommand echo '{login}'; echo; exit 142"), login),
        ("ForceCommand echo restricted >&2; echo Welcome; exit 1".to_owned(), "Welcome; restricted"),
        ("ForceCommand echo Choose a menu entry:; sleep 30".to_owned(), "Choose a menu entry:"),
        ("ForceCommand echo Much follows; cat /dev/zero".to_owned(), "Much follows"),
        ("ForceCommand printf 'bad \\033[2J'; exit 1".to_owned(), "bad \\u{1b}[2J"),
        ("ForceCommand exit 3".to_owned(), "it says nothing"),
    ] {
        let server = Sshd::start(&extra);
        let error = refusal(&server.target(), &server.options());
        assert!(error.contains(words), "{extra}: {error}");
        // Each that hangs is waited for.
        if extra.contains("sleep") {
            continue;
        }
        let by_sudo = Target { become_root: Become::Sudo, ..server.target() };
        let error = refusal(&by_sudo, &server.options());
        assert!(error.contains(words) || words == "it says nothing", "{extra}: {error}");
    }
    let server = Sshd::start("");
    let error = refusal(&nobody(&server), &server.options());
    assert!(error.contains("This account is currently not available"), "{error}");
}

#[test]
fn what_a_host_says_before_a_login_is_told() {
    let notice = tempfile::NamedTempFile::new().unwrap();
    fs::write(notice.path(), "Only for staff.\nAsk it@example.com for a key.\n").unwrap();
    let server = Sshd::start(&format!("Banner {}", notice.path().display()));
    fs::write(server.path("authorized"), "").unwrap();
    let error = auth_error(server.connect());
    assert!(
        error.contains("refused") && error.contains("it says: Only for staff.; Ask it@example.com for a key."),
        "{error}"
    );
    // PAM's refusal of an account comes as a banner too.
    let server = Sshd::inside("UsePAM yes", &[("pam.d", "/etc/pam.d")], |dir| {
        fs::create_dir(dir.join("pam.d")).unwrap();
        let nologin = dir.join("nologin");
        fs::write(&nologin, "Down for maintenance until noon.\n").unwrap();
        let service =
            format!("account required pam_nologin.so file={}\nsession optional pam_permit.so\n", nologin.display());
        for name in ["sshd", "other"] {
            fs::write(dir.join("pam.d").join(name), &service).unwrap();
        }
    });
    let error = refusal(&nobody(&server), &server.options());
    assert!(error.contains("Down for maintenance until noon."), "{error}");
}

#[test]
fn what_a_server_says_in_place_of_a_greeting_is_told() {
    for words in ["Not allowed at this time", "HTTP/1.1 400 Bad Request", "220 mail.example.com ESMTP"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target { port: Some(listener.local_addr().unwrap().port()), ..Target::new("127.0.0.1") };
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut peer = listener.accept().unwrap().0;
                peer.write_all(format!("{words}\r\n").as_bytes()).unwrap();
            }
        });
        let error =
            refusal(&target, &Options { config: Config::None, known_hosts: Some(Vec::new()), ..Options::default() });
        assert!(error.contains(&format!("it says: {words}")), "{error}");
        server.join().unwrap();
    }
}

/// A shadow file in which root's password is `open sesame`.
fn shadow(dir: &Path) {
    let hash = run(Command::new("openssl").args(["passwd", "-6", "open sesame"]));
    fs::write(dir.join("shadow"), format!("root:{}:19000:0:99999:7:::\n", hash.trim())).unwrap();
}

#[test]
fn a_key_that_does_not_suffice_is_followed_by_a_password() {
    let pam = |dir: &Path| {
        shadow(dir);
        fs::create_dir(dir.join("pam.d")).unwrap();
        let service = "auth required pam_unix.so\naccount required pam_permit.so\nsession optional pam_permit.so\n";
        for name in ["sshd", "other"] {
            fs::write(dir.join("pam.d").join(name), service).unwrap();
        }
    };
    let password = "AuthenticationMethods publickey,password\nPasswordAuthentication yes";
    let questions =
        "UsePAM yes\nAuthenticationMethods publickey,keyboard-interactive\nKbdInteractiveAuthentication yes";
    let mounts = [("shadow", "/etc/shadow"), ("pam.d", "/etc/pam.d")];
    for (extra, way) in [(password, "password"), (questions, "keyboard-interactive")] {
        let server = Sshd::inside(extra, &mounts, pam);
        let error = auth_error(server.connect());
        assert!(error.contains(&format!("accepted, but the host wants {way} besides")), "{error}");
        assert!(error.contains("no terminal"), "{error}");
        let mut options = server.options();
        let prompt = Answers::new(vec!["wrong", "open sesame"]);
        options.prompt = Some(prompt.clone());
        let mut host = SshTransport::connect(&server.target(), &options).unwrap_or_else(|e| panic!("{way}: {e}"));
        assert_eq!(text(&mut host, "echo in"), "in\n");
        assert_eq!(prompt.1.load(Ordering::SeqCst), 2);
        options.prompt = Some(Answers::new(vec!["a", "b", "c"]));
        let error = auth_error(SshTransport::connect(&server.target(), &options));
        assert!(error.contains(&format!("the {way}: ")), "{error}");
        assert!(!error.contains("sesame"), "{error}");
        options = Options { prompt: Some(Answers::new(vec![])), ..server.options() };
        options.config = server.config("BatchMode yes");
        assert!(auth_error(SshTransport::connect(&server.target(), &options)).contains("no terminal"));
    }
    // Without a key that is known the password alone will do where the host takes it.
    let server = Sshd::inside("PasswordAuthentication yes", &mounts, pam);
    fs::write(server.path("authorized"), "").unwrap();
    let mut options = server.options();
    options.prompt = Some(Answers::new(vec!["open sesame"]));
    SshTransport::connect(&server.target(), &options).unwrap();
    options = Options { prompt: Some(Answers::new(vec![])), ..server.options() };
    options.config = server.config("PasswordAuthentication no");
    assert!(auth_error(SshTransport::connect(&server.target(), &options)).contains("refused"));
}

/// Gives its answers to whatever is asked, and counts.
struct InTurn(Mutex<Vec<&'static str>>, AtomicUsize);

impl InTurn {
    fn new(answers: &[&'static str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(answers.iter().rev().copied().collect()), AtomicUsize::new(0)))
    }
}

impl Prompt for InTurn {
    fn answer(&self, _: &Ask<'_>) -> Option<Secret> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.lock().unwrap().pop().map(|answer| Secret::new("asked", answer))
    }
}

/// The code of an authenticator beside a key, as RFC 4226 counts it: the values of its appendix D. The next factor asks in turn.
#[test]
fn a_one_time_code_is_asked_for_after_the_key() {
    let extra = "UsePAM yes\nAuthenticationMethods publickey,keyboard-interactive\nKbdInteractiveAuthentication yes";
    let mounts = [("shadow", "/etc/shadow"), ("pam.d", "/etc/pam.d")];
    for (factors, answers) in [(1, vec!["755224"]), (2, vec!["755224", "open sesame"])] {
        let server = Sshd::inside(extra, &mounts, |dir| {
            shadow(dir);
            let users = dir.join("users.oath");
            fs::write(&users, "HOTP root - 3132333435363738393031323334353637383930\n").unwrap();
            fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
            fs::create_dir(dir.join("pam.d")).unwrap();
            let password = if factors == 2 { "auth required pam_unix.so\n" } else { "" };
            let service = format!(
                "auth requisite pam_oath.so usersfile={} window=2 digits=6\n{password}account required pam_permit.so\n\
                 session optional pam_permit.so\n",
                users.display()
            );
            for name in ["sshd", "other"] {
                fs::write(dir.join("pam.d").join(name), &service).unwrap();
            }
        });
        let error = auth_error(server.connect());
        assert!(error.contains("accepted, but the host wants keyboard-interactive besides"), "{error}");
        let mut options = server.options();
        let prompt = InTurn::new(&answers);
        options.prompt = Some(prompt.clone());
        let mut host = SshTransport::connect(&server.target(), &options)
            .unwrap_or_else(|e| panic!("{factors}: {e}\n{}", server.log()));
        assert_eq!(text(&mut host, "echo in"), "in\n");
        assert_eq!(prompt.1.load(Ordering::SeqCst), factors);
        // A code serves once: the same one is refused, and the next one is taken.
        options.prompt = Some(InTurn::new(&["755224", "open sesame", "755224", "open sesame"]));
        let error = auth_error(SshTransport::connect(&server.target(), &options));
        assert!(error.contains("keyboard-interactive") && !error.contains("755224"), "{error}");
        let mut next = answers;
        next[0] = "287082";
        options.prompt = Some(InTurn::new(&next));
        SshTransport::connect(&server.target(), &options).unwrap_or_else(|e| panic!("{factors}, the next code: {e}"));
    }
}

/// `MaxSessions`: a run holds the lock in one session and works in another.
#[test]
fn a_server_that_takes_few_sessions_is_named() {
    let lock = Script::new("lock", "echo mine; cat >/dev/null");
    for most in [1, 2] {
        let server = Sshd::start(&format!("MaxSessions {most}"));
        let mut host = server.connect().unwrap();
        assert_eq!(text(&mut host, "echo alone"), "alone\n");
        let mut holds: Vec<_> = (0..most).map(|_| host.hold(&lock).unwrap().1).collect();
        let error = host.run(&Script::new("t", "echo x"), b"").unwrap_err().to_string();
        for words in ["takes no further session over one connection", "`MaxSessions` in its sshd_config"] {
            assert!(error.contains(words), "{words}: {error}");
        }
        // The connection is as good as before.
        drop(holds.pop());
        assert_eq!(text(&mut host, "echo again"), "again\n");
    }
    // Two are enough for a run: the lock, and one script after the other.
    let server = Sshd::start("MaxSessions 2");
    let mut host = server.connect().unwrap();
    let (_, hold) = host.hold(&lock).unwrap();
    for _ in 0..20 {
        assert_eq!(text(&mut host, "echo under the lock"), "under the lock\n");
    }
    drop(hold);
}

#[test]
fn a_certificate_beside_a_key_is_offered_first() {
    let kinds = ["ed25519", "ecdsa", "rsa"];
    let authority = tempfile::tempdir().unwrap();
    keygen(&authority.path().join("ca"), "ed25519", "");
    let server = Sshd::start(&format!("TrustedUserCAKeys {}", authority.path().join("ca.pub").display()));
    fs::write(server.path("authorized"), "").unwrap();
    for kind in kinds {
        let key = server.path(kind);
        keygen(&key, kind, "");
        let sign = ["-q", "-I", "me", "-n", &user(), "-s"].map(ToOwned::to_owned);
        run(Command::new("ssh-keygen")
            .args(sign)
            .arg(authority.path().join("ca"))
            .arg(server.path(&format!("{kind}.pub"))));
        let target = Target { identity: Some(key.clone()), ..server.target() };
        SshTransport::connect(&target, &server.options()).unwrap_or_else(|e| panic!("{kind}: {e}"));
        // The agent has both, and the key's file tells which.
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent::start(folder.path(), std::slice::from_ref(&key));
        let mut options = server.options();
        options.config = server.config(&format!("IdentityAgent {}\n", agent.socket.display()));
        fs::rename(&key, server.path("gone")).unwrap();
        match SshTransport::connect(&target, &options) {
            Ok(_) => assert_ne!(kind, "rsa"),
            Err(e) => assert!(kind == "rsa" && e.to_string().contains("name its key file"), "{kind}, agent: {e}"),
        }
        fs::rename(server.path("gone"), &key).unwrap();
        // Elsewhere, where the configuration names it.
        fs::rename(server.path(&format!("{kind}-cert.pub")), server.path("elsewhere")).unwrap();
        assert!(SshTransport::connect(&target, &server.options()).is_err());
        options = server.options();
        options.config = server.config(&format!("CertificateFile {}\n", server.path("elsewhere").display()));
        SshTransport::connect(&target, &options).unwrap_or_else(|e| panic!("{kind}, elsewhere: {e}"));
        fs::remove_file(server.path("elsewhere")).unwrap();
    }
}

#[test]
fn the_way_of_a_connection_is_as_the_configuration_says() {
    let server = Sshd::start("");
    let mut options = server.options();
    options.config = server.config("BindAddress 127.0.0.2\nAddressFamily inet");
    let mut host = SshTransport::connect(&server.target(), &options).unwrap();
    assert_eq!(text(&mut host, "echo ${SSH_CONNECTION%% *}"), "127.0.0.2\n");
    for (setting, words) in
        [("BindAddress 192.0.2.1", "BindAddress 192.0.2.1"), ("AddressFamily inet6", "AddressFamily")]
    {
        options = server.options();
        options.config = server.config(setting);
        let error = refusal(&server.target(), &options);
        assert!(error.contains(words), "{error}");
    }
    // A command that hands a connected socket over, and ends.
    let give = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2]))); \
                socket.send_fds(socket.socket(fileno=1),[b\"x\"],[s.fileno()])";
    options = server.options();
    options.config = server.config(&format!("ProxyUseFdpass yes\nProxyCommand python3 -c '{give}' %h %p"));
    let mut host = SshTransport::connect(&server.target(), &options).unwrap();
    assert_eq!(text(&mut host, "echo handed over"), "handed over\n");
    for command in ["echo cannot >&2", "sleep 30"] {
        options = Options { bounds: Some(bounds(1, 1000, 20)), ..server.options() };
        options.config = server.config(&format!("ProxyUseFdpass yes\nProxyCommand {command}"));
        let error = refusal(&server.target(), &options);
        assert!(error.contains("cannot") || error.contains("ProxyUseFdpass"), "{error}");
    }
}

#[test]
fn algorithms_are_those_that_a_person_chose() {
    let server = Sshd::start("");
    let mut options = server.options();
    options.config = server.config("KexAlgorithms ecdh-sha2-nistp384\nCiphers aes256-ctr\nMACs hmac-sha2-512\n");
    let host = SshTransport::connect(&server.target(), &options).unwrap();
    assert_eq!(host.agreed(), "ecdh-sha2-nistp384, ssh-ed25519, aes256-ctr");
    options = server.options();
    options.config = server.config("Ciphers 3des-cbc\n");
    assert!(refusal(&server.target(), &options).contains("`Ciphers 3des-cbc`"));
}

#[test]
fn a_setting_that_does_not_hold_is_named() {
    let server = Sshd::start("");
    let mut options = server.options();
    options.config = server.config("StrictHostKeyChecking no\nCompression yes\n");
    SshTransport::connect(&server.target(), &options).unwrap();
    SshTransport::connect(&server.target(), &options).unwrap();
    let notes: Vec<String> = options.notes.lock().unwrap().keys().cloned().collect();
    assert!(notes.len() == 1 && notes[0].contains("stricthostkeychecking"), "{notes:?}");
}

#[test]
fn a_slow_login_is_named() {
    let server = Sshd::inside("UsePAM yes\nAuthenticationMethods publickey", &[("pam.d", "/etc/pam.d")], |dir| {
        fs::create_dir(dir.join("pam.d")).unwrap();
        let slow = "account optional pam_exec.so /bin/sleep 3\naccount required pam_permit.so\nsession optional pam_permit.so\n";
        for name in ["sshd", "other"] {
            fs::write(dir.join("pam.d").join(name), slow).unwrap();
        }
    });
    let options = Options { bounds: Some(bounds(10, 20_000, 1)), ..server.options() };
    let error = auth_error(SshTransport::connect(&server.target(), &options));
    assert!(error.contains("no answer within 1 s") && error.contains("ConnectTimeout"), "{error}");
    server.connect().unwrap();
}

/// More hosts than a shell allows open files: the configuration is asked about once, and no file is one too many.
#[test]
fn many_hosts_ask_once_and_open_what_they_need() {
    let (hosts, server) = (40, Sshd::start("MaxStartups 200"));
    let Config::File(config) = server.config("Host web*\n Compression yes") else { panic!() };
    let bin = server.path("bin");
    fs::create_dir(&bin).unwrap();
    let asked = server.path("asked");
    let stub = format!("#!/bin/sh\necho \"$*\" >>{}\nexec /usr/bin/ssh \"$@\"\n", asked.display());
    fs::write(bin.join("ssh"), stub).unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut inventory = format!(
        "name: shop\nfirewall: {{ manage_from: [10.0.0.0/24] }}\nssh: {{ user: {}, port: {}, identity: \"{}\", config: \"{}\" }}\nhosts:\n",
        user(),
        server.port,
        server.path("id").display(),
        config.display()
    );
    for n in 1..=hosts {
        inventory += &format!("  web{n}: {{ address: 10.0.0.{n}, roles: [db], ssh: {{ address: 127.0.0.1 }} }}\n");
    }
    fs::write(server.path("inventory.yml"), inventory).unwrap();
    let infra = format!("ulimit -S -n 36; exec {} diff -v --parallel 8 inventory.yml", env!("CARGO_BIN_EXE_infra"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    let out = command.args(["-c", &infra]).env("PATH", path).current_dir(server.dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("SSH: ") && said.contains("web40"), "{said}");
    assert!(!said.contains("open files") && !said.contains("cannot be reached"), "{said}");
    let asked = fs::read_to_string(asked).unwrap();
    let asked: Vec<&str> = asked.lines().filter(|line| line.starts_with("-G")).collect();
    // One for all hosts of the block, one for what `ssh` does by itself.
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn many_at_once_through_one_gate() {
    let server = Sshd::start("");
    let options = server.options();
    let target = server.target();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let mut host = SshTransport::connect(&target, &options).unwrap();
                    assert_eq!(text(&mut host, "echo x"), "x\n");
                }
            });
        }
    });
    println!("connect + one script, 16 times over 4 threads: {:?} each", started.elapsed() / 16);
}

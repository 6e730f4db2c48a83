//! A service that is not infra's own (`tests/fixtures/trial`), in a lab: from its maker's signed repository, with a secret, a task
//! and restarts that wait for a person's word; planned, applied, nothing twice, put back, cut off by a power cut.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bench::{Bench, Said, wait};
use checks::Check;
use infra::lab::{Release, Target};
use infra::material::passwords;
use serde_json::Value;

const INVENTORY: &str = include_str!("../../inventories/single.yml");
const SCHEMA: &str = "/var/lib/trialdb/schema";

struct World {
    bench: Bench,
    /// The fingerprint of the repository's key.
    fingerprint: String,
}

#[test]
fn a_service_is_a_folder_its_templates_and_one_line() {
    let world = World::up("t-trial", INVENTORY);
    let all: [Check<World>; 10] = [
        ("a wrong fingerprint changes nothing", wrong_fingerprint),
        ("a wrong key is put back", wrong_key),
        ("it is planned", planned),
        ("the package manager is busy", busy),
        ("twice is nothing", nothing),
        ("what is seen counts", seen),
        ("it is told while it runs", told),
        ("its restart waits for a person", waits),
        ("what fails is put back", put_back),
        ("a power cut in the middle of a task", power_cut),
    ];
    checks::run(&world, &all, mend);
}

/// What a check that failed may have left: the repository is its maker's again, nothing is broken, and all is applied.
fn mend(world: &World) {
    world.sign("maker");
    world.shadow("fingerprint", &world.fingerprint);
    world.sh("rm -f /run/trial.broken /run/trial.hang");
    wait("all is applied", Duration::from_secs(120), || (world.apply().code == 0).then_some(()));
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `infra` with the trial service; `cargo build --all-targets` makes it.
fn trial() -> PathBuf {
    let trial = Path::new(env!("CARGO_BIN_EXE_infra")).with_file_name("examples").join("trial");
    assert!(trial.exists(), "{} is not there: cargo build --locked --example trial", trial.display());
    trial
}

impl World {
    /// Bare hosts, and the maker's repository in `outside`.
    fn up(name: &str, inventory: &str) -> Self {
        let bench = Bench::up(name, inventory, Release::Bookworm);
        let maker = bench.dir.path().join("maker");
        package(&maker.join("trial"));
        let fingerprint = key(&maker, "maker");
        key(&maker, "another");
        let world = Self { bench, fingerprint };
        world.sign("maker");
        for address in &world.bench.lab().outside_addresses().clients {
            let place = if address.is_ipv4() { format!("{address}:80") } else { format!("[{address}]:80") };
            world.bench.sh("outside", &format!("busybox httpd -p {place} -h {}", maker.display())).expect(0);
        }
        world.shadow("key.asc", &gpg(&maker, "maker", &["--armor", "--export"]));
        world.shadow("fingerprint", &world.fingerprint);
        world
    }

    /// Puts a template of the service beside the inventory.
    fn shadow(&self, name: &str, text: &str) {
        bench::write(&self.bench.dir.path().join("templates/trial").join(name), text);
    }

    /// The repository as this key signs it.
    fn sign(&self, key: &str) {
        let maker = self.bench.dir.path().join("maker");
        gpg(&maker, key, &["--yes", "--clearsign", "-o", "trial/InRelease", "trial/Release"]);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut argv = vec![trial().display().to_string()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        let mut command = self.bench.lab().command(&Target::Controller, argv).unwrap();
        command.current_dir(self.bench.dir.path()).env_remove("INFRA_INVENTORY").env_remove("INFRA_STATE");
        command
    }

    fn infra(&self, words: &[&str]) -> Said {
        let output: Output = self.command(words).stdin(std::process::Stdio::null()).output().unwrap();
        Said::of(&output)
    }

    fn apply(&self) -> Said {
        self.infra(&["apply", "--yes"])
    }

    fn sh(&self, script: &str) -> Said {
        self.bench.sh("one", script)
    }

    fn pid(&self) -> String {
        self.sh("systemctl show -p MainPID --value trialdb").out
    }

    /// The secret as the controller keeps it, looked for in all that is kept and logged on the host.
    fn keeps_its_secret(&self) {
        let site = self.bench.site();
        let kept = passwords::read(&site.state, &site.name).unwrap();
        let secret = kept.values().next().unwrap().reveal();
        let script = format!(
            "! grep -rlF -- '{secret}' /var/lib/infra /etc /run /var/log /var/lib/trialdb 2>/dev/null && ! journalctl -o cat | grep -qF -- '{secret}'"
        );
        self.sh(&script).expect(0);
        let digest = run(Command::new("sh").args(["-c", &format!("echo '{secret}' | sha256sum")]));
        assert_eq!(self.sh(&format!("cat {SCHEMA}")).out, digest, "the task got another secret");
    }
}

/// A package with a daemon that keeps what it was started with under /run, in a flat repository.
fn package(folder: &Path) {
    let tree = folder.with_file_name("tree");
    let file = |path: &str, text: &str| bench::write(&tree.join(path), text);
    let control =
        "Package: trialdb\nVersion: 1.0.3-1\nArchitecture: all\nMaintainer: t <t@example.com>\nDescription: a trial\n";
    file("DEBIAN/control", control);
    file(
        "usr/sbin/trialdb",
        "#!/bin/sh\nmkdir -p /run/trialdb\ncp /etc/trialdb/*.conf /run/trialdb/\nexec sleep infinity\n",
    );
    file(
        "lib/systemd/system/trialdb.service",
        "[Service]\nExecStart=/bin/sh /usr/sbin/trialdb\n[Install]\nWantedBy=multi-user.target\n",
    );
    file("var/lib/trialdb/log", "");
    std::fs::create_dir_all(folder).unwrap();
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(&tree)
        .arg(folder.join("trialdb_1.0.3-1_all.deb")));
    let index = "apt-ftparchive packages . >Packages && apt-ftparchive release . >../Release && mv ../Release Release";
    run(Command::new("sh").args(["-c", index]).current_dir(folder));
}

fn gpg(maker: &Path, key: &str, words: &[&str]) -> String {
    let home = maker.with_file_name(format!("gpg-{key}"));
    fs_err::create_dir_all(&home).unwrap();
    run(Command::new("sh").args(["-c", "chmod 700 \"$0\"", home.to_str().unwrap()]));
    let mut command = Command::new("gpg");
    command.arg("--homedir").arg(&home).args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
    run(command.args(words).current_dir(maker))
}

/// Makes a key; gives its fingerprint.
fn key(maker: &Path, name: &str) -> String {
    gpg(maker, name, &["--quick-gen-key", &format!("{name} <{name}@example.com>"), "ed25519", "sign", "never"]);
    let listed = gpg(maker, name, &["--with-colons", "--list-keys"]);
    let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
    line.trim_matches(':').rsplit(':').next().unwrap().to_owned()
}

/// Nothing of apt is left of a repository that was not taken.
fn untouched(world: &World) {
    world.sh("! ls /etc/apt/*/infra-trial* 2>/dev/null && ! dpkg-query -W trialdb 2>/dev/null").expect(0);
}

fn wrong_fingerprint(world: &World) {
    world.shadow("fingerprint", "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C1");
    for words in [&["check"][..], &["diff"], &["apply", "--yes"]] {
        let said = world.infra(words).expect(2);
        let why = format!("its key file holds {}, and the fingerprints that were given are CB18", world.fingerprint);
        assert!(said.err.contains(&why), "{}", said.err);
    }
    untouched(world);
    world.shadow("fingerprint", &world.fingerprint);
    world.infra(&["check"]).expect(0);
}

fn wrong_key(world: &World) {
    world.sign("another");
    let said = world.apply().expect(1);
    assert!(said.err.contains("failed on one in packages: apt-get update of infra-trial.sources"), "{}", said.err);
    assert!(said.err.contains("NO_PUBKEY") && said.err.contains("3 files put back"), "{}", said.err);
    untouched(world);
    world.sign("maker");
}

fn planned(world: &World) {
    let said = world.infra(&["diff"]).expect(3);
    for line in [
        "> make the schema of trialdb                   within 60 s, with ‹trial/password›, undone if the phase fails",
        "+ /etc/apt/sources.list.d/infra-trial.sources",
        &format!("keys that may sign http://outside/trial: {}", world.fingerprint),
    ] {
        assert!(said.out.contains(line), "no `{line}` in\n{}", said.out);
    }
    let said = world.infra(&["diff", "--json", "--out", "plan"]).expect(3);
    let plan: Value =
        said.out.lines().map(|l| serde_json::from_str(l).unwrap()).find(|l: &Value| l["event"] == "plan").unwrap();
    let actions = plan["hosts"]["one"]["phases"]["primary"].as_array().unwrap();
    let task = actions.iter().find(|action| action["action"] == "perform").unwrap();
    assert_eq!(
        (&task["undo"], &task["limit_seconds"], &task["secrets"][0]),
        (&true.into(), &60.into(), &"trial/password".into())
    );
    assert!(task.get("script").is_none(), "{task}");
}

/// Someone else installs meanwhile: it is waited for and told, live, as is how far the task is. The plan is the one that was kept.
fn busy(world: &World) {
    let hold = "use Fcntl; open F, '>>', '/var/lib/dpkg/lock-frontend'; \
                fcntl(F, F_SETLK, pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, time)) or die; sleep 10";
    world.sh(&format!("systemd-run -q --unit=unattended perl -e \"{hold}\"")).expect(0);
    let said = world.infra(&["apply", "--yes", "--json", "--plan", "plan"]).expect(0);
    let lines: Vec<Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let texts = |event: &str| -> Vec<&str> {
        lines
            .iter()
            .filter(|l| l["event"] == event && l["host"] == "one")
            .map(|l| l["text"].as_str().unwrap())
            .collect()
    };
    let waits = "waits, because perl (pid ";
    assert_eq!(texts("note").iter().filter(|text| text.contains(waits)).count(), 1, "{}", said.out);
    let (waited, worked): (Vec<&str>, Vec<&str>) =
        texts("progress").into_iter().partition(|text| *text == "waits for perl");
    assert!(!waited.is_empty(), "{}", said.out);
    assert_eq!(worked.first(), Some(&"make the schema of trialdb: 25 %"), "{}", said.out);
    world.sh("systemctl is-active trialdb && apt-get -q update").expect(0);
    let policy = world.sh("apt-cache policy trialdb; LC_ALL=C apt-cache policy | grep -A1 outside/trial").out;
    assert!(policy.contains("Candidate: 1.0.3-1") && policy.contains("-1 http://outside/trial"), "{policy}");
    world.keeps_its_secret();
}

fn nothing(world: &World) {
    let said = world.infra(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    let said = world.apply().expect(0);
    assert!(said.out.contains("0 hosts changed, 1 unchanged"), "{}", said.out);
}

/// The service looks by itself whether the schema is there; what was remembered does not count against it.
fn seen(world: &World) {
    world.sh(&format!("rm {SCHEMA}")).expect(0);
    let said = world.infra(&["diff"]).expect(3);
    assert!(said.out.contains("> make the schema of trialdb"), "{}", said.out);
    world.apply().expect(0);
    world.sh(&format!("test -s {SCHEMA}")).expect(0);
    nothing(world);
}

fn told(world: &World) {
    let pid = world.pid();
    world.shadow("set.conf", "connections = 200\n");
    let said = world.apply().expect(0);
    assert!(said.out.contains("then tell trialdb while it runs"), "{}", said.out);
    assert_eq!(world.sh("cat /run/trialdb/set.conf").out, "connections = 200\n");
    nothing(world);
    world.shadow("set.conf", "impossible = 1\n");
    let said = world.apply().expect(1);
    assert!(said.err.contains("no such setting"), "{}", said.err);
    assert_eq!(world.sh("cat /etc/trialdb/set.conf /run/trialdb/set.conf").out, "connections = 200\n".repeat(2));
    world.shadow("set.conf", "connections = 200\n");
    nothing(world);
    assert_eq!(world.pid(), pid);
}

fn waits(world: &World) {
    let pid = world.pid();
    world.shadow("fixed.conf", "memory = 128M\n");
    let waits = "once a person has confirmed it: `--restart trialdb.service`";
    for _ in 0..2 {
        let said = world.apply().expect(0);
        assert!(said.out.contains(waits), "{}", said.out);
    }
    let said = world.infra(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do") && said.out.contains(waits), "{}", said.out);
    assert_eq!((world.pid(), world.sh("cat /run/trialdb/fixed.conf").out.contains("128M")), (pid.clone(), false));
    let said = world.infra(&["apply", "--yes", "--restart", "trialbd"]).expect(2);
    assert!(said.err.contains("`--restart trialbd.service` names a unit that infra keeps on none"), "{}", said.err);
    world.infra(&["apply", "--yes", "--restart", "trialdb"]).expect(0);
    assert_ne!(world.pid(), pid);
    assert!(world.sh("sleep 0.3; cat /run/trialdb/fixed.conf").out.contains("128M"));
    let said = world.infra(&["diff"]).expect(0);
    assert!(!said.out.contains(waits), "{}", said.out);
}

fn put_back(world: &World) {
    world.sh(&format!("rm {SCHEMA}; touch /run/trial.broken; : >/var/lib/trialdb/log")).expect(0);
    world.shadow("set.conf", "connections = 300\n");
    let said = world.apply().expect(1);
    assert!(said.err.contains("failed on one in primary: the schema is whole"), "{}", said.err);
    assert!(said.err.contains("1 file put back, «make the schema of trialdb» undone"), "{}", said.err);
    assert_eq!(world.sh("cat /var/lib/trialdb/log").out, "begun\nmade\nundone\n");
    assert_eq!(world.sh("cat /etc/trialdb/set.conf /run/trialdb/set.conf").out, "connections = 200\n".repeat(2));
    world.sh(&format!("rm /run/trial.broken; test ! -e {SCHEMA}")).expect(0);
    world.apply().expect(0);
    nothing(world);
}

/// The power goes while the task is under way: the boot puts the files back, and the next run begins with what was begun.
fn power_cut(world: &World) {
    world.sh(&format!("rm {SCHEMA}; touch /run/trial.hang; : >/var/lib/trialdb/log")).expect(0);
    world.shadow("set.conf", "connections = 400\n");
    let mut run = world.command(&["apply", "--yes"]);
    let run = run
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait("the task is under way", Duration::from_secs(60), || {
        (world.sh(&format!("test -s {SCHEMA}")).code == 0).then_some(())
    });
    world.bench.lab().kill("one").unwrap();
    world.bench.lab().start("one").unwrap();
    let said = Said::of(&run.wait_with_output().unwrap()).expect(1);
    assert!(said.err.contains("unknown: the connection broke"), "{}", said.err);
    wait("the daemon runs", Duration::from_secs(30), || {
        (world.sh("systemctl is-active trialdb infra-recover").code == 0).then_some(())
    });
    assert_eq!(world.sh("cat /etc/trialdb/set.conf /var/lib/trialdb/log").out, "connections = 300\nbegun\n");
    let said = world.infra(&["diff"]).expect(3);
    assert!(said.out.contains("< what was begun is taken back"), "{}", said.out);
    let said = world.apply().expect(0);
    assert!(said.err.contains("«make the schema of trialdb» undone"), "{}", said.err);
    assert_eq!(
        world.sh("cat /var/lib/trialdb/log /run/trialdb/set.conf").out,
        "begun\nundone\nbegun\nmade\nconnections = 400\n"
    );
    nothing(world);
    world
        .sh("! ls /var/lib/infra/undo /var/lib/infra/unfinished /run/infra/untold/* /run/infra/held/* 2>/dev/null")
        .expect(0);
    world.keeps_its_secret();
}

/// One of two hosts leads, whichever is selected, and whatever becomes of the controller.
#[test]
fn a_decision_is_made_over_all_hosts() {
    let one = "  one:\n    address: 192.0.2.10\n";
    assert!(INVENTORY.contains(one));
    let two = format!("  two:\n    address: 192.0.2.11\n    roles: [app]\n{one}");
    let world = World::up("t-leads", &INVENTORY.replace(one, &two));
    let leads = |host: &str| world.bench.sh(host, "cat /var/lib/trialdb/leads").out;

    // The controller dies while the task is under way on the host that leads; the host ends its step by itself.
    let mut command = world.command(&["apply", "--yes"]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut run = command.spawn().unwrap();
    wait("the task is under way", Duration::from_secs(120), || {
        (world.sh("grep -q begun /var/lib/trialdb/log && ! grep -q made /var/lib/trialdb/log").code == 0).then_some(())
    });
    run.kill().unwrap();
    run.wait().unwrap();
    wait("the next run ends well", Duration::from_secs(120), || (world.apply().code == 0).then_some(()));
    assert_eq!((leads("one").as_str(), leads("two").as_str()), ("leads\n", ""));
    let log = world.sh("cat /var/lib/trialdb/log").out;
    assert!(["begun\nmade\n", "begun\nundone\nbegun\nmade\n"].contains(&log.as_str()), "{log}");
    let said = world.infra(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    world.keeps_its_secret();

    // The other one is asked alone: who leads is looked at, and told, and nobody else does.
    let told = "one is looked at too, as `trial` decides over all its hosts at once; nothing is changed there";
    let said = world.infra(&["apply", "--yes", "--limit", "two"]).expect(0);
    assert!(said.err.contains(told), "{}", said.err);
    assert_eq!(leads("two"), "");
}

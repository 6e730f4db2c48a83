//! A twin of an inventory as a test bench: boots it, runs the real `infra` from its controller, looks at hosts behind
//! infra's back, and takes it down with the value. Used by `tests/lab/*.rs` as `#[path = "../common/bench.rs"] mod bench;`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

mod events;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use infra::inventory::load;
use infra::inventory::site::{Role, Site};
use infra::lab::{Lab, Release, Snapshot, Spec, Target};
use time::OffsetDateTime;

/// Three tiers.
pub const THREE_TIER_PUBLIC: &str = include_str!("../../inventories/three-tier.yml");

/// The same with certificates of our own authority, which most tests begin with: nothing but infra is in the way.
pub static THREE_TIER: LazyLock<String> = LazyLock::new(|| {
    let text = THREE_TIER_PUBLIC.replace(PUBLIC_ISSUER, "  issuer: internal\n");
    assert_ne!(text, THREE_TIER_PUBLIC);
    text
});

/// What makes the certificates of an inventory public ones.
const PUBLIC_ISSUER: &str = "  issuer: letsencrypt\n  contact: ops@example.com\n";

/// A lab with its inventory in a folder of its own, state beside it.
pub struct Bench {
    lab: Option<Lab>,
    pub dir: tempfile::TempDir,
}

/// What a command gave.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Panics with all that was said unless the code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        self
    }
}

impl Bench {
    /// Boots the twin of `inventory` (text of a file) as the lab `name`, with `release` on its hosts. Nothing is applied yet.
    pub fn up(name: &str, inventory: &str, release: Release) -> Self {
        let (bench, spec) = Self::off(name, inventory, release);
        bench.booted(Lab::up(&spec, &|_| ()))
    }

    /// As [`Bench::up`]. Where the release's packages cannot be had the test is listed as not run, and there is no bench.
    pub fn up_if_had(name: &str, inventory: &str, release: Release) -> Option<Self> {
        use std::io::Write as _;
        let (bench, spec) = Self::off(name, inventory, release);
        match Lab::up(&spec, &|_| ()) {
            Err(infra::lab::Error::Command { what, reason }) if what == "build the image" => {
                let line = format!("{name}: the packages of {release} cannot be had: {reason}").replace('\n', " ");
                eprintln!("{line}");
                if let Some(list) = std::env::var_os("INFRA_TESTS_SKIPPED") {
                    let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
                    writeln!(list, "{line}").unwrap();
                }
                None
            }
            lab => Some(bench.booted(lab)),
        }
    }

    /// The three tiers on bookworm, applied once, with authorities that are a hundred days old.
    pub fn applied(name: &str) -> Self {
        Self::applied_to(name, &THREE_TIER, Release::Bookworm)
    }

    /// The twin of `inventory` with everything applied by this very program. That is done once, on bare hosts: whoever comes later
    /// gets copies of their disks and of the controller's state. The leaves of a hundred days ago are in `over.json`.
    pub fn applied_to(name: &str, inventory: &str, release: Release) -> Self {
        let (bench, spec) = Self::off(name, inventory, release);
        // A day is not long for any certificate.
        let today = OffsetDateTime::now_utc().date();
        let snapshot = Snapshot::of(&spec, &format!("{}{today}\n{inventory}", program()), &|_| ()).unwrap();
        let Some(snapshot) = snapshot else {
            let bench = bench.booted(Lab::up(&spec, &|_| ()));
            bench.apply_aged();
            return bench;
        };
        let is_new = !snapshot.is_whole();
        let snapshot = if is_new {
            let mut bare = Self::up(name, inventory, release);
            bare.apply_aged();
            bare.lab.take().unwrap().keep(snapshot, bare.dir.path()).unwrap()
        } else {
            snapshot
        };
        let copied = Command::new("cp").arg("-a").arg(snapshot.beside().join(".")).arg(bench.dir.path()).status();
        assert!(copied.unwrap().success());
        let bench = bench.booted(Lab::up_from(&snapshot, &spec, &|_| ()));
        bench.all_serve();
        if is_new {
            let said = bench.apply().expect(0);
            assert!(said.out.contains("nothing to do"), "a copy is not as its original: {}", said.out);
        }
        bench
    }

    /// The first apply.
    fn apply_aged(&self) {
        let (site, then) = (self.site(), OffsetDateTime::now_utc() - Duration::from_secs(100 * 86400));
        infra::pki::ensure(&site, &site.state, then).unwrap();
        std::fs::rename(site.state.join("pki/leaves.json"), self.dir.path().join("over.json")).unwrap();
        self.apply().expect(0);
    }

    /// Waits until each load balancer has seen that each of its servers is well. After a boot it first takes them for well, and for
    /// some seconds for ill where they came up later than it. Servers that follow the checks of others have none of their own.
    fn all_serve(&self) {
        let script = "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock | awk -F, '
            /^#/ || NF < 37 || $2 == \"FRONTEND\" || $2 == \"BACKEND\" || $18 == \"no check\" || $37 == \"\" { next }
            { servers++; well += $18 == \"UP\" && $37 ~ /L7OK/ }
            END { exit servers == 0 || well < servers }'";
        for lb in self.site().with_role(Role::Lb) {
            wait(&format!("{} sees that all servers are well", lb.name), Duration::from_secs(60), || {
                (self.sh(lb.name.as_str(), script).code == 0).then_some(())
            });
        }
    }

    /// The folder and the spec of a lab of which nothing is there.
    fn off(name: &str, inventory: &str, release: Release) -> (Self, Spec) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("inventory.yml"), inventory).unwrap();
        let bench = Self { lab: None, dir };
        // What a test that was killed has left is another lab's spec: start from nothing.
        let _ = infra::lab::down(name);
        let spec = Spec::of_site(&bench.site(), name, release);
        (bench, spec)
    }

    fn booted(mut self, lab: Result<Lab, infra::lab::Error>) -> Self {
        self.lab = Some(lab.unwrap_or_else(|e| panic!("the lab does not come up: {e}")));
        self
    }

    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().unwrap()
    }

    pub fn inventory(&self) -> PathBuf {
        self.dir.path().join("inventory.yml")
    }

    pub fn site(&self) -> Site {
        load::load(&self.inventory()).unwrap_or_else(|e| panic!("{e:?}")).0
    }

    /// Replaces text of the inventory; panics where it does not stand there.
    #[track_caller]
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.inventory()).unwrap();
        assert!(text.contains(from), "no `{from}` in\n{text}");
        std::fs::write(self.inventory(), text.replace(from, to)).unwrap();
    }

    /// A command that runs `infra WORDS…` on the controller, in the inventory's folder. Not started yet.
    pub fn infra_command(&self, words: &[&str]) -> Command {
        let mut argv = vec![env!("CARGO_BIN_EXE_infra")];
        argv.extend(words);
        let mut command = self.lab().command(&Target::Controller, argv).unwrap();
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .env_remove("INFRA_INVENTORY")
            .env_remove("INFRA_STATE");
        command
    }

    /// Runs `infra WORDS…` on the controller; it finds `./inventory.yml`. What `--json` prints is held to its schema.
    pub fn infra(&self, words: &[&str]) -> Said {
        let said = Said::of(&self.infra_command(words).output().unwrap());
        if words.contains(&"--json") {
            events::hold(&said.out);
        }
        said
    }

    pub fn apply(&self) -> Said {
        self.infra(&["apply", "--yes"])
    }

    /// A shell script at a host (`web1`), at `controller` or `outside`, as root; past SSH and the firewall.
    pub fn sh(&self, place: &str, script: &str) -> Said {
        let mut command = self.lab().command(&Target::from(place), ["sh", "-c", script]).unwrap();
        // What it starts works on the inventory's own state, as `Bench::infra` does.
        Said::of(&command.stdin(Stdio::null()).env_remove("INFRA_STATE").output().unwrap())
    }

    /// What a script says on each of `hosts`, which run it at the same time; it must succeed.
    #[track_caller]
    pub fn on_each(&self, hosts: &[&str], script: &str) -> Vec<String> {
        std::thread::scope(|scope| {
            let runs: Vec<_> = hosts.iter().map(|host| scope.spawn(move || self.sh(host, script))).collect();
            runs.into_iter().map(|run| run.join().unwrap().expect(0).out).collect()
        })
    }

    /// The authority of the sites' names as a file, for clients on the internet's side.
    pub fn sites_ca(&self) -> PathBuf {
        let path = self.dir.path().join("sites-ca.crt");
        let issued = infra::pki::ensure(&self.site(), &self.site().state, OffsetDateTime::now_utc()).unwrap();
        let text = issued.materials.public(&"pki/sites-ca.crt".parse().unwrap()).unwrap();
        // Clients that run meanwhile find a whole file at any moment.
        infra::base::fsx::write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        path
    }

    /// A page from `outside`, over HTTPS with everything checked: status and body.
    pub fn page(&self, url: &str) -> (u16, String) {
        let ca = self.sites_ca();
        let script = format!("curl -sS --max-time 10 --cacert '{}' -w '\\n%{{http_code}}' '{url}'", ca.display());
        let said = self.sh("outside", &script);
        let (body, status) = said.out.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), format!("{body}{}", said.err))
    }

    pub fn reboot(&self, host: &str) {
        self.lab().reboot(host).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.take() {
            let down = lab.down();
            // A second panic would hide the first.
            if !std::thread::panicking() {
                down.unwrap();
            }
        }
    }
}

/// The digest of the `infra` under test.
fn program() -> String {
    let infra = std::fs::File::open(env!("CARGO_BIN_EXE_infra")).unwrap();
    let output = Command::new("sha256sum").stdin(infra).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Asks again and again until `test` gives something; panics with `what` at the deadline.
#[track_caller]
pub fn wait<T>(what: &str, within: Duration, mut test: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = test() {
            return value;
        }
        assert!(Instant::now() < deadline, "not seen within {} s: {what}", within.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Copies a folder's files (templates to be shadowed).
pub fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

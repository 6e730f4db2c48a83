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

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use infra::inventory::load;
use infra::inventory::site::Site;
use infra::lab::{Lab, Release, Spec, Target};

/// The inventory that the demonstration runs on.
pub const THREE_TIER_PUBLIC: &str = include_str!("../../inventories/three-tier.yml");

/// The same with certificates of our own authority, which most tests begin with: nothing but infra is in the way.
pub static THREE_TIER: LazyLock<String> = LazyLock::new(|| {
    let (before, _) = THREE_TIER_PUBLIC.split_once("  issuer: ").unwrap();
    format!("{before}  issuer: internal\n")
});

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
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("inventory.yml"), inventory).unwrap();
        let mut bench = Self { lab: None, dir };
        // What a test that was killed has left is another lab's spec: start from nothing.
        let _ = infra::lab::down(name);
        let spec = Spec::of_site(&bench.site(), name, release);
        bench.lab = Some(Lab::up(&spec, &|_| ()).unwrap_or_else(|e| panic!("the lab does not come up: {e}")));
        bench
    }

    /// The three tiers on bookworm, applied once.
    pub fn applied(name: &str) -> Self {
        let bench = Self::up(name, &THREE_TIER, Release::Bookworm);
        bench.apply().expect(0);
        bench
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

    /// Runs `infra WORDS…` on the controller; it finds `./inventory.yml`.
    pub fn infra(&self, words: &[&str]) -> Said {
        Said::of(&self.infra_command(words).output().unwrap())
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

    /// The authority of the sites' names as a file, for clients on the internet's side.
    pub fn sites_ca(&self) -> PathBuf {
        let path = self.dir.path().join("sites-ca.crt");
        let issued = infra::pki::ensure(&self.site(), &self.site().state, time::OffsetDateTime::now_utc()).unwrap();
        std::fs::write(&path, issued.materials.public("pki/sites-ca.crt").unwrap()).unwrap();
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

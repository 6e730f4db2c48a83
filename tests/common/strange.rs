//! A public CA on a bad day, on the internet's side of a lab: `strange.py` in the place of whatever serves Let's Encrypt's
//! directory there, in front of the lab's Pebble. Used by `tests/lab/*.rs` beside `bench`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use infra::inventory::site::KeyKind;
use infra::lab::{Lab, Target};
use infra::pki::internal_ca::{Authority, Permitted, Purpose, Wish};
use serde_json::{Value, json};

use crate::bench::{Bench, wait};

/// Whose place it takes.
pub const PRODUCTION: &str = "acme-v02.api.letsencrypt.org";
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/strange.py");

pub struct Strange {
    lab: Lab,
    folder: tempfile::TempDir,
    /// Where clients find it, and where Pebble stands.
    sockets: (SocketAddr, SocketAddr),
    child: RefCell<Option<Child>>,
}

impl Strange {
    /// Takes the place of what serves the directory. It does nothing strange yet.
    pub fn start(bench: &Bench) -> Self {
        let lab = bench.lab().clone();
        let (config, upstream) = pebble(&lab);
        let folder = tempfile::tempdir().unwrap();
        for ending in ["crt", "key"] {
            let name = format!("server.{ending}");
            std::fs::copy(config.parent().unwrap().join(&name), folder.path().join(name)).unwrap();
        }
        let now = time::OffsetDateTime::now_utc();
        let permitted = Permitted { domains: vec!["letsencrypt.org".to_owned()], networks: vec![] };
        let nobody = Authority::new("nobody", permitted, now).unwrap();
        let wish = Wish {
            names: vec![PRODUCTION.to_owned()],
            addresses: vec![],
            purpose: Purpose::Server,
            key: KeyKind::default(),
        };
        let leaf = nobody.signer().unwrap().issue(&wish, now).unwrap();
        std::fs::write(folder.path().join("foreign.crt"), &leaf.certificate).unwrap();
        let key = serde_json::to_value(&leaf).unwrap()["key"].as_str().unwrap().to_owned();
        std::fs::write(folder.path().join("foreign.key"), key).unwrap();
        let front = SocketAddr::new(upstream.ip(), 443);
        // Its own server there gives way.
        let listeners = lab.output(&Target::Outside, ["ss", "-Hltnp", &format!("src {}", front.ip())]).unwrap();
        let listeners = String::from_utf8(listeners.stdout).unwrap();
        let held =
            listeners.lines().find(|l| l.contains(&format!("{front} "))).unwrap_or_else(|| panic!("{listeners}"));
        let pid = held.split_once("pid=").unwrap().1.split(',').next().unwrap();
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        let strange = Self { lab, folder, sockets: (front, upstream), child: RefCell::default() };
        strange.does(&json!({}));
        strange.again();
        strange
    }

    /// From now on it does this; see `strange.py`.
    pub fn does(&self, control: &Value) {
        let (path, new) = (self.folder.path().join("control.json"), self.folder.path().join("control.new"));
        std::fs::write(&new, control.to_string()).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Nobody listens any more.
    pub fn stop(&self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn again(&self) {
        let (front, upstream) = self.sockets;
        let parts = [front, upstream].map(|s| [s.ip().to_string(), s.port().to_string()]);
        let mut command =
            self.lab.command(&Target::Outside, ["python3", PROGRAM, self.folder.path().to_str().unwrap()]).unwrap();
        self.child.replace(Some(command.args(parts.concat()).stdin(Stdio::null()).spawn().unwrap()));
        wait("the strange CA answers", Duration::from_secs(20), || {
            let url = format!("https://{PRODUCTION}/directory");
            let said = self.lab.output(&Target::Outside, ["curl", "-qsf", "-m", "5", &url]).unwrap();
            said.status.success().then_some(())
        });
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many orders were made in production.
    pub fn orders(&self) -> usize {
        let made = |r: &&Value| r["kind"] == "newOrder" && r["status"] == 201 && r["host"] == PRODUCTION;
        self.requests().iter().filter(made).count()
    }

    /// The tokens of all challenges.
    pub fn tokens(&self) -> Vec<String> {
        let of = |r: &Value| r["tokens"].as_array().cloned().unwrap_or_default();
        self.requests().iter().flat_map(of).map(|t| t.as_str().unwrap().to_owned()).collect()
    }

    /// How many requests have been made to hang or to wait.
    pub fn waiting(&self) -> usize {
        self.requests().iter().filter(|r| r["done"] == "hang" || r["done"] == "hold").count()
    }

    /// Pebble dies and is started as before: it has forgotten all accounts and orders, and has another root. Gives that root.
    pub fn forgets(&self) -> String {
        let (config, upstream) = pebble(&self.lab);
        let said = self.lab.output(&Target::Outside, ["ss", "-Hltnp", &format!("src {}", upstream.ip())]).unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        let line = text.lines().find(|l| l.contains(&format!("{upstream} "))).unwrap_or_else(|| panic!("{text}"));
        let pid = line.split_once("pid=").unwrap().1.split(',').next().unwrap().to_owned();
        let read = |what: &str| -> Vec<String> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap();
            text.split_terminator('\0').map(ToOwned::to_owned).collect()
        };
        let (argv, environment) = (read("cmdline"), read("environ"));
        let settings = environment.iter().filter(|line| line.starts_with("PEBBLE_"));
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        let mut words: Vec<String> = vec!["setsid".into(), "--fork".into(), "env".into()];
        words.extend(settings.cloned());
        words.extend(argv);
        let log = std::fs::File::options().append(true).open(config.with_file_name("pebble.log")).unwrap();
        let mut command = self.lab.command(&Target::Outside, &words).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        let parsed: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        let management: SocketAddr = parsed["pebble"]["managementListenAddress"].as_str().unwrap().parse().unwrap();
        wait("Pebble's new root", Duration::from_secs(20), || {
            let said = self.lab.output(&Target::Outside, ["curl", "-qksf", &format!("https://{management}/roots/0")]);
            let said = said.unwrap();
            said.status.success().then(|| String::from_utf8(said.stdout).unwrap())
        })
    }
}

impl Drop for Strange {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The configuration of the Pebble that stands for production, and where it listens.
fn pebble(lab: &Lab) -> (PathBuf, SocketAddr) {
    let hosts = std::fs::read_to_string(lab.dir().join("outside/hosts")).unwrap();
    let line = hosts.lines().find(|l| l.split_whitespace().nth(1) == Some(PRODUCTION)).unwrap();
    let address: std::net::IpAddr = line.split_whitespace().next().unwrap().parse().unwrap();
    let listens = |file: &Path| -> Option<SocketAddr> {
        let config: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        config["pebble"]["listenAddress"].as_str()?.parse().ok()
    };
    let mut folders = vec![lab.dir().join("outside")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "json")
                && let Some(socket) = listens(&path).filter(|s| s.ip() == address)
            {
                return (path, socket);
            }
        }
    }
    panic!("no Pebble at {address}");
}

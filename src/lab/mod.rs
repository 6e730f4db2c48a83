//! A twin of an infrastructure on this machine: takes a [`Spec`], gives real Debian hosts with the spec's own addresses in
//! network namespaces that reach nothing outside.
//!
//! Besides the hosts there are `outside`, the internet as the hosts see it, and `controller`, from where they are managed;
//! both run this machine's own programs in a namespace. All state is under [`root`], which root alone may enter: `images/`
//! and `snapshots/` are caches, `labs/NAME/` is gone after [`Lab::down`]. A lab's processes are known by what they are (the namespace that
//! they are in, the folder that they were started for), not by remembered numbers, so a lab that crashed is cleaned up as
//! well as one that did not.

pub mod agent;
mod authority;
mod cgroup;
mod command;
pub mod directory;
mod disk;
mod endpoint;
mod error;
pub mod image;
mod life;
mod nameserver;
mod net;
mod outside;
mod place;
pub mod requirements;
mod snapshot;
mod sources;
pub mod spec;
mod ssh;
mod traces;
mod twin;
mod twin_of_site;

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::thread;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::agent::Maker;
pub use self::endpoint::Post;
pub use self::error::Error;
use self::image::Image;
pub use self::life::down;
pub use self::place::{private_root, root};
pub use self::snapshot::Snapshot;
pub use self::spec::{Endpoint, Outside, Release, Spec, SpecHost};
pub use self::traces::traces;
use self::twin::Twin;
use crate::base::fsx;

/// Takes a line about what is being done now.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// The longest that a host may take to boot.
const BOOT: Duration = Duration::from_mins(1);

/// Where a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// On a host, as root.
    Host(String),
    /// On this machine in the network of the controller, where ssh knows the lab's hosts and key.
    Controller,
    /// On this machine in the network of `outside`.
    Outside,
}

impl From<&str> for Target {
    fn from(name: &str) -> Self {
        match name {
            "controller" => Self::Controller,
            "outside" => Self::Outside,
            host => Self::Host(host.to_owned()),
        }
    }
}

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// Its sshd greets.
    Up,
    /// It runs, its sshd does not greet.
    Booting,
    /// It does not run.
    Off,
}

/// One line of [`Lab::status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostStatus {
    /// The host.
    pub name: String,
    /// All that it holds.
    pub addresses: Vec<IpAddr>,
    /// How it is.
    pub power: Power,
}

/// What is remembered of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    spec: Spec,
    outside: Outside,
    tree: PathBuf,
    repository: PathBuf,
    /// The package repository of the monitoring agent's maker.
    #[serde(default)]
    maker: Option<Maker>,
    /// Whether it was once up as a whole.
    complete: bool,
}

/// A lab that is up.
#[derive(Debug, Clone)]
pub struct Lab {
    dir: PathBuf,
    record: Record,
    found: bool,
}

fn dir_of(name: &str) -> PathBuf {
    root().join("labs").join(name)
}

/// The names of all labs that have a folder, crashed ones among them.
///
/// # Errors
/// [`Error::NotRoot`], [`Error::Io`].
pub fn list() -> Result<Vec<String>, Error> {
    let dir = root().join("labs");
    if !place::is_there(&dir)? {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

impl Lab {
    /// The lab of that name.
    ///
    /// # Errors
    /// [`Error::NotUp`] when there is none, or when it crashed; [`Error::NotRoot`].
    pub fn open(name: &str) -> Result<Self, Error> {
        spec::lab_name(name)?;
        let dir = dir_of(name);
        if !place::is_there(&dir.join("lab.json"))? {
            return Err(Error::NotUp(name.to_owned()));
        }
        let lab = Self::read(&dir, name)?;
        if lab.record.complete && net::exists(&net::bridge(name)) {
            Ok(lab)
        } else {
            Err(Error::NotUp(name.to_owned()))
        }
    }

    fn read(dir: &Path, name: &str) -> Result<Self, Error> {
        let path = dir.join("lab.json");
        let text = fs_err::read_to_string(&path)?;
        let record: Record =
            serde_json::from_str(&text).map_err(|e| Error::Record { path: path.clone(), reason: e.to_string() })?;
        if record.spec.name != name {
            return Err(Error::Record { path, reason: format!("it is of the lab `{}`", record.spec.name) });
        }
        Ok(Self { dir: dir.to_owned(), record, found: true })
    }

    fn write_record(&self) -> Result<(), Error> {
        let path = self.dir.join("lab.json");
        let text = serde_json::to_vec_pretty(&self.record)
            .map_err(|e| Error::Record { path: path.clone(), reason: e.to_string() })?;
        Ok(fsx::write_atomic(&path, &text, 0o644)?)
    }

    /// Whether what stands for the whole lab is there; single hosts may be off.
    fn is_alive(&self) -> bool {
        self.record.complete
            && net::exists(&net::bridge(self.name()))
            && net::exists(&net::namespace(self.name(), "controller"))
            && outside::is_serving(&self.record.spec, &self.record.outside)
    }

    /// Does the same for all hosts at once; gives the first error in the spec's order.
    fn each(&self, work: impl Fn(&Twin<'_>) -> Result<(), Error> + Sync) -> Result<(), Error> {
        let work = &work;
        thread::scope(|scope| {
            let hosts = self.record.spec.hosts.iter();
            let threads: Vec<_> = hosts.map(|host| scope.spawn(move || work(&self.twin(host)))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|e| resume_unwind(e));
            // All are joined before the first error is looked for.
            let results: Vec<Result<(), Error>> = threads.into_iter().map(join).collect();
            results.into_iter().collect()
        })
    }

    fn twin<'a>(&'a self, host: &'a SpecHost) -> Twin<'a> {
        Twin { lab: self.name(), dir: &self.dir, host }
    }

    fn twin_of(&self, name: &str) -> Result<Twin<'_>, Error> {
        let known = || self.record.spec.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(", ");
        let host = self.record.spec.host(name);
        let host =
            host.ok_or_else(|| Error::NoHost { lab: self.name().to_owned(), host: name.to_owned(), known: known() })?;
        Ok(self.twin(host))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.spec.name
    }

    /// What it was made from.
    pub fn spec(&self) -> &Spec {
        &self.record.spec
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether [`Lab::up`] found it up.
    pub fn was_up(&self) -> bool {
        self.found
    }

    /// The addresses that `outside` has chosen: of clients, and of the DNS and the package repository.
    pub fn outside_addresses(&self) -> &Outside {
        &self.record.outside
    }

    /// The private key that may log in on every host.
    pub fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// The package repository of the monitoring agent's maker, where the lab has one.
    pub fn maker(&self) -> Option<&Maker> {
        self.record.maker.as_ref()
    }

    /// The first name server, which takes dynamic updates, and the file of the key that may set challenges there; where the
    /// lab has name servers.
    pub fn updates(&self) -> Option<(IpAddr, PathBuf)> {
        let primary = self.record.outside.nameservers.first()?.first()?;
        (!self.record.spec.zones.is_empty()).then(|| (*primary, nameserver::key(&self.dir)))
    }

    /// The host keys of all hosts, as a `known_hosts` file.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// An `ssh_config`(5) by which root on this machine reaches the hosts by name and address; also in the lab's folder as
    /// `ssh_config`.
    pub fn ssh_config(&self) -> String {
        ssh::config(self.spec(), &self.key(), &self.known_hosts(), ssh::From::Machine)
    }

    /// The network namespace of a host, `controller` or `outside`, for ip-netns(8). A host's is another after each boot.
    pub fn namespace(&self, member: &str) -> String {
        net::namespace(self.name(), member)
    }

    /// A command that is ready to run at `target`; its standard streams are this process's.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::Off`].
    pub fn command<S: AsRef<OsStr>>(
        &self,
        target: &Target,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Command, Error> {
        let argv: Vec<OsString> = argv.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let member = match target {
            Target::Controller => "controller",
            Target::Outside => "outside",
            Target::Host(name) => {
                let leader = self.twin_of(name)?.leader().ok_or_else(|| Error::Off(name.clone()))?;
                let nsenter = requirements::find("nsenter").unwrap_or_else(|| "nsenter".into());
                let mut command = Command::new(nsenter);
                command.env_clear().env("TERM", std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()));
                command.envs([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")]);
                command.envs([("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("LANG", "C.UTF-8")]);
                command.args(entering(leader)).args(["sh", "-c", "cd; exec \"$@\"", "sh"]).args(argv);
                return Ok(command);
            }
        };
        Ok(outside::command(self.name(), member, &self.dir, &argv))
    }

    /// Runs a command with this process's standard streams.
    ///
    /// # Errors
    /// As [`Lab::command`]; [`Error::Io`] when it cannot be started.
    pub fn exec<S: AsRef<OsStr>>(
        &self,
        target: &Target,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<ExitStatus, Error> {
        Ok(self.command(target, argv)?.status()?)
    }

    /// Runs a command without input and gives what it printed.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn output<S: AsRef<OsStr>>(&self, target: &Target, argv: impl IntoIterator<Item = S>) -> Result<Output, Error> {
        Ok(self.command(target, argv)?.stdin(std::process::Stdio::null()).output()?)
    }

    /// How each host is.
    pub fn status(&self) -> Vec<HostStatus> {
        let power = |twin: &Twin<'_>| match (twin.is_on(), twin.is_on() && twin.greets()) {
            (false, _) => Power::Off,
            (true, true) => Power::Up,
            (true, false) => Power::Booting,
        };
        let status = |host: &SpecHost| HostStatus {
            name: host.name.clone(),
            addresses: host.all_addresses().collect(),
            power: power(&self.twin(host)),
        };
        self.record.spec.hosts.iter().map(status).collect()
    }

    /// Reboots a host from inside and waits until it greets again.
    ///
    /// # Errors
    /// [`Error::Off`], [`Error::Timeout`].
    pub fn reboot(&self, host: &str) -> Result<(), Error> {
        let twin = self.twin_of(host)?;
        let before = twin.leader();
        let target = Target::Host(host.to_owned());
        // The command may itself fall victim to the reboot.
        self.output(&target, ["systemctl", "reboot"])?;
        twin.wait_for_boot(before, BOOT)
    }

    /// Takes a host's power away: nothing is written back, nothing of it answers.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::Timeout`].
    pub fn kill(&self, host: &str) -> Result<(), Error> {
        self.twin_of(host)?.kill()
    }

    /// Starts a host that is off and waits until it greets.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::Timeout`].
    pub fn start(&self, host: &str) -> Result<(), Error> {
        let twin = self.twin_of(host)?;
        twin.start(&self.record.tree)?;
        twin.wait(BOOT)
    }

    /// Ends the lab and removes all of it but the image.
    ///
    /// # Errors
    /// As [`down`].
    pub fn down(self) -> Result<(), Error> {
        down(self.name()).map(drop)
    }

    /// The image that the hosts run.
    pub fn image(&self) -> Image {
        Image { tree: self.record.tree.clone(), repository: self.record.repository.clone() }
    }
}

/// The arguments of nsenter(1) for all that a process has, its root too. Where this machine is itself in a chroot, the root of the
/// process's mounts is the one of the machine around it, as `systemd-nspawn` can only chroot there.
fn entering(leader: u32) -> [String; 6] {
    ["--target", &leader.to_string(), "--all", "--root", "--wd", "--"].map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    use super::*;

    /// As a lab's host is in a chroot: mounts of its own, and a root that is not theirs.
    #[test]
    fn a_host_is_entered_by_its_own_root() {
        if !command::is_root().unwrap() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = "cd \"$1\" && mkdir usr proc inside && mount --rbind /usr usr && mount -t proc proc proc && \
                    for link in bin lib lib64 sbin; do ln -s usr/$link $link; done && exec chroot . sh -c 'echo ready; read -r end'";
        let mut host = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", make, "sh"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let enter = |args: &[String]| {
            let mut nsenter = Command::new("nsenter");
            nsenter.args(args).args(["test", "-d", "/inside"]).status().unwrap().success()
        };
        let all = entering(host.id());
        let (found, without): (bool, Vec<String>) =
            (enter(&all), all.iter().filter(|word| !matches!(word.as_str(), "--root" | "--wd")).cloned().collect());
        let elsewhere = !enter(&without);
        drop(host.stdin.take());
        host.wait().unwrap();
        assert!(found, "the root of the process was not entered");
        assert!(elsewhere, "this proves nothing: there is but one root");
    }
}

//! A twin of an infrastructure on this machine: takes a [`Spec`], gives real Debian hosts with the spec's own addresses in
//! network namespaces that reach nothing outside.
//!
//! Besides the hosts there are `outside`, the internet as the hosts see it, and `controller`, from where they are managed;
//! both run this machine's own programs in a namespace. All state is under [`root`]: `images/` is a cache, `labs/NAME/` is
//! gone after [`Lab::down`]. A lab's processes are known by what they are (the namespace that they are in, the folder that
//! they were started for), not by remembered numbers, so a lab that crashed is cleaned up as well as one that did not.

mod command;
mod disk;
pub mod image;
mod net;
mod outside;
pub mod requirements;
mod sources;
pub mod spec;
mod ssh;
mod twin;
mod twin_of_site;

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::image::Image;
use self::requirements::Package;
pub use self::spec::{Outside, Release, Spec, SpecHost};
use self::twin::Twin;
use crate::base::fsx;

/// Takes a line about what is being done now.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// The longest that a host may take to boot.
const BOOT: Duration = Duration::from_secs(60);

/// Why a lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec cannot become a lab.
    #[error("{0}")]
    Spec(String),
    /// This machine lacks packages.
    #[error(
        "the lab needs packages that this machine lacks: {}; install them with `{}`",
        .0.iter().map(|p| p.name).collect::<Vec<_>>().join(", "),
        requirements::install_command(.0)
    )]
    Missing(Vec<Package>),
    /// Not root.
    #[error("the lab makes network namespaces and mounts, which only root may; run it with sudo")]
    NotRoot,
    /// No such lab.
    #[error("no lab `{0}` is up")]
    NotUp(String),
    /// No such host.
    #[error("the lab `{lab}` has no host `{host}`; it has {known}")]
    NoHost {
        /// The lab.
        lab: String,
        /// What was asked for.
        host: String,
        /// All that there are.
        known: String,
    },
    /// The host is off.
    #[error("the host `{0}` is off")]
    Off(String),
    /// A process of the lab asked to end the lab.
    #[error("this runs inside the lab `{0}`; take it down from outside of it")]
    Inside(String),
    /// A host did not come up, or did not end.
    #[error("`{host}` did not answer within {seconds} s: {last}")]
    Timeout {
        /// The host.
        host: String,
        /// How long we waited.
        seconds: u64,
        /// Its last words.
        last: String,
    },
    /// A program of this machine failed.
    #[error("cannot {what}: {reason}")]
    Command {
        /// What was to be done, after «cannot».
        what: String,
        /// The program's own words.
        reason: String,
    },
    /// The file system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The lab's own record does not parse (another version wrote it).
    #[error("cannot read the lab's record {}: {reason}; take the lab down and up again", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// Where labs and images are kept: `INFRA_LAB_DIR`, else `/var/lib/infra-lab`.
pub fn root() -> PathBuf {
    match std::env::var_os("INFRA_LAB_DIR") {
        Some(dir) if !dir.is_empty() => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        _ => PathBuf::from("/var/lib/infra-lab"),
    }
}

fn dir_of(name: &str) -> PathBuf {
    root().join("labs").join(name)
}

/// The names of all labs that have a folder, crashed ones among them.
///
/// # Errors
/// [`Error::Io`].
pub fn list() -> Result<Vec<String>, Error> {
    let dir = root().join("labs");
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Ends and removes the lab of that name, whatever state it is in. Gives whether there was anything.
///
/// # Errors
/// [`Error`] with what could not be removed; a second try is safe.
pub fn down(name: &str) -> Result<bool, Error> {
    spec::lab_name(name)?;
    let dir = dir_of(name);
    let was_there = dir.is_dir() || !net::of_lab(name).is_empty();
    if was_there {
        requirements::check()?;
        let lock = lock(&dir)?;
        clean(name, &dir)?;
        remove(&dir)?;
        drop(lock);
    }
    // Only when no other lab is there.
    let _ = std::fs::remove_dir(root().join("labs"));
    if root().is_dir() {
        let _names = hold(&root())?;
        net::tidy();
    }
    Ok(was_there)
}

/// Makes the lab's folder and holds it until dropped; `up` and `down` of one lab exclude each other by it.
fn lock(dir: &Path) -> Result<fs_err::File, Error> {
    loop {
        fs_err::create_dir_all(dir)?;
        let file = hold(dir)?;
        // Who held it before us may have removed the folder.
        if std::fs::metadata(dir).is_ok_and(|now| file.metadata().is_ok_and(|held| held.ino() == now.ino())) {
            return Ok(file);
        }
    }
}

/// Holds a folder for this process alone, until what is given is dropped.
fn hold(dir: &Path) -> Result<fs_err::File, Error> {
    let file = fs_err::File::open(dir)?;
    file.file().lock()?;
    Ok(file)
}

/// Ends every process of the lab, then removes its networks and control groups; leaves the folder.
fn clean(name: &str, dir: &Path) -> Result<(), Error> {
    let me = std::process::id();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let inside: Vec<u32> = net::of_lab(name).iter().flat_map(|ns| net::pids(ns)).collect();
        if inside.contains(&me) {
            return Err(Error::Inside(name.to_owned()));
        }
        let all = command::processes();
        let mut pids: Vec<u32> = all.iter().filter(|p| twin::supervises(p, name, dir, None)).map(|p| p.pid).collect();
        // Supervisors first: they would start again what ends.
        command::kill(&pids);
        if let Some(group) = twin::cgroup(name) {
            twin::kill_cgroup(&group);
        }
        command::kill(&inside);
        pids.extend(inside);
        if pids.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let last = format!("the processes {pids:?} do not end");
            return Err(Error::Timeout { host: name.to_owned(), seconds: 20, last });
        }
        thread::sleep(Duration::from_millis(50));
    }
    let own = ["outside", "controller"].map(|member| net::namespace(name, member));
    net::of_lab(name).iter().chain(&own).try_for_each(|namespace| net::remove(namespace))?;
    twin::remove_cgroup(name)
}

/// Removes the folder.
fn remove(dir: &Path) -> Result<(), Error> {
    disk::release(&dir.join("hosts"))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    // A mount that ended with its processes may take a moment to let go.
    let gone = command::wait_for(deadline, Duration::from_millis(50), || std::fs::remove_dir_all(dir).ok());
    if gone.is_none() && dir.exists() {
        fs_err::remove_dir_all(dir)?;
    }
    Ok(())
}

impl Lab {
    /// Boots a lab and waits until every host greets. When it is up already, starts what of it is off, and makes of it what
    /// `spec` wants: hosts that are the same stay, others are removed or made anew. What a crashed one of that name has left
    /// is removed first.
    ///
    /// # Errors
    /// What could not be done. Of a lab that was not up before, nothing is left then.
    pub fn up(spec: &Spec, progress: Progress<'_>) -> Result<Self, Error> {
        spec.validate()?;
        requirements::check()?;
        disk::check_path(&root())?;
        let outside = spec.choose_outside(None)?;
        let image = image::ensure(&root().join("images"), spec.release, progress)?;
        let dir = dir_of(&spec.name);
        let _lock = lock(&dir)?;
        if let Ok(lab) = Self::read(&dir, &spec.name)
            && lab.is_alive()
        {
            return lab.converge(spec, image, progress);
        }
        if fs_err::read_dir(&dir)?.next().is_some() || !net::of_lab(&spec.name).is_empty() {
            progress("removing what an earlier lab of that name has left");
            Self::empty(&spec.name, &dir)?;
        }
        let record =
            Record { spec: spec.clone(), outside, tree: image.tree, repository: image.repository, complete: false };
        let mut lab = Self { dir, record, found: false };
        if let Err(error) = lab.build(progress) {
            // The first error is the one to tell; what is left now the next `up` or `down` removes.
            let _ = clean(&spec.name, &lab.dir).and_then(|()| remove(&lab.dir));
            return Err(error);
        }
        lab.record.complete = true;
        lab.write_record()?;
        Ok(lab)
    }

    /// Empties the folder without letting go of it (it is the lock).
    fn empty(name: &str, dir: &Path) -> Result<(), Error> {
        clean(name, dir)?;
        for entry in fs_err::read_dir(dir)? {
            let path = entry?.path();
            disk::release(&path)?;
            if path.is_dir() { remove(&path)? } else { fs_err::remove_file(path)? }
        }
        Ok(())
    }

    fn build(&self, progress: Progress<'_>) -> Result<(), Error> {
        let spec = &self.record.spec;
        self.write_record()?;
        fs_err::write(self.dir.join("supervise.sh"), twin::SUPERVISOR)?;
        ssh::key(&self.dir.join("key"), "ed25519", &format!("lab {}", spec.name))?;
        disk::prepare(&self.dir.join("hosts"))?;
        progress("making the network");
        {
            // No other lab's `down` may find the list of namespaces empty just now.
            let _names = hold(&root())?;
            net::create_bridge(&spec.name)?;
        }
        progress(&format!("booting {} hosts of {}", spec.hosts.len(), spec.release));
        self.finish(progress)
    }

    /// Makes of the lab that is up what `spec` wants: a host that is the same stays as it is.
    fn converge(self, spec: &Spec, image: Image, progress: Progress<'_>) -> Result<Self, Error> {
        let before = self.record.clone();
        let outside = spec.choose_outside(Some(&before.outside))?;
        let same = |host: &&SpecHost| {
            let (old, new) = (&before.spec, spec);
            new.host(&host.name).is_some_and(|now| now == *host && new.user_of(now) == old.user_of(host))
                && old.apps.get(&host.name) == new.apps.get(&host.name)
                && (old.release == new.release && before.tree == image.tree)
        };
        let gone: Vec<&SpecHost> = before.spec.hosts.iter().filter(|h| !same(h)).collect();
        for host in gone {
            progress(&format!("removing `{}`, which is to be another or none", host.name));
            let twin = self.twin(host);
            twin.kill()?;
            remove(&twin.folder())?;
        }
        progress(&format!("the lab `{}` is up", spec.name));
        let (tree, repository) = (image.tree, image.repository);
        let moved = outside.services != before.outside.services;
        let record = Record { spec: spec.clone(), outside, tree, repository, complete: true };
        let lab = Self { dir: self.dir.clone(), record, found: true };
        lab.write_record()?;
        lab.finish(progress)?;
        if moved {
            lab.each(|twin| {
                let text = net::resolv_conf(&lab.record.outside.services, |a| twin.host.speaks(a));
                let host = Target::Host(twin.host.name.clone());
                lab.output(&host, ["sh", "-c", "printf %s \"$1\" >/etc/resolv.conf", "sh", &text]).map(drop)
            })?;
        }
        Ok(lab)
    }

    /// Makes and starts what is not there yet, and waits for it.
    fn finish(&self, progress: Progress<'_>) -> Result<(), Error> {
        let Record { spec, outside, repository, tree, .. } = &self.record;
        let login = fs_err::read_to_string(self.dir.join("key.pub"))?;
        self.each(|twin| {
            let dir = twin.folder();
            if !dir.exists() {
                // Under another name until it is whole.
                let new = self.dir.join("hosts").join(format!(".{}", twin.host.name));
                if new.exists() {
                    remove(&new)?;
                }
                let (upper, keys) = (new.join("disk/upper"), new.join("keys"));
                [&upper, &new.join("root")].into_iter().try_for_each(fs_err::create_dir_all)?;
                ssh::host_keys(&keys, &twin.host.name)?;
                disk::Disk { tree, upper }.write_host(spec, twin.host, &outside.services, &keys, &login)?;
                let addresses: Vec<IpAddr> = twin.host.all_addresses().collect();
                fs_err::write(new.join("net.sh"), net::script(&spec.name, &twin.host.name, &addresses, &[]))?;
                fs_err::rename(new, dir)?;
            }
            twin.start(tree)
        })?;
        let known = spec.hosts.iter().map(|h| ssh::known_hosts(&self.dir.join("hosts").join(&h.name).join("keys"), h));
        fs_err::write(self.dir.join("known_hosts"), known.collect::<Result<String, Error>>()?)?;
        fs_err::write(self.dir.join("ssh_config"), self.ssh_config())?;
        outside::create(spec, outside, &self.dir, repository)?;
        self.each(|twin| {
            twin.wait(BOOT)?;
            progress(&format!("`{}` is up", twin.host.name));
            Ok(())
        })
    }

    /// The lab of that name.
    ///
    /// # Errors
    /// [`Error::NotUp`] when there is none, or when it crashed.
    pub fn open(name: &str) -> Result<Self, Error> {
        spec::lab_name(name)?;
        let dir = dir_of(name);
        if !dir.join("lab.json").exists() {
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
                command.args(["--target", &leader.to_string(), "--all", "--", "sh", "-c", "cd; exec \"$@\"", "sh"]);
                command.args(argv);
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

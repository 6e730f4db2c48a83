//! One host of a lab as a running machine: starts its supervisor, finds its first process, ends it hard, waits for its sshd.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::command::{self, Process};
use super::spec::SpecHost;
use super::{Error, cgroup, net};

/// The supervisor's script, written into each lab's folder.
pub(super) const SUPERVISOR: &str = include_str!("supervise.sh");
const PAUSE: Duration = Duration::from_millis(100);

/// Where a host's things are.
#[derive(Debug, Clone)]
pub(super) struct Twin<'a> {
    /// The lab's name.
    pub(super) lab: &'a str,
    /// The lab's folder.
    pub(super) dir: &'a Path,
    /// The host.
    pub(super) host: &'a SpecHost,
}

/// Whether `process` supervises or contains a host of the lab in `dir`: one host, or all of them.
pub(super) fn supervises(process: &Process, lab: &str, dir: &Path, host: Option<&str>) -> bool {
    let script = dir.join("supervise.sh");
    let folder = host.map(|h| dir.join("hosts").join(h));
    let shell =
        ["sh", "unshare", "setsid"].iter().any(|name| process.is(name)) && process.has(&script.to_string_lossy());
    let machine = format!("--machine={}", net::namespace(lab, host.unwrap_or_default()));
    let nspawn = process.is("systemd-nspawn")
        && process.argv.iter().any(|a| if host.is_some() { *a == machine } else { a.starts_with(&machine) });
    nspawn || shell && folder.is_none_or(|f| process.has(&f.to_string_lossy()))
}

impl Twin<'_> {
    /// The host's folder in the lab's.
    pub(super) fn folder(&self) -> PathBuf {
        self.dir.join("hosts").join(&self.host.name)
    }

    /// Its namespace, which is also its machine's name.
    pub(super) fn namespace(&self) -> String {
        net::namespace(self.lab, &self.host.name)
    }

    fn supervisors(&self) -> Vec<u32> {
        let processes = command::processes();
        let own = processes.iter().filter(|p| supervises(p, self.lab, self.dir, Some(&self.host.name)));
        own.map(|p| p.pid).collect()
    }

    /// Whether it is on (or on its way up).
    pub(super) fn is_on(&self) -> bool {
        !self.supervisors().is_empty()
    }

    /// Starts it, unless it is on.
    pub(super) fn start(&self, tree: &Path) -> Result<(), Error> {
        if self.is_on() {
            return Ok(());
        }
        let dir = self.folder();
        let group = cgroup::of_lab(self.lab).map(|g| g.join(&self.host.name)).unwrap_or_default();
        let script = self.dir.join("supervise.sh");
        let namespace = self.namespace();
        let argv: [&OsStr; 8] = [
            "sh".as_ref(),
            script.as_ref(),
            "run".as_ref(),
            dir.as_ref(),
            namespace.as_ref(),
            self.host.name.as_ref(),
            tree.as_ref(),
            group.as_ref(),
        ];
        command::detach(&format!("start `{}`", self.host.name), &dir.join("log"), &argv)
    }

    /// Takes its power away, and its cable.
    pub(super) fn kill(&self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let namespace = self.namespace();
        let gone = command::wait_for(deadline, PAUSE, || {
            let mut pids = self.supervisors();
            command::kill(&pids);
            if let Some(group) = cgroup::of_lab(self.lab) {
                cgroup::kill(&group.join(&self.host.name));
            }
            pids = net::pids(&namespace);
            command::kill(&pids);
            (pids.is_empty() && !self.is_on()).then_some(())
        });
        if gone.is_none() {
            return Err(Error::Timeout {
                host: self.host.name.clone(),
                seconds: 10,
                last: "it does not end".to_owned(),
            });
        }
        let script = self.folder().join("net.sh");
        command::run("unplug a host", Command::new("sh").arg(script).arg("down"))?;
        Ok(())
    }

    /// The process that is number 1 inside (`NSpid` of `proc_pid_status`(5)).
    pub(super) fn leader(&self) -> Option<u32> {
        net::pids(&self.namespace()).into_iter().find(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let inside = status.lines().find_map(|l| l.strip_prefix("NSpid:")).unwrap_or_default();
            let numbers: Vec<&str> = inside.split_whitespace().collect();
            // Not a process of this machine in the host's network only.
            numbers.len() > 1 && numbers.last() == Some(&"1")
        })
    }

    /// Whether its sshd greets, asked in its own network: a firewall between us proves nothing about it.
    pub(super) fn greets(&self) -> bool {
        let namespace = self.namespace();
        let (Some(address), true) = (self.host.addresses.first(), net::exists(&namespace)) else { return false };
        let mut nc = Command::new("nsenter");
        nc.arg(format!("--net={}", net::file(&namespace).display()));
        nc.args(["busybox", "nc", "-w", "2", &address.to_string(), &self.host.port().to_string()]);
        command::run("greet", &mut nc).is_ok_and(|words| words.starts_with("SSH-"))
    }

    /// Waits until its sshd greets.
    pub(super) fn wait(&self, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        let mut seen = Instant::now();
        let up = command::wait_for(deadline, PAUSE, || {
            if self.greets() {
                return Some(true);
            }
            if self.is_on() {
                seen = Instant::now();
            }
            // Between two programs of its chain, or on a busy machine before the first, it is not to be seen for a moment.
            (seen.elapsed() > Duration::from_secs(5)).then_some(false)
        });
        if up == Some(true) {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.folder().join("log")).unwrap_or_default();
        let last = command::last_lines(&log, 4);
        Err(Error::Timeout { host: self.host.name.clone(), seconds: within.as_secs(), last })
    }

    /// Waits until number 1 inside is another than `old` and sshd greets.
    pub(super) fn wait_for_boot(&self, old: Option<u32>, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        let next = command::wait_for(deadline, PAUSE, || self.leader().filter(|now| Some(*now) != old));
        if next.is_none() {
            let last = "it has not booted again".to_owned();
            return Err(Error::Timeout { host: self.host.name.clone(), seconds: within.as_secs(), last });
        }
        self.wait(deadline.saturating_duration_since(Instant::now()))
    }
}

//! What a host should be and what it is: `Desired` is made by the services, `Observed` by the observation; `plan` compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::net::{HostName, Port};
use crate::base::proto::Proto;
use crate::base::text::Text;
pub use crate::plan::body::{Body, Digest};
pub use crate::plan::facts::{Facts, Version};
pub use crate::plan::phase::Phase;
use crate::plan::ruleset::{Rule, Ruleset};
use crate::plan::task::{CutOff, Task};

/// Owner, group and mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// User name.
    pub owner: String,
    /// Group name.
    pub group: String,
    /// Permission bits, e.g. `0o640`.
    pub mode: u32,
}

impl Access {
    /// `root:root`.
    pub fn root(mode: u32) -> Self {
        Self { owner: "root".into(), group: "root".into(), mode }
    }
}

/// What a change of a file asks of a unit. Ordered so that the stronger one comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// The running daemon is given the new file; `systemctl reload` where it does not take it, or is not sound for that.
    Swap,
    /// The running daemon is told what changes, by the unit's setter ([`DesiredHost::setters`]); a start of it needs no telling.
    Set,
    /// `systemctl reload`, or start where it is not running.
    Reload,
    /// `systemctl restart`.
    Restart,
    /// `systemctl restart`, but not before a person has confirmed it; until then it is owed, and each run tells so.
    Confirm,
    /// `systemctl disable --now`: nothing of it is wanted any more.
    Stop,
}

/// What is kept on a host: a debt, and what a removal asks for. A swap is neither, as a reload pays for it; nor is what a daemon
/// is told, as it can be told only what stands there.
impl std::str::FromStr for Follow {
    type Err = crate::base::net::Invalid;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "reload" => Ok(Self::Reload),
            "restart" => Ok(Self::Restart),
            "confirm" => Ok(Self::Confirm),
            "stop" => Ok(Self::Stop),
            _ => Err(crate::base::net::Invalid::new("is neither reload, restart, confirm nor stop")),
        }
    }
}

impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Swap => "swap",
            Self::Set => "set",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Confirm => "confirm",
            Self::Stop => "stop",
        })
    }
}

/// A file that should be on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// The service that wants it.
    pub service: &'static str,
    /// The phase in which it is put in place.
    pub phase: Phase,
    /// Owner, group, mode.
    pub access: Access,
    /// Its content.
    pub body: Body,
    /// Units that must follow a change.
    pub then: BTreeMap<String, Follow>,
    /// One line for a person where the content cannot be shown (a certificate's name and dates).
    pub about: Option<String>,
}

/// A folder that should exist. It is made, never removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// The phase in which it is made.
    pub phase: Phase,
    /// Owner, group, mode.
    pub access: Access,
}

/// A unit that should be enabled and running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitWanted {
    /// The phase in which it is started.
    pub phase: Phase,
}

/// A command that must accept the staged files before anything is changed. It runs on the host in a private mount
/// namespace in which the staged files stand at their real paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// As a person would name it: `haproxy -c`.
    pub title: String,
    /// sh text; exit 0 accepts, else its output says why.
    pub command: String,
}

/// What is looked at on a host to which packages or its first rules come, before a person is asked: what is found late costs more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// sh text that needs no package of ours and changes nothing; exit 0 = all is well, else its output says what is not.
    pub command: String,
    /// Whether nothing can be done then; else it is told, and no more.
    pub binding: bool,
}

/// Something that shows that a service works. It runs on the host as root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// After which phase's changes it must hold.
    pub phase: Phase,
    /// As a person would say it: `https on 10.0.2.11:8443 with the right certificate`.
    pub title: String,
    /// sh text; exit 0 = seen. Repeated until `within` is over.
    pub command: Text,
    /// How long it may take to come true.
    pub within: Duration,
    /// Failing is told, but puts nothing back (what is the user's own, such as the program behind the TLS front).
    pub advisory: bool,
}

/// Who may still use what this run replaces: workers of before a reload, which serve with the configuration of before until
/// their last connection has ended. It is asked on the host as root, again and again, before anything closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// The service.
    pub service: &'static str,
    /// sh text; exit 0 = nobody is left, else its output says who is, as a part of a sentence: `1 former worker of x still
    /// holds 2 connections`.
    pub command: String,
}

/// What one host should be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DesiredHost {
    /// Package names.
    pub packages: BTreeSet<String>,
    /// By absolute path.
    pub files: BTreeMap<String, File>,
    /// By absolute path; made in order, so a parent stands before its child.
    pub folders: BTreeMap<String, Folder>,
    /// By name, e.g. `haproxy.service`.
    pub units: BTreeMap<String, UnitWanted>,
    /// How a unit takes files while it runs ([`Follow::Swap`]), by unit: sh text of a function's body, which is given their paths in
    /// `$swaps` and returns 0 where it has taken all of them, else sets `why`.
    pub swaps: BTreeMap<String, String>,
    /// How a running unit is told what changes, by unit, for files with [`Follow::Set`]: sh text that gets such a file on its
    /// standard input, and the file's path as `$1`. It is run again with the file of before where the phase is put back.
    pub setters: BTreeMap<String, String>,
    /// Tasks, by name; a name begins with that of its service, as `demo/schema`.
    pub tasks: BTreeMap<String, Task>,
    /// Units whose restart a person has confirmed for this run.
    pub confirmed: BTreeSet<String>,
    /// By which option a person confirms the restart of a unit, where that is another than `--restart UNIT`.
    pub words: BTreeMap<String, String>,
    /// In the order of the services.
    pub looks: Vec<Look>,
    /// In the order of the services.
    pub checks: Vec<Check>,
    /// In the order of the services.
    pub probes: Vec<Probe>,
    /// In the order of the services.
    pub drains: Vec<Drain>,
    /// The firewall.
    pub firewall: Option<Ruleset>,
    /// What is open beside that, only while the run lasts.
    pub passages: BTreeSet<Rule>,
}

/// What stands at a path and is neither a regular file nor a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Other {
    /// A symbolic link, and where it points to, as it is written. Nothing of ours follows it.
    Link(String),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(to) => write!(f, "a link to {to}"),
            Self::Fifo => f.write_str("a FIFO"),
            Self::Socket => f.write_str("a socket"),
            Self::Device => f.write_str("a device"),
        }
    }
}

/// A file as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedFile {
    /// Of its bytes; `None` for what is not a regular file.
    pub digest: Option<Digest>,
    /// What it is, where it is not a regular file.
    pub other: Option<Other>,
    /// Owner, group, mode.
    pub access: Access,
    /// Its text, where it differs from what is wanted, is small, and holds no secret.
    pub text: Option<String>,
}

/// A unit as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ObservedUnit {
    /// `ActiveState`: active, inactive, failed, …
    pub active: String,
    /// `UnitFileState`: enabled, disabled, masked, static, or empty.
    pub enabled: String,
    /// `LoadState`: loaded, not-found, masked.
    pub load: String,
}

/// The firewall as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ObservedFirewall {
    /// What we loaded last, as far as it reads.
    pub loaded: Option<Ruleset>,
    /// Whether the live rules are still those that we loaded last.
    pub intact: bool,
    /// Whether the file that is read at boot says the same as what we loaded last.
    pub boot_current: bool,
    /// Other owners of rules that undo or hide ours, each a sentence with the way out: the host is left alone until they are gone.
    pub rivals: Vec<String>,
    /// Other owners of rules that may disturb ours, each a sentence.
    pub warnings: Vec<String>,
    /// Chains of others that refuse ports.
    #[serde(default)]
    pub shut: Vec<Shut>,
    /// The switch by which the host forwards for others, as a path below `/proc/sys`.
    #[serde(default)]
    pub forwards: Option<String>,
    /// Whom the host asks by its own settings.
    #[serde(default)]
    pub asks: Vec<Asks>,
    /// An armed change of an earlier run is neither confirmed nor rolled back yet.
    pub pending: bool,
}

/// Ports that a chain of somebody else refuses whoever comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shut {
    /// `input`, `output`, `prerouting`, `ingress`, …
    pub hook: String,
    /// Family and name of its table.
    pub table: String,
    /// TCP or UDP.
    pub proto: Proto,
    /// The first and the last.
    pub ports: (Port, Port),
}

/// Somebody whom a host asks by its own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// TCP or UDP.
    pub proto: Proto,
    /// At which port.
    pub port: Port,
    /// By which name or address.
    pub of: String,
    /// For what, with an article: `its name server`.
    pub what: String,
}

/// A line of the manifest: a file that we put on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What we wrote.
    pub digest: Digest,
    /// Units that must follow its removal.
    pub then: BTreeMap<String, Follow>,
}

impl Recorded {
    /// Of a file that is put on a host. What has gone cannot be swapped: its removal asks for a reload.
    pub fn of(file: &File) -> Self {
        let then = file.then.iter().map(|(unit, follow)| (unit.clone(), (*follow).max(Follow::Reload)));
        Self { digest: file.body.digest.clone(), then: then.collect() }
    }
}

/// What one host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Distribution and versions.
    pub facts: Facts,
    /// Installed packages among those asked for, with their versions.
    pub packages: BTreeMap<String, String>,
    /// What stands at the paths asked for and at those of the manifest.
    pub files: BTreeMap<String, ObservedFile>,
    /// Which of the folders asked for exist, and how; those on the way to all that was asked for too.
    pub folders: BTreeMap<String, Access>,
    /// Units asked for.
    pub units: BTreeMap<String, ObservedUnit>,
    /// The firewall.
    pub firewall: ObservedFirewall,
    /// What services have learned by questions of their own, by service. [`Part`] is the way in.
    pub parts: BTreeMap<String, Value>,
    /// The same that changes by itself from one look to the next: no plan depends on it.
    pub passing: BTreeMap<String, Value>,
    /// The inventory by whose name we did that last; `None` where nothing was done yet, or by an infra that did not keep it.
    pub owner: Option<HostName>,
    /// What we put there, by path, as of the last run.
    pub manifest: BTreeMap<String, Recorded>,
    /// Reloads and restarts that an earlier run did not come to.
    pub owed: BTreeMap<String, Follow>,
    /// Units that must restart to take what stands in their files, once a person has confirmed it.
    pub held: BTreeSet<String>,
    /// Units that were not told yet what has changed in a file with [`Follow::Set`].
    pub untold: BTreeSet<String>,
    /// Facts that tasks have made true, as the host keeps them, or as a service sees them itself; none of a task that was begun and
    /// is to be taken back.
    pub made: BTreeMap<String, String>,
    /// The phase of an earlier run in which the host went down: its files are those of before, its tasks are not taken back yet.
    pub cut_off: Option<CutOff>,
    /// Our own address as the host sees it.
    pub controller: Option<IpAddr>,
    /// The port at which sshd was entered: behind a translation of ports another than the one that was dialled.
    pub entrance: Option<Port>,
    /// The host's clock, seconds since 1970.
    pub clock: i64,
    /// Free bytes where we stage and keep state.
    pub free: u64,
    /// Why the host cannot be worked on (no systemd, another distribution), if so.
    pub refusal: Option<String>,
}

/// The typed key of a service's own part of what was observed.
#[derive(Debug)]
pub struct Part<T> {
    service: &'static str,
    passing: bool,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Part<T> {
    /// What plans depend on: where it changes between a plan and its execution, the plan no longer holds.
    pub const fn steady(service: &'static str) -> Self {
        Self { service, passing: false, of: PhantomData }
    }

    /// What changes by itself, such as a lag or an uptime.
    pub const fn passing(service: &'static str) -> Self {
        Self { service, passing: true, of: PhantomData }
    }

    /// What the service has learned; `None` where it has learned nothing, or in another form than this one.
    pub fn of(&self, observed: &Observed) -> Option<T> {
        self.among(if self.passing { &observed.passing } else { &observed.parts })
    }

    /// The same, of parts that were kept by service.
    pub fn among(&self, parts: &BTreeMap<String, Value>) -> Option<T> {
        T::deserialize(parts.get(self.service)?).ok()
    }

    /// Keeps what the service has learned. A value that JSON cannot hold counts as nothing.
    pub fn put(&self, value: &T, observed: &mut Observed) {
        let parts = if self.passing { &mut observed.passing } else { &mut observed.parts };
        parts.insert(self.service.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }
}

impl Observed {
    /// A host of these facts with nothing of ours on it.
    pub fn bare(facts: Facts) -> Self {
        Self {
            facts,
            packages: BTreeMap::new(),
            files: BTreeMap::new(),
            folders: BTreeMap::new(),
            units: BTreeMap::new(),
            firewall: ObservedFirewall::default(),
            parts: BTreeMap::new(),
            passing: BTreeMap::new(),
            owner: None,
            manifest: BTreeMap::new(),
            owed: BTreeMap::new(),
            held: BTreeSet::new(),
            untold: BTreeSet::new(),
            made: BTreeMap::new(),
            cut_off: None,
            controller: None,
            entrance: None,
            clock: 0,
            free: 0,
            refusal: None,
        }
    }
}

/// The fleet as it should be.
pub type Desired = BTreeMap<HostName, DesiredHost>;

/// The fleet as it is.
pub type ObservedFleet = BTreeMap<HostName, Observed>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_part_has_its_type() {
        let facts = Facts::of_release("debian", "12");
        let mut observed = Observed::bare(facts);
        let (role, lag) = (Part::<Vec<String>>::steady("db"), Part::<u64>::passing("db"));
        assert_eq!((role.of(&observed), lag.of(&observed)), (None, None));
        role.put(&vec!["replica".to_owned()], &mut observed);
        lag.put(&7, &mut observed);
        assert_eq!((role.of(&observed), lag.of(&observed)), (Some(vec!["replica".to_owned()]), Some(7)));
        assert_eq!(Part::<u64>::steady("db").of(&observed), None, "what was learned has another form");
        let kept: Observed = serde_json::from_value(serde_json::to_value(&observed).unwrap()).unwrap();
        assert_eq!(kept, observed);
    }
}

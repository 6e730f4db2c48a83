//! What a host should be and what it is: `Desired` is made by the services, `Observed` by the probe; `plan` compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::net::HostName;
use crate::plan::ruleset::Ruleset;

/// The fleet's barriers, in order; also the words that a person sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Packages are installed; no configuration is touched.
    Packages,
    /// Everything new is uploaded and accepted by the daemons; nothing is changed.
    Stage,
    /// New flows are opened.
    Widen,
    /// The database's writer.
    Primary,
    /// The database's replicas.
    Replica,
    /// TLS fronts of the app hosts.
    App,
    /// nginx of the web hosts.
    Web,
    /// HAProxy, one load balancer at a time.
    Edge,
    /// Monitoring agents.
    Monitor,
    /// Old flows are closed.
    Narrow,
    /// The whole is seen to work.
    Verify,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Packages,
        Self::Stage,
        Self::Widen,
        Self::Primary,
        Self::Replica,
        Self::App,
        Self::Web,
        Self::Edge,
        Self::Monitor,
        Self::Narrow,
        Self::Verify,
    ];

    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::Stage => "stage",
            Self::Widen => "widen",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::App => "app",
            Self::Web => "web",
            Self::Edge => "edge",
            Self::Monitor => "monitor",
            Self::Narrow => "narrow",
            Self::Verify => "verify",
        }
    }

    /// What happens in it, for the table's last column.
    pub fn about(self) -> &'static str {
        match self {
            Self::Packages => "packages installed, nothing configured yet",
            Self::Stage => "uploaded and checked by the daemons",
            Self::Widen => "firewall: new flows opened first",
            Self::Primary => "the database's writer",
            Self::Replica => "the database's replicas",
            Self::App => "TLS front of the app",
            Self::Web => "nginx",
            Self::Edge => "haproxy, one at a time",
            Self::Monitor => "monitoring agent",
            Self::Narrow => "firewall: old flows closed last",
            Self::Verify => "seen to work, end to end",
        }
    }

    /// Whether hosts go through it one at a time.
    pub fn is_serial(self) -> bool {
        matches!(self, Self::Primary | Self::Edge)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// SHA-256 in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub String);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a file holds: text with sentinels for its materials, and the digest of the bytes that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Rendered text; secrets and certificates are sentinels.
    pub text: String,
    /// Of the materialized bytes.
    pub digest: Digest,
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// The running daemon is given the new file; `systemctl reload` where it does not take it, or is not sound for that.
    Swap,
    /// `systemctl reload`, or start where it is not running.
    Reload,
    /// `systemctl restart`.
    Restart,
    /// `systemctl disable --now`: nothing of it is wanted any more.
    Stop,
}

/// What is kept on a host: a debt, and what a removal asks for. A swap is neither, as a reload pays for it.
impl std::str::FromStr for Follow {
    type Err = crate::base::net::Invalid;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "reload" => Ok(Self::Reload),
            "restart" => Ok(Self::Restart),
            "stop" => Ok(Self::Stop),
            _ => Err(crate::base::net::Invalid::new("is neither reload, restart nor stop")),
        }
    }
}

impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Swap => "swap",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Stop => "stop",
        })
    }
}

/// A file that should be on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The phase in which it is made.
    pub phase: Phase,
    /// Owner, group, mode.
    pub access: Access,
}

/// A unit that should be enabled and running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitWanted {
    /// The phase in which it is started.
    pub phase: Phase,
}

/// A command that must accept the staged files before anything is changed. It runs on the host in a private mount
/// namespace in which the staged files stand at their real paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The service.
    pub service: &'static str,
    /// As a person would name it: `haproxy -c`.
    pub title: String,
    /// sh text; exit 0 accepts, else its output says why.
    pub command: String,
}

/// Something that shows that a service works. It runs on the host as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The service.
    pub service: &'static str,
    /// After which phase's changes it must hold.
    pub phase: Phase,
    /// As a person would say it: `https on 10.0.2.11:8443 with the right certificate`.
    pub title: String,
    /// sh text; exit 0 = seen. Repeated until `within` is over.
    pub command: String,
    /// How long it may take to come true.
    pub within: Duration,
    /// Failing is told, but puts nothing back (what is the user's own, such as the program behind the TLS front).
    pub advisory: bool,
}

/// What one host should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredHost {
    /// Package names.
    pub packages: BTreeSet<String>,
    /// By absolute path.
    pub files: BTreeMap<String, File>,
    /// By absolute path; made in order, so a parent stands before its child.
    pub folders: BTreeMap<String, Folder>,
    /// By name, e.g. `haproxy.service`.
    pub units: BTreeMap<String, UnitWanted>,
    /// In the order of the services.
    pub checks: Vec<Check>,
    /// In the order of the services.
    pub probes: Vec<Probe>,
    /// The firewall.
    pub firewall: Option<Ruleset>,
}

/// A version as daemons print it: `2.6.12` is `[2, 6, 12]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// The first `N.N` or `N.N.N` found in `text`.
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
            let mut parts = word.split('.').filter(|p| !p.is_empty()).map(str::parse::<u16>);
            let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
            Some(Self(major, minor, parts.next().and_then(Result::ok).unwrap_or(0)))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What templates may depend on: the distribution, and the daemons' versions as installed or, before that, as the distribution ships them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `ID` of os-release: `debian`, `ubuntu`.
    pub distribution: String,
    /// `VERSION_ID`: `12`, `24.04`.
    pub release: String,
    /// `HAProxy`.
    pub haproxy: Version,
    /// nginx.
    pub nginx: Version,
    /// The OpenSSL library that the daemons use.
    pub openssl: Version,
    /// nft.
    pub nft: Version,
    /// Something else forwards packets on this host (Docker).
    pub guest_forwarding: bool,
}

/// A file as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedFile {
    /// Of its bytes; `None` for what is no regular file.
    pub digest: Option<Digest>,
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
    /// An armed change of an earlier run is neither confirmed nor rolled back yet.
    pub pending: bool,
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
    /// Which of the folders asked for exist, and how.
    pub folders: BTreeMap<String, Access>,
    /// Units asked for.
    pub units: BTreeMap<String, ObservedUnit>,
    /// The firewall.
    pub firewall: ObservedFirewall,
    /// What we put there, by path, as of the last run.
    pub manifest: BTreeMap<String, Recorded>,
    /// Reloads and restarts that an earlier run did not come to.
    pub owed: BTreeMap<String, Follow>,
    /// Our own address as the host sees it.
    pub controller: Option<IpAddr>,
    /// The host's clock, seconds since 1970.
    pub clock: i64,
    /// Free bytes where we stage and keep state.
    pub free: u64,
    /// Why the host cannot be worked on (no systemd, another distribution), if so.
    pub refusal: Option<String>,
}

/// The fleet as it should be.
pub type Desired = BTreeMap<HostName, DesiredHost>;

/// The fleet as it is.
pub type ObservedFleet = BTreeMap<HostName, Observed>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_daemons_print() {
        assert_eq!(Version::find("HAProxy version 2.6.12-1+deb12u4 2026/10/01"), Some(Version(2, 6, 12)));
        assert_eq!(Version::find("nginx version: nginx/1.22.1"), Some(Version(1, 22, 1)));
        assert_eq!(Version::find("nftables v1.0.6 (Lester Gooch #5)"), Some(Version(1, 0, 6)));
        assert_eq!(Version::find("none"), None);
    }
}

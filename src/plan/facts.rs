//! What is known of a host's system before anything is decided for it: its distribution, and versions and features by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// A version as daemons print it: `2.6.12` is `[2, 6, 12]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// Of a package's version, `[EPOCH:]UPSTREAM[-REVISION]` (deb-version(7)): the first numbers of UPSTREAM, a missing one is 0.
    /// `None` where it begins with no number, or with one that no daemon has.
    pub fn of_package(text: &str) -> Option<Self> {
        let upstream = text.split_once(':').map_or(text, |(_, rest)| rest);
        // Whatever is not a number ends it: `-1`, `+dfsg`, `~rc1`.
        let end = upstream.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(upstream.len());
        let mut parts = upstream[..end].split('.').filter(|part| !part.is_empty()).map(str::parse::<u16>);
        let major = parts.next()?.ok()?;
        let mut next = || parts.next().map_or(Some(0), Result::ok);
        Some(Self(major, next()?, next()?))
    }

    /// The part that decides which settings a daemon knows.
    pub fn minor(self) -> (u16, u16) {
        (self.0, self.1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What templates may depend on: the distribution, and what is known of products and features of a host, by names that their
/// services own. A service asks by its own constant, which has an answer for what is not in here too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `ID` of os-release: `debian`, `ubuntu`.
    pub distribution: String,
    /// `VERSION_ID`: `12`, `24.04`. Without one, as a release has that is not out yet, `VERSION_CODENAME`: `forky`.
    pub release: String,
    /// Of what is installed or, before that, of what would be installed. A product that is not in it is as its release ships it.
    pub versions: BTreeMap<String, Version>,
    /// What the host does or has beside that.
    pub features: BTreeSet<String>,
    /// Its memory in MiB, down to a whole number of [`Facts::MEMORY_STEP`]: another kernel takes a little more or less of it for
    /// itself, and nothing is to change by that. 0 where it is not known.
    #[serde(default)]
    pub memory: u64,
    /// Its processors; 0 where it is not known.
    #[serde(default)]
    pub cores: u32,
    /// How many files one process may have open at most, if root asks for as many (`fs.nr_open`, or in a container the hard limit of
    /// what is given to it); 0 where it is not known.
    #[serde(default)]
    pub files: u64,
}

impl Facts {
    /// Memory is told in steps of so many MiB.
    pub const MEMORY_STEP: u64 = 64;

    /// Of a host of this release, of which nothing else is known.
    pub fn of_release(distribution: &str, release: &str) -> Self {
        Self {
            distribution: distribution.to_owned(),
            release: release.to_owned(),
            versions: BTreeMap::new(),
            features: BTreeSet::new(),
            memory: 0,
            cores: 0,
            files: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_version_is_that_of_its_daemon() {
        for (text, version) in [
            ("2.6.12-1+deb12u1", Some(Version(2, 6, 12))),
            ("1:10.11.6-0+deb12u1", Some(Version(10, 11, 6))),
            ("1:11.8.3+maria~deb13", Some(Version(11, 8, 3))),
            ("3.5.1-1~deb13u1", Some(Version(3, 5, 1))),
            ("1.6.18+dfsg-1", Some(Version(1, 6, 18))),
            ("3.2~rc1-1", Some(Version(3, 2, 0))),
            ("1.26.3-3ubuntu2.1", Some(Version(1, 26, 3))),
            ("8.4.3.2-1", Some(Version(8, 4, 3))),
            ("257-1", Some(Version(257, 0, 0))),
            ("20230311", None),
            ("1.99999.1", None),
            ("1:", None),
            ("~1.2", None),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(Version::of_package(text), version, "{text}");
        }
    }
}

//! What differs between distributions, as a table: versions that they ship, package names.

use crate::plan::state::{Facts, Version};

/// One supported release and what it ships.
struct Release {
    distribution: &'static str,
    version: &'static str,
    haproxy: Version,
    nginx: Version,
    openssl: Version,
    nft: Version,
}

/// Oldest first.
const RELEASES: &[Release] = &[
    Release {
        distribution: "debian",
        version: "12",
        haproxy: Version(2, 6, 12),
        nginx: Version(1, 22, 1),
        openssl: Version(3, 0, 19),
        nft: Version(1, 0, 6),
    },
    Release {
        distribution: "ubuntu",
        version: "24.04",
        haproxy: Version(2, 8, 5),
        nginx: Version(1, 24, 0),
        openssl: Version(3, 0, 13),
        nft: Version(1, 0, 9),
    },
    Release {
        distribution: "debian",
        version: "13",
        haproxy: Version(3, 0, 11),
        nginx: Version(1, 26, 3),
        openssl: Version(3, 5, 1),
        nft: Version(1, 1, 3),
    },
];

impl Release {
    fn facts(&self) -> Facts {
        Facts {
            distribution: self.distribution.into(),
            release: self.version.into(),
            haproxy: self.haproxy,
            nginx: self.nginx,
            openssl: self.openssl,
            nft: self.nft,
            guest_forwarding: false,
        }
    }
}

/// The facts of the oldest supported release, for rendering without a host.
pub fn oldest() -> Facts {
    RELEASES[0].facts()
}

/// What a release ships, if it is supported. `release` is os-release's `VERSION_ID`.
pub fn shipped(distribution: &str, release: &str) -> Option<Facts> {
    RELEASES.iter().find(|r| r.distribution == distribution && r.version == release).map(Release::facts)
}

/// The supported releases, for a person.
pub fn supported() -> Vec<String> {
    RELEASES.iter().map(|r| format!("{} {}", r.distribution, r.version)).collect()
}

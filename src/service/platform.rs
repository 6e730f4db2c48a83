//! What differs between distributions, as a table: the supported releases.

use crate::plan::state::Facts;

/// The supported releases: distribution and version as [`Facts`] have them. Each [`Product`](crate::service::product::Product) says what
/// each of them ships. The first is the oldest one that does for every role; for which roles another is too old is said by
/// [`Floor`](crate::service::product::Floor)s. The last is not out yet: what Debian calls testing and unstable, which both say `forky` of
/// themselves. It stands here for `MySQL` 9.7, which no release has before it.
pub const RELEASES: [(&str, &str); 6] = [
    ("debian", "12"),
    ("ubuntu", "22.04"),
    ("ubuntu", "24.04"),
    ("debian", "13"),
    ("ubuntu", "26.04"),
    ("debian", "forky"),
];

/// Releases that many hosts still run and that are not supported, with the reason and the way out.
const TOO_OLD: [(&str, &str, &str); 1] = [(
    "debian",
    "11",
    "its HAProxy 2.2 is too old for the role `lb`, which needs 2.6, and its nginx 1.18 for `web`, which needs 1.19.10; the release notes of \
     Debian 12 say how it is upgraded",
)];

/// Why a release is not supported, where more can be said than that.
pub fn too_old(distribution: &str, release: &str) -> Option<&'static str> {
    TOO_OLD.iter().find(|(name, version, _)| (*name, *version) == (distribution, release)).map(|(.., why)| *why)
}

/// The place of a release in [`RELEASES`], if it is supported.
pub(super) fn place(distribution: &str, release: &str) -> Option<usize> {
    RELEASES.iter().position(|supported| *supported == (distribution, release))
}

/// The facts of the oldest supported release, for rendering without a host.
pub fn oldest() -> Facts {
    let (distribution, release) = RELEASES[0];
    Facts::of_release(distribution, release)
}

/// What a release ships, if it is supported. `release` is as in [`Facts`].
pub fn shipped(distribution: &str, release: &str) -> Option<Facts> {
    place(distribution, release).map(|_| Facts::of_release(distribution, release))
}

/// The supported releases, for a person.
pub fn supported() -> Vec<String> {
    RELEASES.iter().map(|(distribution, version)| format!("{distribution} {version}")).collect()
}

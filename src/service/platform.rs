//! What differs between distributions, as a table: the supported releases.

use crate::plan::state::Facts;

/// The supported releases, oldest first: distribution and version as [`Facts`] have them. Each
/// [`Product`](crate::service::product::Product) says what each of them ships. The last is not out yet: what Debian calls testing and
/// unstable, which both say `forky` of themselves. It stands here for `MySQL` 9.7, which no release has before it.
pub const RELEASES: [(&str, &str); 5] =
    [("debian", "12"), ("ubuntu", "24.04"), ("debian", "13"), ("ubuntu", "26.04"), ("debian", "forky")];

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

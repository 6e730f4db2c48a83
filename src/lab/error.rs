//! Why a lab could not do what was asked, with what to do about it.

use std::path::PathBuf;

use super::requirements::{self, Package};

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
    /// A lab was taken down, and something of it is still there.
    #[error("the lab `{lab}` is down, but this is left of it: {}; try `infra lab down --name {lab}` again", .left.join(", "))]
    Left {
        /// The lab.
        lab: String,
        /// Each thing: what it is, and where.
        left: Vec<String>,
    },
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

//! What a site is made of: files that the web hosts serve, programs on the app hosts, and the paths that lead to each. A path of a
//! site belongs to the longest of its prefixes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::origin::{Place, SecretRef};
use crate::base::net::{HostName, Port};

/// A folder of static files of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticFiles {
    /// Folder on the web hosts, absolute.
    pub root: String,
    /// URL prefix, begins and ends with `/`.
    pub prefix: String,
    /// Whether paths without a file, as a program in the browser has them, are answered with the folder's own page.
    pub spa: bool,
    /// How long browsers keep what has no digest of its content in its name; `None`: infra says nothing about keeping.
    pub cache: Option<Duration>,
}

/// Where nothing is said: so long is a file of before seen after a release.
pub const KEPT: Duration = Duration::from_mins(10);

/// A program of the user's, as one site sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppProgram {
    /// The paths that are its own, begins and ends with `/`.
    pub path: String,
    /// Its port on loopback of its app hosts. One port on one host is one program, whichever sites and paths lead to it.
    pub port: Port,
    /// Path that answers 200 when it is well, as the program itself is asked.
    pub health: String,
    /// The app hosts on which it runs; empty: all.
    pub hosts: BTreeSet<HostName>,
    /// Whether the web hosts compress texts that it did not compress itself.
    pub compress: bool,
    /// Its line.
    pub place: Place,
}

/// Paths of a site for which a browser asks for name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// A prefix, begins and ends with `/`.
    pub path: String,
    /// Lines `NAME:HASH`, as `htpasswd` writes them.
    pub users: SecretRef,
    /// What a browser shows when it asks.
    pub realm: String,
}

/// Whether a request for `path` is one for what stands under `prefix`, a path that ends with `/`: that without its last slash is too.
pub fn leads(prefix: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    path.starts_with(prefix) || prefix.strip_suffix('/') == Some(path)
}

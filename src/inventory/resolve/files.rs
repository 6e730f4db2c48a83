//! `static:` of a site: takes one folder or a list of them, gives the folders with their prefixes.

use std::time::Duration;

use super::host_path;
use super::paths::{BOOL, Paths, prefix};
use crate::base::diagnostic::Diagnostic;
use crate::inventory::raw::{Entry, Mark, Node};
use crate::inventory::read::Problems;
use crate::inventory::site::{KEPT, StaticFiles};

/// Folders that hold more than a site; none of these nor what is below them is served.
const SYSTEM: [&str; 13] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/var/lib/infra",
];
/// Folders that are not served whole; what is below them may be.
const SHARED: [&str; 9] = ["/", "/home", "/media", "/mnt", "/tmp", "/usr", "/var", "/var/lib", "/var/log"];

/// A year, as long as what has a digest in its name is kept.
const LONGEST: Duration = Duration::from_secs(31_536_000);

/// Reads the folders; those that are wrong are left out.
pub(super) fn files<'a>(
    entry: &'a Entry,
    site: &str,
    paths: &mut Paths<'a>,
    problems: &mut Problems,
) -> Vec<StaticFiles> {
    let what = format!("`static` of {site}");
    entry.each().into_iter().filter_map(|(node, head)| folder(node, head, &what, paths, problems)).collect()
}

fn folder<'a>(
    node: &'a Node,
    head: &'a Mark,
    what: &str,
    paths: &mut Paths<'a>,
    problems: &mut Problems,
) -> Option<StaticFiles> {
    let fields = problems.fields_of(node, head, what, &["root", "prefix", "spa", "cache"])?;
    let help = "write `root: /srv/shop/public`, the folder on the web hosts";
    let root = problems.require(fields, what, "root", help).and_then(|e| static_root(&e.value, problems));
    let prefix = match fields.value("prefix") {
        Some(node) => place(node, paths, problems),
        None if paths.has_program("/") => {
            problems.require(fields, what, "prefix", "write `prefix: /static/`; all other paths are the program's");
            None
        }
        None => paths.take("/", head, false, problems).then(|| "/".to_owned()),
    };
    let spa = fields.value("spa").map_or(Some(false), |node| problems.word(node, "spa", &BOOL));
    let cache = match fields.value("cache") {
        None => Some(KEPT),
        Some(node) if node.text() == Some("false") => None,
        Some(node) => {
            let why = "; `false`: nothing is said about keeping";
            Some(problems.duration(node, "cache", Duration::ZERO..=LONGEST, why)?)
        }
    };
    Some(StaticFiles { root: root?, prefix: prefix?, spa: spa?, cache })
}

fn static_root(node: &Node, problems: &mut Problems) -> Option<String> {
    let path = host_path(node, "root", "", problems)?;
    let bare = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
    let within = |dir: &str| bare == dir || bare.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    if SYSTEM.iter().any(|dir| within(dir)) || SHARED.contains(&bare) {
        problems.push(
            Diagnostic::error(format!("`{path}` must not be served to the internet"))
                .at(&node.span())
                .help("name a folder that holds the site's files and nothing else, such as `/srv/shop/public`"),
        );
        return None;
    }
    Some(bare.to_owned())
}

fn place<'a>(node: &'a Node, paths: &mut Paths<'a>, problems: &mut Problems) -> Option<String> {
    let path = prefix(node, "prefix", "static", problems)?;
    if path == "/" && paths.has_program("/") {
        problems.push(
            Diagnostic::error("the prefix `/` leaves no path to the program")
                .at(&node.span())
                .help("write `prefix: /static/`, or remove `app`"),
        );
        return None;
    }
    paths.take(&path, &node.mark, false, problems).then_some(path)
}

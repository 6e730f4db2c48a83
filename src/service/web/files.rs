//! Static files as nginx serves them: takes a folder of a site, gives what the template knows of it, and the look that the folder is
//! there.

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::DnsName;
use crate::base::sh::quote;
use crate::inventory::site::StaticFiles;

#[derive(Serialize)]
pub(super) struct Files {
    /// Among those of the site, from 1.
    number: usize,
    /// Quoted; ends with a slash, as the prefix does, so that `alias` cannot be left by `..`.
    root: String,
    prefix: String,
    /// Whether the prefix is all of the site.
    pub(super) is_root: bool,
    /// The page that answers where no file does; only where there is one for that.
    page: Option<String>,
    /// The name of how long browsers keep them.
    cache: Option<String>,
}

impl Files {
    /// The `number`th folder of a site. `shared`: caches on the way may keep its files for others.
    pub(super) fn of((number, files): (usize, &StaticFiles), site: &DnsName, shared: bool) -> Result<Self, Diagnostic> {
        let with_slash = |text: &str| format!("{}/", text.trim_end_matches('/'));
        let (root, prefix) = (with_slash(&files.root), with_slash(&files.prefix));
        for text in [&root, &prefix] {
            // nginx sees a variable in `$`, and has no way to write one literally.
            if let Some(bad) = text.chars().find(|c| c.is_control() || "$\"\\".contains(*c)) {
                return Err(Diagnostic::error(format!(
                    "static files of `{site}`: `{}` holds {bad:?}",
                    text.escape_debug()
                ))
                .help("nginx cannot name such a path; choose another one"));
            }
        }
        let is_root = prefix == "/";
        Ok(Self {
            number,
            root: format!("\"{root}\""),
            page: files.spa.then(|| format!("\"{prefix}index.html\"")),
            prefix: if is_root { prefix } else { format!("\"{prefix}\"") },
            is_root,
            cache: Kept::of(files, shared).map(|kept| kept.name),
        })
    }
}

/// How long files without a digest in their name are kept, and by whom: one map for all folders that agree.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kept {
    name: String,
    seconds: u64,
    /// `public`, or `private` where a password is asked for.
    whose: &'static str,
}

impl Kept {
    pub(super) fn of(files: &StaticFiles, shared: bool) -> Option<Self> {
        let seconds = files.cache?.as_secs();
        let whose = if shared { "public" } else { "private" };
        Some(Self { name: format!("{whose}_{seconds}"), seconds, whose })
    }
}

/// The folder of a site's files is there; who puts them there may come after us.
pub(super) fn root_look(files: &StaticFiles, site: &DnsName) -> String {
    let (root, why) = (
        quote(&files.root),
        quote(&format!(
            "the static files of {site} are to come from {}, which is no folder there: until it is one, requests for them are answered by 404",
            files.root
        )),
    );
    format!("[ -d {root} ] || {{ printf '%s\\n' {why}; exit 1; }}")
}

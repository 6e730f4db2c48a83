//! Texts of an ssh configuration: takes one with `~`, tokens and names of the environment, gives what it stands for.

use std::path::{Path, PathBuf};

use super::Effective;
use super::account::own;
use crate::host::target::Target;

/// The folder that `~` stands for.
pub(crate) fn home() -> PathBuf {
    own().home.clone()
}

/// `~` at the beginning of a path.
pub(super) fn tilde(path: &str, home: &Path) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest).to_string_lossy().into_owned(),
        None => path.to_owned(),
    }
}

/// What tokens of `ssh_config(5)` stand for.
pub(super) struct Names<'a> {
    pub(super) called: &'a str,
    pub(super) target: &'a Target,
    pub(super) home: &'a Path,
}

impl Names<'_> {
    /// The path of a file, with `~`, tokens and `${NAME}` of the environment expanded.
    pub(super) fn file(&self, text: &str, effective: &Effective) -> PathBuf {
        PathBuf::from(tilde(&environment(&self.expanded(text, effective)), self.home))
    }

    /// The tokens that make sense here; an unknown one is left as it stands.
    pub(super) fn expanded(&self, text: &str, effective: &Effective) -> String {
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('h') => out.push_str(self.target.address.as_deref().unwrap_or(&effective.hostname)),
                Some('n') => out.push_str(self.called),
                Some('p') => out.push_str(&self.target.port.unwrap_or(effective.port).to_string()),
                Some('r') => out.push_str(self.target.user.as_deref().unwrap_or(&effective.user)),
                Some('k') => out.push_str(effective.host_key_alias.as_deref().unwrap_or(self.called)),
                Some('d') => out.push_str(&self.home.to_string_lossy()),
                Some('u') => out.push_str(&own().name),
                Some('i') => out.push_str(&rustix::process::getuid().as_raw().to_string()),
                Some('l') => out.push_str(&machine()),
                Some('L') => out.push_str(machine().split('.').next().unwrap_or_default()),
                Some('%') | None => out.push('%'),
                Some(other) => out.extend(['%', other]),
            }
        }
        out
    }
}

/// `${NAME}` of the environment; what is not set is left as it stands.
fn environment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(&std::env::var(name).unwrap_or_else(|_| format!("${{{name}}}")));
        rest = behind;
    }
    out + rest
}

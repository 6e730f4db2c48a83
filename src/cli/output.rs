//! Files that a person names for an answer, such as a plan: takes the path and the kind, gives a file that is whole or as it was. What is
//! there already is replaced only where it is of that kind, so that a word at the wrong place costs no inventory.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::stop::Stop;
use crate::base::fsx;

/// So many bytes tell what a file is.
const HEAD: u64 = 4096;

/// What such a file has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A plan of `diff --out`.
    Plan,
    /// A page for a browser.
    Page,
    /// Figures in the text format of Prometheus.
    Figures,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Plan => "a plan of `diff --out`",
            Self::Page => "a page for a browser",
            Self::Figures => "a file of figures",
        }
    }

    /// Whether a file that begins so may be one of an earlier run.
    fn fits(self, head: &str) -> bool {
        let head = head.trim_start();
        let begins = match self {
            Self::Plan => {
                let mut words = head.split_whitespace();
                [words.next(), words.next()] == [Some("{"), Some("\"version\":")] && head.contains("\n  \"infra\": \"")
            }
            Self::Page => head.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("<!doctype html>")),
            Self::Figures => head.starts_with("# HELP infra_"),
        };
        head.is_empty() || begins
    }

    fn mode(self) -> u32 {
        if self == Self::Plan { 0o600 } else { 0o644 }
    }
}

/// Such a file, which was looked at and may be written.
#[derive(Debug)]
pub(super) struct Output {
    file: PathBuf,
    kind: Kind,
    /// A terminal, a pipe, `/dev/stdout`: written into, never replaced.
    special: bool,
}

impl Output {
    /// Looks whether a file may be written, before anything else is done for it.
    pub(super) fn new(file: &Path, kind: Kind) -> Result<Self, Stop> {
        let refused = |why: String, help: &str| Err(Stop::Refused(why, vec![help.to_owned()]));
        let (shown, other) = (file.display(), "name another file, or remove that one");
        let about = match fs_err::metadata(file) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = fsx::folder(file);
                return if file.file_name().is_none() || file.as_os_str().is_empty() {
                    refused(format!("`{shown}` names no file"), "name a file")
                } else if folder.is_dir() {
                    Ok(Self { file: file.to_owned(), kind, special: false })
                } else {
                    refused(
                        format!("`{shown}` cannot be written: there is no folder `{}`", folder.display()),
                        "make that folder, or name a file elsewhere",
                    )
                };
            }
            Err(error) => return refused(format!("`{shown}` cannot be looked at: {error}"), other),
        };
        if about.is_dir() {
            return refused(format!("`{shown}` is a folder"), "name a file in it");
        }
        if about.file_type().is_socket() || about.file_type().is_block_device() {
            return refused(format!("`{shown}` is no file that can be written"), other);
        }
        // What a shell has redirected is a file by such a name too.
        let special = !about.is_file() || file.starts_with("/dev") || file.starts_with("/proc");
        if !special {
            let mut head = Vec::new();
            let read = fs_err::File::open(file).and_then(|open| open.take(HEAD).read_to_end(&mut head));
            if let Err(error) = read {
                return refused(format!("`{shown}` is there already and cannot be read: {error}"), other);
            }
            if !kind.fits(&String::from_utf8_lossy(&head)) {
                return refused(
                    format!("`{shown}` is there already and is not {}; nothing is overwritten", kind.words()),
                    other,
                );
            }
        }
        Ok(Self { file: file.to_owned(), kind, special })
    }

    /// Writes it: whole or not at all, as others may read it meanwhile; what a link leads to, and not the link.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Stop> {
        let written = if self.special {
            fs_err::OpenOptions::new().write(true).open(&self.file).and_then(|mut open| open.write_all(bytes))
        } else {
            let to = match fs_err::canonicalize(&self.file) {
                Ok(to) => to,
                // A link that leads to nothing: what it leads to is made.
                Err(_) => fs_err::read_link(&self.file)
                    .map_or_else(|_| self.file.clone(), |to| fsx::folder(&self.file).join(to)),
            };
            fsx::write_atomic(&to, bytes, self.kind.mode())
        };
        written.map_err(|error| {
            let why = format!("`{}` cannot be written: {error}", self.file.display());
            Stop::Refused(why, vec!["name a file in a folder that is there, and that you may write to".to_owned()])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_its_kind_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("inventory.yml"), "name: shop\n").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        std::fs::write(at("plan"), "{\n  \"version\": 1,\n  \"infra\": \"0.1.0\"\n}").unwrap();
        std::fs::write(at("page"), "<!doctype html>\n<html>").unwrap();
        std::fs::write(at("figures"), "# HELP infra_up x\n").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("plan", at("link")).unwrap();
        std::os::unix::fs::symlink("none", at("dangling")).unwrap();
        for (kind, fits) in [(Kind::Plan, "plan"), (Kind::Page, "page"), (Kind::Figures, "figures")] {
            for name in
                ["inventory.yml", "empty", "plan", "page", "figures", "new", "folder", "none/new", "link", ".", ""]
            {
                let path = if name.is_empty() { PathBuf::new() } else { at(name) };
                let may = ["empty", "new", fits].contains(&name) || (kind, name) == (Kind::Plan, "link");
                assert_eq!(Output::new(&path, kind).is_ok(), may, "{kind:?} {name}");
            }
        }
        Output::new(&at("link"), Kind::Plan).unwrap().write(b"{}").unwrap();
        assert_eq!(std::fs::read(at("plan")).unwrap(), b"{}");
        assert!(std::fs::symlink_metadata(at("link")).unwrap().is_symlink());
        Output::new(&at("dangling"), Kind::Plan).unwrap().write(b"{}").unwrap();
        assert!(at("none").is_file() && std::fs::symlink_metadata(at("dangling")).unwrap().is_symlink());
        std::fs::write(at("package.json"), "{\n  \"name\": \"infra\",\n  \"infra\": \"1\"\n}").unwrap();
        assert!(Output::new(&at("package.json"), Kind::Plan).is_err());
        // A device stays one.
        Output::new(Path::new("/dev/null"), Kind::Plan).unwrap().write(b"{}").unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(Output::new(Path::new("/dev/full"), Kind::Page).unwrap().write(b"x").is_err());
    }
}

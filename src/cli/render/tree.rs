//! The folder of `render --to`: takes files by host and path, gives a folder in which exactly those stand of all that infra ever wrote
//! there. What somebody else has put there stays, and nothing is written or removed through a link.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::base::fsx;

/// Names all that infra wrote into the folder, a line each: `HOST/etc/…`.
const RECORD: &str = ".infra-render";

/// A folder that is being written.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    before: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Tree {
    /// Makes the folder where it does not exist, and reads what infra has written there earlier.
    ///
    /// # Errors
    /// Any error of the file system, with the path in its text.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        fs_err::create_dir_all(root)?;
        let record = root.join(RECORD);
        let is_file = record.symlink_metadata().is_ok_and(|about| about.is_file());
        let text = if is_file { fsx::read_text(&record, fsx::STATE_BYTES)? } else { String::new() };
        let before = text.lines().filter(|line| is_plain(Path::new(line))).map(str::to_owned).collect();
        Ok(Self { root: root.to_owned(), before, now: BTreeSet::new() })
    }

    /// Writes a file of a host; `path` is absolute there.
    ///
    /// # Errors
    /// A link on the way to it, or any error of the file system.
    pub(super) fn write(&mut self, host: &str, path: &str, text: &str, mode: u32) -> io::Result<()> {
        let name = format!("{host}{path}");
        let to = self.way(&name)?;
        if let Some(folder) = to.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fsx::write_atomic(&to, text.as_bytes(), mode)?;
        self.now.insert(name);
        Ok(())
    }

    /// Removes what infra wrote earlier and not now, for all hosts but those that `stays` names, and folders that become empty by it. Gives the number
    /// of files.
    ///
    /// # Errors
    /// As for [`Tree::write`].
    pub(super) fn finish(self, stays: impl Fn(&str) -> bool) -> io::Result<usize> {
        let host = |name: &String| name.split('/').next().unwrap_or_default().to_owned();
        let (kept, gone): (Vec<&String>, Vec<&String>) =
            self.before.difference(&self.now).partition(|name| stays(&host(name)));
        for name in &gone {
            let path = self.way(name)?;
            match fs_err::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let above = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
            // The first that is not empty is the last that is looked at.
            let _ = above.map(std::fs::remove_dir).take_while(Result::is_ok).count();
        }
        let all: BTreeSet<&String> = self.now.iter().chain(kept).collect();
        let text = all.into_iter().fold(String::new(), |text, name| text + name + "\n");
        fsx::write_atomic(&self.root.join(RECORD), text.as_bytes(), 0o644)?;
        Ok(gone.len())
    }

    /// Where `name` stands, with no link on the way.
    fn way(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.root.join(name);
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
        match folders.filter(|folder| folder.is_symlink()).last() {
            None => Ok(path),
            Some(link) => Err(io::Error::other(format!(
                "`{}` is a link, and infra writes through none: remove it, or name another folder",
                link.display()
            ))),
        }
    }
}

/// Whether it stays below the folder that it stands in.
fn is_plain(path: &Path) -> bool {
    path.components().count() > 1 && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                all.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
        all.retain(|name| name != RECORD);
        all.sort();
        all
    }

    #[test]
    fn hosts_and_files_that_left_go_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        let mut first = Tree::open(&root).unwrap();
        for (host, path) in [("web1", "/etc/a"), ("web1", "/etc/old/b"), ("web2", "/etc/a"), ("lb1", "/etc/a")] {
            first.write(host, path, "x", 0o600).unwrap();
        }
        assert_eq!(first.finish(|_| false).unwrap(), 0);
        std::fs::write(root.join("web1/notes"), "mine").unwrap();
        let mut second = Tree::open(&root).unwrap();
        second.write("web1", "/etc/a", "y", 0o600).unwrap();
        // lb1 was not selected.
        assert_eq!(second.finish(|host| host == "lb1").unwrap(), 2);
        let all = ["lb1", "lb1/etc", "lb1/etc/a", "web1", "web1/etc", "web1/etc/a", "web1/notes"];
        assert_eq!(files(&root), all);
        Tree::open(&root).unwrap().finish(|_| false).unwrap();
        assert_eq!(files(&root), ["web1", "web1/notes"]);
    }

    #[test]
    fn nothing_is_written_or_removed_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("out"), dir.path().join("outside"));
        std::fs::create_dir_all(outside.join("etc")).unwrap();
        std::fs::write(outside.join("etc/a"), "theirs").unwrap();
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("web1")).unwrap();
        let mut tree = Tree::open(&root).unwrap();
        let refused = tree.write("web1", "/etc/a", "x", 0o600).unwrap_err().to_string();
        assert!(refused.contains("out/web1` is a link"), "{refused}");
        std::fs::write(root.join(RECORD), "web1/etc/a\n../outside/etc/a\n/etc/passwd\nweb2\n").unwrap();
        assert!(Tree::open(&root).unwrap().finish(|_| false).is_err());
        // At a file's place the file takes the link's place.
        std::os::unix::fs::symlink(outside.join("etc/a"), root.join("direct")).unwrap();
        std::fs::create_dir(root.join("web2")).unwrap();
        std::os::unix::fs::symlink(outside.join("etc/a"), root.join("web2/a")).unwrap();
        Tree::open(&root).unwrap().write("web2", "/a", "x", 0o600).unwrap();
        assert!(!root.join("web2/a").is_symlink());
        assert_eq!(std::fs::read_to_string(outside.join("etc/a")).unwrap(), "theirs");
    }
}

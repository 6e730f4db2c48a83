//! The folder of all labs: gives it as one that root alone may enter, or says why it cannot be that. The hosts' disks and
//! images hold whatever a Debian has, programs that make their caller root among it. And keeps a folder for one process at a time.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Nobody but the owner.
const PRIVATE: u32 = 0o700;

/// Where labs and images are kept: `INFRA_LAB_DIR`, else `/var/lib/infra-lab`.
pub fn root() -> PathBuf {
    match std::env::var_os("INFRA_LAB_DIR") {
        Some(dir) if !dir.is_empty() => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        _ => PathBuf::from("/var/lib/infra-lab"),
    }
}

/// Whether `path` is there; a folder on the way that only root may enter is no «no».
///
/// # Errors
/// [`Error::NotRoot`], [`Error::Io`].
pub(super) fn is_there(path: &Path) -> Result<bool, Error> {
    match path.try_exists() {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(Error::NotRoot),
        other => Ok(other?),
    }
}

/// Makes [`root`], or takes the one that is there: all that is ours in it down to the labs' and images' own folders is
/// closed to others, as earlier versions left it open.
///
/// # Errors
/// [`Error::Spec`] when another user holds the folder or could put another in its place; [`Error::Io`].
pub fn private_root() -> Result<PathBuf, Error> {
    let root = root();
    make(&root)?;
    Ok(root)
}

fn make(root: &Path) -> Result<(), Error> {
    let unsafe_at = |path: &Path, why: &str| {
        Error::Spec(format!(
            "the folder `{}` cannot hold labs: {why}; choose another one by `INFRA_LAB_DIR`, or move it away",
            path.display()
        ))
    };
    let named = |path: &Path, what: &str| {
        if path == root { format!("it {what}") } else { format!("`{}` {what}", path.display()) }
    };
    // What is above it, as it was written and where its links lead.
    let parent = root.parent().unwrap_or(Path::new("/"));
    let there = parent.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let real = fs_err::canonicalize(there)?;
    for path in there.ancestors().chain(real.ancestors()) {
        let meta = fs_err::symlink_metadata(path)?;
        // Where anyone may write, the sticky bit keeps what is root's from being moved away.
        let open = meta.is_dir() && is_open(&meta) && meta.mode() & 0o1000 == 0;
        let why = if is_strange(&meta) {
            "belongs to another user, who could put another folder in its place"
        } else if open {
            "may be written by others, who could put another folder in its place"
        } else {
            continue;
        };
        return Err(unsafe_at(root, &named(path, why)));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(root)
        .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", root.display())))?;
    let mut open = vec![(root.to_path_buf(), 0)];
    while let Some((dir, depth)) = open.pop() {
        let meta = match fs_err::symlink_metadata(&dir) {
            // Of another lab that ends, or an image that is finished just now.
            Err(e) if depth > 0 && e.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        if meta.is_symlink() {
            return Err(unsafe_at(root, &named(&dir, "is a link")));
        }
        if !meta.is_dir() {
            if depth == 0 {
                return Err(unsafe_at(root, &named(&dir, "is not a folder")));
            }
            continue;
        }
        if is_strange(&meta) {
            return Err(unsafe_at(root, &named(&dir, "belongs to another user")));
        }
        if is_open(&meta) {
            return Err(unsafe_at(root, &named(&dir, "may be written by others, who may have changed what is in it")));
        }
        if meta.mode() & 0o777 != PRIVATE {
            match fs_err::set_permissions(&dir, PermissionsExt::from_mode(PRIVATE)) {
                Err(e) if depth > 0 && e.kind() == ErrorKind::NotFound => continue,
                other => other?,
            }
        }
        // `images/DIGEST` and `labs/NAME`; what is below them belongs to hosts.
        if depth < 2 {
            let entries = match fs_err::read_dir(&dir) {
                Err(e) if depth > 0 && e.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                open.push((entry?.path(), depth + 1));
            }
        }
    }
    Ok(())
}

/// Holds a folder for this process alone, until what is given is dropped.
pub(super) fn hold(dir: &Path) -> Result<fs_err::File, Error> {
    let file = fs_err::File::open(dir)?;
    file.file().lock()?;
    Ok(file)
}

/// Neither root's nor of whoever runs this.
fn is_strange(meta: &Metadata) -> bool {
    let own = std::fs::metadata("/proc/self").map_or(0, |own| own.uid());
    meta.uid() != 0 && meta.uid() != own
}

/// Whether others than root, by its group too, may write in it.
fn is_open(meta: &Metadata) -> bool {
    meta.mode() & 0o002 != 0 || meta.mode() & 0o020 != 0 && meta.gid() != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn folder(path: &Path, mode: u32) {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_an_earlier_version_left_open_is_closed() {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("labs");
        make(&root).unwrap();
        let all = ["", "images", "images/x", "images/x/tree", "labs", "labs/one"];
        for dir in &all[1..] {
            folder(&root.join(dir), 0o755);
        }
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
        make(&root).unwrap();
        let modes = all.map(|dir| std::fs::metadata(root.join(dir)).unwrap().mode() & 0o7777);
        // The tree itself is the hosts' `/`.
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o755, 0o700, 0o700]);
    }

    #[test]
    fn a_folder_that_another_could_have_made_or_may_replace_is_refused() {
        type Prepare = fn(&Path);
        let cases: [(Prepare, &str); 7] = [
            (|at| folder(&at.join("open/labs"), 0o777), "it may be written by others"),
            (|at| folder_of_group(&at.join("open/labs")), "it may be written by others"),
            (|at| symlink("/", at.join("open/labs")).unwrap(), "it is a link"),
            (|at| std::fs::write(at.join("open/labs"), "").unwrap(), "exists"),
            (|at| folder_of_nobody(&at.join("open/labs")), "it belongs to another user"),
            (|at| chown(at.join("open"), Some(65534), None).unwrap(), "open` belongs to another user"),
            (
                |at| std::fs::set_permissions(at.join("open"), PermissionsExt::from_mode(0o777)).unwrap(),
                "open` may be written by others",
            ),
        ];
        for (prepare, why) in cases {
            let at = tempfile::tempdir().unwrap();
            folder(&at.path().join("open"), 0o755);
            prepare(at.path());
            let error = make(&at.path().join("open/labs")).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        // Another's link to a folder that is in order.
        let at = tempfile::tempdir().unwrap();
        symlink("/", at.path().join("way")).unwrap();
        std::os::unix::fs::lchown(at.path().join("way"), Some(65534), None).unwrap();
        let error = make(&at.path().join("way/no-such-folder-of-infra")).unwrap_err().to_string();
        assert!(error.contains("way` belongs to another user"), "{error}");
    }

    fn folder_of_group(path: &Path) {
        folder(path, 0o770);
        chown(path, None, Some(65534)).unwrap();
    }

    fn folder_of_nobody(path: &Path) {
        folder(path, 0o700);
        chown(path, Some(65534), None).unwrap();
    }
}

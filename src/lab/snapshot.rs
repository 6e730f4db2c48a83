//! The disks of a lab in a state that took work to reach, kept once and copied into every lab that wants the same: takes a spec and
//! a key for what was done on its hosts, gives a folder that is whole, or that whoever asked first is to make.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::place::hold;
use super::spec::Spec;
use super::{BOOT, Error, Lab, Progress, Target, command, disk, image, place, requirements, root};
use crate::base::fsx;

/// How many are kept; the one that nobody has used for the longest time goes.
const KEPT: usize = 6;
/// The name of one that is being made.
const UNFINISHED: &str = ".unfinished";

/// The place of one snapshot. While it lives, nobody removes the snapshot.
#[derive(Debug)]
pub struct Snapshot {
    dir: PathBuf,
    /// Of a whole one its folder, shared; of another the folder of all, so that nobody else makes one meanwhile.
    lock: fs_err::File,
}

impl Snapshot {
    /// The snapshot of the lab `spec`, whatever its name, in the state that `key` tells: it must name all that the state comes
    /// from besides the spec and the image. Whoever asks first is to make it; who comes later waits for that one or for its end.
    /// There is none where disks are in memory, and of a lab with public authorities, which are others at each start.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn of(spec: &Spec, key: &str, progress: Progress<'_>) -> Result<Option<Self>, Error> {
        spec.validate()?;
        requirements::check(&requirements::packages(spec))?;
        place::private_root()?;
        let all = root().join("snapshots");
        fsx::private_dir(&all)?;
        if !spec.authorities.is_empty() || disk::is_overlay(&all)? {
            return Ok(None);
        }
        let image = image::ensure(&root().join("images"), spec.release, progress)?;
        let record = serde_json::to_string(&Spec { name: String::new(), ..spec.clone() });
        let record = record.map_err(|e| Error::Spec(e.to_string()))?;
        let recipe = format!("{}\n{record}\n{key}", image.tree.display());
        let dir = all.join(command::hex(Sha256::digest(recipe).as_slice(), 8));
        let lock = hold(&all)?;
        if dir.is_dir() {
            let used = share(&dir)?;
            used.file().set_modified(SystemTime::now())?;
            return Ok(Some(Self { dir, lock: used }));
        }
        // We hold the lock: what is unfinished was left by one that died.
        let unfinished = all.join(UNFINISHED);
        if unfinished.exists() {
            fs_err::remove_dir_all(&unfinished)?;
        }
        tidy(&all)?;
        Ok(Some(Self { dir, lock }))
    }

    /// Whether it is there; else it is to be made by [`Lab::keep`].
    pub fn is_whole(&self) -> bool {
        self.dir.is_dir()
    }

    /// What was kept besides the disks.
    pub fn beside(&self) -> PathBuf {
        self.dir.join("beside")
    }

    /// Copies what a host is, its disk and its keys, into the host's new folder.
    pub(super) fn copy_host(&self, host: &str, new: &Path) -> Result<(), Error> {
        copy(&self.dir.join("hosts").join(host), new)
    }

    /// Copies the key pair that may log in on the hosts.
    pub(super) fn copy_login(&self, lab: &Path) -> Result<(), Error> {
        copy(&self.dir.join("login"), lab)
    }
}

impl Lab {
    /// Keeps the disks of all hosts, which are powered off for that, as `snapshot`, and with them a copy of the folder `beside`;
    /// takes the lab down.
    ///
    /// # Errors
    /// [`Error::Timeout`] of a host that does not end; [`Error::Io`]. Nothing is kept then, and the lab is left to [`down`](super::down).
    pub fn keep(self, snapshot: Snapshot, beside: &Path) -> Result<Snapshot, Error> {
        self.each(|twin| {
            // The command may itself fall victim to what it does.
            self.output(&Target::Host(twin.host.name.clone()), ["systemctl", "poweroff"])?;
            let deadline = Instant::now() + BOOT;
            let off = command::wait_for(deadline, Duration::from_millis(50), || (!twin.is_on()).then_some(()));
            off.ok_or_else(|| Error::Timeout {
                host: twin.host.name.clone(),
                seconds: BOOT.as_secs(),
                last: "it does not power off".to_owned(),
            })
        })?;
        let Snapshot { dir, lock: making } = snapshot;
        let unfinished = dir.with_file_name(UNFINISHED);
        for part in ["", "beside", "login", "hosts"] {
            fsx::private_dir(&unfinished.join(part))?;
        }
        copy(beside, &unfinished.join("beside"))?;
        for key in ["key", "key.pub"] {
            fs_err::rename(self.dir().join(key), unfinished.join("login").join(key))?;
        }
        for host in &self.spec().hosts {
            let (from, to) = (self.dir().join("hosts").join(&host.name), unfinished.join("hosts").join(&host.name));
            fsx::private_dir(&to.join("disk"))?;
            for part in ["disk/upper", "keys"] {
                fs_err::rename(from.join(part), to.join(part))?;
            }
        }
        fs_err::rename(&unfinished, &dir)?;
        self.down()?;
        let lock = share(&dir)?;
        drop(making);
        Ok(Snapshot { dir, lock })
    }
}

/// Holds a snapshot against its removal, together with others.
fn share(dir: &Path) -> Result<fs_err::File, Error> {
    let file = fs_err::File::open(dir)?;
    file.file().lock_shared()?;
    Ok(file)
}

/// Copies what is in `from`, with all that an overlay has written into it (nodes of devices, extended attributes).
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut cp = Command::new("cp");
    command::run("copy a snapshot", cp.args(["-a", "--reflink=auto"]).arg(from.join(".")).arg(to))?;
    Ok(())
}

/// Makes room for one more. One that is in use stays.
fn tidy(all: &Path) -> Result<(), Error> {
    let mut kept = Vec::new();
    for entry in fs_err::read_dir(all)? {
        let path = entry?.path();
        kept.push((fs_err::metadata(&path)?.modified()?, path));
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT - 1);
    for (_, path) in kept.into_iter().take(surplus) {
        let file = fs_err::File::open(&path)?;
        if file.file().try_lock().is_ok() {
            fs_err::remove_dir_all(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn the_one_unused_for_longest_goes_and_one_in_use_stays() {
        let all = tempfile::tempdir().unwrap();
        let age = |n: u64| SystemTime::now() - Duration::from_secs(n);
        for n in 0..=KEPT {
            let dir = all.path().join(n.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::File::open(&dir).unwrap().set_modified(age(100 - u64::try_from(n).unwrap())).unwrap();
        }
        let used = share(&all.path().join("0")).unwrap();
        tidy(all.path()).unwrap();
        let left = || {
            let mut names: Vec<String> =
                std::fs::read_dir(all.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(left(), ["0", "2", "3", "4", "5", "6"]);
        drop(used);
        tidy(all.path()).unwrap();
        assert_eq!(left(), ["2", "3", "4", "5", "6"]);
    }

    #[test]
    fn a_copy_has_what_an_overlay_has_written() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (gone, opaque) = (Path::new("gone"), Path::new("opaque"));
        std::fs::create_dir(from.path().join(opaque)).unwrap();
        // That a file of the layer below is gone, and that nothing of a folder below is seen (Linux' overlayfs.rst).
        let made = Command::new("mknod").arg(from.path().join(gone)).args(["c", "0", "0"]).status().unwrap();
        assert!(made.success());
        let name = "trusted.overlay.opaque";
        rustix::fs::setxattr(from.path().join(opaque), name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        copy(from.path(), to.path()).unwrap();
        let node = std::fs::metadata(to.path().join(gone)).unwrap();
        assert!(node.file_type().is_char_device() && node.rdev() == 0, "{node:?}");
        let mut value = [0; 2];
        let length = rustix::fs::getxattr(to.path().join(opaque), name, &mut value).unwrap();
        assert_eq!(value.get(..length).unwrap(), b"y");
    }
}

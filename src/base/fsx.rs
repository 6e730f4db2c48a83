//! Files of the controller: takes a path and bytes, gives a file that is either the old or the new one, never half of it; takes a
//! path and a bound, gives the bytes of a file that is no longer, and never waits for a pipe that nobody writes to. And the folder
//! of the state, which is ours alone or is refused.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

/// How long a pipe that a person named may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Most bytes of a file that infra wrote itself: state, saved plans, past runs.
pub const STATE_BYTES: u64 = 64 << 20;
/// Most bytes of a file of `ssh`: keys, and host keys of many thousand hosts.
pub const SSH_BYTES: u64 = 16 << 20;

/// Reads the whole of a regular file of at most `limit` bytes. A pipe, a device or a folder is an error at once; opening waits for
/// nobody.
///
/// # Errors
/// Any error of the file system, with the path in its text; [`io::ErrorKind::NotFound`] stays what it is.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read(path, limit, false).map_err(|e| io::Error::new(e.kind(), format!("`{}`: {e}", path.display())))
}

/// [`read_bounded`] of text.
///
/// # Errors
/// As [`read_bounded`]; and what is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let text = String::from_utf8(read_bounded(path, limit)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: it is not UTF-8 text", path.display())))
}

/// As [`read_bounded`], for a file that a person named: it may be a pipe too (`<(sops -d …)`), which is waited for half a minute.
/// The path is not in the error's text.
///
/// # Errors
/// Any error of the file system.
pub fn read_named(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read(path, limit, true)
}

fn read(path: &Path, limit: u64, pipes: bool) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK the opening of a pipe waits for its writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(plain)?;
    let about = file.metadata()?;
    let kind = about.file_type();
    let pipe = pipes && kind.is_fifo();
    if !kind.is_file() && !pipe {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file", called(kind))));
    }
    let deadline = Instant::now() + SILENCE;
    let mut bytes = Vec::new();
    let mut part = file.take(limit.saturating_add(1));
    loop {
        match part.read_to_end(&mut bytes) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let words = format!("nothing more came through this pipe within {} s", SILENCE.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, words));
                }
                let timeout = rustix::event::Timespec::try_from(left).map_err(io::Error::other)?;
                match poll(&mut [PollFd::new(part.get_ref(), PollFlags::IN)], Some(&timeout)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Err(e) => return Err(e),
        }
    }
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {}", size(limit))));
    }
    Ok(bytes)
}

/// A person's words for two errors that the system names oddly.
fn plain(error: io::Error) -> io::Error {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NXIO) => {
            io::Error::new(io::ErrorKind::InvalidInput, "it is a socket or device, not a file")
        }
        Some(rustix::io::Errno::LOOP) => io::Error::new(error.kind(), "it is a link that leads to itself"),
        _ => error,
    }
}

fn called(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// `64 KiB`, `10 MiB`.
pub fn size(bytes: u64) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

/// Refuses a folder of the state in which another user could read along or put something: the state holds the private keys of
/// every host. It is fine where it does not exist yet.
///
/// # Errors
/// A sentence with the path, what is wrong and what to do.
pub fn check_private(path: &Path) -> io::Result<()> {
    // Where it is a link, whoever can replace the link decides as well.
    let link = match std::fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io::Error::new(e.kind(), format!("`{}`: {e}", path.display()))),
    };
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if let Some(why) = link.is_symlink().then(|| owned(&link)).flatten() {
        return refused(format!("`{}` is a link that {why}: put the state folder itself there", path.display()));
    }
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(e) => return Err(io::Error::new(e.kind(), format!("`{}`: {e}", path.display()))),
    };
    if !about.is_dir() {
        return refused(format!("`{}` is not a folder: the state needs one of its own", path.display()));
    }
    let (mode, shown) = (about.mode() & 0o7777, path.display());
    if let Some(why) = owned(&about) {
        return refused(format!(
            "`{shown}` {why}, who could read and exchange the keys in it: run infra as that user, or, after a look at what is in \
             it, `chown -R \"$(id -un)\" '{shown}'`"
        ));
    }
    if mode & 0o022 != 0 {
        return refused(format!(
            "`{shown}` may be written by other users (mode {mode:04o}), who could exchange the keys in it: look at what is in it, \
             then `chmod -R go= '{shown}'`"
        ));
    }
    // Who may rename in the folder around it can put another one in its place.
    let real = std::fs::canonicalize(path)?;
    for parent in real.ancestors().skip(1) {
        let about = std::fs::metadata(parent)?;
        let sticky = about.mode() & 0o1000 != 0;
        if about.mode() & 0o002 != 0 && !sticky {
            let parent = parent.display();
            return refused(format!(
                "any user may exchange `{shown}`, for its folder `{parent}` may be written by all: `chmod o-w '{parent}'`, or \
                 keep the state elsewhere (`state:`)"
            ));
        }
    }
    Ok(())
}

/// Names in the folder of a state that say that it is one.
const OF_STATE: [&str; 4] = ["seen.json", "plan.key", "passwords.json", "pki/authorities.json"];
/// Whether a name is one that we give.
type IsOurs = fn(&str) -> bool;
/// Folders in it that others have too, each with what tells a name of ours in it.
const OF_RUNS: [(&str, IsOurs); 2] = [("runs", begins_with_time), ("plans", is_digest)];
/// Folders that may stand in one before anything else does: of a copy that was put back, of a volume and what keeps
/// copies of it, of a person's own history.
const BESIDE_STATE: [&str; 13] = [
    "pki",
    "acme",
    "services",
    "retired",
    ".git",
    ".hg",
    ".svn",
    ".jj",
    "lost+found",
    ".snapshot",
    ".snapshots",
    ".stfolder",
    "@eaDir",
];

/// Whether a name begins as that of a run does: `20261123T184501`.
fn begins_with_time(name: &str) -> bool {
    let digit_or = |(at, byte): (usize, u8)| if at == 8 { byte == b'T' } else { byte.is_ascii_digit() };
    name.len() >= 15 && name.bytes().take(15).enumerate().all(digit_or)
}

/// Whether a name is a SHA-256.
fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Refuses a folder of the state that is another folder, such as `/etc` behind a link: the keys of all hosts do not belong among its
/// things, and a later look would find theirs in place of ours. Files alone, such as a secret that the inventory names, may be there.
///
/// # Errors
/// A sentence with the path, what stands in it, and what to do.
pub fn check_own(path: &Path) -> io::Result<()> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let has_ours = |(folder, is_ours): &(&str, IsOurs)| names(&path.join(folder)).iter().any(|name| is_ours(name));
    if OF_STATE.iter().any(|name| path.join(name).exists()) || OF_RUNS.iter().any(has_ours) {
        return Ok(());
    }
    let may_become_ours =
        |name: &str| OF_RUNS.iter().any(|(folder, _)| *folder == name) && names(&path.join(name)).is_empty();
    let mut others = names(path);
    others.retain(|name| path.join(name).is_dir() && !BESIDE_STATE.contains(&name.as_str()) && !may_become_ours(name));
    if others.is_empty() {
        return Ok(());
    }
    others.sort();
    let more = if others.len() > 3 { ", …" } else { "" };
    others.truncate(3);
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!(
            "`{}` is a folder of other things ({}{more}) and has nothing of infra's yet: give the state a folder of its own (`state:`)",
            path.display(),
            others.join(", ")
        ),
    ))
}

/// Which other user something belongs to; neither root nor we are another.
fn owned(about: &Metadata) -> Option<String> {
    let ours = rustix::process::geteuid().as_raw();
    (about.uid() != 0 && about.uid() != ours).then(|| format!("belongs to another user (number {})", about.uid()))
}

/// The folder that a file is in, or would be; that of a bare name is `.`.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes `bytes` to `path` with `mode` by a temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// Any error of the file system, with the path in its text.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    written(path, bytes, mode, false).map(drop)
}

/// As [`write_atomic`]; the file is locked from its first moment until what is given is dropped, or this program ends ([`is_locked`]).
///
/// # Errors
/// As [`write_atomic`]. That a file system has no locks is none.
pub fn write_locked(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    written(path, bytes, mode, true)
}

/// Whether somebody who wrote a file by [`write_locked`] is at work still.
pub fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

fn written(path: &Path, bytes: &[u8], mode: u32, locked: bool) -> io::Result<File> {
    let dir = folder(path);
    let mut file = tempfile::Builder::new()
        .prefix(".infra-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(dir)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dir.display())))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    if locked {
        // Nobody else knows the file yet. Where there are no locks, nobody finds one.
        let _ = file.as_file().try_lock();
    }
    let file =
        file.persist(path).map_err(|e| io::Error::new(e.error.kind(), format!("{}: {}", path.display(), e.error)))?;
    fs_err::File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Makes `path` and its parents, all of them 0700 when new; one that is there already must be private ([`check_private`]).
///
/// # Errors
/// Any error of the file system, with the path in its text.
pub fn private_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    check_private(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_has_its_mode_and_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_atomic(&path, b"old", 0o600).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"new");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_locked_as_long_as_its_writer_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(!is_locked(&path));
        let file = write_locked(&path, b"x", 0o600).unwrap();
        assert!(is_locked(&path) && is_locked(&path));
        drop(file);
        assert!(!is_locked(&path) && fs_err::read(&path).unwrap() == b"x");
    }

    #[test]
    fn only_files_are_read_and_only_so_far() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs_err::write(at("full"), [b'x'; 2048]).unwrap();
        assert_eq!(read_bounded(&at("full"), 2048).unwrap().len(), 2048);
        assert_eq!(read_bounded(&at("none"), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, limit, words) in [
            (at("full"), 2047, "larger than 1 KiB"),
            ("/dev/zero".into(), 10, "it is a device"),
            ("/dev/tty".into(), 10, "device"),
            (at("pipe"), 10, "it is a pipe"),
            (dir.path().into(), 10, "it is a folder"),
            (at("socket"), 10, "it is a socket"),
            (at("loop"), 10, "leads to itself"),
        ] {
            let error = read_bounded(&path, limit).unwrap_err().to_string();
            let absent = path == Path::new("/dev/tty") && error.contains("/dev/tty");
            assert!((error.contains(words) || absent) && error.contains(&*path.to_string_lossy()), "{error}");
        }
        // A pipe that nobody writes to is empty and not waited for.
        assert!(read_named(&at("pipe"), 10).unwrap().is_empty());
        assert!(read_named(Path::new("/dev/zero"), 10).is_err());
        let (read, mut write) = io::pipe().unwrap();
        write.write_all(b"abc").unwrap();
        drop(write);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read));
        assert_eq!(read_named(Path::new(&path), 3).unwrap(), b"abc");
    }

    #[test]
    fn the_state_has_a_folder_of_its_own() {
        for (there, words) in [
            (&[][..], ""),
            (&["pki/", "lost+found/", ".git/", ".gitignore", "token"], ""),
            (&[".svn/", ".snapshot/", ".stfolder/", "@eaDir/"], ""),
            (&[".ssh/"], "other things (.ssh)"),
            (&["ssh/", "hosts"], "other things (ssh)"),
            (&["a/", "d/", "c/", "b/", "pki/"], "other things (a, b, c, …)"),
            (&["old/", "seen.json"], ""),
            (&["old/", "pki/authorities.json"], ""),
            (&["old/", "pki/ca-trust/"], "other things (old)"),
            (&["runs/", "plans/"], ""),
            (&["old/", "runs/20261123T184501.json"], ""),
            (&["old/", "plans/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"], ""),
            (&["runs/exp1/"], "other things (runs)"),
            (&["old/", "runs/20261123.json"], "other things (old, runs)"),
            (&["models/", "plans/house.dwg", "status.json"], "other things (models, plans)"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let link = dir.path().join("link");
            fs_err::create_dir(dir.path().join("folder")).unwrap();
            std::os::unix::fs::symlink("folder", &link).unwrap();
            for name in there {
                let path = link.join(name.trim_end_matches('/'));
                fs_err::create_dir_all(if name.ends_with('/') { &path } else { folder(&path) }).unwrap();
                if !name.ends_with('/') {
                    fs_err::write(&path, "").unwrap();
                }
            }
            let said = check_own(&link).map_err(|error| error.to_string()).err().unwrap_or_default();
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{there:?}: {said}");
        }
        assert!(check_own(Path::new("/nonexistent")).is_ok());
    }

    #[test]
    fn a_state_folder_of_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let made = |name: &str, mode: u32| {
            fs_err::create_dir_all(at(name)).unwrap();
            fs_err::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(check_private(&at("none")).is_ok());
        for (name, mode, words) in [
            ("own", 0o700, ""),
            ("seen", 0o755, ""),
            ("group", 0o770, "may be written by other users (mode 0770)"),
            ("all", 0o777, "may be written by other users"),
            ("sticky", 0o1777, "may be written by other users"),
        ] {
            made(name, mode);
            let said = check_private(&at(name)).map_err(|e| e.to_string()).err().unwrap_or_default();
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{name}: {said}");
            assert_eq!(private_dir(&at(name)).is_ok(), words.is_empty(), "{name}");
        }
        made("open/state", 0o700);
        made("open", 0o777);
        assert!(check_private(&at("open/state")).unwrap_err().to_string().contains("for its folder"));
        std::os::unix::fs::symlink(at("group"), at("link")).unwrap();
        assert!(check_private(&at("link")).is_err());
        std::os::unix::fs::symlink(at("own"), at("fine")).unwrap();
        assert!(check_private(&at("fine")).is_ok());
        fs_err::write(at("file"), "").unwrap();
        assert!(check_private(&at("file")).unwrap_err().to_string().contains("not a folder"));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(at("own"), Some(12345), None).unwrap();
            std::os::unix::fs::lchown(at("link"), Some(12345), None).unwrap();
            for (name, words) in
                [("own", "belongs to another user (number 12345)"), ("link", "is a link that belongs to")]
            {
                let said = check_private(&at(name)).unwrap_err().to_string();
                assert!(said.contains(words), "{said}");
            }
        }
    }
}

//! The value of a secret that the inventory refers to: takes the reference and the inventory's folder, gives the value. Nothing
//! of it is in an error.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::base::fsx;
use crate::base::secret::Secret;
use crate::inventory::site::SecretRef;

/// More than this no key, token or password is, bytes.
const LONGEST: u64 = 64 * 1024;
/// The longest that a command may take: it may ask a person for a password, or a vault far away.
const PATIENCE: Duration = Duration::from_mins(2);

/// Reads a secret. White space at its ends is no part of it.
///
/// # Errors
/// A sentence that names the place where the value should be, never the value.
pub fn reveal(name: &str, reference: &SecretRef, folder: &Path) -> Result<Secret, String> {
    let text = match reference {
        SecretRef::Env(variable) => {
            let text = std::env::var(variable)
                .map_err(|_| format!("`{name}` is in the variable `{variable}`, which is not set"))?;
            if text.len() as u64 > LONGEST {
                return Err(format!(
                    "`{name}` is in the variable `{variable}`, which is larger than {}",
                    fsx::size(LONGEST)
                ));
            }
            text
        }
        SecretRef::File(path) => {
            let path = folder.join(path);
            let unread = |why: &dyn std::fmt::Display| {
                format!("`{name}` is in `{}`, which cannot be read: {why}", path.display())
            };
            let bytes = fsx::read_named(&path, LONGEST).map_err(|e| unread(&e))?;
            String::from_utf8(bytes).map_err(|_| unread(&"it is not UTF-8 text"))?
        }
        SecretRef::Command(argv) => {
            said(argv, folder, PATIENCE).map_err(|why| format!("`{name}` is what a command prints: {why}"))?
        }
    };
    match text.trim() {
        "" => Err(format!("`{name}` is empty")),
        value => Ok(Secret::new(name, value)),
    }
}

/// What a command prints, as far as that has an end in time.
fn said(argv: &[String], folder: &Path, patience: Duration) -> Result<String, String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("no program is named".to_owned()) };
    // What it asks a person, or says to them, goes to the terminal.
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(|e| format!("`{program}` cannot be started: {}", e.kind()))?;
    let printed = child.stdout.take().ok_or_else(|| format!("`{program}` has no output"))?;
    let deadline = Instant::now() + patience;
    let mut end = |why: String| {
        let _ = child.kill();
        let _ = child.wait();
        Err(why)
    };
    let bytes = match until_end(printed, deadline) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            return end(format!("`{program}` took longer than {} s", patience.as_secs()));
        }
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
            return end(format!("`{program}` printed more than {}", fsx::size(LONGEST)));
        }
        Err(e) => return end(format!("what `{program}` prints cannot be read: {e}")),
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`{program}` took longer than {} s", patience.as_secs()));
            }
            Err(e) => return Err(format!("`{program}` cannot be waited for: {e}")),
        }
    };
    if !status.success() {
        return Err(format!("`{program}` failed ({status})"));
    }
    String::from_utf8(bytes).map_err(|_| format!("what `{program}` printed is not text"))
}

/// Reads a pipe to its end, at most [`LONGEST`] bytes.
fn until_end(mut pipe: std::process::ChildStdout, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = rustix::event::Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        match pipe.read(&mut part)? {
            0 => return Ok(bytes),
            n => bytes.extend_from_slice(part.get(..n).unwrap_or_default()),
        }
        if bytes.len() as u64 > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_reference_is_read_and_no_error_holds_a_value() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("key"), "c2VjcmV0\n").unwrap();
        fs_err::write(dir.path().join("big"), "c2Vj".repeat(1 << 16)).unwrap();
        let read = |reference: &SecretRef| reveal("eab", reference, dir.path());
        let value = |reference| read(&reference).map(|s| s.reveal().to_owned());
        let command = |script: &str| SecretRef::Command(["sh", "-c", script].map(ToOwned::to_owned).to_vec());
        assert_eq!(value(SecretRef::File("key".into())).unwrap(), "c2VjcmV0");
        assert_eq!(value(command("cat key")).unwrap(), "c2VjcmV0");
        for (reference, words) in [
            (SecretRef::Env("NO_SUCH_VARIABLE_OF_INFRA".into()), "which is not set"),
            (SecretRef::File("none".into()), "cannot be read"),
            (command("cat key; exit 3"), "`sh` failed"),
            (command("true"), "is empty"),
            (command("cat /dev/zero"), "printed more than 64 KiB"),
            (SecretRef::File("/dev/zero".into()), "it is a device"),
            (SecretRef::File("big".into()), "larger than 64 KiB"),
            (SecretRef::File(".".into()), "it is a folder"),
            (SecretRef::Command(vec!["./no-such-program".into()]), "cannot be started"),
        ] {
            let why = value(reference).unwrap_err();
            assert!(why.contains(words) && !why.contains("c2Vj"), "{why}");
        }
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let began = Instant::now();
        for script in ["exec sleep 60", "exec 1>&-; exec sleep 60", "echo c2Vj; exec sleep 60"] {
            let argv = ["sh", "-c", script].map(ToOwned::to_owned);
            let why = said(&argv, Path::new("/"), Duration::from_millis(300)).unwrap_err();
            assert!(why.contains("took longer than") && !why.contains("c2Vj"), "{why}");
        }
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

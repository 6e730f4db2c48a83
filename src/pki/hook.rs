//! The command that sets and removes TXT records: takes its argv, a name and a value, gives whether it did, in its own words.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::base::fsx::size;
use crate::base::visible;
use crate::plan::state::Digest;

/// How long a hook may take: providers' interfaces are slow.
const PATIENCE: Duration = Duration::from_mins(3);
/// Of what it says, this much is shown.
const WORDS: u64 = 2000;

/// More than this no hook prints, bytes.
const PRINTED: u64 = 16 << 20;

/// What a hook is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Add the record beside others of the same name.
    Present,
    /// Remove this record and no other.
    Cleanup,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

/// The files that a hook's argv names, with digests: its program, found as the system would, and any script among its words. A
/// file of more than 16 MiB is told by its beginning and its length.
pub(crate) fn programs(hook: &[String], folder: &Path) -> BTreeMap<String, String> {
    const MOST: u64 = 16 << 20;
    let mut found = BTreeMap::new();
    for (place, word) in hook.iter().enumerate() {
        let path = if place == 0 && !word.contains('/') {
            let folders = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&folders).map(|folder| folder.join(word)).find(|path| path.is_file())
        } else {
            Some(folder.join(word))
        };
        let Some(path) = path.filter(|path| path.is_file()) else { continue };
        let mut bytes = Vec::new();
        let read = fs_err::File::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            file.take(MOST).read_to_end(&mut bytes)?;
            Ok(length)
        });
        // What cannot be read cannot be told; that it is so is told, too.
        let digest = match read {
            Ok(length) if length > MOST => format!("{} of {length} bytes", Digest::of(&bytes)),
            Ok(_) => Digest::of(&bytes).to_string(),
            Err(error) => format!("unreadable: {:?}", error.kind()),
        };
        found.insert(path.display().to_string(), digest);
    }
    found
}

/// Runs `ARGV… present|cleanup NAME VALUE` in `folder`; a program with a slash in its name is looked for from there. Neither
/// name nor value is secret: both end in the public DNS.
///
/// # Errors
/// A sentence with what the hook said.
pub(crate) fn run(
    argv: &[String],
    folder: &Path,
    verb: Verb,
    record: (&str, &str),
    stop: &AtomicBool,
) -> Result<(), String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("no hook is named".to_owned()) };
    let told = |why: String| format!("the hook `{program}` could not {} {}: {why}", verb.as_str(), record.0);
    // Its words go to a file: a pipe that nobody reads would stop it.
    let mut words = tempfile::tempfile().map_err(|e| told(e.to_string()))?;
    let copy = || words.try_clone().map_err(|e| told(e.to_string()));
    let (out, err) = (copy()?, copy()?);
    // The folder is where a relative program is looked for, too.
    let path = if program.contains('/') { folder.join(program) } else { program.into() };
    let mut child = Command::new(path)
        .args(arguments)
        .args([verb.as_str(), record.0, record.1])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|e| told(format!("it cannot be started: {e}")))?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|e| told(e.to_string()))? {
            Some(status) => break Ok(status),
            None if Instant::now() >= deadline => break Err(format!("it took more than {} s", PATIENCE.as_secs())),
            None if words.metadata().is_ok_and(|about| about.len() > PRINTED) => {
                break Err(format!("it printed more than {}", size(PRINTED)));
            }
            // What was set must be removed even by a run that is being stopped.
            None if verb == Verb::Present && stop.load(Ordering::Relaxed) => break Err("interrupted".to_owned()),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let status = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(why) => {
            // Either may fail only because it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            why
        }
    };
    let mut said = Vec::new();
    let read = words.rewind().and_then(|()| words.take(WORDS).read_to_end(&mut said));
    let said = read.map_or_else(|_| String::new(), |_| visible::sentence(&String::from_utf8_lossy(&said)));
    Err(told(if said.is_empty() { status } else { format!("{status}: {said}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, verb: Verb, stop: bool) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("mark"), "here").unwrap();
        let argv = ["sh", "-c", script, "hook"].map(ToOwned::to_owned);
        run(&argv, dir.path(), verb, ("_acme-challenge.example.com", "value"), &AtomicBool::new(stop))
    }

    #[test]
    fn a_hook_gets_its_words_and_its_own_are_told() {
        let expect = "[ \"$*\" = 'present _acme-challenge.example.com value' ] && [ -e mark ]";
        assert_eq!(sh(expect, Verb::Present, false), Ok(()));
        assert!(sh(expect, Verb::Cleanup, false).is_err());
        let why = sh("echo the zone is locked >&2; exit 4", Verb::Cleanup, false).unwrap_err();
        assert!(
            why.contains("could not cleanup _acme-challenge.example.com: exit status: 4: the zone is locked"),
            "{why}"
        );
        let much = sh("head -c 1000000 /dev/zero | tr '\\0' x; exit 1", Verb::Present, false).unwrap_err();
        assert!(much.len() < 3000);
        let endless = sh("exec cat /dev/zero", Verb::Present, false).unwrap_err();
        assert!(endless.contains("it printed more than 16 MiB"), "{endless}");
    }

    #[test]
    fn an_interrupt_stops_what_sets_and_not_what_removes() {
        assert!(sh("sleep 60", Verb::Present, true).unwrap_err().ends_with("interrupted"));
        assert_eq!(sh("true", Verb::Cleanup, true), Ok(()));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let stop = AtomicBool::new(false);
        let argv = ["./no-such-hook".to_owned()];
        let why = run(&argv, Path::new("/"), Verb::Present, ("n", "v"), &stop).unwrap_err();
        assert!(why.starts_with("the hook `./no-such-hook` could not present n: it cannot be started"), "{why}");
    }
}

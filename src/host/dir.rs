//! A folder that stands in for a host: takes the same scripts, runs them by the local `sh` with `ROOT` set to the folder.
//! Tests put stubs of `systemctl` and the like into a folder in front of `PATH`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{Conversation, Ended};
use super::transport::{ASIDE, Hold, Output, Script, Transport, TransportError};
use super::wrap::{Place, Seek, Wrap, words};

/// Scripts under a folder. Only the paths that a script prefixes with `$ROOT` are the folder's; it is no sandbox.
#[derive(Debug)]
pub struct DirTransport {
    place: Place,
    wrap: Wrap,
}

impl DirTransport {
    /// Takes the folder that is `/` for the scripts.
    pub fn new(root: impl AsRef<Path>) -> Self {
        let place = Place { root: root.as_ref().to_string_lossy().into_owned(), path_prefix: Vec::new() };
        Self { place, wrap: Wrap::new() }
    }

    /// Puts a folder in front of `PATH`; the first one added is the first one searched.
    #[must_use]
    pub fn path_prefix(mut self, dir: impl Into<PathBuf>) -> Self {
        self.place.path_prefix.push(dir.into().to_string_lossy().into_owned());
        self
    }

    fn start(&self, script: &Script, held: bool) -> Result<Conversation, TransportError> {
        Conversation::start(Command::new("sh").args(self.wrap.args(script, held)))
            .map(|child| child.up_to(script.answer.saturating_add(ASIDE), ASIDE))
            .map_err(|e| TransportError::Setup(format!("cannot start `sh`: {e}")))
    }
}

/// The child that holds; ends with the value.
#[derive(Debug)]
struct Held(Conversation);

impl Hold for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.finish(Duration::from_secs(2));
    }
}

impl DirTransport {
    fn too_much(&self, script: &Script, stderr: usize) -> TransportError {
        let limit = if stderr > ASIDE { ASIDE } else { script.answer };
        TransportError::TooMuch {
            address: self.place.root.clone(),
            title: script.title.clone(),
            limit,
            said: String::new(),
        }
    }
}

fn late(script: &Script, after: Duration) -> TransportError {
    TransportError::Timeout { title: script.title.clone(), after, said: String::new() }
}

impl Transport for DirTransport {
    fn run_told(
        &mut self,
        script: &Script,
        stdin: &[u8],
        told: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, TransportError> {
        let began = Instant::now();
        let mut child = self.start(script, false)?;
        let head = self.wrap.head(script, &self.place);
        let mut mark = self.wrap.seek();
        let listen = |out: &[u8]| {
            mark.after(out).and_then(|start| out.get(start..)).into_iter().for_each(&mut *told);
            false
        };
        let ended = child
            .until(&[&head, stdin], true, began + script.patience(), listen)
            .map_err(|e| TransportError::Lost(e.to_string()))?;
        let status = match ended {
            Ended::Exit(status) => status,
            Ended::TooMuch => {
                child.kill();
                return Err(self.too_much(script, child.stderr.len()));
            }
            Ended::Enough | Ended::Late => {
                child.kill();
                return Err(late(script, script.patience()));
            }
        };
        let answer = self.wrap.answer(std::mem::take(&mut child.stdout), std::mem::take(&mut child.stderr));
        if !answer.started {
            return Err(TransportError::Setup(format!("`sh` did not start: {}", words(&answer.output.stderr))));
        }
        if answer.late(status, script, began) {
            return Err(TransportError::Ended { title: script.title.clone(), after: script.timeout });
        }
        Ok(Output { status: answer.ended.unwrap_or(status), ..answer.output })
    }

    fn hold(&mut self, script: &Script) -> Result<(String, Box<dyn Hold>), TransportError> {
        let mut child = self.start(script, true)?;
        let head = self.wrap.head(script, &self.place);
        let (mut mark, mut end) = (self.wrap.seek(), Seek::new(b"\n"));
        let mut line = move |out: &[u8]| {
            let start = mark.after(out)?;
            out.get(start..end.after_in(out, start)? - 1).map(<[u8]>::to_vec)
        };
        let ended = child
            .until(&[&head], false, Instant::now() + script.timeout, |out| line(out).is_some())
            .map_err(|e| TransportError::Lost(e.to_string()))?;
        match (ended, line(&child.stdout)) {
            (Ended::Late, _) => Err(late(script, script.timeout)),
            (Ended::TooMuch, _) => Err(self.too_much(script, child.stderr.len())),
            (_, Some(first)) => Ok((String::from_utf8_lossy(&first).into_owned(), Box::new(Held(child)))),
            (_, None) => {
                let answer = self.wrap.answer(std::mem::take(&mut child.stdout), std::mem::take(&mut child.stderr));
                Err(TransportError::Setup(format!("`{}` ended: {}", script.title, words(&answer.output.stderr))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, stdin: &[u8]) -> Output {
        let dir = tempfile::tempdir().unwrap();
        DirTransport::new(dir.path()).run(&Script::new("t", text).up_to(30_000_000), stdin).unwrap()
    }

    #[test]
    fn a_script_has_its_root_its_stdin_and_its_status() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("x"), "hello\n").unwrap();
        let mut host = DirTransport::new(dir.path());
        let out = host.run(&Script::new("t", "cat \"$ROOT/x\"; cat; echo no >&2; exit 3"), b"\0bin\xff").unwrap();
        assert_eq!(out, Output { status: 3, stdout: b"hello\n\0bin\xff".to_vec(), stderr: b"no\n".to_vec() });
    }

    #[test]
    fn twenty_megabytes_go_both_ways() {
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        assert_eq!(run("cat", &bytes).stdout, bytes);
        assert_eq!(run("exit 4", &bytes).status, 4);
    }

    #[test]
    fn an_endless_answer_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = DirTransport::new(dir.path());
        for text in ["cat /dev/zero", "cat /dev/zero >&2", "yes", "exec 2>/dev/null; while :; do echo x; done"] {
            let script = Script::new("endless", text).up_to(200_000);
            let error = host.run(&script, b"").unwrap_err();
            assert!(
                matches!(error, TransportError::TooMuch { .. }) && error.to_string().contains("`endless`"),
                "{error}"
            );
            let held = host.hold(&Script::new("t", text.replace("yes", "tr '\\n' y </dev/zero")).up_to(200_000));
            // A line that comes is the answer of a held script, whatever follows it.
            assert!(held.is_ok() == text.contains("echo") || held.is_err(), "{text}");
        }
        assert_eq!(host.run(&Script::new("t", "head -c 8388608 /dev/zero"), b"").unwrap().stdout.len(), 8 << 20);
    }

    #[test]
    fn a_trap_of_the_script_is_its_own() {
        let out = run("trap 'echo bye' EXIT\nfalse\nexit 7", b"");
        assert_eq!((out.status, out.stdout.as_slice()), (7, b"bye\n".as_slice()));
        assert_eq!(run("kill -9 $(sh -c 'echo $PPID')", b"").status, 137);
    }

    #[test]
    fn a_stub_in_front_of_path_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let stub = dir.path().join("systemctl");
        crate::base::fsx::write_atomic(&stub, b"#!/bin/sh\necho stub\n", 0o755).unwrap();
        let mut host = DirTransport::new("/nonexistent").path_prefix(dir.path());
        assert_eq!(host.run(&Script::new("t", "systemctl"), b"").unwrap().stdout, b"stub\n");
    }

    #[test]
    fn a_slow_script_is_killed_with_its_children() {
        let started = Instant::now();
        let script = Script::new("slow", "sleep 60; echo never").within(Duration::from_millis(200));
        let error = DirTransport::new("/nonexistent").run(&script, b"").unwrap_err();
        assert!(matches!(error, TransportError::Ended { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    /// The host keeps the time by itself: who does not let himself be ended is killed, who has something to put back may do so,
    /// and nothing that was started in between lives on.
    #[test]
    fn a_script_that_is_late_ends_whatever_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = DirTransport::new(dir.path());
        // A child that nobody else has.
        let sleep = format!("sleep 71.{}", std::process::id());
        let mut late = |text: &str| {
            let script = Script::new("late", text.replace("sleep 71", &sleep))
                .within(Duration::from_secs(1))
                .grace(Duration::from_secs(1));
            host.run(&script, b"")
        };
        for text in [
            "sleep 71",
            "trap '' TERM; sleep 71",
            "mkfifo \"$ROOT/fifo1\"; cat \"$ROOT/fifo1\"",
            "mkfifo \"$ROOT/fifo2\"; trap '' TERM; echo x >\"$ROOT/fifo2\"",
            "sleep 71 & while :; do :; done",
            "sleep 71 | cat",
        ] {
            let error = late(text).unwrap_err();
            assert!(matches!(error, TransportError::Ended { .. }), "{text}: {error}");
        }
        let out = late("trap late=1 TERM; sleep 71 || echo put back; exit ${late}0").unwrap();
        assert_eq!((out.status, out.stdout.as_slice()), (10, b"put back\n".as_slice()));
        let left = Command::new("pgrep").args(["-fx", &sleep]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "a child of an ended script lives on");
    }

    #[test]
    fn a_hold_lasts_as_long_as_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = DirTransport::new(dir.path());
        let lock = Script::new("lock", "exec 9>\"$ROOT/lock\"; flock -n 9 || exit 1; echo mine; cat >/dev/null");
        let (line, hold) = host.hold(&lock).unwrap();
        assert_eq!(line, "mine");
        assert!(host.hold(&lock).is_err());
        assert_eq!(host.run(&Script::new("t", "echo x"), b"").unwrap().stdout, b"x\n");
        drop(hold);
        assert_eq!(host.hold(&lock).unwrap().0, "mine");
    }
}

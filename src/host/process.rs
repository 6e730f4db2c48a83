//! A local child process: takes a command, bytes for its stdin and a deadline, gives both outputs. No thread is needed,
//! and neither a full pipe nor a silent child can block for ever.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::descriptors::patiently;

/// What a conversation may end with before the child does.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Ended {
    /// The child ended by itself.
    Exit(i32),
    /// The caller had what it wanted ([`Conversation::until`]).
    Enough,
    /// The deadline came.
    Late,
    /// One of the outputs became longer than its bound.
    TooMuch,
}

/// Most bytes of an output of a local program, where nothing else is said.
const OUTPUT: usize = 4 << 20;

/// A child with three pipes and a process group of its own.
#[derive(Debug)]
pub(crate) struct Conversation {
    child: Child,
    /// All of stdout so far.
    pub(crate) stdout: Vec<u8>,
    /// All of stderr so far.
    pub(crate) stderr: Vec<u8>,
    /// Most bytes of each output.
    bounds: (usize, usize),
}

impl Conversation {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = patiently(|| command.spawn())?;
        if let Some(pipe) = &child.stdin {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &child.stdout {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &child.stderr {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { child, stdout: Vec::new(), stderr: Vec::new(), bounds: (OUTPUT, OUTPUT) })
    }

    /// Other bounds of stdout and stderr, bytes.
    pub(crate) fn up_to(mut self, stdout: usize, stderr: usize) -> Self {
        self.bounds = (stdout, stderr);
        self
    }

    /// Writes `input` piece by piece and reads both outputs until the child ends, `enough` says so of stdout, or the
    /// deadline. Closes stdin after the input when `close`.
    pub(crate) fn until(
        &mut self,
        input: &[&[u8]],
        close: bool,
        deadline: Instant,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Ended> {
        let mut pieces: VecDeque<&[u8]> = input.iter().copied().filter(|p| !p.is_empty()).collect();
        loop {
            if pieces.is_empty() && close {
                self.child.stdin = None;
            }
            if enough(&self.stdout) {
                return Ok(Ended::Enough);
            }
            if self.child.stdout.is_none() && self.child.stderr.is_none() {
                return self.exit(deadline);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ended::Late);
            }
            {
                let mut fds = Vec::with_capacity(3);
                let stdin = self.child.stdin.as_ref().filter(|_| !pieces.is_empty());
                fds.extend(stdin.map(|p| PollFd::from_borrowed_fd(p.as_fd(), PollFlags::OUT)));
                fds.extend(self.child.stdout.as_ref().map(|p| PollFd::from_borrowed_fd(p.as_fd(), PollFlags::IN)));
                fds.extend(self.child.stderr.as_ref().map(|p| PollFd::from_borrowed_fd(p.as_fd(), PollFlags::IN)));
                wait(&mut fds, left)?;
            }
            if let (Some(piece), Some(pipe)) = (pieces.front_mut(), &mut self.child.stdin) {
                match pipe.write(piece) {
                    Ok(n) => *piece = piece.get(n..).unwrap_or_default(),
                    Err(e) if retry(&e) => {}
                    // The child closed its stdin: it does not want the rest.
                    Err(_) => pieces.clear(),
                }
            }
            if pieces.front().is_some_and(|p| p.is_empty()) {
                pieces.pop_front();
            }
            if drain(&mut self.child.stdout, &mut self.stdout, self.bounds.0)?
                || drain(&mut self.child.stderr, &mut self.stderr, self.bounds.1)?
            {
                return Ok(Ended::TooMuch);
            }
        }
    }

    fn exit(&mut self, deadline: Instant) -> io::Result<Ended> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Ended::Exit(code(status)));
            }
            if Instant::now() >= deadline {
                return Ok(Ended::Late);
            }
            // Both outputs are closed and the child lives on: rare, and there is nothing to poll.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Closes stdin and lets the child end by itself for a while, then kills its whole process group.
    pub(crate) fn finish(&mut self, patience: Duration) {
        self.child.stdin = None;
        if !matches!(self.until(&[], true, Instant::now() + patience, |_| false), Ok(Ended::Exit(_))) {
            self.kill();
        }
    }

    /// Kills the whole process group and reaps the child.
    pub(crate) fn kill(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The shell's way to say how a process ended.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|n| 128 + n)).unwrap_or(-1)
}

/// Waits until one of `fds` is ready or `left` has passed; an interrupting signal counts as ready.
pub(crate) fn wait(fds: &mut [PollFd<'_>], left: Duration) -> io::Result<()> {
    let left = left.min(Duration::from_hours(1));
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(3600),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Reads what there is; whether that is more than `most` in all.
fn drain(pipe: &mut Option<impl Read>, into: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let Some(open) = pipe else { return Ok(false) };
    let mut buffer = vec![0; 65536];
    loop {
        match open.read(&mut buffer) {
            Ok(0) => {
                *pipe = None;
                return Ok(false);
            }
            Ok(n) => {
                into.extend_from_slice(buffer.get(..n).unwrap_or_default());
                if into.len() > most {
                    return Ok(true);
                }
            }
            Err(e) if retry(&e) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

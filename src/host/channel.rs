//! One remote command: takes an open channel of a session and pieces of input, gives both outputs and how it ended. Reads
//! while it writes, because a full window in one direction must not stop the other.
//!
//! libssh2 keeps a packet that the socket took only in part, and the same call must be repeated before any other may be made on
//! that session. [`Exchange::half_sent`] remembers which one that is.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use ssh2::{BlockDirections, Channel, Session};

use super::jump::Link;
use super::process::wait;

/// How long to wait in silence before the peer is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Why an exchange stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The far side closed the channel.
    Closed,
    /// The caller said so ([`Step::Stop`]).
    Enough,
    /// The deadline came.
    Late,
    /// One of the outputs became longer than its bound.
    TooMuch,
}

/// What the caller wants after more output came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send what there is, go on.
    Send,
    /// Send only the first piece yet.
    First,
    /// Leave the channel open and return.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    Eof,
    Out,
    Err,
}

/// The state of a conversation over one channel.
pub(crate) struct Exchange<'a> {
    pub(crate) session: &'a Session,
    pub(crate) link: &'a Arc<Link>,
    pub(crate) channel: &'a mut Channel,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// Most bytes of each output.
    bounds: (usize, usize),
    /// The call that has to be repeated first; when it stands at the end, the session can't be used any more.
    half_sent: Option<Call>,
}

impl<'a> Exchange<'a> {
    /// Takes the channel and the most bytes of stdout and of stderr that are read.
    pub(crate) fn new(
        session: &'a Session,
        link: &'a Arc<Link>,
        channel: &'a mut Channel,
        bounds: (usize, usize),
    ) -> Self {
        Self { session, link, channel, stdout: Vec::new(), stderr: Vec::new(), bounds, half_sent: None }
    }

    /// Whether libssh2 is in the middle of a packet, so that nothing else can be sent on this session.
    pub(crate) fn stuck(&self) -> bool {
        self.half_sent.is_some()
    }

    /// Carries the conversation on until one of [`Stop`]. Closes stdin after the last piece when `close`.
    pub(crate) fn until(
        &mut self,
        pieces: &[&[u8]],
        close: bool,
        deadline: Instant,
        mut step: impl FnMut(&[u8], &[u8]) -> Step,
    ) -> io::Result<Stop> {
        let mut piece = 0;
        let mut rest: &[u8] = pieces.first().copied().unwrap_or_default();
        let mut open = true;
        let mut wish = step(&self.stdout, &self.stderr);
        let mut seen = 0;
        loop {
            let mut moved = false;
            // Input, as far as window and socket take it.
            while open && matches!(self.half_sent, None | Some(Call::Write | Call::Eof)) {
                if rest.is_empty() {
                    if piece + 1 < pieces.len() && (wish == Step::Send) {
                        piece += 1;
                        rest = pieces.get(piece).copied().unwrap_or_default();
                        continue;
                    }
                    if piece + 1 >= pieces.len() && close {
                        match self.call(Call::Eof, |channel| channel.send_eof().map_err(Into::into)) {
                            Ok(Some(())) => open = false,
                            Ok(None) => {}
                            Err(_) if self.over() => open = false,
                            Err(e) => return Err(e),
                        }
                    }
                    break;
                }
                match self.call(Call::Write, |channel| channel.write(rest)) {
                    Ok(Some(0) | None) => break,
                    Ok(Some(n)) => {
                        rest = rest.get(n..).unwrap_or_default();
                        moved = true;
                    }
                    // The command ended without reading all of it; how it ended is told below.
                    Err(_) if self.over() => open = false,
                    Err(e) => return Err(e),
                }
            }
            let window = self.channel.write_window().remaining;
            // Output, all that there is.
            for which in [Call::Out, Call::Err] {
                while self.half_sent.is_none() || self.half_sent == Some(which) {
                    match self.read(which)? {
                        0 => break,
                        _ => moved = true,
                    }
                    if self.stdout.len() > self.bounds.0 || self.stderr.len() > self.bounds.1 {
                        return Ok(Stop::TooMuch);
                    }
                }
            }
            if self.stdout.len() + self.stderr.len() != seen {
                seen = self.stdout.len() + self.stderr.len();
                let before = wish;
                wish = step(&self.stdout, &self.stderr);
                if wish == Step::Stop && self.half_sent.is_none() {
                    return Ok(Stop::Enough);
                }
                moved = moved || wish != before;
            }
            if self.half_sent.is_none() && self.channel.eof() {
                match self.channel.wait_close() {
                    Ok(()) => return Ok(Stop::Closed),
                    Err(e) => would_block(e.into())?,
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Stop::Late);
            }
            // While reading, libssh2 may have seen the window open again.
            let grown = open && !rest.is_empty() && self.channel.write_window().remaining > window;
            if !moved && !grown {
                self.sleep(left)?;
            }
        }
    }

    fn over(&mut self) -> bool {
        self.half_sent.is_none() && self.channel.eof() && self.channel.wait_close().is_ok()
    }

    /// Makes one call; nothing means «not yet».
    fn call<T>(&mut self, which: Call, call: impl FnOnce(&mut Channel) -> io::Result<T>) -> io::Result<Option<T>> {
        match call(self.channel) {
            Ok(value) => {
                self.half_sent = None;
                Ok(Some(value))
            }
            Err(e) => {
                self.half_sent = None;
                would_block(e)?;
                if matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both) {
                    self.half_sent = Some(which);
                }
                Ok(None)
            }
        }
    }

    fn read(&mut self, which: Call) -> io::Result<usize> {
        let mut buffer = [0; 16384];
        let n = self
            .call(which, |channel| {
                if which == Call::Out { channel.read(&mut buffer) } else { channel.stderr().read(&mut buffer) }
            })?
            .unwrap_or(0);
        let into = if which == Call::Out { &mut self.stdout } else { &mut self.stderr };
        into.extend_from_slice(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn sleep(&self, left: Duration) -> io::Result<()> {
        let flags = if self.half_sent.is_some() { PollFlags::OUT } else { PollFlags::IN };
        let started = Instant::now();
        wait(&mut [PollFd::new(self.link, flags)], left.min(KEEPALIVE))?;
        if self.half_sent.is_none() && started.elapsed() >= KEEPALIVE {
            // The socket was silent for that long, so its send buffer is empty and this is sent whole.
            self.session.keepalive_send().map_err(io::Error::from)?;
        }
        Ok(())
    }
}

fn would_block(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

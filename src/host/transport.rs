//! The one way that bytes reach a host: takes a POSIX sh script and its standard input, gives what came back.

use std::fmt;
use std::time::Duration;

/// Most bytes of stdout that a script may answer with, where it says no other bound. The answer of an observation has some ten KiB, and
/// at most 256 KiB more for each file that differs.
const ANSWER: usize = 8 << 20;
/// Most bytes of what an answer is accompanied by: stderr, and what a login shell or sudo says before a script begins.
pub(crate) const ASIDE: usize = 1 << 20;

/// A POSIX sh script and the longest that it may take. The text is no secret: secrets travel on `stdin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What it does, for a person: «observe», «install haproxy».
    pub title: String,
    /// The text. Paths in it are absolute and prefixed with `"$ROOT"`, which is empty on a real host.
    pub text: String,
    /// The host itself ends it after this long, by `SIGTERM` to it and to all that it has started.
    pub timeout: Duration,
    /// How long it may then take to put things back; after that the host kills it.
    pub grace: Duration,
    /// Most bytes of stdout that are taken; a host that sends more fails.
    pub answer: usize,
}

/// How much longer than the host's own limit we wait for the host to tell of it.
const PATIENCE: Duration = Duration::from_secs(15);

impl Script {
    /// A script with the usual time-out of 60 s, the usual bound of its answer, 8 MiB, and nothing to put back.
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            text: text.into(),
            timeout: Duration::from_mins(1),
            grace: Duration::from_secs(5),
            answer: ANSWER,
        }
    }

    /// Another time-out.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Another grace.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// When we give up on a host that does not say that the script has ended.
    pub(crate) fn patience(&self) -> Duration {
        self.timeout + self.grace + PATIENCE
    }

    /// Another bound of the answer, bytes.
    #[must_use]
    pub fn up_to(mut self, answer: usize) -> Self {
        self.answer = answer;
        self
    }
}

/// What a script gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Exit status; 128 + n for a signal n.
    pub status: i32,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the status is 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }
}

/// Why a host could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No address.
    #[error("cannot resolve `{name}`: {reason}")]
    Resolve {
        /// The name.
        name: String,
        /// The resolver's words.
        reason: String,
    },
    /// No TCP connection, or no SSH greeting.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// The cause.
        reason: String,
    },
    /// The host's key is unknown, changed or revoked: never retried, never connected.
    #[error("{0}")]
    HostKey(String),
    /// None of our ways to log in was taken.
    #[error("cannot log in as `{user}` at {address}: tried {}{}", .tried.join(", "), saying(.said))]
    Auth {
        /// The user.
        user: String,
        /// `HOST:PORT`.
        address: String,
        /// What was tried, in order.
        tried: Vec<String>,
        /// The host's own words, fit for a person; empty where it has none.
        said: String,
    },
    /// sudo did not let us.
    #[error("cannot become root at {address}: {reason}")]
    Become {
        /// `HOST:PORT`.
        address: String,
        /// sudo's words.
        reason: String,
    },
    /// A script ran longer than it may, and the host has ended it.
    #[error("`{title}` took longer than {} s, and the host has ended it", .after.as_secs())]
    Ended {
        /// The script.
        title: String,
        /// The limit.
        after: Duration,
    },
    /// A host does not answer any more.
    #[error("the host has not answered for {} s, and was to end `{title}` before{}", .after.as_secs(), saying(.said))]
    Timeout {
        /// The script.
        title: String,
        /// How long we waited.
        after: Duration,
        /// What it has printed instead, fit for a person; empty where that is nothing, or the script's own.
        said: String,
    },
    /// The host's answer has no end, or is longer than any that makes sense. The connection is given up.
    #[error("{address} answers `{title}` with more than {}, which no healthy host does: run it there and see what prints so much (a profile of the shell, a daemon, a very large file){}", crate::base::fsx::size(*.limit as u64), saying(.said))]
    TooMuch {
        /// `HOST:PORT`, or the folder.
        address: String,
        /// The script.
        title: String,
        /// The limit, bytes.
        limit: usize,
        /// How it begins, where the script itself has not; fit for a person.
        said: String,
    },
    /// The connection broke.
    #[error("lost the connection: {0}")]
    Lost(String),
    /// What was configured for the connection cannot be used (a key file that does not parse, a failing jump command).
    #[error("{0}")]
    Setup(String),
}

/// The end of an error's sentence: what the host says of itself, where it says something.
pub(crate) fn saying(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("; it says: {words}") }
}

impl TransportError {
    /// Whether the host is to be counted as unreachable (exit code 4) and may be tried again.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Resolve { .. } | Self::Unreachable { .. } | Self::Lost(_) | Self::Timeout { .. })
    }
}

/// A script that goes on running on the host until this value is dropped (the host lock).
pub trait Hold: Send + fmt::Debug {}

/// A connection to one host, as root.
pub trait Transport: Send {
    /// Runs `script` with `stdin` and waits for its end. A non-zero status is no error.
    ///
    /// # Errors
    /// [`TransportError`] when the script could not be run to its end.
    fn run(&mut self, script: &Script, stdin: &[u8]) -> Result<Output, TransportError> {
        self.run_told(script, stdin, &mut |_| ())
    }

    /// The same, and gives all of stdout so far to `told` whenever more of it has come.
    ///
    /// # Errors
    /// As for [`Transport::run`].
    fn run_told(
        &mut self,
        script: &Script,
        stdin: &[u8],
        told: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, TransportError>;

    /// Starts `script`, waits for its first line of stdout, and leaves it running until the value is dropped or the
    /// connection dies. Gives that line (without its end), and the hold.
    ///
    /// # Errors
    /// [`TransportError`] when the script ended or timed out before a line came; its stderr is in the text.
    fn hold(&mut self, script: &Script) -> Result<(String, Box<dyn Hold>), TransportError>;

    /// Says that nothing more is known to be asked: what can open again by itself may close.
    fn rest(&mut self) {}
}

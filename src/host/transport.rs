//! The one way that bytes reach a host: takes a POSIX sh script and its standard input, gives what came back.

use std::fmt;
use std::time::Duration;

/// A POSIX sh script and the longest that it may take. The text is no secret: secrets travel on `stdin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What it does, for a person: «observe», «install haproxy».
    pub title: String,
    /// The text. Paths in it are absolute and prefixed with `"$ROOT"`, which is empty on a real host.
    pub text: String,
    /// Killed on our side after this long.
    pub timeout: Duration,
}

impl Script {
    /// A script with the usual time-out of 60 s.
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { title: title.into(), text: text.into(), timeout: Duration::from_mins(1) }
    }

    /// Another time-out.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
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
    #[error("cannot log in as `{user}` at {address}: tried {}", .tried.join(", "))]
    Auth {
        /// The user.
        user: String,
        /// `HOST:PORT`.
        address: String,
        /// What was tried, in order.
        tried: Vec<String>,
    },
    /// sudo did not let us.
    #[error("cannot become root at {address}: {reason}")]
    Become {
        /// `HOST:PORT`.
        address: String,
        /// sudo's words.
        reason: String,
    },
    /// A script ran longer than it may.
    #[error("`{title}` took longer than {} s", .after.as_secs())]
    Timeout {
        /// The script.
        title: String,
        /// The limit.
        after: Duration,
    },
    /// The connection broke.
    #[error("lost the connection: {0}")]
    Lost(String),
    /// What was configured for the connection cannot be used (a key file that does not parse, a failing jump command).
    #[error("{0}")]
    Setup(String),
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
    fn run(&mut self, script: &Script, stdin: &[u8]) -> Result<Output, TransportError>;

    /// Starts `script`, waits for its first line of stdout, and leaves it running until the value is dropped or the
    /// connection dies. Gives that line (without its end), and the hold.
    ///
    /// # Errors
    /// [`TransportError`] when the script ended or timed out before a line came; its stderr is in the text.
    fn hold(&mut self, script: &Script) -> Result<(String, Box<dyn Hold>), TransportError>;
}

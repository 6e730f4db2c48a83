//! Whom to reach and how: takes an inventory's words on SSH, gives what every connection of a run goes by.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use crate::base::secret::Secret;

/// How one becomes root after logging in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Become {
    /// The user is root.
    #[default]
    Direct,
    /// By sudo, with a password where it asks for one.
    Sudo,
}

/// Whom to reach. What is none is decided by `ssh`'s configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// What a person would write after `ssh`: what `Host` lines match, and what errors call the host.
    pub host: String,
    /// What is connected to.
    pub address: Option<String>,
    /// The TCP port.
    pub port: Option<u16>,
    /// Who logs in.
    pub user: Option<String>,
    /// The only key to offer: a private key's file, or its `.pub` when an agent holds it.
    pub identity: Option<PathBuf>,
    /// `[user@]host[:port]`, several with commas; `none` for no jump whatever the configuration says.
    pub jump: Option<String>,
    /// How one becomes root there.
    pub become_root: Become,
}

impl Target {
    /// Takes the host; everything else is left to `ssh`'s configuration.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), ..Self::default() }
    }
}

/// Which configuration of `ssh` is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Config {
    /// The person's and the machine's.
    #[default]
    Default,
    /// This file alone.
    File(PathBuf),
    /// None.
    None,
}

/// What a person is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// The passphrase of a key file.
    Passphrase {
        /// The file.
        file: &'a Path,
        /// Whether the answer before was wrong.
        again: bool,
    },
    /// The password for sudo.
    Sudo {
        /// Whose.
        user: &'a str,
        /// Where.
        host: &'a str,
        /// Whether the answer before was wrong.
        again: bool,
    },
}

/// Who answers. Many connections ask at the same time: an answer for all hosts is kept by the implementation.
pub trait Prompt: Send + Sync {
    /// The answer, or nothing when there is none; may block on a person.
    fn answer(&self, ask: &Ask<'_>) -> Option<Secret>;
}

/// What holds for all connections of a run.
#[derive(Clone)]
pub struct Options {
    /// Which configuration of `ssh` is read.
    pub config: Config,
    /// The files of host keys, instead of those that the configuration names.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// Who is asked for passphrases and passwords; nobody where there is no terminal.
    pub prompt: Option<Arc<dyn Prompt>>,
    /// Bounds simultaneous handshakes; shared by all connections.
    pub gate: Arc<Gate>,
    /// The longest for TCP, per address.
    pub connect_timeout: Duration,
    /// The longest for SSH's key exchange.
    pub handshake_timeout: Duration,
    /// The longest for the answer about one key.
    pub auth_timeout: Duration,
    /// How often a failed connection is tried again; host keys and refused logins never are.
    pub retries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: Config::Default,
            known_hosts: None,
            prompt: None,
            gate: Arc::default(),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(20),
            auth_timeout: Duration::from_secs(20),
            retries: 2,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("known_hosts", &self.known_hosts)
            .finish_non_exhaustive()
    }
}

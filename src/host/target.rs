//! Whom to reach and how: takes an inventory's words on SSH, gives what every connection of a run goes by.

use std::path::{Path, PathBuf};

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
        /// The host that the key is for.
        host: &'a str,
        /// Whether the answer before was wrong.
        again: bool,
    },
    /// The password of a login.
    Password {
        /// Whose.
        user: &'a str,
        /// Where.
        host: &'a str,
        /// Whether the answer before was wrong.
        again: bool,
    },
    /// A question that the host itself puts, such as for a code that holds once.
    Question {
        /// Who logs in.
        user: &'a str,
        /// Where.
        host: &'a str,
        /// The host's words, fit for a terminal.
        text: &'a str,
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

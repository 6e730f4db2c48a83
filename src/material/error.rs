//! Why materials are not there: takes what went wrong with a source, gives a sentence and what to do next.

use std::path::PathBuf;

use crate::base::net::HostName;
use crate::pki;

/// What keeps materials from being there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the state.
    #[error(transparent)]
    Store(#[from] pki::Error),
    /// The passwords of another inventory.
    #[error("`{path}` holds the passwords of `{found}`, not of `{site}`")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose they are.
        found: HostName,
        /// Who asks.
        site: HostName,
    },
    /// The inventory refers to a secret that cannot be read: a sentence.
    #[error("{0}")]
    Unread(String),
    /// The system has no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// A service calls a secret by what is not a name.
    #[error("the service `{service}` declares the secret `{name}`, which {why}")]
    Name {
        /// The service.
        service: &'static str,
        /// What it calls the secret.
        name: String,
        /// What is wrong with that.
        why: String,
    },
}

impl Error {
    /// What to do next.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.help(),
            Self::Foreign { site, .. } => Some(format!(
                "give each inventory a state folder of its own (`state: PATH`); if this one was renamed, write `{site}` as `site` in the file `passwords.json`"
            )),
            Self::Unread(_) | Self::Random(_) | Self::Name { .. } => None,
        }
    }
}

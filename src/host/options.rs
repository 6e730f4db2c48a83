//! What all connections of a run share: which configuration is read, who answers, and what was found out already.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::gate::Gate;
use super::known_hosts::Books;
use super::ssh_config::{Asked, Bounds};
use super::target::{Config, Prompt};

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
    /// What `ssh` was asked about already; shared by all connections.
    pub asked: Arc<Asked>,
    /// The files of host keys that were read already; shared by all connections.
    pub books: Arc<Books>,
    /// What a person should know of the connections, each a sentence, and whether it was told; shared by all connections.
    pub notes: Arc<Mutex<BTreeMap<String, bool>>>,
    /// How long each part of a connection may take, instead of what the configuration says.
    pub bounds: Option<Bounds>,
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
            asked: Arc::default(),
            books: Arc::default(),
            notes: Arc::default(),
            bounds: None,
            retries: 2,
        }
    }
}

impl Options {
    /// Keeps what a person should know of how hosts are reached, once.
    pub(super) fn note(&self, text: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).entry(text.to_owned()).or_default();
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

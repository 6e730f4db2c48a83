//! SSH to the inventory's hosts: takes what the inventory says about a login, gives connections as root.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::net::HostName;
use crate::fleet::survey::Connector;
use crate::host::gate::Gate;
use crate::host::ssh::{self, Config, Options, Prompt, SshTransport, Target};
use crate::host::transport::{Transport, TransportError};
use crate::inventory::site::{self, Host};

/// Connects by ssh2, one gate for all handshakes.
pub struct SshConnector {
    options: Options,
    /// What was agreed on, and with whom, until it is told; nothing where nobody wants to know.
    agreed: Option<Mutex<BTreeMap<String, BTreeSet<HostName>>>>,
}

impl fmt::Debug for SshConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshConnector").finish_non_exhaustive()
    }
}

/// How `host` is reached: by its inventory name in `~/.ssh/config`, at the inventory's address.
pub fn target(host: &Host) -> Target {
    let ssh = &host.ssh;
    let address = ssh.address.clone().or_else(|| host.addresses.first().map(ToString::to_string));
    let root = ssh.user.as_deref() == Some("root");
    let sudo = ssh.r#become.map_or(!root, |b| b == site::Become::Sudo);
    Target {
        host: host.name.to_string(),
        address,
        port: ssh.port.map(crate::base::net::Port::get),
        user: ssh.user.clone(),
        identity: ssh.identity.clone(),
        jump: ssh.jump.clone(),
        become_root: if sudo { ssh::Become::Sudo } else { ssh::Become::Direct },
    }
}

/// Which of `ssh`'s configurations holds for `host`.
pub fn config(host: &Host) -> Config {
    host.ssh.config.clone().map_or(Config::Default, Config::File)
}

impl SshConnector {
    /// Takes who answers questions for passwords, where there is someone.
    pub fn new(prompt: Option<Arc<dyn Prompt>>) -> Self {
        Self { options: Options { prompt, ..Options::default() }, agreed: None }
    }

    /// Opens so many connections at the same time, through one jump host as few as ever.
    #[must_use]
    pub fn opening(mut self, at_once: usize) -> Self {
        self.options.gate = Arc::new(Gate::of(at_once));
        self
    }

    /// Also notes which key exchange, host key and cipher were agreed on.
    #[must_use]
    pub fn telling(mut self, wanted: bool) -> Self {
        self.agreed = wanted.then(Mutex::default);
        self
    }

    /// Other files of host keys than those that `ssh`'s configuration names.
    #[must_use]
    pub fn known_hosts(mut self, files: Vec<PathBuf>) -> Self {
        self.options.known_hosts = Some(files);
        self
    }
}

impl Connector for SshConnector {
    fn connect(&self, host: &Host) -> Result<Box<dyn Transport>, TransportError> {
        let options = Options { config: config(host), ..self.options.clone() };
        let transport = SshTransport::connect(&target(host), &options)?;
        if let Some(agreed) = &self.agreed {
            locked(agreed).entry(transport.agreed().to_owned()).or_default().insert(host.name.clone());
        }
        Ok(Box::new(transport))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = locked(&self.options.notes);
        let new = notes.iter_mut().filter(|(_, told)| !**told).map(|(text, told)| {
            *told = true;
            format!("warning: {text}")
        });
        let agreed = self.agreed.as_ref().map(|agreed| std::mem::take(&mut *locked(agreed))).unwrap_or_default();
        let agreed = agreed.into_iter().map(|(what, hosts)| {
            let hosts: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
            format!("SSH: {what} with {}", hosts.join(", "))
        });
        new.chain(agreed).collect()
    }
}

/// What another thread left in a panic is whole all the same.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

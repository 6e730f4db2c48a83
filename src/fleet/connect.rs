//! SSH to the inventory's hosts: takes what the inventory says about a login, gives connections as root.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::net::HostName;
use crate::base::secret::Secret;
use crate::fleet::pace;
use crate::fleet::resting::{Opened, Resting, Room};
use crate::fleet::survey::Connector;
use crate::host::gate::Gate;
use crate::host::ssh::{self, Ask, Config, Options, Prompt, SshTransport, Target};
use crate::host::transport::{Transport, TransportError};
use crate::inventory::site::{self, Host};

/// Connects by ssh2, one gate for all handshakes.
pub struct SshConnector {
    options: Options,
    learned: Arc<Learned>,
    /// Whether a person wants to know what was agreed on, and how many hosts are worked on at the same time.
    telling: bool,
    /// The most hosts at the same time where it goes by the way to them.
    adapts: Option<usize>,
    told: Mutex<Option<Duration>>,
    /// What connections may keep while nobody asks over them.
    room: Arc<Room>,
    /// Whether they end as soon as nothing more is known to be asked.
    soon: bool,
}

/// What connections have shown.
#[derive(Default)]
struct Learned {
    /// What was agreed on, and with whom, until it is told.
    agreed: Mutex<BTreeMap<String, BTreeSet<HostName>>>,
    /// The round trips of the first of them.
    trips: Mutex<Vec<Duration>>,
    /// The most descriptors that one of them keeps.
    files: AtomicUsize,
}

/// So many hosts say how far all are.
const FIRST: usize = 32;

impl Learned {
    fn take(&self, host: &HostName, transport: &SshTransport) {
        self.files.fetch_max(transport.files(), Ordering::Relaxed);
        locked(&self.agreed).entry(transport.agreed().to_owned()).or_default().insert(host.clone());
        let mut trips = locked(&self.trips);
        if trips.len() < FIRST {
            trips.extend(transport.trip());
        }
    }
}

/// Asks a person for one connection, and notes whether an answer was for the host alone.
struct Noting {
    prompt: Arc<dyn Prompt>,
    answered: AtomicBool,
}

impl Prompt for Noting {
    fn answer(&self, ask: &Ask<'_>) -> Option<Secret> {
        if matches!(ask, Ask::Question { .. }) {
            self.answered.store(true, Ordering::Relaxed);
        }
        self.prompt.answer(ask)
    }
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
        Self {
            options: Options { prompt, ..Options::default() },
            learned: Arc::default(),
            telling: false,
            adapts: None,
            told: Mutex::default(),
            room: Arc::default(),
            soon: false,
        }
    }

    /// Opens so many connections at the same time, through one jump host as few as ever.
    #[must_use]
    pub fn opening(mut self, at_once: usize) -> Self {
        self.options.gate = Arc::new(Gate::of(at_once));
        self
    }

    /// Lets all connections together keep so many descriptors while nobody asks over them; what is over that opens again.
    #[must_use]
    pub fn keeping(mut self, files: usize) -> Self {
        self.room = Arc::new(Room::of(files));
        self
    }

    /// Has them keep no more than so many from now on.
    pub fn keep(&self, files: usize) {
        self.room.shrink(files);
    }

    /// The most descriptors that one connection has kept so far.
    pub fn files(&self) -> usize {
        self.learned.files.load(Ordering::Relaxed).max(1)
    }

    /// Works on more hosts at the same time where they are far, at most on so many.
    #[must_use]
    pub fn adapting(mut self, most: Option<usize>) -> Self {
        self.adapts = most;
        self
    }

    /// Ends connections as soon as nothing more is known to be asked.
    pub fn end_soon(&mut self) {
        self.soon = true;
    }

    /// Also tells which key exchange, host key and cipher were agreed on, and by what it went.
    #[must_use]
    pub fn telling(mut self, wanted: bool) -> Self {
        self.telling = wanted;
        self
    }

    /// The round trip by which it goes, and how many hosts at the same time that makes; nothing where a person has chosen.
    fn fitting(&self) -> Option<(Duration, usize)> {
        let most = self.adapts?;
        let (trip, hosts) = pace::fitting(&locked(&self.learned.trips))?;
        Some((trip, hosts.min(most)))
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
        let (target, name, learned) = (target(host), host.name.clone(), Arc::clone(&self.learned));
        let open = move || {
            let noting = |prompt: &Arc<dyn Prompt>| {
                Arc::new(Noting { prompt: Arc::clone(prompt), answered: AtomicBool::default() })
            };
            let noting = options.prompt.as_ref().map(noting);
            let prompt = noting.clone().map(|noting| noting as Arc<dyn Prompt>);
            let transport = SshTransport::connect(&target, &Options { prompt, ..options.clone() })?;
            learned.take(&name, &transport);
            let answered = noting.is_some_and(|noting| noting.answered.load(Ordering::Relaxed));
            Ok(Opened { files: transport.files(), transport: Box::new(transport), answered })
        };
        Ok(Box::new(Resting::new(Box::new(open), Arc::clone(&self.room), self.soon)?))
    }

    fn at_once(&self, given: usize) -> usize {
        let hosts = self.fitting().map_or(given, |(_, hosts)| hosts.max(given));
        if hosts > given {
            self.options.gate.widen(hosts);
        }
        hosts
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = locked(&self.options.notes);
        let new = notes.iter_mut().filter(|(_, told)| !**told).map(|(text, told)| {
            *told = true;
            format!("warning: {text}")
        });
        let agreed = std::mem::take(&mut *locked(&self.learned.agreed));
        let agreed = agreed.into_iter().filter(|_| self.telling).map(|(what, hosts)| {
            let hosts: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
            format!("SSH: {what} with {}", hosts.join(", "))
        });
        let mut told = locked(&self.told);
        let pace = self.fitting().filter(|(trip, _)| self.telling && told.replace(*trip).is_none()).map(|(trip, hosts)| {
            let millis = trip.as_secs_f64() * 1000.0;
            format!("SSH: a round trip to the hosts takes {millis:.1} ms, so up to {hosts} of them are worked on at the same time")
        });
        new.chain(agreed).chain(pace).collect()
    }
}

/// What another thread left in a panic is whole all the same.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What `ssh -G` says of hosts: takes a target and which configuration is meant, gives the settings. Hosts of the same blocks are
//! asked about once in a run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::blocks::Blocks;
use super::settings::{Called, Settings};
use crate::host::once::Once;
use crate::host::process::{Conversation, Ended};
use crate::host::target::{Config, Target};
use crate::host::transport::TransportError;
use crate::host::wrap::words;

/// How long `ssh -G` may take; a `Match exec` in the person's configuration may run anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// What decides about the settings of a host: the configuration, its blocks, and what the inventory says.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    file: Option<PathBuf>,
    blocks: Vec<usize>,
    /// Options that each of its hosts has of its own.
    own: Vec<&'static str>,
    user: Option<String>,
    port: Option<u16>,
}

type Said = Result<Option<Settings>, TransportError>;

/// What was read and asked already in a run; shared by all its connections.
#[derive(Debug, Default)]
pub struct Asked {
    blocks: Once<Option<PathBuf>, Arc<Blocks>>,
    groups: Once<Group, (Called, Said)>,
    usual: OnceLock<Settings>,
}

/// What `ssh` would do for one host.
pub(super) struct Answer {
    /// The name that it was asked by.
    pub(super) called: String,
    /// Its settings; nothing where there is no `ssh`.
    pub(super) settings: Option<Settings>,
    /// What a person should know of that, each a sentence.
    pub(super) notes: Vec<String>,
}

impl Asked {
    /// Asks about `target`. A host goes by its name, as for a person who writes `ssh NAME`; one whose name has no block of its own
    /// goes by its address where there is a block for that.
    ///
    /// # Errors
    /// [`TransportError::Setup`] when `ssh` refuses its configuration, or hangs.
    pub(super) fn about(&self, target: &Target, config: &Config) -> Result<Answer, TransportError> {
        let file = match config {
            Config::None => {
                return Ok(Answer { called: target.host.clone(), settings: None, notes: Vec::new() });
            }
            Config::Default => None,
            Config::File(file) => Some(file.clone()),
        };
        let blocks = self.blocks.get(file.clone(), || Arc::new(Blocks::of(config)));
        let (by_name, address) = (blocks.chosen(&target.host), target.address.as_deref().unwrap_or(&target.host));
        let by_address = blocks.chosen_beside(address, &target.host);
        let called = if by_name.is_none() && by_address.is_some() { address } else { &target.host };
        let mut notes = Vec::new();
        if let (Some(name), Some(other)) = (by_name, by_address) {
            notes.push(format!(
                "the ssh configuration has a block for {address} at {other}, which does not hold: a host goes by its name where that \
                 has a block, as {} does at {name}",
                target.host
            ));
        }
        let alone = || ask(target, called, file.as_deref(), None);
        let settings = match blocks.said(called) {
            // What is connected to is what `Match host` compares.
            None => ask(target, called, file.as_deref(), target.address.as_deref())?,
            Some(said) => {
                let (blocks, mut own) = (said.blocks, said.own);
                // What the inventory says stands before all blocks.
                own.retain(|option, _| match *option {
                    "user" => target.user.is_none(),
                    "port" => target.port.is_none(),
                    _ => true,
                });
                let named = own.keys().copied().collect();
                let group =
                    Group { file: file.clone(), blocks, own: named, user: target.user.clone(), port: target.port };
                let host = Called { name: called.to_owned(), own };
                match self.groups.get(group, || (host.clone(), alone())) {
                    (first, said) if first == host => said?,
                    (first, said) => match said?.map(|settings| settings.for_another(&first, &host)) {
                        Some(None) => alone()?,
                        shared => shared.flatten(),
                    },
                }
            }
        };
        Ok(Answer { called: called.to_owned(), settings, notes })
    }

    /// What `ssh` does with an empty configuration.
    pub(super) fn usual(&self) -> &Settings {
        let none = Path::new("none");
        self.usual
            .get_or_init(|| ask(&Target::new("host"), "host", Some(none), None).ok().flatten().unwrap_or_default())
    }
}

/// The words of `ssh -G` about a target that is `called` so, and that is connected to at `to`; nothing when there is no `ssh`.
fn ask(target: &Target, called: &str, file: Option<&Path>, to: Option<&str>) -> Said {
    let mut command = Command::new("ssh");
    command.arg("-G");
    if let Some(file) = file {
        command.arg("-F").arg(file);
    }
    if let Some(user) = &target.user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = target.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(address) = to.filter(|address| *address != called) {
        command.arg("-o").arg(format!("HostName={address}"));
    }
    command.arg("--").arg(called);
    let setup = |words: String| TransportError::Setup(format!("`ssh -G {called}` failed: {words}"));
    let mut child = match Conversation::start(&mut command) {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(setup(e.to_string())),
    };
    match child.until(&[], true, Instant::now() + PATIENCE, |_| false) {
        Ok(Ended::Exit(0)) => Ok(Some(Settings::of(&String::from_utf8_lossy(&child.stdout)))),
        Ok(Ended::Exit(_)) => Err(setup(words(&child.stderr))),
        Ok(Ended::TooMuch) => Err(setup("it prints without end (a `Match exec`?)".to_owned())),
        Ok(_) => Err(setup(format!("no answer within {} s (a slow `Match exec`?)", PATIENCE.as_secs()))),
        Err(e) => Err(setup(e.to_string())),
    }
}

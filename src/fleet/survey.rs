//! What all hosts are: takes the site and a way to connect, gives open connections, what was observed, and who did not answer.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::secret::Materials;
use crate::fleet::event::Event;
use crate::fleet::run;
use crate::host::probe;
use crate::host::transport::{Transport, TransportError};
use crate::inventory::site::{Host, Site};
use crate::plan::plan::{self, Plan};
use crate::plan::state::{Desired, DesiredHost, Facts, Observed, ObservedFleet};
use crate::service;
use crate::service::render::Templates;

/// How a host is reached.
pub trait Connector: Sync {
    /// Opens a connection as root.
    ///
    /// # Errors
    /// [`TransportError`].
    fn connect(&self, host: &Host) -> Result<Box<dyn Transport>, TransportError>;
}

/// Open connections, by host.
pub type Sessions = BTreeMap<HostName, Box<dyn Transport>>;

/// All that was learned before anything is decided.
#[derive(Default)]
pub struct Survey {
    /// Hosts that answered.
    pub observed: ObservedFleet,
    /// Their connections.
    pub sessions: Sessions,
    /// Hosts that did not answer, and why.
    pub unreachable: BTreeMap<HostName, TransportError>,
    /// Hosts that cannot be worked on, and why.
    pub refused: BTreeMap<HostName, String>,
}

/// Connects and asks `hosts`, one connection and one exec each.
pub fn ask<'a>(
    hosts: impl IntoIterator<Item = &'a Host>,
    desired: &Desired,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Survey {
    let hosts: Vec<&Host> = hosts.into_iter().collect();
    let _ = events.send(Event::Observing { hosts: hosts.len() });
    let nothing = DesiredHost::default();
    let answers = run::each(hosts, parallel, |host| {
        let wanted = desired.get(&host.name).unwrap_or(&nothing);
        let answer = connector.connect(host).and_then(|mut transport| {
            let observed = observe(transport.as_mut(), wanted)?;
            Ok((transport, observed))
        });
        let error = answer.as_ref().err().map(ToString::to_string);
        let _ = events.send(Event::Observed { host: host.name.clone(), error });
        (host.name.clone(), answer)
    });
    let mut survey = Survey::default();
    for (name, answer) in answers {
        match answer {
            Ok((transport, observed)) => {
                if let Some(reason) = refusal(&observed) {
                    survey.refused.insert(name.clone(), reason);
                }
                survey.observed.insert(name.clone(), observed);
                survey.sessions.insert(name, transport);
            }
            Err(error) => {
                survey.unreachable.insert(name, error);
            }
        }
    }
    survey
}

/// One exec of the probe.
///
/// # Errors
/// What the transport says, or that the answer does not read.
pub fn observe(transport: &mut dyn Transport, desired: &DesiredHost) -> Result<Observed, TransportError> {
    let output = transport.run(&probe::script(), probe::request(desired).as_bytes())?;
    probe::parse(&output.stdout).map_err(|error| {
        let said: String =
            String::from_utf8_lossy(&output.stderr).chars().filter(|c| !c.is_control()).take(200).collect();
        TransportError::Setup(format!("{error}; the probe ended with {} and said: {said}", output.status))
    })
}

fn refusal(observed: &Observed) -> Option<String> {
    let rivals = &observed.firewall.rivals;
    observed.refusal.clone().or_else(|| (!rivals.is_empty()).then(|| rivals.join("; ")))
}

/// The survey with the decision made from it.
pub struct Prepared {
    /// What every host should be, with what was learned about it.
    pub desired: Desired,
    /// The connections and observations.
    pub survey: Survey,
    /// What is to be done.
    pub plan: Plan,
}

/// What services are given beside the host.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The infrastructure.
    pub site: &'a Site,
    /// Certificates, keys, passwords.
    pub materials: &'a Materials,
    /// Templates.
    pub templates: &'a Templates,
}

impl Sources<'_> {
    /// What the hosts should be, by what is known about them.
    ///
    /// # Errors
    /// Everything that cannot be rendered.
    pub fn desire(&self, facts: &BTreeMap<HostName, Facts>) -> Result<Desired, Vec<Diagnostic>> {
        service::desire(self.site, facts, self.materials, self.templates)
    }
}

/// Asks the hosts and plans. `guess` holds the facts of the last run: where they still hold, a host is asked once.
///
/// # Errors
/// Everything that cannot be rendered.
pub fn prepare<'a>(
    hosts: impl IntoIterator<Item = &'a Host>,
    sources: Sources<'_>,
    guess: &BTreeMap<HostName, Facts>,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Result<Prepared, Vec<Diagnostic>> {
    let guessed = sources.desire(guess)?;
    let mut survey = ask(hosts, &guessed, connector, parallel, events);
    let facts = survey.observed.iter().map(|(name, seen)| (name.clone(), seen.facts.clone())).collect();
    let desired = sources.desire(&facts)?;
    again(&mut survey, &guessed, &desired, parallel);
    survey.observed.retain(|name, _| !survey.refused.contains_key(name));
    let plan = plan::plan(&desired, &survey.observed);
    Ok(Prepared { desired, survey, plan })
}

/// Hosts that turned out to want other files than guessed are asked once more, over the same connection.
fn again(survey: &mut Survey, guessed: &Desired, desired: &Desired, parallel: usize) {
    let stale: Vec<HostName> = survey
        .observed
        .keys()
        .filter(|name| match (guessed.get(*name), desired.get(*name)) {
            (Some(a), Some(b)) => probe::request(a) != probe::request(b),
            _ => true,
        })
        .cloned()
        .collect();
    let work: Vec<_> = stale.into_iter().filter_map(|name| survey.sessions.remove_entry(&name)).collect();
    let answers = run::each(work, parallel, |(name, mut transport)| {
        let wanted = desired.get(&name).cloned().unwrap_or_default();
        let answer = observe(transport.as_mut(), &wanted);
        (name, transport, answer)
    });
    for (name, transport, answer) in answers {
        match answer {
            Ok(observed) => {
                survey.observed.insert(name.clone(), observed);
                survey.sessions.insert(name, transport);
            }
            Err(error) => {
                survey.observed.remove(&name);
                survey.unreachable.insert(name, error);
            }
        }
    }
}

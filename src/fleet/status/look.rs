//! One look at hosts: takes the services, what the hosts should be and what was read before, gives what was observed and who is away.
//! One exec a host, over a connection that may be kept for the next look.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use time::OffsetDateTime;

use super::Wanted;
use crate::base::net::HostName;
use crate::fleet::event::Event;
use crate::fleet::run;
use crate::fleet::survey::{Connector, Sessions, answer};
use crate::host::observe;
use crate::host::transport::{Transport, TransportError};
use crate::inventory::site::Host;
use crate::plan::state::{DesiredHost, Observed, ObservedFleet, Phase, UnitWanted};
use crate::service::Services;
use crate::service::status::Earlier;

/// What came of it.
#[derive(Debug, Default)]
pub struct Look {
    /// The hosts that answered.
    pub observed: ObservedFleet,
    /// Those that did not, and why: `cannot be reached: no route to host`.
    pub away: BTreeMap<HostName, String>,
    /// By how many seconds a host's clock is ahead of ours; 0 where it can be right, as it was read between question and answer.
    pub clocks: BTreeMap<HostName, i64>,
}

/// How it is looked.
pub struct Way<'a> {
    /// The services that ask.
    pub services: Services,
    /// How hosts are reached.
    pub connector: &'a dyn Connector,
    /// Hosts at the same time.
    pub parallel: usize,
    /// Whether connections are kept for another look; else each ends with its answer, so that a large fleet holds few at a time.
    pub keep: bool,
    /// Who is told of it.
    pub events: Sender<Event>,
}

impl Way<'_> {
    /// Asks `hosts`. A host without anything in `earlier` reads its counters twice.
    pub fn look(
        &self,
        hosts: Vec<&Host>,
        wanted: &BTreeMap<HostName, Wanted>,
        earlier: &Earlier,
        sessions: &mut Sessions,
    ) -> Look {
        let _ = self.events.send(Event::Observing { hosts: hosts.len() });
        let asked: Vec<_> = hosts.into_iter().map(|host| (host, sessions.remove(&host.name))).collect();
        let answers = run::each(asked, self.parallel, |(host, session)| {
            let twice = !earlier.contains_key(&host.name);
            let asked = OffsetDateTime::now_utc().unix_timestamp();
            let answer = self.host(host, session, wanted.get(&host.name), twice);
            let answered = OffsetDateTime::now_utc().unix_timestamp();
            let error = answer.as_ref().err().map(ToString::to_string);
            let _ = self.events.send(Event::Observed { host: host.name.clone(), error });
            let ahead = |clock: i64| (clock - answered).max(0) + (clock - asked).min(0);
            let answer = answer.map(|(session, seen)| (self.keep.then_some(session), ahead(seen.clock), seen));
            (host.name.clone(), answer)
        });
        let mut look = Look::default();
        for (name, answer) in answers {
            match answer {
                Ok((session, ahead, observed)) => {
                    look.clocks.insert(name.clone(), ahead);
                    sessions.extend(session.map(|session| (name.clone(), session)));
                    look.observed.insert(name, observed);
                }
                Err(error) => drop(look.away.insert(name, format!("cannot be reached: {error}"))),
            }
        }
        look
    }

    /// By the connection of before where it still holds.
    fn host(
        &self,
        host: &Host,
        session: Option<Box<dyn Transport>>,
        wanted: Option<&Wanted>,
        twice: bool,
    ) -> Result<(Box<dyn Transport>, Observed), TransportError> {
        if let Some(mut session) = session
            && let Ok(observed) = self.ask(session.as_mut(), wanted, twice)
        {
            return Ok((session, observed));
        }
        let mut session = self.connector.connect(host)?;
        let observed = self.ask(session.as_mut(), wanted, twice)?;
        Ok((session, observed))
    }

    fn ask(
        &self,
        transport: &mut dyn Transport,
        wanted: Option<&Wanted>,
        twice: bool,
    ) -> Result<Observed, TransportError> {
        // Of the files the manifest of the host tells.
        let units = wanted.into_iter().flat_map(|wanted| &wanted.units);
        let units = units.map(|unit| (unit.clone(), UnitWanted { phase: Phase::Verify }));
        let desired = DesiredHost { units: units.collect(), ..DesiredHost::default() };
        let request = observe::request(self.services, &desired);
        let script = observe::script_with_gauges(self.services, &request, twice);
        answer(self.services, transport, &script)
    }
}

//! Whether hosts lead where they should by now: takes connections and what is asked of each, gives who is not so far, in the services'
//! words, when all are, when the time is over, or when the person stops it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::net::HostName;
use crate::fleet::drain::{self, Left, Patience};
use crate::fleet::run;
use crate::fleet::survey::{Connector, Sessions};
use crate::host::drain::ask;
use crate::inventory::site::Site;
use crate::service::away::Questions;

/// Connections to those who are asked.
pub struct Watch {
    sessions: Sessions,
    /// Those that cannot be asked, and why.
    pub away: BTreeMap<HostName, String>,
}

impl Watch {
    /// Connects to `hosts`.
    pub fn open(site: &Site, hosts: &BTreeSet<HostName>, connector: &dyn Connector, parallel: usize) -> Self {
        let those = hosts.iter().filter_map(|name| site.hosts.get(name)).collect();
        let answers = run::each(those, parallel, |host| (host.name.clone(), connector.connect(host)));
        let (mut sessions, mut away) = (Sessions::new(), BTreeMap::new());
        for (host, answer) in answers {
            match answer {
                Ok(mut session) => {
                    // All of them are open before the first is asked.
                    session.rest();
                    sessions.insert(host, session);
                }
                Err(error) => drop(away.insert(host, error.to_string())),
            }
        }
        Self { sessions, away }
    }

    /// Asks those who are there until none of them has anything left to say. `why` ends the sentence that tells who is waited for.
    pub fn wait(&mut self, questions: &Questions, patience: Patience<'_>, why: &str) -> Left {
        let asked = self.sessions.iter_mut().filter_map(|(host, session)| Some((host, session, questions.get(host)?)));
        drain::wait(
            asked.collect(),
            patience,
            why,
            |(host, session, questions)| {
                let left = ask(session.as_mut(), questions);
                ((*host).clone(), left.unwrap_or_else(|error| vec![format!("it cannot be asked: {error}")]))
            },
            Left::is_empty,
        )
    }
}

//! Hosts that infra leaves: takes the site with these hosts alone, asks them, and plans that nothing of infra's is left on them. No
//! material is made or read for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;

use crate::base::net::HostName;
use crate::fleet::event::Event;
use crate::fleet::moved::Others;
use crate::fleet::survey::{self, Beside, Connector, Prepared};
use crate::inventory::site::Site;
use crate::plan::decision::{Decided, Memory};
use crate::plan::plan;
use crate::plan::state::{Desired, Observed};
use crate::service::Services;
use crate::service::drained::{self, Mark};
use crate::service::farewell::{self, Rules};

/// Asks all hosts of `site`, and plans.
pub fn prepare(
    (site, whole): (&Site, &Site),
    services: Services,
    (connector, parallel): (&dyn Connector, usize),
    (rules, mark): (Rules, Option<&Mark>),
    events: &Sender<Event>,
) -> Prepared {
    let mut survey = survey::ask(services, site.hosts.values(), &Desired::new(), connector, parallel, events);
    // What keeps others from a host that was retired keeps nobody from leaving it.
    let retired = |host: &HostName| survey.observed.get(host).is_some_and(|seen| drained::retired(seen).is_some());
    survey.refused = std::mem::take(&mut survey.refused).into_iter().filter(|(host, _)| !retired(host)).collect();
    for (host, seen) in &survey.observed {
        if let Some(owner) = seen.owner.as_ref().filter(|owner| **owner != site.name) {
            let why = format!("it belongs to the infrastructure `{owner}`, and this inventory is `{}`", site.name);
            survey.refused.entry(host.clone()).or_insert(why);
        }
    }
    survey.observed.retain(|host, _| !survey.refused.contains_key(host));
    let left = |(name, seen): (&HostName, &Observed)| {
        Some((name.clone(), farewell::desired(whole, site.hosts.get(name)?, seen, rules, mark)))
    };
    let desired: Desired = survey.observed.iter().filter_map(left).collect();
    let plan = plan::plan(&desired, &survey.observed);
    Prepared {
        desired,
        survey,
        decided: Decided::default(),
        decisions: Vec::new(),
        beside: Beside::default(),
        others: Others::default(),
        undecided: Vec::new(),
        plan,
        memory: Memory::default(),
        news: BTreeMap::new(),
        confirmed: BTreeSet::new(),
        services,
        whole: true,
    }
}

//! Who has moved without being a part of a run: what is known of hosts that are not selected, and for which of them a plan keeps something
//! open.
//!
//! What one limited run after another has moved is closed by this without a run on all hosts: what a host is tells what was done there,
//! so nothing has to be remembered.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::base::net::HostName;
use crate::host::transport::Transport;
use crate::plan::behind::Behind;
use crate::plan::narrow::{self, Unclosed};
use crate::plan::plan::{self, Plan};
use crate::plan::state::{DesiredHost, Observed};

/// Hosts that have no part in a run.
#[derive(Default)]
pub struct Others {
    /// Those at the new end, with what each should be and has to close itself.
    pub moved: Unclosed,
    /// Those that do not answer.
    pub away: BTreeSet<HostName>,
    /// Connections to those at the new end.
    pub sessions: BTreeMap<HostName, Box<dyn Transport>>,
}

impl Others {
    /// What is known of `behind` by now.
    pub fn settle(&self, behind: &mut BTreeMap<HostName, Behind>) {
        behind.retain(|host, _| !self.moved.contains_key(host));
        for (host, why) in behind {
            if self.away.contains(host) {
                *why = Behind::Away;
            }
        }
    }
}

/// The hosts that are not selected and for which a plan keeps something open, or makes half a change.
pub fn wanted(plan: &Plan) -> BTreeSet<HostName> {
    let mut known = HashSet::new();
    let kept = plan.hosts.values().map(|host| &host.kept_for).filter(|kept| known.insert(Arc::as_ptr(kept)));
    let kept = kept.flat_map(|kept| kept.iter());
    let kept = kept.filter(|(_, why)| **why == Behind::LeftOut).map(|(host, _)| host);
    let halves = plan.halves.get(&Behind::LeftOut).into_iter().flat_map(|half| &half.others);
    kept.chain(halves).cloned().collect()
}

/// Whether a host is at the new end of everything.
pub fn is_moved(wanted: &DesiredHost, seen: &Observed) -> bool {
    narrow::has_moved(&plan::host(wanted, seen))
}

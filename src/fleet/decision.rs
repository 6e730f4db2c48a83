//! A decision over several hosts, held against them once more: takes who decides, what was decided and shown, and what the hosts are
//! under their locks; says whether it would still be decided so. Two controllers do not carry out decisions that contradict.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::site::Site;
use crate::plan::decision::{Decided, Memory};
use crate::plan::state::ObservedFleet;

/// Decides over all hosts that were seen. Pure: it is asked again, and what it says then is compared. What changes by itself, such as
/// a lag, may stand in titles and notes, and in nothing else.
pub type Decide = dyn Fn(&Site, &ObservedFleet, &Memory) -> Result<Decided, Diagnostic> + Send + Sync;

/// A decision that a run carries out.
#[derive(Clone)]
pub struct Decision {
    /// Which service's it is.
    pub service: &'static str,
    /// The hosts that it was made from: they are held still while it is carried out, also those on which nothing is done.
    pub hosts: BTreeSet<HostName>,
    /// Who decides.
    pub decide: Arc<Decide>,
    /// What was decided, for all hosts.
    pub shown: Decided,
}

impl Decision {
    /// Why it is not to be carried out, if so: by what the hosts are now, something else would be decided.
    pub fn moved(&self, site: &Site, observed: &ObservedFleet, memory: &Memory) -> Option<String> {
        let service = self.service;
        let now = match (self.decide)(site, observed, memory) {
            Ok(now) => now.deeds(),
            Err(why) => return Some(format!("`{service}` cannot decide any more what was shown: {}", why.message)),
        };
        let shown = self.shown.deeds();
        if now == shown {
            return None;
        }
        let hosts: BTreeSet<&HostName> = shown.hosts.keys().chain(now.hosts.keys()).collect();
        let other = hosts.into_iter().filter(|host| shown.hosts.get(*host) != now.hosts.get(*host));
        let other: Vec<&str> = other.map(HostName::as_str).collect();
        let about = if other.is_empty() { String::new() } else { format!(" about {}", other.join(", ")) };
        Some(format!(
            "`{service}` would decide otherwise{about} now than was shown, as something has changed since; nothing was done"
        ))
    }
}

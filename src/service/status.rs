//! What a service adds to `infra status`: takes what was observed of the fleet, gives what is told of it. A question that a plan does
//! not need is a [`Gauge`], which `infra status` alone asks, in the same exec as all others.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::net::HostName;
use crate::inventory::site::Site;
use crate::plan::decision::Memory;
use crate::plan::said::Said;
use crate::plan::state::{Observed, ObservedFleet, Part};
use crate::service::Services;

/// What a service asks of every host for `infra status` alone: counters, what a daemon has loaded.
#[derive(Debug, Clone, Copy)]
pub struct Gauge {
    /// Lines of sh that only look, as those of an [`Inquiry`](super::inquiry::Inquiry). `$twice` is `yes` where counters are to be
    /// read twice, a second apart, as nothing is remembered of an earlier read that a rate could be taken from; else it is `no`.
    pub script: fn() -> String,
    /// Puts the answer into what was observed, in which all else stands already, as [`Part::passing`]. Pure and total. The part is
    /// remembered until the next look.
    pub read: fn(&str, &mut Observed),
}

/// What gauges read at an earlier look, by host and service.
pub type Earlier = BTreeMap<HostName, BTreeMap<String, Value>>;

/// What a service may look at while it tells of the fleet.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The whole infrastructure.
    pub site: &'a Site,
    /// The hosts that answered.
    pub observed: &'a ObservedFleet,
    /// Those that were asked and cannot be worked on, and why. A host that is in neither was not asked.
    pub away: &'a BTreeMap<HostName, String>,
    /// What gauges read before.
    pub earlier: &'a Earlier,
    /// What the controller remembers.
    pub memory: &'a Memory,
    /// The controller's clock, seconds since 1970.
    pub now: i64,
}

impl Seen<'_> {
    /// What `part` was at an earlier look.
    pub fn before<T: Serialize + DeserializeOwned>(&self, host: &HostName, part: &Part<T>) -> Option<T> {
        part.among(self.earlier.get(host)?)
    }

    /// Whether all of these were asked.
    pub fn asked<'h>(&self, mut hosts: impl Iterator<Item = &'h HostName>) -> bool {
        hosts.all(|host| self.observed.contains_key(host) || self.away.contains_key(host))
    }
}

impl Services {
    /// What they ask for `infra status` alone, by the name of the service.
    pub fn gauges(self) -> impl Iterator<Item = (&'static str, Gauge)> {
        self.0.iter().filter_map(|service| Some((service.name(), service.gauge()?)))
    }

    /// What gauges have read on a host, to be remembered.
    pub fn readings(self, observed: &Observed) -> BTreeMap<String, Value> {
        let names: BTreeSet<&str> = self.gauges().map(|(name, _)| name).collect();
        let those = observed.passing.iter().filter(|(name, _)| names.contains(name.as_str()));
        those.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// What all of them tell, in their order.
    pub fn tell(self, seen: &Seen<'_>) -> Said {
        let mut said = Said::default();
        for service in self.0 {
            said.join(service.status(seen));
        }
        said
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::state::Facts;

    /// The controller's clock.
    pub(crate) const NOW: i64 = 1_795_435_200;

    /// What a service tells of a fleet of bare hosts of which these gave `answers` to its gauge, and nothing is known of before.
    pub(crate) fn told(inventory: &str, gauge: Gauge, answers: &[(&str, &str)], tell: fn(&Seen<'_>) -> Said) -> Said {
        let site = load_text(inventory, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        let observed = answers.iter().map(|(host, answer)| {
            let mut observed = Observed::bare(Facts::of_release("debian", "12"));
            (gauge.read)(answer, &mut observed);
            (host.parse().unwrap(), observed)
        });
        let observed: ObservedFleet = observed.collect();
        let (away, earlier, memory) = (BTreeMap::new(), Earlier::new(), Memory::at(NOW));
        tell(&Seen { site: &site, observed: &observed, away: &away, earlier: &earlier, memory: &memory, now: NOW })
    }
}

//! The fleet as it is, for `infra status`: takes what the hosts answered, what services tell of it and what the state knows of
//! certificates, gives each host and site with all that is wrong. Pure; [`look`] asks and [`remembered`] keeps.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::material::CertificateId;
use crate::base::net::{DnsName, HostName};
use crate::pki::known::{Known, Overview};
use crate::plan::said::{Figure, Finding, Passes, Said};
use crate::plan::state::Access;
use crate::service::Services;
use crate::service::status::Seen;

mod certificates;
mod host;
pub mod look;
pub mod remembered;
mod sites;
pub mod wanted;

pub use host::{HostView, UnitView};
pub use sites::SiteView;

/// What a host should be, as far as its status depends on it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Units that should run.
    pub units: BTreeSet<String>,
    /// Owner, group and mode of files.
    pub access: BTreeMap<String, Access>,
    /// Certificates that stand in its files.
    pub certificates: BTreeSet<CertificateId>,
}

/// A certificate, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CertificateView {
    /// The host that has it.
    pub host: HostName,
    /// The site that it is for; null: it is for other hosts.
    pub site: Option<DnsName>,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// When it was looked, seconds since 1970.
    pub now: i64,
    /// By name.
    pub hosts: BTreeMap<HostName, HostView>,
    /// By name.
    pub sites: BTreeMap<DnsName, SiteView>,
    /// All that is wrong, by host; what is not minor first.
    pub findings: Vec<Finding>,
    /// By host and site.
    pub certificates: Vec<CertificateView>,
    /// What passes between tiers.
    pub passes: Vec<Passes>,
    /// Figures of services.
    pub figures: Vec<Figure>,
}

impl View {
    /// Whether a host cannot be worked on.
    pub fn is_any_away(&self) -> bool {
        self.hosts.values().any(|host| host.away.is_some())
    }

    /// Whether all is as it should be.
    pub fn is_well(&self) -> bool {
        !self.is_any_away() && self.findings.iter().all(|finding| finding.minor)
    }
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The infrastructure, the hosts as they were seen, and what was read before.
    pub seen: Seen<'a>,
    /// What the hosts should be.
    pub wanted: &'a BTreeMap<HostName, Wanted>,
    /// What the state knows of certificates.
    pub overview: &'a Overview,
    /// By how many seconds the hosts' clocks are ahead of ours.
    pub clocks: &'a BTreeMap<HostName, i64>,
}

/// Brings all of it together.
pub fn judge(services: Services, facts: Facts<'_>) -> View {
    let Facts { seen, wanted, overview, clocks } = facts;
    let Said { mut findings, mut words, mut deliveries, traffic, certificates: shown, passes, figures } =
        services.tell(&seen);
    let known: BTreeMap<&CertificateId, &Known> =
        overview.certificates.iter().map(|known| (&known.id, known)).collect();
    let nothing = Wanted::default();
    let mut hosts = BTreeMap::new();
    for (name, host) in &seen.site.hosts {
        let wanted = wanted.get(name).unwrap_or(&nothing);
        let mut view = match (seen.observed.get(name), seen.away.get(name)) {
            (Some(observed), _) => {
                let ahead = clocks.get(name).copied().unwrap_or(0);
                HostView::of(host, (observed, ahead), wanted, &mut findings)
            }
            (None, Some(why)) => HostView::away(host, why),
            (None, None) => continue,
        };
        view.words = words.remove(name).unwrap_or_default();
        view.deliveries = deliveries.remove(name).unwrap_or_default();
        hosts.insert(name.clone(), view);
    }
    let certificates = certificates::judge(&seen, wanted, &known, &shown, &mut findings);
    for one in &certificates {
        if let Some(host) = hosts.get_mut(&one.host) {
            host.certificates_until = host.certificates_until.into_iter().chain([one.not_after]).min();
        }
    }
    let sites = sites::judge(seen.site, &traffic, &certificates, &mut findings);
    findings.sort_by(|a, b| (a.minor, &a.host, &a.what).cmp(&(b.minor, &b.host, &b.what)));
    for finding in &findings {
        if let Some(host) = finding.host.as_ref().and_then(|name| hosts.get_mut(name)) {
            if finding.minor { host.notes += 1 } else { host.troubles += 1 }
        }
    }
    View { now: seen.now, hosts, sites, findings, certificates, passes, figures }
}

/// The days until `end`, rounded down.
pub fn days(end: i64, now: i64) -> i64 {
    (end - now).div_euclid(86_400)
}

#[cfg(test)]
pub(crate) mod tests;

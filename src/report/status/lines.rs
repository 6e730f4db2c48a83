//! The status for programs: takes the [`View`], gives its lines of [`Line`](crate::report::line::Line): a host, a site, a finding, then
//! the whole.

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::HostName;
use crate::fleet::status::{CertificateView, HostView, View};
use crate::inventory::site::Site;

/// A host as it is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostLine<'a> {
    #[serde(flatten)]
    view: &'a HostView,
    /// Whether it answers, and nothing is wrong with it.
    good: bool,
    /// Its certificates.
    certificates: Vec<&'a CertificateView>,
}

impl<'a> HostLine<'a> {
    /// Of one host of `view`.
    pub fn of(host: &'a HostView, view: &'a View) -> Self {
        let certificates = view.certificates.iter().filter(|one| one.host == host.host).collect();
        Self { view: host, good: host.away.is_none() && host.troubles == 0, certificates }
    }
}

/// The whole.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StatusLine<'a> {
    /// The inventory's name.
    name: &'a HostName,
    /// When it was looked, seconds since 1970.
    now: i64,
    /// Hosts that were looked at.
    hosts: usize,
    /// Those that cannot be worked on.
    away: usize,
    /// Those with something wrong.
    wrong: usize,
    /// Findings that are not minor.
    findings: usize,
    /// Requests per second of all sites; null where no host could tell.
    per_second: Option<f64>,
    /// The exit code.
    exit: u8,
}

impl<'a> StatusLine<'a> {
    /// Of the whole `view`.
    pub fn of(site: &'a Site, view: &View, exit: u8) -> Self {
        let rates: Vec<f64> = view.sites.values().filter_map(|site| site.per_second).collect();
        Self {
            name: &site.name,
            now: view.now,
            hosts: view.hosts.len(),
            away: view.hosts.values().filter(|host| host.away.is_some()).count(),
            wrong: view.hosts.values().filter(|host| host.troubles > 0).count(),
            findings: view.findings.iter().filter(|finding| !finding.minor).count(),
            per_second: (!rates.is_empty()).then(|| rates.iter().sum()),
            exit,
        }
    }
}

//! Sites in the status: takes what each load balancer has counted, gives requests per second by status class and the share of errors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::CertificateView;
use crate::base::net::{DnsName, HostName};
use crate::inventory::site::Site;
use crate::plan::said::{Classes, Finding, Lately, Traffic};

/// From this share of errors on, and from so many answers on, that is told: one error of two answers says nothing.
const ERRORS: (f64, u64) = (0.05, 20);

/// What one host has counted of a site.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ShareView {
    /// The host.
    pub host: HostName,
    /// Requests per second.
    pub per_second: f64,
    /// Over so many seconds.
    pub seconds: f64,
    /// Requests in that time.
    pub requests: u64,
    /// Answers in that time by the class of their status, 1xx to 5xx.
    pub answers: Classes,
    /// All requests since the host's counter began.
    pub total: u64,
    /// All answers since then.
    pub total_answers: Classes,
}

/// A site as it is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SiteView {
    /// Its name.
    #[schemars(with = "String")]
    pub site: DnsName,
    /// Requests per second at all hosts together; null where no host could tell.
    pub per_second: Option<f64>,
    /// The same of answers by the class of their status, 1xx to 5xx.
    pub classes: [f64; 5],
    /// The share of 5xx among the answers, 0 to 1; null where there was no answer.
    pub errors: Option<f64>,
    /// When the first of its certificates ends, seconds since 1970.
    pub certificate_until: Option<i64>,
    /// What each host has counted.
    pub hosts: Vec<ShareView>,
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn per_second(count: u64, milliseconds: u64) -> f64 {
    count as f64 * 1000.0 / milliseconds.max(1) as f64
}

/// The share of `errors` among `all`, where there are any.
#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn share(errors: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| errors as f64 / all as f64)
}

fn view(traffic: &Traffic) -> ShareView {
    // Where there was no time between two reads, nothing was counted in it.
    let lately = traffic.lately.unwrap_or(Lately { milliseconds: 0, requests: 0, answers: [0; 5] });
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let seconds = lately.milliseconds as f64 / 1000.0;
    ShareView {
        host: traffic.host.clone(),
        per_second: per_second(lately.requests, lately.milliseconds),
        seconds,
        requests: lately.requests,
        answers: lately.answers,
        total: traffic.requests,
        total_answers: traffic.answers,
    }
}

/// All sites of which a host has counted something, or has a certificate.
pub(super) fn judge(
    site: &Site,
    traffic: &[Traffic],
    certificates: &[CertificateView],
    findings: &mut Vec<Finding>,
) -> BTreeMap<DnsName, SiteView> {
    let mut counted: BTreeMap<&DnsName, Vec<&Traffic>> = BTreeMap::new();
    for one in traffic {
        counted.entry(&one.site).or_default().push(one);
    }
    let mut until: BTreeMap<&DnsName, i64> = BTreeMap::new();
    for one in certificates {
        if let Some(site) = &one.site {
            let end = until.entry(site).or_insert(one.not_after);
            *end = (*end).min(one.not_after);
        }
    }
    let mut sites = BTreeMap::new();
    for name in site.sites.keys() {
        let traffic = counted.remove(name).unwrap_or_default();
        let lately: Vec<Lately> = traffic.iter().filter_map(|one| one.lately).collect();
        let sum = |of: fn(&Lately) -> u64| lately.iter().map(|one| per_second(of(one), one.milliseconds)).sum::<f64>();
        let count = |class: usize| lately.iter().filter_map(|one| one.answers.get(class)).sum::<u64>();
        let (errors, all) = (count(4), (0..5).map(count).sum::<u64>());
        let errors = share(errors, all);
        if let Some(errors) = errors.filter(|errors| *errors >= ERRORS.0 && all >= ERRORS.1) {
            findings.push(Finding {
                host: None,
                what: format!("{name}: {:.0} % of its last {all} answers were errors (5xx)", errors * 100.0),
                help: "the logs of the hosts behind it say why; `infra status` names those that are down".to_owned(),
                minor: false,
            });
        }
        let view = SiteView {
            site: name.clone(),
            per_second: (!lately.is_empty()).then(|| sum(|one| one.requests)),
            classes: [
                sum(|one| one.answers[0]),
                sum(|one| one.answers[1]),
                sum(|one| one.answers[2]),
                sum(|one| one.answers[3]),
                sum(|one| one.answers[4]),
            ],
            errors,
            certificate_until: until.get(name).copied(),
            hosts: traffic.into_iter().map(view).collect(),
        };
        sites.insert(name.clone(), view);
    }
    sites
}

//! The look before orders: takes what is due and the connections, gives what stands in the way, and the sites whose orders are
//! not begun. The CA is not asked for anything, and nothing of it counts as its failure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use time::OffsetDateTime;

use crate::fleet::event::StepFate;
use crate::fleet::readiness;
use crate::fleet::survey::{Away, Prepared};
use crate::inventory::site::{Site, WebSite};
use crate::pki::dns_check::{self, Finding, Identities, Lookups, Weight};
use crate::pki::public_store::PublicStore;
use crate::pki::{Error, fulfil};
use crate::service::certificates::schedule::{self, Decision};
use crate::service::certificates::wanted::{Source, Wanted};

/// An order that would be begun now.
struct Due<'a> {
    wanted: &'a Wanted,
    source: &'a Source,
    /// Our account there, where it is known.
    account: Option<String>,
    /// Its names and addresses as `Host` says them.
    hosts: Vec<String>,
}

/// What was seen before orders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// What stops nothing, each once.
    pub warnings: Vec<Finding>,
    /// What stops orders: sites with the same once.
    pub refusals: Vec<(Vec<String>, Vec<Finding>)>,
    /// The sites whose orders are not begun, and how that counts.
    pub fates: BTreeMap<String, StepFate>,
}

/// Looks at all that a CA would meet if `wanted` were ordered now, those of `force` in any case.
///
/// # Errors
/// [`Error`] of the store.
pub fn look(
    site: &Site,
    prepared: &mut Prepared,
    away: &Away,
    (wanted, force): (&[Wanted], &BTreeSet<String>),
    parallel: usize,
    stop: &AtomicBool,
) -> Result<Looked, Error> {
    let due = due(site, wanted, force)?;
    let mut looked = Looked::default();
    if due.is_empty() {
        return Ok(looked);
    }
    let proved: Vec<String> = due.iter().filter(|d| !d.wanted.by_dns()).flat_map(|d| d.hosts.clone()).collect();
    let look = readiness::look(prepared, &proved, parallel);
    let mut asked: BTreeMap<String, bool> = BTreeMap::new();
    for one in &due {
        let leads = site.certificates.check_dns && !one.wanted.by_dns();
        asked.extend(one.wanted.names.iter().map(|name| (name.clone(), leads)));
    }
    let answers = dns_check::ask(&asked);
    let mut identities = Identities::default();
    let mut groups: BTreeMap<Vec<Finding>, Vec<String>> = BTreeMap::new();
    for one in &due {
        let absent = absent(site, away, one, &answers);
        let mut findings = said_by_hosts(site, away, one, &look);
        findings.extend(said_by_name_servers(site, one, &answers, identities.of(one.source, stop)));
        let stops = |findings: &[Finding]| findings.iter().any(|f| f.weight == Weight::Refusal);
        let only_away = !stops(&findings);
        let (refusals, warnings): (Vec<_>, Vec<_>) =
            absent.into_iter().chain(findings).partition(|finding| finding.weight == Weight::Refusal);
        for warning in warnings {
            if !looked.warnings.contains(&warning) {
                looked.warnings.push(warning);
            }
        }
        if !refusals.is_empty() {
            let why = refusals.iter().map(|finding| finding.what.clone()).collect();
            looked.fates.insert(one.wanted.site.clone(), StepFate::Refused { why, away: only_away });
            groups.entry(refusals).or_default().push(one.wanted.site.clone());
        }
    }
    looked.refusals = groups.into_iter().map(|(findings, sites)| (sites, findings)).collect();
    Ok(looked)
}

/// The orders that would be begun, each from whom.
fn due<'a>(site: &Site, wanted: &'a [Wanted], force: &BTreeSet<String>) -> Result<Vec<Due<'a>>, Error> {
    let store = PublicStore::open(&site.state)?;
    let now = OffsetDateTime::now_utc();
    let mut due = Vec::new();
    for wanted in wanted {
        let decide = if force.contains(&wanted.site) { schedule::forced } else { schedule::decide };
        let Decision::Order { from, .. } = decide(wanted, &fulfil::past(&store, wanted, now)?, now.unix_timestamp())
        else {
            continue;
        };
        let Some(source) = wanted.sources.get(from) else { continue };
        let account = store.account(&source.directory)?.map(|account| account.url);
        let web = site.sites.values().find(|web| web.name.as_str() == wanted.site);
        let hosts = web.into_iter().flat_map(WebSite::hosts).collect();
        due.push(Due { wanted, source, account, hosts });
    }
    Ok(due)
}

/// A load balancer that is away stops what a CA might ask it for: all of http-01, unless name servers say that no name leads
/// to it any more.
fn absent(site: &Site, away: &Away, one: &Due<'_>, answers: &Lookups) -> Vec<Finding> {
    if one.wanted.by_dns() {
        return Vec::new();
    }
    let edge = dns_check::edge(site);
    let each = away.iter().map(|(host, why)| {
        if dns_check::lead_past(&one.wanted.names, answers, &edge, host) {
            return Finding::warning(
                format!("{host} {why}"),
                format!("no name of {} leads to it, so the order goes on without it", one.wanted.site),
            );
        }
        Finding::refusal(
            format!("{host} {why}, and a CA may ask it for {}", one.wanted.site),
            "run this again when it answers, or take its addresses out of DNS",
        )
    });
    each.collect()
}

fn said_by_hosts(site: &Site, away: &Away, one: &Due<'_>, look: &readiness::Look) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (host, seen) in look.iter().filter(|(host, _)| !away.contains_key(*host)) {
        findings.extend(readiness::judge(host, seen, &one.hosts));
        if !one.wanted.by_dns() {
            findings.extend(readiness::firewall(site, host));
        }
    }
    findings
}

fn said_by_name_servers(
    site: &Site,
    one: &Due<'_>,
    answers: &Lookups,
    identities: Result<&[String], &str>,
) -> Vec<Finding> {
    let (edge, check_dns) = (dns_check::edge(site), site.certificates.check_dns);
    dns_check::judge(one.wanted, one.source, (answers, &edge), identities, one.account.as_deref(), check_dns)
}

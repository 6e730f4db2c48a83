//! The look before orders: takes what is due and the connections, tells what stands in the way, gives the sites whose orders
//! are not begun. The CA is not asked for anything, and nothing of it counts as its failure.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::Stop;
use super::order::{Away, Ended, Work, store_error};
use crate::fleet::preflight;
use crate::fleet::survey::Prepared;
use crate::inventory::site::WebSite;
use crate::pki::fulfil;
use crate::pki::preflight::{self as names, Answers, Finding, Identities, Weight};
use crate::pki::renew::Decision;
use crate::pki::vault::Vault;
use crate::pki::wanted::{Source, Wanted};

/// An order that would be begun now.
struct Due<'a> {
    wanted: &'a Wanted,
    source: &'a Source,
    /// Our account there, where it is known.
    account: Option<String>,
    /// Its names and addresses as `Host` says them.
    hosts: Vec<String>,
}

/// Which of `wanted` are not ordered, and how that counts; why was told.
pub(super) fn refused(
    work: &Work<'_>,
    prepared: &mut Prepared,
    away: &Away,
    wanted: &[Wanted],
    force: &BTreeSet<String>,
) -> Result<BTreeMap<String, Ended>, Stop> {
    let due = due(work, wanted, force)?;
    if due.is_empty() {
        return Ok(BTreeMap::new());
    }
    let parallel = work.global.parallel.get();
    let proved: Vec<String> = due.iter().filter(|d| !d.wanted.by_dns()).flat_map(|d| d.hosts.clone()).collect();
    let look = preflight::look(prepared, &proved, parallel);
    let mut asked: BTreeMap<String, bool> = BTreeMap::new();
    for one in &due {
        let leads = work.site.certificates.check_dns && !one.wanted.by_dns();
        asked.extend(one.wanted.names.iter().map(|name| (name.clone(), leads)));
    }
    let answers = names::ask(&asked);
    let mut identities = Identities::default();
    let mut told = BTreeSet::new();
    let mut groups: BTreeMap<Vec<Finding>, Vec<&str>> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for one in &due {
        let absent = absent(work, away, one, &answers);
        let mut findings = said_by_hosts(work, away, one, &look);
        findings.extend(said_by_name_servers(work, one, &answers, &mut identities));
        let stops = |findings: &[Finding]| findings.iter().any(|f| f.weight == Weight::Refusal);
        if stops(&findings) {
            refused.insert(one.wanted.site.clone(), Ended::Failed);
        } else if stops(&absent) {
            refused.insert(one.wanted.site.clone(), Ended::Unreachable);
        }
        let (refusals, warnings): (Vec<_>, Vec<_>) =
            absent.into_iter().chain(findings).partition(|finding| finding.weight == Weight::Refusal);
        for warning in warnings {
            if told.insert(warning.clone()) {
                work.reporter.note(&format!("warning: {}; {}", warning.what, warning.todo));
            }
        }
        if !refusals.is_empty() {
            groups.entry(refusals).or_default().push(&one.wanted.site);
        }
    }
    for (findings, sites) in groups {
        let mut todo: Vec<String> = Vec::new();
        for finding in &findings {
            if !todo.contains(&finding.todo) {
                todo.push(finding.todo.clone());
            }
        }
        let what: Vec<String> = findings.into_iter().map(|finding| finding.what).collect();
        let text = format!("no certificate was ordered for {}; the CA was not asked", sites.join(", "));
        work.reporter.error(&text, &what, &todo)?;
    }
    Ok(refused)
}

/// The orders that would be begun, each from whom.
fn due<'a>(work: &Work<'_>, wanted: &'a [Wanted], force: &BTreeSet<String>) -> Result<Vec<Due<'a>>, Stop> {
    let vault = Vault::open(&work.site.state).map_err(|e| store_error(&e))?;
    let now = OffsetDateTime::now_utc();
    let mut due = Vec::new();
    for wanted in wanted {
        // One that is forced waits all the same for the time that an earlier failure set.
        let waits = vault.record(&wanted.site, 0).map_err(|e| store_error(&e))?.wait_until;
        let waits = waits.is_some_and(|until| now.unix_timestamp() < until);
        let from = match fulfil::decide(&vault, wanted, now).map_err(|e| store_error(&e))? {
            Decision::Order { from, .. } => from,
            Decision::Good { .. } if force.contains(&wanted.site) && !waits => 0,
            Decision::Good { .. } | Decision::Deferred { .. } => continue,
        };
        let Some(source) = wanted.sources.get(from) else { continue };
        let account = vault.account(&source.directory).map_err(|e| store_error(&e))?.map(|account| account.url);
        let web = work.site.sites.values().find(|web| web.name.as_str() == wanted.site);
        let hosts = web.into_iter().flat_map(WebSite::hosts).collect();
        due.push(Due { wanted, source, account, hosts });
    }
    Ok(due)
}

/// A load balancer that is away stops what a CA might ask it for: all of http-01, unless name servers say that no name leads
/// to it any more.
fn absent(work: &Work<'_>, away: &Away, one: &Due<'_>, answers: &Answers) -> Vec<Finding> {
    if one.wanted.by_dns() {
        return Vec::new();
    }
    let edge = names::edge(work.site);
    let each = away.iter().map(|(host, why)| {
        if names::lead_past(&one.wanted.names, answers, &edge, host) {
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

fn said_by_hosts(work: &Work<'_>, away: &Away, one: &Due<'_>, look: &preflight::Look) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (host, seen) in look.iter().filter(|(host, _)| !away.contains_key(*host)) {
        findings.extend(preflight::judge(host, seen, &one.hosts));
        if !one.wanted.by_dns() {
            findings.extend(preflight::firewall(work.site, host));
        }
    }
    findings
}

fn said_by_name_servers(
    work: &Work<'_>,
    one: &Due<'_>,
    answers: &Answers,
    identities: &mut Identities,
) -> Vec<Finding> {
    let edge = names::edge(work.site);
    let identities = identities.of(one.source, work.interrupt.flag());
    let check_dns = work.site.certificates.check_dns;
    names::judge(one.wanted, one.source, (answers, &edge), identities, one.account.as_deref(), check_dns)
}

//! `cert renew`: what is due is made or ordered, and brought to the hosts. Internal certificates first, which need nobody else;
//! what goes wrong with one certificate stops no other.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::base::net::DnsName;
use crate::cli::args::{CertRenew, Global};
use crate::cli::order::{Ended, Work, decisions, moment, store_error, wanted};
use crate::cli::{Done, Stop, apply, exit, stages};
use crate::inventory::site::{Issuer, Site};
use crate::pki::known::{self, Known};
use crate::pki::renew::Decision;
use crate::pki::vault::Vault;
use crate::pki::wanted::{self, LETS_ENCRYPT_STAGING};
use crate::pki::{self, fulfil};
use crate::report::Reporter;
use crate::report::certificates;
use crate::report::interrupt::Interrupt;
use crate::report::outcome::Next;
use crate::report::text::count;

/// So many are named.
const NAMED: usize = 8;

pub(super) fn run(args: &CertRenew, global: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    stages::unbuilt(&site)?;
    let force = forced(&site, &args.force)?;
    let templates = stages::templates(&site, reporter)?;
    let connector = stages::connector(reporter);
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    let next = Next { command: format!("infra cert renew {}", args.inventory.inventory.display()), undo: None };
    let work = Work {
        site: &site,
        templates: &templates,
        connector: &connector,
        global,
        options: apply::options(global, None, 0),
        next: &next,
        interrupt: &interrupt,
        reporter,
    };
    consult(&site, &interrupt)?;
    let (due, mut ended) = announce(&site, &force, reporter)?;
    if site.certificates.issuer == Issuer::Internal {
        let leaves: Vec<String> = force.iter().map(|name| format!("site/{name}")).collect();
        pki::forget(&site.state, &leaves).map_err(|e| store_error(&e))?;
    }
    // What an earlier run obtained and did not bring everywhere comes along, and costs no order.
    match work.install(&site.hosts.keys().cloned().collect(), &BTreeSet::new()) {
        Ok(brought) => ended = ended.max(brought),
        Err(stop @ (Stop::Refused(..) | Stop::Unreachable | Stop::Failed(_))) if !due.is_empty() => {
            stop.tell(reporter)?;
            ended = Ended::Failed;
        }
        Err(stop) => return Err(stop),
    }
    if !due.is_empty() {
        ended = ended.max(work.run(&due, &force)?);
    }
    Ok(match ended {
        Ended::Nothing => exit::DONE,
        Ended::Renewed => exit::RENEWED,
        Ended::Deferred => exit::DEFERRED,
        Ended::Unreachable => exit::UNREACHABLE,
        Ended::Pending | Ended::Failed => exit::FAILED,
    })
}

fn forced(site: &Site, force: &[DnsName]) -> Result<BTreeSet<String>, Stop> {
    if let Some(unknown) = force.iter().find(|name| !site.sites.contains_key(*name)) {
        let names: Vec<&str> = site.sites.keys().map(DnsName::as_str).collect();
        return Err(Stop::Refused(
            format!("there is no site `{unknown}`"),
            vec![format!("sites: {}", names.join(", "))],
        ));
    }
    Ok(force.iter().map(ToString::to_string).collect())
}

/// Tells what is due and what is not, and gives the sites whose certificates are ordered now.
fn announce(site: &Site, force: &BTreeSet<String>, reporter: &Reporter) -> Result<(BTreeSet<String>, Ended), Stop> {
    let public = site.certificates.issuer != Issuer::Internal;
    let mut due = if public { force.clone() } else { BTreeSet::new() };
    let mut ended = Ended::Nothing;
    for (name, decision) in decisions(site)? {
        match decision {
            Decision::Good { until, why } if !force.contains(&name) => {
                reporter.note(&format!("{name}: nothing to do before {}: {why}", moment(until)));
            }
            Decision::Good { .. } => {}
            Decision::Order { why, .. } => {
                reporter.note(&format!("{name}: {why}"));
                due.insert(name);
            }
            Decision::Deferred { until, why } => {
                reporter.note(&format!("{name} is due, but waits until {}: {why}", moment(until)));
                due.remove(&name);
                ended = Ended::Deferred;
            }
        }
    }
    let overview = known::known(site, &site.state, OffsetDateTime::now_utc()).map_err(|e| store_error(&e))?;
    let internal: Vec<&Known> = overview.certificates.iter().filter(|known| is_internal(site, known)).collect();
    reporter.note(&summary(&internal));
    if let Some(rotation) = overview.rotation {
        reporter.note(&format!("the internal authority is being replaced, {rotation}"));
    }
    Ok((due, ended))
}

fn is_internal(site: &Site, known: &Known) -> bool {
    site.certificates.issuer == Issuer::Internal || !known.material.starts_with("site/")
}

/// One line about all certificates of the internal authorities.
fn summary(internal: &[&Known]) -> String {
    let due: Vec<String> = internal
        .iter()
        .filter(|known| known.is_due())
        .map(|known| format!("{}, {}", known.names.first().map_or("?", String::as_str), certificates::next(known)))
        .collect();
    if due.is_empty() {
        let first = internal.iter().filter_map(|known| match known.next {
            Decision::Good { until, .. } => Some(until),
            _ => None,
        });
        let when = first.min().map_or_else(String::new, |until| format!(" before {}", moment(until)));
        return format!("{} of the internal authority: nothing to do{when}", count(internal.len(), "certificate"));
    }
    let more = if due.len() > NAMED { format!("; and {} more", due.len() - NAMED) } else { String::new() };
    let named = due.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    format!("{} of the internal authority to be made: {named}{more}", count(due.len(), "certificate"))
}

/// Lets the CAs say when they would have their certificates renewed.
fn consult(site: &Site, interrupt: &Interrupt) -> Result<(), Stop> {
    let mut each = wanted(site).into_iter();
    if each.len() == 0 {
        return Ok(());
    }
    let vault = Vault::open(&site.state).map_err(|e| store_error(&e))?;
    let now = OffsetDateTime::now_utc();
    each.try_for_each(|wanted| fulfil::consult(&vault, &wanted, interrupt.flag(), now)).map_err(|e| store_error(&e))
}

/// What would be done about each certificate. Let's Encrypt's staging answers as the real one does: it is asked for each, and
/// nothing of it is used.
pub(super) fn rehearse(args: &CertRenew, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    stages::unbuilt(&site)?;
    let overview = known::known(&site, &site.state, OffsetDateTime::now_utc()).map_err(|e| store_error(&e))?;
    let (internal, public): (Vec<&Known>, Vec<&Known>) =
        overview.certificates.iter().partition(|known| is_internal(&site, known));
    for known in public {
        let name = known.names.first().map_or("?", String::as_str);
        reporter.note(&format!("{name}: {}", certificates::next(known)));
    }
    reporter.note(&summary(&internal));
    if let Some(rotation) = overview.rotation {
        reporter.note(&format!("the internal authority is being replaced, {rotation}"));
    }
    match site.certificates.issuer {
        Issuer::LetsEncrypt | Issuer::LetsEncryptStaging => staging(&site, reporter),
        Issuer::Internal => Ok(exit::DONE),
        Issuer::Directory { .. } => {
            reporter.note("nothing was ordered to try it: of this issuer no staging is known");
            reporter.note("to try it, name its staging directory as `issuer` in a copy of the inventory");
            Ok(exit::DONE)
        }
    }
}

fn staging(site: &Site, reporter: &Reporter) -> Done {
    let vault = Vault::open(&site.state).map_err(|e| store_error(&e))?;
    let mut code = exit::DONE;
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    for wanted in wanted(site) {
        match fulfil::rehearse(&vault, &wanted, interrupt.flag()) {
            Ok(about) => reporter.note(&format!("{} would give: {about}", wanted::host(LETS_ENCRYPT_STAGING))),
            Err(failure) => {
                reporter.error(&format!("no certificate for {}: {}", wanted.site, failure.why), &[], &[])?;
                code = exit::FAILED;
            }
        }
    }
    Ok(code)
}

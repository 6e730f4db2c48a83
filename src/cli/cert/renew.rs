//! `cert renew`: what is due is made or ordered, and brought to the hosts. Internal certificates first, which need nobody else;
//! what goes wrong with one certificate stops no other.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::base::material::CertificateId;
use crate::base::net::{DnsName, HostName};
use crate::cli::global::{Global, Inventory};
use crate::cli::stop::{Done, Stop};
use crate::cli::work::Work;
use crate::cli::{exit, stages};
use crate::fleet::event::{Outcome, StepFate, StepOutcome};
use crate::inventory::site::{Issuer, Site};
use crate::pki::known::{self, Known};
use crate::pki::public_store::PublicStore;
use crate::pki::{self, fulfil};
use crate::plan::step::Waiting;
use crate::report::certificates::{self, moment};
use crate::report::interrupt::Interrupt;
use crate::report::text::count;
use crate::report::{Reporter, steps};
use crate::service::Services;
use crate::service::certificates::schedule::{self, Decision};
use crate::service::certificates::wanted::{self, LETS_ENCRYPT_STAGING, Wanted};
use crate::service::certificates::{Remembered, order};

/// `cert renew`.
#[derive(Debug, Clone, clap::Args)]
pub struct CertRenew {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Renew this site's certificate though it is not due; not before the time that a failure has set
    #[arg(long, value_name = "SITE")]
    pub force: Vec<DnsName>,
    /// Tell what would be done; order from Let's Encrypt's staging to try it, and use nothing of it
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
}

/// So many are named.
const NAMED: usize = 8;

pub(super) fn run(args: &CertRenew, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    let force = forced(&site, &args.force)?;
    let everywhere: BTreeSet<HostName> = site.hosts.keys().cloned().collect();
    let command = format!("infra cert renew {}", args.inventory.inventory.display());
    let work = Work::new(&site, &everywhere, command, global, services, reporter)?;
    work.interrupt.watch(exit::INTERRUPTED.into())?;
    consult(&site, &work.interrupt)?;
    let (now, remembered) = (OffsetDateTime::now_utc().unix_timestamp(), fulfil::remembered(&site)?);
    announce(&site, &remembered, &force, now, reporter)?;
    let decided = order::decide(&site, &remembered, &force, now)?;
    let due: BTreeSet<String> = decided.steps.into_iter().map(|step| step.subject).collect();
    let waits = |waiting: Waiting| {
        StepOutcome::order(waiting.subject, StepFate::Deferred { until: waiting.until, why: waiting.why })
    };
    let steps = decided.waiting.into_iter().map(waits).collect();
    let mut outcome = Outcome { run: work.options.run.clone(), steps, ..Outcome::default() };
    if !args.force.is_empty() {
        let leaves: Vec<CertificateId> = args
            .force
            .iter()
            .filter(|name| site.sites.get(*name).is_some_and(|web| site.signs(web)))
            .cloned()
            .map(CertificateId::Site)
            .collect();
        pki::forget(&site.state, &leaves)?;
    }
    // What an earlier run obtained and did not bring everywhere comes along, and costs no order.
    match work.install(&everywhere, &BTreeSet::new()) {
        Ok(brought) => outcome = outcome.then(brought),
        Err(stop @ (Stop::Refused(..) | Stop::Unreachable | Stop::Failed(_))) if !due.is_empty() => {
            stop.tell(reporter)?;
            outcome.refused.push(stop.words());
        }
        Err(stop) => return Err(stop),
    }
    if !due.is_empty() && !outcome.interrupted {
        work.order(&due, &force, &mut outcome)?;
    }
    work.end(outcome, exit::of_renewal)
}

fn forced(site: &Site, force: &[DnsName]) -> Result<BTreeSet<String>, Stop> {
    if let Some(unknown) = force.iter().find(|name| !site.sites.contains_key(*name)) {
        let names: Vec<&str> = site.sites.keys().map(DnsName::as_str).collect();
        return Err(Stop::Refused(
            format!("there is no site `{unknown}`"),
            vec![format!("sites: {}", names.join(", "))],
        ));
    }
    let bought = |name: &DnsName| Some((name.clone(), site.sites.get(name)?.certificate.clone()?));
    if let Some((name, bought)) = force.iter().find_map(bought) {
        return Err(Stop::Refused(
            format!("the certificate of {name} was bought, by {}: infra does not renew it", bought.chain.issuer),
            vec![format!("get its successor, put that into `{}`, and run `infra apply`", bought.file.display())],
        ));
    }
    Ok(force.iter().map(ToString::to_string).collect())
}

/// Tells what is due and what is not.
fn announce(
    site: &Site,
    remembered: &Remembered,
    force: &BTreeSet<String>,
    now: i64,
    reporter: &Reporter,
) -> Result<(), Stop> {
    for wanted in Wanted::all(site) {
        let (name, past) = (&wanted.site, remembered.of(&wanted.site));
        match schedule::decide(&wanted, past, now) {
            Decision::Good { .. } if force.contains(name) => {
                if let Decision::Deferred { until, why } = schedule::forced(&wanted, past, now) {
                    steps::fate(&StepOutcome::order(name, StepFate::Deferred { until, why }), reporter)?;
                }
            }
            Decision::Good { until, why } => {
                reporter.note(&format!("{name}: nothing to do before {}: {why}", moment(until)));
            }
            Decision::Order { why, .. } => reporter.note(&format!("{name}: {why}")),
            Decision::Deferred { until, why } => {
                reporter.note(&format!("{name} is due, but waits until {}: {why}", moment(until)));
            }
        }
    }
    let overview = known::known(site, &site.state, OffsetDateTime::now_utc())?;
    for known in overview.certificates.iter().filter(|known| known.by_hand.is_some()) {
        let name = known.names.first().map_or("?", String::as_str);
        reporter.note(&format!("{name}: {}", certificates::next(known)));
    }
    let internal: Vec<&Known> = overview.certificates.iter().filter(|known| is_internal(site, known)).collect();
    reporter.note(&summary(&internal));
    if let Some(rotation) = overview.rotation {
        reporter.note(&format!("the internal authority is being replaced, {rotation}"));
    }
    Ok(())
}

fn is_internal(site: &Site, known: &Known) -> bool {
    known.id.site().and_then(|name| site.sites.get(name)).is_none_or(|web| site.signs(web))
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
    let mut each = Wanted::all(site).into_iter();
    if each.len() == 0 {
        return Ok(());
    }
    let store = PublicStore::open(&site.state)?;
    let now = OffsetDateTime::now_utc();
    Ok(each.try_for_each(|wanted| fulfil::consult(&store, &wanted, interrupt.flag(), now))?)
}

/// What would be done about each certificate. Let's Encrypt's staging answers as the real one does: it is asked for each, and
/// nothing of it is used.
pub(super) fn rehearse(args: &CertRenew, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    let overview = known::known(&site, &site.state, OffsetDateTime::now_utc())?;
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
            reporter.note("nothing was ordered as a trial: no staging directory of this issuer is known");
            reporter.note("to try an order, name its staging directory as `issuer` in a copy of the inventory");
            Ok(exit::DONE)
        }
    }
}

fn staging(site: &Site, reporter: &Reporter) -> Done {
    let store = PublicStore::open(&site.state)?;
    let mut code = exit::DONE;
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    for wanted in Wanted::all(site) {
        match fulfil::rehearse(&store, &wanted, interrupt.flag()) {
            Ok(about) => reporter.note(&format!("{} would give: {about}", wanted::host(LETS_ENCRYPT_STAGING))),
            Err(failure) => {
                reporter.error(&format!("no certificate for {}: {}", wanted.site, failure.why), &[], &[])?;
                code = exit::FAILED;
            }
        }
    }
    Ok(code)
}

//! `cert …`: the sites' certificates, as they are shown by each load balancer, and their renewal without an apply.

use std::collections::BTreeSet;

use super::args::{Cert, CertRenew, Global, Inventory};
use super::order::{Ended, Work, decisions, moment, store_error, wanted};
use super::{Done, Stop, apply, exit, revoke, stages};
use crate::base::net::DnsName;
use crate::fleet::served;
use crate::inventory::site::{Issuer, Site};
use crate::pki;
use crate::pki::fulfil;
use crate::pki::public::Public;
use crate::pki::renew::Decision;
use crate::pki::vault::Vault;
use crate::pki::wanted::{self, LETS_ENCRYPT_STAGING};
use crate::report::Reporter;
use crate::report::interrupt::Interrupt;
use crate::report::outcome::Next;

pub(super) fn run(cert: &Cert, global: &Global, reporter: &Reporter) -> Done {
    match cert {
        Cert::Status(inventory) => status(inventory, global, reporter),
        Cert::Renew(renew) if renew.dry_run => rehearse(renew, reporter),
        Cert::Renew(renew) => self::renew(renew, global, reporter),
        Cert::Revoke(revoke) => revoke::run(revoke, global, reporter),
    }
}

/// The site of an inventory whose certificates come from an ACME directory.
pub(super) fn public(inventory: &Inventory, reporter: &Reporter) -> Result<Site, Stop> {
    let site = stages::site(&inventory.inventory, reporter)?;
    stages::unbuilt(&site)?;
    if site.certificates.issuer == Issuer::Internal {
        return Err(Stop::Refused(
            "the internal authority signs for these sites; `infra apply` renews its certificates".to_owned(),
            vec!["`cert` is for certificates by ACME: `issuer: letsencrypt` or a directory URL".to_owned()],
        ));
    }
    Ok(site)
}

fn renew(args: &CertRenew, global: &Global, reporter: &Reporter) -> Done {
    let site = public(&args.inventory, reporter)?;
    let force: BTreeSet<String> = args.force.iter().map(ToString::to_string).collect();
    if let Some(unknown) = force.iter().find(|name| !site.sites.keys().any(|s| s.as_str() == name.as_str())) {
        let names: Vec<&str> = site.sites.keys().map(DnsName::as_str).collect();
        return Err(Stop::Refused(
            format!("there is no site `{unknown}`"),
            vec![format!("sites: {}", names.join(", "))],
        ));
    }
    let templates = stages::templates(&site, reporter)?;
    let connector = stages::connector(reporter);
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    let next = Next { command: format!("infra cert renew {}", args.inventory.inventory.display()), undo: None };
    let options = apply::options(global, None, 0);
    let work = Work {
        site: &site,
        templates: &templates,
        connector: &connector,
        global,
        options,
        next: &next,
        interrupt: &interrupt,
        reporter,
    };
    let mut due = force.clone();
    let mut ended = Ended::Nothing;
    consult(&site, &interrupt)?;
    for (name, decision) in decisions(&site)? {
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
    // What an earlier run obtained and did not bring everywhere comes first, and costs no order.
    match work.install(&BTreeSet::new())? {
        Ended::Failed => return Ok(exit::FAILED),
        installed => ended = ended.max(installed),
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

/// Lets the CAs say when they would have their certificates renewed.
fn consult(site: &Site, interrupt: &Interrupt) -> Result<(), Stop> {
    let vault = Vault::open(&site.state).map_err(|e| store_error(&e))?;
    let now = time::OffsetDateTime::now_utc();
    let mut each = wanted(site).into_iter();
    each.try_for_each(|wanted| fulfil::consult(&vault, &wanted, interrupt.flag(), now)).map_err(|e| store_error(&e))
}

/// Every order from the staging directory, which answers as the real one does; nothing of it is used.
fn rehearse(args: &CertRenew, reporter: &Reporter) -> Done {
    let site = public(&args.inventory, reporter)?;
    if !matches!(site.certificates.issuer, Issuer::LetsEncrypt | Issuer::LetsEncryptStaging) {
        return Err(Stop::Refused(
            "`--dry-run` orders from Let's Encrypt's staging; of this issuer no staging is known".to_owned(),
            vec!["name its staging directory as `issuer` in a copy of the inventory".to_owned()],
        ));
    }
    let vault = Vault::open(&site.state).map_err(|e| store_error(&e))?;
    let mut code = exit::DONE;
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    for wanted in wanted(&site) {
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

fn status(inventory: &Inventory, global: &Global, reporter: &Reporter) -> Done {
    let site = public(inventory, reporter)?;
    let hosts = stages::selected(&site, global)?;
    let connector = stages::connector(reporter);
    let shown = served::look(&site, &hosts, &connector, global.parallel.get());
    let decisions = decisions(&site)?;
    let vault = Vault::open(&site.state).map_err(|e| store_error(&e))?;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut code = exit::DONE;
    for (name, decision) in decisions {
        let current = vault.current(&name).map_err(|e| store_error(&e))?;
        let record = vault.record(&name, 0).map_err(|e| store_error(&e))?;
        let names = site.sites.values().find(|s| s.name.as_str() == name).map(pki::names).unwrap_or_default();
        let (next, due) = match &decision {
            Decision::Good { until, why } => (format!("renewed from {}: {why}", moment(*until)), false),
            Decision::Order { why, .. } => (format!("due: {why}"), true),
            Decision::Deferred { until, .. } => (format!("due, waits until {}", moment(*until)), true),
        };
        if due && record.failures > 0 {
            code = exit::FAILED;
        }
        let mut lines = Vec::new();
        let mut places = Vec::new();
        for (host, seen) in &shown {
            for asked in names.iter().map(|n| n.replace('*', "infra-probe")) {
                let leaf = seen.as_ref().map(|all| all.get(&asked).cloned().flatten());
                let is_ours = |sha: &str| current.as_ref().is_some_and(|c| c.sha256 == sha);
                let (good, text) = match &leaf {
                    Err(why) => (false, format!("not asked: {why}")),
                    Ok(None) => (false, "no handshake".to_owned()),
                    Ok(Some(leaf)) if is_ours(&leaf.sha256) => (true, "shows it".to_owned()),
                    Ok(Some(leaf)) => (false, format!("shows another one, until {}", leaf.not_after)),
                };
                if !good {
                    code = exit::FAILED;
                }
                lines.push(format!("  {:<12} {asked:<32} {text}\n", host.as_str()));
                places.push(serde_json::json!({
                    "host": host, "name": asked, "good": good, "leaf": leaf.ok().flatten(), "text": text,
                }));
            }
        }
        if reporter.is_json() {
            reporter.line(&serde_json::json!({
                "event": "certificate", "site": name, "names": names, "issuer": current.as_ref().and_then(|c| c.directory.as_deref()),
                "not_after": current.as_ref().map(|c| c.life.not_after),
                "days_left": current.as_ref().map(|c| (c.life.not_after - now) / 86_400),
                "sha256": current.as_ref().map(|c| &c.sha256), "next": next, "due": due,
                "failures": record.failures, "last_failure": record.last, "load_balancers": places,
            }))?;
            continue;
        }
        let about = current.as_ref().map_or_else(|| format!("{name}, none yet"), Public::about);
        let mut text = format!("{about}; {next}\n");
        if let Some(last) = &record.last {
            text.push_str(&format!(
                "  failed {} in a row, last: {last}\n",
                crate::report::text::count(record.failures as usize, "time")
            ));
        }
        reporter.data(&(text + &lines.concat()))?;
    }
    Ok(code)
}

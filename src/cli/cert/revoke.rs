//! `cert revoke`: a new certificate with a new key first, on all load balancers, then the old one is taken back by its CA.

use std::collections::BTreeSet;

use crate::base::net::DnsName;
use crate::cli::global::{Global, Inventory};
use crate::cli::stop::{Done, Stop};
use crate::cli::work::Work;
use crate::cli::{exit, stages};
use crate::fleet::event::Outcome;
use crate::inventory::site::Site;
use crate::pki::acme;
use crate::pki::fulfil;
use crate::pki::public_store::PublicStore;
use crate::report::{Reporter, prompt};
use crate::service::Services;
use crate::service::certificates::wanted::Wanted;

/// `cert revoke`.
#[derive(Debug, Clone, clap::Args)]
pub struct CertRevoke {
    /// The site
    #[arg(value_name = "SITE")]
    pub site: DnsName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// The reason that the CA is told
    #[arg(long, value_enum, default_value = "unspecified")]
    pub reason: Reason,
    /// Revoke first, whether a new certificate can be had or not: clients that look will refuse the site until then
    #[arg(long)]
    pub now: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

/// Why a certificate is taken back (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Reason {
    /// No reason is given
    Unspecified,
    /// Somebody else has the key
    KeyCompromise,
    /// Another certificate stands in its place
    Superseded,
    /// The site does not exist any more
    CessationOfOperation,
}

pub(super) fn run(args: &CertRevoke, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = public(&args.inventory, reporter)?;
    let name = args.site.as_str();
    if let Some(bought) = site.sites.get(&args.site).and_then(|web| web.certificate.as_ref()) {
        return Err(Stop::Refused(
            format!("the certificate of {name} was bought, by {}", bought.chain.issuer),
            vec!["that CA takes it back, by the way that it was bought".to_owned()],
        ));
    }
    let Some(wanted) = Wanted::all(&site).into_iter().find(|wanted| wanted.site == name) else {
        let names: Vec<&str> = site.sites.keys().map(DnsName::as_str).collect();
        return Err(Stop::Refused(format!("there is no site `{name}`"), vec![format!("sites: {}", names.join(", "))]));
    };
    let open = || PublicStore::open(&site.state);
    let Some(old) = open()?.current(name)? else {
        return Err(Stop::Refused(format!("{name} has no certificate of a CA"), Vec::new()));
    };
    if !args.yes && !ask(name, &old.about(), args.now)? {
        reporter.note("nothing was changed");
        return Ok(exit::DECLINED);
    }
    let command = format!("infra cert renew {}", args.inventory.inventory.display());
    let work = Work::new(&site, &site.hosts.keys().cloned().collect(), command, global, services, reporter)?;
    work.interrupt.watch(exit::INTERRUPTED.into())?;
    let take_back = || {
        let result = fulfil::revoke(&open()?, &wanted, &old, reason(args.reason), work.interrupt.flag());
        result.map_err(|failure| Stop::Failed(anyhow::anyhow!("{name}: not revoked: {}", failure.why)))
    };
    if args.now {
        take_back()?;
        reporter.note(&format!("revoked: {}", old.about()));
    }
    let sites = BTreeSet::from([name.to_owned()]);
    let mut outcome = Outcome { run: work.options.run.clone(), ..Outcome::default() };
    work.order(&sites, &sites, &mut outcome)?;
    let (brought, renewed) = (revocation(&outcome), outcome.renewed);
    if brought == exit::DONE && !args.now {
        match take_back() {
            Ok(()) => reporter.note(&format!("revoked: {}", old.about())),
            Err(stop) => {
                stop.tell(reporter)?;
                outcome.refused.push(stop.words());
            }
        }
    }
    let code = work.end(outcome, revocation)?;
    if brought != exit::DONE && !args.now && code != exit::INTERRUPTED {
        let why = if renewed {
            "a load balancer does not have the new certificate yet"
        } else {
            "there is no new certificate"
        };
        let help = "`infra cert renew` tells what is in the way; `--now` revokes all the same".to_owned();
        reporter.error(&format!("{name}: nothing was revoked, as {why}"), &[], &[help])?;
    }
    Ok(code)
}

/// Nothing but a new certificate that is where it belongs lets the old one go.
fn revocation(outcome: &Outcome) -> u8 {
    match exit::of_renewal(outcome) {
        exit::RENEWED => exit::DONE,
        exit::INTERRUPTED => exit::INTERRUPTED,
        _ => exit::FAILED,
    }
}

fn ask(name: &str, about: &str, now: bool) -> Result<bool, Stop> {
    let how = if now { "at once" } else { "as soon as a new certificate is on all load balancers" };
    prompt::confirm(&format!("revoke the certificate of {name} ({about}) {how}?"))
        .map_err(|error| Stop::Refused(error.to_string(), vec!["add `--yes` to revoke without being asked".to_owned()]))
}

fn reason(reason: Reason) -> acme::Reason {
    match reason {
        Reason::Unspecified => acme::Reason::Unspecified,
        Reason::KeyCompromise => acme::Reason::KeyCompromise,
        Reason::Superseded => acme::Reason::Superseded,
        Reason::CessationOfOperation => acme::Reason::CessationOfOperation,
    }
}

/// The site of an inventory whose certificates come from an ACME directory.
fn public(inventory: &Inventory, reporter: &Reporter) -> Result<Site, Stop> {
    let site = stages::site(&inventory.inventory, reporter)?;
    if site.sites.values().any(|web| site.signs(web)) {
        return Err(Stop::Refused(
            "the internal authority signs for these sites, and keeps no list of revoked certificates".to_owned(),
            vec!["`infra cert renew --force SITE` makes a new certificate with a new key".to_owned()],
        ));
    }
    Ok(site)
}

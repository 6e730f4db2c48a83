//! `cert revoke`: a new certificate with a new key first, on all load balancers, then the old one is taken back by its CA.

use std::collections::BTreeSet;

use super::args::{self, CertRevoke, Global};
use super::order::{Ended, Work, store_error, wanted};
use super::{Done, Stop, apply, cert, exit, stages};
use crate::pki::acme::Reason;
use crate::pki::fulfil;
use crate::pki::vault::Vault;
use crate::report::interrupt::Interrupt;
use crate::report::outcome::Next;
use crate::report::{Reporter, prompt};

pub(super) fn run(args: &CertRevoke, global: &Global, reporter: &Reporter) -> Done {
    let site = cert::public(&args.inventory, reporter)?;
    let name = args.site.as_str();
    let Some(wanted) = wanted(&site).into_iter().find(|wanted| wanted.site == name) else {
        let names: Vec<&str> = site.sites.keys().map(crate::base::net::DnsName::as_str).collect();
        return Err(Stop::Refused(format!("there is no site `{name}`"), vec![format!("sites: {}", names.join(", "))]));
    };
    let open = || Vault::open(&site.state).map_err(|e| store_error(&e));
    let Some(old) = open()?.current(name).map_err(|e| store_error(&e))? else {
        return Err(Stop::Refused(format!("{name} has no certificate of a CA"), Vec::new()));
    };
    if !args.yes && !ask(name, &old.about(), args.now)? {
        reporter.note("nothing was changed");
        return Ok(exit::DONE);
    }
    let templates = stages::templates(&site, reporter)?;
    let connector = stages::connector(reporter);
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    let take_back = || {
        let result = fulfil::revoke(&open()?, &wanted, &old, reason(args.reason), interrupt.flag());
        result.map_err(|failure| Stop::Failed(anyhow::anyhow!("{name}: not revoked: {}", failure.why)))
    };
    if args.now {
        take_back()?;
        reporter.note(&format!("revoked: {}", old.about()));
    }
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
    let sites = BTreeSet::from([name.to_owned()]);
    let ended = work.run(&sites, &sites)?;
    if ended != Ended::Renewed {
        if !args.now {
            let why = match ended {
                Ended::Pending => "a load balancer does not have the new certificate yet",
                _ => "there is no new certificate",
            };
            let help = "`infra cert renew` tells what is in the way; `--now` revokes all the same".to_owned();
            reporter.error(&format!("{name}: nothing was revoked, as {why}"), &[], &[help])?;
        }
        return Ok(exit::FAILED);
    }
    if !args.now {
        take_back()?;
        reporter.note(&format!("revoked: {}", old.about()));
    }
    Ok(exit::DONE)
}

fn ask(name: &str, about: &str, now: bool) -> Result<bool, Stop> {
    let how = if now { "at once" } else { "as soon as a new one is on all load balancers" };
    prompt::confirm(&format!("revoke the certificate of {name} ({about}) {how}?"))
        .map_err(|error| Stop::Refused(error.to_string(), vec!["add `--yes` to revoke without being asked".to_owned()]))
}

fn reason(reason: args::Reason) -> Reason {
    match reason {
        args::Reason::Unspecified => Reason::Unspecified,
        args::Reason::KeyCompromise => Reason::KeyCompromise,
        args::Reason::Superseded => Reason::Superseded,
        args::Reason::CessationOfOperation => Reason::CessationOfOperation,
    }
}

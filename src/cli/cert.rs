//! `cert …`: every certificate, as the hosts show it, its renewal without an apply, and what belongs into the zone about it.

use super::args::{Cert, Global, Inventory};
use super::{Done, Stop, revoke, stages};
use crate::inventory::site::{Issuer, Site};
use crate::report::Reporter;

mod records;
mod renew;
mod status;

pub(super) fn run(cert: &Cert, global: &Global, reporter: &Reporter) -> Done {
    match cert {
        Cert::Status(inventory) => status::run(inventory, global, reporter),
        Cert::Renew(renew) if renew.dry_run => renew::rehearse(renew, reporter),
        Cert::Renew(renew) => renew::run(renew, global, reporter),
        Cert::Records(inventory) => records::run(inventory, reporter),
        Cert::Revoke(revoke) => revoke::run(revoke, global, reporter),
    }
}

/// The site of an inventory whose certificates come from an ACME directory.
pub(super) fn public(inventory: &Inventory, reporter: &Reporter) -> Result<Site, Stop> {
    let site = stages::site(&inventory.inventory, reporter)?;
    stages::unbuilt(&site)?;
    if site.certificates.issuer == Issuer::Internal {
        return Err(Stop::Refused(
            "the internal authority signs for these sites, and keeps no list of what was taken back".to_owned(),
            vec!["`infra cert renew --force SITE` makes a new certificate with a new key".to_owned()],
        ));
    }
    Ok(site)
}

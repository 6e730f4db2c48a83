//! `cert …`: every certificate, as the hosts show it, its renewal without an apply, and what belongs into the zone about it.

use clap::Subcommand;

use super::global::{Global, Inventory};
use super::stop::Done;
use crate::report::Reporter;
use crate::service::Services;

mod records;
mod renew;
mod revoke;
mod status;

use renew::CertRenew;
use revoke::CertRevoke;

/// `cert …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Cert {
    /// Show every certificate as the hosts present it; exits 1 if a certificate is not shown, or is due and fails
    Status(Inventory),
    /// Make or order the certificates that are due and install them; exits 0 with nothing due, 6 renewed, 7 deferred, 1 failed
    Renew(CertRenew),
    /// CAA and TLSA records for the sites' zones, as lines of a zone file
    Records(Inventory),
    /// Replace a site's certificate by a new one with a new key, then have its CA revoke the old certificate
    Revoke(CertRevoke),
}

pub(super) fn run(cert: &Cert, global: &Global, services: Services, reporter: &Reporter) -> Done {
    match cert {
        Cert::Status(inventory) => status::run(inventory, global, services, reporter),
        Cert::Renew(renew) if renew.dry_run => renew::rehearse(renew, reporter),
        Cert::Renew(renew) => renew::run(renew, global, services, reporter),
        Cert::Records(inventory) => records::run(inventory, reporter),
        Cert::Revoke(revoke) => revoke::run(revoke, global, services, reporter),
    }
}

//! The certificates of the sites: takes a context, adds a file of each to the load balancers; decides which are ordered.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material};
use crate::inventory::site::{Role, Site};
use crate::plan::decision::{Decided, Memory};
use crate::plan::state::{Access, File, Follow, ObservedFleet, Phase, Version};
use crate::service::certificates::{Holder, NAME, OPENSSL, Remembered, SITES_FOLDER, order, site_pem, site_trust};
use crate::service::claims::Claims;
use crate::service::haproxy::{self, HAPROXY};
use crate::service::product::Product;
use crate::service::{Context, Service};

/// See the module.
pub struct EdgeCertificates;

/// How `HAProxy` takes a new certificate of a site. Below 3.1 every client of its admin socket shares one transaction
/// (`HAProxy`'s commit 984d2cfb6): there the host's lock keeps our own runs apart, and what another has open is looked for first.
fn follow(context: &Context<'_>) -> Follow {
    let measured = HAPROXY.of(context.facts) >= Version(2, 6, 0);
    if context.site.certificates.hot_swap && measured { Follow::Swap } else { Follow::Reload }
}

impl Service for EdgeCertificates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn products(&self) -> &'static [Product] {
        &[OPENSSL]
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if !context.host.has(Role::Lb) {
            return Ok(());
        }
        let holder = Holder { service: NAME, phase: Phase::Edge, unit: haproxy::UNIT, follow: follow(context) };
        holder.folder(out, SITES_FOLDER)?;
        for site in context.site.sites.values() {
            let id = CertificateId::Site(site.name.clone());
            let materials = [Material::Certificate(id.clone()), Material::Key(id)];
            holder.file(context, out, &site_pem(&site.name), &materials)?;
            if let Some(bought) = &site.certificate {
                // For probes: the hosts' own roots need not have a company's authority.
                let file = File {
                    service: NAME,
                    phase: Phase::Edge,
                    access: Access::root(0o644),
                    body: context.body(bought.trust.clone())?,
                    then: BTreeMap::new(),
                    about: None,
                };
                out.file(&site_trust(&site.name), file)?;
            }
        }
        Ok(())
    }

    fn decide(&self, site: &Site, _: &ObservedFleet, memory: &Memory) -> Result<Decided, Diagnostic> {
        let remembered: Remembered = memory.of(NAME).map_err(|error| {
            Diagnostic::error(format!("what is remembered of the certificates cannot be read: {error}"))
        })?;
        order::decide(site, &remembered, &BTreeSet::new(), memory.now())
    }
}

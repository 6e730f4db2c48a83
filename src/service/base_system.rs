//! What every host needs, whatever its role: takes a context, adds the tools that probes use and the internal trust anchor.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::Material;
use crate::base::secret::sentinel;
use crate::inventory::site::Issuer;
use crate::plan::state::{Access, File, Folder, Phase};
use crate::service::claims::Claims;
use crate::service::{Context, Service};

/// See the module.
pub struct BaseSystem;

/// The authorities that sign internal certificates, for probes and for people (`curl --cacert`).
pub const CA_FILE: &str = "/etc/infra/ca.crt";
/// The authorities that sign public names, where `issuer: internal`.
pub const SITES_CA_FILE: &str = "/etc/infra/sites-ca.crt";

const NAME: &str = "base";

impl Service for BaseSystem {
    fn name(&self) -> &'static str {
        NAME
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        for package in ["ca-certificates", "curl", "iproute2", "openssl", "socat"] {
            out.package(package)?;
        }
        // Before anything that may want to use them.
        let phase = Phase::Widen;
        out.folder("/etc/infra", Folder { phase, access: Access::root(0o755) })?;
        let mut add = |path: &str, material: Material| -> Result<(), Diagnostic> {
            let file = File {
                service: NAME,
                phase,
                access: Access::root(0o644),
                body: context.body(sentinel(&material))?,
                then: BTreeMap::new(),
                about: context.materials.about(&material).map(ToOwned::to_owned),
            };
            out.file(path, file)
        };
        add(CA_FILE, Material::HopAuthorities)?;
        if context.site.certificates.issuer == Issuer::Internal {
            add(SITES_CA_FILE, Material::SiteAuthorities)?;
        }
        Ok(())
    }
}

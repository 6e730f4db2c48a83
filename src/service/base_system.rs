//! What every host needs, whatever its role: takes a context, adds the tools that probes use and the internal trust anchor.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::secret::sentinel;
use crate::inventory::site::Issuer;
use crate::plan::state::{Access, DesiredHost, File, Folder, Phase};
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

    fn want(&self, context: &Context<'_>, out: &mut DesiredHost) -> Result<(), Diagnostic> {
        out.packages.extend(["ca-certificates", "curl", "iproute2", "openssl", "socat"].map(ToOwned::to_owned));
        // Before anything that may want to use them.
        let phase = Phase::Widen;
        out.folders.entry("/etc/infra".into()).or_insert(Folder { phase, access: Access::root(0o755) });
        let mut add = |path: &str, name: &str| -> Result<(), Diagnostic> {
            let file = File {
                service: NAME,
                phase,
                access: Access::root(0o644),
                body: context.body(sentinel(name))?,
                then: BTreeMap::new(),
                about: context.materials.about(name).map(ToOwned::to_owned),
            };
            out.files.insert(path.into(), file);
            Ok(())
        };
        add(CA_FILE, "pki/ca.crt")?;
        if context.site.certificates.issuer == Issuer::Internal {
            add(SITES_CA_FILE, "pki/sites-ca.crt")?;
        }
        Ok(())
    }
}

//! What only root can measure: takes a context, adds the small loop that writes it down where the agent, which is not root, reads it:
//! refused packets, the life of certificates, what the shipper of logs holds and has dropped, and what infra still owes.

use std::collections::BTreeMap;

use super::{file, unit};
use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::Backend;
use crate::service::Context;
use crate::service::claims::Claims;

/// The unit of the loop.
pub(super) const UNIT: &str = "infra-measures.service";
const SCRIPT: &str = "/var/lib/infra/measures";

/// Adds it.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(super) fn want(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let backend = match context.site.firewall.backend {
        Backend::Nftables => "nftables",
        Backend::Iptables => "iptables",
    };
    let model = BTreeMap::from([("backend", backend)]);
    unit(out, UNIT)?;
    file(out, SCRIPT, context.render("monitoring/measures.sh", &model)?, 0o700, &[UNIT])?;
    let path = format!("/etc/systemd/system/{UNIT}");
    file(out, &path, context.render("monitoring/measures.service", &model)?, 0o644, &[UNIT])
}

//! What only root sees of a host (its firewall, what it is owed, its certificates), as measures: takes a context, adds a script
//! that a timer runs every minute, and that writes a file for the node exporter.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::Backend;
use crate::plan::state::{Follow, Probe, UnitWanted};
use crate::service::Context;
use crate::service::claims::Claims;
use crate::service::prometheus::{PHASE, file};

const TIMER: &str = "infra-measures.timer";
const UNIT: &str = "infra-measures.service";

/// Adds them.
pub(super) fn want(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let backend = match context.site.firewall.backend {
        Backend::Nftables => "nftables",
        Backend::Iptables => "iptables",
    };
    let model = BTreeMap::from([("backend", backend)]);
    out.unit(TIMER, UnitWanted { phase: PHASE })?;
    let timer = Some((TIMER, Follow::Restart));
    file(context, out, "/var/lib/infra/measures", "prometheus/measures.sh", &model, timer)?;
    file(context, out, &format!("/etc/systemd/system/{UNIT}"), "prometheus/measures.service", &model, timer)?;
    file(context, out, &format!("/etc/systemd/system/{TIMER}"), "prometheus/measures.timer", &model, timer)?;
    out.probe(Probe {
        phase: PHASE,
        title: "firewall, certificates and what is owed are measured".into(),
        command: "out=/var/lib/prometheus/node-exporter/infra.prom\n\
                  grep -q '^infra_firewall_loaded 1$' $out 2>/dev/null && exit 0\n\
                  systemctl start infra-measures.service; echo \"$out does not say that the firewall is loaded\"; exit 1"
            .into(),
        within: Duration::from_secs(30),
        advisory: false,
    });
    Ok(())
}

//! What nginx of a web host counts: takes a context, adds Debian's exporter. The edge counts what clients ask for; nginx counts checks of
//! the edge and of the exporter, too, and shows whether requests arrive behind the edge at all.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Host, Role};
use crate::plan::state::{Access, Follow, Probe, UnitWanted};
use crate::service::Context;
use crate::service::agent::{self, PHASE};
use crate::service::claims::Claims;
use crate::service::prometheus::Exporter;

/// See the module.
pub(super) const EXPORTER: Exporter = Exporter { name: "nginx", port: 9113 };

const PACKAGE: &str = "prometheus-nginx-exporter";
const UNIT: &str = "prometheus-nginx-exporter.service";

#[derive(Serialize)]
struct Model {
    port: u16,
    /// Where nginx tells what it counts.
    nginx: SocketAddr,
}

/// Whether a host has it.
pub(super) fn is_on(host: &Host) -> bool {
    host.has(Role::Web)
}

/// Adds it on a web host.
pub(super) fn want(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let Some(nginx) = agent::nginx_status(context, out)? else { return Ok(()) };
    out.package(PACKAGE)?;
    out.unit(UNIT, UnitWanted { phase: PHASE })?;
    let body = context.render("prometheus/nginx.conf", &Model { port: EXPORTER.port, nginx })?;
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/infra.conf");
    agent::file(out, &drop_in, body, Access::root(0o644), &[(UNIT, Follow::Restart)])?;
    out.probe(Probe {
        phase: PHASE,
        title: "requests of nginx are counted".into(),
        command: format!(
            "curl -q -s -m 10 --noproxy '*' 'http://127.0.0.1:{}/metrics' | grep -q '^nginx_up 1$' || \
             {{ echo 'the exporter gets no answer of nginx'; exit 1; }}",
            EXPORTER.port
        ),
        within: Duration::from_secs(20),
        advisory: false,
    });
    Ok(())
}

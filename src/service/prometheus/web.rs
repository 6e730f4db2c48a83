//! What nginx of a web host counts: takes a context, adds Debian's exporter. The edge counts what clients ask for; nginx counts checks of
//! the edge and of the exporter, too, and shows whether requests arrive behind the edge at all.

use std::net::SocketAddr;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Host, Role};
use crate::service::Context;
use crate::service::agent;
use crate::service::claims::Claims;
use crate::service::prometheus::{Exporter, exporter};

/// See the module.
pub(super) const EXPORTER: Exporter = Exporter { name: "nginx", port: 9113 };

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
    let look = format!(
        "curl -q -s -m 10 --noproxy '*' 'http://127.0.0.1:{}/metrics' | grep -q '^nginx_up 1$' || \
         {{ echo 'the exporter gets no answer of nginx'; exit 1; }}",
        EXPORTER.port
    );
    let counter = exporter::Program {
        package: "prometheus-nginx-exporter",
        start: "prometheus/nginx.conf",
        works: "requests of nginx are counted".into(),
        look,
        within: 20,
    };
    exporter::exporter(context, counter, &Model { port: EXPORTER.port, nginx }, out)
}

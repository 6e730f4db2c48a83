//! Measures of the database server of a db host: takes a context, adds Debian's exporter, which logs in as the account that the
//! database makes for it (`infra_monitor`).

use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Host, Role, Site};
use crate::plan::state::{Access, Follow, Probe, UnitWanted};
use crate::service::Context;
use crate::service::agent::{self, PHASE};
use crate::service::claims::Claims;
use crate::service::prometheus::Exporter;

/// See the module.
pub(super) const EXPORTER: Exporter = Exporter { name: "mysqld", port: 9104 };

const UNIT: &str = "prometheus-mysqld-exporter.service";
const CREDENTIALS: &str = "/etc/infra/mysqld-exporter.cnf";
const USER: &str = "infra_monitor";

#[derive(Serialize)]
struct Model {
    user: &'static str,
    config: &'static str,
    port: u16,
}

/// Whether a host has such a server.
pub(super) fn is_on(site: &Site, host: &Host) -> bool {
    site.database.is_some() && host.has(Role::Db)
}

/// Adds it on a db host.
pub(super) fn want(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    if !is_on(context.site, context.host) {
        return Ok(());
    }
    out.package("prometheus-mysqld-exporter")?;
    out.unit(UNIT, UnitWanted { phase: PHASE })?;
    let model = Model { user: USER, config: CREDENTIALS, port: EXPORTER.port };
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/infra.conf");
    let secret = Access { owner: "root".into(), group: "prometheus".into(), mode: 0o640 };
    for (path, template, access) in [
        (drop_in.as_str(), "prometheus/mysqld.conf", Access::root(0o644)),
        (CREDENTIALS, "prometheus/mysqld.cnf", secret),
    ] {
        agent::file(out, path, context.render(template, &model)?, access, &[(UNIT, Follow::Restart)])?;
    }
    out.probe(Probe {
        phase: PHASE,
        title: "the database is measured".into(),
        // Debian 12's says in one figure whether all was collected, later ones in one for each collector.
        command: format!(
            "curl -q -s -m 10 --noproxy '*' 'http://127.0.0.1:{}/metrics' | awk '\
             $1 == \"mysql_up\" {{ up = $2 }}\n\
             $1 == \"mysql_exporter_last_scrape_error\" && $2 != 0 || /^mysql_exporter_collector_success/ && $2 != 1 {{ bad = 1; print }}\n\
             END {{ if (up != 1) print \"the exporter does not get into the database\"; exit up != 1 || bad }}'",
            EXPORTER.port
        ),
        within: Duration::from_secs(30),
        advisory: false,
    });
    Ok(())
}

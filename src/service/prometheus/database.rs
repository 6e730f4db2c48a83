//! Measures of the database server of a db host: takes a context, adds Debian's exporter, which logs in as the account that the
//! database makes for it (`infra_monitor`).

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Host, Role, Site};
use crate::plan::state::{Access, Follow};
use crate::service::Context;
use crate::service::agent;
use crate::service::claims::Claims;
use crate::service::prometheus::{Exporter, exporter};

/// See the module.
pub(super) const EXPORTER: Exporter = Exporter { name: "mysqld", port: 9104 };

const CREDENTIALS: &str = "/etc/infra/mysqld-exporter.cnf";

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
    let model = Model { user: agent::MONITOR, config: CREDENTIALS, port: EXPORTER.port };
    let secret = Access { owner: "root".into(), group: "prometheus".into(), mode: 0o640 };
    let credentials = context.render("prometheus/mysqld.cnf", &model)?;
    agent::file(out, CREDENTIALS, credentials, secret, &[(agent::MYSQLD_EXPORTER, Follow::Restart)])?;
    // Debian 12's says in one figure whether all was collected, later ones in one for each collector.
    let look = format!(
        "curl -q -s -m 10 --noproxy '*' 'http://127.0.0.1:{}/metrics' | awk '\
         $1 == \"mysql_up\" {{ up = $2 }}\n\
         $1 == \"mysql_exporter_last_scrape_error\" && $2 != 0 || /^mysql_exporter_collector_success/ && $2 != 1 {{ bad = 1; print }}\n\
         END {{ if (up != 1) print \"the exporter does not get into the database\"; exit up != 1 || bad }}'",
        EXPORTER.port
    );
    let measurer = exporter::Program {
        package: "prometheus-mysqld-exporter",
        start: "prometheus/mysqld.conf",
        works: "the database is measured".into(),
        look,
        within: 30,
    };
    exporter::exporter(context, measurer, &model, out)
}

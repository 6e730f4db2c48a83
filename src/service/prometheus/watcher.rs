//! Prometheus on a host that watches: takes a context, adds its configuration with a target for each source of each host, the
//! rules of the alerts, and the certificate by which the hosts know it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::secret::sentinel;
use crate::inventory::alerts::table;
use crate::plan::state::{Access, Check, File, Folder, Follow, Probe, UnitWanted};
use crate::service::Context;
use crate::service::agent::{self, PHASE};
use crate::service::alerts;
use crate::service::claims::Claims;
use crate::service::prometheus::NAME;
use crate::service::prometheus::beside::{self, Ask};
use crate::service::prometheus::targets::{Target, of_watcher};

const UNIT: &str = "prometheus.service";
pub(super) const CONFIG: &str = "/etc/prometheus/infra.yml";
const RULES: &str = "/etc/prometheus/infra-alerts.yml";
const FOLDER: &str = "/etc/prometheus/infra";

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    host: &'a str,
    config: &'a str,
    rules: &'a str,
    folder: &'a str,
    targets: Vec<Target<'a>>,
    asks: Vec<Ask<'a>>,
}

/// It reads them as the user `prometheus`.
fn access(mode: u32) -> Access {
    Access { owner: "root".into(), group: "prometheus".into(), mode }
}

/// Adds it.
pub(super) fn want(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let (site, host) = (context.site, context.host);
    out.package("prometheus")?;
    out.unit(UNIT, UnitWanted { phase: PHASE })?;
    out.folder(FOLDER, Folder { phase: PHASE, access: access(0o750) })?;
    let id = CertificateId::Hop { host: host.name.clone(), purpose: Purpose::Client };
    let materials = [
        ("ca.crt", Material::HopAuthorities),
        ("client.crt", Material::Certificate(id.clone())),
        ("client.key", Material::Key(id)),
    ];
    for (name, material) in materials {
        let about = context.materials.about(&material).map(ToOwned::to_owned);
        let body = context.body(sentinel(&material))?;
        // It reads them anew for each connection: nothing has to follow.
        let then = BTreeMap::new();
        out.file(
            &format!("{FOLDER}/{name}"),
            File { service: NAME, phase: PHASE, access: access(0o640), body, then, about },
        )?;
    }
    let model = Model {
        name: site.name.as_str(),
        host: host.name.as_str(),
        config: CONFIG,
        rules: RULES,
        folder: FOLDER,
        targets: of_watcher(site, host),
        asks: beside::want(context, out)?,
    };
    let rules = alerts::prometheus::rules(&table()?.of(site), site.name.as_str());
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/infra.conf");
    for (path, body, follow) in [
        (CONFIG, context.render("prometheus/prometheus.yml", &model)?, Follow::Reload),
        (RULES, context.body(rules)?, Follow::Reload),
        (drop_in.as_str(), context.render("prometheus/prometheus.conf", &model)?, Follow::Restart),
    ] {
        agent::file(out, path, body, Access::root(0o644), &[(UNIT, follow)])?;
    }
    out.check(Check { title: "promtool check config".into(), command: format!("promtool check config {CONFIG}") });
    probes(&model, out);
    Ok(())
}

fn probes(model: &Model<'_>, out: &mut Claims) {
    let mut add = |title: &str, command: String, within, advisory| {
        let within = Duration::from_secs(within);
        out.probe(Probe { phase: PHASE, title: title.into(), command: command.into(), within, advisory });
    };
    let ask = "curl -q -s -m 5 --noproxy '*' http://127.0.0.1:9090";
    add(
        "Prometheus is ready, with this configuration",
        format!(
            "{ask}/-/ready | grep -q Ready || {{ echo 'it is not ready'; exit 1; }}\n\
             {ask}/metrics | grep -q '^prometheus_config_last_reload_successful 1$' || {{ echo 'it did not take its configuration'; exit 1; }}"
        ),
        60,
        false,
    );
    // A host that is away is a matter of that host.
    add(
        "every target answers",
        format!(
            "up=$({ask}/api/v1/query --data-urlencode 'query=count(up == 1)' | sed -n 's/.*\"value\":\\[[^,]*,\"\\([0-9]*\\)\".*/\\1/p')\n\
             [ \"${{up:-0}}\" = {} ] || {{ echo \"${{up:-0}} of {} do\"; exit 1; }}",
            model.targets.len() + model.asks.len() + 1,
            model.targets.len() + model.asks.len() + 1
        ),
        60,
        true,
    );
}

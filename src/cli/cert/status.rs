//! `cert status`: every certificate at every place where it should be seen. It makes and changes nothing.

use time::OffsetDateTime;

use crate::cli::global::{Global, Inventory};
use crate::cli::stop::Done;
use crate::cli::{exit, stages};
use crate::fleet::{certificates, served};
use crate::pki::known;
use crate::report::Reporter;
use crate::service::Services;

pub(super) fn run(inventory: &Inventory, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let hosts = stages::selected(&site, global)?;
    let templates = stages::templates(services, &site, reporter)?;
    let now = OffsetDateTime::now_utc();
    let overview = known::known(&site, &site.state, now)?;
    let mut spots = stages::offline(&site, &templates, reporter, |host, desired| served::spots(&site, host, &desired))?;
    spots.retain(|host, _| hosts.contains(host));
    let connector = stages::connector((reporter, global), &site, &hosts);
    let answers = served::look(&site, spots, &connector, global.at_once());
    let view = certificates::judge(overview, answers, now.unix_timestamp());
    reporter.certificates(&site, &view)?;
    Ok(if view.good() { exit::DONE } else { exit::FAILED })
}

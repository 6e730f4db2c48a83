//! `cert status`: every certificate at every place where it should be seen. It makes and changes nothing.

use time::OffsetDateTime;

use crate::cli::args::{Global, Inventory};
use crate::cli::order::store_error;
use crate::cli::{Done, exit, stages};
use crate::fleet::{certificates, served};
use crate::pki::known;
use crate::report::Reporter;

pub(super) fn run(inventory: &Inventory, global: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    stages::unbuilt(&site)?;
    let hosts = stages::selected(&site, global)?;
    let templates = stages::templates(&site, reporter)?;
    let now = OffsetDateTime::now_utc();
    let overview = known::known(&site, &site.state, now).map_err(|e| store_error(&e))?;
    let mut spots = stages::offline(&site, &templates, |host, desired| served::spots(&site, host, &desired))?;
    spots.retain(|host, _| hosts.contains(host));
    let connector = stages::connector(reporter);
    let answers = served::look(&site, spots, &connector, global.parallel.get());
    let view = certificates::judge(overview, answers, now.unix_timestamp());
    reporter.certificates(&site, &view)?;
    Ok(if view.good() { exit::DONE } else { exit::FAILED })
}

//! `db status`: every host of the group, as it is. It changes nothing.

use time::OffsetDateTime;

use super::Look;
use crate::cli::global::{Global, Inventory};
use crate::cli::stop::Done;
use crate::cli::{exit, stages};
use crate::report::Reporter;
use crate::service::Services;
use crate::service::database::status::View;

pub(super) fn run(inventory: &Inventory, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let database = super::database(&site)?;
    let look = Look::new(&site, global, services, reporter);
    let kept = look.kept()?;
    let survey = look.at(&super::group(&site));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let view = View::of(&site, database, &survey.observed, &survey.away(), &kept, now);
    reporter.database(&site, &view)?;
    Ok(match (view.good(), survey.away().is_empty()) {
        (true, _) => exit::DONE,
        (false, false) => exit::UNREACHABLE,
        (false, true) => exit::FAILED,
    })
}

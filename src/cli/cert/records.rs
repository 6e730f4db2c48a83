//! `cert records`: what belongs into the zone about the certificates. Nothing is asked, and nothing is made.

use crate::cli::global::Inventory;
use crate::cli::stop::Done;
use crate::cli::{exit, stages};
use crate::pki::records;
use crate::report::line::Line;
use crate::report::{Reporter, zone};

pub(super) fn run(inventory: &Inventory, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let all = records::records(&site, &site.state)?;
    if reporter.is_json() {
        all.iter().try_for_each(|records| reporter.line(&Line::Records(records)))?;
    } else {
        reporter.data(&zone::draw(&all))?;
    }
    Ok(exit::DONE)
}

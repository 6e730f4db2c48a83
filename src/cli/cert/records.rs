//! `cert records`: what belongs into the zone about the certificates. Nothing is asked, and nothing is made.

use crate::cli::args::Inventory;
use crate::cli::order::store_error;
use crate::cli::{Done, exit, stages};
use crate::pki::records;
use crate::report::{Reporter, zone};

pub(super) fn run(inventory: &Inventory, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let all = records::records(&site, &site.state).map_err(|e| store_error(&e))?;
    if reporter.is_json() {
        all.iter().try_for_each(|records| reporter.line(&zone::event(records)))?;
    } else {
        reporter.data(&zone::draw(&all))?;
    }
    Ok(exit::DONE)
}

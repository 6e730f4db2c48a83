//! Inventories in, messages out: every file of `inventories/bad/` against its exact words.

use std::path::Path;

use infra::base::diagnostic::draw;
use infra::inventory::load::load;

#[test]
fn the_whole_example_loads() {
    match load(Path::new("tests/inventory/whole.yml")) {
        Ok((site, warnings)) => {
            assert_eq!(draw(&warnings, false), "");
            assert_eq!(site.hosts.len(), 8);
        }
        Err(diagnostics) => panic!("{}", draw(&diagnostics, false)),
    }
}

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

#[test]
fn the_three_inventories_load() {
    for name in ["reference", "single", "three-tier"] {
        let path = format!("inventories/{name}.yml");
        match load(Path::new(&path)) {
            Ok((_, warnings)) => assert_eq!(draw(&warnings, false), "", "{path}"),
            Err(diagnostics) => panic!("{}", draw(&diagnostics, false)),
        }
    }
}

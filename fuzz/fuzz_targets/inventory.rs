//! Any text as an inventory: a site or diagnostics, drawn in both ways, and never a panic.
#![no_main]

use std::path::Path;

use infra::base::diagnostic::{Diagnostic, draw};
use infra::inventory::load::load_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    // A folder that is not there: includes are looked for, and never found.
    match load_text(&text, Path::new("/nonexistent/inventory.yml")) {
        Ok((site, warnings)) => {
            assert!(!site.hosts.is_empty() && !site.firewall.manage_from.is_empty());
            draw(&warnings, false);
        }
        Err(diagnostics) => {
            assert!(diagnostics.iter().any(Diagnostic::is_error));
            draw(&diagnostics, false);
            draw(&diagnostics, true);
        }
    }
});

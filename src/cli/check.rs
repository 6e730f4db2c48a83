//! `check`: everything that can be known without touching a host.

use super::args::{Global, Inventory};
use super::{Done, not_built};
use crate::report::Reporter;

// The flow, to be wired:
// 1. load and resolve the inventory; all diagnostics at once → `Stop::Input`.
// 2. desire(site, no facts, …) with made-up materials: templates and models; diagnostics → `Stop::Input`.
// 3. the firewall's own lints (lock-out, wide `manage_from`), warnings → `reporter.diagnostics`.
// 4. `reporter.data`: one line, `inventory.yml is well: 8 hosts, 41 flows, 2 warnings`; `exit::DONE`.
pub(super) fn run(_: &Inventory, _: &Global, _: &Reporter) -> Done {
    not_built("check")
}

//! `firewall …`: who may talk to whom, as derived, why, and as measured.

use super::args::{Firewall, Global};
use super::{Done, not_built};
use crate::report::Reporter;

// The flow, to be wired: load and resolve; then
// - matrix: the flows of `service::firewall` as a table by `reporter.data`, as JSON by `reporter.line`.
// - explain: the flow, its inventory line, the rule on both hosts; exit 0 where allowed, 1 where not.
// - verify: every pair measured on the hosts; exit 0 where measured and declared are the same set, 1 where not.
pub(super) fn run(firewall: &Firewall, _: &Global, _: &Reporter) -> Done {
    match firewall {
        Firewall::Matrix(_) => not_built("firewall matrix"),
        Firewall::Explain(_) => not_built("firewall explain"),
        Firewall::Verify(_) => not_built("firewall verify"),
    }
}

//! `diff`: the plan against the live hosts, shown and perhaps kept in a file.

use super::args::{Diff, Global};
use super::{Done, not_built};
use crate::report::Reporter;

// The flow, to be wired:
// 1. load, resolve, select the hosts.
// 2. `reporter.during(&Interrupt::default(), |events| observe(…, &events))`; hosts that do not answer are told by the events.
// 3. plan; `reporter.plan(&site, &plan)`; `--out FILE` keeps it with the fingerprints (0600).
// 4. unreachable hosts: `Stop::Unreachable` after the plan of the others was shown; changes: `exit::PENDING`; else `exit::DONE`.
pub(super) fn run(_: &Diff, _: &Global, _: &Reporter) -> Done {
    not_built("diff")
}

//! `drain:`, how long a run waits for what is still used: takes the tree, gives a duration, reports what is none.

use std::time::Duration;

use crate::inventory::read::{Fields, Problems};

/// Where nothing is said: three times what a visitor's connection is kept idle at the edge.
const USUAL: Duration = Duration::from_secs(30);
/// The templates' own limit for workers of before a reload (`hard-stop-after`, `worker_shutdown_timeout`): none lives longer.
const LONGEST: Duration = Duration::from_mins(5);

/// Reads `drain:`; `None` where it is wrong.
pub(super) fn drain(root: Fields<'_>, problems: &mut Problems) -> Option<Duration> {
    let Some(node) = root.value("drain") else { return Some(USUAL) };
    let why = ": after that time daemons end the connections that are left from before a reload";
    problems.duration(node, "drain", Duration::ZERO..=LONGEST, why)
}

//! `render`: every file of every host as it would be pushed, under a folder.

use super::args::{Global, Render};
use super::{Done, not_built};
use crate::report::Reporter;

// The flow, to be wired:
// 1. load, resolve, select the hosts by `--limit`.
// 2. desire with the facts of the oldest release; texts by `secret::display`.
// 3. write `DIR/HOST/PATH` with `fsx::write_atomic`; refuse a DIR that holds something else than an earlier rendering.
// 4. `reporter.data`: the paths, one a line.
pub(super) fn run(_: &Render, _: &Global, _: &Reporter) -> Done {
    not_built("render")
}

//! `trust`: a host's SSH key is accepted after a person has compared its fingerprint.

use super::args::{Global, Trust};
use super::{Done, not_built};
use crate::report::Reporter;

// The flow, to be wired: load, resolve, find the host (unknown: `Limit`'s own error); connect as far as the key; show its
// fingerprint; with `--fingerprint` compare, else `prompt::confirm`; write the line to known_hosts.
pub(super) fn run(_: &Trust, _: &Global, _: &Reporter) -> Done {
    not_built("trust")
}

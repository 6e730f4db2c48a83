//! `lab …`: a twin of the inventory on this machine.

use super::args::{Global, Lab};
use super::{Done, not_built};
use crate::report::Reporter;

// The flow, to be wired over `lab::`: requirements (named, or installed with `--install`), then up, exec (the command's own exit
// code is ours), ssh-config on stdout, status, down, and demo = up, apply, a page over HTTPS from `outside`, matrix, apply again.
pub(super) fn run(lab: &Lab, _: &Global, _: &Reporter) -> Done {
    not_built(match lab {
        Lab::Up(_) => "lab up",
        Lab::Exec(_) => "lab exec",
        Lab::SshConfig(_) => "lab ssh-config",
        Lab::Status(_) => "lab status",
        Lab::Down(_) => "lab down",
        Lab::Demo(_) => "lab demo",
    })
}

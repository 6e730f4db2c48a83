//! What the machine allows this process: takes the limits that it was started with, raises those that stand in the way of many hosts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most open files that are asked for, where the machine sets no bound.
const FILES: u64 = 1 << 20;

/// Each host that is worked on takes an open file, and a jump two more. The usual soft limit of 1,024 is there for programs that use
/// `select`(2), which none here does; the hard one stays.
pub(super) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(FILES).min(FILES);
    if current.is_some_and(|current| current < most) {
        // Where it is refused, the limit is as before.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    }
}

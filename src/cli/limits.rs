//! What the machine allows this process: takes the limits that it was started with, raises those that stand in the way of many hosts,
//! and tells where that is not enough.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fleet::files::{Files, Share};
use crate::report::text::count;

/// Most open files that are asked for, where the machine sets no bound.
const MOST: u64 = 1 << 20;

/// What stands open when a program begins: its input and both outputs.
const USUAL: usize = 3;

/// The files that whoever has started this process has left open in it, beside the usual ones.
static INHERITED: OnceLock<usize> = OnceLock::new();

fn inherited() -> usize {
    INHERITED.get().copied().unwrap_or_default()
}

/// The files that this process may have open.
pub(super) fn files() -> Files {
    let most = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    Files::of(most.saturating_sub(inherited()))
}

/// How a run on hosts of which connections keep `held` files shares them out, where it would work on `at_once` hosts at the same time.
///
/// # Errors
/// A sentence and what to do, where not all of the hosts could be held and logged in to once more.
pub(super) fn share(files: Files, hosts: usize, held: usize, at_once: usize) -> Result<Share, (String, String)> {
    files.beside(held, at_once).ok_or_else(|| {
        // As a person counts them, who sets the limit.
        let with_inherited = |files: usize| files.saturating_add(inherited());
        let (needed, well) = (with_inherited(Files::enough(held, 1)), with_inherited(Files::enough(held, at_once)));
        let words = format!(
            "this machine lets infra open {}, and a run that changes {} takes at least {needed}: it holds each of them by a connection, \
             and has to log in once more to confirm new rules; nothing was done",
            count(with_inherited(files.most()), "file"),
            count(hosts, "host")
        );
        (words, format!("raise the limit (`ulimit -n {well}`), or go to fewer hosts at a time with `--limit`"))
    })
}

/// Each host that is worked on takes an open file, and a jump one more. The usual soft limit of 1,024 is there for programs that use
/// `select`(2), which none here does; the hard one stays.
pub(super) fn raise() {
    // One of them is the folder that is read.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    INHERITED.get_or_init(|| open.saturating_sub(USUAL + 1));
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(MOST).min(MOST);
    if current.is_some_and(|current| current < most) {
        // Where it is refused, the limit is as before.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_too_few_files_for_all_hosts_is_told_before() {
        assert!(share(Files::of(64), 25, 25, 32).is_ok() && share(Files::of(1 << 20), 1000, 2000, 32).is_ok());
        let (words, help) = share(Files::of(128), 90, 90, 4).unwrap_err();
        assert!(words.contains("open 128 files") && words.contains("at least 129"), "{words}");
        assert!(help.contains("`ulimit -n 150`") && help.contains("--limit"), "{help}");
    }
}

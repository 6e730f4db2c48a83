//! What the machine allows this process: takes the limits that it was started with, raises those that stand in the way of many hosts,
//! and tells where that is not enough.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::report::text::count;

/// Most open files that are asked for, where the machine sets no bound.
const FILES: u64 = 1 << 20;

/// Open files beside those of the hosts: what is written, a terminal, what `ssh` is asked.
const BESIDE: usize = 64;

/// What a person should know before a run that keeps a connection to each of so many hosts; nothing where that works.
pub(super) fn short(hosts: usize) -> Option<String> {
    told(hosts, getrlimit(Resource::Nofile).current?)
}

fn told(hosts: usize, most: u64) -> Option<String> {
    let needed = hosts + BESIDE;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    (most < needed).then(|| {
        format!(
            "warning: this machine lets infra open {}, and a run on {} keeps about {needed} open: not all hosts will be \
             reached; raise the limit (`ulimit -n {needed}`), or go to fewer hosts at a time with `--limit`",
            count(most, "file"),
            count(hosts, "host")
        )
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_too_few_files_for_all_hosts_is_told_before() {
        assert_eq!((told(192, 256), told(1000, 1 << 20)), (None, None));
        let words = told(193, 256).unwrap();
        assert!(words.contains("open 256 files") && words.contains("`ulimit -n 257`"), "{words}");
    }
}

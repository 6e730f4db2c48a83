//! What the machine allows this process: takes the limits that it was started with, raises those that stand in the way of many hosts,
//! and tells where that is not enough.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::report::text::count;

/// Most open files that are asked for, where the machine sets no bound.
const FILES: u64 = 1 << 20;

/// Open files beside those of the hosts: what is read and written, a terminal, what `ssh` is asked.
const BESIDE: usize = 32;

/// What opening a connection takes at most: through a jump a socket with both ends, and what its command says and is started by.
const OPENING: usize = 6;

/// More connections are not kept while nobody asks over them, as each takes memory on both sides.
const KEPT: usize = 64;

/// Files beside those of hosts that are locked.
const SPARE: usize = 64;

/// How many files this process may have open.
fn most() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

/// Most hosts to which connections may be opened at the same time.
pub(super) fn at_once() -> usize {
    opened_by(most())
}

fn opened_by(most: usize) -> usize {
    (most.saturating_sub(BESIDE) / OPENING).max(1)
}

/// How many files connections may keep while nobody asks over them, beside those to so many hosts that are opened at the same time.
pub(super) fn kept(at_once: usize) -> usize {
    kept_of(most(), at_once)
}

fn kept_of(most: usize, at_once: usize) -> usize {
    most.saturating_sub(BESIDE).saturating_sub(at_once.saturating_mul(OPENING)).min(KEPT)
}

/// What a person should know before a run that holds the locks of so many hosts, each by its connection; nothing where that works.
pub(super) fn short(hosts: usize) -> Option<String> {
    told(hosts, most())
}

fn told(hosts: usize, most: usize) -> Option<String> {
    let needed = hosts + SPARE;
    (most < needed).then(|| {
        format!(
            "warning: this machine lets infra open {}, and a run that changes {} keeps about {needed} open: not all hosts will be \
             reached; raise the limit (`ulimit -n {needed}`), or go to fewer hosts at a time with `--limit`",
            count(most, "file"),
            count(hosts, "host")
        )
    })
}

/// Each host that is worked on takes an open file, and a jump one more. The usual soft limit of 1,024 is there for programs that use
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
    fn few_files_are_kept_for_what_is_opened() {
        for (most, at_once, kept) in
            [(16, 1, 0), (64, 5, 2), (256, 32, 32), (256, 37, 2), (1024, 32, 64), (300, 32, 64)]
        {
            assert_eq!(kept_of(most, at_once), kept);
            assert!(opened_by(most) >= at_once && opened_by(most) * OPENING <= most.max(OPENING));
        }
        assert_eq!(kept_of(usize::MAX, 256), KEPT);
    }

    #[test]
    fn who_has_too_few_files_for_all_hosts_is_told_before() {
        assert_eq!((told(192, 256), told(1000, 1 << 20)), (None, None));
        let words = told(193, 256).unwrap();
        assert!(words.contains("open 256 files") && words.contains("`ulimit -n 257`"), "{words}");
    }
}

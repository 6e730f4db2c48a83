//! Work on many hosts at once: takes a list, a bound and what to do with one, gives the results in the list's order.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::base::net::Invalid;

/// A host's thread holds no deep recursion; libssh2 and a tar header fit well.
const STACK: usize = 512 * 1024;

/// Does `work` on every item, at most `parallel` at a time; with 1 in order. Threads, because hosts, agents and disks bind
/// long before threads do.
pub fn each<T: Send, R: Send>(items: Vec<T>, parallel: usize, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = parallel.clamp(1, items.len().max(1));
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    {
        let queue = Mutex::new(items.into_iter().zip(results.iter_mut()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || {
            while let Some((item, slot)) = next() {
                *slot = Some(work(item));
            }
        };
        if threads == 1 {
            worker();
        } else {
            std::thread::scope(|scope| {
                let spawned: Vec<_> = (1..threads)
                    .filter_map(|_| std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, worker).ok())
                    .collect();
                // This thread works too, so that a refused thread costs time and nothing else.
                worker();
                drop(spawned);
            });
        }
    }
    results.into_iter().flatten().collect()
}

/// How many hosts of a phase change at the same time: `4`, `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// So many.
    Hosts(NonZeroUsize),
    /// Such a share of them, 1 to 100.
    Percent(u8),
}

impl Wave {
    /// One host after the other.
    pub const ONE: Self = Self::Hosts(NonZeroUsize::MIN);

    /// The size of a wave among `hosts`, rounded up; at least 1.
    pub fn size(self, hosts: usize) -> usize {
        match self {
            Self::Hosts(count) => count.get(),
            Self::Percent(share) => (hosts * usize::from(share)).div_ceil(100).max(1),
        }
    }
}

impl FromStr for Wave {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("write a number of hosts from 1, or a share such as `25%`");
        match text.strip_suffix('%') {
            Some(share) => {
                let share = share.parse().ok().filter(|p| (1..=100).contains(p));
                share.map(Self::Percent).ok_or_else(wrong)
            }
            None => text.parse().map(Self::Hosts).map_err(|_| wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        for parallel in [1, 3, 100] {
            let out = each((0..50).collect(), parallel, |n: u32| n * 2);
            assert_eq!(out, (0..50).map(|n| n * 2).collect::<Vec<_>>());
        }
        assert!(each(Vec::<u32>::new(), 4, |n| n).is_empty());
    }

    #[test]
    fn a_wave_is_never_empty() {
        let size = |text: &str, hosts| text.parse::<Wave>().map(|wave| wave.size(hosts));
        assert_eq!(size("10%", 3), Ok(1));
        assert_eq!(size("25%", 10), Ok(3));
        assert_eq!(size("1%", 0), Ok(1));
        assert_eq!(size("4", 2), Ok(4));
        for wrong in ["0", "0%", "101%", "-1", "many", ""] {
            assert!(size(wrong, 3).is_err(), "{wrong}");
        }
    }
}

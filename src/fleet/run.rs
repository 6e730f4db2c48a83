//! Work on many hosts at once: takes a list, a bound and what to do with one, gives the results in the list's order.

use std::sync::{Mutex, PoisonError};

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

/// How many hosts of a phase go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// So many.
    Count(usize),
    /// So many in a hundred, at least one.
    Percent(usize),
}

impl Wave {
    /// The size of a wave of `hosts` hosts; at least 1.
    pub fn size(self, hosts: usize) -> usize {
        match self {
            Self::Count(count) => count.max(1),
            Self::Percent(percent) => (hosts * percent).div_ceil(100).max(1),
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
        assert_eq!(Wave::Percent(10).size(3), 1);
        assert_eq!(Wave::Percent(10).size(25), 3);
        assert_eq!(Wave::Count(0).size(3), 1);
    }
}

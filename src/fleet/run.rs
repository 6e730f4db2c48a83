//! Work on many hosts at once: takes a list, a bound and what to do with one, gives the results in the list's order.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use crate::base::net::Invalid;

/// A host's thread holds no deep recursion; libssh2 and a tar header fit well.
const STACK: usize = 512 * 1024;

/// Does `work` on every item, at most `parallel` at a time; with 1 in order. Threads, because hosts, agents and disks bind
/// long before threads do.
pub fn each<T: Send, R: Send>(items: Vec<T>, parallel: usize, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    each_of_more(items, || parallel, work)
}

/// As [`each`], where the bound may grow while it works; it is asked again after each item.
pub fn each_of_more<T: Send, R: Send>(
    items: Vec<T>,
    parallel: impl Fn() -> usize + Sync,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let all = items.len();
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let crew = Crew { queue: Mutex::new(items.into_iter().zip(results.iter_mut())), hands: AtomicUsize::new(1) };
    if parallel() <= 1 || all <= 1 {
        // In order, and in this thread.
        while let Some((item, slot)) = crew.next() {
            *slot = Some(work(item));
        }
    } else {
        std::thread::scope(|scope| {
            crew.grow(scope, all, &parallel, &work);
            // This thread works too, so that a refused thread costs time and nothing else.
            crew.work(scope, all, &parallel, &work);
        });
    }
    drop(crew);
    results.into_iter().flatten().collect()
}

/// Those who work on a list.
struct Crew<I> {
    queue: Mutex<I>,
    hands: AtomicUsize,
}

impl<'i, T: Send + 'i, R: Send + 'i, I: Iterator<Item = (T, &'i mut Option<R>)> + Send> Crew<I> {
    fn next(&self) -> Option<(T, &'i mut Option<R>)> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// As many threads as the bound allows and items could need.
    fn grow<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        all: usize,
        parallel: &'s (impl Fn() -> usize + Sync),
        work: &'s (impl Fn(T) -> R + Sync),
    ) {
        let most = parallel().min(all);
        let one_more = |hands: usize| (hands < most).then_some(hands + 1);
        while self.hands.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            let hand = std::thread::Builder::new().stack_size(STACK);
            if hand.spawn_scoped(scope, move || self.work(scope, all, parallel, work)).is_err() {
                self.hands.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
    }

    fn work<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        all: usize,
        parallel: &'s (impl Fn() -> usize + Sync),
        work: &'s (impl Fn(T) -> R + Sync),
    ) {
        while let Some((item, slot)) = self.next() {
            *slot = Some(work(item));
            self.grow(scope, all, parallel, work);
        }
    }
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
    use std::time::{Duration, Instant};

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
    fn a_bound_that_grows_is_followed() {
        let (started, inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let deadline = Instant::now() + Duration::from_secs(20);
        let out = each_of_more(
            (0..11).collect(),
            || if started.load(Ordering::SeqCst) < 3 { 2 } else { 8 },
            |n: u32| {
                started.fetch_add(1, Ordering::SeqCst);
                inside.fetch_add(u32::from(n >= 3) as usize, Ordering::SeqCst);
                // All from the fourth on wait for one another, which two hands alone never see.
                while n >= 3 && inside.load(Ordering::SeqCst) < 8 && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                (n, n < 3 || inside.load(Ordering::SeqCst) == 8)
            },
        );
        assert_eq!(out, (0..11).map(|n| (n, true)).collect::<Vec<_>>());
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

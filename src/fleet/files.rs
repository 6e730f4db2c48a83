//! How many descriptors a run takes: takes how many this process may have open, gives how many hosts are worked on at the same time,
//! and what connections may keep meanwhile. Pure.

use crate::host::reach;

/// Open files beside those of the hosts: what is read and written, a terminal, what `ssh` is asked.
const BESIDE: usize = 32;

/// What opening a connection takes at most: through a jump a socket with both ends, and what its command says and is started by; a key
/// and an agent.
const OPENING: usize = 7;

/// A host that is worked on opens connections by TCP or one by SSH, and where the first do not get in, both: they are as few as that.
const _: () = assert!(reach::TOGETHER + 2 <= OPENING);

/// More connections are not kept while nobody asks over them, as each takes memory on both sides.
const KEPT: usize = 64;

/// The descriptors that this process may have.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    most: usize,
}

/// How a run that holds hosts shares them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// So many hosts are worked on at the same time: each of them has what a new login takes.
    pub at_once: usize,
    /// So many are kept by connections over which nobody asks.
    pub kept: usize,
}

impl Files {
    /// Takes how many there may be, without those that are others' in this process.
    pub fn of(most: usize) -> Self {
        Self { most }
    }

    /// How many there may be.
    pub fn most(self) -> usize {
        self.most
    }

    /// Most hosts to which connections may be opened at the same time.
    pub fn at_once(self) -> usize {
        (self.most.saturating_sub(BESIDE) / OPENING).max(1)
    }

    /// How many connections may keep while nobody asks over them, beside those to so many hosts that are opened at the same time.
    pub fn kept(self, at_once: usize) -> usize {
        self.most.saturating_sub(BESIDE).saturating_sub(at_once.saturating_mul(OPENING)).min(KEPT)
    }

    /// How a run shares them out of which connections keep `held` to its end, where it would work on `at_once` hosts at the same time;
    /// nothing where not even one of them could be logged in to once more, by which alone new rules are confirmed.
    pub fn beside(self, held: usize, at_once: usize) -> Option<Share> {
        let left = self.most.checked_sub(BESIDE)?.checked_sub(held)?;
        let at_once = at_once.min(left / OPENING);
        (at_once > 0).then(|| Share { at_once, kept: (left - at_once * OPENING).min(KEPT) })
    }

    /// As few as suffice for a run of which connections keep `held`, that works on `at_once` hosts at the same time.
    pub fn enough(held: usize, at_once: usize) -> usize {
        BESIDE + held + at_once * OPENING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_kept_for_what_is_opened() {
        for (most, at_once, kept) in
            [(16, 1, 0), (64, 4, 4), (256, 32, 0), (256, 20, 64), (1024, 32, 64), (300, 32, 44)]
        {
            let files = Files::of(most);
            assert_eq!(files.kept(at_once), kept, "{most} {at_once}");
            assert!(files.at_once() * OPENING <= most.max(OPENING));
        }
        assert_eq!(Files::of(usize::MAX).kept(256), KEPT);
        assert_eq!(Files::of(256).at_once(), 32);
    }

    #[test]
    fn a_new_login_fits_beside_all_hosts_that_are_held() {
        for (most, held, at_once) in
            [(64, 6, Some(3)), (64, 25, Some(1)), (64, 26, None), (128, 60, Some(5)), (128, 90, None), (31, 0, None)]
        {
            let share = Files::of(most).beside(held, 32);
            assert_eq!(share.map(|share| share.at_once), at_once, "{most} {held}");
            assert!(share.is_none_or(|share| Files::enough(held, share.at_once) + share.kept <= most));
        }
        let share = Files::of(1 << 20).beside(1000, 32);
        assert_eq!(share, Some(Share { at_once: 32, kept: KEPT }));
        assert!(Files::of(Files::enough(1000, 1)).beside(1000, 32).is_some());
    }
}

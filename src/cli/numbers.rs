//! Numbers on the command line: takes a word, gives the number, or what to write instead in words that say the bounds.

use std::num::NonZeroU32;

/// The longest time that a flag may give, a week.
const LONGEST: u32 = 7 * 24 * 3600;
/// The largest number of hosts or runs.
const MOST: usize = 1_000_000;

/// Seconds that something may take.
pub(super) fn seconds(text: &str) -> Result<NonZeroU32, String> {
    let seconds: Option<NonZeroU32> = text.parse().ok().filter(|n: &NonZeroU32| n.get() <= LONGEST);
    seconds.ok_or_else(|| format!("write seconds from 1 to {LONGEST}"))
}

/// Seconds to wait, or none.
pub(super) fn pause(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("write seconds from 0 to {}", u16::MAX))
}

/// How many of something.
pub(super) fn number(text: &str) -> Result<usize, String> {
    let number: Option<usize> = text.parse().ok().filter(|n| *n <= MOST);
    number.ok_or_else(|| format!("write a number from 0 to {MOST}"))
}

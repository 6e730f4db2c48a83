//! Descriptors that are short for a moment: takes what opens one, gives what came of it when another was given back.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long is waited for one: others end a connection within this time, and nobody takes a host for silent meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until it is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens something; while this process or the whole machine has no descriptor left, again and again, for a while. That nothing could be
/// opened here says nothing of the host at the other end.
pub(super) fn patiently<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(error) if is_short(&error) && Instant::now() < until => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

fn is_short(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_waited_for_and_nothing_else() {
        for (errno, times) in [(Errno::MFILE, 3), (Errno::NFILE, 3), (Errno::CONNREFUSED, 1)] {
            let mut tried = 0;
            let opened = patiently(|| {
                tried += 1;
                if tried < 3 { Err(io::Error::from(errno)) } else { Ok(()) }
            });
            assert_eq!((tried, opened.is_ok()), (times, times == 3), "{errno}");
        }
    }
}

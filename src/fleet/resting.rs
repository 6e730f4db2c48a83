//! A connection that rests while nobody asks over it: takes how one is opened, gives a [`Transport`] that closes where descriptors are
//! short and opens again by itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::transport::{Hold, Output, Script, Transport, TransportError};

/// The descriptors that connections may keep while nobody asks over them, shared by those of a run.
#[derive(Debug)]
pub(super) struct Room {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Room {
    /// Takes how many that are.
    pub(super) fn of(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), taken: AtomicUsize::new(0) }
    }

    /// Has them keep no more than `most` from now on. What is kept already goes as the connections are asked, or rest.
    pub(super) fn shrink(&self, most: usize) {
        self.most.fetch_min(most, Ordering::Relaxed);
    }

    /// Whether more is taken than may be kept.
    fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.most.load(Ordering::Relaxed)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::of(usize::MAX)
    }
}

/// A connection that was opened.
pub(super) struct Opened {
    /// The connection.
    pub(super) transport: Box<dyn Transport>,
    /// The descriptors that it keeps.
    pub(super) files: usize,
    /// Whether a person had to answer the host for it: such an answer may hold once.
    pub(super) answered: bool,
}

/// How one is opened.
pub(super) type Open = dyn Fn() -> Result<Opened, TransportError> + Send;

/// A connection that may be closed between two scripts.
pub(super) struct Resting {
    open: Box<Open>,
    now: Option<Opened>,
    room: Arc<Room>,
    /// Whether it closes as soon as nothing more is known to be asked.
    soon: bool,
    /// What lives by the open connection.
    holds: Arc<AtomicUsize>,
}

impl fmt::Debug for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resting").field("open", &self.now.is_some()).finish_non_exhaustive()
    }
}

impl Resting {
    /// Opens the first one.
    ///
    /// # Errors
    /// As `open`.
    pub(super) fn new(open: Box<Open>, room: Arc<Room>, soon: bool) -> Result<Self, TransportError> {
        let mut resting = Self { open, now: None, room, soon, holds: Arc::default() };
        resting.opened()?;
        Ok(resting)
    }

    fn opened(&mut self) -> Result<&mut dyn Transport, TransportError> {
        let now = if let Some(now) = self.now.take() {
            now
        } else {
            let now = (self.open)()?;
            self.room.taken.fetch_add(now.files, Ordering::Relaxed);
            now
        };
        Ok(self.now.insert(now).transport.as_mut())
    }

    fn close(&mut self) {
        if let Some(Opened { transport, files, .. }) = self.now.take() {
            drop(transport);
            self.room.taken.fetch_sub(files, Ordering::Relaxed);
        }
    }

    /// Closes it, unless something lives by it, or nobody but a person could open it again.
    fn may_close(&mut self) {
        let answered = self.now.as_ref().is_some_and(|now| now.answered);
        if !answered && self.holds.load(Ordering::Relaxed) == 0 {
            self.close();
        }
    }
}

/// What a script that goes on has, with the count of those that do.
struct Counted {
    // Released before it is counted out, so that the connection does not close under it.
    hold: Option<Box<dyn Hold>>,
    holds: Arc<AtomicUsize>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.fmt(f)
    }
}

impl Hold for Counted {}

impl Drop for Counted {
    fn drop(&mut self) {
        drop(self.hold.take());
        self.holds.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transport for Resting {
    fn run_told(
        &mut self,
        script: &Script,
        stdin: &[u8],
        told: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, TransportError> {
        let output = self.opened()?.run_told(script, stdin, told)?;
        // One that failed stays as it is: it has the same answer to every further question.
        if self.room.is_full() {
            self.may_close();
        }
        Ok(output)
    }

    fn hold(&mut self, script: &Script) -> Result<(String, Box<dyn Hold>), TransportError> {
        let (line, hold) = self.opened()?.hold(script)?;
        self.holds.fetch_add(1, Ordering::Relaxed);
        Ok((line, Box::new(Counted { hold: Some(hold), holds: Arc::clone(&self.holds) })))
    }

    fn rest(&mut self) {
        if self.soon || self.room.is_full() {
            self.may_close();
        }
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Held;
    impl Hold for Held {}

    struct Echo;
    impl Transport for Echo {
        fn run_told(&mut self, script: &Script, _: &[u8], _: &mut dyn FnMut(&[u8])) -> Result<Output, TransportError> {
            match script.text.as_str() {
                "fail" => Err(TransportError::Lost("x".into())),
                text => Ok(Output { status: 0, stdout: text.into(), stderr: Vec::new() }),
            }
        }

        fn hold(&mut self, _: &Script) -> Result<(String, Box<dyn Hold>), TransportError> {
            Ok((String::new(), Box::new(Held)))
        }
    }

    fn resting(room: &Arc<Room>, opened: &Arc<AtomicUsize>, soon: bool, answered: bool) -> Resting {
        let opened = Arc::clone(opened);
        let open = move || {
            opened.fetch_add(1, Ordering::Relaxed);
            Ok(Opened { transport: Box::new(Echo), files: 2, answered })
        };
        Resting::new(Box::new(open), Arc::clone(room), soon).unwrap()
    }

    fn script(text: &str) -> Script {
        Script::new("x", text)
    }

    #[test]
    fn what_has_no_room_closes_and_opens_again_when_it_is_asked() {
        let (room, opened) = (Arc::new(Room::of(4)), Arc::default());
        let mut all: Vec<Resting> = (0..4).map(|_| resting(&room, &opened, false, false)).collect();
        for _ in 0..2 {
            for one in &mut all {
                assert_eq!(one.run(&script("a"), b"").unwrap().stdout, b"a");
            }
            assert_eq!(room.taken.load(Ordering::Relaxed), 4);
        }
        assert!(opened.load(Ordering::Relaxed) > 4);
        all.clear();
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_rests_closes_where_the_room_has_become_less() {
        let (room, opened) = (Arc::new(Room::of(8)), Arc::default());
        let mut all: Vec<Resting> = (0..4).map(|_| resting(&room, &opened, false, false)).collect();
        let (_, hold) = all[0].hold(&script("lock")).unwrap();
        for (most, left) in [(8, 8), (4, 4), (0, 2), (8, 2)] {
            room.shrink(most);
            all.iter_mut().for_each(Resting::rest);
            assert_eq!(room.taken.load(Ordering::Relaxed), left, "{most}");
        }
        drop(hold);
    }

    #[test]
    fn what_is_held_or_was_answered_by_a_person_or_has_failed_stays_open() {
        let (room, opened) = (Arc::new(Room::of(0)), Arc::default());
        let taken = || room.taken.load(Ordering::Relaxed);
        let mut answered = resting(&room, &opened, true, true);
        answered.run(&script("a"), b"").unwrap();
        answered.rest();
        assert_eq!(taken(), 2);
        let mut failed = resting(&room, &opened, false, false);
        failed.run(&script("fail"), b"").unwrap_err();
        assert_eq!(taken(), 4);
        let mut locked = resting(&room, &opened, true, false);
        let (_, hold) = locked.hold(&script("lock")).unwrap();
        locked.run(&script("a"), b"").unwrap();
        locked.rest();
        assert_eq!((taken(), opened.load(Ordering::Relaxed)), (6, 3));
        drop(hold);
        locked.run(&script("a"), b"").unwrap();
        assert_eq!((taken(), opened.load(Ordering::Relaxed)), (4, 3));
    }

    #[test]
    fn who_has_room_closes_at_rest_only_where_that_is_wished() {
        for (soon, taken) in [(false, 2), (true, 0)] {
            let (room, opened) = (Arc::new(Room::default()), Arc::default());
            let mut one = resting(&room, &opened, soon, false);
            one.run(&script("a"), b"").unwrap();
            one.rest();
            assert_eq!(room.taken.load(Ordering::Relaxed), taken);
        }
    }
}

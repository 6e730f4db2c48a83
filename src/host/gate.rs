//! The gate that bounds how many connections are being opened at once, in all and through one jump host, since sshd drops what
//! is over its `MaxStartups` (10 by default): takes a jump host's name, or that a command connects, gives a pass.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bounds simultaneous handshakes: in all, and through one jump host.
#[derive(Debug)]
pub struct Gate {
    most_per_jump: usize,
    inside: Mutex<Inside>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    most: usize,
    /// Through a command (`ProxyCommand`), which may lead through a host that nobody here knows.
    commands: usize,
    jumps: BTreeMap<String, usize>,
}

/// Below what sshd takes by default.
const PER_JUMP: usize = 8;
/// Most commands that connect at once.
const COMMANDS: usize = 32;

impl Default for Gate {
    fn default() -> Self {
        Self::of(32)
    }
}

impl Gate {
    /// Takes how many may be opening at once in all.
    pub fn of(most: usize) -> Self {
        Self::new(most, PER_JUMP)
    }

    /// Takes how many may be opening at once, in all and per jump host; at least one each.
    pub fn new(most: usize, most_per_jump: usize) -> Self {
        Self {
            most_per_jump: most_per_jump.max(1),
            inside: Mutex::new(Inside { most: most.max(1), ..Inside::default() }),
            left: Condvar::new(),
        }
    }

    /// Lets in so many at once in all from now on, where that is more than before.
    pub fn widen(&self, most: usize) {
        let mut inside = self.lock();
        if most > inside.most {
            inside.most = most;
            self.left.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place; dropping it lets the next one in. `by_command`: what connects is a command.
    pub fn enter(&self, jump: Option<&str>, by_command: bool) -> Pass<'_> {
        let full = |i: &mut Inside| {
            i.all >= i.most
                || by_command && i.commands >= COMMANDS
                || jump.is_some_and(|j| i.jumps.get(j).is_some_and(|n| *n >= self.most_per_jump))
        };
        let mut inside = self.left.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        inside.all += 1;
        inside.commands += usize::from(by_command);
        if let Some(jump) = jump {
            *inside.jumps.entry(jump.to_owned()).or_default() += 1;
        }
        Pass { gate: self, jump: jump.map(ToOwned::to_owned), by_command }
    }
}

/// A place inside a [`Gate`].
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    jump: Option<String>,
    by_command: bool,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut inside = self.gate.lock();
        inside.all = inside.all.saturating_sub(1);
        inside.commands = inside.commands.saturating_sub(usize::from(self.by_command));
        if let Some(jump) = &self.jump
            && let Some(n) = inside.jumps.get_mut(jump)
        {
            *n = n.saturating_sub(1);
        }
        drop(inside);
        self.gate.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_many_at_once_and_through_a_jump_host_few() {
        let gate = Gate::of(200);
        let passes: Vec<Pass<'_>> = (0..200)
            .map(|n| gate.enter((n < PER_JUMP).then_some("j"), (PER_JUMP..PER_JUMP + COMMANDS).contains(&n)))
            .collect();
        assert_eq!((passes.len(), gate.lock().jumps["j"]), (200, PER_JUMP));
    }

    #[test]
    fn a_gate_lets_in_as_many_as_it_says() {
        let gate = Gate::new(3, 1);
        let (now, most) = (Mutex::new(0), Mutex::new(0));
        std::thread::scope(|scope| {
            for n in 0..12 {
                let (gate, now, most) = (&gate, &now, &most);
                scope.spawn(move || {
                    let _pass = gate.enter((n % 2 == 0).then_some("j"), n % 3 == 0);
                    let inside = {
                        let mut now = now.lock().unwrap();
                        *now += 1;
                        *now
                    };
                    let mut most = most.lock().unwrap();
                    *most = inside.max(*most);
                    drop(most);
                    std::thread::yield_now();
                    *now.lock().unwrap() -= 1;
                });
            }
        });
        assert!(*most.lock().unwrap() <= 3);
        assert_eq!(gate.lock().all, 0);
    }
}

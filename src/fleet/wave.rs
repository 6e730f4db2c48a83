//! Waves of hosts within a phase: how large each is, and the gate between two of them. What was seen to work before the first change
//! has to work after each wave, through all tiers; else nothing more is begun.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::base::net::HostName;
use crate::fleet::event::Event;
use crate::fleet::member::Member;
use crate::fleet::run::{self, Wave};
use crate::plan::state::{Phase, Probe};

/// How hosts of one phase go in turns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waves {
    /// The sizes, one after the other; the last one stays. None: all at once, and no gate.
    pub sizes: Vec<Wave>,
    /// How long is waited between two of them.
    pub pause: Duration,
    /// Whether what worked before has to work after each.
    pub gate: bool,
}

impl Waves {
    /// The size of the next wave of a phase of `hosts`, after so many waves of it.
    pub fn size(&self, hosts: usize, gone: usize) -> usize {
        self.sizes.get(gone).or(self.sizes.last()).map_or(hosts, |wave| wave.size(hosts))
    }

    /// Waits, unless the person stops the run meanwhile.
    pub(super) fn pause(&self, stop: &AtomicBool, events: &Sender<Event>) {
        if self.pause.is_zero() {
            return;
        }
        // A reporter that is gone stops nothing.
        let text = format!("the next wave begins in {} s", self.pause.as_secs());
        let _ = events.send(Event::Note { host: None, text });
        let until = Instant::now() + self.pause;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100).min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// What has to work at all times, by host.
pub(super) type Gate = BTreeMap<HostName, Vec<Probe>>;

/// The probes of the whole that hold now: what the new state is to bring does not hold yet, and is no part of it.
pub(super) fn gate(members: &mut [Member<'_>], parallel: usize) -> Gate {
    let held = run::each(members.iter_mut().collect(), parallel, |member: &mut Member<'_>| {
        let mut held = Vec::new();
        for probe in member.probes(Phase::Verify) {
            // What is another's to mend is no reason to fail, but it is one to stop.
            let probe = Probe { advisory: false, ..probe };
            let once = Probe { within: Duration::ZERO, ..probe.clone() };
            if member.executor.look(Phase::Verify, &[once]).is_ok() {
                held.push(probe);
            }
        }
        (member.name(), held)
    });
    held.into_iter().filter(|(_, probes)| !probes.is_empty()).collect()
}

/// What of it holds no more, each a sentence with its host. Hosts that have failed are known to be ill.
pub(super) fn shut(gate: &Gate, members: &mut [Member<'_>], parallel: usize) -> Vec<String> {
    let those = members.iter_mut().filter(|member| member.outcome.is_none());
    let those = those.filter_map(|member| Some((gate.get(member.host)?, member))).collect();
    let told = run::each(those, parallel, |(probes, member): (&Vec<Probe>, &mut Member<'_>)| {
        let error = member.executor.look(Phase::Verify, probes).err()?;
        Some(format!("{}: {}: {}", member.host, error.what, error.words.join("; ")))
    });
    told.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_size_stays() {
        let sizes = |text: &str| text.split(',').map(|size| size.parse().unwrap()).collect();
        let waves = Waves { sizes: sizes("1,25%,100%"), ..Waves::default() };
        assert_eq!((0..4).map(|gone| waves.size(8, gone)).collect::<Vec<_>>(), [1, 2, 8, 8]);
        let waves = Waves { sizes: sizes("2"), ..Waves::default() };
        assert_eq!((waves.size(8, 0), waves.size(8, 3)), (2, 2));
        assert_eq!(Waves::default().size(8, 0), 8);
    }
}

//! Waits for workers of before a reload: takes hosts and how one is asked, gives who is left when it is enough, when the time is
//! over, or when the person stops it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::base::net::HostName;
use crate::fleet::event::Event;
use crate::fleet::run;
use crate::fleet::survey::Prepared;
use crate::host::drain::ask;
use crate::host::transport::{Transport, TransportError};

/// On each host that is not drained, who is left, in the services' words.
pub type Left = BTreeMap<HostName, Vec<String>>;

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// Who is left after so long is told again, so that nobody takes the run for dead.
const AGAIN: Duration = Duration::from_secs(30);
/// How often the person's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How it is waited.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// How long at most. Zero asks once.
    pub within: Duration,
    /// Hosts at a time.
    pub parallel: usize,
    /// Ends it early.
    pub stop: &'a AtomicBool,
    /// Is told who is waited for.
    pub events: &'a Sender<Event>,
}

/// Asks all of `hosts`, then those that are not drained again and again, until `enough` holds for who is left. `why` ends the
/// sentence that tells who is waited for.
pub fn wait<T: Send>(
    mut hosts: Vec<T>,
    patience: Patience<'_>,
    why: &str,
    ask: impl Fn(&mut T) -> (HostName, Vec<String>) + Sync,
    enough: impl Fn(&Left) -> bool,
) -> Left {
    let began = Instant::now();
    let mut told: BTreeMap<HostName, Instant> = BTreeMap::new();
    loop {
        let answers = run::each(hosts, patience.parallel, |mut host| {
            let (name, words) = ask(&mut host);
            (host, name, words)
        });
        let mut left = Left::new();
        hosts = Vec::new();
        for (host, name, words) in answers.into_iter().filter(|(_, _, words)| !words.is_empty()) {
            hosts.push(host);
            left.insert(name, words);
        }
        let over = began.elapsed() >= patience.within || patience.stop.load(Ordering::Relaxed);
        if over || enough(&left) {
            return left;
        }
        let rest = patience.within.saturating_sub(began.elapsed()).as_secs_f64().ceil();
        for (name, words) in &left {
            if told.get(name).is_none_or(|last| last.elapsed() >= AGAIN) {
                told.insert(name.clone(), Instant::now());
                let why = if why.is_empty() { String::new() } else { format!(", {why}") };
                let text = format!("{}; it is waited for, {rest} s at most{why}", words.join("; "));
                // A reporter that is gone must not stop a run.
                let _ = patience.events.send(Event::Note { host: Some(name.clone()), text });
            }
        }
        let next = Instant::now() + PAUSE.min(patience.within.saturating_sub(began.elapsed()));
        while Instant::now() < next && !patience.stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK.min(next.saturating_duration_since(Instant::now())));
        }
    }
}

/// Before an authority's replacement goes on, on hosts on which nothing changes: waits until nobody of before serves.
pub fn settle(prepared: &mut Prepared, patience: Patience<'_>) -> Left {
    let Prepared { desired, survey, .. } = prepared;
    let drains = |host: &HostName| desired.get(host).map_or(&[][..], |wanted| wanted.drains.as_slice());
    let hosts: Vec<_> = survey.sessions.iter_mut().filter(|(host, _)| !drains(host).is_empty()).collect();
    let ask = |(host, transport): &mut (&HostName, &mut Box<dyn Transport>)| {
        let left = ask(transport.as_mut(), drains(host));
        ((*host).clone(), left.unwrap_or_else(|error| vec![unasked(&error)]))
    };
    wait(hosts, patience, SETTLE, ask, Left::is_empty)
}

/// Why it is waited for all workers of before.
pub(crate) const SETTLE: &str = "before the replacement of the internal authority goes on";

/// What is said of a host that does not tell.
pub(crate) fn unasked(error: &TransportError) -> String {
    format!("the host cannot be asked which former workers still serve: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    fn hosts() -> Vec<(HostName, usize)> {
        // Each with the number of questions to which it is not drained yet.
        [("a", 0), ("b", 1), ("c", 1000)].map(|(name, left)| (name.parse().unwrap(), left)).to_vec()
    }

    fn run(within: Duration, stop: &AtomicBool, enough: impl Fn(&Left) -> bool) -> (Left, usize, Vec<Event>) {
        let (events, told) = mpsc::channel();
        let asked = AtomicUsize::new(0);
        let patience = Patience { within, parallel: 2, stop, events: &events };
        let ask = |host: &mut (HostName, usize)| {
            asked.fetch_add(1, Ordering::Relaxed);
            let words = if host.1 == 0 { Vec::new() } else { vec![format!("1 former worker of {}", host.0)] };
            host.1 = host.1.saturating_sub(1);
            (host.0.clone(), words)
        };
        let left = wait(hosts(), patience, "before x closes", ask, enough);
        drop(events);
        (left, asked.into_inner(), told.iter().collect())
    }

    #[test]
    fn it_is_asked_once_without_time_or_when_it_is_enough_or_stopped() {
        for (within, stop, enough) in [(0, false, false), (60, false, true), (60, true, false)] {
            let (left, asked, told) = run(Duration::from_secs(within), &AtomicBool::new(stop), |_| enough);
            assert_eq!(left.keys().map(HostName::as_str).collect::<Vec<_>>(), ["b", "c"]);
            assert_eq!((asked, told.len()), (3, 0));
        }
    }

    #[test]
    fn who_is_left_is_asked_again_and_told_once() {
        let (left, asked, told) = run(Duration::from_millis(1500), &AtomicBool::new(false), Left::is_empty);
        assert_eq!(left.keys().map(HostName::as_str).collect::<Vec<_>>(), ["c"]);
        assert_eq!((asked, told.len()), (3 + 2 + 1, 2), "{told:?}");
        let text = serde_json::to_string(&told[1]).unwrap();
        assert!(text.contains("1 former worker of c; it is waited for, 2 s at most, before x closes"), "{text}");
        let (left, ..) = run(Duration::from_mins(1), &AtomicBool::new(false), |left| left.len() < 2);
        assert_eq!(left.len(), 1);
    }
}

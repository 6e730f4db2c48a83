//! How far a run is: takes events and the clock, gives the lines that are finished and the one that still moves. It prints
//! nothing, so that the terminal and the pipe tell the same story and a test can read it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::text::{Paint, clean, count, names, natural, seconds};
use crate::base::net::HostName;
use crate::base::visible;
use crate::fleet::event::Event;
use crate::plan::state::Phase;

/// A host that takes longer than this is named.
const SLOW: Duration = Duration::from_secs(5);
/// So many hosts are named while the line moves.
const NAMED: usize = 3;
/// Columns before a phase's note.
const INDENT: usize = 19;
/// Columns of a phase's note, so that the times stand below one another.
const NOTE: usize = 44;

/// The line that still moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// The phase, or `observe`.
    pub title: String,
    /// Hosts that are through, or failed.
    pub done: usize,
    /// All hosts.
    pub total: usize,
    /// Who is failing or slow.
    pub message: String,
}

#[derive(Debug)]
struct Part {
    /// `None` while hosts are observed.
    phase: Option<Phase>,
    began: Instant,
    total: usize,
    done: usize,
    failed: BTreeSet<HostName>,
    running: BTreeMap<HostName, Instant>,
    /// How far a long step of a host is.
    said: BTreeMap<HostName, String>,
}

impl Part {
    fn title(&self) -> &'static str {
        self.phase.map_or("observe", Phase::as_str)
    }
}

/// The state of the story.
#[derive(Debug)]
pub struct Progress {
    paint: Paint,
    verbose: bool,
    width: usize,
    parts: Vec<Part>,
}

impl Progress {
    /// At the beginning. `verbose` tells of each host; a line has at most `width` columns where its words allow it.
    pub fn new(paint: Paint, verbose: bool, width: usize) -> Self {
        Self { paint, verbose, width, parts: Vec::new() }
    }

    /// Takes what happened at `now`; gives the lines that are finished by it.
    pub fn feed(&mut self, event: &Event, now: Instant) -> Vec<String> {
        match event {
            Event::Observing { hosts } => {
                self.begin(None, *hosts, now);
                Vec::new()
            }
            Event::Observed { host, error } => self.observed(host, error.as_deref(), now),
            Event::PhaseBegin { phase, hosts } => {
                self.begin(Some(*phase), hosts.len(), now);
                Vec::new()
            }
            Event::HostBegin { phase, host } => {
                if let Some(part) = self.part(Some(*phase)) {
                    part.running.insert(host.clone(), now);
                }
                Vec::new()
            }
            Event::HostEnd { phase, host, failure, seconds: took } => {
                if let Some(part) = self.part(Some(*phase)) {
                    part.running.remove(host);
                    part.said.remove(host);
                    part.done += 1;
                    if failure.is_some() {
                        part.failed.insert(host.clone());
                    }
                }
                match failure {
                    Some(f) => {
                        let words = format!("{host} failed in {phase}: {}", clean(&f.what));
                        vec![format!("  {}", self.paint.bad(&words))]
                    }
                    None if self.verbose => vec![format!("  {phase:<9}{host:<20} {}", seconds(*took))],
                    None => Vec::new(),
                }
            }
            Event::PhaseEnd { phase, passed, failed, note, seconds: took } => {
                let part = self.parts.iter().position(|p| p.phase == Some(*phase)).map(|at| self.parts.remove(at));
                let names = part.map(|p| p.failed).unwrap_or_default();
                let note = match (phase, clean(note)) {
                    (Phase::Stage, note) if !note.is_empty() => format!("validated: {note}"),
                    (_, note) => note,
                };
                self.finished(phase.as_str(), (*passed, passed + failed), &names, &note, *took)
            }
            Event::Progress { host, text } => {
                if let Some(part) = self.parts.iter_mut().find(|part| part.running.contains_key(host)) {
                    part.said.insert(host.clone(), clean(text));
                }
                Vec::new()
            }
            Event::Note { host, text } => {
                let who = host.as_ref().map_or(String::new(), |h| format!("{h}: "));
                vec![format!("  {}", self.paint.warn(&format!("{who}{}", clean(text))))]
            }
        }
    }

    /// The line that moves, as it is at `now`.
    pub fn moving(&self, now: Instant) -> Option<Moving> {
        let part = self.parts.last()?;
        let left = part.total.saturating_sub(part.done);
        let slow: Vec<(&HostName, Duration)> = part
            .running
            .iter()
            .map(|(host, since)| (host, now.saturating_duration_since(*since)))
            .filter(|(host, took)| *took >= SLOW || left <= NAMED || part.said.contains_key(*host))
            .collect();
        let mut words: Vec<String> = Vec::new();
        if !part.failed.is_empty() {
            words.push(format!("failed: {}", list(part.failed.iter().collect())));
        }
        let mut shown: Vec<String> = Vec::new();
        for (host, took) in slow.iter().take(NAMED) {
            let name = if *took >= SLOW { format!("{host} ({} s)", took.as_secs()) } else { host.to_string() };
            shown.push(part.said.get(*host).map_or(name.clone(), |said| format!("{name} {said}")));
        }
        if slow.len() > NAMED {
            shown.push(format!("and {} more", slow.len() - NAMED));
        }
        if !shown.is_empty() {
            words.push(shown.join(", "));
        }
        Some(Moving { title: part.title().to_owned(), done: part.done, total: part.total, message: words.join(" · ") })
    }

    fn begin(&mut self, phase: Option<Phase>, total: usize, now: Instant) {
        // One that has not ended by itself is over when the same begins again (another wave).
        self.parts.retain(|p| p.phase != phase);
        let (failed, running, said) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        self.parts.push(Part { phase, began: now, total, done: 0, failed, running, said });
    }

    fn part(&mut self, phase: Option<Phase>) -> Option<&mut Part> {
        self.parts.iter_mut().find(|p| p.phase == phase)
    }

    fn observed(&mut self, host: &HostName, error: Option<&str>, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(error) = error {
            let mut said = visible::lines(error).into_iter();
            let first = said.next().unwrap_or_default();
            lines.push(format!("  {}", self.paint.bad(&format!("{host}: {first}"))));
            lines.extend(said.map(|line| format!("  {line}")));
        } else if self.verbose {
            lines.push(format!("  observe  {host}"));
        }
        let Some(at) = self.parts.iter().position(|p| p.phase.is_none()) else { return lines };
        if let Some(part) = self.parts.get_mut(at) {
            part.done += 1;
            if error.is_some() {
                part.failed.insert(host.clone());
            }
            if part.done < part.total {
                return lines;
            }
        }
        let part = self.parts.remove(at);
        let took = now.saturating_duration_since(part.began).as_secs_f64();
        let passed = part.done - part.failed.len();
        lines.extend(self.finished("observe", (passed, part.total), &part.failed, "answered", took));
        lines
    }

    /// `  stage   6/6 validated: haproxy -c, nginx -t, nft -c        1.1 s`; where that is too long, the note comes below.
    fn finished(
        &self,
        title: &str,
        (passed, total): (usize, usize),
        failed: &BTreeSet<HostName>,
        note: &str,
        took: f64,
    ) -> Vec<String> {
        let note =
            if failed.is_empty() { note.to_owned() } else { format!("failed: {}", list(failed.iter().collect())) };
        let (counted, took) = (format!("{passed}/{total}"), seconds(took));
        let room = self.width.saturating_sub(INDENT + 1 + took.chars().count());
        let paint = |line: String| format!("  {}", if passed == total { line } else { self.paint.bad(&line) });
        if note.chars().count() <= room {
            return vec![paint(format!("{title:<9}{counted:<8}{note:<pad$} {took}", pad = NOTE.min(room)))];
        }
        let pad = NOTE.min(room);
        let mut lines = vec![paint(format!("{title:<9}{counted:<8}{:pad$} {took}", ""))];
        let below = wrapped(&note, self.width.saturating_sub(INDENT));
        lines.extend(below.into_iter().map(|line| paint(format!("{:17}{line}", ""))));
        lines
    }
}

/// The words of a text in lines of at most `width` columns; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn list(mut hosts: Vec<&HostName>) -> String {
    hosts.sort_by_cached_key(|h| natural(h.as_str()));
    let rest = hosts.len().saturating_sub(2 * NAMED);
    hosts.truncate(2 * NAMED);
    let more = if rest > 0 { format!(" and {} more", count(rest, "host")) } else { String::new() };
    names(&hosts) + &more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, name};

    pub(crate) fn story() -> Vec<(u64, Event)> {
        let hosts = ["web1", "web2", "lb1"].map(name);
        let stage = Phase::Stage;
        let begin = |phase, host: &str| Event::HostBegin { phase, host: name(host) };
        let end = |phase, host: &str, failure| Event::HostEnd { phase, host: name(host), failure, seconds: 0.4 };
        vec![
            (0, Event::Observing { hosts: 3 }),
            (100, Event::Observed { host: name("web1"), error: None }),
            (200, Event::Observed { host: name("web2"), error: None }),
            (
                300,
                Event::Observed {
                    host: name("lb1"),
                    error: Some("cannot connect to 10.0.0.11:22: refused\u{7}".into()),
                },
            ),
            (300, Event::PhaseBegin { phase: stage, hosts: hosts.to_vec() }),
            (310, begin(stage, "web1")),
            (310, begin(stage, "web2")),
            (700, end(stage, "web1", None)),
            (
                710,
                Event::Note {
                    host: Some(name("web2")),
                    text: "waits for the lock of ann@desk, run 20261123T184501".into(),
                },
            ),
            (6400, end(stage, "web2", None)),
            (
                6400,
                Event::PhaseEnd {
                    phase: stage,
                    passed: 2,
                    failed: 0,
                    note: "haproxy -c, nginx -t, nft -c".into(),
                    seconds: 6.1,
                },
            ),
            (6500, Event::PhaseBegin { phase: Phase::Web, hosts: hosts.to_vec() }),
            (6500, begin(Phase::Web, "web1")),
            (6900, end(Phase::Web, "web1", Some(sample::failure()))),
            (6900, Event::PhaseEnd { phase: Phase::Web, passed: 0, failed: 1, note: String::new(), seconds: 0.4 }),
        ]
    }

    #[test]
    fn the_story_of_a_run() {
        let start = Instant::now();
        let mut progress = Progress::new(Paint::default(), false, usize::MAX);
        let mut text = String::new();
        for (at, event) in story() {
            let now = start + Duration::from_millis(at);
            for line in progress.feed(&event, now) {
                text.push_str(&line);
                text.push('\n');
            }
            // What moves, five seconds later, if nothing else happened until then.
            if let Some(m) = progress.moving(now + SLOW) {
                text += &[&format!("          > {} {}/{}", m.title, m.done, m.total), " ", &m.message, "\n"].concat();
            }
        }
        insta::assert_snapshot!(text);
        assert_eq!(progress.moving(start), None);
    }

    #[test]
    fn no_line_is_wider_than_a_narrow_terminal() {
        let start = Instant::now();
        for width in [40, 60, 80] {
            let mut progress = Progress::new(Paint::default(), false, width);
            let hosts = vec![name("web1")];
            let note = "free ports, haproxy -c, mariadbd --help --verbose, nft -c, nginx -t".to_owned();
            progress.feed(&Event::PhaseBegin { phase: Phase::Stage, hosts }, start);
            let end = Event::PhaseEnd { phase: Phase::Stage, passed: 8, failed: 0, note, seconds: 3.2 };
            let lines = progress.feed(&end, start);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines[0].ends_with(" 3.2 s") && lines.len() > 1, "{lines:#?}");
            assert!(lines.concat().contains("haproxy -c"), "{lines:#?}");
        }
    }

    #[test]
    fn how_far_a_long_step_is_moves_with_its_host() {
        let start = Instant::now();
        let mut progress = Progress::new(Paint::default(), false, usize::MAX);
        let hosts = ["db1", "db2"].map(name);
        let said = |host: &str, text: &str| Event::Progress { host: name(host), text: text.into() };
        let phase = Phase::Replica;
        progress.feed(&Event::PhaseBegin { phase, hosts: hosts.to_vec() }, start);
        progress.feed(&Event::HostBegin { phase, host: hosts[1].clone() }, start);
        for event in [said("db1", "copy: before its turn"), said("db2", "copy: 1 %"), said("db2", "copy: 42 %\u{7}")] {
            assert!(progress.feed(&event, start).is_empty());
        }
        let moving = |progress: &Progress| progress.moving(start + SLOW).unwrap().message;
        assert_eq!(moving(&progress), format!("db2 (5 s) {}", clean("copy: 42 %\u{7}")));
        progress.feed(&Event::HostEnd { phase, host: hosts[1].clone(), failure: None, seconds: 6.0 }, start);
        assert_eq!(moving(&progress), "");
    }
}

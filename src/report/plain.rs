//! Progress for pipes and CI: takes events, writes plain lines, and a sign of life where a phase takes long.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::interrupt::Interrupt;
use super::progress::Progress;
use crate::fleet::event::Event;

/// After so long without a line a log gets one, so that nobody takes the run for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// How often the clock and the interrupt flag are looked at.
const TICK: Duration = Duration::from_millis(200);

/// Writes until all senders are gone.
///
/// # Errors
/// Any error of `out`.
pub fn run(
    receiver: &Receiver<Event>,
    progress: &mut Progress,
    interrupt: &Interrupt,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (mut last, mut told) = (Instant::now(), false);
    loop {
        let event = receiver.recv_timeout(TICK);
        let now = Instant::now();
        if interrupt.is_set() && !told {
            told = true;
            writeln!(out, "  {}", Interrupt::WORDS)?;
        }
        match event {
            Ok(event) => {
                for line in progress.feed(&event, now) {
                    writeln!(out, "{}", line.trim_end())?;
                    last = now;
                }
            }
            Err(RecvTimeoutError::Timeout) if now.duration_since(last) >= SIGN_OF_LIFE => {
                if let Some(m) = progress.moving(now) {
                    let line = format!("  {:<9}{:<8}{}", m.title, format!("{}/{}", m.done, m.total), m.message);
                    writeln!(out, "{}", line.trim_end())?;
                }
                last = now;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{sample, text::Paint};
    use std::sync::mpsc;

    #[test]
    fn lines_come_and_the_end_ends() {
        let (sender, receiver) = mpsc::channel();
        sender.send(Event::Observing { hosts: 1 }).unwrap();
        sender.send(Event::Observed { host: sample::name("web1"), error: Some("no route".into()) }).unwrap();
        drop(sender);
        let mut out = Vec::new();
        let interrupt = Interrupt::default();
        interrupt.set();
        run(&receiver, &mut Progress::new(Paint::default(), false, usize::MAX), &interrupt, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], [format!("  {}", Interrupt::WORDS).as_str(), "  web1: no route"]);
        assert!(lines[2].starts_with("  observe  0/1     failed: web1"), "{text}");
    }
}

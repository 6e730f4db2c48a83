//! Progress on a terminal: takes events, draws one line that moves under the lines that are finished.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::interrupt::Interrupt;
use super::progress::{Moving, Progress};
use crate::fleet::event::Event;

/// How often the line moves.
const TICK: Duration = Duration::from_millis(100);
const TEMPLATE: &str = "  {prefix:<9}{pos}/{len} {bar:24} {elapsed} {wide_msg}";

/// Draws on stderr until all senders are gone.
pub fn run(receiver: &Receiver<Event>, progress: &mut Progress, interrupt: &Interrupt) {
    let mut screen = Screen { bar: None };
    let mut told = false;
    loop {
        let event = receiver.recv_timeout(TICK);
        let now = Instant::now();
        if interrupt.is_set() && !told {
            told = true;
            screen.line(&format!("  {}", Interrupt::WORDS));
        }
        match event {
            Ok(event) => progress.feed(&event, now).iter().for_each(|line| screen.line(line)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        screen.moving(progress.moving(now));
    }
    screen.moving(None);
}

/// The finished lines and, under them, the bar of the phase that is under way.
struct Screen {
    bar: Option<(String, ProgressBar)>,
}

impl Screen {
    fn line(&self, line: &str) {
        match &self.bar {
            Some((_, bar)) => bar.println(line.trim_end()),
            // A terminal that is gone stops no run.
            None => drop(writeln!(io::stderr(), "{}", line.trim_end())),
        }
    }

    fn moving(&mut self, moving: Option<Moving>) {
        if let Some((title, bar)) = &self.bar
            && moving.as_ref().is_none_or(|m| m.title != *title)
        {
            bar.finish_and_clear();
            self.bar = None;
        }
        let Some(moving) = moving else { return };
        let total = moving.total.try_into().unwrap_or(u64::MAX);
        let (_, bar) = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix(moving.title.clone());
            (moving.title.clone(), bar)
        });
        bar.set_length(total);
        bar.set_position(moving.done.try_into().unwrap_or(u64::MAX));
        bar.set_message(moving.message);
        bar.tick();
    }
}

//! The only printers: takes plans, events, outcomes and diagnostics, gives text for a person or JSON for a program. Data (plan,
//! outcome, JSON) goes to stdout; progress, diagnostics and questions go to stderr.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::base::diagnostic::{self, Diagnostic};
use crate::fleet::certificates::View;
use crate::fleet::event::{Event, Outcome};
use crate::inventory::site::Site;
use crate::plan::plan::Plan;

pub mod certificates;
mod change;
pub mod interrupt;
pub mod json;
pub mod outcome;
pub mod plain;
pub mod plan;
pub mod progress;
pub mod prompt;
#[cfg(test)]
pub(crate) mod sample;
pub mod text;
pub mod tty;
pub mod zone;

use interrupt::Interrupt;
use outcome::Next;
use text::Paint;

/// Columns where no terminal says how many it has.
const WIDTH: usize = 120;

/// Who is told, and how.
#[derive(Debug, Clone, Copy)]
pub struct Reporter {
    json: bool,
    terminal: bool,
    verbose: u8,
    width: usize,
    out: Paint,
    err: Paint,
}

impl Reporter {
    /// Chooses by the options and by who listens. `choice` is `--color`; `auto` heeds `NO_COLOR`, `CLICOLOR` and `TERM`.
    pub fn new(json: bool, choice: anstream::ColorChoice, verbose: u8) -> Self {
        choice.write_global();
        let on = |choice| Paint { on: choice != anstream::ColorChoice::Never };
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self {
            json,
            terminal: io::stderr().is_terminal() && !dumb,
            verbose,
            width: columns.unwrap_or(WIDTH),
            out: on(anstream::AutoStream::choice(&io::stdout())),
            err: on(anstream::AutoStream::choice(&io::stderr())),
        }
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Columns of the terminal, or the usual number.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How often `-v` was given.
    pub fn verbose(&self) -> u8 {
        self.verbose
    }

    /// Shows a plan on stdout.
    ///
    /// # Errors
    /// When stdout cannot be written to; a reader that has gone away is no error.
    pub fn plan(&self, site: &Site, plan: &Plan) -> io::Result<()> {
        if self.json {
            return self.line(&json::plan(&site.name, plan));
        }
        let view = plan::View { width: self.width, verbose: self.verbose > 0, paint: self.out };
        self.data(&plan::draw(site, plan, view))
    }

    /// Shows what became of a run: failures on stderr, the summary on stdout. `exit` is for JSON.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn outcome(&self, outcome: &Outcome, next: &Next, exit: u8) -> io::Result<()> {
        if self.json {
            return self.line(&json::outcome(outcome, exit));
        }
        tell(&outcome::details(outcome, next, self.err));
        self.data(&(outcome::summary(outcome, next, self.out) + "\n"))
    }

    /// Shows certificates: a screen on stdout, or an event for each.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn certificates(&self, site: &Site, view: &View) -> io::Result<()> {
        if self.json {
            return certificates::events(view).iter().try_for_each(|event| self.line(event));
        }
        self.data(&certificates::draw(site, view, self.out))
    }

    /// Shows diagnostics, all of them.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn diagnostics(&self, diagnostics: &[Diagnostic]) -> io::Result<()> {
        if self.json {
            return diagnostics.iter().try_for_each(|d| self.line(&json::diagnostic(d)));
        }
        tell(&diagnostic::draw(diagnostics, self.err.on));
        Ok(())
    }

    /// Shows why a verb ended: the message, what caused it, what to do.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn error(&self, message: &str, causes: &[String], help: &[String]) -> io::Result<()> {
        if self.json {
            return self.line(&json::error(message, causes, help));
        }
        let mut text = format!("{}: {}\n", self.err.bad("error"), lines(message));
        for cause in causes {
            let _ = writeln!(text, "  cause: {}", lines(cause));
        }
        for line in help {
            let _ = writeln!(text, "{}: {}", self.err.hint("help"), lines(line));
        }
        tell(&text);
        Ok(())
    }

    /// A sentence for a person on stderr; nothing with `--json`.
    pub fn note(&self, text: &str) {
        if !self.json {
            tell(&format!("{}\n", lines(text)));
        }
    }

    /// Text on stdout as it is: a matrix, a completion script.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn data(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        quiet(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// One JSON value on a line of stdout.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn line(&self, value: &serde_json::Value) -> io::Result<()> {
        self.data(&format!("{value}\n"))
    }

    /// Tells of events until all senders are gone. A person who cannot be told any more stops no run.
    pub fn run(&self, receiver: &Receiver<Event>, interrupt: &Interrupt) {
        let mut progress = progress::Progress::new(self.err, self.verbose > 0);
        let told = if self.json {
            receiver.iter().try_for_each(|event| self.line(&json::event(&event)))
        } else if self.terminal {
            tty::run(receiver, &mut progress, interrupt);
            Ok(())
        } else {
            plain::run(receiver, &mut progress, interrupt, &mut io::stderr())
        };
        if told.is_err() {
            receiver.iter().for_each(drop);
        }
    }

    /// Does `work` and tells of its events meanwhile, on a thread of the reporter's own. All lines are out when it returns.
    pub fn during<T>(&self, interrupt: &Interrupt, work: impl FnOnce(Sender<Event>) -> T) -> T {
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || self.run(&receiver, interrupt));
            work(sender)
        })
    }
}

/// A reader that has gone away (`| head`) is no error, and stops no run.
fn quiet(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}

/// Where stderr is closed there is nobody left to tell that.
fn tell(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

fn lines(text: &str) -> String {
    text.lines().map(text::clean).collect::<Vec<_>>().join("\n")
}

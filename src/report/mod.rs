//! The only printers: takes plans, events, outcomes and diagnostics, gives text for a person or JSON for a program. Data (plan,
//! outcome, JSON) goes to stdout; progress, diagnostics and questions go to stderr.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use time::OffsetDateTime;

use crate::base::diagnostic::{self, Diagnostic};
use crate::base::hidden::Hidden;
use crate::base::net::HostName;
use crate::base::visible;
use crate::fleet::beforehand::Closes;
use crate::fleet::certificates::View;
use crate::fleet::event::{Event, Outcome};
use crate::fleet::exec::End;
use crate::fleet::explain::Explained;
use crate::fleet::journals::Past;
use crate::fleet::status::View as Status;
use crate::inventory::site::Site;
use crate::plan::plan::Plan;
use crate::service::Services;
use crate::service::database::change::Change;
use crate::service::database::preflight::{self, Finding};
use crate::service::database::status::View as DatabaseView;

pub mod certificates;
mod change;
pub mod database;
pub mod hand;
pub mod history;
mod html;
pub mod interrupt;
pub mod json;
pub mod keys;
pub mod line;
mod markdown;
pub mod origin;
pub mod outcome;
mod page;
pub mod passwords;
pub mod plain;
pub mod plan;
pub mod progress;
pub mod prompt;
#[cfg(test)]
pub(crate) mod sample;
pub mod status;
pub mod steps;
pub mod text;
pub mod tty;
pub mod zone;

use interrupt::Interrupt;
use line::Line;
use outcome::Next;
use status::lines::{HostLine, StatusLine};
use text::Paint;

/// Columns where no terminal says how many it has.
const WIDTH: usize = 120;

/// Who is told, and how.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// What is taken out of all that is told.
    hidden: Hidden,
    services: Services,
    json: bool,
    terminal: bool,
    verbose: u8,
    width: usize,
    out: Paint,
    err: Paint,
}

impl Reporter {
    /// Chooses by the options and by who listens. `choice` is `--color`; `auto` heeds `NO_COLOR`, `CLICOLOR` and `TERM`.
    pub fn new(services: Services, json: bool, choice: anstream::ColorChoice, verbose: u8) -> Self {
        choice.write_global();
        let on = |choice| Paint { on: choice != anstream::ColorChoice::Never };
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self {
            hidden: Hidden::default(),
            services,
            json,
            terminal: io::stderr().is_terminal() && !dumb,
            verbose,
            width: columns.unwrap_or(WIDTH),
            out: on(anstream::AutoStream::choice(&io::stdout())),
            err: on(anstream::AutoStream::choice(&io::stderr())),
        }
    }

    /// What is never told.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
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
            return self.line(&Line::Plan(json::plan(&site.name, plan)));
        }
        let view =
            plan::View { width: self.width, verbose: self.verbose > 0, paint: self.out, services: self.services };
        self.data(&plan::draw(site, plan, view))
    }

    /// A plan as it is shown, without colours, with the controller's steps and without what is never told.
    pub fn plan_text(&self, site: &Site, plan: &Plan) -> String {
        let view = plan::View { width: WIDTH, verbose: false, paint: Paint::default(), services: self.services };
        let mut text = plan::draw(site, plan, view);
        for (title, lines) in steps::words(plan) {
            text.push('\n');
            text.push_str(&steps::block(&title, lines));
        }
        self.hidden.text(&visible::printed(&text))
    }

    /// Shows a plan on stdout as Markdown, for a comment of a pull request, with what it is `without`.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn plan_as_markdown(&self, site: &Site, plan: &Plan, without: &[String]) -> io::Result<()> {
        let view =
            plan::View { width: WIDTH, verbose: self.verbose > 0, paint: Paint::default(), services: self.services };
        let mut text = plan::draw(site, plan, view);
        for (title, lines) in steps::words(plan) {
            text.push('\n');
            text.push_str(&steps::block(&title, lines));
        }
        for line in without {
            let _ = write!(text, "\n! {}\n", visible::line(line));
        }
        self.data(&markdown::document(&text))
    }

    /// Shows a plan on stdout as one page for a browser, as of `now`, with what it is `without`.
    ///
    /// # Errors
    /// As for [`Reporter::plan`], and where the page's template is at fault.
    pub fn plan_as_page(
        &self,
        site: &Site,
        plan: &Plan,
        without: &[String],
        now: OffsetDateTime,
    ) -> anyhow::Result<()> {
        let view =
            plan::View { width: WIDTH, verbose: self.verbose > 0, paint: Paint::default(), services: self.services };
        let moment = certificates::moment(now.unix_timestamp());
        let page = page::draw((plan::parts(site, plan, view), without), &steps::words(plan), moment, &self.hidden)?;
        Ok(self.data(&page)?)
    }

    /// Shows what became of a run: failures on stderr, the summary on stdout. `exit` is for JSON.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn outcome(&self, outcome: &Outcome, next: &Next, exit: u8) -> io::Result<()> {
        if self.json {
            return self.line(&Line::Outcome(json::outcome(outcome, exit)));
        }
        self.tell(&outcome::details(outcome, next, self.err));
        self.data(&(outcome::last_line(outcome, next, self.out) + "\n"))
    }

    /// Shows certificates: a screen on stdout, or an event for each.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn certificates(&self, site: &Site, view: &View) -> io::Result<()> {
        if self.json {
            let certificates = certificates::certificate_lines(view).map(|line| Line::Certificate(Box::new(line)));
            let authorities = certificates::authority_lines(view).map(Line::Authority);
            let unasked = view.unasked.iter().map(|(host, why)| Line::Unasked { host, why });
            return certificates.chain(authorities).chain(unasked).try_for_each(|line| self.line(&line));
        }
        self.data(&certificates::draw(site, view, self.out))
    }

    /// Shows the databases of the group.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn database(&self, site: &Site, view: &DatabaseView) -> io::Result<()> {
        if self.json {
            return self.line(&Line::Database(view));
        }
        self.data(&database::draw(site, view, self.out))
    }

    /// Shows what was found before `writer` becomes the writer.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn preflight(&self, writer: &HostName, findings: &[Finding]) -> io::Result<()> {
        if self.json {
            return self.line(&Line::Preflight { writer, passes: preflight::passes(findings), findings });
        }
        self.data(&database::preflight(findings, self.out))
    }

    /// Shows what came of a change of the writer.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn writer_changed(&self, writer: &HostName, change: &Change) -> io::Result<()> {
        if self.json {
            return self.line(&Line::WriterChanged { writer, change });
        }
        change.words(writer).iter().try_for_each(|line| self.data(&format!("{}\n", text::clean(line))))
    }

    /// Shows the fleet as it is. With `again`, it is shown over and over: on a terminal in the same place, and with `true` not for the
    /// first time.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn status(&self, site: &Site, view: &Status, exit: u8, again: Option<bool>) -> io::Result<()> {
        if self.json {
            let hosts = status::ordered(view);
            hosts.iter().try_for_each(|host| self.line(&Line::HostStatus(Box::new(HostLine::of(host, view)))))?;
            status::ordered_sites(view).into_iter().try_for_each(|site| self.line(&Line::SiteStatus(site)))?;
            view.findings.iter().try_for_each(|finding| self.line(&Line::Finding(finding)))?;
            return self.line(&Line::Status(StatusLine::of(site, view, exit)));
        }
        let text = status::draw(site, view, self.out);
        match again {
            // Home, then all that was there before goes.
            Some(_) if io::stdout().is_terminal() => quiet(io::stdout().lock().write_all(b"\x1b[H\x1b[J"))?,
            Some(true) => self.data("\n")?,
            _ => {}
        }
        self.data(&text)
    }

    /// Shows what a command said on each host.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn ends(&self, ends: &BTreeMap<HostName, End>) -> io::Result<()> {
        if self.json {
            return hand::alike(ends).iter().try_for_each(|(hosts, end)| self.line(&Line::Executed { hosts, end }));
        }
        self.data(&hand::draw(ends, self.out))
    }

    /// Shows host keys.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn keys(&self, keys: &[keys::KeyLine<'_>]) -> io::Result<()> {
        if self.json {
            return keys.iter().try_for_each(|key| self.line(&Line::HostKey(key)));
        }
        self.data(&keys::draw(keys, self.out))
    }

    /// Shows past runs; with `whole`, all that is known of each. `none` is said where there is no run.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn runs(&self, runs: &[Past], whole: bool, none: &str) -> io::Result<()> {
        if self.json {
            return runs.iter().try_for_each(|run| self.line(&Line::Run(run)));
        }
        self.data(&history::draw(runs, whole, none, self.out))
    }

    /// Shows what is kept on a host.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn kept(&self, host: &HostName, kept: &[origin::Kept]) -> io::Result<()> {
        if self.json {
            return kept.iter().try_for_each(|one| self.line(&Line::Kept { host, kept: one }));
        }
        self.data(&origin::draw_kept(host, kept, self.out))
    }

    /// Shows where lines come from; with `whole`, those of one file side by side.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn explained(&self, lines: &[Explained], whole: bool) -> io::Result<()> {
        if self.json {
            return lines.iter().try_for_each(|line| self.line(&Line::Explained(line)));
        }
        self.data(&origin::draw(lines, whole, self.out))
    }

    /// Shows diagnostics, all of them.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn diagnostics(&self, diagnostics: &[Diagnostic]) -> io::Result<()> {
        if self.json {
            let shown = diagnostic::shown(diagnostics);
            shown.iter().try_for_each(|d| self.line(&Line::Diagnostic(json::diagnostic(d))))?;
            if diagnostics.len() == shown.len() {
                return Ok(());
            }
            let errors = diagnostics.iter().filter(|d| d.is_error()).count();
            let (warnings, shown) = (diagnostics.len() - errors, shown.len());
            return self.line(&Line::Diagnostics { errors, warnings, shown });
        }
        self.tell(&diagnostic::draw(diagnostics, self.err.on));
        Ok(())
    }

    /// Shows what first rules close, and what would keep it open.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn closes(&self, all: &[Closes]) -> io::Result<()> {
        if self.json {
            return all.iter().try_for_each(|one| self.line(&Line::Closes(one)));
        }
        for Closes { what, keep, .. } in all {
            let mut text = format!("{}: {}\n", self.err.warn("warning"), lines(what));
            if !keep.is_empty() {
                let _ = writeln!(text, "  {}: to keep it, write under `firewall.allow`:", self.err.hint("help"));
                for line in keep {
                    let _ = writeln!(text, "    {}", lines(line));
                }
            }
            self.tell(&text);
        }
        Ok(())
    }

    /// Shows why a verb ended: the message, what caused it, what to do.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn error(&self, message: &str, causes: &[String], help: &[String]) -> io::Result<()> {
        if self.json {
            return self.line(&Line::Error { message, causes, help });
        }
        let mut text = format!("{}: {}\n", self.err.bad("error"), lines(message));
        for cause in causes {
            let _ = writeln!(text, "  cause: {}", lines(cause));
        }
        for line in help {
            let _ = writeln!(text, "{}: {}", self.err.hint("help"), lines(line));
        }
        self.tell(&text);
        Ok(())
    }

    /// A sentence for a person on stderr; nothing with `--json`.
    pub fn note(&self, text: &str) {
        if !self.json {
            self.tell(&format!("{}\n", lines(text)));
        }
    }

    /// Text for a person on stdout; with `--json` an event, as every line is.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn data(&self, text: &str) -> io::Result<()> {
        if self.json {
            return if text.is_empty() { Ok(()) } else { self.line(&Line::Text { text }) };
        }
        self.raw(text)
    }

    /// Text for another program on stdout, with `--json` too: a completion script, a page, a schema.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn raw(&self, text: &str) -> io::Result<()> {
        Self::write(&self.hidden.text(text))
    }

    /// Tells which files were written below a folder on this machine, or that one file was; a person is told by `words`.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn written(&self, to: &Path, files: &[String], words: &str) -> io::Result<()> {
        if self.json {
            return self.line(&Line::Written { to: &to.display().to_string(), files });
        }
        self.note(words);
        Ok(())
    }

    fn write(text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        quiet(out.write_all(visible::printed(text).as_bytes()).and_then(|()| out.flush()))
    }

    fn tell(&self, text: &str) {
        tell(&self.hidden.text(text));
    }

    /// An event as one line of JSON on stdout.
    ///
    /// # Errors
    /// As for [`Reporter::plan`].
    pub fn line(&self, line: &Line<'_>) -> io::Result<()> {
        let mut value = serde_json::to_value(line)?;
        // Inside the texts, not over the whole line: it stays JSON.
        self.hidden.value(&mut value);
        Self::write(&(visible::json(&value.to_string()).into_owned() + "\n"))
    }

    /// Tells of events until all senders are gone. A person who cannot be told any more stops no run.
    pub fn run(&self, receiver: &Receiver<Event>, interrupt: &Interrupt) {
        // A log has lines of any length.
        let width = if self.terminal { self.width } else { usize::MAX };
        let mut progress = progress::Progress::new(self.err, self.verbose > 0, width);
        let told = if self.json {
            receiver.iter().try_for_each(|event| self.line(&Line::Progress(&event)))
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

    /// The event as it may be told; what does not survive JSON is told as nothing.
    fn clean(&self, event: &Event) -> Event {
        let clean = self.hidden.redacted(event);
        clean.unwrap_or_else(|e| Event::Note { host: None, text: format!("an event cannot be told: {e}") })
    }

    /// Does `work` and tells of its events meanwhile, on a thread of the reporter's own. All lines are out when it returns.
    pub fn during<T>(&self, interrupt: &Interrupt, work: impl FnOnce(Sender<Event>) -> T) -> T {
        let (sender, all) = mpsc::channel();
        let (clean, receiver) = mpsc::channel();
        thread::scope(|scope| {
            // Each way of telling has its own printer; all of them come after this.
            scope.spawn(move || all.iter().try_for_each(|event| clean.send(self.clean(&event))));
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
    let _ = err.write_all(visible::printed(text).as_bytes()).and_then(|()| err.flush());
}

fn lines(text: &str) -> String {
    visible::text(text).lines().collect::<Vec<_>>().join("\n")
}

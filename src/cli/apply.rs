//! `apply`: the same plan, confirmed once, executed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::macros::format_description;

use super::args::{Apply, Global};
use super::saved::Saved;
use super::{Done, Stop, exit, order, stages};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::fleet::event::{HostOutcome, Outcome};
use crate::fleet::run::Wave;
use crate::fleet::survey::{Prepared, Survey};
use crate::fleet::{history, transaction};
use crate::inventory::site::Site;
use crate::pki;
use crate::report::interrupt::Interrupt;
use crate::report::outcome::Next;
use crate::report::text::count;
use crate::report::{Reporter, prompt};

pub(super) fn run(apply: &Apply, global: &Global, reporter: &Reporter) -> Done {
    let began = Instant::now();
    let site = stages::site(&apply.inventory.inventory, reporter)?;
    let saved = apply.plan.as_deref().map(Saved::read).transpose()?;
    let hosts = match &saved {
        Some(saved) => saved.hosts().cloned().collect(),
        None => stages::selected(&site, global)?,
    };
    stages::unbuilt(&site)?;
    let templates = stages::templates(&site, reporter)?;
    let connector = stages::connector(reporter);
    let (issued, prepared) = stages::planned(&site, &hosts, &templates, &connector, global, reporter)?;
    if let Some(saved) = &saved {
        saved.same_as(&Saved::of(&site, &prepared))?;
    }
    absent(&prepared.survey, apply, reporter)?;
    reporter.plan(&site, &prepared.plan)?;
    own_way_in(&site, &prepared, apply.force, reporter)?;
    let due = order::announce(&site, reporter)?;
    if let Some(saved) = &saved {
        saved.holds_orders(&due)?;
    }
    let options = options(global, apply.wave, apply.max_failed);
    let all = prepared.survey.unreachable.is_empty() && hosts.len() == site.hosts.len();
    let next = Next { command: format!("infra apply {}", apply.inventory.inventory.display()), undo: None };
    let work = prepared.plan.changed().count();
    if work == 0 && due.is_empty() {
        let mut outcome = untouched(&prepared, &options.run);
        outcome.seconds = began.elapsed().as_secs_f64();
        reporter.outcome(&outcome, &next, exit::of(&outcome))?;
        return finished(&site, &outcome, all, &issued);
    }
    // What a person waits for; the time that they take to answer is their own.
    let looked = began.elapsed();
    if !confirm(work, due.len(), apply.yes)? {
        reporter.note("nothing was changed");
        return Ok(exit::DONE);
    }
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    let orders = Orders { due, issued: &issued, hosts: &hosts, all };
    let then = |outcome: &Outcome, options| {
        let (connector, interrupt) = (&connector, &interrupt);
        let (site, templates, next) = (&site, &templates, &next);
        orders.after(outcome, &order::Work { site, templates, connector, global, options, next, interrupt, reporter })
    };
    if work == 0 {
        return then(&untouched(&prepared, &options.run), options);
    }
    let mut outcome = reporter.during(&interrupt, |events| {
        transaction::execute(&site, prepared, &issued.materials, &connector, &options, interrupt.flag(), &events)
    });
    outcome.seconds += looked.as_secs_f64();
    history::save_outcome(&site.state, &outcome)?;
    reporter.outcome(&outcome, &next, exit::of(&outcome))?;
    then(&outcome, options)
}

/// The certificates that are ordered as the last part of a run.
struct Orders<'a> {
    due: BTreeSet<String>,
    issued: &'a pki::Issued,
    hosts: &'a BTreeSet<HostName>,
    all: bool,
}

impl Orders<'_> {
    fn after(&self, outcome: &Outcome, work: &order::Work<'_>) -> Done {
        let code = finished(work.site, outcome, self.all, self.issued)?;
        if self.due.is_empty() || code != exit::DONE {
            return Ok(code);
        }
        if !order::Work::lbs(work.site).is_subset(self.hosts) {
            work.reporter.note("no certificate was ordered, as not all load balancers are selected");
            return Ok(code);
        }
        Ok(match work.run(&self.due, &BTreeSet::new())? {
            order::Ended::Nothing | order::Ended::Renewed => exit::DONE,
            order::Ended::Deferred => exit::DEFERRED,
            order::Ended::Unreachable => exit::UNREACHABLE,
            order::Ended::Pending | order::Ended::Failed => exit::FAILED,
        })
    }
}

/// How a run goes about it, under a name of its own.
pub(super) fn options(global: &Global, wave: Option<Wave>, max_failed: usize) -> transaction::Options {
    transaction::Options { parallel: global.parallel.get(), wave, max_failed, run: run_name(), who: who() }
}

/// A rotation of the internal authority takes its next step when every host of the inventory has taken this one.
pub(super) fn finished(site: &Site, outcome: &Outcome, all: bool, issued: &pki::Issued) -> Done {
    let code = exit::of(outcome);
    if all && code == exit::DONE {
        pki::mark_deployed(&site.state, issued.step).map_err(|e| Stop::Refused(e.to_string(), Vec::new()))?;
    }
    Ok(code)
}

fn untouched(prepared: &Prepared, run: &str) -> Outcome {
    let mut outcome = Outcome { run: run.to_owned(), ..Outcome::default() };
    for name in prepared.plan.hosts.keys() {
        outcome.hosts.insert(name.clone(), HostOutcome::Unchanged);
    }
    for (name, error) in &prepared.survey.unreachable {
        outcome.hosts.insert(name.clone(), HostOutcome::Unreachable { reason: error.to_string() });
    }
    outcome
}

/// Hosts that do not answer, or that we leave alone, end the run before anything is planned, unless the person said otherwise.
fn absent(survey: &Survey, apply: &Apply, reporter: &Reporter) -> Result<(), Stop> {
    for (host, reason) in &survey.refused {
        reporter.error(&format!("{host} is left alone: {reason}"), &[], &[])?;
    }
    if !survey.refused.is_empty() {
        return Err(Stop::Refused(
            format!("{} cannot be worked on now, nothing was planned", count(survey.refused.len(), "host")),
            vec!["mend what is named above, or leave them out with `--limit '!HOST'`".to_owned()],
        ));
    }
    let missing = survey.unreachable.len();
    let allowed = apply.skip_unreachable || (apply.max_failed > 0 && missing <= apply.max_failed);
    if missing == 0 || allowed {
        return Ok(());
    }
    let names: BTreeSet<&HostName> = survey.unreachable.keys().collect();
    let names: Vec<&str> = names.iter().take(8).map(|h| h.as_str()).collect();
    reporter.error(
        &format!("{} cannot be reached, so nothing was planned: {}", count(missing, "host"), names.join(", ")),
        &[],
        &["look at them, or go on without them: `--skip-unreachable`".to_owned()],
    )?;
    Err(Stop::Unreachable)
}

fn own_way_in(site: &Site, prepared: &Prepared, force: bool, reporter: &Reporter) -> Result<(), Stop> {
    let mut cut = stages::way_in(site, &stages::cut_off(site, prepared));
    if cut.is_empty() {
        return Ok(());
    }
    if !force {
        cut.push(Diagnostic::error("nothing was done").help(
            "`--force` tries it all the same: the hosts take the rules back by themselves when no new connection comes",
        ));
        return Err(Stop::Input(cut));
    }
    for one in &mut cut {
        one.severity = crate::base::diagnostic::Severity::Warning;
    }
    Ok(reporter.diagnostics(&cut)?)
}

/// `20261123T184501`, UTC: sorts as time does.
fn run_name() -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]");
    OffsetDateTime::now_utc().format(format).unwrap_or_else(|_| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
        since.as_secs().to_string()
    })
}

/// `ops@workstation`, for locks and journals.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let machine = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let clean = |text: &str| text.chars().filter(char::is_ascii_graphic).take(64).collect::<String>();
    format!("{}@{}", clean(&user.unwrap_or_else(|| "someone".into())), clean(&machine))
}

/// Asks once, unless `--yes` was given.
fn confirm(hosts: usize, orders: usize, yes: bool) -> Result<bool, Stop> {
    if yes {
        return Ok(true);
    }
    let question = match (hosts, orders) {
        (_, 0) => format!("apply to {}?", count(hosts, "host")),
        (0, _) => format!("order {}?", count(orders, "certificate")),
        _ => format!("apply to {} and order {}?", count(hosts, "host"), count(orders, "certificate")),
    };
    prompt::confirm(&question).map_err(|error| {
        let help = "add `--yes` to apply without being asked, or run `infra diff --out FILE` and `infra apply --plan FILE --yes`";
        Stop::Refused(error.to_string(), vec![help.to_owned()])
    })
}

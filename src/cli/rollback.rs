//! `rollback`: files, rules and units as they were before a run, by a plan like any other.

use std::time::Instant;

use super::global::{Global, Inventory, Restarts};
use super::stop::{Done, Stop};
use super::work::{Consent, Work};
use super::{apply, exit, stages};
use crate::base::diagnostic::Diagnostic;
use crate::fleet::rollback::{self, Asked};
use crate::fleet::survey;
use crate::fleet::transaction::Options;
use crate::report::Reporter;
use crate::report::text::count;
use crate::service::Services;

/// `rollback`.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Rollback {
    /// The run, by its name or how that begins; without it the last run that changed anything
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Show the plan and do nothing; exits 0 with nothing to do, 3 with changes
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Take the run back also where somebody has changed its files by hand since: those changes are lost
    #[arg(long)]
    pub overwrite_drift: bool,
    /// Leave out hosts that cannot be reached, instead of stopping before anything is planned
    #[arg(long)]
    pub skip_unreachable: bool,
    /// Go on where the rules of before would lock this machine out
    #[arg(long)]
    pub force: bool,
    /// Restarts that wait for a person
    #[command(flatten)]
    pub restarts: Restarts,
}

pub(super) fn run(rollback: &Rollback, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let (run, inventory) = stages::run_or_inventory(rollback.run.as_deref(), &rollback.inventory.inventory)?;
    let site = stages::site(inventory, reporter)?;
    stages::without_retired(&site)?;
    let hosts = stages::selected(&site, global)?;
    let mut work = Work::new(&site, &hosts, String::new(), global, services, reporter)?;
    work.confirmed = rollback.restarts.units(services, &site)?;
    // Another controller may have retired a host, and what was before that on the others lets it in again.
    let others = site.hosts.keys().filter(|host| !hosts.contains(*host)).cloned().collect();
    survey::not_let_in_again(&work.kept(None, &others).retired())?;
    // Which run is meant, and then what was before it: two questions, as the second needs the run's whole name.
    let first = work.kept(run, &hosts);
    answered(&first, rollback, inventory, reporter)?;
    survey::not_let_in_again(&first.retired())?;
    let run = rollback::choose(&first, run)?;
    let asked = work.kept(Some(&run), &first.kept.keys().cloned().collect());
    answered(&asked, rollback, inventory, reporter)?;
    let back = rollback::before(&asked, &run)?;
    work.goes_back(&run, inventory);
    let hosts = back.hosts();
    if hosts.is_empty() {
        let help = "`infra history` says what each run did".to_owned();
        return Err(Stop::Refused(format!("run {run} changed nothing on these hosts"), vec![help]));
    }
    let (issued, prepared) = work.restored(&back)?;
    let survey = &prepared.survey;
    for (host, reason) in &survey.refused {
        reporter.error(&format!("{host} is left alone: {reason}"), &[], &[])?;
    }
    if !survey.refused.is_empty() {
        let help = "mend the causes named above, or leave these hosts out with `--limit`".to_owned();
        return Err(Stop::Refused("nothing was done".to_owned(), vec![help]));
    }
    if !survey.unreachable.is_empty() {
        stages::unreached(&survey.unreachable, ("nothing was planned", None), inventory, reporter)?;
        return Err(Stop::Unreachable);
    }
    work.confirms_what_is_there(&prepared, &hosts)?;
    back.notes.iter().for_each(|note| reporter.note(note));
    reporter.plan(&site, &prepared.plan)?;
    let drift: Vec<Diagnostic> = prepared
        .plan
        .hosts
        .iter()
        .flat_map(|(host, plan)| plan.drift.iter().map(move |drift| format!("{host}: {drift}")))
        .map(|drift| Diagnostic::error(format!("run {run} cannot be taken back exactly: {drift}")))
        .collect();
    if !drift.is_empty() && !rollback.overwrite_drift {
        let help = "take what was changed by hand into the inventory or a template, or lose it: `--overwrite-drift`";
        let last = Diagnostic::error("nothing was done").help(help);
        return Err(Stop::Input(drift.into_iter().chain([last]).collect()));
    }
    apply::own_way_in(&site, &prepared, rollback.force, reporter)?;
    if prepared.plan.is_empty() {
        reporter.note(&format!("there is nothing to do: these hosts are what they were before run {run}"));
        return Ok(exit::DONE);
    }
    if rollback.dry_run {
        return Ok(exit::PENDING);
    }
    let (looked, waited) = (work.began.elapsed().as_secs_f64(), Instant::now());
    let question = format!("take run {run} back on {}?", count(prepared.plan.changed().count(), "host"));
    let consent = if rollback.yes { Consent::Given } else { Consent::Asked(&question) };
    if consent.given()? != Some(true) {
        reporter.note("nothing was changed");
        return Ok(exit::DECLINED);
    }
    work.began += waited.elapsed();
    work.interrupt.watch(exit::INTERRUPTED.into())?;
    let options = Options { restores: Some(run), ..work.options.clone() };
    let outcome = work.pass(&issued, prepared, &options, looked)?;
    reporter.note("the inventory may still want what was taken back: `infra diff` shows what the next apply would do");
    work.end(outcome, exit::of)
}

/// Hosts that do not answer end it, unless the person said otherwise: what the run did there is not known.
fn answered(asked: &Asked, rollback: &Rollback, inventory: &std::path::Path, reporter: &Reporter) -> Result<(), Stop> {
    if asked.away.is_empty() || (rollback.skip_unreachable && !asked.kept.is_empty()) {
        return Ok(());
    }
    let help = "look at these hosts, or take the run back on the others alone: `--skip-unreachable`";
    stages::unreached(&asked.away, ("nothing was planned", Some(help)), inventory, reporter)?;
    Err(Stop::Unreachable)
}

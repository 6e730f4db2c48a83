//! `apply`: the same plan, confirmed once, executed.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::global::{Global, Inventory, Restarts};
use super::on_failure::{self, OnFailure};
use super::stop::{Done, Stop};
use super::work::Work;
use super::{db, exit, numbers, stages};
use crate::base::diagnostic::{Diagnostic, Severity};
use crate::base::net::HostName;
use crate::base::warning::Warning;
use crate::fleet::beforehand::Ahead;
use crate::fleet::run::Wave;
use crate::fleet::saved::{Saved, Ticket};
use crate::fleet::survey::{Prepared, Survey};
use crate::fleet::transaction::Options;
use crate::fleet::wave::Waves;
use crate::fleet::way_in;
use crate::inventory::site::Site;
use crate::plan::state::Phase;
use crate::report::text::count;
use crate::report::{Reporter, prompt, steps};
use crate::service::Services;

/// `apply`.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Apply {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Execute exactly this plan of `diff --out`, or refuse if a host has changed since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["units", "restart_writer"])]
    pub plan: Option<PathBuf>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Hosts of a phase that change at the same time, as numbers or shares, one wave after the other; the last one stays. After each,
    /// what worked before has to work still
    #[arg(long, value_name = "N|P%,…", value_delimiter = ',')]
    pub wave: Vec<Wave>,
    /// How long to wait between two waves
    #[arg(long, value_name = "SECONDS", default_value = "0", requires = "wave", value_parser = numbers::pause)]
    pub pause: u16,
    /// What is taken back where a host fails in the middle: no more than its failed phase, or the whole run on that host, on all that
    /// changed at the same time, or everywhere
    #[arg(long, value_enum, value_name = "WHAT", default_value = "keep")]
    pub on_failure: OnFailure,
    /// Go on until more than N hosts have failed; unreachable hosts count
    #[arg(long, value_name = "N", default_value = "0", value_parser = numbers::number)]
    pub max_failed: usize,
    /// Drain each web and app host before it changes, one at a time, and bring it back after; its connections may take so many
    /// seconds to end
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", require_equals = true, value_parser = numbers::seconds)]
    pub drain: Option<NonZeroU32>,
    /// Leave out hosts that cannot be reached, instead of stopping before anything is planned
    #[arg(long)]
    pub skip_unreachable: bool,
    /// Let the first firewall of this host close what is in use there, as the plan lists it
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub close: Vec<HostName>,
    /// Go on where the new rules would lock this machine out
    #[arg(long)]
    pub force: bool,
    /// Fail also where the user's program or the monitoring service was not seen to take what it is sent
    #[arg(long)]
    pub strict: bool,
    /// Take over hosts that belong to the infrastructure of this name: what it has there is removed
    #[arg(long, value_name = "OLD-NAME")]
    pub adopt: Option<HostName>,
    /// Restarts that wait for a person
    #[command(flatten)]
    pub restarts: Restarts,
}

impl Apply {
    /// Of an inventory, with no option given.
    pub(super) fn of(inventory: &Inventory) -> Self {
        Self {
            inventory: inventory.clone(),
            plan: None,
            yes: false,
            wave: Vec::new(),
            pause: 0,
            on_failure: OnFailure::Keep,
            max_failed: 0,
            drain: None,
            skip_unreachable: false,
            close: Vec::new(),
            force: false,
            strict: false,
            adopt: None,
            restarts: Restarts::default(),
        }
    }
}

pub(super) fn run(apply: &Apply, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&apply.inventory.inventory, reporter)?;
    stages::without_retired(&site)?;
    stages::gone(&site, reporter);
    Ok(on(&site, apply, global, services, reporter)?.unwrap_or(exit::DECLINED))
}

/// The same with an inventory that is loaded; gives nothing where the person does not agree.
pub(super) fn on(
    site: &Site,
    apply: &Apply,
    global: &Global,
    services: Services,
    reporter: &Reporter,
) -> Result<Option<u8>, Stop> {
    let saved = apply.plan.as_deref().map(|file| ticket(file, site)).transpose()?;
    if saved.is_some() && !global.limit.is_empty() {
        return Err(Stop::Refused(
            "`--limit` cannot be given with `--plan`: a plan is executed as it was shown, on all of its hosts".into(),
            vec!["make a plan of these hosts alone: `infra diff --limit HOST --out FILE`".into()],
        ));
    }
    let hosts = match &saved {
        Some(ticket) => ticket.plan().hosts().cloned().collect(),
        None => stages::selected(site, global)?,
    };
    db::remind(site, reporter)?;
    let command = format!("infra apply {}", apply.inventory.inventory.display());
    let mut work = Work::new(site, &hosts, command, global, services, reporter)?;
    work.adopt.clone_from(&apply.adopt);
    work.may_be_undone(&apply.inventory.inventory);
    let drain = apply.drain.map(|seconds| Duration::from_secs(seconds.get().into()));
    let (sizes, pause) = (apply.wave.clone(), Duration::from_secs(apply.pause.into()));
    let waves = Waves { gate: !sizes.is_empty(), sizes, pause };
    work.options = Options { waves, max_failed: apply.max_failed, drain, ..work.options };
    work.confirmed = match &saved {
        Some(ticket) => ticket.plan().confirmed().clone(),
        None => apply.restarts.units(services, site)?,
    };
    let (mut issued, mut prepared) = work.planned(&hosts)?;
    work.confirms_what_is_there(&prepared, &hosts)?;
    work.keeps_authority(&mut prepared)?;
    let ahead = work.ahead(&mut prepared);
    if let Some(saved) = &saved {
        for (kind, subject) in saved.plan().same_as(&Saved::of(site, &prepared)?, site)? {
            reporter.note(&format!("{} is no longer due, and is not {}", kind.object(&subject), kind.done()));
        }
    }
    // Behind the comparison with a plan of a file, which was made without it.
    if apply.strict {
        let probes = prepared.desired.values_mut().flat_map(|host| &mut host.probes);
        // An earlier phase would be put back for it.
        probes.filter(|probe| probe.phase == Phase::Verify).for_each(|probe| probe.advisory = false);
    }
    absent(&prepared.survey, apply, global, reporter)?;
    let left_out = work.leave_out(&mut prepared, &hosts)?;
    work.undecided(&prepared)?;
    reporter.plan(site, &prepared.plan)?;
    if drain.is_some() {
        reporter.note("each web and app host is drained before its phase `web` or `app`, and brought back after it");
    }
    work.tell_of_gone(&prepared)?;
    work.warn_of(&ahead)?;
    own_way_in(site, &prepared, apply.force, reporter)?;
    work.keeps_trust(&prepared)?;
    steps::announce(&prepared.plan, reporter)?;
    let all = prepared.survey.unreachable.is_empty() && hosts.len() == site.hosts.len();
    let options = Options { settle: all && issued.step.is_some(), ..work.options.clone() };
    if prepared.plan.is_empty() && prepared.news.is_empty() {
        let mut outcome = work.untouched(&mut prepared, &options);
        outcome.seconds = work.began.elapsed().as_secs_f64();
        outcome.steps = left_out;
        work.tell(&outcome)?;
        work.finished(&outcome, all, &issued)?;
        return Ok(Some(exit::of(&outcome)));
    }
    if !prepared.plan.leaves_hosts() {
        work.share(&prepared, &options)?;
    }
    // What a person waits for; the time that they take to answer is their own.
    let (looked, asked) = (work.began.elapsed().as_secs_f64(), Instant::now());
    // What the controller comes to remember changes nothing that a person would have to agree to.
    let said = Word { yes: apply.yes, closes: unnamed(&ahead, &apply.close), limited: global.limited() };
    if !prepared.plan.is_empty() && !confirm(prepared.plan.changed().count(), prepared.plan.steps.len(), &said)? {
        reporter.note("nothing was changed");
        return Ok(None);
    }
    work.began += asked.elapsed();
    work.interrupt.watch(exit::INTERRUPTED.into())?;
    if let (Some(ticket), Some(file)) = (&saved, &apply.plan) {
        // A person may have taken their time to answer.
        ticket.holds(file, &site.state, OffsetDateTime::now_utc())?;
        ticket.spend(&site.state, &options.run, OffsetDateTime::now_utc())?;
    }
    let planned = std::mem::take(&mut prepared.plan.steps);
    let mut outcome = if prepared.plan.leaves_hosts() && prepared.news.is_empty() {
        work.untouched(&mut prepared, &options)
    } else {
        work.make_passwords(&hosts, &mut issued, &mut prepared)?;
        let outcome = work.pass(&issued, prepared, &options, looked)?;
        on_failure::after_failure(&work, outcome, apply.on_failure)?
    };
    work.finished(&outcome, all, &issued)?;
    outcome.steps.extend(left_out);
    let outcome = work.steps(outcome, &planned)?;
    work.end(outcome, exit::of).map(Some)
}

/// A plan of a file that still holds.
fn ticket(file: &Path, site: &Site) -> Result<Ticket, Stop> {
    let ticket = Ticket::read(file)?;
    ticket.holds(file, &site.state, OffsetDateTime::now_utc())?;
    Ok(ticket)
}

/// Hosts that do not answer, or that we leave alone, end the run before anything is planned, unless the person said otherwise.
fn absent(survey: &Survey, apply: &Apply, global: &Global, reporter: &Reporter) -> Result<(), Stop> {
    for (host, reason) in &survey.refused {
        reporter.error(&format!("{host} is left alone: {reason}"), &[], &[])?;
    }
    if !survey.refused.is_empty() {
        return Err(Stop::Refused(
            format!("{} cannot be worked on now, nothing was planned", count(survey.refused.len(), "host")),
            vec![format!(
                "mend the causes named above, or leave these hosts out with `{}`",
                global.without(survey.refused.keys()).trim_start()
            )],
        ));
    }
    let missing = survey.unreachable.len();
    let allowed = apply.skip_unreachable || (apply.max_failed > 0 && missing <= apply.max_failed);
    if missing == 0 || allowed {
        return Ok(());
    }
    let help = "look at these hosts, or go on without them: `--skip-unreachable`";
    let words = ("nothing was planned", Some(help));
    stages::unreached(&survey.unreachable, words, &apply.inventory.inventory, reporter)?;
    Err(Stop::Unreachable)
}

pub(super) fn own_way_in(site: &Site, prepared: &Prepared, force: bool, reporter: &Reporter) -> Result<(), Stop> {
    let mut cut = way_in::refusals(site, prepared);
    if cut.is_empty() {
        return Ok(());
    }
    if !force {
        cut.push(Diagnostic::error("nothing was done").help(
            "`--force` tries the change all the same: the hosts take the rules back by themselves when no new connection comes",
        ));
        return Err(Stop::Input(cut));
    }
    for one in &mut cut {
        one.severity = Severity::Warning(Warning::WayIn);
    }
    Ok(reporter.diagnostics(&site.told(cut))?)
}

/// What a person has said already, and what only a name confirms.
struct Word {
    yes: bool,
    /// The hosts, joined by commas, whose first firewall closes what is in use and which `--close` has not named.
    closes: String,
    /// The limits of this run, as a hint repeats them.
    limited: String,
}

fn unnamed(ahead: &Ahead, named: &[HostName]) -> String {
    let hosts = ahead.closing();
    let unnamed: Vec<&str> = hosts.into_iter().filter(|host| !named.contains(host)).map(HostName::as_str).collect();
    unnamed.join(",")
}

/// Asks once, unless `--yes` was given. What is in use and would be closed is confirmed by the hosts' names.
fn confirm(hosts: usize, orders: usize, word: &Word) -> Result<bool, Stop> {
    let closes = &word.closes;
    if word.yes && closes.is_empty() {
        return Ok(true);
    }
    if !closes.is_empty() {
        let what = format!("the first firewall of {closes} closes what is in use there, as listed above");
        let help = format!("keep it by the lines of `firewall.allow` above, or close it: add `--close {closes}`");
        if word.yes {
            return Err(Stop::Refused(format!("{what}, and `--yes` alone does not confirm that"), vec![help]));
        }
        return prompt::typed(&what, closes).map_err(|error| Stop::Refused(format!("{what}: {error}"), vec![help]));
    }
    let question = match (hosts, orders) {
        (_, 0) => format!("apply to {}?", count(hosts, "host")),
        (0, _) => format!("order {}?", count(orders, "certificate")),
        _ => format!("apply to {} and order {}?", count(hosts, "host"), count(orders, "certificate")),
    };
    prompt::confirm(&question).map_err(|error| {
        let help = format!(
            "add `--yes` to apply without being asked, or run `infra diff{} --out FILE` and `infra apply --plan FILE --yes`",
            word.limited
        );
        Stop::Refused(error.to_string(), vec![help])
    })
}

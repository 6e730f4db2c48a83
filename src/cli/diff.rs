//! `diff`: the plan against the live hosts, shown and perhaps kept in a file.

use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;

use super::global::{Global, Inventory, Restarts};
use super::output::{Kind, Output};
use super::stop::{Done, Stop};
use super::work::Work;
use super::{db, exit, stages};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::fleet::saved::{Saved, Ticket};
use crate::fleet::survey::Survey;
use crate::fleet::way_in;
use crate::inventory::duration;
use crate::report::{Reporter, steps};
use crate::service::Services;

/// `diff`.
#[derive(Debug, Clone, clap::Args)]
pub struct Diff {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Also keep the plan in a file, for `apply --plan`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How long the plan in the file holds: whole seconds, minutes or hours, at most 30 days (`720h`)
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = valid, requires = "out")]
    pub valid: Duration,
    /// Print the plan as Markdown, for a comment of a pull request: at most 65,000 characters, the changes folded
    #[arg(long)]
    pub markdown: bool,
    /// Print the plan as one page for a browser, which needs no other file
    #[arg(long, conflicts_with = "markdown")]
    pub html: bool,
    /// Take over hosts that belong to the infrastructure of this name: what it has there is removed
    #[arg(long, value_name = "OLD-NAME")]
    pub adopt: Option<HostName>,
    /// Restarts that wait for a person
    #[command(flatten)]
    pub restarts: Restarts,
}

/// The longest time for which a plan is worth anything.
const LONGEST: Duration = Duration::from_hours(720);

fn valid(text: &str) -> Result<Duration, String> {
    let time = duration(text).filter(|time| !time.is_zero() && *time <= LONGEST);
    time.ok_or_else(|| "write whole seconds, minutes or hours, such as `30m` or `24h`, at most `720h`".to_owned())
}

pub(super) fn run(diff: &Diff, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let output = diff.out.as_deref().map(|file| Output::new(file, Kind::Plan)).transpose()?;
    let site = stages::site(&diff.inventory.inventory, reporter)?;
    stages::without_retired(&site)?;
    let hosts = stages::selected(&site, global)?;
    db::remind(&site, reporter)?;
    stages::gone(&site, reporter);
    let command = format!("infra apply {}", diff.inventory.inventory.display());
    let mut work = Work::new(&site, &hosts, command, global, services, reporter)?;
    // Nothing is done, so a host that has answered is not needed any more.
    work.connector.end_soon();
    work.adopt.clone_from(&diff.adopt);
    work.confirmed = diff.restarts.units(services, &site)?;
    let (_, mut prepared) = work.planned(&hosts)?;
    work.confirms_what_is_there(&prepared, &hosts)?;
    work.keeps_authority(&mut prepared)?;
    let ahead = work.ahead(&mut prepared);
    // What this run leaves out was planned all the same: whoever executes the file plans it too, and leaves it out again.
    let saved = output.map(|output| Ok::<_, Stop>((output, Saved::of(&site, &prepared)?))).transpose()?;
    work.leave_out(&mut prepared, &hosts)?;
    let survey = &prepared.survey;
    for (host, reason) in &survey.refused {
        reporter.error(&format!("{host} is left alone: {reason}"), &[], &[])?;
    }
    let unreached = |follows| {
        let words = (follows, Some("look at these hosts: the cause stands with each of them above"));
        stages::unreached(&survey.unreachable, words, &diff.inventory.inventory, reporter)
    };
    if survey.observed.is_empty() && survey.refused.is_empty() {
        unreached("there is no plan")?;
        return Err(Stop::Unreachable);
    }
    if survey.observed.is_empty() {
        reporter.note("there is no plan: every host is left alone");
        return Ok(exit::FAILED);
    }
    let cut = way_in::refusals(&site, &prepared);
    // A document has the controller's steps in it, and what the plan is without; for programs there is one form.
    let as_document = (diff.html || diff.markdown) && !reporter.is_json();
    if !as_document {
        reporter.plan(&site, &prepared.plan)?;
    } else if diff.html {
        reporter.plan_as_page(&site, &prepared.plan, &without(survey, &cut), OffsetDateTime::now_utc())?;
    } else {
        reporter.plan_as_markdown(&site, &prepared.plan, &without(survey, &cut))?;
    }
    work.tell_of_gone(&prepared)?;
    work.warn_of(&ahead)?;
    if !as_document {
        steps::announce(&prepared.plan, reporter)?;
    }
    work.undecided(&prepared)?;
    if !cut.is_empty() {
        return Err(Stop::Input(cut));
    }
    work.keeps_trust(&prepared)?;
    if let Some((output, saved)) = saved {
        output.write(&Ticket::of(saved, &site.state, OffsetDateTime::now_utc(), diff.valid)?.text()?)?;
    }
    if !survey.unreachable.is_empty() {
        unreached("this plan is without")?;
        return Err(Stop::Unreachable);
    }
    if !survey.refused.is_empty() {
        return Ok(exit::FAILED);
    }
    if !prepared.undecided.is_empty() {
        return Ok(exit::UNREACHABLE);
    }
    Ok(if prepared.plan.is_empty() { exit::DONE } else { exit::PENDING })
}

/// What whoever reads the plan as a document should know that is no part of it, each a sentence.
fn without(survey: &Survey, cut: &[Diagnostic]) -> Vec<String> {
    let refused =
        survey.refused.iter().map(|(host, why)| format!("this plan is without {host}, which is left alone: {why}"));
    let away = survey
        .unreachable
        .iter()
        .map(|(host, why)| format!("this plan is without {host}, which cannot be reached: {why}"));
    let cut = cut.iter().map(|error| format!("this plan is refused: {}", error.message));
    refused.chain(away).chain(cut).collect()
}

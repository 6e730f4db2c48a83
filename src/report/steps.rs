//! The controller's steps for a person and for programs: takes those of a plan, gives each in full, and what waits for its time;
//! then what became of each.

use std::io;

use serde_json::Value;

use super::Reporter;
use super::certificates::{CertificateLine, moment};
use super::line::Line;
use crate::fleet::event::{StepFate, StepOutcome};
use crate::fleet::installation::Pending;
use crate::fleet::preflight::Looked;
use crate::plan::plan::Plan;
use crate::plan::step::{Step, StepKind, Waiting};

/// What the controller does after the last phase of a plan, and what waits: a sentence each, with lines about it.
pub(super) fn words(plan: &Plan) -> Vec<(String, &[String])> {
    let steps = plan.steps.iter().map(|step| (then(step), step.lines.as_slice()));
    steps.chain(plan.waiting.iter().map(|waiting| (waits(waiting), &[][..]))).collect()
}

fn then(step: &Step) -> String {
    format!("then: {}", step.title)
}

fn waits(Waiting { kind, subject, until, why }: &Waiting) -> String {
    format!("{} is due, but waits until {}: {why}", kind.object(subject), moment(*until))
}

/// Tells what the controller does after the last phase of a plan, and what waits: a part of the plan, so it goes where that goes.
///
/// # Errors
/// When stdout cannot be written to.
pub fn announce(plan: &Plan, reporter: &Reporter) -> io::Result<()> {
    if !reporter.is_json() {
        let text: String = words(plan).into_iter().map(|(text, lines)| block(&text, lines)).collect();
        return reporter.data(&text);
    }
    for step in &plan.steps {
        reporter.line(&line(step.kind, step.kind.noun(), &step.subject, &then(step), Some(&step.deed)))?;
    }
    for waiting in &plan.waiting {
        reporter.line(&line(waiting.kind, "deferred", &waiting.subject, &waits(waiting), None))?;
    }
    Ok(())
}

/// A sentence, and the lines about it, with a line end.
pub(super) fn block(text: &str, lines: &[String]) -> String {
    let all: Vec<&str> = std::iter::once(text).chain(lines.iter().map(String::as_str)).collect();
    all.join("\n") + "\n"
}

/// Tells what was seen before orders: what stops nothing, then what stops which of them.
///
/// # Errors
/// When stdout cannot be written to.
pub fn looked(looked: &Looked, reporter: &Reporter) -> io::Result<()> {
    for warning in &looked.warnings {
        reporter.note(&format!("warning: {}; {}", warning.what, warning.todo));
    }
    for (sites, findings) in &looked.refusals {
        let mut todo: Vec<String> = Vec::new();
        for finding in findings {
            if !todo.contains(&finding.todo) {
                todo.push(finding.todo.clone());
            }
        }
        let what: Vec<String> = findings.iter().map(|finding| finding.what.clone()).collect();
        let text = format!("no certificate was ordered for {}; the CA was not asked", sites.join(", "));
        reporter.error(&text, &what, &todo)?;
    }
    Ok(())
}

/// Tells what became of a step. What was refused was told before; programs find what was left out in the outcome.
///
/// # Errors
/// When stdout cannot be written to.
pub fn fate(step: &StepOutcome, reporter: &Reporter) -> io::Result<()> {
    let StepOutcome { kind, subject, fate } = step;
    match fate {
        StepFate::Done { about, notes } => {
            for note in notes {
                reporter.note(&format!("warning: {subject}: {note}"));
            }
            say(reporter, *kind, "obtained", subject, &format!("obtained: {about}"))
        }
        StepFate::Deferred { until, why } => {
            let text = format!("{subject} waits until {}: {why}", moment(*until));
            say(reporter, *kind, "deferred", subject, &text)
        }
        StepFate::Failed { why, until, .. } => {
            let help = format!("what is in use stays; it is tried again from {} on", moment(*until));
            reporter.error(&format!("no certificate for {subject}: {why}"), &[], &[help])
        }
        StepFate::LeftOut { why } => {
            reporter.note(&format!("{} is not {} in this run: {why}", kind.object(subject), kind.done()));
            Ok(())
        }
        StepFate::Unneeded | StepFate::Refused { .. } => Ok(()),
    }
}

/// Tells which hosts still wait for certificates.
///
/// # Errors
/// When stdout cannot be written to.
pub fn pending(pending: &Pending, reporter: &Reporter) -> io::Result<()> {
    for (host, (sites, why)) in pending {
        let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
        let text = match sites.as_slice() {
            [] => format!("{host} {why}"),
            some => format!("{host} does not have the certificate of {} yet: it {why}", some.join(", ")),
        };
        let help = "pending: what it lacks is brought to it by the next `infra cert renew`, or `infra apply`, without an order";
        reporter.error(&text, &[], &[help.to_owned()])?;
    }
    Ok(())
}

/// One sentence about a step.
///
/// # Errors
/// When stdout cannot be written to.
pub fn say(reporter: &Reporter, kind: StepKind, step: &str, subject: &str, text: &str) -> io::Result<()> {
    if reporter.is_json() {
        return reporter.line(&line(kind, step, subject, text, None));
    }
    reporter.note(text);
    Ok(())
}

fn line<'a>(kind: StepKind, step: &'a str, subject: &'a str, text: &'a str, deed: Option<&'a Value>) -> Line<'a> {
    match kind {
        StepKind::Order => Line::Certificate(Box::new(CertificateLine::step(step, subject, text, deed))),
    }
}

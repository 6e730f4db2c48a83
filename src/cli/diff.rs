//! `diff`: the plan against the live hosts, shown and perhaps kept in a file.

use super::args::{Diff, Global};
use super::saved::Saved;
use super::{Done, Stop, exit, order, stages};
use crate::base::fsx;
use crate::base::net::HostName;
use crate::report::Reporter;
use crate::report::text::count;

pub(super) fn run(diff: &Diff, global: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&diff.inventory.inventory, reporter)?;
    let hosts = stages::selected(&site, global)?;
    stages::unbuilt(&site)?;
    let templates = stages::templates(&site, reporter)?;
    let connector = stages::connector(reporter);
    let (_, prepared) = stages::planned(&site, &hosts, &templates, &connector, global, reporter)?;
    let survey = &prepared.survey;
    for (host, reason) in &survey.refused {
        reporter.error(&format!("{host} is left alone: {reason}"), &[], &[])?;
    }
    reporter.plan(&site, &prepared.plan)?;
    let due = order::announce(&site, reporter)?;
    let cut = stages::way_in(&site, &stages::cut_off(&site, &prepared));
    if !cut.is_empty() {
        return Err(Stop::Input(cut));
    }
    if let Some(file) = &diff.out {
        let saved = Saved::of(&site, &prepared).with_orders(&due);
        fsx::write_atomic(file, &serde_json::to_vec_pretty(&saved).map_err(anyhow::Error::from)?, 0o600)?;
    }
    if !survey.unreachable.is_empty() {
        let names: Vec<&str> = survey.unreachable.keys().take(8).map(HostName::as_str).collect();
        reporter.error(
            &format!(
                "{} cannot be reached and has no place in this plan: {}",
                count(survey.unreachable.len(), "host"),
                names.join(", ")
            ),
            &[],
            &[],
        )?;
        return Err(Stop::Unreachable);
    }
    if !survey.refused.is_empty() {
        return Ok(exit::FAILED);
    }
    Ok(if prepared.plan.is_empty() && due.is_empty() { exit::DONE } else { exit::PENDING })
}

//! `history`: past runs, from the controller's state and from the hosts' own journals, which survive the loss of the state.

use std::collections::BTreeMap;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::{exit, numbers, stages};
use crate::base::words::count;
use crate::fleet::journals::{self, Past, Remembered};
use crate::inventory::site::Host;
use crate::report::Reporter;

/// `history`.
#[derive(Debug, Clone, clap::Args)]
pub struct History {
    /// A run, by its name or how that begins; without it a list of all
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// How many runs the list has, the latest first
    #[arg(long, value_name = "N", default_value = "20", value_parser = numbers::number)]
    pub last: usize,
    /// Ask no host: only what this controller remembers
    #[arg(long)]
    pub local: bool,
}

pub(super) fn run(history: &History, global: &Global, reporter: &Reporter) -> Done {
    let (run, inventory) = stages::run_or_inventory(history.run.as_deref(), &history.inventory.inventory)?;
    let (site, _) = stages::loaded(inventory)?;
    let selected = stages::selected(&site, global)?;
    let Remembered { mut runs, unread } = journals::remembered(&site.state);
    for file in &unread {
        reporter.note(&format!("warning: `{}` does not read: what it said of its run is not told", file.display()));
    }
    let away = if history.local {
        BTreeMap::new()
    } else {
        let hosts: Vec<&Host> = selected.iter().filter_map(|name| site.hosts.get(name)).collect();
        let connector = stages::connector((reporter, global), &site, &selected);
        let away = journals::join(&mut runs, hosts, &connector, global.at_once());
        stages::told(&connector, reporter);
        away
    };
    for (host, why) in &away {
        reporter.error(&format!("{host} was not asked: {why}"), &[], &[])?;
    }
    // What nobody was asked about, nobody has denied.
    let asked = if history.local { 0 } else { selected.len() - away.len() };
    let none = match (asked, selected.len()) {
        (0, _) => "this controller knows no run, and no host was asked".to_owned(),
        (asked, all) if asked < all => {
            format!("no run is known, neither here nor on the {asked} of {} that answered", count(all, "host"))
        }
        _ => "no run is known, neither here nor on the hosts".to_owned(),
    };
    let wanted = |past: &&Past| run.is_none_or(|run| past.run.starts_with(run));
    let mut shown: Vec<Past> = runs.values().rev().filter(wanted).cloned().collect();
    if let Some(run) = run.filter(|_| shown.is_empty()) {
        let help = "`infra history` lists those that are known; a host keeps its last ten".to_owned();
        let why = if asked < selected.len() { "; not all hosts were asked" } else { "" };
        return Err(Stop::Refused(format!("no run `{run}` is known{why}"), vec![help]));
    }
    if run.is_none() {
        shown.truncate(history.last);
    } else {
        for past in &mut shown {
            past.planned = journals::planned(&site.state, &past.run);
        }
    }
    reporter.runs(&shown, run.is_some(), &none)?;
    Ok(if away.is_empty() { exit::DONE } else { exit::UNREACHABLE })
}

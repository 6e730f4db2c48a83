//! `exec`: a command of the person's own on many hosts at the same time, over the connections that every verb has; equal answers are told
//! once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::global::{Global, Inventory};
use super::stop::Done;
use super::{exit, numbers, stages};
use crate::base::net::HostName;
use crate::fleet::exec::{Command, End};
use crate::inventory::site::Host;
use crate::report::{Reporter, hand};

/// `exec`.
#[derive(Debug, Clone, clap::Args)]
pub struct Exec {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Run it as root, by the way that the inventory says
    #[arg(long)]
    pub sudo: bool,
    /// How many seconds it may take on a host
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = numbers::seconds)]
    pub timeout: NonZeroU32,
    /// The command: one word is a text for `sh`, several are a program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

pub(super) fn run(exec: &Exec, global: &Global, reporter: &Reporter) -> Done {
    let (site, _) = stages::loaded(&exec.inventory.inventory)?;
    let selected = stages::selected(&site, global)?;
    let hosts: Vec<&Host> = selected.iter().filter_map(|name| site.hosts.get(name)).collect();
    let connector = stages::connector((reporter, global), &site, &selected);
    let limit = Duration::from_secs(exec.timeout.get().into());
    let command = Command { words: exec.command.clone(), root: exec.sudo, limit };
    let ends = command.each(hosts, &connector, global.at_once());
    stages::told(&connector, reporter);
    reporter.ends(&ends)?;
    if ends.values().any(|end| !matches!(end, End::Unreachable { .. })) {
        reporter.note(hand::DRIFT);
    }
    Ok(code(&ends))
}

/// A command that failed says more than a host that is away.
fn code(ends: &BTreeMap<HostName, End>) -> u8 {
    let away = |end: &End| matches!(end, End::Unreachable { .. });
    if ends.values().any(|end| !end.is_well() && !away(end)) {
        exit::FAILED
    } else if ends.values().any(away) {
        exit::UNREACHABLE
    } else {
        exit::DONE
    }
}

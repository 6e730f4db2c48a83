//! `ssh`: the person's own `ssh` on a host of the inventory, with the user, port, key and way that the inventory says.

use std::os::unix::process::CommandExt as _;

use super::global::Inventory;
use super::stages;
use super::stop::{Done, Stop};
use crate::base::net::HostName;
use crate::fleet::connect;
use crate::host::{shell, ssh_config};
use crate::report::{Reporter, hand};

/// `ssh`.
#[derive(Debug, Clone, clap::Args)]
pub struct Ssh {
    /// A host of the inventory
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// A command instead of a shell, as `ssh` takes it
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

pub(super) fn run(ssh: &Ssh, reporter: &Reporter) -> Done {
    let (site, _) = stages::loaded(&ssh.inventory.inventory).map_err(|stop| match stop {
        // `infra ssh web1 uptime` reads as an inventory of that name.
        Stop::Input(mut all) if ssh.command.is_empty() && !ssh.inventory.inventory.exists() => {
            let word = ssh.inventory.inventory.display();
            all = all
                .into_iter()
                .map(|one| one.help(format!("a command stands behind `--`: infra ssh {} -- {word}", ssh.host)))
                .collect();
            Stop::Input(all)
        }
        stop => stop,
    })?;
    let host = stages::host(&site, &ssh.host)?;
    let asked = ssh_config::Asked::default();
    let command = shell::command(&connect::target(host), &connect::config(host), &asked);
    let mut command = command.map_err(anyhow::Error::from)?;
    command.args(&ssh.command);
    reporter.note(hand::DRIFT);
    let error = command.exec();
    Err(Stop::Refused(
        format!("`ssh` cannot be started: {error}"),
        vec!["install OpenSSH's client (`apt install openssh-client`)".to_owned()],
    ))
}

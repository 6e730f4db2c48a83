//! `lab …`: a twin of the inventory on this machine.

use std::path::PathBuf;

use clap::Subcommand;

use super::exit;
use super::global::{Global, Inventory};
use super::stop::Done;
use crate::base::net::HostName;
use crate::inventory::load;
use crate::lab::{self, Power, Spec, Target, requirements};
use crate::report::Reporter;
use crate::report::line::Line;
use crate::report::text::count;

mod demo;
mod orders;
mod received;
mod which;

use demo::LabDemo;
use received::LabReceived;
use which::{LabImage, LabName, name, open};

/// `lab …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Lab {
    /// Boot a host for each host of the inventory, with its own addresses
    Up(LabUp),
    /// Run a command on a host, on `outside` (the internet) or on the `controller`
    Exec(LabExec),
    /// An ssh configuration that reaches the lab's hosts, on stdout
    SshConfig(LabName),
    /// Show the labs that run
    Status(LabName),
    /// Show what the hosts' monitoring agents have sent to what stands for the monitoring service
    Received(LabReceived),
    /// Stop a lab and remove all that it left
    Down(LabName),
    /// Bring a lab up, apply an inventory of four tiers to it, fetch a page, change the writer under load, and show what stands
    Demo(LabDemo),
}

/// `lab up`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabUp {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Name, release, packages
    #[command(flatten)]
    pub image: LabImage,
}

/// `lab exec`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabExec {
    /// Which lab
    #[command(flatten)]
    pub lab: LabName,
    /// A host of the inventory, `outside` or `controller`
    #[arg(value_name = "HOST|controller|outside", default_value = "controller")]
    pub host: HostName,
    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

pub(super) fn run(verb: &Lab, _: &Global, reporter: &Reporter) -> Done {
    match verb {
        Lab::Up(args) => up(args, reporter),
        Lab::Exec(args) => exec(args),
        Lab::SshConfig(args) => {
            reporter.raw(&open(args)?.ssh_config())?;
            Ok(exit::DONE)
        }
        Lab::Status(args) => status(args, reporter),
        Lab::Received(args) => received::run(args, reporter),
        Lab::Down(args) => down(args, reporter),
        Lab::Demo(args) => demo::run(args, reporter),
    }
}

fn up(args: &LabUp, reporter: &Reporter) -> Done {
    let (site, warnings) = load::load(&args.inventory.inventory)?;
    reporter.diagnostics(&warnings)?;
    let progress = |line: &str| reporter.note(&format!("  {line}"));
    let name = args.image.lab.name.as_ref().unwrap_or(&site.name);
    let spec = Spec::of_site(&site, name.as_str(), args.image.release);
    if args.image.install {
        requirements::install(&requirements::packages(&spec), &progress)?;
    }
    let lab = lab::Lab::up(&spec, &progress)?;
    let hosts = count(lab.spec().hosts.len(), "host");
    let word = if lab.was_up() { "was up already" } else { "is up" };
    reporter.note(&format!("lab `{name}` with {hosts} {word}"));
    if let Some(maker) = lab.maker() {
        let own = site.monitoring.as_ref().and_then(|monitoring| monitoring.repository.as_ref());
        if own.is_some_and(|own| own.fingerprints.iter().all(|one| one.to_string() != maker.fingerprint)) {
            reporter.note(&format!(
                "its Telegraf is signed by the lab's own key: for the lab, write `signed_by: {}` and `fingerprint: {}` in `repository`",
                maker.key.display(),
                maker.fingerprint
            ));
        }
    }
    if let Some((server, key)) = lab.updates() {
        reporter.note(&format!(
            "its name server {server} takes challenges by dynamic update, with the key {}",
            key.display()
        ));
    }
    let inventory = args.inventory.inventory.display();
    let which = args.image.lab.name.as_ref().map_or(String::new(), |name| format!(" --name {name}"));
    reporter.note(&format!(
        "next: `infra lab exec controller{which} -- infra apply {inventory}`; `infra lab down{which}` removes it"
    ));
    Ok(exit::DONE)
}

/// The command's own exit code is ours, as with `ssh`.
fn exec(args: &LabExec) -> Done {
    let status = open(&args.lab)?.exec(&Target::from(args.host.as_str()), &args.command)?;
    Ok(exit::of_command(status))
}

fn status(args: &LabName, reporter: &Reporter) -> Done {
    let names = match &args.name {
        Some(name) => vec![name.to_string()],
        None => lab::list()?,
    };
    if names.is_empty() {
        reporter.note("no lab is up");
    }
    for name in names {
        let lab = match lab::Lab::open(&name) {
            Ok(lab) => lab,
            Err(lab::Error::NotUp(_)) if args.name.is_none() => {
                reporter
                    .note(&format!("lab `{name}` has crashed; `infra lab down --name {name}` removes what it left"));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let hosts = lab.status();
        if reporter.is_json() {
            reporter.line(&Line::Lab { name: &name, hosts: &hosts })?;
            continue;
        }
        let mut text = format!("lab {name}: {}\n", count(hosts.len(), "host"));
        for host in hosts {
            let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
            let power = match host.power {
                Power::Up => "up",
                Power::Booting => "booting",
                Power::Off => "off",
            };
            text.push_str(
                &[format!("  {:<12} {power:<8} ", host.name), addresses.join(", "), "\n".to_owned()].concat(),
            );
        }
        reporter.data(&text)?;
    }
    Ok(exit::DONE)
}

fn down(args: &LabName, reporter: &Reporter) -> Done {
    let names = match &args.name {
        None if lab::list()?.is_empty() => {
            reporter.note("no lab is up");
            return Ok(exit::DONE);
        }
        _ => name(args)?,
    };
    let there_was = lab::down(&names)?;
    let kept = demo::forget(&names)?;
    reporter.note(&format!("lab `{names}` {}", said(there_was, &kept)));
    Ok(exit::DONE)
}

/// How it is with a lab that was to go down.
fn said(there_was: bool, kept: &[PathBuf]) -> String {
    let kept: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
    match (there_was, kept.as_slice()) {
        (true, []) => "is down, nothing of it is left".to_owned(),
        (true, kept) => format!("is down; nothing of it is left but what you wrote yourself: {}", kept.join(", ")),
        (false, []) => "was not up".to_owned(),
        (false, kept) => format!("was not up; of its demonstration you keep {}", kept.join(", ")),
    }
}

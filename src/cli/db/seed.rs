//! `db seed`: a host gets a copy of the writer's data, and follows it. What it holds is shown before, and replaced by a person's word
//! alone, which is the host's name.

use crate::base::net::HostName;
use crate::cli::global::{Global, Inventory};
use crate::cli::stages;
use crate::cli::stop::Done;
use crate::cli::work::{Consent, Work};
use crate::report::Reporter;
use crate::service::Services;
use crate::service::database::{NAME, seed};

/// `db seed`.
#[derive(Debug, Clone, clap::Args)]
pub struct Seed {
    /// The host that gets a copy of the writer's data
    #[arg(value_name = "HOST")]
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Replace the data that the host holds: they are shown, and its name has to be typed
    #[arg(long)]
    pub wipe: bool,
    /// The host's name once more, where nobody can be asked to type it
    #[arg(long, value_name = "HOST", requires = "wipe")]
    pub yes_wipe: Option<HostName>,
    /// Do not ask for confirmation where no data are given up
    #[arg(short, long)]
    pub yes: bool,
    /// Show the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(args: &Seed, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    super::database(&site)?;
    let host = &args.host;
    super::names_it(host, args.yes_wipe.as_ref(), &format!("infra db seed {host} --wipe"))?;
    super::of_group(&site, host)?;
    let hosts = super::group(&site);
    let wipe = if args.wipe { " --wipe" } else { "" };
    let command = format!("infra db seed {host} {}{wipe}", args.inventory.inventory.display());
    let mut work = Work::new(&site, &hosts, command, global, services, reporter)?;
    let looked = work.look(&hosts, false)?;
    let lost = if args.wipe { seed::destroys(&site, looked.observed(), host)? } else { Vec::new() };
    if !lost.is_empty() {
        reporter.note(&format!("what {host} holds is replaced, and does not come back: {}", lost.join("; ")));
    }
    let (typed, asked) = (format!("give up what {host} holds?"), format!("copy the writer's data to {host}?"));
    let consent = match (args.dry_run, lost.is_empty()) {
        (true, _) => Consent::DryRun,
        (false, true) if args.yes => Consent::Given,
        (false, true) => Consent::Asked(&asked),
        (false, false) => super::giving_up(host, args.yes_wipe.is_some(), &typed)?,
    };
    let (name, wipe) = (host.clone(), args.wipe);
    work.decided_by(looked, NAME, move |site, observed, _| seed::on_command(site, observed, &name, wipe), consent)
}

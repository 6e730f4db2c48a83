//! `db failover`: what each place sees of the writer, then the promotion of another host, and in words what is guaranteed.

use super::{Look, carry_out, consent, group_and_apps};
use crate::base::net::HostName;
use crate::cli::global::{Global, Inventory};
use crate::cli::stop::Done;
use crate::cli::work::Work;
use crate::cli::{exit, stages};
use crate::report::Reporter;
use crate::report::line::Line;
use crate::service::Services;
use crate::service::database::failover::{self, Witness};
use crate::service::database::group::Group;

/// `db failover`.
#[derive(Debug, Clone, clap::Args)]
pub struct Failover {
    /// The host that shall write
    #[arg(value_name = "HOST")]
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Show what is seen and the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

pub(super) fn run(args: &Failover, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    super::database(&site)?;
    super::of_group(&site, &args.host)?;
    let look = Look::new(&site, global, services, reporter);
    let hosts = group_and_apps(&site);
    let mut survey = look.at(&hosts);
    let observed = std::mem::take(&mut survey.observed);
    let group = Group::of(&site, &observed);
    let old = failover::dead(&site, &group)?;
    let script = |host: &HostName| if *host == old { None } else { failover::script(&site, host, &old) };
    let answers = look.ask(&mut survey, "look at the writer", script);
    let witnesses = answers.iter().map(|(host, said)| failover::witness(host, said.as_deref().unwrap_or_default()));
    let mut witnesses: Vec<Witness> = witnesses.collect();
    drop(survey);
    let own = failover::own_witness(&group, &old);
    if reporter.is_json() {
        let all: Vec<Witness> = witnesses.iter().cloned().chain([own]).collect();
        reporter.line(&Line::Witnesses { writer: &old, witnesses: &all })?;
    } else {
        reporter.note(&format!("{old} is the writer. What is seen of it:"));
        witnesses.iter().chain([&own]).for_each(|witness| reporter.note(&format!("  {witness}")));
    }
    witnesses.retain(|witness| witness.place.is_some());
    let command = format!("infra db failover {} {}", args.host, args.inventory.inventory.display());
    let mut work = Work::new(&site, &hosts, command, global, services, reporter)?;
    let (to, question) = (args.host.clone(), format!("give {old} up, and make {} the writer?", args.host));
    let agreed = consent(args.dry_run, args.yes, &question);
    let code =
        carry_out(&mut work, agreed, move |site, observed, _| failover::decide(site, observed, &witnesses, &to))?;
    if code == exit::DONE
        && let Some(change) = look.change_of(&args.host)?
    {
        look.keep(|kept| kept.closed.extend([old.clone()]))?;
        reporter.writer_changed(&args.host, &change)?;
        reporter.note(&format!("{old} stays fenced, and gets no traffic, until `infra db rejoin {old}`"));
    }
    Ok(code)
}

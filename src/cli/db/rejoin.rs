//! `db rejoin`: a former writer follows the one that writes now. What it has besides is shown, and given up only by `db seed --wipe`.

use super::{Look, carry_out, consent, group_and_apps};
use crate::base::net::HostName;
use crate::cli::global::{Global, Inventory};
use crate::cli::stop::{Done, Stop};
use crate::cli::work::Work;
use crate::cli::{exit, stages};
use crate::fleet::survey::Survey;
use crate::report::Reporter;
use crate::service::Services;
use crate::service::database::engine::Flavor;
use crate::service::database::group::Group;
use crate::service::database::gtid::Gtid;
use crate::service::database::rejoin::{self, Way};

/// `db rejoin`.
#[derive(Debug, Clone, clap::Args)]
pub struct Rejoin {
    /// The host that shall follow again
    #[arg(value_name = "HOST")]
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Show what it has and the writer lacks, as rows where the binary log has them, and change nothing
    #[arg(long)]
    pub show: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

pub(super) fn run(args: &Rejoin, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    super::database(&site)?;
    super::of_group(&site, &args.host)?;
    let look = Look::new(&site, global, services, reporter);
    let mut survey = look.at(&super::group(&site));
    let mut way = rejoin::way(&site, &survey.observed, &args.host)?;
    let command = format!("infra db rejoin {} {}", args.host, args.inventory.inventory.display());
    let mut work = Work::new(&site, &group_and_apps(&site), command, global, services, reporter)?;
    if way == Way::Start && !args.show {
        reporter.note(&format!(
            "the database server of {} does not run: it is started, fenced, to see what it has",
            args.host
        ));
        let (host, question) = (args.host.clone(), format!("start the database server of {}?", args.host));
        let agreed = consent(false, args.yes, &question);
        let code = carry_out(&mut work, agreed, move |site, observed, _| rejoin::start(site, observed, &host))?;
        if code != exit::DONE {
            return Ok(code);
        }
        survey = look.at(&super::group(&site));
        way = rejoin::way(&site, &survey.observed, &args.host)?;
    }
    match way {
        Way::Errant(errant) => {
            look.show(args, &mut survey, &errant)?;
            Err(Stop::Refused(
                format!("{} has transactions that the writer lacks, and cannot follow with them: {errant}", args.host),
                vec![
                    format!("`infra db rejoin {} --show` shows them as rows", args.host),
                    format!("`infra db seed {} --wipe` gives them up, and takes in all that the writer has", args.host),
                ],
            ))
        }
        Way::Follow | Way::Start if args.show => {
            reporter.note(&format!("{} has nothing that the writer lacks", args.host));
            Ok(exit::DONE)
        }
        Way::Start => Err(Stop::Refused(format!("the database server of {} does not answer", args.host), Vec::new())),
        Way::Follow => {
            drop(survey);
            let (host, question) = (args.host.clone(), format!("have {} follow the writer?", args.host));
            let agreed = consent(false, args.yes, &question);
            let code = carry_out(&mut work, agreed, move |site, observed, _| rejoin::decide(site, observed, &host))?;
            if code == exit::DONE {
                reporter.note(&format!("{} follows the writer again", args.host));
                if look.kept()?.closed.contains(&args.host) {
                    look.keep(|kept| kept.closed.retain(|host| *host != args.host))?;
                    reporter.note("if `infra apply` ran since the failover, run it again: the proxies of the app hosts have it in their files as closed");
                }
            }
            Ok(code)
        }
    }
}

impl Look<'_> {
    /// Shows what the host has besides, where that was asked for.
    fn show(&self, args: &Rejoin, survey: &mut Survey, errant: &Gtid) -> Result<(), Stop> {
        if !args.show {
            return Ok(());
        }
        let observed = std::mem::take(&mut survey.observed);
        let group = Group::of(self.site, &observed);
        let database = super::database(self.site)?;
        let script = |host: &HostName| {
            let member = group.members.get(host).filter(|_| *host == args.host)?;
            let known = group.writer()?.now.state.clone()?;
            Some(rejoin::show(Flavor::of(database, member.facts), errant, &known))
        };
        for told in self.ask(survey, "read the binary log", script).into_values() {
            self.reporter.data(&told.map_err(|why| Stop::Refused(why, Vec::new()))?)?;
        }
        Ok(())
    }
}

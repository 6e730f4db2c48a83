//! `db rejoin`: a former writer follows the one that writes now. What it has besides is shown, and given up by a person's word alone, which
//! is the host's name; it gets a copy of the writer's data then.

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
use crate::service::database::seed;

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
    /// Give up what it has and the writer lacks, by the host's name once more, where nobody can be asked to type it
    #[arg(long, value_name = "HOST", conflicts_with = "show")]
    pub yes_wipe: Option<HostName>,
    /// Do not ask for confirmation where nothing is given up
    #[arg(short, long)]
    pub yes: bool,
}

pub(super) fn run(args: &Rejoin, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&args.inventory.inventory, reporter)?;
    super::database(&site)?;
    super::of_group(&site, &args.host)?;
    super::names_it(&args.host, args.yes_wipe.as_ref(), &format!("infra db rejoin {}", args.host))?;
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
    let host = args.host.clone();
    let code = match way {
        Way::Errant(errant) if args.show => {
            look.show(args, &mut survey, &errant)?;
            return Err(Stop::Refused(
                format!("{host} has transactions that the writer lacks, and cannot follow with them: {errant}"),
                vec![format!(
                    "`infra db rejoin {host}` gives them up, after its name was typed, and copies what the writer has"
                )],
            ));
        }
        _ if args.show => {
            reporter.note(&format!("{host} has nothing that the writer lacks"));
            return Ok(exit::DONE);
        }
        Way::Start => return Err(Stop::Refused(format!("the database server of {host} does not answer"), Vec::new())),
        Way::Errant(errant) => {
            reporter
                .note(&format!("{host} has transactions that the writer lacks, and cannot follow with them: {errant}"));
            reporter
                .note(&format!("`infra db rejoin {host} --show` shows them as rows, where its binary log has them"));
            let lost = seed::destroys(&site, &survey.observed, &host)?;
            reporter.note(&format!("what {host} holds is replaced, and does not come back: {}", lost.join("; ")));
            drop(survey);
            let (name, question) = (host.clone(), format!("give up what {host} holds?"));
            let agreed = super::giving_up(&args.host, args.yes_wipe.is_some(), &question)?;
            carry_out(&mut work, agreed, move |site, observed, _| rejoin::replace(site, observed, &name))?
        }
        Way::Follow => {
            drop(survey);
            let (name, question) = (host.clone(), format!("have {host} follow the writer?"));
            let agreed = consent(false, args.yes, &question);
            carry_out(&mut work, agreed, move |site, observed, _| rejoin::decide(site, observed, &name))?
        }
    };
    if code != exit::DONE {
        return Ok(code);
    }
    // A person who said no has changed nothing.
    if !rejoin::follows(&site, &look.at(&super::group(&site)).observed, &host) {
        return Ok(code);
    }
    reporter.note(&format!("{host} follows the writer again"));
    if !look.kept()?.closed.contains(&host) {
        return Ok(code);
    }
    look.keep(|kept| kept.closed.retain(|closed| *closed != host))?;
    look.bring_places(&work)
}

impl Look<'_> {
    /// Shows what the host has besides.
    fn show(&self, args: &Rejoin, survey: &mut Survey, errant: &Gtid) -> Result<(), Stop> {
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

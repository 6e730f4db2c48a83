//! `db failover`: what each place sees of the writer, then the promotion of another host, and in words what is guaranteed.

use super::promotion::Promotion;
use super::{Look, group_and_apps};
use crate::base::net::HostName;
use crate::cli::global::Global;
use crate::cli::stop::Done;
use crate::cli::work::Work;
use crate::inventory::site::Site;
use crate::plan::decision::Memory;
use crate::plan::state::ObservedFleet;
use crate::report::Reporter;
use crate::report::line::Line;
use crate::service::Services;
use crate::service::database::failover::{self, Witness};
use crate::service::database::group::Group;

pub(super) fn run(args: &Promotion, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = args.site(reporter)?;
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
    let mut work = Work::new(&site, &hosts, args.command("failover"), global, services, reporter)?;
    let (to, question) = (args.host.clone(), format!("give {old} up, and make {} the writer?", args.host));
    let decide =
        move |site: &Site, observed: &ObservedFleet, _: &Memory| failover::decide(site, observed, &witnesses, &to);
    args.carry_out(&look, &mut work, (&question, Some(&old)), decide)
}

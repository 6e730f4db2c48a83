//! `db switchover`: the preflight as a table, then one task on the host that shall write, and what came of it in words.

use super::promotion::Promotion;
use super::{Look, consent, group_and_apps};
use crate::base::net::HostName;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::stop::{Done, Stop};
use crate::cli::work::{Consent, Work};
use crate::inventory::site::Site;
use crate::plan::decision::Memory;
use crate::plan::state::ObservedFleet;
use crate::report::Reporter;
use crate::service::Services;
use crate::service::database::engine::Flavor;
use crate::service::database::group::Group;
use crate::service::database::preflight::{self, Finding};
use crate::service::database::switchover;

pub(super) fn run(args: &Promotion, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = args.site(reporter)?;
    let look = Look::new(&site, global, services, reporter);
    let command = args.command("switchover");
    if !args.dry_run && look.has_fenced_writer() {
        let work = &mut Work::new(&site, &group_and_apps(&site), command.clone(), global, services, reporter)?;
        let code = look.put_right(work, consent(false, args.yes, "put that right first?"))?;
        if code != exit::DONE {
            return Ok(code);
        }
    }
    let Some(findings) = look.preflight(&args.host)? else { return Ok(exit::DONE) };
    reporter.preflight(&args.host, &findings)?;
    if !preflight::passes(&findings) {
        return Err(Stop::Refused(
            format!("{} cannot become the writer now, and nothing was changed", args.host),
            vec!["what to do stands under each finding that says `no`".to_owned()],
        ));
    }
    let mut work = Work::new(&site, &group_and_apps(&site), command.clone(), global, services, reporter)?;
    let (to, question) = (args.host.clone(), format!("make {} the writer?", args.host));
    let decide = move |site: &Site, observed: &ObservedFleet, _: &Memory| switchover::decide(site, observed, &to);
    let code = args.carry_out(&look, &mut work, (&question, None), decide)?;
    if !work.declined && matches!(code, exit::FAILED | exit::UNREACHABLE) && look.has_fenced_writer() {
        // What was agreed to covers that the old writer is put back to work.
        let mut work = Work::new(&site, &group_and_apps(&site), command, global, services, reporter)?;
        look.put_right(&mut work, Consent::Given)?;
    }
    Ok(code)
}

impl Look<'_> {
    /// What is found about `to` becoming the writer; nothing where it is that already.
    fn preflight(&self, to: &HostName) -> Result<Option<Vec<Finding>>, Stop> {
        let mut survey = self.at(&super::group(self.site));
        let observed = std::mem::take(&mut survey.observed);
        let group = Group::of(self.site, &observed);
        let writer = group.writer().map(|writer| writer.host.name.clone());
        if writer.as_ref() == Some(to) {
            let epoch = group.written.as_ref().map_or(0, |written| written.epoch);
            self.reporter.note(&format!("{to} is the writer already, since epoch {epoch}"));
            return Ok(None);
        }
        let database = super::database(self.site)?;
        let script = |host: &HostName| {
            let (member, writer) = (group.members.get(host).filter(|_| host == to)?, writer.as_ref()?);
            member.server()?;
            Some(preflight::script(self.site, Flavor::of(database, member.facts), to, writer))
        };
        let answers = self.ask(&mut survey, "look at what a switchover needs", script);
        let answer = answers.get(to).map(|answer| answer.clone().unwrap_or_else(|why| format!("reach\tall\t{why}")));
        Ok(Some(preflight::findings(self.site, &group, to, answer.as_deref())))
    }
}

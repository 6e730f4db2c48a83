//! `retire` and `destroy`: one host, or all of them, are left by infra: out of traffic, flows, trust and replication, in that order, then
//! their services stop and infra's files go. Data and packages stay.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use time::OffsetDateTime;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::work::{Consent, Work};
use super::{apply, away, exit, numbers, stages};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::fleet::history::{self, LastSeen};
use crate::fleet::survey::{self, Prepared};
use crate::fleet::{farewell, identity};
use crate::inventory::load;
use crate::inventory::site::{Host, Role, Site};
use crate::plan::state::{Desired, Observed};
use crate::report::interrupt::Interrupt;
use crate::report::text::names;
use crate::report::{Reporter, prompt};
use crate::service::Services;
use crate::service::database::group::Group;
use crate::service::drained::{self, Mark};
use crate::service::farewell::Rules;

/// `retire`.
#[derive(Debug, Clone, clap::Args)]
pub struct Retire {
    /// The host that leaves, which stands in the inventory still
    #[arg(value_name = "HOST")]
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// What becomes of its firewall: `open` removes infra's rules, `closed` lets in nothing but your SSH
    #[arg(long, value_name = "open|closed")]
    pub firewall: Option<Rules>,
    /// The host does not answer any more: all others stop to lead to it and to let it in, and it stays as it is
    #[arg(long, conflicts_with = "firewall")]
    pub unreachable: bool,
    /// How many seconds its connections may take to end
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = numbers::seconds)]
    pub timeout: NonZeroU32,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// `destroy`.
#[derive(Debug, Clone, clap::Args)]
pub struct Destroy {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// The name of the infrastructure once more, where nobody can be asked to type it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Leave out hosts that cannot be reached: they stay as they are
    #[arg(long)]
    pub skip_unreachable: bool,
}

pub(super) fn retire(args: &Retire, global: &Global, services: Services, reporter: &Reporter) -> Done {
    if !args.yes && !prompt::possible() {
        let help = "add `--yes` to go on without being asked; `infra diff` of an inventory without its lines shows the change of the others";
        return Err(Stop::Refused(prompt::NoTerminal.to_string(), vec![help.to_owned()]));
    }
    let path = &args.inventory.inventory;
    let (site, _) = stages::loaded(path)?;
    let host = known(&site, &args.host)?;
    let (rest, _) = load::load_without(path, &host.name).map_err(|errors| named_still(&host.name, errors))?;
    // Another one that was retired would be let in again by the others.
    stages::without_retired(&Site { state: site.state.clone(), ..rest.clone() })?;
    // What is learned, or said by the environment, holds for what is left too.
    let rest = Site { state: site.state.clone(), through: site.through.clone(), ..rest };
    let rules = if args.unreachable { None } else { Some(asked(args, &host.name)?) };
    let seen = see(&site, host, args.unreachable, global, services, reporter)?;
    let retired = seen.as_ref().and_then(drained::retired);
    match &retired {
        Some(mark) => reporter.note(&format!("{} was retired {mark}; what is left to do is done", host.name)),
        None if args.unreachable => {}
        None if host.has(Role::Web) || host.has(Role::App) => {
            let drain = away::Drain {
                host: host.name.clone(),
                inventory: args.inventory.clone(),
                timeout: args.timeout,
                why: "it retires".to_owned(),
                force: false,
            };
            let code = away::drain(&drain, global, services, reporter)?;
            if code != exit::DONE {
                return Ok(code);
            }
        }
        None if host.has(Role::Lb) => reporter.note(&format!(
            "visitors come to {0} by the zone of your sites: take its address out, and wait until resolvers have forgotten it (the TTL)",
            host.name
        )),
        None => {}
    }
    let others = apply::Apply { yes: args.yes, ..apply::Apply::of(&args.inventory) };
    reporter.note(&format!(
        "the other hosts stop to lead to {0} and to let it in, by the inventory without {0}",
        host.name
    ));
    match apply::on(&rest, &others, global, services, reporter)? {
        Some(exit::DONE) => {}
        Some(code) => return Ok(code),
        None => return Ok(halfway(&host.name, retired.is_none() && !args.unreachable, reporter)),
    }
    let code = match rules {
        Some(rules) => {
            let mark =
                Mark { since: OffsetDateTime::now_utc().unix_timestamp(), by: identity::who(), why: String::new() };
            let only = cut(&site, &[host.name.clone()].into());
            let command = format!("infra retire {} {}", host.name, path.display());
            let question = format!("stop the services of {}, and remove what infra has there?", host.name);
            let consent = if args.yes { Consent::Given } else { Consent::Asked(&question) };
            leave((&only, &site), (rules, Some(&mark)), (command, consent), global, services, reporter)?
        }
        None => Some(exit::DONE),
    };
    let Some(code) = code else { return Ok(halfway(&host.name, false, reporter)) };
    if code == exit::DONE {
        history::save_retired(&site.state, host)?;
    }
    if code == exit::DONE && !reporter.is_json() {
        reporter.data(&told(&site, host, args.unreachable))?;
    }
    Ok(code)
}

pub(super) fn destroy(args: &Destroy, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let path = &args.inventory.inventory;
    let (mut site, _) = stages::loaded(path)?;
    if let Some(name) = args.name.as_ref().filter(|name| **name != site.name.as_str()) {
        return Err(Stop::Refused(
            format!("`--name {name}` is not the name of this infrastructure, which is `{}`", site.name),
            vec!["nothing was changed".to_owned()],
        ));
    }
    if args.skip_unreachable {
        let all: BTreeSet<HostName> = site.hosts.keys().cloned().collect();
        let connector = stages::connector((reporter, global), &site, &all);
        let seen = reporter.during(&Interrupt::default(), |events| {
            survey::ask(services, site.hosts.values(), (&Desired::new(), None), &connector, global.at_once(), &events)
        });
        for (host, why) in &seen.unreachable {
            reporter.note(&format!("{host} stays as it is: {why}"));
        }
        site = cut(&site, &seen.observed.into_keys().collect());
    }
    let question = format!(
        "stop all services of {}, open the firewalls of its hosts, and remove all that infra has there, but no data",
        site.name
    );
    let consent = match args.name {
        Some(_) => Consent::Given,
        None if prompt::possible() => Consent::Typed(&question, site.name.as_str()),
        None => {
            return Err(Stop::Refused(
                prompt::NoTerminal.to_string(),
                vec![format!("add `--name {}` to go on without being asked", site.name)],
            ));
        }
    };
    let command = format!("infra destroy {}", path.display());
    let left = leave((&site, &site), (Rules::Open, None), (command, consent), global, services, reporter)?;
    let Some(code) = left else { return Ok(exit::DECLINED) };
    if code == exit::DONE && !reporter.is_json() {
        reporter.data(&format!(
            "infra has left {}. What stays: packages, data and logs of the hosts, their records of past runs in /var/lib/infra, and {} on \
             this machine, with the internal authority, the accounts and the passwords\n",
            site.name,
            site.state.display()
        ))?;
    }
    Ok(code)
}

/// What is told where the person does not agree to go on.
fn halfway(host: &HostName, drained: bool, reporter: &Reporter) -> u8 {
    let back = if drained { format!("; `infra undrain {host}` brings it back") } else { String::new() };
    reporter.note(&format!("`infra retire {host}` goes on from here{back}"));
    exit::DECLINED
}

/// The host; where it has left the inventory already, what to do then.
fn known<'s>(site: &'s Site, name: &HostName) -> Result<&'s Host, Stop> {
    let seen = LastSeen::of(&site.state);
    if !site.hosts.contains_key(name) && seen.gone(site).contains_key(name) {
        return Err(Stop::Refused(
            format!("{name} is not in the inventory any more, so nobody knows how to reach it"),
            vec![
                format!(
                    "put the lines of {name} back for the moment, and run `infra retire {name}`: its services stop then too"
                ),
                "or run `infra apply`: all others stop to lead to it and to let it in, and it stays as infra left it"
                    .to_owned(),
            ],
        ));
    }
    stages::host(site, name)
}

/// What the inventory without the host is wrong in, said as what it is.
fn named_still(host: &HostName, errors: Vec<Diagnostic>) -> Stop {
    let mut all: Vec<Diagnostic> = errors.into_iter().filter(Diagnostic::is_error).collect();
    all.push(Diagnostic::error(format!("the inventory does not hold without {host}, and nothing was changed")).help(
        format!(
            "the errors above are those of the inventory without `hosts.{host}`: mend them first, then run this again"
        ),
    ));
    Stop::Input(all)
}

/// What becomes of the firewall, asked where it was not said.
fn asked(args: &Retire, host: &HostName) -> Result<Rules, Stop> {
    if let Some(rules) = args.firewall {
        return Ok(rules);
    }
    let help =
        "add `--firewall open` (infra's rules are removed) or `--firewall closed` (nothing but your SSH gets in)";
    let refused = |why: String| Stop::Refused(why, vec![help.to_owned()]);
    let question = format!("what becomes of the firewall of {host}, open or closed?");
    let answer = prompt::answer(&question, None).map_err(|error| refused(error.to_string()))?;
    answer.unwrap_or_default().trim().parse().map_err(|error| refused(format!("what you wrote {error}")))
}

/// What the host is; nothing where it does not answer, as was said. The writer of the databases is not let go.
fn see(
    site: &Site,
    host: &Host,
    unreachable: bool,
    global: &Global,
    services: Services,
    reporter: &Reporter,
) -> Result<Option<Observed>, Stop> {
    let mut asked: BTreeMap<&HostName, &Host> = BTreeMap::new();
    if !unreachable {
        asked.insert(&host.name, host);
    }
    if host.has(Role::Db) {
        asked.extend(
            site.with_role(Role::Db).filter(|db| !(unreachable && db.name == host.name)).map(|db| (&db.name, db)),
        );
    }
    let connector = stages::connector((reporter, global), site, &asked.keys().map(|name| (*name).clone()).collect());
    let mut survey = reporter.during(&Interrupt::default(), |events| {
        survey::ask(services, asked.into_values(), (&Desired::new(), None), &connector, global.at_once(), &events)
    });
    if let Some(why) = survey.unreachable.get(&host.name) {
        let help = format!("where it is gone for good: `infra retire {} --unreachable`", host.name);
        reporter.error(&format!("{} cannot be reached: {why}", host.name), &[], &[help])?;
        return Err(Stop::Unreachable);
    }
    if host.has(Role::Db) {
        let group = Group::of(site, &survey.observed);
        let writes = group.writer().is_some_and(|writer| writer.host.name == host.name);
        if writes || (unreachable && group.writer().is_none()) {
            return Err(Stop::Refused(
                format!("{} is the host that takes the writes of the database", host.name),
                vec!["`infra db switchover HOST` makes another one the writer, or `infra db failover HOST` where it is dead".to_owned()],
            ));
        }
    }
    Ok(survey.observed.remove(&host.name))
}

/// The infrastructure as if it had these hosts alone.
fn cut(site: &Site, hosts: &BTreeSet<HostName>) -> Site {
    let mut cut = site.clone();
    cut.hosts.retain(|name, _| hosts.contains(name));
    cut
}

/// Leaves all hosts of `site`, shown as a plan, agreed to, and carried out as any other; gives nothing where it is not agreed to.
fn leave(
    (site, whole): (&Site, &Site),
    (rules, mark): (Rules, Option<&Mark>),
    (command, consent): (String, Consent<'_>),
    global: &Global,
    services: Services,
    reporter: &Reporter,
) -> Result<Option<u8>, Stop> {
    let hosts = site.hosts.keys().cloned().collect();
    let mut work = Work::new(site, &hosts, command, global, services, reporter)?;
    let how = (&work.connector as &dyn survey::Connector, global.at_once());
    let prepared: Prepared = reporter.during(&Interrupt::default(), |events| {
        farewell::prepare((site, whole), services, how, (rules, mark), &events)
    });
    let away = prepared.survey.away();
    if !away.is_empty() {
        for (host, why) in &away {
            reporter.error(&format!("{host} {why}"), &[], &[])?;
        }
        let those: Vec<&HostName> = away.keys().collect();
        reporter.note(&format!("nothing was changed on any host, because of {}", names(&those)));
        return Ok(Some(exit::UNREACHABLE));
    }
    work.farewell(prepared, consent)
}

/// What a person does next.
fn told(site: &Site, host: &Host, unreachable: bool) -> String {
    let (name, place) = (&host.name, &host.place);
    let left = if unreachable {
        format!("nobody of {} leads to {name} or lets it in any more; {name} itself stays as it was", site.name)
    } else {
        format!("{name} has left {}: its services are stopped, and its data are as they were", site.name)
    };
    format!("{left}\nnow delete `hosts.{name}` ({}:{}): until then `infra apply` stops at it\n", place.file, place.line)
}

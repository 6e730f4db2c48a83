//! `drain` and `undrain`: takes a web or app host out of traffic, or brings it back, and ends when that was seen on all who lead to it.
//! What was done is kept on the host itself.

use std::num::NonZeroU32;
use std::time::Duration;

use time::OffsetDateTime;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::work::{Consent, Looked, Work};
use super::{exit, numbers, stages};
use crate::base::net::HostName;
use crate::fleet::away::Watch;
use crate::fleet::drain::{Left, Patience};
use crate::fleet::identity;
use crate::inventory::site::{Host, Site};
use crate::plan::decision::Decided;
use crate::report::Reporter;
use crate::report::line::Line;
use crate::report::text::names;
use crate::service::Services;
use crate::service::away::{self, Mark, Questions};

/// `drain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Drain {
    /// The web or app host that shall get no requests
    #[arg(value_name = "HOST")]
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// How many seconds its connections may take to end
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = numbers::seconds)]
    pub timeout: NonZeroU32,
    /// What for; `status` and `apply` tell it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub why: String,
    /// Go on where no other host takes its requests: visitors get errors then
    #[arg(long)]
    pub force: bool,
}

/// `undrain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Undrain {
    /// The host that shall get requests again
    #[arg(value_name = "HOST")]
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// How many seconds it may take until all who lead to it see that it is well
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = numbers::seconds)]
    pub timeout: NonZeroU32,
}

/// By then those who lead to a host have seen that it left: they ask every few seconds.
const SETTLED: Duration = Duration::from_secs(10);

/// What both verbs share.
struct Turn<'a> {
    work: Work<'a>,
    host: &'a Host,
    timeout: Duration,
    /// Those who lead to the host, and the host itself.
    watch: Watch,
}

pub(super) fn drain(args: &Drain, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let (site, _) = stages::loaded(&args.inventory.inventory)?;
    let host = stages::host(&site, &args.host)?;
    away::admit(host)?;
    let command = format!("infra drain {host} {}", args.inventory.inventory.display(), host = host.name);
    let (mut turn, looked) = Turn::begin(&site, host, command, args.timeout, global, services, reporter)?;
    if let Some(mark) = looked.observed().get(&host.name).and_then(away::mark) {
        reporter.note(&format!("{} is drained already, {mark}", host.name));
    } else {
        if !args.force {
            turn.has_others(&away::alone(&site, host))?;
        }
        let since = OffsetDateTime::now_utc().unix_timestamp();
        let mark = Mark { since, by: identity::who(), why: args.why.clone() };
        let code = turn.carry_out(looked, away::leave(host, &mark))?;
        if code != exit::DONE {
            return Ok(code);
        }
        if !args.force {
            turn.still_has_others(&site)?;
        }
    }
    let left = turn.wait(&away::leaving(&site, host), "before it is said to be out of traffic");
    turn.tell(
        true,
        &left,
        &format!("{} is out of traffic: nobody sends it requests, and none is under way on it", host.name),
    )?;
    let help = [
        format!("`infra drain {0} --timeout {1}` waits on", host.name, args.timeout.get().saturating_mul(10)),
        format!("`infra undrain {}` brings it back", host.name),
    ];
    turn.end(
        &left,
        &format!("{} is marked as drained, but it is not seen to be out of traffic", host.name),
        &help,
        exit::DEFERRED,
    )
}

pub(super) fn undrain(args: &Undrain, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let (site, _) = stages::loaded(&args.inventory.inventory)?;
    let host = stages::host(&site, &args.host)?;
    away::admit(host)?;
    let command = format!("infra undrain {host} {}", args.inventory.inventory.display(), host = host.name);
    let (mut turn, looked) = Turn::begin(&site, host, command, args.timeout, global, services, reporter)?;
    let is = if looked.observed().get(&host.name).and_then(away::mark).is_none() {
        reporter.note(&format!("{} is not drained", host.name));
        "in traffic"
    } else {
        let code = turn.carry_out(looked, away::come_back(host))?;
        if code != exit::DONE {
            return Ok(code);
        }
        "back in traffic"
    };
    let left = turn.wait(&away::returning(&site, host), "before it is said to be back");
    turn.tell(false, &left, &format!("{} is {is}: all who lead to it see that it is well", host.name))?;
    let help = [
        "it gets requests by itself as soon as it is well: `infra status` says what is wrong with it".to_owned(),
        format!("`infra drain {}` keeps them away from it again", host.name),
    ];
    turn.end(
        &left,
        &format!("{} is no longer drained, but it is not seen to get requests", host.name),
        &help,
        exit::FAILED,
    )
}

impl<'a> Turn<'a> {
    /// Looks at the host, which must be there, and connects to those who lead to it.
    fn begin(
        site: &'a Site,
        host: &'a Host,
        command: String,
        timeout: NonZeroU32,
        global: &Global,
        services: Services,
        reporter: &'a Reporter,
    ) -> Result<(Self, Looked), Stop> {
        let own = [host.name.clone()].into();
        let work = Work::new(site, &own, command, global, services, reporter)?;
        let looked = work.look(&own, false)?;
        let asked = away::leaders(site, host).into_iter().chain([&host.name]).cloned().collect();
        let watch = Watch::open(site, &asked, &work.connector, global.at_once());
        Ok((Self { work, host, timeout: Duration::from_secs(timeout.get().into()), watch }, looked))
    }

    /// Refuses to take out the last host that is well.
    fn has_others(&mut self, questions: &Questions) -> Result<(), Stop> {
        let left = self.ask(questions, Duration::ZERO, "");
        if left.is_empty() {
            return Ok(());
        }
        let who = left.iter().map(|(host, words)| format!("{host} {}", words.join("; "))).collect::<Vec<_>>();
        Err(Stop::Refused(
            format!("{} is not drained, as visitors would get errors: {}", self.host.name, who.join("; ")),
            // `retire` asks this too.
            vec![format!(
                "bring another host into traffic first (`infra status` says what is wrong), or take this one out all the same: `infra \
                 drain {} --force`",
                self.host.name
            )],
        ))
    }

    /// Looks again once those who lead to the host have seen it leave: somebody may have drained the others in the same moment, who saw
    /// this one in traffic then. Whoever sees that comes back, and so does the other one.
    fn still_has_others(&mut self, site: &Site) -> Result<(), Stop> {
        self.ask(&away::leaving(site, self.host), SETTLED.min(self.timeout), "");
        let Err(stop) = self.has_others(&away::alone(site, self.host)) else { return Ok(()) };
        let looked = self.work.look(&[self.host.name.clone()].into(), false)?;
        self.carry_out(looked, away::come_back(self.host))?;
        Err(stop)
    }

    /// Does it, on the one host.
    fn carry_out(&mut self, looked: Looked, decided: Decided) -> Done {
        self.work.decided_by(looked, away::NAME, move |_, _, _| Ok(decided.clone()), Consent::Given)
    }

    fn wait(&mut self, questions: &Questions, why: &str) -> Left {
        self.ask(questions, self.timeout, why)
    }

    fn ask(&mut self, questions: &Questions, within: Duration, why: &str) -> Left {
        let Self { work, watch, .. } = self;
        let (parallel, stop) = (work.options.parallel, work.interrupt.flag());
        work.reporter.during(&work.interrupt, |events| {
            watch.wait(questions, Patience { within, parallel, stop, events: &events }, why)
        })
    }

    /// Says what was seen.
    fn tell(&self, drained: bool, left: &Left, good: &str) -> Result<(), Stop> {
        let reporter = self.work.reporter;
        let mut left = left.clone();
        for (host, why) in &self.watch.away {
            left.entry(host.clone()).or_default().push(why.clone());
        }
        if reporter.is_json() {
            let (host, seen) = (&self.host.name, left.is_empty());
            return Ok(reporter.line(&Line::Traffic { host, drained, seen, left: &left })?);
        }
        if left.is_empty() {
            reporter.data(&format!("{good}\n"))?;
        }
        Ok(())
    }

    /// The exit code, with the words for what was not seen.
    fn end(&self, left: &Left, what: &str, help: &[String], late: u8) -> Done {
        let reporter = self.work.reporter;
        if self.work.interrupt.is_set() {
            reporter.error(what, &["the command was stopped before".to_owned()], help)?;
            return Ok(exit::INTERRUPTED);
        }
        if !left.is_empty() {
            let causes: Vec<String> = left.iter().map(|(host, words)| format!("{host} {}", words.join("; "))).collect();
            reporter.error(what, &causes, help)?;
            return Ok(late);
        }
        if !self.watch.away.is_empty() {
            let hosts: Vec<&HostName> = self.watch.away.keys().collect();
            let causes: Vec<String> = self.watch.away.values().cloned().collect();
            let what = format!("{what} by all: {} could not be asked", names(&hosts));
            reporter.error(&what, &causes, help)?;
            return Ok(exit::UNREACHABLE);
        }
        Ok(exit::DONE)
    }
}

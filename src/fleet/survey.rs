//! What all hosts are: takes the site and a way to connect, gives open connections, what was observed, and who did not answer.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use serde_json::Value;

use crate::base::diagnostic::Diagnostic;
use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::fleet::decision::{Decide, Decision};
use crate::fleet::event::Event;
use crate::fleet::later::Later;
use crate::fleet::moved::{self, Others};
use crate::fleet::run;
use crate::host::lock::{self, Locked};
use crate::host::transport::{Hold, Script, Transport, TransportError};
use crate::host::{observe, report, seen};
use crate::inventory::site::{Host, Site};
use crate::plan::behind::Behind;
use crate::plan::decision::{Decided, Memory};
use crate::plan::half;
use crate::plan::narrow::{self, Addresses};
use crate::plan::plan::{self, HostPlan, Plan};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{Desired, DesiredHost, Facts, Observed, ObservedFleet, Phase};
use crate::plan::way;
use crate::service::drained;
use crate::service::firewall::beside;
use crate::service::firewall::rules::passages;
use crate::service::render::Templates;
use crate::service::{self, Services};

/// How a host is reached.
pub trait Connector: Sync {
    /// Opens a connection as root.
    ///
    /// # Errors
    /// [`TransportError`].
    fn connect(&self, host: &Host) -> Result<Box<dyn Transport>, TransportError>;

    /// How many hosts to work on at the same time by what the connections so far have shown, where it would be `given`.
    fn at_once(&self, given: usize) -> usize {
        given
    }

    /// What a person should know of the ways to the hosts that were connected to, each a sentence that is given once.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Open connections, by host.
pub type Sessions = BTreeMap<HostName, Box<dyn Transport>>;

/// All that was learned before anything is decided.
#[derive(Default)]
pub struct Survey {
    /// Hosts that answered.
    pub observed: ObservedFleet,
    /// Their connections.
    pub sessions: Sessions,
    /// Hosts that did not answer, and why.
    pub unreachable: BTreeMap<HostName, TransportError>,
    /// Hosts that cannot be worked on, and why.
    pub refused: BTreeMap<HostName, String>,
    /// Those that say of themselves that they were retired, and by whom.
    pub retired: BTreeMap<HostName, drained::Mark>,
}

impl Survey {
    /// What is known of the system of each host that answered.
    pub fn facts(&self) -> BTreeMap<HostName, Facts> {
        self.observed.iter().map(|(name, seen)| (name.clone(), seen.facts.clone())).collect()
    }
}

/// Connects and asks `hosts`, one connection and one exec each. Those of which `guess` has the facts are not known to be asked any more
/// when these still hold; all of them where there is no guess.
pub fn ask<'a>(
    services: Services,
    hosts: impl IntoIterator<Item = &'a Host>,
    (desired, guess): (&Desired, Option<&BTreeMap<HostName, Facts>>),
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Survey {
    let hosts: Vec<&Host> = hosts.into_iter().collect();
    let _ = events.send(Event::Observing { hosts: hosts.len() });
    let answers = connect_and_ask(services, hosts, (&Later::there(desired), guess), connector, parallel, events);
    surveyed(answers, desired, connector, events)
}

/// As [`ask`], where what the hosts should be is made while connections are opened already. Gives that too.
///
/// # Errors
/// As `desire`. Then a host has seen a login at most, and nobody is told of it.
fn ask_while(
    services: Services,
    hosts: Vec<&Host>,
    (desire, guess): (impl FnOnce() -> Result<Desired, Vec<Diagnostic>> + Send, Option<&BTreeMap<HostName, Facts>>),
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Result<(Desired, Survey), Vec<Diagnostic>> {
    let (later, all) = (Later::default(), hosts.len());
    let told = |desired| {
        let _ = events.send(Event::Observing { hosts: all });
        desired
    };
    let (made, answers) = std::thread::scope(|scope| {
        let making = scope.spawn(|| later.make(|| desire().map(told)));
        let answers = connect_and_ask(services, hosts, (&later, guess), connector, parallel, events);
        (making.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), answers)
    });
    made?;
    let desired = later.into_value().unwrap_or_default();
    let survey = surveyed(answers, &desired, connector, events);
    Ok((desired, survey))
}

/// What a host has answered, over which connection.
type Answer = Result<(Box<dyn Transport>, Observed), TransportError>;

/// Connects to `hosts`, and asks each when `desired` is there. Where there is none, no further one is connected to.
fn connect_and_ask(
    services: Services,
    hosts: Vec<&Host>,
    (desired, guess): (&Later<impl Borrow<Desired> + Send + Sync>, Option<&BTreeMap<HostName, Facts>>),
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Vec<(HostName, Answer)> {
    let nothing = DesiredHost::default();
    let answers = run::each_of_more(
        hosts,
        || connector.at_once(parallel),
        |host| {
            if desired.is_void() {
                return None;
            }
            let connected = connector.connect(host);
            let wanted = desired.wait()?.borrow().get(&host.name).unwrap_or(&nothing);
            let answer = connected.and_then(|mut transport| {
                let observed = observe(services, transport.as_mut(), wanted)?;
                let settled = guess.is_none_or(|guess| guess.get(&host.name) == Some(&observed.facts));
                if settled && !is_looked_at_again(wanted, &observed) {
                    transport.rest();
                }
                Ok((transport, observed))
            });
            let error = answer.as_ref().err().map(ToString::to_string);
            let _ = events.send(Event::Observed { host: host.name.clone(), error });
            Some((host.name.clone(), answer))
        },
    );
    answers.into_iter().flatten().collect()
}

/// What is known by the answers of hosts.
fn surveyed(
    answers: Vec<(HostName, Answer)>,
    desired: &Desired,
    connector: &dyn Connector,
    events: &Sender<Event>,
) -> Survey {
    let nothing = DesiredHost::default();
    connector.notes().into_iter().for_each(|text| note(events, text));
    let mut survey = Survey::default();
    for (name, answer) in answers {
        match answer {
            Ok((transport, observed)) => {
                let wanted = desired.get(&name).unwrap_or(&nothing);
                if let Some(reason) = refusal(wanted, &observed) {
                    survey.refused.insert(name.clone(), reason);
                }
                survey.retired.extend(drained::retired(&observed).map(|mark| (name.clone(), mark)));
                survey.observed.insert(name.clone(), observed);
                survey.sessions.insert(name, transport);
            }
            Err(error) => {
                survey.unreachable.insert(name, error);
            }
        }
    }
    survey
}

/// Whether packages or first rules come to a host, before which it is looked at once more.
fn is_looked_at_again(desired: &DesiredHost, observed: &Observed) -> bool {
    desired.packages.iter().any(|package| !observed.packages.contains_key(package))
        || desired.firewall.is_some() && observed.firewall.loaded.is_none()
}

/// One exec of the observing script.
///
/// # Errors
/// What the transport says, or that the answer does not read.
pub fn observe(
    services: Services,
    transport: &mut dyn Transport,
    desired: &DesiredHost,
) -> Result<Observed, TransportError> {
    let script = observe::script(services, &observe::request(services, desired));
    Ok(shared(answer(services, transport, &script)?, desired))
}

/// A host that is held, and what it is then; or the words of the one who holds it.
pub type Held = Result<(Box<dyn Hold>, Observed), String>;

/// Takes the lock of a host for `(who, run)` and looks again under it, in one exec.
///
/// # Errors
/// As for [`observe()`].
pub fn hold(
    services: Services,
    transport: &mut dyn Transport,
    desired: &DesiredHost,
    by: (&str, &str),
) -> Result<Held, TransportError> {
    let script = observe::script(services, &observe::request(services, desired));
    let (lock, seen) = match lock::take_and_look(transport, by, &script)? {
        (Locked::Ours(lock), seen) => (lock, seen),
        (Locked::Held(holder), _) => return Ok(Err(holder)),
    };
    // What does not read is asked once more, by a script that says why.
    let seen = match seen.and_then(|seen| seen::parse(services, &seen).ok()) {
        Some(seen) => seen,
        None => answer(services, transport, &script)?,
    };
    Ok(Ok((lock, shared(seen, desired))))
}

/// The rules that are wanted and are there are kept once.
fn shared(mut observed: Observed, desired: &DesiredHost) -> Observed {
    if let (Some(loaded), Some(wanted)) = (&mut observed.firewall.loaded, &desired.firewall) {
        loaded.share(wanted);
    }
    observed
}

/// One exec of an observing script.
///
/// # Errors
/// As for [`observe()`].
pub fn answer(services: Services, transport: &mut dyn Transport, script: &Script) -> Result<Observed, TransportError> {
    let output = transport.run(script, b"")?;
    seen::parse(services, &output.stdout).map_err(|error| {
        let said = match report::phrase(&String::from_utf8_lossy(&output.stderr)) {
            said if said.is_empty() => {
                "nothing (a profile of the shell that reads its input takes the script away)".to_owned()
            }
            said => said,
        };
        TransportError::Setup(format!("{error}; the observing script ended with {} and said: {said}", output.status))
    })
}

/// Why a host is left alone, if so.
fn refusal(desired: &DesiredHost, observed: &Observed) -> Option<String> {
    drained::left(observed).map(|reason| report::phrase(&reason)).or_else(|| barred(desired, observed))
}

/// Why nothing can be done on a host, whoever wants it.
pub(super) fn barred(desired: &DesiredHost, observed: &Observed) -> Option<String> {
    let told = |words: &[String]| (!words.is_empty()).then(|| words.join("; "));
    let blocked = || told(&way::blocked(desired, observed));
    let others = || told(&observed.firewall.rivals);
    let reason = observed.refusal.clone().or_else(blocked).or_else(others);
    reason.map(|reason| report::phrase(&reason))
}

/// The survey with the decision made from it.
pub struct Prepared {
    /// What every host should be, with what was learned about it.
    pub desired: Desired,
    /// The connections and observations.
    pub survey: Survey,
    /// What was decided over all hosts; the plan has it.
    pub decided: Decided,
    /// Of which decisions that comes; they are asked again before anything is done.
    pub decisions: Vec<Decision>,
    /// Hosts that those need and that are not selected.
    pub beside: Beside,
    /// Hosts that are not selected, and what was seen of them where something stays open for them.
    pub others: Others,
    /// Decisions that were left out, as a host that they need was not seen, each a sentence.
    pub undecided: Vec<String>,
    /// What is to be done.
    pub plan: Plan,
    /// What the controller remembered when this was decided.
    pub memory: Memory,
    /// What it is to remember from then on, where that is something else.
    pub news: BTreeMap<&'static str, Value>,
    /// Units whose restart a person has confirmed.
    pub confirmed: BTreeSet<String>,
    /// Who wants all this, and is asked again while it is done.
    pub services: Services,
    /// Whether the hosts are to become all that they should be; else a part of it, or something else.
    pub whole: bool,
}

/// Hosts that were looked at for a decision about others.
#[derive(Default)]
pub struct Beside {
    /// What they are.
    pub observed: ObservedFleet,
    /// Their connections.
    pub sessions: Sessions,
}

impl Prepared {
    /// The hosts of which connections are kept to the end of a run that carries the plan out: each lives by its lock.
    pub fn held(&self) -> BTreeSet<&HostName> {
        let decided = self.decisions.iter().flat_map(|decision| &decision.hosts);
        self.plan.changed().chain(decided).chain(self.others.sessions.keys()).collect()
    }

    /// Says of all other connections that nothing more is known to be asked over them.
    pub fn rest(&mut self) {
        let held: BTreeSet<HostName> = self.held().into_iter().cloned().collect();
        let sessions = self.survey.sessions.iter_mut().chain(&mut self.beside.sessions);
        sessions.filter(|(host, _)| !held.contains(*host)).for_each(|(_, session)| session.rest());
    }

    /// Plans the same observation anew, with materials that were not made when it was planned first. No host is asked.
    ///
    /// # Errors
    /// Everything that cannot be rendered.
    pub fn replan(&mut self, sources: Sources<'_>) -> Result<(), Vec<Diagnostic>> {
        self.desired = sources.desire(&self.survey.facts())?;
        settle(sources.site, &self.decided, &mut self.desired);
        self.plan.hosts = self.decided.clone().onto(plan::plan(&self.desired, &self.survey.observed)).hosts;
        keep(sources.site, &mut self.plan, &self.desired, (&self.survey, &self.others));
        Ok(())
    }

    /// Plans what `decide` gives over the hosts that were looked at, and nothing else: what the inventory wants of them is left to
    /// `apply`, so nothing of it is checked or probed either.
    ///
    /// # Errors
    /// What cannot be decided, or not be carried out.
    pub fn plan_alone(
        &mut self,
        site: &Site,
        service: &'static str,
        decide: Arc<Decide>,
    ) -> Result<(), Vec<Diagnostic>> {
        let observed = &self.survey.observed;
        let shown = decide(site, observed, &self.memory).map_err(|error| vec![error])?;
        let errors = service::admit(service, &shown, observed);
        if !errors.is_empty() {
            return Err(errors);
        }
        for (name, host) in &mut self.desired {
            let live = observed.get(name).and_then(|seen| seen.firewall.loaded.as_ref());
            *host = DesiredHost {
                units: std::mem::take(&mut host.units),
                files: std::mem::take(&mut host.files),
                folders: std::mem::take(&mut host.folders),
                packages: std::mem::take(&mut host.packages),
                firewall: live.map(Ruleset::lasting),
                ..DesiredHost::default()
            };
        }
        settle(site, &shown, &mut self.desired);
        let alone = |(name, seen): (&HostName, &Observed)| {
            let desired = self.desired.get(name)?;
            Some((name.clone(), plan::alone(desired, seen, shown.hosts.contains_key(name))))
        };
        let hosts = observed.iter().filter_map(alone).collect();
        self.plan = shown.clone().onto(Plan { hosts, ..Plan::default() });
        keep(site, &mut self.plan, &self.desired, (&self.survey, &self.others));
        self.whole = false;
        self.news = shown.news(&self.memory);
        let hosts = observed.keys().cloned().collect();
        self.decided = shown.clone();
        if shown.binds(&self.plan, &self.memory) {
            self.decisions = vec![Decision { service, hosts, decide, shown }];
        }
        Ok(())
    }
}

/// What is known of the hosts of the site that have no part in a plan, but for those that have moved already: nobody sees them move.
pub fn behind(site: &Site, plan: &Plan, (survey, others): (&Survey, &Others)) -> BTreeMap<HostName, Behind> {
    let away = |host: &HostName| survey.unreachable.contains_key(host) || survey.refused.contains_key(host);
    let absent = site.hosts.keys().filter(|host| !plan.hosts.contains_key(*host) || survey.refused.contains_key(*host));
    let mut behind =
        absent.map(|host| (host.clone(), if away(host) { Behind::Away } else { Behind::LeftOut })).collect();
    others.settle(&mut behind);
    behind
}

/// The addresses of all hosts.
pub fn addresses(site: &Site) -> Addresses {
    let of = |host: &Host| host.addresses.iter().chain(&host.public).copied().collect();
    site.hosts.values().map(|host| (host.name.clone(), of(host))).collect()
}

/// Enters into a plan what stays open for hosts that have no part in it.
fn keep(site: &Site, plan: &mut Plan, desired: &Desired, seen: (&Survey, &Others)) {
    let behind = behind(site, plan, seen);
    let fleet = addresses(site);
    narrow::keep(plan, desired, &seen.1.moved, &fleet, &behind);
    plan.halves = half::of(plan, &fleet, &behind);
}

/// What was decided is a part of what the hosts should be: restarts that are confirmed, and ways that are open while the run lasts.
fn settle(site: &Site, decided: &Decided, desired: &mut Desired) {
    decided.confirm(desired);
    for (host, rules) in passages(site, &decided.passages) {
        if let Some(host) = desired.get_mut(&host) {
            host.passages = rules;
        }
    }
}

/// What services are given beside the host.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The infrastructure.
    pub site: &'a Site,
    /// Certificates, keys, passwords.
    pub materials: &'a Materials,
    /// Templates, and with them the services.
    pub templates: &'a Templates,
    /// What the controller remembers.
    pub memory: &'a Memory,
    /// Units whose restart a person has confirmed.
    pub confirmed: &'a BTreeSet<String>,
    /// Another infrastructure whose hosts a person lets this one take over.
    pub adopt: Option<&'a HostName>,
}

impl Sources<'_> {
    /// Why a host of another infrastructure is left alone, unless a person has said that it is taken over.
    fn of_another(&self, seen: &Observed) -> Option<String> {
        let (ours, owner) = (&self.site.name, seen.owner.as_ref()?);
        (owner != ours && Some(owner) != self.adopt).then(|| {
            format!(
                "it belongs to the infrastructure `{owner}`, and this inventory is `{ours}`: all that `{owner}` has there would be \
                 removed; `--adopt {owner}` takes the host over, and `name: {owner}` in the inventory goes on with it"
            )
        })
    }

    /// What the hosts should be, by what is known about them.
    ///
    /// # Errors
    /// Everything that cannot be rendered.
    pub fn desire(&self, facts: &BTreeMap<HostName, Facts>) -> Result<Desired, Vec<Diagnostic>> {
        let mut desired = service::desire(self.site, (facts, self.memory), self.materials, self.templates)?;
        self.confirm(&mut desired);
        Ok(desired)
    }

    /// What those hosts should be of which more is known by `facts` than by `guess`, or something else: of all others it is the same.
    fn desire_anew(
        &self,
        guess: &BTreeMap<HostName, Facts>,
        facts: &BTreeMap<HostName, Facts>,
    ) -> Result<Desired, Vec<Diagnostic>> {
        let hosts = self.site.hosts.values().filter(|host| guess.get(&host.name) != facts.get(&host.name));
        let hosts: Vec<&Host> = hosts.collect();
        let mut desired =
            service::desire_some(self.site, &hosts, (facts, self.memory), self.materials, self.templates)?;
        self.confirm(&mut desired);
        Ok(desired)
    }

    /// Has the restarts that a person has confirmed be confirmed.
    fn confirm(&self, desired: &mut Desired) {
        for host in desired.values_mut() {
            host.confirmed = self.confirmed.iter().filter(|unit| host.units.contains_key(*unit)).cloned().collect();
        }
    }
}

/// Asks `hosts` and nobody else, and plans nothing. `guess` holds the facts of the last run: where they still hold, a host is asked
/// once.
///
/// # Errors
/// Everything that cannot be rendered.
pub fn look(
    hosts: &BTreeSet<HostName>,
    sources: Sources<'_>,
    guess: &BTreeMap<HostName, Facts>,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Result<Prepared, Vec<Diagnostic>> {
    let guessed = || sources.desire(guess);
    let anew = |facts: &_| sources.desire_anew(guess, facts);
    look_as(hosts, sources, (guessed, Some(guess)), anew, connector, parallel, events)
}

/// As [`look()`], where the hosts should be what `guessed` says, by `guess` where it goes by facts, but for those for which `anew` says
/// something else by what is known about them then.
///
/// # Errors
/// As `guessed` and `anew`.
fn look_as(
    hosts: &BTreeSet<HostName>,
    sources: Sources<'_>,
    (guessed, guess): (impl FnOnce() -> Result<Desired, Vec<Diagnostic>> + Send, Option<&BTreeMap<HostName, Facts>>),
    anew: impl Fn(&BTreeMap<HostName, Facts>) -> Result<Desired, Vec<Diagnostic>>,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Result<Prepared, Vec<Diagnostic>> {
    let (site, services) = (sources.site, sources.templates.services());
    let asked = hosts.iter().filter_map(|name| site.hosts.get(name)).collect();
    let (mut desired, mut survey) = ask_while(services, asked, (guessed, guess), connector, parallel, events)?;
    let others = anew(&survey.facts())?;
    again(services, &mut survey, &desired, &others, parallel);
    desired.extend(others);
    for (name, seen) in &survey.observed {
        // What stands against planned rules is known when the rules are, by what the host has just said.
        let against = |wanted: &DesiredHost| {
            let told = beside::against(site, name, wanted.firewall.as_ref()?, &seen.firewall);
            (!told.is_empty()).then(|| report::phrase(&told.join("; ")))
        };
        let old =
            || site.hosts.get(name).and_then(|host| services.too_old(&host.roles, &seen.facts).into_iter().next());
        let left =
            || desired.get(name).and_then(|wanted| refusal(wanted, seen).or_else(old).or_else(|| against(wanted)));
        if let Some(reason) = sources.of_another(seen).or_else(left) {
            survey.refused.insert(name.clone(), reason);
        }
    }
    survey.observed.retain(|name, _| !survey.refused.contains_key(name));
    Ok(Prepared {
        desired,
        survey,
        decided: Decided::default(),
        decisions: Vec::new(),
        beside: Beside::default(),
        others: Others::default(),
        undecided: Vec::new(),
        plan: Plan::default(),
        memory: sources.memory.clone(),
        news: BTreeMap::new(),
        confirmed: sources.confirmed.clone(),
        services,
        whole: true,
    })
}

/// Plans for the hosts of `desired` to be that, without a decision over all of them. Those in `standing` are left as they are: they
/// have a part in the run, so that nobody waits for them.
///
/// # Errors
/// None of its own; [`prepare`] has some.
pub fn prepare_as(
    mut desired: Desired,
    standing: &BTreeSet<HostName>,
    sources: Sources<'_>,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Result<Prepared, Vec<Diagnostic>> {
    sources.confirm(&mut desired);
    let hosts = desired.keys().cloned().collect();
    let same = |_: &BTreeMap<HostName, Facts>| Ok(Desired::new());
    let mut prepared = look_as(&hosts, sources, (|| Ok(desired), None), same, connector, parallel, events)?;
    prepared.plan = plan::plan(&prepared.desired, &prepared.survey.observed);
    for (_, host) in prepared.plan.hosts.iter_mut().filter(|(name, _)| standing.contains(*name)) {
        *host = HostPlan::default();
    }
    keep(sources.site, &mut prepared.plan, &prepared.desired, (&prepared.survey, &prepared.others));
    Ok(prepared)
}

/// Asks the selected hosts, and those that a decision about them needs, and plans for the selected ones. A service whose hosts were
/// not all seen decides nothing: what it does not know of one of them may be the reason not to act on another.
///
/// # Errors
/// Everything that cannot be rendered or decided.
pub fn prepare(
    selected: &BTreeSet<HostName>,
    sources: Sources<'_>,
    guess: &BTreeMap<HostName, Facts>,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Result<Prepared, Vec<Diagnostic>> {
    let (site, services) = (sources.site, sources.templates.services());
    let needs = services.needs(site, selected);
    for (service, hosts) in &needs {
        let names: Vec<&str> = hosts.difference(selected).map(HostName::as_str).collect();
        let (names, are) = match names.split_last() {
            None => continue,
            Some((last, [])) => ((*last).to_owned(), "is"),
            Some((last, before)) => (format!("{} and {last}", before.join(", ")), "are"),
        };
        note(
            events,
            format!(
                "{names} {are} looked at too, as `{service}` decides over all its hosts at once; nothing is changed there"
            ),
        );
    }
    let asked = selected.iter().chain(needs.values().flatten()).cloned().collect();
    let mut prepared = look(&asked, sources, guess, connector, parallel, events)?;
    let (observed, reasons) = (&prepared.survey.observed, prepared.survey.away());
    let away: BTreeSet<HostName> = reasons.keys().cloned().collect();
    let missed =
        needs.iter().map(|(service, hosts)| (*service, hosts.intersection(&away).cloned().collect::<BTreeSet<_>>()));
    let mut undecided: BTreeMap<&str, BTreeSet<HostName>> = missed.filter(|(_, hosts)| !hosts.is_empty()).collect();
    let each = services.decide(site, (observed, &away), sources.memory, &mut undecided)?;
    let undecided = undecided.into_iter().map(|(service, hosts)| {
        let why = hosts.iter().filter_map(|host| Some(format!("{host} {}", reasons.get(host)?))).collect::<Vec<_>>();
        format!("`{service}` decides over all its hosts at once, and decided nothing: {}", why.join("; "))
    });
    prepared.undecided = undecided.collect();
    let mut made = Vec::new();
    for (service, shown) in each {
        let mut kept = shown.clone();
        for host in kept.keep(selected) {
            note(events, format!("{host}: what is decided for it is left out, as it is not selected"));
        }
        for text in &kept.notes {
            note(events, text.clone());
        }
        prepared.decided.join(kept.clone());
        made.push((service, shown, kept));
    }
    not_let_in_again(&prepared.survey.retired)?;
    prepared.beside = prepared.survey.part(selected);
    prepared.news = prepared.decided.news(sources.memory);
    settle(site, &prepared.decided, &mut prepared.desired);
    prepared.plan = prepared.decided.clone().onto(plan::plan(&prepared.desired, &prepared.survey.observed));
    keep(site, &mut prepared.plan, &prepared.desired, (&prepared.survey, &prepared.others));
    let decided = made.iter().flat_map(|(_, shown, _)| shown.hosts.keys().cloned()).collect();
    // Whoever belongs to a decision that was not made may have something to do that nobody knows here.
    let known =
        |host: &HostName| services.needs(site, &BTreeSet::from([host.clone()])).keys().all(|of| needs.contains_key(of));
    let wanted: BTreeSet<HostName> = moved::wanted(&prepared.plan).into_iter().filter(known).collect();
    prepared.others = look_at_others(&wanted, &decided, sources, guess, connector, parallel, events)?;
    keep(site, &mut prepared.plan, &prepared.desired, (&prepared.survey, &prepared.others));
    for (service, shown, _) in made.into_iter().filter(|(_, _, kept)| kept.binds(&prepared.plan, sources.memory)) {
        let hosts = needs.get(service.name()).into_iter().flatten().chain(shown.hosts.keys()).cloned().collect();
        let decide = Arc::new(move |site: &Site, observed: &ObservedFleet, memory: &Memory| {
            service.decide(site, observed, memory)
        });
        prepared.decisions.push(Decision { service: service.name(), hosts, decide, shown });
    }
    let needed = |host: &HostName| prepared.decisions.iter().any(|decision| decision.hosts.contains(host));
    prepared.beside.observed.retain(|host, _| needed(host));
    prepared.beside.sessions.retain(|host, _| needed(host));
    Ok(prepared)
}

/// Looks at `hosts` over a connection of their own. What services would decide about one is not known here: `decided` names those about whom something was, and whoever
/// belongs to a decision that was not made is not looked at.
///
/// # Errors
/// Everything that cannot be rendered.
fn look_at_others(
    hosts: &BTreeSet<HostName>,
    decided: &BTreeSet<HostName>,
    sources: Sources<'_>,
    guess: &BTreeMap<HostName, Facts>,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Result<Others, Vec<Diagnostic>> {
    if hosts.is_empty() {
        return Ok(Others::default());
    }
    let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
    let are = if hosts.len() == 1 { "is" } else { "are" };
    let text = format!(
        "{} {are} looked at too, to see whether what this run is to close is still in use there; nothing is changed there",
        names.join(", ")
    );
    note(events, text);
    let Prepared { mut desired, survey, .. } = look(hosts, sources, guess, connector, parallel, events)?;
    not_let_in_again(&survey.retired)?;
    let mut others = Others { away: survey.away().into_keys().collect(), ..Others::default() };
    for (host, transport) in survey.sessions {
        let (Some(seen), Some(wanted)) = (survey.observed.get(&host), desired.remove(&host)) else { continue };
        let mut own = plan::host(&wanted, seen);
        if !decided.contains(&host) && narrow::has_moved(&own) {
            others.sessions.insert(host.clone(), transport);
            others.moved.insert(host, (wanted, own.phases.remove(&Phase::Narrow).unwrap_or_default()));
        }
    }
    Ok(others)
}

/// Refuses to plan while a host that was looked at was retired, by whichever controller: its lines are in this inventory still, so the
/// others would lead to it and let it in again, also where it is not selected itself.
///
/// # Errors
/// A sentence for each of them.
pub fn not_let_in_again(retired: &BTreeMap<HostName, drained::Mark>) -> Result<(), Vec<Diagnostic>> {
    let refused: Vec<Diagnostic> = retired
        .iter()
        .map(|(host, mark)| {
            let error = format!("{host} was retired {mark}, and its lines are still in the inventory");
            Diagnostic::error(report::phrase(&error))
                .help(format!("delete the lines of {host}: the other hosts would lead to it and let it in again"))
                .help("to take it in again, remove /var/lib/infra/retired on it, and retired/ in the state of the controller that retired it")
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

/// A reporter that is gone stops nothing.
fn note(events: &Sender<Event>, text: String) {
    let _ = events.send(Event::Note { host: None, text });
}

/// Hosts that cannot be worked on now, and why: `cannot be reached: …`.
pub type Away = BTreeMap<HostName, String>;

impl Survey {
    /// The hosts that cannot be worked on.
    pub fn away(&self) -> Away {
        let unreachable = self.unreachable.iter();
        let refused = self.refused.iter().map(|(host, reason)| (host.clone(), format!("is left alone: {reason}")));
        unreachable.map(|(host, error)| (host.clone(), format!("cannot be reached: {error}"))).chain(refused).collect()
    }

    /// Keeps `selected`, and gives the hosts that were looked at beside them.
    fn part(&mut self, selected: &BTreeSet<HostName>) -> Beside {
        let other = |host: &HostName| !selected.contains(host);
        self.unreachable.retain(|host, _| selected.contains(host));
        self.refused.retain(|host, _| selected.contains(host));
        Beside {
            observed: self.observed.extract_if(.., |host, _| other(host)).collect(),
            sessions: self.sessions.extract_if(.., |host, _| other(host)).collect(),
        }
    }
}

/// Hosts that turned out to want other files than guessed are asked once more, over the same connection; `desired` has those that want
/// something else.
fn again(services: Services, survey: &mut Survey, guessed: &Desired, desired: &Desired, parallel: usize) {
    let stale: Vec<HostName> = survey
        .observed
        .keys()
        .filter(|name| match (guessed.get(*name), desired.get(*name)) {
            (Some(a), Some(b)) => observe::request(services, a) != observe::request(services, b),
            (guessed, _) => guessed.is_none(),
        })
        .cloned()
        .collect();
    let work: Vec<_> = stale.into_iter().filter_map(|name| survey.sessions.remove_entry(&name)).collect();
    let answers = run::each(work, parallel, |(name, mut transport)| {
        let wanted = desired.get(&name).cloned().unwrap_or_default();
        let answer = observe(services, transport.as_mut(), &wanted);
        transport.rest();
        (name, transport, answer)
    });
    for (name, transport, answer) in answers {
        match answer {
            Ok(observed) => {
                survey.observed.insert(name.clone(), observed);
                survey.sessions.insert(name, transport);
            }
            Err(error) => {
                survey.observed.remove(&name);
                survey.unreachable.insert(name, error);
            }
        }
    }
}

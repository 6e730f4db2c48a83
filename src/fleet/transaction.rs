//! Carries a plan out on the fleet: locks, looks again, stages on all hosts, then goes through the phases as barriers.
//!
//! Takes what [`survey::prepare`] gave; gives the outcome of every host. No host is touched
//! before every host's new configuration was accepted on it; a failure beyond the budget stops what comes after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::base::crash::crash_at;
use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::fleet::departure::Departure;
use crate::fleet::drain::{self, Left, Patience};
use crate::fleet::event::{Event, Failure, HostOutcome, OpenFlow, Outcome};
use crate::fleet::identity;
use crate::fleet::journals;
use crate::fleet::member::{Member, failure};
use crate::fleet::memory;
use crate::fleet::moved::{Others, is_moved};
use crate::fleet::proof;
use crate::fleet::run;
use crate::fleet::still::{self, Still};
use crate::fleet::survey::{self, Beside, Connector, Prepared, Sessions};
use crate::fleet::wave::{self, Gate, Waves};
use crate::host::execute::{Executor, Now, StepError, Told};
use crate::host::transport::{Hold, Transport, TransportError};
use crate::inventory::site::Site;
use crate::plan::behind::Behind;
use crate::plan::decision::Decided;
use crate::plan::narrow::{self, Addresses, Closing, Unclosed};
use crate::plan::plan::{self, Action, Plan};
use crate::plan::ruleset::{Rule, Ruleset};
use crate::plan::state::{Desired, DesiredHost, Digest, Observed, ObservedFleet, Phase};
use crate::plan::wanted::Wanted;
use crate::service::Services;

/// How a run goes about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Hosts at a time.
    pub parallel: usize,
    /// Hosts of one phase that go together.
    pub waves: Waves,
    /// How many hosts may fail, unreachable ones among them, before the run stops.
    pub max_failed: usize,
    /// Whether a step of an authority's replacement waits for this run: then it ends when no worker of before serves any more,
    /// or says where one does.
    pub settle: bool,
    /// Whether web and app hosts are drained while they change, and for how long their connections may take to end.
    pub drain: Option<Duration>,
    /// The run's name.
    pub run: String,
    /// Who runs it, from where.
    pub who: String,
    /// The run that this one takes back.
    pub restores: Option<String>,
    /// The digest of its plan as it is shown, for the hosts' journals.
    pub plan: Option<Digest>,
}

/// A host that a decision needs and on which nothing is done: it is held as it is.
struct Witness {
    // It goes before the connection that it lives by.
    _lock: Box<dyn Hold>,
    _transport: Box<dyn Transport>,
}

/// A run under way.
struct Run<'a> {
    site: &'a Site,
    services: Services,
    options: &'a Options,
    events: &'a Sender<Event>,
    stop: &'a AtomicBool,
    connector: &'a dyn Connector,
    /// The hosts that decisions were made from: they are locked, also those on which nothing is done.
    held: BTreeSet<&'a HostName>,
    /// The hosts of the site that have no part in this run.
    absent: BTreeMap<HostName, Behind>,
    notes: Vec<String>,
    former: Left,
    failed: usize,
    /// Whether the hosts are to become all that they should be.
    whole: bool,
    /// What has to work after each wave.
    gate: Gate,
    /// The hosts that changed together with one that failed.
    wave: BTreeSet<HostName>,
    /// Whether something that worked before does not work any more.
    shut: bool,
}

/// Executes `prepared.plan`.
pub fn execute(
    site: &Site,
    prepared: Prepared,
    materials: &Materials,
    connector: &dyn Connector,
    options: &Options,
    stop: &AtomicBool,
    events: &Sender<Event>,
) -> Outcome {
    let began = Instant::now();
    let Prepared {
        desired,
        mut survey,
        decided,
        decisions,
        beside,
        mut others,
        plan,
        memory,
        news,
        services,
        whole,
        ..
    } = prepared;
    let mut outcome = Outcome { run: options.run.clone(), ..Outcome::default() };
    for (name, error) in &survey.unreachable {
        outcome.hosts.insert(name.clone(), HostOutcome::Unreachable { reason: error.to_string() });
    }
    for (name, reason) in &survey.refused {
        outcome.hosts.insert(name.clone(), HostOutcome::NotReached { state: format!("left alone: {reason}") });
    }
    let held: BTreeSet<&HostName> = decisions.iter().flat_map(|decision| &decision.hosts).collect();
    let absent = survey::behind(site, &plan, (&survey, &others));
    let mut run = Run {
        site,
        services,
        options,
        events,
        stop,
        connector,
        held,
        absent,
        notes: Vec::new(),
        former: Left::new(),
        failed: 0,
        whole,
        gate: Gate::new(),
        wave: BTreeSet::new(),
        shut: false,
    };
    let (mut members, mut now) =
        run.enlist((&desired, &decided), &plan, &mut survey, materials, connector, &mut outcome);
    // Their locks live until the end of the run.
    let witnesses = if run.failed == 0 { run.witnesses(&desired, beside, &mut now) } else { Ok(Vec::new()) };
    run.look_again(&mut others, &now);
    let binding = witnesses.as_ref().map_err(Clone::clone).and_then(|_| {
        if run.failed > 0 || (decisions.is_empty() && news.is_empty()) {
            return Ok(());
        }
        let mut fleet = survey.observed.clone();
        fleet.extend(now);
        let known = memory::again(site, services, &memory).map_err(|error| error.to_string())?;
        match decisions.iter().find_map(|decision| decision.moved(site, &fleet, &known)) {
            Some(why) => Err(why),
            None => memory::keep(site, &news).map_err(|error| error.to_string()),
        }
    });
    if let Err(why) = binding {
        run.failed += 1;
        outcome.refused.push(why);
    }
    if run.failed == 0 {
        let open = proof::before(&mut members, options.parallel);
        run.phases(&mut members, &survey.observed, others);
        run.prove(&mut members, &survey.observed, &open);
        run.close_passages(&mut members);
    }
    let interrupted = stop.load(Ordering::Relaxed);
    outcome.open = run.open(&mut members, &survey.observed);
    for member in members {
        outcome.hosts.entry(member.name()).or_insert_with(|| member.end());
    }
    outcome.notes = run.notes;
    outcome.wave = run.wave;
    outcome.former = run.former;
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.interrupted = interrupted;
    // It is kept in a file: what a connection or a lock's holder said is in it too. The floats of an outcome are finite, so it
    // survives JSON.
    materials.hidden().redacted(&outcome).unwrap_or(outcome)
}

impl<'a> Run<'a> {
    fn tell(&self, event: Event) {
        // A reporter that is gone must not stop a run.
        let _ = self.events.send(event);
    }

    fn over_budget(&self) -> bool {
        self.failed > self.options.max_failed
    }

    fn stopped(&self) -> bool {
        self.shut || self.over_budget() || self.stop.load(Ordering::Relaxed)
    }

    /// Takes the locks of all hosts that change or are needed, in parallel, and looks again under them: what was planned must still
    /// be true. Gives what they are then too.
    fn enlist(
        &mut self,
        (desired, decided): (&'a Desired, &'a Decided),
        plan: &'a Plan,
        survey: &mut survey::Survey,
        materials: &'a Materials,
        connector: &'a dyn Connector,
        outcome: &mut Outcome,
    ) -> (Vec<Member<'a>>, ObservedFleet) {
        let mut work = Vec::new();
        for (name, host_plan) in &plan.hosts {
            let (Some(wanted), Some(host), Some(seen)) =
                (desired.get(name), self.site.hosts.get(name), survey.observed.get(name))
            else {
                continue;
            };
            work.push((host, wanted, host_plan, seen.clone(), survey.sessions.remove(name)));
        }
        let this = &*self;
        let spared =
            |host: &HostName, unit: &String| decided.confirms.get(host).is_some_and(|units| units.contains(unit));
        let members = run::each(work, this.options.parallel, |(host, wanted, host_plan, seen, session)| {
            let transport = session.map_or_else(|| connector.connect(host), Ok);
            let ready = transport.and_then(|mut transport| {
                if host_plan.is_empty() && !this.held.contains(&host.name) {
                    return Ok((transport, None, None));
                }
                let (lock, now) = this.lock(wanted, transport.as_mut())?;
                if !host_plan.is_empty() && plan::fingerprint(&now, wanted) != plan::fingerprint(&seen, wanted) {
                    return Err(TransportError::Setup(
                        "the host has changed since the plan was made; run the same command again for a new plan"
                            .into(),
                    ));
                }
                Ok((transport, Some(lock), Some(now)))
            });
            let (transport, lock, now) = match ready {
                Ok(ready) => ready,
                Err(error) => return Err((host.name.clone(), error)),
            };
            let (events, told) = (this.events.clone(), host.name.clone());
            let member = Member {
                executor: Executor {
                    host: host.name.clone(),
                    run: this.options.run.clone(),
                    // The host's journal tells both; the lock tells who.
                    who: journals::staged(&this.options.who, this.options.plan.as_ref(), &identity::command()),
                    materials,
                    transport,
                    reconnect: Box::new(move || connector.connect(host)),
                    here: proof::here(this.site, host),
                    tell: Box::new(move |said| {
                        let host = told.clone();
                        // A reporter that is gone must not stop a run.
                        let _ = events.send(match said {
                            Told::Note(text) => Event::Note { host: Some(host), text },
                            Told::Progress(text) => Event::Progress { host, text },
                        });
                    }),
                    swaps: &wanted.swaps,
                    owner: Some(this.site.name.clone()),
                    manifest: seen.manifest.clone(),
                    records: this.records(wanted),
                },
                services: this.services,
                host: &host.name,
                desired: wanted,
                plan: host_plan,
                by_word: wanted.confirmed.iter().filter(|unit| !spared(&host.name, unit)).collect(),
                _lock: lock,
                done: Vec::new(),
                kept_by: Vec::new(),
                behind: BTreeSet::new(),
                nobody_left: false,
                outcome: None,
            };
            Ok((member, now))
        });
        let (mut enlisted, mut fleet) = (Vec::new(), ObservedFleet::new());
        for member in members {
            match member {
                Ok((member, now)) => {
                    fleet.extend(now.map(|now| (member.name(), now)));
                    enlisted.push(member);
                }
                Err((name, error)) => {
                    self.failed += 1;
                    let failure = Failure {
                        phase: Phase::Stage,
                        what: "the host lock".into(),
                        words: vec![error.to_string()],
                        put_back: None,
                        state: "nothing was changed on it".into(),
                    };
                    outcome.hosts.insert(name, HostOutcome::Failed(failure));
                }
            }
        }
        (enlisted, fleet)
    }

    /// What a host keeps of this run: what it is to be, where the run is to make it so as a whole.
    fn records(&self, wanted: &DesiredHost) -> BTreeMap<&'static str, String> {
        let restores = self.options.restores.iter().map(|run| ("restores", format!("{run}\n")));
        // A record that cannot be made costs the way back, and not the run.
        let wanted = self.whole.then(|| Wanted::of(wanted).to_text().ok()).flatten();
        restores.chain(wanted.map(|text| ("wanted", text))).collect()
    }

    /// Takes the locks of the hosts beside those of the plan that a decision needs, and adds what they are to `now`.
    ///
    /// # Errors
    /// Which host cannot be held, and why.
    fn witnesses(&self, desired: &Desired, beside: Beside, now: &mut ObservedFleet) -> Result<Vec<Witness>, String> {
        let nothing = DesiredHost::default();
        let answers =
            run::each(beside.sessions.into_iter().collect(), self.options.parallel, |(host, mut transport)| {
                let wanted = desired.get(&host).unwrap_or(&nothing);
                let locked = self.lock(wanted, transport.as_mut());
                (host, locked.map(|(lock, seen)| (Witness { _lock: lock, _transport: transport }, seen)))
            });
        let mut witnesses = Vec::new();
        for (host, answer) in answers {
            let (witness, seen) = answer.map_err(|error| {
                format!(
                    "{host} has to stay as it is while this is done, and cannot be held so: {error}; nothing was done"
                )
            })?;
            now.insert(host, seen);
            witnesses.push(witness);
        }
        Ok(witnesses)
    }

    /// The lock of a host, and what the host is under it.
    fn lock(
        &self,
        wanted: &DesiredHost,
        transport: &mut dyn Transport,
    ) -> Result<(Box<dyn Hold>, Observed), TransportError> {
        let by = (self.options.who.as_str(), self.options.run.as_str());
        survey::hold(self.services, transport, wanted, by)?.map_err(|holder| {
            TransportError::Setup(format!(
                "another run works on this host: {holder}; wait for it, or end it where it runs"
            ))
        })
    }

    fn phases(&mut self, members: &mut [Member<'_>], observed: &ObservedFleet, mut others: Others) {
        for phase in Phase::ALL {
            if self.stopped() {
                return;
            }
            match phase {
                Phase::Packages => {
                    self.phase(
                        phase,
                        members,
                        |m| m.plan.phases.contains_key(&phase),
                        |member| {
                            let advice = Member::commit(phase)(member)?;
                            member.packages_as_planned(observed.get(&member.executor.host).map(|o| &o.facts))?;
                            Ok(advice)
                        },
                    );
                }
                Phase::Stage => {
                    let note = self.phase(
                        phase,
                        members,
                        |m| m.plan.phases.keys().any(|p| *p > Phase::Stage),
                        |member| member.executor.stage(member.plan, member.desired),
                    );
                    // The third law: one refusal, and no host is touched, whatever the budget is for later failures.
                    if note {
                        return;
                    }
                    if self.options.waves.gate {
                        self.gate = wave::gate(members, self.options.parallel);
                    }
                }
                Phase::Narrow => {
                    // Until all that closes is closed.
                    let _still = self.drained(members, std::mem::take(&mut others));
                    if self.stopped() {
                        return;
                    }
                    self.phase(
                        phase,
                        members,
                        |m| m.plan.phases.contains_key(&phase) && m.kept_by.is_empty(),
                        Member::commit(phase),
                    );
                }
                Phase::Verify => {
                    if members.iter().any(|m| !m.plan.is_empty()) {
                        self.phase(
                            phase,
                            members,
                            |m| m.desired.probes.iter().any(|p| p.phase == Phase::Verify),
                            |member| {
                                let probes = member.probes(Phase::Verify);
                                member.executor.look(Phase::Verify, &probes)
                            },
                        );
                    }
                }
                _ => {
                    self.phase(phase, members, |m| m.plan.phases.contains_key(&phase), Member::commit(phase));
                }
            }
        }
        if self.options.settle && self.failed == 0 && !self.stopped() {
            self.former =
                drain::wait(with_drains(members), self.patience(), drain::SETTLE, |m| m.left(), Left::is_empty);
        }
    }

    /// Sees that what is declared gets in, now that all is in its place.
    fn prove(&mut self, members: &mut [Member<'_>], observed: &ObservedFleet, before: &proof::Open) {
        if self.stopped() {
            return;
        }
        let proof::Proof { mut refused, unproven } =
            proof::after(self.site, members, observed, before, self.options.parallel);
        self.notes.extend(unproven);
        for member in members {
            if let Some(failure) = refused.remove(member.host) {
                self.failed += 1;
                member.outcome = Some(HostOutcome::Failed(failure));
            }
        }
    }

    fn patience(&self) -> Patience<'_> {
        let (within, parallel) = (self.site.drain, self.options.parallel);
        Patience { within, parallel, stop: self.stop, events: self.events }
    }

    /// Before anything closes: every host that uses it must have been seen at the new end, and nobody of before a reload may still
    /// use it there, on any host, whether it changes or not. What is in use when the time is over stays open, on that host alone.
    fn drained(&self, members: &mut [Member<'_>], Others { moved, sessions, .. }: Others) -> Vec<Still> {
        let fleet = survey::addresses(self.site);
        let closing: Vec<Closing<'_>> = members
            .iter()
            .filter(|m| m.outcome.is_none())
            .filter_map(|m| {
                let actions = m.plan.phases.get(&Phase::Narrow)?;
                Some(Closing { host: m.host, actions, desired: m.desired })
            })
            .chain(narrow::unclosed(&moved))
            .collect();
        let mut behind = self.absent.clone();
        behind.extend(members.iter().filter(|m| m.outcome.is_some()).map(|m| (m.name(), Behind::Failed)));
        let (still, not_still) = self.hold_still((&moved, sessions), &closing, &fleet, &behind);
        behind.extend(not_still.keys().map(|host| (host.clone(), Behind::LeftOut)));
        let missed = narrow::kept(&closing, &fleet, &behind.keys().collect());
        // What stays open for others is not waited for.
        let closing: Vec<Closing<'_>> = closing.into_iter().filter(|one| !missed.contains_key(one.host)).collect();
        let mut kept: BTreeMap<HostName, (Vec<String>, BTreeSet<HostName>)> = BTreeMap::new();
        for (host, users) in missed {
            let words = users.iter().filter_map(|user| match not_still.get(*user) {
                Some(why) => Some(format!("{user}: {why}")),
                None => Some(format!("{user}: it {}", behind.get(*user)?.of(1))),
            });
            kept.insert(host.clone(), (words.collect(), users.iter().map(|user| (*user).clone()).collect()));
        }
        let ours = |host: &&HostName| !moved.contains_key(*host);
        let used = |left: &BTreeSet<&HostName>| narrow::kept(&closing, &fleet, left).keys().any(ours);
        let those: Vec<&HostName> = members.iter().filter(|m| m.has_drains()).map(|m| m.host).collect();
        // Who would be asked in vain is not asked.
        if used(&those.into_iter().collect()) {
            let enough = |left: &Left| !used(&left.keys().collect());
            let left =
                drain::wait(with_drains(members), self.patience(), "before anything closes", |m| m.left(), enough);
            for (host, users) in narrow::kept(&closing, &fleet, &left.keys().collect()) {
                let words = users.iter().filter_map(|user| left.get_key_value(*user));
                let words = words.flat_map(|(user, words)| words.iter().map(move |words| format!("{user}: {words}")));
                kept.insert(host.clone(), (words.collect(), BTreeSet::new()));
            }
        }
        for member in members {
            (member.kept_by, member.behind) = kept.remove(&member.executor.host).unwrap_or_default();
        }
        still
    }

    /// Of those that were seen at the new end, some are held for decisions, and were looked at anew for that: they must still be there.
    fn look_again(&mut self, others: &mut Others, now: &ObservedFleet) {
        let held = &self.held;
        let is_there = |host: &HostName, wanted: &DesiredHost| {
            wanted.drains.is_empty() && now.get(host).is_some_and(|seen| is_moved(wanted, seen))
        };
        let gone = others.moved.extract_if(.., |host, (wanted, _)| held.contains(host) && !is_there(host, wanted));
        self.absent.extend(gone.map(|(host, _)| (host, Behind::LeftOut)));
    }

    /// Holds those that have moved without this run as they are, where they used what closes. Gives those
    /// that are held, and why the rest cannot be.
    fn hold_still(
        &self,
        (moved, mut sessions): (&Unclosed, Sessions),
        closing: &[Closing<'_>],
        fleet: &Addresses,
        behind: &BTreeMap<HostName, Behind>,
    ) -> (Vec<Still>, BTreeMap<HostName, String>) {
        let all = behind.keys().chain(moved.keys()).collect();
        let users: BTreeSet<&HostName> =
            narrow::kept(closing, fleet, &all).values().flat_map(|users| users.iter().copied()).collect();
        let those: Vec<_> = moved
            .iter()
            .filter(|(host, _)| users.contains(host) && !self.held.contains(host))
            .map(|(host, (wanted, _))| (host, wanted, sessions.remove(host)))
            .collect();
        let by = (self.options.who.as_str(), self.options.run.as_str());
        let (site, services, connector) = (self.site, self.services, self.connector);
        let answers = run::each(those, self.options.parallel, |(host, wanted, session)| {
            (host.clone(), still::hold((site, services), (host, wanted), session, connector, by))
        });
        let (mut held, mut not_still) = (Vec::new(), BTreeMap::new());
        for (host, answer) in answers {
            match answer {
                Ok(still) => held.push(still),
                Err(why) => drop(not_still.insert(host, why)),
            }
        }
        (held, not_still)
    }

    /// What is open only while the run lasts closes with it, also where the run failed or was stopped before `Narrow`. Where even
    /// that fails, the host closes it by itself when this run has given its lock back, as it does for one that died.
    fn close_passages(&mut self, members: &mut [Member<'_>]) {
        let those: Vec<_> = members.iter_mut().filter_map(|m| m.open_passages().map(|rules| (m, rules))).collect();
        let notes = run::each(those, self.options.parallel, |(member, rules)| {
            let error = member.executor.firewall(Phase::Narrow, &rules).err()?;
            let (host, words) = (member.name(), error.words.join(", "));
            Some(format!(
                "{host}: what was open only while the run lasted is open still, and is closed by the host itself: {words}"
            ))
        });
        self.notes.extend(notes.into_iter().flatten());
    }

    /// What is open on the hosts that did not get through, as they say themselves now: what this run opened, and what it did not
    /// come to close.
    fn open(&self, members: &mut [Member<'_>], before: &ObservedFleet) -> BTreeMap<HostName, Vec<OpenFlow>> {
        let those: Vec<&mut Member<'_>> = members.iter_mut().filter(|m| m.is_stuck()).collect();
        let open = run::each(those, self.options.parallel, |member| {
            let name = member.name();
            let was = before.get(&name).map(|seen| &seen.firewall);
            let old = was.filter(|f| f.intact).and_then(|f| f.loaded.as_ref());
            let planned = member.plan.phases.values().flatten().find_map(|a| match a {
                // The first load of a plan opens, and closes nothing.
                Action::Firewall { to, .. } => Some(&**to),
                _ => None,
            });
            let seen = member.rules();
            let live = seen.as_ref().ok().or(planned);
            let wanted = member.desired.firewall.as_ref();
            let has = |rules: Option<&Ruleset>, rule: &Rule| rules.is_some_and(|rules| rules.rules.contains(rule));
            let flows = live.into_iter().flat_map(|live| &live.rules).map(|rule| OpenFlow {
                rule: rule.clone(),
                opened: !has(old, rule),
                declared: has(wanted, rule),
                seen: seen.is_ok(),
                unseen: seen.as_ref().err().cloned(),
            });
            (name, flows.filter(|flow| flow.opened || !flow.declared).collect::<Vec<_>>())
        });
        open.into_iter().filter(|(_, flows)| !flows.is_empty()).collect()
    }

    /// How hosts leave traffic while they change, where that was asked for.
    fn departure(&self) -> Option<Departure<'a>> {
        self.options.drain.map(|within| Departure {
            site: self.site,
            connector: self.connector,
            within,
            who: &self.options.who,
            stop: self.stop,
            events: self.events,
        })
    }

    /// The gate after a wave of `hosts`: what worked before the run has to work still. Where it does not, nothing more is begun, and
    /// the hosts of the wave have failed; gives how many.
    fn shuts(&mut self, phase: Phase, members: &mut [Member<'_>], hosts: &BTreeSet<HostName>) -> usize {
        let words = wave::shut(&self.gate, members, self.options.parallel);
        if words.is_empty() {
            return 0;
        }
        self.shut = true;
        let mut failed = 0;
        for member in members.iter_mut().filter(|m| m.outcome.is_none() && hosts.contains(m.host)) {
            member.outcome = Some(HostOutcome::Failed(Failure {
                phase,
                what: "what worked before this wave does not work any more".to_owned(),
                words: words.clone(),
                put_back: None,
                state: "this phase is done on it, and stays".to_owned(),
            }));
            failed += 1;
        }
        if failed == 0 {
            // The hosts of the wave have failed of themselves already, and each says why; nobody else would say this.
            self.notes.push(format!("what worked before this wave does not work any more: {}", words.join("; ")));
        }
        self.failed += failed;
        failed
    }

    /// One barrier. Gives whether any host failed in it.
    fn phase(
        &mut self,
        phase: Phase,
        members: &mut [Member<'_>],
        takes_part: impl Fn(&Member<'_>) -> bool,
        step: impl Fn(&mut Member<'_>) -> Result<Vec<String>, StepError> + Sync,
    ) -> bool {
        let takes_part = |(_, member): &(usize, &Member<'_>)| member.outcome.is_none() && takes_part(member);
        let mut those: Vec<usize> = members.iter().enumerate().filter(takes_part).map(|(at, _)| at).collect();
        if those.is_empty() {
            return false;
        }
        let by_word = |at: &usize| members.get(*at).is_some_and(|m| m.restarts_by_word(phase));
        let by_word: BTreeSet<usize> = those.iter().copied().filter(by_word).collect();
        // What a person has to confirm comes when all others have shown that it works.
        if phase.is_serial() {
            those.sort_by_key(|at| by_word.contains(at));
        }
        let began = Instant::now();
        let names = those.iter().filter_map(|at| members.get(*at)).map(Member::name).collect();
        self.tell(Event::PhaseBegin { phase, hosts: names });
        let parallel = if phase.is_serial() { 1 } else { self.options.parallel };
        let departure = self.departure();
        // Who is drained goes alone, whatever the waves: two at once would each take the other for the one that serves meanwhile.
        let alone =
            |at: &usize| members.get(*at).is_some_and(|m| departure.is_some_and(|out| out.of(m.host, phase).is_some()));
        let alone = those.iter().any(alone);
        let (all, mut gone) = (those.len(), 0);
        let (mut passed, mut failed) = (0, 0);
        let mut note = BTreeSet::new();
        while !those.is_empty() && (phase <= Phase::Stage || !self.stopped()) {
            if phase.is_serial() && failed > 0 {
                for at in those.extract_if(.., |at| by_word.contains(at)) {
                    if let Some(member) = members.get_mut(at) {
                        member.outcome = Some(member.not_reached());
                    }
                }
            }
            if those.is_empty() {
                break;
            }
            let size = match phase {
                // Staging touches nothing, so it needs no waves.
                _ if phase <= Phase::Stage => all,
                _ if phase.is_serial() || alone => 1,
                _ => self.options.waves.size(all, gone),
            };
            gone += 1;
            let turn: BTreeSet<usize> = those.drain(..size.min(those.len())).collect();
            let now = members.iter_mut().enumerate().filter(|(at, _)| turn.contains(at)).map(|(_, member)| member);
            let events = self.events;
            let results = run::each(now.collect(), parallel, |member: &mut Member<'_>| {
                let (host, began) = (member.name(), Instant::now());
                let _ = events.send(Event::HostBegin { phase, host: host.clone() });
                let leaves = departure.and_then(|out| Some((out, out.of(&host, phase)?)));
                let result = match leaves {
                    Some((out, who)) => out.around(who, member, &step),
                    None => step(member),
                };
                let result = result.map_err(|error| failure(phase, error, member));
                let failure = result.as_ref().err().map(|(failure, _)| failure.clone());
                let _ = events.send(Event::HostEnd { phase, host, failure, seconds: began.elapsed().as_secs_f64() });
                (member, result)
            });
            let hosts: BTreeSet<HostName> = results.iter().map(|(member, _)| member.name()).collect();
            let before = failed;
            for (member, result) in results {
                match result {
                    Ok(words) => {
                        if phase == Phase::Edge {
                            crash_at("edge");
                        }
                        passed += 1;
                        member.done.push(phase);
                        if phase == Phase::Stage {
                            note.extend(words);
                        } else {
                            let host = member.name();
                            self.notes.extend(words.into_iter().map(|text| format!("{host}: {text}")));
                        }
                    }
                    Err((failure, now)) => {
                        failed += 1;
                        self.failed += 1;
                        member.outcome = Some(match now {
                            Now::RolledBack => HostOutcome::RolledBack(failure),
                            _ => HostOutcome::Failed(failure),
                        });
                    }
                }
            }
            if phase > Phase::Stage {
                let shut = self.shuts(phase, members, &hosts);
                failed += shut;
                passed -= shut;
                if failed > before {
                    self.wave.extend(hosts);
                }
                if !those.is_empty() && !self.stopped() {
                    self.options.waves.pause(self.stop, self.events);
                }
            }
        }
        let note = note.into_iter().collect::<Vec<_>>().join(", ");
        self.tell(Event::PhaseEnd { phase, passed, failed, note, seconds: began.elapsed().as_secs_f64() });
        failed > 0
    }
}

/// All whose services have workers that outlive a reload.
fn with_drains<'m, 'p>(members: &'m mut [Member<'p>]) -> Vec<&'m mut Member<'p>> {
    members.iter_mut().filter(|m| m.has_drains()).collect()
}

//! Carries a plan out on the fleet: locks, looks again, stages on all hosts, then goes through the phases as barriers.
//!
//! Takes what [`survey::prepare`] gave; gives the outcome of every host. No host is touched
//! before every host's new configuration was accepted on it; a failure beyond the budget stops what comes after.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::base::crash::crash_at;
use crate::base::net::HostName;
use crate::base::secret::Materials;
use crate::fleet::event::{Event, Failure, HostOutcome, Outcome};
use crate::fleet::run::{self, Wave};
use crate::fleet::survey::{self, Connector, Prepared};
use crate::host::execute::{Executor, Now, StepError};
use crate::host::lock::{self, Locked};
use crate::host::transport::{Hold, TransportError};
use crate::inventory::site::Site;
use crate::plan::plan::{self, Action, HostPlan, Plan};
use crate::plan::state::Facts;
use crate::plan::state::{Desired, DesiredHost, Observed, ObservedFleet, Phase, Probe};

/// How a run goes about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Hosts at a time.
    pub parallel: usize,
    /// Hosts of one phase that go together.
    pub wave: Option<Wave>,
    /// How many hosts may fail, unreachable ones among them, before the run stops.
    pub max_failed: usize,
    /// The run's name.
    pub run: String,
    /// Who runs it, from where.
    pub who: String,
}

/// One host on its way through the phases.
struct Member<'a> {
    executor: Executor<'a>,
    desired: &'a DesiredHost,
    plan: &'a HostPlan,
    _lock: Option<Box<dyn Hold>>,
    done: Vec<Phase>,
    outcome: Option<HostOutcome>,
}

impl Member<'_> {
    fn name(&self) -> HostName {
        self.executor.host.clone()
    }
}

/// A run under way.
struct Run<'a> {
    options: &'a Options,
    events: &'a Sender<Event>,
    stop: &'a AtomicBool,
    notes: Vec<String>,
    failed: usize,
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
    let Prepared { desired, mut survey, plan } = prepared;
    let mut outcome = Outcome { run: options.run.clone(), ..Outcome::default() };
    for (name, error) in &survey.unreachable {
        outcome.hosts.insert(name.clone(), HostOutcome::Unreachable { reason: error.to_string() });
    }
    for (name, reason) in &survey.refused {
        outcome.hosts.insert(name.clone(), HostOutcome::NotReached { state: format!("left alone: {reason}") });
    }
    let mut run = Run { options, events, stop, notes: Vec::new(), failed: 0 };
    let mut members = run.enlist(site, &desired, &plan, &mut survey, materials, connector, &mut outcome);
    if run.failed == 0 {
        run.phases(&mut members, &survey.observed);
    }
    let interrupted = stop.load(Ordering::Relaxed);
    for member in members {
        let name = member.name();
        let rest: Vec<&str> =
            member.plan.phases.keys().filter(|p| !member.done.contains(*p)).map(|p| p.as_str()).collect();
        outcome.hosts.entry(name).or_insert_with(|| match member.outcome {
            Some(outcome) => outcome,
            None if member.plan.is_empty() => HostOutcome::Unchanged,
            None if rest.is_empty() => HostOutcome::Changed,
            None => HostOutcome::NotReached { state: standing(&member.done, &rest) },
        });
    }
    outcome.notes = run.notes;
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.interrupted = interrupted;
    outcome
}

fn standing(done: &[Phase], rest: &[&str]) -> String {
    let done: Vec<&str> =
        done.iter().filter(|p| !matches!(p, Phase::Stage | Phase::Verify)).map(|p| p.as_str()).collect();
    if done.is_empty() {
        format!("nothing was changed on it; still to do: {}", rest.join(", "))
    } else {
        format!("done: {}; still to do: {}", done.join(", "), rest.join(", "))
    }
}

impl Run<'_> {
    fn tell(&self, event: Event) {
        // A reporter that is gone must not stop a run.
        let _ = self.events.send(event);
    }

    fn over_budget(&self) -> bool {
        self.failed > self.options.max_failed
    }

    fn stopped(&self) -> bool {
        self.over_budget() || self.stop.load(Ordering::Relaxed)
    }

    /// Takes the locks of all hosts that change, in parallel, and looks again under them: what was planned must still be true.
    #[expect(clippy::too_many_arguments, reason = "the one place where all parts of a run meet")]
    fn enlist<'p>(
        &mut self,
        site: &'p Site,
        desired: &'p Desired,
        plan: &'p Plan,
        survey: &mut survey::Survey,
        materials: &'p Materials,
        connector: &'p dyn Connector,
        outcome: &mut Outcome,
    ) -> Vec<Member<'p>> {
        let mut work = Vec::new();
        for (name, host_plan) in &plan.hosts {
            let (Some(wanted), Some(host), Some(seen)) =
                (desired.get(name), site.hosts.get(name), survey.observed.get(name))
            else {
                continue;
            };
            work.push((host, wanted, host_plan, seen.clone(), survey.sessions.remove(name)));
        }
        let this = &*self;
        let members = run::each(work, this.options.parallel, |(host, wanted, host_plan, seen, session)| {
            let transport = session.map_or_else(|| connector.connect(host), Ok);
            let ready = transport.and_then(|mut transport| {
                let lock =
                    if host_plan.is_empty() { None } else { Some(this.lock(wanted, &seen, transport.as_mut())?) };
                Ok((transport, lock))
            });
            let (transport, lock) = match ready {
                Ok(ready) => ready,
                Err(error) => return Err((host.name.clone(), error)),
            };
            let (events, told) = (this.events.clone(), host.name.clone());
            Ok(Member {
                executor: Executor {
                    host: host.name.clone(),
                    run: this.options.run.clone(),
                    who: this.options.who.clone(),
                    materials,
                    transport,
                    reconnect: Box::new(move || connector.connect(host)),
                    tell: Box::new(move |text| {
                        // A reporter that is gone must not stop a run.
                        let _ = events.send(Event::Note { host: Some(told.clone()), text });
                    }),
                    manifest: seen.manifest.clone(),
                },
                desired: wanted,
                plan: host_plan,
                _lock: lock,
                done: Vec::new(),
                outcome: None,
            })
        });
        let mut enlisted = Vec::new();
        for member in members {
            match member {
                Ok(member) => enlisted.push(member),
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
        enlisted
    }

    fn lock(
        &self,
        wanted: &DesiredHost,
        seen: &Observed,
        transport: &mut dyn crate::host::transport::Transport,
    ) -> Result<Box<dyn Hold>, TransportError> {
        match lock::take(transport, &self.options.who, &self.options.run)? {
            Locked::Held(holder) => Err(TransportError::Setup(format!(
                "another run works here: {holder}; wait for it, or end it where it runs"
            ))),
            Locked::Ours(hold) => {
                let now = survey::observe(transport, wanted)?;
                if plan::fingerprint(&now) == plan::fingerprint(seen) {
                    Ok(hold)
                } else {
                    Err(TransportError::Setup(
                        "the host has changed since the plan was made; run the same command again for a new plan"
                            .into(),
                    ))
                }
            }
        }
    }

    fn phases(&mut self, members: &mut [Member<'_>], observed: &ObservedFleet) {
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
                            for action in member.plan.phases.get(&Phase::Packages).into_iter().flatten() {
                                if let Action::Install { packages } = action {
                                    member.executor.install(packages)?;
                                }
                            }
                            member.packages_as_planned(observed.get(&member.executor.host).map(|o| &o.facts))?;
                            Ok(Vec::new())
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
                    self.phase(
                        phase,
                        members,
                        |m| m.plan.phases.contains_key(&phase),
                        |member| {
                            let probes = member.probes(phase);
                            let actions = member.plan.phases.get(&phase).map_or(&[][..], Vec::as_slice);
                            member.executor.commit(phase, actions, &probes)
                        },
                    );
                }
            }
        }
    }

    /// One barrier. Gives whether any host failed in it.
    fn phase(
        &mut self,
        phase: Phase,
        members: &mut [Member<'_>],
        takes_part: impl Fn(&Member<'_>) -> bool,
        step: impl Fn(&mut Member<'_>) -> Result<Vec<String>, StepError> + Sync,
    ) -> bool {
        let mut those: Vec<&mut Member<'_>> =
            members.iter_mut().filter(|m| m.outcome.is_none() && takes_part(m)).collect();
        if those.is_empty() {
            return false;
        }
        let began = Instant::now();
        let names: Vec<HostName> = those.iter().map(|m| m.name()).collect();
        self.tell(Event::PhaseBegin { phase, hosts: names });
        let parallel = if phase.is_serial() { 1 } else { self.options.parallel };
        let wave = match self.options.wave {
            // Staging touches nothing, so it needs no waves.
            Some(wave) if phase > Phase::Stage => wave.size(those.len()),
            _ => those.len(),
        };
        let wave = if phase.is_serial() { 1 } else { wave };
        let (mut passed, mut failed) = (0, 0);
        let mut note = BTreeSet::new();
        while !those.is_empty() && (phase <= Phase::Stage || !self.stopped()) {
            let now: Vec<&mut Member<'_>> = those.drain(..wave.min(those.len())).collect();
            let events = self.events;
            let results = run::each(now, parallel, |member| {
                let (host, began) = (member.name(), Instant::now());
                let _ = events.send(Event::HostBegin { phase, host: host.clone() });
                let result = step(member).map_err(|error| failure(phase, error, member));
                let failure = result.as_ref().err().map(|(failure, _)| failure.clone());
                let _ = events.send(Event::HostEnd { phase, host, failure, seconds: began.elapsed().as_secs_f64() });
                (member, result)
            });
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
        }
        let note = note.into_iter().collect::<Vec<_>>().join(", ");
        self.tell(Event::PhaseEnd { phase, passed, failed, note, seconds: began.elapsed().as_secs_f64() });
        failed > 0
    }
}

impl Member<'_> {
    fn probes(&self, phase: Phase) -> Vec<Probe> {
        self.desired.probes.iter().filter(|p| p.phase == phase).cloned().collect()
    }

    /// The configuration was rendered for the versions that the distribution ships; what was installed must be those.
    fn packages_as_planned(&mut self, expected: Option<&Facts>) -> Result<(), StepError> {
        let refuse = |words: String| StepError {
            what: "installed versions".into(),
            words: vec![words],
            put_back: None,
            now: Now::AsBefore,
        };
        let now =
            survey::observe(self.executor.transport.as_mut(), self.desired).map_err(|e| refuse(e.to_string()))?.facts;
        let Some(expected) = expected else { return Ok(()) };
        let minor = |f: &Facts| [f.haproxy, f.nginx, f.openssl, f.nft].map(|v| (v.0, v.1));
        if minor(&now) == minor(expected) {
            return Ok(());
        }
        Err(refuse(format!(
            "the plan was made for haproxy {}, nginx {}, openssl {}, nft {}, but haproxy {}, nginx {}, openssl {}, nft {} were installed; \
             run the same command again, it plans with what is there now",
            expected.haproxy,
            expected.nginx,
            expected.openssl,
            expected.nft,
            now.haproxy,
            now.nginx,
            now.openssl,
            now.nft
        )))
    }
}

fn failure(phase: Phase, error: StepError, member: &Member<'_>) -> (Failure, Now) {
    let before = standing(&member.done, &["the rest"]);
    let state = match (phase, error.now) {
        (Phase::Packages | Phase::Stage, Now::AsBefore) => "its configuration is as before".to_owned(),
        (Phase::Verify, Now::AsBefore) => "it has the new configuration".to_owned(),
        (_, Now::AsBefore) => format!("as before this phase ({before})"),
        (_, Now::RolledBack) => "it is back at its old rules".to_owned(),
        (_, Now::Mixed) => "old and new files stand side by side on it".to_owned(),
        (_, Now::Unknown) => {
            "unknown: the connection broke; the host finishes the phase or puts it back on its own".to_owned()
        }
    };
    let failure = Failure { phase, what: error.what, words: error.words, put_back: error.put_back, state };
    (failure, error.now)
}

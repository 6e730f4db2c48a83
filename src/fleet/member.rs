//! One host on its way through the phases of a run: takes its part of the plan and the connection, gives what is done in each phase, what
//! the host says of itself meanwhile, and what has become of it.

use std::collections::BTreeSet;

use crate::base::net::HostName;
use crate::fleet::drain;
use crate::fleet::event::{Failure, HostOutcome};
use crate::fleet::survey;
use crate::host::drain::ask;
use crate::host::execute::{Executor, Now, StepError};
use crate::host::report;
use crate::host::transport::{Hold, Transport, TransportError};
use crate::plan::narrow;
use crate::plan::plan::{Action, HostPlan};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{DesiredHost, Facts, Follow, Phase, Probe};
use crate::service::Services;

/// One host on its way through the phases.
pub(super) struct Member<'a> {
    pub(super) executor: Executor<'a>,
    pub(super) services: Services,
    pub(super) host: &'a HostName,
    pub(super) desired: &'a DesiredHost,
    pub(super) plan: &'a HostPlan,
    /// Units that restart because a person said so, not because a service can do without them here.
    pub(super) by_word: BTreeSet<&'a String>,
    pub(super) _lock: Option<Box<dyn Hold>>,
    pub(super) done: Vec<Phase>,
    /// Who still uses what this host was to close, each a sentence: it is left open.
    pub(super) kept_by: Vec<String>,
    /// Those of them that nobody has seen at the new end of what moves.
    pub(super) behind: BTreeSet<HostName>,
    /// Whether nobody of before serves any more, as the last phase has told: there is no reload after it.
    pub(super) nobody_left: bool,
    pub(super) outcome: Option<HostOutcome>,
}

impl Member<'_> {
    pub(super) fn name(&self) -> HostName {
        self.executor.host.clone()
    }

    /// The work of a phase on one host.
    pub(super) fn commit(phase: Phase) -> impl Fn(&mut Member<'_>) -> Result<Vec<String>, StepError> + Sync {
        move |member| {
            let probes = member.probes(phase);
            let actions = member.plan.phases.get(&phase).map_or(&[][..], Vec::as_slice);
            // Who of before still serves is asked before anything closes; with the last change before that it costs nothing.
            let asks = phase > Phase::Stage
                && phase < Phase::Narrow
                && !member.plan.phases.range(phase..).skip(1).any(changes)
                // What has just been told to reload may not have begun to: its old workers are not old yet.
                && !actions.iter().any(|action| matches!(action, Action::Follow { .. }));
            let drains = if asks { member.desired.drains.as_slice() } else { &[] };
            let committed = member.executor.commit_and_ask(phase, actions, &probes, drains)?;
            member.nobody_left = committed.former.is_some_and(|former| former.is_empty());
            Ok(committed.advice)
        }
    }

    /// A question over the connection, or over a new one where that does not answer.
    pub(super) fn asked<T>(
        &mut self,
        question: impl Fn(&mut dyn Transport) -> Result<T, TransportError>,
    ) -> Result<T, TransportError> {
        question(self.executor.transport.as_mut()).or_else(|_| {
            self.executor.transport = (self.executor.reconnect)()?;
            question(self.executor.transport.as_mut())
        })
    }

    /// Who of before still serves here. A host that does not answer is asked over a new connection, and counts if that fails.
    pub(super) fn left(&mut self) -> (HostName, Vec<String>) {
        if self.nobody_left {
            return (self.name(), Vec::new());
        }
        let desired = self.desired;
        let words = self
            .asked(|transport| ask(transport, &desired.drains))
            .unwrap_or_else(|error| vec![drain::unasked(&error)]);
        (self.name(), words)
    }

    /// Whether its services have workers that outlive a reload.
    pub(super) fn has_drains(&self) -> bool {
        !self.desired.drains.is_empty()
    }

    /// Whether rules were changed, or were about to be, on a host that did not get through.
    pub(super) fn is_stuck(&self) -> bool {
        let rules = self.plan.phases.values().flatten().any(|a| matches!(a, Action::Firewall { .. }));
        let began = match &self.outcome {
            Some(HostOutcome::Failed(failure) | HostOutcome::RolledBack(failure)) => failure.phase >= Phase::Widen,
            Some(_) => false,
            None => self.kept_by.is_empty() && self.plan.phases.keys().any(|phase| !self.done.contains(phase)),
        };
        rules && began && (self.outcome.is_some() || self.done.iter().any(|phase| *phase >= Phase::Widen))
    }

    /// The rules that are live now, as the host says; else why nobody knows, for a person.
    pub(super) fn rules(&mut self) -> Result<Ruleset, String> {
        let (services, desired) = (self.services, self.desired);
        let seen = self.asked(|transport| survey::observe(services, transport, desired));
        let firewall = seen.map_err(|error| report::phrase(&format!("it cannot be asked: {error}")))?.firewall;
        let why = if firewall.pending {
            "its new rules were not confirmed, and it takes them back by itself"
        } else {
            "its live rules are not those that infra has loaded"
        };
        firewall.loaded.filter(|_| firewall.intact).ok_or_else(|| why.to_owned())
    }

    /// Whether a unit restarts here in a phase because a person has confirmed it.
    pub(super) fn restarts_by_word(&self, phase: Phase) -> bool {
        self.plan.phases.get(&phase).into_iter().flatten().any(|action| match action {
            Action::Follow { unit, follow, .. } => *follow == Follow::Restart && self.by_word.contains(unit),
            _ => false,
        })
    }

    /// The phases of the plan that are not done.
    fn rest(&self) -> Vec<&'static str> {
        self.plan.phases.keys().filter(|phase| !self.done.contains(phase)).map(|phase| phase.as_str()).collect()
    }

    pub(super) fn not_reached(&self) -> HostOutcome {
        HostOutcome::NotReached { state: standing(&self.done, &self.rest()) }
    }

    /// The rules that are to be live where passages were opened and not closed.
    pub(super) fn open_passages(&self) -> Option<Ruleset> {
        let open = self.done.contains(&Phase::Widen) && !self.done.contains(&Phase::Narrow);
        let opened = self.plan.phases.get(&Phase::Widen).into_iter().flatten().find_map(|action| match action {
            Action::Firewall { to, .. } => Some(to),
            _ => None,
        });
        opened.filter(|_| open && !self.desired.passages.is_empty()).map(|rules| rules.lasting())
    }

    /// What became of the host.
    pub(super) fn end(self) -> HostOutcome {
        let rest = self.rest();
        match self.outcome {
            Some(outcome) => outcome,
            None if self.plan.is_empty() => HostOutcome::Unchanged,
            None if rest.is_empty() => HostOutcome::Changed,
            None if rest == [Phase::Narrow.as_str()] && !self.kept_by.is_empty() => {
                let kept = self.plan.phases.get(&Phase::Narrow).into_iter().flatten().flat_map(narrow::told);
                HostOutcome::Deferred { kept: kept.collect(), by: self.kept_by, behind: self.behind }
            }
            None => HostOutcome::NotReached { state: standing(&self.done, &rest) },
        }
    }

    pub(super) fn probes(&self, phase: Phase) -> Vec<Probe> {
        self.desired.probes.iter().filter(|p| p.phase == phase).cloned().collect()
    }

    /// The configuration was rendered for the versions that were to come; what was installed must be those.
    pub(super) fn packages_as_planned(&mut self, expected: Option<&Facts>) -> Result<(), StepError> {
        let only_installs = |actions: &Vec<Action>| actions.iter().all(|a| matches!(a, Action::Install { .. }));
        let files = !self.plan.phases.get(&Phase::Packages).is_none_or(only_installs);
        let refuse = |words: String| StepError {
            what: "installed versions".into(),
            words: vec![words],
            put_back: None,
            now: Now::AsBefore,
            files,
        };
        let now = survey::observe(self.services, self.executor.transport.as_mut(), self.desired)
            .map_err(|e| refuse(e.to_string()))?
            .facts;
        let Some(expected) = expected else { return Ok(()) };
        let others =
            self.services.products().filter(|product| product.of(&now).minor() != product.of(expected).minor());
        let (planned, came): (Vec<String>, Vec<String>) = others
            .map(|product| [expected, &now].map(|facts| format!("{} {}", product.name, product.of(facts))).into())
            .unzip();
        if came.is_empty() {
            return Ok(());
        }
        Err(refuse(format!(
            "the plan was made for {}, but {} {} installed; run the same command again, it plans with what is there now",
            planned.join(", "),
            came.join(", "),
            if came.len() == 1 { "was" } else { "were" }
        )))
    }
}

/// Whether a phase of a plan changes more than rules before anything closes.
fn changes((phase, actions): (&Phase, &Vec<Action>)) -> bool {
    *phase < Phase::Narrow && actions.iter().any(|action| !matches!(action, Action::Firewall { .. }))
}

/// What was done on a host, and what is still to do.
fn standing(done: &[Phase], rest: &[&str]) -> String {
    let done: Vec<&str> =
        done.iter().filter(|p| !matches!(p, Phase::Stage | Phase::Verify)).map(|p| p.as_str()).collect();
    if done.is_empty() {
        format!("nothing was changed on it; still to do: {}", rest.join(", "))
    } else {
        format!("done: {}; still to do: {}", done.join(", "), rest.join(", "))
    }
}

/// What is told of a step that failed, and in which state the host is.
pub(super) fn failure(phase: Phase, error: StepError, member: &Member<'_>) -> (Failure, Now) {
    let before = standing(&member.done, &["the rest"]);
    let rules = || {
        let files = if error.files { "its files and units are as planned, " } else { "" };
        format!("{files}its rules are those of before this phase ({before})")
    };
    let state = match (phase, error.now) {
        (Phase::Packages, Now::AsBefore) if error.files => {
            "its packages and their repositories are as planned, nothing else was changed".to_owned()
        }
        (Phase::Packages | Phase::Stage, Now::AsBefore) => "its configuration is as before".to_owned(),
        (Phase::Verify, Now::AsBefore) => "it has the new configuration".to_owned(),
        (_, Now::AsBefore) if error.files => rules(),
        (_, Now::AsBefore) => format!("as before this phase ({before})"),
        (_, Now::RolledBack) => rules(),
        (_, Now::Stays) => {
            format!("its files and units are as before this phase, what cannot be undone stays ({before})")
        }
        (_, Now::Mixed) => "old and new files stand side by side on it".to_owned(),
        (_, Now::Halved) => {
            "old and new files stand side by side on it; the next run puts the old ones back first".to_owned()
        }
        (Phase::Verify, Now::Unknown) => {
            "it has the new configuration, but nobody has seen whether it works: the connection broke".to_owned()
        }
        (_, Now::Unknown) => {
            "unknown: the connection broke; the host finishes the phase or puts it back on its own".to_owned()
        }
    };
    let failure = Failure { phase, what: error.what, words: error.words, put_back: error.put_back, state };
    (failure, error.now)
}

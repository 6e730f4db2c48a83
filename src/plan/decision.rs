//! A decision over the whole fleet: takes what all hosts are and what the controller remembers, gives actions by host and phase,
//! and steps on the controller's side, and puts them onto the plan. Services decide, purely.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::net::{HostName, Port};
use crate::plan::plan::{Action, Plan};
use crate::plan::state::{Desired, Follow, Phase};
use crate::plan::step::{Step, Waiting};

/// What the controller remembers, read before anything is decided: the clock, and of each service what it kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    now: i64,
    parts: BTreeMap<String, Value>,
}

impl Memory {
    /// At `now`, seconds since 1970, with nothing remembered.
    pub fn at(now: i64) -> Self {
        Self { now, parts: BTreeMap::new() }
    }

    /// Seconds since 1970.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Adds what is remembered for a service.
    ///
    /// # Errors
    /// When it is not what JSON can hold.
    pub fn put(&mut self, service: &str, part: &impl Serialize) -> serde_json::Result<()> {
        self.parts.insert(service.to_owned(), serde_json::to_value(part)?);
        Ok(())
    }

    /// This with the parts of `newer` in place of its own.
    #[must_use]
    pub fn renewed(&self, newer: Self) -> Self {
        let mut parts = self.parts.clone();
        parts.extend(newer.parts);
        Self { now: self.now, parts }
    }

    /// Whether this is what is remembered for a service.
    pub fn holds(&self, service: &str, part: &Value) -> bool {
        self.parts.get(service) == Some(part)
    }

    /// What is remembered for a service, nothing where that was never kept.
    ///
    /// # Errors
    /// When it is of another form than the service reads.
    pub fn of<T: DeserializeOwned + Default>(&self, service: &str) -> serde_json::Result<T> {
        self.parts.get(service).map_or_else(|| Ok(T::default()), |part| serde_json::from_value(part.clone()))
    }
}

/// A way from one host to another that is open only while a run lasts: it opens on both of them in `Widen`, and closes when the run
/// is over, also where that fails or is stopped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Passage {
    /// Who opens the connection.
    pub from: HostName,
    /// Who answers.
    pub to: HostName,
    /// The TCP port there.
    pub port: Port,
    /// Why, a few words: `db2 is seeded`.
    pub why: String,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decided {
    /// Actions by host and phase; they follow what the host itself asks for in that phase.
    pub hosts: BTreeMap<HostName, BTreeMap<Phase, Vec<Action>>>,
    /// Steps of the controller, in their order.
    pub steps: Vec<Step>,
    /// What waits.
    pub waiting: Vec<Waiting>,
    /// Units that may restart on a host without a person's word ([`Follow::Confirm`]), as
    /// what they do there can be done without for so long.
    pub confirms: BTreeMap<HostName, BTreeSet<String>>,
    /// What the controller remembers from then on, by service. It is kept when the run begins to change something, and only where
    /// all that was decided is done; so it is what holds once that is done.
    pub remember: BTreeMap<&'static str, Value>,
    /// Ways between hosts that are open only while the run lasts.
    pub passages: Vec<Passage>,
    /// What a person should know of it: what is left as it is and why, and the way out; each a sentence.
    pub notes: Vec<String>,
}

impl Decided {
    /// Has `action` done on `host` in `phase`, after those that were decided before.
    pub fn act(&mut self, host: &HostName, phase: Phase, action: Action) {
        self.hosts.entry(host.clone()).or_default().entry(phase).or_default().push(action);
    }

    /// Has the controller remember `part` for a service from then on.
    ///
    /// # Errors
    /// When it is not what JSON can hold.
    pub fn remember(&mut self, service: &'static str, part: &impl Serialize) -> serde_json::Result<()> {
        self.remember.insert(service, serde_json::to_value(part)?);
        Ok(())
    }

    /// What is to be remembered and is not yet.
    pub fn news(&self, memory: &Memory) -> BTreeMap<&'static str, Value> {
        let new = self.remember.iter().filter(|(service, part)| !memory.holds(service, part));
        new.map(|(service, part)| (*service, part.clone())).collect()
    }

    /// Whether a run with this plan carries anything of it out, or remembers anything by it.
    pub fn binds(&self, plan: &Plan, memory: &Memory) -> bool {
        let confirms = |(host, units): (&HostName, &BTreeSet<String>)| {
            let actions = plan.hosts.get(host).into_iter().flat_map(|host| host.phases.values().flatten());
            let restarts = |action: &Action| match action {
                Action::Follow { unit, follow, .. } => *follow == Follow::Restart && units.contains(unit),
                _ => false,
            };
            actions.into_iter().any(restarts)
        };
        !(self.hosts.is_empty() && self.passages.is_empty() && self.news(memory).is_empty())
            || self.confirms.iter().any(confirms)
    }

    /// It without the words for a person: what is compared where the same is decided anew.
    #[must_use]
    pub fn deeds(&self) -> Self {
        let mut deeds = Self { waiting: Vec::new(), notes: Vec::new(), ..self.clone() };
        for action in deeds.hosts.values_mut().flat_map(BTreeMap::values_mut).flatten() {
            if let Action::Perform { task, .. } = action {
                task.title.clear();
            }
        }
        deeds.passages.iter_mut().for_each(|way| way.why.clear());
        deeds
    }

    /// Adds another decision after this one.
    pub fn join(&mut self, other: Self) {
        for (host, phases) in other.hosts {
            for (phase, actions) in phases {
                self.hosts.entry(host.clone()).or_default().entry(phase).or_default().extend(actions);
            }
        }
        self.steps.extend(other.steps);
        self.waiting.extend(other.waiting);
        for (host, units) in other.confirms {
            self.confirms.entry(host).or_default().extend(units);
        }
        self.remember.extend(other.remember);
        self.passages.extend(other.passages);
        self.notes.extend(other.notes);
    }

    /// Has the restarts that were decided to need nobody's word be confirmed.
    pub fn confirm(&self, desired: &mut Desired) {
        for (host, units) in &self.confirms {
            let Some(host) = desired.get_mut(host) else { continue };
            host.confirmed.extend(units.iter().filter(|unit| host.units.contains_key(*unit)).cloned());
        }
    }

    /// The plan with what was decided: on each host of it after what that asks for itself, then the steps of the controller. A host
    /// that has no place in the plan gets none by this.
    pub fn onto(mut self, mut plan: Plan) -> Plan {
        for (host, plan) in &mut plan.hosts {
            for (phase, actions) in self.hosts.remove(host).unwrap_or_default() {
                plan.phases.entry(phase).or_default().extend(actions);
            }
            plan.undo_first();
        }
        plan.steps.extend(self.steps);
        plan.waiting.extend(self.waiting);
        plan
    }

    /// Keeps what is done on `selected` alone; gives the other hosts on which something was to be done. What is done in part is not
    /// remembered: it is not what was decided.
    pub fn keep(&mut self, selected: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        let left_out: BTreeSet<HostName> =
            self.hosts.keys().filter(|host| !selected.contains(*host)).cloned().collect();
        self.hosts.retain(|host, _| selected.contains(host));
        self.passages.retain(|way| selected.contains(&way.from) && selected.contains(&way.to));
        if !left_out.is_empty() {
            self.remember.clear();
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::plan::HostPlan;
    use crate::plan::task::CutOff;

    #[test]
    fn what_was_begun_is_taken_back_before_what_is_decided() {
        let host: HostName = "a".parse().unwrap();
        let undo =
            Action::Undo { of: CutOff { run: "r".into(), phase: "web".into(), limit: std::time::Duration::ZERO } };
        let hold = |unit: &str| Action::Hold { unit: unit.to_owned() };
        // What the host asks for in `Widen`, and what of that stays there.
        for (own, stays) in [(vec![undo.clone()], None), (vec![undo.clone(), hold("a")], Some(vec![hold("a")]))] {
            let alone = HostPlan { phases: BTreeMap::from([(Phase::Widen, own)]), ..HostPlan::default() };
            let mut decided = Decided::default();
            decided.act(&host, Phase::Packages, hold("b"));
            let plan = Plan { hosts: BTreeMap::from([(host.clone(), alone)]), ..Plan::default() };
            let plan = decided.onto(plan).hosts.remove(&host).unwrap();
            assert_eq!(plan.phases[&Phase::Packages], [undo.clone(), hold("b")]);
            assert_eq!(plan.phases.get(&Phase::Widen), stays.as_ref());
        }
    }

    #[test]
    fn what_is_remembered_comes_back_in_its_type() {
        let mut memory = Memory::at(7);
        memory.put("a", &vec![1, 2]).unwrap();
        assert_eq!((memory.now(), memory.of::<Vec<i32>>("a").unwrap()), (7, vec![1, 2]));
        assert_eq!(memory.of::<Vec<i32>>("b").unwrap(), Vec::<i32>::new());
        assert!(memory.of::<String>("a").is_err());
    }
}

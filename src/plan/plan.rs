//! The decision: takes what a host should be and what it is, gives the actions that make it so, by phase. Total and pure.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::plan::action::{Action, Around, Because, Change, HostPlan, Plan, Reload};
use crate::plan::ruleset::{Rule, Ruleset};
use crate::plan::state::{
    Body, Desired, DesiredHost, Digest, File, Follow, Observed, ObservedFile, ObservedFleet, Other, Phase, Recorded,
};
use crate::plan::way;

/// The whole fleet's plan, as each host asks for it by itself. A host that was not observed has no place in it.
pub fn plan(desired: &Desired, observed: &ObservedFleet) -> Plan {
    let hosts = observed.iter().filter_map(|(name, seen)| {
        let wanted = desired.get(name)?;
        Some((name.clone(), host(wanted, seen)))
    });
    Plan { hosts: hosts.collect(), ..Plan::default() }
}

/// A host's plan that takes back what an earlier run has begun there and not ended, and does nothing else.
fn begun(observed: &Observed) -> HostPlan {
    let mut plan = HostPlan::default();
    if let Some(of) = &observed.cut_off {
        plan.add(Phase::Widen, Action::Undo { of: of.clone() });
    }
    plan
}

/// A host's plan that leaves it as it is but for what others decide about it: where that is anything, what was begun there is taken
/// back first; what is open only while the run lasts opens and closes.
pub fn alone(desired: &DesiredHost, observed: &Observed, acts: bool) -> HostPlan {
    let mut plan = if acts { begun(observed) } else { HostPlan::default() };
    let stale = observed.firewall.loaded.iter().flat_map(|loaded| &loaded.rules).any(Rule::is_passage);
    if let Some(wanted) = desired.firewall.as_ref().filter(|_| stale || !desired.passages.is_empty()) {
        firewall(wanted, &desired.passages, observed, &mut plan);
    }
    plan
}

/// One host's plan.
pub fn host(desired: &DesiredHost, observed: &Observed) -> HostPlan {
    let mut plan = begun(observed);
    let missing: Vec<String> =
        desired.packages.iter().filter(|name| !observed.packages.contains_key(*name)).cloned().collect();
    if !missing.is_empty() {
        plan.add(Phase::Packages, Action::Install { packages: missing });
    }
    folders(desired, observed, &mut plan);
    let mut units = Units::of(desired, observed);
    for (path, file) in &desired.files {
        write(path, file, observed, &mut plan, &mut units);
    }
    remove(desired, observed, &mut plan, &mut units);
    units.owe();
    reload_rather_than_swap(&mut plan, &units.follows);
    units.add_to(&mut plan);
    for (name, task) in &desired.tasks {
        if task.makes.iter().any(|(fact, value)| observed.made.get(fact) != Some(value)) {
            plan.add(task.phase, Action::Perform { name: name.clone(), task: task.clone() });
        }
    }
    if let Some(wanted) = &desired.firewall {
        firewall(wanted, &desired.passages, observed, &mut plan);
    }
    plan.undo_first();
    plan
}

/// What the units do in each phase, and why.
type Follows = BTreeMap<Phase, BTreeMap<String, (Follow, Because)>>;

/// What is asked of the units of a host while its files are gone through.
struct Units<'a> {
    desired: &'a DesiredHost,
    observed: &'a Observed,
    follows: Follows,
    /// The files of which a running unit is told.
    sets: BTreeMap<Phase, BTreeMap<(String, String), Because>>,
    /// Restarts that wait for a person's word.
    holds: BTreeSet<(Phase, String)>,
}

impl<'a> Units<'a> {
    fn of(desired: &'a DesiredHost, observed: &'a Observed) -> Self {
        Self { desired, observed, follows: Follows::new(), sets: BTreeMap::new(), holds: BTreeSet::new() }
    }

    fn runs(&self, unit: &str) -> bool {
        self.observed.units.get(unit).is_some_and(|state| state.active == "active")
    }

    fn follow(&mut self, phase: Phase, unit: &str, follow: Follow, because: Because) {
        let entry = self.follows.entry(phase).or_default().entry(unit.to_owned()).or_insert((follow, because));
        entry.0 = entry.0.max(follow);
    }

    /// A file that has changed asks something of a unit. One that does not run reads all its files when it starts.
    fn ask(&mut self, phase: Phase, unit: &str, follow: Follow, path: &str, because: Because) {
        match follow {
            Follow::Set | Follow::Confirm if !self.runs(unit) => self.follow(phase, unit, Follow::Reload, because),
            Follow::Set if self.desired.setters.contains_key(unit) => {
                let of_phase = self.sets.entry(phase).or_default();
                of_phase.entry((unit.to_owned(), path.to_owned())).or_insert(because);
            }
            Follow::Confirm if !self.desired.confirmed.contains(unit) => {
                self.holds.insert((phase, unit.to_owned()));
            }
            // Whom nobody can tell must restart.
            Follow::Set | Follow::Confirm => self.follow(phase, unit, Follow::Restart, because),
            Follow::Swap | Follow::Reload | Follow::Restart | Follow::Stop => {
                self.follow(phase, unit, follow, because);
            }
        }
    }

    /// What earlier runs owe, and what does not run.
    fn owe(&mut self) {
        for (unit, follow) in &self.observed.owed {
            match self.desired.units.get(unit) {
                Some(wanted) => {
                    let restart = matches!(follow, Follow::Restart | Follow::Stop);
                    let follow = if restart { Follow::Restart } else { Follow::Reload };
                    self.follow(wanted.phase, unit, follow, Because::Owed);
                }
                None => self.follow(Phase::Narrow, unit, Follow::Stop, Because::Owed),
            }
        }
        for (unit, wanted) in &self.desired.units {
            let state = self.observed.units.get(unit);
            if self.observed.held.contains(unit) && self.desired.confirmed.contains(unit) {
                self.follow(wanted.phase, unit, Follow::Restart, Because::Owed);
            }
            if self.observed.untold.contains(unit) {
                let told = |file: &File| file.then.get(unit) == Some(&Follow::Set);
                for (path, file) in self.desired.files.iter().filter(|(_, file)| told(file)) {
                    self.ask(file.phase, unit, Follow::Set, path, Because::Owed);
                }
            }
            if !self.runs(unit) || state.is_some_and(|s| s.enabled == "disabled" || s.enabled == "masked") {
                self.follow(wanted.phase, unit, Follow::Reload, Because::Down);
            }
        }
    }

    /// Whether the unit is started or restarted, and so takes all that stands in its files by then.
    fn restarts(&self, unit: &str, phase: Phase) -> bool {
        let follow = self.follows.get(&phase).and_then(|units| units.get(unit));
        follow.is_some_and(|(follow, _)| *follow >= Follow::Restart || !self.runs(unit))
    }

    /// The actions. What a later phase pays is owed until then all the same, as the run may not come to it.
    fn add_to(self, plan: &mut HostPlan) {
        for (phase, units) in &self.follows {
            for (unit, (follow, because)) in units {
                plan.add(*phase, Action::Follow { unit: unit.clone(), follow: *follow, because: *because });
            }
        }
        for (phase, sets) in &self.sets {
            for ((unit, path), because) in sets {
                let Some(script) = self.desired.setters.get(unit).filter(|_| !self.restarts(unit, *phase)) else {
                    continue;
                };
                let (unit, path, script) = (unit.clone(), path.clone(), script.clone());
                plan.add(*phase, Action::Set { unit, path, script, because: *because });
            }
        }
        for (phase, unit) in &self.holds {
            // What was kept in mind before is forgotten by a restart that comes first.
            let restarted = Phase::ALL.iter().any(|earlier| earlier < phase && self.restarts(unit, *earlier));
            let kept = self.observed.held.contains(unit) && !restarted;
            if !self.restarts(unit, *phase) && !kept {
                plan.add(*phase, Action::Hold { unit: unit.clone() });
            }
        }
        let wanted = |unit: &&String| self.desired.units.contains_key(*unit);
        let waiting = self
            .observed
            .held
            .iter()
            .filter(wanted)
            .filter(|unit| !Phase::ALL.iter().any(|phase| self.restarts(unit, *phase)));
        plan.waits = waiting.cloned().collect();
        plan.words.clone_from(&self.desired.words);
    }
}

/// A unit that reloads in a phase reads all its files anew: nothing of them is swapped beside it, and none says so.
fn reload_rather_than_swap(plan: &mut HostPlan, follows: &Follows) {
    for (phase, units) in follows {
        for action in plan.phases.get_mut(phase).into_iter().flatten() {
            let Action::Write { file, .. } = action else { continue };
            for (unit, follow) in &mut file.then {
                if *follow == Follow::Swap && units.get(unit).is_some_and(|(strongest, _)| *strongest > Follow::Swap) {
                    *follow = Follow::Reload;
                }
            }
        }
    }
}

fn folders(desired: &DesiredHost, observed: &Observed, plan: &mut HostPlan) {
    for (path, folder) in &desired.folders {
        let seen = observed.folders.get(path);
        if seen != Some(&folder.access) {
            plan.add(
                folder.phase,
                Action::MakeFolder { path: path.clone(), access: folder.access.clone(), exists: seen.is_some() },
            );
        }
    }
}

fn write(path: &str, file: &File, observed: &Observed, plan: &mut HostPlan, units: &mut Units<'_>) {
    let seen = observed.files.get(path);
    let known = observed.manifest.get(path);
    if holds(seen, file) {
        let recorded = Recorded::of(file);
        if known != Some(&recorded) {
            plan.add(file.phase, Action::Adopt { path: path.to_owned(), recorded });
        }
        // Who has put that there may not have told those who read it; a killed run has written down what it owes.
        if known.is_some_and(|known| known.digest != file.body.digest) {
            for (unit, follow) in &file.then {
                let follow = if *follow == Follow::Swap { Follow::Reload } else { *follow };
                units.ask(file.phase, unit, follow, path, Because::Changed);
            }
        }
        return;
    }
    let change = change(seen, known, &file.body);
    let stood = seen.and_then(|s| s.other.clone());
    if change == Change::Drift {
        plan.drift.push(drift(path, seen.is_some(), stood.as_ref()));
    }
    // What is gone has no old text.
    let change = if seen.is_none() && change == Change::Drift { Change::New } else { change };
    let old = seen.and_then(|s| s.text.clone());
    plan.add(file.phase, Action::Write { path: path.to_owned(), file: file.clone(), change, old, stood });
    for (unit, follow) in &file.then {
        units.ask(file.phase, unit, *follow, path, Because::Changed);
    }
}

fn drift(path: &str, is_there: bool, stands: Option<&Other>) -> String {
    match stands {
        _ if !is_there => format!("{path} was removed by someone else since the last run"),
        Some(other) => format!("{path} was replaced by someone else since the last run: it is {other}"),
        None => format!("{path} was changed by someone else since the last run"),
    }
}

fn holds(seen: Option<&ObservedFile>, file: &File) -> bool {
    seen.is_some_and(|s| s.digest.as_ref() == Some(&file.body.digest) && s.access == file.access)
}

fn change(seen: Option<&ObservedFile>, recorded: Option<&Recorded>, body: &Body) -> Change {
    match (seen, recorded) {
        (None, None) => Change::New,
        (Some(s), _) if s.digest.as_ref() == Some(&body.digest) => Change::Access,
        (Some(_), None) => Change::Foreign,
        (Some(s), Some(r)) if s.digest.as_ref() == Some(&r.digest) => Change::Content,
        (None | Some(_), Some(_)) => Change::Drift,
    }
}

/// Only what the manifest says that we put there is ever removed, and only in `Narrow`: until then the old configuration
/// stands beside the new one, so that a listener that moves is reached in both places. A unit that nothing wants is stopped.
fn remove(desired: &DesiredHost, observed: &Observed, plan: &mut HostPlan, units: &mut Units<'_>) {
    for (path, recorded) in &observed.manifest {
        if desired.files.contains_key(path) {
            continue;
        }
        let seen = observed.files.get(path);
        let changed = seen.is_some_and(|s| s.digest.as_ref() != Some(&recorded.digest));
        if changed {
            let stands = seen.and_then(|s| s.other.as_ref());
            plan.drift.push(drift(&format!("{path}, to be removed,"), true, stands));
        }
        plan.add(Phase::Narrow, Action::Remove { path: path.clone(), drift: changed });
        for (unit, follow) in &recorded.then {
            let follow = if desired.units.contains_key(unit) { *follow } else { Follow::Stop };
            units.ask(Phase::Narrow, unit, follow, path, Because::Changed);
        }
    }
}

/// New flows open in `Widen`, old ones close in `Narrow`; in between both are open, and the passages of this run. Those of a run that
/// has died close at once.
fn firewall(wanted: &Ruleset, passages: &BTreeSet<Rule>, observed: &Observed, plan: &mut HostPlan) {
    let seen = &observed.firewall;
    let live = seen.loaded.as_ref().filter(|_| seen.intact);
    let empty = Ruleset::default();
    let old = live.unwrap_or(&empty);
    // What was open when a run last ended is in use, whatever has become of the live rules since.
    let mut wide = wanted.widened(&seen.loaded.as_ref().unwrap_or(&empty).lasting());
    wide.rules.extend(passages.iter().cloned());
    let why = match (&seen.loaded, live) {
        (None, _) => Some(Reload::First),
        (Some(_), None) => Some(Reload::Drift),
        (Some(_), Some(live)) if *live != wide => Some(Reload::Flows),
        _ if !seen.boot_current => Some(Reload::Boot),
        _ => None,
    };
    if why == Some(Reload::Drift) {
        let words = if seen.pending {
            "the live firewall rules are those of a run that ended before it confirmed them; the host takes them back"
        } else {
            "the live firewall rules were changed by someone else since the last run"
        };
        plan.drift.push(words.to_owned());
    }
    let narrow = wide != *wanted;
    // The boot file alone is mended by the load in `Narrow` too, so one of them is enough.
    if let Some(why) = why.filter(|why| !(*why == Reload::Boot && narrow)) {
        plan.add(Phase::Widen, load(old, &wide, why));
    }
    if narrow {
        // Rules of the file actions in this phase come first: a listener closes before its port does.
        plan.add(Phase::Narrow, load(&wide, wanted, Reload::Flows));
    }
}

fn load(from: &Ruleset, to: &Ruleset, why: Reload) -> Action {
    Action::Firewall {
        to: Box::new(to.clone()),
        added: to.rules.difference(&from.rules).cloned().collect(),
        removed: from.rules.difference(&to.rules).cloned().collect(),
        around: Around::between(from, to),
        why,
    }
}

/// The digest of everything that a plan for a host that should be `desired` depends on, without what changes by itself.
pub fn fingerprint(observed: &Observed, desired: &DesiredHost) -> Digest {
    let mut steady =
        Observed { clock: 0, free: 0, controller: None, entrance: None, passing: BTreeMap::new(), ..observed.clone() };
    // What the other units mean, those of firewalls, is told in `firewall`; ours that loads at boot is active from then on.
    steady.units.retain(|unit, _| desired.units.contains_key(unit));
    // They come with the first lock that is taken.
    steady.folders.retain(|path, _| !way::is_own(path));
    Digest::of(&serde_json::to_vec(&steady).unwrap_or_default())
}

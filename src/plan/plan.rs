//! The decision: takes what a host should be and what it is, gives the actions that make it so, by phase. Total and pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::net::HostName;
use crate::plan::ruleset::{Rule, Ruleset};
use crate::plan::state::{
    Access, Body, Desired, DesiredHost, Digest, File, Follow, Observed, ObservedFile, ObservedFleet, Phase, Recorded,
};

/// Why a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Nothing stands there.
    New,
    /// What we put there is no longer what is wanted.
    Content,
    /// Owner, group or mode alone.
    Access,
    /// Someone else changed it since the last run.
    Drift,
    /// It stood there before we came.
    Foreign,
}

/// Why rules are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// No rules of ours are there.
    First,
    /// Other flows are wanted.
    Flows,
    /// Someone else changed the live rules, or they are gone.
    Drift,
    /// The live rules are right, the file that is read at boot is not.
    Boot,
}

/// Why a unit follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Because {
    /// A file that it reads has changed.
    Changed,
    /// An earlier run did not come to it.
    Owed,
    /// It does not run, or is not enabled.
    Down,
}

/// One thing that is done on one host. Nothing is executed that is not one of these, and each is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Packages are installed by the distribution's manager.
    Install {
        /// Names, sorted.
        packages: Vec<String>,
    },
    /// A folder is made, or its access is set.
    MakeFolder {
        /// Absolute.
        path: String,
        /// Owner, group, mode.
        access: Access,
        /// Whether it exists with another access.
        exists: bool,
    },
    /// A file is put in place.
    Write {
        /// Absolute.
        path: String,
        /// The file as wanted.
        file: File,
        /// Why.
        change: Change,
        /// The old text, where it may be shown.
        old: Option<String>,
    },
    /// A file that is right already is entered in the manifest.
    Adopt {
        /// Absolute.
        path: String,
        /// What the manifest will say.
        recorded: Recorded,
    },
    /// A file of ours that is no longer wanted is removed.
    Remove {
        /// Absolute.
        path: String,
        /// Whether someone else changed it since.
        drift: bool,
    },
    /// Rules are loaded, armed.
    Firewall {
        /// All that is accepted afterwards.
        to: Box<Ruleset>,
        /// Accepted from now on.
        added: Vec<Rule>,
        /// No longer accepted.
        removed: Vec<Rule>,
        /// Why.
        why: Reload,
    },
    /// A unit is enabled and takes its files, is reloaded, restarted or started; or it is stopped for good.
    Follow {
        /// Its name.
        unit: String,
        /// Swap, reload or restart, which all start a unit that does not run; or stop.
        follow: Follow,
        /// Why.
        because: Because,
    },
}

/// What is done on one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPlan {
    /// By phase, in the order in which they are carried out. No phase is empty.
    pub phases: BTreeMap<Phase, Vec<Action>>,
    /// What was changed by someone else since the last run.
    pub drift: Vec<String>,
}

impl HostPlan {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    fn add(&mut self, phase: Phase, action: Action) {
        self.phases.entry(phase).or_default().push(action);
    }
}

/// What is done on the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Every host that was observed, those with nothing to do among them.
    pub hosts: BTreeMap<HostName, HostPlan>,
}

impl Plan {
    /// Whether nothing is done anywhere.
    pub fn is_empty(&self) -> bool {
        self.hosts.values().all(HostPlan::is_empty)
    }

    /// The phases in which anything is done, in order.
    pub fn phases(&self) -> BTreeSet<Phase> {
        self.hosts.values().flat_map(|h| h.phases.keys().copied()).collect()
    }

    /// The hosts on which something is done.
    pub fn changed(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.iter().filter(|(_, h)| !h.is_empty()).map(|(name, _)| name)
    }
}

/// The whole fleet's plan. A host that was not observed has no place in it.
pub fn plan(desired: &Desired, observed: &ObservedFleet) -> Plan {
    let hosts = observed.iter().filter_map(|(name, seen)| {
        let wanted = desired.get(name)?;
        Some((name.clone(), host(wanted, seen)))
    });
    Plan { hosts: hosts.collect() }
}

/// One host's plan.
pub fn host(desired: &DesiredHost, observed: &Observed) -> HostPlan {
    let mut plan = HostPlan::default();
    let missing: Vec<String> =
        desired.packages.iter().filter(|name| !observed.packages.contains_key(*name)).cloned().collect();
    if !missing.is_empty() {
        plan.add(Phase::Packages, Action::Install { packages: missing });
    }
    folders(desired, observed, &mut plan);
    let mut follows = Follows::new();
    for (path, file) in &desired.files {
        write(path, file, observed, &mut plan, &mut follows);
    }
    remove(desired, observed, &mut plan, &mut follows);
    for (unit, follow) in &observed.owed {
        match desired.units.get(unit) {
            Some(wanted) => follow_in(&mut follows, wanted.phase, unit, (*follow).min(Follow::Restart), Because::Owed),
            None => follow_in(&mut follows, Phase::Narrow, unit, Follow::Stop, Because::Owed),
        }
    }
    for (unit, wanted) in &desired.units {
        let state = observed.units.get(unit);
        if !state.is_some_and(|s| s.active == "active" && s.enabled != "disabled" && s.enabled != "masked") {
            follow_in(&mut follows, wanted.phase, unit, Follow::Reload, Because::Down);
        }
    }
    reload_rather_than_swap(&mut plan, &follows);
    for (phase, units) in follows {
        for (unit, (follow, because)) in units {
            plan.add(phase, Action::Follow { unit, follow, because });
        }
    }
    if let Some(wanted) = &desired.firewall {
        firewall(wanted, observed, &mut plan);
    }
    plan
}

/// What the units do in each phase, and why.
type Follows = BTreeMap<Phase, BTreeMap<String, (Follow, Because)>>;

fn follow_in(follows: &mut Follows, phase: Phase, unit: &str, follow: Follow, because: Because) {
    let entry = follows.entry(phase).or_default().entry(unit.to_owned()).or_insert((follow, because));
    entry.0 = entry.0.max(follow);
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

fn write(path: &str, file: &File, observed: &Observed, plan: &mut HostPlan, follows: &mut Follows) {
    let seen = observed.files.get(path);
    let known = observed.manifest.get(path);
    if holds(seen, file) {
        let recorded = Recorded::of(file);
        if known != Some(&recorded) {
            plan.add(file.phase, Action::Adopt { path: path.to_owned(), recorded });
        }
        return;
    }
    let change = change(seen, known, &file.body);
    if change == Change::Drift {
        plan.drift.push(format!("{path} was changed by someone else since the last run"));
    }
    let old = seen.and_then(|s| s.text.clone());
    plan.add(file.phase, Action::Write { path: path.to_owned(), file: file.clone(), change, old });
    for (unit, follow) in &file.then {
        follow_in(follows, file.phase, unit, *follow, Because::Changed);
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
fn remove(desired: &DesiredHost, observed: &Observed, plan: &mut HostPlan, follows: &mut Follows) {
    for (path, recorded) in &observed.manifest {
        if desired.files.contains_key(path) {
            continue;
        }
        let drift = observed.files.get(path).is_some_and(|s| s.digest.as_ref() != Some(&recorded.digest));
        if drift {
            plan.drift.push(format!("{path}, to be removed, was changed by someone else since the last run"));
        }
        plan.add(Phase::Narrow, Action::Remove { path: path.clone(), drift });
        for (unit, follow) in &recorded.then {
            let follow = if desired.units.contains_key(unit) { *follow } else { Follow::Stop };
            follow_in(follows, Phase::Narrow, unit, follow, Because::Changed);
        }
    }
}

/// New flows open in `Widen`, old ones close in `Narrow`; in between both are open.
fn firewall(wanted: &Ruleset, observed: &Observed, plan: &mut HostPlan) {
    let seen = &observed.firewall;
    let live = seen.loaded.as_ref().filter(|_| seen.intact);
    let empty = Ruleset::default();
    let old = live.unwrap_or(&empty);
    // What was open when a run last ended is in use, whatever has become of the live rules since.
    let wide = wanted.widened(seen.loaded.as_ref().unwrap_or(&empty));
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
        why,
    }
}

/// The digest of everything that a plan for this host depends on, without the clock and the free space.
pub fn fingerprint(observed: &Observed) -> Digest {
    let steady = Observed { clock: 0, free: 0, controller: None, ..observed.clone() };
    Digest::of(&serde_json::to_vec(&steady).unwrap_or_default())
}

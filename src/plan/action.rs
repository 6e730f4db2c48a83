//! What a plan is made of: each thing that is done, why it is done, and in which phase of which host; made by `plan`, carried out by
//! the executor, shown by the reporter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::base::net::{Cidr, HostName};
use crate::inventory::site::Backend;
use crate::plan::behind::{Behind, Half};
use crate::plan::ruleset::{Rule, Ruleset};
use crate::plan::state::{Access, File, Follow, Other, Phase, Recorded};
use crate::plan::step::{Step, Waiting};
use crate::plan::task::{CutOff, Task};

/// Why a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
        /// What the file takes the place of, where that is not a regular file; what a link points to stays as it is.
        stood: Option<Other>,
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
    /// Rules are loaded; armed, but where they only accept more.
    Firewall {
        /// All that is accepted afterwards.
        to: Box<Ruleset>,
        /// Accepted from now on.
        added: Vec<Rule>,
        /// No longer accepted.
        removed: Vec<Rule>,
        /// What else changes.
        around: Around,
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
    /// A running unit is told what stands in a file; it is neither reloaded nor restarted for it.
    Set {
        /// Its name.
        unit: String,
        /// The file, absolute.
        path: String,
        /// The unit's setter.
        script: String,
        /// Why.
        because: Because,
    },
    /// It is kept in mind that a unit must restart, which waits for a person's word.
    Hold {
        /// Its name.
        unit: String,
    },
    /// A task is carried out.
    Perform {
        /// Its name.
        name: String,
        /// The task.
        task: Task,
    },
    /// What an earlier run began, and did not end because the host went down, is taken back.
    Undo {
        /// Which phase of which run.
        of: CutOff,
    },
}

/// What of a ruleset changes beside its rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Around {
    /// Sources that are dropped from now on, before any rule.
    pub blocked: Vec<Cidr>,
    /// Sources that are no longer dropped.
    pub unblocked: Vec<Cidr>,
    /// Whether what another owner forwards stays open, where that changes.
    pub guest_forwarding: Option<bool>,
    /// The tool that holds the rules, where that changes.
    pub backend: Option<Backend>,
}

impl Around {
    pub(super) fn between(from: &Ruleset, to: &Ruleset) -> Self {
        Self {
            blocked: to.block.difference(&from.block).copied().collect(),
            unblocked: from.block.difference(&to.block).copied().collect(),
            guest_forwarding: (from.guest_forwarding != to.guest_forwarding).then_some(to.guest_forwarding),
            backend: (from.backend != to.backend).then_some(to.backend),
        }
    }

    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Action {
    /// The rules that are live now, where this is a change of rules that accepts all that they do and more, and nothing else.
    pub fn adds_to(&self) -> Option<Ruleset> {
        let Self::Firewall { to, added, removed, around, why: Reload::Flows } = self else { return None };
        let rules = || to.rules.iter().filter(|rule| !added.contains(rule)).cloned().collect();
        (removed.is_empty() && around.is_empty() && !added.is_empty())
            .then(|| Ruleset { rules: rules(), ..(**to).clone() })
    }
}

/// What is done on one host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HostPlan {
    /// By phase, in the order in which they are carried out. No phase is empty.
    pub phases: BTreeMap<Phase, Vec<Action>>,
    /// What was changed by someone else since the last run.
    pub drift: Vec<String>,
    /// Units whose restart has waited for a person's word since an earlier run, and waits on.
    pub waits: BTreeSet<String>,
    /// By which option a person confirms the restart of a unit, where that is another than `--restart UNIT`.
    pub words: BTreeMap<String, String>,
    /// Hosts that may still use what closes here in `Narrow`, and why nobody has seen them move: for them it stays open.
    #[serde(serialize_with = "shared")]
    pub kept_for: Arc<BTreeMap<HostName, Behind>>,
}

fn shared<T: Serialize, S: Serializer>(one: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
    (**one).serialize(serializer)
}

impl HostPlan {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    /// What the units of a file that is written in `phase` do for it: not every unit can be told, and for some a person's word is
    /// there already.
    pub fn then(&self, phase: Phase, path: &str, file: &File) -> BTreeMap<String, Follow> {
        let actions = self.phases.get(&phase).map_or(&[][..], Vec::as_slice);
        let really = |unit: &str, asked: Follow| {
            let follow = actions.iter().find_map(|action| match action {
                Action::Follow { unit: its, follow, .. } if its == unit => Some(*follow),
                _ => None,
            });
            let told =
                || actions.iter().any(|a| matches!(a, Action::Set { unit: u, path: p, .. } if u == unit && p == path));
            let held = || actions.iter().any(|a| matches!(a, Action::Hold { unit: u } if u == unit));
            let waits = || follow < Some(Follow::Restart) && (held() || self.waits.contains(unit));
            match asked {
                Follow::Set if told() => asked,
                Follow::Confirm if waits() => asked,
                Follow::Set | Follow::Confirm => follow.unwrap_or(asked),
                Follow::Swap | Follow::Reload | Follow::Restart | Follow::Stop => asked,
            }
        };
        file.then.iter().map(|(unit, asked)| (unit.clone(), really(unit, *asked))).collect()
    }

    pub(super) fn add(&mut self, phase: Phase, action: Action) {
        self.phases.entry(phase).or_default().push(action);
    }

    /// What an earlier run began is taken back before all else: a phase that comes first would write its own record of what was
    /// begun over that of the earlier run.
    pub(super) fn undo_first(&mut self) {
        let Some(first) = self.phases.keys().next().copied() else { return };
        let Some(widen) = self.phases.get_mut(&Phase::Widen).filter(|_| first < Phase::Widen) else { return };
        let undo: Vec<Action> = widen.extract_if(.., |action| matches!(action, Action::Undo { .. })).collect();
        if widen.is_empty() {
            self.phases.remove(&Phase::Widen);
        }
        self.phases.entry(first).or_default().splice(0..0, undo);
    }
}

/// What is done on the fleet, and then on the controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Every host that was observed, those with nothing to do among them.
    pub hosts: BTreeMap<HostName, HostPlan>,
    /// What the controller does after the last phase, in this order.
    pub steps: Vec<Step>,
    /// What it would do too, but for its time.
    pub waiting: Vec<Waiting>,
    /// What opens on one end alone, by what keeps the other end from its part.
    pub halves: BTreeMap<Behind, Half>,
}

impl Plan {
    /// Whether nothing is done anywhere, neither on a host nor by the controller.
    pub fn is_empty(&self) -> bool {
        self.leaves_hosts() && self.steps.is_empty()
    }

    /// Whether nothing is done on any host.
    pub fn leaves_hosts(&self) -> bool {
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

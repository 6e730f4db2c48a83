//! What a run tells while it goes and when it is over: typed events for the reporters, and the outcome of each host.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::net::HostName;
use crate::plan::ruleset::Rule;
use crate::plan::state::Phase;
use crate::plan::step::StepKind;

/// Why a host did not get through a step. All texts are redacted and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The phase.
    pub phase: Phase,
    /// File, unit, check or probe that failed: `nginx -t`, `haproxy.service`.
    pub what: String,
    /// The service's own words, lines.
    pub words: Vec<String>,
    /// What was put back, and whether that worked: `/etc/nginx/nginx.conf and 1 more file put back, nginx.service reloaded`.
    pub put_back: Option<String>,
    /// The state that the host is in now, one sentence.
    pub state: String,
}

/// What became of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum HostOutcome {
    /// There was nothing to do.
    Unchanged,
    /// All that was planned was done and seen to work.
    Changed,
    /// A step failed; what it had touched was put back.
    Failed(Failure),
    /// An armed change was not confirmed: the host returned to its rules of before by itself.
    RolledBack(Failure),
    /// All that was planned was done, but for what would have closed: someone of before still uses it. The next run closes it.
    Deferred {
        /// What stays: flows, and paths of files.
        kept: Vec<String>,
        /// Who still uses it, each a sentence.
        by: Vec<String>,
        /// Those of them that nobody has seen at the new end; the others have workers of before.
        #[serde(default)]
        behind: BTreeSet<HostName>,
    },
    /// No connection.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// Its turn did not come, because of others.
    NotReached {
        /// What was done already, and what waits.
        state: String,
    },
}

impl HostOutcome {
    /// The hosts for which something stays open here, as nobody has seen them at the new end.
    pub fn behind(&self) -> impl Iterator<Item = &HostName> {
        let behind = if let Self::Deferred { behind, .. } = self { Some(behind) } else { None };
        behind.into_iter().flatten()
    }
}

/// A flow that is open where a run did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenFlow {
    /// What is accepted.
    pub rule: Rule,
    /// Whether this run opened it.
    pub opened: bool,
    /// Whether the inventory declares it.
    pub declared: bool,
    /// Whether it was seen on the host after the run; else it may be open.
    pub seen: bool,
    /// Why it was not seen: `it cannot be asked: …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<String>,
}

/// What became of a step of the controller. All texts are redacted and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "fate")]
pub enum StepFate {
    /// It was done.
    Done {
        /// A line about what came of it.
        about: String,
        /// What a person should know all the same.
        notes: Vec<String>,
    },
    /// When its turn came, there was nothing left to do.
    Unneeded,
    /// It waits for its time.
    Deferred {
        /// Seconds since 1970.
        until: i64,
        /// Why.
        why: String,
    },
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// It is not tried again before this, seconds since 1970.
        until: i64,
        /// Whether that is nobody's fault, and there is time.
        excused: bool,
    },
    /// It was not begun, as something stands in the way.
    Refused {
        /// What, each a sentence.
        why: Vec<String>,
        /// Whether that is only a host that is away.
        away: bool,
    },
    /// It was left for another run.
    LeftOut {
        /// Why.
        why: String,
    },
}

/// A step of the controller and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepOutcome {
    /// What kind of step.
    pub kind: StepKind,
    /// What it is about.
    pub subject: String,
    /// What became of it.
    #[serde(flatten)]
    pub fate: StepFate,
}

impl StepOutcome {
    /// An order.
    pub fn order(subject: impl Into<String>, fate: StepFate) -> Self {
        Self { kind: StepKind::Order, subject: subject.into(), fate }
    }
}

/// What became of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// `20261123T184501-k7q2xm`, UTC.
    pub run: String,
    /// Every selected host.
    pub hosts: BTreeMap<HostName, HostOutcome>,
    /// The steps of the controller, in the order in which they came.
    #[serde(default)]
    pub steps: Vec<StepOutcome>,
    /// Whether a certificate was made or ordered.
    #[serde(default)]
    pub renewed: bool,
    /// Parts of the run that were not begun, each a sentence.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Decisions over several hosts that were left out, as one of the hosts was not seen, each a sentence.
    #[serde(default)]
    pub undecided: Vec<String>,
    /// Advice that the run came by: advisory probes that failed, each a sentence.
    pub notes: Vec<String>,
    /// On each host that did not get through: what this run opened there, and what it did not come to close.
    #[serde(default)]
    pub open: BTreeMap<HostName, Vec<OpenFlow>>,
    /// Hosts on which workers of before still serve, in the services' words; asked only while an authority is replaced.
    #[serde(default)]
    pub former: BTreeMap<HostName, Vec<String>>,
    /// The hosts that changed at the same time as one that failed, it among them.
    #[serde(default)]
    pub wave: BTreeSet<HostName>,
    /// Wall clock, seconds.
    pub seconds: f64,
    /// The user stopped it.
    pub interrupted: bool,
}

impl Outcome {
    /// How many hosts answer to `test`.
    pub fn count(&self, test: impl Fn(&HostOutcome) -> bool) -> usize {
        self.hosts.values().filter(|o| test(o)).count()
    }

    /// Whether the fate of any step answers to `test`.
    pub fn any_step(&self, test: impl Fn(&StepFate) -> bool) -> bool {
        self.steps.iter().any(|step| test(&step.fate))
    }

    /// This and what came after it in the same run, as one. A host that was changed before and is left as it is now was changed.
    #[must_use]
    pub fn then(mut self, later: Self) -> Self {
        for (host, outcome) in later.hosts {
            if outcome != HostOutcome::Unchanged || !self.hosts.contains_key(&host) {
                self.hosts.insert(host, outcome);
            }
        }
        self.steps.extend(later.steps);
        self.renewed |= later.renewed;
        self.refused.extend(later.refused);
        self.undecided.extend(later.undecided);
        self.notes.extend(later.notes);
        self.open.extend(later.open);
        self.former.extend(later.former);
        self.seconds += later.seconds;
        self.interrupted |= later.interrupted;
        self
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// Hosts are being asked.
    Observing {
        /// How many.
        hosts: usize,
    },
    /// One host has answered, or not.
    Observed {
        /// Which.
        host: HostName,
        /// Why not.
        error: Option<String>,
    },
    /// A phase begins.
    PhaseBegin {
        /// Which.
        phase: Phase,
        /// The hosts that go through it.
        hosts: Vec<HostName>,
    },
    /// A host begins its part of a phase.
    HostBegin {
        /// Which phase.
        phase: Phase,
        /// Which host.
        host: HostName,
    },
    /// A host has done its part of a phase.
    HostEnd {
        /// Which phase.
        phase: Phase,
        /// Which host.
        host: HostName,
        /// Why not.
        failure: Option<Failure>,
        /// Wall clock.
        seconds: f64,
    },
    /// A phase is over.
    PhaseEnd {
        /// Which.
        phase: Phase,
        /// How many hosts passed.
        passed: usize,
        /// How many did not.
        failed: usize,
        /// What passed, in words: `haproxy -c, nginx -t, nft -c`.
        note: String,
        /// Wall clock.
        seconds: f64,
    },
    /// How far a long step of a host is.
    Progress {
        /// Which host.
        host: HostName,
        /// The step, and how far it is: `copy the data: 42 %, 1.3 of 3.1 GB`.
        text: String,
    },
    /// Something a person should know while it goes: who holds a lock, what is waited for.
    Note {
        /// About which host.
        host: Option<HostName>,
        /// One sentence.
        text: String,
    },
}

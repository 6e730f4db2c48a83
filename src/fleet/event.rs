//! What a run tells while it goes and when it is over: typed events for the reporters, and the outcome of each host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::net::HostName;
use crate::plan::state::Phase;

/// Why a host did not get through a step. All texts are redacted and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum HostOutcome {
    /// There was nothing to do.
    Unchanged,
    /// All that was planned was done and seen to work.
    Changed,
    /// A step failed; what it had touched was put back.
    Failed(Failure),
    /// An armed change was not confirmed: the host returned to its old rules by itself.
    RolledBack(Failure),
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

/// What became of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// `20261123T184501`, UTC.
    pub run: String,
    /// Every selected host.
    pub hosts: BTreeMap<HostName, HostOutcome>,
    /// Advice that the run came by: advisory probes that failed, each a sentence.
    pub notes: Vec<String>,
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
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Something a person should know while it goes: who holds a lock, what is waited for.
    Note {
        /// About which host.
        host: Option<HostName>,
        /// One sentence.
        text: String,
    },
}

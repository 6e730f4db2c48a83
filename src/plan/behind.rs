//! Hosts that are not where a change wants them, and what can be made of it only by half: the words for both, which plans, reports
//! and `--json` share.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::HostName;

/// Why nobody has seen a host at the new end of what moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Behind {
    /// It is not selected.
    LeftOut,
    /// It does not answer, or cannot be worked on.
    Away,
    /// It did not get through what comes before `Narrow`.
    Failed,
}

impl Behind {
    /// What is said of so many hosts: `is not a part of this run`, `do not answer`.
    pub fn of(self, hosts: usize) -> &'static str {
        match (self, hosts == 1) {
            (Self::LeftOut, true) => "is not a part of this run",
            (Self::LeftOut, false) => "are not a part of this run",
            (Self::Away, true) => "does not answer",
            (Self::Away, false) => "do not answer",
            (Self::Failed, _) => "did not get through this run",
        }
    }
}

/// What opens on one end alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Half {
    /// Flows, as `lb -> web 8444/tcp`.
    pub flows: BTreeSet<String>,
    /// The hosts of the other end.
    pub others: BTreeSet<HostName>,
}

//! The barriers that the fleet goes through: takes nothing, gives the phases in their order, with the words that a person sees.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fleet's barriers, in order; also the words that a person sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Packages are installed, and files are put in place of which the package manager must know; nothing else is touched.
    Packages,
    /// Everything new is uploaded and accepted by the daemons; nothing is changed.
    Stage,
    /// New flows are opened.
    Widen,
    /// The database's writer.
    Primary,
    /// The database's replicas.
    Replica,
    /// TLS fronts of the app hosts.
    App,
    /// The servers of the web hosts.
    Web,
    /// One load balancer at a time.
    Edge,
    /// Monitoring agents.
    Monitor,
    /// Old flows are closed.
    Narrow,
    /// The whole is seen to work.
    Verify,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Packages,
        Self::Stage,
        Self::Widen,
        Self::Primary,
        Self::Replica,
        Self::App,
        Self::Web,
        Self::Edge,
        Self::Monitor,
        Self::Narrow,
        Self::Verify,
    ];

    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::Stage => "stage",
            Self::Widen => "widen",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::App => "app",
            Self::Web => "web",
            Self::Edge => "edge",
            Self::Monitor => "monitor",
            Self::Narrow => "narrow",
            Self::Verify => "verify",
        }
    }

    /// What happens in it, where no service says it better.
    pub fn about(self) -> &'static str {
        match self {
            Self::Packages => "packages installed, nothing configured yet",
            Self::Stage => "uploaded and checked by the daemons",
            Self::Widen => "firewall: new flows opened first",
            Self::Primary => "the database's writer",
            Self::Replica => "the database's replicas",
            Self::App => "TLS front of the app",
            Self::Web => "the web hosts",
            Self::Edge => "the load balancers, one at a time",
            Self::Monitor => "monitoring agent",
            Self::Narrow => "firewall: old flows closed last",
            Self::Verify => "seen to work, end to end",
        }
    }

    /// Whether hosts go through it one at a time.
    pub fn is_serial(self) -> bool {
        matches!(self, Self::Primary | Self::Edge)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

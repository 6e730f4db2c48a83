//! What is told of a fleet as it is, for a person and for programs: findings, words about a host, traffic, certificates and figures.
//! Services give it, `infra status` shows it; nothing is decided by it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::{DnsName, HostName};
use crate::inventory::site::Role;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Where; `None`: the fleet, or several hosts together.
    pub host: Option<HostName>,
    /// A sentence, or the half of one that comes after the host's name.
    pub what: String,
    /// The way out.
    pub help: String,
    /// Whether all serve in spite of it, as they should.
    pub minor: bool,
}

/// Requests by the class of their status, 1xx to 5xx.
pub type Classes = [u64; 5];

/// What a site was asked for at one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The host that took the requests.
    pub host: HostName,
    /// The site.
    pub site: DnsName,
    /// All requests since the counter began.
    pub requests: u64,
    /// Those of them that were answered.
    pub answers: Classes,
    /// The last of them.
    pub lately: Option<Lately>,
}

/// What was counted between two reads of the same counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lately {
    /// Between them, milliseconds; never 0.
    pub milliseconds: u64,
    /// All requests.
    pub requests: u64,
    /// Those that were answered.
    pub answers: Classes,
}

/// A certificate as a running daemon has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The host.
    pub host: HostName,
    /// The site that it is for; `None`: what the host shows other hosts.
    pub site: Option<DnsName>,
    /// Seconds since 1970; `None` where the daemon has none.
    pub not_after: Option<i64>,
}

/// What a host measures or logs, as the monitoring service has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Delivery {
    /// Of what kind: `measures`, `logs`.
    pub what: &'static str,
    /// When some of it was last accepted, seconds since 1970; null where that was not seen.
    pub at: Option<i64>,
    /// So many measures or lines wait to be accepted.
    pub waiting: u64,
    /// So many were thrown away since the agent began, as there was no more room to wait in.
    pub dropped: u64,
}

/// What passes from one tier to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    /// Who opens the connections; `None`: the internet.
    pub from: Option<Role>,
    /// Who answers.
    pub to: Role,
    /// How much: `12.5 requests/s`.
    pub words: String,
}

/// A figure for a program that keeps figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Without `infra_`, with its unit at its end: `replication_lag_seconds`. A counter ends in `_total`.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// Of which host, site and so on it is.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: f64,
}

/// All that is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a host is and does, a few words each: `replica`, `0.6 s behind`.
    pub words: BTreeMap<HostName, Vec<String>>,
    /// What sites are asked for.
    pub traffic: Vec<Traffic>,
    /// What running daemons show.
    pub certificates: Vec<Shown>,
    /// What was accepted of a host's measures and logs.
    pub deliveries: BTreeMap<HostName, Vec<Delivery>>,
    /// What passes between tiers.
    pub passes: Vec<Passes>,
    /// Figures.
    pub figures: Vec<Figure>,
}

impl Said {
    /// Something is wrong: `what` says it, `help` the way out.
    pub fn find(&mut self, host: Option<&HostName>, minor: bool, what: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding { host: host.cloned(), what: what.into(), help: help.into(), minor });
    }

    /// A few words about a host.
    pub fn word(&mut self, host: &HostName, words: impl Into<String>) {
        self.words.entry(host.clone()).or_default().push(words.into());
    }

    /// What was accepted of a host.
    pub fn delivery(&mut self, host: &HostName, delivery: Delivery) {
        self.deliveries.entry(host.clone()).or_default().push(delivery);
    }

    /// A figure of a host.
    pub fn figure(&mut self, host: &HostName, name: &'static str, help: &'static str, value: f64) {
        self.figures.push(Figure { name, help, labels: vec![("host", host.to_string())], value });
    }

    /// Takes what another one says too.
    pub fn join(&mut self, other: Self) {
        self.findings.extend(other.findings);
        for (host, words) in other.words {
            self.words.entry(host).or_default().extend(words);
        }
        for (host, deliveries) in other.deliveries {
            self.deliveries.entry(host).or_default().extend(deliveries);
        }
        self.traffic.extend(other.traffic);
        self.certificates.extend(other.certificates);
        self.passes.extend(other.passes);
        self.figures.extend(other.figures);
    }
}

//! Whether what the agents send is accepted: adds probes that ask each agent's own counters. Where nothing is accepted the run says why,
//! and is no failure for that: an outage of the monitoring service is none of the fleet.

use std::time::Duration;

use crate::plan::state::{Phase, Probe};
use crate::service::claims::Claims;

/// Adds the probes.
pub(super) fn probes(out: &mut Claims) {
    let mut add = |what: &str, command: &str| {
        out.probe(Probe {
            phase: Phase::Verify,
            title: format!("{what} of this host are accepted by the monitoring service"),
            command: command.to_owned(),
            within: Duration::from_secs(30),
            advisory: true,
        });
    };
    add("measures", include_str!("metrics-accepted.sh"));
    add("logs", include_str!("logs-accepted.sh"));
}

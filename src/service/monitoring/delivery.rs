//! Whether what the agents send is accepted: adds probes that ask each agent's own counters. Where nothing is accepted the run says why,
//! and is no failure for that: an outage of the monitoring service is none of the fleet.

use std::time::Duration;

use crate::plan::state::{Phase, Probe};
use crate::service::claims::Claims;

/// Adds those of Telegraf and syslog-ng.
pub(super) fn probes(out: &mut Claims) {
    add("measures", include_str!("metrics-accepted.sh").to_owned(), 30, out);
    add("logs", include_str!("logs-accepted.sh").to_owned(), 30, out);
}

/// Adds those of the collector, which measures every 30 seconds.
pub(super) fn of_collector(out: &mut Claims) {
    for (what, counted) in [("measures", "metric_points"), ("logs", "log_records")] {
        add(what, format!("what={counted}\n{}", include_str!("collector-accepted.sh")), 60, out);
    }
}

fn add(what: &str, command: String, seconds: u64, out: &mut Claims) {
    out.probe(Probe {
        phase: Phase::Verify,
        title: format!("{what} of this host are accepted by the monitoring service"),
        command: command.into(),
        within: Duration::from_secs(seconds),
        advisory: true,
    });
}

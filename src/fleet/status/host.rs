//! One host as it is: takes what was observed and what should be, gives its units, its drift and its debts, and what is wrong with them.

use schemars::JsonSchema;
use serde::Serialize;

use super::Wanted;
use crate::base::net::HostName;
use crate::inventory::site::{Host, Role};
use crate::plan::said::{Delivery, Finding};
use crate::plan::state::{DesiredHost, Follow, Observed, ObservedFile, Recorded};
use crate::plan::way;
use crate::service::drained;

/// Free bytes below which a host is in trouble: a package or a log may not fit any more.
const FREE: u64 = 512 << 20;
/// Seconds by which a clock may be off: certificates, logs and replication lean on it.
const CLOCK: i64 = 30;

/// A unit as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnitView {
    /// Its name.
    pub unit: String,
    /// systemd's word: `active`, `failed`, `inactive`; `missing` where there is none.
    pub state: String,
    /// Whether it runs.
    pub good: bool,
}

/// A host as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostView {
    /// Its name.
    pub host: HostName,
    /// Its roles.
    #[schemars(with = "Vec<String>")]
    pub roles: Vec<Role>,
    /// Why it cannot be worked on; null where it answers.
    pub away: Option<String>,
    /// The units that should run.
    pub units: Vec<UnitView>,
    /// What was changed by someone else since the last run.
    pub drift: Vec<String>,
    /// What earlier runs still owe it.
    pub owed: Vec<String>,
    /// When the first of its certificates ends, seconds since 1970.
    pub certificates_until: Option<i64>,
    /// Free bytes where packages, logs and state stand.
    pub free: Option<u64>,
    /// What services say of it.
    pub words: Vec<String>,
    /// What the monitoring service has accepted of it.
    pub deliveries: Vec<Delivery>,
    /// How much is wrong with it.
    pub troubles: usize,
    /// How much is worth knowing beside that.
    pub notes: usize,
}

impl HostView {
    /// One that cannot be worked on.
    pub(super) fn away(host: &Host, why: &str) -> Self {
        Self { away: Some(why.to_owned()), ..Self::bare(host) }
    }

    fn bare(host: &Host) -> Self {
        Self {
            host: host.name.clone(),
            roles: host.roles.iter().copied().collect(),
            away: None,
            units: Vec::new(),
            drift: Vec::new(),
            owed: Vec::new(),
            certificates_until: None,
            free: None,
            words: Vec::new(),
            deliveries: Vec::new(),
            troubles: 0,
            notes: 0,
        }
    }

    /// One that answered, and by how many seconds its clock is ahead of ours.
    pub(super) fn of(
        host: &Host,
        (seen, ahead): (&Observed, i64),
        wanted: &Wanted,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut view = Self { free: Some(seen.free), ..Self::bare(host) };
        let mut find = |minor: bool, what: String, help: &str| {
            findings.push(Finding { host: Some(host.name.clone()), what, help: help.to_owned(), minor });
        };
        let blocked = way::blocked(&DesiredHost::default(), seen);
        for why in drained::left(seen).iter().chain(&seen.refusal).chain(&blocked).chain(&seen.firewall.rivals) {
            find(false, format!("is left alone: {why}"), "mend that; `infra apply` leaves the host alone until then");
        }
        for warning in &seen.firewall.warnings {
            find(true, warning.clone(), "see to it on the host");
        }
        if seen.free < FREE {
            let what = format!("has {} MiB of disk left", seen.free >> 20);
            find(false, what, "make room, or give it a larger disk");
        }
        if ahead.abs() > CLOCK {
            let (off, way) = (ahead.abs(), if ahead > 0 { "fast" } else { "slow" });
            find(false, format!("its clock is {off} s {way}"), "have it follow a time server (systemd-timesyncd)");
        }
        if seen.manifest.is_empty() {
            if drained::left(seen).is_none() {
                find(false, "nothing of infra is on it yet".to_owned(), "`infra apply` sets it up");
            }
            return view;
        }
        view.units = wanted.units.iter().map(|unit| unit_view(unit, seen)).collect();
        for unit in view.units.iter().filter(|unit| !unit.good) {
            let help = match way::unmask(&unit.unit, seen) {
                Some(unmask) => format!("`{unmask}` on the host, then `infra apply` starts it"),
                None => format!("`journalctl -u {}` on the host says why; `infra apply` starts it", unit.unit),
            };
            find(false, format!("{} is {}", unit.unit, unit.state), &help);
        }
        view.drift = drift(seen, wanted);
        for what in &view.drift {
            find(false, what.clone(), "`infra diff` shows how it differs, `infra apply` puts it right");
        }
        view.owed = owed(seen);
        for what in &view.owed {
            find(false, what.clone(), "`infra apply` makes up for it");
        }
        for unit in &seen.held {
            find(
                true,
                format!("the restart of {unit} waits for a person's word"),
                &format!("`infra apply --restart {unit}`"),
            );
        }
        view
    }
}

fn unit_view(unit: &str, seen: &Observed) -> UnitView {
    let state = seen.units.get(unit).map_or("missing", |seen| match (seen.load.as_str(), seen.active.as_str()) {
        ("not-found", _) => "missing",
        ("masked", _) => "masked",
        (_, active) => active,
    });
    UnitView { unit: unit.to_owned(), state: state.to_owned(), good: state == "active" }
}

/// What is no longer as the last run has left it. The manifest says how that was, so nothing has to be rendered for it.
fn drift(seen: &Observed, wanted: &Wanted) -> Vec<String> {
    let changed = |(path, recorded): (&String, &Recorded)| {
        let word = file(seen.files.get(path), recorded, wanted, path)?;
        Some(format!("{path} {word} since the last run"))
    };
    let mut drift: Vec<String> = seen.manifest.iter().filter_map(changed).collect();
    let firewall = &seen.firewall;
    if firewall.pending {
        drift.push("a change of its firewall is not confirmed yet; the host takes it back by itself".to_owned());
    } else if firewall.loaded.is_none() {
        drift.push("its firewall rules are gone".to_owned());
    } else if !firewall.intact {
        drift.push("its live firewall rules were changed by someone else since the last run".to_owned());
    } else if !firewall.boot_current {
        drift.push("its firewall would load other rules at boot than those that hold now".to_owned());
    }
    drift
}

fn file(seen: Option<&ObservedFile>, recorded: &Recorded, wanted: &Wanted, path: &str) -> Option<&'static str> {
    let Some(seen) = seen else { return Some("was removed by someone else") };
    if seen.digest.as_ref() != Some(&recorded.digest) {
        return Some("was changed by someone else");
    }
    let access = wanted.access.get(path).is_some_and(|wanted| *wanted != seen.access);
    access.then_some("got another owner or mode")
}

fn owed(seen: &Observed) -> Vec<String> {
    let mut owed: Vec<String> = seen
        .owed
        .iter()
        .map(|(unit, follow)| match follow {
            Follow::Stop => format!("{unit} should have been stopped by an earlier run"),
            follow => format!("a {follow} of {unit} is owed by an earlier run"),
        })
        .collect();
    owed.extend(seen.untold.iter().map(|unit| format!("{unit} was not told yet what has changed in its files")));
    owed.extend(seen.cut_off.as_ref().map(|of| format!("run {} was cut off in the phase {}", of.run, of.phase)));
    owed
}

//! Others that would do the same on a host: takes what was observed, refuses hosts on which an agent of somebody else runs already, or
//! where the packages exclude what is there.

use crate::base::diagnostic::Diagnostic;
use crate::plan::state::{Observed, ObservedFleet};
use crate::service::firewall::flows::AGENT_UID;
use crate::service::inquiry::Inquiry;
use crate::service::monitoring::{USER, logs, metrics};

/// Debian lets one package of those that keep the system's log be installed at a time.
const OTHER_LOGGER: &str = "rsyslog";

/// Units of agents that would send the same once more, whose they are, and the file by which a unit is infra's own.
const AGENTS: [(&str, &str, Option<&str>); 4] = [
    (metrics::UNIT, "Telegraf", Some(metrics::DROP_IN)),
    (logs::UNIT, "syslog-ng", Some(logs::DROP_IN)),
    ("otelcol-sumo.service", "the OpenTelemetry collector of Sumo Logic", None),
    ("collector.service", "the installed collector of Sumo Logic", None),
];

/// What is asked of every host: those, and whether the agent's user is there.
pub(super) const INQUIRY: Inquiry = Inquiry {
    records: &[],
    units: &[metrics::UNIT, logs::UNIT, "otelcol-sumo.service", "collector.service"],
    packages: &[OTHER_LOGGER],
    script: || format!("grep -q '^infra-telegraf:[^:]*:{AGENT_UID}:' etc/passwd && echo there"),
    read: |answer, observed: &mut Observed| {
        if answer.trim() != "there" {
            observed.made.remove(USER);
        }
    },
};

/// Refuses the hosts on which that is so.
///
/// # Errors
/// One sentence for all of them, and what to do.
pub(super) fn admit(observed: &ObservedFleet) -> Result<(), Diagnostic> {
    let mut found = Vec::new();
    for (host, observed) in observed {
        let runs = |unit: &str| observed.units.get(unit).is_some_and(|state| state.active == "active");
        let ours = |file: Option<&str>| file.is_some_and(|file| observed.manifest.contains_key(file));
        for (unit, whose, _) in AGENTS.iter().filter(|(unit, _, file)| runs(unit) && !ours(*file)) {
            let help = format!("`systemctl disable --now {unit}` on {host}");
            found.push((format!("on {host} runs {whose} already, and not for infra"), help));
        }
        if observed.packages.contains_key(OTHER_LOGGER) {
            let help =
                format!("`apt-get remove {OTHER_LOGGER}` on {host}: the journal keeps the same lines, and is shipped");
            let what = format!("on {host} {OTHER_LOGGER} is installed, and Debian's syslog-ng cannot stand beside it");
            found.push((what, help));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let (what, help): (Vec<String>, Vec<String>) = found.into_iter().unzip();
    Err(Diagnostic::error(what.join("; ")).help(format!("{}; or take `monitoring` out", help.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::state::{Digest, Facts, ObservedUnit, Recorded};

    fn fleet(unit: &str, active: &str) -> ObservedFleet {
        let mut host = Observed::bare(Facts::of_release("debian", "12"));
        host.units.insert(unit.into(), ObservedUnit { active: active.into(), ..ObservedUnit::default() });
        [("web1".parse().unwrap(), host)].into()
    }

    #[test]
    fn an_agent_of_somebody_else_is_named() {
        for (unit, _, file) in AGENTS {
            assert!(admit(&fleet(unit, "inactive")).is_ok());
            let mut fleet = fleet(unit, "active");
            let error = admit(&fleet).unwrap_err();
            assert!(error.message.contains("on web1 runs"), "{}", error.message);
            let Some(file) = file else { continue };
            let recorded = Recorded { digest: Digest::of(b""), then: [].into() };
            fleet.values_mut().next().unwrap().manifest.insert(file.into(), recorded);
            assert!(admit(&fleet).is_ok(), "{unit}");
        }
    }

    #[test]
    fn what_excludes_the_package_is_named() {
        let mut fleet = fleet("x.service", "active");
        fleet.values_mut().next().unwrap().packages.insert(OTHER_LOGGER.into(), "8".into());
        assert!(admit(&fleet).unwrap_err().message.contains("cannot stand beside it"));
    }
}

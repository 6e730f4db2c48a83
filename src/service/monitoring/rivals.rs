//! Others that would do the same on a host: takes what was observed, refuses hosts on which an agent of somebody else runs already, or
//! where the packages exclude what is there.

use serde::{Deserialize, Serialize};

use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::Agent;
use crate::plan::state::{Observed, ObservedFleet, Part};
use crate::service::firewall::flows::{AGENT_UID, COLLECTOR_UID};
use crate::service::inquiry::{Inquiry, Look};
use crate::service::monitoring::collector::{self, COLLECTOR_USER};
use crate::service::monitoring::{NAME, USER, logs, metrics};

/// Debian lets one package of those that keep the system's log (`system-log-daemon`) be installed at a time: each of these goes when
/// syslog-ng comes.
const OTHER_LOGGERS: &[&str] = &["rsyslog", "inetutils-syslogd", "busybox-syslogd", "socklog-run"];

/// An agent that would send the same once more.
struct Rival {
    unit: &'static str,
    /// Whose it is.
    whose: &'static str,
    /// The file by which the unit is infra's own.
    ours: Option<&'static str>,
    /// Beside whom it would do so: the collector minds no other shipper of logs.
    beside: &'static [Agent],
}

const BOTH: &[Agent] = &[Agent::Telegraf, Agent::OtelcolSumo];
const RIVALS: [Rival; 4] = [
    Rival { unit: metrics::UNIT, whose: "Telegraf", ours: Some(metrics::DROP_IN), beside: BOTH },
    Rival { unit: logs::UNIT, whose: "syslog-ng", ours: Some(logs::DROP_IN), beside: &[Agent::Telegraf] },
    Rival {
        unit: collector::UNIT,
        whose: "the OpenTelemetry collector of Sumo Logic",
        ours: Some(collector::DROP_IN),
        beside: BOTH,
    },
    Rival { unit: "collector.service", whose: "the installed collector of Sumo Logic", ours: None, beside: BOTH },
];

/// What a host's own script says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Found {
    /// Files of rsyslog's configuration that send lines to another host.
    forwards: Vec<String>,
}

const FOUND: Part<Found> = Part::steady(NAME);

/// What is asked of every host: those, whether the agents' users are there, and whether another logger sends lines elsewhere.
pub(super) const INQUIRY: Inquiry = Inquiry {
    units: &[metrics::UNIT, logs::UNIT, collector::UNIT, "collector.service"],
    packages: OTHER_LOGGERS,
    looks: || {
        let user = |name: &str, id: u32, group: bool, made: &str| {
            let group = if group { format!(" && field[4] == {id}") } else { String::new() };
            format!("if (field[1] == \"{name}\" && field[3] == {id}{group}) tell(\"{made}\")\n")
        };
        let users =
            user("infra-telegraf", AGENT_UID, false, USER) + &user("otelcol-sumo", COLLECTOR_UID, true, COLLECTOR_USER);
        let forwards = format!(
            "if (FILENAME != sends && /{FORWARDS}/) {{ sends = FILENAME; tell(\"forwards \" substr(FILENAME, 2)) }}"
        );
        vec![
            Look { files: "etc/passwd".to_owned(), tell: format!("split($0, field, \":\")\n{users}") },
            Look { files: "etc/rsyslog.conf etc/rsyslog.d/*.conf".to_owned(), tell: forwards },
        ]
    },
    read: |answer, observed: &mut Observed| {
        for made in [USER, COLLECTOR_USER] {
            if !answer.lines().any(|line| line == made) {
                observed.made.remove(made);
            }
        }
        let forwards = answer.lines().filter_map(|line| line.strip_prefix("forwards "));
        let found = Found { forwards: forwards.map(str::to_owned).collect() };
        if found != Found::default() {
            FOUND.put(&found, observed);
        }
    },
    ..Inquiry::NOTHING
};

/// A line of rsyslog's that sends lines elsewhere: `*.* @host`, `*.* @@(o)host:514`, or an action of a module that does
/// (rsyslog.conf(5), «Remote Machine»; the manual's list of output modules).
const FORWARDS: &str = r#"^[^#]*([ \t]@@?[[(A-Za-z0-9]|:om(relp|gssapi):|type="?om(fwd|relp|gssapi|kafka|elasticsearch|http|rabbitmq|amqp1|mongodb|mysql|pgsql|udpspoof|hiredis))"#;

/// Refuses the hosts on which that is so, for who is to send.
///
/// # Errors
/// One sentence for all of them, and what to do.
pub(super) fn admit(observed: &ObservedFleet, agent: Agent) -> Result<(), Diagnostic> {
    let mut found = Vec::new();
    for (host, observed) in observed {
        let runs = |unit: &str| observed.units.get(unit).is_some_and(|state| state.active == "active");
        let ours = |file: Option<&str>| file.is_some_and(|file| observed.manifest.contains_key(file));
        let rivals = RIVALS.iter().filter(|rival| rival.beside.contains(&agent));
        for Rival { unit, whose, .. } in rivals.filter(|rival| runs(rival.unit) && !ours(rival.ours)) {
            let help = format!("`systemctl disable --now {unit}` on {host}");
            found.push((format!("on {host} runs {whose} already, and not for infra"), help));
        }
        if agent != Agent::Telegraf {
            continue;
        }
        for logger in OTHER_LOGGERS.iter().filter(|logger| observed.packages.contains_key(**logger)) {
            let mut what = format!("on {host} {logger} is installed, and Debian's syslog-ng cannot stand beside it");
            let remove = format!("`apt-get remove {logger}` on {host}");
            let forwards = FOUND.of(observed).filter(|_| *logger == "rsyslog").map(|found| found.forwards);
            let help = match forwards.filter(|files| !files.is_empty()) {
                None => format!("{remove}: the journal keeps the same lines, and is shipped"),
                Some(files) => {
                    let files = files.join(", ");
                    what.push_str(&format!("; it sends lines to somebody else ({files}), who would get none any more"));
                    format!(
                        "once nobody needs them, {remove}; or write `agent: otelcol-sumo`, which stands beside {logger}"
                    )
                }
            };
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
    use std::process::Command;

    use super::*;
    use crate::plan::state::{Digest, Facts, ObservedUnit, Recorded};
    use crate::service::ALL;

    fn fleet(unit: &str, active: &str) -> ObservedFleet {
        let mut host = Observed::bare(Facts::of_release("debian", "12"));
        host.units.insert(unit.into(), ObservedUnit { active: active.into(), ..ObservedUnit::default() });
        [("web1".parse().unwrap(), host)].into()
    }

    #[test]
    fn an_agent_of_somebody_else_is_named() {
        for (Rival { unit, ours, beside, .. }, agent) in RIVALS.iter().flat_map(|r| BOTH.iter().map(move |a| (r, *a))) {
            assert!(admit(&fleet(unit, "inactive"), agent).is_ok());
            let mut fleet = fleet(unit, "active");
            if !beside.contains(&agent) {
                assert!(admit(&fleet, agent).is_ok(), "{unit}");
                continue;
            }
            let error = admit(&fleet, agent).unwrap_err();
            assert!(error.message.contains("on web1 runs"), "{}", error.message);
            let Some(file) = ours else { continue };
            let recorded = Recorded { digest: Digest::of(b""), then: [].into() };
            fleet.values_mut().next().unwrap().manifest.insert((*file).into(), recorded);
            assert!(admit(&fleet, agent).is_ok(), "{unit}");
        }
    }

    #[test]
    fn what_excludes_the_package_is_named_and_stands_beside_the_collector() {
        for logger in OTHER_LOGGERS {
            let mut fleet = fleet("x.service", "active");
            fleet.values_mut().next().unwrap().packages.insert((*logger).into(), "8".into());
            let error = admit(&fleet, Agent::Telegraf).unwrap_err();
            assert!(error.message.contains("cannot stand beside it"), "{}", error.message);
            assert!(!error.message.contains("somebody else"), "{}", error.message);
            assert!(admit(&fleet, Agent::OtelcolSumo).is_ok());
        }
    }

    #[test]
    fn whoever_would_get_no_lines_any_more_is_told_of() {
        let mut fleet = fleet("x.service", "active");
        let host = fleet.values_mut().next().unwrap();
        host.packages.insert("rsyslog".into(), "8".into());
        (INQUIRY.read)("forwards /etc/rsyslog.d/50-remote.conf\n", host);
        let error = admit(&fleet, Agent::Telegraf).unwrap_err();
        assert!(error.message.contains("(/etc/rsyslog.d/50-remote.conf), who would get none"), "{}", error.message);
    }

    #[test]
    fn a_rule_that_sends_lines_elsewhere_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/rsyslog.d");
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(root.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs_err::write(root.path().join("etc/rsyslog.conf"), "module(load=\"imuxsock\")\n*.* /var/log/all\n").unwrap();
        for (line, forwards) in [
            ("*.* @10.0.0.9", true),
            ("*.*\t@@logs.example.com:6514", true),
            ("auth.* @@(o)[fd00::9]:514", true),
            ("*.* :omrelp:logs.example.com:2514", true),
            ("action(type=\"omfwd\" target=\"10.0.0.9\" port=\"514\" protocol=\"tcp\")", true),
            ("if $programname == 'x' then { action(type=\"omelasticsearch\") }", true),
            ("# *.* @10.0.0.9", false),
            ("#action(type=\"omfwd\" target=\"10.0.0.9\")", false),
            ("mail.* -/var/log/mail@example.log", false),
            ("action(type=\"omfile\" file=\"/var/log/x\")", false),
            ("module(load=\"imtcp\")", false),
        ] {
            fs_err::write(folder.join("50-remote.conf"), line).unwrap();
            let (files, rules) = ALL.looks();
            let text = format!("set --\n{files}\nawk \"$0\" \"$@\"");
            let rules = format!("{rules}END {{ printf \"%s\", out }}");
            let output = Command::new("sh").args(["-c", &text, &rules]).current_dir(root.path()).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            let said = String::from_utf8(output.stdout).unwrap();
            let said: Vec<&str> = said.lines().filter(|line| line.starts_with("of monitoring ")).collect();
            let expected: &[&str] =
                if forwards { &["of monitoring forwards /etc/rsyslog.d/50-remote.conf"] } else { &[] };
            assert_eq!(said, expected, "{line}");
        }
    }
}

//! The agents as they deliver: takes what each has counted, gives when measures and logs of a host were last accepted, what waits and
//! what was thrown away. Times are ages by the host's own clock, so that a clock that is off makes no delivery late.

use serde::{Deserialize, Serialize};

use super::{NAME, section};
use crate::base::net::HostName;
use crate::inventory::site::Agent;
use crate::plan::said::{Delivery, Said};
use crate::plan::state::{Observed, Part};
use crate::service::agent::{COLLECTOR, TELEGRAF};
use crate::service::status::{Gauge, Seen};

/// What was read.
const READ: Part<Readings> = Part::passing(NAME);
/// So long nothing of an agent may be accepted, seconds: it sends every ten, and one attempt may take ten more.
const LATE: i64 = 180;

/// Telegraf writes its counts down with each delivery; those of syslog-ng and of the collector stand among the measures that root takes.
pub(super) const GAUGE: Gauge = Gauge { script, read };

fn script() -> String {
    r#"set -- run/infra-telegraf/delivery*
[ -f "$1" ] || [ -f run/infra-measures/infra.prom ] || exit 0
echo "now $(date +%s)"
[ ! -f "$1" ] || cat $(ls -tr "$@") | awk '
	function field(name) { return match($0, "[ ,]" name "=[0-9]+") ? substr($0, RSTART + length(name) + 2, RLENGTH - length(name) - 2) : 0 }
	/metrics_written=/ {
		told = substr($NF, 1, 10)
		if (since == "") since = told
		count = field("metrics_written")
		if (count + 0 > written + 0) accepted = told
		written = count; waiting = field("buffer_size"); dropped = field("metrics_dropped")
	}
	END { if (told != "") print "measures", told, since, (accepted == "" ? "-" : accepted), waiting, dropped }'
[ ! -f run/infra-measures/infra.prom ] || awk '
	/^infra_logs_queued/ { waiting += $NF; some = 1 }
	/^infra_logs_dropped/ { dropped += $NF }
	/^infra_logs_watched_seconds / { since = $2 }
	/^infra_logs_accepted_seconds / { accepted = $2 }
	END { if (some) printf "logs %s %s %.0f %.0f\n", since, (accepted == "" ? "-" : accepted), waiting, dropped }' run/infra-measures/infra.prom
[ ! -f run/infra-measures/infra.prom ] || awk '
	match($1, /what="[a-z]+"/) { what = substr($1, RSTART + 6, RLENGTH - 7) }
	/^infra_waiting[{]/ { waiting[what] = $2 }
	/^infra_dropped[{]/ { dropped[what] = $2 }
	/^infra_accepted_seconds[{]/ { accepted[what] = $2 }
	/^infra_collector_answered_seconds / { told = $2 }
	/^infra_collector_watched_seconds / { since = $2 }
	function counts(what) { return since " " (what in accepted ? accepted[what] : "-") " " waiting[what] + 0 " " dropped[what] + 0 }
	END {
		if (since == "") exit
		print "measures", told == "" ? since : told, counts("measures")
		print "logs", counts("logs")
	}' run/infra-measures/infra.prom"#
        .to_owned()
}

/// What the agents of a host have counted, all times by its own clock, seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Readings {
    now: i64,
    measures: Option<Measures>,
    logs: Option<Counts>,
}

/// Of the agent that measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Measures {
    /// When it last wrote its counts down.
    told: i64,
    counts: Counts,
}

/// What was accepted and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    /// So far back it is known.
    since: i64,
    /// When the count of what was accepted last grew.
    accepted: Option<i64>,
    waiting: u64,
    dropped: u64,
}

impl Counts {
    /// `SINCE ACCEPTED WAITING DROPPED`.
    fn of(words: &[&str]) -> Option<Self> {
        let [since, accepted, waiting, dropped] = words else { return None };
        let (since, accepted) = (since.parse().ok()?, accepted.parse().ok());
        Some(Self { since, accepted, waiting: waiting.parse().ok()?, dropped: dropped.parse().ok()? })
    }

    /// Seconds since something was accepted.
    fn age(&self, now: i64) -> Option<i64> {
        self.accepted.map(|at| now.saturating_sub(at).max(0))
    }

    fn are_late(&self, now: i64) -> bool {
        now.saturating_sub(self.accepted.unwrap_or(self.since)) > LATE
    }
}

fn read(answer: &str, observed: &mut Observed) {
    let mut all = Readings::default();
    for line in answer.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["now", now] => all.now = now.parse().unwrap_or(0),
            ["measures", told, ref counts @ ..] => {
                let counts = Counts::of(counts).zip(told.parse().ok());
                all.measures = counts.map(|(counts, told)| Measures { told, counts });
            }
            ["logs", ref counts @ ..] => all.logs = Counts::of(counts),
            _ => {}
        }
    }
    if all.now > 0 {
        READ.put(&all, observed);
    }
}

/// What the agents tell.
pub(super) fn tell(seen: &Seen<'_>) -> Said {
    let mut said = Said::default();
    let Some((_, agent)) = section(seen.site) else { return said };
    for (host, observed) in seen.observed {
        let Some(readings) = READ.of(observed) else { continue };
        let now = readings.now;
        let mut deliver = |what: &'static str, counts: &Counts| {
            let at = counts.age(now).map(|age| seen.now.saturating_sub(age));
            said.delivery(host, Delivery { what, at, waiting: counts.waiting, dropped: counts.dropped });
        };
        if let Some(measures) = &readings.measures {
            deliver("measures", &measures.counts);
        }
        if let Some(logs) = &readings.logs {
            deliver("logs", logs);
        }
        findings(host, &readings, &words(agent), &mut said);
    }
    said
}

/// What an agent keeps, and who says why it does not deliver.
struct Words {
    measures: String,
    measures_kept: &'static str,
    logs: &'static str,
}

fn words(agent: Agent) -> Words {
    match agent {
        Agent::Telegraf => Words {
            measures: format!("`journalctl -u {TELEGRAF}` on the host says why"),
            measures_kept: "some 20 minutes of them are kept",
            logs: "`journalctl -t syslog-ng` on the host says why; they wait on its disk, up to 512 MB of them",
        },
        Agent::OtelcolSumo => Words {
            measures: format!("`journalctl -u {COLLECTOR}` on the host says why"),
            measures_kept: "they wait on its disk",
            logs: "`journalctl -u otelcol-sumo.service` on the host says why; they wait on its disk",
        },
    }
}

fn findings(host: &HostName, readings: &Readings, words: &Words, said: &mut Said) {
    let now = readings.now;
    if let Some(Measures { told, counts }) = &readings.measures {
        let why = words.measures.as_str();
        if now.saturating_sub(*told) > LATE {
            said.find(Some(host), false, "its agent measures nothing any more", why);
        } else if counts.are_late(now) {
            let help = format!("{why}; {}", words.measures_kept);
            said.find(Some(host), false, "the monitoring service accepts none of its measures", help);
        }
        lost(host, "measures were thrown away, as they were not accepted for too long", counts, said);
    }
    if let Some(counts) = &readings.logs {
        if counts.waiting > 0 && counts.are_late(now) {
            said.find(Some(host), false, "the monitoring service accepts none of its log lines", words.logs);
        }
        lost(host, "log lines were thrown away, as there was no more room to keep them", counts, said);
    }
}

/// What is lost is worth knowing for as long as the agent counts it: nothing mends it.
fn lost(host: &HostName, what: &str, counts: &Counts, said: &mut Said) {
    if counts.dropped > 0 {
        let help = "they are lost; the count begins anew when the agent restarts";
        said.find(Some(host), true, format!("{} {what}", counts.dropped), help);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::service::status::tests::{NOW, told as told_of};

    fn tell_of(answer: &str) -> Said {
        let text = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/x } } }
certificates: { issuer: internal }
monitoring: { service: sumologic, agent: telegraf, source: { env: X } }
";
        told_of(text, GAUGE, &[("lb1", answer)], tell)
    }

    /// What is told of counts that are so many seconds old, by a clock that is a day slow.
    fn told(measures: (i64, i64, i64, u64), logs: (i64, u64, u64)) -> (Vec<Delivery>, Vec<(String, bool)>) {
        let now = NOW - 86_400;
        let (since, told, accepted, dropped) = measures;
        let measures = format!("measures {} {} {} 5 {dropped}", now - told, now - since, now - accepted);
        let logs = format!("logs {} {} {} {}", now - since, now - logs.0, logs.1, logs.2);
        let said = tell_of(&format!("now {now}\n{measures}\n{logs}\n"));
        let findings = said.findings.into_iter().map(|finding| (finding.what, finding.minor)).collect();
        (said.deliveries.into_values().flatten().collect(), findings)
    }

    #[test]
    fn what_was_accepted_lately_is_well() {
        let (deliveries, findings) = told((900, 4, 4, 0), (400, 0, 0));
        assert_eq!(
            deliveries,
            [
                Delivery { what: "measures", at: Some(NOW - 4), waiting: 5, dropped: 0 },
                Delivery { what: "logs", at: Some(NOW - 400), waiting: 0, dropped: 0 },
            ]
        );
        assert_eq!(findings, [], "a host that writes no line owes none");
    }

    #[test]
    fn each_way_of_not_delivering_has_its_sentence() {
        let of = |measures, logs| told(measures, logs).1.into_iter().map(|(what, _)| what).collect::<Vec<_>>();
        let (well, quiet) = ((900, 4, 4, 0), (10, 0, 0));
        assert_eq!(of((900, 181, 181, 0), quiet), ["its agent measures nothing any more"]);
        assert_eq!(of((900, 4, 181, 0), quiet), ["the monitoring service accepts none of its measures"]);
        assert_eq!(of(well, (181, 3, 0)), ["the monitoring service accepts none of its log lines"]);
        assert_eq!(of(well, (20, 3, 0)), [""; 0], "lines wait for a moment before each delivery");
        let (_, lost) = told((900, 4, 4, 7), (10, 0, 9));
        assert!(lost.len() == 2 && lost.iter().all(|(_, minor)| *minor), "{lost:?}");
        // One that began a moment ago has nothing to show yet.
        let young = format!("now {NOW}\nmeasures {NOW} {} - 5 0\nlogs {NOW} - 3 0\n", NOW - 20);
        let said = tell_of(&young);
        assert!(said.findings.is_empty(), "{said:?}");
        let old = young.replace(&(NOW - 20).to_string(), &(NOW - 200).to_string());
        assert_eq!(tell_of(&old).findings.len(), 1);
    }

    #[test]
    fn an_answer_may_be_anything() {
        for answer in
            ["", "now", "now x\nmeasures", "now 5\nmeasures 1 2 3\nlogs 1 2", "measures 1 2 3 4 5\nlogs 1 - 1 1"]
        {
            assert_eq!(tell_of(answer), Said::default(), "{answer}");
        }
        let said =
            tell_of(&format!("now {}\nmeasures {} {} {} 1 1\nlogs 0 x 1 1", i64::MAX, i64::MIN, i64::MIN, i64::MIN));
        assert_eq!(said.deliveries.len(), 1);
    }

    #[test]
    fn the_host_finds_the_moment_at_which_a_count_grew() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        let answer = || {
            let output = Command::new("sh").args(["-c", &script()]).current_dir(root.path()).output().unwrap();
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().filter(|line| !line.starts_with("now ")).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(answer(), [""; 0]);
        let line = |at: i64, written: u64| {
            format!(
                "internal_write,host=web1,output=sumologic buffer_limit=20000i,buffer_size=12i,errors=0i,metrics_dropped=3i,metrics_written={written}i {at}000000000\n"
            )
        };
        file("run/infra-telegraf/delivery.2026-11-26-1", &(line(1_795_000_000, 0) + &line(1_795_000_010, 0)));
        assert_eq!(answer(), ["measures 1795000010 1795000000 - 12 3"]);
        file(
            "run/infra-telegraf/delivery",
            &(line(1_795_000_020, 4_000_000_000) + &line(1_795_000_030, 4_000_000_000)),
        );
        assert_eq!(answer(), ["measures 1795000030 1795000000 1795000020 12 3"]);
        let prom = "infra_firewall_loaded 1\ninfra_logs_queued{stream=\"auth\"} 2\ninfra_logs_queued{stream=\"journal\"} 4000000000\n\
                    infra_logs_dropped{stream=\"auth\"} 1\ninfra_logs_accepted_seconds 1795000025\ninfra_logs_watched_seconds 1795000001\n";
        file("run/infra-measures/infra.prom", prom);
        assert_eq!(answer()[1], "logs 1795000001 1795000025 4000000002 1");
    }

    #[test]
    fn the_collector_is_read_by_its_own_counters() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let metrics = root.path().join("metrics");
        fs_err::create_dir_all(root.path().join("run/infra-measures")).unwrap();
        fs_err::create_dir_all(&bin).unwrap();
        fs_err::write(bin.join("curl"), format!("#!/bin/sh\ncat {} 2>/dev/null\n", metrics.display())).unwrap();
        fs_err::set_permissions(bin.join("curl"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        // The loop's own functions, once.
        let template = include_str!("../../../templates/agent/measures.sh");
        let part = template.split("# What the collector has handed over").nth(1).unwrap();
        let functions = part.split("began=").next().unwrap().split_once('\n').unwrap().1;
        let sent = |text: &str| {
            fs_err::write(&metrics, text).unwrap();
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
            let output =
                Command::new("sh").args(["-c", &format!("{functions}\nsent")]).env("PATH", path).output().unwrap();
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(sent(""), "", "one that does not answer has no counts");
        let counts = "# TYPE otelcol_exporter_sent_log_records_total counter\n\
                      otelcol_exporter_sent_log_records_total{exporter=\"sumologic\",service_name=\"otelcol-sumo\"} 1.2e+06\n\
                      otelcol_exporter_sent_metric_points{exporter=\"sumologic\"} 7\n\
                      otelcol_exporter_send_failed_log_records_total{exporter=\"sumologic\"} 2\n\
                      otelcol_exporter_enqueue_failed_metric_points_total{exporter=\"sumologic\"} 3\n\
                      otelcol_exporter_queue_size{data_type=\"logs\",exporter=\"sumologic\"} 5\n\
                      otelcol_receiver_accepted_log_records_total{receiver=\"x\"} 99\n";
        let said = sent(counts);
        for line in [
            "infra_sent{what=\"logs\"} 1200000",
            "infra_sent{what=\"measures\"} 7",
            "infra_waiting{what=\"logs\"} 5",
            "infra_dropped{what=\"logs\"} 2",
            "infra_dropped{what=\"measures\"} 3",
        ] {
            assert!(said.lines().any(|one| one == line), "{line}: {said}");
        }
        let prom = said
            + "infra_accepted_seconds{what=\"logs\"} 1795000025\ninfra_collector_answered_seconds 1795000030\n\
                           infra_collector_watched_seconds 1795000001\n";
        fs_err::write(root.path().join("run/infra-measures/infra.prom"), prom).unwrap();
        let output = Command::new("sh").args(["-c", &script()]).current_dir(root.path()).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines, ["measures 1795000030 1795000001 - 0 3", "logs 1795000001 1795000025 5 2"]);
    }
}

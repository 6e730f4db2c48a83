//! What those who watch have seen: takes their answer to one question, gives when each host's measures were last taken, and which of
//! its exporters do not answer.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::watcher::CONFIG;
use super::{NAME, exporters, is_wanted};
use crate::inventory::site::Role;
use crate::plan::said::{Delivery, Said};
use crate::plan::state::{Observed, Part};
use crate::service::status::{Gauge, Seen};

/// What was read.
const READ: Part<Readings> = Part::passing(NAME);

/// Prometheus alone keeps when a target was last asked; one that did not answer then counts as 0.
pub(super) const GAUGE: Gauge = Gauge { script, read };

fn script() -> String {
    format!(
        "[ -e {} ] || exit 0\n\
         curl -q -s -m 5 --noproxy '*' http://127.0.0.1:9090/api/v1/query --data-urlencode 'query=timestamp(up) * up'",
        CONFIG.trim_start_matches('/')
    )
}

/// By host and exporter: seconds since it last answered; none where it did not when it was last asked.
type Readings = BTreeMap<String, BTreeMap<String, Option<i64>>>;

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Sample>,
}

/// A series, and its value at a moment.
#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

fn read(answer: &str, observed: &mut Observed) {
    let Ok(answer) = serde_json::from_str::<Answer>(answer) else { return };
    let mut all = Readings::new();
    for Sample { metric, value: (now, last) } in answer.data.result {
        let (Some(host), Some(job), Ok(last)) = (metric.get("host"), metric.get("job"), last.parse::<f64>()) else {
            continue;
        };
        let age = (last > 0.0).then(|| whole(now - last));
        all.entry(host.clone()).or_default().insert(job.clone(), age);
    }
    READ.put(&all, observed);
}

#[expect(clippy::cast_possible_truncation, reason = "a figure to look at; what is out of its range becomes its end")]
fn whole(seconds: f64) -> i64 {
    seconds.max(0.0) as i64
}

/// What the hosts that watch tell.
pub(super) fn tell(seen: &Seen<'_>) -> Said {
    let mut said = Said::default();
    if !is_wanted(seen.site) {
        return said;
    }
    let watchers = seen.site.with_role(Role::Monitor);
    let watchers: Vec<_> =
        watchers.filter_map(|watcher| Some((&watcher.name, READ.of(seen.observed.get(&watcher.name)?)?))).collect();
    for host in seen.site.hosts.values().filter(|host| seen.observed.contains_key(&host.name)) {
        let mut ages: Vec<Option<i64>> = Vec::new();
        for exporter in exporters(seen.site, host) {
            let of = |readings: &Readings| readings.get(host.name.as_str())?.get(exporter.name).copied();
            for (watcher, age) in watchers.iter().filter_map(|(watcher, readings)| Some((watcher, of(readings)?))) {
                ages.push(age);
                if age.is_none() {
                    let what = format!("{watcher} gets no measures of it (`{}`)", exporter.name);
                    let help = format!(
                        "`ssh -L 9090:127.0.0.1:9090 {watcher}`, and http://127.0.0.1:9090/targets says why; `infra apply` starts what is stopped"
                    );
                    said.find(Some(&host.name), false, what, help);
                }
            }
        }
        // As old as the oldest of them.
        let oldest = ages.iter().copied().collect::<Option<Vec<i64>>>().and_then(|ages| ages.into_iter().max());
        if !ages.is_empty() {
            let at = oldest.map(|age| seen.now.saturating_sub(age));
            said.delivery(&host.name, Delivery { what: "measures", at, waiting: 0, dropped: 0 });
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::tests::{NOW, told};

    fn tell_of(answer: &str) -> Said {
        let text = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
  mon1: { address: 10.0.9.11, roles: [monitor] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/x } } }
certificates: { issuer: internal }
monitoring: { service: prometheus }
";
        told(text, GAUGE, &[("lb1", ""), ("mon1", answer)], tell)
    }

    /// What Prometheus 2.42 says of these exporters of lb1.
    fn answer(node: &str, haproxy: &str) -> String {
        let one = |job: &str, value: &str| {
            format!(
                r#"{{"metric":{{"host":"lb1","instance":"10.0.1.11:8405","job":"{job}","roles":"lb"}},"value":[1795435000.5,"{value}"]}}"#
            )
        };
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{},{}]}}}}"#,
            one("node", node),
            one("haproxy", haproxy)
        )
    }

    #[test]
    fn a_host_is_as_fresh_as_the_oldest_of_its_exporters() {
        let said = tell_of(&answer("1795434996.2", "1795434988.1"));
        let lb1 = Delivery { what: "measures", at: Some(NOW - 12), waiting: 0, dropped: 0 };
        assert_eq!(said.deliveries, BTreeMap::from([("lb1".parse().unwrap(), vec![lb1])]));
        assert_eq!(said.findings, []);
    }

    #[test]
    fn an_exporter_that_does_not_answer_is_named() {
        let said = tell_of(&answer("1795434996.2", "0"));
        let found: Vec<_> = said.findings.iter().map(|one| (one.what.as_str(), one.minor)).collect();
        assert_eq!(found, [("mon1 gets no measures of it (`haproxy`)", false)]);
        assert_eq!(said.deliveries.values().next().unwrap()[0].at, None);
    }

    #[test]
    fn an_answer_may_be_anything() {
        for text in ["", "{}", r#"{"status":"error"}"#, &answer("x", "NaN").replace("host", "x"), "[1]"] {
            assert_eq!(tell_of(text), Said::default(), "{text}");
        }
        for value in ["NaN", "+Inf", "-1", "1e300"] {
            let _ = tell_of(&answer(value, value));
        }
    }
}

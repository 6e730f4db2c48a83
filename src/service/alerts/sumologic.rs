//! Alerts for Sumo Logic: takes the table, gives a folder of monitors as its page «Monitors» imports it. The measures are those
//! that Telegraf sends.

use serde_json::{Value, json};

use crate::inventory::alerts::{Alert, Bound, Monitor, Severity, Table};

/// The file.
pub const MONITORS: &str = "infra-monitors.json";

/// The shortest time over which Sumo Logic looks at measures, minutes.
const SHORTEST: u64 = 5;

/// The folder of monitors.
pub fn monitors(table: &Table, site: &str) -> Value {
    let children: Vec<Value> = table.alerts.iter().filter_map(|alert| monitor(table, site, alert)).collect();
    json!({
        "type": "MonitorsLibraryFolderExport",
        "name": format!("infra {site}"),
        "description": format!("Alerts of {site}, written by infra"),
        "children": children,
    })
}

/// The alerts that have no monitor, with the reason.
pub fn without(table: &Table) -> Vec<(&str, &str)> {
    table.alerts.iter().filter_map(|alert| Some((alert.name.as_str(), unmeasured(alert)?))).collect()
}

/// Why there is no monitor for an alert: one without data would be silent for ever, or cry for ever.
fn unmeasured(alert: &Alert) -> Option<&str> {
    match &alert.sumologic {
        Monitor::Not { not } => Some(not),
        _ => None,
    }
}

/// A row of a query, for the measures of this infrastructure alone: Telegraf sends its name as `site`.
fn of_site(site: &str, query: &str) -> String {
    // A row that counts with other rows names no measure.
    if query.starts_with('#') {
        return query.to_owned();
    }
    let (measures, rest) = query.split_once('|').map_or((query, String::new()), |(m, rest)| (m, format!(" |{rest}")));
    format!("site={site} ({}){rest}", measures.trim())
}

fn monitor(table: &Table, site: &str, alert: &Alert) -> Option<Value> {
    let bound = |bound: &Bound| match bound {
        Bound::Number(number) => *number,
        Bound::Limit(name) => table.limits.get(name.trim_start_matches('$')).copied().unwrap_or_default(),
    };
    if unmeasured(alert).is_some() {
        return None;
    }
    let (queries, triggers) = match &alert.sumologic {
        Monitor::Above { queries, above } => (queries, compared(alert, "GreaterThan", "LessThanOrEqual", bound(above))),
        Monitor::Below { queries, below } => (queries, compared(alert, "LessThan", "GreaterThanOrEqual", bound(below))),
        Monitor::Missing { queries, .. } => {
            let each = ["MissingData", "ResolvedMissingData"]
                .map(|kind| trigger(alert, kind, "GreaterThan", 0.0, "MissingData"));
            (queries, each)
        }
        Monitor::Not { .. } => return None,
    };
    let rows = queries.iter().zip('A'..='Z');
    let rows = rows.map(|(query, row)| json!({ "rowId": row.to_string(), "query": of_site(site, query) }));
    Some(json!({
        "type": "MonitorsLibraryMonitorExport",
        "name": format!("{site} {}", alert.name),
        "description": plain(&alert.says),
        "monitorType": "Metrics",
        "evaluationDelay": "1m",
        "queries": rows.collect::<Vec<_>>(),
        "triggers": triggers,
        "notifications": [],
        "isDisabled": false,
        "groupNotifications": true,
        "playbook": plain(&alert.next),
    }))
}

/// A trigger and its end.
fn compared(alert: &Alert, wrong: &str, right: &str, bound: f64) -> [Value; 2] {
    let (begin, end) = match alert.severity {
        Severity::Page => ("Critical", "ResolvedCritical"),
        Severity::Ticket => ("Warning", "ResolvedWarning"),
    };
    [trigger(alert, begin, wrong, bound, "Always"), trigger(alert, end, right, bound, "Always")]
}

fn trigger(alert: &Alert, kind: &str, than: &str, bound: f64, occurrence: &str) -> Value {
    let range = alert.holds.as_secs().div_ceil(60).max(SHORTEST);
    json!({
        "detectionMethod": "StaticCondition",
        "triggerType": kind,
        "thresholdType": than,
        "threshold": bound,
        "timeRange": format!("-{range}m"),
        "occurrenceType": occurrence,
        "triggerSource": "AnyTimeSeries",
    })
}

/// Words without the labels of a sample: `{{ $labels.host }}` is «the host».
fn plain(words: &str) -> String {
    words.replace("{{ $labels.", "the ").replace(" }}", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::alerts::table;

    #[test]
    fn each_alert_is_a_monitor_or_says_why_not() {
        let table = table().unwrap();
        let folder = monitors(&table, "shop");
        let count = folder["children"].as_array().unwrap().len();
        assert_eq!(count + without(&table).len(), table.alerts.len());
        let text = folder.to_string();
        assert!(!text.contains("$labels") && !text.contains("}}"), "{text}");
    }

    #[test]
    fn a_bound_is_the_tables_limit_and_the_worst_calls_for_the_critical_trigger() {
        let table = table().unwrap();
        let folder = monitors(&table, "shop");
        let of = |name: &str| {
            let all = folder["children"].as_array().unwrap();
            all.iter().find(|monitor| monitor["name"] == format!("shop {name}")).unwrap().clone()
        };
        let full = of("DiskFull");
        assert_eq!(full["triggers"][0]["threshold"], 10.0);
        assert_eq!(full["triggers"][0]["thresholdType"], "LessThan");
        assert_eq!(full["triggers"][0]["triggerType"], "Critical");
        assert_eq!(full["triggers"][1]["triggerType"], "ResolvedCritical");
        assert_eq!(of("MemoryLow")["triggers"][0]["triggerType"], "Warning");
        assert_eq!(of("NothingMeasured")["triggers"][0]["triggerType"], "MissingData");
        // Rows that a later one counts with have the letters that it names.
        let rate = of("ErrorRate");
        assert_eq!(rate["queries"][2], json!({ "rowId": "C", "query": "#A / #B * 100" }));
        let tracked = of("ConnectionsTracked");
        let first =
            "site=shop (metric=conntrack_ip_conntrack_count OR metric=conntrack_nf_conntrack_count) | max by host";
        assert_eq!(tracked["queries"][0]["query"], first);
    }
}

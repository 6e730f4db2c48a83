//! Alerts for Prometheus: takes the table, gives a file of rules, and a file of cases for `promtool test rules`.

use crate::inventory::alerts::{Alert, Case, Table};

/// The file of rules.
pub const RULES: &str = "infra-alerts.yml";
/// The file of cases, which names the file of rules.
pub const CASES: &str = "infra-alerts-test.yml";

/// One group of rules with the name of the infrastructure.
pub fn rules(table: &Table, site: &str) -> String {
    let mut text = format!(
        "# Alerts of {site}, written by infra. Load it by `rule_files`; `promtool test rules {CASES}` shows what fires and what does not.\n\
         groups:\n  - name: {site}\n    rules:\n"
    );
    for alert in &table.alerts {
        text += &format!(
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels: {{ severity: {} }}\n        annotations:\n          \
             summary: {}\n          next: {}\n",
            alert.name,
            quoted(&table.filled(&alert.prometheus)),
            alert.hold(),
            alert.severity.word(),
            quoted(&alert.says),
            quoted(&alert.next),
        );
    }
    text
}

/// All cases of the table.
pub fn cases(table: &Table) -> String {
    let mut text = format!(
        "# What fires and what does not: promtool test rules {CASES}\nrule_files: [{RULES}]\nevaluation_interval: 1m\ntests:\n"
    );
    for (alert, case) in table.alerts.iter().flat_map(|alert| alert.cases.iter().map(move |case| (alert, case))) {
        text += &format!(
            "  - name: {}\n    interval: 1m\n    input_series:\n",
            quoted(&format!("{}: {}", alert.name, case.is))
        );
        for (series, values) in &case.series {
            text += &format!("      - {{ series: {}, values: {} }}\n", quoted(series), quoted(values));
        }
        text += &format!(
            "    alert_rule_test:\n      - eval_time: {}m\n        alertname: {}\n        exp_alerts: {}\n",
            case.after,
            alert.name,
            fired(alert, case)
        );
    }
    text
}

/// What fires, with all labels and with the words that a person reads.
fn fired(alert: &Alert, case: &Case) -> String {
    let each = case.fires.iter().map(|labels| {
        let expand = |words: &str| {
            let put = |text: String, (label, value): (&String, &String)| {
                text.replace(&format!("{{{{ $labels.{label} }}}}"), value)
            };
            labels.iter().fold(words.to_owned(), put)
        };
        let mut all: Vec<_> = labels.iter().map(|(label, value)| format!("{label}: {}", quoted(value))).collect();
        all.push(format!("severity: {}", alert.severity.word()));
        let (says, next) = (quoted(&expand(&alert.says)), quoted(&expand(&alert.next)));
        format!(
            "\n          - exp_labels: {{ {} }}\n            exp_annotations: {{ summary: {says}, next: {next} }}",
            all.join(", ")
        )
    });
    let each: String = each.collect();
    if each.is_empty() { "[]".to_owned() } else { each }
}

/// A text in YAML's double quotes, which are JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

//! Dashboards and alerts ask for measures that there are: every name in them is one that a lab's Prometheus has really scraped.
#![allow(clippy::unwrap_used, clippy::allow_attributes, missing_docs, reason = "a test")]

use std::collections::BTreeSet;

use infra::inventory::alerts;
use infra::service::dashboards;

/// Written by the lab of Prometheus with `UPDATE_EXPECTED=1`; the versions of what was scraped stand at its head.
const SCRAPED: &str = include_str!("fixtures/measures/bookworm-mariadb.txt");
/// Not given by this lab: names of what MariaDB calls `slave` and `master`, as the exporter 0.17 gives them of MySQL 9.7; of the clock,
/// which a machine of the lab may not ask for, as the node exporter 1.5 gives them outside of it; what a job of the
/// user's writes, and what there is where logs are shipped.
const ELSEWHERE: [&str; 9] = [
    "infra_backup_last_success_seconds",
    "infra_logs_dropped",
    "mysql_global_status_rpl_semi_sync_source_clients",
    "mysql_global_status_rpl_semi_sync_source_status",
    "mysql_slave_status_replica_io_running",
    "mysql_slave_status_replica_sql_running",
    "mysql_slave_status_seconds_behind_source",
    "node_timex_offset_seconds",
    "node_timex_sync_status",
];
/// Only there while something is owed.
const AT_TIMES: &str = "infra_owed_seconds";

/// What is no name of a measure in the expressions that there are; a function that is new to them is added here.
const WORDS: [&str; 22] = [
    "sum",
    "rate",
    "increase",
    "by",
    "on",
    "and",
    "or",
    "unless",
    "min",
    "max",
    "avg",
    "count",
    "absent",
    "abs",
    "time",
    "vector",
    "predict_linear",
    "offset",
    "bool",
    "without",
    "avg_over_time",
    "clamp_min",
];

/// The names of measures of an expression: its words, but for labels, texts, times and `PromQL`'s own.
fn names(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let (mut depth, mut quoted) = (0, false);
    for c in expression.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    // What stands behind these in brackets are labels.
    for word in ["by", "on", "without"] {
        let (mut rest, mut kept) = (bare.as_str(), String::new());
        while let Some((before, after)) = rest.split_once(&format!("{word} (")) {
            kept += before;
            rest = after.split_once(')').unwrap().1;
        }
        bare = kept + rest;
    }
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '$');
    let all = bare.split(|c| !word(c)).filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()));
    all.filter(|word| !WORDS.contains(word) && !matches!(*word, "5m" | "1h")).map(ToOwned::to_owned).collect()
}

#[test]
fn the_reader_of_expressions_reads() {
    let read = |text: &str| names(text).into_iter().collect::<Vec<_>>();
    assert_eq!(
        read("sum by (host) (rate(a_total{x=\"y z\"}[5m])) / b > $limit and on (c) d == 0"),
        ["a_total", "b", "d"]
    );
    assert_eq!(read("absent(up{job=\"site\"})"), ["up"]);
}

#[test]
fn every_measure_that_is_asked_for_was_scraped() {
    let mut there: BTreeSet<&str> = SCRAPED.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(there.len() > 500);
    there.extend(ELSEWHERE);
    let script = include_str!("../templates/agent/measures.sh");
    assert!(script.contains(AT_TIMES));
    there.insert(AT_TIMES);
    let boards = dashboards::table().unwrap();
    let panels = boards.iter().flat_map(|board| board.panels.iter().map(move |panel| (&board.title, panel)));
    let shown =
        panels.flat_map(|(board, panel)| panel.queries.values().map(move |query| (board.clone(), query.clone())));
    let table = alerts::table().unwrap();
    let alerted = table.alerts.iter().map(|alert| (alert.name.clone(), alert.prometheus.clone()));
    let (mut asked, mut missing) = (0, Vec::new());
    for (place, query) in shown.chain(alerted) {
        let names = names(&query);
        assert!(!names.is_empty(), "{place}: {query}");
        asked += names.len();
        missing.extend(
            names.into_iter().filter(|name| !there.contains(name.as_str())).map(|name| format!("{place}: {name}")),
        );
    }
    assert!(asked > 60, "{asked}");
    assert!(missing.is_empty(), "{missing:#?}");
}

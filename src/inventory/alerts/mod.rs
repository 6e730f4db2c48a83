//! What somebody is woken or told for: the one table of alerts (`table.yml`). What each alert means, its limits and the cases that
//! hold it to its word stand there; takes a [`Site`], gives the alerts that it needs, with the limits of its own that it gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::base::diagnostic::Diagnostic;
use crate::inventory::read::{duration, shown};
use crate::inventory::site::{Role, Site, Tuning};

const TABLE: &str = include_str!("table.yml");

/// The alerts and the limits that their queries name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// By name; the unit is part of the name.
    pub limits: BTreeMap<String, f64>,
    /// In the order in which a person reads them.
    pub alerts: Vec<Alert>,
}

/// One thing that somebody is woken or told for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name.
    #[serde(rename = "alert")]
    pub name: String,
    /// What an inventory must have for it.
    pub needs: Needs,
    /// How bad it is.
    pub severity: Severity,
    /// How long it must hold.
    #[serde(rename = "for", deserialize_with = "time")]
    pub holds: Duration,
    /// An expression that gives one sample for each thing that is wrong.
    pub prometheus: String,
    /// What is wrong, in words; `{{ $labels.host }}` is a label of the sample.
    pub says: String,
    /// What to type or to look at first, written as `says`.
    pub next: String,
    /// The same for Sumo Logic.
    pub sumologic: Monitor,
    /// What must fire, and what must not.
    pub cases: Vec<Case>,
}

/// What an inventory must have for an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Needs {
    /// Nothing: it is about every host.
    Anything,
    /// A public site.
    Site,
    /// A load balancer.
    Lb,
    /// A database.
    Database,
    /// A database of more than one host.
    Replicas,
}

impl Alert {
    /// How long it must hold, as the inventory and Prometheus write it.
    pub fn hold(&self) -> String {
        shown(self.holds)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody gets up.
    Page,
    /// Somebody looks today.
    Ticket,
}

impl Severity {
    /// As the label `severity` has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
        }
    }
}

/// An alert as a monitor of Sumo Logic. Rows of a query are called A, B, … there, and the last one counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Monitor {
    /// It is wrong when the last row is above the bound.
    Above {
        /// The rows.
        queries: Vec<String>,
        /// The bound.
        above: Bound,
    },
    /// It is wrong when the last row is below the bound.
    Below {
        /// The rows.
        queries: Vec<String>,
        /// The bound.
        below: Bound,
    },
    /// It is wrong when there are no data.
    Missing {
        /// The rows.
        queries: Vec<String>,
        /// Always true.
        missing: bool,
    },
    /// There is no such monitor.
    Not {
        /// Why not, and what to do instead.
        not: String,
    },
}

/// A number, or a limit by its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// The number.
    Number(f64),
    /// `$name`.
    Limit(String),
}

/// Series over time, and what fires then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is, in words.
    pub is: String,
    /// By series, values in promtool's notation, one a minute.
    pub series: BTreeMap<String, String>,
    /// Minutes from the first value to the question.
    pub after: u32,
    /// The labels of what fires then, without `severity`.
    pub fires: Vec<BTreeMap<String, String>>,
}

/// The whole table, as the program carries it.
///
/// # Errors
/// A table that does not read, which a test excludes.
pub fn table() -> Result<Table, Diagnostic> {
    serde_yaml::from_str(TABLE).map_err(|e| Diagnostic::error(format!("the table of alerts does not read: {e}")))
}

impl Table {
    /// Only what this infrastructure needs, as its inventory wants it. Cases hold for the table's own limits: what has others has none.
    #[must_use]
    pub fn of(mut self, site: &Site) -> Self {
        self.alerts.retain(|alert| alert.needs.met_by(site));
        let wanted = site.monitoring.iter().flat_map(|monitoring| &monitoring.alerts);
        for (name, Tuning { holds, limits }) in wanted {
            self.limits.extend(limits.clone());
            for alert in self.alerts.iter_mut().filter(|alert| alert.name == *name) {
                alert.holds = holds.unwrap_or(alert.holds);
                alert.cases.clear();
            }
        }
        self
    }

    /// The names of the limits that the query of an alert has.
    pub(crate) fn limits_of(&self, alert: &Alert) -> BTreeSet<&str> {
        let words = alert.prometheus.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '$' | '_'));
        let named: BTreeSet<&str> = words.filter_map(|word| word.strip_prefix('$')).collect();
        self.limits.keys().map(String::as_str).filter(|limit| named.contains(limit)).collect()
    }

    /// Replaces limits by name in a query.
    pub fn filled(&self, query: &str) -> String {
        // Longest first: no name stands for the beginning of another one.
        let mut limits: Vec<_> = self.limits.iter().collect();
        limits.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        limits
            .iter()
            .fold(query.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), &value.to_string()))
    }
}

impl Needs {
    fn met_by(self, site: &Site) -> bool {
        let count = |role| site.with_role(role).count();
        match self {
            Self::Anything => true,
            Self::Site => !site.sites.is_empty() && count(Role::Lb) > 0,
            Self::Lb => count(Role::Lb) > 0,
            Self::Database => site.database.is_some() && count(Role::Db) > 0,
            Self::Replicas => site.database.is_some() && count(Role::Db) > 1,
        }
    }
}

/// As the inventory writes it.
fn time<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(value)?;
    duration(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_has_a_case_that_fires_and_one_that_does_not() {
        for alert in table().unwrap().alerts {
            let fires = |yes: bool| alert.cases.iter().any(|case| case.fires.is_empty() != yes);
            assert!(fires(true) && fires(false), "{}", alert.name);
        }
    }

    #[test]
    fn names_and_durations_are_what_the_formats_take() {
        let table = table().unwrap();
        let mut names: Vec<_> = table.alerts.iter().map(|alert| alert.name.as_str()).collect();
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric())));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), table.alerts.len());
    }

    #[test]
    fn every_limit_is_used_and_every_name_is_a_limit() {
        let table = table().unwrap();
        let mut text = String::new();
        for alert in &table.alerts {
            text += &alert.prometheus;
            text += " ";
            assert!(!table.filled(&alert.prometheus).contains('$'), "{}", alert.name);
            if let Monitor::Above { above: Bound::Limit(limit), .. }
            | Monitor::Below { below: Bound::Limit(limit), .. } = &alert.sumologic
            {
                assert!(!table.filled(limit).contains('$'), "{}: {limit}", alert.name);
            }
        }
        for limit in table.limits.keys() {
            assert!(text.contains(&format!("${limit}")), "{limit}");
        }
    }
}

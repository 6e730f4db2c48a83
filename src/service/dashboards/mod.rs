//! What a person looks at: takes the one table of dashboards (`table.yml`), gives each as a file that Grafana imports.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::base::diagnostic::Diagnostic;

const TABLE: &str = include_str!("table.yml");

/// Grafana's grid is 24 wide; two panels stand in a row.
const WIDTH: usize = 12;
const HEIGHT: usize = 8;
/// The schema of dashboards of Grafana 10 and later, which read older ones, too.
const SCHEMA: u32 = 38;

/// A page of panels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// Its title.
    #[serde(rename = "dashboard")]
    pub title: String,
    /// From left to right, from top to bottom.
    pub panels: Vec<Panel>,
}

/// Lines over time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// What it shows, in words.
    #[serde(rename = "panel")]
    pub title: String,
    /// As Grafana calls it.
    pub unit: String,
    /// Expressions of `PromQL` by legend.
    pub queries: BTreeMap<String, String>,
}

/// All dashboards, as the program carries them.
///
/// # Errors
/// A table that does not read, which a test excludes.
pub fn table() -> Result<Vec<Dashboard>, Diagnostic> {
    serde_yaml::from_str(TABLE).map_err(|e| Diagnostic::error(format!("the table of dashboards does not read: {e}")))
}

impl Dashboard {
    /// The name of its file.
    pub fn file(&self) -> String {
        format!("infra-dashboard-{}.json", self.title.replace(' ', "-"))
    }

    /// The file, of the infrastructure `site`. Who looks chooses the Prometheus that is asked.
    pub fn json(&self, site: &str) -> Value {
        let source = json!({ "type": "prometheus", "uid": "${datasource}" });
        let panels = self.panels.iter().enumerate().map(|(n, panel)| {
            let queries = panel.queries.iter().zip('A'..='Z').map(|((legend, query), row)| {
                json!({ "refId": row.to_string(), "datasource": source, "expr": query, "legendFormat": legend })
            });
            json!({
                "id": n + 1,
                "type": "timeseries",
                "title": panel.title,
                "datasource": source,
                "gridPos": { "h": HEIGHT, "w": WIDTH, "x": n % 2 * WIDTH, "y": n / 2 * HEIGHT },
                "fieldConfig": { "defaults": { "unit": panel.unit }, "overrides": [] },
                "targets": queries.collect::<Vec<_>>(),
            })
        });
        json!({
            "uid": format!("infra-{site}-{}", self.title.replace(' ', "-")),
            "title": format!("{site}: {}", self.title),
            "tags": ["infra", site],
            "schemaVersion": SCHEMA,
            "editable": true,
            "refresh": "30s",
            "time": { "from": "now-3h", "to": "now" },
            "templating": { "list": [{ "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus" }] },
            "panels": panels.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::table;

    #[test]
    fn each_dashboard_is_a_file_of_its_own_with_all_of_its_queries() {
        let all = table().unwrap();
        let files: BTreeSet<String> = all.iter().map(super::Dashboard::file).collect();
        assert_eq!(files.len(), all.len());
        for dashboard in all {
            let json = dashboard.json("shop");
            assert!(json["uid"].as_str().unwrap().len() <= 40, "Grafana takes no longer one: {}", json["uid"]);
            let panels = json["panels"].as_array().unwrap();
            assert_eq!(panels.len(), dashboard.panels.len());
            for (panel, wanted) in panels.iter().zip(&dashboard.panels) {
                assert_eq!(panel["targets"].as_array().unwrap().len(), wanted.queries.len());
                assert!(!wanted.queries.is_empty(), "{}", wanted.title);
            }
            // No panel lies on another.
            let places: BTreeSet<String> = panels.iter().map(|panel| panel["gridPos"].to_string()).collect();
            assert_eq!(places.len(), panels.len());
        }
    }
}

//! `alerts`: writes what Prometheus or Sumo Logic is to alert about, for this inventory, as files to load or to import.

use std::path::PathBuf;

use super::exit;
use super::global::Inventory;
use super::stages;
use super::stop::{Done, Stop};
use crate::base::fsx;
use crate::inventory::alerts::table;
use crate::inventory::site::{MonitoringService, Site};
use crate::report::Reporter;
use crate::report::text::count;
use crate::service::alerts::{prometheus, sumologic};

/// `alerts`.
#[derive(Debug, Clone, clap::Args)]
pub struct Alerts {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// For whom [default: the inventory's `monitoring.service`, else prometheus]
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub format: Option<Format>,
    /// The folder to write to; infra makes it where it does not exist
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A file of rules, and a file of cases for `promtool test rules`
    Prometheus,
    /// A folder of monitors, for the import of the page «Monitors»
    Sumologic,
}

pub(super) fn run(alerts: &Alerts, reporter: &Reporter) -> Done {
    let site = stages::site(&alerts.inventory.inventory, reporter)?;
    let name = site.name.as_str();
    let table = table()?.of(&site);
    let mut unsaid = Vec::new();
    let files = match alerts.format.unwrap_or_else(|| usual(&site)) {
        Format::Prometheus => {
            vec![(prometheus::RULES, prometheus::rules(&table, name)), (prometheus::CASES, prometheus::cases(&table))]
        }
        Format::Sumologic => {
            unsaid = sumologic::without(&table);
            vec![(sumologic::MONITORS, format!("{:#}\n", sumologic::monitors(&table, name)))]
        }
    };
    if alerts.to.is_file() {
        let message = format!("`{}` is a file, not a folder", alerts.to.display());
        return Err(Stop::Refused(message, vec!["name a folder; infra makes it where it does not exist".into()]));
    }
    fs_err::create_dir_all(&alerts.to)?;
    for (file, text) in &files {
        fsx::write_atomic(&alerts.to.join(file), text.as_bytes(), 0o644)?;
    }
    for (alert, why) in &unsaid {
        reporter.note(&format!("{alert} is not among them: {why}"));
    }
    let names: Vec<&str> = files.iter().map(|(file, _)| *file).collect();
    let written = table.alerts.len() - unsaid.len();
    reporter.note(&format!("{} written to {}: {}", count(written, "alert"), alerts.to.display(), names.join(", ")));
    Ok(exit::DONE)
}

/// What the inventory says already.
fn usual(site: &Site) -> Format {
    match site.monitoring.as_ref().map(|monitoring| monitoring.service) {
        Some(MonitoringService::Sumologic) => Format::Sumologic,
        _ => Format::Prometheus,
    }
}

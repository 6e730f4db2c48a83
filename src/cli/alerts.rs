//! `alerts`: writes what Prometheus or Sumo Logic is to alert about, for this inventory, as files to load or to import; for Prometheus
//! dashboards, too, and what one outside of the inventory scrapes the hosts by.

use std::path::PathBuf;

use time::OffsetDateTime;

use super::exit;
use super::global::Inventory;
use super::stages;
use super::stop::{Done, Stop};
use crate::base::fsx;
use crate::inventory::alerts::{Table, table};
use crate::inventory::site::{Agent, Monitoring, MonitoringService, Site};
use crate::pki;
use crate::report::Reporter;
use crate::report::text::count;
use crate::service::alerts::{prometheus, sumologic};
use crate::service::prometheus::outside::{self, Handed};
use crate::service::{Services, dashboards};

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

pub(super) fn run(alerts: &Alerts, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&alerts.inventory.inventory, reporter)?;
    let table = table()?.of(&site);
    if alerts.to.is_file() {
        let message = format!("`{}` is a file, not a folder", alerts.to.display());
        return Err(Stop::Refused(message, vec!["name a folder; infra makes it where it does not exist".into()]));
    }
    let format = alerts.format.unwrap_or_else(|| usual(&site));
    let (files, notes) = match format {
        Format::Prometheus => for_prometheus(&site, &table, services, reporter)?,
        Format::Sumologic => for_sumologic(&site, &table),
    };
    if format == Format::Sumologic
        && site.monitoring.as_ref().and_then(Monitoring::sends_by) == Some(Agent::OtelcolSumo)
    {
        reporter.note(
            "these monitors are of Telegraf's measures: the collector of `agent: otelcol-sumo` names its own otherwise, so that they see none",
        );
    }
    for Handed { path, text, mode } in &files {
        let path = alerts.to.join(path);
        fs_err::create_dir_all(path.parent().unwrap_or(&alerts.to))?;
        fsx::write_atomic(&path, text.as_bytes(), *mode)?;
    }
    for note in &notes {
        reporter.note(note);
    }
    let written = table.alerts.len() - if format == Format::Sumologic { notes.len() } else { 0 };
    let names: Vec<String> = files.into_iter().map(|file| file.path).collect();
    let words = format!("{} written to {}: {}", count(written, "alert"), alerts.to.display(), names.join(", "));
    reporter.written(&alerts.to, &names, &words)?;
    Ok(exit::DONE)
}

fn public(path: impl Into<String>, text: String) -> Handed {
    Handed { path: path.into(), text, mode: 0o644 }
}

/// Rules, cases and dashboards; for a Prometheus outside its jobs and its certificate, which is made where it is missing or due.
fn for_prometheus(
    site: &Site,
    table: &Table,
    services: Services,
    reporter: &Reporter,
) -> Result<(Vec<Handed>, Vec<String>), Stop> {
    let name = site.name.as_str();
    let mut files = vec![
        public(prometheus::RULES, prometheus::rules(table, name)),
        public(prometheus::CASES, prometheus::cases(table)),
    ];
    for dashboard in dashboards::table()? {
        files.push(public(dashboard.file(), format!("{:#}\n", dashboard.json(name))));
    }
    if site.outside_watcher().is_none() {
        return Ok((files, Vec::new()));
    }
    let issued = pki::ensure(site, &site.state, OffsetDateTime::now_utc())?;
    let templates = stages::templates(services, site, reporter)?;
    let (handed, about) = outside::files(site, &issued.materials, &templates)?;
    files.extend(handed);
    let note = format!(
        "the certificate of the Prometheus outside: {about}; it is made anew when a third of that is left: write the files again then"
    );
    Ok((files, vec![note]))
}

/// One file of monitors, and a word on each alert that is not among them.
fn for_sumologic(site: &Site, table: &Table) -> (Vec<Handed>, Vec<String>) {
    let monitors = format!("{:#}\n", sumologic::monitors(table, site.name.as_str()));
    let unsaid = sumologic::without(table).into_iter().map(|(alert, why)| format!("{alert} is not among them: {why}"));
    (vec![public(sumologic::MONITORS, monitors)], unsaid.collect())
}

/// What the inventory says already.
fn usual(site: &Site) -> Format {
    match site.monitoring.as_ref().map(|monitoring| monitoring.service) {
        Some(MonitoringService::Sumologic) => Format::Sumologic,
        _ => Format::Prometheus,
    }
}

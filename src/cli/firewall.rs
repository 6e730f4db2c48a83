//! `firewall …`: who may talk to whom, as derived, why, and as measured.

use super::args::{Explain, Firewall, Global, Inventory};
use super::{Done, Stop, exit, stages};
use crate::fleet::verify::{self, Finding};
use crate::report::Reporter;
use crate::report::interrupt::Interrupt;
use crate::report::text::count;
use crate::service::firewall::explain::Verdict;
use crate::service::firewall::{explain, flows, matrix};
use crate::service::platform;

pub(super) fn run(firewall: &Firewall, global: &Global, reporter: &Reporter) -> Done {
    match firewall {
        Firewall::Matrix(inventory) => show(inventory, reporter),
        Firewall::Explain(what) => why(what, reporter),
        Firewall::Verify(inventory) => measure(inventory, global, reporter),
    }
}

fn show(inventory: &Inventory, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let matrix = matrix::matrix(&site, &flows::derive(&site));
    if reporter.is_json() {
        reporter.line(&serde_json::to_value(&matrix).map_err(anyhow::Error::from)?)?;
    } else {
        reporter.data(&matrix.to_table(reporter.width()))?;
    }
    Ok(exit::DONE)
}

fn why(what: &Explain, reporter: &Reporter) -> Done {
    let site = stages::site(&what.inventory.inventory, reporter)?;
    let flows = flows::derive(&site);
    let facts = platform::oldest();
    let ends = (what.from.as_str(), what.to.as_str());
    let answer = explain::explain(&site, &facts, &flows, ends, what.port.port, what.port.proto)?;
    if reporter.is_json() {
        reporter.line(&serde_json::to_value(&answer).map_err(anyhow::Error::from)?)?;
    } else {
        reporter.data(&answer.to_string())?;
    }
    Ok(if answer.verdict == Verdict::Denied { exit::FAILED } else { exit::DONE })
}

fn measure(inventory: &Inventory, global: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let hosts = stages::selected(&site, global)?;
    let connector = stages::connector(reporter);
    let measured = reporter.during(&Interrupt::default(), |events| {
        verify::measure(&site, &hosts, &connector, global.parallel.get(), &events)
    });
    if reporter.is_json() {
        reporter.line(&serde_json::to_value(&measured).map_err(anyhow::Error::from)?)?;
    } else {
        let mut text = String::new();
        for finding in &measured.findings {
            text.push_str(&format!("{finding}\n"));
        }
        text.push_str(&format!(
            "{} measured from {}: {}\n",
            count(measured.probes, "connection"),
            count(measured.sources, "place"),
            if measured.findings.is_empty() {
                "exactly what is declared".to_owned()
            } else {
                count(measured.findings.len(), "deviation")
            }
        ));
        reporter.data(&text)?;
    }
    if measured.findings.iter().any(|f| matches!(f, Finding::NoAnswer { .. })) {
        return Err(Stop::Unreachable);
    }
    Ok(if measured.findings.is_empty() { exit::DONE } else { exit::FAILED })
}

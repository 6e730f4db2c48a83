//! `firewall …`: who may talk to whom, as derived, why, and as measured.

use std::str::FromStr;

use clap::Subcommand;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::net::{Invalid, Port};
use crate::base::proto::Proto;
use crate::fleet::measure::{self, Finding};
use crate::report::Reporter;
use crate::report::interrupt::Interrupt;
use crate::report::line::Line;
use crate::report::text::count;
use crate::service::firewall::explain::Verdict;
use crate::service::firewall::{explain, flows, matrix};
use crate::service::platform;

/// `firewall …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Firewall {
    /// The declared flows as a table, sources down, destinations across
    Matrix(Inventory),
    /// Whether FROM may open PORT on TO: by which flow, from which inventory line, by which rule
    Explain(Explain),
    /// Measure every pair of hosts and compare with what is declared
    Verify(Inventory),
}

/// `firewall explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Explain {
    /// A host, a role, an address, or `internet`
    pub from: String,
    /// A host or a role
    pub to: String,
    /// A port, `443` or `53/udp`, or a protocol that has none, `vrrp`
    pub port: PortProto,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
}

/// A port with its protocol, TCP where nothing is said; or a protocol that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortProto {
    /// The port.
    pub port: Option<Port>,
    /// The protocol.
    pub proto: Proto,
}

impl FromStr for PortProto {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (port, proto) = match text.split_once('/') {
            Some((port, "tcp")) => (port, Proto::Tcp),
            Some((port, "udp")) => (port, Proto::Udp),
            // By its number alone a protocol could not be told from a port.
            Some(("", number)) => return Ok(Self { port: None, proto: number.parse()? }),
            Some(_) => return Err(Invalid::new("has ports with `/tcp` and `/udp` only")),
            None if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                return Ok(Self { port: None, proto: text.parse()? });
            }
            None => (text, Proto::Tcp),
        };
        Ok(Self { port: Some(port.parse()?), proto })
    }
}

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
        reporter.line(&Line::Matrix(&matrix))?;
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
        reporter.line(&Line::Explanation(&answer))?;
    } else {
        reporter.data(&answer.to_string())?;
    }
    Ok(if answer.verdict == Verdict::Denied { exit::FAILED } else { exit::DONE })
}

fn measure(inventory: &Inventory, global: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&inventory.inventory, reporter)?;
    let hosts = stages::selected(&site, global)?;
    let connector = stages::connector((reporter, global), &site, &hosts);
    let measured = reporter
        .during(&Interrupt::default(), |events| measure::measure(&site, &hosts, &connector, global.at_once(), &events));
    if reporter.is_json() {
        reporter.line(&Line::Measured(&measured))?;
    } else {
        let mut text = String::new();
        for finding in &measured.findings {
            text.push_str(&format!("{finding}\n"));
        }
        text.push_str(&format!(
            "{} measured from {}: {}\n",
            count(measured.attempts, "connection"),
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

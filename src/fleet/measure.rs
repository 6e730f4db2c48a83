//! The firewall as measured: takes the site and connections, lets every host try every declared and undeclared port of
//! every other, tries them from here too, and gives what came out other than declared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::{HostName, Port};
use crate::fleet::event::Event;
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::reach::{self, PATIENCE, local_address};
use crate::host::report;
use crate::host::transport::Transport;
use crate::host::wire;
use crate::inventory::site::Site;
use crate::plan::ruleset::Ruleset;
use crate::service::firewall::attempts::{
    Attempt, Deviation, Reach, Source, attempt_script, attempts_at, attempts_from, compare, more_ports, parse_reaches,
};
use crate::service::firewall::flows::{self, Flow};

/// Something that is not as declared, or could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "finding")]
pub enum Finding {
    /// A connection that came out other than declared, twice.
    Deviation(Deviation),
    /// A host from which nothing could be tried.
    NoAnswer {
        /// The host.
        host: HostName,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { host, reason } => write!(f, "! {host}: not measured: {reason}"),
            Self::Deviation(Deviation { attempt, answer }) => {
                let from = match &attempt.from {
                    Source::Host(name) => name.to_string(),
                    Source::Outside(address) => format!("here ({address})"),
                };
                let way = format!("{from} -> {} {} {}/{}", attempt.to, attempt.address, attempt.port, attempt.proto);
                let came = match answer {
                    Some(Reach::Open) => "it connects",
                    Some(Reach::Refused) => "it gets through (nobody listens)",
                    Some(Reach::Drop) => "it is dropped",
                    Some(Reach::Unreachable) => "there is no way to it",
                    None => "it was not measured",
                };
                write!(f, "! {way}: declared {}, but {came}", if attempt.expected { "open" } else { "closed" })
            }
        }
    }
}

/// What [`measure`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Measured {
    /// Connections that were tried.
    #[serde(rename = "probes")]
    pub attempts: usize,
    /// Places from which they were tried.
    pub sources: usize,
    /// What is not as declared; empty is what one wants.
    pub findings: Vec<Finding>,
}

/// Measures from every host of `hosts` and from this machine, to all hosts of the site.
pub fn measure(
    site: &Site,
    hosts: &BTreeSet<HostName>,
    connector: &dyn Connector,
    parallel: usize,
    events: &Sender<Event>,
) -> Measured {
    let flows = flows::derive(site);
    let _ = events.send(Event::Observing { hosts: hosts.len() });
    let sources: Vec<&HostName> = hosts.iter().collect();
    let mut results = run::each(sources, parallel, |name| {
        let found = from_host(site, &flows, name, connector);
        let error = found.as_ref().err().cloned();
        let _ = events.send(Event::Observed { host: name.clone(), error });
        found.unwrap_or_else(|reason| (0, vec![Finding::NoAnswer { host: name.clone(), reason }]))
    });
    results.extend(ours(site).into_iter().map(|address| from_here(site, &flows, address, parallel)));
    let mut measured = Measured { sources: results.len(), ..Measured::default() };
    for (attempts, findings) in results {
        measured.attempts += attempts;
        measured.findings.extend(findings);
    }
    measured
}

fn from_host(
    site: &Site,
    flows: &[Flow],
    name: &HostName,
    connector: &dyn Connector,
) -> Result<(usize, Vec<Finding>), String> {
    let host = site.hosts.get(name).ok_or("it is not in the inventory")?;
    let mut transport = connector.connect(host).map_err(|e| e.to_string())?;
    let source = Source::Host(name.clone());
    let mut attempts = attempts_from(site, flows, &source);
    attempts.extend(attempts_at(site, flows, &source, &more_ports(site, flows, &loaded(transport.as_mut())?)));
    let mut ask = |attempts: &[Attempt]| -> Result<BTreeMap<(IpAddr, Port), Reach>, String> {
        let targets: Vec<(IpAddr, Port)> = attempts.iter().map(|a| (a.address, a.port)).collect();
        let limit = Duration::from_secs(30) + PATIENCE * u32::try_from(targets.len() / 400).unwrap_or(600);
        // Each answer is a line with an address and a port.
        let answer = (1 << 20) + 128 * targets.len();
        let text = format!(
            "reached=$(\n{})\nended=$?\n[ $ended = 0 ] || exit $ended\nemit reached \"$reached\"",
            attempt_script(&targets, PATIENCE)
        );
        let script = wire::question("measure", &text).within(limit).up_to(answer);
        let output = transport.run(&script, b"").map_err(|e| e.to_string())?;
        let told = wire::pairs(&output.stdout);
        if !told.is_whole() {
            let said = report::phrase(&String::from_utf8_lossy(&output.stderr));
            return Err(format!("the measuring script ended with {}: {said}", output.status));
        }
        Ok(parse_reaches(told.last("reached").unwrap_or_default()))
    };
    let first = compare(&attempts, &ask(&attempts)?);
    Ok((attempts.len(), confirmed(first, |again| ask(again))?))
}

/// The rules that a host has loaded last; none where it has none of ours.
fn loaded(transport: &mut dyn Transport) -> Result<Ruleset, String> {
    let text = "rules=\"$ROOT/var/lib/infra/firewall.rules\"\n! plain \"$rules\" || pour rules cat \"$rules\"";
    let output = transport.run(&wire::question("read the loaded rules", text), b"").map_err(|e| e.to_string())?;
    Ruleset::from_text(wire::pairs(&output.stdout).last("rules").unwrap_or_default())
        .map_err(|e| format!("its loaded rules do not read: {e}"))
}

/// A single lost packet is no deviation: what came out other than declared is tried once more.
fn confirmed(
    first: Vec<Deviation>,
    mut ask: impl FnMut(&[Attempt]) -> Result<BTreeMap<(IpAddr, Port), Reach>, String>,
) -> Result<Vec<Finding>, String> {
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let attempts: Vec<Attempt> = first.into_iter().map(|d| d.attempt).collect();
    Ok(compare(&attempts, &ask(&attempts)?).into_iter().map(Finding::Deviation).collect())
}

/// The addresses by which this machine reaches the hosts, one for each family; none where a jump host stands between.
fn ours(site: &Site) -> BTreeSet<IpAddr> {
    let direct = site.hosts.values().filter(|h| h.ssh.jump.is_none() && h.ssh.address.is_none());
    let addresses = direct.flat_map(|h| h.public.iter().chain(&h.addresses));
    addresses.filter_map(|to| local_address(*to)).collect()
}

fn from_here(site: &Site, flows: &[Flow], address: IpAddr, parallel: usize) -> (usize, Vec<Finding>) {
    let attempts = attempts_from(site, flows, &Source::Outside(address));
    let ask = |attempts: &[Attempt]| {
        let reaches = run::each(attempts.iter().collect(), parallel.max(64), |attempt: &Attempt| {
            ((attempt.address, attempt.port), reach::connect(attempt.address, attempt.port))
        });
        Ok(reaches.into_iter().collect())
    };
    let findings = ask(&attempts).and_then(|seen| confirmed(compare(&attempts, &seen), ask)).unwrap_or_default();
    (attempts.len(), findings)
}

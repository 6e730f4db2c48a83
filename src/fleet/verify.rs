//! The firewall as measured: takes the site and connections, lets every host try every declared and undeclared port of
//! every other, tries them from here too, and gives what came out other than declared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

use serde::Serialize;

use crate::base::net::{HostName, Port};
use crate::fleet::event::Event;
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::transport::Script;
use crate::inventory::site::Site;
use crate::service::firewall::flows::{self, Flow};
use crate::service::firewall::verify::{
    Answer, Deviation, Probe, Source, compare, parse_answers, probe_script, probes_from,
};

/// How long silence is listened to.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something that is not as declared, or could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
            Self::Deviation(Deviation { probe, answer }) => {
                let from = match &probe.from {
                    Source::Host(name) => name.to_string(),
                    Source::Outside(address) => format!("here ({address})"),
                };
                let way = format!("{from} -> {} {} {}/{}", probe.to, probe.address, probe.port, probe.proto);
                let came = match answer {
                    Some(Answer::Open) => "it connects",
                    Some(Answer::Refused) => "it gets through (nobody listens)",
                    Some(Answer::Drop) => "it is dropped",
                    Some(Answer::Unreachable) => "there is no way to it",
                    None => "it was not measured",
                };
                write!(f, "! {way}: declared {}, but {came}", if probe.expected { "open" } else { "closed" })
            }
        }
    }
}

/// What [`measure`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Measured {
    /// Connections that were tried.
    pub probes: usize,
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
    for (probes, findings) in results {
        measured.probes += probes;
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
    let probes = probes_from(site, flows, &Source::Host(name.clone()));
    let mut ask = |probes: &[Probe]| -> Result<BTreeMap<(IpAddr, Port), Answer>, String> {
        let targets: Vec<(IpAddr, Port)> = probes.iter().map(|p| (p.address, p.port)).collect();
        let limit = Duration::from_secs(30) + PATIENCE * u32::try_from(targets.len() / 400).unwrap_or(600);
        let script = Script::new("measure", probe_script(&targets, PATIENCE)).within(limit);
        let output = transport.run(&script, b"").map_err(|e| e.to_string())?;
        if !output.ok() {
            let said: String =
                String::from_utf8_lossy(&output.stderr).chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(format!("the measuring script ended with {}: {said}", output.status));
        }
        Ok(parse_answers(&String::from_utf8_lossy(&output.stdout)))
    };
    let first = compare(&probes, &ask(&probes)?);
    Ok((probes.len(), confirmed(first, |again| ask(again))?))
}

/// A single lost packet is no deviation: what came out other than declared is tried once more.
fn confirmed(
    first: Vec<Deviation>,
    mut ask: impl FnMut(&[Probe]) -> Result<BTreeMap<(IpAddr, Port), Answer>, String>,
) -> Result<Vec<Finding>, String> {
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let probes: Vec<Probe> = first.into_iter().map(|d| d.probe).collect();
    Ok(compare(&probes, &ask(&probes)?).into_iter().map(Finding::Deviation).collect())
}

/// The addresses by which this machine reaches the hosts, one for each family; none where a jump host stands between.
fn ours(site: &Site) -> BTreeSet<IpAddr> {
    let direct = site.hosts.values().filter(|h| h.ssh.jump.is_none() && h.ssh.address.is_none());
    let addresses = direct.flat_map(|h| h.public.iter().chain(&h.addresses));
    addresses.filter_map(|to| local_address(*to)).collect()
}

/// The source address that the kernel would choose; no packet is sent.
pub fn local_address(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn from_here(site: &Site, flows: &[Flow], address: IpAddr, parallel: usize) -> (usize, Vec<Finding>) {
    let probes = probes_from(site, flows, &Source::Outside(address));
    let ask = |probes: &[Probe]| {
        let answers = run::each(probes.iter().collect(), parallel.max(64), |probe: &Probe| {
            ((probe.address, probe.port), connect(SocketAddr::new(probe.address, probe.port.get())))
        });
        Ok(answers.into_iter().collect())
    };
    let findings = ask(&probes).and_then(|seen| confirmed(compare(&probes, &seen), ask)).unwrap_or_default();
    (probes.len(), findings)
}

fn connect(to: SocketAddr) -> Answer {
    match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(_) => Answer::Open,
        Err(e) => match e.kind() {
            std::io::ErrorKind::ConnectionRefused => Answer::Refused,
            std::io::ErrorKind::TimedOut => Answer::Drop,
            _ => Answer::Unreachable,
        },
    }
}

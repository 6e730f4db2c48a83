//! The flows as measured: takes a [`Site`], gives the connections to try and what each must come to, the script that tries
//! them on one host, and the deviations.
//!
//! How «allowed» is told from «denied» without opening listeners on live hosts: a denied connection to a host is dropped,
//! and a denied one from a host would be refused by its own kernel, but the attempt's sockets carry a mark that makes that
//! a drop too. So an answer of any kind, a handshake or a refusal, has come from the other host's kernel, through both
//! firewalls: allowed. Silence is denied. The attempt opens its sockets as an ordinary user, because root may fetch packages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::net::{Cidr, HostName, Port};
use crate::base::proto::Proto;
use crate::inventory::site::{Host, Party, Site};
use crate::plan::ruleset::{Direction, Ruleset};

use super::ATTEMPT_MARK;
use super::flows::{Flow, SSH, is_host};

/// Who tries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A host of the inventory.
    Host(HostName),
    /// This address that is no host's: the controller, or a client on the internet.
    Outside(IpAddr),
}

/// One connection to try, over TCP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// From where.
    pub from: Source,
    /// To which host.
    pub to: HostName,
    /// At which of its addresses.
    pub address: IpAddr,
    /// At which port.
    pub port: Port,
    /// Always TCP now: silence is UDP's answer to everything.
    pub proto: Proto,
    /// Whether it must get through.
    pub expected: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Connected.
    Open,
    /// Refused by the other host: the way is open, nobody listens.
    Refused,
    /// Silence.
    Drop,
    /// No way there: no route, nobody with that address, or forbidden on this side.
    Unreachable,
}

impl Reach {
    /// Whether the firewalls let the connection through.
    pub fn is_through(self) -> bool {
        matches!(self, Self::Open | Self::Refused)
    }
}

/// An attempt that came out other than declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Deviation {
    /// The attempt.
    #[serde(rename = "probe")]
    pub attempt: Attempt,
    /// What came of it; `None` if nothing was measured.
    pub answer: Option<Reach>,
}

/// Every TCP port that appears in the inventory: declared flows, SSH, and the programs' ports, which must stay on loopback.
pub fn ports(site: &Site, flows: &[Flow]) -> BTreeSet<Port> {
    let mut ports: BTreeSet<Port> = flows.iter().filter(|f| f.proto == Proto::Tcp).filter_map(|f| f.port).collect();
    ports.extend([site.ports.web, site.ports.app]);
    ports.extend(site.programs().map(|(_, program)| program.port));
    ports.extend(Port::try_from(u64::from(SSH)));
    ports
}

/// Every ordered pair of hosts, every port of the inventory, both families where both hosts have them.
pub fn plan_attempts(site: &Site, flows: &[Flow]) -> Vec<Attempt> {
    site.hosts.values().flat_map(|host| attempts_from(site, flows, &Source::Host(host.name.clone()))).collect()
}

/// The attempts of one source. From outside, a host with public addresses is tried at those, others at their inside ones.
pub fn attempts_from(site: &Site, flows: &[Flow], source: &Source) -> Vec<Attempt> {
    attempts_at(site, flows, source, &ports(site, flows))
}

/// The TCP ports to which a host's loaded rules let it out, beside those of [`ports`]: what a run keeps open, or what is drift.
pub fn more_ports(site: &Site, flows: &[Flow], loaded: &Ruleset) -> BTreeSet<Port> {
    let known = ports(site, flows);
    let out = loaded.rules.iter().filter(|rule| rule.direction == Direction::Out && rule.proto == Proto::Tcp);
    out.filter_map(|rule| rule.port).filter(|port| !known.contains(port)).collect()
}

/// As [`attempts_from`], at these ports.
pub fn attempts_at(site: &Site, flows: &[Flow], source: &Source, ports: &BTreeSet<Port>) -> Vec<Attempt> {
    let own = match source {
        Source::Host(name) => site.hosts.get(name),
        Source::Outside(_) => None,
    };
    let mut attempts = Vec::new();
    for target in site.hosts.values().filter(|t| own.is_none_or(|o| o.name != t.name)) {
        let addresses = match source {
            Source::Outside(_) if !target.public.is_empty() => &target.public,
            _ => &target.addresses,
        };
        for address in addresses {
            let origin = match (own, source) {
                (Some(host), _) => host.address(address.is_ipv4()),
                (None, Source::Outside(ip)) => Some(*ip).filter(|ip| ip.is_ipv4() == address.is_ipv4()),
                (None, Source::Host(_)) => None,
            };
            let Some(origin) = origin else { continue };
            for port in ports {
                attempts.push(Attempt {
                    from: source.clone(),
                    to: target.name.clone(),
                    address: *address,
                    port: *port,
                    proto: Proto::Tcp,
                    expected: declared(site, flows, own, origin, target, *address, *port),
                });
            }
        }
    }
    attempts
}

/// Whether the flows declare a TCP connection: straight from the flows, not by way of the rules that are put to the test.
fn declared(
    site: &Site,
    flows: &[Flow],
    source: Option<&Host>,
    origin: IpAddr,
    target: &Host,
    address: IpAddr,
    port: Port,
) -> bool {
    if site.firewall.block.iter().any(|(net, _)| net.contains(origin) || source.is_some() && net.contains(address)) {
        return false;
    }
    let here = |flow: &&Flow| {
        flow.proto == Proto::Tcp && flow.port == Some(port) && flow.through.is_none() && flow.uids.is_empty()
    };
    let admitted = flows.iter().filter(here).any(|flow| {
        let from = match &flow.from {
            Party::Internet => true,
            Party::Net(net) => net.contains(origin),
            party => source.is_some_and(|host| is_host(party, host)),
        };
        from && is_host(&flow.to, target)
    });
    let let_out = source.is_none_or(|host| {
        flows.iter().filter(here).filter(|flow| is_host(&flow.from, host)).any(|flow| match &flow.to {
            Party::Internet => true,
            Party::Net(net) => net.contains(address) || *net == Cidr::from(address),
            party => is_host(party, target),
        })
    });
    admitted && let_out
}

const SCRIPT: &str = include_str!("../../../templates/firewall/attempt.pl");
/// A user whom no flow names: `nobody`.
const ORDINARY: u32 = 65534;

/// The script that tries `targets` in parallel, as root on one host: perl-base and nothing else, no more than `patience`
/// for every 400 of them. A line each on stdout, for [`parse_reaches`].
pub fn attempt_script(targets: &[(IpAddr, Port)], patience: Duration) -> String {
    attempt_script_as(ORDINARY, targets, patience)
}

/// As [`attempt_script`], by the user of this number.
pub fn attempt_script_as(uid: u32, targets: &[(IpAddr, Port)], patience: Duration) -> String {
    let lines: Vec<String> = targets.iter().map(|(address, port)| format!("{address} {port}")).collect();
    let list = if lines.is_empty() { String::new() } else { lines.join("\n") + "\n" };
    format!(
        "exec 3<<'END_OF_TARGETS'\n{list}END_OF_TARGETS\nexec perl - {ATTEMPT_MARK} {} 400 {uid} <<'END_OF_ATTEMPT'\n{SCRIPT}END_OF_ATTEMPT\n",
        patience.as_millis()
    )
}

/// Reads the answers of [`attempt_script`]; what does not read is left out, and then counts as not measured.
pub fn parse_reaches(text: &str) -> BTreeMap<(IpAddr, Port), Reach> {
    let read = |line: &str| {
        let [address, port, word] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        let answer = match word {
            "OPEN" => Reach::Open,
            "REFUSED" => Reach::Refused,
            "DROP" => Reach::Drop,
            "UNREACHABLE" => Reach::Unreachable,
            _ => return None,
        };
        Some(((address.parse().ok()?, port.parse().ok()?), answer))
    };
    text.lines().filter_map(read).collect()
}

/// What came out other than declared, for the attempts of one source. Under load a single packet may be lost: a deviation
/// should be measured a second time before it is told.
pub fn compare(expected: &[Attempt], measured: &BTreeMap<(IpAddr, Port), Reach>) -> Vec<Deviation> {
    expected
        .iter()
        .map(|attempt| Deviation {
            attempt: attempt.clone(),
            answer: measured.get(&(attempt.address, attempt.port)).copied(),
        })
        .filter(|found| found.answer.is_none_or(|answer| answer.is_through() != found.attempt.expected))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_and_deviations_show() {
        let measured =
            parse_reaches("10.0.0.1 443 OPEN\n10.0.0.1 80 REFUSED\nfd00::1 22 DROP\ngarbage\n10.0.0.1 x OPEN\n");
        assert_eq!(measured.len(), 3);
        let attempt = |address: &str, port: u64, expected| Attempt {
            from: Source::Outside("192.0.2.1".parse().unwrap()),
            to: "a".parse().unwrap(),
            address: address.parse().unwrap(),
            port: port.try_into().unwrap(),
            proto: Proto::Tcp,
            expected,
        };
        let attempts = [
            attempt("10.0.0.1", 443, true),
            attempt("10.0.0.1", 80, false),
            attempt("fd00::1", 22, true),
            attempt("fd00::1", 23, false),
        ];
        let reaches: Vec<Option<Reach>> = compare(&attempts, &measured).into_iter().map(|d| d.answer).collect();
        assert_eq!(reaches, [Some(Reach::Refused), Some(Reach::Drop), None]);
    }
}

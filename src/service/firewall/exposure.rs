//! What the first firewall of a host would close: takes who listens there and who is connected, and the rules that come; gives
//! what no rule lets through, each with the lines of `firewall.allow` that would keep it. Pure but for the script's text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::base::net::{Cidr, HostName, Port};
use crate::base::proto::Proto;
use crate::inventory::site::{Host, Party, Role, Site};
use crate::plan::ruleset::{Direction, Ruleset};
use crate::service::firewall::admit::{Decision, decide};

/// sh text that prints what [`read`] reads. It looks only, once in the life of a host.
pub const SCRIPT: &str = include_str!("../../../templates/firewall/exposure.sh");

/// Most `allow` lines that are proposed for one thing that closes.
const LINES: usize = 4;

/// DHCP of both families (RFC 2131 §4.1, RFC 8415 §7.2): the rules have these ports open by themselves.
const LEASES: [u16; 4] = [67, 68, 546, 547];

/// A socket of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// A program waits there for others.
    Listens(End),
    /// Another host is connected to a program that waits.
    In(End, IpAddr),
    /// A program of the host is connected to a port of another.
    Out(End, IpAddr),
    /// A port that is forwarded to a container or another host.
    Translated(End),
}

/// A program's end of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// TCP or UDP.
    pub proto: Proto,
    /// The address of the host; `None`: all that it has.
    pub address: Option<IpAddr>,
    /// The port that is asked for: the host's own, for [`Socket::Out`] the other side's.
    pub port: Port,
    /// The user; `None` where the program has ended.
    pub uid: Option<u32>,
    /// The program's name; `None` where the kernel has no process for it.
    pub program: Option<String>,
}

/// What a host answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The sockets that other hosts can meet.
    pub sockets: BTreeSet<Socket>,
    /// Why that is not all, a sentence each.
    pub gaps: Vec<String>,
}

/// Reads what [`SCRIPT`] prints. A line that says nothing known is passed over.
pub fn read(text: &str) -> Answer {
    let mut answer = Answer::default();
    let mut given = None;
    for line in text.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("blind", _) => {
                answer.gaps.push("it has no `ss` (package iproute2), so nobody can say what listens there".to_owned());
            }
            ("more", number) => answer.gaps.push(format!("{number} more kinds of connections are not shown")),
            ("range", range) => {
                given =
                    range.split_once(' ').and_then(|(low, high)| Some(low.parse().ok()?..=high.parse::<u16>().ok()?));
            }
            (kind, rest) => answer.sockets.extend(socket(kind, rest)),
        }
    }
    // How a program waits for answers to what it has asked by UDP looks the same; a tunnel of the kernel's has no program.
    let asks = |end: &End| {
        end.proto == Proto::Udp && end.program.is_some() && given.as_ref().is_some_and(|g| g.contains(&end.port.get()))
    };
    answer.sockets.retain(|socket| !matches!(socket, Socket::Listens(end) if asks(end)));
    answer
}

fn socket(kind: &str, rest: &str) -> Option<Socket> {
    if kind == "translated" {
        let (proto, rest) = rest.split_once(' ')?;
        let (port, at) = rest.split_once(' ')?;
        let end =
            End { proto: named(proto)?, address: at.parse().ok(), port: port.parse().ok()?, uid: None, program: None };
        return (!end.address.is_some_and(inside)).then_some(Socket::Translated(end));
    }
    let mut words = rest.splitn(7, ' ');
    let mut next = || words.next();
    let (proto, here, ours, there, theirs, uid, program) =
        (named(next()?)?, next()?, next()?, next()?, next()?, next()?, next()?);
    let address: Option<IpAddr> = here.parse().ok().filter(|address: &IpAddr| !address.is_unspecified());
    let peer = || there.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if address.is_some_and(inside) || peer().is_some_and(|peer| inside(peer) || Some(peer) == address) {
        return None;
    }
    let end = |port: &str| {
        let program = Some(program.trim()).filter(|name| !matches!(*name, "" | "-")).map(str::to_owned);
        Some(End { proto, address, port: port.parse().ok()?, uid: uid.parse().ok(), program })
    };
    match kind {
        "listen" => Some(Socket::Listens(end(ours)?)),
        "in" => Some(Socket::In(end(ours)?, peer()?)),
        "out" => Some(Socket::Out(end(theirs)?, peer()?)),
        _ => None,
    }
}

fn named(proto: &str) -> Option<Proto> {
    match proto {
        "tcp" => Some(Proto::Tcp),
        "udp" => Some(Proto::Udp),
        _ => None,
    }
}

/// Whether nobody but the host itself meets the address.
fn inside(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Something that no rule lets through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Closed {
    /// To the host, or from it.
    pub direction: Direction,
    /// TCP or UDP.
    pub proto: Proto,
    /// The port that is asked for.
    pub port: Port,
    /// The program on the host.
    pub program: Option<String>,
    /// Whether a container or another host stands behind the port.
    pub forwarded: bool,
    /// Who is connected now and would not be let through.
    pub peers: BTreeSet<IpAddr>,
    /// Whether rules let others in at that port.
    pub partly: bool,
}

/// What `rules` close of `sockets`.
pub fn closed(rules: &Ruleset, sockets: &BTreeSet<Socket>) -> BTreeSet<Closed> {
    // Many programs may ask for one port elsewhere; at a port of the host's own there is one.
    type Key = (Direction, Proto, Port, Option<String>);
    let mut found: BTreeMap<Key, Closed> = BTreeMap::new();
    let mut add = |direction, end: &End, forwarded, peer: Option<IpAddr>, partly| {
        let program = end.program.clone().filter(|_| direction == Direction::Out);
        let one = found.entry((direction, end.proto, end.port, program)).or_insert_with(|| Closed {
            direction,
            proto: end.proto,
            port: end.port,
            program: None,
            forwarded,
            peers: BTreeSet::new(),
            partly,
        });
        one.program = one.program.take().or_else(|| end.program.clone());
        one.peers.extend(peer);
    };
    let opened = |end: &End| {
        rules.rules.iter().any(|r| r.direction == Direction::In && r.proto == end.proto && r.port == Some(end.port))
    };
    let leased = |end: &End| end.proto == Proto::Udp && LEASES.contains(&end.port.get());
    for socket in sockets {
        match socket {
            Socket::Listens(end) | Socket::Translated(end) => {
                if !opened(end) && !leased(end) {
                    add(Direction::In, end, matches!(socket, Socket::Translated(_)), None, false);
                }
            }
            Socket::In(end, peer) => {
                if !leased(end) && denied(rules, Direction::In, end, *peer) {
                    add(Direction::In, end, false, Some(*peer), opened(end));
                }
            }
            Socket::Out(end, peer) => {
                if !leased(end) && denied(rules, Direction::Out, end, *peer) {
                    add(Direction::Out, end, false, Some(*peer), false);
                }
            }
        }
    }
    found.into_values().collect()
}

/// Whether no rule lets it through. What is blocked is closed on purpose; and where it is not known whose a connection was, any
/// user's rule counts.
fn denied(rules: &Ruleset, way: Direction, end: &End, peer: IpAddr) -> bool {
    let users = || rules.rules.iter().flat_map(|rule| &rule.uids).copied().map(Some);
    let users: BTreeSet<Option<u32>> = match end.uid {
        Some(uid) => BTreeSet::from([Some(uid)]),
        None => users().chain([None]).collect(),
    };
    users.into_iter().all(|uid| decide(rules, way, end.proto, Some(end.port), peer.into(), uid) == Decision::Denied)
}

impl Closed {
    /// What is closed, as the end of a sentence that begins with the hosts' names: `postgres listens on 5432/tcp, where …`.
    pub fn words(&self) -> String {
        let who = match &self.program {
            Some(program) => program.as_str(),
            None if self.forwarded => "a container or another host",
            None if self.direction == Direction::Out => "a program",
            None => "the kernel itself",
        };
        let (port, proto) = (self.port, self.proto);
        let mut peers: Vec<String> = self.peers.iter().take(LINES).map(ToString::to_string).collect();
        if self.peers.len() > LINES {
            peers.push(format!("{} more", self.peers.len() - LINES));
        }
        let peers = peers.join(", ");
        match self.direction {
            Direction::Out | Direction::Through => {
                format!("{who} is connected to {port}/{proto} of {peers}, where no flow leads")
            }
            Direction::In if self.partly => {
                format!("{who} listens on {port}/{proto}, where no flow lets in {peers}, connected now")
            }
            Direction::In => {
                let behind = if self.forwarded { "is reached through" } else { "listens on" };
                let now = if peers.is_empty() { String::new() } else { format!("; connected now: {peers}") };
                format!("{who} {behind} {port}/{proto}, where no flow lets anybody in{now}")
            }
        }
    }

    /// The entries of `firewall.allow` that keep it open on `hosts`, as they are written in the inventory. None where the inventory knows no
    /// address of the hosts in the family of those who are connected.
    pub fn allow(&self, site: &Site, hosts: &BTreeSet<HostName>) -> Vec<String> {
        let sides = parties(site, hosts);
        let peers = self.parties_of_peers(site, hosts);
        let why = format!("as before for {}", self.subject());
        let proto = if self.proto == Proto::Udp { ", proto: udp" } else { "" };
        let line = |to: &Party, from: &[&Party]| {
            let from: Vec<String> = from.iter().map(|party| quoted(party)).collect();
            format!("- {{ to: {}, port: {}{proto}, from: [{}], why: {why} }}", quoted(to), self.port, from.join(", "))
        };
        let peers: Vec<&Party> = peers.iter().take(LINES).collect();
        if peers.is_empty() {
            return Vec::new();
        }
        let here: Vec<&Party> = sides.iter().collect();
        match self.direction {
            Direction::In => here.iter().take(LINES).map(|to| line(to, &peers)).collect(),
            Direction::Out | Direction::Through => peers.iter().map(|to| line(to, &here)).collect(),
        }
    }

    /// Whose it is, in words that YAML takes for words.
    fn subject(&self) -> String {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let name: String = self.program.iter().flat_map(|name| name.chars()).filter(plain).collect();
        if name.is_empty() { format!("port {}", self.port) } else { name }
    }

    /// Those who are connected; where nobody is, those who manage the hosts.
    fn parties_of_peers(&self, site: &Site, hosts: &BTreeSet<HostName>) -> BTreeSet<Party> {
        let speak = |v4: bool| {
            let spoken = |host: &Host| host.addresses.iter().chain(&host.public).any(|a| a.is_ipv4() == v4);
            hosts.iter().filter_map(|name| site.hosts.get(name)).all(spoken)
        };
        let blocked = |net: Cidr| site.firewall.block.iter().any(|(block, _)| block.net().contains(&net.net()));
        let usable = |net: &Cidr| speak(net.is_ipv4()) && !blocked(*net);
        let party = |address: IpAddr| {
            let is = |host: &&Host| host.addresses.contains(&address) && !hosts.contains(&host.name);
            let known = site.hosts.values().find(is);
            known.map_or_else(|| Party::Net(address.into()), |host| Party::Host(host.name.clone()))
        };
        if self.peers.is_empty() {
            let nets = site.firewall.manage_from.iter().map(|(net, _)| *net);
            return nets.filter(usable).map(Party::Net).collect();
        }
        self.peers.iter().filter(|peer| usable(&Cidr::from(**peer))).map(|peer| party(*peer)).collect()
    }
}

/// A word of the inventory for exactly these hosts, else each by its name.
fn parties(site: &Site, hosts: &BTreeSet<HostName>) -> Vec<Party> {
    let of = |role: Role| site.with_role(role).map(|host| host.name.clone()).collect::<BTreeSet<_>>();
    if hosts.len() > 1
        && let Some(role) = Role::ALL.into_iter().find(|role| of(*role) == *hosts)
    {
        return vec![Party::Role(role)];
    }
    hosts.iter().cloned().map(Party::Host).collect()
}

/// As it stands in a list of YAML: an address with colons is no text by itself.
fn quoted(party: &Party) -> String {
    let text = party.to_string();
    if text.contains(':') { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::service::firewall::{flows, rules};
    use crate::service::platform;

    const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }
  web1: { address: 10.0.2.11, roles: [web] }
  web2: { address: [10.0.2.12, \"fd00::12\"], roles: [web] }
firewall:
  manage_from: [10.0.0.0/24]
  block: [198.51.100.0/28]
  allow:
    - { to: web, port: 9000, from: [198.51.100.77], why: checks }
sites:
  a.example.com: { static: { root: /srv, prefix: / } }
certificates: { issuer: internal }
";

    fn site(text: &str) -> Site {
        load_text(text, Path::new("inventory.yml")).unwrap().0
    }

    fn host(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn rules(site: &Site, name: &str) -> Ruleset {
        rules::host_ruleset(site, &site.hosts[&host(name)], &platform::oldest(), &flows::derive(site))
    }

    fn told(name: &str, lines: &str) -> Vec<String> {
        let site = site(INVENTORY);
        closed(&rules(&site, name), &read(lines).sockets).iter().map(Closed::words).collect()
    }

    #[test]
    fn what_is_closed_is_told_and_nothing_else() {
        for (line, words) in [
            ("listen tcp 0.0.0.0 5432 - - 105 postgres", "postgres listens on 5432/tcp, where no flow lets anybody in"),
            (
                "listen tcp * 9100 - - 0 node_exporter",
                "node_exporter listens on 9100/tcp, where no flow lets anybody in",
            ),
            ("listen tcp :: 9100 - - 0 v6 only", "v6 only listens on 9100/tcp, where no flow lets anybody in"),
            ("listen tcp 10.0.2.11 6379 - - 0 redis", "redis listens on 6379/tcp, where no flow lets anybody in"),
            ("listen udp 0.0.0.0 161 - - 0 snmpd", "snmpd listens on 161/udp, where no flow lets anybody in"),
            (
                "listen udp 0.0.0.0 51820 - - 0 -",
                "the kernel itself listens on 51820/udp, where no flow lets anybody in",
            ),
            (
                "translated tcp 8099 -",
                "a container or another host is reached through 8099/tcp, where no flow lets anybody in",
            ),
            (
                "in tcp 10.0.2.11 22 192.0.2.9 - 0 sshd",
                "sshd listens on 22/tcp, where no flow lets in 192.0.2.9, connected now",
            ),
            (
                "out tcp 10.0.2.11 - 192.0.2.25 25 0 exim4",
                "exim4 is connected to 25/tcp of 192.0.2.25, where no flow leads",
            ),
            (
                "out udp 10.0.2.11 - 192.0.2.14 514 0 rsyslogd",
                "rsyslogd is connected to 514/udp of 192.0.2.14, where no flow leads",
            ),
            (
                "out tcp 10.0.2.11 - 192.0.2.80 443 33 php-fpm",
                "php-fpm is connected to 443/tcp of 192.0.2.80, where no flow leads",
            ),
            (
                "out tcp 10.0.2.11 - 192.0.2.5 5432 - -",
                "a program is connected to 5432/tcp of 192.0.2.5, where no flow leads",
            ),
            // Nobody else meets these, or the rules have them open.
            ("listen tcp 127.0.0.1 5432 - - 105 postgres", ""),
            ("listen tcp ::1 5432 - - 105 postgres", ""),
            ("listen tcp 127.0.0.53 53 - - 101 systemd-resolve", ""),
            ("listen tcp 0.0.0.0 22 - - 0 sshd", ""),
            ("listen tcp 0.0.0.0 9000 - - 0 checked", ""),
            ("listen udp 0.0.0.0 68 - - 0 dhclient", ""),
            ("listen udp fe80::1 546 - - 0 dhclient", ""),
            ("listen udp 0.0.0.0 45123 - - 0 rsyslogd", ""),
            ("in tcp 10.0.2.11 22 10.0.0.9 - 0 sshd", ""),
            ("in tcp 10.0.2.11 22 ::ffff:10.0.0.9 - 0 sshd", ""),
            ("in tcp 10.0.2.11 9000 198.51.100.77 - 0 checked", ""),
            ("out tcp 10.0.2.11 - 10.0.2.11 5432 0 a", ""),
            ("out tcp 127.0.0.1 - 127.0.0.1 5432 0 a", ""),
            ("out tcp 10.0.2.11 - 192.0.2.80 443 0 apt", ""),
            ("out tcp 10.0.2.11 - 192.0.2.80 443 - -", ""),
            ("out udp 10.0.2.11 - 192.0.2.53 53 101 systemd-resolve", ""),
            ("out tcp 10.0.2.11 - 198.51.100.3 25 0 blocked", ""),
            ("translated tcp 8099 127.0.0.1", ""),
            ("listen", ""),
            ("listen sctp 0.0.0.0 99 - - 0 x", ""),
            ("out tcp 10.0.2.11 - elsewhere 99 0 x", ""),
        ] {
            let lines = format!("range 32768 60999\n{line}\n");
            let expected: Vec<&str> = Some(words).filter(|words| !words.is_empty()).into_iter().collect();
            assert_eq!(told("web1", &lines), expected, "{line}");
        }
    }

    #[test]
    fn one_thing_is_told_once() {
        let lines = "listen tcp 0.0.0.0 8099 - - 0 docker-proxy\nlisten tcp :: 8099 - - 0 docker-proxy\ntranslated tcp 8099 -\n\
                     in tcp 10.0.2.11 8099 192.0.2.1 - 0 docker-proxy\nin tcp 10.0.2.11 8099 192.0.2.2 - 0 docker-proxy\n";
        let words =
            "docker-proxy listens on 8099/tcp, where no flow lets anybody in; connected now: 192.0.2.1, 192.0.2.2";
        assert_eq!(told("web1", lines), [words]);
        assert_eq!(read("blind\nmore 7\n").gaps.len(), 2);
    }

    /// The inventory with these lines among its own.
    fn followed(lines: &[String]) -> String {
        let lines = lines.iter().map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat();
        INVENTORY.replace("  allow:\n", &format!("  allow:\n{lines}"))
    }

    #[test]
    fn an_advice_that_is_followed_keeps_it_open() {
        let site_before = site(INVENTORY);
        for (names, line, advice) in [
            (
                &["web1"][..],
                "listen tcp * 5432 - - 105 postgres",
                "- { to: web1, port: 5432, from: [10.0.0.0/24], why: as before for postgres }",
            ),
            (
                &["web1", "web2"],
                "listen udp * 161 - - 105 snmpd",
                "- { to: web, port: 161, proto: udp, from: [10.0.0.0/24], why: as before for snmpd }",
            ),
            (
                &["lb1"],
                "in tcp 10.0.1.11 22 10.0.2.11 - 0 sshd",
                "- { to: lb1, port: 22, from: [web1], why: as before for sshd }",
            ),
            (
                &["web2"],
                "out tcp fd00::12 - 2001:db8::5 25 0 exim4",
                "- { to: \"2001:db8::5\", port: 25, from: [web2], why: as before for exim4 }",
            ),
            (
                &["web1"],
                "out tcp 10.0.2.11 - 192.0.2.5 5432 - -",
                "- { to: 192.0.2.5, port: 5432, from: [web1], why: as before for port 5432 }",
            ),
            (
                &["web1"],
                "listen tcp * 7 - - 0 a: b, #c",
                "- { to: web1, port: 7, from: [10.0.0.0/24], why: as before for abc }",
            ),
        ] {
            let sockets = read(line).sockets;
            let hosts = names.iter().copied().map(host).collect();
            let one = closed(&rules(&site_before, names[0]), &sockets).pop_first().unwrap();
            let lines = one.allow(&site_before, &hosts);
            assert_eq!(lines, [advice]);
            let after = site(&followed(&lines));
            for name in names {
                assert_eq!(closed(&rules(&after, name), &sockets), BTreeSet::new(), "{line}");
            }
        }
        // An address of a family that the inventory does not give the host cannot be allowed.
        let v6 = read("in tcp fd00::11 5432 2001:db8::5 - 0 postgres").sockets;
        let one = closed(&rules(&site_before, "web1"), &v6).pop_first().unwrap();
        assert_eq!(one.allow(&site_before, &[host("web1")].into()), [""; 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_a_host_answers_its_advice_passes_the_check(
            lines in prop::collection::vec(
                "(listen|in|out) (tcp|udp) (\\*|::|10\\.0\\.2\\.11|fd00::12) [1-9][0-9]{0,3} (-|192\\.0\\.2\\.[0-9]|198\\.51\\.100\\.[0-9]|10\\.0\\.2\\.12|2001:db8::[0-9]) [1-9][0-9]{0,3} (0|33|-) [ -~]{1,12}|translated tcp [1-9]{1,4} -|[ -~]{0,30}",
                0..8,
            ),
            which in prop::sample::select(vec!["lb1", "web1", "web2"]),
        ) {
            let before = site(INVENTORY);
            let sockets = read(&lines.join("\n")).sockets;
            let hosts = [host(which)].into();
            let advice: Vec<String> = closed(&rules(&before, which), &sockets).iter().flat_map(|one| one.allow(&before, &hosts)).collect();
            if !advice.is_empty() {
                let text = followed(&advice);
                prop_assert!(load_text(&text, Path::new("inventory.yml")).is_ok(), "{text}");
            }
        }
    }
}

//! What becomes of a connection on the host that it is for: takes sources and ports, gives the script that lets the kernel tell, and from
//! its answer which rule of whom has refused it. It changes no verdict: packets are marked, not judged.
//!
//! Whatever the conditions of the others' rules are (sets, jumps, states, marks, meters, modules of iptables), the kernel knows which of
//! them a packet has met (`nft monitor trace`, nft(8)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::net::Port;

/// New connections to watch: from these addresses to this TCP port.
pub type Watched = BTreeMap<Port, BTreeSet<IpAddr>>;

/// The table that marks. It is there while a script looks, and no longer.
const TABLE: &str = "inet infra_trace";

/// The text that tells, for [`Traced::read`], what becomes of `watched` during so many seconds, and what listens on the host.
pub fn script(watched: &Watched, seconds: u64) -> String {
    let line = |port: &Port, from: &IpAddr| {
        let family = if from.is_ipv4() { "ip" } else { "ip6" };
        format!(
            "\t\t{family} saddr {from} tcp dport {port} tcp flags & (fin|syn|rst|ack) == syn \
             limit rate 20/second burst 40 packets meta nftrace set 1"
        )
    };
    let lines = watched.iter().flat_map(|(port, from)| from.iter().map(move |from| line(port, from)));
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!("seconds={seconds}\nwatched='{lines}'\n{}", include_str!("../../../templates/firewall/trace.sh"))
}

/// Who has refused a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `inet guard`.
    pub table: String,
    /// `input`.
    pub chain: String,
    /// The rule, as nft tells it; none where it was the chain's policy.
    pub rule: Option<String>,
}

impl Refusal {
    /// Whether it was a rule of ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.table.as_str(), "inet infra" | "inet infra_block") || self.chain.starts_with("INFRA-")
    }
}

impl fmt::Display for Refusal {
    /// A part of a sentence: `the table ... refuses it`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ours() {
            return write!(
                f,
                "it comes to infra's own rules changed (a rule of another table translates or marks it), and they refuse it in their \
                 chain `{}`",
                self.chain
            );
        }
        write!(f, "the table `{}` refuses it in its chain `{}`", self.table, self.chain)?;
        match &self.rule {
            Some(rule) => write!(f, " by the rule `{rule}`"),
            None => write!(f, ", whose policy is to drop"),
        }
    }
}

/// What a host has told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traced {
    /// TCP ports at which others may be served, not over loopback alone, and the addresses at which it is listened there: `0.0.0.0` and
    /// `::` for all of a family.
    pub listens: BTreeMap<Port, BTreeSet<IpAddr>>,
    /// The host's own addresses.
    pub own: BTreeSet<IpAddr>,
    /// Ports at which watched connections came in; `None` where the host could not tell.
    pub arrived: Option<BTreeSet<Port>>,
    /// Who refused them, by port.
    pub refused: BTreeMap<Port, Refusal>,
}

impl Traced {
    /// Reads the output of `ss -Hltn` (ss(8)), of `ip -o addr show` (ip-address(8)), and that of `nft monitor trace`, if there was one. What
    /// does not read is passed over.
    pub fn read(listens: &str, own: &str, traced: Option<&str>) -> Self {
        let mut told = Self { arrived: traced.map(|_| BTreeSet::new()), ..Self::default() };
        for (address, port) in listens.lines().filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':')) {
            let Ok(port) = port.parse::<Port>() else { continue };
            let address = address.split('%').next().unwrap_or(address).trim_matches(['[', ']']);
            // A socket of both families has a star; one of IPv6 alone has `[::]`.
            let both = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
            let at = match address.parse::<IpAddr>() {
                Ok(address) if address.to_canonical().is_loopback() => continue,
                Ok(address) => vec![address.to_canonical()],
                Err(_) => both.to_vec(),
            };
            told.listens.entry(port).or_default().extend(at);
        }
        let own =
            own.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()?.parse::<IpAddr>().ok());
        told.own = own.collect();
        // Of each packet the port to which it came first, whatever it was translated to since.
        let mut packets: BTreeMap<&str, Port> = BTreeMap::new();
        for line in traced.unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, _, id, family, table, chain, kind, ..] = words[..] else { continue };
            if kind == "packet:" {
                let port = words.windows(3).find(|three| three[..2] == ["tcp", "dport"]);
                if let Some(port) = port.and_then(|three| three[2].parse::<Port>().ok()) {
                    let port = *packets.entry(id).or_insert(port);
                    if let Some(arrived) = &mut told.arrived {
                        arrived.insert(port);
                    }
                }
                continue;
            }
            let Some(port) = packets.get(id) else { continue };
            let name = format!("{family} {table}");
            if name == TABLE {
                continue;
            }
            let rule = line.split_once(" rule ").and_then(|(_, rule)| rule.trim_end().strip_suffix(" (verdict drop)"));
            let policy = kind == "policy" && words.get(7) == Some(&"drop");
            if rule.is_some() || policy {
                let rule = rule.map(ToOwned::to_owned);
                told.refused.insert(*port, Refusal { table: name, chain: chain.to_owned(), rule });
            }
        }
        told
    }

    /// Whether somebody is there to take a connection to this address: one who listens at another address of the host is not. What is
    /// translated on its way to the host arrives at an address that nobody here knows.
    pub fn heard(&self, address: IpAddr, port: Port) -> bool {
        let family = |at: &&IpAddr| at.is_ipv4() == address.is_ipv4();
        let takes = |at: &IpAddr| at.is_unspecified() || *at == address || !self.own.contains(&address);
        self.listens.get(&port).is_some_and(|all| all.iter().filter(family).any(takes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 has told it on kernel 6.18, shortened.
    const TOLD: &str = "\
trace id c507caea inet infra_trace in packet: iif \"v2\" ip saddr 10.1.0.1 ip daddr 10.1.0.2 tcp sport 40980 tcp dport 443 tcp flags == syn
trace id c507caea inet infra_trace in rule ip saddr 10.1.0.1 tcp dport 443 meta nftrace set 1 (verdict continue)
trace id c507caea inet infra_trace in policy accept 
trace id c507caea inet guard c packet: iif \"v2\" ip saddr 10.1.0.1 ip daddr 10.1.0.2 tcp sport 40980 tcp dport 443 tcp flags == syn
trace id c507caea inet guard c rule tcp dport 443 jump sub (verdict jump sub)
trace id c507caea inet guard sub rule ct state new ip saddr @s tcp dport 443 reject with tcp reset (verdict drop)
trace id 4c6db4e9 inet infra_trace in packet: iif \"v2\" ip saddr 10.1.0.1 ip daddr 10.1.0.2 tcp sport 33736 tcp dport 80 tcp flags == syn
trace id 4c6db4e9 ip filter INPUT policy accept 
trace id c608409e inet infra_trace in packet: iif \"v2\" ip saddr 10.1.0.1 ip daddr 10.1.0.2 tcp sport 46038 tcp dport 81 tcp flags == syn
trace id c608409e ip filter INPUT rule tcp dport 81 limit rate 1/second ct state new counter packets 0 bytes 0 drop (verdict drop)
trace id 93c29735 inet infra_trace in packet: iif \"v2\" ip saddr 10.1.0.1 ip daddr 10.1.0.2 tcp sport 48436 tcp dport 82 tcp flags == syn
trace id 93c29735 ip pol c policy drop 
trace id 77c29735 inet infra_trace in packet: iif \"v2\" ip saddr 10.1.0.1 ip daddr 10.1.0.2 tcp sport 48436 tcp dport 90 tcp flags == syn
trace id 77c29735 inet infra input packet: iif \"v2\" ip saddr 10.1.0.1 ip daddr 10.1.0.2 tcp sport 48436 tcp dport 8443 tcp flags == syn
trace id 77c29735 inet infra input policy drop 
trace id 00c29735 inet guard c rule tcp dport 83 drop (verdict drop)
trace id
half a line";

    #[test]
    fn who_refuses_is_told_by_its_rule() {
        let listens = "LISTEN 0 128 0.0.0.0:443 0.0.0.0:*\nLISTEN 0 128 127.0.0.1:81 0.0.0.0:*\nLISTEN 0 5 [::]:82 [::]:*\n\
                       LISTEN 0 5 [::1]:83 [::]:*\nLISTEN 0 5 *:84 *:*\nLISTEN 0 5 10.0.0.1%eth0:85 *:*\nx\n";
        let own = "1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0\n\
                   2: eth0    inet 10.0.0.2/24 scope global eth0\n2: eth0    inet6 fd00::1/64 scope global \nx\n";
        let told = Traced::read(listens, own, Some(TOLD));
        let ports = |ports: &BTreeSet<Port>| ports.iter().map(|port| port.get()).collect::<Vec<_>>();
        assert_eq!(ports(&told.listens.keys().copied().collect()), [82, 84, 85, 443]);
        for (address, port, heard) in [
            ("10.0.0.1", 443, true),
            ("10.0.0.2", 443, true),
            ("fd00::1", 443, false),
            ("10.0.0.1", 82, false),
            ("fd00::1", 82, true),
            ("10.0.0.1", 84, true),
            ("fd00::1", 84, true),
            ("10.0.0.1", 85, true),
            ("10.0.0.2", 85, false),
            // Before a translator of addresses.
            ("203.0.113.9", 85, true),
            ("2001:db8::9", 85, false),
            ("10.0.0.1", 81, false),
            ("10.0.0.1", 4, false),
        ] {
            let (address, number): (IpAddr, Port) = (address.parse().unwrap(), u64::try_into(port).unwrap());
            assert_eq!(told.heard(address, number), heard, "{address} {port}");
        }
        assert_eq!(ports(told.arrived.as_ref().unwrap()), [80, 81, 82, 90, 443]);
        let words: Vec<String> = told.refused.iter().map(|(port, by)| format!("{port}: {by}")).collect();
        assert_eq!(
            words,
            [
                "81: the table `ip filter` refuses it in its chain `INPUT` by the rule `tcp dport 81 limit rate 1/second ct state new \
                 counter packets 0 bytes 0 drop`",
                "82: the table `ip pol` refuses it in its chain `c`, whose policy is to drop",
                "90: it comes to infra's own rules changed (a rule of another table translates or marks it), and they refuse it in \
                 their chain `input`",
                "443: the table `inet guard` refuses it in its chain `sub` by the rule `ct state new ip saddr @s tcp dport 443 reject \
                 with tcp reset`",
            ]
        );
        assert_eq!(Traced::read("", "", None).arrived, None);
    }
}

//! A [`Ruleset`] as two files for `iptables-restore --noflush` and `ip6tables-restore --noflush`: own chains only.
//!
//! The chains only tighten, as an own table of nftables does: what a flow allows returns to the rules of others, and what
//! none allows ends here. `# jumps of TABLE` is where the loader puts the removal of jumps that are there already.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::base::net::Cidr;
use crate::plan::ruleset::{Direction, Rule, Ruleset};

use super::{ATTEMPT_MARK, Older, comment, family, listening};

/// Which of the two tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// iptables.
    V4,
    /// ip6tables.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn is_ipv4(self) -> bool {
        self == Self::V4
    }
}

/// Answers what says whether the live rules are still those that were loaded: own chains but for the bans, the jumps
/// to them, and rules of others that accept before them.
pub fn live_command() -> &'static str {
    "{ iptables-save; ip6tables-save; } 2>/dev/null | awk '\
/^\\*/{split(\"\",passed);print;next}\
/^:INFRA-/{print $1;next}\
/^-A INFRA-BAN /{next}\
/^-A INFRA-/{print;next}\
/^-A (INPUT|OUTPUT|FORWARD|PREROUTING) -j INFRA-/{passed[$2]=1;print;next}\
/^-A (INPUT|OUTPUT|FORWARD) .*-j ACCEPT/{if(!passed[$2])print}'"
}

/// The lines of one rule in one family; one for each peer.
pub fn rule_lines(rule: &Rule, family: Family) -> Vec<String> {
    let (chain, ends) = match rule.direction {
        Direction::In => ("INFRA-IN", matches(&rule.peers, family, "-s")),
        Direction::Out => ("INFRA-OUT", matches(&rule.peers, family, "-d")),
        Direction::Through => {
            let to = matches(&rule.beyond, family, "-d");
            let both = |from: &String| to.iter().map(|to| format!("{from}{to}")).collect::<Vec<_>>();
            ("INFRA-FWD", matches(&rule.peers, family, "-s").iter().flat_map(both).collect())
        }
    };
    let note = comment(&rule.flow);
    let what = if let Some(port) = rule.port {
        format!("-p {0} -m {0} --dport {port} ", rule.proto)
    } else {
        let numbers = rule.proto.numbers(family.is_ipv4(), !family.is_ipv4());
        numbers.first().map(|number| format!("-p {number} ")).unwrap_or_default()
    };
    let users: Vec<String> = if rule.uids.is_empty() {
        vec![String::new()]
    } else {
        rule.uids.iter().map(|uid| format!("-m owner --uid-owner {uid} ")).collect()
    };
    let mut lines = Vec::new();
    for ends in ends {
        for user in &users {
            lines.push(format!("-A {chain} {ends}{what}{user}-m comment --comment \"{note}\" -j RETURN"));
        }
    }
    lines
}

fn matches(peers: &BTreeSet<Cidr>, which: Family, side: &str) -> Vec<String> {
    if peers.is_empty() {
        return vec![String::new()];
    }
    family(peers.iter().copied(), which.is_ipv4()).into_iter().map(|net| format!("{side} {net} ")).collect()
}

/// The file of one family.
pub fn render(set: &Ruleset, which: Family, older: Older) -> String {
    let mut text = String::from(HEAD);
    let mut line = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    line("*raw\n:INFRA-BLOCK - [0:0]\n-A INFRA-BLOCK -i lo -j RETURN\n-A INFRA-BLOCK -j INFRA-BAN");
    for net in family(set.block.iter().copied(), which.is_ipv4()) {
        line(&format!("-A INFRA-BLOCK -s {net} -m comment --comment \"block\" -j DROP"));
    }
    line("# jumps of raw\n-I PREROUTING 1 -j INFRA-BLOCK\nCOMMIT\n*filter");
    for chain in ["INFRA-IN", "INFRA-OUT", "INFRA-FWD", "INFRA-DENY-IN", "INFRA-DENY-OUT"] {
        line(&format!(":{chain} - [0:0]"));
    }
    let rules = |way| set.rules.iter().filter(move |rule| rule.direction == way);
    let ours = |head: &str| match older {
        Older::GoesOn => head.to_owned(),
        // Who opened a connection is judged anew, and who answers is not. That a connection ends is let through: who has gone
        // would else hold the host's lock until the host itself has noticed.
        Older::CountsAsNew => {
            let judged = |line: &str| match line.split_once("RELATED,ESTABLISHED") {
                Some((before, after)) => {
                    let ends =
                        |flag: &str| format!("{before}ESTABLISHED -p tcp -m tcp --tcp-flags {flag} {flag}{after}");
                    let (fin, rst) = (ends("FIN"), ends("RST"));
                    format!("{before}ESTABLISHED --ctdir REPLY{after}\n{fin}\n{rst}\n{before}RELATED{after}")
                }
                None => line.to_owned(),
            };
            head.lines().map(judged).collect::<Vec<_>>().join("\n")
        }
    };
    line(&ours(match which {
        Family::V4 => IN_V4,
        Family::V6 => IN_V6,
    }));
    for rule in rules(Direction::In).flat_map(|rule| rule_lines(rule, which)) {
        line(&rule);
    }
    line("-A INFRA-IN -j INFRA-DENY-IN");
    line(&ours(match which {
        Family::V4 => OUT_V4,
        Family::V6 => OUT_V6,
    }));
    for rule in rules(Direction::Out).flat_map(|rule| rule_lines(rule, which)) {
        line(&rule);
    }
    match older {
        Older::GoesOn => line(&OLDER.replace("PORT", "")),
        Older::CountsAsNew => {
            for port in listening(set) {
                line(&OLDER.replace("PORT", &format!("--sport {port} ")));
            }
            line("-A INFRA-OUT -m conntrack --ctstate ESTABLISHED -j DROP");
        }
    }
    line("-A INFRA-OUT -j INFRA-DENY-OUT");
    line(DENY_IN);
    line(&format!("-A INFRA-DENY-OUT -m mark --mark {ATTEMPT_MARK:#x} -j DROP"));
    line(DENY_OUT);
    line(match which {
        Family::V4 => "-A INFRA-DENY-OUT -j REJECT --reject-with icmp-admin-prohibited",
        Family::V6 => "-A INFRA-DENY-OUT -j REJECT --reject-with icmp6-adm-prohibited",
    });
    if set.guest_forwarding || rules(Direction::Through).next().is_some() {
        line("-A INFRA-FWD -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN");
    }
    for rule in rules(Direction::Through).flat_map(|rule| rule_lines(rule, which)) {
        line(&rule);
    }
    if set.guest_forwarding {
        line("-A INFRA-FWD -m conntrack ! --ctstate DNAT -j RETURN");
        for (rule, port) in rules(Direction::In).filter_map(|rule| Some((rule, rule.port?))) {
            let (proto, note) = (rule.proto, comment(&rule.flow));
            for peer in matches(&rule.peers, which, "-s") {
                line(&format!(
                    "-A INFRA-FWD {peer}-p {proto} -m conntrack --ctorigdstport {port} -m comment --comment \"{note}\" -j RETURN"
                ));
            }
        }
    }
    line("-A INFRA-FWD -j DROP");
    line("# jumps of filter\n-I INPUT 1 -j INFRA-IN\n-I OUTPUT 1 -j INFRA-OUT\n-I FORWARD 1 -j INFRA-FWD\nCOMMIT");
    text
}

const HEAD: &str = "\
# The firewall of this host. Made by infra from the inventory: changes by hand are lost, and are reported as drift.
# Read by /etc/infra/firewall.sh, never by iptables-restore alone. Bans: iptables -t raw -A INFRA-BAN -s 203.0.113.7 -j DROP
";

const IN_V4: &str = "\
-A INFRA-IN -i lo -j RETURN
-A INFRA-IN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A INFRA-IN -m conntrack --ctstate INVALID -j DROP
-A INFRA-IN -p icmp -m icmp --icmp-type destination-unreachable -j RETURN
-A INFRA-IN -p icmp -m icmp --icmp-type time-exceeded -j RETURN
-A INFRA-IN -p icmp -m icmp --icmp-type parameter-problem -j RETURN
-A INFRA-IN -p icmp -m icmp --icmp-type echo-request -m limit --limit 20/second --limit-burst 40 -j RETURN
-A INFRA-IN -p udp -m udp --sport 67 --dport 68 -j RETURN";

// RFC 4890 §4.3 and §4.4; neighbour discovery only with the hop limit of the own link (RFC 4861).
const IN_V6: &str = "\
-A INFRA-IN -i lo -j RETURN
-A INFRA-IN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type router-solicitation -m hl --hl-eq 255 -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type router-advertisement -m hl --hl-eq 255 -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type neighbour-solicitation -m hl --hl-eq 255 -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type neighbour-advertisement -m hl --hl-eq 255 -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type redirect -m hl --hl-eq 255 -j RETURN
-A INFRA-IN -s fe80::/10 -p icmpv6 -m icmp6 --icmpv6-type 130 -j RETURN
-A INFRA-IN -s fe80::/10 -p icmpv6 -m icmp6 --icmpv6-type 131 -j RETURN
-A INFRA-IN -s fe80::/10 -p icmpv6 -m icmp6 --icmpv6-type 132 -j RETURN
-A INFRA-IN -s fe80::/10 -p icmpv6 -m icmp6 --icmpv6-type 143 -j RETURN
-A INFRA-IN -m conntrack --ctstate INVALID -j DROP
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type destination-unreachable -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type packet-too-big -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type time-exceeded -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type parameter-problem -j RETURN
-A INFRA-IN -p icmpv6 -m icmp6 --icmpv6-type echo-request -m limit --limit 20/second --limit-burst 40 -j RETURN
-A INFRA-IN -s fe80::/10 -p udp -m udp --sport 547 --dport 546 -j RETURN";

const OUT_V4: &str = "\
-A INFRA-OUT -o lo -j RETURN
-A INFRA-OUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A INFRA-OUT -m conntrack --ctstate INVALID -j DROP
-A INFRA-OUT -p icmp -m icmp --icmp-type echo-request -j RETURN
-A INFRA-OUT -p icmp -m icmp --icmp-type destination-unreachable -j RETURN
-A INFRA-OUT -p icmp -m icmp --icmp-type time-exceeded -j RETURN
-A INFRA-OUT -p icmp -m icmp --icmp-type parameter-problem -j RETURN
-A INFRA-OUT -p udp -m udp --sport 68 --dport 67 -j RETURN";

const OUT_V6: &str = "\
-A INFRA-OUT -o lo -j RETURN
-A INFRA-OUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type router-solicitation -m hl --hl-eq 255 -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type neighbour-solicitation -m hl --hl-eq 255 -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type neighbour-advertisement -m hl --hl-eq 255 -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type 131 -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type 132 -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type 143 -j RETURN
-A INFRA-OUT -m conntrack --ctstate INVALID -j DROP
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type destination-unreachable -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type packet-too-big -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type time-exceeded -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type parameter-problem -j RETURN
-A INFRA-OUT -p icmpv6 -m icmp6 --icmpv6-type echo-request -j RETURN
-A INFRA-OUT -p udp -m udp --sport 546 --dport 547 -j RETURN";

// A connection that is older than the tracking of connections shows up as new in the middle: rejecting its packet would
// reset the session that loads these rules. While older connections count as new, this holds for the answers of the host's own
// ports alone.
const OLDER: &str = "-A INFRA-OUT -p tcp -m tcp PORT! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN";

const DENY_IN: &str = "\
-A INFRA-DENY-IN -m pkttype --pkt-type multicast -j DROP
-A INFRA-DENY-IN -m pkttype --pkt-type broadcast -j DROP
-A INFRA-DENY-IN -m limit --limit 5/second --limit-burst 20 -j LOG --log-prefix \"infra-in-drop: \" --log-level info
-A INFRA-DENY-IN -j DROP";

const DENY_OUT: &str = "\
-A INFRA-DENY-OUT -m limit --limit 5/second --limit-burst 20 -j LOG --log-prefix \"infra-out-drop: \" --log-level info
-A INFRA-DENY-OUT -p tcp -j REJECT --reject-with tcp-reset";

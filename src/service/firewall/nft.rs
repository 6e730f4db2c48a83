//! A [`Ruleset`] as one nftables file: own tables only, one transaction, loads as often as one likes (nft 1.0.6 and later).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::base::net::{Cidr, Port};
use crate::plan::ruleset::{Direction, Rule, Ruleset};

use super::{ATTEMPT_MARK, Older, comment, family, listening};

/// What ends a connection to the host that no rule accepts.
pub const DENY_IN: &str = "counter drop comment \"default deny in\"";
/// What ends a connection from the host that no rule accepts.
pub const DENY_OUT: &str = "meta l4proto tcp counter reject with tcp reset comment \"default deny out\"";

/// Answers what says whether the live rules are still those that were loaded: an sh command line whose output does not
/// change with counters or with temporary bans.
pub fn live_command() -> &'static str {
    "nft -s list table inet infra 2>&1; nft -s list chain inet infra_block pre 2>&1"
}

/// The lines of one rule; one for each family that it has peers in.
pub fn rule_lines(rule: &Rule) -> Vec<String> {
    let tail = format!("{}{}counter accept comment \"{}\"", users(rule), what(rule), comment(&rule.flow));
    let ends = match rule.direction {
        Direction::In => matches(&rule.peers, "saddr"),
        Direction::Out => matches(&rule.peers, "daddr"),
        Direction::Through => {
            let (from, to) = (matches(&rule.peers, "saddr"), matches(&rule.beyond, "daddr"));
            // IPv4 does not reach IPv6.
            let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a.split(' ').next() == b.split(' ').next();
            let both = |from: &String| {
                to.iter().filter(|to| same(from, to)).map(|to| format!("{from}{to}")).collect::<Vec<_>>()
            };
            from.iter().flat_map(both).collect()
        }
    };
    ends.into_iter().map(|ends| format!("{ends}{tail}")).collect()
}

/// The line that drops a blocked source.
pub fn block_line(nets: &[Cidr], ipv4: bool) -> String {
    format!("{} saddr {} counter drop comment \"block\"", word(ipv4), set(nets))
}

fn word(ipv4: bool) -> &'static str {
    if ipv4 { "ip" } else { "ip6" }
}

fn set(nets: &[Cidr]) -> String {
    let items: Vec<String> = nets.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", items.join(", "))
}

/// The match on protocol and port; nothing where any is meant.
fn what(rule: &Rule) -> String {
    if let Some(port) = rule.port {
        return format!("{} dport {port} ", rule.proto);
    }
    let has = |ipv4| rule.peers.is_empty() || rule.peers.iter().any(|net| net.is_ipv4() == ipv4);
    match &rule.proto.numbers(has(true), has(false))[..] {
        [] => String::new(),
        [one] => format!("meta l4proto {one} "),
        some => format!("meta l4proto {{ {} }} ", some.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn users(rule: &Rule) -> String {
    if rule.uids.is_empty() {
        return String::new();
    }
    let items: Vec<String> = rule.uids.iter().map(ToString::to_string).collect();
    format!("meta skuid {{ {} }} ", items.join(", "))
}

/// The match on the peers, by family; nothing where anyone is meant.
fn matches(peers: &BTreeSet<Cidr>, side: &str) -> Vec<String> {
    if peers.is_empty() {
        return vec![String::new()];
    }
    let one = |ipv4| {
        let nets = family(peers.iter().copied(), ipv4);
        (!nets.is_empty()).then(|| format!("{} {side} {} ", word(ipv4), set(&nets)))
    };
    [true, false].into_iter().filter_map(one).collect()
}

/// The file: the table `inet infra` anew, and `inet infra_block` refilled, whose set of temporary bans stays as it is.
pub fn render(set: &Ruleset, older: Older) -> String {
    let mut text = String::from(HEAD);
    let mut chain = |name: &str, head: &str, lines: Vec<String>, tail: &str| {
        let _ = writeln!(text, "\tchain {name} {{");
        let body = head.lines().map(str::to_owned).chain(lines).chain(tail.lines().map(str::to_owned));
        for line in body {
            let _ = writeln!(text, "\t\t{line}");
        }
        text.push_str("\t}\n");
    };
    let rules =
        |way| -> Vec<String> { set.rules.iter().filter(|rule| rule.direction == way).flat_map(rule_lines).collect() };
    chain("icmp_in", ICMP_IN, Vec::new(), "");
    chain("icmp_out", ICMP_OUT, Vec::new(), "");
    chain("deny_in", DENY_IN_HEAD, vec![DENY_IN.into()], "");
    let marked = format!("meta mark {ATTEMPT_MARK:#010x} counter drop comment \"probes of infra firewall verify\"");
    chain("deny_out", &marked, Vec::new(), &format!("{DENY_OUT_LOG}\n{DENY_OUT}\n{DENY_OUT_REST}"));
    let (states, unseen) = match older {
        Older::GoesOn => (STATES, vec![OLDER.replace("PORT", "")]),
        Older::CountsAsNew => {
            let answers = listening(set).into_iter().map(|port| OLDER.replace("PORT", &format!("tcp sport {port} ")));
            (STATES_AS_NEW, answers.chain(["ct state established counter drop".to_owned()]).collect())
        }
    };
    let head = |head: &str| head.replace("STATES", states);
    chain("input", &head(INPUT), rules(Direction::In), "jump deny_in");
    chain("output", &head(OUTPUT), rules(Direction::Out), &[unseen, vec!["jump deny_out".into()]].concat().join("\n"));
    if set.guest_forwarding {
        let translated = set.rules.iter().filter(|rule| rule.direction == Direction::In);
        let translated = translated.filter_map(|rule| Some(translated_lines(rule, rule.port?))).flatten();
        chain("translated", "", translated.collect(), "counter drop comment \"a forwarded port that no flow allows\"");
        let lines = rules(Direction::Through).into_iter().chain(["ct status dnat jump translated".to_owned()]);
        chain("forward", FORWARD_GUEST, lines.collect(), "");
    } else {
        let lines = rules(Direction::Through);
        let states = if lines.is_empty() { String::new() } else { format!("\n{STATES}") };
        chain("forward", &format!("{FORWARD}{states}"), lines, "");
    }
    text.push_str("}\n");
    text.push_str(BLOCK);
    for ipv4 in [true, false] {
        let nets = family(set.block.iter().copied(), ipv4);
        if !nets.is_empty() {
            let _ = writeln!(text, "add rule inet infra_block pre {}", block_line(&nets, ipv4));
        }
    }
    text
}

/// What lets a translated (Docker's published) port through: matched by the port that the client asked for. One port a
/// line, because nft 1.0.6 prints a set of `ct original proto-dst` in a form that it does not read.
fn translated_lines(rule: &Rule, port: Port) -> Vec<String> {
    let proto = rule.proto;
    let tail =
        format!("meta l4proto {proto} ct original proto-dst {port} counter accept comment \"{}\"", comment(&rule.flow));
    matches(&rule.peers, "saddr").into_iter().map(|peers| format!("{peers}{tail}")).collect()
}

const HEAD: &str = "\
# The firewall of this host. Made by infra from the inventory: changes by hand are lost, and are reported as drift.
# The first two lines make the table if it is missing, so that the delete always works: all of it is one transaction.
table inet infra
delete table inet infra
table inet infra {
";

// RFC 4890 §4.3 and §4.4: what must not be dropped. Neighbour discovery only with the hop limit of the own link (RFC 4861).
const ICMP_IN: &str = "\
icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
icmp type echo-request limit rate 20/second burst 40 packets accept
icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
icmpv6 type echo-request limit rate 20/second burst 40 packets accept
icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, nd-router-solicit, nd-redirect } ip6 hoplimit 255 accept
ip6 saddr fe80::/10 icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept";

const ICMP_OUT: &str = "\
icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept
icmpv6 type { echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept
icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } accept";

const DENY_IN_HEAD: &str = "\
fib daddr type { broadcast, multicast } drop
limit rate 5/second burst 20 packets log prefix \"infra-in-drop: \" level info";

const DENY_OUT_LOG: &str = "limit rate 5/second burst 20 packets log prefix \"infra-out-drop: \" level info";
// `tcp reset` first: with icmpx alone IPv6 connects hang until they time out.
const DENY_OUT_REST: &str = "counter reject with icmpx admin-prohibited comment \"default deny out\"";

const INPUT: &str = "\
type filter hook input priority filter; policy drop;
iif lo accept
STATES
meta l4proto { 1, 58 } jump icmp_in
udp sport 67 udp dport 68 accept comment \"DHCP\"
ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept comment \"DHCPv6\"";

const OUTPUT: &str = "\
type filter hook output priority filter; policy drop;
oif lo accept
STATES
meta l4proto { 1, 58 } jump icmp_out
udp sport 68 udp dport 67 accept comment \"DHCP\"
udp sport 546 udp dport 547 accept comment \"DHCPv6\"";

const STATES: &str = "ct state vmap { established : accept, related : accept, invalid : drop }";
// Who opened a connection is judged anew, and who answers is not. That a connection ends is let through: who has gone would else hold the
// host's lock until the host itself has noticed.
const STATES_AS_NEW: &str = "\
ct state established ct direction reply accept
ct state established tcp flags & (fin | rst) != 0 accept
ct state vmap { related : accept, invalid : drop }";

// A connection that is older than the tracking of connections shows up as new in the middle: no new connection begins
// without a SYN, and rejecting this packet would reset the session that loads these rules. While older connections count as new,
// this holds for the answers of the host's own ports alone.
const OLDER: &str =
    "PORTtcp flags & (fin | syn | rst | ack) != syn counter accept comment \"connections older than the firewall\"";

/// What ends what is forwarded and no rule accepts.
pub const FORWARD: &str = "type filter hook forward priority filter; policy drop;";

const FORWARD_GUEST: &str = "\
type filter hook forward priority filter; policy accept;
ct state established,related accept";

// -310: before connection tracking and before raw. Bans: nft add element inet infra_block banned4 '{ 203.0.113.7 timeout 1h }'
const BLOCK: &str = "
# Blocked sources, in a table that is never deleted, so that temporary bans outlive a reload.
add table inet infra_block
add set inet infra_block banned4 { type ipv4_addr; flags interval, timeout; auto-merge; }
add set inet infra_block banned6 { type ipv6_addr; flags interval, timeout; auto-merge; }
add chain inet infra_block pre { type filter hook prerouting priority -310; policy accept; }
flush chain inet infra_block pre
add rule inet infra_block pre iif lo accept
add rule inet infra_block pre ip saddr @banned4 counter drop
add rule inet infra_block pre ip6 saddr @banned6 counter drop
";

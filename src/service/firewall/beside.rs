//! What is on a host beside infra's rules, against the planned ones: takes a ruleset and what was observed, gives why the host is to be
//! left alone, and what its own settings will miss. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::base::net::{Cidr, HostName};
use crate::inventory::site::Site;
use crate::plan::ruleset::{Direction, Ruleset};
use crate::plan::state::{Asks, ObservedFirewall};

/// Why the host is left alone, each a sentence with the way out: what others refuse of the planned flows, and what they have forwarded
/// that the rules would cut.
pub fn against(site: &Site, host: &HostName, set: &Ruleset, seen: &ObservedFirewall) -> Vec<String> {
    let mut told = BTreeSet::new();
    for shut in &seen.shut {
        let way = if matches!(shut.hook.as_str(), "output" | "postrouting" | "egress") {
            Direction::Out
        } else {
            Direction::In
        };
        let (first, last) = shut.ports;
        let hit = set.rules.iter().find(|rule| {
            let port = rule.port.is_some_and(|port| (first..=last).contains(&port));
            rule.direction == way && rule.proto == shut.proto && port
        });
        if let Some(rule) = hit {
            told.insert(format!(
                "the table `{}` refuses {} at the {} hook, which infra's rules accept (`{}`): take that rule out, and where it is loaded from",
                shut.table,
                rule.proto.at(rule.port),
                shut.hook,
                rule.flow
            ));
        }
    }
    told.extend(seen.forwards.as_ref().filter(|_| cuts(site, set, seen)).map(|switch| {
        format!(
            "it forwards for others (`{switch}` is 1), and infra's rules would cut those off: say what is meant in `firewall.forward` \
             (`{{ through: {host}, from: [NETWORK], to: internet, why: REASON }}`), or switch it off there (`sysctl -w {switch}=0`)"
        )
    }));
    told.into_iter().collect()
}

/// Whether the rules end a forwarding that nobody has spoken about, and that rules of ours have not ended before.
fn cuts(site: &Site, set: &Ruleset, seen: &ObservedFirewall) -> bool {
    let forwards =
        |set: &Ruleset| set.guest_forwarding || set.rules.iter().any(|rule| rule.direction == Direction::Through);
    let on_purpose = site.firewall.forward.as_ref().is_some_and(Vec::is_empty);
    let ended = seen.intact && seen.loaded.as_ref().is_some_and(|loaded| !forwards(loaded));
    !forwards(set) && !on_purpose && !ended
}

/// What the host's own settings will miss under these rules, each a sentence with the entry that opens it.
pub fn missed(host: &HostName, set: &Ruleset, seen: &ObservedFirewall) -> Vec<String> {
    let closed = seen.asks.iter().filter(|asks| !is_let_out(set, asks));
    let told = closed.map(|Asks { proto, port, of, what }| {
        let to = if of.parse::<IpAddr>().is_ok() { of.as_str() } else { "ADDRESS" };
        let key = if port.get() == 53 { format!("`firewall.resolvers` with {of} in it") } else {
            format!("an entry of `firewall.allow`, `{{ to: {to}, proto: {proto}, port: {port}, from: [{host}], why: {what} }}`")
        };
        format!("the rules close {what}, {of} at {}; {key} opens it", proto.at(Some(*port)))
    });
    told.collect()
}

/// Whether the rules let the host out to whom it asks. Where that is a name, to anybody at that port.
fn is_let_out(set: &Ruleset, asks: &Asks) -> bool {
    match asks.of.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => true,
        Ok(address) => {
            let net = Cidr::from(address);
            set.rules.iter().any(|rule| {
                rule.direction == Direction::Out
                    && rule.proto == asks.proto
                    && rule.port == Some(asks.port)
                    && (rule.peers.is_empty() || rule.peers.hold(&net))
            })
        }
        Err(_) => set
            .rules
            .iter()
            .any(|rule| rule.direction == Direction::Out && rule.proto == asks.proto && rule.port == Some(asks.port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::net::Port;
    use crate::base::proto::Proto;
    use crate::plan::ruleset::Rule;
    use crate::plan::state::Shut;

    fn rule(direction: Direction, port: u64, peers: &[&str]) -> Rule {
        Rule {
            direction,
            proto: Proto::Tcp,
            port: Port::try_from(port).ok(),
            peers: peers.iter().map(|net| net.parse().unwrap()).collect(),
            beyond: BTreeSet::new().into(),
            uids: BTreeSet::new(),
            flow: "internet -> lb".into(),
        }
    }

    #[test]
    fn what_the_settings_ask_and_the_rules_close_is_told() {
        let rules = [rule(Direction::Out, 80, &[]), rule(Direction::Out, 3142, &["10.0.0.9"])];
        let set = Ruleset { rules: rules.into(), ..Ruleset::default() };
        let asks = |port: u64, of: &str| Asks {
            proto: Proto::Tcp,
            port: port.try_into().unwrap(),
            of: of.into(),
            what: "the proxy of apt".into(),
        };
        let cases = [
            (asks(3142, "10.0.0.9"), None),
            (
                asks(3142, "10.0.0.8"),
                Some("{ to: 10.0.0.8, proto: tcp, port: 3142, from: [web1], why: the proxy of apt }"),
            ),
            (asks(3142, "proxy.example"), None),
            (asks(8000, "proxy.example"), Some("to: ADDRESS, proto: tcp, port: 8000")),
            (asks(8000, "127.0.0.1"), None),
            (asks(80, "::1"), None),
            (asks(53, "10.0.0.53"), Some("`firewall.resolvers` with 10.0.0.53 in it")),
        ];
        for (one, expected) in cases {
            let seen = ObservedFirewall { asks: vec![one.clone()], ..ObservedFirewall::default() };
            let told = missed(&"web1".parse().unwrap(), &set, &seen);
            assert_eq!(told.len(), usize::from(expected.is_some()), "{one:?}: {told:?}");
            assert!(told.iter().all(|text| text.contains(expected.unwrap())), "{told:?}");
        }
    }

    #[test]
    fn ports_that_others_refuse_matter_where_a_rule_accepts_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inventory.yml");
        let text = "name: shop\nhosts:\n  lb1: { address: 10.0.1.11, roles: [lb] }\n  web1: { address: 10.0.2.11, roles: [web] }\n\
                    firewall: { manage_from: [10.0.0.0/24] }\ncertificates: { issuer: internal }\n\
                    sites: { shop.example.com: { static: { root: /srv/shop, prefix: / } } }\n";
        std::fs::write(&path, text).unwrap();
        let mut site = crate::inventory::load::load(&path).unwrap().0;
        let host: HostName = "lb1".parse().unwrap();
        let set = Ruleset { rules: [rule(Direction::In, 443, &[])].into(), ..Ruleset::default() };
        let shut = |hook: &str, first: u64, last: u64| Shut {
            hook: hook.into(),
            table: "inet x".into(),
            proto: Proto::Tcp,
            ports: (first.try_into().unwrap(), last.try_into().unwrap()),
        };
        let cases =
            [("input", 443, 443, 1), ("prerouting", 400, 500, 1), ("input", 25, 25, 0), ("output", 443, 443, 0)];
        for (hook, first, last, many) in cases {
            let seen = ObservedFirewall { shut: vec![shut(hook, first, last)], ..ObservedFirewall::default() };
            assert_eq!(against(&site, &host, &set, &seen).len(), many, "{hook} {first}-{last}");
        }
        // Forwarding: cut without a word only where nobody has spoken, and where our rules have not ended it before.
        let seen = ObservedFirewall { forwards: Some("net/ipv4/ip_forward".into()), ..ObservedFirewall::default() };
        assert!(against(&site, &host, &set, &seen)[0].contains("`{ through: lb1, from: [NETWORK]"));
        let through = Ruleset { rules: [rule(Direction::Through, 443, &[])].into(), ..Ruleset::default() };
        assert_eq!(against(&site, &host, &through, &seen), Vec::<String>::new());
        let ended = ObservedFirewall { intact: true, loaded: Some(set.clone()), ..seen.clone() };
        assert_eq!(against(&site, &host, &set, &ended), Vec::<String>::new());
        let open = ObservedFirewall { intact: true, loaded: Some(through), ..seen.clone() };
        assert_eq!(against(&site, &host, &set, &open).len(), 1);
        site.firewall.forward = Some(Vec::new());
        assert_eq!(against(&site, &host, &set, &seen), Vec::<String>::new());
    }
}

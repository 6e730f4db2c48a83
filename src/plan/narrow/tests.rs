use super::*;
use crate::base::proto::Proto;
use crate::plan::plan::{Around, Because, Reload};
use crate::plan::ruleset::{Direction, PASSAGE, Rule, Ruleset};
use crate::plan::state::Follow;

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn rule(direction: Direction, port: u64, peers: &[&str]) -> Rule {
    let peers = peers.iter().map(|p| p.parse().unwrap()).collect();
    let flow = "lb -> web".to_owned();
    let port = Some(port.try_into().unwrap());
    Rule { direction, proto: Proto::Tcp, port, peers, beyond: BTreeSet::new().into(), uids: BTreeSet::new(), flow }
}

fn narrow_to(stays: &[Rule], removed: Rule) -> Action {
    let to = Ruleset { rules: stays.iter().cloned().collect(), ..Ruleset::default() };
    let (removed, around) = (vec![removed], Around::default());
    Action::Firewall { to: Box::new(to), added: Vec::new(), removed, around, why: Reload::Flows }
}

fn narrow(removed: Rule) -> Action {
    narrow_to(&[], removed)
}

fn remove() -> Action {
    Action::Remove { path: "/etc/x".into(), drift: false }
}

fn fleet() -> Addresses {
    let hosts = [
        ("lb1", &["10.0.1.11", "fd00::1:11"][..]),
        ("web1", &["10.0.2.11"]),
        ("web2", &["10.0.2.12"]),
        ("app1", &["10.0.3.11"]),
    ];
    hosts.map(|(host, addresses)| (name(host), addresses.iter().map(|a| a.parse().unwrap()).collect())).into()
}

/// Whom each host waits for, where these have an old end and a firewall in which that is open for good, and these are behind.
fn waits(hosts: &[(&str, Vec<Rule>, Vec<Action>)], behind: &[&str]) -> Vec<(String, Vec<String>)> {
    let hosts: Vec<(HostName, DesiredHost, &[Action])> = hosts
        .iter()
        .map(|(host, open, actions)| {
            let firewall = Some(Ruleset { rules: open.iter().cloned().collect(), ..Ruleset::default() });
            (name(host), DesiredHost { firewall, ..DesiredHost::default() }, actions.as_slice())
        })
        .collect();
    let closing: Vec<Closing<'_>> =
        hosts.iter().map(|(host, desired, actions)| Closing { host, actions, desired }).collect();
    let behind: Vec<HostName> = behind.iter().map(|host| name(host)).collect();
    let kept = kept(&closing, &fleet(), &behind.iter().collect());
    let text =
        |(host, users): (&HostName, Users<'_>)| (host.to_string(), users.iter().map(ToString::to_string).collect());
    kept.into_iter().map(text).collect()
}

type Case<'a> = (&'a str, Vec<Rule>, Vec<Action>, &'a [&'a str]);

#[test]
fn what_closes_is_used_by_those_who_reach_it() {
    let from_lbs = ["10.0.1.11", "10.0.1.12", "fd00::1:11"];
    let reload = || Action::Follow { unit: "x.service".into(), follow: Follow::Reload, because: Because::Changed };
    let inward = |port| rule(Direction::In, port, &["10.0.1.11", "fd00::1:11"]);
    let outward = |port| rule(Direction::Out, port, &["10.0.9.9"]);
    let named = |net: &str| Rule { flow: format!("{net} -> web"), ..rule(Direction::In, 80, &[net]) };
    let manage = Rule { flow: "manage_from -> all".into(), ..rule(Direction::In, 22, &["192.0.2.7"]) };
    let passage = Rule { flow: format!("lb -> web{PASSAGE}web1 is filled"), ..inward(9999) };
    let wider = || rule(Direction::In, 8443, &["10.0.1.0/24", "fd00::/64"]);
    let root = || Rule { uids: BTreeSet::from([0]), ..outward(443) };
    // What is open for good, the actions of `Narrow` on web1, and who of lb1, web1 and app1, all behind, may use what goes.
    let cases: [Case<'_>; 18] = [
        ("a port of the load balancers", vec![], vec![narrow(inward(8443))], &["lb1"]),
        ("a port for anyone", vec![], vec![narrow(rule(Direction::In, 80, &[]))], &["app1", "lb1"]),
        ("a port for a network", vec![], vec![narrow(rule(Direction::In, 80, &["10.0.0.0/16"]))], &["app1", "lb1"]),
        ("a port for somebody else", vec![], vec![narrow(named("192.0.2.0/24"))], &[]),
        ("a port for one address that a person named", vec![], vec![narrow(named("192.0.2.7"))], &[]),
        ("people's way in", vec![], vec![narrow(manage)], &[]),
        (
            "a port for a host that left",
            vec![],
            vec![narrow(rule(Direction::In, 80, &from_lbs))],
            &["app1", "lb1", "web1"],
        ),
        ("a way out", vec![], vec![narrow(outward(9443))], &["web1"]),
        ("a way out for all users, not for one alone", vec![], vec![narrow_to(&[root()], outward(443))], &["web1"]),
        ("a way out for one user, for all from now on", vec![], vec![narrow_to(&[outward(443)], root())], &[]),
        ("a listener that moves", vec![], vec![remove(), reload(), narrow(inward(8443))], &["lb1", "web1"]),
        ("a file, its port stays", vec![inward(8443)], vec![remove(), reload()], &["lb1", "web1"]),
        ("a file that nobody reaches", vec![outward(9443)], vec![remove()], &["web1"]),
        ("a port that one more host reaches", vec![], vec![narrow_to(&[wider()], inward(8443))], &[]),
        ("a port that one host less reaches", vec![], vec![narrow_to(&[inward(8443)], wider())], &["lb1"]),
        (
            "the same for another protocol",
            vec![],
            vec![narrow_to(&[Rule { proto: Proto::Udp, ..wider() }], inward(8443))],
            &["lb1"],
        ),
        ("what is open only while a run lasts", vec![], vec![narrow(passage)], &[]),
        ("nothing", vec![inward(8443)], vec![], &[]),
    ];
    for (what, open, actions, expected) in cases {
        let waits = waits(&[("web1", open, actions)], &["lb1", "web1", "app1"]);
        let users = waits.into_iter().flat_map(|(_, users)| users).collect::<Vec<_>>();
        assert_eq!(users, expected, "{what}");
    }
    // Where no firewall of ours stands, everyone reaches everything.
    let (desired, web1, actions) = (DesiredHost::default(), name("web1"), [remove()]);
    let one = Closing { host: &web1, actions: &actions, desired: &desired };
    assert_eq!(kept(&[one], &fleet(), &fleet().keys().collect())[&web1].len(), 4);
}

#[test]
fn hosts_that_wait_for_the_same_have_one_list_of_them() {
    let (web1, web2, desired) = (name("web1"), name("web2"), DesiredHost::default());
    let actions = [narrow(rule(Direction::In, 8443, &["10.0.1.11"]))];
    let closing = [&web1, &web2].map(|host| Closing { host, actions: &actions, desired: &desired });
    let lb1 = name("lb1");
    let kept = kept(&closing, &fleet(), &BTreeSet::from([&lb1]));
    assert!(kept[&web1].iter().eq([&&lb1]) && Arc::ptr_eq(&kept[&web1], &kept[&web2]));
}

#[test]
fn a_listener_that_is_kept_keeps_its_own_ways_open() {
    let own = |direction, port, peer| rule(direction, port, &[peer]);
    let web = || {
        let actions = vec![
            remove(),
            narrow(own(Direction::In, 8443, "10.0.1.11")),
            narrow(own(Direction::Out, 9443, "10.0.3.11")),
        ];
        ("web1", vec![own(Direction::In, 8444, "10.0.1.11")], actions)
    };
    let app = || ("app1", vec![], vec![remove(), narrow(own(Direction::In, 9443, "10.0.2.11"))]);
    let all = [("app1", vec!["lb1"]), ("web1", vec!["lb1"])]
        .map(|(host, users)| (host.to_owned(), users.into_iter().map(str::to_owned).collect()));
    assert_eq!(waits(&[web(), app()], &["lb1"]), all);
    assert_eq!(waits(&[app(), web()], &["lb1"]), all);
    // A flow alone serves nobody: where the load balancer had never been served by that port, the next tier may close.
    let flow = ("web1", vec![], vec![narrow(own(Direction::In, 8443, "10.0.1.11"))]);
    assert_eq!(waits(&[flow, app()], &["lb1"]), [("web1".to_owned(), vec!["lb1".to_owned()])]);
    // Who has moved waits for nobody, and who is not behind is no reason.
    assert_eq!(waits(&[web(), app()], &[]), []);
    assert_eq!(waits(&[web(), app()], &["web2"]), []);
}

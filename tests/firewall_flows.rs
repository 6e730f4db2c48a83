//! The flows of a fleet, the rules of one host, the table, the explanation, and the rendered files as text.
#![allow(clippy::allow_attributes, clippy::unwrap_used, reason = "helpers of tests")]

mod firewall_support;

use std::collections::BTreeSet;

use firewall_support::{host, name, place, port, site};
use infra::base::nets::Nets;
use infra::base::proto::Proto;
use infra::inventory::site::{Allow, Backend, Party, Role, Site};
use infra::plan::decision::Passage;
use infra::plan::ruleset::{Direction, Rule, Ruleset};
use infra::service::firewall::explain::{Explanation, Verdict, explain};
use infra::service::firewall::{Older, admit, attempts, flows, iptables, matrix, nft, rules};
use infra::service::platform;

fn ruleset(site: &Site, host: &str) -> Ruleset {
    rules::host_ruleset(site, &site.hosts[&name(host)], &platform::oldest(), &flows::derive(site))
}

fn lines(set: &Ruleset, way: Direction, number: u64) -> Vec<String> {
    let same = |rule: &&Rule| rule.direction == way && rule.port == Some(port(number));
    set.rules.iter().filter(same).map(ToString::to_string).collect()
}

fn allow(to: Party, from: &[Party], number: u64) -> Allow {
    Allow {
        to,
        from: from.to_vec(),
        port: Some(port(number)),
        proto: Proto::Tcp,
        through: None,
        why: "test".into(),
        place: place(99),
    }
}

#[test]
fn a_tier_is_open_to_the_tier_before_it_and_to_nobody_else() {
    let site = site(Backend::Nftables);
    assert_eq!(
        lines(&ruleset(&site, "web1"), Direction::In, 8443),
        ["in tcp 8443 peers 10.99.0.11,fd99::11 uids - # lb -> web"]
    );
    // web2 has no IPv6 address, so it meets nobody there.
    assert_eq!(
        lines(&ruleset(&site, "web2"), Direction::Out, 9443),
        ["out tcp 9443 peers 10.99.0.31 uids - # web -> app"]
    );
    assert_eq!(
        lines(&ruleset(&site, "db1"), Direction::In, 3306),
        [
            "in tcp 3306 peers 10.99.0.31,fd99::31 uids - # app -> db",
            "in tcp 3306 peers 10.99.0.42,fd99::42 uids - # db -> db"
        ]
    );
    assert_eq!(lines(&ruleset(&site, "lb1"), Direction::In, 443), ["in tcp 443 peers - uids - # internet -> lb"]);
    assert_eq!(lines(&ruleset(&site, "lb1"), Direction::In, 8443), Vec::<String>::new());
}

#[test]
fn nobody_is_not_anyone() {
    // One database: `db -> db` has no peer, and must not become a rule for everyone.
    let mut one = site(Backend::Nftables);
    one.hosts.remove(&name("db2"));
    assert_eq!(
        lines(&ruleset(&one, "db1"), Direction::In, 3306),
        ["in tcp 3306 peers 10.99.0.31,fd99::31 uids - # app -> db"]
    );
    // A host that is both ends talks to itself over loopback only.
    let mut single = site(Backend::Nftables);
    single.hosts = [host("all1", &["10.99.0.5"], &Role::ALL)].into_iter().map(|h| (h.name.clone(), h)).collect();
    let set = ruleset(&single, "all1");
    for number in [8443, 9443, 3306] {
        assert_eq!(lines(&set, Direction::In, number), Vec::<String>::new());
        assert_eq!(lines(&set, Direction::Out, number), Vec::<String>::new());
    }
    assert!(!nft::render(&set, Older::GoesOn).contains("{  }"));
}

#[test]
fn every_kind_of_party_may_be_allowed() {
    let mut site = site(Backend::Nftables);
    let net = || Party::Net("192.0.2.0/24".parse().unwrap());
    site.hosts.get_mut(&name("lb1")).unwrap().public = vec!["203.0.113.11".parse().unwrap()];
    site.firewall.allow = vec![
        allow(Party::Host(name("web1")), &[Party::Role(Role::App), net()], 7001),
        allow(net(), &[Party::Role(Role::App)], 7002),
        allow(Party::Internet, &[Party::Host(name("app1"))], 7003),
        allow(Party::All, &[Party::Internet], 7004),
        allow(Party::Role(Role::Lb), &[Party::All], 7005),
    ];
    let (web, app, lb) = (ruleset(&site, "web1"), ruleset(&site, "app1"), ruleset(&site, "lb1"));
    assert_eq!(
        lines(&web, Direction::In, 7001),
        [
            "in tcp 7001 peers 10.99.0.31,fd99::31 uids - # app -> web1",
            "in tcp 7001 peers 192.0.2.0/24 uids - # 192.0.2.0/24 -> web1"
        ]
    );
    assert_eq!(lines(&ruleset(&site, "web2"), Direction::In, 7001), Vec::<String>::new());
    assert_eq!(lines(&app, Direction::Out, 7001), ["out tcp 7001 peers 10.99.0.21,fd99::21 uids - # app -> web1"]);
    assert_eq!(lines(&app, Direction::Out, 7002), ["out tcp 7002 peers 192.0.2.0/24 uids - # app -> 192.0.2.0/24"]);
    assert_eq!(lines(&app, Direction::Out, 7003), ["out tcp 7003 peers - uids - # app1 -> internet"]);
    assert_eq!(lines(&web, Direction::In, 7004), ["in tcp 7004 peers - uids - # internet -> all"]);
    assert_eq!(lines(&web, Direction::Out, 7004), Vec::<String>::new());
    // Reached at the public address too, but never seen to come from it.
    assert_eq!(
        lines(&web, Direction::Out, 7005),
        ["out tcp 7005 peers 10.99.0.11,203.0.113.11,fd99::11 uids - # all -> lb"]
    );
    assert!(lines(&lb, Direction::In, 7005)[0].contains("10.99.0.21,10.99.0.22,10.99.0.31"));
    assert!(!lines(&lb, Direction::In, 7005)[0].contains("203.0.113.11"));
    assert!(!lines(&web, Direction::In, 8443)[0].contains("203.0.113.11"));
}

#[test]
fn ssh_follows_its_port_its_jump_host_and_a_bastion_of_the_inventory() {
    let mut site = site(Backend::Nftables);
    assert_eq!(
        lines(&ruleset(&site, "db1"), Direction::In, 22),
        ["in tcp 22 peers 10.99.0.1,fd99::1 uids - # manage_from -> all"]
    );
    {
        let db = &mut site.hosts.get_mut(&name("db1")).unwrap().ssh;
        db.port = Some(port(2222));
        db.jump = Some("ops@elsewhere.example.com,ops@lb1:22".into());
    }
    let db = ruleset(&site, "db1");
    assert_eq!(lines(&db, Direction::In, 22), Vec::<String>::new());
    assert_eq!(
        lines(&db, Direction::In, 2222),
        [
            "in tcp 2222 peers 10.99.0.1,fd99::1 uids - # manage_from -> db1",
            "in tcp 2222 peers 10.99.0.11,fd99::11 uids - # lb1 -> db1"
        ]
    );
    assert_eq!(
        lines(&ruleset(&site, "lb1"), Direction::Out, 2222),
        ["out tcp 2222 peers 10.99.0.41,fd99::41 uids - # lb1 -> db1"]
    );
    assert_eq!(lines(&ruleset(&site, "web1"), Direction::Out, 2222), Vec::<String>::new());
    // A NAT before the host may translate the port.
    site.hosts.get_mut(&name("db1")).unwrap().ssh.address = Some("gate.example.com".into());
    assert_eq!(lines(&ruleset(&site, "db1"), Direction::In, 22).len(), 2);
    // The controller is a host of the inventory: it must be let out.
    site.firewall.manage_from = vec![("10.99.0.11".parse().unwrap(), place(1))];
    assert_eq!(lines(&ruleset(&site, "lb1"), Direction::Out, 22).len(), 6);
}

#[test]
fn egress_is_named_resolvers_time_and_packages_for_some_users() {
    let mut site = site(Backend::Nftables);
    let web = ruleset(&site, "web1");
    assert_eq!(lines(&web, Direction::Out, 443), ["out tcp 443 peers - uids 0,42 # all -> internet: packages"]);
    assert_eq!(lines(&web, Direction::Out, 53).len(), 2);
    assert_eq!(lines(&web, Direction::Out, 123), ["out udp 123 peers - uids - # all -> internet: ntp"]);
    site.firewall.resolvers = ["10.0.0.53", "127.0.0.53"].iter().map(|r| r.parse().unwrap()).collect();
    assert_eq!(
        lines(&ruleset(&site, "web1"), Direction::Out, 53),
        [
            "out tcp 53 peers 10.0.0.53 uids - # all -> 10.0.0.53: dns",
            "out udp 53 peers 10.0.0.53 uids - # all -> 10.0.0.53: dns"
        ]
    );
    let any = "192.0.2.1".parse().unwrap();
    assert!(!admit::admits(&web, Direction::Out, Proto::Tcp, port(443), any), "an ordinary user may not");
    assert!(admit::admits(&web, Direction::Out, Proto::Udp, port(53), any));
}

#[test]
fn rules_read_back_from_the_record() {
    for host in ["lb1", "web2", "app1", "db2"] {
        let set = ruleset(&site(Backend::Iptables), host);
        assert_eq!(Ruleset::from_text(&set.to_text()).unwrap(), set);
    }
}

#[test]
fn the_table() {
    let mut site = site(Backend::Nftables);
    site.firewall.allow.push(allow(Party::Net("192.0.2.0/24".parse().unwrap()), &[Party::Host(name("app1"))], 587));
    let table = matrix::matrix(&site, &flows::derive(&site));
    insta::assert_snapshot!("table_120", table.to_table(120));
    insta::assert_snapshot!("table_72", table.to_table(72));
    insta::assert_snapshot!("table_30", table.to_table(30));
    for width in [72, 80, 100, 120] {
        assert!(table.to_table(width).lines().all(|line| line.chars().count() <= width), "{width}");
    }
    let json = serde_json::to_value(&table).unwrap();
    assert_eq!(json["rows"][0]["from"], "internet");
    assert_eq!(json["rows"][0]["to"]["lb"][0]["port"], 80);
}

fn ask(site: &Site, from: &str, to: &str, number: u64) -> Explanation {
    explain(site, &platform::oldest(), &flows::derive(site), (from, to), Some(port(number)), Proto::Tcp).unwrap()
}

#[test]
fn an_explanation_names_the_flow_its_line_and_the_rule() {
    let mut site = site(Backend::Nftables);
    site.firewall.block = vec![("10.99.0.128/25".parse().unwrap(), place(31))];
    let mut text = String::new();
    for (from, to, number) in [
        ("lb1", "web1", 8443),
        ("lb", "db", 3306),
        ("manage", "web2", 22),
        ("10.99.0.200", "web1", 9000),
        ("internet", "lb", 443),
        ("web1", "internet", 443),
        ("10.99.0.21", "web1", 8443),
    ] {
        text.push_str(&ask(&site, from, to, number).to_string());
        text.push('\n');
    }
    insta::assert_snapshot!("explanations", text);
    site.firewall.backend = Backend::Iptables;
    insta::assert_snapshot!("explanation_iptables", ask(&site, "lb1", "web1", 8443).to_string());
}

#[test]
fn verdicts() {
    let site = site(Backend::Nftables);
    for (from, to, number, verdict) in [
        ("lb", "web", 8443, Verdict::Allowed),
        ("web", "lb", 8443, Verdict::Denied),
        ("all", "lb1", 443, Verdict::Partly),
        ("controller", "all", 22, Verdict::Allowed),
        ("10.99.0.0/24", "all", 22, Verdict::Denied),
        ("internet", "web", 8443, Verdict::Denied),
        ("app1", "192.0.2.1", 443, Verdict::Partly),
        ("10.99.0.200", "web", 9000, Verdict::Allowed),
    ] {
        assert_eq!(ask(&site, from, to, number).verdict, verdict, "{from} {to} {number}");
    }
    let wrong = |from: &str, to: &str| {
        explain(&site, &platform::oldest(), &[], (from, to), Some(port(1)), Proto::Tcp).unwrap_err()
    };
    assert_eq!(wrong("wbe1", "lb1").help, ["did you mean `web1`?"]);
    assert_eq!(wrong("wbe1", "lb1").message, "`wbe1` is not a host, role, address or network");
    assert_eq!(wrong("10.0.0.1/24", "lb1").message, "`10.0.0.1/24` has host bits set");
    assert_eq!(
        wrong("192.0.2.1", "internet").message,
        "neither `192.0.2.1` nor `internet` is a host of this inventory"
    );
}

#[test]
fn what_is_forwarded_is_explained_too() {
    let mut site = site(Backend::Nftables);
    let forward = Allow {
        through: Some(Party::Host(name("web1"))),
        ..allow(Party::Internet, &[Party::Net("10.8.0.0/24".parse().unwrap())], 443)
    };
    site.firewall.forward = Some(vec![forward]);
    for (from, to, number, verdict) in [
        ("10.8.0.0/24", "internet", 443, Verdict::Allowed),
        ("10.8.0.7", "192.0.2.1", 443, Verdict::Allowed),
        ("10.8.0.7", "192.0.2.1", 80, Verdict::Denied),
        ("10.9.0.7", "192.0.2.1", 443, Verdict::Denied),
        ("internet", "10.8.0.7", 443, Verdict::Denied),
    ] {
        let told = ask(&site, from, to, number);
        assert_eq!(told.verdict, verdict, "{told}");
        assert!(told.sides.iter().all(|side| side.host.as_str() == "web1"), "{told}");
    }
    let told = ask(&site, "10.8.0.7", "192.0.2.1", 443).to_string();
    assert!(told.contains("through web1 from 10.8.0.7 to 192.0.2.1: yes, by `10.8.0.0/24 -> internet"), "{told}");
}

#[test]
fn probes_expect_what_the_rules_decide() {
    let mut site = site(Backend::Nftables);
    site.firewall.block = vec![("10.99.0.42".parse().unwrap(), place(31))];
    let all = flows::derive(&site);
    let probes = attempts::plan_attempts(&site, &all);
    let hosts: BTreeSet<_> = probes.iter().map(|p| (&p.from, &p.to)).collect();
    assert_eq!(hosts.len(), 6 * 5);
    for probe in &probes {
        let attempts::Source::Host(from) = &probe.from else { panic!() };
        let origin = site.hosts[from].address(probe.address.is_ipv4()).unwrap();
        let out = admit::admits(&ruleset(&site, from.as_str()), Direction::Out, probe.proto, probe.port, probe.address);
        let into = admit::admits(&ruleset(&site, probe.to.as_str()), Direction::In, probe.proto, probe.port, origin);
        assert_eq!(probe.expected, out && into, "{probe:?}");
    }
    assert!(probes.iter().any(|p| p.port == port(8080) && !p.expected), "the program's own port stays on loopback");
    let outside = attempts::attempts_from(&site, &all, &attempts::Source::Outside("198.51.100.9".parse().unwrap()));
    let open: BTreeSet<_> = outside.iter().filter(|p| p.expected).map(|p| (p.to.as_str(), p.port.get())).collect();
    assert_eq!(open, BTreeSet::from([("lb1", 80), ("lb1", 443)]));
}

#[test]
fn the_files_of_a_web_host() {
    let mut set = ruleset(&site(Backend::Nftables), "web1");
    set.block = ["203.0.113.0/24", "2001:db8::/32"].iter().map(|n| n.parse().unwrap()).collect();
    insta::assert_snapshot!("web1_nft", nft::render(&set, Older::GoesOn));
    set.backend = Backend::Iptables;
    insta::assert_snapshot!("web1_v4", iptables::render(&set, iptables::Family::V4, Older::GoesOn));
    insta::assert_snapshot!("web1_v6", iptables::render(&set, iptables::Family::V6, Older::GoesOn));
    set.guest_forwarding = true;
    insta::assert_snapshot!("web1_guest_nft", nft::render(&set, Older::GoesOn));
}

#[test]
fn a_comment_cannot_break_out() {
    let rule = Rule {
        direction: Direction::In,
        proto: Proto::Tcp,
        port: Some(port(1)),
        beyond: Nets::default(),
        peers: Nets::default(),
        uids: BTreeSet::new(),
        flow: format!("a\" ; }} flush ruleset\\\n\u{e9}{}", "x".repeat(200)),
    };
    let lines = nft::rule_lines(&rule);
    assert_eq!(lines[0].matches('"').count(), 2);
    assert!(!lines[0].contains('\n') && lines[0].len() < 180);
}

#[test]
fn a_passage_is_told_apart_from_what_is_open_for_good() {
    let site = site(Backend::Nftables);
    let way =
        |from: &str, to: &str, why: &str| Passage { from: name(from), to: name(to), port: port(4444), why: why.into() };
    let open = rules::passages(&site, &[way("db2", "db1", "db2\nis  seeded"), way("db1", "db1", "nothing")]);
    let text = |host: &str| open[&name(host)].iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        text("db1"),
        ["in tcp 4444 peers 10.99.0.42,fd99::42 uids - # db2 -> db1, only while db2 is seeded"],
        "nobody needs a way to itself"
    );
    assert_eq!(text("db2"), ["out tcp 4444 peers 10.99.0.41,fd99::41 uids - # db2 -> db1, only while db2 is seeded"]);
    let lasting = ruleset(&site, "db1");
    let mut wide = lasting.clone();
    wide.rules.extend(open[&name("db1")].iter().cloned());
    assert_eq!(Ruleset::from_text(&wide.to_text()).unwrap(), wide);
    assert!(wide != lasting && wide.lasting() == lasting);
}

#[test]
fn a_way_that_only_the_hosts_have_seen_is_open_on_both_ends() {
    let mut site = site(Backend::Nftables);
    site.through.insert(name("web2"), name("lb1"));
    let ssh = |site: &Site, host: &str, way: Direction| {
        let own = |line: &String| line.ends_with("# lb1 -> web2");
        lines(&ruleset(site, host), way, 22).into_iter().filter(own).collect::<Vec<_>>()
    };
    assert_eq!(ssh(&site, "lb1", Direction::Out), ["out tcp 22 peers 10.99.0.22 uids - # lb1 -> web2"]);
    assert_eq!(ssh(&site, "web2", Direction::In), ["in tcp 22 peers 10.99.0.11 uids - # lb1 -> web2"]);
    assert!(ssh(&site, "web1", Direction::In).is_empty());
    let table = matrix::matrix(&site, &flows::derive(&site));
    let row = table.rows.iter().find(|row| row.from == "lb1").unwrap();
    assert_eq!(row.to["web2"][0].why, "management through lb1");
    // A jump that the inventory names is the same flow, once.
    site.hosts.get_mut(&name("web2")).unwrap().ssh.jump = Some("lb1".into());
    assert_eq!(ssh(&site, "lb1", Direction::Out).len(), 1);
    // Whom the inventory does not know any more is let in nowhere.
    site.hosts.remove(&name("web2"));
    assert!(ssh(&site, "lb1", Direction::Out).is_empty());
}

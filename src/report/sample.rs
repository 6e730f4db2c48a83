//! Hand-made sites, plans and outcomes for the tests of the reporters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::base::net::{HostName, Port};
use crate::base::proto::Proto;
use crate::base::secret;
use crate::fleet::event::{Failure, HostOutcome, OpenFlow, Outcome, StepFate, StepOutcome};
use crate::inventory::site::{Backend, Certificates, FirewallPolicy, Host, Place, Ports, Role, Site, Ssh};
use crate::plan::plan::{Action, Around, Because, Change, HostPlan, Plan, Reload};
use crate::plan::ruleset::{Direction, Rule, Ruleset};
use crate::plan::state::{Access, Body, Digest, File, Follow, Phase, Recorded};

/// A flow that a run opened, and one that it did not close.
pub(crate) fn open(seen: bool) -> Vec<OpenFlow> {
    let rule = |net: &str| Rule {
        direction: Direction::In,
        proto: Proto::Tcp,
        port: Some(port(22)),
        beyond: BTreeSet::new().into(),
        peers: BTreeSet::from([net.parse().unwrap()]).into(),
        uids: BTreeSet::new(),
        flow: "manage_from".into(),
    };
    let unseen = (!seen).then(|| "it cannot be asked: no route to host".to_owned());
    let flow = |net, opened| OpenFlow { rule: rule(net), opened, declared: opened, seen, unseen: unseen.clone() };
    vec![flow("10.77.0.0/24", true), flow("10.0.0.0/24", false)]
}

pub(crate) fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn port(number: u64) -> Port {
    number.try_into().unwrap()
}

/// So many hosts of each role, `10.0.ROLE.11` and up.
pub(crate) fn site(roles: &[(&str, usize)]) -> Site {
    let mut hosts = BTreeMap::new();
    for (word, number) in roles {
        let role = Role::ALL.into_iter().find(|r| r.as_str() == *word).unwrap();
        for n in 1..=*number {
            let name = name(&format!("{word}{n}"));
            let [high, low] = u16::try_from(n + 10).unwrap().to_be_bytes();
            let address = IpAddr::V4(Ipv4Addr::new(10, role as u8, high, low));
            let host = Host {
                name: name.clone(),
                addresses: vec![address],
                public: Vec::new(),
                roles: BTreeSet::from([role]),
                allow_mixed_roles: None,
                ssh: Ssh::default(),
                place: Place::default(),
            };
            hosts.insert(name, host);
        }
    }
    Site {
        name: name("shop"),
        hosts,
        ports: Ports { web: port(8443), app: port(9443) },
        drain: std::time::Duration::from_secs(30),
        edge: crate::inventory::site::Edge::default(),
        firewall: FirewallPolicy {
            backend: Backend::Nftables,
            manage_from: Vec::new(),
            allow: Vec::new(),
            block: Vec::new(),
            forward: None,
            resolvers: Vec::new(),
        },
        sites: BTreeMap::new(),
        certificates: Certificates::internal(),
        database: None,
        monitoring: None,
        file: "inventory.yml".into(),
        folder: ".".into(),
        state: "state".into(),
        silence: BTreeMap::new(),
        through: BTreeMap::new(),
    }
}

fn body(text: &str) -> Body {
    Body { text: text.to_owned().into(), digest: Digest::of(text.as_bytes()), origin: None }
}

fn file(service: &'static str, phase: Phase, text: &str, follow: Option<(&str, Follow)>) -> File {
    File {
        service,
        phase,
        access: Access::root(0o644),
        body: body(text),
        then: follow.into_iter().map(|(unit, follow)| (unit.to_owned(), follow)).collect(),
        about: None,
    }
}

fn write(path: &str, file: File, change: Change, old: Option<&str>) -> Action {
    Action::Write { path: path.to_owned(), file, change, old: old.map(ToOwned::to_owned), stood: None }
}

fn rule(direction: Direction, flow: &str, number: u64, peers: &[&str]) -> Rule {
    Rule {
        direction,
        proto: Proto::Tcp,
        port: Some(port(number)),
        beyond: BTreeSet::new().into(),
        peers: peers.iter().map(|p| p.parse().unwrap()).collect(),
        uids: BTreeSet::new(),
        flow: flow.to_owned(),
    }
}

fn load(added: &[Rule], removed: &[Rule], why: Reload) -> Action {
    let to = Box::new(Ruleset::default());
    Action::Firewall { to, added: added.to_vec(), removed: removed.to_vec(), around: Around::default(), why }
}

fn follow(unit: &str, follow: Follow, because: Because) -> Action {
    Action::Follow { unit: unit.to_owned(), follow, because }
}

fn host(actions: impl IntoIterator<Item = (Phase, Action)>) -> HostPlan {
    let mut plan = HostPlan::default();
    for (phase, action) in actions {
        plan.phases.entry(phase).or_default().push(action);
    }
    plan
}

fn plan_of(site: &Site, of: impl Fn(&Host) -> HostPlan) -> Plan {
    let hosts = site.hosts.values().map(|h| (h.name.clone(), of(h))).collect();
    Plan { hosts, ..Plan::default() }
}

/// Three bare hosts.
pub(crate) fn first_apply() -> (Site, Plan) {
    let site = site(&[("lb", 1), ("web", 2)]);
    let plan = plan_of(&site, |h| {
        let (phase, package, path) = if h.has(Role::Lb) {
            (Phase::Edge, "haproxy", "/etc/haproxy/haproxy.cfg")
        } else {
            (Phase::Web, "nginx-light", "/etc/nginx/conf.d/shop.conf")
        };
        let unit = format!("{}.service", package.trim_end_matches("-light"));
        let address = h.addresses[0];
        let lines: Vec<String> = (0..12).map(|n| format!("line {n} of {address}\n")).collect();
        let lines = lines.concat();
        let mut key = file(package, phase, &secret::sentinel("pki/leaf.key"), Some((&unit, Follow::Reload)));
        key.access = Access { owner: "root".into(), group: "www-data".into(), mode: 0o640 };
        key.about = Some(format!("key of {}, ‹pki/{}/server.key›", site.internal_name(&h.name), h.name));
        host([
            (Phase::Packages, Action::Install { packages: vec!["nftables".into(), package.into()] }),
            (
                phase,
                Action::MakeFolder {
                    path: "/etc/infra/pki".into(),
                    access: Access { owner: "root".into(), group: "www-data".into(), mode: 0o750 },
                    exists: false,
                },
            ),
            (phase, write("/etc/infra/pki/server.key", key, Change::New, None)),
            (phase, write(path, file(package, phase, &lines, Some((&unit, Follow::Restart))), Change::Foreign, None)),
            (phase, write("/etc/infra/motd", file("x", phase, "one\ntwo\n", None), Change::New, None)),
            (phase, write("/etc/infra/long", file("x", phase, &lines, None), Change::New, None)),
            (phase, follow(&unit, Follow::Restart, Because::Changed)),
            (
                Phase::Widen,
                load(
                    &[
                        rule(Direction::In, "manage_from", 22, &["10.0.0.0/24"]),
                        rule(Direction::Out, "resolvers", 53, &[]),
                        rule(Direction::In, "internet -> lb", 443, &[]),
                    ],
                    &[],
                    Reload::First,
                ),
            ),
        ])
    });
    (site, plan)
}

/// The eight hosts of the manual: the web tier's port moves from 8443 to 8444.
pub(crate) fn port_move() -> (Site, Plan) {
    let site = site(&[("lb", 2), ("web", 2), ("app", 2), ("db", 2)]);
    let plan = plan_of(&site, |h| {
        let address = h.addresses[0];
        let config = |port: u16| format!("server {{\n    listen {address}:{port} ssl;\n    http2 on;\n}}\n");
        let flow = |way, port| rule(way, "lb -> web", port, &["10.0.0.11", "10.0.0.12"]);
        if h.has(Role::Web) {
            let nginx = Some(("nginx.service", Follow::Reload));
            let path = |port: u16| format!("/etc/nginx/conf.d/shop-{port}.conf");
            let new = file("nginx", Phase::Web, &config(8444), nginx);
            host([
                (Phase::Widen, load(&[flow(Direction::In, 8444)], &[], Reload::Flows)),
                (Phase::Web, write(&path(8444), new, Change::New, None)),
                (Phase::Web, follow("nginx.service", Follow::Reload, Because::Changed)),
                (Phase::Narrow, Action::Remove { path: path(8443), drift: false }),
                (Phase::Narrow, follow("nginx.service", Follow::Reload, Because::Changed)),
                (Phase::Narrow, load(&[], &[flow(Direction::In, 8443)], Reload::Flows)),
            ])
        } else if h.has(Role::Lb) {
            let text = |port: u16| format!("backend web\n    server web1 10.1.0.11:{port} ssl\n");
            let edge = file("haproxy", Phase::Edge, &text(8444), Some(("haproxy.service", Follow::Reload)));
            host([
                (Phase::Widen, load(&[flow(Direction::Out, 8444)], &[], Reload::Flows)),
                (Phase::Edge, write("/etc/haproxy/haproxy.cfg", edge, Change::Content, Some(&text(8443)))),
                (Phase::Edge, follow("haproxy.service", Follow::Reload, Because::Changed)),
                (Phase::Narrow, load(&[], &[flow(Direction::Out, 8443)], Reload::Flows)),
            ])
        } else {
            HostPlan::default()
        }
    });
    (site, plan)
}

/// Everything that is not new and not content: drift, access, adoption, removal, debts, dead units, secrets, other peers.
pub(crate) fn drift() -> (Site, Plan) {
    let site = site(&[("web", 2), ("db", 1)]);
    let mut plan = plan_of(&site, |_| HostPlan::default());
    let nginx = Some(("nginx.service", Follow::Reload));
    let password = format!("user app\npassword {}\n", secret::sentinel("db/app"));
    let mut web = host([
        (
            Phase::Web,
            write(
                "/etc/nginx/nginx.conf",
                file("nginx", Phase::Web, "a\nb\n", nginx),
                Change::Drift,
                Some("a\n\u{1b}[2Jx\n"),
            ),
        ),
        (
            Phase::Web,
            write(
                "/etc/infra/app.env",
                file("app", Phase::Web, &password, nginx),
                Change::Content,
                Some("user app\npassword ‹db/app›\n"),
            ),
        ),
        (Phase::Web, write("/etc/infra/key", file("app", Phase::Web, "x\n", nginx), Change::Access, None)),
        (Phase::Web, write("/etc/infra/blob", file("app", Phase::Web, "x\n", nginx), Change::Content, None)),
        (
            Phase::Web,
            Action::Adopt {
                path: "/etc/hosts.infra".into(),
                recorded: Recorded { digest: Digest::of(b""), then: BTreeMap::new() },
            },
        ),
        (Phase::Web, Action::Remove { path: "/etc/nginx/conf.d/old.conf".into(), drift: true }),
        (Phase::Web, follow("nginx.service", Follow::Reload, Because::Changed)),
        (Phase::Web, follow("haproxy.service", Follow::Restart, Because::Owed)),
        (Phase::Web, follow("infra-firewall.service", Follow::Reload, Because::Down)),
        (Phase::Narrow, follow("telegraf.service", Follow::Stop, Because::Changed)),
        (
            Phase::Widen,
            load(
                &[
                    rule(Direction::In, "lb -> web", 8443, &["10.0.0.11", "10.0.0.13"]),
                    rule(Direction::In, "web: status checks of the CDN", 9000, &["198.51.100.7"]),
                ],
                &[],
                Reload::Flows,
            ),
        ),
        (
            Phase::Narrow,
            load(
                &[],
                &[
                    rule(Direction::In, "lb -> web", 8443, &["10.0.0.11", "10.0.0.12"]),
                    rule(Direction::Out, "mail", 25, &[]),
                ],
                Reload::Flows,
            ),
        ),
    ]);
    web.drift.push("/etc/nginx/nginx.conf was changed by someone else since the last run".to_owned());
    plan.hosts.insert(name("web2"), web);
    let mut db =
        host([(Phase::Widen, load(&[rule(Direction::In, "manage_from", 22, &["10.0.0.0/24"])], &[], Reload::Drift))]);
    db.drift.push("the live firewall rules were changed by someone else since the last run".to_owned());
    plan.hosts.insert(name("db1"), db);
    (site, plan)
}

/// A change on all web hosts of a fleet.
pub(crate) fn many(hosts: usize) -> (Site, Plan) {
    let site = site(&[("lb", 2), ("web", hosts / 2), ("app", hosts - hosts / 2 - 4), ("db", 2)]);
    let plan = plan_of(&site, |h| {
        if !h.has(Role::Web) {
            return HostPlan::default();
        }
        let text = |level: &str| format!("server_name {};\nerror_log {level};\nlisten {};\n", h.name, h.addresses[0]);
        let wanted = file("nginx", Phase::Web, &text("warn"), Some(("nginx.service", Follow::Reload)));
        host([(Phase::Web, write("/etc/nginx/nginx.conf", wanted, Change::Content, Some(&text("info"))))])
    });
    (site, plan)
}

/// nginx refused its configuration.
pub(crate) fn failure() -> Failure {
    Failure {
        phase: Phase::Web,
        what: "nginx -t".to_owned(),
        words: vec![
            "nginx: [emerg] unknown directive \"lisen\"".to_owned(),
            "in /etc/nginx/conf.d/shop.conf:3".to_owned(),
        ],
        put_back: Some("/etc/nginx/conf.d/shop.conf put back, nginx.service reloaded".to_owned()),
        state: "serves the old configuration".to_owned(),
    }
}

/// One of each.
pub(crate) fn outcome() -> Outcome {
    let unreachable = || HostOutcome::Unreachable { reason: "cannot connect to 10.3.0.11:22: timed out".to_owned() };
    let waiting = || HostOutcome::NotReached { state: "all is as before".to_owned() };
    let rolled_back = Failure {
        phase: Phase::Widen,
        what: "firewall".to_owned(),
        words: vec!["no new connection within 60 s".to_owned()],
        put_back: Some("the old rules, by the host itself".to_owned()),
        state: "runs the old rules".to_owned(),
    };
    let hosts = [
        ("lb1", HostOutcome::Unchanged),
        ("lb2", HostOutcome::RolledBack(rolled_back)),
        ("web1", HostOutcome::Failed(failure())),
        ("web2", HostOutcome::Failed(failure())),
        ("app1", HostOutcome::Changed),
        ("app2", waiting()),
        ("app3", waiting()),
        ("db1", unreachable()),
    ];
    Outcome {
        run: "20261123T184501".to_owned(),
        hosts: hosts.into_iter().map(|(host, outcome)| (name(host), outcome)).collect(),
        steps: vec![StepOutcome::order(
            "shop.example.com",
            StepFate::Deferred { until: 1_795_435_200, why: "the CA is down".to_owned() },
        )],
        notes: vec!["`shop` does not answer on 127.0.0.1:8080 of app1".to_owned()],
        seconds: 4.23,
        interrupted: false,
        ..Outcome::default()
    }
}

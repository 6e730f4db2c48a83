//! The firewall against the real nft and iptables, in network namespaces: what was declared gets through, and nothing else.
#![allow(clippy::allow_attributes, clippy::unwrap_used, reason = "helpers of tests")]

mod firewall_support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firewall_support::{Net, port, site};
use infra::base::net::HostName;
use infra::base::proto::Proto;
use infra::host::{observe, seen};
use infra::inventory::site::{Allow, Backend, Party, Role, Site};
use infra::plan::decision::Passage;
use infra::plan::ruleset::Ruleset;
use infra::plan::state::{DesiredHost, ObservedFirewall};
use infra::service::Services;
use infra::service::firewall::attempts::{self, Reach};
use infra::service::firewall::script::{self, Status};
use infra::service::firewall::{Firewall, GUEST_FORWARDING, Older, admit, flows, nft, rules};
use infra::service::platform;

const RUN: &str = "/var/lib/infra/runs/1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ruleset(site: &Site, host: &str, guest: bool) -> Ruleset {
    let mut facts = platform::oldest();
    if guest {
        GUEST_FORWARDING.note(&mut facts);
    }
    rules::host_ruleset(site, &site.hosts[&host.parse().unwrap()], &facts, &flows::derive(site))
}

/// All hosts, `manage` and `client`.
fn fleet(site: &Site) -> Net {
    let mut nodes: Vec<(&str, Vec<IpAddr>)> =
        site.hosts.values().map(|h| (h.name.as_str(), h.addresses.clone())).collect();
    nodes.push(("manage", vec![ip("10.99.0.1"), ip("fd99::1")]));
    nodes.push(("client", vec![ip("10.99.0.200"), ip("fd99::200")]));
    Net::up(&nodes)
}

/// Loads and confirms; the state stands under `root`.
fn apply(net: &Net, node: &str, root: &Path, set: &Ruleset) {
    let root = root.to_str().unwrap();
    for (step, text) in [
        ("check", script::check_script(set)),
        ("load", script::load_script(set, RUN, script::WINDOW)),
        ("confirm", script::confirm_script(set, RUN)),
    ] {
        let out = net.sh(node, root, &text);
        let words = String::from_utf8_lossy(&out.stderr);
        assert_eq!(Status::of(out.status.code().unwrap()), Status::Done, "{node}: {step}: {words}");
        assert_eq!(words, "", "{node}: {step}");
    }
}

fn undo(net: &Net, dir: &str) -> Status {
    Status::of(net.sh("web1", dir, &script::undo_script(RUN)).status.code().unwrap())
}

fn observed(net: &Net, node: &str, root: &Path) -> ObservedFirewall {
    const ALONE: Services = Services(&[&Firewall]);
    let request = observe::request(ALONE, &DesiredHost::default());
    let out = net.sh(node, root.to_str().unwrap(), &observe::script(ALONE, &request).text);
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    seen::parse(ALONE, &out.stdout).unwrap().firewall
}

fn connect(net: &Net, node: &str, address: &str, number: u64) -> Reach {
    let target = (ip(address), port(number));
    let out = net.ok(node, &attempts::attempt_script(&[target], Duration::from_millis(700)));
    attempts::parse_reaches(&out)[&target]
}

/// What the site in `firewall_support` must allow, written down by hand: source, destination, port.
const DECLARED: &[(&str, &str, u16)] = &[
    ("client", "lb1", 80),
    ("client", "lb1", 443),
    ("manage", "lb1", 80),
    ("manage", "lb1", 443),
    ("lb1", "web1", 8443),
    ("lb1", "web2", 8443),
    ("web1", "app1", 9443),
    ("web2", "app1", 9443),
    ("app1", "db1", 3306),
    ("app1", "db2", 3306),
    ("db1", "db2", 3306),
    ("db2", "db1", 3306),
    ("manage", "lb1", 22),
    ("manage", "web1", 22),
    ("manage", "web2", 22),
    ("manage", "app1", 22),
    ("manage", "db1", 22),
    ("manage", "db2", 22),
    // `firewall.allow`, of one IPv4 address:
    ("client", "web1", 9000),
    ("client", "web2", 9000),
];
const PORTS: &[u16] = &[22, 80, 443, 3306, 5555, 8080, 8405, 8443, 9000, 9443];

/// Every source, destination, port and family is tried; exactly the declared ones get through.
fn sweep(backend: Backend) {
    let site = site(backend);
    let mut net = fleet(&site);
    let folder = tempfile::tempdir().unwrap();
    for host in site.hosts.keys().map(HostName::as_str) {
        let root = folder.path().join(host);
        fs_err::create_dir(&root).unwrap();
        apply(&net, host, &root, &ruleset(&site, host, false));
        net.listen(host, PORTS);
    }
    let (mut expected, mut found) = (BTreeSet::new(), BTreeSet::new());
    let mut tried = 0;
    std::thread::scope(|scope| {
        let jobs: Vec<_> = site
            .hosts
            .keys()
            .map(HostName::as_str)
            .chain(["manage", "client"])
            .map(|source| {
                let (net, site) = (&net, &site);
                scope.spawn(move || {
                    let targets: Vec<(IpAddr, infra::base::net::Port)> = site
                        .hosts
                        .values()
                        .filter(|target| target.name.as_str() != source)
                        .flat_map(|target| target.addresses.clone())
                        .filter(|address| source != "web2" || address.is_ipv4())
                        .flat_map(|address| PORTS.iter().map(move |p| (address, port(u64::from(*p)))))
                        .collect();
                    let out = net.ok(source, &attempts::attempt_script(&targets, Duration::from_millis(1500)));
                    let answers = attempts::parse_reaches(&out);
                    assert_eq!(answers.len(), targets.len(), "{source}: {out}");
                    (source, answers)
                })
            })
            .collect();
        for job in jobs {
            let (source, answers) = job.join().unwrap();
            for ((address, port), answer) in answers {
                tried += 1;
                let target = site.hosts.values().find(|h| h.addresses.contains(&address)).unwrap();
                match answer {
                    Reach::Open => {
                        found.insert((source, address, port.get()));
                    }
                    Reach::Drop => {}
                    Reach::Refused | Reach::Unreachable => panic!("{source} {address} {port}: {answer:?}"),
                }
                let declared = DECLARED.contains(&(source, target.name.as_str(), port.get()));
                if declared && (port.get() != 9000 || address.is_ipv4()) {
                    expected.insert((source, address, port.get()));
                }
            }
        }
    });
    assert_eq!(found, expected);
    assert!(tried > 700, "{tried}");

    // The plan of `firewall verify` says the same, and finds no deviation but the one that we make.
    let all = flows::derive(&site);
    let probes = attempts::attempts_from(&site, &all, &attempts::Source::Host("app1".parse().unwrap()));
    let targets: Vec<_> = probes.iter().map(|p| (p.address, p.port)).collect();
    let patience = Duration::from_secs(1);
    let measure = || attempts::parse_reaches(&net.ok("app1", &attempts::attempt_script(&targets, patience)));
    assert_eq!(attempts::compare(&probes, &measure()), []);
    let hole = match backend {
        Backend::Nftables => "nft insert rule inet infra input tcp dport 22 accept",
        Backend::Iptables => "iptables -I INFRA-IN 1 -p tcp --dport 22 -j RETURN",
    };
    net.ok("lb1", hole);
    assert_eq!(attempts::compare(&probes, &measure()), [], "the way out is still closed");
    net.ok("app1", &hole.replace("input", "output").replace("INFRA-IN", "INFRA-OUT"));
    let deviations = attempts::compare(&probes, &measure());
    assert!(
        !deviations.is_empty()
            && deviations.iter().all(|d| d.attempt.to.as_str() == "lb1" && d.attempt.port == port(22))
    );
    assert!(!observed(&net, "lb1", &folder.path().join("lb1")).intact, "drift is seen");
}

#[test]
fn exactly_the_declared_flows_get_through_with_nftables() {
    sweep(Backend::Nftables);
}

#[test]
fn exactly_the_declared_flows_get_through_with_iptables() {
    sweep(Backend::Iptables);
}

/// Two hosts: `web1` with its rules, and `lb1`, `manage`, `client` without.
fn one(backend: Backend) -> (Site, Net, tempfile::TempDir) {
    let (site, mut net, root) = quiet(backend);
    net.listen("web1", &[22, 8443, 9000]);
    (site, net, root)
}

/// As [`one`], and nothing listens.
fn quiet(backend: Backend) -> (Site, Net, tempfile::TempDir) {
    let site = site(backend);
    let net = Net::up(&[
        ("web1", vec![ip("10.99.0.21"), ip("fd99::21")]),
        ("lb1", vec![ip("10.99.0.11"), ip("fd99::11")]),
        ("manage", vec![ip("10.99.0.1"), ip("fd99::1")]),
        ("client", vec![ip("10.99.0.200"), ip("fd99::200")]),
    ]);
    (site, net, tempfile::tempdir().unwrap())
}

fn record_and_twice(backend: Backend) {
    let (site, net, root) = one(backend);
    let set = ruleset(&site, "web1", false);
    assert_eq!(observed(&net, "web1", root.path()), ObservedFirewall::default());
    for _ in 0..2 {
        apply(&net, "web1", root.path(), &set);
        let answer = observed(&net, "web1", root.path());
        assert_eq!(answer.loaded.as_ref(), Some(&set));
        assert!(answer.intact && answer.boot_current && !answer.pending, "{answer:?}");
        assert_eq!(answer.rivals, Vec::<String>::new());
    }
    // Traffic moves counters and changes nothing.
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Open);
    assert_eq!(connect(&net, "client", "10.99.0.21", 22), Reach::Drop);
    assert!(observed(&net, "web1", root.path()).intact);
    // A boot file that someone edited is seen.
    let name = if backend == Backend::Nftables { "firewall.nft" } else { "firewall.v6" };
    let path = root.path().join("etc/infra").join(name);
    fs_err::write(&path, fs_err::read_to_string(&path).unwrap() + "# x\n").unwrap();
    let answer = observed(&net, "web1", root.path());
    assert!(answer.intact && !answer.boot_current);
}

#[test]
fn what_was_loaded_is_recorded_and_twice_is_the_same_with_nftables() {
    record_and_twice(Backend::Nftables);
}

#[test]
fn what_was_loaded_is_recorded_and_twice_is_the_same_with_iptables() {
    record_and_twice(Backend::Iptables);
}

/// Holds the lock of a host, as a run does.
fn hold(root: &Path) -> Child {
    let state = root.join("var/lib/infra");
    fs_err::create_dir_all(&state).unwrap();
    let mut flock = Command::new("flock");
    let mut run = flock.arg(state.join("lock")).args(["sh", "-c", "echo ready; exec cat >/dev/null"]);
    run = run.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = run.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    run
}

/// What is open only while a run lasts lets its one way through, in one direction and both families, and nothing when it is over: no
/// more where the run dies, as the hosts themselves close it then.
fn passage(backend: Backend) {
    let site = site(backend);
    let mut net = fleet(&site);
    let folder = tempfile::tempdir().unwrap();
    let host = |name: &str| name.parse::<HostName>().unwrap();
    let way = Passage { from: host("db2"), to: host("db1"), port: port(5555), why: "db2 is seeded".into() };
    let open = rules::passages(&site, &[way]);
    assert_eq!(open.keys().map(HostName::as_str).collect::<Vec<_>>(), ["db1", "db2"]);
    let sets = |wide: bool| -> Vec<(&HostName, Ruleset)> {
        let set = |name: &HostName| {
            let mut set = ruleset(&site, name.as_str(), false);
            set.rules.extend(open.get(name).into_iter().flatten().filter(|_| wide).cloned());
            set
        };
        site.hosts.keys().map(|name| (name, set(name))).collect()
    };
    for name in ["db1", "db2"] {
        net.listen(name, &[5555]);
    }
    let mut runs: Vec<Child> = site.hosts.keys().map(|name| hold(&folder.path().join(name.as_str()))).collect();
    let rounds = [(true, "a run"), (false, "the hosts themselves"), (true, "a run"), (false, "a run")];
    for (round, (wide, by)) in rounds.into_iter().enumerate() {
        for (name, set) in sets(wide) {
            let root = folder.path().join(name.as_str());
            if by == "a run" {
                apply(&net, name.as_str(), &root, &set);
            }
            until(&format!("{name} has its rules by {by}"), || {
                let seen = observed(&net, name.as_str(), &root);
                seen.intact && seen.loaded.as_ref() == Some(&set)
            });
            assert_eq!(set.lasting(), ruleset(&site, name.as_str(), false));
        }
        let tries = [("db2", "db1"), ("db1", "db2"), ("app1", "db1"), ("client", "db1"), ("db2", "app1")];
        let through = tries.map(|(from, to)| {
            let addresses = &site.hosts[&host(to)].addresses;
            let reached = addresses.iter().map(|to| connect(&net, from, &to.to_string(), 5555).is_through());
            reached.collect::<Vec<bool>>()
        });
        let (open, closed) = (vec![wide; 2], || vec![false; 2]);
        assert_eq!(through, [open, closed(), closed(), closed(), closed()], "{wide} by {by}");
        match round {
            // The first run dies; the one of the next rounds lives on.
            0 => runs.drain(..).for_each(|mut run| {
                drop(run.stdin.take());
                run.wait().unwrap();
            }),
            1 => runs = site.hosts.keys().map(|name| hold(&folder.path().join(name.as_str()))).collect(),
            _ => {}
        }
    }
}

#[test]
fn a_passage_is_one_way_and_over_with_the_run_with_nftables() {
    passage(Backend::Nftables);
}

#[test]
fn a_passage_is_one_way_and_over_with_the_run_with_iptables() {
    passage(Backend::Iptables);
}

fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !seen() {
        assert!(Instant::now() < end, "not within 15 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A ruleset that shuts the controller out comes off by itself, and a late confirmation says so.
fn lockout(backend: Backend) {
    let (mut site, net, root) = one(backend);
    let dir = root.path().to_str().unwrap();
    let good = ruleset(&site, "web1", false);
    apply(&net, "web1", root.path(), &good);
    site.firewall.manage_from[0].0 = "10.99.0.99".parse().unwrap();
    let bad = ruleset(&site, "web1", false);
    assert!(admit::controller_is_admitted(&good, ip("10.99.0.1"), port(22)));
    assert!(!admit::controller_is_admitted(&bad, ip("10.99.0.1"), port(22)));
    let out = net.sh("web1", dir, &script::load_script(&bad, RUN, Duration::from_secs(2)));
    assert_eq!(Status::of(out.status.code().unwrap()), Status::Done, "{}", String::from_utf8_lossy(&out.stderr));
    assert!(observed(&net, "web1", root.path()).pending);
    assert_eq!(connect(&net, "manage", "10.99.0.21", 22), Reach::Drop);
    until("the old rules are back", || connect(&net, "manage", "10.99.0.21", 22) == Reach::Open);
    until("the marker is gone", || !observed(&net, "web1", root.path()).pending);
    let answer = observed(&net, "web1", root.path());
    assert!(answer.intact && answer.boot_current, "{answer:?}");
    assert_eq!(answer.loaded, Some(good));
    let out = net.sh("web1", dir, &script::confirm_script(&bad, RUN));
    assert_eq!(Status::of(out.status.code().unwrap()), Status::RolledBack);

    // A change that a dead run left armed is undone by the next one, and by `undo`.
    let slow = script::load_script(&bad, RUN, script::WINDOW);
    assert!(net.sh("web1", dir, &slow).status.success());
    assert_eq!(connect(&net, "manage", "10.99.0.21", 22), Reach::Drop);
    assert_eq!(undo(&net, dir), Status::PutBack);
    assert_eq!(connect(&net, "manage", "10.99.0.21", 22), Reach::Open);
    assert!(net.sh("web1", dir, &slow).status.success());
    apply(
        &net,
        "web1",
        root.path(),
        &ruleset(
            &{
                let mut s = site.clone();
                s.firewall.manage_from[0].0 = "10.99.0.1".parse().unwrap();
                s
            },
            "web1",
            false,
        ),
    );
    assert_eq!(connect(&net, "manage", "10.99.0.21", 22), Reach::Open);
    assert_eq!(undo(&net, dir), Status::Restarted, "nothing to undo");
    assert_eq!(connect(&net, "client", "10.99.0.21", 22), Reach::Drop);
}

#[test]
fn a_lockout_rolls_itself_back_with_nftables() {
    lockout(Backend::Nftables);
}

#[test]
fn a_lockout_rolls_itself_back_with_iptables() {
    lockout(Backend::Iptables);
}

#[test]
fn a_first_ruleset_that_is_undone_leaves_nothing() {
    for backend in [Backend::Nftables, Backend::Iptables] {
        let (site, net, root) = one(backend);
        let dir = root.path().to_str().unwrap();
        let set = ruleset(&site, "web1", false);
        assert!(net.sh("web1", dir, &script::load_script(&set, RUN, script::WINDOW)).status.success());
        assert_eq!(connect(&net, "client", "10.99.0.21", 22), Reach::Drop);
        assert_eq!(undo(&net, dir), Status::PutBack);
        assert_eq!(connect(&net, "client", "10.99.0.21", 22), Reach::Open);
        assert_eq!(connect(&net, "client", "fd99::21", 22), Reach::Open);
        assert!(!net.ok("web1", "nft list ruleset").to_lowercase().contains("infra"));
        assert_eq!(observed(&net, "web1", root.path()), ObservedFirewall::default());
    }
}

#[test]
fn the_backend_changes_over_and_back() {
    let (mut site, net, root) = one(Backend::Nftables);
    let list = || net.ok("web1", "nft list ruleset");
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    for backend in [Backend::Iptables, Backend::Nftables] {
        site.firewall.backend = backend;
        apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
        let text = list();
        assert_eq!(text.contains("table inet infra"), backend == Backend::Nftables, "{text}");
        assert_eq!(text.contains("INFRA-IN"), backend == Backend::Iptables, "{text}");
        assert_eq!(connect(&net, "lb1", "fd99::21", 8443), Reach::Open);
        assert_eq!(connect(&net, "client", "fd99::21", 22), Reach::Drop);
        let answer = observed(&net, "web1", root.path());
        assert!(answer.intact && answer.boot_current, "{answer:?}");
        // Undone after a change of backend, the other one is back.
        let mut other = site.clone();
        other.firewall.backend = if backend == Backend::Nftables { Backend::Iptables } else { Backend::Nftables };
        let dir = root.path().to_str().unwrap();
        assert!(
            net.sh("web1", dir, &script::load_script(&ruleset(&other, "web1", false), RUN, script::WINDOW))
                .status
                .success()
        );
        assert_eq!(undo(&net, dir), Status::PutBack);
        assert!(observed(&net, "web1", root.path()).intact);
    }
}

#[test]
fn bans_and_the_rules_of_others_outlive_a_reload() {
    let (mut site, net, root) = one(Backend::Nftables);
    net.ok("web1", "nft 'table ip other { chain c { type filter hook input priority 5; tcp dport 7 drop; }; }'");
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    net.ok("web1", "nft add element inet infra_block banned4 '{ 10.99.0.11 timeout 1h }'");
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Drop);
    assert!(observed(&net, "web1", root.path()).intact, "a ban is no drift");
    site.firewall.block = vec![("10.99.0.200".parse().unwrap(), firewall_support::place(30))];
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Drop);
    assert_eq!(connect(&net, "lb1", "fd99::21", 8443), Reach::Open);
    assert_eq!(connect(&net, "client", "10.99.0.21", 9000), Reach::Drop, "blocked, though a flow allows it");
    site.firewall.block.clear();
    let dir = root.path().to_str().unwrap();
    let open = script::load_script(&ruleset(&site, "web1", false), RUN, script::WINDOW);
    assert!(net.sh("web1", dir, &open).status.success());
    assert_eq!(connect(&net, "client", "10.99.0.21", 9000), Reach::Open);
    assert_eq!(undo(&net, dir), Status::PutBack);
    assert_eq!(connect(&net, "client", "10.99.0.21", 9000), Reach::Drop);
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Drop, "the ban outlives a rollback too");
    assert!(net.ok("web1", "nft list ruleset").contains("tcp dport 7 drop"));
}

#[test]
fn bans_and_the_rules_of_others_outlive_a_reload_with_iptables() {
    let (site, net, root) = one(Backend::Iptables);
    net.ok("web1", "iptables -A INPUT -p tcp --dport 7 -j DROP; iptables -N f2b; iptables -I INPUT 1 -j f2b");
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    net.ok("web1", "iptables -t raw -A INFRA-BAN -s 10.99.0.11 -j DROP");
    assert!(observed(&net, "web1", root.path()).intact, "a ban is no drift");
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Drop);
    assert_eq!(connect(&net, "lb1", "fd99::21", 8443), Reach::Open);
    let rules = net.ok("web1", "iptables -S INPUT");
    assert_eq!(
        rules,
        "-P INPUT ACCEPT\n-A INPUT -j INFRA-IN\n-A INPUT -j f2b\n-A INPUT -p tcp -m tcp --dport 7 -j DROP\n"
    );
    net.ok("web1", "iptables -I INPUT 1 -j ACCEPT");
    assert!(!observed(&net, "web1", root.path()).intact, "a rule that accepts before ours is drift");
}

fn older_connection(backend: Backend) {
    let (site, mut net, root) = quiet(backend);
    let set = ruleset(&site, "web1", false);
    // A connection that is older than the firewall: the host speaks first, and every 20 ms.
    net.daemon(
        "web1",
        "use Socket; $|=1; socket(S,AF_INET,SOCK_STREAM,0); setsockopt(S,SOL_SOCKET,SO_REUSEADDR,1);\
         bind(S,pack_sockaddr_in(22,INADDR_ANY)) or die; listen(S,5); print \"ready\\n\"; accept(C,S);\
         while(defined syswrite(C,'x')) { select(undef,undef,undef,0.02) }",
    );
    let log = root.path().join("got");
    net.daemon(
        "manage",
        &format!(
            "use Socket; $|=1; socket(S,AF_INET,SOCK_STREAM,0); connect(S,pack_sockaddr_in(22,inet_aton('10.99.0.21'))) or die;\
             sysread(S,my $b,1) or die; print \"ready\\n\"; my $n=0; while(sysread(S,$b,99)) {{ $n+=length $b;\
             open(F,'>','{}'); print F $n; close F; }} open(F,'>','{}'); print F 'cut'; close F;",
            log.display(),
            log.display()
        ),
    );
    let got = || fs_err::read_to_string(&log).unwrap_or_default();
    until("data flows", || !got().is_empty());
    // Without the check before, which would let the tracking of connections see this one.
    for _ in 0..4 {
        let before: u32 = got().parse().unwrap_or(0);
        let load = script::load_script(&set, RUN, script::WINDOW);
        assert!(net.sh("web1", root.path().to_str().unwrap(), &load).status.success());
        until("data still flows", || {
            assert_ne!(got(), "cut");
            got().parse::<u32>().is_ok_and(|now| now > before)
        });
        assert!(net.sh("web1", root.path().to_str().unwrap(), &script::confirm_script(&set, RUN)).status.success());
    }
}

#[test]
fn a_connection_older_than_the_firewall_goes_on_with_nftables() {
    older_connection(Backend::Nftables);
}

#[test]
fn a_connection_older_than_the_firewall_goes_on_with_iptables() {
    older_connection(Backend::Iptables);
}

#[test]
fn new_connections_get_through_while_rules_are_loaded_anew() {
    let (site, net, root) = one(Backend::Nftables);
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    let rules = root.path().join("etc/infra/firewall.nft");
    let stop = root.path().join("stop");
    std::thread::scope(|scope| {
        let (net, rules, stop) = (&net, &rules, &stop);
        scope.spawn(move || {
            net.ok(
                "web1",
                &format!(
                    "i=0; while ! [ -e {} ] && [ $i -lt 5000 ]; do nft -f {} || exit 1; i=$((i+1)); done",
                    stop.display(),
                    rules.display()
                ),
            );
        });
        let targets = vec![(ip("10.99.0.21"), port(8443))];
        for attempt in 0..25 {
            let out = net.ok("lb1", &attempts::attempt_script(&targets, Duration::from_millis(900)));
            assert_eq!(attempts::parse_reaches(&out)[&targets[0]], Reach::Open, "attempt {attempt}");
        }
        fs_err::write(stop, "").unwrap();
    });
}

#[test]
fn broken_rules_leave_the_old_ones() {
    for backend in [Backend::Nftables, Backend::Iptables] {
        let (site, net, root) = one(backend);
        let dir = root.path().to_str().unwrap();
        let set = ruleset(&site, "web1", false);
        apply(&net, "web1", root.path(), &set);
        let breakage = |text: String| match backend {
            Backend::Nftables => text.replace("tcp dport 8443", "tcp dport eightyfour"),
            Backend::Iptables => text.replace("--dport 8443", "--dport eightyfour"),
        };
        let out = net.sh("web1", dir, &breakage(script::check_script(&set)));
        assert!(!out.status.success());
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(words.contains("eightyfour") || words.contains("line"), "{words}");
        let out = net.sh("web1", dir, &breakage(script::load_script(&set, RUN, script::WINDOW)));
        assert_eq!(Status::of(out.status.code().unwrap()), Status::Refused, "{}", String::from_utf8_lossy(&out.stderr));
        let answer = observed(&net, "web1", root.path());
        assert!(answer.intact && !answer.pending, "{answer:?}");
        // A script of which only a part arrived does nothing.
        let whole = script::load_script(&set, RUN, script::WINDOW);
        let half = &whole[..whole.len() * 9 / 10];
        assert!(!net.sh("web1", dir, half).status.success());
        assert!(!observed(&net, "web1", root.path()).pending);
    }
}

/// A published port of a container is no way round the rules.
fn docker(backend: Backend) {
    let site = site(backend);
    let mut net = Net::up(&[
        ("web1", vec![ip("10.99.0.21"), ip("fd99::21")]),
        ("lb1", vec![ip("10.99.0.11"), ip("fd99::11")]),
        ("client", vec![ip("10.99.0.200"), ip("fd99::200")]),
        ("box", vec![]),
    ]);
    // The container hangs on the same wire with addresses of its own; only web1 routes to it.
    net.ok("box", "ip addr add 172.30.0.2/24 dev eth0; ip route add default via 172.30.0.1");
    net.ok(
        "web1",
        "ip addr add 172.30.0.1/24 dev eth0; sysctl -qw net.ipv4.ip_forward=1\n\
         nft 'table ip docker { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.99.0.21 tcp dport { 8443, 8099 } dnat to 172.30.0.2; }; }'",
    );
    net.listen("box", &[8443, 8099]);
    let root = tempfile::tempdir().unwrap();
    for node in ["lb1", "client"] {
        assert_eq!(connect(&net, node, "10.99.0.21", 8099), Reach::Open);
    }
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", true));
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8099), Reach::Drop);
    assert_eq!(connect(&net, "client", "10.99.0.21", 8099), Reach::Drop);
    assert_eq!(connect(&net, "client", "10.99.0.21", 8443), Reach::Drop);
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Open, "a flow allows it");
    // What the container itself opens goes on.
    net.listen("client", &[7777]);
    net.ok("client", "ip route add 172.30.0.0/24 via 10.99.0.21");
    assert_eq!(connect(&net, "box", "10.99.0.200", 7777), Reach::Open);
    // A snapshot of these rules loads again.
    let dir = root.path().to_str().unwrap();
    assert!(
        net.sh("web1", dir, &script::load_script(&ruleset(&site, "web1", false), RUN, script::WINDOW)).status.success()
    );
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Drop, "without guests nothing is forwarded");
    assert_eq!(undo(&net, dir), Status::PutBack);
    assert!(observed(&net, "web1", root.path()).intact);
    assert_eq!(connect(&net, "lb1", "10.99.0.21", 8443), Reach::Open);
}

#[test]
fn a_published_port_is_no_bypass_with_nftables() {
    docker(Backend::Nftables);
}

#[test]
fn a_published_port_is_no_bypass_with_iptables() {
    docker(Backend::Iptables);
}

#[test]
fn a_refusal_of_the_other_host_is_told_from_our_own() {
    let (mut site, net, root) = one(Backend::Nftables);
    // Out of web1 only app1:9443 is open; give that address to nobody's listener.
    site.hosts.get_mut(&firewall_support::name("app1")).unwrap().addresses = vec![ip("10.99.0.11"), ip("fd99::11")];
    for backend in [Backend::Nftables, Backend::Iptables] {
        site.firewall.backend = backend;
        apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
        for address in ["10.99.0.11", "fd99::11"] {
            assert_eq!(connect(&net, "web1", address, 9443), Reach::Refused, "allowed, nobody listens");
            assert_eq!(connect(&net, "web1", address, 9444), Reach::Drop, "denied on our side");
            // Everyone else is refused at once.
            let out = net.sh("web1", "", &format!("bash -c 'echo > /dev/tcp/{address}/9444'"));
            assert!(String::from_utf8_lossy(&out.stderr).contains("refused"), "{out:?}");
        }
        // Root may fetch packages, others may not.
        let get = |user: &str| {
            net.sh(
                "web1",
                "",
                &format!("setpriv --reuid={user} --clear-groups bash -c 'echo > /dev/tcp/10.99.0.11/443'"),
            )
        };
        let text = String::from_utf8_lossy(&get("0").stderr).into_owned();
        assert!(text.contains("refused"), "{text}");
        let before = net.ok("web1", counter(backend));
        get("65534");
        assert_ne!(net.ok("web1", counter(backend)), before, "the default deny counted it");
        let before = net.ok("web1", counter(backend));
        get("42");
        assert_eq!(net.ok("web1", counter(backend)), before);
    }
}

fn counter(backend: Backend) -> &'static str {
    match backend {
        Backend::Nftables => "nft list chain inet infra deny_out | grep 'tcp reset'",
        Backend::Iptables => "iptables-save -c -t filter | grep tcp-reset",
    }
}

#[test]
fn a_network_of_everyone_and_overlapping_networks_load() {
    for backend in [Backend::Nftables, Backend::Iptables] {
        let (mut site, net, root) = one(backend);
        let nets = ["0.0.0.0/0", "::/0", "10.99.0.0/24", "10.99.0.0/25", "10.99.0.7", "fd99::/64", "fd99::7"];
        site.firewall.manage_from = nets.iter().map(|n| (n.parse().unwrap(), firewall_support::place(1))).collect();
        site.firewall.block = ["203.0.113.0/24", "203.0.113.0/25", "2001:db8::/32", "2001:db8::1"]
            .iter()
            .map(|n| (n.parse().unwrap(), firewall_support::place(2)))
            .collect();
        apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
        assert_eq!(connect(&net, "client", "10.99.0.21", 22), Reach::Open);
        assert_eq!(connect(&net, "client", "fd99::21", 22), Reach::Open);
        assert_eq!(connect(&net, "client", "fd99::21", 8443), Reach::Drop);
    }
    assert!(nft::render(&Ruleset::default(), Older::GoesOn).contains("policy drop"));
}

#[test]
fn after_a_boot_the_rules_are_those_of_the_boot_file() {
    for backend in [Backend::Nftables, Backend::Iptables] {
        let (site, net, root) = one(backend);
        apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
        // What a new kernel starts with, then what the unit starts.
        net.ok("web1", "nft flush ruleset");
        assert!(!observed(&net, "web1", root.path()).intact);
        let unit = fs_err::read_to_string(root.path().join("etc/systemd/system/infra-firewall.service")).unwrap();
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let command = command.replace(" /etc/", &format!(" {}/etc/", root.path().display()));
        net.ok("web1", &command);
        assert!(observed(&net, "web1", root.path()).intact, "{command}");
        assert_eq!(connect(&net, "lb1", "fd99::21", 8443), Reach::Open);
        assert_eq!(connect(&net, "client", "10.99.0.21", 22), Reach::Drop);
        net.ok("web1", &command);
        assert!(observed(&net, "web1", root.path()).intact, "a second start changes nothing");
    }
}

#[test]
fn with_systemd_a_timer_is_armed_before_the_load_and_the_unit_enabled_last() {
    let (site, net, root) = one(Backend::Nftables);
    let dir = root.path().to_str().unwrap();
    let set = ruleset(&site, "web1", false);
    fs_err::create_dir_all(root.path().join("run/systemd/system")).unwrap();
    fs_err::create_dir(root.path().join("bin")).unwrap();
    for tool in ["systemd-run", "systemctl"] {
        let path = root.path().join("bin").join(tool);
        let text = format!(
            "#!/bin/sh\n{{ printf '{tool} %s' \"$*\"; nft list table inet infra >/dev/null 2>&1 && printf ' (loaded)'; \
             [ -e \"$ROOT/etc/infra/firewall.nft\" ] && printf ' (boot file)'; echo; }} >>\"$ROOT/log\"\n[ ! -e \"$ROOT/broken\" ]\n"
        );
        fs_err::write(&path, text).unwrap();
        net.ok("web1", &format!("chmod 755 {}", path.display()));
    }
    let run = |text: &str| {
        let out = net.sh("web1", dir, &format!("PATH=$ROOT/bin:$PATH\n{text}"));
        Status::of(out.status.code().unwrap())
    };
    let log = || fs_err::read_to_string(root.path().join("log")).unwrap_or_default();
    // Where no timer can be armed, nothing is loaded.
    fs_err::write(root.path().join("broken"), "").unwrap();
    assert_eq!(run(&script::load_script(&set, RUN, script::WINDOW)), Status::NotArmed);
    assert!(!net.ok("web1", "nft list tables").contains("infra"));
    assert!(!root.path().join("run/infra/firewall.armed").exists());
    fs_err::remove_file(root.path().join("broken")).unwrap();
    fs_err::remove_file(root.path().join("log")).unwrap();

    assert_eq!(run(&script::load_script(&set, RUN, script::WINDOW)), Status::Done);
    let armed = log();
    let line = armed.lines().find(|line| line.starts_with("systemd-run")).unwrap();
    for part in
        ["--on-active=55 ", "--timer-property=AccuracySec=1s ", "--unit=infra-firewall-rollback ", "/rollback.sh "]
    {
        assert!(line.contains(part), "{line}");
    }
    assert!(!line.contains("(loaded)"), "armed before the load: {line}");
    assert_eq!(run(&script::confirm_script(&set, RUN)), Status::Done);
    let all = log();
    let last: Vec<&str> = all.lines().rev().take(2).collect();
    assert_eq!(last[0], "systemctl enable --quiet infra-firewall.service (loaded) (boot file)");
    assert!(last[1].starts_with("systemctl daemon-reload"), "{all}");
    assert!(
        all.lines().any(|l| l == "systemctl stop infra-firewall-rollback.timer (loaded)"),
        "stopped before the boot file: {all}"
    );
}

#[test]
fn whoever_takes_the_token_first_wins() {
    let (site, net, root) = one(Backend::Nftables);
    let dir = root.path().to_str().unwrap();
    let set = ruleset(&site, "web1", false);
    assert!(net.sh("web1", dir, &script::load_script(&set, RUN, script::WINDOW)).status.success());
    let marker = root.path().join("run/infra/firewall.armed");
    let token = fs_err::read_to_string(&marker).unwrap();
    let token = Path::new(token.trim());
    // A load that is still at work is waited for.
    let loaded = token.with_file_name("loaded");
    fs_err::remove_file(&loaded).unwrap();
    std::thread::scope(|scope| {
        let confirm = scope.spawn(|| net.sh("web1", dir, &script::confirm_script(&set, RUN)));
        assert!(token.exists() && !confirm.is_finished());
        fs_err::write(&loaded, "").unwrap();
        assert!(confirm.join().unwrap().status.success());
    });
    assert!(observed(&net, "web1", root.path()).intact);
    assert!(net.sh("web1", dir, &script::load_script(&set, RUN, script::WINDOW)).status.success());
    let token = fs_err::read_to_string(&marker).unwrap();
    let token = Path::new(token.trim());
    fs_err::remove_file(root.path().join("etc/infra/firewall.nft")).unwrap();
    // The rollback has begun, and has not yet ended.
    fs_err::rename(token, token.with_file_name("rolling-back")).unwrap();
    let out = net.sh("web1", dir, &script::confirm_script(&set, RUN));
    assert_eq!(Status::of(out.status.code().unwrap()), Status::RolledBack);
    assert!(!root.path().join("etc/infra/firewall.nft").exists(), "nothing was recorded");
    // And the other way round: confirmed, so the timer that comes late does nothing.
    apply(&net, "web1", root.path(), &set);
    net.ok("web1", &format!("sh {dir}{RUN}/rollback.sh {}", token.display()));
    assert!(observed(&net, "web1", root.path()).intact);
}

/// Rules of others: what they are, how they are made, and the ports that they shut.
type Case<'a> = (&'a str, &'a [&'a str], &'a [(u16, u16)]);

/// Others are judged by what they do with what comes in and goes out, not by their policies.
#[test]
fn rivals_are_named() {
    let (site, net, root) = one(Backend::Nftables);
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    // What somebody else loads, and the tables that refuse all that they do not accept; then the ports that are refused by themselves.
    let cases: [Case<'_>; 12] = [
        ("nft 'table inet mine { chain c { type filter hook input priority 5; policy drop; }; }'", &["inet mine"], &[]),
        ("nft 'table ip mine { chain c { type filter hook input priority 5; counter reject; }; }'", &["ip mine"], &[]),
        (
            "iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited",
            &["ip filter"],
            &[],
        ),
        ("ip6tables -A INPUT -j LOG --log-prefix 'in: '; ip6tables -A INPUT -j DROP", &["ip6 filter"], &[]),
        (
            "nft 'table inet mine { chain d { log prefix \"a b\" level info counter drop; }; chain c { type filter hook prerouting priority -150; jump d; }; }'",
            &["inet mine"],
            &[],
        ),
        (
            "nft 'table netdev mine { chain c { type filter hook ingress device eth0 priority 5; drop; }; }'",
            &["netdev mine"],
            &[],
        ),
        (
            "nft 'table inet mine { chain c { type filter hook output priority 5; oif lo accept; reject; }; }'",
            &["inet mine"],
            &[],
        ),
        (
            "nft 'table inet mine { chain c { type filter hook input priority 5; tcp dport { 443, 8443-8444 } reject with tcp reset; }; }'",
            &[],
            &[(443, 443), (8443, 8444)],
        ),
        ("iptables -A INPUT -p tcp -m tcp --dport 8443 -j REJECT", &[], &[(8443, 8443)]),
        // What ends in nothing for us: bans, an accept before the policy, chains that only some go through, and what is forwarded.
        (
            "nft 'table inet mine { set s { type ipv4_addr; }; chain c { type filter hook input priority 5; ip saddr @s drop; ct state invalid drop; tcp dport 25 ip saddr 192.0.2.1 reject; }; }'",
            &[],
            &[],
        ),
        ("nft 'table inet mine { chain c { type filter hook input priority 5; policy drop; accept; }; }'", &[], &[]),
        (
            "nft 'table inet mine { chain d { drop; }; chain c { type filter hook input priority 5; ip saddr 192.0.2.1 jump d; }; chain f { type filter hook forward priority 0; policy drop; }; }'",
            &[],
            &[],
        ),
    ];
    for (load, tables, ports) in cases {
        net.ok("web1", load);
        let seen = observed(&net, "web1", root.path());
        assert_eq!(seen.rivals.len(), tables.len(), "{load}: {:?}", seen.rivals);
        for (rival, table) in seen.rivals.iter().zip(tables) {
            assert!(rival.starts_with(&format!("the table `{table}` refuses at the ")), "{load}: {rival}");
        }
        let shut: Vec<(u16, u16)> = seen.shut.iter().map(|s| (s.ports.0.get(), s.ports.1.get())).collect();
        assert_eq!(shut, ports, "{load}");
        net.ok("web1", "for t in 'inet mine' 'ip mine' 'netdev mine' 'ip filter' 'ip6 filter'; do nft delete table $t 2>/dev/null; done; true");
    }
    assert_eq!(observed(&net, "web1", root.path()).rivals, Vec::<String>::new());
}

/// A host that forwards is seen, and lets through what the inventory names, from and to there, and nothing else.
fn gateway(backend: Backend) {
    let mut site = site(backend);
    let mut net = Net::up(&[
        ("web1", vec![ip("10.99.0.21"), ip("fd99::21")]),
        ("client", vec![ip("10.99.0.200"), ip("fd99::200")]),
        ("box", vec![]),
    ]);
    // The box hangs on the same wire with addresses of its own; only web1 routes to it.
    net.ok(
        "box",
        "ip addr add 172.30.0.2/24 dev eth0; ip route add default via 172.30.0.1\n\
         ip addr add fd30::2/64 dev eth0 nodad; ip -6 route add default via fd30::1",
    );
    net.ok("web1", "ip addr add 172.30.0.1/24 dev eth0; ip addr add fd30::1/64 dev eth0 nodad");
    // On one wire a router tells of the shorter way, which is not the one of this test.
    for node in ["box", "client"] {
        net.ok(node, "sysctl -qw net.ipv6.conf.eth0.accept_redirects=0 net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.eth0.accept_redirects=0");
    }
    net.ok("client", "ip route add 172.30.0.0/24 via 10.99.0.21; ip -6 route add fd30::/64 via fd99::21");
    for node in ["box", "client"] {
        net.listen(node, &[7777, 7778]);
    }
    let root = tempfile::tempdir().unwrap();
    let seen = |net: &Net| observed(net, "web1", root.path()).forwards;
    assert_eq!(seen(&net), None);
    for (switch, told) in [
        ("net.ipv4.conf.eth0.forwarding", "net/ipv4/conf/eth0/forwarding"),
        ("net.ipv6.conf.eth0.forwarding", "net/ipv6/conf/eth0/forwarding"),
        ("net.ipv6.conf.all.forwarding", "net/ipv6/conf/all/forwarding"),
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
    ] {
        net.ok("web1", &format!("sysctl -qw {switch}=1"));
        assert_eq!(seen(&net).as_deref(), Some(told));
        net.ok("web1", &format!("sysctl -qw {switch}=0"));
        assert_eq!(seen(&net), None);
    }
    net.ok("web1", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let ways = [
        ("client", "172.30.0.2", 7777),
        ("client", "fd30::2", 7777),
        ("client", "172.30.0.2", 7778),
        ("box", "10.99.0.200", 7777),
    ];
    let through = || ways.map(|(from, to, port)| connect(&net, from, to, port).is_through());
    assert_eq!(through(), [true; 4]);
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    assert_eq!(through(), [false; 4], "nothing is named");
    let net_of = |text: &str| Party::Net(text.parse().unwrap());
    let one = Allow {
        to: net_of("172.30.0.0/24"),
        from: vec![net_of("10.99.0.0/24")],
        port: Some(port(7777)),
        proto: Proto::Tcp,
        through: Some(Party::Role(Role::Web)),
        ..site.firewall.allow[0].clone()
    };
    let six =
        Allow { to: net_of("fd30::/64"), from: vec![Party::Internet], port: None, proto: Proto::Any, ..one.clone() };
    site.firewall.forward = Some(vec![one.clone(), six]);
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
    assert_eq!(through(), [true, true, false, false], "what is named, in the direction that is named");
    let answer = observed(&net, "web1", root.path());
    assert!(answer.intact && answer.boot_current, "{answer:?}");
    assert_eq!(answer.loaded, Some(ruleset(&site, "web1", false)), "it reads back");
    let all = Allow { to: Party::Internet, from: vec![Party::Internet], port: None, proto: Proto::Any, ..one };
    site.firewall.forward = Some(vec![all]);
    apply(&net, "web1", root.path(), &ruleset(&site, "web1", true));
    assert_eq!(through(), [true; 4]);
}

#[test]
fn a_gateway_lets_through_what_is_named_with_nftables() {
    gateway(Backend::Nftables);
}

#[test]
fn a_gateway_lets_through_what_is_named_with_iptables() {
    gateway(Backend::Iptables);
}

/// Protocols without ports: let in and out where a flow names them, counted by the kernel of the other host.
fn without_ports(backend: Backend) {
    let (mut site, net, root) = one(backend);
    let peers = || vec![Party::Net("10.99.0.11".parse().unwrap()), Party::Net("fd99::11".parse().unwrap())];
    let base = Allow { from: peers(), port: None, ..site.firewall.allow[0].clone() };
    let protocols: [Proto; 4] = ["esp", "vrrp", "200", "icmp"].map(|name| name.parse().unwrap());
    let web = || Party::Role(Role::Web);
    let send = |from: &str, to: &str, number: u8| {
        let six = to.contains(':');
        let perl = format!(
            "use Socket qw(:all); socket(my $s,{},SOCK_RAW,{number}) or die; my $a=inet_pton({0},'{to}'); send($s,pack('C*',13,0,242,255,0,0,0,0),0,{1}) or exit 1",
            if six { "AF_INET6" } else { "AF_INET" },
            if six { "pack_sockaddr_in6(0,$a)" } else { "pack_sockaddr_in(0,$a)" }
        );
        net.sh(from, "", &format!("perl -e '{}'", perl.replace('\'', "\""))).status.success()
    };
    // What comes in is counted by a chain before ours and by one behind it.
    let count = "nft -j list counters 2>/dev/null | tr ',' '\\n' | grep '\"packets\"' | tr -dc '0-9\\n' | tr '\\n' ' '";
    for named in [false, true] {
        if named {
            for proto in protocols {
                site.firewall.allow.push(Allow { to: web(), proto, ..base.clone() });
                for to in peers() {
                    site.firewall.allow.push(Allow { to, from: vec![web()], proto, ..base.clone() });
                }
            }
        }
        apply(&net, "web1", root.path(), &ruleset(&site, "web1", false));
        assert!(observed(&net, "web1", root.path()).intact);
        for proto in protocols {
            for (from, to) in [("10.99.0.11", "10.99.0.21"), ("fd99::11", "fd99::21")] {
                let number = proto.numbers(from.contains('.'), from.contains(':'))[0];
                // What is tracked of ICMPv6 and is none of the essentials has no new connections.
                if number == 58 {
                    continue;
                }
                net.ok(
                    "web1",
                    &format!(
                        "nft 'table inet seen {{ counter n {{ }}; chain c {{ type filter hook input priority 300; meta l4proto {number} counter name n; }}; }}'"
                    ),
                );
                send("lb1", to, number);
                until("the packet is counted", || {
                    let counted = net.ok("web1", count);
                    send("lb1", to, number);
                    named == (counted.trim() != "0") || !named
                });
                assert_eq!(net.ok("web1", count).trim() != "0", named, "{proto} {to}");
                net.ok("web1", "nft delete table inet seen");
                // From an address that no flow names it stays out, and what goes out is refused by the kernel itself.
                assert_eq!(send("web1", from, number), named, "{proto} from web1 to {from}");
            }
        }
    }
    // Neighbours of VRRP speak to their group.
    net.ok("web1", "ip route add 224.0.0.0/4 dev eth0");
    assert!(send("web1", "224.0.0.18", 112));
    assert!(!send("web1", "224.0.0.18", 50));
}

#[test]
fn protocols_without_ports_pass_where_a_flow_names_them_with_nftables() {
    without_ports(Backend::Nftables);
}

#[test]
fn protocols_without_ports_pass_where_a_flow_names_them_with_iptables() {
    without_ports(Backend::Iptables);
}

/// What takes the command out of the unit that loads the rules at boot is drift, and is taken out.
#[test]
fn a_drop_in_of_the_unit_is_drift() {
    let (site, net, root) = one(Backend::Nftables);
    let set = ruleset(&site, "web1", false);
    apply(&net, "web1", root.path(), &set);
    let folder = root.path().join("etc/systemd/system/infra-firewall.service.d");
    fs_err::create_dir_all(&folder).unwrap();
    assert!(observed(&net, "web1", root.path()).boot_current);
    fs_err::write(folder.join("override.conf"), "[Service]\nExecStart=\n").unwrap();
    let answer = observed(&net, "web1", root.path());
    assert!(answer.intact && !answer.boot_current);
    apply(&net, "web1", root.path(), &set);
    assert!(observed(&net, "web1", root.path()).boot_current && !folder.exists());
}

/// A tunnel over UDP, as `WireGuard` and `OpenVPN` make them: one end of it in a namespace, with an address inside.
fn tunnel(net: &mut Net, node: &str, inside: &str, (own, other): (&str, &str)) {
    net.daemon(
        node,
        &format!(
            "use Socket; $|=1; open(my $t,'+<','/dev/net/tun') or die; my $r=pack('Z16s x22','tun0',0x1001); ioctl($t,0x400454ca,$r) or die;\
             socket(my $s,AF_INET,SOCK_DGRAM,0); bind($s,pack_sockaddr_in(51820,inet_aton('{own}'))) or die;\
             system('ip addr add {inside}/24 dev tun0; ip link set tun0 up') and die; print \"ready\\n\";\
             my $to=pack_sockaddr_in(51820,inet_aton('{other}')); my $w=''; vec($w,fileno $_,1)=1 for $t,$s;\
             while(1) {{ select(my $g=$w,undef,undef,undef); if(vec($g,fileno $t,1)) {{ sysread($t,my $p,2000); send($s,$p,0,$to) }}\
             if(vec($g,fileno $s,1)) {{ recv($s,my $p,2000,0); syswrite($t,$p) }} }}"
        ),
    );
}

/// The new connection that confirms is new on every layer: a tunnel that was there before carries it only where a flow lets the tunnel
/// in, whoever of its ends has spoken first.
fn through_a_tunnel(backend: Backend) {
    for first in ["manage", "web1"] {
        let (mut site, mut net, root) = one(backend);
        let dir = root.path().to_str().unwrap();
        site.firewall.manage_from.push(("10.77.0.0/24".parse().unwrap(), firewall_support::place(20)));
        // Someone else tracks connections already.
        net.ok(
            "web1",
            "nft 'table inet other { chain c { type filter hook input priority 5; ct state invalid drop; }; }'",
        );
        net.listen("manage", &[8000]);
        tunnel(&mut net, "web1", "10.77.0.2", ("10.99.0.21", "10.99.0.1"));
        tunnel(&mut net, "manage", "10.77.0.1", ("10.99.0.1", "10.99.0.21"));
        let speak = |node: &str| match node {
            "web1" => connect(&net, "web1", "10.77.0.1", 8000),
            _ => connect(&net, "manage", "10.77.0.2", 22),
        };
        assert_eq!(speak(first), Reach::Open);
        let way_in = || connect(&net, "manage", "10.77.0.2", 22);
        assert_eq!(way_in(), Reach::Open);
        let load = |site: &Site| {
            let load = script::load_script(&ruleset(site, "web1", false), RUN, script::WINDOW);
            assert!(net.sh("web1", dir, &load).status.success());
        };
        load(&site);
        assert_eq!(way_in(), Reach::Drop, "{first}: the tunnel is older than the rules, and no flow lets it in");
        assert_eq!(undo(&net, dir), Status::PutBack);
        assert_eq!(way_in(), Reach::Open, "{first}");
        let peers = || vec![Party::Net("10.99.0.1".parse().unwrap())];
        let web = || Party::Role(Role::Web);
        let (own, theirs) = (Allow { to: web(), from: peers(), ..site.firewall.allow[0].clone() }, peers().remove(0));
        let tunnel = Allow { port: Some(port(51820)), proto: Proto::Udp, why: "the way in".into(), ..own };
        let out = Allow { to: theirs, from: vec![web()], ..tunnel.clone() };
        site.firewall.allow.extend([tunnel, out]);
        load(&site);
        assert_eq!(way_in(), Reach::Open, "{first}: a flow lets the tunnel in");
        assert_eq!(undo(&net, dir), Status::PutBack);
    }
}

#[test]
fn a_tunnel_that_no_flow_lets_in_confirms_nothing_with_nftables() {
    through_a_tunnel(Backend::Nftables);
}

#[test]
fn a_tunnel_that_no_flow_lets_in_confirms_nothing_with_iptables() {
    through_a_tunnel(Backend::Iptables);
}

/// Every file that says which rules a host has; those that are not there are left out.
fn records(root: &Path, backend: Backend) -> Vec<(String, String)> {
    let read = |path: String| Some((path.clone(), fs_err::read_to_string(root.join(&path[1..])).ok()?));
    script::written(backend).into_iter().filter_map(read).collect()
}

/// A script after which each file in turn could not be recorded, those before it could: `begin` is where its recording begins.
fn failing(text: &str, begin: &str, backend: Backend) -> Vec<(String, String)> {
    let each = script::written(backend).into_iter().map(|path| {
        let put = format!(
            "(\nput() {{ [ \"$1\" != \"$ROOT{path}\" ] || {{ say 'no space left on device'; return 1; }}; \
             rm -f \"$1.new\" && cat >\"$1.new\" && chmod \"$2\" \"$1.new\" && mv -fT \"$1.new\" \"$1\"; }}\n"
        );
        let full = text.replacen(begin, &begin.replacen("(\n", &put, 1), 1);
        assert_ne!(full, text);
        (path, full)
    });
    each.collect()
}

/// What older connections are cut from while rules wait goes on when they are confirmed, and nothing is said to have been put back that
/// was never loaded.
fn what_is_said_was_seen(backend: Backend) {
    let (mut site, net, root) = one(backend);
    let dir = root.path().to_str().unwrap();
    let set = ruleset(&site, "web1", false);
    let status = |text: &str| Status::of(net.sh("web1", dir, text).status.code().unwrap());
    assert_eq!(undo(&net, dir), Status::NeverLoaded);
    assert_eq!(status(&script::confirm_script(&set, RUN)), Status::NeverLoaded);
    // The very first rules, and their record fails half-way: nothing tells of rules.
    let first = "/var/lib/infra/runs/0/first";
    for (path, confirm) in failing(&script::confirm_script(&set, first), "(\ncat >\"$dir/", backend) {
        assert_eq!(status(&script::load_script(&set, first, script::WINDOW)), Status::Done);
        assert_eq!(status(&confirm), Status::PutBack, "{path}");
        assert_eq!(records(root.path(), backend), [], "{path}");
    }
    // What a dead run has left armed is not what this one confirms.
    let other = "/var/lib/infra/runs/0/widen";
    assert_eq!(status(&script::load_script(&set, other, script::WINDOW)), Status::Done);
    assert_eq!(status(&script::confirm_script(&set, RUN)), Status::NeverLoaded);
    assert!(observed(&net, "web1", root.path()).pending);
    assert_eq!(status(&script::confirm_script(&set, other)), Status::Done);
    assert!(observed(&net, "web1", root.path()).intact);
    // What cannot be recorded does not stay.
    site.firewall.allow.clear();
    let less = ruleset(&site, "web1", false);
    assert_eq!(status(&script::load_script(&less, RUN, script::WINDOW)), Status::Done);
    assert_eq!(connect(&net, "client", "10.99.0.21", 9000), Reach::Drop);
    let full = "(\nput() { say 'no space left on device'; return 1; }\ncat >\"$dir/";
    let confirm = script::confirm_script(&less, RUN).replacen("(\ncat >\"$dir/", full, 1);
    assert_eq!(status(&confirm), Status::PutBack);
    assert_eq!(connect(&net, "client", "10.99.0.21", 9000), Reach::Open);
    let answer = observed(&net, "web1", root.path());
    assert!(answer.intact && !answer.pending, "{answer:?}");
    let before = records(root.path(), backend);
    assert!(before.len() > 4, "{before:?}");
    for (path, confirm) in failing(&script::confirm_script(&less, RUN), "(\ncat >\"$dir/", backend) {
        assert_eq!(status(&script::load_script(&less, RUN, script::WINDOW)), Status::Done);
        assert_eq!(status(&confirm), Status::PutBack, "{path}");
        assert_eq!(connect(&net, "client", "10.99.0.21", 9000), Reach::Open, "{path}");
        let answer = observed(&net, "web1", root.path());
        assert!(answer.intact && answer.boot_current && !answer.pending, "{path}: {answer:?}");
        assert_eq!(records(root.path(), backend), before, "{path}: what tells of the old rules");
    }
    // The host was started anew before anybody confirmed: `/run` is empty then.
    assert_eq!(status(&script::load_script(&less, RUN, script::WINDOW)), Status::Done);
    fs_err::remove_dir_all(root.path().join("run")).unwrap();
    assert_eq!(status(&script::confirm_script(&less, RUN)), Status::Restarted);
}

#[test]
fn the_scripts_say_what_they_saw_with_nftables() {
    what_is_said_was_seen(Backend::Nftables);
}

#[test]
fn the_scripts_say_what_they_saw_with_iptables() {
    what_is_said_was_seen(Backend::Iptables);
}

/// Rules that only accept more are loaded and recorded in one go where the host has, to the byte, what they are added to; else nothing
/// is done, and what fails or is killed half-way leaves the old rules, or a mark by which the next load brings them back.
fn added_in_one_go(backend: Backend) {
    let (mut site, net, root) = one(backend);
    let dir = root.path().to_str().unwrap();
    let to = ruleset(&site, "web1", false);
    site.firewall.allow.clear();
    let from = ruleset(&site, "web1", false);
    assert!(from.rules.is_subset(&to.rules) && from != to);
    apply(&net, "web1", root.path(), &from);
    let add = script::add_script(&from, &to, RUN);
    let status = |text: &str| Status::of(net.sh("web1", dir, text).status.code().unwrap());
    let reached = || connect(&net, "client", "10.99.0.21", 9000);
    let loaded = || {
        let seen = observed(&net, "web1", root.path());
        (seen.intact, seen.pending, seen.boot_current, seen.loaded.unwrap())
    };
    let as_before = || {
        assert_eq!(reached(), Reach::Drop);
        assert_eq!(loaded(), (true, false, true, from.clone()));
    };
    as_before();

    // What is read at boot is another's, or what is live is, or rules wait for their confirmation: nothing is done.
    let boot =
        root.path().join("etc/infra").join(if backend == Backend::Nftables { "firewall.nft" } else { "firewall.v4" });
    let ours = fs_err::read_to_string(&boot).unwrap();
    fs_err::write(&boot, format!("{ours}\n")).unwrap();
    assert_eq!(status(&add), Status::NotAsRecorded);
    fs_err::write(&boot, ours).unwrap();
    as_before();
    let (more, less) = if backend == Backend::Nftables {
        ("nft add rule inet infra input tcp dport 1 accept", "nft -f \"$ROOT/etc/infra/firewall.nft\"")
    } else {
        ("iptables -A INFRA-IN -p tcp --dport 1 -j ACCEPT", "sh \"$ROOT/etc/infra/firewall.sh\"")
    };
    assert_eq!(status(more), Status::Done);
    assert_eq!(status(&add), Status::NotAsRecorded);
    assert_eq!(reached(), Reach::Drop);
    assert_eq!(status(less), Status::Done);
    as_before();
    assert_eq!(status(&script::load_script(&to, "/var/lib/infra/runs/0/widen", script::WINDOW)), Status::Done);
    assert_eq!(status(&add), Status::NotAsRecorded);
    assert_eq!(status(&script::undo_script("/var/lib/infra/runs/0/widen")), Status::PutBack);
    as_before();

    // What cannot be recorded does not stay, and what is refused was never loaded.
    let full = add.replacen("\n(\n", "\n(\nput() { say 'no space left on device'; return 1; }\n", 1);
    assert_ne!(full, add);
    assert_eq!(status(&full), Status::PutBack);
    as_before();
    for (path, full) in failing(&add, "\n(\n", backend) {
        assert_eq!(status(&full), Status::PutBack, "{path}");
        as_before();
    }
    // Killed in the middle of it, the rules and what tells of them come back together.
    let (_, half) = failing(&add, "\n(\n", backend).pop().unwrap();
    let _ = net.sh("web1", dir, &half.replacen("say 'no space left on device'; return 1", "kill -9 $$; exit 1", 1));
    assert_eq!(undo(&net, dir), Status::PutBack);
    as_before();
    let refused = add.replacen(
        "\nback() {",
        "\necho nonsense >\"$dir/firewall.nft\"; echo nonsense >\"$dir/firewall.v6\"\nback() {",
        1,
    );
    assert_ne!(refused, add);
    assert_eq!(status(&refused), Status::Refused);
    as_before();

    // Killed when it is live and not recorded: it is told, not as somebody's doing, and the next load begins with the old rules.
    let killed = add.replacen("\n(\n", "\n(\nkill -9 $$; exit 1\n", 1);
    let _ = net.sh("web1", dir, &killed);
    let (intact, pending, ..) = loaded();
    assert_eq!((intact, pending, reached()), (false, true, Reach::Open));
    assert_eq!(status(&add), Status::NotAsRecorded);
    assert_eq!(undo(&net, dir), Status::PutBack);
    as_before();

    // And where nobody comes, the host brings them back by itself.
    let soon = killed.replacen("-lt 180 ]", "-lt 1 ]", 1);
    assert_ne!(soon, killed);
    let _ = net.sh("web1", dir, &soon);
    assert_eq!(reached(), Reach::Open);
    let back = Instant::now() + Duration::from_secs(20);
    while reached() != Reach::Drop {
        assert!(Instant::now() < back, "the rules of a run that was killed stay");
        std::thread::sleep(Duration::from_millis(200));
    }
    as_before();

    let out = net.sh("web1", dir, &add);
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    assert_eq!(Status::of(out.status.code().unwrap()), Status::Done);
    assert_eq!(reached(), Reach::Open);
    assert_eq!(loaded(), (true, false, true, to));
    // There is nothing to take back any more, and the same once more is told from it.
    assert!(matches!(undo(&net, dir), Status::Restarted | Status::NeverLoaded), "{:?}", undo(&net, dir));
    assert_eq!(status(&add), Status::NotAsRecorded);
}

#[test]
fn rules_that_only_accept_more_are_added_in_one_go_with_nftables() {
    added_in_one_go(Backend::Nftables);
}

#[test]
fn rules_that_only_accept_more_are_added_in_one_go_with_iptables() {
    added_in_one_go(Backend::Iptables);
}

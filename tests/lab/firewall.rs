//! The firewall on real hosts: what is declared gets through and nothing else, whoever asks and on whatever port; it outlives
//! reboots, other owners of rules are named, and a change that locks the controller out takes itself back.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/campaign.rs"]
mod campaign;
#[path = "../common/checks.rs"]
mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench::{Bench, Said, THREE_TIER, wait};
use campaign::amount;
use checks::Check;
use infra::base::net::Port;
use infra::service::firewall::attempts::{Reach, attempt_script, parse_reaches};
use infra::service::firewall::{ATTEMPT_MARK, attempts, flows};

type Ports = BTreeSet<(IpAddr, u16)>;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// From a host or from `outside`, over TCP as an ordinary user.
fn probe(bench: &Bench, from: &str, to: &str, port: u64) -> Reach {
    let target: (IpAddr, Port) = (ip(to), port.try_into().unwrap());
    let said = bench.sh(from, &attempt_script(&[target], Duration::from_secs(1))).expect(0);
    parse_reaches(&said.out)[&target]
}

fn exact(bench: &Bench) {
    let said = bench.infra(&["firewall", "verify"]).expect(0);
    assert!(said.out.contains("exactly what is declared"), "{}", said.out);
}

/// Applies and sees that a second time there is nothing to do.
fn settled(bench: &Bench) -> Said {
    let said = bench.apply().expect(0);
    let again = bench.apply().expect(0);
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    said
}

fn rules(bench: &Bench, host: &str) -> String {
    bench.sh(host, "nft -s list table inet infra && nft -s list chain inet infra_block pre").expect(0).out
}

/// nmap's view: every port that answers in any way. A port that it calls closed has got through the firewall.
fn scan(bench: &Bench, addresses: &[IpAddr], extra: &[&str]) -> Ports {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &bench.lab().namespace("outside"), "timeout", "150", "nmap", "-sS", "-n", "-Pn"]);
    command.args(["-T5", "--min-hostgroup", "16", "-oG", "-"]).args(extra);
    if addresses[0].is_ipv6() {
        command.arg("-6");
    }
    let output = command.args(addresses.iter().map(ToString::to_string)).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let mut found = Ports::new();
    let mut answered = 0;
    for line in text.lines().filter(|line| line.contains("Ports:")) {
        answered += 1;
        let address = ip(line.split(' ').nth(1).unwrap());
        // Where more ports are closed than filtered, nmap would leave the closed ones out.
        assert!(!line.contains("Ignored State: closed"), "{line}");
        let ports = line.split("Ports: ").nth(1).unwrap().split('\t').next().unwrap();
        for port in ports.split(", ").filter(|port| !port.trim().is_empty()) {
            let mut words = port.trim().split('/');
            let (number, state) = (words.next().unwrap(), words.next().unwrap());
            if state != "filtered" {
                found.insert((address, number.parse().unwrap()));
            }
        }
    }
    assert_eq!(answered, addresses.len(), "{text}");
    found
}

/// What the internet may reach, written down by hand.
fn declared_outside() -> Ports {
    let edge = ["10.0.1.11", "10.0.1.12", "203.0.113.11", "203.0.113.12"];
    let edge = edge.into_iter().chain(["fd00:0:0:1::11", "fd00:0:0:1::12", "2001:db8:113::11", "2001:db8:113::12"]);
    edge.flat_map(|address| [80, 443].map(|port| (ip(address), port))).collect()
}

/// All TCP ports of all addresses of all hosts, from the internet.
fn all_ports_from_outside(bench: &Bench) {
    let spec = bench.lab().spec();
    let addresses: Vec<IpAddr> = spec.hosts.iter().flat_map(|h| h.all_addresses().collect::<Vec<_>>()).collect();
    assert_eq!(addresses.len(), 16);
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|a| a.is_ipv4());
    // One packet a port: what is dropped never answers, and to ask again would double the time.
    let found: Ports = thread::scope(|scope| {
        let jobs: Vec<_> = v4
            .chunks(4)
            .chain(v6.chunks(4))
            .map(|some| scope.spawn(|| scan(bench, some, &["-p-", "--max-retries", "0", "--min-rate", "20000"])))
            .collect();
        jobs.into_iter().flat_map(|job| job.join().unwrap()).collect()
    });
    // A packet may be lost, so what is declared, what was found and what anything listens on is asked once more, with patience.
    let mut ports: BTreeSet<u16> = found.iter().map(|(_, port)| *port).collect();
    ports.extend(declared_outside().iter().map(|(_, port)| *port));
    for host in &spec.hosts {
        let listening = bench.sh(&host.name, "ss -Hltn | awk '{print $4}'").expect(0).out;
        ports.extend(listening.lines().filter_map(|l| l.rsplit(':').next()?.parse::<u16>().ok()));
    }
    assert!(ports.contains(&22) && ports.contains(&8443) && ports.contains(&9443), "{ports:?}");
    let list = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let again: Ports =
        [v4, v6].iter().flat_map(|some| scan(bench, some, &["-p", &list, "--max-retries", "3"])).collect();
    assert_eq!(again, declared_outside());
    let declared = declared_outside();
    let strange: Vec<_> = found.difference(&declared).collect();
    assert!(strange.is_empty(), "answered once: {strange:?}");
}

/// Pairs of hosts, by the first: those of one host of each role, and as many others as a campaign asks for.
fn pairs() -> BTreeMap<&'static str, Vec<&'static str>> {
    let all = ["lb1", "web1", "app1", "lb2", "web2", "app2"];
    let mut order: Vec<(usize, usize)> =
        (0..6).flat_map(|a| (0..6).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
    order.sort_by_key(|(a, b)| *a.max(b));
    let mut pairs = BTreeMap::<_, Vec<_>>::new();
    for (from, to) in order.into_iter().take(amount("PAIRS", 6).try_into().unwrap()) {
        pairs.entry(all[from]).or_default().push(all[to]);
    }
    pairs
}

/// All TCP ports from a host of each role to a host of each other role, by what every host uses: an ordinary user's connect.
/// Every pair of hosts, with the ports of the inventory, is the part of `infra firewall verify`.
fn all_ports_between_hosts(bench: &Bench) {
    let pairs = pairs();
    println!("all ports between {} pairs of hosts", pairs.values().map(Vec::len).sum::<usize>());
    let site = bench.site();
    let flows = flows::derive(&site);
    thread::scope(|scope| {
        for (from, targets) in pairs {
            let (site, flows) = (&site, &flows);
            scope.spawn(move || {
                let source = attempts::Source::Host(from.parse().unwrap());
                let to = |name: &str| targets.contains(&name);
                let declared: Ports = attempts::attempts_from(site, flows, &source)
                    .into_iter()
                    .filter(|p| p.expected && to(p.to.as_str()))
                    .map(|p| (p.address, p.port.get()))
                    .collect();
                let addresses: Vec<IpAddr> =
                    site.hosts.values().filter(|h| to(h.name.as_str())).flat_map(|h| h.addresses.clone()).collect();
                assert_eq!(addresses.len(), 2 * targets.len());
                let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                // The probe of `infra firewall verify`, with more sockets at a time.
                let script = format!(
                    "ulimit -n $(ulimit -Hn); n=$(ulimit -n); [ \"$n\" -le 8192 ] 2>/dev/null || n=8192
for a in {list}; do seq 1 65535 | sed \"s/^/$a /\"; done >/run/targets && exec 3</run/targets
perl - {ATTEMPT_MARK} 500 $((n - 50)) <<'END' | grep -v DROP\n{}END\n",
                    include_str!("../../templates/firewall/attempt.pl")
                );
                let said = bench.sh(from, &script);
                assert_eq!(said.err, "", "{from}");
                let through = |text: &str| -> Ports {
                    let answers = parse_reaches(text);
                    let through = answers.into_iter().filter(|(_, answer)| answer.is_through());
                    through.map(|((address, port), _)| (address, port.get())).collect()
                };
                let found = through(&said.out);
                // A lost packet is no closed port: what is declared and was not seen is tried again.
                let missing: Vec<(IpAddr, Port)> = declared
                    .difference(&found)
                    .map(|(address, port)| (*address, u64::from(*port).try_into().unwrap()))
                    .collect();
                let again = bench.sh(from, &attempt_script(&missing, Duration::from_secs(2))).expect(0);
                let all: Ports = found.union(&through(&again.out)).copied().collect();
                assert_eq!(all, declared, "{from}");
            });
        }
    });
}

fn all_ports(bench: &Bench) {
    thread::scope(|scope| {
        scope.spawn(|| all_ports_from_outside(bench));
        all_ports_between_hosts(bench);
    });
}

/// `explain` and `matrix` on a terminal.
fn in_words(bench: &Bench) {
    let explain = |words: [&str; 3]| bench.infra(&["firewall", "explain", words[0], words[1], words[2]]);
    let said = explain(["lb1", "web1", "8443"]).expect(0);
    assert!(said.out.starts_with("lb1 -> web1 8443/tcp: allowed\n"), "{}", said.out);
    assert!(
        said.out.contains("  out on lb1 to web1 (10.0.2.11): yes, by `lb -> web` (from the roles)\n"),
        "{}",
        said.out
    );
    let said = explain(["lb", "app", "9443"]).expect(1);
    assert!(said.out.starts_with("lb -> app 9443/tcp: denied\n"), "{}", said.out);
    assert_eq!(said.out.lines().count(), 5, "the same rule is told once: {}", said.out);
    let said = explain(["manage", "web1", "22"]).expect(0);
    assert!(said.out.contains("by `manage_from -> all` (") && said.out.contains("inventory.yml:"), "{}", said.out);
    let said = explain(["app1", "internet", "443"]).expect(0);
    assert!(said.out.contains("for the users 0, 42 only"), "{}", said.out);
    let said = explain(["wbe1", "app1", "9443"]).expect(2);
    assert!(
        said.err.contains("`wbe1` is not a host, role, address or network")
            && said.err.contains("did you mean `web1`?")
    );
    let said = explain(["web", "db", "3306"]).expect(2);
    assert!(said.err.contains("the roles of this inventory are lb, web, app"), "{}", said.err);
    let said = bench.infra(&["firewall", "matrix", "--json"]).expect(0);
    let matrix: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(matrix["columns"], serde_json::json!(["lb", "web", "app", "internet"]));
    let row = matrix["rows"].as_array().unwrap().iter().find(|row| row["from"] == "web").unwrap();
    assert_eq!(row["to"]["app"][0]["port"], 9443);
}

/// Live and at boot the same; what was done to it by hand is told and mended.
fn reboot_and_drift(bench: &Bench) {
    let before = rules(bench, "web1");
    bench.reboot("web1");
    assert_eq!(rules(bench, "web1"), before, "after a reboot");
    let active = bench.sh("web1", "systemctl is-active infra-firewall.service").out;
    assert_eq!(active.trim(), "active");
    assert!(bench.apply().expect(0).out.contains("nothing to do"));
    bench.sh("web1", "nft flush ruleset").expect(0);
    let said = bench.infra(&["diff"]).expect(3);
    assert!(said.out.contains("drift on web1"), "{}", said.out);
    assert!(said.out.contains("someone else changed the live rules"), "{}", said.out);
    settled(bench);
    assert_eq!(rules(bench, "web1"), before, "mended");
}

/// A blocked network, and a ban by hand.
fn block_list(bench: &Bench) {
    let clients = bench.lab().outside_addresses().clients.clone();
    let (v4, v6) = (clients.iter().find(|a| a.is_ipv4()).unwrap(), clients.iter().find(|a| a.is_ipv6()).unwrap());
    assert_eq!(probe(bench, "outside", "203.0.113.11", 443), Reach::Open);
    bench.sh("lb1", &format!("nft add element inet infra_block banned6 '{{ {v6} timeout 1h }}'")).expect(0);
    assert_eq!(probe(bench, "outside", "2001:db8:113::11", 443), Reach::Drop, "banned by hand");
    assert!(bench.apply().expect(0).out.contains("nothing to do"), "a ban is no drift");

    bench.edit("\nfirewall:\n", &format!("\nfirewall:\n  block: [{v4}]\n"));
    settled(bench);
    assert_eq!(probe(bench, "outside", "203.0.113.11", 443), Reach::Drop, "blocked");
    assert_eq!(probe(bench, "outside", "2001:db8:113::12", 443), Reach::Open, "the other family is not");
    assert_eq!(probe(bench, "outside", "2001:db8:113::11", 443), Reach::Drop, "the ban has outlived the change");
    let said = bench.infra(&["firewall", "explain", &v4.to_string(), "lb1", "443"]).expect(1);
    assert!(said.out.contains("by `firewall.block`"), "{}", said.out);

    bench.edit(&format!("block: [{v4}]"), "block: [10.0.0.0/24]");
    let said = bench.infra(&["check"]).expect(2);
    assert!(said.err.contains("`10.0.0.0/24` blocks") && said.err.contains("take this network out"), "{}", said.err);
    bench.apply().expect(2);
    bench.edit("  block: [10.0.0.0/24]\n", "");
    settled(bench);
    bench.sh("lb1", &format!("nft delete element inet infra_block banned6 '{{ {v6} }}'")).expect(0);
    assert_eq!(probe(bench, "outside", "2001:db8:113::11", 443), Reach::Open);
}

/// Others who own rules: named with the way out, and the host left alone until they are gone.
fn rivals(bench: &Bench) {
    // Units of that name, and what ufw says of itself, stand for the programs: neither is in the lab's repository.
    let fake = |unit: &str| {
        format!(
            "printf '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/{unit}.service && systemctl daemon-reload && systemctl enable -q --now {unit}"
        )
    };
    let ufw = format!("mkdir -p /etc/ufw && echo ENABLED=yes >/etc/ufw/ufw.conf && {}", fake("ufw"));
    let foreign = "nft 'table inet mine { chain c { type filter hook input priority 5; policy drop; ct state established accept; tcp dport 22 accept; }; }'";
    let gone = |unit: &str| {
        format!(
            "systemctl disable -q --now {unit} && rm -rf /etc/systemd/system/{unit}.service /etc/ufw && systemctl daemon-reload"
        )
    };
    let cases = [
        ("web1", fake("firewalld"), "firewalld is active", "`systemctl disable --now firewalld`", gone("firewalld")),
        ("web2", ufw, "ufw is active", "`ufw disable`", gone("ufw")),
        (
            "app1",
            foreign.to_owned(),
            "the table `inet mine` refuses at the input hook all that its own rules do not accept",
            "`nft delete table inet mine`",
            "nft delete table inet mine".to_owned(),
        ),
    ];
    // Something to do, so that it can be seen that nothing is done.
    bench.edit("\nfirewall:\n", "\nfirewall:\n  block: [192.0.2.254]\n");
    for (host, make, _, _, _) in &cases {
        bench.sh(host, make).expect(0);
    }
    let before = ["web1", "web2", "app1", "app2"].map(|host| rules(bench, host));
    for words in [&["diff"][..], &["apply", "--yes"]] {
        let said = bench.infra(words);
        assert_ne!(said.code, 0);
        for (host, _, rival, way_out, _) in &cases {
            let line = said.err.lines().find(|l| l.contains(&format!("{host} is left alone: {rival}")));
            assert!(line.is_some_and(|l| l.contains(way_out)), "{rival}: {}", said.err);
        }
    }
    assert_eq!(["web1", "web2", "app1", "app2"].map(|host| rules(bench, host)), before, "nothing was done anywhere");
    bench.infra(&["apply", "--yes", "--limit", "!web1,!web2,!app1"]).expect(0);
    for (host, _, _, _, unmake) in &cases {
        bench.sh(host, unmake).expect(0);
    }
    settled(bench);
    // One that flushes only when somebody restarts it is a warning: ours is loaded after it at boot.
    bench.sh("app2", "systemctl enable -q nftables && grep -q '^flush ruleset' /etc/nftables.conf").expect(0);
    let said = bench.infra(&["diff"]).expect(0);
    assert!(said.err.contains("warning: app2: nftables.service is enabled"), "{}", said.err);
    assert!(said.err.contains("`systemctl mask nftables`"), "{}", said.err);
    let before = rules(bench, "app2");
    bench.reboot("app2");
    assert_eq!(rules(bench, "app2"), before, "ours comes after what flushes");
    bench.sh("app2", "systemctl mask -q nftables").expect(0);
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do") && !said.err.contains("warning"), "{}{}", said.out, said.err);
}

/// Others who refuse by conditions that nobody reads out of their rules: found by a packet, and named by the kernel.
fn refused_beside(bench: &Bench) {
    let guard = "nft 'table inet guard {
set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/24, 198.51.100.0/24 }; }
chain sub { ct state new ip saddr @s tcp dport 443 reject with tcp reset; }
chain c { type filter hook input priority 5; policy accept; tcp dport 443 jump sub; }
}'";
    std::fs::write(bench.inventory(), THREE_TIER.as_str()).unwrap();
    bench.apply().expect(0);
    bench.sh("lb1", guard).expect(0);
    bench.edit("\nfirewall:\n", "\nfirewall:\n  block: [192.0.2.254]\n");
    let said = bench.infra(&["apply", "--yes"]).expect(1);
    for words in [
        "`internet -> lb 443/tcp`",
        "the table `inet guard` refuses it in its chain `sub` by the rule `ct state new ip saddr @s tcp dport 443 reject with tcp reset`",
    ] {
        assert!(said.err.contains(words), "{}", said.err);
    }
    assert!(!said.err.contains("lb2"), "{}", said.err);
    assert_eq!(bench.sh("lb1", "nft list tables | grep -c infra_trace").out.trim(), "0");
    bench.sh("lb1", "nft delete table inet guard").expect(0);
    // Behind a rule of ours nobody may be at home, which is no failure, and no proof.
    let allow = "  allow: [{ to: web1, port: 9000, from: [10.0.0.0/24], why: checks }]\n";
    bench.edit("  block: [192.0.2.254]\n", allow);
    let said = settled(bench);
    let words = "`10.0.0.0/24 -> web1 9000/tcp` is not proven on web1: nobody listens there";
    assert!(said.err.contains(words) && !said.err.contains("lb 443"), "{}", said.err);

    // What worked before rules are loaded and does not afterwards takes them back: here a port that others translate.
    bench.edit(allow, "");
    settled(bench);
    let translated = "systemd-run -q --unit=behind socat TCP-LISTEN:9001,fork,reuseaddr SYSTEM:'echo hello'
nft flush ruleset
nft 'table ip redir { chain pre { type nat hook prerouting priority dstnat; tcp dport 9000 redirect to :9001; }; }'";
    bench.sh("web1", translated).expect(0);
    wait("the listener", Duration::from_secs(10), || {
        (probe(bench, "controller", "10.0.2.11", 9000) == Reach::Open).then_some(())
    });
    bench.edit("\nfirewall:\n", &format!("\nfirewall:\n{allow}"));
    let said = bench.infra(&["apply", "--yes"]).expect(5);
    for words in [
        "rolled back on web1",
        "`10.0.0.0/24 -> web1 9000/tcp` at 10.0.2.11 connected before, and does not now",
        "it comes to infra's own rules changed",
    ] {
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
    assert_eq!(probe(bench, "controller", "10.0.2.11", 9000), Reach::Open, "the rules of before are back");
    bench.sh("web1", "nft delete table ip redir; systemctl stop behind").expect(0);
    bench.edit(allow, "");
    settled(bench);
}

/// A container's published port: translated before the input chain sees it, and yet nobody gets through without a flow.
fn published_port(bench: &Bench) {
    // A guest as Docker would make it: a bridge, a namespace with a listener, and a rule that translates.
    let guest = "
systemd-run -q --unit=guest -p PrivateNetwork=yes socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'echo guest'
pid=$(systemctl show -p MainPID --value guest)
ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up
ip link add veth0 type veth peer name eth0 netns $pid && ip link set veth0 master docker0 up
nsenter -t $pid -n sh -c 'ip addr add 172.17.0.2/16 dev eth0 && ip link set eth0 up && ip route add default via 172.17.0.1'
echo 1 >/proc/sys/net/ipv4/ip_forward
nft 'table ip published { chain pre { type nat hook prerouting priority dstnat; tcp dport 8099 dnat to 172.17.0.2:80; }; }'";
    bench.sh("web1", guest).expect(0);
    wait("the guest", Duration::from_secs(10), || {
        let said = bench.sh("web1", "curl -s --max-time 2 --http0.9 172.17.0.2");
        said.out.contains("guest").then_some(())
    });
    assert_eq!(
        probe(bench, "outside", "10.0.2.11", 8099),
        Reach::Drop,
        "forwarding is closed on a host without guests"
    );
    let said = settled(bench);
    assert!(said.out.contains("forwarding"), "{}", said.out);
    for from in ["outside", "lb1"] {
        assert_eq!(probe(bench, from, "10.0.2.11", 8099), Reach::Drop, "{from}");
    }
    bench.edit(
        "\nfirewall:\n",
        "\nfirewall:\n  allow: [{ to: web, port: 8099, from: [lb], why: a container on the web hosts }]\n",
    );
    settled(bench);
    assert_eq!(probe(bench, "lb1", "10.0.2.11", 8099), Reach::Open);
    assert_eq!(probe(bench, "outside", "10.0.2.11", 8099), Reach::Drop);
    bench.edit("  allow: [{ to: web, port: 8099, from: [lb], why: a container on the web hosts }]\n", "");
    bench
        .sh("web1", "systemctl stop guest; ip link del docker0; nft delete table ip published; echo 0 >/proc/sys/net/ipv4/ip_forward")
        .expect(0);
    settled(bench);
}

/// What a host forwards from one host of the inventory to another is proven by a connection over it, or it is said why not.
fn forwarded(bench: &Bench) {
    let words = "lb1 -> app2 forwarded";
    let forward =
        "  forward: [{ through: web1, from: [lb1], to: app2, proto: tcp, port: 9100, why: a way over web1 }]\n";
    let allow = "  allow: [{ to: app2, port: 9100, from: [lb1], why: at its end }]\n";
    bench.sh("web1", "cd /proc/sys/net/ipv4 && echo 0 | tee conf/all/send_redirects >conf/eth0/send_redirects && echo 1 >ip_forward").expect(0);
    bench.edit("\nfirewall:\n", &format!("\nfirewall:\n{forward}{allow}"));
    let said = bench.apply().expect(0);
    for told in
        [words, "is not proven on web1: lb1 reaches 10.0.3.12 without a router, so its packets do not come by here"]
    {
        assert!(said.err.contains(told), "{told}: {}{}", said.out, said.err);
    }
    // Both ends send over it now, and each run that loads rules there proves it anew. Nobody at home is no proof: who refuses, nobody knows.
    bench.sh("lb1", "ip route add 10.0.3.12 via 10.0.2.11 onlink dev eth0").expect(0);
    bench.sh("app2", "ip route add 10.0.1.11 via 10.0.2.11 onlink dev eth0").expect(0);
    let moved = |from: u16, to: u16| {
        bench.edit(&format!("port: {from}, why: a way"), &format!("port: {to}, why: a way"));
        bench.edit(&format!("port: {from}, from"), &format!("port: {to}, from"));
        let said = bench.apply().expect(0);
        let through = bench.sh("web1", "nft list chain inet infra forward").expect(0).out;
        assert!(through.contains(&to.to_string()), "{through}");
        said
    };
    let said = moved(9100, 9101);
    assert!(said.err.contains(words) && said.err.contains("is refused: nobody listens there"), "{}", said.err);
    bench.sh("app2", "systemd-run -q --unit=behind socat TCP-LISTEN:9103,fork,reuseaddr SYSTEM:'echo hello'").expect(0);
    wait("the listener", Duration::from_secs(10), || {
        (bench.sh("app2", "ss -Hltn sport = :9103").out.contains("9103")).then_some(())
    });
    let said = moved(9101, 9103);
    assert!(!said.err.contains(words), "{}{}", said.out, said.err);
    bench.sh("app2", "systemctl stop behind").expect(0);
    // A way on which something is lost is no proof.
    bench.sh("app2", "ip route del 10.0.1.11; ip route add blackhole 10.0.1.11").expect(0);
    bench.edit("port: 9103, why: a way", "port: 9102, why: a way");
    bench.edit("port: 9103, from", "port: 9102, from");
    let said = bench.apply();
    let lost = "a connection from lb1 to 10.0.3.12 at port 9102, by way of 10.0.2.11, is not answered";
    assert!(said.err.contains(lost), "{}{}", said.out, said.err);
    bench.sh("app2", "ip route del blackhole 10.0.1.11").expect(0);
    bench.sh("lb1", "ip route del 10.0.3.12").expect(0);
    bench.edit(&forward.replace("9100", "9102"), "");
    bench.edit(&allow.replace("9100", "9102"), "");
    bench.sh("web1", "echo 0 >/proc/sys/net/ipv4/ip_forward").expect(0);
    settled(bench);
}

/// An sshd that gives fewer sessions over a connection than a run needs is named, and nothing was changed; two are enough.
fn few_sessions(bench: &Bench) {
    let most = |number: u32| {
        let script =
            format!("sed -i '/^MaxSessions/d; 1i MaxSessions {number}' /etc/ssh/sshd_config && systemctl reload ssh");
        bench.sh("web1", &script).expect(0);
    };
    let before = rules(bench, "web1");
    bench.edit("\nfirewall:\n", "\nfirewall:\n  allow: [{ to: web, port: 9200, from: [10.0.0.0/24], why: checks }]\n");
    most(1);
    let said = bench.apply().expect(1);
    println!("{}{}", said.out, said.err);
    for words in [
        "web1",
        "takes no further session over one connection",
        "`MaxSessions` in its sshd_config",
        "nothing was changed",
    ] {
        assert!(said.err.contains(words), "{words}: {}{}", said.out, said.err);
    }
    assert!(!said.err.contains("timer") && !said.err.contains("put back"), "{}", said.err);
    assert_eq!(rules(bench, "web1"), before);
    most(2);
    bench.apply().expect(0);
    assert_eq!(probe(bench, "controller", "10.0.2.11", 9200), Reach::Refused);
    bench.edit("  allow: [{ to: web, port: 9200, from: [10.0.0.0/24], why: checks }]\n", "");
    bench.apply().expect(0);
    bench.sh("web1", "sed -i '/^MaxSessions/d' /etc/ssh/sshd_config && systemctl reload ssh").expect(0);
}

/// The other backend and back: the same flows, live and after a boot.
fn iptables(bench: &Bench) {
    bench.edit("\nfirewall:\n", "\nfirewall:\n  backend: iptables\n");
    settled(bench);
    exact(bench);
    let live = "iptables-save | grep INFRA | grep -v '^:'; ip6tables-save | grep INFRA | grep -v '^:'";
    let before = bench.sh("web1", live).expect(0).out;
    assert!(before.contains("-A INPUT -j INFRA-IN") && !bench.sh("web1", "nft list tables").out.contains("inet infra"));
    bench.reboot("web1");
    assert_eq!(bench.sh("web1", live).expect(0).out, before, "after a reboot");
    let files = bench.sh("web1", "ls /etc/infra").expect(0).out;
    assert!(
        files.contains("firewall.v4") && files.contains("firewall.v6") && !files.contains("firewall.nft"),
        "{files}"
    );
    assert!(bench.apply().expect(0).out.contains("nothing to do"));
    assert_eq!(bench.page("https://shop.example.com/").0, 200);
    legacy(bench);
    bench.edit("  backend: iptables\n", "");
    settled(bench);
    let left = bench.sh("web1", "iptables-save; ip6tables-save; ls /etc/infra").expect(0).out;
    assert!(!left.contains("INFRA") && left.contains("firewall.nft") && !left.contains("firewall.v4"), "{left}");
    exact(bench);
}

/// Rules in the old kernel interface, where this kernel still has it.
fn legacy(bench: &Bench) {
    if bench.sh("app2", "iptables-legacy -A INPUT -s 198.51.100.1 -j DROP").code != 0 {
        println!("this kernel has no legacy iptables: its rules were not tried");
        return;
    }
    let said = bench.infra(&["diff"]).expect(1);
    assert!(said.err.contains("app2 is left alone: rules of the legacy iptables drop"), "{}", said.err);
    bench.sh("app2", "iptables-legacy -F INPUT").expect(0);
    bench.infra(&["diff"]).expect(0);
}

#[test]
fn what_is_declared_gets_through_and_nothing_else() {
    let all: [Check<Bench>; 11] = [
        ("in words", in_words),
        ("all ports", all_ports),
        ("every pair", exact),
        ("reboot and drift", reboot_and_drift),
        ("block list", block_list),
        ("rivals", rivals),
        ("refused beside", refused_beside),
        ("published port", published_port),
        ("forwarded flows", forwarded),
        ("few sessions", few_sessions),
        ("iptables and back", iptables),
    ];
    checks::run(&Bench::applied("t-firewall"), &all, |bench| {
        std::fs::write(bench.inventory(), THREE_TIER.as_str()).unwrap();
        bench.apply();
    });
}

/// What is armed on a host: the phase.
fn armed(bench: &Bench, host: &str) -> Option<String> {
    let said = bench.sh(host, "cat /run/infra/firewall.armed");
    (said.code == 0).then(|| said.out.rsplit('/').nth(1).unwrap_or_default().to_owned())
}

/// Law 4, with rules that do not let the controller in, forced onto the hosts: some are waited for, on some the run is
/// killed, one is started anew. All return to the old rules by themselves, and the page is served all the time.
#[test]
fn nobody_is_locked_out() {
    let bench = Bench::applied("t-lockout");
    let good = "manage_from: [10.0.0.0/24, \"fd00::/64\"]";
    let bad = "manage_from: [10.77.0.0/24, \"fd77::/64\"]";
    bench.edit(good, bad);
    let said = bench.infra(&["check"]).expect(2);
    assert!(said.err.contains("would lock this controller out"), "{}", said.err);
    assert!(said.err.contains("add a network that holds 10.0.0.1"), "{}", said.err);
    let said = bench.apply().expect(2);
    assert!(
        said.err.contains("would lock this controller out") && said.err.contains("nothing was done"),
        "{}",
        said.err
    );
    for round in 1..=amount("ROUNDS", 1) {
        locked_out_and_back(&bench);
        bench.edit(bad, good);
        settled(&bench);
        assert!(!rules(&bench, "web1").contains("10.77.0.0/24"));
        exact(&bench);
        println!("{round} times locked out and back");
        bench.edit(good, bad);
    }
}

fn locked_out_and_back(bench: &Bench) {
    let all = ["lb1", "lb2", "web1", "web2", "app1", "app2"];
    assert!(all.iter().all(|host| armed(bench, host).is_none()));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let pages = scope.spawn(|| {
            let (mut good, mut bad) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                match bench.page("https://shop.example.com/") {
                    (200, _) => good += 1,
                    other => bad.push(other),
                }
            }
            (good, bad)
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| forced(bench)));
        over.store(true, Ordering::Relaxed);
        let (good, bad) = pages.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        // Why, if not: what the load balancers and the web hosts have said besides requests.
        let said = |host: &&str| {
            let script = "journalctl -q --no-pager -u haproxy -u nginx | grep -v '{\"' | tail -n 20; tail -n 5 /var/log/nginx/error.log 2>/dev/null; true";
            format!("{host}:\n{}", bench.sh(host, script).out)
        };
        let why = || ["lb1", "lb2", "web1", "web2"].iter().map(said).collect::<String>();
        assert!(bad.is_empty() && good > 20, "{good} pages, and {bad:?}\n{}", why());
    });

    for host in all {
        assert!(rules(bench, host).contains("10.0.0.0/24"), "{host}: the old rules are live");
        let boot = bench.sh(host, "cat /etc/infra/firewall.nft").expect(0).out;
        assert!(boot.contains("10.0.0.0/24"), "{host}: the old rules are read at boot");
        assert_eq!(armed(bench, host), None, "{host}");
    }
}

fn forced(bench: &Bench) {
    let force = |limit: &str| {
        let mut command = bench.infra_command(&["apply", "--yes", "--force", "--limit", limit]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let shut = |hosts: &[&str]| {
        for host in hosts {
            wait(&format!("armed rules on {host}"), Duration::from_secs(60), || {
                (armed(bench, host)? == "narrow" && !rules(bench, host).contains("10.0.0.0/24")).then_some(())
            });
        }
    };
    let waited = ["lb1", "lb2", "web1", "web2"];
    let first = force("lb1,lb2,web1,web2");
    shut(&waited);
    let since = Instant::now();
    assert_eq!(from_controller(bench, "10.0.2.11"), Reach::Drop, "no new connection gets in");
    let mut second = force("app1,app2");
    shut(&["app1", "app2"]);
    let killed = Instant::now();
    kill(&mut second);
    bench.reboot("app2");
    assert!(rules(bench, "app2").contains("10.0.0.0/24"), "a reboot in the window comes back with the old rules");
    assert!(killed.elapsed() < Duration::from_secs(50), "and not because the window was over");

    // All at once, not one after the other; a minute, and what a busy machine takes to look.
    for host in waited {
        wait(&format!("the old rules on {host}"), Duration::from_secs(62).saturating_sub(since.elapsed()), || {
            rules(bench, host).contains("10.0.0.0/24").then_some(())
        });
    }
    wait("the old rules on app1", Duration::from_secs(62).saturating_sub(killed.elapsed()), || {
        rules(bench, "app1").contains("10.0.0.0/24").then_some(())
    });
    let output = first.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(5), "{out}{err}");
    assert!(out.contains("4 rolled back"), "{out}");
    assert!(err.contains("rolled back on lb1, lb2, web1, web2 in narrow"), "{err}");
    assert!(err.contains("the host's own timer has put the old rules back after 55 s"), "{err}");
    // What is open is what is said: the rules of before `narrow` are those of after `widen`.
    assert!(err.contains("now:      its rules are those of before this phase (done: widen"), "{err}");
    assert!(err.contains("still open on lb1, lb2, web1, web2:"), "{err}");
    assert!(err.contains("+ manage_from -> all 22/tcp 10.77.0.0/24, fd77::/64, which this run opened"), "{err}");
    assert!(
        err.contains("- manage_from -> all 22/tcp 10.0.0.0/24, fd00::/64, which the inventory no longer declares"),
        "{err}"
    );
    for host in waited {
        let live = rules(bench, host);
        assert!(live.contains("10.77.0.0/24") && live.contains("10.0.0.0/24"), "{host}: {live}");
    }
    for host in waited {
        let told = err.lines().find(|line| line.trim().starts_with(&format!("{host}: no new connection gets in; at ")));
        assert!(told.is_some_and(|line| line.contains(" UTC its own timer puts the old rules back")), "{host}: {err}");
    }
    wait("SSH to all", Duration::from_secs(10), || {
        ["10.0.1.11", "10.0.2.11", "10.0.3.11", "10.0.3.12"]
            .iter()
            .all(|to| from_controller(bench, to) == Reach::Open)
            .then_some(())
    });
}

fn from_controller(bench: &Bench, to: &str) -> Reach {
    probe(bench, "controller", to, 22)
}

/// Ends infra itself, which nothing stands between and its signals.
fn kill(child: &mut std::process::Child) {
    let exe = std::fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
    assert!(exe.ends_with("infra"), "{} is {}", child.id(), exe.display());
    child.kill().unwrap();
    child.wait().unwrap();
}

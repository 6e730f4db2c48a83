//! What the firewall's tests share: a three-tier site built in code, and network namespaces that clean up after themselves.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a part of tests, of which each file uses a part"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use infra::base::net::{HostName, Port};
use infra::inventory::site::{
    Allow, AppProgram, Backend, Certificates, Database, Engine, FirewallPolicy, Host, Party, Place, Ports, Role,
    SemiSync, Site, Ssh, WebSite,
};

pub(crate) fn place(line: usize) -> Place {
    Place { file: "shop.yml".into(), line }
}

pub(crate) fn port(number: u64) -> Port {
    Port::try_from(number).unwrap()
}

pub(crate) fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

pub(crate) fn host(text: &str, addresses: &[&str], roles: &[Role]) -> Host {
    Host {
        name: name(text),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        public: Vec::new(),
        roles: roles.iter().copied().collect(),
        allow_mixed_roles: None,
        ssh: Ssh::default(),
        place: place(10),
    }
}

/// lb1, web1, web2 (IPv4 only), app1, db1, db2 on one flat network; SSH from 10.99.0.1, port 9000 of web from 10.99.0.200.
pub(crate) fn site(backend: Backend) -> Site {
    let hosts = [
        host("lb1", &["10.99.0.11", "fd99::11"], &[Role::Lb]),
        host("web1", &["10.99.0.21", "fd99::21"], &[Role::Web]),
        host("web2", &["10.99.0.22"], &[Role::Web]),
        host("app1", &["10.99.0.31", "fd99::31"], &[Role::App]),
        host("db1", &["10.99.0.41", "fd99::41"], &[Role::Db]),
        host("db2", &["10.99.0.42", "fd99::42"], &[Role::Db]),
    ];
    let program = AppProgram {
        path: "/".into(),
        port: port(8080),
        health: "/".into(),
        hosts: BTreeSet::new(),
        compress: false,
        place: place(51),
    };
    let shop = WebSite {
        name: "shop.example.com".parse().unwrap(),
        aliases: Vec::new(),
        addresses: Vec::new(),
        files: Vec::new(),
        programs: vec![program],
        auth: Vec::new(),
        sticky: false,
        manner: infra::inventory::site::Manner::default(),
        certificate: None,
        place: place(50),
    };
    let manage = ["10.99.0.1", "fd99::1"].map(|net| (net.parse().unwrap(), place(20)));
    Site {
        name: name("shop"),
        hosts: hosts.into_iter().map(|h| (h.name.clone(), h)).collect(),
        ports: Ports { web: port(8443), app: port(9443) },
        drain: Duration::from_secs(30),
        edge: infra::inventory::site::Edge::default(),
        firewall: FirewallPolicy {
            backend,
            manage_from: manage.to_vec(),
            allow: vec![Allow {
                to: Party::Role(Role::Web),
                from: vec![Party::Net("10.99.0.200".parse().unwrap())],
                port: Some(port(9000)),
                through: None,
                proto: infra::base::proto::Proto::Tcp,
                why: "status checks".into(),
                place: place(23),
            }],
            block: Vec::new(),
            forward: None,
            resolvers: Vec::new(),
        },
        sites: BTreeMap::from([(shop.name.clone(), shop)]),
        certificates: Certificates::internal(),
        database: Some(Database {
            engine: Engine::Mariadb,
            primary: name("db1"),
            schemas: Vec::new(),
            users: BTreeMap::new(),
            former_users: BTreeSet::new(),
            max_lag: Duration::from_secs(10),
            semi_sync: SemiSync::Wait(Duration::from_secs(10)),
            settings: BTreeMap::new(),
            place: place(60),
        }),
        monitoring: None,
        file: "shop.yml".into(),
        folder: ".".into(),
        state: "state".into(),
        silence: BTreeMap::new(),
        through: BTreeMap::new(),
    }
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Network namespaces on one bridge, gone when dropped. Their names hold the pid, so that tests stand side by side.
pub(crate) struct Net {
    prefix: String,
    nodes: BTreeSet<String>,
    sleepers: Vec<std::process::Child>,
}

impl Net {
    /// A namespace for each name with its addresses, all on one flat network.
    pub(crate) fn up(nodes: &[(&str, Vec<IpAddr>)]) -> Self {
        let prefix = format!("fw{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut net = Self { prefix, nodes: BTreeSet::new(), sleepers: Vec::new() };
        let mut script = String::from("set -e\nip link add br0 type bridge mcast_snooping 0\nip link set br0 up\n");
        net.add("sw");
        for (at, (node, _)) in nodes.iter().enumerate() {
            net.add(node);
            let ns = net.ns(node);
            script.push_str(&format!(
                "ip link add v{at} type veth peer name eth0 netns {ns}\nip link set v{at} master br0 up\n"
            ));
        }
        net.ok("sw", &script);
        for (node, addresses) in nodes {
            let mut script = String::from(
                "set -e\nip link set lo up\nsysctl -qw net.ipv4.ip_forward=0\nsysctl -qw net.ipv6.conf.eth0.accept_dad=0\nip link set eth0 up\n",
            );
            for address in addresses {
                let tail = if address.is_ipv4() { "/24" } else { "/64 nodad" };
                script.push_str(&format!("ip addr add {address}{tail} dev eth0\n"));
            }
            net.ok(node, &script);
        }
        net
    }

    fn add(&mut self, node: &str) {
        self.nodes.insert(node.to_owned());
        let ns = self.ns(node);
        let out = Command::new("ip").args(["netns", "add", &ns]).output().unwrap();
        assert!(out.status.success(), "these tests need root and iproute2: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn ns(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    fn command(&self, node: &str, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(node)]).args(program);
        command
    }

    /// Runs an sh script, given on stdin as a transport does, with `ROOT` set.
    pub(crate) fn sh(&self, node: &str, root: &str, script: &str) -> Output {
        let mut child = self
            .command(node, &["sh", "-s"])
            .env("ROOT", root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The stdout of a script that must succeed.
    pub(crate) fn ok(&self, node: &str, script: &str) -> String {
        let out = self.sh(node, "", script);
        assert!(out.status.success(), "{node}: {script}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// A process that lives as long as the network; returns when it printed `ready`.
    pub(crate) fn daemon(&mut self, node: &str, perl: &str) {
        use std::io::BufRead as _;
        let mut child =
            self.command(node, &["perl", "-e", perl]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.sleepers.push(child);
        assert_eq!(line, "ready\n", "{node}");
    }

    /// Listeners on these TCP ports, of both families, that accept and close.
    pub(crate) fn listen(&mut self, node: &str, ports: &[u16]) {
        let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let perl = format!(
            "use Socket qw(:DEFAULT IPPROTO_IPV6 IPV6_V6ONLY inet_pton pack_sockaddr_in6); $|=1; my ($bits,%s)=('');\
             for my $p ({}) {{ socket(my $s,AF_INET6,SOCK_STREAM,0) or die; setsockopt($s,SOL_SOCKET,SO_REUSEADDR,1);\
             setsockopt($s,IPPROTO_IPV6,IPV6_V6ONLY,0); bind($s,pack_sockaddr_in6($p,inet_pton(AF_INET6,'::'))) or die; listen($s,128);\
             $s{{fileno $s}}=$s; vec($bits,fileno $s,1)=1; }} print \"ready\\n\";\
             while(1) {{ select(my $r=$bits,undef,undef,undef); for(keys %s) {{ if(vec($r,$_,1)) {{ accept(my $c,$s{{$_}}); close $c }} }} }}",
            list.join(",")
        );
        self.daemon(node, &perl);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.sleepers {
            let _ = child.kill();
            let _ = child.wait();
        }
        for node in &self.nodes {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(node)]).output();
        }
    }
}

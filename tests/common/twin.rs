//! Hosts that are nothing but namespaces: each has its rendered files laid over this machine's `/etc`, all are
//! neighbours on one private bridge. Nothing outside is seen or changed, and everything dies with the value.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use infra::base::materials::Materials;
use infra::base::net::HostName;
use infra::inventory::site::Site;
use infra::plan::state::{Desired, DesiredHost};

/// A process that holds namespaces open; killed with all that runs in them.
struct Holder {
    child: Child,
    /// The process inside.
    pid: u32,
}

impl Holder {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).process_group(0).spawn().expect("unshare (util-linux) starts");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = wait(Duration::from_secs(10), || {
            let pid = std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()?;
            // Before exec it is still unshare itself, in half-made namespaces.
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name.trim() == "sleep").then_some(pid)
        });
        if let Some(pid) = pid {
            return Self { child, pid };
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("no namespaces: these tests must run as root on Linux");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Twin {
    hosts: BTreeMap<String, Holder>,
    net: Holder,
    folder: tempfile::TempDir,
}

/// The address of the one who asks from outside.
pub const OUTSIDE: [&str; 2] = ["198.51.100.9", "2001:db8::9"];

/// A device on which everyone is a neighbour, whatever the subnets.
fn flat(device: &str, addresses: &[IpAddr]) -> String {
    let mut out = format!("ip link set {device} up\n");
    for address in addresses {
        let (length, more) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
        writeln!(out, "ip addr add {address}/{length} dev {device}{more}").unwrap();
    }
    for (family, v4) in [("-4", true), ("-6", false)] {
        if addresses.iter().any(|a| a.is_ipv4() == v4) {
            writeln!(out, "ip {family} route add default dev {device}").unwrap();
        }
    }
    out
}

/// The value that `seen` gives, or `None` after `limit`.
pub fn wait<T>(limit: Duration, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = seen() {
            return Some(value);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Twin {
    /// All hosts of `desired` with their files in place, nothing started.
    pub fn new(site: &Site, desired: &Desired, materials: &Materials) -> Self {
        for program in ["/usr/sbin/haproxy", "/usr/sbin/nginx", "/usr/bin/socat", "/usr/bin/openssl", "/usr/bin/curl"] {
            assert!(
                Path::new(program).exists(),
                "{program} is missing; these tests need: apt-get install haproxy nginx socat openssl curl iproute2"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let net = Holder::start(Command::new("unshare").args(["--net", "--fork", "--kill-child", "sleep", "600"]));
        let twin = Self { hosts: BTreeMap::new(), net, folder };
        let mut twin = twin;
        let out = twin.outside(&format!(
            "set -e\nip link set lo up\nip link add br0 type bridge\nip link set br0 up\n{}",
            flat("br0", &OUTSIDE.map(|a| a.parse().unwrap()))
        ));
        assert!(out.status.success(), "{}", text(&out));
        for (name, wanted) in desired {
            twin.add(name, wanted, materials);
            let addresses = &site.hosts[name].addresses;
            let out = twin.run(name.as_str(), &format!("set -e\nip link set lo up\n{}", flat("eth0", addresses)));
            assert!(out.status.success(), "{name}: {}", text(&out));
        }
        twin
    }

    fn add(&mut self, name: &HostName, wanted: &DesiredHost, materials: &Materials) {
        let files = self.folder.path().join(name.as_str());
        std::fs::create_dir_all(&files).unwrap();
        let under = |path: &str| files.join(path.trim_start_matches('/'));
        for (path, folder) in &wanted.folders {
            std::fs::create_dir_all(under(path)).unwrap();
            std::fs::set_permissions(under(path), std::fs::Permissions::from_mode(folder.access.mode)).unwrap();
        }
        for (path, file) in &wanted.files {
            write(&under(path), &materials.share(name).materialize(&file.body.text).unwrap(), file.access.mode);
            if file.access.group != "root" {
                let done = Command::new("chgrp").arg(&file.access.group).arg(under(path)).status().unwrap();
                assert!(done.success(), "{path}");
            }
        }
        // Units do not exist here; whether a daemon runs is what the other probes see.
        let systemctl = "#!/bin/sh\ncase \"$*\" in *MainPID*nginx*) cat /run/nginx.pid ;; esac\nexit 0\n";
        write(&under("/run/bin/systemctl"), systemctl, 0o755);
        let holder = Holder::start(Command::new("unshare").args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sleep",
            "600",
        ]));
        let number = self.hosts.len();
        let out = self.outside(&format!(
            "set -e\nip link add v{number} type veth peer name eth0 netns {}\n\
             ip link set v{number} master br0 up\n",
            holder.pid
        ));
        assert!(out.status.success(), "{name}: {}", text(&out));
        self.hosts.insert(name.to_string(), holder);
        let script = format!(
            "set -e\n\
             mount -t tmpfs none /run\n\
             mkdir -p /run/o/etc-u /run/o/etc-w /run/o/var-u /run/o/var-w /run/haproxy /run/bin\n\
             mount -t overlay -o lowerdir=/etc,upperdir=/run/o/etc-u,workdir=/run/o/etc-w none /etc\n\
             mount -t overlay -o lowerdir=/var,upperdir=/run/o/var-u,workdir=/run/o/var-w none /var\n\
             rm -rf /etc/nginx/conf.d/* /etc/haproxy/haproxy.cfg\n\
             mkdir -p /var/log/nginx\n\
             cp -a {0}/. /\n\
",
            files.display()
        );
        let out = self.run(name.as_str(), &script);
        assert!(out.status.success(), "{name}: {}", text(&out));
    }

    /// Runs sh text on a host.
    pub fn run(&self, host: &str, script: &str) -> Output {
        let pid = self.hosts[host].pid.to_string();
        sh(Command::new("nsenter").args(["--target", &pid, "--mount", "--net", "--pid", "sh", "-s"]), script)
    }

    /// Runs sh text in the network, but on no host: this machine's own files.
    pub fn outside(&self, script: &str) -> Output {
        sh(Command::new("nsenter").args(["--target", &self.net.pid.to_string(), "--net", "sh", "-s"]), script)
    }

    /// Writes a file on a host.
    pub fn put(&self, host: &str, path: &str, text: &str) {
        let from = self.folder.path().join("put");
        write(&from, text, 0o644);
        let out = self.run(host, &format!("mkdir -p \"$(dirname '{path}')\" && cp '{}' '{path}'", from.display()));
        assert!(out.status.success(), "{}", self::text(&out));
    }

    /// A folder of the test's own, seen by all hosts and from outside.
    pub fn shared(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the daemons of a host as their units do.
    pub fn start(&self, host: &str, wanted: &DesiredHost) {
        for (unit, command) in [
            (
                "infra-programs.service",
                "mkdir -p /run/infra/programs && haproxy -W -D -f /etc/infra/programs/programs.cfg -p /run/infra/programs/pid \
                 -S /run/infra/programs/master.sock",
            ),
            ("nginx.service", "nginx"),
            (
                "haproxy.service",
                "haproxy -W -D -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid -S /run/haproxy-master.sock",
            ),
        ] {
            if wanted.units.contains_key(unit) {
                // A daemon keeps what it inherits; our pipe must not be among it.
                let out = self.run(
                    host,
                    &format!("{command} >/run/start.log 2>&1 </dev/null || {{ cat /run/start.log; exit 1; }}"),
                );
                assert!(out.status.success(), "{host}: {command}: {}", text(&out));
            }
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(mode).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn sh(command: &mut Command, script: &str) -> Output {
    let mut child = command
        .env("PATH", "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsenter (util-linux) starts");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

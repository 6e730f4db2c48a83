//! The two members of a lab that are no machines: `outside`, the internet as the inventory sees it, with the DNS of the
//! twin's world and the package repository; and `controller`, from where infra manages the hosts.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::command::Process;
use super::spec::{Outside, REPOSITORY_NAME, Spec};
use super::{Error, authority, command, endpoint, nameserver, net, requirements, ssh};
use crate::base::fsx;

/// hosts(5) of the twin's world.
pub(super) fn names(spec: &Spec, outside: &Outside) -> String {
    let mut text = String::new();
    let of_hosts = spec.hosts.iter().map(|h| (h.name.as_str(), h.addresses.as_slice()));
    let given = spec.names.iter().filter(|(name, _)| !name.starts_with("*.") && spec.zone(name).is_none());
    let given = given.map(|(n, a)| (n.as_str(), a.as_slice()));
    let own = [
        (REPOSITORY_NAME, outside.services.as_slice()),
        ("outside", outside.clients.as_slice()),
        ("controller", spec.controller.as_slice()),
    ];
    for (name, addresses) in of_hosts.chain(given).chain(own) {
        for address in addresses {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{address} {name}");
        }
    }
    for (name, addresses) in endpoint::names(spec, outside) {
        for address in addresses {
            let _ = writeln!(text, "{address} {name}");
        }
    }
    for (directory, address) in spec.authorities.iter().zip(&outside.authorities) {
        let _ = writeln!(text, "{address} {}", directory.place().map(|place| place.host).unwrap_or_default());
    }
    text
}

/// dnsmasq(8): answers what it is told, knows that nothing else exists, asks nobody.
fn dnsmasq(spec: &Spec, outside: &Outside, hosts: &Path) -> String {
    let mut text = format!(
        "no-resolv\nno-hosts\nno-poll\nlocal=/#/\naddn-hosts={}\nbind-interfaces\nport=53\nuser=root\npid-file=\n\
         keep-in-foreground\nlog-facility=-\n",
        hosts.display()
    );
    for address in &outside.services {
        let _ = writeln!(text, "listen-address={address}");
    }
    // What the zones' own servers do not know now may be there a moment later.
    for (zone, address) in spec.zones.iter().flat_map(|zone| resolver(outside).map(move |address| (zone, address))) {
        let _ = writeln!(text, "server=/{zone}/{address}");
    }
    if !spec.zones.is_empty() {
        text.push_str("no-negcache\n");
    }
    for (name, addresses) in spec.names.iter().filter(|(name, _)| spec.zone(name).is_none()) {
        let Some(domain) = name.strip_prefix("*.") else { continue };
        for address in addresses {
            let _ = writeln!(text, "address=/{domain}/{address}");
        }
    }
    text
}

/// Where the zones are asked for, with signatures checked.
fn resolver(outside: &Outside) -> impl Iterator<Item = &IpAddr> {
    outside.nameservers.iter().skip(2).flatten()
}

/// Makes both namespaces, or only what of them is not as it should be, and starts what `outside` serves.
pub(super) fn create(spec: &Spec, outside: &Outside, dir: &Path, repository: &Path) -> Result<(), Error> {
    let lab = &spec.name;
    let here = dir.join("outside");
    fsx::private_dir(&here)?;
    // Shown in place of root's own ~/.ssh to what runs in the controller.
    fsx::private_dir(&dir.join("dot-ssh"))?;
    let fixed = outside.services.iter().chain(&outside.authorities).chain(&spec.outside);
    let others: Vec<IpAddr> =
        fixed.chain(outside.nameservers.iter().flatten()).chain(&outside.endpoint).copied().collect();
    let outside_script = net::script(lab, "outside", &outside.clients, &others);
    let controller_script = net::script(lab, "controller", &spec.controller, &[]);
    for (member, script) in [("outside", outside_script), ("controller", controller_script)] {
        let namespace = net::namespace(lab, member);
        let path = dir.join(format!("{member}.sh"));
        if !net::exists(&namespace) || std::fs::read_to_string(&path).is_ok_and(|old| old != script) {
            net::run_script(&script, "up")?;
        }
        fs_err::write(path, script)?;
        let etc = net::etc(&namespace)?;
        let speaks = |a: IpAddr| member == "outside" || spec.controller.iter().any(|c| c.is_ipv4() == a.is_ipv4());
        fs_err::write(etc.join("resolv.conf"), net::resolv_conf(&outside.services, speaks))?;
        // What is shown in place of a file that this machine does not have cannot be shown, and ip(8) would say so each time.
        if Path::new("/etc/hosts").exists() {
            fs_err::write(etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost ip6-localhost\n")?;
        }
        // A machine whose names go through systemd-resolved would ask it past the namespace.
        if let Ok(switch) = std::fs::read_to_string("/etc/nsswitch.conf") {
            let others = switch.lines().filter(|l| !l.trim_start().starts_with("hosts:"));
            let switch = others.fold("hosts: files dns\n".to_owned(), |all, l| all + l + "\n");
            fs_err::write(etc.join("nsswitch.conf"), switch)?;
        }
        if member == "controller" {
            fs_err::create_dir_all(etc.join("ssh"))?;
            let config = ssh::config(spec, &dir.join("key"), &dir.join("known_hosts"), ssh::From::Controller);
            fs_err::write(etc.join("ssh/ssh_config"), config)?;
        }
    }
    fs_err::write(here.join("hosts"), names(spec, outside))?;
    fs_err::write(here.join("dnsmasq.conf"), dnsmasq(spec, outside, &here.join("hosts")))?;
    start(spec, outside, dir, repository)?;
    if spec.zones.is_empty() { Ok(()) } else { nameserver::start(spec, outside, dir) }
}

fn start(spec: &Spec, outside: &Outside, dir: &Path, repository: &Path) -> Result<(), Error> {
    let here = dir.join("outside");
    let namespace = net::namespace(&spec.name, "outside");
    let enter = OsString::from(format!("--net={}", net::file(&namespace).display()));
    let launch = |log: &str, program: &[&OsStr]| {
        let argv = ["nsenter".as_ref(), enter.as_os_str()].into_iter().chain(program.iter().copied());
        command::detach("start what `outside` serves", &here.join(log), &argv.collect::<Vec<_>>())
    };
    let config = OsString::from(format!("--conf-file={}", here.join("dnsmasq.conf").display()));
    // Those of an earlier `up` are told what changed by being started again.
    let (inside, all) = (net::pids(&namespace), command::processes());
    let served =
        |p: &&Process| p.has(&config.to_string_lossy()) || p.has("httpd") && p.has(&repository.to_string_lossy());
    let old: Vec<u32> = all.iter().filter(|p| inside.contains(&p.pid)).filter(served).map(|p| p.pid).collect();
    command::kill(&old);
    let deadline = Instant::now() + Duration::from_secs(10);
    let ended = || net::pids(&namespace).iter().all(|pid| !old.contains(pid)).then_some(());
    command::wait_for(deadline, Duration::from_millis(20), ended);
    launch("dnsmasq.log", &["dnsmasq".as_ref(), &config])?;
    for address in &outside.services {
        let listen = match address {
            IpAddr::V4(a) => format!("{a}:80"),
            IpAddr::V6(a) => format!("[{a}]:80"),
        };
        let argv = ["busybox", "httpd", "-f", "-p", &listen, "-h"].map(OsStr::new);
        launch("httpd.log", &argv.into_iter().chain([repository.as_os_str()]).collect::<Vec<_>>())?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let answers = || is_serving(spec, outside).then_some(());
    if command::wait_for(deadline, Duration::from_millis(50), answers).is_some() {
        return Ok(());
    }
    let words =
        ["dnsmasq.log", "httpd.log"].map(|log| std::fs::read_to_string(here.join(log)).unwrap_or_default()).concat();
    Err(Error::Timeout { host: "outside".to_owned(), seconds: 10, last: command::last_lines(&words, 4) })
}

/// Whether the DNS and the repository take connections on each of their addresses.
pub(super) fn is_serving(spec: &Spec, outside: &Outside) -> bool {
    let namespace = net::namespace(&spec.name, "outside");
    let takes = |address: &IpAddr, port: &str| {
        let mut nc = Command::new("nsenter");
        nc.arg(format!("--net={}", net::file(&namespace).display()));
        nc.args(["busybox", "nc", "-w", "2", &address.to_string(), port]);
        command::run("connect", &mut nc).is_ok()
    };
    net::exists(&namespace) && outside.services.iter().all(|a| takes(a, "53") && takes(a, "80"))
}

/// What runs `argv` in the namespace of `member`. In the controller ssh finds the lab's key and hosts, and nothing of the
/// person's own: neither ~/.ssh nor an agent.
pub(super) fn command(lab: &str, member: &str, dir: &Path, argv: &[OsString]) -> Command {
    let mut ip = Command::new(requirements::find("ip").unwrap_or_else(|| "ip".into()));
    ip.env("PATH", with_this_program(&command::search_path()));
    ip.args(["netns", "exec", &net::namespace(lab, member)]);
    let roots = authority::roots(dir);
    if roots.exists() {
        // curl(1) heeds its own variable first, and this machine's person may have set that.
        ip.env("SSL_CERT_FILE", &roots).env("CURL_CA_BUNDLE", roots);
    }
    if member == "controller" {
        // Certificates of the twin's CAs, and what it was told, are nothing for the real hosts' state.
        ip.env("INFRA_STATE", dir.join("state"));
        let script = "[ ! -d ~root/.ssh ] || mount --bind \"$1\" ~root/.ssh || exit 125; shift; exec \"$@\"";
        ip.args(["sh", "-c", script, "sh"]).arg(dir.join("dot-ssh")).env_remove("SSH_AUTH_SOCK");
    }
    ip.args(argv);
    ip
}

/// A search path on which `infra` is found wherever it stands: `infra lab exec controller -- infra apply` is written in the manual.
fn with_this_program(path: &str) -> OsString {
    let own = std::env::current_exe().ok();
    let folders = std::env::split_paths(path).chain(own.as_deref().and_then(Path::parent).map(Path::to_path_buf));
    // A folder whose name cannot stand in a search path is not on it.
    std::env::join_paths(folders).unwrap_or_else(|_| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::spec::SpecHost;

    #[test]
    fn this_program_is_found_last() {
        let own = std::env::current_exe().unwrap();
        let expected = format!("/a:/b:{}", own.parent().unwrap().display());
        assert_eq!(with_this_program("/a:/b"), expected.as_str());
    }

    #[test]
    fn the_dns_answers_for_the_lab_and_for_nothing_else() {
        let spec = Spec {
            name: "shop".to_owned(),
            hosts: vec![SpecHost {
                name: "web1".to_owned(),
                addresses: vec!["10.0.2.11".parse().unwrap(), "fd00:2::11".parse().unwrap()],
                ..SpecHost::default()
            }],
            names: [
                ("shop.example.com".to_owned(), vec!["203.0.113.11".parse().unwrap()]),
                ("*.example.org".to_owned(), vec!["203.0.113.12".parse().unwrap()]),
            ]
            .into(),
            ..Spec::default()
        };
        let outside = spec.choose_outside(None).unwrap();
        let hosts = names(&spec, &outside);
        assert!(
            hosts.contains(
                "10.0.2.11 web1\nfd00:2::11 web1\n203.0.113.11 shop.example.com\n192.0.2.254 deb.lab.internal"
            )
        );
        assert!(!hosts.contains('*'));
        let config = dnsmasq(&spec, &outside, Path::new("/l/hosts"));
        assert!(config.contains("address=/example.org/203.0.113.12\n"));
        assert!(config.contains("no-resolv\n") && !config.contains("\nserver="));
    }
}

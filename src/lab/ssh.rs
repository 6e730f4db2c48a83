//! SSH in a lab: makes the lab's key and every host's key before the first boot, and gives what a client must know.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use super::spec::{Spec, SpecHost};
use super::{Error, command, net};
use crate::base::fsx;

/// The kinds of host key that sshd offers, as ssh-keygen(1) calls them.
const KINDS: [&str; 2] = ["ed25519", "ecdsa"];

/// Makes a key pair at `path` without a passphrase.
pub(super) fn key(path: &Path, kind: &str, comment: &str) -> Result<(), Error> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", kind, "-N", "", "-C", comment, "-f"]).arg(path);
    command::run("make a key", &mut keygen)?;
    Ok(())
}

/// Makes a host's keys in `dir` (`ssh_host_KIND_key`).
pub(super) fn host_keys(dir: &Path, host: &str) -> Result<(), Error> {
    fsx::private_dir(dir)?;
    KINDS.iter().try_for_each(|kind| key(&dir.join(format!("ssh_host_{kind}_key")), kind, &format!("root@{host}")))
}

/// One host's lines of `known_hosts` (sshd(8), «`SSH_KNOWN_HOSTS` FILE FORMAT»), from its keys in `dir`.
pub(super) fn known_hosts(dir: &Path, host: &SpecHost) -> Result<String, Error> {
    let names = std::iter::once(host.name.clone()).chain(host.all_addresses().map(|a| a.to_string()));
    let names: Vec<String> = names
        .map(|name| match host.port() {
            22 => name,
            port => format!("[{name}]:{port}"),
        })
        .collect();
    let mut text = String::new();
    for kind in KINDS {
        let public = fs_err::read_to_string(dir.join(format!("ssh_host_{kind}_key.pub")))?;
        let key = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {key}", names.join(","));
    }
    Ok(text)
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A process in the controller's namespace.
    Controller,
    /// root on this machine, which reaches the lab through the controller's namespace.
    Machine,
}

/// `ssh_config`(5): each host under its name and its addresses.
pub(super) fn config(spec: &Spec, key: &Path, known_hosts: &Path, from: From) -> String {
    let mut text = String::new();
    for host in &spec.hosts {
        let addresses: Vec<String> = host.all_addresses().map(|a| a.to_string()).collect();
        let Some(first) = reachable(spec, host) else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Host {}\n  HostName {first}", host.name);
        let _ = writeln!(
            text,
            "Host {} {}\n  User {}\n  Port {}",
            host.name,
            addresses.join(" "),
            spec.user_of(host),
            host.port()
        );
    }
    let _ = writeln!(
        text,
        "Host *\n  IdentityFile \"{}\"\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile \"{}\"\n  \
         GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  ConnectTimeout 10",
        key.display(),
        known_hosts.display(),
    );
    if from == From::Machine {
        let controller = net::file(&net::namespace(&spec.name, "controller"));
        let _ = writeln!(text, "  ProxyCommand nsenter --net={} busybox nc %h %p", controller.display());
    }
    text
}

/// The address of `host` that the controller has the family for, else its first.
fn reachable(spec: &Spec, host: &SpecHost) -> Option<IpAddr> {
    let speaks = |a: &&IpAddr| spec.controller.iter().any(|c| c.is_ipv4() == a.is_ipv4());
    host.addresses.iter().find(speaks).or(host.addresses.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_host_is_known() {
        let dir = tempfile::tempdir().unwrap();
        for kind in KINDS {
            fs_err::write(dir.path().join(format!("ssh_host_{kind}_key.pub")), format!("{kind} AAAA root@x\n"))
                .unwrap();
        }
        let mut host = SpecHost {
            name: "web1".to_owned(),
            addresses: vec!["10.0.2.11".parse().unwrap(), "fd00:2::11".parse().unwrap()],
            ..SpecHost::default()
        };
        let expected = "web1,10.0.2.11,fd00:2::11 ed25519 AAAA\nweb1,10.0.2.11,fd00:2::11 ecdsa AAAA\n";
        assert_eq!(known_hosts(dir.path(), &host).unwrap(), expected);
        host.ssh_port = Some(2222);
        assert!(known_hosts(dir.path(), &host).unwrap().starts_with("[web1]:2222,[10.0.2.11]:2222,[fd00:2::11]:2222 "));
    }

    #[test]
    fn only_from_this_machine_a_way_into_the_lab_is_needed() {
        let host = SpecHost {
            name: "web1".to_owned(),
            addresses: vec!["fd00:2::11".parse().unwrap(), "10.0.2.11".parse().unwrap()],
            ..SpecHost::default()
        };
        let spec = Spec {
            name: "shop".to_owned(),
            hosts: vec![host],
            controller: vec!["10.0.0.1".parse().unwrap()],
            user: "ops".to_owned(),
            ..Spec::default()
        };
        let text = |from| config(&spec, Path::new("/l/key"), Path::new("/l/known_hosts"), from);
        assert!(
            text(From::Machine).contains("ProxyCommand nsenter --net=/run/netns/il-shop.controller busybox nc %h %p")
        );
        let inside = text(From::Controller);
        assert!(inside.contains("Host web1\n  HostName 10.0.2.11\n"));
        assert!(inside.contains("Host web1 fd00:2::11 10.0.2.11\n  User ops\n  Port 22\n"));
        assert!(!inside.contains("ProxyCommand"));
    }
}

//! The network of a lab: takes names and addresses, gives namespaces on one flat bridge that reach each other and nothing
//! else. A member is a host, `outside` or `controller`; each holds its addresses as /32 or /128 with a default route onto
//! the wire, so that every one finds every other by ARP or neighbour discovery, whatever the subnets are.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{Error, command};

/// Where ip-netns(8) keeps names.
const NAMES: &str = "/run/netns";
/// Files here are shown under /etc to what `ip netns exec` runs (ip-netns(8)).
const ETC: &str = "/etc/netns";

/// The namespace of a member. `.` and `_` stand in no name of a lab or host, so two labs cannot mean the same.
pub(super) fn namespace(lab: &str, member: &str) -> String {
    format!("il-{lab}.{member}")
}

/// The namespace that holds nothing but the bridge.
pub(super) fn bridge(lab: &str) -> String {
    namespace(lab, "_bridge")
}

/// Whether a namespace of that name is there.
pub(super) fn exists(namespace: &str) -> bool {
    Path::new(NAMES).join(namespace).exists()
}

/// All namespaces of the lab that have a name now.
pub(super) fn of_lab(lab: &str) -> Vec<String> {
    named(NAMES, lab)
}

/// All that stands under /etc for namespaces of the lab.
pub(super) fn etc_of_lab(lab: &str) -> Vec<PathBuf> {
    named(ETC, lab).into_iter().map(|name| Path::new(ETC).join(name)).collect()
}

fn named(dir: &str, lab: &str) -> Vec<String> {
    let prefix = namespace(lab, "");
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with(&prefix)).collect()
}

/// The file by which nsenter(1) finds a namespace.
pub(super) fn file(namespace: &str) -> PathBuf {
    Path::new(NAMES).join(namespace)
}

/// Makes the bridge's namespace.
pub(super) fn create_bridge(lab: &str) -> Result<(), Error> {
    let name = bridge(lab);
    command::run("make the lab's network", Command::new("ip").args(["netns", "add", &name]))?;
    // Without snooping neighbour discovery needs no querier.
    let lines = "link set lo up\nlink add br0 type bridge stp_state 0 mcast_snooping 0\nlink set br0 up\n";
    let mut ip = Command::new("ip");
    command::run_with("make the lab's network", ip.args(["-n", &name, "-batch", "-"]), lines.as_bytes())?;
    Ok(())
}

/// A script that makes (`up`) or removes (`down`) the namespace of a member and its cable to the bridge. `up` begins with
/// a fresh one, as a machine's kernel begins with no rule, route or connection.
///
/// `others` are addresses that it holds too and that nothing of it comes from unless told to.
pub(super) fn script(lab: &str, member: &str, addresses: &[IpAddr], others: &[IpAddr]) -> String {
    let (bridge, name) = (bridge(lab), namespace(lab, member));
    // The same after each boot, else the others' neighbour tables would be wrong for a while.
    let digest = Sha256::digest(&name);
    let mac = digest.iter().take(5).fold("02".to_owned(), |mac, byte| format!("{mac}:{byte:02x}"));
    // A name of an interface has at most 15 characters.
    let port = format!("p{}", command::hex(digest.as_slice(), 6));
    let mut batch = String::from("link set lo up\nlink set eth0 up\n");
    let preferred = addresses.iter().map(|a| (a, ""));
    // Of IPv4 addresses the first is the source; of IPv6 one that is not deprecated (RFC 6724 §5, rule 3).
    for (address, lifetime) in preferred.chain(others.iter().map(|a| (a, " preferred_lft 0"))) {
        // Writing to a string cannot fail.
        let _ = match address {
            IpAddr::V4(a) => writeln!(batch, "addr add {a}/32 dev eth0"),
            IpAddr::V6(a) => writeln!(batch, "addr add {a}/128 dev eth0 nodad{lifetime}"),
        };
    }
    let mut all = addresses.iter().chain(others);
    if all.clone().any(IpAddr::is_ipv4) {
        batch += "route add default dev eth0\n";
    }
    if all.any(IpAddr::is_ipv6) {
        batch += "-6 route add default dev eth0\n";
    }
    // `-6` is an option, not a part of a batch line.
    let (v6, v4): (Vec<&str>, Vec<&str>) = batch.lines().partition(|l| l.starts_with("-6 "));
    let v6: String = v6.iter().filter_map(|l| l.strip_prefix("-6 ")).fold(String::new(), |all, l| all + l + "\n");
    let v6 = if v6.is_empty() { v6 } else { format!("ip -6 -n {name} -batch - <<E\n{v6}E\n") };
    format!(
        "set -u\n\
         ip -n {bridge} link del {port} 2>/dev/null || :\n\
         if ip netns pids {name} >/dev/null 2>&1; then\n\
         \x20 ip netns pids {name} | xargs -r kill -9 2>/dev/null || :\n\
         \x20 ip netns del {name}\n\
         fi\n\
         [ \"$1\" = up ] || exit 0\n\
         set -e\n\
         ip netns add {name}\n\
         ip netns exec {name} sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad' 2>/dev/null || :\n\
         ip netns exec {name} sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward' 2>/dev/null || :\n\
         ip -n {bridge} link add {port} type veth peer name eth0 address {mac} netns {name}\n\
         ip -n {bridge} link set {port} master br0 up\n\
         ip -n {name} -batch - <<E\n{}\nE\n{v6}",
        v4.join("\n"),
    )
}

/// Runs a [`script`] with `up` or `down`.
pub(super) fn run_script(text: &str, verb: &str) -> Result<(), Error> {
    command::run("make the lab's network", Command::new("sh").args(["-c", text, "sh", verb]))?;
    Ok(())
}

/// The processes in a namespace, by its name.
pub(super) fn pids(namespace: &str) -> Vec<u32> {
    if !exists(namespace) {
        return Vec::new();
    }
    let text =
        command::run("list processes", Command::new("ip").args(["netns", "pids", namespace])).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// Removes a namespace and what stood under /etc for it.
pub(super) fn remove(namespace: &str) -> Result<(), Error> {
    if exists(namespace) {
        command::run("remove a namespace", Command::new("ip").args(["netns", "del", namespace]))?;
    }
    let etc = Path::new(ETC).join(namespace);
    if etc.is_dir() {
        fs_err::remove_dir_all(etc)?;
    }
    // Only when empty, that is when nobody else uses it.
    let _ = std::fs::remove_dir(ETC);
    Ok(())
}

/// `ip netns add` makes /run/netns a mount of its own at the first use. When no name is left, it goes too.
pub(super) fn tidy() {
    let empty = std::fs::read_dir(NAMES).is_ok_and(|mut entries| entries.next().is_none());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if empty && mounts.lines().any(|l| l.split(' ').nth(4) == Some(NAMES)) {
        // Fails when someone adds a name right now, which is as well.
        let _ = command::run("tidy up", Command::new("umount").arg(NAMES));
        let _ = std::fs::remove_dir(NAMES);
    }
    if empty {
        // The mount point of the supervisors' own tmpfs; systemd-nspawn makes it again when it needs it. While another lab is up
        // its own would be unmounted by this.
        let _ = std::fs::remove_dir("/run/systemd/nspawn");
    }
}

/// Makes the folder whose files `ip netns exec` shows under /etc.
pub(super) fn etc(namespace: &str) -> Result<PathBuf, Error> {
    let dir = Path::new(ETC).join(namespace);
    fs_err::create_dir_all(&dir)?;
    Ok(dir)
}

/// resolv.conf(5) for one that holds `addresses`: the name servers of those families.
pub(super) fn resolv_conf(services: &[IpAddr], speaks: impl Fn(IpAddr) -> bool) -> String {
    let servers = services.iter().filter(|a| speaks(**a)).map(|a| format!("nameserver {a}\n"));
    servers.collect::<String>() + "options timeout:1 attempts:2\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_two_labs_never_meet() {
        assert_ne!(namespace("a", "b-c"), namespace("a-b", "c"));
        assert_eq!(bridge("shop"), "il-shop._bridge");
    }

    #[test]
    fn a_member_holds_each_address_alone_and_routes_the_families_that_it_has() {
        let addresses = ["10.0.2.11".parse().unwrap(), "fd00:2::11".parse().unwrap()];
        let both = script("shop", "web1", &addresses, &[]);
        assert!(
            both.contains("addr add 10.0.2.11/32 dev eth0\naddr add fd00:2::11/128 dev eth0 nodad\nroute add default")
        );
        assert!(both.contains("ip -6 -n il-shop.web1 -batch - <<E\nroute add default dev eth0\nE\n"));
        assert!(!script("shop", "web1", &addresses[..1], &[]).contains("-6"));
        let services = ["192.0.2.254".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let conf = resolv_conf(&services, |a| a.is_ipv4());
        assert_eq!(conf, "nameserver 192.0.2.254\noptions timeout:1 attempts:2\n");
    }
}

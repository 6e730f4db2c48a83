//! What this machine must have for a lab: gives the packages that are missing, their command, and installs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Progress, Spec, command};

/// A Debian package that the lab needs, and the file by which its presence is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name for apt.
    pub name: &'static str,
    /// A program of it, looked for in the usual folders, or an absolute path.
    pub file: &'static str,
    /// What it is for.
    pub why: &'static str,
}

const fn package(name: &'static str, file: &'static str, why: &'static str) -> Package {
    Package { name, file, why }
}

/// All that every lab runs on this machine.
pub const PACKAGES: [Package; 13] = [
    package("systemd-container", "systemd-nspawn", "boots the hosts"),
    package("mmdebstrap", "mmdebstrap", "builds their image"),
    package("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg", "checks the image's packages"),
    package("apt-utils", "apt-ftparchive", "makes the package repository"),
    package("iproute2", "ip", "makes the network"),
    package("util-linux", "unshare", "keeps mounts apart"),
    package("dnsmasq-base", "dnsmasq", "answers names"),
    package("busybox", "busybox", "serves the package repository"),
    package("openssh-client", "ssh-keygen", "makes keys; the controller's ssh"),
    package("curl", "curl", "looks from outside"),
    package("openssl", "openssl", "looks from outside"),
    package("nmap", "nmap", "looks from outside"),
    package("pebble", "pebble", "signs certificates as the public authority would"),
];

/// And these, for name servers that take updates.
pub const NAME_SERVERS: [Package; 2] = [
    package("bind9", "named", "answers for the zones whose challenges are set by DNS"),
    package("bind9-dnsutils", "nsupdate", "sets challenges, looks whether zones are signed"),
];

/// And these, for what stands for the monitoring service.
pub const MONITORING: [Package; 2] = [
    package("python3", "python3", "takes what the monitoring agents post"),
    package("gnupg", "gpg", "signs the packages of the monitoring agent"),
];

const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program of that name in the usual folders (a user's `PATH` often lacks the `sbin` ones).
pub fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|p| p.exists());
    }
    FOLDERS.iter().map(|dir| Path::new(dir).join(program)).find(|p| p.exists())
}

/// All that a lab of that spec runs on this machine.
pub fn packages(spec: &Spec) -> Vec<Package> {
    let more = NAME_SERVERS.into_iter().filter(|_| !spec.zones.is_empty());
    let monitoring = MONITORING.into_iter().filter(|_| spec.endpoint.is_some());
    PACKAGES.into_iter().chain(more).chain(monitoring).collect()
}

/// Those that are not there, in the table's order.
pub fn missing(packages: &[Package]) -> Vec<Package> {
    packages.iter().copied().filter(|p| find(p.file).is_none()).collect()
}

/// The command that a person types to install `packages`.
pub fn install_command(packages: &[Package]) -> String {
    let names: Vec<&str> = packages.iter().map(|p| p.name).collect();
    format!("sudo apt-get install --no-install-recommends {}", names.join(" "))
}

/// Installs what is missing of `wanted` by apt. Needs root and a Debian family machine.
///
/// # Errors
/// [`Error::Command`] with apt's own words.
pub fn install(wanted: &[Package], progress: Progress<'_>) -> Result<(), Error> {
    let packages = missing(wanted);
    if packages.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        return Err(Error::Missing(packages));
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        // Nothing asks, or restarts what serves here; another who installs is waited for.
        apt.envs([("DEBIAN_FRONTEND", "noninteractive"), ("NEEDRESTART_SUSPEND", "1"), ("UCF_FORCE_CONFFOLD", "1")]);
        apt.envs([("APT_LISTCHANGES_FRONTEND", "none"), ("APT_LISTBUGS_FRONTEND", "none")]);
        apt.args(["-y", "-o", "DPkg::Lock::Timeout=600"]);
        apt.args(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]);
        apt
    };
    progress("reading the package lists");
    command::run("read the package lists", apt().arg("update"))?;
    for package in &packages {
        progress(&format!("installing {}: {}", package.name, package.why));
    }
    let names = packages.iter().map(|p| p.name);
    command::run("install the lab's packages", apt().args(["install", "--no-install-recommends"]).args(names))?;
    match missing(wanted) {
        none if none.is_empty() => Ok(()),
        still => Err(Error::Missing(still)),
    }
}

/// Whether a lab that needs `wanted` can run here at all.
///
/// # Errors
/// [`Error::NotRoot`], or [`Error::Missing`] with the packages.
pub fn check(wanted: &[Package]) -> Result<(), Error> {
    let packages = missing(wanted);
    if !packages.is_empty() {
        return Err(Error::Missing(packages));
    }
    if command::is_root()? { Ok(()) } else { Err(Error::NotRoot) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_packages() {
        let two: Vec<Package> = PACKAGES.into_iter().take(2).collect();
        let command = install_command(&two);
        assert_eq!(command, "sudo apt-get install --no-install-recommends systemd-container mmdebstrap");
        assert!(find("sh").is_some());
        assert!(find("no-such-program-of-infra").is_none());
    }
}

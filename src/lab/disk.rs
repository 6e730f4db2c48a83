//! A host's disk before its first boot: takes the image and the spec, writes what is the host's own into the layer above it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::Error;
use super::spec::{Spec, SpecHost};
use super::{command, net};
use crate::base::fsx;

/// The ordinary user's number. The kernel knows users by number alone, on this machine as in a lab: with Debian's usual
/// 1000, this machine's first user could take over a process of the lab's, which may become root there. Nobody uses those
/// from 60578 to 61183 («Users, Groups, UIDs and GIDs on systemd Systems»).
const UID: u32 = 60_789;
const APP: &str = include_str!("app.pl");
/// Its front, nginx, starts after the program listens and stops before it does: a host that reboots then refuses connections, which
/// a web host answers by trying the next one, where a front without its program would answer 502.
const APP_UNIT: &str = "[Unit]\nDescription=The lab's web program on port %i\nStartLimitIntervalSec=0\nBefore=nginx.service\n\n\
    [Service]\nExecStart=/usr/bin/perl /usr/local/lib/lab/app.pl %i\n\
    ExecStartPost=-/usr/bin/timeout 5 /bin/sh -c 'until ss -ltnH sport = :%i | grep -q .; do sleep 0.05; done'\n\
    User=nobody\nSupplementaryGroups=www-data\nRestart=always\nRestartSec=200ms\n\n[Install]\nWantedBy=multi-user.target\n";

/// Whether mount(8) takes `path` in the options of an overlay.
pub(super) fn check_path(path: &Path) -> Result<(), Error> {
    match path.to_str() {
        Some(text) if !text.contains([':', ',', '\\', '"']) => Ok(()),
        _ => Err(Error::Spec(format!(
            "the folder `{}` cannot hold labs: no `:`, `,`, `\\` or quote in its path",
            path.display()
        ))),
    }
}

/// Makes the folder for the hosts' disks. Where it lies on an overlay itself (in a container), which cannot be the upper
/// layer of another, the disks are in memory.
pub(super) fn prepare(dir: &Path) -> Result<(), Error> {
    fsx::private_dir(dir)?;
    if is_overlay(dir)? {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "mode=0700", "infra-lab"]).arg(dir);
        command::run("mount memory for the hosts' disks", &mut mount)?;
    }
    Ok(())
}

/// Whether the folder lies on an overlay.
pub(super) fn is_overlay(dir: &Path) -> Result<bool, Error> {
    let kind = command::run("look at the file system", Command::new("stat").args(["-f", "-c", "%T"]).arg(dir))?;
    Ok(kind.trim() == "overlayfs")
}

/// Undoes the mount of [`prepare`], if there is one.
pub(super) fn release(dir: &Path) -> Result<(), Error> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // `proc_pid_mountinfo`(5) writes a space as \\040.
    let point = dir.to_string_lossy().replace(' ', "\\040");
    if mounts.lines().any(|l| l.split(' ').nth(4) == Some(&point)) {
        command::run("unmount the hosts' disks", Command::new("umount").arg(dir))?;
    }
    Ok(())
}

/// The layer of one host.
pub(super) struct Disk<'a> {
    /// What lies below.
    pub(super) tree: &'a Path,
    /// Where files are written.
    pub(super) upper: PathBuf,
}

impl Disk<'_> {
    /// A folder of the host; one that the image has keeps its owner and mode, others are root's, 0755.
    fn folder(&self, path: &Path) -> Result<PathBuf, Error> {
        let mut here = self.upper.clone();
        let mut below = self.tree.to_path_buf();
        fs_err::create_dir_all(&here)?;
        for part in path.components().filter(|c| matches!(c, std::path::Component::Normal(_))) {
            here.push(part);
            below.push(part);
            if here.is_dir() {
                continue;
            }
            fs_err::create_dir(&here)?;
            let (mode, uid, gid) = match std::fs::symlink_metadata(&below) {
                Ok(m) if m.is_dir() => (m.mode() & 0o7777, m.uid(), m.gid()),
                _ => (0o755, 0, 0),
            };
            set(&here, mode, uid, gid)?;
        }
        Ok(here)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> Result<PathBuf, Error> {
        let path = Path::new(path);
        let dir = self.folder(path.parent().unwrap_or(Path::new("/")))?;
        let file = dir.join(path.file_name().unwrap_or_default());
        fs_err::write(&file, bytes)?;
        set(&file, mode, 0, 0)?;
        Ok(file)
    }

    fn image(&self, path: &str) -> Result<String, Error> {
        Ok(fs_err::read_to_string(self.tree.join(path))?)
    }

    /// Writes everything that is this host's own. `keys` holds its host keys, `login` the public key that may log in.
    pub(super) fn write_host(
        &self,
        spec: &Spec,
        host: &SpecHost,
        services: &[IpAddr],
        keys: &Path,
        login: &str,
    ) -> Result<(), Error> {
        let name = &host.name;
        self.write("/etc/hostname", format!("{name}\n"), 0o644)?;
        let hosts = format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        self.write("/etc/hosts", hosts, 0o644)?;
        self.write("/etc/resolv.conf", net::resolv_conf(services, |a| host.speaks(a)), 0o644)?;
        for entry in fs_err::read_dir(keys)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let mode = if Path::new(&file).extension().is_some_and(|e| e == "pub") { 0o644 } else { 0o600 };
            self.write(&format!("/etc/ssh/{file}"), fs_err::read(entry.path())?, mode)?;
        }
        // As unique as the host's key is (machine-id(5): 32 lower-case hexadecimal digits).
        let key = fs_err::read(keys.join("ssh_host_ed25519_key.pub"))?;
        let id = command::hex(Sha256::digest(key).as_slice(), 16);
        self.write("/etc/machine-id", format!("{id}\n"), 0o444)?;
        if host.port() != 22 {
            self.write("/etc/ssh/sshd_config.d/lab.conf", format!("Port {}\n", host.port()), 0o644)?;
        }
        self.user(spec.user_of(host), login)?;
        if let Some(ports) = spec.apps.get(name) {
            self.write("/usr/local/lib/lab/app.pl", APP, 0o755)?;
            self.write("/etc/systemd/system/demo-app@.service", APP_UNIT, 0o644)?;
            let wants = self.folder(Path::new("/etc/systemd/system/multi-user.target.wants"))?;
            for port in ports {
                let link = wants.join(format!("demo-app@{port}.service"));
                fs_err::os::unix::fs::symlink("/etc/systemd/system/demo-app@.service", link)?;
            }
        }
        for (path, text) in &host.files {
            self.write(path, text, 0o644)?;
        }
        Ok(())
    }

    /// Adds a user with sudo and no password, or lets root in.
    fn user(&self, user: &str, login: &str) -> Result<(), Error> {
        let passwd = self.image("etc/passwd")?;
        let known = passwd.lines().find(|l| l.split(':').next() == Some(user));
        let (home, uid, gid) = if let Some(line) = known {
            let field = |n| line.split(':').nth(n).unwrap_or_default();
            (field(5).to_owned(), field(2).parse().unwrap_or(0), field(3).parse().unwrap_or(0))
        } else {
            let home = format!("/home/{user}");
            let add = |file: &str, line: String, mode| {
                let mut text = self.image(file)?;
                let _ = writeln!(text, "{line}"); // writing to a string cannot fail
                self.write(&format!("/{file}"), text, mode)
            };
            add("etc/passwd", format!("{user}:x:{UID}:{UID}::{home}:/bin/bash"), 0o644)?;
            add("etc/group", format!("{user}:x:{UID}:"), 0o644)?;
            let shadow = add("etc/shadow", format!("{user}:*:19000:0:99999:7:::"), 0o640)?;
            // Debian's group of that file.
            chown(shadow, Some(0), Some(fs_err::metadata(self.tree.join("etc/shadow"))?.gid()))?;
            (home, UID, UID)
        };
        if uid != 0 {
            self.write(&format!("/etc/sudoers.d/{user}"), format!("{user} ALL=(ALL:ALL) NOPASSWD: ALL\n"), 0o440)?;
            set(&self.folder(Path::new(&home))?, 0o755, uid, gid)?;
        }
        let keys = self.write(&format!("{home}/.ssh/authorized_keys"), login, 0o600)?;
        set(&keys, 0o600, uid, gid)?;
        set(&self.folder(&Path::new(&home).join(".ssh"))?, 0o700, uid, gid)
    }
}

fn set(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), Error> {
    chown(path, Some(uid), Some(gid)).map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    Ok(fs_err::set_permissions(path, PermissionsExt::from_mode(mode))?)
}

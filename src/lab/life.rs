//! A lab's beginning and end: takes a spec, makes what is wanted of whatever is there; takes a name, leaves nothing.

use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::agent::Maker;
use super::image::{self, Image};
use super::place::hold;
use super::spec::{self, Spec, SpecHost};
use super::{
    BOOT, Error, Lab, Progress, Record, Snapshot, Target, agent, authority, cgroup, command, dir_of, disk, endpoint,
    net, outside, place, requirements, root, ssh,
    traces::{self, traces},
    twin,
};
use crate::base::fsx;
use crate::base::words::count;

/// Ends and removes the lab of that name, whatever state it is in. Gives whether there was anything.
///
/// # Errors
/// [`Error`] with what could not be removed; a second try is safe.
pub fn down(name: &str) -> Result<bool, Error> {
    spec::lab_name(name)?;
    let dir = dir_of(name);
    let was_there = !traces(name)?.is_empty();
    if was_there {
        requirements::check(&requirements::PACKAGES)?;
        place::private_root()?;
        let lock = lock(&dir)?;
        clean(name, &dir)?;
        remove(&dir)?;
        // What was done is one thing, what is there another.
        let left = traces(name)?;
        drop(lock);
        if !left.is_empty() {
            return Err(Error::Left { lab: name.to_owned(), left });
        }
    }
    // Only when no other lab is there.
    let _ = std::fs::remove_dir(root().join("labs"));
    if root().is_dir() {
        let _names = hold(&root())?;
        net::tidy();
    }
    Ok(was_there)
}

/// Makes the lab's folder and holds it until dropped; `up` and `down` of one lab exclude each other by it.
fn lock(dir: &Path) -> Result<fs_err::File, Error> {
    loop {
        fsx::private_dir(dir)?;
        let file = hold(dir)?;
        // Who held it before us may have removed the folder.
        if std::fs::metadata(dir).is_ok_and(|now| file.metadata().is_ok_and(|held| held.ino() == now.ino())) {
            return Ok(file);
        }
    }
}

/// Ends every process of the lab, then removes its networks and control groups; leaves the folder.
fn clean(name: &str, dir: &Path) -> Result<(), Error> {
    let me = std::process::id();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let inside: Vec<u32> = net::of_lab(name).iter().flat_map(|ns| net::pids(ns)).collect();
        if inside.contains(&me) {
            return Err(Error::Inside(name.to_owned()));
        }
        let all = command::processes();
        let mut pids: Vec<u32> = all.iter().filter(|p| twin::supervises(p, name, dir, None)).map(|p| p.pid).collect();
        // Supervisors first: they would start again what ends.
        command::kill(&pids);
        if let Some(group) = cgroup::of_lab(name) {
            cgroup::kill(&group);
        }
        for found in [inside, cgroup::members(name)] {
            command::kill(&found);
            pids.extend(found);
        }
        if pids.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let last = format!("the processes {pids:?} do not end");
            return Err(Error::Timeout { host: name.to_owned(), seconds: 20, last });
        }
        thread::sleep(Duration::from_millis(50));
    }
    let under_etc = net::etc_of_lab(name);
    let under_etc = under_etc.iter().filter_map(|etc| Some(etc.file_name()?.to_string_lossy().into_owned()));
    net::of_lab(name).into_iter().chain(under_etc).try_for_each(|namespace| net::remove(&namespace))?;
    cgroup::remove(name)
}

/// Removes the folder.
fn remove(dir: &Path) -> Result<(), Error> {
    disk::release(&dir.join("hosts"))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    // A mount that ended with its processes may take a moment to let go.
    let gone = command::wait_for(deadline, Duration::from_millis(50), || std::fs::remove_dir_all(dir).ok());
    if gone.is_none() && dir.exists() {
        fs_err::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Every systemd holds some of root's inotify instances (`inotify(7)`), of which a kernel allows 128 by default: with more than
/// some twenty hosts on a machine the next one hangs at boot without a word.
fn room_for_systemd(progress: Progress<'_>) {
    const FILE: &str = "/proc/sys/fs/inotify/max_user_instances";
    const WANTED: u32 = 1024;
    let allowed = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if allowed.is_some_and(|allowed| allowed < WANTED) {
        match std::fs::write(FILE, WANTED.to_string()) {
            Ok(()) => progress("raising fs.inotify.max_user_instances to 1024, until the next boot of this machine"),
            Err(e) => progress(&format!("fs.inotify.max_user_instances stays as it is, some 20 hosts at most: {e}")),
        }
    }
}

/// The repository of the agent's maker, where the inventory names one.
fn maker(spec: &Spec, progress: Progress<'_>) -> Result<Option<Maker>, Error> {
    if spec.endpoint.as_ref().is_none_or(|endpoint| endpoint.packages.is_none()) {
        return Ok(None);
    }
    let maker = agent::ensure(progress)?;
    if maker.is_none() {
        progress("this machine has no Go to build Telegraf with: the lab has none to install");
    }
    Ok(maker)
}

impl Lab {
    /// Boots a lab and waits until every host greets. When it is up already, starts what of it is off, and makes of it what
    /// `spec` wants: hosts that are the same stay, others are removed or made anew. What a crashed one of that name has left
    /// is removed first.
    ///
    /// # Errors
    /// What could not be done. Of a lab that was not up before, nothing is left then.
    pub fn up(spec: &Spec, progress: Progress<'_>) -> Result<Self, Error> {
        Self::make(spec, None, progress)
    }

    /// [`Lab::up`] with hosts that are made as those of `snapshot` were left; it must be whole, and of that spec.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_from(snapshot: &Snapshot, spec: &Spec, progress: Progress<'_>) -> Result<Self, Error> {
        Self::make(spec, Some(snapshot), progress)
    }

    fn make(spec: &Spec, from: Option<&Snapshot>, progress: Progress<'_>) -> Result<Self, Error> {
        spec.validate()?;
        requirements::check(&requirements::packages(spec))?;
        disk::check_path(&root())?;
        place::private_root()?;
        let outside = spec.choose_outside(None)?;
        let image = image::ensure(&root().join("images"), spec.release, progress)?;
        let maker = maker(spec, progress)?;
        let dir = dir_of(&spec.name);
        let _lock = lock(&dir)?;
        if let Ok(lab) = Self::read(&dir, &spec.name)
            && lab.is_alive()
        {
            return lab.converge(spec, image, maker, progress);
        }
        if fs_err::read_dir(&dir)?.next().is_some() || !traces::beside_folder(&spec.name)?.is_empty() {
            progress("removing what an earlier lab of that name has left");
            Self::empty(&spec.name, &dir)?;
        }
        let record = Record {
            spec: spec.clone(),
            outside,
            tree: image.tree,
            repository: image.repository,
            maker,
            complete: false,
        };
        let mut lab = Self { dir, record, found: false };
        if let Err(error) = lab.build(from, progress) {
            // The first error is the one to tell; what is left now the next `up` or `down` removes.
            let _ = clean(&spec.name, &lab.dir).and_then(|()| remove(&lab.dir));
            return Err(error);
        }
        lab.record.complete = true;
        lab.write_record()?;
        Ok(lab)
    }

    /// Empties the folder without letting go of it (it is the lock).
    fn empty(name: &str, dir: &Path) -> Result<(), Error> {
        clean(name, dir)?;
        for entry in fs_err::read_dir(dir)? {
            let path = entry?.path();
            disk::release(&path)?;
            if path.is_dir() { remove(&path)? } else { fs_err::remove_file(path)? }
        }
        Ok(())
    }

    fn build(&self, from: Option<&Snapshot>, progress: Progress<'_>) -> Result<(), Error> {
        let spec = &self.record.spec;
        self.write_record()?;
        fs_err::write(self.dir.join("supervise.sh"), twin::SUPERVISOR)?;
        match from {
            Some(snapshot) => snapshot.copy_login(&self.dir)?,
            None => ssh::key(&self.dir.join("key"), "ed25519", &format!("lab {}", spec.name))?,
        }
        disk::prepare(&self.dir.join("hosts"))?;
        room_for_systemd(progress);
        progress("making the network");
        {
            // No other lab's `down` may find the list of namespaces empty just now.
            let _names = hold(&root())?;
            net::create_bridge(&spec.name)?;
        }
        progress(&format!("booting {} of {}", count(spec.hosts.len(), "host"), spec.release));
        self.finish(from, progress)
    }

    /// Makes of the lab that is up what `spec` wants: a host that is the same stays as it is.
    fn converge(self, spec: &Spec, image: Image, maker: Option<Maker>, progress: Progress<'_>) -> Result<Self, Error> {
        let before = self.record.clone();
        let outside = spec.choose_outside(Some(&before.outside))?;
        let same = |host: &&SpecHost| {
            let (old, new) = (&before.spec, spec);
            new.host(&host.name).is_some_and(|now| now == *host && new.user_of(now) == old.user_of(host))
                && old.apps.get(&host.name) == new.apps.get(&host.name)
                && (old.release == new.release && before.tree == image.tree)
        };
        let gone: Vec<&SpecHost> = before.spec.hosts.iter().filter(|h| !same(h)).collect();
        for host in gone {
            progress(&format!("removing `{}`, which the new lab replaces or does not have", host.name));
            let twin = self.twin(host);
            twin.kill()?;
            remove(&twin.folder())?;
        }
        progress(&format!("the lab `{}` is up", spec.name));
        let (tree, repository) = (image.tree, image.repository);
        let moved = outside.services != before.outside.services;
        let record = Record { spec: spec.clone(), outside, tree, repository, maker, complete: true };
        let lab = Self { dir: self.dir.clone(), record, found: true };
        lab.write_record()?;
        lab.finish(None, progress)?;
        if moved {
            lab.each(|twin| {
                let text = net::resolv_conf(&lab.record.outside.services, |a| twin.host.speaks(a));
                let host = Target::Host(twin.host.name.clone());
                lab.output(&host, ["sh", "-c", "printf %s \"$1\" >/etc/resolv.conf", "sh", &text]).map(drop)
            })?;
        }
        Ok(lab)
    }

    /// Makes and starts what is not there yet, and waits for it.
    fn finish(&self, from: Option<&Snapshot>, progress: Progress<'_>) -> Result<(), Error> {
        let Record { spec, outside, repository, tree, .. } = &self.record;
        let login = fs_err::read_to_string(self.dir.join("key.pub"))?;
        self.each(|twin| {
            let dir = twin.folder();
            if !dir.exists() {
                // Under another name until it is whole.
                let new = self.dir.join("hosts").join(format!(".{}", twin.host.name));
                if new.exists() {
                    remove(&new)?;
                }
                let (upper, keys) = (new.join("disk/upper"), new.join("keys"));
                ["disk", "keys", "root"].iter().try_for_each(|part| fsx::private_dir(&new.join(part)))?;
                if let Some(snapshot) = from {
                    snapshot.copy_host(&twin.host.name, &new)?;
                } else {
                    // It is the host's `/`.
                    fs_err::create_dir(&upper)?;
                    fs_err::set_permissions(&upper, PermissionsExt::from_mode(0o755))?;
                    ssh::host_keys(&keys, &twin.host.name)?;
                    disk::Disk { tree, upper }.write_host(spec, twin.host, &outside.services, &keys, &login)?;
                }
                let addresses: Vec<IpAddr> = twin.host.all_addresses().collect();
                fs_err::write(new.join("net.sh"), net::script(&spec.name, &twin.host.name, &addresses, &[]))?;
                fs_err::rename(new, dir)?;
            }
            twin.start(tree)
        })?;
        let known = spec.hosts.iter().map(|h| ssh::known_hosts(&self.dir.join("hosts").join(&h.name).join("keys"), h));
        fs_err::write(self.dir.join("known_hosts"), known.collect::<Result<String, Error>>()?)?;
        fs_err::write(self.dir.join("ssh_config"), self.ssh_config())?;
        outside::create(spec, outside, &self.dir, repository)?;
        let mut roots = authority::start(spec, outside, &self.dir)?;
        roots.extend(endpoint::start(spec, outside, &self.dir, self.record.maker.as_ref())?);
        self.each(|twin| {
            twin.wait(BOOT)?;
            if !roots.is_empty() {
                let host = Target::Host(twin.host.name.clone());
                let words = ["sh", "-c", authority::TRUST, "sh"].into_iter().chain(roots.iter().map(|r| r.trim_end()));
                let output = self.output(&host, words)?;
                if !output.status.success() {
                    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(Error::Command { what: format!("make `{}` trust the lab", twin.host.name), reason });
                }
            }
            progress(&format!("`{}` is up", twin.host.name));
            Ok(())
        })
    }
}

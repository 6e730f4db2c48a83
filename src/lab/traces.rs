//! What is there of a lab on this machine, of any kind: takes its name, changes nothing.

use std::path::Path;

use super::{Error, cgroup, command, dir_of, net, place, spec, twin};

/// Everything of the lab of that name, each as a phrase with its place: nothing for one that was never up or is down.
///
/// # Errors
/// [`Error::Spec`] for what is no name of a lab; [`Error::NotRoot`], [`Error::Io`].
pub fn traces(name: &str) -> Result<Vec<String>, Error> {
    let dir = dir_of(name);
    let mut found = beside_folder(name)?;
    found.extend(place::is_there(&dir)?.then(|| format!("the folder {}", dir.display())));
    Ok(found)
}

/// The same but for its folder itself, which is the lock of who makes or removes it.
pub(super) fn beside_folder(name: &str) -> Result<Vec<String>, Error> {
    spec::lab_name(name)?;
    let dir = dir_of(name);
    let mut found: Vec<String> =
        net::of_lab(name).iter().map(|ns| format!("the network namespace {}", net::file(ns).display())).collect();
    found.extend(net::etc_of_lab(name).iter().map(|etc| format!("the folder {}", etc.display())));
    found.extend(cgroup::all(name).iter().map(|group| format!("the control group {}", group.display())));
    let mut pids = cgroup::members(name);
    pids.extend(command::processes().iter().filter(|p| twin::supervises(p, name, &dir, None)).map(|p| p.pid));
    found.extend((!pids.is_empty()).then(|| format!("the processes {pids:?}")));
    let mounts = fs_err::read_to_string("/proc/self/mountinfo")?;
    // `proc_pid_mountinfo`(5) writes a space as \\040. A namespace's own mount is told with its name.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| point.replace("\\040", " "));
    found.extend(points.filter(|point| Path::new(point).starts_with(&dir)).map(|point| format!("the mount {point}")));
    Ok(found)
}

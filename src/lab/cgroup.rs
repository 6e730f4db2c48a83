//! The control groups of a lab: takes its name, gives where its hosts begin, what is in them, and removes them from every
//! hierarchy. On a machine with version 1 (cgroups(7)) systemd-nspawn makes the same groups in `name=systemd` once more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Error, command};

/// The group under which those of all labs are.
const LABS: &str = "infra-lab";

/// Where hierarchies are mounted (`proc_pid_mountinfo`(5)): the unified one alone, or all.
fn hierarchies(mountinfo: &str, unified_only: bool) -> Vec<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let fields: Vec<&str> = before.split(' ').collect();
        let (root, point, options) = (*fields.get(3)?, *fields.get(4)?, *fields.get(5)?);
        let kind = after.split(' ').next()?;
        let usable = root == "/" && options.split(',').any(|o| o == "rw");
        let wanted = if unified_only { kind == "cgroup2" && usable } else { ["cgroup", "cgroup2"].contains(&kind) };
        wanted.then(|| PathBuf::from(point))
    });
    mounts.collect()
}

fn mounted(unified_only: bool) -> Vec<PathBuf> {
    hierarchies(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), unified_only)
}

/// The lab's group in the unified hierarchy, with one below for each host; where that is mounted and may be written.
pub(super) fn of_lab(lab: &str) -> Option<PathBuf> {
    Some(mounted(true).first()?.join(LABS).join(lab))
}

/// The lab's groups that are there now, in all hierarchies.
pub(super) fn all(lab: &str) -> Vec<PathBuf> {
    let mut groups: Vec<PathBuf> = mounted(false).iter().map(|point| point.join(LABS).join(lab)).collect();
    groups.retain(|group| group.is_dir());
    // One that is mounted twice is one.
    groups.sort();
    groups.dedup();
    groups
}

/// Every process in the lab's groups and below.
pub(super) fn members(lab: &str) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut open = all(lab);
    while let Some(group) = open.pop() {
        let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        // A process of another PID namespace is shown as 0.
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        // A group that ends meanwhile has nobody in it.
        let Ok(entries) = std::fs::read_dir(&group) else { continue };
        open.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Kills everything in a group and below (`cgroup.kill`, since Linux 5.14).
pub(super) fn kill(group: &Path) {
    let kill = group.join("cgroup.kill");
    if kill.exists() {
        // What is not killed this way is found by its namespace and its arguments.
        let _ = std::fs::write(kill, "1");
    }
}

/// Removes the lab's groups from all hierarchies, once nothing is in them.
pub(super) fn remove(lab: &str) -> Result<(), Error> {
    let what = "remove the lab's control groups";
    let find = |group: &Path| {
        let mut find = Command::new("find");
        find.arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
        command::run(what, &mut find)
    };
    // A group is busy for a moment after its last process.
    let deadline = Instant::now() + Duration::from_secs(10);
    command::wait_for(deadline, Duration::from_millis(100), || {
        all(lab).iter().all(|group| find(group).is_ok()).then_some(())
    });
    all(lab).iter().try_for_each(|group| find(group).map(drop))?;
    for point in mounted(false) {
        // Only when no other lab is there.
        let _ = std::fs::remove_dir(point.join(LABS));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_looked_for_in_every_hierarchy_and_made_in_the_unified_one() {
        let mounts = "31 30 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
                      33 31 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
                      34 31 0:31 /docker/1 /other rw,relatime - cgroup2 cgroup2 rw\n\
                      35 31 0:31 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let names = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/systemd", "/other", "/sys/fs/cgroup/unified"];
        assert_eq!(hierarchies(mounts, false), names.map(PathBuf::from));
        assert_eq!(hierarchies(mounts, true), [PathBuf::from("/sys/fs/cgroup/unified")]);
        assert!(hierarchies("", false).is_empty());
    }
}

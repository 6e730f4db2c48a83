//! What the controller remembers of its runs, in the state folder: takes outcomes and facts, gives them to the next run.
//! Losing it costs a second look at each host and the meaning of `--limit failed`, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::fsx;
use crate::base::net::HostName;
use crate::fleet::event::{HostOutcome, Outcome};
use crate::plan::state::{Facts, ObservedFleet};

/// How a host was when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    facts: Facts,
    controller: Option<IpAddr>,
}

fn seen_file(state: &Path) -> PathBuf {
    state.join("seen.json")
}

fn seen(state: &Path) -> BTreeMap<HostName, Seen> {
    let text = fs_err::read(seen_file(state)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The facts that the hosts had when they were last seen; empty where nothing reads.
pub fn facts(state: &Path) -> BTreeMap<HostName, Facts> {
    seen(state).into_iter().map(|(name, seen)| (name, seen.facts)).collect()
}

/// This controller's address as the hosts last saw it.
pub fn controller(state: &Path) -> BTreeMap<HostName, IpAddr> {
    seen(state).into_iter().filter_map(|(name, seen)| Some((name, seen.controller?))).collect()
}

/// Remembers the hosts that were asked, beside the others.
///
/// # Errors
/// Any error of the file system.
pub fn save(state: &Path, observed: &ObservedFleet) -> io::Result<()> {
    let before = seen(state);
    let mut all = before.clone();
    for (name, host) in observed {
        all.insert(name.clone(), Seen { facts: host.facts.clone(), controller: host.controller });
    }
    if all == before {
        return Ok(());
    }
    fsx::private_dir(state)?;
    fsx::write_atomic(&seen_file(state), &serde_json::to_vec_pretty(&all)?, 0o600)
}

/// Writes a run's outcome to `runs/RUN.json`.
///
/// # Errors
/// Any error of the file system.
pub fn save_outcome(state: &Path, outcome: &Outcome) -> io::Result<()> {
    let folder = state.join("runs");
    fsx::private_dir(&folder)?;
    fsx::write_atomic(&folder.join(format!("{}.json", outcome.run)), &serde_json::to_vec_pretty(outcome)?, 0o600)
}

/// The hosts that the last run left undone; `None` where there was no run.
pub fn last_undone(state: &Path) -> Option<BTreeSet<HostName>> {
    let runs = fs_err::read_dir(state.join("runs")).ok()?;
    let last =
        runs.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|x| x == "json")).max()?;
    let outcome: Outcome = serde_json::from_slice(&fs_err::read(last).ok()?).ok()?;
    let undone = outcome.hosts.into_iter().filter(|(_, o)| !matches!(o, HostOutcome::Changed | HostOutcome::Unchanged));
    Some(undone.map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_says_who_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_undone(dir.path()), None);
        let host = |name: &str| name.parse::<HostName>().unwrap();
        let mut outcome = Outcome { run: "20261123T184501".into(), ..Outcome::default() };
        outcome.hosts.insert(host("a"), HostOutcome::Changed);
        outcome.hosts.insert(host("b"), HostOutcome::Unreachable { reason: "x".into() });
        save_outcome(dir.path(), &outcome).unwrap();
        assert_eq!(last_undone(dir.path()), Some(BTreeSet::from([host("b")])));
        assert!(facts(dir.path()).is_empty());
    }
}

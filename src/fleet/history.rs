//! What the controller remembers of its runs, in the state folder: takes outcomes and facts, gives them to the next run.
//! Losing it costs a second look at each host and the meaning of `--limit failed`, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::fsx;
use crate::base::net::HostName;
use crate::base::visible;
use crate::fleet::event::{HostOutcome, Outcome};
use crate::fleet::identity;
use crate::fleet::journals::{BEGUN, Beginning, Record, plan_digest, plan_file};
use crate::inventory::site::{Host, Site};
use crate::plan::state::{Facts, ObservedFleet, Version};

/// The folder with a file for each host that was retired.
const RETIRED: &str = "retired";
/// Of the form of `seen.json`. The first form had no number, and a field for each product.
const VERSION: u64 = 2;

/// How a host was when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    facts: Facts,
    controller: Option<IpAddr>,
    /// As the inventory had them; none in what was kept before these were.
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

/// What every form but the first has.
#[derive(Deserialize)]
struct Numbered {
    version: u64,
}

/// The file as it is written now.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u64,
    hosts: BTreeMap<HostName, Seen>,
}

/// A host of the first form.
#[derive(Deserialize)]
struct First {
    facts: FirstFacts,
    controller: Option<IpAddr>,
}

#[derive(Deserialize)]
struct FirstFacts {
    distribution: String,
    release: String,
    /// Versions by product, and yes or no by feature.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl From<First> for Seen {
    fn from(First { facts: FirstFacts { distribution, release, others }, controller }: First) -> Self {
        let features =
            others.iter().filter(|(_, value)| **value == Value::Bool(true)).map(|(name, _)| name.clone()).collect();
        let version = |(name, value)| Some((name, serde_json::from_value::<Version>(value).ok()?));
        let versions = others.into_iter().filter_map(version).collect();
        Self {
            facts: Facts { versions, features, ..Facts::of_release(&distribution, &release) },
            controller,
            addresses: Vec::new(),
        }
    }
}

/// What is remembered of the hosts.
#[derive(Debug, Default)]
pub struct LastSeen {
    seen: BTreeMap<HostName, Seen>,
    /// Why what was kept is not in it, and what that means; one sentence for a person.
    pub lost: Option<String>,
}

impl LastSeen {
    /// What the state folder holds; nothing where there was no run yet.
    pub fn of(state: &Path) -> Self {
        let file = seen_file(state);
        let seen = match fsx::read_bounded(&file, fsx::STATE_BYTES) {
            Ok(text) => seen(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => Err(format!("cannot be read ({error})")),
        };
        seen.map_or_else(
            |why| {
                let file = file.display();
                let means = "the facts about the hosts are learned anew when the hosts are asked";
                Self { seen: BTreeMap::new(), lost: Some(format!("`{file}` {why}: {means}")) }
            },
            |seen| Self { seen, lost: None },
        )
    }

    /// The facts that the hosts had when they were last seen.
    pub fn facts(&self) -> BTreeMap<HostName, Facts> {
        self.seen.iter().map(|(name, seen)| (name.clone(), seen.facts.clone())).collect()
    }

    /// The hosts that were asked once and are not in the inventory any more, with the addresses that they had in it.
    pub fn gone(&self, site: &Site) -> BTreeMap<&HostName, &[IpAddr]> {
        let left = self.seen.iter().filter(|(host, _)| !site.hosts.contains_key(*host));
        left.map(|(host, seen)| (host, seen.addresses.as_slice())).collect()
    }

    /// This controller's address as the hosts last saw it.
    pub fn controller(&self) -> BTreeMap<HostName, IpAddr> {
        self.seen.iter().filter_map(|(name, seen)| Some((name.clone(), seen.controller?))).collect()
    }
}

fn seen_file(state: &Path) -> PathBuf {
    state.join("seen.json")
}

/// Reads what was kept, in whichever form we know; else half a sentence that says why not.
fn seen(text: &[u8]) -> Result<BTreeMap<HostName, Seen>, String> {
    let hosts = match serde_json::from_slice(text) {
        Ok(Numbered { version: VERSION }) => serde_json::from_slice(text).map(|kept: Kept| kept.hosts),
        Ok(_) => {
            return Err("was written by another version of infra, in a form that this version does not know".to_owned());
        }
        // A host may be named `version`, but is no number.
        Err(_) => serde_json::from_slice(text).map(|first: BTreeMap<HostName, First>| {
            first.into_iter().map(|(name, host)| (name, host.into())).collect()
        }),
    };
    hosts.map_err(|error| format!("does not read ({error})"))
}

/// Remembers the hosts that were asked, beside the others.
///
/// # Errors
/// Any error of the file system.
pub fn save(site: &Site, observed: &ObservedFleet) -> io::Result<()> {
    let before = LastSeen::of(&site.state).seen;
    let mut hosts = before.clone();
    for (name, host) in observed {
        let addresses = site
            .hosts
            .get(name)
            .map_or_else(Vec::new, |host| host.addresses.iter().chain(&host.public).copied().collect());
        hosts.insert(name.clone(), Seen { facts: host.facts.clone(), controller: host.controller, addresses });
    }
    if hosts == before {
        return Ok(());
    }
    fsx::private_dir(&site.state)?;
    fsx::write_atomic(&seen_file(&site.state), &serde_json::to_vec_pretty(&Kept { version: VERSION, hosts })?, 0o600)
}

/// Forgets the hosts that are not in the inventory any more.
///
/// # Errors
/// Any error of the file system.
pub fn forget(site: &Site) -> io::Result<()> {
    for file in fs_err::read_dir(site.state.join(RETIRED)).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = file.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse::<HostName>().ok());
        if name.is_some_and(|name| !site.hosts.contains_key(&name)) {
            fs_err::remove_file(file)?;
        }
    }
    let LastSeen { mut seen, lost } = LastSeen::of(&site.state);
    let known = seen.len();
    seen.retain(|host, _| site.hosts.contains_key(host));
    if lost.is_some() || seen.len() == known {
        return Ok(());
    }
    let kept = Kept { version: VERSION, hosts: seen };
    fsx::write_atomic(&seen_file(&site.state), &serde_json::to_vec_pretty(&kept)?, 0o600)
}

/// Remembers that a host was retired, with its addresses: another machine may have its name one day.
///
/// # Errors
/// Any error of the file system.
pub fn save_retired(state: &Path, host: &Host) -> io::Result<()> {
    let folder = state.join(RETIRED);
    fsx::private_dir(&folder)?;
    fsx::write_atomic(&folder.join(format!("{}.json", host.name)), &serde_json::to_vec(&host.addresses)?, 0o600)
}

/// The hosts of an inventory that were retired, each with the file that says so.
pub fn retired(site: &Site) -> BTreeMap<&HostName, PathBuf> {
    let file = |host: &HostName| site.state.join(RETIRED).join(format!("{host}.json"));
    let same = |host: &&Host| {
        let addresses = fsx::read_bounded(&file(&host.name), fsx::STATE_BYTES).ok();
        addresses
            .and_then(|text| serde_json::from_slice(&text).ok())
            .is_some_and(|old: Vec<IpAddr>| old == host.addresses)
    };
    site.hosts.values().filter(same).map(|host| (&host.name, file(&host.name))).collect()
}

/// A run that is at work. As long as this lives, no other controller with the same state folder takes it for one that was killed.
#[derive(Debug)]
pub struct AtWork(#[expect(dead_code, reason = "its lock lives as long as it does")] File);

/// Writes the plan of a run as it is shown, and which hosts it is about to change, so that a run that is killed is known to have left
/// them undone.
///
/// # Errors
/// Any error of the file system.
pub fn save_beginning(state: &Path, run: &str, plan: &str, hosts: &BTreeSet<&HostName>) -> io::Result<AtWork> {
    let folder = state.join("runs");
    fsx::private_dir(&folder)?;
    fsx::write_atomic(&plan_file(state, run), plan.as_bytes(), 0o600)?;
    let hosts = hosts.iter().map(|host| (*host).clone()).collect();
    let beginning = Beginning { hosts, who: Some(identity::who()), command: Some(identity::command()) };
    fsx::write_locked(&folder.join(format!("{run}.{BEGUN}")), &serde_json::to_vec(&beginning)?, 0o600).map(AtWork)
}

/// Writes a run's outcome to `runs/RUN.json`, with who ran it by which command.
///
/// # Errors
/// Any error of the file system.
pub fn save_outcome(state: &Path, outcome: &Outcome) -> io::Result<()> {
    let folder = state.join("runs");
    fsx::private_dir(&folder)?;
    // A person may look at it with `cat`.
    let (who, command) = (Some(identity::who()), Some(identity::command()));
    let plan = plan_digest(state, &outcome.run);
    let text = serde_json::to_string_pretty(&Record { outcome: outcome.clone(), who, command, plan })?;
    fsx::write_atomic(&folder.join(format!("{}.json", outcome.run)), visible::json(&text).as_bytes(), 0o600)?;
    match fs_err::remove_file(folder.join(format!("{}.{BEGUN}", outcome.run))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The hosts that the last run left undone; `None` where there was no run. A run that left all its hosts as they were, as one that
/// only orders, says nothing about what the run before it left; one that never came to its end has left all that it was to change. One
/// that is at work has left nothing yet.
///
/// # Errors
/// The file of a run by which it would have to be told, and which does not read.
pub fn last_undone(state: &Path) -> Result<Option<BTreeSet<HostName>>, PathBuf> {
    let Ok(runs) = fs_err::read_dir(state.join("runs")) else { return Ok(None) };
    let paths: BTreeSet<PathBuf> = runs.filter_map(|e| Some(e.ok()?.path())).collect();
    let is = |run: &Path, ending: &str| run.extension().is_some_and(|own| own == ending);
    let mut killed = paths.iter().filter(|run| is(run, BEGUN)).count();
    let (mut last, mut known, mut later, mut begun) = (None, false, BTreeSet::new(), BTreeSet::new());
    for run in paths.iter().rev() {
        if last.is_some() && killed == 0 {
            break;
        }
        // A run that ends meanwhile takes the file of its beginning away.
        let text = || fsx::read_bounded(run, fsx::STATE_BYTES).map_err(|_| run.clone());
        if is(run, BEGUN) && (fsx::is_locked(run) || !run.exists()) {
            killed -= 1;
        } else if is(run, BEGUN) {
            let hosts = Beginning::read(&text()?).ok_or_else(|| run.clone())?.hosts;
            // What a later run got through on is not undone any more.
            begun.extend(hosts.into_iter().filter(|host| !later.contains(host)));
            (known, killed) = (true, killed - 1);
        } else if is(run, "json") {
            let hosts = serde_json::from_slice::<Outcome>(&text()?).map_err(|_| run.clone())?.hosts;
            let got_through = |outcome: &HostOutcome| matches!(outcome, HostOutcome::Changed | HostOutcome::Unchanged);
            if last.is_none() && hosts.values().any(|outcome| *outcome != HostOutcome::Unchanged) {
                let undone = hosts.iter().filter(|(_, outcome)| !got_through(outcome)).map(|(host, _)| host.clone());
                last = Some(undone.collect::<BTreeSet<_>>());
            }
            later.extend(hosts.into_iter().filter(|(_, outcome)| got_through(outcome)).map(|(host, _)| host));
            known = true;
        }
    }
    begun.extend(last.unwrap_or_default());
    Ok(known.then_some(begun))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::journals::Course;
    use crate::inventory::load::load_text;
    use crate::plan::body::Digest;
    use crate::plan::state::Observed;

    #[test]
    fn the_last_run_says_who_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_undone(dir.path()), Ok(None));
        let host = |name: &str| name.parse::<HostName>().unwrap();
        let mut outcome = Outcome { run: "20261123T184501".into(), ..Outcome::default() };
        outcome.hosts.insert(host("a"), HostOutcome::Changed);
        outcome.hosts.insert(host("b"), HostOutcome::Unreachable { reason: "x".into() });
        save_outcome(dir.path(), &outcome).unwrap();
        assert_eq!(last_undone(dir.path()), Ok(Some(BTreeSet::from([host("b")]))));
        // A later run that touched no host, as one that ordered and was refused, leaves that as it is.
        for hosts in [BTreeMap::new(), BTreeMap::from([(host("b"), HostOutcome::Unchanged)])] {
            let later = Outcome { run: "20261124T184501".into(), hosts, ..Outcome::default() };
            save_outcome(dir.path(), &later).unwrap();
            assert_eq!(last_undone(dir.path()), Ok(Some(BTreeSet::from([host("b")]))));
        }
        // A run that is killed has left all that it was to change, beside what the run before it left.
        let c = host("c");
        // While it is at work it has left nothing.
        let at_work = save_beginning(dir.path(), "20261125T184501", "plan for shop\n", &BTreeSet::from([&c])).unwrap();
        assert_eq!(last_undone(dir.path()), Ok(Some(BTreeSet::from([host("b")]))));
        let remembered = || crate::fleet::journals::remembered(dir.path());
        let course = || remembered().runs["20261125T184501"].course;
        assert_eq!(course(), Some(Course::AtWork));
        drop(at_work);
        assert_eq!(course(), Some(Course::Killed));
        let killed = &remembered().runs["20261125T184501"];
        assert!(killed.who.is_some() && killed.command.is_some() && killed.seconds.is_none());
        assert_eq!(killed.plan, Some(Digest::of(b"plan for shop\n")));
        assert_eq!(killed.hosts[&c].verdict, "planned to change");
        // As versions of before wrote it.
        let begun = dir.path().join("runs/20261125T184501.begun");
        fs_err::write(&begun, "[\"c\"]").unwrap();
        assert_eq!(course(), Some(Course::Killed));
        fs_err::write(&begun, "{").unwrap();
        assert_eq!(remembered().unread, std::slice::from_ref(&begun));
        fs_err::write(&begun, "[\"c\"]").unwrap();
        assert_eq!(last_undone(dir.path()), Ok(Some(BTreeSet::from([host("b"), c.clone()]))));
        let hosts = BTreeMap::from([(c.clone(), HostOutcome::Changed)]);
        let outcome = Outcome { run: "20261125T184501".into(), hosts, ..Outcome::default() };
        save_outcome(dir.path(), &outcome).unwrap();
        let past = crate::fleet::journals::remembered(dir.path()).runs;
        let one = &past["20261125T184501"];
        assert_eq!(one.plan, Some(Digest::of(b"plan for shop\n")));
        assert_eq!(crate::fleet::journals::planned(dir.path(), &one.run), ["plan for shop"]);
        assert_eq!(past["20261124T184501"].plan, None);
        assert_eq!(last_undone(dir.path()), Ok(Some(BTreeSet::new())));
        // A later run that got through on some of the hosts of a killed one leaves the others as they are.
        let d = host("d");
        save_beginning(dir.path(), "20261126T100000", "", &BTreeSet::from([&c, &d])).unwrap();
        let hosts = BTreeMap::from([(d.clone(), HostOutcome::Changed)]);
        save_outcome(dir.path(), &Outcome { run: "20261126T110000".into(), hosts, ..Outcome::default() }).unwrap();
        assert_eq!(last_undone(dir.path()), Ok(Some(BTreeSet::from([c.clone()]))));
        let hosts = BTreeMap::from([(c.clone(), HostOutcome::Unchanged)]);
        save_outcome(dir.path(), &Outcome { run: "20261126T120000".into(), hosts, ..Outcome::default() }).unwrap();
        assert_eq!(last_undone(dir.path()), Ok(Some(BTreeSet::new())));
        let text = "name: shop\nhosts: { a: { address: 10.0.0.1, roles: [lb, web], allow_mixed_roles: a test } }\n\
                    firewall: { manage_from: [10.0.0.0/24] }\ncertificates: { issuer: internal }\n\
                    sites: { a.example.com: { static: { root: /srv/a, prefix: / } } }\n";
        let mut site = load_text(text, Path::new("inventory.yml")).unwrap().0;
        site.state = dir.path().to_owned();
        save_retired(dir.path(), &site.hosts[&host("a")]).unwrap();
        assert_eq!(retired(&site).into_keys().collect::<Vec<_>>(), [&host("a")]);
        // Another machine of that name is another host, and a host that is not there any more need not be remembered.
        let mut other = site.clone();
        other.hosts.get_mut(&host("a")).unwrap().addresses = vec![IpAddr::from([10, 0, 0, 2])];
        assert!(retired(&other).is_empty());
        forget(&other).unwrap();
        assert_eq!(retired(&site).len(), 1);
        other.hosts.clear();
        forget(&other).unwrap();
        assert!(retired(&site).is_empty());
        let nothing = LastSeen::of(dir.path());
        assert!(nothing.facts().is_empty() && nothing.lost.is_none());
    }

    /// As infra 0.1.0 kept it, of a host of each role.
    const FIRST: &str = include_str!("../../tests/fixtures/seen-first.json");

    #[test]
    fn what_the_first_form_kept_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(seen_file(dir.path()), FIRST).unwrap();
        let memory = LastSeen::of(dir.path());
        assert_eq!(memory.lost, None);
        let (facts, web) = (memory.facts(), "web1".parse().unwrap());
        let (facts, controller) = (&facts[&web], memory.controller()[&web]);
        assert_eq!((facts.distribution.as_str(), facts.release.as_str()), ("debian", "12"));
        let versions: Vec<String> = facts.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(versions, ["haproxy 2.6.12", "nft 1.0.6", "nginx 1.22.1", "openssl 3.0.22"]);
        assert_eq!(facts.features, BTreeSet::from(["guest_forwarding".to_owned()]));
        assert_eq!(controller, IpAddr::from([10, 0, 0, 1]));
        assert!(memory.facts()[&"lb1".parse().unwrap()].features.is_empty());
        // The next run keeps all hosts in the form of today.
        let facts = memory.facts().into_values().next().unwrap();
        let new: HostName = "version".parse().unwrap();
        let text = "name: shop\nhosts: { version: { address: 10.0.0.1, roles: [lb, web], allow_mixed_roles: a test } }\n\
                    firewall: { manage_from: [10.0.0.0/24] }\ncertificates: { issuer: internal }\n\
                    sites: { a.example.com: { static: { root: /srv/a, prefix: / } } }\n";
        let mut site = load_text(text, Path::new("inventory.yml")).unwrap().0;
        site.state = dir.path().to_owned();
        save(&site, &[(new.clone(), Observed::bare(facts))].into()).unwrap();
        // A host that is in the inventory is not gone; those that are not are known by name alone.
        let gone = LastSeen::of(dir.path());
        let gone = gone.gone(&site);
        assert!(!gone.contains_key(&new) && gone.len() == memory.facts().len());
        assert!(gone.values().all(|addresses| addresses.is_empty()));
        site.hosts.remove(&new);
        assert_eq!(LastSeen::of(dir.path()).gone(&site)[&new], [IpAddr::from([10, 0, 0, 1])]);
        let again = LastSeen::of(dir.path());
        assert_eq!(again.lost, None);
        assert_eq!(again.facts().len(), memory.facts().len() + 1);
        assert!(memory.facts().iter().all(|(name, facts)| again.facts().get(name) == Some(facts)));
        let kept: Value = serde_json::from_slice(&std::fs::read(seen_file(dir.path())).unwrap()).unwrap();
        assert_eq!(kept["version"], VERSION);
    }

    #[test]
    fn what_is_lost_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for (text, why) in [
            ("{\"version\": 3, \"hosts\": []}", "another version of infra"),
            ("{\"version\": 2}", "does not read (missing field `hosts`"),
            ("{\"a\": {\"facts\": {}}}", "does not read (missing field `distribution`"),
            ("[]", "does not read"),
            ("", "does not read"),
        ] {
            std::fs::write(seen_file(dir.path()), text).unwrap();
            let memory = LastSeen::of(dir.path());
            assert!(memory.facts().is_empty());
            assert!(memory.lost.as_ref().is_some_and(|lost| lost.contains(why)), "{text}: {:?}", memory.lost);
        }
    }
}

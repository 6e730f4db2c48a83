//! The way back from a run: takes what the hosts keep of their runs, chooses the run, and gives for each of its hosts what it is to
//! be, or every reason why that cannot be exact. The rest is a plan like any other.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diagnostic::Diagnostic;
use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::fleet::journals;
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::kept::{self, Barred, Before, Changed, Kept};
use crate::host::transport::TransportError;
use crate::inventory::site::Host;
use crate::plan::state::{Desired, ObservedFleet, Recorded};
use crate::plan::wanted::Wanted;
use crate::service::Services;
use crate::service::drained::Mark;

/// What the hosts keep.
#[derive(Default)]
pub struct Asked {
    /// Of those that answered.
    pub kept: BTreeMap<HostName, Kept>,
    /// Why the others did not.
    pub away: BTreeMap<HostName, TransportError>,
}

impl Asked {
    /// Those that say of themselves that they were retired, and by whom.
    pub fn retired(&self) -> BTreeMap<HostName, Mark> {
        self.kept.iter().filter_map(|(host, kept)| Some((host.clone(), kept.retired.clone()?))).collect()
    }
}

/// Asks `hosts` what they keep of their runs, and what was before `run` where that is given whole.
pub fn ask(run: Option<&str>, hosts: Vec<&Host>, connector: &dyn Connector, parallel: usize) -> Asked {
    let answers = run::each(hosts, parallel, |host| {
        let kept = connector.connect(host).and_then(|mut transport| kept::ask(transport.as_mut(), run));
        (host.name.clone(), kept)
    });
    let mut asked = Asked::default();
    for (host, answer) in answers {
        match answer {
            Ok(mut kept) => {
                // A name goes into paths and into the words of a person's next command.
                kept.runs.retain(|run| journals::is_run(&run.name));
                asked.kept.insert(host, kept);
            }
            Err(error) => drop(asked.away.insert(host, error)),
        }
    }
    asked
}

/// What one host is to be again.
#[derive(Debug, Clone)]
struct Target {
    wanted: Wanted,
    now: BTreeMap<String, Recorded>,
}

/// The hosts of a run, each with what it was before.
#[derive(Debug, Clone, Default)]
pub struct Back {
    targets: BTreeMap<HostName, Target>,
    /// The hosts that the run did not change: they stay as they are, and are seen to.
    standing: BTreeMap<HostName, Target>,
    /// What a person should know: what does not come back, each a sentence.
    pub notes: Vec<String>,
}

impl Back {
    /// The hosts that the run has changed.
    pub fn hosts(&self) -> BTreeSet<HostName> {
        self.targets.keys().cloned().collect()
    }

    /// The hosts that are as before the run anyway, as far as they know what was wanted of them.
    pub fn standing(&self) -> BTreeSet<HostName> {
        self.standing.keys().cloned().collect()
    }

    /// The hosts that are no longer what they were when they said what they keep: somebody has changed them meanwhile.
    pub fn moved(&self, observed: &ObservedFleet) -> BTreeSet<HostName> {
        let each = self.targets.iter().chain(&self.standing);
        let is_other =
            |(host, target): &(&HostName, &Target)| observed.get(*host).is_some_and(|seen| seen.manifest != target.now);
        each.filter(is_other).map(|(host, _)| host.clone()).collect()
    }

    /// What all of these are to be, with the materials of today.
    pub fn desired(&self, services: Services, materials: &Materials) -> Desired {
        let names: Vec<&'static str> = services.0.iter().map(|service| service.name()).collect();
        let each = self.targets.iter().chain(&self.standing).map(|(host, target)| {
            let restored = target.wanted.clone().restored(materials.share(host), &target.now, &names);
            (host.clone(), restored)
        });
        each.collect()
    }
}

/// The run that a person means: by its name or how that begins, else the last one that changed anything.
///
/// # Errors
/// Where there is none, or more than one.
pub fn choose(asked: &Asked, begins: Option<&str>) -> Result<String, Diagnostic> {
    let runs = asked.kept.values().flat_map(|kept| &kept.runs);
    let Some(begins) = begins else {
        let last = runs.filter(|run| run.changed == Changed::Whole).map(|run| &run.name).max();
        return last.cloned().ok_or_else(|| {
            Diagnostic::error("no run is known that changed these hosts")
                .help("`infra history` lists the runs that are known")
        });
    };
    let mut fit: BTreeSet<&String> = runs.map(|run| &run.name).filter(|name| name.starts_with(begins)).collect();
    // The parts of a run have its name, and more: `RUN-certificates`.
    if let Some(first) = fit.first().copied() {
        fit.retain(|name| *name == first || !name.starts_with(&format!("{first}-")));
    }
    match Vec::from_iter(fit)[..] {
        [one] => Ok(one.clone()),
        [] => Err(Diagnostic::error(format!("these hosts do not know a run `{begins}`"))
            .help("`infra history` lists the runs that are known; a host keeps its last ten")),
        ref several => {
            let names: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
            Err(Diagnostic::error(format!("`{begins}` begins the names of several runs: {}", names.join(", "))))
        }
    }
}

/// What each host was before `run`.
///
/// # Errors
/// Every reason why the run cannot be taken back, hosts with the same one once. A host that it did not change is none.
pub fn before(asked: &Asked, run: &str) -> Result<Back, Vec<Diagnostic>> {
    let mut back = Back::default();
    let mut barred: BTreeMap<Refusal, Vec<&HostName>> = BTreeMap::new();
    let mut notes: BTreeMap<String, Vec<&HostName>> = BTreeMap::new();
    for (host, kept) in &asked.kept {
        match target(kept, run) {
            Ok(None) => drop(standing(kept).map(|target| back.standing.insert(host.clone(), target))),
            Ok(Some((target, told))) => {
                for note in told {
                    notes.entry(note).or_default().push(host);
                }
                back.targets.insert(host.clone(), target);
            }
            Err(why) => barred.entry(why).or_default().push(host),
        }
    }
    let names = |hosts: &[&HostName]| hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(", ");
    if !barred.is_empty() {
        let error = |((why, help), hosts): (Refusal, Vec<&HostName>)| {
            Diagnostic::error(format!("run {run} cannot be taken back on {}: {why}", names(&hosts))).help(help)
        };
        return Err(barred.into_iter().map(error).collect());
    }
    back.notes = notes.into_iter().map(|(note, hosts)| format!("{}: {note}", names(&hosts))).collect();
    Ok(back)
}

/// What the last run wanted each host to be, of those that were asked with [`kept::NOW`], and of the others why nobody knows.
pub fn last(asked: &Asked) -> (Back, BTreeMap<HostName, &'static str>) {
    let (mut back, mut unknown) = (Back::default(), BTreeMap::new());
    for (host, kept) in &asked.kept {
        let Before { manifest, rules, now, wanted, .. } = kept.before.clone().unwrap_or_default();
        let Some(manifest) = manifest else {
            unknown.insert(host.clone(), "nothing was ever applied there");
            continue;
        };
        match wanted.into_iter().find(|wanted| wanted.holds(&manifest, rules.as_ref()).is_some()) {
            Some(wanted) => drop(back.targets.insert(host.clone(), Target { wanted: wanted.as_put(&now), now })),
            None => drop(unknown.insert(
                host.clone(),
                "the last run did not come to its end there, it was retired, or it is of an earlier version of infra",
            )),
        }
    }
    (back, unknown)
}

/// Why, and what to do.
type Refusal = (String, String);

/// What a host is that a run did not change, where it is what a run of its own has wanted. What was before a run that was staged
/// there and went no further is what is now.
fn standing(kept: &Kept) -> Option<Target> {
    let Before { manifest, rules, now, wanted, .. } = kept.before.clone()?;
    let manifest = manifest.filter(|manifest| *manifest == now)?;
    let wanted = wanted.into_iter().find(|wanted| wanted.holds(&manifest, rules.as_ref()).is_some())?;
    Some(Target { wanted, now })
}

/// What one host was before a run, and what a person should know; nothing where the run did not change it.
///
/// # Errors
/// Why it cannot be that again, and what to do.
fn target(kept: &Kept, run: &str) -> Result<Option<(Target, Vec<String>)>, Refusal> {
    let history = || "`infra history` lists the runs; `infra diff` shows what the inventory wants now".to_owned();
    match kept.may_take_back(run) {
        Ok(()) => {}
        Err(Barred::NotHere) => return Ok(None),
        Err(Barred::Part) => {
            let why = "it changed only what never goes back: certificates, passwords, the role of a database, or whether the host is drained";
            return Err((why.to_owned(), "`infra cert status` and `infra db status` say how these are now".to_owned()));
        }
        Err(Barred::Later(later)) => {
            let last = later.first().map_or("", String::as_str);
            let why = format!("later runs have changed it: {}", later.join(", "));
            return Err((why, format!("take the last one back first: `infra rollback {last}`")));
        }
        Err(Barred::Taken(by)) => {
            return Err((
                format!("run {by} has taken it back already"),
                format!("`infra rollback {by}` brings it again"),
            ));
        }
    }
    let before = kept.before.clone().filter(|_| kept.was_here);
    let Some(Before { manifest, rules, now, wanted, performed, packages }) = before else {
        let why = "the host did not keep what was before it: an earlier version of infra made that run";
        return Err((why.to_owned(), history()));
    };
    let manifest = manifest.unwrap_or_default();
    let fits = |wanted: Wanted| wanted.holds(&manifest, rules.as_ref()).map(|left| (wanted, left));
    let fitting = wanted.into_iter().find_map(fits);
    // A run that installs packages has an empty list of files from then on.
    if manifest.is_empty() && fitting.is_none() {
        let why = "it was the first run there, and infra does not know what the host was before";
        return Err((why.to_owned(), "remove what is not wanted from the inventory, then `infra apply`".to_owned()));
    }
    let Some((wanted, left)) = fitting else {
        let why = "the host was not as a whole run had left it then: an earlier version of infra made that run, it failed \
                   half-way, it was retired then, or it is older than the ten that are kept";
        return Err((why.to_owned(), history()));
    };
    let mut notes = Vec::new();
    if !left.is_empty() {
        notes.push(format!(
            "this was there too before that run, as a run of before could not close it, and does not come back: {}",
            left.join(", ")
        ));
    }
    if !performed.is_empty() {
        notes.push(format!("what that run did in data stays: {}", performed.join(", ")));
    }
    if packages {
        notes.push("the packages that run installed stay".to_owned());
    }
    Ok(Some((Target { wanted, now }, notes)))
}

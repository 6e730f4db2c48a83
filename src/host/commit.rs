//! A phase on one host as a script: takes its actions, gives the text that carries them out, what it reads on stdin, and how long
//! it may take. Pure: nothing is sent from here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::materials::Share;
use crate::base::net::HostName;
use crate::base::secret;
use crate::base::sh::quote;
use crate::base::visible;
use crate::host::drain;
use crate::plan::plan::Action;
use crate::plan::state::{Access, Drain, Follow, Phase, Probe, Recorded};
use crate::plan::task::Task;
use crate::plan::{made, manifest};

/// How long a phase may take to put everything back when its time is over.
const PUT_BACK: Duration = Duration::from_mins(5);
/// How long a phase may take without its probes, its tasks and its packages.
const FILES: Duration = Duration::from_mins(5);
/// How long packages may take, the wait for another who installs among it.
const PACKAGES: Duration = Duration::from_mins(35);

/// A phase as it is sent.
pub(super) struct Commit {
    /// The script's text.
    pub(super) text: String,
    /// What it reads.
    pub(super) stdin: Vec<u8>,
    /// How long it may take.
    pub(super) limit: Duration,
    /// How long it may take to put things back after that.
    pub(super) grace: Duration,
    /// The manifest of the host when it is done.
    pub(super) manifest: BTreeMap<String, Recorded>,
}

/// Words of a list in sh.
pub(super) fn list<'s>(words: impl IntoIterator<Item = &'s String>) -> String {
    quote(&words.into_iter().map(String::as_str).collect::<Vec<_>>().join(" "))
}

/// A line for `make_folders`.
pub(super) fn make_folder(path: &str, access: &Access) -> String {
    let owner = quote(&format!("{}:{}", access.owner, access.group));
    // With fewer digits than five, chmod(1) leaves a folder the bits of before that are not named, such as that of its group.
    format!("make {} {owner} {:05o} || return 1\n", quote(path), access.mode)
}

/// How long these probes may take to come true.
pub(super) fn patience(probes: &[Probe]) -> Duration {
    probes.iter().map(|p| p.within + Duration::from_secs(20)).sum()
}

/// The lines of the function `probes`.
pub(super) fn looks(probes: &[Probe]) -> String {
    let mut text = String::new();
    for probe in probes {
        let kind = if probe.advisory { "advisory" } else { "binding" };
        let (title, command) = (quote(&probe.title), quote(&probe.command));
        text.push_str(&format!("probe {kind} {} {title} {command} || return 1\n", probe.within.as_secs()));
    }
    text
}

/// The lines of the function `leave`: who of before still serves, as `former`; nobody is left where `left` is told and no `former`.
pub(super) fn leaves(drains: &[Drain]) -> String {
    if drains.is_empty() {
        return String::new();
    }
    drain::lines(drains) + "emit left ''\n"
}

/// How long that may take.
fn leaving(drains: &[Drain]) -> Duration {
    drains.iter().map(|_| drain::LIMIT).sum()
}

/// The functions of a phase.
pub(super) fn functions() -> String {
    [
        include_str!("../service/restore.sh"),
        include_str!("scripts/install.sh"),
        include_str!("scripts/perform.sh"),
        include_str!("scripts/commit.sh"),
    ]
    .join("\n")
}

/// The tasks of a phase with the numbers that they have in it.
fn tasks(actions: &[Action]) -> impl Iterator<Item = (usize, &Task)> {
    let tasks = actions.iter().filter_map(|action| match action {
        Action::Perform { task, .. } => Some(task),
        _ => None,
    });
    (1..).zip(tasks)
}

/// A title as one line of a record.
fn line(title: &str) -> String {
    visible::line(&visible::short(title, 200)).into_owned()
}

/// What stands on the host for each task before it is begun: names below `PHASE.tasks/`, and texts.
///
/// # Errors
/// The title of a task whose scripts hold a secret, or a NUL, and why that cannot be.
pub(super) fn records(actions: &[Action]) -> Result<Vec<(String, String)>, (String, String)> {
    let mut records = Vec::new();
    for (number, task) in tasks(actions) {
        let scripts = [Some(&task.script), task.undo.as_ref()];
        if scripts.iter().flatten().any(|script| !secret::names(script).is_empty()) {
            let why = "its script holds a secret, which may come on its standard input alone";
            return Err((task.title.clone(), why.to_owned()));
        }
        let limit = task.limit.as_secs().max(1);
        let makes = task.makes.iter().map(|(fact, value)| format!("{} {}\n", made::word(fact), made::word(value)));
        let mut add = |kind: &str, text: String| records.push((format!("{number}.{kind}"), text));
        add("do", task.script.clone());
        task.undo.iter().for_each(|undo| add("undo", undo.clone()));
        add("title", line(&task.title) + "\n");
        add("limit", format!("{limit}\n"));
        add("makes", makes.collect());
    }
    Ok(records)
}

/// The sh function by which units take their files while they run; `scripts` say how.
fn swap_by(scripts: &BTreeMap<String, String>, files: &BTreeMap<&String, Vec<String>>) -> String {
    let mut text = String::from("why='nothing says how'\ncase $1 in\n");
    for (unit, script) in scripts {
        let files = files.get(unit).map_or(&[][..], Vec::as_slice);
        text.push_str(&format!("{})\nswaps={}\n{script}\n;;\n", quote(unit), list(files)));
    }
    text + "*) false ;;\nesac\n"
}

/// A host from which the last of our files goes is nobody's from then on.
fn stays(gones: &[String], manifest: &BTreeMap<String, Recorded>) -> bool {
    gones.is_empty() || !manifest.is_empty()
}

/// The script of a phase. `before` is the manifest of the host, which is `owner`'s from then on, `swap_scripts` say how its units take files while they run, and
/// `share` is what it may know. When it is done, it asks who of before still serves, by `drains`.
///
/// # Errors
/// The title of a task whose input cannot be made, and why.
pub(super) fn commit(
    phase: Phase,
    actions: &[Action],
    (probes, drains): (&[Probe], &[Drain]),
    (owner, before): (Option<&HostName>, &BTreeMap<String, Recorded>),
    swap_scripts: &BTreeMap<String, String>,
    share: Share<'_>,
) -> Result<Commit, (String, String)> {
    let (mut files, mut gones, mut follows, mut folders) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut swaps: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    let (mut packages, mut marks) = (Vec::new(), Vec::new());
    let (mut tells, mut holds) = (BTreeSet::new(), BTreeSet::new());
    let (mut makes, mut sets, mut undo) = (String::new(), String::new(), "");
    let (mut limit, mut grace) = (FILES + patience(probes) + leaving(drains), PUT_BACK);
    let mut manifest = before.clone();
    for action in actions {
        match action {
            Action::Install { packages: names } => packages.extend(names.iter().cloned()),
            Action::Write { path, file, .. } => {
                files.push(path.clone());
                for (unit, _) in file.then.iter().filter(|(_, follow)| **follow == Follow::Swap) {
                    swaps.entry(unit).or_default().push(path.clone());
                }
                manifest.insert(path.clone(), Recorded::of(file));
            }
            Action::Adopt { path, recorded } => {
                manifest.insert(path.clone(), recorded.clone());
            }
            Action::Remove { path, .. } => {
                gones.push(path.clone());
                manifest.remove(path);
            }
            Action::MakeFolder { path, access, .. } => {
                folders.push(path.clone());
                makes.push_str(&make_folder(path, access));
            }
            Action::Follow { unit, follow, .. } => follows.push(format!("{unit}={follow}")),
            Action::Set { unit, path, script, .. } => {
                tells.insert(unit.clone());
                sets.push_str(&format!("tell {} {} {} || return 1\n", quote(unit), quote(path), quote(script)));
            }
            Action::Hold { unit } => {
                holds.insert(unit.clone());
            }
            // What cannot be taken back stays true where the rest is. Rules have a way of their own, behind all this.
            Action::Perform { task: Task { undo: None, .. }, .. } | Action::Firewall { .. } => {}
            Action::Perform { task, .. } => {
                marks.extend(task.makes.keys().map(|fact| format!("/var/lib/infra/made/{}", made::word(fact))));
            }
            Action::Undo { of } => {
                undo = "1";
                limit += of.limit;
                grace += of.limit;
            }
        }
    }
    let mut stdin = Vec::new();
    let (mut receive, mut performs) = (String::new(), String::new());
    let mut take = |name: &str, bytes: &[u8]| {
        receive.push_str(&if bytes.is_empty() {
            format!("{name}=''\n")
        } else {
            format!("take {name} {}\n", bytes.len())
        });
        stdin.extend_from_slice(bytes);
    };
    take("manifest", manifest::to_text(owner.filter(|_| stays(&gones, &manifest)), &manifest).as_bytes());
    for (number, task) in tasks(actions) {
        let input = share.materialize(&task.input.text).map_err(|e| (task.title.clone(), e.to_string()))?;
        if input.contains('\0') {
            return Err((task.title.clone(), "what it gets on its standard input holds a NUL".to_owned()));
        }
        take(&format!("input_{number}"), input.as_bytes());
        performs.push_str(&format!("perform {number} || return 1\n"));
        limit += task.limit;
        grace += task.limit;
    }
    if !packages.is_empty() || phase == Phase::Packages {
        limit += PACKAGES;
    }
    let assigned = [
        ("files", list(&files)),
        ("gones", list(&gones)),
        ("folders", list(&folders)),
        ("packages", list(&packages)),
        ("follows", list(&follows)),
        ("tells", list(&tells)),
        ("holds", list(&holds)),
        ("marks", list(&marks)),
        ("undo", quote(undo)),
    ];
    let mut text = format!("PHASE={phase}\n");
    for (name, words) in assigned {
        text.push_str(&format!("{name}={words}\n"));
    }
    text.push_str(&functions());
    let defined = [
        ("receive", receive),
        ("make_folders", makes),
        ("sets", sets),
        ("performs", performs),
        ("probes", looks(probes)),
        ("leave", leaves(drains)),
    ];
    for (name, lines) in defined {
        text.push_str(&format!("\n{name}() {{\n{lines}:\n}}"));
    }
    text.push_str(&format!("\nswap_by() {{\n{}}}\ncommit\n", swap_by(swap_scripts, &swaps)));
    Ok(Commit { text, stdin, limit, grace, manifest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::materials::Materials;
    use crate::plan::task::CutOff;

    #[test]
    fn what_an_earlier_run_began_is_taken_back_in_the_time_of_its_tasks() {
        let limits = |actions: &[Action]| {
            let (materials, none) = (Materials::default(), BTreeMap::new());
            let host = "h1".parse().unwrap();
            let share = materials.share(&host);
            let commit = commit(Phase::Widen, actions, (&[], &[]), (None, &BTreeMap::new()), &none, share).unwrap();
            (commit.limit, commit.grace)
        };
        let hour = Duration::from_hours(1);
        let undo = Action::Undo { of: CutOff { run: "r".into(), phase: "web".into(), limit: hour } };
        let (limit, grace) = limits(&[]);
        assert_eq!(limits(&[undo]), (limit + hour, grace + hour));
    }
}

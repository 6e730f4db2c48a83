//! The laws of the plan, held against made-up hosts: twice is nothing, a cut-off run is finished by the next, only what we
//! put on a host is ever removed, nothing closes before `Narrow`, and what does not close then closes in the next run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::base::net::HostName;
use crate::base::proto::Proto;
use crate::inventory::site::Backend;
use crate::plan::decision::Decided;
use crate::plan::plan::{Action, Because, HostPlan, alone, host, plan};
use crate::plan::ruleset::{Direction, PASSAGE, Rule, Ruleset};
use crate::plan::state::{
    Access, Body, DesiredHost, Digest, Facts, File, Folder, Follow, Observed, ObservedFile, ObservedFirewall,
    ObservedFleet, ObservedUnit, Phase, Recorded, UnitWanted,
};
use crate::plan::task::{CutOff, Task};

mod moves;

fn facts() -> Facts {
    Facts::of_release("debian", "12")
}

pub(super) fn bare() -> Observed {
    Observed::bare(facts())
}

/// What the host is once the plan has been carried out: the executor's contract, as a value.
fn after(plan: &HostPlan, mut host: Observed) -> Observed {
    for action in plan.phases.values().flatten() {
        match action.clone() {
            Action::Install { packages } => host.packages.extend(packages.into_iter().map(|p| (p, "1".into()))),
            Action::MakeFolder { path, access, .. } => {
                host.folders.insert(path, access);
            }
            Action::Write { path, file, .. } => {
                let recorded = Recorded::of(&file);
                let body = file.body;
                let digest = Some(body.digest.clone());
                host.files.insert(path.clone(), ObservedFile { digest, other: None, access: file.access, text: None });
                host.manifest.insert(path, recorded);
            }
            Action::Adopt { path, recorded } => {
                host.manifest.insert(path, recorded);
            }
            Action::Remove { path, .. } => {
                host.files.remove(&path);
                host.manifest.remove(&path);
            }
            Action::Firewall { to, .. } => {
                host.firewall =
                    ObservedFirewall { loaded: Some(*to), intact: true, boot_current: true, ..host.firewall };
            }
            Action::Set { unit, .. } => {
                host.untold.remove(&unit);
            }
            Action::Hold { unit } => {
                host.held.insert(unit);
            }
            Action::Perform { task, .. } => host.made.extend(task.makes),
            Action::Undo { .. } => host.cut_off = None,
            Action::Follow { unit, follow, .. } => {
                host.owed.remove(&unit);
                let ran = host.units.get(&unit).is_some_and(|state| state.active == "active");
                if follow >= Follow::Restart || !ran {
                    host.held.remove(&unit);
                    host.untold.remove(&unit);
                }
                let up = follow != Follow::Stop;
                let running = ObservedUnit {
                    active: if up { "active" } else { "inactive" }.into(),
                    enabled: if up { "enabled" } else { "disabled" }.into(),
                    load: "loaded".into(),
                };
                host.units.insert(unit, running);
            }
        }
    }
    host
}

fn body(n: u8) -> Body {
    let text = format!("{n}\n");
    Body { digest: Digest::of(text.as_bytes()), text: text.into(), origin: None }
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(vec![Phase::Packages, Phase::App, Phase::Web, Phase::Edge])
}

fn path() -> impl Strategy<Value = String> {
    "/etc/[a-d]"
}

fn unit() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a.service".to_owned(), "b.service".to_owned()])
}

fn follow() -> impl Strategy<Value = Follow> {
    prop::sample::select(vec![Follow::Swap, Follow::Set, Follow::Reload, Follow::Restart, Follow::Confirm])
}

prop_compose! {
    fn file()(phase in phase(), content in 0u8..4, mode in prop::sample::select(vec![0o600, 0o644]),
              then in prop::collection::btree_map(unit(), follow(), 0..2)) -> File {
        File { service: "t", phase, access: Access::root(mode), body: body(content), then, about: None }
    }
}

prop_compose! {
    fn rule()(port in 1u64..5, direction in prop::sample::select(vec![Direction::In, Direction::Out])) -> Rule {
        Rule { direction, proto: Proto::Tcp, port: Some(port.try_into().unwrap()), beyond: BTreeSet::new().into(), peers: BTreeSet::new().into(), uids: BTreeSet::new(), flow: "f".into() }
    }
}

prop_compose! {
    fn passage()(rule in rule()) -> Rule {
        Rule { flow: format!("a -> b{PASSAGE}b is seeded"), ..rule }
    }
}

prop_compose! {
    fn ruleset()(rules in prop::collection::btree_set(rule(), 0..5), iptables in any::<bool>(), guest_forwarding in any::<bool>()) -> Ruleset {
        let backend = if iptables { Backend::Iptables } else { Backend::Nftables };
        Ruleset { backend, rules, block: BTreeSet::new(), guest_forwarding }
    }
}

prop_compose! {
    fn task()(phase in phase(), fact in "[f-h]", value in "[1-3]", undo in any::<bool>()) -> Task {
        let undo = undo.then(|| "true".to_owned());
        Task {
            service: "t", phase, title: "a task".into(), script: "true".into(), input: body(0), limit: Duration::from_secs(1),
            undo, makes: BTreeMap::from([(fact, value)]),
        }
    }
}

prop_compose! {
    fn desired()(files in prop::collection::btree_map(path(), file(), 0..4), units in prop::collection::btree_map(unit(), phase(), 0..2),
                 packages in prop::collection::btree_set("[pq]", 0..2), folder in any::<bool>(), firewall in prop::option::of(ruleset()),
                 setters in prop::collection::btree_map(unit(), "true", 0..2), confirmed in prop::collection::btree_set(unit(), 0..2),
                 task in prop::option::of(task())) -> DesiredHost {
        let folder = folder.then(|| ("/srv/x".to_owned(), Folder { phase: Phase::Web, access: Access::root(0o755) }));
        DesiredHost {
            packages, files, firewall, setters, confirmed,
            tasks: task.map(|task| ("t/task".to_owned(), task)).into_iter().collect(),
            units: units.into_iter().map(|(name, phase)| (name, UnitWanted { phase })).collect(),
            folders: folder.into_iter().collect(),
            ..DesiredHost::default()
        }
    }
}

prop_compose! {
    fn observed()(was in desired(), drifted in prop::collection::btree_map(path(), 0u8..4, 0..2), gone in prop::collection::btree_set(path(), 0..2),
                  owed in prop::collection::btree_map(unit(), follow(), 0..2), held in prop::collection::btree_set(unit(), 0..2),
                  untold in prop::collection::btree_set(unit(), 0..2), down in prop::collection::btree_set(unit(), 0..2), cut_off in any::<bool>(),
                  intact in any::<bool>(), boot_current in any::<bool>()) -> Observed {
        let mut host = after(&host(&was, &bare()), bare());
        for (path, n) in drifted {
            host.files.insert(path, ObservedFile { digest: Some(body(n).digest), other: None, access: Access::root(0o644), text: None });
        }
        for path in gone {
            host.files.remove(&path);
        }
        for unit in down {
            host.units.remove(&unit);
        }
        host.owed = owed;
        host.held = held;
        host.untold = untold;
        host.cut_off = cut_off.then(|| CutOff { run: "r".into(), phase: "web".into(), limit: Duration::ZERO });
        host.firewall.intact &= intact;
        host.firewall.boot_current &= boot_current;
        host
    }
}

/// What a unit does from a phase on.
fn follows<'p>(plan: &'p HostPlan, from: Phase, unit: &'p str) -> impl Iterator<Item = Follow> + 'p {
    plan.phases.range(from..).flat_map(|(_, actions)| actions).filter_map(move |action| match action {
        Action::Follow { unit: u, follow, .. } if u == unit => Some(*follow),
        _ => None,
    })
}

/// What was kept in mind before a restart of this run does not stand for what a later phase changes.
#[test]
fn a_restart_that_waits_is_not_lost_behind_another() {
    let unit = || "a.service".to_owned();
    let file = |phase: Phase, follow: Follow| {
        let then = BTreeMap::from([(unit(), follow)]);
        File { service: "t", phase, access: Access::root(0o644), body: body(1), then, about: None }
    };
    let confirm = file(Phase::Edge, Follow::Confirm);
    let removed = BTreeMap::from([("/etc/b".to_owned(), Recorded::of(&confirm))]);
    let written = BTreeMap::from([("/etc/b".to_owned(), confirm)]);
    let (nothing, none) = (BTreeMap::new(), BTreeMap::new());
    // What restarts in `Web`, what changes after it, and whether the restart for that has to be kept in mind anew.
    for (restarts, files, manifest, phase, anew) in [
        (true, &written, &nothing, Phase::Edge, true),
        (true, &none, &removed, Phase::Narrow, true),
        (false, &written, &nothing, Phase::Edge, false),
        (false, &none, &removed, Phase::Narrow, false),
    ] {
        let mut wanted = DesiredHost { files: files.clone(), ..DesiredHost::default() };
        wanted.units.insert(unit(), UnitWanted { phase: Phase::Web });
        let mut seen = Observed { manifest: manifest.clone(), held: BTreeSet::from([unit()]), ..bare() };
        seen.units.insert(unit(), ObservedUnit { active: "active".into(), ..ObservedUnit::default() });
        if restarts {
            wanted.files.insert("/etc/a".into(), file(Phase::Web, Follow::Restart));
        }
        let plan = host(&wanted, &seen);
        let held = plan.phases[&phase].contains(&Action::Hold { unit: unit() });
        assert_eq!(held, anew, "{plan:?}");
        assert!(after(&plan, seen).held.contains("a.service"), "{plan:?}");
    }
}

/// What was changed by hand and is wanted by now (`accept`) is read by those whom nobody may have told of it.
#[test]
fn what_somebody_else_has_made_right_is_read_by_its_units() {
    let unit = || "a.service".to_owned();
    let file = |content: u8, follow: Follow| File {
        service: "t",
        phase: Phase::Web,
        access: Access::root(0o644),
        body: body(content),
        then: BTreeMap::from([(unit(), follow)]),
        about: None,
    };
    for (recorded, follow, asked) in [
        (Some(2), Follow::Reload, Some(Follow::Reload)),
        (Some(2), Follow::Restart, Some(Follow::Restart)),
        (Some(2), Follow::Swap, Some(Follow::Reload)),
        (Some(1), Follow::Reload, None),
        (None, Follow::Reload, None),
    ] {
        let path = || "/etc/a".to_owned();
        let mut wanted = DesiredHost { files: BTreeMap::from([(path(), file(1, follow))]), ..DesiredHost::default() };
        wanted.units.insert(unit(), UnitWanted { phase: Phase::Web });
        let manifest = recorded.map(|content| (path(), Recorded::of(&file(content, follow)))).into_iter().collect();
        let mut seen = Observed { manifest, ..bare() };
        let there = ObservedFile { digest: Some(body(1).digest), other: None, access: Access::root(0o644), text: None };
        seen.files.insert(path(), there);
        let active = ObservedUnit { active: "active".into(), ..ObservedUnit::default() };
        seen.units.insert(unit(), active);
        let plan = host(&wanted, &seen);
        assert_eq!(follows(&plan, Phase::Packages, "a.service").next(), asked, "{recorded:?} {follow:?}: {plan:?}");
        assert!(host(&wanted, &after(&plan, seen)).is_empty(), "{plan:?}");
    }
}

const LEADS: &str = "/srv/leads";
const LEADER: &str = "leader.service";

/// A decision over the fleet that depends on what is seen of all: one host leads, the one that has the folder for that already,
/// else the first; its unit is started there where it runs nowhere.
fn leader(observed: &ObservedFleet) -> Decided {
    let mut decided = Decided::default();
    let leads = |seen: &Observed| seen.folders.contains_key(LEADS);
    let runs = |seen: &Observed| seen.units.get(LEADER).is_some_and(|unit| unit.active == "active");
    let Some((host, seen)) = observed.iter().find(|(_, seen)| leads(seen)).or_else(|| observed.iter().next()) else {
        return decided;
    };
    if !leads(seen) {
        let access = Access::root(0o700);
        decided.act(host, Phase::Primary, Action::MakeFolder { path: LEADS.into(), access, exists: false });
    }
    if !observed.values().any(runs) {
        let (follow, because) = (Follow::Restart, Because::Down);
        decided.act(host, Phase::Monitor, Action::Follow { unit: LEADER.into(), follow, because });
    }
    decided
}

fn fleet() -> impl Strategy<Value = BTreeMap<HostName, (DesiredHost, Observed)>> {
    let name = prop::sample::select(vec!["a", "b", "c"]).prop_map(|name| name.parse().unwrap());
    let leading = (observed(), any::<bool>(), any::<bool>()).prop_map(|(mut seen, leads, runs)| {
        if leads {
            seen.folders.insert(LEADS.into(), Access::root(0o700));
        }
        if runs {
            seen.units.insert(LEADER.into(), ObservedUnit { active: "active".into(), ..ObservedUnit::default() });
        }
        seen
    });
    prop::collection::btree_map(name, (desired(), leading), 0..3)
}

proptest! {
    #[test]
    fn twice_is_nothing_with_a_decision_over_the_fleet(fleet in fleet()) {
        let desired = fleet.iter().map(|(name, (desired, _))| (name.clone(), desired.clone())).collect();
        let mut seen: ObservedFleet = fleet.into_iter().map(|(name, (_, seen))| (name, seen)).collect();
        let first = leader(&seen).onto(plan(&desired, &seen));
        for (name, actions) in &first.hosts {
            let alone = host(&desired[name], &seen[name]);
            let undoes = actions.phases.values().flatten().next().is_some_and(|a| matches!(a, Action::Undo { .. }));
            prop_assert_eq!(undoes, seen[name].cut_off.is_some());
            for (phase, actions) in &actions.phases {
                // What is decided comes after what the host asks for itself.
                let own = alone.phases.get(phase).map_or(&[][..], Vec::as_slice);
                prop_assert_eq!(&actions[..own.len()], own);
            }
        }
        for (name, actions) in &first.hosts {
            let now = after(actions, seen[name].clone());
            seen.insert(name.clone(), now);
        }
        let second = leader(&seen).onto(plan(&desired, &seen));
        prop_assert!(second.is_empty(), "{:?}", second);
    }

    #[test]
    fn a_decision_changes_no_host_that_is_not_selected(fleet in fleet()) {
        let desired = fleet.iter().map(|(name, (desired, _))| (name.clone(), desired.clone())).collect();
        let seen: ObservedFleet = fleet.into_iter().map(|(name, (_, seen))| (name, seen)).collect();
        let mut decided = leader(&seen);
        let about: BTreeSet<HostName> = decided.hosts.keys().cloned().collect();
        let selected: BTreeSet<HostName> = seen.keys().skip(1).cloned().collect();
        let left_out = decided.keep(&selected);
        prop_assert_eq!(left_out, about.difference(&selected).cloned().collect());
        let those = seen.into_iter().filter(|(name, _)| selected.contains(name)).collect();
        let plan = decided.onto(plan(&desired, &those));
        prop_assert!(plan.hosts.keys().all(|name| selected.contains(name)));
    }

    #[test]
    fn twice_is_nothing(desired in desired(), observed in observed()) {
        let first = host(&desired, &observed);
        let second = host(&desired, &after(&first, observed));
        prop_assert!(second.is_empty(), "{:?}", second);
    }

    #[test]
    fn a_passage_is_open_while_its_run_lasts_and_closed_by_the_next_where_that_died(
        mut desired in desired(), observed in observed(), ways in prop::collection::btree_set(passage(), 1..3), cut in 0usize..8,
        for_itself in any::<bool>(),
    ) {
        // A verb leaves a host's rules as they are but for its own.
        if !for_itself {
            desired.firewall = observed.firewall.loaded.as_ref().map(Ruleset::lasting);
        }
        let planned = |desired: &DesiredHost, observed: &Observed| {
            if for_itself { host(desired, observed) } else { alone(desired, observed, true) }
        };
        let has_passage = |rules: &Ruleset| rules.rules.iter().any(Rule::is_passage);
        desired.passages.clone_from(&ways);
        let run = planned(&desired, &observed);
        let loads = |phase: Phase| {
            let actions = run.phases.get(&phase).into_iter().flatten();
            actions.filter_map(|action| if let Action::Firewall { to, .. } = action { Some(&**to) } else { None }).collect::<Vec<_>>()
        };
        prop_assert_eq!(loads(Phase::Widen).iter().all(|to| ways.is_subset(&to.rules)), true);
        prop_assert_eq!(loads(Phase::Widen).len(), usize::from(desired.firewall.is_some()));
        prop_assert!(loads(Phase::Narrow).iter().all(|to| !has_passage(to)));
        let over = after(&run, observed.clone());
        prop_assert!(!over.firewall.loaded.as_ref().filter(|_| desired.firewall.is_some()).is_some_and(has_passage));
        // The next run has no passage of its own, whatever the one before came to.
        desired.passages.clear();
        prop_assert!(planned(&desired, &over).is_empty());
        let mut died = run;
        died.phases = died.phases.into_iter().take(cut).collect();
        let halfway = after(&died, observed);
        let next = planned(&desired, &halfway);
        for action in next.phases.values().flatten() {
            if let Action::Firewall { to, .. } = action {
                prop_assert!(!has_passage(to));
            }
        }
        let over = after(&next, halfway);
        prop_assert!(!over.firewall.loaded.as_ref().filter(|_| desired.firewall.is_some()).is_some_and(has_passage));
        prop_assert!(planned(&desired, &over).is_empty());
    }

    #[test]
    fn cut_off_after_any_phase_the_next_run_finishes(desired in desired(), observed in observed(), cut in 0usize..6) {
        let mut first = host(&desired, &observed);
        first.phases = first.phases.into_iter().take(cut).collect();
        let halfway = after(&first, observed);
        let second = host(&desired, &halfway);
        prop_assert!(host(&desired, &after(&second, halfway)).is_empty());
    }

    #[test]
    fn only_what_we_put_there_is_removed(desired in desired(), observed in observed()) {
        for action in host(&desired, &observed).phases.values().flatten() {
            if let Action::Remove { path, .. } = action {
                prop_assert!(observed.manifest.contains_key(path) && !desired.files.contains_key(path));
            }
        }
    }

    #[test]
    fn each_changed_file_has_its_unit_follow_once(desired in desired(), observed in observed()) {
        let plan = host(&desired, &observed);
        let runs = |unit: &str| observed.units.get(unit).is_some_and(|state| state.active == "active");
        let mut now = observed.clone();
        for (phase, actions) in &plan.phases {
            now = after(&HostPlan { phases: BTreeMap::from([(*phase, actions.clone())]), ..HostPlan::default() }, now);
            let units: Vec<&String> = actions.iter().filter_map(|a| match a { Action::Follow { unit, .. } => Some(unit), _ => None }).collect();
            let once: BTreeSet<&String> = units.iter().copied().collect();
            prop_assert_eq!(units.len(), once.len());
            for action in actions {
                let (path, then) = match action {
                    Action::Write { path, file, .. } => (path, &file.then),
                    Action::Remove { path, .. } => (path, &observed.manifest[path].then),
                    // Somebody else has put there what is wanted, and may have told nobody.
                    Action::Adopt { path, recorded }
                        if observed.manifest.get(path).is_some_and(|known| known.digest != recorded.digest) =>
                    {
                        (path, &recorded.then)
                    }
                    _ => continue,
                };
                for (unit, follow) in then {
                    let restarts = follows(&plan, *phase, unit).next().is_some_and(|follow| follow >= Follow::Restart);
                    let told = actions.iter().any(|a| matches!(a, Action::Set { unit: u, path: p, .. } if u == unit && p == path));
                    // One that did not run reads all its files when it starts.
                    let starts = once.contains(unit) && !runs(unit);
                    let seen_to = match follow {
                        Follow::Set => told || restarts || starts,
                        Follow::Confirm => now.held.contains(unit) || restarts || starts,
                        _ => once.contains(unit),
                    };
                    prop_assert!(seen_to, "{} in {}: {:?}", unit, phase, plan);
                }
            }
        }
    }

    /// Nothing that a file with `Confirm` asks for restarts a running unit before a person's word.
    #[test]
    fn a_restart_waits_for_a_persons_word(mut desired in desired(), mut observed in observed()) {
        desired.files.values_mut().flat_map(|file| file.then.values_mut()).for_each(|follow| *follow = Follow::Confirm);
        observed.manifest.values_mut().flat_map(|known| known.then.values_mut()).for_each(|follow| *follow = Follow::Confirm);
        observed.owed.clear();
        let running = |unit: &str| observed.units.get(unit).is_some_and(|state| state.active == "active");
        let first = host(&desired, &observed);
        for action in first.phases.values().flatten() {
            if let Action::Follow { unit, follow, .. } = action {
                let fine = !running(unit) || desired.confirmed.contains(unit) || *follow != Follow::Restart;
                prop_assert!(fine, "{:?}", first);
            }
        }
        // Who waits is told by each run that follows, until the word is given.
        let later = after(&first, observed);
        let waiting: BTreeSet<String> =
            later.held.iter().filter(|unit| desired.units.contains_key(*unit)).cloned().collect();
        prop_assert_eq!(&host(&desired, &later).waits, &waiting);
        desired.confirmed.clone_from(&waiting);
        let second = host(&desired, &later);
        for unit in &waiting {
            prop_assert!(follows(&second, Phase::Packages, unit).any(|follow| follow == Follow::Restart), "{:?}", second);
        }
        let end = after(&second, later);
        prop_assert!(end.held.is_disjoint(&waiting) && host(&desired, &end).is_empty());
    }

    #[test]
    fn what_is_not_true_yet_is_made_once(desired in desired(), observed in observed()) {
        let plan = host(&desired, &observed);
        let due = |task: &Task| task.makes.iter().any(|(fact, value)| observed.made.get(fact) != Some(value));
        let done: Vec<(Phase, &String)> = plan.phases.iter().flat_map(|(phase, actions)| {
            actions.iter().filter_map(|a| match a { Action::Perform { name, .. } => Some((*phase, name)), _ => None })
        }).collect();
        let wanted: Vec<(Phase, &String)> =
            desired.tasks.iter().filter(|(_, task)| due(task)).map(|(name, task)| (task.phase, name)).collect();
        prop_assert_eq!(done, wanted);
        // What a run left half-way is taken back before all else that changes the host.
        let undoes = |action: &Action| matches!(action, Action::Undo { .. });
        prop_assert_eq!(plan.phases.values().flatten().next().is_some_and(undoes), observed.cut_off.is_some());
        prop_assert_eq!(plan.phases.values().flatten().filter(|a| undoes(a)).count(), usize::from(observed.cut_off.is_some()));
    }

    #[test]
    fn what_was_kept_open_is_all_that_the_next_run_closes(desired in desired(), observed in observed()) {
        let mut first = host(&desired, &observed);
        let kept = first.phases.remove(&Phase::Narrow).unwrap_or_default();
        let second = host(&desired, &after(&first, observed));
        prop_assert!(second.phases.keys().all(|phase| *phase == Phase::Narrow), "{:?}", second);
        // A unit that was owed something may have been seen to in an earlier phase.
        let closes = |actions: &[Action]| actions.iter().filter(|a| !matches!(a, Action::Follow { .. } | Action::Hold { .. })).cloned().collect::<Vec<_>>();
        prop_assert_eq!(closes(second.phases.get(&Phase::Narrow).map_or(&[], Vec::as_slice)), closes(&kept));
    }

    #[test]
    fn nothing_closes_before_narrow(desired in desired(), observed in observed()) {
        let plan = host(&desired, &observed);
        let live = observed.firewall.loaded.iter().filter(|_| observed.firewall.intact).flat_map(|live| &live.rules);
        let open: BTreeSet<&Rule> = live.collect();
        let mut now = observed.clone();
        // After each single action of all phases before `Narrow`, all that was reached and served before still is.
        for (phase, actions) in plan.phases.range(..Phase::Narrow) {
            for action in actions {
                now = after(&HostPlan { phases: BTreeMap::from([(*phase, vec![action.clone()])]), ..HostPlan::default() }, now);
                let accepted = now.firewall.loaded.as_ref().map(|loaded| &loaded.rules);
                prop_assert!(open.iter().all(|rule| accepted.is_some_and(|rules| rules.contains(rule))), "{phase}: {action:?}");
                for (path, before) in &observed.files {
                    let kept = now.files.get(path);
                    prop_assert!(if desired.files.contains_key(path) { kept.is_some() } else { kept == Some(before) }, "{phase}: {action:?}");
                }
                let runs = |host: &Observed, unit: &str| host.units.get(unit).is_some_and(|state| state.active == "active");
                for unit in observed.units.keys().filter(|unit| runs(&observed, unit)) {
                    prop_assert!(runs(&now, unit), "{phase}: {action:?}");
                }
                prop_assert!(observed.packages.keys().all(|package| now.packages.contains_key(package)));
            }
        }
    }
}

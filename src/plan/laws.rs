//! The laws of the plan, held against made-up hosts: twice is nothing, a cut-off run is finished by the next, only what we
//! put on a host is ever removed, nothing closes before `Narrow`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::base::net::Proto;
use crate::inventory::site::Backend;
use crate::plan::plan::{Action, HostPlan, host};
use crate::plan::ruleset::{Direction, Rule, Ruleset};
use crate::plan::state::{
    Access, Body, DesiredHost, Digest, Facts, File, Folder, Follow, Observed, ObservedFile, ObservedFirewall,
    ObservedUnit, Phase, Recorded, UnitWanted, Version,
};

fn facts() -> Facts {
    let v = Version(1, 0, 0);
    let (distribution, release) = ("debian".into(), "12".into());
    Facts { distribution, release, haproxy: v, nginx: v, openssl: v, nft: v, guest_forwarding: false }
}

fn bare() -> Observed {
    Observed {
        facts: facts(),
        packages: BTreeMap::new(),
        files: BTreeMap::new(),
        folders: BTreeMap::new(),
        units: BTreeMap::new(),
        firewall: ObservedFirewall::default(),
        manifest: BTreeMap::new(),
        owed: BTreeMap::new(),
        controller: None,
        clock: 0,
        free: 0,
        refusal: None,
    }
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
                host.files.insert(path.clone(), ObservedFile { digest, access: file.access, text: None });
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
            Action::Follow { unit, follow, .. } => {
                host.owed.remove(&unit);
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
    Body { digest: Digest::of(text.as_bytes()), text }
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(vec![Phase::App, Phase::Web, Phase::Edge])
}

fn path() -> impl Strategy<Value = String> {
    "/etc/[a-d]"
}

fn unit() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a.service".to_owned(), "b.service".to_owned()])
}

fn follow() -> impl Strategy<Value = Follow> {
    prop::sample::select(vec![Follow::Swap, Follow::Reload, Follow::Restart])
}

prop_compose! {
    fn file()(phase in phase(), content in 0u8..4, mode in prop::sample::select(vec![0o600, 0o644]),
              then in prop::collection::btree_map(unit(), follow(), 0..2)) -> File {
        File { service: "t", phase, access: Access::root(mode), body: body(content), then, about: None }
    }
}

prop_compose! {
    fn rule()(port in 1u64..5, direction in prop::sample::select(vec![Direction::In, Direction::Out])) -> Rule {
        Rule { direction, proto: Proto::Tcp, port: port.try_into().unwrap(), peers: BTreeSet::new(), uids: BTreeSet::new(), flow: "f".into() }
    }
}

prop_compose! {
    fn ruleset()(rules in prop::collection::btree_set(rule(), 0..5), iptables in any::<bool>(), guest_forwarding in any::<bool>()) -> Ruleset {
        let backend = if iptables { Backend::Iptables } else { Backend::Nftables };
        Ruleset { backend, rules, block: BTreeSet::new(), guest_forwarding }
    }
}

prop_compose! {
    fn desired()(files in prop::collection::btree_map(path(), file(), 0..4), units in prop::collection::btree_map(unit(), phase(), 0..2),
                 packages in prop::collection::btree_set("[pq]", 0..2), folder in any::<bool>(), firewall in prop::option::of(ruleset())) -> DesiredHost {
        let folder = folder.then(|| ("/srv/x".to_owned(), Folder { phase: Phase::Web, access: Access::root(0o755) }));
        DesiredHost {
            packages, files, firewall,
            units: units.into_iter().map(|(name, phase)| (name, UnitWanted { phase })).collect(),
            folders: folder.into_iter().collect(),
            ..DesiredHost::default()
        }
    }
}

prop_compose! {
    fn observed()(was in desired(), drifted in prop::collection::btree_map(path(), 0u8..4, 0..2), gone in prop::collection::btree_set(path(), 0..2),
                  owed in prop::collection::btree_map(unit(), follow(), 0..2), intact in any::<bool>(), boot_current in any::<bool>()) -> Observed {
        let mut host = after(&host(&was, &bare()), bare());
        for (path, n) in drifted {
            host.files.insert(path, ObservedFile { digest: Some(body(n).digest), access: Access::root(0o644), text: None });
        }
        for path in gone {
            host.files.remove(&path);
        }
        host.owed = owed;
        host.firewall.intact &= intact;
        host.firewall.boot_current &= boot_current;
        host
    }
}

proptest! {
    #[test]
    fn twice_is_nothing(desired in desired(), observed in observed()) {
        let first = host(&desired, &observed);
        let second = host(&desired, &after(&first, observed));
        prop_assert!(second.is_empty(), "{:?}", second);
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
        for actions in host(&desired, &observed).phases.values() {
            let units: Vec<&String> = actions.iter().filter_map(|a| match a { Action::Follow { unit, .. } => Some(unit), _ => None }).collect();
            let once: BTreeSet<&String> = units.iter().copied().collect();
            prop_assert_eq!(units.len(), once.len());
            for action in actions {
                if let Action::Write { file, .. } = action {
                    prop_assert!(file.then.keys().all(|unit| once.contains(unit)));
                }
            }
        }
    }

    #[test]
    fn nothing_closes_before_narrow(desired in desired(), observed in observed()) {
        let live = observed.firewall.loaded.clone().filter(|_| observed.firewall.intact);
        for (phase, actions) in &host(&desired, &observed).phases {
            for action in actions {
                if let (Action::Firewall { to, .. }, Some(live)) = (action, &live) && *phase == Phase::Widen {
                    prop_assert!(to.rules.is_superset(&live.rules));
                }
            }
        }
    }
}
